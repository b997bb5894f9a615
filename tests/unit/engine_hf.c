/* transformers' generate(): what lives twice by version, static, quantized and sliding caches
 * against hand-made sums, and the largest batches that were published for it. */
#include "tests/kvplan.h"

/* 4 layers of 2 x 128 elements: 2048 B a token, 25,600 B a tensor of 100 tokens. */
#define TINY                                                                                   \
    "model: {layers: 4, hidden_size: 256, intermediate_size: 512, heads: 4, kv_heads: 2, "     \
    "head_dim: 64, vocab_size: 1000%s}\n"
#define GIVEN                                                                                  \
    "memory: {per_gpu: {weights_bytes: 1MiB, non_torch_bytes: 0, workspace_bytes: 0}}\n"

static uint64_t need_of(const char *model, const char *engine, const char *rest)
{
    char yaml[800];
    struct need n;
    struct ck ck = {0};

    snprintf(yaml, sizeof yaml, TINY GIVEN "hardware: {memory: 1GiB}\nengine: {name: hf%s}\n%s",
             model, engine, rest);
    struct kp *k = kp_build(yaml);
    capacity_need(&k->problem, &k->problem.stages[0], &k->problem.workload, &n, &ck);
    assert_false(ck.over);
    kt_u64(n.sequence_bytes, n.prefill_bytes);
    kp_free(k);
    return n.sequence_bytes;
}

#define DECODES "workload: {prompt: 5, output: 95}\n"
#define PREFILLS "workload: {prompt: 60, output: 40}\n"
#define SCORES (1000 * (2 + 4 + 4))

/* At 100 tokens: the cache, the same one token shorter in tuples, or one tensor of it. */
static void test_decode(void **state)
{
    (void)state;
    kt_u64(need_of("", "", DECODES), (100 + 99) * 2048 + SCORES);
    kt_u64(need_of("", ", version: 4.36.2", DECODES), (100 + 99) * 2048 + SCORES);
    kt_u64(need_of("", ", version: 4.43.0", DECODES), 100 * 2048 + 25600 + SCORES);
    kt_u64(need_of("", ", version: 4.56.1", DECODES), 100 * 2048 + 25600 + SCORES);
    kt_u64(need_of("", ", version: 4.36.2", "workload: {prompt: 1, output: 0}\n"),
           2048 + SCORES);
}

/* 60 prompt tokens: logits of all of them in bf16 and fp32 up to 4.44, then the gated MLP:
 * stream, norm and output with three widths. */
static void test_prefill(void **state)
{
    (void)state;
    kt_u64(need_of("", "", PREFILLS), 60 * 2048 + 60 * 1000 * 6);
    kt_u64(need_of("", ", version: 4.44.2", PREFILLS), 60 * 2048 + 60 * 1000 * 6);
    kt_u64(need_of("", ", version: 4.45.0", PREFILLS),
           60 * 2048 + 60 * (3 * 256 + 3 * 512) * 2);
    kt_u64(need_of("", ", version: 4.45.0, cuda_graphs: true", PREFILLS),
           100 * 2048 + 60 * (3 * 256 + 3 * 512) * 2);
}

/* Written in place: the full length from the start, with the prompt's layers beside it. */
static void test_static(void **state)
{
    const uint64_t layers = 5 * (3 * 256 + 3 * 512) * 2;

    (void)state;
    kt_u64(need_of("", ", version: 4.56.0, cuda_graphs: true", DECODES), 100 * 2048 + layers);
    kt_u64(need_of("", ", version: 4.56.0, cuda_graphs: true, max_model_len: 128", DECODES),
           128 * 2048 + layers);
    kt_u64(need_of("", ", version: 4.56.0, cuda_graphs: true",
                   "workload: {prompt: 1, output: 99}\n"),
           100 * 2048 + SCORES);
}

/* A prompt of 1000 and 300 steps with a residual of 128 leave 1256 tokens quantized (4 bits and
 * a scale and zero point for 64 elements) and 44 whole; one layer of all 1300 is widened.
 * source: huggingface/transformers@004999d cache_utils.py QuantizedLayer.update */
