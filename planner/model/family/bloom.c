/* BLOOM: ALiBi, LayerNorm also on the embedding, biases everywhere, tied. */
#include "planner/model/family.h"

static void read(struct config *c, struct model *m)
{
    m->tied = true;
    if (!family_read_llama_like(c, m))
        return;
    m->norm = NORM_LAYER;
    m->alibi = true;
    m->vector_params_extra = 2 * (uint64_t)m->hidden; /* the norm of the embedding */
    family_set_bias(m, "qkvo");
    family_set_mlp(m, false, true);
    for (uint32_t i = 0; i < m->n_layers; i++)
        m->layers[i].ffn.intermediate = 4 * m->hidden;
}

static const char *const types[] = {"bloom", NULL};

const struct family family_bloom = {
    .name = "bloom",
    .model_types = types,
    .summary = "BLOOM",
    .source = "huggingface/transformers src/transformers/models/bloom",
    .read = read,
};
