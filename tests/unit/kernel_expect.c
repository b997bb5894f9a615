/* kernel_expect: moments of queries and ExpectedAttention's scores against double precision,
 * written out with the matrix by which places to come turn on the mean, in every storage
 * format; the error is at most twice that of the same steps in fp32 one after the other. Which
 * rows stay, and the traffic as the formulas say. */
#include "kernels/evict.h"
#include "kernels/expect.h"
#include "tests/kvstore.h"

struct setting {
    enum store store;
    uint32_t dim, group, residual;
    uint32_t heads, q_heads, rotary, tokens, rows, skip, sinks;
    bool scaled, ragged;
};

enum { FIRST = 1, SPARE = 2 }; /* query heads of other groups before ours, and in all */

struct fixture {
    struct ks s;
    struct moments_args m;
    struct expect_args a;
    double *q; /* [rows][q_heads][dim] */
    float *turn;
};

/* --- the reference --------------------------------------------------------------------------
 */

struct reference {
    bool naive; /* each result rounded to fp32 */
    double *mean, *spread, *score;
};

static double as(const struct reference *r, double x)
{
    return r->naive ? (double)(float)x : x;
}

static void moments_of(const struct fixture *f, const struct setting *o, struct reference *r,
                       uint32_t h)
{
    uint32_t d = o->dim;
    double *mean = r->mean + (size_t)h * d, *spread = r->spread + (size_t)h * d * d;

    for (uint32_t i = 0; i < d; i++) {
        mean[i] = 0;
        for (uint32_t n = o->skip; n < o->rows; n++)
            mean[i] = as(r, mean[i] + f->q[((size_t)n * o->q_heads + h) * d + i]);
        mean[i] = as(r, mean[i] / (o->rows - o->skip));
    }
    for (uint32_t i = 0; i < d * d; i++) {
        double sum = 0;
        for (uint32_t n = o->skip; n < o->rows; n++) {
            const double *q = f->q + ((size_t)n * o->q_heads + h) * d;
            double x = as(r, q[i / d] - mean[i / d]), y = as(r, q[i % d] - mean[i % d]);
            sum = as(r, sum + as(r, x * y));
        }
        spread[i] = as(r, sum / (o->rows - o->skip));
    }
}

/* x becomes R x, its elements `step` apart. */
static void turn(const struct fixture *f, const struct setting *o, const struct reference *r,
                 double *x, uint32_t step)
{
    uint32_t half = f->turn ? o->rotary / 2 : 0;

    for (uint32_t i = 0; i < half; i++) {
        double cosine = (double)f->turn[2 * i], sine = (double)f->turn[2 * i + 1];
        double low = x[(size_t)i * step], high = x[(size_t)(i + half) * step];
        x[(size_t)i * step] = as(r, as(r, cosine * low) - as(r, sine * high));
        x[(size_t)(i + half) * step] = as(r, as(r, sine * low) + as(r, cosine * high));
    }
}

static double element(const struct fixture *f, bool value, uint32_t head, uint32_t row,
                      uint32_t i)
{
    enum store s = value ? f->s.c.v.store : f->s.c.k.store;
    double x = ks_at(&f->s, value, 0, head, row)[i];

    return store_bits(s) < 8 ? ks_round_bf16(x) : x; /* groups are decoded to bf16 */
}

/* mean and spread are those of R q already. */
static double logit(const struct fixture *f, const struct setting *o, const struct reference *r,
                    uint32_t h, uint32_t row)
{
    uint32_t d = o->dim, head = h / (o->q_heads / o->heads);
    const double *mean = r->mean + (size_t)h * d, *spread = r->spread + (size_t)h * d * d;
    double one = 0, two = 0, k[CACHE_DIM_MAX], scale = (double)f->a.scale;

    for (uint32_t i = 0; i < d; i++)
        k[i] = element(f, false, head, row, i);
    for (uint32_t i = 0; i < d; i++) {
        double sum = 0;
        one = as(r, one + as(r, mean[i] * k[i]));
        for (uint32_t j = 0; j < d; j++)
            sum = as(r, sum + as(r, spread[(size_t)i * d + j] * k[j]));
        two = as(r, two + as(r, sum * k[i]));
    }
    return as(r, as(r, one * scale) + as(r, as(r, two * scale) * as(r, scale / 2)));
}

