/* kvpress - the scorer presses of NVIDIA's library: each layer keeps int(n * (1 -
 * compression_ratio)) tokens of the prompt a K/V head, whatever the score; generated tokens
 * are never dropped. The scores differ in what they cost. */
#include <string.h>

#include "planner/cache/keep.h"

struct params {
    double compression_ratio;
};

static const struct field fields[] = {
    FIELD(struct params, compression_ratio, "compression_ratio", F_NUMBER, 0, 1, "0.5",
          "share of the prompt that every layer drops"),
};

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct owners o;

    if (p->compression_ratio >= 1)
        return diag_add(d, DIAG_INPUT, use->at, "%s: compression_ratio must be below 1",
                        use->name);
    if (!keep_owners(use, lay, NEEDS_HEADS, d, &o))
        return false;
    keep_set(use, lay, &o, keep_press(use, p->compression_ratio));
    return true;
}

/* FLOP of the scores of one layer (ours, from the definitions), and what they hold for a
 * moment. */
static double score_flop(const char *name, const struct cache_row *r, double n)
{
    double keys = n * r->kv_heads * r->k_dim;

    if (!strcmp(name, "keydiff"))
        return 6 * keys;
    if (!strcmp(name, "expected-attention"))
        return 4.0 * r->q_heads * n * r->k_dim * r->k_dim;
    if (!strcmp(name, "observed-attention"))
        return r->q_heads * n * n;
    return 2 * keys; /* knorm */
}

static uint64_t score_bytes(const char *name, const struct cache_row *r, uint64_t n,
                            struct ck *ck)
{
    if (!strcmp(name, "expected-attention"))
        return ck_prod(ck, r->q_heads, r->k_dim, r->k_dim, 4);
    if (!strcmp(name, "observed-attention"))
        return ck_prod(ck, r->q_heads, n, n, 6);
    return ck_prod(ck, r->kv_heads, n, 4);
}

static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    uint64_t most = 0;
    struct ck ck = {0};

    for (uint32_t i = keep_next(use, lay, 0); i < lay->n_rows; i = keep_next(use, lay, i + 1)) {
        const struct cache_row *r = &lay->rows[i];
        uint64_t n = row_unpruned_tokens(r, ph->prompt);
        if (row_stored_tokens(r, ph->prompt, 0) >= n)
            continue;
        out->prefill_flop += score_flop(use->name, r, (double)n);
        most = u64_max(most, score_bytes(use->name, r, n, &ck));
    }
    out->transient_prefill_bytes = ck_add(&ck, out->transient_prefill_bytes, most);
}

static const char *const names[] = {"knorm", "keydiff", "expected-attention",
                                    "observed-attention", NULL};

const struct scheme scheme_kvpress = {
    .names = names,
    .summary = "the same share of the prompt in every layer, by one of kvpress' scores",
    .source = "NVIDIA/kvpress@8bb29b9 scorer_press.py",
    .axis = AXIS_RETENTION,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .extra = extra,
    .confidence = "primary",
    .compare = "{compression_ratio: 0.75}",
};
