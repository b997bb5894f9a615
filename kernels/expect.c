/* Checks and traffic of moments and expect. */
#include "kernels/expect.h"

#include <stddef.h>

#include "kernels/launch.h"

uint64_t expect_work_bytes(const struct expect_args *a)
{
    return (uint64_t)a->q_heads * (a->width + 2ull) * 4;
}

enum device_status moments_run(struct device *d, const struct moments_args *a)
{
    const char *bad = NULL;
    enum device_status s;

    if (!a->dim || a->dim % 8 || a->dim > CACHE_DIM_MAX)
        bad = "a head has a multiple of 8 elements, up to 256";
    else if (!a->heads || a->heads > a->row_heads || a->heads > 65535)
        bad = "1 to 65535 heads, no more than a row has";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "moments: %s", bad);
    s = device_launch(d, KERNEL_moments, a);
    return s == DEVICE_OK ? device_launch(d, KERNEL_spread, a) : s;
}

enum device_status expect_run(struct device *d, const struct expect_args *a)
{
    static const enum kernel parts[] = {KERNEL_expect_logits, KERNEL_expect_total,
                                        KERNEL_expect};
    const char *bad = cache_check(&a->c);
    enum device_status s = DEVICE_OK;

    if (!bad && a->c.sequences != 1)
        bad = "one sequence at a time";
    if (!bad && (!a->q_heads || a->q_heads % a->c.heads))
        bad = "the query heads must be a multiple of the K/V heads";
    if (!bad && (!a->width || a->c.heads > 65535))
        bad = "at least one place, at most 65535 heads";
    if (!bad && a->turn && (a->rotary % 2 || a->rotary > a->c.k.dim))
        bad = "an even number of channels turns, no more than there are";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "expect: %s", bad);
    for (uint32_t i = 0; i < sizeof parts / sizeof *parts && s == DEVICE_OK; i++)
        s = device_launch(d, parts[i], a);
    return s;
}

void moments_traffic(const struct moments_args *a, struct traffic *t)
{
    uint64_t dim = a->dim, units = dim / 8, together = EXPECT_THREADS / units;
    uint64_t n = a->rows > a->skip ? a->rows - a->skip : 0;
    uint64_t steps = (n + EXPECT_ROWS - 1) / EXPECT_ROWS, heads = a->heads;

    t->read_bytes[TAG_ACTIVATION] += heads * n * dim * 2;
    t->vector_flop += heads * (n * dim + dim * together);
    t->useful_flop += heads * n * dim;
    t->written_bytes[TAG_WORK] += heads * dim * 4;
    for (uint64_t y = 0; y < dim; y += EXPECT_TILE)
        for (uint64_t x = y; x < dim; x += EXPECT_TILE) {
            uint64_t down = dim - y < EXPECT_TILE ? dim - y : EXPECT_TILE;
            uint64_t across = dim - x < EXPECT_TILE ? dim - x : EXPECT_TILE;
            t->read_bytes[TAG_WORK] += heads * (down + across) * 4;
            t->read_bytes[TAG_ACTIVATION] += heads * n * (down + across) * 2;
            t->written_bytes[TAG_WORK] += heads * down * across * 4 * (x == y ? 1 : 2);
            t->useful_flop += heads * down * across * 2 * n;
            t->vector_flop += heads * (n * (down + across) + down * across);
            t->vector_flop += heads * steps * EXPECT_ROWS * EXPECT_TILE * EXPECT_TILE * 2;
        }
}

/* Codes of a row, and the scales as 32 threads of 8 elements read them. */
static void row_traffic(const struct cache_view *c, bool value, uint32_t row, uint32_t length,
                        struct traffic *t)
{
    const struct cache_side *s = value ? &c->v : &c->k;
    bool coded = row < cache_quantized(c, value, length);
    uint32_t bits = coded ? store_bits(s->store) : 16;
    enum tag tag = value ? TAG_V : TAG_K;

    t->read_bytes[TAG_TABLES] += 32 * 4;
    t->read_bytes[tag] += (uint64_t)s->dim * bits / 8;
    if (bits != 16)
        t->conversions += s->dim;
    if (bits == 8)
        t->read_bytes[tag] += s->scales ? 32 * 4 : 0;
    else if (bits < 8 && store_is_kivi(s->store) && !value)
        t->read_bytes[tag] += (uint64_t)s->dim * 4;
    else if (bits < 8)
        t->read_bytes[tag] += s->dim / 8 * 4;
}

/* The logits of a list: blocks of EXPECT_KEYS rows. */
static void logits_traffic_of(const struct expect_args *a, uint32_t length, struct traffic *t)
{
    uint64_t dim = a->c.k.dim, group = a->q_heads / a->c.heads, half = a->rotary / 2;
    uint64_t pieces = dim <= 64 ? 2 : dim <= 128 ? 4 : 8;
    uint64_t n = length > a->sinks ? length - a->sinks : 0;
    uint64_t blocks = (n + EXPECT_KEYS - 1) / EXPECT_KEYS;
    uint64_t steps = (dim + EXPECT_STEP - 1) / EXPECT_STEP, keys = EXPECT_KEYS;

    for (uint32_t i = a->sinks; i < length; i++)
        row_traffic(&a->c, false, i, length, t);
    t->vector_flop += n * dim;
    if (a->turn) {
        t->read_bytes[TAG_TABLES] += blocks * keys * half * 2 * 4;
        t->vector_flop += blocks * keys * half * 6;
    }
    t->read_bytes[TAG_WORK] += blocks * group * (dim * dim + EXPECT_WARPS * dim) * 4;
    t->vector_flop += blocks * group * keys * 32 * pieces * (2 * steps * EXPECT_STEP + 4);
    t->vector_flop += group * n;
    t->useful_flop += group * n * 2 * dim * (dim + 1);
    t->written_bytes[TAG_WORK] += group * n * 4;
}

void expect_traffic(const struct expect_args *a, const uint32_t *lengths, struct traffic *t)
{
    uint64_t group = a->q_heads / a->c.heads, threads = EXPECT_THREADS;
    uint64_t tiles = (a->width + EXPECT_KEYS - 1) / EXPECT_KEYS;
    uint64_t blocks = (a->width + EXPECT_SCORES - 1) / EXPECT_SCORES;

    for (uint32_t h = 0; h < a->c.heads; h++) {
        uint32_t length = lengths[a->c.ragged ? h : 0];
        uint64_t n = length > a->sinks ? length - a->sinks : 0;
        t->read_bytes[TAG_TABLES] += (tiles + group + blocks) * threads * 4;
        logits_traffic_of(a, length, t);
        t->read_bytes[TAG_WORK] += group * n * 2 * 4;
        t->vector_flop += group * (3 * n + threads * (EXPECT_WARPS - 1));
        t->written_bytes[TAG_WORK] += group * 2 * 4;
        for (uint32_t i = a->sinks; i < length; i++)
            row_traffic(&a->c, true, i, length, t);
        t->vector_flop += n * (16 * (uint64_t)a->c.v.dim / 8 + 4 * group);
        t->useful_flop += n * 2 * a->c.v.dim;
        t->read_bytes[TAG_WORK] += group * n * 3 * 4;
        t->written_bytes[TAG_WORK] += (uint64_t)length * 4;
        t->exps += 2 * group * n;
    }
}
