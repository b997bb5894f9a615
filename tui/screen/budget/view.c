/* Budget drawn: knobs on the left, the GPU's memory and the figures on the right. Pure. */
#include <stdio.h>
#include <string.h>

#include "tui/screen/budget/budget.h"

enum { HINT_LINES = 3, LABEL_W = 17, WIDE_W = 64, VALUE_END = 35, CHANGE_END = 45 };

static int larger(int a, int b)
{
    return a > b ? a : b;
}

void budget_arrange(struct rect area, int verdict_lines, struct budget_parts *out)
{
    int left = area.w >= 180 ? 60 : area.w >= 120 ? 48 : area.w >= 100 ? 40 : 36;
    int x = area.x + left + 1, w = larger(area.w - left - 1, 0), y = area.y;
    int hint = area.h > 2 * HINT_LINES ? HINT_LINES : 0;
    int verdict = verdict_lines < area.h - 4 ? verdict_lines : larger(area.h - 4, 0);
    int bar = area.h >= 34 ? 3 : area.h >= 8 ? 1 : 0;

    left = left < area.w ? left : area.w;
    out->knobs = (struct rect){area.x, y, left, larger(area.h - hint, 0)};
    out->hint = (struct rect){area.x, y + area.h - hint, left, hint};
    out->verdict = (struct rect){x, y, w, verdict};
    out->bar = (struct rect){x, y + verdict, w, bar};
    out->notes = (struct rect){x, y + area.h - 1, w, area.h > 0 ? 1 : 0};
    out->figures =
        (struct rect){x, y + verdict + bar, w, larger(area.h - 1 - verdict - bar, 0)};
}

int budget_wrap(const char *text, int w, int max, char (*out)[256])
{
    int n = 0;

    while (*text && n < max && w > 0) {
        size_t take = 0, end = 0;
        text += strspn(text, " ");
        while (text[take]) {
            size_t word = take + strspn(text + take, " ");
            word += strcspn(text + word, " ");
            snprintf(out[n], sizeof out[n], "%.*s", (int)(word < 255 ? word : 255), text);
            if (end && (canvas_columns(out[n]) > w || word >= 255))
                break;
            end = take = word;
        }
        snprintf(out[n], sizeof out[n], "%.*s", (int)(end < 255 ? end : 255), text);
        text += end;
        n += end > 0;
    }
    return n;
}

static int view_text(struct canvas *c, struct rect r, int y, enum style s, const char *text)
{
    char lines[3][256];
    int n = budget_wrap(text, r.w, 3, lines);

    for (int i = 0; i < n; i++)
        canvas_text(c, r, 0, y + i, s, lines[i]);
    return n;
}

static void view_cut(struct canvas *c, struct rect r, enum style s, const char *text)
{
    canvas_more(c, r, canvas_text(c, r, 0, 0, s, text), 0, s);
}

/* --- knobs ---------------------------------------------------------------------------------
 */

/* Names of models without their organisation, so that the part that tells them apart is seen.
 */
static const char *short_text(const struct knob *k, const char *text)
{
    const char *slash = strcmp(k->path, "model") ? NULL : strrchr(text, '/');

    return slash && slash[1] ? slash + 1 : text;
}

static bool has_note(const struct knob_value *v)
{
    return v->note && strcmp(v->note, "the default") != 0;
}

static void view_knob(const struct budget_state *st, struct canvas *c, struct rect row, int i)
{
    const struct knob *k = &st->knobs.v[i];
    const struct knob_value *v = &st->values[i];
    struct rect field = {row.x + LABEL_W + 2, row.y, row.w - LABEL_W - 2, 1};
    bool here = st->at == i;

    if (here && st->editing) {
        canvas_put(c, row, 0, 0, ST_EDIT, '>');
        canvas_text(c, row, 1, 0, ST_LABEL, k->label);
        canvas_fill(c, field, ST_EDIT, ' ');
        line_view(&st->line, c, field, ST_EDIT);
        return;
    }
    canvas_text(c, row, 1, 0, ST_LABEL, k->label);
    if (v->error)
        canvas_text(c, row, LABEL_W, 0, ST_BAD, "!");
    else if (v->given)
        canvas_text(c, row, LABEL_W, 0, ST_DIM, "=");
    view_cut(c, field,
             v->error   ? ST_BAD
             : v->given ? ST_VALUE
                        : ST_DIM,
             *v->text      ? short_text(k, v->text)
             : has_note(v) ? v->note
                           : "-");
    if (here) {
        canvas_put(c, row, 0, 0, ST_SELECT, '>');
        canvas_restyle(c, row, ST_SELECT);
    }
}

