/* The parts of struct ui, for the files tui/ui_*.c among themselves. An event goes to the
 * prompt when one is open, else to the topmost dialogue, else to the screen, else to the
 * actions that are the same everywhere. */
#ifndef KVBUDGET_TUI_UI_PARTS_H
#define KVBUDGET_TUI_UI_PARTS_H

#include "tui/line.h"
#include "tui/theme.h"
#include "tui/ui_loop.h"

enum { UI_SCREENS_MAX = 16, UI_DIALOGS_MAX = 6, UI_SAY_MAX = 512, UI_HISTORY = 16 };
enum { UI_W_MIN = 80, UI_H_MIN = 24, UI_BUTTONS_MAX = 48 };
enum dialog_kind { DIALOG_PICK, DIALOG_ASK, DIALOG_CONFIRM, DIALOG_PAGE };

struct dialog {
    enum dialog_kind kind;
    const char *title, *text; /* text: hint, question's end, the page */
    const char *const *items, *const *notes;
    size_t n;
    size_t *shown, n_shown; /* indices of the items that match what was typed */
    size_t at, top;         /* of the list: cursor; first line seen, of the page too */
    struct line line;
    ui_chosen done;
    void *to;
};

enum prompt_kind { PROMPT_NONE, PROMPT_COMMAND, PROMPT_SEARCH, PROMPT_FILTER };

struct completion { /* what can stand at the cursor of a command */
    const char **items, **notes;
    size_t n;
    size_t from; /* byte of the line where the word starts */
};

struct prompt {
    enum prompt_kind kind;
    struct line line;
    int origin;               /* row selected before a search */
    struct completion offers; /* in ui->scratch */
    size_t offer;             /* taken by Tab; offers.n = none */
    size_t typed_to;          /* end of the word before Tab replaced it */
    size_t history;           /* entry shown; n_history = the new one */
};

struct ui_screen {
    const struct screen *type;
    void *state;
    uint64_t generation; /* that prepare has seen */
    struct rect area;
    double next_tick_s; /* < 0: none wanted */
    char filter[128];
};

struct ui {
    struct arena *arena;   /* as long as the ui */
    struct arena *scratch; /* of dialogues and prompts; anew when none is open */
    struct session *session;
    struct ui_options options;
    const struct theme *theme;
    bool ascii, ascii_chosen;
    int w, h;
    double now_s;
    struct ui_screen screens[UI_SCREENS_MAX]; /* by order */
    size_t n_screens, at;
    bool touched; /* an event came since the last view */
    struct dialog dialogs[UI_DIALOGS_MAX];
    size_t n_dialogs;
    struct prompt prompt;
    char history[UI_HISTORY][LINE_MAX_BYTES + 1];
    size_t n_history;
    char search[128];
    char said[UI_SAY_MAX];
    enum style said_style;
    char machine[128];
    char *clipboard;
    struct arena *clip_arena;
    enum wish wish;
    bool leaving;   /* quit when the spec is saved */
    double click_s; /* the last press, to tell a double click */
    int click_x, click_y;
};
struct ui_screen *ui_active(struct ui *ui); /* ui.c */
bool ui_present(const struct ui *ui, size_t i);
void ui_action(struct ui *ui, enum action a, const struct event *e);
struct rect ui_area(const struct ui *ui);
bool ui_too_small(const struct ui *ui);

/* ui_file.c: saving, loading, the report, the clipboard, leaving */
void ui_save(struct ui *ui, const char *path); /* NULL = where it came from, else ask */
void ui_load(struct ui *ui, const char *path); /* NULL = ask */
void ui_report(struct ui *ui, const char *path);
void ui_copy(struct ui *ui);
void ui_quit(struct ui *ui, bool ask);

/* ui_bars.c: the lines around a screen */
struct button {
    int x, w;
    enum action action;
    const char *key, *label;
};
size_t ui_footer(const struct ui *ui, struct button *out);
size_t ui_tabs(const struct ui *ui, struct button *out);
void ui_view_bars(const struct ui *ui, struct canvas *c);

/* ui_dialog.c, ui_help.c */
void dialog_event(struct ui *ui, const struct event *e);
void dialog_view(const struct ui *ui, const struct dialog *d, struct canvas *c);
const char *dialog_keys(const struct dialog *d); /* for the footer */
void ui_help(struct ui *ui);
void ui_settings(struct ui *ui);

/* ui_prompt.c, ui_command.c */
void prompt_open(struct ui *ui, enum prompt_kind kind);
void prompt_event(struct ui *ui, const struct event *e);
void prompt_view(const struct ui *ui, struct canvas *c);
void search_next(struct ui *ui, int from);
void command_complete(struct ui *ui, const char *line, size_t at, struct completion *out);
void command_run(struct ui *ui, const char *line);

#endif
