/* A plan as JSON. Every key is added here and nowhere else; what it means is in interface
 * and schema (profiles/schema/report.json). Figures come from the plan and the problem, none
 * is computed twice. */
#include "planner/plan/report.h"

#include <string.h>

#include "planner/plan/band.h"
#include "planner/plan/evidence.h"
#include "planner/plan/reserve.h"

/* --- what the pool lacks -------------------------------------------------------------------
 */

uint64_t report_one_more_bytes(const struct problem *p, const struct plan *plan)
{
    const struct budget *b = &p->stages[plan->tightest].budget;
    uint64_t need;
    struct ck ck = {0};

    if (p->engine->reserve)
        return reserve_short_bytes(p, &p->workload, plan->max_batch);
    if (b->short_bytes)
        need = ck_add(&ck, need_bytes(&plan->need, 1, &ck), b->short_bytes);
    else if (plan->batch_limit == LIMIT_MAX_SEQS || plan->batch_limit == LIMIT_MODEL_LEN ||
             plan->batch_limit == LIMIT_NONE || plan->batch_limit == LIMIT_HOST_MEMORY)
        return 0;
    else
        need = need_bytes(&plan->need, plan->max_batch / p->parallel.dp + 1, &ck);
    return ck.over || need <= b->kv_pool_bytes ? 0 : need - b->kv_pool_bytes;
}

/* What the schemes hold or need for a moment besides K/V, one sequence. */
static struct extra_cost extra_of(const struct problem *p, uint64_t decoded)
{
    struct phase ph = {p->workload.prompt, decoded};
    struct extra_cost e = {0};

    for (uint32_t i = 0; i < p->n_uses; i++)
        if (p->uses[i].scheme->extra)
            p->uses[i].scheme->extra(&p->uses[i], &p->layout, &ph, &e);
    return e;
}

bool report_countable(const struct report_in *in, struct diag *d)
{
    const struct problem *p = in->problem;
    const struct workload *w = &p->workload;
    uint64_t k = 0, v = 0, batch = u64_max(in->plan->batch, w->batch);
    struct ck ck = {.over = in->plan->over};

    ck_add(&ck, fold_prefill_peak_bytes(&p->whole, w->prompt, p->block_tokens, &ck),
           fold_resident_bytes(&p->whole, w->prompt, w->output, p->block_tokens, &ck));
    fold_kv_parts(&p->whole, w->prompt, w->output, p->block_tokens, &k, &v, &ck);
    if (in->plan->batch_limit != LIMIT_NONE)
        ck_mul(&ck, in->plan->max_batch, ck_add(&ck, k, v));
    for (uint32_t i = 0; i < p->n_stages; i++) {
        struct need n;
        capacity_need(p, &p->stages[i], w, &n, &ck);
        need_bytes(&n, ck_ceil_div(batch, p->parallel.dp), &ck);
        ck_mul(&ck, batch, n.host_bytes);
    }
    return !ck.over ||
           diag_add(d, DIAG_INPUT, p->spec->at,
                    "byte counts of %llu sequences of %llu tokens leave 64 bits",
                    (unsigned long long)batch, (unsigned long long)(w->prompt + w->output));
}

/* --- model and inputs ------------------------------------------------------------------------
 */

static void add_model(cJSON *to, const struct problem *p)
{
    cJSON *o = json_object(to, "model");
    const struct weight_format *f = p->gemm_format;

    json_text(o, "name", p->model.name ? p->model.name : "inline");
    json_text(o, "family", p->model.family);
    json_u64(o, "parameters", p->params.total);
    json_u64(o, "active_parameters", p->params.active);
    json_u64(o, "weights_bytes", p->weights_bytes);
    json_text(o, "weights_format", f ? f->name : p->model.dtype);
}

static void add_parallel(cJSON *to, const struct problem *p)
{
    cJSON *o = json_object(to, "parallel");

    json_u64(o, "tp", p->parallel.tp);
    json_u64(o, "pp", p->parallel.pp);
    json_u64(o, "dp", p->parallel.dp);
    json_u64(o, "ep", p->parallel.ep);
    json_u64(o, "cp", p->parallel.cp);
}

/* Name of the scheme on an axis as asked for; storage of K and V apart as "k / v". */
static void add_schemes(cJSON *o, const struct problem *p)
{
    json_text(o, "sharing", p->layout.sharing);
    json_text(o, "eviction", p->layout.retention);
    json_text(o, "storage", p->layout.storage);
}

