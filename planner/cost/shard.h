/* Who holds what: how tensor parallelism divides heads and recurrent states, and how layers
 * fall to pipeline stages. */
#ifndef KVBUDGET_PLANNER_COST_SHARD_H
#define KVBUDGET_PLANNER_COST_SHARD_H

#include "planner/cache/layout.h"

struct parallel {
    uint32_t tp, pp, dp, ep, cp; /* all at least 1 */
};

/* K/V heads on one rank: at least one, so heads are replicated when tp exceeds them (facts:
 * models, cache formulas). */
uint32_t shard_kv_heads(uint32_t heads, uint32_t tp);
/* Query heads on the fullest rank. */
uint32_t shard_heads(uint32_t heads, uint32_t tp);

/* Bytes of a recurrent state row on one rank; groups of Mamba-2 are replicated up to tp.
 * source: facts eviction 9.1 (vLLM mamba_utils). */
uint64_t shard_state_bytes(const struct cache_row *r, const struct state *s, uint32_t tp,
                           struct ck *ck);

/* First layer of stage `stage` of `pp` for n layers: as even as possible, the first n % pp
 * stages take one more. shard_stage_first(n, pp, pp) = n. */
uint32_t shard_stage_first(uint32_t n, uint32_t pp, uint32_t stage);

#endif
