/* lckv - Layer-Condensed KV Cache: every layer but a few warm-up layers reads the K/V of one
 * layer near the top. All layers still attend; only the projections and the cache of the
 * others go. */
#include "planner/cache/map.h"

struct params {
    uint64_t warmup;
    struct upward up;
};

static const struct field fields[] = {
    FIELD(struct params, warmup, "warmup", F_U64, 0, 4096, "2",
          "layers that keep their own K/V, half at the bottom and half at the top"),
    UPWARD_FIELDS(struct params),
};

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct attention_map m;

    if (!map_begin(use, lay, d, &m))
        return false;
    uint64_t half = p->warmup / 2;
    if (2 * half >= m.n)
        return diag_add(
            d, DIAG_INPUT, use->at,
            "lckv: warmup %llu leaves no layer to condense; the model has %u layers with "
            "attention",
            (unsigned long long)p->warmup, m.n);
    if (p->warmup % 2)
        diag_add(d, DIAG_NOTE, use->at, "lckv: warmup %llu keeps %llu layers, half at each end",
                 (unsigned long long)p->warmup, (unsigned long long)(2 * half));
    for (uint32_t k = (uint32_t)half; k < m.n - half; k++)
        m.to[k] = m.n - (uint32_t)half - 1;
    return map_apply(use, &m, &p->up, lay, d);
}

static const char *const names[] = {"lckv", NULL};

const struct scheme scheme_lckv = {
    .names = names,
    .summary = "layer-condensed cache: all layers but the warm-up read one layer near the top",
    .source = "arXiv:2405.10637v2 sec 2.1; whyNLP/LCKV@dd21716 test_latency.py",
    .axis = AXIS_SHARING,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .confidence = "primary",
    .compare = "{warmup: 2}",
};
