/* How a layer's cache lies in device memory: pages of K and V rows in a storage format, found
 * through page tables. Kernels that read or write the cache take a struct cache_view; a layer
 * that shares another's K/V takes the view of its source.
 *
 * A row is one token of one head. With ragged tables each head of each sequence keeps its own
 * rows (eviction by head): a table and a length a head, and a page holds rows of one head;
 * otherwise a page holds page_tokens rows of every head.
 *
 *   row number of token i: ((page * H + head) * page_tokens + i % page_tokens), H = heads, or 1
 *       and head 0 when ragged; page = table[...][i / page_tokens]
 *   codes  [rows][dim * bits / 8]
 *   scales FP8, INT8: [rows] fp32, or NULL: `scale` for all
 *          INT4, V of KIVI: [rows][dim / group] pairs of bf16, scale and minimum
 *          K of KIVI: [rows / group][dim] such pairs, one for `group` tokens of a channel
 *   full   KIVI only: [sequences][heads][residual][dim] bf16; token i lies in slot i % residual
 *
 * Of T tokens KIVI keeps quantized the first T - T mod residual of K and T - min(T, residual)
 * of V; the others are in `full`. source: arXiv:2402.02750, jy-yuan/KIVI@876b4d2. */
#ifndef KVBUDGET_KERNELS_CACHE_H
#define KVBUDGET_KERNELS_CACHE_H

#include <stdbool.h>
#include <stdint.h>

/* What host and device code share; kernels/dev.h, which a .cu file includes first, says how. */
#ifndef DEV_SHARED
#define DEV_SHARED static inline
#endif

enum store {
    STORE_BF16,
    STORE_FP16,
    STORE_FP8, /* e4m3 */
    STORE_INT8,
    STORE_INT4,
    STORE_KIVI4,
    STORE_KIVI2,
    STORE_DS_MLA /* latents only: fp8, then an fp32 scale for each 128, then the rope part in
                    bf16. source: FlashMLA README */
};

enum { CACHE_DIM_MAX = 256, LATENT_RANK_MAX = 512, LATENT_ROPE_MAX = 64 };

struct cache_side {
    enum store store;
    uint32_t dim;   /* elements of a row, a multiple of 8 up to CACHE_DIM_MAX */
    uint32_t group; /* INT4 and V of KIVI: elements, K of KIVI: tokens, under one scale */
    uint32_t rope;  /* latents (MLA): the last elements of a row, which carry the position */
    float scale;
    void *codes, *scales, *full;
};

struct cache_view {
    struct cache_side k, v;
    uint32_t sequences, heads;
    uint32_t page_tokens; /* KIVI: a multiple of k.group */
    uint32_t max_pages;   /* entries of one table */
    uint32_t residual;    /* KIVI: a multiple of k.group; else 0 */
    bool ragged;
    const uint32_t *table;   /* [sequences][ragged ? heads : 1][max_pages] */
    const uint32_t *lengths; /* [sequences][ragged ? heads : 1]: rows stored */
};

DEV_SHARED bool store_is_kivi(enum store s)
{
    return s == STORE_KIVI4 || s == STORE_KIVI2;
}

DEV_SHARED uint32_t store_bits(enum store s)
{
    switch (s) {
    case STORE_BF16:
    case STORE_FP16: return 16;
    case STORE_FP8:
    case STORE_INT8:
    case STORE_DS_MLA: return 8;
    case STORE_INT4:
    case STORE_KIVI4: return 4;
    case STORE_KIVI2: return 2;
    }
    return 0;
}

/* Bytes of codes from one row to the next. */
DEV_SHARED uint32_t cache_row_bytes(const struct cache_side *s)
{
    if (s->store == STORE_DS_MLA)
        return s->dim - s->rope + (s->dim - s->rope) / 128 * 4 + 2 * s->rope;
    return s->dim * store_bits(s->store) / 8;
}

/* Tokens, of T stored, that are quantized. */
DEV_SHARED uint32_t cache_quantized(const struct cache_view *c, bool value, uint32_t tokens)
{
    enum store s = value ? c->v.store : c->k.store;
    uint32_t r = c->residual;

    if (!store_is_kivi(s))
        return tokens;
    if (value)
        return tokens - (tokens < r ? tokens : r);
    return tokens - tokens % r;
}

/* Bytes of the pools of one side for `pages` pages: codes and scales. */
uint64_t cache_code_bytes(const struct cache_view *c, bool value, uint64_t pages);
uint64_t cache_scale_bytes(const struct cache_view *c, bool value, uint64_t pages);
uint64_t cache_full_bytes(const struct cache_view *c, bool value);

/* NULL, or what is wrong with the view, in a few words. Of K and V, or of latents: one head,
 * k.dim elements a row of which k.rope are the rope part, nothing in v. */
const char *cache_check(const struct cache_view *c);
const char *cache_check_latent(const struct cache_view *c);

#endif
