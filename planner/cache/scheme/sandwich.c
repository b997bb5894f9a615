/* sandwich - kv_layers - 1 layers keep their own K/V, half at the bottom (the odd one too)
 * and half at the top; the block between shares the K/V of its bottom, middle or top layer.
 * sandwich-top is LCKV with warmup = kv_layers - 1. */
#include "planner/cache/map.h"

struct params {
    uint64_t kv_layers;
    struct upward up;
};

static const struct field fields[] = {
    FIELD_REQUIRED(struct params, kv_layers, "kv_layers", F_U64, 1, 4096,
                   "layers that own K/V, the shared one included"),
    UPWARD_FIELDS(struct params),
};

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct attention_map m;

    if (!map_begin(use, lay, d, &m) || !map_check_layers(use, &m, p->kv_layers, d))
        return false;
    uint32_t own = (uint32_t)p->kv_layers - 1;
    uint32_t first = own / 2 + own % 2, last = m.n - 1 - own / 2;
    uint32_t target = map_target_of(map_target(use->name), first, last);
    for (uint32_t k = first; k <= last; k++)
        m.to[k] = target;
    return map_apply(use, &m, &p->up, lay, d);
}

static const char *const names[] = {"sandwich-bottom", "sandwich-middle", "sandwich-top", NULL};

const struct scheme scheme_sandwich = {
    .names = names,
    .summary = "own K/V at both ends, one shared block between",
    .source = "arXiv:2410.14442 (NAACL 2025); whyNLP/LCKV@dd21716 configs",
    .axis = AXIS_SHARING,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .confidence = "secondary",
    .compare = "{kv_layers: 3}",
};
