/* Device code for stored weights: the scales of 16 bytes of codes, and the codes as pairs of
 * 16-bit elements. Included by weight.cu. What a kernel is made for is given as constants. */
#ifndef KVBUDGET_KERNELS_WEIGHT_DEV_H
#define KVBUDGET_KERNELS_WEIGHT_DEV_H

#include "kernels/dev.h"

#include "kernels/weight.h"

struct make {
    enum weight_kind kind;
    uint32_t bits, columns; /* of a code; codes in 16 bytes */
    uint32_t wide;          /* rows of x / 8, at most */
    bool fp16;
    bool parts; /* of a matrix, struct weight_part */
};

struct piece {            /* what belongs to 16 bytes of codes, as stored */
    uint32_t scale, zero; /* in ggml's blocks: both scales, and both factors */
    uint32_t high[2];
};

struct pairs { /* 4 elements */
    uint32_t w[2];
};

DEV struct make made(enum weight_kind kind, uint32_t bits, uint32_t wide, bool fp16)
{
    struct make mk = {kind, bits, 128 / bits, wide, fp16, true};

    return mk;
}

/* source: arXiv:2305.14314 appendix E */
DEV float nf4_level(uint32_t i)
{
    static const float level[16] = {
        -1.0f,          -0.6961928010f, -0.5250730515f, -0.3949174881f,
        -0.2844413817f, -0.1847734302f, -0.0910500363f, 0.0f,
        0.0795802996f,  0.1609302014f,  0.2461123019f,  0.3379152417f,
        0.4407098293f,  0.5626170039f,  0.7229568362f,  1.0f};

    return level[i];
}

DEV void weight_mma(struct lane *t, bool fp16, float *c, const uint32_t *a, const uint32_t *b)
{
    if (fp16)
        dev_mma_fp16(t, c, a, b);
    else
        dev_mma_bf16(t, c, a, b);
}

/* --- scales ---------------------------------------------------------------------------------
 */

DEV struct piece group_load(struct lane *t, const struct weight_view *w, struct make mk,
                            uint64_t at)
{
    struct piece p = {0, mk.bits == 8 ? 128u : 8u, {0, 0}};

    p.scale = dev_load16(t, (const uint16_t *)w->scales + at);

    if (w->zeroed && mk.bits == 8)
        p.zero = dev_load8(t, (const uint8_t *)w->zeros + at);
    else if (w->zeroed)
        p.zero =
            (uint32_t)dev_load8(t, (const uint8_t *)w->zeros + at / 2) >> 4 * (at % 2) & 15u;
    return p;
}

struct piece_at {
    uint32_t out, column, group; /* group: column / columns of a scale */
};

/* Of 32 columns of a block of 256. */
DEV struct piece block_load(struct lane *t, const struct weight_view *w, struct make mk,
                            struct piece_at x)
{
    uint64_t block = (uint64_t)(x.column / 256) * w->outs + x.out;
    uint64_t run = ((uint64_t)x.out * w->in + x.column) / 32;
    uint32_t group = x.column / 32 % 8;
    const uint8_t *at = (const uint8_t *)w->scales + 12 * block + group * 12 / 8;
    struct piece p = {0, 0, {0, 0}};

    if (mk.kind == WEIGHT_Q6_K) {
        uint64_t high = dev_load64(t, (const uint64_t *)w->high + run);
        p.high[0] = (uint32_t)high;
        p.high[1] = (uint32_t)(high >> 32);
        p.zero = dev_load16(t, (const uint16_t *)w->factors + block);
        p.scale = dev_load16(t, (const uint16_t *)w->scales + 8 * block + group);
        return p;
    }
    if (mk.kind == WEIGHT_Q5_K)
        p.high[0] = dev_load32(t, (const uint32_t *)w->high + run);
    p.zero = dev_load32(t, (const uint32_t *)w->factors + block);
    p.scale = dev_load8(t, at) | (uint32_t)dev_load8(t, at + 1) << 8;
    p.scale = p.scale >> (group % 2 ? 4 : 0) & 0xfffu;
    return p;
}

DEV struct piece piece_load(struct lane *t, const struct weight_view *w, struct make mk,
                            struct piece_at x)
{
    const uint8_t *bytes = (const uint8_t *)w->scales;
    struct piece p = {0, 128, {0, 0}};

