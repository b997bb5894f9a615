/* The tree that YAML and JSON are read into: building, looking up, changing one value, and
 * typed reads of single nodes. Reading the formats is in yaml.c and json.c, whole structs in
 * bind.c. */
#include "planner/doc/doc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct doc_node *doc_new(struct arena *a, enum doc_kind kind, struct loc at)
{
    struct doc_node *n = ARENA_NEW(a, struct doc_node, 1);

    n->kind = kind;
    n->at = at;
    n->text = "";
    return n;
}

void doc_append(struct doc_node *parent, struct doc_node *child)
{
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
    parent->n++;
}

struct doc_node *doc_copy(struct arena *a, const struct doc_node *n)
{
    struct doc_node *copy = doc_new(a, n->kind, n->at);

    copy->text = n->text;
    copy->quoted = n->quoted;
    for (const struct doc_node *c = n->first; c; c = c->next) {
        struct doc_node *child = doc_copy(a, c);
        child->key = c->key;
        child->key_at = c->key_at;
        doc_append(copy, child);
    }
    return copy;
}

/* By key, then by place in the file; both orders are needed to blame the later one. */
static int by_key(const void *pa, const void *pb)
{
    const struct doc_node *a = *(const struct doc_node *const *)pa;
    const struct doc_node *b = *(const struct doc_node *const *)pb;
    int c = strcmp(a->key, b->key);

    if (c == 0)
        c = (a->key_at.line > b->key_at.line) - (a->key_at.line < b->key_at.line);
    if (c == 0)
        c = (a->key_at.col > b->key_at.col) - (a->key_at.col < b->key_at.col);
    return c;
}

bool doc_check_keys(struct arena *a, const struct doc_node *map, struct diag *d)
{
    const struct doc_node **v;
    size_t n = 0, first = 0;
    bool ok = true;

    if (map->n < 2)
        return true;
    v = ARENA_NEW(a, const struct doc_node *, map->n);
    for (const struct doc_node *c = map->first; c; c = c->next)
        v[n++] = c;
    qsort(v, n, sizeof *v, by_key);
    for (size_t i = 1; i < n; i++) {
        if (strcmp(v[i]->key, v[first]->key) != 0)
            first = i;
        else
            ok = diag_add(d, DIAG_INPUT, v[i]->key_at, "duplicate key '%s', first on line %d",
                          v[i]->key, v[first]->key_at.line);
    }
    return ok;
}

static struct doc_node *child_of(const struct doc_node *map, const char *key, size_t n)
{
    if (!map || map->kind != DOC_MAP)
        return NULL;
    for (struct doc_node *c = map->first; c; c = c->next) {
        if (strncmp(c->key, key, n) == 0 && c->key[n] == '\0')
            return c;
    }
    return NULL;
}

const struct doc_node *doc_get(const struct doc_node *map, const char *key)
{
    return child_of(map, key, strlen(key));
}

const struct doc_node *doc_path(const struct doc_node *map, const char *dotted)
{
    for (;;) {
        size_t n = strcspn(dotted, ".");

        map = child_of(map, dotted, n);
        if (!map || dotted[n] == '\0')
            return map;
        dotted += n + 1;
    }
}

bool doc_is_null(const struct doc_node *n)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};

    if (!n)
        return true;
    if (n->kind != DOC_SCALAR || n->quoted)
        return false;
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++) {
        if (strcmp(n->text, nulls[i]) == 0)
            return true;
    }
    return false;
}

/* The child to set or to walk into, made when it is missing. A null becomes a map. */
static struct doc_node *step(struct arena *a, struct doc_node *map, const char *key, size_t n)
{
    struct doc_node *c;

    if (map->kind == DOC_SCALAR && doc_is_null(map))
        map->kind = DOC_MAP;
    if (map->kind != DOC_MAP)
        return NULL;
    c = child_of(map, key, n);
    if (c)
        return c;
    c = doc_new(a, DOC_SCALAR, (struct loc){.file = "--set", .line = 1, .col = 1});
    c->key = arena_strndup(a, key, n);
    c->key_at = c->at;
    doc_append(map, c);
    return c;
}

