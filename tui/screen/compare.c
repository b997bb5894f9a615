/* Compare: every scheme on this model and machine, a row each; tagged ones side by side. */
#include <stdio.h>
#include <string.h>

#include "tui/about.h"
#include "tui/apply.h"
#include "tui/compare_diff.h"
#include "tui/list.h"
#include "tui/show.h"
#include "tui/tags.h"
#include "tui/ui.h"

enum { DETAIL_LINES = 5, LIST_LEAST = 6 };

struct compare_state {
    struct arena *arena; /* of what belongs to one generation */
    uint64_t generation;
    const struct session *session;
    const struct compare *c; /* of the session, for `generation` only */
    const char **names;      /* [list.n_rows] own copies, for search */
    struct list list;
    bool started;
    struct rect panel; /* below the list */
};

/* --- columns ---------------------------------------------------------------------------- */

static const struct compare_row *row_at(const void *rows, int i)
{
    return &((const struct compare_state *)rows)->c->rows[i];
}

static void put(char buf[LIST_TEXT], const char *text)
{
    snprintf(buf, LIST_TEXT, "%s", text);
}

/* The tag's number, T needs training, ! does not fit. */
static void mark_text(const void *rows, int i, char buf[LIST_TEXT])
{
    const struct compare_state *st = rows;
    const struct compare_row *r = row_at(rows, i);
    int tag = tags_place(st->session, r->name);
    char number[4] = " ";

    if (tag)
        snprintf(number, sizeof number, "%d", tag % 10);
    snprintf(buf, LIST_TEXT, "%s%s%s", number, r->needs_training ? "T" : "",
             r->status == COMPARE_OK && !r->fits ? "!" : "");
}

static void name_text(const void *rows, int i, char buf[LIST_TEXT])
{
    put(buf, row_at(rows, i)->name);
}

static void params_cell(const void *rows, int i, char buf[LIST_TEXT])
{
    put(buf, row_at(rows, i)->params);
}

static void token_text(const void *rows, int i, char buf[LIST_TEXT])
{
    const struct compare_row *r = row_at(rows, i);

    buf[0] = '\0';
    if (r->status == COMPARE_OK)
        show_bytes(r->token_bytes, buf);
}

static void times_text(const void *rows, int i, char buf[LIST_TEXT])
{
    const struct compare_row *r = row_at(rows, i), *base = row_at(rows, 0);

    buf[0] = '\0';
    if (r->status == COMPARE_OK && base->status == COMPARE_OK)
        show_times((double)r->token_bytes, (double)base->token_bytes, buf);
}

static void prefilled_text(const void *rows, int i, char buf[LIST_TEXT])
{
    const struct compare_row *r = row_at(rows, i);

    buf[0] = '\0';
    if (r->status == COMPARE_OK)
        show_bytes(r->after_prefill_bytes, buf);
}

static void batch_text(const void *rows, int i, char buf[LIST_TEXT])
{
    const struct compare_row *r = row_at(rows, i);

    buf[0] = '\0';
    if (r->status == COMPARE_OK)
        show_most(r->max_batch, r->batch_limit, buf);
}

static void context_text(const void *rows, int i, char buf[LIST_TEXT])
{
    const struct compare_row *r = row_at(rows, i);

    buf[0] = '\0';
    if (r->status == COMPARE_OK)
        show_most(r->max_context, r->context_limit, buf);
}

static void speed_text(const void *rows, int i, char buf[LIST_TEXT])
{
    const struct compare_row *r = row_at(rows, i);

    buf[0] = '\0';
    if (r->status == COMPARE_OK && r->timed)
        show_per_s(r->tokens_per_s, buf);
}

static void prefill_text(const void *rows, int i, char buf[LIST_TEXT])
{
    const struct compare_row *r = row_at(rows, i);

    buf[0] = '\0';
    if (r->status == COMPARE_OK && r->timed)
        show_seconds(r->prompt_s, buf);
}

static void quality_text(const void *rows, int i, char buf[LIST_TEXT])
{
    const struct compare_row *r = row_at(rows, i);

    buf[0] = '\0';
    if (r->near.row)
        snprintf(buf, LIST_TEXT, "%.4g", r->near.row->value);
}

static void metric_text(const void *rows, int i, char buf[LIST_TEXT])
{
    const struct compare_row *r = row_at(rows, i);
    const struct evidence_row *e = r->near.row;

    put(buf, e ? e->metric : r->reason ? r->reason : "");
    if (e && e->has_baseline)
        snprintf(buf, LIST_TEXT, "%s, plain %.4g", e->metric, e->baseline);
}

