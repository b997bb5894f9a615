/* Decode attention with matrix instructions, straight from device memory into registers.
 *
 * A block: one K/V head of one sequence, up to 16 of its query heads (the rows of the
 * products), one chunk of tokens. Its 4 warps take turns by steps of 16 tokens, each with a
 * running maximum m, sum l and output o of its own (online softmax), merged at the end through
 * shared memory.
 *
 * No transposition is needed: a product does not mind in which order the elements of a dot
 * product or the columns of the result come, so each thread reads 8 neighbouring elements (16
 * bytes of bf16) and calls them what suits the layout of the instruction. With g = lane / 4 and
 * q = lane % 4:
 *   scores  elements 32 i + 8 q .. + 7 of token g (and 8 + g) are the thread's share of two
 *           products over 16 elements each; Q is read in the same order
 *   values  elements 64 i + 8 g .. + 7 of tokens 2q, 2q + 1, 2q + 8, 2q + 9: column g of the
 *           8 products that make elements 64 i + 8 n + j, j = 0..7 of the output
 * K of the next step is under way while V of this one is used. */
#include "kernels/dev.h"

#include "kernels/bend_dev.h"
#include "kernels/decode_dev.h"
#include "kernels/unit_dev.h"

enum { WARPS = DECODE_THREADS / 32, ROWS = DECODE_ROWS, STEP = DECODE_STEP };
enum { K_UNITS_MAX = CACHE_DIM_MAX / 32, V_UNITS_MAX = CACHE_DIM_MAX / 64 };

/* What a kernel is made for; constants after inlining. */
struct make {
    enum store k, v;
    uint32_t k_units, v_units; /* of 32 and 64 elements, at most */
    uint32_t k_used, v_used;   /* of them */
    bool fp16;
    bool any;   /* formats are known at run time only */
    bool ahead; /* loads run ahead of their use; where that takes too many registers they do not
                 */
};

struct state { /* rows g and g + 8 of this warp */
    uint32_t q[K_UNITS_MAX][8];
    struct unit k[2][K_UNITS_MAX];
    float o[8 * V_UNITS_MAX][4];
    float m[2], l[2]; /* l: of this thread's columns until the end */
};

struct values { /* of tokens 2q, 2q + 1, 2q + 8, 2q + 9 of a step */
    struct unit v[4][V_UNITS_MAX];
    float k_scale[4], v_scale[4];
    uint32_t token[4];
    bool seen[4];
};

struct shared {
    float m[WARPS][ROWS], l[WARPS][ROWS];
    float sum[ROWS], most[ROWS];
    float o[1]; /* [ROWS][v.dim], more follow */
};

/* The visible row i of the chunk. */
DEV struct place place_of(struct lane *t, const struct decode_args *a, const struct job *j,
                          uint32_t i)
{
    return cache_place(t, &a->c, &j->head, token_at(j, i), i < j->count);
}

/* Asking for the format in every place would make the code of such kernels ten times as long.
 */
DEV_CALL struct unit load_any(struct lane *t, const struct decode_args *a, const struct job *j,
                              const struct place *p, uint32_t first_and_side)
{
    bool value = first_and_side % 2;
    const struct cache_side *s = value ? &a->c.v : &a->c.k;

    return unit_load(t, &a->c, &j->head, p, first_and_side / 2, s->store, value,
                     value ? j->v_quantized : j->k_quantized);
}

DEV_CALL void decode_any(const struct unit *u, enum store store, bool value, uint32_t *out)
{
    unit_decode(u, store, value, out);
}

DEV void decode_unit(const struct make mk, const struct unit *u, bool value, uint32_t *out)
{
    if (mk.any)
        decode_any(u, value ? mk.v : mk.k, value, out);
    else
        unit_decode(u, value ? mk.v : mk.k, value, out);
}

