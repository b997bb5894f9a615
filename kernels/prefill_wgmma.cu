/* Prefill attention with the products of whole tiles that Hopper has (dev_tile_scores, that is
 * wgmma), for prompts in 16 bits; prefill.h says what a block takes.
 *
 * A block has 128 rows, 64 for each of its two warpgroups, and steps of 128 tokens; Q, two
 * tiles of K and two of V in shared memory: up to 208 KiB, one block a multiprocessor. The
 * products of a step and the softmax of the next overlap:
 *
 *     K of this step and V of the last have arrived        wait, barrier
 *     x = Q K^T and o = o + P V of the last step begin     tensor cores
 *     K of the next step and V of this one are asked for
 *     x is there: mask, maximum, exponentials              beside the second product
 *     o is there: rescale it, P = x in 16 bits
 *
 * A step takes the tensor cores 2048 cycles for both warpgroups (heads of 128); softmax takes
 * the exponential units about 1050 and the issue slots as many beside them, so that what the
 * tensor cores wait for is the barrier and the rescaling, about 300. A producer warp would save
 * little: the loads of a step are 16 copies a thread. 64 scores, 64 sums and 32 words of P
 * leave room in 255 registers. Structure: FlashAttention-3, arXiv:2407.08608, the overlap
 * within a warpgroup. */
#include <assert.h>

#include "kernels/prefill_dev.h"

enum { ROWS = PREFILL_WGMMA_ROWS, KEYS = PREFILL_WGMMA_KEYS, THREADS = 2 * ROWS };
enum { PIECE_THREADS = 8, LOAD_ROWS = THREADS / PIECE_THREADS, SLOTS = 4 };
enum { BLOCK = ROWS * 64 }; /* elements of 64 columns of a tile */

struct make { /* what a kernel is made for: constants */
    uint32_t k_dim, v_dim;
    bool fp16;
};

struct shared { /* then the tiles */
    struct plan plan;
    struct row row[ROWS];
    uint64_t key[SLOTS][KEYS]; /* rows of the cache, for the steps that are loaded */
};

enum { SHARED_BYTES = (sizeof(struct shared) + 1023) / 1024 * 1024 };
static_assert(SHARED_BYTES + 2 * BLOCK * (3 + 2 * 3 + 2 * 2) <= 227 * 1024, "sm_90");

struct job {
    const struct prefill_args *a;
    struct shared *sh;
    uint16_t *q, *k, *v; /* the tiles; two of K and of V */
};

struct state { /* rows g and g + 8 of the warp's 16 */
    float x[KEYS / 2];
    float o[64];
    uint32_t prob[KEYS / 16][4];
    float m[2], l[2], factor[2];
};

DEV struct job job_of(struct lane *t, const struct prefill_args *a, const struct make mk)
{
    uint16_t *q = (uint16_t *)dev_shared(t) + SHARED_BYTES / 2, *k = q + mk.k_dim / 64 * BLOCK;
    struct job j = {a, (struct shared *)dev_shared(t), q, k, k + 2 * (mk.k_dim / 64 * BLOCK)};

    return j;
}

/* The page of this thread's token in `step`; 0 for threads that have none. */
DEV uint32_t find_page(struct lane *t, const struct job *j, uint32_t step)
{
    const struct plan *p = &j->sh->plan;
    uint32_t at = step * KEYS + dev_thread(t);

    if (dev_thread(t) >= KEYS || at >= p->count)
        return 0;
    return dev_load32(t, p->head.table + token_of(&p->some, at) / j->a->c.page_tokens);
}

/* Leaves where the token lies to the others. */
DEV void put(struct lane *t, const struct job *j, uint32_t step, uint32_t page)
{
    const struct plan *p = &j->sh->plan;
    uint32_t i = dev_thread(t), size = j->a->c.page_tokens;

    if (i < KEYS)
        j->sh->key[step % SLOTS][i] =
            ((uint64_t)page * p->head.page_heads + p->head.head) * size +
            token_of(&p->some, step * KEYS + i) % size;
}

