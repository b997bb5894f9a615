/* Checks and traffic of chunks. */
#include "kernels/chunks.h"

#include <stddef.h>

#include "kernels/launch.h"

enum device_status chunks_run(struct device *d, const struct chunks_args *a)
{
    const char *bad = NULL;

    if (!a->sequences || !a->heads || !a->width || !a->chunk || a->sequences > 65535)
        bad = "1 to 65535 sequences, at least one head, place and row of a chunk";
    else if (a->scores == a->out)
        bad = "not in place";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "chunks: %s", bad);
    return device_launch(d, KERNEL_chunks, a);
}

/* Scores are read for their largest, and for the sums. */
void chunks_traffic(const struct chunks_args *a, const uint32_t *count, struct traffic *t)
{
    for (uint32_t s = 0; s < a->sequences; s++) {
        uint64_t scored = (uint64_t)count[s] * a->heads;
        uint64_t rows = (uint64_t)count[s] + a->window;
        t->read_bytes[TAG_WORK] += CHUNKS_THREADS * 4 + scored * 2 * 4;
        t->written_bytes[TAG_WORK] += rows * a->heads * 4;
        t->vector_flop += rows * a->heads + (rows + a->chunk - 1) / a->chunk;
    }
}
