/* streamingllm - a few first tokens (attention sinks) and the most recent ones, in every
 * layer. The original drops after every forward pass, so the whole prompt is there first.
 * With `capacity` it is KVCache-Factory's port: 4 sinks inside the capacity, the prompt
 * only. */
#include "planner/cache/keep.h"

struct params {
    uint64_t sinks, recent, capacity, layout;
    double compression_ratio;
};

static const struct field fields[] = {
    FIELD(struct params, sinks, "sinks", F_TOKENS, 0, KEEP_TOKENS_MAX, "4",
          "first tokens that stay"),
    FIELD(struct params, recent, "recent", F_TOKENS, 1, KEEP_TOKENS_MAX, "512",
          "last tokens that stay (the example scripts use 2000)"),
    FIELD(struct params, capacity, "capacity", F_TOKENS, 0, KEEP_TOKENS_MAX, NULL,
          "KVCache-Factory: tokens in all, sinks included; generated tokens are never dropped"),
    KEEP_LAYOUT_FIELD(struct params, "query_head"),
    KEEP_RATIO_FIELD(struct params),
};

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    struct owners o;

    if (p->capacity && p->compression_ratio > 0)
        return diag_add(d, DIAG_INPUT, use->at,
                        "streamingllm: give one of capacity and compression_ratio");
    if (!keep_owners(use, lay, p->capacity ? NEEDS_HEADS : NEEDS_TOKENS, d, &o))
        return false;
    struct keep rule = {
        .prompt = keep_cap_prompt,
        .decode = keep_cap_decode,
        .peak = keep_cap_peak,
        .when = KEEP_EVERY_STEP,
        .params = p,
        .fixed = p->sinks + p->recent,
    };
    if (p->compression_ratio > 0) {
        rule = keep_press(use, p->compression_ratio);
    } else if (p->capacity) {
        rule = (struct keep){.prompt = keep_cap_prompt, .when = KEEP_IN_LAYER, .params = p};
        rule.fixed = p->capacity;
    }
    keep_set(use, lay, &o, rule);
    if (p->capacity && p->layout == LAYOUT_QUERY_HEAD)
        keep_query_heads(use, lay, &o, p->capacity, d);
    return true;
}

/* Keys are cached before RoPE and rotated anew at every step: a read and a copy of K, 3 FLOP
 * an element. */
static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    const struct params *p = use->params;
    struct ck ck = {0};

    if (p->capacity || p->compression_ratio > 0)
        return;
    for (uint32_t i = keep_next(use, lay, 0); i < lay->n_rows; i = keep_next(use, lay, i + 1)) {
        const struct cache_row *r = &lay->rows[i];
        uint64_t tokens = row_stored_tokens(r, ph->prompt, ph->decoded);
        uint32_t dim = r->stream == STREAM_LATENT ? r->rope_dim : r->k_dim;
        uint64_t bytes = ck_prod(&ck, tokens, r->stored_heads, dim, r->k_format.full_bytes);
        out->decode_flop += 3.0 * (double)tokens * r->stored_heads * dim;
        out->decode_read_bytes = ck_add(&ck, out->decode_read_bytes, bytes);
        out->decode_write_bytes = ck_add(&ck, out->decode_write_bytes, bytes);
    }
}

static const char *const names[] = {"streamingllm", NULL};

const struct scheme scheme_streamingllm = {
    .names = names,
    .summary = "attention sinks and a recent window",
    .source = "arXiv:2309.17453; mit-han-lab/streaming-llm@2e50426 kv_cache.py",
    .axis = AXIS_RETENTION,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .extra = extra,
    .confidence = "primary",
    .caveat =
        "what StreamingLLM drops cannot be recalled: retrieval beyond the recent window fails",
    .compare = "{sinks: 4, recent: 2000}",
};
