/* Granite 3 (dense and mixture) and Granite 4 (Mamba-2 or attention by layer, experts and a
 * shared MLP on each). */
#include "planner/model/family.h"

#include <string.h>

static bool is(const struct model *m, const char *type)
{
    return strcmp(m->model_type, type) == 0;
}

static void set_mamba(struct config *c, struct model *m)
{
    uint32_t inner = m->hidden * config_u32(c, "mamba_expand", 2);
    const struct doc_node *dim = config_find(c, "mamba_d_head");
    bool named = dim && dim->kind == DOC_SCALAR && strcmp(dim->text, "auto") != 0;
    struct state s = {.kind = STATE_MAMBA2,
                      .heads = config_u32(c, "mamba_n_heads", 128),
                      .state_dim = config_u32(c, "mamba_d_state", 256),
                      .groups = config_u32(c, "mamba_n_groups", 1),
                      .conv_kernel = config_u32(c, "mamba_d_conv", 4)};

    s.head_dim = named ? config_u32(c, "mamba_d_head", 0) : s.heads ? inner / s.heads : 0;
    for (uint32_t i = 0; i < m->n_layers; i++) {
        const struct doc_node *t = config_item(c, "layer_types|layers_block_type", i);

        if (!t || t->kind != DOC_SCALAR || strcmp(t->text, "mamba") != 0)
            continue;
        m->layers[i].attn = (struct attention){.mixer = MIXER_NONE, .kv_source = i};
        m->layers[i].state = s;
    }
}

static void read(struct config *c, struct model *m)
{
    uint32_t shared = 0, experts;

    m->tied = !is(m, "granite");
    if (!family_read_llama_like(c, m) || is(m, "granite"))
        return;
    if (is(m, "granitemoehybrid"))
        set_mamba(c, m);
    if (!is(m, "granitemoe"))
        shared =
            config_u32(c, "shared_intermediate_size", is(m, "granitemoehybrid") ? 1024 : 0);
    experts = config_u32(c, "num_local_experts", 8);
    for (uint32_t i = 0; experts == 0 && i < m->n_layers; i++)
        m->layers[i].ffn.intermediate = shared; /* dense Granite 4: the shared MLP alone */
    family_set_moe(m, &(struct family_moe){.experts = experts,
                                           .top_k = config_u32(c, "num_experts_per_tok", 2),
                                           .intermediate = config_need(c, "intermediate_size"),
                                           .shared = shared});
}

static const char *const types[] = {"granite", "granitemoe", "granitemoeshared",
                                    "granitemoehybrid", NULL};

const struct family family_granite = {
    .name = "granite",
    .model_types = types,
    .summary = "Granite 3 and Granite 4",
    .source =
        "huggingface/transformers src/transformers/models/granite, granitemoe, granitemoehybrid",
    .read = read,
};
