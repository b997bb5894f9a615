/* Preferences of layers: a block a sequence adds up the parts in a fixed order. */
#include "kernels/dev.h"

#include "kernels/prefer.h"

enum { WARPS = PREFER_THREADS / 32 };

struct shared {
    float entropy[WARPS], variance[WARPS];
};

/* x ^ (1 / tau), x not negative. */
DEV float root(float x, float tau)
{
    return x > 0.0f ? dev_exp2(log2f(x) / tau) : 0.0f;
}

DEV void prefer_body(struct lane *t, const struct prefer_args *a)
{
    struct shared *sh = (struct shared *)dev_shared(t);
    const float *parts = a->parts + 2 * (uint64_t)dev_block(t, 0) * a->n;
    float entropy = 0.0f, variance = 0.0f;

    for (uint32_t i = dev_thread(t); i < a->n; i += PREFER_THREADS) {
        entropy += dev_load_float(t, parts + 2 * (uint64_t)i);
        variance += dev_load_float(t, parts + 2 * (uint64_t)i + 1);
        dev_flop(t, 2, 2);
    }
    entropy = dev_sum(t, entropy, 32);
    variance = dev_sum(t, variance, 32);
    if (!dev_lane(t)) {
        sh->entropy[dev_warp(t)] = entropy;
        sh->variance[dev_warp(t)] = variance;
    }
    dev_barrier(t);
    if (dev_thread(t))
        return;
    entropy = variance = 0.0f;
    for (uint32_t w = 0; w < WARPS; w++) {
        entropy += sh->entropy[w];
        variance += sh->variance[w];
    }
    dev_flop(t, 2 * WARPS + 3, 0);
    dev_exps(t, 2);
    dev_store_float(t, a->preferences + dev_block(t, 0),
                    root(entropy, a->tau_entropy) * root(variance, a->tau_variance));
}

KERNEL(prefer_kernel, PREFER_THREADS, struct prefer_args, prefer_body(t, a))

LAUNCHER(prefer)
{
    const struct prefer_args *a = (const struct prefer_args *)args;
    struct shape s = {{a->sequences, 1, 1}, PREFER_THREADS, (uint32_t)sizeof(struct shared)};

    return LAUNCH(prefer_kernel, s, a);
}
