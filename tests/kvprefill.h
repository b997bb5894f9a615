/* What the tests of prefill attention share: prompts of any shape, a double-precision
 * reference, the plain kernel of the same precision that errors are measured by, and traffic by
 * definition. */
#ifndef KVBUDGET_TESTS_KVPREFILL_H
#define KVBUDGET_TESTS_KVPREFILL_H

#include "kernels/prefill.h"
#include "tests/kvattend.h"

struct setting {
    enum store k, v;
    uint32_t dim, v_dim; /* v_dim 0: as dim */
    uint32_t sequences, heads, q_heads;
    uint32_t rows, before; /* of the longest chunk; tokens before it */
    uint32_t page, group, residual;
    uint32_t hidden, window, sinks;
    bool lse, ragged, scaled;
    uint32_t chosen;  /* tokens of a selection; 0: none */
    bool varied;      /* other sequences: other chunks and offsets, down to 0 */
    bool unstored;    /* the chunk's own rows are not in the cache */
    uint32_t stretch; /* tokens that see each other (chunk_tokens) */
    float cap;
    bool slopes, learned; /* learned sinks */
    bool wgmma;           /* by the kernel of sm_90a */
};

struct fixture {
    struct ks s;
    struct prefill_args a;
    uint32_t *first, *offset;
    uint32_t *bits; /* of a selection, or NULL */
    uint16_t *q_bits;
    double *q, *want, *naive, *want_lse, *naive_lse; /* [rows][q_heads][dim] */
    struct ka_extras x;
    uint64_t rows;
};

static inline struct cache_side side(const struct setting *o, bool value)
{
    return (struct cache_side){.store = value ? o->v : o->k,
                               .dim = value && o->v_dim ? o->v_dim : o->dim,
                               .group = o->group,
                               .scale = 0.0625f};
}

/* Chunks, where they begin, and the rows stored. */
static inline void chunks(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct ks *s = &f->s;
    uint64_t slots = ks_lengths(s), per = slots / o->sequences;

    f->first = ARENA_NEW(k->a, uint32_t, o->sequences + 1);
    f->offset = ARENA_NEW(k->a, uint32_t, slots);
    s->lengths = ARENA_NEW(k->a, uint32_t, slots);
    for (uint32_t i = 0; i < o->sequences; i++) {
        bool full = !o->varied || i == o->sequences - 1;
        uint32_t rows = full ? o->rows : (uint32_t)rng_below(&k->rng, o->rows + 1);
        rows = o->varied && i == 0 ? 0 : rows;
        f->first[i + 1] = f->first[i] + rows;
        for (uint64_t n = i * per; n < (i + 1) * per; n++) {
            bool other = o->varied ? !full : o->ragged && n % 2;
            f->offset[n] = other ? (uint32_t)rng_below(&k->rng, o->before + 1) : o->before;
            s->lengths[n] = f->offset[n] + (o->unstored ? 0 : rows);
        }
    }
    f->rows = f->first[o->sequences];
    f->a.first = kk_put(k, TAG_TABLES, f->first, (o->sequences + 1) * 4);
    f->a.offset = kk_put(k, TAG_TABLES, f->offset, slots * 4);
}

static inline uint64_t slot_of(const struct fixture *f, uint32_t sequence, uint32_t head)
{
    return f->s.c.ragged ? sequence * f->s.c.heads + head : sequence;
}

/* The rule, token by token. */
static inline bool reaches(const struct fixture *f, uint64_t slot, uint32_t i, uint32_t token)
{
    const struct prefill_args *a = &f->a;
    int64_t end = (int64_t)f->offset[slot] + i + 1 - a->hidden_tokens;

    if (a->chunk_tokens && token / a->chunk_tokens != (f->offset[slot] + i) / a->chunk_tokens)
        return false;
    return token < f->s.lengths[slot] && token < end &&
           (!a->window_tokens || token >= end - a->window_tokens || token < a->sink_tokens);
}

/* And is among those chosen for it; not ragged. */
static inline bool sees(const struct fixture *f, uint64_t slot, uint32_t i, uint32_t token)
{
    uint64_t row = f->bits ? f->first[slot] + (uint64_t)i : 0;

    return reaches(f, slot, i, token) &&
           (!f->bits || f->bits[row * f->a.chosen_words + token / 32] >> token % 32 & 1);
}