static void test_quantized(void **state)
{
    static const struct {
        uint64_t prompt, steps, quantized, whole;
    } cases[] = {{1000, 300, 1256, 44}, {10, 128, 138, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char rest[160];
        uint64_t coded = cases[i].quantized * 2 * 2 * (32 + 4), tokens;
        uint64_t rows = 4 * (coded + cases[i].whole * 256 * 2), crest;
        tokens = cases[i].prompt + cases[i].steps;
        /* the highest point lies before the last fold of the tail: 127 whole tokens */
        crest = 4 * ((tokens - cases[i].whole - 128) * 2 * 2 * 36 + 127 * 256 * 2);
        snprintf(rest, sizeof rest,
                 "cache: {format: hf_quantized}\nworkload: {prompt: %u, output: %u}\n",
                 (unsigned)cases[i].prompt, (unsigned)cases[i].steps);
        uint64_t got = need_of("", ", version: 4.56.0", rest);
        uint64_t decode = u64_max(rows, crest) + tokens * 512 + SCORES;
        uint64_t prefill = cases[i].prompt * (2 * 2 * 36 * 4 + (3 * 256 + 3 * 512) * 2);
        kt_u64(got, u64_max(decode, prefill));
    }
}

/* Window 8, a prompt of 100: storage of 800 elements a tensor until the first decode step, then
 * 64; tuples never drop.
 * source: huggingface/transformers@004999d DynamicSlidingWindowLayer.update */
static void test_sliding(void **state)
{
    static const char model[] =
        "model: {layers: 1, hidden_size: 8, intermediate_size: 1, heads: 2, kv_heads: 2, "
        "head_dim: 4, vocab_size: 1, window: 8, mixer: sliding}\nhardware: {memory: 1GiB}\n"
        "workload: {prompt: 100, output: 1}\n";
    static const struct {
        const char *version;
        uint64_t want;
    } cases[] = {
        {"4.56.0", 2 * 800 * 2 + 100 * (3 * 8 + 2 * 8) * 2},
        {"4.36.0", 2 * 800 * 2 + 100 * (3 * 8 + 2 * 8) * 2},
    };
    char yaml[400];
    struct need n;
    struct ck ck = {0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(yaml, sizeof yaml, "%sengine: {name: hf, version: %s}\n", model,
                 cases[i].version);
        struct kp *k = kp_build(yaml);
        capacity_need(&k->problem, &k->problem.stages[0], &k->problem.workload, &n, &ck);
        kt_u64(n.sequence_bytes, cases[i].want);
        /* one prompt token, many steps: 8 tokens and one more tensor, against everything twice
         */
        struct workload w = {1, 500, 0, 0};
        capacity_need(&k->problem, &k->problem.stages[0], &w, &n, &ck);
        kt_u64(n.sequence_bytes, i ? (501 + 500) * 16 * 2 + 10 : (2 + 1) * 64 * 2 + 10);
        kp_free(k);
    }
}

/* 11 MiB - 1 MiB, 407,552 + 10,000 B a sequence: 25; nothing is shared. */
static void test_batch(void **state)
{
    char yaml[800];
    struct plan plan;

    (void)state;
    snprintf(yaml, sizeof yaml,
             TINY GIVEN "hardware: {memory: 11MiB}\nengine: {name: hf}\n"
                        "workload: {prompt: 5, output: 95, shared_prefix: 4}\n",
             "");
    struct kp *k = kp_build(yaml);
    plan_solve(&k->problem, &k->problem.workload, &plan);
    kt_u64(plan.max_batch, 10485760 / (199 * 2048 + SCORES));
    assert_true(capacity_fits(&k->problem, &k->problem.workload, plan.max_batch));
    assert_false(capacity_fits(&k->problem, &k->problem.workload, plan.max_batch + 1));
    kp_says(k, "transformers before 4.43, whose generate() holds the whole cache twice");
    kp_says(k, "transformers has no pool");
    kp_free(k);
}

/* Without given terms: context, and 2 MiB for each of 2 x 4 tensors. */
static void test_budget(void **state)
{
    char yaml[400];

    (void)state;
    snprintf(yaml, sizeof yaml,
             TINY "hardware: {memory: 1GiB}\nengine: {name: hf, "
                  "memory_fraction: 0.9}\n",
             "");
    struct kp *k = kp_build(yaml);
    const struct budget *b = &k->problem.stages[0].budget;
    kt_u64(b->non_torch_bytes, (uint64_t)300 << 20);
    kt_u64(b->workspace_bytes, 8 * ((uint64_t)2 << 20));
    kp_says(k, "engine.memory_fraction has no effect: transformers reserves no pool");
    kp_free(k);
    snprintf(yaml, sizeof yaml,
             TINY "hardware: {memory: 1GiB}\nengine: {name: hf, version: abc}\n", "");
    k = kp_try(yaml);
    assert_false(k->ok);
    kp_says(k, "engine.version 'abc' is not a version such as 0.19.0");
    kp_free(k);
}

/* --- published batches ----------------------------------------------------------------------
 */

#define L11B                                                                                   \
    "layers: 22, hidden_size: 2048, intermediate_size: 5632, heads: 32, kv_heads: 4, head_dim: 64"
#define L7B                                                                                    \
    "layers: 32, hidden_size: 4096, intermediate_size: 11008, heads: 32, kv_heads: 32, "       \
    "head_dim: 128"
#define L30B                                                                                   \
    "layers: 60, hidden_size: 6656, intermediate_size: 17920, heads: 52, kv_heads: 52, "       \
    "head_dim: 128"

/* Largest batches of layer-condensed and plain models with generate(), bf16.
 * source: arXiv:2405.10637v2, Table 1; warmup 0 = the plain model */
static const struct {
    const char *gpu, *model;
    unsigned prompt, output, warmup, batch;
} published[] = {
    {"rtx-3090", L11B, 5, 8187, 0, 48},         {"rtx-3090", L11B, 5, 8187, 2, 384},
    {"rtx-3090", L11B, 5, 2043, 0, 239},        {"rtx-3090", L7B, 5, 8187, 0, 1},
    {"rtx-3090", L7B, 5, 8187, 2, 12},          {"rtx-3090", L7B, 5, 2043, 0, 5},
    {"rtx-3090", L7B, 5, 2043, 10, 16},         {"rtx-3090", L7B, 512, 512, 10, 32},
    {"rtx-3090", L7B, 512, 1024, 2, 72},        {"rtx-3090", L7B, 512, 1024, 10, 16},
    {"a100-sxm-80gb", L7B, 2048, 2048, 2, 128}, {"a100-sxm-80gb", L7B, 2048, 2048, 10, 42},
    {"a100-sxm-80gb", L30B, 2048, 2048, 0, 1},  {"a100-sxm-80gb", L30B, 2048, 2048, 2, 32},
};
enum { N_PUBLISHED = sizeof published / sizeof *published };

static uint64_t predicted(size_t i)
{
    char yaml[800], sharing[80] = "";
    struct plan plan;

    if (published[i].warmup)
        snprintf(sharing, sizeof sharing, ", sharing: {scheme: lckv, warmup: %u}",
                 published[i].warmup);
    snprintf(yaml, sizeof yaml,
             "model: {%s, vocab_size: 32000}\nhardware: {gpu: %s}\nengine: {name: hf}\n"
             "cache: {format: bf16%s}\nworkload: {prompt: %u, output: %u}\n",
             published[i].model, published[i].gpu, sharing, published[i].prompt,
             published[i].output);
    struct kp *k = kp_build(yaml);
    plan_solve(&k->problem, &k->problem.workload, &plan);
    kp_free(k);
    return plan.max_batch;
}

/* What is counted must live, so predictions are no lower than what ran, and at most half as
 * many again; where one setting took a quarter more than another, so does the prediction. */
static void test_published(void **state)
{
    uint64_t got[N_PUBLISHED];

    (void)state;
    for (size_t i = 0; i < N_PUBLISHED; i++) {
        got[i] = predicted(i);
        if (got[i] < published[i].batch || 2 * got[i] > 3 * (uint64_t)published[i].batch)
            fail_msg("row %zu: %llu predicted, %u ran", i, (unsigned long long)got[i],
                     published[i].batch);
    }
    for (size_t i = 0; i < N_PUBLISHED; i++)
        for (size_t j = 0; j < N_PUBLISHED; j++)
            if (4 * published[i].batch >= 5 * published[j].batch)
                assert_true(got[i] > got[j]);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),  cmocka_unit_test(test_prefill),
        cmocka_unit_test(test_static),  cmocka_unit_test(test_quantized),
        cmocka_unit_test(test_sliding), cmocka_unit_test(test_batch),
        cmocka_unit_test(test_budget),  cmocka_unit_test(test_published),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
