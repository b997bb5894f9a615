/* The small kernels of a decoder layer besides attention and matrix products: RMS norm with the
 * residual sum, rotary positions, SwiGLU, and the choice of the most likely token. Activations
 * are bf16, or fp16 where `fp16` says so; arithmetic is in fp32. */
#ifndef KVBUDGET_KERNELS_LAYER_H
#define KVBUDGET_KERNELS_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/device.h"

enum { LAYER_THREADS = 256 };

struct norm_args {        /* s = x + residual; out = s / sqrt(mean(s^2) + epsilon) * weight */
    const void *x;        /* [rows][width] */
    void *residual;       /* [rows][width], becomes s rounded; NULL: s = x */
    const void *weight;   /* [width] */
    void *out;            /* [rows][width] */
    uint32_t rows, width; /* width: a multiple of 8 */
    float epsilon;
    bool fp16;
    bool wide_weight; /* the weight is fp32 */
};

/* In place, pairs of the first `rotary` elements of each head, pair i being elements
 * (i, i + rotary / 2), or (2 i, 2 i + 1) with `neighbours`:
 *     a' = a cos - b sin, b' = b cos + a sin
 * with the cosine and sine of its position from the table. source: arXiv:2104.09864; halves are
 * the order of GPT-NeoX and of Llama checkpoints in Transformers, neighbours that of GPT-J,
 * GLM, Cohere and DeepSeek. */
struct rope_args {
    void *x;                   /* [rows][heads][dim] */
    const uint32_t *position;  /* [rows] */
    const float *table;        /* [positions][rotary / 2] pairs (cos, sin), fp32 */
    uint32_t rows, heads, dim; /* dim: a multiple of 8 */
    uint32_t rotary;           /* a multiple of 16, at most dim */
    bool neighbours;
    bool fp16;
};

struct swiglu_args {      /* out = gate / (1 + exp(-gate)) * up */
    const void *gate_up;  /* [rows][2][width], as one product leaves them */
    void *out;            /* [rows][width] */
    uint32_t rows, width; /* width: a multiple of 8 */
    bool fp16;
};

struct argmax_args {      /* out = index of the largest, the first of equals */
    const float *logits;  /* [rows][width] */
    uint32_t *out;        /* [rows] */
    uint32_t rows, width; /* width: a multiple of 4, at most 2^24 */
};

enum device_status norm_run(struct device *d, const struct norm_args *a);
enum device_status rope_run(struct device *d, const struct rope_args *a);
enum device_status swiglu_run(struct device *d, const struct swiglu_args *a);
enum device_status argmax_run(struct device *d, const struct argmax_args *a);

/* What they issue, exactly; activations and logits are TAG_ACTIVATION, the norm's weight
 * TAG_WEIGHTS, positions, the rotary table and chosen tokens TAG_TABLES. Adds to *t. */
void norm_traffic(const struct norm_args *a, struct traffic *t);
void rope_traffic(const struct rope_args *a, struct traffic *t);
void swiglu_traffic(const struct swiglu_args *a, struct traffic *t);
void argmax_traffic(const struct argmax_args *a, struct traffic *t);

#endif
