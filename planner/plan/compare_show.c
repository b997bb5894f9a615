/* A comparison as JSON and as a table. */
#include <string.h>

#include "planner/base/table.h"
#include "planner/base/unit.h"
#include "planner/plan/compare.h"
#include "planner/plan/params.h"

/* --- JSON --------------------------------------------------------------------------------- */

static const char *status_name(enum compare_status s)
{
    switch (s) {
    case COMPARE_OK: return "ok";
    case COMPARE_REFUSED: return "refused";
    case COMPARE_UNSUPPORTED: return "unsupported";
    }
    return "?";
}

static double ratio(double v, double of)
{
    return of > 0 ? v / of : 0;
}

static void add_figures(cJSON *o, const struct compare_row *r)
{
    json_u64(o, "bytes_per_token", r->token_bytes);
    json_u64(o, "after_prefill_bytes", r->after_prefill_bytes);
    json_u64(o, "prefill_peak_bytes", r->prefill_peak_bytes);
    json_bool(o, "fits", r->fits);
    json_u64(o, "max_batch", r->max_batch);
    json_text(o, "limited_by", limit_name(r->batch_limit));
    json_u64(o, "max_context", r->max_context);
    json_text(o, "context_limited_by", limit_name(r->context_limit));
    json_u64(o, "batch", r->batch);
    if (!r->timed)
        return;
    json_double(o, "decode_seconds", r->decode_s);
    json_double(o, "decode_tokens_per_second", r->tokens_per_s);
    json_double(o, "prefill_seconds", r->prefill_s);
    json_double(o, "prefill_seconds_per_sequence", r->prompt_s);
}

/* Against the model as shipped; a figure of 0 there has no ratio and gives 0. */
static void add_ratios(cJSON *o, const struct compare_row *r, const struct compare_row *base)
{
    json_double(o, "bytes_per_token", ratio((double)r->token_bytes, (double)base->token_bytes));
    json_double(o, "after_prefill_bytes",
                ratio((double)r->after_prefill_bytes, (double)base->after_prefill_bytes));
    json_double(o, "max_batch", ratio((double)r->max_batch, (double)base->max_batch));
    json_double(o, "max_context", ratio((double)r->max_context, (double)base->max_context));
    if (!r->timed)
        return;
    json_double(o, "decode_tokens_per_second", ratio(r->tokens_per_s, base->tokens_per_s));
    json_double(o, "prefill_seconds_per_sequence", ratio(r->prompt_s, base->prompt_s));
}

static void add_row(struct arena *a, cJSON *list, const struct model *m,
                    const struct compare_row *r, const struct compare_row *base)
{
    cJSON *o = json_object(list, NULL), *warnings;
    const struct scheme *s = r->use.scheme;

    json_text(o, "scheme", r->name);
    json_text(o, "axis", s ? scheme_axis_name(s->axis) : NULL);
    json_text(o, "status", status_name(r->status));
    json_text(o, "reason", r->reason);
    if (s && r->use.params)
        params_json(a, &r->use, json_object(o, "parameters"));
    json_bool(o, "as_in_spec", r->own);
    json_text(o, "confidence", s ? s->confidence : NULL);
    json_text(o, "source", s ? s->source : NULL);
    if (r->status != COMPARE_OK)
        return;
    add_figures(json_object(o, "figures"), r);
    if (base->status == COMPARE_OK)
        add_ratios(json_object(o, "ratios"), r, base);
    json_bool(o, "needs_training", r->needs_training);
    json_bool(o, "on_front", r->on_front);
    if (r->near.row)
        evidence_row_json(a, r->near.row, &r->use, m, json_object(o, "quality"));
    json_u64(o, "contested_rows", r->near.contested);
    warnings = json_list(o, "warnings");
    for (const char *const *w = r->warnings; w && *w; w++)
        json_text(warnings, NULL, *w);
}

