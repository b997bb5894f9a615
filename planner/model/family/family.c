/* What the family files share: reading keys with alternatives, the Llama-like decoder that most
 * of them vary, and the registry. A reader never stops at the first problem; config.ok says at
 * the end whether there was one.
 *
 * source of the fallbacks: the configuration classes of huggingface/transformers
 * (src/transformers/models). */
#include "planner/model/family.h"

#include <stdio.h>
#include <string.h>

#include "planner/model/vision.h"

#define ENTRY(id) extern const struct family family_##id;
#include "family.inc"
#undef ENTRY

const struct family *const families[] = {
#define ENTRY(id) &family_##id,
#include "family.inc"
#undef ENTRY
    NULL,
};

enum { KEY_BYTES = 96, DIM_MAX = 1u << 24 };

const struct family *family_find(const char *model_type)
{
    for (size_t f = 0; families[f]; f++) {
        for (size_t i = 0; families[f]->model_types[i]; i++) {
            if (strcmp(families[f]->model_types[i], model_type) == 0)
                return families[f];
        }
    }
    return NULL;
}

/* ---- keys ----------------------------------------------------------------------------- */

const struct doc_node *config_find(const struct config *c, const char *keys)
{
    char key[KEY_BYTES];

    while (*keys) {
        size_t n = strcspn(keys, "|");

        if (n < sizeof key) {
            const struct doc_node *found;

            memcpy(key, keys, n);
            key[n] = 0;
            found = doc_path(c->text, key);
            if (found && !doc_is_null(found))
                return found;
        }
        keys += n + (keys[n] == '|');
    }
    return NULL;
}

bool config_has(const struct config *c, const char *keys)
{
    return config_find(c, keys) != NULL;
}

/* The class's value of an absent key, or 0. */
static uint32_t class_default(const struct config *c, const char *keys)
{
    size_t n = strcspn(keys, "|");

    for (const struct config_default *f = c->defaults; f && f->key; f++) {
        if (strlen(f->key) == n && strncmp(f->key, keys, n) == 0)
            return f->value;
    }
    return 0;
}

uint32_t config_u32(struct config *c, const char *keys, uint32_t fallback)
{
    uint32_t known = class_default(c, keys), v = known ? known : fallback;

    c->ok = doc_u32(config_find(c, keys), 0, UINT32_MAX, c->d, &v) && c->ok;
    return v;
}

uint32_t config_cap(struct config *c, const char *keys, uint32_t fallback)
{
    double v = fallback;

    c->ok = doc_double(config_find(c, keys), 0, DIM_MAX, c->d, &v) && c->ok;
    return (uint32_t)v;
}

uint32_t config_need(struct config *c, const char *keys)
{
    const struct doc_node *n = config_find(c, keys);
    uint32_t v = class_default(c, keys);

    if (!n && v)
        return v;
    if (!n) {
        config_error(c, NULL, "the config has no %.*s", (int)strcspn(keys, "|"), keys);
        return 0;
    }
    c->ok = doc_u32(n, 1, DIM_MAX, c->d, &v) && c->ok;
    return v;
}

bool config_bool(struct config *c, const char *keys, bool fallback)
{
    bool v = fallback;

    c->ok = doc_bool(config_find(c, keys), c->d, &v) && c->ok;
    return v;
}

const char *config_text(struct config *c, const char *keys, const char *fallback)
{
    const char *v = fallback;

    c->ok = doc_text(config_find(c, keys), c->d, &v) && c->ok;
    return v;
}

const struct doc_node *config_item(const struct config *c, const char *keys, uint32_t i)
{
    const struct doc_node *list = config_find(c, keys), *n;

    if (!list || list->kind != DOC_LIST)
        return NULL;
    for (n = list->first; n && i > 0; i--)
        n = n->next;
    return n;
}

void config_error(struct config *c, const struct doc_node *at, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    diag_add(c->d, DIAG_INPUT, at ? at->at : c->text->at, "%s", arena_vprintf(c->a, fmt, ap));
    va_end(ap);
    c->ok = false;
}

void config_note(struct config *c, const struct doc_node *at, enum diag_kind kind,
                 const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    diag_add(c->d, kind, at ? at->at : c->text->at, "%s", arena_vprintf(c->a, fmt, ap));
    va_end(ap);
}

/* ---- the common decoder --------------------------------------------------------------- */

