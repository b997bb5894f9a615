/* example - a commented spec to start from. The texts are profiles/examples, as they are. */
#include "planner/cmd.h"

#include <string.h>

#include "planner/base/file.h"

static int run(struct cmd_ctx *ctx);

const struct command command_example = {
    .name = "example",
    .summary = "print a commented spec to start from",
    .usage = "example [NAME]",
    .run = run,
    .options = CMD_OUTPUT | CMD_PROFILES,
};

static const char default_name[] = "llama-3.1-8b";

/* The names there are, as a comment, so that the text stays a spec. */
static void print_others(struct cmd_ctx *ctx, const struct profiles *profiles, FILE *out)
{
    size_t n;
    struct profile_entry *e =
        profile_list(profiles, PROFILE_EXAMPLE, ctx->arena, ctx->diag, &n);

    fputs("\n# Others, kvbudget example NAME:", out);
    for (size_t i = 0, shown = 0; i < n; i++)
        if (strcmp(e[i].name, default_name) != 0)
            fprintf(out, "%s%s", shown++ ? ", " : " ", e[i].name);
    fputc('\n', out);
}

static bool print(struct cmd_ctx *ctx, const struct cmd_options *opt)
{
    const struct profiles *profiles = profiles_open(ctx->arena, opt->profiles, ctx->diag);
    const char *name = opt->n_specs ? opt->specs[0] : default_name, *text;
    struct file_out out;
    size_t n = 0;

    text = profile_text(profiles, PROFILE_EXAMPLE, name, ctx->diag, &n);
    if (!text) {
        if (!diag_failed(ctx->diag))
            (void)!profile_require(profiles, PROFILE_EXAMPLE, name, (struct loc){0}, ctx->diag);
        return false;
    }
    if (!file_create(ctx->arena, opt->output, ctx->out, ctx->diag, &out))
        return false;
    fwrite(text, 1, n, out.f);
    if (!opt->n_specs)
        print_others(ctx, profiles, out.f);
    return file_commit(&out, ctx->diag);
}

static int run(struct cmd_ctx *ctx)
{
    struct cmd_options opt;

    if (!cmd_options(ctx, &command_example, &opt))
        return diag_exit(ctx->diag);
    if (opt.help)
        return 0;
    if (opt.n_specs > 1)
        diag_add(ctx->diag, DIAG_USAGE, (struct loc){0},
                 "example takes one name, found '%s' too", opt.specs[1]);
    else
        (void)!print(ctx, &opt);
    cmd_diagnostics(ctx, &opt);
    return diag_exit(ctx->diag);
}
