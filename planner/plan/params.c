/* Reading bound parameters back. The field table says where each value is and of which type;
 * this file knows no scheme. */
#include "planner/plan/params.h"

#include <inttypes.h>
#include <string.h>

static bool same_key(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a == '-' ? '_' : *a) != (*b == '-' ? '_' : *b))
            return false;
    return *a == *b;
}

const struct field *params_field(const struct scheme *s, const char *key)
{
    for (size_t i = 0; i < s->nfields; i++)
        if (same_key(s->fields[i].key, key))
            return &s->fields[i];
    return NULL;
}

static const void *member(const struct scheme_use *use, const struct field *f)
{
    return (const char *)use->params + f->offset;
}

bool params_number(const struct scheme_use *use, const struct field *f, double *out)
{
    switch (f->type) {
    case F_U64:
    case F_TOKENS:
    case F_BYTES: *out = (double)*(const uint64_t *)member(use, f); return true;
    case F_RATE:
    case F_FLOPS:
    case F_SECONDS:
    case F_NUMBER: *out = *(const double *)member(use, f); return true;
    case F_BOOL:
    case F_TEXT:
    case F_CHOICE:
    case F_U64_LIST:
    case F_NODE: return false;
    }
    return false;
}

bool params_given(const struct scheme_use *use, const struct field *f)
{
    double number;

    if (params_number(use, f, &number))
        return number > 0;
    switch (f->type) {
    case F_BOOL: return *(const bool *)member(use, f);
    case F_TEXT: return *(const char *const *)member(use, f) != NULL;
    case F_U64_LIST: return ((const struct u64_list *)member(use, f))->n > 0;
    case F_NODE: return !doc_is_null(*(const struct doc_node *const *)member(use, f));
    case F_CHOICE: return true;
    case F_U64:
    case F_TOKENS:
    case F_BYTES:
    case F_RATE:
    case F_FLOPS:
    case F_SECONDS:
    case F_NUMBER: return false;
    }
    return false;
}

/* Flow style: [1, 1, 3], {a: b}. Documents are at most DOC_DEPTH_MAX deep. */
static const char *node_text(struct arena *a, const struct doc_node *n)
{
    const char *s;

    if (n->kind == DOC_SCALAR)
        return n->text;
    s = n->kind == DOC_LIST ? "[" : "{";
    for (const struct doc_node *c = n->first; c; c = c->next)
        s = arena_printf(a, "%s%s%s%s%s", s, c->key ? c->key : "", c->key ? ": " : "",
                         node_text(a, c), c->next ? ", " : "");
    return arena_printf(a, "%s%s", s, n->kind == DOC_LIST ? "]" : "}");
}

static const char *list_text(struct arena *a, const struct u64_list *l)
{
    const char *s = "[";

    for (size_t i = 0; i < l->n; i++)
        s = arena_printf(a, "%s%s%" PRIu64, s, i ? ", " : "", l->v[i]);
    return arena_printf(a, "%s]", s);
}

const char *params_value_text(struct arena *a, const struct scheme_use *use,
                              const struct field *f)
{
    double number = 0;

    switch (f->type) {
    case F_U64:
    case F_TOKENS:
    case F_BYTES: return arena_printf(a, "%" PRIu64, *(const uint64_t *)member(use, f));
    case F_CHOICE: return f->choices[*(const uint64_t *)member(use, f)];
    case F_BOOL: return *(const bool *)member(use, f) ? "true" : "false";
    case F_TEXT: return *(const char *const *)member(use, f);
    case F_U64_LIST: return list_text(a, member(use, f));
    case F_NODE: return node_text(a, *(const struct doc_node *const *)member(use, f));
    case F_RATE:
    case F_FLOPS:
    case F_SECONDS:
    case F_NUMBER:
        (void)params_number(use, f, &number);
        return arena_printf(a, "%.15g", number);
    }
    return "";
}

struct scheme_use params_defaults(struct arena *a, const struct scheme_use *use)
{
    struct scheme_use out = *use;
    const struct scheme *s = use->scheme;

    out.params = arena_alloc(a, 1, s->params_size ? s->params_size : 1);
    (void)!bind_map(a, NULL, use->name, s->fields, s->nfields, NULL, diag_new(a), out.params);
    return out;
}

const char *params_text(struct arena *a, const struct scheme_use *use)
{
    struct scheme_use plain = params_defaults(a, use);
    const char *s = "";

    for (size_t i = 0; i < use->scheme->nfields; i++) {
        const struct field *f = &use->scheme->fields[i];
        bool word = f->type == F_CHOICE || f->type == F_BOOL;
        const char *text;
        if (!params_given(use, f))
            continue;
        text = params_value_text(a, use, f);
        if (word && params_given(&plain, f) && !strcmp(text, params_value_text(a, &plain, f)))
            continue;
        s = arena_printf(a, "%s%s%s %s", s, *s ? ", " : "", f->key, text);
    }
    return s;
}

void params_json(struct arena *a, const struct scheme_use *use, cJSON *to)
{
    for (size_t i = 0; i < use->scheme->nfields; i++) {
        const struct field *f = &use->scheme->fields[i];
        double number = 0;
        if (!params_given(use, f))
            continue;
        if (f->type == F_U64 || f->type == F_TOKENS || f->type == F_BYTES)
            json_u64(to, f->key, *(const uint64_t *)member(use, f));
        else if (f->type == F_BOOL)
            json_bool(to, f->key, true);
        else if (params_number(use, f, &number))
            json_double(to, f->key, number);
        else
            json_text(to, f->key, params_value_text(a, use, f));
    }
}
