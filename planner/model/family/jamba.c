/* Jamba: one attention layer in eight, Mamba-1 with norms on dt, B and C elsewhere, experts on
 * every second layer. */
#include "planner/model/family.h"

static void set_mixers(struct config *c, struct model *m)
{
    uint32_t period = config_u32(c, "attn_layer_period", 8),
             offset = config_u32(c, "attn_layer_offset", 4);
    const struct doc_node *rank = config_find(c, "mamba_dt_rank");
    bool named =
        rank && rank->kind == DOC_SCALAR && rank->text[0] >= '0' && rank->text[0] <= '9';
    struct state s = {.kind = STATE_MAMBA1,
                      .inner = m->hidden * config_u32(c, "mamba_expand", 2),
                      .state_dim = config_u32(c, "mamba_d_state", 16),
                      .conv_kernel = config_u32(c, "mamba_d_conv", 4),
                      .dt_rank =
                          named ? config_u32(c, "mamba_dt_rank", 0) : (m->hidden + 15) / 16,
                      .dtbc_norm = true};

    for (uint32_t i = 0; i < m->n_layers; i++) {
        if (period && i % period == offset)
            continue;
        m->layers[i].attn = (struct attention){.mixer = MIXER_NONE, .kv_source = i};
        m->layers[i].state = s;
    }
}

static void read(struct config *c, struct model *m)
{
    static const struct config_default defaults[] = {{"num_key_value_heads", 8}, {NULL, 0}};

    c->defaults = defaults;
    if (!family_read_llama_like(c, m))
        return;
    set_mixers(c, m);
    family_set_moe(m, &(struct family_moe){.experts = config_u32(c, "num_experts", 16),
                                           .top_k = config_u32(c, "num_experts_per_tok", 2),
                                           .intermediate = config_need(c, "intermediate_size"),
                                           .step = config_u32(c, "expert_layer_period", 2),
                                           .offset = config_u32(c, "expert_layer_offset", 1)});
}

static const char *const types[] = {"jamba", NULL};

const struct family family_jamba = {
    .name = "jamba",
    .model_types = types,
    .summary = "Jamba 1.5",
    .source = "huggingface/transformers src/transformers/models/jamba",
    .read = read,
};
