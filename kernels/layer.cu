/* The small kernels of a layer. norm and argmax: a block a row. rope and swiglu: a thread a
 * unit of 16 or 8 elements, wherever it lies. */
#include "kernels/dev.h"

#include "kernels/layer.h"

enum { WARPS = LAYER_THREADS / 32 };

#define NONE (-3.4e38f)

struct eight {
    float x[8];
};

DEV struct eight load_eight(struct lane *t, const void *p, uint64_t at, bool fp16)
{
    struct vec128 v = dev_load128(t, (const uint16_t *)p + at);
    struct eight e;

    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        e.x[i] = dev_from_16((uint16_t)(v.w[i / 2] >> 16 * (i % 2)), fp16);
    return e;
}

DEV struct eight load_wide(struct lane *t, const void *p, uint64_t at)
{
    struct eight e;

    UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        struct vec128 v = dev_load128(t, (const float *)p + at + 4 * half);
        UNROLL
        for (uint32_t i = 0; i < 4; i++)
            e.x[4 * half + i] = dev_float(v.w[i]);
    }
    return e;
}

DEV void store_eight(struct lane *t, void *p, uint64_t at, const struct eight *e, bool fp16)
{
    struct vec128 v;

    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        v.w[i] = dev_pack_16(e->x[2 * i], e->x[2 * i + 1], fp16);
    dev_store128(t, (uint16_t *)p + at, v);
}

/* Of all threads of the block; room: WARPS floats of shared memory. */
DEV float block_sum(struct lane *t, float x, float *room)
{
    float sum = 0.0f;

    x = dev_sum(t, x, 32);
    if (!dev_lane(t))
        room[dev_warp(t)] = x;
    dev_barrier(t);
    for (uint32_t w = 0; w < WARPS; w++)
        sum += room[w];
    return sum;
}

/* s is read back as stored, so that both passes see the same numbers. */
DEV void norm_body(struct lane *t, const struct norm_args *a)
{
    uint64_t row = (uint64_t)dev_block(t, 0) * a->width;
    const void *s = a->residual ? a->residual : a->x;
    float squares = 0.0f, factor;

    for (uint32_t i = 8 * dev_thread(t); i < a->width; i += 8 * LAYER_THREADS) {
        struct eight e = load_eight(t, a->x, row + i, a->fp16);
        if (a->residual) {
            struct eight r = load_eight(t, a->residual, row + i, a->fp16);
            UNROLL
            for (uint32_t j = 0; j < 8; j++) {
                uint32_t sum = dev_pack_16(e.x[j] + r.x[j], 0.0f, a->fp16);
                e.x[j] = dev_from_16((uint16_t)sum, a->fp16);
            }
            store_eight(t, a->residual, row + i, &e, a->fp16);
            dev_flop(t, 8, 0);
        }
        UNROLL
        for (uint32_t j = 0; j < 8; j++)
            squares = dev_fma(e.x[j], e.x[j], squares);
        dev_flop(t, 16, 0);
    }
    squares = block_sum(t, squares, (float *)dev_shared(t));
    factor = 1.0f / sqrtf(squares / (float)a->width + a->epsilon);
    for (uint32_t i = 8 * dev_thread(t); i < a->width; i += 8 * LAYER_THREADS) {
        struct eight e = load_eight(t, s, row + i, a->fp16);
        struct eight w =
            a->wide_weight ? load_wide(t, a->weight, i) : load_eight(t, a->weight, i, a->fp16);
        UNROLL
        for (uint32_t j = 0; j < 8; j++)
            e.x[j] = e.x[j] * factor * w.x[j];
        dev_flop(t, 16, 0);
        store_eight(t, a->out, row + i, &e, a->fp16);
    }
}

/* x0 y0 x1 y1 ... in x and y together to x and y apart, or back. */
DEV void deal(struct eight *x, struct eight *y, bool apart)
{
    struct eight a, b;

    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        a.x[apart ? i : 2 * i] = x->x[apart ? 2 * i : i];
        a.x[apart ? i + 4 : 2 * i + 1] = apart ? y->x[2 * i] : y->x[i];
        b.x[apart ? i : 2 * i] = apart ? x->x[2 * i + 1] : x->x[i + 4];
        b.x[apart ? i + 4 : 2 * i + 1] = y->x[apart ? 2 * i + 1 : i + 4];
    }
    *x = a;
    *y = b;
}

