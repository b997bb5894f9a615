/* Front: all schemes with all cache formats as points of memory and speed; the ones that
 * nothing beats stand out, and the chosen one can become the spec. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tui/about.h"
#include "tui/front_set.h"
#include "tui/list.h"
#include "tui/show.h"
#include "tui/ui.h"

enum { STEP_COMBINATIONS = 24, WIDE_W = 132, HEAD_LINES = 1, FOOT_LINES = 2 };
#define TICK_S 0.001

struct front_state {
    struct front_set set, next; /* shown; being made */
    bool started, due;          /* the next is to be begun */
    uint64_t generation;        /* that it is for */
    int group;                  /* of published figures, or FRONT_ALL, FRONT_AS_TRAINED */
    struct list list;
    struct rect plot, foot;
};

/* --- columns ---------------------------------------------------------------------------- */

static const struct compare_row *row_at(const void *rows, int i)
{
    return &((const struct front_set *)rows)->rows.rows[i];
}

static const struct front_point *point_at(const void *rows, int i)
{
    return &((const struct front_set *)rows)->points[i];
}

static void front_text(const void *rows, int i, char buf[LIST_TEXT])
{
    snprintf(buf, LIST_TEXT, "%s%s", point_at(rows, i)->on_front ? "front" : "",
             row_at(rows, i)->needs_training ? " T" : "");
}

static void name_text(const void *rows, int i, char buf[LIST_TEXT])
{
    snprintf(buf, LIST_TEXT, "%s", row_at(rows, i)->name);
}

static void format_text(const void *rows, int i, char buf[LIST_TEXT])
{
    snprintf(buf, LIST_TEXT, "%s", point_at(rows, i)->format);
}

static void memory_text(const void *rows, int i, char buf[LIST_TEXT])
{
    show_bytes(row_at(rows, i)->after_prefill_bytes, buf);
}

static void speed_text(const void *rows, int i, char buf[LIST_TEXT])
{
    buf[0] = '\0';
    if (row_at(rows, i)->timed)
        show_per_s(row_at(rows, i)->tokens_per_s, buf);
}

static void batch_text(const void *rows, int i, char buf[LIST_TEXT])
{
    show_most(row_at(rows, i)->max_batch, row_at(rows, i)->batch_limit, buf);
}

static void quality_text(const void *rows, int i, char buf[LIST_TEXT])
{
    const struct evidence_row *e = row_at(rows, i)->near.row;

    buf[0] = '\0';
    if (e)
        snprintf(buf, LIST_TEXT, "%.4g", e->value);
}

static void metric_text(const void *rows, int i, char buf[LIST_TEXT])
{
    const struct evidence_row *e = row_at(rows, i)->near.row;

    buf[0] = '\0';
    if (e)
        snprintf(buf, LIST_TEXT, "%s, %s", e->metric, e->model);
}

static int order(double x, double y)
{
    return x > y ? -1 : x < y ? 1 : 0;
}

static int by_memory(const void *rows, int a, int b)
{
    return order(-(double)row_at(rows, a)->after_prefill_bytes,
                 -(double)row_at(rows, b)->after_prefill_bytes);
}

static int by_front(const void *rows, int a, int b)
{
    const struct front_point *p = point_at(rows, a), *q = point_at(rows, b);

    if (p->on_front != q->on_front)
        return p->on_front ? -1 : 1;
    return by_memory(rows, a, b);
}

static int by_name(const void *rows, int a, int b)
{
    return strcmp(row_at(rows, a)->name, row_at(rows, b)->name);
}

static int by_format(const void *rows, int a, int b)
{
    return strcmp(point_at(rows, a)->format, point_at(rows, b)->format);
}

static int by_speed(const void *rows, int a, int b)
{
    return order(row_at(rows, a)->tokens_per_s, row_at(rows, b)->tokens_per_s);
}

static int by_batch(const void *rows, int a, int b)
{
    return order((double)row_at(rows, a)->max_batch, (double)row_at(rows, b)->max_batch);
}

/* Within a group the better figure first; groups in order, rows without a figure last. */
static int by_quality(const void *rows, int a, int b)
{
    const struct front_point *p = point_at(rows, a), *q = point_at(rows, b);
    const struct evidence_row *e = row_at(rows, a)->near.row, *f = row_at(rows, b)->near.row;

    if (!e || !f)
        return (f != NULL) - (e != NULL);
    if (p->group != q->group)
        return p->group < q->group ? -1 : 1;
    return e->higher_is_better ? order(e->value, f->value) : order(f->value, e->value);
}

