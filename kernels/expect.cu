/* ExpectedAttention. moments: a block a query head. spread: a block for 64 x 64 channels, of a
 * triangle of such tiles; 32 rows a step, without their mean, come through shared memory, and a
 * thread has 4 x 4 of the products. logits: a block for 32 rows of a K/V head, which it turns
 * once; over the query heads of the group the spread comes through shared memory, 16 channels a
 * step; a warp has 4 rows. total: a block a query head. expect: a warp a row. All in fp32. */
#include "kernels/dev.h"

#include "kernels/expect.h"
#include "kernels/unit_dev.h"

enum { WARPS = EXPECT_WARPS, OWN = EXPECT_TILE / 16, KEYS_A_WARP = EXPECT_KEYS / WARPS };

#define LOG2E 1.4426950408889634f
#define NONE dev_float(0xff800000u) /* minus infinity; nvcc computes -1 / 0 at run time */

/* --- moments --------------------------------------------------------------------------------
 */

/* 8 channels of a row of q. */
DEV void load_query(struct lane *t, const struct moments_args *a, uint32_t row, uint32_t first,
                    float *x)
{
    uint64_t at = ((uint64_t)row * a->row_heads + dev_block(t, 1)) * a->dim + first;
    struct vec128 v = dev_load128(t, (const uint16_t *)a->q + at);

    UNROLL
    for (uint32_t e = 0; e < 8; e++)
        x[e] = dev_from_16((uint16_t)(v.w[e / 2] >> 16 * (e % 2)), a->fp16);
}

DEV void moments_body(struct lane *t, const struct moments_args *a)
{
    float *part = (float *)dev_shared(t), sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    uint32_t units = a->dim / 8, together = EXPECT_THREADS / units, me = dev_thread(t);
    uint32_t mine = me / units, first = me % units * 8;
    uint32_t n = a->rows > a->skip ? a->rows - a->skip : 0;

    for (uint32_t i = mine; mine < together && i < n; i += together) {
        float x[8];
        load_query(t, a, a->skip + i, first, x);
        UNROLL
        for (uint32_t e = 0; e < 8; e++)
            sum[e] += x[e];
        dev_flop(t, 8, 8);
    }
    UNROLL
    for (uint32_t e = 0; e < 8; e++)
        if (mine < together)
            part[mine * a->dim + first + e] = sum[e];
    dev_barrier(t);
    if (me >= a->dim)
        return;
    for (uint32_t i = 1; i < together; i++)
        part[me] += part[i * a->dim + me];
    dev_flop(t, together, 0);
    dev_store_float(t, a->mean + (uint64_t)dev_block(t, 1) * a->dim + me,
                    n ? part[me] / (float)n : 0.0f);
}

struct tiles { /* rows of a step, without the mean: channels down and across */
    float x[2][EXPECT_ROWS][EXPECT_TILE];
    float mean[2][EXPECT_TILE];
};

struct corner { /* first channels of a tile, or beyond: nothing */
    uint32_t down, across;
};

DEV struct corner corner_of(struct lane *t, const struct moments_args *a)
{
    uint32_t side = (a->dim + EXPECT_TILE - 1) / EXPECT_TILE;
    struct corner c = {dev_block(t, 0) / side * EXPECT_TILE,
                       dev_block(t, 0) % side * EXPECT_TILE};

    return c;
}

/* A unit of 8 channels a thread and side. */
DEV void load_rows(struct lane *t, const struct moments_args *a, struct tiles *s,
                   struct corner c, uint32_t row)
{
    uint32_t r = dev_thread(t) / 8, first = dev_thread(t) % 8 * 8;

