/* The grid of cells: clipping, text, boxes and bars. Plots are in plot.c. A character is put in
 * place by one function, which keeps wide ones whole. */
#include "tui/canvas.h"

#include <stdarg.h>
#include <string.h>

#include "planner/base/utf8.h"
#include "tui/glyph.h"

enum { SIDE_MAX = 1000, TEXT_MAX = 2048, PARTS_MAX = 32 };

void canvas_init(struct canvas *c, struct arena *a, bool ascii)
{
    *c = (struct canvas){.arena = a, .ascii = ascii};
    canvas_clear(c, 1, 1);
}

static int within(int v, int lo, int hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

void canvas_clear(struct canvas *c, int w, int h)
{
    c->w = within(w, 1, SIDE_MAX);
    c->h = within(h, 1, SIDE_MAX);
    c->cursor_x = c->cursor_y = -1;
    if (c->w * c->h > c->room) { /* at least twice the room, so the arena does not grow on */
        c->room = 2 * c->w * c->h;
        c->cells = ARENA_NEW(c->arena, struct cell, (size_t)c->room);
    }
    for (int i = 0; i < c->w * c->h; i++)
        c->cells[i] = (struct cell){' ', ST_PLAIN};
}

/* What of `r` lies on the canvas. */
static struct rect visible(const struct canvas *c, struct rect r)
{
    long long x0 = r.x > 0 ? r.x : 0, y0 = r.y > 0 ? r.y : 0;
    long long x1 = (long long)r.x + r.w, y1 = (long long)r.y + r.h;

    x1 = x1 < c->w ? x1 : c->w;
    y1 = y1 < c->h ? y1 : c->h;
    if (x1 <= x0 || y1 <= y0)
        return (struct rect){0, 0, 0, 0};
    return (struct rect){(int)x0, (int)y0, (int)(x1 - x0), (int)(y1 - y0)};
}

/* One character at (x, y) of the canvas; the other half of a wide one it covers becomes blank.
 */
static void set_cell(struct canvas *c, int x, int y, struct cell v, int columns)
{
    struct cell *row = c->cells + (size_t)y * (size_t)c->w;
    int end = x + columns;

    if (row[x].cp == 0 && x > 0)
        row[x - 1].cp = ' ';
    if (end < c->w && row[end].cp == 0)
        row[end].cp = ' ';
    row[x] = v;
    if (columns == 2)
        row[x + 1] = (struct cell){0, v.style};
}

/* At (x, y) of the canvas, clipped to `v`, which lies on it; returns the columns taken. */
static int put(struct canvas *c, struct rect v, long long x, long long y, struct cell cell)
{
    int columns;

    if (utf8_is_control(cell.cp))
        cell.cp = '?';
    columns = glyph_columns(cell.cp);
    if (columns == 0 || y < v.y || y >= v.y + v.h || x + columns <= v.x || x >= v.x + v.w)
        return columns;
    if (columns == 2 && (x < v.x || x + 1 >= v.x + v.w)) {
        set_cell(c, (int)(x < v.x ? v.x : x), (int)y, (struct cell){' ', cell.style}, 1);
        return columns;
    }
    if (c->ascii)
        cell.cp = (unsigned char)glyph_ascii(cell.cp);
    set_cell(c, (int)x, (int)y, cell, c->ascii ? 1 : columns);
    if (c->ascii && columns == 2)
        set_cell(c, (int)x + 1, (int)y, (struct cell){' ', cell.style}, 1);
    return columns;
}

/* Decodes the next character of a text; an invalid byte is '?'. */
static size_t decode(const char *s, size_t n, uint32_t *cp)
{
    size_t len = utf8_next(s, n, cp);

    if (len)
        return len;
    *cp = '?';
    return 1;
}

int canvas_columns(const char *text)
{
    size_t n = strlen(text);
    int columns = 0;

    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        i += decode(text + i, n - i, &cp);
        columns += glyph_columns(cp);
    }
    return columns;
}

int canvas_text(struct canvas *c, struct rect r, int x, int y, enum style s, const char *text)
{
    struct rect v = visible(c, r);
    size_t n = strlen(text);
    long long at = (long long)r.x + x;
    int columns = 0;

    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        i += decode(text + i, n - i, &cp);
        columns += put(c, v, at + columns, (long long)r.y + y, (struct cell){cp, (uint8_t)s});
    }
    return columns;
}

