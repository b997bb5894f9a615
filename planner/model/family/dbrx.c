/* DBRX: keys nested in attn_config and ffn_config, LayerNorm without bias. */
#include "planner/model/family.h"

static void read(struct config *c, struct model *m)
{
    if (!family_read_llama_like(c, m))
        return;
    m->norm = NORM_LAYER_NO_BIAS;
    family_set_moe(m, &(struct family_moe){
                          .experts = config_u32(c, "ffn_config.moe_num_experts", 4),
                          .top_k = config_u32(c, "ffn_config.moe_top_k", 1),
                          .intermediate = config_u32(c, "ffn_config.ffn_hidden_size", 3584)});
}

static const char *const types[] = {"dbrx", NULL};

const struct family family_dbrx = {
    .name = "dbrx",
    .model_types = types,
    .summary = "DBRX",
    .source =
        "huggingface/transformers src/transformers/models/dbrx; databricks/dbrx@a3200393 model/config.json",
    .read = read,
};