DEV void load_q(struct lane *t, const struct decode_args *a, const struct job *j,
                const struct make mk, struct state *s)
{
    uint32_t dim = a->c.k.dim, g = dev_lane(t) / 4, q = dev_lane(t) % 4;
    const uint16_t *from = (const uint16_t *)a->q +
                           ((uint64_t)j->sequence * decode_row_heads(a) + j->q_head) * dim;

    UNROLL
    for (uint32_t i = 0; i < mk.k_units; i++) {
        UNROLL
        for (uint32_t half = 0; half < 2; half++) {
            uint32_t row = g + 8 * half, first = 32 * i + 8 * q;
            struct vec128 v = {{0, 0, 0, 0}};
            if (row < j->rows && first < dim)
                v = dev_load128(t, from + (uint64_t)row * dim + first);
            UNROLL
            for (uint32_t w = 0; w < 4; w++)
                s->q[i][w / 2 * 4 + w % 2 * 2 + half] = v.w[w];
        }
    }
}

DEV void load_k(struct lane *t, const struct decode_args *a, const struct job *j,
                const struct make mk, uint32_t step, struct state *s)
{
    uint32_t g = dev_lane(t) / 4, q = dev_lane(t) % 4;

    UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        struct place p = place_of(t, a, j, step * STEP + 8 * half + g);
        UNROLL
        for (uint32_t i = 0; i < mk.k_units; i++)
            s->k[half][i] = mk.any ? load_any(t, a, j, &p, 2 * (32 * i + 8 * q))
                                   : unit_load(t, &a->c, &j->head, &p, 32 * i + 8 * q, mk.k,
                                               false, j->k_quantized);
    }
}

/* x[half][e]: the score of row g + 8 (e / 2) and token 8 half + 2q + e % 2. */
DEV void scores(struct lane *t, const struct make mk, const struct state *s, float x[2][4])
{
    UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        UNROLL
        for (uint32_t e = 0; e < 4; e++)
            x[half][e] = 0.0f;
        UNROLL
        for (uint32_t i = 0; i < mk.k_units; i++) {
            uint32_t w[4];
            if (i >= mk.k_used)
                continue;
            decode_unit(mk, &s->k[half][i], false, w);
            product(t, mk.fp16, x[half], s->q[i], w);
            product(t, mk.fp16, x[half], s->q[i] + 4, w + 2);
        }
    }
}

/* Online softmax: x becomes the probabilities relative to the new maximum; o and l follow. */
DEV void soften(struct lane *t, const struct make mk, struct state *s, float x[2][4])
{
    UNROLL
    for (uint32_t r = 0; r < 2; r++) {
        float most =
            fmaxf(fmaxf(x[0][2 * r], x[0][2 * r + 1]), fmaxf(x[1][2 * r], x[1][2 * r + 1]));
        float factor;
        most = fmaxf(s->m[r], dev_max(t, most, 4));
        factor = dev_exp2(s->m[r] - most);
        s->m[r] = most;
        s->l[r] *= factor;
        UNROLL
        for (uint32_t half = 0; half < 2; half++) {
            UNROLL
            for (uint32_t e = 2 * r; e < 2 * r + 2; e++) {
                x[half][e] = dev_exp2(x[half][e] - most);
                s->l[r] += x[half][e];
            }
        }
        UNROLL
        for (uint32_t n = 0; n < 8 * mk.v_units; n++) {
            s->o[n][2 * r] *= factor;
            s->o[n][2 * r + 1] *= factor;
        }
    }
    dev_exps(t, 10);
    dev_flop(t, 18 + 32 * mk.v_used, 0);
}

