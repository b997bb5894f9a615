/* Between the simulator and the Run screen. */
#include "tui/live_run.h"

#include <stdio.h>

#include "sim/series.h"
#include "sim/stats.h"

struct live {
    struct arena *arena;
    struct step_model steps;
    struct trace *trace;
    struct sim *sim;
    struct stats *stats;
    struct series *points;
    bool ended;
};

static void on_outcome(void *to, const struct outcome *o)
{
    stats_outcome(((struct live *)to)->stats, o);
}

static void on_span(void *to, const struct sim_span *s)
{
    struct live *l = to;

    stats_span(l->stats, s);
    series_span(l->points, s);
}

static struct trace *open_trace(struct arena *a, const struct live_in *in, struct diag *d)
{
    struct trace_scale scale = {.rate = 1, .prompt = 1, .output = 1};
    const struct workload *w = &in->problem->workload;
    struct arrivals synthetic = {.process = arena_printf(a, "poisson:%.6g", in->per_s),
                                 .prompt = w->prompt,
                                 .output = w->output,
                                 .count = LIVE_REQUESTS,
                                 .seed = 1};

    if (!in->trace)
        return trace_synthetic(a, &synthetic, &scale, d);
    scale.rate = in->scale;
    return trace_open(a, in->trace, in->trace_format, &scale, d);
}

struct live *live_new(struct arena *a, const struct live_in *in, struct diag *d)
{
    struct live *l = ARENA_NEW(a, struct live, 1);
    struct step_options measured = {.overhead_s = -1};
    struct sim_options options = {.prefix_cache = true};
    struct sim_sink sink = {l, on_outcome, on_span};
    struct limits none = {0};

    l->arena = a;
    if (!step_build(a, in->problem, &measured, d, &l->steps))
        return NULL;
    l->trace = open_trace(a, in, d);
    if (!l->trace)
        return NULL;
    l->sim = sim_new(in->problem, &l->steps, &options, &sink, d);
    if (l->sim) {
        uint32_t n = sim_replicas(l->sim);
        l->stats = stats_new(a, n, &none);
        l->points = series_new_points(n, LIVE_POINTS);
        for (uint32_t r = 0; r < n && l->points; r++) {
            struct sim_now now;
            sim_replica_now(l->sim, r, &now);
            stats_units(l->stats, r, now.units);
            series_units(l->points, r, now.units);
        }
        if (l->points)
            return l;
    }
    live_free(l);
    return NULL;
}

void live_free(struct live *l)
{
    if (!l)
        return;
    sim_free(l->sim);
    series_free(l->points);
    trace_close(l->trace);
}

bool live_run(struct live *l, double until_s, uint64_t events)
{
    struct sim_now now;

    sim_now(l->sim, &now);
    for (; !l->ended && events > 0 && now.time_s < until_s; events--) {
        l->ended = !sim_run(l->sim, l->trace, 1);
        sim_now(l->sim, &now);
    }
    return !l->ended;
}

/* --- looking ---------------------------------------------------------------------------- */

static void look_at_times(const struct figures *f, struct live_now *out)
{
    static const enum stats_time of[LIVE_TIMES] = {
        [LIVE_TTFT] = STATS_TTFT, [LIVE_TPOT] = STATS_TPOT, [LIVE_E2E] = STATS_E2E};

    for (int i = 0; i < LIVE_TIMES; i++) {
        const struct spread *s = &f->times[of[i]];
        out->times[i].n = s->n;
        out->times[i].p50 = s->p50;
        out->times[i].p99 = s->p99;
        out->times[i].max = s->max;
    }
}

void live_look(const struct live *l, struct live_now *out)
{
    struct sim_now now;
    struct figures f;
    uint64_t total = 0, read = trace_read_bytes(l->trace, &total);

    sim_now(l->sim, &now);
    stats_figures(l->stats, &f);
    *out = (struct live_now){.time_s = now.time_s,
                             .ended = l->ended,
                             .replicas = sim_replicas(l->sim),
                             .running = now.running,
                             .waiting = now.waiting,
                             .done = now.done,
                             .rejected = now.rejected,
                             .preemptions = now.preemptions,
                             .steps = now.steps,
                             .events = now.events,
                             .used_peak = f.load.used_share_peak,
                             .requests_per_s = f.requests_per_s,
                             .prompt_tokens_per_s = f.prompt_tokens_per_s,
                             .output_tokens_per_s = f.output_tokens_per_s,
                             .read_share = -1,
                             .source = trace_name(l->trace),
                             .policy = policy_name(sim_policy(l->sim))};
    out->arrived = now.done + now.rejected + now.running + now.waiting;
    if (now.units)
        out->used_share = (double)now.used_units / (double)now.units;
    if (total)
        out->read_share = (double)read / (double)total;
    else if (!trace_format(l->trace))
        out->read_share = (double)(now.done + now.rejected) / LIVE_REQUESTS;
    look_at_times(&f, out);
}

int live_points(const struct live *l, struct live_points *out)
{
    uint64_t n = 0;
    const struct series_row *rows = series_rows(l->points, &n);
    double apart_s = series_interval_s(l->points), start_s = series_start_s(l->points);
    double replicas = series_replicas(l->points);
    int k = 0;

    if (n > 1)
        n--; /* the last interval is not over yet */
    for (uint64_t i = 0; i < n && k < LIVE_POINTS && apart_s > 0; i++, k++) {
        out->time_s[k] = start_s + ((double)i + 0.5) * apart_s;
        out->used_share[k] = rows[i].used_s / apart_s / replicas;
        out->running[k] = rows[i].running_s / apart_s;
        out->waiting[k] = rows[i].waiting_s / apart_s;
        out->output_per_s[k] = rows[i].output_tokens / apart_s;
    }
    return k;
}
