/* Hugging Face transformers' generate(): no pool, no pages. One batch runs in step, so all
 * prompts are processed together, and the cache grows by concatenation: a new tensor beside the
 * old one. How much lives twice depends on who still holds the old one: tuples (generate
 * before 4.43): the caller's tuple keeps every layer's old K and V until the step is done, so
 * the whole cache is there twice; dynamic (4.43 and later): the cache object lets go layer by
 * layer, so one tensor is; static (engine.cuda_graphs): allocated once at full length, written
 * in place; quantized (cache.format hf_quantized): every step widens one whole layer. Sliding
 * layers of a dynamic cache keep window - 1 tokens as a view, so the prompt's storage stays
 * until the first decode step; tuples keep everything. source: huggingface/transformers
 * cache_utils.py@004999d; pull requests 30716 and 31421 (generate defaulted to tuples until
 * then), 31292 (logits of the last position only, 4.45). */
#include "planner/engine/engine.h"

enum { CHOICE_ON = 2 };

/* CUDA context with lazily loaded kernels (pytorch issue 107667), and what the allocator rounds
 * a large tensor up to. */
#define CONTEXT_BYTES ((uint64_t)300 << 20)
#define ROUND_BYTES ((uint64_t)2 << 20)

enum cache_kind { CACHE_TUPLES, CACHE_DYNAMIC, CACHE_STATIC };

struct rules {
    enum cache_kind kind;
    bool all_logits; /* of every prompt position, widened to fp32 */
};

/* Without a version the older rules are planned: they need more, and the only measurements
 * there are (arXiv:2405.10637, Table 1) were made under them. */
static struct rules rules_of(const struct engine_settings *set)
{
    uint32_t v = ENGINE_VERSION(4, 42, 0);
    struct rules r;

    if (set->version)
        engine_version(set->version, (struct loc){NULL, 0, 0}, NULL, &v);
    r.kind = v < ENGINE_VERSION(4, 43, 0) ? CACHE_TUPLES : CACHE_DYNAMIC;
    r.all_logits = v < ENGINE_VERSION(4, 45, 0);
    if (set->cuda_graphs == CHOICE_ON)
        r.kind = CACHE_STATIC;
    return r;
}

static bool hf_defaults(const struct engine_host *host, struct engine_settings *set,
                        struct diag *d)
{
    uint32_t v;

    if (!engine_version(set->version, host->at, d, &v))
        return false;
    if (!set->version)
        diag_add(
            d, DIAG_NOTE, host->at,
            "engine.version is not given: transformers before 4.43, whose generate() holds "
            "the whole cache twice while it grows; later versions hold one layer twice");
    if (set->memory_fraction > 0)
        diag_add(d, DIAG_WARN, host->at,
                 "engine.memory_fraction has no effect: transformers reserves no pool");
    return true;
}

/* --- cache ----------------------------------------------------------------------------------
 */

/* K and V after a prompt of n and `decoded` tokens, with no window dropping anything. */
static uint64_t whole_bytes(const struct fold *f, uint64_t n, uint64_t decoded, struct ck *ck)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < f->n_stores; i++) {
        struct cache_row r = f->stores[i].row;
        r.store_window_tokens = 0;
        uint64_t one = row_bytes(&r, n, row_peak_tokens(&r, n, decoded), ck);
        sum = ck_add(ck, sum, ck_mul(ck, f->stores[i].count, one));
    }
    return sum;
}

/* The largest tensor of a layer that is rewritten in a step: K or V. */
static uint64_t tensor_bytes(const struct fold *f, uint64_t n, uint64_t decoded, struct ck *ck)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < f->n_stores; i++) {
        struct cache_row k = f->stores[i].row, v = k;
        uint64_t tokens = row_peak_tokens(&k, n, decoded);
        k.v_dim = 0;
        v.k_dim = 0;
        most =
            u64_max(most, u64_max(row_bytes(&k, n, tokens, ck), row_bytes(&v, n, tokens, ck)));
    }
    return most;
}

/* K and V of the largest layer whose format is not plain, in full precision. */
static uint64_t widened_bytes(const struct fold *f, uint64_t n, uint64_t decoded, struct ck *ck)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < f->n_stores; i++) {
        const struct cache_row *r = &f->stores[i].row;
        uint64_t width = (uint64_t)r->k_dim * r->k_format.full_bytes +
                         (uint64_t)r->v_dim * r->v_format.full_bytes;
        if (r->k_format.residual == RESIDUAL_CYCLE)
            most = u64_max(most,
                           ck_prod(ck, row_peak_tokens(r, n, decoded), r->stored_heads, width));
    }
    return most;
}

