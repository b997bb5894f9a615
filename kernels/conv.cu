/* The short convolution: a thread has 8 channels and up to CONV_TILE tokens of a sequence, and
 * moves a window of `taps` columns along them in registers. The thread of the first tile reads
 * the state and also writes it, so that no other one can come in between. */
#include "kernels/eight_dev.h"

#include "kernels/conv.h"

struct place {
    uint64_t row; /* the sequence's first */
    uint32_t first, end, channel, tiles;
    char *state;
};

DEV bool place_of(struct lane *t, const struct conv_args *a, struct place *p)
{
    uint64_t unit = (uint64_t)dev_block(t, 0) * CONV_THREADS + dev_thread(t);
    uint32_t units = a->channels / 8, sequence, tile;

    p->tiles = (a->tokens + CONV_TILE - 1) / CONV_TILE;
    p->channel = (uint32_t)(unit % units) * 8;
    tile = (uint32_t)(unit / units % p->tiles);
    unit = unit / units / p->tiles;
    if (unit >= a->sequences)
        return false;
    sequence = (uint32_t)unit;
    p->row = (uint64_t)sequence * a->tokens;
    p->first = tile * CONV_TILE;
    p->end = a->tokens - p->first < CONV_TILE ? a->tokens : p->first + CONV_TILE;
    p->state = (char *)a->state + sequence * a->slot_bytes;
    return true;
}

/* A column as the state keeps it: the gated one is rounded. */
DEV struct eight column(struct lane *t, const struct conv_args *a, uint64_t row, uint32_t c)
{
    uint64_t at = row * a->x_stride + c;
    struct eight e = eight_load(t, a->x, at, a->fp16);

    if (!a->gate_in)
        return e;
    struct eight g = eight_load(t, a->gate_in, at, a->fp16);
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        e.x[i] = dev_from_16((uint16_t)dev_pack_16(e.x[i] * g.x[i], 0.0f, a->fp16), a->fp16);
    dev_flop(t, 8, 0);
    return e;
}

DEV void finish(struct lane *t, const struct conv_args *a, uint64_t row, uint32_t c,
                struct eight *y)
{
    if (a->silu) {
        UNROLL
        for (uint32_t i = 0; i < 8; i++)
            y->x[i] *= dev_sigmoid(y->x[i]);
        dev_exps(t, 8);
        dev_flop(t, 8, 0);
    }
    if (a->gate_out) {
        struct eight g = eight_load(t, a->gate_out, row * a->x_stride + c, a->fp16);
        UNROLL
        for (uint32_t i = 0; i < 8; i++)
            y->x[i] *= g.x[i];
        dev_flop(t, 8, 0);
    }
    eight_store(t, a->out, row * a->channels + c, y, a->fp16);
}

/* The window moves by one column. */
DEV void push(struct eight *window, uint32_t taps, const struct eight *newest)
{
    UNROLL
    for (uint32_t j = 0; j + 1 < taps; j++)
        window[j] = window[j + 1];
    window[taps - 1] = *newest;
}

/* The last taps - 1 columns: those of the window, or of rows far from it. */
DEV void keep(struct lane *t, const struct conv_args *a, const struct place *p,
              const struct eight *window, uint32_t taps)
{
    UNROLL
    for (uint32_t j = 0; j + 1 < taps; j++) {
        struct eight e = window[j + 1];
        if (p->tiles > 1)
            e = column(t, a, p->row + a->tokens + j - (taps - 1), p->channel);
        eight_store_any(t, p->state, (uint64_t)j * a->channels + p->channel, &e, a->fp16,
                        a->wide);
    }
}

DEV void body(struct lane *t, const struct conv_args *a, uint32_t taps)
{
    struct eight window[CONV_TAPS_MAX], w[CONV_TAPS_MAX], bias = {{0, 0, 0, 0, 0, 0, 0, 0}};
    struct place p;

    if (!place_of(t, a, &p))
        return;
    UNROLL
    for (uint32_t j = 0; j < taps; j++) /* [8 channels][taps] lie in a row */
        w[j] = eight_load(t, a->weight, (uint64_t)p.channel * taps + 8 * j, a->fp16);
    if (a->bias)
        bias = eight_load(t, a->bias, p.channel, a->fp16);
    UNROLL
    for (uint32_t j = 1; j < taps; j++)
        window[j] =
            p.first ? column(t, a, p.row + p.first + j - taps, p.channel)
                    : eight_load_any(t, p.state, (uint64_t)(j - 1) * a->channels + p.channel,
                                     a->fp16, a->wide);
    window[0] = window[1];
    for (uint32_t i = p.first; i < p.end; i++) {
        struct eight newest = column(t, a, p.row + i, p.channel), y = bias;
        push(window, taps, &newest);
        UNROLL
        for (uint32_t k = 0; k < 8 * taps; k++) /* channel k / taps, tap k % taps */
            y.x[k / taps] =
                dev_fma(w[k / 8].x[k % 8], window[k % taps].x[k / taps], y.x[k / taps]);
        dev_flop(t, 16 * taps, 16 * taps + (a->gate_in ? 16 : 0));
        finish(t, a, p.row + i, p.channel, &y);
    }
    if (!p.first)
        keep(t, a, &p, window, taps);
}

KERNEL(conv_kernel_2, CONV_THREADS, struct conv_args, body(t, a, 2))
KERNEL(conv_kernel_3, CONV_THREADS, struct conv_args, body(t, a, 3))
KERNEL(conv_kernel_4, CONV_THREADS, struct conv_args, body(t, a, 4))

LAUNCHER(conv)
{
    const struct conv_args *a = (const struct conv_args *)args;
    uint64_t tiles = ((uint64_t)a->tokens + CONV_TILE - 1) / CONV_TILE;
    uint64_t units = a->sequences * tiles * (a->channels / 8);
    struct shape s = {
        {(uint32_t)((units + CONV_THREADS - 1) / CONV_THREADS), 1, 1}, CONV_THREADS, 0};

    switch (a->taps) {
    case 2: return LAUNCH(conv_kernel_2, s, a);
    case 3: return LAUNCH(conv_kernel_3, s, a);
    default: return LAUNCH(conv_kernel_4, s, a);
    }
}
