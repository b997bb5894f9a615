/* vLLM, by version: the pool is what the requested share of the GPU leaves after weights, the
 * profile run's peak and memory outside the framework; it is cut into blocks of one size for
 * all groups of layers. source: facts engines 1 (vllm/v1/worker/gpu_worker.py,
 * vllm/v1/core/kv_cache_utils.py, vllm/engine/arg_utils.py and the pull requests named there).
 */
#include "planner/engine/vllm/profile.h"

#include <string.h>

#include "planner/engine/flags/flags.h"
#include "planner/engine/pool/support.h"

enum { MIB = 1 << 20 };
#define GIB ((uint64_t)1 << 30)

/* non_torch: the mean of logged starts on one GPU, with tensor and with pipeline parallelism.
 * Until 0.6.4, and from 0.8.0 to 0.9.1, the CUDA context counts as well. */
static const struct vllm_rules rules[] = {
    {.from = 0,
     .sampler_bytes = 36,
     .non_torch_mib = 450,
     .non_torch_tp_mib = 600,
     .non_torch_pp_mib = 450,
     .memory_fraction = 0.9},
    {.from = ENGINE_VERSION(0, 6, 5),
     .sampler_bytes = 36,
     .non_torch_mib = 160,
     .non_torch_tp_mib = 308,
     .non_torch_pp_mib = 160,
     .memory_fraction = 0.9},
    {.from = ENGINE_VERSION(0, 8, 0),
     .v1 = true,
     .sampler_bytes = 36,
     .non_torch_mib = 650,
     .non_torch_tp_mib = 1067,
     .non_torch_pp_mib = 650,
     .memory_fraction = 0.9},
    {.from = ENGINE_VERSION(0, 9, 2),
     .v1 = true,
     .hybrid = true,
     .sampler_bytes = 36,
     .non_torch_mib = 136,
     .non_torch_tp_mib = 553,
     .non_torch_pp_mib = 136,
     .memory_fraction = 0.9},
    {.from = ENGINE_VERSION(0, 12, 0),
     .v1 = true,
     .hybrid = true,
     .moe_stays = true,
     .sampler_bytes = 36,
     .non_torch_mib = 136,
     .non_torch_tp_mib = 553,
     .non_torch_pp_mib = 136,
     .memory_fraction = 0.9},
    {.from = ENGINE_VERSION(0, 17, 0),
     .v1 = true,
     .hybrid = true,
     .moe_stays = true,
     .sampler_bytes = 12,
     .sampler_buffer = true,
     .non_torch_mib = 136,
     .non_torch_tp_mib = 553,
     .non_torch_pp_mib = 136,
     .graph_fixed_mib = 333,
     .graph_layer_mib = 19,
     .memory_fraction = 0.9},
    {.from = ENGINE_VERSION(0, 18, 0),
     .v1 = true,
     .hybrid = true,
     .moe_stays = true,
     .sampler_bytes = 12,
     .sampler_buffer = true,
     .non_torch_mib = 256,
     .non_torch_tp_mib = 2180,
     .non_torch_pp_mib = 72,
     .graph_fixed_mib = 333,
     .graph_layer_mib = 19,
     .memory_fraction = 0.9},
    {.from = ENGINE_VERSION(0, 21, 0),
     .v1 = true,
     .hybrid = true,
     .moe_stays = true,
     .reserves_graphs = true,
     .tokens_by_concurrency = true,
     .sampler_bytes = 12,
     .sampler_buffer = true,
     .non_torch_mib = 256,
     .non_torch_tp_mib = 2180,
     .non_torch_pp_mib = 72,
     .graph_fixed_mib = 333,
     .graph_layer_mib = 19,
     .memory_fraction = 0.92},
};

const struct vllm_rules *vllm_rules_of(uint32_t version)
{
    size_t i = sizeof rules / sizeof *rules - 1;

    while (i && rules[i].from > version)
        i--;
    return &rules[i];
}

/* --- defaults ------------------------------------------------------------------------------
 */

static bool is_a100(const struct gpu *g)
{
    return g->name && !strncmp(g->name, "a100", 4);
}

/* MLA kernels want blocks of their own size, and which kernel is taken depends on the GPU:
 * Hopper FlashMLA until 0.17, then FlashAttention; Blackwell CUTLASS, then FlashInfer; sparse
 * attention FlashMLA. source: vLLM vllm/platforms/cuda.py check_and_update_config. */
