/* Model families: one test for each oddity of published configs. Messages are in
 * families_bad.c, counts of whole models in models.c. */
#include "tests/kvmodel.h"

/* hidden 64, 4 heads, 8 layers; more keys follow */
#define BASE(type)                                                                             \
    "{'model_type': '" type                                                                    \
    "', 'num_hidden_layers': 8, 'hidden_size': 64, 'vocab_size': 100, "                        \
    "'num_attention_heads': 4, 'intermediate_size': 128, 'max_position_embeddings': 8192, "    \
    "'torch_dtype': 'bfloat16'"

static void expect_mixers(const struct model *m, const char *letters)
{
    static const char letter_of[] = {'-', 'F', 'S', 'C', 'L'};
    char got[MODEL_LAYERS_MAX + 1];

    for (uint32_t i = 0; i < m->n_layers; i++)
        got[i] = m->layers[i].state.kind != STATE_NONE && m->layers[i].attn.mixer == MIXER_NONE
                     ? 'm'
                     : letter_of[m->layers[i].attn.mixer];
    got[m->n_layers] = 0;
    assert_string_equal(got, letters);
}

static void test_head_dim(void **state)
{
    struct kt *t = *state;
    struct model given =
        km_model(t, BASE("mistral") ", 'head_dim': 32, 'sliding_window': null, "
                                    "'num_key_value_heads': 2}");
    struct model absent = km_model(t, BASE("llama") ", 'head_dim': null}");
    struct model bad;

    kt_u64(given.layers[0].attn.k_dim, 32);
    kt_u64(absent.layers[0].attn.k_dim, 16);
    kt_u64(absent.layers[0].attn.kv_heads, 4);
    assert_false(km_config(
        t,
        "{'model_type': 'llama', 'num_hidden_layers': 1, 'hidden_size': 100, 'vocab_size': 9, "
        "'num_attention_heads': 24}",
        &bad));
    kt_diag(t->d, "head_dim is absent and hidden_size 100 is no multiple of 24 heads", 0);
}

static void test_latent(void **state)
{
    struct model m = km_model(
        *state,
        BASE(
            "deepseek_v2") ", 'q_lora_rank': null, 'kv_lora_rank': 32, "
                           "'qk_nope_head_dim': 128, 'qk_rope_head_dim': 64, "
                           "'v_head_dim': 128, 'n_routed_experts': 8, 'moe_intermediate_size': "
                           "16, 'n_shared_experts': 2, 'first_k_dense_replace': 1, "
                           "'num_experts_per_tok': 2, 'num_key_value_heads': 4}");
    const struct layer *l = &m.layers[7];

    expect_mixers(&m, "LLLLLLLL");
    kt_u64(l->attn.k_dim, 192);
    kt_u64(l->attn.v_dim, 128);
    kt_u64(l->attn.q_lora_rank, 0);
    kt_u64(l->ffn.shared_intermediate, 32);
    assert_false(l->ffn.router_bias);
    kt_u64(m.layers[0].ffn.experts, 0);
    kt_u64(m.layers[0].ffn.intermediate, 128);
    kt_u64(km_cache(&m).full, 8 * (32 + 64));
}

static void test_indexer(void **state)
{
    struct model m = km_model(
        *state,
        "{'model_type': 'glm_moe_dsa', 'num_hidden_layers': 3, 'hidden_size': 64, 'vocab_size': 100, "
        "'num_attention_heads': 4, 'intermediate_size': 128, 'q_lora_rank': 24, 'kv_lora_rank': 32, "
        "'qk_nope_head_dim': 16, 'qk_rope_head_dim': 8, 'v_head_dim': 16, 'index_head_dim': 12, 'index_n_heads': 2, "
        "'index_topk': 2048, 'indexer_types': ['full', 'shared', 'full'], 'n_routed_experts': 4, "
        "'moe_intermediate_size': 8, 'num_experts_per_tok': 2, 'first_k_dense_replace': 1}");

    assert_false(m.layers[0].attn.index_shared || m.layers[2].attn.index_shared);
    assert_true(m.layers[1].attn.index_shared && m.layers[1].attn.index_dim == 12);
    assert_true(m.layers[1].ffn.router_bias);
    kt_u64(km_cache(&m).full, 3 * 40 + 2 * 12);
    kt_u64(km_count(&m).by_part[PART_INDEXER], 2 * (24 * 24 + 64 * 12 + 24 + 2 * 64));
}

