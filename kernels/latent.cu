/* Attention over latents with matrix instructions. The query heads of a block are the rows of
 * the products; a row of the cache is key and value at once, so that each of them comes to
 * shared memory once.
 *
 * 8 warps, m_tiles times 16 heads, `keys` tokens a step. A warp has the queries of 16 heads and
 * of its part of the dot product in registers, and computes its share of 8 tokens' scores;
 * through shared memory every warp gets all scores of its 16 heads, does their softmax (the
 * same in several warps), and adds up its own share of the columns of the output. So sums need
 * not be merged in the end. A step:
 *
 *     tiles of this step have arrived        wait, barrier
 *     the next step's rows are asked for     partial scores to shared memory, barrier
 *     softmax, o = o + P V                   the next rows are decoded if need be, barrier
 *
 * Rows of 16 bits go to shared memory asynchronously; others pass through registers. Tiles have
 * rows of an odd number of 16-byte pieces, so that the 8 rows of a matrix load lie in different
 * banks. In comments g = lane / 4, q = lane % 4. */
#include "kernels/dev.h"

#include <assert.h>

#include "kernels/cache_dev.h"
#include "kernels/latent.h"
#include "kernels/latent_dev.h"
#include "kernels/split_dev.h"

enum {
    WARPS = LATENT_THREADS / 32,
    KEYS_MAX = 32,
    DIM_MAX = LATENT_RANK_MAX + LATENT_ROPE_MAX
};
enum { PAIRS_MAX = DIM_MAX / 32, HALF_PAIRS = PAIRS_MAX / 2, PIECES_MAX = 9 };
enum { V_UNITS_MAX = 8, X_STRIDE_EXTRA = 8, SCORES = 1536 };

/* What a kernel is made for; constants after inlining, but for the units. */
struct make {
    enum store store;
    uint32_t m_tiles, keys, parts;
    uint32_t q_room, v_room; /* the most pairs and units of a warp; constants */
    uint32_t pairs;          /* of 32 elements in a row */
    uint32_t v_units;        /* of 16 elements in a latent */
    bool fp16;
};

struct shared {                /* then two tiles */
    float x[SCORES];           /* [parts][16 m_tiles][keys + 8] */
    uint64_t row[2][KEYS_MAX]; /* of the cache, for a step and the next */
};

static_assert(sizeof(struct shared) + 2 * 2 * KEYS_MAX * (DIM_MAX + 8) <= 99 * 1024, "sm_86");
static_assert(sizeof(struct shared) + 2 * 2 * 16 * (DIM_MAX + 8) <= 64 * 1024, "sm_75");

struct job { /* of this block */
    const struct latent_args *a;
    struct shared *sh;
    uint16_t *tile; /* the first of the two */
    const uint32_t *table, *chosen;
    struct decode_range range;
    uint32_t sequence, q_head, rows; /* first query head and how many */
    uint32_t first, count;           /* of the rows to read: the chunk */
};

struct held { /* pieces on their way to a tile */
    struct piece p[PIECES_MAX];
};

struct state {
    uint32_t q[HALF_PAIRS][8];
    float o[V_UNITS_MAX][2][4];
    float m[2], l[2]; /* rows g and g + 8; l: of this thread's columns until the end */
};

DEV uint32_t stride_of(const struct make mk)
{
    return 32 * mk.pairs + 8;
}

DEV uint16_t *tile_of(const struct job *j, const struct make mk, uint32_t step)
{
    return j->tile + step % 2 * mk.keys * stride_of(mk);
}

DEV struct job job_of(struct lane *t, const struct latent_args *a, const struct make mk)
{
    const struct cache_view *c = &a->of.c;
    uint32_t heads = 16 * mk.m_tiles, length, chunk, n;
    struct job j;

    j.a = a;
    j.sh = (struct shared *)dev_shared(t);
    j.tile = (uint16_t *)(j.sh + 1);
    j.sequence = dev_block(t, 2);
    j.q_head = dev_block(t, 1) * heads;
    j.rows = a->of.q_heads - j.q_head < heads ? a->of.q_heads - j.q_head : heads;
    length = dev_load32(t, c->lengths + j.sequence);
    j.range = decode_range(&a->of, length);
    n = latent_count(a, length);
    j.chosen = n < j.range.count ? a->chosen + (uint64_t)j.sequence * a->chosen_stride : NULL;
    j.table = c->table + (uint64_t)j.sequence * c->max_pages;
    chunk = decode_chunk(n, a->of.splits);
    j.first = dev_block(t, 0) * chunk;
    j.count = j.first < n ? n - j.first : 0;
    j.count = j.count < chunk ? j.count : chunk;
    return j;
}

