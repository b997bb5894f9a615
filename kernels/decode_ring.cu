/* Decode attention of the shapes met most, at the speed of memory: rows come through a ring of
 * stages in shared memory by asynchronous copies, a ring a warp, so that no barrier stands in
 * the way and what is under way costs no registers. An H200 needs about 25 KB under way a
 * multiprocessor (4.8 TB/s times 700 ns over 132); two blocks of bf16 have 128 KB.
 *
 * A block: one K/V head of one sequence, up to 16 of its query heads, one chunk of tokens. Its
 * warps take turns by steps of 16 tokens, merged at the end. Tokens are the rows of the scores
 * and heads their columns (S = K Q^T, O = V^T P): 8 heads, as GQA has, fill a product, and the
 * output takes half the registers that heads as rows would take. Between the two products P is
 * transposed in registers.
 *
 * A product does not mind in which order the elements of a dot product or the rows of the
 * result come, so codes of 8 and 4 bits are read 16 bytes a thread and taken as they lie. With
 * g = lane / 4, q = lane % 4, elements of K for product i, and of V for product n:
 *   16 bits  16 i + 2q and 16 i + 8 + 2q (pairs)             16 n + g, 16 n + 8 + g
 *    8 bits  64 (i / 4) + 16 q + 4 (i % 4) + {0, 2}, {1, 3}  16 g + 2 n, 16 g + 2 n + 1
 *    4 bits  32 q + 4 i + {0, 1}, {2, 3}                     16 g + 2 n, 16 g + 2 n + 1
 * V of two tokens is paired before it is decoded: half the permutations. */
#include "kernels/decode_dev.h"
#include "kernels/unit_dev.h"

enum { STEP = DECODE_STEP, TILE = 8, TILES_MAX = DECODE_ROWS / TILE };
enum { UNITS_MAX = CACHE_DIM_MAX / 16, WARPS_MAX = 4 };

struct make { /* what a kernel is made for: constants */
    enum store store;
    uint32_t dim, warps, stages, tiles; /* of 8 query heads */
};

struct ahead { /* where tokens g and g + 8 of the step to be asked for lie */
    uint32_t page[2], slot[2];
};

struct flow {
    const struct decode_args *a;
    struct job j;
    char *ring; /* this warp's */
    uint32_t reciprocal;
    uint32_t pairs[2], pair[2]; /* INT4: scales of a row of K and V, and this thread's */
    struct ahead next;
};

struct state {
    uint32_t q[TILES_MAX][2 * UNITS_MAX];
    float o[UNITS_MAX][TILES_MAX][4];       /* two elements by heads 2q, 2q + 1 */
    float m[TILES_MAX][2], l[TILES_MAX][2]; /* of those heads; l: of this thread's tokens */
};

struct shared {
    float m[WARPS_MAX][DECODE_ROWS], l[WARPS_MAX][DECODE_ROWS];
    float most[DECODE_ROWS], sum[DECODE_ROWS];
};

DEV_SHARED uint32_t row_bytes(const struct make mk)
{
    return mk.dim * store_bits(mk.store) / 8;
}

/* Room for the scales of a row, in words. */
DEV_SHARED uint32_t scale_words(const struct make mk)
{
    return store_bits(mk.store) == 16 ? 0 : store_bits(mk.store) == 8 ? 1 : 4;
}

/* K, V, scales of K, scales of V. */
DEV_SHARED uint32_t stage_bytes(const struct make mk)
{
    return 2 * STEP * (row_bytes(mk) + 4 * scale_words(mk));
}

/* Where piece i (16 bytes) of a row lies in a tile: no two threads that read or write at a time
 * meet in a bank. Exclusive or with the row's number, its bits in the order that does it. */
DEV uint32_t piece_at(const struct make mk, uint32_t row, uint32_t i)
{
    uint32_t pairs = row / 2 % 4 * 2;

    if (store_bits(mk.store) == 16)
        return row * row_bytes(mk) + 16 * (i ^ (row % 2 * 4 + row / 2 % 2 * 2 + row / 4 % 2));
    if (store_bits(mk.store) == 8)
        return row * 128 + 16 * (i ^ pairs ^ row % 2 * 4);
    return row / 2 * 128 + 16 * ((row % 2 * 4 + i) ^ pairs);
}

