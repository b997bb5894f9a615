/* What the kernels of decode attention share, and the one that combines parts: which rows a
 * block takes, and where its results go. Included by .cu files. */
#ifndef KVBUDGET_KERNELS_DECODE_DEV_H
#define KVBUDGET_KERNELS_DECODE_DEV_H

#include "kernels/dev.h"

#include "kernels/cache_dev.h"
#include "kernels/split_dev.h"

struct job { /* of this block */
    struct head_at head;
    struct decode_range range;
    uint32_t sequence, q_head, rows; /* first query head and how many */
    uint32_t first, count;           /* of the visible rows: the chunk */
    uint32_t k_quantized, v_quantized;
};

DEV struct job job_of(struct lane *t, const struct decode_args *a)
{
    const struct cache_view *c = &a->c;
    uint32_t group = a->q_heads / c->heads, tiles = (group + DECODE_ROWS - 1) / DECODE_ROWS;
    uint32_t head = dev_block(t, 1) / tiles, tile = dev_block(t, 1) % tiles, length, chunk;
    uint32_t left = group - tile * DECODE_ROWS;
    struct job j;

    j.sequence = dev_block(t, 2);
    length = dev_load32(t, c->lengths + cache_slot_of(c, j.sequence, head));
    j.head = cache_head(c, j.sequence, head);
    j.range = decode_range(a, length);
    j.q_head = head * group + tile * DECODE_ROWS;
    j.rows = left < DECODE_ROWS ? left : DECODE_ROWS;
    chunk = decode_chunk(j.range.count, a->splits);
    j.first = dev_block(t, 0) * chunk;
    j.count = j.first < j.range.count ? j.range.count - j.first : 0;
    j.count = j.count < chunk ? j.count : chunk;
    j.k_quantized = cache_quantized(c, false, length);
    j.v_quantized = cache_quantized(c, true, length);
    return j;
}

/* The token of the visible row i of the chunk. */
DEV uint32_t token_at(const struct job *j, uint32_t i)
{
    uint32_t at = j->first + i;

    return at < j->range.sinks ? at : j->range.start + at - j->range.sinks;
}

DEV void product(struct lane *t, bool fp16, float *c, const uint32_t *a, const uint32_t *b)
{
    if (fp16)
        dev_mma_fp16(t, c, a, b);
    else
        dev_mma_bf16(t, c, a, b);
}

/* Sums begin with the learned sinks, where there are any: in one warp of the first block. */
DEV bool has_sink(struct lane *t, const struct decode_args *a, const struct job *j,
                  uint32_t row)
{
    return a->sinks && !dev_warp(t) && !dev_block(t, 0) && row < j->rows;
}

/* As a score, in powers of 2. */
DEV float sink_of(struct lane *t, const struct decode_args *a, const struct job *j,
                  uint32_t row, bool fp16)
{
    uint16_t sink = dev_load16(t, (const uint16_t *)a->sinks + j->q_head + row);

    return dev_from_16(sink, fp16) * LOG2E;
}

/* Thread i leaves the largest score and the sum of row i of the block: with its part, or as
 * their logarithm where the block is alone and that is wanted. */
DEV void store_sums(struct lane *t, const struct decode_args *a, const struct job *j,
                    const float *most, const float *sum)
{
    uint32_t row = dev_thread(t);
    uint64_t first = (uint64_t)j->sequence * decode_row_heads(a) + j->q_head, part;

    if (row >= j->rows)
        return;
    part = part_of(a, j->sequence, j->q_head + row) + dev_block(t, 0);
    if (a->splits > 1) {
        dev_store_float(t, (float *)a->work + 2 * part, j->count ? most[row] : NONE);
        dev_store_float(t, (float *)a->work + 2 * part + 1, j->count ? sum[row] : 0.0f);
    } else if (a->lse) {
        dev_store_float(t, a->lse + first + row,
                        j->count ? log_sum(most[row], sum[row]) : NONE);
    }
}

#endif
