/* A decoder's life: memory and weights, prompts, steps, and what tests ask of it. */
#include "validate/decoder.h"

#include <stdio.h>
#include <string.h>

#include "kernels/gemm.h"
#include "kernels/rows.h"
#include "validate/decoder_in.h"

enum { UNIT_BYTES = 256 };

void decoder_watch(struct decoder *x, decoder_watch_fn fn, void *user)
{
    x->watch = fn;
    x->watch_user = user;
}

void decoder_tell(struct decoder *x, enum op op, uint32_t layer, bool prefill)
{
    struct decoder_event e = {op, layer, prefill};

    if (x->watch)
        x->watch(x->watch_user, &e);
    x->cut.lists = 0;
}

/* --- opening --------------------------------------------------------------------------------
 */

bool decoder_supports(const struct problem *p, struct device_text *why)
{
    struct arena *a = arena_new();
    const char *bad = shape_refuses(a, p);

    snprintf(why->text, sizeof why->text, "%s", bad ? bad : "");
    arena_free(a);
    return !bad;
}

/* A decoder without a device: its shape and the list of its memory. */
static struct decoder *sketch(const struct problem *p, const struct decoder_setting *set,
                              const struct device_info *info, uint64_t gemm_bytes,
                              const char **why)
{
    struct arena *a = arena_new();
    struct decoder *x = ARENA_NEW(a, struct decoder, 1);

    x->arena = a;
    x->info = *info;
    x->gemm_bytes = gemm_bytes;
    x->rng.s = set->seed;
    if (shape_build(a, p, set, &x->s, why)) {
        const struct shape *s = &x->s;
        x->stores = ARENA_NEW(a, struct decoder_store, s->n_stores + 1);
        x->slots = ARENA_NEW(a, void *, s->n_layers + 1);
        x->layers = ARENA_NEW(a, struct decoder_weights, s->n_layers + 1);
        x->scratch = ARENA_NEW(a, void *, 2 * (size_t)s->scratches + 1);
        x->blocks = ARENA_NEW(a, struct decoder_block, decoder_blocks_room(s));
        x->n_blocks = decoder_list(x, x->blocks);
        *why = x->n_blocks ? NULL : "its memory is larger than 64 bits can say";
    }
    return x;
}

static void sum_blocks(struct decoder *x)
{
    for (uint32_t i = 0; i < x->n_blocks; i++) {
        uint64_t bytes = ck_ceil_div(x->blocks[i].bytes, UNIT_BYTES) * UNIT_BYTES;
        *x->blocks[i].term += bytes;
        if (x->blocks[i].term == &x->memory.cache_bytes)
            x->memory.cache_gap_bytes += bytes - x->blocks[i].bytes;
        x->memory.total_bytes += bytes;
    }
    x->memory.gap_bytes = x->memory.weights_bytes - (x->s.weights_bytes - x->s.gap_bytes);
}

bool decoder_need(const struct problem *p, const struct decoder_setting *s,
                  struct decoder_memory *out, struct device_text *why)
{
    struct device_info info = {.is_cpu = true, .multiprocessors = 1};
    const char *bad = NULL;
    struct decoder *x = sketch(p, s, &info, 0, &bad);

    *out = (struct decoder_memory){0};
    snprintf(why->text, sizeof why->text, "%s", bad ? bad : "");
    if (!bad) {
        sum_blocks(x);
        *out = x->memory;
    }
    arena_free(x->arena);
    return !bad;
}

static enum device_status allocate(struct decoder *x)
{
    enum device_status s = DEVICE_OK;

    for (uint32_t i = 0; i < x->n_blocks; i++)
        *x->blocks[i].at = NULL;
    for (uint32_t i = 0; i < x->n_blocks && s == DEVICE_OK; i++)
        s = device_alloc(x->d, x->blocks[i].bytes, x->blocks[i].tag, x->blocks[i].at);
    for (uint32_t k = 0; k < x->s.n_stores && s == DEVICE_OK; k++) {
        const struct shape_store *t = &x->s.stores[k];
        struct decoder_store *y = &x->stores[k];
        if (t->scratch) {
            y->k_scratch = x->scratch[2 * t->scratch_slot];
            y->v_scratch = x->scratch[2 * t->scratch_slot + 1];
        }
    }
    return s;
}

/* Codes and scales of each copy. */
static enum device_status fill_stored(struct decoder *x, const struct shape_tensor *t,
                                      uint64_t seed)
{
    struct weight_fill_args a = {.w = t->view, .fp16 = x->s.fp16};
    struct rng rng = {seed};
    enum device_status s = DEVICE_OK;

    for (uint64_t i = 0; i < t->t.copies && s == DEVICE_OK; i++) {
        weight_place(&a.w, x->weights + t->at + i * t->stride);
        a.seed = rng_next(&rng);
        s = weight_fill_run(x->d, &a);
    }
    return s;
}

