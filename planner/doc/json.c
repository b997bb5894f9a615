/* JSON to trees. First our own scan checks the text against RFC 8259, bounds the depth and
 * writes down the place of every key and value and the exact text of every number, in document
 * order; then cJSON decodes it, and its tree is walked in the same order. (cJSON alone keeps
 * numbers as doubles, has no places, and accepts control characters and numbers such as 01.)
 * The literals NaN, Infinity and -Infinity of some published configs become strings of the same
 * length for cJSON. */
#include <cjson/cJSON.h>
#include <string.h>

#include "planner/base/utf8.h"
#include "planner/doc/doc.h"

struct mark {
    int line, col;
    const char *text; /* of a number or a special literal, else NULL */
};

struct scan {
    struct arena *a;
    struct diag *d;
    const char *name;
    char *s; /* NUL-terminated copy, special literals rewritten */
    size_t i, n;
    int line;
    size_t line_start; /* in bytes */
    size_t col_from;   /* the column of byte col_from is col_at: columns count characters */
    int col_at;
    int depth;
    bool lenient;
    struct mark *marks;
    size_t n_marks, cap_marks;
};

static struct loc here(struct scan *p)
{
    for (; p->col_from < p->i; p->col_from++)
        p->col_at += ((unsigned char)p->s[p->col_from] & 0xc0) != 0x80;
    return (struct loc){.file = p->name, .line = p->line, .col = p->col_at};
}

/* What stands here, for messages. */
static const char *found(struct scan *p)
{
    uint32_t cp = 0;
    size_t len = utf8_next(p->s + p->i, p->n - p->i, &cp);

    if (p->i == p->n)
        return "the end of the file";
    if (len == 0 || utf8_is_control(cp))
        return arena_printf(p->a, "byte 0x%02x", (unsigned)(unsigned char)p->s[p->i]);
    return arena_printf(p->a, "'%.*s'", (int)len, p->s + p->i);
}

static bool expected(struct scan *p, const char *what)
{
    return diag_add(p->d, DIAG_INPUT, here(p), "expected %s, found %s", what, found(p));
}

static void skip_space(struct scan *p)
{
    for (;; p->i++) {
        char c = p->s[p->i];

        if (c != ' ' && c != '\t' && c != '\r' && c != '\n')
            return;
        if (c == '\n') {
            p->line++;
            p->col_from = p->i + 1;
            p->col_at = 1;
        }
    }
}

