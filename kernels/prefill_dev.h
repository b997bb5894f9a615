/* What the kernels of prefill attention share: which rows and tokens a block takes, and who
 * sees what. Included by .cu files. */
#ifndef KVBUDGET_KERNELS_PREFILL_DEV_H
#define KVBUDGET_KERNELS_PREFILL_DEV_H

#include "kernels/dev.h"

#include "kernels/cache_dev.h"
#include "kernels/prefill.h"

#define NONE dev_float(0xff800000u) /* minus infinity; nvcc computes -1 / 0 at run time */
#define LOG2E 1.4426950408889634f
#define LN2 0.6931471805599453f

struct row { /* of the tile: a query head of a token */
    struct prefill_view sees;
    uint32_t at; /* in q, out and lse, from the first row of the chunk */
    float m;     /* its largest score so far, before it is scaled: at first its sink */
};

struct plan { /* of this block */
    struct head_at head;
    uint64_t chunk; /* its first row in q, out and lse */
    uint32_t length, rows;
    struct prefill_view some;    /* tokens that some row sees: sinks, start to end */
    uint32_t count;              /* and how many */
    uint32_t all_start, all_end; /* tokens that every row sees, besides sinks */
};

/* The token at a place among those that some row sees. */
DEV uint32_t token_of(const struct prefill_view *some, uint32_t at)
{
    return at < some->sinks ? at : at + (some->start - some->sinks);
}

/* Thread 0 fills in the plan and thread i row i of the tile; others see them after a barrier.
 * False: the block has no rows. Rows of a chunk are counted over tokens and query heads. */
DEV bool prepare(struct lane *t, const struct prefill_args *a, uint32_t tile_rows,
                 struct plan *plan, struct row *rows)
{
    uint32_t group = a->q_heads / a->c.heads;
    bool fp16 = a->c.k.store == STORE_FP16;
    const uint16_t *sinks = (const uint16_t *)a->sinks;
    uint32_t sequence = dev_block(t, 2), head = dev_block(t, 1), me = dev_thread(t);
    uint32_t first = dev_load32(t, a->first + sequence);
    uint32_t total = (dev_load32(t, a->first + sequence + 1) - first) * group;
    uint32_t from = (dev_blocks(t, 0) - 1 - dev_block(t, 0)) * tile_rows; /* most work first */
    uint32_t last = from + tile_rows < total ? from + tile_rows - 1 : total - (total > 0);
    uint32_t i = from + me, offset, length;
    uint64_t slot = cache_slot_of(&a->c, sequence, head);

    if (from >= total)
        return false;
    offset = dev_load32(t, a->offset + slot);
    length = dev_load32(t, a->c.lengths + slot);
    if (!me) {
        struct prefill_view low = prefill_sees(a, offset, length, from / group);
        struct prefill_view high = prefill_sees(a, offset, length, last / group);
        struct plan p = {cache_head(&a->c, sequence, head),
                         (uint64_t)first * prefill_row_heads(a),
                         length,
                         last + 1 - from,
                         low,
                         0,
                         high.start,
                         low.end};
        p.some.end = high.end;
        p.count = low.sinks + high.end - low.start;
        *plan = p;
    }
    if (me < tile_rows) {
        struct row r = {{0, 0, 0}, 0, NONE};
        if (i <= last) {
            r.sees = prefill_sees(a, offset, length, i / group);
            if (sinks)
                r.m = dev_from_16(dev_load16(t, sinks + head * group + i % group), fp16) /
                      a->scale;
        }
        r.at = i / group * prefill_row_heads(a) + head * group + i % group;
        rows[me] = r;
    }
    return true;
}

/* Nothing to mask in a step: every row sees every token of it. */
DEV bool is_clear(const struct prefill_args *a, const struct plan *p, uint32_t at,
                  uint32_t keys)
{
    uint32_t token = token_of(&p->some, at + keys - 1);

    return token < p->all_end &&
           (token_of(&p->some, at) >= p->all_start || token < a->sink_tokens);
}

/* FLOP of a score and its share of the output. */
DEV uint32_t pair_flop(const struct prefill_args *a)
{
    return 2 * (a->c.k.dim + a->c.v.dim);
}

/* What the sum of a row begins with, by its 4 threads: the share of its sink. */
DEV float first_sum(struct lane *t, const struct prefill_args *a)
{
    return a->sinks && dev_lane(t) % 4 == 0 ? 1.0f : 0.0f;
}

DEV bool sees(const struct prefill_view *v, uint32_t token)
{
    return token < v->end && (token >= v->start || token < v->sinks);
}

#endif
