/* Explanations of a GPU's memory and of what fits. They are about the tightest pipeline
 * stage. */
#include <string.h>

#include "planner/plan/explain_fill.h"

static const struct stage *tightest(const struct explain *e)
{
    return &e->p->stages[e->plan->tightest];
}

static bool is_ideal(const struct explain *e)
{
    return !strcmp(e->p->engine->name, "ideal");
}

/* A term handed in is its own explanation. */
static bool given(struct explain *e, uint64_t v, const char *key)
{
    if (v == UINT64_MAX)
        return false;
    e->formula = "measured, handed in";
    explain_put(e, "%s", explain_count(e, v));
    explain_from_spec(e, key);
    return true;
}

/* --- memory ------------------------------------------------------------------------------- */

static void from_memory(struct explain *e, enum gpu_fact fact)
{
    if (e->p->spec->hardware.memory)
        explain_from_spec(e, "hardware.memory");
    else
        explain_from_gpu(e, fact);
}

static void total(struct explain *e)
{
    explain_put(e, "%s", explain_count(e, e->p->total_bytes));
    from_memory(e, GPU_FACT_MEMORY_TOTAL);
}

static void usable(struct explain *e)
{
    const struct problem *p = e->p;
    uint64_t seen =
        p->spec->hardware.memory ? p->spec->hardware.memory : p->gpu.memory_usable_bytes;
    uint64_t limit = p->spec->hardware.memory_limit;
    double fraction = p->settings.memory_fraction;

    from_memory(e, GPU_FACT_MEMORY_USABLE);
    explain_from_engine(e);
    if (!is_ideal(e)) {
        e->formula = "as the engine accounts it";
        return;
    }
    if (fraction > 0 && fraction < 1)
        explain_put(e, "floor(");
    if (limit)
        explain_put(e, "min(%s, %s [hardware.memory_limit])", explain_count(e, seen),
                    explain_count(e, limit));
    else
        explain_put(e, "%s", explain_count(e, seen));
    if (fraction > 0 && fraction < 1)
        explain_put(e, " x %s [engine.memory_fraction])", explain_real(e, fraction));
}

static uint64_t layer_bytes(struct explain *e, const struct explain_rank *rank, uint32_t layer)
{
    const struct problem *p = e->p;
    const struct layer *l = &p->layout.layers[layer];
    struct tensor t[LAYER_TENSORS_MAX];
    struct shard s = {rank->tp, rank->ep, l->attn.kv_heads ? l->attn.kv_heads : 1};
    size_t n = weights_layer(p->layout.model, l, layout_owns_kv(&p->layout, layer), t);
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        const struct weight_format *f =
            weights_format_of(p->layout.model, &t[i], (int)layer, p->weight_format);
        sum = ck_add(&e->ck, sum, weights_tensor_bytes(&t[i], f, s, &e->ck));
    }
    return sum;
}

/* Terms of equal layers: "31 x 436,224,000 [layers]". */
static void put_layers(struct explain *e, const struct explain_rank *rank)
{
    uint64_t *bytes = ARENA_NEW(e->a, uint64_t, rank->last + 1);
    uint32_t n = 0;

    for (uint32_t i = rank->first; i < rank->last; i++)
        bytes[n++] = layer_bytes(e, rank, i);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t alike = 0;
        bool seen = false;
        for (uint32_t k = 0; k < n; k++) {
            alike += bytes[k] == bytes[i];
            seen |= k < i && bytes[k] == bytes[i];
        }
        if (!seen)
            explain_term(e, "%u x %s [layers x bytes]", alike, explain_count(e, bytes[i]));
    }
}

void explain_put_weights(struct explain *e, const struct explain_rank *rank)
{
    const struct problem *p = e->p;
    struct tensor t[MODEL_TENSORS_MAX];
    size_t n = weights_outside(p->layout.model, t);

    put_layers(e, rank);
    for (size_t i = 0; i < n; i++) {
        struct tensor x = t[i];
        const struct weight_format *f =
            weights_format_of(p->layout.model, &x, -1, p->weight_format);
        bool at_end = x.part == PART_HEAD || x.part == PART_NORM;
        uint64_t bytes;
        if (at_end ? !rank->last_stage : !rank->first_stage)
            continue;
        if (x.part == PART_HEAD && !rank->first_stage)
            x.tied = false; /* the last stage has a table of its own */
        bytes = weights_tensor_bytes(&x, f, (struct shard){rank->tp, rank->ep, 1}, &e->ck);
        if (bytes)
            explain_term(e, "%s [%s]", explain_count(e, bytes), x.name);
    }
    if (!*e->put_in)
        explain_put(e, "0");
}

