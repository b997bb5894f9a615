/* list - what is known: models, GPUs, engines, schemes, formats, workloads, scheduling
 * policies, trace formats; and the GPUs of this machine. A list is made as JSON; the table
 * shows some of its keys as columns, so the two agree. */
#include "planner/cmd.h"

#include <ctype.h>
#include <string.h>

#include "planner/base/file.h"
#include "planner/base/table.h"
#include "planner/base/unit.h"
#include "planner/plan/gpu_local.h"
#include "planner/plan/json.h"
#include "sim/sim.h"

static int run(struct cmd_ctx *ctx);

const struct command command_list = {
    .name = "list",
    .summary =
        "what is known: models, GPUs, engines, schemes, formats, workloads, policies, traces",
    .usage =
        "list models|gpus [--local]|engines|schemes|formats|workloads|policies|traces [TEXT]",
    .run = run,
    .options = CMD_PROFILES | CMD_FORMAT | CMD_OUTPUT | CMD_LOCAL,
};

/* --- items -------------------------------------------------------------------------------- */

struct listing {
    struct cmd_ctx *ctx;
    const struct profiles *profiles;
    cJSON *items;
};

static void add_model(struct listing *l, const struct profile_entry *e, struct arena *a)
{
    struct diag *quiet = diag_new(a);
    const struct doc_node *doc =
        profile_find(l->profiles, PROFILE_MODEL, e->name, l->ctx->diag);
    struct model m;
    struct layout lay;
    struct param_count params;
    struct fold fold;
    struct ck ck = {0};
    bool *owns;
    cJSON *o;

    if (!doc || !model_from_inline(a, doc, quiet, &m) || !layout_new(a, &m, quiet, &lay))
        return;
    owns = ARENA_NEW(a, bool, m.n_layers + 1);
    for (uint32_t i = 0; i < m.n_layers; i++)
        owns[i] = layout_owns_kv(&lay, i);
    weights_count(&m, owns, &params, &ck);
    fold_layout(&lay, (struct slice){1, 1, 0, m.n_layers}, &fold, &ck);
    o = json_object(l->items, NULL);
    json_text(o, "name", e->name);
    json_text(o, "family", m.family);
    json_u64(o, "parameters", params.total);
    json_u64(o, "active_parameters", params.active);
    json_u64(o, "layers", m.n_layers);
    json_u64(o, "kv_layers", layout_kv_layers(&lay));
    json_u64(o, "cache_bytes_per_token", fold_token_bytes(&fold, false, &ck));
    json_u64(o, "state_bytes_per_sequence", fold.state_bytes);
    json_u64(o, "max_position", m.max_position);
    json_text(o, "confidence", m.confidence);
    json_text(o, "from", e->user ? e->file : "builtin");
}

static void list_models(struct listing *l)
{
    size_t n;
    const struct profile_entry *all =
        profile_list(l->profiles, PROFILE_MODEL, l->ctx->arena, l->ctx->diag, &n);

    for (size_t i = 0; i < n; i++) {
        struct arena *scratch = arena_new();
        add_model(l, &all[i], scratch);
        arena_free(scratch);
    }
}

static void list_gpus(struct listing *l)
{
    struct arena *a = l->ctx->arena;
    size_t n;
    const struct profile_entry *all =
        profile_list(l->profiles, PROFILE_GPU, a, l->ctx->diag, &n);

    for (size_t i = 0; i < n; i++) {
        struct gpu g;
        struct loc at = {.file = all[i].file};
        cJSON *o;
        if (!gpu_load(a, l->profiles, all[i].name, at, diag_new(a), &g))
            continue;
        o = json_object(l->items, NULL);
        json_text(o, "name", g.name);
        json_text(o, "vendor", g.vendor);
        json_text(o, "architecture", g.architecture);
        json_u64(o, "memory_usable_bytes", g.memory_usable_bytes);
        json_double(o, "bandwidth_bytes_per_s", g.bandwidth_bytes_per_s);
        json_double(o, "bf16_flop_per_s", g.peak_flop_per_s[GPU_BF16]);
        json_double(o, "fp8_flop_per_s", g.peak_flop_per_s[GPU_FP8]);
        json_text(o, "confidence", gpu_confidence_name(g.confidence));
        json_text(o, "from", all[i].user ? all[i].file : "builtin");
    }
}

