/* llama.cpp as an engine: what lies on the GPU, how layers divide, the batches and contexts
 * that its fixed allocation leaves, and what it refuses. */
#include "planner/plan/report.h"
#include "planner/plan/reserve.h"
#include "tests/kvplan.h"

#define MIB ((uint64_t)1 << 20)
#define FREE_HARDWARE "hardware: {memory: 4TiB}\n"

/* --- weights and layers ---------------------------------------------------------------------
 */

#define TINY                                                                                   \
    "model: {layers: 4, hidden_size: 256, intermediate_size: 512, heads: 4, kv_heads: 2, "     \
    "head_dim: 64, vocab_size: 1000%s}\n"
#define TINY_LAYER (2 * (256 * 256 * 2 + 2 * 256 * 128 + 3 * 256 * 512) + 4 * 2 * 256)
#define TINY_TABLE (2 * 1000 * 256)

/* The embedding stays on the host; a tied one is loaded again as the head; norms are fp32 (the
 * final one, 512 B, as the checkpoint has it). -ngl counts the output first since 2026. */
static void test_weights(void **state)
{
    static const struct {
        const char *tied, *engine;
        uint64_t layers, tables;
    } cases[] = {
        {"", "", 4, 1},
        {", tied_embeddings: true", "", 4, 1},
        {"", ", offload_layers: 3", 2, 1},
        {"", ", offload_layers: 3, version: 2025-12", 3, 0},
        {"", ", offload_layers: 5, version: 2025-12", 4, 1},
        {"", ", offload_layers: 99", 4, 1},
        {"", ", offload_layers: 0", 0, 0},
        {", tied_embeddings: true", ", offload_layers: 0", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[512];
        snprintf(yaml, sizeof yaml,
                 TINY FREE_HARDWARE
                 "engine: {name: llamacpp, n_seq: 1, max_model_len: 4096%s}\n",
                 cases[i].tied, cases[i].engine);
        struct kp *k = kp_build(yaml);
        const struct budget *b = &k->problem.stages[0].budget;
        kt_u64(b->weights_bytes,
               cases[i].layers * TINY_LAYER + cases[i].tables * TINY_TABLE + 512);
        kt_u64(b->k_bytes, 4 * 4096 * 128 * 2);
        kt_u64(b->kv_pool_bytes, cases[i].layers * 4096 * 256 * 2);
        kp_free(k);
    }
}

/* Two GPUs take two layers each: the first has no head, the last no embedding, inputs fourfold.
 */
static void test_layer_split(void **state)
{
    char yaml[512];

    (void)state;
    snprintf(yaml, sizeof yaml,
             TINY "hardware: {memory: 4GiB, count: 2}\nengine: {name: llamacpp, "
                  "n_seq: 1, max_model_len: 4096}\n",
             "");
    struct kp *k = kp_build(yaml);
    kp_says(k, "llamacpp divides the layers over 2 GPUs");
    kt_u64(k->problem.n_stages, 2);
    kt_u64(k->problem.stages[0].budget.weights_bytes, 2 * TINY_LAYER);
    kt_u64(k->problem.stages[1].budget.weights_bytes, 2 * TINY_LAYER + TINY_TABLE + 512);
    kt_u64(k->problem.stages[0].budget.kv_pool_bytes, 2 * 4096 * 256 * 2);
    kt_u64(k->problem.stages[0].budget.workspace_bytes,
           512 * 4 * (2 * 256 + 2 * 512) + 4 * 4096 * 512 * 2);
    kp_free(k);
}

/* Graphs without windows hold the whole context; what a sequence sees does not change. */
static void test_no_windows(void **state)
{
    static const char *const types[] = {"mistral", "gemma2"};
    static const uint64_t cells[] = {4096, 1024};

    (void)state;
    for (int i = 0; i < 2; i++) {
        char yaml[512], more[80];
        snprintf(more, sizeof more, ", window: 512, mixer: sliding, model_type: %s", types[i]);
        snprintf(yaml, sizeof yaml,
                 TINY FREE_HARDWARE "engine: {name: llamacpp, n_seq: 1, max_model_len: 4096}\n",
                 more);
        struct kp *k = kp_build(yaml);
        kt_u64(k->problem.stages[0].budget.kv_pool_bytes, 4 * cells[i] * 256 * 2);
        if (!i)
            kp_says(k,
                    "llama.cpp has no sliding windows for mistral: every layer holds the whole "
                    "context");
        kp_free(k);
    }
}

/* --- capacity -------------------------------------------------------------------------------
 */

static struct plan solve(const struct kp *k)
{
    struct plan plan;

    plan_solve(&k->problem, &k->problem.workload, &plan);
    return plan;
}

#define GIVEN                                                                                  \
    "memory: {per_gpu: {weights_bytes: 1MiB, non_torch_bytes: 0, workspace_bytes: 0}}\n"
#define WORK "workload: {prompt: 200, output: 56}\n"

/* 256 cells x 4 layers x 256 elements x 2 B = 512 KiB a sequence; 1 MiB of weights in 6 MiB
 * leaves room for 10. */
static void test_planned_slots(void **state)
{
    char yaml[512];

    (void)state;
    snprintf(yaml, sizeof yaml,
             TINY GIVEN WORK "hardware: {memory: 6MiB}\nengine: {name: llamacpp}\n", "");
    struct kp *k = kp_build(yaml);
    struct plan p = solve(k);
    kt_u64(p.max_batch, 10);
    kt_same(limit_name(p.batch_limit), "memory");
    kt_u64(p.max_context, 2560);
    kt_same(limit_name(p.context_limit), "memory");
    kt_u64(p.kv_tokens, 2560);
    kt_rel(p.max_concurrency, 10, 0);
    kt_u64(k->problem.stages[0].budget.kv_pool_bytes, 10 * 512 * 1024);
    kt_u64(reserve_short_bytes(&k->problem, &k->problem.workload, 10), 512 * 1024);
    assert_true(capacity_fits(&k->problem, &k->problem.workload, 10));
    assert_false(capacity_fits(&k->problem, &k->problem.workload, 11));
    kp_free(k);
}

static void test_limits(void **state)
{
    static const struct {
        const char *engine;
        uint64_t batch, context;
        const char *why;
    } cases[] = {
        {"n_seq: 3", 3, 768, "max_seqs"},
        {"max_model_len: 1024, n_seq: 4", 4, 256, "max_seqs"},
        {"max_model_len: 1024, n_seq: 8", 8, 256, "max_seqs"}, /* 128 cells become 256 */
        {"max_model_len: 512, n_seq: 2, version: 2025-06", 2, 512, "max_seqs"},
        {"max_model_len: 128, n_seq: 1, version: 2025-10, flash_attn: false", 0, 128,
         "max_model_len"},
        {"max_model_len: 1024, n_seq: 8, kv_unified: true", 4, 1024, "max_seqs"},
        {"max_model_len: 1024", 4, 1024, "max_seqs"},
        {"max_model_len: 4096, n_seq: 16", 0, 0, "memory"},
        {"max_seqs: 2", 2, 2560, "max_seqs"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[600];
        snprintf(yaml, sizeof yaml,
                 TINY GIVEN WORK "hardware: {memory: 6MiB}\nengine: {name: llamacpp, %s}\n", "",
                 cases[i].engine);
        struct kp *k = kp_build(yaml);
        struct plan p = solve(k);
        kt_u64(p.max_batch, cases[i].batch);
        kt_same(limit_name(p.batch_limit), cases[i].why);
        if (cases[i].context)
            kt_u64(p.max_context, cases[i].context);
        kp_free(k);
    }
}

/* Weights that leave nothing; a batch that is asked for; replicas; a pool handed in. */
static void test_other_plans(void **state)
{
    char yaml[600];

    (void)state;
    snprintf(yaml, sizeof yaml,
             TINY GIVEN WORK "hardware: {memory: 1MiB}\nengine: {name: llamacpp}\n", "");
    struct kp *k = kp_build(yaml);
    kt_u64(solve(k).max_batch, 0);
    kt_same(limit_name(solve(k).batch_limit), "weights");
    kt_u64(solve(k).max_context, 0);
    kp_free(k);
    snprintf(yaml, sizeof yaml,
             TINY GIVEN
             "workload: {prompt: 200, output: 56, batch: 3}\nhardware: {memory: 6MiB}\n"
             "engine: {name: llamacpp}\n",
             "");
    k = kp_build(yaml);
    assert_true(solve(k).fits);
    kt_u64(k->problem.stages[0].budget.kv_pool_bytes, 3 * 512 * 1024);
    kt_u64(budget_left_bytes(&k->problem.stages[0].budget), 6 * MIB - MIB - 3 * 512 * 1024);
    kp_free(k);
    snprintf(yaml, sizeof yaml,
             TINY GIVEN WORK "hardware: {memory: 6MiB, count: 2}\nparallel: {dp: 2}\n"
                             "engine: {name: llamacpp}\n",
             "");
    k = kp_build(yaml);
    kt_u64(solve(k).max_batch, 20);
    kp_free(k);
    snprintf(yaml, sizeof yaml,
             TINY "memory: {per_gpu: {kv_pool_bytes: 1MiB}}\n" WORK "hardware: {memory: 1GiB}\n"
                  "engine: {name: llamacpp}\n",
             "");
    k = kp_build(yaml);
    kt_u64(solve(k).max_batch, 2);
    kp_free(k);
}

/* --- refusals and notes ---------------------------------------------------------------------
 */

static void test_refusals(void **state)
{
    static const struct {
        const char *rest, *says;
    } cases[] = {
        {"engine: {name: llamacpp, version: b6000}\n",
         "engine.version 'b6000': llama.cpp's rules are known by month; write the month of the "
         "build, such as \"2025-11\""},
        {"engine: {name: llamacpp, n_seq: 257}\n",
         "engine.n_seq 257: llama.cpp runs at most 256 sequences at once"},
        {"engine: {name: llamacpp, flash_attn: false}\ncache: {format: q8_0}\n",
         "llama.cpp quantizes V (q8_0) with flash attention only: set engine.flash_attn"},
        {"engine: {name: llamacpp, version: 2025-01}\ncache: {k: fp16, v: q4_0}\n",
         "llama.cpp quantizes V (q4_0) with flash attention only: set engine.flash_attn"},
        {"engine: {name: llamacpp}\ncache: {format: fp8_e4m3}\n",
         "llama.cpp has no cache type fp8_e4m3; it takes f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, "
         "q4_0 and iq4_nl"},
        {"engine: {name: llamacpp}\ncache: {k: fp16, v: fp8_e4m3}\n",
         "llama.cpp has no cache type fp8_e4m3; it takes"},
        {"engine: {name: llamacpp}\ncache: {eviction: {scheme: streamingllm}}\n",
         "llama.cpp cannot run streamingllm: it never drops tokens"},
        {"engine: {name: llamacpp}\ncache: {sharing: {scheme: cla, factor: 2}}\n",
         "llama.cpp cannot run cla: its graphs know the sharing of shipped models only"},
        {"engine: {name: llamacpp}\nparallel: {tp: 2}\n",
         "parallel.tp 2: llama.cpp divides layers, not heads, over GPUs; use pp"},
        {"engine: {name: llamacpp}\nparallel: {cp: 2}\n",
         "parallel.cp 2: llama.cpp does not divide contexts"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[600];
        snprintf(yaml, sizeof yaml, TINY "hardware: {memory: 1GiB, count: 2}\n%s", "",
                 cases[i].rest);
        struct kp *k = kp_try(yaml);
        assert_false(k->ok);
        kp_says(k, cases[i].says);
        kp_free(k);
    }
}

static void test_notes(void **state)
{
    char yaml[512];

    (void)state;
    snprintf(yaml, sizeof yaml,
             TINY "hardware: {memory: 1GiB}\nengine: {name: llamacpp, "
                  "memory_fraction: 0.9}\n",
             "");
    struct kp *k = kp_build(yaml);
    kp_says(k, "engine.max_model_len (-c) is not given: -c and -np are planned for the batch");
    kp_says(k, "engine.flash_attn is not given: on, as this version");
    kp_says(k, "engine.memory_fraction has no effect: llama.cpp takes what its buffers need");
    kp_says(k, "llama.cpp keeps the token embedding in host memory and");
    kp_free(k);
    snprintf(yaml, sizeof yaml,
             TINY "hardware: {memory: 1GiB}\nengine: {name: llamacpp, "
                  "max_model_len: 4096, version: 2025-05}\n",
             "");
    k = kp_build(yaml);
    kp_says(k,
            "engine.n_seq (-np) is not given: 4 slots that share the context, as llama-server "
            "takes");
    kp_says(k, "engine.flash_attn is not given: off, as this version");
    kp_free(k);
}

/* --- sentences ------------------------------------------------------------------------------
 */

static void test_sentences(void **state)
{
    static const struct {
        const char *engine, *work, *says;
    } cases[] = {
        {"", ", batch: 11",
         "Does not fit: 11 sequences of 256 tokens asked for, 10 fit; "
         "memory-limited; 512.00 KiB more needed; fits on 2 GPUs"},
        {", n_seq: 3", ", batch: 4",
         "Does not fit: 4 sequences of 256 tokens asked for, 3 fit; "},
        {", max_model_len: 255, n_seq: 1, version: 2025-06, flash_attn: false", ", batch: 1",
         "Fits: 1 sequence of 256 tokens; "},
        {", max_model_len: 224, n_seq: 1, version: 2025-06, flash_attn: false", ", batch: 1",
         "Does not fit: 1 sequence of 256 tokens is more than a slot holds (224)"},
        {"", "", "Fits: 10 sequences of 256 tokens; memory-limited; one more needs 512.00 KiB"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[600];
        snprintf(yaml, sizeof yaml,
                 TINY GIVEN "hardware: {memory: 6MiB}\nengine: {name: llamacpp%s}\n"
                            "workload: {prompt: 200, output: 56%s}\n",
                 "", cases[i].engine, cases[i].work);
        struct kp *k = kp_build(yaml);
        struct plan p = solve(k);
        const char *says = report_sentence(k->arena, &k->problem, &p);
        if (strncmp(says, cases[i].says, strlen(cases[i].says)) != 0)
            kt_same(says, cases[i].says);
        kp_free(k);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),    cmocka_unit_test(test_layer_split),
        cmocka_unit_test(test_no_windows), cmocka_unit_test(test_planned_slots),
        cmocka_unit_test(test_limits),     cmocka_unit_test(test_other_plans),
        cmocka_unit_test(test_refusals),   cmocka_unit_test(test_notes),
        cmocka_unit_test(test_sentences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
