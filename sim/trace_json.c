/* Traces as JSON lines: one flat object a line. What is not asked for is skipped, whatever it
 * is; what is asked for must be there once. */
#include <string.h>

#include "sim/trace_file.h"

enum { DEPTH_MAX = 64 };

static const char *spaces(const char *s)
{
    while (*s == ' ' || *s == '\t')
        s++;
    return s;
}

/* Behind the string that starts at `s`; NULL where it has no end. */
static const char *skip_string(const char *s)
{
    for (s++; *s != '"'; s++) {
        if (*s == '\\')
            s++;
        if (!*s)
            return NULL;
    }
    return s + 1;
}

/* Behind the value at `s`: brackets and strings are matched, plain words taken as they are.
 * NULL where it has no end. */
static const char *skip_value(const char *s)
{
    uint64_t braces = 0; /* one bit a level: 1 = an object */
    int depth = 0;

    do {
        if (*s == '"') {
            s = skip_string(s);
            if (!s)
                return NULL;
        } else if (*s == '[' || *s == '{') {
            if (depth++ == DEPTH_MAX)
                return NULL;
            braces = braces << 1 | (*s++ == '{');
        } else if (*s == ']' || *s == '}') {
            if (depth-- == 0 || (*s++ == '}') != (braces & 1))
                return NULL;
            braces >>= 1;
        } else {
            size_t n = strcspn(s, depth ? "\"[]{}" : ",]} \t");
            if (!n)
                return NULL;
            s += n;
        }
    } while (depth);
    return s;
}

bool trace_json_fits(const struct trace_format *f, const struct lines *l, bool lengths_only)
{
    const char *s = spaces(l->text);

    if (*s != '{' || !f->json)
        return false;
    for (int w = 0; w < TRACE_WHATS; w++) {
        size_t n = f->names[w] ? strlen(f->names[w]) : 0;
        const char *at = s;
        if (!n || (lengths_only && w == TRACE_ARRIVAL))
            continue;
        while ((at = strstr(at, f->names[w])) && (at[-1] != '"' || at[n] != '"'))
            at += n;
        if (!at)
            return false;
    }
    return true;
}

/* [1, 2, 3] */
static const char *hash_list(struct trace_file *t, const char *at, struct request *out)
{
    const struct lines *l = &t->lines;
    const char *name = t->format->names[TRACE_HASHES], *s = at;
    uint32_t n = 0;

    if (*s != '[') {
        line_wrong(l, s, name, "must be a list of whole numbers");
        return NULL;
    }
    s = spaces(s + 1);
    while (*s != ']') {
        if (n == TRACE_HASHES_MAX) {
            line_error(l, s, "%s has more than %d blocks", name, TRACE_HASHES_MAX);
            return NULL;
        }
        s = line_u64(l, s, "a block hash", UINT64_MAX, &t->hashes[n]);
        if (!s)
            return NULL;
        n++;
        s = spaces(s);
        if (*s == ',' && *spaces(s + 1) != ']') {
            s = spaces(s + 1);
        } else if (*s != ']') {
            line_wrong(l, s, name, "must be a list with commas");
            return NULL;
        }
    }
    out->n_hashes = n;
    return s + 1;
}

/* One value; `seen` has a bit for each what. */
static const char *value(struct trace_file *t, const char *key, size_t n, const char *at,
                         unsigned *seen, struct request *out)
{
    const struct trace_format *f = t->format;
    const char *stop;

    for (int w = 0; w < TRACE_WHATS; w++) {
        if (!f->names[w] || strlen(f->names[w]) != n || memcmp(f->names[w], key, n) != 0)
            continue;
        if (*seen & 1u << w) {
            line_error(&t->lines, key - 1, "the key '%s' is there twice", f->names[w]);
            return NULL;
        }
        *seen |= 1u << w;
        if (w == TRACE_HASHES)
            return hash_list(t, at, out);
        if (w != TRACE_ARRIVAL || !t->lengths_only)
            return trace_value(t, (enum trace_what)w, at, out);
    }
    stop = skip_value(at);
    if (!stop)
        line_wrong(&t->lines, at, "the record", "has a value without an end");
    return stop;
}

/* "key": value; returns where it ends. */
static const char *member(struct trace_file *t, const char *s, unsigned *seen,
                          struct request *out)
{
    const char *key = s + 1, *stop = *s == '"' ? skip_string(s) : NULL, *colon;

    if (!stop) {
        line_wrong(&t->lines, s, "the record", "must be \"key\": value with commas between");
        return NULL;
    }
    colon = spaces(stop);
    if (*colon != ':') {
        line_wrong(&t->lines, colon, "a key", "must be followed by ':'");
        return NULL;
    }
    return value(t, key, (size_t)(stop - 1 - key), spaces(colon + 1), seen, out);
}

static bool all_seen(const struct trace_file *t, unsigned seen)
{
    const struct trace_format *f = t->format;

    for (int w = 0; w < TRACE_WHATS; w++)
        if (f->names[w] && !(seen & 1u << w) && !(w == TRACE_ARRIVAL && t->lengths_only))
            return line_error(&t->lines, NULL, "the record has no '%s'", f->names[w]);
    return true;
}

bool trace_json_row(struct trace_file *t, struct request *out)
{
    const struct lines *l = &t->lines;
    const char *s = spaces(l->text);
    unsigned seen = 0;

    if (*s != '{')
        return line_wrong(l, s, "a record", "must be an object in one line");
    do {
        s = member(t, spaces(s + 1), &seen, out);
        if (!s)
            return false;
        s = spaces(s);
    } while (*s == ',');
    if (*s != '}')
        return line_wrong(l, s, "the record", "must go on with ',' or end with '}'");
    s = spaces(s + 1);
    if (s != l->text + l->n)
        return line_wrong(l, s, "the record", "must be alone in its line");
    return all_seen(t, seen);
}
