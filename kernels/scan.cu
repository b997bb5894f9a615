/* The recurrences: a block of threads has some rows of the matrix S of one head and sequence,
 * one to eight threads a row, each with 16 or 32 elements in registers from the first token to
 * the last. Keys, queries and decays of a few tokens at a time stand in shared memory, where
 * they are also scaled; values and what belongs to a row beside them. */
#include "kernels/eight_dev.h"

#include "kernels/scan.h"

enum { WARPS = SCAN_THREADS / 32, TOKENS = SCAN_TOKENS };

enum decay { /* of what there is a number */
             DECAY_HEAD,
             DECAY_COLUMN,
             DECAY_ELEMENT
};

struct staged {               /* in shared memory, of TOKENS tokens each */
    struct vec128 *k, *q, *w; /* [token][k_dim] numbers in fp32 */
    float *v, *dt;            /* [token][rows] */
    float *decay, *beta;
};

struct work {
    const struct scan_args *a;
    uint32_t head, first_row, row, part, lanes, rows; /* part: of the row, `lanes` of them */
    uint64_t first_token;                             /* of the sequence */
    bool live;
};

DEV struct staged room_of(struct lane *t, const struct work *w)
{
    uint32_t keys = TOKENS * w->a->k_dim / 4, rows = TOKENS * w->rows;
    struct staged s;

    s.k = (struct vec128 *)dev_shared(t);
    s.q = s.k + keys;
    s.w = s.q + keys;
    s.v = (float *)(s.w + keys);
    s.dt = s.v + rows;
    s.decay = s.dt + rows;
    s.beta = s.decay + TOKENS;
    return s;
}

DEV struct work work_of(struct lane *t, const struct scan_args *a)
{
    struct work w;
    uint32_t tiles;

    w.a = a;
    w.lanes = scan_lanes(a);
    w.rows = scan_rows(a);
    tiles = scan_tiles(a);
    w.head = dev_block(t, 0) / tiles;
    w.first_row = dev_block(t, 0) % tiles * w.rows;
    w.row = w.first_row + dev_thread(t) / w.lanes;
    w.part = dev_thread(t) % w.lanes;
    w.first_token = (uint64_t)dev_block(t, 1) * a->tokens;
    w.live = w.row < a->v_dim;
    return w;
}

DEV float load_16(struct lane *t, const void *p, uint64_t at, bool fp16)
{
    return dev_from_16(dev_load16(t, (const uint16_t *)p + at), fp16);
}

DEV float dev_exp(float x)
{
    return dev_exp2(x * DEV_LOG2E);
}

DEV float softplus(float x)
{
    return x > 20.0f ? x : log2f(1.0f + dev_exp(x)) * 0.6931471805599453f;
}

DEV void put_eight(struct vec128 *to, const struct eight *e)
{
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        to[i / 4].w[i % 4] = dev_bits(e->x[i]);
}

DEV struct eight take_eight(const struct vec128 *from)
{
    struct vec128 low = from[0], high = from[1];
    struct eight e;

    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        e.x[i] = dev_float(low.w[i]);
        e.x[4 + i] = dev_float(high.w[i]);
    }
    return e;
}

/* --- staging --------------------------------------------------------------------------------
 */

/* A token's decay and beta, by one thread. */
DEV void stage_head(struct lane *t, const struct work *w, const struct staged *s, uint64_t row,
                    uint32_t token)
{
    const struct scan_args *a = w->a;
    uint64_t rate_at = row * a->rate_stride + w->head;
    float rate = 0.0f, decay = 0.0f, beta = 0.0f;

    if (a->kind == SCAN_LIGHTNING) {
        float slope = dev_exp2(-8.0f * (float)(w->head + 1) / (float)a->heads) * a->slope;
        decay = dev_exp(-slope);
        dev_exps(t, 2);
        dev_flop(t, 1, 0);
    } else if (a->kind == SCAN_RETENTION) {
        rate = load_16(t, a->rate, rate_at, a->fp16);
        decay = dev_exp2(log2f(1.0f + dev_exp(-rate)) * -0.0625f);
        dev_exps(t, 2);
        dev_flop(t, 1, 0);
    } else if (a->kind == SCAN_MAMBA2 || a->kind == SCAN_GDN) {
        rate = load_16(t, a->rate, rate_at, a->fp16);
        rate = softplus(rate + load_16(t, a->dt_bias, w->head, a->fp16));
        decay = dev_exp(-rate * dev_exp(load_16(t, a->a_log, w->head, a->fp16)));
        beta = rate;
        dev_exps(t, 3);
        dev_flop(t, 2, 0);
    }
    if (a->kind == SCAN_GDN || a->kind == SCAN_KDA) {
        beta = dev_sigmoid(load_16(t, a->beta, row * a->beta_stride + w->head, a->fp16));
        dev_exps(t, 1);
    }
    s->decay[token] = decay;
    s->beta[token] = beta;
}

