/* Checks and traffic of prefill attention. */
#include "kernels/prefill.h"

#include "kernels/launch.h"

static uint32_t group_of(const struct prefill_args *a)
{
    return a->q_heads / a->c.heads;
}

static const char *check(const struct prefill_args *a)
{
    const char *bad = cache_check(&a->c);

    if (!bad && (!a->q_heads || a->q_heads % a->c.heads))
        bad = "the query heads must be a multiple of the K/V heads";
    if (!bad && a->row_heads && a->row_heads < a->q_heads)
        bad = "a row has at least the query heads";
    if (!bad && (!a->longest || (uint64_t)a->longest * group_of(a) > INT32_MAX))
        bad = "the longest chunk must have 1 to 2147483647 rows, counted by query heads";
    if (!bad && (uint64_t)a->longest * prefill_row_heads(a) > UINT32_MAX)
        bad = "a chunk has at most 4294967295 query heads of tokens";
    if (!bad && !(a->scale > 0.0f))
        bad = "the scale must be above 0";
    if (!bad && a->chosen && (a->window_tokens || !a->chosen_tokens))
        bad = "a selection of at least one token, and no window";
    if (!bad && !(a->cap >= 0.0f))
        bad = "the cap must not be below 0";
    if (!bad && a->chunk_tokens && a->window_tokens)
        bad = "a window or chunks, not both";
    if (!bad && a->c.heads > 65535)
        bad = "too many heads";
    return bad;
}

enum device_status prefill_run(struct device *d, const struct prefill_args *a)
{
    const char *bad = check(a);

    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "prefill: %s", bad);
    return device_launch(d, KERNEL_prefill, a);
}

enum device_status prefill_wgmma_run(struct device *d, const struct prefill_args *a)
{
    const char *bad = check(a);

    if (!bad && !prefill_fits_wgmma(a))
        bad =
            "products of tiles are for 16 bits, heads of 64, 128, or 192 and 128, no cap, no slopes";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "prefill: %s", bad);
    return device_launch(d, KERNEL_prefill_wgmma, a);
}

struct way { /* the tile of a kernel */
    struct prefill_tile tile;
    uint32_t threads;
};

struct chunk { /* of one K/V head of a sequence */
    uint32_t rows, offset, length;
};

static uint64_t seen(const struct prefill_view *s)
{
    return s->sinks + (s->end - s->start);
}

/* Tokens of the span that are below `limit`. */
static uint64_t seen_below(const struct prefill_view *s, uint32_t limit)
{
    uint32_t sinks = s->sinks < limit ? s->sinks : limit;
    uint32_t end = s->end < limit ? s->end : limit;

    return sinks + (end > s->start ? end - s->start : 0);
}

/* Every token that a tile sees once, with its scales. */
static void side_traffic(const struct prefill_args *a, bool value, const struct chunk *c,
                         const struct prefill_view *s, struct traffic *t)
{
    const struct cache_side *side = value ? &a->c.v : &a->c.k;
    uint32_t bits = store_bits(side->store);
    uint64_t coded = seen_below(s, cache_quantized(&a->c, value, c->length)), dim = side->dim;
    uint64_t bytes = (seen(s) - coded) * dim * 2 + coded * dim * bits / 8;

    if (bits == 8)
        bytes += side->scales ? coded * 4 : 0;
    else if (store_is_kivi(side->store) && !value)
        bytes += coded * dim * 4;
    else if (bits != 16)
        bytes += coded * dim / 8 * 4;
    if (bits != 16)
        t->conversions += coded * dim;
    t->read_bytes[value ? TAG_V : TAG_K] += bytes;
}

/* A tile computes all its rows and whole steps, what is masked and what pads heads to 16
 * elements included. */
static void math_traffic(const struct prefill_args *a, const struct way *way, uint64_t tokens,
                         struct traffic *t)
{
    struct prefill_tile w = way->tile;
    uint64_t steps = (tokens + w.keys - 1) / w.keys, units = (a->c.k.dim + 15) / 16;
    uint64_t v_units = (a->c.v.dim + 15) / 16, scores = steps * w.rows * w.keys;
    uint32_t scaled =
        (store_bits(a->c.k.store) == 8 ? 1u : 0u) + (store_bits(a->c.v.store) == 8 ? 1u : 0u);

