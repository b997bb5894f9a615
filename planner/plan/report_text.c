/* A report for people: one sentence that answers, and a table of the JSON's figures with a
 * column a spec. A row is a path into the JSON, so nothing can be shown that the JSON does
 * not say. */
#include <stdlib.h>
#include <string.h>

#include "planner/base/table.h"
#include "planner/base/unit.h"
#include "planner/plan/report.h"
#include "planner/plan/reserve.h"

/* --- the sentence --------------------------------------------------------------------------
 */

static const char *limit_words(enum limit l)
{
    switch (l) {
    case LIMIT_MEMORY: return "memory-limited";
    case LIMIT_PREFILL_PEAK: return "limited by what one prompt needs while it is processed";
    case LIMIT_BLOCK_ROUNDING: return "limited by block rounding";
    case LIMIT_MAX_SEQS: return "limited by max_seqs";
    case LIMIT_HOST_MEMORY: return "limited by host memory";
    case LIMIT_WEIGHTS: return "limited by the weights";
    case LIMIT_MODEL_LEN: return "limited by max_model_len";
    case LIMIT_NONE: return "nothing grows with their number";
    }
    return "";
}

/* "1 sequence of 2,560 tokens" */
static const char *sequences(struct arena *a, uint64_t n, const struct problem *p)
{
    char count[32], tokens[32];

    return arena_printf(
        a, "%s sequence%s of %s tokens", unit_format_count(n, count, sizeof count),
        n == 1 ? "" : "s",
        unit_format_count(p->workload.prompt + p->workload.output, tokens, sizeof tokens));
}

static const char *fits_sentence(struct arena *a, const struct problem *p,
                                 const struct plan *plan)
{
    char most[32], bytes[32];
    uint64_t more = report_one_more_bytes(p, plan), asked = p->workload.batch;
    const char *what = sequences(a, asked ? asked : plan->max_batch, p);

    if (plan->batch_limit == LIMIT_NONE)
        return arena_printf(a, "Fits: any number of sequences; %s", limit_words(LIMIT_NONE));
    if (asked && asked < plan->max_batch)
        what = arena_printf(a, "%s, up to %s", what,
                            unit_format_count(plan->max_batch, most, sizeof most));
    what = arena_printf(a, "Fits: %s; %s", what, limit_words(plan->batch_limit));
    return more ? arena_printf(a, "%s; one more needs %s", what,
                               unit_format_bytes(more, bytes, sizeof bytes))
                : what;
}

/* "; fits on 2 GPUs" where tensor parallelism alone would do. */
static const char *more_gpus(struct arena *a, const struct problem *p)
{
    uint32_t n = capacity_min_gpus(p, &p->workload, u64_max(p->workload.batch, 1));

    return n > p->gpus ? arena_printf(a, "; fits on %u GPUs", n) : "";
}

static const char *short_sentence(struct arena *a, const struct problem *p,
                                  const struct plan *plan)
{
    const struct budget *b = &p->stages[plan->tightest].budget;
    uint64_t asked = u64_max(p->workload.batch, 1), need;
    char pool[32], size[32], missing[32], most[32];
    struct ck ck = {0};

    need = need_bytes(&plan->need, ck_ceil_div(asked, p->parallel.dp), &ck);
    unit_format_bytes(need, size, sizeof size);
    unit_format_bytes(b->kv_pool_bytes, pool, sizeof pool);
    unit_format_bytes(need > b->kv_pool_bytes ? need - b->kv_pool_bytes : 0, missing,
                      sizeof missing);
    unit_format_count(plan->max_batch, most, sizeof most);
    if (need <= b->kv_pool_bytes)
        return arena_printf(a, "Does not fit: %s asked for, %s fit%s; %s",
                            sequences(a, asked, p), most, plan->max_batch == 1 ? "s" : "",
                            limit_words(plan->batch_limit));
    if (asked > 1)
        return arena_printf(a, "Does not fit: %s asked for, %s fit%s; %s; %s more needed%s",
                            sequences(a, asked, p), most, plan->max_batch == 1 ? "s" : "",
                            limit_words(plan->batch_limit), missing, more_gpus(a, p));
    return arena_printf(
        a, "Does not fit: %s needs %s of cache, a GPU has %s left for it; %s more needed%s",
        sequences(a, 1, p), size, pool, missing, more_gpus(a, p));
}

