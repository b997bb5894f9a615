/* A matrix of stored weights, laid out plane by plane by the tests themselves from random bits,
 * and what its elements are, in double, by the definition of each format. */
#ifndef KVBUDGET_TESTS_KVWEIGHT_H
#define KVBUDGET_TESTS_KVWEIGHT_H

#include "kernels/weight.h"
#include "tests/kvstore.h"

struct kw_kind { /* how a matrix is stored, in words of the formats */
    enum weight_kind kind;
    uint32_t bits, group, scale_bytes; /* group: columns of a scale; 0 = no scales in groups */
    bool zeroed, ordered, one_scale, row_scale, factor;
    uint32_t high, block_factor_bytes; /* ggml: bits of a code beyond 4, bytes of d and m */
};

static const struct kw_kind kw_kinds[] = {
    {WEIGHT_FP32, 32, 0, 0, false, false, false, false, false, 0, 0},
    {WEIGHT_FP8, 8, 0, 4, false, false, true, true, false, 0, 0},
    {WEIGHT_FP8, 8, 0, 4, false, false, false, true, false, 0, 0},
    {WEIGHT_FP8_BLOCK, 8, 128, 4, false, false, false, false, false, 0, 0},
    {WEIGHT_INT8, 8, 0, 4, false, false, false, true, false, 0, 0},
    {WEIGHT_INT8_GROUP, 8, 128, 2, false, false, false, false, false, 0, 0},
    {WEIGHT_INT8_GROUP, 8, 32, 2, true, true, false, false, false, 0, 0},
    {WEIGHT_INT4_GROUP, 4, 32, 2, false, false, false, false, false, 0, 0},
    {WEIGHT_INT4_GROUP, 4, 64, 2, true, false, false, false, false, 0, 0},
    {WEIGHT_INT4_GROUP, 4, 128, 2, true, true, false, false, false, 0, 0},
    {WEIGHT_INT4_GROUP, 4, 1 << 20, 2, false, false, false, false, false, 0, 0},
    {WEIGHT_MXFP4, 4, 32, 1, false, false, false, false, false, 0, 0},
    {WEIGHT_NVFP4, 4, 16, 1, false, false, false, false, true, 0, 0},
    {WEIGHT_NF4, 4, 64, 4, false, false, false, false, false, 0, 0},
    {WEIGHT_Q4_K, 4, 256, 12, false, false, false, false, false, 0, 4},
    {WEIGHT_Q5_K, 4, 256, 12, false, false, false, false, false, 1, 4},
    {WEIGHT_Q6_K, 4, 256, 16, false, false, false, false, false, 2, 2},
};
enum { KW_KINDS = sizeof kw_kinds / sizeof *kw_kinds };

struct kw_product {
    uint32_t rows, outs, in, stride, splits;
    bool bias, wide, fp16;
};

static inline double kw_half(uint16_t h, bool fp16)
{
    return fp16 ? ks_fp16(h) : ks_bf16(h);
}

static inline double kw_rounded(double x, bool fp16)
{
    return fp16 ? ks_round_fp16(x) : ks_round_bf16(x);
}

static inline uint64_t kw_ceil_div(uint64_t n, uint64_t d)
{
    return (n + d - 1) / d;
}

static inline double kw_fp4(uint32_t code)
{
    static const double size[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};

    return code & 8 ? -size[code & 7] : size[code & 7];
}

static inline double kw_nf4(uint32_t code)
{
    static const double level[16] = {-1.0,
                                     -0.6961928009986877,
                                     -0.5250730514526367,
                                     -0.39491748809814453,
                                     -0.28444138169288635,
                                     -0.18477343022823334,
                                     -0.09105003625154495,
                                     0.0,
                                     0.07958029955625534,
                                     0.16093020141124725,
                                     0.24611230194568634,
                                     0.33791524171829224,
                                     0.44070982933044434,
                                     0.5626170039176941,
                                     0.7229568362236023,
                                     1.0};

    return level[code];
}

struct kw_planes { /* host memory of a matrix */
    uint8_t *codes, *high, *order, *factor, *scales, *zeros;
    uint64_t bytes;
};

