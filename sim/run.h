/* A simulation from its first request to its last, with what is kept of it: statistics, a line
 * a request, rows over time, points for a plot; and the search for the highest rate that keeps
 * limits. */
#ifndef KVBUDGET_SIM_RUN_H
#define KVBUDGET_SIM_RUN_H

#include <stdio.h>

#include "sim/series.h"
#include "sim/stats.h"

enum { RUN_POINTS = 800 }; /* of a plot */

struct run_in {
    const struct problem *problem;
    const struct step_model *steps;
    struct sim_options options;
    struct limits limits;
    struct trace *trace;
    double rate;    /* the trace's scale of the rate */
    FILE *requests; /* a CSV line for each request as it ends; NULL = none */
    FILE *series;   /* rows of interval_s; NULL = none */
    double interval_s;
    bool plot; /* keep points */
    /* Called now and then; may be NULL. False = stop: run_sim fails, without a reason. */
    bool (*progress)(void *to, const struct trace *t, const struct sim_now *now);
    void *to;
};

struct run {
    struct figures figures;
    struct load *loads; /* [replicas] */
    struct sim_now now; /* at the end */
    uint64_t units;     /* of one replica's pool */
    uint32_t replicas;
    const struct policy *policy; /* that was used */
    bool ahead;                  /* steps were composed ahead, and who says so */
    const char *ahead_why;
    bool caches;           /* prefixes were kept */
    struct series *points; /* run_free frees it */
    struct stats *stats;
    double rate;
};

/* False with the reason recorded; `out` may be reused with run_again, and is freed either way.
 */
bool run_sim(struct arena *a, const struct run_in *in, struct diag *d, struct run *out)
    __attribute__((warn_unused_result));
void run_free(struct run *r);

/* --- the highest rate -------------------------------------------------------------------- */

struct run_search {
    double percentile;
    double base_per_s; /* arrivals a second at scale 1, as measured */
    double low, high;  /* scales: kept at low, not at high; high 0 = no rate breaks them */
    uint32_t runs;
};
/* Doubles and bisects the scale of the rate until it is known to 1 %. errors: DIAG_INFEASIBLE
 * where the limits are not kept at a millionth of the rate, DIAG_INPUT where all requests
 * arrive at once. The trace is left at `low` to be run again. */
bool run_find_rate(struct arena *a, const struct run_in *in, double percentile, struct diag *d,
                   struct run_search *out) __attribute__((warn_unused_result));

#endif