/* Leaves where the rows of a step lie to the others. */
DEV void put(struct lane *t, const struct job *j, const struct make mk, uint32_t step)
{
    uint32_t i = dev_thread(t), at = step * mk.keys + i, page_tokens = j->a->of.c.page_tokens;
    uint32_t token;

    if (i >= mk.keys || at >= j->count)
        return;
    at += j->first;
    if (j->chosen)
        token = dev_load32(t, j->chosen + at);
    else
        token = at < j->range.sinks ? at : j->range.start + at - j->range.sinks;
    j->sh->row[step % 2][i] =
        (uint64_t)dev_load32(t, j->table + token / page_tokens) * page_tokens +
        token % page_tokens;
}

/* --- queries --------------------------------------------------------------------------------
 */

/* Those of the block's heads into the tiles, which are free yet; absent ones are zeros. */
DEV void stage_q(struct lane *t, const struct job *j, const struct make mk)
{
    const struct cache_side *k = &j->a->of.c.k;
    uint32_t units = 4 * mk.pairs, rank = k->dim - k->rope;

    for (uint32_t i = dev_thread(t); i < 16 * mk.m_tiles * units; i += LATENT_THREADS) {
        uint32_t row = i / units, at = i % units * 8;
        uint64_t head = (uint64_t)j->sequence * j->a->of.q_heads + j->q_head + row;
        uint16_t *to = j->tile + row * stride_of(mk) + at;
        struct vec128 zero = {{0, 0, 0, 0}};
        if (row >= j->rows || at >= k->dim)
            *(struct vec128 *)to = zero;
        else if (at < rank)
            dev_async(t, to, (const uint16_t *)j->a->of.q + head * rank + at);
        else
            dev_async(t, to,
                      (const uint16_t *)j->a->rope + head * j->a->rope_stride + at - rank);
    }
    dev_async_commit(t);
    dev_async_wait(t, 0);
    dev_barrier(t);
}

/* The warp's 16 heads, and which of the pairs of units are its own. */
DEV void take_q(struct lane *t, const struct job *j, const struct make mk, struct state *s)
{
    uint32_t warp = dev_warp(t), lane = dev_lane(t), part = warp / (WARPS / mk.parts);
    const uint16_t *q = j->tile + (16 * (warp % mk.m_tiles) + lane % 16) * stride_of(mk);

    stage_q(t, j, mk);
    UNROLL
    for (uint32_t n = 0; n < mk.q_room; n++) {
        uint32_t pair = part + mk.parts * n;
        if (pair >= mk.pairs)
            continue;
        dev_ldmatrix(t, s->q[n], q + 32 * pair + lane / 16 * 8);
        dev_ldmatrix(t, s->q[n] + 4, q + 32 * pair + 16 + lane / 16 * 8);
    }
    dev_barrier(t);
}

/* --- rows -----------------------------------------------------------------------------------
 */

/* Asks for a step's rows: 16-bit ones into its tile, others into registers. */
DEV void fetch(struct lane *t, const struct job *j, const struct make mk, uint32_t step,
               struct held *h)
{
    const struct cache_side *k = &j->a->of.c.k;
    uint32_t threads = LATENT_THREADS / mk.keys, row = dev_thread(t) / threads;
    uint16_t *to = tile_of(j, mk, step) + row * stride_of(mk);
    bool valid = step * mk.keys + row < j->count;
    uint64_t from = valid ? j->sh->row[step % 2][row] : 0;
    struct vec128 zero = {{0, 0, 0, 0}};

    UNROLL
    for (uint32_t i = 0; i < PIECES_MAX; i++) {
        uint32_t first = 8 * (dev_thread(t) % threads + threads * i);
        if (i * threads * 8 >= DIM_MAX || first >= 32 * mk.pairs)
            continue;
        if (!valid || first >= k->dim)
            *(struct vec128 *)(to + first) = zero;
        else if (store_bits(mk.store) == 16)
            dev_async(t, to + first, (const uint16_t *)k->codes + from * k->dim + first);
        else
            h->p[i] = piece_load(t, k, mk.store, from, first);
    }
    dev_async_commit(t);
}

/* What came to registers is decoded into the tile. */
DEV void unfold(struct lane *t, const struct job *j, const struct make mk, uint32_t step,
                const struct held *h)
{
    const struct cache_side *k = &j->a->of.c.k;
    uint32_t threads = LATENT_THREADS / mk.keys, row = dev_thread(t) / threads;
    uint16_t *to = tile_of(j, mk, step) + row * stride_of(mk);

    if (store_bits(mk.store) == 16 || step * mk.keys + row >= j->count)
        return;
    UNROLL
    for (uint32_t i = 0; i < PIECES_MAX; i++) {
        uint32_t first = 8 * (dev_thread(t) % threads + threads * i);
        if (i * threads * 8 >= DIM_MAX || first >= k->dim)
            continue;
        *(struct vec128 *)(to + first) = piece_decode(t, k, mk.store, first, &h->p[i]);
    }
}

