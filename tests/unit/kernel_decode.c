/* kernel_decode: decode attention against double precision, on every storage format and every
 * way a cache may lie; its error at most twice that of a plain kernel of the same precision;
 * and its traffic, counted while it runs, equal to the formula. */
#include "kernels/decode.h"
#include "planner/cache/format.h"
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

static void lengths(struct kk *k, const struct setting *o, struct ks *s)
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

static struct cache_side side(const struct setting *o, bool value)
{
    return (struct cache_side){.store = value ? o->v : o->k,
                               .dim = value && o->v_dim ? o->v_dim : o->dim,
                               .group = o->group,
                               .scale = 0.0625f};
}

/* Attention as a formula. naive: elements and probabilities rounded to 16 bits, sums in fp32,
 * one token after the other. Returns the logarithm of the sum of exponentials. */
static double attend(struct fixture *f, uint32_t sequence, uint32_t q_head, bool naive,
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

static void references(struct kk *k, struct fixture *f)
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

static void queries(struct kk *k, struct fixture *f)
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
static void extras(struct kk *k, const struct setting *o, struct fixture *f)
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

static void build(struct kk *k, const struct setting *o, struct fixture *f)
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

static void normalized(struct kk *k, struct fixture *f)
{
    uint64_t rows = f->n_out / f->s.c.v.dim;
    float *got = ARENA_NEW(k->a, float, rows);

    if (!f->a.lse)
        return;
    kk_get(k, got, f->a.lse, 4 * rows);
    for (uint64_t i = 0; i < rows; i++)
        assert_true((double)got[i] == f->lse[i] || fabs((double)got[i] - f->lse[i]) < 1e-4);
}

static void accurate(struct kk *k, struct fixture *f)
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
static uint64_t seen_bytes(const struct fixture *f, bool value)
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

static uint64_t useful_flop(const struct fixture *f)
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

static void counted(struct kk *k, const struct fixture *f)
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

static void runs(struct kk *k, const struct setting *o, struct fixture *f)
{
    build(k, o, f);
    device_tally_reset(k->d);
    if (!kk_ran(k, decode_run(k->d, &f->a)))
        return;
    accurate(k, f);
    normalized(k, f);
    counted(k, f);
}

static void run_all(struct kk *k, const struct setting *o, size_t n)
{
    struct fixture f;

    for (size_t i = 0; i < n; i++) {
        print_message("# setting %zu\n", i);
        runs(k, &o[i], &f);
    }
}
#define RUN_ALL(k, o) run_all((k), (o), sizeof(o) / sizeof *(o))

/* MHA, GQA, MQA with more than 16 query heads, all head sizes. */
static void heads(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 128, 0, 1, 2, 8, 100, 16, .splits = 1},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 3, 3, 70, 16, .splits = 1, .varied = true},
        {STORE_BF16, STORE_BF16, 80, 0, 1, 1, 37, 33, 16, .splits = 1},
        {STORE_BF16, STORE_BF16, 96, 0, 1, 2, 4, 33, 7, .splits = 2},
        {STORE_BF16, STORE_BF16, 256, 0, 1, 1, 8, 65, 32, .splits = 1},
        {STORE_BF16, STORE_BF16, 192, 128, 1, 2, 2, 40, 16, .splits = 1},
        {STORE_BF16, STORE_BF16, 112, 8, 1, 1, 2, 17, 1, .splits = 3},
        {STORE_FP16, STORE_FP16, 128, 0, 1, 2, 8, 90, 16, .splits = 2},
        {STORE_FP16, STORE_FP16, 64, 0, 1, 1, 4, 20, 16, .splits = 1},
    };

    RUN_ALL(*state, all);
}

/* Shapes whose rows come through the ring: one and two tiles of heads, more steps than stages,
 * pages of any size, every format. */
