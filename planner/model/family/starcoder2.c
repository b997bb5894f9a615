/* StarCoder2: LayerNorm, biases everywhere, a plain MLP, a window on every layer. */
#include "planner/model/family.h"

static void read(struct config *c, struct model *m)
{
    bool bias = config_bool(c, "use_bias", true);

    m->tied = true;
    if (!family_read_llama_like(c, m))
        return;
    m->norm = NORM_LAYER;
    family_set_bias(m, bias ? "qkvo" : "");
    family_set_mlp(m, false, bias);
    family_read_windows(c, m, config_u32(c, "sliding_window", 0), 0);
}

static const char *const types[] = {"starcoder2", NULL};

const struct family family_starcoder2 = {
    .name = "starcoder2",
    .model_types = types,
    .summary = "StarCoder2",
    .source = "huggingface/transformers src/transformers/models/starcoder2",
    .read = read,
};
