/* Scores. A block takes 128 rows of a K/V head, 16 a warp, which stay in registers, and goes
 * over the query heads of the group and their queries, 32 at a time through shared memory; the
 * next ones are under way meanwhile. Rows are the rows of the products and queries the columns,
 * so that a sum over queries is one over 4 neighbouring threads. As in decode.cu each thread
 * takes 8 neighbouring elements of a row and of a query for its share of two products.
 *
 * pool: a thread a place. budget: a block a sequence. */
#include "kernels/dev.h"

#include "kernels/bend_dev.h"
#include "kernels/scores.h"
#include "kernels/unit_dev.h"

enum { UNITS_MAX = CACHE_DIM_MAX / 32, TURN = SCORES_QUERIES };

#define LOG2E 1.4426950408889634f
#define NONE dev_float(0xff800000u) /* minus infinity; nvcc computes -1 / 0 at run time */

/* What a kernel is made for; constants after inlining. */
struct make {
    uint32_t units; /* of 32 elements */
    bool fp16, shifts;
};

struct query { /* of a turn */
    struct prefill_view sees;
    float lse; /* in powers of 2 */
};

struct shared { /* then two tiles of queries */
    struct query query[2][TURN];
};

struct job { /* of this block */
    const struct scores_args *a;
    struct shared *sh;
    uint16_t *tile;
    struct head_at head;
    struct scores_part part;
    uint32_t first, row, offset, length, group, q_head; /* row: of q, of the chunk's first */
    uint32_t turns, scoring; /* of a query head; queries that score, seeing rows here or not */
};

struct rows { /* g and g + 8 of this warp */
    uint32_t k[UNITS_MAX][8];
    float scale[2], sum[2], total[2];
    /* shifting: from here on sum is that of the differences from `origin`, what the first query
     * gives, and square that of their squares: the variance is no difference of large sums */
    float origin[2], square[2], entropy, variance;
    struct bent bent; /* of the query head */
    uint32_t token[2];
    bool valid[2];
};

/* Elements from one query of a tile to the next: an odd number of 64-byte units, so that two
 * neighbouring queries lie in different banks. */
DEV_SHARED uint32_t stride_of(uint32_t units)
{
    return (units | 1) * 32;
}

DEV struct job job_of(struct lane *t, const struct scores_args *a)
{
    const struct cache_view *c = &a->of.c;
    uint32_t head = dev_block(t, 1), sequence = dev_block(t, 2);
    uint64_t slot = cache_slot_of(c, sequence, head);
    struct job j;

    j.a = a;
    j.sh = (struct shared *)dev_shared(t);
    j.tile = (uint16_t *)(j.sh + 1);
    j.head = cache_head(c, sequence, head);
    j.first = dev_block(t, 0) * SCORES_KEYS;
    j.row = dev_load32(t, a->of.first + sequence);
    uint32_t rows = dev_load32(t, a->of.first + sequence + 1) - j.row;
    j.offset = dev_load32(t, a->of.offset + slot);
    j.length = dev_load32(t, c->lengths + slot);
    j.part = scores_part(a, rows, j.offset, j.length, dev_block(t, 0));
    j.group = a->of.q_heads / c->heads;
    j.q_head = head * j.group;
    j.scoring = a->queries && rows > a->queries ? a->queries : rows;
    j.turns = (j.part.to - j.part.from + TURN - 1) / TURN;
    return j;
}

/* The rows of this thread, without elements where no query sees any. */
DEV void load_rows(struct lane *t, const struct job *j, const struct make mk, struct rows *r)
{
    const struct cache_view *c = &j->a->of.c;
    uint32_t quantized = cache_quantized(c, false, j->length);

    UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t at = dev_warp(t) * 16 + 8 * half + dev_lane(t) / 4;
        bool seen = at < j->part.keys && j->turns;
        struct place p = cache_place(t, c, &j->head, j->first + at, seen);
        UNROLL
        for (uint32_t i = 0; i < mk.units; i++) {
            uint32_t w[4];
            struct unit u = unit_load(t, c, &j->head, &p, 32 * i + 8 * (dev_lane(t) % 4),
                                      c->k.store, false, quantized);
            unit_decode(&u, c->k.store, false, w);
            UNROLL
            for (uint32_t e = 0; e < 4; e++)
                r->k[i][e / 2 * 4 + e % 2 * 2 + half] = w[e];
        }
        r->scale[half] = cache_scale(t, &c->k, &p, c->k.store) * j->a->of.scale * LOG2E;
        r->token[half] = j->first + at;
        r->valid[half] = at < j->part.keys;
        r->sum[half] = r->total[half] = r->origin[half] = r->square[half] = 0.0f;
    }
    r->entropy = r->variance = 0.0f;
}

