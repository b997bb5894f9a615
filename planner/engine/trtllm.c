/* TensorRT-LLM: a share of what is free once everything else stands becomes cache. Since 1.0
 * the PyTorch executor, which runs a full step first; before, the C++ runtime, which reads free
 * memory after engine and buffers are allocated. source: facts engines 3
 * (tensorrt_llm/_torch/pyexecutor/_util.py, cpp/tensorrt_llm/batch_manager/kvCacheManager.cpp).
 */
#include <string.h>

#include "planner/engine/flags/flags.h"
#include "planner/engine/pool/support.h"

enum {
    MIB = 1 << 20,
    /* Context, libraries, sampler and executor buffers; then communicators and their
     * workspaces. Mid values of what measured request limits leave (38 runs on H100 and GB300,
     * source in tests/data/engines.csv). */
    OUTSIDE_MIB = 2350,
    PAIR_MIB = 1540, /* two ranks */
    MORE_MIB = 660   /* each further doubling */
};

static bool trtllm_defaults(const struct engine_host *h, struct engine_settings *s,
                            struct diag *d)
{
    uint32_t version;

    if (!engine_version(s->version, h->at, d, &version))
        return false;
    if (!s->version)
        diag_add(d, DIAG_NOTE, h->at,
                 "engine.version is not given: TensorRT-LLM 1.0 or newer, PyTorch backend");
    engine_default_fraction(&s->memory_fraction, 0.9, "free_gpu_memory_fraction", h, d);
    engine_default(&s->max_model_len, "max_model_len", h->model->max_position,
                   "the model's positions", h, d);
    engine_default(&s->max_batched_tokens, "max_batched_tokens", 8192, "max_num_tokens", h, d);
    engine_default(&s->max_seqs, "max_seqs", 2048, "max_batch_size", h, d);
    engine_default(&s->block_tokens, "block_tokens",
                   version < ENGINE_VERSION(1, 0, 0) ? 64 : 32, "tokens_per_block", h, d);
    return true;
}

/* Of one step: the two halves of the widest MLP twice, with what quantization copies, and the
 * hidden states with their residual. */
static uint64_t step_bytes(const struct engine_in *in, struct ck *ck)
{
    const struct model *m = in->layout->model;
    uint64_t width = 0, tp = in->parallel.tp;

    for (uint32_t i = in->fold->slice.first; i < in->fold->slice.last; i++) {
        const struct ffn *f = &in->layout->layers[i].ffn;
        uint64_t dense = u64_max(f->intermediate, f->shared_intermediate);
        uint64_t routed = ck_prod(ck, f->moe_intermediate, f->experts ? f->top_k : 0);
        width = u64_max(width, u64_max(dense, routed) * (f->gated ? 3 : 2));
    }
    width = ck_add(ck, ck_mul(ck, 2, ck_ceil_div(width, tp)), ck_mul(ck, 2, m->hidden));
    return ck_prod(ck, in->set->max_batched_tokens, width, engine_activation_elem_bytes(in));
}

/* The driver's own part, where no program's reading of the total is known: 0.5 %, as on H100.
 */
static uint64_t driver_bytes(const struct engine_in *in)
{
    return in->visible_bytes == in->total_bytes &&
                   in->gpu->memory_total_bytes == in->total_bytes
               ? in->total_bytes / 200
               : 0;
}

static const char *const stored[] = {"bf16",     "f16",  "fp16",  "fp8",
                                     "fp8_e4m3", "int8", "nvfp4", NULL};

