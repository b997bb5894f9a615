/* GPT-2 (learned positions, tied) and GPT-J (parallel block with one norm, biases on MLP and
 * head only). */
#include "planner/model/family.h"

#include <string.h>

static void read(struct config *c, struct model *m)
{
    bool second = strcmp(m->model_type, "gpt2") == 0;
    uint32_t width;

    m->tied = second;
    if (!family_read_llama_like(c, m))
        return;
    width = config_u32(c, "n_inner", 4 * m->hidden);
    m->norm = NORM_LAYER;
    m->head_bias = !second;
    m->position_rows = second ? m->max_position : 0;
    if (second && m->max_position == 0)
        config_error(c, NULL, "the config has no n_positions");
    family_set_mlp(m, false, true);
    for (uint32_t i = 0; i < m->n_layers; i++)
        m->layers[i].ffn.intermediate = width;
    if (second)
        family_set_bias(m, "qkvo");
    else
        family_set_norms(m, 1);
}

static const char *const types[] = {"gpt2", "gptj", NULL};

const struct family family_gpt2 = {
    .name = "gpt2",
    .model_types = types,
    .summary = "GPT-2 and GPT-J",
    .source =
        "huggingface/transformers src/transformers/models/gpt2, gptj (n_inner null = 4 n_embd)",
    .read = read,
};
