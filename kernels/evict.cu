/* Eviction. norms: a warp a row. select: a block a list; four passes over 8 bits of the keys
 * each find the smallest key that stays, a fifth writes the indices in order. compact: a block
 * a head; a group of rows is read, and only then written, so that rows may move down in place:
 * a row never lies before its new place. */
#include "kernels/dev.h"

#include "kernels/evict.h"
#include "kernels/move_dev.h"
#include "kernels/unit_dev.h"

enum { WARPS = EVICT_WARPS, DIGITS = 256 };

DEV void norms_body(struct lane *t, const struct norms_args *a)
{
    const struct cache_view *c = &a->c;
    uint32_t head = dev_block(t, 1), sequence = dev_block(t, 2), me = dev_lane(t);
    uint32_t n = dev_load32(t, c->lengths + cache_slot_of(c, sequence, head));
    uint32_t quantized = cache_quantized(c, false, n), step = dev_blocks(t, 0) * WARPS;
    struct head_at h = cache_head(c, sequence, head);
    float *out = a->scores + ((uint64_t)sequence * c->heads + head) * a->width;

    for (uint32_t i = dev_block(t, 0) * WARPS + dev_warp(t); i < n; i += step) {
        struct place p = cache_place(t, c, &h, i, true);
        struct unit u = unit_load(t, c, &h, &p, 8 * me, c->k.store, false, quantized);
        float scale = cache_scale(t, &c->k, &p, c->k.store), sum = 0.0f;
        uint32_t w[4];
        unit_decode(&u, c->k.store, false, w);
        UNROLL
        for (uint32_t j = 0; j < 8; j++) {
            float x =
                dev_from_16((uint16_t)(w[j / 2] >> 16 * (j % 2)), c->k.store == STORE_FP16);
            sum = dev_fma(x, x, sum);
        }
        if (8 * me < c->k.dim)
            dev_flop(t, 16, 0);
        else
            sum = 0.0f;
        sum = dev_sum(t, sum, 32);
        if (!me)
            dev_store_float(t, out + i, sqrtf(sum) * scale);
    }
}

/* Larger keys stay first. */
DEV uint32_t key_of(struct lane *t, const struct select_args *a, const float *scores,
                    uint32_t i, uint32_t n)
{
    uint32_t u = dev_bits(dev_load_float(t, scores + i));

    if (i < a->sinks || n - i <= a->recent)
        return UINT32_MAX;
    if ((u & 0x7fffffffu) == 0)
        u = 0; /* -0 equals 0 */
    u = u & 0x80000000u ? ~u : u | 0x80000000u;
    return a->smallest ? ~u : u;
}

struct shared {
    uint32_t count[DIGITS];
    uint32_t digit, left;              /* the digit that the last kept key has, and how many of
                                          those that share it are still to be kept */
    uint32_t ties[WARPS], kept[WARPS]; /* of this turn's warps */
};

/* The digit at `shift` of the key that is the last to stay: *left-th from above among keys that
 * begin with `prefix`. */
DEV void find_digit(struct lane *t, struct shared *sh, uint32_t left)
{
    uint32_t digit = DIGITS;

    if (dev_thread(t))
        return;
    while (digit-- > 1 && sh->count[digit] < left)
        left -= sh->count[digit];
    sh->digit = digit;
    sh->left = left;
}

/* Returns the smallest key that stays; *left: how many of its equals. */
DEV uint32_t threshold(struct lane *t, const struct select_args *a, const float *scores,
                       uint32_t n, uint32_t *left)
{
    struct shared *sh = (struct shared *)dev_shared(t);
    uint32_t prefix = 0;

    for (uint32_t pass = 0; pass < 4; pass++) {
        uint32_t shift = 24 - 8 * pass;
        for (uint32_t i = dev_thread(t); i < DIGITS; i += EVICT_THREADS)
            sh->count[i] = 0;
        dev_barrier(t);
        for (uint32_t i = dev_thread(t); i < n; i += EVICT_THREADS) {
            uint64_t key = key_of(t, a, scores, i, n);
            if (key >> (shift + 8) == prefix)
                (void)dev_shared_add(t, &sh->count[key >> shift & 0xff], 1);
        }
        dev_barrier(t);
        find_digit(t, sh, *left);
        dev_barrier(t);
        prefix = prefix << 8 | sh->digit;
        *left = sh->left;
    }
    return prefix;
}

