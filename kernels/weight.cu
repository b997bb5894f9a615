/* Products with stored weights, by matrix instructions in which the weights are the operand of
 * 16 rows: codes go from device memory through shared memory, which only holds what is under
 * way, to the registers of the thread that loaded them, and become 16-bit numbers there.
 *
 * A block has 128 rows of the matrix, or of a part of it (32 a warp, two products high), up to
 * 8 or up to 64 rows of x, and one split of the sum. With g = lane / 4 and q = lane % 4 a
 * thread loads 16 bytes of rows g and g + 8: E = 32, 16 or 4 elements from column 4 E c + q E
 * on, c = 0, 1 ... (a chunk). Elements 4 s .. 4 s + 3 of them are its share of step s, as a
 * product does not mind in which order the columns come. x is laid out in shared memory in that
 * order, so that each thread finds its 4 elements of a step in 8 neighbouring bytes.
 *
 * Chunks run STAGES ahead and scales one, so that a warp always has loads under way. */
#include "kernels/dev.h"

#include "kernels/weight.h"
#include "kernels/weight_dev.h"

enum { WARPS = WEIGHT_THREADS / 32, HIGH = 2, WARP_OUTS = 16 * HIGH, OUTS = WARPS * WARP_OUTS };
enum { STAGES = 3, WIDE_MAX = 8, UNIT = 128, X_COLUMNS = 1024 };

struct shared {
    uint64_t x[X_COLUMNS / 4 * 8]; /* [chunk][step][8 rows][lane]: 4 elements */
    struct vec128 ring[WARPS][STAGES][2 * HIGH][32];
    float levels[16]; /* of NF4 */
};

struct job { /* of a thread; no arrays, so that what is constant in it is known */
    const struct weight_args *a;
    struct make mk;
    uint32_t g, q, warp_out, row, wide; /* first rows of w and x; rows of x / 8 */
    uint32_t out_end;                   /* of the part of the matrix */
    uint32_t first, end;                /* columns of this part */
    uint32_t shift;                     /* columns of a scale are 2^shift */
    struct shared *shared;
};

struct sums {
    float c[HIGH][WIDE_MAX][4];
};

struct scales { /* of a chunk */
    struct piece p[2 * HIGH];
};

struct chunk { /* that has come */
    const struct scales *scales;
    uint32_t stage;
    const uint64_t *x; /* its part of the slab */
};

DEV void clear(struct make mk, struct sums *s)
{
    UNROLL
    for (uint32_t i = 0; i < HIGH * mk.wide * 4; i++)
        s->c[i / 4 / mk.wide][i / 4 % mk.wide][i % 4] = 0.0f;
}

/* Of the 8 rows i. */
DEV uint32_t out_of(const struct job *j, uint32_t i)
{
    return j->warp_out + 8 * i + j->g;
}

/* The first row of the block's part of the matrix. */
DEV uint32_t part_base(struct lane *t, const struct weight_args *a, struct make mk)
{
    return mk.parts ? a->part.first + dev_block(t, 2) * a->part.step : 0;
}

DEV struct job job_of(struct lane *t, const struct weight_args *a, struct make mk)
{
    uint32_t units = (a->w.in + UNIT - 1) / UNIT, part = (units + a->splits - 1) / a->splits;
    uint32_t lane = dev_lane(t), first = a->splits > 1 ? dev_block(t, 2) * part : 0;
    uint32_t base = part_base(t, a, mk);
    struct job j;

    j.a = a;
    j.mk = mk;
    j.g = lane / 4;
    j.q = lane % 4;
    j.warp_out = base + dev_block(t, 1) * OUTS + dev_warp(t) * WARP_OUTS;
    j.out_end = mk.parts ? base + a->part.outs : a->w.outs;
    j.row = dev_block(t, 0) * mk.wide * 8;
    j.wide = (a->rows - j.row + 7) / 8;
    j.wide = j.wide < mk.wide ? j.wide : mk.wide;
    j.first = first < units ? first * UNIT : a->w.in;
    j.end = first + part < units ? (first + part) * UNIT : a->w.in;
    j.shift = 5;
    while (j.shift < 31 && 1u << j.shift < a->w.group)
        j.shift++;
    j.shared = (struct shared *)dev_shared(t);
    return j;
}

