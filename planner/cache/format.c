/* Bytes of stored elements, the one formula for every format. Which format a row has is the
 * storage schemes' business. These functions run millions of times a second: no allocation,
 * no text. */
#include "planner/cache/format.h"

#include <string.h>

static inline uint64_t blocks_bytes(const struct format *f, uint64_t elems, struct ck *ck)
{
    if (f->block_elems == 1)
        return ck_mul(ck, elems, f->block_bytes);
    return ck_mul(ck, ck_ceil_div(elems, f->block_elems), f->block_bytes);
}

/* Codes and the scales that belong to the token itself. */
static inline uint64_t codes_bytes(const struct format *f, uint32_t heads, uint32_t dim,
                                   struct ck *ck)
{
    if (f->whole_row) {
        uint64_t row = blocks_bytes(f, (uint64_t)heads * dim, ck);
        row = ck_add(ck, row, (uint64_t)heads * f->head_bytes);
        return ck_add(ck, row, f->token_bytes);
    }
    uint64_t head = ck_add(ck, blocks_bytes(f, dim, ck), f->head_bytes);
    return ck_add(ck, ck_mul(ck, heads, head), f->token_bytes);
}

static uint64_t full_tokens(const struct format *f, uint64_t prompt, uint64_t tokens)
{
    uint64_t r = f->residual_tokens;

    switch (f->residual) {
    case RESIDUAL_NONE: return 0;
    case RESIDUAL_MOD: return r ? tokens % r : 0;
    case RESIDUAL_MIN:
    case RESIDUAL_FIRST: return u64_min(tokens, r);
    case RESIDUAL_CYCLE: return r && tokens > prompt ? (tokens - prompt) % r : 0;
    }
    return 0;
}

uint64_t format_bytes(const struct format *f, uint64_t prompt, uint64_t tokens, uint32_t heads,
                      uint32_t dim, struct ck *ck)
{
    if (!heads || !dim || !tokens)
        return 0;
    if (f->residual == RESIDUAL_NONE && !f->token_group)
        return ck_mul(ck, tokens, codes_bytes(f, heads, dim, ck));

    uint64_t full = full_tokens(f, prompt, tokens), coded = tokens - full;
    uint64_t elems = (uint64_t)heads * dim;
    uint64_t sum = ck_mul(ck, coded, codes_bytes(f, heads, dim, ck));
    if (f->token_group)
        sum = ck_add(ck, sum, ck_prod(ck, coded / f->token_group, elems, f->group_bytes));
    return ck_add(ck, sum, ck_prod(ck, full, elems, f->full_bytes));
}

uint64_t format_token_bytes(const struct format *f, uint32_t heads, uint32_t dim, struct ck *ck)
{
    if (!heads || !dim)
        return 0;
    uint64_t sum = codes_bytes(f, heads, dim, ck);
    if (f->token_group) {
        uint64_t group = ck_prod(ck, heads, dim, f->group_bytes);
        sum = ck_add(ck, sum, ck_ceil_div(group, f->token_group));
    }
    return sum;
}

uint64_t format_append_bytes(const struct format *f, uint32_t heads, uint32_t dim,
                             struct ck *ck)
{
    uint64_t sum = format_token_bytes(f, heads, dim, ck);

    if (f->residual == RESIDUAL_NONE || f->residual == RESIDUAL_FIRST)
        return sum;
    return ck_add(ck, sum, ck_prod(ck, heads, dim, f->full_bytes));
}

struct format format_plain(const char *name, uint32_t elem_bytes)
{
    return (struct format){
        .name = name,
        .block_elems = 1,
        .block_bytes = elem_bytes,
        .full_bytes = elem_bytes > 2 ? elem_bytes : 2,
    };
}

bool format_equal(const struct format *a, const struct format *b)
{
    bool same_name = a->name == b->name || (a->name && b->name && !strcmp(a->name, b->name));

    return same_name && a->block_elems == b->block_elems && a->block_bytes == b->block_bytes &&
           a->head_bytes == b->head_bytes && a->token_bytes == b->token_bytes &&
           a->token_group == b->token_group && a->group_bytes == b->group_bytes &&
           a->residual == b->residual && a->residual_tokens == b->residual_tokens &&
           a->full_bytes == b->full_bytes && a->whole_row == b->whole_row &&
           a->dequant_flop == b->dequant_flop;
}
