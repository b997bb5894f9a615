/* Line plots: axes with round ticks, series in braille dots. Lines are told apart by marks as
 * well as by colour. Everything is computed in dots: two a column, four a row, y upward. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tui/canvas.h"

enum { TICKS_MAX = 24, LABEL_MAX = 24, MARKS_A_SERIES = 4 };

struct axis {
    double lo, hi; /* transformed */
    bool log, binary;
    double ticks[TICKS_MAX];
    int n;
};

struct frame {
    struct canvas *c;
    const struct plot *p;
    struct rect dots; /* cells */
    struct axis x, y;
};

uint32_t canvas_plot_mark(int series)
{
    static const uint32_t marks[] = {0x25cf, 0x25a0, 0x25b2, 0x25c6, 0x25cb, 0x25bc};

    return marks[(unsigned)series % (sizeof marks / sizeof *marks)];
}

/* --- axes ------------------------------------------------------------------------------------
 */

static double transformed(const struct axis *a, double v)
{
    return a->log ? v > 0 ? log10(v) : NAN : v;
}

/* The place of a value between 0 and 1; NAN where it has none. */
static double place(const struct axis *a, double v)
{
    return (transformed(a, v) - a->lo) / (a->hi - a->lo);
}

static void add_tick(struct axis *a, double v)
{
    double at = place(a, v);

    if (a->n < TICKS_MAX && at >= -1e-9 && at <= 1 + 1e-9)
        a->ticks[a->n++] = v;
}

/* The smallest round step that is at least `step`: 1, 2, 5 times a power of ten, or a power of
 * two. */
static double round_step(double step, bool binary)
{
    double unit = binary ? exp2(floor(log2(step))) : pow(10, floor(log10(step)));
    static const double tens[] = {1, 2, 5, 10}, twos[] = {1, 2};
    const double *by = binary ? twos : tens;
    int n = binary ? 2 : 4;

    for (int i = 0; i < n; i++)
        if (unit * by[i] >= step * (1 - 1e-9))
            return unit * by[i];
    return unit * by[n - 1];
}

static void linear_ticks(struct axis *a, int most)
{
    double step = round_step((a->hi - a->lo) / (most > 1 ? most : 1), a->binary);
    double first = ceil(a->lo / step - 1e-9);

    for (int i = 0; i < TICKS_MAX && (first + i) * step <= a->hi + step * 1e-9; i++)
        add_tick(a, (first + i) * step);
}

static void log_ticks(struct axis *a, int most)
{
    double base = a->binary ? log10(2) : 1;
    double first = ceil(a->lo / base - 1e-9), last = floor(a->hi / base + 1e-9);
    double stride = 1;

    if (!a->binary && last - first < 1) { /* less than a decade or so: 1, 2, 5 of each */
        for (double d = floor(a->lo); d <= last; d++)
            for (int k = 1; k <= 5; k += k == 2 ? 3 : 1)
                add_tick(a, k * pow(10, d));
        return;
    }
    while ((last - first) / stride + 1 > (most > 2 ? most : 2))
        stride++;
    for (double k = first; k <= last + 1e-9 && a->n < TICKS_MAX; k += stride)
        add_tick(a, a->binary ? exp2(k) : pow(10, k));
}

static struct axis make_axis(double v0, double v1, bool log, bool binary, int most)
{
    struct axis a = {.log = log && v0 > 0 && v1 > 0, .binary = binary};

    if (!isfinite(v0))
        v0 = 0;
    if (!isfinite(v1))
        v1 = v0 + 1;
    a.lo = transformed(&a, v0);
    a.hi = transformed(&a, v1);
    if (!(a.hi - a.lo > fabs(a.lo) * 1e-12) || !isfinite(a.hi - a.lo))
        a.hi = a.lo + (fabs(a.lo) > 1 ? fabs(a.lo) : 1);
    if (a.log)
        log_ticks(&a, most);
    else
        linear_ticks(&a, most);
    return a;
}

static void label(void (*format)(double, char *, size_t), double v, char *out)
{
    if (format)
        format(v, out, LABEL_MAX);
    else
        snprintf(out, LABEL_MAX, "%g", v);
}

/* --- dots ------------------------------------------------------------------------------------
 */