/* Asks for turn n, counted over all query heads of the group. */
DEV void load_turn(struct lane *t, const struct job *j, const struct make mk, uint32_t n)
{
    const struct prefill_args *of = &j->a->of;
    uint32_t slot = n % 2, head = j->q_head + n / j->turns, pieces = 4 * mk.units;
    uint32_t from = j->part.from + n % j->turns * TURN, me = dev_thread(t);
    uint16_t *to = j->tile + slot * TURN * stride_of(mk.units);

    for (uint32_t i = me; i < TURN * pieces; i += SCORES_THREADS) {
        uint32_t q = i / pieces, first = i % pieces * 8;
        uint64_t at = (uint64_t)(j->row + from + q) * prefill_row_heads(of) + head;
        dev_async_if(t, to + q * stride_of(mk.units) + first,
                     (const uint16_t *)of->q + at * of->c.k.dim + first,
                     from + q < j->part.to && first < of->c.k.dim);
    }
    if (me < TURN) {
        struct query q = {{0, 0, 0}, 0.0f};
        if (from + me < j->part.to) {
            uint64_t at = (uint64_t)(j->row + from + me) * prefill_row_heads(of) + head;
            q.sees = prefill_sees(of, j->offset, j->length, from + me);
            q.lse = dev_load_float(t, of->lse + at) * LOG2E;
        }
        j->sh->query[slot][me] = q;
    }
}

/* Scores of 8 queries of the turn in `slot`: x[e] is that of row g + 8 (e / 2) and query
 * 2 q + e % 2. */
DEV void scores_of(struct lane *t, const struct job *j, const struct make mk,
                   const struct rows *r, const uint16_t *queries, float *x)
{
    const uint16_t *q = queries + dev_lane(t) / 4 * stride_of(mk.units) + dev_lane(t) % 4 * 8;

    (void)j;
    UNROLL
    for (uint32_t e = 0; e < 4; e++)
        x[e] = 0.0f;
    UNROLL
    for (uint32_t i = 0; i < mk.units; i++) {
        struct vec128 v = *(const struct vec128 *)(q + 32 * i);
        UNROLL
        for (uint32_t half = 0; half < 2; half++) {
            if (mk.fp16)
                dev_mma_fp16(t, x, r->k[i] + 4 * half, v.w + 2 * half);
            else
                dev_mma_bf16(t, x, r->k[i] + 4 * half, v.w + 2 * half);
        }
    }
}

/* Query 2 q + e % 2 of 8: its probability of row g + 8 (e / 2). */
DEV float probability(const struct query *q, const struct rows *r, const float *x, uint32_t e,
                      bool bends)
{
    if (bends)
        return dev_exp2(bent_score(&r->bent, x[e] * r->scale[e / 2], r->token[e / 2]) -
                        q[e % 2].lse);
    return dev_exp2(dev_fma(x[e], r->scale[e / 2], -q[e % 2].lse));
}

/* Adds 8 queries, `left` of which there are. Mostly each of them sees every row of the block:
 * those before see less at the end, those after less at the start. That case has code of its
 * own, of a third of the instructions. */
