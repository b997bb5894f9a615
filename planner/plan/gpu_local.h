/* The GPU of this machine as a plan takes it: `hardware.gpu: local`. The driver tells the name
 * and the memory, a profile of that name the rest. */
#ifndef KVBUDGET_PLANNER_PLAN_GPU_LOCAL_H
#define KVBUDGET_PLANNER_PLAN_GPU_LOCAL_H

#include "planner/base/nvml.h"
#include "planner/cost/gpu.h"

/* The first device. Its memory is the driver's: the total as it is, of which a program sees the
 * profile's usable bytes where the profile has the same total, else what the driver has not
 * reserved. A device without a profile has memory and link alone (a note). `count` GPUs are
 * planned (0 = not said): fewer or other devices than that are a warning, and so is memory that
 * is in use. No library or device: DIAG_DEVICE with the library's reason. */
struct gpu_local_in {
    const struct profiles *profiles;
    uint64_t count;
    struct loc at;
    const struct nvml_facts *facts; /* read before; NULL = the driver is asked */
};
bool gpu_local(struct arena *a, const struct gpu_local_in *in, struct diag *d, struct gpu *out)
    __attribute__((warn_unused_result));

/* The profile of a device's name; NULL when none has it, as name or alias. */
const char *gpu_local_profile(const struct profiles *p, const struct nvml_device *device,
                              struct diag *d);

#endif
