/* Checks and traffic of scores, pool and budget. */
#include "kernels/scores.h"

#include <stddef.h>

#include "kernels/launch.h"

enum { WARP_ROWS = 16 };

static const char *check(const struct scores_args *a)
{
    const struct prefill_args *of = &a->of;
    const char *bad = cache_check(&of->c);

    if (!bad && (!of->q_heads || of->q_heads % of->c.heads))
        bad = "the query heads must be a multiple of the K/V heads";
    if (!bad && (!of->lse || !a->width))
        bad = "needs the log-sum-exp of the queries, and at least one place";
    if (!bad && !(of->cap >= 0.0f))
        bad = "the cap must not be below 0";
    if (!bad && a->shifting && (a->add || a->largest || !a->parts))
        bad = "variances need memory for parts, and are not added up";
    if (!bad && of->c.heads > 65535)
        bad = "at most 65535 heads";
    return bad;
}

enum device_status scores_run(struct device *d, const struct scores_args *a)
{
    const char *bad = check(a);

    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "scores: %s", bad);
    return device_launch(d, KERNEL_scores, a);
}

enum device_status pool_run(struct device *d, const struct pool_args *a)
{
    const char *bad = NULL;

    if (!a->sequences || !a->heads || !a->width || a->sequences > 65535 || a->heads > 65535)
        bad = "1 to 65535 sequences and heads, and at least one place";
    else if (a->size % 2 == 0)
        bad = "an odd number of places";
    else if (a->by_age && (a->size != 1 || a->largest))
        bad = "by age: one place at a time";
    else if (a->scores == a->out)
        bad = "not in place";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "pool: %s", bad);
    return device_launch(d, KERNEL_pool, a);
}

enum device_status budget_run(struct device *d, const struct budget_args *a)
{
    const char *bad = NULL;

    if (!a->sequences || !a->width || !a->heads || a->heads > BUDGET_HEADS_MAX)
        bad = "at least one sequence and place, 1 to 1024 heads";
    else if ((uint64_t)a->heads * a->width > UINT32_MAX)
        bad = "at most 2^32 places a sequence";
    else if (!(a->floor_ratio >= 0 && a->floor_ratio <= 1))
        bad = "a floor ratio from 0 to 1";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "budget: %s", bad);
    return device_launch(d, KERNEL_budget, a);
}

/* Rows of a block: 16 bytes of codes by one thread; place and scale by the 4 of a row. */
static void rows_traffic(const struct scores_args *a, uint32_t length, uint32_t first,
                         uint32_t n, struct traffic *t)
{
    const struct cache_side *k = &a->of.c.k;
    uint32_t limit = cache_quantized(&a->of.c, false, length), bits = store_bits(k->store);
    uint64_t coded = limit > first ? limit - first : 0;

    coded = coded < n ? coded : n;
    t->read_bytes[TAG_TABLES] += (uint64_t)n * 4 * 4;
    t->read_bytes[TAG_K] += (n - coded) * k->dim * 2 + coded * k->dim * bits / 8;
    if (bits != 16)
        t->conversions += coded * k->dim;
    if (bits == 8)
        t->read_bytes[TAG_K] += k->scales ? coded * 4 * 4 : 0;
    else if (store_is_kivi(k->store))
        t->read_bytes[TAG_K] += coded * k->dim * 4;
    else if (bits != 16)
        t->read_bytes[TAG_K] += coded * k->dim / 8 * 4;
}

/* The queries [from, to) against the rows of a block. */
static void queries_traffic(const struct scores_args *a, const struct scores_part *p,
                            struct traffic *t)
{
    uint64_t group = a->of.q_heads / a->of.c.heads, n = p->to - p->from, dim = a->of.c.k.dim;
    uint64_t warps = (p->keys + WARP_ROWS - 1) / WARP_ROWS, columns = (n + 7) / 8;
    uint64_t units = dim <= 64 ? 2 : dim <= 128 ? 4 : 8;

