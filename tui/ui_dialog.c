/* What lies over a screen until it is answered: a list to pick from, a question, a page. A
 * dialogue is taken off before it calls back, so the callback may open the next one. */
#include <ctype.h>
#include <string.h>

#include "tui/ui_parts.h"

enum { PICK_W = 92, ASK_W = 70, PAGE_W = 100, WHEEL_ROWS = 3 };

static struct dialog *push(struct ui *ui, enum dialog_kind kind, const char *title)
{
    struct dialog *d;

    if (ui->n_dialogs == UI_DIALOGS_MAX)
        ui->n_dialogs--; /* the topmost makes room */
    d = &ui->dialogs[ui->n_dialogs++];
    *d = (struct dialog){.kind = kind, .title = arena_strdup(ui->scratch, title)};
    return d;
}

static void close_top(struct ui *ui)
{
    ui->n_dialogs--;
}

static void answer(struct ui *ui, const char *text)
{
    struct dialog d = ui->dialogs[ui->n_dialogs - 1];
    char *copy = arena_strdup(ui->scratch, text);

    close_top(ui);
    if (d.done)
        d.done(ui, d.to, copy);
}

static void keep_seen(const struct ui *ui, struct dialog *d);

/* --- picking ---------------------------------------------------------------------------------
 */

/* Whether `word` stands in `text`, whatever the case of its letters. */
static bool contains(const char *text, const char *word, size_t n)
{
    for (; *text; text++) {
        size_t i = 0;
        while (i < n && tolower((unsigned char)text[i]) == tolower((unsigned char)word[i]))
            i++;
        if (i == n)
            return true;
    }
    return n == 0;
}

/* Every word of what was typed must stand in the item or its note. */
static bool matches(const struct dialog *d, size_t i)
{
    for (const char *p = d->line.text; *p;) {
        size_t n = strcspn(p, " ");
        if (!contains(d->items[i], p, n) &&
            !(d->notes && d->notes[i] && contains(d->notes[i], p, n)))
            return false;
        p += n + strspn(p + n, " ");
    }
    return true;
}

static void narrow(struct dialog *d)
{
    d->n_shown = 0;
    for (size_t i = 0; i < d->n; i++)
        if (matches(d, i))
            d->shown[d->n_shown++] = i;
    d->at = d->top = 0;
}

void ui_pick(struct ui *ui, const char *title, const char *const *items,
             const char *const *notes, size_t n, const char *present, ui_chosen done, void *to)
{
    struct dialog *d = push(ui, DIALOG_PICK, title);

    d->items = items;
    d->notes = notes;
    d->n = n;
    d->shown = ARENA_NEW(ui->scratch, size_t, n + 1);
    d->done = done;
    d->to = to;
    narrow(d);
    for (size_t i = 0; present && i < n; i++)
        if (!strcmp(items[i], present))
            d->at = i;
    keep_seen(ui, d);
}

void ui_ask(struct ui *ui, const char *title, const char *text, const char *hint,
            ui_chosen done, void *to)
{
    struct dialog *d = push(ui, DIALOG_ASK, title);

    line_set(&d->line, text ? text : "");
    d->text = arena_strdup(ui->scratch, hint ? hint : "");
    d->done = done;
    d->to = to;
}

void ui_confirm(struct ui *ui, const char *question, ui_chosen done, void *to)
{
    struct dialog *d = push(ui, DIALOG_CONFIRM, question);

    d->done = done;
    d->to = to;
}

void ui_page(struct ui *ui, const char *title, const char *text)
{
    struct dialog *d = push(ui, DIALOG_PAGE, title);

    d->text = arena_strdup(ui->scratch, text);
}

/* --- where it lies ---------------------------------------------------------------------------
 */

static struct rect centred(const struct ui *ui, int w, int h)
{
    w = w < ui->w - 4 ? w : ui->w - 4;
    h = h < ui->h - 4 ? h : ui->h - 4;
    return (struct rect){(ui->w - w) / 2, 1 + (ui->h - 3 - h) / 2, w, h};
}

static size_t wrapped(const char **text, int w);

static size_t page_lines(const char *text, int w)
{
    size_t n = 0;

    for (; *text; n++)
        wrapped(&text, w);
    return n;
}

static struct rect dialog_rect(const struct ui *ui, const struct dialog *d)
{
    int inside;

    switch (d->kind) {
    case DIALOG_PICK: return centred(ui, PICK_W, d->n < 60 ? (int)d->n + 4 : 64);
    case DIALOG_ASK: return centred(ui, ASK_W, 5);
    case DIALOG_CONFIRM: break;
    case DIALOG_PAGE:
        inside = (PAGE_W < ui->w - 4 ? PAGE_W : ui->w - 4) - 4;
        return centred(ui, PAGE_W, (int)page_lines(d->text, inside) + 2);
    }
    inside = canvas_columns(d->title) + 4;
    return centred(ui, inside < 40 ? 40 : inside, 5);
}

/* Rows of a list or page that are seen at once. */
static size_t rows_of(const struct ui *ui, const struct dialog *d)
{
    struct rect r = dialog_rect(ui, d);
    int rows = r.h - (d->kind == DIALOG_PICK ? 4 : 2);

    return rows > 0 ? (size_t)rows : 1;
}