static inline uint64_t kw_scales_of(const struct kw_kind *k, const struct kw_product *p)
{
    if (!k->scale_bytes)
        return 0;
    if (k->one_scale)
        return 1;
    if (k->kind == WEIGHT_FP8_BLOCK)
        return kw_ceil_div(p->outs, 128) * kw_ceil_div(p->in, 128);
    return p->outs * (k->row_scale ? 1 : kw_ceil_div(p->in, k->group));
}

static inline struct kw_planes kw_planes_of(struct kk *k, const struct kw_kind *f,
                                            const struct kw_product *p)
{
    uint64_t n = kw_scales_of(f, p), codes = (uint64_t)p->outs * p->in * f->bits / 8;
    uint64_t order = f->ordered ? 4ull * p->in : 0, factor = f->factor ? 4 : 0;
    uint64_t high = (uint64_t)p->outs * p->in * f->high / 8;
    uint64_t zeros = f->zeroed ? kw_ceil_div(n * f->bits, 8) : 0;
    struct kw_planes m = {.bytes = codes + high + order + n * f->scale_bytes + zeros};

    factor += n * f->block_factor_bytes;
    m.bytes += factor;
    m.codes = kk_random(k, m.bytes);
    m.high = m.codes + codes;
    m.order = m.high + high;
    m.factor = m.order + order;
    m.scales = m.factor + factor;
    m.zeros = m.scales + n * f->scale_bytes;
    return m;
}

/* Not-a-numbers of e4m3 are left out; fp32 weights are normal. */
static inline void kw_mend_codes(struct kk *k, const struct kw_kind *f, struct kw_planes *m)
{
    bool fp8 = f->kind == WEIGHT_FP8 || f->kind == WEIGHT_FP8_BLOCK;

    for (uint8_t *p = m->codes; fp8 && p < m->high; p++)
        *p = (*p & 0x7f) == 0x7f ? *p & 0xfe : *p;
    for (uint8_t *p = m->codes; f->bits == 32 && p < m->high; p += 4) {
        float x = (float)kk_normal(k);
        memcpy(p, &x, 4);
    }
}

static inline void kw_fill_scales(struct kk *k, const struct kw_kind *f, struct kw_planes *m,
                                  uint64_t n, bool fp16)
{
    float factor = 0.03f;

    if (f->factor)
        memcpy(m->factor, &factor, 4);
    if (f->block_factor_bytes) { /* their scales are random bits */
        for (uint64_t i = 0; i < n * f->block_factor_bytes / 2; i++) {
            uint16_t h = ks_bits_fp16(0.002 + 0.001 * rng_unit(&k->rng));
            memcpy(m->factor + 2 * i, &h, 2);
        }
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        float x = (float)(0.01 + 0.02 * rng_unit(&k->rng));
        uint16_t h = fp16 ? ks_bits_fp16((double)x) : ks_bits_bf16((double)x);
        uint8_t *at = m->scales + i * f->scale_bytes;
        if (f->scale_bytes == 4)
            memcpy(at, &x, 4);
        else if (f->scale_bytes == 2)
            memcpy(at, &h, 2);
        else
            *at = f->factor ? 0x28 + i % 32 : 118 + i % 9;
    }
}

static inline void kw_shuffle(struct kk *k, uint8_t *order, uint32_t n)
{
    uint32_t *p = ARENA_NEW(k->a, uint32_t, n);

    for (uint32_t i = 0; i < n; i++) {
        uint32_t j = (uint32_t)rng_below(&k->rng, i + 1);
        p[i] = p[j];
        p[j] = i;
    }
    memcpy(order, p, 4ull * n);
}

/* Of the codes of a row, one. Of 8 codes of 4 bits, those with even numbers come first. */
static inline double kw_code_at(const struct kw_kind *f, const struct kw_planes *m, uint64_t i,
                                double zero)
{
    uint32_t word;
    float x;

    if (f->bits == 32) {
        memcpy(&x, m->codes + 4 * i, 4);
        return (double)x;
    }
    if (f->bits == 8)
        return f->kind == WEIGHT_FP8 || f->kind == WEIGHT_FP8_BLOCK ? ks_e4m3(m->codes[i])
                                                                    : m->codes[i] - zero;
    memcpy(&word, m->codes + i / 8 * 4, 4);
    word = word >> 4 * (i % 8 / 2 + i % 2 * 4) & 15;
    return f->kind == WEIGHT_NF4          ? kw_nf4(word)
           : f->kind == WEIGHT_INT4_GROUP ? word - zero
                                          : kw_fp4(word);
}

