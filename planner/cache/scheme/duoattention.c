/* duoattention - some K/V heads keep everything, the others only sinks and recent tokens.
 * Which heads is learned; how many, over the whole model, is full_heads: spread over the
 * layers as evenly as can be. */
#include "planner/cache/keep.h"

struct params {
    uint64_t full_heads, sinks, recent;
};

static const struct field fields[] = {
    FIELD(struct params, full_heads, "full_heads", F_U64, 0, 0, NULL,
          "K/V heads of the whole model that keep everything; half of them if not given"),
    FIELD(struct params, sinks, "sinks", F_TOKENS, 0, KEEP_TOKENS_MAX, "128",
          "first tokens of the other heads"),
    FIELD(struct params, recent, "recent", F_TOKENS, 1, KEEP_TOKENS_MAX, "256",
          "last tokens of the other heads"),
};

static bool check(const struct scheme_use *use, const struct layout *lay,
                  const struct owners *o, uint64_t *total, struct diag *d)
{
    const struct params *p = use->params;
    bool ok = true;

    *total = 0;
    for (uint32_t i = 0; i < o->n; i++) {
        const struct cache_row *r = &lay->rows[o->rows[i]];
        *total += r->kv_heads;
        if (r->source != o->rows[i])
            ok = diag_add(
                d, DIAG_INPUT, use->at,
                "duoattention: layer %u keeps a cache that only other layers read; its "
                "heads cannot be told apart",
                r->layer + 1);
    }
    if (p->full_heads > *total)
        ok = diag_add(
            d, DIAG_INPUT, use->at,
            "duoattention: full_heads is %llu, but the layers that own a cache have %llu "
            "K/V heads",
            (unsigned long long)p->full_heads, (unsigned long long)*total);
    return ok;
}

/* The next row at or after `row` that owns a store and has not been split. */
static uint32_t next_owner(const struct layout *lay, uint32_t row)
{
    while (lay->rows[row].stream != STREAM_KV || lay->rows[row].source != row)
        row++;
    return row;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct keep keep_all = {.params = p};
    struct keep streaming = {.prompt = keep_cap_prompt,
                             .decode = keep_cap_decode,
                             .peak = keep_cap_peak, /* a step attends over its own token too */
                             .when = KEEP_IN_LAYER,
                             .params = p,
                             .fixed = p->sinks + p->recent};
    uint64_t total, seen = 0;
    struct owners o;

    if (!keep_owners(use, lay, NEEDS_HEADS, d, &o) || !check(use, lay, &o, &total, d))
        return false;
    uint64_t full = p->full_heads ? p->full_heads : total / 2;
    keep_set(use, lay, &o, keep_all);
    for (uint32_t i = 0, row = 0; i < o.n; i++, row++) {
        row = next_owner(lay, row);
        uint32_t heads = lay->rows[row].kv_heads;
        /* heads of the layers so far, at the model's share: cumulative floors spread evenly */
        uint64_t before = full * seen / total, after = full * (seen + heads) / total;
        uint32_t here = (uint32_t)(after - before);
        seen += heads;
        if (here && here < heads)
            row = layout_split_heads(lay, row, here) + 1;
        if (here == heads)
            continue;
        streaming.index = lay->rows[row].keep.index;
        streaming.count = lay->rows[row].keep.count;
        lay->rows[row].keep = streaming;
    }
    layout_settle(lay);
    return true;
}

/* One byte a head says which kind it is. */
static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    (void)ph;
    for (uint32_t i = keep_next(use, lay, 0); i < lay->n_rows; i = keep_next(use, lay, i + 1))
        out->persistent_bytes += lay->rows[i].kv_heads;
}

static const char *const names[] = {"duoattention", NULL};

const struct scheme scheme_duoattention = {
    .names = names,
    .summary = "some heads keep everything, the others sinks and recent tokens",
    .source = "arXiv:2410.10819; mit-han-lab/duo-attention@fe93c31 static_kv_cache.py",
    .axis = AXIS_RETENTION,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .extra = extra,
    .confidence = "primary",
};