bool family_read_size(struct config *c, struct model *m)
{
    const struct doc_node *tied = config_find(c, "tie_word_embeddings|tie_embeddings");

    m->n_layers = config_need(c, "num_hidden_layers|n_layer|num_layers|n_layers");
    m->hidden = config_need(c, "hidden_size|n_embd|n_embed|d_model");
    m->vocab = config_need(c, "vocab_size|padded_vocab_size");
    m->max_position =
        config_u32(c, "max_position_embeddings|n_positions|max_seq_len|n_ctx|seq_length", 0);
    if (!tied)
        tied = doc_get(c->root, "tie_word_embeddings");
    c->ok = doc_bool(tied, c->d, &m->tied) && c->ok;
    m->mtp_layers =
        config_u32(c, "num_nextn_predict_layers|mtp_num_hidden_layers|num_mtp_modules", 0);
    if (!m->n_layers || !m->hidden || !m->vocab)
        return false;
    if (m->n_layers > MODEL_LAYERS_MAX) {
        config_error(c, config_find(c, "num_hidden_layers|n_layer|num_layers|n_layers"),
                     "%u layers are more than the %d that can be planned", m->n_layers,
                     MODEL_LAYERS_MAX);
        return false;
    }
    m->layers = ARENA_NEW(c->a, struct layer, m->n_layers);
    for (uint32_t i = 0; i < m->n_layers; i++)
        m->layers[i].attn.kv_source = i;
    return true;
}

void family_read_attention(struct config *c, struct model *m)
{
    struct attention a = {.mixer = MIXER_FULL};

    a.heads = config_need(c, "num_attention_heads|n_head|n_heads");
    a.kv_heads = config_u32(
        c, "num_key_value_heads|num_kv_heads|n_head_kv|attn_config.kv_n_heads", a.heads);
    a.k_dim = config_u32(c, "head_dim|attention_head_dim|kv_channels", 0);
    if (a.k_dim == 0 && a.heads > 0) {
        a.k_dim = m->hidden / a.heads;
        if (m->hidden % a.heads != 0)
            config_error(c, config_find(c, "num_attention_heads|n_head|n_heads"),
                         "head_dim is absent and hidden_size %u is no multiple of %u heads",
                         m->hidden, a.heads);
    }
    a.v_dim = config_u32(c, "v_head_dim", a.k_dim);
    for (uint32_t i = 0; i < m->n_layers; i++) {
        a.kv_source = i;
        m->layers[i].attn = a;
    }
}

bool family_read_llama_like(struct config *c, struct model *m)
{
    uint32_t width;

    if (!family_read_size(c, m))
        return false;
    family_read_attention(c, m);
    width = config_u32(c, "intermediate_size|ffn_hidden_size|ffn_dim|n_inner", 0);
    for (uint32_t i = 0; i < m->n_layers; i++) {
        m->layers[i].norms = 2;
        m->layers[i].ffn = (struct ffn){.intermediate = width, .gated = true};
    }
    if (config_bool(c, "attention_bias", false))
        family_set_bias(m, "qkvo");
    if (config_bool(c, "mlp_bias", false))
        family_set_mlp(m, true, true);
    return c->ok;
}

static bool attends(const struct layer *l)
{
    return l->attn.mixer != MIXER_NONE;
}

void family_set_bias(struct model *m, const char *letters)
{
    for (uint32_t i = 0; i < m->n_layers; i++) {
        struct attention *a = &m->layers[i].attn;

        if (!attends(&m->layers[i]))
            continue;
        a->q_bias = strchr(letters, 'q') != NULL;
        a->k_bias = strchr(letters, 'k') != NULL;
        a->v_bias = strchr(letters, 'v') != NULL;
        a->o_bias = strchr(letters, 'o') != NULL;
    }
}

void family_set_qk_norm(struct model *m, enum qk_norm n)
{
    for (uint32_t i = 0; i < m->n_layers; i++)
        m->layers[i].attn.qk_norm = attends(&m->layers[i]) ? n : QK_NORM_NONE;
}

void family_set_norms(struct model *m, uint32_t a_layer)
{
    for (uint32_t i = 0; i < m->n_layers; i++)
        m->layers[i].norms = a_layer;
}

void family_set_mlp(struct model *m, bool gated, bool bias)
{
    for (uint32_t i = 0; i < m->n_layers; i++) {
        m->layers[i].ffn.gated = gated;
        m->layers[i].ffn.bias = bias;
    }
}

/* ---- windows -------------------------------------------------------------------------- */

static void set_window(struct attention *a, enum mixer mixer, uint32_t window)
{
    a->mixer = mixer;
    a->window_tokens = window;
}

static void window_by_name(struct config *c, struct attention *a, const struct doc_node *type,
                           uint32_t window)
{
    const char *t = type && type->kind == DOC_SCALAR ? type->text : "";

    if (strcmp(t, "full_attention") == 0 || strcmp(t, "attention") == 0 ||
        strcmp(t, "global") == 0)
        set_window(a, MIXER_FULL, 0);
    else if (!window)
        config_error(c, type,
                     "layer type '%s' needs sliding_window, which the config does not have", t);
    else if (strcmp(t, "sliding_attention") == 0 || strcmp(t, "local") == 0)
        set_window(a, MIXER_SLIDING, window);
    else if (strcmp(t, "chunked_attention") == 0)
        set_window(a, MIXER_CHUNKED, window);
    else
        config_error(c, type, "layer type '%s' is not one this family has", t);
}

