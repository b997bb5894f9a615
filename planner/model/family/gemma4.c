/* Gemma 4: sliding layers with heads of head_dim, full layers with heads of global_head_dim and
 * K/V heads of their own; in the large models one projection serves K and V of full layers,
 * experts stand beside the dense MLP (26B); in the E models the last layers read earlier caches
 * and per-layer inputs are added. */
#include "planner/model/family.h"

enum { PERIOD = 6 };

static void set_full_layers(struct config *c, struct model *m)
{
    uint32_t dim = config_u32(c, "global_head_dim", 512);
    uint32_t heads = config_u32(c, "num_global_key_value_heads", 0);
    bool k_eq_v = config_bool(c, "attention_k_eq_v", false);

    for (uint32_t i = 0; i < m->n_layers; i++) {
        struct attention *a = &m->layers[i].attn;

        if (a->mixer != MIXER_FULL)
            continue;
        a->k_dim = a->v_dim = dim;
        a->kv_heads = heads ? heads : a->kv_heads;
        a->k_eq_v = k_eq_v;
    }
}

/* Router scale (hidden) and one scale an expert; three more norms. */
static void set_experts(struct config *c, struct model *m)
{
    struct ffn moe = {.experts = config_u32(c, "num_experts", 0),
                      .top_k = config_u32(c, "top_k_experts|num_experts_per_tok", 8),
                      .moe_intermediate = config_u32(c, "moe_intermediate_size", 0)};

    if (!config_bool(c, "enable_moe_block", false) || !moe.experts)
        return;
    for (uint32_t i = 0; i < m->n_layers; i++) {
        struct ffn *f = &m->layers[i].ffn;

        f->experts = moe.experts;
        f->top_k = moe.top_k;
        f->moe_intermediate = moe.moe_intermediate;
        f->router_extra_params = (uint64_t)m->hidden + moe.experts;
        m->layers[i].norms = 7;
    }
}

static void set_inputs(struct config *c, struct model *m)
{
    uint64_t w = config_u32(c, "hidden_size_per_layer_input", 0), h = m->hidden;

    if (w == 0)
        return;
    for (uint32_t i = 0; i < m->n_layers; i++) {
        m->layers[i].matrix_params = 2 * h * w;
        m->layers[i].norms++;
    }
    m->embed_params_extra =
        (uint64_t)config_u32(c, "vocab_size_per_layer_input", 262144) * m->n_layers * w;
    m->matrix_params_extra = h * m->n_layers * w;
    m->vector_params_extra = w;
}

static void read(struct config *c, struct model *m)
{
    static const struct config_default defaults[] = {{"head_dim", 256}, {NULL, 0}};
    uint32_t shared = config_u32(c, "num_kv_shared_layers", 0);

    c->defaults = defaults;
    m->tied = true;
    if (!family_read_llama_like(c, m))
        return;
    for (uint32_t i = 0; i < m->n_layers; i++) {
        m->layers[i].norms = 4;
        m->layers[i].vector_params = 1; /* the layer's scalar */
    }
    m->logit_cap = config_cap(c, "final_logit_softcapping", 30);
    family_set_qk_norm(m, QK_NORM_HEAD);
    family_read_windows(c, m, config_u32(c, "sliding_window", 512), PERIOD);
    set_full_layers(c, m);
    set_experts(c, m);
    set_inputs(c, m);
    family_share_last(c, m, shared);
    if (config_bool(c, "use_double_wide_mlp", false)) {
        for (uint32_t i = m->n_layers - (shared < m->n_layers ? shared : 0); i < m->n_layers;
             i++)
            m->layers[i].ffn.intermediate *= 2;
    }
    family_read_vision(c, m);
}

static const char *const types[] = {"gemma4", "gemma4_text", NULL};

const struct family family_gemma4 = {
    .name = "gemma4",
    .model_types = types,
    .summary = "Gemma 4 E2B, E4B, 26B-A4B and 31B",
    .source =
        "huggingface/transformers src/transformers/models/gemma4; google-deepmind/gemma@7691fd47",
    .read = read,
};
