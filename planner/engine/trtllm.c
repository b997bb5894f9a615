/* TensorRT-LLM: a share of what is free once everything else stands becomes cache. Since 1.0
 * the PyTorch executor, which runs a full step first; before, the C++ runtime, which reads free
 * memory after engine and buffers are allocated. source: facts engines 3
 * (tensorrt_llm/_torch/pyexecutor/_util.py, cpp/tensorrt_llm/batch_manager/kvCacheManager.cpp).
 */
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

const struct engine engine_trtllm = {
    .name = "trtllm",
    .summary = "TensorRT-LLM: a share of the memory left after a full step",
    .source = "NVIDIA/TensorRT-LLM, see planner/engine/trtllm.c",
    .block_tokens = 32,
    .uniform_pool = true,
    .cache_as_weights = true,
    .defaults = trtllm_defaults,
    .budget = trtllm_budget,
};
