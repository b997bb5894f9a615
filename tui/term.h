/* The terminal: the only file that knows ncurses. It shows canvases and turns what arrives into
 * events. There can be one at a time. */
#ifndef KVBUDGET_TUI_TERM_H
#define KVBUDGET_TUI_TERM_H

#include "planner/base/arena.h"
#include "tui/canvas.h"
#include "tui/keys.h"
#include "tui/theme.h"

struct terminal;

/* Takes the terminal of `in` and `out` over. NULL: *why says what is wrong with it (one line);
 * nothing was written to it then. */
struct terminal *term_open(struct arena *a, FILE *in, FILE *out, const char **why);
/* Gives it back as it was. Safe to call twice. */
void term_close(struct terminal *t);

/* Whether it can show more than ASCII; how many colours it has. */
bool term_is_utf8(const struct terminal *t);
int term_colours(const struct terminal *t);
void term_size(const struct terminal *t, int *w, int *h);

/* Shows a canvas: only what changed is sent. */
void term_show(struct terminal *t, const struct canvas *c, const struct theme *theme);
void term_redraw(struct terminal *t); /* the next term_show sends everything */

/* Waits for one event, at most timeout_s seconds (< 0: for ever); EVENT_TICK when they passed,
 * EVENT_END when the terminal is gone or a signal asks to end. */
void term_wait(struct terminal *t, double timeout_s, struct event *e);

/* Puts a text on the clipboard of the user's screen by OSC 52, as far as the terminal is known
 * to take it; false when it is not. */
bool term_copy(struct terminal *t, const char *text);
/* Stops the program as Ctrl-Z does, and comes back when it is continued. */
void term_suspend(struct terminal *t);

double term_now_s(void); /* a clock that only goes forward */

#endif
