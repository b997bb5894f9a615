/* Device code for what some models do to scores besides the scale: a cap (Gemma 2), and a slope
 * along the tokens (ALiBi). Included by .cu files. */
#ifndef KVBUDGET_KERNELS_BEND_DEV_H
#define KVBUDGET_KERNELS_BEND_DEV_H

#include <stddef.h>

#include "kernels/dev.h"

struct bent { /* in the unit that the scores come in */
    float cap, twice, slope;
};

/* slope: in device memory, or NULL; unit: what a score of 1 comes as. */
DEV struct bent bent_by(struct lane *t, float cap, const float *slope, float unit)
{
    struct bent b = {cap * unit, 0.0f, slope ? dev_load_float(t, slope) * unit : 0.0f};

    if (cap > 0.0f)
        b.twice = 2.0f * 1.4426950408889634f / b.cap;
    return b;
}

/* tanh(y) = 1 - 2 / (1 + exp(2 y)) */
DEV float bent_score(const struct bent *b, float x, uint32_t token)
{
    if (b->cap > 0.0f)
        x = b->cap - 2.0f * b->cap / (1.0f + dev_exp2(x * b->twice));
    return dev_fma(b->slope, (float)token, x);
}

#endif
