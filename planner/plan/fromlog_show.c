/* What a log says, put to use: settings laid under a spec, and terms beside the prediction. */
#include "planner/plan/fromlog_in.h"

#include <string.h>

#include "planner/base/file.h"
#include "planner/base/table.h"
#include "planner/model/quant.h"

/* --- the model ------------------------------------------------------------------------------
 */

struct laying {
    struct arena *arena;
    const struct server_log *log;
    const struct profiles *profiles;
    struct doc_node *spec;
    struct diag *diag;
};

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

/* "models--Qwen--Qwen3-8B" somewhere in a path is Qwen/Qwen3-8B; else the last folder or file,
 * without ".gguf". */
static const char *last_name(struct arena *a, const char *text)
{
    const char *hub = strstr(text, "models--"), *org, *end = text + strlen(text), *start;
    size_t n;

    if (hub && (org = strstr(hub + 8, "--")) != NULL && org < hub + strcspn(hub, "/")) {
        n = strcspn(org + 2, "/");
        return arena_printf(a, "%.*s/%.*s", (int)(org - hub - 8), hub + 8, (int)n, org + 2);
    }
    while (end > text && end[-1] == '/')
        end--;
    for (start = end; start > text && start[-1] != '/';)
        start--;
    if (ends_with(text, ".gguf"))
        end -= 5;
    return end > start ? arena_strndup(a, start, (size_t)(end - start)) : text;
}

/* Where the type of a GGUF file begins in its name: "-Q4_K_M", ".F16", ":Q8_0"; NULL = not. */
static const char *type_in_name(const char *name)
{
    static const char *const types[] = {"Q",    "q",    "IQ",  "iq",    "F16",   "f16",
                                        "BF16", "bf16", "F32", "MXFP4", "mxfp4", "UD-"};

    for (const char *s = name + strlen(name); s > name; s--) {
        if (s[-1] != '-' && s[-1] != '.' && s[-1] != ':')
            continue;
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            size_t n = strlen(types[i]);
            if (!strncmp(s, types[i], n) &&
                (n > 2 || (s[n] >= '1' && s[n] <= '8' && s[n + 1] == '_')))
                return s - 1;
        }
    }
    return NULL;
}

/* Q4_K_M, IQ4_XS, BF16 -> the format that most of such a file is in, or NULL. */
static const char *format_of_type(struct arena *a, const char *type)
{
    char *word = arena_strdup(a, type);
    size_t n = strlen(word);

    for (size_t i = 0; i < n; i++)
        if (word[i] >= 'A' && word[i] <= 'Z')
            word[i] = (char)(word[i] - 'A' + 'a');
    if (weight_format_find(word))
        return weight_format_find(word)->name;
    while (n && word[n] != '_')
        n--;
    word[n] = '\0';
    return n && weight_format_find(word) ? weight_format_find(word)->name : NULL;
}

/* Whether all matrices of such a file are of the one type. */
static bool is_whole_type(struct arena *a, const char *type)
{
    const char *format = format_of_type(a, type);

    return format && strlen(format) == strlen(type) && !strstr(format, "_k");
}

/* The name among all that were seen which is known, as it is or shortened; else the first. */
static const struct log_setting *known_model(const struct laying *l, const char **name,
                                             const char **type)
{
    for (size_t i = 0; i < l->log->n_models; i++) {
        const struct log_setting *m = &l->log->models[i];
        const char *last = last_name(l->arena, m->value), *cut = type_in_name(last);
        *type = cut ? cut + 1 : NULL;
        *name = m->value;
        if (profile_has(l->profiles, PROFILE_MODEL, *name, l->diag) ||
            (strchr(*name, '/') && file_exists(*name)))
            return m;
        *name = last;
        if (profile_has(l->profiles, PROFILE_MODEL, last, l->diag))
            return m;
        *name = cut ? arena_strndup(l->arena, last, (size_t)(cut - last)) : last;
        if (ends_with(*name, "-GGUF"))
            *name = arena_strndup(l->arena, *name, strlen(*name) - 5);
        if (profile_has(l->profiles, PROFILE_MODEL, *name, l->diag))
            return m;
    }
    *type = NULL;
    *name = l->log->n_models ? l->log->models[0].value : NULL;
    return l->log->n_models ? &l->log->models[0] : NULL;
}

