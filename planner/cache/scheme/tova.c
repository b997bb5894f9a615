/* tova - drops the token the newest query looks at least, whenever the cache is full; all
 * heads of a layer drop the same token, so latents can be pruned too. */
#include "planner/cache/keep.h"

struct params {
    uint64_t capacity;
    double compression_ratio;
};

static const struct field fields[] = {
    FIELD(struct params, capacity, "capacity", F_TOKENS, 1, KEEP_TOKENS_MAX, "2048",
          "tokens a layer keeps (the release leaves it to the caller; 2048 is ours)"),
    KEEP_RATIO_FIELD(struct params),
};

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct owners o;

    if (!keep_owners(use, lay, NEEDS_TOKENS, d, &o))
        return false;
    struct keep rule = {
        .prompt = keep_cap_prompt,
        .decode = keep_cap_decode,
        .peak = keep_cap_peak,
        .when = KEEP_IN_LAYER,
        .params = p,
        .fixed = p->capacity,
    };
    keep_set(use, lay, &o,
             p->compression_ratio > 0 ? keep_press(use, p->compression_ratio) : rule);
    return true;
}

/* The last query's row of the attention matrix, fp32. */
static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    keep_window_scores(use, lay, ph, 1, out);
}

static const char *const names[] = {"tova", NULL};

const struct scheme scheme_tova = {
    .names = names,
    .summary = "drops the token the newest query looks at least",
    .source = "arXiv:2401.06104; schwartz-lab-NLP/TOVA@9c7d09b tova_cache.py",
    .axis = AXIS_RETENTION,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .extra = extra,
    .confidence = "primary",
    .caveat = "TOVA's release needs eager attention; only the last query's row is counted here",
    .compare = "{capacity: 2048}",
};