static size_t page_rows(const struct ui *ui, const struct dialog *d)
{
    return page_lines(d->text, dialog_rect(ui, d).w - 4);
}

/* --- events ----------------------------------------------------------------------------------
 */

static size_t moved(size_t at, size_t n, long by)
{
    long long to = (long long)at + by;

    return n == 0 || to < 0 ? 0 : to >= (long long)n ? n - 1 : (size_t)to;
}

/* By how much a key moves in a list; 0: it does not. */
static long step_of(uint32_t key, long page)
{
    switch (key) {
    case KEY_UP_ARROW: return -1;
    case KEY_DOWN_ARROW: return 1;
    case KEY_PAGE_UP: return -page;
    case KEY_PAGE_DOWN: return page;
    default: return 0;
    }
}

static void keep_seen(const struct ui *ui, struct dialog *d)
{
    size_t rows = rows_of(ui, d);

    if (d->at < d->top)
        d->top = d->at;
    if (d->at >= d->top + rows)
        d->top = d->at - rows + 1;
}

static void pick_key(struct ui *ui, struct dialog *d, uint32_t key)
{
    long step = step_of(key, (long)rows_of(ui, d));

    if (step)
        d->at = moved(d->at, d->n_shown, step);
    else if (key == KEY_HOME_KEY)
        d->at = 0;
    else if (key == KEY_END_KEY)
        d->at = d->n_shown ? d->n_shown - 1 : 0;
    else if (key == 13 && d->n_shown)
        answer(ui, d->items[d->shown[d->at]]);
    else if (line_key(&d->line, key))
        narrow(d);
}

static void page_scroll(const struct ui *ui, struct dialog *d, long by)
{
    size_t n = page_rows(ui, d), rows = rows_of(ui, d);

    d->top = moved(d->top, n > rows ? n - rows + 1 : 1, by);
}

static void page_key(struct ui *ui, struct dialog *d, uint32_t key)
{
    long page = (long)rows_of(ui, d), step;

    switch (keys_action(key, "page")) {
    case ACT_UP: step = -1; break;
    case ACT_DOWN: step = 1; break;
    case ACT_PAGE_UP: step = -page; break;
    case ACT_PAGE_DOWN: step = page; break;
    case ACT_FIRST: step = -1000000; break;
    case ACT_LAST: step = 1000000; break;
    case ACT_HELP:
    case ACT_QUIT:
    case ACT_OPEN: close_top(ui); return;
    default: step = key == ' ' ? page : 0; break;
    }
    page_scroll(ui, d, step);
}

static void key_event(struct ui *ui, struct dialog *d, uint32_t key)
{
    if (key == 27) {
        close_top(ui);
        return;
    }
    switch (d->kind) {
    case DIALOG_PICK: pick_key(ui, d, key); break;
    case DIALOG_ASK:
        if (key == 13)
            answer(ui, d->line.text);
        else
            line_key(&d->line, key);
        break;
    case DIALOG_CONFIRM:
        if (key == 'y' || key == 'Y')
            answer(ui, "y");
        else if (key == 'n' || key == 'N' || key == 'q' || key == 13)
            close_top(ui);
        break;
    case DIALOG_PAGE: page_key(ui, d, key); break;
    }
}

static void wheel(struct ui *ui, struct dialog *d, bool up)
{
    if (d->kind == DIALOG_PICK)
        d->at = moved(d->at, d->n_shown, up ? -WHEEL_ROWS : WHEEL_ROWS);
    else if (d->kind == DIALOG_PAGE)
        page_scroll(ui, d, up ? -WHEEL_ROWS : WHEEL_ROWS);
}

/* Outside closes; in a list the first click goes there, the second takes it. */
static void press(struct ui *ui, struct dialog *d, const struct event *e)
{
    struct rect r = dialog_rect(ui, d);
    size_t row;

    if (e->x < r.x || e->x >= r.x + r.w || e->y < r.y || e->y >= r.y + r.h) {
        close_top(ui);
        return;
    }
    if (d->kind == DIALOG_CONFIRM && e->y == r.y + 3 && e->x < r.x + r.w / 2)
        answer(ui, "y");
    else if (d->kind == DIALOG_CONFIRM && e->y == r.y + 3)
        close_top(ui);
    if (d->kind != DIALOG_PICK || e->y < r.y + 3 || e->y >= r.y + r.h - 1)
        return;
    row = d->top + (size_t)(e->y - r.y - 3);
    if (row >= d->n_shown)
        return;
    if (row == d->at || e->button == MOUSE_DOUBLE)
        answer(ui, d->items[d->shown[row]]);
    else
        d->at = row;
}

void dialog_event(struct ui *ui, const struct event *e)
{
    struct dialog *d = &ui->dialogs[ui->n_dialogs - 1];
    size_t n = ui->n_dialogs;

    if (e->kind == EVENT_KEY)
        key_event(ui, d, e->key);
    else if (e->button == MOUSE_WHEEL_UP || e->button == MOUSE_WHEEL_DOWN)
        wheel(ui, d, e->button == MOUSE_WHEEL_UP);
    else
        press(ui, d, e);
    if (ui->n_dialogs == n && d->kind == DIALOG_PICK)
        keep_seen(ui, d);
}