/* --- laying under ---------------------------------------------------------------------------
 */

static struct doc_node *child(struct arena *a, struct doc_node *map, const char *key, size_t n,
                              struct loc at)
{
    for (struct doc_node *c = map->first; c; c = c->next)
        if (c->key && strlen(c->key) == n && !strncmp(c->key, key, n))
            return c;
    struct doc_node *fresh = doc_new(a, DOC_MAP, at);
    fresh->key = arena_strndup(a, key, n);
    fresh->key_at = at;
    doc_append(map, fresh);
    return fresh;
}

/* Adds a value where the spec has none; a path that runs through a scalar is left for the
 * binding to complain about. */
static void put(const struct laying *l, const char *path, const char *value, struct loc at)
{
    struct doc_node *to = l->spec;

    for (const char *s = path;; s++) {
        size_t n = strcspn(s, ".");
        if (to->kind == DOC_SCALAR && doc_is_null(to))
            to->kind = DOC_MAP;
        if (to->kind != DOC_MAP)
            return;
        to = child(l->arena, to, s, n, at);
        s += n;
        if (!*s)
            break;
    }
    to->kind = DOC_SCALAR;
    to->text = value;
    to->at = at;
}

static bool given(const struct laying *l, const char *path)
{
    return !doc_is_null(doc_path(l->spec, path));
}

/* One setting: the spec's own word stands, and a difference is noted. */
static void lay(const struct laying *l, const char *path, const char *value,
                const struct log_setting *from)
{
    const struct doc_node *own = doc_path(l->spec, path);

    if (doc_is_null(own)) {
        put(l, path, value, from->at);
        diag_add(l->diag, DIAG_NOTE, from->at, "%s: %s, from the log (%s)", path, value,
                 from->words);
    } else if (own->kind == DOC_SCALAR && strcmp(own->text, value) != 0) {
        diag_add(l->diag, DIAG_NOTE, own->at, "%s is %s here and %s in the log (%s:%d)", path,
                 own->text, value, from->at.file, from->at.line);
    }
}

static void lay_model(const struct laying *l)
{
    const char *name = NULL, *type = NULL, *format;
    const struct log_setting *m;

    if (given(l, "model"))
        return;
    m = known_model(l, &name, &type);
    if (!m)
        return;
    lay(l, "model", name, m);
    if (!type || strcmp(l->log->engine, "llamacpp") != 0 || file_exists(name))
        return;
    format = format_of_type(l->arena, type);
    if (!format)
        return;
    lay(l, "weights.format", format, m);
    if (!is_whole_type(l->arena, type))
        diag_add(l->diag, DIAG_WARN, m->at,
                 "a file of type %s mixes formats; it is planned as %s throughout", type,
                 format);
}

static void lay_hardware(const struct laying *l)
{
    const struct log_setting *gpu = log_setting(l->log, "hardware.gpu"),
                             *memory = log_setting(l->log, "hardware.memory"),
                             *devices = log_setting(l->log, "_devices");
    const char *name = gpu ? gpu->value : NULL;

    if (given(l, "hardware.gpu") || given(l, "hardware.memory"))
        name = NULL, memory = NULL;
    if (name && !profile_has(l->profiles, PROFILE_GPU, name, l->diag) &&
        !strncmp(name, "NVIDIA ", 7))
        name += 7;
    if (name && !profile_has(l->profiles, PROFILE_GPU, name, l->diag)) {
        diag_add(l->diag, DIAG_WARN, gpu->at, "there is no profile of the GPU '%.60s'", name);
        name = NULL;
    }
    if (name)
        lay(l, "hardware.gpu", name, gpu);
    else if (memory)
        lay(l, "hardware.memory", memory->value, memory);
    if (devices && strcmp(devices->value, "1") != 0 && !given(l, "parallel"))
        lay(l, "hardware.count", devices->value, devices);
}

