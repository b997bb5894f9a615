/* pizza - the first kv_layers - 1 layers keep their own K/V; the rest form one block that
 * shares the K/V of its bottom, middle or top layer. pizza-bottom is what YOCO and Apple's
 * on-device model use. */
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
    uint32_t first = (uint32_t)p->kv_layers - 1;
    uint32_t target = map_target_of(map_target(use->name), first, m.n - 1);
    for (uint32_t k = first; k < m.n; k++)
        m.to[k] = target;
    return map_apply(use, &m, &p->up, lay, d);
}

static const char *const names[] = {"pizza-bottom", "pizza-middle", "pizza-top", NULL};

const struct scheme scheme_pizza = {
    .names = names,
    .summary = "own K/V at the bottom, one shared block above",
    .source = "arXiv:2410.14442 (NAACL 2025); whyNLP/LCKV@dd21716",
    .axis = AXIS_SHARING,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .confidence = "secondary",
    .compare = "{kv_layers: 2}",
};