/* --- loads ----------------------------------------------------------------------------------
 */

/* What lies outside is nought, which is a number in any format. */
DEV void fetch(struct lane *t, const struct job *j, uint32_t chunk, uint32_t stage)
{
    uint32_t column = chunk + j->q * j->mk.columns;
    const struct vec128 nought = {{0, 0, 0, 0}};

    UNROLL
    for (uint32_t i = 0; i < 2 * HIGH; i++) {
        struct vec128 *to = &j->shared->ring[dev_warp(t)][stage][i][dev_lane(t)];
        uint64_t at = (uint64_t)out_of(j, i) * j->a->w.in + column;
        if (out_of(j, i) < j->out_end && column < j->end) {
            dev_async(t, to, (const uint8_t *)j->a->w.codes + at * j->mk.bits / 8);
            dev_conversions(t, j->mk.bits < 16 ? j->mk.columns : 0);
        } else {
            *to = nought;
        }
    }
}

DEV struct scales fetch_scales(struct lane *t, const struct job *j, uint32_t chunk)
{
    const struct weight_view *w = &j->a->w;
    uint32_t column = chunk + j->q * j->mk.columns;
    struct scales s;

    UNROLL
    for (uint32_t i = 0; i < 2 * HIGH; i++) {
        struct piece *p = &s.p[i];
        p->scale = p->zero = p->high[0] = p->high[1] = 0;
        if (j->mk.kind == WEIGHT_FP8_BLOCK) { /* of 16 rows, for all threads */
            if (i % 2 == 0 && j->warp_out + 8 * i < j->out_end && chunk < j->end)
                p->scale = block_scale(t, w, j->warp_out + 8 * i, chunk);
        } else if (out_of(j, i) < j->out_end && column < j->end) {
            struct piece_at at = {out_of(j, i), column, column >> j->shift};
            *p = piece_load(t, w, j->mk, at);
        }
    }
    return s;
}

/* 4 elements of a row of x as they are, or from the columns that `order` names. */
DEV uint64_t x_load(struct lane *t, const struct job *j, uint32_t row, uint32_t column)
{
    const struct weight_args *a = j->a;
    uint32_t stride = j->mk.parts ? a->part.x_stride : a->w.in;
    uint32_t from = j->mk.parts ? dev_block(t, 2) * a->part.x_step : 0;
    const uint16_t *x = (const uint16_t *)a->x + (uint64_t)row * stride;
    uint64_t all = 0;
    struct vec128 order;

    if (!a->w.ordered)
        return dev_load64(t, x + (from + column));
    order = dev_load128(t, (const uint32_t *)a->w.order + column);
    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        all |= (uint64_t)dev_load16(t, x + (from + order.w[i])) << 16 * i;
    return all;
}

/* Columns from `slab` on. */
DEV void stage_x(struct lane *t, const struct job *j, uint32_t slab)
{
    uint32_t steps = j->mk.columns / 4, count = X_COLUMNS / 16;

    for (uint32_t i = dev_warp(t); i < count; i += WARPS) {
        uint32_t n = i % j->mk.wide, step = i / j->mk.wide % steps;
        uint32_t chunk = i / j->mk.wide / steps, row = j->row + 8 * n + j->g;
        uint32_t column = slab + (4 * chunk + j->q) * j->mk.columns + 4 * step;
        bool there = row < j->a->rows && column < j->end;
        j->shared->x[32 * i + dev_lane(t)] = there ? x_load(t, j, row, column) : 0;
    }
}

