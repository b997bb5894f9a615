/* Scores of the indexer with matrix instructions. A block: one query, 128 rows of the cache, of
 * which a warp takes 16 at a time as the rows of the products; the query's heads, in shared
 * memory, are the columns, so that the sum over heads is one over a thread's own results and
 * its three neighbours'. Both sides are read 8 elements at a time in the same order, as
 * decode.cu says. In comments g = lane / 4, q = lane % 4. */
#include "kernels/dev.h"

#include "kernels/index.h"
#include "kernels/unit_dev.h"

enum { WARPS = INDEX_THREADS / 32, TILE = 16, UNITS_MAX = INDEX_DIM_MAX / 32 };

struct job { /* of this block */
    const struct index_args *a;
    struct head_at head;
    const uint16_t *q; /* [heads][stride] in shared memory */
    const float *weight;
    uint32_t row, count; /* the query, and rows that it sees */
};

DEV uint32_t stride_of(const struct index_args *a)
{
    return a->c.k.dim + 8;
}

/* The heads of the query and their weights. */
DEV void load_query(struct lane *t, const struct job *j, uint16_t *q, float *weight)
{
    uint32_t heads = j->a->heads, dim = j->a->c.k.dim, units = dim / 8;
    const uint16_t *from = (const uint16_t *)j->a->q + (uint64_t)j->row * heads * dim;
    const uint16_t *w = (const uint16_t *)j->a->weights + (uint64_t)j->row * heads;

    for (uint32_t i = dev_thread(t); i < heads * units; i += INDEX_THREADS)
        dev_async(t, q + i / units * stride_of(j->a) + i % units * 8, from + 8 * (uint64_t)i);
    dev_async_commit(t);
    if (dev_thread(t) < heads)
        weight[dev_thread(t)] = dev_from_bf16(dev_load16(t, w + dev_thread(t)));
    dev_async_wait(t, 0);
    dev_barrier(t);
}

/* 16 rows from `first` on. */
DEV void score_tile(struct lane *t, const struct job *j, uint32_t first)
{
    const struct cache_view *c = &j->a->c;
    uint32_t g = dev_lane(t) / 4, q = dev_lane(t) % 4, units = c->k.dim / 32;
    uint32_t key[UNITS_MAX][8];
    float sum[2] = {0, 0}, factor[2];

    UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t token = first + g + 8 * half;
        struct place p = cache_place(t, c, &j->head, token, token < j->count);
        factor[half] = p.valid && !q ? cache_scale(t, &c->k, &p, STORE_FP8) : 0.0f;
        UNROLL
        for (uint32_t i = 0; i < UNITS_MAX; i++) {
            uint32_t w[4];
            struct unit u = unit_load(t, c, &j->head, &p, 32 * i + 8 * q, STORE_FP8, false, 0);
            unit_decode(&u, STORE_FP8, false, w);
            UNROLL
            for (uint32_t n = 0; n < 4; n++)
                key[i][n / 2 * 4 + n % 2 * 2 + half] = w[n];
        }
    }
    for (uint32_t n = 0; n < j->a->heads / 8; n++) {
        const uint16_t *from = j->q + (8 * n + g) * stride_of(j->a) + 8 * q;
        float x[4] = {0, 0, 0, 0};
        UNROLL
        for (uint32_t i = 0; i < UNITS_MAX; i++) {
            if (i >= units)
                continue;
            struct vec128 v = *(const struct vec128 *)(from + 32 * i);
            dev_mma_bf16(t, x, key[i], v.w);
            dev_mma_bf16(t, x, key[i] + 4, v.w + 2);
        }
        UNROLL
        for (uint32_t e = 0; e < 4; e++)
            sum[e / 2] =
                dev_fma(fmaxf(x[e], 0.0f), j->weight[8 * n + 2 * q + e % 2], sum[e / 2]);
        dev_flop(t, 8, 0);
    }
    UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t token = first + g + 8 * half;
        float all = dev_sum(t, sum[half], 4);
        if (q || token >= j->count)
            continue;
        dev_flop(t, 2, (uint64_t)j->a->heads * c->k.dim * 2);
        dev_store_float(t, j->a->scores + (uint64_t)j->row * j->a->width + token,
                        all * (j->a->scale * factor[half]));
    }
}