static void test_opt(void **state)
{
    struct model m = km_model(
        *state,
        "{'model_type': 'opt', 'num_hidden_layers': 2, 'hidden_size': 64, 'vocab_size': 100, "
        "'num_attention_heads': 4, 'ffn_dim': 256, 'max_position_embeddings': 2048, "
        "'word_embed_proj_dim': 32, 'do_layer_norm_before': false}");

    kt_u64(m.position_rows, 2050);
    kt_u64(m.embed_width, 32);
    kt_u64(m.final_norms, 0);
    assert_true(m.tied && m.norm == NORM_LAYER && m.layers[0].attn.o_bias);
    kt_u64(m.layers[0].ffn.intermediate, 256);
    assert_false(m.layers[0].ffn.gated);
}

static void test_old_keys(void **state)
{
    struct kt *t = *state;
    struct model gpt2 = km_model(
        t, "{'model_type': 'gpt2', 'n_layer': 2, 'n_embd': 64, 'n_head': 4, 'n_inner': null, "
           "'n_positions': 1024, 'vocab_size': 100}");
    struct model falcon =
        km_model(t, "{'model_type': 'falcon', 'n_layer': 2, 'hidden_size': 142, 'n_head': 71, "
                    "'multi_query': true, 'vocab_size': 100}");
    struct model fresh = km_model(
        t,
        "{'model_type': 'falcon', 'num_hidden_layers': 2, 'hidden_size': 64, "
        "'num_attention_heads': 16, 'num_kv_heads': 8, 'multi_query': true, 'vocab_size': 100}");
    struct model mpt = km_model(
        t,
        "{'model_type': 'mpt', 'n_layers': 2, 'd_model': 64, 'n_heads': 4, 'vocab_size': 100, "
        "'max_seq_len': 2048, 'attn_config': {'alibi': true, 'kv_n_heads': 1}}");
    struct model dbrx = km_model(
        t,
        "{'model_type': 'dbrx', 'n_layers': 2, 'd_model': 64, 'n_heads': 4, 'vocab_size': 100, "
        "'attn_config': {'kv_n_heads': 2}, 'ffn_config': {'ffn_hidden_size': 32, "
        "'moe_num_experts': 16, 'moe_top_k': 4}}");
    struct model glm = km_model(
        t,
        "{'model_type': 'chatglm', 'num_layers': 2, 'hidden_size': 64, 'num_attention_heads': 4, "
        "'padded_vocab_size': 100, 'ffn_hidden_size': 96, 'kv_channels': 16, "
        "'multi_query_attention': true, 'multi_query_group_num': 2, 'add_qkv_bias': true}");

    kt_u64(gpt2.layers[0].ffn.intermediate, 256);
    kt_u64(gpt2.position_rows, 1024);
    kt_u64(falcon.layers[0].attn.kv_heads, 1);
    kt_u64(falcon.layers[0].norms, 1);
    kt_u64(fresh.layers[0].attn.kv_heads, 8);
    kt_u64(fresh.layers[0].norms, 2);
    kt_u64(mpt.layers[0].attn.kv_heads, 1);
    kt_u64(mpt.position_rows, 0);
    kt_u64(dbrx.layers[0].ffn.experts, 16);
    kt_u64(dbrx.layers[0].attn.kv_heads, 2);
    kt_u64(glm.layers[0].attn.kv_heads, 2);
    assert_true(glm.layers[0].attn.q_bias && !glm.layers[0].attn.o_bias);
}

