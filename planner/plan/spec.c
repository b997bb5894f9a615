/* The field tables of a spec and their binding. A new key is one row here. */
#include "planner/plan/spec.h"

#include <string.h>

struct top {
    const struct doc_node *model, *hardware, *parallel, *engine, *weights, *cache, *workload,
        *memory, *sweep, *search;
};

static const struct field top_fields[] = {
    FIELD_REQUIRED(struct top, model, "model", F_NODE, 0, 0,
                   "profile name, path to a config.json or model folder, or an inline map"),
    FIELD(struct top, hardware, "hardware", F_NODE, 0, 0, NULL, "GPU, count and memory"),
    FIELD(struct top, parallel, "parallel", F_NODE, 0, 0, NULL,
          "how the model is divided over GPUs"),
    FIELD(struct top, engine, "engine", F_NODE, 0, 0, NULL, "serving engine and its settings"),
    FIELD(struct top, weights, "weights", F_NODE, 0, 0, NULL, "weight format and offload"),
    FIELD(struct top, cache, "cache", F_NODE, 0, 0, NULL,
          "cache format, sharing, eviction, offload"),
    FIELD(struct top, workload, "workload", F_NODE, 0, 0, NULL, "prompt, output, batch"),
    FIELD(struct top, memory, "memory", F_NODE, 0, 0, NULL,
          "measured terms handed in: per_gpu: {...}"),
    FIELD(struct top, sweep, "sweep", F_NODE, 0, 0, NULL, "used by the sweep command only"),
    FIELD(struct top, search, "search", F_NODE, 0, 0, NULL, "used by the search command only"),
};

#define AT(member) offsetof(struct spec, member)
#define ROW(member, keyname, ftype, lo, hi, dflt, text)                                        \
    {                                                                                          \
        .key = (keyname), .type = (ftype), .offset = AT(member), .min = (lo), .max = (hi),     \
        .fallback = (dflt), .help = (text)                                                     \
    }

static const struct field hardware_fields[] = {
    ROW(hardware.gpu, "gpu", F_NODE, 0, 0, NULL, "profile name, `local`, or an inline map"),
    ROW(hardware.memory, "memory", F_BYTES, 1, 0, NULL,
        "memory of one GPU as a program sees it; replaces the profile's"),
    ROW(hardware.count, "count", F_U64, 1, 65536, NULL, "GPUs"),
    ROW(hardware.memory_limit, "memory_limit", F_BYTES, 1, 0, NULL,
        "plan as if a GPU had no more than this"),
    ROW(hardware.host_memory, "host_memory", F_BYTES, 1, 0, NULL, "host memory for offload"),
    ROW(hardware.link, "link", F_RATE, 1, 0, NULL,
        "host link, one way; default from the PCIe generation"),
    ROW(hardware.peer_link, "peer_link", F_RATE, 1, 0, NULL,
        "all-reduce bus bandwidth between GPUs; default NVLink, else 0.25 of the PCIe link"),
};

static const struct field parallel_fields[] = {
    ROW(parallel.tp, "tp", F_U64, 1, 4096, NULL, "tensor parallel degree"),
    ROW(parallel.pp, "pp", F_U64, 1, 4096, NULL, "pipeline stages"),
    ROW(parallel.dp, "dp", F_U64, 1, 65536, NULL, "replicas"),
    ROW(parallel.ep, "ep", F_U64, 1, 4096, NULL, "expert parallel degree"),
    ROW(parallel.cp, "cp", F_U64, 1, 4096, NULL, "context parallel degree"),
};

static const char *const off_on[] = {"default", "false", "true", NULL};

