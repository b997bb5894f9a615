/* The grid of models, schemes and points. */
#include "validate/grid.h"

#include "planner/plan/capacity.h"
#include "validate/timing.h"

#define MLP "intermediate_size: 96"

static const struct grid_shape shapes[] = {
    {"Llama-3.1-8B", 6, 32, MLP},
    {"Llama-3.1-70B", 4, 80, MLP},
    {"Llama-3.2-1B", 16, 16, MLP},
    {"Llama-2-7b-hf", 6, 32, MLP},
    {"TinyLlama-1.1B-Chat-v1.0", 12, 22, MLP},
    {"Qwen2.5-7B-Instruct", 6, 28, MLP},
    {"Qwen3-8B", 6, 36, MLP},
    {"Qwen3-30B-A3B", 4, 48, "moe: {intermediate_size: 16}"},
    {"Mistral-7B-Instruct-v0.3", 6, 32, MLP},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static const struct grid_point points[] = {{1, 512, false},
                                           {1, 4096, false},
                                           {8, 1024, true},
                                           {16, 2048, false}};
enum { N_POINTS = sizeof points / sizeof *points };

static const struct scheme_row {
    const char *name, *cache, *small; /* small: of the CPU form; NULL: the same */
} schemes[] = {
    {"bf16", "format: bf16", NULL},
    {"fp8", "format: fp8_e4m3", NULL},
    {"int8", "format: int8_per_token_head", NULL},
    {"int4", "format: {scheme: int4, group: 32}", NULL},
    {"kivi4", "format: {scheme: kivi4, group: 32, residual: 128}",
     "format: {scheme: kivi4, group: 16, residual: 16}"},
    {"cla", "sharing: {scheme: cla, factor: 2}", NULL},
    {"mlkv", "sharing: {scheme: mlkv, kv_layers: 2}", NULL},
    {"yoco", "sharing: {scheme: yoco, self_decoder: sliding_window, window: 512}",
     "sharing: {scheme: yoco, self_decoder: sliding_window, window: 24}"},
    {"lckv", "sharing: {scheme: lckv, warmup: 2}", NULL},
    {"streamingllm", "eviction: {scheme: streamingllm, sinks: 4, recent: 508}",
     "eviction: {scheme: streamingllm, sinks: 4, recent: 20}"},
    {"l2norm", "eviction: {scheme: l2norm, keep_ratio: 0.5, prune_after: 0}", NULL},
    {"snapkv", "eviction: {scheme: snapkv, capacity: 512, window: 32, layout: kv_head}",
     "eviction: {scheme: snapkv, capacity: 24, window: 8, layout: kv_head}"},
    {"pyramidkv", "eviction: {scheme: pyramidkv, capacity: 512, window: 32, layout: kv_head}",
     "eviction: {scheme: pyramidkv, capacity: 24, window: 8, layout: kv_head}"},
    {"adakv", "eviction: {scheme: adakv, capacity: 512, window: 32, layout: kv_head}",
     "eviction: {scheme: adakv, capacity: 24, window: 8, layout: kv_head}"},
    {"h2o", "eviction: {scheme: h2o, heavy: 256, recent: 256, layout: kv_head}",
     "eviction: {scheme: h2o, heavy: 12, recent: 12, layout: kv_head}"},
};
enum { N_SCHEMES = sizeof schemes / sizeof *schemes };

/* Allocating and filling a decoder. */
#define OPEN_S 0.1

enum { SMALL_LAYERS = 4, FIT_TRIES = 4, SMALL_PROMPT = 40, SMALL_OUTPUT = 8, FIT_GIB = 1 };

const struct grid_shape *grid_shapes(size_t *n)
{
    *n = N_SHAPES;
    return shapes;
}

const struct grid_point *grid_points(size_t *n)
{
    *n = N_POINTS;
    return points;
}

size_t grid_schemes(void)
{
    return N_SCHEMES;
}

/* Schemes change fastest only after the model, so that a run that is broken off has seen whole
 * models. */
static struct matrix_row full_row(struct arena *a, size_t i)
{
    const struct grid_shape *s = &shapes[i / (N_SCHEMES * N_POINTS)];
    const struct scheme_row *c = &schemes[i / N_POINTS % N_SCHEMES];
    const struct grid_point *p = &points[i % N_POINTS];
    const char *cut =
        s->layers < s->whole ? arena_printf(a, " (%u of %u layers)", s->layers, s->whole) : "";

    return (struct matrix_row){
        .name =
            arena_printf(a, "%s%s, %s, %u x %u", s->model, cut, c->name, p->batch, p->prompt),
        .spec = arena_printf(a,
                             "model: {profile: %s, layers: %u}\nhardware: {gpu: local}\n"
                             "cache: {%s}\nworkload: {prompt: %u, output: %u, batch: %u}\n",
                             s->model, s->layers, c->cache, p->prompt, TIMING_OUTPUT, p->batch),
        .levels = 1u << LEVEL_CLOCK | (p->fits ? 1u << LEVEL_FIT : 0),
        .fit_bytes = (uint64_t)FIT_GIB << 30};
}

static struct matrix_row small_row(struct arena *a, size_t i)
{
    const struct grid_shape *s = &shapes[i % N_SHAPES];
    const struct scheme_row *c = &schemes[i];

    return (struct matrix_row){
        .name = arena_printf(a, "%s (%u layers, narrow), %s, %u", s->model, SMALL_LAYERS,
                             c->name, SMALL_PROMPT),
        .spec = arena_printf(a,
                             "model: {profile: %s, layers: %u, hidden_size: 64, vocab_size: "
                             "128, %s}\nhardware: {memory: 1GiB}\ncache: {%s}\n"
                             "workload: {prompt: %u, output: %u}\n",
                             s->model, SMALL_LAYERS, s->narrow, c->small ? c->small : c->cache,
                             SMALL_PROMPT, SMALL_OUTPUT),
        .levels = 1u << LEVEL_COUNT | 1u << LEVEL_FIT | 1u << LEVEL_CLOCK};
}

const struct matrix_row *grid_rows(struct arena *a, bool cpu, size_t *n)
{
    struct matrix_row *out;

    *n = cpu ? N_SCHEMES : (size_t)N_SHAPES * N_SCHEMES * N_POINTS;
    out = ARENA_NEW(a, struct matrix_row, *n);
    for (size_t i = 0; i < *n; i++)
        out[i] = cpu ? small_row(a, i) : full_row(a, i);
    return out;
}

/* One prompt alone, and a step; opening writes weights and cache. */
double grid_seconds(const struct subject *s)
{
    const struct workload *asked = &s->problem->workload;
    const struct stage *stage = &s->problem->stages[0];
    struct workload one = *asked;
    struct plan single, all;
    struct need need;
    struct ck ck = {0};
    double prompts_s, sum;

    one.batch = 1;
    plan_solve(s->problem, &one, &single);
    plan_solve(s->problem, asked, &all);
    prompts_s = single.prefill_s * (double)all.batch;
    sum = OPEN_S + (timing_prompts(prompts_s) + 1) * prompts_s +
          (double)asked->output * all.decode_s;
    if (!(s->levels >> LEVEL_FIT & 1) || s->limit_bytes <= stage->work.weights_bytes)
        return sum;
    capacity_need(s->problem, stage, asked, &need, &ck);
    return sum + FIT_TRIES * OPEN_S +
           single.prefill_s * (double)(s->limit_bytes - stage->work.weights_bytes) /
               (double)u64_max(need.sequence_bytes, 1);
}
