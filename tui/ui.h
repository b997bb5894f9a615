/* The state of the program as its user sees it, and the three functions around it: an event
 * changes it (ui_event), it is drawn (ui_view), and what only the outside can do it asks for
 * (struct wish). Nothing here touches the terminal, the clock or the GPU. */
#ifndef KVBUDGET_TUI_UI_H
#define KVBUDGET_TUI_UI_H

#include "tui/canvas.h"
#include "tui/keys.h"
#include "tui/session.h"

struct ui;

/* A screen is one file of tui/screen/ that defines `const struct screen screen_<id>`. */
struct screen {
    const char *id, *title, *summary;
    int order;         /* of its tab; 1 = first */
    size_t state_size; /* zeroed at the start */
    /* Whether there is anything to show; NULL = always. A screen without is not in the tabs. */
    bool (*present)(const struct ui *ui);
    /* Before a view, when the session's generation, the size or the state changed: computes
     * what the view needs, in arenas the state owns. */
    void (*prepare)(struct ui *ui, void *state, struct rect area);
    void (*view)(const struct ui *ui, const void *state, struct canvas *c, struct rect area);
    /* True when it was used. Mouse events come with ACT_NONE. */
    bool (*act)(struct ui *ui, void *state, enum action a, const struct event *e);
    /* Long work in steps: called on ticks; the time until the next wanted tick, 0 = none. */
    double (*tick)(struct ui *ui, void *state, double now_s);
    /* Report path of the figure under the cursor, for Why; NULL = none. */
    const char *(*why)(const struct ui *ui, const void *state);
    /* Why for what is no figure of the report: a page about the row under the cursor, in `a`;
     * NULL = none. */
    const char *(*about)(const struct ui *ui, const void *state, struct arena *a,
                         const char **title);
    /* Rows, for search and filter; NULL row_text = there are none. */
    int (*rows)(const struct ui *ui, const void *state);
    const char *(*row_text)(const struct ui *ui, const void *state, int row);
    void (*select)(struct ui *ui, void *state, int row);
    int (*selected)(const struct ui *ui, const void *state);
    void (*filter)(struct ui *ui, void *state, const char *text); /* "" = none */
    void (*free)(void *state);
};
const struct screen *screen_at(size_t i); /* NULL past the end; as in the folder */

enum wish { /* what the loop is asked to do after an event */
            WISH_NONE,
            WISH_QUIT,
            WISH_COPY,   /* ui->clipboard */
            WISH_REDRAW, /* the whole terminal anew */
            WISH_SUSPEND
};

/* For screens: dialogues on top of them. Each calls back with the text chosen, or not at all.
 */
typedef void (*ui_chosen)(struct ui *ui, void *to, const char *text);
/* A searchable list over the screen; `items` and `notes` (may be NULL) live as long as it. */
void ui_pick(struct ui *ui, const char *title, const char *const *items,
             const char *const *notes, size_t n, const char *present, ui_chosen done, void *to);
/* One line of text; `hint` stands below it. */
void ui_ask(struct ui *ui, const char *title, const char *text, const char *hint,
            ui_chosen done, void *to);
/* Yes or no; called with "y" only. */
void ui_confirm(struct ui *ui, const char *question, ui_chosen done, void *to);
/* A page of text to scroll: Why, flags, warnings. */
void ui_page(struct ui *ui, const char *title, const char *text);
/* The message line, until the next key. */
void ui_say(struct ui *ui, enum style s, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

struct session *ui_session(struct ui *ui);
const struct session *ui_plan(const struct ui *ui); /* the same, to read */
double ui_now(const struct ui *ui);
bool ui_ascii(const struct ui *ui);
/* "a.jsonl" given with --trace, for the Run screen; a validation file for Check; NULL. */
const char *ui_option(const struct ui *ui, const char *name);
void ui_goto(struct ui *ui, const char *screen);

/* --- for the loop, the player and tests ------------------------------------------------- */
struct ui_options {
    bool ascii, mono;
    const char *theme;                             /* NULL = default */
    const char *trace, *trace_format, *validation; /* NULL = none */
    const char *screen;                            /* first shown; NULL = Budget */
};
struct ui *ui_new(struct arena *a, struct session *s, const struct ui_options *opt);
void ui_free(struct ui *ui);
enum wish ui_event(struct ui *ui, const struct event *e);
void ui_view(struct ui *ui, struct canvas *c); /* prepares, then draws; w, h as last resized */
double ui_deadline(const struct ui *ui, double now_s); /* seconds to the next tick, < 0 never */
const char *ui_clipboard(const struct ui *ui);

#endif
