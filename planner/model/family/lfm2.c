/* LFM2: short convolutions but for a few layers of attention with q/k norms; tied. The MLP
 * width is 2/3 of the one given, rounded up, unless the config turns that off. */
#include "planner/model/family.h"

#include <string.h>

static bool is_attention(struct config *c, uint32_t i)
{
    const struct doc_node *t = config_item(c, "layer_types", i),
                          *list = config_find(c, "full_attn_idxs");

    if (t && t->kind == DOC_SCALAR)
        return strcmp(t->text, "full_attention") == 0;
    for (const struct doc_node *n = list && list->kind == DOC_LIST ? list->first : NULL; n;
         n = n->next) {
        uint32_t v = UINT32_MAX;

        c->ok = doc_u32(n, 0, UINT32_MAX, c->d, &v) && c->ok;
        if (v == i)
            return true;
    }
    return false;
}

static uint32_t mlp_width(struct config *c)
{
    uint32_t width = config_u32(c, "block_ff_dim|intermediate_size", 12288);
    uint32_t multiple = config_u32(c, "block_multiple_of", 256);
    double factor = 1;

    if (!config_bool(c, "block_auto_adjust_ff_dim", true))
        return width;
    c->ok =
        doc_double(config_find(c, "block_ffn_dim_multiplier"), 0, 100, c->d, &factor) && c->ok;
    width = (uint32_t)(factor * (double)(uint32_t)(2 * (uint64_t)width / 3));
    return multiple ? (width + multiple - 1) / multiple * multiple : width;
}

static void read(struct config *c, struct model *m)
{
    uint32_t width, kernel;

    m->tied = true;
    if (!family_read_llama_like(c, m))
        return;
    family_set_qk_norm(m, QK_NORM_HEAD);
    width = mlp_width(c);
    kernel = config_u32(c, "conv_L_cache", 3);
    m->confidence = "unverified";
    for (uint32_t i = 0; i < m->n_layers; i++) {
        struct layer *l = &m->layers[i];

        l->ffn.intermediate = width;
        if (is_attention(c, i))
            continue;
        l->attn = (struct attention){.mixer = MIXER_NONE, .kv_source = i};
        l->state = (struct state){.kind = STATE_SHORTCONV, .conv_kernel = kernel};
    }
}

static const char *const types[] = {"lfm2", NULL};

const struct family family_lfm2 = {
    .name = "lfm2",
    .model_types = types,
    .summary = "LFM2: short convolutions and attention",
    .source = "huggingface/transformers src/transformers/models/lfm2",
    .read = read,
};
