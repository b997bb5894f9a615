/* Rows, counts and costs that retention schemes share. */
#include "planner/cache/keep.h"

const char *const keep_layouts[] = {"query_head", "kv_head", NULL};

uint64_t keep_floor(double x)
{
    return x > 0 ? (uint64_t)x : 0;
}

uint64_t keep_ceil(double x)
{
    uint64_t t = keep_floor(x);
    return t + ((double)t < x);
}

uint64_t keep_round_even(double x)
{
    uint64_t t = keep_floor(x);
    double rest = x - (double)t;

    if (rest > 0.5 || (rest == 0.5 && t % 2))
        t++;
    return t;
}

uint64_t keep_ratio_tokens(uint64_t n, double compression_ratio)
{
    return keep_floor((double)n * (1 - compression_ratio));
}

uint64_t keep_cap_prompt(const struct keep *k, uint64_t n)
{
    return u64_min(n, k->fixed);
}

uint64_t keep_cap_decode(const struct keep *k, uint64_t n, uint64_t decoded)
{
    return u64_min(n + decoded, k->fixed);
}

uint64_t keep_cap_peak(const struct keep *k, uint64_t n, uint64_t decoded)
{
    return u64_min(n + decoded, k->fixed + (decoded != 0));
}

uint64_t keep_ratio_prompt(const struct keep *k, uint64_t n)
{
    return keep_ratio_tokens(n, k->ratio);
}

struct keep keep_press(const struct scheme_use *use, double compression_ratio)
{
    return (struct keep){
        .prompt = keep_ratio_prompt,
        .when = KEEP_IN_LAYER,
        .params = use->params,
        .ratio = compression_ratio,
    };
}

/* All layers that keep latents in one message: "layers 1-61". */
static bool refuse_latents(const struct scheme_use *use, const struct layout *lay,
                           struct diag *d)
{
    uint32_t first = UINT32_MAX, last = 0, n = 0;

    for (uint32_t i = 0; i < lay->n_rows; i++) {
        const struct cache_row *r = &lay->rows[i];
        if (r->stream != STREAM_LATENT || !r->readers)
            continue;
        first = first == UINT32_MAX ? r->layer : first;
        last = r->layer;
        n++;
    }
    if (!n)
        return true;
    return diag_add(
        d, DIAG_INPUT, use->at,
        "%s ranks the keys of K/V heads; %u layers (%u to %u) keep a latent, which has none",
        use->name, n, first + 1, last + 1);
}

bool keep_owners(const struct scheme_use *use, struct layout *lay, unsigned needs,
                 struct diag *d, struct owners *out)
{
    uint32_t last = UINT32_MAX, n_layers = 0;

    *out = (struct owners){0, ARENA_NEW(lay->arena, uint32_t, lay->n_rows ? lay->n_rows : 1)};
    if ((needs & NEEDS_HEADS) && !refuse_latents(use, lay, d))
        return false;
    for (uint32_t i = 0; i < lay->n_rows; i++) {
        struct cache_row *r = &lay->rows[i];
        if (!r->readers || r->stream == STREAM_STATE)
            continue;
        n_layers += r->layer != last;
        last = r->layer;
        r->keep.index = n_layers - 1;
        out->rows[out->n++] = i;
    }
    if (!out->n)
        return diag_add(d, DIAG_INPUT, use->at,
                        "%s drops cached tokens, but no layer of this model has attention",
                        use->name);
    for (uint32_t i = 0; i < out->n; i++)
        lay->rows[out->rows[i]].keep.count = n_layers;
    return true;
}

void keep_set(const struct scheme_use *use, struct layout *lay, const struct owners *o,
              struct keep rule)
{
    for (uint32_t i = 0; i < o->n; i++) {
        struct keep *k = &lay->rows[o->rows[i]].keep;
        rule.index = k->index;
        rule.count = k->count;
        *k = rule;
    }
    lay->retention = use->name;
    lay->at = use->at;
}

void keep_query_heads(const struct scheme_use *use, struct layout *lay, const struct owners *o,
                      uint64_t tokens, struct diag *d)
{
    uint32_t most = 1, heads = 0;

    for (uint32_t i = 0; i < o->n; i++) {
        struct cache_row *r = &lay->rows[o->rows[i]];
        if (r->stream != STREAM_KV || r->q_heads <= r->kv_heads)
            continue;
        r->stored_heads = r->q_heads;
        if (r->q_heads / r->kv_heads > most) {
            most = r->q_heads / r->kv_heads;
            heads = r->kv_heads;
        }
    }
    if (most == 1)
        return;
    if (tokens)
        diag_add(
            d, DIAG_WARN, use->at,
            "%s stores query heads, as its release does: %u times the rows of %u K/V heads, so "
            "it saves nothing up to %llu tokens; layout: kv_head does",
            use->name, most, heads, (unsigned long long)(most * tokens));
    else
        diag_add(
            d, DIAG_WARN, use->at,
            "%s stores query heads, as its release does: %u times the rows of %u K/V heads; "
            "layout: kv_head does not",
            use->name, most, heads);
}

uint32_t keep_next(const struct scheme_use *use, const struct layout *lay, uint32_t i)
{
    while (i < lay->n_rows &&
           (lay->rows[i].keep.params != use->params || !lay->rows[i].readers))
        i++;
    return i;
}

void keep_window_scores(const struct scheme_use *use, const struct layout *lay,
                        const struct phase *ph, uint64_t window, struct extra_cost *out)
{
    uint64_t most = 0, n = ph->prompt;
    struct ck ck = {0};

    for (uint32_t i = keep_next(use, lay, 0); i < lay->n_rows; i = keep_next(use, lay, i + 1)) {
        const struct cache_row *r = &lay->rows[i];
        uint64_t seen = row_unpruned_tokens(r, n);
        if (row_stored_tokens(r, n, 0) >= seen)
            continue; /* nothing to choose */
        out->prefill_flop += 2.0 * r->q_heads * (double)window * (double)seen * r->k_dim;
        most = u64_max(most, ck_prod(&ck, r->q_heads, window, seen, 4));
    }
    out->transient_prefill_bytes = ck_add(&ck, out->transient_prefill_bytes, most);
}
