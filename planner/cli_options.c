/* The options that commands share: one table, from which getopt's tables, the help texts and
 * the hints at misspelled options are made. A command takes the rows whose bits it names. */
#include "planner/cmd.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_HELP = 'h', OPT_VERSION = 'V', OPT_LONG = 256 };
enum {
    OPT_SET = OPT_LONG,
    OPT_FORMAT,
    OPT_PROFILES,
    OPT_SCHEMES,
    OPT_SORT,
    OPT_COLOR,
    OPT_LOCAL,
    OPT_FROM_LOG,
    OPT_OWN = 512 /* the first of a command's own */
};
enum { ROWS_MAX = 24, OWN_MAX = 48 };

struct option_row {
    int id; /* the letter, or one of OPT_* where there is none */
    const char *name, *arg;
    unsigned bits; /* any of these; 0: every command has it */
    const char *help;
};

static const struct option_row rows[] = {
    {OPT_SET, "set", "KEY=VALUE", CMD_SPEC, "replace a key of the spec; may be repeated"},
    {'m', "model", "MODEL", CMD_SPEC, "a model (and -g a GPU) in place of a spec"},
    {'g', "gpu", "GPU", CMD_SPEC, "a GPU, for -m"},
    {'n', "count", "COUNT", CMD_SPEC, "that many GPUs, for -m"},
    {'c', "context", "TOKENS", CMD_SPEC,
     "tokens of a sequence, for -m: min(512, half) are output, the rest prompt"},
    {OPT_FROM_LOG, "from-log", "FILE", CMD_LOG,
     "a server's command line or start-up log: its settings, and how it differs"},
    {OPT_SCHEMES, "schemes", "LIST", CMD_SCHEMES, "all, or names with commas between them"},
    {OPT_SORT, "sort", "COLUMN", CMD_SORT, "order the rows by a column"},
    {OPT_LOCAL, "local", NULL, CMD_LOCAL, "of GPUs: those of this machine"},
    {OPT_FORMAT, "format", "FORMAT", CMD_FORMAT | CMD_CSV, NULL},
    {'o', "output", "FILE", CMD_OUTPUT, "write to FILE, whole or not at all"},
    {OPT_PROFILES, "profiles", "DIR", CMD_SPEC | CMD_PROFILES,
     "look for models, GPUs and other profiles here first"},
    {OPT_COLOR, "color", "WHEN", 0, "auto, always or never; NO_COLOR is honoured"},
    {'q', "quiet", NULL, 0, "errors only"},
    {'v', "verbose", NULL, 0, "assumptions too; more detail"},
    {OPT_HELP, "help", NULL, 0, "this text"},
    {OPT_VERSION, "version", NULL, 0, "the program's version"},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

static const struct loc nowhere;

static unsigned bits_of(const struct command *cmd)
{
    return cmd->options ? cmd->options : ~0u;
}

static bool takes(const struct command *cmd, const struct option_row *r)
{
    return !r->bits || (bits_of(cmd) & r->bits);
}

static size_t own_options(const struct command *cmd)
{
    size_t n = 0;

    while (cmd->own && cmd->own[n].name)
        n++;
    return n;
}

/* --- help ----------------------------------------------------------------------------------
 */

static void print_keys(FILE *out)
{
    fputs("\nKeys of a spec (`kvbudget example` prints one with comments):\n", out);
    for (const struct spec_section *s = spec_sections(); s->name; s++) {
        if (*s->name)
            fprintf(out, "\n  %s:\n", s->name);
        for (size_t i = 0; i < s->nfields; i++)
            fprintf(out, "    %-20s %s%s%s%s\n", s->fields[i].key, s->fields[i].help,
                    s->fields[i].fallback ? " (" : "",
                    s->fields[i].fallback ? s->fields[i].fallback : "",
                    s->fields[i].fallback ? ")" : "");
    }
}

static const char *help_of(const struct command *cmd, const struct option_row *r)
{
    if (r->help)
        return r->help;
    return bits_of(cmd) & CMD_CSV ? "json, table or csv; a table on a terminal, else json"
                                  : "json or table; a table on a terminal, else json";
}

static void print_own(const struct command *cmd, FILE *out)
{
    for (size_t i = 0; i < own_options(cmd); i++) {
        const struct cmd_option *o = &cmd->own[i];
        char left[48];
        snprintf(left, sizeof left, "    --%s %s", o->name, o->arg ? o->arg : "");
        fprintf(out, "  %-24s %s\n", left, o->help);
    }
}

static void print_help(const struct command *cmd, FILE *out)
{
    fprintf(out, "usage: kvbudget %s\n%s\n\n", cmd->usage, cmd->summary);
    print_own(cmd, out);
    for (int i = 0; i < N_ROWS; i++) {
        char left[48];
        if (!takes(cmd, &rows[i]))
            continue;
        snprintf(left, sizeof left, "%c%c%c --%s %s", rows[i].id < OPT_LONG ? '-' : ' ',
                 rows[i].id < OPT_LONG ? (char)rows[i].id : ' ',
                 rows[i].id < OPT_LONG ? ',' : ' ', rows[i].name,
                 rows[i].arg ? rows[i].arg : "");
        fprintf(out, "  %-24s %s\n", left, help_of(cmd, &rows[i]));
    }
    if (cmd->options & CMD_SPEC)
        print_keys(out);
}

/* --- parsing ---------------------------------------------------------------------------------
 */

static const struct option_row *row_of(int id)
{
    for (int i = 0; i < N_ROWS; i++)
        if (rows[i].id == id)
            return &rows[i];
    return NULL;
}

static bool unknown_option(struct cmd_ctx *ctx, const struct command *cmd, const char *word)
{
    const char *names[N_ROWS + OWN_MAX], *near;
    size_t n = 0, len = strcspn(word, "=");
    char *asked = arena_strndup(ctx->arena, word, len);

    for (int i = 0; i < N_ROWS; i++)
        if (takes(cmd, &rows[i]))
            names[n++] = rows[i].name;
    for (size_t i = 0; i < own_options(cmd); i++)
        names[n++] = cmd->own[i].name;
    near = !strncmp(asked, "--", 2) ? doc_nearest(asked + 2, names, n) : NULL;
    if (near)
        return diag_add(ctx->diag, DIAG_USAGE, nowhere,
                        "%s has no option '%s'; did you mean '--%s'?", cmd->name, asked, near);
    return diag_add(ctx->diag, DIAG_USAGE, nowhere,
                    "%s has no option '%s'; kvbudget %s --help lists them", cmd->name, asked,
                    cmd->name);
}

static bool wrong_option(struct cmd_ctx *ctx, const struct command *cmd, int c)
{
    const struct option_row *r = row_of(optopt);
    const struct cmd_option *own = optopt >= OPT_OWN ? &cmd->own[optopt - OPT_OWN] : NULL;
    const char *name = own ? own->name : r ? r->name : "";

    if (c == ':' && (r || own))
        return diag_add(ctx->diag, DIAG_USAGE, nowhere, "option --%s needs a value: --%s %s",
                        name, name, own ? own->arg : r->arg);
    if (own || (optopt && r && takes(cmd, r)))
        return diag_add(ctx->diag, DIAG_USAGE, nowhere, "option --%s takes no value", name);
    if (optopt)
        return unknown_option(ctx, cmd, arena_printf(ctx->arena, "-%c", optopt));
    return unknown_option(ctx, cmd, ctx->argv[optind - 1]);
}

static bool take_color(struct cmd_ctx *ctx, const char *when, struct cmd_options *out)
{
    static const char *const words[] = {"auto", "always", "never"};

    for (int i = 0; i < 3; i++) {
        if (!strcmp(when, words[i])) {
            out->color = (enum color)i;
            return true;
        }
    }
    return diag_add(ctx->diag, DIAG_USAGE, nowhere,
                    "--color is auto, always or never, found '%s'", when);
}

static bool take_format(struct cmd_ctx *ctx, const struct command *cmd, struct cmd_options *out)
{
    bool csv = bits_of(cmd) & CMD_CSV;

    out->format = optarg;
    if (!strcmp(optarg, "json") || !strcmp(optarg, "table") || (csv && !strcmp(optarg, "csv")))
        return true;
    return diag_add(ctx->diag, DIAG_USAGE, nowhere, "--format is json%s table%s, found '%s'",
                    csv ? "," : " or", csv ? " or csv" : "", optarg);
}

/* --set is kept as it came; doc_set complains about its path, this about what is no pair. */
static bool take_set(struct cmd_ctx *ctx, const char **sets, struct cmd_options *out)
{
    const char *eq = strchr(optarg, '=');

    if (!eq || eq == optarg)
        return diag_add(
            ctx->diag, DIAG_USAGE, nowhere,
            "--set takes KEY=VALUE, for example --set workload.prompt=8k, found '%s'", optarg);
    sets[out->n_sets++] = optarg;
    return true;
}

static bool take_own(struct cmd_ctx *ctx, const struct cmd_option *own, const char **value)
{
    *value = own->arg ? optarg : "";
    return !own->arg || *optarg ||
           diag_add(ctx->diag, DIAG_USAGE, nowhere, "option --%s has an empty value",
                    own->name);
}

static bool take(struct cmd_ctx *ctx, const struct command *cmd, int c, const char **sets,
                 struct cmd_options *out)
{
    const char **text = c == 'm'            ? &out->model
                        : c == 'g'          ? &out->gpu
                        : c == 'n'          ? &out->count
                        : c == 'c'          ? &out->context
                        : c == 'o'          ? &out->output
                        : c == OPT_PROFILES ? &out->profiles
                        : c == OPT_SCHEMES  ? &out->schemes
                        : c == OPT_SORT     ? &out->sort
                        : c == OPT_FROM_LOG ? &out->from_log
                                            : NULL;

    if (text) {
        *text = optarg;
        return *optarg || diag_add(ctx->diag, DIAG_USAGE, nowhere,
                                   "option --%s has an empty value", row_of(c)->name);
    }
    if (c >= OPT_OWN)
        return take_own(ctx, &cmd->own[c - OPT_OWN], &out->own[c - OPT_OWN]);
    if (c == OPT_SET)
        return take_set(ctx, sets, out);
    if (c == OPT_FORMAT)
        return take_format(ctx, cmd, out);
    if (c == OPT_COLOR)
        return take_color(ctx, optarg, out);
    if (c == OPT_LOCAL) {
        out->local = true;
        return true;
    }
    if (c == 'q' || c == 'v') {
        out->quiet += c == 'q';
        out->verbose += c == 'v';
        return true;
    }
    if (c != OPT_HELP && c != OPT_VERSION)
        return wrong_option(ctx, cmd, c);
    if (!out->help && c == OPT_HELP)
        print_help(cmd, ctx->out);
    else if (!out->help)
        fprintf(ctx->out, "kvbudget %s\n", KV_VERSION);
    out->help = true;
    return true;
}

static bool check_together(struct cmd_ctx *ctx, const struct command *cmd,
                           const struct cmd_options *opt)
{
    const char *lonely = opt->gpu ? "-g" : opt->count ? "-n" : opt->context ? "-c" : NULL;

    if (!(bits_of(cmd) & CMD_SPEC))
        return true;
    if (opt->model && opt->n_specs && !(cmd->options & CMD_PATH))
        return diag_add(ctx->diag, DIAG_USAGE, nowhere, "give a spec ('%s') or -m, not both",
                        opt->specs[0]);
    if (!opt->model && lonely && (!opt->from_log || opt->n_specs))
        return diag_add(
            ctx->diag, DIAG_USAGE, nowhere,
            "%s belongs to -m MODEL; in a spec use --set, for example --set hardware.gpu=h100",
            lonely);
    return true;
}

bool cmd_options(struct cmd_ctx *ctx, const struct command *cmd, struct cmd_options *out)
{
    struct option longs[ROWS_MAX + OWN_MAX] = {{0}};
    char shorts[2 * ROWS_MAX] = ":";
    const char **sets = ARENA_NEW(ctx->arena, const char *, (size_t)ctx->argc + 1);
    size_t n = 0, s = 1;
    bool ok = true;

    *out =
        (struct cmd_options){.sets = sets, .own = ARENA_NEW(ctx->arena, const char *, OWN_MAX)};
    for (size_t i = 0; i < own_options(cmd); i++)
        longs[n++] =
            (struct option){cmd->own[i].name, cmd->own[i].arg ? required_argument : no_argument,
                            NULL, OPT_OWN + (int)i};
    for (int i = 0; i < N_ROWS; i++) {
        const struct option_row *r = &rows[i];
        if (!takes(cmd, r))
            continue;
        longs[n++] =
            (struct option){r->name, r->arg ? required_argument : no_argument, NULL, r->id};
        if (r->id < OPT_LONG)
            shorts[s++] = (char)r->id;
        if (r->id < OPT_LONG && r->arg)
            shorts[s++] = ':';
    }
    optind = 0; /* getopt starts anew; tests parse more than once */
    opterr = 0;
    for (int c;
         !out->help && (c = getopt_long(ctx->argc, ctx->argv, shorts, longs, NULL)) != -1;)
        ok = take(ctx, cmd, c, sets, out) && ok;
    out->specs = ctx->argv + optind;
    out->n_specs = ctx->argc - optind;
    return out->help || (ok && check_together(ctx, cmd, out));
}

bool cmd_wants_json(const struct cmd_ctx *ctx, const struct cmd_options *opt)
{
    if (opt->format)
        return !strcmp(opt->format, "json");
    return opt->output || !ctx->out_is_terminal;
}

bool cmd_wants_color(const struct cmd_ctx *ctx, const struct cmd_options *opt)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

    if (opt->color != COLOR_AUTO)
        return opt->color == COLOR_ALWAYS;
    return ctx->out_is_terminal && !opt->output && !(no && *no) &&
           !(term && !strcmp(term, "dumb"));
}

/* Under -q only errors: they are copied to a sink of their own, which prints them all. */
void cmd_diagnostics(struct cmd_ctx *ctx, const struct cmd_options *opt)
{
    struct diag *errors;

    if (!opt->quiet) {
        ctx->printed = diag_print(ctx->diag, ctx->printed, opt->verbose > 0, ctx->err);
        return;
    }
    errors = diag_new(ctx->arena);
    for (; ctx->printed < diag_count(ctx->diag); ctx->printed++) {
        const struct diag_message *m = diag_at(ctx->diag, ctx->printed);
        if (m->kind != DIAG_NOTE && m->kind != DIAG_WARN)
            diag_add(errors, m->kind, m->at, "%s", m->text);
    }
    diag_print(errors, 0, false, ctx->err);
}
