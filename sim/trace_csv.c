/* Traces as CSV: columns found by their names in the header, fields with or without quotes. */
#include <string.h>

#include "sim/trace_file.h"

enum { COLUMNS_MAX = 256 };

/* The field at `at` without quotes and the spaces around it, in [*from, *to); returns where the
 * next one starts, or NULL where this is the last. `*bad` where a quote has no end. */
static const char *field(const struct lines *l, const char *at, const char **from,
                         const char **to, bool *bad)
{
    const char *end = l->text + l->n, *stop;

    while (*at == ' ' || *at == '\t')
        at++;
    *bad = false;
    if (*at == '"') {
        *from = at + 1;
        for (stop = at + 1; stop < end && (*stop != '"' || stop[1] == '"'); stop++)
            stop += *stop == '"';
        *to = stop;
        *bad = stop >= end;
        for (stop += !*bad; *stop == ' ' || *stop == '\t';)
            stop++;
        *bad = *bad || (stop < end && *stop != ',');
    } else {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        *from = at;
        *to = stop = comma ? comma : end;
        while (*to > *from && ((*to)[-1] == ' ' || (*to)[-1] == '\t'))
            --*to;
    }
    return stop < end && !*bad ? stop + 1 : NULL;
}

static bool same(const char *from, const char *to, const char *name)
{
    size_t n = (size_t)(to - from);

    return strlen(name) == n && !memcmp(from, name, n);
}

/* Finds the columns of a format in the line; returns how many fields it has, 0 where it is no
 * header, or a column is there twice. */
static int find_columns(const struct trace_format *f, const struct lines *l,
                        int columns[TRACE_WHATS])
{
    const char *at = l->text, *from, *to;
    bool bad = false;
    int n = 0;

    for (int w = 0; w < TRACE_WHATS; w++)
        columns[w] = -1;
    for (; at && n < COLUMNS_MAX; n++) {
        at = field(l, at, &from, &to, &bad);
        for (int w = 0; w < TRACE_WHATS && !bad; w++) {
            if (!f->names[w] || !same(from, to, f->names[w]))
                continue;
            bad = columns[w] >= 0;
            columns[w] = n;
        }
        if (bad)
            return 0;
    }
    return at ? 0 : n;
}

static bool needs(const struct trace_format *f, int what, bool lengths_only)
{
    return f->names[what] && !(lengths_only && what == TRACE_ARRIVAL);
}

bool trace_csv_fits(const struct trace_format *f, const struct lines *l, bool lengths_only)
{
    int columns[TRACE_WHATS];

    if (!find_columns(f, l, columns))
        return false;
    for (int w = 0; w < TRACE_WHATS; w++)
        if (needs(f, w, lengths_only) && columns[w] < 0)
            return false;
    return true;
}

bool trace_csv_header(struct trace_file *t)
{
    const struct trace_format *f = t->format;

    t->n_columns = find_columns(f, &t->lines, t->columns);
    if (!t->n_columns)
        return line_error(&t->lines, t->lines.text,
                          "is no header: a quote without an end, a column twice, or more "
                          "than %d columns",
                          COLUMNS_MAX);
    for (int w = 0; w < TRACE_WHATS; w++)
        if (needs(f, w, t->lengths_only) && t->columns[w] < 0)
            return line_error(&t->lines, t->lines.text,
                              "the header has no column '%s'; the format '%s' has %s, %s "
                              "and %s",
                              f->names[w], f->name, f->names[0], f->names[1], f->names[2]);
    return true;
}

static bool put(struct trace_file *t, enum trace_what what, const char *from, const char *to,
                struct request *out)
{
    const char *stop;

    if (what == TRACE_ARRIVAL && t->lengths_only)
        return true;
    stop = trace_value(t, what, from, out);
    if (!stop || stop == to)
        return stop != NULL;
    return line_wrong(&t->lines, from, t->format->names[what],
                      what == TRACE_ARRIVAL ? "must be one number or time"
                                            : "must be a whole number");
}

bool trace_csv_row(struct trace_file *t, struct request *out)
{
    const char *at = t->lines.text, *from, *to, *start;
    bool bad = false;
    int n = 0;

    for (; at && n < t->n_columns; n++) {
        start = at;
        at = field(&t->lines, at, &from, &to, &bad);
        if (bad)
            return line_error(&t->lines, start, "a quote has no end, or text behind it");
        for (int w = 0; w < TRACE_WHATS; w++)
            if (t->columns[w] == n && !put(t, (enum trace_what)w, from, to, out))
                return false;
    }
    if (at || n < t->n_columns)
        return line_error(&t->lines, at ? at : t->lines.text + t->lines.n,
                          "the row has %s fields than the header, which has %d",
                          at ? "more" : "fewer", t->n_columns);
    return true;
}