/* What the driver tells, and the profile that a plan would take. */
static void list_local_gpus(struct listing *l)
{
    struct arena *a = l->ctx->arena;
    struct nvml_facts f;
    const char *reason;

    if (!nvml_facts(a, &f, &reason)) {
        diag_add(l->ctx->diag, DIAG_DEVICE, (struct loc){0}, "list gpus --local: %s", reason);
        return;
    }
    for (uint32_t i = 0; i < f.n; i++) {
        const struct nvml_device *v = &f.devices[i];
        cJSON *o = json_object(l->items, NULL);
        json_u64(o, "index", i);
        json_text(o, "name", v->name);
        json_text(o, "profile", gpu_local_profile(l->profiles, v, l->ctx->diag));
        json_u64(o, "memory_total_bytes", v->total_bytes);
        json_u64(o, "memory_free_bytes", v->free_bytes);
        if (v->major)
            json_text(o, "compute_capability", arena_printf(a, "%d.%d", v->major, v->minor));
        json_text(o, "driver", f.driver);
    }
}

static void list_engines(struct listing *l)
{
    for (size_t i = 0; engine_at(i); i++) {
        const struct engine *e = engine_at(i);
        cJSON *o = json_object(l->items, NULL);
        json_text(o, "name", e->name);
        json_text(o, "summary", e->summary);
        json_u64(o, "block_tokens", e->block_tokens);
        json_text(o, "source", e->source);
    }
}

static void add_parameters(cJSON *o, const struct scheme *s)
{
    cJSON *list = json_list(o, "parameters");

    for (size_t i = 0; i < s->nfields; i++) {
        const struct field *f = &s->fields[i];
        cJSON *p = json_object(list, NULL);
        json_text(p, "key", f->key);
        json_text(p, "default", f->fallback);
        json_bool(p, "required", f->required);
        json_text(p, "help", f->help);
        if (f->choices) {
            cJSON *words = json_list(p, "choices");
            for (const char *const *c = f->choices; *c; c++)
                json_text(words, NULL, *c);
        }
    }
}

static void add_scheme(struct listing *l, const struct scheme *s, const char *name)
{
    cJSON *o = json_object(l->items, NULL);

    json_text(o, "name", name);
    json_text(o, "axis", scheme_axis_name(s->axis));
    json_text(o, "summary", s->summary);
    add_parameters(o, s);
    json_text(o, "source", s->source);
    json_text(o, "confidence", s->confidence);
    json_text(o, "caveat", s->caveat);
    json_text(o, "unsupported", s->unsupported);
}

static void list_schemes(struct listing *l)
{
    for (int axis = AXIS_SHARING; axis <= AXIS_STORAGE; axis++)
        for (size_t i = 0; scheme_at(i); i++)
            for (const char *const *v = scheme_at(i)->names;
                 *v && (int)scheme_at(i)->axis == axis; v++)
                add_scheme(l, scheme_at(i), *v);
}

/* Formats of the cache are the storage schemes; those of the weights are a table. */
static void list_formats(struct listing *l)
{
    for (size_t i = 0; scheme_at(i); i++) {
        const struct scheme *s = scheme_at(i);
        for (const char *const *v = s->names; *v && s->axis == AXIS_STORAGE; v++) {
            cJSON *o = json_object(l->items, NULL);
            json_text(o, "name", *v);
            json_text(o, "use", "cache");
            json_text(o, "summary", s->unsupported ? s->unsupported : s->summary);
            json_text(o, "source", s->source);
        }
    }
    for (size_t i = 0; weight_format_at(i); i++) {
        const struct weight_format *f = weight_format_at(i);
        cJSON *o = json_object(l->items, NULL);
        json_text(o, "name", f->name);
        json_text(o, "use", "weights");
        json_double(o, "bits_per_weight", 8.0 * f->block_bytes / f->block_elems);
        json_text(o, "source", f->source);
    }
}

