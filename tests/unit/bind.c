/* Binding maps to structs: every type, defaults, and each refusal with its exact line. */
#include "tests/kvtest.h"

#include <string.h>

#include "planner/doc/bind.h"

static const char *const modes[] = {"drop", "mask", "offload", NULL};

struct all {
    bool flag;
    uint64_t layers, tokens, memory_bytes, mode;
    double rate, flops, wait_s, ratio, shift;
    const char *name;
    struct u64_list map;
    const struct doc_node *node;
};

static const struct field fields[] = {
    FIELD(struct all, flag, "cuda_graphs", F_BOOL, 0, 0, "true", "a switch"),
    FIELD(struct all, layers, "kv_layers", F_U64, 1, 1000000, NULL, "a count"),
    FIELD(struct all, tokens, "max_model_len", F_TOKENS, 1, 0, "4096", "tokens"),
    FIELD(struct all, memory_bytes, "memory", F_BYTES, 1024, 1099511627776.0, "80GiB", "bytes"),
    FIELD(struct all, rate, "bandwidth", F_RATE, 1, 1e15, "936GB/s", "bytes/s"),
    FIELD(struct all, flops, "fp16", F_FLOPS, 0, 1e18, "71TFLOPS", "FLOP/s"),
    FIELD(struct all, wait_s, "wait", F_SECONDS, 0, 60, "2.5ms", "s"),
    FIELD(struct all, ratio, "ratio", F_NUMBER, 0, 1, "0.9", "a share"),
    FIELD(struct all, shift, "shift", F_NUMBER, -2, 0, "-1", "may be negative"),
    FIELD(struct all, name, "name", F_TEXT, 0, 0, "none", "a text"),
    FIELD_CHOICE(struct all, mode, "mode", modes, "mask", "a choice"),
    FIELD(struct all, map, "map", F_U64_LIST, 1, 99, "[1, 1, 3]", "a list"),
    FIELD(struct all, node, "sharing", F_NODE, 0, 0, NULL, "taken as it is"),
};
enum { N = sizeof fields / sizeof *fields };

static bool bind(struct kt *k, const char *text, struct all *out)
{
    struct doc_node *n = NULL;
    size_t count = 0;

    *out = (struct all){0};
    assert_true(doc_read_yaml(k->a, "s.yaml", text, strlen(text), k->d, &n, 1, &count));
    return bind_map(k->a, n, "engine", fields, N, NULL, k->d, out);
}

static void check_defaults(const struct all *v)
{
    assert_true(v->flag);
    kt_u64(v->layers, 0);
    kt_u64(v->tokens, 4096);
    kt_u64(v->memory_bytes, UINT64_C(85899345920));
    kt_rel(v->rate, 936e9, 0);
    kt_rel(v->flops, 71e12, 0);
    kt_rel(v->wait_s, 0.0025, 0);
    kt_rel(v->ratio, 0.9, 0);
    kt_rel(v->shift, -1, 0);
    assert_string_equal(v->name, "none");
    kt_u64(v->mode, 1);
    kt_u64(v->map.n, 3);
    kt_u64(v->map.v[2], 3);
    assert_null(v->node);
}

static void test_defaults(void **state)
{
    struct kt *k = *state;
    struct all v;

    assert_true(bind(k, "{}", &v));
    check_defaults(&v);
    assert_true(bind(k, "~", &v));
    check_defaults(&v);
    assert_true(bind(k, "name:\nratio: null\nsharing: ~\n", &v));
    check_defaults(&v);
    memset(&v, 0, sizeof v);
    assert_true(bind_map(k->a, NULL, "engine", fields, N, NULL, k->d, &v));
    check_defaults(&v);
    kt_u64(diag_count(k->d), 0);
}