/* Decays of 8 columns. All threads of the warp read a_log. */
DEV void stage_columns(struct lane *t, const struct work *w, struct vec128 *to, uint64_t row)
{
    const struct scan_args *a = w->a;
    uint32_t first = 8 * dev_lane(t);
    float rate = dev_exp(load_16(t, a->a_log, w->head, a->fp16));
    uint64_t at = (uint64_t)w->head * a->k_dim + first;

    if (!dev_lane(t))
        dev_exps(t, 1);
    if (first >= a->k_dim)
        return;
    struct eight f = eight_load(t, a->rate, row * a->rate_stride + at, a->fp16);
    struct eight bias = eight_load(t, a->dt_bias, at, a->fp16);
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        f.x[i] = dev_exp(-rate * softplus(f.x[i] + bias.x[i]));
    put_eight(to + first / 4, &f);
    dev_exps(t, 16);
    dev_flop(t, 16, 0);
}

/* Eight elements of a key or query, by the threads of a warp together. */
DEV void stage_key(struct lane *t, const struct work *w, const void *from, struct vec128 *to,
                   uint64_t row, bool query)
{
    const struct scan_args *a = w->a;
    uint32_t first = 8 * dev_lane(t), head = w->head / (a->heads / a->k_heads);
    bool delta = a->kind == SCAN_GDN || a->kind == SCAN_KDA, mine = first < a->k_dim;
    struct eight e = {{0, 0, 0, 0, 0, 0, 0, 0}};
    float factor = 1.0f, squares = 0.0f;

    if (mine)
        e = eight_load(t, from, row * a->k_stride + (uint64_t)head * a->k_dim + first, a->fp16);
    if (delta) {
        UNROLL
        for (uint32_t i = 0; i < 8; i++)
            squares = dev_fma(e.x[i], e.x[i], squares);
        factor = 1.0f / sqrtf(dev_sum(t, squares, 32) + 1e-6f);
    }
    if (!mine)
        return;
    if (delta ? query : a->kind == SCAN_RETENTION && !query)
        factor *= 1.0f / sqrtf((float)a->k_dim);
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        e.x[i] *= a->kind == SCAN_LIGHTNING ? dev_sigmoid(e.x[i]) : factor;
    put_eight(to + first / 4, &e);
    if (delta)
        dev_flop(t, 24, 0);
    else if (a->kind == SCAN_LIGHTNING || (a->kind == SCAN_RETENTION && !query))
        dev_flop(t, 8, 0);
    if (a->kind == SCAN_LIGHTNING)
        dev_exps(t, 8);
}

/* Values, and of Mamba-1 the rates, of the block's rows. */
DEV void stage_rows(struct lane *t, const struct work *w, const struct staged *s,
                    uint64_t first, uint32_t n)
{
    const struct scan_args *a = w->a;

    for (uint32_t i = dev_thread(t); i < n * w->rows; i += SCAN_THREADS) {
        uint64_t token = first + i / w->rows;
        uint32_t row = w->first_row + i % w->rows;
        float v = 0.0f, dt = 0.0f;
        if (row < a->v_dim) {
            uint64_t at = token * a->v_stride + (uint64_t)w->head * a->v_dim + row;
            v = load_16(t, a->v, at, a->fp16);
            if (a->kind == SCAN_LIGHTNING) {
                v *= dev_sigmoid(v);
                dev_exps(t, 1);
                dev_flop(t, 1, 0);
            } else if (a->kind == SCAN_MAMBA1) {
                dt = softplus(load_16(t, a->rate, token * a->rate_stride + row, a->fp16));
                dev_exps(t, 1);
            }
        }
        s->v[i] = v;
        s->dt[i] = dt;
    }
}