/* A row into a tile, by 8 threads; zeros where it is not valid. */
DEV void fetch_row(struct lane *t, uint16_t *tile, uint32_t row, const uint16_t *from,
                   uint32_t dim, bool valid)
{
    uint32_t piece = dev_thread(t) % PIECE_THREADS;

    UNROLL
    for (uint32_t i = 0; i < dim / 64; i++)
        dev_async_if(t, tile + i * BLOCK + 64 * row + 8 * (piece ^ row % 8),
                     from + 64 * i + 8 * piece, valid);
}

DEV void load_q(struct lane *t, const struct job *j, const struct make mk)
{
    UNROLL
    for (uint32_t i = 0; i < ROWS / LOAD_ROWS; i++) {
        uint32_t row = dev_thread(t) / PIECE_THREADS + LOAD_ROWS * i;
        uint64_t at = j->sh->plan.chunk + j->sh->row[row].at;
        const uint16_t *q = (const uint16_t *)j->a->q + at * mk.k_dim;
        fetch_row(t, j->q, row, q, mk.k_dim, row < j->sh->plan.rows);
    }
}

DEV uint16_t *tile_of(const struct job *j, const struct make mk, uint32_t step, bool value)
{
    return value ? j->v + step % 2 * (mk.v_dim / 64 * BLOCK)
                 : j->k + step % 2 * (mk.k_dim / 64 * BLOCK);
}

/* Asks for K or V of the tokens of a step. */
DEV void load_tile(struct lane *t, const struct job *j, const struct make mk, uint32_t step,
                   bool value)
{
    const uint16_t *codes = (const uint16_t *)(value ? j->a->c.v.codes : j->a->c.k.codes);
    uint32_t dim = value ? mk.v_dim : mk.k_dim, count = j->sh->plan.count;
    uint16_t *tile = tile_of(j, mk, step, value);

    UNROLL
    for (uint32_t i = 0; i < KEYS / LOAD_ROWS; i++) {
        uint32_t row = dev_thread(t) / PIECE_THREADS + LOAD_ROWS * i;
        fetch_row(t, tile, row, codes + j->sh->key[step % SLOTS][row] * dim, dim,
                  step * KEYS + row < count);
    }
}

/* Row r of this thread, 0 or 1, in the tile. */
DEV uint32_t row_of(struct lane *t, uint32_t r)
{
    return 16 * dev_warp(t) + 8 * r + dev_lane(t) / 4;
}

/* x[4 n + 2 r + e]: row r, token 8 n + 2 q + e of the step. */
DEV void mask(struct lane *t, const struct job *j, uint32_t step, struct state *s)
{
    const struct plan *p = &j->sh->plan;
    bool clear = is_clear(j->a, p, step * KEYS, KEYS);

    UNROLL
    for (uint32_t r = 0; r < 2; r++) {
        if (clear) {
            if (row_of(t, r) < p->rows)
                dev_flop(t, 0, KEYS / 4 * pair_flop(j->a));
            continue;
        }
        struct prefill_view v = j->sh->row[row_of(t, r)].sees, some = p->some;
        UNROLL
        for (uint32_t i = 0; i < KEYS / 4; i++) {
            uint32_t at = step * KEYS + 8 * (i / 2) + 2 * (dev_lane(t) % 4) + i % 2;
            if (sees(&v, token_of(&some, at)))
                dev_flop(t, 0, pair_flop(j->a));
            else
                s->x[i / 2 * 4 + 2 * r + i % 2] = NONE;
        }
    }
}

/* Online softmax: x becomes the probabilities relative to the new maximum, l follows; o is
 * still to follow by the factors. `scale` brings x to powers of 2. */
