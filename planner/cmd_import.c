/* import - a config.json, a model folder, a weight file, a model of the hub or a known model
 * becomes a profile in YAML, every field of it spelled out. Of a model that is only on the hub,
 * config.json and the headers of the weight files are fetched, never the weights. */
#include "planner/cmd.h"

#include <inttypes.h>
#include <string.h>

#include "planner/base/file.h"
#include "planner/model/from_gguf.h"
#include "planner/model/from_store.h"
#include "planner/model/hub.h"

static int run(struct cmd_ctx *ctx);

const struct command command_import = {
    .name = "import",
    .summary =
        "turn a config.json, a model folder, a weight file or a model of the hub into a profile",
    .usage = "import PATH | MODEL | ORG/NAME[@REVISION] | ORG/NAME/FILE.gguf | -",
    .run = run,
    .options = CMD_OUTPUT | CMD_PROFILES,
};

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

/* Standard input is a config.json. */
static bool import_input(struct cmd_ctx *ctx, struct model *m)
{
    char *text;
    size_t n, cap = DOC_FILE_MAX;
    struct doc_node *config;

    text = arena_alloc(ctx->arena, cap + 2, 1);
    n = fread(text, 1, cap + 1, ctx->in);
    if (ferror(ctx->in) || n > cap)
        return diag_add(ctx->diag, DIAG_INPUT, (struct loc){.file = "<stdin>"},
                        n > cap ? "is longer than 4.00 MiB, the most that is read here"
                                : "cannot be read");
    return doc_read_json(ctx->arena, "<stdin>", text, n, true, ctx->diag, &config) &&
           model_from_config(ctx->arena, config, "stdin", ctx->diag, m) &&
           model_check(m, ctx->diag);
}

/* "dir/name/config.json", "name/", "name.json" and "name.safetensors" are all called name. */
static const char *name_of_path(struct arena *a, const char *path)
{
    size_t end = strlen(path), start;

    if (ends_with(path, "/config.json"))
        end -= strlen("/config.json");
    else if (ends_with(path, ".json"))
        end -= strlen(".json");
    else if (ends_with(path, ".safetensors"))
        end -= strlen(".safetensors");
    while (end > 1 && path[end - 1] == '/')
        end--;
    for (start = end; start > 0 && path[start - 1] != '/'; start--)
        continue;
    return end > start ? arena_strndup(a, path + start, end - start) : path;
}

/* Pickled weights are programs, and their headers say nothing of shapes. */
static bool is_pickle(const char *path)
{
    return ends_with(path, ".bin") || ends_with(path, ".pt") || ends_with(path, ".pth");
}

/* ORG/NAME that is neither here nor a profile. Two words with the ending of a weight file are a
 * path with a mistake in it. */
static bool is_remote(struct cmd_ctx *ctx, const struct profiles *profiles, const char *text,
                      struct hub_id *id)
{
    return !file_exists(text) && !profile_has(profiles, PROFILE_MODEL, text, ctx->diag) &&
           hub_parse(ctx->arena, text, id) && (id->file || !is_weight_file(text)) &&
           !hub_cached(ctx->arena, id);
}

static bool import_remote(struct cmd_ctx *ctx, const struct hub_id *id, struct model *m)
{
    struct store s = {0};
    bool ok;

    if (!hub_connect(ctx->arena, id, ctx->diag, &s))
        return false;
    ok = id->file ? model_from_gguf(ctx->arena, &s, id->file, ctx->diag, m)
                  : model_from_store(ctx->arena, &s, NULL, id->repo, ctx->diag, m);
    hub_disconnect(&s);
    return ok && model_check(m, ctx->diag);
}

static bool import_named(struct cmd_ctx *ctx, const struct profiles *profiles, const char *path,
                         struct model *m)
{
    struct loc at = {.file = path};
    struct doc_node *node = doc_new(ctx->arena, DOC_SCALAR, at);
    struct hub_id id;
    const char *source;
    bool ok;

    if (is_pickle(path))
        return diag_add(ctx->diag, DIAG_INPUT, at,
                        "pickled weights are not read; give the model's config.json");
    if (is_remote(ctx, profiles, path, &id))
        return import_remote(ctx, &id, m);
    node->text = path;
    ok = problem_model(ctx->arena, node, profiles, ctx->diag, m, &source);
    if (ok && !strncmp(source, "config ", strlen("config ")))
        m->name = name_of_path(ctx->arena, path);
    return ok;
}

static bool write_profile(struct cmd_ctx *ctx, const struct cmd_options *opt,
                          const struct model *m)
{
    const char *from = opt->specs[0];
    struct file_out out;

    if (!file_create(ctx->arena, opt->output, ctx->out, ctx->diag, &out))
        return false;
    fprintf(
        out.f,
        "# Made by kvbudget %s from %s.\n"
        "# Use it as `model:` of a spec, or put it into models/ of a folder given by --profiles.\n",
        KV_VERSION, strcmp(from, "-") ? from : "standard input");
    model_write_yaml(m, out.f);
    if (m->weights_bytes)
        fprintf(out.f, "weights_bytes: %" PRIu64 "\n", m->weights_bytes);
    return file_commit(&out, ctx->diag);
}

static int run(struct cmd_ctx *ctx)
{
    struct cmd_options opt;
    struct model m = {0};
    bool ok;

    if (!cmd_options(ctx, &command_import, &opt))
        return diag_exit(ctx->diag);
    if (opt.help)
        return 0;
    if (opt.n_specs != 1) {
        diag_add(ctx->diag, DIAG_USAGE, (struct loc){0},
                 "import takes one config.json, model folder, weight file or model name");
        return diag_exit(ctx->diag);
    }
    ok = strcmp(opt.specs[0], "-")
             ? import_named(ctx, profiles_open(ctx->arena, opt.profiles, ctx->diag),
                            opt.specs[0], &m)
             : import_input(ctx, &m);
    cmd_diagnostics(ctx, &opt);
    if (ok)
        (void)!write_profile(ctx, &opt, &m);
    return diag_exit(ctx->diag);
}
