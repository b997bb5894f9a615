/* GPT-NeoX and Pythia: LayerNorm, biases everywhere, a plain MLP. */
#include "planner/model/family.h"

static void read(struct config *c, struct model *m)
{
    if (!family_read_llama_like(c, m))
        return;
    m->norm = NORM_LAYER;
    family_set_bias(m, config_bool(c, "attention_bias", true) ? "qkvo" : "");
    family_set_mlp(m, false, true);
}

static const char *const types[] = {"gpt_neox", NULL};

const struct family family_gpt_neox = {
    .name = "gpt_neox",
    .model_types = types,
    .summary = "GPT-NeoX and Pythia",
    .source = "huggingface/transformers src/transformers/models/gpt_neox",
    .read = read,
};