static bool trtllm_budget(const struct engine_in *in, struct budget *out, struct diag *d)
{
    uint64_t outside = OUTSIDE_MIB;
    uint32_t version;
    struct ck ck = {0};

    if (!engine_version(in->set->version, in->at, d, &version))
        return false;
    support_check(in, "TensorRT-LLM", stored, d);
    for (uint32_t ranks = 2; ranks <= in->parallel.tp && version >= ENGINE_VERSION(1, 0, 0);
         ranks *= 2)
        outside += ranks == 2 ? PAIR_MIB : MORE_MIB;
    *out = (struct budget){
        .total_bytes = in->total_bytes,
        .usable_bytes = in->visible_bytes,
        .weights_bytes = in->work->weights_bytes,
        .activation_bytes = step_bytes(in, &ck),
        .non_torch_bytes = outside * MIB + driver_bytes(in),
        .workspace_bytes = in->work->largest_layer_bytes,
        .pool_ratio = in->set->memory_fraction,
    };
    budget_close(out);
    return !ck.over || diag_add(d, DIAG_INPUT, in->at, "sizes overflow 64 bits");
}

static void put_parallel(const struct flags_in *in, struct engine_flags *f)
{
    const struct parallel p = in->in->parallel;

    if (p.tp > 1)
        flag_u64(f, FLAG_COMMAND, "parallel.tp", "--tp_size", p.tp);
    if (p.pp > 1)
        flag_u64(f, FLAG_COMMAND, "parallel.pp", "--pp_size", p.pp);
    if (p.ep > 1)
        flag_u64(f, FLAG_COMMAND, "parallel.ep", "--ep_size", p.ep);
    if (p.cp > 1)
        flag_u64(f, FLAG_COMMAND, "parallel.cp", "--cp_size", p.cp);
    flags_replicas(in, "trtllm-serve", f);
}

/* What stands in the YAML file. NULL = as the model says. */
static const char *cache_type(const struct flags_in *in, bool pytorch, struct engine_flags *f)
{
    const char *v, *k = flags_cache_format(in, &v), *dtype = k ? flags_torch_dtype(k) : NULL;

    if (v)
        flag_cannot(f, "cache.k, cache.v",
                    "TensorRT-LLM stores K and V in one format, not %s and %s", k, v);
    else if (dtype && strcmp(dtype, flags_torch_dtype(flags_activation_format(in))) != 0)
        flag_cannot(
            f, "cache.format",
            "TensorRT-LLM's unquantized cache is in the type of its activations, not in "
            "%s",
            k);
    else if (k && !strcmp(k, "int8") && !pytorch)
        flag_note(f, "cache.format int8 is fixed when the engine is built, from a checkpoint "
                     "converted with --int8_kv_cache");
    else if (k && !strncmp(k, "fp8", 3) && strcmp(k, "fp8_e5m2") != 0)
        return "fp8";
    else if (k && !strcmp(k, "nvfp4") && pytorch)
        return "nvfp4";
    else if (k && !dtype)
        flag_cannot(f, "cache.format", "TensorRT-LLM%s has no cache format %s",
                    pytorch ? "'s PyTorch backend" : "", k);
    return NULL;
}

/* A kv_cache_config in the file replaces the one made of the command line, so it repeats the
 * fraction. */
static void put_file(const struct flags_in *in, double fraction, bool pytorch,
                     struct engine_flags *f)
{
    const struct weight_format *asked = in->in->asked;
    const char *type = cache_type(in, pytorch, f), *dtype;
    uint64_t block = in->in->set->block_tokens;
    bool other_block = block != (pytorch ? 32 : 64);

    dtype = asked ? flags_torch_dtype(asked->name) : NULL;
    if (asked && !dtype)
        flag_note(
            f, "weights.format %s is a property of the checkpoint: serve one that was made so",
            asked->name);
    if (dtype)
        flag_text(f, FLAG_FILE, "weights.format", "dtype", dtype);
    if (type || other_block)
        flag_number(f, FLAG_FILE, "engine.memory_fraction",
                    "kv_cache_config.free_gpu_memory_fraction", fraction);
    if (other_block)
        flag_u64(f, FLAG_FILE, "engine.block_tokens", "kv_cache_config.tokens_per_block",
                 block);
    if (type)
        flag_text(f, FLAG_FILE, "cache.format", "kv_cache_config.dtype", type);
    if (in->in->set->cuda_graphs == 1 && pytorch)
        flag_text(f, FLAG_FILE, "engine.cuda_graphs", "cuda_graph_config", "null");
    f->file = "trtllm.yaml";
    for (size_t i = 0; i < f->n; i++)
        if (f->items[i].place == FLAG_FILE) {
            flag_text(f, FLAG_COMMAND, NULL, "--extra_llm_api_options", f->file);
            return;
        }
}