/* --- a step ---------------------------------------------------------------------------------
 */

DEV void product(struct lane *t, const struct make mk, float *c, const uint32_t *a,
                 const uint32_t *b)
{
    if (mk.fp16)
        dev_mma_fp16(t, c, a, b);
    else
        dev_mma_bf16(t, c, a, b);
}

/* The warp's part of the scores of 16 heads and 8 tokens. */
DEV void scores(struct lane *t, const struct job *j, const struct make mk, uint32_t step,
                const struct state *s)
{
    uint32_t warp = dev_warp(t), lane = dev_lane(t), tiles = WARPS / mk.parts;
    uint32_t n = warp % tiles / mk.m_tiles, m = warp % mk.m_tiles, part = warp / tiles;
    const uint16_t *k = tile_of(j, mk, step) + (8 * n + lane % 8) * stride_of(mk);
    float c[4] = {0, 0, 0, 0};

    UNROLL
    for (uint32_t i = 0; i < mk.q_room; i++) {
        uint32_t b[4], pair = part + mk.parts * i;
        if (pair >= mk.pairs)
            continue;
        dev_ldmatrix(t, b, k + 32 * pair + lane / 8 * 8);
        product(t, mk, c, s->q[i], b);
        product(t, mk, c, s->q[i] + 4, b + 2);
    }
    UNROLL
    for (uint32_t e = 0; e < 4; e++) {
        uint32_t row = 16 * (mk.m_tiles * part + m) + lane / 4 + e / 2 * 8;
        j->sh->x[row * (mk.keys + X_STRIDE_EXTRA) + 8 * n + 2 * (lane % 4) + e % 2] = c[e];
    }
}

/* x[i]: the score, in powers of 2, of row g + 8 r and token 8 (i / 2) + 2 q + i % 2. */
DEV float gather(struct lane *t, const struct job *j, const struct make mk, uint32_t step,
                 uint32_t r, float *x)
{
    uint32_t lane = dev_lane(t), left = j->count - step * mk.keys;
    uint32_t stride = mk.keys + X_STRIDE_EXTRA, apart = 16 * mk.m_tiles * stride;
    const float *from =
        j->sh->x + (16 * (dev_warp(t) % mk.m_tiles) + lane / 4 + 8 * r) * stride;
    float most = -3.4e38f;

    UNROLL
    for (uint32_t i = 0; i < mk.keys / 4; i++) {
        uint32_t token = 8 * (i / 2) + 2 * (lane % 4) + i % 2;
        float sum = from[token];
        UNROLL
        for (uint32_t part = 1; part < mk.parts; part++)
            sum += from[part * apart + token];
        x[i] = token < left ? sum * (j->a->of.scale * LOG2E) : NONE;
        most = fmaxf(most, x[i]);
    }
    return most;
}

/* Units of the output that are the warp's. */
DEV uint32_t own_units(struct lane *t, const struct make mk)
{
    uint32_t groups = WARPS / mk.m_tiles, group = dev_warp(t) / mk.m_tiles;

    return mk.v_units > group ? (mk.v_units - group - 1) / groups + 1 : 0;
}

/* Online softmax of row g + 8 r: probabilities relative to the new maximum; o and l follow. */
DEV void soften(struct lane *t, const struct job *j, const struct make mk, uint32_t step,
                uint32_t r, struct state *s, float *x)
{
    float most = fmaxf(s->m[r], dev_max(t, gather(t, j, mk, step, r, x), 4));
    float factor = dev_exp2(s->m[r] - most);

    s->m[r] = most;
    s->l[r] *= factor;
    UNROLL
    for (uint32_t i = 0; i < mk.keys / 4; i++) {
        x[i] = dev_exp2(x[i] - most);
        s->l[r] += x[i];
    }
    UNROLL
    for (uint32_t n = 0; n < mk.v_room; n++) {
        UNROLL
        for (uint32_t e = 0; e < 4; e++)
            s->o[n][e / 2][2 * r + e % 2] *= factor;
    }
    dev_exps(t, mk.keys / 4 + 1);
    dev_flop(t, mk.keys / 4 * (mk.parts + 2) + 2 + 4 * own_units(t, mk), 0);
}

