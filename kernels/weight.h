/* Products with weights that are stored in fewer or more than 16 bits:
 *
 *     out[r][n] = sum over k of x[r][k] * w[n][k] (+ bias[n])
 *
 * Weights are read once for 64 rows of x, as they are stored, and become bf16 or fp16, the type
 * of x, in registers; sums are fp32. Integers and floats of 8 bits keep their exact value until
 * the sum is scaled, unless a scale stands for part of a row only: then code times scale is
 * rounded to 16 bits. fp32 weights are rounded to 16 bits.
 *
 * A matrix is one piece of memory, its planes one after the other without gaps: codes, high
 * bits, order, factors, scales, zeros, of which a format has some. Scales that belong to groups
 * of columns stand as [group][outs], so that neighbouring rows are loaded together. */
#ifndef KVBUDGET_KERNELS_WEIGHT_H
#define KVBUDGET_KERNELS_WEIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/device.h"

enum { WEIGHT_THREADS = 128, WEIGHT_SPLITS_MAX = 64 };

/* Codes and their scales. Two codes of 4 bits share a byte so that of each 32-bit word nibble m
 * is element 2 m and nibble 4 + m element 2 m + 1. Codes of 5 and 6 bits have their low 4 there
 * and the others, in the same order, in a plane of high bits. */
enum weight_kind {
    WEIGHT_FP32,
    WEIGHT_FP8,        /* e4m3; fp32 scale a row, or one */
    WEIGHT_FP8_BLOCK,  /* e4m3; fp32 scale for 128 rows and 128 columns: [columns][rows] */
    WEIGHT_INT8,       /* bytes, 128 is nought; fp32 scale a row */
    WEIGHT_INT8_GROUP, /* bytes less 128, or less their zero of 8 bits; 16-bit scale a group */
    WEIGHT_INT4_GROUP, /* the same with 8 and zeros of 4 bits */
    WEIGHT_MXFP4,      /* e2m1; power of two (e8m0) for 32 columns. source: OCP MX 1.0 */
    WEIGHT_NVFP4,      /* e2m1; e4m3 scale for 16 columns, fp32 factor of the matrix */
    WEIGHT_NF4,        /* quantiles of a normal distribution; fp32 scale for 64 columns.
                          source: arXiv:2305.14314 appendix E */
    /* ggml's blocks of 256 columns, [block][outs] each. source: ggml-common.h */
    WEIGHT_Q4_K, /* fp16 d and m as factors; of 32 columns 6 bits of scale, then 6 of minimum:
                    d * scale * code - m * minimum */
    WEIGHT_Q5_K, /* the same with codes of 5 bits */
    WEIGHT_Q6_K  /* fp16 d; of 16 columns 8 bits of signed scale: d * scale * (code - 32) */
};
enum { N_WEIGHT_KINDS = WEIGHT_Q6_K + 1 };

struct weight_view {
    enum weight_kind kind;
    uint32_t outs, in; /* in: a multiple of 32, of 256 in ggml's blocks */
    uint32_t group;    /* *_GROUP: columns of a scale, 32 to 2^k, or at least `in`: a row's */
    bool one_scale;    /* FP8 */
    bool zeroed;       /* *_GROUP: a zero for each scale, packed; else the middle code */
    bool ordered;      /* column k of the codes multiplies x[order[k]] (GPTQ by activation) */
    const void *codes, *high, *order, *factors, *scales, *zeros; /* set by weight_place */
};

/* Bytes of the matrix, and where its planes lie when it begins at `at` (a multiple of 16). */
uint64_t weight_bytes(const struct weight_view *w);
void weight_place(struct weight_view *w, const void *at);

/* Rows of a matrix, and parts like it, one for each head; all 0: the matrix as a whole. In
 * FP8_BLOCK they begin at a multiple of 16 rows; across, x and what is summed up are a multiple
 * of 8 elements, without bias, splits and fp32. */
struct weight_part {
    uint32_t first, outs;      /* the first row, how many; outs 0: those from there on */
    uint32_t products, step;   /* parts (0 = 1), and rows from one to the next */
    uint32_t x_stride;         /* elements from a row of x to the next; 0 = as many as it has */
    uint32_t x_step, out_step; /* elements from x and out of one part to the next one's */
    bool across;               /* out[r][k] = sum over n of x[r][n] * w[first + n][k] */
};

struct weight_args {
    const void *x; /* [rows][in] in 16 bits; across: [rows][outs of the part] */
    struct weight_view w;
    struct weight_part part;
    const void *bias; /* [outs] in 16 bits, or NULL */
    void *out;        /* [rows][stride], the first `outs` (across: `in`) are written */
    uint32_t rows;
    uint32_t stride; /* elements, at least what is written; 0 = that */
    bool fp16;       /* 16 bits are fp16, else bf16 */
    bool wide;       /* out is fp32, else 16 bits */
    bool wide_bias;  /* the same of the bias */
    uint32_t splits; /* parts of a sum for blocks of their own, added up in order; 1 = none */
    void *work;      /* weight_work_bytes of it, for splits > 1 */
};

/* Splits that keep this many processors busy. */
uint32_t weight_splits(uint32_t rows, uint32_t outs, uint32_t in, uint32_t processors);
uint64_t weight_work_bytes(const struct weight_args *a); /* 0 without splits */

enum device_status weight_run(struct device *d, const struct weight_args *a);
/* What it issues, exactly. Adds to *t; the whole matrix is TAG_WEIGHTS. */
void weight_traffic(const struct weight_args *a, struct traffic *t);

/* Rows of a matrix by number, as an embedding is looked up: out[r] = w[index[r]], in 16 bits.
 * For kinds with scales of groups or blocks but FP8_BLOCK and NVFP4, not ordered. */
struct weight_rows_args {
    struct weight_view w;
    const uint32_t *index; /* [rows] */
    void *out;             /* [rows][in] */
    uint32_t rows;
    bool fp16;
};
enum device_status weight_rows_run(struct device *d, const struct weight_rows_args *a);
bool weight_rows_has(const struct weight_view *w); /* whether the kind is one of those */

/* Random codes and scales of any value that the format has but not-a-numbers, so that elements
 * have variance 1 / in; an order is a shuffle. */
struct weight_fill_args {
    struct weight_view w;
    uint64_t seed;
    bool fp16; /* of 16-bit scales */
    /* set by weight_fill_run: the size of an element, 16-byte units of codes, words of high
     * bits, scales, bytes of zeros, and the step of the shuffle */
    float scale;
    uint64_t codes, high, scales, zeros;
    uint32_t stride;
};
enum device_status weight_fill_run(struct device *d, const struct weight_fill_args *a);

#endif
