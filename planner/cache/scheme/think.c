/* think - keeps every token but fewer channels of older keys; the last tokens and all values
 * stay whole. */
#include "planner/cache/keep.h"

struct params {
    double ratio;
    uint64_t recent;
};

static const struct field fields[] = {
    FIELD(struct params, ratio, "ratio", F_NUMBER, 0, 1, "0.4",
          "share of the key channels that is dropped"),
    FIELD(struct params, recent, "recent", F_TOKENS, 0, KEEP_TOKENS_MAX, "32",
          "last prompt tokens that keep every channel; generated tokens do too"),
};

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct owners o;
    bool ok = true;

    if (!keep_owners(use, lay, NEEDS_HEADS, d, &o))
        return false;
    keep_set(use, lay, &o, (struct keep){.when = KEEP_IN_LAYER, .params = p});
    for (uint32_t i = 0; i < o.n; i++) {
        struct cache_row *r = &lay->rows[o.rows[i]];
        uint32_t dropped = (uint32_t)keep_floor((double)r->k_dim * p->ratio);
        if (dropped == r->k_dim)
            ok = diag_add(d, DIAG_INPUT, use->at,
                          "think: a ratio of %g leaves layer %u no key channel", p->ratio,
                          r->layer + 1);
        r->k_narrow_dim = dropped ? r->k_dim - dropped : 0;
        r->k_wide_tokens = p->recent;
    }
    return ok;
}

/* Which channels stay: a byte a channel and head. Channel norms of queries and keys choose
 * them. */
static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    for (uint32_t i = keep_next(use, lay, 0); i < lay->n_rows; i = keep_next(use, lay, i + 1)) {
        const struct cache_row *r = &lay->rows[i];
        out->persistent_bytes += (uint64_t)r->stored_heads * r->k_dim;
        out->prefill_flop +=
            2.0 * r->kv_heads * r->k_dim * (double)row_unpruned_tokens(r, ph->prompt);
    }
}

static const char *const names[] = {"think", NULL};

const struct scheme scheme_think = {
    .names = names,
    .summary = "drops channels of older keys, no tokens",
    .source = "arXiv:2407.21018; SalesforceAIResearch/ThinK@d200577 kv_pruning_utils.py",
    .axis = AXIS_RETENTION,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .extra = extra,
    .confidence = "primary",
};
