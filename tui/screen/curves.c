/* Curves: how far a plan reaches and how fast it is, for several plans at once. The cursor
 * reads all of them at one place, with figures computed there, not off the drawing. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tui/curve_set.h"
#include "tui/show.h"
#include "tui/ui.h"

enum { AXIS_ROOM = 9, LEGEND_HEAD = 1, PAGE_COLUMNS = 10 };

struct window { /* of x, and the place in it */
    double x0, x1, cursor;
};

struct curves_state {
    struct arena *arena;  /* the plans */
    struct arena *points; /* what is drawn */
    bool started, drawn;
    uint64_t generation, pinned;
    const char *tags[SESSION_TAGS];
    struct curve_set set;
    enum curve_kind kind;
    struct window windows[N_CURVE_KINDS], seen;
    enum curve_kind seen_kind;
    int seen_w;
    struct plot_series series[CURVE_LINES + 1]; /* the last: the memory there is */
    int n_series;
    double y0, y1;
    double at_cursor[CURVE_LINES];
    struct rect plot, legend;
};

static const struct curve_look {
    const char *title, *x_label, *y_label;
    bool log_y;
    void (*format_x)(double v, char *buf, size_t n);
    void (*format_y)(double v, char *buf, size_t n);
} looks[N_CURVE_KINDS] = {
    [CURVE_BATCH] = {"batch/context", "tokens of a sequence", "sequences that fit", true,
                     show_tick_tokens, show_tick_count},
    [CURVE_MEMORY] = {"memory/batch", "sequences", "memory of the tightest GPU", false,
                      show_tick_count, show_tick_bytes},
    [CURVE_SPEED] = {"speed/batch", "sequences", "tokens/s", false, show_tick_count,
                     show_tick_count},
    [CURVE_STEP] = {"step/batch", "sequences", "seconds of a decode step", false,
                    show_tick_count, show_tick_seconds},
};

/* --- points ----------------------------------------------------------------------------- */

static struct window *window_of(struct curves_state *st)
{
    return &st->windows[st->kind];
}

static void reset_window(struct curves_state *st, enum curve_kind k)
{
    struct window *w = &st->windows[k];
    uint64_t asked = curve_asked(&st->set, k);

    curve_range(&st->set, k, &w->x0, &w->x1);
    if (!(w->cursor >= w->x0 && w->cursor <= w->x1))
        w->cursor = asked ? (double)asked : w->x0;
}

static bool changed(const struct curves_state *st, const struct session *s)
{
    uint64_t pinned = s->baseline.pinned ? s->baseline.generation : 0;

    return !st->started || st->generation != s->generation || st->pinned != pinned ||
           memcmp(st->tags, s->tags, sizeof st->tags) != 0;
}

static void refresh(struct ui *ui, struct curves_state *st)
{
    struct session *s = ui_session(ui);
    struct arena *old = st->arena;

    if (!changed(st, s))
        return;
    st->arena = arena_new();
    st->started = true;
    st->generation = s->generation;
    st->pinned = s->baseline.pinned ? s->baseline.generation : 0;
    memcpy(st->tags, s->tags, sizeof st->tags);
    curve_set_build(st->arena, s, &st->set);
    for (int k = 0; k < N_CURVE_KINDS; k++)
        reset_window(st, (enum curve_kind)k);
    st->drawn = false;
    arena_free(old);
}

/* Whole x from x0 to x1 at equal distances of the logarithm. */
static int whole_points(const struct window *w, int most, double *x)
{
    double last = 0;
    int n = 0;

    for (int i = 0; i < most; i++) {
        double v = floor(w->x0 * pow(w->x1 / w->x0, i / (double)(most - 1)) + 0.5);
        if (v > last)
            x[n++] = last = v;
    }
    return n;
}

static void draw_series(struct curves_state *st, int columns)
{
    const struct window *w = window_of(st);
    int most = st->kind == CURVE_BATCH || st->kind == CURVE_MEMORY ? 2 * columns : columns;
    double *x = ARENA_NEW(st->points, double, (size_t)most + 1);
    int n = whole_points(w, most, x);

    st->n_series = 0;
    for (int i = 0; i < st->set.n; i++) {
        double *y = ARENA_NEW(st->points, double, (size_t)n + 1);
        for (int k = 0; k < n; k++)
            y[k] = curve_value(&st->set.plans[i], st->kind, (uint64_t)x[k]);
        st->series[st->n_series++] =
            (struct plot_series){.x = x,
                                 .y = y,
                                 .n = n,
                                 .style = (enum style)(ST_SERIES_1 + i),
                                 .name = st->set.plans[i].name};
    }
}

