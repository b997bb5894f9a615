/* Nemotron from neural architecture search (Super 49B, Nano 51B): `block_configs` says layer by
 * layer whether there is attention and how wide the MLP is. The width is 2/3 * ffn_mult *
 * hidden, rounded up to a multiple of 256. */
#include "planner/model/family.h"

enum { MULTIPLE = 256 };

static bool truth(struct config *c, const struct doc_node *map, const char *key)
{
    bool v = false;

    c->ok = doc_bool(doc_get(map, key), c->d, &v) && c->ok;
    return v;
}

static uint32_t mlp_width(struct config *c, const struct doc_node *mult, uint32_t hidden)
{
    double f = 0;
    uint64_t width;

    if (!mult)
        config_error(c, NULL, "block_configs: an ffn without ffn_mult");
    else
        c->ok = doc_double(mult, 0, 1000, c->d, &f) && c->ok;
    width = (uint64_t)(2 * f * hidden / 3);
    return (uint32_t)((width + MULTIPLE - 1) / MULTIPLE * MULTIPLE);
}

static void set_attention(struct config *c, struct layer *l, const struct doc_node *attn)
{
    uint32_t group = 0;

    if (truth(c, attn, "no_op")) {
        l->attn = (struct attention){.mixer = MIXER_NONE, .kv_source = l->attn.kv_source};
        l->norms--;
        return;
    }
    c->ok = doc_u32(doc_get(attn, "n_heads_in_group"), 1, 1024, c->d, &group) && c->ok;
    if (group && l->attn.heads % group == 0)
        l->attn.kv_heads = l->attn.heads / group;
    else
        config_error(c, attn, "n_heads_in_group %u does not divide %u heads", group,
                     l->attn.heads);
    c->ok =
        doc_u64(doc_get(attn, "window_length"), 1, UINT64_MAX, c->d, &l->attn.window_tokens) &&
        c->ok;
    if (l->attn.window_tokens)
        l->attn.mixer = MIXER_SLIDING;
}

static void set_block(struct config *c, struct model *m, uint32_t i, const struct doc_node *b)
{
    const struct doc_node *attn = doc_get(b, "attention"), *ffn = doc_get(b, "ffn");
    struct layer *l = &m->layers[i];
    uint64_t square = (uint64_t)m->hidden * m->hidden;

    l->ffn = (struct ffn){.gated = true};
    if (truth(c, attn, "replace_with_linear")) {
        l->attn = (struct attention){.mixer = MIXER_NONE, .kv_source = i};
        l->matrix_params += square;
    } else {
        set_attention(c, l, attn);
    }
    if (truth(c, ffn, "no_op"))
        l->norms--;
    else if (truth(c, ffn, "replace_with_linear"))
        l->matrix_params += square;
    else
        l->ffn.intermediate = mlp_width(c, doc_get(ffn, "ffn_mult"), m->hidden);
}

static void read(struct config *c, struct model *m)
{
    const struct doc_node *blocks = config_find(c, "block_configs"), *b;
    uint32_t i = 0;

    if (!family_read_llama_like(c, m))
        return;
    if (!blocks || blocks->kind != DOC_LIST || blocks->n != m->n_layers) {
        config_error(c, blocks, "block_configs must list %u blocks, found %zu", m->n_layers,
                     blocks ? blocks->n : 0);
        return;
    }
    for (b = blocks->first; b; b = b->next)
        set_block(c, m, i++, b);
}

static const char *const types[] = {"nemotron-nas", "deci", NULL};

const struct family family_nemotron_nas = {
    .name = "nemotron_nas",
    .model_types = types,
    .summary = "Nemotron Super 49B and others with a block list",
    .source = "nvidia/Llama-3_3-Nemotron-Super-49B-v1 configuration_decilm.py, block_config.py",
    .read = read,
};
