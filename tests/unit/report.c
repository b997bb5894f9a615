/* The report: figures derived by hand, every path of the interface, the sentence in each of its
 * forms, and JSON that is exact. */
#include "planner/plan/report.h"

#include <stdlib.h>
#include <string.h>

#include "tests/kvplan.h"

/* 24 GiB, no named GPU: 25769803776 - 2 x 8030261248 = 9709281280 bytes of pool. */
#define CARD                                                                                   \
    "hardware: {gpu: {memory: 24GiB, bandwidth: 936GB/s, fp16: 71TFLOPS, bf16: 71TFLOPS}}\n"
#define LLAMA3_TOKEN_BYTES 131072ull /* 2 x 32 layers x 8 heads x 128 x 2 bytes */

struct made {
    struct kp *k;
    struct plan plan;
    cJSON *json;
};

static struct made make(const char *yaml)
{
    struct made m = {.k = kp_build(yaml)};
    struct report_in in = {"spec.yaml", &m.k->problem, &m.plan, m.k->diag, NULL};

    plan_solve(&m.k->problem, &m.k->problem.workload, &m.plan);
    m.json = report_json(&in);
    return m;
}

static void drop(struct made *m)
{
    cJSON_Delete(m->json);
    kp_free(m->k);
}

static uint64_t whole(const struct made *m, const char *path)
{
    uint64_t v = 0;

    if (!json_get_u64(json_at(m->json, path), &v))
        fail_msg("no whole number at %s", path);
    return v;
}

static double number(const struct made *m, const char *path)
{
    double v = 0;

    if (!json_get_double(json_at(m->json, path), &v))
        fail_msg("no number at %s", path);
    return v;
}

static void text(const struct made *m, const char *path, const char *want)
{
    const cJSON *v = json_at(m->json, path);

    if (!cJSON_IsString(v))
        fail_msg("no text at %s", path);
    else
        kt_same(v->valuestring, want);
}

static void sentence(const char *yaml, const char *want)
{
    struct made m = make(yaml);

    text(&m, "verdict.reason", want);
    drop(&m);
}

static void test_figures(void **state)
{
    struct made m = make(KP_LLAMA3_8B CARD);
    const uint64_t pool = 25769803776u - 2 * 8030261248u;

    (void)state;
    text(&m, "schema", "kvbudget.report/1");
    text(&m, "kvbudget_version", KV_VERSION);
    kt_u64(whole(&m, "model.parameters"), 8030261248u);
    kt_u64(whole(&m, "model.weights_bytes"), 2 * 8030261248u);
    kt_u64(whole(&m, "cache.kv_layers"), 32);
    kt_u64(whole(&m, "cache.layer_count"), 32);
    kt_u64(whole(&m, "cache.map.31"), 32);
    kt_u64(whole(&m, "cache.bytes_per_token"), LLAMA3_TOKEN_BYTES);
    kt_u64(whole(&m, "cache.state_bytes_per_sequence"), 0);
    kt_u64(whole(&m, "cache.sequence.retained_tokens.0"), 2048);
    kt_u64(whole(&m, "cache.sequence.after_prefill_bytes"), 2048 * LLAMA3_TOKEN_BYTES);
    kt_u64(whole(&m, "cache.sequence.final_bytes"), 2560 * LLAMA3_TOKEN_BYTES);
    kt_u64(whole(&m, "memory.per_gpu.kv_pool_bytes"), pool);
    /* 28 sequences of 2560 tokens take 9395240960 bytes, 29 would take 9730785280 */
    kt_u64(whole(&m, "capacity.max_batch"), 28);
    kt_u64(whole(&m, "memory.per_gpu.free_bytes"), pool - 28u * 2560 * LLAMA3_TOKEN_BYTES);
    kt_u64(whole(&m, "capacity.one_more_needs_bytes"), 29 * 2560 * LLAMA3_TOKEN_BYTES - pool);
    kt_u64(whole(&m, "capacity.max_context"), pool / LLAMA3_TOKEN_BYTES);
    kt_u64(whole(&m, "capacity.kv_tokens"), pool / LLAMA3_TOKEN_BYTES);
    kt_u64(whole(&m, "capacity.min_gpus"), 1);
    kt_u64(whole(&m, "cache.k_bytes"), 14u * 2560 * LLAMA3_TOKEN_BYTES);
    kt_u64(whole(&m, "cache.v_bytes"), 14u * 2560 * LLAMA3_TOKEN_BYTES);
    kt_u64(whole(&m, "compute.batch"), 28);
    kt_u64(whole(&m, "compute.decode.bytes_written"), 28 * LLAMA3_TOKEN_BYTES);
    assert_true(number(&m, "compute.decode.seconds") > 0);
    assert_true(cJSON_IsTrue(json_at(m.json, "verdict.fits")));
    assert_null(json_at(m.json, "compute.training"));
    assert_null(json_at(m.json, "memory.given"));
    drop(&m);
}

