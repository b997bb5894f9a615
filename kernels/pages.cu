/* Bounds of pages. bounds and estimate: a warp a page, 8 channels a thread. pick: a block a
 * list. */
#include "kernels/dev.h"

#include "kernels/pages.h"
#include "kernels/unit_dev.h"

enum { WARPS = PAGES_THREADS / 32 };

/* The page of this warp, of a head of a sequence. */
struct page_job {
    struct head_at head;
    uint32_t page, first, rows; /* in its sequence, its first token, and rows in use */
    uint32_t length;
};

DEV struct page_job page_job(struct lane *t, const struct cache_view *c)
{
    uint32_t head = dev_block(t, 1), sequence = dev_block(t, 2), left;
    struct page_job j;

    j.length = dev_load32(t, c->lengths + cache_slot_of(c, sequence, head));
    j.head = cache_head(c, sequence, head);
    j.page = dev_block(t, 0) * WARPS + dev_warp(t);
    j.first = j.page * c->page_tokens;
    left = j.length > j.first ? j.length - j.first : 0;
    j.rows = left < c->page_tokens ? left : c->page_tokens;
    return j;
}

/* The first element of a page's bounds. */
DEV uint64_t bounds_at(struct lane *t, const struct cache_view *c, const struct page_job *j)
{
    uint64_t page = dev_load32(t, j->head.table + j->page);

    return (page * j->head.page_heads + j->head.head) * 2 * c->k.dim;
}

/* 8 channels of a key, with the scale of its row. */
DEV void load_key(struct lane *t, const struct cache_view *c, const struct page_job *j,
                  uint32_t token, float *x)
{
    uint32_t w[4], quantized = cache_quantized(c, false, j->length);
    struct place p = cache_place(t, c, &j->head, token, true);
    struct unit u =
        unit_load(t, c, &j->head, &p, 8 * dev_lane(t), c->k.store, false, quantized);
    float scale = cache_scale(t, &c->k, &p, c->k.store);

    unit_decode(&u, c->k.store, false, w);
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        x[i] =
            dev_from_16((uint16_t)(w[i / 2] >> 16 * (i % 2)), c->k.store == STORE_FP16) * scale;
}

DEV void store_eight(struct lane *t, uint16_t *to, const float *x, bool fp16)
{
    struct vec128 v;

    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        v.w[i] = dev_pack_16(x[2 * i], x[2 * i + 1], fp16);
    dev_store128(t, to, v);
}

DEV void bounds_body(struct lane *t, const struct bounds_args *a)
{
    const struct cache_view *c = &a->c;
    struct page_job j = page_job(t, c);
    uint64_t slot = cache_slot_of(c, dev_block(t, 2), dev_block(t, 1));
    uint32_t from = dev_load32(t, a->first + slot);
    float low[8], high[8];

    if (!j.rows || j.first + j.rows <= from)
        return;
    for (uint32_t r = 0; r < j.rows; r++) {
        float x[8];
        load_key(t, c, &j, j.first + r, x);
        UNROLL
        for (uint32_t i = 0; i < 8; i++) {
            low[i] = r ? fminf(low[i], x[i]) : x[i];
            high[i] = r ? fmaxf(high[i], x[i]) : x[i];
        }
    }
    uint16_t *to = (uint16_t *)a->bounds + bounds_at(t, c, &j) + 8 * dev_lane(t);
    if (8 * dev_lane(t) >= c->k.dim)
        return;
    store_eight(t, to, low, c->k.store == STORE_FP16);
    store_eight(t, to + c->k.dim, high, c->k.store == STORE_FP16);
}

/* 8 channels of one query head against both bounds. */
DEV float promise(struct vec128 q, struct vec128 low, struct vec128 high, bool fp16)
{
    float sum = 0.0f;

    UNROLL
    for (uint32_t i = 0; i < 8; i++) {
        float x = dev_from_16((uint16_t)(q.w[i / 2] >> 16 * (i % 2)), fp16);
        float least = dev_from_16((uint16_t)(low.w[i / 2] >> 16 * (i % 2)), fp16);
        float most = dev_from_16((uint16_t)(high.w[i / 2] >> 16 * (i % 2)), fp16);
        sum += fmaxf(x * least, x * most);
    }
    return sum;
}