/* What was planned for, assumptions filled in. */
static void add_inputs(cJSON *to, const struct problem *p)
{
    cJSON *o = json_object(to, "inputs");
    const struct workload *w = &p->workload;

    json_text(o, "gpu", p->gpu.name && *p->gpu.name ? p->gpu.name : NULL);
    json_u64(o, "gpus", p->gpus);
    add_parallel(o, p);
    json_text(o, "engine", p->engine->name);
    json_u64(o, "block_tokens", p->block_tokens);
    add_schemes(o, p);
    json_double(o, "offload_ratio", p->offload);
    json_u64(o, "prompt_tokens", w->prompt);
    json_u64(o, "output_tokens", w->output);
    json_u64(o, "shared_prefix_tokens", w->shared_prefix);
    if (w->batch)
        json_u64(o, "batch", w->batch);
    else
        json_text(o, "batch", "auto");
}

/* --- cache ---------------------------------------------------------------------------------
 */

/* Tokens the layer's queries can still see of the prompt: what the stores they read have
 * kept; with several head groups the mean over stored heads, rounded up. */
static uint64_t retained_tokens(const struct problem *p, uint32_t layer)
{
    const struct layout *l = &p->layout;
    uint64_t heads = 0, sum = 0;
    struct ck ck = {0};

    for (uint32_t i = layout_attention_row(l, layer); i < l->n_rows; i++) {
        const struct cache_row *r = &l->rows[i], *s = &l->rows[r->source];
        if (r->layer != layer)
            break;
        if (r->stream != STREAM_KV && r->stream != STREAM_LATENT)
            continue;
        heads += s->stored_heads;
        sum = ck_add(&ck, sum,
                     ck_mul(&ck, s->stored_heads, row_stored_tokens(s, p->workload.prompt, 0)));
    }
    return heads ? ck_ceil_div(sum, heads) : 0;
}

static void add_layers(cJSON *cache, const struct problem *p)
{
    const struct layout *l = &p->layout;
    cJSON *map = json_list(cache, "map");

    for (uint32_t i = 0; i < l->n_layers; i++) {
        uint32_t row = layout_attention_row(l, i);
        json_u64(map, NULL, row < l->n_rows ? l->rows[l->rows[row].source].layer + 1 : 0);
    }
}

static void add_sequence(cJSON *cache, const struct problem *p, struct ck *ck)
{
    const struct workload *w = &p->workload;
    struct extra_cost e = extra_of(p, w->output);
    cJSON *o = json_object(cache, "sequence"), *kept;

    kept = json_list(o, "retained_tokens");
    for (uint32_t i = 0; i < p->layout.n_layers; i++)
        json_u64(kept, NULL, retained_tokens(p, i));
    json_u64(o, "prefill_peak_bytes",
             fold_prefill_peak_bytes(&p->whole, w->prompt, p->block_tokens, ck));
    json_u64(o, "after_prefill_bytes",
             fold_resident_bytes(&p->whole, w->prompt, 0, p->block_tokens, ck));
    json_u64(o, "final_bytes",
             fold_resident_bytes(&p->whole, w->prompt, w->output, p->block_tokens, ck));
    json_u64(o, "scheme_bytes", e.persistent_bytes);
    json_u64(o, "scheme_prefill_bytes", e.transient_prefill_bytes);
}

/* K and V as the engine allocates them, of all stages and replicas. */
static void reserved_parts(const struct problem *p, uint64_t *k, uint64_t *v, struct ck *ck)
{
    *k = *v = 0;
    for (uint32_t i = 0; i < p->n_stages; i++) {
        *k = ck_add(ck, *k, ck_mul(ck, p->stages[i].budget.k_bytes, p->parallel.dp));
        *v = ck_add(ck, *v, ck_mul(ck, p->stages[i].budget.v_bytes, p->parallel.dp));
    }
}

static void add_cache(cJSON *to, const struct problem *p, const struct plan *plan)
{
    cJSON *o = json_object(to, "cache");
    uint64_t k = 0, v = 0, batch = plan->batch_limit == LIMIT_NONE ? 0 : plan->max_batch;
    struct ck ck = {0};

    fold_kv_parts(&p->whole, p->workload.prompt, p->workload.output, p->block_tokens, &k, &v,
                  &ck);
    json_u64(o, "kv_layers", layout_kv_layers(&p->layout));
    json_u64(o, "layer_count", p->layout.n_layers);
    add_layers(o, p);
    json_u64(o, "bytes_per_token", fold_token_bytes(&p->whole, false, &ck));
    json_u64(o, "bytes_per_token_past_windows", fold_token_bytes(&p->whole, true, &ck));
    json_u64(o, "state_bytes_per_sequence", p->whole.state_bytes);
    k = ck_mul(&ck, batch, k);
    v = ck_mul(&ck, batch, v);
    if (p->engine->reserve)
        reserved_parts(p, &k, &v, &ck);
    json_u64(o, "k_bytes", k);
    json_u64(o, "v_bytes", v);
    add_sequence(o, p, &ck);
}

