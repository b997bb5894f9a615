/* An engine is an accounting policy in one file: how it turns a GPU, a model and flags into a
 * KV pool, how it hands the pool out, and what it prints of it. `ideal` has no overheads. The
 * planner's arithmetic (capacity) is the same for all of them. */
#ifndef KVBUDGET_PLANNER_ENGINE_ENGINE_H
#define KVBUDGET_PLANNER_ENGINE_ENGINE_H

#include "planner/cost/gpu.h"
#include "planner/cost/work.h"
#include "planner/engine/pool/pool.h"

/* Settings of a spec's `engine:` map; 0 / NULL = not given. */
struct engine_settings {
    const char *name, *version;
    double memory_fraction; /* 0 = the engine's default */
    uint64_t max_model_len, max_seqs, max_batched_tokens, block_tokens;
    uint64_t cuda_graphs; /* 0 = default, 1 = off, 2 = on */
    uint64_t n_batch, n_ubatch, n_seq, offload_layers;
    uint64_t kv_unified, flash_attn; /* 0 = default, 1 = off, 2 = on */
    bool swa_full, offload_layers_given;
};

/* What the defaults of the settings depend on. */
struct engine_host {
    const struct model *model;
    const struct gpu *gpu;
    uint64_t visible_bytes; /* of one GPU */
    struct parallel parallel;
    struct loc at; /* of the spec's `engine:` map */
};

struct budget;

/* What one GPU has to hold before any cache. */
struct engine_in {
    const struct engine_settings *set;
    const struct layout *layout;
    const struct work *work;           /* of this rank's stage */
    const struct fold *fold;           /* the same */
    const struct gpu *gpu;             /* figures that are not known are 0 */
    const struct weight_format *asked; /* of the weights; NULL = as the checkpoint says */
    struct parallel parallel;
    uint64_t total_bytes;           /* as the driver reports it */
    uint64_t visible_bytes;         /* as a program sees it, memory_limit applied */
    uint64_t prompt, output, batch; /* batch 0 = auto */
    bool first_stage, last_stage;
    const struct budget *base; /* what `budget` has put out; for `reserve` */
    uint64_t host_layers;      /* the first so many layers of the model stay in host memory */
    struct loc at;
};

/* Terms of one GPU's memory, bytes. kv_pool = usable - the terms, 0 when they do not fit. A
 * term with its `free_` flag is taken after the pool was sized: reported, not subtracted. */
struct budget {
    uint64_t total_bytes, usable_bytes, weights_bytes, activation_bytes, non_torch_bytes,
        cuda_graph_bytes, workspace_bytes, kv_pool_bytes;
    uint64_t short_bytes; /* by how much the terms exceed the usable memory */
    bool free_graphs;     /* CUDA graphs lie outside what `usable` reserves */
    /* Engines that reserve at start-up (struct engine: reserve): kv_pool is what they allocate,
     * not what is left. */
    bool reserved;
    uint64_t k_bytes, v_bytes; /* the parts of that pool */
    uint64_t state_bytes;      /* recurrent states of all sequences, beside the pool */
    uint64_t pool_tokens, slots, slot_tokens; /* cells, sequences, the longest sequence */
    double pool_ratio; /* share of what is left that becomes cache; 0 = all of it */
};

/* The lines an engine prints about its pool. */
struct engine_lines {
    uint64_t kv_tokens;
    double max_concurrency;
};

/* One sequence on one GPU; see struct need of planner/plan/capacity.h. */
struct engine_need {
    uint64_t sequence_bytes, prefill_bytes;
};

struct flags_in;
struct engine_flags;

