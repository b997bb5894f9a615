/* What the tests of prefill attention share: prompts of any shape, a double-precision
 * reference, the plain kernel of the same precision that errors are measured by, and traffic by
 * definition. */
#ifndef KVBUDGET_TESTS_KVPREFILL_H
#define KVBUDGET_TESTS_KVPREFILL_H

#include "kernels/prefill.h"
#include "tests/kvstore.h"

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
    double *slopes, *learned;                        /* [q_heads], or NULL */
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

struct query {
    uint32_t sequence, i, q_head;
    bool naive;
};

/* Attention as a formula; gives the logarithm of the sum. naive: elements and probabilities
 * rounded to 16 bits, sums in fp32, one token after the other. */
static inline double attend(const struct fixture *f, const struct query *x, double *out)
{
    const struct ks *s = &f->s;
    uint32_t head = x->q_head / (f->a.q_heads / s->c.heads), dv = s->c.v.dim;
    uint64_t slot = slot_of(f, x->sequence, head), at = f->first[x->sequence] + x->i;
    const double *q = f->q + (at * f->a.q_heads + x->q_head) * s->c.k.dim;
    double (*round16)(double) = s->c.k.store == STORE_FP16 ? ks_round_fp16 : ks_round_bf16;
    double most = -INFINITY, total = 0, score[1024], sum[CACHE_DIM_MAX] = {0};

    for (uint32_t t = 0; t < s->lengths[slot]; t++) {
        const double *key = ks_at(s, false, x->sequence, head, t);
        double dot = 0;
        for (uint32_t d = 0; d < s->c.k.dim; d++)
            dot = x->naive ? (float)(dot + q[d] * round16(key[d])) : dot + q[d] * key[d];
        dot *= (double)f->a.scale;
        dot = f->a.cap > 0 ? (double)f->a.cap * tanh(dot / (double)f->a.cap) : dot;
        dot += f->slopes ? f->slopes[x->q_head] * t : 0;
        score[t] = sees(f, slot, x->i, t) ? dot : -INFINITY;
        most = fmax(most, score[t]);
    }
    if (f->learned) {
        most = fmax(most, f->learned[x->q_head]);
        total = exp(f->learned[x->q_head] - most);
    }
    for (uint32_t t = 0; t < s->lengths[slot] && most > -INFINITY; t++) {
        const double *v = ks_at(s, true, x->sequence, head, t);
        double p = exp(score[t] - most);
        total = x->naive ? (float)(total + p) : total + p;
        p = x->naive ? round16(p) : p;
        for (uint32_t d = 0; d < dv; d++)
            sum[d] = x->naive ? (float)(sum[d] + p * round16(v[d])) : sum[d] + p * v[d];
    }
    for (uint32_t d = 0; d < dv; d++) {
        out[d] = total > 0 ? sum[d] / total : 0;
        out[d] = x->naive ? round16(out[d]) : out[d];
    }
    total = most + log(total);
    return x->naive ? (double)(float)total : total;
}

static inline void references(struct kk *k, struct fixture *f)
{
    uint32_t heads = f->a.q_heads, dv = f->s.c.v.dim;
    uint64_t n = f->rows * heads;

    f->want = ARENA_NEW(k->a, double, n *dv);
    f->naive = ARENA_NEW(k->a, double, n *dv);
    f->want_lse = ARENA_NEW(k->a, double, n);
    f->naive_lse = ARENA_NEW(k->a, double, n);
    for (uint32_t s = 0; s < f->s.c.sequences; s++)
        for (uint64_t r = (uint64_t)f->first[s] * heads; r < f->first[s + 1] * heads; r++) {
            struct query x = {s, (uint32_t)(r / heads) - f->first[s], (uint32_t)(r % heads),
                              false};
            f->want_lse[r] = attend(f, &x, f->want + r * dv);
            x.naive = true;
            f->naive_lse[r] = attend(f, &x, f->naive + r * dv);
        }
}

