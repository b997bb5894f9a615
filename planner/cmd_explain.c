/* explain - every figure of the report with its formula, the numbers put in and their
 * sources. */
#include "planner/cmd.h"

#include "planner/base/file.h"
#include "planner/plan/explain.h"

static int run(struct cmd_ctx *ctx);

const struct command command_explain = {
    .name = "explain",
    .summary =
        "every figure of the report with its formula, the numbers put in and their sources",
    .usage = "explain SPEC.yaml [PATH] | -m MODEL -g GPU [-n COUNT] [-c CONTEXT] [PATH]",
    .run = run,
    .options = CMD_SPEC | CMD_FORMAT | CMD_OUTPUT | CMD_PATH,
};

/* The second word, or with -m the first, is a path of the report; the rest of the options
 * then has the spec alone. */
static bool take_path(struct cmd_ctx *ctx, struct cmd_options *opt, const char **path)
{
    int specs = opt->model ? 0 : 1;

    *path = NULL;
    if (opt->n_specs > specs + 1)
        return diag_add(ctx->diag, DIAG_USAGE, (struct loc){0},
                        "explain takes one spec and one path of its report, found '%s'",
                        opt->specs[specs + 1]);
    if (opt->n_specs == specs + 1) {
        *path = opt->specs[specs];
        opt->n_specs = specs;
    }
    return true;
}

struct asked {
    const struct cmd_options *opt;
    const char *path;
    const struct profiles *profiles;
};

static bool print_case(struct cmd_ctx *ctx, const struct asked *asked, const struct cmd_case *c,
                       FILE *out)
{
    struct plan plan;
    struct report_in in = {c->name, &c->problem, &plan, c->diag, asked->profiles};
    cJSON *tree;

    plan_solve(&c->problem, &c->problem.workload, &plan);
    if (!report_countable(&in, ctx->diag))
        return false;
    tree = explain_json(ctx->arena, &in, asked->path, ctx->diag);
    if (!tree)
        return false;
    if (cmd_wants_json(ctx, asked->opt))
        json_print(tree, false, out);
    else
        explain_text(ctx->arena, tree, out);
    cJSON_Delete(tree);
    return true;
}

static int run(struct cmd_ctx *ctx)
{
    struct cmd_options opt;
    struct cmd_case *cases;
    size_t n;
    struct file_out out;
    struct asked asked = {.opt = &opt};
    bool ok = true;

    if (!cmd_options(ctx, &command_explain, &opt))
        return diag_exit(ctx->diag);
    if (opt.help)
        return 0;
    if (!take_path(ctx, &opt, &asked.path))
        return diag_exit(ctx->diag);
    asked.profiles = profiles_open(ctx->arena, opt.profiles, ctx->diag);
    if (!cmd_cases(ctx, &opt, asked.profiles, &cases, &n))
        n = 0;
    cmd_diagnostics(ctx, &opt);
    if (!n || diag_failed(ctx->diag) ||
        !file_create(ctx->arena, opt.output, ctx->out, ctx->diag, &out))
        return diag_exit(ctx->diag);
    for (size_t i = 0; i < n; i++)
        ok = print_case(ctx, &asked, &cases[i], out.f) && ok;
    if (ok)
        (void)!file_commit(&out, ctx->diag);
    else
        file_abandon(&out);
    return diag_exit(ctx->diag);
}
