/* Checks and traffic of angles. */
#include "kernels/angles.h"

#include "kernels/launch.h"

uint64_t angles_work_bytes(const struct angles_args *a)
{
    return (uint64_t)a->c.sequences * a->c.heads * a->blocks * a->c.k.dim * 4;
}

enum device_status angles_run(struct device *d, const struct angles_args *a)
{
    const char *bad = cache_check(&a->c);
    enum device_status s;

    if (!bad && (!a->blocks || !a->width || a->c.heads > 65535))
        bad = "at least one block and one place, at most 65535 heads";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "angles: %s", bad);
    s = device_launch(d, KERNEL_anchor, a);
    return s == DEVICE_OK ? device_launch(d, KERNEL_angles, a) : s;
}

/* Every row once, in each of the two kernels. Scales of whole rows do not turn a key, and are
 * not read. */
static void rows_traffic(const struct cache_view *c, uint32_t n, struct traffic *t)
{
    const struct cache_side *k = &c->k;
    uint64_t coded = cache_quantized(c, false, n), bits = store_bits(k->store);

    t->read_bytes[TAG_TABLES] += (uint64_t)n * 32 * 4;
    t->read_bytes[TAG_K] += (n - coded) * k->dim * 2 + coded * k->dim * bits / 8;
    if (store_is_kivi(k->store))
        t->read_bytes[TAG_K] += coded * k->dim * 4;
    else if (bits < 8)
        t->read_bytes[TAG_K] += coded * k->dim / 8 * 4;
    if (bits != 16)
        t->conversions += coded * k->dim;
    t->vector_flop += (uint64_t)n * k->dim * 4;
}

void angles_traffic(const struct angles_args *a, const uint32_t *lengths, struct traffic *t)
{
    const struct cache_view *c = &a->c;
    uint64_t dim = c->k.dim, blocks = a->blocks;

    for (uint32_t i = 0; i < c->sequences * c->heads; i++) {
        uint32_t n = lengths[c->ragged ? i : i / c->heads];
        t->read_bytes[TAG_TABLES] += 2 * blocks * ANGLES_THREADS * 4;
        rows_traffic(c, n, t);
        rows_traffic(c, n, t);
        t->useful_flop += n * dim * 6;
        t->written_bytes[TAG_WORK] += blocks * dim * 4 + (uint64_t)n * 4;
        t->read_bytes[TAG_WORK] += blocks * blocks * dim * 4;
        t->vector_flop += blocks * dim * (ANGLES_WARPS + blocks + 2 * ANGLES_WARPS);
    }
}
