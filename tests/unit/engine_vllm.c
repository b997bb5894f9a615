/* vLLM, SGLang and TensorRT-LLM by hand: settings that are filled in, terms of the profile run,
 * what versions subtract and print. Arithmetic stands beside each. */
#include "planner/engine/vllm/profile.h"
#include "tests/kvplan.h"

#define GIB ((uint64_t)1 << 30)
#define MIB ((uint64_t)1 << 20)
#define H100 "hardware: {gpu: h100-sxm-80gb}\n"

/* 2 layers, hidden 1024, MLP 4096, 8 heads of 128, 2 K/V heads, vocabulary 32,000. */
#define TINY                                                                                   \
    "model: {layers: 2, hidden_size: 1024, intermediate_size: 4096, heads: 8, kv_heads: 2, "   \
    "head_dim: 128, vocab_size: 32000, max_position: 4096}\n"

static struct plan solved(const struct kp *k)
{
    struct plan plan;

    plan_solve(&k->problem, &k->problem.workload, &plan);
    assert_false(plan.over);
    return plan;
}

static struct engine_settings settings_of(const char *yaml)
{
    struct kp *k = kp_build(yaml);
    struct engine_settings s = k->problem.settings;

    kp_free(k);
    return s;
}

/* --- settings
 * ------------------------------------------------------------------------------------ */

static void test_defaults_by_size(void **state)
{
    struct engine_settings s;

    (void)state;
    s = settings_of(TINY H100 "engine: {name: vllm, version: 0.19.0}\n");
    kt_u64(s.max_seqs, 1024);
    kt_u64(s.max_batched_tokens, 8192);
    kt_u64(s.max_model_len, 4096);
    kt_u64(s.block_tokens, 16);
    kt_rel(s.memory_fraction, 0.9, 1e-12);
    s = settings_of(TINY
                    "hardware: {gpu: a100-sxm4-80gb}\nengine: {name: vllm, version: 0.19.0}\n");
    kt_u64(s.max_seqs, 256);
    kt_u64(s.max_batched_tokens, 2048);
    s = settings_of(TINY "hardware: {gpu: h200-sxm-141gb, count: 1}\n"
                         "engine: {name: vllm, version: 0.22.0}\n");
    kt_u64(s.max_batched_tokens, 8192);
    s = settings_of(TINY "hardware: {memory: 180GiB}\nengine: {name: vllm, version: 0.22.0}\n");
    kt_u64(s.max_batched_tokens, 16384);
    kt_rel(s.memory_fraction, 0.92, 1e-12);
    s = settings_of(
        TINY
        "hardware: {memory: 24GiB}\nengine: {name: vllm, max_seqs: 2, max_model_len: 100}\n");
    kt_u64(s.max_batched_tokens, 200);
}

/* Before 0.8 a step takes a whole prompt, unless the context is long. */
static void test_defaults_before_v1(void **state)
{
    struct engine_settings s;

    (void)state;
    s = settings_of(TINY H100
                    "engine: {name: vllm, version: 0.6.4.post1, max_model_len: 10000}\n");
    kt_u64(s.max_batched_tokens, 10000);
    kt_u64(s.max_seqs, 256);
    s = settings_of(TINY H100 "engine: {name: vllm, version: 0.7.3, max_model_len: 40000}\n");
    kt_u64(s.max_batched_tokens, 2048);
    s = settings_of(TINY H100 "engine: {name: vllm, version: 0.7.3, max_model_len: 1000}\n");
    kt_u64(s.max_batched_tokens, 2048);
}

static void test_notes(void **state)
{
    struct kp *k = kp_build(TINY H100 "engine: {name: vllm}\n");

    (void)state;
    kp_says(k, "engine.version is not given: vLLM 0.21 or newer");
    kp_says(k, "engine.memory_fraction is not given: 0.92, vLLM's gpu_memory_utilization");
    kp_says(k, "engine.max_model_len is not given: 4096, the model's positions");
    kp_says(k, "engine.block_tokens is not given: 16, vLLM's default");
    kp_says(k, "engine.max_seqs is not given: 1024, vLLM's server on GPUs of 70 GiB and more");
    kp_says(
        k, "engine.max_batched_tokens is not given: 8192, vLLM's server on a GPU of this size");
    kp_free(k);
}

