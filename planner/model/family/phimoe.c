/* Phi-3.5-MoE and Phi-mini-MoE: LayerNorm with biases, biases on the projections and on the
 * head. */
#include "planner/model/family.h"

static void read(struct config *c, struct model *m)
{
    if (!family_read_llama_like(c, m))
        return;
    m->norm = NORM_LAYER;
    m->head_bias = config_bool(c, "lm_head_bias", true);
    family_set_bias(m, config_bool(c, "attention_bias", true) ? "qkvo" : "");
    family_set_moe(m,
                   &(struct family_moe){.experts = config_u32(c, "num_local_experts", 16),
                                        .top_k = config_u32(c, "num_experts_per_tok", 2),
                                        .intermediate = config_need(c, "intermediate_size")});
    family_read_windows(c, m, config_u32(c, "sliding_window", 0), 0);
}

static const char *const types[] = {"phimoe", NULL};

const struct family family_phimoe = {
    .name = "phimoe",
    .model_types = types,
    .summary = "Phi-3.5-MoE and Phi-mini-MoE",
    .source = "huggingface/transformers src/transformers/models/phimoe",
    .read = read,
};