static void list_workloads(struct listing *l)
{
    struct cmd_ctx *ctx = l->ctx;
    size_t n;
    const struct profile_entry *all =
        profile_list(l->profiles, PROFILE_WORKLOAD, ctx->arena, ctx->diag, &n);

    for (size_t i = 0; i < n; i++) {
        const struct doc_node *doc =
            profile_find(l->profiles, PROFILE_WORKLOAD, all[i].name, ctx->diag);
        const char *summary = NULL, *source = NULL;
        uint64_t prompt = 0, output = 0;
        cJSON *o;
        if (!doc || !doc_u64(doc_get(doc, "prompt"), 0, UINT64_MAX, ctx->diag, &prompt) ||
            !doc_u64(doc_get(doc, "output"), 0, UINT64_MAX, ctx->diag, &output) ||
            !doc_text(doc_get(doc, "summary"), ctx->diag, &summary) ||
            !doc_text(doc_get(doc, "source"), ctx->diag, &source))
            continue;
        o = json_object(l->items, NULL);
        json_text(o, "name", all[i].name);
        json_u64(o, "prompt_tokens", prompt);
        json_u64(o, "output_tokens", output);
        json_text(o, "summary", summary);
        json_text(o, "source", source);
    }
}

static void list_policies(struct listing *l)
{
    for (size_t i = 0; policy_at(i); i++) {
        cJSON *o = json_object(l->items, NULL);
        json_text(o, "name", policy_name(policy_at(i)));
        json_text(o, "summary", policy_summary(policy_at(i)));
        json_text(o, "source", policy_source(policy_at(i)));
    }
}

/* Formats of request traces that `sim` reads. */
static void list_traces(struct listing *l)
{
    for (size_t i = 0; trace_format_at(i); i++) {
        cJSON *o = json_object(l->items, NULL);
        json_text(o, "name", trace_format_name(trace_format_at(i)));
        json_text(o, "summary", trace_format_summary(trace_format_at(i)));
        json_text(o, "source", trace_format_source(trace_format_at(i)));
    }
}

/* --- kinds -------------------------------------------------------------------------------- */

enum shown {
    SHOW_TEXT,
    SHOW_COUNT,
    SHOW_INDEX, /* from 0 */
    SHOW_BYTES,
    SHOW_RATE,
    SHOW_FLOP,
    SHOW_NUMBER,
    SHOW_PARAMETERS
};

struct column {
    const char *key, *title;
    enum shown how;
};

enum { COLUMNS_MAX = 8 };

