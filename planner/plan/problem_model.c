/* Where the model of a spec comes from: a profile by name, a config.json or the folder that
 * holds one, or the inline form; the last two with keys laid over them. */
#include "planner/plan/problem.h"

#include <string.h>

#include "planner/base/file.h"

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

static bool read_json(struct arena *a, const char *path, struct diag *d, struct doc_node **out)
{
    char *text;
    size_t n;

    return file_read(a, path, DOC_FILE_MAX, d, &text, &n) &&
           doc_read_json(a, path, text, n, true, d, out);
}

/* A config.json, or the folder that holds one. ModelOpt checkpoints say how they are quantized
 * in a file beside it. */
static bool model_from_path(struct arena *a, const struct doc_node *node, const char *name,
                            struct diag *d, struct model *out)
{
    bool folder = file_is_dir(node->text);
    const char *path = folder ? arena_printf(a, "%s/config.json", node->text) : node->text;
    const char *beside = arena_printf(a, "%s/hf_quant_config.json", node->text);
    struct doc_node *config, *quant;

    if (!read_json(a, path, d, &config))
        return false;
    if (folder && file_exists(beside) && config->kind == DOC_MAP &&
        !doc_get(config, "hf_quant_config")) {
        if (!read_json(a, beside, d, &quant))
            return false;
        quant->key = "hf_quant_config";
        quant->key_at = quant->at;
        doc_append(config, quant);
    }
    return model_from_config(a, config, name ? name : path, d, out);
}

static bool looks_like_path(const char *s)
{
    return s[0] == '/' || s[0] == '.' || ends_with(s, ".json") || file_exists(s);
}

static bool model_by_name(struct arena *a, const struct doc_node *node,
                          const struct profiles *profiles, struct diag *d, struct model *out,
                          const char **source)
{
    if (ends_with(node->text, ".gguf") || ends_with(node->text, ".safetensors"))
        return diag_add(
            d, DIAG_INPUT, node->at,
            "'%s': headers of weight files are not read in this version; give the model's config.json",
            node->text);
    if (!profile_has(profiles, PROFILE_MODEL, node->text, d) && looks_like_path(node->text)) {
        *source = arena_printf(a, "config %s", node->text);
        return model_from_path(a, node, NULL, d, out);
    }
    const struct doc_node *doc =
        profile_require(profiles, PROFILE_MODEL, node->text, node->at, d);
    *source = arena_printf(a, "profile %s", doc ? doc->at.file : "");
    return doc && model_from_inline(a, doc, d, out);
}

/* A map: {config: PATH, name: X, overrides}, {profile: NAME, overrides}, or the inline form. */
static bool model_by_map(struct arena *a, const struct doc_node *node,
                         const struct profiles *profiles, struct diag *d, struct model *out,
                         const char **source)
{
    const struct doc_node *config = doc_get(node, "config"),
                          *profile = doc_get(node, "profile");
    const struct doc_node *base = config ? config : profile, *name = doc_get(node, "name");
    struct doc_node rest = *node, **link = &rest.first;

    if (!base) {
        *source = "inline";
        return model_from_inline(a, node, d, out);
    }
    if (base->kind != DOC_SCALAR)
        return diag_add(d, DIAG_INPUT, base->at, "model.%s must be a %s", base->key,
                        config ? "path" : "profile name");
    *source = arena_printf(a, "%s %s", config ? "config" : "profile", base->text);
    if (!(config ? model_from_path(a, base, name ? name->text : NULL, d, out)
                 : model_by_name(a, base, profiles, d, out, source)))
        return false;
    rest.n = 0;
    for (const struct doc_node *c = node->first; c; c = c->next) {
        if (c == config || c == profile)
            continue;
        struct doc_node *copy = ARENA_NEW(a, struct doc_node, 1);
        *copy = *c;
        copy->next = NULL;
        *link = copy;
        link = &copy->next;
        rest.last = copy;
        rest.n++;
    }
    *link = NULL;
    return model_override(a, &rest, d, out);
}

bool problem_model(struct arena *a, const struct doc_node *node,
                   const struct profiles *profiles, struct diag *d, struct model *out,
                   const char **source)
{
    bool ok;

    static const struct field size[] = {
        FIELD(struct model, weights_bytes, "weights_bytes", F_BYTES, 1, 0, NULL,
              "known size of all weights"),
    };
    const struct doc_node *known =
        node->kind == DOC_MAP ? doc_get(node, "weights_bytes") : NULL;

    *source = "";
    if (node->kind == DOC_LIST)
        return diag_add(d, DIAG_INPUT, node->at,
                        "model must be a name, a path or a map, not a list");
    ok = node->kind == DOC_MAP ? model_by_map(a, node, profiles, d, out, source)
                               : model_by_name(a, node, profiles, d, out, source);
    if (known)
        ok = bind_value(a, known, "model", size, d, out) && ok;
    return ok && model_check(out, d);
}