struct engine {
    const char *name, *summary, *source;
    uint64_t block_tokens; /* default block; 1 = no paging */
    bool uniform_pool;     /* one block table for all layers: per-layer ragged lengths cannot be
                              used */
    const char
        *cache_format;     /* when cache.format is not given; NULL = as the checkpoint says */
    bool cache_as_weights; /* without cache.format an fp32 or fp16 asked for weights is the
                              cache's */
    /* Fills the settings a spec leaves open, each with a note; NULL = there are none to fill.
     */
    bool (*defaults)(const struct engine_host *host, struct engine_settings *set,
                     struct diag *d);
    bool (*budget)(const struct engine_in *in, struct budget *out, struct diag *d);
    /* Makes the layout what the engine stores, and refuses what it cannot run; NULL = as it is.
     */
    bool (*adapt)(const struct engine_settings *set, struct layout *layout, struct diag *d);
    /* Layers that stay in host memory; NULL = those of weights.offload_layers. */
    uint64_t (*host_layers)(const struct engine_settings *set, const struct model *m);
    /* The budget of an engine that allocates at start-up for `sequences` of `tokens` each, more
     * sequences never needing less: it fits when short_bytes is 0, and runs out->slots of them.
     * NULL = sequences are admitted while the pool lasts. */
    void (*reserve)(const struct engine_in *in, uint64_t sequences, uint64_t tokens,
                    struct budget *out, struct ck *ck);
    /* What one sequence needs at its highest where that is more than its rows (*need as they
     * give it): copies, prompts run together. NULL = the rows alone. */
    void (*need)(const struct engine_in *in, uint64_t prompt, uint64_t output,
                 struct engine_need *need, struct ck *ck);
    /* Seconds that a step takes besides the GPU's work (scheduling, inputs, outputs), as far as
     * the engine does not hide them behind the step before, and *source. NULL = none is known.
     */
    double (*step_overhead)(const struct engine_settings *set, struct parallel p,
                            const char **source);
    /* Whether the batch of a step is composed when the step before it begins, so that requests
     * that arrive or end in that step count one step later, and *source. NULL = it is composed
     * when that step has ended. */
    bool (*composes_ahead)(const struct engine_settings *set, struct parallel p,
                           const char **source);
    /* Rows of the attention kernel's tile that a decoding query takes where the batch has
     * prompts too; NULL = 1, a kernel of its own. */
    uint32_t (*mixed_rows)(const struct engine_settings *set, const struct gpu *gpu);
    /* As work_in.widens. NULL = never. */
    bool (*widens)(const struct weight_format *f);
    bool layer_split; /* several GPUs are pipeline stages unless `parallel` says otherwise */
    /* How the pool is cut into blocks; NULL = bytes are handed out for each sequence and row.
     */
    bool (*pool)(const struct engine_in *in, struct pool *out, struct diag *d);
    /* What is printed of `blocks` blocks, where the longest request has `tokens`. Goes with
     * pool. */
    void (*lines)(const struct engine_settings *set, const struct pool *pool, uint64_t blocks,
                  uint64_t tokens, struct engine_lines *out);
    /* The server's settings that realise a plan (planner/engine/flags/flags.h); NULL = there is
     * no server. */
    void (*flags)(const struct flags_in *in, struct engine_flags *out);
};

const struct engine *engine_at(size_t i); /* NULL past the end */
/* Unknown name: DIAG_INPUT that lists what is known; NULL. A NULL or empty name is `ideal`. */
const struct engine *engine_find(const char *name, struct loc at, struct diag *d);

/* usable - terms, with short_bytes when negative: shared by the engines. */
void budget_close(struct budget *b);

/* Memory that no term takes, the pool included; 0 when they do not fit. */
uint64_t budget_left_bytes(const struct budget *b);

/* A version as a number that orders: "0.6.4.post1" and "v0.6.4" = ENGINE_VERSION(0, 6, 4).
 * NULL = ENGINE_NEWEST. Anything else is DIAG_INPUT. */
#define ENGINE_VERSION(major, minor, patch)                                                    \
    ((uint32_t)(major)*1000000u + (uint32_t)(minor)*1000u + (uint32_t)(patch))
#define ENGINE_NEWEST UINT32_MAX
bool engine_version(const char *text, struct loc at, struct diag *d, uint32_t *out);

/* Bytes of an activation: 4 when fp32 weights are asked for, else 2 (engines load fp32
 * checkpoints as bf16). */
uint64_t engine_activation_elem_bytes(const struct engine_in *in);

/* A setting that was left open: fills it in and notes what was taken and why. */
void engine_default(uint64_t *setting, const char *key, uint64_t value, const char *why,
                    const struct engine_host *host, struct diag *d);
void engine_default_fraction(double *setting, double value, const char *why,
                             const struct engine_host *host, struct diag *d);

#endif