/* --- drawing ---------------------------------------------------------------------------------
 */

const char *dialog_keys(const struct dialog *d)
{
    switch (d->kind) {
    case DIALOG_PICK: return "type to narrow   Up Down move   Enter choose   Esc leave";
    case DIALOG_ASK: return "Enter take it   Ctrl-U empty   Esc leave";
    case DIALOG_CONFIRM: return "y yes   n no   Esc leave";
    case DIALOG_PAGE: break;
    }
    return "Up Down PgUp PgDn scroll   Esc close";
}

/* The length of the line that starts at *text and has at most w columns, broken at a blank
 * where there is one; *text goes on to the next line. */
static size_t wrapped(const char **text, int w)
{
    size_t n = strcspn(*text, "\n"), fit = 0, blank = 0;
    int columns = 0;

    w = w > 1 ? w : 1;
    while (fit < n) {
        size_t len = 1;
        char one[5] = {0};
        while (fit + len < n && len < 4 && ((*text)[fit + len] & 0xc0) == 0x80)
            len++;
        memcpy(one, *text + fit, len);
        columns += canvas_columns(one);
        if (columns > w && fit > 0)
            break;
        if ((*text)[fit] == ' ')
            blank = fit;
        fit += len;
    }
    if (fit == n) {
        *text += n + ((*text)[n] == '\n');
        return n;
    }
    n = blank ? blank : fit;
    *text += n + ((*text)[n] == ' ');
    return n;
}

static void view_page(const struct ui *ui, const struct dialog *d, struct canvas *c,
                      struct rect in)
{
    struct rect r = {in.x + 1, in.y, in.w - 2, in.h};
    const char *p = d->text;
    size_t rows = rows_of(ui, d), n = 0;

    for (; *p && n < d->top + rows; n++) {
        const char *line = p;
        size_t len = wrapped(&p, r.w);
        if (n >= d->top)
            canvas_textf(c, r, 0, (int)(n - d->top), ST_PLAIN, "%.*s", (int)len, line);
    }
    if (*p || d->top) /* there is more than is seen */
        canvas_textf(c, (struct rect){in.x, in.y + in.h, in.w, 1}, in.w - 12, 0, ST_DIM,
                     " %s %s ", d->top ? "\u2191" : " ", *p ? "\u2193 more" : "end");
}

static void view_pick(const struct dialog *d, struct canvas *c, struct rect in)
{
    struct rect list = {in.x, in.y + 2, in.w, in.h - 2};
    int note_x = 0;

    canvas_text(c, in, 1, 0, ST_KEY, ">");
    canvas_textf(c, in, 1, 1, ST_DIM, "%zu of %zu", d->n_shown, d->n);
    for (size_t i = 0; i < d->n; i++) {
        int w = canvas_columns(d->items[i]);
        note_x = w > note_x ? w : note_x;
    }
    note_x = note_x + 3 < in.w * 3 / 5 ? note_x + 3 : in.w * 3 / 5;
    for (int y = 0; y < list.h && d->top + (size_t)y < d->n_shown; y++) {
        size_t i = d->shown[d->top + (size_t)y];
        bool here = d->top + (size_t)y == d->at;
        struct rect row = {list.x, list.y + y, list.w, 1};

        canvas_text(c, row, 0, 0, ST_KEY, here ? ">" : " ");
        canvas_text(c, (struct rect){row.x, row.y, d->notes ? note_x - 1 : row.w, 1}, 1, 0,
                    ST_VALUE, d->items[i]);
        if (d->notes && d->notes[i])
            canvas_text(c, row, note_x, 0, ST_DIM, d->notes[i]);
        if (here)
            canvas_restyle(c, row, ST_SELECT);
    }
    line_view(&d->line, c, (struct rect){in.x + 3, in.y, in.w - 4, 1}, ST_EDIT);
}

void dialog_view(const struct ui *ui, const struct dialog *d, struct canvas *c)
{
    struct rect r = dialog_rect(ui, d), in;
    bool question = d->kind == DIALOG_CONFIRM;

    canvas_fill(c, r, ST_PLAIN, ' ');
    in = canvas_box(c, r, question ? "" : d->title, ST_BORDER);
    c->cursor_x = c->cursor_y = -1;
    switch (d->kind) {
    case DIALOG_PICK: view_pick(d, c, in); break;
    case DIALOG_ASK:
        canvas_text(c, in, 1, 1, ST_DIM, d->text);
        line_view(&d->line, c, (struct rect){in.x + 1, in.y, in.w - 2, 1}, ST_EDIT);
        break;
    case DIALOG_CONFIRM:
        canvas_text(c, in, 1, 0, ST_VALUE, d->title);
        canvas_text(c, in, 2, 2, ST_KEY, "[y] Yes");
        canvas_text(c, in, in.w / 2 + 2, 2, ST_KEY, "[n] No");
        break;
    case DIALOG_PAGE: view_page(ui, d, c, in); break;
    }
}
