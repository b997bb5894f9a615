/* Checks and traffic of replace and carry. */
#include "kernels/replace.h"

#include <stddef.h>

#include "kernels/launch.h"

enum { PLACES_MAX = 1 << 24 };

static const char *check(const struct replace_args *a)
{
    const char *bad = cache_check(&a->c);
    uint64_t rows = (uint64_t)a->heavy + a->recent;

    if (!bad && (store_is_kivi(a->c.k.store) || store_is_kivi(a->c.v.store)))
        bad = "rows of KIVI cannot move";
    if (!bad && !rows)
        bad = "nothing would be kept";
    if (!bad && (rows >= PLACES_MAX || (a->scores && rows >= a->width)))
        bad = "more rows than places, or than 2^24";
    if (!bad && !a->scores && !a->recent)
        bad = "without scores there must be a ring";
    return bad;
}

enum device_status replace_run(struct device *d, const struct replace_args *a)
{
    const char *bad = check(a);

    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "replace: %s", bad);
    return device_launch(d, KERNEL_replace, a);
}

enum device_status carry_run(struct device *d, const struct carry_args *a)
{
    if (!a->lists || !a->width)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "carry: at least one list and one place");
    return device_launch(d, KERNEL_carry, a);
}

uint32_t replace_loser(const struct replace_args *a, const float *scores, uint32_t slot)
{
    uint32_t loser = a->recent ? a->heavy + slot : a->heavy;

    for (uint32_t i = a->heavy; scores && i > 0; i--)
        if (scores[i - 1] < scores[loser])
            loser = i - 1;
    return loser;
}

/* Codes and scales of a row. */
static uint64_t row_bytes(const struct cache_side *s)
{
    uint32_t bits = store_bits(s->store);
    uint64_t codes = (uint64_t)s->dim * bits / 8;

    if (bits == 16)
        return codes;
    return codes + (bits == 8 ? (s->scales ? 4 : 0) : s->dim / s->group * 4);
}

static void move_traffic(const struct replace_args *a, struct traffic *t)
{
    const struct cache_view *c = &a->c;

    t->read_bytes[TAG_K] += row_bytes(&c->k);
    t->written_bytes[TAG_K] += row_bytes(&c->k);
    t->read_bytes[TAG_V] += row_bytes(&c->v);
    t->written_bytes[TAG_V] += row_bytes(&c->v);
    t->read_bytes[TAG_TABLES] += (uint64_t)(c->k.dim + c->v.dim) / 8 * 2 * 4;
    t->read_bytes[TAG_WORK] += a->scores ? 4 : 0;
    t->written_bytes[TAG_WORK] += a->scores ? 4 : 0;
}

void replace_traffic(const struct replace_args *a, const uint32_t *slot, const uint32_t *loser,
                     struct traffic *t)
{
    const struct cache_view *c = &a->c;

    for (uint32_t i = 0; i < c->sequences * c->heads; i++) {
        uint32_t at = slot[i / c->heads];
        t->read_bytes[TAG_TABLES] += REPLACE_THREADS * 4;
        if (at == UINT32_MAX)
            continue;
        t->read_bytes[TAG_WORK] += a->scores ? ((uint64_t)a->heavy + 1) * 4 : 0;
        if (loser[i] != a->heavy + (a->recent ? at : 0))
            move_traffic(a, t);
        if (a->recent)
            move_traffic(a, t);
        if (c->ragged || i % c->heads == 0)
            t->written_bytes[TAG_TABLES] += 4;
    }
}

void carry_traffic(const struct carry_args *a, const uint32_t *keep, struct traffic *t)
{
    for (uint32_t i = 0; i < a->lists; i++) {
        t->read_bytes[TAG_WORK] += CARRY_THREADS * 4 + (uint64_t)keep[i] * 8;
        t->written_bytes[TAG_WORK] += (uint64_t)keep[i] * 4;
    }
}
