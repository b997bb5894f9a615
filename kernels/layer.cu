/* The small kernels of a layer. norm and argmax: a block a row. rope, swiglu and scale: a
 * thread a unit of 16 or 8 elements, wherever it lies. logits: a thread each. */
#include "kernels/eight_dev.h"

#include "kernels/layer.h"

enum { WARPS = LAYER_THREADS / 32 };

#define NONE (-3.4e38f)

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

/* Of this thread's elements the sum, or the sum of their squares about `mean`. */
DEV float norm_part(const struct eight *e, float mean, bool squares)
{
    float sum = 0.0f;

    UNROLL
    for (uint32_t j = 0; j < 8; j++)
        sum = squares ? dev_fma(e->x[j] - mean, e->x[j] - mean, sum) : sum + e->x[j];
    return sum;
}

/* s, which is left in the residual; of it the sum where it is centred, else that of squares. */
DEV float norm_first(struct lane *t, const struct norm_args *a, uint64_t row)
{
    float sum = 0.0f;

    for (uint32_t i = 8 * dev_thread(t); i < a->width; i += 8 * LAYER_THREADS) {
        struct eight e = eight_load(t, a->x, row + i, a->fp16);
        if (a->residual) {
            struct eight r = eight_load(t, a->residual, row + i, a->fp16);
            UNROLL
            for (uint32_t j = 0; j < 8; j++) {
                uint32_t rounded = dev_pack_16(e.x[j] + r.x[j], 0.0f, a->fp16);
                e.x[j] = dev_from_16((uint16_t)rounded, a->fp16);
            }
            eight_store(t, a->residual, row + i, &e, a->fp16);
            dev_flop(t, 8, 0);
        }
        sum += norm_part(&e, 0.0f, !a->centred);
        dev_flop(t, a->centred ? 8 : 16, 0);
    }
    return sum;
}

DEV void norm_last(struct lane *t, const struct norm_args *a, uint64_t row, float mean,
                   float factor)
{
    const void *s = a->residual ? a->residual : a->x;

    for (uint32_t i = 8 * dev_thread(t); i < a->width; i += 8 * LAYER_THREADS) {
        struct eight e = eight_load(t, s, row + i, a->fp16);
        struct eight w = {{1, 1, 1, 1, 1, 1, 1, 1}}, b = {{0, 0, 0, 0, 0, 0, 0, 0}};
        if (a->weight)
            w = eight_load_any(t, a->weight, i, a->fp16, a->wide_weight);
        if (a->bias)
            b = eight_load_any(t, a->bias, i, a->fp16, a->wide_weight);
        UNROLL
        for (uint32_t j = 0; j < 8; j++)
            e.x[j] = (e.x[j] - mean) * factor * w.x[j] + b.x[j];
        dev_flop(t, 8 + (a->centred ? 8u : 0u) + (a->weight ? 8u : 0u) + (a->bias ? 8u : 0u),
                 0);
        eight_store(t, a->out, row + i, &e, a->fp16);
    }
}

/* s is read back as stored, so that all passes see the same numbers. The spread is taken about
 * the mean: a difference of sums would lose it where the mean is large. */
DEV void norm_body(struct lane *t, const struct norm_args *a)
{
    uint64_t row = (uint64_t)dev_block(t, 0) * a->width;
    const void *s = a->residual ? a->residual : a->x;
    float *room = (float *)dev_shared(t), mean = 0.0f;
    float squares = block_sum(t, norm_first(t, a, row), room);

    if (a->centred) {
        mean = squares / (float)a->width;
        squares = 0.0f;
        for (uint32_t i = 8 * dev_thread(t); i < a->width; i += 8 * LAYER_THREADS) {
            struct eight e = eight_load(t, s, row + i, a->fp16);
            squares += norm_part(&e, mean, true);
            dev_flop(t, 24, 0);
        }
        squares = block_sum(t, squares, room + WARPS);
    }
    norm_last(t, a, row, mean, 1.0f / sqrtf(squares / (float)a->width + a->epsilon));
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
    x = eight_load(t, a->x, at, a->fp16);
    y = eight_load(t, a->x, partner, a->fp16);
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
    eight_store(t, a->x, at, &x, a->fp16);
    eight_store(t, a->x, partner, &y, a->fp16);
}

