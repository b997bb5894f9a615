/* Qwen3-Next and Qwen3.5: three gated delta net layers to one of gated attention; the output
 * gate doubles the q projection. */
#include "planner/model/family.h"

#include <string.h>

static bool is_linear(struct config *c, uint32_t i)
{
    const struct doc_node *t = config_item(c, "layer_types", i);
    uint32_t every;

    if (t && t->kind == DOC_SCALAR)
        return strcmp(t->text, "linear_attention") == 0;
    every = config_u32(c, "full_attention_interval", 4);
    return every == 0 || (i + 1) % every != 0;
}

static void set_mixers(struct config *c, struct model *m)
{
    struct state s = {
        .kind = STATE_GDN,
        .conv_kernel = config_u32(c, "linear_conv_kernel_dim", 4),
        .k_heads = config_u32(c, "linear_num_key_heads", 16),
        .k_dim = config_u32(c, "linear_key_head_dim", 128),
        .v_heads = config_u32(c, "linear_num_value_heads", 32),
        .v_dim = config_u32(c, "linear_value_head_dim", 128),
        .fp32_state = strcmp(config_text(c, "mamba_ssm_dtype", ""), "float32") == 0,
    };

    for (uint32_t i = 0; i < m->n_layers; i++) {
        if (is_linear(c, i)) {
            m->layers[i].attn = (struct attention){.mixer = MIXER_NONE, .kv_source = i};
            m->layers[i].state = s;
        } else {
            m->layers[i].attn.output_gate = true;
            m->layers[i].attn.qk_norm = QK_NORM_HEAD;
        }
    }
}

static void read(struct config *c, struct model *m)
{
    static const struct config_default defaults[] = {{"head_dim", 256}, {NULL, 0}};
    bool moe = !strstr(m->model_type, "qwen3_5") || strstr(m->model_type, "moe");

    c->defaults = defaults;
    if (!family_read_llama_like(c, m))
        return;
    if (moe)
        family_set_moe(m, &(struct family_moe){
                              .experts = config_u32(c, "num_experts", 512),
                              .top_k = config_u32(c, "num_experts_per_tok", 10),
                              .intermediate = config_need(c, "moe_intermediate_size"),
                              .shared = config_u32(c, "shared_expert_intermediate_size", 512),
                              .shared_gate = true});
    set_mixers(c, m);
    family_read_vision(c, m);
}

static const char *const types[] = {"qwen3_next",  "qwen3_5",          "qwen3_5_text",
                                    "qwen3_5_moe", "qwen3_5_moe_text", NULL};

const struct family family_qwen3_next = {
    .name = "qwen3_next",
    .model_types = types,
    .summary = "Qwen3-Next and Qwen3.5: gated delta net with gated attention",
    .source =
        "huggingface/transformers src/transformers/models/qwen3_next, qwen3_5; arXiv:2412.06464",
    .read = read,
};
