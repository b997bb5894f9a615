/* From the command line to problems: spec files, YAML streams, standard input, -m/-g in
 * place of a spec, and --set. */
#include "planner/cmd.h"

#include <string.h>

#include "planner/base/ck.h"
#include "planner/base/file.h"
#include "planner/base/unit.h"

enum { SPECS_MAX = 4096, OUTPUT_TOKENS = 512 };

/* --- -m, -g, -n, -c --------------------------------------------------------------------------
 */

static struct doc_node *put(struct arena *a, struct doc_node *map, const char *key,
                            struct loc at, const char *text)
{
    struct doc_node *n = doc_new(a, text ? DOC_SCALAR : DOC_MAP, at);

    n->key = key;
    n->key_at = at;
    n->text = text;
    doc_append(map, n);
    return n;
}

/* min(512, half) of the context is output, the rest prompt. */
static bool put_context(struct cmd_ctx *ctx, const char *text, struct doc_node *root)
{
    struct loc at = {.file = "-c"};
    struct doc_node *w;
    uint64_t tokens = 0, output;
    enum unit_error e = unit_parse_tokens(text, &tokens);

    if (e != UNIT_OK || tokens < 2 || tokens > (uint64_t)1 << 40)
        return diag_add(
            ctx->diag, DIAG_INPUT, at,
            "a context is a number of tokens such as 4096 or 128k, at least 2, found '%s'",
            text);
    output = u64_min(OUTPUT_TOKENS, tokens / 2);
    w = put(ctx->arena, root, "workload", at, NULL);
    put(ctx->arena, w, "prompt", at,
        arena_printf(ctx->arena, "%llu", (unsigned long long)(tokens - output)));
    put(ctx->arena, w, "output", at,
        arena_printf(ctx->arena, "%llu", (unsigned long long)output));
    return true;
}

static bool spec_of_options(struct cmd_ctx *ctx, const struct cmd_options *opt,
                            struct doc_node **out)
{
    struct loc m = {.file = "-m"}, g = {.file = "-g"}, n = {.file = "-n"};
    struct doc_node *root = doc_new(ctx->arena, DOC_MAP, m), *hardware;

    if (opt->log && !opt->model)
        root->at = (struct loc){.file = opt->log->name};
    if (opt->model)
        put(ctx->arena, root, "model", m, opt->model);
    hardware = put(ctx->arena, root, "hardware", opt->gpu ? g : root->at, NULL);
    if (opt->gpu)
        put(ctx->arena, hardware, "gpu", g, opt->gpu);
    if (opt->count)
        put(ctx->arena, hardware, "count", n, opt->count);
    *out = root;
    return !opt->context || put_context(ctx, opt->context, root);
}

/* --- files ---------------------------------------------------------------------------------
 */

/* "-" is the context's own input, so that tests can hand in text. */
static bool read_input(struct cmd_ctx *ctx, char **text, size_t *n)
{
    size_t cap = 65536;

    *text = arena_alloc(ctx->arena, cap + 1, 1);
    *n = 0;
    for (;;) {
        size_t got = fread(*text + *n, 1, cap - *n, ctx->in);
        *n += got;
        if (got == 0 || *n > DOC_FILE_MAX)
            break;
        if (*n == cap) {
            *text = arena_grow(ctx->arena, *text, *n, 2 * cap + 1, 1);
            cap *= 2;
        }
    }
    (*text)[*n] = '\0';
    if (ferror(ctx->in))
        return diag_add(ctx->diag, DIAG_INPUT, (struct loc){.file = "<stdin>"},
                        "cannot be read");
    if (*n > DOC_FILE_MAX)
        return diag_add(ctx->diag, DIAG_INPUT, (struct loc){.file = "<stdin>"},
                        "is longer than 4.00 MiB, the most that is read here");
    return true;
}

static bool read_file(struct cmd_ctx *ctx, const char *path, struct doc_node **docs, size_t *n)
{
    bool standard = !strcmp(path, "-");
    const char *name = standard ? "<stdin>" : path;
    char *text;
    size_t size;

    if (!(standard ? read_input(ctx, &text, &size)
                   : file_read(ctx->arena, path, DOC_FILE_MAX, ctx->diag, &text, &size)))
        return false;
    if (!doc_read_yaml(ctx->arena, name, text, size, ctx->diag, docs, SPECS_MAX, n))
        return false;
    return *n || diag_add(ctx->diag, DIAG_INPUT, (struct loc){.file = name},
                          "holds no spec; `kvbudget example` prints one to start from");
}

static bool apply_sets(struct cmd_ctx *ctx, const struct cmd_options *opt, struct doc_node *doc)
{
    bool ok = true;

    for (size_t i = 0; i < opt->n_sets; i++) {
        const char *eq = strchr(opt->sets[i], '=');
        const char *path = arena_strndup(ctx->arena, opt->sets[i], (size_t)(eq - opt->sets[i]));
        ok = doc_set(ctx->arena, doc, path, eq + 1, ctx->diag) && ok;
    }
    return ok;
}