static void view_knobs(const struct budget_state *st, struct canvas *c)
{
    struct rect r = st->parts.knobs;

    for (int y = 0; y < r.h && st->top + y < st->n_lines; y++) {
        const struct budget_line *l = &st->lines[st->top + y];
        struct rect row = {r.x, r.y + y, r.w, 1};
        if (l->title)
            canvas_text(c, row, 0, 0, ST_TITLE, l->title);
        else
            view_knob(st, c, row, l->knob);
    }
    if (st->top > 0 && r.h > 0)
        canvas_put(c, r, r.w - 1, 0, ST_DIM, 0x25b2);
    if (st->top + r.h < st->n_lines && r.h > 0)
        canvas_put(c, r, r.w - 1, r.h - 1, ST_DIM, 0x25bc);
}

/* --- hints ---------------------------------------------------------------------------------
 */

static bool is_number(const struct knob *k)
{
    return k->kind == KNOB_WHOLE || k->kind == KNOB_TOKENS || k->kind == KNOB_BYTES ||
           k->kind == KNOB_SHARE;
}

static void view_knob_hint(const struct budget_state *st, struct canvas *c)
{
    struct rect r = st->parts.hint;
    const struct knob *k = &st->knobs.v[st->at];
    const struct knob_value *v = &st->values[st->at];
    char text[512];

    if (v->error) {
        view_text(c, r, 0, ST_BAD, v->error);
        return;
    }
    if (has_note(v) && *v->text)
        snprintf(text, sizeof text, "%s. Default: %s", k->help, v->note);
    else if (is_number(k))
        snprintf(text, sizeof text, "%s. Left Right step, -/+ finely, digits type", k->help);
    else
        snprintf(text, sizeof text, "%s", k->help);
    view_text(c, r, 0, ST_DIM, text);
}

static void view_figure_hint(const struct budget_state *st, struct canvas *c, enum figure f)
{
    struct rect r = st->parts.hint;
    char text[512] = "";

    if (st->low[f] && st->high[f])
        snprintf(text, sizeof text, "%s: measured starts say %s to %s", st->label[f],
                 st->low[f], st->high[f]);
    else
        snprintf(text, sizeof text, "%s. Enter shows its formula and sources",
                 figure_row(f)->path);
    view_text(c, r, 0, ST_DIM, text);
}

static void view_hint(const struct budget_state *st, struct canvas *c)
{
    int f = budget_figure_at(st);

    if (budget_on_knob(st))
        view_knob_hint(st, c);
    else if (f >= 0)
        view_figure_hint(st, c, st->shown[f]);
    else
        view_text(c, st->parts.hint, 0, ST_DIM,
                  "Enter shows what was assumed and what to look at");
}

/* --- figures -------------------------------------------------------------------------------
 */

struct look {
    enum style style;
    uint32_t glyph;
};

static const struct look looks[] = {
    [FIGURE_WEIGHTS] = {ST_SERIES_1, 0x2588},
    [FIGURE_ACTIVATIONS] = {ST_SERIES_2, 0x2593},
    [FIGURE_OUTSIDE] = {ST_SERIES_3, 0x2592},
    [FIGURE_GRAPHS] = {ST_SERIES_4, 0x2591},
    [FIGURE_WORKSPACE] = {ST_SERIES_5, 0x259a},
    [FIGURE_USED] = {ST_SERIES_6, 0x25cf},
    [FIGURE_FREE] = {ST_OK, 0x25cb},
    [FIGURE_UNUSED] = {ST_DIM, 0x00b7},
};

static void view_bar(const struct budget_state *st, struct canvas *c)
{
    struct bar_part parts[FIGURE_UNUSED + 1];
    struct rect r = st->parts.bar;
    double whole = 0;

    for (int i = 0; i <= FIGURE_UNUSED; i++) {
        parts[i] = (struct bar_part){st->figures.v[i], st->stale ? ST_DIM : looks[i].style,
                                     looks[i].glyph};
        whole += st->figures.v[i];
    }
    if (st->planned && whole > 0)
        canvas_bar(c, (struct rect){r.x, r.y, r.w, r.h > 1 ? r.h - 1 : r.h}, parts,
                   FIGURE_UNUSED + 1, whole);
}

static void view_change(const struct budget_state *st, struct canvas *c, struct rect row,
                        enum figure f)
{
    static const enum style styles[] = {ST_DIM, ST_OK, ST_BAD, ST_LABEL};
    char text[48];

    if (st->changed[f] == CHANGE_NONE)
        return;
    snprintf(text, sizeof text, "%s%s", st->change[f],
             st->changed[f] == CHANGE_WORSE ? " !" : "");
    canvas_right(c, row, row.w < CHANGE_END ? row.w : CHANGE_END, 0, styles[st->changed[f]],
                 text);
}