DEV uint32_t *scale_at(const struct make mk, char *stage, bool value, uint32_t row)
{
    return (uint32_t *)(stage + 2 * STEP * row_bytes(mk)) +
           ((value ? STEP : 0) + row) * scale_words(mk);
}

/* Looks up the pages of a step, a stage before they are needed. A division by the page size,
 * which is not constant, would take more instructions than all else here: the quotient from
 * floor((2^32 - 1) / size) is at most one too small. */
DEV void look_up(struct lane *t, struct flow *f, uint32_t step)
{
    const struct cache_view *c = &f->a->c;

    UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t i = step * STEP + 8 * half + dev_lane(t) / 4;
        if (i >= f->j.count)
            continue;
        uint32_t token = token_at(&f->j, i);
        uint32_t page = (uint32_t)((uint64_t)token * f->reciprocal >> 32);
        uint32_t slot = token - page * c->page_tokens;
        if (slot >= c->page_tokens) {
            slot -= c->page_tokens;
            page++;
        }
        f->next.page[half] = dev_load32(t, f->j.head.table + page);
        f->next.slot[half] = slot;
    }
}

/* A row number of these shapes fits 32 bits: 2^32 of the smallest, K and V, are 550 GB. */
DEV const char *row_of(const void *rows, uint32_t row, uint32_t bytes)
{
    return (const char *)rows + (uint64_t)row * bytes;
}

DEV void ask_scales(struct lane *t, const struct flow *f, const struct make mk, char *stage,
                    uint32_t i, uint32_t row, bool valid)
{
    uint32_t q = dev_lane(t) % 4;

    UNROLL
    for (uint32_t value = 0; value < 2; value++) {
        const struct cache_side *s = value ? &f->a->c.v : &f->a->c.k;
        uint32_t *to = scale_at(mk, stage, value, i);
        if (store_bits(mk.store) == 8 && q == value && s->scales) {
            dev_async32_if(t, to, row_of(s->scales, row, 4), valid);
        } else if (store_bits(mk.store) == 4) {
            const char *from = (const char *)s->scales + 4 * q;
            if (q < f->pairs[value])
                dev_async32_if(t, to + q, row_of(from, row, 4 * f->pairs[value]), valid);
        }
    }
}

/* Asks for the rows of a step; four threads a row, 64 bytes of it at a time. Rows beyond the
 * chunk become zeros, so that nothing times them is not a number. */
DEV void ask(struct lane *t, struct flow *f, const struct make mk, uint32_t step, uint32_t slot)
{
    const struct cache_view *c = &f->a->c;
    uint32_t g = dev_lane(t) / 4, q = dev_lane(t) % 4, bytes = row_bytes(mk);
    char *stage = f->ring + slot * stage_bytes(mk);

    UNROLL
    for (uint32_t half = 0; half < 2 && step * STEP < f->j.count; half++) {
        uint32_t i = 8 * half + g;
        bool valid = step * STEP + i < f->j.count;
        uint32_t row =
            (f->next.page[half] * f->j.head.page_heads + f->j.head.head) * c->page_tokens +
            f->next.slot[half];
        const char *k = row_of((const char *)c->k.codes + 16 * q, row, bytes);
        const char *v = row_of((const char *)c->v.codes + 16 * q, row, bytes);
        UNROLL
        for (uint32_t n = 0; n < bytes / 64; n++) {
            uint32_t at = piece_at(mk, i, 4 * n + q);
            dev_async_if(t, stage + at, k + 64 * n, valid);
            dev_async_if(t, stage + STEP * bytes + at, v + 64 * n, valid);
        }
        ask_scales(t, f, mk, stage, i, row, valid);
        if (valid && store_bits(mk.store) != 16)
            dev_conversions(t, mk.dim / 2); /* a quarter of two rows */
    }
    dev_async_commit(t);
    look_up(t, f, step + mk.warps);
}

