/* A cache in device memory for one class of the planner's rows: pools in the row's storage
 * formats, a page table and a length a sequence (ragged rows: a head). The count checks run
 * kernels on it; their contents are random bits that mean finite numbers. */
#ifndef KVBUDGET_VALIDATE_PAGED_H
#define KVBUDGET_VALIDATE_PAGED_H

#include "kernels/cache.h"
#include "kernels/device.h"
#include "planner/base/arena.h"
#include "planner/base/rng.h"
#include "planner/cache/layout.h"

struct paged {
    struct cache_view view;
    uint32_t *lengths; /* host copy: [sequences][ragged ? heads : 1] */
    uint32_t lists;    /* entries of lengths */
    uint64_t pages;
};

struct paged_in {
    const struct cache_row *row; /* as one rank stores it */
    uint32_t sequences;
    uint32_t room; /* tokens each list has pages for */
    uint32_t page_tokens;
};

/* The view of such a cache, without memory: pools and tables are NULL, but `scales` is not
 * where an 8-bit row has a scale of its own, so that sizes count it. */
void paged_view(const struct paged_in *in, struct cache_view *out);

/* NULL, or why no kernel can hold rows like this one. */
const char *paged_refuses(const struct cache_row *row);

/* Bytes of device memory that paged_open allocates. */
uint64_t paged_bytes(const struct paged_in *in);

/* Allocates and fills. Lengths are 0 until paged_lengths sets them. The device owns the memory.
 */
enum device_status paged_open(struct device *d, struct arena *a, const struct paged_in *in,
                              struct rng *rng, struct paged *out);

/* Every list gets `tokens`; ragged ones differ at random, with that mean in each sequence. */
enum device_status paged_lengths(struct device *d, struct paged *p, uint32_t tokens,
                                 struct rng *rng);

/* New device memory with these bytes in it. */
enum device_status paged_put(struct device *d, enum tag tag, const void *from, uint64_t bytes,
                             void *out);
/* The same with random 16-bit floats below 1 in size. */
enum device_status paged_random(struct device *d, struct arena *a, struct rng *rng,
                                uint64_t elements, void *out);

#endif
