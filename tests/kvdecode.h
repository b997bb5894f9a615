/* What the tests of decode attention share: caches of any shape, a double-precision reference,
 * the plain kernel of the same precision that errors are measured by, and traffic by
 * definition. */
#ifndef KVBUDGET_TESTS_KVDECODE_H
#define KVBUDGET_TESTS_KVDECODE_H

#include "kernels/decode.h"
#include "tests/kvstore.h"

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
    double *slopes, *learned; /* [q_heads], or NULL */
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

/* Attention as a formula. naive: elements and probabilities rounded to 16 bits, sums in fp32,
 * one token after the other. Returns the logarithm of the sum of exponentials. */
static inline double attend(struct fixture *f, uint32_t sequence, uint32_t q_head, bool naive,
                            double *out)
{
    const struct ks *s = &f->s;
    const struct decode_args *a = &f->a;
    uint32_t dim = s->c.k.dim, dv = s->c.v.dim, head = q_head / (a->q_heads / s->c.heads);
    uint32_t end = ks_length(s, sequence, head);
    const double *q = f->q + ((uint64_t)sequence * a->q_heads + q_head) * dim;
    bool fp16 = s->c.k.store == STORE_FP16;
    double (*round16)(double) = fp16 ? ks_round_fp16 : ks_round_bf16;
    double most = -INFINITY, total = 0, score[1024], sum[CACHE_DIM_MAX] = {0};

    end = end > a->hidden_tokens ? end - a->hidden_tokens : 0;
    for (uint32_t t = 0; t < end; t++) {
        const double *x = ks_at(s, false, sequence, head, t);
        double dot = 0;
        bool seen = !a->window_tokens || t + a->window_tokens >= end || t < a->sink_tokens;
        for (uint32_t d = 0; d < dim; d++)
            dot = naive ? (float)(dot + q[d] * round16(x[d])) : dot + q[d] * x[d];
        dot *= (double)a->scale;
        dot = a->cap > 0 ? (double)a->cap * tanh(dot / (double)a->cap) : dot;
        dot += f->slopes ? f->slopes[q_head] * t : 0;
        score[t] = seen ? dot : -INFINITY;
        most = fmax(most, score[t]);
    }
    if (end && f->learned) {
        most = fmax(most, f->learned[q_head]);
        total = exp(f->learned[q_head] - most);
    }
    for (uint32_t t = 0; t < end; t++) {
        const double *x = ks_at(s, true, sequence, head, t);
        double p = exp(score[t] - most);
        total = naive ? (float)(total + p) : total + p;
        p = naive ? round16(p) : p;
        for (uint32_t d = 0; d < dv; d++)
            sum[d] = naive ? (float)(sum[d] + p * round16(x[d])) : sum[d] + p * x[d];
    }
    for (uint32_t d = 0; d < dv; d++) {
        double x = end ? sum[d] / total : 0;
        out[d] = naive ? round16(x) : x;
    }
    return end ? most + log(total) : -INFINITY;
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
        uint32_t sequence = (uint32_t)(i / a->q_heads), h = (uint32_t)(i % a->q_heads);
        f->lse[i] = attend(f, sequence, h, false, f->want + i * dv);
        attend(f, sequence, h, true, f->naive + i * dv);
    }
}

static inline void queries(struct kk *k, struct fixture *f)
{
    uint64_t n = (uint64_t)f->s.c.sequences * f->a.q_heads * f->s.c.k.dim;
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n);
    bool fp16 = f->s.c.k.store == STORE_FP16;

    f->q = ARENA_NEW(k->a, double, n);
    for (uint64_t i = 0; i < n; i++) {
        double x = kk_normal(k);
        bits[i] = fp16 ? ks_bits_fp16(x) : ks_bits_bf16(x);
        f->q[i] = fp16 ? ks_fp16(bits[i]) : ks_bf16(bits[i]);
    }
    f->a.q = kk_put(k, TAG_ACTIVATION, bits, 2 * n);
}