/* The first of the two elements of a query that are word i of this thread. */
DEV uint32_t q_element(const struct make mk, uint32_t i, uint32_t q)
{
    switch (store_bits(mk.store)) {
    case 16: return 16 * (i / 2) + i % 2 * 8 + 2 * q;
    case 8: return 64 * (i / 8) + 16 * q + 2 * (i % 8);
    default: return 32 * q + 2 * i;
    }
}

DEV void load_q(struct lane *t, const struct flow *f, const struct make mk, struct state *s)
{
    uint64_t first = (uint64_t)f->j.sequence * decode_row_heads(f->a) + f->j.q_head;

    UNROLL
    for (uint32_t n = 0; n < mk.tiles; n++) {
        uint32_t row = TILE * n + dev_lane(t) / 4;
        const uint16_t *from = (const uint16_t *)f->a->q + (first + row) * mk.dim;
        UNROLL
        for (uint32_t i = 0; i < mk.dim / 8; i++) {
            uint32_t element = q_element(mk, i, dev_lane(t) % 4);
            s->q[n][i] = row < f->j.rows ? dev_load32(t, from + element) : 0;
        }
        UNROLL
        for (uint32_t i = 0; i < mk.dim / 8 && store_bits(mk.store) == 8; i += 2) {
            uint32_t low = s->q[n][i], high = s->q[n][i + 1];
            s->q[n][i] = dev_permute(low, high, 0x5410);
            s->q[n][i + 1] = dev_permute(low, high, 0x7632);
        }
    }
}

/* Four codes of 8 bits as pairs of bytes 0 and 2, and of bytes 1 and 3. */
DEV void decode_bytes(const struct make mk, uint32_t w, uint32_t *out)
{
    if (mk.store == STORE_FP8) {
        out[0] = dev_e4m3x2(w << 8);
        out[1] = dev_e4m3x2(w);
    } else {
        out[0] = dev_bytex2(w);
        out[1] = dev_bytex2(w >> 8);
    }
}

/* Nibbles m and m + 4 as out[m], with a scale for either. */
DEV void decode_nibbles(uint32_t w, uint32_t pair0, uint32_t pair1, uint32_t *out)
{
    UNROLL
    for (uint32_t m = 0; m < 4; m++)
        out[m] = unit_affine(dev_codex2(w >> 4 * m, 0x000f000fu), pair0, pair1);
}

/* Products 4 n .. 4 n + 3 of the scores: a[i], words as dev_mma takes them. */
DEV void k_words(struct lane *t, const struct flow *f, const struct make mk, char *stage,
                 uint32_t n, uint32_t a[4][4])
{
    uint32_t lane = dev_lane(t), q = lane % 4;

    UNROLL
    for (uint32_t i = 0; i < 4 && store_bits(mk.store) == 16; i++)
        dev_ldmatrix(t, a[i], stage + piece_at(mk, lane % 16, 8 * n + 2 * i + lane / 16));
    UNROLL
    for (uint32_t half = 0; half < 2 && store_bits(mk.store) != 16; half++) {
        uint32_t row = 8 * half + lane / 4, x[4];
        bool bytes = store_bits(mk.store) == 8;
        const struct vec128 *v =
            (const struct vec128 *)(stage + piece_at(mk, row, bytes ? 4 * n + q : q));
        UNROLL
        for (uint32_t i = 0; i < 4 && bytes; i++) {
            decode_bytes(mk, v->w[i], x);
            a[i][half] = x[0];
            a[i][2 + half] = x[1];
        }
        UNROLL
        for (uint32_t i = 0; i < 4 && !bytes; i += 2) {
            uint32_t pair = scale_at(mk, stage, false, row)[f->pair[0]];
            decode_nibbles(v->w[2 * n + i / 2], pair, pair, x);
            a[i][half] = x[0];
            a[i][2 + half] = x[1];
            a[i + 1][half] = x[2];
            a[i + 1][2 + half] = x[3];
        }
    }
}