DEV void add_queries(struct lane *t, const struct job *j, const struct query *query,
                     uint32_t left, struct rows *r, const float *x)
{
    const struct query *own = query + 2 * (dev_lane(t) % 4);
    uint32_t bends = (j->a->of.cap > 0.0f ? 8u : 0u) + (j->a->of.slopes ? 8u : 0u);
    bool clear = left >= 8 && query[0].sees.end >= j->first + j->part.keys &&
                 query[7].sees.start <= j->first;

    UNROLL
    for (uint32_t e = 0; e < 4 && clear; e++) {
        r->sum[e / 2] += probability(own, r, x, e, bends);
        if (r->valid[e / 2])
            dev_flop(t, 0, 2 * j->a->of.c.k.dim);
    }
    UNROLL
    for (uint32_t e = 0; e < 4 && !clear; e++) {
        const struct prefill_view *v = &own[e % 2].sees;
        uint32_t token = r->token[e / 2];
        bool seen = token < v->end && (token >= v->start || token < v->sinks);
        float p = probability(own, r, x, e, bends);
        r->sum[e / 2] += seen ? p : 0.0f;
        if (seen && r->valid[e / 2])
            dev_flop(t, 0, 2 * j->a->of.c.k.dim);
    }
    dev_exps(t, j->a->of.cap > 0.0f ? 8u : 4u);
    dev_flop(t, 12 + bends, 0);
}

/* The same for variances. `begins`: the first of the queries of a head are among them. */
DEV void shift_queries(struct lane *t, const struct job *j, const struct query *query,
                       uint32_t left, struct rows *r, const float *x, bool begins)
{
    uint32_t mine = 2 * (dev_lane(t) % 4);
    uint32_t bends = (j->a->of.cap > 0.0f ? 8u : 0u) + (j->a->of.slopes ? 8u : 0u);

    UNROLL
    for (uint32_t e = 0; e < 4; e++) {
        const struct prefill_view *v = &query[mine + e % 2].sees;
        uint32_t token = r->token[e / 2];
        bool seen = token < v->end && (token >= v->start || token < v->sinks);
        float p = probability(query + mine, r, x, e, bends), apart;
        p = seen ? p : 0.0f;
        if (e % 2 == 0 && begins)
            r->origin[e / 2] = dev_float(dev_shuffle(t, dev_bits(p), 0, 4));
        apart = mine + e % 2 < left ? p - r->origin[e / 2] : 0.0f;
        r->sum[e / 2] += apart;
        r->square[e / 2] = dev_fma(apart, apart, r->square[e / 2]);
        if (r->valid[e / 2])
            r->entropy = dev_fma(-p, log2f(p + 1e-10f), r->entropy);
        if (seen && r->valid[e / 2])
            dev_flop(t, 0, 2 * j->a->of.c.k.dim);
    }
    dev_exps(t, j->a->of.cap > 0.0f ? 8u : 4u);
    dev_flop(t, 36 + bends, 0);
}

/* A query head is complete: its mean and variance over all queries that score, of which those
 * that see no row of this block give 0. */
DEV void end_shift(struct lane *t, const struct job *j, struct rows *r)
{
    float n = (float)j->scoring, unseen = (float)(j->scoring - (j->part.to - j->part.from));

    UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        float origin = r->origin[half], sum = dev_sum(t, r->sum[half], 4) - unseen * origin;
        float square = dev_fma(unseen * origin, origin, dev_sum(t, r->square[half], 4));
        float variance = n > 1.0f ? fmaxf(square - sum * sum / n, 0.0f) / (n - 1.0f) : 0.0f;
        r->total[half] += dev_fma(j->a->gamma, variance, origin + sum / n);
        r->variance += r->valid[half] ? variance : 0.0f;
        r->sum[half] = r->square[half] = 0.0f;
    }
    dev_flop(t, 26, 0);
}

DEV void one_turn(struct lane *t, const struct job *j, const struct make mk, uint32_t n,
                  struct rows *r)
{
    const float *slopes = j->a->of.slopes;
    uint32_t at = n % j->turns, left = j->part.to - j->part.from - at * TURN;
    const uint16_t *tile = j->tile + n % 2 * TURN * stride_of(mk.units);