static bool path_is_sound(const char *dotted)
{
    size_t depth = 1, piece = 0;

    for (const char *s = dotted; *s; s++) {
        piece++;
        if (*s != '.')
            continue;
        if (piece == 1 || ++depth > DOC_DEPTH_MAX)
            return false;
        piece = 0;
    }
    return piece > 0;
}

bool doc_set(struct arena *a, struct doc_node *root, const char *dotted, const char *value,
             struct diag *d)
{
    struct loc at = {.file = "--set"};
    struct doc_node *parsed = NULL, *to = root;
    const char *name;
    size_t count = 0;

    if (!path_is_sound(dotted))
        return diag_add(d, DIAG_USAGE, at, "'%s' is not a path of keys such as engine.name",
                        dotted);
    name = arena_printf(a, "--set %s", dotted);
    if (!doc_read_yaml(a, name, value, strlen(value), d, &parsed, 1, &count))
        return false;
    if (count == 0)
        parsed = doc_new(a, DOC_SCALAR, (struct loc){.file = name, .line = 1, .col = 1});
    for (const char *s = dotted;;) {
        size_t n = strcspn(s, ".");

        to = step(a, to, s, n);
        if (!to)
            return diag_add(d, DIAG_USAGE, at, "'%s' runs through '%.*s', which is not a map",
                            dotted, (int)(s - dotted) - 1, dotted);
        if (s[n] == '\0')
            break;
        s += n + 1;
    }
    to->kind = parsed->kind;
    to->at = parsed->at;
    to->text = parsed->text;
    to->quoted = parsed->quoted;
    to->first = parsed->first;
    to->last = parsed->last;
    to->n = parsed->n;
    return true;
}

enum { NAME_MAX_BYTES = 64 };