/* --- memory --------------------------------------------------------------------------------
 */

static void add_budget(cJSON *o, const struct problem *p, const struct plan *plan,
                       uint32_t stage)
{
    const struct budget *b = &p->stages[stage].budget;
    struct need n;
    struct ck ck = {0};
    uint64_t used;

    capacity_need(p, &p->stages[stage], &p->workload, &n, &ck);
    used = need_bytes(&n, ck_ceil_div(plan->batch, p->parallel.dp), &ck);
    json_u64(o, "total_bytes", b->total_bytes);
    json_u64(o, "usable_bytes", b->usable_bytes);
    json_u64(o, "weights_bytes", b->weights_bytes);
    json_u64(o, "activation_bytes", b->activation_bytes);
    json_u64(o, "non_torch_bytes", b->non_torch_bytes);
    json_u64(o, "cuda_graph_bytes", b->cuda_graph_bytes);
    json_u64(o, "workspace_bytes", b->workspace_bytes);
    json_u64(o, "kv_pool_bytes", b->kv_pool_bytes);
    json_u64(o, "short_bytes", b->short_bytes);
    if (b->state_bytes)
        json_u64(o, "state_bytes", b->state_bytes);
    if (b->reserved)
        json_u64(o, "free_bytes", budget_left_bytes(b));
    else
        json_u64(o, "free_bytes",
                 ck.over || used > b->kv_pool_bytes ? 0 : b->kv_pool_bytes - used);
}

static void add_given(cJSON *to, const struct problem *p)
{
    const struct {
        const char *key;
        uint64_t v;
    } terms[] = {
        {"kv_pool_bytes", p->spec->given.kv_pool_bytes},
        {"weights_bytes", p->spec->given.weights_bytes},
        {"activation_bytes", p->spec->given.activation_bytes},
        {"non_torch_bytes", p->spec->given.non_torch_bytes},
        {"cuda_graph_bytes", p->spec->given.cuda_graph_bytes},
        {"workspace_bytes", p->spec->given.workspace_bytes},
    };
    cJSON *list = NULL;

    for (size_t i = 0; i < sizeof terms / sizeof *terms; i++) {
        if (terms[i].v == UINT64_MAX)
            continue;
        if (!list)
            list = json_list(to, "given");
        json_text(list, NULL, terms[i].key);
    }
}

static void add_memory(cJSON *to, const struct problem *p, const struct plan *plan)
{
    cJSON *o = json_object(to, "memory"), *gpus;
    uint64_t offloaded = 0;
    struct ck ck = {0};

    add_budget(json_object(o, "per_gpu"), p, plan, plan->tightest);
    gpus = json_list(o, "gpus");
    for (uint32_t i = 0; i < p->n_stages; i++) {
        cJSON *g = json_object(gpus, NULL);
        const struct stage *s = &p->stages[i];
        json_u64(g, "stage", i + 1);
        json_u64(g, "ranks", (uint64_t)p->parallel.tp * p->parallel.cp * p->parallel.dp);
        json_u64(g, "first_layer", s->fold.slice.first + 1);
        json_u64(g, "last_layer", s->fold.slice.last);
        add_budget(g, p, plan, i);
        offloaded =
            ck_add(&ck, offloaded,
                   ck_prod(&ck, s->work.offloaded_bytes, p->parallel.tp, p->parallel.dp));
    }
    if (offloaded || p->offload > 0) {
        uint64_t cache = 0;
        for (uint32_t i = 0; i < p->n_stages; i++) {
            struct need n;
            capacity_need(p, &p->stages[i], &p->workload, &n, &ck);
            cache = ck_add(&ck, cache, n.host_bytes);
        }
        json_u64(o, "host_bytes", ck_add(&ck, offloaded, ck_mul(&ck, plan->batch, cache)));
    }
    add_given(o, p);
}

/* --- capacity and compute -------------------------------------------------------------------
 */

