/* Qwen3, dense, mixture and VL: q/k norms a head, no biases. */
#include "planner/model/family.h"

#include <string.h>

static void keep_dense(struct config *c, struct model *m, uint32_t width)
{
    const struct doc_node *list = config_find(c, "mlp_only_layers");

    for (const struct doc_node *n = list && list->kind == DOC_LIST ? list->first : NULL; n;
         n = n->next) {
        uint32_t i = 0;

        if (!doc_u32(n, 0, m->n_layers - 1, c->d, &i))
            c->ok = false;
        else
            m->layers[i].ffn = (struct ffn){.intermediate = width, .gated = true};
    }
}

static void set_experts(struct config *c, struct model *m)
{
    uint32_t step = config_u32(c, "decoder_sparse_step", 1);

    family_set_moe(
        m, &(struct family_moe){.experts = config_u32(c, "num_experts|num_local_experts", 128),
                                .top_k = config_u32(c, "num_experts_per_tok", 8),
                                .intermediate = config_need(c, "moe_intermediate_size"),
                                .step = step,
                                .offset = step ? step - 1 : 0});
    keep_dense(c, m, config_u32(c, "intermediate_size", 0));
}

static void read(struct config *c, struct model *m)
{
    static const struct config_default defaults[] = {{"head_dim", 128}, {NULL, 0}};
    bool moe = strstr(m->model_type, "moe") != NULL;

    c->defaults = moe ? NULL : defaults;
    if (!family_read_llama_like(c, m))
        return;
    family_set_qk_norm(m, QK_NORM_HEAD);
    if (moe)
        set_experts(c, m);
    if (config_bool(c, "use_sliding_window", false))
        family_read_windows(c, m, config_u32(c, "sliding_window", 4096), 1);
    family_read_vision(c, m);
}

static const char *const types[] = {
    "qwen3",        "qwen3_moe",         "qwen3_vl", "qwen3_vl_text",
    "qwen3_vl_moe", "qwen3_vl_moe_text", NULL};

const struct family family_qwen3 = {
    .name = "qwen3",
    .model_types = types,
    .summary = "Qwen3, dense, mixture and VL",
    .source = "huggingface/transformers src/transformers/models/qwen3, qwen3_moe, qwen3_vl",
    .read = read,
};