cJSON *compare_json(struct arena *a, const char *name, const struct problem *p,
                    const struct compare *c, const struct diag *d)
{
    cJSON *root = json_object(NULL, NULL), *list;

    json_text(root, "schema", "kvbudget.compare/1");
    json_text(root, "kvbudget_version", KV_VERSION);
    json_text(root, "spec", name);
    json_text(root, "model", p->model.name ? p->model.name : "inline");
    json_text(root, "gpu", p->gpu.name && *p->gpu.name ? p->gpu.name : NULL);
    json_u64(root, "gpus", p->gpus);
    json_text(root, "engine", p->engine->name);
    json_u64(root, "prompt_tokens", p->workload.prompt);
    json_u64(root, "output_tokens", p->workload.output);
    list = json_list(root, "rows");
    for (size_t i = 0; i < c->n; i++)
        add_row(a, list, &p->model, &c->rows[i], &c->rows[0]);
    json_diagnostics(json_list(root, "diagnostics"), d, 0);
    return root;
}

/* --- table -------------------------------------------------------------------------------- */

enum {
    COL_SCHEME,
    COL_PARAMS,
    COL_TOKEN,
    COL_TOKEN_X,
    COL_PREFILLED,
    COL_PREFILLED_X,
    COL_BATCH,
    COL_BATCH_X,
    COL_CONTEXT,
    COL_SPEED,
    COL_SPEED_X,
    COL_PREFILL,
    COL_PREFILL_X,
    COL_MARKS,
    N_COLS
};

static const char *times(struct arena *a, double v, double of)
{
    double x = ratio(v, of);

    if (of <= 0)
        return "";
    return x < 10 ? arena_printf(a, "%.2fx", x) : arena_printf(a, "%.0fx", x);
}

static const char *count_text(struct arena *a, uint64_t n, enum limit why)
{
    char buf[32];

    return why == LIMIT_NONE ? "no limit"
                             : arena_strdup(a, unit_format_count(n, buf, sizeof buf));
}

static const char *speed_text(struct arena *a, double per_s)
{
    char buf[32];

    if (per_s < 100)
        return arena_printf(a, "%.1f", per_s);
    return arena_strdup(a, unit_format_count((uint64_t)(per_s + 0.5), buf, sizeof buf));
}

/* T needs training, ! does not fit, * the spec's own parameters. */
static const char *marks_text(struct arena *a, const struct compare_row *r)
{
    return arena_printf(a, "%s%s%s", r->needs_training ? "T" : "", r->fits ? "" : "!",
                        r->own ? "*" : "");
}

static void put_figures(struct arena *a, const struct compare_row *r,
                        const struct compare_row *base, const char *cell[N_COLS])
{
    char buf[32];

    cell[COL_TOKEN] = arena_strdup(a, unit_format_bytes(r->token_bytes, buf, sizeof buf));
    cell[COL_TOKEN_X] = times(a, (double)r->token_bytes, (double)base->token_bytes);
    cell[COL_PREFILLED] =
        arena_strdup(a, unit_format_bytes(r->after_prefill_bytes, buf, sizeof buf));
    cell[COL_PREFILLED_X] =
        times(a, (double)r->after_prefill_bytes, (double)base->after_prefill_bytes);
    cell[COL_BATCH] = count_text(a, r->max_batch, r->batch_limit);
    cell[COL_BATCH_X] = times(a, (double)r->max_batch, (double)base->max_batch);
    cell[COL_CONTEXT] = count_text(a, r->max_context, r->context_limit);
    cell[COL_MARKS] = marks_text(a, r);
    if (!r->timed)
        return;
    cell[COL_SPEED] = speed_text(a, r->tokens_per_s);
    cell[COL_SPEED_X] = times(a, r->tokens_per_s, base->tokens_per_s);
    cell[COL_PREFILL] = arena_strdup(a, unit_format_seconds(r->prompt_s, buf, sizeof buf));
    cell[COL_PREFILL_X] = times(a, r->prompt_s, base->prompt_s);
}

static void put_row(struct arena *a, struct table *t, const struct compare_row *r,
                    const struct compare_row *base)
{
    const char *cell[N_COLS];

    for (int c = 0; c < N_COLS; c++)
        cell[c] = "";
    cell[COL_SCHEME] = r->name;
    cell[COL_PARAMS] = r->params;
    put_figures(a, r, base, cell);
    for (int c = 0; c < N_COLS; c++)
        table_cell(t, cell[c]);
}

