/* Validation results for programs and for people. */
#include "validate/report.h"

#include <math.h>
#include <string.h>

#include "planner/base/table.h"
#include "planner/base/unit.h"
#include "validate/timing.h"

enum { ROWS_SHOWN = 40 };

const char *validate_commit(void)
{
    return
#include "commit.inc"
        ;
}

/* --- JSON -----------------------------------------------------------------------------------
 */

static void add_figure(cJSON *o, const char *key, const struct finding *f, double v)
{
    if (f->quantity == QUANTITY_SECONDS)
        json_double(o, key, v);
    else
        json_whole(o, key, v);
}

static void add_finding(struct arena *a, cJSON *list, const struct finding *f)
{
    cJSON *o = json_object(list, NULL);
    double ratio = finding_ratio(f);

    json_text(o, "name", arena_printf(a, "%s: %s: %s", f->spec, f->check, f->what));
    json_text(o, "spec", f->spec);
    json_text(o, "check", f->check);
    json_text(o, "level", level_name(f->level));
    json_text(o, "verdict", verdict_name(f->verdict));
    json_text(o, "reason", f->reason);
    if (f->small)
        cJSON_AddTrueToObject(o, "small_twin");
    if (f->verdict == VERDICT_WAIVED)
        return;
    json_text(o, "unit", quantity_name(f->quantity));
    add_figure(o, "predicted", f, f->predicted);
    add_figure(o, "measured", f, f->measured);
    if (ratio >= 0)
        json_double(o, "ratio", ratio);
    json_double(o, "tolerance", f->tolerance);
}

static void add_counts(cJSON *o, const struct findings *f, int level)
{
    uint64_t n[3] = {0, 0, 0};

    for (size_t i = 0; i < f->n; i++)
        if (level < 0 || (int)f->list[i].level == level)
            n[f->list[i].verdict]++;
    for (int v = 0; v < 3; v++)
        json_u64(o, verdict_name((enum verdict)v), n[v]);
}

/* How far predictions of one figure were from what was measured: the mean, what nine in ten
 * stay below, and the worst. */
static void add_errors(cJSON *root, const struct findings *f, enum summary summary)
{
    double *v = ARENA_NEW(f->arena, double, f->n + 1), sum = 0, most = -1;
    const char *worst = "";
    uint32_t n = 0;
    cJSON *o;

    for (size_t i = 0; i < f->n; i++) {
        const struct finding *x = &f->list[i];
        if (x->summary != summary || x->verdict == VERDICT_WAIVED || !(x->predicted > 0))
            continue;
        v[n] = fabs(x->measured - x->predicted) / x->predicted;
        worst = v[n] > most ? x->spec : worst;
        most = fmax(most, v[n]);
        sum += v[n++];
    }
    if (!n)
        return;
    o = json_object(root, summary_name(summary));
    json_u64(o, "n", n);
    (void)timing_median(v, n); /* sorts */
    json_double(o, "mean", sum / n);
    json_double(o, "p90", v[(9 * n + 9) / 10 - 1]);
    json_double(o, "worst", most);
    json_text(o, "worst_spec", worst);
}

static void add_device(cJSON *root, const struct validate_report_in *in)
{
    const struct device_info *info = &in->result->info;

    json_text(root, "device", in->options->device);
    json_text(root, "device_name", info->name);
    json_text(root, "device_reason", in->device_why);
    json_text(root, "driver", in->driver);
    if (info->is_cpu)
        return;
    json_double(root, "compute_capability", info->major + info->minor / 10.0);
    json_u64(root, "memory_bytes", info->total_bytes);
    json_u64(root, "cuda_runtime", (uint64_t)info->runtime);
    if (in->clock_mhz)
        json_u64(root, "clock_mhz", in->clock_mhz);
    if (in->memory_clock_mhz)
        json_u64(root, "memory_clock_mhz", in->memory_clock_mhz);
}

static void add_specs(cJSON *root, const struct validate_report_in *in)
{
    cJSON *list = json_list(root, "specs");

    for (size_t i = 0; i < in->n_subjects; i++) {
        const struct subject *s = &in->subjects[i];
        cJSON *o = json_object(list, NULL);
        json_text(o, "name", s->name);
        json_u64(o, "prompt_tokens", s->prompt);
        json_u64(o, "decoded_tokens", s->decoded);
        json_u64(o, "asked_prompt_tokens", s->asked_prompt);
        json_u64(o, "asked_decoded_tokens", s->asked_decoded);
        if (s->small && in->result->info.is_cpu)
            json_text(o, "small_twin", s->small->cut);
    }
}

