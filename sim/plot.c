/* Four panels one above the other, with one time axis. Each line is a polyline over the points
 * of a series; scales end at round numbers. */
#include "sim/plot.h"

#include <string.h>

#include "planner/base/unit.h"

enum {
    WIDTH = 960,
    LEFT = 80,
    RIGHT = 24,
    TOP = 76,
    PANEL = 120,
    GAP = 40,
    BOTTOM = 52,
    LINES_MAX = 2,
    TICKS_X = 8,
    TICKS_Y = 5
};

struct line {
    const char *name, *color;
    double (*value)(const struct series_row *r, double width_s, uint32_t replicas);
};

struct panel {
    const char *title;
    bool percent;
    struct line lines[LINES_MAX];
};

/* --- values ---------------------------------------------------------------------------------
 */

static double used(const struct series_row *r, double w, uint32_t replicas)
{
    return 100 * r->used_s / w / replicas;
}

static double running(const struct series_row *r, double w, uint32_t replicas)
{
    (void)replicas;
    return r->running_s / w;
}

static double waiting(const struct series_row *r, double w, uint32_t replicas)
{
    (void)replicas;
    return r->waiting_s / w;
}

static double prompt(const struct series_row *r, double w, uint32_t replicas)
{
    (void)replicas;
    return r->prompt_tokens / w;
}

static double output(const struct series_row *r, double w, uint32_t replicas)
{
    (void)replicas;
    return r->output_tokens / w;
}

/* Colours of Okabe and Ito, told apart by people who see fewer of them. */
static const struct panel panels[] = {
    {"cache used, %", true, {{"", "#0072B2", used}}},
    {"sequences", false, {{"running", "#009E73", running}, {"waiting", "#D55E00", waiting}}},
    {"prompt tokens/s", false, {{"", "#CC79A7", prompt}}},
    {"output tokens/s", false, {{"", "#E69F00", output}}},
};
enum {
    N_PANELS = sizeof panels / sizeof *panels,
    HEIGHT = TOP + N_PANELS * (PANEL + GAP) - GAP + BOTTOM
};

struct drawing {
    struct arena *a;
    const struct series *points;
    const struct series_row *rows;
    uint64_t n;
    double width_s, span_s;
    FILE *out;
}; /* n: the last row is left out, which is not over when the last request ends */

static void escape(const char *s, FILE *out)
{
    for (; *s; s++) {
        const char *as = *s == '&' ? "&amp;" : *s == '<' ? "&lt;" : *s == '>' ? "&gt;" : NULL;
        if (as)
            fputs(as, out);
        else
            fputc((unsigned char)*s < ' ' || *s == 127 ? '?' : *s, out);
    }
}

/* --- scales ---------------------------------------------------------------------------------
 */

/* 1, 2 or 5 times a power of ten, so that `ticks` steps reach v. */
static double round_step(double v, int ticks)
{
    double step = 1e-9;

    if (!(v > 0))
        return 1;
    for (;; step *= 10) {
        if (step * ticks >= v)
            return step;
        if (2 * step * ticks >= v)
            return 2 * step;
        if (5 * step * ticks >= v)
            return 5 * step;
    }
}

/* Steps of a clock: up to a minute round numbers, then parts of minutes, hours and days. */
static double time_step(double v, int ticks)
{
    static const double steps[] = {60,   120,   300,   600,   900,   1800,   3600,
                                   7200, 10800, 21600, 43200, 86400, 172800, 604800};

    if (v <= 30 * ticks)
        return round_step(v, ticks);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (steps[i] * ticks >= v)
            return steps[i];
    return 86400 * round_step(v / 86400, ticks);
}

static const char *number(struct arena *a, double v)
{
    char buf[32];

    if (v >= 1000 && v < 1e15)
        return arena_strdup(a, unit_format_count((uint64_t)(v + 0.5), buf, sizeof buf));
    return arena_printf(a, "%.4g", v);
}

static const char *clock_text(struct arena *a, double s, double step)
{
    uint64_t whole = (uint64_t)(s + 0.5);

    if (step < 1)
        return arena_printf(a, "%.6g ms", 1000 * s);
    if (step < 60)
        return arena_printf(a, "%.6g s", s);
    if (whole >= 86400 && step >= 86400)
        return arena_printf(a, "%llu d", (unsigned long long)(whole / 86400));
    return arena_printf(a, "%llu:%02llu%s", (unsigned long long)(whole / 3600),
                        (unsigned long long)(whole / 60 % 60), " h");
}

