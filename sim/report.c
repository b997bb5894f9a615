/* The JSON of a simulation. Every key is added here and nowhere else; profiles/schema/sim.json
 * says what they mean. Nothing of the machine that simulates is in it: same input, same bytes.
 */
#include "sim/report.h"

const char *router_name(enum router r)
{
    switch (r) {
    case ROUTER_ROUND_ROBIN: return "round-robin";
    case ROUTER_LEAST_LOADED: return "least-loaded";
    case ROUTER_PREFIX_AWARE: return "prefix-aware";
    }
    return "?";
}

static double ratio(double v, double of)
{
    return of > 0 ? v / of : 0;
}

/* --- inputs ---------------------------------------------------------------------------------
 */

static void add_server(cJSON *to, const struct sim_report *r)
{
    const struct problem *p = r->problem;
    const struct sim_options *o = &r->in->options;

    json_text(to, "spec", r->spec);
    json_text(to, "model", p->model.name ? p->model.name : "inline");
    json_text(to, "gpu", p->gpu.name && *p->gpu.name ? p->gpu.name : NULL);
    json_u64(to, "gpus_per_replica", p->gpus / p->parallel.dp);
    json_text(to, "engine", p->engine->name);
    json_text(to, "policy", policy_name(r->run->policy));
    json_text(to, "router", router_name(o->router));
    json_u64(to, "replicas", r->run->replicas);
    json_u64(to, "prefill_replicas", o->prefill_replicas);
    json_bool(to, "composes_ahead", r->run->ahead);
    json_bool(to, "prefix_cache", r->run->caches);
    json_bool(to, "unlimited_cache", o->unlimited_cache);
    json_text(to, "mode", o->every_step ? "every_step" : "events");
}

static double arrivals_per_s(const struct figures *f)
{
    double apart_s = f->last_arrival_s - f->first_arrival_s;

    return f->arrived > 1 ? ratio((double)(f->arrived - 1), apart_s) : 0;
}

static void add_trace(cJSON *to, const struct sim_report *r)
{
    const struct figures *f = &r->run->figures;
    const struct trace_format *format = trace_format(r->in->trace);
    cJSON *o = json_object(to, "trace");

    json_text(o, "name", trace_name(r->in->trace));
    json_text(o, "format", format ? trace_format_name(format) : "synthetic");
    if (r->arrivals) {
        json_text(o, "lengths", r->arrivals->lengths);
        json_u64(o, "seed", r->arrivals->seed);
    }
    json_double(o, "rate_scale", r->run->rate);
    json_double(o, "prompt_scale", r->scale.prompt);
    json_double(o, "output_scale", r->scale.output);
    json_u64(o, "skipped", trace_skipped(r->in->trace));
    json_double(o, "first_arrival_seconds", f->first_arrival_s);
    json_double(o, "last_arrival_seconds", f->last_arrival_s);
    json_double(o, "arrivals_per_second", arrivals_per_s(f));
    json_double(o, "prompt_tokens_mean", ratio((double)f->prompt_tokens, (double)f->done));
    json_double(o, "output_tokens_mean", ratio((double)f->output_tokens, (double)f->done));
}

/* --- figures
 * ----------------------------------------------------------------------------------
 */

static void add_spread(cJSON *to, const char *key, const struct spread *s)
{
    cJSON *o = json_object(to, key);

    json_u64(o, "count", s->n);
    json_double(o, "mean_seconds", s->mean);
    json_double(o, "p50_seconds", s->p50);
    json_double(o, "p90_seconds", s->p90);
    json_double(o, "p95_seconds", s->p95);
    json_double(o, "p99_seconds", s->p99);
    json_double(o, "max_seconds", s->max);
}

static void add_goodput(cJSON *to, const struct sim_report *r)
{
    const struct figures *f = &r->run->figures;
    const struct limits *l = &r->in->limits;
    cJSON *o;

    if (l->ttft_s <= 0 && l->tpot_s <= 0 && l->e2e_s <= 0)
        return;
    o = json_object(to, "limits");
    if (l->ttft_s > 0)
        json_double(o, "ttft_seconds", l->ttft_s);
    if (l->tpot_s > 0)
        json_double(o, "tpot_seconds", l->tpot_s);
    if (l->e2e_s > 0)
        json_double(o, "end_to_end_seconds", l->e2e_s);
    o = json_object(to, "goodput");
    json_u64(o, "requests", f->good);
    json_double(o, "share", ratio((double)f->good, (double)f->arrived));
    json_double(o, "requests_per_second", f->good_per_s);
}

static void add_search(cJSON *to, const struct sim_report *r)
{
    const struct run_search *s = r->search;
    cJSON *o;

    if (!s)
        return;
    o = json_object(to, "highest_rate");
    json_double(o, "percentile", s->percentile);
    json_double(o, "requests_per_second", s->low * s->base_per_s);
    json_double(o, "rate_scale", s->low);
    if (s->high > 0)
        json_double(o, "broken_at_requests_per_second", s->high * s->base_per_s);
    json_u64(o, "runs", s->runs);
}