DEV void soften(struct lane *t, const struct job *j, struct state *s)
{
    float scale = j->a->scale * LOG2E;

    UNROLL
    for (uint32_t r = 0; r < 2; r++) {
        float most = s->m[r], shift, sum = 0.0f;
        UNROLL
        for (uint32_t n = 0; n < KEYS / 8; n++)
            most = fmaxf(most, fmaxf(s->x[4 * n + 2 * r], s->x[4 * n + 2 * r + 1]));
        most = dev_max(t, most, 4);
        shift = most == NONE ? 0.0f : most; /* so that a difference is a number */
        s->factor[r] = dev_exp2((s->m[r] - shift) * scale);
        s->m[r] = most;
        shift *= -scale;
        UNROLL
        for (uint32_t i = 0; i < KEYS / 4; i++) {
            float *x = &s->x[i / 2 * 4 + 2 * r + i % 2];
            *x = dev_exp2(dev_fma(*x, scale, shift));
            sum += *x;
        }
        s->l[r] = dev_fma(s->l[r], s->factor[r], sum);
    }
    dev_exps(t, 2 * (KEYS / 4 + 1));
    dev_flop(t, 2 * (3 * KEYS / 4 + 5), 0);
}

/* P in 16 bits, and o by the factors. */
DEV void follow(struct lane *t, const struct make mk, struct state *s)
{
    UNROLL
    for (uint32_t i = 0; i < KEYS / 4; i++)
        s->prob[i / 4][i % 4] = dev_pack_16(s->x[2 * i], s->x[2 * i + 1], mk.fp16);
    UNROLL
    for (uint32_t i = 0; i < mk.v_dim / 2; i++)
        s->o[i] *= s->factor[i / 2 % 2];
    dev_flop(t, mk.v_dim / 2, 0);
}

/* What was asked for is there, for every thread and for the products. */
DEV void arrive(struct lane *t)
{
    dev_async_wait(t, 0);
    dev_tile_fence(t);
    dev_barrier(t);
}

DEV void begin_scores(struct lane *t, const struct job *j, const struct make mk, uint32_t step,
                      struct state *s)
{
    dev_tile_scores(t, s->x, j->q + dev_thread(t) / 128 * (64 * 64),
                    tile_of(j, mk, step, false), mk.k_dim / 16, mk.fp16);
}

/* Loads of step + 1 and of V of this one, while the page of step + 2 is looked up. */
DEV void ask(struct lane *t, const struct job *j, const struct make mk, uint32_t step,
             uint32_t steps)
{
    uint32_t page = find_page(t, j, step + 2);

    if (step + 1 < steps)
        load_tile(t, j, mk, step + 1, false);
    load_tile(t, j, mk, step, true);
    dev_async_commit(t);
    put(t, j, step + 2, page);
}

DEV void run(struct lane *t, const struct job *j, const struct make mk, struct state *s)
{
    uint32_t steps = (j->sh->plan.count + KEYS - 1) / KEYS;

    put(t, j, 0, find_page(t, j, 0));
    put(t, j, 1, find_page(t, j, 1));
    load_q(t, j, mk);
    dev_barrier(t);
    load_tile(t, j, mk, 0, false);
    dev_async_commit(t);
    arrive(t);
    begin_scores(t, j, mk, 0, s);
    ask(t, j, mk, 0, steps);
    dev_tile_wait(t, 0);
    mask(t, j, 0, s);
    soften(t, j, s);
    follow(t, mk, s);
    for (uint32_t step = 1; step < steps; step++) {
        arrive(t);
        begin_scores(t, j, mk, step, s);
        dev_tile_values(t, s->o, s->prob, tile_of(j, mk, step - 1, true), mk.v_dim, mk.fp16);
        ask(t, j, mk, step, steps);
        dev_tile_wait(t, 1);
        mask(t, j, step, s);
        soften(t, j, s);
        dev_settle(t, s->l[0] + s->l[1]);
        dev_tile_wait(t, 0);
        follow(t, mk, s);
    }
    arrive(t);
    dev_tile_values(t, s->o, s->prob, tile_of(j, mk, steps - 1, true), mk.v_dim, mk.fp16);
    dev_tile_wait(t, 0);
}