/* Every path that others may rely on. */
static void test_paths(void **state)
{
    static const char *const paths[] = {
        "schema",
        "kvbudget_version",
        "model.name",
        "model.parameters",
        "model.active_parameters",
        "model.weights_bytes",
        "cache.kv_layers",
        "cache.layer_count",
        "cache.map",
        "cache.bytes_per_token",
        "cache.state_bytes_per_sequence",
        "cache.k_bytes",
        "cache.v_bytes",
        "cache.sequence.retained_tokens",
        "cache.sequence.prefill_peak_bytes",
        "cache.sequence.after_prefill_bytes",
        "cache.sequence.final_bytes",
        "memory.per_gpu.total_bytes",
        "memory.per_gpu.usable_bytes",
        "memory.per_gpu.weights_bytes",
        "memory.per_gpu.activation_bytes",
        "memory.per_gpu.non_torch_bytes",
        "memory.per_gpu.cuda_graph_bytes",
        "memory.per_gpu.workspace_bytes",
        "memory.per_gpu.kv_pool_bytes",
        "memory.per_gpu.free_bytes",
        "memory.gpus",
        "capacity.kv_tokens",
        "capacity.kv_blocks",
        "capacity.max_concurrency",
        "capacity.max_batch",
        "capacity.max_context",
        "capacity.limited_by",
        "compute.prefill.flops",
        "compute.prefill.bytes",
        "compute.prefill.seconds",
        "compute.prefill.passes_per_layer",
        "compute.prefill.by_op",
        "compute.decode.flops",
        "compute.decode.bytes_read",
        "compute.decode.bytes_written",
        "compute.decode.seconds",
        "compute.decode.tokens_per_second",
        "compute.decode.by_op",
        "band",
        "evidence",
        "verdict.fits",
        "verdict.reason",
        "diagnostics",
        "provenance",
    };
    struct made m = make(KP_LLAMA3_8B CARD);

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (!json_at(m.json, paths[i]))
            fail_msg("the report has no %s", paths[i]);
    kt_same(m.json->child->string, "schema");
    assert_null(json_at(m.json, "cache.map.32"));
    assert_null(json_at(m.json, "cache.nothing"));
    assert_null(json_at(m.json, "cache.map.x"));
    assert_null(json_at(m.json, "schema.deeper"));
    drop(&m);
}

/* Bytes by op add up to what is read and written; FLOPs too. */
static void test_sums(void **state)
{
    struct made m = make(KP_LLAMA3_8B CARD "cache: {eviction: h2o, format: kivi4}\n");
    double flops = 0, bytes = 0, seconds = 0, v;

    (void)state;
    for (const cJSON *o = json_at(m.json, "compute.decode.by_op")->child; o; o = o->next) {
        flops += json_get_double(json_at(o, "flops"), &v) ? v : 0;
        bytes += json_get_double(json_at(o, "bytes"), &v) ? v : 0;
        seconds += json_get_double(json_at(o, "seconds"), &v) ? v : 0;
    }
    kt_rel(number(&m, "compute.decode.flops"), flops, 1e-9);
    kt_rel(number(&m, "compute.decode.bytes_read") + number(&m, "compute.decode.bytes_written"),
           bytes, 1e-9);
    kt_rel(number(&m, "compute.decode.seconds"), seconds, 1e-9);
    drop(&m);
}

