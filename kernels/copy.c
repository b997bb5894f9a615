/* Checks and traffic of the bandwidth probes. */
#include "kernels/copy.h"

#include "kernels/launch.h"

static enum device_status run(struct device *d, const struct copy_args *a, enum kernel k)
{
    if (!a->bytes || a->bytes % 16)
        return device_refuse(d, DEVICE_BAD_ARGUMENT,
                             "copy: %llu bytes are not a positive multiple of 16",
                             (unsigned long long)a->bytes);
    if (!a->blocks || a->blocks > 65535)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "copy: %u blocks, not 1 to 65535",
                             a->blocks);
    return device_launch(d, k, a);
}

enum device_status copy_run(struct device *d, const struct copy_args *a)
{
    return run(d, a, KERNEL_copy);
}

enum device_status stream_run(struct device *d, const struct copy_args *a)
{
    return run(d, a, KERNEL_stream);
}

void copy_traffic(const struct copy_args *a, struct traffic *t)
{
    t->read_bytes[a->from_tag] += a->bytes;
    t->written_bytes[a->to_tag] += a->bytes;
}

void stream_traffic(const struct copy_args *a, struct traffic *t)
{
    t->read_bytes[a->from_tag] += a->bytes;
    t->written_bytes[a->to_tag] += (uint64_t)4 * a->blocks;
}
