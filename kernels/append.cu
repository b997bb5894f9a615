/* Rows into the cache. append and pack of V: a warp a row, 8 elements a thread, largest and
 * smallest found by butterflies. pack of K: a thread takes 8 channels of a group of tokens, and
 * goes over the tokens twice, once for the range and once for the codes. */
#include "kernels/dev.h"

#include "kernels/append.h"
#include "kernels/cache_dev.h"

enum { WARPS = APPEND_THREADS / 32 };

struct row { /* 8 elements of the row of this warp */
    float x[8];
    uint32_t first;
    bool valid;
};

DEV struct row row_load(struct lane *t, const uint16_t *from, uint32_t dim, bool fp16)
{
    struct row r;

    r.first = 8 * dev_lane(t);
    r.valid = r.first < dim;
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        r.x[i] = 0.0f;
    if (!r.valid)
        return r;
    struct vec128 v = dev_load128(t, from + r.first);
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        r.x[i] = dev_from_16((uint16_t)(v.w[i / 2] >> 16 * (i % 2)), fp16);
    return r;
}

DEV void row_store_16(struct lane *t, uint16_t *to, const struct row *r, bool fp16)
{
    struct vec128 v;

    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        v.w[i] = dev_pack_16(r->x[2 * i], r->x[2 * i + 1], fp16);
    if (r->valid)
        dev_store128(t, to + r->first, v);
}

DEV float largest(const float *x, float sign)
{
    float m = sign * x[0];

    UNROLL
    for (uint32_t i = 1; i < 8; i++)
        m = fmaxf(m, sign * x[i]);
    return m;
}

/* fp8 and int8: codes in order, and the scale of the row if it has its own. */
DEV void row_store_8(struct lane *t, const struct cache_side *s, uint64_t row,
                     const struct row *r)
{
    bool fp8 = s->store == STORE_FP8;
    float size = fmaxf(largest(r->x, 1.0f), largest(r->x, -1.0f)), scale = s->scale;
    uint64_t codes = 0;

    size = dev_max(t, size, 32);
    if (s->scales)
        scale = size > 0.0f ? size / (fp8 ? 448.0f : 127.0f) : 1.0f;
    UNROLL
    for (uint32_t i = 0; i < 8; i++) {
        float x = r->x[i] / scale;
        uint32_t code = fp8 ? dev_to_e4m3(x)
                            : (uint32_t)(int32_t)dev_round(fminf(fmaxf(x, -127.0f), 127.0f));
        codes |= (uint64_t)(code & 0xffu) << 8 * i;
    }
    if (r->valid) {
        dev_conversions(t, 8);
        dev_store64(t, (uint8_t *)s->codes + row * s->dim + r->first, codes);
    }
    if (s->scales && !dev_lane(t))
        dev_store_float(t, (float *)s->scales + row, scale);
}

struct affine { /* code = (x - minimum) / scale, both as stored */
    float scale, minimum;
    uint32_t pair;
};

DEV struct affine affine_of(float high, float low, float top)
{
    struct affine f;

    f.pair = dev_pack_bf16((high - low) / top, low);
    f.scale = dev_from_bf16((uint16_t)f.pair);
    f.minimum = dev_from_bf16((uint16_t)(f.pair >> 16));
    return f;
}

DEV uint32_t affine_code(const struct affine *f, float x, float top)
{
    float y = f->scale > 0.0f ? (x - f->minimum) / f->scale : 0.0f;

    return (uint32_t)dev_round(fminf(fmaxf(y, 0.0f), top));
}

DEV float top_of(enum store s)
{
    return s == STORE_KIVI2 ? 3.0f : 15.0f;
}

/* Codes of 8 elements in the order that unit_pair reads: even ones in the low half. */
DEV void store_codes(struct lane *t, const struct cache_side *s, uint64_t at,
                     const uint32_t *code)
{
    bool two = s->store == STORE_KIVI2;
    uint32_t bits = two ? 2 : 4, half = two ? 8 : 16, w = 0;

    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        w |= code[i] << (bits * (i / 2) + half * (i % 2));
    dev_conversions(t, 8);
    if (two)
        dev_store16(t, (uint8_t *)s->codes + at / 4, (uint16_t)w);
    else
        dev_store32(t, (uint8_t *)s->codes + at / 2, w);
}

