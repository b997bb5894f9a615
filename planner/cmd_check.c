/* check - only the verdict: fits or not, and what limits it. Exit 4 refuses a plan in a
 * script. */
#include "planner/cmd.h"

#include <string.h>

#include "planner/base/file.h"
#include "planner/plan/capacity.h"
#include "planner/plan/report.h"

static int run(struct cmd_ctx *ctx);

const struct command command_check = {
    .name = "check",
    .summary = "whether a plan fits, and what limits it; exit 4 where it does not",
    .usage = "check SPEC.yaml... | -m MODEL -g GPU [-n COUNT] [-c CONTEXT]",
    .run = run,
    .options = CMD_SPEC | CMD_FORMAT | CMD_OUTPUT,
};

struct verdict {
    struct plan plan;
    const char *sentence; /* NULL: the spec could not be planned */
};

static void solve(struct cmd_ctx *ctx, const struct cmd_case *c, struct verdict *v)
{
    struct report_in in = {c->name, &c->problem, &v->plan, c->diag, NULL};

    if (!c->ok)
        return;
    plan_solve(&c->problem, &c->problem.workload, &v->plan);
    if (report_countable(&in, ctx->diag))
        v->sentence = report_sentence(ctx->arena, &c->problem, &v->plan);
}

/* A sentence a spec; with several each after its name. */
static void print_one(const struct cmd_case *c, const struct verdict *v, bool json,
                      bool several, FILE *out)
{
    struct report_in in = {c->name, &c->problem, &v->plan, c->diag, NULL};
    cJSON *tree;

    if (!json) {
        fprintf(out, "%s%s%s\n", several ? c->name : "", several ? ": " : "", v->sentence);
        return;
    }
    tree = report_check_json(&in);
    json_print(tree, several, out);
    cJSON_Delete(tree);
}

/* All specs are solved before anything is written. */
static void check(struct cmd_ctx *ctx, const struct cmd_options *opt,
                  const struct cmd_case *cases, size_t n)
{
    struct verdict *v = ARENA_NEW(ctx->arena, struct verdict, n);
    bool json = opt->format && !strcmp(opt->format, "json");
    struct file_out out;
    size_t solved = 0;

    for (size_t i = 0; i < n; i++) {
        solve(ctx, &cases[i], &v[i]);
        solved += v[i].sentence != NULL;
    }
    cmd_diagnostics(ctx, opt);
    for (size_t i = 0; i < n; i++)
        if (v[i].sentence && !v[i].plan.fits)
            diag_add(ctx->diag, DIAG_INFEASIBLE, (struct loc){.file = cases[i].name}, "%s",
                     v[i].sentence);
    if (!json) /* the sentence says it */
        ctx->printed = diag_count(ctx->diag);
    if (!solved || !file_create(ctx->arena, opt->output, ctx->out, ctx->diag, &out))
        return;
    for (size_t i = 0; i < n; i++)
        if (v[i].sentence)
            print_one(&cases[i], &v[i], json, n > 1, out.f);
    (void)!file_commit(&out, ctx->diag);
}

static int run(struct cmd_ctx *ctx)
{
    struct cmd_options opt;
    struct cmd_case *cases;
    const struct profiles *profiles;
    size_t n;

    if (!cmd_options(ctx, &command_check, &opt))
        return diag_exit(ctx->diag);
    if (opt.help)
        return 0;
    profiles = profiles_open(ctx->arena, opt.profiles, ctx->diag);
    if (cmd_cases(ctx, &opt, profiles, &cases, &n))
        check(ctx, &opt, cases, n);
    else
        cmd_diagnostics(ctx, &opt);
    return diag_exit(ctx->diag);
}
