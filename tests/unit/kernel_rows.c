/* kernel_rows: sums of picked rows and GELU against double precision, noise against its
 * moments; traffic as the formulas say. */
#include "kernels/rows.h"

#include "tests/kvstore.h"

static void *random_16(struct kk *k, uint64_t n, bool fp16, double **values)
{
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n);

    *values = ARENA_NEW(k->a, double, n);
    for (uint64_t i = 0; i < n; i++) {
        double x = 2 * kk_normal(k);
        bits[i] = fp16 ? ks_bits_fp16(x) : ks_bits_bf16(x);
        (*values)[i] = fp16 ? ks_fp16(bits[i]) : ks_bf16(bits[i]);
    }
    return kk_put(k, TAG_ACTIVATION, bits, 2 * n);
}

/* x, rounded once from something within `slack` of want. */
static void near(double x, double want, double slack, bool fp16)
{
    assert_true(fabs(x - want) <= fabs(want) * ldexp(1, fp16 ? -11 : -8) + slack);
}

static double value(uint16_t h, bool fp16)
{
    return fp16 ? ks_fp16(h) : ks_bf16(h);
}

/* The same numbers in fp32. */
static void *put_wide(struct kk *k, const double *values, uint64_t n)
{
    float *x = ARENA_NEW(k->a, float, n);

    for (uint64_t i = 0; i < n; i++)
        x[i] = (float)values[i];
    return kk_put(k, TAG_ACTIVATION, x, 4 * n);
}

/* onto: there is something to add to; in order: without an index; wide: from fp32. */
struct mixing {
    uint32_t rows, width, terms;
    bool fp16, onto, in_order, wide;
};

static void mixes(struct kk *k, struct mixing o)
{
    uint32_t rows = o.rows, width = o.width, terms = o.terms,
             n_from = o.in_order ? rows * terms : 6;
    bool fp16 = o.fp16;
    double *x, *y = NULL;
    uint32_t *index = ARENA_NEW(k->a, uint32_t, (size_t)rows * terms);
    uint16_t *out = ARENA_NEW(k->a, uint16_t, (size_t)rows * width);
    struct mix_args a = {.from = random_16(k, (uint64_t)n_from * width, fp16, &x),
                         .rows = rows,
                         .width = width,
                         .terms = terms,
                         .factor = terms > 1 ? 0.25f : 1,
                         .fp16 = fp16,
                         .wide_from = o.wide,
                         .from_tag = TAG_ACTIVATION};
    struct tally want = {.launches = 1}, got;

    if (o.wide)
        a.from = put_wide(k, x, (uint64_t)n_from * width);
    for (uint32_t i = 0; i < rows * terms; i++)
        index[i] = o.in_order ? i : (uint32_t)rng_below(&k->rng, n_from);
    if (!o.in_order)
        a.index = kk_put(k, TAG_TABLES, index, 4ull * rows * terms);
    if (o.onto)
        a.onto = random_16(k, (uint64_t)rows * width, fp16, &y);
    a.out = kk_new(k, TAG_ACTIVATION, 2ull * rows * width);
    device_tally_reset(k->d);
    kk_ok(k, mix_run(k->d, &a));
    mix_traffic(&a, &want.issued);
    kk_seen(k, &got);
    want.unique_read_bytes[TAG_ACTIVATION] = got.unique_read_bytes[TAG_ACTIVATION];
    want.unique_read_bytes[TAG_TABLES] = o.in_order ? 0 : 4ull * rows * terms;
    want.unique_written_bytes[TAG_ACTIVATION] = 2ull * rows * width;
    kk_tally(k, &want);
    kk_get(k, out, a.out, 2ull * rows * width);
    for (uint32_t i = 0; i < rows * width; i++) {
        double sum = 0;
        for (uint32_t j = 0; j < terms; j++)
            sum += x[(size_t)index[i / width * terms + j] * width + i % width];
        if (terms == 1 && !y)
            assert_true(value(out[i], fp16) == sum);
        near(value(out[i], fp16), sum * (double)a.factor + (y ? y[i] : 0), 1e-5, fp16);
    }
}

static void mix(void **state)
{
    mixes(*state, (struct mixing){1, 8, 1, .fp16 = false});
    mixes(*state, (struct mixing){40, 72, 1, .fp16 = true});
    mixes(*state, (struct mixing){9, 264, 3, .fp16 = false});
    mixes(*state, (struct mixing){40, 72, 1, .fp16 = true, .wide = true});
    mixes(*state, (struct mixing){9, 264, 3, .wide = true});
    mixes(*state, (struct mixing){9, 264, 3, .onto = true});
    mixes(*state, (struct mixing){5, 40, 1, .onto = true, .in_order = true});
    mixes(*state, (struct mixing){3, 16, 2, .in_order = true, .fp16 = true});
}

