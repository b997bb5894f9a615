/* What the tests of decode attention share: caches of any shape, a double-precision reference,
 * the plain kernel of the same precision that errors are measured by, and traffic by
 * definition. */
#ifndef KVBUDGET_TESTS_KVDECODE_H
#define KVBUDGET_TESTS_KVDECODE_H

#include "kernels/decode.h"
#include "tests/kvattend.h"

struct setting {
    enum store k, v;
    uint32_t dim, v_dim; /* v_dim 0: as dim */
    uint32_t sequences, heads, q_heads, tokens;
    uint32_t page, group, residual, splits;
    uint32_t hidden, window, sinks;
    bool ragged, scaled, varied; /* varied: sequences of other lengths, down to 0 */
    float cap;
    bool slopes, learned; /* learned sinks */
};

struct fixture {
    struct ks s;
    struct decode_args a;
    double *q, *want, *naive; /* [sequences][q_heads][dim] */
    double *lse;              /* [sequences][q_heads] */
    struct ka_extras x;
    uint64_t n_out;
};

static inline void lengths(struct kk *k, const struct setting *o, struct ks *s)
{
    uint64_t n;

    s->tokens = o->tokens;
    n = ks_lengths(s);
    s->lengths = ARENA_NEW(k->a, uint32_t, n);
    for (uint64_t i = 0; i < n; i++)
        s->lengths[i] =
            o->varied || o->ragged ? (uint32_t)rng_below(&k->rng, o->tokens + 1) : o->tokens;
    if (o->varied)
        s->lengths[0] = 0;
    s->lengths[n - 1] = o->tokens;
}

static inline struct cache_side side(const struct setting *o, bool value)
{
    return (struct cache_side){.store = value ? o->v : o->k,
                               .dim = value && o->v_dim ? o->v_dim : o->dim,
                               .group = o->group,
                               .scale = 0.0625f};
}

/* Which tokens a query head of a sequence sees; returns the end of them. */
static inline uint32_t sees(const struct fixture *f, uint32_t sequence, uint32_t q_head,
                            bool seen[KA_TOKENS_MAX])
{
    const struct decode_args *a = &f->a;
    uint32_t end = ks_length(&f->s, sequence, q_head / (a->q_heads / f->s.c.heads));

    memset(seen, 0, KA_TOKENS_MAX * sizeof *seen);
    end = end > a->hidden_tokens ? end - a->hidden_tokens : 0;
    for (uint32_t t = 0; t < end; t++)
        seen[t] = !a->window_tokens || t + a->window_tokens >= end || t < a->sink_tokens;
    return end;
}

static inline void references(struct kk *k, struct fixture *f)
{
    const struct decode_args *a = &f->a;
    uint64_t rows = (uint64_t)f->s.c.sequences * a->q_heads, dv = f->s.c.v.dim;

    f->n_out = rows * dv;
    f->want = ARENA_NEW(k->a, double, f->n_out);
    f->naive = ARENA_NEW(k->a, double, f->n_out);
    f->lse = ARENA_NEW(k->a, double, rows);
    for (uint64_t i = 0; i < rows; i++) {
        bool seen[KA_TOKENS_MAX];
        uint32_t sequence = (uint32_t)(i / a->q_heads), h = (uint32_t)(i % a->q_heads);
        uint32_t end = sees(f, sequence, h, seen);
        struct ka_query x = {.q = f->q + i * f->s.c.k.dim,
                             .sequence = sequence,
                             .head = h / (a->q_heads / f->s.c.heads),
                             .end = end,
                             .seen = seen,
                             .scale = (double)a->scale,
                             .cap = (double)a->cap,
                             .slope = f->x.slopes ? f->x.slopes[h] : 0,
                             .sink = f->x.learned && end ? f->x.learned + h : NULL};
        f->lse[i] = ka_attend(&f->s, &x, f->want + i * dv);
        x.naive = true;
        ka_attend(&f->s, &x, f->naive + i * dv);
    }
}

static inline void build(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct ks *s = &f->s;
    uint16_t *unused;

    *f = (struct fixture){0};
    s->c = (struct cache_view){.k = side(o, false),
                               .v = side(o, true),
                               .sequences = o->sequences,
                               .heads = o->heads,
                               .page_tokens = o->page,
                               .max_pages = (o->tokens + o->page - 1) / o->page,
                               .residual = o->residual,
                               .ragged = o->ragged};
    lengths(k, o, s);
    ks_place(k, s, o->scaled);
    f->a = (struct decode_args){.c = s->c,
                                .q_heads = o->q_heads,
                                .splits = o->splits,
                                .hidden_tokens = o->hidden,
                                .window_tokens = o->window,
                                .sink_tokens = o->sinks,
                                .cap = o->cap,
                                .scale = 1.0f / sqrtf((float)o->dim)};
    f->x = ka_extras(k, o->q_heads, o->k == STORE_FP16, o->slopes, o->learned);
    f->a.slopes = f->x.slopes_at;
    f->a.sinks = f->x.learned_at;
    f->q = ka_numbers(k, (uint64_t)o->sequences * o->q_heads * o->dim, o->k == STORE_FP16,
                      &unused, &f->a.q);
    references(k, f);
    f->a.out = kk_new(k, TAG_ACTIVATION, 2 * f->n_out);
    if (o->splits > 1)
        f->a.work = kk_new(k, TAG_WORK, decode_work_bytes(&f->a));
    if (store_bits(o->k) >= 8) /* groups are decoded to bf16, too coarse to compare */
        f->a.lse = kk_new(k, TAG_ACTIVATION, 4 * f->n_out / s->c.v.dim);
}