    UNROLL
    for (uint32_t side = 0; side < 2; side++) {
        uint32_t from = (side ? c.across : c.down) + first;
        bool there = row + r < a->rows && from < a->dim;
        float x[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        if (there) {
            load_query(t, a, row + r, from, x);
            dev_flop(t, 8, 0);
        }
        UNROLL
        for (uint32_t e = 0; e < 8; e++)
            s->x[side][r][first + e] = there ? x[e] - s->mean[side][first + e] : 0.0f;
    }
}

DEV void store_tile(struct lane *t, const struct moments_args *a, struct corner c, uint32_t n,
                    const float *sum)
{
    uint32_t row = c.down + dev_thread(t) / 16 * OWN;
    uint32_t column = c.across + dev_thread(t) % 16 * OWN;
    float *to = a->spread + (uint64_t)dev_block(t, 1) * a->dim * a->dim;

    UNROLL
    for (uint32_t i = 0; i < OWN * OWN; i++) {
        uint32_t y = row + i / OWN, x = column + i % OWN;
        float mean = n ? sum[i] / (float)n : 0.0f;
        if (y >= a->dim || x >= a->dim)
            continue;
        dev_flop(t, 1, 2 * n);
        dev_store_float(t, to + (uint64_t)y * a->dim + x, mean);
        if (c.down != c.across)
            dev_store_float(t, to + (uint64_t)x * a->dim + y, mean);
    }
}

DEV void spread_body(struct lane *t, const struct moments_args *a)
{
    struct tiles *s = (struct tiles *)dev_shared(t);
    struct corner c = corner_of(t, a);
    uint32_t me = dev_thread(t), n = a->rows > a->skip ? a->rows - a->skip : 0;
    uint32_t down = me / 16 * OWN, across = me % 16 * OWN;
    float sum[OWN * OWN] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};

    if (c.across < c.down)
        return;
    if (me < 2 * EXPECT_TILE) {
        uint32_t channel = (me < EXPECT_TILE ? c.down : c.across) + me % EXPECT_TILE;
        s->mean[me / EXPECT_TILE][me % EXPECT_TILE] =
            channel < a->dim
                ? dev_load_float(t, a->mean + (uint64_t)dev_block(t, 1) * a->dim + channel)
                : 0.0f;
    }
    dev_barrier(t);
    for (uint32_t i = 0; i < n; i += EXPECT_ROWS) {
        load_rows(t, a, s, c, a->skip + i);
        dev_barrier(t);
        for (uint32_t r = 0; r < EXPECT_ROWS; r++) {
            UNROLL
            for (uint32_t e = 0; e < OWN * OWN; e++)
                sum[e] =
                    dev_fma(s->x[0][r][down + e / OWN], s->x[1][r][across + e % OWN], sum[e]);
        }
        dev_flop(t, 2 * EXPECT_ROWS * OWN * OWN, 0);
        dev_barrier(t);
    }
    store_tile(t, a, c, n, sum);
}

/* --- logits ---------------------------------------------------------------------------------
 */

/* What a kernel is made for; a constant after inlining. */
struct make {
    uint32_t pieces; /* of 32 channels */
};

struct job { /* of this block */
    const struct expect_args *a;
    float *key, *part; /* [EXPECT_KEYS][32 pieces], [EXPECT_STEP][32 pieces] */
    uint32_t n, first; /* rows stored, and the first one here */
    uint32_t width;    /* 32 pieces */
};

/* Keys of this warp as they are, beyond the last row and channel 0. */
DEV void load_keys(struct lane *t, const struct job *j)
{
    const struct cache_view *c = &j->a->c;
    struct head_at head = cache_head(c, 0, dev_block(t, 1));
    uint32_t quantized = cache_quantized(c, false, j->n), me = 8 * dev_lane(t);

    for (uint32_t k = 0; k < KEYS_A_WARP; k++) {
        uint32_t slot = dev_warp(t) * KEYS_A_WARP + k, row = j->first + slot, w[4];
        struct place p = cache_place(t, c, &head, row, row < j->n);
        struct unit u = unit_load(t, c, &head, &p, me, c->k.store, false, quantized);
        float scale = cache_scale(t, &c->k, &p, c->k.store);
        unit_decode(&u, c->k.store, false, w);
        UNROLL
        for (uint32_t e = 0; e < 8; e++) {
            float x =
                dev_from_16((uint16_t)(w[e / 2] >> 16 * (e % 2)), c->k.store == STORE_FP16);
            if (me < j->width)
                j->key[slot * j->width + me + e] =
                    row < j->n && me < c->k.dim ? x * scale : 0.0f;
        }
        if (row < j->n && me < c->k.dim)
            dev_flop(t, 8, 0);
    }
}