static void weights(struct explain *e)
{
    const struct problem *p = e->p;
    const struct slice *s = &tightest(e)->fold.slice;
    uint64_t table = p->whole_work.weights_bytes;
    const char *sum;
    struct explain_rank rank = {.tp = p->parallel.tp,
                                .ep = p->parallel.ep,
                                .last = s->last,
                                .first_stage = e->plan->tightest == 0,
                                .last_stage = e->plan->tightest + 1 == p->n_stages};

    rank.first = (uint32_t)u64_min(u64_max(s->first, p->spec->weights.offload_layers), s->last);
    if (given(e, p->spec->given.weights_bytes, "memory.per_gpu.weights_bytes"))
        return;
    explain_put_weights(e, &rank);
    if (p->model.weights_bytes && table) {
        sum = e->put_in;
        e->put_in = "";
        explain_put(e, "floor((%s) x %s [size given] / %s [size by the tensors])", sum,
                    explain_count(e, p->model.weights_bytes), explain_count(e, table));
    }
    explain_from_model(e);
    if (p->gemm_format)
        explain_source(e, "weight format %s: %s", p->gemm_format->name, p->gemm_format->source);
    explain_from_spec(e, "parallel, weights");
    if (!is_ideal(e)) {
        e->statement = true;
        explain_from_engine(e);
    }
}

static void engine_term(struct explain *e, uint64_t v, const char *key)
{
    if (given(e, v, key))
        return;
    explain_from_engine(e);
    if (is_ideal(e))
        explain_put(e, "0");
}

static void activation(struct explain *e)
{
    engine_term(e, e->p->spec->given.activation_bytes, "memory.per_gpu.activation_bytes");
}

static void non_torch(struct explain *e)
{
    engine_term(e, e->p->spec->given.non_torch_bytes, "memory.per_gpu.non_torch_bytes");
}

static void cuda_graph(struct explain *e)
{
    engine_term(e, e->p->spec->given.cuda_graph_bytes, "memory.per_gpu.cuda_graph_bytes");
}

static void workspace(struct explain *e)
{
    uint64_t largest = tightest(e)->work.largest_layer_bytes;

    if (given(e, e->p->spec->given.workspace_bytes, "memory.per_gpu.workspace_bytes"))
        return;
    explain_from_engine(e);
    if (is_ideal(e))
        explain_put(e, "%s [the largest offloaded layer]", explain_count(e, largest));
}

static const char *terms(struct explain *e)
{
    const struct budget *b = &tightest(e)->budget;
    const char *graphs =
        arena_printf(e->a, "%s [graphs] + ", explain_count(e, b->cuda_graph_bytes));

    return arena_printf(
        e->a, "%s [weights] + %s [activations] + %s [outside the framework] + %s%s [workspace]",
        explain_count(e, b->weights_bytes), explain_count(e, b->activation_bytes),
        explain_count(e, b->non_torch_bytes), b->free_graphs ? "" : graphs,
        explain_count(e, b->workspace_bytes));
}

static void kv_pool(struct explain *e)
{
    const struct budget *b = &tightest(e)->budget;

    if (given(e, e->p->spec->given.kv_pool_bytes, "memory.per_gpu.kv_pool_bytes"))
        return;
    explain_from_engine(e);
    if (b->reserved) {
        e->formula = "what the engine allocates at start-up";
        return;
    }
    explain_put(e,
                b->pool_ratio > 0 ? "floor(max(0, %s [usable] - (%s)) x %s)"
                                  : "max(0, %s [usable] - (%s))",
                explain_count(e, b->usable_bytes), terms(e), explain_real(e, b->pool_ratio));
}

static void short_by(struct explain *e)
{
    if (e->p->spec->given.kv_pool_bytes != UINT64_MAX)
        explain_put(e, "0");
    else
        explain_put(e, "max(0, %s - %s [usable])", terms(e),
                    explain_count(e, tightest(e)->budget.usable_bytes));
    explain_from_engine(e);
    e->statement = !is_ideal(e);
}

/* "shared + max(sequence, prefill) + (b - 1) x sequence", what b sequences of a replica
 * need. */
