/* Device code for activations: eight neighbours at a time, in 16 bits or in fp32. Included by
 * .cu files. */
#ifndef KVBUDGET_KERNELS_EIGHT_DEV_H
#define KVBUDGET_KERNELS_EIGHT_DEV_H

#include "kernels/dev.h"

#define DEV_LOG2E 1.4426950408889634f

struct eight {
    float x[8];
};

DEV struct eight eight_load(struct lane *t, const void *p, uint64_t at, bool fp16)
{
    struct vec128 v = dev_load128(t, (const uint16_t *)p + at);
    struct eight e;

    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        e.x[i] = dev_from_16((uint16_t)(v.w[i / 2] >> 16 * (i % 2)), fp16);
    return e;
}

DEV void eight_store(struct lane *t, void *p, uint64_t at, const struct eight *e, bool fp16)
{
    struct vec128 v;

    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        v.w[i] = dev_pack_16(e->x[2 * i], e->x[2 * i + 1], fp16);
    dev_store128(t, (uint16_t *)p + at, v);
}

/* The same where the elements are fp32 if `wide`. */
DEV struct eight eight_load_any(struct lane *t, const void *p, uint64_t at, bool fp16,
                                bool wide)
{
    struct eight e;

    if (!wide)
        return eight_load(t, p, at, fp16);
    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        struct vec128 v = dev_load128(t, (const float *)p + at + 4 * i);
        UNROLL
        for (uint32_t j = 0; j < 4; j++)
            e.x[4 * i + j] = dev_float(v.w[j]);
    }
    return e;
}

DEV void eight_store_any(struct lane *t, void *p, uint64_t at, const struct eight *e, bool fp16,
                         bool wide)
{
    if (!wide) {
        eight_store(t, p, at, e, fp16);
        return;
    }
    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        struct vec128 v;
        UNROLL
        for (uint32_t j = 0; j < 4; j++)
            v.w[j] = dev_bits(e->x[4 * i + j]);
        dev_store128(t, (float *)p + at + 4 * i, v);
    }
}

/* 1 / (1 + exp(-x)) */
DEV float dev_sigmoid(float x)
{
    return 1.0f / (1.0f + dev_exp2(x * -DEV_LOG2E));
}

#endif