/* Rows without figures last, in any order that is not turned round. */
static int ordered(const void *rows, int a, int b, double x, double y)
{
    const struct compare_row *r = row_at(rows, a), *q = row_at(rows, b);

    if (r->status != q->status)
        return r->status < q->status ? -1 : 1;
    return x > y ? -1 : x < y ? 1 : 0;
}

static int by_name(const void *rows, int a, int b)
{
    return strcmp(row_at(rows, a)->name, row_at(rows, b)->name);
}

static int by_token(const void *rows, int a, int b)
{
    return ordered(rows, a, b, -(double)row_at(rows, a)->token_bytes,
                   -(double)row_at(rows, b)->token_bytes);
}

static int by_prefilled(const void *rows, int a, int b)
{
    return ordered(rows, a, b, -(double)row_at(rows, a)->after_prefill_bytes,
                   -(double)row_at(rows, b)->after_prefill_bytes);
}

static int by_batch(const void *rows, int a, int b)
{
    return ordered(rows, a, b, (double)row_at(rows, a)->max_batch,
                   (double)row_at(rows, b)->max_batch);
}

static int by_context(const void *rows, int a, int b)
{
    return ordered(rows, a, b, (double)row_at(rows, a)->max_context,
                   (double)row_at(rows, b)->max_context);
}

static int by_speed(const void *rows, int a, int b)
{
    return ordered(rows, a, b, row_at(rows, a)->tokens_per_s, row_at(rows, b)->tokens_per_s);
}

static int by_prefill(const void *rows, int a, int b)
{
    return ordered(rows, a, b, -row_at(rows, a)->prompt_s, -row_at(rows, b)->prompt_s);
}

/* Figures of different metrics have no order: those of one metric stand together, the nearest
 * published setting first. */
static int by_quality(const void *rows, int a, int b)
{
    const struct compare_row *r = row_at(rows, a), *q = row_at(rows, b);
    const struct evidence_row *e = r->near.row, *f = q->near.row;
    int order;

    if (!e || !f)
        return (f != NULL) - (e != NULL);
    order = strcmp(e->metric, f->metric);
    if (!order)
        order = strcmp(e->model, f->model);
    if (order || e->value == f->value)
        return order;
    return (e->value > f->value) == e->higher_is_better ? -1 : 1;
}

static const struct list_column columns[] = {
    {"", 3, false, 0, mark_text, NULL},
    {"scheme", 19, false, 0, name_text, by_name},
    {"parameters", 26, false, 150, params_cell, NULL},
    {"per token", 10, true, 0, token_text, by_token},
    {"", 5, true, 100, times_text, NULL},
    {"prefilled", 10, true, 118, prefilled_text, by_prefilled},
    {"batch", 9, true, 0, batch_text, by_batch},
    {"context", 11, true, 0, context_text, by_context},
    {"tokens/s", 8, true, 0, speed_text, by_speed},
    {"prefill", 7, true, 0, prefill_text, by_prefill},
    {"quality", 7, true, 100, quality_text, by_quality},
    {"of what", 0, false, 100, metric_text, NULL},
};

static enum style row_style(const void *rows, int i)
{
    const struct compare_state *st = rows;
    const struct compare_row *r = row_at(rows, i);

    if (r->status != COMPARE_OK)
        return ST_DIM;
    if (tags_place(st->session, r->name))
        return ST_TAG;
    return i < st->list.fixed ? ST_VALUE : ST_PLAIN;
}

/* --- state ------------------------------------------------------------------------------ */

static int fixed_rows(const struct compare *c)
{
    int n = 0;

    while ((size_t)n < c->n && !c->rows[n].use.scheme)
        n++;
    return n;
}

/* Takes the session's comparison over when it is another than before; the cursor stays on its
 * scheme. */
static void refresh(struct ui *ui, struct compare_state *st)
{
    struct session *s = ui_session(ui);
    int row = list_row(&st->list);
    const char *name = row >= 0 && st->names ? st->names[row] : NULL;
    struct arena *old = st->arena;

    if (st->started && st->generation == s->generation)
        return;
    st->arena = arena_new();
    st->session = s;
    st->generation = s->generation;
    st->c = session_compare(s);
    st->list.columns = columns;
    st->list.n_columns = sizeof columns / sizeof *columns;
    list_set(&st->list, st->arena, st, st->c ? (int)st->c->n : 0,
             st->c ? fixed_rows(st->c) : 0);
    st->list.style = row_style;
    st->list.none = "nothing is planned";
    if (!st->started)
        st->list.sort = -1;
    st->started = true;
    st->names = ARENA_NEW(st->arena, const char *, (size_t)st->list.n_rows + 1);
    row = -1;
    for (int i = 0; i < st->list.n_rows; i++) {
        st->names[i] = arena_strdup(st->arena, st->c->rows[i].name);
        row = name && !strcmp(name, st->names[i]) ? i : row;
    }
    list_update(&st->list);
    if (row >= 0)
        list_select(&st->list, row);
    arena_free(old);
}