static uint64_t latent_block_tokens(const struct engine_host *h, uint32_t version)
{
    const char *cc = h->gpu->compute_capability;
    bool latent = false, sparse = false;

    for (uint32_t i = 0; i < h->model->n_layers; i++) {
        latent |= h->model->layers[i].attn.mixer == MIXER_LATENT;
        sparse |= h->model->layers[i].attn.index_dim > 0;
    }
    if (!latent || !cc || version < ENGINE_VERSION(0, 8, 0))
        return 0;
    if (sparse)
        return 64;
    if (!strncmp(cc, "9.", 2))
        return version < ENGINE_VERSION(0, 18, 0) ? 64 : 0;
    if (!strncmp(cc, "10.", 3))
        return version < ENGINE_VERSION(0, 11, 0) ? 128 : 64;
    return 0;
}

/* Large cards take larger steps; the A100 is left out by name. source: vLLM arg_utils.py
 * get_batch_defaults; vllm#53961 for 16384. */
static void batch_defaults(const struct engine_host *h, uint32_t version,
                           struct engine_settings *s, struct diag *d)
{
    bool large = h->visible_bytes >= 70 * GIB && !is_a100(h->gpu);
    bool huge = h->visible_bytes >= 160 * GIB && version >= ENGINE_VERSION(0, 22, 0);
    uint64_t tokens = huge ? 16384 : large ? 8192 : 2048, seqs = large ? 1024 : 256;

    if (s->max_batched_tokens)
        seqs = u64_min(seqs, s->max_batched_tokens);
    engine_default(&s->max_seqs, "max_seqs", seqs,
                   large ? "vLLM's server on GPUs of 70 GiB and more" : "vLLM's server", h, d);
    if (s->max_model_len)
        tokens = u64_min(tokens, s->max_seqs * s->max_model_len);
    engine_default(&s->max_batched_tokens, "max_batched_tokens", tokens,
                   "vLLM's server on a GPU of this size", h, d);
}

/* Before chunked prefill was the rule, a step took whole prompts. */
static void batch_defaults_v0(const struct engine_host *h, struct engine_settings *s,
                              struct diag *d)
{
    bool chunked = s->max_model_len > 32768;

    engine_default(&s->max_seqs, "max_seqs", 256, "vLLM before 0.8", h, d);
    engine_default(&s->max_batched_tokens, "max_batched_tokens",
                   chunked ? 2048 : u64_max(s->max_model_len, 2048),
                   chunked ? "vLLM before 0.8, prefill in chunks"
                           : "vLLM before 0.8, a whole prompt in one step",
                   h, d);
}

/* What vLLM refuses at start-up. source: vLLM vllm/config/scheduler.py, vllm/config/model.py
 * (max_model_len; an environment variable lets longer ones pass), the block sizes of its
 * kernels. */
static bool check_settings(const struct engine_host *h, const struct engine_settings *s,
                           bool v1, struct diag *d)
{
    uint64_t positions = h->model->max_position;
    bool ok = true;

    if (s->max_batched_tokens < s->max_seqs)
        ok = diag_add(d, DIAG_INPUT, h->at,
                      "vLLM refuses max_batched_tokens (%llu) below max_seqs (%llu)",
                      (unsigned long long)s->max_batched_tokens,
                      (unsigned long long)s->max_seqs);
    if (v1 && s->block_tokens % 16)
        ok = diag_add(d, DIAG_INPUT, h->at,
                      "vLLM takes blocks of a multiple of 16 tokens, block_tokens is %llu",
                      (unsigned long long)s->block_tokens);
    if (positions && s->max_model_len > positions)
        diag_add(d, DIAG_WARN, h->at,
                 "vLLM refuses max_model_len (%llu) above the model's %llu positions unless "
                 "VLLM_ALLOW_LONG_MAX_MODEL_LEN is set",
                 (unsigned long long)s->max_model_len, (unsigned long long)positions);
    return ok;
}

static bool vllm_defaults(const struct engine_host *h, struct engine_settings *s,
                          struct diag *d)
{
    const struct vllm_rules *r;
    uint64_t latent;
    uint32_t version;

    if (!engine_version(s->version, h->at, d, &version))
        return false;
    if (!s->version)
        diag_add(d, DIAG_NOTE, h->at, "engine.version is not given: vLLM 0.21 or newer");
    r = vllm_rules_of(version);
    latent = latent_block_tokens(h, version);
    engine_default_fraction(&s->memory_fraction, r->memory_fraction,
                            "vLLM's gpu_memory_utilization", h, d);
    engine_default(&s->max_model_len, "max_model_len", h->model->max_position,
                   "the model's positions", h, d);
    engine_default(
        &s->block_tokens, "block_tokens", latent ? latent : 16,
        latent ? "as the latent attention kernels of this GPU need" : "vLLM's default", h, d);
    if (r->v1)
        batch_defaults(h, version, s, d);
    else
        batch_defaults_v0(h, s, d);
    return check_settings(h, s, r->v1, d);
}

