/* quantization_config: each method, ignore lists and targets, and what is refused. */
#include "tests/kvmodel.h"

#include "planner/model/quant_config.h"

#define DENSE                                                                                        \
    "{'model_type': 'llama', 'num_hidden_layers': 3, 'hidden_size': 256, 'intermediate_size': 512, " \
    "'num_attention_heads': 4, 'vocab_size': 1000, 'torch_dtype': 'float16', "
#define MOE                                                                                             \
    "{'model_type': 'deepseek', 'num_hidden_layers': 3, 'hidden_size': 256, 'intermediate_size': 512, " \
    "'num_attention_heads': 4, 'vocab_size': 1000, 'dtype': 'bfloat16', 'n_routed_experts': 8, "        \
    "'num_experts_per_tok': 2, 'moe_intermediate_size': 128, 'n_shared_experts': 1, 'first_k_dense_replace': 1, "
#define Q "'quantization_config': "
#define CT(weights, more)                                                                            \
    Q "{'quant_method': 'compressed-tensors', 'config_groups': {'group_0': {'targets': ['Linear'], " \
      "'weights': " weights "}}" more "}}"

struct known {
    const char *config, *format;
};

static const struct known methods[] = {
    {DENSE Q "{'quant_method': 'fp8', 'weight_block_size': [128, 128]}}", "fp8_block"},
    {DENSE Q "{'quant_method': 'fp8', 'activation_scheme': 'static'}}", "fp8"},
    {DENSE Q "{'quant_method': 'fbgemm_fp8'}}", "fp8_channel"},
    {DENSE Q "{'quant_method': 'awq', 'bits': 4, 'group_size': 128}}", "awq"},
    {DENSE Q "{'quant_method': 'awq', 'w_bit': 4, 'group_size': 64}}", "awq_g64"},
    {DENSE Q "{'quant_method': 'gptq', 'bits': 4, 'group_size': 128}}", "gptq"},
    {DENSE Q "{'quant_method': 'gptq', 'bits': 4, 'group_size': 32}}", "gptq_g32"},
    {DENSE Q "{'quant_method': 'gptq', 'bits': 8, 'group_size': 128}}", "gptq_int8"},
    {DENSE Q "{'quant_method': 'gptq', 'bits': 4, 'group_size': -1}}", "int4_channel"},
    {DENSE Q "{'quant_method': 'auto-round', 'bits': 4, 'group_size': 128}}", "gptq"},
    {DENSE Q "{'quant_method': 'bitsandbytes', 'load_in_4bit': true}}", "nf4"},
    {DENSE Q
     "{'quant_method': 'bitsandbytes', 'load_in_4bit': true, 'bnb_4bit_use_double_quant': true}}",
     "nf4_double"},
    {DENSE Q "{'quant_method': 'bitsandbytes', 'load_in_8bit': true}}", "bnb_int8"},
    {DENSE Q "{'quant_method': 'modelopt', 'quant_algo': 'NVFP4'}}", "nvfp4"},
    {DENSE Q "{'quant_method': 'modelopt', 'quantization': {'quant_algo': 'FP8'}}}", "fp8"},
    {DENSE "'hf_quant_config': {'quantization': {'quant_algo': 'W4A16_AWQ'}}}", "awq"},
    {DENSE CT("{'num_bits': 8, 'type': 'float', 'strategy': 'channel'}", ""), "fp8_channel"},
    {DENSE CT("{'num_bits': 8, 'type': 'float', 'strategy': 'tensor'}", ""), "fp8"},
    {DENSE CT(
         "{'num_bits': 8, 'type': 'float', 'strategy': 'block', 'block_structure': [128, 128]}",
         ""),
     "fp8_block"},
    {DENSE CT("{'num_bits': 8, 'type': 'int', 'strategy': 'channel'}", ""), "int8"},
    {DENSE CT("{'num_bits': 8, 'type': 'int', 'strategy': 'group', 'group_size': 128}", ""),
     "int8_g128"},
    {DENSE CT("{'num_bits': 4, 'type': 'int', 'strategy': 'group', 'group_size': 128}", ""),
     "int4"},
    {DENSE CT("{'num_bits': 4, 'type': 'int', 'strategy': 'group', 'group_size': 32}", ""),
     "int4_g32"},
    {DENSE CT("{'num_bits': 4, 'type': 'int', 'strategy': 'channel'}", ""), "int4_channel"},
    {DENSE CT("{'num_bits': 4, 'type': 'float', 'strategy': 'tensor_group', 'group_size': 16}",
              ""),
     "nvfp4"},
    {DENSE CT("{'num_bits': 4, 'type': 'float', 'strategy': 'group', 'group_size': 32}", ""),
     "mxfp4"},
};

