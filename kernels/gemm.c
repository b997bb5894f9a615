/* Checks and declared traffic of products. */
#include "kernels/gemm.h"

#include <stddef.h>

#include "kernels/launch.h"

#define WORK_BYTES ((uint64_t)32 << 20)

uint64_t gemm_work_bytes(struct device *d)
{
    struct device_info info;

    return device_get_info(d, &info) != DEVICE_OK || info.is_cpu ? 0 : WORK_BYTES;
}

enum device_status gemm_run(struct device *d, const struct gemm_args *a)
{
    const char *bad = NULL;

    if (!a->rows || !a->outs || !a->in || a->in % 8)
        bad = "at least one row and column, sums of a multiple of 8 elements";
    else if (a->stride && a->stride < a->outs)
        bad = "rows of the result overlap";
    else if (a->x_stride && (a->x_stride < a->in || a->x_stride % 8))
        bad = "rows of x are a multiple of 8 elements apart, at least their length";
    else if ((a->across && a->outs % 8) || a->x_step % 8 || a->w_step % 8 || a->out_step % 8)
        bad = "weights and steps are a multiple of 8 elements";
    else if (a->products > 1 && a->bias)
        bad = "several products have no bias";
    else if (((uintptr_t)a->x | (uintptr_t)a->w | (uintptr_t)a->bias | (uintptr_t)a->out) % 16)
        bad = "operands are aligned to 16 bytes";
    else if (a->work_bytes && (!a->work || (uintptr_t)a->work % 256))
        bad = "work memory is aligned to 256 bytes";
    else if (a->wide && a->bias)
        bad = "fp32 results have no bias";
    else if (a->rows > INT32_MAX || a->outs > INT32_MAX || a->in > INT32_MAX)
        bad = "at most 2^31 - 1 rows and columns";
    return bad ? device_refuse(d, DEVICE_BAD_ARGUMENT, "gemm: %s", bad)
               : device_launch(d, KERNEL_gemm, a);
}

void gemm_traffic(const struct gemm_args *a, struct traffic *t)
{
    uint64_t rows = a->rows, outs = a->outs, in = a->in, n = a->products ? a->products : 1;

    t->read_bytes[TAG_ACTIVATION] += n * 2 * rows * in;
    t->read_bytes[a->w_tag] += n * 2 * outs * in + (a->bias ? 2 * outs : 0);
    t->written_bytes[TAG_ACTIVATION] += n * (a->wide ? 4 : 2) * rows * outs;
    t->tensor_flop += n * 2 * rows * outs * in;
    t->useful_flop += n * 2 * rows * outs * in;
}