/* --- products -------------------------------------------------------------------------------
 */

/* A step; w: pairs of elements of rows g, g + 8, twice, for each 16 rows. */
DEV void multiply(struct lane *t, const struct job *j, const uint64_t *x, const uint32_t *w,
                  struct sums *s)
{
    UNROLL
    for (uint32_t n = 0; n < j->mk.wide; n++) {
        if (j->mk.wide == 1 || n < j->wide) {
            uint64_t both = x[32 * n + dev_lane(t)];
            uint32_t pairs[2] = {(uint32_t)both, (uint32_t)(both >> 32)};
            UNROLL
            for (uint32_t i = 0; i < HIGH; i++)
                weight_mma(t, j->mk.fp16, s->c[i][n], w + 4 * i, pairs);
        }
    }
}

/* The products of a chunk. */
DEV void consume(struct lane *t, const struct job *j, const struct chunk *k, struct sums *s)
{
    struct vec128 codes[2 * HIGH];

    UNROLL
    for (uint32_t i = 0; i < 2 * HIGH; i++)
        codes[i] = j->shared->ring[dev_warp(t)][k->stage][i][dev_lane(t)];
    UNROLL
    for (uint32_t step = 0; step < j->mk.columns / 4; step++) {
        uint32_t w[4 * HIGH];
        UNROLL
        for (uint32_t i = 0; i < 2 * HIGH; i++) {
            struct pairs e =
                piece_decode(j->mk, &codes[i], &k->scales->p[i], step, j->shared->levels);
            w[i / 2 * 4 + i % 2] = e.w[0];
            w[i / 2 * 4 + 2 + i % 2] = e.w[1];
        }
        multiply(t, j, k->x + 32 * j->mk.wide * step, w, s);
    }
}

/* The same where a scale is for all of a chunk's columns. */
DEV void consume_block(struct lane *t, const struct job *j, const struct chunk *k,
                       struct sums *s)
{
    const uint32_t wide = j->mk.wide;
    struct sums part;

    clear(j->mk, &part);
    consume(t, j, k, &part);
    UNROLL
    for (uint32_t m = 0; m < HIGH * wide * 4; m++) {
        uint32_t i = m / 4 / wide, n = m / 4 % wide, e = m % 4;
        float scale = dev_float(k->scales->p[2 * i].scale);
        s->c[i][n][e] = dev_fma(part.c[i][n][e], scale, s->c[i][n][e]);
    }
    dev_flop(t, HIGH * j->wide * 8, 0);
}

/* Every thread of the block comes here, as all of them lay out x. */
DEV void sum_up(struct lane *t, const struct job *j, struct sums *s)
{
    const uint32_t chunk = 4 * j->mk.columns, slab = X_COLUMNS / j->mk.wide;
    bool busy = j->warp_out < j->out_end;
    uint32_t stage = 0, ahead = STAGES - 1;
    struct scales next;

    for (uint32_t i = 0; i < STAGES - 1; i++) {
        if (busy && j->first + i * chunk < j->end)
            fetch(t, j, j->first + i * chunk, i);
        dev_async_commit(t);
    }
    next = fetch_scales(t, j, j->first);
    for (uint32_t k = j->first; k < j->end; k += chunk) {
        uint32_t in_slab = (k - j->first) % slab;
        struct scales now = next;
        struct chunk here;
        if (!in_slab) {
            dev_barrier(t);
            stage_x(t, j, k);
            dev_barrier(t);
        }
        if (!busy)
            continue;
        if (k + (STAGES - 1) * chunk < j->end)
            fetch(t, j, k + (STAGES - 1) * chunk, ahead);
        dev_async_commit(t);
        next = fetch_scales(t, j, k + chunk);
        dev_async_wait(t, STAGES - 1);
        here.scales = &now;
        here.stage = stage;
        here.x = j->shared->x + 8 * j->mk.wide * (in_slab / 4);
        if (j->mk.kind == WEIGHT_FP8_BLOCK)
            consume_block(t, j, &here, s);
        else
            consume(t, j, &here, s);
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        ahead = ahead + 1 == STAGES ? 0 : ahead + 1;
    }
}