DEV void stage(struct lane *t, const struct work *w, const struct staged *s, uint64_t first,
               uint32_t n)
{
    const struct scan_args *a = w->a;

    for (uint32_t i = dev_warp(t); i < n; i += WARPS) {
        uint32_t to = i * (a->k_dim / 4);
        stage_key(t, w, a->k, s->k + to, first + i, false);
        stage_key(t, w, a->q, s->q + to, first + i, true);
        if (a->kind == SCAN_KDA)
            stage_columns(t, w, s->w + to, first + i);
        if (!dev_lane(t))
            stage_head(t, w, s, first + i, i);
    }
    stage_rows(t, w, s, first, n);
}

/* --- the recurrence -------------------------------------------------------------------------
 */

/* The first column of elements i .. i + 7 of a thread's part: eights are dealt out in turn. */
DEV uint32_t column_of(const struct work *w, uint32_t i)
{
    return i * w->lanes + 8 * w->part;
}

DEV void load_state(struct lane *t, const struct work *w, float *x, uint32_t elems, bool store)
{
    const struct scan_args *a = w->a;
    char *slot = (char *)a->state + dev_block(t, 1) * a->slot_bytes;
    uint64_t row = ((uint64_t)w->head * a->v_dim + w->row) * a->k_dim;

    UNROLL
    for (uint32_t i = 0; i < elems; i += 8) {
        struct eight e;
        if (store) {
            UNROLL
            for (uint32_t j = 0; j < 8; j++)
                e.x[j] = x[i + j];
            eight_store_any(t, slot, row + column_of(w, i), &e, a->fp16, a->wide);
        } else {
            e = eight_load_any(t, slot, row + column_of(w, i), a->fp16, a->wide);
            UNROLL
            for (uint32_t j = 0; j < 8; j++)
                x[i + j] = e.x[j];
        }
    }
}

/* exp(a_log) of a thread's elements. */
DEV void load_rates(struct lane *t, const struct work *w, float *x, uint32_t elems)
{
    const struct scan_args *a = w->a;

    UNROLL
    for (uint32_t i = 0; i < elems; i += 8) {
        uint64_t at = (uint64_t)w->row * a->k_dim + column_of(w, i);
        struct eight e = eight_load(t, a->a_log, at, a->fp16);
        UNROLL
        for (uint32_t j = 0; j < 8; j++)
            x[i + j] = dev_exp(e.x[j]);
        dev_exps(t, 8);
    }
}

DEV float over_row(struct lane *t, const struct work *w, float x)
{
    return w->lanes > 1 ? dev_sum(t, x, w->lanes) : x;
}

/* One token. Threads without a row take part for the sums over lanes. */
DEV float advance(struct lane *t, const struct work *w, const struct staged *s, uint32_t i,
                  float *x, const float *rates, uint32_t elems, enum decay kind, bool delta)
{
    uint32_t keys = i * (w->a->k_dim / 4), row = i * w->rows + dev_thread(t) / w->lanes;
    float v = s->v[row], u = v, y = 0.0f, decay = s->decay[i];
    float dt = kind == DECAY_ELEMENT ? s->dt[row] : s->beta[i];

    UNROLL
    for (uint32_t j = 0; j < elems; j += 8) {
        struct eight k, c;
        if (delta)
            k = take_eight(s->k + keys + column_of(w, j) / 4);
        if (kind == DECAY_COLUMN)
            c = take_eight(s->w + keys + column_of(w, j) / 4);
        UNROLL
        for (uint32_t e = 0; e < 8; e++) {
            x[j + e] *= kind == DECAY_ELEMENT  ? dev_exp(-rates[j + e] * dt)
                        : kind == DECAY_COLUMN ? c.x[e]
                                               : decay;
            y = delta ? dev_fma(x[j + e], k.x[e], y) : y;
        }
    }
    if (delta)
        u = dt * (v - over_row(t, w, y));
    else if (w->a->kind == SCAN_MAMBA1 || w->a->kind == SCAN_MAMBA2)
        u = dt * v;
    y = 0.0f;
    UNROLL
    for (uint32_t j = 0; j < elems; j += 8) {
        struct eight k = take_eight(s->k + keys + column_of(w, j) / 4);
        struct eight q = take_eight(s->q + keys + column_of(w, j) / 4);
        UNROLL
        for (uint32_t e = 0; e < 8; e++) {
            x[j + e] = dev_fma(u, k.x[e], x[j + e]);
            y = dev_fma(x[j + e], q.x[e], y);
        }
    }
    return over_row(t, w, y);
}