/* --- drawing --------------------------------------------------------------------------------
 */

static double x_of(const struct drawing *g, double t)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (t / g->span_s);
}

static int top_of(int panel)
{
    return TOP + panel * (PANEL + GAP);
}

static double highest(const struct drawing *g, const struct panel *p)
{
    double most = 0;

    for (uint64_t i = 0; i < g->n; i++)
        for (int k = 0; k < LINES_MAX && p->lines[k].value; k++) {
            double v = p->lines[k].value(&g->rows[i], g->width_s, series_replicas(g->points));
            most = v > most ? v : most;
        }
    return most;
}

static void draw_line(const struct drawing *g, const struct line *l, int top, double most)
{
    double before = -1;

    fprintf(g->out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" points=\"",
            l->color);
    for (uint64_t i = 0; i < g->n; i++) {
        double v = l->value(&g->rows[i], g->width_s, series_replicas(g->points)),
               y = top + PANEL * (1 - (v < most ? v : most) / most);
        double next = i + 1 < g->n
                          ? l->value(&g->rows[i + 1], g->width_s, series_replicas(g->points))
                          : -1;
        if (v == before && v == next) /* inside a level stretch */
            continue;
        before = v;
        fprintf(g->out, "%.1f,%.1f ", x_of(g, ((double)i + 0.5) * g->width_s), y);
    }
    fputs("\"/>\n", g->out);
}

static void draw_grid(const struct drawing *g, int top, double most, double step)
{
    for (double v = 0; v <= most * 1.0001; v += step) {
        double y = top + PANEL * (1 - v / most);
        fprintf(g->out,
                "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
                LEFT, y, WIDTH - RIGHT, y, LEFT - 6, y + 4, number(g->a, v));
    }
}

static void draw_legend(const struct drawing *g, const struct panel *p, int top)
{
    int x = LEFT + 8;

    fprintf(g->out, "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">%s</text>\n", LEFT, top - 8,
            p->title);
    for (int k = 0; k < LINES_MAX && p->lines[k].value; k++) {
        if (!*p->lines[k].name)
            continue;
        fprintf(g->out, "<text x=\"%d\" y=\"%d\" fill=\"%s\">%s</text>\n", x + 80, top - 8,
                p->lines[k].color, p->lines[k].name);
        x += 80;
    }
}

static void draw_panel(const struct drawing *g, int i)
{
    const struct panel *p = &panels[i];
    int top = top_of(i);
    double high = highest(g, p), step = p->percent ? 25 : round_step(high, TICKS_Y),
           most = step;

    while (most < (p->percent ? 100 : high))
        most += step;
    draw_grid(g, top, most, step);
    draw_legend(g, p, top);
    for (int k = 0; k < LINES_MAX && p->lines[k].value; k++)
        draw_line(g, &p->lines[k], top, most);
}

static void draw_time(const struct drawing *g)
{
    double step = time_step(g->span_s, TICKS_X);
    int bottom = HEIGHT - BOTTOM;

    for (double t = 0; t <= g->span_s * 1.0001; t += step)
        fprintf(g->out,
                "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#888\"/>"
                "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
                x_of(g, t), bottom, x_of(g, t), bottom + 5, x_of(g, t), bottom + 18,
                clock_text(g->a, t, step));
    fprintf(g->out,
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">time since the first "
            "request</text>\n",
            (WIDTH + LEFT - RIGHT) / 2, bottom + 38);
}

void plot_svg(struct arena *a, const struct series *points, const struct plot_text *text,
              FILE *out)
{
    struct drawing g = {
        .a = a, .points = points, .width_s = series_interval_s(points), .out = out};

    g.rows = series_rows(points, &g.n);
    g.span_s = g.n ? (double)g.n * g.width_s : 1;
    g.n -= g.n > 1;
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
            "<text x=\"%d\" y=\"22\" font-size=\"16\" font-weight=\"bold\">",
            WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT);
    escape(text->title, out);
    fprintf(out, "</text>\n<text x=\"%d\" y=\"40\" fill=\"#555\">", LEFT);
    escape(text->subtitle, out);
    fputs("</text>\n", out);
    for (int i = 0; i < N_PANELS; i++)
        draw_panel(&g, i);
    draw_time(&g);
    fputs("</svg>\n", out);
}