static void test_methods(void **state)
{
    struct kt *t = *state;

    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        struct model m = km_model(t, methods[i].config);

        assert_non_null(m.quant.format);
        assert_string_equal(m.quant.format->name, methods[i].format);
        assert_null(m.quant.layer_parts);
        assert_true(m.quant.parts >> PART_MLP & 1u);
        assert_false(m.quant.parts >> PART_HEAD & 1u || m.quant.parts >> PART_EMBED & 1u);
        km_round_trip(t, &m);
    }
}

static void test_kv_format(void **state)
{
    struct model m =
        km_model(*state, DENSE Q "{'quant_method': 'modelopt', 'quant_algo': 'FP8', "
                                 "'kv_cache_quant_algo': 'FP8'}}");

    assert_string_equal(m.quant.kv_format, "fp8_e4m3");
    m = km_model(*state, DENSE CT("{'num_bits': 8, 'type': 'float', 'strategy': 'tensor'}",
                                  ", 'kv_cache_scheme': {'num_bits': 8, 'type': 'float'}"));
    assert_string_equal(m.quant.kv_format, "fp8_e4m3");
    m = km_model(*state, DENSE "'quantization_config': null}");
    assert_null(m.quant.kv_format);
    assert_null(m.quant.format);
}

static bool covers(const struct model *m, uint32_t layer, enum part p)
{
    uint32_t mask = m->quant.layer_parts ? m->quant.layer_parts[layer] : m->quant.parts;

    return mask >> p & 1u;
}

/* gpt-oss: only the experts are in 4 bits. */
static void test_experts_only(void **state)
{
    struct model m = km_model(
        *state, MOE Q "{'quant_method': 'mxfp4', 'modules_to_not_convert': "
                      "['model.layers.*.self_attn', 'model.layers.*.mlp.router', 'lm_head']}}");

    assert_true(covers(&m, 1, PART_EXPERT));
    assert_false(covers(&m, 1, PART_Q) || covers(&m, 0, PART_MLP) ||
                 covers(&m, 1, PART_SHARED));
}

/* Kimi-K2.5: regular expressions leave attention, shared experts and the dense layer alone. */
static void test_regular_expressions(void **state)
{
    struct model m = km_model(
        *state, MOE CT("{'num_bits': 4, 'type': 'int', 'strategy': 'group', 'group_size': 32}",
                       ", 'ignore': ['lm_head', 're:.*self_attn.*', 're:.*shared_experts.*', "
                       "'re:.*mlp\\\\.(gate|up|gate_up|down)_proj.*']"));

    kt_u64(m.quant.parts, 1u << PART_EXPERT);
    assert_null(m.quant.layer_parts);
    kt_u64(m.quant.n_ignored, 4);
}

static void test_single_layers(void **state)
{
    struct model m =
        km_model(*state, DENSE Q
                 "{'quant_method': 'fp8', 'ignored_layers': ['lm_head', "
                 "'model.layers.0.mlp', 'language_model.model.layers.2.self_attn.qkv_proj', "
                 "'vision_tower.layers.1.mlp']}}");

    assert_false(covers(&m, 0, PART_MLP));
    assert_true(covers(&m, 0, PART_Q) && covers(&m, 1, PART_MLP) && covers(&m, 2, PART_MLP));
    assert_false(covers(&m, 2, PART_Q) || covers(&m, 2, PART_K) || covers(&m, 2, PART_V));
    assert_true(covers(&m, 2, PART_O));
    km_round_trip(*state, &m);
}