static void test_values(void **state)
{
    struct kt *k = *state;
    struct all v;

    assert_true(bind(k,
                     "cuda_graphs: off\nkv_layers: 1000000\nmax_model_len: 128k\nmemory: 24GB\n"
                     "bandwidth: 3.35TB/s\nfp16: 1e15\nwait: 40us\nratio: 1\nshift: -1.5\n"
                     "name: '0.19.0'\nmode: offload\nmap: 7\nsharing: {scheme: lckv}\n",
                     &v));
    assert_false(v.flag);
    kt_u64(v.layers, 1000000);
    kt_u64(v.tokens, 131072);
    kt_u64(v.memory_bytes, UINT64_C(24000000000));
    kt_rel(v.rate, 3.35e12, 0);
    kt_rel(v.flops, 1e15, 0);
    kt_rel(v.wait_s, 40e-6, 0);
    kt_rel(v.ratio, 1, 0);
    kt_rel(v.shift, -1.5, 0);
    assert_string_equal(v.name, "0.19.0");
    kt_u64(v.mode, 2);
    kt_u64(v.map.n, 1);
    kt_u64(v.map.v[0], 7);
    assert_string_equal(doc_get(v.node, "scheme")->text, "lckv");
    assert_true(bind(k, "map: []\nname: 7\nmemory: \"2048\"\n", &v));
    kt_u64(v.map.n, 0);
    assert_string_equal(v.name, "7");
    kt_u64(v.memory_bytes, 2048);
    kt_u64(diag_count(k->d), 0);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"kv_layers: 0",
         "1:12: error: 'kv_layers' in engine must be between 1 and 1000000, found 0"},
        {"kv_layers: 1000001",
         "1:12: error: 'kv_layers' in engine must be between 1 and 1000000, found 1000001"},
        {"kv_layers: -3",
         "1:12: error: 'kv_layers' in engine must not be negative, found '-3'"},
        {"kv_layers: abc",
         "1:12: error: 'kv_layers' in engine: expected a whole number, found 'abc'"},
        {"kv_layers: 1.5",
         "1:12: error: 'kv_layers' in engine: expected a whole number, found '1.5'"},
        {"kv_layers: [1]",
         "1:12: error: 'kv_layers' in engine: expected a whole number, found a list"},
        {"kv_layers: 99999999999999999999",
         "1:12: error: 'kv_layers' in engine is out of range, found '99999999999999999999'"},
        {"max_model_len: 0",
         "1:16: error: 'max_model_len' in engine must be at least 1, found 0"},
        {"max_model_len: 8x",
         "1:16: error: 'max_model_len' in engine: expected a number of tokens "
         "such as 4096 or 128k, found '8x'"},
        {"memory: 80G", "1:9: error: 'memory' in engine: '80G' is ambiguous: write 80GB (10^9 "
                        "bytes) or 80GiB (2^30 bytes)"},
        {"memory: 1.5 t", "1:9: error: 'memory' in engine: '1.5 t' is ambiguous: write 1.5TB "
                          "(10^12 bytes) or 1.5TiB (2^40 bytes)"},
        {"memory: 512k",
         "1:9: error: 'memory' in engine: '512k' is ambiguous: write 512kB (10^3 "
         "bytes) or 512KiB (2^10 bytes)"},
        {"memory: 80gb",
         "1:9: error: 'memory' in engine: expected a size such as 80GiB or 24GB, "
         "found '80gb'"},
        {"memory: 2.5",
         "1:9: error: 'memory' in engine: expected a size such as 80GiB or 24GB, "
         "found '2.5'"},
        {"memory: 4", "1:9: error: 'memory' in engine must be between 1KiB and 1TiB, found 4"},
        {"memory: {}", "1:9: error: 'memory' in engine: expected a size such as 80GiB or 24GB, "
                       "found a map"},
        {"bandwidth: 936G", "1:12: error: 'bandwidth' in engine: '936G' is ambiguous: write "
                            "936GB/s (10^9 bytes/s) or 936GiB/s (2^30 bytes/s)"},
        {"bandwidth: 936GB", "1:12: error: 'bandwidth' in engine: expected a rate such as "
                             "936GB/s, found '936GB'"},
        {"bandwidth: 0", "1:12: error: 'bandwidth' in engine must be between 1.00 B/s and 1.00 "
                         "PB/s, found 0"},
        {"fp16: 71T",
         "1:7: error: 'fp16' in engine: expected a rate such as 989TFLOPS, found '71T'"},
        {"fp16: 2EFLOPS",
         "1:7: error: 'fp16' in engine must be between 0FLOPS and 1e+18FLOPS, found 2EFLOPS"},
        {"wait: 5 m",
         "1:7: error: 'wait' in engine: expected a time such as 2.5ms, found '5 m'"},
        {"wait: 2min", "1:7: error: 'wait' in engine must be between 0s and 60s, found 2min"},
        {"ratio: 1.5", "1:8: error: 'ratio' in engine must be between 0 and 1, found 1.5"},
        {"ratio: nan", "1:8: error: 'ratio' in engine: expected a number, found 'nan'"},
        {"ratio: -0.5", "1:8: error: 'ratio' in engine must not be negative, found '-0.5'"},
        {"shift: -3", "1:8: error: 'shift' in engine must be at least -2, found -3"},
        {"shift: --1", "1:8: error: 'shift' in engine: expected a number, found '--1'"},
        {"name: [a]", "1:7: error: 'name' in engine: expected a text, found a list"},
        {"cuda_graphs: maybe",
         "1:14: error: 'cuda_graphs' in engine: expected true or false, found 'maybe'"},
        {"mode: dorp", "1:7: error: 'mode' in engine must be one of drop, mask, offload, found "
                       "'dorp'; did you mean 'drop'?"},
        {"mode: zzzzzz",
         "1:7: error: 'mode' in engine must be one of drop, mask, offload, found 'zzzzzz'"},
        {"mode: []", "1:7: error: 'mode' in engine must be one of drop, mask, offload, found a "
                     "list"},
        {"map: {a: 1}",
         "1:6: error: 'map' in engine: expected a list of whole numbers, found a map"},
        {"map: 0", "1:6: error: 'map' in engine must be between 1 and 99, found 0"},
        {"block_token: 1\nkv_layer: 2",
         "1:1: error: unknown key 'block_token' in engine\n"
         "s.yaml:2:1: error: unknown key 'kv_layer' in engine; did you mean 'kv_layers'?"},
        {"map: [1, x, 100]",
         "1:10: error: 'map' in engine: expected a whole number, found 'x'\n"
         "s.yaml:1:13: error: 'map' in engine must be between 1 and 99, found 100"},
        {"vllm", "1:1: error: engine: expected a map of keys, found 'vllm'"},
        {"[1]", "1:1: error: engine: expected a map of keys, found a list"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kt *k = NULL;
        struct all v;

        kt_open((void **)&k);
        assert_false(bind(k, cases[i].text, &v));
        kt_printed(k->d, arena_printf(k->a, "s.yaml:%s\n", cases[i].message));
        kt_close((void **)&k);
    }
}

