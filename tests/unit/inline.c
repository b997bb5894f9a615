/* The inline form: defaults, layer kinds and types, sharing, overrides, and every message for
 * what it rejects. */
#include "tests/kvmodel.h"

#define SMALL "hidden_size: 64, intermediate_size: 128, heads: 4, vocab_size: 1000"

static void test_minimal(void **state)
{
    struct model m = km_model(*state, "{layers: 2, " SMALL "}");
    const struct layer *l = &m.layers[1];

    assert_string_equal(m.family, "inline");
    assert_string_equal(m.dtype, "bf16");
    assert_false(m.tied);
    assert_true(m.norm == NORM_RMS && m.final_norms == 1 && l->norms == 2);
    assert_true(l->attn.mixer == MIXER_FULL && l->attn.kv_source == 1);
    kt_u64(l->attn.kv_heads, 4);
    kt_u64(l->attn.k_dim, 16);
    kt_u64(l->attn.v_dim, 16);
    assert_true(l->ffn.gated && !l->ffn.bias && !l->attn.q_bias &&
                l->attn.qk_norm == QK_NORM_NONE);
    assert_null(m.quant.format);
}

static void test_types(void **state)
{
    struct model m = km_model(
        *state,
        "layers: 14\nhidden_size: 64\nintermediate_size: 128\nheads: 4\nvocab_size: 9\n"
        "window: 1k\nlayer_kinds:\n  wide: {head_dim: 32, window: 77, mixer: chunked}\n"
        "layer_types: [{repeat: 2, of: [sliding*4, full]}, \"wide, wide\", [full, none]]\n");
    static const enum mixer want[14] = {
        MIXER_SLIDING, MIXER_SLIDING, MIXER_SLIDING, MIXER_SLIDING, MIXER_FULL,
        MIXER_SLIDING, MIXER_SLIDING, MIXER_SLIDING, MIXER_SLIDING, MIXER_FULL,
        MIXER_CHUNKED, MIXER_CHUNKED, MIXER_FULL,    MIXER_NONE};

    for (uint32_t i = 0; i < 14; i++)
        assert_true(m.layers[i].attn.mixer == want[i]);
    kt_u64(m.layers[0].attn.window_tokens, 1024);
    kt_u64(m.layers[4].attn.window_tokens, 0);
    kt_u64(m.layers[10].attn.window_tokens, 77);
    kt_u64(m.layers[10].attn.v_dim, 32);
    kt_u64(m.layers[13].attn.heads, 0);
    km_round_trip(*state, &m);
}

/* layer_types alone says how many layers there are; a window alone makes every layer slide. */
static void test_implied(void **state)
{
    struct model m = km_model(*state, "{" SMALL ", layer_types: \"full*3\"}");
    struct model w = km_model(*state, "{layers: 2, " SMALL ", window: 16}");

    kt_u64(m.n_layers, 3);
    assert_true(w.layers[1].attn.mixer == MIXER_SLIDING);
    km_round_trip(*state, &w);
}

static void test_moe_and_dense(void **state)
{
    struct model m = km_model(
        *state, "{" SMALL ", moe: {experts: 8, top_k: 2, intermediate_size: 32}, "
                "layer_kinds: {dense: {moe: none}, both: {moe: {beside_dense: true}}}, "
                "layer_types: [dense, none*1, both, full]}");

    kt_u64(m.layers[0].ffn.intermediate, 128);
    kt_u64(m.layers[0].ffn.experts, 0);
    kt_u64(m.layers[2].ffn.intermediate, 128);
    kt_u64(m.layers[2].ffn.experts, 8);
    kt_u64(m.layers[3].ffn.intermediate, 0);
    km_round_trip(*state, &m);
}

