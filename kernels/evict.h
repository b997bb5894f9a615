/* Eviction: a score for each stored row, the rows to keep, and the cache without the others.
 * Every method is these steps with another score: the L2 norm of the keys (norms_run), window
 * or running attention scores that other kernels leave in the same layout.
 *
 * A list is the rows of one head of one sequence; lists are numbered sequence * heads + head
 * whether or not the cache is ragged, and each has `width` places in scores and index. */
#ifndef KVBUDGET_KERNELS_EVICT_H
#define KVBUDGET_KERNELS_EVICT_H

#include "kernels/cache.h"
#include "kernels/device.h"

enum { EVICT_THREADS = 256, EVICT_WARPS = EVICT_THREADS / 32 };

struct norms_args { /* scores[list][i] = |k_i|, of the key as stored */
    struct cache_view c;
    float *scores; /* [lists][width] */
    uint32_t width;
    uint32_t blocks; /* that share the rows of a list */
};

/* The `keep` best rows of each list, in ascending order. Among equals the first ones stay. The
 * first `sinks` and last `recent` rows stay whatever their score, as part of `keep`. */
struct select_args {
    const float *scores;   /* [lists][width], no not-a-numbers */
    const uint32_t *count; /* [lists]: rows, at most width */
    const uint32_t *keep;  /* [lists]: at most count, at least sinks + recent if count is */
    uint32_t *index;       /* [lists][width]: keep of them are written */
    uint32_t lists, width;
    uint32_t sinks, recent;
    bool smallest; /* the best have the smallest scores */
};

/* Moves row index[list][j] to place j, for all j < keep[list], on both sides; index ascends.
 * The lengths become keep; without ragged tables that of a sequence's first head, and all its
 * heads must keep as many. Not for KIVI, whose groups of tokens share scales. */
struct compact_args {
    struct cache_view c;
    const uint32_t *index, *keep; /* as in select_args */
    uint32_t width;
    uint32_t *lengths; /* c.lengths */
};

enum device_status norms_run(struct device *d, const struct norms_args *a);
enum device_status select_run(struct device *d, const struct select_args *a);
enum device_status compact_run(struct device *d, const struct compact_args *a);

/* What they issue; scores, index, count and keep are TAG_WORK, lengths and tables TAG_TABLES;
 * lengths, count, keep and index: copies in host memory. Add to *t. */
void norms_traffic(const struct norms_args *a, const uint32_t *lengths, struct traffic *t);
void select_traffic(const struct select_args *a, const uint32_t *count, const uint32_t *keep,
                    struct traffic *t);
void compact_traffic(const struct compact_args *a, const uint32_t *keep, struct traffic *t);

#endif