/* One dot, counted from the lower left. */
static void dot(const struct frame *f, int x, int y, enum style s)
{
    static const uint8_t bits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    int down = f->dots.h * 4 - 1 - y, cx = x / 2, cy = down / 4;
    int at_x = f->dots.x + cx, at_y = f->dots.y + cy;
    uint32_t cp = 0x2800;

    if (x < 0 || y < 0 || cx >= f->dots.w || cy >= f->dots.h)
        return;
    if (at_x >= 0 && at_y >= 0 && at_x < f->c->w && at_y < f->c->h)
        cp = f->c->cells[(size_t)at_y * (size_t)f->c->w + (size_t)at_x].cp;
    if (cp < 0x2800 || cp > 0x28ff)
        cp = 0x2800;
    canvas_put(f->c, f->dots, cx, cy, s, cp | bits[down % 4][x % 2]);
}

/* Narrows the part [t0, t1] of a line to where at + t * by lies within 0 and end. */
static bool clip(double at, double by, double end, double *t0, double *t1)
{
    double a, b;

    if (by == 0)
        return at >= 0 && at <= end;
    a = (0 - at) / by;
    b = (end - at) / by;
    if (a > b) {
        double swap = a;
        a = b;
        b = swap;
    }
    *t0 = a > *t0 ? a : *t0;
    *t1 = b < *t1 ? b : *t1;
    return *t0 <= *t1;
}

static void segment(const struct frame *f, const double from[2], const double to[2],
                    enum style s)
{
    double end_x = f->dots.w * 2 - 1, end_y = f->dots.h * 4 - 1, t0 = 0, t1 = 1, steps;
    double dx = to[0] - from[0], dy = to[1] - from[1];

    if (!clip(from[0], dx, end_x, &t0, &t1) || !clip(from[1], dy, end_y, &t0, &t1))
        return;
    steps = ceil(fmax(fabs(dx), fabs(dy)) * (t1 - t0));
    if (!(steps <= 8000)) /* no screen has more dots */
        steps = 8000;
    for (double i = 0; i <= steps; i++) {
        double t = t0 + (steps > 0 ? (t1 - t0) * i / steps : 0);
        dot(f, (int)lround(from[0] + t * dx), (int)lround(from[1] + t * dy), s);
    }
}

static bool dots_of(const struct frame *f, const struct plot_series *s, int i, double out[2])
{
    out[0] = place(&f->x, s->x[i]) * (f->dots.w * 2 - 1);
    out[1] = place(&f->y, s->y[i]) * (f->dots.h * 4 - 1);
    return isfinite(out[0]) && isfinite(out[1]);
}

static void draw_lines(const struct frame *f, const struct plot_series *s)
{
    double a[2], b[2];

    for (int i = 0; i + 1 < s->n; i++)
        if (dots_of(f, s, i, a) && dots_of(f, s, i + 1, b))
            segment(f, a, b, s->style);
}

/* The height of a series in dots at a column of dots; NAN = it is not there. */
static double height_at(const struct frame *f, const struct plot_series *s, double x)
{
    double a[2], b[2];

    for (int i = 0; i + 1 < s->n; i++) {
        if (!dots_of(f, s, i, a) || !dots_of(f, s, i + 1, b))
            continue;
        if ((x >= a[0] && x <= b[0]) || (x <= a[0] && x >= b[0]))
            return a[0] == b[0] ? a[1] : a[1] + (b[1] - a[1]) * (x - a[0]) / (b[0] - a[0]);
    }
    return NAN;
}

static void mark(const struct frame *f, int series, double x, double y)
{
    int down;

    if (!(x > -0.5 && x < f->dots.w * 2 - 0.5 && y > -0.5 && y < f->dots.h * 4 - 0.5))
        return;
    down = f->dots.h * 4 - 1 - (int)lround(y);
    canvas_put(f->c, f->dots, (int)lround(x) / 2, down / 4, f->p->series[series].style,
               canvas_plot_mark(series));
}

/* In ASCII: a mark in every column that the line crosses. */
static void mark_columns(const struct frame *f, int series)
{
    const struct plot_series *s = &f->p->series[series];
    double a[2], b[2];

    for (int i = 0; i + 1 < s->n; i++) {
        double lo, hi;
        if (!dots_of(f, s, i, a) || !dots_of(f, s, i + 1, b))
            continue;
        lo = fmax(0, ceil(fmin(a[0], b[0]) / 2));
        hi = fmin(f->dots.w - 1, floor(fmax(a[0], b[0]) / 2));
        for (double x = lo; x <= hi; x++)
            mark(f, series, 2 * x,
                 a[0] == b[0] ? a[1] : a[1] + (b[1] - a[1]) * (2 * x - a[0]) / (b[0] - a[0]));
    }
}

