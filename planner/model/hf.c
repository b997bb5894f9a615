/* A Hugging Face config.json becomes a model: nesting, family lookup, quantization, and what
 * all families share at the end. Each family's own rules are in planner/model/family/. */
#include "planner/model/family.h"
#include "planner/model/inline.h"
#include "planner/model/quant_config.h"

#include <string.h>

#define INLINE_HINT                                                                            \
    "the inline form always works: model: {layers: 32, hidden_size: 4096, "                    \
    "intermediate_size: 14336, heads: 32, kv_heads: 8, head_dim: 128, vocab_size: 128256}"

enum { TYPES_MAX = 256 };

/* The decoder's part of a multimodal config. */
static const struct doc_node *text_part(const struct doc_node *root)
{
    static const char *const keys[] = {"text_config", "llm_config", "language_config",
                                       "thinker_config"};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct doc_node *n = doc_get(root, keys[i]);

        if (n && n->kind == DOC_MAP)
            return n->first && doc_get(n, "text_config") ? text_part(n) : n;
    }
    return root;
}

static const char *scalar(const struct doc_node *map, const char *key)
{
    const struct doc_node *n = doc_get(map, key);

    return n && n->kind == DOC_SCALAR && !doc_is_null(n) ? n->text : NULL;
}

static bool unknown_type(const struct doc_node *config, const char *type, struct diag *d)
{
    const char *names[TYPES_MAX], *near;
    const struct doc_node *at = doc_get(config, "model_type");
    size_t n = 0;

    for (size_t f = 0; families[f]; f++) {
        for (size_t i = 0; families[f]->model_types[i] && n < TYPES_MAX; i++)
            names[n++] = families[f]->model_types[i];
    }
    near = doc_nearest(type, names, n);
    return diag_add(d, DIAG_INPUT, at ? at->at : config->at,
                    "unknown model_type '%s'%s%s%s; " INLINE_HINT, type,
                    near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* The family by the outer model_type, else the inner one. */
static const struct family *find_family(const struct config *c, const char **type)
{
    const char *outer = scalar(c->root, "model_type"), *inner = scalar(c->text, "model_type");
    const struct family *f = outer ? family_find(outer) : NULL;

    *type = outer ? outer : inner;
    if (!f && inner) {
        f = family_find(inner);
        *type = f ? inner : *type;
    }
    return f;
}

static const struct doc_node *quantization(const struct config *c)
{
    static const char *const keys[] = {"quantization_config", "compression_config",
                                       "hf_quant_config"};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct doc_node *n = doc_get(c->root, keys[i]);

        n = n ? n : doc_get(c->text, keys[i]);
        if (n && n->kind == DOC_MAP)
            return n;
    }
    return NULL;
}

static const char *config_dtype(struct config *c)
{
    const char *t = scalar(c->text, "dtype");
    const struct weight_format *f;

    t = t ? t : scalar(c->text, "torch_dtype");
    t = t ? t : scalar(c->root, "dtype");
    t = t ? t : scalar(c->root, "torch_dtype");
    if (!t) {
        diag_add(c->d, DIAG_NOTE, c->root->at, "the config names no dtype: bf16 assumed");
        return "bf16";
    }
    f = weight_format_find(strncmp(t, "torch.", 6) == 0 ? t + 6 : t);
    if (f && f->block_elems == 1 && f->block_bytes >= 2)
        return f->name;
    diag_add(c->d, DIAG_WARN, c->root->at, "unknown dtype '%s': bf16 assumed", t);
    return "bf16";
}

static bool refuse(const struct family *f, const struct doc_node *config, const char *type,
                   struct diag *d)
{
    size_t i = 0;

    while (f->model_types[i] && strcmp(f->model_types[i], type) != 0)
        i++;
    return diag_add(d, DIAG_INPUT, config->at,
                    "model_type '%s' cannot be modelled: %s; " INLINE_HINT, type,
                    f->refuses[i]);
}

bool model_from_config(struct arena *a, const struct doc_node *config, const char *name,
                       struct diag *d, struct model *out)
{
    struct config c = {.a = a, .root = config, .text = config, .d = d, .ok = true};
    const struct family *f;
    const char *type = NULL;

    *out = (struct model){.name = name, .final_norms = 1, .norm = NORM_RMS};
    if (!config || config->kind != DOC_MAP)
        return diag_add(d, DIAG_INPUT, config ? config->at : (struct loc){0},
                        "a model config must be a map of keys");
    out->at = config->at;
    c.text = text_part(config);
    f = find_family(&c, &type);
    if (!type)
        return diag_add(d, DIAG_INPUT, config->at,
                        "the config has no model_type; " INLINE_HINT);
    if (!f)
        return unknown_type(config, type, d);
    if (f->refuses)
        return refuse(f, config, type, d);
    out->family = f->name;
    out->model_type = type;
    out->dtype = config_dtype(&c);
    f->read(&c, out);
    if (!c.ok || !out->layers)
        return false;
    for (uint32_t i = 0; i < out->n_layers; i++)
        layer_settle(&out->layers[i], out->hidden, i);
    if (out->mtp_layers)
        diag_add(d, DIAG_NOTE, config->at,
                 "%u multi-token-prediction layers of the checkpoint are not counted",
                 out->mtp_layers);
    if (!quant_from_config(a, quantization(&c), d, out))
        return false;
    return model_check(out, d);
}