    t->read_bytes[TAG_ACTIVATION] += group * n * (dim * 2 + 4);
    t->tensor_flop += group * warps * columns * units * 2 * (2 * 16 * 8 * 16);
    t->exps += group * warps * columns * 32 * 4;
    t->vector_flop += group * warps * 32 * (columns * (a->shifting ? 36 : 12));
    if (n && !a->largest)
        t->vector_flop += group * warps * 32 * (a->shifting ? 26 : 2);
    if (a->of.cap > 0.0f) {
        t->vector_flop += group * warps * columns * 32 * 8;
        t->exps += group * warps * columns * 32 * 4;
    }
    if (a->of.slopes) {
        t->vector_flop += group * warps * columns * 32 * 8;
        t->read_bytes[TAG_TABLES] +=
            group * warps * ((n + SCORES_QUERIES - 1) / SCORES_QUERIES) * 32 * 4;
    }
}

/* Rows [0, columns) that query i sees. */
static uint64_t seen_rows(const struct scores_args *a, uint32_t offset, uint32_t length,
                          uint32_t i)
{
    uint32_t columns = length > a->tail ? length - a->tail : 0;
    struct prefill_view v = prefill_sees(&a->of, offset, length, i);
    uint32_t end = v.end < columns ? v.end : columns;
    uint32_t sinks = v.sinks < columns ? v.sinks : columns;

    return sinks + (end > v.start ? end - v.start : 0);
}

static void list_traffic(const struct scores_args *a, uint32_t rows, uint32_t offset,
                         uint32_t length, struct traffic *t)
{
    uint32_t group = a->of.q_heads / a->of.c.heads;
    uint32_t from = a->queries && rows > a->queries ? rows - a->queries : 0;

    for (uint32_t i = from; i < rows; i++)
        t->useful_flop += seen_rows(a, offset, length, i) * group * 2 * a->of.c.k.dim;
    for (uint32_t b = 0; b < (a->width + SCORES_KEYS - 1) / SCORES_KEYS; b++) {
        struct scores_part p = scores_part(a, rows, offset, length, b);
        uint32_t first = b * SCORES_KEYS, old = offset > first ? offset - first : 0;
        t->read_bytes[TAG_TABLES] += SCORES_THREADS * 4 * 4;
        t->written_bytes[TAG_WORK] += a->shifting ? SCORES_THREADS / 32 * 2 * 4 : 0;
        if (!p.keys)
            continue;
        old = !a->add ? 0 : old < p.keys ? old : p.keys;
        if (p.from < p.to) {
            rows_traffic(a, length, first, p.keys, t);
            queries_traffic(a, &p, t);
        }
        t->written_bytes[TAG_WORK] += p.keys * 4;
        t->read_bytes[TAG_WORK] += old * 4;
        t->vector_flop += old;
    }
}

void scores_traffic(const struct scores_args *a, const uint32_t *first, const uint32_t *offset,
                    const uint32_t *lengths, struct traffic *t)
{
    const struct cache_view *c = &a->of.c;

    for (uint32_t i = 0; i < c->sequences * c->heads; i++) {
        uint32_t sequence = i / c->heads, slot = c->ragged ? i : sequence;
        list_traffic(a, first[sequence + 1] - first[sequence], offset[slot], lengths[slot], t);
    }
}

/* Places of all windows of `size` around each of n, clipped to them. */
static uint64_t taps(uint64_t n, uint64_t half)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++)
        sum += (i < half ? i : half) + 1 + (n - 1 - i < half ? n - 1 - i : half);
    return sum;
}

void pool_traffic(const struct pool_args *a, const uint32_t *count, struct traffic *t)
{
    uint64_t lists = (uint64_t)a->sequences * a->heads;

    for (uint64_t i = 0; i < lists; i++) {
        uint64_t n = count[i] < a->width ? count[i] : a->width;
        uint64_t heads = a->together ? a->heads : 1, reads = taps(n, a->size / 2) * heads;
        t->read_bytes[TAG_WORK] += (uint64_t)a->width * 4 + reads * 4;
        t->written_bytes[TAG_WORK] += (uint64_t)a->width * 4;
        t->vector_flop += (a->largest ? 0 : reads + n * heads) + (a->together ? n * heads : 0);
    }
}

void budget_traffic(const struct budget_args *a, const uint32_t *chosen, struct traffic *t)
{
    for (uint32_t i = 0; i < a->sequences; i++) {
        t->read_bytes[TAG_WORK] += BUDGET_THREADS * 4 + (uint64_t)chosen[i] * 4 + a->heads * 4;
        t->written_bytes[TAG_WORK] += a->heads * 4;
        t->vector_flop += a->heads * 3;
    }
}