static void prepare(struct ui *ui, void *state, struct rect area)
{
    struct compare_state *st = state;
    bool diff;
    int lines;

    refresh(ui, st);
    diff = tags_count(st->session) >= 2;
    lines = 1 + (diff ? DIFF_LINES : DETAIL_LINES);
    if (lines > area.h - LIST_LEAST)
        lines = area.h > LIST_LEAST ? area.h - LIST_LEAST : 0;
    st->panel = (struct rect){area.x, area.y + area.h - lines, area.w, lines};
    list_place(&st->list, (struct rect){area.x, area.y, area.w, area.h - lines});
}

static const struct compare_row *find(const struct compare *c, const char *name)
{
    for (size_t i = 0; c && i < c->n; i++)
        if (!strcmp(c->rows[i].name, name))
            return &c->rows[i];
    return NULL;
}

/* --- drawing ---------------------------------------------------------------------------- */

static void view_figures(const struct compare_row *r, struct canvas *c, struct rect line)
{
    char prefilled[SHOW_TEXT], peak[SHOW_TEXT], step[SHOW_TEXT];

    if (r->status != COMPARE_OK) {
        canvas_more(c, line, canvas_text(c, line, 0, 0, ST_WARN, r->reason), 0, ST_WARN);
        return;
    }
    canvas_textf(c, line, 0, 0, ST_PLAIN, "prefilled %s, at its peak %s; limited by %s%s%s",
                 show_bytes(r->after_prefill_bytes, prefilled),
                 show_bytes(r->prefill_peak_bytes, peak), limit_name(r->batch_limit),
                 r->timed ? "; step " : "", r->timed ? show_seconds(r->decode_s, step) : "");
}

static void view_evidence(const struct compare_row *r, struct canvas *c, struct rect line)
{
    const struct evidence_row *e = r->near.row;
    char plain[SHOW_TEXT] = "";

    if (!e) {
        if (r->use.scheme)
            canvas_text(c, line, 0, 0, ST_DIM, "no published quality is known for it");
        return;
    }
    if (e->has_baseline)
        snprintf(plain, sizeof plain, ", plain %.6g", e->baseline);
    canvas_textf(c, line, 0, 0, ST_PLAIN, "quality: %s %.6g%s%s, %s", e->metric, e->value,
                 plain, r->near.contested ? ", contested" : "", e->confidence);
    line.y++;
    canvas_more(c, line,
                canvas_textf(c, line, 0, 0, ST_DIM, "at %s; %s", r->near.how_far, e->source), 0,
                ST_DIM);
}

static void view_detail(const struct compare_row *r, struct canvas *c, struct rect in)
{
    struct rect line = {in.x, in.y, in.w, 1};
    int x;

    x = canvas_text(c, line, 0, 0, ST_TITLE, r->name);
    x += canvas_textf(c, line, x, 0, ST_VALUE, "%s%s", *r->params ? "  " : "", r->params);
    x += canvas_textf(c, line, x, 0, ST_DIM, "  %s",
                      r->use.scheme ? r->use.scheme->summary : "the model's own cache");
    canvas_more(c, line, x, 0, ST_DIM);
    line.y++;
    view_figures(r, c, line);
    line.y++;
    view_evidence(r, c, line);
    line.y += 2;
    if (r->needs_training)
        canvas_text(c, line, 0, 0, ST_WARN,
                    "T: it changes a shipped checkpoint, which needs training with it");
    else if (r->warnings && r->warnings[0])
        canvas_more(c, line, canvas_text(c, line, 0, 0, ST_WARN, r->warnings[0]), 0, ST_WARN);
}

static void view_panel(const struct compare_state *st, struct canvas *c)
{
    const struct compare_row *tagged[SESSION_TAGS];
    struct rect in = {st->panel.x, st->panel.y + 1, st->panel.w, st->panel.h - 1};
    int row = list_row(&st->list);
    size_t n = 0;

    if (st->panel.h < 2)
        return;
    for (int x = 0; x < st->panel.w; x++)
        canvas_put(c, st->panel, x, 0, ST_BORDER, 0x2500);
    for (size_t i = 0; i < tags_count(st->session); i++)
        if ((tagged[n] = find(st->c, st->session->tags[i])) != NULL)
            n++;
    if (n >= 2)
        diff_view(c, in, tagged, n);
    else if (row >= 0)
        view_detail(row_at(st, row), c, in);
}

