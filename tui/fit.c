/* A search over ways to divide the model: few enough that each is planned in full. */
#include "tui/fit.h"

#include "planner/base/ck.h"
#include "tui/knobs_in.h"

enum { FIT_TP_MAX = 8, FIT_GPUS_MAX = 65536 };

static bool better(const struct fit *a, const struct fit *b)
{
    if (!b->found || a->gpus != b->gpus)
        return !b->found || a->gpus < b->gpus;
    return a->pp != b->pp ? a->pp < b->pp : a->dp < b->dp;
}

/* Sequences that one replica divided so can hold; 0: none, or it cannot be divided so. */
static uint64_t holds(const struct problem *p, uint32_t tp, uint32_t pp)
{
    struct arena *scratch = arena_new();
    struct parallel par = {tp, pp, 1, 1, 1};
    struct problem other;
    enum limit why;
    uint64_t n = 0;

    if (problem_with(scratch, p, NULL, par, diag_new(scratch), &other))
        n = capacity_max_batch(&other, &other.workload, &why);
    arena_free(scratch);
    return n;
}

static void try(const struct problem *p, uint32_t tp, uint32_t pp, struct fit *best)
{
    uint64_t batch = u64_max(p->workload.batch, 1), each, dp;
    struct fit f = {.found = true, .tp = tp, .pp = pp};

    if (pp > p->model.n_layers || !knob_tp_divides(p, tp) ||
        (best->found && tp * pp > best->gpus))
        return;
    each = holds(p, tp, pp);
    if (!each)
        return;
    dp = batch / each + (batch % each != 0);
    if (dp * tp * pp > FIT_GPUS_MAX)
        return;
    f.dp = (uint32_t)dp;
    f.gpus = f.dp * tp * pp;
    if (better(&f, best))
        *best = f;
}

void fit_least(const struct problem *p, struct fit *out)
{
    static const uint8_t stages[] = {2, 3, 4, 6, 8};
    uint32_t widest = 1;

    *out = (struct fit){0};
    try(p, 1, 1, out);
    for (uint32_t tp = 2; tp <= FIT_TP_MAX && !p->engine->layer_split; tp++) {
        if (knob_tp_divides(p, tp))
            widest = tp;
        try(p, tp, 1, out);
    }
    for (size_t i = 0; i < sizeof stages; i++)
        try(p, widest, stages[i], out);
}

const char *fit_words(struct arena *a, const struct fit *f)
{
    const char *s = arena_printf(a, "%u GPU%s", f->gpus, f->gpus == 1 ? "" : "s");
    const char *by = " as";

    if (f->tp > 1) {
        s = arena_printf(a, "%s%s TP %u", s, by, f->tp);
        by = " x";
    }
    if (f->pp > 1) {
        s = arena_printf(a, "%s%s PP %u", s, by, f->pp);
        by = " x";
    }
    return f->dp > 1 ? arena_printf(a, "%s%s DP %u", s, by, f->dp) : s;
}

bool fit_apply(struct session *s, const struct fit *f, const char **why)
{
    struct arena *a = arena_new();
    bool split = s->problem.engine->layer_split;
    bool plain = f->dp == 1 && (split ? f->tp : f->pp) == 1; /* what the count alone means */
    const struct session_edit e[] = {
        {"parallel.tp", plain || f->tp == 1 ? NULL : arena_printf(a, "%u", f->tp)},
        {"parallel.pp", plain || f->pp == 1 ? NULL : arena_printf(a, "%u", f->pp)},
        {"parallel.dp", f->dp == 1 ? NULL : arena_printf(a, "%u", f->dp)},
        {"parallel.ep", NULL},
        {"parallel.cp", NULL},
        {"hardware.count", arena_printf(a, "%u", f->gpus)},
    };
    bool ok = session_apply(s, e, sizeof e / sizeof *e, why);

    arena_free(a);
    return ok;
}
