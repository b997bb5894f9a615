/* The line at the bottom that is typed into: commands, search and filter. Search and filter act
 * while one types; Esc puts things back as they were. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "tui/ui_parts.h"

enum { OFFERS_SEEN = 10 };

static void offer(struct ui *ui)
{
    struct prompt *p = &ui->prompt;

    p->offers = (struct completion){0};
    p->offer = SIZE_MAX;
    p->typed_to = p->line.at;
    if (p->kind == PROMPT_COMMAND)
        command_complete(ui, p->line.text, p->line.at, &p->offers);
}

void prompt_open(struct ui *ui, enum prompt_kind kind)
{
    const struct ui_screen *s = ui_active(ui);

    ui->prompt.kind = kind;
    line_set(&ui->prompt.line, kind == PROMPT_FILTER && s ? s->filter : "");
    ui->prompt.history = ui->n_history;
    ui->prompt.origin = s && s->type->selected ? s->type->selected(ui, s->state) : -1;
    offer(ui);
}

/* --- search and filter -----------------------------------------------------------------------
 */

static bool row_has(const struct ui *ui, const struct ui_screen *s, int row)
{
    const char *text = s->type->row_text(ui, s->state, row);
    size_t n = strlen(ui->search);

    for (; text && *text; text++)
        if (!strncasecmp(text, ui->search, n))
            return true;
    return false;
}

/* Goes to the first row from `from` on, round the end, that has the text searched for. */
void search_next(struct ui *ui, int from)
{
    struct ui_screen *s = ui_active(ui);
    int n = s->type->rows(ui, s->state);

    for (int i = 0; i < n; i++) {
        int row = (int)(((long long)(from > 0 ? from : 0) + i) % n);
        if (row_has(ui, s, row)) {
            s->type->select(ui, s->state, row);
            return;
        }
    }
    ui_say(ui, ST_WARN, "no row has '%s'", ui->search);
}

static void set_filter(struct ui *ui, const char *text)
{
    struct ui_screen *s = ui_active(ui);

    snprintf(s->filter, sizeof s->filter, "%s", text);
    s->type->filter(ui, s->state, s->filter);
}

static void typed(struct ui *ui)
{
    struct prompt *p = &ui->prompt;

    if (p->kind == PROMPT_SEARCH && p->line.n) {
        snprintf(ui->search, sizeof ui->search, "%s", p->line.text);
        search_next(ui, p->origin);
    } else if (p->kind == PROMPT_FILTER) {
        set_filter(ui, p->line.text);
    }
    offer(ui);
}

static void put_back(struct ui *ui)
{
    struct ui_screen *s = ui_active(ui);
    enum prompt_kind kind = ui->prompt.kind;

    ui->prompt.kind = PROMPT_NONE;
    if (kind == PROMPT_FILTER)
        set_filter(ui, "");
    if (kind == PROMPT_SEARCH && ui->prompt.origin >= 0)
        s->type->select(ui, s->state, ui->prompt.origin);
}

/* --- commands --------------------------------------------------------------------------------
 */

static void remember(struct ui *ui, const char *line)
{
    if (ui->n_history && !strcmp(ui->history[ui->n_history - 1], line))
        return;
    if (ui->n_history == UI_HISTORY)
        memmove(ui->history, ui->history + 1, sizeof *ui->history * --ui->n_history);
    snprintf(ui->history[ui->n_history++], sizeof *ui->history, "%s", line);
}

static void recall(struct ui *ui, bool older)
{
    struct prompt *p = &ui->prompt;

    if (older ? p->history == 0 : p->history >= ui->n_history)
        return;
    p->history = older ? p->history - 1 : p->history + 1;
    line_set(&p->line, p->history < ui->n_history ? ui->history[p->history] : "");
    offer(ui);
}

/* Tab goes through the offers, each in place of the word. */
static void complete(struct ui *ui, bool forward)
{
    struct prompt *p = &ui->prompt;
    size_t n = p->offers.n;

    if (n == 0)
        return;
    if (p->offer == SIZE_MAX)
        p->offer = forward ? 0 : n - 1;
    else
        p->offer = (p->offer + (forward ? 1 : n - 1)) % n;
    line_replace(&p->line, p->offers.from, p->typed_to, p->offers.items[p->offer]);
    p->typed_to = p->line.at;
    if (n == 1 && p->line.at == p->line.n) { /* nothing else to choose: on to the next word */
        line_replace(&p->line, p->line.at, p->line.at, " ");
        offer(ui);
    }
}