static void softmax_of(const struct fixture *f, const struct setting *o,
                       const struct reference *r, uint32_t h, double *p)
{
    uint32_t n = ks_length(&f->s, 0, h / (o->q_heads / o->heads));
    double most = -INFINITY, sum = 0;

    for (uint32_t i = o->sinks; i < n; i++) {
        p[i] = logit(f, o, r, h, i);
        most = fmax(most, p[i]);
    }
    for (uint32_t i = o->sinks; i < n; i++) {
        p[i] = as(r, exp(as(r, p[i] - most)));
        sum = as(r, sum + p[i]);
    }
    for (uint32_t i = o->sinks; i < n; i++)
        p[i] = as(r, p[i] / sum);
}

static double length(const struct fixture *f, const struct setting *o,
                     const struct reference *r, uint32_t head, uint32_t row)
{
    double sum = 0;

    for (uint32_t i = 0; i < o->dim; i++)
        sum = as(r, sum + as(r, pow(element(f, true, head, row, i), 2)));
    return as(r, sqrt(sum));
}

static void refer(struct kk *k, const struct fixture *f, const struct setting *o,
                  struct reference *r)
{
    uint32_t d = o->dim, group = o->q_heads / o->heads;
    double *p = ARENA_NEW(k->a, double, o->tokens);

    r->mean = ARENA_NEW(k->a, double, (size_t)o->q_heads *d);
    r->spread = ARENA_NEW(k->a, double, (size_t)o->q_heads *d *d);
    r->score = ARENA_NEW(k->a, double, (size_t)o->heads * o->tokens);
    for (uint32_t h = 0; h < o->q_heads; h++) {
        uint32_t head = h / group;
        double *spread = r->spread + (size_t)h * d * d;
        moments_of(f, o, r, h);
        turn(f, o, r, r->mean + (size_t)h * d, 1);
        for (uint32_t i = 0; i < d; i++)
            turn(f, o, r, spread + (size_t)i * d, 1);
        for (uint32_t i = 0; i < d; i++)
            turn(f, o, r, spread + i, d);
        softmax_of(f, o, r, h, p);
        for (uint32_t i = o->sinks; i < ks_length(&f->s, 0, head); i++)
            r->score[(size_t)head * o->tokens + i] +=
                as(r, p[i] / group) * length(f, o, r, head, i);
    }
}

/* --- the cases ------------------------------------------------------------------------------
 */

static void store(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct cache_side side = {
        .store = o->store, .dim = o->dim, .group = o->group, .scale = 0.0625f};
    struct ks *s = &f->s;

    s->tokens = o->tokens;
    s->c = (struct cache_view){.k = side,
                               .v = side,
                               .sequences = 1,
                               .heads = o->heads,
                               .page_tokens = 16,
                               .max_pages = (o->tokens + 15) / 16,
                               .residual = o->residual,
                               .ragged = o->ragged};
    s->lengths = ARENA_NEW(k->a, uint32_t, ks_lengths(s));
    for (uint32_t i = 0; i < ks_lengths(s); i++)
        s->lengths[i] = i ? o->tokens - 11 * i : o->tokens;
    ks_tables(k, s);
    for (int value = 0; value < 2; value++) {
        ks_pools(k, s, value, o->scaled);
        ks_fill(k, s, value);
        ks_upload(k, s, value);
    }
}

