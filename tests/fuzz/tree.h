/* For the targets that read documents: whatever was read, written as JSON strings or as YAML,
 * reads back as the same tree; every node has a sound place. */
#ifndef KVBUDGET_TESTS_FUZZ_TREE_H
#define KVBUDGET_TESTS_FUZZ_TREE_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/utf8.h"
#include "planner/doc/emit.h"

static inline void tree_write_text(const char *s, FILE *out)
{
    fputc('"', out);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            fprintf(out, "\\u%04x", (unsigned)(unsigned char)*s);
        else
            fputc(*s, out);
    }
    fputc('"', out);
}

static inline void tree_write(const struct doc_node *n, FILE *out)
{
    if (n->kind == DOC_SCALAR) {
        tree_write_text(n->text, out);
        return;
    }
    fputc(n->kind == DOC_MAP ? '{' : '[', out);
    for (const struct doc_node *c = n->first; c; c = c->next) {
        if (n->kind == DOC_MAP) {
            tree_write_text(c->key, out);
            fputc(':', out);
        }
        tree_write(c, out);
        if (c->next)
            fputc(',', out);
    }
    fputc(n->kind == DOC_MAP ? '}' : ']', out);
}

static inline void tree_check(const struct doc_node *n, unsigned depth)
{
    size_t children = 0;

    assert(depth <= DOC_JSON_DEPTH_MAX + 1);
    assert(n->at.file && n->at.line >= 1 && n->at.col >= 1);
    assert(n->text);
    for (const struct doc_node *c = n->first; c; c = c->next, children++) {
        assert(!c->key == (n->kind != DOC_MAP));
        assert(c->next || c == n->last);
        if (c->key)
            assert(doc_get(n, c->key) == c);
        tree_check(c, depth + 1);
    }
    assert(children == n->n);
    assert(n->kind != DOC_SCALAR || children == 0);
}

static inline void tree_equal(const struct doc_node *a, const struct doc_node *b)
{
    const struct doc_node *x = a->first, *y = b->first;

    assert(a->kind == b->kind && a->n == b->n && strcmp(a->text, b->text) == 0);
    for (; x && y; x = x->next, y = y->next) {
        assert(!x->key == !y->key && (!x->key || strcmp(x->key, y->key) == 0));
        tree_equal(x, y);
    }
}

static inline void tree_round_trip(struct arena *a, const struct doc_node *n)
{
    struct diag *d = diag_new(a);
    struct doc_node *back = NULL;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    bool ok;

    assert(out);
    tree_check(n, 1);
    tree_write(n, out);
    fclose(out);
    ok = doc_read_json(a, "back", text, size, false, d, &back);
    assert(ok);
    tree_equal(n, back);
    free(text);
}

/* Nulls stay nulls, too. */
static inline void tree_same_nulls(const struct doc_node *a, const struct doc_node *b)
{
    assert(doc_is_null(a) == doc_is_null(b));
    for (a = a->first, b = b->first; a && b; a = a->next, b = b->next)
        tree_same_nulls(a, b);
}

static inline void tree_yaml_round_trip(struct arena *a, const struct doc_node *n)
{
    struct diag *d = diag_new(a);
    struct doc_node *back = NULL;
    size_t count = 0;
    const char *text;
    bool ok;

    if (n->kind == DOC_SCALAR)
        return;
    text = doc_emit_text(a, n);
    ok = doc_read_yaml(a, "back", text, strlen(text), d, &back, 1, &count);
    assert(ok && count == 1);
    tree_equal(n, back);
    tree_same_nulls(n, back);
}

#endif