/* --- results --------------------------------------------------------------------------------
 */

DEV float bias_of(struct lane *t, const struct weight_args *a, uint32_t out)
{
    if (!a->bias)
        return 0.0f;
    if (a->wide_bias)
        return dev_load_float(t, (const float *)a->bias + out);
    return dev_from_16(dev_load16(t, (const uint16_t *)a->bias + out), a->fp16);
}

DEV void put(struct lane *t, const struct weight_args *a, uint32_t row, uint32_t out, float x)
{
    uint64_t at = (uint64_t)row * a->stride + out;

    if (a->wide)
        dev_store_float(t, (float *)a->out + at, x);
    else
        dev_store16(t, (uint16_t *)a->out + at, (uint16_t)dev_pack_16(x, 0.0f, a->fp16));
}

/* What came of 8 rows of the matrix: sums of two rows of x at a time. */
DEV void put_row(struct lane *t, const struct job *j, const struct sums *s, uint32_t i)
{
    const struct weight_args *a = j->a;
    const bool scaled =
        j->mk.kind == WEIGHT_FP8 || j->mk.kind == WEIGHT_INT8 || j->mk.kind == WEIGHT_NVFP4;
    uint32_t outs = j->mk.parts ? a->part.outs : a->w.outs;
    uint32_t out = out_of(j, i) - part_base(t, a, j->mk);
    float factor = scaled ? row_scale(t, &a->w, out_of(j, i)) : 1.0f;
    float bias = a->splits == 1 ? bias_of(t, a, out) : 0.0f;
    uint64_t part = (uint64_t)dev_block(t, 2) * a->rows * outs + out;
    uint32_t step = j->mk.parts ? dev_block(t, 2) * a->part.out_step : 0;

    UNROLL
    for (uint32_t k = 0; k < 2 * j->mk.wide; k++) {
        uint32_t row = j->row + 8 * (k / 2) + 2 * j->q + k % 2;
        float x = s->c[i / 2][k / 2][2 * (i % 2) + k % 2];
        if (row < a->rows) {
            x = scaled ? x * factor : x;
            dev_flop(t, (scaled ? 1u : 0u) + (a->splits == 1 && a->bias ? 1u : 0u),
                     2 * (uint64_t)(j->end - j->first));
            if (a->splits == 1)
                put(t, a, row, out + step, x + bias);
            else
                dev_store_float(t, (float *)a->work + part + (uint64_t)row * outs, x);
        }
    }
}

DEV void weight_body(struct lane *t, const struct weight_args *a, struct make mk)
{
    struct job j = job_of(t, a, mk);
    struct sums s;

    if (mk.kind == WEIGHT_NF4 && dev_thread(t) < 16)
        j.shared->levels[dev_thread(t)] = nf4_level(dev_thread(t));
    clear(mk, &s);
    sum_up(t, &j, &s);
    UNROLL
    for (uint32_t i = 0; i < 2 * HIGH; i++)
        if (out_of(&j, i) < j.out_end)
            put_row(t, &j, &s, i);
}

/* The parts of a sum in order, so that it does not depend on which came first. */
DEV void weight_sum_body(struct lane *t, const struct weight_args *a)
{
    uint64_t n = (uint64_t)a->rows * a->part.outs;
    uint64_t at = (uint64_t)dev_block(t, 0) * WEIGHT_THREADS + dev_thread(t);
    uint32_t out = (uint32_t)(at % a->part.outs);
    float sum = 0.0f;

    if (at >= n)
        return;
    for (uint32_t i = 0; i < a->splits; i++)
        sum += dev_load_float(t, (const float *)a->work + i * n + at);
    dev_flop(t, a->splits + (a->bias ? 1u : 0u), 0);
    put(t, a, (uint32_t)(at / a->part.outs), out, sum + bias_of(t, a, out));
}