static void test_versions(void **state)
{
    struct kt *t = *state;
    const struct loc at = {"spec.yaml", 3, 5};
    const struct {
        const char *text;
        uint32_t want;
    } good[] = {
        {NULL, ENGINE_NEWEST},
        {"0.19.0", ENGINE_VERSION(0, 19, 0)},
        {"v0.6.4.post1", ENGINE_VERSION(0, 6, 4)},
        {"1.2", ENGINE_VERSION(1, 2, 0)},
        {"0.8.5rc1", ENGINE_VERSION(0, 8, 5)},
    };
    const char *const bad[] = {"", "main", "1", "1.", "1.2.3000", "99999.1", "v"};

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint32_t v;
        assert_true(engine_version(good[i].text, at, t->d, &v));
        kt_u64(v, good[i].want);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint32_t v;
        assert_false(engine_version(bad[i], at, t->d, &v));
        kt_diag(
            t->d,
            arena_printf(t->a, "engine.version '%s' is not a version such as 0.19.0", bad[i]),
            3);
    }
    const char *const engines[] = {"vllm", "sglang", "trtllm"};
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++) {
        struct kp *k = kp_try(arena_printf(t->a, "%s%sengine: {name: %s, version: main}\n",
                                           TINY, H100, engines[i]));
        assert_false(k->ok);
        kp_says(k, "engine.version 'main' is not a version such as 0.19.0");
        kp_free(k);
    }
}

/* What vLLM refuses is refused, what it lets pass with a variable is warned of. */
static void test_refused(void **state)
{
    struct kp *k =
        kp_try(TINY H100
               "engine: {name: vllm, version: 0.19.0, max_seqs: 64, max_batched_tokens: 63}\n");

    (void)state;
    assert_false(k->ok);
    kp_says(k, "vLLM refuses max_batched_tokens (63) below max_seqs (64)");
    kp_free(k);
    k = kp_try(TINY H100 "engine: {name: vllm, version: 0.19.0, block_tokens: 24}\n");
    assert_false(k->ok);
    kp_says(k, "vLLM takes blocks of a multiple of 16 tokens, block_tokens is 24");
    kp_free(k);
    k = kp_build(
        TINY H100
        "engine: {name: vllm, version: 0.19.0, max_model_len: 4097, max_batched_tokens: 100}\n");
    kp_says(k, "vLLM refuses max_model_len (4097) above the model's 4096 positions unless "
               "VLLM_ALLOW_LONG_MAX_MODEL_LEN is set");
    kt_u64(k->problem.settings.max_seqs, 100);
    kp_free(k);
}

/* A request of 4096 takes 256 blocks of 2 x 16 x 2 x 2 x 128 x 2 = 32,768 B. With states: pages
 * as large as a state of 1 MiB and more, so few blocks. */
static void test_start_up_check(void **state)
{
    struct kp *k = kp_build(TINY H100 "engine: {name: vllm, version: 0.19.0}\n"
                                      "memory: {per_gpu: {kv_pool_bytes: 8388607}}\n");

    (void)state;
    kp_says(
        k,
        "vLLM refuses to start: a request of max_model_len (4096) takes 256 blocks, the pool has 255");
    kp_free(k);
    k = kp_build(
        "model: {layers: 2, hidden_size: 1024, vocab_size: 32000, intermediate_size: 0, "
        "max_position: 4096, ssm: {kind: mamba2, heads: 64, head_dim: 64, state_dim: 64, groups: 1, "
        "conv_kernel: 4}}\n" H100 "engine: {name: vllm, version: 0.19.0}\n"
        "memory: {per_gpu: {kv_pool_bytes: 100MiB}}\n");
    kp_says(k, "vLLM refuses to start: max_seqs (1024) exceeds the");
    kp_free(k);
}

