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

/* A sentence a spec; with several each after its name. */
static void print_one(struct cmd_ctx *ctx, const struct cmd_case *c, bool json, bool several,
                      FILE *out)
{
    struct plan plan;
    struct report_in in = {c->name, &c->problem, &plan, c->diag, NULL};
    const char *sentence;

    plan_solve(&c->problem, &c->problem.workload, &plan);
    sentence = report_sentence(ctx->arena, &c->problem, &plan);
    if (!plan.fits)
        diag_add(ctx->diag, DIAG_INFEASIBLE, (struct loc){.file = c->name}, "%s", sentence);
    if (json) {
        cJSON *tree = report_check_json(&in);
        json_print(tree, several, out);
        cJSON_Delete(tree);
    } else {
        fprintf(out, "%s%s%s\n", several ? c->name : "", several ? ": " : "", sentence);
    }
}

static int run(struct cmd_ctx *ctx)
{
    struct cmd_options opt;
    struct cmd_case *cases;
    size_t n, built = 0;
    struct file_out out;
    bool json;

    if (!cmd_options(ctx, &command_check, &opt))
        return diag_exit(ctx->diag);
    if (opt.help)
        return 0;
    json = opt.format && !strcmp(opt.format, "json");
    if (!cmd_cases(ctx, &opt, profiles_open(ctx->arena, opt.profiles, ctx->diag), &cases, &n))
        n = 0;
    cmd_diagnostics(ctx, &opt);
    for (size_t i = 0; i < n; i++)
        built += cases[i].ok;
    if (!built || !file_create(ctx->arena, opt.output, ctx->out, ctx->diag, &out))
        return diag_exit(ctx->diag);
    for (size_t i = 0; i < n; i++)
        if (cases[i].ok)
            print_one(ctx, &cases[i], json, n > 1, out.f);
    if (!json) /* the sentence has said it */
        ctx->printed = diag_count(ctx->diag);
    (void)!file_commit(&out, ctx->diag);
    return diag_exit(ctx->diag);
}
