/* ChunkKV: whole chunks of neighbouring rows stay or go, the same in all heads of a sequence,
 *
 *     out[list][i] = mean over the rows j of i's chunk of the sum over the heads of s[head][j]
 *
 * where s are scores of rows (scores.h, pooled); the newest `window` rows, which ranked the
 * others and have no score, get the largest of the sequence's. The last chunk may be short.
 * Rows of a chunk come out equal, so that select_run (evict.h) keeps or drops them together.
 *
 * source: arXiv:2502.00299; NVIDIA/kvpress@8bb29b9 chunkkv_press.py, snapkv_press.py. */
#ifndef KVBUDGET_KERNELS_CHUNKS_H
#define KVBUDGET_KERNELS_CHUNKS_H

#include "kernels/device.h"

enum { CHUNKS_THREADS = 256, CHUNKS_WARPS = CHUNKS_THREADS / 32 };

struct chunks_args {
    const float *scores;   /* [sequences][heads][width] */
    float *out;            /* the same shape, other memory */
    const uint32_t *count; /* [sequences]: rows of each head that have a score */
    uint32_t sequences, heads;
    uint32_t width; /* at least count + window */
    uint32_t window, chunk;
};

enum device_status chunks_run(struct device *d, const struct chunks_args *a);

/* What it issues; scores, out and count are TAG_WORK. count: a copy in host memory. Adds to *t.
 */
void chunks_traffic(const struct chunks_args *a, const uint32_t *count, struct traffic *t);

#endif
