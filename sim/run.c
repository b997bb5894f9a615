/* Driving the simulator: outcomes and spans go to whoever counts or writes them. */
#include "sim/run.h"

#include <math.h>

enum { EVENTS_A_TURN = 4096, SCALE_STEPS = 20 };

struct sinks {
    struct stats *stats;
    struct series *rows, *points;
    FILE *requests;
    double *last_s; /* [replicas] end of each one's last span */
};

static void print_request(const struct outcome *o, FILE *out)
{
    const struct request *r = &o->request;

    fprintf(out, "%llu,%.9f,%llu,%llu,", (unsigned long long)r->id, r->arrival_s,
            (unsigned long long)r->prompt_tokens, (unsigned long long)r->output_tokens);
    if (o->end == REQUEST_REJECTED) {
        fputs(",,,,rejected,0,0,\n", out);
        return;
    }
    fprintf(out, "%.9f,%.9f,%.9f,%.9f,done,%llu,%u,%u\n", o->queued_s, o->scheduled_s,
            o->first_s, o->last_s, (unsigned long long)o->cached_tokens, o->preemptions,
            o->replica);
}

static void on_outcome(void *to, const struct outcome *o)
{
    struct sinks *k = to;

    stats_outcome(k->stats, o);
    if (k->requests)
        print_request(o, k->requests);
}

static void on_span(void *to, const struct sim_span *span)
{
    struct sinks *k = to;

    k->last_s[span->replica] = span->to_s;
    stats_span(k->stats, span);
    if (k->rows)
        series_span(k->rows, span);
    if (k->points)
        series_span(k->points, span);
}

/* --- one run --------------------------------------------------------------------------------
 */

/* No span that is still to come starts before this time: a busy replica goes on where its last
 * one ended, an idle one starts later than now. */
static double passed_s(const struct sim *s, const struct sinks *k)
{
    struct sim_now now;
    double first;

    sim_now(s, &now);
    first = now.time_s;
    for (uint32_t r = 0; r < sim_replicas(s); r++) {
        sim_replica_now(s, r, &now);
        if ((now.running || now.waiting) && k->last_s[r] < first)
            first = k->last_s[r];
    }
    return first;
}

static void give_units(const struct sim *s, const struct sinks *k, struct run *out)
{
    for (uint32_t r = 0; r < out->replicas; r++) {
        struct sim_now now;
        sim_replica_now(s, r, &now);
        out->units = now.units;
        stats_units(k->stats, r, now.units);
        if (k->rows)
            series_units(k->rows, r, now.units);
        if (k->points)
            series_units(k->points, r, now.units);
    }
}

/* Sinks that need the number of replicas, once it is known. */
static bool open_sinks(struct arena *a, const struct run_in *in, struct diag *d,
                       struct sinks *k, struct run *out)
{
    if (!out->stats)
        out->stats = stats_new(a, out->replicas, &in->limits);
    stats_reset(out->stats);
    k->stats = out->stats;
    k->last_s = ARENA_NEW(a, double, out->replicas);
    k->requests = in->requests;
    if (k->requests)
        fputs("id,arrival_s,prompt_tokens,output_tokens,queued_s,scheduled_s,first_token_s,"
              "last_token_s,end,cached_tokens,preemptions,replica\n",
              k->requests);
    if (in->series)
        k->rows = series_new_rows(out->replicas, in->interval_s, in->series);
    if (in->plot)
        k->points = out->points = series_new_points(out->replicas, RUN_POINTS);
    return (!in->series || k->rows) && (!in->plot || k->points)
               ? true
               : diag_add(d, DIAG_INTERNAL, (struct loc){0}, "out of memory");
}

static void collect(struct arena *a, const struct sim *s, const struct run_in *in,
                    struct run *out)
{
    stats_figures(out->stats, &out->figures);
    if (!out->loads)
        out->loads = ARENA_NEW(a, struct load, out->replicas);
    for (uint32_t r = 0; r < out->replicas; r++)
        stats_load(out->stats, r, &out->loads[r]);
    sim_now(s, &out->now);
    out->rate = in->rate;
}

