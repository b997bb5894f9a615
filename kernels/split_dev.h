/* Device code of attention whose rows are split over blocks: where the parts of a query head
 * lie until they are combined. Included by .cu files. */
#ifndef KVBUDGET_KERNELS_SPLIT_DEV_H
#define KVBUDGET_KERNELS_SPLIT_DEV_H

#include "kernels/dev.h"

#include "kernels/decode.h"

#define NONE dev_float(0xff800000u) /* minus infinity; nvcc computes -1 / 0 at run time */
#define LEAST (-3.4e38f)            /* finite, so that a difference of two is a number */
#define LOG2E 1.4426950408889634f
#define LN2 0.6931471805599453f

/* Where the parts of a query head begin in `work`: first all pairs (m, l), then all vectors. */
DEV uint64_t part_of(const struct decode_args *a, uint32_t sequence, uint32_t q_head)
{
    return ((uint64_t)sequence * a->q_heads + q_head) * a->splits;
}

DEV float *vectors_of(const struct decode_args *a)
{
    return (float *)a->work + 2 * decode_pairs(a);
}

/* ln(sum 2^x) from the largest x and the sum relative to it; minus infinity of nothing. */
DEV float log_sum(float most, float sum)
{
    return sum > 0.0f ? (most + log2f(sum)) * LN2 : NONE;
}

#endif