DEV void add_values(struct lane *t, const struct make mk, const struct values *v,
                    const uint32_t *prob, struct state *s)
{
    UNROLL
    for (uint32_t i = 0; i < mk.v_units; i++) {
        uint32_t w[4][4];
        if (i >= mk.v_used)
            continue;
        UNROLL
        for (uint32_t e = 0; e < 4; e++)
            decode_unit(mk, &v->v[e][i], true, w[e]);
        UNROLL
        for (uint32_t j = 0; j < 8; j++) {
            uint32_t pick = j % 2 ? 0x7632u : 0x5410u, b[2];
            b[0] = dev_permute(w[0][j / 2], w[1][j / 2], pick);
            b[1] = dev_permute(w[2][j / 2], w[3][j / 2], pick);
            product(t, mk.fp16, s->o[8 * i + j], prob, b);
        }
    }
}

/* V of the four tokens whose columns are the thread's, and the scales of both sides: those of K
 * with the scale of scores in them. */
DEV void load_v(struct lane *t, const struct decode_args *a, const struct job *j,
                const struct make mk, uint32_t step, struct values *v)
{
    uint32_t q = dev_lane(t) % 4, g = dev_lane(t) / 4;

    UNROLL
    for (uint32_t e = 0; e < 4; e++) {
        struct place p = place_of(t, a, j, step * STEP + 2 * q + e % 2 + 8 * (e / 2));
        UNROLL
        for (uint32_t n = 0; n < mk.v_units; n++)
            v->v[e][n] = mk.any ? load_any(t, a, j, &p, 2 * (64 * n + 8 * g) + 1)
                                : unit_load(t, &a->c, &j->head, &p, 64 * n + 8 * g, mk.v, true,
                                            j->v_quantized);
        v->k_scale[e] = cache_scale(t, &a->c.k, &p, mk.k) * a->scale * LOG2E;
        v->v_scale[e] = cache_scale(t, &a->c.v, &p, mk.v);
        v->token[e] = p.token;
        v->seen[e] = p.valid;
    }
}

/* The cap, and a slope along the tokens; x are in powers of 2, as they come. */
DEV void bend(struct lane *t, const struct decode_args *a, const struct job *j,
              const struct values *v, float x[2][4])
{
    UNROLL
    for (uint32_t r = 0; r < 2; r++) {
        uint32_t row = dev_lane(t) / 4 + 8 * r;
        const float *slope = a->slopes && row < j->rows ? a->slopes + j->q_head + row : NULL;
        struct bent b = bent_by(t, a->cap, slope, LOG2E);
        UNROLL
        for (uint32_t e = 0; e < 4; e++) {
            float *at = &x[e / 2][2 * r + e % 2];
            *at = bent_score(&b, *at, v->token[e / 2 * 2 + e % 2]);
        }
    }
    dev_flop(t, (a->cap > 0.0f ? 16u : 0u) + (a->slopes ? 16u : 0u), 0);
    dev_exps(t, a->cap > 0.0f ? 8 : 0);
}

DEV void one_step(struct lane *t, const struct decode_args *a, const struct job *j,
                  const struct make mk, uint32_t step, struct state *s)
{
    uint32_t prob[4], left = j->count - step * STEP;
    struct values v;
    float x[2][4];

    if (mk.ahead)
        load_v(t, a, j, mk, step, &v);
    else
        load_k(t, a, j, mk, step, s);
    scores(t, mk, s, x);
    if (mk.ahead)
        load_k(t, a, j, mk, step + WARPS, s);
    else
        load_v(t, a, j, mk, step, &v);
    UNROLL
    for (uint32_t e = 0; e < 8; e++)
        x[e / 4][e % 4] *= v.k_scale[e / 4 * 2 + e % 2];
    if (mk.any && (a->cap > 0.0f || a->slopes))
        bend(t, a, j, &v, x);
    UNROLL
    for (uint32_t e = 0; e < 8; e++)
        x[e / 4][e % 4] = v.seen[e / 4 * 2 + e % 2] ? x[e / 4][e % 4] : NONE;
    soften(t, mk, s, x);
    UNROLL
    for (uint32_t w = 0; w < 4; w++) {
        float low = x[w / 2][w % 2 * 2] * v.v_scale[w / 2 * 2];
        float high = x[w / 2][w % 2 * 2 + 1] * v.v_scale[w / 2 * 2 + 1];
        prob[w] = dev_pack_16(low, high, mk.fp16);
    }
    add_values(t, mk, &v, prob, s);
    left = left < STEP ? left : STEP;
    if (!dev_lane(t))
        dev_flop(t, 0, (uint64_t)left * j->rows * 2 * (a->c.k.dim + a->c.v.dim));
}