static const char *need_of(struct explain *e, uint64_t batch)
{
    const struct need *n = &e->plan->need;

    return arena_printf(e->a,
                        "%s [shared prefix] + max(%s [a sequence], %s [a prefill]) + %s x %s",
                        explain_count(e, n->shared_bytes), explain_count(e, n->sequence_bytes),
                        explain_count(e, n->prefill_bytes), explain_count(e, batch - 1),
                        explain_count(e, n->sequence_bytes));
}

static void free_bytes(struct explain *e)
{
    uint64_t batch = ck_ceil_div(e->plan->batch, e->p->parallel.dp);

    if (tightest(e)->budget.reserved) {
        e->formula = "usable less everything the engine allocates, the pool included";
        explain_from_engine(e);
        return;
    }
    explain_put(e, "max(0, %s [pool] - (%s))",
                explain_count(e, tightest(e)->budget.kv_pool_bytes), need_of(e, batch));
}

static void host(struct explain *e)
{
    const struct problem *p = e->p;

    for (uint32_t i = 0; i < p->n_stages; i++) {
        struct need n;
        capacity_need(p, &p->stages[i], &p->workload, &n, &e->ck);
        explain_term(
            e,
            "%s x %u [offloaded layers x ranks] + %s x %s [sequences x their share of the cache]",
            explain_count(e, p->stages[i].work.offloaded_bytes),
            p->parallel.tp * p->parallel.dp, explain_count(e, e->plan->batch),
            explain_count(e, n.host_bytes));
    }
    explain_from_spec(e, "cache.offload, weights.offload_layers");
}

/* --- capacity ----------------------------------------------------------------------------- */

/* The stage whose pool has as many blocks as the plan says; NULL = there is no paged pool. */
static const struct stage *paged(const struct explain *e)
{
    const struct problem *p = e->p;

    for (uint32_t i = 0; i < p->n_stages; i++) {
        const struct stage *s = &p->stages[i];
        if (s->pool.block_bytes &&
            s->budget.kv_pool_bytes / s->pool.block_bytes == e->plan->kv_blocks)
            return s;
    }
    return NULL;
}

static bool reserved(struct explain *e)
{
    if (!tightest(e)->budget.reserved)
        return false;
    e->formula = "as the engine allocates it at start-up";
    explain_from_engine(e);
    return true;
}

static uint64_t longest(const struct problem *p)
{
    uint64_t len = p->settings.max_model_len;

    return len ? len : p->workload.prompt + p->workload.output;
}

static void kv_blocks(struct explain *e)
{
    uint64_t token = fold_token_bytes(&tightest(e)->fold, false, &e->ck);
    const struct stage *s = paged(e);

    if (reserved(e))
        return;
    if (s) {
        e->formula = "whole blocks in the pool, each a page in every layer of a group";
        explain_put(e, "floor(%s [pool] / %s [bytes a block])",
                    explain_count(e, s->budget.kv_pool_bytes),
                    explain_count(e, s->pool.block_bytes));
    } else if (token)
        explain_put(e,
                    "floor(%s [pool] / (%s [bytes a token on this GPU] x %s [tokens a block]))",
                    explain_count(e, tightest(e)->budget.kv_pool_bytes),
                    explain_count(e, token), explain_count(e, e->p->block_tokens));
    else
        explain_put(e, "0");
    explain_from_engine(e);
}

static void kv_tokens(struct explain *e)
{
    const struct stage *s = paged(e);
    uint64_t blocks = e->plan->kv_blocks;

    if (reserved(e))
        return;
    explain_from_engine(e);
    if (s &&
        e->plan->kv_tokens == blocks / s->pool.groups * s->pool.min_block_tokens * s->pool.cp) {
        e->formula = "blocks of each group x tokens a block x context parallel ranks";
        explain_put(e, "floor(%s [blocks] / %u [groups]) x %s [tokens a block] x %u",
                    explain_count(e, blocks), s->pool.groups,
                    explain_count(e, s->pool.min_block_tokens), s->pool.cp);
        return;
    }
    if (s) {
        e->formula = "the concurrency x the longest sequence, as this version prints it";
        explain_put(e, "floor(%s [blocks] / %s [blocks a request reserves] x %s [its tokens])",
                    explain_count(e, blocks),
                    explain_count(e, pool_request_blocks(&s->pool, longest(e->p))),
                    explain_count(e, longest(e->p)));
        return;
    }
    explain_put(e, "%s [blocks] x %s [tokens a block] x %u [context parallel ranks]",
                explain_count(e, e->plan->kv_blocks), explain_count(e, e->p->block_tokens),
                e->p->parallel.cp);
}