static void rings(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 16, 330, 16, .splits = 1},
        {STORE_BF16, STORE_BF16, 128, 0, 2, 2, 8, 300, 1000, .splits = 1, .varied = true},
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 37, 70, 1, .splits = 2},
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 3, 250, 7, .splits = 2, .window = 200,
         .sinks = 20},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 11, 400, 24, .splits = 1},
        {STORE_BF16, STORE_BF16, 256, 0, 1, 1, 12, 200, 16, .splits = 2},
        {STORE_FP16, STORE_FP16, 128, 0, 1, 1, 13, 280, 16, .splits = 1},
        {STORE_FP8, STORE_FP8, 128, 0, 1, 1, 16, 340, 5, .splits = 1, .scaled = true},
        {STORE_INT8, STORE_INT8, 128, 0, 1, 1, 9, 340, 16, .splits = 2, .scaled = true},
        {STORE_INT4, STORE_INT4, 128, 0, 1, 1, 16, 340, 16, 32, .splits = 1},
        {STORE_INT4, STORE_INT4, 128, 0, 1, 1, 4, 90, 3, 128, .splits = 1, .window = 60},
        {STORE_INT4, STORE_INT4, 128, 0, 1, 1, 4, 40, 16, 16, .splits = 1},
        {STORE_FP8, STORE_FP8, 128, 0, 2, 4, 16, 80, 16, .splits = 2, .ragged = true,
         .scaled = true},
        {STORE_INT4, STORE_INT4, 128, 0, 2, 2, 8, 80, 16, 64, .splits = 1, .ragged = true},
        {STORE_FP16, STORE_FP16, 128, 0, 2, 1, 13, 90, 16, .splits = 2, .learned = true,
         .varied = true},
        {STORE_BF16, STORE_BF16, 256, 0, 1, 2, 4, 90, 16, .splits = 1, .learned = true,
         .window = 40, .sinks = 4},
        {STORE_INT8, STORE_INT8, 128, 0, 1, 1, 12, 70, 16, .splits = 3, .learned = true,
         .hidden = 1, .scaled = true},
    };

    RUN_ALL(*state, all);
}

static void splits(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 4, 512, 16, .splits = 8},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 1, 100, 16, .splits = 3}, /* an odd count */
        {STORE_BF16, STORE_BF16, 128, 0, 3, 1, 4, 40, 16, .splits = 7, .varied = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 16, 16, .splits = 256},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 9, 16, .splits = 3, .hidden = 9},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 1, 16, .splits = 1},
    };

    RUN_ALL(*state, all);
}

/* Windows, sinks, masked diagonals, and rows that each head keeps for itself. */
static void visible(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 64, 0, 2, 1, 4, 100, 16, .splits = 1, .window = 33},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 2, 4, 100, 8, .splits = 3, .window = 20, .sinks = 4,
         .varied = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 24, 8, .splits = 1, .window = 20, .sinks = 9},
        {STORE_BF16, STORE_BF16, 64, 0, 3, 1, 4, 50, 16, .splits = 1, .hidden = 1,
         .varied = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 1, 16, .splits = 1, .hidden = 1},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 60, 16, .splits = 2, .hidden = 1,
         .window = 16},
        {STORE_BF16, STORE_BF16, 128, 0, 2, 4, 8, 80, 16, .splits = 2, .ragged = true},
        {STORE_INT8, STORE_INT8, 128, 0, 2, 4, 8, 80, 16, .splits = 1, .ragged = true,
         .scaled = true},
    };

    RUN_ALL(*state, all);
}

/* Capped scores, slopes along the tokens, learned sinks. The ring has no cap and slopes. */
static void bent(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 128, 0, 1, 2, 8, 70, 16, .splits = 1, .cap = 2},
        {STORE_BF16, STORE_BF16, 256, 0, 1, 1, 2, 70, 16, .splits = 2, .cap = 50},
        {STORE_FP16, STORE_FP16, 64, 0, 1, 1, 20, 40, 16, .splits = 1, .slopes = true},
        {STORE_BF16, STORE_BF16, 128, 0, 2, 4, 4, 70, 16, .splits = 3, .slopes = true,
         .window = 33},
        {STORE_FP8, STORE_FP8, 64, 0, 1, 2, 4, 40, 16, .splits = 1, .slopes = true, .cap = 3},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 2, 16, 70, 16, .splits = 1, .learned = true},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 2, 16, 90, 16, .splits = 4, .learned = true,
         .window = 30},
        {STORE_FP16, STORE_FP16, 128, 0, 1, 1, 20, 5, 16, .splits = 1, .learned = true,
         .cap = 9, .slopes = true},
    };

    RUN_ALL(*state, all);
}

