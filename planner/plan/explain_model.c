/* Explanations of the model's figures, the inputs and the cache of one sequence. */
#include <string.h>

#include "planner/plan/explain_fill.h"

/* --- inputs ------------------------------------------------------------------------------- */

static void from_spec(struct explain *e)
{
    explain_from_spec(e, "as given, or the default");
}

static void block_tokens(struct explain *e)
{
    explain_from_spec(e, "engine.block_tokens, where given");
    explain_from_engine(e);
}

static void gpus(struct explain *e)
{
    const struct parallel p = e->p->parallel;

    explain_put(e, "%u x %u x %u x %u", p.tp, p.pp, p.cp, p.dp);
    explain_from_spec(e, "parallel");
}

/* --- model -------------------------------------------------------------------------------- */

static void parameters(struct explain *e)
{
    for (int part = 0; part < N_PARTS; part++)
        if (e->p->params.by_part[part])
            explain_term(e, "%s [%s]", explain_count(e, e->p->params.by_part[part]),
                         part_name((enum part)part));
    explain_from_model(e);
}

/* Parameters of a tensor that one token does not touch: experts that are not picked. */
static uint64_t idle(const struct tensor *t)
{
    bool gather = t->part == PART_EMBED || t->part == PART_POSITION;

    if (t->tied || gather || t->part == PART_VISION)
        return 0;
    return t->out * t->in * (t->copies - t->active);
}

static void active_parameters(struct explain *e)
{
    const struct problem *p = e->p;
    struct tensor t[LAYER_TENSORS_MAX];
    struct model edited = p->model;
    uint64_t sum = 0, vision = p->params.by_part[PART_VISION];

    edited.layers = p->layout.layers;
    for (uint32_t i = 0; i < edited.n_layers; i++) {
        size_t n = weights_layer(&edited, &edited.layers[i], p->owns_kv[i], t);
        for (size_t k = 0; k < n; k++)
            sum = ck_add(&e->ck, sum, idle(&t[k]));
    }
    explain_put(e, "%s", explain_count(e, p->params.total));
    if (sum)
        explain_put(e, " - %s [experts that a token does not pick]", explain_count(e, sum));
    if (vision)
        explain_put(e, " - %s [vision]", explain_count(e, vision));
    explain_from_model(e);
}

static void weights_bytes(struct explain *e)
{
    const struct problem *p = e->p;

    explain_from_model(e);
    if (p->model.weights_bytes) {
        e->formula = "the size of all weights, as the model's description gives it";
        explain_put(e, "%s", explain_count(e, p->model.weights_bytes));
        return;
    }
    explain_put_weights(e, &(struct explain_rank){.tp = 1,
                                                  .ep = 1,
                                                  .last = p->model.n_layers,
                                                  .first_stage = true,
                                                  .last_stage = true});
    if (p->gemm_format)
        explain_source(e, "weight format %s: %s", p->gemm_format->name, p->gemm_format->source);
}

/* --- the cache ---------------------------------------------------------------------------- */

static void kv_layers(struct explain *e)
{
    const struct layout *l = &e->p->layout;
    uint32_t attention = layout_attention_layers(l);

    explain_put(e, "%u [layers] - %u [without attention] - %u [whose K/V no layer reads]",
                l->n_layers, l->n_layers - attention, attention - layout_kv_layers(l));
    explain_from_model(e);
    explain_from_schemes(e);
}

static void from_model(struct explain *e)
{
    explain_from_model(e);
}

static void from_layout(struct explain *e)
{
    explain_from_model(e);
    explain_from_schemes(e);
}

/* Bytes of tokens in rows without scales, residuals and narrowed keys are a product. */
static bool is_plain(const struct format *f)
{
    return f->block_elems == 1 && !f->head_bytes && !f->token_bytes && !f->token_group &&
           f->residual == RESIDUAL_NONE;
}