static inline double kw_scale_at(const struct kw_kind *f, const struct kw_planes *m, uint64_t i,
                                 bool fp16)
{
    const uint8_t *at = m->scales + i * f->scale_bytes;
    float x, factor;
    uint16_t h;

    if (f->scale_bytes == 2) {
        memcpy(&h, at, 2);
        return kw_half(h, fp16);
    }
    if (f->factor) {
        memcpy(&factor, m->factor, 4);
        return ks_e4m3(*at) * (double)factor;
    }
    if (f->scale_bytes == 1)
        return ldexp(1, *at - 127);
    memcpy(&x, at, 4);
    return (double)x;
}

static inline uint32_t kw_bits_at(const uint8_t *p, uint64_t first, uint32_t n)
{
    uint32_t x = 0;

    for (uint32_t i = 0; i < n; i++)
        x |= (uint32_t)(p[(first + i) / 8] >> (first + i) % 8 & 1) << i;
    return x;
}

/* Of a block of 256 columns; of 8 elements those with even numbers come first, in both planes.
 */
static inline double kw_block_element(const struct kw_kind *f, const struct kw_planes *m,
                                      const struct kw_product *p, uint32_t n, uint32_t c)
{
    uint64_t block = (uint64_t)(c / 256) * p->outs + n, i = (uint64_t)n * p->in + c;
    uint64_t at = i / 8 * 8 + i % 8 / 2 + i % 2 * 4;
    uint32_t code = kw_bits_at(m->codes, 4 * at, 4) | kw_bits_at(m->high, f->high * at, f->high)
                                                          << 4;
    const uint8_t *scales = m->scales + block * f->scale_bytes;
    uint16_t d, least = 0;

    memcpy(&d, m->factor + block * f->block_factor_bytes, 2);
    if (f->kind == WEIGHT_Q6_K)
        return ks_fp16(d) * (int8_t)scales[c % 256 / 16] * ((double)code - 32);
    memcpy(&least, m->factor + block * f->block_factor_bytes + 2, 2);
    return ks_fp16(d) * kw_bits_at(scales, c % 256 / 32 * 12, 6) * code -
           ks_fp16(least) * kw_bits_at(scales, c % 256 / 32 * 12 + 6, 6);
}

static inline double kw_element(const struct kw_kind *f, const struct kw_planes *m,
                                const struct kw_product *p, uint32_t n, uint32_t c)
{
    double zero = f->bits == 8 ? 128 : 8;
    uint64_t i = f->one_scale ? 0 : n;

    if (f->kind == WEIGHT_FP32)
        return kw_code_at(f, m, (uint64_t)n * p->in + c, 0);
    if (f->block_factor_bytes)
        return kw_block_element(f, m, p, n, c);
    if (f->kind == WEIGHT_FP8_BLOCK)
        i = c / 128 * kw_ceil_div(p->outs, 128) + n / 128;
    else if (f->group)
        i = (uint64_t)(c / f->group) * p->outs + n;
    if (f->zeroed)
        zero = f->bits == 8 ? m->zeros[i] : m->zeros[i / 2] >> 4 * (i % 2) & 15;
    return kw_code_at(f, m, (uint64_t)n * p->in + c, zero) * kw_scale_at(f, m, i, p->fp16);
}

static inline double *kw_matrix(struct kk *k, const struct kw_kind *f,
                                const struct kw_planes *m, const struct kw_product *p)
{
    double *w = ARENA_NEW(k->a, double, (size_t)p->outs * p->in);

    for (uint32_t n = 0; n < p->outs; n++)
        for (uint32_t c = 0; c < p->in; c++) {
            uint32_t to = c;
            if (f->ordered)
                memcpy(&to, m->order + 4ull * c, 4);
            w[(size_t)n * p->in + to] = kw_element(f, m, p, n, c);
        }
    return w;
}

#endif
