/* Division of heads, states and layers over GPUs. Nothing here knows of bytes of K/V or of
 * time. */
#include "planner/cost/shard.h"

uint32_t shard_kv_heads(uint32_t heads, uint32_t tp)
{
    uint32_t per_rank = heads / tp + (heads % tp != 0);
    return per_rank ? per_rank : 1;
}

uint32_t shard_heads(uint32_t heads, uint32_t tp)
{
    return heads / tp + (heads % tp != 0);
}

/* Mamba-2: x is cut by heads, but each rank keeps whole B/C groups: with groups that tp does
 * not divide, there are as many groups as ranks. */
static uint64_t mamba2_conv_elems(const struct state *s, uint32_t tp, struct ck *ck)
{
    uint64_t groups = s->groups % tp == 0 ? s->groups : tp;
    uint64_t inner = ck_mul(ck, s->heads, s->head_dim);
    uint64_t width = ck_add(ck, inner, ck_prod(ck, 2, groups, s->state_dim));
    return ck_mul(ck, ck_ceil_div(width, tp), s->conv_kernel ? s->conv_kernel - 1 : 0);
}

uint64_t shard_state_bytes(const struct cache_row *r, const struct state *s, uint32_t tp,
                           struct ck *ck)
{
    uint64_t conv = ck_ceil_div(r->conv_elems, tp);
    uint64_t state = ck_ceil_div(r->state_elems, tp);

    if (s->kind == STATE_MAMBA2 && tp > 1)
        conv = mamba2_conv_elems(s, tp, ck);
    return ck_add(ck, ck_mul(ck, conv, r->conv_elem_bytes),
                  ck_mul(ck, state, r->state_elem_bytes));
}

uint32_t shard_stage_first(uint32_t n, uint32_t pp, uint32_t stage)
{
    uint32_t base = n / pp, more = n % pp;
    return stage * base + (stage < more ? stage : more);
}
