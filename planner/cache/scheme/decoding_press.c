/* decoding-press - kvpress' press for long decodes: the prompt stays whole, and every
 * `interval` generated tokens the cache is cut back to `target`. A buffer of hidden states
 * feeds the score. */
#include "planner/cache/keep.h"

enum { BUFFERED_STATES = 256 };

struct params {
    uint64_t interval, target;
};

static const struct field fields[] = {
    FIELD(struct params, interval, "interval", F_TOKENS, 1, KEEP_TOKENS_MAX, "512",
          "decode steps between cuts"),
    FIELD(struct params, target, "target", F_TOKENS, 1, KEEP_TOKENS_MAX, "2048",
          "tokens a cut leaves"),
};

/* After the first cut at most `target`, so every later one starts from at most target +
 * interval. */
static uint64_t after_cuts(const struct params *p, uint64_t n, uint64_t cuts)
{
    return cuts ? u64_min(n + cuts * p->interval, p->target) : n;
}

static uint64_t decode(const struct keep *k, uint64_t n, uint64_t decoded)
{
    const struct params *p = k->params;
    return after_cuts(p, n, decoded / p->interval) + decoded % p->interval;
}

static uint64_t peak(const struct keep *k, uint64_t n, uint64_t decoded)
{
    const struct params *p = k->params;
    uint64_t cuts = decoded / p->interval;
    uint64_t most = u64_max(n, decode(k, n, decoded));

    if (cuts)
        most = u64_max(most, n + p->interval);
    if (cuts > 1)
        most = u64_max(most, after_cuts(p, n, cuts - 1) + p->interval);
    return most;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    struct owners o;

    if (!keep_owners(use, lay, NEEDS_HEADS, d, &o))
        return false;
    keep_set(
        use, lay, &o,
        (struct keep){
            .decode = decode, .peak = peak, .when = KEEP_EVERY_STEP, .params = use->params});
    return true;
}

static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    const struct params *p = use->params;

    (void)ph;
    for (uint32_t i = keep_next(use, lay, 0); i < lay->n_rows; i = keep_next(use, lay, i + 1)) {
        const struct cache_row *r = &lay->rows[i];
        out->persistent_bytes += (uint64_t)BUFFERED_STATES * lay->model->hidden * 2;
        out->decode_flop += 2.0 * r->kv_heads * r->k_dim * (double)(p->target + p->interval) /
                            (double)p->interval;
    }
}

static const char *const names[] = {"decoding-press", NULL};

const struct scheme scheme_decoding_press = {
    .names = names,
    .summary = "cuts the cache back every so many generated tokens",
    .source = "NVIDIA/kvpress@8bb29b9 decoding_press.py",
    .axis = AXIS_RETENTION,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .extra = extra,
    .confidence = "primary",
};