DEV void index_body(struct lane *t, const struct index_args *a)
{
    uint16_t *q = (uint16_t *)dev_shared(t);
    float *weight = (float *)(q + a->heads * stride_of(a));
    uint32_t first = dev_block(t, 1) * INDEX_TOKENS;
    struct job j;

    j.a = a;
    j.row = dev_block(t, 0);
    j.q = q;
    j.weight = weight;
    j.head = cache_head(&a->c, dev_load32(t, a->sequence + j.row), 0);
    j.count = dev_load32(t, a->position + j.row) + 1;
    if (first >= j.count)
        return;
    load_query(t, &j, q, weight);
    for (uint32_t i = dev_warp(t); i < INDEX_TOKENS / TILE; i += WARPS)
        if (first + TILE * i < j.count)
            score_tile(t, &j, first + TILE * i);
}

/* 4 of the norm's weights, the first of which has that number. */
DEV struct vec128 norm_weights(struct lane *t, const struct index_norm_args *a, uint32_t first)
{
    struct vec128 w = {{0, 0, 0, 0}};
    uint64_t bits;

    if (a->wide_weight)
        return dev_load128(t, (const float *)a->weight + first);
    bits = dev_load64(t, (const uint16_t *)a->weight + first);
    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        w.w[i] = dev_bits(dev_from_bf16((uint16_t)(bits >> 16 * i)));
    return w;
}

/* A warp a row, 4 elements a thread. */
DEV void norm_body(struct lane *t, const struct index_norm_args *a)
{
    uint32_t row = dev_block(t, 0) * WARPS + dev_warp(t), first = 4 * dev_lane(t);
    uint16_t *x = (uint16_t *)a->x + (uint64_t)row * a->dim + first;
    bool valid = first < a->dim;
    uint64_t bits = 0, out = 0;
    struct vec128 factors, added;
    float e[4], sum = 0.0f, squares = 0.0f, factor;

    if (row >= a->rows)
        return;
    if (valid)
        bits = dev_load64(t, x);
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        e[i] = dev_from_bf16((uint16_t)(bits >> 16 * i));
        sum += e[i];
    }
    sum = dev_sum(t, sum, 32) / (float)a->dim;
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        e[i] = valid ? e[i] - sum : 0.0f;
        squares = dev_fma(e[i], e[i], squares);
    }
    factor = 1.0f / sqrtf(dev_sum(t, squares, 32) / (float)a->dim + a->epsilon);
    if (!valid)
        return;
    factors = norm_weights(t, a, first);
    added = norm_weights(t, a, a->dim + first);
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        float y = e[i] * factor * dev_float(factors.w[i]) + dev_float(added.w[i]);
        out |= (uint64_t)(dev_pack_bf16(y, 0.0f) & 0xffffu) << 16 * i;
    }
    dev_flop(t, 32, 0);
    dev_store64(t, x, out);
}

/* A block a row. */
DEV void mask_body(struct lane *t, const struct index_mask_args *a)
{
    uint32_t row = dev_block(t, 0), keep = dev_load32(t, a->keep + row);
    uint32_t *mask = a->mask + (uint64_t)row * a->words;
    const uint32_t *index = a->index + (uint64_t)row * a->width;

    for (uint32_t i = dev_thread(t); i < a->words; i += INDEX_THREADS)
        dev_store32(t, mask + i, 0);
    dev_barrier(t);
    for (uint32_t i = dev_thread(t); i < keep; i += INDEX_THREADS) {
        uint32_t at = dev_load32(t, index + i);
        dev_add32(t, mask + at / 32, 1u << at % 32);
    }
}

KERNEL(index_kernel, INDEX_THREADS, struct index_args, index_body(t, a))
KERNEL(index_norm_kernel, INDEX_THREADS, struct index_norm_args, norm_body(t, a))
KERNEL(index_mask_kernel, INDEX_THREADS, struct index_mask_args, mask_body(t, a))

LAUNCHER(index)
{
    const struct index_args *a = (const struct index_args *)args;
    struct shape s = {{a->rows, (a->width + INDEX_TOKENS - 1) / INDEX_TOKENS, 1},
                      INDEX_THREADS,
                      a->heads * (2 * (a->c.k.dim + 8) + 4)};

    if (dev_capability(self) < 80)
        return dev_refuse(self, DEVICE_UNSUPPORTED,
                          "index: bf16 products need compute capability 8.0");
    return LAUNCH(index_kernel, s, a);
}

LAUNCHER(index_norm)
{
    const struct index_norm_args *a = (const struct index_norm_args *)args;
    struct shape s = {{(a->rows + WARPS - 1) / WARPS, 1, 1}, INDEX_THREADS, 0};

    return LAUNCH(index_norm_kernel, s, a);
}

LAUNCHER(index_mask)
{
    const struct index_mask_args *a = (const struct index_mask_args *)args;
    struct shape s = {{a->rows, 1, 1}, INDEX_THREADS, 0};

    return LAUNCH(index_mask_kernel, s, a);
}
