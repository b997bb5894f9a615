/* Keys turned by their age in a ring: a warp a row; the first rotary / 16 threads take 8
 * elements and their 8 partners each, then all copy what does not turn. */
#include "kernels/dev.h"

#include "kernels/cache_dev.h"
#include "kernels/ring.h"

enum { WARPS = TURN_THREADS / 32 };

DEV void turn_pairs(struct lane *t, const struct turn_args *a, const float *turn,
                    const uint16_t *from, uint16_t *to)
{
    bool fp16 = a->c.k.store == STORE_FP16;
    uint32_t half = a->rotary / 2, first = 8 * dev_lane(t);
    struct vec128 x = dev_load128(t, from + first), y = dev_load128(t, from + first + half);

    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        struct vec128 pairs = dev_load128(t, turn + 2 * first + 4 * i);
        float re[2], im[2];
        UNROLL
        for (uint32_t j = 0; j < 2; j++) {
            float a0 = dev_from_16((uint16_t)(x.w[i] >> 16 * j), fp16);
            float b0 = dev_from_16((uint16_t)(y.w[i] >> 16 * j), fp16);
            float cosine = dev_float(pairs.w[2 * j]), sine = dev_float(pairs.w[2 * j + 1]);
            re[j] = a0 * cosine - b0 * sine;
            im[j] = b0 * cosine + a0 * sine;
        }
        x.w[i] = dev_pack_16(re[0], re[1], fp16);
        y.w[i] = dev_pack_16(im[0], im[1], fp16);
    }
    dev_flop(t, 48, 0);
    dev_store128(t, to + first, x);
    dev_store128(t, to + first + half, y);
}

DEV void turn_body(struct lane *t, const struct turn_args *a)
{
    const struct cache_view *c = &a->c;
    uint32_t head = dev_block(t, 1), sequence = dev_block(t, 2), me = dev_lane(t);
    uint32_t n = dev_load32(t, c->lengths + cache_slot_of(c, sequence, head));
    uint32_t newest = dev_load32(t, a->newest + sequence);
    uint32_t base = dev_load32(t, a->base + sequence), step = dev_blocks(t, 0) * WARPS;
    struct head_at h = cache_head(c, sequence, head);

    for (uint32_t i = dev_block(t, 0) * WARPS + dev_warp(t); i < n; i += step) {
        struct place p = cache_place(t, c, &h, i, true);
        const uint16_t *from = (const uint16_t *)c->k.codes + p.row * c->k.dim;
        uint16_t *to = (uint16_t *)a->out + p.row * c->k.dim;
        uint32_t position = ring_position(&a->ring, base, newest, i);
        if (me < a->rotary / 16)
            turn_pairs(t, a, a->table + (uint64_t)position * a->rotary, from, to);
        if (a->rotary + 8 * me < c->k.dim)
            dev_store128(t, to + a->rotary + 8 * me, dev_load128(t, from + a->rotary + 8 * me));
    }
}

KERNEL(turn_kernel, TURN_THREADS, struct turn_args, turn_body(t, a))

LAUNCHER(turn)
{
    const struct turn_args *a = (const struct turn_args *)args;
    struct shape s = {{a->blocks, a->c.heads, a->c.sequences}, TURN_THREADS, 0};

    return LAUNCH(turn_kernel, s, a);
}