/* Adds to x[n][e] the score of token g + 8 (e / 2) and head 8 n + 2q + e % 2. */
DEV void scores(struct lane *t, const struct flow *f, const struct make mk, char *stage,
                const struct state *s, float x[TILES_MAX][4])
{
    UNROLL
    for (uint32_t n = 0; n < mk.dim / 64; n++) {
        uint32_t a[4][4];
        k_words(t, f, mk, stage, n, a);
        UNROLL
        for (uint32_t i = 0; i < 4 * mk.tiles; i++)
            product(t, mk.store == STORE_FP16, x[i % mk.tiles], a[i / mk.tiles],
                    s->q[i % mk.tiles] + 2 * (4 * n + i / mk.tiles));
    }
}

/* The scale of an 8-bit row, 1 for other formats. */
DEV float row_scale(const struct flow *f, const struct make mk, char *stage, bool value,
                    uint32_t row)
{
    const struct cache_side *s = value ? &f->a->c.v : &f->a->c.k;

    if (store_bits(mk.store) != 8)
        return 1.0f;
    return s->scales ? dev_float(*scale_at(mk, stage, value, row)) : s->scale;
}

/* Online softmax: x becomes the probabilities relative to the new maximum; o and l follow. */
DEV void soften(struct lane *t, const struct make mk, struct state *s, uint32_t n, float *x)
{
    UNROLL
    for (uint32_t e = 0; e < 2; e++) {
        float most = dev_max_rows(t, fmaxf(x[e], x[e + 2])), factor;
        most = fmaxf(s->m[n][e], most);
        factor = dev_exp2(s->m[n][e] - most);
        s->m[n][e] = most;
        x[e] = dev_exp2(x[e] - most);
        x[e + 2] = dev_exp2(x[e + 2] - most);
        s->l[n][e] = dev_fma(s->l[n][e], factor, x[e] + x[e + 2]);
        UNROLL
        for (uint32_t i = 0; i < mk.dim / 16; i++) {
            s->o[i][n][e] *= factor;
            s->o[i][n][e + 2] *= factor;
        }
    }
    dev_exps(t, 6);
    dev_flop(t, 12 + mk.dim / 4, 0);
}

/* Products 4 n .. 4 n + 3 of the output. Codes: of tokens 2q, 2q + 1, 2q + 8, 2q + 9. */
DEV void v_words(struct lane *t, const struct flow *f, const struct make mk, char *stage,
                 uint32_t n, uint32_t a[4][4])
{
    uint32_t lane = dev_lane(t), g = lane / 4, bits = store_bits(mk.store), x[4], y[4];
    char *v = stage + STEP * row_bytes(mk);

    UNROLL
    for (uint32_t i = 0; i < 4 && bits == 16; i++)
        dev_ldmatrix_transposed(
            t, a[i], v + piece_at(mk, lane / 16 * 8 + lane % 8, 8 * n + 2 * i + lane / 8 % 2));
    UNROLL
    for (uint32_t half = 0; half < 2 && bits != 16; half++) {
        uint32_t row = 8 * half + 2 * (lane % 4);
        uint32_t piece = bits * g / 8, half_piece = bits == 4 ? g % 2 * 8 : 0;
        const uint32_t *w0 = (const uint32_t *)(v + piece_at(mk, row, piece) + half_piece);
        const uint32_t *w1 = (const uint32_t *)(v + piece_at(mk, row + 1, piece) + half_piece);
        UNROLL
        for (uint32_t i = 0; i < 2 && bits == 8; i++) {
            uint32_t c = 2 * n + i;
            decode_bytes(mk, dev_permute(w0[c], w1[c], 0x5410), a[2 * i] + 2 * half);
            decode_bytes(mk, dev_permute(w0[c], w1[c], 0x7632), a[2 * i + 1] + 2 * half);
        }
        if (bits != 4)
            continue;
        uint32_t pair0 = scale_at(mk, stage, true, row)[f->pair[1]];
        uint32_t pair1 = scale_at(mk, stage, true, row + 1)[f->pair[1]];
        decode_nibbles(dev_permute(w0[n], w1[n], 0x5410), pair0, pair1, x);
        decode_nibbles(dev_permute(w0[n], w1[n], 0x7632), pair0, pair1, y);
        UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            a[i][2 * half] = x[i];
            a[i][2 * half + 1] = y[i];
        }
    }
}

