/* A scheme as edits of the spec. */
#include "tui/apply.h"

#include <string.h>

#include "planner/plan/params.h"

/* Whether the value says something that the default does not. */
static bool says(struct arena *a, const struct scheme_use *use, const struct scheme_use *plain,
                 const struct field *f)
{
    if (!params_given(use, f))
        return params_given(plain, f);
    return f->required || !params_given(plain, f) ||
           strcmp(params_value_text(a, use, f), params_value_text(a, plain, f)) != 0;
}

const char *apply_text(struct arena *a, const struct scheme_use *use)
{
    const struct scheme *s = use->scheme;
    struct scheme_use plain;
    const char *text = "";

    if (!use->params || !s->nfields)
        return use->name;
    plain = params_defaults(a, use);
    for (size_t i = 0; i < s->nfields; i++)
        if (says(a, use, &plain, &s->fields[i]))
            text = arena_printf(a, "%s, %s: %s", text, s->fields[i].key,
                                params_value_text(a, use, &s->fields[i]));
    return *text ? arena_printf(a, "{scheme: %s%s}", use->name, text) : use->name;
}

size_t apply_edits(struct arena *a, const struct scheme_use *use,
                   struct session_edit out[APPLY_EDITS])
{
    static const char *const keys[APPLY_EDITS] = {"cache.sharing", "cache.eviction",
                                                  "cache.format", "cache.k", "cache.v"};
    size_t n = 0;

    if (use && use->scheme && use->scheme->axis != AXIS_STORAGE) {
        const char *key = keys[use->scheme->axis == AXIS_SHARING ? 0 : 1];
        out[n++] = (struct session_edit){key, apply_text(a, use)};
        return n;
    }
    for (size_t i = use && use->scheme ? 2 : 0; i < APPLY_EDITS; i++)
        out[n++] = (struct session_edit){keys[i], NULL};
    if (use && use->scheme)
        out[0].value = apply_text(a, use);
    return n;
}
