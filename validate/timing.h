/* Device times that can be trusted: the caches flushed before every run, the first runs dropped
 * until clocks have risen, the median of the rest with its spread. */
#ifndef KVBUDGET_VALIDATE_TIMING_H
#define KVBUDGET_VALIDATE_TIMING_H

#include "kernels/device_time.h"
#include "planner/base/arena.h"

struct timer {
    struct device *device;
    struct arena *arena;
    void *flush; /* twice the L2 cache, written before every run; NULL: not flushed */
    uint64_t flush_bytes;
    uint32_t warm_up, runs; /* dropped, kept, at least */
    double warm_s, run_s;   /* seconds on the device that both take, at least */
};

struct timing {
    double median_s;
    double mad_s; /* median of the distances from it */
    uint32_t runs;
};

/* Allocates the flush memory (info: of the device). */
enum device_status timer_open(struct device *d, struct arena *a, const struct device_info *info,
                              struct timer *out);
enum device_status timer_run(const struct timer *t, enum device_status (*fn)(void *arg),
                             void *arg, struct timing *out);

/* A decode step is timed after a few others; then the ops of as many steps. */
enum { TIMING_WARM_UP = 4, TIMING_STEPS = 16, TIMING_PROMPTS_MAX = 5 };
enum {
    TIMING_OUTPUT = TIMING_WARM_UP + 2 * TIMING_STEPS
}; /* tokens a decoder must have room for */

/* How often prompts are timed that take so long, after one that warms up. */
uint32_t timing_prompts(double seconds);

/* The middle value; of an even number the mean of the two. Reorders. n > 0. */
double timing_median(double *v, uint32_t n);

#endif
