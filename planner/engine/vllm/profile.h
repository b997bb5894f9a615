/* What vLLM's profile run allocates at start-up, and what CUDA graphs take afterwards: from the
 * tensors of a step of max_batched_tokens and a sampler call for max_seqs sequences. */
#ifndef KVBUDGET_PLANNER_ENGINE_VLLM_PROFILE_H
#define KVBUDGET_PLANNER_ENGINE_VLLM_PROFILE_H

#include "planner/engine/engine.h"

/* Facts of a range of versions; the one that counts is the last whose `from` is not newer. */
struct vllm_rules {
    uint32_t from;
    bool v1;                    /* the second engine core: compiled, chunked prefill always */
    bool hybrid;                /* layers of several kinds have block tables of their own */
    bool moe_stays;             /* expert workspaces stay allocated between layers */
    bool reserves_graphs;       /* an estimate for CUDA graphs is subtracted from the pool */
    bool tokens_by_concurrency; /* the token line is max_concurrency * max_model_len */
    uint32_t sampler_bytes;     /* a logit, besides the logit itself in the model's type */
    bool sampler_buffer;        /* top-k/top-p kernel with one row of logits a multiprocessor */
    uint32_t non_torch_mib, non_torch_tp_mib, non_torch_pp_mib;
    uint32_t graph_fixed_mib; /* CUDA graphs: once, and a layer and 100 captured sizes */
    uint32_t graph_layer_mib;
    double memory_fraction;
};

const struct vllm_rules *vllm_rules_of(uint32_t version);

/* Peak of the framework's memory over the profile run, less the weights. units: bytes; source:
 * the allocations named at each term. errors: ck->over. */
uint64_t vllm_activation_bytes(const struct engine_in *in, const struct vllm_rules *r,
                               struct ck *ck);

/* Weights of this rank as the engine counts them: tensors, what the allocator rounds up, tables
 * of rotations. units: bytes. errors: ck->over. */
uint64_t vllm_weights_bytes(const struct engine_in *in, struct ck *ck);

/* What capture takes from the pool: a mean over measured starts for the graphs themselves, and
 * the buffers of the largest captured size, those between the pieces and those of one MLP. */
uint64_t vllm_graph_bytes(const struct engine_in *in, const struct vllm_rules *r,
                          struct ck *ck);

#endif
