/* pyramidkv - SnapKV with a budget that shrinks with depth. Four published count rules exist
 * and differ:
 *   code     KVCache-Factory since 2024-09-30: integer steps, flat for C <= n < 2(C - w);
 *            its sum is never below the nominal one and often above
 *   paper    the real-valued arithmetic sequence of section 4.2.1, rounded up a layer
 *   kvpress  doubles, budget from compression_ratio, the window inside it, flat where the
 *            pyramid does not fit
 *   adakv    AdaKV's repository: as code, without the flat branch */
#include "planner/cache/keep.h"

enum variant { VARIANT_CODE, VARIANT_PAPER, VARIANT_KVPRESS, VARIANT_ADAKV };

struct params {
    uint64_t capacity, window, beta, variant, layout;
    double compression_ratio;
};

static const char *const variants[] = {"code", "paper", "kvpress", "adakv", NULL};

static const struct field fields[] = {
    FIELD(struct params, capacity, "capacity", F_TOKENS, 1, KEEP_TOKENS_MAX, "2048",
          "nominal tokens a layer and head, window included"),
    FIELD(struct params, window, "window", F_TOKENS, 1, KEEP_TOKENS_MAX, "8",
          "last queries that score; always kept"),
    FIELD(struct params, beta, "beta", F_U64, 1, 100000, "20", "steepness of the pyramid"),
    FIELD_CHOICE(struct params, variant, "variant", variants, "code",
                 "which published count rule"),
    KEEP_LAYOUT_FIELD(struct params, "query_head"),
    FIELD(struct params, compression_ratio, "compression_ratio", F_NUMBER, 0, 1, NULL,
          "kvpress: share of the prompt that is dropped"),
};

/* source: Zefan-Cai/KVCache-Factory@c97f9d7 pyramidkv_utils.py; AdaKV@efe4e2e for the rule
 * without a flat branch. */
static uint64_t code_prompt(const struct keep *k, uint64_t n)
{
    const struct params *p = k->params;
    uint64_t base = p->capacity - p->window;
    uint64_t least = base / p->beta, most = 2 * base - least;

    if (n < p->capacity)
        return n;
    if (k->count < 2 || (n < 2 * base && p->variant == VARIANT_CODE))
        return p->capacity;
    if (most >= n - p->window) {
        most = n - p->window;
        least = 2 * base > most ? 2 * base - most : 0;
    }
    uint64_t step = most > least ? (most - least) / (k->count - 1) : 0;
    return most - k->index * step + p->window;
}

/* source: arXiv:2406.02069 sec 4.2.1: k_top = k_total / (beta m) in the last layer, a
 * straight line up to k_bottom. */
static uint64_t paper_prompt(const struct keep *k, uint64_t n)
{
    const struct params *p = k->params;
    double mean = (double)(p->capacity - p->window);
    double top = mean / (double)p->beta, bottom = 2 * mean - top;
    double step = k->count > 1 ? (bottom - top) / (k->count - 1) : 0;
    double here = k->count > 1 ? bottom - k->index * step : mean;

    return u64_min(n, keep_ceil(here - 1e-9) + p->window);
}

/* source: NVIDIA/kvpress@8bb29b9 pyramidkv_press.py */
static uint64_t kvpress_prompt(const struct keep *k, uint64_t n)
{
    const struct params *p = k->params;
    double tokens = (double)n, window = (double)p->window;
    double flat = tokens * (1 - p->compression_ratio);
    double nominal = window + flat, base = nominal - window;
    double least = base / (double)p->beta, most = base * 2 - least;

    if (most >= tokens - window) {
        most = tokens - window;
        least = base * 2 - most;
    }
    if (!(tokens >= most && most >= least && least >= window) || k->count < 2)
        return keep_round_even(flat);
    return keep_round_even(most - k->index * ((most - least) / (k->count - 1)));
}

static const keep_prompt_fn rules[] = {code_prompt, paper_prompt, kvpress_prompt, code_prompt};

static bool check(const struct scheme_use *use, struct diag *d)
{
    const struct params *p = use->params;
    bool press = p->variant == VARIANT_KVPRESS;

    if (press && p->compression_ratio <= 0)
        return diag_add(d, DIAG_INPUT, use->at,
                        "pyramidkv: variant kvpress needs compression_ratio");
    if (!press && p->compression_ratio > 0)
        return diag_add(d, DIAG_INPUT, use->at,
                        "pyramidkv: compression_ratio belongs to variant kvpress; the others "
                        "take capacity");
    if (!press && p->window >= p->capacity)
        return diag_add(d, DIAG_INPUT, use->at,
                        "pyramidkv: a window of %llu leaves nothing of a capacity of %llu",
                        (unsigned long long)p->window, (unsigned long long)p->capacity);
    return true;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct owners o;

    if (!check(use, d) || !keep_owners(use, lay, NEEDS_HEADS, d, &o))
        return false;
    uint32_t count = lay->rows[o.rows[0]].keep.count;
    if (count == 1)
        diag_add(
            d, DIAG_WARN, use->at,
            "pyramidkv: one layer owns a cache; the official code divides by zero there, so "
            "its budget is the capacity");
    else if (count < layout_attention_layers(lay))
        diag_add(d, DIAG_NOTE, use->at,
                 "pyramidkv: the pyramid runs over the %u layers that own a cache", count);
    keep_set(
        use, lay, &o,
        (struct keep){
            .prompt = rules[p->variant], .when = KEEP_IN_LAYER, .params = p, .by_index = true});
    if (p->layout == LAYOUT_QUERY_HEAD && p->variant != VARIANT_KVPRESS)
        keep_query_heads(use, lay, &o, p->capacity, d);
    return true;
}

static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    const struct params *p = use->params;
    keep_window_scores(use, lay, ph, p->window, out);
}

static const char *const names[] = {"pyramidkv", NULL};

const struct scheme scheme_pyramidkv = {
    .names = names,
    .summary = "SnapKV with budgets that shrink with depth",
    .source = "arXiv:2406.02069; Zefan-Cai/KVCache-Factory@c97f9d7 pyramidkv_utils.py",
    .axis = AXIS_RETENTION,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .extra = extra,
    .confidence = "primary",
    .compare = "{capacity: 2048}",
};
