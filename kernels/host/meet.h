/* Where threads of the CPU build wait for each other: for what, and what each one brings. */
#ifndef KVBUDGET_KERNELS_HOST_MEET_H
#define KVBUDGET_KERNELS_HOST_MEET_H

#include <stdint.h>

#include "kernels/host/tile.h"

struct lane;

/* What a waiting thread waits for. From HOST_SYNC on the 32 threads of a warp meet, at
 * HOST_SCORES and HOST_VALUES the 128 of a warpgroup. */
enum host_wait {
    HOST_NONE,
    HOST_DONE,
    HOST_BARRIER,
    HOST_SCORES,
    HOST_VALUES,
    HOST_SYNC,
    HOST_SUM,
    HOST_MAX,
    HOST_SUM_ROWS,
    HOST_MAX_ROWS,
    HOST_TRANSPOSE,
    HOST_SHUFFLE,
    HOST_BALLOT,
    HOST_MMA_BF16,
    HOST_MMA_FP16,
    HOST_LDMATRIX,
    HOST_LDMATRIX_TRANSPOSED
};

union host_slot { /* what a thread brings to a meeting, and takes from it */
    float f;
    uint32_t u;
    const void *p;
    struct {
        float c[4];
        uint32_t a[4], b[2];
    } mma;
    uint32_t r[4];
    struct host_tiles tile;
};

/* Meets the others (the block at a HOST_BARRIER, else the warp). */
void host_meet(struct lane *t, enum host_wait w, uint32_t width, const char *place);
/* What a complete warp computes, in[] to out[]. */
void host_meeting(struct lane *warp, enum host_wait w, uint32_t width);
const char *host_wait_name(enum host_wait w);

#endif