static inline void normalized(struct kk *k, struct fixture *f)
{
    uint64_t rows = f->n_out / f->s.c.v.dim;
    float *got = ARENA_NEW(k->a, float, rows);

    if (!f->a.lse)
        return;
    kk_get(k, got, f->a.lse, 4 * rows);
    for (uint64_t i = 0; i < rows; i++)
        assert_true((double)got[i] == f->lse[i] || fabs((double)got[i] - f->lse[i]) < 1e-4);
}

/* Bytes of the rows that the queries see, each once. */
static inline uint64_t seen_bytes(const struct fixture *f, bool value)
{
    const struct ks *s = &f->s;
    uint32_t group = f->a.q_heads / s->c.heads;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < s->c.sequences * s->c.heads; i++) {
        bool seen[KA_TOKENS_MAX];
        uint32_t sequence = i / s->c.heads, head = i % s->c.heads;
        (void)sees(f, sequence, head * group, seen);
        sum += ka_bytes(s, value, ks_length(s, sequence, head), seen);
    }
    return sum;
}

static inline uint64_t useful_flop(const struct fixture *f)
{
    const struct ks *s = &f->s;
    uint64_t pairs = 0;

    for (uint32_t i = 0; i < s->c.sequences * f->a.q_heads; i++) {
        bool seen[KA_TOKENS_MAX];
        uint32_t end = sees(f, i / f->a.q_heads, i % f->a.q_heads, seen);
        for (uint32_t t = 0; t < end; t++)
            pairs += seen[t];
    }
    return pairs * 2 * (s->c.k.dim + s->c.v.dim);
}

static inline void counted(struct kk *k, const struct fixture *f)
{
    struct tally got, want = {.launches = f->a.splits > 1 ? 2 : 1};

    decode_traffic(&f->a, f->s.lengths, &want.issued);
    want.unique_read_bytes[TAG_K] = seen_bytes(f, false);
    want.unique_read_bytes[TAG_V] = seen_bytes(f, true);
    want.unique_written_bytes[TAG_ACTIVATION] = 2 * f->n_out;
    if (f->a.lse)
        want.unique_written_bytes[TAG_ACTIVATION] += 4 * f->n_out / f->s.c.v.dim;
    want.unique_read_bytes[TAG_WORK] = want.issued.read_bytes[TAG_WORK];
    want.unique_written_bytes[TAG_WORK] = want.issued.written_bytes[TAG_WORK];
    kt_u64(want.issued.useful_flop, useful_flop(f));
    /* what no figure of the planner speaks of: at most all queries, tables and lengths */
    kk_seen(k, &got);
    assert_true(got.unique_read_bytes[TAG_TABLES] <=
                ks_lengths(&f->s) * 4 * (1 + f->s.c.max_pages) +
                    (f->x.slopes ? 4 * f->a.q_heads : 0));
    want.unique_read_bytes[TAG_WEIGHTS] = f->x.learned ? 2 * f->a.q_heads : 0;
    assert_true(got.unique_read_bytes[TAG_ACTIVATION] <=
                (uint64_t)f->s.c.sequences * f->a.q_heads * f->s.c.k.dim * 2);
    want.unique_read_bytes[TAG_TABLES] = got.unique_read_bytes[TAG_TABLES];
    want.unique_read_bytes[TAG_ACTIVATION] = got.unique_read_bytes[TAG_ACTIVATION];
    kk_tally(k, &want);
}

static inline void runs(struct kk *k, const struct setting *o, struct fixture *f)
{
    build(k, o, f);
    struct ka_wanted w = {f->a.out, f->want, f->naive, f->n_out, o->k == STORE_FP16};
    device_tally_reset(k->d);
    if (!kk_ran(k, decode_run(k->d, &f->a)))
        return;
    ka_accurate(k, &w);
    normalized(k, f);
    counted(k, f);
}

static inline void run_all(struct kk *k, const struct setting *o, size_t n)
{
    struct fixture f;

    for (size_t i = 0; i < n; i++) {
        print_message("# setting %zu\n", i);
        runs(k, &o[i], &f);
    }
}
#define RUN_ALL(k, o) run_all((k), (o), sizeof(o) / sizeof *(o))

#endif
