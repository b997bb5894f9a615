/* Budget: every knob of the spec, and what becomes of a GPU's memory. The cursor goes through
 * the knobs and then through the figures; a knob is turned, typed into or picked from a list, a
 * figure tells why. */
#include <string.h>

#include "tui/screen/budget/budget.h"
#include "tui/session_in.h"
#include "tui/why.h"

enum { WHEEL_ROWS = 3, WARM_MODELS = 24 };
static const double WARM_PAUSE_S = 0.01;
static const char type_it[] = "(type another)";

/* --- messages ------------------------------------------------------------------------------
 */

/* After a change: what the planner has against it. */
static void say_outcome(struct ui *ui, bool set, const char *why)
{
    const struct session *s = ui_session(ui);

    if (!set)
        ui_say(ui, ST_WARN, "%s", why);
    else if (!s->ok)
        ui_say(ui, ST_BAD, "%s", session_first_error(s->diag));
}

static void put(struct ui *ui, const char *path, const char *text)
{
    const char *why = "";
    bool set = knob_set(ui_session(ui), path, text, &why);

    say_outcome(ui, set, why);
}

/* --- editing -------------------------------------------------------------------------------
 */

static void begin(struct ui *ui, struct budget_state *st, const char *text)
{
    st->editing = true;
    line_set(&st->line, text);
    ui_say(ui, ST_DIM, "Enter takes the new value, Esc leaves the old one");
}

static bool edit_key(struct ui *ui, struct budget_state *st, uint32_t key)
{
    if (key == 27) {
        st->editing = false;
    } else if (key == 13 || key == 10 || key == KEY_UP_ARROW || key == KEY_DOWN_ARROW) {
        st->editing = false;
        put(ui, st->knob, st->line.text);
    } else if (key == 9 || key == KEY_BACK_TAB) { /* takes it on the way to another screen */
        st->editing = false;
        put(ui, st->knob, st->line.text);
        return false;
    } else if (key == 3 || key == 12 || key == 26) { /* not a field's: quit, redraw, suspend */
        st->editing = false;
        return false;
    } else {
        line_key(&st->line, key);
    }
    return true;
}

/* A digit on a knob that is typed starts a new value. */
static bool starts_typing(const struct budget_state *st, uint32_t key)
{
    if (!budget_on_knob(st) || st->knobs.v[st->at].kind == KNOB_CHOICE)
        return false;
    return (key >= '0' && key <= '9') || (key == '.' && st->knobs.v[st->at].kind == KNOB_SHARE);
}

static void picked(struct ui *ui, void *to, const char *text)
{
    struct budget_state *st = to;

    if (!strcmp(text, type_it)) {
        const char *now = session_get(ui_session(ui), st->knob);
        begin(ui, st, now ? now : "");
    } else {
        put(ui, st->knob, text);
    }
}

/* The list with a way out of it. */
static void pick(struct ui *ui, struct budget_state *st, const struct knob *k,
                 const struct knob_items *list)
{
    const char **items, **notes;
    const char *now = session_get(ui_session(ui), k->path);

    items = ARENA_NEW(st->pick, const char *, list->n + 1);
    notes = ARENA_NEW(st->pick, const char *, list->n + 1);
    memcpy(items, list->items, list->n * sizeof *items);
    memcpy(notes, list->notes, list->n * sizeof *notes);
    items[list->n] = type_it;
    notes[list->n] = "";
    ui_pick(ui, arena_printf(st->pick, "%s", k->label + strspn(k->label, " ")), items, notes,
            list->n + 1, now ? now : list->items[0], picked, st);
}

static void open_knob(struct ui *ui, struct budget_state *st)
{
    const struct knob *k = &st->knobs.v[st->at];
    const char *now;
    struct knob_items list;

    arena_free(st->pick);
    st->pick = arena_new();
    knob_items(ui_session(ui), st->pick, k, &list);
    now = st->values[st->at].text;
    snprintf(st->knob, sizeof st->knob, "%s", k->path);
    if (list.n)
        pick(ui, st, k, &list);
    else
        begin(ui, st, now);
}

/* On a knob: what it is all about. */
static const char *why(const struct ui *ui, const void *state)
{
    const struct budget_state *st = state;
    int f = budget_figure_at(st);

    (void)ui;
    return f >= 0 ? figure_row(st->shown[f])->path : "capacity.max_batch";
}