static bool is_product(const struct cache_row *r)
{
    return !r->k_narrow_dim && is_plain(&r->k_format) &&
           (!r->v_dim ||
            (is_plain(&r->v_format) && r->v_format.block_bytes == r->k_format.block_bytes));
}

static const char *stored_as(struct explain *e, const struct cache_row *r)
{
    if (!r->v_dim)
        return arena_printf(e->a, "%u elements in %s", r->k_dim, r->k_format.name);
    return arena_printf(e->a, "%u heads, K of %u in %s, V of %u in %s", r->stored_heads,
                        r->k_dim, r->k_format.name, r->v_dim, r->v_format.name);
}

/* What a layer of this class weighs: "2,048 x 8 x (128 + 128) x 2 [...]", or "1,234 [...]"
 * where bytes are no product. With a residual window whole blocks may weigh less than the
 * tokens in them. */
static const char *store_text(struct explain *e, const struct cache_row *r, uint64_t prompt,
                              uint64_t tokens)
{
    uint64_t block = e->p->block_tokens, placed = tokens, bytes;

    if (block > 1)
        placed = ck_ceil_div(tokens, block) * block;
    if (is_product(r))
        return arena_printf(
            e->a, "%s x %u x (%u + %u) x %u [layers x tokens x heads x elements x bytes]",
            explain_count(e, placed), r->stored_heads, r->k_dim, r->v_dim,
            r->k_format.block_bytes);
    bytes = row_bytes(r, prompt, placed, &e->ck);
    if (r->k_format.residual != RESIDUAL_NONE)
        bytes = u64_max(bytes, row_bytes(r, prompt, tokens, &e->ck));
    return arena_printf(e->a, "%s [layers x bytes of %s tokens: %s]", explain_count(e, bytes),
                        explain_count(e, placed), stored_as(e, r));
}

/* Adds "32 x TEXT" for each text, equal ones together; NULL texts are left out. */
static void put_alike(struct explain *e, const char *const *text, const struct fold *f)
{
    for (uint32_t i = 0; i < f->n_stores; i++) {
        uint32_t count = 0;
        bool seen = !text[i];
        for (uint32_t k = 0; k < f->n_stores && !seen; k++) {
            bool same = text[k] && !strcmp(text[i], text[k]);
            seen = same && k < i;
            count += same ? f->stores[k].count : 0;
        }
        if (!seen)
            explain_term(e, "%u x %s", count, text[i]);
    }
}

static void put_state(struct explain *e)
{
    if (e->p->whole.state_bytes)
        explain_term(e, "%s [states]", explain_count(e, e->p->whole.state_bytes));
    if (!*e->put_in)
        explain_put(e, "0");
}

static const char *token_text(struct explain *e, const struct cache_row *r)
{
    struct store_class one = {*r, 1};
    struct fold single = {.slice = e->p->whole.slice, .stores = &one, .n_stores = 1};

    if (is_product(r))
        return arena_printf(e->a, "%u x (%u + %u) x %u [layers x heads x elements x bytes]",
                            r->stored_heads, r->k_dim, r->v_dim, r->k_format.block_bytes);
    return arena_printf(e->a, "%s [layers x bytes: %s]",
                        explain_count(e, fold_token_bytes(&single, false, &e->ck)),
                        stored_as(e, r));
}

static void put_token(struct explain *e, bool past_windows)
{
    const struct fold *f = &e->p->whole;
    const char **text = ARENA_NEW(e->a, const char *, f->n_stores + 1);

    for (uint32_t i = 0; i < f->n_stores; i++)
        if (!past_windows || !f->stores[i].row.store_window_tokens)
            text[i] = token_text(e, &f->stores[i].row);
    put_alike(e, text, f);
    if (!*e->put_in)
        explain_put(e, "0");
    from_layout(e);
}

static void bytes_per_token(struct explain *e)
{
    put_token(e, false);
}

static void bytes_past_windows(struct explain *e)
{
    put_token(e, true);
}