/* INT4, and V of KIVI: a scale and a minimum for each group of elements of the row. */
DEV void row_store_grouped(struct lane *t, const struct cache_side *s, uint64_t row,
                           const struct row *r)
{
    uint32_t width = s->group == s->dim ? 32 : s->group / 8, code[8];
    float none = -3.4e38f, top = top_of(s->store);
    float high = dev_max(t, r->valid ? largest(r->x, 1.0f) : none, width);
    float low = -dev_max(t, r->valid ? largest(r->x, -1.0f) : none, width);
    struct affine f = affine_of(high, low, top);

    if (!r->valid)
        return;
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        code[i] = affine_code(&f, r->x[i], top);
    store_codes(t, s, row * s->dim + r->first, code);
    if (r->first % s->group == 0)
        dev_store32(t, (uint32_t *)s->scales + row * (s->dim / s->group) + r->first / s->group,
                    f.pair);
}

DEV void row_store(struct lane *t, const struct cache_side *s, uint64_t row,
                   const struct row *r)
{
    uint32_t bits = store_bits(s->store);

    if (bits == 16)
        row_store_16(t, (uint16_t *)s->codes + row * s->dim, r, s->store == STORE_FP16);
    else if (bits == 8)
        row_store_8(t, s, row, r);
    else
        row_store_grouped(t, s, row, r);
}

DEV void append_body(struct lane *t, const struct append_args *a)
{
    const struct cache_view *c = &a->c;
    uint64_t job = (uint64_t)dev_block(t, 0) * WARPS + dev_warp(t);
    bool value = job % 2;
    const struct cache_side *s = value ? &c->v : &c->k;
    uint32_t head = (uint32_t)(job / 2 % c->heads), row = (uint32_t)(job / 2 / c->heads);
    uint64_t from = ((uint64_t)row * c->heads + head) * s->dim;

    if (row >= a->rows)
        return;
    uint32_t sequence = dev_load32(t, a->sequence + row);
    uint32_t token =
        dev_load32(t, a->index + (c->ragged ? (uint64_t)row * c->heads + head : row));
    struct head_at h = cache_head(c, sequence, head);
    const uint16_t *x = (const uint16_t *)(value ? a->v : a->k) + from;
    if (store_is_kivi(s->store)) {
        uint32_t stored = dev_load32(t, c->lengths + cache_slot_of(c, sequence, head));
        if ((uint64_t)token + c->residual < stored)
            return;
        struct row r = row_load(t, x, s->dim, false);
        uint64_t slot = h.full_row + token % c->residual;
        row_store_16(t, (uint16_t *)s->full + slot * s->dim, &r, false);
        return;
    }
    struct place p = cache_place(t, c, &h, token, true);
    struct row r = row_load(t, x, s->dim, s->store == STORE_FP16);
    row_store(t, s, p.row, &r);
}

/* Where the bf16 elements of a token to be packed come from. */
DEV const uint16_t *pack_source(const struct pack_args *a, uint32_t sequence, uint32_t head,
                                uint32_t token)
{
    const struct cache_view *c = &a->c;
    const struct cache_side *s = a->value ? &c->v : &c->k;
    uint64_t row = ((uint64_t)sequence * a->source_tokens + token) * c->heads + head;

    if (!a->rows)
        row = ((uint64_t)sequence * c->heads + head) * c->residual + token % c->residual;
    return (const uint16_t *)(a->rows ? a->rows : s->full) + row * s->dim;
}

DEV void pack_value(struct lane *t, const struct pack_args *a)
{
    const struct cache_view *c = &a->c;
    uint64_t job = (uint64_t)dev_block(t, 0) * WARPS + dev_warp(t);
    uint32_t token = a->first + (uint32_t)(job % a->count);
    uint32_t head = (uint32_t)(job / a->count % c->heads);
    uint32_t sequence = (uint32_t)(job / a->count / c->heads);

    if (sequence >= c->sequences)
        return;
    struct head_at h = cache_head(c, sequence, head);
    struct place p = cache_place(t, c, &h, token, true);
    struct row r = row_load(t, pack_source(a, sequence, head, token), c->v.dim, false);
    row_store_grouped(t, &c->v, p.row, &r);
}

