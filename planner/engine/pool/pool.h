/* A pool of equal blocks, as paged engines hand it out: every block id stands for one page in
 * each layer of a group, groups of layers of one kind have block tables of their own, and all
 * draw from the same ids. Models whose layers differ (sliding windows, recurrent states) are
 * made to fit by padding: pages to one size, groups to one number of layers.
 * source: facts engines 1.3 (vLLM vllm/v1/core/kv_cache_utils.py). */
#ifndef KVBUDGET_PLANNER_ENGINE_POOL_POOL_H
#define KVBUDGET_PLANNER_ENGINE_POOL_POOL_H

#include "planner/cost/fold.h"

enum { POOL_KINDS = 12 };

struct pool_kind {        /* layers of one rank that are cached alike */
    struct cache_row row; /* stream STREAM_STATE: a recurrent state, one block a sequence */
    uint32_t layers;
    uint32_t groups;       /* groups these layers fill, the last one padded */
    uint64_t page_bytes;   /* of one layer and block, before padding */
    uint64_t block_tokens; /* tokens of a block of this kind */
};

struct pool {
    uint64_t
        block_bytes;     /* of one block id, all layers of a group; 0 = there is no such pool */
    uint64_t page_bytes; /* of one layer, padded; 0 when the layers of the group differ */
    uint32_t group_layers, groups;
    uint64_t min_block_tokens, step_tokens; /* smallest block; most tokens of one step */
    uint32_t cp;
    struct pool_kind kinds[POOL_KINDS];
    uint32_t n_kinds;
};

struct pool_in {
    const struct fold *fold;
    uint64_t block_tokens; /* asked for */
    uint64_t align_tokens; /* blocks that states stretch are a multiple of this */
    uint64_t step_tokens;
    bool hybrid; /* false: sliding layers are kept as full ones */
};

/* Groups the layers of a fold. False when there are more kinds than POOL_KINDS or nothing is
 * stored: out->block_bytes is then 0. errors: ck->over. */
bool pool_build(const struct pool_in *in, struct pool *out, struct ck *ck);

/* Blocks the engine reserves for one request of `tokens`, over all groups, as its own start-up
 * check counts them. units: blocks. */
uint64_t pool_request_blocks(const struct pool *p, uint64_t tokens);

/* Blocks one sequence holds: at its highest over a decode of `decoded` tokens after a prompt of
 * n; while the prompt is processed; and the common first `prefix` tokens, whole blocks of full
 * layers alone. units: blocks. */
uint64_t pool_highest_blocks(const struct pool *p, uint64_t n, uint64_t decoded);
uint64_t pool_prefill_blocks(const struct pool *p, uint64_t n);
uint64_t pool_shared_blocks(const struct pool *p, uint64_t prefix);

#endif