/* Turns the keys of the block back. */
DEV void turn_keys(struct lane *t, const struct job *j)
{
    uint32_t half = j->a->rotary / 2;

    for (uint32_t i = dev_thread(t); i < EXPECT_KEYS * half; i += EXPECT_THREADS) {
        float *x = j->key + i / half * j->width + i % half;
        float cosine = dev_load_float(t, j->a->turn + 2 * (uint64_t)(i % half));
        float sine = dev_load_float(t, j->a->turn + 2 * (uint64_t)(i % half) + 1);
        float low = x[0], high = x[half];
        x[0] = dev_fma(cosine, low, sine * high);
        x[half] = dev_fma(cosine, high, -sine * low);
        dev_flop(t, 6, 0);
    }
}

/* Channels [from, from + EXPECT_STEP) of the spread of query head h. */
DEV void load_part(struct lane *t, const struct job *j, uint32_t h, uint32_t from)
{
    uint32_t dim = j->a->c.k.dim;
    const float *spread = j->a->spread + (uint64_t)h * dim * dim;

    for (uint32_t i = dev_thread(t); i < EXPECT_STEP * j->width; i += EXPECT_THREADS) {
        uint32_t row = from + i / j->width, column = i % j->width;
        j->part[i] = row < dim && column < dim
                         ? dev_load_float(t, spread + (uint64_t)row * dim + column)
                         : 0.0f;
    }
}

/* Of one query head: sum[k][p] = channel lane + 32 p of the spread times key k of this warp. */
DEV void multiply(struct lane *t, const struct job *j, const struct make mk, uint32_t h,
                  float sum[KEYS_A_WARP][8])
{
    const float *key = j->key + dev_warp(t) * KEYS_A_WARP * j->width;
    uint32_t dim = j->a->c.k.dim;

    for (uint32_t from = 0; from < dim; from += EXPECT_STEP) {
        dev_barrier(t);
        load_part(t, j, h, from);
        dev_barrier(t);
        for (uint32_t i = 0; i < EXPECT_STEP; i++) {
            UNROLL
            for (uint32_t p = 0; p < mk.pieces; p++) {
                float x = j->part[i * j->width + 32 * p + dev_lane(t)];
                UNROLL
                for (uint32_t k = 0; k < KEYS_A_WARP; k++)
                    sum[k][p] = dev_fma(key[k * j->width + from + i], x, sum[k][p]);
            }
        }
        dev_flop(t, 2 * EXPECT_STEP * KEYS_A_WARP * mk.pieces, 0);
    }
}

DEV void one_head(struct lane *t, const struct job *j, const struct make mk, uint32_t h)
{
    const struct expect_args *a = j->a;
    const float *key = j->key + dev_warp(t) * KEYS_A_WARP * j->width;
    float sum[KEYS_A_WARP][8], mean[8], half = 0.5f * a->scale;

    UNROLL
    for (uint32_t p = 0; p < mk.pieces; p++) {
        uint32_t channel = 32 * p + dev_lane(t);
        mean[p] = channel < a->c.k.dim
                      ? dev_load_float(t, a->mean + (uint64_t)h * a->c.k.dim + channel)
                      : 0.0f;
        UNROLL
        for (uint32_t k = 0; k < KEYS_A_WARP; k++)
            sum[k][p] = 0.0f;
    }
    multiply(t, j, mk, h, sum);
    UNROLL
    for (uint32_t k = 0; k < KEYS_A_WARP; k++) {
        uint32_t row = j->first + dev_warp(t) * KEYS_A_WARP + k;
        float x = 0.0f;
        UNROLL
        for (uint32_t p = 0; p < mk.pieces; p++)
            x = dev_fma(dev_fma(half, sum[k][p], mean[p]),
                        key[k * j->width + 32 * p + dev_lane(t)], x);
        dev_flop(t, 4 * mk.pieces, 0);
        x = dev_sum(t, x, 32);
        if (dev_lane(t) || row >= j->n)
            continue;
        dev_store_float(t, a->work + (uint64_t)h * a->width + row, x * a->scale);
        dev_flop(t, 1, 2 * a->c.k.dim * (a->c.k.dim + 1));
    }
}