void family_read_windows(struct config *c, struct model *m, uint32_t window, uint32_t period)
{
    const struct doc_node *types = config_find(c, "layer_types");
    const struct doc_node *t = types && types->kind == DOC_LIST ? types->first : NULL;

    if (t && types->n != m->n_layers) {
        config_error(c, types, "layer_types has %zu entries for %u layers", types->n,
                     m->n_layers);
        return;
    }
    if (window && m->max_position && window >= m->max_position)
        config_note(c, NULL, DIAG_NOTE,
                    "the window of %u tokens is no shorter than the context of %llu", window,
                    (unsigned long long)m->max_position);
    for (uint32_t i = 0; i < m->n_layers; i++) {
        struct attention *a = &m->layers[i].attn;

        if (t) {
            window_by_name(c, a, t, window);
            t = t->next;
        } else if (window && period != 1 && (period == 0 || (i + 1) % period != 0)) {
            set_window(a, MIXER_SLIDING, window);
        }
    }
}

/* ---- experts, latents, sharing -------------------------------------------------------- */

void family_set_moe(struct model *m, const struct family_moe *moe)
{
    uint32_t step = moe->step ? moe->step : 1;

    for (uint32_t i = moe->first; moe->experts && i < m->n_layers; i++) {
        struct ffn *f = &m->layers[i].ffn;

        if (i % step != moe->offset % step)
            continue;
        f->intermediate = 0;
        f->bias = false;
        f->experts = moe->experts;
        f->top_k = moe->top_k;
        f->moe_intermediate = moe->intermediate;
        f->shared_intermediate = moe->shared;
        f->router_bias = moe->router_bias;
        f->shared_gate = moe->shared_gate && moe->shared > 0;
    }
}

void family_read_latent(struct config *c, struct model *m)
{
    struct attention a = {.mixer = MIXER_LATENT};

    a.heads = a.kv_heads = config_need(c, "num_attention_heads");
    a.q_lora_rank = config_u32(c, "q_lora_rank", 0);
    a.kv_lora_rank = config_need(c, "kv_lora_rank");
    a.nope_dim = config_need(c, "qk_nope_head_dim");
    a.rope_dim = config_need(c, "qk_rope_head_dim");
    a.v_dim = config_need(c, "v_head_dim");
    a.k_dim = a.nope_dim + a.rope_dim;
    a.index_dim = config_u32(c, "index_head_dim", 0);
    a.index_heads = config_u32(c, "index_n_heads", 0);
    a.index_topk = config_u32(c, "index_topk", 0);
    for (uint32_t i = 0; i < m->n_layers; i++) {
        const struct doc_node *kind = config_item(c, "indexer_types", i);

        a.kv_source = i;
        a.index_shared = a.index_dim && kind && kind->kind == DOC_SCALAR &&
                         strcmp(kind->text, "shared") == 0;
        m->layers[i].attn = a;
    }
}

void family_share_last(struct config *c, struct model *m, uint32_t shared)
{
    uint32_t own = m->n_layers - shared;

    if (shared == 0)
        return;
    if (shared >= m->n_layers) {
        config_error(c, config_find(c, "num_kv_shared_layers"),
                     "num_kv_shared_layers %u leaves none of %u layers with a cache", shared,
                     m->n_layers);
        return;
    }
    for (uint32_t i = own; i < m->n_layers; i++) {
        uint32_t s = own;

        while (s > 0 && m->layers[s - 1].attn.mixer != m->layers[i].attn.mixer)
            s--;
        if (s == 0)
            config_error(c, NULL, "layer %u shares K/V, but no earlier layer is of its kind",
                         i + 1);
        else
            m->layers[i].attn.kv_source = s - 1;
    }
}

/* ---- towers --------------------------------------------------------------------------- */

void family_read_vision(struct config *c, struct model *m)
{
    const struct doc_node *v = doc_get(c->root, "vision_config"),
                          *a = doc_get(c->root, "audio_config");

    if (v && v->kind == DOC_MAP)
        m->vision_params = vision_params(v, m->model_type, m->hidden);
    if (m->vision_params)
        config_note(c, v, DIAG_NOTE, "the vision tower counts %llu parameters%s",
                    (unsigned long long)m->vision_params,
                    doc_get(v, "deepstack_visual_indexes") &&
                            doc_get(v, "deepstack_visual_indexes")->n
                        ? "; its deepstack mergers are unverified"
                        : "");
    else if (v && v->kind == DOC_MAP)
        config_note(c, v, DIAG_WARN,
                    "the vision tower is not counted: its tensors are not known here; model: "
                    "{vision_params: N} adds it");
    if (a && a->kind == DOC_MAP)
        config_note(c, a, DIAG_WARN, "the audio tower is not counted");
}
