/* Where the model of a spec comes from: a profile by name, a config.json, a folder with one, a
 * weight file, a model in the hub's local cache, or the inline form; keys may be laid over each
 * but the last. */
#include "planner/plan/problem.h"

#include <string.h>

#include "planner/base/ck.h"
#include "planner/base/file.h"
#include "planner/model/from_safetensors.h"
#include "planner/model/from_store.h"
#include "planner/model/hub.h"

static const struct field weights_field[] = {
    FIELD(struct model, weights_bytes, "weights_bytes", F_BYTES, 1, 0, NULL,
          "known size of all weights"),
};

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

/* A weight file, a folder, or a config.json by itself. */
static bool model_from_path(struct arena *a, const char *path, const char *name, struct diag *d,
                            struct model *out)
{
    struct doc_node *config;

    if (is_weight_file(path))
        return model_from_weights(a, path, name, d, out);
    if (file_is_dir(path))
        return model_from_folder(a, path, name, d, out);
    return read_json(a, path, d, &config) &&
           model_from_config(a, config, name ? name : path, d, out);
}

static bool looks_like_path(const char *s)
{
    return s[0] == '/' || s[0] == '.' || ends_with(s, ".json") || is_weight_file(s) ||
           file_exists(s);
}

/* ORG/NAME in the local cache of the hub: its folder, or the GGUF file that is named. Planning
 * fetches nothing. */
static const char *cached(struct arena *a, const char *text, struct hub_id *id)
{
    const char *folder =
        hub_parse(a, text, id) && !file_exists(text) ? hub_cached(a, id) : NULL;

    return folder && id->file ? arena_printf(a, "%s/%s", folder, id->file) : folder;
}

/* A profile that was imported with its weight files says what they hold. */
static bool model_from_profile(struct arena *a, const struct doc_node *doc, struct diag *d,
                               struct model *out)
{
    const struct doc_node *known = doc_get(doc, "weights_bytes");

    if (!model_from_inline(a, doc, d, out))
        return false;
    if (doc_is_null(known))
        return true;
    out->weights_measured = true;
    return bind_value(a, known, "model", weights_field, d, out);
}

static bool model_by_name(struct arena *a, const struct doc_node *node,
                          const struct profiles *profiles, struct diag *d, struct model *out,
                          const char **source)
{
    struct hub_id id;
    const char *folder;

    if (!profile_has(profiles, PROFILE_MODEL, node->text, d)) {
        folder = cached(a, node->text, &id);
        if (folder) {
            *source = arena_printf(a, "hub cache %s", folder);
            return model_from_path(a, folder, id.file ? NULL : id.repo, d, out);
        }
        if (looks_like_path(node->text)) {
            *source = arena_printf(
                a, "%s %s", ends_with(node->text, ".gguf") ? "file" : "config", node->text);
            return model_from_path(a, node->text, NULL, d, out);
        }
    }
    const struct doc_node *doc =
        profile_require(profiles, PROFILE_MODEL, node->text, node->at, d);
    *source = arena_printf(a, "profile %s", doc ? doc->at.file : "");
    return doc && model_from_profile(a, doc, d, out);
}

/* Overrides change the shapes: then what the files hold is another model's size. */
static bool override(struct arena *a, const struct doc_node *map, struct diag *d,
                     struct model *m)
{
    struct ck ck = {false};
    uint64_t before = model_table_bytes(m, &ck);

    if (!model_override(a, map, d, m))
        return false;
    if (!m->weights_measured || model_table_bytes(m, &ck) == before)
        return true;
    m->weights_measured = false;
    m->weights_bytes = 0;
    return diag_add(
        d, DIAG_NOTE, map->at,
        "the keys given here change the weights: they are counted by shapes, not by "
        "the files");
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
    if (!(config ? model_from_path(a, base->text, name ? name->text : NULL, d, out)
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
    return override(a, &rest, d, out);
}

bool problem_model(struct arena *a, const struct doc_node *node,
                   const struct profiles *profiles, struct diag *d, struct model *out,
                   const char **source)
{
    bool ok;
    const struct doc_node *known =
        node->kind == DOC_MAP ? doc_get(node, "weights_bytes") : NULL;

    *source = "";
    if (node->kind == DOC_LIST)
        return diag_add(d, DIAG_INPUT, node->at,
                        "model must be a name, a path or a map, not a list");
    ok = node->kind == DOC_MAP ? model_by_map(a, node, profiles, d, out, source)
                               : model_by_name(a, node, profiles, d, out, source);
    if (known) {
        ok = bind_value(a, known, "model", weights_field, d, out) && ok;
        out->weights_measured = false;
    }
    return ok && model_check(out, d);
}
