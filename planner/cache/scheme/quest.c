/* quest - drops nothing. Pages of tokens carry the smallest and largest key of each channel,
 * and a decode step reads only the pages that may matter. Memory rises by one token's row a
 * page; bandwidth falls. */
#include "planner/cache/keep.h"

struct params {
    uint64_t page, budget, dense_layers, layout;
};

static const struct field fields[] = {
    FIELD(struct params, page, "page", F_TOKENS, 1, KEEP_TOKENS_MAX, "16", "tokens of a page"),
    FIELD(struct params, budget, "budget", F_TOKENS, 1, KEEP_TOKENS_MAX, "2048",
          "tokens a step reads, in whole pages (the release leaves it to the caller)"),
    FIELD(struct params, dense_layers, "dense_layers", F_U64, 0, 4096, "2",
          "first layers that read everything"),
    KEEP_LAYOUT_FIELD(struct params, "query_head"),
};

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    uint32_t seen = 0;
    struct owners o;

    if (p->budget < p->page)
        return diag_add(d, DIAG_INPUT, use->at,
                        "quest: a budget of %llu is less than a page of %llu",
                        (unsigned long long)p->budget, (unsigned long long)p->page);
    if (!keep_owners(use, lay, NEEDS_HEADS, d, &o))
        return false;
    keep_set(use, lay, &o, (struct keep){.params = p});
    for (uint32_t i = 0; i < lay->n_rows; i++) {
        if (lay->rows[i].stream != STREAM_KV)
            continue;
        if (seen++ < p->dense_layers)
            continue;
        lay->rows[i].select_tokens = p->budget / p->page * p->page;
        lay->rows[i].select_page_tokens = p->page;
    }
    if (p->layout == LAYOUT_QUERY_HEAD)
        keep_query_heads(use, lay, &o, 0, d);
    return true;
}

/* The smallest and largest key of that many pages. */
static uint64_t bounds_bytes(const struct cache_row *r, uint64_t pages, struct ck *ck)
{
    return ck_prod(ck, pages, r->stored_heads, r->k_dim, 2 * (uint64_t)r->k_format.full_bytes);
}

/* Metadata rows: one a page, themselves in pages. source: mit-han-lab/Quest@01c1623
 * quest/utils/controller.py */
static uint64_t metadata_bytes(const struct params *p, const struct cache_row *r,
                               uint64_t tokens, struct ck *ck)
{
    uint64_t pages = ck_ceil_div(tokens, p->page);

    return bounds_bytes(r, ck_mul(ck, ck_ceil_div(pages, p->page), p->page), ck);
}

/* A step brings the bounds of the newest page up to date. */
static void add_store(const struct params *p, const struct cache_row *r, const struct phase *ph,
                      struct extra_cost *out, struct ck *ck)
{
    uint64_t tokens = row_stored_tokens(r, ph->prompt, ph->decoded);

    out->persistent_bytes = ck_add(ck, out->persistent_bytes, metadata_bytes(p, r, tokens, ck));
    out->decode_write_bytes = ck_add(ck, out->decode_write_bytes, bounds_bytes(r, 1, ck));
}

/* Every query head against both bounds of every page but the newest, which is read anyway;
 * nothing where all pages are. source: mit-han-lab/Quest@01c1623 controller.py,
 * need_estimate */
static void add_estimate(const struct params *p, const struct cache_row *r,
                         const struct cache_row *source, const struct phase *ph,
                         struct extra_cost *out, struct ck *ck)
{
    uint64_t keys =
        row_stored_tokens(source, ph->prompt, ph->decoded) + (r->diagonal_masked ? 0 : 1);
    uint64_t pages = ck_ceil_div(keys, p->page);

    if (pages <= r->select_tokens / p->page)
        return;
    out->decode_flop += 4.0 * r->q_heads * r->k_dim * (double)(pages - 1);
    out->decode_read_bytes =
        ck_add(ck, out->decode_read_bytes, bounds_bytes(source, pages - 1, ck));
}

static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    const struct params *p = use->params;
    struct ck ck = {0};

    for (uint32_t i = 0; i < lay->n_rows; i++) {
        const struct cache_row *r = &lay->rows[i];
        if (r->stream != STREAM_KV)
            continue;
        if (r->readers)
            add_store(p, r, ph, out, &ck);
        if (r->select_tokens)
            add_estimate(p, r, &lay->rows[r->source], ph, out, &ck);
    }
}

static const char *const names[] = {"quest", NULL};

const struct scheme scheme_quest = {
    .names = names,
    .summary = "drops nothing, reads only the pages that may matter",
    .source = "arXiv:2406.10774; mit-han-lab/Quest@01c1623 controller.py, kv_cache.py",
    .axis = AXIS_RETENTION,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .extra = extra,
    .confidence = "primary",
    .caveat = "Quest saves bandwidth, not memory: the cache grows by one row a page",
    .compare = "{budget: 2048, layout: kv_head}",
};
