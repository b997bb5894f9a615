/* headkv - SnapKV whose budget floats between all heads of the model by fixed importance
 * scores. The scores sum to 1, so the mean a head is known without them: capacity, plus the
 * window on top; rows hold it, marked ragged. */
#include "planner/cache/keep.h"

struct params {
    uint64_t capacity, window, layout;
    double head_beta;
};

static const struct field fields[] = {
    FIELD(struct params, capacity, "capacity", F_TOKENS, 1, KEEP_TOKENS_MAX, "2048",
          "mean tokens a head keeps, without the window (the release leaves it to the caller)"),
    FIELD(struct params, window, "window", F_TOKENS, 0, KEEP_TOKENS_MAX, "32",
          "last tokens, on top of capacity"),
    FIELD(struct params, head_beta, "head_beta", F_NUMBER, 1, 1e6, "1.01",
          "how much of the budget moves between heads: capacity // head_beta"),
    KEEP_LAYOUT_FIELD(struct params, "query_head"),
};

/* source: FYYFU/HeadKV@0862a09 snapkv_utils.py: round(score * pool + C - C // beta) + w,
 * pool = (C // beta) * L * H; with equal scores, which give the mean of any scores that sum
 * to 1. */
static uint64_t mean_prompt(const struct keep *k, uint64_t n)
{
    const struct params *p = k->params;
    double moved = (double)keep_floor((double)p->capacity / p->head_beta);
    double least = (double)p->capacity - moved;

    return u64_min(n, keep_round_even(moved + least) + p->window);
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct owners o;

    if (!keep_owners(use, lay, NEEDS_HEADS, d, &o))
        return false;
    keep_set(use, lay, &o,
             (struct keep){
                 .prompt = mean_prompt, .when = KEEP_IN_LAYER, .params = p, .ragged = true});
    if (p->layout == LAYOUT_QUERY_HEAD)
        keep_query_heads(use, lay, &o, p->capacity + p->window, d);
    return true;
}

static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    const struct params *p = use->params;

    keep_window_scores(use, lay, ph, p->window, out);
    for (uint32_t i = keep_next(use, lay, 0); i < lay->n_rows; i = keep_next(use, lay, i + 1))
        out->persistent_bytes += 8 * (uint64_t)lay->rows[i].stored_heads;
}

static const char *const names[] = {"headkv", NULL};

const struct scheme scheme_headkv = {
    .names = names,
    .summary = "SnapKV with budgets by head importance over the whole model",
    .source = "arXiv:2410.19258; FYYFU/HeadKV@0862a09 snapkv_utils.py",
    .axis = AXIS_RETENTION,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .extra = extra,
    .confidence = "primary",
    .caveat =
        "needs variable-length storage a head; on a uniform paged cache every head costs the "
        "largest",
    .compare = "{capacity: 2048}",
};
