/* Prefill attention with matrix instructions and online softmax; prefill.h says what a block
 * takes.
 *
 * A warp has m_tiles times 16 rows, whose output o stays in registers. Tiles in shared memory
 * have rows of an odd number of 16-byte pieces, so that the 8 rows of a matrix load lie in
 * different banks. A step:
 *
 *     K of this step has arrived             wait, barrier
 *     V of this step is asked for            x = Q K^T
 *     V has arrived, K is free               wait, barrier
 *     K of the next step is asked for        mask, softmax, o = o + P V
 *
 * Where the tokens of a step lie is looked up once, by a thread a token, while the scores of
 * the step before are computed, and left in shared memory. Storage of 8 bits or fewer is
 * decoded on its way to shared memory; the scales of 8-bit rows are applied to the columns of x
 * and P. In comments g = lane / 4, q = lane % 4. */
#include "kernels/dev.h"

#include <assert.h>

#include "kernels/bend_dev.h"
#include "kernels/prefill_dev.h"
#include "kernels/unit_dev.h"

enum { WARPS = PREFILL_THREADS / 32, PIECE_THREADS = 8, KEYS_MAX = 64, M_TILES_MAX = 2 };
enum { ROWS_MAX = 16 * WARPS * M_TILES_MAX, V_UNITS_MAX = CACHE_DIM_MAX / 16 };
enum { LOAD_ROWS = PREFILL_THREADS / PIECE_THREADS };

/* What a kernel is made for; constants after inlining, but for the formats and the units of
 * those kernels that take any. */
struct make {
    enum store k, v;
    uint32_t m_tiles, keys;
    uint32_t k_units, v_units; /* of 16 elements */
    uint32_t k_room, v_room;   /* the most of them; constants */
    bool fp16;
    bool bends; /* scores may have a cap and slopes */
};

struct shared { /* then the tiles. What is used once a step is here to keep registers free */
    struct plan plan;
    struct row row[ROWS_MAX];
    float l[2 * M_TILES_MAX][PREFILL_THREADS]; /* sums of probabilities, by thread */
    uint64_t key[2][KEYS_MAX];                 /* rows of the cache, for a step and the next */
    float k_scale[2][KEYS_MAX], v_scale[2][KEYS_MAX];
};

enum { SHARED_BYTES = (sizeof(struct shared) + 15) / 16 * 16 };
/* The largest tiles: heads of 192 and 128 elements, and fp16 heads of 128. */
static_assert(SHARED_BYTES + 2 * ((128 + 64) * 200 + 64 * 136) <= 99 * 1024, "sm_86, sm_120");
static_assert(SHARED_BYTES + 2 * ((128 + 32) * 136 + 32 * 136) <= 64 * 1024, "sm_75");

struct job {
    const struct prefill_args *a;
    struct shared *sh;
    uint16_t *q, *k, *v; /* the tiles */
};

struct state {
    float x[M_TILES_MAX][KEYS_MAX / 8][4]; /* scores of a step, then probabilities */
    float o[M_TILES_MAX][2 * V_UNITS_MAX][4];
    uint32_t step;
};

/* Elements from one row of a tile to the next. */
DEV_SHARED uint32_t stride_of(uint32_t units)
{
    return 16 * units + 8;
}

DEV struct job job_of(struct lane *t, const struct prefill_args *a, const struct make mk)
{
    struct shared *sh = (struct shared *)dev_shared(t);
    uint32_t stride = stride_of(mk.k_units);
    uint16_t *q = (uint16_t *)sh + SHARED_BYTES / 2, *k = q + 16 * WARPS * mk.m_tiles * stride;
    struct job j = {a, sh, q, k, k + mk.keys * stride};

    return j;
}

/* The page of this thread's token in `step`; 0 for threads that have none. */
DEV uint32_t find_page(struct lane *t, const struct job *j, const struct make mk, uint32_t step)
{
    const struct plan *p = &j->sh->plan;
    uint32_t at = step * mk.keys + dev_thread(t);

    if (dev_thread(t) >= mk.keys || at >= p->count)
        return 0;
    return dev_load32(t, p->head.table + token_of(&p->some, at) / j->a->c.page_tokens);
}

