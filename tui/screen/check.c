/* Check: what `kvbudget validate` measured against what was predicted, from a saved file. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tui/check_file.h"
#include "tui/list.h"
#include "tui/ui.h"

enum { HEAD_LINES = 2, FOOT_LINES = 3, SCALE_W = 24 };

struct check_state {
    struct arena *arena;
    struct check_file file;
    const char *error; /* why it cannot be shown; NULL */
    struct list list;
    struct rect foot;
};

/* --- columns ---------------------------------------------------------------------------- */

static const struct check_row *row_at(const void *rows, int i)
{
    return &((const struct check_file *)rows)->rows[i];
}

/* Counts in full, measured values with six digits. */
static void number(double v, char buf[LIST_TEXT])
{
    buf[0] = '\0';
    if (isfinite(v))
        snprintf(buf, LIST_TEXT, v == floor(v) && fabs(v) < 1e12 ? "%.0f" : "%.6g", v);
}

static void name_text(const void *rows, int i, char buf[LIST_TEXT])
{
    snprintf(buf, LIST_TEXT, "%s", row_at(rows, i)->name);
}

static void level_text(const void *rows, int i, char buf[LIST_TEXT])
{
    snprintf(buf, LIST_TEXT, "%s", row_at(rows, i)->level);
}

static void predicted_text(const void *rows, int i, char buf[LIST_TEXT])
{
    number(row_at(rows, i)->predicted, buf);
}

static void measured_text(const void *rows, int i, char buf[LIST_TEXT])
{
    number(row_at(rows, i)->measured, buf);
}

static void unit_text(const void *rows, int i, char buf[LIST_TEXT])
{
    snprintf(buf, LIST_TEXT, "%s", row_at(rows, i)->unit);
}

static void ratio_text(const void *rows, int i, char buf[LIST_TEXT])
{
    buf[0] = '\0';
    if (isfinite(row_at(rows, i)->ratio))
        snprintf(buf, LIST_TEXT, "%.4f", row_at(rows, i)->ratio);
}

static void tolerance_text(const void *rows, int i, char buf[LIST_TEXT])
{
    buf[0] = '\0';
    if (isfinite(row_at(rows, i)->tolerance))
        snprintf(buf, LIST_TEXT, "%.3g %%", 100 * row_at(rows, i)->tolerance);
}

static void verdict_text(const void *rows, int i, char buf[LIST_TEXT])
{
    snprintf(buf, LIST_TEXT, "%s", row_at(rows, i)->verdict);
}

static void reason_text(const void *rows, int i, char buf[LIST_TEXT])
{
    snprintf(buf, LIST_TEXT, "%s", row_at(rows, i)->reason);
}

static int by_name(const void *rows, int a, int b)
{
    return strcmp(row_at(rows, a)->name, row_at(rows, b)->name);
}

static int by_level(const void *rows, int a, int b)
{
    return strcmp(row_at(rows, a)->level, row_at(rows, b)->level);
}

/* How far measured is from predicted; the farthest first, what has no ratio last. */
static int by_ratio(const void *rows, int a, int b)
{
    double x = fabs(row_at(rows, a)->ratio - 1), y = fabs(row_at(rows, b)->ratio - 1);

    if (!isfinite(x) || !isfinite(y))
        return isfinite(y) - isfinite(x) > 0 ? 1 : isfinite(x) - isfinite(y) > 0 ? -1 : 0;
    return x > y ? -1 : x < y ? 1 : 0;
}

/* Failures first. */
static int by_verdict(const void *rows, int a, int b)
{
    static const int rank[] = {
        [CHECK_BAD] = 0, [CHECK_OTHER] = 1, [CHECK_OK] = 2, [CHECK_WAIVED] = 3};

    return rank[row_at(rows, a)->kind] - rank[row_at(rows, b)->kind];
}

static const struct list_column columns[] = {
    {"check", 0, false, 0, name_text, by_name},
    {"level", 8, false, 0, level_text, by_level},
    {"predicted", 12, true, 0, predicted_text, NULL},
    {"measured", 12, true, 0, measured_text, NULL},
    {"in", 7, false, 88, unit_text, NULL},
    {"ratio", 8, true, 0, ratio_text, by_ratio},
    {"allowed", 7, true, 88, tolerance_text, NULL},
    {"verdict", 8, false, 0, verdict_text, by_verdict},
    {"reason", 30, false, 120, reason_text, NULL},
};

