/* What a simulation came to: latencies, rates and load from its outcomes and spans, in memory
 * that does not depend on the number of requests. */
#ifndef KVBUDGET_SIM_STATS_H
#define KVBUDGET_SIM_STATS_H

#include "sim/hist.h"
#include "sim/sim.h"

struct limits { /* seconds; 0 = none */
    double ttft_s, tpot_s, e2e_s;
};

enum stats_time {
    STATS_TTFT,  /* arrival to first token */
    STATS_TPOT,  /* of a request: first to last token, over its tokens but one */
    STATS_ITL,   /* step time as each decoded token saw it */
    STATS_E2E,   /* arrival to last token */
    STATS_QUEUE, /* arrival to the first step */
    STATS_TIMES
};
const char *stats_time_key(enum stats_time t);  /* "ttft" */
const char *stats_time_name(enum stats_time t); /* "first token" */

struct spread {
    uint64_t n;
    double mean, p50, p90, p95, p99, max;
};

/* Of one replica, or of all: means over the time from the first arrival to the last end. */
struct load {
    double busy_share; /* of the time some step ran */
    double running_mean, waiting_mean, used_share_mean, used_share_peak;
    uint64_t running_peak, waiting_peak;          /* of all replicas: in the fullest one */
    uint64_t steps, prompt_tokens, output_tokens; /* computed, recomputed ones again */
};

struct figures {
    uint64_t arrived, done, rejected;
    uint64_t preempted, preemptions;       /* requests, times */
    uint64_t prompt_tokens, output_tokens; /* of the requests that are done */
    uint64_t cached_tokens;                /* of their prompts, found in the prefix cache */
    uint64_t cached_blocks;                /* the same in blocks of the trace's hashes */
    double first_arrival_s, last_arrival_s, last_s, seconds; /* last_s - first_arrival_s */
    double requests_per_s, prompt_tokens_per_s, output_tokens_per_s;
    uint64_t good; /* done within all limits */
    double good_per_s;
    struct spread times[STATS_TIMES];
    struct load load;
};

struct stats;

struct stats *stats_new(struct arena *a, uint32_t replicas, const struct limits *limits);
void stats_units(struct stats *s, uint32_t replica, uint64_t units); /* of its pool */
void stats_reset(struct stats *s); /* as new: for another run */

void stats_outcome(struct stats *s, const struct outcome *o);
void stats_span(struct stats *s, const struct sim_span *span);

void stats_figures(const struct stats *s, struct figures *out);
void stats_load(const struct stats *s, uint32_t replica, struct load *out);
/* Whether the percentile p of each time that has a limit keeps it; false without a request. A
 * request of one token has no time per token and keeps that limit. */
bool stats_within(const struct stats *s, double p);

#endif
