/* Checks and traffic of bounds, estimate and pick. */
#include "kernels/pages.h"

#include <stddef.h>

#include "kernels/launch.h"

enum { WARPS = PAGES_THREADS / 32 };

uint64_t bounds_bytes(const struct cache_view *c, uint64_t pages)
{
    return pages * (c->ragged ? 1 : c->heads) * 2 * c->k.dim * 2;
}

enum device_status bounds_run(struct device *d, const struct bounds_args *a)
{
    const char *bad = cache_check(&a->c);

    if (!bad && a->c.heads > 65535)
        bad = "at most 65535 heads";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "bounds: %s", bad);
    return device_launch(d, KERNEL_bounds, a);
}

enum device_status estimate_run(struct device *d, const struct estimate_args *a)
{
    const char *bad = cache_check(&a->c);

    if (!bad && (!a->q_heads || a->q_heads % a->c.heads))
        bad = "the query heads must be a multiple of the K/V heads";
    if (!bad && (a->width < a->c.max_pages || a->c.heads > 65535))
        bad = "a place for every page, at most 65535 heads";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "estimate: %s", bad);
    return device_launch(d, KERNEL_estimate, a);
}

enum device_status pick_run(struct device *d, const struct pick_args *a)
{
    const char *bad = cache_check(&a->c);

    if (!bad && a->index && (!a->width || !a->count))
        bad = "an index needs its counts, and at least one place";
    if (!bad && a->table == a->c.table)
        bad = "not in place";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "pick: %s", bad);
    return device_launch(d, KERNEL_pick, a);
}

static uint64_t blocks_of(const struct cache_view *c)
{
    return (c->max_pages + WARPS - 1) / WARPS;
}

static uint32_t pages_of(const struct cache_view *c, uint32_t length)
{
    return length / c->page_tokens + (length % c->page_tokens != 0);
}

/* Rows [first, first + n) of a head, each by one warp. */
static void rows_traffic(const struct cache_view *c, uint32_t length, uint32_t first,
                         uint32_t n, struct traffic *t)
{
    const struct cache_side *k = &c->k;
    uint32_t limit = cache_quantized(c, false, length), bits = store_bits(k->store);
    uint64_t coded = limit > first ? limit - first : 0;

    coded = coded < n ? coded : n;
    t->read_bytes[TAG_TABLES] += (uint64_t)n * 32 * 4;
    t->read_bytes[TAG_K] += (n - coded) * k->dim * 2 + coded * k->dim * bits / 8;
    if (bits != 16)
        t->conversions += coded * k->dim;
    if (bits == 8)
        t->read_bytes[TAG_K] += k->scales ? coded * 32 * 4 : 0;
    else if (store_is_kivi(k->store))
        t->read_bytes[TAG_K] += coded * k->dim * 4;
    else if (bits != 16)
        t->read_bytes[TAG_K] += coded * k->dim / 8 * 4;
}

void bounds_traffic(const struct bounds_args *a, const uint32_t *lengths, const uint32_t *first,
                    struct traffic *t)
{
    const struct cache_view *c = &a->c;

    for (uint32_t i = 0; i < c->sequences * c->heads; i++) {
        uint32_t slot = c->ragged ? i : i / c->heads, length = lengths[slot];
        t->read_bytes[TAG_TABLES] += blocks_of(c) * PAGES_THREADS * 4 * 2;
        for (uint32_t p = 0; p < pages_of(c, length); p++) {
            uint32_t at = p * c->page_tokens, left = length - at;
            uint32_t rows = left < c->page_tokens ? left : c->page_tokens;
            if (at + rows <= first[slot])
                continue;
            rows_traffic(c, length, at, rows, t);
            t->read_bytes[TAG_TABLES] += 32 * 4;
            t->written_bytes[TAG_STATE] += c->k.dim * 4;
        }
    }
}

void estimate_traffic(const struct estimate_args *a, const uint32_t *lengths, struct traffic *t)
{
    const struct cache_view *c = &a->c;
    uint64_t group = a->q_heads / c->heads, dim = c->k.dim;

    for (uint32_t i = 0; i < c->sequences * c->heads; i++) {
        uint64_t pages = pages_of(c, lengths[c->ragged ? i : i / c->heads]);
        t->read_bytes[TAG_TABLES] += blocks_of(c) * PAGES_THREADS * 4 + pages * 32 * 4;
        t->read_bytes[TAG_STATE] += pages * dim * 4;
        t->read_bytes[TAG_ACTIVATION] += pages * group * dim * 2;
        t->written_bytes[TAG_WORK] += pages * 4;
        t->vector_flop += pages * group * dim * 3;
        t->useful_flop += pages * group * dim * 4;
    }
}

void pick_traffic(const struct pick_args *a, const uint32_t *lengths, const uint32_t *count,
                  struct traffic *t)
{
    const struct cache_view *c = &a->c;

    for (uint32_t i = 0; i < c->sequences * c->heads; i++) {
        uint64_t n = a->index ? count[i] : pages_of(c, lengths[c->ragged ? i : i / c->heads]);
        t->read_bytes[TAG_TABLES] += PICK_THREADS * 4 + n * 4;
        t->read_bytes[TAG_WORK] += a->index ? PICK_THREADS * 4 + n * 4 : 0;
        t->written_bytes[TAG_TABLES] += n * 4 + 4;
    }
}