/* Leaves where the token lies, and its scales, to the others. */
DEV void put(struct lane *t, const struct job *j, const struct make mk, uint32_t step,
             uint32_t page)
{
    const struct plan *p = &j->sh->plan;
    const struct cache_view *c = &j->a->c;
    uint32_t i = dev_thread(t), slot = step % 2, at = step * mk.keys + i;
    struct place to = {0, token_of(&p->some, at), at < p->count};

    if (i >= mk.keys)
        return;
    to.row = ((uint64_t)page * p->head.page_heads + p->head.head) * c->page_tokens +
             to.token % c->page_tokens;
    j->sh->key[slot][i] = to.row;
    if (store_bits(mk.k) == 8)
        j->sh->k_scale[slot][i] = cache_scale(t, &c->k, &to, mk.k);
    if (store_bits(mk.v) == 8)
        j->sh->v_scale[slot][i] = cache_scale(t, &c->v, &to, mk.v);
}

/* `dim` 16-bit elements into a row of a tile, by 8 threads; zeros beyond them. */
DEV void fetch_row(struct lane *t, uint16_t *to, const uint16_t *from, uint32_t dim,
                   uint32_t units)
{
    UNROLL
    for (uint32_t i = 0; i < (2 * units + PIECE_THREADS - 1) / PIECE_THREADS; i++) {
        uint32_t piece = PIECE_THREADS * i + dev_thread(t) % PIECE_THREADS;
        if (piece < 2 * units)
            dev_async_if(t, to + 8 * piece, from + 8 * piece, 8 * piece < dim);
    }
}

DEV void load_q(struct lane *t, const struct job *j, const struct make mk)
{
    uint32_t dim = j->a->c.k.dim;

    for (uint32_t i = 0; i < 16 * WARPS * mk.m_tiles / LOAD_ROWS; i++) {
        uint32_t row = dev_thread(t) / PIECE_THREADS + LOAD_ROWS * i;
        uint64_t at = j->sh->plan.chunk + j->sh->row[row].at;
        const uint16_t *from = (const uint16_t *)j->a->q + at * dim;
        fetch_row(t, j->q + row * stride_of(mk.k_units), from, row < j->sh->plan.rows ? dim : 0,
                  mk.k_units);
    }
}

struct load { /* of K or V */
    const struct cache_side *side;
    uint16_t *tile;
    enum store store;
    uint32_t units;
    bool value;
};

DEV void decode_row(struct lane *t, const struct job *j, const struct load *o, uint16_t *to,
                    const struct place *p)
{
    const struct cache_view *c = &j->a->c;
    uint32_t quantized = cache_quantized(c, o->value, j->sh->plan.length);

    for (uint32_t piece = dev_thread(t) % PIECE_THREADS; piece < 2 * o->units;
         piece += PIECE_THREADS) {
        struct unit u =
            unit_load(t, c, &j->sh->plan.head, p, 8 * piece, o->store, o->value, quantized);
        struct vec128 w = {{0, 0, 0, 0}};
        if (p->valid && 8 * piece < o->side->dim)
            unit_decode(&u, o->store, o->value, w.w);
        *(struct vec128 *)(to + 8 * piece) = w;
    }
}

/* Asks for K or V of the tokens of a step. */
DEV void load_tile(struct lane *t, const struct job *j, const struct make mk, uint32_t step,
                   bool value)
{
    const struct load k = {&j->a->c.k, j->k, mk.k, mk.k_units, false};
    const struct load v = {&j->a->c.v, j->v, mk.v, mk.v_units, true}, o = value ? v : k;
    const struct plan *p = &j->sh->plan;

    UNROLL
    for (uint32_t i = 0; i < mk.keys / LOAD_ROWS; i++) {
        uint32_t row = dev_thread(t) / PIECE_THREADS + LOAD_ROWS * i;
        uint32_t at = step * mk.keys + row, dim = o.side->dim;
        uint16_t *to = o.tile + row * stride_of(o.units);
        struct place from = {j->sh->key[step % 2][row], token_of(&p->some, at), at < p->count};
        const uint16_t *codes = (const uint16_t *)o.side->codes + from.row * dim;
        if (store_bits(o.store) == 16)
            fetch_row(t, to, codes, from.valid ? dim : 0, o.units);
        else
            decode_row(t, j, &o, to, &from);
    }
    dev_async_commit(t);
}

