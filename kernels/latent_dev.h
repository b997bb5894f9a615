/* Device code for rows of latents: 8 elements read as they are stored, and decoded to 16 bits.
 * Included by .cu files. */
#ifndef KVBUDGET_KERNELS_LATENT_DEV_H
#define KVBUDGET_KERNELS_LATENT_DEV_H

#include "kernels/dev.h"

#include "kernels/unit_dev.h"

enum { LATENT_GROUP = 128 }; /* elements of fp8_ds_mla under one scale */

struct piece { /* 8 elements as stored */
    uint32_t w[4];
    float scale;
};

/* Whether elements first .. first + 7 are codes of 8 bits. */
DEV bool piece_is_coded(const struct cache_side *s, enum store store, uint32_t first)
{
    return store_bits(store) == 8 && (store != STORE_DS_MLA || first < s->dim - s->rope);
}

/* Where they begin. */
DEV const uint8_t *piece_at(const struct cache_side *s, enum store store, uint64_t row,
                            uint32_t first)
{
    const uint8_t *codes = (const uint8_t *)s->codes;
    uint32_t rank = s->dim - s->rope;

    if (store != STORE_DS_MLA)
        return codes + (row * s->dim + first) * store_bits(store) / 8;
    codes += row * cache_row_bytes(s);
    if (first < rank)
        return codes + first;
    return codes + rank + rank / LATENT_GROUP * 4 + 2 * (first - rank);
}

DEV float piece_scale(struct lane *t, const struct cache_side *s, enum store store,
                      uint64_t row, uint32_t first)
{
    uint32_t rank = s->dim - s->rope;

    if (store == STORE_DS_MLA)
        return dev_load_float(t, (const uint8_t *)s->codes + row * cache_row_bytes(s) + rank +
                                     first / LATENT_GROUP * 4);
    return s->scales ? dev_load_float(t, (const float *)s->scales + row) : s->scale;
}

DEV struct piece piece_load(struct lane *t, const struct cache_side *s, enum store store,
                            uint64_t row, uint32_t first)
{
    const uint8_t *from = piece_at(s, store, row, first);
    struct piece p = {{0, 0, 0, 0}, 1.0f};

    if (piece_is_coded(s, store, first)) {
        uint64_t w = dev_load64(t, from);
        p.w[0] = (uint32_t)w;
        p.w[1] = (uint32_t)(w >> 32);
        p.scale = piece_scale(t, s, store, row, first);
        return p;
    }
    struct vec128 v = dev_stream128(t, from);
    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        p.w[i] = v.w[i];
    return p;
}

/* Codes times their scale, rounded to bf16. */
DEV struct vec128 piece_decode(struct lane *t, const struct cache_side *s, enum store store,
                               uint32_t first, const struct piece *p)
{
    struct unit u = {{p->w[0], p->w[1], p->w[2], p->w[3]}, {0, 0, 0, 0, 0, 0, 0, 0}, false};
    struct vec128 v = {{p->w[0], p->w[1], p->w[2], p->w[3]}};

    if (!piece_is_coded(s, store, first))
        return v;
    unit_decode(&u, store == STORE_INT8 ? STORE_INT8 : STORE_FP8, false, v.w);
    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        v.w[i] = dev_pack_bf16(dev_from_bf16((uint16_t)v.w[i]) * p->scale,
                               dev_from_bf16((uint16_t)(v.w[i] >> 16)) * p->scale);
    dev_conversions(t, 8);
    dev_flop(t, 8, 0);
    return v;
}

#endif
