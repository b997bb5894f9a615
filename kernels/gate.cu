/* Norms with a gate: a warp a group where groups are small, else a block a group. */
#include "kernels/eight_dev.h"

#include "kernels/gate.h"

enum { WARPS = GATE_THREADS / 32 };

struct span { /* the group of a team of threads */
    uint64_t row;
    uint32_t first, end; /* elements of the row; the thread's own is the first */
    bool live;
};

DEV struct eight gated(struct lane *t, const struct gate_args *a, uint64_t row, uint32_t i,
                       struct eight e)
{
    struct eight g = eight_load(t, a->gate, row * a->gate_stride + i, a->fp16);

    UNROLL
    for (uint32_t j = 0; j < 8; j++)
        e.x[j] *= dev_sigmoid(g.x[j]) * (a->sigmoid ? 1.0f : g.x[j]);
    dev_exps(t, 8);
    dev_flop(t, a->sigmoid ? 8 : 16, 0);
    return e;
}

/* Eight elements as the norm sees them. */
DEV struct eight seen(struct lane *t, const struct gate_args *a, uint64_t row, uint32_t i)
{
    struct eight e = eight_load(t, a->x, row * a->x_stride + i, a->fp16);

    return a->gate && a->before ? gated(t, a, row, i, e) : e;
}

/* Of all threads of the team. */
DEV float team_sum(struct lane *t, float x, uint32_t team)
{
    float *room = (float *)dev_shared(t), sum = 0.0f;

    x = dev_sum(t, x, 32);
    if (team == 32)
        return x;
    if (!dev_lane(t))
        room[dev_warp(t)] = x;
    dev_barrier(t);
    for (uint32_t w = 0; w < WARPS; w++)
        sum += room[w];
    return sum;
}

DEV float factor_of(struct lane *t, const struct gate_args *a, const struct span *s,
                    uint32_t team)
{
    float squares = 0.0f;

    for (uint32_t i = s->first; s->live && i < s->end; i += 8 * team) {
        struct eight e = seen(t, a, s->row, i);
        UNROLL
        for (uint32_t j = 0; j < 8; j++)
            squares = dev_fma(e.x[j], e.x[j], squares);
        dev_flop(t, 16, 0);
    }
    squares = team_sum(t, squares, team);
    return 1.0f / sqrtf(squares / (float)a->group + a->epsilon);
}

DEV void finish(struct lane *t, const struct gate_args *a, const struct span *s, uint32_t i,
                float factor)
{
    struct eight e = seen(t, a, s->row, i);

    if (a->norm) {
        UNROLL
        for (uint32_t j = 0; j < 8; j++)
            e.x[j] *= factor;
        dev_flop(t, 8, 0);
    }
    if (a->weight) {
        struct eight w = eight_load(t, a->weight, i % a->weight_width, a->fp16);
        UNROLL
        for (uint32_t j = 0; j < 8; j++)
            e.x[j] *= w.x[j];
        dev_flop(t, 8, 0);
    }
    if (a->gate && !a->before)
        e = gated(t, a, s->row, i, e);
    dev_flop(t, 0, a->counted ? 16 : 0);
    eight_store(t, a->out, s->row * a->width + i, &e, a->fp16);
}

DEV void body(struct lane *t, const struct gate_args *a, uint32_t team)
{
    uint32_t groups = a->width / a->group, mine = team == 32 ? dev_warp(t) : 0;
    uint64_t group = (uint64_t)dev_block(t, 0) * (GATE_THREADS / team) + mine;
    float factor = 1.0f;
    struct span s;

    s.row = group / groups;
    s.live = s.row < a->rows;
    s.first = (uint32_t)(group % groups) * a->group;
    s.end = s.first + a->group;
    s.first += 8 * (dev_thread(t) % team);
    if (a->norm)
        factor = factor_of(t, a, &s, team);
    for (uint32_t i = s.first; s.live && i < s.end; i += 8 * team)
        finish(t, a, &s, i, factor);
}

KERNEL(gate_warp, GATE_THREADS, struct gate_args, body(t, a, 32))
KERNEL(gate_block, GATE_THREADS, struct gate_args, body(t, a, GATE_THREADS))

LAUNCHER(gate)
{
    const struct gate_args *a = (const struct gate_args *)args;
    uint64_t groups = (uint64_t)a->rows * (a->width / a->group);
    bool small = a->group <= GATE_WARP_GROUP;
    uint64_t blocks = small ? (groups + WARPS - 1) / WARPS : groups;
    struct shape s = {{(uint32_t)blocks, 1, 1}, GATE_THREADS, 4 * WARPS};

    return small ? LAUNCH(gate_warp, s, a) : LAUNCH(gate_block, s, a);
}