DEV void product(struct lane *t, const struct make mk, float *c, const uint32_t *a,
                 const uint32_t *b)
{
    if (mk.fp16)
        dev_mma_fp16(t, c, a, b);
    else
        dev_mma_bf16(t, c, a, b);
}

/* x[m][n][e]: row 16 m + g + 8 (e / 2) of the warp, token 8 n + 2 q + e % 2 of the step. */
DEV void scores(struct lane *t, const struct job *j, const struct make mk, struct state *s)
{
    uint32_t stride = stride_of(mk.k_units), lane = dev_lane(t);
    const uint16_t *q = j->q + (16 * mk.m_tiles * dev_warp(t) + lane % 16) * stride;
    const uint16_t *k = j->k + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8;

    q += lane / 16 * 8;
    UNROLL
    for (uint32_t i = 0; i < mk.m_tiles * mk.keys / 2; i++)
        s->x[i / (mk.keys / 2)][i / 4 % (mk.keys / 8)][i % 4] = 0.0f;
    UNROLL
    for (uint32_t i = 0; i < mk.k_room; i++) {
        uint32_t qa[M_TILES_MAX][4], kb[4];
        if (i >= mk.k_units)
            continue;
        UNROLL
        for (uint32_t m = 0; m < mk.m_tiles; m++)
            dev_ldmatrix(t, qa[m], q + 16 * m * stride + 16 * i);
        UNROLL
        for (uint32_t n = 0; n < mk.keys / 16; n++) {
            dev_ldmatrix(t, kb, k + 16 * n * stride + 16 * i);
            UNROLL
            for (uint32_t m = 0; m < mk.m_tiles; m++) {
                product(t, mk, s->x[m][2 * n], qa[m], kb);
                product(t, mk, s->x[m][2 * n + 1], qa[m], kb + 2);
            }
        }
    }
}

/* The token of x[..][n][e], within the step. */
DEV uint32_t column(struct lane *t, uint32_t n, uint32_t e)
{
    return 8 * n + 2 * (dev_lane(t) % 4) + e % 2;
}

/* A thread has 2 m_tiles rows: i = 2 m + r is row 8 r + g of x[m] and o[m]. In the tile: */
DEV uint32_t row_of(struct lane *t, const struct make mk, uint32_t i)
{
    return 16 * (mk.m_tiles * dev_warp(t) + i / 2) + 8 * (i % 2) + dev_lane(t) / 4;
}

DEV void scale_columns(struct lane *t, const struct make mk, const float *scale,
                       struct state *s)
{
    UNROLL
    for (uint32_t n = 0; n < mk.keys / 8; n++) {
        float low = scale[column(t, n, 0)], high = scale[column(t, n, 1)];
        UNROLL
        for (uint32_t m = 0; m < mk.m_tiles; m++) {
            UNROLL
            for (uint32_t e = 0; e < 4; e++)
                s->x[m][n][e] *= e % 2 ? high : low;
        }
    }
    dev_flop(t, mk.m_tiles * mk.keys / 2, 0);
}

/* The cap, and a slope along the tokens; x is still to be scaled. */
DEV void bend_row(struct lane *t, const struct job *j, const struct make mk, struct state *s,
                  uint32_t i)
{
    const struct prefill_args *a = j->a;
    uint32_t head = j->sh->row[row_of(t, mk, i)].at % prefill_row_heads(a);
    struct bent b = bent_by(t, a->cap, a->slopes ? a->slopes + head : NULL, 1.0f / a->scale);

    UNROLL
    for (uint32_t n = 0; n < mk.keys / 4; n++) {
        float *x = &s->x[i / 2][n / 2][2 * (i % 2) + n % 2];
        uint32_t at = s->step * mk.keys + column(t, n / 2, n % 2);
        *x = bent_score(&b, *x, token_of(&j->sh->plan.some, at));
    }
    dev_flop(t, (a->cap > 0.0f ? mk.keys / 2 : 0) + (a->slopes ? mk.keys / 2 : 0), 0);
    dev_exps(t, a->cap > 0.0f ? mk.keys / 4 : 0);
}