static void concurrency(struct explain *e)
{
    const struct problem *p = e->p;
    const struct stage *s = paged(e);
    uint64_t len = longest(p), one;

    if (reserved(e))
        return;
    one = fold_resident_bytes(&tightest(e)->fold, len, 0, p->block_tokens, &e->ck);
    if (s && pool_request_blocks(&s->pool, len)) {
        e->formula = "the blocks by those one request of the longest length reserves";
        explain_put(
            e, "%s [blocks] / %s [blocks of %s tokens]", explain_count(e, e->plan->kv_blocks),
            explain_count(e, pool_request_blocks(&s->pool, len)), explain_count(e, len));
    } else if (one)
        explain_put(e, "%s [pool] / %s [a sequence of %s tokens]",
                    explain_count(e, tightest(e)->budget.kv_pool_bytes), explain_count(e, one),
                    explain_count(e, len));
    else
        explain_put(e, "0");
    explain_from_engine(e);
}

static void from_pool(struct explain *e)
{
    from_memory(e, GPU_FACT_MEMORY_USABLE);
    explain_from_model(e);
    explain_from_schemes(e);
    explain_from_spec(e, "workload");
}

static void put_memory_batch(struct explain *e)
{
    const struct need *n = &e->plan->need;

    e->formula =
        "floor((pool - shared prefix - max(sequence, prefill)) / sequence) + 1, at least 0, on each of dp "
        "replicas";
    if (!n->sequence_bytes) {
        explain_put(e, "0 x %u", e->p->parallel.dp);
        return;
    }
    explain_put(
        e,
        "max(0, floor((%s [pool] - %s [shared prefix] - max(%s [a sequence], %s [a prefill])) / %s) + 1) "
        "x %u",
        explain_count(e, tightest(e)->budget.kv_pool_bytes), explain_count(e, n->shared_bytes),
        explain_count(e, n->sequence_bytes), explain_count(e, n->prefill_bytes),
        explain_count(e, n->sequence_bytes), e->p->parallel.dp);
}

static void host_limit(struct explain *e)
{
    const struct problem *p = e->p;
    uint64_t weights_bytes = 0, cache = 0;

    for (uint32_t i = 0; i < p->n_stages; i++) {
        struct need n;
        capacity_need(p, &p->stages[i], &p->workload, &n, &e->ck);
        cache = ck_add(&e->ck, cache, n.host_bytes);
        weights_bytes = ck_add(
            &e->ck, weights_bytes,
            ck_prod(&e->ck, p->stages[i].work.offloaded_bytes, p->parallel.tp, p->parallel.dp));
    }
    e->formula =
        "what the host holds: its memory less offloaded weights, by a sequence's share of the cache";
    explain_put(e,
                "floor(max(0, %s [host memory] - %s [offloaded weights]) / %s [of a sequence])",
                explain_count(e, p->host_bytes), explain_count(e, weights_bytes),
                explain_count(e, cache));
}

static void max_batch(struct explain *e)
{
    const struct problem *p = e->p;

    from_pool(e);
    if (p->engine->reserve) {
        e->formula = "the most sequences the engine can set aside slots for at start-up";
        return;
    }
    switch (e->plan->batch_limit) {
    case LIMIT_MAX_SEQS:
        e->formula =
            "the engine's limit on sequences, on each of dp replicas; memory would hold them";
        explain_put(e, "%s [engine.max_seqs] x %u", explain_count(e, p->settings.max_seqs),
                    p->parallel.dp);
        return;
    case LIMIT_WEIGHTS:
        e->formula = "the weights leave no room";
        explain_put(e, "0");
        return;
    case LIMIT_MODEL_LEN:
        e->formula = "a sequence is longer than engine.max_model_len";
        explain_put(e, "0");
        return;
    case LIMIT_NONE:
        e->formula = "nothing grows with the number of sequences: the largest that is counted";
        explain_put(e, "%s x %u", explain_count(e, CAPACITY_MAX), p->parallel.dp);
        return;
    case LIMIT_HOST_MEMORY: host_limit(e); return;
    case LIMIT_MEMORY:
    case LIMIT_PREFILL_PEAK:
    case LIMIT_BLOCK_ROUNDING: put_memory_batch(e); return;
    }
}

