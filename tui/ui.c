/* The state of the program and how events change it. Drawing is ui_bars.c, what lies over a
 * screen is ui_dialog.c and ui_prompt.c, what touches files is ui_file.c. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "planner/base/utf8.h"
#include "tui/ui_parts.h"
#include "tui/why.h"

enum { WHEEL_ROWS = 3 };
static const double DOUBLE_CLICK_S = 0.4;

struct session *ui_session(struct ui *ui)
{
    return ui->session;
}

const struct session *ui_plan(const struct ui *ui)
{
    return ui->session;
}

double ui_now(const struct ui *ui)
{
    return ui->now_s;
}

bool ui_ascii(const struct ui *ui)
{
    return ui->ascii;
}

const struct theme *ui_theme(const struct ui *ui)
{
    return ui->theme;
}

const char *ui_clipboard(const struct ui *ui)
{
    return ui->clipboard;
}

const char *ui_option(const struct ui *ui, const char *name)
{
    if (!strcmp(name, "trace"))
        return ui->options.trace;
    if (!strcmp(name, "trace-format"))
        return ui->options.trace_format;
    if (!strcmp(name, "validation"))
        return ui->options.validation;
    return NULL;
}

void ui_say(struct ui *ui, enum style s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(ui->said, sizeof ui->said, fmt, ap);
    va_end(ap);
    utf8_clean(ui->said, strlen(ui->said));
    ui->said_style = s;
}

void ui_set_ascii(struct ui *ui)
{
    ui->ascii = ui->ascii_chosen = true;
}

bool ui_ascii_chosen(const struct ui *ui)
{
    return ui->ascii_chosen;
}

const char *ui_theme_chosen(const struct ui *ui)
{
    if (ui->options.mono && ui->theme == theme_find("mono"))
        return ui->options.theme ? ui->options.theme : theme_at(0)->name;
    return ui->theme->name;
}

void ui_set_machine(struct ui *ui, const char *line)
{
    snprintf(ui->machine, sizeof ui->machine, "%s", line);
}

/* --- screens ---------------------------------------------------------------------------------
 */

struct ui_screen *ui_active(struct ui *ui)
{
    return ui->n_screens ? &ui->screens[ui->at] : NULL;
}

const char *ui_screen(const struct ui *ui)
{
    return ui->n_screens ? ui->screens[ui->at].type->id : "";
}

bool ui_wants_machine(const struct ui *ui)
{
    return !strcmp(ui_screen(ui), "budget") && !ui->prompt.kind && !ui_too_small(ui);
}

bool ui_present(const struct ui *ui, size_t i)
{
    const struct screen *s = ui->screens[i].type;

    return !s->present || s->present(ui);
}

static void show(struct ui *ui, size_t i)
{
    ui->at = i;
    ui->screens[i].next_tick_s = ui->screens[i].type->tick ? ui->now_s : -1;
}

void ui_goto(struct ui *ui, const char *screen)
{
    for (size_t i = 0; i < ui->n_screens; i++)
        if (!strcmp(ui->screens[i].type->id, screen) && ui_present(ui, i))
            show(ui, i);
}

static void go_by(struct ui *ui, size_t by)
{
    for (size_t k = 1; k <= ui->n_screens; k++) {
        size_t i = (ui->at + k * by) % ui->n_screens;
        if (ui_present(ui, i)) {
            show(ui, i);
            return;
        }
    }
}

static void go_to_number(struct ui *ui, int number)
{
    for (size_t i = 0; i < ui->n_screens; i++)
        if (ui->screens[i].type->order == number && ui_present(ui, i)) {
            show(ui, i);
            return;
        }
    ui_say(ui, ST_DIM, "there is no screen %d", number);
}

static void add_screen(struct ui *ui, const struct screen *s)
{
    size_t i = ui->n_screens++;

    for (; i > 0 && ui->screens[i - 1].type->order > s->order; i--)
        ui->screens[i] = ui->screens[i - 1];
    ui->screens[i] = (struct ui_screen){
        .type = s,
        .state = arena_alloc(ui->arena, 1, s->state_size ? s->state_size : 1),
        .generation = UINT64_MAX,
        .next_tick_s = -1};
}

struct ui *ui_new(struct arena *a, struct session *s, const struct ui_options *opt)
{
    struct ui *ui = ARENA_NEW(a, struct ui, 1);
    const struct theme *asked = opt->theme ? theme_find(opt->theme) : NULL;

