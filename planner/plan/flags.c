/* What an engine's settings look like as text and as JSON. */
#include "planner/plan/flags.h"

#include <string.h>

#include "planner/base/file.h"
#include "planner/plan/report.h"

/* --- the model's name ----------------------------------------------------------------------
 */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

/* The folder a file lies in. */
static const char *folder_of(struct arena *a, const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return ".";
    return slash == path ? "/" : arena_strndup(a, path, (size_t)(slash - path));
}

/* A path stays one, a config.json stands for its folder, a profile for its name on the hub. */
static const char *model_name(struct arena *a, const struct problem *p)
{
    const struct doc_node *n = p->spec->model;

    if (n->kind == DOC_MAP && (doc_get(n, "config") || doc_get(n, "profile")))
        n = doc_get(n, "config") ? doc_get(n, "config") : doc_get(n, "profile");
    if (n->kind != DOC_SCALAR)
        return p->model.name && doc_get(n, "name") ? p->model.name : "MODEL";
    if (ends_with(n->text, ".gguf") || file_is_dir(n->text))
        return n->text;
    if (ends_with(n->text, ".json") || ends_with(n->text, ".safetensors"))
        return folder_of(a, n->text);
    return p->model.name ? p->model.name : n->text;
}

/* --- asking the engine ---------------------------------------------------------------------
 */

static void ask(struct arena *a, const struct problem *p, const struct plan *plan,
                struct flags *out)
{
    struct engine_in in = problem_engine_in(p, plan->tightest);
    uint64_t device =
        p->spec->hardware.memory ? p->spec->hardware.memory : p->gpu.memory_usable_bytes;
    uint64_t sequences = p->workload.batch ? p->workload.batch : plan->max_batch;
    uint32_t dp = p->parallel.dp;
    struct flags_in with = {.in = &in,
                            .pool = &p->stages[plan->tightest].pool,
                            .model = out->model,
                            .sequences = sequences / dp + (sequences % dp != 0),
                            .device_bytes = device,
                            .offload = p->offload,
                            .len_given = p->spec->engine.max_model_len > 0};

    out->set = (struct engine_flags){.arena = a};
    if (!strcmp(out->model, "MODEL"))
        flag_note(&out->set, "MODEL stands for the model, which the spec describes only");
    p->engine->flags(&with, &out->set);
}

bool flags_solve(struct arena *a, const struct problem *p, struct diag *d, struct flags *out)
{
    struct plan plan;
    struct report_in in = {.problem = p, .plan = &plan};

    *out = (struct flags){0};
    if (!p->engine->flags)
        return diag_add(d, DIAG_INPUT, p->spec->engine_at,
                        "the engine of this plan is '%s', which is no server; name one "
                        "(engine.name: vllm, sglang, trtllm, llamacpp or hf)",
                        p->engine->name);
    plan_solve(p, &p->workload, &plan);
    if (!report_countable(&in, d))
        return false;
    out->model = model_name(a, p);
    out->sentence = report_sentence(a, p, &plan);
    out->fits = plan.fits;
    ask(a, p, &plan, out);
    return true;
}

/* --- text ----------------------------------------------------------------------------------
 */

/* A word as a shell takes it. */
static const char *shell_word(struct arena *a, const char *s)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/:=+,@%-";
    const char *out = "'", *quote;

    if (*s && !s[strspn(s, plain)])
        return s;
    while ((quote = strchr(s, '\'')) != NULL) {
        out = arena_printf(a, "%s%.*s'\\''", out, (int)(quote - s), s);
        s = quote + 1;
    }
    return arena_printf(a, "%s%s'", out, s);
}

/* Options stand on lines of their own; the words of the program do not. */
static bool starts_line(const struct flag *x)
{
    return x->key || !strncmp(x->name, "--", 2);
}

/* The environment comes before the first word, also where the engine named it later. */
static const char *join(struct arena *a, const struct flags *f, const char *between)
{
    const char *s = "";

    for (size_t i = 0; i < f->set.n; i++) {
        const struct flag *x = &f->set.items[i];
        const char *value = x->value ? shell_word(a, x->value) : "";
        if (x->place == FLAG_ENVIRONMENT)
            s = arena_printf(a, "%s=%s%s%s", x->name, value, *s ? " " : "", s);
        else if (x->place == FLAG_COMMAND)
            s = arena_printf(a, "%s%s%s%s%s", s,
                             !*s              ? ""
                             : starts_line(x) ? between
                                              : " ",
                             shell_word(a, x->name), x->value ? " " : "", value);
    }
    return s;
}

const char *flags_command(struct arena *a, const struct flags *f)
{
    return join(a, f, " ");
}

/* "kv_cache_config.dtype: fp8" as nested YAML; neighbours share their map. */
static const char *file_text(struct arena *a, const struct flags *f)
{
    const char *s = "", *map = NULL;

    for (size_t i = 0; i < f->set.n; i++) {
        const struct flag *x = &f->set.items[i];
        const char *dot = x->place == FLAG_FILE ? strchr(x->name, '.') : NULL;
        size_t n = dot ? (size_t)(dot - x->name) : 0;
        if (x->place != FLAG_FILE)
            continue;
        if (dot && (!map || strncmp(map, x->name, n + 1) != 0))
            s = arena_printf(a, "%s%.*s:\n", s, (int)n, x->name);
        map = dot ? x->name : NULL;
        s = arena_printf(a, "%s%s%s: %s\n", s, dot ? "  " : "", dot ? dot + 1 : x->name,
                         x->value);
    }
    return s;
}