/* --- actions -------------------------------------------------------------------------------
 */

static void open_notes(struct ui *ui)
{
    struct arena *a = arena_new();

    ui_page(ui, "warnings and assumptions", budget_notes(ui_session(ui), a));
    arena_free(a);
}

static void open(struct ui *ui, struct budget_state *st)
{
    int f = budget_figure_at(st);

    if (budget_on_knob(st))
        open_knob(ui, st);
    else if (f >= 0)
        why_open(ui, figure_row(st->shown[f])->path);
    else
        open_notes(ui);
}

static void turn(struct ui *ui, struct budget_state *st, int by, uint32_t key)
{
    bool fine = key == '-' || key == '+' || key == '=';
    const char *why = "";
    bool set;

    if (!budget_on_knob(st)) {
        if (by < 0 && !fine)
            st->at = 0;
        return;
    }
    set = knob_step(ui_session(ui), &st->knobs.v[st->at], by, fine, &why);
    say_outcome(ui, set, why);
}

static void clear(struct ui *ui, const struct budget_state *st)
{
    if (st->values[st->at].given)
        put(ui, st->knobs.v[st->at].path, "");
    else
        ui_say(ui, ST_DIM, "this is the default already");
}

static void fit(struct ui *ui)
{
    struct session *s = ui_session(ui);
    struct arena *a = arena_new();
    const char *why = "";
    struct fit f;

    if (!s->ok) {
        ui_say(ui, ST_WARN, "the spec cannot be planned: mend it first");
    } else {
        fit_least(&s->problem, &f);
        if (!f.found)
            ui_say(ui, ST_BAD, "no number of GPUs holds %s",
                   s->problem.workload.batch ? "this batch" : "one sequence");
        else if (!fit_apply(s, &f, &why))
            ui_say(ui, ST_WARN, "%s", why);
        else
            ui_say(ui, ST_OK, "%s: the fewest that hold it", fit_words(a, &f));
    }
    arena_free(a);
}

static void move(struct budget_state *st, int by)
{
    int last = budget_rows(st) - 1;

    st->at += by;
    st->at = st->at < 0 ? 0 : st->at > last ? last : st->at;
}

/* From the knobs to the figures and back. */
static void other_side(struct budget_state *st)
{
    int figures = (int)st->knobs.n;

    st->at = budget_on_knob(st) ? figures : 0;
    for (int i = 0; i < figures && !st->at; i++)
        if (!strcmp(st->knobs.v[i].path, st->knob))
            st->at = i;
}

static bool inside(struct rect r, const struct event *e)
{
    return e->x >= r.x && e->x < r.x + r.w && e->y >= r.y && e->y < r.y + r.h;
}

/* The row under the pointer; -1: none. */
static int row_at(const struct budget_state *st, const struct event *e)
{
    const struct budget_parts *p = &st->parts;
    int i;

    if (inside(p->knobs, e)) {
        i = st->top + e->y - p->knobs.y;
        return i < st->n_lines ? st->lines[i].knob : -1;
    }
    if (inside(p->figures, e)) {
        i = st->figure_top + e->y - p->figures.y;
        return i < st->n_shown ? (int)st->knobs.n + i : -1;
    }
    return inside(p->notes, e) ? budget_rows(st) - 1 : -1;
}

static bool mouse(struct ui *ui, struct budget_state *st, const struct event *e)
{
    bool left = inside(st->parts.knobs, e) || inside(st->parts.hint, e);
    int row;

    if (e->button == MOUSE_WHEEL_UP || e->button == MOUSE_WHEEL_DOWN) {
        if (left != budget_on_knob(st))
            other_side(st);
        move(st, e->button == MOUSE_WHEEL_UP ? -WHEEL_ROWS : WHEEL_ROWS);
        if (left != budget_on_knob(st))
            st->at = left ? (int)st->knobs.n - 1 : (int)st->knobs.n;
        return true;
    }
    row = row_at(st, e);
    if (row < 0)
        return true;
    st->at = row;
    if (budget_on_knob(st))
        snprintf(st->knob, sizeof st->knob, "%s", st->knobs.v[row].path);
    if (e->button == MOUSE_DOUBLE)
        open(ui, st);
    return true;
}

