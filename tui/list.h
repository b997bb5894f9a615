/* A table that is sorted, filtered, scrolled and chosen from: the lists of all screens. Columns
 * are rows of a table; what stands in a cell is made while it is drawn, so a list of many rows
 * costs what is seen of it. A row is known by its index in the screen's data; a place is where
 * it is shown. */
#ifndef KVBUDGET_TUI_LIST_H
#define KVBUDGET_TUI_LIST_H

#include "planner/base/arena.h"
#include "tui/canvas.h"
#include "tui/keys.h"

enum { LIST_TEXT = 160, LIST_FILTER = 128 };

struct list_column {
    const char *title;
    int width;   /* columns; 0 = what the others leave */
    bool right;  /* aligned to the right */
    int least_w; /* shown in lists at least so wide; 0 = always */
    void (*text)(const void *rows, int row, char buf[LIST_TEXT]);
    /* Below 0 when row a comes first, the best first; NULL = not to be sorted by. */
    int (*compare)(const void *rows, int a, int b);
};

struct list {
    /* set by the screen */
    const struct list_column *columns;
    int n_columns;
    /* by list_set */
    const void *rows;
    int n_rows;
    int fixed; /* the first rows that stay on top in any order and do not scroll away */
    /* by the screen */
    enum style (*style)(const void *rows, int row); /* NULL = plain */
    const char *none;                               /* what an empty list says */
    /* state */
    int sort; /* column; -1 = as given */
    bool inverted;
    char filter[LIST_FILTER];
    int *shown; /* [n_shown] rows in the order shown */
    int *spare; /* as large, for sorting */
    int n_shown;
    int at, top; /* places: the cursor, the first one seen below the fixed rows */
    struct rect area;
};

/* Other rows: room for their order comes from `a`. Nothing is shown until list_update. */
void list_set(struct list *l, struct arena *a, const void *rows, int n_rows, int fixed);
/* Filters and sorts anew; the cursor stays on its row where that is still shown. */
void list_update(struct list *l);
/* Where it is drawn: scrolls so that the cursor is seen. */
void list_place(struct list *l, struct rect r);
int list_row(const struct list *l); /* under the cursor; -1 = none */
void list_select(struct list *l, int row);
/* Takes movement, sorting and the mouse (a click chooses, on a title it sorts); true when it
 * was used. LIST_OPENED: a double click on a row. */
enum list_used { LIST_UNUSED, LIST_USED, LIST_OPENED };
enum list_used list_act(struct list *l, enum action act, const struct event *e);
void list_view(const struct list *l, struct canvas *c);

/* Whether `text` has `part` in it, letters of either case. */
bool list_has(const char *text, const char *part);

#endif
