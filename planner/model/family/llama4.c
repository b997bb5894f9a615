/* Llama 4: three chunked layers to a full one without RoPE, experts on every layer (Scout) or
 * every second one. */
#include "planner/model/family.h"

enum { CHUNK_TOKENS = 8192, FULL_EVERY = 4 };

static void set_chunks(struct config *c, struct model *m)
{
    uint32_t chunk = config_u32(c, "attention_chunk_size", CHUNK_TOKENS);
    const struct doc_node *nope = config_find(c, "no_rope_layers");

    if (nope && nope->kind == DOC_LIST && nope->n == m->n_layers) {
        /* 0 = no RoPE = full attention */
        for (uint32_t i = 0; i < m->n_layers; i++) {
            const struct doc_node *n = config_item(c, "no_rope_layers", i);
            bool rope = true;

            c->ok = doc_bool(n, c->d, &rope) && c->ok;
            m->layers[i].attn.mixer = rope ? MIXER_CHUNKED : MIXER_FULL;
            m->layers[i].attn.window_tokens = rope ? chunk : 0;
        }
        return;
    }
    if (config_has(c, "layer_types")) {
        family_read_windows(c, m, chunk, 1);
        return;
    }
    for (uint32_t i = 0; i < m->n_layers; i++) {
        if ((i + 1) % FULL_EVERY == 0)
            continue;
        m->layers[i].attn.mixer = MIXER_CHUNKED;
        m->layers[i].attn.window_tokens = chunk;
    }
}

static void read(struct config *c, struct model *m)
{
    uint32_t step = config_u32(c, "interleave_moe_layer_step", 1);
    uint32_t width = config_u32(c, "intermediate_size", 8192);
    uint32_t dense = config_u32(c, "intermediate_size_mlp", 16384);

    if (!family_read_llama_like(c, m))
        return;
    for (uint32_t i = 0; i < m->n_layers; i++)
        m->layers[i].ffn.intermediate = dense;
    family_set_moe(m, &(struct family_moe){.experts = config_u32(c, "num_local_experts", 16),
                                           .top_k = config_u32(c, "num_experts_per_tok", 1),
                                           .intermediate = width,
                                           .shared = width,
                                           .step = step,
                                           .offset = step ? step - 1 : 0});
    set_chunks(c, m);
    family_read_vision(c, m);
}

static const char *const types[] = {"llama4", "llama4_text", NULL};

const struct family family_llama4 = {
    .name = "llama4",
    .model_types = types,
    .summary = "Llama 4 Scout and Maverick",
    .source =
        "huggingface/transformers src/transformers/models/llama4 (no_rope_layers, interleave_moe_layer_step)",
    .read = read,
};