static void one_more(struct explain *e)
{
    const struct budget *b = &tightest(e)->budget;
    enum limit why = e->plan->batch_limit;
    bool memory = why == LIMIT_MEMORY || why == LIMIT_PREFILL_PEAK ||
                  why == LIMIT_BLOCK_ROUNDING || why == LIMIT_WEIGHTS;

    from_pool(e);
    if (e->p->engine->reserve)
        e->formula = "what one slot more needs beyond the memory there is";
    else if (b->short_bytes)
        explain_put(e, "max(0, %s + %s [missing for the weights] - %s [pool])", need_of(e, 1),
                    explain_count(e, b->short_bytes), explain_count(e, b->kv_pool_bytes));
    else if (memory)
        explain_put(e, "max(0, %s - %s [pool])",
                    need_of(e, e->plan->max_batch / e->p->parallel.dp + 1),
                    explain_count(e, b->kv_pool_bytes));
    else
        explain_put(e, "0 [memory is not what limits]");
}

/* What a replica's sequences of that context need on the tightest stage. */
static uint64_t needed(struct explain *e, uint64_t context)
{
    struct workload w = e->p->workload;
    struct need n;

    w.output = u64_min(w.output, context - 1);
    w.prompt = context - w.output;
    w.shared_prefix = u64_min(w.shared_prefix, w.prompt);
    capacity_need(e->p, tightest(e), &w, &n, &e->ck);
    return need_bytes(&n, ck_ceil_div(e->plan->context_batch, e->p->parallel.dp), &e->ck);
}

static void max_context(struct explain *e)
{
    uint64_t most = e->plan->max_context;

    from_pool(e);
    e->statement = true;
    if (!most || most >= CONTEXT_MAX || e->plan->context_limit == LIMIT_MODEL_LEN) {
        explain_put(e, "limited by %s", limit_name(e->plan->context_limit));
        return;
    }
    explain_put(e, "need(%s) = %s, need(%s) = %s, pool %s [bytes on the tightest GPU]",
                explain_count(e, most), explain_count(e, needed(e, most)),
                explain_count(e, most + 1), explain_count(e, needed(e, most + 1)),
                explain_count(e, tightest(e)->budget.kv_pool_bytes));
}

static void context_batch(struct explain *e)
{
    explain_put(e, "max(%s [workload.batch, 0 = auto], 1)",
                explain_count(e, e->p->workload.batch));
    explain_from_spec(e, "workload.batch");
}

/* --- the table ---------------------------------------------------------------------------- */

const struct explain_rule explain_memory_rules[] = {
    {"memory.per_gpu.total_bytes", "bytes", "memory as the driver reports it", total},
    {"memory.per_gpu.usable_bytes", "bytes",
     "memory as a program sees it, no more than memory_limit, x memory_fraction", usable},
    {"memory.per_gpu.weights_bytes", "bytes",
     "sum over the tensors this GPU holds, offloaded layers apart", weights},
    {"memory.per_gpu.activation_bytes", "bytes", "activations, as the engine accounts them",
     activation},
    {"memory.per_gpu.non_torch_bytes", "bytes",
     "memory outside the framework, as the engine accounts it", non_torch},
    {"memory.per_gpu.cuda_graph_bytes", "bytes", "captured graphs, as the engine accounts them",
     cuda_graph},
    {"memory.per_gpu.workspace_bytes", "bytes",
     "workspace; with offloaded layers the buffer they stream through", workspace},
    {"memory.per_gpu.kv_pool_bytes", "bytes", "usable less everything else", kv_pool},
    {"memory.per_gpu.short_bytes", "bytes",
     "by how much everything else exceeds what is usable", short_by},
    {"memory.per_gpu.free_bytes", "bytes", "the pool less what the sequences need", free_bytes},
    {"memory.host_bytes", "bytes", "offloaded layers and the sequences' share of the cache",
     host},
    {"capacity.kv_tokens", "tokens", "blocks x tokens a block x context parallel ranks",
     kv_tokens},
    {"capacity.kv_blocks", "blocks",
     "whole blocks in the pool, every layer keeping every token", kv_blocks},
    {"capacity.max_concurrency", "", "the pool by one sequence of the longest length",
     concurrency},
    {"capacity.max_batch", "sequences", "", max_batch},
    {"capacity.one_more_needs_bytes", "bytes", "what one sequence more needs, less the pool",
     one_more},
    {"capacity.max_context", "tokens",
     "the longest context that fits: one token more does not, found by bisection", max_context},
    {"capacity.context_batch", "sequences", "the asked batch, 1 when auto", context_batch},
    {"capacity.min_gpus", "GPUs",
     "the fewest GPUs by tensor parallelism alone, of degrees that divide the heads; "
     "0 = none",
     from_pool},
    {NULL, NULL, NULL, NULL},
};
