/* chunkkv - whole chunks of neighbouring tokens stay or go, as kvpress does it. The last
 * chunk may be partial and may stay, so the kept length is a range; the upper end is
 * planned. */
#include "planner/cache/keep.h"

struct params {
    uint64_t chunk;
    double compression_ratio;
};

static const struct field fields[] = {
    FIELD(struct params, chunk, "chunk", F_TOKENS, 1, KEEP_TOKENS_MAX, "20",
          "tokens of a chunk"),
    FIELD(struct params, compression_ratio, "compression_ratio", F_NUMBER, 0, 1, "0.5",
          "share of the chunks that is dropped"),
};

/* source: NVIDIA/kvpress@8bb29b9 chunkkv_press.py: max(1, int(chunks * (1 - ratio)));
 * prompts shorter than a chunk are left to the scorer's own count. */
static uint64_t prompt(const struct keep *k, uint64_t n)
{
    const struct params *p = k->params;

    if (n < p->chunk)
        return keep_ratio_tokens(n, p->compression_ratio);
    uint64_t chunks = keep_ratio_tokens(ck_ceil_div(n, p->chunk), p->compression_ratio);
    return u64_min(n, u64_max(chunks, 1) * p->chunk);
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    struct owners o;

    if (!keep_owners(use, lay, NEEDS_HEADS, d, &o))
        return false;
    keep_set(use, lay, &o,
             (struct keep){.prompt = prompt, .when = KEEP_IN_LAYER, .params = use->params});
    return true;
}

enum { SCORER_WINDOW = 64 }; /* of kvpress' SnapKV scorer */

static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    keep_window_scores(use, lay, ph, SCORER_WINDOW, out);
}

static const char *const names[] = {"chunkkv", NULL};

const struct scheme scheme_chunkkv = {
    .names = names,
    .summary = "keeps or drops whole chunks of tokens",
    .source = "arXiv:2502.00299; NVIDIA/kvpress@8bb29b9 chunkkv_press.py",
    .axis = AXIS_RETENTION,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .extra = extra,
    .confidence = "primary",
    .compare = "{compression_ratio: 0.75}",
};
