/* h2o - heavy hitters by accumulated attention, and the recent tokens. Four implementations
 * go by this name:
 *   drop     h2o_hf real-drop: rolls, stays at heavy + recent
 *   mask     h2o_hf utils_hh: an attention mask, nothing is freed
 *   flexgen  h2o_flexgen: rows allocated once for the prompt's share of heavy hitters
 *   capacity KVCache-Factory's port: the prompt only */
#include "planner/cache/keep.h"

enum mode { MODE_DROP, MODE_MASK, MODE_FLEXGEN };

struct params {
    uint64_t heavy, recent, mode, capacity, window, layout;
    double heavy_ratio, recent_ratio;
    bool hh_all;
};

static const char *const modes[] = {"drop", "mask", "flexgen", NULL};

static const struct field fields[] = {
    FIELD(struct params, heavy, "heavy", F_TOKENS, 0, KEEP_TOKENS_MAX, "1024",
          "heavy hitters a head keeps"),
    FIELD(struct params, recent, "recent", F_TOKENS, 0, KEEP_TOKENS_MAX, "1024",
          "recent tokens a head keeps"),
    FIELD(struct params, heavy_ratio, "heavy_ratio", F_NUMBER, 0, 1, NULL,
          "heavy hitters as a share of the prompt, in place of heavy"),
    FIELD(struct params, recent_ratio, "recent_ratio", F_NUMBER, 0, 1, NULL,
          "recent tokens as a share of the prompt, in place of recent"),
    FIELD_CHOICE(struct params, mode, "mode", modes, "drop",
                 "which implementation: drop frees memory, mask only hides tokens"),
    FIELD(struct params, hh_all, "hh_all", F_BOOL, 0, 0, "false",
          "flexgen: rows for generated tokens too come out of the heavy hitters"),
    FIELD(struct params, capacity, "capacity", F_TOKENS, 0, KEEP_TOKENS_MAX, NULL,
          "KVCache-Factory: tokens a head keeps of the prompt, window included"),
    FIELD(struct params, window, "window", F_TOKENS, 1, KEEP_TOKENS_MAX, "32",
          "KVCache-Factory: recent tokens"),
    KEEP_LAYOUT_FIELD(struct params, "query_head"),
};

/* heavy + recent for a prompt of n, in keep.fixed when they do not depend on it. */
static uint64_t budget(const struct params *p, uint64_t n)
{
    uint64_t heavy = p->heavy_ratio > 0 ? keep_floor(p->heavy_ratio * (double)n) : p->heavy;
    uint64_t recent = p->recent_ratio > 0 ? keep_floor(p->recent_ratio * (double)n) : p->recent;

    return heavy + recent;
}

static uint64_t drop_prompt(const struct keep *k, uint64_t n)
{
    return u64_min(n, budget(k->params, n));
}

static uint64_t drop_decode(const struct keep *k, uint64_t n, uint64_t decoded)
{
    return u64_min(n + decoded, budget(k->params, n));
}

static uint64_t drop_peak(const struct keep *k, uint64_t n, uint64_t decoded)
{
    return u64_min(n + decoded, budget(k->params, n) + (decoded != 0));
}

/* Twice the heavy hitters, or the prompt if that is shorter; then a row a token unless
 * hh_all. */
static uint64_t flexgen_prompt(const struct keep *k, uint64_t n)
{
    const struct params *p = k->params;
    return u64_min(n, 2 * keep_floor((double)n * p->heavy_ratio));
}

static uint64_t flexgen_decode(const struct keep *k, uint64_t n, uint64_t decoded)
{
    const struct params *p = k->params;

    if (p->hh_all)
        return u64_min(n + decoded, 2 * keep_floor((double)n * p->heavy_ratio));
    return flexgen_prompt(k, n) + decoded;
}

/* A step attends over the new row too before one goes. */
static uint64_t flexgen_peak(const struct keep *k, uint64_t n, uint64_t decoded)
{
    const struct params *p = k->params;
    uint64_t after = flexgen_decode(k, n, decoded);

    return p->hh_all && decoded ? u64_min(n + decoded, after + 1) : after;
}

