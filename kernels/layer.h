/* The small kernels of a decoder layer besides attention and matrix products: RMS and layer
 * norm with the residual sum, rotary positions, SwiGLU, gates, what is done to logits, and the
 * choice of the most likely token. Activations are bf16, or fp16 where `fp16` says so;
 * arithmetic is in fp32. */
#ifndef KVBUDGET_KERNELS_LAYER_H
#define KVBUDGET_KERNELS_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/device.h"

enum { LAYER_THREADS = 256 };

/* s = x + residual, m = mean(s) where it is centred (layer norm), else 0 (RMS norm):
 *     out = (s - m) / sqrt(mean((s - m)^2) + epsilon) * weight + bias
 * source: arXiv:1607.06450, arXiv:1910.07467 */
struct norm_args {
    const void *x;        /* [rows][width] */
    void *residual;       /* [rows][width], becomes s rounded; NULL: s = x */
    const void *weight;   /* [width]; NULL: ones */
    const void *bias;     /* [width]; NULL: none */
    void *out;            /* [rows][width]; x or the residual itself is fine */
    uint32_t rows, width; /* width: a multiple of 8 */
    float epsilon;
    bool centred;
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

/* x = x / (1 + exp(-gate)), in place; plain: x = x * gate */
struct scale_args {
    void *x;              /* [rows][heads][dim] */
    const void *gate;     /* rows of [heads], or of [heads][dim] with `each` */
    uint32_t rows, heads; /* of x */
    uint32_t dim;         /* a multiple of 8 */
    uint32_t stride;      /* elements between rows of gates, with `each` a multiple of 8; 0: all
                             rows of x have the same */
    bool each, plain;
    bool fp16;
    enum tag gate_tag; /* for the formula only */
};

/* x = x + bias, then cap * tanh(x / cap). source of the cap: arXiv:2408.00118, section 2 */
struct logits_args {
    float *x;         /* [rows][stride], the first `width` of each row */
    const void *bias; /* [width] in 16 bits; NULL: none */
    uint32_t rows, width;
    uint32_t stride; /* at least width */
    float cap;       /* 0: none */
    bool fp16;
};

struct argmax_args {      /* out = index of the largest, the first of equals */
    const float *logits;  /* [rows][stride], the first `width` of each row */
    uint32_t *out;        /* [rows] */
    uint32_t rows, width; /* width: at most 2^24 */
    uint32_t stride;      /* a multiple of 4, at least width; 0 = width */
};

enum device_status norm_run(struct device *d, const struct norm_args *a);
enum device_status rope_run(struct device *d, const struct rope_args *a);
enum device_status swiglu_run(struct device *d, const struct swiglu_args *a);
enum device_status scale_run(struct device *d, const struct scale_args *a);
enum device_status logits_run(struct device *d, const struct logits_args *a);
enum device_status argmax_run(struct device *d, const struct argmax_args *a);

/* What they issue, exactly; activations and logits are TAG_ACTIVATION, weights and biases
 * TAG_WEIGHTS, positions, the rotary table and chosen tokens TAG_TABLES. Adds to *t. */
void norm_traffic(const struct norm_args *a, struct traffic *t);
void rope_traffic(const struct rope_args *a, struct traffic *t);
void swiglu_traffic(const struct swiglu_args *a, struct traffic *t);
void scale_traffic(const struct scale_args *a, struct traffic *t);
void logits_traffic(const struct logits_args *a, struct traffic *t);
void argmax_traffic(const struct argmax_args *a, struct traffic *t);

#endif
