/* The arithmetic of kernels/dev.h on the CPU: bit for bit what a GPU's instructions give.
 * Included through kernels/host/lane.h. */
#ifndef KVBUDGET_KERNELS_HOST_BITS_H
#define KVBUDGET_KERNELS_HOST_BITS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef DEV
#define DEV static inline
#endif

DEV uint32_t dev_bits(float x)
{
    uint32_t u;

    memcpy(&u, &x, sizeof u);
    return u;
}

DEV float dev_float(uint32_t u)
{
    float x;

    memcpy(&x, &u, sizeof x);
    return x;
}

DEV float dev_exp2(float x)
{
    return exp2f(x);
}

DEV float dev_fma(float a, float b, float c)
{
    return fmaf(a, b, c);
}

/* fp16, round to nearest even; beyond the range: infinity. */
DEV uint16_t dev_to_fp16(float x)
{
    uint32_t u = dev_bits(x), sign = u >> 16 & 0x8000u, size = u & 0x7fffffffu;

    if (size > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (size >= 0x477ff000u)
        return (uint16_t)(sign | 0x7c00u);
    if (size < 0x38800000u) /* below the normal numbers: a multiple of 2^-24 */
        return (uint16_t)(sign | (uint32_t)rintf(dev_float(size) * 16777216.0f));
    size += 0xfffu + (size >> 13 & 1);
    return (uint16_t)(sign | (size - 0x38000000u) >> 13);
}

DEV float dev_from_fp16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, size = h & 0x7fffu;

    if (size >= 0x7c00u)
        return dev_float(sign | 0x7f800000u | (size & 0x3ffu) << 13);
    if (size < 0x400u) {
        float x = (float)size / 16777216.0f;
        return sign ? -x : x;
    }
    return dev_float(sign | ((size << 13) + 0x38000000u));
}

/* bf16, round to nearest even. */
DEV uint16_t dev_to_bf16(float x)
{
    uint32_t u = dev_bits(x);

    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)(((uint64_t)u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

DEV uint32_t dev_pack_bf16(float low, float high)
{
    return dev_to_bf16(low) | (uint32_t)dev_to_bf16(high) << 16;
}

DEV uint32_t dev_pack_fp16(float low, float high)
{
    return dev_to_fp16(low) | (uint32_t)dev_to_fp16(high) << 16;
}

#define dev_merge(w, mask, rest) (((w) & (mask)) | (rest))

/* Byte i of the result is byte (s >> 4 i) & 7 of b:a. */
DEV uint32_t dev_permute(uint32_t a, uint32_t b, uint32_t s)
{
    uint64_t all = (uint64_t)b << 32 | a;
    uint32_t r = 0;

    for (uint32_t i = 0; i < 4; i++)
        r |= (uint32_t)(all >> 8 * (s >> 4 * i & 7) & 0xff) << 8 * i;
    return r;
}

DEV uint32_t dev_fma_bf16x2(uint32_t a, uint32_t b, uint32_t c)
{
    float low = fmaf(dev_float(a << 16), dev_float(b << 16), dev_float(c << 16));
    float high = fmaf(dev_float(a & 0xffff0000u), dev_float(b & 0xffff0000u),
                      dev_float(c & 0xffff0000u));

    return dev_pack_bf16(low, high);
}

DEV uint32_t dev_fma_fp16x2(uint32_t a, uint32_t b, uint32_t c)
{
    float low = fmaf(dev_from_fp16((uint16_t)a), dev_from_fp16((uint16_t)b),
                     dev_from_fp16((uint16_t)c));
    float high = fmaf(dev_from_fp16((uint16_t)(a >> 16)), dev_from_fp16((uint16_t)(b >> 16)),
                      dev_from_fp16((uint16_t)(c >> 16)));

    return dev_pack_fp16(low, high);
}

#endif
