/* The page of a simulation: the answer first, then latencies, then load. */
#include "sim/report.h"

#include "planner/base/table.h"
#include "planner/base/unit.h"

static const char *seconds(struct arena *a, double s)
{
    char buf[32];

    return arena_strdup(a, unit_format_seconds(s, buf, sizeof buf));
}

static const char *count(struct arena *a, uint64_t v)
{
    char buf[32];

    return arena_strdup(a, unit_format_count(v, buf, sizeof buf));
}

static const char *rate(struct arena *a, double per_s)
{
    if (per_s >= 1000)
        return count(a, (uint64_t)(per_s + 0.5));
    return arena_printf(a, "%.3g", per_s);
}

static const char *percent(struct arena *a, double share)
{
    return arena_printf(a, "%.1f %%", 100 * share);
}

static double ratio(double v, double of)
{
    return of > 0 ? v / of : 0;
}

/* --- the sentence
 * -----------------------------------------------------------------------------
 */

/* "p99 of the first token within 1 s". */
static const char *limits_text(struct arena *a, const struct sim_report *r)
{
    const struct limits *l = &r->in->limits;
    const double v[] = {l->ttft_s, l->tpot_s, l->e2e_s};
    static const char *const what[] = {"first token", "tokens after it", "whole answer"};
    const char *s = "";

    for (int i = 0; i < 3; i++)
        if (v[i] > 0)
            s = arena_printf(a, "%s%s%s within %s", s, *s ? ", " : "", what[i],
                             seconds(a, v[i]));
    return s;
}

static const char *search_sentence(struct arena *a, const struct sim_report *r)
{
    const struct run_search *s = r->search;
    const char *kept = arena_printf(a, "p%g of %s", s->percentile, limits_text(a, r));

    if (!(s->high > 0))
        return arena_printf(a, "Keeps its limits (%s) at any rate: all requests at once.",
                            kept);
    return arena_printf(a, "Keeps its limits (%s) up to %s requests/s; at %s they are broken.",
                        kept, rate(a, s->low * s->base_per_s),
                        rate(a, s->high * s->base_per_s));
}

/* The queue was still long when the last request came: what arrives is more than is served. */
static bool falls_behind(const struct figures *f)
{
    double apart_s = f->last_arrival_s - f->first_arrival_s,
           drain_s = f->last_s - f->last_arrival_s;

    return f->done > 1 && f->load.waiting_peak > 0 && drain_s > apart_s / 4 &&
           f->times[STATS_QUEUE].p50 > f->times[STATS_E2E].p50 / 2;
}

const char *sim_report_sentence(struct arena *a, const struct sim_report *r)
{
    const struct figures *f = &r->run->figures;
    const struct spread *first = &f->times[STATS_TTFT], *token = &f->times[STATS_TPOT];
    double apart_s = f->last_arrival_s - f->first_arrival_s;

    if (r->search)
        return search_sentence(a, r);
    if (!f->done)
        return arena_printf(a, "Serves none of %s requests: all were rejected.",
                            count(a, f->arrived));
    if (falls_behind(f))
        return arena_printf(
            a, "Falls behind: %s requests/s arrive, %s are served; half wait longer than %s.",
            apart_s > 0 ? rate(a, (double)(f->arrived - 1) / apart_s) : "many",
            rate(a, f->requests_per_s), seconds(a, f->times[STATS_QUEUE].p50));
    return arena_printf(
        a, "Serves %s requests/s: first token after %s (p99 %s)%s; cache %s full, %s at most.",
        rate(a, f->requests_per_s), seconds(a, first->mean), seconds(a, first->p99),
        token->n ? arena_printf(a, ", then one every %s (p99 %s)", seconds(a, token->mean),
                                seconds(a, token->p99))
                 : "",
        percent(a, f->load.used_share_mean), percent(a, f->load.used_share_peak));
}

/* --- tables ---------------------------------------------------------------------------------
 */

