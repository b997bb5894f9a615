/* tui - the interactive planner; with --dump the same without a terminal: keys from a file, the
 * last frame as text. A dump knows no clock, no GPU and no earlier visit. */
#include "planner/cmd.h"

#include <string.h>
#include <unistd.h>

#include "planner/base/file.h"
#include "tui/check_file.h"
#include "tui/loop.h"
#include "tui/player.h"
#include "tui/statefile.h"
#include "tui/ui_loop.h"

static int run(struct cmd_ctx *ctx);

enum {
    OWN_TRACE,
    OWN_TRACE_FORMAT,
    OWN_VALIDATION,
    OWN_ASCII,
    OWN_MONO,
    OWN_THEME,
    OWN_DUMP,
    OWN_SIZE,
    OWN_KEYS
};

static const struct cmd_option own[] = {
    [OWN_TRACE] = {"trace", "FILE", "requests for the Run screen"},
    [OWN_TRACE_FORMAT] = {"trace-format", "FORMAT", "of that file, where it does not show"},
    [OWN_VALIDATION] = {"validation", "FILE", "results of `validate` for the Check screen"},
    [OWN_ASCII] = {"ascii", NULL, "no characters but ASCII"},
    [OWN_MONO] = {"mono", NULL, "no colours"},
    [OWN_THEME] = {"theme", "THEME", "default, light, high-contrast or mono"},
    [OWN_DUMP] = {"dump", NULL, "no terminal: play --keys and print the last frame as text"},
    [OWN_SIZE] = {"size", "WxH", "columns and rows for --dump (80x24)"},
    [OWN_KEYS] = {"keys", "FILE", "what is typed, for --dump: names of keys, \"text\""},
    {NULL, NULL, NULL},
};

const struct command command_tui = {
    .name = "tui",
    .summary = "the interactive planner: turn every knob and see what fits",
    .usage = "tui [SPEC.yaml | -m MODEL -g GPU [-n COUNT] [-c CONTEXT]] [--set KEY=VALUE]... "
             "[--dump --size WxH --keys FILE]",
    .run = run,
    .options = CMD_SPEC,
    .own = own,
};

struct start { /* what the program starts with */
    struct session session;
    struct ui_options ui;
    struct visit visit;
    const char *folder, *message;
};

static bool usage(struct cmd_ctx *ctx, const char *text)
{
    return diag_add(ctx->diag, DIAG_USAGE, (struct loc){0}, "%s", text);
}

static bool check(struct cmd_ctx *ctx, const struct cmd_options *opt)
{
    const char *theme = opt->own[OWN_THEME], *size = opt->own[OWN_SIZE];
    bool to_dump = opt->own[OWN_DUMP];
    int w, h;

    if (opt->n_specs > 1)
        return usage(ctx, "tui takes one spec");
    if (theme && !theme_find(theme))
        return diag_add(ctx->diag, DIAG_USAGE, (struct loc){0},
                        "--theme is default, light, high-contrast or mono, found '%s'", theme);
    if (size && !player_size(size, &w, &h))
        return diag_add(ctx->diag, DIAG_USAGE, (struct loc){0},
                        "--size is columns x rows such as 100x30, found '%s'", size);
    if ((size || opt->own[OWN_KEYS]) && !to_dump)
        return usage(ctx, "--size and --keys belong to --dump");
    if (!to_dump && (isatty(fileno(ctx->in)) != 1 || !ctx->out_is_terminal))
        return usage(ctx, "tui needs a terminal for its input and output; `kvbudget report` "
                          "prints the plan, `kvbudget tui --dump` a screen");
    return true;
}

/* The spec asked for. Without one: that of the last visit, else the blank start. */
static bool open_session(struct cmd_ctx *ctx, const struct cmd_options *opt, struct start *s)
{
    const char *path = opt->n_specs ? opt->specs[0] : NULL, *why = "";
    struct profiles *profiles = profiles_open(ctx->arena, opt->profiles, ctx->diag);
    struct doc_node **docs = NULL;
    size_t n = 0;

    if (path || opt->model) {
        if (!cmd_read_specs(ctx, opt, path, &docs, &n))
            return false;
        if (n > 1)
            return usage(ctx, "tui takes one spec, and this file has several");
        if (path && !strcmp(path, "-"))
            path = NULL;
    }
    session_init(&s->session, ctx->arena, profiles, n ? docs[0] : NULL, path);
    if (n)
        return true;
    if (s->visit.path && !session_load(&s->session, s->visit.path, &why))
        s->message = arena_printf(ctx->arena, "the spec of the last visit: %s", why);
    if (s->visit.edits) {
        statefile_lay_edits(&s->session, s->visit.edits);
        s->message = "the last visit was cut off; its edits are here, and not saved";
    }
    for (size_t i = 0; i < opt->n_sets; i++) {
        const char *eq = strchr(opt->sets[i], '=');
        const char *key = arena_strndup(ctx->arena, opt->sets[i], (size_t)(eq - opt->sets[i]));
        if (!session_set(&s->session, key, eq + 1, &why))
            return diag_add(ctx->diag, DIAG_USAGE, (struct loc){0}, "%s", why);
    }
    return true;
}

