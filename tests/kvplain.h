/* What the plain decoders of kvdecoder.h and kvlatent.h share: rounding as a 16-bit program
 * would do it, weights of the decoder, products, and numbers of 8 bits. */
#ifndef KVBUDGET_TESTS_KVPLAIN_H
#define KVBUDGET_TESTS_KVPLAIN_H

#include <math.h>
#include <string.h>

#include "planner/cache/layout.h"
#include "tests/kvstore.h"
#include "validate/decoder.h"

static inline double kq_round(bool naive, double x)
{
    return naive ? ks_round_bf16(x) : x;
}

/* NULL: the decoder has none of this name. */
static inline double *kq_tensor(struct arena *a, struct decoder *x, int layer, const char *name)
{
    uint64_t n = 0;
    uint16_t *bits;
    double *out;

    if (!decoder_tensor(x, layer, name, NULL, &n))
        return NULL;
    bits = ARENA_NEW(a, uint16_t, n);
    out = ARENA_NEW(a, double, n);
    assert_true(decoder_tensor(x, layer, name, bits, &n));
    for (uint64_t i = 0; i < n; i++)
        out[i] = ks_bf16(bits[i]);
    return out;
}

struct kq_weight { /* [outs][in]; bias NULL: none */
    const double *w, *bias;
    uint32_t outs, in;
};

/* naive: sums in fp32, results of 16 bits. */
static inline void kq_product(bool naive, const double *x, const struct kq_weight *w,
                              double *out)
{
    for (uint32_t n = 0; n < w->outs; n++) {
        const double *row = w->w + (size_t)n * w->in;
        double sum = 0;
        for (uint32_t k = 0; k < w->in; k++)
            sum = naive ? (float)(sum + x[k] * row[k]) : sum + x[k] * row[k];
        out[n] = kq_round(naive, sum + (w->bias ? w->bias[n] : 0));
    }
}

/* The nearest number of fp8 e4m3, by its definition. */
static inline double kq_fp8(double x)
{
    double size = fmin(fabs(x), 448);
    int e;

    if (size < ldexp(1, -6))
        return copysign(nearbyint(size * 512) / 512, x);
    size = frexp(size, &e);
    return copysign(fmin(ldexp(nearbyint(size * 16), e - 4), 448), x);
}

#endif