static void test_nested(void **state)
{
    struct kt *t = *state;
    struct model m = km_model(
        t,
        "{'model_type': 'mistral3', 'text_config': {'model_type': 'mistral', "
        "'num_hidden_layers': 2, 'hidden_size': 64, 'vocab_size': 100, 'num_attention_heads': 4, "
        "'num_key_value_heads': 2, 'intermediate_size': 128, 'sliding_window': null}, 'torch_dtype': "
        "'float16', 'tie_word_embeddings': true, 'vision_config': {'hidden_size': 8}}");

    assert_string_equal(m.dtype, "fp16");
    assert_true(m.tied);
    kt_diag(t->d, "the vision tower is not counted", 1);
}

/* 437,132,016 + 4609 * hidden fits the towers of four published totals. */
static void test_qwen35_tower(void **state)
{
    struct kt *t = *state;
    struct model m = km_model(
        t,
        "{'model_type': 'qwen3_5', 'text_config': {'num_hidden_layers': 4, 'hidden_size': 64, "
        "'vocab_size': 100, 'num_attention_heads': 4, 'num_key_value_heads': 2, 'intermediate_size': "
        "128, 'mamba_ssm_dtype': 'float32'}, 'vision_config': {'depth': 27, 'hidden_size': 1152, "
        "'intermediate_size': 4304, 'out_hidden_size': 64}}");

    kt_u64(m.vision_params, 437132016 + 4609 * 64);
    expect_mixers(&m, "mmmF");
    assert_true(m.layers[0].state.fp32_state && m.layers[3].attn.output_gate);
    kt_u64(m.layers[3].attn.k_dim, 256);
    kt_u64(km_count(&m).by_part[PART_Q], 64 * 4 * 256 * 2);
}

static void test_windows(void **state)
{
    struct kt *t = *state;
    struct model m =
        km_model(t, BASE("mistral") ", 'num_key_value_heads': 2, 'sliding_window': 4096}");

    expect_mixers(&m, "SSSSSSSS");
    m = km_model(t, BASE("mistral") ", 'num_key_value_heads': 2, 'sliding_window': null}");
    expect_mixers(&m, "FFFFFFFF");
    m = km_model(t, BASE("phi3") ", 'sliding_window': 2047}");
    expect_mixers(&m, "SSSSSSSS");
    kt_u64(m.layers[0].attn.window_tokens, 2047);
    m = km_model(t, BASE("gemma2") ", 'sliding_window': 4096}");
    expect_mixers(&m, "SFSFSFSF");
    m = km_model(t,
                 BASE("gemma3_text") ", 'sliding_window': 512, 'sliding_window_pattern': 6}");
    expect_mixers(&m, "SSSSSFSS");
    m = km_model(t, BASE("olmo3") "}");
    expect_mixers(&m, "SSSFSSSF");
    m = km_model(t, BASE("cohere2") "}");
    expect_mixers(&m, "SSSFSSSF");
    m = km_model(
        t,
        BASE(
            "gpt_oss") ", 'num_key_value_heads': 2, 'num_local_experts': 4, 'num_experts_per_tok': 2}");
    expect_mixers(&m, "SFSFSFSF");
    assert_true(m.layers[0].attn.sinks && m.layers[0].ffn.expert_bias &&
                m.layers[0].ffn.router_bias);
    m = km_model(t, BASE("starcoder2") ", 'sliding_window': 4096}");
    expect_mixers(&m, "SSSSSSSS");
    m = km_model(t, BASE("llama4_text") ", 'interleave_moe_layer_step': 2}");
    expect_mixers(&m, "CCCFCCCF");
    assert_true(!m.layers[0].ffn.experts && m.layers[1].ffn.experts == 16 &&
                m.layers[0].ffn.intermediate == 16384);
    m = km_model(
        t,
        BASE(
            "exaone4") ", 'sliding_window': 4096, 'layer_types': ['sliding_attention', 'full_attention', "
                       "'sliding_attention', 'sliding_attention', 'sliding_attention', 'sliding_attention', "
                       "'sliding_attention', 'full_attention']}");
    expect_mixers(&m, "SFSSSSSF");
}

/* Gemma-3-4B has 29 + 5 of 34 layers, and its nested config leaves heads and vocabulary to the
 * class. */
