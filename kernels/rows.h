/* Rows of activations on their way between the products: sums of rows picked by number (an
 * embedding is one row, a token's experts are several), GELU, and random numbers for weights
 * that stand in for real ones. */
#ifndef KVBUDGET_KERNELS_ROWS_H
#define KVBUDGET_KERNELS_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/device.h"

enum { ROWS_THREADS = 256 };

/* out[r] = onto[r] + factor * sum over j < terms of from[index[r][j]], in that order */
struct mix_args {
    const void *from;
    const uint32_t *index; /* [rows][terms]; NULL: row after row */
    const void *onto;      /* [rows][width], may be out itself; NULL: nothing */
    void *out;             /* [rows][width] */
    uint32_t rows, width;  /* width: a multiple of 8 */
    uint32_t terms;        /* 1: a plain gather (with factor 1) */
    float factor;
    bool fp16;
    bool wide_from;    /* `from` is fp32 */
    enum tag from_tag; /* for the formula only */
};

struct gelu_args {  /* out = x * Phi(x), by the approximation with tanh */
    const void *x;  /* [count] */
    void *out;      /* the same place, or another */
    uint64_t count; /* a multiple of 8 */
    bool fp16;
};

/* out[i] = mean + spread * (u(seed, i) - 1/2), u even in [0, 1) and a hash of its arguments. */
struct noise_args {
    void *out;
    uint64_t count; /* a multiple of 8 */
    uint64_t seed;
    float mean, spread;
    bool fp16;
    bool wide;    /* out is fp32 */
    enum tag tag; /* for the formula only */
};

enum device_status mix_run(struct device *d, const struct mix_args *a);
enum device_status gelu_run(struct device *d, const struct gelu_args *a);
enum device_status noise_run(struct device *d, const struct noise_args *a);

/* What they issue, exactly; the indices are TAG_TABLES, the rest as the tags say, or
 * TAG_ACTIVATION. Add to *t. */
void mix_traffic(const struct mix_args *a, struct traffic *t);
void gelu_traffic(const struct gelu_args *a, struct traffic *t);
void noise_traffic(const struct noise_args *a, struct traffic *t);

#endif