/* Lower case, '-' as '_': so that "Block-Tokens" is near "block_tokens". */
static bool plain_form(const char *s, char *to)
{
    size_t n = strlen(s);

    if (n >= NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i <= n; i++) {
        char c = s[i];
        to[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c == '-' ? '_' : c;
    }
    return true;
}

const char *doc_nearest(const char *word, const char *const *names, size_t n)
{
    char w[NAME_MAX_BYTES], name[NAME_MAX_BYTES];
    const char *best = NULL;
    unsigned least;

    if (!plain_form(word, w) || w[0] == '\0')
        return NULL;
    least = strlen(w) <= 3 ? 1 : strlen(w) <= 6 ? 2 : 3;
    for (size_t i = 0; i < n; i++) {
        unsigned v;

        if (!names[i] || !plain_form(names[i], name))
            continue;
        v = unit_distance(w, name, least);
        if (v < least || (v == least && !best)) {
            least = v;
            best = names[i];
        }
    }
    return best;
}

const char *doc_describe(const struct doc_node *n, char *buf, size_t size)
{
    if (doc_is_null(n))
        return "nothing";
    if (n->kind != DOC_SCALAR)
        return n->kind == DOC_LIST ? "a list" : "a map";
    if (strlen(n->text) <= 40) {
        snprintf(buf, size, "'%s'", n->text);
        return buf;
    }
    for (size_t cut = 40;; cut--) { /* not inside a character */
        if (((unsigned char)n->text[cut] & 0xc0) != 0x80) {
            snprintf(buf, size, "'%.*s...'", (int)cut, n->text);
            return buf;
        }
    }
}

bool doc_reject(const struct doc_node *n, const char *label, enum unit_error e,
                const char *expected, struct diag *d)
{
    char buf[64];
    const char *found = doc_describe(n, buf, sizeof buf);

    if (e == UNIT_NEGATIVE)
        return diag_add(d, DIAG_INPUT, n->at, "%s must not be negative, found %s", label,
                        found);
    if (e == UNIT_RANGE)
        return diag_add(d, DIAG_INPUT, n->at, "%s is out of range, found %s", label, found);
    return diag_add(d, DIAG_INPUT, n->at, "%s: expected %s, found %s", label, expected, found);
}

/* "'layers'" or, in a list, "a value of the list". */
static const char *label_of(const struct doc_node *n, char *buf, size_t size)
{
    if (!n->key)
        return "a value of the list";
    snprintf(buf, size, "'%s'", n->key);
    return buf;
}

bool doc_u64(const struct doc_node *n, uint64_t min, uint64_t max, struct diag *d,
             uint64_t *out)
{
    enum unit_error e = UNIT_SYNTAX;
    char buf[128];
    uint64_t v = 0;

    if (doc_is_null(n))
        return true;
    if (n->kind == DOC_SCALAR)
        e = unit_parse_u64(n->text, &v);
    if (e != UNIT_OK)
        return doc_reject(n, label_of(n, buf, sizeof buf), e, "a whole number", d);
    if (v < min && max == UINT64_MAX)
        return diag_add(d, DIAG_INPUT, n->at, "%s must be at least %" PRIu64 ", found %" PRIu64,
                        label_of(n, buf, sizeof buf), min, v);
    if (v < min || v > max)
        return diag_add(d, DIAG_INPUT, n->at,
                        "%s must be between %" PRIu64 " and %" PRIu64 ", found %" PRIu64,
                        label_of(n, buf, sizeof buf), min, max, v);
    *out = v;
    return true;
}

bool doc_u32(const struct doc_node *n, uint32_t min, uint32_t max, struct diag *d,
             uint32_t *out)
{
    uint64_t v = *out;

    if (!doc_u64(n, min, max, d, &v))
        return false;
    *out = (uint32_t)v;
    return true;
}

bool doc_double(const struct doc_node *n, double min, double max, struct diag *d, double *out)
{
    enum unit_error e = UNIT_SYNTAX;
    char buf[128];
    double v = 0;

    if (doc_is_null(n))
        return true;
    if (n->kind == DOC_SCALAR && min < 0 && n->text[0] == '-' && n->text[1] != '-') {
        e = unit_parse_double(n->text + 1, &v);
        v = -v;
    } else if (n->kind == DOC_SCALAR) {
        e = unit_parse_double(n->text, &v);
    }
    if (e != UNIT_OK)
        return doc_reject(n, label_of(n, buf, sizeof buf), e, "a number", d);
    if (v < min || v > max)
        return diag_add(d, DIAG_INPUT, n->at, "%s must be between %g and %g, found %g",
                        label_of(n, buf, sizeof buf), min, max, v);
    *out = v;
    return true;
}

bool doc_truth(const struct doc_node *n, bool *out)
{
    static const struct {
        const char *text;
        bool value, bare; /* bare: only when unquoted */
    } words[] = {
        {"true", true, false}, {"false", false, false}, {"yes", true, false},
        {"no", false, false},  {"on", true, false},     {"off", false, false},
        {"True", true, false}, {"False", false, false}, {"1", true, true},
        {"0", false, true},
    };

    for (size_t i = 0; n->kind == DOC_SCALAR && i < sizeof words / sizeof *words; i++) {
        if (strcmp(n->text, words[i].text) == 0 && !(words[i].bare && n->quoted)) {
            *out = words[i].value;
            return true;
        }
    }
    return false;
}

bool doc_bool(const struct doc_node *n, struct diag *d, bool *out)
{
    char buf[128];

    if (doc_is_null(n) || doc_truth(n, out))
        return true;
    return doc_reject(n, label_of(n, buf, sizeof buf), UNIT_SYNTAX, "true or false", d);
}

bool doc_text(const struct doc_node *n, struct diag *d, const char **out)
{
    char buf[128];

    if (doc_is_null(n))
        return true;
    if (n->kind != DOC_SCALAR)
        return doc_reject(n, label_of(n, buf, sizeof buf), UNIT_SYNTAX, "a text", d);
    *out = n->text;
    return true;
}
