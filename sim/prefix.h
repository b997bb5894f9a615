/* Blocks kept under their hash after use, and the order in which space is taken: the free
 * blocks of a paged server stand in one queue, blank ones and ones that still hold a known
 * prefix; taking starts at its front, giving back appends to its end (so the least recently
 * used goes first), and a prefix that is asked for again leaves the queue from the middle.
 * source: vllm/v1/core/block_pool.py and kv_cache_utils.py (FreeKVCacheBlockQueue).
 *
 * A trace names stretches of `hash_tokens` tokens, which may be many blocks; the blocks of one
 * stretch are an entry here. An entry stands in the queue as a whole and loses its last block
 * first. With stretches of one block this is exactly the engine's queue. */
#ifndef KVBUDGET_SIM_PREFIX_H
#define KVBUDGET_SIM_PREFIX_H

#include <stdbool.h>
#include <stdint.h>

#include "planner/base/arena.h"

enum { PREFIX_NONE = 0 };

struct prefix_node; /* an entry, or a run of blank blocks in the queue */

struct prefix { /* zeroed by the owner, made by prefix_init */
    struct arena *arena;
    struct prefix_node *nodes; /* [0] is the end of the queue */
    uint32_t n_nodes, room, spare;
    uint32_t *table; /* hash -> entry */
    uint32_t n_entries, table_room;
    uint64_t free_blocks;   /* in the queue */
    uint64_t cached_blocks; /* of them, in entries */
    uint64_t entry_blocks;  /* in entries, in the queue or in use */
    uint64_t evicted;       /* blocks of entries taken so far */
};

/* `blocks` blank ones in the queue. */
void prefix_init(struct prefix *p, struct arena *a, uint64_t blocks);

/* Takes blocks from the front of the queue; there are as many. */
void prefix_take(struct prefix *p, uint64_t blocks);
/* Blank blocks at the front: so many can be taken before an entry loses one. */
uint64_t prefix_blank(const struct prefix *p);
/* Appends blank blocks. */
void prefix_give(struct prefix *p, uint64_t blocks);

/* The entry of a hash, PREFIX_NONE if there is none. */
uint32_t prefix_find(const struct prefix *p, uint64_t hash);
/* Blocks of an entry, and whether nobody uses it (so that it stands in the queue). */
uint64_t prefix_blocks(const struct prefix *p, uint32_t entry);
bool prefix_unused(const struct prefix *p, uint32_t entry);

/* A new entry without blocks, in use by one. The hash must not be known. */
uint32_t prefix_insert(struct prefix *p, uint64_t hash);
/* Blocks of its user become the entry's. */
void prefix_extend(struct prefix *p, uint32_t entry, uint64_t blocks);
void prefix_ref(struct prefix *p, uint32_t entry);
/* One user less; the last one appends the entry to the queue. */
void prefix_unref(struct prefix *p, uint32_t entry);

/* An unused entry is forgotten and its blocks become those of a user. */
void prefix_absorb(struct prefix *p, uint32_t entry);

/* Recounts everything by walking the queue and the table. */
bool prefix_check(const struct prefix *p);

#endif