static void view_figure(const struct budget_state *st, struct canvas *c, struct rect row, int i)
{
    enum figure f = st->shown[i];

    if (figure_row(f)->memory)
        canvas_put(c, row, 0, 0, looks[f].style, looks[f].glyph);
    canvas_text(c, row, 2, 0, st->stale ? ST_DIM : ST_LABEL, st->label[f]);
    canvas_right(c, row, VALUE_END, 0, st->stale ? ST_DIM : ST_VALUE, st->text[f]);
    view_change(st, c, row, f);
    if (row.w >= WIDE_W && st->low[f] && st->high[f])
        canvas_textf(c, row, CHANGE_END + 2, 0, ST_DIM, "%s to %s", st->low[f], st->high[f]);
    if (budget_figure_at(st) == i) {
        canvas_put(c, row, 1, 0, ST_SELECT, '>');
        canvas_restyle(c, row, ST_SELECT);
    }
}

static void view_figures(const struct budget_state *st, struct canvas *c)
{
    struct rect r = st->parts.figures;

    for (int y = 0; y < r.h && st->figure_top + y < st->n_shown; y++)
        view_figure(st, c, (struct rect){r.x, r.y + y, r.w, 1}, st->figure_top + y);
    if (st->figure_top > 0 && r.h > 0)
        canvas_put(c, r, r.w - 1, 0, ST_DIM, 0x25b2);
    if (st->figure_top + r.h < st->n_shown && r.h > 0)
        canvas_put(c, r, r.w - 1, r.h - 1, ST_DIM, 0x25bc);
}

/* --- messages ------------------------------------------------------------------------------
 */

/* One message below the others; the first line has a mark. Returns the lines it took. */
static int view_message(struct canvas *c, struct rect r, int y, const struct diag_message *m)
{
    bool grave = m->kind != DIAG_NOTE;
    enum style s = !grave ? ST_DIM : m->kind == DIAG_WARN ? ST_WARN : ST_BAD;
    char lines[6][256];
    int n = budget_wrap(m->text, r.w - 2, 6, lines);

    canvas_text(c, r, 0, y, s, grave ? "!" : "-");
    for (int i = 0; i < n; i++)
        canvas_text(c, r, 2, y + i, s, lines[i]);
    return n;
}

/* Where there is room below the figures: what is wrong, then what was assumed. */
static void view_messages(const struct ui *ui, const struct budget_state *st, struct canvas *c)
{
    const struct diag *d = ui_plan(ui)->diag;
    struct rect r = st->parts.figures;
    int y = 0, used = st->n_shown + 1;

    r = (struct rect){r.x, r.y + used, r.w, r.h - used - 1};
    for (int notes = 0; notes < 2 && r.h >= 4; notes++)
        for (size_t i = 0; i < diag_count(d) && y < r.h; i++)
            if ((diag_at(d, i)->kind == DIAG_NOTE) == (notes == 1))
                y += view_message(c, r, y, diag_at(d, i));
}

/* --- the rest ------------------------------------------------------------------------------
 */

static void view_verdict(const struct budget_state *st, struct canvas *c)
{
    struct rect r = st->parts.verdict;
    int y = 0;

    if (st->stale && st->planned) {
        canvas_text(c, r, 0, y++, ST_WARN, "The last plan that worked:");
    }
    y += view_text(c, r, y,
                   st->stale  ? (st->planned ? ST_DIM : ST_BAD)
                   : st->fits ? ST_OK
                              : ST_BAD,
                   st->sentence);
    view_text(c, r, y, st->stale ? ST_DIM : ST_WARN, st->advice);
}

static const char *plural(int n)
{
    return n == 1 ? "" : "s";
}

static void view_notes(const struct ui *ui, const struct budget_state *st, struct canvas *c)
{
    struct rect r = st->parts.notes;
    const struct baseline *b = &ui_plan(ui)->baseline;
    char text[96];

    snprintf(text, sizeof text, "%d error%s, %d warning%s, %d note%s", st->errors,
             plural(st->errors), st->warnings, plural(st->warnings), st->notes,
             plural(st->notes));
    canvas_text(c, r, 2, 0,
                st->errors     ? ST_BAD
                : st->warnings ? ST_WARN
                               : ST_DIM,
                st->errors ? text : strchr(text, ',') + 2);
    if (b->pinned && r.w >= WIDE_W) {
        snprintf(text, sizeof text, "against %s", b->name);
        canvas_right(c, r, r.w, 0, ST_DIM, text);
    }
    if (!budget_on_knob(st) && budget_figure_at(st) < 0) {
        canvas_put(c, r, 1, 0, ST_SELECT, '>');
        canvas_restyle(c, r, ST_SELECT);
    }
}

void budget_view(const struct ui *ui, const struct budget_state *st, struct canvas *c)
{
    const struct budget_parts *p = &st->parts;
    int x = p->knobs.x + p->knobs.w, h = p->knobs.h + p->hint.h;

    canvas_fill(c, (struct rect){x, p->knobs.y, 1, h}, ST_BORDER, 0x2502);
    view_knobs(st, c);
    view_hint(st, c);
    view_verdict(st, c);
    view_bar(st, c);
    view_figures(st, c);
    view_messages(ui, st, c);
    view_notes(ui, st, c);
}
