/* A binary heap of what happens after so many steps: the smallest key first, among equal keys
 * the smallest order. An item is known by its id and can be taken out anywhere. */
#ifndef KVBUDGET_SIM_HEAP_H
#define KVBUDGET_SIM_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#include "planner/base/arena.h"

struct heap_item {
    uint64_t key, order;
    uint32_t id;
};

struct heap { /* zeroed but for `arena`: empty */
    struct arena *arena;
    struct heap_item *items;
    uint32_t *places; /* [n_ids]: 1 + where the id stands, 0 = nowhere */
    uint32_t n, room, n_ids;
};

/* The id must not be in the heap yet. O(log n). */
void heap_push(struct heap *h, struct heap_item item);
/* Takes an id out; nothing happens where it is not in. O(log n). */
void heap_remove(struct heap *h, uint32_t id);
/* The smallest key, UINT64_MAX when empty. */
uint64_t heap_least(const struct heap *h);
/* Takes out and returns the first item; the heap is not empty. */
struct heap_item heap_pop(struct heap *h);

#endif