/* The pool that the report asks for is the smallest that takes one more. */
static void test_one_more(void **state)
{
    static const char *const specs[] = {
        KP_LLAMA3_8B CARD,
        KP_LLAMA3_8B CARD "engine: {block_tokens: 16}\nworkload: {prompt: 1000, output: 77}\n",
        KP_LLAMA3_8B CARD "cache: {sharing: {scheme: lckv, warmup: 2}}\n",
        KP_LLAMA3_8B CARD "cache: {eviction: {scheme: snapkv, capacity: 256}}\n",
        KP_LLAMA3_8B CARD "workload: {prompt: 4000, output: 96, shared_prefix: 1024}\n",
        KP_LLAMA3_8B CARD "workload: {prompt: 200000, output: 96}\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct made m = make(specs[i]);
        uint64_t batch = whole(&m, "capacity.max_batch");
        uint64_t pool = whole(&m, "memory.per_gpu.kv_pool_bytes") +
                        whole(&m, "capacity.one_more_needs_bytes");
        char yaml[1024];
        drop(&m);
        for (unsigned short_by = 0; short_by < 2; short_by++) {
            snprintf(yaml, sizeof yaml, "%smemory: {per_gpu: {kv_pool_bytes: %llu}}\n",
                     specs[i], (unsigned long long)pool - short_by);
            m = make(yaml);
            kt_u64(whole(&m, "capacity.max_batch"), batch + 1 - short_by);
            text(&m, "memory.given.0", "kv_pool_bytes");
            drop(&m);
        }
    }
}

/* LCKV with warmup 2 on 32 layers: 1 and 32 keep their own, 2 to 31 read 31; those iterate 7
 * + 2 times, so training costs (30 x (7 + 3 x 2) + 2 x 3) / 32 = 12.375 units a layer. */
static void test_sharing(void **state)
{
    struct made m = make(KP_LLAMA3_8B CARD "cache: {sharing: {scheme: lckv, warmup: 2}}\n");

    (void)state;
    kt_u64(whole(&m, "cache.map.0"), 1);
    kt_u64(whole(&m, "cache.map.1"), 31);
    kt_u64(whole(&m, "cache.map.30"), 31);
    kt_u64(whole(&m, "cache.map.31"), 32);
    kt_u64(whole(&m, "cache.kv_layers"), 3);
    kt_u64(whole(&m, "cache.bytes_per_token"), 3 * LLAMA3_TOKEN_BYTES / 32);
    kt_u64(whole(&m, "cache.sequence.retained_tokens.5"), 2048); /* what layer 31 kept */
    kt_u64(whole(&m, "compute.prefill.passes_per_layer.0"), 1);
    kt_u64(whole(&m, "compute.prefill.passes_per_layer.5"), 9);
    kt_rel(number(&m, "compute.training.forward_units"), 12.375, 1e-12);
    kt_rel(number(&m, "compute.training.relative_to_plain"), 4.125, 1e-12);
    text(&m, "inputs.sharing", "lckv");
    text(&m, "provenance.schemes.0.name", "lckv");
    drop(&m);
}

/* Two stages of 16 layers on two ranks each. */
static void test_stages(void **state)
{
    struct made m = make(KP_LLAMA3_8B "hardware: {gpu: {memory: 24GiB, bandwidth: 1TB/s, bf16: "
                                      "71TFLOPS}, count: 4}\nparallel: {tp: 2, pp: 2}\n");

    (void)state;
    assert_int_equal(cJSON_GetArraySize(json_at(m.json, "memory.gpus")), 2);
    kt_u64(whole(&m, "memory.gpus.0.ranks"), 2);
    kt_u64(whole(&m, "memory.gpus.0.first_layer"), 1);
    kt_u64(whole(&m, "memory.gpus.0.last_layer"), 16);
    kt_u64(whole(&m, "memory.gpus.1.first_layer"), 17);
    kt_u64(whole(&m, "memory.gpus.1.last_layer"), 32);
    kt_u64(whole(&m, "inputs.gpus"), 4);
    assert_true(whole(&m, "memory.gpus.0.weights_bytes") +
                    whole(&m, "memory.gpus.1.weights_bytes") >=
                whole(&m, "model.weights_bytes") / 2);
    drop(&m);
}

