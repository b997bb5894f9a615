/* Checks and traffic of the kernels on rows. */
#include "kernels/rows.h"

#include <stddef.h>

#include "kernels/launch.h"

#define UNITS_MAX ((uint64_t)INT32_MAX * ROWS_THREADS)

enum device_status mix_run(struct device *d, const struct mix_args *a)
{
    const char *bad = NULL;

    if (!a->rows || !a->terms || !a->width || a->width % 8)
        bad = "at least one row and term, of a multiple of 8 elements";
    return bad ? device_refuse(d, DEVICE_BAD_ARGUMENT, "mix: %s", bad)
               : device_launch(d, KERNEL_mix, a);
}

static enum device_status run(struct device *d, enum kernel k, const void *args, uint64_t count)
{
    if (!count || count % 8 || count / 8 > UNITS_MAX)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "%s: a multiple of 8 elements, not 0",
                             k == KERNEL_gelu ? "gelu" : "noise");
    return device_launch(d, k, args);
}

enum device_status gelu_run(struct device *d, const struct gelu_args *a)
{
    return run(d, KERNEL_gelu, a, a->count);
}

enum device_status noise_run(struct device *d, const struct noise_args *a)
{
    return run(d, KERNEL_noise, a, a->count);
}

void mix_traffic(const struct mix_args *a, struct traffic *t)
{
    uint64_t n = (uint64_t)a->rows * a->width;

    t->read_bytes[a->from_tag] += (a->wide_from ? 4 : 2) * n * a->terms;
    t->read_bytes[TAG_TABLES] += a->index ? n / 8 * 4 * a->terms : 0;
    t->read_bytes[TAG_ACTIVATION] += a->onto ? 2 * n : 0;
    t->written_bytes[TAG_ACTIVATION] += 2 * n;
    t->vector_flop += n * (a->terms + (a->onto ? 2u : 1u));
}

void gelu_traffic(const struct gelu_args *a, struct traffic *t)
{
    t->read_bytes[TAG_ACTIVATION] += 2 * a->count;
    t->written_bytes[TAG_ACTIVATION] += 2 * a->count;
    t->vector_flop += 5 * a->count;
    t->exps += a->count;
}

void noise_traffic(const struct noise_args *a, struct traffic *t)
{
    t->written_bytes[a->tag] += (a->wide ? 4 : 2) * a->count;
    t->vector_flop += 2 * a->count;
}