/* The warps' results in shared memory: m, l, and o[ROWS][v.dim] rescaled and summed, one warp
 * after the other. */
DEV void merge(struct lane *t, const struct decode_args *a, const struct make mk,
               struct state *s, struct shared *sh)
{
    uint32_t g = dev_lane(t) / 4, q = dev_lane(t) % 4, warp = dev_warp(t), dim = a->c.v.dim;
    float factor[2];

    UNROLL
    for (uint32_t r = 0; r < 2; r++) {
        s->l[r] = dev_sum(t, s->l[r], 4);
        if (!q) {
            sh->m[warp][g + 8 * r] = s->m[r];
            sh->l[warp][g + 8 * r] = s->l[r];
        }
    }
    dev_barrier(t);
    UNROLL
    for (uint32_t r = 0; r < 2; r++) {
        float most = NONE, sum = 0.0f;
        for (uint32_t w = 0; w < WARPS; w++)
            most = fmaxf(most, sh->m[w][g + 8 * r]);
        for (uint32_t w = 0; w < WARPS; w++)
            sum += sh->l[w][g + 8 * r] * dev_exp2(sh->m[w][g + 8 * r] - most);
        factor[r] = dev_exp2(s->m[r] - most);
        if (!q && !warp) {
            sh->most[g + 8 * r] = most;
            sh->sum[g + 8 * r] = sum;
        }
    }
    dev_exps(t, 2 * (WARPS + 1));
    for (uint32_t turn = 0; turn < WARPS; turn++) {
        if (turn == warp) {
            UNROLL
            for (uint32_t n = 0; n < 32 * mk.v_units; n++) {
                uint32_t row = g + n / 2 % 2 * 8, i = n / 32, j = n / 4 % 8;
                uint32_t at = 64 * i + 8 * (2 * q + n % 2) + j;
                float x = s->o[8 * i + j][n % 4] * factor[n / 2 % 2];
                if (at < dim)
                    sh->o[row * dim + at] = x + (turn ? sh->o[row * dim + at] : 0.0f);
            }
            dev_flop(t, 64 * mk.v_used, 0);
        }
        dev_barrier(t);
    }
}

DEV void store_part(struct lane *t, const struct decode_args *a, const struct job *j,
                    const struct shared *sh)
{
    uint32_t dim = a->c.v.dim;

    for (uint32_t i = 4 * dev_thread(t); i < j->rows * dim; i += 4 * DECODE_THREADS) {
        uint32_t row = i / dim;
        uint64_t part = part_of(a, j->sequence, j->q_head + row) + dev_block(t, 0);
        struct vec128 v;
        UNROLL
        for (uint32_t w = 0; w < 4; w++)
            v.w[w] = dev_bits(sh->o[i + w]);
        dev_store128(t, vectors_of(a) + part * dim + i % dim, v);
    }
}

DEV void store_out(struct lane *t, const struct decode_args *a, const struct job *j,
                   const struct shared *sh, bool fp16)
{
    uint32_t dim = a->c.v.dim;
    uint64_t first = (uint64_t)j->sequence * decode_row_heads(a) + j->q_head;
    uint16_t *to = (uint16_t *)a->out + first * dim;

    for (uint32_t i = 8 * dev_thread(t); i < j->rows * dim; i += 8 * DECODE_THREADS) {
        float over = j->count ? 1.0f / sh->sum[i / dim] : 0.0f;
        struct vec128 v = {{0, 0, 0, 0}};
        UNROLL
        for (uint32_t w = 0; w < 4; w++)
            if (j->count)
                v.w[w] =
                    dev_pack_16(sh->o[i + 2 * w] * over, sh->o[i + 2 * w + 1] * over, fp16);
        dev_flop(t, 8, 0);
        dev_store128(t, to + i, v);
    }
}

