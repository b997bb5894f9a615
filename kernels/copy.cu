/* Bandwidth probes. Threads take turns by 16 bytes, so that a warp reads 512 neighbouring
 * bytes; four loads are under way before the first is used. */
#include "kernels/dev.h"

#include "kernels/copy.h"

enum { AHEAD = 4, WARPS = COPY_THREADS / 32 };

DEV uint64_t first_of(struct lane *t)
{
    return (uint64_t)dev_block(t, 0) * COPY_THREADS + dev_thread(t);
}

DEV uint64_t stride_of(struct lane *t)
{
    return (uint64_t)dev_blocks(t, 0) * COPY_THREADS;
}

DEV void copy_body(struct lane *t, const struct copy_args *a)
{
    const struct vec128 *from = (const struct vec128 *)a->from;
    struct vec128 *to = (struct vec128 *)a->to;
    uint64_t n = a->bytes / 16, stride = stride_of(t);

    for (uint64_t i = first_of(t); i < n; i += AHEAD * stride) {
        struct vec128 v[AHEAD];
        UNROLL
        for (uint32_t j = 0; j < AHEAD; j++)
            if (i + j * stride < n)
                v[j] = dev_stream128(t, &from[i + j * stride]);
        UNROLL
        for (uint32_t j = 0; j < AHEAD; j++)
            if (i + j * stride < n)
                dev_store128(t, &to[i + j * stride], v[j]);
    }
}

/* Modulo 2^32, through 64 bits: a sum that wraps in 32 is taken for a mistake by sanitizers. */
DEV uint32_t add(uint32_t a, uint32_t b)
{
    return (uint32_t)((uint64_t)a + b);
}

DEV void stream_body(struct lane *t, const struct copy_args *a)
{
    const struct vec128 *from = (const struct vec128 *)a->from;
    uint64_t n = a->bytes / 16, stride = stride_of(t);
    uint32_t *part = (uint32_t *)dev_shared(t), sum = 0;

    for (uint64_t i = first_of(t); i < n; i += AHEAD * stride) {
        UNROLL
        for (uint32_t j = 0; j < AHEAD; j++)
            if (i + j * stride < n) {
                struct vec128 v = dev_stream128(t, &from[i + j * stride]);
                sum = add(add(sum, add(v.w[0], v.w[1])), add(v.w[2], v.w[3]));
            }
    }
    for (uint32_t step = 16; step; step /= 2)
        sum = add(sum, dev_shuffle(t, sum, dev_lane(t) ^ step, 32));
    if (!dev_lane(t))
        part[dev_warp(t)] = sum;
    dev_barrier(t);
    if (dev_thread(t))
        return;
    for (uint32_t w = 1; w < WARPS; w++)
        sum = add(sum, part[w]);
    dev_store32(t, (uint32_t *)a->to + dev_block(t, 0), sum);
}

KERNEL(copy_kernel, COPY_THREADS, struct copy_args, copy_body(t, a))
KERNEL(stream_kernel, COPY_THREADS, struct copy_args, stream_body(t, a))

LAUNCHER(copy)
{
    const struct copy_args *a = (const struct copy_args *)args;
    struct shape s = {{a->blocks, 1, 1}, COPY_THREADS, 0};

    return LAUNCH(copy_kernel, s, a);
}

LAUNCHER(stream)
{
    const struct copy_args *a = (const struct copy_args *)args;
    struct shape s = {{a->blocks, 1, 1}, COPY_THREADS, 4 * WARPS};

    return LAUNCH(stream_kernel, s, a);
}
