/* The queue is a ring of nodes through node 0; the table probes linearly and deletes by moving
 * followers back, so that it never fills with marks. */
#include "sim/prefix.h"

#include <assert.h>

#include "planner/base/ck.h"

struct prefix_node {
    uint64_t hash, blocks;
    uint32_t refs;
    uint32_t prev, next; /* in the queue; next also chains spare nodes */
    bool entry;
};

static uint32_t slot_of(const struct prefix *p, uint64_t hash)
{
    uint64_t mixed;

    __builtin_mul_overflow(hash ^ (hash >> 32), UINT64_C(0x9e3779b97f4a7c15), &mixed);
    return (uint32_t)(mixed >> 32) & (p->table_room - 1);
}

static uint32_t node_new(struct prefix *p)
{
    uint32_t at = p->spare;

    if (at) {
        p->spare = p->nodes[at].next;
    } else {
        if (p->n_nodes == p->room) {
            p->nodes =
                arena_grow(p->arena, p->nodes, p->room, 2 * (size_t)p->room, sizeof *p->nodes);
            p->room *= 2;
        }
        at = p->n_nodes++;
    }
    p->nodes[at] = (struct prefix_node){0};
    return at;
}

static void node_drop(struct prefix *p, uint32_t at)
{
    p->nodes[at].next = p->spare;
    p->spare = at;
}

static void append(struct prefix *p, uint32_t at)
{
    struct prefix_node *end = &p->nodes[0], *n = &p->nodes[at];

    n->prev = end->prev;
    n->next = 0;
    p->nodes[end->prev].next = at;
    end->prev = at;
}

static void unlink_node(struct prefix *p, uint32_t at)
{
    struct prefix_node *n = &p->nodes[at];

    p->nodes[n->prev].next = n->next;
    p->nodes[n->next].prev = n->prev;
}

void prefix_init(struct prefix *p, struct arena *a, uint64_t blocks)
{
    *p = (struct prefix){.arena = a, .n_nodes = 1, .room = 256, .table_room = 256};
    p->nodes = ARENA_NEW(a, struct prefix_node, p->room);
    p->table = ARENA_NEW(a, uint32_t, p->table_room);
    prefix_give(p, blocks);
}

/* --- the table ------------------------------------------------------------------------ */

uint32_t prefix_find(const struct prefix *p, uint64_t hash)
{
    uint32_t mask = p->table_room - 1;

    for (uint32_t i = slot_of(p, hash);; i = (i + 1) & mask)
        if (!p->table[i] || p->nodes[p->table[i]].hash == hash)
            return p->table[i];
}

static void table_put(struct prefix *p, uint32_t at)
{
    uint32_t mask = p->table_room - 1, i = slot_of(p, p->nodes[at].hash);

    while (p->table[i])
        i = (i + 1) & mask;
    p->table[i] = at;
}

static void table_grow(struct prefix *p)
{
    const uint32_t *old = p->table;
    uint32_t n = p->table_room;

    p->table_room = 2 * n;
    p->table = ARENA_NEW(p->arena, uint32_t, p->table_room);
    for (uint32_t i = 0; i < n; i++)
        if (old[i])
            table_put(p, old[i]);
}

static void table_remove(struct prefix *p, uint64_t hash)
{
    uint32_t mask = p->table_room - 1, hole = slot_of(p, hash);

    while (p->nodes[p->table[hole]].hash != hash)
        hole = (hole + 1) & mask;
    for (uint32_t i = (hole + 1) & mask; p->table[i]; i = (i + 1) & mask) {
        uint32_t home = slot_of(p, p->nodes[p->table[i]].hash);
        if (((i + p->table_room - home) & mask) < ((i + p->table_room - hole) & mask))
            continue;
        p->table[hole] = p->table[i];
        hole = i;
    }
    p->table[hole] = 0;
}

/* --- taking and giving ---------------------------------------------------------------- */

/* The entry has lost its last block. */
static void forget(struct prefix *p, uint32_t at)
{
    table_remove(p, p->nodes[at].hash);
    p->n_entries--;
    node_drop(p, at);
}