/* --- the budget ----------------------------------------------------------------------------
 */

static const struct vllm_rules *rules_for(const struct engine_in *in, struct diag *d)
{
    uint32_t version;

    return engine_version(in->set->version, in->at, d, &version) ? vllm_rules_of(version)
                                                                 : NULL;
}

/* requested = ceil(total * utilization). */
static uint64_t requested_bytes(uint64_t total, double fraction)
{
    double exact = (double)total * fraction;
    uint64_t whole = (uint64_t)exact;

    return whole + ((double)whole < exact);
}

static uint64_t non_torch_bytes(const struct engine_in *in, const struct vllm_rules *r)
{
    uint64_t mib = r->non_torch_mib;

    if (in->parallel.tp > 1)
        mib = r->non_torch_tp_mib;
    else if (in->parallel.pp > 1)
        mib = r->non_torch_pp_mib;
    return mib * MIB;
}

static const char *const stored[] = {"bf16",
                                     "f16",
                                     "fp16",
                                     "f32",
                                     "fp32",
                                     "fp8",
                                     "fp8_e4m3",
                                     "fp8_e5m2",
                                     "fp8_ds_mla",
                                     "int8_per_token_head",
                                     "fp8_per_token_head",
                                     "nvfp4",
                                     "nvfp4_ds_mla",
                                     "turboquant_k8v4",
                                     "turboquant_4bit_nc",
                                     "turboquant_k3v4_nc",
                                     "turboquant_3bit_nc",
                                     NULL};

static bool vllm_budget(const struct engine_in *in, struct budget *out, struct diag *d)
{
    const struct vllm_rules *r = rules_for(in, d);
    struct ck ck = {0};

    if (!r)
        return false;
    support_check(in, "vLLM", stored, d);
    *out = (struct budget){
        .total_bytes = in->total_bytes,
        .usable_bytes = requested_bytes(in->visible_bytes, in->set->memory_fraction),
        .weights_bytes = vllm_weights_bytes(in, &ck),
        .activation_bytes = vllm_activation_bytes(in, r, &ck),
        .non_torch_bytes = non_torch_bytes(in, r),
        .cuda_graph_bytes = vllm_graph_bytes(in, r, &ck),
        .workspace_bytes = in->work->largest_layer_bytes,
        .free_graphs = !r->reserves_graphs,
    };
    budget_close(out);
    return !ck.over || diag_add(d, DIAG_INPUT, in->at, "sizes overflow 64 bits");
}

/* --- the pool ------------------------------------------------------------------------------
 */

/* What the start-up check compares: one request of max_model_len against the pool, and with
 * recurrent layers a block of state for each of max_seqs. */
static void check_pool(const struct engine_in *in, const struct pool *p, struct diag *d)
{
    uint64_t need = pool_request_blocks(p, in->set->max_model_len);
    uint64_t blocks = p->block_bytes ? in->base->kv_pool_bytes / p->block_bytes : 0;

    if (!p->block_bytes || in->base->short_bytes)
        return;
    if (blocks < need)
        diag_add(
            d, DIAG_WARN, in->at,
            "vLLM refuses to start: a request of max_model_len (%llu) takes %llu blocks, the "
            "pool has %llu",
            (unsigned long long)in->set->max_model_len, (unsigned long long)need,
            (unsigned long long)blocks);
    else if (in->fold->state_layers && blocks < in->set->max_seqs)
        diag_add(d, DIAG_WARN, in->at,
                 "vLLM refuses to start: max_seqs (%llu) exceeds the %llu blocks for states",
                 (unsigned long long)in->set->max_seqs, (unsigned long long)blocks);
}

static bool vllm_pool(const struct engine_in *in, struct pool *out, struct diag *d)
{
    const struct vllm_rules *r = rules_for(in, d);
    struct ck ck = {0};

    if (!r)
        return false;
    struct pool_in p = {.fold = in->fold,
                        .block_tokens = in->set->block_tokens,
                        .align_tokens = in->set->block_tokens,
                        .step_tokens = in->set->max_batched_tokens,
                        .hybrid = r->hybrid};
    if (!pool_build(&p, out, &ck) && in->fold->n_stores)
        diag_add(d, DIAG_WARN, in->at,
                 "layers of more than %d kinds: the pool is planned in bytes, not in blocks",
                 POOL_KINDS);
    check_pool(in, out, d);
    return !ck.over || diag_add(d, DIAG_INPUT, in->at, "sizes overflow 64 bits");
}

