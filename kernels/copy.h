/* Bandwidth probes: a copy, and a read that leaves only a sum. They also are the smallest
 * examples of a kernel. */
#ifndef KVBUDGET_KERNELS_COPY_H
#define KVBUDGET_KERNELS_COPY_H

#include "kernels/device.h"

enum { COPY_THREADS = 256 };

struct copy_args {
    const void *from;
    void *to; /* copy_run: `bytes` bytes; stream_run: 4 bytes a block, each block's sum */
    enum tag from_tag, to_tag; /* for the formula only */
    uint64_t bytes;            /* a multiple of 16, at least 16 */
    uint32_t blocks;           /* 1..65535; a few per multiprocessor */
};

/* to = from. */
enum device_status copy_run(struct device *d, const struct copy_args *a);
/* to[b] = sum of the 32-bit words that block b reads, modulo 2^32: words 4 i .. 4 i + 3 belong
 * to block (i / COPY_THREADS) mod blocks. */
enum device_status stream_run(struct device *d, const struct copy_args *a);

/* What the two issue, exactly. Adds to *t. */
void copy_traffic(const struct copy_args *a, struct traffic *t);
void stream_traffic(const struct copy_args *a, struct traffic *t);

#endif
