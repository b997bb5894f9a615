/* Seconds from bytes and FLOPs. */
#include "planner/cost/roofline.h"

#include <string.h>

static double longer(double a, double b)
{
    return a > b ? a : b;
}

uint32_t roofline_collectives(const struct model *m, struct parallel p, uint32_t layers,
                              double tokens, struct op_tally *t)
{
    double token_bytes = 2.0 * m->hidden;
    uint32_t messages = 0;

    if (p.tp > 1) {
        t->bytes[OP_COLLECTIVE] +=
            2.0 * layers * tokens * token_bytes * 2.0 * (p.tp - 1) / p.tp;
        messages += 2 * layers;
    }
    if (p.ep > 1) {
        t->bytes[OP_COLLECTIVE] += 2.0 * layers * tokens * token_bytes * (p.ep - 1) / p.ep;
        messages += 2 * layers;
    }
    if (p.cp > 1) {
        t->bytes[OP_COLLECTIVE] += layers * tokens * token_bytes * (p.cp - 1);
        messages += layers;
    }
    if (p.pp > 1) {
        t->bytes[OP_COLLECTIVE] += tokens * token_bytes;
        messages += 1;
    }
    return messages;
}

uint32_t roofline_logits(const struct work *w, const struct model *m, struct parallel p,
                         double sampled, struct op_tally *t)
{
    if (!w->samples || p.tp < 2 || sampled <= 0)
        return 0;
    t->bytes[OP_COLLECTIVE] += sampled * 2.0 * m->vocab * (p.tp - 1) / p.tp;
    return 1;
}

struct op_sides roofline_sides(const struct machine *m, enum op op, double bytes, double flop)
{
    bool attention = op == OP_SCORES || op == OP_VALUES || op == OP_SCHEME ||
                     op == OP_DEQUANT || op == OP_INDEXER;
    double math_s = flop / m->gemm_flop_per_s;

    if (attention)
        return (struct op_sides){bytes / m->cache_bytes_per_s, flop / m->attention_flop_per_s};
    return (struct op_sides){bytes / m->weight_bytes_per_s + ROOFLINE_EXPOSED * math_s, math_s};
}

double roofline_fixed_s(const struct op_tally *t, const struct machine *m, double kernels,
                        uint32_t messages)
{
    double s = kernels * m->kernel_launch_s;

    if (m->peer_bytes_per_s > 0)
        s += t->bytes[OP_COLLECTIVE] / m->peer_bytes_per_s + messages * m->peer_latency_s;
    return s;
}

double roofline_seconds(const struct op_tally *t, const struct machine *m, double kernels,
                        uint32_t messages, double seconds[N_OPS])
{
    double sum = 0;

    memset(seconds, 0, N_OPS * sizeof seconds[0]);
    for (int op = 0; op < N_OPS; op++) {
        struct op_sides o = roofline_sides(m, (enum op)op, t->bytes[op], t->flop[op]);
        if (op != OP_COLLECTIVE && op != OP_LAUNCH)
            seconds[op] = longer(o.memory_s, o.math_s);
    }
    seconds[OP_LAUNCH] = kernels * m->kernel_launch_s;
    if (m->peer_bytes_per_s > 0)
        seconds[OP_COLLECTIVE] =
            t->bytes[OP_COLLECTIVE] / m->peer_bytes_per_s + messages * m->peer_latency_s;
    for (int op = 0; op < N_OPS; op++)
        sum += seconds[op];
    return sum;
}
