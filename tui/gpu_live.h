/* The GPU of this machine in one line, as it is now. The driver's library is opened at the
 * first reading, which is why that waits until something is on the screen. */
#ifndef KVBUDGET_TUI_GPU_LIVE_H
#define KVBUDGET_TUI_GPU_LIVE_H

#include <stdbool.h>

#include "planner/base/arena.h"

enum { GPU_LINE_BYTES = 200 };

struct gpu_live {
    bool opened;
    struct nvml *lib; /* NULL = there is none, and no use to ask again */
    struct arena *arena;
    double read_s; /* when it was read last */
    char line[GPU_LINE_BYTES];
};

/* Reads when the last reading is a second old: "this machine: NVIDIA H100 80GB HBM3, 19.5 of
 * 79.6 GiB in use, 41 C". True when the line is another than before. */
bool gpu_live_read(struct gpu_live *g, double now_s);
/* Seconds to the next reading; < 0: there is nothing to read. */
double gpu_live_deadline(const struct gpu_live *g, double now_s);
void gpu_live_close(struct gpu_live *g);

#endif