static void test_gemma3_defaults(void **state)
{
    struct model m = km_model(
        *state,
        "{'model_type': 'gemma3', 'text_config': {'hidden_size': 2560, "
        "'intermediate_size': 10240, 'model_type': 'gemma3_text', 'num_hidden_layers': 34, "
        "'sliding_window': 1024}}");

    kt_u64(m.layers[0].attn.heads, 8);
    kt_u64(m.vocab, 262208);
    kt_u64(km_count(&m).total, 3880263168);
    kt_u64(km_cache(&m).full, 5 * 2 * 4 * 256);
    kt_u64(km_cache(&m).windowed, 29 * 2 * 4 * 256);
}

static void test_ignored_windows(void **state)
{
    struct kt *t = *state;
    struct model m =
        km_model(t, BASE("qwen2") ", 'sliding_window': 4096, 'use_sliding_window': false}");

    expect_mixers(&m, "FFFFFFFF");
    assert_true(m.layers[0].attn.q_bias && m.layers[0].attn.v_bias && !m.layers[0].attn.o_bias);
    m = km_model(
        t,
        BASE(
            "qwen2") ", 'sliding_window': 4096, 'use_sliding_window': true, 'max_window_layers': 6}");
    expect_mixers(&m, "FFFFFFSS");
    m = km_model(t, BASE("phi3") ", 'sliding_window': 262144}");
    kt_diag(t->d, "the window of 262144 tokens is no shorter than the context of 8192", 0);
}

static void test_gemma_sharing(void **state)
{
    struct kt *t = *state;
    struct model m = km_model(
        t, "{'model_type': 'gemma3n', 'num_hidden_layers': 10, 'num_kv_shared_layers': 5, "
           "'intermediate_size': [8, 8, 8, 8, 8, 8, 8, 8, 8, 16]}");

    expect_mixers(&m, "SSSSFSSSSF");
    for (uint32_t i = 5; i < 9; i++)
        kt_u64(m.layers[i].attn.kv_source, 3);
    kt_u64(m.layers[9].attn.kv_source, 4);
    kt_u64(m.layers[9].ffn.intermediate, 16);
    assert_true(m.keeps_unused_kv);
    m = km_model(
        t,
        "{'model_type': 'gemma4', 'num_hidden_layers': 10, 'hidden_size': 64, 'vocab_size': 100, "
        "'num_attention_heads': 4, 'num_key_value_heads': 1, 'intermediate_size': 128, 'sliding_window': 512, "
        "'num_kv_shared_layers': 4, 'use_double_wide_mlp': true, 'layer_types': ['sliding_attention', "
        "'full_attention', 'sliding_attention', 'full_attention', 'sliding_attention', 'full_attention', "
        "'sliding_attention', 'full_attention', 'sliding_attention', 'full_attention']}");
    kt_u64(m.layers[6].attn.kv_source, 4);
    kt_u64(m.layers[9].attn.kv_source, 5);
    kt_u64(m.layers[9].attn.k_dim, 512);
    kt_u64(m.layers[8].attn.k_dim, 256);
    kt_u64(m.layers[5].ffn.intermediate, 128);
    kt_u64(m.layers[6].ffn.intermediate, 256);
}

static void test_lckv(void **state)
{
    struct kt *t = *state;
    struct model m = km_model(
        t,
        "{'model_type': 'lckv-llama', 'num_hidden_layers': 6, 'hidden_size': 64, 'vocab_size': 100, "
        "'num_attention_heads': 4, 'intermediate_size': 128, 'sliding_window': 32, 'layer_types': "
        "'0s_1s_4_4_4_5', 'forward_passes': 7, 'backward_passes': 2, 'force_nodiag': true}");
    struct model bad;

    expect_mixers(&m, "SSFFFF");
    kt_u64(m.layers[2].attn.kv_source, 4);
    kt_u64(m.layers[5].attn.kv_source, 5);
    kt_u64(m.forward_passes, 7);
    kt_u64(m.backward_passes, 2);
    assert_true(m.force_no_diagonal);
    assert_false(km_config(t, BASE("lckv-llama") ", 'layer_types': '0_9_x'}", &bad));
    kt_diag(t->d, "layer_types: layer 1 reads layer 9, but the last is 7", 0);
    kt_diag(t->d, "layer_types '0_9_x' is not numbers joined by '_'", 0);
    assert_false(km_config(t, BASE("lckv-llama") ", 'layer_types': '0_0s'}", &bad));
    kt_diag(t->d, "layer_types has sliding entries, but there is no sliding_window", 0);
    kt_diag(t->d, "layer_types has fewer entries than the 8 layers", 0);
}

