/* OLMo: 1 (norms without parameters), 2 and 3 (q/k norms over the full width; 3 slides on three
 * layers of four), OLMoE (the same with experts). */
#include "planner/model/family.h"

#include <string.h>

static void read(struct config *c, struct model *m)
{
    if (!family_read_llama_like(c, m))
        return;
    if (strcmp(m->model_type, "olmo") == 0) {
        m->final_norms = 0;
        family_set_norms(m, 0);
        return;
    }
    family_set_qk_norm(m, QK_NORM_FULL);
    if (strcmp(m->model_type, "olmo3") == 0)
        family_read_windows(c, m, config_u32(c, "sliding_window", 4096), 4);
    if (strcmp(m->model_type, "olmoe") == 0)
        family_set_moe(
            m, &(struct family_moe){.experts = config_u32(c, "num_experts", 64),
                                    .top_k = config_u32(c, "num_experts_per_tok", 8),
                                    .intermediate = config_need(c, "intermediate_size")});
}

static const char *const types[] = {"olmo", "olmo2", "olmo3", "olmoe", NULL};

const struct family family_olmo = {
    .name = "olmo",
    .model_types = types,
    .summary = "OLMo 1 to 3 and OLMoE",
    .source = "huggingface/transformers src/transformers/models/olmo, olmo2, olmo3, olmoe",
    .read = read,
};
