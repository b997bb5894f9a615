/* Sifting, with the place of every id kept. */
#include "sim/heap.h"

#include <assert.h>

static bool before(const struct heap_item *a, const struct heap_item *b)
{
    return a->key < b->key || (a->key == b->key && a->order < b->order);
}

static void put(struct heap *h, uint32_t at, struct heap_item item)
{
    h->items[at] = item;
    h->places[item.id] = at + 1;
}

static void sift_up(struct heap *h, uint32_t at, struct heap_item item)
{
    while (at) {
        uint32_t up = (at - 1) / 2;
        if (!before(&item, &h->items[up]))
            break;
        put(h, at, h->items[up]);
        at = up;
    }
    put(h, at, item);
}

static void sift_down(struct heap *h, uint32_t at, struct heap_item item)
{
    for (;;) {
        uint32_t down = 2 * at + 1;
        if (down >= h->n)
            break;
        if (down + 1 < h->n && before(&h->items[down + 1], &h->items[down]))
            down++;
        if (!before(&h->items[down], &item))
            break;
        put(h, at, h->items[down]);
        at = down;
    }
    put(h, at, item);
}

void heap_push(struct heap *h, struct heap_item item)
{
    if (h->n == h->room) {
        uint32_t room = h->room ? 2 * h->room : 64;
        h->items = arena_grow(h->arena, h->items, h->room, room, sizeof *h->items);
        h->room = room;
    }
    if (item.id >= h->n_ids) {
        uint32_t ids = item.id < 32 ? 64 : 2 * item.id;
        h->places = arena_grow(h->arena, h->places, h->n_ids, ids, sizeof *h->places);
        h->n_ids = ids;
    }
    assert(!h->places[item.id]);
    sift_up(h, h->n++, item);
}

void heap_remove(struct heap *h, uint32_t id)
{
    uint32_t at;
    struct heap_item last;

    if (id >= h->n_ids || !h->places[id])
        return;
    at = h->places[id] - 1;
    h->places[id] = 0;
    last = h->items[--h->n];
    if (at == h->n)
        return;
    if (at && before(&last, &h->items[(at - 1) / 2]))
        sift_up(h, at, last);
    else
        sift_down(h, at, last);
}

uint64_t heap_least(const struct heap *h)
{
    return h->n ? h->items[0].key : UINT64_MAX;
}

struct heap_item heap_pop(struct heap *h)
{
    struct heap_item first = h->items[0];

    heap_remove(h, first.id);
    return first;
}