static void test_unsupported(void **state)
{
    const struct {
        const char *engine, *name;
    } engines[] = {{"vllm", "vLLM"}, {"sglang", "SGLang"}, {"trtllm", "TensorRT-LLM"}};
    struct kt *t = *state;

    for (size_t i = 0; i < 3; i++) {
        struct kp *k = kp_build(arena_printf(
            t->a,
            "%s%sengine: {name: %s}\ncache: {format: kivi2, eviction: {scheme: streamingllm}}\n",
            TINY, H100, engines[i].engine));
        kp_says(k, arena_printf(t->a, "%s has no cache format kivi2: planned as if it had",
                                engines[i].name));
        kp_says(
            k,
            arena_printf(
                t->a,
                "%s keeps every token in view: streamingllm is planned as if it could drop them",
                engines[i].name));
        kp_free(k);
        k = kp_build(arena_printf(t->a, "%s%sengine: {name: %s}\ncache: {format: fp8_e4m3}\n",
                                  TINY, H100, engines[i].engine));
        for (size_t m = 0; m < diag_count(k->diag); m++)
            assert_int_not_equal(diag_at(k->diag, m)->kind, DIAG_WARN);
        kp_free(k);
    }
}

/* MLA blocks: 64 for FlashMLA on Hopper until 0.17, 16 after; sparse attention 64. */
static void test_latent_blocks(void **state)
{
    static const char mla[] =
        "model: {layers: 2, hidden_size: 1024, intermediate_size: 4096, heads: 8, vocab_size: 32000, "
        "mla: {kv_lora_rank: 512, nope_dim: 128, rope_dim: 64, v_dim: 128}}\n";
    struct kt *t = *state;
    const struct {
        const char *gpu, *version;
        uint64_t want;
    } cases[] = {
        {"h100-sxm-80gb", "0.11.0", 64},  {"h100-sxm-80gb", "0.19.0", 16},
        {"b200-sxm", "0.10.2", 128},      {"b200-sxm", "0.19.0", 64},
        {"a100-sxm4-80gb", "0.11.0", 16}, {"h100-sxm-80gb", "0.7.3", 16},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        kt_u64(
            settings_of(
                arena_printf(
                    t->a,
                    "%shardware: {gpu: %s}\nengine: {name: vllm, version: %s, max_model_len: 4096}\n",
                    mla, cases[i].gpu, cases[i].version))
                .block_tokens,
            cases[i].want);
}

/* --- the profile run
 * ------------------------------------------------------------------------------ */

#define RUN "max_model_len: 4096, max_batched_tokens: 1000, "

static uint64_t activation(const char *engine, const char *more)
{
    struct arena *a = arena_new();
    struct kp *k =
        kp_build(arena_printf(a, "%s%sengine: {name: vllm, %s}\n%s", TINY, H100, engine, more));
    uint64_t bytes = k->problem.stages[k->problem.n_stages - 1].budget.activation_bytes;

    kp_free(k);
    arena_free(a);
    return bytes;
}

/* 100 sequences: logits 100 x 32,000 x (2 + 12); a row of fp32 logits on each of 132
 * multiprocessors; hidden states (1000 + 2 x 100) x 1024 x 2; cuBLAS 32 MiB. One sequence: the
 * layer, 1000 x (3 x 1024 + 3 x 4096) x 2, and 50 MiB of L2. */
static void test_sampler_or_layer(void **state)
{
    const uint64_t sampler = 100 * 32000 * 14 + 132 * 32000 * 4 + 1200 * 2048 + 32 * MIB;
    const uint64_t layer = 1000 * (3 * 1024 + 3 * 4096) * 2 + 50 * MIB + 32 * MIB;

    (void)state;
    kt_u64(activation("version: 0.19.0, max_seqs: 1000, " RUN, ""),
           sampler + 900 * (32000 * 14 + 2 * 2048));
    kt_u64(activation("version: 0.19.0, max_seqs: 1, " RUN, ""), layer);
    /* a sort before 0.17: 2 + 36 bytes a logit and no buffer */
    kt_u64(activation("version: 0.16.0, max_seqs: 1000, " RUN, ""),
           1000 * 32000 * 38ull + 3000 * 2048 + 32 * MIB);
    /* fp32: 4 bytes a logit and an element */
    kt_u64(activation("version: 0.19.0, max_seqs: 1000, " RUN, "weights: {format: fp32}\n"),
           1000 * 32000 * 16ull + 132 * 32000 * 4 + 3000 * 4096 + 32 * MIB);
}

/* Eager: four hidden states, no timing of kernels; five before 0.8 with two ranks. */
static void test_eager(void **state)
{
    (void)state;
    kt_u64(activation("version: 0.19.0, max_seqs: 1, cuda_graphs: false, " RUN, ""),
           1000 * (4 * 1024 + 3 * 4096) * 2 + 32 * MIB);
    struct kp *k =
        kp_build(TINY "hardware: {gpu: h100-sxm-80gb, count: 2}\nparallel: {tp: 2}\n"
                      "engine: {name: vllm, version: 0.7.3, max_seqs: 1, " RUN "}\n");
    kt_u64(k->problem.stages[0].budget.activation_bytes,
           1000 * (5 * 1024 + 3 * 2048) * 2 + 32 * MIB);
    kp_free(k);
}

/* A later stage holds what the one before sends: 2 x 1000 x 1024 x 2; the first does not
 * sample. */
static void test_stages(void **state)
{
    struct kp *k =
        kp_build(TINY "hardware: {gpu: h100-sxm-80gb, count: 2}\nparallel: {pp: 2}\n"
                      "engine: {name: vllm, version: 0.19.0, max_seqs: 1000, " RUN "}\n");

    (void)state;
    kt_u64(k->problem.stages[0].budget.activation_bytes,
           1000 * (3 * 1024 + 3 * 4096) * 2 + 82 * MIB);
    kt_u64(k->problem.stages[1].budget.activation_bytes,
           1000 * 32000 * 14ull + 132 * 32000 * 4 + 3000 * 2048 + 32 * MIB + 2 * 1000 * 2048);
    kt_u64(k->problem.stages[0].budget.non_torch_bytes, 72 * MIB);
    kp_free(k);
}

/* 8 experts of 512, two a token: 2 x (max(512, 1024) + max(1024, 1024)) elements a token stay
 * beside the sampler since 0.12; before, they compete with the dense part of a layer. */
static void test_experts(void **state)
{
    static const char moe[] =
        "model: {layers: 2, hidden_size: 1024, heads: 8, kv_heads: 2, head_dim: 128, vocab_size: 32000, "
        "moe: {experts: 8, top_k: 2, intermediate_size: 512}}\n" H100;
    struct kt *t = *state;
    const uint64_t buffers = 1000 * 2 * 2048 * 2;
    struct kp *k = kp_build(arena_printf(
        t->a, "%sengine: {name: vllm, version: 0.19.0, max_seqs: 1000, %s}\n", moe, RUN));

    kt_u64(k->problem.stages[0].budget.activation_bytes,
           1000 * 32000 * 14ull + 132 * 32000 * 4 + 3000 * 2048 + 32 * MIB + buffers);
    kp_free(k);
    k = kp_build(arena_printf(
        t->a, "%sengine: {name: vllm, version: 0.11.0, max_seqs: 1, %s}\n", moe, RUN));
    kt_u64(k->problem.stages[0].budget.activation_bytes,
           1000 * 3 * 1024 * 2 + buffers + 82 * MIB);
    kp_free(k);
}

/* --- what loading takes
 * ---------------------------------------------------------------------------- */

/* Tensors of 10 MiB and more are rounded up by at most 1 MiB to a multiple of 2 MiB: gate and
 * up of 2 x 2816 x 1024 x 2 = 11 MiB count as 12 in each of 2 layers; down, 5.5 MiB, as it is.
 * The table of rotations: 4096 x 128 x 2. */
static void test_weights(void **state)
{
    struct kp *k = kp_build(
        "model: {layers: 2, hidden_size: 1024, intermediate_size: 2816, heads: 8, kv_heads: 2, "
        "head_dim: 128, vocab_size: 1000, max_position: 4096}\n" H100
        "engine: {name: vllm, version: 0.19.0}\n");

    (void)state;
    kt_u64(k->problem.stages[0].budget.weights_bytes,
           k->problem.stages[0].work.weights_bytes + 2 * MIB + 4096 * 128 * 2);
    kp_free(k);
}

/* MLA in fp8: a copy of kv_b in 16 bits, 8 heads of 64 + 64 by 128 in each of 2 layers, over 2
 * ranks; none in bf16. Rotations: 4096 x 32 x 2. A step reads the copy in place of the codes
 * and their scale, a prompt the codes. */
static void test_absorbed_weights(void **state)
{
    static const struct {
        const char *format;
        uint64_t copies, codes;
    } cases[] = {{"fp8", 2 * 8 * (64 + 64) * 128 * 2 / 2, 2 * (8 * (64 + 64) * 128 / 2 + 4)},
                 {"bf16", 0, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *a = arena_new();
        struct kp *k = kp_build(arena_printf(
            a,
            "model: {layers: 2, hidden_size: 256, intermediate_size: 512, vocab_size: 1000, "
            "max_position: 4096, heads: 8, "
            "mla: {kv_lora_rank: 128, nope_dim: 64, rope_dim: 32, v_dim: 64}}\nhardware: {gpu: h200, count: 2}\n"
            "weights: {format: %s}\nengine: {name: vllm, version: 0.19.0}\n",
            cases[i].format));
        kt_u64(k->problem.stages[0].budget.weights_bytes,
               k->problem.stages[0].work.weights_bytes + cases[i].copies + 4096 * 32 * 2);
        kt_u64(k->problem.stages[0].work.copied_bytes, cases[i].copies);
        kt_u64(k->problem.stages[0].work.read_bytes[OP_QKV] + cases[i].codes,
               k->problem.stages[0].work.prefill_read_bytes[OP_QKV] + cases[i].copies);
        kp_free(k);
        arena_free(a);
    }
}

/* --- versions
 * ---------------------------------------------------------------------------------------- */

static void test_graphs_and_tokens(void **state)
{
    struct kp *k =
        kp_build(TINY H100 "engine: {name: vllm, version: 0.19.0, memory_fraction: 0.9}\n");
    struct budget before = k->problem.stages[0].budget, after;
    struct plan p = solved(k), q;

    (void)state;
    kp_free(k);
    k = kp_build(TINY H100 "engine: {name: vllm, version: 0.21.0, memory_fraction: 0.9}\n");
    after = k->problem.stages[0].budget;
    q = solved(k);
    assert_true(before.cuda_graph_bytes > 333 * MIB);
    kt_u64(after.cuda_graph_bytes, before.cuda_graph_bytes);
    kt_u64(before.kv_pool_bytes - after.kv_pool_bytes, after.cuda_graph_bytes);
    kt_u64(p.kv_tokens, p.kv_blocks * 16);
    kt_u64(q.kv_tokens, (uint64_t)(q.max_concurrency * 4096));
    kp_free(k);
    k = kp_build(TINY H100 "engine: {name: vllm, version: 0.21.0, cuda_graphs: false}\n");
    kt_u64(k->problem.stages[0].budget.cuda_graph_bytes, 0);
    kp_free(k);
}

/* fp32 asked for the weights is the cache's as well; `ideal` keeps bf16. */
static void test_cache_format(void **state)
{
    struct kp *k =
        kp_build(TINY H100 "weights: {format: fp32}\nengine: {name: vllm, version: 0.19.0}\n");
    struct ck ck = {0};

    (void)state;
    kt_u64(fold_token_bytes(&k->problem.whole, false, &ck), 2 * 2 * 2 * 128 * 4);
    kp_free(k);
    k = kp_build(TINY H100 "weights: {format: fp32}\n");
    kt_u64(fold_token_bytes(&k->problem.whole, false, &ck), 2 * 2 * 2 * 128 * 2);
    kp_free(k);
}

/* --- SGLang and TensorRT-LLM
 * --------------------------------------------------------------------------- */

/* Reserve on 24 GiB: 512 + 1.5 x 2048 + 2 x 24 + 128 MiB = 3760 of 24,576: 0.847; on 80 GiB
 * 512 + 1.5 x 8192 + 2 x 256 + 128 = 13,440 of 81,920: 0.836, and at least 10 GiB: 0.875. */
static void test_sglang_fraction(void **state)
{
    struct engine_settings s;

    (void)state;
    s = settings_of(TINY "hardware: {memory: 24GiB}\nengine: {name: sglang}\n");
    kt_rel(s.memory_fraction, 0.847, 1e-12);
    kt_u64(s.max_batched_tokens, 2048);
    s = settings_of(TINY "hardware: {memory: 80GiB}\nengine: {name: sglang}\n");
    kt_rel(s.memory_fraction, 0.836, 1e-12);
    s = settings_of(
        TINY "hardware: {memory: 80GiB}\nengine: {name: sglang, max_batched_tokens: 2048}\n");
    kt_rel(s.memory_fraction, 0.875, 1e-12);
    s = settings_of(TINY "hardware: {memory: 80GiB}\nengine: {name: sglang, version: 0.3.0}\n");
    kt_rel(s.memory_fraction, 0.88, 1e-12);
    struct kp *k = kp_build(TINY "hardware: {memory: 80GiB}\nengine: {name: sglang}\n");
    kp_says(
        k,
        "engine.memory_fraction is not given: 0.836, what SGLang's reserve for this GPU leaves");
    kp_free(k);
}

/* (80 GiB - 0.5 GiB) x 0.5 - weights, in tokens of 2 x 2 x 2 x 128 x 2 B. */
static void test_sglang_pool(void **state)
{
    struct kp *k = kp_build(
        TINY "hardware: {memory: 80GiB}\nengine: {name: sglang, memory_fraction: 0.5}\n");
    struct plan p = solved(k);
    uint64_t pool = 159 * GIB / 4 - k->problem.stages[0].work.weights_bytes;

    (void)state;
    kt_u64(k->problem.stages[0].budget.kv_pool_bytes, pool);
    kt_u64(p.kv_tokens, pool / 2048);
    kp_free(k);
}

static void test_trtllm_pool(void **state)
{
    struct kp *k = kp_build(
        TINY "hardware: {memory: 80GiB}\nengine: {name: trtllm, max_batched_tokens: 1000}\n");
    const struct budget *b = &k->problem.stages[0].budget;
    uint64_t step = 1000 * (2 * 3 * 4096 + 2 * 1024) * 2;
    uint64_t left = 80 * GIB - 2350 * MIB - step - k->problem.stages[0].work.weights_bytes;

    (void)state;
    kt_u64(b->activation_bytes, step);
    kt_u64(b->kv_pool_bytes, (uint64_t)((double)left * 0.9));
    kt_u64(k->problem.block_tokens, 32);
    kp_says(k, "engine.version is not given: TensorRT-LLM 1.0 or newer, PyTorch backend");
    kp_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_by_size),
        cmocka_unit_test(test_defaults_before_v1),
        cmocka_unit_test(test_notes),
        kt_test(test_versions),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_start_up_check),
        kt_test(test_unsupported),
        kt_test(test_latent_blocks),
        cmocka_unit_test(test_sampler_or_layer),
        cmocka_unit_test(test_eager),
        cmocka_unit_test(test_stages),
        kt_test(test_experts),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_absorbed_weights),
        cmocka_unit_test(test_graphs_and_tokens),
        cmocka_unit_test(test_cache_format),
        cmocka_unit_test(test_sglang_fraction),
        cmocka_unit_test(test_sglang_pool),
        cmocka_unit_test(test_trtllm_pool),
    };

    return cmocka_run_group_tests_name("engine_vllm", tests, NULL, NULL);
}