/* Formats named module by module: the others stay, the most frequent format stands for all. */
static void test_listed_modules(void **state)
{
    struct kt *t = *state;
    struct model m =
        km_model(t, DENSE Q
                 "{'quant_method': 'modelopt', 'quant_algo': 'MIXED_PRECISION', "
                 "'quantized_layers': {'model.layers.0.mlp.up_proj': {'quant_algo': 'NVFP4'}, "
                 "'model.layers.0.mlp.gate_proj': {'quant_algo': 'NVFP4'}, "
                 "'model.layers.0.mlp.down_proj': {'quant_algo': 'NVFP4'}, "
                 "'model.layers.0.self_attn.q_proj': {'quant_algo': 'FP8'}}}}");

    assert_string_equal(m.quant.format->name, "nvfp4");
    assert_true(covers(&m, 0, PART_MLP) && covers(&m, 0, PART_Q));
    assert_false(covers(&m, 1, PART_MLP) || covers(&m, 0, PART_K));
    kt_diag(t->d, "quantized_layers in several formats: all are counted as NVFP4", 0);
}

static void test_ignores(void **state)
{
    (void)state;
    assert_true(quant_ignores("lm_head", "lm_head"));
    assert_true(quant_ignores("mlp.gate", "layers.1.mlp.gate"));
    assert_false(quant_ignores("gate", "layers.1.mlp.gate_proj"));
    assert_true(quant_ignores("model.layers.1", "layers.1.mlp.up_proj"));
    assert_false(quant_ignores("model.layers.1", "layers.11.mlp.up_proj"));
    assert_true(quant_ignores("model.layers.*.mlp", "layers.7.mlp.up_proj"));
    assert_true(quant_ignores("re:.*layers\\.\\d+\\.mlp", "layers.7.mlp.up_proj"));
    assert_false(quant_ignores("re:mlp", "layers.7.mlp.up_proj"));
    assert_false(quant_ignores("re:(", "layers.7.mlp.up_proj"));
    assert_false(quant_ignores("", "layers.7.mlp.up_proj"));
    assert_false(quant_ignores("vision_model.model.layers.0.mlp", "layers.0.mlp.up_proj"));
}

static const struct known bads[] = {
    {DENSE Q "{'quant_method': 'hqq'}}",
     "quant_method 'hqq' is not known (known: awq, auto-round, bitsandbytes, compressed-tensors, fbgemm_fp8, fp8, gptq, "
     "modelopt, mxfp4)"},
    {DENSE Q "{'bits': 4}}", "quantization_config without quant_method"},
    {DENSE Q "{'quant_method': 'awq', 'bits': 3, 'group_size': 128}}",
     "awq with 3 bits and groups of 128 is not known"},
    {DENSE Q "{'quant_method': 'gptq', 'bits': 4, 'group_size': 48}}",
     "gptq with 4 bits and groups of 48 is not known"},
    {DENSE Q "{'quant_method': 'compressed-tensors'}}",
     "compressed-tensors without config_groups"},
    {DENSE CT("{'num_bits': 2, 'type': 'int', 'strategy': 'group', 'group_size': 64}", ""),
     "compressed-tensors with 2 bits and groups of 64 is not known"},
    {DENSE Q "{'quant_method': 'modelopt', 'quant_algo': 'W2A2'}}",
     "quant_algo 'W2A2' of modelopt is not known"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bads / sizeof *bads; i++) {
        struct kt t = {arena_new(), NULL};
        struct model m;

        t.d = diag_new(t.a);
        assert_false(km_config(&t, bads[i].config, &m));
        kt_diag(t.d, bads[i].format, 0);
        arena_free(t.a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_methods),       kt_test(test_kv_format),
        kt_test(test_experts_only),  kt_test(test_regular_expressions),
        kt_test(test_single_layers), kt_test(test_listed_modules),
        kt_test(test_ignores),       kt_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
