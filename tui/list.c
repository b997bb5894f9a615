/* The list of all screens: what is shown, in which order, and where the cursor is. */
#include "tui/list.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { WHEEL_ROWS = 3 };

/* --- filter and order ------------------------------------------------------------------- */

bool list_has(const char *text, const char *part)
{
    size_t n = strlen(part);

    for (; *text || !n; text++) {
        size_t i = 0;
        while (i < n && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i]))
            i++;
        if (i == n)
            return true;
    }
    return false;
}

static bool passes(const struct list *l, int row)
{
    char buf[LIST_TEXT];

    if (!*l->filter)
        return true;
    for (int i = 0; i < l->n_columns; i++) {
        l->columns[i].text(l->rows, row, buf);
        if (list_has(buf, l->filter))
            return true;
    }
    return false;
}

/* Whether row b must stand before row a, which is the earlier one now. */
static bool before(const struct list *l, int b, int a)
{
    int order;

    if (a < l->fixed || b < l->fixed)
        return b < a;
    order = l->columns[l->sort].compare(l->rows, b, a);
    return l->inverted ? order > 0 : order < 0;
}

static void merge(const struct list *l, const int *from, int lo, int mid, int hi, int *to)
{
    int i = lo, j = mid;

    for (int k = lo; k < hi; k++) {
        bool second = i == mid || (j < hi && before(l, from[j], from[i]));
        to[k] = second ? from[j++] : from[i++];
    }
}

/* Equal rows stay as they were. */
static void sort_shown(struct list *l)
{
    int *from = l->shown, *to = l->spare;

    for (int64_t run = 1; run < l->n_shown; run *= 2) {
        int *swap = from;
        for (int64_t lo = 0; lo < l->n_shown; lo += 2 * run) {
            int64_t mid = lo + run < l->n_shown ? lo + run : l->n_shown;
            int64_t hi = mid + run < l->n_shown ? mid + run : l->n_shown;
            merge(l, from, (int)lo, (int)mid, (int)hi, to);
        }
        from = to;
        to = swap;
    }
    l->shown = from;
    l->spare = to;
}

/* Rows shown at the top that do not scroll, where they leave room for others. */
static int pinned(const struct list *l)
{
    int n = 0;

    while (n < l->n_shown && l->shown[n] < l->fixed)
        n++;
    return n + 2 < l->area.h - 1 ? n : 0;
}

static void keep_in_range(struct list *l)
{
    int pin = pinned(l), h = l->area.h - 1 - pin;

    l->at = l->at >= l->n_shown ? l->n_shown - 1 : l->at;
    l->at = l->at < 0 ? 0 : l->at;
    if (h < 1)
        h = 1;
    if (l->top > l->n_shown - h)
        l->top = l->n_shown - h;
    if (l->top < pin || l->at < pin)
        l->top = pin;
    if (l->at >= pin && l->at < l->top)
        l->top = l->at;
    if (l->at >= l->top + h)
        l->top = l->at - h + 1;
}

/* The place drawn y lines below the titles. */
static int place_at(const struct list *l, int y)
{
    int pin = pinned(l);

    return y < pin ? y : l->top + y - pin;
}

void list_set(struct list *l, struct arena *a, const void *rows, int n_rows, int fixed)
{
    l->rows = rows;
    l->n_rows = n_rows;
    l->fixed = fixed;
    l->shown = ARENA_NEW(a, int, (size_t)n_rows + 1);
    l->spare = ARENA_NEW(a, int, (size_t)n_rows + 1);
    l->n_shown = 0;
}

void list_update(struct list *l)
{
    int row = list_row(l);

    l->n_shown = 0;
    for (int i = 0; i < l->n_rows; i++)
        if (passes(l, i))
            l->shown[l->n_shown++] = i;
    if (l->sort >= l->n_columns)
        l->sort = -1;
    if (l->sort >= 0 && l->columns[l->sort].compare)
        sort_shown(l);
    if (row >= 0)
        list_select(l, row);
    keep_in_range(l);
}

void list_place(struct list *l, struct rect r)
{
    l->area = r;
    keep_in_range(l);
}

int list_row(const struct list *l)
{
    return l->at >= 0 && l->at < l->n_shown ? l->shown[l->at] : -1;
}

void list_select(struct list *l, int row)
{
    for (int i = 0; i < l->n_shown; i++)
        if (l->shown[i] == row)
            l->at = i;
    keep_in_range(l);
}

/* --- columns ---------------------------------------------------------------------------- */

/* Width of column i in a list w columns wide; 0 = it is not shown. */
static int width_of(const struct list *l, int i, int w)
{
    int left = w;

    if (w < l->columns[i].least_w)
        return 0;
    if (l->columns[i].width)
        return l->columns[i].width;
    for (int k = 0; k < l->n_columns; k++)
        if (w >= l->columns[k].least_w)
            left -= l->columns[k].width + 1;
    return left > 1 ? left : 1;
}

/* The column drawn at x; -1 = none. */
static int column_at(const struct list *l, int x)
{
    int from = 0;

    for (int i = 0; i < l->n_columns; i++) {
        int w = width_of(l, i, l->area.w);
        if (w && x >= from && x <= from + w)
            return i;
        from += w ? w + 1 : 0;
    }
    return -1;
}

static void sort_by(struct list *l, int column)
{
    l->inverted = column == l->sort ? !l->inverted : false;
    l->sort = column;
    list_update(l);
}

