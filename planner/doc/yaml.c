/* YAML to trees through libyaml's events; its document API accepts duplicate keys and cyclic
 * aliases and takes quadratic time in nesting. The text is checked for UTF-8 and control
 * characters first, because libyaml gives those errors no place. Typing is left to the binder.
 */
#include <string.h>
#include <yaml.h>

#include "planner/base/utf8.h"
#include "planner/doc/doc.h"

struct reader {
    struct arena *a;
    struct diag *d;
    const char *name;
    yaml_parser_t parser;
    struct doc_node *open[DOC_DEPTH_MAX]; /* lists and maps not yet closed */
    size_t depth;
    const char *key; /* of the innermost map, waiting for its value */
    struct loc key_at;
    struct doc_node *root; /* of the document being read */
    bool ok;
};

/* libyaml counts from 0. */
static struct loc place(const struct reader *r, yaml_mark_t m)
{
    const size_t most = 1 << 30;

    return (struct loc){.file = r->name,
                        .line = (int)(m.line < most ? m.line : most) + 1,
                        .col = (int)(m.column < most ? m.column : most) + 1};
}

/* True for the characters of YAML 1.1 section 5.1, less the byte order mark and NEL. */
static bool allowed(uint32_t cp)
{
    return cp == '\t' || cp == '\n' || cp == '\r' ||
           (!utf8_is_control(cp) && cp != 0xfeff && cp != 0xfffe && cp != 0xffff);
}

static bool check_text(struct reader *r, const char *text, size_t size)
{
    struct loc at = {.file = r->name, .line = 1, .col = 1};

    for (size_t i = 0; i < size;) {
        uint32_t cp = 0;
        size_t len = utf8_next(text + i, size - i, &cp);

        if (len == 0)
            return diag_add(r->d, DIAG_INPUT, at, "invalid UTF-8: byte 0x%02x",
                            (unsigned)(unsigned char)text[i]);
        if (cp == 0)
            return diag_add(r->d, DIAG_INPUT, at, "a NUL byte is not allowed");
        if (!allowed(cp))
            return diag_add(r->d, DIAG_INPUT, at, "the character U+%04X is not allowed",
                            (unsigned)cp);
        i += len;
        at.col++;
        if (cp == '\n' || (cp == '\r' && !(i < size && text[i] == '\n'))) {
            at.line++;
            at.col = 1;
        }
    }
    return true;
}

static bool fail(struct reader *r, yaml_mark_t m, const char *text)
{
    r->ok = diag_add(r->d, DIAG_INPUT, place(r, m), "%s", text);
    return false;
}

static bool syntax_error(struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    const char *problem = p->problem ? p->problem : "cannot be read";

    if (p->error == YAML_MEMORY_ERROR)
        r->ok = diag_add(r->d, DIAG_INTERNAL, (struct loc){.file = r->name}, "out of memory");
    else if (p->context)
        r->ok = diag_add(r->d, DIAG_INPUT, place(r, p->problem_mark),
                         "%s, %s that starts on line %d", problem, p->context,
                         place(r, p->context_mark).line);
    else
        r->ok = diag_add(r->d, DIAG_INPUT, place(r, p->problem_mark), "%s", problem);
    return false;
}

/* Puts a value where it belongs: the root, the list, or the map under the waiting key. */
static void put(struct reader *r, struct doc_node *n)
{
    struct doc_node *parent = r->depth > 0 ? r->open[r->depth - 1] : NULL;

    if (!parent) {
        r->root = n;
        return;
    }
    if (parent->kind == DOC_MAP) {
        n->key = r->key;
        n->key_at = r->key_at;
        r->key = NULL;
    }
    doc_append(parent, n);
}

static bool wants_key(const struct reader *r)
{
    return r->depth > 0 && r->open[r->depth - 1]->kind == DOC_MAP && !r->key;
}