static const struct list_column columns[] = {
    {"front", 7, false, 0, front_text, by_front},
    {"scheme", 18, false, 0, name_text, by_name},
    {"cache format", 14, false, 0, format_text, by_format},
    {"memory", 10, true, 0, memory_text, by_memory},
    {"tokens/s", 8, true, 0, speed_text, by_speed},
    {"batch", 9, true, 74, batch_text, by_batch},
    {"quality", 7, true, 66, quality_text, by_quality},
    {"of what", 0, false, 96, metric_text, NULL},
};

static enum style row_style(const void *rows, int i)
{
    return point_at(rows, i)->on_front ? ST_VALUE : ST_DIM;
}

/* --- state ------------------------------------------------------------------------------ */

/* What is being made is dropped when the session has moved on; what is shown stays until the
 * next is done. */
static void refresh(struct ui *ui, struct front_state *st)
{
    struct session *s = ui_session(ui);

    if (st->started && st->generation == s->generation)
        return;
    if (!st->started) {
        st->group = FRONT_ALL;
        st->list.none = "nothing is planned";
    }
    st->started = st->due = true;
    st->generation = s->generation;
    front_free(&st->next);
}

/* The finished set takes the place of the one shown; the cursor stays on its combination. */
static void take_over(struct front_state *st)
{
    struct front_set old = st->set;
    int row = list_row(&st->list), at = -1;

    st->set = st->next;
    st->next = (struct front_set){0};
    for (size_t i = 0; row >= 0 && i < st->set.rows.n; i++)
        if (!strcmp(st->set.rows.rows[i].name, old.rows.rows[row].name) &&
            !strcmp(st->set.points[i].format, old.points[row].format))
            at = (int)i;
    if (st->group >= st->set.n_groups)
        st->group = FRONT_ALL;
    if (st->group != FRONT_ALL)
        front_mark(&st->set, st->group);
    st->list.columns = columns;
    st->list.n_columns = sizeof columns / sizeof *columns;
    st->list.style = row_style;
    list_set(&st->list, st->set.arena, &st->set, (int)st->set.rows.n, 0);
    st->list.at = at < 0 ? 0 : st->list.at;
    list_update(&st->list);
    if (at >= 0)
        list_select(&st->list, at);
    front_free(&old);
}

static double tick(struct ui *ui, void *state, double now_s)
{
    struct front_state *st = state;

    (void)now_s;
    refresh(ui, st);
    if (st->due) {
        st->due = false;
        if (front_begin(ui_session(ui), &st->next))
            return TICK_S;
        front_free(&st->next);
    }
    if (!st->next.work)
        return 0;
    if (!front_step(&st->next, STEP_COMBINATIONS))
        return TICK_S;
    take_over(st);
    return 0;
}

static void prepare(struct ui *ui, void *state, struct rect area)
{
    struct front_state *st = state;
    struct rect body = {area.x, area.y + HEAD_LINES, area.w, area.h - HEAD_LINES - FOOT_LINES};
    struct rect list = body;

    refresh(ui, st);
    st->plot = body;
    if (area.w >= WIDE_W) {
        st->plot.w = area.w * 9 / 20;
        list.x += st->plot.w + 2;
        list.w -= st->plot.w + 2;
    } else {
        st->plot.h = body.h / 2;
        list.y += st->plot.h;
        list.h -= st->plot.h;
    }
    list_place(&st->list, list);
    st->foot = (struct rect){area.x, area.y + area.h - FOOT_LINES, area.w, FOOT_LINES};
}

/* --- drawing ---------------------------------------------------------------------------- */

struct scatter {
    struct plot plot;
    struct rect dots;
};

static void widen(double v, double *lo, double *hi)
{
    if (v > 0 && v < *lo)
        *lo = v;
    if (v > 0 && v > *hi)
        *hi = v;
}

static struct plot axes(const struct front_set *f)
{
    struct plot p = {.x0 = INFINITY,
                     .y0 = INFINITY,
                     .log_x = true,
                     .log_y = true,
                     .binary_x = true,
                     .x_label = "cache of a sequence after its prompt",
                     .y_label = f->timed ? "tokens/s" : "sequences that fit",
                     .format_x = show_tick_bytes,
                     .format_y = show_tick_count,
                     .cursor_x = NAN};

    for (size_t i = 0; i < f->rows.n; i++) {
        const struct compare_row *r = &f->rows.rows[i];
        widen((double)r->after_prefill_bytes, &p.x0, &p.x1);
        widen(f->timed ? r->tokens_per_s : (double)r->max_batch, &p.y0, &p.y1);
    }
    if (!(p.x1 >= p.x0))
        p.x0 = p.x1 = 1;
    if (!(p.y1 >= p.y0))
        p.y0 = p.y1 = 1;
    p.x0 /= 1.1;
    p.x1 *= 1.1;
    p.y0 /= 1.1;
    p.y1 *= 1.1;
    return p;
}