static bool movement(struct budget_state *st, enum action a)
{
    int page = st->parts.knobs.h > 2 ? st->parts.knobs.h - 1 : 1;

    if (a == ACT_UP || a == ACT_DOWN)
        move(st, a == ACT_UP ? -1 : 1);
    else if (a == ACT_PAGE_UP || a == ACT_PAGE_DOWN)
        move(st, a == ACT_PAGE_UP ? -page : page);
    else if (a == ACT_FIRST || a == ACT_LAST)
        move(st, a == ACT_FIRST ? -budget_rows(st) : budget_rows(st));
    else if (a == ACT_MODE)
        other_side(st);
    else
        return false;
    return true;
}

static bool act(struct ui *ui, void *state, enum action a, const struct event *e)
{
    struct budget_state *st = state;

    if (!st->arena) /* not drawn yet */
        return false;
    if (e->kind == EVENT_MOUSE && st->editing) {
        st->editing = false;
        put(ui, st->knob, st->line.text);
    }
    if (e->kind == EVENT_MOUSE)
        return mouse(ui, st, e);
    if (e->kind == EVENT_KEY && st->editing)
        return edit_key(ui, st, e->key);
    if (e->kind == EVENT_KEY && starts_typing(st, e->key)) {
        char digit[2] = {(char)e->key, '\0'};
        begin(ui, st, digit);
        return true;
    }
    if (movement(st, a))
        return true;
    if (a == ACT_LESS || a == ACT_MORE)
        turn(ui, st, a == ACT_LESS ? -1 : 1, e->key);
    else if (a == ACT_OPEN)
        open(ui, st);
    else if (a == ACT_CLEAR && budget_on_knob(st))
        clear(ui, st);
    else if (a == ACT_FIT)
        fit(ui);
    else
        return false;
    return true;
}

/* --- the screen ----------------------------------------------------------------------------
 */

static void prepare(struct ui *ui, void *state, struct rect area)
{
    struct budget_state *st = state;
    struct arena *old = st->arena;

    if (budget_on_knob(st) && st->knobs.n)
        snprintf(st->knob, sizeof st->knob, "%s", st->knobs.v[st->at].path);
    st->arena = arena_new();
    budget_fill(ui_session(ui), st, area);
    arena_free(old);
}

static void view(const struct ui *ui, const void *state, struct canvas *c, struct rect area)
{
    (void)area;
    budget_view(ui, state, c);
}

static int rows(const struct ui *ui, const void *state)
{
    (void)ui;
    return budget_rows(state);
}

static const char *row_text(const struct ui *ui, const void *state, int row)
{
    const struct budget_state *st = state;
    int figure = row - (int)st->knobs.n;

    (void)ui;
    if (row < (int)st->knobs.n)
        return arena_printf(st->arena, "%s %s", st->knobs.v[row].label, st->values[row].text);
    return figure < st->n_shown ? figure_row(st->shown[figure])->label : "warnings notes";
}

static void choose(struct ui *ui, void *state, int row)
{
    struct budget_state *st = state;

    (void)ui;
    st->at = row;
    if (row < (int)st->knobs.n)
        snprintf(st->knob, sizeof st->knob, "%s", st->knobs.v[row].path);
}

static int selected(const struct ui *ui, const void *state)
{
    (void)ui;
    return ((const struct budget_state *)state)->at;
}

/* While nothing else happens the list of models is made ready. */
static double tick(struct ui *ui, void *state, double now_s)
{
    (void)state;
    (void)now_s;
    return knob_warm(ui_session(ui), WARM_MODELS) ? WARM_PAUSE_S : 0;
}

static void drop(void *state)
{
    struct budget_state *st = state;

    arena_free(st->arena);
    arena_free(st->pick);
    st->arena = st->pick = NULL;
}

const struct screen screen_budget = {
    .id = "budget",
    .title = "Budget",
    .summary = "the knobs of the spec, and what becomes of a GPU's memory",
    .order = 1,
    .state_size = sizeof(struct budget_state),
    .prepare = prepare,
    .view = view,
    .act = act,
    .tick = tick,
    .why = why,
    .rows = rows,
    .row_text = row_text,
    .select = choose,
    .selected = selected,
    .free = drop,
};