DEV void add_values(struct lane *t, const struct flow *f, const struct make mk, char *stage,
                    uint32_t prob[TILES_MAX][2], struct state *s)
{
    UNROLL
    for (uint32_t n = 0; n < mk.dim / 64; n++) {
        uint32_t a[4][4];
        v_words(t, f, mk, stage, n, a);
        UNROLL
        for (uint32_t i = 0; i < 4 * mk.tiles; i++)
            product(t, mk.store == STORE_FP16, s->o[4 * n + i / mk.tiles][i % mk.tiles],
                    a[i / mk.tiles], prob[i % mk.tiles]);
    }
}

DEV void one_step(struct lane *t, const struct flow *f, const struct make mk, uint32_t step,
                  char *stage, struct state *s)
{
    uint32_t prob[TILES_MAX][2], left = f->j.count - step * STEP;
    float x[TILES_MAX][4] = {{0.0f}}, scale[2], v_scale[2];

    scores(t, f, mk, stage, s, x);
    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t row = 8 * i + dev_lane(t) / 4;
        scale[i] = f->a->scale * LOG2E * row_scale(f, mk, stage, false, row);
        v_scale[i] = row_scale(f, mk, stage, true, row);
    }
    UNROLL
    for (uint32_t n = 0; n < mk.tiles; n++) {
        UNROLL
        for (uint32_t e = 0; e < 4; e++)
            x[n][e] = 8 * (e / 2) + dev_lane(t) / 4 < left ? x[n][e] * scale[e / 2] : NONE;
        soften(t, mk, s, n, x[n]);
        UNROLL
        for (uint32_t i = 0; i < 2; i++)
            prob[n][i] = dev_transpose(t, dev_pack_16(x[n][2 * i] * v_scale[i],
                                                      x[n][2 * i + 1] * v_scale[i],
                                                      mk.store == STORE_FP16));
    }
    add_values(t, f, mk, stage, prob, s);
    left = left < STEP ? left : STEP;
    if (!dev_lane(t))
        dev_flop(t, 0, (uint64_t)left * f->j.rows * 4 * mk.dim);
}

/* Output rows of the warps, where the rings were: [warp][8 tiles][dim + 4]. */
DEV float *sums_of(const struct make mk, struct shared *sh, uint32_t warp, uint32_t row)
{
    return (float *)(sh + 1) + (warp * TILE * mk.tiles + row) * (mk.dim + 4);
}

DEV uint32_t o_element(struct lane *t, const struct make mk, uint32_t n, uint32_t e)
{
    uint32_t g = dev_lane(t) / 4;

    return store_bits(mk.store) == 16 ? 16 * n + g + 8 * e : 16 * g + 2 * n + e;
}

/* Leaves each warp's share of the output, relative to the largest score of all. */
DEV void merge(struct lane *t, const struct make mk, struct state *s, struct shared *sh)
{
    uint32_t q = dev_lane(t) % 4, warp = dev_warp(t);

    UNROLL
    for (uint32_t i = 0; i < 2 * mk.tiles; i++) {
        float l = dev_sum_rows(t, s->l[i / 2][i % 2]);
        uint32_t row = i / 2 * TILE + 2 * q + i % 2;
        sh->m[warp][row] = s->m[i / 2][i % 2]; /* by all 8 threads alike */
        sh->l[warp][row] = l;
    }
    dev_barrier(t);
    UNROLL
    for (uint32_t i = 0; i < 2 * mk.tiles; i++) {
        uint32_t row = i / 2 * TILE + 2 * q + i % 2;
        float most = LEAST, sum = 0.0f, factor, *to = sums_of(mk, sh, warp, row);
        UNROLL
        for (uint32_t w = 0; w < mk.warps; w++)
            most = fmaxf(most, sh->m[w][row]);
        UNROLL
        for (uint32_t w = 0; w < mk.warps; w++)
            sum = dev_fma(sh->l[w][row], dev_exp2(sh->m[w][row] - most), sum);
        factor = dev_exp2(s->m[i / 2][i % 2] - most);
        UNROLL
        for (uint32_t n = 0; n < mk.dim / 8; n++)
            to[o_element(t, mk, n / 2, n % 2)] = s->o[n / 2][i / 2][i % 2 + n % 2 * 2] * factor;
        if (!warp) {
            sh->most[row] = most;
            sh->sum[row] = sum;
        }
    }
    dev_exps(t, 2 * mk.tiles * (mk.warps + 1));
    dev_flop(t, 2 * mk.tiles * (2 * mk.warps + mk.dim / 8), 0);
    dev_barrier(t);
}