/* Bit i: token i of the step is among those chosen for a row, as seen from its 4 threads. */
DEV uint32_t chosen_of(struct lane *t, const struct job *j, const struct make mk,
                       const struct state *s, uint32_t row)
{
    const struct prefill_args *a = j->a;
    uint32_t at = s->step * mk.keys;
    uint64_t token;

    if (!mk.bends || !a->chosen)
        return 0xffffffffu;
    if (row >= j->sh->plan.rows)
        return 0;
    token = (j->sh->plan.chunk + j->sh->row[row].at) / prefill_row_heads(a);
    return dev_load32(t, a->chosen + token * a->chosen_words + at / 32) >> at % 32;
}

DEV void mask_row(struct lane *t, const struct job *j, const struct make mk, struct state *s,
                  uint32_t i)
{
    struct prefill_view v = j->sh->row[row_of(t, mk, i)].sees, some = j->sh->plan.some;
    uint32_t bits = chosen_of(t, j, mk, s, row_of(t, mk, i));

    UNROLL
    for (uint32_t n = 0; n < mk.keys / 8; n++) {
        UNROLL
        for (uint32_t e = 0; e < 2; e++) {
            uint32_t at = s->step * mk.keys + column(t, n, e), token = token_of(&some, at);
            if (sees(&v, token) && (!mk.bends || bits >> column(t, n, e) & 1))
                dev_flop(t, 0, pair_flop(j->a));
            else
                s->x[i / 2][n][2 * (i % 2) + e] = NONE;
        }
    }
}

DEV void mask(struct lane *t, const struct job *j, const struct make mk, struct state *s)
{
    bool clear =
        is_clear(j->a, &j->sh->plan, s->step * mk.keys, mk.keys) && !(mk.bends && j->a->chosen);

    UNROLL
    for (uint32_t i = 0; i < 2 * mk.m_tiles; i++) {
        if (mk.bends && (j->a->cap > 0.0f || j->a->slopes))
            bend_row(t, j, mk, s, i);
        if (!clear)
            mask_row(t, j, mk, s, i);
        else if (row_of(t, mk, i) < j->sh->plan.rows)
            dev_flop(t, 0, mk.keys / 4 * pair_flop(j->a));
    }
}

/* Online softmax of a row: x becomes the probabilities relative to the new maximum; o and l
 * follow. `scale` brings x to powers of 2. */
DEV void soften_row(struct lane *t, const struct job *j, const struct make mk, struct state *s,
                    uint32_t i)
{
    struct row *row = &j->sh->row[row_of(t, mk, i)];
    float scale = j->a->scale * LOG2E, most = row->m, shift, factor, sum = 0.0f;
    float *l = &j->sh->l[i][dev_thread(t)];
    uint32_t m = i / 2, r = i % 2;

    UNROLL
    for (uint32_t n = 0; n < mk.keys / 8; n++)
        most = fmaxf(most, fmaxf(s->x[m][n][2 * r], s->x[m][n][2 * r + 1]));
    most = dev_max(t, most, 4);
    shift = most == NONE ? 0.0f : most; /* so that a difference is a number */
    factor = dev_exp2((row->m - shift) * scale);
    shift *= -scale;
    dev_sync(t);
    row->m = most;
    UNROLL
    for (uint32_t n = 0; n < mk.keys / 8; n++) {
        UNROLL
        for (uint32_t e = 2 * r; e < 2 * r + 2; e++) {
            s->x[m][n][e] = dev_exp2(dev_fma(s->x[m][n][e], scale, shift));
            sum += s->x[m][n][e];
        }
    }
    *l = dev_fma(*l, factor, sum);
    UNROLL
    for (uint32_t n = 0; n < 2 * mk.v_room; n++) {
        if (n >= 2 * mk.v_units)
            continue;
        s->o[m][n][2 * r] *= factor;
        s->o[m][n][2 * r + 1] *= factor;
    }
    dev_exps(t, mk.keys / 4 + 1);
    dev_flop(t, 3 * mk.keys / 4 + 5 + 4 * mk.v_units, 0);
}

