/* Checks and traffic of the eviction kernels. */
#include "kernels/evict.h"

#include "kernels/launch.h"

enum device_status norms_run(struct device *d, const struct norms_args *a)
{
    const char *bad = cache_check(&a->c);

    if (!bad && (!a->blocks || !a->width || a->c.heads > 65535))
        bad = "at least one block and one place, at most 65535 heads";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "norms: %s", bad);
    return device_launch(d, KERNEL_norms, a);
}

enum device_status select_run(struct device *d, const struct select_args *a)
{
    if (!a->lists || !a->width)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "select: at least one list and one place");
    return device_launch(d, KERNEL_select, a);
}

enum device_status compact_run(struct device *d, const struct compact_args *a)
{
    const char *bad = cache_check(&a->c);

    if (!bad && (store_is_kivi(a->c.k.store) || store_is_kivi(a->c.v.store)))
        bad = "rows of KIVI cannot move";
    if (!bad && (!a->width || a->c.heads > 65535))
        bad = "at least one place, at most 65535 heads";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "compact: %s", bad);
    return device_launch(d, KERNEL_compact, a);
}

/* Bytes of a row's codes, and of its scales as `threads` of 8 elements each read them. */
static uint64_t row_bytes(const struct cache_side *s, bool by_unit, uint64_t token_scale_reads)
{
    uint32_t bits = store_bits(s->store);
    uint64_t bytes = (uint64_t)s->dim * bits / 8;

    if (bits == 8)
        return bytes + (s->scales ? 4 * token_scale_reads : 0);
    if (bits < 8)
        bytes += by_unit ? s->dim / 8 * 4 : s->dim / s->group * 4;
    return bytes;
}

void norms_traffic(const struct norms_args *a, const uint32_t *lengths, struct traffic *t)
{
    const struct cache_view *c = &a->c;
    const struct cache_side *k = &c->k;
    bool kivi = store_is_kivi(k->store);

    for (uint32_t i = 0; i < c->sequences * c->heads; i++) {
        uint64_t n = lengths[c->ragged ? i : i / c->heads];
        uint64_t coded = cache_quantized(c, false, (uint32_t)n);
        t->read_bytes[TAG_TABLES] += (uint64_t)a->blocks * EVICT_THREADS * 4 + n * 32 * 4;
        t->read_bytes[TAG_K] += (n - coded) * k->dim * 2;
        t->read_bytes[TAG_K] += coded * (kivi ? k->dim * store_bits(k->store) / 8 + k->dim * 4
                                              : row_bytes(k, true, 32));
        t->written_bytes[TAG_WORK] += n * 4;
        t->vector_flop += n * k->dim * 2;
        if (store_bits(k->store) != 16)
            t->conversions += coded * k->dim;
    }
}

/* Four passes find the last digit of the smallest key kept, one more writes. */
void select_traffic(const struct select_args *a, const uint32_t *count, const uint32_t *keep,
                    struct traffic *t)
{
    for (uint32_t i = 0; i < a->lists; i++) {
        uint64_t kept = keep[i] < count[i] ? keep[i] : count[i];
        t->read_bytes[TAG_WORK] += (uint64_t)count[i] * 4 * 5 + EVICT_THREADS * 8;
        t->written_bytes[TAG_WORK] += kept * 4;
    }
}

void compact_traffic(const struct compact_args *a, const uint32_t *keep, struct traffic *t)
{
    const struct cache_view *c = &a->c;

    for (uint32_t i = 0; i < c->sequences * c->heads; i++) {
        t->read_bytes[TAG_WORK] += EVICT_THREADS * 4;
        for (int value = 0; value < 2; value++) {
            const struct cache_side *s = value ? &c->v : &c->k;
            enum tag tag = value ? TAG_V : TAG_K;
            uint64_t bytes = keep[i] * row_bytes(s, false, 1),
                     threads = (uint64_t)keep[i] * (s->dim / 8);
            t->read_bytes[tag] += bytes;
            t->written_bytes[tag] += bytes;
            t->read_bytes[TAG_WORK] += threads * 4;
            t->read_bytes[TAG_TABLES] += threads * 2 * 4;
        }
        if (c->ragged || i % c->heads == 0)
            t->written_bytes[TAG_TABLES] += 4;
    }
}