bool cmd_read_specs(struct cmd_ctx *ctx, const struct cmd_options *opt, const char *path,
                    struct doc_node ***docs, size_t *n)
{
    bool ok;

    *docs = ARENA_NEW(ctx->arena, struct doc_node *, SPECS_MAX);
    *n = 0;
    if (!path && !opt->model && !opt->log)
        return diag_add(
            ctx->diag, DIAG_USAGE, (struct loc){0},
            "%s needs a spec: a YAML file, - for standard input, or -m MODEL -g GPU",
            ctx->argv[0]);
    if (path)
        ok = read_file(ctx, path, *docs, n);
    else
        ok = spec_of_options(ctx, opt, &(*docs)[(*n)++]);
    for (size_t i = 0; ok && i < *n; i++)
        ok = apply_sets(ctx, opt, (*docs)[i]);
    return ok;
}

bool cmd_build(struct cmd_ctx *ctx, const struct profiles *profiles, const struct doc_node *doc,
               struct spec *spec, struct problem *out)
{
    return spec_bind(ctx->arena, doc, ctx->diag, spec) &&
           problem_build(ctx->arena, spec, profiles, ctx->diag, out);
}

/* --- cases ---------------------------------------------------------------------------------
 */

/* A word as a shell takes it. */
static const char *quoted(struct arena *a, const char *s)
{
    size_t plain =
        strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/:=+,@%-");

    return !s[plain] && *s ? s : arena_printf(a, "'%s'", s);
}

static const char *words_of(struct arena *a, const struct cmd_options *opt, const char *path)
{
    const char *letters[] = {"-m", "-g", "-n", "-c"};
    const char *values[] = {opt->model, opt->gpu, opt->count, opt->context};
    const char *words = path ? quoted(a, path) : "";

    if (opt->from_log)
        words = arena_printf(a, "%s%s--from-log %s", words, *words ? " " : "",
                             quoted(a, opt->from_log));

    for (int i = 0; i < 4; i++)
        if (values[i])
            words = arena_printf(a, "%s%s%s %s", words, *words ? " " : "", letters[i],
                                 quoted(a, values[i]));
    for (size_t i = 0; i < opt->n_sets; i++)
        words = arena_printf(a, "%s --set %s", words, quoted(a, opt->sets[i]));
    return words;
}

static const char *name_of(struct arena *a, const struct cmd_options *opt, const char *path,
                           size_t index)
{
    if (!path && !opt->model && opt->log)
        return opt->log->name;
    if (!path)
        return arena_printf(a, "-m %s%s%s", opt->model, opt->gpu ? " -g " : "",
                            opt->gpu ? opt->gpu : "");
    return index ? arena_printf(a, "%s#%zu", path, index + 1) : arena_strdup(a, path);
}

struct gathered {
    struct cmd_case *v;
    size_t n, cap;
};

static bool gather(struct cmd_ctx *ctx, const struct cmd_options *opt, const char *path,
                   struct gathered *g)
{
    struct doc_node **docs;
    size_t n;

    if (!cmd_read_specs(ctx, opt, path, &docs, &n))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (g->n == g->cap) {
            g->cap = g->cap ? 2 * g->cap : 8;
            g->v = arena_grow(ctx->arena, g->v, g->n, g->cap, sizeof *g->v);
        }
        g->v[g->n++] = (struct cmd_case){.name = name_of(ctx->arena, opt, path, i),
                                         .words = words_of(ctx->arena, opt, path),
                                         .doc = docs[i]};
    }
    return true;
}

/* Each case in place: a problem points at its spec. */
static void build_case(struct cmd_ctx *ctx, const struct cmd_options *opt,
                       const struct profiles *profiles, struct cmd_case *c)
{
    struct cmd_ctx own = *ctx;

    own.diag = c->diag = diag_new(ctx->arena);
    c->ok = (!opt->log || fromlog_lay_under(ctx->arena, opt->log, profiles, c->doc, c->diag)) &&
            cmd_build(&own, profiles, c->doc, &c->spec, &c->problem);
    for (size_t i = 0; i < diag_count(c->diag); i++) {
        const struct diag_message *m = diag_at(c->diag, i);
        diag_add(ctx->diag, m->kind, m->at, "%s", m->text);
    }
}

bool cmd_cases(struct cmd_ctx *ctx, const struct cmd_options *opt,
               const struct profiles *profiles, struct cmd_case **out, size_t *n)
{
    struct gathered g = {0};

    if (!opt->n_specs)
        (void)!gather(ctx, opt, NULL, &g);
    for (int i = 0; i < opt->n_specs; i++)
        (void)!gather(ctx, opt, opt->specs[i], &g);
    for (size_t i = 0; i < g.n; i++)
        build_case(ctx, opt, profiles, &g.v[i]);
    *out = g.v;
    *n = g.n;
    return g.n > 0;
}
