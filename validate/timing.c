/* Timing by the device's own clock. */
#include "validate/timing.h"

#include <math.h>
#include <stdlib.h>

enum { WARM_UP = 3, RUNS = 15, RUNS_MAX = 400 };

/* An idle GPU takes some hundredths of a second to raise its clocks, and a busy one about as
 * long to lower them to what its power allows. */
#define WARM_S 0.05
#define RUN_S 0.2

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double timing_median(double *v, uint32_t n)
{
    qsort(v, n, sizeof *v, ascending);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

uint32_t timing_prompts(double seconds)
{
    return seconds > 0.1 ? 2 : TIMING_PROMPTS_MAX;
}

enum device_status timer_open(struct device *d, struct arena *a, const struct device_info *info,
                              struct timer *out)
{
    *out = (struct timer){.device = d,
                          .arena = a,
                          .flush_bytes = 2 * info->l2_bytes,
                          .warm_up = WARM_UP,
                          .runs = RUNS,
                          .warm_s = info->is_cpu ? 0 : WARM_S,
                          .run_s = info->is_cpu ? 0 : RUN_S};
    return out->flush_bytes ? device_alloc(d, out->flush_bytes, TAG_WORK, &out->flush)
                            : DEVICE_OK;
}

static enum device_status one(const struct timer *t, enum device_status (*fn)(void *arg),
                              void *arg, double *seconds)
{
    enum device_status s = DEVICE_OK;

    if (t->flush)
        s = device_fill(t->device, t->flush, 0, t->flush_bytes);
    if (s == DEVICE_OK)
        s = device_timer_start(t->device);
    if (s == DEVICE_OK)
        s = fn(arg);
    return s == DEVICE_OK ? device_timer_stop(t->device, seconds) : s;
}

enum device_status timer_run(const struct timer *t, enum device_status (*fn)(void *arg),
                             void *arg, struct timing *out)
{
    double *v = ARENA_NEW(t->arena, double, RUNS_MAX), sum = 0;
    enum device_status s = DEVICE_OK;
    uint32_t n = 0;

    for (uint32_t i = 0; (i < t->warm_up || sum < t->warm_s) && i < RUNS_MAX && s == DEVICE_OK;
         i++, sum += v[0])
        s = one(t, fn, arg, &v[0]);
    for (sum = 0; (n < t->runs || sum < t->run_s) && n < RUNS_MAX && s == DEVICE_OK; n++) {
        s = one(t, fn, arg, &v[n]);
        sum += v[n];
    }
    if (s != DEVICE_OK)
        return s;
    *out = (struct timing){.median_s = timing_median(v, n), .runs = n};
    for (uint32_t i = 0; i < n; i++)
        v[i] = fabs(v[i] - out->median_s);
    out->mad_s = timing_median(v, n);
    return DEVICE_OK;
}