void prefix_take(struct prefix *p, uint64_t blocks)
{
    assert(blocks <= p->free_blocks);
    p->free_blocks -= blocks;
    while (blocks) {
        uint32_t at = p->nodes[0].next;
        struct prefix_node *n = &p->nodes[at];
        uint64_t some = u64_min(blocks, n->blocks);
        n->blocks -= some;
        blocks -= some;
        if (n->entry) {
            p->cached_blocks -= some;
            p->entry_blocks -= some;
            p->evicted += some;
        }
        if (n->blocks)
            return;
        unlink_node(p, at);
        if (n->entry)
            forget(p, at);
        else
            node_drop(p, at);
    }
}

uint64_t prefix_blank(const struct prefix *p)
{
    const struct prefix_node *first = &p->nodes[p->nodes[0].next];

    if (!p->cached_blocks)
        return p->free_blocks;
    return first->entry ? 0 : first->blocks;
}

void prefix_give(struct prefix *p, uint64_t blocks)
{
    uint32_t last = p->nodes[0].prev;

    if (!blocks)
        return;
    p->free_blocks += blocks;
    if (last && !p->nodes[last].entry) {
        p->nodes[last].blocks += blocks;
        return;
    }
    last = node_new(p);
    p->nodes[last].blocks = blocks;
    append(p, last);
}

uint64_t prefix_blocks(const struct prefix *p, uint32_t entry)
{
    return p->nodes[entry].blocks;
}

bool prefix_unused(const struct prefix *p, uint32_t entry)
{
    return !p->nodes[entry].refs;
}

uint32_t prefix_insert(struct prefix *p, uint64_t hash)
{
    uint32_t at;

    if (2 * ++p->n_entries > p->table_room)
        table_grow(p);
    at = node_new(p);
    p->nodes[at].hash = hash;
    p->nodes[at].entry = true;
    p->nodes[at].refs = 1;
    table_put(p, at);
    return at;
}

void prefix_extend(struct prefix *p, uint32_t entry, uint64_t blocks)
{
    p->nodes[entry].blocks += blocks;
    p->entry_blocks += blocks;
}

void prefix_ref(struct prefix *p, uint32_t entry)
{
    struct prefix_node *n = &p->nodes[entry];

    if (n->refs++)
        return;
    unlink_node(p, entry);
    p->free_blocks -= n->blocks;
    p->cached_blocks -= n->blocks;
}

void prefix_unref(struct prefix *p, uint32_t entry)
{
    struct prefix_node *n = &p->nodes[entry];

    if (--n->refs)
        return;
    if (!n->blocks) {
        forget(p, entry);
        return;
    }
    p->free_blocks += n->blocks;
    p->cached_blocks += n->blocks;
    append(p, entry);
}

void prefix_absorb(struct prefix *p, uint32_t entry)
{
    uint64_t blocks = p->nodes[entry].blocks;

    assert(!p->nodes[entry].refs);
    unlink_node(p, entry);
    p->free_blocks -= blocks;
    p->cached_blocks -= blocks;
    p->entry_blocks -= blocks;
    forget(p, entry);
}

bool prefix_check(const struct prefix *p)
{
    uint64_t queued = 0, cached = 0, all = 0;
    uint32_t entries = 0, prev = 0;

    for (uint32_t at = p->nodes[0].next; at; at = p->nodes[at].next) {
        const struct prefix_node *n = &p->nodes[at];
        if (n->prev != prev || !n->blocks || n->refs)
            return false;
        queued += n->blocks;
        cached += n->entry ? n->blocks : 0;
        prev = at;
    }
    for (uint32_t i = 0; i < p->table_room; i++) {
        if (!p->table[i])
            continue;
        entries++;
        all += p->nodes[p->table[i]].blocks;
        if (prefix_find(p, p->nodes[p->table[i]].hash) != p->table[i])
            return false;
    }
    return queued == p->free_blocks && cached == p->cached_blocks && all == p->entry_blocks &&
           entries == p->n_entries && p->nodes[0].prev == prev;
}
