/* What a forward pass does: FLOPs by op, the weights it reads, and (with a fold) the attention
 * over the cache. Built once from the weight table and the layout; evaluated per plan without
 * allocation.
 *
 * Conventions (facts: sharing 1.2, models "Active parameters", eviction 0.5 and 8):
 *   a matrix of n elements costs 2n FLOP a token; gathers (embeddings) cost none; a multiply
 * and an add are 2 FLOP; norms, activations, RoPE and softmax exponentials are not counted; the
 * head is counted for the positions sampled, one a sequence; prefill attention counts causal
 * pairs. */
#ifndef KVBUDGET_PLANNER_COST_WORK_H
#define KVBUDGET_PLANNER_COST_WORK_H

#include "planner/cost/fold.h"
#include "planner/cost/shard.h"
#include "planner/model/weights.h"

enum op {
    OP_QKV,     /* projections to queries, keys, values and latents */
    OP_INDEXER, /* sparse-attention indexer: projections and scores */
    OP_SCORES,  /* queries times keys */
    OP_VALUES,  /* probabilities times values */
    OP_OUT,     /* output projection */
    OP_STATE,   /* recurrent mixers */
    OP_MLP,
    OP_EXPERTS, /* router, routed and shared experts */
    OP_OTHER,
    OP_ELEMENTWISE, /* norms, rotary embedding, activation functions of a prompt */
    OP_HEAD,
    OP_SCHEME, /* what a cache scheme computes: norms, window scores, sorts */
    OP_DEQUANT,
    OP_COLLECTIVE,
    OP_LAUNCH,
    N_OPS
};

enum { WORK_EXPERT_CLASSES = 8 };

struct expert_class { /* MoE layers with the same number of experts */
    uint32_t experts, top_k;
    uint64_t bytes;        /* all their experts, this rank, each layer once */
    uint64_t bytes_passes; /* times its prefill passes */
};

struct work { /* of one rank of a pipeline stage, or of the whole model */
    /* linear FLOP of one token: a decode step; a prompt token, prefill passes counted; the last
     * prompt token in the layers that an early exit skips */
    double token_flop[N_OPS], prompt_flop[N_OPS], last_flop[N_OPS];
    double move_bytes[2]; /* activations moved by OP_ELEMENTWISE: a prompt token, the last one
                             (as prompt_flop and last_flop) */
    uint64_t read_bytes[N_OPS];         /* weights read by one pass, routed experts excluded */
    uint64_t prefill_read_bytes[N_OPS]; /* the same over all prefill passes */
    struct expert_class experts[WORK_EXPERT_CLASSES];
    uint32_t n_experts;
    uint64_t weights_bytes;   /* resident on this rank */
    uint64_t copied_bytes;    /* besides: copies in 16 bits (work_in.widens) */
    uint64_t offloaded_bytes; /* of them, kept in host memory */
    uint64_t
        offloaded_prefill_bytes; /* what a prefill moves of them: each layer times its passes */
    uint64_t largest_layer_bytes; /* of the offloaded layers: the buffer they stream through */
    uint32_t layers;
    uint64_t layer_passes; /* runs of layers in a prefill: the sum of their passes */
    bool samples;          /* holds the head */
    bool upward;           /* some layer reads a layer above: prefill iterates */
    double forward_units; /* training: sum over layers, plain model = 3 a layer (sharing 1.2) */
};

struct work_in {
    const struct layout *layout;
    const struct weight_format *asked; /* NULL: as the checkpoint says */
    struct slice slice;
    uint32_t ep;
    uint32_t offload_layers; /* the first N layers of the model live in host memory */
    bool first_stage, last_stage;
    /* Whether MLA's up-projection in that format has a copy in 16 bits, which decode steps read
     * in its place. NULL = never. */
    bool (*widens)(const struct weight_format *f);
};

/* errors: ck->over. */
void work_build(const struct work_in *in, struct work *out, struct ck *ck);

struct op_tally {
    double flop[N_OPS];
    double bytes[N_OPS]; /* read and written */
};

/* One decode step of `batch` sequences, each with n prompt tokens and `decoded` cached ones.
 * Adds to *t. */
void work_decode(const struct work *w, const struct fold *f, uint64_t n, uint64_t decoded,
                 uint64_t batch, struct op_tally *t);
/* The prefill of `batch` prompts of n tokens in one pass (times the passes of upward maps;
 * prompts of no more than `sequential` tokens are decoded one by one). Adds to *t. */
void work_prefill(const struct work *w, const struct fold *f, uint64_t n, uint64_t batch,
                  uint64_t sequential, struct op_tally *t);

/* Parts of the two, for batches that mix them: the weights that one step over `tokens` tokens
 * reads, and everything else about tokens [from, to) of `batch` equal prompts. Each adds to *t.
 */
void work_decode_weights(const struct work *w, uint64_t tokens, struct op_tally *t);
void work_prefill_weights(const struct work *w, uint64_t tokens, struct op_tally *t);
struct work_part {
    uint64_t from, to;
    double batch;
    bool last; /* `to` is the end of the prompt */
};
void work_prompt(const struct work *w, const struct fold *f, struct work_part part,
                 struct op_tally *t);

/* Causal query-key pairs of a prompt of n: n(n+1)/2, n(n-1)/2 with a masked diagonal, clipped
 * by the window. */
double work_pairs(uint64_t n, uint64_t window, enum mixer mixer, bool diagonal_masked);

/* Keys of a prompt that its tokens [from, to) read: each that one of them sees, once. */
uint64_t work_prompt_keys(const struct cache_row *reader, uint64_t from, uint64_t to);

/* Expected share of distinct experts that `tokens` tokens touch, uniform routing: 1 - (1 -
 * k/E)^tokens. */
double work_expert_share(uint32_t experts, uint32_t top_k, uint64_t tokens);

/* FLOP of widening one stored token of a row to what kernels multiply. */
double work_dequant_flop(const struct cache_row *r);

/* FLOP of one token of a recurrent mixer besides its matrices: decay, outer product, sum and
 * read-out of the state (5 an element), and the short convolution (2 a tap); the delta rule
 * also reads the state before it writes (7 an element): the recurrence token by token. */
double work_state_flop(const struct state *s, uint32_t hidden);

const char *op_name(enum op op);

#endif