DEV void estimate_body(struct lane *t, const struct estimate_args *a)
{
    const struct cache_view *c = &a->c;
    struct page_job j = page_job(t, c);
    uint32_t group = a->q_heads / c->heads, first = 8 * dev_lane(t), dim = c->k.dim;
    uint64_t list = (uint64_t)dev_block(t, 2) * c->heads + dev_block(t, 1);
    const uint16_t *q = (const uint16_t *)a->q + list * group * dim + first;
    struct vec128 low = {{0, 0, 0, 0}}, high = low;
    float score = 0.0f;

    if (!j.rows)
        return;
    const uint16_t *from = (const uint16_t *)a->bounds + bounds_at(t, c, &j) + first;
    if (first < dim) {
        low = dev_load128(t, from);
        high = dev_load128(t, from + dim);
    }
    for (uint32_t h = 0; h < group; h++) {
        float sum = 0.0f;
        if (first < dim) {
            sum = promise(dev_load128(t, q + (uint64_t)h * dim), low, high,
                          c->k.store == STORE_FP16);
            dev_flop(t, 24, 32);
        }
        sum = dev_sum(t, sum, 32);
        score = !h ? sum : a->largest ? fmaxf(score, sum) : score + sum;
    }
    if (!dev_lane(t))
        dev_store_float(t, a->scores + list * a->width + j.page, score);
}

DEV void pick_body(struct lane *t, const struct pick_args *a)
{
    const struct cache_view *c = &a->c;
    uint32_t head = dev_block(t, 0), sequence = dev_block(t, 1), rows = 0;
    uint64_t list = (uint64_t)sequence * c->heads + head;
    uint32_t length = dev_load32(t, c->lengths + cache_slot_of(c, sequence, head));
    uint32_t pages = length / c->page_tokens + (length % c->page_tokens != 0), newest = 0;
    uint32_t n = a->index ? dev_load32(t, a->count + list) : pages;
    struct head_at h = cache_head(c, sequence, head);

    for (uint32_t j = dev_thread(t); j < n; j += PICK_THREADS) {
        uint32_t page = a->index ? dev_load32(t, a->index + list * a->width + j) : j;
        uint32_t number = dev_load32(t, h.table + page) * h.page_heads + h.head;
        dev_store32(t, a->table + list * c->max_pages + j, number);
        newest = page;
        if (j + 1 < n)
            continue;
        rows = (n - 1) * c->page_tokens; /* the last one may be part full */
        rows += newest + 1 == pages ? length - newest * c->page_tokens : c->page_tokens;
        dev_store32(t, a->lengths + list, rows);
    }
    if (!n && !dev_thread(t))
        dev_store32(t, a->lengths + list, 0);
}

KERNEL(bounds_kernel, PAGES_THREADS, struct bounds_args, bounds_body(t, a))
KERNEL(estimate_kernel, PAGES_THREADS, struct estimate_args, estimate_body(t, a))
KERNEL(pick_kernel, PICK_THREADS, struct pick_args, pick_body(t, a))

/* A warp for each page that a table has room for. */
static struct shape shape_of(const struct cache_view *c, uint32_t pages)
{
    struct shape s = {{(pages + WARPS - 1) / WARPS, c->heads, c->sequences}, PAGES_THREADS, 0};

    return s;
}

LAUNCHER(bounds)
{
    const struct bounds_args *a = (const struct bounds_args *)args;
    struct shape s = shape_of(&a->c, a->c.max_pages);

    return LAUNCH(bounds_kernel, s, a);
}

LAUNCHER(estimate)
{
    const struct estimate_args *a = (const struct estimate_args *)args;
    struct shape s = shape_of(&a->c, a->c.max_pages);

    return LAUNCH(estimate_kernel, s, a);
}

LAUNCHER(pick)
{
    const struct pick_args *a = (const struct pick_args *)args;
    struct shape s = {{a->c.heads, a->c.sequences, 1}, PICK_THREADS, 0};

    return LAUNCH(pick_kernel, s, a);
}
