/* Device code for rows of a cache: units of 8 elements, read as they are stored and decoded to
 * 16 bits. Included by .cu files. `store` and `value` are given apart so that they are
 * constants where a kernel is made for one format. */
#ifndef KVBUDGET_KERNELS_UNIT_DEV_H
#define KVBUDGET_KERNELS_UNIT_DEV_H

#include "kernels/dev.h"

#include "kernels/cache_dev.h"

struct unit { /* 8 elements as stored */
    uint32_t code[4], scale[8];
    bool full;
};

DEV void unit_scales(struct lane *t, const struct cache_view *c, const struct place *p,
                     uint32_t first, bool value, struct unit *u)
{
    const struct cache_side *s = value ? &c->v : &c->k;
    const uint32_t *scales = (const uint32_t *)s->scales;

    if (value || s->store == STORE_INT4) {
        u->scale[0] = dev_load32(t, scales + p->row * (s->dim / s->group) + first / s->group);
        return;
    }
    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        struct vec128 v = dev_load128(t, scales + p->row / s->group * s->dim + first + 4 * i);
        UNROLL
        for (uint32_t j = 0; j < 4; j++)
            u->scale[4 * i + j] = v.w[j];
    }
}

/* Loads elements first .. first + 7. `quantized`: tokens of the sequence that are. */
DEV struct unit unit_load(struct lane *t, const struct cache_view *c, const struct head_at *h,
                          const struct place *p, uint32_t first, enum store store, bool value,
                          uint32_t quantized)
{
    const struct cache_side *s = value ? &c->v : &c->k;
    struct unit u = {{0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 0, 0}, false};
    uint64_t at = p->row * s->dim + first;

    if (!p->valid || first >= s->dim)
        return u;
    u.full = store_is_kivi(store) && p->token >= quantized;
    if (u.full)
        at = (h->full_row + p->token % c->residual) * s->dim + first;
    if (u.full || store_bits(store) == 16) {
        const uint16_t *from = (const uint16_t *)(u.full ? s->full : s->codes);
        struct vec128 v = dev_stream128(t, from + at);
        UNROLL
        for (uint32_t i = 0; i < 4; i++)
            u.code[i] = v.w[i];
        return u;
    }
    dev_conversions(t, 8);
    if (store_bits(store) == 8) {
        uint64_t w = dev_load64(t, (const uint8_t *)s->codes + at);
        u.code[0] = (uint32_t)w;
        u.code[1] = (uint32_t)(w >> 32);
        return u;
    }
    if (store_bits(store) == 4)
        u.code[0] = dev_load32(t, (const uint8_t *)s->codes + at / 2);
    else
        u.code[0] = dev_load16(t, (const uint8_t *)s->codes + at / 4);
    unit_scales(t, c, p, first, value, &u);
    return u;
}

/* code * scale + minimum for two elements; pairs hold the scale low and the minimum high. */
DEV uint32_t unit_affine(uint32_t codes, uint32_t pair0, uint32_t pair1)
{
    return dev_fma_bf16x2(codes, dev_permute(pair0, pair1, 0x5410),
                          dev_permute(pair0, pair1, 0x7632));
}

/* Elements 2 m and 2 m + 1 as a word; 8-bit formats without their scale. */
DEV uint32_t unit_pair(const struct unit *u, uint32_t m, enum store store, bool by_channel)
{
    uint32_t w = u->code[m / 2 % 4];

    if (u->full || store_bits(store) == 16)
        return u->code[m];
    if (store == STORE_FP8)
        return dev_e4m3x2(dev_permute(w, 0, m % 2 ? 0x3424 : 0x1404));
    if (store == STORE_INT8)
        return dev_bytex2(dev_permute(w, 0, m % 2 ? 0x4342 : 0x4140));
    if (store == STORE_KIVI2)
        w = dev_codex2(((u->code[0] & 0xffu) | (u->code[0] & 0xff00u) << 8) >> 2 * m,
                       0x00030003u);
    else
        w = dev_codex2(u->code[0] >> 4 * m, 0x000f000fu);
    return unit_affine(w, u->scale[by_channel ? 2 * m : 0],
                       u->scale[by_channel ? 2 * m + 1 : 0]);
}

DEV void unit_decode(const struct unit *u, enum store store, bool value, uint32_t *out)
{
    UNROLL
    for (uint32_t m = 0; m < 4; m++)
        out[m] = unit_pair(u, m, store, store_is_kivi(store) && !value);
}

/* The scale of an 8-bit row; 1 for other formats. */
DEV float cache_scale(struct lane *t, const struct cache_side *s, const struct place *p,
                      enum store store)
{
    if (store_bits(store) != 8 || !p->valid)
        return 1.0f;
    return s->scales ? dev_load_float(t, (const float *)s->scales + p->row) : s->scale;
}

#endif