static const struct field engine_fields[] = {
    ROW(engine.name, "name", F_TEXT, 0, 0, "ideal", "engine (see `kvbudget list engines`)"),
    ROW(engine.version, "version", F_TEXT, 0, 0, NULL, "engine version; default: newest known"),
    ROW(engine.memory_fraction, "memory_fraction", F_NUMBER, 0.01, 1, NULL,
        "share of GPU memory the engine may use"),
    ROW(engine.max_model_len, "max_model_len", F_TOKENS, 1, 0, NULL,
        "longest sequence, tokens"),
    ROW(engine.max_seqs, "max_seqs", F_U64, 1, 1e9, NULL, "most sequences at once"),
    ROW(engine.max_batched_tokens, "max_batched_tokens", F_TOKENS, 1, 0, NULL,
        "most tokens in one step"),
    ROW(engine.block_tokens, "block_tokens", F_TOKENS, 1, 1048576, NULL,
        "tokens of a cache block"),
    {.key = "cuda_graphs",
     .type = F_CHOICE,
     .offset = AT(engine.cuda_graphs),
     .choices = off_on,
     .fallback = "default",
     .help = "capture CUDA graphs"},
    ROW(engine.n_batch, "n_batch", F_U64, 1, 1e9, NULL, "llama.cpp: logical batch"),
    ROW(engine.n_ubatch, "n_ubatch", F_U64, 1, 1e9, NULL, "llama.cpp: physical batch"),
    ROW(engine.n_seq, "n_seq", F_U64, 1, 1e6, NULL, "llama.cpp: parallel sequences"),
    {.key = "kv_unified",
     .type = F_CHOICE,
     .offset = AT(engine.kv_unified),
     .choices = off_on,
     .fallback = "default",
     .help = "llama.cpp: one pool for all sequences"},
    {.key = "flash_attn",
     .type = F_CHOICE,
     .offset = AT(engine.flash_attn),
     .choices = off_on,
     .fallback = "default",
     .help = "llama.cpp: flash attention"},
    ROW(engine.offload_layers, "offload_layers", F_U64, 0, 4096, NULL,
        "llama.cpp: layers on the GPU"),
    ROW(engine.swa_full, "swa_full", F_BOOL, 0, 0, NULL,
        "llama.cpp: full cache for sliding layers"),
};

static const struct field weights_fields[] = {
    ROW(weights.format, "format", F_NODE, 0, 0, NULL,
        "bf16 fp8 int4 ...; default: as the checkpoint says"),
    ROW(weights.offload_layers, "offload_layers", F_U64, 0, 4096, NULL,
        "layers whose weights stay in host memory"),
};

static const struct field cache_fields[] = {
    ROW(cache.format, "format", F_NODE, 0, 0, NULL,
        "storage of K and V: bf16 fp8_e4m3 kivi2 q8_0 ..."),
    ROW(cache.k, "k", F_NODE, 0, 0, NULL, "storage of K alone"),
    ROW(cache.v, "v", F_NODE, 0, 0, NULL, "storage of V alone"),
    ROW(cache.sharing, "sharing", F_NODE, 0, 0, NULL,
        "cross-layer sharing: {scheme: lckv, warmup: 2} or {map: [...]}"),
    ROW(cache.eviction, "eviction", F_NODE, 0, 0, NULL,
        "retention: {scheme: pyramidkv, capacity: 2048}"),
    ROW(cache.offload, "offload", F_NUMBER, 0, 1, NULL,
        "share of the cache kept in host memory"),
};

static const struct field workload_fields[] = {
    ROW(workload.prompt, "prompt", F_TOKENS, 0, 1099511627776.0, "2048",
        "prompt tokens of a sequence"),
    ROW(workload.output, "output", F_TOKENS, 0, 1099511627776.0, "512",
        "generated tokens of a sequence"),
    ROW(workload.shared_prefix, "shared_prefix", F_TOKENS, 0, 1099511627776.0, "0",
        "prompt tokens common to all sequences, stored once"),
};

