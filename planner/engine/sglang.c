/* SGLang: a static share of what is free before loading holds weights and cache; activations
 * and CUDA graphs live in the rest and are not measured. Pages of one token, so the pool is
 * bytes. source: facts engines 2 (python/sglang/srt/model_executor/model_runner.py,
 * pool_configurator.py, server_args.py _handle_gpu_memory_settings). */
#include <string.h>

#include "planner/engine/flags/flags.h"
#include "planner/engine/pool/support.h"

enum {
    MIB = 1 << 20,
    CONTEXT_MIB = 512, /* CUDA context and libraries before the first reading */
    COMM_MIB = 1840    /* communicators of tensor parallelism: NCCL and custom all-reduce */
};
#define GIB ((uint64_t)1 << 30)

/* Settings by size of the GPU. */
struct tier {
    uint64_t below_bytes, chunk_tokens;
    uint32_t graph_batch, graph_batch_tp4;
};
static const struct tier tiers[] = {
    {20 * GIB, 2048, 8, 8},     {35 * GIB, 2048, 24, 80},    {60 * GIB, 4096, 32, 160},
    {90 * GIB, 8192, 256, 512}, {160 * GIB, 8192, 256, 512}, {UINT64_MAX, 16384, 512, 512},
};

static const struct tier *tier_of(uint64_t bytes)
{
    const struct tier *t = tiers;

    while (bytes >= t->below_bytes)
        t++;
    return t;
}

/* Kept out of the static share: a fixed part, activations of a chunk, graphs, parallel buffers.
 */
static double static_fraction(const struct engine_host *h, const struct engine_settings *s)
{
    const struct tier *t = tier_of(h->visible_bytes);
    double mib = (double)h->visible_bytes / MIB, share;
    double batch = h->parallel.tp >= 4 ? t->graph_batch_tp4 : t->graph_batch;
    double chunk = (double)u64_max(s->max_batched_tokens, 2048);
    double reserved = 512 + 1.5 * chunk + 2 * batch + 128.0 * h->parallel.tp * h->parallel.pp;

    if (h->visible_bytes > 60 * GIB && reserved < 10 * 1024)
        reserved = 10 * 1024;
    share = mib > reserved ? (mib - reserved) / mib : 0.01;
    return (double)(uint64_t)(share * 1000 + 0.5) / 1000;
}

static bool sglang_defaults(const struct engine_host *h, struct engine_settings *s,
                            struct diag *d)
{
    uint32_t version;

    if (!engine_version(s->version, h->at, d, &version))
        return false;
    if (!s->version)
        diag_add(d, DIAG_NOTE, h->at, "engine.version is not given: SGLang of 2026");
    engine_default(&s->max_batched_tokens, "max_batched_tokens",
                   tier_of(h->visible_bytes)->chunk_tokens, "SGLang's prefill chunk", h, d);
    if (version < ENGINE_VERSION(0, 4, 5))
        engine_default_fraction(&s->memory_fraction, h->parallel.tp >= 4 ? 0.85 : 0.88,
                                "SGLang before 0.4.5", h, d);
    else
        engine_default_fraction(&s->memory_fraction, static_fraction(h, s),
                                "what SGLang's reserve for this GPU leaves", h, d);
    engine_default(&s->max_model_len, "max_model_len", h->model->max_position,
                   "the model's positions", h, d);
    engine_default(&s->block_tokens, "block_tokens", 1, "SGLang's page size", h, d);
    return true;
}

static const char *const stored[] = {"bf16",     "f16",      "fp16", "fp8",
                                     "fp8_e4m3", "fp8_e5m2", NULL};

static bool sglang_budget(const struct engine_in *in, struct budget *out, struct diag *d)
{
    uint64_t outside = (uint64_t)CONTEXT_MIB * MIB, free_bytes;
    struct ck ck = {0};

    support_check(in, "SGLang", stored, d);
    if (in->parallel.tp > 1)
        outside += (uint64_t)COMM_MIB * MIB;
    free_bytes = in->visible_bytes > outside ? in->visible_bytes - outside : 0;
    *out = (struct budget){
        .total_bytes = in->total_bytes,
        .usable_bytes = outside + (uint64_t)((double)free_bytes * in->set->memory_fraction),
        .weights_bytes = ck_add(&ck, in->work->weights_bytes, in->work->copied_bytes),
        .non_torch_bytes = outside,
        .workspace_bytes = in->work->largest_layer_bytes,
    };
    budget_close(out);
    return !ck.over || diag_add(d, DIAG_INPUT, in->at, "sizes overflow 64 bits");
}

