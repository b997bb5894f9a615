/* OPT: learned positions with an offset of two, LayerNorm, biases everywhere, tied; the 350m
 * embeds narrow and has its norms after the blocks, so no final one. */
#include "planner/model/family.h"

enum { POSITION_OFFSET = 2 };

static void read(struct config *c, struct model *m)
{
    uint32_t narrow;
    bool bias = config_bool(c, "enable_bias", true);

    m->tied = true;
    if (!family_read_llama_like(c, m))
        return;
    narrow = config_u32(c, "word_embed_proj_dim", m->hidden);
    m->norm = NORM_LAYER;
    m->embed_width = narrow != m->hidden ? narrow : 0;
    m->position_rows = m->max_position + POSITION_OFFSET;
    m->final_norms = config_bool(c, "do_layer_norm_before", true) ? 1 : 0;
    family_set_bias(m, bias ? "qkvo" : "");
    family_set_mlp(m, false, bias);
}

static const char *const types[] = {"opt", NULL};

const struct family family_opt = {
    .name = "opt",
    .model_types = types,
    .summary = "OPT",
    .source = "huggingface/transformers src/transformers/models/opt",
    .read = read,
};