static const struct field given_fields[] = {
    ROW(given.kv_pool_bytes, "kv_pool_bytes", F_BYTES, 0, 0, NULL,
        "measured cache pool of one GPU"),
    ROW(given.weights_bytes, "weights_bytes", F_BYTES, 0, 0, NULL,
        "measured weights of one GPU"),
    ROW(given.activation_bytes, "activation_bytes", F_BYTES, 0, 0, NULL,
        "measured activation peak"),
    ROW(given.non_torch_bytes, "non_torch_bytes", F_BYTES, 0, 0, NULL,
        "measured memory outside the framework"),
    ROW(given.cuda_graph_bytes, "cuda_graph_bytes", F_BYTES, 0, 0, NULL,
        "measured CUDA graphs"),
    ROW(given.workspace_bytes, "workspace_bytes", F_BYTES, 0, 0, NULL, "measured workspace"),
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

static const struct spec_section sections[] = {
    {"", top_fields, COUNT(top_fields)},
    {"hardware", hardware_fields, COUNT(hardware_fields)},
    {"parallel", parallel_fields, COUNT(parallel_fields)},
    {"engine", engine_fields, COUNT(engine_fields)},
    {"weights", weights_fields, COUNT(weights_fields)},
    {"cache", cache_fields, COUNT(cache_fields)},
    {"workload", workload_fields, COUNT(workload_fields)},
    {"memory.per_gpu", given_fields, COUNT(given_fields)},
    {NULL, NULL, 0},
};

const struct spec_section *spec_sections(void)
{
    return sections;
}

/* `batch` is a number or `auto`. */
static bool bind_batch(const struct doc_node *workload, struct diag *d, uint64_t *batch)
{
    const struct doc_node *n = doc_get(workload, "batch");

    *batch = 0;
    if (!n || doc_is_null(n) || (n->kind == DOC_SCALAR && !strcmp(n->text, "auto")))
        return true;
    return doc_u64(n, 1, 1000000000000u, d, batch);
}

static bool bind_given(struct arena *a, const struct doc_node *memory, struct diag *d,
                       struct spec *s)
{
    static const char *const per_gpu[] = {"per_gpu", NULL};
    struct spec empty = {0};

    s->given.kv_pool_bytes = s->given.weights_bytes = s->given.activation_bytes = UINT64_MAX;
    s->given.non_torch_bytes = s->given.cuda_graph_bytes = s->given.workspace_bytes =
        UINT64_MAX;
    if (!memory)
        return true;
    return bind_map(a, memory, "memory", NULL, 0, per_gpu, d, &empty) &&
           bind_map(a, doc_get(memory, "per_gpu"), "memory.per_gpu", given_fields,
                    COUNT(given_fields), NULL, d, s);
}

static bool check_workload(const struct spec *s, const struct doc_node *workload,
                           struct diag *d)
{
    const struct doc_node *n = doc_get(workload, "shared_prefix");

    if (s->workload.shared_prefix > s->workload.prompt)
        return diag_add(d, DIAG_INPUT, n ? n->at : s->at,
                        "shared_prefix (%llu tokens) is longer than the prompt (%llu tokens)",
                        (unsigned long long)s->workload.shared_prefix,
                        (unsigned long long)s->workload.prompt);
    if (!s->workload.prompt && !s->workload.output)
        return diag_add(d, DIAG_INPUT, workload ? workload->at : s->at,
                        "workload has neither prompt nor output tokens");
    return true;
}

bool spec_bind(struct arena *a, const struct doc_node *root, struct diag *d, struct spec *out)
{
    static const char *const batch_key[] = {"batch", NULL};
    struct top t = {0};
    bool ok;

    *out = (struct spec){.at = root->at, .root = root};
    if (root->kind != DOC_MAP)
        return diag_add(d, DIAG_INPUT, root->at,
                        "a spec is a map with at least `model:` and `hardware:`");
    ok = bind_map(a, root, "the spec", top_fields, COUNT(top_fields), NULL, d, &t);
    out->model = t.model;
    out->engine_at = t.engine ? t.engine->at : root->at;
    ok = bind_map(a, t.hardware, "hardware", hardware_fields, COUNT(hardware_fields), NULL, d,
                  out) &&
         ok;
    ok = bind_map(a, t.parallel, "parallel", parallel_fields, COUNT(parallel_fields), NULL, d,
                  out) &&
         ok;
    ok = bind_map(a, t.engine, "engine", engine_fields, COUNT(engine_fields), NULL, d, out) &&
         ok;
    out->engine.offload_layers_given = t.engine && doc_get(t.engine, "offload_layers");
    ok = bind_map(a, t.weights, "weights", weights_fields, COUNT(weights_fields), NULL, d,
                  out) &&
         ok;
    ok = bind_map(a, t.cache, "cache", cache_fields, COUNT(cache_fields), NULL, d, out) && ok;
    ok = bind_map(a, t.workload, "workload", workload_fields, COUNT(workload_fields), batch_key,
                  d, out) &&
         ok;
    ok = bind_batch(t.workload, d, &out->workload.batch) && ok;
    ok = bind_given(a, t.memory, d, out) && ok;
    if (ok && !out->hardware.gpu && !out->hardware.memory) {
        ok = diag_add(
            d, DIAG_INPUT, t.hardware ? t.hardware->at : root->at,
            "hardware.gpu (a GPU's name) or hardware.memory (a size such as 24GiB) is required");
    }
    return ok && check_workload(out, t.workload, d);
}