    ui->arena = a;
    ui->scratch = arena_new();
    ui->session = s;
    ui->options = *opt;
    ui->theme = opt->mono ? theme_find("mono") : asked ? asked : theme_at(0);
    ui->ascii = opt->ascii;
    ui->w = UI_W_MIN;
    ui->h = UI_H_MIN;
    ui->touched = true;
    ui->click_x = ui->click_y = -1;
    for (size_t i = 0; screen_at(i) && i < UI_SCREENS_MAX; i++)
        add_screen(ui, screen_at(i));
    if (ui->n_screens) {
        show(ui, 0);
        ui_goto(ui, opt->screen ? opt->screen : "budget");
    }
    return ui;
}

void ui_free(struct ui *ui)
{
    for (size_t i = 0; i < ui->n_screens; i++)
        if (ui->screens[i].type->free)
            ui->screens[i].type->free(ui->screens[i].state);
    arena_free(ui->scratch);
    arena_free(ui->clip_arena);
}

/* --- actions that are the same everywhere ----------------------------------------------------
 */

static void undo(struct ui *ui, bool back)
{
    if (back ? session_undo(ui->session) : session_redo(ui->session))
        ui_say(ui, ST_PLAIN, back ? "taken back" : "made again");
    else
        ui_say(ui, ST_DIM, back ? "nothing to take back" : "nothing to make again");
}

static void pin(struct ui *ui)
{
    session_pin(ui->session);
    if (ui->session->baseline.pinned)
        ui_say(ui, ST_PLAIN, "the baseline is now %s", ui->session->baseline.name);
    else
        ui_say(ui, ST_PLAIN, "no baseline");
}

static void back(struct ui *ui)
{
    struct ui_screen *s = ui_active(ui);

    if (!s || !s->filter[0] || !s->type->filter)
        return;
    s->filter[0] = '\0';
    s->type->filter(ui, s->state, "");
}

static void go_on_searching(struct ui *ui)
{
    const struct ui_screen *s = ui_active(ui);

    if (!s || !ui->search[0])
        ui_say(ui, ST_DIM, "nothing was searched for");
    else
        search_next(ui, (s->type->selected ? s->type->selected(ui, s->state) : -1) + 1);
}

static void why(struct ui *ui)
{
    const struct ui_screen *s = ui_active(ui);
    struct arena *a = arena_new();
    const char *title = "", *text = NULL, *path = NULL;

    if (s && s->type->about)
        text = s->type->about(ui, s->state, a, &title);
    else if (s && s->type->why)
        path = s->type->why(ui, s->state);
    if (text)
        ui_page(ui, title, text);
    else if (path)
        why_open(ui, path);
    else
        ui_say(ui, ST_DIM, "choose a row with a scheme or a figure to see why it is so");
    arena_free(a);
}

/* A key that had nothing to do says so: it may be another screen's. */
static void say_unused(struct ui *ui, const struct event *e)
{
    char name[16];

    if (e && e->kind == EVENT_KEY && e->key && keys_name(e->key, name, sizeof name))
        ui_say(ui, ST_DIM, "%s has nothing to do here; ? shows the keys", name);
}

void ui_action(struct ui *ui, enum action a, const struct event *e)
{
    struct ui_screen *s = ui_active(ui);

    if (s && s->type->act && s->type->act(ui, s->state, a, e)) {
        if (s->type->tick)
            s->next_tick_s = ui->now_s; /* what it wants may have changed */
        return;
    }
    if (a >= ACT_SCREEN_1 && a <= ACT_SCREEN_9)
        go_to_number(ui, (int)a - ACT_SCREEN_1 + 1);
    else if (a == ACT_NEXT_SCREEN || a == ACT_PREVIOUS_SCREEN)
        go_by(ui, a == ACT_NEXT_SCREEN ? 1 : ui->n_screens - 1);
    else if (a == ACT_HELP)
        ui_help(ui);
    else if (a == ACT_SETTINGS)
        ui_settings(ui);
    else if (a == ACT_QUIT)
        ui_quit(ui, true);
    else if (a == ACT_BACK)
        back(ui);
    else if (a == ACT_COMMAND)
        prompt_open(ui, PROMPT_COMMAND);
    else if (a == ACT_SEARCH)
        prompt_open(ui, PROMPT_SEARCH);
    else if (a == ACT_FILTER)
        prompt_open(ui, PROMPT_FILTER);
    else if (a == ACT_SEARCH_NEXT)
        go_on_searching(ui);
    else if (a == ACT_UNDO || a == ACT_REDO)
        undo(ui, a == ACT_UNDO);
    else if (a == ACT_PIN)
        pin(ui);
    else if (a == ACT_WHY)
        why(ui);
    else if (a == ACT_SAVE)
        ui_save(ui, NULL);
    else if (a == ACT_LOAD)
        ui_load(ui, NULL);
    else if (a == ACT_REPORT)
        ui_report(ui, NULL);
    else if (a == ACT_COPY)
        ui_copy(ui);
    else if (a == ACT_REDRAW)
        ui->wish = WISH_REDRAW;
    else if (a == ACT_SUSPEND)
        ui->wish = WISH_SUSPEND;
    else
        say_unused(ui, e);
}

