/* Phi-1 to 2 (parallel block with one LayerNorm, biases everywhere) and Phi-3 and 4 (Llama's
 * shape). */
#include "planner/model/family.h"

#include <string.h>

static void read_phi2(struct config *c, struct model *m)
{
    if (!family_read_llama_like(c, m))
        return;
    m->norm = NORM_LAYER;
    m->head_bias = true;
    family_set_norms(m, 1);
    family_set_bias(m, "qkvo");
    family_set_mlp(m, false, true);
}

static void read(struct config *c, struct model *m)
{
    if (strcmp(m->model_type, "phi") == 0) {
        read_phi2(c, m);
        return;
    }
    if (family_read_llama_like(c, m))
        family_read_windows(c, m, config_u32(c, "sliding_window", 0), 0);
}

static const char *const types[] = {"phi", "phi3", NULL};

const struct family family_phi = {
    .name = "phi",
    .model_types = types,
    .summary = "Phi-2, Phi-3, Phi-3.5 and Phi-4",
    .source = "huggingface/transformers src/transformers/models/phi, phi3",
    .read = read,
};
