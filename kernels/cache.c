/* Sizes of a cache's pools, and what a view must satisfy. */
#include "kernels/cache.h"

#include <stddef.h>

static const struct cache_side *side_of(const struct cache_view *c, bool value)
{
    return value ? &c->v : &c->k;
}

static uint64_t rows_of(const struct cache_view *c, uint64_t pages)
{
    return pages * (c->ragged ? 1 : c->heads) * c->page_tokens;
}

uint64_t cache_code_bytes(const struct cache_view *c, bool value, uint64_t pages)
{
    const struct cache_side *s = side_of(c, value);

    return rows_of(c, pages) * cache_row_bytes(s);
}

uint64_t cache_scale_bytes(const struct cache_view *c, bool value, uint64_t pages)
{
    const struct cache_side *s = side_of(c, value);
    uint64_t rows = rows_of(c, pages);

    switch (s->store) {
    case STORE_BF16:
    case STORE_FP16:
    case STORE_DS_MLA: return 0;
    case STORE_FP8:
    case STORE_INT8: return s->scales ? 4 * rows : 0;
    case STORE_INT4: return rows * (s->dim / s->group) * 4;
    case STORE_KIVI4:
    case STORE_KIVI2:
        return value ? rows * (s->dim / s->group) * 4 : rows / s->group * s->dim * 4;
    }
    return 0;
}

uint64_t cache_full_bytes(const struct cache_view *c, bool value)
{
    const struct cache_side *s = side_of(c, value);

    return store_is_kivi(s->store)
               ? (uint64_t)c->sequences * c->heads * c->residual * s->dim * 2
               : 0;
}

/* Groups are found by threads that hold 8 elements each: a whole row, or a power of two. */
static bool good_group(const struct cache_side *s)
{
    uint32_t threads = s->group / 8;

    return s->group && s->group % 8 == 0 && s->dim % s->group == 0 &&
           (s->group == s->dim || !(threads & (threads - 1)));
}

static const char *check_side(const struct cache_view *c, bool value)
{
    const struct cache_side *s = side_of(c, value);
    bool kivi = store_is_kivi(s->store);

    if (!s->dim || s->dim % 8 || s->dim > CACHE_DIM_MAX)
        return "a head has a multiple of 8 elements, up to 256";
    if (s->store == STORE_DS_MLA)
        return "fp8_ds_mla is for latents";
    if (s->store == STORE_KIVI2 && s->dim % 16)
        return "2-bit codes need a multiple of 16 elements a head";
    if ((s->store == STORE_INT4 || (kivi && value)) && !good_group(s))
        return "a group is a head, or 8 times a power of two that divides it";
    if (kivi && !value && (!s->group || c->residual % s->group || c->page_tokens % s->group))
        return "the groups of K must divide the residual and the page";
    if (kivi && !c->residual)
        return "KIVI needs a residual";
    return NULL;
}

static const char *check_tables(const struct cache_view *c)
{
    if (!c->sequences || c->sequences > 65535 || !c->heads)
        return "1 to 65535 sequences, and at least one head";
    if (!c->page_tokens || !c->max_pages)
        return "pages and tables must not be empty";
    return NULL;
}

const char *cache_check_latent(const struct cache_view *c)
{
    uint32_t rope = c->k.rope, rank = rope < c->k.dim ? c->k.dim - rope : 0;

    if (!rank || rank % 16 || rank > LATENT_RANK_MAX)
        return "a latent has a multiple of 16 elements, up to 512";
    if (rope % 8 || rope > LATENT_ROPE_MAX)
        return "the rope part of a latent has a multiple of 8 elements, up to 64";
    if (store_bits(c->k.store) < 8)
        return "latents are stored in 16 or 8 bits";
    if (c->k.store == STORE_DS_MLA && rank != LATENT_RANK_MAX)
        return "fp8_ds_mla is for latents of 512";
    if (c->heads != 1 || c->ragged)
        return "latents have one head, the same for all";
    return check_tables(c);
}

const char *cache_check(const struct cache_view *c)
{
    const char *bad = check_side(c, false);

    if (!bad)
        bad = check_side(c, true);
    if (!bad)
        bad = check_tables(c);
    if (!bad && (c->k.store == STORE_FP16) != (c->v.store == STORE_FP16))
        bad = "fp16 is for K and V together";
    return bad;
}
