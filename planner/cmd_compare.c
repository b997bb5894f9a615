/* compare - one row a scheme for this model and hardware. A row that does not fit is an
 * answer, so the exit is 0 all the same. */
#include "planner/cmd.h"

#include "planner/base/file.h"
#include "planner/plan/compare.h"

static int run(struct cmd_ctx *ctx);

const struct command command_compare = {
    .name = "compare",
    .summary =
        "one row a scheme: what it stores, how many sequences fit, how fast, and its published quality",
    .usage =
        "compare SPEC.yaml... | -m MODEL -g GPU [-n COUNT] [-c CONTEXT] [--schemes all|a,b] [--sort COLUMN]",
    .run = run,
    .options = CMD_SPEC | CMD_FORMAT | CMD_OUTPUT | CMD_SCHEMES | CMD_SORT,
};

static double more_sequences(const struct compare_row *r)
{
    return (double)r->max_batch;
}

static double more_speed(const struct compare_row *r)
{
    return r->tokens_per_s;
}

static double less_prefill(const struct compare_row *r)
{
    return -r->prompt_s;
}

static bool make(struct cmd_ctx *ctx, const struct cmd_options *opt,
                 const struct profiles *profiles, const struct cmd_case *c, struct compare *out)
{
    static const compare_goal_fn goals[] = {more_sequences, more_speed, less_prefill};
    struct evidence evidence;

    if (!evidence_load(ctx->arena, profiles, ctx->diag, &evidence) ||
        !compare_schemes(ctx->arena, &c->problem, &evidence, opt->schemes, ctx->diag, out))
        return false;
    compare_front(out, goals, sizeof goals / sizeof *goals);
    return !opt->sort || compare_sort(out, opt->sort, ctx->diag);
}

static void print_case(struct cmd_ctx *ctx, const struct cmd_options *opt,
                       const struct cmd_case *c, const struct compare *rows, FILE *out)
{
    bool several = opt->n_specs > 1;

    if (cmd_wants_json(ctx, opt)) {
        cJSON *tree = compare_json(ctx->arena, c->name, &c->problem, rows, c->diag);
        json_print(tree, several, out);
        cJSON_Delete(tree);
        return;
    }
    compare_table(ctx->arena, &c->problem, rows, out);
    if (several)
        fputc('\n', out);
}

static int run(struct cmd_ctx *ctx)
{
    struct cmd_options opt;
    const struct profiles *profiles;
    struct cmd_case *cases;
    struct compare *rows;
    size_t n, built = 0;
    struct file_out out;

    if (!cmd_options(ctx, &command_compare, &opt))
        return diag_exit(ctx->diag);
    if (opt.help)
        return 0;
    profiles = profiles_open(ctx->arena, opt.profiles, ctx->diag);
    if (!cmd_cases(ctx, &opt, profiles, &cases, &n))
        n = 0;
    rows = ARENA_NEW(ctx->arena, struct compare, n + 1);
    for (size_t i = 0; i < n; i++) {
        cases[i].ok = cases[i].ok && make(ctx, &opt, profiles, &cases[i], &rows[i]);
        built += cases[i].ok;
    }
    cmd_diagnostics(ctx, &opt);
    if (!built || !file_create(ctx->arena, opt.output, ctx->out, ctx->diag, &out))
        return diag_exit(ctx->diag);
    for (size_t i = 0; i < n; i++)
        if (cases[i].ok)
            print_case(ctx, &opt, &cases[i], &rows[i], out.f);
    (void)!file_commit(&out, ctx->diag);
    return diag_exit(ctx->diag);
}
