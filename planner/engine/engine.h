/* An engine is an accounting policy in one file: how it turns a GPU, a model and flags into a
 * KV pool, and what it prints of it. `ideal` has no overheads. The planner's arithmetic
 * (capacity) is the same for all of them. */
#ifndef KVBUDGET_PLANNER_ENGINE_ENGINE_H
#define KVBUDGET_PLANNER_ENGINE_ENGINE_H

#include "planner/cost/work.h"

/* Settings of a spec's `engine:` map; 0 / NULL = not given. */
struct engine_settings {
    const char *name, *version;
    double memory_fraction; /* 0 = the engine's default */
    uint64_t max_model_len, max_seqs, max_batched_tokens, block_tokens;
    uint64_t cuda_graphs; /* 0 = default, 1 = off, 2 = on */
    uint64_t n_batch, n_ubatch, n_seq, offload_layers;
    bool kv_unified, flash_attn, swa_full;
};

/* What one GPU has to hold before any cache. */
struct engine_in {
    const struct engine_settings *set;
    const struct layout *layout;
    const struct work *work; /* of this rank's stage */
    struct parallel parallel;
    uint64_t total_bytes;           /* as the driver reports it */
    uint64_t visible_bytes;         /* as a program sees it, memory_limit applied */
    uint64_t prompt, output, batch; /* batch 0 = auto */
};

/* Terms of one GPU's memory, bytes. kv_pool = usable - the terms, 0 when they do not fit. */
struct budget {
    uint64_t total_bytes, usable_bytes, weights_bytes, activation_bytes, non_torch_bytes,
        cuda_graph_bytes, workspace_bytes, kv_pool_bytes;
    uint64_t short_bytes; /* by how much the terms exceed the usable memory */
};

struct engine {
    const char *name, *summary, *source;
    uint64_t block_tokens; /* default block; 1 = no paging */
    bool uniform_pool;     /* one block table for all layers: per-layer ragged lengths cannot be
                              used */
    bool (*budget)(const struct engine_in *in, struct budget *out, struct diag *d);
};

const struct engine *engine_at(size_t i); /* NULL past the end */
/* Unknown name: DIAG_INPUT that lists what is known; NULL. A NULL or empty name is `ideal`. */
const struct engine *engine_find(const char *name, struct loc at, struct diag *d);

/* usable - terms, with short_bytes when negative: shared by the engines. */
void budget_close(struct budget *b);

#endif
