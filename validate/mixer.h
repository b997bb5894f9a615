/* Recurrent mixers as their kernels run them: from the shape of a state to the widths of the
 * activations between its kernels, and to the kernels' arguments. What a projection leaves in a
 * row of `in`, and where the other numbers are:
 *
 *              in                  conv           rate            side       gate
 *   mamba1     x, z                x              dt, a channel   B; C       in's z
 *   mamba2     z, x, B, C, dt      x, B, C        in's dt                    in's z
 *   gdn        q, k, v, z          q, k, v        beta, dt                   in's z
 *   kda        q, k, v             q, k, v        dt, a column    beta       its own
 *   lightning  q, k, v                                                       its own
 *   retention  q, k, v                            a head                     its own
 *   shortconv  B, C, x             y                                         in's B and C
 *   gmu        gate                                                          in
 *
 * A unit of gated memory gates what the last Mamba layer below has put into `memory`. */
#ifndef KVBUDGET_VALIDATE_MIXER_H
#define KVBUDGET_VALIDATE_MIXER_H

#include "kernels/conv.h"
#include "kernels/gate.h"
#include "kernels/scan.h"
#include "planner/cache/layout.h"

struct mixer_width { /* elements of a row of activations; of the state, of a sequence */
    uint64_t in, conv, y, gate, rate, low, side;
    uint64_t in_outs; /* of `in`, which is a multiple of 8, what the projection leaves */
    uint64_t rank;    /* of dt: the first of `low` */
    uint64_t conv_elems, state_elems;
};

enum mixer_weight { /* as planner/model/weights_layer.c has them; several are one with others */
                    MIX_IN,
                    MIX_CONV,
                    MIX_CONV_BIAS,
                    MIX_LOW, /* to dt's rank, B and C; to KDA's rank of dt */
                    MIX_RATE,
                    MIX_RATE_BIAS,
                    MIX_A_LOG,
                    MIX_DT_BIAS, /* a tensor of its own */
                    MIX_D,
                    MIX_LOW_NORM,
                    MIX_BETA,
                    MIX_LOW_GATE,
                    MIX_GATE,
                    MIX_NORM,
                    MIX_OUT,
                    N_MIX_WEIGHTS
};

struct recurrence {            /* of one layer and some sequences, on a device */
    const struct state *state; /* of one rank */
    uint32_t hidden;
    uint32_t sequences, tokens;
    uint32_t rows_max;   /* of `side`, whose halves are that far apart */
    void *slots;         /* states of the sequences, each its columns and then its matrices */
    uint64_t slot_bytes; /* of one sequence */
    uint32_t conv_elem_bytes, state_elem_bytes; /* 2 or 4 */
    const void *weight[N_MIX_WEIGHTS];
    void *in, *conv, *y, *gate, *rate, *side;
    void *memory; /* where the scan of a Mamba layer leaves its result; NULL: in y */
    float slope, epsilon;
    bool fp16;
};

/* The state as one rank of `tp` has it. False: heads or groups do not divide. source:
 * planner/cost/shard.c */
bool mixer_on_rank(const struct state *s, uint32_t tp, struct state *out);

/* NULL, or in one line what the kernels lack for it. */
const char *mixer_refuses(const struct state *s, uint32_t hidden);

void mixer_widths(const struct state *s, uint32_t hidden, struct mixer_width *out);

/* The tensor's name, NULL: the mixer has none. */
const char *mixer_weight_name(enum state_kind kind, enum mixer_weight w);

/* Arguments of the three kernels; false: this mixer does without. */
bool mixer_conv(const struct recurrence *m, struct conv_args *out);
bool mixer_scan(const struct recurrence *m, struct scan_args *out);
bool mixer_gate(const struct recurrence *m, struct gate_args *out);

/* The decay of lightning attention in a layer. source: arXiv:2501.08313; MiniMax in
 * huggingface/transformers src/transformers/models/minimax */
float mixer_slope(uint32_t layer, uint32_t n_layers);

#endif
