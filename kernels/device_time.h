/* Time on a device: what work takes, from point to point, and work that is kept and run at
 * once, so that the host's launches are not part of its time. */
#ifndef KVBUDGET_KERNELS_DEVICE_TIME_H
#define KVBUDGET_KERNELS_DEVICE_TIME_H

#include "kernels/device.h"

/* Seconds that the work issued between start and stop took on the device. */
enum device_status device_timer_start(struct device *d);
enum device_status device_timer_stop(struct device *d, double *seconds);

/* A point in the work issued; device_marks waits for all, gives the seconds from each to the
 * next (*n) and forgets them. Unlike the timer, marks make no work behind them wait. */
enum { DEVICE_MARKS_MAX = 4096 };
enum device_status device_mark(struct device *d);
enum device_status device_marks(struct device *d, double seconds[DEVICE_MARKS_MAX],
                                uint32_t *n);

/* Launches, fills and small uploads between the first two are kept, and run by device_replay,
 * before any other upload: on a GPU as one CUDA graph, as engines run decode steps; waits are
 * put off meanwhile, downloads refused. The CPU build runs work where it stands, and replays
 * none. */
enum device_status device_record(struct device *d);
enum device_status device_recorded(struct device *d);
enum device_status device_replay(struct device *d);

#endif