/* Even numbers of variance 1 / in, so that activations stay about 1; of short convolutions, of
 * variance 1 / 4. */
static enum device_status fill_tensor(struct decoder *x, const struct shape_tensor *t,
                                      uint64_t seed)
{
    uint64_t n = t->t.out * t->t.in * t->t.copies;
    bool recurs = t->t.part == PART_STATE, embedding = t->t.part == PART_EMBED;
    bool norm = t->t.part == PART_NORM || (recurs && strstr(t->t.name, "norm"));
    bool filter = recurs && t->t.vector && strstr(t->t.name, "conv");
    double spread = filter ? 1.7321 : norm || t->t.vector ? 0.2 : embedding ? 3.4641 : 0;
    struct noise_args a = {.out = x->weights + t->at,
                           .count = (n + 7) / 8 * 8,
                           .seed = seed,
                           .mean = norm ? 1 : 0,
                           .spread = (float)spread,
                           .fp16 = x->s.fp16,
                           .wide = t->wide,
                           .tag = TAG_WEIGHTS};

    if (t->stored && !(embedding && t->wide))
        return fill_stored(x, t, seed);
    if (spread == 0)
        a.spread = (float)(3.4641 / __builtin_sqrt((double)t->t.in));
    return noise_run(x->d, &a);
}

static enum device_status fill_weights(struct decoder *x)
{
    struct rng rng = {x->s.set.seed ^ UINT64_C(0x6b76627564676574)};
    enum device_status s = DEVICE_OK;

    for (size_t i = 0; i < x->s.n_tensors && s == DEVICE_OK; i++) {
        uint64_t seed = rng_next(&rng);
        if (!x->s.tensors[i].t.tied)
            s = fill_tensor(x, &x->s.tensors[i], seed);
    }
    return s;
}

static const void *weight(const struct decoder *x, int layer, const char *name)
{
    const struct shape_tensor *t = shape_tensor(&x->s, layer, name);

    return t ? x->weights + t->at : NULL;
}

static void find_outside(struct decoder *x)
{
    x->embed = weight(x, -1, "embed_tokens");
    x->head = weight(x, -1, "lm_head");
    x->final_norm = weight(x, -1, "norm");
    x->positions = weight(x, -1, "embed_positions");
    x->project_in = weight(x, -1, "project_in");
    x->project_out = weight(x, -1, "project_out");
    x->head_bias = weight(x, -1, "lm_head.bias");
    x->other = shape_tensor(&x->s, -1, "other");
    *(x->s.input_width ? &x->input_norm : &x->embed_norm) = weight(x, -1, "scalars");
    x->input_table = weight(x, -1, "embed_tokens_per_layer");
}

