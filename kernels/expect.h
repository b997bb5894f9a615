/* ExpectedAttention: how much the queries to come are going to look at each stored row, if they
 * are normal with the mean and the covariance of those that have been there. Two steps:
 *
 *     moments   of the rows r >= skip of q, taken before they are turned to their place:
 *               mean[h] = mean of q[r][h],   spread[h] = mean of (q - mean) (q - mean)^T
 *     expect    u = k_j turned back by the mean turn of the places to come, and then
 *               logit[h][j] = scale mean[h] . u + scale^2 / 2 u^T spread[h] u
 *               scores[head][j] = |v_j| times the mean, over the query heads h of the K/V head,
 *                                 of the softmax of logit[h] over the rows j >= sinks
 *
 * To turn all keys back by a matrix R is to turn mean and spread by it: (R m) . k = m . R^T k.
 * The first `sinks` rows get 0: select (evict.h) keeps them whatever their score.
 *
 * source: arXiv:2510.00636 section 3; NVIDIA/kvpress@8bb29b9 expected_attention_press.py (4
 * sinks, 512 places to come, nothing added to the softmax before it is multiplied by |v|). */
#ifndef KVBUDGET_KERNELS_EXPECT_H
#define KVBUDGET_KERNELS_EXPECT_H

#include "kernels/cache.h"
#include "kernels/device.h"

enum { EXPECT_THREADS = 256, EXPECT_WARPS = EXPECT_THREADS / 32 };
enum { EXPECT_TILE = 64, EXPECT_ROWS = 32 }; /* of spread: channels a side, rows a step */
enum { EXPECT_KEYS = 32, EXPECT_STEP = 16 }; /* of logits: rows a block, channels a step */
enum { EXPECT_SCORES = 64 };                 /* of scores: rows a block */

struct moments_args {
    const void *q;       /* [rows][row_heads][dim] bf16, or fp16 */
    float *mean;         /* [heads][dim] */
    float *spread;       /* [heads][dim][dim] */
    uint32_t rows, skip; /* with no rows left both are 0 */
    uint32_t heads, row_heads;
    uint32_t dim; /* a multiple of 8, at most CACHE_DIM_MAX */
    bool fp16;
};

struct expect_args {
    struct cache_view c;      /* of one sequence */
    const float *mean;        /* of the first of these query heads, as moments_run left them */
    const float *spread;      /* likewise */
    const float *turn;        /* [rotary / 2] pairs: means of the cosine and the sine by which
                                 channels i and i + rotary / 2 turn; NULL: nothing turns */
    float *scores;            /* [heads][width] */
    float *work;              /* expect_work_bytes */
    uint32_t q_heads, rotary; /* rotary: an even number, at most k.dim */
    uint32_t width, sinks;    /* width: at least the longest list */
    float scale;
};

uint64_t expect_work_bytes(const struct expect_args *a);
enum device_status moments_run(struct device *d, const struct moments_args *a);
enum device_status expect_run(struct device *d, const struct expect_args *a);

/* What they issue, all kernels; q is TAG_ACTIVATION, lengths, tables and turn TAG_TABLES, the
 * others TAG_WORK; lengths: a copy in host memory. Useful are, a query head, the sum and a
 * triangle of the products of its channels for each row of q; and for each row scored the
 * product with every element of mean and spread, and the length of its value. Add to *t. */
void moments_traffic(const struct moments_args *a, struct traffic *t);
void expect_traffic(const struct expect_args *a, const uint32_t *lengths, struct traffic *t);

#endif