/* 8 pairs: elements of the first half and their partners of the second, or 16 neighbours. */
DEV void rope_body(struct lane *t, const struct rope_args *a)
{
    uint64_t unit = (uint64_t)dev_block(t, 0) * LAYER_THREADS + dev_thread(t);
    uint32_t units = a->rotary / 16, half = a->rotary / 2, first = (uint32_t)(unit % units) * 8;
    uint64_t head = unit / units, at = head * a->dim + (a->neighbours ? 2 * first : first);
    uint64_t partner = at + (a->neighbours ? 8 : half);
    struct eight x, y;

    if (head >= (uint64_t)a->rows * a->heads)
        return;
    uint32_t position = dev_load32(t, a->position + head / a->heads);
    const float *turn = a->table + ((uint64_t)position * half + first) * 2;
    x = load_eight(t, a->x, at, a->fp16);
    y = load_eight(t, a->x, partner, a->fp16);
    if (a->neighbours)
        deal(&x, &y, true);
    UNROLL
    for (uint32_t i = 0; i < 8; i++) {
        uint64_t pair = dev_load64(t, turn + 2 * i);
        float cosine = dev_float((uint32_t)pair), sine = dev_float((uint32_t)(pair >> 32));
        float turned = x.x[i] * cosine - y.x[i] * sine;
        y.x[i] = y.x[i] * cosine + x.x[i] * sine;
        x.x[i] = turned;
    }
    dev_flop(t, 48, 0);
    if (a->neighbours)
        deal(&x, &y, false);
    store_eight(t, a->x, at, &x, a->fp16);
    store_eight(t, a->x, partner, &y, a->fp16);
}

DEV void swiglu_body(struct lane *t, const struct swiglu_args *a)
{
    uint64_t unit = (uint64_t)dev_block(t, 0) * LAYER_THREADS + dev_thread(t);
    uint32_t units = a->width / 8, first = (uint32_t)(unit % units) * 8;
    uint64_t row = unit / units;

    if (row >= a->rows)
        return;
    struct eight g = load_eight(t, a->gate_up, row * 2 * a->width + first, a->fp16);
    struct eight u = load_eight(t, a->gate_up, (row * 2 + 1) * a->width + first, a->fp16);
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        g.x[i] = g.x[i] / (1.0f + dev_exp2(g.x[i] * -1.4426950408889634f)) * u.x[i];
    dev_exps(t, 8);
    dev_flop(t, 16, 0);
    store_eight(t, a->out, row * a->width + first, &g, a->fp16);
}

/* The largest of the warp, and of its equals the smallest index (exact in fp32 up to 2^24). */
DEV void warp_argmax(struct lane *t, float *value, float *index)
{
    float most = dev_max(t, *value, 32);

    *index = -dev_max(t, *value == most ? -*index : NONE, 32);
    *value = most;
}

DEV void argmax_body(struct lane *t, const struct argmax_args *a)
{
    float *values = (float *)dev_shared(t), *indices = values + WARPS;
    const float *row = a->logits + (uint64_t)dev_block(t, 0) * a->width;
    float value = NONE, index = (float)(4 * dev_thread(t));

    for (uint32_t i = 4 * dev_thread(t); i < a->width; i += 4 * LAYER_THREADS) {
        struct vec128 v = dev_load128(t, row + i);
        UNROLL
        for (uint32_t j = 0; j < 4; j++)
            if (dev_float(v.w[j]) > value) {
                value = dev_float(v.w[j]);
                index = (float)(i + j);
            }
    }
    warp_argmax(t, &value, &index);
    if (!dev_lane(t)) {
        values[dev_warp(t)] = value;
        indices[dev_warp(t)] = index;
    }
    dev_barrier(t);
    if (dev_thread(t))
        return;
    for (uint32_t w = 1; w < WARPS; w++)
        if (values[w] > value || (values[w] == value && indices[w] < index)) {
            value = values[w];
            index = indices[w];
        }
    dev_store32(t, a->out + dev_block(t, 0), (uint32_t)index);
}

KERNEL(norm_kernel, LAYER_THREADS, struct norm_args, norm_body(t, a))
KERNEL(rope_kernel, LAYER_THREADS, struct rope_args, rope_body(t, a))
KERNEL(swiglu_kernel, LAYER_THREADS, struct swiglu_args, swiglu_body(t, a))
KERNEL(argmax_kernel, LAYER_THREADS, struct argmax_args, argmax_body(t, a))

static struct shape shape_of(uint64_t blocks)
{
    struct shape s = {{(uint32_t)blocks, 1, 1}, LAYER_THREADS, 2 * 4 * WARPS};

    return s;
}

static uint64_t blocks_of(uint64_t units)
{
    return (units + LAYER_THREADS - 1) / LAYER_THREADS;
}

LAUNCHER(norm)
{
    const struct norm_args *a = (const struct norm_args *)args;
    struct shape s = shape_of(a->rows);

    return LAUNCH(norm_kernel, s, a);
}

LAUNCHER(rope)
{
    const struct rope_args *a = (const struct rope_args *)args;
    struct shape s = shape_of(blocks_of((uint64_t)a->rows * a->heads * (a->rotary / 16)));

    return LAUNCH(rope_kernel, s, a);
}

LAUNCHER(swiglu)
{
    const struct swiglu_args *a = (const struct swiglu_args *)args;
    struct shape s = shape_of(blocks_of((uint64_t)a->rows * (a->width / 8)));

    return LAUNCH(swiglu_kernel, s, a);
}

LAUNCHER(argmax)
{
    const struct argmax_args *a = (const struct argmax_args *)args;
    struct shape s = shape_of(a->rows);

    return LAUNCH(argmax_kernel, s, a);
}
