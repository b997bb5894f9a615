/* Statistics, kept up one outcome and one span at a time. */
#include "sim/stats.h"

/* Integrals over time of one replica. */
struct area {
    uint64_t units;
    double busy_s, running_s, waiting_s, used_s; /* used: units x seconds */
    uint64_t running_peak, waiting_peak, used_peak_units;
    uint64_t steps, prompt_tokens, output_tokens;
};

struct stats {
    struct limits limits;
    struct hist times[STATS_TIMES];
    struct figures sums; /* the counts */
    uint64_t kept[3];    /* requests within each limit */
    struct area *areas;  /* [replicas] */
    uint32_t replicas;
};

static const struct {
    const char *key, *name;
} words[STATS_TIMES] = {
    [STATS_TTFT] = {"ttft", "first token"},
    [STATS_TPOT] = {"tpot", "a token after that"},
    [STATS_ITL] = {"inter_token", "between two tokens"},
    [STATS_E2E] = {"end_to_end", "the whole answer"},
    [STATS_QUEUE] = {"queue", "waiting to start"},
};

const char *stats_time_key(enum stats_time t)
{
    return words[t].key;
}

const char *stats_time_name(enum stats_time t)
{
    return words[t].name;
}

struct stats *stats_new(struct arena *a, uint32_t replicas, const struct limits *limits)
{
    struct stats *s = ARENA_NEW(a, struct stats, 1);

    s->limits = *limits;
    s->replicas = replicas;
    s->areas = ARENA_NEW(a, struct area, replicas);
    for (int t = 0; t < STATS_TIMES; t++)
        hist_init(a, &s->times[t]);
    return s;
}

void stats_units(struct stats *s, uint32_t replica, uint64_t units)
{
    s->areas[replica].units = units;
}

void stats_reset(struct stats *s)
{
    s->sums = (struct figures){0};
    s->kept[0] = s->kept[1] = s->kept[2] = 0;
    for (uint32_t r = 0; r < s->replicas; r++)
        s->areas[r] = (struct area){.units = s->areas[r].units};
    for (int t = 0; t < STATS_TIMES; t++)
        hist_reset(&s->times[t]);
}

/* --- outcomes
 * ---------------------------------------------------------------------------------
 */

static void count_arrival(struct figures *f, const struct outcome *o)
{
    double at = o->request.arrival_s;

    if (!f->arrived || at < f->first_arrival_s)
        f->first_arrival_s = at;
    if (!f->arrived || at > f->last_arrival_s)
        f->last_arrival_s = at;
    if (!f->arrived || at > f->last_s)
        f->last_s = at;
    f->arrived++;
}

static void count_prefix(struct figures *f, const struct outcome *o)
{
    const struct request *r = &o->request;

    f->cached_tokens += o->cached_tokens;
    if (r->hash_tokens)
        f->cached_blocks += (o->cached_tokens + r->hash_tokens - 1) / r->hash_tokens;
}

static bool within(double v, double limit)
{
    return limit <= 0 || v <= limit;
}

static void count_kept(struct stats *s, double ttft, double tpot, double e2e)
{
    const bool kept[] = {within(ttft, s->limits.ttft_s), within(tpot, s->limits.tpot_s),
                         within(e2e, s->limits.e2e_s)};

    for (int i = 0; i < 3; i++)
        s->kept[i] += kept[i];
    s->sums.good += kept[0] && kept[1] && kept[2];
}

void stats_outcome(struct stats *s, const struct outcome *o)
{
    const struct request *r = &o->request;
    struct figures *f = &s->sums;
    double ttft = o->first_s - r->arrival_s, e2e = o->last_s - r->arrival_s, tpot = 0;

    count_arrival(f, o);
    if (o->end == REQUEST_REJECTED) {
        f->rejected++;
        return;
    }
    f->done++;
    f->preempted += o->preemptions > 0;
    f->preemptions += o->preemptions;
    f->prompt_tokens += r->prompt_tokens;
    f->output_tokens += r->output_tokens;
    count_prefix(f, o);
    if (o->last_s > f->last_s)
        f->last_s = o->last_s;
    if (r->output_tokens > 1) {
        tpot = (o->last_s - o->first_s) / (double)(r->output_tokens - 1);
        hist_add(&s->times[STATS_TPOT], tpot, 1);
    }
    hist_add(&s->times[STATS_TTFT], ttft, 1);
    hist_add(&s->times[STATS_E2E], e2e, 1);
    hist_add(&s->times[STATS_QUEUE], o->scheduled_s - r->arrival_s, 1);
    count_kept(s, ttft, tpot, e2e);
}

