/* validate_blocks: what blocks are made of, beyond Llama's, in the decoder and in a plain one
 * in double precision: norms, gates, sinks, stretches, embeddings and kinds of experts. */
#include "tests/kvfollow.h"

/* What blocks are made of, beyond Llama's. */
static void blocks(void **state)
{
    static const struct kd_rule none;
    static const char *const models[] = {
        "norm: layer, mlp: plain, mlp_bias: true, attention_bias: qkvo, position_rows: 64, "
        "tied_embeddings: true",
        "norm: layer, norms_per_layer: 1, mlp: plain, head_bias: true",
        "norm: layer_no_bias, norms_per_layer: 1",
        "norm: layer, final_norms: 0, embed_width: 32, attention_bias: qkvo",
        "norm: layer, extra_vector_params: 128, mlp_bias: true",
        "norm: layer_no_bias, final_norms: 0, norms_per_layer: 0",
        "norms_per_layer: 4, k_eq_v: true, qk_norm: head",
        "sinks: true, window: 12",
        "score_cap: 2, logit_cap: 3",
        "alibi: true, norm: layer_no_bias",
        "output_gate: true, attention_bias: qkv",
        "head_gate: true",
        "mixer: chunked, window: 16",
        "vision_params: 1001, matrix_params: 128, extra_matrix_params: 64",
        "norms_per_layer: 5, per_layer_embedding_params: 3072, extra_vector_params: 16, "
        "extra_matrix_params: 2048, matrix_params: 2048, vector_params: 1",
        "norms_per_layer: 8, per_layer_embedding_params: 2560, extra_vector_params: 16, "
        "extra_matrix_params: 2176, matrix_params: 2560, vector_params: 8",
    };

    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char yaml[512];
        snprintf(yaml, sizeof yaml, "model: {layers: 2, %s, " MODEL "}\n" REST, models[i]);
        right(*state, yaml, none, i % 3 ? 0 : 16);
    }
}

/* Every token takes every expert, so that the draw does not matter. */
static void mixtures(void **state)
{
    static const struct kd_rule none;
    static const char *const models[] = {
        "sinks: true, moe: {experts: 3, top_k: 3, intermediate_size: 32, router_bias: true, "
        "expert_bias: true}",
        "intermediate_size: 48, norms_per_layer: 7, vector_params: 1, moe: {experts: 3, "
        "top_k: 3, intermediate_size: 32, beside_dense: true, router_extra_params: 67}",
        "intermediate_size: 48, norms_per_layer: 4, moe: {experts: 3, top_k: 3, "
        "intermediate_size: 32, beside_dense: true}",
        "norms_per_layer: 1, moe: {experts: 3, top_k: 3, intermediate_size: 32, "
        "shared_intermediate_size: 24}",
        "moe: {experts: 3, top_k: 3, intermediate_size: 32, shared_intermediate_size: 40, "
        "latent: 32}",
    };

    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char yaml[512];
        snprintf(yaml, sizeof yaml, "model: {layers: 2, hidden_size: 64, %s, " HEAD "}\n" REST,
                 models[i]);
        right(*state, yaml, none, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {kk_test(blocks), kk_test(mixtures)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
