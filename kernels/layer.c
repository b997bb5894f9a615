/* Checks and traffic of the small kernels of a layer. */
#include "kernels/layer.h"

#include <stddef.h>

#include "kernels/launch.h"

static enum device_status run(struct device *d, enum kernel k, const void *args,
                              const char *bad)
{
    return bad ? device_refuse(d, DEVICE_BAD_ARGUMENT, "%s", bad) : device_launch(d, k, args);
}

enum device_status norm_run(struct device *d, const struct norm_args *a)
{
    bool bad = !a->rows || !a->width || a->width % 8;

    return run(d, KERNEL_norm, a,
               bad ? "norm: at least one row, of a multiple of 8 elements" : NULL);
}

enum device_status rope_run(struct device *d, const struct rope_args *a)
{
    const char *bad = NULL;

    if (!a->rows || !a->heads || !a->dim || a->dim % 8)
        bad = "rope: at least one row and head, of a multiple of 8 elements";
    else if (!a->rotary || a->rotary % 16 || a->rotary > a->dim)
        bad = "rope: a multiple of 16 elements turns, at most a head";
    else if ((uint64_t)a->rows * a->heads * (a->rotary / 16) > INT32_MAX)
        bad = "rope: at most 2^31 units of 16 elements at once";
    return run(d, KERNEL_rope, a, bad);
}

enum device_status swiglu_run(struct device *d, const struct swiglu_args *a)
{
    const char *bad = NULL;

    if (!a->rows || !a->width || a->width % 8)
        bad = "swiglu: at least one row, of a multiple of 8 elements";
    else if ((uint64_t)a->rows * (a->width / 8) > INT32_MAX)
        bad = "swiglu: at most 2^31 units of 8 elements at once";
    return run(d, KERNEL_swiglu, a, bad);
}

enum device_status argmax_run(struct device *d, const struct argmax_args *a)
{
    bool bad = !a->rows || !a->width || a->width % 4 || a->width > 1u << 24;

    return run(d, KERNEL_argmax, a,
               bad ? "argmax: at least one row, of a multiple of 4 elements up to 2^24" : NULL);
}

void norm_traffic(const struct norm_args *a, struct traffic *t)
{
    uint64_t n = (uint64_t)a->rows * a->width, passes = a->residual ? 2 : 1;

    /* x (and the residual), then s again for the second pass; a square and a sum, two products
     */
    t->read_bytes[TAG_ACTIVATION] += n * 2 * (passes + 1);
    t->written_bytes[TAG_ACTIVATION] += n * 2 * passes;
    t->read_bytes[TAG_WEIGHTS] += n * (a->wide_weight ? 4 : 2);
    t->vector_flop += n * 4 + (a->residual ? n : 0);
}

void rope_traffic(const struct rope_args *a, struct traffic *t)
{
    uint64_t n = (uint64_t)a->rows * a->heads * a->rotary;

    t->read_bytes[TAG_ACTIVATION] += n * 2;
    t->written_bytes[TAG_ACTIVATION] += n * 2;
    t->read_bytes[TAG_TABLES] += n / 2 * 8 + n / 16 * 4;
    t->vector_flop += n * 3;
}

void swiglu_traffic(const struct swiglu_args *a, struct traffic *t)
{
    uint64_t n = (uint64_t)a->rows * a->width;

    t->read_bytes[TAG_ACTIVATION] += n * 4;
    t->written_bytes[TAG_ACTIVATION] += n * 2;
    t->vector_flop += n * 2;
    t->exps += n;
}

void argmax_traffic(const struct argmax_args *a, struct traffic *t)
{
    t->read_bytes[TAG_ACTIVATION] += (uint64_t)a->rows * a->width * 4;
    t->written_bytes[TAG_TABLES] += (uint64_t)a->rows * 4;
}
