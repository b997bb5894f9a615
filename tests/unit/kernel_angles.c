/* kernel_angles: cosines of keys with the mean of their directions against double precision,
 * in every storage format, and the traffic as the formula says. */
#include "kernels/angles.h"
#include "tests/kvlists.h"

static double product(const double *x, const double *y, uint32_t n)
{
    double sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

static void close_to(struct ks *s, uint32_t list, const float *got, double error)
{
    uint32_t n = ks_length(s, list / HEADS, list % HEADS), dim = s->c.k.dim;
    double anchor[CACHE_DIM_MAX] = {0};

    for (uint32_t t = 0; t < n; t++) {
        const double *x = ks_at(s, false, list / HEADS, list % HEADS, t);
        for (uint32_t d = 0; d < dim; d++)
            anchor[d] += x[d] / sqrt(product(x, x, dim)) / n;
    }
    for (uint32_t t = 0; t < n; t++) {
        const double *x = ks_at(s, false, list / HEADS, list % HEADS, t);
        double want =
            product(x, anchor, dim) / sqrt(product(x, x, dim) * product(anchor, anchor, dim));
        assert_true(fabs((double)got[t] - want) < error);
    }
    assert_true(isnan(got[n])); /* poisoned, as before */
}

static void one(struct kk *k, const struct setting *o, uint32_t blocks)
{
    struct angles_args a = {.width = WIDTH, .blocks = blocks};
    struct tally seen, want = {.launches = 2};
    float got[LISTS * WIDTH];
    struct ks s;

    fill(k, o, &s);
    a.c = s.c;
    a.scores = kk_new(k, TAG_WORK, sizeof got);
    a.work = kk_new(k, TAG_WORK, angles_work_bytes(&a));
    device_tally_reset(k->d);
    kk_ok(k, angles_run(k->d, &a));
    kk_seen(k, &seen);
    kk_get(k, got, a.scores, sizeof got);
    for (uint32_t l = 0; l < LISTS; l++) /* groups are decoded to bf16: 2^-9 an element */
        close_to(&s, l, got + (size_t)l * WIDTH,
                 store_bits(o->store) < 8 ? ldexp(1, -8) : 1e-5);
    angles_traffic(&a, s.lengths, &want.issued);
    want.unique_read_bytes[TAG_K] = seen.unique_read_bytes[TAG_K];
    want.unique_read_bytes[TAG_TABLES] = seen.unique_read_bytes[TAG_TABLES];
    want.unique_read_bytes[TAG_WORK] = angles_work_bytes(&a);
    want.unique_written_bytes[TAG_WORK] = want.issued.written_bytes[TAG_WORK];
    kk_tally(k, &want);
    kt_u64(seen.unique_read_bytes[TAG_V], 0);
}

static void angles(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, 128, 0, 0, false, false},  {STORE_FP16, 64, 0, 0, false, true},
        {STORE_BF16, 256, 0, 0, false, false},  {STORE_FP8, 128, 0, 0, true, false},
        {STORE_INT8, 80, 0, 0, true, true},     {STORE_INT8, 128, 0, 0, false, false},
        {STORE_INT4, 128, 32, 0, false, false}, {STORE_KIVI2, 64, 16, 32, false, false},
    };
    static const uint32_t blocks[] = {1, 2, 3, 1, 12, 1, 2, 1}; /* that share a list */

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        one(*state, &all[i], blocks[i]);
}

/* Keys that are all 0 point nowhere. */
static void zeros(void **state)
{
    static const struct setting o = {STORE_BF16, 64, 0, 0, false, false};
    struct angles_args a = {.width = WIDTH, .blocks = 1};
    struct kk *k = *state;
    float got[LISTS * WIDTH];
    struct ks s;

    fill(k, &o, &s);
    a.c = s.c;
    a.scores = kk_new(k, TAG_WORK, sizeof got);
    a.work = kk_new(k, TAG_WORK, angles_work_bytes(&a));
    kk_ok(k, device_fill(k->d, s.c.k.codes, 0, cache_code_bytes(&s.c, false, s.pages)));
    kk_ok(k, angles_run(k->d, &a));
    kk_get(k, got, a.scores, sizeof got);
    for (uint32_t l = 0; l < LISTS; l++)
        for (uint32_t t = 0; t < ks_length(&s, l / HEADS, l % HEADS); t++)
            assert_true(got[l * WIDTH + t] == 0);
}

static void refuses(void **state)
{
    static const struct setting o = {STORE_BF16, 64, 0, 0, false, false};
    static const char why[] = "angles: at least one block and one place, at most 65535 heads";
    struct kk *k = *state;
    struct angles_args a = {.width = WIDTH};
    struct ks s;

    fill(k, &o, &s);
    a.c = s.c;
    kk_refused(k, angles_run(k->d, &a), why);
    a.blocks = 1;
    a.width = 0;
    kk_refused(k, angles_run(k->d, &a), why);
    a.width = WIDTH;
    a.c.heads = 65536;
    kk_refused(k, angles_run(k->d, &a), why);
    a.c.k.dim = 4;
    kk_refused(k, angles_run(k->d, &a),
               "angles: a head has a multiple of 8 elements, up to 256");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(angles),
        kk_reversed(angles),
        kk_test(zeros),
        kk_test(refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