static const struct kind {
    const char *name;
    void (*list)(struct listing *l);
    struct column columns[COLUMNS_MAX];
} kinds[] = {
    {"models",
     list_models,
     {{"name", "model", SHOW_TEXT},
      {"family", "family", SHOW_TEXT},
      {"parameters", "parameters", SHOW_COUNT},
      {"layers", "layers", SHOW_COUNT},
      {"kv_layers", "with K/V", SHOW_COUNT},
      {"cache_bytes_per_token", "cache a token", SHOW_BYTES},
      {"max_position", "positions", SHOW_COUNT},
      {"confidence", "confidence", SHOW_TEXT}}},
    {"gpus",
     list_gpus,
     {{"name", "GPU", SHOW_TEXT},
      {"memory_usable_bytes", "usable", SHOW_BYTES},
      {"bandwidth_bytes_per_s", "bandwidth", SHOW_RATE},
      {"bf16_flop_per_s", "bf16", SHOW_FLOP},
      {"fp8_flop_per_s", "fp8", SHOW_FLOP},
      {"architecture", "architecture", SHOW_TEXT},
      {"confidence", "confidence", SHOW_TEXT}}},
    {"engines",
     list_engines,
     {{"name", "engine", SHOW_TEXT},
      {"block_tokens", "block", SHOW_COUNT},
      {"summary", "summary", SHOW_TEXT}}},
    {"schemes",
     list_schemes,
     {{"axis", "axis", SHOW_TEXT},
      {"name", "scheme", SHOW_TEXT},
      {"summary", "summary", SHOW_TEXT},
      {"parameters", "parameters and defaults", SHOW_PARAMETERS},
      {"confidence", "confidence", SHOW_TEXT},
      {"source", "source", SHOW_TEXT},
      {"unsupported", "not planned because", SHOW_TEXT}}},
    {"formats",
     list_formats,
     {{"use", "of", SHOW_TEXT},
      {"name", "format", SHOW_TEXT},
      {"bits_per_weight", "bits", SHOW_NUMBER},
      {"summary", "summary", SHOW_TEXT},
      {"source", "source", SHOW_TEXT}}},
    {"workloads",
     list_workloads,
     {{"name", "workload", SHOW_TEXT},
      {"prompt_tokens", "prompt", SHOW_COUNT},
      {"output_tokens", "output", SHOW_COUNT},
      {"summary", "summary", SHOW_TEXT}}},
    {"policies",
     list_policies,
     {{"name", "policy", SHOW_TEXT},
      {"summary", "summary", SHOW_TEXT},
      {"source", "source", SHOW_TEXT}}},
    {"traces",
     list_traces,
     {{"name", "trace", SHOW_TEXT},
      {"summary", "summary", SHOW_TEXT},
      {"source", "source", SHOW_TEXT}}},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

/* Of `gpus --local`. */
static const struct kind local_gpus = {"local_gpus",
                                       list_local_gpus,
                                       {{"index", "", SHOW_INDEX},
                                        {"name", "GPU", SHOW_TEXT},
                                        {"profile", "profile", SHOW_TEXT},
                                        {"memory_total_bytes", "total", SHOW_BYTES},
                                        {"memory_free_bytes", "free", SHOW_BYTES},
                                        {"compute_capability", "capability", SHOW_TEXT},
                                        {"driver", "driver", SHOW_TEXT}}};

static const struct kind *kind_of(struct cmd_ctx *ctx, const char *word)
{
    const char *names[N_KINDS], *near;

    for (size_t i = 0; i < N_KINDS; i++) {
        size_t n = strlen(kinds[i].name);
        names[i] = kinds[i].name;
        /* "model" will do for "models" */
        if (!strcmp(word, names[i]) ||
            (strlen(word) == n - 1 && !strncmp(word, names[i], n - 1)))
            return &kinds[i];
    }
    near = doc_nearest(word, names, N_KINDS);
    diag_add(
        ctx->diag, DIAG_USAGE, (struct loc){0},
        near
            ? "there is no list of '%s'; did you mean '%s'?"
            : "there is no list of '%s'; there are models, gpus, engines, schemes, formats, workloads, policies and traces",
        word, near);
    return NULL;
}

/* --- filter ------------------------------------------------------------------------------- */

/* Whether the text has the word in it; case, ' ', '_' and '-' do not matter. */
static bool has_word(const char *text, const char *word)
{
    for (; *text; text++) {
        size_t i = 0;
        for (; word[i] && text[i]; i++) {
            int x = tolower((unsigned char)text[i]), y = tolower((unsigned char)word[i]);
            bool x_gap = x == ' ' || x == '_' || x == '-',
                 y_gap = y == ' ' || y == '_' || y == '-';
            if (x != y && !(x_gap && y_gap))
                break;
        }
        if (!word[i])
            return true;
    }
    return !*word;
}

/* Keeps items with the word in their name, family, axis, use, vendor or architecture. */
static void filter(cJSON *items, const char *word)
{
    static const char *const keys[] = {"name", "family", "axis",
                                       "use",  "vendor", "architecture"};

    for (cJSON *o = items->child, *next; o; o = next) {
        bool keep = false;
        next = o->next;
        for (size_t i = 0; i < sizeof keys / sizeof *keys && !keep; i++) {
            const cJSON *v = json_at(o, keys[i]);
            keep = cJSON_IsString(v) && has_word(v->valuestring, word);
        }
        if (!keep)
            cJSON_Delete(cJSON_DetachItemViaPointer(items, o));
    }
}

/* --- table -------------------------------------------------------------------------------- */

/* "warmup=2, forward_passes=7"; what has no default and must be given is "kv_layers=?". */
static const char *parameters_text(struct arena *a, const cJSON *list)
{
    const char *s = "";

    for (const cJSON *p = list ? list->child : NULL; p; p = p->next) {
        const cJSON *dflt = json_at(p, "default");
        s = arena_printf(a, "%s%s%s", s, *s ? ", " : "", json_at(p, "key")->valuestring);
        if (cJSON_IsString(dflt))
            s = arena_printf(a, "%s=%s", s, dflt->valuestring);
        else if (cJSON_IsTrue(json_at(p, "required")))
            s = arena_printf(a, "%s=?", s);
    }
    return s;
}

static const char *cell_text(struct arena *a, const struct column *c, const cJSON *item)
{
    const cJSON *v = json_at(item, c->key);
    char buf[32];
    uint64_t whole = 0;
    double d = 0;

    if (c->how == SHOW_PARAMETERS)
        return parameters_text(a, v);
    if (c->how == SHOW_TEXT)
        return cJSON_IsString(v) ? v->valuestring : "";
    if (c->how == SHOW_INDEX)
        return json_get_u64(v, &whole) ? arena_printf(a, "%llu", (unsigned long long)whole)
                                       : "";
    if (!json_get_double(v, &d) || d <= 0)
        return v ? "-" : "";
    if (c->how == SHOW_RATE)
        return arena_strdup(a, unit_format_rate(d, buf, sizeof buf));
    if (c->how == SHOW_FLOP)
        return arena_printf(a, "%s/s", unit_format_flop(d, buf, sizeof buf));
    if (!json_get_u64(v, &whole))
        return arena_printf(a, "%.4g", d);
    return arena_strdup(a, c->how == SHOW_BYTES ? unit_format_bytes(whole, buf, sizeof buf)
                                                : unit_format_count(whole, buf, sizeof buf));
}

static void print_table(struct arena *a, const struct kind *kind, const cJSON *items, FILE *out)
{
    size_t n = 0;
    struct table *t;

    while (n < COLUMNS_MAX && kind->columns[n].key)
        n++;
    t = table_new(a, n);
    for (size_t c = 0; c < n; c++) {
        table_cell(t, kind->columns[c].title);
        if (kind->columns[c].how != SHOW_TEXT && kind->columns[c].how != SHOW_PARAMETERS)
            table_right(t, c);
    }
    table_rule(t);
    for (const cJSON *o = items->child; o; o = o->next)
        for (size_t c = 0; c < n; c++)
            table_cell(t, cell_text(a, &kind->columns[c], o));
    if (items->child)
        table_print(t, out);
    else
        fprintf(out, "no %s match\n", kind->name);
}

/* False: there is nothing to print, and the sink says why. */
static bool print(struct cmd_ctx *ctx, const struct cmd_options *opt, const struct kind *kind,
                  FILE *out)
{
    struct listing l = {.ctx = ctx,
                        .profiles = profiles_open(ctx->arena, opt->profiles, ctx->diag)};
    cJSON *root = json_object(NULL, NULL);
    bool some = true;

    json_text(root, "schema", "kvbudget.list/1");
    json_text(root, "kvbudget_version", KV_VERSION);
    json_text(root, "kind", kind->name);
    l.items = json_list(root, "items");
    if (!diag_failed(ctx->diag))
        kind->list(&l);
    some = l.items->child || !opt->local || !diag_failed(ctx->diag);
    if (opt->n_specs > 1)
        filter(l.items, opt->specs[1]);
    if (some && opt->format && !strcmp(opt->format, "json")) {
        json_print(root, false, out);
    } else if (some) {
        print_table(ctx->arena, kind, l.items, out);
    }
    cJSON_Delete(root);
    return some;
}

static int run(struct cmd_ctx *ctx)
{
    struct cmd_options opt;
    const struct kind *kind;
    struct file_out out;
    bool some;

    if (!cmd_options(ctx, &command_list, &opt))
        return diag_exit(ctx->diag);
    if (opt.help)
        return 0;
    if (opt.n_specs < 1 || opt.n_specs > 2) {
        diag_add(
            ctx->diag, DIAG_USAGE, (struct loc){0},
            "list takes models, gpus, engines, schemes, formats, workloads, policies or traces, and a word to look for");
        return diag_exit(ctx->diag);
    }
    kind = kind_of(ctx, opt.specs[0]);
    if (kind && opt.local && kind->list != list_gpus)
        diag_add(ctx->diag, DIAG_USAGE, (struct loc){0}, "--local goes with gpus, not with %s",
                 kind->name);
    if (opt.local)
        kind = &local_gpus;
    if (diag_failed(ctx->diag) || !kind ||
        !file_create(ctx->arena, opt.output, ctx->out, ctx->diag, &out))
        return diag_exit(ctx->diag);
    some = print(ctx, &opt, kind, out.f);
    cmd_diagnostics(ctx, &opt);
    if (some)
        (void)!file_commit(&out, ctx->diag);
    else
        file_abandon(&out);
    return diag_exit(ctx->diag);
}