static void view(const struct ui *ui, const void *state, struct canvas *c, struct rect area)
{
    const struct compare_state *st = state;
    char place[SHOW_TEXT];

    (void)ui;
    list_view(&st->list, c);
    view_panel(st, c);
    if (st->panel.h > 1 && st->list.n_shown) {
        snprintf(place, sizeof place, " %d of %d ", st->list.at + 1, st->list.n_shown);
        canvas_right(c, st->panel, area.w - 2, 0, ST_BORDER, place);
    }
}

/* --- actions ---------------------------------------------------------------------------- */

/* The chosen scheme becomes that of the spec; the other axes stay. */
static void take(struct ui *ui, struct compare_state *st)
{
    struct session *s = ui_session(ui);
    struct arena *a = arena_new();
    struct session_edit edits[APPLY_EDITS];
    int row = list_row(&st->list);
    const struct compare_row *r = row < 0 ? NULL : row_at(st, row);
    const char *why = "", *name = r ? r->name : "";
    size_t n;

    if (!r || (row > 0 && !r->use.scheme)) {
        ui_say(ui, ST_DIM, "this is the spec as it is");
    } else if (r->status == COMPARE_UNSUPPORTED) {
        ui_say(ui, ST_WARN, "%s: %s", name, r->reason);
    } else {
        n = apply_edits(a, &r->use, edits);
        if (!session_apply(s, edits, n, &why))
            ui_say(ui, ST_BAD, "%s: %s", name, why);
        else if (!s->ok)
            ui_say(ui, ST_BAD,
                   "%s is in the spec, but it cannot be planned: 1 shows why, u takes it back",
                   name);
        else
            ui_say(ui, ST_OK, "the spec has %s now; u takes it back", name);
    }
    arena_free(a);
}

static void tag(struct ui *ui, struct compare_state *st)
{
    struct session *s = ui_session(ui);
    int row = list_row(&st->list);

    if (row < 0)
        return;
    if (!tags_toggle(s, row_at(st, row)->name)) {
        ui_say(ui, ST_WARN,
               "%d are tagged, which is all that can be shown: take one away first",
               SESSION_TAGS);
        return;
    }
    if (tags_count(s) == 1)
        ui_say(ui, ST_DIM,
               "tag another to see them side by side; Curves draws the tagged ones");
}

static const char *about(const struct ui *ui, const void *state, struct arena *a,
                         const char **title)
{
    const struct compare_state *st = state;
    int i = list_row(&st->list);

    (void)ui;
    if (i < 0 || !row_at(st, i)->use.scheme)
        return NULL;
    *title = row_at(st, i)->name;
    return about_scheme(a, row_at(st, i));
}

static bool act(struct ui *ui, void *state, enum action a, const struct event *e)
{
    struct compare_state *st = state;
    enum list_used used;

    refresh(ui, st);
    used = list_act(&st->list, a, e);
    if (used == LIST_OPENED || a == ACT_OPEN)
        take(ui, st);
    else if (a == ACT_TAG)
        tag(ui, st);
    else
        return used != LIST_UNUSED;
    return true;
}

/* --- rows for search and filter --------------------------------------------------------- */

static int rows(const struct ui *ui, const void *state)
{
    (void)ui;
    return ((const struct compare_state *)state)->list.n_shown;
}

static const char *row_text(const struct ui *ui, const void *state, int place)
{
    const struct compare_state *st = state;

    (void)ui;
    return place >= 0 && place < st->list.n_shown ? st->names[st->list.shown[place]] : "";
}

static void select_row(struct ui *ui, void *state, int place)
{
    struct compare_state *st = state;

    refresh(ui, st);
    if (place >= 0 && place < st->list.n_shown)
        list_select(&st->list, st->list.shown[place]);
}

static int selected(const struct ui *ui, const void *state)
{
    (void)ui;
    return ((const struct compare_state *)state)->list.at;
}

static void filter(struct ui *ui, void *state, const char *text)
{
    struct compare_state *st = state;

    refresh(ui, st);
    snprintf(st->list.filter, sizeof st->list.filter, "%s", text);
    list_update(&st->list);
}

static void free_state(void *state)
{
    arena_free(((struct compare_state *)state)->arena);
}

const struct screen screen_compare = {
    .id = "compare",
    .title = "Compare",
    .summary = "every scheme on this model and machine; tagged ones side by side",
    .order = 2,
    .state_size = sizeof(struct compare_state),
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