DEV void add_values(struct lane *t, const struct job *j, const struct make mk, struct state *s)
{
    uint32_t stride = stride_of(mk.v_units), lane = dev_lane(t);
    const uint16_t *v = j->v + lane % 16 * stride + lane / 16 * 8;

    UNROLL
    for (uint32_t i = 0; i < mk.keys / 16; i++) {
        uint32_t prob[M_TILES_MAX][4], vb[4];
        UNROLL
        for (uint32_t w = 0; w < 4 * mk.m_tiles; w++) {
            const float *pair = &s->x[w / 4][2 * i + w / 2 % 2][w % 2 * 2];
            prob[w / 4][w % 4] = dev_pack_16(pair[0], pair[1], mk.fp16);
        }
        UNROLL
        for (uint32_t n = 0; n < mk.v_room; n++) {
            if (n >= mk.v_units)
                continue;
            dev_ldmatrix_transposed(t, vb, v + 16 * i * stride + 16 * n);
            UNROLL
            for (uint32_t m = 0; m < mk.m_tiles; m++) {
                product(t, mk, s->o[m][2 * n], prob[m], vb);
                product(t, mk, s->o[m][2 * n + 1], prob[m], vb + 2);
            }
        }
    }
}

DEV void one_step(struct lane *t, const struct job *j, const struct make mk, struct state *s)
{
    uint32_t slot = s->step % 2, page;

    dev_async_wait(t, 0);
    dev_barrier(t);
    page = find_page(t, j, mk, s->step + 1);
    load_tile(t, j, mk, s->step, true);
    scores(t, j, mk, s);
    put(t, j, mk, s->step + 1, page);
    dev_async_wait(t, 0);
    dev_barrier(t);
    if ((s->step + 1) * mk.keys < j->sh->plan.count)
        load_tile(t, j, mk, s->step + 1, false);
    if (store_bits(mk.k) == 8)
        scale_columns(t, mk, j->sh->k_scale[slot], s);
    mask(t, j, mk, s);
    UNROLL
    for (uint32_t i = 0; i < 2 * mk.m_tiles; i++)
        soften_row(t, j, mk, s, i);
    if (store_bits(mk.v) == 8)
        scale_columns(t, mk, j->sh->v_scale[slot], s);
    add_values(t, j, mk, s);
    s->step++;
}

DEV void store_row(struct lane *t, const struct job *j, const struct make mk,
                   const struct state *s, uint32_t i)
{
    const struct row *row = &j->sh->row[row_of(t, mk, i)];
    uint32_t dim = j->a->c.v.dim, q = dev_lane(t) % 4;
    uint64_t at = j->sh->plan.chunk + row->at;
    uint16_t *out = (uint16_t *)j->a->out + at * dim + 2 * q;
    float l = dev_sum(t, j->sh->l[i][dev_thread(t)], 4), over = l > 0.0f ? 1.0f / l : 0.0f;

    if (row_of(t, mk, i) >= j->sh->plan.rows)
        return;
    UNROLL
    for (uint32_t n = 0; n < 2 * mk.v_room; n++) {
        const float *pair = &s->o[i / 2][n][i % 2 * 2];
        if (8 * n >= dim)
            continue;
        dev_store32(t, out + 8 * n, dev_pack_16(pair[0] * over, pair[1] * over, mk.fp16));
        dev_flop(t, 2, 0);
    }
    if (j->a->lse && !q) /* nothing seen: minus infinity */
        dev_store_float(t, j->a->lse + at, row->m * j->a->scale + log2f(l) * LN2);
}

DEV void prefill_body(struct lane *t, const struct prefill_args *a, const struct make mk)
{
    struct job j = job_of(t, a, mk);
    struct state s;

    if (!prepare(t, a, 16 * WARPS * mk.m_tiles, &j.sh->plan, j.sh->row))
        return;
    UNROLL
    for (uint32_t n = 0; n < 2 * mk.m_tiles; n++)
        j.sh->l[n][dev_thread(t)] = first_sum(t, a);
    s.step = 0;
    UNROLL
    for (uint32_t i = 0; i < mk.m_tiles * 8 * mk.v_room; i++)
        s.o[i / (8 * mk.v_room)][i / 4 % (2 * mk.v_room)][i % 4] = 0.0f;
    dev_barrier(t);
    if (j.sh->plan.count) {
        put(t, &j, mk, 0, find_page(t, &j, mk, 0));
        load_q(t, &j, mk);
        dev_barrier(t);
        load_tile(t, &j, mk, 0, false);
        while (s.step * mk.keys < j.sh->plan.count)
            one_step(t, &j, mk, &s);
    }
    UNROLL
    for (uint32_t i = 0; i < 2 * mk.m_tiles; i++)
        store_row(t, &j, mk, &s, i);
}