/* The ends of y: from 0, or by decades; memory always with the line of what there is. */
static void find_ends(struct curves_state *st)
{
    double lo = INFINITY, hi = 0, usable = (double)curve_usable_bytes(&st->set);

    for (int i = 0; i < st->n_series; i++)
        for (int k = 0; k < st->series[i].n; k++) {
            double v = st->series[i].y[k];
            if (!isfinite(v) || v <= 0)
                continue;
            lo = v < lo ? v : lo;
            hi = v > hi ? v : hi;
        }
    if (st->kind == CURVE_MEMORY)
        hi = hi > 1.5 * usable || hi < 1.1 * usable ? 1.25 * usable : hi;
    if (!(hi > 0))
        hi = 1;
    st->y0 = looks[st->kind].log_y ? (lo < hi ? lo / 1.2 : hi / 10) : 0;
    st->y1 = looks[st->kind].log_y ? hi * 1.2 : hi * 1.05;
}

static void add_usable(struct curves_state *st)
{
    const struct window *w = window_of(st);
    double *xy = ARENA_NEW(st->points, double, 4);

    if (st->kind != CURVE_MEMORY)
        return;
    xy[0] = w->x0;
    xy[1] = w->x1;
    xy[2] = xy[3] = (double)curve_usable_bytes(&st->set);
    st->series[st->n_series++] =
        (struct plot_series){.x = xy, .y = xy + 2, .n = 2, .style = ST_WARN, .name = "usable"};
}

static bool same_drawing(const struct curves_state *st, int columns)
{
    const struct window *w = &st->windows[st->kind];

    return st->drawn && st->seen_kind == st->kind && st->seen_w == columns &&
           st->seen.x0 == w->x0 && st->seen.x1 == w->x1;
}

static void draw(struct curves_state *st, int columns)
{
    if (same_drawing(st, columns))
        return;
    arena_free(st->points);
    st->points = arena_new();
    draw_series(st, columns > 2 ? columns : 2);
    find_ends(st);
    add_usable(st);
    st->drawn = true;
    st->seen_kind = st->kind;
    st->seen_w = columns;
    st->seen = *window_of(st);
}

static int legend_lines(const struct curves_state *st)
{
    return LEGEND_HEAD + st->set.n;
}

static void prepare(struct ui *ui, void *state, struct rect area)
{
    struct curves_state *st = state;
    int lines;

    refresh(ui, st);
    lines = legend_lines(st);
    st->plot = (struct rect){area.x, area.y + 1, area.w, area.h - 1 - lines};
    st->legend = (struct rect){area.x, area.y + area.h - lines, area.w, lines};
    if (!st->set.n)
        return;
    draw(st, area.w - AXIS_ROOM);
    for (int i = 0; i < st->set.n; i++)
        st->at_cursor[i] =
            curve_value(&st->set.plans[i], st->kind, (uint64_t)window_of(st)->cursor);
}

/* --- drawing ---------------------------------------------------------------------------- */

static const char *figure(enum curve_kind k, double v, char buf[SHOW_TEXT])
{
    if (!isfinite(v))
        return k == CURVE_BATCH ? "none fits or no limit" : "does not fit";
    switch (k) {
    case CURVE_BATCH: return show_count((uint64_t)v, buf);
    case CURVE_MEMORY: return show_bytes((uint64_t)v, buf);
    case CURVE_SPEED: return show_per_s(v, buf);
    case CURVE_STEP: return show_seconds(v, buf);
    case N_CURVE_KINDS: break;
    }
    return "";
}

static const char *schemes_text(const struct problem *p, char *buf, size_t n)
{
    const struct layout *l = &p->layout;
    bool shares = strcmp(l->sharing, "none") && strcmp(l->sharing, "native");
    bool evicts = strcmp(l->retention, "none") != 0;

    snprintf(buf, n, "%s%s%s%s%s", shares ? l->sharing : "", shares ? " + " : "",
             evicts ? l->retention : "", evicts ? " + " : "", l->storage);
    return buf;
}