cJSON *validate_json(const struct validate_report_in *in)
{
    cJSON *root = json_object(NULL, NULL), *levels, *errors, *list;
    const struct findings *f = &in->result->findings;

    json_text(root, "schema", "kvbudget.validate/1");
    json_text(root, "kvbudget_version", KV_VERSION);
    json_text(root, "commit", validate_commit());
    json_text(root, "date", in->date);
    add_device(root, in);
    if (in->options->limit_bytes)
        json_u64(root, "memory_limit_bytes", in->options->limit_bytes);
    json_u64(root, "seed", in->options->seed);
    json_text(root, "verdict", in->result->n[VERDICT_FAILED] ? "failed" : "passed");
    add_counts(json_object(root, "summary"), f, -1);
    levels = json_object(root, "levels");
    for (int i = 0; i < N_LEVELS; i++)
        if (in->options->levels >> i & 1)
            add_counts(json_object(levels, level_name((enum level)i)), f, i);
    errors = json_object(root, "errors");
    for (int i = SUMMARY_OTHER + 1; i < N_SUMMARIES; i++)
        add_errors(errors, f, (enum summary)i);
    add_specs(root, in);
    list = json_list(root, "checks");
    for (size_t i = 0; i < f->n; i++)
        add_finding(f->arena, list, &f->list[i]);
    return root;
}

/* --- table ----------------------------------------------------------------------------------
 */

static const char *text_at(const cJSON *o, const char *path)
{
    const cJSON *v = json_at(o, path);

    return v && cJSON_IsString(v) ? v->valuestring : "";
}

static uint64_t whole_at(const cJSON *o, const char *path)
{
    uint64_t v = 0;

    return json_get_u64(json_at(o, path), &v) ? v : 0;
}

static double number_at(const cJSON *o, const char *path)
{
    double v = 0;

    return json_get_double(json_at(o, path), &v) ? v : 0;
}

const char *validate_sentence(struct arena *a, const cJSON *json)
{
    uint64_t passed = whole_at(json, "summary.passed"),
             failed = whole_at(json, "summary.failed");
    uint64_t waived = whole_at(json, "summary.waived");
    bool cpu = !strcmp(text_at(json, "device"), "cpu");
    const char *on = cpu ? "the CPU build" : text_at(json, "device_name");
    const char *rest =
        waived ? arena_printf(a, "; %llu waived", (unsigned long long)waived) : "";

    if (!passed && !failed)
        return arena_printf(a, "Nothing could be compared on %s%s", on, rest);
    if (failed)
        return arena_printf(a, "Outside tolerance: %llu of %llu predictions on %s%s",
                            (unsigned long long)failed, (unsigned long long)(passed + failed),
                            on, rest);
    return arena_printf(a, "Confirmed: %llu of %llu predictions on %s%s",
                        (unsigned long long)passed, (unsigned long long)passed, on, rest);
}

static void cell_figure(struct table *t, const cJSON *o, const char *key)
{
    char buf[32];

    if (!json_at(o, key))
        table_cell(t, "");
    else if (!strcmp(text_at(o, "unit"), "seconds"))
        table_cell(t, unit_format_seconds(number_at(o, key), buf, sizeof buf));
    else
        table_cell(t, unit_format_count(whole_at(o, key), buf, sizeof buf));
}

static void heads(struct table *t, const char *const *names)
{
    for (size_t i = 0; names[i]; i++)
        table_cell(t, names[i]);
    table_rule(t);
}

/* Each finding; only_bad: those that failed. */
static void print_findings(struct arena *a, const cJSON *json, bool only_bad, FILE *out)
{
    bool single = cJSON_GetArraySize(json_at(json, "specs")) == 1;
    static const char *const names[] = {"level", "", "predicted", "measured", "ratio",
                                        "tol.",  "", "reason",    NULL};
    struct table *t = table_new(a, 8);
    const cJSON *o;

    for (size_t c = 2; c < 6; c++)
        table_right(t, c);
    heads(t, names);
    cJSON_ArrayForEach(o, json_at(json, "checks"))
    {
        if (only_bad && strcmp(text_at(o, "verdict"), "failed") != 0)
            continue;
        table_cell(t, text_at(o, "level"));
        table_cell(t, text_at(o, "name") + (single ? strlen(text_at(o, "spec")) + 2 : 0));
        cell_figure(t, o, "predicted");
        cell_figure(t, o, "measured");
        if (json_at(o, "ratio"))
            table_cellf(t, "%.4f", number_at(o, "ratio"));
        else
            table_cell(t, "");
        if (json_at(o, "tolerance"))
            table_cellf(t, "%.1f %%", 100 * number_at(o, "tolerance"));
        else
            table_cell(t, "");
        table_cell(t, text_at(o, "verdict"));
        table_cell(t, text_at(o, "reason"));
    }
    table_print(t, out);
}