static bool check(const struct scheme_use *use, struct diag *d)
{
    const struct params *p = use->params;

    if (p->mode == MODE_FLEXGEN && p->heavy_ratio <= 0)
        return diag_add(d, DIAG_INPUT, use->at, "h2o: mode flexgen needs heavy_ratio");
    if (p->capacity && (p->mode != MODE_DROP || p->heavy_ratio > 0 || p->recent_ratio > 0))
        return diag_add(d, DIAG_INPUT, use->at,
                        "h2o: capacity is KVCache-Factory's; it has no mode and no ratios");
    if (p->capacity && p->window >= p->capacity)
        return diag_add(d, DIAG_INPUT, use->at,
                        "h2o: a window of %llu leaves nothing of a capacity of %llu",
                        (unsigned long long)p->window, (unsigned long long)p->capacity);
    if (!p->capacity && !budget(p, UINT32_MAX))
        return diag_add(d, DIAG_INPUT, use->at,
                        "h2o: heavy and recent are both 0, nothing would be kept");
    return true;
}

static struct keep rule_of(const struct params *p)
{
    struct keep rule = {.params = p, .when = KEEP_IN_LAYER};

    if (p->capacity) {
        rule.prompt = keep_cap_prompt;
        rule.fixed = p->capacity;
    } else if (p->mode == MODE_FLEXGEN) {
        rule.prompt = flexgen_prompt;
        rule.decode = flexgen_decode;
        rule.peak = flexgen_peak;
    } else if (p->mode == MODE_DROP) {
        rule.prompt = drop_prompt;
        rule.decode = drop_decode;
        rule.peak = drop_peak;
    } else {
        rule.when = KEEP_NEVER;
    }
    return rule;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct owners o;
    bool grouped = false;

    if (!check(use, d) || !keep_owners(use, lay, NEEDS_HEADS, d, &o))
        return false;
    keep_set(use, lay, &o, rule_of(p));
    for (uint32_t i = 0; i < o.n; i++)
        grouped |= lay->rows[o.rows[i]].q_heads != lay->rows[o.rows[i]].kv_heads;
    if (p->capacity && p->layout == LAYOUT_QUERY_HEAD)
        keep_query_heads(use, lay, &o, p->capacity, d);
    else if (grouped && !p->capacity && p->mode == MODE_DROP)
        diag_add(d, DIAG_WARN, use->at,
                 "h2o: the release scores query heads and runs only where each has its own K/V "
                 "head; these figures take one selection a K/V head");
    if (p->mode == MODE_MASK)
        diag_add(
            d, DIAG_WARN, use->at,
            "h2o: mode mask hides tokens and frees none; the cache is as large as without it");
    return true;
}

/* The attention matrix of one layer, fp32 and a 16-bit copy, because every column is summed;
 * KVCache-Factory computes it a second time. Rolling modes keep a 16-bit score a stored row
 * and query head. */
static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    const struct params *p = use->params;
    uint64_t most = 0;
    struct ck ck = {0};

    for (uint32_t i = keep_next(use, lay, 0); i < lay->n_rows; i = keep_next(use, lay, i + 1)) {
        const struct cache_row *r = &lay->rows[i];
        uint64_t n = row_unpruned_tokens(r, ph->prompt);
        uint64_t cells = ck_prod(&ck, r->q_heads, n, n);
        uint64_t kept = row_stored_tokens(r, ph->prompt, ph->decoded);
        out->prefill_flop += (double)cells * (p->capacity ? 2.0 * r->k_dim : 1);
        if (!p->capacity) {
            out->decode_flop += (double)kept * r->q_heads;
            out->persistent_bytes =
                ck_add(&ck, out->persistent_bytes, ck_prod(&ck, kept, r->q_heads, 2));
        }
        most = u64_max(most, ck_mul(&ck, cells, 6));
    }
    out->transient_prefill_bytes = ck_add(&ck, out->transient_prefill_bytes, most);
}

static const char *const names[] = {"h2o", NULL};

const struct scheme scheme_h2o = {
    .names = names,
    .summary = "heavy hitters by accumulated attention, and recent tokens",
    .source = "arXiv:2306.14048; FMInference/H2O@ac75c2a h2o_hf, h2o_flexgen",
    .axis = AXIS_RETENTION,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .extra = extra,
    .confidence = "primary",
    .caveat = "H2O needs the whole attention matrix of a layer in prefill: no FlashAttention",
    .compare = "{heavy: 1024, recent: 1024}",
};