    t->tensor_flop += scores * (units + v_units) * 16 * 2;
    t->vector_flop += scores * (3 + scaled);
    t->vector_flop += steps * w.rows * 4 * (5 + 4 * v_units); /* 4 threads a row */
    t->exps += scores + steps * w.rows * 4;
    if (a->cap > 0.0f) {
        t->vector_flop += scores * 2;
        t->exps += scores;
    }
    if (a->slopes) {
        t->vector_flop += scores * 2;
        t->read_bytes[TAG_TABLES] += steps * w.rows * 4 * 4;
    }
}

static void tile_traffic(const struct prefill_args *a, const struct way *way,
                         const struct chunk *c, const uint32_t rows[2], struct traffic *t)
{
    uint32_t group = group_of(a), first = rows[0], n = rows[1];
    struct prefill_view low = prefill_sees(a, c->offset, c->length, first / group);
    struct prefill_view high = prefill_sees(a, c->offset, c->length, (first + n - 1) / group);
    struct prefill_view s = {low.sinks, low.start, high.end};
    uint64_t tokens = seen(&s), dv = a->c.v.dim, tile = prefill_tile(a).keys;

    t->read_bytes[TAG_TABLES] += way->threads * 2 * 4 + tokens * 4;
    if (tokens)
        t->read_bytes[TAG_ACTIVATION] += (uint64_t)n * a->c.k.dim * 2;
    t->written_bytes[TAG_ACTIVATION] += n * (dv * 2 + (a->lse ? 4 : 0));
    t->vector_flop += n * dv;
    if (a->chosen)
        t->read_bytes[TAG_WORK] += (tokens + tile - 1) / tile * n * 4 * 4;
    t->read_bytes[TAG_WEIGHTS] += a->sinks ? n * 2 : 0;
    side_traffic(a, false, c, &s, t);
    side_traffic(a, true, c, &s, t);
    math_traffic(a, way, tokens, t);
}

static void head_traffic(const struct prefill_args *a, const struct way *way,
                         const struct chunk *c, struct traffic *t)
{
    uint32_t group = group_of(a), rows = c->rows * group, tile = way->tile.rows;
    uint32_t tiles = (a->longest * group + tile - 1) / tile;

    t->read_bytes[TAG_TABLES] += (uint64_t)tiles * way->threads * 2 * 4;
    for (uint32_t i = 0; i < rows; i += tile) {
        uint32_t some[2] = {i, rows - i < tile ? rows - i : tile};
        tile_traffic(a, way, c, some, t);
    }
    for (uint32_t i = 0; i < c->rows; i++) {
        struct prefill_view v = prefill_sees(a, c->offset, c->length, i);
        uint64_t pairs = v.sinks + (v.end - v.start);
        pairs = a->chosen && pairs > a->chosen_tokens ? a->chosen_tokens : pairs;
        t->useful_flop += pairs * group * 2 * (a->c.k.dim + a->c.v.dim);
    }
}

static void all_traffic(const struct prefill_args *a, const struct way *way,
                        const uint32_t *const tables[3], struct traffic *t)
{
    const uint32_t *first = tables[0];

    for (uint32_t s = 0; s < a->c.sequences; s++)
        for (uint32_t h = 0; h < a->c.heads; h++) {
            uint64_t slot = a->c.ragged ? (uint64_t)s * a->c.heads + h : s;
            struct chunk c = {first[s + 1] - first[s], tables[1][slot], tables[2][slot]};
            head_traffic(a, way, &c, t);
        }
}

void prefill_traffic(const struct prefill_args *a, const uint32_t *first,
                     const uint32_t *offset, const uint32_t *lengths, struct traffic *t)
{
    const uint32_t *const tables[3] = {first, offset, lengths};
    struct way way = {prefill_tile(a), PREFILL_THREADS};

    all_traffic(a, &way, tables, t);
}

void prefill_wgmma_traffic(const struct prefill_args *a, const uint32_t *first,
                           const uint32_t *offset, const uint32_t *lengths, struct traffic *t)
{
    const uint32_t *const tables[3] = {first, offset, lengths};
    struct way way = {{PREFILL_WGMMA_ROWS, PREFILL_WGMMA_KEYS}, 2 * PREFILL_WGMMA_ROWS};

    all_traffic(a, &way, tables, t);
}