/* Marks stand at different columns in each series, so that equal lines do not hide another. */
static void draw_marks(const struct frame *f, int series)
{
    const struct plot_series *s = &f->p->series[series];
    double xy[2];

    if (f->c->ascii)
        mark_columns(f, series);
    for (int k = 0; k < MARKS_A_SERIES && !f->c->ascii; k++) {
        double share = (k + (series + 1.0) / (f->p->n_series + 1.0)) / MARKS_A_SERIES;
        double x = share * f->dots.w * 2;
        mark(f, series, x, height_at(f, s, x));
    }
    if (s->n == 1 && dots_of(f, s, 0, xy))
        mark(f, series, xy[0], xy[1]);
}

/* --- around the dots -------------------------------------------------------------------------
 */

static void draw_y_axis(const struct frame *f, struct rect r)
{
    char text[LABEL_MAX];
    int axis = f->dots.x - r.x - 1;

    canvas_fill(f->c, (struct rect){f->dots.x - 1, f->dots.y, 1, f->dots.h}, ST_BORDER, 0x2502);
    for (int i = 0; i < f->y.n; i++) {
        int up = (int)lround(place(&f->y, f->y.ticks[i]) * (f->dots.h * 4 - 1));
        int y = f->dots.y - r.y + (f->dots.h * 4 - 1 - up) / 4;

        label(f->p->format_y, f->y.ticks[i], text);
        canvas_right(f->c, r, axis, y, ST_DIM, text);
        canvas_put(f->c, r, axis, y, ST_BORDER, 0x2524);
    }
}

static void draw_x_axis(const struct frame *f, struct rect r)
{
    char text[LABEL_MAX];
    int y = f->dots.y + f->dots.h - r.y, free_from = 0;

    canvas_fill(f->c, (struct rect){f->dots.x, r.y + y, f->dots.w, 1}, ST_BORDER, 0x2500);
    canvas_put(f->c, r, f->dots.x - r.x - 1, y, ST_BORDER, 0x2514);
    for (int i = 0; i < f->x.n; i++) {
        int x = (int)lround(place(&f->x, f->x.ticks[i]) * (f->dots.w * 2 - 1)) / 2;
        int at = f->dots.x - r.x + x, w;

        label(f->p->format_x, f->x.ticks[i], text);
        w = canvas_columns(text);
        canvas_put(f->c, r, at, y, ST_BORDER, 0x252c);
        at = at - w / 2 + w > r.w ? r.w - w : at - w / 2;
        if (at < free_from)
            continue;
        canvas_text(f->c, r, at, y + 1, ST_DIM, text);
        free_from = at + w + 1;
    }
}

static void draw_cursor(const struct frame *f)
{
    double at = place(&f->x, f->p->cursor_x);

    if (!(at >= 0 && at <= 1))
        return;
    canvas_fill(f->c,
                (struct rect){f->dots.x + (int)lround(at * (f->dots.w * 2 - 1)) / 2, f->dots.y,
                              1, f->dots.h},
                ST_DIM, 0x2506);
}

/* Rows: the name of y, the dots, the axis, its ticks, the name of x. */
struct rect canvas_plot(struct canvas *c, struct rect r, const struct plot *p)
{
    struct frame f = {.c = c, .p = p};
    int left = 0, rows = r.h - (p->y_label ? 1 : 0) - (p->x_label ? 1 : 0) - 2;
    char text[LABEL_MAX];

    if (r.w < 16 || rows < 2)
        return (struct rect){r.x, r.y, 0, 0};
    f.y = make_axis(p->y0, p->y1, p->log_y, p->binary_y, rows / 2);
    for (int i = 0; i < f.y.n; i++) {
        label(p->format_y, f.y.ticks[i], text);
        left = canvas_columns(text) > left ? canvas_columns(text) : left;
    }
    left = left < r.w / 2 ? left : r.w / 2;
    f.dots = (struct rect){r.x + left + 1, r.y + (p->y_label ? 1 : 0), r.w - left - 1, rows};
    f.x = make_axis(p->x0, p->x1, p->log_x, p->binary_x, f.dots.w / 9);
    if (p->y_label)
        canvas_text(c, r, 0, 0, ST_LABEL, p->y_label);
    if (p->x_label)
        canvas_right(c, r, r.w, r.h - 1, ST_LABEL, p->x_label);
    draw_y_axis(&f, r);
    draw_x_axis(&f, r);
    draw_cursor(&f);
    for (int i = 0; i < p->n_series && !c->ascii; i++)
        draw_lines(&f, &p->series[i]);
    for (int i = 0; i < p->n_series; i++)
        draw_marks(&f, i);
    return f.dots;
}
