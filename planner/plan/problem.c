/* Resolving a spec: each step reports every problem it finds, and what it assumed. */
#include "planner/plan/problem.h"

#include <string.h>

#include "planner/plan/gpu_local.h"
#include "planner/plan/problem_fold.h"

/* --- hardware ------------------------------------------------------------------------------
 */

static bool read_gpu(struct arena *a, const struct spec *s, const struct profiles *profiles,
                     struct diag *d, struct problem *p)
{
    const struct doc_node *n = s->hardware.gpu;
    struct gpu_local_in local = {profiles, s->hardware.count, n ? n->at : s->at,
                                 s->hardware.facts};

    p->gpu_named = n != NULL;
    if (!n) {
        diag_add(d, DIAG_NOTE, s->at,
                 "hardware.gpu is not given: memory is planned, time is not");
    } else if (n->kind == DOC_MAP) {
        if (!gpu_inline(a, n, d, &p->gpu))
            return false;
        p->gpu_named = p->gpu.bandwidth_bytes_per_s > 0;
    } else if (n->kind == DOC_SCALAR && !strcmp(n->text, "local")) {
        if (!gpu_local(a, &local, d, &p->gpu))
            return false;
        p->gpu_named = p->gpu.bandwidth_bytes_per_s > 0;
    } else if (n->kind != DOC_SCALAR) {
        return diag_add(d, DIAG_INPUT, n->at, "hardware.gpu must be a name or a map");
    } else if (!gpu_load(a, profiles, n->text, n->at, d, &p->gpu)) {
        return false;
    }
    p->total_bytes = s->hardware.memory ? s->hardware.memory : p->gpu.memory_total_bytes;
    p->visible_bytes = s->hardware.memory ? s->hardware.memory : p->gpu.memory_usable_bytes;
    if (!p->visible_bytes)
        return diag_add(d, DIAG_INPUT, n ? n->at : s->at,
                        "this GPU's memory is not known; give hardware.memory");
    if (s->hardware.memory_limit)
        p->visible_bytes = u64_min(p->visible_bytes, s->hardware.memory_limit);
    p->host_bytes = s->hardware.host_memory;
    p->link_bytes_per_s = s->hardware.link > 0 ? s->hardware.link : p->gpu.link_bytes_per_s;
    p->peer_bytes_per_s = s->hardware.peer_link > 0
                              ? s->hardware.peer_link
                              : gpu_peer_bytes_per_s(&p->gpu, p->link_bytes_per_s);
    return true;
}

static bool set_parallel(const struct spec *s, struct diag *d, struct problem *p)
{
    struct parallel *par = &p->parallel;
    bool given = s->parallel.tp || s->parallel.pp || s->parallel.dp || s->parallel.cp;
    uint64_t count = s->hardware.count, product;
    struct ck ck = {0};

    *par = (struct parallel){
        (uint32_t)u64_max(s->parallel.tp, 1), (uint32_t)u64_max(s->parallel.pp, 1),
        (uint32_t)u64_max(s->parallel.dp, 1), (uint32_t)u64_max(s->parallel.ep, 1),
        (uint32_t)u64_max(s->parallel.cp, 1)};
    if (!given && count > 1 && p->engine && p->engine->layer_split) {
        par->pp = (uint32_t)count;
        diag_add(d, DIAG_NOTE, s->at,
                 "parallel is not given: %s divides the layers over %u GPUs", p->engine->name,
                 par->pp);
    } else if (!given && count > 1) {
        par->tp = (uint32_t)count;
        diag_add(d, DIAG_NOTE, s->at,
                 "parallel is not given: %u GPUs are used as tensor parallel", par->tp);
    }
    product = ck_prod(&ck, par->tp, par->pp, par->dp, par->cp);
    if (ck.over || product > 1u << 20)
        return diag_add(d, DIAG_INPUT, s->at, "parallel asks for more than 1048576 GPUs");
    p->gpus = (uint32_t)product;
    if (count && product > count)
        return diag_add(d, DIAG_INPUT, s->at,
                        "parallel needs %u GPUs (tp x pp x dp x cp), hardware.count is %llu",
                        p->gpus, (unsigned long long)count);
    if (count > product)
        diag_add(d, DIAG_WARN, s->at, "parallel uses %u of %llu GPUs", p->gpus,
                 (unsigned long long)count);
    return true;
}

/* Whether nothing is to be said of `b` that was not said of `a`. */
static bool same_heads(const struct attention *a, const struct attention *b)
{
    return a && a->mixer == b->mixer && a->heads == b->heads && a->kv_heads == b->kv_heads;
}