static void put_point(const struct scatter *s, struct canvas *c, double x, double y,
                      enum style style, uint32_t glyph)
{
    double across = log(x / s->plot.x0) / log(s->plot.x1 / s->plot.x0);
    double up = log(y / s->plot.y0) / log(s->plot.y1 / s->plot.y0);

    if (!(across >= 0 && across <= 1 && up >= 0 && up <= 1))
        return;
    canvas_put(c, s->dots, (int)lround(across * (s->dots.w - 1)),
               s->dots.h - 1 - (int)lround(up * (s->dots.h - 1)), style, glyph);
}

static void put_row(const struct scatter *s, struct canvas *c, const struct front_set *f, int i,
                    enum style style, uint32_t glyph)
{
    const struct compare_row *r = &f->rows.rows[i];

    put_point(s, c, (double)r->after_prefill_bytes,
              f->timed ? r->tokens_per_s : (double)r->max_batch, style, glyph);
}

/* Points that are beaten below, then the front, the spec, and the chosen one on top. */
static void view_scatter(const struct front_state *st, struct canvas *c)
{
    const struct front_set *f = &st->set;
    struct scatter s = {.plot = axes(f)};
    int chosen = list_row(&st->list);

    s.dots = canvas_plot(c, st->plot, &s.plot);
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < f->rows.n; i++)
            if (f->points[i].on_front == (pass == 1))
                put_row(&s, c, f, (int)i, pass ? ST_SERIES_1 : ST_DIM, pass ? 0x25cf : 0x00b7);
    put_point(&s, c, (double)f->asked_bytes, f->asked_per_s, ST_SERIES_3, 0x25cb);
    if (chosen >= 0)
        put_row(&s, c, f, chosen, ST_SELECT, 0x25c6);
}

static void view_head(const struct front_state *st, struct canvas *c, struct rect line)
{
    const struct front_set *f = &st->set;
    int x = 1;

    if (st->due)
        x += canvas_text(c, line, x, 0, ST_WARN, "trying all combinations  ");
    else if (st->next.work)
        x += canvas_textf(c, line, x, 0, ST_WARN, "trying %zu of %zu  ", st->next.n_done,
                          st->next.n_all);
    if (!f->rows.n)
        return;
    x += canvas_textf(c, line, x, 0, ST_TITLE, "%zu of %zu that nothing beats", f->n_front,
                      f->rows.n);
    if (st->group == FRONT_ALL)
        canvas_text(c, line, x, 0, ST_PLAIN, " in memory and speed (m: without training)");
    else if (st->group == FRONT_AS_TRAINED)
        canvas_text(c, line, x, 0, ST_PLAIN, " without training (m: with a quality)");
    else
        canvas_textf(c, line, x, 0, ST_PLAIN, " in memory, speed and, of %d, %s (%s)",
                     f->groups[st->group].n, f->groups[st->group].metric,
                     f->groups[st->group].model);
}

static void view_foot(const struct front_state *st, struct canvas *c)
{
    int i = list_row(&st->list);
    const struct compare_row *r = i < 0 ? NULL : row_at(&st->set, i);
    const struct evidence_row *e = r ? r->near.row : NULL;
    struct rect line = {st->foot.x, st->foot.y, st->foot.w, 1};
    char token[SHOW_TEXT], prefill[SHOW_TEXT];
    int x;

    if (!r)
        return;
    x = 1 +
        canvas_textf(c, line, 1, 0, ST_VALUE, "%s, %s", r->name, point_at(&st->set, i)->format);
    if (r->needs_training)
        x += canvas_text(c, line, x, 0, ST_WARN, " (needs training)");
    x += canvas_textf(c, line, x, 0, ST_PLAIN, ": %s a token",
                      show_bytes(r->token_bytes, token));
    if (r->timed)
        x += canvas_textf(c, line, x, 0, ST_PLAIN, ", prefill %s",
                          show_seconds(r->prompt_s, prefill));
    if (*r->params)
        x += canvas_textf(c, line, x, 0, ST_DIM, "; %s", r->params);
    canvas_more(c, line, x, 0, ST_DIM);
    line.y++;
    if (e)
        canvas_more(c, line,
                    1 + canvas_textf(c, line, 1, 0, ST_DIM, "%s %.6g, %s; %s", e->metric,
                                     e->value, r->near.how_far, e->source),
                    0, ST_DIM);
    else
        canvas_text(
            c, line, 1, 0, ST_DIM,
            "\u25cf front \u00b7 beaten \u25cb spec \u25c6 chosen; no quality is published for it");
}

