/* Random weights as they are stored: codes and scales of any value that a kind has but
 * not-a-numbers, for decoders that stand in for real ones. */
#include "kernels/dev.h"

#include "kernels/weight.h"

/* A hash of its arguments (the finalizer of MurmurHash3, twice), products cut to 32 bits. */
DEV uint32_t hash(uint64_t seed, uint64_t at)
{
    uint32_t h = (uint32_t)seed ^ (uint32_t)at;

    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        h ^= h >> 16;
        h = (uint32_t)((uint64_t)h * 0x85ebca6bu & 0xffffffffu);
        h ^= h >> 13;
        h = (uint32_t)((uint64_t)h * 0xc2b2ae35u & 0xffffffffu);
        h ^= h >> 16 ^ (uint32_t)(seed >> 32) ^ (uint32_t)(at >> 32);
    }
    return h;
}

/* Even in [-1/2, 1/2). */
DEV float even(uint32_t h)
{
    return (float)(h >> 8) * 5.9604644775390625e-8f - 0.5f;
}

/* Four bytes of codes; not-a-numbers of e4m3 become its largest. */
DEV uint32_t codes_at(const struct weight_fill_args *a, uint64_t at)
{
    uint32_t h = hash(a->seed, at);
    bool fp8 = a->w.kind == WEIGHT_FP8 || a->w.kind == WEIGHT_FP8_BLOCK;

    if (a->w.kind == WEIGHT_FP32)
        return dev_bits(even(h) * 3.4641016f * a->scale);
    UNROLL
    for (uint32_t i = 0; fp8 && i < 32; i += 8)
        h ^= (h >> i & 0x7fu) == 0x7fu ? 1u << i : 0;
    return h;
}

/* A block's scales, all alike, and its factors, so that codes in the middle are nought. */
DEV void fill_block(struct lane *t, const struct weight_fill_args *a, uint64_t at,
                    uint32_t scale)
{
    bool wide = a->w.kind == WEIGHT_Q6_K;
    uint32_t words = wide ? 4 : 3;
    uint64_t twelve = scale | scale << 6,
             bits = twelve | twelve << 12 | twelve << 24 | twelve << 36;
    float factor = a->scale / 31.5f;
    float minimum = factor * (a->w.kind == WEIGHT_Q4_K ? 7.5f : 15.5f);

    for (uint32_t i = 0; i < words; i++) /* of each group 12 bits, or 8 twice */
        dev_store32(t, (uint32_t *)a->w.scales + words * at + i,
                    wide ? scale | scale << 8 | scale << 16 | scale << 24
                         : (uint32_t)(bits >> 8 * i % 12));
    if (wide)
        dev_store16(t, (uint16_t *)a->w.factors + at, (uint16_t)dev_pack_fp16(factor, 0.0f));
    else
        dev_store32(t, (uint32_t *)a->w.factors + at, dev_pack_fp16(factor, minimum));
}

/* Scales differ by up to a half. */
DEV void fill_scale(struct lane *t, const struct weight_fill_args *a, uint64_t at)
{
    uint32_t h = hash(~a->seed, at);
    float scale = a->scale * (1.0f + 0.5f * even(h));
    void *p = (void *)a->w.scales;

    switch (a->w.kind) {
    case WEIGHT_FP32: return;
    case WEIGHT_Q4_K:
    case WEIGHT_Q5_K:
    case WEIGHT_Q6_K: fill_block(t, a, at, 24u + h % 16u); return; /* 31.5 in the middle */
    case WEIGHT_MXFP4: /* the power of two below, or that twice */
        dev_store8(t, (uint8_t *)p + at,
                   (uint8_t)((dev_bits(a->scale * 0.894f) >> 23) + h % 2));
        return;
    case WEIGHT_NVFP4: /* 0.75 to 1.25 */
        dev_store8(t, (uint8_t *)p + at, dev_to_e4m3(1.0f + 0.5f * even(h)));
        return;
    case WEIGHT_INT8_GROUP:
    case WEIGHT_INT4_GROUP:
        dev_store16(t, (uint16_t *)p + at, (uint16_t)dev_pack_16(scale, 0.0f, a->fp16));
        return;
    case WEIGHT_FP8:
    case WEIGHT_FP8_BLOCK:
    case WEIGHT_INT8:
    case WEIGHT_NF4: break;
    }
    dev_store_float(t, (float *)p + at, scale);
}

/* A thread: 16 bytes of codes, or one element of another plane. Zeros are those of the middle
 * codes, or one less. */
DEV void weight_fill_body(struct lane *t, const struct weight_fill_args *a)
{
    uint64_t at = (uint64_t)dev_block(t, 0) * WEIGHT_THREADS + dev_thread(t);
    bool wide = a->w.kind == WEIGHT_INT8_GROUP;
    struct vec128 v;

    UNROLL
    for (uint32_t i = 0; i < 4 && at < a->codes; i++)
        v.w[i] = codes_at(a, 4 * at + i);
    if (at < a->codes)
        dev_store128(t, (struct vec128 *)a->w.codes + at, v);
    if (at < a->high)
        dev_store32(t, (uint32_t *)a->w.high + at, hash(a->seed ^ 0x5555u, at));
    if (at < a->scales)
        fill_scale(t, a, at);
    if (a->w.ordered && at < a->w.in)
        dev_store32(t, (uint32_t *)a->w.order + at, (uint32_t)(at * a->stride % a->w.in));
    if (at < a->zeros)
        dev_store8(t, (uint8_t *)a->w.zeros + at,
                   (uint8_t)(wide ? 0x7fu + hash(a->seed, at) % 2
                                  : 0x77u + (hash(a->seed, at) & 0x11u)));
    if (a->w.kind == WEIGHT_NVFP4 && !at)
        dev_store_float(t, (float *)a->w.factors, a->scale);
}

KERNEL(weight_fill_kernel, WEIGHT_THREADS, struct weight_fill_args, weight_fill_body(t, a))

LAUNCHER(weight_fill)
{
    const struct weight_fill_args *a = (const struct weight_fill_args *)args;
    uint64_t n = a->codes > a->scales ? a->codes : a->scales;
    struct shape s = {{1, 1, 1}, WEIGHT_THREADS, 0};

    n = a->high > n ? a->high : n;
    n = a->w.ordered && a->w.in > n ? a->w.in : n;
    s.grid[0] = (uint32_t)((n + WEIGHT_THREADS - 1) / WEIGHT_THREADS);
    return LAUNCH(weight_fill_kernel, s, a);
}