static void formats(void **state)
{
    static const struct setting all[] = {
        {STORE_FP8, STORE_FP8, 128, 0, 1, 2, 8, 100, 16, .splits = 1},
        {STORE_FP8, STORE_FP8, 128, 0, 1, 2, 8, 50, 16, .splits = 2, .scaled = true},
        {STORE_INT8, STORE_INT8, 128, 0, 1, 2, 8, 100, 16, .splits = 1, .scaled = true},
        {STORE_INT8, STORE_INT8, 64, 0, 1, 2, 8, 50, 16, .splits = 1},
        {STORE_INT4, STORE_INT4, 128, 0, 1, 2, 8, 100, 16, 64, .splits = 1},
        {STORE_INT4, STORE_INT4, 128, 0, 1, 2, 8, 50, 16, 32, .splits = 2},
        {STORE_INT4, STORE_INT4, 80, 0, 1, 2, 8, 50, 16, 80, .splits = 1},
        {STORE_FP8, STORE_INT4, 128, 0, 1, 2, 8, 50, 16, 32, .splits = 1},
        {STORE_INT8, STORE_BF16, 128, 0, 1, 2, 8, 50, 16, .splits = 1, .scaled = true},
    };

    RUN_ALL(*state, all);
}

/* Lengths around the residual, and windows that begin in the quantized part. */
static void kivi(void **state)
{
    static const struct setting all[] = {
        {STORE_KIVI4, STORE_KIVI4, 128, 0, 1, 2, 8, 100, 32, 32, 32, .splits = 1},
        {STORE_KIVI2, STORE_KIVI2, 128, 0, 1, 2, 8, 100, 32, 32, 32, .splits = 2},
        {STORE_KIVI2, STORE_KIVI2, 64, 0, 3, 1, 4, 70, 32, 16, 32, .splits = 1, .varied = true},
        {STORE_KIVI4, STORE_KIVI4, 64, 0, 1, 1, 4, 31, 32, 32, 32, .splits = 1},
        {STORE_KIVI4, STORE_KIVI4, 64, 0, 1, 1, 4, 64, 32, 32, 32, .splits = 1, .window = 40},
        {STORE_KIVI4, STORE_KIVI4, 256, 0, 1, 1, 4, 65, 32, 32, 32, .splits = 1},
    };

    RUN_ALL(*state, all);
}

/* The planner's bytes of a sequence's cache are the bytes that decode touches. */
static void planner_bytes(void **state)
{
    struct kk *k = *state;
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 128, 0, 1, 2, 8, 75, 16, .splits = 1},
        {STORE_FP8, STORE_FP8, 128, 0, 1, 2, 8, 75, 16, .splits = 1, .scaled = true},
        {STORE_INT4, STORE_INT4, 128, 0, 1, 2, 8, 75, 16, 64, .splits = 1},
        {STORE_KIVI2, STORE_KIVI2, 128, 0, 1, 2, 8, 75, 32, 32, 32, .splits = 1},
    };
    static const struct format formats[][2] = {
        {{.block_elems = 1, .block_bytes = 2}, {.block_elems = 1, .block_bytes = 2}},
        {{.block_elems = 1, .block_bytes = 1, .head_bytes = 4},
         {.block_elems = 1, .block_bytes = 1, .head_bytes = 4}},
        {{.block_elems = 2, .block_bytes = 1, .head_bytes = 8},
         {.block_elems = 2, .block_bytes = 1, .head_bytes = 8}},
        {{.block_elems = 4,
          .block_bytes = 1,
          .token_group = 32,
          .group_bytes = 4,
          .residual = RESIDUAL_MOD,
          .residual_tokens = 32,
          .full_bytes = 2},
         {.block_elems = 4,
          .block_bytes = 1,
          .head_bytes = 16,
          .residual = RESIDUAL_MIN,
          .residual_tokens = 32,
          .full_bytes = 2}},
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct fixture f;
        struct tally t;
        struct ck ck = {0};
        runs(k, &all[i], &f);
        if (!kk_seen(k, &t))
            continue;
        kt_u64(t.unique_read_bytes[TAG_K], format_bytes(&formats[i][0], 75, 75, 2, 128, &ck));
        kt_u64(t.unique_read_bytes[TAG_V], format_bytes(&formats[i][1], 75, 75, 2, 128, &ck));
    }
}