/* A workload that fits a short context, where the spec has none. */
static void lay_workload(const struct laying *l)
{
    const struct log_setting *s = log_setting(l->log, "engine.max_model_len");
    uint64_t len = 0, output;

    if (given(l, "workload") || !log_setting_u64(l->log, "engine.max_model_len", &len) ||
        len < 2 || len >= 2560)
        return;
    output = len / 2 < 512 ? len / 2 : 512;
    lay(l, "workload.prompt",
        arena_printf(l->arena, "%llu", (unsigned long long)(len - output)), s);
    lay(l, "workload.output", arena_printf(l->arena, "%llu", (unsigned long long)output), s);
}

static bool same_engine(const struct laying *l)
{
    const struct doc_node *own = doc_path(l->spec, "engine.name");

    if (doc_is_null(own) || own->kind != DOC_SCALAR || !strcmp(own->text, l->log->engine) ||
        !strcmp(own->text, "ideal"))
        return true;
    return diag_add(l->diag, DIAG_INPUT, own->at, "engine.name is %.40s, the log %s is of %s",
                    own->text, l->log->name, l->log->engine);
}

bool fromlog_lay_under(struct arena *a, const struct server_log *log,
                       const struct profiles *profiles, struct doc_node *spec, struct diag *d)
{
    struct laying l = {a, log, profiles, spec, d};
    const struct log_setting engine = {
        "engine.name", log->engine, "the form of its lines", {log->name, 0, 0}, 0};

    for (size_t i = 0; i < diag_count(log->diag); i++) {
        const struct diag_message *m = diag_at(log->diag, i);
        diag_add(d, m->kind, m->at, "%s", m->text);
    }
    if (spec->kind != DOC_MAP)
        return true;
    if (!same_engine(&l))
        return false;
    if (!given(&l, "engine.name"))
        lay(&l, "engine.name", log->engine, &engine);
    lay_model(&l);
    lay_hardware(&l);
    for (size_t i = 0; i < log->n_settings; i++) {
        const struct log_setting *s = &log->settings[i];
        bool half = !strcmp(s->path, "cache.k") || !strcmp(s->path, "cache.v");
        if (s->path[0] == '_' || !strncmp(s->path, "hardware.", 9) ||
            (half && given(&l, "cache.format")))
            continue;
        lay(&l, s->path, s->value, s);
    }
    lay_workload(&l);
    return true;
}

/* --- beside the prediction ------------------------------------------------------------------
 */

static bool is_bytes(const char *path)
{
    return ends_with(path, "_bytes");
}

/* One device of llama.cpp's log is the GPU of the report; several are its stages. */
static const char *report_path(struct arena *a, const cJSON *report, const char *path)
{
    const cJSON *gpus = json_at(report, "memory.gpus");
    const char *term = strrchr(path, '.');

    if (strncmp(path, "memory.gpus.", 12) != 0 || cJSON_GetArraySize(gpus) > 1)
        return path;
    return arena_printf(a, "memory.per_gpu%s", term);
}

/* SGLang's graphs lie in what its static share leaves: no plan has a term for them. */
static bool planned(const char *engine, const char *path)
{
    return strcmp(engine, "sglang") != 0 || !ends_with(path, ".cuda_graph_bytes");
}

