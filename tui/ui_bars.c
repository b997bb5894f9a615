/* The lines around a screen: on top what is planned and the tabs, below the message and the
 * keys. Tabs and footer are lists of buttons, so that they can be clicked as they are drawn. */
#include <string.h>

#include "tui/ui_parts.h"

static const char tab_keys[] = "1 2 3 4 5 6 7 8 9";

/* Tabs stand at the right end, one column between them for the brackets of the shown one. */
size_t ui_tabs(const struct ui *ui, struct button *out)
{
    size_t n = 0;
    int x = ui->w;

    for (size_t left = ui->n_screens; left > 0 && n < UI_BUTTONS_MAX; left--) {
        size_t i = left - 1;
        const struct screen *s = ui->screens[i].type;
        int w = 2 + canvas_columns(s->title);

        if (s->order < 1 || s->order > 9 || !ui_present(ui, i))
            continue;
        x -= w + 1;
        out[n++] = (struct button){x, w, (enum action)(ACT_SCREEN_1 + s->order - 1),
                                   tab_keys + 2 * (s->order - 1), s->title};
    }
    return n;
}

static void view_tabs(const struct ui *ui, struct canvas *c, const struct button *b, size_t n)
{
    struct rect top = {0, 0, ui->w, 1};
    int shown = ui->n_screens ? ui->screens[ui->at].type->order : 0;

    for (size_t i = 0; i < n; i++) {
        bool here = (int)b[i].action == ACT_SCREEN_1 + shown - 1;
        enum style s = here ? ST_SELECT : ST_LABEL;

        canvas_textf(c, top, b[i].x, 0, s, "%.1s %s", b[i].key, b[i].label);
        if (here) {
            canvas_put(c, top, b[i].x - 1, 0, s, '[');
            canvas_put(c, top, b[i].x + b[i].w, 0, s, ']');
        }
    }
}

/* Cuts a text to `w` columns, the last one a sign that more follows. */
static void view_cut(struct canvas *c, struct rect r, int x, enum style s, const char *text)
{
    int room = r.w - x;

    if (room < 1)
        return;
    canvas_text(c, r, x, 0, s, text);
    if (canvas_columns(text) > room)
        canvas_put(c, r, r.w - 1, 0, s, 0x2026);
}

/* "Llama-3.1-8B on 2 x h100, vllm"; a star while there are edits that are not saved. */
static void view_subject(const struct ui *ui, struct canvas *c, int w)
{
    const struct session *s = ui->session;
    const struct problem *p = &s->problem;
    struct rect r = {0, 0, w, 1};
    char text[512] = "nothing planned yet", count[32] = "";
    int x = 0;

    if (s->planned) {
        const char *slash = strrchr(p->model.name, '/');
        const char *gpu = p->gpu_named && p->gpu.name ? p->gpu.name : "memory alone";
        if (p->gpus > 1)
            snprintf(count, sizeof count, "%lu x ", (unsigned long)p->gpus);
        snprintf(text, sizeof text, "%s%s on %s%s, %s", s->unsaved ? "*" : "",
                 slash ? slash + 1 : p->model.name, count, gpu, p->engine->name);
    }
    if (w >= canvas_columns(text) + 10)
        x = canvas_text(c, r, 0, 0, ST_TITLE, "kvbudget") + 2;
    view_cut(c, r, x, s->ok ? ST_VALUE : ST_WARN, text);
}

/* --- the footer ------------------------------------------------------------------------------
 */

/* Whether a row can do anything on the screen shown. */
static bool useful(const struct ui *ui, const struct key_row *r)
{
    const struct screen *s = ui->n_screens ? ui->screens[ui->at].type : NULL;

    if (!r->label || !s || !keys_for(r, s->id))
        return false;
    if (r->action == ACT_SEARCH)
        return s->rows && s->row_text && s->select;
    if (r->action == ACT_FILTER)
        return s->filter;
    return true;
}

static int button_columns(const struct key_row *r)
{
    return (int)strcspn(r->keys, " ") + 1 + canvas_columns(r->label);
}

/* From the left as the table has them, while there is room beside Quit at the right end. */
size_t ui_footer(const struct ui *ui, struct button *out)
{
    size_t n = 0;
    int x = 0, end = ui->w;

    if (ui->n_dialogs || ui->prompt.kind)
        return 0;
    for (size_t i = 0; keys_at(i); i++) {
        const struct key_row *r = keys_at(i);
        if (r->action == ACT_QUIT && useful(ui, r)) {
            end -= button_columns(r);
            out[n++] = (struct button){end, ui->w - end, r->action, r->keys, r->label};
        }
    }
    for (size_t i = 0; keys_at(i) && n < UI_BUTTONS_MAX; i++) {
        const struct key_row *r = keys_at(i);
        int w;
        if (r->action == ACT_QUIT || !useful(ui, r))
            continue;
        w = button_columns(r);
        if (x + w + 2 > end)
            break;
        out[n++] = (struct button){x, w, r->action, r->keys, r->label};
        x += w + 2;
    }
    return n;
}

static void view_footer(const struct ui *ui, struct canvas *c)
{
    struct rect line = {0, ui->h - 1, ui->w, 1};
    struct button b[UI_BUTTONS_MAX];
    size_t n = ui_footer(ui, b);

    if (ui->prompt.kind)
        canvas_text(c, line, 0, 0, ST_DIM,
                    ui->prompt.kind == PROMPT_COMMAND
                        ? "Tab complete   Up Down history   Enter do it   Esc leave"
                        : "Enter keep   Esc leave");
    else if (ui->n_dialogs)
        canvas_text(c, line, 0, 0, ST_DIM, dialog_keys(&ui->dialogs[ui->n_dialogs - 1]));
    for (size_t i = 0; i < n; i++) {
        int k = (int)strcspn(b[i].key, " ");

        canvas_textf(c, line, b[i].x, 0, ST_KEY, "%.*s", k, b[i].key);
        canvas_text(c, line, b[i].x + k + 1, 0, ST_LABEL, b[i].label);
    }
}

/* What was said last; else the filter in force; else the GPU of this machine. */
static void view_message(const struct ui *ui, struct canvas *c)
{
    struct rect line = {0, ui->h - 2, ui->w, 1};
    const char *filter = ui->n_screens ? ui->screens[ui->at].filter : "";

    if (ui->said[0])
        view_cut(c, line, 0, ui->said_style, ui->said);
    else if (*filter)
        canvas_textf(c, line, 0, 0, ST_WARN, "only rows with '%s'; Esc shows all", filter);
    else if (ui_wants_machine(ui))
        view_cut(c, line, 0, ST_DIM, ui->machine);
}

void ui_view_bars(const struct ui *ui, struct canvas *c)
{
    struct button b[UI_BUTTONS_MAX];
    size_t n = ui_tabs(ui, b);

    view_subject(ui, c, n ? b[n - 1].x - 2 : ui->w);
    view_tabs(ui, c, b, n);
    view_message(ui, c);
    view_footer(ui, c);
}
