/* What no family reads: messages for bad configs and refused types, and the registry itself. */
#include "planner/model/family.h"
#include "tests/kvmodel.h"

/* hidden 64, 4 heads, 8 layers; more keys follow */
#define BASE(type)                                                                             \
    "{'model_type': '" type                                                                    \
    "', 'num_hidden_layers': 8, 'hidden_size': 64, 'vocab_size': 100, "                        \
    "'num_attention_heads': 4, 'intermediate_size': 128, 'max_position_embeddings': 8192, "    \
    "'torch_dtype': 'bfloat16'"

static void test_no_dtype(void **state)
{
    struct kt *t = *state;
    struct model m = km_model(
        t,
        "{'model_type': 'llama', 'num_hidden_layers': 1, 'hidden_size': 64, 'vocab_size': 9, "
        "'num_attention_heads': 4, 'intermediate_size': 8}");

    assert_string_equal(m.dtype, "bf16");
    kt_diag(t->d, "the config names no dtype: bf16 assumed", 1);
    m = km_model(
        t,
        "{'model_type': 'llama', 'num_hidden_layers': 1, 'hidden_size': 64, 'vocab_size': 9, "
        "'num_attention_heads': 4, 'torch_dtype': 'int3'}");
    kt_diag(t->d, "unknown dtype 'int3': bf16 assumed", 1);
    m = km_model(
        t,
        "{'model_type': 'llama', 'num_hidden_layers': 1, 'hidden_size': 64, 'vocab_size': 9, "
        "'num_attention_heads': 4, 'torch_dtype': 'torch.float32'}");
    assert_string_equal(m.dtype, "fp32");
}

struct bad {
    const char *config, *says;
};

#define INLINE "the inline form always works: model: {layers: 32, hidden_size: 4096,"

static const struct bad bads[] = {
    {"[]", "a model config must be a map of keys"},
    {"{'hidden_size': 64}", "the config has no model_type; " INLINE},
    {"{'model_type': 'lama'}", "unknown model_type 'lama'; did you mean 'llama'?; " INLINE},
    {"{'model_type': 'some_other_thing'}", "unknown model_type 'some_other_thing'; " INLINE},
    {"{'model_type': 'deepseek_v4'}",
     "model_type 'deepseek_v4' cannot be modelled: its layers compress the sequence (compressed sparse attention, "
     "compress_ratios); no layer kind here does; " INLINE},
    {"{'model_type': 'kimi_k3'}",
     "model_type 'kimi_k3' cannot be modelled: its latent experts"},
    {"{'model_type': 't5'}", "model_type 't5' cannot be modelled: it is an encoder-decoder"},
    {"{'model_type': 'llama'}", "the config has no num_hidden_layers"},
    {"{'model_type': 'llama', 'num_hidden_layers': 2, 'hidden_size': 64, 'vocab_size': 9}",
     "the config has no num_attention_heads"},
    {BASE("llama") ", 'num_key_value_heads': 3}", "layer 1: 3 K/V heads do not divide 4 heads"},
    {BASE("llama") ", 'num_key_value_heads': -1}", "must not be negative, found '-1'"},
    {"{'model_type': 'llama', 'num_hidden_layers': 5000, 'hidden_size': 64, 'vocab_size': 9, 'num_attention_heads': 4}",
     "5000 layers are more than the 4096 that can be planned"},
    {"{'model_type': 'llama', 'num_hidden_layers': 0, 'hidden_size': 64, 'vocab_size': 9, 'num_attention_heads': 4}",
     "'num_hidden_layers' must be between 1 and 16777216, found 0"},
    {"{'model_type': 'llama', 'num_hidden_layers': 'x', 'hidden_size': 64, 'vocab_size': 9}",
     "'num_hidden_layers'"},
    {BASE("olmo3") ", 'layer_types': ['full_attention']}",
     "layer_types has 1 entries for 8 layers"},
    {BASE(
         "mistral") ", 'layer_types': ['a', 'a', 'a', 'a', 'a', 'a', 'a', 'a'], 'sliding_window': 9}",
     "layer type 'a' is not one this family has"},
    {BASE(
         "mistral") ", 'layer_types': ['sliding_attention', 'full_attention', 'full_attention', 'full_attention', "
                    "'full_attention', 'full_attention', 'full_attention', 'full_attention'], 'sliding_window': null}",
     "layer type 'sliding_attention' needs sliding_window, which the config does not have"},
    {BASE("gemma4") ", 'num_kv_shared_layers': 8}",
     "num_kv_shared_layers 8 leaves none of 8 layers with a cache"},
    {BASE("gemma4") ", 'num_kv_shared_layers': 6}",
     "layer 6 shares K/V, but no earlier layer is of its kind"},
    {BASE("deepseek_v3") "}", "the config has no kv_lora_rank"},
    {BASE("nemotron_h") "}",
     "the config has no hybrid_override_pattern and no layers_block_type"},
    {BASE("nemotron-nas") "}", "block_configs must list 8 blocks, found 0"},
    {BASE("mimo_v2_flash") ", 'moe_intermediate_size': 8}",
     "the config has no hybrid_layer_pattern"},
    {"{'model_type': 'phi4flash', 'num_hidden_layers': 6, 'hidden_size': 64, 'vocab_size': 100, "
     "'num_attention_heads': 4, 'intermediate_size': 128}",
     "phi4flash needs a number of layers that 4 divides, found 6"},
    {"{'model_type': 'gpt2', 'n_layer': 2, 'n_embd': 64, 'n_head': 4, 'vocab_size': 100}",
     "the config has no n_positions"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bads / sizeof *bads; i++) {
        struct kt t = {arena_new(), NULL};
        struct model m;

        t.d = diag_new(t.a);
        if (km_config(&t, bads[i].config, &m) || !diag_failed(t.d))
            fail_msg("accepted: %s", bads[i].config);
        kt_diag(t.d, bads[i].says, 0);
        arena_free(t.a);
    }
}

/* Each family has types, a summary and a source; no type belongs to two. */
static void test_registry(void **state)
{
    (void)state;
    for (size_t f = 0; families[f]; f++) {
        assert_true(families[f]->summary[0] != 0 && families[f]->source[0] != 0);
        assert_true((families[f]->read == NULL) == (families[f]->refuses != NULL));
        for (size_t i = 0; families[f]->model_types[i]; i++) {
            assert_ptr_equal(family_find(families[f]->model_types[i]), families[f]);
            assert_true(!families[f]->refuses || families[f]->refuses[i]);
        }
    }
    assert_null(family_find(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_no_dtype),
        kt_test(test_refused),
        kt_test(test_registry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
