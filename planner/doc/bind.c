/* The binder: fills a struct from a map by a table of fields. All checks of type, unit and
 * range of spec keys are here, so every command and the terminal interface give the same
 * messages. */
#include "planner/doc/bind.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { UNKNOWN_MAX = 50, LABEL_BYTES = 160 };

static const char *expected_text(enum field_type t)
{
    switch (t) {
    case F_BOOL: return "true or false";
    case F_U64: return "a whole number";
    case F_TOKENS: return "a number of tokens such as 4096 or 128k";
    case F_BYTES: return "a size such as 80GiB or 24GB";
    case F_RATE: return "a rate such as 936GB/s";
    case F_FLOPS: return "a rate such as 989TFLOPS";
    case F_SECONDS: return "a time such as 2.5ms";
    case F_NUMBER: return "a number";
    case F_TEXT: return "a text";
    case F_CHOICE: return "one of the choices";
    case F_U64_LIST: return "a list of whole numbers";
    case F_NODE: return "a value";
    }
    return "a value";
}

/* A bound as the user would write it. */
static void bound_text(enum field_type t, double v, char *buf, size_t n)
{
    if (t == F_BYTES && v >= 0 && v < 1e18)
        unit_format_bytes_exact((uint64_t)v, buf, n);
    else if (t == F_RATE)
        unit_format_rate(v, buf, n);
    else if (t == F_FLOPS)
        snprintf(buf, n, "%gFLOPS", v);
    else if (t == F_SECONDS)
        snprintf(buf, n, "%gs", v);
    else if (v > -1e15 && v < 1e15 && v - (double)(int64_t)v == 0)
        snprintf(buf, n, "%" PRId64, (int64_t)v);
    else
        snprintf(buf, n, "%g", v);
}

static bool check_range(const struct doc_node *n, const char *label, const struct field *f,
                        double v, struct diag *d)
{
    char lo[40], hi[40];
    bool above = f->max != 0;

    if (v >= f->min && (!above || v <= f->max))
        return true;
    bound_text(f->type, f->min, lo, sizeof lo);
    bound_text(f->type, f->max, hi, sizeof hi);
    if (!above)
        return diag_add(d, DIAG_INPUT, n->at, "%s must be at least %s, found %s", label, lo,
                        n->text);
    return diag_add(d, DIAG_INPUT, n->at, "%s must be between %s and %s, found %s", label, lo,
                    hi, n->text);
}

/* "'80G' is ambiguous: write 80GB (10^9 bytes) or 80GiB (2^30 bytes)" */
static bool ambiguous(const struct doc_node *n, const char *label, bool per_s, struct diag *d)
{
    static const char letters[] = "KMGTP";
    size_t len = strlen(n->text) - 1;
    char c = n->text[len];
    char up = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
    int step = (int)(strchr(letters, up) - letters) + 1;
    const char *tail = per_s ? "/s" : "";

    while (len > 0 && n->text[len - 1] == ' ')
        len--;
    return diag_add(
        d, DIAG_INPUT, n->at,
        "%s: '%s' is ambiguous: write %.*s%cB%s (10^%d bytes%s) or %.*s%ciB%s (2^%d "
        "bytes%s)",
        label, n->text, (int)len, n->text, up == 'K' ? 'k' : up, tail, 3 * step, tail, (int)len,
        n->text, up, tail, 10 * step, tail);
}

static enum unit_error parse_whole(enum field_type t, const char *s, uint64_t *v)
{
    return t == F_BYTES    ? unit_parse_bytes(s, v)
           : t == F_TOKENS ? unit_parse_tokens(s, v)
                           : unit_parse_u64(s, v);
}

static enum unit_error parse_real(const struct field *f, const char *s, double *v)
{
    enum unit_error e;

    if (f->type == F_RATE)
        return unit_parse_rate(s, v);
    if (f->type == F_FLOPS)
        return unit_parse_flops(s, v);
    if (f->type == F_SECONDS)
        return unit_parse_seconds(s, v);
    if (f->min >= 0 || s[0] != '-')
        return unit_parse_double(s, v);
    e = s[1] == '-' ? UNIT_SYNTAX : unit_parse_double(s + 1, v);
    *v = -*v;
    return e;
}

