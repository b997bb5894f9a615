/* The table of keys, and the names of keys. Whatever is shown about keys (footer, help, README)
 * comes from here. */
#include "tui/keys.h"

#include <stdio.h>
#include <string.h>

#include "planner/base/utf8.h"
#include "tui/glyph.h"

/* Screens by what is on them; a page of text moves like one. */
#define MOVES "budget compare layers curves front check page"
#define CHANGES "budget compare curves front run check"
#define FIGURES "budget compare layers curves front check"

static const struct key_row rows[] = {
    {ACT_HELP, "F1 ? h", "Help", "keys of this screen", NULL},
    {ACT_COMMAND, ":", "Command", "a command, with Tab to complete it", NULL},
    {ACT_FIT, "F", "Fit", "the fewest GPUs that hold the asked batch", "budget"},
    {ACT_PAUSE, "p", "Pause", "pause the simulation, go on", "run"},
    {ACT_STEP, "s", "Step", "one step of the simulation", "run"},
    {ACT_RESTART, "r", "Restart", "the simulation from its start", "run"},
    {ACT_OPEN, "Enter", "Open", "edit the value, open the list, take what is chosen", NULL},
    {ACT_MODE, "m", "Mode", "another quantity, axis or view", "budget layers curves front"},
    {ACT_FOLD, "f", "Fold", "equal layers as one line, or each apart", "layers"},
    {ACT_TAG, "Space", "Tag", "tag a row; two tagged rows are compared", "compare"},
    {ACT_SORT, "F6 > .", "Sort", "sort by the next column", "compare front check"},
    {ACT_INVERT, "I", NULL, "turn the order round", "compare front check"},
    {ACT_WHY, "w", "Why", "formula, numbers, source; what a row is", FIGURES},
    {ACT_UNDO, "u z", "Undo", "take back the last edit", NULL},
    {ACT_REDO, "U Ctrl-R", NULL, "make the edit again", NULL},
    {ACT_PIN, "b", "Baseline", "this plan becomes the baseline; again: none", NULL},
    {ACT_SEARCH, "/ F3", "Search", "search the rows", "budget compare front check"},
    {ACT_SEARCH_NEXT, "n", NULL, "the next row that was searched for",
     "budget compare front check"},
    {ACT_FILTER, "\\ F4", "Filter", "show only rows with a text", "compare front check"},
    {ACT_SAVE, "S Ctrl-S F5", "Save", "save the spec", NULL},
    {ACT_LOAD, "o", NULL, "open another spec", NULL},
    {ACT_REPORT, "R", NULL, "write the report as JSON", NULL},
    {ACT_COPY, "c y", NULL, "copy the engine's command line", NULL},
    {ACT_BACK, "Esc", NULL, "back: close, leave, take the filter away", NULL},
    {ACT_UP, "Up k", NULL, "up", MOVES},
    {ACT_DOWN, "Down j", NULL, "down", MOVES},
    {ACT_PAGE_UP, "PgUp Ctrl-B", NULL, "a page up", MOVES},
    {ACT_PAGE_DOWN, "PgDn Ctrl-F", NULL, "a page down", MOVES},
    {ACT_FIRST, "Home g", NULL, "to the first", MOVES},
    {ACT_LAST, "End G", NULL, "to the last", MOVES},
    {ACT_LESS, "Left -", NULL, "less: value, zoom, rate; the column before", CHANGES},
    {ACT_MORE, "Right + =", NULL, "more; the next column", CHANGES},
    {ACT_CLEAR, "Backspace Delete", NULL, "the value, the zoom back to its default",
     "budget curves"},
    {ACT_NEXT_SCREEN, "Tab ]", NULL, "the next screen", NULL},
    {ACT_PREVIOUS_SCREEN, "S-Tab [", NULL, "the screen before", NULL},
    {ACT_SCREEN_1, "1", NULL, "the screen with this number, 1 to 9", NULL},
    {ACT_SCREEN_1 + 1, "2", NULL, NULL, NULL},
    {ACT_SCREEN_1 + 2, "3", NULL, NULL, NULL},
    {ACT_SCREEN_1 + 3, "4", NULL, NULL, NULL},
    {ACT_SCREEN_1 + 4, "5", NULL, NULL, NULL},
    {ACT_SCREEN_1 + 5, "6", NULL, NULL, NULL},
    {ACT_SCREEN_1 + 6, "7", NULL, NULL, NULL},
    {ACT_SCREEN_1 + 7, "8", NULL, NULL, NULL},
    {ACT_SCREEN_9, "9", NULL, NULL, NULL},
    {ACT_SETTINGS, "F2", NULL, "settings: theme, characters", NULL},
    {ACT_REDRAW, "Ctrl-L", NULL, "draw the terminal anew", NULL},
    {ACT_SUSPEND, "Ctrl-Z", NULL, "back to the shell; fg returns", NULL},
    {ACT_QUIT, "q F10 Ctrl-C", "Quit", "quit; unsaved edits are asked about", NULL},
};