static void put_latency(struct arena *a, const struct figures *f, FILE *out)
{
    static const char *const titles[] = {"", "mean", "p50", "p90", "p95", "p99", "max"};
    enum { COLUMNS = sizeof titles / sizeof *titles };
    struct table *t = table_new(a, COLUMNS);

    for (size_t c = 0; c < COLUMNS; c++) {
        table_cell(t, titles[c]);
        if (c)
            table_right(t, c);
    }
    table_rule(t);
    for (int i = 0; i < STATS_TIMES; i++) {
        const struct spread *s = &f->times[i];
        const double v[] = {s->mean, s->p50, s->p90, s->p95, s->p99, s->max};
        table_cellf(t, "  %s", stats_time_name((enum stats_time)i));
        for (size_t c = 0; c < COLUMNS - 1; c++)
            table_cell(t, s->n ? seconds(a, v[c]) : "-");
    }
    table_print(t, out);
}

static void row(struct table *t, const char *label, const char *value)
{
    table_cellf(t, "  %s", label);
    table_cell(t, value);
}

static void put_requests(struct arena *a, const struct sim_report *r, struct table *t)
{
    const struct figures *f = &r->run->figures;

    row(t, "requests", count(a, f->arrived));
    if (f->rejected)
        row(t, "rejected", count(a, f->rejected));
    if (f->preemptions)
        row(t, "preemptions",
            arena_printf(a, "%s of %s requests", count(a, f->preemptions),
                         count(a, f->preempted)));
    row(t, "time", seconds(a, f->seconds));
    row(t, "requests a second", rate(a, f->requests_per_s));
    row(t, "prompt tokens a second", rate(a, f->prompt_tokens_per_s));
    row(t, "output tokens a second", rate(a, f->output_tokens_per_s));
    if (r->in->limits.ttft_s > 0 || r->in->limits.tpot_s > 0 || r->in->limits.e2e_s > 0)
        row(t, "within the limits",
            arena_printf(a, "%s (%s a second): %s",
                         percent(a, ratio((double)f->good, (double)f->arrived)),
                         rate(a, f->good_per_s), limits_text(a, r)));
    if (f->cached_tokens)
        row(t, "prompt tokens found cached",
            percent(a, ratio((double)f->cached_tokens, (double)f->prompt_tokens)));
}

static void put_load(struct arena *a, const struct run *run, FILE *out)
{
    static const char *const titles[] = {"",     "busy",       "running", "peak", "waiting",
                                         "peak", "cache used", "peak",    "steps"};
    enum { COLUMNS = sizeof titles / sizeof *titles };
    struct table *t = table_new(a, COLUMNS);

    for (size_t c = 0; c < COLUMNS; c++) {
        table_cell(t, titles[c]);
        if (c)
            table_right(t, c);
    }
    table_rule(t);
    for (uint32_t i = 0; i <= run->replicas; i++) {
        const struct load *l = i < run->replicas ? &run->loads[i] : &run->figures.load;
        if (i == run->replicas && i == 1)
            break;
        if (i < run->replicas)
            table_cellf(t, "  replica %u", i);
        else
            table_cell(t, "  all");
        table_cell(t, percent(a, l->busy_share));
        table_cellf(t, "%.1f", l->running_mean);
        table_cell(t, count(a, l->running_peak));
        table_cellf(t, "%.1f", l->waiting_mean);
        table_cell(t, count(a, l->waiting_peak));
        table_cell(t, percent(a, l->used_share_mean));
        table_cell(t, percent(a, l->used_share_peak));
        table_cell(t, count(a, l->steps));
    }
    table_print(t, out);
}

void sim_report_page(struct arena *a, const struct sim_report *r, const char *next, FILE *out)
{
    const struct problem *p = r->problem;
    struct table *t = table_new(a, 2);

    fprintf(out, "%s\n\n", sim_report_sentence(a, r));
    row(t, "model", p->model.name ? p->model.name : "inline");
    row(t, "server",
        arena_printf(a, "%s, policy %s, %u replica%s of %u GPU%s", p->engine->name,
                     policy_name(r->run->policy), r->run->replicas,
                     r->run->replicas == 1 ? "" : "s", p->gpus / p->parallel.dp,
                     p->gpus / p->parallel.dp == 1 ? "" : "s"));
    row(t, "trace", trace_name(r->in->trace));
    put_requests(a, r, t);
    table_print(t, out);
    fputc('\n', out);
    put_latency(a, &r->run->figures, out);
    fputc('\n', out);
    put_load(a, r->run, out);
    if (next)
        fprintf(out, "\nnext: %s\n", next);
}
