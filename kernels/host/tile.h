/* Products of tiles by a warpgroup on the CPU: tile.c. Included through host.h. */
#ifndef KVBUDGET_KERNELS_HOST_TILE_H
#define KVBUDGET_KERNELS_HOST_TILE_H

#include <stdbool.h>
#include <stdint.h>

enum { WARPGROUP = 128, HOST_PRODUCTS_MAX = 2 };

struct lane;

struct host_tiles {    /* what a thread brings to a product */
    const void *a, *b; /* a: a tile, or the thread's own words */
    const float *c;
    uint32_t size; /* units of 16 in a dot product, or columns of the result */
    bool fp16;
};

struct host_product { /* a product of tiles under way */
    float *c;
    uint32_t n;
    float result[64];
};

/* What a complete warpgroup computes, into the newest product of its threads; of HOST_SCORES,
 * or else of HOST_VALUES. */
void host_tile_meeting(struct lane *group, bool scores);

#define dev_tile_scores(t, x, a, b, units, fp16)                                               \
    host_tile_scores((t), (x), (a), (b), (units), (fp16), DEV_PLACE)
#define dev_tile_values(t, o, prob, v, columns, fp16)                                          \
    host_tile_values((t), (o), (prob), (v), (columns), (fp16), DEV_PLACE)
#define dev_tile_fence(t) ((void)(t))
#define dev_settle(t, x) ((void)(t), (void)(x))
#define dev_tile_wait(t, n) host_tile_wait((t), (n))

void host_tile_scores(struct lane *t, float *x, const void *a, const void *b, uint32_t units,
                      bool fp16, const char *place);
void host_tile_values(struct lane *t, float *o, uint32_t prob[][4], const void *v,
                      uint32_t columns, bool fp16, const char *place);
void host_tile_wait(struct lane *t, uint32_t pending);

#endif