static enum style row_style(const void *rows, int i)
{
    switch (row_at(rows, i)->kind) {
    case CHECK_OK: return ST_PLAIN;
    case CHECK_BAD: return ST_BAD;
    case CHECK_WAIVED: return ST_DIM;
    case CHECK_OTHER: return ST_WARN;
    }
    return ST_PLAIN;
}

/* --- state ------------------------------------------------------------------------------ */

static bool present(const struct ui *ui)
{
    return ui_option(ui, "validation") != NULL;
}

/* The first error without the path, which the screen shows anyway. */
static const char *error_of(struct arena *a, const struct diag *d)
{
    for (size_t i = 0; i < diag_count(d); i++)
        if (diag_at(d, i)->kind >= DIAG_USAGE)
            return diag_at(d, i)->at.line
                       ? arena_printf(a, "line %d: %s", diag_at(d, i)->at.line,
                                      diag_at(d, i)->text)
                       : diag_at(d, i)->text;
    return "cannot be read";
}

static void load(const struct ui *ui, struct check_state *st)
{
    struct diag *d;

    if (st->arena)
        return;
    st->arena = arena_new();
    d = diag_new(st->arena);
    if (!check_read(st->arena, ui_option(ui, "validation"), d, &st->file))
        st->error = error_of(st->arena, d);
    st->list.columns = columns;
    st->list.n_columns = sizeof columns / sizeof *columns;
    st->list.style = row_style;
    st->list.none = "the file has no checks";
    st->list.sort = -1;
    list_set(&st->list, st->arena, &st->file, (int)st->file.n, 0);
    list_update(&st->list);
}

static void prepare(struct ui *ui, void *state, struct rect area)
{
    struct check_state *st = state;
    struct rect list = {area.x, area.y + HEAD_LINES, area.w, area.h - HEAD_LINES - FOOT_LINES};

    if (!present(ui))
        return;
    load(ui, st);
    list_place(&st->list, list);
    st->foot = (struct rect){area.x, list.y + list.h, area.w, FOOT_LINES};
}

/* --- drawing ---------------------------------------------------------------------------- */

/* Where measured lies within what is allowed around predicted, 1.0 in the middle. */
static void view_scale(const struct check_row *r, struct canvas *c, struct rect line)
{
    double at = (r->ratio - 1) / r->tolerance;
    int mid = SCALE_W / 2, x;

    if (!isfinite(at))
        return;
    x = at > 2 ? SCALE_W : at < -2 ? 0 : mid + (int)lround(at * mid / 2);
    for (int i = 0; i <= SCALE_W; i++) {
        bool allowed = i >= mid / 2 && i <= mid + mid / 2;
        canvas_put(c, line, i, 0, allowed ? ST_OK : ST_DIM, allowed ? '=' : '-');
    }
    canvas_put(c, line, mid, 0, ST_LABEL, '|');
    canvas_put(c, line, x, 0, r->kind == CHECK_BAD ? ST_BAD : ST_VALUE, 0x25c6);
    canvas_text(c, line, SCALE_W + 2, 0, ST_DIM, "\u25c6 measured | predicted === allowed");
}

static void view_foot(const struct check_state *st, struct canvas *c)
{
    int i = list_row(&st->list);
    struct rect line = {st->foot.x + 1, st->foot.y, st->foot.w - 1, 1};
    const struct check_row *r = i < 0 ? NULL : row_at(&st->file, i);

    if (!r)
        return;
    canvas_textf(c, line, 0, 0, ST_TITLE, "%s%s%s", r->name, *r->level ? ", level " : "",
                 r->level);
    line.y++;
    view_scale(r, c, line);
    line.y++;
    canvas_text(c, line, 0, 0, r->kind == CHECK_BAD ? ST_BAD : ST_PLAIN, r->reason);
}