DEV void logits_body(struct lane *t, const struct expect_args *a, const struct make mk)
{
    uint32_t group = a->q_heads / a->c.heads;
    struct job j;

    j.a = a;
    j.width = 32 * mk.pieces;
    j.key = (float *)dev_shared(t);
    j.part = j.key + EXPECT_KEYS * j.width;
    j.n = dev_load32(t, a->c.lengths + cache_slot_of(&a->c, 0, dev_block(t, 1)));
    j.first = a->sinks + dev_block(t, 0) * EXPECT_KEYS;
    if (j.first >= j.n)
        return;
    load_keys(t, &j);
    dev_barrier(t);
    if (a->turn)
        turn_keys(t, &j);
    for (uint32_t g = 0; g < group; g++)
        one_head(t, &j, mk, dev_block(t, 1) * group + g);
}

/* --- scores ---------------------------------------------------------------------------------
 */

/* Of all threads of the block; `all` has a place for each warp. */
DEV float block_of(struct lane *t, float x, float *all, bool most)
{
    float out;

    x = most ? dev_max(t, x, 32) : dev_sum(t, x, 32);
    dev_barrier(t);
    if (!dev_lane(t))
        all[dev_warp(t)] = x;
    dev_barrier(t);
    out = all[0];
    for (uint32_t w = 1; w < WARPS; w++)
        out = most ? fmaxf(out, all[w]) : out + all[w];
    return out;
}

/* stats[h]: the largest logit of a query head and 1 / the sum of its exponentials. */
DEV void total_body(struct lane *t, const struct expect_args *a)
{
    float *all = (float *)dev_shared(t), most = NONE, sum = 0.0f;
    uint32_t h = dev_block(t, 0), head = h / (a->q_heads / a->c.heads);
    uint32_t n = dev_load32(t, a->c.lengths + cache_slot_of(&a->c, 0, head));
    const float *logits = a->work + (uint64_t)h * a->width;
    float *stats = a->work + (uint64_t)a->q_heads * a->width + 2 * h;

    for (uint32_t i = a->sinks + dev_thread(t); i < n; i += EXPECT_THREADS)
        most = fmaxf(most, dev_load_float(t, logits + i));
    most = block_of(t, most, all, true);
    for (uint32_t i = a->sinks + dev_thread(t); i < n; i += EXPECT_THREADS) {
        sum += dev_exp2((dev_load_float(t, logits + i) - most) * LOG2E);
        dev_exps(t, 1);
        dev_flop(t, 3, 0);
    }
    sum = block_of(t, sum, all, false);
    dev_flop(t, WARPS - 1, 0);
    if (dev_thread(t))
        return;
    dev_store_float(t, stats, most);
    dev_store_float(t, stats + 1, sum > 0.0f ? 1.0f / sum : 0.0f);
}

/* |v| of a row. */
DEV float value_length(struct lane *t, const struct cache_view *c, const struct head_at *head,
                       uint32_t row, uint32_t n)
{
    uint32_t me = 8 * dev_lane(t), w[4];
    struct place p = cache_place(t, c, head, row, true);
    struct unit u =
        unit_load(t, c, head, &p, me, c->v.store, true, cache_quantized(c, true, n));
    float scale = cache_scale(t, &c->v, &p, c->v.store), sum = 0.0f;

    unit_decode(&u, c->v.store, true, w);
    UNROLL
    for (uint32_t e = 0; e < 8; e++) {
        float x = dev_from_16((uint16_t)(w[e / 2] >> 16 * (e % 2)), c->v.store == STORE_FP16);
        sum = dev_fma(x, x, sum);
    }
    if (me < c->v.dim)
        dev_flop(t, 16, 16);
    else
        sum = 0.0f;
    return sqrtf(dev_sum(t, sum, 32)) * scale;
}