/* Engines that reserve: slots too short, too few, or without the memory for them. */
static const char *reserved_sentence(struct arena *a, const struct problem *p,
                                     const struct plan *plan)
{
    const struct workload *w = &p->workload;
    uint64_t asked = u64_max(w->batch, 1), more = reserve_short_bytes(p, w, asked - 1);
    const char *what = sequences(a, asked, p), *then = "";
    char number[32], bytes[32];

    if (plan->batch_limit == LIMIT_MODEL_LEN)
        return arena_printf(
            a, "Does not fit: %s is more than a slot holds (%s)", sequences(a, 1, p),
            unit_format_count(p->stages[0].budget.slot_tokens, number, sizeof number));
    if (more)
        then = arena_printf(a, "; %s more needed%s",
                            unit_format_bytes(more, bytes, sizeof bytes), more_gpus(a, p));
    return arena_printf(a, "Does not fit: %s asked for, %s fit%s; %s%s", what,
                        unit_format_count(plan->max_batch, number, sizeof number),
                        plan->max_batch == 1 ? "s" : "", limit_words(plan->batch_limit), then);
}

const char *report_sentence(struct arena *a, const struct problem *p, const struct plan *plan)
{
    const struct budget *b = &p->stages[plan->tightest].budget;
    char weights[32], usable[32], missing[32];

    if (plan->fits)
        return fits_sentence(a, p, plan);
    if (p->engine->reserve && plan->batch_limit != LIMIT_WEIGHTS)
        return reserved_sentence(a, p, plan);
    if (plan->batch_limit == LIMIT_MODEL_LEN)
        return arena_printf(
            a, "Does not fit: %s is more than max_model_len (%s)", sequences(a, 1, p),
            unit_format_count(p->settings.max_model_len, usable, sizeof usable));
    if (!b->short_bytes && b->kv_pool_bytes)
        return short_sentence(a, p, plan);
    return arena_printf(
        a, "Does not fit: the weights need %s, a GPU has %s; %s more needed%s",
        unit_format_bytes(b->weights_bytes, weights, sizeof weights),
        unit_format_bytes(b->usable_bytes, usable, sizeof usable),
        unit_format_bytes(report_one_more_bytes(p, plan), missing, sizeof missing),
        more_gpus(a, p));
}

/* --- rows ----------------------------------------------------------------------------------
 */

enum shown {
    SHOW_TEXT,
    SHOW_COUNT,
    SHOW_BYTES,
    SHOW_SECONDS,
    SHOW_FLOP,
    SHOW_TIMES,
    SHOW_RATE,
    SHOW_GPUS
};

struct row {
    const char *path; /* NULL: a section title */
    const char *label;
    enum shown unit;
    const char *skip; /* hidden where all columns say this */
    const char *
        above; /* a count from this limit on has no limit; the path of its reason says "none" */
};