/* Every channel has a mean of its own; the query heads stand among others. */
static void queries(struct kk *k, const struct setting *o, struct fixture *f)
{
    uint64_t n = (uint64_t)o->rows * o->q_heads * o->dim;
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n);
    bool fp16 = o->store == STORE_FP16;
    struct kk_wide w = {o->rows, o->q_heads, o->q_heads + SPARE, FIRST, 2 * o->dim};
    double *mean = ARENA_NEW(k->a, double, (size_t)o->q_heads * o->dim);

    for (uint32_t i = 0; i < o->q_heads * o->dim; i++)
        mean[i] = 2 * kk_normal(k);
    f->q = ARENA_NEW(k->a, double, n);
    for (uint64_t i = 0; i < n; i++) {
        double x = mean[i % (o->q_heads * o->dim)] + kk_normal(k);
        bits[i] = fp16 ? ks_bits_fp16(x) : ks_bits_bf16(x);
        f->q[i] = fp16 ? ks_fp16(bits[i]) : ks_bf16(bits[i]);
    }
    f->m = (struct moments_args){.q = kk_spread(k, kk_put(k, TAG_WORK, bits, 2 * n), w),
                                 .mean = kk_new(k, TAG_WORK, (uint64_t)o->q_heads * o->dim * 4),
                                 .rows = o->rows,
                                 .skip = o->skip,
                                 .heads = o->q_heads,
                                 .row_heads = w.all,
                                 .dim = o->dim,
                                 .fp16 = fp16};
    f->m.spread = kk_new(k, TAG_WORK, (uint64_t)o->q_heads * o->dim * o->dim * 4);
}

static void setup(struct kk *k, const struct setting *o, struct fixture *f)
{
    uint32_t half = o->rotary / 2;

    *f = (struct fixture){.s = {.tokens = o->tokens}};
    store(k, o, f);
    queries(k, o, f);
    if (half) {
        f->turn = ARENA_NEW(k->a, float, o->rotary);
        for (uint32_t i = 0; i < half; i++)
            for (uint32_t p = o->rows; p < o->rows + 512; p++) {
                double angle = p * pow(10000, -(double)i / half);
                f->turn[2 * i] += (float)(cos(angle) / 512);
                f->turn[2 * i + 1] += (float)(sin(angle) / 512);
            }
        f->a.turn = kk_put(k, TAG_TABLES, f->turn, o->rotary * 4);
    }
    f->a.c = f->s.c;
    f->a.mean = f->m.mean;
    f->a.spread = f->m.spread;
    f->a.q_heads = o->q_heads;
    f->a.rotary = o->rotary;
    f->a.width = o->tokens + 5;
    f->a.sinks = o->sinks;
    f->a.scale = (float)(1 / sqrt(o->dim));
    f->a.scores = kk_new(k, TAG_WORK, (uint64_t)o->heads * f->a.width * 4);
    f->a.work = kk_new(k, TAG_WORK, expect_work_bytes(&f->a));
}

static void moments_tallied(struct kk *k, const struct setting *o, const struct fixture *f)
{
    struct tally seen, want = {.launches = 2};
    uint64_t mean = (uint64_t)o->q_heads * o->dim * 4;

    moments_traffic(&f->m, &want.issued);
    if (kk_seen(k, &seen))
        kt_u64(seen.unique_read_bytes[TAG_ACTIVATION],
               (uint64_t)(o->rows - o->skip) * o->q_heads * o->dim * 2);
    want.unique_read_bytes[TAG_ACTIVATION] = seen.unique_read_bytes[TAG_ACTIVATION];
    want.unique_read_bytes[TAG_WORK] = mean;
    want.unique_written_bytes[TAG_WORK] = mean + mean * o->dim;
    kk_tally(k, &want);
}

static void expect_tallied(struct kk *k, const struct setting *o, const struct fixture *f)
{
    struct tally seen, want = {.launches = 3};
    uint64_t rows = 0, scored = 0, moments = (uint64_t)o->q_heads * o->dim * (o->dim + 1) * 4;

    for (uint32_t h = 0; h < o->heads; h++) {
        rows += ks_length(&f->s, 0, h);
        scored += ks_length(&f->s, 0, h) - o->sinks;
    }
    expect_traffic(&f->a, f->s.lengths, &want.issued);
    if (kk_seen(k, &seen) && store_bits(o->store) == 16) {
        kt_u64(seen.unique_read_bytes[TAG_K], scored * o->dim * 2);
        kt_u64(seen.unique_read_bytes[TAG_V], scored * o->dim * 2);
    }
    want.unique_read_bytes[TAG_K] = seen.unique_read_bytes[TAG_K];
    want.unique_read_bytes[TAG_V] = seen.unique_read_bytes[TAG_V];
    want.unique_read_bytes[TAG_TABLES] = seen.unique_read_bytes[TAG_TABLES];
    want.unique_written_bytes[TAG_WORK] =
        4 * (rows + o->q_heads / o->heads * scored + 2 * o->q_heads);
    want.unique_read_bytes[TAG_WORK] =
        moments + 4 * (o->q_heads / o->heads * scored + 2 * o->q_heads);
    kk_tally(k, &want);
}