const struct key_row *keys_at(size_t i)
{
    return i < sizeof rows / sizeof *rows ? &rows[i] : NULL;
}

/* Whether `word` stands in a list with blanks between. */
static bool listed(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = list; *p;) {
        size_t len = strcspn(p, " ");
        if (len == n && !memcmp(p, word, n))
            return true;
        p += len + strspn(p + len, " ");
    }
    return false;
}

bool keys_for(const struct key_row *r, const char *screen)
{
    return !r->screens || (screen && listed(r->screens, screen));
}

static bool has_key(const char *names, uint32_t key)
{
    for (const char *p = names; *p;) {
        size_t len = strcspn(p, " ");
        if (keys_parse(p, len) == key)
            return true;
        p += len + strspn(p + len, " ");
    }
    return false;
}

enum action keys_action(uint32_t key, const char *screen)
{
    if (key == 127) /* terminals send either for Backspace */
        key = 8;
    if (key == 10)
        key = 13;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (keys_for(&rows[i], screen) && has_key(rows[i].keys, key))
            return rows[i].action;
    return ACT_NONE;
}

struct key_name {
    const char *name;
    uint32_t key;
};

static const struct key_name names[] = {
    {"Enter", 13},
    {"Esc", 27},
    {"Tab", 9},
    {"S-Tab", KEY_BACK_TAB},
    {"Space", ' '},
    {"Backspace", 8},
    {"Delete", KEY_DELETE},
    {"Insert", KEY_INSERT},
    {"Up", KEY_UP_ARROW},
    {"Down", KEY_DOWN_ARROW},
    {"Left", KEY_LEFT_ARROW},
    {"Right", KEY_RIGHT_ARROW},
    {"PgUp", KEY_PAGE_UP},
    {"PgDn", KEY_PAGE_DOWN},
    {"Home", KEY_HOME_KEY},
    {"End", KEY_END_KEY},
};

/* F1 to F12; 0 for other words. */
static uint32_t function_key(const char *name, size_t n)
{
    uint32_t number = 0;

    if (n < 2 || n > 3 || name[0] != 'F' || name[1] == '0')
        return 0;
    for (size_t i = 1; i < n; i++) {
        if (name[i] < '0' || name[i] > '9')
            return 0;
        number = number * 10 + (uint32_t)(name[i] - '0');
    }
    return number <= 12 ? KEY_F_BASE + number : 0;
}

bool keys_name(uint32_t key, char *buf, size_t n)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].key == key)
            return snprintf(buf, n, "%s", names[i].name) > 0;
    if (key > KEY_F_BASE && key <= KEY_F_BASE + 12)
        return snprintf(buf, n, "F%d", (int)(key - KEY_F_BASE)) > 0;
    if (key < 32)
        return snprintf(buf, n, "Ctrl-%c", (int)key + 64) > 0;
    return key < KEY_UP_ARROW && n >= 5 && glyph_utf8(key, buf) > 0;
}

uint32_t keys_parse(const char *name, size_t n)
{
    uint32_t cp = 0;

    if (n > 0 && utf8_next(name, n, &cp) == n && !utf8_is_control(cp) && cp != ' ')
        return cp;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].name) == n && !memcmp(names[i].name, name, n))
            return names[i].key;
    if (n == 6 && !memcmp(name, "Ctrl-", 5) && name[5] >= 'A' && name[5] <= 'Z')
        return (uint32_t)(name[5] - 'A' + 1);
    cp = function_key(name, n);
    return cp ? cp : KEY_NONE;
}