static void test_hybrids(void **state)
{
    struct kt *t = *state;
    struct model m =
        km_model(t, BASE("jamba") ", 'num_key_value_heads': 2, 'mamba_dt_rank': 'auto'}");

    expect_mixers(&m, "mmmmFmmm");
    assert_true(!m.layers[0].ffn.experts && m.layers[1].ffn.experts == 16);
    kt_u64(m.layers[0].state.dt_rank, 4);
    m = km_model(t, BASE("falcon_h1") ", 'mamba_d_ssm': 96, 'mamba_n_heads': 24}");
    assert_true(m.layers[0].attn.mixer == MIXER_FULL && m.layers[0].state.kind == STATE_MAMBA2);
    kt_u64(m.layers[0].state.head_dim, 4);
    assert_true(m.layers[0].state.no_gate_norm);
    m = km_model(
        t,
        BASE(
            "minimax_m1") ", 'attn_type_list': [0, 1, 0, 0, 0, 0, 0, 1], 'num_local_experts': 4}");
    expect_mixers(&m, "mFmmmmmF");
    assert_true(m.layers[0].state.kind == STATE_LIGHTNING && m.layers[0].state.heads == 4);
    m = km_model(
        t, BASE("qwen3_next") ", 'moe_intermediate_size': 16, 'full_attention_interval': 4}");
    expect_mixers(&m, "mmmFmmmF");
    m = km_model(
        t,
        BASE(
            "kimi_linear") ", 'kv_lora_rank': 32, 'qk_nope_head_dim': 16, 'qk_rope_head_dim': 8, "
                           "'v_head_dim': 16, 'num_experts': 4, 'num_experts_per_token': 2, "
                           "'moe_intermediate_size': 8, 'first_k_dense_replace': 1, 'linear_attn_config': "
                           "{'full_attn_layers': [4, 8], 'num_heads': 4, 'head_dim': 16}}");
    expect_mixers(&m, "mmmLmmmL"); /* listed 1-based */
    assert_true(m.layers[0].state.kind == STATE_KDA && !m.layers[0].ffn.experts &&
                m.layers[1].ffn.experts);
    m = km_model(
        t,
        BASE(
            "granitemoehybrid") ", 'num_local_experts': 0, 'shared_intermediate_size': 48, 'mamba_n_heads': 8, "
                                "'layer_types': ['mamba', 'attention', 'mamba', 'mamba', 'mamba', 'mamba', "
                                "'mamba', 'mamba']}");
    expect_mixers(&m, "mFmmmmmm");
    kt_u64(m.layers[0].ffn.intermediate, 48);
    m = km_model(t, BASE("lfm2") ", 'block_ff_dim': 120, 'full_attn_idxs': [2, 5]}");
    expect_mixers(&m, "mmFmmFmm");
    kt_u64(m.layers[0].ffn.intermediate, 256);
    m = km_model(t, BASE("phi4flash") ", 'num_key_value_heads': 2}");
    expect_mixers(&m, "mSmSmFmF");
    kt_u64(m.layers[7].attn.kv_source, 5);
    assert_true(m.layers[6].state.kind == STATE_GMU && m.layers[4].state.kind == STATE_MAMBA1);
}