/* False when it was stopped. */
static bool turn(struct sim *s, const struct run_in *in, const struct sinks *k)
{
    struct sim_now now;

    while (sim_run(s, in->trace, EVENTS_A_TURN)) {
        if (k->rows)
            series_passed(k->rows, passed_s(s, k));
        sim_now(s, &now);
        if (in->progress && !in->progress(in->to, in->trace, &now))
            return false;
    }
    if (k->rows)
        series_end(k->rows);
    return true;
}

bool run_sim(struct arena *a, const struct run_in *in, struct diag *d, struct run *out)
{
    struct sinks k = {0};
    struct sim_sink sink = {&k, on_outcome, on_span};
    struct sim *s = sim_new(in->problem, in->steps, &in->options, &sink, d);
    bool ok = s != NULL;

    if (ok) {
        out->replicas = sim_replicas(s);
        out->policy = sim_policy(s);
        out->ahead = sim_composes_ahead(s, &out->ahead_why);
        out->caches = sim_caches(s);
        ok = open_sinks(a, in, d, &k, out);
    }
    if (ok) {
        give_units(s, &k, out);
        ok = turn(s, in, &k);
        collect(a, s, in, out);
        ok = ok && !diag_failed(d);
    }
    series_free(k.rows);
    sim_free(s);
    return ok;
}

void run_free(struct run *r)
{
    series_free(r->points);
    r->points = NULL;
}

/* --- the highest rate -----------------------------------------------------------------------
 */

struct search {
    struct arena *a;
    struct run_in in;
    struct diag *d;
    struct run run;
    struct run_search *out;
};

/* One more run at that scale: *kept tells. False with the reason recorded. */
static bool try_rate(struct search *s, double rate, bool *kept)
{
    s->in.rate = rate;
    if (s->out->runs++ && !trace_rewind(s->in.trace, rate))
        return false;
    if (!run_sim(s->a, &s->in, s->d, &s->run))
        return false;
    *kept = stats_within(s->run.stats, s->out->percentile);
    return true;
}

static bool measure_base(struct search *s)
{
    const struct figures *f = &s->run.figures;
    double apart_s = f->last_arrival_s - f->first_arrival_s;

    if (!(apart_s > 0))
        return diag_add(s->d, DIAG_INPUT, (struct loc){0},
                        "all requests arrive at once, so there is no rate to look for");
    s->out->base_per_s = (double)(f->arrived - 1) / apart_s / s->in.rate;
    return true;
}

/* Doubles or halves the scale until one is kept and the next is not. */
static bool bracket(struct search *s, double from)
{
    struct run_search *o = s->out;
    bool kept = false;
    double rate = from;

    if (!try_rate(s, rate, &kept) || !measure_base(s))
        return false;
    for (int i = 0; i <= SCALE_STEPS; i++) {
        bool was = kept;
        if (kept)
            o->low = rate;
        else
            o->high = rate;
        if (o->low > 0 && o->high > 0)
            return true;
        rate = was ? rate * 2 : rate / 2;
        if (rate > 1e6 || rate < 1e-6)
            break;
        if (!try_rate(s, rate, &kept))
            return false;
    }
    return o->low > 0 || diag_add(s->d, DIAG_INFEASIBLE, (struct loc){0},
                                  "the limits are not kept at any rate: at %.3g requests a "
                                  "second one of them is broken still",
                                  o->high * o->base_per_s);
}

bool run_find_rate(struct arena *a, const struct run_in *in, double percentile, struct diag *d,
                   struct run_search *out)
{
    struct search s = {.a = a, .in = *in, .d = d, .out = out};
    bool kept = false;

    *out = (struct run_search){.percentile = percentile};
    s.in.requests = s.in.series = NULL;
    s.in.plot = false;
    if (!bracket(&s, in->rate))
        return false;
    while (out->high > 0 && out->high > out->low * 1.01) {
        double middle = sqrt(out->low * out->high);
        if (!try_rate(&s, middle, &kept))
            return false;
        *(kept ? &out->low : &out->high) = middle;
    }
    return trace_rewind(in->trace, out->low);
}