static void gelu(void **state)
{
    struct kk *k = *state;

    for (int fp16 = 0; fp16 < 2; fp16++) {
        double *x;
        uint16_t out[512];
        struct gelu_args a = {.x = random_16(k, 512, fp16, &x), .count = 512, .fp16 = fp16};
        struct tally want = {.launches = 1};
        a.out = kk_new(k, TAG_ACTIVATION, sizeof out);
        device_tally_reset(k->d);
        kk_ok(k, gelu_run(k->d, &a));
        gelu_traffic(&a, &want.issued);
        want.unique_read_bytes[TAG_ACTIVATION] = want.unique_written_bytes[TAG_ACTIVATION] =
            sizeof out;
        kk_tally(k, &want);
        kk_get(k, out, a.out, sizeof out);
        for (int i = 0; i < 512; i++) {
            double y = sqrt(2 / acos(-1)) * (x[i] + 0.044715 * pow(x[i], 3));
            near(value(out[i], fp16), x[i] / 2 * (1 + tanh(y)), 1e-5, fp16);
        }
    }
}

/* Mean and variance of an even distribution; another seed, other numbers. */
static void noise(void **state)
{
    enum { N = 1 << 15 };
    struct kk *k = *state;
    uint16_t *out[2] = {ARENA_NEW(k->a, uint16_t, N), ARENA_NEW(k->a, uint16_t, N)};
    uint32_t same = 0;

    for (uint64_t seed = 0; seed < 2; seed++) {
        struct noise_args a = {.out = kk_new(k, TAG_WEIGHTS, 2 * N),
                               .count = N,
                               .seed = seed << 40,
                               .mean = 1,
                               .spread = 3,
                               .tag = TAG_WEIGHTS};
        struct tally want = {.launches = 1, .unique_written_bytes = {[TAG_WEIGHTS] = 2 * N}};
        double sum = 0, squares = 0;
        device_tally_reset(k->d);
        kk_ok(k, noise_run(k->d, &a));
        noise_traffic(&a, &want.issued);
        kk_tally(k, &want);
        kk_get(k, out[seed], a.out, 2 * N);
        for (int i = 0; i < N; i++) {
            double x = ks_bf16(out[seed][i]);
            assert_true(x >= -0.51 && x <= 2.51);
            sum += x;
            squares += (x - 1) * (x - 1);
        }
        assert_true(fabs(sum / N - 1) < 0.02);
        assert_true(fabs(squares / N - 0.75) < 0.02);
    }
    for (int i = 0; i < N; i++)
        same += out[0][i] == out[1][i];
    assert_true(same < N / 50);
}

/* The same numbers, not rounded. */
static void noise_wide(void **state)
{
    enum { N = 256 };
    struct kk *k = *state;
    struct noise_args a = {.count = N, .seed = 5, .mean = 1, .spread = 3, .tag = TAG_WEIGHTS};
    struct tally want = {.launches = 1, .unique_written_bytes = {[TAG_WEIGHTS] = 4 * N}};
    uint16_t narrow[N];
    float wide[N];

    a.out = kk_new(k, TAG_WEIGHTS, 2 * N);
    kk_ok(k, noise_run(k->d, &a));
    kk_get(k, narrow, a.out, 2 * N);
    a.out = kk_new(k, TAG_WEIGHTS, 4 * N);
    a.wide = true;
    device_tally_reset(k->d);
    kk_ok(k, noise_run(k->d, &a));
    noise_traffic(&a, &want.issued);
    kk_tally(k, &want);
    kk_get(k, wide, a.out, 4 * N);
    for (int i = 0; i < N; i++)
        assert_int_equal(ks_bits_bf16((double)wide[i]), narrow[i]);
}

static void refusals(void **state)
{
    struct kk *k = *state;
    struct mix_args m = {.rows = 1, .width = 12, .terms = 1};
    struct gelu_args g = {.count = 4};
    struct noise_args n = {.count = 0};

    kk_refused(k, mix_run(k->d, &m),
               "mix: at least one row and term, of a multiple of 8 elements");
    kk_refused(k, gelu_run(k->d, &g), "gelu: a multiple of 8 elements, not 0");
    kk_refused(k, noise_run(k->d, &n), "noise: a multiple of 8 elements, not 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {kk_test(mix),   kk_reversed(mix),    kk_test(gelu),
                                       kk_test(noise), kk_test(noise_wide), kk_test(refusals)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
