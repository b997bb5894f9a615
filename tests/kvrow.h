/* Rows of activations for the tests of kernels: random ones on the device, results within half
 * a unit in the last place, and tallies against formulas. */
#ifndef KVBUDGET_TESTS_KVROW_H
#define KVBUDGET_TESTS_KVROW_H

#include "tests/kvstore.h"

static inline double kr_decoded(uint16_t h, bool fp16)
{
    return fp16 ? ks_fp16(h) : ks_bf16(h);
}

/* n random 16-bit numbers on the device, and what they are in *x. */
static inline void *kr_random(struct kk *k, enum tag tag, uint64_t n, bool fp16, double **x)
{
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n);

    *x = ARENA_NEW(k->a, double, n);
    for (uint64_t i = 0; i < n; i++) {
        double v = kk_normal(k);
        bits[i] = fp16 ? ks_bits_fp16(v) : ks_bits_bf16(v);
        (*x)[i] = kr_decoded(bits[i], fp16);
    }
    return kk_put(k, tag, bits, 2 * n);
}

/* One rounding to 16 bits (half a unit: 2^-8 or 2^-11 relative) and a little fp32. */
static inline void kr_close(struct kk *k, const void *p, uint64_t n, bool fp16,
                            const double *want)
{
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n);
    double relative = fp16 ? ldexp(1, -11) : ldexp(1, -8);

    kk_get(k, bits, p, 2 * n);
    for (uint64_t i = 0; i < n; i++) {
        double got = kr_decoded(bits[i], fp16);
        double allowed = 1.0001 * relative * fabs(want[i]) + 1e-6;
        if (!(fabs(got - want[i]) <= allowed))
            print_error("element %llu: %g for %g\n", (unsigned long long)i, got, want[i]);
        assert_true(fabs(got - want[i]) <= allowed);
    }
}

/* As the formula says, each byte once where that follows from the sizes. */
static inline void kr_counted(struct kk *k, const struct traffic *issued,
                              const uint64_t *unique_read, const uint64_t *unique_written)
{
    struct tally want = {.issued = *issued, .launches = 1};

    memcpy(want.unique_read_bytes, unique_read, sizeof want.unique_read_bytes);
    memcpy(want.unique_written_bytes, unique_written, sizeof want.unique_written_bytes);
    kk_tally(k, &want);
}

/* Squares of errors, against double precision: those of the kernel and of a plain program. */
struct kr_error {
    double ours, naive;
};

/* What a plain program has is rounded to fp32 after each operation, results to 16 bits. */
static inline void kr_compare(struct kk *k, const void *p, uint64_t n, bool fp16,
                              const double *want, const double *naive, struct kr_error *e)
{
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n);

    kk_get(k, bits, p, 2 * n);
    for (uint64_t i = 0; i < n; i++) {
        float plain = (float)naive[i];
        e->ours += pow(kr_decoded(bits[i], fp16) - want[i], 2);
        e->naive += pow((fp16 ? ks_round_fp16(plain) : ks_round_bf16(plain)) - want[i], 2);
    }
}

static inline void kr_good(const struct kr_error *e)
{
    if (!(e->ours <= 4 * e->naive))
        print_error("error %g, of a plain program %g\n", sqrt(e->ours), sqrt(e->naive));
    assert_true(e->ours <= 4 * e->naive);
}

#endif