static bool same_state(const struct cache_row *a, const struct cache_row *b)
{
    return a->conv_elems == b->conv_elems && a->state_elems == b->state_elems &&
           a->conv_elem_bytes == b->conv_elem_bytes &&
           a->state_elem_bytes == b->state_elem_bytes;
}

static void state_bytes(struct explain *e)
{
    const struct layout *l = &e->p->layout;

    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct cache_row *r = &l->rows[i];
        uint32_t alike = 0;
        bool seen = r->stream != STREAM_STATE;
        for (uint32_t k = 0; k < l->n_rows && !seen; k++) {
            bool same = l->rows[k].stream == STREAM_STATE && same_state(r, &l->rows[k]);
            seen = same && k < i;
            alike += same;
        }
        if (!seen)
            explain_term(
                e, "%u x (%s x %u + %s x %u) [layers x (convolution x bytes + state x bytes)]",
                alike, explain_count(e, r->conv_elems), r->conv_elem_bytes,
                explain_count(e, r->state_elems), r->state_elem_bytes);
    }
    if (!*e->put_in)
        explain_put(e, "0");
    from_model(e);
}

static void put_part(struct explain *e, bool values)
{
    const struct workload *w = &e->p->workload;
    uint64_t part[2], batch = e->plan->batch_limit == LIMIT_NONE ? 0 : e->plan->max_batch;

    fold_kv_parts(&e->p->whole, w->prompt, w->output, e->p->block_tokens, &part[0], &part[1],
                  &e->ck);
    explain_put(e, "%s [sequences] x %s [%s of one at its end]", explain_count(e, batch),
                explain_count(e, part[values]), values ? "V" : "K");
    from_layout(e);
}

static void k_bytes(struct explain *e)
{
    put_part(e, false);
}

static void v_bytes(struct explain *e)
{
    put_part(e, true);
}

static void put_resident(struct explain *e, uint64_t decoded)
{
    const struct fold *f = &e->p->whole;
    const char **text = ARENA_NEW(e->a, const char *, f->n_stores + 1);
    uint64_t n = e->p->workload.prompt;

    for (uint32_t i = 0; i < f->n_stores; i++)
        text[i] = store_text(e, &f->stores[i].row, n,
                             row_stored_tokens(&f->stores[i].row, n, decoded));
    put_alike(e, text, f);
    put_state(e);
    from_layout(e);
    explain_from_spec(e, "workload");
}

static void after_prefill(struct explain *e)
{
    put_resident(e, 0);
}

static void final(struct explain *e)
{
    put_resident(e, e->p->workload.output);
}

static void prefill_peak(struct explain *e)
{
    const struct fold *f = &e->p->whole;
    const char **text = ARENA_NEW(e->a, const char *, f->n_stores + 1);
    uint64_t n = e->p->workload.prompt, block = e->p->block_tokens, kept, peak;
    bool in_layer = false;

    for (uint32_t i = 0; i < f->n_stores; i++)
        in_layer |= f->stores[i].row.keep.when == KEEP_IN_LAYER ||
                    f->stores[i].row.keep.copies_in_prefill;
    if (!in_layer) {
        for (uint32_t i = 0; i < f->n_stores; i++)
            text[i] =
                store_text(e, &f->stores[i].row, n, row_unpruned_tokens(&f->stores[i].row, n));
        put_alike(e, text, f);
        put_state(e);
    } else {
        kept = fold_resident_bytes(f, n, 0, block, &e->ck);
        peak = fold_prefill_peak_bytes(f, n, block, &e->ck);
        e->formula =
            "the most while layers are compressed one after the other: what finished layers keep, and "
            "one whole layer in full precision";
        if (peak >= kept)
            explain_put(
                e,
                "%s [kept after prefill] + %s [more while the costliest layer is compressed]",
                explain_count(e, kept), explain_count(e, peak - kept));
        else
            explain_put(e, "%s [at the costliest layer]", explain_count(e, peak));
    }
    from_layout(e);
    explain_from_spec(e, "workload.prompt");
}