static bool has_place(const struct flags *f, enum flag_place place)
{
    for (size_t i = 0; i < f->set.n; i++)
        if (f->set.items[i].place == place)
            return true;
    return false;
}

static const char *python_arguments(struct arena *a, const struct flags *f,
                                    enum flag_place place)
{
    const char *s = "";

    for (size_t i = 0; i < f->set.n; i++)
        if (f->set.items[i].place == place)
            s = arena_printf(a, "%s    %s=%s,\n", s, f->set.items[i].name,
                             f->set.items[i].value);
    return s;
}

/* A text as a Python literal. */
static const char *python_text(struct arena *a, const char *s)
{
    const char *out = "\"", *odd;

    while (*(odd = s + strcspn(s, "\"\\"))) {
        out = arena_printf(a, "%s%.*s\\%c", out, (int)(odd - s), s, *odd);
        s = odd + 1;
    }
    return arena_printf(a, "%s%s\"", out, s);
}

static const char *python(struct arena *a, const struct flags *f)
{
    const char *load = python_arguments(a, f, FLAG_LOAD);
    bool bits = strstr(load, "BitsAndBytesConfig") != NULL;

    return arena_printf(a,
                        "import torch\n"
                        "from transformers import AutoModelForCausalLM%s\n\n"
                        "model = AutoModelForCausalLM.from_pretrained(\n    %s,\n%s)\n"
                        "output = model.generate(\n    **inputs,\n%s)\n",
                        bits ? ", BitsAndBytesConfig" : "", python_text(a, f->model), load,
                        python_arguments(a, f, FLAG_GENERATE));
}

void flags_print(struct arena *a, const struct flags *f, FILE *out)
{
    fprintf(out, "# %s\n", f->sentence);
    for (size_t i = 0; i < f->set.n_notes; i++)
        fprintf(out, "# %s\n", f->set.notes[i]);
    for (size_t i = 0; i < f->set.n_cannot; i++)
        fprintf(out, "# not set, %s: %s\n", f->set.cannot[i].key, f->set.cannot[i].reason);
    if (has_place(f, FLAG_FILE))
        fprintf(out, "cat >%s <<'END'\n%sEND\n", shell_word(a, f->set.file), file_text(a, f));
    if (has_place(f, FLAG_COMMAND))
        fprintf(out, "%s\n", join(a, f, " \\\n  "));
    if (has_place(f, FLAG_LOAD))
        fputs(python(a, f), out);
}

/* --- JSON ----------------------------------------------------------------------------------
 */

static void json_settings(cJSON *root, const struct flags *f)
{
    static const char *const places[] = {"command", "environment", "file", "load", "generate"};
    cJSON *list = json_list(root, "settings");

    for (size_t i = 0; i < f->set.n; i++) {
        const struct flag *x = &f->set.items[i];
        cJSON *o;
        if (!x->key)
            continue;
        o = json_object(list, NULL);
        json_text(o, "key", x->key);
        json_text(o, "place", places[x->place]);
        json_text(o, "name", x->name);
        json_text(o, "value", x->value);
    }
}

/* What to run: words for an exec, the environment and the file that go with them, or Python. */
static void json_run(cJSON *root, struct arena *a, const struct flags *f)
{
    cJSON *o;

    if (has_place(f, FLAG_COMMAND)) {
        json_text(root, "command", flags_command(a, f));
        o = json_list(root, "argv");
        for (size_t i = 0; i < f->set.n; i++)
            if (f->set.items[i].place == FLAG_COMMAND) {
                json_text(o, NULL, f->set.items[i].name);
                json_text(o, NULL, f->set.items[i].value);
            }
    }
    if (has_place(f, FLAG_ENVIRONMENT)) {
        o = json_object(root, "environment");
        for (size_t i = 0; i < f->set.n; i++)
            if (f->set.items[i].place == FLAG_ENVIRONMENT)
                json_text(o, f->set.items[i].name, f->set.items[i].value);
    }
    if (has_place(f, FLAG_FILE)) {
        o = json_object(root, "file");
        json_text(o, "name", f->set.file);
        json_text(o, "text", file_text(a, f));
    }
    if (has_place(f, FLAG_LOAD))
        json_text(root, "python", python(a, f));
}

cJSON *flags_json(const char *name, const struct problem *p, const struct flags *f,
                  const struct diag *d)
{
    struct arena *a = p->arena;
    cJSON *root = json_object(NULL, NULL), *o;

    json_text(root, "schema", "kvbudget.flags/1");
    json_text(root, "kvbudget_version", KV_VERSION);
    json_text(root, "spec", name);
    o = json_object(root, "engine");
    json_text(o, "name", p->engine->name);
    json_text(o, "version", p->settings.version);
    json_text(root, "model", f->model);
    o = json_object(root, "verdict");
    json_bool(o, "fits", f->fits);
    json_text(o, "reason", f->sentence);
    json_bool(o, "settable", !f->set.n_cannot);
    json_run(root, a, f);
    json_settings(root, f);
    o = json_list(root, "cannot");
    for (size_t i = 0; i < f->set.n_cannot; i++) {
        cJSON *c = json_object(o, NULL);
        json_text(c, "key", f->set.cannot[i].key);
        json_text(c, "reason", f->set.cannot[i].reason);
    }
    o = json_list(root, "notes");
    for (size_t i = 0; i < f->set.n_notes; i++)
        json_text(o, NULL, f->set.notes[i]);
    json_diagnostics(json_list(root, "diagnostics"), d, 0);
    return root;
}
