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
#include <string.h>

#include "planner/engine/flags/flags.h"

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

/* --- arguments ------------------------------------------------------------------------------
 */

/* What from_pretrained is told of the weights. */
static void put_load(const struct flags_in *in, struct engine_flags *f)
{
    const struct weight_format *asked = in->in->asked;
    const struct parallel p = in->in->parallel;
    const char *dtype = flags_torch_dtype(flags_activation_format(in));
    uint32_t version = ENGINE_VERSION(4, 42, 0);

    if (in->in->set->version)
        (void)engine_version(in->in->set->version, in->in->at, NULL, &version);
    flag_text(f, FLAG_LOAD, "weights.format",
              version < ENGINE_VERSION(4, 56, 0) ? "torch_dtype" : "dtype",
              arena_printf(f->arena, "torch.%s", dtype));
    if (asked && (!strncmp(asked->name, "nf4", 3) || !strcmp(asked->name, "bnb_int8")))
        flag_text(f, FLAG_LOAD, "weights.format", "quantization_config",
                  !strcmp(asked->name, "bnb_int8") ? "BitsAndBytesConfig(load_in_8bit=True)"
                  : !strcmp(asked->name, "nf4_double")
                      ? "BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=\"nf4\", "
                        "bnb_4bit_use_double_quant=True)"
                      : "BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=\"nf4\")");
    else if (asked && !flags_torch_dtype(asked->name))
        flag_note(
            f, "weights.format %s is a property of the checkpoint: load one that was made so",
            asked->name);
    if (p.tp > 1) {
        flag_text(f, FLAG_LOAD, "parallel.tp", "tp_plan", "\"auto\"");
        flag_note(f, "parallel.tp: start it with torchrun --nproc-per-node %u", p.tp);
    } else {
        flag_text(f, FLAG_LOAD, p.pp > 1 ? "parallel.pp" : NULL, "device_map",
                  p.pp > 1 || in->in->work->offloaded_bytes ? "\"auto\"" : "\"cuda\"");
    }
    if (in->in->work->offloaded_bytes)
        flag_text(f, FLAG_LOAD, "weights.offload_layers", "max_memory",
                  arena_printf(f->arena, "{0: %llu, \"cpu\": \"1TB\"}",
                               (unsigned long long)(in->in->work->weights_bytes +
                                                    in->in->work->largest_layer_bytes)));
}

/* The backend's own names for nbits, group and residual of a row. */
static const char *quantized_config(const struct flags_in *in, struct engine_flags *f)
{
    const struct layout *l = in->in->layout;
    const struct cache_row *r = l->rows;
    uint32_t bits, groups;

    for (uint32_t i = 0; i < l->n_rows && r->k_format.residual != RESIDUAL_CYCLE; i++)
        r = &l->rows[i];
    bits = 8 * r->k_format.block_bytes / r->k_format.block_elems;
    groups = r->k_format.head_bytes / 4;
    return arena_printf(f->arena,
                        "{\"backend\": \"%s\", \"nbits\": %u, \"q_group_size\": %u, "
                        "\"residual_length\": %u}",
                        bits == 2 || bits == 4 ? "quanto" : "hqq", bits,
                        groups ? (r->k_dim + groups - 1) / groups : r->k_dim,
                        r->k_format.residual_tokens);
}

/* The cache: growing, of full length, or quantized. */
static void put_cache(const struct flags_in *in, struct engine_flags *f)
{
    const char *v, *k = flags_cache_format(in, &v);
    const char *dtype = k ? flags_torch_dtype(k) : NULL;
    bool follows =
        dtype && !v && !strcmp(dtype, flags_torch_dtype(flags_activation_format(in)));

    if (k && !strcmp(k, "hf_quantized") && !v) {
        flag_text(f, FLAG_GENERATE, "cache.format", "cache_implementation", "\"quantized\"");
        flag_text(f, FLAG_GENERATE, "cache.format", "cache_config", quantized_config(in, f));
    } else if (in->in->set->cuda_graphs == CHOICE_ON) {
        flag_text(f, FLAG_GENERATE, "engine.cuda_graphs", "cache_implementation", "\"static\"");
    }
    if (k && !follows && (v || strcmp(k, "hf_quantized") != 0))
        flag_cannot(f, "cache.format",
                    "transformers stores the cache in the type of the activations or as "
                    "hf_quantized, not as %s",
                    k);
}

/* source: transformers modeling_utils.py from_pretrained, generation/configuration_utils.py. */
static void hf_flags(const struct flags_in *in, struct engine_flags *f)
{
    const struct parallel p = in->in->parallel;

    put_load(in, f);
    put_cache(in, f);
    flag_u64(f, FLAG_GENERATE, "workload.output", "max_new_tokens", in->in->output);
    flag_note(f, "`inputs` holds %llu prompts of %llu tokens",
              (unsigned long long)u64_max(in->sequences, 1),
              (unsigned long long)in->in->prompt);
    if (p.cp > 1 || p.ep > 1)
        flag_cannot(f, p.cp > 1 ? "parallel.cp" : "parallel.ep",
                    "transformers' generate() has no such division");
    flags_replicas(in, "transformers", f);
    flags_check_schemes(in, "transformers", f);
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
    .flags = hf_flags,
};