static bool bind_number(const struct doc_node *n, const char *label, const struct field *f,
                        struct diag *d, void *out)
{
    bool whole =
        f->type == F_U64 || f->type == F_TOKENS || f->type == F_BYTES || f->type == F_U64_LIST;
    enum unit_error e = UNIT_SYNTAX;
    uint64_t u = 0;
    double v = 0;

    if (n->kind == DOC_SCALAR && whole)
        e = parse_whole(f->type, n->text, &u);
    else if (n->kind == DOC_SCALAR)
        e = parse_real(f, n->text, &v);
    if (e == UNIT_AMBIGUOUS)
        return ambiguous(n, label, f->type == F_RATE, d);
    if (e != UNIT_OK)
        return doc_reject(n, label, e,
                          f->type == F_U64_LIST ? "a whole number" : expected_text(f->type), d);
    if (!check_range(n, label, f, whole ? (double)u : v, d))
        return false;
    if (whole)
        memcpy(out, &u, sizeof u);
    else
        memcpy(out, &v, sizeof v);
    return true;
}

static bool bind_list(struct arena *a, const struct doc_node *n, const char *label,
                      const struct field *f, struct diag *d, void *out)
{
    struct u64_list list = {0};
    uint64_t *v = ARENA_NEW(a, uint64_t, n->n + 1);
    bool ok = true;

    if (n->kind == DOC_MAP)
        return doc_reject(n, label, UNIT_SYNTAX, expected_text(f->type), d);
    if (n->kind == DOC_SCALAR) {
        ok = bind_number(n, label, f, d, &v[list.n++]);
    } else {
        for (const struct doc_node *c = n->first; c; c = c->next)
            ok = bind_number(c, label, f, d, &v[list.n++]) && ok;
    }
    list.v = v;
    if (ok)
        memcpy(out, &list, sizeof list);
    return ok;
}

static bool reject_choice(struct arena *a, const struct doc_node *n, const char *label,
                          const char *const *choices, struct diag *d)
{
    const char *all = "", *near = NULL;
    char buf[64];
    size_t count = 0;

    for (; choices[count]; count++)
        all = arena_printf(a, "%s%s%s", all, count > 0 ? ", " : "", choices[count]);
    if (n->kind == DOC_SCALAR)
        near = doc_nearest(n->text, choices, count);
    return diag_add(d, DIAG_INPUT, n->at, "%s must be one of %s, found %s%s%s%s", label, all,
                    doc_describe(n, buf, sizeof buf), near ? "; did you mean '" : "",
                    near ? near : "", near ? "'?" : "");
}

static bool bind_choice(struct arena *a, const struct doc_node *n, const char *label,
                        const struct field *f, struct diag *d, void *out)
{
    for (uint64_t i = 0; n->kind == DOC_SCALAR && f->choices[i]; i++) {
        if (strcmp(n->text, f->choices[i]) == 0) {
            memcpy(out, &i, sizeof i);
            return true;
        }
    }
    return reject_choice(a, n, label, f->choices, d);
}

static bool bind_bool(const struct doc_node *n, const char *label, struct diag *d, void *out)
{
    bool v = false;

    if (!doc_truth(n, &v))
        return doc_reject(n, label, UNIT_SYNTAX, expected_text(F_BOOL), d);
    memcpy(out, &v, sizeof v);
    return true;
}

/* `label` already names key and map. */
static bool bind_labelled(struct arena *a, const struct doc_node *n, const char *label,
                          const struct field *f, struct diag *d, char *out)
{
    out += f->offset;
    switch (f->type) {
    case F_BOOL: return bind_bool(n, label, d, out);
    case F_U64:
    case F_TOKENS:
    case F_BYTES:
    case F_RATE:
    case F_FLOPS:
    case F_SECONDS:
    case F_NUMBER: return bind_number(n, label, f, d, out);
    case F_TEXT:
        if (n->kind != DOC_SCALAR)
            return doc_reject(n, label, UNIT_SYNTAX, expected_text(F_TEXT), d);
        memcpy(out, &n->text, sizeof n->text);
        return true;
    case F_CHOICE: return bind_choice(a, n, label, f, d, out);
    case F_U64_LIST: return bind_list(a, n, label, f, d, out);
    case F_NODE: memcpy(out, &n, sizeof n); return true;
    }
    return false;
}

