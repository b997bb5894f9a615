/* NVIDIA's management library, opened when it is first asked for: nothing of NVIDIA is needed
 * to build or to start. Facts only (how many devices, what they are called, their memory); what
 * they mean is the planner's business. The prototypes are written by hand, newer symbols (_v2)
 * come first.
 *
 * The library is libnvidia-ml.so.1, found as dlopen finds it; the environment variable
 * KVBUDGET_NVML names another file (tests use it, and systems that keep it elsewhere).
 * source: NVML API reference, docs.nvidia.com/deploy/nvml-api */
#ifndef KVBUDGET_PLANNER_BASE_NVML_H
#define KVBUDGET_PLANNER_BASE_NVML_H

#include <stdbool.h>
#include <stdint.h>

#include "planner/base/arena.h"

enum { NVML_DEVICES_MAX = 256 };

struct nvml_device {
    const char *name; /* "NVIDIA H100 80GB HBM3" */
    uint64_t total_bytes, free_bytes;
    uint64_t reserved_bytes; /* by driver and firmware; 0 = not told apart (before 510) */
    int major, minor;        /* compute capability; 0.0 = not told */
    int temperature_c;       /* -1 = not told */
    uint32_t clock_mhz, memory_clock_mhz; /* now; 0 = not told */
    uint64_t link_generation; /* of PCIe, the most that device and slot have; 0 = not told */
    uint64_t link_lanes;
};

struct nvml_facts {
    const char *driver; /* "570.86.10"; NULL = not told */
    uint32_t n;         /* at least 1 */
    const struct nvml_device *devices;
};

struct nvml;

/* Opens and initialises the library. NULL: *reason says in one line why it cannot be used.
 * Close with nvml_close. Texts live in the arena. */
struct nvml *nvml_open(struct arena *a, const char **reason)
    __attribute__((warn_unused_result));
void nvml_close(struct nvml *lib); /* NULL is fine */

/* What the devices are and how much of their memory is free now. A machine without a device is
 * a failure, too. */
bool nvml_read(struct nvml *lib, struct arena *a, struct nvml_facts *out, const char **reason)
    __attribute__((warn_unused_result));

/* The three in one: open, read, close. */
bool nvml_facts(struct arena *a, struct nvml_facts *out, const char **reason)
    __attribute__((warn_unused_result));

#endif
