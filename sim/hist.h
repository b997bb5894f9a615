/* A histogram of times with logarithmic buckets: percentiles of any number of values in
 * constant memory. 512 buckets an octave put a percentile within 0.1 % (2^-10) of the value it
 * stands for, from 1 ns to 500 years; mean and maximum are exact. */
#ifndef KVBUDGET_SIM_HIST_H
#define KVBUDGET_SIM_HIST_H

#include <stdint.h>

#include "planner/base/arena.h"

enum { HIST_BITS = 9, HIST_LOW = -30, HIST_HIGH = 34 }; /* powers of two */

struct hist {
    uint64_t *count; /* [(HIST_HIGH - HIST_LOW) << HIST_BITS] */
    uint64_t zero;   /* values below 2^HIST_LOW */
    uint64_t n;
    double sum, sum_low; /* and what rounding has lost of it */
    double min, max;
};

void hist_init(struct arena *a, struct hist *h);
void hist_reset(struct hist *h);
/* `n` values v >= 0, in seconds. */
void hist_add(struct hist *h, double v, uint64_t n);

/* ceil(p / 100 * n), 1 to n: how many of n values a percentile must not be below. */
uint64_t hist_rank(uint64_t n, double p);

double hist_mean(const struct hist *h); /* 0 without values */
/* The value at that rank, 0 < p <= 100: the least one that p % do not exceed. */
double hist_percentile(const struct hist *h, double p);

#endif