/* --- events ----------------------------------------------------------------------------------
 */

static const struct button *button_at(const struct button *b, size_t n, int x)
{
    for (size_t i = 0; i < n; i++)
        if (x >= b[i].x && x < b[i].x + b[i].w)
            return &b[i];
    return NULL;
}

static void wheel(struct ui *ui, const struct event *e)
{
    struct ui_screen *s = ui_active(ui);
    struct event key = {.kind = EVENT_KEY, .now_s = e->now_s};
    bool up = e->button == MOUSE_WHEEL_UP;

    if (s && s->type->act && s->type->act(ui, s->state, ACT_NONE, e))
        return;
    key.key = up ? KEY_UP_ARROW : KEY_DOWN_ARROW;
    for (int i = 0; i < WHEEL_ROWS; i++)
        ui_action(ui, up ? ACT_UP : ACT_DOWN, &key);
}

static void mouse(struct ui *ui, const struct event *e)
{
    struct button b[UI_BUTTONS_MAX];
    const struct button *hit = NULL;
    struct event key = {.kind = EVENT_KEY, .now_s = e->now_s};
    bool press = e->button == MOUSE_PRESS || e->button == MOUSE_DOUBLE;

    if (!press) {
        wheel(ui, e);
        return;
    }
    if (e->y == 0)
        hit = button_at(b, ui_tabs(ui, b), e->x);
    else if (e->y == ui->h - 1)
        hit = button_at(b, ui_footer(ui, b), e->x);
    if (hit) {
        key.key = keys_parse(hit->key, strcspn(hit->key, " "));
        ui_action(ui, hit->action, &key);
    } else if (e->y > 0 && e->y < ui->h - 2) {
        ui_action(ui, ACT_NONE, e);
    }
}

/* A second press on the same cell soon after is a double click. */
static struct event clicked(struct ui *ui, struct event e)
{
    bool again = e.button == MOUSE_PRESS && e.x == ui->click_x && e.y == ui->click_y &&
                 e.now_s - ui->click_s <= DOUBLE_CLICK_S;

    if (e.button != MOUSE_PRESS)
        return e;
    ui->click_x = again ? -1 : e.x;
    ui->click_y = again ? -1 : e.y;
    ui->click_s = e.now_s;
    if (again)
        e.button = MOUSE_DOUBLE;
    return e;
}

static void tick(struct ui *ui)
{
    struct ui_screen *s = ui_active(ui);
    double wait_s;

    if (!s || !s->type->tick || s->next_tick_s < 0 || ui->now_s < s->next_tick_s)
        return;
    wait_s = s->type->tick(ui, s->state, ui->now_s);
    s->next_tick_s = wait_s > 0 ? ui->now_s + wait_s : -1;
    ui->touched = true;
}

static void input(struct ui *ui, const struct event *e)
{
    bool key = e->kind == EVENT_KEY;
    enum action a = key ? keys_action(e->key, ui_screen(ui)) : ACT_NONE;

    ui->said[0] = '\0';
    if (ui_too_small(ui)) { /* what cannot be seen is not changed */
        if (a == ACT_QUIT)
            ui_quit(ui, false);
        else if (a == ACT_SUSPEND)
            ui->wish = WISH_SUSPEND;
    } else if (key && e->key == 3 && (ui->prompt.kind || ui->n_dialogs)) {
        ui_quit(ui, true);
    } else if (ui->prompt.kind) {
        prompt_event(ui, e);
    } else if (ui->n_dialogs) {
        dialog_event(ui, e);
    } else if (key) {
        ui_action(ui, a, e);
    } else {
        mouse(ui, e);
    }
}