static void greet(const struct start *s, struct ui *ui)
{
    if (s->message)
        ui_say(ui, ST_WARN, "%s", s->message);
    else
        ui_say(ui, ST_DIM, "F1 lists the keys, : takes commands, q quits");
}

static bool dump(struct cmd_ctx *ctx, const struct cmd_options *opt, struct start *s)
{
    struct event size = {.kind = EVENT_RESIZE, .x = 80, .y = 24};
    struct canvas c;
    struct ui *ui;
    char *text = arena_strdup(ctx->arena, "");
    size_t n;
    bool ok;

    if (opt->own[OWN_KEYS] &&
        !file_read(ctx->arena, opt->own[OWN_KEYS], DOC_FILE_MAX, ctx->diag, &text, &n))
        return false;
    if (opt->own[OWN_SIZE] && !player_size(opt->own[OWN_SIZE], &size.x, &size.y))
        return false;
    ui = ui_new(ctx->arena, &s->session, &s->ui);
    canvas_init(&c, ctx->arena, s->ui.ascii);
    greet(s, ui);
    ui_event(ui, &size);
    ok = player_play(ui, &c, opt->own[OWN_KEYS] ? opt->own[OWN_KEYS] : "", text, ctx->diag);
    if (ok)
        canvas_dump(&c, ctx->out);
    ui_free(ui);
    return ok;
}

static bool interact(struct cmd_ctx *ctx, struct start *s)
{
    const char *why = "";
    struct terminal *t = term_open(ctx->arena, ctx->in, ctx->out, &why);
    struct ui *ui;

    if (!t)
        return diag_add(ctx->diag, DIAG_USAGE, (struct loc){0},
                        "%s; `kvbudget report` prints the plan", why);
    s->ui.ascii = s->ui.ascii || !term_is_utf8(t);
    ui = ui_new(ctx->arena, &s->session, &s->ui);
    if (s->visit.ascii)
        ui_set_ascii(ui);
    greet(s, ui);
    loop_run(ctx->arena, ui, t, s->folder, ctx->diag);
    ui_free(ui);
    return true;
}

static int run(struct cmd_ctx *ctx)
{
    struct cmd_options opt;
    struct start s = {0};
    bool ok;

    if (!cmd_options(ctx, &command_tui, &opt))
        return diag_exit(ctx->diag);
    if (opt.help)
        return 0;
    if (!check(ctx, &opt))
        return diag_exit(ctx->diag);
    if (!opt.own[OWN_DUMP] && (s.folder = statefile_folder(ctx->arena)))
        statefile_read(ctx->arena, s.folder, &s.visit, &s.message);
    s.ui = (struct ui_options){.ascii = opt.own[OWN_ASCII] != NULL,
                               .mono = opt.own[OWN_MONO] || opt.color == COLOR_NEVER ||
                                       (!opt.own[OWN_DUMP] && !cmd_wants_color(ctx, &opt)),
                               .theme = opt.own[OWN_THEME] ? opt.own[OWN_THEME] : s.visit.theme,
                               .trace = opt.own[OWN_TRACE],
                               .trace_format = opt.own[OWN_TRACE_FORMAT],
                               .validation = opt.own[OWN_VALIDATION],
                               .screen = s.visit.screen};
    if (!s.ui.validation && s.folder)
        s.ui.validation = check_newest(ctx->arena, s.folder);
    if (!open_session(ctx, &opt, &s)) {
        session_free(&s.session);
        cmd_diagnostics(ctx, &opt);
        return diag_exit(ctx->diag);
    }
    ok = opt.own[OWN_DUMP] ? dump(ctx, &opt, &s) : interact(ctx, &s);
    session_free(&s.session);
    (void)ok;
    return diag_exit(ctx->diag);
}