    if (dev_warp(t) * 16 >= j->part.keys)
        return;
    left = left < TURN ? left : TURN;
    r->bent =
        bent_by(t, j->a->of.cap, slopes ? slopes + j->q_head + n / j->turns : NULL, LOG2E);
    for (uint32_t i = 0; i < left; i += 8) {
        float x[4];
        scores_of(t, j, mk, r, tile + i * stride_of(mk.units), x);
        if (mk.shifts)
            shift_queries(t, j, j->sh->query[n % 2] + i, left - i, r, x, !at && !i);
        else
            add_queries(t, j, j->sh->query[n % 2] + i, left - i, r, x);
    }
    if (at + 1 < j->turns)
        return;
    if (mk.shifts) {
        end_shift(t, j, r);
        return;
    }
    UNROLL
    for (uint32_t half = 0; half < 2; half++) { /* the query head is complete */
        float sum = dev_sum(t, r->sum[half], 4);
        if (j->a->largest)
            r->total[half] = fmaxf(r->total[half], sum);
        else
            r->total[half] += sum;
        r->sum[half] = 0.0f;
    }
    dev_flop(t, j->a->largest ? 0 : 2, 0);
}

DEV void store_sums(struct lane *t, const struct job *j, const struct rows *r)
{
    uint64_t list = (uint64_t)dev_block(t, 2) * j->a->of.c.heads + dev_block(t, 1);

    if (dev_lane(t) % 4)
        return;
    UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        float *to = j->a->sums + list * j->a->width + r->token[half], sum = r->total[half];
        if (!r->valid[half])
            continue;
        if (j->a->add && r->token[half] < j->offset) {
            sum += dev_load_float(t, to);
            dev_flop(t, 1, 0);
        }
        dev_store_float(t, to, sum);
    }
}

/* Of this warp: entropies in natural units, variances from one of 4 threads a row. */
DEV void store_part(struct lane *t, const struct job *j, float entropy, float variance)
{
    uint64_t list = (uint64_t)dev_block(t, 2) * j->a->of.c.heads + dev_block(t, 1);
    uint64_t at = list * scores_parts(j->a) + dev_block(t, 0) * (SCORES_THREADS / 32);
    float *to = j->a->parts + 2 * (at + dev_warp(t));

    entropy = dev_sum(t, entropy, 32) * (1.0f / LOG2E);
    variance = dev_sum(t, dev_lane(t) % 4 ? 0.0f : variance, 32);
    if (dev_lane(t))
        return;
    dev_store_float(t, to, entropy);
    dev_store_float(t, to + 1, variance);
}

DEV void scores_body(struct lane *t, const struct scores_args *a, const struct make mk)
{
    struct job j = job_of(t, a);
    uint32_t turns = j.turns * j.group;
    struct rows r;

    if (!j.part.keys) {
        if (mk.shifts)
            store_part(t, &j, 0.0f, 0.0f);
        return;
    }
    load_rows(t, &j, mk, &r);
    if (turns)
        load_turn(t, &j, mk, 0);
    dev_async_commit(t);
    for (uint32_t n = 0; n < turns; n++) {
        if (n + 1 < turns)
            load_turn(t, &j, mk, n + 1);
        dev_async_commit(t);
        dev_async_wait(t, 1);
        dev_barrier(t);
        one_turn(t, &j, mk, n, &r);
        dev_barrier(t);
    }
    store_sums(t, &j, &r);
    if (mk.shifts)
        store_part(t, &j, r.entropy, r.variance);
}

DEV float pooled(struct lane *t, const struct pool_args *a, uint64_t list, uint32_t i,
                 uint32_t n)
{
    uint32_t half = a->size / 2, from = i > half ? i - half : 0;
    uint32_t to = n - i > half ? i + half + 1 : n;
    float x = a->largest ? NONE : 0.0f;

    for (uint32_t k = from; k < to; k++) {
        float score = dev_load_float(t, a->scores + list * a->width + k);
        x = a->largest ? fmaxf(x, score) : x + score;
    }
    if (!a->largest) {
        dev_flop(t, to - from + 1, 0);
        x /= (float)(a->by_age ? n - i : a->size);
    }
    return x;
}

DEV void pool_body(struct lane *t, const struct pool_args *a)
{
    uint32_t i = dev_block(t, 0) * POOL_THREADS + dev_thread(t);
    uint32_t head = dev_block(t, 1), n;
    uint64_t first = (uint64_t)dev_block(t, 2) * a->heads, list = first + head;
    float x = NONE;

    if (i >= a->width)
        return;
    n = dev_load32(t, a->count + list);
    if (i < n && !a->together)
        x = pooled(t, a, list, i, n);
    if (i < n && a->together) {
        x = 0.0f;
        for (uint32_t h = 0; h < a->heads; h++)
            x += pooled(t, a, first + h, i, n);
        dev_flop(t, a->heads, 0);
    }
    dev_store_float(t, a->out + list * a->width + i, x);
}