/* How the findings of a spec went at one level: "24 passed, 1 waived"; NULL without any. */
static const char *outcome(struct arena *a, const cJSON *json, const char *spec, int level)
{
    uint64_t n[3] = {0, 0, 0};
    const char *text = NULL;
    const cJSON *o;

    cJSON_ArrayForEach(o, json_at(json, "checks"))
    {
        if (strcmp(text_at(o, "spec"), spec) != 0 ||
            strcmp(text_at(o, "level"), level_name((enum level)level)) != 0)
            continue;
        for (int v = 0; v < 3; v++)
            n[v] += !strcmp(text_at(o, "verdict"), verdict_name((enum verdict)v));
    }
    for (int v = 0; v < 3; v++)
        if (n[v])
            text = arena_printf(a, "%s%s%llu %s", text ? text : "", text ? ", " : "",
                                (unsigned long long)n[v], verdict_name((enum verdict)v));
    return text;
}

/* Whether something was compared on a small twin. */
static bool any_twin(const cJSON *json)
{
    const cJSON *o;

    cJSON_ArrayForEach(o, json_at(json, "checks"))
    {
        if (json_at(o, "small_twin") && strcmp(text_at(o, "verdict"), "waived") != 0)
            return true;
    }
    return false;
}

/* A line for each spec: how it went at the levels that were asked for. */
static void print_specs(struct arena *a, const cJSON *json, FILE *out)
{
    const cJSON *levels = json_at(json, "levels"), *o;
    bool twins = any_twin(json);
    struct table *t = table_new(a, (size_t)cJSON_GetArraySize(levels) + (twins ? 2 : 1));

    table_cell(t, "spec");
    cJSON_ArrayForEach(o, levels) table_cell(t, o->string);
    if (twins)
        table_cell(t, "");
    table_rule(t);
    cJSON_ArrayForEach(o, json_at(json, "specs"))
    {
        table_cell(t, text_at(o, "name"));
        for (int i = 0; i < N_LEVELS; i++) {
            const char *text = outcome(a, json, text_at(o, "name"), i);
            if (cJSON_GetObjectItem(levels, level_name((enum level)i)))
                table_cell(t, text ? text : "");
        }
        if (twins)
            table_cell(t, text_at(o, "small_twin"));
    }
    table_print(t, out);
}

/* Each reason of a waiver once, with how often it was given. */
static void print_waivers(const cJSON *json, FILE *out)
{
    const cJSON *checks = json_at(json, "checks"), *o, *p;
    bool any = false;

    cJSON_ArrayForEach(o, checks)
    {
        uint64_t n = 0;
        bool first = true;
        if (strcmp(text_at(o, "verdict"), "waived") != 0)
            continue;
        cJSON_ArrayForEach(p, checks)
        {
            bool same = !strcmp(text_at(p, "reason"), text_at(o, "reason")) &&
                        !strcmp(text_at(p, "verdict"), "waived");
            first = first && (!same || n || p == o);
            n += same;
        }
        if (!first)
            continue;
        fprintf(out, "%s  %4llu  %s: %s\n", any ? "" : "\nwaived\n", (unsigned long long)n,
                text_at(o, "check"), text_at(o, "reason"));
        any = true;
    }
}

/* Errors of figures that were compared more than once. */
static void print_errors(struct arena *a, const cJSON *json, FILE *out)
{
    static const char *const names[] = {"error of", "n", "mean", "p90", "worst", "", NULL};
    struct table *t = table_new(a, 6);
    const cJSON *o;
    bool any = false;

    for (size_t c = 1; c < 5; c++)
        table_right(t, c);
    heads(t, names);
    cJSON_ArrayForEach(o, json_at(json, "errors"))
    {
        if (whole_at(o, "n") < 2)
            continue;
        any = true;
        table_cell(t, o->string);
        table_cellf(t, "%llu", (unsigned long long)whole_at(o, "n"));
        table_cellf(t, "%.1f %%", 100 * number_at(o, "mean"));
        table_cellf(t, "%.1f %%", 100 * number_at(o, "p90"));
        table_cellf(t, "%.1f %%", 100 * number_at(o, "worst"));
        table_cell(t, text_at(o, "worst_spec"));
    }
    if (!any)
        return;
    table_print(t, out);
    fputc('\n', out);
}

void validate_table(struct arena *a, const cJSON *json, bool verbose, FILE *out)
{
    bool all = verbose || cJSON_GetArraySize(json_at(json, "checks")) <= ROWS_SHOWN;

    const cJSON *first = cJSON_GetArrayItem(json_at(json, "specs"), 0);

    fprintf(out, "%s.\n", validate_sentence(a, json));
    if (all && any_twin(json))
        fprintf(out, "The decoder as a whole ran as a small twin, %s.\n",
                text_at(first, "small_twin"));
    fputc('\n', out);
    print_errors(a, json, out);
    if (all) {
        print_findings(a, json, false, out);
        return;
    }
    print_specs(a, json, out);
    print_waivers(json, out);
    if (whole_at(json, "summary.failed")) {
        fputc('\n', out);
        print_findings(a, json, true, out);
    }
}