int canvas_textf(struct canvas *c, struct rect r, int x, int y, enum style s, const char *fmt,
                 ...)
{
    char text[TEXT_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return canvas_text(c, r, x, y, s, text);
}

int canvas_right(struct canvas *c, struct rect r, int x_end, int y, enum style s,
                 const char *text)
{
    return canvas_text(c, r, x_end - canvas_columns(text), y, s, text);
}

void canvas_more(struct canvas *c, struct rect r, int x_end, int y, enum style s)
{
    if (x_end > r.w && r.w > 0)
        canvas_put(c, r, r.w - 1, y, s, 0x2026);
}

void canvas_put(struct canvas *c, struct rect r, int x, int y, enum style s, uint32_t cp)
{
    put(c, visible(c, r), (long long)r.x + x, (long long)r.y + y,
        (struct cell){cp, (uint8_t)s});
}

void canvas_fill(struct canvas *c, struct rect r, enum style s, uint32_t cp)
{
    struct rect v = visible(c, r);
    int step = glyph_columns(cp) == 2 ? 2 : 1;

    for (int y = v.y; y < v.y + v.h; y++)
        for (int x = v.x; x < v.x + v.w; x += step)
            put(c, v, x, y, (struct cell){cp, (uint8_t)s});
}

void canvas_restyle(struct canvas *c, struct rect r, enum style s)
{
    struct rect v = visible(c, r);

    for (int y = v.y; y < v.y + v.h; y++)
        for (int x = v.x; x < v.x + v.w; x++)
            c->cells[(size_t)y * (size_t)c->w + (size_t)x].style = (uint8_t)s;
}

struct rect canvas_box(struct canvas *c, struct rect r, const char *title, enum style s)
{
    struct rect inside = {r.x + 1, r.y + 1, r.w - 2, r.h - 2};

    if (r.w < 2 || r.h < 2)
        return (struct rect){r.x, r.y, 0, 0};
    canvas_fill(c, (struct rect){r.x, r.y, r.w, 1}, s, 0x2500);
    canvas_fill(c, (struct rect){r.x, r.y + r.h - 1, r.w, 1}, s, 0x2500);
    canvas_fill(c, (struct rect){r.x, r.y, 1, r.h}, s, 0x2502);
    canvas_fill(c, (struct rect){r.x + r.w - 1, r.y, 1, r.h}, s, 0x2502);
    canvas_put(c, r, 0, 0, s, 0x250c);
    canvas_put(c, r, r.w - 1, 0, s, 0x2510);
    canvas_put(c, r, 0, r.h - 1, s, 0x2514);
    canvas_put(c, r, r.w - 1, r.h - 1, s, 0x2518);
    if (title && *title && r.w > 6) {
        struct rect line = {r.x + 2, r.y, r.w - 4, 1};
        int n = canvas_text(c, line, 1, 0, ST_TITLE, title);

        canvas_put(c, line, 0, 0, ST_TITLE, ' ');
        canvas_put(c, line, n + 1, 0, ST_TITLE, ' ');
    }
    return inside;
}

/* --- bars ------------------------------------------------------------------------------------
 */

static double share_of(double size, double whole, int w)
{
    double s = size > 0 && whole > 0 ? size / whole * w : 0;

    return s < w ? s : w; /* infinite and worse, too */
}

/* Columns of each part: whole ones first, what is left over to the largest remainders, then one
 * for each part that has none from the widest. */
static void share_columns(const double *share, int n, int w, int *columns)
{
    double sum = 0;
    int used = 0, want;

    for (int i = 0; i < n; i++) {
        columns[i] = (int)share[i];
        used += columns[i];
        sum += share[i];
    }
    want = sum + 0.5 < w ? (int)(sum + 0.5) : w;
    while (used < want) {
        int best = 0;
        for (int i = 1; i < n; i++)
            if (share[i] - columns[i] > share[best] - columns[best])
                best = i;
        columns[best]++;
        used++;
    }
    for (int i = 0; i < n; i++) {
        int widest = 0;
        if (share[i] <= 0 || columns[i] > 0)
            continue;
        for (int k = 1; k < n; k++)
            if (columns[k] > columns[widest])
                widest = k;
        if (used >= w && columns[widest] < 2)
            continue;
        if (used >= w)
            columns[widest]--;
        else
            used++;
        columns[i] = 1;
    }
}

void canvas_bar(struct canvas *c, struct rect r, const struct bar_part *parts, int n,
                double whole)
{
    static const uint32_t by_place[] = {0x2588, 0x2593, 0x2592, 0x2591, 0x259a, 0x00b7};
    double share[PARTS_MAX];
    int columns[PARTS_MAX], x = 0;

    n = within(n, 0, PARTS_MAX);
    if (r.w < 1 || n == 0)
        return;
    for (int i = 0; i < n; i++)
        share[i] = share_of(parts[i].size, whole, r.w);
    share_columns(share, n, r.w, columns);
    for (int i = 0; i < n && x < r.w; i++) {
        int w = columns[i] < r.w - x ? columns[i] : r.w - x;
        uint32_t glyph = parts[i].glyph ? parts[i].glyph : by_place[i % 6];

        canvas_fill(c, (struct rect){r.x + x, r.y, w, r.h}, parts[i].style, glyph);
        x += w;
    }
}

/* --- text of the grid ------------------------------------------------------------------------
 */

void canvas_dump(const struct canvas *c, FILE *out)
{
    for (int y = 0; y < c->h; y++) {
        const struct cell *row = c->cells + (size_t)y * (size_t)c->w;
        int end = c->w;

        while (end > 0 && (row[end - 1].cp == ' ' || row[end - 1].cp == 0x2800))
            end--;
        for (int x = 0; x < end; x++) {
            char bytes[5];
            if (!row[x].cp)
                continue;
            glyph_utf8(row[x].cp, bytes);
            fputs(bytes, out);
        }
        fputc('\n', out);
    }
}
