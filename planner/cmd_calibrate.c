/* calibrate - measures a GPU and writes its profile, which plans then use. */
#include "planner/cmd.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "planner/base/file.h"
#include "planner/base/nvml.h"
#include "planner/doc/emit.h"
#include "tui/statefile.h"
#include "validate/calibrate.h"
#include "validate/report.h"

static int run(struct cmd_ctx *ctx);

enum own { OWN_DEVICE, N_OWN };

static const struct cmd_option own_options[] = {
    [OWN_DEVICE] = {"device", "NAME", "cuda:N; the first one if not given"},
    [N_OWN] = {NULL, NULL, NULL},
};

const struct command command_calibrate = {
    .name = "calibrate",
    .summary =
        "measure a GPU; write a profile to $XDG_CONFIG_HOME/kvbudget/profiles/gpus, or -o",
    .usage = "calibrate [--device cuda:N] [-o FILE]",
    .run = run,
    .options = CMD_OUTPUT | CMD_PROFILES,
    .own = own_options,
};

static const struct loc nowhere;

/* "NVIDIA H200" as the name of a file: letters, digits and dashes. */
static char *file_name(struct arena *a, const char *name)
{
    char *out = arena_printf(a, "%s.yaml", name);

    for (char *p = out; p < out + strlen(name); p++)
        *p = isalnum((unsigned char)*p) ? (char)tolower((unsigned char)*p) : '-';
    return out;
}

static const char *config_folder(struct arena *a)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    if (xdg && xdg[0] == '/')
        return arena_printf(a, "%s/kvbudget/profiles/gpus", xdg);
    if (home && home[0] == '/')
        return arena_printf(a, "%s/.config/kvbudget/profiles/gpus", home);
    return NULL;
}

static struct calibrate_on on_now(struct arena *a)
{
    struct calibrate_on on = {"?", "?", validate_commit()};
    struct nvml_facts facts;
    const char *reason;
    char buf[32];
    time_t t = time(NULL);
    struct tm tm;

    if (nvml_facts(a, &facts, &reason) && facts.driver)
        on.driver = facts.driver;
    if (gmtime_r(&t, &tm) && strftime(buf, sizeof buf, "%Y-%m-%d", &tm))
        on.date = arena_strdup(a, buf);
    return on;
}

static bool write_profile(struct cmd_ctx *ctx, const struct cmd_options *opt,
                          const struct doc_node *doc)
{
    const struct doc_node *name = doc_get(doc, "name");
    const char *folder = config_folder(ctx->arena), *path;
    struct file_out out;

    if (opt->output) {
        if (!file_create(ctx->arena, opt->output, ctx->out, ctx->diag, &out))
            return false;
        doc_emit(doc, out.f);
        return file_commit(&out, ctx->diag);
    }
    if (!folder)
        return diag_add(ctx->diag, DIAG_OUTPUT, nowhere,
                        "there is no folder for the profile: set HOME, or give -o FILE");
    path = statefile_put(ctx->arena, folder, file_name(ctx->arena, name->text),
                         doc_emit_text(ctx->arena, doc), ctx->diag);
    if (path)
        fprintf(ctx->out, "%s: plans for %s now use it\n", path, name->text);
    return path != NULL;
}

static bool calibrate(struct cmd_ctx *ctx, const struct cmd_options *opt, struct device *d)
{
    struct calibrate_size size = calibrate_size_gpu();
    struct calibrate_on on = on_now(ctx->arena);
    struct calibration c;
    struct doc_node *doc;

    if (!calibrate_measure(d, ctx->arena, &size, ctx->diag, &c))
        return false;
    doc = calibrate_profile(ctx->arena, &c, &on,
                            profiles_open(ctx->arena, opt->profiles, ctx->diag), ctx->diag);
    return doc && write_profile(ctx, opt, doc);
}

static int run(struct cmd_ctx *ctx)
{
    struct device_options options = {.timeout_s = 0};
    struct cmd_options opt;
    struct device_text why = {""};
    struct device *d = NULL;
    const char *name;

    if (!cmd_options(ctx, &command_calibrate, &opt))
        return diag_exit(ctx->diag);
    if (opt.help)
        return 0;
    name = opt.own[OWN_DEVICE] ? opt.own[OWN_DEVICE] : "cuda:0";
    if (opt.n_specs)
        diag_add(ctx->diag, DIAG_USAGE, nowhere, "calibrate takes no arguments, found '%s'",
                 opt.specs[0]);
    else if (strncmp(name, "cuda:", 5) != 0)
        diag_add(ctx->diag, DIAG_USAGE, nowhere, "--device takes cuda:N, found '%s'", name);
    else if (device_open(name, &options, &d, &why) != DEVICE_OK)
        diag_add(ctx->diag, DIAG_DEVICE, nowhere, "calibrate needs a GPU: %s: %s", name,
                 why.text);
    else
        (void)!calibrate(ctx, &opt, d);
    device_close(d);
    cmd_diagnostics(ctx, &opt);
    return diag_exit(ctx->diag);
}