static const struct row rows[] = {
    {"model.name", "model", SHOW_TEXT, NULL, NULL},
    {"inputs.gpu", "GPU", SHOW_TEXT, NULL, NULL},
    {"inputs.gpus", "GPUs", SHOW_COUNT, "1", NULL},
    {"inputs.engine", "engine", SHOW_TEXT, "ideal", NULL},
    {"model.weights_format", "weights stored as", SHOW_TEXT, NULL, NULL},
    {"inputs.sharing", "sharing", SHOW_TEXT, "none", NULL},
    {"inputs.eviction", "eviction", SHOW_TEXT, "none", NULL},
    {"inputs.storage", "cache stored as", SHOW_TEXT, NULL, NULL},
    {"inputs.prompt_tokens", "prompt tokens", SHOW_COUNT, NULL, NULL},
    {"inputs.output_tokens", "output tokens", SHOW_COUNT, NULL, NULL},
    {"inputs.shared_prefix_tokens", "shared prefix", SHOW_COUNT, "0", NULL},
    {NULL, "memory of a GPU", SHOW_TEXT, NULL, NULL},
    {"memory.per_gpu.usable_bytes", "usable", SHOW_BYTES, NULL, NULL},
    {"memory.per_gpu.weights_bytes", "weights", SHOW_BYTES, NULL, NULL},
    {"memory.per_gpu.activation_bytes", "activations", SHOW_BYTES, "0 B", NULL},
    {"memory.per_gpu.non_torch_bytes", "outside the framework", SHOW_BYTES, "0 B", NULL},
    {"memory.per_gpu.cuda_graph_bytes", "CUDA graphs", SHOW_BYTES, "0 B", NULL},
    {"memory.per_gpu.workspace_bytes", "workspace", SHOW_BYTES, "0 B", NULL},
    {"memory.per_gpu.short_bytes", "missing", SHOW_BYTES, "0 B", NULL},
    {"memory.per_gpu.kv_pool_bytes", "cache pool", SHOW_BYTES, NULL, NULL},
    {"memory.per_gpu.free_bytes", "left over", SHOW_BYTES, NULL, NULL},
    {"memory.host_bytes", "host memory", SHOW_BYTES, "-", NULL},
    {NULL, "cache", SHOW_TEXT, NULL, NULL},
    {"cache.layer_count", "layers", SHOW_COUNT, NULL, NULL},
    {"cache.kv_layers", "layers that store", SHOW_COUNT, NULL, NULL},
    {"cache.bytes_per_token", "a token", SHOW_BYTES, NULL, NULL},
    {"cache.bytes_per_token_past_windows", "a token past windows", SHOW_BYTES, "=", NULL},
    {"cache.state_bytes_per_sequence", "state of a sequence", SHOW_BYTES, "0 B", NULL},
    {"cache.sequence.prefill_peak_bytes", "a sequence in prefill", SHOW_BYTES, NULL, NULL},
    {"cache.sequence.after_prefill_bytes", "after prefill", SHOW_BYTES, NULL, NULL},
    {"cache.sequence.final_bytes", "at its end", SHOW_BYTES, NULL, NULL},
    {NULL, "capacity", SHOW_TEXT, NULL, NULL},
    {"capacity.max_batch", "sequences", SHOW_COUNT, NULL, "capacity.limited_by"},
    {"capacity.limited_by", "limited by", SHOW_TEXT, NULL, NULL},
    {"capacity.one_more_needs_bytes", "one more needs", SHOW_BYTES, "0 B", NULL},
    {"capacity.max_context", "longest context", SHOW_COUNT, NULL,
     "capacity.context_limited_by"},
    {"capacity.context_batch", "at sequences", SHOW_COUNT, "1", NULL},
    {"capacity.min_gpus", "GPUs needed", SHOW_GPUS, "1", NULL},
    {NULL, "compute", SHOW_TEXT, NULL, NULL},
    {"compute.batch", "at sequences", SHOW_COUNT, NULL, NULL},
    {"compute.decode_context_tokens", "mean context", SHOW_COUNT, NULL, NULL},
    {"compute.prefill.flops", "prefill of all", SHOW_FLOP, NULL, NULL},
    {"compute.prefill.seconds", "its time", SHOW_SECONDS, "-", NULL},
    {"compute.prefill.seconds_per_sequence", "a sequence of it", SHOW_SECONDS, "-", NULL},
    {"compute.decode.bytes_read", "read a decode step", SHOW_BYTES, NULL, NULL},
    {"compute.decode.cache_bytes_read", "of it cache", SHOW_BYTES, NULL, NULL},
    {"compute.decode.link_seconds", "host link a step", SHOW_SECONDS, "-", NULL},
    {"compute.decode.seconds", "decode step", SHOW_SECONDS, "-", NULL},
    {"compute.decode.tokens_per_second", "tokens a second", SHOW_RATE, "-", NULL},
    {"compute.training.relative_to_plain", "training, to plain", SHOW_TIMES, "-", NULL},
};
enum { N_TABLE_ROWS = sizeof rows / sizeof *rows };