DEV void swiglu_body(struct lane *t, const struct swiglu_args *a)
{
    uint64_t unit = (uint64_t)dev_block(t, 0) * LAYER_THREADS + dev_thread(t);
    uint32_t units = a->width / 8, first = (uint32_t)(unit % units) * 8;
    uint64_t row = unit / units;

    if (row >= a->rows)
        return;
    struct eight g = eight_load(t, a->gate_up, row * 2 * a->width + first, a->fp16);
    struct eight u = eight_load(t, a->gate_up, (row * 2 + 1) * a->width + first, a->fp16);
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        g.x[i] = g.x[i] / (1.0f + dev_exp2(g.x[i] * -DEV_LOG2E)) * u.x[i];
    dev_exps(t, 8);
    dev_flop(t, 16, 0);
    eight_store(t, a->out, row * a->width + first, &g, a->fp16);
}

DEV float opened(float gate, bool plain)
{
    return plain ? gate : dev_sigmoid(gate);
}

DEV void scale_body(struct lane *t, const struct scale_args *a)
{
    uint64_t at = ((uint64_t)dev_block(t, 0) * LAYER_THREADS + dev_thread(t)) * 8;
    uint64_t width = (uint64_t)a->heads * a->dim, row = at / width, column = at % width;
    const uint16_t *gate = (const uint16_t *)a->gate + row * a->stride;
    struct eight x, g;

    if (row >= a->rows)
        return;
    x = eight_load(t, a->x, at, a->fp16);
    if (a->each) {
        g = eight_load(t, gate, column, a->fp16);
        UNROLL
        for (uint32_t i = 0; i < 8; i++)
            g.x[i] = opened(g.x[i], a->plain);
    } else {
        g.x[0] = dev_from_16(dev_load16(t, gate + column / a->dim), a->fp16);
        g.x[0] = opened(g.x[0], a->plain);
        UNROLL
        for (uint32_t i = 1; i < 8; i++)
            g.x[i] = g.x[0];
    }
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        x.x[i] *= g.x[i];
    if (!a->plain)
        dev_exps(t, a->each ? 8 : 1);
    dev_flop(t, 8, 0);
    eight_store(t, a->x, at, &x, a->fp16);
}

/* tanh(y) = 1 - 2 / (1 + exp(2 y)) */
DEV void logits_body(struct lane *t, const struct logits_args *a)
{
    uint64_t unit = (uint64_t)dev_block(t, 0) * LAYER_THREADS + dev_thread(t);
    uint64_t row = unit / a->width, column = unit % a->width;
    float *at = a->x + row * a->stride + column, x;

    if (row >= a->rows)
        return;
    x = dev_load_float(t, at);
    if (a->bias) {
        x += dev_from_16(dev_load16(t, (const uint16_t *)a->bias + column), a->fp16);
        dev_flop(t, 1, 0);
    }
    if (a->cap > 0.0f) {
        x = a->cap - 2.0f * a->cap / (1.0f + dev_exp2(x * (2.0f * DEV_LOG2E / a->cap)));
        dev_flop(t, 2, 0);
        dev_exps(t, 1);
    }
    dev_store_float(t, at, x);
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
    uint64_t stride = a->stride ? a->stride : a->width;
    const float *row = a->logits + dev_block(t, 0) * stride;
    float value = NONE, index = (float)(4 * dev_thread(t));

    for (uint32_t i = 4 * dev_thread(t); i < a->width; i += 4 * LAYER_THREADS) {
        struct vec128 v = dev_load128(t, row + i);
        UNROLL
        for (uint32_t j = 0; j < 4; j++)
            if (i + j < a->width && dev_float(v.w[j]) > value) {
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
KERNEL(scale_kernel, LAYER_THREADS, struct scale_args, scale_body(t, a))
KERNEL(logits_kernel, LAYER_THREADS, struct logits_args, logits_body(t, a))
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

LAUNCHER(scale)
{
    const struct scale_args *a = (const struct scale_args *)args;
    struct shape s = shape_of(blocks_of((uint64_t)a->rows * a->heads * (a->dim / 8)));

    return LAUNCH(scale_kernel, s, a);
}

LAUNCHER(logits)
{
    const struct logits_args *a = (const struct logits_args *)args;
    struct shape s = shape_of(blocks_of((uint64_t)a->rows * a->width));

    return LAUNCH(logits_kernel, s, a);
}

LAUNCHER(argmax)
{
    const struct argmax_args *a = (const struct argmax_args *)args;
    struct shape s = shape_of(a->rows);

    return LAUNCH(argmax_kernel, s, a);
}
