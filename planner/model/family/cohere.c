/* Command-R, Aya (parallel block with one LayerNorm without bias, tied) and Command-R7B (three
 * sliding layers to a full one). */
#include "planner/model/family.h"

#include <string.h>

static void read(struct config *c, struct model *m)
{
    m->tied = true;
    if (!family_read_llama_like(c, m))
        return;
    m->norm = NORM_LAYER_NO_BIAS;
    family_set_norms(m, 1);
    if (config_bool(c, "use_qk_norm", false))
        family_set_qk_norm(m, QK_NORM_FULL);
    if (strcmp(m->model_type, "cohere2") == 0)
        family_read_windows(c, m, config_u32(c, "sliding_window", 4096),
                            config_u32(c, "sliding_window_pattern|_sliding_window_pattern", 4));
}

static const char *const types[] = {"cohere", "cohere2", NULL};

const struct family family_cohere = {
    .name = "cohere",
    .model_types = types,
    .summary = "Command-R, Command-R+, Aya, Command-R7B",
    .source = "huggingface/transformers src/transformers/models/cohere, cohere2",
    .read = read,
};