/* Adds to x four elements of the block's result, summed over its warps. */
DEV void total(struct lane *t, const struct make mk, struct shared *sh, uint32_t at, float *x)
{
    UNROLL
    for (uint32_t w = 0; w < mk.warps; w++) {
        const float *from = sums_of(mk, sh, w, at / mk.dim) + at % mk.dim;
        UNROLL
        for (uint32_t i = 0; i < 4; i++)
            x[i] += from[i];
    }
    dev_flop(t, 4 * mk.warps, 0);
}

DEV void store_all(struct lane *t, const struct flow *f, const struct make mk,
                   struct shared *sh)
{
    const struct decode_args *a = f->a;
    const struct job *j = &f->j;
    uint64_t first = (uint64_t)j->sequence * decode_row_heads(a) + j->q_head;
    bool fp16 = mk.store == STORE_FP16;

    if (a->splits > 1 && !j->count)
        return;
    for (uint32_t i = 4 * dev_thread(t); i < j->rows * mk.dim; i += 4 * 32 * mk.warps) {
        uint32_t row = i / mk.dim;
        float x[4] = {0.0f}, over = 0.0f;
        if (j->count) {
            total(t, mk, sh, i, x);
            over = 1.0f / sh->sum[row];
        }
        if (a->splits > 1) {
            uint64_t part = part_of(a, j->sequence, j->q_head + row) + dev_block(t, 0);
            struct vec128 v = {
                {dev_bits(x[0]), dev_bits(x[1]), dev_bits(x[2]), dev_bits(x[3])}};
            dev_store128(t, vectors_of(a) + part * mk.dim + i % mk.dim, v);
            continue;
        }
        uint64_t low = dev_pack_16(x[0] * over, x[1] * over, fp16);
        uint64_t high = dev_pack_16(x[2] * over, x[3] * over, fp16);
        dev_store64(t, (uint16_t *)a->out + first * mk.dim + i, low | high << 32);
        dev_flop(t, 4, 0);
    }
}

/* All but the newest stages - 2 have arrived, for all threads of the warp. */
DEV void wait_for(struct lane *t, const struct make mk)
{
    if (mk.stages == 3)
        dev_async_wait(t, 1);
    else
        dev_async_wait(t, 2);
    dev_sync(t);
}

DEV struct flow flow_of(struct lane *t, const struct decode_args *a, const struct make mk)
{
    const struct cache_view *c = &a->c;
    char *rings = (char *)dev_shared(t) + sizeof(struct shared);
    struct flow f = {a,
                     job_of(t, a),
                     rings + dev_warp(t) * mk.stages * stage_bytes(mk),
                     0xffffffffu / c->page_tokens,
                     {0, 0},
                     {0, 0},
                     {{0, 0}, {0, 0}}};

    if (store_bits(mk.store) == 4) {
        f.pairs[0] = mk.dim / c->k.group;
        f.pairs[1] = mk.dim / c->v.group;
        f.pair[0] = 32 * (dev_lane(t) % 4) / c->k.group;
        f.pair[1] = 16 * (dev_lane(t) / 4) / c->v.group;
    }
    return f;
}

DEV void begin(struct lane *t, const struct flow *f, const struct make mk, struct state *s)
{
    UNROLL
    for (uint32_t i = 0; i < mk.dim / 4 * mk.tiles; i++)
        s->o[i / 4 / mk.tiles][i / 4 % mk.tiles][i % 4] = 0.0f;
    UNROLL
    for (uint32_t i = 0; i < 2 * mk.tiles; i++) {
        uint32_t row = i / 2 * TILE + 2 * (dev_lane(t) % 4) + i % 2;
        bool sink = has_sink(t, f->a, &f->j, row), fp16 = mk.store == STORE_FP16;
        s->m[i / 2][i % 2] = sink ? sink_of(t, f->a, &f->j, row, fp16) : LEAST;
        s->l[i / 2][i % 2] = sink && dev_lane(t) < 4 ? 1.0f : 0.0f;
    }
}

