/* A cache in the layout of kernels/cache.h, filled with random codes by the tests themselves,
 * and the numbers those codes mean, in double. Pages lie in random order; what no token uses
 * stays poisoned. */
#ifndef KVBUDGET_TESTS_KVSTORE_H
#define KVBUDGET_TESTS_KVSTORE_H

#include <math.h>

#include "kernels/cache.h"
#include "tests/kvkernel.h"

struct ks_side {
    uint8_t *codes, *scales, *full; /* host copies of the pools */
    double *x;                      /* [sequences][heads][tokens][dim] */
};

struct ks {
    struct cache_view c;
    uint32_t tokens; /* the most of a sequence */
    uint32_t *table, *lengths, pages;
    struct ks_side k, v;
};

static inline double ks_bf16(uint16_t h)
{
    double m = h & 0x7f, sign = h & 0x8000 ? -1 : 1;
    int e = h >> 7 & 0xff;

    return sign * (e ? ldexp(1 + m / 128, e - 127) : ldexp(m / 128, -126));
}

static inline double ks_fp16(uint16_t h)
{
    double m = h & 0x3ff, sign = h & 0x8000 ? -1 : 1;
    int e = h >> 10 & 0x1f;

    return sign * (e ? ldexp(1 + m / 1024, e - 15) : ldexp(m / 1024, -14));
}

static inline double ks_e4m3(uint8_t b)
{
    double m = b & 7, sign = b & 0x80 ? -1 : 1;
    int e = b >> 3 & 15;

    return sign * (e ? ldexp(1 + m / 8, e - 7) : ldexp(m / 8, -6));
}

/* Rounded to 16 bits, ties to even, by arithmetic. */
static inline double ks_round_bf16(double x)
{
    int e;
    double m = frexp(x, &e);

    return ldexp(nearbyint(m * 256), e - 8);
}

static inline double ks_round_fp16(double x)
{
    int e;
    double m = frexp(x, &e);

    return e < -13 ? ldexp(nearbyint(ldexp(x, 24)), -24) : ldexp(nearbyint(m * 2048), e - 11);
}

/* frexp gives 0.5 <= m < 1, so that m * 256 has the implicit one at 128. */
static inline uint16_t ks_bits_bf16(double x)
{
    int e;
    double m = frexp(fabs(x), &e);
    int whole = (int)nearbyint(m * 256);

    if (x == 0)
        return 0;
    return (uint16_t)((x < 0 ? 0x8000 : 0) | (((e + 126) << 7) + whole - 128));
}

static inline uint16_t ks_bits_fp16(double x)
{
    int e;
    double m = frexp(fabs(x), &e);
    int whole = (int)nearbyint(m * 2048);

    if (fabs(x) < ldexp(1, -14))
        return (uint16_t)((x < 0 ? 0x8000 : 0) | (int)nearbyint(ldexp(fabs(x), 24)));
    return (uint16_t)((x < 0 ? 0x8000 : 0) | (((e + 14) << 10) + whole - 1024));
}

static inline uint64_t ks_lengths(const struct ks *s)
{
    return (uint64_t)s->c.sequences * (s->c.ragged ? s->c.heads : 1);
}

static inline uint32_t ks_length(const struct ks *s, uint32_t sequence, uint32_t head)
{
    return s->lengths[s->c.ragged ? sequence * s->c.heads + head : sequence];
}

/* Row number of a token, as cache.h says. */
static inline uint64_t ks_row(const struct ks *s, uint32_t sequence, uint32_t head,
                              uint32_t token)
{
    const struct cache_view *c = &s->c;
    uint64_t list = c->ragged ? (uint64_t)sequence * c->heads + head : sequence;
    uint64_t page = s->table[list * c->max_pages + token / c->page_tokens];
    uint64_t heads = c->ragged ? 1 : c->heads, h = c->ragged ? 0 : head;

    return (page * heads + h) * c->page_tokens + token % c->page_tokens;
}

static inline double *ks_at(const struct ks *s, bool value, uint32_t sequence, uint32_t head,
                            uint32_t token)
{
    const struct ks_side *d = value ? &s->v : &s->k;
    uint32_t dim = value ? s->c.v.dim : s->c.k.dim;

    return d->x + (((uint64_t)sequence * s->c.heads + head) * s->tokens + token) * dim;
}