static void view(const struct ui *ui, const void *state, struct canvas *c, struct rect area)
{
    const struct front_state *st = state;

    (void)ui;
    view_head(st, c, (struct rect){area.x, area.y, area.w, 1});
    if (!st->set.rows.n) {
        if (!st->next.work && !st->due)
            canvas_text(c, area, 1, 1, ST_DIM, "nothing is planned");
        return;
    }
    view_scatter(st, c);
    list_view(&st->list, c);
    view_foot(st, c);
}

/* --- actions ---------------------------------------------------------------------------- */

static void take(struct ui *ui, struct front_state *st)
{
    struct session *s = ui_session(ui);
    struct arena *a = arena_new();
    struct session_edit edits[FRONT_EDITS];
    int i = list_row(&st->list);
    const char *why = "";

    if (i < 0 || st->set.generation != s->generation)
        ui_say(ui, ST_WARN, "the front of the spec as it is now is still being made");
    else if (!session_apply(s, edits, front_edits(a, &st->set, (size_t)i, edits), &why))
        ui_say(ui, ST_BAD, "%s", why);
    else
        ui_say(ui, s->ok ? ST_OK : ST_BAD, "the spec is %s, %s now; u takes it back",
               row_at(&st->set, i)->name, point_at(&st->set, i)->format);
    arena_free(a);
}

/* All, what needs no training, then the groups in which there is something to compare. */
static void next_group(struct front_state *st)
{
    int k = st->group == FRONT_ALL ? FRONT_AS_TRAINED : st->group < 0 ? 0 : st->group + 1;

    while (k >= 0 && k < st->set.n_groups && st->set.groups[k].n < 2)
        k++;
    st->group = k < st->set.n_groups ? k : FRONT_ALL;
    front_mark(&st->set, st->group);
    list_update(&st->list);
    st->list.at = 0;
}

static bool act(struct ui *ui, void *state, enum action a, const struct event *e)
{
    struct front_state *st = state;
    enum list_used used;

    refresh(ui, st);
    if (!st->set.rows.n)
        return false;
    used = list_act(&st->list, a, e);
    if (used == LIST_OPENED || a == ACT_OPEN)
        take(ui, st);
    else if (a == ACT_MODE)
        next_group(st);
    else
        return used != LIST_UNUSED;
    return true;
}

static const char *about(const struct ui *ui, const void *state, struct arena *a,
                         const char **title)
{
    const struct front_state *st = state;
    int i = list_row(&st->list);
    const struct compare_row *r = i < 0 ? NULL : row_at(&st->set, i);
    const struct front_point *p = i < 0 ? NULL : point_at(&st->set, i);
    const char *text;

    (void)ui;
    if (!r || (!r->use.scheme && !p->store.scheme))
        return NULL;
    *title = arena_printf(a, "%s, %s", r->name, p->format);
    text = r->use.scheme ? about_scheme(a, r)
                         : "The model as shipped, but for its cache format.\n";
    if (p->store.scheme)
        text = arena_printf(a, "%s\nstored as %s: %s\nsource      %s\n", text, p->format,
                            p->store.scheme->summary, p->store.scheme->source);
    return text;
}

/* --- rows for search and filter --------------------------------------------------------- */

static int rows(const struct ui *ui, const void *state)
{
    (void)ui;
    return ((const struct front_state *)state)->list.n_shown;
}

static const char *row_text(const struct ui *ui, const void *state, int place)
{
    const struct front_state *st = state;

    (void)ui;
    return place >= 0 && place < st->list.n_shown
               ? row_at(&st->set, st->list.shown[place])->name
               : "";
}

static void select_row(struct ui *ui, void *state, int place)
{
    struct front_state *st = state;

    (void)ui;
    if (place >= 0 && place < st->list.n_shown)
        list_select(&st->list, st->list.shown[place]);
}

static int selected(const struct ui *ui, const void *state)
{
    (void)ui;
    return ((const struct front_state *)state)->list.at;
}

static void filter(struct ui *ui, void *state, const char *text)
{
    struct front_state *st = state;

    (void)ui;
    snprintf(st->list.filter, sizeof st->list.filter, "%s", text);
    if (st->set.rows.n)
        list_update(&st->list);
}

static void free_state(void *state)
{
    struct front_state *st = state;

    front_free(&st->set);
    front_free(&st->next);
}

const struct screen screen_front = {
    .id = "front",
    .title = "Front",
    .summary = "schemes with formats that nothing beats in memory, speed and quality",
    .order = 5,
    .state_size = sizeof(struct front_state),
    .prepare = prepare,
    .view = view,
    .act = act,
    .tick = tick,
    .about = about,
    .rows = rows,
    .row_text = row_text,
    .select = select_row,
    .selected = selected,
    .filter = filter,
    .free = free_state,
};