static void test_everything(void **state)
{
    struct model m = km_model(
        *state,
        "name: \"a/b: c\"\naliases: [x]\nlayers: 6\nhidden_size: 64\nheads: 4\nkv_heads: 2\nhead_dim: 24\nv_head_dim: 8\n"
        "intermediate_size: 128\nvocab_size: 50\ntied_embeddings: true\nmlp: plain\nmlp_bias: true\n"
        "attention_bias: qvo\nqk_norm: full\nnorm: layer\nnorms_per_layer: 4\nsinks: true\nhead_gate: true\n"
        "output_gate: true\nhead_bias: true\nposition_rows: 7\nembed_width: 16\nfinal_norms: 0\ndtype: fp16\n"
        "max_position: 128k\nvector_params: 3\nmatrix_params: 65\nextra_matrix_params: 66\nextra_vector_params: 5\n"
        "per_layer_embedding_params: 44\nvision_params: 99\nmtp_layers: 1\nforward_passes: 7\nbackward_passes: 2\n"
        "force_no_diagonal: true\n"
        "layer_kinds:\n"
        "  mamba: {mixer: none, intermediate_size: 0, ssm: {kind: mamba2, heads: 2, head_dim: 8, state_dim: 4, groups: "
        "1, conv_kernel: 4, fp32_state: true}}\n"
        "  gdn: {mixer: none, ssm: {kind: gdn, k_heads: 2, k_dim: 8, v_heads: 2, v_dim: 8, conv_kernel: 4}}\n"
        "  mla: {mixer: latent, attention_bias: none, mla: {kv_lora_rank: 32, nope_dim: 16, rope_dim: 8, v_dim: 16}, "
        "indexer: {heads: 2, dim: 8, top_k: 16}}\n"
        "layer_types: [full*3, mamba, gdn, mla]\nkv_sources: [1, 1, 3, 0, 5, 0]\n"
        "quantization: {format: awq, method: awq, kv_format: fp8_e4m3, parts: [mlp, q], layers: [{first: 2, last: 3, "
        "parts: [mlp]}]}\n"
        "parameters: {stated: 1}\nsources: [one, \"two: 2\"]\nconfidence: secondary\n");

    kt_u64(m.max_position, 131072);
    kt_u64(m.layers[1].attn.kv_source, 0);
    kt_u64(m.layers[2].attn.kv_source, 2);
    assert_true(m.layers[0].attn.v_bias && !m.layers[0].attn.k_bias);
    assert_string_equal(m.sources, "one; two: 2");
    assert_string_equal(m.confidence, "secondary");
    assert_true(m.quant.layer_parts[1] == 1u << PART_MLP &&
                m.quant.layer_parts[0] == (1u << PART_MLP | 1u << PART_Q));
    km_round_trip(*state, &m);
}

/* What is written for one model, whole: the names of keys are part of the interface. */
static void test_written(void **state)
{
    struct model m = km_model(
        *state, "{layers: 5, name: x, hidden_size: 64, intermediate_size: 128, heads: 4, "
                "kv_heads: 2, vocab_size: 1000, window: 32, layer_types: [sliding*4, full], "
                "sources: \"here: 1\", confidence: primary}");

    kt_same(km_written(*state, &m),
            "name: x\nhidden_size: 64\nvocab_size: 1000\nlayers: 5\nmixer: sliding\nheads: 4\n"
            "kv_heads: 2\nhead_dim: 16\nwindow: 32\nintermediate_size: 128\n"
            "layer_types: [sliding*4, full]\nsources:\n  - \"here: 1\"\n"
            "confidence: primary\n");
}

static struct model overridden(struct kt *t, const char *base, const char *keys)
{
    struct model m = km_model(t, base);
    struct doc_node *doc = NULL;
    size_t n = 0;

    assert_true(doc_read_yaml(t->a, "o.yaml", keys, strlen(keys), t->d, &doc, 1, &n));
    if (!model_override(t->a, doc, t->d, &m)) {
        diag_print(t->d, 0, true, stderr);
        fail();
    }
    return m;
}

static void test_overrides(void **state)
{
    struct kt *t = *state;
    struct model m = overridden(t, "{layers: 4, " SMALL "}",
                                "{layers: 6, kv_heads: 2, config: x, tied_embeddings: yes}");

    kt_u64(m.n_layers, 6);
    kt_u64(m.layers[5].attn.kv_heads, 2);
    kt_u64(m.layers[5].attn.kv_source, 5);
    kt_u64(m.hidden, 64);
    assert_true(m.tied);
    kt_diag(t->d, "layers 5 to 6 repeat the first ones", 1);
    m = overridden(t, "{layers: 4, " SMALL "}", "{layers: 2, head_dim: 8}");
    kt_u64(m.n_layers, 2);
    kt_u64(m.layers[0].attn.v_dim, 8);
    m = overridden(
        t,
        "{" SMALL
        ", window: 8, layer_kinds: {m: {mixer: none, ssm: {kind: shortconv, conv_kernel: 3}}}, "
        "layer_types: [sliding, full, m]}",
        "{window: 9, heads: 8, qk_norm: head}");
    kt_u64(m.layers[0].attn.window_tokens, 9);
    kt_u64(m.layers[1].attn.window_tokens, 0);
    kt_u64(m.layers[1].attn.heads, 8);
    assert_true(m.layers[2].attn.mixer == MIXER_NONE && m.layers[2].attn.heads == 0);
    assert_true(m.layers[2].state.kind == STATE_SHORTCONV &&
                m.layers[0].state.kind == STATE_NONE);
    m = overridden(t, "{layers: 2, " SMALL "}", "{layer_types: [full, none]}");
    assert_true(m.layers[1].attn.mixer == MIXER_NONE);
    m = overridden(t, "{layers: 2, " SMALL "}",
                   "{kv_sources: [1, 1], quantization: {format: fp8}}");
    kt_u64(m.layers[1].attn.kv_source, 0);
    assert_string_equal(m.quant.format->name, "fp8");
}