static const char *number_text(struct arena *a, enum shown unit, const cJSON *v)
{
    char buf[32];
    uint64_t whole = 0;
    double d = 0;

    if (!json_get_double(v, &d))
        return "-";
    switch (unit) {
    case SHOW_GPUS:
        if (d <= 0)
            return "no number";
        /* fall through */
    case SHOW_COUNT:
        return json_get_u64(v, &whole)
                   ? arena_strdup(a, unit_format_count(whole, buf, sizeof buf))
                   : "-";
    case SHOW_BYTES:
        if (!json_get_u64(v, &whole))
            return arena_printf(a, "%.3g B", d);
        return arena_strdup(a, unit_format_bytes(whole, buf, sizeof buf));
    case SHOW_SECONDS: return arena_strdup(a, unit_format_seconds(d, buf, sizeof buf));
    case SHOW_FLOP: return arena_strdup(a, unit_format_flop(d, buf, sizeof buf));
    case SHOW_TIMES: return arena_printf(a, "%.2fx", d);
    case SHOW_RATE:
        if (d < 1000)
            return arena_printf(a, "%.*f", d < 100 ? 1 : 0, d);
        return arena_strdup(a, unit_format_count((uint64_t)(d + 0.5), buf, sizeof buf));
    case SHOW_TEXT: break;
    }
    return "-";
}

static const char *cell_text(struct arena *a, const struct row *r, const cJSON *json)
{
    const cJSON *v = json_at(json, r->path),
                *reason = r->above ? json_at(json, r->above) : NULL;

    if (cJSON_IsString(reason) && !strcmp(reason->valuestring, "none"))
        return "no limit";
    if (r->unit != SHOW_TEXT)
        return number_text(a, r->unit, v);
    return cJSON_IsString(v) ? v->valuestring : "-";
}

static bool all_equal(const char *const *cells, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(cells[i], text) != 0)
            return false;
    return true;
}

/* No column has anything to say: each is what is to be skipped, or has no such figure. */
static bool all_skipped(const char *const *cells, size_t n, const char *skip)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(cells[i], skip) != 0 && strcmp(cells[i], "-") != 0)
            return false;
    return true;
}

struct drawing {
    struct arena *a;
    struct table *t, *common; /* texts that all columns share stand once, above the table */
    const struct report_column *columns;
    size_t n;
    const char **cells, **above; /* of this row and of the last one shown */
};

static bool hidden(const struct drawing *g, const struct row *r)
{
    if (!r->skip)
        return false;
    if (strcmp(r->skip, "=") != 0)
        return all_skipped(g->cells, g->n, r->skip);
    for (size_t i = 0; i < g->n; i++)
        if (strcmp(g->cells[i], g->above[i]) != 0)
            return false;
    return true;
}

static void put_cells(struct drawing *g, const char *label)
{
    table_cellf(g->t, "%s %s", all_equal(g->cells, g->n, g->cells[0]) ? " " : "*", label);
    for (size_t i = 0; i < g->n; i++)
        table_cell(g->t, g->cells[i]);
}

static void draw_row(struct drawing *g, const struct row *r)
{
    const char **swap = g->above;

    if (!r->path) {
        for (size_t i = 0; i < g->n + 1; i++)
            table_cell(g->t, "");
        table_cell(g->t, r->label);
        for (size_t i = 0; i < g->n; i++)
            table_cell(g->t, "");
        return;
    }
    for (size_t i = 0; i < g->n; i++)
        g->cells[i] = cell_text(g->a, r, g->columns[i].json);
    if (hidden(g, r))
        return;
    if (g->n > 1 && r->unit == SHOW_TEXT && all_equal(g->cells, g->n, g->cells[0])) {
        table_cellf(g->common, "  %s", r->label);
        table_cell(g->common, g->cells[0]);
        return;
    }
    put_cells(g, r->label);
    g->above = g->cells;
    g->cells = swap;
}