DEV void budget_body(struct lane *t, const struct budget_args *a)
{
    uint32_t *own = (uint32_t *)dev_shared(t), sequence = dev_block(t, 0);
    uint32_t chosen = dev_load32(t, a->chosen + sequence);
    const uint32_t *index = a->index + (uint64_t)sequence * a->heads * a->width;

    for (uint32_t h = dev_thread(t); h < a->heads; h += BUDGET_THREADS)
        own[h] = 0;
    dev_barrier(t);
    for (uint32_t i = dev_thread(t); i < chosen; i += BUDGET_THREADS)
        (void)dev_shared_add(t, &own[dev_load32(t, index + i) / a->width], 1);
    dev_barrier(t);
    for (uint32_t h = dev_thread(t); h < a->heads; h += BUDGET_THREADS) {
        uint64_t list = (uint64_t)sequence * a->heads + h;
        uint32_t count = dev_load32(t, a->count + list);
        double rows = rint(own[h] * (1 - a->floor_ratio) + a->floor_tokens) + a->window;
        dev_flop(t, 3, 0);
        dev_store32(t, a->keep + list, rows < count ? (uint32_t)rows : count);
    }
}

DEV struct make made_for(uint32_t units, bool fp16, bool shifts)
{
    struct make mk = {units, fp16, shifts};

    return mk;
}

#define SCORES(name, units, fp16)                                                              \
    KERNEL(scores_##name, SCORES_THREADS, struct scores_args,                                  \
           scores_body(t, a, made_for(units, fp16, false)))                                    \
    KERNEL(shifts_##name, SCORES_THREADS, struct scores_args,                                  \
           scores_body(t, a, made_for(units, fp16, true)))
SCORES(bf16_64, 2, false)
SCORES(bf16_128, 4, false)
SCORES(bf16_256, 8, false)
SCORES(fp16_64, 2, true)
SCORES(fp16_128, 4, true)
SCORES(fp16_256, 8, true)
KERNEL(pool_kernel, POOL_THREADS, struct pool_args, pool_body(t, a))
KERNEL(budget_kernel, BUDGET_THREADS, struct budget_args, budget_body(t, a))

#define RUN(name) (a->shifting ? LAUNCH(shifts_##name, s, a) : LAUNCH(scores_##name, s, a))

LAUNCHER(scores)
{
    const struct scores_args *a = (const struct scores_args *)args;
    const struct cache_view *c = &a->of.c;
    uint32_t units = c->k.dim <= 64 ? 2 : c->k.dim <= 128 ? 4 : 8;
    struct shape s = {{(a->width + SCORES_KEYS - 1) / SCORES_KEYS, c->heads, c->sequences},
                      SCORES_THREADS,
                      (uint32_t)sizeof(struct shared) + 2 * TURN * stride_of(units) * 2};

    if (c->k.store == STORE_FP16)
        return units == 2 ? RUN(fp16_64) : units == 4 ? RUN(fp16_128) : RUN(fp16_256);
    if (dev_capability(self) < 80)
        return dev_refuse(self, DEVICE_UNSUPPORTED,
                          "scores: bf16 products need compute capability 8.0; use fp16");
    return units == 2 ? RUN(bf16_64) : units == 4 ? RUN(bf16_128) : RUN(bf16_256);
}

LAUNCHER(pool)
{
    const struct pool_args *a = (const struct pool_args *)args;
    struct shape s = {{(a->width + POOL_THREADS - 1) / POOL_THREADS, a->heads, a->sequences},
                      POOL_THREADS,
                      0};

    return LAUNCH(pool_kernel, s, a);
}

LAUNCHER(budget)
{
    const struct budget_args *a = (const struct budget_args *)args;
    struct shape s = {{a->sequences, 1, 1}, BUDGET_THREADS, 4 * a->heads};

    return LAUNCH(budget_kernel, s, a);
}
