/* Device code of prefill attention: what a block works on, and where the tokens of a step lie.
 * Included by prefill.cu. */
#ifndef KVBUDGET_KERNELS_PREFILL_DEV_H
#define KVBUDGET_KERNELS_PREFILL_DEV_H

#include <assert.h>

#include "kernels/dev.h"

#include "kernels/cache_dev.h"
#include "kernels/prefill.h"
#include "kernels/unit_dev.h"

enum { WARPS = PREFILL_THREADS / 32, PIECE_THREADS = 8, KEYS_MAX = 64, M_TILES_MAX = 2 };
enum { ROWS_MAX = 16 * WARPS * M_TILES_MAX, V_UNITS_MAX = CACHE_DIM_MAX / 16 };
enum { LOAD_ROWS = PREFILL_THREADS / PIECE_THREADS };

#define NONE (-1.0f / 0.0f)
#define LOG2E 1.4426950408889634f
#define LN2 0.6931471805599453f

/* What a kernel is made for; constants after inlining, but for the formats and the units of
 * those kernels that take any. */
struct make {
    enum store k, v;
    uint32_t m_tiles, keys;
    uint32_t k_units, v_units; /* of 16 elements */
    uint32_t k_room, v_room;   /* the most of them; constants */
    bool fp16;
    bool bends; /* scores may have a cap and slopes, and be of a selection (32 keys a step) */
};

struct row { /* of the tile: a query head of a token */
    struct prefill_view sees;
    uint32_t at; /* in q, out and lse, from the first row of the chunk */
    float m;     /* its largest score so far */
};

struct plan { /* of this block */
    struct head_at head;
    uint64_t chunk; /* its first row in q, out and lse */
    uint32_t length, rows;
    struct prefill_view some;    /* tokens that some row sees: sinks, start to end */
    uint32_t count;              /* and how many */
    uint32_t all_start, all_end; /* tokens that every row sees, besides sinks */
};

struct shared { /* then the tiles. What is used once a step is here to keep registers free */
    struct plan plan;
    struct row row[ROWS_MAX];
    float l[2 * M_TILES_MAX][PREFILL_THREADS]; /* sums of probabilities, by thread */
    uint64_t key[2][KEYS_MAX];                 /* rows of the cache, for a step and the next */
    float k_scale[2][KEYS_MAX], v_scale[2][KEYS_MAX];
};

enum { SHARED_BYTES = (sizeof(struct shared) + 15) / 16 * 16 };
/* The largest tiles: heads of 192 and 128 elements, and fp16 heads of 128. */
static_assert(SHARED_BYTES + 2 * ((128 + 64) * 200 + 64 * 136) <= 99 * 1024, "sm_86, sm_120");
static_assert(SHARED_BYTES + 2 * ((128 + 32) * 136 + 32 * 136) <= 64 * 1024, "sm_75");

struct job {
    const struct prefill_args *a;
    struct shared *sh;
    uint16_t *q, *k, *v; /* the tiles */
};

struct state {
    float x[M_TILES_MAX][KEYS_MAX / 8][4]; /* scores of a step, then probabilities */
    float o[M_TILES_MAX][2 * V_UNITS_MAX][4];
    uint32_t step;
};

DEV struct job job_of(struct lane *t, const struct prefill_args *a, const struct make mk)
{
    struct shared *sh = (struct shared *)dev_shared(t);
    uint32_t stride = prefill_stride(mk.k_units);
    uint16_t *q = (uint16_t *)sh + SHARED_BYTES / 2, *k = q + 16 * WARPS * mk.m_tiles * stride;
    struct job j = {a, sh, q, k, k + mk.keys * stride};

    return j;
}

/* The token at a place among those that some row sees. */
DEV uint32_t token_of(const struct prefill_view *some, uint32_t at)
{
    return at < some->sinks ? at : at + (some->start - some->sinks);
}