/* source: TensorRT-LLM tensorrt_llm/commands/serve.py, tensorrt_llm/llmapi/llm_args.py
 * (KvCacheConfig, cuda_graph_config). */
static void trtllm_flags(const struct flags_in *in, struct engine_flags *f)
{
    const struct engine_settings *s = in->in->set;
    uint64_t free_bytes = (uint64_t)((double)in->in->base->kv_pool_bytes / s->memory_fraction);
    uint64_t outside = in->in->visible_bytes - u64_min(free_bytes, in->in->visible_bytes);
    uint32_t version = ENGINE_NEWEST;
    double fraction = flags_fraction(in, s->memory_fraction, outside, f);
    bool pytorch;

    (void)engine_version(s->version, in->in->at, NULL, &version);
    pytorch = version >= ENGINE_VERSION(1, 0, 0);
    flag_word(f, "trtllm-serve");
    flag_word(f, in->model);
    flag_number(f, FLAG_COMMAND, "engine.memory_fraction",
                "--kv_cache_free_gpu_memory_fraction", fraction);
    flag_u64(f, FLAG_COMMAND, "engine.max_model_len", "--max_seq_len", s->max_model_len);
    flag_u64(f, FLAG_COMMAND, "engine.max_seqs", "--max_batch_size", s->max_seqs);
    flag_u64(f, FLAG_COMMAND, "engine.max_batched_tokens", "--max_num_tokens",
             s->max_batched_tokens);
    put_parallel(in, f);
    put_file(in, fraction, pytorch, f);
    if (!pytorch)
        flag_note(
            f, "before 1.0 the limits are those the engine was built with: give trtllm-build "
               "the same --max_batch_size, --max_num_tokens and --max_seq_len");
    if (in->in->work->offloaded_bytes)
        flag_cannot(f, "weights.offload_layers",
                    "trtllm-serve has no setting that keeps whole layers in host memory");
    flags_check_schemes(in, "TensorRT-LLM", f);
}

static double trtllm_step_overhead(const struct engine_settings *set, struct parallel p,
                                   const char **source)
{
    (void)set;
    (void)p;
    *source =
        "the overlap scheduler hides it (docs/source/features/overlap-scheduler.md, on by default)";
    return 0;
}

/* The PyTorch backend, the default since 1.0: requests are fetched and scheduled, the batch is
 * launched, then the one before it is waited for. The C++ executor schedules between steps. */
static bool trtllm_composes_ahead(const struct engine_settings *set, struct parallel p,
                                  const char **source)
{
    uint32_t version = ENGINE_NEWEST;

    (void)p;
    (void)engine_version(set->version, (struct loc){NULL, 0, 0}, NULL, &version);
    *source = "NVIDIA/TensorRT-LLM tensorrt_llm/_torch/pyexecutor/py_executor.py "
              "(_executor_loop_overlap), the default backend since 1.0";
    return version >= ENGINE_VERSION(1, 0, 0);
}

const struct engine engine_trtllm = {
    .name = "trtllm",
    .summary = "TensorRT-LLM: a share of the memory left after a full step",
    .source = "NVIDIA/TensorRT-LLM, see planner/engine/trtllm.c",
    .block_tokens = 32,
    .uniform_pool = true,
    .cache_as_weights = true,
    .defaults = trtllm_defaults,
    .budget = trtllm_budget,
    .step_overhead = trtllm_step_overhead,
    .composes_ahead = trtllm_composes_ahead,
    .flags = trtllm_flags,
};
