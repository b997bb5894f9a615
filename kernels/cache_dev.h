/* Device code for rows of a cache: where a token lies, and units of 8 elements read and
 * decoded. Included by .cu files. `store` and `value` are given apart so that they are
 * constants where a kernel is made for one format. */
#ifndef KVBUDGET_KERNELS_CACHE_DEV_H
#define KVBUDGET_KERNELS_CACHE_DEV_H

#include "kernels/dev.h"

#include "kernels/cache.h"

struct place {      /* of one token of one head */
    uint64_t row;   /* in codes, and in scales by row */
    uint32_t token; /* its index in the sequence */
    bool valid;     /* else nothing is read, and elements are 0 */
};

struct head_at { /* a head of a sequence */
    const uint32_t *table;
    uint32_t page_heads, head; /* rows of a page: heads in it, and which is ours */
    uint64_t full_row;         /* of its first slot in `full` */
};

DEV uint64_t cache_slot_of(const struct cache_view *c, uint32_t sequence, uint32_t head)
{
    return c->ragged ? (uint64_t)sequence * c->heads + head : sequence;
}

DEV struct head_at cache_head(const struct cache_view *c, uint32_t sequence, uint32_t head)
{
    struct head_at h;

    h.table = c->table + cache_slot_of(c, sequence, head) * c->max_pages;
    h.page_heads = c->ragged ? 1 : c->heads;
    h.head = c->ragged ? 0 : head;
    h.full_row = ((uint64_t)sequence * c->heads + head) * c->residual;
    return h;
}

DEV struct place cache_place(struct lane *t, const struct cache_view *c,
                             const struct head_at *h, uint32_t token, bool valid)
{
    struct place p = {0, token, valid};

    if (valid) {
        uint64_t page = dev_load32(t, h->table + token / c->page_tokens);
        p.row = (page * h->page_heads + h->head) * c->page_tokens + token % c->page_tokens;
    }
    return p;
}

#endif