/* Degrees the model's shape allows. */
static bool check_parallel(const struct problem *p, struct loc at, struct diag *d)
{
    const struct parallel par = p->parallel;
    const struct attention *told = NULL;
    uint32_t experts = 0;
    bool ok = true;

    if (par.pp > p->model.n_layers)
        ok = diag_add(d, DIAG_INPUT, at, "pp %u is more than the model's %u layers", par.pp,
                      p->model.n_layers);
    for (uint32_t i = 0; i < p->model.n_layers; i++) {
        const struct attention *t = &p->layout.layers[i].attn;
        const struct ffn *f = &p->layout.layers[i].ffn;
        experts = experts > f->experts ? experts : f->experts;
        if (t->mixer == MIXER_NONE || par.tp == 1 || (ok && same_heads(told, t)))
            continue;
        told = t;
        if (t->heads % par.tp && ok)
            ok = diag_add(d, DIAG_INPUT, at,
                          "tp %u does not divide the %u query heads of layer %u", par.tp,
                          t->heads, i + 1);
        else if (t->mixer != MIXER_LATENT && t->kv_heads < par.tp)
            diag_add(
                d, DIAG_NOTE, at,
                "tp %u exceeds %u K/V heads: heads are replicated, %ux the cache of one copy",
                par.tp, t->kv_heads, par.tp / t->kv_heads);
        else if (t->mixer == MIXER_LATENT)
            diag_add(
                d, DIAG_NOTE, at,
                "a latent cache is not divided by tensor parallelism: every rank holds it whole");
    }
    if (par.ep > 1 && !experts)
        ok = diag_add(d, DIAG_INPUT, at, "ep %u: the model has no experts", par.ep);
    else if (par.ep > experts && par.ep > 1)
        ok = diag_add(d, DIAG_INPUT, at, "ep %u is more than the model's %u experts", par.ep,
                      experts);
    return ok;
}

/* --- schemes -------------------------------------------------------------------------------
 */

static bool add_use(struct arena *a, enum scheme_axis axis, const struct doc_node *node,
                    unsigned sides, struct diag *d, struct problem *p)
{
    struct scheme_use use = {0};

    if (!node)
        return true;
    if (!scheme_bind(a, axis, node, d, &use))
        return false;
    if (!use.scheme)
        return true;
    use.sides = sides;
    p->uses[p->n_uses++] = use;
    return true;
}

/* A format name as a spec would write it, for what the checkpoint or the model's type says. */
static struct doc_node *format_node(struct arena *a, const char *name, struct loc at)
{
    struct doc_node *n = ARENA_NEW(a, struct doc_node, 1);

    *n = (struct doc_node){.kind = DOC_SCALAR, .at = at, .text = name, .quoted = true};
    return n;
}

static bool bind_schemes(struct arena *a, const struct spec *s, struct diag *d,
                         struct problem *p)
{
    const struct doc_node *both = s->cache.format;
    bool ok;

    if (!both && p->engine && p->engine->cache_format) {
        both = format_node(a, p->engine->cache_format, s->at);
    } else if (!both && p->model.quant.kv_format) {
        both = format_node(a, p->model.quant.kv_format, s->at);
        diag_add(d, DIAG_NOTE, s->at, "cache.format is not given: %s, as the checkpoint says",
                 both->text);
    } else if (!both) {
        bool half =
            p->model.dtype &&
            !strcmp(p->model.dtype, "fp16"); /* fp32 weights: bf16, noted by the layout */
        const char *asked = p->weight_format && p->engine && p->engine->cache_as_weights
                                ? p->weight_format->name
                                : "";
        bool plain = !strcmp(asked, "bf16") || !strcmp(asked, "fp16") || !strcmp(asked, "fp32");
        both = format_node(a, plain ? asked : half ? "fp16" : "bf16", s->at);
    }
    if (s->cache.k && s->cache.v)
        both = NULL;
    ok = add_use(a, AXIS_SHARING, s->cache.sharing, 0, d, p);
    ok = add_use(a, AXIS_RETENTION, s->cache.eviction, 0, d, p) && ok;
    if (both && !s->cache.k && !s->cache.v)
        return add_use(a, AXIS_STORAGE, both, STORE_K | STORE_V, d, p) && ok;
    ok = add_use(a, AXIS_STORAGE, s->cache.k ? s->cache.k : both, STORE_K, d, p) && ok;
    return add_use(a, AXIS_STORAGE, s->cache.v ? s->cache.v : both, STORE_V, d, p) && ok;
}

