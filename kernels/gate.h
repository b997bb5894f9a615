/* What follows a recurrent mixer: a norm over groups of its output and a gate, in either order.
 *
 *     out = norm(x) * f(gate)            or, with `before`,   out = norm(x * f(gate))
 *     norm(y) = y / sqrt(mean(y^2) + epsilon) * weight        over groups of `group` elements
 *
 * f is SiLU or the sigmoid; the norm, its weight or the gate may be absent. source:
 * arXiv:2405.21060 (Mamba-2: before), arXiv:2412.06464 (gated delta net: after),
 * arXiv:2507.06607 (gated memory unit: no norm). */
#ifndef KVBUDGET_KERNELS_GATE_H
#define KVBUDGET_KERNELS_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/device.h"

enum { GATE_THREADS = 256, GATE_WARP_GROUP = 256 };

struct gate_args {
    const void *x;         /* [rows][x_stride] */
    const void *gate;      /* [rows][gate_stride], or NULL */
    const void *weight;    /* [weight_width], over and over; NULL: none */
    void *out;             /* [rows][width]; may be x where x_stride is width */
    uint32_t rows, width;  /* width: a multiple of group */
    uint32_t group;        /* a multiple of 8 */
    uint32_t x_stride;     /* elements, a multiple of 8; 0 = width */
    uint32_t gate_stride;  /* the same of the gate; not 0 */
    uint32_t weight_width; /* divides width; group divides it or it is group */
    float epsilon;
    bool norm;
    bool before;  /* the gate comes before the norm */
    bool sigmoid; /* f, else SiLU */
    bool counted; /* its two products are useful: the gate is the mixer */
    bool fp16;
};

enum device_status gate_run(struct device *d, const struct gate_args *a);

/* What it issues, exactly; the weight is TAG_WEIGHTS, the rest TAG_ACTIVATION. Adds to *t. */
void gate_traffic(const struct gate_args *a, struct traffic *t);

#endif