DEV void ring_body(struct lane *t, const struct decode_args *a, const struct make mk)
{
    struct shared *sh = (struct shared *)dev_shared(t);
    struct flow f = flow_of(t, a, mk);
    uint32_t slot = 0;
    struct state s;

    if (f.j.count) {
        look_up(t, &f, dev_warp(t));
        for (uint32_t i = 0; i < mk.stages - 1; i++)
            ask(t, &f, mk, dev_warp(t) + i * mk.warps, i);
        load_q(t, &f, mk, &s);
        begin(t, &f, mk, &s);
        for (uint32_t step = dev_warp(t); step * STEP < f.j.count; step += mk.warps) {
            uint32_t free = slot ? slot - 1 : mk.stages - 1;
            wait_for(t, mk);
            ask(t, &f, mk, step + (mk.stages - 1) * mk.warps, free);
            one_step(t, &f, mk, step, f.ring + slot * stage_bytes(mk), &s);
            slot = slot + 1 == mk.stages ? 0 : slot + 1;
        }
        dev_async_wait(t, 0);
        dev_barrier(t);
        merge(t, mk, &s, sh);
    }
    store_sums(t, a, &f.j, sh->most, sh->sum);
    store_all(t, &f, mk, sh);
}

/* As many stages as leave two blocks a multiprocessor room on sm_80 and sm_90, and one on
 * those with 100 KB. */
DEV_SHARED struct make made_for(enum store store, uint32_t dim, uint32_t tiles)
{
    struct make mk = {store, dim, dim == 256 ? 2u : 4u, 4, tiles};

    mk.stages = row_bytes(mk) >= 256 ? 3 : 4;
    return mk;
}

#define RING(name, store, dim)                                                                 \
    KERNEL(name##_8, 128, struct decode_args, ring_body(t, a, made_for(store, dim, 1)))        \
    KERNEL(name##_16, 128, struct decode_args, ring_body(t, a, made_for(store, dim, 2)))
RING(ring_bf16_128, STORE_BF16, 128)
RING(ring_fp16_128, STORE_FP16, 128)
RING(ring_fp8_128, STORE_FP8, 128)
RING(ring_int8_128, STORE_INT8, 128)
RING(ring_int4_128, STORE_INT4, 128)
RING(ring_bf16_64, STORE_BF16, 64)
RING(ring_bf16_256, STORE_BF16, 256)
#define LAUNCH_RING(name) (few ? LAUNCH(name##_8, s, a) : LAUNCH(name##_16, s, a))

LAUNCHER(decode_ring)
{
    const struct decode_args *a = (const struct decode_args *)args;
    uint32_t group = a->q_heads / a->c.heads, dim = a->c.k.dim;
    bool few = group <= TILE;
    struct make mk = made_for(a->c.k.store, dim, few ? 1 : 2);
    struct shape s = {
        {a->splits, a->c.heads * ((group + DECODE_ROWS - 1) / DECODE_ROWS), a->c.sequences},
        32 * mk.warps,
        (uint32_t)sizeof(struct shared) + mk.warps * mk.stages * stage_bytes(mk)};

    if (dev_capability(self) < 80) /* no asynchronous copies, less shared memory */
        return FORWARD(decode);
    switch (a->c.k.store) {
    case STORE_FP16: return LAUNCH_RING(ring_fp16_128);
    case STORE_FP8: return LAUNCH_RING(ring_fp8_128);
    case STORE_INT8: return LAUNCH_RING(ring_int8_128);
    case STORE_INT4: return LAUNCH_RING(ring_int4_128);
    default: break;
    }
    return dim == 64    ? LAUNCH_RING(ring_bf16_64)
           : dim == 128 ? LAUNCH_RING(ring_bf16_128)
                        : LAUNCH_RING(ring_bf16_256);
}