/* Below the table: rows without figures, each with its reason. */
static void put_reasons(struct arena *a, const struct compare *c, enum compare_status status,
                        const char *title, FILE *out)
{
    struct table *t = table_new(a, 3);

    for (size_t i = 0; i < c->n; i++) {
        const struct compare_row *r = &c->rows[i];
        if (r->status != status)
            continue;
        table_cellf(t, "  %s", r->name);
        table_cell(t, r->params);
        table_cell(t, r->reason);
    }
    if (!table_rows(t))
        return;
    fprintf(out, "\n%s\n", title);
    table_print(t, out);
}

/* "41.49, plain 41.46, contested". */
static const char *quality_text(struct arena *a, const struct evidence_near *near)
{
    const struct evidence_row *r = near->row;
    const char *plain = r->has_baseline ? arena_printf(a, ", plain %.6g", r->baseline) : "";
    const char *unsure =
        strcmp(r->confidence, "primary") ? arena_printf(a, ", %s", r->confidence) : "";

    return arena_printf(a, "%.6g%s%s%s", r->value, plain, unsure,
                        near->contested ? ", contested" : "");
}

/* Published figures, as published: the setting nearest to each row's, and how near it is. */
static void put_quality(struct arena *a, const struct compare *c, FILE *out)
{
    struct table *t = table_new(a, 4);

    for (size_t i = 0; i < c->n; i++) {
        const struct compare_row *r = &c->rows[i];
        if (r->status != COMPARE_OK || !r->near.row)
            continue;
        table_cellf(t, "  %s", r->name);
        table_cell(t, r->near.row->metric);
        table_cell(t, quality_text(a, &r->near));
        table_cell(t, r->near.how_far);
    }
    if (!table_rows(t))
        return;
    fputs("\nPublished quality, the nearest setting:\n", out);
    table_print(t, out);
}

static void put_marks(const struct compare *c, FILE *out)
{
    bool training = false, misfit = false, own = false;

    for (size_t i = 0; i < c->n; i++) {
        const struct compare_row *r = &c->rows[i];
        training |= r->status == COMPARE_OK && r->needs_training;
        misfit |= r->status == COMPARE_OK && !r->fits;
        own |= r->status == COMPARE_OK && r->own;
    }
    if (training)
        fputs("T  changes a shipped checkpoint: the model needs training with it\n", out);
    if (misfit)
        fputs("!  the asked batch does not fit\n", out);
    if (own)
        fputs("*  with the parameters of the spec\n", out);
}

void compare_table(struct arena *a, const struct problem *p, const struct compare *c, FILE *out)
{
    static const char *const heads[N_COLS] = {
        "scheme", "parameters", "a token",  "", "after prefill", "", "sequences",
        "",       "context",    "tokens/s", "", "prefill",       "", ""};
    struct table *t = table_new(a, N_COLS);
    const struct compare_row *before = NULL;
    char prompt[32], output[32];

    fprintf(out, "%s on %u x %s, %s + %s tokens\n\n", p->model.name ? p->model.name : "inline",
            p->gpus, p->gpu.name && *p->gpu.name ? p->gpu.name : "a GPU",
            unit_format_count(p->workload.prompt, prompt, sizeof prompt),
            unit_format_count(p->workload.output, output, sizeof output));
    for (int col = 0; col < N_COLS; col++)
        table_cell(t, heads[col]);
    table_rule(t);
    for (int col = COL_TOKEN; col < COL_MARKS; col++)
        table_right(t, (size_t)col);
    for (size_t i = 0; i < c->n; i++) {
        const struct compare_row *r = &c->rows[i];
        if (r->status != COMPARE_OK)
            continue;
        if (before && !before->use.scheme && r->use.scheme)
            table_rule(t);
        put_row(a, t, r, &c->rows[0]);
        before = r;
    }
    table_print(t, out);
    put_marks(c, out);
    put_quality(a, c, out);
    put_reasons(a, c, COMPARE_REFUSED,
                "Not with this model, or not without more parameters:", out);
    put_reasons(a, c, COMPARE_UNSUPPORTED, "No figure can be given:", out);
}
