/* Explanations: the report's tree is walked, each figure finds its rule, and the rule writes
 * formula, numbers and sources. What the formulas are stands in explain_model.c,
 * explain_memory.c, explain_compute.c, explain_seconds.c and explain_band.c. */
#include "planner/plan/explain.h"

#include <stdarg.h>
#include <string.h>

#include "planner/base/unit.h"
#include "planner/plan/explain_fill.h"

/* --- writing ------------------------------------------------------------------------------ */

const char *explain_count(struct explain *e, uint64_t n)
{
    char buf[32];

    return arena_strdup(e->a, unit_format_count(n, buf, sizeof buf));
}

const char *explain_real(struct explain *e, double v)
{
    if (v >= 0 && v < 9e15 && (double)(uint64_t)v >= v)
        return explain_count(e, (uint64_t)v);
    return arena_printf(e->a, "%.12g", v);
}

void explain_put(struct explain *e, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    e->put_in = arena_printf(e->a, "%s%s", e->put_in, arena_vprintf(e->a, fmt, ap));
    va_end(ap);
}

void explain_term(struct explain *e, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    e->put_in = arena_printf(e->a, "%s%s%s", e->put_in, *e->put_in ? " + " : "",
                             arena_vprintf(e->a, fmt, ap));
    va_end(ap);
}

void explain_source(struct explain *e, const char *fmt, ...)
{
    va_list ap;
    const char *text;

    va_start(ap, fmt);
    text = arena_vprintf(e->a, fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < e->n_sources; i++)
        if (!strcmp(e->sources[i], text))
            return;
    if (e->n_sources < EXPLAIN_SOURCES)
        e->sources[e->n_sources++] = text;
}

void explain_from_gpu(struct explain *e, enum gpu_fact f)
{
    const struct gpu *g = &e->p->gpu;
    const struct gpu_origin *o = &g->origin[f];

    if (o->source)
        explain_source(e, "%s %s: %s%s", g->name && *g->name ? g->name : "GPU", gpu_fact_key(f),
                       o->source,
                       o->is_default ? " (a default, not a figure of this device)" : "");
}

void explain_from_model(struct explain *e)
{
    const struct model *m = &e->p->model;

    explain_source(e, "model %s (%s)%s%s", m->name ? m->name : "inline",
                   e->p->model_source && *e->p->model_source ? e->p->model_source : "spec",
                   m->sources && *m->sources ? ": " : "", m->sources ? m->sources : "");
}

void explain_from_engine(struct explain *e)
{
    explain_source(e, "engine %s: %s", e->p->engine->name, e->p->engine->source);
}

void explain_from_schemes(struct explain *e)
{
    for (uint32_t i = 0; i < e->p->n_uses; i++)
        explain_source(e, "%s %s: %s", scheme_axis_name(e->p->uses[i].scheme->axis),
                       e->p->uses[i].name, e->p->uses[i].scheme->source);
}

void explain_from_spec(struct explain *e, const char *key)
{
    explain_source(e, "spec: %s", key);
}

struct extra_cost explain_extra(const struct explain *e, uint64_t decoded)
{
    struct phase ph = {e->p->workload.prompt, decoded};
    struct extra_cost cost = {0};

    for (uint32_t i = 0; i < e->p->n_uses; i++)
        if (e->p->uses[i].scheme->extra)
            e->p->uses[i].scheme->extra(&e->p->uses[i], &e->p->layout, &ph, &cost);
    return cost;
}

/* --- rules -------------------------------------------------------------------------------- */

/* A pattern against a path; `*` takes one name, which goes to *op. */
static bool matches(const char *pattern, const char *path, enum op *op)
{
    for (; *pattern && *path; pattern++, path++) {
        size_t n;
        if (*pattern != '*') {
            if (*pattern != *path)
                return false;
            continue;
        }
        n = strcspn(path, ".");
        for (int i = 0; i < N_OPS; i++)
            if (strlen(op_name((enum op)i)) == n && !strncmp(op_name((enum op)i), path, n))
                *op = (enum op)i;
        path += n - 1;
    }
    return *pattern == *path;
}

static const struct explain_rule *rule_of(const char *path, enum op *op)
{
    const struct explain_rule *const tables[] = {explain_model_rules, explain_memory_rules,
                                                 explain_compute_rules, explain_seconds_rules,
                                                 explain_band_rules};

    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const struct explain_rule *r = tables[t]; r->path; r++)
            if (matches(r->path, path, op))
                return r;
    return NULL;
}

struct walk {
    struct arena *a;
    const struct report_in *in;
    const char *filter;
    cJSON *list;
    const char **paths; /* of all figures, for the hint */
    size_t n, cap;
};

static bool wanted(const char *path, const char *filter)
{
    size_t n = filter ? strlen(filter) : 0;

    return !n || (!strncmp(path, filter, n) && (!path[n] || path[n] == '.'));
}