/* Slopes as those of ALiBi, a geometric sequence; sinks about as large as scores. */
static inline void extras(struct kk *k, const struct setting *o, struct fixture *f)
{
    float *slopes = ARENA_NEW(k->a, float, o->q_heads);
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, o->q_heads);
    bool fp16 = o->k == STORE_FP16;

    f->a.cap = o->cap;
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
    ks_tables(k, s);
    for (int value = 0; value < 2; value++) {
        ks_pools(k, s, value, o->scaled);
        ks_fill(k, s, value);
        ks_upload(k, s, value);
    }
    f->a = (struct decode_args){.c = s->c,
                                .q_heads = o->q_heads,
                                .splits = o->splits,
                                .hidden_tokens = o->hidden,
                                .window_tokens = o->window,
                                .sink_tokens = o->sinks,
                                .scale = 1.0f / sqrtf((float)o->dim)};
    extras(k, o, f);
    queries(k, f);
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

static inline void accurate(struct kk *k, struct fixture *f)
{
    uint16_t *out = ARENA_NEW(k->a, uint16_t, f->n_out);
    bool fp16 = f->s.c.k.store == STORE_FP16;
    double error = 0, naive = 0;

    kk_get(k, out, f->a.out, 2 * f->n_out);
    for (uint64_t i = 0; i < f->n_out; i++) {
        double x = fp16 ? ks_fp16(out[i]) : ks_bf16(out[i]);
        error = fmax(error, fabs(x - f->want[i]));
        naive = fmax(naive, fabs(f->naive[i] - f->want[i]));
        assert_true(isfinite(x) && fabs(x) < 100);
    }
    if (error > 2 * naive)
        print_error("largest error %g, of a plain kernel %g\n", error, naive);
    assert_true(error <= 2 * naive);
}

/* Bytes of the rows that the queries see, each once, from the documented layout. */
static inline uint64_t seen_bytes(const struct fixture *f, bool value)
{
    const struct ks *s = &f->s;
    const struct cache_side *x = value ? &s->c.v : &s->c.k;
    uint32_t bits = store_bits(x->store), r = s->c.residual;
    bool kivi = store_is_kivi(x->store);
    uint64_t sum = 0;

    for (uint32_t i = 0; i < s->c.sequences * s->c.heads; i++) {
        uint32_t length = ks_length(s, i / s->c.heads, i % s->c.heads);
        uint32_t end = length > f->a.hidden_tokens ? length - f->a.hidden_tokens : 0;
        uint32_t coded =
            value ? length - (length < r ? length : r) : length - (r ? length % r : 0);
        for (uint32_t t = 0, group = UINT32_MAX; t < end; t++) {
            if (f->a.window_tokens && t + f->a.window_tokens < end && t >= f->a.sink_tokens)
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
    }
    return sum;
}

static inline uint64_t useful_flop(const struct fixture *f)
{
    const struct ks *s = &f->s;
    uint64_t pairs = 0;

    for (uint32_t i = 0; i < s->c.sequences * f->a.q_heads; i++) {
        uint32_t head = i % f->a.q_heads / (f->a.q_heads / s->c.heads);
        uint32_t length = ks_length(s, i / f->a.q_heads, head);
        uint32_t end = length > f->a.hidden_tokens ? length - f->a.hidden_tokens : 0;
        for (uint32_t t = 0; t < end; t++)
            pairs +=
                !f->a.window_tokens || t + f->a.window_tokens >= end || t < f->a.sink_tokens;
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
                    (f->slopes ? 4 * f->a.q_heads : 0));
    want.unique_read_bytes[TAG_WEIGHTS] = f->learned ? 2 * f->a.q_heads : 0;
    assert_true(got.unique_read_bytes[TAG_ACTIVATION] <=
                (uint64_t)f->s.c.sequences * f->a.q_heads * f->s.c.k.dim * 2);
    want.unique_read_bytes[TAG_TABLES] = got.unique_read_bytes[TAG_TABLES];
    want.unique_read_bytes[TAG_ACTIVATION] = got.unique_read_bytes[TAG_ACTIVATION];
    kk_tally(k, &want);
}

static inline void runs(struct kk *k, const struct setting *o, struct fixture *f)
{
    build(k, o, f);
    device_tally_reset(k->d);
    if (!kk_ran(k, decode_run(k->d, &f->a)))
        return;
    accurate(k, f);
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
