/* DeepSeek MoE (plain attention), V2, V3, R1, V3.2, and models of their shape: Kimi-K2, GLM-5.
 * First layers dense, then fine-grained experts with shared ones; V3 adds a router correction
 * bias, V3.2 and GLM-5 an indexer. */
#include "planner/model/family.h"

#include <string.h>

static bool is(const struct model *m, const char *type)
{
    return strcmp(m->model_type, type) == 0;
}

static void set_experts(struct config *c, struct model *m)
{
    uint32_t width = config_need(c, "moe_intermediate_size");
    const struct doc_node *topk = config_find(c, "topk_method");
    bool old = is(m, "deepseek") || is(m, "deepseek_v2");
    bool noaux = topk && topk->kind == DOC_SCALAR && strcmp(topk->text, "noaux_tc") == 0;

    family_set_moe(
        m, &(struct family_moe){.experts = config_u32(c, "n_routed_experts", 0),
                                .top_k = config_u32(c, "num_experts_per_tok", 8),
                                .intermediate = width,
                                .shared = width * config_u32(c, "n_shared_experts", 0),
                                .first = config_u32(c, "first_k_dense_replace", old ? 0 : 3),
                                .step = config_u32(c, "moe_layer_freq", 1),
                                .router_bias = noaux || !old});
}

static void read(struct config *c, struct model *m)
{
    uint32_t width;

    if (is(m, "deepseek")) {
        if (family_read_llama_like(c, m))
            set_experts(c, m);
        return;
    }
    if (!family_read_size(c, m))
        return;
    family_read_latent(c, m);
    width = config_u32(c, "intermediate_size", 0);
    for (uint32_t i = 0; i < m->n_layers; i++) {
        m->layers[i].norms = 2;
        m->layers[i].ffn = (struct ffn){.intermediate = width, .gated = true};
    }
    set_experts(c, m);
    family_read_vision(c, m);
}

static const char *const types[] = {"deepseek",     "deepseek_v2",   "deepseek_v3",
                                    "deepseek_v32", "kimi_k2",       "kimi_k25",
                                    "glm_moe_dsa",  "glm4_moe_lite", NULL};

const struct family family_deepseek = {
    .name = "deepseek",
    .model_types = types,
    .summary = "DeepSeek MoE, V2, V3, R1, V3.2; Kimi-K2 and K2.5; GLM-5",
    .source =
        "huggingface/transformers src/transformers/models/deepseek_v2, deepseek_v3, glm_moe_dsa; "
        "deepseek-ai/DeepSeek-V3@9b4e9788 inference; arXiv:2405.04434",
    .read = read,
};