/* What the cursor reads of one plan, and how that differs from the first. */
static void view_reading(const struct curves_state *st, struct canvas *c, struct rect line,
                         int i)
{
    double v = st->at_cursor[i], of = st->at_cursor[0];
    const struct problem *p = st->set.plans[i].problem;
    char buf[SHOW_TEXT], text[96];
    enum style s = (enum style)(ST_SERIES_1 + i);

    canvas_put(c, line, 1, 0, s, canvas_plot_mark(i));
    canvas_text(c, (struct rect){line.x, line.y, 22, 1}, 3, 0, s, st->set.plans[i].name);
    if (isfinite(v))
        canvas_right(c, line, 34, 0, ST_VALUE, figure(st->kind, v, buf));
    else
        canvas_text(c, line, 24, 0, ST_DIM, figure(st->kind, v, buf));
    if (i && isfinite(v) && isfinite(of))
        canvas_text(c, line, 36, 0, ST_PLAIN, show_change(v, of, buf));
    if (i == 0 || line.w > 100 || !strcmp(st->set.plans[i].name, "baseline"))
        canvas_text(c, line, 47, 0, ST_DIM, schemes_text(p, text, sizeof text));
}

static void view_legend(const struct curves_state *st, struct canvas *c)
{
    const struct window *w = &st->windows[st->kind];
    struct rect line = {st->legend.x, st->legend.y, st->legend.w, 1};
    char at[SHOW_TEXT], usable[SHOW_TEXT];
    int x;

    x = canvas_textf(c, line, 1, 0, ST_LABEL, "at %s %s", show_count((uint64_t)w->cursor, at),
                     looks[st->kind].x_label);
    if (st->kind == CURVE_MEMORY)
        x += canvas_textf(c, line, x + 3, 0, ST_WARN, "%s usable",
                          show_bytes(curve_usable_bytes(&st->set), usable)) +
             2;
    if (st->set.left_out)
        canvas_textf(c, line, x + 3, 0, ST_DIM, "%d tagged left out", st->set.left_out);
    for (int i = 0; i < st->set.n; i++) {
        line.y++;
        view_reading(st, c, line, i);
    }
}

static void view(const struct ui *ui, const void *state, struct canvas *c, struct rect area)
{
    const struct curves_state *st = state;
    const struct curve_look *look = &looks[st->kind];
    const struct window *w = &st->windows[st->kind];
    struct plot p = {.series = st->series,
                     .n_series = st->n_series,
                     .x0 = w->x0,
                     .x1 = w->x1,
                     .y0 = st->y0,
                     .y1 = st->y1,
                     .log_x = true,
                     .log_y = look->log_y,
                     .binary_x = st->kind == CURVE_BATCH,
                     .binary_y = st->kind == CURVE_MEMORY,
                     .x_label = look->x_label,
                     .y_label = look->y_label,
                     .format_x = look->format_x,
                     .format_y = look->format_y,
                     .cursor_x = w->cursor};
    int x = 1;

    (void)ui;
    if (!st->set.n) {
        canvas_text(c, area, 1, 0, ST_DIM, "nothing is planned");
        return;
    }
    for (int k = 0; k < N_CURVE_KINDS; k++)
        x += canvas_textf(c, area, x, 0, k == (int)st->kind ? ST_TITLE : ST_DIM,
                          k == (int)st->kind ? "[%s] " : " %s  ", looks[k].title);
    canvas_plot(c, st->plot, &p);
    view_legend(st, c);
}

/* --- actions ---------------------------------------------------------------------------- */

static void keep_in_window(struct window *w)
{
    double span = w->x1 / w->x0;

    w->cursor = floor(w->cursor + 0.5);
    w->cursor = w->cursor < 1 ? 1 : w->cursor > 1e12 ? 1e12 : w->cursor;
    if (w->cursor < w->x0) {
        w->x0 = w->cursor;
        w->x1 = w->x0 * span;
    } else if (w->cursor > w->x1) {
        w->x1 = w->cursor;
        w->x0 = w->x1 / span;
    }
    if (w->x0 < 1) {
        w->x0 = 1;
        w->x1 = span;
    }
}

