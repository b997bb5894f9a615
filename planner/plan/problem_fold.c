/* Folding a problem. Weights and work follow from the layers alone, which most schemes leave as
 * they are: a problem made from another one takes over what was counted there. */
#include "planner/plan/problem_fold.h"

#include <string.h>

#include "planner/plan/reserve.h"

/* --- weights and work ----------------------------------------------------------------------
 */

/* Whether every layer is made of the same weights and runs as often. */
static bool same_layers(const struct problem *a, const struct problem *b)
{
    const struct layout *l = &a->layout, *m = &b->layout;
    size_t n = l->n_layers;

    return n == m->n_layers && a->weight_format == b->weight_format &&
           a->engine->widens == b->engine->widens && l->forward_passes == m->forward_passes &&
           l->backward_passes == m->backward_passes && l->exit_layer == m->exit_layer &&
           !memcmp(l->layers, m->layers, n * sizeof *l->layers) &&
           !memcmp(l->passes, m->passes, n * sizeof *l->passes) &&
           !memcmp(a->owns_kv, b->owns_kv, n * sizeof *a->owns_kv);
}

/* The format that the largest part of the weights is stored in decides the arithmetic. */
static const struct weight_format *bulk_format(const struct problem *p)
{
    struct tensor t[LAYER_TENSORS_MAX];
    const struct weight_format *best = NULL;
    double most = -1;

    for (uint32_t i = 0; i < p->model.n_layers; i++) {
        size_t n = weights_layer(&p->model, &p->layout.layers[i], p->owns_kv[i], t);
        for (size_t k = 0; k < n; k++) {
            double size = (double)t[k].out * (double)t[k].in * (double)t[k].copies;
            if (size > most) {
                most = size;
                best = weights_format_of(&p->model, &t[k], (int)i, p->weight_format);
            }
        }
    }
    return best;
}

/* Everything that the layers alone decide. */
static void count_layers(struct problem *p, struct ck *ck)
{
    struct model edited = p->model; /* what sharing changed: widened MLPs, other mixers */
    struct work_in in = {.layout = &p->layout,
                         .asked = p->weight_format,
                         .ep = 1,
                         .first_stage = true,
                         .last_stage = true,
                         .widens = p->engine->widens,
                         .slice = {1, 1, 0, p->model.n_layers}};

    edited.layers = p->layout.layers;
    work_build(&in, &p->whole_work, ck);
    weights_count(&edited, p->owns_kv, &p->params, ck);
    p->gemm_format = bulk_format(p);
}

/* A known total replaces the table's: every rank in proportion. */
static void scale_weights(const struct problem *p, struct work *w, struct ck *ck)
{
    uint64_t table = p->whole_work.weights_bytes;

    if (!p->model.weights_bytes || !table)
        return;
    w->weights_bytes = ck_muldiv(ck, w->weights_bytes, p->model.weights_bytes, table);
    w->offloaded_bytes = ck_muldiv(ck, w->offloaded_bytes, p->model.weights_bytes, table);
    w->offloaded_prefill_bytes =
        ck_muldiv(ck, w->offloaded_prefill_bytes, p->model.weights_bytes, table);
}

static void apply_given(const struct spec *s, struct budget *b)
{
    const uint64_t none = UINT64_MAX;

    if (s->given.weights_bytes != none)
        b->weights_bytes = s->given.weights_bytes;
    if (s->given.activation_bytes != none)
        b->activation_bytes = s->given.activation_bytes;
    if (s->given.non_torch_bytes != none)
        b->non_torch_bytes = s->given.non_torch_bytes;
    if (s->given.cuda_graph_bytes != none)
        b->cuda_graph_bytes = s->given.cuda_graph_bytes;
    if (s->given.workspace_bytes != none)
        b->workspace_bytes = s->given.workspace_bytes;
    budget_close(b);
    if (s->given.kv_pool_bytes != none) {
        b->kv_pool_bytes = s->given.kv_pool_bytes;
        b->short_bytes = 0;
    }
}

struct engine_in problem_engine_in(const struct problem *p, uint32_t stage)
{
    const struct stage *s = &p->stages[stage];

    return (struct engine_in){.set = &p->settings,
                              .layout = &p->layout,
                              .work = &s->work,
                              .fold = &s->fold,
                              .gpu = &p->gpu,
                              .asked = p->weight_format,
                              .parallel = p->parallel,
                              .first_stage = stage == 0,
                              .last_stage = stage + 1 == p->n_stages,
                              .host_layers = p->host_layers,
                              .base = &s->budget,
                              .at = p->spec->engine_at,
                              .total_bytes = p->total_bytes,
                              .visible_bytes = p->visible_bytes,
                              .prompt = p->workload.prompt,
                              .output = p->workload.output,
                              .batch = p->workload.batch};
}

void problem_reserve(const struct problem *p, uint32_t stage, uint64_t sequences,
                     uint64_t tokens, struct budget *out)
{
    struct engine_in in = problem_engine_in(p, stage);
    struct ck ck = {0};
    uint64_t pool;

    p->engine->reserve(&in, sequences, tokens, out, &ck);
    pool = out->kv_pool_bytes;
    apply_given(p->spec, out);
    if (p->spec->given.kv_pool_bytes != UINT64_MAX && pool > out->kv_pool_bytes)
        out->short_bytes = pool - out->kv_pool_bytes;
    if (ck.over)
        out->short_bytes = UINT64_MAX;
}