static bool apply_schemes(struct arena *a, struct diag *d, struct problem *p)
{
    bool ok = layout_new(a, &p->model, d, &p->layout);

    for (uint32_t i = 0; ok && i < p->n_uses; i++) {
        const struct scheme_use *u = &p->uses[i];
        if (u->scheme->unsupported)
            return diag_add(d, DIAG_INPUT, u->at, "%s: %s", u->name, u->scheme->unsupported);
        ok = u->scheme->apply(u, &p->layout, d);
        if (ok)
            layout_settle(&p->layout);
        if (ok && u->scheme->caveat)
            diag_add(d, DIAG_WARN, u->at, "%s: %s", u->name, u->scheme->caveat);
    }
    if (ok && p->layout.retrofit && p->model_source && strcmp(p->model_source, "inline"))
        diag_add(d, DIAG_WARN, p->uses[0].at,
                 "%s changes a shipped checkpoint: the model needs (further) training with it",
                 p->uses[0].name);
    return ok && (!p->engine->adapt || p->engine->adapt(&p->settings, &p->layout, d));
}

/* Rows that keep another number of tokens need block tables of their own. */
static bool check_pool(const struct problem *p, struct diag *d)
{
    const struct keep *first = NULL;

    for (uint32_t i = 0; i < p->layout.n_rows && p->engine->uniform_pool; i++) {
        const struct keep *k = &p->layout.rows[i].keep;
        if (!p->layout.rows[i].readers || p->layout.rows[i].stream == STREAM_STATE)
            continue;
        bool alike = !first || (k->prompt == first->prompt && k->params == first->params &&
                                k->fixed == first->fixed);
        if (!alike || k->by_index || k->ragged)
            return diag_add(
                d, DIAG_INPUT, p->layout.at,
                "%s keeps different numbers of tokens in different layers or heads; %s has one block table for "
                "all of them",
                p->layout.retention, p->engine->name);
        first = k;
    }
    return true;
}

/* --- machine -------------------------------------------------------------------------------
 */

/* The type products are made in: weights narrower than the tensor cores take are widened to
 * bf16 first (W4A16). */
static enum gpu_dtype gemm_type(const struct weight_format *f)
{
    static const struct {
        const char *prefix;
        enum gpu_dtype type;
    } types[] = {{"fp8", GPU_FP8},
                 {"nvfp4", GPU_FP4},
                 {"int8", GPU_INT8},
                 {"fp16", GPU_FP16},
                 {"fp32", GPU_TF32}};

    for (size_t i = 0; f && i < sizeof types / sizeof *types; i++)
        if (!strncmp(f->name, types[i].prefix, strlen(types[i].prefix)))
            return types[i].type;
    return GPU_BF16;
}

static double achievable_flop_per_s(const struct gpu *g, enum gpu_dtype want)
{
    enum gpu_dtype used = want;
    double peak = gpu_peak_flop_per_s(g, want, &used);
    return peak * gpu_gemm_ratio(g, used);
}

static struct machine machine_of(const struct problem *p)
{
    const struct gpu *g = &p->gpu;
    double host = p->link_bytes_per_s * g->link_ratio;

    return (struct machine){
        .weight_bytes_per_s = g->bandwidth_bytes_per_s * g->weight_bandwidth_ratio,
        .cache_bytes_per_s = g->bandwidth_bytes_per_s * g->decode_bandwidth_ratio,
        .gemm_flop_per_s = achievable_flop_per_s(g, gemm_type(p->gemm_format)),
        .attention_flop_per_s = gpu_peak_flop_per_s(g, GPU_BF16, NULL) * g->attention_ratio,
        .kernel_launch_s = g->kernel_launch_s,
        .link_bytes_per_s = host,
        .peer_bytes_per_s = p->gpus > 1 ? p->peer_bytes_per_s : 0,
        .peer_latency_s = g->peer_latency_s,
    };
}

/* --- all of it -----------------------------------------------------------------------------
 */

