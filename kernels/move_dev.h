/* Device code for rows of a cache on their way to another place: 8 elements as they are stored,
 * and the scale that goes with them. Included by .cu files. Not for KIVI. */
#ifndef KVBUDGET_KERNELS_MOVE_DEV_H
#define KVBUDGET_KERNELS_MOVE_DEV_H

#include "kernels/dev.h"

#include "kernels/cache.h"

struct moving { /* 8 elements on the way */
    uint64_t code[2];
    uint32_t scale;
    bool scaled;
};

DEV struct moving pick_up(struct lane *t, const struct cache_side *s, uint64_t row,
                          uint32_t first)
{
    uint32_t bits = store_bits(s->store);
    const uint8_t *from = (const uint8_t *)s->codes + (row * s->dim + first) * bits / 8;
    struct moving m = {{0, 0}, 0, false};

    if (bits == 16) {
        struct vec128 v = dev_load128(t, from);
        m.code[0] = v.w[0] | (uint64_t)v.w[1] << 32;
        m.code[1] = v.w[2] | (uint64_t)v.w[3] << 32;
        return m;
    }
    m.code[0] = bits == 8 ? dev_load64(t, from) : dev_load32(t, from);
    m.scaled = bits == 8 ? s->scales && !first : first % s->group == 0;
    if (m.scaled) {
        uint64_t at = bits == 8 ? row : row * (s->dim / s->group) + first / s->group;
        m.scale = dev_load32(t, (const uint32_t *)s->scales + at);
    }
    return m;
}

DEV void put_down(struct lane *t, const struct cache_side *s, uint64_t row, uint32_t first,
                  const struct moving *m)
{
    uint32_t bits = store_bits(s->store);
    uint8_t *to = (uint8_t *)s->codes + (row * s->dim + first) * bits / 8;

    if (bits == 16) {
        struct vec128 v = {{(uint32_t)m->code[0], (uint32_t)(m->code[0] >> 32),
                            (uint32_t)m->code[1], (uint32_t)(m->code[1] >> 32)}};
        dev_store128(t, to, v);
    } else if (bits == 8) {
        dev_store64(t, to, m->code[0]);
    } else {
        dev_store32(t, to, (uint32_t)m->code[0]);
    }
    if (m->scaled) {
        uint64_t at = bits == 8 ? row : row * (s->dim / s->group) + first / s->group;
        dev_store32(t, (uint32_t *)s->scales + at, m->scale);
    }
}

#endif
