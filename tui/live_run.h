/* A simulation that is watched while it runs: requests from a trace or from a Poisson process,
 * advanced as far as a clock says, with its load over time and its latencies so far. No
 * drawing, and nothing of the session: the problem is the caller's. */
#ifndef KVBUDGET_TUI_LIVE_RUN_H
#define KVBUDGET_TUI_LIVE_RUN_H

#include "planner/plan/problem.h"

struct live_in {
    const struct problem *problem;    /* outlives the run */
    const char *trace, *trace_format; /* trace NULL = synthetic */
    double per_s;                     /* synthetic: requests a second */
    double scale;                     /* of a trace's rate */
};

enum { LIVE_REQUESTS = 2000, LIVE_POINTS = 128 };

struct live;
/* NULL with the reason in `d`: no GPU whose speed is known, a trace that cannot be read, ... */
struct live *live_new(struct arena *a, const struct live_in *in, struct diag *d);
void live_free(struct live *l); /* NULL is fine */

/* Runs until the clock of the trace is at least `until_s`, or `events` events. False once all
 * requests have ended or the trace failed (its diag says so). */
bool live_run(struct live *l, double until_s, uint64_t events);

enum live_time { LIVE_TTFT, LIVE_TPOT, LIVE_E2E, LIVE_TIMES };
struct live_now {
    double time_s;
    bool ended;
    uint32_t replicas;
    uint64_t running, waiting, arrived, done, rejected, preemptions, steps, events;
    double used_share; /* of all pools */
    double used_peak;
    double requests_per_s, prompt_tokens_per_s, output_tokens_per_s; /* of what has ended */
    struct {
        uint64_t n;
        double p50, p99, max;
    } times[LIVE_TIMES];
    double read_share; /* of the trace; < 0 = not known */
    const char *source, *policy;
};
void live_look(const struct live *l, struct live_now *out);

/* The load over time, at most LIVE_POINTS points; returns how many. */
struct live_points {
    double time_s[LIVE_POINTS], used_share[LIVE_POINTS], running[LIVE_POINTS],
        waiting[LIVE_POINTS], output_per_s[LIVE_POINTS];
};
int live_points(const struct live *l, struct live_points *out);

#endif
