/* lasagna - kv_layers consecutive groups, each sharing the K/V of its bottom, middle or top
 * layer. lasagna-bottom is CLA. Where the groups cannot be equal, three conventions are in
 * use: the short group first (CLA), last (Hunyuan), or sizes spread over the depth (MLKV);
 * the last is the default, because it exists for every number of groups. */
#include "planner/cache/map.h"

enum remainder { REMAINDER_FIRST, REMAINDER_LAST, REMAINDER_SPREAD };

struct params {
    uint64_t kv_layers, remainder;
    struct upward up;
};

static const char *const remainders[] = {"first", "last", "spread", NULL};

static const struct field fields[] = {
    FIELD_REQUIRED(struct params, kv_layers, "kv_layers", F_U64, 1, 4096, "groups of layers"),
    FIELD_CHOICE(struct params, remainder, "remainder", remainders, "spread",
                 "where the short group goes, or unequal sizes spread over the depth"),
    UPWARD_FIELDS(struct params),
};

/* First layer of group k; one past the last layer for k = groups. */
static uint32_t group_first(const struct params *p, uint32_t n, uint32_t k)
{
    uint32_t l = (uint32_t)p->kv_layers, width = n / l + (n % l != 0);
    uint32_t lead = n - (l - 1) * width; /* the short group */

    if (k == 0 || k == l)
        return k ? n : 0;
    if (p->remainder == REMAINDER_SPREAD)
        return map_spread(n, l, k);
    return p->remainder == REMAINDER_FIRST ? lead + (k - 1) * width : k * width;
}

/* One short group exists only if the others leave it at least one layer. */
static bool one_short_group(const struct params *p, uint32_t n)
{
    uint64_t l = p->kv_layers, width = n / l + (n % l != 0);
    return (l - 1) * width < n;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    enum target target = map_target(use->name);
    struct attention_map m;

    if (!map_begin(use, lay, d, &m) || !map_check_layers(use, &m, p->kv_layers, d))
        return false;
    if (p->remainder != REMAINDER_SPREAD && !one_short_group(p, m.n))
        return diag_add(
            d, DIAG_INPUT, use->at,
            "%s: %u layers in %llu groups have no single short group; use remainder: "
            "spread",
            use->name, m.n, (unsigned long long)p->kv_layers);
    for (uint32_t k = 0; k < p->kv_layers; k++) {
        uint32_t first = group_first(p, m.n, k), end = group_first(p, m.n, k + 1);
        for (uint32_t i = first; i < end; i++)
            m.to[i] = map_target_of(target, first, end - 1);
    }
    if (target != TARGET_BOTTOM)
        diag_add(
            d, DIAG_WARN, use->at,
            "%s is the plain rule; the paper also keeps the first layer a K/V layer, in a way "
            "that is not published",
            use->name);
    return map_apply(use, &m, &p->up, lay, d);
}

static const char *const names[] = {"lasagna-bottom", "lasagna-middle", "lasagna-top", NULL};

const struct scheme scheme_lasagna = {
    .names = names,
    .summary = "groups of neighbouring layers, each sharing one layer's K/V",
    .source = "arXiv:2410.14442 (NAACL 2025); whyNLP/LCKV@dd21716 README",
    .axis = AXIS_SHARING,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .confidence = "secondary",
    .compare = "{kv_layers: 2}",
};
