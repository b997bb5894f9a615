/* kernel_prefer: preferences of layers against their definition in double precision, the
 * traffic as the formula says, and what is refused. */
#include "kernels/prefer.h"
#include "tests/kvkernel.h"

#include <math.h>

enum { SEQUENCES = 3, MOST = 700 };

static void one(struct kk *k, uint32_t n, float tau_entropy, float tau_variance)
{
    float parts[SEQUENCES * MOST * 2], got[SEQUENCES];
    struct prefer_args a = {.preferences = kk_new(k, TAG_STATE, sizeof got),
                            .sequences = SEQUENCES,
                            .n = n,
                            .tau_entropy = tau_entropy,
                            .tau_variance = tau_variance};
    struct tally want = {.launches = 1};

    for (uint32_t i = 0; i < SEQUENCES * n * 2; i++)
        parts[i] = (float)rng_unit(&k->rng) * (i % 2 ? 0.01f : 1.0f);
    a.parts = kk_put(k, TAG_WORK, parts, (uint64_t)SEQUENCES * n * 8);
    device_tally_reset(k->d);
    kk_ok(k, prefer_run(k->d, &a));
    prefer_traffic(&a, &want.issued);
    want.unique_read_bytes[TAG_WORK] = (uint64_t)SEQUENCES * n * 8;
    want.unique_written_bytes[TAG_STATE] = sizeof got;
    kk_tally(k, &want);
    kk_get(k, got, a.preferences, sizeof got);
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        double sum[2] = {0, 0};
        for (uint32_t i = 0; i < 2 * n; i++)
            sum[i % 2] += (double)parts[s * n * 2 + i];
        kt_rel((double)got[s],
               pow(sum[0], 1 / (double)tau_entropy) * pow(sum[1], 1 / (double)tau_variance),
               1e-5);
    }
}

static void prefers(void **state)
{
    one(*state, 1, 1, 1);
    one(*state, 300, 1.6f, 0.4f);
    one(*state, MOST, 0.5f, 3);
}

/* Where one query looks like the next, nothing is preferred. */
static void nothing(void **state)
{
    struct kk *k = *state;
    float parts[] = {3, 0}, got = 1;
    struct prefer_args a = {.parts = kk_put(k, TAG_WORK, parts, sizeof parts),
                            .preferences = kk_new(k, TAG_STATE, sizeof got),
                            .sequences = 1,
                            .n = 1,
                            .tau_entropy = 1,
                            .tau_variance = 1};

    kk_ok(k, prefer_run(k->d, &a));
    kk_get(k, &got, a.preferences, sizeof got);
    assert_true(got == 0);
}

static void refuses(void **state)
{
    struct kk *k = *state;
    struct prefer_args a = {.sequences = 1};

    kk_refused(k, prefer_run(k->d, &a), "prefer: at least one sequence and one part");
    a = (struct prefer_args){.n = 1};
    kk_refused(k, prefer_run(k->d, &a), "prefer: at least one sequence and one part");
    a = (struct prefer_args){.sequences = 1, .n = 1, .tau_entropy = 1};
    kk_refused(k, prefer_run(k->d, &a), "prefer: temperatures above 0");
    a = (struct prefer_args){.sequences = 1, .n = 1, .tau_variance = 1};
    kk_refused(k, prefer_run(k->d, &a), "prefer: temperatures above 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(prefers),
        kk_reversed(prefers),
        kk_test(nothing),
        kk_test(refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
