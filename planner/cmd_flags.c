/* flags - the command line or settings that make the chosen engine do what was planned. Exit 4
 * where the plan does not fit, or where the engine cannot be told a part of it. */
#include "planner/cmd.h"

#include <string.h>

#include "planner/base/file.h"
#include "planner/plan/flags.h"

static int run(struct cmd_ctx *ctx);

const struct command command_flags = {
    .name = "flags",
    .summary = "the command line or settings of the chosen engine that realise a plan",
    .usage =
        "flags SPEC.yaml... | -m MODEL -g GPU [-n COUNT] [-c CONTEXT] --set engine.name=vllm",
    .run = run,
    .options = CMD_SPEC | CMD_FORMAT | CMD_OUTPUT,
};

/* A part that cannot be set is an error of its own, and so is a plan that does not fit. */
static void judge(struct cmd_ctx *ctx, const struct cmd_case *c, const struct flags *f)
{
    struct loc at = c->spec.engine_at;

    for (size_t i = 0; i < f->set.n_cannot; i++)
        diag_add(ctx->diag, DIAG_INFEASIBLE, at, "%s: %s", f->set.cannot[i].key,
                 f->set.cannot[i].reason);
    if (!f->fits)
        diag_add(ctx->diag, DIAG_INFEASIBLE, (struct loc){.file = c->name}, "%s", f->sentence);
}

static void print_one(struct cmd_ctx *ctx, const struct cmd_case *c, const struct flags *f,
                      const struct cmd_options *opt, bool several, FILE *out)
{
    bool json = opt->format && !strcmp(opt->format, "json");
    cJSON *tree;

    if (!json) {
        if (several)
            fprintf(out, "# %s\n", c->name);
        flags_print(ctx->arena, f, out);
        return;
    }
    tree = flags_json(c->name, &c->problem, f, c->diag);
    json_print(tree, several, out);
    cJSON_Delete(tree);
}

/* All specs are solved before anything is written. */
static void flags(struct cmd_ctx *ctx, const struct cmd_options *opt,
                  const struct cmd_case *cases, size_t n)
{
    struct flags *f = ARENA_NEW(ctx->arena, struct flags, n);
    bool *ok = ARENA_NEW(ctx->arena, bool, n);
    struct file_out out;
    size_t solved = 0;

    for (size_t i = 0; i < n; i++) {
        ok[i] = cases[i].ok && flags_solve(ctx->arena, &cases[i].problem, ctx->diag, &f[i]);
        solved += ok[i];
        if (ok[i])
            judge(ctx, &cases[i], &f[i]);
    }
    cmd_diagnostics(ctx, opt);
    if (!solved || !file_create(ctx->arena, opt->output, ctx->out, ctx->diag, &out))
        return;
    for (size_t i = 0, printed = 0; i < n; i++) {
        if (!ok[i])
            continue;
        if (printed++ && !(opt->format && !strcmp(opt->format, "json")))
            fputc('\n', out.f);
        print_one(ctx, &cases[i], &f[i], opt, n > 1, out.f);
    }
    (void)!file_commit(&out, ctx->diag);
}

static int run(struct cmd_ctx *ctx)
{
    struct cmd_options opt;
    struct cmd_case *cases;
    size_t n;

    if (!cmd_options(ctx, &command_flags, &opt))
        return diag_exit(ctx->diag);
    if (opt.help)
        return 0;
    if (cmd_cases(ctx, &opt, profiles_open(ctx->arena, opt.profiles, ctx->diag), &cases, &n))
        flags(ctx, &opt, cases, n);
    else
        cmd_diagnostics(ctx, &opt);
    return diag_exit(ctx->diag);
}
