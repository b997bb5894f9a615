/* Reads a file of keys into events, then plays them. The clock stands still but for `wait`, so
 * the same file always gives the same frames. */
#include "tui/player.h"

#include <stdio.h>
#include <string.h>

#include "planner/base/unit.h"
#include "planner/base/utf8.h"

enum { EVENTS_MAX = 1 << 20, SIDE_MAX = 1000, TICKS_A_WAIT = 100000 };

struct tokens { /* what is left of the file, and where that is */
    const char *p;
    struct loc at;
    struct diag *d;
    struct arena *a;
};

struct events {
    struct event *v; /* EVENT_TICK: a wait, now_s seconds long */
    size_t n, room;
};

bool player_size(const char *text, int *w, int *h)
{
    size_t n = strcspn(text, "x");
    char left[8] = "";
    uint64_t x, y;

    if (text[n] != 'x' || n >= sizeof left)
        return false;
    memcpy(left, text, n);
    if (unit_parse_u64(left, &x) != UNIT_OK || unit_parse_u64(text + n + 1, &y) != UNIT_OK ||
        x < 1 || y < 1 || x > SIDE_MAX || y > SIDE_MAX)
        return false;
    *w = (int)x;
    *h = (int)y;
    return true;
}

static void step(struct tokens *t)
{
    if (*t->p++ == '\n') {
        t->at.line++;
        t->at.col = 1;
    } else {
        t->at.col++;
    }
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_blanks(struct tokens *t)
{
    for (;;) {
        while (is_blank(*t->p))
            step(t);
        if (*t->p != '#' || (t->p[1] && !is_blank(t->p[1]) && t->p[1] != '#'))
            return;
        while (*t->p && *t->p != '\n')
            step(t);
    }
}

/* The next word; "" at the end. */
static const char *word(struct tokens *t, struct loc *at)
{
    const char *from;

    skip_blanks(t);
    *at = t->at;
    for (from = t->p; *t->p && !is_blank(*t->p);)
        step(t);
    return arena_strndup(t->a, from, (size_t)(t->p - from));
}

static bool add(struct tokens *t, struct events *out, struct event e)
{
    if (out->n == EVENTS_MAX)
        return diag_add(t->d, DIAG_INPUT, t->at, "more than %d events", EVENTS_MAX);
    if (out->n == out->room) {
        out->room = out->room ? 2 * out->room : 256;
        out->v = arena_grow(t->a, out->v, out->n, out->room, sizeof *out->v);
    }
    out->v[out->n++] = e;
    return true;
}

static bool read_text(struct tokens *t, struct events *out)
{
    struct loc at = t->at;

    for (step(t); *t->p != '"';) {
        uint32_t cp = 0;
        size_t n;
        if (*t->p == '\\' && (t->p[1] == '"' || t->p[1] == '\\'))
            step(t);
        n = utf8_next(t->p, strnlen(t->p, 4), &cp);
        if (!*t->p || *t->p == '\n')
            return diag_add(t->d, DIAG_INPUT, at, "this text has no closing quote on its line");
        if (n == 0 || utf8_is_control(cp))
            return diag_add(t->d, DIAG_INPUT, t->at, "a text has characters of UTF-8 only");
        t->p += n;
        t->at.col++;
        if (!add(t, out, (struct event){.kind = EVENT_KEY, .key = cp}))
            return false;
    }
    step(t);
    return true;
}

static bool read_cell(struct tokens *t, int *out)
{
    struct loc at;
    const char *text = word(t, &at);
    uint64_t v;

    if (unit_parse_u64(text, &v) != UNIT_OK || v >= SIDE_MAX)
        return diag_add(t->d, DIAG_INPUT, at, "mouse needs a column and a row, found '%s'",
                        text);
    *out = (int)v;
    return true;
}

static bool read_mouse(struct tokens *t, struct events *out)
{
    static const char *const names[] = {"press", "double", "up", "down"};
    struct event e = {.kind = EVENT_MOUSE};
    struct loc at;
    const char *what = word(t, &at);

    for (int i = 0; i < 4; i++) {
        if (strcmp(what, names[i]) != 0)
            continue;
        e.button = (enum mouse)i;
        return read_cell(t, &e.x) && read_cell(t, &e.y) && add(t, out, e);
    }
    return diag_add(t->d, DIAG_INPUT, at, "mouse is press, double, up or down, found '%s'",
                    what);
}

static bool read_word(struct tokens *t, struct events *out)
{
    struct event e = {.kind = EVENT_RESIZE};
    struct loc at, at2;
    const char *name = word(t, &at);

    if (!strcmp(name, "mouse"))
        return read_mouse(t, out);
    if (!strcmp(name, "size")) {
        name = word(t, &at2);
        return player_size(name, &e.x, &e.y)
                   ? add(t, out, e)
                   : diag_add(t->d, DIAG_INPUT, at2,
                              "size is columns x rows such as 100x30, found '%s'", name);
    }
    if (!strcmp(name, "wait")) {
        e.kind = EVENT_TICK;
        name = word(t, &at2);
        return unit_parse_seconds(name, &e.now_s) == UNIT_OK && e.now_s <= 3600
                   ? add(t, out, e)
                   : diag_add(t->d, DIAG_INPUT, at2,
                              "wait needs a time such as 0.5s, at most an hour, found '%s'",
                              name);
    }
    e = (struct event){.kind = EVENT_KEY, .key = keys_parse(name, strlen(name))};
    if (e.key == KEY_NONE)
        return diag_add(t->d, DIAG_INPUT, at,
                        "there is no key '%s'; Enter, Esc, F1, PgUp, Ctrl-R, a letter, or "
                        "\"text\" to type",
                        name);
    return add(t, out, e);
}

/* The ticks due until the clock has moved by `by_s`. */
static bool wait_for(struct ui *ui, struct canvas *c, double *now_s, double by_s)
{
    double end_s = *now_s + by_s;

    for (int i = 0; i < TICKS_A_WAIT; i++) {
        double left_s = ui_deadline(ui, *now_s);
        struct event e = {.kind = EVENT_TICK};
        if (left_s < 0 || *now_s + left_s > end_s)
            break;
        *now_s += left_s > 1e-3 ? left_s : 1e-3;
        e.now_s = *now_s;
        if (ui_event(ui, &e) == WISH_QUIT)
            return false;
        ui_view(ui, c);
    }
    *now_s = end_s;
    return true;
}

bool player_play(struct ui *ui, struct canvas *c, const char *name, const char *text,
                 struct diag *d)
{
    struct arena *a = arena_new();
    struct tokens t = {.p = text, .at = {.file = name, .line = 1, .col = 1}, .d = d, .a = a};
    struct events all = {0};
    double now_s = 0;
    bool ok = true, quit = false;

    for (skip_blanks(&t); ok && *t.p; skip_blanks(&t))
        ok = *t.p == '"' ? read_text(&t, &all) : read_word(&t, &all);
    ui_view(ui, c);
    for (size_t i = 0; ok && !quit && i < all.n; i++) {
        struct event e = all.v[i];
        if (e.kind == EVENT_TICK) {
            quit = !wait_for(ui, c, &now_s, e.now_s);
            continue;
        }
        now_s += 1; /* no two presses are a double click unless asked for */
        e.now_s = now_s;
        quit = ui_event(ui, &e) == WISH_QUIT;
        ui_view(ui, c);
    }
    arena_free(a);
    return ok;
}