static void add_entry(struct walk *w, const char *path, const cJSON *value)
{
    struct explain e = {
        .a = w->a, .p = w->in->problem, .plan = w->in->plan, .op = N_OPS, .put_in = ""};
    const struct explain_rule *rule = rule_of(path, &e.op);
    cJSON *o = json_object(w->list, NULL), *list, *copy = cJSON_Duplicate(value, 1);

    e.prefill = !strncmp(path, "compute.prefill", strlen("compute.prefill"));
    e.formula = rule ? rule->formula : "";
    if (rule && rule->fill)
        rule->fill(&e);
    json_text(o, "path", path);
    cJSON_AddItemToObject(o, "value", copy);
    json_text(o, "unit", rule ? rule->unit : "");
    json_text(o, "formula", e.formula);
    json_text(o, "substituted", e.put_in);
    json_bool(o, "is_expression", *e.put_in && !e.statement);
    list = json_list(o, "sources");
    for (size_t i = 0; i < e.n_sources; i++)
        json_text(list, NULL, e.sources[i]);
}

static bool is_figure(const cJSON *v)
{
    return cJSON_IsNumber(v) || cJSON_IsRaw(v);
}

/* Lists of numbers are figures; lists of objects repeat figures or are texts. */
static void walk(struct walk *w, const char *path, const cJSON *v)
{
    bool numbers = cJSON_IsArray(v) && is_figure(v->child);

    if (is_figure(v) || numbers) {
        if (w->n == w->cap) {
            w->cap = w->cap ? 2 * w->cap : 128;
            w->paths = arena_grow(w->a, w->paths, w->n, w->cap, sizeof *w->paths);
        }
        w->paths[w->n++] = path;
        if (wanted(path, w->filter))
            add_entry(w, path, v);
        return;
    }
    for (const cJSON *c = cJSON_IsObject(v) ? v->child : NULL; c; c = c->next)
        walk(w, arena_printf(w->a, "%s%s%s", path, *path ? "." : "", c->string), c);
}

cJSON *explain_json(struct arena *a, const struct report_in *in, const char *path,
                    struct diag *d)
{
    cJSON *report = report_json(in), *root = json_object(NULL, NULL);
    struct walk w = {.a = a, .in = in, .filter = path};
    const char *near;
    bool none;

    json_text(root, "schema", "kvbudget.explain/1");
    json_text(root, "kvbudget_version", KV_VERSION);
    json_text(root, "spec", in->name);
    w.list = json_list(root, "entries");
    walk(&w, "", report);
    json_diagnostics(json_list(root, "diagnostics"), in->diag, 0);
    cJSON_Delete(report);
    none = !w.list->child;
    if (!none)
        return root;
    cJSON_Delete(root);
    near = doc_nearest(path, w.paths, w.n);
    diag_add(d, DIAG_USAGE, (struct loc){0},
             near ? "the report has no figure '%s'; did you mean '%s'?"
                  : "the report has no figure '%s'; `kvbudget explain SPEC` lists them all",
             path, near);
    return NULL;
}

/* --- text --------------------------------------------------------------------------------- */

static const char *text_at(const cJSON *o, const char *key)
{
    const cJSON *v = json_at(o, key);

    return cJSON_IsString(v) ? v->valuestring : "";
}

static const char *number_text(struct arena *a, const cJSON *v)
{
    char buf[32];
    uint64_t whole;
    double d = 0;

    if (json_get_u64(v, &whole))
        return arena_strdup(a, unit_format_count(whole, buf, sizeof buf));
    return json_get_double(v, &d) ? arena_printf(a, "%.9g", d) : "?";
}

static const char *list_text(struct arena *a, const cJSON *list)
{
    const char *s = "";

    for (const cJSON *c = list->child; c; c = c->next)
        s = arena_printf(a, "%s%s%s", s, *s ? " " : "", number_text(a, c));
    return s;
}

/* What a big number is in everyday units: " (1.50 GiB)". */
static const char *rounded(struct arena *a, const cJSON *v, const char *unit)
{
    char buf[32];
    uint64_t whole = 0;
    double d = 0;

    if (!strcmp(unit, "bytes") && json_get_u64(v, &whole) && whole >= 1024)
        return arena_printf(a, " (%s)", unit_format_bytes(whole, buf, sizeof buf));
    if (!strcmp(unit, "s") && json_get_double(v, &d) && d > 0)
        return arena_printf(a, " (%s)", unit_format_seconds(d, buf, sizeof buf));
    if (!strcmp(unit, "FLOP") && json_get_double(v, &d) && d >= 1000)
        return arena_printf(a, " (%s)", unit_format_flop(d, buf, sizeof buf));
    return "";
}

void explain_text(struct arena *a, const cJSON *tree, FILE *out)
{
    const cJSON *list = json_at(tree, "entries");

    for (const cJSON *e = list ? list->child : NULL; e; e = e->next) {
        const cJSON *v = json_at(e, "value"), *sources = json_at(e, "sources");
        const char *unit = text_at(e, "unit"), *put_in = text_at(e, "substituted");
        fprintf(out, "%s = %s%s%s%s\n", text_at(e, "path"),
                cJSON_IsArray(v) ? list_text(a, v) : number_text(a, v), *unit ? " " : "", unit,
                rounded(a, v, unit));
        fprintf(out, "    %s\n", text_at(e, "formula"));
        if (*put_in)
            fprintf(out, "    = %s\n", put_in);
        for (const cJSON *s = sources ? sources->child : NULL; s; s = s->next)
            fprintf(out, "    from %s\n", s->valuestring);
        if (e->next)
            fputc('\n', out);
    }
}