/* Thread 0 fills in the plan and thread i row i of the tile; others see them after a barrier.
 * False: the block has no rows. Rows of a chunk are counted over tokens and query heads. */
DEV bool prepare(struct lane *t, const struct job *j, const struct make mk)
{
    const struct prefill_args *a = j->a;
    uint32_t tile_rows = 16 * WARPS * mk.m_tiles, group = a->q_heads / a->c.heads;
    uint32_t sequence = dev_block(t, 2), head = dev_block(t, 1), me = dev_thread(t);
    uint32_t first = dev_load32(t, a->first + sequence);
    uint32_t total = (dev_load32(t, a->first + sequence + 1) - first) * group;
    uint32_t from = (dev_blocks(t, 0) - 1 - dev_block(t, 0)) * tile_rows; /* most work first */
    uint32_t last = from + tile_rows < total ? from + tile_rows - 1 : total - (total > 0);
    uint32_t i = from + me, offset, length;
    uint64_t slot = cache_slot_of(&a->c, sequence, head);

    if (from >= total)
        return false;
    offset = dev_load32(t, a->offset + slot);
    length = dev_load32(t, a->c.lengths + slot);
    if (!me) {
        struct prefill_view low = prefill_sees(a, offset, length, from / group);
        struct prefill_view high = prefill_sees(a, offset, length, last / group);
        struct plan p = {cache_head(&a->c, sequence, head),
                         (uint64_t)first * a->q_heads,
                         length,
                         last + 1 - from,
                         low,
                         0,
                         high.start,
                         low.end};
        p.some.end = high.end;
        p.count = low.sinks + high.end - low.start;
        j->sh->plan = p;
    }
    if (me < tile_rows) {
        struct row r = {{0, 0, 0}, 0, NONE};
        if (i <= last) {
            const uint16_t *sinks = (const uint16_t *)a->sinks;
            uint32_t q_head = head * group + i % group;
            r.sees = prefill_sees(a, offset, length, i / group);
            if (sinks)
                r.m = dev_from_16(dev_load16(t, sinks + q_head), mk.fp16) / a->scale;
        }
        r.at = i / group * a->q_heads + head * group + i % group;
        j->sh->row[me] = r;
    }
    UNROLL
    for (uint32_t n = 0; n < 2 * mk.m_tiles; n++)
        j->sh->l[n][me] = a->sinks && me % 4 == 0 ? 1.0f : 0.0f; /* the sink's own share */
    return true;
}

/* The page of this thread's token in `step`; 0 for threads that have none. */
DEV uint32_t find_page(struct lane *t, const struct job *j, const struct make mk, uint32_t step)
{
    const struct plan *p = &j->sh->plan;
    uint32_t at = step * mk.keys + dev_thread(t);

    if (dev_thread(t) >= mk.keys || at >= p->count)
        return 0;
    return dev_load32(t, p->head.table + token_of(&p->some, at) / j->a->c.page_tokens);
}

/* Leaves where the token lies, and its scales, to the others. */
DEV void put(struct lane *t, const struct job *j, const struct make mk, uint32_t step,
             uint32_t page)
{
    const struct plan *p = &j->sh->plan;
    const struct cache_view *c = &j->a->c;
    uint32_t i = dev_thread(t), slot = step % 2, at = step * mk.keys + i;
    struct place to = {0, token_of(&p->some, at), at < p->count};

    if (i >= mk.keys)
        return;
    to.row = ((uint64_t)page * p->head.page_heads + p->head.head) * c->page_tokens +
             to.token % c->page_tokens;
    j->sh->key[slot][i] = to.row;
    if (store_bits(mk.k) == 8)
        j->sh->k_scale[slot][i] = cache_scale(t, &c->k, &to, mk.k);
    if (store_bits(mk.v) == 8)
        j->sh->v_scale[slot][i] = cache_scale(t, &c->v, &to, mk.v);
}

#endif