/* How many of the threads before this one say yes, in the block's order; *all: of all. */
DEV uint32_t rank_of(struct lane *t, bool yes, uint32_t *counts, uint32_t *all)
{
    uint32_t bits = dev_ballot(t, yes), before = 0, rank = 0;

    if (!dev_lane(t)) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < 32; i++)
            n += bits >> i & 1u;
        counts[dev_warp(t)] = n;
    }
    dev_barrier(t);
    *all = 0;
    for (uint32_t w = 0; w < WARPS; w++) {
        before += w < dev_warp(t) ? counts[w] : 0;
        *all += counts[w];
    }
    for (uint32_t i = 0; i < dev_lane(t); i++)
        rank += bits >> i & 1u;
    return before + rank;
}

DEV void select_body(struct lane *t, const struct select_args *a)
{
    struct shared *sh = (struct shared *)dev_shared(t);
    uint32_t list = dev_block(t, 0), n = dev_load32(t, a->count + list);
    uint32_t left = dev_load32(t, a->keep + list), written = 0, ties, kept;
    const float *scores = a->scores + (uint64_t)list * a->width;
    uint32_t *out = a->index + (uint64_t)list * a->width;

    left = left < n ? left : n;
    uint32_t last = threshold(t, a, scores, n, &left);
    for (uint32_t first = 0; first < n; first += EVICT_THREADS) {
        uint32_t i = first + dev_thread(t), key = 0;
        bool inside = i < n, stays;
        if (inside)
            key = key_of(t, a, scores, i, n);
        uint32_t rank = rank_of(t, inside && key == last, sh->ties, &ties);
        stays = inside && (key > last || (key == last && rank < left));
        rank = rank_of(t, stays, sh->kept, &kept);
        if (stays)
            dev_store32(t, out + written + rank, i);
        left -= left < ties ? left : ties;
        written += kept;
        dev_barrier(t);
    }
}

DEV void compact_side(struct lane *t, const struct compact_args *a, bool value, uint32_t keep)
{
    const struct cache_view *c = &a->c;
    const struct cache_side *s = value ? &c->v : &c->k;
    uint32_t head = dev_block(t, 0), sequence = dev_block(t, 1);
    uint32_t units = s->dim / 8, rows = EVICT_THREADS / units;
    uint32_t mine = dev_thread(t) / units, first = dev_thread(t) % units * 8;
    struct head_at h = cache_head(c, sequence, head);
    const uint32_t *index = a->index + ((uint64_t)sequence * c->heads + head) * a->width;

    for (uint32_t begin = 0; begin < keep; begin += rows) {
        uint32_t j = begin + mine;
        bool moves = mine < rows && j < keep;
        struct moving m = {{0, 0}, 0, false};
        if (moves) {
            struct place from = cache_place(t, c, &h, dev_load32(t, index + j), true);
            m = pick_up(t, s, from.row, first);
        }
        dev_barrier(t);
        if (moves) {
            struct place to = cache_place(t, c, &h, j, true);
            put_down(t, s, to.row, first, &m);
        }
        dev_barrier(t);
    }
}

DEV void compact_body(struct lane *t, const struct compact_args *a)
{
    const struct cache_view *c = &a->c;
    uint32_t head = dev_block(t, 0), sequence = dev_block(t, 1);
    uint32_t keep = dev_load32(t, a->keep + (uint64_t)sequence * c->heads + head);

    compact_side(t, a, false, keep);
    compact_side(t, a, true, keep);
    if (!dev_thread(t) && (c->ragged || !head))
        dev_store32(t, a->lengths + cache_slot_of(c, sequence, head), keep);
}

KERNEL(norms_kernel, EVICT_THREADS, struct norms_args, norms_body(t, a))
KERNEL(select_kernel, EVICT_THREADS, struct select_args, select_body(t, a))
KERNEL(compact_kernel, EVICT_THREADS, struct compact_args, compact_body(t, a))

LAUNCHER(norms)
{
    const struct norms_args *a = (const struct norms_args *)args;
    struct shape s = {{a->blocks, a->c.heads, a->c.sequences}, EVICT_THREADS, 0};

    return LAUNCH(norms_kernel, s, a);
}

LAUNCHER(select)
{
    const struct select_args *a = (const struct select_args *)args;
    struct shape s = {{a->lists, 1, 1}, EVICT_THREADS, (uint32_t)sizeof(struct shared)};

    return LAUNCH(select_kernel, s, a);
}

LAUNCHER(compact)
{
    const struct compact_args *a = (const struct compact_args *)args;
    struct shape s = {{a->c.heads, a->c.sequences, 1}, EVICT_THREADS, 0};

    return LAUNCH(compact_kernel, s, a);
}