static void scores_right(struct kk *k, const struct setting *o, const struct fixture *f)
{
    struct reference exact = {.naive = false}, naive = {.naive = true};
    float *got = ARENA_NEW(k->a, float, (size_t)o->heads * f->a.width);
    double ours = 0, plain = 0;

    refer(k, f, o, &exact);
    refer(k, f, o, &naive);
    kk_get(k, got, f->a.scores, (uint64_t)o->heads * f->a.width * 4);
    for (uint32_t h = 0; h < o->heads; h++) {
        uint32_t n = ks_length(&f->s, 0, h);
        const float *own = got + (size_t)h * f->a.width;
        for (uint32_t i = 0; i < o->sinks && i < n; i++)
            assert_true(own[i] == 0);
        for (uint32_t i = o->sinks; i < n; i++) {
            double want = exact.score[(size_t)h * o->tokens + i];
            ours += pow((double)own[i] / want - 1, 2);
            plain += pow(naive.score[(size_t)h * o->tokens + i] / want - 1, 2);
        }
        assert_true(isnan(own[n])); /* poisoned, as before */
    }
    if (!(ours <= 4 * plain))
        print_error("error %g, of plain steps %g\n", sqrt(ours), sqrt(plain));
    assert_true(ours <= 4 * plain);
}

static void one(struct kk *k, const struct setting *o)
{
    struct fixture f;

    setup(k, o, &f);
    device_tally_reset(k->d);
    kk_ok(k, moments_run(k->d, &f.m));
    moments_tallied(k, o, &f);
    device_tally_reset(k->d);
    kk_ok(k, expect_run(k->d, &f.a));
    expect_tallied(k, o, &f);
    scores_right(k, o, &f);
}

static void expects(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, 64, 0, 0, 2, 4, 64, 70, 70, 4, 4, false, false},
        {STORE_FP16, 80, 0, 0, 2, 2, 64, 45, 45, 4, 4, false, true},
        {STORE_BF16, 128, 0, 0, 1, 2, 0, 66, 40, 0, 4, false, false},
        {STORE_BF16, 256, 0, 0, 1, 1, 256, 37, 37, 4, 0, false, false},
        {STORE_FP8, 32, 0, 0, 2, 4, 32, 40, 40, 4, 4, true, false},
        {STORE_INT8, 16, 0, 0, 3, 3, 16, 50, 50, 4, 4, true, true},
        {STORE_INT8, 64, 0, 0, 1, 40, 64, 33, 9, 4, 4, false, false},
        {STORE_INT4, 64, 32, 0, 2, 4, 64, 48, 48, 4, 4, false, false},
        {STORE_KIVI2, 64, 16, 32, 1, 2, 64, 70, 70, 4, 4, false, false},
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        one(*state, &all[i]);
}

/* The best rows by the reference stay, and the sinks: where a row is within a thousandth of the
 * last that stays, either may. */
