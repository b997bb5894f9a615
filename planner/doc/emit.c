/* The way back from a tree to YAML. Only what surely reads as itself is written plain; the rest
 * is in double quotes, with escapes for whatever the reader would fold or refuse. */
#include "planner/doc/emit.h"

#include <stdlib.h>
#include <string.h>

#include "planner/base/utf8.h"

enum { KEY_PLAIN_BYTES = 128 }; /* a longer key needs the explicit form */

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           c == '_' || c == '/';
}

/* In a block as well as in a list on one line. */
static bool is_plain(const char *s)
{
    size_t n = strlen(s);
    bool start = is_word(s[0]) || (s[0] == '.' && (is_word(s[1]) || s[1] == '.')) ||
                 (s[0] == '-' && s[1] >= '0' && s[1] <= '9');

    if (!strcmp(s, "~"))
        return true;
    if (!start || !strncmp(s, "...", 3) || s[n - 1] == ' ')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_word(s[i]) && !strchr(" .+-@%()*=<>~", s[i]))
            return false;
    return true;
}

/* Characters that are line breaks, marks of order, or not allowed in a stream. */
static bool needs_escape(uint32_t cp)
{
    return utf8_is_control(cp) || cp == 0x2028 || cp == 0x2029 || cp == 0xfeff ||
           cp == 0xfffe || cp == 0xffff;
}

static void put_quoted(const char *s, FILE *out)
{
    size_t n = strlen(s);

    fputc('"', out);
    while (n) {
        uint32_t cp = 0;
        size_t len = utf8_next(s, n, &cp);

        if (!len) { /* no reader makes such a text */
            cp = 0xfffd;
            len = 1;
        }
        if (cp == '"' || cp == '\\')
            fprintf(out, "\\%c", (int)cp);
        else if (needs_escape(cp))
            fprintf(out, "\\u%04x", (unsigned)cp);
        else
            fwrite(s, 1, len, out);
        s += len;
        n -= len;
    }
    fputc('"', out);
}

static void put_text(const char *s, bool quoted, FILE *out)
{
    if (!quoted && (!*s || is_plain(s)))
        fputs(s, out);
    else
        put_quoted(s, out);
}

static void put_key(const char *key, int indent, FILE *out)
{
    bool small = strlen(key) <= KEY_PLAIN_BYTES;

    if (!small)
        fputs("? ", out);
    put_text(key, false, out);
    if (!small)
        fprintf(out, "\n%*s", indent, "");
    fputc(':', out);
}

static bool fits_one_line(const struct doc_node *list)
{
    for (const struct doc_node *c = list->first; c; c = c->next)
        if (c->kind != DOC_SCALAR || (!*c->text && !c->quoted))
            return false;
    return true;
}

static void put_node(const struct doc_node *n, int indent, FILE *out);

/* What follows "key:" or "-". */
static void put_value(const struct doc_node *n, int indent, FILE *out)
{
    bool line = n->kind == DOC_SCALAR || !n->n || (n->kind == DOC_LIST && fits_one_line(n));

    if (line && !(n->kind == DOC_SCALAR && !*n->text && !n->quoted))
        fputc(' ', out);
    if (!line)
        fputc('\n', out);
    put_node(n, indent, out);
    if (line)
        fputc('\n', out);
}

static void put_line(const struct doc_node *list, FILE *out)
{
    fputc('[', out);
    for (const struct doc_node *c = list->first; c; c = c->next) {
        put_text(c->text, c->quoted, out);
        if (c->next)
            fputs(", ", out);
    }
    fputc(']', out);
}

static void put_node(const struct doc_node *n, int indent, FILE *out)
{
    if (n->kind == DOC_SCALAR) {
        put_text(n->text, n->quoted, out);
    } else if (n->kind == DOC_MAP && !n->n) {
        fputs("{}", out);
    } else if (n->kind == DOC_LIST && fits_one_line(n)) {
        put_line(n, out);
    } else {
        for (const struct doc_node *c = n->first; c; c = c->next) {
            fprintf(out, "%*s", indent, "");
            if (n->kind == DOC_MAP)
                put_key(c->key, indent, out);
            else
                fputc('-', out);
            put_value(c, indent + 2, out);
        }
    }
}

void doc_emit(const struct doc_node *root, FILE *out)
{
    bool line = !root->n || (root->kind == DOC_LIST && fits_one_line(root));

    put_node(root, 0, out);
    if (line)
        fputc('\n', out);
}

/* open_memstream fails only without memory, which the arena reports. */
static char *collected(struct arena *a, FILE *out, char **text)
{
    char *copy;

    if (!out)
        return arena_strdup(a, "");
    fclose(out);
    copy = arena_strdup(a, *text);
    free(*text);
    return copy;
}

char *doc_emit_text(struct arena *a, const struct doc_node *root)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    if (out)
        doc_emit(root, out);
    return collected(a, out, &text);
}

char *doc_emit_scalar(struct arena *a, const char *s)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    if (out)
        put_text(s, !*s, out);
    return collected(a, out, &text);
}
