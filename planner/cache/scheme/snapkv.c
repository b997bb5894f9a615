/* snapkv - the prompt tokens that the last `window` queries look at most, and that window;
 * every layer keeps the same number. Acts once, inside each layer's prefill; generated
 * tokens are never dropped. The release stores query heads. */
#include "planner/cache/keep.h"

struct params {
    uint64_t capacity, window, layout;
    double compression_ratio;
};

static const struct field fields[] = {
    FIELD(struct params, capacity, "capacity", F_TOKENS, 1, KEEP_TOKENS_MAX, "2048",
          "tokens a head keeps, window included"),
    FIELD(struct params, window, "window", F_TOKENS, 1, KEEP_TOKENS_MAX, "32",
          "last queries that score"),
    KEEP_LAYOUT_FIELD(struct params, "query_head"),
    KEEP_RATIO_FIELD(struct params),
};

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct owners o;

    if (p->window >= p->capacity)
        return diag_add(d, DIAG_INPUT, use->at,
                        "snapkv: a window of %llu leaves nothing of a capacity of %llu",
                        (unsigned long long)p->window, (unsigned long long)p->capacity);
    if (!keep_owners(use, lay, NEEDS_HEADS, d, &o))
        return false;
    if (p->compression_ratio > 0) {
        keep_set(use, lay, &o, keep_press(use, p->compression_ratio));
        return true;
    }
    keep_set(use, lay, &o,
             (struct keep){.prompt = keep_cap_prompt,
                           .when = KEEP_IN_LAYER,
                           .params = p,
                           .fixed = p->capacity});
    if (p->layout == LAYOUT_QUERY_HEAD)
        keep_query_heads(use, lay, &o, p->capacity, d);
    return true;
}

static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    const struct params *p = use->params;
    keep_window_scores(use, lay, ph, p->window, out);
}

static const char *const names[] = {"snapkv", NULL};

const struct scheme scheme_snapkv = {
    .names = names,
    .summary = "the prompt tokens the last queries look at, the same number in every layer",
    .source = "arXiv:2404.14469; FasterDecoding/SnapKV@e216ddc snapkv_utils.py",
    .axis = AXIS_RETENTION,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .extra = extra,
    .confidence = "primary",
    .compare = "{capacity: 2048}",
};
