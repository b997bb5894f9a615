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

enum device_status scale_run(struct device *d, const struct scale_args *a)
{
    const char *bad = NULL;

    if (!a->rows || !a->heads || !a->dim || a->dim % 8)
        bad = "scale: at least one row and head, of a multiple of 8 elements";
    else if (a->each && a->stride % 8)
        bad = "scale: gates of each element are a multiple of 8 elements apart";
    else if ((uint64_t)a->rows * a->heads * (a->dim / 8) > INT32_MAX)
        bad = "scale: at most 2^31 units of 8 elements at once";
    return run(d, KERNEL_scale, a, bad);
}

enum device_status logits_run(struct device *d, const struct logits_args *a)
{
    const char *bad = NULL;

    if (!a->rows || !a->width || a->stride < a->width)
        bad = "logits: at least one row and column, rows that do not overlap";
    else if ((uint64_t)a->rows * a->width > INT32_MAX)
        bad = "logits: at most 2^31 of them at once";
    else if (!(a->cap >= 0.0f))
        bad = "logits: the cap must not be below 0";
    return run(d, KERNEL_logits, a, bad);
}

static uint32_t argmax_stride(const struct argmax_args *a)
{
    return a->stride ? a->stride : a->width;
}

enum device_status argmax_run(struct device *d, const struct argmax_args *a)
{
    uint32_t stride = argmax_stride(a);
    bool bad = !a->rows || !a->width || a->width > 1u << 24 || stride % 4 || stride < a->width;

    return run(d, KERNEL_argmax, a,
               bad ? "argmax: at least one row, of up to 2^24 elements, a multiple of 4 apart"
                   : NULL);
}

void norm_traffic(const struct norm_args *a, struct traffic *t)
{
    uint64_t n = (uint64_t)a->rows * a->width, passes = a->residual ? 2 : 1;
    uint64_t centred = a->centred, weight = a->weight != NULL, bias = a->bias != NULL;

    /* x (and the residual), then s again for what follows: its spread about the mean, and the
     * result */
    t->read_bytes[TAG_ACTIVATION] += n * 2 * (passes + 1 + centred);
    t->written_bytes[TAG_ACTIVATION] += n * 2 * passes;
    t->read_bytes[TAG_WEIGHTS] += n * (a->wide_weight ? 4 : 2) * (weight + bias);
    t->vector_flop += n * (passes - 1 + 2 + 2 * centred); /* sums, squares */
    t->vector_flop += n * (1 + centred + weight + bias);  /* the result */
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

void scale_traffic(const struct scale_args *a, struct traffic *t)
{
    uint64_t n = (uint64_t)a->rows * a->heads * a->dim, gates = a->each ? n : n / 8;

    t->read_bytes[TAG_ACTIVATION] += n * 2;
    t->read_bytes[a->gate_tag] += gates * 2;
    t->written_bytes[TAG_ACTIVATION] += n * 2;
    t->vector_flop += n;
    t->exps += a->plain ? 0 : gates;
}

void logits_traffic(const struct logits_args *a, struct traffic *t)
{
    uint64_t n = (uint64_t)a->rows * a->width;

    t->read_bytes[TAG_ACTIVATION] += n * 4;
    t->read_bytes[TAG_WEIGHTS] += a->bias ? n * 2 : 0;
    t->written_bytes[TAG_ACTIVATION] += n * 4;
    t->vector_flop += (a->bias ? n : 0) + (a->cap > 0.0f ? 2 * n : 0);
    t->exps += a->cap > 0.0f ? n : 0;
}

void argmax_traffic(const struct argmax_args *a, struct traffic *t)
{
    uint64_t loaded = ((uint64_t)a->width + 3) / 4 * 4; /* by pieces of 4 */

    t->read_bytes[TAG_ACTIVATION] += a->rows * loaded * 4;
    t->written_bytes[TAG_TABLES] += (uint64_t)a->rows * 4;
}
