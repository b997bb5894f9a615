/* Products with stored weights from their other side, where rows of the matrix are summed up:
 * what turns a query of MLA into a latent. One part of the matrix for each head.
 *
 * A warp has 8 rows of x and 8 E columns, E = 32, 16 or 4 being those in 16 bytes of codes.
 * With g = lane / 4 and q = lane % 4 a thread loads 16 bytes of the rows 2 q, 2 q + 1, 2 q + 8
 * and 2 q + 9 of each 16 (a step), from column g E of the warp's on. Elements of two rows in
 * one column become a pair, so that the columns are the 16 rows of the matrix instruction and
 * each two of a thread's columns one of it. Loads run a step ahead.
 *
 * Scales of rows are multiplied into the weights, in 16 bits; of blocks, into the sums of the
 * rows that have them; of the matrix, into the results. */
#include "kernels/dev.h"

#include "kernels/weight.h"
#include "kernels/weight_dev.h"

enum { WARPS = WEIGHT_THREADS / 32, STEP = 16, BLOCK = 128, PRODUCTS_MAX = 16 };

struct job {
    const struct weight_args *a;
    struct make mk;
    uint32_t g, q, part;
    uint32_t column, base, row; /* first ones of the thread's, of the matrix, of x */
    uint32_t shift;             /* columns of a scale are 2^shift */
    bool inside;
    const float *levels; /* of NF4 */
};

struct step { /* what a thread loads for 16 rows */
    struct vec128 codes[4];
    struct piece p[4];
    uint32_t x[2];
};

struct sums {
    float c[PRODUCTS_MAX][4];
};

DEV bool by_row(const struct job *j)
{
    return (j->mk.kind == WEIGHT_FP8 && !j->a->w.one_scale) || j->mk.kind == WEIGHT_INT8;
}

DEV struct job job_of(struct lane *t, const struct weight_args *a, struct make mk)
{
    uint32_t lane = dev_lane(t), warp = dev_block(t, 1) * WARPS + dev_warp(t);
    struct job j;

    j.a = a;
    j.mk = mk;
    j.g = lane / 4;
    j.q = lane % 4;
    j.part = dev_block(t, 2);
    j.column = (8 * warp + j.g) * mk.columns;
    j.base = a->part.first + j.part * a->part.step;
    j.row = dev_block(t, 0) * 8;
    j.shift = 5;
    while (j.shift < 31 && 1u << j.shift < a->w.group)
        j.shift++;
    j.inside = j.column < a->w.in;
    j.levels = (const float *)dev_shared(t);
    return j;
}

/* --- loads ----------------------------------------------------------------------------------
 */

DEV struct piece scale_of(struct lane *t, const struct job *j, uint32_t row)
{
    struct piece_at at = {row, j->column, j->column >> j->shift};
    struct piece p;

    p.scale = p.zero = p.high[0] = p.high[1] = 0;
    if (j->mk.kind == WEIGHT_FP8_BLOCK)
        return p;
    p = piece_load(t, &j->a->w, j->mk, at);
    if (by_row(j))
        p.scale = dev_load32(t, (const uint32_t *)j->a->w.scales + row);
    return p;
}

/* 4 rows of 16, and two pairs of a row of x. What lies outside is nought. */
DEV struct step load(struct lane *t, const struct job *j, uint32_t first)
{
    const struct weight_args *a = j->a;
    const uint16_t *x = (const uint16_t *)a->x + j->part * a->part.x_step +
                        (uint64_t)(j->row + j->g) * a->part.x_stride;
    const struct vec128 nought = {{0, 0, 0, 0}};
    struct step s;

    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t row = first + 2 * j->q + i % 2 + 8 * (i / 2);
        s.codes[i] = nought;
        s.p[i].scale = s.p[i].zero = s.p[i].high[0] = s.p[i].high[1] = 0;
        if (row < a->part.outs && j->inside) {
            uint64_t at = (uint64_t)(j->base + row) * a->w.in + j->column;
            s.codes[i] = dev_load128(t, (const uint8_t *)a->w.codes + at * j->mk.bits / 8);
            s.p[i] = scale_of(t, j, j->base + row);
            dev_conversions(t, j->mk.bits < 16 ? j->mk.columns : 0);
        }
    }
    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t k = first + 2 * j->q + 8 * i;
        bool there = k < a->part.outs && j->row + j->g < a->rows;
        s.x[i] = there ? dev_load32(t, x + k) : 0;
    }
    return s;
}

/* --- products -------------------------------------------------------------------------------
 */

