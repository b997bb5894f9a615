/* Attention of one new query a sequence over latents (MLA), absorbed: a stored row is one
 * latent of `rank` elements and a rope part, shared by all query heads, and there are no values
 * of their own.
 *
 *     score = scale * (q[s][h] . latent + rope[s][h] . rope part)
 *     out[s][h] = sum over visible tokens i of softmax_i(score) latent_i
 *
 * q is the query times the key half of the up-projection; `out` goes through the value half
 * afterwards (products of gemm.h). Every 16 or 32 query heads read the rows once. A sequence's
 * rows are split over blocks as in decode.h, whose second kernel combines the parts. With a
 * selection (the indexer of DeepSeek V3.2) a list of rows is read instead of all.
 * source: arXiv:2405.04434 section 2.1 and appendix C, deepseek-ai/FlashMLA. */
#ifndef KVBUDGET_KERNELS_LATENT_H
#define KVBUDGET_KERNELS_LATENT_H

#include "kernels/decode.h"

enum { LATENT_THREADS = 256 };

struct latent_args {
    /* c: cache_check_latent's, but that c.v.dim is the rank; q, out: [sequences][q_heads][rank]
     * in 16 bits; the rest as in decode.h */
    struct decode_args of;
    const void *rope;       /* the rope part of head h of sequence s is at element ... */
    uint32_t rope_stride;   /* (s * q_heads + h) * rope_stride, a multiple of 8 */
    const uint32_t *chosen; /* [sequences][chosen_stride], chosen_tokens each: rows below the
                               length, which are read where more than chosen_tokens are visible;
                               NULL: always all */
    uint32_t chosen_tokens, chosen_stride;
};

/* Query heads of a block, in sixteens, and tokens of a step. */
struct latent_tile {
    uint32_t m_tiles, keys;
};

DEV_SHARED struct latent_tile latent_tile(const struct latent_args *a)
{
    bool fp16 = a->of.c.k.store == STORE_FP16; /* within the shared memory of sm_75 */
    struct latent_tile w = {a->of.q_heads > 16 ? 2u : 1u,
                            a->of.q_heads > 16 || fp16 ? 16u : 32u};

    return w;
}

/* Warps that share a score, each a part of its products. */
DEV_SHARED uint32_t latent_parts(struct latent_tile w)
{
    return LATENT_THREADS / 32 / (w.m_tiles * w.keys / 8);
}

/* Rows that a query reads, of `length` stored; in the range of decode.h when all are read. */
DEV_SHARED uint32_t latent_count(const struct latent_args *a, uint32_t length)
{
    uint32_t n = decode_range(&a->of, length).count;

    return a->chosen && n > a->chosen_tokens ? a->chosen_tokens : n;
}

enum device_status latent_run(struct device *d, const struct latent_args *a);

/* What latent_run issues, both kernels; lengths: a copy in host memory. Useful are
 * 2 (k.dim + rank) FLOP a query head and row. Rows are TAG_K. Adds to *t. */
void latent_traffic(const struct latent_args *a, const uint32_t *lengths, struct traffic *t);

#endif