DEV void expect_body(struct lane *t, const struct expect_args *a)
{
    const struct cache_view *c = &a->c;
    uint32_t head = dev_block(t, 1), group = a->q_heads / c->heads;
    uint32_t n = dev_load32(t, c->lengths + cache_slot_of(c, 0, head));
    struct head_at at = cache_head(c, 0, head);

    for (uint32_t k = dev_warp(t); k < EXPECT_SCORES; k += WARPS) {
        uint32_t row = dev_block(t, 0) * EXPECT_SCORES + k;
        float p = 0.0f, size = 0.0f;
        if (row >= n)
            break;
        if (row >= a->sinks)
            size = value_length(t, c, &at, row, n);
        for (uint32_t g = dev_lane(t); g < group && row >= a->sinks; g += 32) {
            uint64_t h = (uint64_t)head * group + g;
            const float *stats = a->work + (uint64_t)a->q_heads * a->width + 2 * h;
            float x = dev_load_float(t, a->work + h * a->width + row);
            p +=
                dev_exp2((x - dev_load_float(t, stats)) * LOG2E) * dev_load_float(t, stats + 1);
            dev_exps(t, 1);
            dev_flop(t, 4, 0);
        }
        p = dev_sum(t, p, 32);
        if (!dev_lane(t))
            dev_store_float(t, a->scores + (uint64_t)head * a->width + row,
                            p * size / (float)group);
    }
}

DEV struct make made_for(uint32_t pieces)
{
    struct make mk = {pieces};

    return mk;
}

#define LOGITS(name, pieces)                                                                   \
    KERNEL(name, EXPECT_THREADS, struct expect_args, logits_body(t, a, made_for(pieces)))
LOGITS(expect_logits_64, 2)
LOGITS(expect_logits_128, 4)
LOGITS(expect_logits_256, 8)
KERNEL(moments_kernel, EXPECT_THREADS, struct moments_args, moments_body(t, a))
KERNEL(spread_kernel, EXPECT_THREADS, struct moments_args, spread_body(t, a))
KERNEL(total_kernel, EXPECT_THREADS, struct expect_args, total_body(t, a))
KERNEL(expect_kernel, EXPECT_THREADS, struct expect_args, expect_body(t, a))

LAUNCHER(moments)
{
    const struct moments_args *a = (const struct moments_args *)args;
    struct shape s = {
        {1, a->heads, 1}, EXPECT_THREADS, EXPECT_THREADS / (a->dim / 8) * a->dim * 4};

    return LAUNCH(moments_kernel, s, a);
}

LAUNCHER(spread)
{
    const struct moments_args *a = (const struct moments_args *)args;
    uint32_t side = (a->dim + EXPECT_TILE - 1) / EXPECT_TILE;
    struct shape s = {
        {side * side, a->heads, 1}, EXPECT_THREADS, (uint32_t)sizeof(struct tiles)};

    return LAUNCH(spread_kernel, s, a);
}

LAUNCHER(expect_logits)
{
    const struct expect_args *a = (const struct expect_args *)args;
    uint32_t pieces = a->c.k.dim <= 64 ? 2 : a->c.k.dim <= 128 ? 4 : 8;
    struct shape s = {{(a->width + EXPECT_KEYS - 1) / EXPECT_KEYS, a->c.heads, 1},
                      EXPECT_THREADS,
                      (EXPECT_KEYS + EXPECT_STEP) * 32 * pieces * 4};

    return pieces == 2   ? LAUNCH(expect_logits_64, s, a)
           : pieces == 4 ? LAUNCH(expect_logits_128, s, a)
                         : LAUNCH(expect_logits_256, s, a);
}

LAUNCHER(expect_total)
{
    const struct expect_args *a = (const struct expect_args *)args;
    struct shape s = {{a->q_heads, 1, 1}, EXPECT_THREADS, WARPS * 4};

    return LAUNCH(total_kernel, s, a);
}

LAUNCHER(expect)
{
    const struct expect_args *a = (const struct expect_args *)args;
    struct shape s = {
        {(a->width + EXPECT_SCORES - 1) / EXPECT_SCORES, a->c.heads, 1}, EXPECT_THREADS, 0};

    return LAUNCH(expect_kernel, s, a);
}
