/* The registry of schemes: a table made from the folder listing, lookups by name, and the
 * binding of what a spec asks for. No scheme is named here. */
#include "planner/cache/scheme.h"

#include <string.h>

#define ENTRY(id) extern const struct scheme scheme_##id;
#include "gen/scheme.inc"
#undef ENTRY

static const struct scheme *const table[] = {
#define ENTRY(id) &scheme_##id,
#include "gen/scheme.inc"
#undef ENTRY
    NULL,
};

enum { NAMES_MAX = 256 };

const struct scheme *scheme_at(size_t i)
{
    return i < sizeof table / sizeof *table ? table[i] : NULL;
}

const char *scheme_axis_name(enum scheme_axis a)
{
    switch (a) {
    case AXIS_SHARING: return "sharing";
    case AXIS_RETENTION: return "eviction";
    case AXIS_STORAGE: return "storage";
    }
    return "?";
}

/* '_' and '-' are one letter. */
static bool same_name(const char *a, const char *b)
{
    for (; *a || *b; a++, b++) {
        char x = *a == '_' ? '-' : *a, y = *b == '_' ? '-' : *b;
        if (x != y)
            return false;
    }
    return true;
}

const struct scheme *scheme_find(enum scheme_axis axis, const char *name, const char **variant)
{
    for (size_t i = 0; table[i]; i++) {
        if (table[i]->axis != axis)
            continue;
        for (const char *const *n = table[i]->names; *n; n++) {
            if (!same_name(*n, name))
                continue;
            if (variant)
                *variant = *n;
            return table[i];
        }
    }
    return NULL;
}

static bool unknown_name(enum scheme_axis axis, const char *name, struct loc at, struct diag *d)
{
    const char *near[NAMES_MAX];
    size_t n = 0;

    for (int other = AXIS_SHARING; other <= AXIS_STORAGE; other++)
        if ((enum scheme_axis)other != axis && scheme_find((enum scheme_axis)other, name, NULL))
            return diag_add(d, DIAG_INPUT, at, "'%s' is a scheme for %s, not for %s", name,
                            scheme_axis_name((enum scheme_axis)other), scheme_axis_name(axis));
    for (size_t i = 0; table[i]; i++)
        for (const char *const *s = table[i]->names; *s && table[i]->axis == axis; s++)
            if (n < NAMES_MAX)
                near[n++] = *s;
    const char *hint = doc_nearest(name, near, n);
    if (hint)
        return diag_add(d, DIAG_INPUT, at, "unknown %s scheme '%s'; did you mean '%s'?",
                        scheme_axis_name(axis), name, hint);
    return diag_add(d, DIAG_INPUT, at,
                    "unknown %s scheme '%s'; `kvbudget list schemes` has them all",
                    scheme_axis_name(axis), name);
}

/* The node that names the scheme: the scalar itself, or the key `scheme` of a map. A sharing
 * map may go without, when it says the map. */
static const char *asked_name(enum scheme_axis axis, const struct doc_node *node,
                              struct loc *at, struct diag *d)
{
    const struct doc_node *n = node;

    *at = node->at;
    if (node->kind == DOC_MAP) {
        n = doc_get(node, "scheme");
        bool explicit_map = doc_get(node, "map") || doc_get(node, "layer_types");
        if (!n && axis == AXIS_SHARING && explicit_map)
            return "map";
    }
    if (!n) {
        diag_add(d, DIAG_INPUT, node->at, "%s has no key 'scheme'", scheme_axis_name(axis));
        return NULL;
    }
    *at = n->at;
    if (n->kind != DOC_SCALAR) {
        diag_add(d, DIAG_INPUT, n->at, "%s needs the name of a scheme", scheme_axis_name(axis));
        return NULL;
    }
    return n->text;
}

bool scheme_bind(struct arena *a, enum scheme_axis axis, const struct doc_node *node,
                 struct diag *d, struct scheme_use *use)
{
    static const char *const ignored[] = {"scheme", NULL};
    const struct doc_node *map;

    *use = (struct scheme_use){.sides = STORE_K | STORE_V};
    if (doc_is_null(node))
        return true;
    const char *name = asked_name(axis, node, &use->at, d);
    if (!name)
        return false;
    map = node->kind == DOC_MAP ? node : NULL;
    if (same_name(name, "none")) {
        if (map && map->n > 1)
            return diag_add(d, DIAG_INPUT, use->at, "%s: none has no parameters",
                            scheme_axis_name(axis));
        return true;
    }
    use->scheme = scheme_find(axis, name, &use->name);
    if (!use->scheme)
        return unknown_name(axis, name, use->at, d);
    if (use->scheme->unsupported)
        return diag_add(d, DIAG_INPUT, use->at, "%s cannot be planned: %s", use->name,
                        use->scheme->unsupported);
    use->params = arena_alloc(a, 1, use->scheme->params_size ? use->scheme->params_size : 1);
    return bind_map(a, map, use->name, use->scheme->fields, use->scheme->nfields, ignored, d,
                    use->params);
}

void scheme_costs(const struct scheme_use *uses, uint32_t n, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    *out = (struct extra_cost){0};
    for (uint32_t i = 0; i < n; i++)
        if (uses[i].scheme->extra)
            uses[i].scheme->extra(&uses[i], lay, ph, out);
}