    if (mk.kind >= WEIGHT_Q4_K)
        return block_load(t, w, mk, x);

    if (mk.kind == WEIGHT_INT8_GROUP || mk.kind == WEIGHT_INT4_GROUP)
        return group_load(t, w, mk, (uint64_t)x.group * w->outs + x.out);
    if (mk.kind == WEIGHT_MXFP4)
        p.scale = dev_load8(t, bytes + (uint64_t)(x.column / 32) * w->outs + x.out);
    if (mk.kind == WEIGHT_NVFP4) {
        uint64_t at = (uint64_t)(x.column / 16) * w->outs + x.out;
        p.scale = dev_load8(t, bytes + at);
        p.scale |= (uint32_t)dev_load8(t, bytes + at + w->outs) << 8;
    }
    if (mk.kind == WEIGHT_NF4)
        p.scale = dev_load32(t, bytes + 4 * ((uint64_t)(x.column / 64) * w->outs + x.out));
    return p;
}

DEV uint32_t block_scale(struct lane *t, const struct weight_view *w, uint32_t out,
                         uint32_t column)
{
    uint64_t at = (uint64_t)(column / 128) * ((w->outs + 127) / 128) + out / 128;

    return dev_load32(t, (const uint32_t *)w->scales + at);
}

/* Of a whole row, or the factor of the matrix. */
DEV float row_scale(struct lane *t, const struct weight_view *w, uint32_t out)
{
    if (w->kind == WEIGHT_NVFP4)
        return dev_load_float(t, (const float *)w->factors);
    return dev_load_float(t, (const float *)w->scales + (w->one_scale ? 0 : out));
}

/* --- codes ----------------------------------------------------------------------------------
 */

#define MINUS_NOUGHTS 0x80008000u

/* Two codes in the bytes 1 and 3. The bits of size are a 16-bit number whose exponent is too
 * small by 120, or by 8. */
DEV uint32_t e4m3_pair(uint32_t w, bool fp16)
{
    if (!fp16)
        return dev_e4m3x2(w);
    return dev_fma_fp16x2((w & 0x80008000u) | (w >> 1 & 0x3f803f80u), 0x5c005c00u,
                          MINUS_NOUGHTS);
}

/* Two codes in the lowest bits of both halves: sign, two bits of exponent, one of mantissa,
 * which are too small by 2^126, or by 2^14. */
DEV uint32_t e2m1_pair(uint32_t w, bool fp16)
{
    uint32_t sign = (w & 0x00080008u) << 12, size = w & 0x00070007u;

    return fp16 ? dev_fma_fp16x2(sign | size << 9, 0x74007400u, MINUS_NOUGHTS)
                : dev_fma_bf16x2(sign | size << 6, 0x7e807e80u, MINUS_NOUGHTS);
}

/* The same bits as codes from 0 to 15, less `zero`: the mantissa of 128, or of 1024, counts
 * ones. */
DEV uint32_t int4_pair(uint32_t w, uint32_t zero, bool fp16)
{
    uint32_t both = zero | zero << 16;

    return fp16 ? dev_fma_fp16x2(w | 0x64006400u, 0x3c003c00u, both | 0xe400e400u)
                : dev_fma_bf16x2(w | 0x43004300u, 0x3f803f80u, both | 0xc300c300u);
}

/* Bytes 0 and 1 less `zero`. */
DEV uint32_t int8_pair(uint32_t w, uint32_t zero, bool fp16)
{
    float nought = dev_float(0x4b000000u | zero);

    return dev_pack_16(dev_float(0x4b000000u | (w & 0xffu)) - nought,
                       dev_float(0x4b000000u | (w >> 8 & 0xffu)) - nought, fp16);
}

/* The scale of a group twice, in 16 bits. */
DEV uint32_t group_scale(struct make mk, const struct piece *p, uint32_t step)
{
    float power = dev_float(p->scale ? p->scale << 23 : 0x00400000u);

    if (mk.kind == WEIGHT_MXFP4)
        return dev_pack_16(power, power, mk.fp16);
    if (mk.kind == WEIGHT_NVFP4)
        return e4m3_pair(dev_permute(p->scale, 0, step < 4 ? 0x0404 : 0x1414), mk.fp16);
    return dev_permute(p->scale, 0, 0x1010);
}

