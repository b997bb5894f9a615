/* kernel_copy: the bandwidth probes move and sum what they should, and issue what their formula
 * says. */
#include <stdlib.h>
#include <string.h>

#include "kernels/copy.h"
#include "planner/base/rng.h"
#include "tests/kvkernel.h"

/* Sizes around a thread's turn, one block and several, both orders of running. */
static void copies(void **state)
{
    static const uint64_t sizes[] = {16, 4096, 4112, 16384, 70000 / 16 * 16};
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t *in = kk_random(k, sizes[i]), *out = malloc(sizes[i]);
        struct copy_args a = {.from = kk_put(k, TAG_K, in, sizes[i]),
                              .to = kk_new(k, TAG_WORK, sizes[i]),
                              .from_tag = TAG_K,
                              .to_tag = TAG_WORK,
                              .bytes = sizes[i],
                              .blocks = 1 + (uint32_t)i};
        struct tally want = {.launches = 1};
        device_tally_reset(k->d);
        kk_ok(k, copy_run(k->d, &a));
        kk_get(k, out, a.to, sizes[i]);
        assert_memory_equal(in, out, sizes[i]);
        copy_traffic(&a, &want.issued);
        want.unique_read_bytes[TAG_K] = want.unique_written_bytes[TAG_WORK] = sizes[i];
        kk_tally(k, &want);
        free(out);
    }
}

static void sums(void **state)
{
    struct kk *k = *state;
    enum { BYTES = 40000, BLOCKS = 3 };
    uint8_t *in = kk_random(k, BYTES);
    uint32_t got[BLOCKS], want[BLOCKS] = {0};
    struct copy_args a = {.from = kk_put(k, TAG_V, in, BYTES),
                          .to = kk_new(k, TAG_WORK, sizeof got),
                          .from_tag = TAG_V,
                          .to_tag = TAG_WORK,
                          .bytes = BYTES,
                          .blocks = BLOCKS};
    struct tally t = {.launches = 1};

    for (uint32_t w = 0; w < BYTES / 4; w++) {
        uint32_t x, *sum = &want[w / 4 / COPY_THREADS % BLOCKS];
        memcpy(&x, in + 4 * w, 4);
        *sum = (uint32_t)((uint64_t)*sum + x);
    }
    device_tally_reset(k->d);
    kk_ok(k, stream_run(k->d, &a));
    kk_get(k, got, a.to, sizeof got);
    for (uint32_t b = 0; b < BLOCKS; b++)
        kt_u64(got[b], want[b]);
    stream_traffic(&a, &t.issued);
    t.unique_read_bytes[TAG_V] = BYTES;
    t.unique_written_bytes[TAG_WORK] = sizeof got;
    kk_tally(k, &t);
}

static void refuses(void **state)
{
    struct kk *k = *state;
    struct copy_args a = {.bytes = 24, .blocks = 1};

    kk_refused(k, copy_run(k->d, &a), "copy: 24 bytes are not a positive multiple of 16");
    a.bytes = 0;
    kk_refused(k, stream_run(k->d, &a), "copy: 0 bytes are not a positive multiple of 16");
    a.bytes = 16;
    a.blocks = 0;
    kk_refused(k, copy_run(k->d, &a), "copy: 0 blocks, not 1 to 65535");
    a.blocks = 65536;
    kk_refused(k, copy_run(k->d, &a), "copy: 65536 blocks, not 1 to 65535");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(copies),   kk_reversed(copies), kk_test(sums),
        kk_reversed(sums), kk_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