static void vllm_lines(const struct engine_settings *set, const struct pool *pool,
                       uint64_t blocks, uint64_t tokens, struct engine_lines *out)
{
    uint64_t one = pool_request_blocks(pool, tokens);
    uint32_t version = ENGINE_NEWEST;

    (void)engine_version(set->version, (struct loc){NULL, 0, 0}, NULL, &version);
    out->max_concurrency = one ? (double)blocks / (double)one : 0;
    if (vllm_rules_of(version)->tokens_by_concurrency)
        out->kv_tokens = (uint64_t)(out->max_concurrency * (double)tokens);
    else
        out->kv_tokens = blocks / pool->groups * pool->min_block_tokens * pool->cp;
}

/* --- flags ---------------------------------------------------------------------------------
 */

/* A server that was not told max_model_len takes the model's positions, and does not start
 * where one such request is more than the pool. */
static uint64_t served_len(const struct flags_in *in, struct engine_flags *f)
{
    const struct engine_in *e = in->in;
    uint64_t len = e->set->max_model_len, need = e->prompt + e->output;
    uint64_t blocks =
        in->pool->block_bytes ? e->base->kv_pool_bytes / in->pool->block_bytes : 0;

    if (!blocks || len <= need || pool_request_blocks(in->pool, len) <= blocks)
        return len;
    if (in->len_given) {
        flag_cannot(f, "engine.max_model_len",
                    "vLLM does not start: one request of %llu tokens is more than the pool",
                    (unsigned long long)len);
        return len;
    }
    flag_note(f,
              "max_model_len %llu does not fit the pool: the workload's %llu tokens are taken",
              (unsigned long long)len, (unsigned long long)need);
    return need;
}

static void put_parallel(const struct flags_in *in, struct engine_flags *f)
{
    const struct parallel p = in->in->parallel;

    if (p.tp > 1)
        flag_u64(f, FLAG_COMMAND, "parallel.tp", "--tensor-parallel-size", p.tp);
    if (p.pp > 1)
        flag_u64(f, FLAG_COMMAND, "parallel.pp", "--pipeline-parallel-size", p.pp);
    if (p.cp > 1)
        flag_u64(f, FLAG_COMMAND, "parallel.cp", "--prefill-context-parallel-size", p.cp);
    if (p.dp > 1)
        flag_u64(f, FLAG_COMMAND, "parallel.dp", "--data-parallel-size", p.dp);
    if (p.ep > 1)
        flag_text(f, FLAG_COMMAND, "parallel.ep", "--enable-expert-parallel", NULL);
    if (p.ep > 1 && p.ep != p.tp * p.dp * p.cp)
        flag_cannot(f, "parallel.ep",
                    "vLLM divides the experts over tp x dp x cp = %u ranks, "
                    "not over %u",
                    p.tp * p.dp * p.cp, p.ep);
}

/* source: vLLM vllm/engine/arg_utils.py, vllm/config/cache.py (CacheDType). */
static void vllm_flags(const struct flags_in *in, struct engine_flags *f)
{
    static const char *const types[] = {"fp8",
                                        "fp8",
                                        "fp8_e4m3",
                                        "fp8_e4m3",
                                        "fp8_e5m2",
                                        "fp8_e5m2",
                                        "fp8_ds_mla",
                                        "fp8_ds_mla",
                                        "int8_per_token_head",
                                        "int8_per_token_head",
                                        "fp8_per_token_head",
                                        "fp8_per_token_head",
                                        "nvfp4",
                                        "nvfp4",
                                        "nvfp4_ds_mla",
                                        "nvfp4_ds_mla",
                                        "turboquant_k8v4",
                                        "turboquant_k8v4",
                                        "turboquant_4bit_nc",
                                        "turboquant_4bit_nc",
                                        "turboquant_k3v4_nc",
                                        "turboquant_k3v4_nc",
                                        "turboquant_3bit_nc",
                                        "turboquant_3bit_nc",
                                        NULL};
    const struct engine_settings *s = in->in->set;

    flag_word(f, "vllm");
    flag_word(f, "serve");
    flag_word(f, in->model);
    flag_number(f, FLAG_COMMAND, "engine.memory_fraction", "--gpu-memory-utilization",
                flags_fraction(in, s->memory_fraction, 0, f));
    flag_u64(f, FLAG_COMMAND, "engine.max_model_len", "--max-model-len", served_len(in, f));
    flag_u64(f, FLAG_COMMAND, "engine.max_seqs", "--max-num-seqs", s->max_seqs);
    flag_u64(f, FLAG_COMMAND, "engine.max_batched_tokens", "--max-num-batched-tokens",
             s->max_batched_tokens);
    flag_u64(f, FLAG_COMMAND, "engine.block_tokens", "--block-size", s->block_tokens);
    flags_formats(in, "vLLM", types, f);
    put_parallel(in, f);
    flags_cpu_offload(in, f);
    if (s->cuda_graphs == 1)
        flag_text(f, FLAG_COMMAND, "engine.cuda_graphs", "--enforce-eager", NULL);
    flags_check_schemes(in, "vLLM", f);
}

