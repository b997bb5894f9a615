/* A spec resolved: model, hardware, schemes applied to a layout, folded per pipeline stage,
 * with the engine's budget of every stage. Everything a plan needs and nothing it changes, so
 * that millions of plans can be solved from one problem without allocation
 * (planner/plan/capacity.h). */
#ifndef KVBUDGET_PLANNER_PLAN_PROBLEM_H
#define KVBUDGET_PLANNER_PLAN_PROBLEM_H

#include "planner/cache/scheme.h"
#include "planner/cost/gpu.h"
#include "planner/cost/roofline.h"
#include "planner/doc/profile.h"
#include "planner/engine/engine.h"
#include "planner/plan/spec.h"

struct workload {
    uint64_t prompt, output; /* tokens of a sequence */
    uint64_t batch;          /* sequences; 0 = as many as fit */
    uint64_t shared_prefix;
};

struct stage { /* one pipeline stage; its tp x cp ranks are alike */
    struct work work;
    struct fold fold;
    struct budget budget; /* of one GPU */
    struct pool pool;     /* how it is cut into blocks; block_bytes 0 = it is not */
};

enum { PROBLEM_SCHEMES = 4 }; /* sharing, retention, storage of K, storage of V */

struct problem {
    struct arena *arena;
    const struct spec *spec;
    struct model model;
    const char *model_source; /* "profile", "config.json", "inline" and where from */
    struct gpu gpu;
    bool gpu_named; /* false: memory alone was given, so there is no time to predict */
    struct parallel parallel;
    uint32_t gpus; /* tp x pp x cp x dp */
    const struct engine *engine;
    struct engine_settings settings;
    const struct weight_format *weight_format; /* asked for; NULL = as the checkpoint says */
    const struct weight_format *gemm_format;   /* what the bulk of the weights is stored in */
    struct scheme_use uses[PROBLEM_SCHEMES];
    uint32_t n_uses;
    struct layout shipped; /* the model's own layout, bf16 */
    struct layout layout;  /* after sharing, retention and storage */
    bool *owns_kv;         /* [n_layers] after sharing */
    struct param_count params;
    uint64_t weights_bytes; /* whole model, before sharding */
    struct work whole_work; /* one GPU that would hold everything */
    struct fold whole, shipped_fold;
    struct stage *stages;
    uint32_t n_stages;
    uint64_t block_tokens;
    uint64_t host_layers;                /* the first so many stay in host memory */
    uint64_t total_bytes, visible_bytes; /* of one GPU; memory_limit applied to the latter */
    uint64_t host_bytes;                 /* 0 = not given */
    double offload;                      /* share of the cache in host memory */
    double link_bytes_per_s;
    double peer_bytes_per_s; /* between GPUs, as all-reduces see it */
    struct machine machine;
    struct workload workload;
};

/* Resolves a spec. All problems found are reported. Assumptions are notes and warnings in `d`.
 */
bool problem_build(struct arena *a, const struct spec *spec, const struct profiles *profiles,
                   struct diag *d, struct problem *out) __attribute__((warn_unused_result));

/* The same problem with another scheme on one axis (params bound by the caller) or other
 * parallelism: for compare, sweeps and min GPUs. The model and hardware are not read again. */
bool problem_with(struct arena *a, const struct problem *base, const struct scheme_use *use,
                  struct parallel p, struct diag *d, struct problem *out)
    __attribute__((warn_unused_result));

/* The same problem with a model of other sizes, which was checked (model_check). The hardware
 * and the schemes' parameters stay. */
bool problem_with_model(struct arena *a, const struct problem *base, const struct model *m,
                        struct diag *d, struct problem *out)
    __attribute__((warn_unused_result));

/* What an engine is asked about one stage. Valid as long as `p`. */
struct engine_in problem_engine_in(const struct problem *p, uint32_t stage);

/* The budget of a stage whose engine reserves at start-up (engine->reserve), with the terms
 * that were handed in; short_bytes is UINT64_MAX when a size overflows. */
void problem_reserve(const struct problem *p, uint32_t stage, uint64_t sequences,
                     uint64_t tokens, struct budget *out);

/* Reads the model of a spec's `model:` node (profile name, path, map). Used by import and list
 * too. */
bool problem_model(struct arena *a, const struct doc_node *node,
                   const struct profiles *profiles, struct diag *d, struct model *out,
                   const char **source) __attribute__((warn_unused_result));

#endif