DEV void clear(const struct job *j, struct sums *s)
{
    UNROLL
    for (uint32_t i = 0; i < j->mk.columns / 2 * 4; i++)
        s->c[i / 4][i % 4] = 0.0f;
}

DEV uint32_t times(const struct job *j, uint32_t pair, float scale)
{
    return dev_pack_16(dev_from_16((uint16_t)pair, j->mk.fp16) * scale,
                       dev_from_16((uint16_t)(pair >> 16), j->mk.fp16) * scale, j->mk.fp16);
}

/* Elements 4 n .. 4 n + 3 of a row. */
DEV struct pairs decode(const struct job *j, const struct step *s, uint32_t i, uint32_t n)
{
    struct pairs e = piece_decode(j->mk, &s->codes[i], &s->p[i], n, j->levels);

    if (by_row(j)) {
        e.w[0] = times(j, e.w[0], dev_float(s->p[i].scale));
        e.w[1] = times(j, e.w[1], dev_float(s->p[i].scale));
    }
    return e;
}

DEV void multiply(struct lane *t, const struct job *j, const struct step *s, struct sums *sums)
{
    UNROLL
    for (uint32_t n = 0; n < j->mk.columns / 4; n++) {
        struct pairs e[4];
        UNROLL
        for (uint32_t i = 0; i < 4; i++)
            e[i] = decode(j, s, i, n);
        UNROLL
        for (uint32_t i = 0; i < 2; i++) {
            uint32_t w[4] = {dev_permute(e[0].w[i], e[1].w[i], 0x5410),
                             dev_permute(e[0].w[i], e[1].w[i], 0x7632),
                             dev_permute(e[2].w[i], e[3].w[i], 0x5410),
                             dev_permute(e[2].w[i], e[3].w[i], 0x7632)};
            weight_mma(t, j->mk.fp16, sums->c[2 * n + i], w, s->x);
        }
    }
}

/* How many rows of the part a step is of, where they have scales of their own. */
DEV uint32_t rows_there(const struct job *j, uint32_t first)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < 4; i++)
        n += first + 2 * j->q + i % 2 + 8 * (i / 2) < j->a->part.outs;
    return j->inside && by_row(j) ? n : 0;
}

/* The sums of a block's rows, with their scale. */
DEV void settle(struct lane *t, const struct job *j, uint32_t row, struct sums *part,
                struct sums *sums)
{
    uint32_t warp = j->column - j->g * j->mk.columns;
    float scale = dev_float(block_scale(t, &j->a->w, row, warp));

    UNROLL
    for (uint32_t i = 0; i < j->mk.columns / 2 * 4; i++)
        sums->c[i / 4][i % 4] = dev_fma(part->c[i / 4][i % 4], scale, sums->c[i / 4][i % 4]);
    clear(j, part);
    dev_flop(t, 4 * j->mk.columns, 0);
}

DEV void sum_up(struct lane *t, const struct job *j, struct sums *sums)
{
    struct step next = load(t, j, 0);
    struct sums part;

    clear(j, sums);
    clear(j, &part);
    for (uint32_t k = 0; k < j->a->part.outs; k += STEP) {
        uint32_t end = j->base + k + STEP;
        struct step now = next;
        next = load(t, j, k + STEP);
        dev_flop(t, rows_there(j, k) * j->mk.columns, 0);
        multiply(t, j, &now, j->mk.kind == WEIGHT_FP8_BLOCK ? &part : sums);
        if (j->mk.kind == WEIGHT_FP8_BLOCK && (end % BLOCK == 0 || k + STEP >= j->a->part.outs))
            settle(t, j, j->base + k, &part, sums);
    }
}

/* --- results --------------------------------------------------------------------------------
 */

/* Columns n and n + 1 of the thread's, which stand next to each other unless there is an
 * order. */
DEV void put(struct lane *t, const struct job *j, uint16_t *to, uint32_t n, uint32_t both)
{
    const uint32_t *order = (const uint32_t *)j->a->w.order;

    if (!j->a->w.ordered) {
        dev_store32(t, to + j->column + n, both);
        return;
    }
    order += j->column + n;
    dev_store16(t, to + dev_load32(t, order), (uint16_t)both);
    dev_store16(t, to + dev_load32(t, order + 1), (uint16_t)(both >> 16));
}

