/* Attention of many new queries a sequence over the paged cache: a prompt, or a chunk of one,
 * in one layer.
 *
 *     out[r][h] = sum over visible tokens j of softmax_j(scale * q[r][h] . k_j) v_j
 *
 * with the K/V head h / (q_heads / heads); cap, slopes and sinks are as in decode.h. The chunks
 * of the sequences follow each other in q and out; sequence s has rows first[s] .. first[s + 1]
 * - 1. Keys and values are in the cache of the layer's source (any sharing map), those of the
 * chunk's own tokens included: they were appended before. Query i of a chunk belongs to row
 * offset + i of the cache, and sees
 *
 *     end = offset + i + 1 - hidden_tokens         tokens j < end that are stored,
 *     window_tokens > 0                            of them j >= end - window_tokens
 *     sink_tokens                                  and j < sink_tokens
 *     chunk_tokens > 0                             of them those of the query's own stretch of
 *                                                  so many tokens, from 0 on (Llama 4)
 *
 * A query that sees nothing gives zeros. Sums are in fp32, products in bf16, or in fp16 where
 * the cache is fp16.
 *
 * A block takes 128 (wide heads: 64) rows of a K/V head. A row is a query head of a token, the
 * heads of a group next to each other: they share every read of K and V, and a tile spans so
 * few tokens that little is computed beyond the diagonal. K and V come through shared memory,
 * up to 64 tokens a step; K of the next step is under way while V of this one is used, and V
 * while K is. Structure: FlashAttention-2, arXiv:2307.08691. */
#ifndef KVBUDGET_KERNELS_PREFILL_H
#define KVBUDGET_KERNELS_PREFILL_H

#include "kernels/cache.h"
#include "kernels/device.h"

enum { PREFILL_THREADS = 128, PREFILL_WGMMA_ROWS = 128, PREFILL_WGMMA_KEYS = 128 };

struct prefill_args {
    struct cache_view c;    /* lengths: rows stored, normally offset + rows of the chunk */
    const void *q;          /* [rows][q_heads][k.dim] bf16; fp16 where the cache is fp16 */
    void *out;              /* [rows][q_heads][v.dim] of the same type */
    float *lse;             /* [rows][row_heads] ln of the softmax's denominator, of the sum of
                               exp(scale * q . k), or NULL */
    const uint32_t *first;  /* [sequences + 1], ascending from 0 */
    const uint32_t *offset; /* as c.lengths: index of the chunk's first token */
    uint32_t q_heads;       /* a multiple of c.heads */
    uint32_t row_heads;     /* of a row of q, out and lse, as in decode.h; 0 = q_heads */
    uint32_t longest;       /* rows of the longest chunk, or more */
    uint32_t hidden_tokens; /* 0, or 1 where the diagonal is masked */
    uint32_t window_tokens; /* 0 = all */
    uint32_t sink_tokens;   /* only with a window */
    uint32_t chunk_tokens;  /* 0 = all; not with a window */
    float scale;            /* above 0 */
    const uint32_t *chosen; /* [rows][chosen_words]: bit j of a row: of what it may see, it sees
                               token j; NULL: everything; not with a window */
    uint32_t chosen_words;
    uint32_t chosen_tokens; /* set bits of a row that may see more; for the formula */
    float cap;              /* 0: none */
    const float *slopes;    /* [q_heads], or NULL */
    const void *sinks;      /* [q_heads] of the type of q, TAG_WEIGHTS, or NULL */
};

/* Heads of a row of q, out and lse. */
DEV_SHARED uint32_t prefill_row_heads(const struct prefill_args *a)
{
    return a->row_heads ? a->row_heads : a->q_heads;
}

/* Head sizes that have a kernel of their own, in bf16. */
DEV_SHARED bool prefill_is_sized(const struct prefill_args *a)
{
    uint32_t dk = a->c.k.dim, dv = a->c.v.dim;

    return !a->chosen && a->c.k.store == STORE_BF16 && a->c.v.store == STORE_BF16 &&
           !(a->cap > 0.0f) && !a->slopes &&
           ((dk == dv && (dk == 64 || dk == 128 || dk == 256)) || (dk == 192 && dv == 128));
}

struct prefill_tile { /* rows of a block, tokens of a step: within 99 KiB, fp16 within 64 KiB */
    uint32_t rows, keys;
};

DEV_SHARED struct prefill_tile prefill_tile(const struct prefill_args *a)
{
    bool fp16 = a->c.k.store == STORE_FP16;
    bool tall = a->c.k.dim <= (fp16 ? 128 : 192) && a->c.v.dim <= 128;
    struct prefill_tile w = {tall ? 128u : 64u, tall || !fp16 ? 32u : 16u};

    w.keys = tall && prefill_is_sized(a) ? 64 : w.keys;
    return w;
}

/* Shapes that the kernel of sm_90a takes (prefill_wgmma.cu), without a cap and slopes. */
DEV_SHARED bool prefill_fits_wgmma(const struct prefill_args *a)
{
    uint32_t dk = a->c.k.dim, dv = a->c.v.dim;

    if (a->cap > 0.0f || a->slopes || a->chosen)
        return false;
    return store_bits(a->c.k.store) == 16 && a->c.v.store == a->c.k.store &&
           ((dk == 64 && dv == 64) || ((dk == 128 || dk == 192) && dv == 128));
}

/* Rows of the cache that a query sees: tokens [0, sinks) and [start, end). */
struct prefill_view {
    uint32_t sinks, start, end;
};

/* Query i of a chunk at `offset`, with `length` rows stored. */
DEV_SHARED struct prefill_view prefill_sees(const struct prefill_args *a, uint32_t offset,
                                            uint32_t length, uint32_t i)
{
    uint32_t past = offset + i + 1, end = past > a->hidden_tokens ? past - a->hidden_tokens : 0;
    uint32_t w = a->window_tokens, start = w && end > w ? end - w : 0;

    if (a->chunk_tokens)
        start = (offset + i) / a->chunk_tokens * a->chunk_tokens;
    struct prefill_view v = {a->sink_tokens, start, end < length ? end : length};

    v.start = v.start < v.end ? v.start : v.end;
    v.sinks = v.sinks < v.start ? v.sinks : v.start;
    return v;
}

/* Takes the kernel of sm_90a where the GPU has it and the shape fits. prefill_wgmma_run takes
 * it always: DEVICE_BAD_ARGUMENT or DEVICE_UNSUPPORTED where it cannot. The CPU build runs it
 * by that name only. */
enum device_status prefill_run(struct device *d, const struct prefill_args *a);
enum device_status prefill_wgmma_run(struct device *d, const struct prefill_args *a);

/* What they issue, on a device without that kernel and by it; first, offset and lengths: copies
 * in host memory. Useful are 2 (k.dim + v.dim) FLOP a query head and visible token. Adds to *t.
 */
void prefill_traffic(const struct prefill_args *a, const uint32_t *first,
                     const uint32_t *offset, const uint32_t *lengths, struct traffic *t);
void prefill_wgmma_traffic(const struct prefill_args *a, const uint32_t *first,
                           const uint32_t *offset, const uint32_t *lengths, struct traffic *t);

#endif
