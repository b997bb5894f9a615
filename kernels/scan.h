/* The recurrences of state-space and linear-attention layers. A head has a matrix S of v_dim
 * rows and k_dim columns, which a token changes and reads:
 *
 *     S = w * S;  S = S + u k^T;  y = S q
 *
 * in fp32, one token after the other; the state is read once, before the first token, and
 * written once, after the last. What w, u, k and q are:
 *
 *   SCAN_MAMBA1     one "head" of all channels, k_dim = N. dt = softplus(rate[row of S]), which
 *                   has its bias already; w = exp(-exp(a_log[row][column]) dt), u = dt v, and
 *                   y += d[row] v. source: arXiv:2312.00752 section 3
 *   SCAN_MAMBA2     dt = softplus(rate[head] + dt_bias[head]), w = exp(-exp(a_log[head]) dt),
 *                   u = dt v, y += d[head] v. source: arXiv:2405.21060 section 7
 *   SCAN_GDN        gated delta net: w = exp(-exp(a_log[head]) softplus(rate[head] +
 *                   dt_bias[head])), u = sigmoid(beta[head]) (v - w S k); k and q are divided
 *                   by their lengths, q also by sqrt(k_dim). source: arXiv:2412.06464
 *   SCAN_KDA        the same, where rate, dt_bias and so w have a number for each column.
 *                   source: arXiv:2510.26692
 *   SCAN_LIGHTNING  w = exp(-slope 2^(-8 (head + 1) / heads)), u = v; q, k and v pass through
 *                   SiLU first. source: arXiv:2501.08313 section 2.2
 *   SCAN_RETENTION  w = sigmoid(rate[head])^(1/16), u = v, k is divided by sqrt(k_dim). source:
 *                   arXiv:2405.05254 section 2.3 (without its rotation of q and k)
 *
 * Several heads may share k and q: head h has those of head h / (heads / k_heads). */
#ifndef KVBUDGET_KERNELS_SCAN_H
#define KVBUDGET_KERNELS_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/device.h"

#ifndef DEV_SHARED
#define DEV_SHARED static inline
#endif

enum { SCAN_THREADS = 128, SCAN_TOKENS = 8, SCAN_K_DIM_MIN = 16, SCAN_K_DIM_MAX = 256 };

enum scan_kind { SCAN_MAMBA1, SCAN_MAMBA2, SCAN_GDN, SCAN_KDA, SCAN_LIGHTNING, SCAN_RETENTION };

struct scan_args { /* row s * tokens + t is token t of sequence s; elements in 16 bits */
    enum scan_kind kind;
    const void *q, *k;           /* [rows][k_stride], the first [k_heads][k_dim] of each */
    const void *v;               /* [rows][v_stride], the first [heads][v_dim] of each */
    const void *rate;            /* [rows][rate_stride]: [heads], KDA [heads][k_dim], Mamba-1
                                    [v_dim]; lightning: none */
    const void *beta;            /* [rows][beta_stride]: [heads]; the delta rules only */
    const void *a_log;           /* [heads], Mamba-1 [v_dim][k_dim]; the first four kinds */
    const void *dt_bias;         /* [heads], KDA [heads][k_dim]; Mamba-2 and delta rules */
    const void *d;               /* [heads], Mamba-1 [v_dim]; Mamba only */
    void *state;                 /* of the first sequence: [heads][v_dim][k_dim] */
    void *out;                   /* [rows][heads][v_dim] */
    uint64_t slot_bytes;         /* from the state of a sequence to the next one's */
    uint32_t sequences, tokens;  /* at most 65535 sequences */
    uint32_t heads, k_heads;     /* k_heads divides heads */
    uint32_t k_dim;              /* 16, 32, 64, 128 or 256 */
    uint32_t v_dim;              /* a multiple of 8 */
    uint32_t k_stride, v_stride; /* elements; multiples of 8 */
    uint32_t rate_stride, beta_stride;
    float slope; /* lightning: of the layer */
    bool wide;   /* the state is fp32, else in 16 bits */
    bool fp16;
};

enum device_status scan_run(struct device *d, const struct scan_args *a);

/* What it issues, exactly: the state is TAG_STATE; a_log, dt_bias and d are TAG_WEIGHTS, the
 * rest TAG_ACTIVATION. Useful: 5 FLOP an element of S and token (decay, outer product, sum,
 * read-out), 7 under a delta rule, which also reads before it writes. Adds to *t. */
void scan_traffic(const struct scan_args *a, struct traffic *t);

/* Threads to a row of S, each with 16 or 32 elements of it; rows of a block of threads, and
 * blocks to a head. */
DEV_SHARED uint32_t scan_lanes(const struct scan_args *a)
{
    uint32_t elements = a->kind == SCAN_MAMBA1 ? 16 : 32;

    return a->k_dim <= elements ? 1 : a->k_dim / elements;
}

DEV_SHARED uint32_t scan_rows(const struct scan_args *a)
{
    return SCAN_THREADS / scan_lanes(a);
}

DEV_SHARED uint32_t scan_tiles(const struct scan_args *a)
{
    return a->v_dim / scan_rows(a) + (a->v_dim % scan_rows(a) != 0);
}

#endif