DEV void begin(struct lane *t, const struct decode_args *a, const struct job *j,
               const struct make mk, struct state *s)
{
    UNROLL
    for (uint32_t n = 0; n < 8 * mk.v_units; n++) {
        UNROLL
        for (uint32_t e = 0; e < 4; e++)
            s->o[n][e] = 0.0f;
    }
    UNROLL
    for (uint32_t r = 0; r < 2; r++) {
        uint32_t row = dev_lane(t) / 4 + 8 * r;
        bool sink = has_sink(t, a, j, row);
        s->m[r] = sink ? sink_of(t, a, j, row, mk.fp16) : LEAST;
        s->l[r] = sink && dev_lane(t) % 4 == 0 ? 1.0f : 0.0f;
    }
}

DEV void decode_body(struct lane *t, const struct decode_args *a, const struct make mk)
{
    struct shared *sh = (struct shared *)dev_shared(t);
    struct job j = job_of(t, a);
    struct state s;

    if (j.count) {
        begin(t, a, &j, mk, &s);
        load_q(t, a, &j, mk, &s);
        if (mk.ahead)
            load_k(t, a, &j, mk, dev_warp(t), &s);
        for (uint32_t step = dev_warp(t); step * STEP < j.count; step += WARPS)
            one_step(t, a, &j, mk, step, &s);
        merge(t, a, mk, &s, sh);
    }
    store_sums(t, a, &j, sh->most, sh->sum);
    if (a->splits == 1)
        store_out(t, a, &j, sh, mk.fp16);
    else if (j.count)
        store_part(t, a, &j, sh);
}

/* Elements first .. first + 3 of a row of the result. weight: the factor of each part from
 * `part` on, then its sum of probabilities. */
DEV uint64_t combine_four(struct lane *t, const struct decode_args *a, uint64_t part,
                          const float *weight, uint32_t first)
{
    const float *sum = weight + DECODE_SPLITS_MAX;
    float x[4] = {0, 0, 0, 0}, total = 0.0f, over;
    bool fp16 = a->c.k.store == STORE_FP16;

    for (uint32_t p = 0; p < a->splits; p++) {
        if (!(sum[p] > 0.0f))
            continue;
        struct vec128 v = dev_load128(t, vectors_of(a) + (part + p) * a->c.v.dim + first);
        UNROLL
        for (uint32_t w = 0; w < 4; w++)
            x[w] += dev_float(v.w[w]) * weight[p];
        dev_flop(t, 8, 0);
        total += sum[p] * weight[p];
    }
    over = total > 0.0f ? 1.0f / total : 0.0f;
    dev_flop(t, 4, 0);
    return (uint64_t)dev_pack_16(x[0] * over, x[1] * over, fp16) |
           (uint64_t)dev_pack_16(x[2] * over, x[3] * over, fp16) << 32;
}

