/* adakv - SnapKV whose budget floats between the heads of a layer: the layer's total is the
 * same, a head's share depends on the data. So a row holds the exact mean, marked ragged;
 * with `head_counts` (the global top-k counts of one layer's heads) the heads are told apart
 * and exact. */
#include "planner/cache/keep.h"

struct params {
    uint64_t capacity, window, layout;
    double floor_ratio;
    struct u64_list head_counts;
};

static const struct field fields[] = {
    FIELD(struct params, capacity, "capacity", F_TOKENS, 1, KEEP_TOKENS_MAX, "2048",
          "mean tokens a head keeps, window included (the release leaves it to the caller)"),
    FIELD(struct params, window, "window", F_TOKENS, 1, KEEP_TOKENS_MAX, "32",
          "last queries that score; always kept"),
    FIELD(struct params, floor_ratio, "floor_ratio", F_NUMBER, 0, 1, "0.2",
          "share of the budget that every head gets"),
    FIELD(struct params, head_counts, "head_counts", F_U64_LIST, 0, KEEP_TOKENS_MAX, NULL,
          "top-k counts of a layer's heads, if known; they sum to heads * (capacity - window)"),
    KEEP_LAYOUT_FIELD(struct params, "query_head"),
};

static uint64_t mean_prompt(const struct keep *k, uint64_t n)
{
    const struct params *p = k->params;
    return u64_min(n, p->capacity);
}

/* source: FFY0/AdaKV@efe4e2e snapkv_utils.py: round(count * (1 - floor) + int(base * floor))
 * + window */
static uint64_t head_tokens(const struct params *p, uint64_t count)
{
    double base = (double)(p->capacity - p->window);
    double least = (double)keep_floor(base * p->floor_ratio);

    return keep_round_even((double)count * (1 - p->floor_ratio) + least) + p->window;
}

static bool counts_fit(const struct scheme_use *use, const struct layout *lay,
                       const struct owners *o, struct diag *d)
{
    const struct params *p = use->params;
    uint64_t sum = 0, due = p->head_counts.n * (p->capacity - p->window);
    bool ok = true;

    for (size_t i = 0; i < p->head_counts.n; i++)
        sum += p->head_counts.v[i];
    if (sum != due)
        ok = diag_add(
            d, DIAG_INPUT, use->at,
            "adakv: head_counts sum to %llu, not to heads * (capacity - window) = %llu",
            (unsigned long long)sum, (unsigned long long)due);
    for (uint32_t i = 0; i < o->n; i++) {
        const struct cache_row *r = &lay->rows[o->rows[i]];
        if (r->kv_heads != p->head_counts.n || r->stored_heads != r->kv_heads)
            return diag_add(
                d, DIAG_INPUT, use->at,
                "adakv: head_counts has %zu heads, layer %u stores %u (layout: kv_head "
                "takes one a K/V head)",
                p->head_counts.n, r->layer + 1, r->stored_heads);
        if (r->source != o->rows[i])
            return diag_add(
                d, DIAG_INPUT, use->at,
                "adakv: layer %u keeps a cache that only other layers read; its heads "
                "cannot be told apart",
                r->layer + 1);
    }
    return ok;
}

/* One group a head, in every owner. */
static void split(struct layout *lay, uint32_t n_owners, const struct params *p)
{
    for (uint32_t owner = 0; owner < n_owners; owner++) {
        uint32_t seen = 0, row = 0;
        for (;; row++) {
            const struct cache_row *r = &lay->rows[row];
            if (r->stream == STREAM_KV && r->source == row && r->group == 0 && seen++ == owner)
                break;
        }
        for (size_t h = 0; h + 1 < p->head_counts.n; h++) {
            row = layout_split_heads(lay, row, 1);
            lay->rows[row].keep.fixed = head_tokens(p, p->head_counts.v[h]);
            row++;
        }
        lay->rows[row].keep.fixed = head_tokens(p, p->head_counts.v[p->head_counts.n - 1]);
    }
    layout_settle(lay);
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct keep rule = {
        .prompt = mean_prompt, .when = KEEP_IN_LAYER, .params = p, .ragged = true};
    struct owners o;

    if (p->window >= p->capacity)
        return diag_add(d, DIAG_INPUT, use->at,
                        "adakv: a window of %llu leaves nothing of a capacity of %llu",
                        (unsigned long long)p->window, (unsigned long long)p->capacity);
    if (!keep_owners(use, lay, NEEDS_HEADS, d, &o))
        return false;
    if (p->layout == LAYOUT_QUERY_HEAD)
        keep_query_heads(use, lay, &o, p->capacity, d);
    if (p->head_counts.n) {
        if (!counts_fit(use, lay, &o, d))
            return false;
        rule.prompt = keep_cap_prompt;
    }
    keep_set(use, lay, &o, rule);
    if (p->head_counts.n)
        split(lay, o.n, p);
    return true;
}

/* Window scores, and int32 lengths and offsets a head. */
static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    const struct params *p = use->params;

    keep_window_scores(use, lay, ph, p->window, out);
    for (uint32_t i = keep_next(use, lay, 0); i < lay->n_rows; i = keep_next(use, lay, i + 1))
        out->persistent_bytes += 8 * (uint64_t)lay->rows[i].stored_heads;
}

static const char *const names[] = {"adakv", NULL};

const struct scheme scheme_adakv = {
    .names = names,
    .summary = "SnapKV with a budget that floats between the heads of a layer",
    .source = "arXiv:2407.11550; FFY0/AdaKV@efe4e2e snapkv_utils.py",
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