DEV void store_row(struct lane *t, const struct job *j, const struct make mk,
                   const struct state *s, uint32_t r)
{
    const struct row *row = &j->sh->row[row_of(t, r)];
    uint32_t q = dev_lane(t) % 4;
    uint64_t at = j->sh->plan.chunk + row->at;
    uint16_t *out = (uint16_t *)j->a->out + at * mk.v_dim + 2 * q;
    float l = dev_sum(t, s->l[r], 4), over = l > 0.0f ? 1.0f / l : 0.0f;

    if (row_of(t, r) >= j->sh->plan.rows)
        return;
    UNROLL
    for (uint32_t n = 0; n < mk.v_dim / 8; n++)
        dev_store32(
            t, out + 8 * n,
            dev_pack_16(s->o[4 * n + 2 * r] * over, s->o[4 * n + 2 * r + 1] * over, mk.fp16));
    dev_flop(t, mk.v_dim / 4, 0);
    if (j->a->lse && !q) /* nothing seen: minus infinity */
        dev_store_float(t, j->a->lse + at, s->m[r] * j->a->scale + log2f(l) * LN2);
}

DEV void wgmma_body(struct lane *t, const struct prefill_args *a, const struct make mk)
{
    struct job j = job_of(t, a, mk);
    struct state s;

    if (!prepare(t, a, ROWS, &j.sh->plan, j.sh->row))
        return;
    UNROLL
    for (uint32_t i = 0; i < mk.v_dim / 2; i++)
        s.o[i] = 0.0f;
    dev_barrier(t);
    UNROLL
    for (uint32_t r = 0; r < 2; r++) {
        s.m[r] = j.sh->row[row_of(t, r)].m;
        s.l[r] = first_sum(t, a);
    }
    if (j.sh->plan.count)
        run(t, &j, mk, &s);
    UNROLL
    for (uint32_t r = 0; r < 2; r++)
        store_row(t, &j, mk, &s, r);
}

DEV struct make made_for(uint32_t k_dim, uint32_t v_dim, bool fp16)
{
    struct make mk = {k_dim, v_dim, fp16};

    return mk;
}

#define WGMMA(name, k_dim, v_dim)                                                              \
    KERNEL(wgmma_bf16_##name, THREADS, struct prefill_args,                                    \
           wgmma_body(t, a, made_for(k_dim, v_dim, false)))                                    \
    KERNEL(wgmma_fp16_##name, THREADS, struct prefill_args,                                    \
           wgmma_body(t, a, made_for(k_dim, v_dim, true)))
WGMMA(64, 64, 64)
WGMMA(128, 128, 128)
WGMMA(192, 192, 128)
#define LAUNCH_WGMMA(name)                                                                     \
    (fp16 ? LAUNCH(wgmma_fp16_##name, s, a) : LAUNCH(wgmma_bf16_##name, s, a))

LAUNCHER(prefill_wgmma)
{
    const struct prefill_args *a = (const struct prefill_args *)args;
    uint32_t group = a->q_heads / a->c.heads, dk = a->c.k.dim;
    bool fp16 = a->c.k.store == STORE_FP16;
    struct shape s = {{(a->longest * group + ROWS - 1) / ROWS, a->c.heads, a->c.sequences},
                      THREADS,
                      SHARED_BYTES + 2 * BLOCK / 64 * (3 * dk + 2 * a->c.v.dim)};

    if (!dev_has_tiles(self))
        return dev_refuse(self, DEVICE_UNSUPPORTED,
                          "prefill: products of tiles need compute capability 9.0");
    if (dk == 64)
        return LAUNCH_WGMMA(64);
    return dk == 128 ? LAUNCH_WGMMA(128) : LAUNCH_WGMMA(192);
}