static void test_memory_only(void **state)
{
    struct made m = make(KP_LLAMA3_8B "hardware: {memory: 24GiB}\n");

    (void)state;
    assert_null(json_at(m.json, "compute.decode.seconds"));
    assert_null(json_at(m.json, "compute.prefill.by_op.mlp.seconds"));
    assert_null(json_at(m.json, "inputs.gpu"));
    assert_null(json_at(m.json, "provenance.gpu"));
    kt_u64(whole(&m, "capacity.max_batch"), 28);
    kp_says(m.k, "memory is planned, time is not");
    assert_true(cJSON_GetArraySize(json_at(m.json, "diagnostics")) > 0);
    drop(&m);
}

/* Half of the cache in host memory: 28 sequences become 56, and the host holds as much. */
static void test_offload(void **state)
{
    struct made m = make(KP_LLAMA3_8B CARD "cache: {offload: 0.5}\n");

    (void)state;
    kt_u64(whole(&m, "capacity.max_batch"), 57);
    kt_u64(whole(&m, "memory.host_bytes"), 57u * 1280 * LLAMA3_TOKEN_BYTES);
    assert_true(whole(&m, "compute.decode.link_bytes") > 0);
    drop(&m);
}

static void test_sentences(void **state)
{
    (void)state;
    sentence(KP_LLAMA3_8B CARD,
             "Fits: 28 sequences of 2,560 tokens; memory-limited; one more needs 20.51 MiB");
    sentence(
        KP_LLAMA3_8B CARD "workload: {batch: 8}\n",
        "Fits: 8 sequences of 2,560 tokens, up to 28; memory-limited; one more needs 20.51 MiB");
    sentence(
        KP_LLAMA3_8B CARD "workload: {batch: 29}\n",
        "Does not fit: 29 sequences of 2,560 tokens asked for, 28 fit; memory-limited; 20.51 MiB "
        "more needed; fits on 2 GPUs");
    sentence(
        KP_LLAMA3_8B CARD "workload: {prompt: 100000, output: 0}\n",
        "Does not fit: 1 sequence of 100,000 tokens needs 12.21 GiB of cache, a GPU has 9.04 GiB "
        "left for it; 3.16 GiB more needed; fits on 2 GPUs");
    sentence(
        KP_LLAMA3_8B "hardware: {memory: 14GiB}\n",
        "Does not fit: the weights need 14.96 GiB, a GPU has 14.00 GiB; 1.27 GiB more needed; fits "
        "on 2 GPUs");
    sentence(KP_LLAMA3_8B CARD "engine: {max_seqs: 4}\n",
             "Fits: 4 sequences of 2,560 tokens; limited by max_seqs");
    sentence(KP_LLAMA3_8B CARD "engine: {max_seqs: 4}\nworkload: {batch: 5}\n",
             "Does not fit: 5 sequences of 2,560 tokens asked for, 4 fit; limited by max_seqs");
    sentence(KP_LLAMA3_8B CARD "engine: {max_model_len: 2k}\n",
             "Does not fit: 1 sequence of 2,560 tokens is more than max_model_len (2,048)");
    sentence(
        KP_LLAMA3_8B CARD "engine: {block_tokens: 1024}\nworkload: {prompt: 1, output: 1024}\n",
        "Fits: 36 sequences of 1,025 tokens; limited by block rounding; one more needs 212.51 MiB");
}

static void test_check_json(void **state)
{
    struct made m = make(KP_LLAMA3_8B CARD "workload: {batch: 29}\n");
    struct report_in in = {"spec.yaml", &m.k->problem, &m.plan, m.k->diag, NULL};

    (void)state;
    cJSON_Delete(m.json);
    m.json = report_check_json(&in);
    text(&m, "schema", "kvbudget.check/1");
    assert_true(cJSON_IsFalse(json_at(m.json, "verdict.fits")));
    text(&m, "verdict.limited_by", "memory");
    kt_u64(whole(&m, "capacity.max_batch"), 28);
    drop(&m);
}

/* --- printing ------------------------------------------------------------------------------
 */

static void printed(const cJSON *root, bool compact, const char *want)
{
    char *got = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&got, &n);

    assert_non_null(f);
    json_print(root, compact, f);
    fclose(f);
    kt_same(got, want);
    free(got);
}

