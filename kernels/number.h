/* Numbers of 8, 4 and 2 bits to and from 16, for device code (through dev.h). Pairs of elements
 * are decoded at a time, with bit operations that are exact, so that a code costs one or two
 * instructions on a GPU. */
#ifndef KVBUDGET_KERNELS_NUMBER_H
#define KVBUDGET_KERNELS_NUMBER_H

#include "kernels/dev.h"

DEV float dev_from_bf16(uint16_t h)
{
    return dev_float((uint32_t)h << 16);
}

/* The 16-bit type of activations. */
DEV float dev_from_16(uint16_t h, bool fp16)
{
    return fp16 ? dev_from_fp16(h) : dev_from_bf16(h);
}

DEV uint32_t dev_pack_16(float low, float high, bool fp16)
{
    return fp16 ? dev_pack_fp16(low, high) : dev_pack_bf16(low, high);
}

DEV float dev_abs(float x)
{
    return dev_float(dev_bits(x) & 0x7fffffffu);
}

/* To the nearest integer, ties to even; |x| < 2^22. */
DEV float dev_round(float x)
{
    return (x + 12582912.0f) - 12582912.0f;
}

/* OCP e4m3: round to nearest even, beyond +-448 clamped to it. Not-a-number stays one. */
DEV uint8_t dev_to_e4m3(float x)
{
    uint32_t u = dev_bits(x), sign = u >> 24 & 0x80u, size = u & 0x7fffffffu;

    if (size > 0x7f800000u)
        return (uint8_t)(sign | 0x7fu);
    if (size >= 0x43e80000u) /* 464: halfway between 448 and 480 */
        return (uint8_t)(sign | 0x7eu);
    if (size < 0x3c800000u) /* below 2^-6: a multiple of 2^-9 */
        return (uint8_t)(sign | (uint32_t)dev_round(dev_float(size) * 512.0f));
    size += 0x7ffffu + (size >> 20 & 1u);
    size = (size - 0x3c000000u) >> 20;
    return (uint8_t)(sign | (size > 0x7eu ? 0x7eu : size));
}

/* Two e4m3 codes in the bytes 1 and 3 of w, as bf16x2; no not-a-numbers. The 7 bits of size
 * moved down by 4 are a bf16 whose exponent is 120 too small. */
DEV uint32_t dev_e4m3x2(uint32_t w)
{
    uint32_t moved = dev_merge(w, 0x80008000u, w >> 4 & 0x07f007f0u);

    return dev_fma_bf16x2(moved, 0x7b807b80u, 0x80008000u); /* 2^120, -0 */
}

/* Two signed bytes, 0 and 2 of w, as bf16x2: 128 plus the low 7 bits, minus 128 or 256. */
DEV uint32_t dev_bytex2(uint32_t w)
{
    return dev_fma_bf16x2(dev_merge(w, 0x007f007fu, 0x43004300u), 0x3f803f80u,
                          dev_merge(w, 0x00800080u, 0xc300c300u));
}

/* Two unsigned codes of at most 7 bits, those under the mask, as bf16x2: 0x4300 is 128, whose
 * mantissa counts ones. */
DEV uint32_t dev_codex2(uint32_t w, uint32_t mask)
{
    return dev_fma_bf16x2(dev_merge(w, mask, 0x43004300u), 0x3f803f80u,
                          0xc300c300u); /* times 1, minus 128 */
}

#endif
