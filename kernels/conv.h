/* The short causal convolution of recurrent mixers, one filter a channel, with the columns it
 * carries from step to step:
 *
 *     out[t][c] = f(bias[c] + sum over j < taps of weight[c][j] * x[t - taps + 1 + j][c])
 *
 * where what lies before the first token comes from the sequence's state, which then holds the
 * last taps - 1 columns. f is SiLU or nothing. With gates x is multiplied by gate_in first and
 * the result by gate_out. source: arXiv:2312.00752 section 3.4 (Mamba);
 * huggingface/transformers src/transformers/models/lfm2 (gates). */
#ifndef KVBUDGET_KERNELS_CONV_H
#define KVBUDGET_KERNELS_CONV_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/device.h"

enum { CONV_THREADS = 128, CONV_TILE = 16, CONV_TAPS_MIN = 2, CONV_TAPS_MAX = 4 };

struct conv_args {        /* row s * tokens + t is token t of sequence s */
    const void *x;        /* [rows][x_stride], the first `channels` of each */
    const void *gate_in;  /* as x; NULL: no gates */
    const void *gate_out; /* as x */
    const void *weight;   /* [channels][taps] */
    const void *bias;     /* [channels], or NULL */
    void *state;          /* of the first sequence: [taps - 1][channels], oldest first */
    void *out;            /* [rows][channels] */
    uint64_t slot_bytes;  /* from the state of a sequence to the next one's; 16 divides it */
    uint32_t sequences, tokens;
    uint32_t channels, x_stride; /* multiples of 8 */
    uint32_t taps;               /* 2 to 4 */
    bool silu;
    bool wide; /* the state is fp32, else in 16 bits */
    bool fp16;
};

enum device_status conv_run(struct device *d, const struct conv_args *a);

/* What it issues, exactly: the state is TAG_STATE, read and written once; weight and bias are
 * TAG_WEIGHTS, the rest TAG_ACTIVATION. Useful: a multiply and an add a tap, and the gates.
 * Adds to *t. */
void conv_traffic(const struct conv_args *a, struct traffic *t);

#endif