DEV void body(struct lane *t, const struct scan_args *a, uint32_t elems, enum decay kind,
              bool delta)
{
    struct work w = work_of(t, a);
    struct staged s = room_of(t, &w);
    bool mamba = a->kind == SCAN_MAMBA1 || a->kind == SCAN_MAMBA2;
    float x[32], rates[32], skip = 0.0f;

    UNROLL
    for (uint32_t i = 0; i < elems; i++)
        x[i] = rates[i] = 0.0f;
    if (w.live)
        load_state(t, &w, x, elems, false);
    if (w.live && kind == DECAY_ELEMENT)
        load_rates(t, &w, rates, elems);
    if (w.live && mamba)
        skip = load_16(t, a->d, a->kind == SCAN_MAMBA1 ? w.row : w.head, a->fp16);
    for (uint32_t at = 0; at < a->tokens; at += TOKENS) {
        uint32_t n = a->tokens - at < TOKENS ? a->tokens - at : TOKENS;
        dev_barrier(t);
        stage(t, &w, &s, w.first_token + at, n);
        dev_barrier(t);
        for (uint32_t i = 0; i < n; i++) {
            float y = advance(t, &w, &s, i, x, rates, elems, kind, delta);
            uint64_t row = (w.first_token + at + i) * a->heads + w.head;
            if (!w.live)
                continue;
            y = dev_fma(skip, s.v[i * w.rows + dev_thread(t) / w.lanes], y);
            dev_flop(t,
                     elems * (kind == DECAY_ELEMENT ? 6
                              : delta               ? 7
                                                    : 5),
                     elems * (delta ? 7 : 5));
            if (kind == DECAY_ELEMENT)
                dev_exps(t, elems);
            if (w.part)
                continue;
            dev_flop(t, mamba ? 3 : delta ? 2 : 0, 0);
            dev_store16(t, (uint16_t *)a->out + row * a->v_dim + w.row,
                        (uint16_t)dev_pack_16(y, 0.0f, a->fp16));
        }
    }
    if (w.live)
        load_state(t, &w, x, elems, true);
}

KERNEL(scan_element, SCAN_THREADS, struct scan_args, body(t, a, 16, DECAY_ELEMENT, false))
KERNEL(scan_head_16, SCAN_THREADS, struct scan_args, body(t, a, 16, DECAY_HEAD, false))
KERNEL(scan_head_32, SCAN_THREADS, struct scan_args, body(t, a, 32, DECAY_HEAD, false))
KERNEL(scan_delta_16, SCAN_THREADS, struct scan_args, body(t, a, 16, DECAY_HEAD, true))
KERNEL(scan_delta_32, SCAN_THREADS, struct scan_args, body(t, a, 32, DECAY_HEAD, true))
KERNEL(scan_column_16, SCAN_THREADS, struct scan_args, body(t, a, 16, DECAY_COLUMN, true))
KERNEL(scan_column_32, SCAN_THREADS, struct scan_args, body(t, a, 32, DECAY_COLUMN, true))

LAUNCHER(scan)
{
    const struct scan_args *a = (const struct scan_args *)args;
    bool few = a->k_dim <= 16;
    struct shape s = {{a->heads * scan_tiles(a), a->sequences, 1},
                      SCAN_THREADS,
                      4 * TOKENS * (3 * a->k_dim + 2 * scan_rows(a) + 2)};

    switch (a->kind) {
    case SCAN_MAMBA1: return LAUNCH(scan_element, s, a);
    case SCAN_GDN: return few ? LAUNCH(scan_delta_16, s, a) : LAUNCH(scan_delta_32, s, a);
    case SCAN_KDA: return few ? LAUNCH(scan_column_16, s, a) : LAUNCH(scan_column_32, s, a);
    default: return few ? LAUNCH(scan_head_16, s, a) : LAUNCH(scan_head_32, s, a);
    }
}