/* For heads of dk and dv elements stored in bf16, or in fp16. */
DEV struct make made_for(enum store store, uint32_t dk, uint32_t dv)
{
    bool fp16 = store == STORE_FP16, tall = dk <= 192 && dv <= 128;
    uint32_t keys = fp16 ? (tall ? 32u : 16u) : (tall ? 64u : 32u), k = dk / 16, v = dv / 16;
    struct make mk = {store, store, tall ? 2u : 1u, keys, k, v, k, v, fp16, false};

    return mk;
}

/* For heads of up to so many, in any format with the same products. */
DEV struct make made_up_to(const struct prefill_args *a, enum store like, uint32_t dk,
                           uint32_t dv)
{
    struct make mk = made_for(like, dk, dv);

    mk.keys = mk.keys == 64 ? 32 : mk.keys; /* decoding takes registers */

    mk.bends = true;
    mk.k_units = (a->c.k.dim + 15) / 16;
    mk.v_units = (a->c.v.dim + 15) / 16;
    mk.k = mk.fp16 ? like : a->c.k.store;
    mk.v = mk.fp16 ? like : a->c.v.store;
    return mk;
}

/* The head sizes met most, stored in bf16; anything else by asking at run time. */
#define PREFILL(name, make)                                                                    \
    KERNEL(name, PREFILL_THREADS, struct prefill_args, prefill_body(t, a, make))
PREFILL(prefill_bf16_64, made_for(STORE_BF16, 64, 64))
PREFILL(prefill_bf16_128, made_for(STORE_BF16, 128, 128))
PREFILL(prefill_bf16_192, made_for(STORE_BF16, 192, 128))
PREFILL(prefill_bf16_256, made_for(STORE_BF16, 256, 256))
PREFILL(prefill_any_tall, made_up_to(a, STORE_BF16, 192, 128))
PREFILL(prefill_any, made_up_to(a, STORE_BF16, 256, 256))
PREFILL(prefill_fp16_tall, made_up_to(a, STORE_FP16, 128, 128))
PREFILL(prefill_fp16, made_up_to(a, STORE_FP16, 256, 256))

static struct shape shape_of(const struct prefill_args *a)
{
    struct prefill_tile w = prefill_tile(a);
    uint32_t k_stride = stride_of((a->c.k.dim + 15) / 16), group = a->q_heads / a->c.heads;
    uint32_t v_stride = stride_of((a->c.v.dim + 15) / 16);
    uint32_t elements = (w.rows + w.keys) * k_stride + w.keys * v_stride;
    struct shape s = {{(a->longest * group + w.rows - 1) / w.rows, a->c.heads, a->c.sequences},
                      PREFILL_THREADS,
                      SHARED_BYTES + 2 * elements};

    return s;
}

LAUNCHER(prefill)
{
    const struct prefill_args *a = (const struct prefill_args *)args;
    bool tall = prefill_tile(a).rows == ROWS_MAX, fp16 = a->c.k.store == STORE_FP16;
    struct shape s = shape_of(a);

    if (dev_prefers_tiles(self) && prefill_fits_wgmma(a))
        return FORWARD(prefill_wgmma);
    if (!fp16 && dev_capability(self) < 80)
        return dev_refuse(self, DEVICE_UNSUPPORTED,
                          "prefill: bf16 products need compute capability 8.0; use fp16");
    if (!prefill_is_sized(a)) {
        if (fp16)
            return tall ? LAUNCH(prefill_fp16_tall, s, a) : LAUNCH(prefill_fp16, s, a);
        return tall ? LAUNCH(prefill_any_tall, s, a) : LAUNCH(prefill_any, s, a);
    }
    switch (a->c.k.dim) {
    case 64: return LAUNCH(prefill_bf16_64, s, a);
    case 128: return LAUNCH(prefill_bf16_128, s, a);
    case 192: return LAUNCH(prefill_bf16_192, s, a);
    default: return LAUNCH(prefill_bf16_256, s, a);
    }
}