/* The next column (step 1) or the one before (-1) that has an order and is seen. */
static void sort_next(struct list *l, int step)
{
    int i = l->sort;

    for (int k = 0; k < l->n_columns + 1; k++) {
        i += step;
        i = i < 0 ? l->n_columns - 1 : i >= l->n_columns ? 0 : i;
        if (l->columns[i].compare && width_of(l, i, l->area.w)) {
            l->inverted = false;
            l->sort = i;
            list_update(l);
            return;
        }
    }
}

/* --- events ----------------------------------------------------------------------------- */

static enum list_used act_mouse(struct list *l, const struct event *e)
{
    int x = e->x - l->area.x, y = e->y - l->area.y, column;

    if (x < 0 || x >= l->area.w || y < 0 || y >= l->area.h)
        return LIST_UNUSED;
    if (e->button == MOUSE_WHEEL_UP || e->button == MOUSE_WHEEL_DOWN) {
        l->at += e->button == MOUSE_WHEEL_UP ? -WHEEL_ROWS : WHEEL_ROWS;
        keep_in_range(l);
        return LIST_USED;
    }
    if (y == 0) {
        column = column_at(l, x);
        if (column >= 0 && l->columns[column].compare)
            sort_by(l, column);
        return LIST_USED;
    }
    if (place_at(l, y - 1) >= l->n_shown)
        return LIST_USED;
    l->at = place_at(l, y - 1);
    return e->button == MOUSE_DOUBLE ? LIST_OPENED : LIST_USED;
}

static bool act_move(struct list *l, enum action act)
{
    int page = l->area.h > 2 ? l->area.h - 2 : 1;

    switch (act) {
    case ACT_UP: l->at -= 1; break;
    case ACT_DOWN: l->at += 1; break;
    case ACT_PAGE_UP: l->at -= page; break;
    case ACT_PAGE_DOWN: l->at += page; break;
    case ACT_FIRST: l->at = 0; break;
    case ACT_LAST: l->at = l->n_shown - 1; break;
    default: return false;
    }
    keep_in_range(l);
    return true;
}

enum list_used list_act(struct list *l, enum action act, const struct event *e)
{
    if (e && e->kind == EVENT_MOUSE)
        return act_mouse(l, e);
    if (act_move(l, act))
        return LIST_USED;
    if (act == ACT_SORT || act == ACT_MORE || act == ACT_LESS) {
        sort_next(l, act == ACT_LESS ? -1 : 1);
        return LIST_USED;
    }
    if (act == ACT_INVERT && l->sort >= 0) {
        l->inverted = !l->inverted;
        list_update(l);
        return LIST_USED;
    }
    return LIST_UNUSED;
}

/* --- drawing ---------------------------------------------------------------------------- */

/* A cell; what does not fit ends in an ellipsis. */
static void view_cell(struct canvas *c, struct rect cell, bool right, enum style s,
                      const char *text)
{
    int n = canvas_columns(text);

    if (right && n <= cell.w) {
        canvas_right(c, cell, cell.w, 0, s, text);
        return;
    }
    canvas_text(c, cell, 0, 0, s, text);
    if (n > cell.w)
        canvas_put(c, cell, cell.w - 1, 0, s, 0x2026);
}

/* Titles; the column sorted by has an arrow: down = the best first. */
static void view_titles(const struct list *l, struct canvas *c)
{
    int x = 0;

    for (int i = 0; i < l->n_columns; i++) {
        int w = width_of(l, i, l->area.w);
        struct rect cell = {l->area.x + x, l->area.y, w, 1};
        char buf[LIST_TEXT];
        if (!w)
            continue;
        snprintf(buf, sizeof buf, "%s%s", l->columns[i].title,
                 i != l->sort  ? ""
                 : l->inverted ? "\u25b4"
                               : "\u25be");
        view_cell(c, cell, l->columns[i].right, i == l->sort ? ST_KEY : ST_TITLE, buf);
        x += w + 1;
    }
}

static void view_row(const struct list *l, struct canvas *c, int place, int y)
{
    int row = l->shown[place], x = 0;
    enum style s = l->style ? l->style(l->rows, row) : ST_PLAIN;
    struct rect line = {l->area.x, l->area.y + y, l->area.w, 1};

    for (int i = 0; i < l->n_columns; i++) {
        int w = width_of(l, i, l->area.w);
        char buf[LIST_TEXT] = "";
        if (!w)
            continue;
        l->columns[i].text(l->rows, row, buf);
        view_cell(c, (struct rect){line.x + x, line.y, w, 1}, l->columns[i].right, s, buf);
        x += w + 1;
    }
    if (place == l->at)
        canvas_restyle(c, line, ST_SELECT);
}

/* How much of the list is seen, in the last column beside it. */
static void view_scroll(const struct list *l, struct canvas *c)
{
    int pin = pinned(l), h = l->area.h - 1 - pin, n = l->n_shown - pin, from, to;

    if (n <= h || h < 2)
        return;
    from = (int)((int64_t)(l->top - pin) * h / n);
    to = (int)((int64_t)(l->top - pin + h) * h / n);
    for (int y = 0; y < h; y++)
        canvas_put(c, l->area, l->area.w - 1, pin + y + 1, ST_BORDER,
                   y >= from && y <= to ? 0x2588 : 0x2502);
}

void list_view(const struct list *l, struct canvas *c)
{
    int h = l->area.h - 1;

    view_titles(l, c);
    for (int y = 0; y < h && place_at(l, y) < l->n_shown; y++)
        view_row(l, c, place_at(l, y), y + 1);
    if (!l->n_shown && h > 0)
        canvas_text(c, l->area, 0, 1, ST_DIM, *l->filter ? "no row has this text" : l->none);
    view_scroll(l, c);
}