DEV void add_values(struct lane *t, const struct job *j, const struct make mk, uint32_t step,
                    float x[2][KEYS_MAX / 4], struct state *s)
{
    uint32_t lane = dev_lane(t), groups = WARPS / mk.m_tiles, stride = stride_of(mk);
    const uint16_t *v = tile_of(j, mk, step) + lane % 16 * stride + lane / 16 * 8;

    UNROLL
    for (uint32_t i = 0; i < mk.keys / 16; i++) {
        uint32_t prob[4], b[4];
        UNROLL
        for (uint32_t w = 0; w < 4; w++)
            prob[w] = dev_pack_16(x[w % 2][4 * i + w / 2 * 2], x[w % 2][4 * i + w / 2 * 2 + 1],
                                  mk.fp16);
        UNROLL
        for (uint32_t n = 0; n < mk.v_room; n++) {
            uint32_t unit = dev_warp(t) / mk.m_tiles + groups * n;
            if (unit >= mk.v_units)
                continue;
            dev_ldmatrix_transposed(t, b, v + 16 * i * stride + 16 * unit);
            product(t, mk, s->o[n][0], prob, b);
            product(t, mk, s->o[n][1], prob, b + 2);
        }
    }
}

DEV void one_step(struct lane *t, const struct job *j, const struct make mk, uint32_t step,
                  struct state *s)
{
    float x[2][KEYS_MAX / 4];
    struct held next;
    uint32_t left = j->count - step * mk.keys;

    dev_async_wait(t, 0);
    dev_barrier(t);
    fetch(t, j, mk, step + 1, &next);
    scores(t, j, mk, step, s);
    dev_barrier(t);
    put(t, j, mk, step + 2);
    soften(t, j, mk, step, 0, s, x[0]);
    soften(t, j, mk, step, 1, s, x[1]);
    add_values(t, j, mk, step, x, s);
    unfold(t, j, mk, step + 1, &next);
    left = left < mk.keys ? left : mk.keys;
    if (!dev_thread(t))
        dev_flop(t, 0, (uint64_t)left * j->rows * 2 * (j->a->of.c.k.dim + j->a->of.c.v.dim));
    dev_barrier(t);
}

/* --- the end --------------------------------------------------------------------------------
 */

/* Row g + 8 r of the warp's columns. sum: of its probabilities. */
DEV void store_row(struct lane *t, const struct job *j, const struct make mk,
                   const struct state *s, uint32_t r, float sum)
{
    const struct decode_args *of = &j->a->of;
    uint32_t row = 16 * (dev_warp(t) % mk.m_tiles) + dev_lane(t) / 4 + 8 * r;
    uint32_t group = dev_warp(t) / mk.m_tiles, groups = WARPS / mk.m_tiles, rank = of->c.v.dim;
    uint64_t head = (uint64_t)j->sequence * of->q_heads + j->q_head + row;
    uint64_t part = part_of(of, j->sequence, j->q_head + row) + dev_block(t, 0);
    float over = sum > 0.0f ? 1.0f / sum : 0.0f;

    if (row >= j->rows || (of->splits > 1 && !j->count))
        return;
    UNROLL
    for (uint32_t i = 0; i < 2 * mk.v_room; i++) {
        uint32_t unit = group + groups * (i / 2);
        uint32_t at = 16 * unit + 8 * (i % 2) + 2 * (dev_lane(t) % 4);
        const float *pair = &s->o[i / 2][i % 2][2 * r];
        if (unit >= mk.v_units)
            continue;
        if (of->splits > 1) {
            dev_store64(t, vectors_of(of) + part * rank + at,
                        dev_bits(pair[0]) | (uint64_t)dev_bits(pair[1]) << 32);
            continue;
        }
        dev_flop(t, 2, 0);
        dev_store32(t, (uint16_t *)of->out + head * rank + at,
                    dev_pack_16(pair[0] * over, pair[1] * over, mk.fp16));
    }
}

/* The largest score of row g + 8 r and the sum relative to it, once. */
DEV void store_sum(struct lane *t, const struct job *j, const struct make mk,
                   const struct state *s, uint32_t r, float sum)
{
    const struct decode_args *of = &j->a->of;
    uint32_t row = 16 * (dev_warp(t) % mk.m_tiles) + dev_lane(t) / 4 + 8 * r;
    uint64_t head = (uint64_t)j->sequence * of->q_heads + j->q_head + row;
    uint64_t part = part_of(of, j->sequence, j->q_head + row) + dev_block(t, 0);

    if (dev_warp(t) >= mk.m_tiles || dev_lane(t) % 4 || row >= j->rows)
        return;
    if (of->splits > 1) {
        dev_store_float(t, (float *)of->work + 2 * part, j->count ? s->m[r] : NONE);
        dev_store_float(t, (float *)of->work + 2 * part + 1, sum);
    } else if (of->lse) {
        dev_store_float(t, of->lse + head, log_sum(s->m[r], sum));
    }
}

