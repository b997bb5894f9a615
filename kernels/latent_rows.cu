/* Latents into the cache and out of it: a warp a row, 8 elements a thread at a time. */
#include "kernels/dev.h"

#include "kernels/cache_dev.h"
#include "kernels/latent_dev.h"
#include "kernels/latent_rows.h"

enum { WARPS = LATENT_ROWS_THREADS / 32, DIM_MAX = LATENT_RANK_MAX + LATENT_ROPE_MAX };
enum { TURNS = (DIM_MAX + 255) / 256 };

struct eight {
    float x[8];
};

struct source { /* of the row of this warp */
    const uint16_t *latent, *position;
    uint32_t rank;
    bool fp16;
};

DEV struct eight load_eight(struct lane *t, const struct source *s, uint32_t first)
{
    bool late = first >= s->rank;
    struct vec128 v = dev_load128(t, late ? s->position + first - s->rank : s->latent + first);
    struct eight e;

    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        e.x[i] = dev_from_16((uint16_t)(v.w[i / 2] >> 16 * (i % 2)), s->fp16);
    return e;
}

DEV float size_of(const struct eight *e)
{
    float m = 0.0f;

    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        m = fmaxf(m, dev_abs(e->x[i]));
    return m;
}

DEV void store_codes(struct lane *t, void *to, const struct eight *e, float scale, bool int8)
{
    uint64_t codes = 0;

    UNROLL
    for (uint32_t i = 0; i < 8; i++) {
        float x = e->x[i] / scale;
        uint32_t code = int8 ? (uint32_t)(int32_t)dev_round(fminf(fmaxf(x, -127.0f), 127.0f))
                             : dev_to_e4m3(x);
        codes |= (uint64_t)(code & 0xffu) << 8 * i;
    }
    dev_conversions(t, 8);
    dev_store64(t, to, codes);
}

DEV void store_plain(struct lane *t, void *to, const struct eight *e, bool fp16)
{
    struct vec128 v;

    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        v.w[i] = dev_pack_16(e->x[2 * i], e->x[2 * i + 1], fp16);
    dev_store128(t, to, v);
}

/* fp8_ds_mla: the scale of the 16 threads that have a group, which one of them stores. */
DEV float group_scale(struct lane *t, const struct cache_side *s, uint64_t row, uint32_t first,
                      float size)
{
    uint32_t rank = s->dim - s->rope;
    uint8_t *scales = (uint8_t *)s->codes + row * cache_row_bytes(s) + rank;
    float scale = dev_max(t, size, LATENT_GROUP / 8) / 448.0f;

    scale = scale > 0.0f ? scale : 1.0f;
    if (first < rank && first % LATENT_GROUP == 0)
        dev_store_float(t, scales + first / LATENT_GROUP * 4, scale);
    return scale;
}

/* Of a whole row of codes: its own, or that of all rows. */
DEV float row_scale(struct lane *t, const struct cache_side *s, uint64_t row,
                    const struct eight *e)
{
    float size = 0.0f, scale = s->scale;

    UNROLL
    for (uint32_t i = 0; i < TURNS; i++)
        size = fmaxf(size, size_of(&e[i]));
    size = dev_max(t, size, 32);
    if (!s->scales)
        return scale;
    scale = size > 0.0f ? size / (s->store == STORE_INT8 ? 127.0f : 448.0f) : 1.0f;
    if (!dev_lane(t))
        dev_store_float(t, (float *)s->scales + row, scale);
    return scale;
}

DEV void append_body(struct lane *t, const struct latent_append_args *a)
{
    const struct cache_side *s = &a->c.k;
    uint64_t row = (uint64_t)dev_block(t, 0) * WARPS + dev_warp(t);
    uint32_t rank = s->dim - s->rope;
    struct eight e[TURNS];
    float scale = 1.0f;

    if (row >= a->rows)
        return;
    struct head_at h = cache_head(&a->c, dev_load32(t, a->sequence + row), 0);
    struct place p = cache_place(t, &a->c, &h, dev_load32(t, a->index + row), true);
    struct source from = {(const uint16_t *)a->latent + row * rank,
                          s->rope ? (const uint16_t *)a->position + row * s->rope : NULL, rank,
                          s->store == STORE_FP16};
    UNROLL
    for (uint32_t i = 0; i < TURNS; i++) {
        uint32_t first = 256 * i + 8 * dev_lane(t);
        UNROLL
        for (uint32_t j = 0; j < 8; j++)
            e[i].x[j] = 0.0f;
        if (first < s->dim)
            e[i] = load_eight(t, &from, first);
    }
    if (store_bits(s->store) == 8 && s->store != STORE_DS_MLA)
        scale = row_scale(t, s, p.row, e);
    UNROLL
    for (uint32_t i = 0; i < TURNS; i++) {
        uint32_t first = 256 * i + 8 * dev_lane(t);
        void *to = (void *)piece_at(s, s->store, p.row, first);
        if (s->store == STORE_DS_MLA)
            scale = group_scale(t, s, p.row, first, size_of(&e[i]));
        if (first >= s->dim)
            continue;
        if (piece_is_coded(s, s->store, first))
            store_codes(t, to, &e[i], scale, s->store == STORE_INT8);
        else
            store_plain(t, to, &e[i], from.fp16);
    }
}

DEV void unpack_body(struct lane *t, const struct latent_unpack_args *a)
{
    const struct cache_side *s = &a->c.k;
    uint64_t row = (uint64_t)dev_block(t, 0) * WARPS + dev_warp(t);
    uint32_t rank = s->dim - s->rope;
    uint16_t *latent = (uint16_t *)a->latent + row * rank;
    uint16_t *keys = (uint16_t *)a->keys + row * a->heads * a->stride + a->stride - s->rope;

    if (row >= a->rows)
        return;
    struct head_at h = cache_head(&a->c, 0, 0);
    struct place p = cache_place(t, &a->c, &h, (uint32_t)row, true);
    for (uint32_t first = 8 * dev_lane(t); first < s->dim; first += 256) {
        struct piece x = piece_load(t, s, s->store, p.row, first);
        struct vec128 v = piece_decode(t, s, s->store, first, &x);
        if (first < rank)
            dev_store128(t, latent + first, v);
        else
            for (uint32_t n = 0; n < a->heads; n++)
                dev_store128(t, keys + (uint64_t)n * a->stride + first - rank, v);
    }
}

KERNEL(latent_append_kernel, LATENT_ROWS_THREADS, struct latent_append_args, append_body(t, a))
KERNEL(latent_unpack_kernel, LATENT_ROWS_THREADS, struct latent_unpack_args, unpack_body(t, a))

static struct shape shape_of(uint32_t rows)
{
    struct shape s = {{(rows + WARPS - 1) / WARPS, 1, 1}, LATENT_ROWS_THREADS, 0};

    return s;
}

LAUNCHER(latent_append)
{
    const struct latent_append_args *a = (const struct latent_append_args *)args;

    return LAUNCH(latent_append_kernel, shape_of(a->rows), a);
}

LAUNCHER(latent_unpack)
{
    const struct latent_unpack_args *a = (const struct latent_unpack_args *)args;

    return LAUNCH(latent_unpack_kernel, shape_of(a->rows), a);
}
