/* Explanations of the bands (planner/plan/band.h has the rule). */
#include "planner/plan/explain_fill.h"

#include <string.h>

static void starts(struct explain *e)
{
    if (strcmp(e->p->engine->name, "ideal") != 0)
        explain_source(
            e,
            "profiles/engines/%s.yaml: residuals of measured starts, a public source "
            "on each (tests/data); the figure's own basis is beside it",
            e->p->engine->name);
}

static const char term_low[] = "planned x (1 + least residual of measured starts, widened)";
static const char term_high[] = "planned x (1 + most residual of measured starts, widened)";
static const char pool_low[] =
    "planned + usable memory x least residual, widened; where the engine allocates what was "
    "asked for, planned x (1 + it)";
static const char pool_high[] =
    "planned + usable memory x most residual, widened; where the engine allocates what was "
    "asked for, planned x (1 + it)";
static const char count_low[] =
    "the plan at the low end of the pool's band; where that is not measured, planned x (1 + "
    "least residual, widened)";
static const char count_high[] =
    "the plan at the high end of the pool's band; where that is not measured, planned x (1 + "
    "most residual, widened)";
static const char counted[] = "measured starts that printed the figure";

const struct explain_rule explain_band_rules[] = {
    {"band.measurements", "", "measurements of this engine that stand behind the band", starts},
    {"band.memory.per_gpu.kv_pool_bytes.low", "bytes", pool_low, starts},
    {"band.memory.per_gpu.kv_pool_bytes.high", "bytes", pool_high, starts},
    {"band.memory.per_gpu.*.low", "bytes", term_low, starts},
    {"band.memory.per_gpu.*.high", "bytes", term_high, starts},
    {"band.memory.per_gpu.*.measurements", "", counted, starts},
    {"band.capacity.kv_tokens.low", "tokens", count_low, starts},
    {"band.capacity.kv_tokens.high", "tokens", count_high, starts},
    {"band.capacity.*.low", "sequences", count_low, starts},
    {"band.capacity.*.high", "sequences", count_high, starts},
    {"band.capacity.*.measurements", "", counted, starts},
    {NULL, NULL, NULL, NULL},
};
