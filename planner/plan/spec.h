/* What a user asked for: the YAML keys of a spec (interface.md's tables are these field
 * tables), bound to plain data. Nothing is resolved here; planner/plan/problem.h does that. */
#ifndef KVBUDGET_PLANNER_PLAN_SPEC_H
#define KVBUDGET_PLANNER_PLAN_SPEC_H

#include "planner/doc/bind.h"
#include "planner/engine/engine.h"

struct nvml_facts;

struct spec {
    struct loc at;
    const struct doc_node *root;
    const struct doc_node *model; /* name, path, or inline map */

    struct {
        const struct doc_node *gpu;                 /* name, `local`, or inline map */
        uint64_t memory, memory_limit, host_memory; /* bytes; 0 = not given */
        uint64_t count;                             /* GPUs; 0 = not given */
        double link;                    /* bytes/s; 0 = from the GPU's PCIe generation */
        double peer_link;               /* bytes/s; 0 = the GPU's peer_bandwidth */
        const struct nvml_facts *facts; /* for `local`, by callers that plan often; NULL */
    } hardware;

    struct {
        uint64_t tp, pp, dp, ep, cp; /* 0 = not given */
    } parallel;

    struct engine_settings engine;
    struct loc engine_at;

    struct {
        const struct doc_node *format; /* NULL = as the checkpoint says */
        uint64_t offload_layers;
    } weights;

    struct {
        const struct doc_node *format, *k, *v, *sharing, *eviction;
        double offload; /* share of the cache in host memory */
    } cache;

    struct {
        uint64_t prompt, output, shared_prefix;
        uint64_t batch; /* 0 = auto */
    } workload;

    struct { /* measured terms handed in; UINT64_MAX = not given */
        uint64_t kv_pool_bytes, weights_bytes, activation_bytes, non_torch_bytes,
            cuda_graph_bytes, workspace_bytes;
    } given;
};

/* Binds a document. All problems are reported with their place. */
bool spec_bind(struct arena *a, const struct doc_node *root, struct diag *d, struct spec *out)
    __attribute__((warn_unused_result));

/* One section of the spec and its keys, for --help, the README and the TUI; NULL name past the
 * end. */
struct spec_section {
    const char *name; /* "" = top level */
    const struct field *fields;
    size_t nfields;
};
const struct spec_section *spec_sections(void);

#endif