/* Asynchronous scheduling is on by default since 0.14, with pipeline stages since 0.16. The
 * queue of batches holds two: one runs, and the next is composed before the result of the one
 * that runs is asked for. */
static bool vllm_composes_ahead(const struct engine_settings *set, struct parallel p,
                                const char **source)
{
    uint32_t version = ENGINE_NEWEST;

    (void)engine_version(set->version, (struct loc){NULL, 0, 0}, NULL, &version);
    *source = "vllm-project/vllm vllm/v1/engine/core.py (step_with_batch_queue), asynchronous "
              "scheduling by default since 0.14 (pull request 27614), with pipeline stages "
              "since 0.16 (32618)";
    return version >= (p.pp > 1 ? ENGINE_VERSION(0, 16, 0) : ENGINE_VERSION(0, 14, 0));
}

/* By version: composing a step ahead hides the scheduler while a step of the GPU is longer than
 * one of its own. */
static double vllm_step_overhead(const struct engine_settings *set, struct parallel p,
                                 const char **source)
{
    uint32_t version = ENGINE_NEWEST;

    (void)engine_version(set->version, (struct loc){NULL, 0, 0}, NULL, &version);
    if (vllm_composes_ahead(set, p, source)) {
        *source =
            "asynchronous scheduling hides it (vllm-project/vllm pull requests 27614, 32618)";
        return 0;
    }
    if (version >= ENGINE_VERSION(0, 8, 0)) {
        *source =
            "unverified: 0.54 ms a step of the engine loop without a GPU "
            "(openfabric-systems/simllm pull request 204, a study that calls itself void)";
        return 0.54e-3;
    }
    *source = "unverified: 5 to 13 ms in which the GPU waits, the lower end (vllm-project/vllm "
              "issue 6854)";
    return 5e-3;
}

/* FlashAttention 2 (all cards but Hopper and the data centre's Blackwell): one kernel for the
 * batch. With a prompt in it the query heads that share K/V are not packed, and each takes a
 * tile of 64 rows. source: kernel timings of casys-kaist/LLMServingSim@a09fa560 profiler/perf,
 * RTX 4090: 32 decodes of 1,024 keys take 181 us alone, 304 us beside 16 prompt tokens that
 * take 10 us; RTX PRO 6000 @72c16bac: 128 of 923 take 187 us and 569 us. */
static uint32_t vllm_mixed_rows(const struct engine_settings *set, const struct gpu *gpu)
{
    const char *cc = gpu->compute_capability;

    (void)set;
    return cc && (!strncmp(cc, "8.", 2) || !strncmp(cc, "12.", 3)) ? 64 : 1;
}

/* There are no products of 8 bits and less head by head. source: vLLM
 * vllm/v1/attention/backends/mla/common.py, process_weights_after_loading. */
static bool vllm_widens(const struct weight_format *f)
{
    return !weights_format_plain(f);
}

const struct engine engine_vllm = {
    .name = "vllm",
    .summary = "vLLM 0.6 and later: profile run, blocks of one size, groups of layers",
    .source = "vllm-project/vllm, see planner/engine/vllm.c",
    .block_tokens = 16,
    .uniform_pool = true,
    .cache_as_weights = true,
    .defaults = vllm_defaults,
    .budget = vllm_budget,
    .pool = vllm_pool,
    .lines = vllm_lines,
    .step_overhead = vllm_step_overhead,
    .composes_ahead = vllm_composes_ahead,
    .mixed_rows = vllm_mixed_rows,
    .widens = vllm_widens,
    .flags = vllm_flags,
};