/* A row that is looked up: a thread takes 16 bytes of codes. */
DEV void weight_rows_body(struct lane *t, const struct weight_rows_args *a, uint32_t bits)
{
    struct make mk = made(a->w.kind, bits, 1, a->fp16);
    uint64_t unit = (uint64_t)dev_block(t, 0) * WEIGHT_THREADS + dev_thread(t);
    uint32_t units = a->w.in / mk.columns, column = (uint32_t)(unit % units) * mk.columns;
    uint64_t row = unit / units, at;
    float *levels = (float *)dev_shared(t);
    struct piece_at x;
    struct piece p;
    struct vec128 codes;

    if (dev_thread(t) < 16)
        levels[dev_thread(t)] = nf4_level(dev_thread(t));
    dev_barrier(t);
    if (row >= a->rows)
        return;
    x.out = dev_load32(t, a->index + row);
    x.column = column;
    x.group = a->w.group ? column / a->w.group : 0;
    at = (uint64_t)x.out * a->w.in + column;
    codes = dev_load128(t, (const uint8_t *)a->w.codes + at * bits / 8);
    p = piece_load(t, &a->w, mk, x);
    dev_conversions(t, mk.columns);
    UNROLL
    for (uint32_t step = 0; step < mk.columns / 4; step++) {
        struct pairs e = piece_decode(mk, &codes, &p, step, levels);
        dev_store64(t, (uint16_t *)a->out + row * a->w.in + column + 4 * step,
                    e.w[0] | (uint64_t)e.w[1] << 32);
    }
}

/* --- kernels --------------------------------------------------------------------------------
 */

DEV struct make whole(struct make mk)
{
    mk.parts = false;
    return mk;
}

/* Kernels for many rows of x have a twin for the matrix as a whole, in fewer registers. */
#define WEIGHT(name, kind, bits)                                                               \
    KERNEL(name##_bf16, WEIGHT_THREADS, struct weight_args,                                    \
           weight_body(t, a, made(kind, bits, 1, false)))                                      \
    KERNEL(name##_fp16, WEIGHT_THREADS, struct weight_args,                                    \
           weight_body(t, a, made(kind, bits, 1, true)))                                       \
    KERNEL(name##_bf16_parts, WEIGHT_THREADS, struct weight_args,                              \
           weight_body(t, a, made(kind, bits, WIDE_MAX, false)))                               \
    KERNEL(name##_fp16_parts, WEIGHT_THREADS, struct weight_args,                              \
           weight_body(t, a, made(kind, bits, WIDE_MAX, true)))                                \
    KERNEL(name##_bf16_many, WEIGHT_THREADS, struct weight_args,                               \
           weight_body(t, a, whole(made(kind, bits, WIDE_MAX, false))))                        \
    KERNEL(name##_fp16_many, WEIGHT_THREADS, struct weight_args,                               \
           weight_body(t, a, whole(made(kind, bits, WIDE_MAX, true))))

WEIGHT(weight_fp32, WEIGHT_FP32, 32)
WEIGHT(weight_fp8, WEIGHT_FP8, 8)
WEIGHT(weight_fp8_block, WEIGHT_FP8_BLOCK, 8)
WEIGHT(weight_int8, WEIGHT_INT8, 8)
WEIGHT(weight_int8_group, WEIGHT_INT8_GROUP, 8)
WEIGHT(weight_int4, WEIGHT_INT4_GROUP, 4)
WEIGHT(weight_mxfp4, WEIGHT_MXFP4, 4)
WEIGHT(weight_nvfp4, WEIGHT_NVFP4, 4)
WEIGHT(weight_nf4, WEIGHT_NF4, 4)
WEIGHT(weight_q4_k, WEIGHT_Q4_K, 4)
WEIGHT(weight_q5_k, WEIGHT_Q5_K, 4)
WEIGHT(weight_q6_k, WEIGHT_Q6_K, 4)
KERNEL(weight_rows_4, WEIGHT_THREADS, struct weight_rows_args, weight_rows_body(t, a, 4))
KERNEL(weight_rows_8, WEIGHT_THREADS, struct weight_rows_args, weight_rows_body(t, a, 8))
KERNEL(weight_sum_kernel, WEIGHT_THREADS, struct weight_args, weight_sum_body(t, a))