static void find_weights(struct decoder *x)
{
    static const struct {
        size_t offset;
        const char *name;
    } names[] = {
        {offsetof(struct decoder_weights, norms), "layernorms"},
        {offsetof(struct decoder_weights, q), "self_attn.q_proj"},
        {offsetof(struct decoder_weights, q_bias), "self_attn.q_proj.bias"},
        {offsetof(struct decoder_weights, q_norm), "self_attn.q_norm"},
        {offsetof(struct decoder_weights, k), "self_attn.k_proj"},
        {offsetof(struct decoder_weights, k_bias), "self_attn.k_proj.bias"},
        {offsetof(struct decoder_weights, k_norm), "self_attn.k_norm"},
        {offsetof(struct decoder_weights, v), "self_attn.v_proj"},
        {offsetof(struct decoder_weights, v_bias), "self_attn.v_proj.bias"},
        {offsetof(struct decoder_weights, o), "self_attn.o_proj"},
        {offsetof(struct decoder_weights, o_bias), "self_attn.o_proj.bias"},
        {offsetof(struct decoder_weights, q_a), "self_attn.q_a_proj"},
        {offsetof(struct decoder_weights, q_a_norm), "self_attn.q_a_layernorm"},
        {offsetof(struct decoder_weights, q_b), "self_attn.q_b_proj"},
        {offsetof(struct decoder_weights, kv_a), "self_attn.kv_a_proj_with_mqa"},
        {offsetof(struct decoder_weights, kv_a_norm), "self_attn.kv_a_layernorm"},
        {offsetof(struct decoder_weights, kv_b), "self_attn.kv_b_proj"},
        {offsetof(struct decoder_weights, index_q), "self_attn.indexer.wq_b"},
        {offsetof(struct decoder_weights, index_k), "self_attn.indexer.wk"},
        {offsetof(struct decoder_weights, index_norm), "self_attn.indexer.k_norm"},
        {offsetof(struct decoder_weights, index_weights), "self_attn.indexer.weights_proj"},
        {offsetof(struct decoder_weights, up_bias), "mlp.up_proj.bias"},
        {offsetof(struct decoder_weights, down), "mlp.down_proj"},
        {offsetof(struct decoder_weights, down_bias), "mlp.down_proj.bias"},
        {offsetof(struct decoder_weights, router), "mlp.gate"},
        {offsetof(struct decoder_weights, gates), "mlp.experts.gate_proj"},
        {offsetof(struct decoder_weights, ups), "mlp.experts.up_proj"},
        {offsetof(struct decoder_weights, downs), "mlp.experts.down_proj"},
        {offsetof(struct decoder_weights, shared_down), "mlp.shared_experts.down_proj"},
        {offsetof(struct decoder_weights, shared_gate), "mlp.shared_expert_gate"},
        {offsetof(struct decoder_weights, sinks), "self_attn.sinks"},
        {offsetof(struct decoder_weights, head_gate), "self_attn.g_proj"},
        {offsetof(struct decoder_weights, router_bias), "mlp.gate.bias"},
        {offsetof(struct decoder_weights, router_scales), "mlp.gate.scales"},
        {offsetof(struct decoder_weights, scalars), "scalars"},
        {offsetof(struct decoder_weights, up_biases), "mlp.experts.gate_up_proj.bias"},
        {offsetof(struct decoder_weights, down_biases), "mlp.experts.down_proj.bias"},
        {offsetof(struct decoder_weights, latent_in), "mlp.fc1_latent_proj"},
        {offsetof(struct decoder_weights, latent_out), "mlp.fc2_latent_proj"},
    };

    for (uint32_t i = 0; i < x->s.n_layers; i++) {
        struct decoder_weights *w = &x->layers[i];
        const struct shape_tensor *up = shape_tensor(&x->s, (int)i, "self_attn.kv_b_proj");
        bool gated = x->s.layers[i].layer.ffn.gated;
        for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
            const void *p = weight(x, (int)i, names[k].name);
            memcpy((char *)w + names[k].offset, &p, sizeof p);
        }
        for (int k = 0; x->s.layers[i].recurs && k < N_MIX_WEIGHTS; k++) {
            const char *name =
                mixer_weight_name(x->s.layers[i].layer.state.kind, (enum mixer_weight)k);
            w->mixer[k] = name ? weight(x, (int)i, name) : NULL;
        }
        w->kv_b_wide = up && up->copy_at ? x->weights + up->copy_at : NULL;
        w->gate_up = weight(x, (int)i, gated ? "mlp.gate_proj" : "mlp.up_proj");
        w->shared_gate_up = weight(
            x, (int)i, gated ? "mlp.shared_experts.gate_proj" : "mlp.shared_experts.up_proj");
    }
    find_outside(x);
}

static enum device_status start(struct decoder *x)
{
    const struct shape *s = &x->s;
    uint64_t lists = (uint64_t)s->heads_max * s->set.sequences;
    enum device_status status = allocate(x);

    if (status != DEVICE_OK)
        return status;
    x->host = ARENA_NEW(x->arena, uint32_t, x->at.n);
    x->lists = ARENA_NEW(x->arena, uint32_t, (lists > s->places ? lists : s->places) + 1);
    x->expert_rows = ARENA_NEW(x->arena, uint32_t, s->experts + 1);
    find_weights(x);
    status = fill_weights(x);
    if (status == DEVICE_OK)
        status = decoder_widen(x);
    if (status == DEVICE_OK && x->picked) /* pages without a score are not not-a-numbers */
        status = device_fill(x->d, x->sums, 0,
                             4 * (uint64_t)s->heads_max * s->set.sequences * s->places);
    if (status == DEVICE_OK)
        status = decoder_fill_tables(x);
    return status == DEVICE_OK ? device_sync(x->d) : status;
}

enum device_status decoder_open(struct device *d, const struct problem *p,
                                const struct decoder_setting *s, struct decoder **out)
{
    struct device_info info;
    const char *bad = NULL;
    enum device_status status = device_get_info(d, &info);
    struct decoder *x;

    *out = NULL;
    if (status != DEVICE_OK)
        return status;
    x = sketch(p, s, &info, gemm_work_bytes(d), &bad);
    if (bad) {
        status = device_refuse(d, DEVICE_UNSUPPORTED, "%s", bad);
        arena_free(x->arena);
        return status;
    }
    x->d = d;
    sum_blocks(x);
    status = start(x);
    if (status == DEVICE_OK)
        *out = x;
    else
        decoder_close(x);
    return status;
}

/* What was not allocated is NULL, which is fine to free. */
void decoder_close(struct decoder *x)
{
    if (!x)
        return;
    for (uint32_t i = 0; i < x->n_blocks; i++)
        (void)device_free(x->d, *x->blocks[i].at);
    arena_free(x->arena);
}

void decoder_get_memory(const struct decoder *x, struct decoder_memory *out)
{
    *out = x->memory;
}