bool bind_value(struct arena *a, const struct doc_node *value, const char *what,
                const struct field *field, struct diag *d, void *out)
{
    char label[LABEL_BYTES];

    if (doc_is_null(value))
        return true;
    snprintf(label, sizeof label, "'%s' in %s", field->key, what);
    return bind_labelled(a, value, label, field, d, out);
}

/* The default, read like a value in a file; the range is for users, a default may lie outside.
 */
static bool bind_fallback(struct arena *a, const char *what, const struct field *field,
                          struct diag *d, void *out)
{
    struct field f = *field;
    struct doc_node *n = NULL;
    size_t count = 0;

    if (!f.fallback)
        return true;
    f.min = f.type == F_NUMBER ? -1e300 : 0;
    f.max = 0;
    if (f.type != F_U64_LIST && f.type != F_NODE) {
        n = doc_new(a, DOC_SCALAR, (struct loc){.file = "<default>"});
        n->text = f.fallback;
        n->quoted = f.type == F_TEXT;
    } else if (!doc_read_yaml(a, "<default>", f.fallback, strlen(f.fallback), d, &n, 1,
                              &count)) {
        return false;
    }
    return bind_value(a, n, what, &f, d, out);
}

static bool in_list(const char *key, const char *const *names)
{
    for (; names && *names; names++) {
        if (strcmp(key, *names) == 0)
            return true;
    }
    return false;
}

static bool is_field(const char *key, const struct field *fields, size_t nfields)
{
    for (size_t i = 0; i < nfields; i++) {
        if (strcmp(key, fields[i].key) == 0)
            return true;
    }
    return false;
}

static bool check_unknown(struct arena *a, const struct doc_node *map, const char *what,
                          const struct field *fields, size_t nfields,
                          const char *const *ignored, struct diag *d)
{
    const char **names = ARENA_NEW(a, const char *, nfields + 1);
    size_t unknown = 0;

    for (size_t i = 0; i < nfields; i++)
        names[i] = fields[i].key;
    for (const struct doc_node *c = map->first; c; c = c->next) {
        const char *near;

        if (is_field(c->key, fields, nfields) || in_list(c->key, ignored))
            continue;
        if (unknown++ == UNKNOWN_MAX)
            return diag_add(d, DIAG_INPUT, c->key_at, "more unknown keys in %s are not shown",
                            what);
        near = doc_nearest(c->key, names, nfields);
        if (near)
            diag_add(d, DIAG_INPUT, c->key_at, "unknown key '%s' in %s; did you mean '%s'?",
                     c->key, what, near);
        else
            diag_add(d, DIAG_INPUT, c->key_at, "unknown key '%s' in %s", c->key, what);
    }
    return unknown == 0;
}

bool bind_map(struct arena *a, const struct doc_node *map, const char *what,
              const struct field *fields, size_t nfields, const char *const *ignored,
              struct diag *d, void *out)
{
    bool none = doc_is_null(map), ok = true;

    if (!none && map->kind != DOC_MAP)
        return doc_reject(map, what, UNIT_SYNTAX, "a map of keys", d);
    if (!none)
        ok = check_unknown(a, map, what, fields, nfields, ignored, d);
    for (size_t i = 0; i < nfields; i++) {
        const struct field *f = &fields[i];
        const struct doc_node *n = none ? NULL : doc_get(map, f->key);

        if (!doc_is_null(n))
            ok = bind_value(a, n, what, f, d, out) && ok;
        else if (f->required)
            ok = diag_add(d, DIAG_INPUT,
                          n     ? n->at
                          : map ? map->at
                                : (struct loc){0},
                          "required key '%s' is missing in %s", f->key, what);
        else
            ok = bind_fallback(a, what, f, d, out) && ok;
    }
    return ok;
}