#define RUN(name)                                                                              \
    do {                                                                                       \
        if (a->rows <= 8)                                                                      \
            return a->fp16 ? LAUNCH(name##_fp16, s, a) : LAUNCH(name##_bf16, s, a);            \
        if (parts)                                                                             \
            return a->fp16 ? LAUNCH(name##_fp16_parts, s, a)                                   \
                           : LAUNCH(name##_bf16_parts, s, a);                                  \
        return a->fp16 ? LAUNCH(name##_fp16_many, s, a) : LAUNCH(name##_bf16_many, s, a);      \
    } while (0)

LAUNCHER(weight)
{
    const struct weight_args *a = (const struct weight_args *)args;
    bool parts = a->part.outs != a->w.outs || a->part.x_stride != a->w.in;
    uint32_t high = a->rows <= 8 ? 8 : 8 * WIDE_MAX, outs = a->part.outs;
    struct shape s = {
        {(a->rows + high - 1) / high, (outs + OUTS - 1) / OUTS, a->splits * a->part.products},
        WEIGHT_THREADS,
        (uint32_t)sizeof(struct shared)};

    if (!a->fp16 && dev_capability(self) < 80)
        return dev_refuse(self, DEVICE_UNSUPPORTED,
                          "weight: bf16 products need compute capability 8.0; use fp16");
    switch (a->w.kind) {
    case WEIGHT_FP32: RUN(weight_fp32);
    case WEIGHT_FP8: RUN(weight_fp8);
    case WEIGHT_FP8_BLOCK: RUN(weight_fp8_block);
    case WEIGHT_INT8: RUN(weight_int8);
    case WEIGHT_INT8_GROUP: RUN(weight_int8_group);
    case WEIGHT_INT4_GROUP: RUN(weight_int4);
    case WEIGHT_MXFP4: RUN(weight_mxfp4);
    case WEIGHT_NVFP4: RUN(weight_nvfp4);
    case WEIGHT_NF4: RUN(weight_nf4);
    case WEIGHT_Q4_K: RUN(weight_q4_k);
    case WEIGHT_Q5_K: RUN(weight_q5_k);
    case WEIGHT_Q6_K: break;
    }
    RUN(weight_q6_k);
}

LAUNCHER(weight_rows)
{
    const struct weight_rows_args *a = (const struct weight_rows_args *)args;
    bool bytes = a->w.kind == WEIGHT_INT8_GROUP;
    uint64_t units = (uint64_t)a->rows * (a->w.in / (bytes ? 16 : 32));
    struct shape s = {{(uint32_t)((units + WEIGHT_THREADS - 1) / WEIGHT_THREADS), 1, 1},
                      WEIGHT_THREADS,
                      16 * 4};

    return bytes ? LAUNCH(weight_rows_8, s, a) : LAUNCH(weight_rows_4, s, a);
}

LAUNCHER(weight_sum)
{
    const struct weight_args *a = (const struct weight_args *)args;
    uint64_t n = (uint64_t)a->rows * a->part.outs;
    struct shape s = {
        {(uint32_t)((n + WEIGHT_THREADS - 1) / WEIGHT_THREADS), 1, 1}, WEIGHT_THREADS, 0};

    return LAUNCH(weight_sum_kernel, s, a);
}