/* A table with distinct pages in random order for each list, some pages unused. */
static inline void ks_tables(struct kk *k, struct ks *s)
{
    uint64_t lists = ks_lengths(s), n = lists * s->c.max_pages;

    s->pages = (uint32_t)n + 3;
    s->table = ARENA_NEW(k->a, uint32_t, s->pages);
    for (uint32_t i = 0; i < s->pages; i++)
        s->table[i] = i;
    for (uint32_t i = s->pages - 1; i; i--) {
        uint32_t j = (uint32_t)rng_below(&k->rng, i + 1), x = s->table[i];
        s->table[i] = s->table[j];
        s->table[j] = x;
    }
    s->c.table = kk_put(k, TAG_TABLES, s->table, n * 4);
    s->c.lengths = kk_put(k, TAG_TABLES, s->lengths, lists * 4);
}

static inline uint8_t *ks_pool(struct kk *k, uint64_t bytes)
{
    uint8_t *p = bytes ? arena_alloc(k->a, bytes, 1) : NULL;

    if (p)
        memset(p, 0xff, bytes);
    return p;
}

static inline void ks_put16(uint8_t *pool, uint64_t at, uint16_t x)
{
    memcpy(pool + 2 * at, &x, 2);
}

static inline uint16_t ks_get16(const uint8_t *pool, uint64_t at)
{
    uint16_t x;

    memcpy(&x, pool + 2 * at, 2);
    return x;
}

/* Code of element d within its row of `bits` bits: groups of 8 elements, the even ones in the
 * low half of the group's word. */
static inline uint32_t ks_code(const uint8_t *codes, uint64_t row, const struct cache_side *s,
                               uint32_t d)
{
    uint32_t bits = store_bits(s->store), unit_bytes = bits;
    uint64_t word = 0;

    memcpy(&word, codes + (row * s->dim + d / 8 * 8) * bits / 8, unit_bytes);
    if (bits == 8)
        return (uint32_t)(word >> 8 * (d % 8)) & 0xff;
    return (uint32_t)(word >> (bits * (d % 8 / 2) + 4 * bits * (d % 2))) & ((1u << bits) - 1);
}

/* What a stored element means. */
static inline double ks_value(const struct ks *s, bool value, uint32_t sequence, uint32_t head,
                              uint32_t token, uint32_t d)
{
    const struct cache_view *c = &s->c;
    const struct cache_side *side = value ? &c->v : &c->k;
    const struct ks_side *pool = value ? &s->v : &s->k;
    uint64_t row = ks_row(s, sequence, head, token), at;
    uint32_t length = ks_length(s, sequence, head), r = c->residual, code;
    uint32_t coded = value ? length - (length < r ? length : r) : length - (r ? length % r : 0);
    float scale = side->scale;

    if (side->store == STORE_BF16)
        return ks_bf16(ks_get16(pool->codes, row * side->dim + d));
    if (side->store == STORE_FP16)
        return ks_fp16(ks_get16(pool->codes, row * side->dim + d));
    if (store_is_kivi(side->store) && token >= coded)
        return ks_bf16(
            ks_get16(pool->full,
                     (((uint64_t)sequence * c->heads + head) * r + token % r) * side->dim + d));
    code = ks_code(pool->codes, row, side, d);
    if (store_bits(side->store) == 8) {
        if (pool->scales)
            memcpy(&scale, pool->scales + 4 * row, 4);
        return scale * (side->store == STORE_FP8 ? ks_e4m3((uint8_t)code) : (int8_t)code);
    }
    at = row * (side->dim / side->group) + d / side->group;
    if (store_is_kivi(side->store) && !value)
        at = row / side->group * side->dim + d;
    return code * ks_bf16(ks_get16(pool->scales, 2 * at)) +
           ks_bf16(ks_get16(pool->scales, 2 * at + 1));
}