/* --- spans --------------------------------------------------------------------------------
 */

static void lift(uint64_t *peak, uint64_t v)
{
    if (v > *peak)
        *peak = v;
}

void stats_span(struct stats *s, const struct sim_span *span)
{
    struct area *a = &s->areas[span->replica];
    double dt = span->to_s - span->from_s;

    lift(&a->running_peak, span->running);
    lift(&a->waiting_peak, span->waiting_last);
    lift(&a->used_peak_units, span->used_first_units);
    lift(&a->used_peak_units, span->used_last_units);
    a->running_s += dt * (double)span->running;
    a->waiting_s += dt * span->waiting;
    a->used_s += dt * ((double)span->used_first_units + (double)span->used_last_units) / 2;
    a->prompt_tokens += span->prompt_tokens;
    a->output_tokens += span->output_tokens;
    a->steps += span->steps;
    if (!span->steps)
        return;
    a->busy_s += dt;
    if (span->decodes)
        hist_add(&s->times[STATS_ITL], dt / (double)span->steps, span->decodes * span->steps);
}

/* --- figures ------------------------------------------------------------------------------ */

static double over(double v, double by)
{
    return by > 0 ? v / by : 0;
}

/* Of replicas [from, to). */
static void load_of(const struct stats *s, uint32_t from, uint32_t to, struct load *out)
{
    double seconds = s->sums.last_s - s->sums.first_arrival_s, busy = 0, used = 0, units = 0;

    *out = (struct load){0};
    for (uint32_t r = from; r < to; r++) {
        const struct area *a = &s->areas[r];
        double peak = over((double)a->used_peak_units, (double)a->units);
        busy += a->busy_s;
        used += a->used_s;
        units += (double)a->units;
        out->running_mean += over(a->running_s, seconds);
        out->waiting_mean += over(a->waiting_s, seconds);
        out->steps += a->steps;
        out->prompt_tokens += a->prompt_tokens;
        out->output_tokens += a->output_tokens;
        lift(&out->running_peak, a->running_peak);
        lift(&out->waiting_peak, a->waiting_peak);
        if (peak > out->used_share_peak)
            out->used_share_peak = peak;
    }
    out->busy_share = over(busy, seconds * (double)(to - from));
    out->used_share_mean = over(used, seconds * units);
}

void stats_load(const struct stats *s, uint32_t replica, struct load *out)
{
    load_of(s, replica, replica + 1, out);
}

/* By exact counts, not by the histogram. */
bool stats_within(const struct stats *s, double p)
{
    uint64_t n = s->sums.done, rank = n ? hist_rank(n, p) : 1;

    return s->kept[0] >= rank && s->kept[1] >= rank && s->kept[2] >= rank;
}

void stats_figures(const struct stats *s, struct figures *out)
{
    *out = s->sums;
    out->seconds = out->last_s - out->first_arrival_s;
    out->requests_per_s = over((double)out->done, out->seconds);
    out->prompt_tokens_per_s = over((double)out->prompt_tokens, out->seconds);
    out->output_tokens_per_s = over((double)out->output_tokens, out->seconds);
    out->good_per_s = over((double)out->good, out->seconds);
    for (int t = 0; t < STATS_TIMES; t++) {
        const struct hist *h = &s->times[t];
        out->times[t] = (struct spread){h->n,
                                        hist_mean(h),
                                        hist_percentile(h, 50),
                                        hist_percentile(h, 90),
                                        hist_percentile(h, 95),
                                        hist_percentile(h, 99),
                                        h->max};
    }
    load_of(s, 0, s->replicas, &out->load);
}
