/* Checks and traffic of keys turned in a ring. */
#include "kernels/ring.h"

#include "kernels/launch.h"

enum device_status turn_run(struct device *d, const struct turn_args *a)
{
    const char *bad = cache_check(&a->c);

    if (!bad && store_bits(a->c.k.store) != 16)
        bad = "only keys of 16 bits turn";
    if (!bad && (a->rotary % 16 || a->rotary > a->c.k.dim))
        bad = "a multiple of 16 elements turns, at most a head";
    if (!bad && a->out == a->c.k.codes)
        bad = "not in place";
    if (!bad && (!a->blocks || a->c.heads > 65535))
        bad = "at least one block, at most 65535 heads";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "turn: %s", bad);
    return device_launch(d, KERNEL_turn, a);
}

void turn_traffic(const struct turn_args *a, const uint32_t *lengths, struct traffic *t)
{
    const struct cache_view *c = &a->c;

    for (uint32_t i = 0; i < c->sequences * c->heads; i++) {
        uint64_t n = lengths[c->ragged ? i : i / c->heads];
        t->read_bytes[TAG_TABLES] += (uint64_t)a->blocks * TURN_THREADS * 3 * 4;
        t->read_bytes[TAG_TABLES] += n * (32 * 4 + a->rotary / 2 * 8);
        t->read_bytes[TAG_K] += n * c->k.dim * 2;
        t->written_bytes[TAG_WORK] += n * c->k.dim * 2;
        t->vector_flop += n * a->rotary * 3;
    }
}