/* --- stages --------------------------------------------------------------------------------
 */

static void build_work(struct problem *p, uint32_t i, struct slice slice, struct ck *ck)
{
    struct work_in in = {.layout = &p->layout,
                         .asked = p->weight_format,
                         .ep = p->parallel.ep,
                         .offload_layers = (uint32_t)p->host_layers,
                         .first_stage = i == 0,
                         .last_stage = i + 1 == p->n_stages,
                         .widens = p->engine->widens,
                         .slice = slice};

    work_build(&in, &p->stages[i].work, ck);
    scale_weights(p, &p->stages[i].work, ck);
}

/* `alike`: NULL, or the stage of another problem that does the same work. */
static bool build_stage(struct problem *p, uint32_t i, const struct stage *alike,
                        struct diag *d, struct ck *ck)
{
    struct stage *s = &p->stages[i];
    struct slice slice = {p->parallel.tp, p->parallel.cp,
                          shard_stage_first(p->model.n_layers, p->n_stages, i),
                          shard_stage_first(p->model.n_layers, p->n_stages, i + 1)};
    struct engine_in e = problem_engine_in(p, i);

    if (alike)
        s->work = alike->work;
    else
        build_work(p, i, slice, ck);
    if (p->n_stages == 1 && slice.tp == 1 && slice.cp == 1)
        s->fold = p->whole;
    else
        fold_layout(&p->layout, slice, &s->fold, ck);
    if (!p->engine->budget(&e, &s->budget, d))
        return false;
    apply_given(p->spec, &s->budget);
    return !p->engine->pool || p->engine->pool(&e, &s->pool, d);
}

/* A reader whose source lies in another stage: its K/V must be sent and held there too. */
static void warn_split_groups(const struct problem *p, struct diag *d)
{
    for (uint32_t i = 0; i < p->layout.n_rows && p->n_stages > 1; i++) {
        const struct cache_row *r = &p->layout.rows[i], *src = &p->layout.rows[r->source];
        uint32_t here = 0, there = 0;
        for (uint32_t s = 0; s < p->n_stages; s++) {
            here = p->stages[s].fold.slice.first <= r->layer ? s : here;
            there = p->stages[s].fold.slice.first <= src->layer ? s : there;
        }
        if (here == there)
            continue;
        diag_add(
            d, DIAG_WARN, p->layout.at,
            "layer %u reads the K/V of layer %u in another pipeline stage: it is sent there and held twice",
            r->layer + 1, src->layer + 1);
        return;
    }
}

/* The model's own layout, which no scheme changes. */
static void fold_shipped(struct problem *p, struct ck *ck)
{
    struct layout bare;

    if (!layout_new(p->arena, &p->model, diag_new(p->arena), &bare))
        return;
    layout_settle(&bare);
    p->shipped = bare;
    fold_layout(&bare, (struct slice){1, 1, 0, p->model.n_layers}, &p->shipped_fold, ck);
}

static void fold_whole(struct problem *p, const struct problem *base, bool same, struct ck *ck)
{
    if (!same)
        count_layers(p, ck);
    p->weights_bytes =
        p->model.weights_bytes ? p->model.weights_bytes : p->whole_work.weights_bytes;
    fold_layout(&p->layout, (struct slice){1, 1, 0, p->model.n_layers}, &p->whole, ck);
    if (!base)
        fold_shipped(p, ck);
}

static bool same_parallel(struct parallel a, struct parallel b)
{
    return a.tp == b.tp && a.pp == b.pp && a.ep == b.ep && a.cp == b.cp;
}

bool problem_fold(struct problem *p, const struct problem *base, struct diag *d)
{
    struct ck ck = {0};
    bool ok = true, same, alike;

    p->owns_kv = ARENA_NEW(p->arena, bool, p->model.n_layers);
    for (uint32_t i = 0; i < p->model.n_layers; i++)
        p->owns_kv[i] = layout_owns_kv(&p->layout, i);
    same = base && same_layers(p, base);
    fold_whole(p, base, same, &ck);
    p->host_layers = p->spec->weights.offload_layers;
    if (p->engine->host_layers)
        p->host_layers =
            u64_max(p->host_layers, p->engine->host_layers(&p->settings, &p->model));
    p->n_stages = p->parallel.pp;
    p->stages = ARENA_NEW(p->arena, struct stage, p->n_stages);
    alike = same && same_parallel(p->parallel, base->parallel) &&
            p->host_layers == base->host_layers &&
            p->model.weights_bytes == base->model.weights_bytes;
    for (uint32_t i = 0; i < p->n_stages; i++)
        ok = build_stage(p, i, alike ? &base->stages[i] : NULL, d, &ck) && ok;
    if (ck.over)
        return diag_add(d, DIAG_INPUT, p->spec->at, "sizes overflow 64 bits");
    if (ok && p->engine->reserve)
        reserve_settle(p);
    warn_split_groups(p, d);
    return ok;
}
