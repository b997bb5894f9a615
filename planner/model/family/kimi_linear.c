/* Kimi-Linear: three KDA layers to one of MLA without RoPE; layers are listed 1-based. */
#include "planner/model/family.h"

static bool is_full(const struct config *c, struct config *w, uint32_t layer)
{
    const struct doc_node *list = config_find(c, "linear_attn_config.full_attn_layers");

    for (const struct doc_node *n = list && list->kind == DOC_LIST ? list->first : NULL; n;
         n = n->next) {
        uint32_t v = 0;

        if (!doc_u32(n, 0, UINT32_MAX, w->d, &v))
            w->ok = false;
        if (v == layer + 1)
            return true;
    }
    return false;
}

static void set_mixers(struct config *c, struct model *m)
{
    struct state s = {.kind = STATE_KDA,
                      .heads = config_need(c, "linear_attn_config.num_heads"),
                      .head_dim = config_need(c, "linear_attn_config.head_dim"),
                      .conv_kernel =
                          config_u32(c, "linear_attn_config.short_conv_kernel_size", 4)};

    for (uint32_t i = 0; i < m->n_layers; i++) {
        if (is_full(c, c, i))
            continue;
        m->layers[i].attn = (struct attention){.mixer = MIXER_NONE, .kv_source = i};
        m->layers[i].state = s;
    }
}

static void read(struct config *c, struct model *m)
{
    uint32_t width, expert;

    if (!family_read_size(c, m))
        return;
    family_read_latent(c, m);
    set_mixers(c, m);
    width = config_u32(c, "intermediate_size", 0);
    expert = config_need(c, "moe_intermediate_size");
    for (uint32_t i = 0; i < m->n_layers; i++) {
        m->layers[i].norms = 2;
        m->layers[i].ffn = (struct ffn){.intermediate = width, .gated = true};
    }
    family_set_moe(m,
                   &(struct family_moe){
                       .experts = config_u32(c, "num_experts", 0),
                       .top_k = config_u32(c, "num_experts_per_token|num_experts_per_tok", 8),
                       .intermediate = expert,
                       .shared = expert * config_u32(c, "num_shared_experts", 0),
                       .first = config_u32(c, "first_k_dense_replace", 0),
                       .step = config_u32(c, "moe_layer_freq", 1),
                       .router_bias = true});
}

static const char *const types[] = {"kimi_linear", NULL};

const struct family family_kimi_linear = {
    .name = "kimi_linear",
    .model_types = types,
    .summary = "Kimi-Linear: Kimi delta attention with MLA",
    .source = "moonshotai/Kimi-Linear configuration_kimi.py; arXiv:2510.26692",
    .read = read,
};