/* What a decode step holds at the end of the sequence; `rows` is the cache itself. */
static uint64_t decode_bytes(const struct engine_in *in, enum cache_kind kind, uint64_t n,
                             uint64_t output, uint64_t rows, struct ck *ck)
{
    const struct fold *f = in->fold;
    uint64_t widened = widened_bytes(f, n, output, ck);
    uint64_t room = in->set->max_model_len;

    if (widened)
        return ck_add(ck, rows, widened);
    switch (kind) {
    case CACHE_STATIC: return fold_highest_bytes(f, u64_max(room, n + output), 0, 1, ck);
    case CACHE_DYNAMIC: return ck_add(ck, rows, tensor_bytes(f, n, output, ck));
    case CACHE_TUPLES:
        rows = ck_add(ck, f->state_bytes, whole_bytes(f, n, output, ck));
        return output ? ck_add(ck, rows, whole_bytes(f, n, output - 1, ck)) : rows;
    }
    return rows;
}

/* --- activations ----------------------------------------------------------------------------
 */

/* Live in one layer for a token of the prompt: the stream, its norm and the output, with gate,
 * up and product, or with Q and the heads' output; experts run one after another. Elements. */
static uint64_t layer_elems(const struct engine_in *in, struct ck *ck)
{
    const struct layout *l = in->layout;
    uint64_t most = 0;

    for (uint32_t i = in->fold->slice.first; i < in->fold->slice.last; i++) {
        const struct ffn *f = &l->layers[i].ffn;
        uint64_t wide = u64_max(f->intermediate, f->shared_intermediate);
        if (f->experts)
            wide = u64_max(wide,
                           ck_ceil_div((uint64_t)f->top_k * f->moe_intermediate, f->experts));
        most = u64_max(most, ck_mul(ck, wide, f->gated ? 3 : 2));
    }
    for (uint32_t i = 0; i < in->fold->n_reads; i++) {
        const struct cache_row *r = &in->fold->reads[i].reader;
        most = u64_max(most, (uint64_t)r->q_heads *
                                 ((uint64_t)r->prefill_score_dim + r->prefill_value_dim));
    }
    return ck_add(ck, most, 3 * (uint64_t)l->model->hidden);
}

/* Logits in the model's type and widened. */
static uint64_t logit_bytes(const struct engine_in *in, uint64_t rows, struct ck *ck)
{
    uint64_t wide = engine_activation_elem_bytes(in) + sizeof(float);

    return in->last_stage ? ck_prod(ck, in->layout->model->vocab, rows, wide) : 0;
}

static void hf_need(const struct engine_in *in, uint64_t prompt, uint64_t output,
                    struct engine_need *need, struct ck *ck)
{
    struct rules r = rules_of(in->set);
    uint64_t layer = ck_prod(ck, layer_elems(in, ck), prompt, engine_activation_elem_bytes(in));
    uint64_t logits = logit_bytes(in, r.all_logits ? prompt : 1, ck);
    uint64_t cache = ck_add(ck, in->fold->state_bytes, whole_bytes(in->fold, prompt, 0, ck));
    uint64_t decode = decode_bytes(in, r.kind, prompt, output, need->sequence_bytes, ck);
    uint64_t prefill;

    cache = r.kind == CACHE_STATIC ? decode : u64_max(cache, need->prefill_bytes);
    prefill = u64_max(u64_max(layer, logits), widened_bytes(in->fold, prompt, 0, ck));
    prefill = ck_add(ck, cache, prefill);
    decode = ck_add(ck, decode, logit_bytes(in, 1, ck));
    if (in->last_stage) /* scores after the processors */
        decode = ck_add(ck, decode, ck_mul(ck, in->layout->model->vocab, sizeof(float)));
    need->sequence_bytes = need->prefill_bytes = u64_max(prefill, decode);
}

/* --- budget ---------------------------------------------------------------------------------
 */

static bool hf_budget(const struct engine_in *in, struct budget *out, struct diag *d)
{
    uint64_t tensors = 0;

    for (uint32_t i = 0; i < in->fold->n_stores; i++)
        tensors += 2 * (uint64_t)in->fold->stores[i].count;
    *out = (struct budget){
        .total_bytes = in->total_bytes,
        .usable_bytes = in->visible_bytes,
        .weights_bytes = in->work->weights_bytes,
        .non_torch_bytes = CONTEXT_BYTES,
        /* what rounding may cost, and the layers that stream in from the host */
        .workspace_bytes = tensors * ROUND_BYTES + in->work->largest_layer_bytes,
    };
    budget_close(out);
    if (in->last_stage)
        diag_add(
            d, DIAG_NOTE, in->at,
            "transformers has no pool: what the batch needs besides K and V (copies, logits, "
            "activations of all prompts at once) is part of what a sequence needs");
    return true;
}

const struct engine engine_hf = {
    .name = "hf",
    .summary = "transformers generate(): caches that grow by concatenation, one batch in step",
    .source =
        "huggingface/transformers cache_utils.py@004999d, pull requests 30716, 31421, 31292",
    .block_tokens = 1,
    .cache_as_weights = true,
    .defaults = hf_defaults,
    .budget = hf_budget,
    .need = hf_need,
};