static void add_capacity(cJSON *to, const struct problem *p, const struct plan *plan)
{
    cJSON *o = json_object(to, "capacity");

    json_u64(o, "kv_tokens", plan->kv_tokens);
    json_u64(o, "kv_blocks", plan->kv_blocks);
    json_double(o, "max_concurrency", plan->max_concurrency);
    json_u64(o, "max_batch", plan->max_batch);
    json_text(o, "limited_by", limit_name(plan->batch_limit));
    json_u64(o, "one_more_needs_bytes", report_one_more_bytes(p, plan));
    json_u64(o, "max_context", plan->max_context);
    json_u64(o, "context_batch", plan->context_batch);
    json_text(o, "context_limited_by", limit_name(plan->context_limit));
    json_u64(o, "min_gpus", capacity_min_gpus(p, &p->workload, u64_max(p->workload.batch, 1)));
}

/* Over the ops; `all`: with what GPUs send each other and the activations of a prompt, which
 * are neither weights nor cache. */
static double sum(const double v[N_OPS], bool all)
{
    double s = 0;

    for (int op = 0; op < N_OPS; op++)
        if (all || (op != OP_COLLECTIVE && op != OP_ELEMENTWISE))
            s += v[op];
    return s;
}

static void add_ops(cJSON *to, const struct op_tally *t, const double *seconds)
{
    cJSON *ops = json_object(to, "by_op");

    for (int op = 0; op < N_OPS; op++) {
        bool any = t->flop[op] > 0 || t->bytes[op] > 0 || (seconds && seconds[op] > 0);
        cJSON *o = any ? json_object(ops, op_name((enum op)op)) : NULL;
        if (!any)
            continue;
        json_whole(o, "flops", t->flop[op]);
        json_whole(o, "bytes", t->bytes[op]);
        if (seconds)
            json_double(o, "seconds", seconds[op]);
    }
}

static void add_link(cJSON *o, const struct problem *p, double bytes, double seconds)
{
    if (bytes <= 0)
        return;
    json_whole(o, "link_bytes", bytes);
    if (p->machine.link_bytes_per_s > 0)
        json_double(o, "link_seconds", seconds);
}

static void add_prefill(cJSON *compute, const struct problem *p, const struct plan *plan)
{
    cJSON *o = json_object(compute, "prefill"), *passes;

    json_whole(o, "flops", sum(plan->prefill.flop, true));
    json_whole(o, "bytes", sum(plan->prefill.bytes, false));
    if (p->gpu_named) {
        json_double(o, "seconds", plan->prefill_s);
        json_double(o, "seconds_per_sequence", plan->prefill_s / (double)plan->batch);
    }
    add_link(o, p, plan->prefill_link_bytes, plan->prefill_link_s);
    passes = json_list(o, "passes_per_layer");
    for (uint32_t i = 0; i < p->layout.n_layers; i++)
        json_u64(passes, NULL, p->layout.passes[i]);
    add_ops(o, &plan->prefill, p->gpu_named ? plan->prefill_op_s : NULL);
}

/* What a step writes: the new token's K/V and the states, and what the schemes update. */
static double decode_written(const struct problem *p, const struct plan *plan)
{
    struct extra_cost e = extra_of(p, plan->decode_decoded);

    return (double)plan->decode_write_bytes +
           (double)plan->batch * (double)e.decode_write_bytes;
}

static void add_decode(cJSON *compute, const struct problem *p, const struct plan *plan)
{
    cJSON *o = json_object(compute, "decode");
    double written = decode_written(p, plan);

    json_whole(o, "flops", sum(plan->decode.flop, true));
    json_whole(o, "bytes_read", sum(plan->decode.bytes, false) - written);
    json_whole(o, "bytes_written", written);
    json_u64(o, "cache_bytes_read", plan->decode_read_bytes);
    if (p->gpu_named) {
        json_double(o, "seconds", plan->decode_s);
        json_double(o, "tokens_per_second", plan->tokens_per_s);
    }
    add_link(o, p, plan->decode_link_bytes, plan->decode_link_s);
    add_ops(o, &plan->decode, p->gpu_named ? plan->decode_op_s : NULL);
}

/* A plain model costs 3 units a layer: one forward, and a backward of twice that. */
static void add_training(cJSON *compute, const struct problem *p)
{
    double units = p->whole_work.forward_units / p->layout.n_layers;
    cJSON *o;

    if (!p->whole_work.upward || units - 3 == 0)
        return;
    o = json_object(compute, "training");
    json_double(o, "forward_units", units);
    json_double(o, "relative_to_plain", units / 3);
    json_text(
        o, "caveat",
        "a FLOP model; measured training was slower by less: 2.7 times for TinyLlama with LCKV, "
        "warmup 2, where this gives 4.03 (arXiv:2405.10637 App. B)");
}