static inline void references(struct kk *k, struct fixture *f)
{
    uint32_t heads = f->a.q_heads, dv = f->s.c.v.dim;
    uint64_t n = f->rows * heads;

    f->want = ARENA_NEW(k->a, double, n *dv);
    f->naive = ARENA_NEW(k->a, double, n *dv);
    f->want_lse = ARENA_NEW(k->a, double, n);
    f->naive_lse = ARENA_NEW(k->a, double, n);
    for (uint64_t r = 0; r < n; r++) {
        bool seen[KA_TOKENS_MAX];
        uint32_t at = (uint32_t)(r / heads), h = (uint32_t)(r % heads), sequence = 0;
        struct ka_query x = {.q = f->q + r * f->s.c.k.dim,
                             .head = h / (heads / f->s.c.heads),
                             .seen = seen,
                             .scale = (double)f->a.scale,
                             .cap = (double)f->a.cap,
                             .slope = f->x.slopes ? f->x.slopes[h] : 0,
                             .sink = f->x.learned ? f->x.learned + h : NULL};
        while (at >= f->first[sequence + 1])
            sequence++;
        uint64_t slot = slot_of(f, sequence, x.head);
        x.sequence = sequence;
        x.end = f->s.lengths[slot];
        for (uint32_t t = 0; t < x.end; t++)
            seen[t] = sees(f, slot, at - f->first[sequence], t);
        f->want_lse[r] = ka_attend(&f->s, &x, f->want + r * dv);
        x.naive = true;
        f->naive_lse[r] = ka_attend(&f->s, &x, f->naive + r * dv);
    }
}

/* For each row as many tokens as asked for, of those it reaches. */
static inline void choose(struct kk *k, uint32_t n, struct fixture *f)
{
    uint32_t words = (f->s.tokens + 31) / 32 + 1;

    f->a.chosen_words = words;
    f->a.chosen_tokens = n;
    f->bits = ARENA_NEW(k->a, uint32_t, f->rows * words);
    for (uint32_t s = 0; s < f->s.c.sequences; s++)
        for (uint32_t i = 0; i < f->first[s + 1] - f->first[s]; i++) {
            uint32_t *bits = f->bits + (size_t)(f->first[s] + i) * words;
            uint32_t end = f->offset[s] + i + 1 - f->a.hidden_tokens;
            for (uint32_t j = 0; j < n && j < end;) {
                uint32_t at = (uint32_t)rng_below(&k->rng, end);
                j += !(bits[at / 32] >> at % 32 & 1);
                bits[at / 32] |= 1u << at % 32;
            }
        }
    f->a.chosen = kk_put(k, TAG_WORK, f->bits, f->rows * words * 4);
}

static inline void build(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct ks *s = &f->s;
    bool fp16 = o->k == STORE_FP16;

    *f = (struct fixture){.a = {.q_heads = o->q_heads,
                                .longest = o->rows,
                                .hidden_tokens = o->hidden,
                                .window_tokens = o->window,
                                .sink_tokens = o->sinks,
                                .chunk_tokens = o->stretch,
                                .cap = o->cap,
                                .scale = 1.0f / sqrtf((float)o->dim)}};
    s->tokens = o->rows + o->before;
    s->c = (struct cache_view){.k = side(o, false),
                               .v = side(o, true),
                               .sequences = o->sequences,
                               .heads = o->heads,
                               .page_tokens = o->page,
                               .max_pages = (s->tokens + o->page - 1) / o->page,
                               .residual = o->residual,
                               .ragged = o->ragged};
    chunks(k, o, f);
    ks_place(k, s, o->scaled);
    f->a.c = s->c;
    if (o->chosen)
        choose(k, o->chosen, f);
    f->x = ka_extras(k, o->q_heads, fp16, o->slopes, o->learned);
    f->a.slopes = f->x.slopes_at;
    f->a.sinks = f->x.learned_at;
    f->q = ka_numbers(k, f->rows * o->q_heads * o->dim, fp16, &f->q_bits, &f->a.q);
    references(k, f);
    f->a.out = kk_new(k, TAG_ACTIVATION, 2 * f->rows * o->q_heads * s->c.v.dim);
    if (o->lse)
        f->a.lse = kk_new(k, TAG_ACTIVATION, 4 * f->rows * o->q_heads);
}

/* The sums: minus infinity for a query that sees nothing. */
static inline void accurate_lse(struct kk *k, struct fixture *f)
{
    uint64_t n = f->rows * f->a.q_heads;
    float *lse = ARENA_NEW(k->a, float, n);
    double error = 0, naive = 0;

    kk_get(k, lse, f->a.lse, 4 * n);
    for (uint64_t i = 0; i < n; i++) {
        if (isinf(f->want_lse[i])) {
            assert_true(lse[i] == -INFINITY);
            continue;
        }
        error = fmax(error, fabs((double)lse[i] - f->want_lse[i]));
        naive = fmax(naive, fabs(f->naive_lse[i] - f->want_lse[i]));
    }
    if (error > 2 * naive + 1e-6)
        print_error("largest error of a sum %g, of a plain kernel %g\n", error, naive);
    assert_true(error <= 2 * naive + 1e-6);
}