static void enter(struct ui *ui)
{
    struct prompt *p = &ui->prompt;
    enum prompt_kind kind = p->kind;
    char line[LINE_MAX_BYTES + 1];

    memcpy(line, p->line.text, p->line.n + 1);
    p->kind = PROMPT_NONE;
    if (kind != PROMPT_COMMAND || !*line)
        return;
    remember(ui, line);
    command_run(ui, line);
}

static void prompt_key(struct ui *ui, uint32_t key)
{
    bool command = ui->prompt.kind == PROMPT_COMMAND;

    if (key == 27)
        put_back(ui);
    else if (key == 13)
        enter(ui);
    else if (command && (key == 9 || key == KEY_BACK_TAB))
        complete(ui, key == 9);
    else if (command && (key == KEY_UP_ARROW || key == KEY_DOWN_ARROW))
        recall(ui, key == KEY_UP_ARROW);
    else if (key == 8 && ui->prompt.line.n == 0)
        put_back(ui);
    else if (line_key(&ui->prompt.line, key))
        typed(ui);
}

static size_t first_seen(const struct prompt *p)
{
    return p->offer != SIZE_MAX && p->offer >= OFFERS_SEEN ? p->offer - OFFERS_SEEN + 1 : 0;
}

void prompt_event(struct ui *ui, const struct event *e)
{
    struct prompt *p = &ui->prompt;
    size_t seen = p->offers.n < OFFERS_SEEN ? p->offers.n : OFFERS_SEEN;
    int row;

    if (e->kind == EVENT_KEY) {
        prompt_key(ui, e->key);
        return;
    }
    if (e->button != MOUSE_PRESS && e->button != MOUSE_DOUBLE)
        return;
    row = e->y - (ui->h - 2 - (int)seen);
    if (row < 0 || row > (int)seen) {
        put_back(ui);
    } else if (row < (int)seen) {
        p->offer = first_seen(p) + (size_t)row;
        line_replace(&p->line, p->offers.from, p->typed_to, p->offers.items[p->offer]);
        p->typed_to = p->line.at;
    }
}

/* --- drawing ---------------------------------------------------------------------------------
 */

static void view_offers(const struct ui *ui, struct canvas *c)
{
    const struct prompt *p = &ui->prompt;
    int seen = p->offers.n < OFFERS_SEEN ? (int)p->offers.n : OFFERS_SEEN, note_x = 18;
    struct rect r = {0, ui->h - 2 - seen, ui->w, seen};

    for (size_t i = first_seen(p), y = 0; y < (size_t)seen; i++, y++) {
        int w = canvas_columns(p->offers.items[i]) + 3;
        note_x = w > note_x ? w : note_x;
    }
    canvas_fill(c, r, ST_PLAIN, ' ');
    for (int y = 0; y < seen; y++) {
        size_t i = first_seen(p) + (size_t)y;
        struct rect row = {0, r.y + y, ui->w, 1};

        canvas_text(c, row, 0, 0, ST_KEY, i == p->offer ? ">" : " ");
        canvas_text(c, row, 1, 0, ST_VALUE, p->offers.items[i]);
        if (p->offers.notes[i])
            canvas_text(c, row, note_x, 0, ST_DIM, p->offers.notes[i]);
        if (i == p->offer)
            canvas_restyle(c, row, ST_SELECT);
        if (y == seen - 1 && p->offers.n > (size_t)seen)
            canvas_textf(c, row, ui->w - 10, 0, ST_DIM, " of %zu", p->offers.n);
    }
}

void prompt_view(const struct ui *ui, struct canvas *c)
{
    static const char *const signs[] = {"", ":", "/", "\\"};
    struct rect line = {0, ui->h - 2, ui->w, 1};

    view_offers(ui, c);
    canvas_fill(c, line, ST_PLAIN, ' ');
    canvas_text(c, line, 0, 0, ST_KEY, signs[ui->prompt.kind]);
    line_view(&ui->prompt.line, c, (struct rect){1, line.y, ui->w - 1, 1}, ST_PLAIN);
    if (ui->said[0] && ui->prompt.kind == PROMPT_SEARCH)
        canvas_right(c, line, ui->w, 0, ui->said_style, ui->said);
}