static void test_nemotron_h(void **state)
{
    struct kt *t = *state;
    struct model m = km_model(
        t,
        "{'model_type': 'nemotron_h', 'num_hidden_layers': 4, 'hidden_size': 64, 'vocab_size': 100, "
        "'num_attention_heads': 4, 'num_key_value_heads': 2, 'intermediate_size': 128, "
        "'hybrid_override_pattern': 'M-*M', 'time_step_limit': [0.0, Infinity]}");
    struct model bad;

    expect_mixers(&m, "m-Fm");
    kt_u64(m.layers[1].ffn.intermediate, 128);
    assert_false(m.layers[1].ffn.gated);
    kt_u64(m.layers[2].norms, 1);
    kt_u64(m.layers[2].ffn.intermediate, 0);
    m = km_model(
        t,
        "{'model_type': 'nemotron_h', 'hidden_size': 64, 'vocab_size': 100, 'num_attention_heads': 4, "
        "'num_key_value_heads': 2, 'layers_block_type': ['mamba', 'moe'], 'n_routed_experts': 4, "
        "'num_experts_per_tok': 2, 'moe_intermediate_size': 16, 'moe_latent_size': 24, "
        "'moe_shared_expert_intermediate_size': 32, 'mamba_ssm_cache_dtype': 'float32'}");
    kt_u64(m.n_layers, 2);
    assert_true(m.layers[0].state.fp32_state && m.layers[1].ffn.moe_latent == 24);
    assert_false(km_config(
        t,
        "{'model_type': 'nemotron_h', 'num_hidden_layers': 3, 'hidden_size': 64, 'vocab_size': 100, "
        "'num_attention_heads': 4, 'hybrid_override_pattern': 'MX'}",
        &bad));
    kt_diag(t->d, "the pattern has 2 layers, num_hidden_layers says 3", 0);
    assert_false(km_config(t,
                           "{'model_type': 'nemotron_h', 'hidden_size': 64, 'vocab_size': 100, "
                           "'num_attention_heads': 4, 'hybrid_override_pattern': 'MXE'}",
                           &bad));
    kt_diag(t->d, "layer 1 is 'X' in the pattern; known: M * - E", 0);
    kt_diag(t->d, "the pattern has expert layers, but the config has no n_routed_experts", 0);
}

/* 5.25 * 2/3 * 8192 = 28672; 2.625 gives 14336; 1.3125 gives 7168; rounded up to 256: 3.28125
 * gives 17920. */
static void test_block_list(void **state)
{
    struct kt *t = *state;
    struct model bad,
        m = km_model(
            t,
            "{'model_type': 'nemotron-nas', 'num_hidden_layers': 4, 'hidden_size': 8192, 'vocab_size': 100, "
            "'num_attention_heads': 64, 'num_key_value_heads': null, 'intermediate_size': null, 'block_configs': ["
            "{'attention': {'n_heads_in_group': 8, 'no_op': false}, 'ffn': {'ffn_mult': 5.25}}, "
            "{'attention': {'n_heads_in_group': null, 'no_op': true}, 'ffn': {'ffn_mult': 3.28125}}, "
            "{'attention': {'n_heads_in_group': 16, 'no_op': false}, 'ffn': {'no_op': true}}, "
            "{'attention': {'replace_with_linear': true}, 'ffn': {'ffn_mult': 1.0}}]}");

    expect_mixers(&m, "F-F-");
    kt_u64(m.layers[0].ffn.intermediate, 28672);
    kt_u64(m.layers[0].attn.kv_heads, 8);
    kt_u64(m.layers[1].ffn.intermediate, 17920);
    kt_u64(m.layers[1].norms, 1);
    kt_u64(m.layers[2].attn.kv_heads, 4);
    kt_u64(m.layers[2].ffn.intermediate, 0);
    kt_u64(m.layers[3].matrix_params, 8192 * 8192);
    kt_u64(m.layers[3].ffn.intermediate, 5632);
    assert_false(km_config(t, BASE("nemotron-nas") ", 'block_configs': [{}]}", &bad));
    kt_diag(t->d, "block_configs must list 8 blocks, found 1", 0);
}

static void test_hunyuan(void **state)
{
    struct model m = km_model(
        *state,
        BASE("hunyuan") ", 'use_cla': true, 'cla_share_factor': 3, 'num_experts': 4, "
                        "'moe_topk': [1, 1, 1, 1, 1, 1, 1, 1], 'num_shared_expert': 1}");
    static const uint32_t sources[8] = {0, 0, 0, 3,
                                        3, 3, 6, 6}; /* the short group is the last */

    for (uint32_t i = 0; i < 8; i++)
        kt_u64(m.layers[i].attn.kv_source, sources[i]);
    assert_true(m.tied);
    kt_u64(m.layers[0].ffn.top_k, 1);
    kt_u64(m.layers[0].ffn.shared_intermediate, 128);
}

