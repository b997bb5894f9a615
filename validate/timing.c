/* Timing by the device's own clock. */
#include "validate/timing.h"

#include <math.h>
#include <stdlib.h>

enum { WARM_UP = 3, RUNS = 15 };

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

enum device_status timer_open(struct device *d, struct arena *a, const struct device_info *info,
                              struct timer *out)
{
    *out = (struct timer){.device = d,
                          .arena = a,
                          .flush_bytes = 2 * info->l2_bytes,
                          .warm_up = WARM_UP,
                          .runs = RUNS};
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
    double *v = ARENA_NEW(t->arena, double, t->runs);
    enum device_status s = DEVICE_OK;

    *out = (struct timing){.runs = t->runs};
    for (uint32_t i = 0; i < t->warm_up + t->runs && s == DEVICE_OK; i++) {
        double seconds = 0;
        s = one(t, fn, arg, &seconds);
        if (i >= t->warm_up)
            v[i - t->warm_up] = seconds;
    }
    if (s != DEVICE_OK)
        return s;
    out->median_s = timing_median(v, t->runs);
    for (uint32_t i = 0; i < t->runs; i++)
        v[i] = fabs(v[i] - out->median_s);
    out->mad_s = timing_median(v, t->runs);
    return DEVICE_OK;
}
