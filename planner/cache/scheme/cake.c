/* cake - layer budgets in proportion to how spread and how shifting a layer's attention is;
 * the model's total is fixed. The preferences depend on the data: without them every layer
 * gets the mean; `preferences` gives their proportion. Earlier layers hold more until the
 * last one is done; that transient is not counted. */
#include "planner/cache/keep.h"

struct params {
    uint64_t capacity, window;
    struct u64_list preferences;
};

static const struct field fields[] = {
    FIELD(struct params, capacity, "capacity", F_TOKENS, 1, KEEP_TOKENS_MAX, "1024",
          "mean tokens a layer keeps, window included"),
    FIELD(struct params, window, "window", F_TOKENS, 1, KEEP_TOKENS_MAX, "32",
          "last queries that score; always kept"),
    FIELD(struct params, preferences, "preferences", F_U64_LIST, 0, KEEP_TOKENS_MAX, NULL,
          "preference of each layer, in whole numbers of any scale; equal if not given"),
};

static uint64_t share_of(const struct params *p, uint64_t total, uint64_t sum, size_t i)
{
    return keep_floor((double)p->preferences.v[i] / (double)sum * (double)total);
}

/* The budget of layer k->index: floors of the proportional shares, cut at `limit` tokens;
 * first what was cut off, then what the floors lost, goes to the layers below the limit in
 * equal parts, the rest one each from the bottom. source: antgroup/cakekv@c4675ce
 * cake/utils.py, adjust_budgets (restated). */
static uint64_t budget_of(const struct keep *k, uint64_t total, uint64_t limit)
{
    const struct params *p = k->params;
    uint64_t sum = 0, cut = 0, given = 0, open = 0, open2 = 0, before2 = 0, mine = 0;

    for (size_t i = 0; i < k->count; i++)
        sum += p->preferences.v[i];
    for (size_t i = 0; i < k->count; i++) {
        uint64_t b = share_of(p, total, sum, i);
        cut += b > limit ? b - limit : 0;
        open += b < limit;
    }
    for (size_t i = 0, seen = 0; i < k->count; i++) {
        uint64_t b = u64_min(limit, share_of(p, total, sum, i));
        if (b < limit && open) {
            b += cut / open + (seen < cut % open);
            seen++;
        }
        given += b;
        open2 += b < limit;
        before2 += i < k->index && b < limit;
        mine = i == k->index ? b : mine;
    }
    if (total > given && mine < limit)
        mine += (total - given) / open2 + (before2 < (total - given) % open2);
    return mine;
}

static uint64_t prompt(const struct keep *k, uint64_t n)
{
    const struct params *p = k->params;

    if (n <= p->capacity + p->window)
        return n;
    if (!p->preferences.n)
        return p->capacity;
    return u64_min(n, budget_of(k, (p->capacity - p->window) * k->count, n - p->window) +
                          p->window);
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct owners o;
    uint64_t sum = 0;

    if (p->window >= p->capacity)
        return diag_add(d, DIAG_INPUT, use->at,
                        "cake: a window of %llu leaves nothing of a capacity of %llu",
                        (unsigned long long)p->window, (unsigned long long)p->capacity);
    if (!keep_owners(use, lay, NEEDS_HEADS, d, &o))
        return false;
    uint32_t count = lay->rows[o.rows[0]].keep.count;
    for (size_t i = 0; i < p->preferences.n; i++)
        sum += u64_min(p->preferences.v[i], UINT32_MAX);
    if (p->preferences.n && (p->preferences.n != count || !sum))
        return diag_add(
            d, DIAG_INPUT, use->at,
            "cake: preferences needs one number for each of the %u layers that own a "
            "cache, not all 0",
            count);
    keep_set(use, lay, &o,
             (struct keep){.prompt = prompt,
                           .when = KEEP_IN_LAYER,
                           .params = p,
                           .by_index = p->preferences.n != 0});
    if (!p->preferences.n)
        diag_add(d, DIAG_NOTE, use->at,
                 "cake: layer budgets depend on the data; every layer gets the mean here");
    return true;
}

/* Window scores, entropy and variance of the window's probabilities, one fp32 preference a
 * layer. */
static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    const struct params *p = use->params;

    keep_window_scores(use, lay, ph, p->window, out);
    for (uint32_t i = keep_next(use, lay, 0); i < lay->n_rows; i = keep_next(use, lay, i + 1)) {
        const struct cache_row *r = &lay->rows[i];
        out->prefill_flop +=
            6.0 * r->q_heads * (double)p->window * (double)row_unpruned_tokens(r, ph->prompt);
        out->persistent_bytes += 4;
    }
}

static const char *const names[] = {"cake", NULL};

const struct scheme scheme_cake = {
    .names = names,
    .summary = "layer budgets by how spread and shifting attention is",
    .source = "arXiv:2503.12491; antgroup/cakekv@c4675ce cake/utils.py, cake_cache.py",
    .axis = AXIS_RETENTION,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .extra = extra,
    .confidence = "primary",
    .compare = "{capacity: 2048}",
};
