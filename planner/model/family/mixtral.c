/* Mixtral: Mistral's attention, experts on every layer. */
#include "planner/model/family.h"

static void read(struct config *c, struct model *m)
{
    static const struct config_default defaults[] = {{"num_key_value_heads", 8}, {NULL, 0}};

    c->defaults = defaults;
    if (!family_read_llama_like(c, m))
        return;
    family_set_moe(m,
                   &(struct family_moe){.experts = config_u32(c, "num_local_experts", 8),
                                        .top_k = config_u32(c, "num_experts_per_tok", 2),
                                        .intermediate = config_need(c, "intermediate_size")});
    family_read_windows(c, m, config_u32(c, "sliding_window", 0), 0);
}

static const char *const types[] = {"mixtral", NULL};

const struct family family_mixtral = {
    .name = "mixtral",
    .model_types = types,
    .summary = "Mixtral 8x7B and 8x22B",
    .source = "huggingface/transformers src/transformers/models/mixtral",
    .read = read,
};
