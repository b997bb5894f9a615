/* report - specs in, reports out: JSON for programs, a table for people. */
#include "planner/cmd.h"

#include <string.h>

#include "planner/base/file.h"
#include "planner/plan/capacity.h"
#include "planner/plan/report.h"

static int run(struct cmd_ctx *ctx);

const struct command command_report = {
    .name = "report",
    .summary = "memory, capacity and cost of a plan, as JSON or as a table",
    .usage = "report SPEC.yaml... | -m MODEL -g GPU [-n COUNT] [-c CONTEXT] [--from-log FILE]",
    .run = run,
    .options = CMD_SPEC | CMD_FORMAT | CMD_OUTPUT | CMD_LOG,
};

struct page {
    struct cmd_ctx *ctx;
    const struct cmd_options *opt;
    struct report_column *columns;
    cJSON **json;
    size_t n; /* cases that could be built */
    bool *misfit;
    bool fits; /* all of them */
};

static bool solve(struct page *g, const struct cmd_case *c, const struct profiles *profiles)
{
    struct plan plan;
    struct report_in in = {c->name, &c->problem, &plan, c->diag, profiles};

    plan_solve(&c->problem, &c->problem.workload, &plan);
    if (!report_countable(&in, g->ctx->diag))
        return false;
    g->json[g->n] = report_json(&in);
    if (g->opt->log)
        fromlog_json(g->opt->log, g->json[g->n]);
    g->columns[g->n] = (struct report_column){
        c->name, report_sentence(g->ctx->arena, &c->problem, &plan), g->json[g->n]};
    g->misfit[g->n] = !plan.fits;
    g->fits = g->fits && plan.fits;
    g->n++;
    return true;
}

/* Exit 4; the sentence is on standard error only where standard output is for programs. */
static void record_misfits(const struct page *g, bool json)
{
    struct cmd_ctx *ctx = g->ctx;

    for (size_t i = 0; i < g->n; i++)
        if (g->misfit[i])
            diag_add(ctx->diag, DIAG_INFEASIBLE, (struct loc){.file = g->columns[i].name}, "%s",
                     g->columns[i].sentence);
    if (!json)
        ctx->printed = diag_count(ctx->diag);
}

/* What one would ask next; compare and explain read no logs. */
static const char *next_command(const struct page *g, const struct cmd_case *first)
{
    if (g->opt->log)
        return NULL;
    if (g->n > 1)
        return arena_printf(g->ctx->arena, "kvbudget explain %s capacity.max_batch",
                            first->words);
    return arena_printf(g->ctx->arena, "kvbudget %s %s", g->fits ? "compare" : "explain",
                        first->words);
}

static bool print(const struct page *g, const struct cmd_case *first)
{
    struct cmd_ctx *ctx = g->ctx;
    struct report_style style = {cmd_wants_color(ctx, g->opt), g->opt->verbose > 0,
                                 g->opt->output ? NULL : next_command(g, first)};
    struct file_out out;

    if (!file_create(ctx->arena, g->opt->output, ctx->out, ctx->diag, &out))
        return false;
    if (cmd_wants_json(ctx, g->opt)) {
        for (size_t i = 0; i < g->n; i++)
            json_print(g->json[i], g->n > 1, out.f);
    } else {
        report_table(ctx->arena, g->columns, g->n, &style, out.f);
        for (size_t i = 0; i < g->n; i++)
            fromlog_table(ctx->arena, g->json[i], out.f);
    }
    return file_commit(&out, ctx->diag);
}

/* The log of --from-log; "-" is standard input. */
static bool read_log(struct cmd_ctx *ctx, struct cmd_options *opt)
{
    struct server_log *log = ARENA_NEW(ctx->arena, struct server_log, 1);
    bool standard = opt->from_log && !strcmp(opt->from_log, "-");
    char *text;
    size_t n;

    if (!opt->from_log)
        return true;
    for (int i = 0; i < opt->n_specs && standard; i++)
        if (!strcmp(opt->specs[i], "-"))
            return diag_add(ctx->diag, DIAG_USAGE, (struct loc){0},
                            "the spec and --from-log cannot both be standard input");
    if (!file_read(ctx->arena, opt->from_log, LOG_FILE_MAX, ctx->diag, &text, &n) ||
        !fromlog_read(ctx->arena, standard ? "<stdin>" : opt->from_log, text, n, ctx->diag,
                      log))
        return false;
    opt->log = log;
    return true;
}

static int run(struct cmd_ctx *ctx)
{
    struct cmd_options opt;
    struct cmd_case *cases;
    size_t n;
    struct page g = {.ctx = ctx, .opt = &opt, .fits = true};
    const struct profiles *profiles;
    const struct cmd_case *first = NULL;

    if (!cmd_options(ctx, &command_report, &opt))
        return diag_exit(ctx->diag);
    if (opt.help)
        return 0;
    profiles = profiles_open(ctx->arena, opt.profiles, ctx->diag);
    if (read_log(ctx, &opt) && cmd_cases(ctx, &opt, profiles, &cases, &n)) {
        g.columns = ARENA_NEW(ctx->arena, struct report_column, n);
        g.json = ARENA_NEW(ctx->arena, cJSON *, n);
        g.misfit = ARENA_NEW(ctx->arena, bool, n);
        for (size_t i = 0; i < n; i++) {
            if (cases[i].ok && solve(&g, &cases[i], profiles) && !first)
                first = &cases[i];
        }
    }
    cmd_diagnostics(ctx, &opt);
    record_misfits(&g, cmd_wants_json(ctx, &opt));
    if (first)
        (void)!print(&g, first);
    for (size_t i = 0; i < g.n; i++)
        cJSON_Delete(g.json[i]);
    return diag_exit(ctx->diag);
}
