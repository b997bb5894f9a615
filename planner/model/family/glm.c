/* GLM-4 (dense) and GLM-4.5 to 4.7 (mixture): biases on q, k and v; the old ChatGLM keys too.
 * GLM-5 is of DeepSeek's shape. */
#include "planner/model/family.h"

#include <string.h>

static void read_chatglm(struct config *c, struct model *m)
{
    if (!family_read_llama_like(c, m))
        return;
    if (config_bool(c, "multi_query_attention", false)) {
        uint32_t groups = config_need(c, "multi_query_group_num");

        for (uint32_t i = 0; i < m->n_layers; i++)
            m->layers[i].attn.kv_heads = groups;
    }
    family_set_bias(m, config_bool(c, "add_qkv_bias", false) ? "qkv" : "");
}

static void read_moe(struct config *c, struct model *m)
{
    uint32_t width = config_need(c, "moe_intermediate_size");

    if (config_bool(c, "use_qk_norm", false))
        family_set_qk_norm(m, QK_NORM_HEAD);
    family_set_moe(m,
                   &(struct family_moe){.experts = config_u32(c, "n_routed_experts", 128),
                                        .top_k = config_u32(c, "num_experts_per_tok", 8),
                                        .intermediate = width,
                                        .shared = width * config_u32(c, "n_shared_experts", 1),
                                        .first = config_u32(c, "first_k_dense_replace", 1),
                                        .router_bias = true});
}

static void read(struct config *c, struct model *m)
{
    static const struct config_default defaults[] = {{"head_dim", 128}, {NULL, 0}};

    c->defaults = defaults;
    if (strcmp(m->model_type, "chatglm") == 0) {
        read_chatglm(c, m);
        return;
    }
    if (!family_read_llama_like(c, m))
        return;
    family_set_bias(m, config_bool(c, "attention_bias", false) ? "qkv" : "");
    if (strcmp(m->model_type, "glm4") == 0)
        family_set_norms(m, 4);
    if (strstr(m->model_type, "moe"))
        read_moe(c, m);
}

static const char *const types[] = {"glm", "glm4", "glm4_moe", "chatglm", NULL};

const struct family family_glm = {
    .name = "glm",
    .model_types = types,
    .summary = "GLM-4, GLM-4.5, ChatGLM",
    .source = "huggingface/transformers src/transformers/models/glm, glm4, glm4_moe",
    .read = read,
};
