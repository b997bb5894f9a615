/* The lines around a screen: on top what is planned and the tabs, below the message and the
 * keys. Tabs and footer are lists of buttons, so that they can be clicked as they are drawn. */
#include <string.h>

#include "tui/ui_parts.h"

enum { GPUS_LEAST = 12 }; /* columns of what stands behind the model's name */

static const char tab_keys[] = "1 2 3 4 5 6 7 8 9";

/* Tabs stand at the right end; the shown one has brackets in place of its number. */
size_t ui_tabs(const struct ui *ui, struct button *out)
{
    size_t n = 0;
    int x = ui->w + 1;

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

        if (here)
            canvas_textf(c, top, b[i].x, 0, ST_SELECT, "[%s]", b[i].label);
        else
            canvas_textf(c, top, b[i].x, 0, ST_LABEL, "%.1s %s", b[i].key, b[i].label);
    }
}

static void view_cut(struct canvas *c, struct rect r, int x, enum style s, const char *text)
{
    canvas_more(c, r, x + canvas_text(c, r, x, 0, s, text), 0, s);
}

struct subject {
    char model[160], gpus[160], rest[64];
};

static void name_subject(const struct session *s, struct subject *out)
{
    const struct problem *p = &s->problem;
    const char *slash = strrchr(p->model.name, '/');
    char count[32] = "";

    if (p->gpus > 1)
        snprintf(count, sizeof count, "%lu x ", (unsigned long)p->gpus);
    snprintf(out->model, sizeof out->model, "%s%s", s->unsaved ? "*" : "",
             slash ? slash + 1 : p->model.name);
    snprintf(out->gpus, sizeof out->gpus, " on %s%s", count,
             p->gpu_named && p->gpu.name ? p->gpu.name : "memory alone");
    snprintf(out->rest, sizeof out->rest, ", %s", p->engine->name);
}

/* "Llama-3.1-8B on 2 x h100, vllm"; a star while there are edits that are not saved. Where
 * there is little room the model's name is cut, so that the GPUs are seen. */
static void view_subject(const struct ui *ui, struct canvas *c, int w)
{
    struct subject s = {.model = "nothing planned yet"};
    enum style style = ui->session->ok ? ST_VALUE : ST_WARN;
    int x = 0, model, gpus, rest;

    if (ui->session->planned)
        name_subject(ui->session, &s);
    model = canvas_columns(s.model);
    gpus = canvas_columns(s.gpus);
    rest = canvas_columns(s.rest);
    if (w >= model + gpus + rest + 10)
        x = canvas_text(c, (struct rect){0, 0, w, 1}, 0, 0, ST_TITLE, "kvbudget") + 2;
    if (model > w - GPUS_LEAST && model > w - gpus)
        model = w - (gpus < GPUS_LEAST ? gpus : GPUS_LEAST);
    view_cut(c, (struct rect){x, 0, model, 1}, 0, style, s.model);
    view_cut(c, (struct rect){0, 0, w, 1}, x + model, style, s.gpus);
    if (w >= x + model + gpus + rest)
        canvas_text(c, (struct rect){0, 0, w, 1}, x + model + gpus, 0, style, s.rest);
}

/* --- the footer ------------------------------------------------------------------------------
 */

/* Whether a row can do anything on the screen shown. */
static bool useful(const struct ui *ui, const struct key_row *r)
{
    return r->label && ui->n_screens && keys_for(r, ui_screen(ui));
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

    view_subject(ui, c, n ? b[n - 1].x - 1 : ui->w);
    view_tabs(ui, c, b, n);
    view_message(ui, c);
    view_footer(ui, c);
}
