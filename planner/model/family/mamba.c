/* Mamba, Falcon-Mamba (first generation) and Mamba-2: no attention, one norm a layer. */
#include "planner/model/family.h"

#include <string.h>

static uint32_t dt_rank(struct config *c, const struct model *m)
{
    const struct doc_node *n = config_find(c, "time_step_rank");
    bool named = n && n->kind == DOC_SCALAR && n->text[0] >= '0' && n->text[0] <= '9';

    return named ? config_u32(c, "time_step_rank", 0) : (m->hidden + 15) / 16;
}

static struct state first(struct config *c, const struct model *m)
{
    return (struct state){.kind = STATE_MAMBA1,
                          .inner = config_u32(c, "intermediate_size|d_inner",
                                              m->hidden * config_u32(c, "expand", 2)),
                          .state_dim = config_u32(c, "state_size", 16),
                          .conv_kernel = config_u32(c, "conv_kernel", 4),
                          .dt_rank = dt_rank(c, m)};
}

static struct state second(struct config *c, const struct model *m)
{
    struct state s = {.kind = STATE_MAMBA2,
                      .head_dim = config_u32(c, "head_dim", 64),
                      .state_dim = config_u32(c, "state_size", 128),
                      .groups = config_u32(c, "n_groups", 8),
                      .conv_kernel = config_u32(c, "conv_kernel", 4)};
    uint32_t inner = m->hidden * config_u32(c, "expand", 2);

    s.heads = config_u32(c, "num_heads", s.head_dim ? inner / s.head_dim : 0);
    return s;
}

static void read(struct config *c, struct model *m)
{
    bool two = strcmp(m->model_type, "mamba2") == 0;
    struct state s;

    m->tied = !two;
    if (!family_read_size(c, m))
        return;
    s = two ? second(c, m) : first(c, m);
    for (uint32_t i = 0; i < m->n_layers; i++) {
        m->layers[i].norms = 1;
        m->layers[i].state = s;
    }
}

static const char *const types[] = {"mamba", "mamba2", "falcon_mamba", NULL};

const struct family family_mamba = {
    .name = "mamba",
    .model_types = types,
    .summary = "Mamba, Mamba-2, Falcon-Mamba",
    .source = "huggingface/transformers src/transformers/models/mamba, mamba2, falcon_mamba",
    .read = read,
};
