/* cla - Cross-Layer Attention: groups of `factor` consecutive layers read the K/V of the
 * group's first layer. A short group stands first in the paper's figure, last in
 * Hunyuan-Large. */
#include "planner/cache/map.h"

enum remainder { REMAINDER_FIRST, REMAINDER_LAST };

struct params {
    uint64_t factor, remainder;
};

static const char *const remainders[] = {"first", "last", NULL};

static const struct field fields[] = {
    FIELD(struct params, factor, "factor", F_U64, 1, 4096, "2", "layers that share one K/V"),
    FIELD_CHOICE(struct params, remainder, "remainder", remainders, "first",
                 "where the short group stands if factor does not divide the layers"),
};

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct attention_map m;

    if (!map_begin(use, lay, d, &m))
        return false;
    uint32_t factor = p->factor < m.n ? (uint32_t)p->factor : m.n;
    uint32_t lead = p->remainder == REMAINDER_FIRST ? m.n % factor : 0;
    for (uint32_t k = 0; k < m.n; k++)
        m.to[k] = k < lead ? 0 : k - (k - lead) % factor;
    return map_apply(use, &m, NULL, lay, d);
}

static const char *const names[] = {"cla", NULL};

const struct scheme scheme_cla = {
    .names = names,
    .summary = "cross-layer attention: neighbouring layers share one K/V",
    .source = "arXiv:2405.12981v1 sec 2 and Figure 2",
    .axis = AXIS_SHARING,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .confidence = "primary",
    .compare = "{factor: 2}",
};
