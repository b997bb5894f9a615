/* A step at a budget. replace: a block a head finds the lowest score, then moves at most two
 * rows. carry: a block a list; a group of scores is read, and only then written, as rows are
 * in compact. */
#include "kernels/dev.h"

#include "kernels/cache_dev.h"
#include "kernels/move_dev.h"
#include "kernels/replace.h"

enum { WARPS = REPLACE_THREADS / 32 };

/* The larger value, of equals the larger place, of the warp. Places are exact in fp32. */
DEV void warp_last(struct lane *t, float *value, float *place)
{
    float most = dev_max(t, *value, 32);

    *place = dev_max(t, *value == most ? *place : -1.0f, 32);
    *value = most;
}

/* The row that goes: the last of the lowest of the heavy ones and `leaving`, which counts as
 * place heavy. Returns its place. */
DEV uint32_t loser_of(struct lane *t, const struct replace_args *a, const float *scores,
                      uint32_t leaving)
{
    float *values = (float *)dev_shared(t), *places = values + WARPS;
    float value = dev_float(0xff800000u), place = -1.0f; /* of scores with the sign changed */

    for (uint32_t i = dev_thread(t); i <= a->heavy; i += REPLACE_THREADS) {
        float x = -dev_load_float(t, scores + (i < a->heavy ? i : leaving));
        if (x >= value) {
            value = x;
            place = (float)i;
        }
    }
    warp_last(t, &value, &place);
    if (!dev_lane(t)) {
        values[dev_warp(t)] = value;
        places[dev_warp(t)] = place;
    }
    dev_barrier(t);
    for (uint32_t w = 0; w < WARPS; w++)
        if (values[w] > value || (values[w] == value && places[w] > place)) {
            value = values[w];
            place = places[w];
        }
    return place < (float)a->heavy ? (uint32_t)place : leaving;
}

/* A row of both sides, and its score, from one place to another. A thread always has the same
 * elements of a row, so that one move after the other needs no barrier. */
DEV void move_row(struct lane *t, const struct replace_args *a, float *scores, uint32_t from,
                  uint32_t to)
{
    const struct cache_view *c = &a->c;
    struct head_at h = cache_head(c, dev_block(t, 1), dev_block(t, 0));
    uint32_t k_units = c->k.dim / 8, me = dev_thread(t);

    if (me < k_units + c->v.dim / 8) {
        const struct cache_side *s = me < k_units ? &c->k : &c->v;
        uint32_t first = 8 * (me < k_units ? me : me - k_units);
        struct place x = cache_place(t, c, &h, from, true), y = cache_place(t, c, &h, to, true);
        struct moving m = pick_up(t, s, x.row, first);
        put_down(t, s, y.row, first, &m);
    }
    if (scores && !me)
        dev_store_float(t, scores + to, dev_load_float(t, scores + from));
}

DEV void replace_body(struct lane *t, const struct replace_args *a)
{
    const struct cache_view *c = &a->c;
    uint32_t head = dev_block(t, 0), sequence = dev_block(t, 1);
    uint64_t list = (uint64_t)sequence * c->heads + head;
    float *scores = a->scores ? a->scores + list * a->width : a->scores;
    uint32_t slot = dev_load32(t, a->slot + sequence), last = a->heavy + a->recent;
    uint32_t leaving = last, loser;

    if (slot == UINT32_MAX)
        return;
    if (a->recent)
        leaving = a->heavy + slot;
    loser = leaving;
    if (scores)
        loser = loser_of(t, a, scores, leaving);
    if (loser != leaving)
        move_row(t, a, scores, leaving, loser);
    if (a->recent)
        move_row(t, a, scores, last, leaving);
    if (!dev_thread(t) && (c->ragged || !head))
        dev_store32(t, a->lengths + cache_slot_of(c, sequence, head), last);
}

DEV void carry_body(struct lane *t, const struct carry_args *a)
{
    uint32_t list = dev_block(t, 0), keep = dev_load32(t, a->keep + list);
    uint64_t first = (uint64_t)list * a->width;

    for (uint32_t begin = 0; begin < keep; begin += CARRY_THREADS) {
        uint32_t j = begin + dev_thread(t);
        float x = 0.0f;
        if (j < keep)
            x = dev_load_float(t, a->scores + first + dev_load32(t, a->index + first + j));
        dev_barrier(t);
        if (j < keep)
            dev_store_float(t, a->scores + first + j, x);
        dev_barrier(t);
    }
}

KERNEL(replace_kernel, REPLACE_THREADS, struct replace_args, replace_body(t, a))
KERNEL(carry_kernel, CARRY_THREADS, struct carry_args, carry_body(t, a))

LAUNCHER(replace)
{
    const struct replace_args *a = (const struct replace_args *)args;
    struct shape s = {{a->c.heads, a->c.sequences, 1}, REPLACE_THREADS, 2 * 4 * WARPS};

    return LAUNCH(replace_kernel, s, a);
}

LAUNCHER(carry)
{
    const struct carry_args *a = (const struct carry_args *)args;
    struct shape s = {{a->lists, 1, 1}, CARRY_THREADS, 0};

    return LAUNCH(carry_kernel, s, a);
}