/* Two layers that share the K/V of one: the second reads it again, but nothing new. */
static void shared_source(void **state)
{
    static const struct setting own = {STORE_BF16, STORE_BF16, 64, 0,  1,
                                       2,          4,          40, 16, .splits = 1};
    struct kk *k = *state;
    struct fixture f;
    struct decode_args lower;
    struct tally t;

    runs(k, &own, &f);
    lower = f.a;
    lower.hidden_tokens = 1; /* it reads a layer above: not its own token */
    lower.out = kk_new(k, TAG_ACTIVATION, 2 * f.n_out);
    if (!kk_ran(k, decode_run(k->d, &lower)))
        return;
    if (!kk_seen(k, &t))
        return;
    kt_u64(t.unique_read_bytes[TAG_K], 2 * 40 * 64 * 2);
    kt_u64(t.issued.read_bytes[TAG_K], 2 * (40 + 39) * 64 * 2);
    kt_u64(t.issued.useful_flop, (uint64_t)4 * (40 + 39) * 2 * 128);
}

/* On 132 multiprocessors: enough heads alone, few heads, too few rows to share, and 200 heads,
 * of which one each would leave half of the second turn idle. */
static void split_counts(void **state)
{
    static const struct {
        uint64_t heads;
        uint32_t rows, multiprocessors, splits;
    } all[] = {
        {1320, 4096, 132, 1}, {8, 32768, 132, 64},  {1, 1000000, 132, 256}, {1, 500, 132, 1},
        {2, 512, 132, 2},     {200, 16384, 132, 9}, {4, 0, 132, 1},         {4, 4096, 1, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        kt_u64(decode_splits(all[i].heads, all[i].rows, all[i].multiprocessors), all[i].splits);
}

static void refuses(void **state)
{
    struct kk *k = *state;
    static const struct setting plain = {STORE_BF16, STORE_BF16, 64, 0,  1,
                                         2,          4,          20, 16, .splits = 1};
    static const struct {
        struct setting o;
        const char *why;
    } bad[] = {
        {{.q_heads = 3, .splits = 1},
         "decode: the query heads must be a multiple of the K/V heads"},
        {{.q_heads = 4}, "decode: 1 to 256 splits"},
        {{.q_heads = 4, .splits = 257}, "decode: 1 to 256 splits"},
        {{.q_heads = 4, .splits = 2}, "decode: several splits need work memory"},
        {{.q_heads = 4, .splits = 1, .dim = 4},
         "decode: a head has a multiple of 8 elements, up to 256"},
        {{.q_heads = 4, .splits = 1, .dim = 264},
         "decode: a head has a multiple of 8 elements, up to 256"},
        {{.q_heads = 4, .splits = 1, .k = STORE_KIVI2, .dim = 24},
         "decode: 2-bit codes need a multiple of 16 elements a head"},
        {{.q_heads = 4, .splits = 1, .k = STORE_INT4},
         "decode: a group is a head, or 8 times a power of two that divides it"},
        {{.q_heads = 4, .splits = 1, .k = STORE_KIVI4},
         "decode: the groups of K must divide the residual and the page"},
        {{.q_heads = 4, .splits = 1, .k = STORE_KIVI4, .group = 16},
         "decode: KIVI needs a residual"},
        {{.q_heads = 4, .splits = 1, .k = STORE_FP16}, "decode: fp16 is for K and V together"},
        {{.q_heads = 4, .splits = 1, .page = UINT32_MAX},
         "decode: pages and tables must not be empty"},
        {{.q_heads = 4, .splits = 1, .sequences = UINT32_MAX},
         "decode: 1 to 65535 sequences, and at least one head"},
        {{.q_heads = 4, .splits = 1, .cap = -1}, "decode: the cap must not be below 0"},
        {{.q_heads = 65536 * 2, .splits = 1, .heads = 65536}, "decode: too many heads"},
    };
    struct fixture f;

    build(k, &plain, &f);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct setting *o = &bad[i].o;
        struct decode_args a = f.a;
        a.q_heads = o->q_heads;
        a.splits = o->splits;
        a.cap = o->cap;
        a.c.k.store = o->k;
        a.c.k.dim = o->dim ? o->dim : a.c.k.dim;
        a.c.k.group = o->group;
        a.c.heads = o->heads ? o->heads : a.c.heads;
        a.c.page_tokens = o->page == UINT32_MAX ? 0 : a.c.page_tokens;
        a.c.sequences = o->sequences ? 65536 : a.c.sequences;
        kk_refused(k, decode_run(k->d, &a), bad[i].why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(heads),         kk_test(rings),         kk_reversed(rings),
        kk_test(splits),        kk_reversed(splits),    kk_test(visible),
        kk_reversed(visible),   kk_test(formats),       kk_test(kivi),
        kk_test(planner_bytes), kk_test(shared_source), kk_test(split_counts),
        kk_test(bent),          kk_reversed(bent),      kk_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