static void add_mark(struct scan *p, const char *text)
{
    struct loc at = here(p);

    if (p->n_marks == p->cap_marks) {
        p->cap_marks = p->cap_marks ? p->cap_marks * 2 : 64;
        p->marks = arena_grow(p->a, p->marks, p->n_marks, p->cap_marks, sizeof *p->marks);
    }
    p->marks[p->n_marks++] = (struct mark){.line = at.line, .col = at.col, .text = text};
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* After a backslash; what cJSON then decodes is text without a NUL. */
static bool scan_escape(struct scan *p)
{
    const char *s = p->s + p->i;

    if (*s != '\0' && strchr("\"\\/bfnrt", *s)) {
        p->i++;
        return true;
    }
    if (*s != 'u' || !is_hex(s[1]) || !is_hex(s[2]) || !is_hex(s[3]) || !is_hex(s[4]))
        return expected(p, "an escape such as \\n or \\u00e9");
    if (memcmp(s, "u0000", 5) == 0)
        return diag_add(p->d, DIAG_INPUT, here(p), "a NUL character is not allowed");
    p->i += 5;
    return true;
}

/* A string, without a mark; the text is known to be valid UTF-8. */
static bool scan_string(struct scan *p)
{
    p->i++;
    for (;;) {
        char c = p->s[p->i];

        if (c == '"') {
            p->i++;
            return true;
        }
        if (p->i == p->n)
            return expected(p, "'\"' at the end of a string");
        if ((unsigned char)c < 0x20)
            return diag_add(p->d, DIAG_INPUT, here(p),
                            "a control character (byte 0x%02x) in a string",
                            (unsigned)(unsigned char)c);
        p->i++;
        if (c == '\\' && !scan_escape(p))
            return false;
    }
}

static size_t digits(const char *s)
{
    size_t n = 0;

    while (s[n] >= '0' && s[n] <= '9')
        n++;
    return n;
}

static bool scan_number(struct scan *p)
{
    size_t start = p->i, n;

    p->i += p->s[p->i] == '-';
    n = digits(p->s + p->i);
    if (n == 0)
        return expected(p, "a digit");
    if (n > 1 && p->s[p->i] == '0')
        return diag_add(p->d, DIAG_INPUT, here(p), "a number must not start with 0");
    p->i += n;
    if (p->s[p->i] == '.') {
        p->i++;
        n = digits(p->s + p->i);
        if (n == 0)
            return expected(p, "a digit");
        p->i += n;
    }
    if (p->s[p->i] == 'e' || p->s[p->i] == 'E') {
        p->i++;
        p->i += p->s[p->i] == '+' || p->s[p->i] == '-';
        n = digits(p->s + p->i);
        if (n == 0)
            return expected(p, "a digit");
        p->i += n;
    }
    p->marks[p->n_marks - 1].text = arena_strndup(p->a, p->s + start, p->i - start);
    return true;
}

static bool word(struct scan *p, const char *w)
{
    return strncmp(p->s + p->i, w, strlen(w)) == 0;
}

/* NaN, Infinity, -Infinity: noted and hidden from cJSON in a string of the same length. */
static bool scan_special(struct scan *p, const char *literal)
{
    size_t len = strlen(literal);

    if (!diag_add(p->d, p->lenient ? DIAG_NOTE : DIAG_INPUT, here(p), "'%s' is not JSON%s",
                  literal, p->lenient ? "; it is taken as a text" : ""))
        return false;
    p->marks[p->n_marks - 1].text = literal;
    here(p); /* count the columns before the bytes change */
    p->s[p->i] = '"';
    memset(p->s + p->i + 1, 'x', len - 2);
    p->s[p->i + len - 1] = '"';
    p->i += len;
    return true;
}

static bool scan_value(struct scan *p);

static bool scan_member(struct scan *p)
{
    skip_space(p);
    if (p->s[p->i] != '"')
        return expected(p, "a key in double quotes");
    add_mark(p, NULL);
    if (!scan_string(p))
        return false;
    skip_space(p);
    if (p->s[p->i] != ':')
        return expected(p, "':'");
    p->i++;
    return scan_value(p);
}

static bool scan_nested(struct scan *p, char close)
{
    bool map = close == '}';

    if (++p->depth > DOC_JSON_DEPTH_MAX)
        return diag_add(p->d, DIAG_INPUT, here(p),
                        "lists and maps are nested more than %d deep", (int)DOC_JSON_DEPTH_MAX);
    p->i++;
    skip_space(p);
    for (bool first = true; !first || p->s[p->i] != close; first = false) {
        if (!(map ? scan_member(p) : scan_value(p)))
            return false;
        skip_space(p);
        if (p->s[p->i] == close)
            break;
        if (p->s[p->i] != ',')
            return expected(p, map ? "',' or '}'" : "',' or ']'");
        p->i++;
    }
    p->i++;
    p->depth--;
    return true;
}

static bool scan_value(struct scan *p)
{
    static const char *const words[] = {"true", "false", "null"};
    static const char *const special[] = {"NaN", "Infinity", "-Infinity"};
    char c;

    skip_space(p);
    c = p->s[p->i];
    add_mark(p, NULL);
    if (c == '{' || c == '[')
        return scan_nested(p, c == '{' ? '}' : ']');
    if (c == '"')
        return scan_string(p);
    for (size_t k = 0; k < 3; k++) {
        if (word(p, special[k]))
            return scan_special(p, special[k]);
        if (word(p, words[k])) {
            p->i += strlen(words[k]);
            return true;
        }
    }
    if (c == '-' || (c >= '0' && c <= '9'))
        return scan_number(p);
    return expected(p, "a value");
}

static bool check_utf8(struct scan *p)
{
    size_t bad = 0;

    while (bad < p->n) {
        uint32_t cp = 0;
        size_t len = utf8_next(p->s + bad, p->n - bad, &cp);
        if (len == 0 || cp == 0)
            break;
        bad += len;
    }
    if (bad == p->n)
        return true;
    for (; p->i < bad; p->i++) { /* find the line */
        if (p->s[p->i] == '\n') {
            p->line++;
            p->col_from = p->i + 1;
            p->col_at = 1;
        }
    }
    if (p->s[bad] == '\0')
        return diag_add(p->d, DIAG_INPUT, here(p), "a NUL byte is not allowed");
    return diag_add(p->d, DIAG_INPUT, here(p), "invalid UTF-8: byte 0x%02x",
                    (unsigned)(unsigned char)p->s[bad]);
}

static bool scan_all(struct scan *p)
{
    if (!check_utf8(p))
        return false;
    if (!scan_value(p))
        return false;
    skip_space(p);
    return p->i == p->n || expected(p, "nothing after the value");
}

struct walk {
    struct arena *a;
    struct diag *d;
    const char *name;
    const struct mark *marks;
    size_t next;
    bool ok;
};

static struct loc mark_loc(const struct walk *w, size_t i)
{
    return (struct loc){.file = w->name, .line = w->marks[i].line, .col = w->marks[i].col};
}

/* The scan accepted the text, so the marks match the tree: one a value, one more before it a
 * key. */
static struct doc_node *walk(struct walk *w, const cJSON *j)
{
    const struct mark *m = &w->marks[w->next];
    enum doc_kind kind = cJSON_IsObject(j) ? DOC_MAP : cJSON_IsArray(j) ? DOC_LIST : DOC_SCALAR;
    struct doc_node *n = doc_new(w->a, kind, mark_loc(w, w->next));

    w->next++;
    if (kind == DOC_SCALAR && m->text)
        n->text = m->text;
    else if (cJSON_IsString(j))
        n->text = arena_strdup(w->a, j->valuestring);
    else if (kind == DOC_SCALAR)
        n->text = cJSON_IsTrue(j) ? "true" : cJSON_IsFalse(j) ? "false" : "null";
    n->quoted = cJSON_IsString(j) && !m->text;
    for (const cJSON *c = j->child; c; c = c->next) {
        size_t key_mark = w->next;
        struct doc_node *child;

        w->next += kind == DOC_MAP;
        child = walk(w, c);
        if (kind == DOC_MAP) {
            child->key = arena_strdup(w->a, c->string);
            child->key_at = mark_loc(w, key_mark);
        }
        doc_append(n, child);
    }
    if (kind == DOC_MAP && !doc_check_keys(w->a, n, w->d))
        w->ok = false;
    return n;
}

/* What cJSON alone refuses: a half of a surrogate pair, for one. */
static bool refused(struct scan *p, const char *end)
{
    struct loc at = {.file = p->name, .line = 1, .col = 1};

    for (const char *s = p->s; end && s < end; s++) {
        at.col += ((unsigned char)*s & 0xc0) != 0x80;
        if (*s == '\n') {
            at.line++;
            at.col = 1;
        }
    }
    return diag_add(p->d, DIAG_INPUT, at, "this value is not valid JSON");
}

bool doc_read_json(struct arena *a, const char *name, const char *text, size_t size,
                   bool lenient, struct diag *d, struct doc_node **out)
{
    struct scan p = {.a = a, .d = d, .lenient = lenient, .line = 1, .col_at = 1};
    struct walk w = {.a = a, .d = d, .ok = true};
    const char *end = NULL;
    cJSON *j;

    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark */
        text += 3;
        size -= 3;
    }
    p.name = w.name = arena_strdup(a, name);
    p.s = arena_alloc(a, size + 1, 1);
    memcpy(p.s, text, size);
    p.n = size;
    if (!scan_all(&p))
        return false;
    j = cJSON_ParseWithLengthOpts(p.s, size + 1, &end, true);
    if (!j)
        return refused(&p, end);
    w.marks = p.marks;
    *out = walk(&w, j);
    cJSON_Delete(j);
    return w.ok;
}
