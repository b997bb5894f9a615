/* StreamingLLM's cache: the first tokens (sinks) and the newest, where a new row takes the
 * place of the oldest that is not a sink, so that nothing moves.
 *
 * After every step sinks + recent rows are stored; inside a step the new row is there besides,
 * and the oldest of the recent ones goes only after it. So the ring has recent + 1 places: the
 * one that is free between two steps is where the next row goes.
 *
 *     place of token i   i, for sinks; else sinks + (i - base) % (recent + 1)
 *
 * base: the token in the ring's first place: `sinks` if tokens came one by one or the prompt
 * fitted; else prompt - recent, where select_run (sinks, recent) and compact_run put it.
 *
 * Keys are cached before their rotation, and turned anew at each step by their age in the
 * cache: sinks by 0, 1 ..., then the recent ones in order. source:
 * mit-han-lab/streaming-llm@2e50426 kv_cache.py, pos_shift/modify_llama.py. */
#ifndef KVBUDGET_KERNELS_RING_H
#define KVBUDGET_KERNELS_RING_H

#include "kernels/cache.h"
#include "kernels/device.h"

enum { TURN_THREADS = 128 };

struct ring {
    uint32_t sinks, recent;
};

/* The base after a prompt. */
DEV_SHARED uint32_t ring_base(const struct ring *r, uint32_t prompt)
{
    return prompt > r->sinks + r->recent ? prompt - r->recent : r->sinks;
}

DEV_SHARED uint32_t ring_place(const struct ring *r, uint32_t base, uint32_t token)
{
    return token < r->sinks ? token : r->sinks + (token - base) % (r->recent + 1);
}

/* Rows in use during the step of token `newest`, and after it. */
DEV_SHARED uint32_t ring_rows(const struct ring *r, uint32_t newest, bool after)
{
    uint32_t most = r->sinks + r->recent + !after;

    return newest < most ? newest + 1 : most;
}

/* By how many positions the key at `place` turns during the step of token `newest`; base as
 * above. Only for places in use. */
DEV_SHARED uint32_t ring_position(const struct ring *r, uint32_t base, uint32_t newest,
                                  uint32_t place)
{
    uint32_t round = r->recent + 1, last = ring_rows(r, newest, false) - 1;

    if (place < r->sinks)
        return place;
    return last - (ring_place(r, base, newest) + round - place) % round;
}

/* Keys of all rows in use, turned as `rope_args` of layer.h turns them, into other memory. */
struct turn_args {
    struct cache_view c; /* K in bf16 or fp16; lengths: ring_rows inside the step */
    void *out;           /* as c.k.codes: the keys, for a view whose k.codes it is */
    struct ring ring;
    const uint32_t *newest, *base; /* [sequences] */
    const float *table;            /* [sinks + recent + 1][rotary / 2] pairs (cos, sin) */
    uint32_t rotary;               /* a multiple of 16, at most k.dim */
    uint32_t blocks;               /* that share the rows of a head */
};

enum device_status turn_run(struct device *d, const struct turn_args *a);

/* What turn_run issues; out is TAG_WORK, newest, base and the rotary table TAG_TABLES; lengths:
 * a copy in host memory. Adds to *t. */
void turn_traffic(const struct turn_args *a, const uint32_t *lengths, struct traffic *t);

#endif