/* --- how sure ------------------------------------------------------------------------------
 */

/* "15.25 GiB to 15.39 GiB". */
static const char *band_text(struct arena *a, enum shown unit, const cJSON *band)
{
    const cJSON *low = json_at(band, "low"), *high = json_at(band, "high");
    uint64_t starts = 0;

    if (!band)
        return "-";
    if (low && high)
        return arena_printf(a, "%s to %s", number_text(a, unit, low),
                            number_text(a, unit, high));
    if (!json_get_u64(json_at(band, "measurements"), &starts) || !starts)
        return "no measurement";
    return arena_printf(a, "too few (%llu)", (unsigned long long)starts);
}

/* Bands of the figures, where an engine has any; `ideal` has none. */
static void draw_bands(struct drawing *g)
{
    static const struct row title = {NULL, "how sure", SHOW_TEXT, NULL, NULL},
                            measured = {"band.measurements", "measured starts", SHOW_COUNT,
                                        NULL, NULL};
    static const struct row figures[] = {
        {"band.memory.per_gpu.weights_bytes", "weights", SHOW_BYTES, NULL, NULL},
        {"band.memory.per_gpu.activation_bytes", "activations", SHOW_BYTES, NULL, NULL},
        {"band.memory.per_gpu.non_torch_bytes", "outside the framework", SHOW_BYTES, NULL,
         NULL},
        {"band.memory.per_gpu.cuda_graph_bytes", "CUDA graphs", SHOW_BYTES, NULL, NULL},
        {"band.memory.per_gpu.workspace_bytes", "workspace", SHOW_BYTES, NULL, NULL},
        {"band.memory.per_gpu.kv_pool_bytes", "cache pool", SHOW_BYTES, NULL, NULL},
        {"band.capacity.kv_tokens", "tokens in the pool", SHOW_COUNT, NULL, NULL},
        {"band.capacity.max_concurrency", "concurrency", SHOW_RATE, NULL, NULL},
        {"band.capacity.max_batch", "sequences", SHOW_COUNT, NULL, NULL},
    };
    bool any = false;

    for (size_t i = 0; i < g->n; i++)
        any = any || json_at(g->columns[i].json, "band.memory");
    if (!any)
        return;
    draw_row(g, &title);
    draw_row(g, &measured);
    for (size_t k = 0; k < sizeof figures / sizeof *figures; k++) {
        for (size_t i = 0; i < g->n; i++)
            g->cells[i] =
                band_text(g->a, figures[k].unit, json_at(g->columns[i].json, figures[k].path));
        if (!all_skipped(g->cells, g->n, "no measurement"))
            put_cells(g, figures[k].label);
    }
}

/* --- by op, under -v -----------------------------------------------------------------------
 */

static void draw_ops(struct drawing *g, const char *phase)
{
    static const struct row figures[] = {
        {"flops", "work", SHOW_FLOP, "0.00 FLOP", NULL},
        {"bytes", "bytes", SHOW_BYTES, "0 B", NULL},
        {"seconds", "time", SHOW_SECONDS, "0 s", NULL},
    };
    const struct row title = {NULL, arena_printf(g->a, "%s by op", phase), SHOW_TEXT, NULL,
                              NULL};

    draw_row(g, &title);
    for (int op = 0; op < N_OPS; op++) {
        for (size_t k = 0; k < sizeof figures / sizeof *figures; k++) {
            struct row r = figures[k];
            r.path = arena_printf(g->a, "compute.%s.by_op.%s.%s", phase, op_name((enum op)op),
                                  r.path);
            r.label = arena_printf(g->a, "%s %s", op_name((enum op)op), r.label);
            draw_row(g, &r);
        }
    }
}