static bool on_scalar(struct reader *r, const yaml_event_t *e)
{
    const char *text = (const char *)e->data.scalar.value;
    struct doc_node *n;

    if (memchr(text, '\0', e->data.scalar.length))
        return fail(r, e->start_mark, "a NUL character is not allowed");
    text = arena_strndup(r->a, text, e->data.scalar.length);
    if (wants_key(r)) {
        if (text[0] == '\0')
            return fail(r, e->start_mark, "a key is missing");
        r->key = text;
        r->key_at = place(r, e->start_mark);
        return true;
    }
    n = doc_new(r->a, DOC_SCALAR, place(r, e->start_mark));
    n->text = text;
    n->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    put(r, n);
    return true;
}

static bool on_open(struct reader *r, const yaml_event_t *e, enum doc_kind kind)
{
    struct doc_node *n;

    if (wants_key(r))
        return fail(r, e->start_mark, "a key must be one word, not a list or map");
    if (r->depth == DOC_DEPTH_MAX) {
        r->ok = diag_add(r->d, DIAG_INPUT, place(r, e->start_mark),
                         "lists and maps are nested more than %d deep", (int)DOC_DEPTH_MAX);
        return false;
    }
    n = doc_new(r->a, kind, place(r, e->start_mark));
    put(r, n);
    r->open[r->depth++] = n;
    return true;
}

static void on_close(struct reader *r)
{
    struct doc_node *n = r->open[--r->depth];

    if (n->kind == DOC_MAP && !doc_check_keys(r->a, n, r->d))
        r->ok = false;
}

static void reject_decoration(struct reader *r, yaml_mark_t m, const void *anchor,
                              const void *tag)
{
    if (anchor)
        fail(r, m, "anchors are not supported: write the value out");
    if (tag)
        fail(r, m, "tags are not supported: write the plain value");
}

/* One event; false stops the reading. */
static bool on_event(struct reader *r, const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        reject_decoration(r, e->start_mark, e->data.scalar.anchor, e->data.scalar.tag);
        return on_scalar(r, e);
    case YAML_SEQUENCE_START_EVENT:
        reject_decoration(r, e->start_mark, e->data.sequence_start.anchor,
                          e->data.sequence_start.tag);
        return on_open(r, e, DOC_LIST);
    case YAML_MAPPING_START_EVENT:
        reject_decoration(r, e->start_mark, e->data.mapping_start.anchor,
                          e->data.mapping_start.tag);
        return on_open(r, e, DOC_MAP);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: on_close(r); return true;
    case YAML_ALIAS_EVENT:
        return fail(r, e->start_mark, "aliases are not supported: write the value out");
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_START_EVENT:
    case YAML_DOCUMENT_END_EVENT: return true;
    }
    return true;
}

static bool read_events(struct reader *r, struct doc_node **out, size_t max, size_t *n)
{
    for (;;) {
        yaml_event_t e;
        yaml_event_type_t type;
        bool more;

        if (!yaml_parser_parse(&r->parser, &e))
            return syntax_error(r);
        type = e.type;
        if (type == YAML_DOCUMENT_START_EVENT && *n == max) {
            r->ok = diag_add(r->d, DIAG_INPUT, place(r, e.start_mark),
                             "more than %zu document%s", max, max == 1 ? "" : "s");
            more = false;
        } else {
            more = on_event(r, &e);
        }
        yaml_event_delete(&e);
        if (!more || type == YAML_STREAM_END_EVENT)
            return r->ok;
        if (type == YAML_DOCUMENT_END_EVENT) {
            out[(*n)++] = r->root;
            r->root = NULL;
        }
    }
}

bool doc_read_yaml(struct arena *a, const char *name, const char *text, size_t size,
                   struct diag *d, struct doc_node **out, size_t max, size_t *n)
{
    struct reader r = {.a = a, .d = d, .name = arena_strdup(a, name), .ok = true};
    bool ok;

    *n = 0;
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark */
        text += 3;
        size -= 3;
    }
    if (!check_text(&r, text, size))
        return false;
    if (!yaml_parser_initialize(&r.parser))
        return diag_add(d, DIAG_INTERNAL, (struct loc){.file = r.name}, "out of memory");
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
    ok = read_events(&r, out, max, n);
    yaml_parser_delete(&r.parser);
    return ok;
}
