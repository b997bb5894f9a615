/* Quest: nothing is dropped; each page of keys has the smallest and largest of every channel,
 * from which a query learns how much it could look at the page, and attention reads the pages
 * that promise most.
 *
 *     bounds_run    after an append: the pages that changed
 *     estimate_run  a score for each page
 *     select_run    (evict.h) over pages, with recent = 1: the newest page is always read
 *     pick_run      tables of the pages selected, which decode_run takes as a ragged view
 *
 * Pages are those of the cache. source: arXiv:2406.10774; mit-han-lab/Quest@01c1623. */
#ifndef KVBUDGET_KERNELS_PAGES_H
#define KVBUDGET_KERNELS_PAGES_H

#include "kernels/cache.h"
#include "kernels/device.h"

enum { PAGES_THREADS = 128, PICK_THREADS = 256 };

/* bounds[page of the pool][head][2][k.dim]: smallest, then largest of each channel of the keys
 * as stored, in bf16, or fp16 where the cache is fp16; ragged: [page][2][k.dim]. */
struct bounds_args {
    struct cache_view c;
    void *bounds;
    const uint32_t
        *first; /* as c.lengths: pages whose rows are all before this token are left alone */
};

/* scores[list][p] = sum over the query heads of the K/V head, or the largest of them, of
 *
 *     sum over channels d of max(q_d * smallest_d, q_d * largest_d)
 */
struct estimate_args {
    struct cache_view c;
    const void *bounds;
    const void *q;    /* [sequences][q_heads][k.dim] bf16; fp16 where the cache is fp16 */
    float *scores;    /* [lists][width] */
    uint32_t width;   /* places of a list, at least its pages */
    uint32_t q_heads; /* a multiple of c.heads */
    bool largest;
};

/* Ragged tables over the pools of a view, for each list the pages index[list][j], j <
 * count[list], or, with no index, all pages in use: then only the numbering changes, from
 * pages of all heads to pages of one (page * heads + head), and heads may go on to keep
 * different rows. Index ascends; the view's newest page, if it is there, is the last. */
struct pick_args {
    struct cache_view c;
    const uint32_t *index; /* [lists][width], or NULL */
    const uint32_t *count; /* [lists]; with an index */
    uint32_t width;
    uint32_t *table;   /* [lists][c.max_pages]: as many as picked are written */
    uint32_t *lengths; /* [lists]: rows in them */
};

/* Bytes of bounds for `pages` pages of the pool. */
uint64_t bounds_bytes(const struct cache_view *c, uint64_t pages);

enum device_status bounds_run(struct device *d, const struct bounds_args *a);
enum device_status estimate_run(struct device *d, const struct estimate_args *a);
enum device_status pick_run(struct device *d, const struct pick_args *a);

/* What they issue. Bounds are TAG_STATE, queries TAG_ACTIVATION, scores, index and count
 * TAG_WORK, tables, lengths and first TAG_TABLES; lengths, first and count: copies in host
 * memory. Useful are 4 k.dim FLOP a query head and page. Add to *t. */
void bounds_traffic(const struct bounds_args *a, const uint32_t *lengths, const uint32_t *first,
                    struct traffic *t);
void estimate_traffic(const struct estimate_args *a, const uint32_t *lengths,
                      struct traffic *t);
void pick_traffic(const struct pick_args *a, const uint32_t *lengths, const uint32_t *count,
                  struct traffic *t);

#endif