/* --- the page ------------------------------------------------------------------------------
 */

/* "dir/a.yaml" -> "a" */
static const char *short_name(struct arena *a, const char *name)
{
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name,
               *dot = strstr(base, ".yaml");

    if (name[0] == '-' || !*base)
        return name;
    return dot ? arena_printf(a, "%.*s%s", (int)(dot - base), base, dot + 5) : base;
}

static const char **column_names(struct arena *a, const struct report_column *c, size_t n)
{
    const char **names = ARENA_NEW(a, const char *, n);
    bool clash = false;

    for (size_t i = 0; i < n; i++) {
        names[i] = short_name(a, c[i].name);
        for (size_t k = 0; k < i; k++)
            clash = clash || !strcmp(names[i], names[k]);
    }
    for (size_t i = 0; clash && i < n; i++)
        names[i] = c[i].name;
    return names;
}

static void draw_sentences(struct arena *a, const struct report_column *c,
                           const char *const *names, size_t n, FILE *out)
{
    struct table *t = table_new(a, 2);

    if (n == 1) {
        fprintf(out, "%s\n", c[0].sentence);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        table_cell(t, names[i]);
        table_cell(t, c[i].sentence);
    }
    table_print(t, out);
}

static void draw_page(struct arena *a, const struct report_column *c, size_t n,
                      const struct report_style *style, FILE *out)
{
    const char **names = column_names(a, c, n);
    struct drawing g = {.a = a,
                        .t = table_new(a, n + 1),
                        .common = table_new(a, 2),
                        .columns = c,
                        .n = n,
                        .cells = ARENA_NEW(a, const char *, n),
                        .above = ARENA_NEW(a, const char *, n)};

    draw_sentences(a, c, names, n, out);
    fputc('\n', out);
    for (size_t i = 0; i < n; i++)
        table_right(g.t, i + 1);
    if (n > 1) {
        table_cell(g.t, "");
        for (size_t i = 0; i < n; i++)
            table_cell(g.t, names[i]);
        table_rule(g.t);
    }
    for (int i = 0; i < N_TABLE_ROWS; i++)
        draw_row(&g, &rows[i]);
    draw_bands(&g);
    if (style->verbose) {
        draw_ops(&g, "prefill");
        draw_ops(&g, "decode");
    }
    if (table_rows(g.common)) {
        fputs("in all:\n", out);
        table_print(g.common, out);
        fputc('\n', out);
    }
    table_print(g.t, out);
    if (n > 1)
        fputs("\n* differs\n", out);
    if (style->next)
        fprintf(out, "%snext: %s\n", n > 1 ? "" : "\n", style->next);
}

/* Colours go on after the layout: titles and marked rows bold, the answer green or red. */
static void color_line(const char *line, size_t n, FILE *out)
{
    const char *on = line[0] == '*' ? "\033[1m" : "";

    if (n && strncmp(line, "Fits", 4) == 0)
        on = "\033[1;32m";
    else if (n && strncmp(line, "Does not", 8) == 0)
        on = "\033[1;31m";
    else if (n && line[0] != ' ' && line[0] != '*')
        on = "\033[1m";
    fprintf(out, "%s%.*s%s\n", on, (int)n, line, *on ? "\033[0m" : "");
}

void report_table(struct arena *a, const struct report_column *columns, size_t n,
                  const struct report_style *style, FILE *out)
{
    char *text = NULL;
    size_t size = 0;
    FILE *page = style->color ? open_memstream(&text, &size) : NULL;

    if (!page) {
        draw_page(a, columns, n, style, out);
        return;
    }
    draw_page(a, columns, n, style, page);
    if (fclose(page) == 0)
        for (const char *s = text; *s; s += strcspn(s, "\n") + 1)
            color_line(s, strcspn(s, "\n"), out);
    free(text);
}