static void kept(void **state)
{
    static const struct setting o = {STORE_BF16, 64,  0, 0, 2,     4,    64,
                                     150,        150, 4, 4, false, false};
    enum { KEEP = 61 };
    struct reference exact = {.naive = false};
    struct kk *k = *state;
    struct fixture f;
    uint32_t counts[4], got[2 * 155];

    setup(k, &o, &f);
    kk_ok(k, moments_run(k->d, &f.m));
    kk_ok(k, expect_run(k->d, &f.a));
    for (uint32_t i = 0; i < 4; i++)
        counts[i] = i < 2 ? o.tokens : KEEP;
    uint32_t *device = kk_put(k, TAG_WORK, counts, sizeof counts);
    struct select_args s = {.scores = f.a.scores,
                            .count = device,
                            .keep = device + 2,
                            .index = kk_new(k, TAG_WORK, sizeof got),
                            .lists = 2,
                            .width = f.a.width,
                            .sinks = 4};
    kk_ok(k, select_run(k->d, &s));
    kk_get(k, got, s.index, sizeof got);
    refer(k, &f, &o, &exact);
    for (uint32_t h = 0; h < 2; h++) {
        const double *score = exact.score + (size_t)h * o.tokens;
        bool stays[150] = {false};
        for (uint32_t i = 0; i < KEEP; i++)
            stays[got[h * f.a.width + i]] = true;
        for (uint32_t i = 0; i < o.tokens; i++) {
            uint32_t above = 0, near = 0;
            for (uint32_t j = 4; j < o.tokens; j++) {
                above += score[j] > score[i] * 1.001;
                near += score[j] > score[i] * 0.999;
            }
            if (i < 4 || near <= KEEP - 4)
                assert_true(stays[i]);
            else if (above >= KEEP - 4)
                assert_false(stays[i]);
        }
    }
}

/* Without queries beyond the first ones, and without rows beyond the sinks, there is nothing to
 * expect: every score that there is is 0. */
static void few(void **state)
{
    static const struct setting o = {STORE_BF16, 32, 0, 0, 1, 2, 32, 3, 3, 4, 4, false, false};
    struct kk *k = *state;
    struct fixture f;
    float mean[64], got[8];

    setup(k, &o, &f);
    kk_ok(k, moments_run(k->d, &f.m));
    kk_get(k, mean, f.m.mean, sizeof mean);
    for (uint32_t i = 0; i < 64; i++)
        assert_true(mean[i] == 0);
    kk_ok(k, expect_run(k->d, &f.a));
    kk_get(k, got, f.a.scores, sizeof got);
    for (uint32_t i = 0; i < 3; i++)
        assert_true(got[i] == 0);
    assert_true(isnan(got[3]));
}

static void refuses(void **state)
{
    static const struct setting o = {STORE_BF16, 32, 0, 0, 2, 4, 32, 9, 9, 4, 4, false, false};
    static const char dim[] = "moments: a head has a multiple of 8 elements, up to 256";
    static const char heads[] = "moments: 1 to 65535 heads, no more than a row has";
    static const char turns[] =
        "expect: an even number of channels turns, no more than there are";
    struct kk *k = *state;
    struct fixture f;

    setup(k, &o, &f);
    for (uint32_t i = 0; i < 3; i++) {
        f.m.dim = i == 0 ? 0 : i == 1 ? 12 : 264;
        kk_refused(k, moments_run(k->d, &f.m), dim);
    }
    f.m.dim = 32;
    for (uint32_t i = 0; i < 3; i++) {
        f.m.row_heads = i < 2 ? 4 : 65536;
        f.m.heads = i == 0 ? 0 : i == 1 ? 5 : 65536;
        kk_refused(k, moments_run(k->d, &f.m), heads);
    }
    f.a.rotary = 34;
    kk_refused(k, expect_run(k->d, &f.a), turns);
    f.a.rotary = 15;
    kk_refused(k, expect_run(k->d, &f.a), turns);
    f.a.width = 0;
    kk_refused(k, expect_run(k->d, &f.a), "expect: at least one place, at most 65535 heads");
    for (uint32_t i = 0; i < 2; i++) {
        f.a.q_heads = 3 * i;
        kk_refused(k, expect_run(k->d, &f.a),
                   "expect: the query heads must be a multiple of the K/V heads");
    }
    f.a.c.sequences = 2;
    kk_refused(k, expect_run(k->d, &f.a), "expect: one sequence at a time");
    f.a.c.k.dim = 4;
    kk_refused(k, expect_run(k->d, &f.a),
               "expect: a head has a multiple of 8 elements, up to 256");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(expects), kk_reversed(expects), kk_test(kept), kk_test(few), kk_test(refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
