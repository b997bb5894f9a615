/* InternLM: the first with biases on all projections, the second without (its fused wqkv has
 * the same parameters). */
#include "planner/model/family.h"

#include <string.h>

static void read(struct config *c, struct model *m)
{
    bool first = strcmp(m->model_type, "internlm") == 0;

    if (!family_read_llama_like(c, m))
        return;
    family_set_bias(m, config_bool(c, "bias", first) ? "qkvo" : "");
}

static const char *const types[] = {"internlm", "internlm2", NULL};

const struct family family_internlm = {
    .name = "internlm",
    .model_types = types,
    .summary = "InternLM and InternLM2",
    .source = "internlm/internlm-7b and internlm2-7b configuration files",
    .read = read,
};