static void add_rates(cJSON *to, const struct figures *f)
{
    cJSON *o = json_object(to, "throughput");

    json_double(o, "requests_per_second", f->requests_per_s);
    json_double(o, "prompt_tokens_per_second", f->prompt_tokens_per_s);
    json_double(o, "output_tokens_per_second", f->output_tokens_per_s);
    json_double(o, "total_tokens_per_second", f->prompt_tokens_per_s + f->output_tokens_per_s);
}

static void add_prefix(cJSON *to, const struct figures *f, uint64_t blocks)
{
    cJSON *o = json_object(to, "prefix");

    json_u64(o, "cached_tokens", f->cached_tokens);
    json_double(o, "hit_share", ratio((double)f->cached_tokens, (double)f->prompt_tokens));
    if (!blocks)
        return;
    json_u64(o, "trace_blocks", blocks);
    json_u64(o, "cached_trace_blocks", f->cached_blocks);
    json_double(o, "block_hit_share", ratio((double)f->cached_blocks, (double)blocks));
}

static void fill_load(cJSON *o, const struct load *l)
{
    json_double(o, "busy_share", l->busy_share);
    json_double(o, "running_mean", l->running_mean);
    json_u64(o, "running_peak", l->running_peak);
    json_double(o, "waiting_mean", l->waiting_mean);
    json_u64(o, "waiting_peak", l->waiting_peak);
    json_double(o, "cache_used_share_mean", l->used_share_mean);
    json_double(o, "cache_used_share_peak", l->used_share_peak);
    json_u64(o, "steps", l->steps);
    json_u64(o, "prompt_tokens", l->prompt_tokens);
    json_u64(o, "output_tokens", l->output_tokens);
}

static void add_figures(cJSON *to, const struct sim_report *r)
{
    const struct figures *f = &r->run->figures;
    cJSON *o = json_object(to, "requests"), *list;

    json_u64(o, "arrived", f->arrived);
    json_u64(o, "done", f->done);
    json_u64(o, "rejected", f->rejected);
    json_u64(o, "preempted", f->preempted);
    json_u64(o, "preemptions", f->preemptions);
    json_double(to, "seconds", f->seconds);
    add_rates(to, f);
    o = json_object(to, "latency");
    for (int t = 0; t < STATS_TIMES; t++)
        add_spread(o, stats_time_key((enum stats_time)t), &f->times[t]);
    add_goodput(to, r);
    add_search(to, r);
    add_prefix(to, f, trace_blocks(r->in->trace));
    fill_load(json_object(to, "load"), &f->load);
    list = json_list(to, "per_replica");
    for (uint32_t i = 0; i < r->run->replicas; i++)
        fill_load(json_object(list, NULL), &r->run->loads[i]);
    json_u64(to, "events", r->run->now.events);
}

/* --- where it comes from --------------------------------------------------------------------
 */

static void add_gpu(cJSON *to, const struct gpu *g)
{
    cJSON *list = json_list(to, "gpu"), *o;

    for (int f = GPU_FACT_BANDWIDTH; f < GPU_FACTS; f++) {
        const struct gpu_origin *from = &g->origin[f];
        if (!from->source)
            continue;
        o = json_object(list, NULL);
        json_text(o, "figure", gpu_fact_key((enum gpu_fact)f));
        json_double(o, "value", gpu_fact_value(g, (enum gpu_fact)f));
        json_bool(o, "is_default", from->is_default);
        json_text(o, "source", from->source);
    }
}

static void add_provenance(cJSON *to, const struct sim_report *r)
{
    const struct trace_format *format = trace_format(r->in->trace);
    cJSON *o = json_object(to, "provenance");

    json_text(o, "step_time", r->steps_file ? r->steps_file : "roofline");
    json_double(o, "step_overhead_seconds", r->steps->overhead_s);
    json_text(o, "step_overhead_source", r->steps->overhead_why);
    json_text(o, "policy_source", policy_source(r->run->policy));
    json_text(o, "composes_ahead_source", *r->run->ahead_why ? r->run->ahead_why : NULL);
    json_text(o, "trace_format_source", format ? trace_format_source(format) : NULL);
    json_text(o, "model", r->problem->model_source);
    if (r->problem->gpu_named)
        add_gpu(o, &r->problem->gpu);
    json_text(o, "band", "none: times are those of a model, without a measured band");
}

cJSON *sim_report_json(const struct sim_report *r)
{
    cJSON *root = json_object(NULL, NULL);

    json_text(root, "schema", "kvbudget.sim/1");
    json_text(root, "kvbudget_version", KV_VERSION);
    add_server(root, r);
    add_trace(root, r);
    add_figures(root, r);
    json_diagnostics(json_list(root, "diagnostics"), r->diag, 0);
    add_provenance(root, r);
    return root;
}
