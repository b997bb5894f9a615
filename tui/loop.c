/* Wait, change, draw; and what the ui wishes from outside. Events that have arrived already are
 * taken together, so that pasted text is drawn once. */
#include "tui/loop.h"

#include "tui/gpu_live.h"
#include "tui/statefile.h"
#include "tui/ui_loop.h"

static const double BURST_S = 0.02; /* events are taken together for at most so long */

struct loop {
    struct ui *ui;
    struct terminal *term;
    const char *folder;
    struct gpu_live gpu;
    bool over, ended; /* ended: from outside, so edits are kept */
};

static void copy(struct loop *l)
{
    struct arena *a = arena_new();
    struct diag *d = diag_new(a);
    const char *text = ui_clipboard(l->ui);
    bool sent = term_copy(l->term, text);
    const char *path = l->folder ? statefile_put(a, l->folder, "copied.txt", text, d) : NULL;

    if (path)
        ui_say(l->ui, ST_OK, sent ? "copied to the clipboard, and to %s" : "copied to %s",
               path);
    else if (!sent)
        ui_say(l->ui, ST_BAD, "not copied: %s",
               diag_count(d) ? diag_at(d, 0)->text : "there is no state folder");
    arena_free(a);
}

static void perform(struct loop *l, enum wish w)
{
    switch (w) {
    case WISH_NONE: break;
    case WISH_QUIT: l->over = true; break;
    case WISH_COPY: copy(l); break;
    case WISH_REDRAW: term_redraw(l->term); break;
    case WISH_SUSPEND: term_suspend(l->term); break;
    }
}

/* The sooner of what the ui and the GPU wait for; < 0 never. */
static double timeout(const struct loop *l, double now_s)
{
    double ui_s = ui_deadline(l->ui, now_s), gpu_s = -1;

    if (ui_wants_machine(l->ui))
        gpu_s = gpu_live_deadline(&l->gpu, now_s);
    if (ui_s < 0 || (gpu_s >= 0 && gpu_s < ui_s))
        return gpu_s;
    return ui_s;
}

static void take(struct loop *l, const struct event *e)
{
    l->ended = l->ended || e->kind == EVENT_END;
    perform(l, ui_event(l->ui, e));
    if (e->kind == EVENT_TICK && ui_wants_machine(l->ui) && gpu_live_read(&l->gpu, e->now_s))
        ui_set_machine(l->ui, l->gpu.line);
}

/* One event, and those that came with it. */
static void take_some(struct loop *l, double wait_s)
{
    double end_s = term_now_s() + (wait_s > 0 ? wait_s : 0) + BURST_S;
    struct event e;

    term_wait(l->term, wait_s, &e);
    take(l, &e);
    while (!l->over && e.kind != EVENT_TICK && term_now_s() < end_s) {
        term_wait(l->term, 0, &e);
        if (e.kind != EVENT_TICK)
            take(l, &e);
    }
}

static void keep_state(const struct loop *l, struct arena *a, struct diag *d)
{
    const struct session *s = ui_plan(l->ui);
    struct visit v = {.theme = ui_theme_chosen(l->ui),
                      .screen = ui_screen(l->ui),
                      .ascii = ui_ascii_chosen(l->ui),
                      .path = s->path};

    if (l->ended && s->unsaved)
        v.edits = session_yaml(s, a);
    if (l->folder && !statefile_write(a, l->folder, &v, d))
        return;
}

void loop_run(struct arena *a, struct ui *ui, struct terminal *t, const char *folder,
              struct diag *d)
{
    struct loop l = {.ui = ui, .term = t, .folder = folder};
    struct canvas c;

    canvas_init(&c, a, ui_ascii(ui));
    take_some(&l, 0); /* the size comes first */
    while (!l.over) {
        ui_view(ui, &c);
        term_show(t, &c, ui_theme(ui));
        take_some(&l, timeout(&l, term_now_s()));
    }
    term_close(t);
    gpu_live_close(&l.gpu);
    keep_state(&l, a, d);
}