/* A token that one of the queries of a chunk sees. */
static inline bool is_seen(const struct fixture *f, uint32_t sequence, uint64_t slot,
                           uint32_t token)
{
    for (uint32_t i = 0; i < f->first[sequence + 1] - f->first[sequence]; i++)
        if (reaches(f, slot, i, token))
            return true;
    return false;
}

/* Bytes of what the queries of a head see, each once. */
static inline uint64_t seen_bytes(const struct fixture *f, bool value, uint32_t sequence,
                                  uint32_t head)
{
    uint64_t slot = slot_of(f, sequence, head);
    bool seen[KA_TOKENS_MAX];

    for (uint32_t t = 0; t < f->s.lengths[slot]; t++)
        seen[t] = is_seen(f, sequence, slot, t);
    return ka_bytes(&f->s, value, f->s.lengths[slot], seen);
}

static inline uint64_t useful_flop(const struct fixture *f)
{
    const struct cache_view *c = &f->s.c;
    uint64_t pairs = 0;

    for (uint32_t s = 0; s < c->sequences; s++)
        for (uint32_t h = 0; h < c->heads; h++)
            for (uint32_t i = 0; i < f->first[s + 1] - f->first[s]; i++)
                for (uint32_t t = 0; t < f->s.tokens; t++)
                    pairs += sees(f, slot_of(f, s, h), i, t);
    return pairs * (f->a.q_heads / c->heads) * 2 * (c->k.dim + c->v.dim);
}

static inline void counted(struct kk *k, const struct fixture *f, bool wgmma)
{
    const struct cache_view *c = &f->s.c;
    struct tally got, want = {.launches = 1};
    uint64_t heads = f->rows * f->a.q_heads;

    (wgmma ? prefill_wgmma_traffic : prefill_traffic)(&f->a, f->first, f->offset, f->s.lengths,
                                                      &want.issued);
    for (uint32_t i = 0; i < c->sequences * c->heads; i++) {
        want.unique_read_bytes[TAG_K] += seen_bytes(f, false, i / c->heads, i % c->heads);
        want.unique_read_bytes[TAG_V] += seen_bytes(f, true, i / c->heads, i % c->heads);
    }
    want.unique_written_bytes[TAG_ACTIVATION] = heads * (2 * c->v.dim + (f->a.lse ? 4 : 0));
    kt_u64(want.issued.written_bytes[TAG_ACTIVATION],
           want.unique_written_bytes[TAG_ACTIVATION]);
    kt_u64(want.issued.useful_flop, useful_flop(f));
    kk_seen(k, &got);
    assert_true(got.unique_read_bytes[TAG_TABLES] <=
                ks_lengths(&f->s) * 4 * (2 + c->max_pages) + (c->sequences + 1) * 4 +
                    (f->x.slopes ? 4 * f->a.q_heads : 0));
    want.unique_read_bytes[TAG_WEIGHTS] = f->x.learned ? 2 * f->a.q_heads : 0;
    assert_true(got.unique_read_bytes[TAG_ACTIVATION] <= heads * c->k.dim * 2);
    want.unique_read_bytes[TAG_TABLES] = got.unique_read_bytes[TAG_TABLES];
    want.unique_read_bytes[TAG_ACTIVATION] = got.unique_read_bytes[TAG_ACTIVATION];
    want.unique_read_bytes[TAG_WORK] = got.unique_read_bytes[TAG_WORK];
    if (kk_seen(k, &got))
        kt_u64(got.issued.conversions, want.issued.conversions);
    kk_tally(k, &want);
}

static inline void run_all(struct kk *k, const struct setting *o, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct fixture f;
        print_message("# setting %zu\n", i);
        build(k, &o[i], &f);
        device_tally_reset(k->d);
        if (!kk_ran(k, (o[i].wgmma ? prefill_wgmma_run : prefill_run)(k->d, &f.a)))
            continue;
        struct ka_wanted w = {f.a.out, f.want, f.naive, f.rows * f.a.q_heads * f.s.c.v.dim,
                              o[i].k == STORE_FP16};
        ka_accurate(k, &w);
        if (o[i].lse)
            accurate_lse(k, &f);
        counted(k, &f, o[i].wgmma);
    }
}
#define RUN_ALL(k, o) run_all((k), (o), sizeof(o) / sizeof *(o))

#endif
