/* Scores of chunks. A block a sequence: first the largest score, then a warp a chunk. */
#include "kernels/dev.h"

#include "kernels/chunks.h"

enum { WARPS = CHUNKS_WARPS };

#define NONE (-1.0f / 0.0f)

struct shared {
    float most[WARPS];
};

/* The largest score of the sequence; 0 where there is none. */
DEV float largest(struct lane *t, const struct chunks_args *a, const float *scores, uint32_t n)
{
    struct shared *sh = (struct shared *)dev_shared(t);
    float most = NONE;

    for (uint32_t h = 0; h < a->heads; h++)
        for (uint32_t i = dev_thread(t); i < n; i += CHUNKS_THREADS)
            most = fmaxf(most, dev_load_float(t, scores + (uint64_t)h * a->width + i));
    most = dev_max(t, most, 32);
    if (!dev_lane(t))
        sh->most[dev_warp(t)] = most;
    dev_barrier(t);
    for (uint32_t w = 0; w < WARPS; w++)
        most = fmaxf(most, sh->most[w]);
    return n ? most : 0.0f;
}

DEV void chunks_body(struct lane *t, const struct chunks_args *a)
{
    uint64_t first = (uint64_t)dev_block(t, 0) * a->heads * a->width;
    uint32_t n = dev_load32(t, a->count + dev_block(t, 0)), rows = n + a->window;
    float most = largest(t, a, a->scores + first, n);

    for (uint32_t c = dev_warp(t); c < rows / a->chunk + (rows % a->chunk != 0); c += WARPS) {
        uint32_t from = c * a->chunk, left = rows - from,
                 size = left < a->chunk ? left : a->chunk;
        float sum = 0.0f;
        for (uint32_t k = dev_lane(t); k < size * a->heads; k += 32) {
            uint32_t i = from + k % size;
            uint64_t at = first + (uint64_t)(k / size) * a->width + i;
            sum += i < n ? dev_load_float(t, a->scores + at) : most;
            dev_flop(t, 1, 0);
        }
        sum = dev_sum(t, sum, 32) / (float)size;
        if (!dev_lane(t))
            dev_flop(t, 1, 0);
        for (uint32_t k = dev_lane(t); k < size * a->heads; k += 32)
            dev_store_float(
                t, a->out + first + (uint64_t)(k / size) * a->width + from + k % size, sum);
    }
}

KERNEL(chunks_kernel, CHUNKS_THREADS, struct chunks_args, chunks_body(t, a))

LAUNCHER(chunks)
{
    const struct chunks_args *a = (const struct chunks_args *)args;
    struct shape s = {{a->sequences, 1, 1}, CHUNKS_THREADS, (uint32_t)sizeof(struct shared)};

    return LAUNCH(chunks_kernel, s, a);
}