/* By so many columns, and at least to the next whole number. */
static void move_cursor(struct curves_state *st, int columns)
{
    struct window *w = window_of(st);
    double room = st->plot.w > AXIS_ROOM + 1 ? st->plot.w - AXIS_ROOM : 1;
    double to = floor(w->cursor * pow(w->x1 / w->x0, columns / room) + 0.5);

    if (to == w->cursor)
        to += columns > 0 ? 1 : -1;
    w->cursor = to;
    keep_in_window(w);
}

/* Around the cursor; never less than a factor of 2 or more than 2^40. */
static void zoom(struct curves_state *st, double by)
{
    struct window *w = window_of(st);
    double left = pow(w->cursor / w->x0, by), right = pow(w->x1 / w->cursor, by);

    if (left * right < 2 || left * right > 0x1p40)
        return;
    w->x0 = w->cursor / left < 1 ? 1 : w->cursor / left;
    w->x1 = w->cursor * right;
}

/* '+' and '-' zoom where the arrows move; both come as the same actions. */
static bool act_key(struct curves_state *st, enum action a, uint32_t key)
{
    struct window *w = window_of(st);

    switch (a) {
    case ACT_LESS:
    case ACT_MORE:
        if (key == '-' || key == '+' || key == '=')
            zoom(st, key == '-' ? 1.5 : 1 / 1.5);
        else
            move_cursor(st, a == ACT_LESS ? -1 : 1);
        break;
    case ACT_PAGE_UP: move_cursor(st, -PAGE_COLUMNS); break;
    case ACT_PAGE_DOWN: move_cursor(st, PAGE_COLUMNS); break;
    case ACT_FIRST: w->cursor = w->x0; break;
    case ACT_LAST: w->cursor = floor(w->x1); break;
    case ACT_UP:
    case ACT_DOWN: zoom(st, a == ACT_UP ? 1 / 1.5 : 1.5); break;
    case ACT_CLEAR: reset_window(st, st->kind); break;
    case ACT_MODE:
    case ACT_OPEN: st->kind = (st->kind + 1) % N_CURVE_KINDS; break;
    default: return false;
    }
    keep_in_window(window_of(st));
    return true;
}

static bool act_mouse(struct curves_state *st, const struct event *e)
{
    struct window *w = window_of(st);
    double room = st->plot.w > AXIS_ROOM ? st->plot.w - AXIS_ROOM : 1;
    double share = (e->x - st->plot.x - AXIS_ROOM) / room;

    if (e->button == MOUSE_WHEEL_UP || e->button == MOUSE_WHEEL_DOWN) {
        zoom(st, e->button == MOUSE_WHEEL_UP ? 1 / 1.5 : 1.5);
    } else if (share >= 0 && share <= 1 && e->y < st->legend.y) {
        w->cursor = w->x0 * pow(w->x1 / w->x0, share);
        keep_in_window(w);
    } else {
        return false;
    }
    return true;
}

static bool act(struct ui *ui, void *state, enum action a, const struct event *e)
{
    struct curves_state *st = state;

    refresh(ui, st);
    if (!st->set.n)
        return false;
    if (e && e->kind == EVENT_MOUSE)
        return act_mouse(st, e);
    return act_key(st, a, e ? e->key : 0);
}

static const char *why(const struct ui *ui, const void *state)
{
    static const char *const paths[N_CURVE_KINDS] = {
        "capacity.max_batch", "memory.per_gpu.kv_pool_bytes",
        "compute.decode.tokens_per_second", "compute.decode.seconds"};

    (void)ui;
    return paths[((const struct curves_state *)state)->kind];
}

static void free_state(void *state)
{
    struct curves_state *st = state;

    arena_free(st->arena);
    arena_free(st->points);
}

const struct screen screen_curves = {
    .id = "curves",
    .title = "Curves",
    .summary = "batch, memory and speed drawn, with what a cursor reads",
    .order = 4,
    .state_size = sizeof(struct curves_state),
    .prepare = prepare,
    .view = view,
    .act = act,
    .why = why,
    .free = free_state,
};