struct bad {
    const char *yaml, *says;
};

static const struct bad bads[] = {
    {"{" SMALL "}", "required key 'layers' is missing in model"},
    {"[1]", "an inline model must be a map of keys"},
    {"{layers: 0, " SMALL "}", "'layers' must be between 1 and 4096, found 0"},
    {"{layers: 4097, " SMALL "}", "'layers' must be between 1 and 4096, found 4097"},
    {"{layers: -1, " SMALL "}", "'layers' must not be negative, found '-1'"},
    {"{layers: 2, hidden_size: 0, heads: 4, vocab_size: 9}",
     "hidden_size must be given and not be 0"},
    {"{layers: 2, hidden_size: 64, heads: 4}", "vocab_size must be given and not be 0"},
    {"{layers: 2, " SMALL ", kv_heads: 3}", "layer 1: 3 K/V heads do not divide 4 heads"},
    {"{layers: 2, " SMALL ", kv_heads: -3}",
     "'kv_heads' in model must not be negative, found '-3'"},
    {"{layers: 2, " SMALL ", kv_head: 2}",
     "unknown key 'kv_head' in model; did you mean 'kv_heads'?"},
    {"{layers: 2, hidden_size: 65, heads: 4, vocab_size: 9}",
     "layer 1: head_dim must be given: hidden_size 65 is no multiple of 4 heads"},
    {"{layers: 2, hidden_size: 99999999, heads: 4, vocab_size: 9}",
     "'hidden_size' in model must be between 0 and 16777216, found 99999999"},
    {"{layers: 2, " SMALL ", mixer: sliding}", "layer 1: a sliding layer needs a window"},
    {"{layers: 2, " SMALL ", mixer: slide}",
     "'mixer' in model must be one of none, full, sliding, chunked, latent"},
    {"{layers: 2, " SMALL ", attention_bias: qx}",
     "attention_bias must be letters of qkvo or none, found 'qx'"},
    {"{layers: 2, " SMALL ", mla: {nope_dim: 8}}", "mla needs 'kv_lora_rank'"},
    {"{layers: 2, " SMALL ", indexer: {heads: 8}}", "indexer needs 'dim'"},
    {"{layers: 2, " SMALL ", ssm: {heads: 8}}", "ssm needs 'kind'"},
    {"{layers: 2, " SMALL ", moe: {top_k: 8}}", "moe needs 'experts'"},
    {"{layers: 2, " SMALL ", moe: {experts: 0}}", "moe needs 'experts'"},
    {"{layers: 2, " SMALL ", mixer: latent, mla: {kv_lora_rank: 8, nope_dim: 8}}",
     "layer 1: v_dim must not be 0"},
    {"{layers: 2, " SMALL
     ", mla: {kv_lora_rank: 8, nope_dim: 8, v_dim: 8}, indexer: {dim: 8, top_k: 4}}",
     "layer 1: the heads of the indexer must not be 0"},
    {"{layers: 2, " SMALL ", ssm: {kind: mamba2}}", "layer 1: ssm.heads must not be 0"},
    {"{layers: 2, " SMALL ", ssm: {kind: mamba3}}", "'kind' in ssm must be one of"},
    {"{layers: 2, " SMALL ", ssm: {kind: mamba1, inner: 8, state_dim: 4, conv_kernel: 4}}",
     "layer 1: ssm.dt_rank must not be 0"},
    {"{layers: 2, " SMALL ", ssm: {kind: gdn}}", "layer 1: ssm.k_heads must not be 0"},
    {"{layers: 2, " SMALL ", ssm: {kind: lightning}}", "layer 1: ssm.heads must not be 0"},
    {"{layers: 2, " SMALL ", ssm: {kind: kda}}", "layer 1: ssm.conv_kernel must not be 0"},
    {"{layers: 2, " SMALL ", ssm: {kind: shortconv}}",
     "layer 1: ssm.conv_kernel must not be 0"},
    {"{layers: 2, " SMALL ", ssm: {kind: gmu}}", "layer 1: ssm.inner must not be 0"},
    {"{layers: 2, " SMALL ", moe: {experts: 4, top_k: 5, intermediate_size: 8}}",
     "layer 1: a token cannot use 5 of 4 experts"},
    {"{layers: 2, " SMALL ", moe: {experts: 4, top_k: 2}}",
     "layer 1: moe.intermediate_size must not be 0"},
    {"{layers: 2, " SMALL ", moe: {experts: 4, intermediate_size: 2}}",
     "layer 1: moe.top_k must not be 0"},
    {"{layers: 2, " SMALL ", moe: 4}", "moe: expected a map of keys, found '4'"},
    {"{layers: 2, " SMALL ", layer_types: [full]}", "layer_types has 1 entries for 2 layers"},
    {"{layers: 2, " SMALL ", layer_types: [full, half]}",
     "layer type 'half' is neither in layer_kinds nor one of full, sliding, chunked, latent, none"},
    {"{layers: 2, " SMALL ", layer_types: [full*0]}",
     "'layer_types' must be between 1 and 4096, found 0"},
    {"{layers: 2, " SMALL ", layer_types: [full*x]}",
     "'layer_types': expected a whole number, found 'x'"},
    {"{" SMALL ", layer_types: [full*4096, full]}", "layer_types has more than 4096 layers"},
    {"{" SMALL ", layer_types: [{repeat: 2}]}",
     "a map in layer_types must be {repeat: TIMES, of: [TYPES]}"},
    {"{layers: 2, " SMALL ", layer_kinds: [a]}",
     "layer_kinds must be a map of names to layers"},
    {"{layers: 2, " SMALL ", layer_kinds: {a: {layers: 2}}}",
     "unknown key 'layers' in layer_kinds.a"},
    {"{layers: 2, " SMALL ", kv_sources: [1]}", "kv_sources has 1 entries for 2 layers"},
    {"{layers: 2, " SMALL ", kv_sources: [1, 3]}", "kv_sources: layer 2 reads layer 3 of 2"},
    {"{layers: 2, " SMALL ", kv_sources: [2, 1]}",
     "layer 1: it reads the K/V of layer 2, which reads those of layer 1"},
    {"{" SMALL ", layer_types: [none, full], kv_sources: [1, 1]}",
     "layer 2: it reads the K/V of layer 1, which has no attention"},
    {"{" SMALL ", layer_kinds: {w: {kv_heads: 2}}, layer_types: [full, w], kv_sources: [1, 1]}",
     "layer 2: it reads the K/V of layer 1, which are of another shape"},
    {"{layers: 2, " SMALL ", dtype: fp8}", "dtype must be bf16, fp16 or fp32, found 'fp8'"},
    {"{layers: 2, " SMALL ", confidence: sure}",
     "'confidence' in model must be one of primary, secondary, unverified"},
    {"{layers: 2, " SMALL ", quantization: {format: fp7}}", "weight format 'fp7' is not known"},
    {"{layers: 2, " SMALL ", quantization: {method: fp8}}",
     "required key 'format' is missing in quantization"},
    {"{layers: 2, " SMALL ", quantization: {format: fp8, parts: [mlps]}}",
     "'mlps' is no part of a model"},
    {"{layers: 2, " SMALL ", quantization: {format: fp8, parts: mlp}}",
     "'parts' in quantization must be a list of parts"},
    {"{layers: 2, " SMALL ", quantization: {format: fp8, layers: 3}}",
     "'layers' in quantization must be a list"},
    {"{layers: 2, " SMALL
     ", quantization: {format: fp8, layers: [{first: 2, last: 3, parts: []}]}}",
     "quantization.layers: 2 to 3 of 2 layers"},
    {"{layers: 4096, hidden_size: 16777216, intermediate_size: 16777216, heads: 16777216, head_dim: 16777216, "
     "vocab_size: 16777216}",
     "the parameter count overflows 64 bits"},
};

static void test_rejected(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bads / sizeof *bads; i++) {
        struct kt t = {arena_new(), NULL};
        struct model m;

        t.d = diag_new(t.a);
        if (km_inline(&t, bads[i].yaml, &m) || !diag_failed(t.d))
            fail_msg("accepted: %s", bads[i].yaml);
        kt_diag(t.d, bads[i].says, 0);
        arena_free(t.a);
    }
}

/* All problems are reported, not the first; equal layers once. */
static void test_all_reported(void **state)
{
    struct kt *t = *state;
    struct model m;

    assert_false(km_inline(t,
                           "{layers: 2, " SMALL
                           ", kv_heads: 3, moe: {experts: 2, top_k: 3, intermediate_size: 8}}",
                           &m));
    kt_u64(diag_errors(t->d), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_minimal),       kt_test(test_types),      kt_test(test_implied),
        kt_test(test_moe_and_dense), kt_test(test_everything), kt_test(test_written),
        kt_test(test_overrides),     kt_test(test_rejected),   kt_test(test_all_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