static void test_mimo_v2(void **state)
{
    struct model m = km_model(
        *state,
        BASE("mimo_v2_flash") ", 'num_key_value_heads': 2, 'head_dim': 24, 'v_head_dim': 16, "
                              "'swa_num_key_value_heads': 4, 'swa_head_dim': 24, "
                              "'swa_v_head_dim': 16, 'sliding_window': 128, "
                              "'hybrid_layer_pattern': [0, 1, 1, 1, 1, 1, 0, 1], "
                              "'moe_layer_freq': [0, 1, 1, 1, 1, 1, 1, 1], "
                              "'moe_intermediate_size': 16}");

    expect_mixers(&m, "FSSSSSFS");
    kt_u64(m.layers[1].attn.kv_heads, 4);
    kt_u64(m.layers[0].attn.kv_heads, 2);
    kt_u64(m.layers[0].attn.v_dim, 16);
    assert_true(m.layers[1].attn.sinks && !m.layers[0].attn.sinks && !m.layers[0].ffn.experts);
    assert_string_equal(m.confidence, "unverified");
}

static void test_small_tensors(void **state)
{
    struct kt *t = *state;
    struct model m = km_model(t, BASE("phi") "}");

    assert_true(m.head_bias && m.norm == NORM_LAYER && m.layers[0].norms == 1 &&
                m.layers[0].ffn.bias);
    m = km_model(t, BASE("bloom") "}");
    kt_u64(m.vector_params_extra, 128);
    m = km_model(t, BASE("olmo") "}");
    kt_u64(m.layers[0].norms + m.final_norms, 0);
    m = km_model(t, BASE("cohere") ", 'use_qk_norm': true}");
    assert_true(m.tied && m.norm == NORM_LAYER_NO_BIAS &&
                m.layers[0].attn.qk_norm == QK_NORM_FULL);
    m = km_model(t, BASE("minimax_m2") ", 'num_local_experts': 4}");
    assert_true(m.layers[0].attn.qk_norm == QK_NORM_FULL && m.layers[0].ffn.router_bias);
    m = km_model(
        t,
        BASE(
            "qwen3_moe") ", 'moe_intermediate_size': 16, 'mlp_only_layers': [1], 'decoder_sparse_step': 2}");
    assert_true(!m.layers[0].ffn.experts && !m.layers[1].ffn.experts &&
                m.layers[3].ffn.experts);
    assert_true(m.layers[0].attn.qk_norm == QK_NORM_HEAD);
    m = km_model(t, BASE("internlm") ", 'bias': true}");
    assert_true(m.layers[0].attn.o_bias);
    m = km_model(
        t,
        BASE(
            "glm4_moe") ", 'attention_bias': true, 'use_qk_norm': true, 'moe_intermediate_size': 8, "
                        "'num_nextn_predict_layers': 1}");
    assert_true(m.layers[0].attn.q_bias && !m.layers[0].attn.o_bias &&
                m.layers[7].ffn.router_bias);
    kt_u64(m.mtp_layers, 1);
    kt_diag(t->d, "1 multi-token-prediction layers of the checkpoint are not counted", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_head_dim),        kt_test(test_latent),
        kt_test(test_indexer),         kt_test(test_opt),
        kt_test(test_old_keys),        kt_test(test_nested),
        kt_test(test_qwen35_tower),    kt_test(test_windows),
        kt_test(test_gemma3_defaults), kt_test(test_ignored_windows),
        kt_test(test_gemma_sharing),   kt_test(test_lckv),
        kt_test(test_hybrids),         kt_test(test_nemotron_h),
        kt_test(test_block_list),      kt_test(test_hunyuan),
        kt_test(test_mimo_v2),         kt_test(test_small_tensors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