static void add_compute(cJSON *to, const struct problem *p, const struct plan *plan)
{
    cJSON *o = json_object(to, "compute");

    json_u64(o, "batch", plan->batch);
    json_u64(o, "decode_context_tokens", plan->decode_prompt + plan->decode_decoded);
    add_prefill(o, p, plan);
    add_decode(o, p, plan);
    add_training(o, p);
}

/* --- trust ---------------------------------------------------------------------------------
 */

static void add_verdict(cJSON *to, const struct problem *p, const struct plan *plan)
{
    cJSON *o = json_object(to, "verdict");

    json_bool(o, "fits", plan->fits);
    json_text(o, "limited_by", limit_name(plan->batch_limit));
    json_text(o, "reason", report_sentence(p->arena, p, plan));
}

/* The GPU's figures that this plan used, each with where it is from. */
static void add_gpu_sources(cJSON *to, const struct gpu *g, bool peers)
{
    static const enum gpu_fact used[] = {
        GPU_FACT_MEMORY_TOTAL,     GPU_FACT_MEMORY_USABLE,
        GPU_FACT_BANDWIDTH,        GPU_FACT_PEAK + GPU_BF16,
        GPU_FACT_DECODE_BANDWIDTH, GPU_FACT_WEIGHT_BANDWIDTH,
        GPU_FACT_GEMM_BF16,        GPU_FACT_ATTENTION,
        GPU_FACT_KERNEL_LAUNCH,    GPU_FACT_LINK,
        GPU_FACT_PEER_BANDWIDTH,   GPU_FACT_PEER_LATENCY,
    };
    size_t n = sizeof used / sizeof *used - (peers ? 0 : 2);
    cJSON *o = json_object(to, "gpu"), *facts;

    json_text(o, "name", g->name);
    json_text(o, "confidence", gpu_confidence_name(g->confidence));
    facts = json_object(o, "sources");
    for (size_t i = 0; i < n; i++)
        json_text(facts, gpu_fact_key(used[i]), g->origin[used[i]].source);
}

static void add_provenance(cJSON *to, const struct report_in *in)
{
    const struct problem *p = in->problem;
    cJSON *o = json_object(to, "provenance"), *m, *list;

    json_text(o, "spec", in->name);
    m = json_object(o, "model");
    json_text(m, "from", p->model_source);
    json_text(m, "sources", p->model.sources && *p->model.sources ? p->model.sources : NULL);
    json_text(m, "confidence", p->model.confidence);
    if (p->gpu.name && *p->gpu.name)
        add_gpu_sources(o, &p->gpu, p->gpus > 1);
    list = json_list(o, "schemes");
    for (uint32_t i = 0; i < p->n_uses; i++) {
        cJSON *s = json_object(list, NULL);
        json_text(s, "axis", scheme_axis_name(p->uses[i].scheme->axis));
        json_text(s, "name", p->uses[i].name);
        json_text(s, "source", p->uses[i].scheme->source);
        json_text(s, "confidence", p->uses[i].scheme->confidence);
    }
    m = json_object(o, "engine");
    json_text(m, "name", p->engine->name);
    json_text(m, "source", p->engine->source);
}

/* --- documents -----------------------------------------------------------------------------
 */

cJSON *report_json(const struct report_in *in)
{
    const struct problem *p = in->problem;
    cJSON *root = json_object(NULL, NULL);

    json_text(root, "schema", "kvbudget.report/1");
    json_text(root, "kvbudget_version", KV_VERSION);
    add_model(root, p);
    add_inputs(root, p);
    add_cache(root, p, in->plan);
    add_memory(root, p, in->plan);
    add_capacity(root, p, in->plan);
    add_compute(root, p, in->plan);
    band_json(p, in->plan, in->profiles, root);
    evidence_json(p->arena, p, in->profiles, json_list(root, "evidence"));
    add_verdict(root, p, in->plan);
    json_diagnostics(json_list(root, "diagnostics"), in->diag, 0);
    add_provenance(root, in);
    return root;
}

cJSON *report_check_json(const struct report_in *in)
{
    const struct problem *p = in->problem;
    cJSON *root = json_object(NULL, NULL);

    json_text(root, "schema", "kvbudget.check/1");
    json_text(root, "kvbudget_version", KV_VERSION);
    json_text(root, "spec", in->name);
    add_verdict(root, p, in->plan);
    add_capacity(root, p, in->plan);
    json_diagnostics(json_list(root, "diagnostics"), in->diag, 0);
    return root;
}