DEV uint32_t scaled(struct make mk, uint32_t pair, uint32_t scale)
{
    return mk.fp16 ? dev_fma_fp16x2(pair, scale, MINUS_NOUGHTS)
                   : dev_fma_bf16x2(pair, scale, MINUS_NOUGHTS);
}

DEV uint32_t decode_8(struct make mk, uint32_t word, const struct piece *p, uint32_t half)
{
    uint32_t pair;

    if (mk.kind == WEIGHT_FP8 || mk.kind == WEIGHT_FP8_BLOCK)
        return e4m3_pair(dev_permute(word, 0, half ? 0x3424 : 0x1404), mk.fp16);
    if (mk.kind == WEIGHT_INT8)
        return int8_pair(word >> 16 * half, 128, mk.fp16);
    pair = int8_pair(word >> 16 * half, p->zero, mk.fp16);
    return scaled(mk, pair, group_scale(mk, p, 0));
}

/* The high bits of the two elements of pair `m` in word `j` of the codes, above 4 others. */
DEV uint32_t high_pair(struct make mk, const struct piece *p, uint32_t j, uint32_t m)
{
    uint32_t x = p->high[0] >> 8 * j;

    if (mk.kind == WEIGHT_Q4_K)
        return 0;
    if (mk.kind == WEIGHT_Q5_K)
        return (x >> m & 1u) << 4 | (x >> (4 + m) & 1u) << 20;
    x = p->high[j / 2] >> 16 * (j % 2);
    return (x >> 2 * m & 3u) << 4 | (x >> (8 + 2 * m) & 3u) << 20;
}

/* scale * code - minimum: a bf16 of 128 to 255 counts the code in its mantissa. */
DEV uint32_t decode_block(struct make mk, uint32_t codes, const struct piece *p, uint32_t step)
{
    uint32_t w = codes | 0x43004300u;
    float factor = dev_from_fp16((uint16_t)p->zero), scale, minimum;

    if (mk.kind == WEIGHT_Q6_K) {
        uint32_t byte = (step < 4 ? p->scale : p->scale >> 8) & 0xffu;
        scale = factor * ((float)(byte ^ 0x80u) - 128.0f);
        minimum = 32.0f * scale;
    } else {
        scale = factor * (float)(p->scale & 63u);
        minimum = dev_from_fp16((uint16_t)(p->zero >> 16)) * (float)(p->scale >> 6);
    }
    minimum = dev_fma(128.0f, scale, minimum);
    return dev_pack_16(dev_fma(dev_float(w << 16), scale, -minimum),
                       dev_fma(dev_float(w & 0xffff0000u), scale, -minimum), mk.fp16);
}

/* codes: one in the lowest bits of each half. */
DEV uint32_t decode_4(struct make mk, uint32_t codes, const struct piece *p, uint32_t step,
                      const float *levels)
{
    float size = dev_float(p->scale);
    uint32_t pair;

    if (mk.kind == WEIGHT_NF4)
        return dev_pack_16(levels[codes & 15u] * size, levels[codes >> 16] * size, mk.fp16);
    pair = mk.kind == WEIGHT_INT4_GROUP ? int4_pair(codes, p->zero, mk.fp16)
                                        : e2m1_pair(codes, mk.fp16);
    return scaled(mk, pair, group_scale(mk, p, step));
}

/* Elements 4 step .. 4 step + 3. */
DEV struct pairs piece_decode(struct make mk, const struct vec128 *codes, const struct piece *p,
                              uint32_t step, const float *levels)
{
    struct pairs e;

    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t m = 2 * (step % 2) + i, low = codes->w[step / 2] >> 4 * m & 0x000f000fu;
        if (mk.bits == 32)
            e.w[i] = dev_pack_16(dev_float(codes->w[2 * i]), dev_float(codes->w[2 * i + 1]),
                                 mk.fp16);
        else if (mk.bits == 8)
            e.w[i] = decode_8(mk, codes->w[step % 4], p, i);
        else if (mk.kind >= WEIGHT_Q4_K)
            e.w[i] = decode_block(mk, low | high_pair(mk, p, step / 2, m), p, step);
        else
            e.w[i] = decode_4(mk, low, p, step, levels);
    }
    return e;
}

#endif