DEV void put_rows(struct lane *t, const struct job *j, const struct sums *s)
{
    const struct weight_args *a = j->a;
    const bool scaled =
        j->mk.kind == WEIGHT_NVFP4 || (j->mk.kind == WEIGHT_FP8 && a->w.one_scale);
    float factor = scaled ? row_scale(t, &a->w, 0) : 1.0f;

    for (uint32_t i = 0; i < 2; i++) {
        uint32_t row = j->row + 2 * j->q + i;
        uint16_t *to =
            (uint16_t *)a->out + j->part * a->part.out_step + (uint64_t)row * a->stride;
        if (row >= a->rows)
            continue;
        UNROLL
        for (uint32_t n = 0; n < j->mk.columns / 2; n++) {
            float low = s->c[n][i], high = s->c[n][i + 2];
            put(t, j, to, 2 * n, dev_pack_16(low * factor, high * factor, j->mk.fp16));
        }
        dev_flop(t, scaled ? j->mk.columns : 0u, 2 * (uint64_t)a->part.outs * j->mk.columns);
    }
}

DEV void across_body(struct lane *t, const struct weight_args *a, struct make mk)
{
    struct job j = job_of(t, a, mk);
    float *levels = (float *)dev_shared(t);
    struct sums s;

    if (mk.kind == WEIGHT_NF4) {
        if (dev_thread(t) < 16)
            levels[dev_thread(t)] = nf4_level(dev_thread(t));
        dev_barrier(t);
    }
    if (j.column - j.g * mk.columns >= a->w.in)
        return;
    sum_up(t, &j, &s);
    if (j.inside)
        put_rows(t, &j, &s);
}

/* --- kernels --------------------------------------------------------------------------------
 */

#define ACROSS(name, kind, bits)                                                               \
    KERNEL(name##_bf16, WEIGHT_THREADS, struct weight_args,                                    \
           across_body(t, a, made(kind, bits, 1, false)))                                      \
    KERNEL(name##_fp16, WEIGHT_THREADS, struct weight_args,                                    \
           across_body(t, a, made(kind, bits, 1, true)))

ACROSS(across_fp32, WEIGHT_FP32, 32)
ACROSS(across_fp8, WEIGHT_FP8, 8)
ACROSS(across_fp8_block, WEIGHT_FP8_BLOCK, 8)
ACROSS(across_int8, WEIGHT_INT8, 8)
ACROSS(across_int8_group, WEIGHT_INT8_GROUP, 8)
ACROSS(across_int4, WEIGHT_INT4_GROUP, 4)
ACROSS(across_mxfp4, WEIGHT_MXFP4, 4)
ACROSS(across_nvfp4, WEIGHT_NVFP4, 4)
ACROSS(across_nf4, WEIGHT_NF4, 4)
ACROSS(across_q4_k, WEIGHT_Q4_K, 4)
ACROSS(across_q5_k, WEIGHT_Q5_K, 4)
ACROSS(across_q6_k, WEIGHT_Q6_K, 4)

#define RUN(name, bits)                                                                        \
    do {                                                                                       \
        s.grid[1] = (a->w.in + WARPS * 8 * (128 / (bits)) - 1) / (WARPS * 8 * (128 / (bits))); \
        return a->fp16 ? LAUNCH(name##_fp16, s, a) : LAUNCH(name##_bf16, s, a);                \
    } while (0)

LAUNCHER(weight_across)
{
    const struct weight_args *a = (const struct weight_args *)args;
    struct shape s = {{(a->rows + 7) / 8, 1, a->part.products}, WEIGHT_THREADS, 16 * 4};

    if (!a->fp16 && dev_capability(self) < 80)
        return dev_refuse(self, DEVICE_UNSUPPORTED,
                          "weight: bf16 products need compute capability 8.0; use fp16");
    switch (a->w.kind) {
    case WEIGHT_FP32: RUN(across_fp32, 32);
    case WEIGHT_FP8: RUN(across_fp8, 8);
    case WEIGHT_FP8_BLOCK: RUN(across_fp8_block, 8);
    case WEIGHT_INT8: RUN(across_int8, 8);
    case WEIGHT_INT8_GROUP: RUN(across_int8_group, 8);
    case WEIGHT_INT4_GROUP: RUN(across_int4, 4);
    case WEIGHT_MXFP4: RUN(across_mxfp4, 4);
    case WEIGHT_NVFP4: RUN(across_nvfp4, 4);
    case WEIGHT_NF4: RUN(across_nf4, 4);
    case WEIGHT_Q4_K: RUN(across_q4_k, 4);
    case WEIGHT_Q5_K: RUN(across_q5_k, 4);
    case WEIGHT_Q6_K: break;
    }
    RUN(across_q6_k, 4);
}