/* One query head: out = sum of o_p 2^(m_p - m) / sum of l_p 2^(m_p - m) over its parts p. */
DEV void combine_body(struct lane *t, const struct decode_args *a)
{
    float *weight = (float *)dev_shared(t), *sum = weight + DECODE_SPLITS_MAX;
    uint32_t dim = a->c.v.dim, first = 4 * dev_thread(t), me = dev_thread(t);
    uint64_t part = part_of(a, dev_block(t, 1), dev_block(t, 0));
    uint64_t row = (uint64_t)dev_block(t, 1) * decode_row_heads(a) + dev_block(t, 0);
    const float *pairs = (const float *)a->work + 2 * part;
    float most = LEAST, total = 0.0f;

    for (uint32_t p = me; p < a->splits; p += COMBINE_THREADS) {
        uint64_t pair = dev_load64(t, pairs + 2 * p);
        weight[p] = dev_float((uint32_t)pair);
        sum[p] = dev_float((uint32_t)(pair >> 32));
    }
    dev_barrier(t);
    for (uint32_t p = 0; p < a->splits; p++)
        most = fmaxf(most, weight[p]);
    dev_barrier(t);
    for (uint32_t p = me; p < a->splits; p += COMBINE_THREADS) {
        weight[p] = dev_exp2(weight[p] - most);
        dev_exps(t, 1);
    }
    dev_barrier(t);
    for (uint32_t p = 0; p < a->splits; p++)
        total += sum[p] * weight[p];
    if (a->lse && !me)
        dev_store_float(t, a->lse + row, log_sum(most, total));
    for (; first < dim; first += 4 * COMBINE_THREADS)
        dev_store64(t, (uint16_t *)a->out + row * dim + first,
                    combine_four(t, a, part, weight, first));
}

DEV struct make made_for(enum store k, enum store v, uint32_t dim)
{
    struct make mk = {k, v, dim / 32, dim / 64, dim / 32, dim / 64, false, false, false};

    mk.fp16 = k == STORE_FP16;
    mk.ahead = dim <= 128 && !store_is_kivi(k);
    return mk;
}

/* Any format, and heads of up to `most` elements. */
DEV struct make made_up_to(const struct decode_args *a, uint32_t most)
{
    struct make mk = made_for(a->c.k.store, a->c.v.store, most);

    mk.any = true;
    mk.ahead = false;
    mk.k_used = (a->c.k.dim + 31) / 32;
    mk.v_used = (a->c.v.dim + 63) / 64;
    return mk;
}

/* Heads of 128 elements in the formats met most; anything else by asking at run time. */
#define DECODE(name, make)                                                                     \
    KERNEL(name, DECODE_THREADS, struct decode_args, decode_body(t, a, make))
DECODE(decode_kivi4_128, made_for(STORE_KIVI4, STORE_KIVI4, 128))
DECODE(decode_kivi2_128, made_for(STORE_KIVI2, STORE_KIVI2, 128))
DECODE(decode_any_128, made_up_to(a, 128))
DECODE(decode_any_256, made_up_to(a, 256))
KERNEL(combine_kernel, COMBINE_THREADS, struct decode_args, combine_body(t, a))

LAUNCHER(decode)
{
    const struct decode_args *a = (const struct decode_args *)args;
    enum store k = a->c.k.store;
    bool bends = a->cap > 0.0f || a->slopes;
    uint32_t group = a->q_heads / a->c.heads, dim = a->c.k.dim;
    struct shape s = {{a->splits, a->c.heads * ((group + ROWS - 1) / ROWS), a->c.sequences},
                      DECODE_THREADS,
                      (uint32_t)sizeof(struct shared) + 4 * ROWS * a->c.v.dim};

    if (k != STORE_FP16 && dev_capability(self) < 80)
        return dev_refuse(self, DEVICE_UNSUPPORTED,
                          "decode: bf16 products need compute capability 8.0; use fp16");
    if (dim > 128 || a->c.v.dim > 128)
        return LAUNCH(decode_any_256, s, a);
    if (bends || dim != 128 || a->c.v.dim != 128 || a->c.v.store != k || !store_is_kivi(k))
        return LAUNCH(decode_any_128, s, a);
    return k == STORE_KIVI4 ? LAUNCH(decode_kivi4_128, s, a) : LAUNCH(decode_kivi2_128, s, a);
}

LAUNCHER(combine)
{
    const struct decode_args *a = (const struct decode_args *)args;
    struct shape s = {
        {a->q_heads, a->c.sequences, 1}, COMBINE_THREADS, 2 * 4 * DECODE_SPLITS_MAX};

    return LAUNCH(combine_kernel, s, a);
}
