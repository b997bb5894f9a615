/* Gemma 1 and 2: tied embeddings; Gemma 2 has four norms a layer, caps on scores and logits,
 * and slides on every second layer, the first one included. */
#include "planner/model/family.h"

#include <string.h>

static void read(struct config *c, struct model *m)
{
    static const struct config_default defaults[] = {{"head_dim", 256}, {NULL, 0}};
    bool second = strcmp(m->model_type, "gemma2") == 0;

    c->defaults = defaults;
    m->tied = true;
    if (!family_read_llama_like(c, m) || !second)
        return;
    m->score_cap = config_cap(c, "attn_logit_softcapping", 50);
    m->logit_cap = config_cap(c, "final_logit_softcapping", 30);
    family_set_norms(m, 4);
    family_read_windows(c, m, config_u32(c, "sliding_window", 4096), 2);
}

static const char *const types[] = {"gemma", "gemma2", NULL};

const struct family family_gemma = {
    .name = "gemma",
    .model_types = types,
    .summary = "Gemma 1 and 2",
    .source = "huggingface/transformers src/transformers/models/gemma, gemma2",
    .read = read,
};
