/* layers - the resolved cache layout, layer by layer. */
#include "planner/cmd.h"

#include "planner/base/file.h"
#include "planner/plan/layers.h"

static int run(struct cmd_ctx *ctx);

const struct command command_layers = {
    .name = "layers",
    .summary =
        "whose K/V each layer reads, what it keeps and what that weighs; -v lists every layer",
    .usage = "layers SPEC.yaml... | -m MODEL -g GPU [-n COUNT] [-c CONTEXT]",
    .run = run,
    .options = CMD_SPEC | CMD_FORMAT | CMD_OUTPUT,
};

static void print_case(struct cmd_ctx *ctx, const struct cmd_options *opt,
                       const struct cmd_case *c, bool several, FILE *out)
{
    if (cmd_wants_json(ctx, opt)) {
        cJSON *tree = layers_json(c->name, &c->problem, c->diag);
        json_print(tree, several, out);
        cJSON_Delete(tree);
        return;
    }
    if (several)
        fprintf(out, "%s\n", c->name);
    layers_table(ctx->arena, &c->problem, opt->verbose > 0, out);
    if (several)
        fputc('\n', out);
}

static int run(struct cmd_ctx *ctx)
{
    struct cmd_options opt;
    struct cmd_case *cases;
    size_t n, built = 0;
    struct file_out out;

    if (!cmd_options(ctx, &command_layers, &opt))
        return diag_exit(ctx->diag);
    if (opt.help)
        return 0;
    if (!cmd_cases(ctx, &opt, profiles_open(ctx->arena, opt.profiles, ctx->diag), &cases, &n))
        n = 0;
    cmd_diagnostics(ctx, &opt);
    for (size_t i = 0; i < n; i++)
        built += cases[i].ok;
    if (!built || !file_create(ctx->arena, opt.output, ctx->out, ctx->diag, &out))
        return diag_exit(ctx->diag);
    for (size_t i = 0; i < n; i++)
        if (cases[i].ok)
            print_case(ctx, &opt, &cases[i], n > 1, out.f);
    (void)!file_commit(&out, ctx->diag);
    return diag_exit(ctx->diag);
}