static void put_parallel(const struct flags_in *in, struct engine_flags *f)
{
    const struct parallel p = in->in->parallel;

    if (p.tp > 1)
        flag_u64(f, FLAG_COMMAND, "parallel.tp", "--tp-size", p.tp);
    if (p.pp > 1)
        flag_u64(f, FLAG_COMMAND, "parallel.pp", "--pp-size", p.pp);
    if (p.dp > 1)
        flag_u64(f, FLAG_COMMAND, "parallel.dp", "--dp-size", p.dp);
    if (p.ep > 1)
        flag_u64(f, FLAG_COMMAND, "parallel.ep", "--ep-size", p.ep);
    if (p.cp > 1)
        flag_cannot(f, "parallel.cp",
                    "SGLang takes its context-parallel ranks out of tp, not beside it");
}

/* source: SGLang python/sglang/srt/server_args.py. */
static void sglang_flags(const struct flags_in *in, struct engine_flags *f)
{
    static const char *const types[] = {"fp8",      "fp8_e4m3", "fp8_e4m3", "fp8_e4m3",
                                        "fp8_e5m2", "fp8_e5m2", NULL};
    const struct engine_settings *s = in->in->set;
    uint64_t outside = in->in->base->non_torch_bytes;

    flag_word(f, "python");
    flag_word(f, "-m");
    flag_word(f, "sglang.launch_server");
    flag_text(f, FLAG_COMMAND, "model", "--model-path", in->model);
    flag_number(f, FLAG_COMMAND, "engine.memory_fraction", "--mem-fraction-static",
                flags_fraction(in, s->memory_fraction, outside, f));
    flag_u64(f, FLAG_COMMAND, "engine.max_model_len", "--context-length", s->max_model_len);
    flag_u64(f, FLAG_COMMAND, "engine.max_seqs", "--max-running-requests", s->max_seqs);
    flag_u64(f, FLAG_COMMAND, "engine.max_batched_tokens", "--chunked-prefill-size",
             s->max_batched_tokens);
    flag_u64(f, FLAG_COMMAND, "engine.block_tokens", "--page-size", s->block_tokens);
    flags_formats(in, "SGLang", types, f);
    put_parallel(in, f);
    flags_cpu_offload(in, f);
    if (s->cuda_graphs == 1)
        flag_text(f, FLAG_COMMAND, "engine.cuda_graphs", "--disable-cuda-graph", NULL);
    flags_check_schemes(in, "SGLang", f);
}

static double sglang_step_overhead(const struct engine_settings *set, struct parallel p,
                                   const char **source)
{
    (void)set;
    (void)p;
    *source =
        "the overlap scheduler hides it (sgl-project/sglang pull request 1738, default since 0.4)";
    return 0;
}

/* A batch is composed and launched before the result of the one that runs is looked at. */
static bool sglang_composes_ahead(const struct engine_settings *set, struct parallel p,
                                  const char **source)
{
    (void)set;
    (void)p;
    *source =
        "sgl-project/sglang python/sglang/srt/managers/scheduler.py (event_loop_overlap), "
        "default since 0.4";
    return true;
}

/* fp8 in blocks becomes bf16 unless SGL_USE_DEEPGEMM_BMM is set; fp8 with other scales stays in
 * 8 bits. source: SGLang python/sglang/srt/models/deepseek_v2.py, post_load_weights. */
static bool sglang_widens(const struct weight_format *f)
{
    return !strcmp(f->name, "fp8_block");
}

const struct engine engine_sglang = {
    .name = "sglang",
    .summary = "SGLang: a static share of free memory, pages of one token",
    .source = "sgl-project/sglang, see planner/engine/sglang.c",
    .block_tokens = 1,
    .uniform_pool = true,
    .cache_as_weights = true,
    .defaults = sglang_defaults,
    .budget = sglang_budget,
    .step_overhead = sglang_step_overhead,
    .composes_ahead = sglang_composes_ahead,
    .widens = sglang_widens,
    .flags = sglang_flags,
};
