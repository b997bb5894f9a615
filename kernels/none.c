/* In place of the CUDA backend where the build has none: says so, and opens nothing. */
#include <stdio.h>

#include "kernels/launch.h"

uint32_t cuda_count(struct device_text *why)
{
    snprintf(why->text, sizeof why->text,
             "this build has no CUDA kernels; rebuild where nvcc is installed");
    return 0;
}

static enum device_status none_open(const char *name, const struct device_options *o,
                                    void **self, struct device_text *why)
{
    (void)name;
    (void)o;
    *self = NULL;
    cuda_count(why);
    return DEVICE_ABSENT;
}

const struct backend backend_cuda = {.open = none_open};