/* Long work of the screen shown begins anew after an edit, wherever that was made. */
static void wake(struct ui *ui)
{
    struct ui_screen *s = ui_active(ui);

    if (s && s->type->tick && s->generation != ui->session->generation)
        s->next_tick_s = ui->now_s;
}

enum wish ui_event(struct ui *ui, const struct event *e)
{
    struct event v = *e;

    ui->wish = WISH_NONE;
    ui->now_s = e->now_s > ui->now_s ? e->now_s : ui->now_s;
    if (v.kind == EVENT_KEY && v.key == 127)
        v.key = 8;
    if (v.kind == EVENT_MOUSE)
        v = clicked(ui, v);
    if (v.kind == EVENT_TICK) {
        tick(ui);
    } else if (v.kind == EVENT_END) {
        ui->wish = WISH_QUIT;
    } else if (v.kind == EVENT_RESIZE) {
        ui->w = v.x < 1 ? 1 : v.x > 1000 ? 1000 : v.x;
        ui->h = v.y < 1 ? 1 : v.y > 1000 ? 1000 : v.y;
        ui->touched = true;
    } else {
        input(ui, &v);
        wake(ui);
        ui->touched = true;
    }
    if (ui->n_screens && !ui_present(ui, ui->at))
        go_by(ui, 1);
    if (!ui->n_dialogs && !ui->prompt.kind) {
        arena_free(ui->scratch);
        ui->scratch = arena_new();
    }
    return ui->wish;
}

double ui_deadline(const struct ui *ui, double now_s)
{
    double at = ui->n_screens ? ui->screens[ui->at].next_tick_s : -1;

    if (at < 0 || ui_too_small(ui))
        return -1;
    return at > now_s ? at - now_s : 0;
}

/* --- drawing ---------------------------------------------------------------------------------
 */

bool ui_too_small(const struct ui *ui)
{
    return ui->w < UI_W_MIN || ui->h < UI_H_MIN;
}

struct rect ui_area(const struct ui *ui)
{
    return (struct rect){0, 1, ui->w, ui->h - 3};
}

static bool same_rect(struct rect a, struct rect b)
{
    return a.x == b.x && a.y == b.y && a.w == b.w && a.h == b.h;
}

static void prepare(struct ui *ui, struct ui_screen *s, struct rect area)
{
    if (!ui->touched && s->generation == ui->session->generation && same_rect(s->area, area))
        return;
    if (s->type->prepare)
        s->type->prepare(ui, s->state, area);
    s->generation = ui->session->generation;
    s->area = area;
    ui->touched = false;
}

static void view_too_small(const struct ui *ui, struct canvas *c)
{
    struct rect all = {0, 0, c->w, c->h};
    char text[96];
    int x, y = ui->h / 2;

    snprintf(text, sizeof text, "terminal is %dx%d, kvbudget needs %dx%d", ui->w, ui->h,
             UI_W_MIN, UI_H_MIN);
    x = (ui->w - canvas_columns(text)) / 2;
    canvas_text(c, all, x > 0 ? x : 0, y, ST_WARN, text);
    if (ui->h > 2)
        canvas_text(c, all, x > 0 ? x : 0, y + 1, ST_DIM, "make it larger, or q to quit");
}

void ui_view(struct ui *ui, struct canvas *c)
{
    struct ui_screen *s = ui_active(ui);

    c->ascii = ui->ascii;
    canvas_clear(c, ui->w, ui->h);
    if (ui_too_small(ui)) {
        view_too_small(ui, c);
        return;
    }
    if (s) {
        prepare(ui, s, ui_area(ui));
        s->type->view(ui, s->state, c, ui_area(ui));
    }
    ui_view_bars(ui, c);
    for (size_t i = 0; i < ui->n_dialogs; i++)
        dialog_view(ui, &ui->dialogs[i], c);
    if (ui->prompt.kind)
        prompt_view(ui, c);
    if (c->cursor_x >= c->w || c->cursor_y >= c->h || c->cursor_x < 0 || c->cursor_y < 0)
        c->cursor_x = c->cursor_y = -1;
}
