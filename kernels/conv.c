/* Checks and traffic of the short convolution. */
#include "kernels/conv.h"

#include <stddef.h>

#include "kernels/launch.h"

static uint64_t tiles_of(const struct conv_args *a)
{
    return ((uint64_t)a->tokens + CONV_TILE - 1) / CONV_TILE;
}

enum device_status conv_run(struct device *d, const struct conv_args *a)
{
    const char *bad = NULL;

    if (!a->sequences || !a->tokens || !a->channels || a->channels % 8 || a->x_stride % 8)
        bad = "at least one token, of a multiple of 8 channels";
    else if (a->x_stride < a->channels)
        bad = "rows of x overlap";
    else if (a->taps < CONV_TAPS_MIN || a->taps > CONV_TAPS_MAX)
        bad = "filters of 2 to 4 taps";
    else if (a->slot_bytes % 16)
        bad = "states are aligned to 16 bytes";
    else if (!a->gate_in != !a->gate_out)
        bad = "a gate on both sides or on none";
    else if (tiles_of(a) * a->sequences > (uint64_t)INT32_MAX * CONV_THREADS / a->channels)
        bad = "at most 2^31 blocks of threads at once";
    return bad ? device_refuse(d, DEVICE_BAD_ARGUMENT, "conv: %s", bad)
               : device_launch(d, KERNEL_conv, a);
}

/* Tiles other than the first read the rows before them again; where there are such tiles, the
 * first reads the last rows of all, which become the state. */
void conv_traffic(const struct conv_args *a, struct traffic *t)
{
    uint64_t tiles = tiles_of(a), columns = a->taps - 1, n = a->sequences;
    uint64_t rows = a->tokens + columns * (tiles > 1 ? tiles : 0);
    uint64_t c = a->channels, outputs = n * a->tokens * c;
    uint64_t state = n * columns * c * (a->wide ? 4 : 2);

    t->read_bytes[TAG_STATE] += state;
    t->written_bytes[TAG_STATE] += state;
    t->read_bytes[TAG_WEIGHTS] += n * tiles * c * 2 * (a->taps + (a->bias != NULL));
    t->read_bytes[TAG_ACTIVATION] += n * rows * c * 2 * (a->gate_in ? 2 : 1);
    t->read_bytes[TAG_ACTIVATION] += a->gate_out ? 2 * outputs : 0;
    t->written_bytes[TAG_ACTIVATION] += 2 * outputs;
    t->vector_flop += outputs * (2 * a->taps + a->silu + (a->gate_out != NULL)) +
                      (a->gate_in ? n * rows * c : 0);
    t->useful_flop += outputs * (2 * a->taps + (a->gate_in ? 2 : 0));
    t->exps += a->silu ? outputs : 0;
}
