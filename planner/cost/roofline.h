/* Bytes and FLOPs into seconds: each op takes the longer of its memory time and its arithmetic
 * time; launches, collectives and the host link are terms of their own. source: the roofline
 * model; efficiencies from the GPU profile. */
#ifndef KVBUDGET_PLANNER_COST_ROOFLINE_H
#define KVBUDGET_PLANNER_COST_ROOFLINE_H

#include "planner/cost/work.h"

/* Kernels a decoder layer launches without fusion: two norms, QKV, RoPE with append, attention,
 * output, gate-up, activation, down (counted from the layer; profiles/measured replaces it
 * where a GPU was calibrated). */
enum { KERNELS_PER_LAYER = 9 };

struct machine {               /* achievable figures of one GPU, efficiencies applied */
    double weight_bytes_per_s; /* reading weights */
    double cache_bytes_per_s;  /* reading the cache in decode attention */
    double gemm_flop_per_s;    /* of the format the weights multiply in */
    double attention_flop_per_s;
    double kernel_launch_s;
    double link_bytes_per_s; /* host link, one way */
    double peer_bytes_per_s; /* between GPUs, one way; 0 = one GPU */
    double peer_latency_s;
};

/* Adds what tensor, expert and pipeline parallelism send for `tokens` tokens, as OP_COLLECTIVE
 * bytes: two all-reduces a layer of hidden x 2 bytes x 2 (tp - 1) / tp (ring). Returns the
 * number of messages. */
uint32_t roofline_collectives(const struct model *m, struct parallel p, uint32_t layers,
                              double tokens, struct op_tally *t);

/* Adds what tensor parallelism sends to bring the logits of `sampled` tokens together: each
 * rank that holds a part of the head has its part of the vocabulary, in 16 bits. Returns the
 * number of messages. source: vllm-project/vllm logits_processor.py (_gather_logits). */
uint32_t roofline_logits(const struct work *w, const struct model *m, struct parallel p,
                         double sampled, struct op_tally *t);

/* Products of a few dozen rows hide only part of their arithmetic behind the loading of
 * weights: about this share of it adds to the time of the bytes. source: timings of 20 to 256
 * rows on two cards (casys-kaist/LLMServingSim@72c16bac profiler/perf), within 4 % where the
 * plain maximum is up to 30 % short. */
#define ROOFLINE_EXPOSED (1.0 / 3)

/* The two sides of an op that is neither a collective nor a launch; the longer is its time. */
struct op_sides {
    double memory_s, math_s;
};
struct op_sides roofline_sides(const struct machine *m, enum op op, double bytes, double flop);

/* Seconds of launches and collectives alone. */
double roofline_fixed_s(const struct op_tally *t, const struct machine *m, double kernels,
                        uint32_t messages);

/* Seconds by op (launches and collectives included) of a tally on a machine; returns their sum.
 */
double roofline_seconds(const struct op_tally *t, const struct machine *m, double kernels,
                        uint32_t messages, double seconds[N_OPS]);

#endif
