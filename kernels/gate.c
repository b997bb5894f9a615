/* Checks and traffic of norms with a gate. */
#include "kernels/gate.h"

#include <stddef.h>

#include "kernels/launch.h"

static const char *refuses(const struct gate_args *a)
{
    if (!a->rows || !a->width || !a->group || a->group % 8 || a->width % a->group)
        return "at least one row, of groups of a multiple of 8 elements";
    if (a->weight && (!a->weight_width || a->weight_width % 8 || a->width % a->weight_width))
        return "weights of a multiple of 8 elements that divides the width";
    if (a->gate && (a->gate_stride % 8 || a->gate_stride < a->width))
        return "gates of at least the width, a multiple of 8 elements";
    if (a->x_stride && (a->x_stride % 8 || a->x_stride < a->width))
        return "rows of x of at least the width, a multiple of 8 elements";
    if ((uint64_t)a->rows * (a->width / a->group) > INT32_MAX)
        return "at most 2^31 groups at once";
    return NULL;
}

enum device_status gate_run(struct device *d, const struct gate_args *a)
{
    const char *bad = refuses(a);
    struct gate_args b = *a;

    b.x_stride = a->x_stride ? a->x_stride : a->width;
    return bad ? device_refuse(d, DEVICE_BAD_ARGUMENT, "gate: %s", bad)
               : device_launch(d, KERNEL_gate, &b);
}

/* A norm takes two passes; a gate before it is there in both. */
void gate_traffic(const struct gate_args *a, struct traffic *t)
{
    uint64_t n = (uint64_t)a->rows * a->width, passes = a->norm ? 2 : 1;
    uint64_t gates = !a->gate ? 0 : a->before ? passes : 1, products = a->sigmoid ? 1 : 2;

    t->read_bytes[TAG_ACTIVATION] += 2 * n * (passes + gates);
    t->read_bytes[TAG_WEIGHTS] += a->weight ? 2 * n : 0;
    t->written_bytes[TAG_ACTIVATION] += 2 * n;
    t->vector_flop += n * (gates * products + (a->norm ? 3 : 0) + (a->weight ? 1 : 0));
    t->useful_flop += a->counted ? 2 * n : 0;
    t->exps += n * gates;
}