DEV void load_8(struct lane *t, const uint16_t *from, float *x)
{
    struct vec128 v = dev_load128(t, from);

    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        x[i] = dev_from_bf16((uint16_t)(v.w[i / 2] >> 16 * (i % 2)));
}

/* 8 channels from `first` on of the group of tokens that starts at `token`. */
DEV void pack_key_group(struct lane *t, const struct pack_args *a, const uint32_t *at)
{
    const struct cache_view *c = &a->c;
    const struct cache_side *s = &c->k;
    uint32_t sequence = at[0], head = at[1], token = at[2], first = at[3], code[8];
    struct head_at h = cache_head(c, sequence, head);
    float high[8], low[8], x[8], top = top_of(s->store);
    struct affine f[8];

    load_8(t, pack_source(a, sequence, head, token) + first, high);
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        low[i] = high[i];
    for (uint32_t j = 1; j < s->group; j++) {
        load_8(t, pack_source(a, sequence, head, token + j) + first, x);
        UNROLL
        for (uint32_t i = 0; i < 8; i++) {
            high[i] = fmaxf(high[i], x[i]);
            low[i] = fminf(low[i], x[i]);
        }
    }
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        f[i] = affine_of(high[i], low[i], top);
    for (uint32_t j = 0; j < s->group; j++) {
        struct place p = cache_place(t, c, &h, token + j, true);
        load_8(t, pack_source(a, sequence, head, token + j) + first, x);
        UNROLL
        for (uint32_t i = 0; i < 8; i++)
            code[i] = affine_code(&f[i], x[i], top);
        store_codes(t, s, p.row * s->dim + first, code);
        if (j)
            continue;
        UNROLL
        for (uint32_t i = 0; i < 8; i++)
            dev_store32(t, (uint32_t *)s->scales + p.row / s->group * s->dim + first + i,
                        f[i].pair);
    }
}

DEV void pack_key(struct lane *t, const struct pack_args *a)
{
    uint64_t job = (uint64_t)dev_block(t, 0) * APPEND_THREADS + dev_thread(t);
    uint32_t units = a->c.k.dim / 8, groups = a->count / a->c.k.group, at[4];

    at[3] = (uint32_t)(job % units) * 8;
    job /= units;
    at[2] = a->first + (uint32_t)(job % groups) * a->c.k.group;
    job /= groups;
    at[1] = (uint32_t)(job % a->c.heads);
    at[0] = (uint32_t)(job / a->c.heads);
    if (at[0] < a->c.sequences)
        pack_key_group(t, a, at);
}

KERNEL(append_kernel, APPEND_THREADS, struct append_args, append_body(t, a))
KERNEL(pack_key_kernel, APPEND_THREADS, struct pack_args, pack_key(t, a))
KERNEL(pack_value_kernel, APPEND_THREADS, struct pack_args, pack_value(t, a))

static struct shape shape_of(uint64_t jobs, uint32_t jobs_a_block)
{
    struct shape s = {
        {(uint32_t)((jobs + jobs_a_block - 1) / jobs_a_block), 1, 1}, APPEND_THREADS, 0};

    return s;
}

LAUNCHER(append)
{
    const struct append_args *a = (const struct append_args *)args;
    struct shape s = shape_of((uint64_t)a->rows * a->c.heads * 2, WARPS);

    return LAUNCH(append_kernel, s, a);
}

LAUNCHER(pack)
{
    const struct pack_args *a = (const struct pack_args *)args;
    uint64_t rows = (uint64_t)a->c.sequences * a->c.heads * a->count;
    struct shape s = a->value
                         ? shape_of(rows, WARPS)
                         : shape_of(rows / a->c.k.group * (a->c.k.dim / 8), APPEND_THREADS);

    return a->value ? LAUNCH(pack_value_kernel, s, a) : LAUNCH(pack_key_kernel, s, a);
}
