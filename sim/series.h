/* Spans cut at equal intervals: the load over time, as rows of a CSV that is written while the
 * simulation runs, or as at most so many points for a plot, the interval doubling as time goes
 * on. Either way memory does not depend on how long it runs. */
#ifndef KVBUDGET_SIM_SERIES_H
#define KVBUDGET_SIM_SERIES_H

#include <stdio.h>

#include "sim/sim.h"

/* An interval: integrals over time of all replicas together. */
struct series_row {
    double busy_s, running_s, waiting_s; /* sequences x seconds */
    double used_s;                       /* share of each replica's pool x seconds */
    double prompt_tokens, output_tokens, steps;
};

struct series;

/* Rows of `interval_s` for `out`, each once no replica can add to it any more. */
struct series *series_new_rows(uint32_t replicas, double interval_s, FILE *out);
/* At most `points` rows, for series_row_at. */
struct series *series_new_points(uint32_t replicas, uint32_t points);
void series_units(struct series *s, uint32_t replica, uint64_t units); /* of its pool */
void series_free(struct series *s);                                    /* NULL is fine */

void series_span(struct series *s, const struct sim_span *span);
/* No span will start before `s`: rows that end by then are written. */
void series_passed(struct series *s, double time_s);
/* The rest is written. */
void series_end(struct series *s);

/* Row i from the start of the first interval; n is their number. */
const struct series_row *series_rows(const struct series *s, uint64_t *n);
double series_interval_s(const struct series *s);
double series_start_s(const struct series *s);
uint32_t series_replicas(const struct series *s);

#endif
