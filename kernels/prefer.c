/* Checks and traffic of prefer. */
#include "kernels/prefer.h"

#include <stddef.h>

#include "kernels/launch.h"

enum device_status prefer_run(struct device *d, const struct prefer_args *a)
{
    const char *bad = NULL;

    if (!a->sequences || !a->n)
        bad = "at least one sequence and one part";
    else if (!(a->tau_entropy > 0.0f) || !(a->tau_variance > 0.0f))
        bad = "temperatures above 0";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "prefer: %s", bad);
    return device_launch(d, KERNEL_prefer, a);
}

void prefer_traffic(const struct prefer_args *a, struct traffic *t)
{
    uint64_t n = a->n, sequences = a->sequences, warps = PREFER_THREADS / 32;

    t->read_bytes[TAG_WORK] += sequences * n * 2 * 4;
    t->written_bytes[TAG_STATE] += sequences * 4;
    t->vector_flop += sequences * (n * 2 + 2 * warps + 3);
    t->useful_flop += sequences * n * 2;
    t->exps += sequences * 2;
}
