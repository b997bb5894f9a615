/* MPT: LayerNorm without bias, no biases anywhere, tied; ALiBi, or learned positions without
 * it. */
#include "planner/model/family.h"

static void read(struct config *c, struct model *m)
{
    bool bias = !config_bool(c, "no_bias", true);
    bool alibi = config_bool(c, "attn_config.alibi", true);
    uint32_t ratio = config_u32(c, "expansion_ratio", 4);

    m->tied = true;
    if (!family_read_llama_like(c, m))
        return;
    m->norm = bias ? NORM_LAYER : NORM_LAYER_NO_BIAS;
    m->alibi = alibi;
    if (!alibi && config_bool(c, "learned_pos_emb", true))
        m->position_rows = m->max_position;
    family_set_bias(m, bias ? "qkvo" : "");
    family_set_mlp(m, false, bias);
    for (uint32_t i = 0; i < m->n_layers; i++)
        m->layers[i].ffn.intermediate = ratio * m->hidden;
    if (config_bool(c, "attn_config.qk_ln", false))
        family_set_qk_norm(m, QK_NORM_FULL);
}

static const char *const types[] = {"mpt", NULL};

const struct family family_mpt = {
    .name = "mpt",
    .model_types = types,
    .summary = "MPT",
    .source = "huggingface/transformers src/transformers/models/mpt",
    .read = read,
};