DEV void latent_body(struct lane *t, const struct latent_args *a, const struct make mk)
{
    struct job j = job_of(t, a, mk);
    struct state s;

    UNROLL
    for (uint32_t n = 0; n < 8 * mk.v_room; n++)
        s.o[n / 8][n / 4 % 2][n % 4] = 0.0f;
    s.m[0] = s.m[1] = -3.4e38f; /* finite, so that a difference of two is a number */
    s.l[0] = s.l[1] = 0.0f;
    if (j.count) {
        struct held h;
        take_q(t, &j, mk, &s);
        put(t, &j, mk, 0);
        put(t, &j, mk, 1);
        dev_barrier(t);
        fetch(t, &j, mk, 0, &h);
        unfold(t, &j, mk, 0, &h);
        for (uint32_t step = 0; step * mk.keys < j.count; step++)
            one_step(t, &j, mk, step, &s);
    }
    UNROLL
    for (uint32_t r = 0; r < 2; r++) {
        float sum = dev_sum(t, s.l[r], 4);
        store_sum(t, &j, mk, &s, r, sum);
        store_row(t, &j, mk, &s, r, sum);
    }
}

DEV struct make made_for(const struct latent_args *a, enum store store, uint32_t m_tiles,
                         uint32_t keys)
{
    uint32_t parts = WARPS / (m_tiles * keys / 8);
    struct make mk = {store, m_tiles, keys, parts, 0, 0, 0, 0, false};

    mk.q_room = (PAIRS_MAX + parts - 1) / parts;
    mk.v_room = LATENT_RANK_MAX / 16 * m_tiles / WARPS;
    mk.pairs = (a->of.c.k.dim + 31) / 32;
    mk.v_units = a->of.c.v.dim / 16;
    mk.fp16 = store == STORE_FP16;
    return mk;
}

#define LATENT(name, store, m_tiles, keys)                                                     \
    KERNEL(name, LATENT_THREADS, struct latent_args,                                           \
           latent_body(t, a, made_for(a, store, m_tiles, keys)))
LATENT(latent_bf16_16, STORE_BF16, 1, 32)
LATENT(latent_bf16_32, STORE_BF16, 2, 16)
LATENT(latent_fp16_16, STORE_FP16, 1, 16)
LATENT(latent_fp16_32, STORE_FP16, 2, 16)
LATENT(latent_fp8_16, STORE_FP8, 1, 32)
LATENT(latent_fp8_32, STORE_FP8, 2, 16)
LATENT(latent_int8_16, STORE_INT8, 1, 32)
LATENT(latent_int8_32, STORE_INT8, 2, 16)
LATENT(latent_mla_16, STORE_DS_MLA, 1, 32)
LATENT(latent_mla_32, STORE_DS_MLA, 2, 16)

LAUNCHER(latent)
{
    const struct latent_args *a = (const struct latent_args *)args;
    const struct decode_args *of = &a->of;
    struct latent_tile w = latent_tile(a);
    uint32_t heads = 16 * w.m_tiles, stride = (of->c.k.dim + 31) / 32 * 32 + 8;
    struct shape s = {{of->splits, (of->q_heads + heads - 1) / heads, of->c.sequences},
                      LATENT_THREADS,
                      (uint32_t)sizeof(struct shared) + 2 * 2 * w.keys * stride};
    bool few = w.m_tiles == 1;

    if (of->c.k.store != STORE_FP16 && dev_capability(self) < 80)
        return dev_refuse(self, DEVICE_UNSUPPORTED,
                          "latent: bf16 products need compute capability 8.0; use fp16");
    switch (of->c.k.store) {
    case STORE_FP16: return few ? LAUNCH(latent_fp16_16, s, a) : LAUNCH(latent_fp16_32, s, a);
    case STORE_FP8: return few ? LAUNCH(latent_fp8_16, s, a) : LAUNCH(latent_fp8_32, s, a);
    case STORE_INT8: return few ? LAUNCH(latent_int8_16, s, a) : LAUNCH(latent_int8_32, s, a);
    case STORE_DS_MLA: return few ? LAUNCH(latent_mla_16, s, a) : LAUNCH(latent_mla_32, s, a);
    default: return few ? LAUNCH(latent_bf16_16, s, a) : LAUNCH(latent_bf16_32, s, a);
    }
}
