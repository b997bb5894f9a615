/* Products of activations and weights:
 *
 *     out[r][n] = sum over k of x[r][k] * w[n][k] (+ bias[n])
 *
 * or, `across`, of x[r][k] * w[k][n], with fp32 sums. Several products of one shape may run
 * together, one for each head of a layer (MLA). On a GPU cuBLASLt does it, opened at the first
 * product (a library of a few hundred megabytes, of which nothing is linked); the CPU build has
 * plain loops. What cuBLASLt reads again and again is its own affair, so that the traffic is
 * declared and not counted: each operand once. */
#ifndef KVBUDGET_KERNELS_GEMM_H
#define KVBUDGET_KERNELS_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/device.h"

struct gemm_args {
    const void *x;    /* [rows][in] in 16 bits */
    const void *w;    /* [outs][in] in 16 bits */
    const void *bias; /* [outs] in 16 bits, or NULL */
    void *out;        /* [rows][stride], the first `outs` of each row are written */
    uint32_t rows, outs, in;
    uint32_t stride;   /* elements, at least outs; 0 = outs */
    uint32_t x_stride; /* elements from a row of x to the next, at least in; 0 = in */
    bool across;       /* w is [in][outs] */
    uint32_t products; /* of the same shape, one after the other; 0 = 1; without bias */
    uint64_t x_step, w_step, out_step; /* elements from one of them to the next */
    bool fp16;                         /* 16 bits are fp16, else bf16 */
    bool wide;                         /* out is fp32, else 16 bits; without bias */
    void *work;                        /* for cuBLASLt; may be NULL */
    uint64_t work_bytes;               /* gemm_work_bytes or less */
    enum tag w_tag;                    /* for the formula: TAG_WEIGHTS, or that of probes */
};

/* Work memory that cuBLASLt makes use of on this device; 0 on the CPU. */
uint64_t gemm_work_bytes(struct device *d);

/* in, x_stride and the steps: multiples of 8 elements; outs too where `across`. Addresses: of
 * 16 bytes, that of work of 256. DEVICE_UNSUPPORTED, with what was looked for, where there is
 * no usable cuBLASLt. */
enum device_status gemm_run(struct device *d, const struct gemm_args *a);

/* What a product reads, writes and computes. Adds to *t. */
void gemm_traffic(const struct gemm_args *a, struct traffic *t);

#endif