static inline void queries(struct kk *k, struct fixture *f)
{
    uint64_t n = f->rows * f->a.q_heads * f->s.c.k.dim;
    bool fp16 = f->s.c.k.store == STORE_FP16;

    f->q_bits = ARENA_NEW(k->a, uint16_t, n);
    f->q = ARENA_NEW(k->a, double, n);
    for (uint64_t i = 0; i < n; i++) {
        double x = kk_normal(k);
        f->q_bits[i] = fp16 ? ks_bits_fp16(x) : ks_bits_bf16(x);
        f->q[i] = fp16 ? ks_fp16(f->q_bits[i]) : ks_bf16(f->q_bits[i]);
    }
    f->a.q = kk_put(k, TAG_ACTIVATION, f->q_bits, 2 * n);
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

/* Slopes as those of ALiBi, a geometric sequence; sinks about as large as scores. */
static inline void extras(struct kk *k, const struct setting *o, struct fixture *f)
{
    float *slopes = ARENA_NEW(k->a, float, o->q_heads);
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, o->q_heads);
    bool fp16 = o->k == STORE_FP16;

    f->slopes = o->slopes ? ARENA_NEW(k->a, double, o->q_heads) : NULL;
    f->learned = o->learned ? ARENA_NEW(k->a, double, o->q_heads) : NULL;
    for (uint32_t h = 0; h < o->q_heads; h++) {
        double sink = 2 * kk_normal(k);
        slopes[h] = (float)pow(2, -8.0 * (h + 1) / o->q_heads);
        bits[h] = fp16 ? ks_bits_fp16(sink) : ks_bits_bf16(sink);
        if (f->slopes)
            f->slopes[h] = (double)slopes[h];
        if (f->learned)
            f->learned[h] = fp16 ? ks_fp16(bits[h]) : ks_bf16(bits[h]);
    }
    if (o->slopes)
        f->a.slopes = kk_put(k, TAG_TABLES, slopes, 4 * o->q_heads);
    if (o->learned)
        f->a.sinks = kk_put(k, TAG_WEIGHTS, bits, 2 * o->q_heads);
}

static inline void build(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct ks *s = &f->s;

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
    ks_tables(k, s);
    for (int value = 0; value < 2; value++) {
        ks_pools(k, s, value, o->scaled);
        ks_fill(k, s, value);
        ks_upload(k, s, value);
    }
    f->a.c = s->c;
    if (o->chosen)
        choose(k, o->chosen, f);
    extras(k, o, f);
    queries(k, f);
    references(k, f);
    f->a.out = kk_new(k, TAG_ACTIVATION, 2 * f->rows * o->q_heads * s->c.v.dim);
    if (o->lse)
        f->a.lse = kk_new(k, TAG_ACTIVATION, 4 * f->rows * o->q_heads);
}

static inline void accurate(struct kk *k, struct fixture *f)
{
    uint64_t n = f->rows * f->a.q_heads * f->s.c.v.dim;
    uint16_t *out = ARENA_NEW(k->a, uint16_t, n);
    bool fp16 = f->s.c.k.store == STORE_FP16;
    double error = 0, naive = 0;

    kk_get(k, out, f->a.out, 2 * n);
    for (uint64_t i = 0; i < n; i++) {
        double x = fp16 ? ks_fp16(out[i]) : ks_bf16(out[i]);
        error = fmax(error, fabs(x - f->want[i]));
        naive = fmax(naive, fabs(f->naive[i] - f->want[i]));
        assert_true(isfinite(x) && fabs(x) < 100);
    }
    if (error > 2 * naive)
        print_error("largest error %g, of a plain kernel %g\n", error, naive);
    assert_true(error <= 2 * naive);
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

/* Bytes of what the queries of a head see, each once, from the documented layout. */
static inline uint64_t seen_bytes(const struct fixture *f, bool value, uint32_t sequence,
                                  uint32_t head)
{
    const struct ks *s = &f->s;
    const struct cache_side *x = value ? &s->c.v : &s->c.k;
    uint64_t slot = slot_of(f, sequence, head), sum = 0;
    uint32_t bits = store_bits(x->store), r = s->c.residual, length = s->lengths[slot];
    uint32_t coded = value ? length - (length < r ? length : r) : length - (r ? length % r : 0);
    bool kivi = store_is_kivi(x->store);

    for (uint32_t t = 0, group = UINT32_MAX; t < length; t++) {
        if (!is_seen(f, sequence, slot, t))
            continue;
        if (kivi && t >= coded) {
            sum += x->dim * 2;
            continue;
        }
        sum += x->dim * bits / 8;
        if (bits == 8)
            sum += x->scales ? 4 : 0;
        else if (kivi && !value)
            sum += group != t / x->group ? x->dim * 4 : 0;
        else if (bits < 8)
            sum += x->dim / x->group * 4;
        group = t / (x->group | !x->group);
    }
    return sum;
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
                    (f->slopes ? 4 * f->a.q_heads : 0));
    want.unique_read_bytes[TAG_WEIGHTS] = f->learned ? 2 * f->a.q_heads : 0;
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
        accurate(k, &f);
        if (o[i].lse)
            accurate_lse(k, &f);
        counted(k, &f, o[i].wgmma);
    }
}
#define RUN_ALL(k, o) run_all((k), (o), sizeof(o) / sizeof *(o))

#endif
