/* Device times that can be trusted: the caches flushed before every run, the first runs
 * dropped, the median of the rest with its spread. */
#ifndef KVBUDGET_VALIDATE_TIMING_H
#define KVBUDGET_VALIDATE_TIMING_H

#include "kernels/device.h"
#include "planner/base/arena.h"

struct timer {
    struct device *device;
    struct arena *arena;
    void *flush; /* twice the L2 cache, written before every run; NULL: not flushed */
    uint64_t flush_bytes;
    uint32_t warm_up, runs; /* dropped, kept */
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

/* The middle value; of an even number the mean of the two. Reorders. n > 0. */
double timing_median(double *v, uint32_t n);

#endif
