/* ideal - an engine without overheads: everything a program can see, less the weights, is
 * cache. It is the bound that real engines approach, and the exact arithmetic the other engines
 * build on. */
#include "planner/engine/engine.h"

static bool ideal_budget(const struct engine_in *in, struct budget *out, struct diag *d)
{
    double fraction = in->set->memory_fraction > 0 ? in->set->memory_fraction : 1;

    (void)d;
    *out = (struct budget){
        .total_bytes = in->total_bytes,
        .usable_bytes = in->visible_bytes,
        .weights_bytes = in->work->weights_bytes,
        /* offloaded layers stream through a buffer of the largest of them */
        .workspace_bytes = in->work->largest_layer_bytes,
    };
    if (fraction < 1)
        out->usable_bytes = (uint64_t)((double)in->visible_bytes * fraction);
    budget_close(out);
    return true;
}

static double ideal_step_overhead(const struct engine_settings *set, struct parallel p,
                                  const char **source)
{
    (void)set;
    (void)p;
    *source = "by definition";
    return 0;
}

const struct engine engine_ideal = {
    .name = "ideal",
    .summary = "no overheads: visible memory less weights is cache, allocated to the token",
    .source = "by definition",
    .block_tokens = 1,
    .budget = ideal_budget,
    .step_overhead = ideal_step_overhead,
};
