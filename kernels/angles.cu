/* Angles of keys. A warp a row, 8 channels a thread; blocks share the rows of a list. */
#include "kernels/dev.h"

#include "kernels/angles.h"
#include "kernels/unit_dev.h"

enum { WARPS = ANGLES_WARPS };

struct job { /* the rows of this warp: first, first + step ... */
    struct head_at head;
    uint32_t n, quantized, first, step;
    uint64_t list;
};

struct shared {
    float sum[WARPS][CACHE_DIM_MAX]; /* of each warp; of all, in the first */
};

DEV struct job job_of(struct lane *t, const struct cache_view *c)
{
    uint32_t head = dev_block(t, 1), sequence = dev_block(t, 2);
    struct job j;

    j.n = dev_load32(t, c->lengths + cache_slot_of(c, sequence, head));
    j.quantized = cache_quantized(c, false, j.n);
    j.head = cache_head(c, sequence, head);
    j.first = dev_block(t, 0) * WARPS + dev_warp(t);
    j.step = dev_blocks(t, 0) * WARPS;
    j.list = (uint64_t)sequence * c->heads + head;
    return j;
}

/* This thread's channels of row i, without the row's scale, and 1 / |k|: 0 for a key that is 0.
 */
DEV float load_key(struct lane *t, const struct cache_view *c, const struct job *j, uint32_t i,
                   float *x)
{
    struct place p = cache_place(t, c, &j->head, i, true);
    uint32_t w[4], me = 8 * dev_lane(t);
    struct unit u = unit_load(t, c, &j->head, &p, me, c->k.store, false, j->quantized);
    bool mine = me < c->k.dim;
    float sum = 0.0f;

    unit_decode(&u, c->k.store, false, w);
    UNROLL
    for (uint32_t e = 0; e < 8; e++) {
        float y = dev_from_16((uint16_t)(w[e / 2] >> 16 * (e % 2)), c->k.store == STORE_FP16);
        x[e] = mine ? y : 0.0f;
        sum = dev_fma(x[e], x[e], sum);
    }
    if (mine)
        dev_flop(t, 16, 0);
    sum = dev_sum(t, sum, 32);
    return sum > 0.0f ? 1.0f / sqrtf(sum) : 0.0f;
}

DEV void anchor_body(struct lane *t, const struct angles_args *a)
{
    const struct cache_view *c = &a->c;
    struct shared *sh = (struct shared *)dev_shared(t);
    struct job j = job_of(t, c);
    uint32_t d = dev_thread(t), me = 8 * dev_lane(t);
    float sum[8] = {0, 0, 0, 0, 0, 0, 0, 0}, all = 0.0f;

    for (uint32_t i = j.first; i < j.n; i += j.step) {
        float x[8], over = load_key(t, c, &j, i, x);
        UNROLL
        for (uint32_t e = 0; e < 8; e++)
            sum[e] = dev_fma(x[e], over, sum[e]);
        if (me < c->k.dim)
            dev_flop(t, 16, 32);
    }
    UNROLL
    for (uint32_t e = 0; e < 8; e++)
        sh->sum[dev_warp(t)][me + e] = sum[e];
    dev_barrier(t);
    if (d >= c->k.dim)
        return;
    for (uint32_t w = 0; w < WARPS; w++)
        all += sh->sum[w][d];
    dev_flop(t, WARPS, 0);
    dev_store_float(t, a->work + (j.list * a->blocks + dev_block(t, 0)) * c->k.dim + d, all);
}

/* The sum of all blocks' parts in shared memory, and 1 / its length. */
DEV float find_anchor(struct lane *t, const struct angles_args *a, const struct job *j,
                      struct shared *sh, float *anchor)
{
    uint32_t d = dev_thread(t), dim = a->c.k.dim, me = 8 * dev_lane(t);
    float all = 0.0f, squares = 0.0f;

    for (uint32_t b = 0; d < dim && b < a->blocks; b++)
        all += dev_load_float(t, a->work + (j->list * a->blocks + b) * dim + d);
    if (d < dim)
        dev_flop(t, a->blocks, 0);
    sh->sum[0][d] = all;
    dev_barrier(t);
    UNROLL
    for (uint32_t e = 0; e < 8; e++) {
        anchor[e] = sh->sum[0][me + e];
        squares = dev_fma(anchor[e], anchor[e], squares);
    }
    if (me < dim)
        dev_flop(t, 16, 0);
    squares = dev_sum(t, squares, 32);
    return squares > 0.0f ? 1.0f / sqrtf(squares) : 0.0f;
}

DEV void angles_body(struct lane *t, const struct angles_args *a)
{
    const struct cache_view *c = &a->c;
    struct shared *sh = (struct shared *)dev_shared(t);
    struct job j = job_of(t, c);
    float anchor[8], over = find_anchor(t, a, &j, sh, anchor);

    for (uint32_t i = j.first; i < j.n; i += j.step) {
        float x[8], length = load_key(t, c, &j, i, x), dot = 0.0f;
        UNROLL
        for (uint32_t e = 0; e < 8; e++)
            dot = dev_fma(x[e], anchor[e], dot);
        if (8 * dev_lane(t) < c->k.dim)
            dev_flop(t, 16, 16);
        dot = dev_sum(t, dot, 32);
        if (!dev_lane(t))
            dev_store_float(t, a->scores + j.list * a->width + i, dot * length * over);
    }
}

KERNEL(anchor_kernel, ANGLES_THREADS, struct angles_args, anchor_body(t, a))
KERNEL(angles_kernel, ANGLES_THREADS, struct angles_args, angles_body(t, a))

static struct shape shape_of(const struct angles_args *a)
{
    struct shape s = {{a->blocks, a->c.heads, a->c.sequences},
                      ANGLES_THREADS,
                      (uint32_t)sizeof(struct shared)};

    return s;
}

LAUNCHER(anchor)
{
    const struct angles_args *a = (const struct angles_args *)args;

    return LAUNCH(anchor_kernel, shape_of(a), a);
}

LAUNCHER(angles)
{
    const struct angles_args *a = (const struct angles_args *)args;

    return LAUNCH(angles_kernel, shape_of(a), a);
}
