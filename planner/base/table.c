/* Tables: cells are collected row by row, widths are found when the table is printed. */
#include "planner/base/table.h"

#include <stdarg.h>
#include <string.h>
#include <wchar.h>

#include "planner/base/utf8.h"

struct table {
    struct arena *a;
    size_t columns, n, cap; /* n cells */
    const char **cell;
    bool *right;
    bool *ruled; /* [row]: a line below it */
    size_t ruled_cap;
};

struct table *table_new(struct arena *a, size_t columns)
{
    struct table *t = ARENA_NEW(a, struct table, 1);

    t->a = a;
    t->columns = columns ? columns : 1;
    t->right = ARENA_NEW(a, bool, t->columns);
    return t;
}

void table_right(struct table *t, size_t column)
{
    if (column < t->columns)
        t->right[column] = true;
}

void table_cell(struct table *t, const char *text)
{
    char *clean = arena_strdup(t->a, text ? text : "");

    utf8_clean(clean, strlen(clean));
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->cell = arena_grow(t->a, t->cell, t->n, t->cap, sizeof *t->cell);
    }
    t->cell[t->n++] = clean;
}

void table_cellf(struct table *t, const char *fmt, ...)
{
    va_list ap;
    const char *text;

    va_start(ap, fmt);
    text = arena_vprintf(t->a, fmt, ap);
    va_end(ap);
    table_cell(t, text);
}

size_t table_rows(const struct table *t)
{
    return (t->n + t->columns - 1) / t->columns;
}

void table_rule(struct table *t)
{
    size_t rows = table_rows(t);

    if (rows == 0)
        return;
    if (rows > t->ruled_cap) {
        t->ruled = arena_grow(t->a, t->ruled, t->ruled_cap, rows * 2, sizeof *t->ruled);
        t->ruled_cap = rows * 2;
    }
    t->ruled[rows - 1] = true;
}

/* Terminal columns of cleaned text. Outside a UTF-8 locale wcwidth knows only ASCII; the rest
 * then counts as one column each. */
static size_t width_of(const char *s)
{
    size_t n = strlen(s), width = 0;

    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        size_t len = utf8_next(s + i, n - i, &cp);
        int w = wcwidth((wchar_t)cp);

        width += w < 0 ? 1 : (size_t)w;
        i += len ? len : 1;
    }
    return width;
}

static void repeat(char c, size_t n, FILE *out)
{
    for (size_t i = 0; i < n; i++)
        fputc(c, out);
}

static const char *cell_at(const struct table *t, size_t row, size_t column)
{
    size_t i = row * t->columns + column;

    return i < t->n ? t->cell[i] : "";
}

/* Blanks are held back until something follows them, so no line ends in blanks. */
static void print_row(const struct table *t, size_t row, const size_t *width, FILE *out)
{
    size_t owed = 0;

    for (size_t c = 0; c < t->columns; c++) {
        const char *text = cell_at(t, row, c);
        size_t pad = width[c] - width_of(text);

        if (c > 0)
            owed += 2;
        if (*text == '\0') {
            owed += width[c];
            continue;
        }
        if (t->right[c])
            owed += pad;
        repeat(' ', owed, out);
        fputs(text, out);
        owed = t->right[c] ? 0 : pad;
    }
    fputc('\n', out);
}

void table_print(const struct table *t, FILE *out)
{
    size_t *width = ARENA_NEW(t->a, size_t, t->columns);
    size_t rows = table_rows(t);

    for (size_t i = 0; i < t->n; i++) {
        size_t w = width_of(t->cell[i]);
        if (w > width[i % t->columns])
            width[i % t->columns] = w;
    }
    for (size_t r = 0; r < rows; r++) {
        print_row(t, r, width, out);
        if (r >= t->ruled_cap || !t->ruled[r])
            continue;
        for (size_t c = 0; c < t->columns; c++) {
            repeat(' ', c > 0 ? 2 : 0, out);
            repeat('-', width[c], out);
        }
        fputc('\n', out);
    }
}
