/* MiniMax-Text-01 and M1 (lightning attention but for every eighth layer) and M2 (full
 * attention, q/k norms over the full width, a router bias); experts on every layer. */
#include "planner/model/family.h"

#include <string.h>

enum { FULL_EVERY = 8 };

/* attn_type_list: 0 = lightning, 1 = full; layer_types of the transformers port. */
static bool is_lightning(struct config *c, uint32_t i)
{
    const struct doc_node *n = config_item(c, "attn_type_list|layer_types", i);

    if (!n || n->kind != DOC_SCALAR)
        return (i + 1) % FULL_EVERY != 0;
    return strcmp(n->text, "0") == 0 || strcmp(n->text, "linear_attention") == 0;
}

static void set_lightning(struct config *c, struct model *m)
{
    for (uint32_t i = 0; i < m->n_layers; i++) {
        struct layer *l = &m->layers[i];

        if (!is_lightning(c, i))
            continue;
        l->state = (struct state){
            .kind = STATE_LIGHTNING, .heads = l->attn.heads, .head_dim = l->attn.k_dim};
        l->attn = (struct attention){.mixer = MIXER_NONE, .kv_source = i};
    }
}

static void read(struct config *c, struct model *m)
{
    bool m2 = strcmp(m->model_type, "minimax_m2") == 0;

    if (!family_read_llama_like(c, m))
        return;
    family_set_moe(
        m, &(struct family_moe){.experts = config_u32(c, "num_local_experts", 8),
                                .top_k = config_u32(c, "num_experts_per_tok", 2),
                                .intermediate = config_need(c, "intermediate_size"),
                                .shared = config_u32(c, "shared_intermediate_size", 0),
                                .router_bias = m2 && config_bool(c, "use_routing_bias", true)});
    if (!m2)
        set_lightning(c, m);
    else if (config_bool(c, "use_qk_norm", true))
        family_set_qk_norm(m, QK_NORM_FULL);
}

static const char *const types[] = {"minimax",       "minimax_m1", "minimax_text_01",
                                    "MiniMaxText01", "minimax_m2", NULL};

const struct family family_minimax = {
    .name = "minimax",
    .model_types = types,
    .summary = "MiniMax-Text-01, M1, M2",
    .source =
        "MiniMax-AI/MiniMax-M1@2abb4f45 config.json; huggingface/transformers src/transformers/models/minimax",
    .read = read,
};