static void test_json(void **state)
{
    cJSON *root = json_object(NULL, NULL), *o, *list;

    (void)state;
    json_u64(root, "exact", 18446744073709551615u);
    json_u64(root, "past_double", 9007199254740993u);
    json_whole(root, "rounded", 2.5);
    json_whole(root, "below", -1e-9);
    json_whole(root, "large", 9007199254740992.0);
    json_whole(root, "larger", 1e30);
    json_double(root, "third", 1.0 / 3);
    json_text(root, "text", "a\"b\\c\n\t\001\xc3\xa9");
    json_text(root, "absent", NULL);
    json_bool(root, "yes", true);
    o = json_object(root, "empty");
    list = json_list(root, "list");
    json_u64(list, NULL, 1);
    json_u64(list, NULL, 2);
    list = json_list(root, "maps");
    json_bool(json_object(list, NULL), "no", false);
    printed(
        root, false,
        "{\n  \"exact\": 18446744073709551615,\n  \"past_double\": 9007199254740993,\n"
        "  \"rounded\": 3,\n  \"below\": 0,\n  \"large\": 9007199254740992,\n"
        "  \"larger\": 1e+30,\n  \"third\": 0.333333333333333,\n"
        "  \"text\": \"a\\\"b\\\\c\\n\\t\\u0001\xc3\xa9\",\n  \"yes\": true,\n  \"empty\": {},\n"
        "  \"list\": [1, 2],\n  \"maps\": [\n    {\n      \"no\": false\n    }\n  ]\n}\n");
    printed(o, true, "{}\n");
    printed(json_at(root, "maps"), true, "[{\"no\": false}]\n");
    cJSON_Delete(root);
}

/* --- the table ------------------------------------------------------------------------------
 */

static char *table_of(struct arena *a, struct made *m, size_t n,
                      const struct report_style *style)
{
    struct report_column c[3];
    static const char *const names[] = {"x/one.yaml", "two.yaml", "two.yaml#2"};
    char *got = NULL, *copy;
    size_t size = 0;
    FILE *f = open_memstream(&got, &size);

    assert_non_null(f);
    for (size_t i = 0; i < n; i++)
        c[i] = (struct report_column){
            names[i], report_sentence(a, &m[i].k->problem, &m[i].plan), m[i].json};
    report_table(a, c, n, style, f);
    fclose(f);
    copy = arena_strdup(a, got);
    free(got);
    return copy;
}

static void has(const char *page, const char *line)
{
    if (!strstr(page, line))
        fail_msg("no \"%s\" in\n%s", line, page);
}

static void test_table(void **state)
{
    struct kt *k = *state;
    struct made m[2] = {make(KP_LLAMA3_8B CARD),
                        make(KP_LLAMA3_8B CARD "cache: {format: fp8}\n")};
    struct report_style plain = {false, false, "kvbudget compare a.yaml"},
                        loud = {true, true, NULL};
    char *page = table_of(k->a, m, 1, &plain);

    has(page,
        "Fits: 28 sequences of 2,560 tokens; memory-limited; one more needs 20.51 MiB\n\n");
    has(page, "\nmemory of a GPU\n");
    has(page, "\nnext: kvbudget compare a.yaml\n");
    assert_null(strstr(page, "*"));
    assert_null(strstr(page, "activations")); /* nothing to say */
    page = table_of(k->a, m, 2, &plain);
    has(page, "one  Fits: 28 sequences");
    has(page, "two  Fits: 57 sequences");
    has(page, "\n* cache stored as ");
    has(page, "\n  weights  ");
    has(page, "\n* differs\n");
    page = table_of(k->a, m, 1, &loud);
    has(page, "\033[1;32mFits: 28 sequences");
    has(page, "decode by op");
    has(page, "scores time");
    drop(&m[0]);
    drop(&m[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures),     cmocka_unit_test(test_paths),
        cmocka_unit_test(test_sums),        cmocka_unit_test(test_one_more),
        cmocka_unit_test(test_sharing),     cmocka_unit_test(test_stages),
        cmocka_unit_test(test_memory_only), cmocka_unit_test(test_offload),
        cmocka_unit_test(test_sentences),   cmocka_unit_test(test_check_json),
        cmocka_unit_test(test_json),        kt_test(test_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