static void put_extra(struct explain *e, bool transient)
{
    const struct problem *p = e->p;
    struct phase ph = {p->workload.prompt, p->workload.output};

    for (uint32_t i = 0; i < p->n_uses; i++) {
        struct extra_cost cost = {0};
        uint64_t bytes;
        if (p->uses[i].scheme->extra)
            p->uses[i].scheme->extra(&p->uses[i], &p->layout, &ph, &cost);
        bytes = transient ? cost.transient_prefill_bytes : cost.persistent_bytes;
        if (bytes)
            explain_term(e, "%s [%s]", explain_count(e, bytes), p->uses[i].name);
    }
    if (!*e->put_in)
        explain_put(e, "0");
    explain_from_schemes(e);
}

static void scheme_bytes(struct explain *e)
{
    put_extra(e, false);
}

static void scheme_prefill_bytes(struct explain *e)
{
    put_extra(e, true);
}

/* --- the table ---------------------------------------------------------------------------- */

const struct explain_rule explain_model_rules[] = {
    {"model.parameters", "", "sum over all tensors of rows x columns x copies", parameters},
    {"model.active_parameters", "",
     "parameters one token touches: top_k of the experts, vision apart", active_parameters},
    {"model.weights_bytes", "bytes", "sum over all tensors in the format each is stored in",
     weights_bytes},
    {"inputs.gpus", "", "tp x pp x cp x dp", gpus},
    {"inputs.parallel.tp", "", "tensor parallel degree", from_spec},
    {"inputs.parallel.pp", "", "pipeline stages", from_spec},
    {"inputs.parallel.dp", "", "replicas", from_spec},
    {"inputs.parallel.ep", "", "expert parallel degree", from_spec},
    {"inputs.parallel.cp", "", "context parallel degree", from_spec},
    {"inputs.block_tokens", "tokens", "engine.block_tokens, or what the engine uses",
     block_tokens},
    {"inputs.offload_ratio", "", "cache.offload: share of the cache in host memory", from_spec},
    {"inputs.prompt_tokens", "tokens", "workload.prompt", from_spec},
    {"inputs.output_tokens", "tokens", "workload.output", from_spec},
    {"inputs.shared_prefix_tokens", "tokens", "workload.shared_prefix", from_spec},
    {"inputs.batch", "sequences", "workload.batch", from_spec},
    {"cache.kv_layers", "layers", "layers whose K/V some layer reads", kv_layers},
    {"cache.layer_count", "layers", "layers of the model", from_model},
    {"cache.map", "",
     "for each layer, counted from 1, the layer whose K/V it reads; 0 = no attention",
     from_layout},
    {"cache.bytes_per_token", "bytes",
     "sum over stored streams: heads x (K + V) in their formats", bytes_per_token},
    {"cache.bytes_per_token_past_windows", "bytes",
     "the same without layers that keep only a window", bytes_past_windows},
    {"cache.state_bytes_per_sequence", "bytes",
     "sum over layers with a state: convolution and state proper", state_bytes},
    {"cache.k_bytes", "bytes", "K of all sequences that fit, at their ends", k_bytes},
    {"cache.v_bytes", "bytes", "V of all sequences that fit, at their ends", v_bytes},
    {"cache.sequence.retained_tokens", "tokens",
     "for each layer, tokens of the prompt that the store it reads has kept", from_layout},
    {"cache.sequence.prefill_peak_bytes", "bytes",
     "everything stored before anything is dropped", prefill_peak},
    {"cache.sequence.after_prefill_bytes", "bytes",
     "what the stores hold of the prompt, and the states", after_prefill},
    {"cache.sequence.final_bytes", "bytes",
     "what the stores hold after prompt and output, and the states", final},
    {"cache.sequence.scheme_bytes", "bytes",
     "what the schemes keep besides K/V: scores, masks, page tables", scheme_bytes},
    {"cache.sequence.scheme_prefill_bytes", "bytes",
     "what the schemes need for a moment in prefill", scheme_prefill_bytes},
    {NULL, NULL, NULL, NULL},
};