/* A default that does not parse is our own mistake, said like any other. */
static void test_bad_fallback(void **state)
{
    struct kt *k = *state;
    static const struct field bad[] = {
        FIELD(struct all, layers, "layers", F_U64, 0, 0, "many", "a count"),
        FIELD(struct all, map, "map", F_U64_LIST, 0, 0, "[1", "a list"),
    };
    struct all v = {0};

    assert_false(bind_map(k->a, NULL, "engine", bad, 2, NULL, k->d, &v));
    kt_printed(k->d,
               "<default>: error: 'layers' in engine: expected a whole number, found "
               "'many'\n"
               "<default>:2:1: error: did not find expected ',' or ']', while parsing a flow "
               "sequence that starts on line 1\n");
}

struct spec {
    const char *model;
    uint64_t count;
};

static const struct field spec_fields[] = {
    FIELD_REQUIRED(struct spec, model, "model", F_TEXT, 0, 0, "the model"),
    FIELD_REQUIRED(struct spec, count, "count", F_U64, 1, 9, "how many"),
};

static void test_required_and_ignored(void **state)
{
    struct kt *k = *state;
    static const char *const ignored[] = {"scheme", NULL};
    const char *text = "scheme: x\nmodel:\ncounts: 4\n";
    struct doc_node *n = NULL;
    struct spec s = {0};
    size_t count = 0;

    assert_true(doc_read_yaml(k->a, "s.yaml", text, strlen(text), k->d, &n, 1, &count));
    assert_false(bind_map(k->a, n, "spec", spec_fields, 2, ignored, k->d, &s));
    assert_false(bind_map(k->a, NULL, "spec", spec_fields, 1, NULL, k->d, &s));
    kt_printed(k->d, "s.yaml:3:1: error: unknown key 'counts' in spec; did you mean 'count'?\n"
                     "s.yaml:2:7: error: required key 'model' is missing in spec\n"
                     "s.yaml:1:1: error: required key 'count' is missing in spec\n"
                     "kvbudget: error: required key 'model' is missing in spec\n");
}

static void test_many_unknown(void **state)
{
    struct kt *k = *state;
    struct doc_node *n = doc_new(k->a, DOC_MAP, (struct loc){"s.yaml", 1, 1});
    struct all v = {0};

    for (int i = 1; i <= 100; i++) {
        struct doc_node *c = doc_new(k->a, DOC_SCALAR, (struct loc){"s.yaml", i, 5});
        c->key = arena_printf(k->a, "%d", i);
        c->key_at = (struct loc){"s.yaml", i, 1};
        doc_append(n, c);
    }
    assert_false(bind_map(k->a, n, "engine", fields, N, NULL, k->d, &v));
    kt_u64(diag_count(k->d), 51);
    kt_diag(k->d, "more unknown keys in engine are not shown", 51);
}

static void test_value(void **state)
{
    struct kt *k = *state;
    struct doc_node *n = doc_new(k->a, DOC_SCALAR, (struct loc){"--set ratio", 1, 1});
    struct all v = {.ratio = 0.25};

    assert_true(bind_value(k->a, n, "engine", &fields[7], k->d, &v)); /* null: as it is */
    kt_rel(v.ratio, 0.25, 0);
    n->text = "0.5";
    assert_true(bind_value(k->a, n, "engine", &fields[7], k->d, &v));
    kt_rel(v.ratio, 0.5, 0);
    n->text = "5";
    assert_false(bind_value(k->a, n, "engine", &fields[7], k->d, &v));
    kt_rel(v.ratio, 0.5, 0);
    kt_printed(k->d, "--set ratio:1:1: error: 'ratio' in engine must be between 0 and 1, found "
                     "5\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_defaults),     kt_test(test_values),
        kt_test(test_refusals),     kt_test(test_required_and_ignored),
        kt_test(test_many_unknown), kt_test(test_value),
        kt_test(test_bad_fallback),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