static bool read_weight_format(const struct spec *s, struct diag *d, struct problem *p)
{
    const struct doc_node *n = s->weights.format;

    if (!n || doc_is_null(n))
        return true;
    if (n->kind != DOC_SCALAR)
        return diag_add(d, DIAG_INPUT, n->at,
                        "weights.format must be a name such as bf16 or fp8");
    p->weight_format = weight_format_find(n->text);
    if (p->weight_format)
        return true;
    const char *names[256];
    size_t count = 0;
    for (const struct weight_format *f; count < 256 && (f = weight_format_at(count)) != NULL;
         count++)
        names[count] = f->name;
    const char *near = doc_nearest(n->text, names, count);
    return diag_add(d, DIAG_INPUT, n->at, "unknown weight format '%s'%s%s%s", n->text,
                    near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* What the engine takes for settings that are not given. */
static bool engine_defaults(const struct spec *s, struct diag *d, struct problem *p)
{
    struct engine_host host = {&p->model, &p->gpu, p->visible_bytes, p->parallel, s->engine_at};

    if (p->engine->defaults && !p->engine->defaults(&host, &p->settings, d))
        return false;
    p->block_tokens =
        p->settings.block_tokens ? p->settings.block_tokens : p->engine->block_tokens;
    return true;
}

/* What the files of a checkpoint hold is its size as it is, not in another format and not with
 * layers that share K/V. */
static void drop_measured(struct problem *p, struct loc at, struct diag *d)
{
    bool shares = false;

    for (uint32_t i = 0; i < p->n_uses; i++)
        shares |= p->uses[i].scheme->axis == AXIS_SHARING;
    if (!p->model.weights_measured || !(p->weight_format || shares))
        return;
    p->model.weights_measured = false;
    p->model.weights_bytes = 0;
    diag_add(d, DIAG_NOTE, at, "with %s the weights are counted by shapes, not by the files",
             p->weight_format ? "weights.format" : "a sharing scheme");
}

/* `base`: NULL, or what problem_with started from. */
static bool finish(struct problem *p, const struct problem *base, struct loc at, struct diag *d)
{
    drop_measured(p, at, d);
    bool ok = apply_schemes(p->arena, d, p) && check_parallel(p, at, d) && check_pool(p, d) &&
              problem_fold(p, base, d);

    if (!ok)
        return false;
    if (p->gpu_named) {
        p->machine = machine_of(p);
        p->gpu_named = p->machine.weight_bytes_per_s > 0 && p->machine.gemm_flop_per_s > 0;
        if (!p->gpu_named)
            diag_add(
                d, DIAG_NOTE, at,
                "this GPU's bandwidth or arithmetic rate is not known: memory is planned, time is not");
    }
    return true;
}

bool problem_build(struct arena *a, const struct spec *spec, const struct profiles *profiles,
                   struct diag *d, struct problem *out)
{
    bool ok;

    *out = (struct problem){
        .arena = a, .spec = spec, .settings = spec->engine, .offload = spec->cache.offload};
    out->workload = (struct workload){spec->workload.prompt, spec->workload.output,
                                      spec->workload.batch, spec->workload.shared_prefix};
    out->engine = engine_find(spec->engine.name, spec->engine_at, d);
    ok = out->engine != NULL;
    ok = problem_model(a, spec->model, profiles, d, &out->model, &out->model_source) && ok;
    ok = read_gpu(a, spec, profiles, d, out) && ok;
    ok = set_parallel(spec, d, out) && ok;
    ok = read_weight_format(spec, d, out) && ok;
    if (!out->model.layers)
        return false;
    ok = bind_schemes(a, spec, d, out) && ok;
    if (!ok)
        return false;
    if (!engine_defaults(spec, d, out))
        return false;
    if (spec->weights.offload_layers > out->model.n_layers)
        return diag_add(d, DIAG_INPUT, spec->at,
                        "offload_layers %llu is more than the model's %u layers",
                        (unsigned long long)spec->weights.offload_layers, out->model.n_layers);
    if (out->model.max_position &&
        spec->workload.prompt + spec->workload.output > out->model.max_position)
        diag_add(d, DIAG_WARN, spec->at,
                 "%llu tokens a sequence exceed the %llu positions the model was made for",
                 (unsigned long long)(spec->workload.prompt + spec->workload.output),
                 (unsigned long long)out->model.max_position);
    return finish(out, NULL, spec->at, d);
}

bool problem_with(struct arena *a, const struct problem *base, const struct scheme_use *use,
                  struct parallel p, struct diag *d, struct problem *out)
{
    uint32_t n = 0;

    *out = *base;
    out->arena = a;
    out->parallel = p;
    out->gpus = p.tp * p.pp * p.dp * p.cp;
    if (use) {
        for (uint32_t i = 0; i < base->n_uses; i++)
            if (base->uses[i].scheme->axis != use->scheme->axis)
                out->uses[n++] = base->uses[i];
        out->uses[n++] = *use;
        out->n_uses = n;
        for (uint32_t i = n - 1; i && out->uses[i].scheme->axis < out->uses[i - 1].scheme->axis;
             i--) {
            struct scheme_use t = out->uses[i];
            out->uses[i] = out->uses[i - 1];
            out->uses[i - 1] = t;
        }
    }
    return finish(out, base, base->spec->at, d);
}

bool problem_with_model(struct arena *a, const struct problem *base, const struct model *m,
                        struct diag *d, struct problem *out)
{
    *out = *base;
    out->arena = a;
    out->model = *m;
    return finish(out, NULL, base->spec->at, d);
}
