/* MiMo-V2-Flash: full layers with 4 K/V heads, sliding ones with 8 and attention sinks, keys
 * 192 and values 128 wide; experts on all layers but those moe_layer_freq names. Unverified: no
 * parameter total was checked. */
#include "planner/model/family.h"

#include <string.h>

static bool listed(const struct config *c, const char *key, uint32_t i, bool fallback)
{
    const struct doc_node *n = config_item(c, key, i);

    return n && n->kind == DOC_SCALAR ? strcmp(n->text, "0") != 0 : fallback;
}

static void set_sliding(struct config *c, struct model *m, uint32_t i)
{
    struct attention *a = &m->layers[i].attn;

    a->mixer = MIXER_SLIDING;
    a->window_tokens = config_u32(c, "sliding_window|sliding_window_size", 128);
    a->heads = config_u32(c, "swa_num_attention_heads", a->heads);
    a->kv_heads = config_u32(c, "swa_num_key_value_heads", 8);
    a->k_dim = config_u32(c, "swa_head_dim", a->k_dim);
    a->v_dim = config_u32(c, "swa_v_head_dim", a->v_dim);
    a->sinks = config_bool(c, "add_swa_attention_sink_bias", true);
}

static void read(struct config *c, struct model *m)
{
    struct ffn moe = {.gated = true, .router_bias = true};

    if (!family_read_llama_like(c, m))
        return;
    m->confidence = "unverified";
    moe.experts = config_u32(c, "n_routed_experts", 256);
    moe.top_k = config_u32(c, "num_experts_per_tok", 8);
    moe.moe_intermediate = config_need(c, "moe_intermediate_size");
    if (!config_has(c, "hybrid_layer_pattern"))
        config_error(c, NULL, "the config has no hybrid_layer_pattern");
    for (uint32_t i = 0; i < m->n_layers; i++) {
        if (listed(c, "hybrid_layer_pattern", i, false))
            set_sliding(c, m, i);
        if (listed(c, "moe_layer_freq", i, i > 0))
            m->layers[i].ffn = moe;
    }
}

static const char *const types[] = {"mimo_v2_flash", "mimo_v2", NULL};

const struct family family_mimo_v2 = {
    .name = "mimo_v2",
    .model_types = types,
    .summary = "MiMo-V2-Flash",
    .source = "XiaomiMiMo/MiMo-V2-Flash configuration; sgl-project/sglang models/mimo_v2",
    .read = read,
};