static void add_term(cJSON *list, const struct server_log *log, const struct log_term *t,
                     const cJSON *report)
{
    struct arena *a = arena_new();
    const char *path = report_path(a, report, t->path);
    cJSON *o = json_object(list, NULL);
    double predicted = 0;
    bool known =
        planned(log->engine, path) && json_get_double(json_at(report, path), &predicted);

    json_text(o, "path", path);
    if (known) {
        if (is_bytes(path))
            json_whole(o, "predicted", predicted);
        else
            json_double(o, "predicted", predicted);
    }
    if (is_bytes(path))
        json_whole(o, "measured", t->value);
    else
        json_double(o, "measured", t->value);
    json_double(o, "resolution", t->resolution);
    json_u64(o, "line", (uint64_t)t->at.line);
    if (known)
        json_double(o, "difference", predicted - t->value);
    if (known && t->value > 0)
        json_double(o, "relative", (predicted - t->value) / t->value);
    arena_free(a);
}

void fromlog_json(const struct server_log *log, cJSON *report)
{
    cJSON *o = json_object(report, "from_log"), *settings, *terms;

    json_text(o, "file", log->name);
    json_text(o, "engine", log->engine);
    json_text(o, "version", log->version);
    settings = json_object(o, "settings");
    if (log->n_models)
        json_text(settings, "model", log->models[0].value);
    for (size_t i = 0; i < log->n_settings; i++)
        if (log->settings[i].path[0] != '_')
            json_text(settings, log->settings[i].path, log->settings[i].value);
    terms = json_list(o, "terms");
    for (size_t i = 0; i < log->n_terms; i++)
        add_term(terms, log, &log->terms[i], report);
}

/* --- the table ------------------------------------------------------------------------------
 */

static const char *figure(struct arena *a, const char *path, double v)
{
    char buf[32];

    if (is_bytes(path))
        return arena_strdup(a, unit_format_bytes((uint64_t)v, buf, sizeof buf));
    if (!strcmp(path, "capacity.max_concurrency"))
        return arena_printf(a, "%.2f", v);
    return arena_strdup(a, unit_format_count((uint64_t)v, buf, sizeof buf));
}

static double size_of(double v)
{
    return v < 0 ? -v : v;
}

static void draw_term(struct arena *a, struct table *t, const cJSON *term)
{
    const char *path = json_at(term, "path")->valuestring;
    double predicted = 0, measured = 0, resolution = 0, difference;
    bool known = json_get_double(json_at(term, "predicted"), &predicted);

    (void)!json_get_double(json_at(term, "measured"), &measured);
    (void)!json_get_double(json_at(term, "resolution"), &resolution);
    table_cellf(t, "  %s", path);
    table_cell(t, known ? figure(a, path, predicted) : "-");
    table_cell(t, figure(a, path, measured));
    difference = predicted - measured;
    if (!known) {
        table_cell(t, "not predicted");
        table_cell(t, "");
    } else if (size_of(difference) <= resolution) {
        table_cell(t, "equal");
        table_cell(t, "");
    } else {
        table_cellf(t, "%s%s", difference < 0 ? "-" : "+",
                    figure(a, path, size_of(difference)));
        table_cell(t, measured > 0 ? arena_printf(a, "%+.2f %%", 100 * difference / measured)
                                   : "");
    }
}

void fromlog_table(struct arena *a, const cJSON *report, FILE *out)
{
    const cJSON *log = json_at(report, "from_log"), *terms = json_at(log, "terms"),
                *version = json_at(log, "version"), *term;
    struct table *t = table_new(a, 5);

    if (!log)
        return;
    fprintf(out, "\n%s: %s%s%s\n", json_at(log, "file")->valuestring,
            json_at(log, "engine")->valuestring, version ? " " : "",
            version ? version->valuestring : "");
    if (!cJSON_GetArraySize(terms)) {
        fputs("  settings only, no figure that it has measured\n", out);
        return;
    }
    for (size_t i = 1; i < 5; i++)
        table_right(t, i);
    table_cell(t, "  term");
    table_cell(t, "predicted");
    table_cell(t, "log");
    table_cell(t, "difference");
    table_cell(t, "");
    table_rule(t);
    cJSON_ArrayForEach(term, terms) draw_term(a, t, term);
    table_print(t, out);
}