static void view(const struct ui *ui, const void *state, struct canvas *c, struct rect area)
{
    const struct check_state *st = state;
    const struct check_file *f = &st->file;
    struct rect line = {area.x + 1, area.y, area.w - 1, 1};
    int x;

    (void)ui;
    if (!st->arena)
        return;
    if (st->error) {
        canvas_text(c, line, 0, 0, ST_TITLE, f->path);
        line.y++;
        canvas_text(c, line, 0, 0, ST_BAD, st->error);
        return;
    }
    x = canvas_textf(c, line, 0, 0, ST_TITLE, "%zu check%s: ", f->n, f->n == 1 ? "" : "s");
    x += canvas_textf(c, line, x, 0, f->n_bad ? ST_BAD : ST_OK, "%zu outside what is allowed",
                      f->n_bad);
    canvas_textf(c, line, x, 0, ST_PLAIN, ", %zu waived", f->n_waived);
    line.y++;
    canvas_textf(c, line, 0, 0, ST_DIM, "%s%s%s%s%s",
                 *f->device ? f->device : "device not said", *f->driver ? ", driver " : "",
                 f->driver, *f->date ? ", " : "", f->date);
    list_view(&st->list, c);
    view_foot(st, c);
}

/* --- actions ---------------------------------------------------------------------------- */

/* A check in full: what the columns cut. */
static const char *about(const struct ui *ui, const void *state, struct arena *a,
                         const char **title)
{
    const struct check_state *st = state;
    int i = st->arena ? list_row(&st->list) : -1;
    const char *text = "";

    (void)ui;
    if (i < 0)
        return NULL;
    *title = row_at(&st->file, i)->name;
    for (size_t k = 0; k < sizeof columns / sizeof *columns; k++) {
        char value[LIST_TEXT];
        columns[k].text(&st->file, i, value);
        if (k && *value && columns[k].text != reason_text)
            text = arena_printf(a, "%s%-11s %s\n", text, columns[k].title, value);
    }
    return arena_printf(a, "%s\n%s\n", text, row_at(&st->file, i)->reason);
}

static void tell(struct ui *ui, const struct check_state *st)
{
    struct arena *a = arena_new();
    const char *title, *text = about(ui, st, a, &title);

    if (text)
        ui_page(ui, title, text);
    arena_free(a);
}

static bool act(struct ui *ui, void *state, enum action a, const struct event *e)
{
    struct check_state *st = state;
    enum list_used used;

    if (!present(ui))
        return false;
    load(ui, st);
    used = list_act(&st->list, a, e);
    if (used == LIST_OPENED || a == ACT_OPEN)
        tell(ui, st);
    else
        return used != LIST_UNUSED;
    return true;
}

static int rows(const struct ui *ui, const void *state)
{
    (void)ui;
    return ((const struct check_state *)state)->list.n_shown;
}

static const char *row_text(const struct ui *ui, const void *state, int place)
{
    const struct check_state *st = state;

    (void)ui;
    return place >= 0 && place < st->list.n_shown
               ? row_at(&st->file, st->list.shown[place])->name
               : "";
}

static void select_row(struct ui *ui, void *state, int place)
{
    struct check_state *st = state;

    (void)ui;
    if (place >= 0 && place < st->list.n_shown)
        list_select(&st->list, st->list.shown[place]);
}

static int selected(const struct ui *ui, const void *state)
{
    (void)ui;
    return ((const struct check_state *)state)->list.at;
}

static void filter(struct ui *ui, void *state, const char *text)
{
    struct check_state *st = state;

    if (!present(ui))
        return;
    load(ui, st);
    snprintf(st->list.filter, sizeof st->list.filter, "%s", text);
    list_update(&st->list);
}

static void free_state(void *state)
{
    arena_free(((struct check_state *)state)->arena);
}

const struct screen screen_check = {
    .id = "check",
    .title = "Check",
    .summary = "predicted against measured: the last validation",
    .order = 7,
    .state_size = sizeof(struct check_state),
    .present = present,
    .prepare = prepare,
    .view = view,
    .act = act,
    .about = about,
    .rows = rows,
    .row_text = row_text,
    .select = select_row,
    .selected = selected,
    .filter = filter,
    .free = free_state,
};
