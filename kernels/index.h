/* The lightning indexer of DeepSeek V3.2 and GLM-5: for each query a score of every row of the
 * cache, by which the rows are chosen that attention reads.
 *
 *     scores[r][i] = scale * sum over h of weights[r][h] * max(0, q[r][h] . key_i)
 *
 * for rows i = 0 .. position[r] of the query's sequence. Keys are fp8 with a scale each, one
 * head for all; they are stored by latent_append_run as latents without a rope part. What the
 * best rows are is select_run's business (evict.h); latent_run reads a list of them, and a
 * prompt's attention takes them as bits, which index_mask_run sets.
 * source: deepseek-ai/DeepSeek-V3.2-Exp, inference/model.py */
#ifndef KVBUDGET_KERNELS_INDEX_H
#define KVBUDGET_KERNELS_INDEX_H

#include "kernels/cache.h"
#include "kernels/device.h"

enum { INDEX_THREADS = 128, INDEX_TOKENS = 128, INDEX_HEADS_MAX = 128, INDEX_DIM_MAX = 128 };

struct index_args {
    struct cache_view c; /* cache_check_latent's without a rope part, FP8 with scales; k.dim: a
                            multiple of 32, at most INDEX_DIM_MAX */
    const void *q;       /* [rows][heads][k.dim] bf16 */
    const void *weights; /* [rows][heads] bf16 */
    float *scores;       /* [rows][width]; the first position + 1 of each row are written */
    uint32_t rows, width;
    uint32_t heads;           /* a multiple of 8, at most INDEX_HEADS_MAX */
    const uint32_t *sequence; /* [rows] */
    const uint32_t *position; /* [rows], below width */
    float scale;
};

enum device_status index_run(struct device *d, const struct index_args *a);

/* What index_run issues; position: a copy in host memory. Useful are 2 k.dim FLOP a head and
 * row scored. Keys are TAG_K, scores TAG_WORK. Adds to *t. */
void index_traffic(const struct index_args *a, const uint32_t *position, struct traffic *t);

struct index_norm_args { /* layer norm of new keys, in place. source: arXiv:1607.06450 */
    void *x;             /* [rows][dim] bf16 */
    const void *weight;  /* [2][dim] bf16: factors, then what is added */
    bool wide_weight;    /* they are fp32 */
    uint32_t rows;
    uint32_t dim; /* a multiple of 8, at most INDEX_DIM_MAX */
    float epsilon;
};

enum device_status index_norm_run(struct device *d, const struct index_norm_args *a);
void index_norm_traffic(const struct index_norm_args *a, struct traffic *t);

struct index_mask_args {   /* bit index[r][j] of mask[r] for every j < keep[r], others are 0 */
    const uint32_t *index; /* [rows][width], as select_run leaves them */
    const uint32_t *keep;  /* [rows] */
    uint32_t *mask;        /* [rows][words] */
    uint32_t rows, width, words;
};

enum device_status index_mask_run(struct device *d, const struct index_mask_args *a);

#endif
