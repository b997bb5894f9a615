/* What can be done and with which keys: one table (tui/keys.c) from which events become
 * actions, and footer, help and the README are made. */
#ifndef KVBUDGET_TUI_KEYS_H
#define KVBUDGET_TUI_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum event_kind { EVENT_KEY, EVENT_MOUSE, EVENT_RESIZE, EVENT_TICK, EVENT_END };

enum { /* keys beyond Unicode */
       KEY_UP_ARROW = 0x110000,
       KEY_DOWN_ARROW,
       KEY_LEFT_ARROW,
       KEY_RIGHT_ARROW,
       KEY_PAGE_UP,
       KEY_PAGE_DOWN,
       KEY_HOME_KEY,
       KEY_END_KEY,
       KEY_DELETE,
       KEY_INSERT,
       KEY_BACK_TAB,
       KEY_F_BASE, /* F1 = KEY_F_BASE + 1 */
       KEY_NONE = KEY_F_BASE + 32
}; /* Enter 13, Tab 9, Esc 27, Backspace 8, Ctrl-X = X - 64 */

enum mouse { MOUSE_PRESS, MOUSE_DOUBLE, MOUSE_WHEEL_UP, MOUSE_WHEEL_DOWN };

struct event {
    enum event_kind kind;
    uint32_t key;      /* EVENT_KEY */
    enum mouse button; /* EVENT_MOUSE */
    int x, y;          /* EVENT_MOUSE: cell; EVENT_RESIZE: columns, rows */
    double now_s;      /* a clock that only goes forward */
};

enum action {
    ACT_NONE,
    ACT_HELP,
    ACT_QUIT,
    ACT_BACK,
    ACT_NEXT_SCREEN,
    ACT_PREVIOUS_SCREEN,
    ACT_SCREEN_1, /* to ACT_SCREEN_1 + 8 */
    ACT_SCREEN_9 = ACT_SCREEN_1 + 8,
    ACT_UP,
    ACT_DOWN,
    ACT_PAGE_UP,
    ACT_PAGE_DOWN,
    ACT_FIRST,
    ACT_LAST,
    ACT_LESS, /* Left, -: the value under the cursor down, zoom out, ... */
    ACT_MORE,
    ACT_OPEN,  /* Enter: edit, open a list, take a point */
    ACT_CLEAR, /* Backspace, Delete: the value back to its default */
    ACT_TAG,
    ACT_SEARCH,
    ACT_SEARCH_NEXT,
    ACT_FILTER,
    ACT_SORT,
    ACT_INVERT,
    ACT_COMMAND,
    ACT_WHY,
    ACT_UNDO,
    ACT_REDO,
    ACT_PIN, /* this plan becomes the baseline */
    ACT_SAVE,
    ACT_LOAD,
    ACT_REPORT, /* write the JSON report */
    ACT_COPY,   /* engine flags to the clipboard */
    ACT_PAUSE,
    ACT_STEP,
    ACT_RESTART,
    ACT_MODE, /* another quantity, axis or view of this screen */
    ACT_FIT,  /* the fewest GPUs that hold the asked batch */
    ACT_FOLD, /* equal rows as one */
    ACT_SUSPEND,
    ACT_SETTINGS,
    ACT_REDRAW,
    N_ACTIONS
};

struct screen;
struct key_row {
    enum action action;
    const char *keys;    /* "q F10", names separated by blanks */
    const char *label;   /* footer: "Quit"; NULL = not in the footer */
    const char *help;    /* one line; shown with `keys`; NULL = told by the row above */
    const char *screens; /* ids separated by blanks; NULL = everywhere */
};
const struct key_row *keys_at(size_t i);                    /* NULL past the end */
bool keys_for(const struct key_row *r, const char *screen); /* whether it has that row */
/* The action of a key on a screen; ACT_NONE when it has none. */
enum action keys_action(uint32_t key, const char *screen);
/* "F10" -> key; KEY_NONE when there is no such name. Names: one character, Enter Esc Tab S-Tab
 * Space Backspace Delete Insert Up Down Left Right PgUp PgDn Home End F1..F12 Ctrl-X. */
uint32_t keys_parse(const char *name, size_t n);
/* The name of a key, as keys_parse reads it; false when it has none. */
bool keys_name(uint32_t key, char *buf, size_t n);

#endif