/* Random codes, scales and full rows for one side. */
static inline void ks_fill_row(struct kk *k, struct ks *s, bool value, uint64_t row,
                               uint64_t full_row)
{
    struct cache_side *side = value ? &s->c.v : &s->c.k;
    struct ks_side *pool = value ? &s->v : &s->k;
    uint32_t bits = store_bits(side->store), dim = side->dim;
    uint64_t groups =
        store_is_kivi(side->store) && !value ? dim : dim / (side->group | !side->group);
    uint64_t first =
        store_is_kivi(side->store) && !value ? row / side->group * dim : row * groups;

    for (uint32_t d = 0; d < dim; d++) {
        if (bits == 16)
            ks_put16(pool->codes, row * dim + d,
                     side->store == STORE_FP16 ? ks_bits_fp16(kk_normal(k))
                                               : ks_bits_bf16(kk_normal(k)));
        if (pool->full)
            ks_put16(pool->full, full_row * dim + d, ks_bits_bf16(kk_normal(k)));
    }
    for (uint64_t i = 0; bits < 16 && i < (uint64_t)dim * bits / 8; i++)
        pool->codes[row * dim * bits / 8 + i] = (uint8_t)rng_next(&k->rng);
    for (uint32_t d = 0; side->store == STORE_FP8 && d < dim; d++)
        pool->codes[row * dim + d] =
            (uint8_t)((rng_next(&k->rng) & 0x80) | rng_below(&k->rng, 0x44));
    if (bits == 8 && pool->scales) {
        float x = (float)((0.5 + rng_unit(&k->rng)) / (side->store == STORE_INT8 ? 64 : 1));
        memcpy(pool->scales + 4 * row, &x, 4);
    }
    for (uint64_t i = first; bits < 8 && i < first + groups; i++) {
        double scale = (0.5 + rng_unit(&k->rng)) * 4 / (1 << bits);
        ks_put16(pool->scales, 2 * i, ks_bits_bf16(scale));
        ks_put16(pool->scales, 2 * i + 1, ks_bits_bf16(-scale * (1 << bits) / 2));
    }
}

static inline void ks_fill(struct kk *k, struct ks *s, bool value)
{
    struct cache_side *side = value ? &s->c.v : &s->c.k;
    struct ks_side *pool = value ? &s->v : &s->k;
    const struct cache_view *c = &s->c;

    pool->x =
        ARENA_NEW(k->a, double, (uint64_t)c->sequences * c->heads * s->tokens * side->dim);
    for (uint32_t i = 0; i < c->sequences * c->heads; i++)
        for (uint32_t t = 0; t < ks_length(s, i / c->heads, i % c->heads); t++)
            ks_fill_row(k, s, value, ks_row(s, i / c->heads, i % c->heads, t),
                        c->residual ? (uint64_t)i * c->residual + t % c->residual : 0);
    for (uint32_t i = 0; i < c->sequences * c->heads; i++)
        for (uint32_t t = 0; t < ks_length(s, i / c->heads, i % c->heads); t++)
            for (uint32_t d = 0; d < side->dim; d++)
                ks_at(s, value, i / c->heads, i % c->heads, t)[d] =
                    ks_value(s, value, i / c->heads, i % c->heads, t, d);
}

/* Allocates and poisons the pools of one side; `scaled`: 8-bit rows have scales of their own.
 */
static inline void ks_pools(struct kk *k, struct ks *s, bool value, bool scaled)
{
    struct cache_side *side = value ? &s->c.v : &s->c.k;
    struct ks_side *pool = value ? &s->v : &s->k;
    uint64_t scales, full = cache_full_bytes(&s->c, value);

    side->scales = scaled ? side : NULL; /* so that the size counts them */
    scales = cache_scale_bytes(&s->c, value, s->pages);
    pool->codes = ks_pool(k, cache_code_bytes(&s->c, value, s->pages));
    pool->scales = ks_pool(k, scales);
    pool->full = ks_pool(k, full);
    side->scales = NULL;
}

static inline void ks_upload(struct kk *k, struct ks *s, bool value)
{
    struct cache_side *side = value ? &s->c.v : &s->c.k;
    struct ks_side *pool = value ? &s->v : &s->k;
    enum tag tag = value ? TAG_V : TAG_K;
    struct cache_side sized = *side;

    side->codes = kk_put(k, tag, pool->codes, cache_code_bytes(&s->c, value, s->pages));
    side->scales = pool->scales ? &sized : NULL;
    if (pool->scales)
        side->scales = kk_put(k, tag, pool->scales, cache_scale_bytes(&s->c, value, s->pages));
    if (pool->full)
        side->full = kk_put(k, tag, pool->full, cache_full_bytes(&s->c, value));
}

/* Tables and both sides of the view s->c, whose lengths are known. */
static inline void ks_place(struct kk *k, struct ks *s, bool scaled)
{
    ks_tables(k, s);
    for (int value = 0; value < 2; value++) {
        ks_pools(k, s, value, scaled);
        ks_fill(k, s, value);
        ks_upload(k, s, value);
    }
}

#endif
