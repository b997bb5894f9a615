/* validate_decoder: the decoder against a plain one in double precision, for every way in which
 * layers share, keep and store K/V; its memory and the bytes it reads and writes against the
 * planner's figures; what it refuses; and out of memory at each of its allocations. */
#include "tests/kvfollow.h"

#define STATE "hidden_size: 64, intermediate_size: 96, vocab_size: 96, mixer: none, "

static void plain(void **state)
{
    static const struct kd_rule none;

    right(*state, GQA, none, 0);
    right(*state,
          "model: {layers: 2, qk_norm: head, attention_bias: qkv, tied_embeddings: true, " MODEL
          "}\n" REST "engine: {block_tokens: 16}\n",
          none, 0);
}

static void chunked(void **state)
{
    static const struct kd_rule none;

    right(*state, GQA, none, 8);
    right(*state, GQA, none, 36);
}

static void shared(void **state)
{
    static const struct kd_rule none;

    right(*state,
          "model: {layers: 4, " MODEL "}\n" REST "cache: {sharing: {scheme: cla, factor: 2}}\n",
          none, 0);
    right(
        *state,
        "model: {layers: 4, " MODEL "}\n" REST
        "cache: {sharing: {scheme: lckv, warmup: 2, forward_passes: 2, backward_passes: 1}}\n",
        none, 0);
    right(*state,
          "model: {layers: 4, " MODEL "}\n" REST
          "cache: {sharing: {map: [2, 2, 4, 4], forward_passes: 1, backward_passes: 1}}\n",
          none, 0);
}

/* Only the last token of a prompt goes beyond the layer that the upper half reads. */
static void leaving(void **state)
{
    static const struct kd_rule none;

    right(
        *state,
        "model: {layers: 4, hidden_size: 64, intermediate_size: 96, vocab_size: 96, heads: 4, "
        "head_dim: 16}\n" REST
        "cache: {sharing: {scheme: yoco, self_decoder: sliding_window, window: 9}}\n",
        none, 0);
}

static void windowed(void **state)
{
    static const struct kd_rule none;

    right(*state, "model: {layers: 3, window: 12, " MODEL "}\n" REST, none, 0);
    right(*state,
          "model: {layers: 4, layer_types: [wide, near, wide, near], layer_kinds: {near: "
          "{window: 9, mixer: sliding}, wide: {mixer: full}}, " MODEL "}\n" REST,
          none, 0);
}

static void stored(void **state)
{
    static const struct kd_rule fp8 = {.format = KD_FP8}, int8 = {.format = KD_INT8};

    right(*state, GQA "cache: {format: fp8_e4m3}\n", fp8, 0);
    right(*state, GQA "cache: {format: int8}\n", int8, 0);
}

static void evicted(void **state)
{
    static const struct kd_rule l2norm = {.drop = KD_L2NORM, .keep = 19};
    static const struct kd_rule snapkv = {.drop = KD_SNAPKV, .keep = 20, .window = 6};
    static const struct kd_rule adakv = {.drop = KD_ADAKV, .keep = 20, .window = 6};
    static const struct kd_rule streaming = {
        .drop = KD_STREAMING, .keep = 16, .sinks = 3, .recent = 13};

    right(*state,
          GQA "cache: {eviction: {scheme: l2norm, keep_ratio: 0.5, prune_after: 0, "
              "skip_layers: []}}\n",
          l2norm, 0);
    right(*state,
          GQA "cache: {eviction: {scheme: snapkv, capacity: 20, window: 6, layout: kv_head}}\n",
          snapkv, 0);
    right(*state,
          GQA "cache: {eviction: {scheme: adakv, capacity: 20, window: 6, layout: kv_head}}\n",
          adakv, 0);
    right(*state, GQA "cache: {eviction: {scheme: streamingllm, sinks: 3, recent: 13}}\n",
          streaming, 0);
    right(*state,
          "model: {layers: 4, " MODEL "}\n" REST
          "cache: {eviction: {scheme: streamingllm, sinks: 3, recent: 13}, sharing: {scheme: "
          "lckv, warmup: 2, forward_passes: 1, backward_passes: 1}}\n",
          streaming, 0);
}

/* Every token takes every expert, so that the draw does not matter. */
static void mixture(void **state)
{
    static const struct kd_rule none;

    right(*state,
          "model: {layers: 2, hidden_size: 64, moe: {experts: 3, top_k: 3, intermediate_size: "
          "32}, " HEAD "}\n" REST,
          none, 0);
}

/* --- the planner's figures ------------------------------------------------------------------
 */

struct watched {
    struct device *d;
    uint64_t read, written; /* K, V and states, each op for itself */
    uint64_t weights;
    double flop[N_OPS]; /* useful */
    uint32_t n_layers;
};

static void watch(void *user, const struct decoder_event *e)
{
    struct watched *w = user;
    struct tally t;

    assert_int_equal(device_tally(w->d, &t), DEVICE_OK);
    device_tally_reset(w->d);
    if (e->op == OP_SCORES)
        w->read += t.unique_read_bytes[TAG_K] + t.unique_read_bytes[TAG_V];
    if (e->op == OP_OTHER && e->layer < w->n_layers)
        w->written += t.unique_written_bytes[TAG_K] + t.unique_written_bytes[TAG_V];
    w->read += t.unique_read_bytes[TAG_STATE];
    w->written += t.unique_written_bytes[TAG_STATE];
    w->flop[e->op] += (double)t.issued.useful_flop;
    if (e->op != OP_OTHER) /* embeddings are gathered, which is not counted */
        w->weights += t.unique_read_bytes[TAG_WEIGHTS];
}

/* FLOPs of products and of attention, of `n` prompts or steps. upward: the first run over a
 * slice sees less than the others, which the planner does not tell apart. */
static void same_flop(const struct watched *w, const struct op_tally *want, bool upward)
{
    static const enum op ops[] = {OP_QKV, OP_OUT, OP_MLP, OP_HEAD, OP_STATE};

    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (want->flop[ops[i]] > 0 || w->flop[ops[i]] > 0)
            kt_rel(w->flop[ops[i]], want->flop[ops[i]], 1e-12);
    if (!upward)
        kt_rel(w->flop[OP_SCORES], want->flop[OP_SCORES] + want->flop[OP_VALUES], 1e-12);
}

/* In a decode step: K/V and states read and written, and weights; in memory: weights and cache.
 */
static void as_planned(struct kk *k, const char *yaml)
{
    struct fixture f;
    struct ck ck = {0};
    struct decoder_memory m;
    uint64_t weights = 0, cache;

    open_it(k, yaml, setting(k), &f);
    const struct stage *stage = &f.p->problem.stages[0];
    for (int op = 0; op < N_OPS; op++)
        weights += stage->work.read_bytes[op];
    struct watched prefill = {.d = k->d, .n_layers = f.p->problem.model.n_layers};
    struct op_tally plan = {{0}, {0}};
    device_tally_reset(k->d);
    decoder_watch(f.x, watch, &prefill);
    kk_ok(k, decoder_prefill(f.x));
    work_prefill(&stage->work, &stage->fold, PROMPT, 2, 0, &plan);
    same_flop(&prefill, &plan, stage->work.upward);
    for (uint32_t step = 0; step < OUTPUT; step++) {
        struct watched w = {.d = k->d, .n_layers = f.p->problem.model.n_layers};
        plan = (struct op_tally){{0}, {0}};
        device_tally_reset(k->d);
        decoder_watch(f.x, watch, &w);
        kk_ok(k, decoder_decode(f.x, 1));
        work_decode(&stage->work, &stage->fold, PROMPT, step, 2, &plan);
        same_flop(&w, &plan, false);
        kt_u64(w.read, 2 * fold_decode_read_bytes(&stage->fold, PROMPT, step, &ck));
        kt_u64(w.written, 2 * fold_decode_write_bytes(&stage->fold, &ck));
        kt_u64(w.weights, weights);
    }
    decoder_get_memory(f.x, &m);
    cache = 2 * fold_highest_bytes(&stage->fold, PROMPT, OUTPUT, 1, &ck);
    kt_u64(m.cache_bytes - m.cache_gap_bytes, cache);
    kt_u64(m.weights_bytes - m.gap_bytes, stage->work.weights_bytes);
    kt_u64(m.total_bytes, device_used_bytes(k->d));
    close_it(&f);
}

static void planned(void **state)
{
    as_planned(*state, GQA);
    as_planned(*state, "model: {layers: 4, " MODEL "}\n" REST
                       "cache: {sharing: {scheme: cla, factor: 2}, format: fp8_e4m3}\n");
    as_planned(*state, "model: {layers: 4, " MODEL "}\n" REST
                       "cache: {sharing: {scheme: lckv, warmup: 2, forward_passes: 2}}\n");
    as_planned(*state, "model: {layers: 4, " MODEL "}\n" REST
                       "cache: {sharing: {scheme: yoco, self_decoder: sliding_window, window: "
                       "9}}\n");
    as_planned(*state, "model: {layers: 3, window: 12, " MODEL "}\n" REST);
    as_planned(*state, "model: {layers: 3, norm: layer, sinks: true, head_gate: true, "
                       "matrix_params: 128, mixer: chunked, window: 16, " MODEL "}\n" REST);
    as_planned(*state, "model: {layers: 3, norm: layer, final_norms: 0, embed_width: 32, "
                       "position_rows: 64, head_bias: true, " MODEL "}\n" REST);
    as_planned(*state,
               "model: {layers: 4, norms_per_layer: 8, per_layer_embedding_params: 6144, "
               "extra_vector_params: 16, extra_matrix_params: 8192, matrix_params: 2688, "
               "vector_params: 8, keeps_unused_kv: true, kv_sources: [1, 2, 2, 2], " MODEL
               "}\n" REST);
    as_planned(*state, "model: {layers: 4, " MODEL "}\n" REST "cache: {sharing: yoco}\n");
    as_planned(*state,
               "model: {layers: 2, " MODEL
               ", ssm: {kind: mamba2, heads: 4, head_dim: 24, state_dim: 64, groups: 1, "
               "conv_kernel: 2}}\n" REST);
    as_planned(*state, "model: {layers: 2, " STATE
                       "ssm: {kind: mamba1, inner: 72, state_dim: 16, conv_kernel: 3, dt_rank: "
                       "16, dtbc_norm: true, fp32_state: true}}\n" REST);
    as_planned(*state,
               "model: {layers: 3, layer_types: [g, full, g], layer_kinds: {g: {mixer: none, "
               "ssm: {kind: gdn, conv_kernel: 4, k_heads: 2, k_dim: 32, v_heads: 4, v_dim: "
               "24}}}, " MODEL "}\nhardware: {memory: 1GiB, count: 2}\nparallel: {tp: 2}\n");
    as_planned(*state, GQA "cache: {format: int8_per_token_head}\n");
    as_planned(*state, GQA "cache: {format: {scheme: int4, group: 16}}\n");
    as_planned(*state, GQA "cache: {eviction: {scheme: snapkv, capacity: 20, window: 6}}\n");
    as_planned(*state, GQA "cache: {eviction: {scheme: pyramidkv, capacity: 20, window: 6, "
                           "layout: kv_head}}\n");
}

static void all_numbers(const struct fixture *f)
{
    uint64_t n = (uint64_t)f->sequences * f->p->problem.model.vocab;
    float *logits = ARENA_NEW(f->k->a, float, n);

    kk_ok(f->k, decoder_logits(f->x, logits));
    for (uint64_t j = 0; j < n; j++)
        assert_true(isfinite(logits[j]) && fabsf(logits[j]) < 20);
}

/* Rules that act in every step, and formats with a tail: what a step reads is what the planner
 * says, whatever moves besides. */
static void in_every_step(void **state)
{
    static const char *const specs[] = {
        GQA "cache: {eviction: {scheme: h2o, heavy: 10, recent: 8, layout: kv_head}}\n",
        GQA "cache: {eviction: {scheme: h2o, heavy: 30, recent: 10, layout: kv_head}}\n",
        GQA "cache: {eviction: {scheme: tova, capacity: 20}}\n",
        GQA "cache: {eviction: {scheme: l2norm, keep_ratio: 0.7, prune_after: 30, schedule: "
            "every_step}}\n",
        GQA "cache: {format: {scheme: kivi4, group: 16, residual: 16}}\n",
        GQA "cache: {format: {scheme: kivi2, group: 16, residual: 16}, eviction: {scheme: "
            "snapkv, capacity: 20, window: 6, layout: kv_head}}\n",
        "model: {layers: 4, " MODEL "}\n" REST
        "cache: {eviction: {scheme: tova, capacity: 20}, sharing: {scheme: cla, factor: 2}}\n"};
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct fixture f;
        struct ck ck = {0};
        open_it(k, specs[i], setting(k), &f);
        kk_ok(k, decoder_prefill(f.x));
        for (uint32_t step = 0; step < OUTPUT; step++) {
            struct watched w = {.d = k->d, .n_layers = f.p->problem.model.n_layers};
            device_tally_reset(k->d);
            decoder_watch(f.x, watch, &w);
            kk_ok(k, decoder_decode(f.x, 1));
            kt_u64(w.read,
                   2 * fold_decode_read_bytes(&f.p->problem.stages[0].fold, PROMPT, step, &ck));
        }
        all_numbers(&f);
        close_it(&f);
    }
}

/* What the reference does not have: it runs, and all logits are numbers. Poisoned memory would
 * show. */
static void runs(void **state)
{
    static const char *const specs[] = {
        "model: {layers: 2, mlp: plain, mlp_bias: true, qk_norm: full, norms_per_layer: 4, "
        "attention_bias: qkvo, " MODEL "}\n" REST,
        "model: {layers: 2, hidden_size: 64, moe: {experts: 5, top_k: 2, intermediate_size: 32, "
        "shared_intermediate_size: 40, shared_gate: true}, " HEAD "}\n" REST,
        "model: {layers: 2, " MODEL
        "}\nhardware: {memory: 1GiB, count: 2}\nparallel: {tp: 2}\n",
        GQA "cache: {format: fp16}\n",
        GQA "cache: {eviction: {scheme: adakv, capacity: 20, window: 6, layout: kv_head}}\n",
        GQA "cache: {eviction: {scheme: adakv, capacity: 20, window: 6}, format: fp8_e4m3}\n"
            "engine: {block_tokens: 8}\n",
        GQA "cache: {eviction: {scheme: snapkv, compression_ratio: 0.9, layout: kv_head}}\n",
        GQA "cache: {eviction: {scheme: streamingllm, compression_ratio: 0.95, layout: "
            "kv_head}}\n",
        GQA "cache: {eviction: {scheme: adakv, capacity: 60, window: 6}}\n",
        "model: {layers: 4, " MODEL "}\n" REST
        "cache: {sharing: {scheme: cla, factor: 2}, eviction: {scheme: adakv, capacity: 20, window: 6}}\n",
        "model: {layers: 4, " MODEL "}\n" REST
        "cache: {sharing: {scheme: cla, factor: 2}, eviction: {scheme: snapkv, capacity: 20, "
        "window: 6}, format: {scheme: int4, group: 16}}\n",
        "model: {layers: 4, " MODEL "}\n" REST
        "cache: {sharing: {scheme: yoco, self_decoder: sliding_window, window: 9}}\n",
        "model: {layers: 4, " MODEL "}\n" REST
        "cache: {sharing: {scheme: lasagna-top, kv_layers: "
        "2}, format: {scheme: kivi4, group: 16, residual: 16}}\n",
    };
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct fixture f;
        open_it(k, specs[i], setting(k), &f);
        kk_ok(k, decoder_prefill(f.x));
        kk_ok(k, decoder_decode(f.x, OUTPUT));
        all_numbers(&f);
        close_it(&f);
    }
}

/* A second prefill starts over, with the same result. */
static void again(void **state)
{
    struct kk *k = *state;
    struct fixture f;
    float logits[2][2 * 96];

    open_it(k, GQA "cache: {eviction: {scheme: h2o, heavy: 10, recent: 8, layout: kv_head}}\n",
            setting(k), &f);
    for (int i = 0; i < 2; i++) {
        kk_ok(k, decoder_prefill(f.x));
        kk_ok(k, decoder_decode(f.x, OUTPUT));
        kk_ok(k, decoder_logits(f.x, logits[i]));
    }
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
    close_it(&f);
}

/* --- refusals and failures ------------------------------------------------------------------
 */

static void refused(void **state)
{
    static const struct {
        const char *yaml, *why;
    } cases[] = {
        {GQA "weights: {offload_layers: 1}\n", "nothing is offloaded to host memory here"},
        {"model: {layers: 4, " MODEL
         "}\nhardware: {memory: 1GiB, count: 2}\nparallel: {pp: 2}\n",
         "one rank of tensor parallelism is run, no pipeline, context or expert split"},
        {GQA "cache: {eviction: {scheme: think, ratio: 0.5, recent: 8}}\n",
         "no kernel reads keys of two widths"},
        {GQA "cache: {eviction: {scheme: quest, page: 8, budget: 16}, format: {scheme: kivi4, "
             "group: 16, residual: 16}}\n",
         "pages of KIVI cannot be picked, its groups of tokens share scales"},
        {"model: {layers: 4, window: 12, " MODEL "}\n" REST
         "cache: {eviction: {scheme: quest, page: 4, budget: 8}}\n",
         "pages of a sliding window are not picked"},
        {"model: {layers: 4, window: 12, " MODEL "}\n" REST
         "cache: {eviction: {scheme: adakv, capacity: 9, window: 3}}\n",
         "heads that keep different numbers of rows of a sliding window are not run"},
        {"model: {layers: 4, window: 12, " MODEL "}\n" REST
         "cache: {eviction: {scheme: decoding-press, interval: 2, target: 9}}\n",
         "a rule that cuts now and then, on top of a sliding window, is not run"},
        {"model: {layers: 4, window: 12, " MODEL "}\n" REST
         "cache: {format: {scheme: kivi4, group: 16, residual: 16}}\n",
         "no kernel keeps a window of KIVI"},
        {"model: {layers: 4, hidden_size: 64, intermediate_size: 96, vocab_size: 96, heads: 8, "
         "kv_heads: 4, head_dim: 16}\nhardware: {memory: 1GiB, count: 2}\nparallel: {tp: 2}\n"
         "cache: {eviction: {scheme: duoattention, full_heads: 4, sinks: 2, recent: 9}}\n",
         "tensor parallelism does not divide these groups of heads"},
        {GQA "cache: {format: q8_0}\n", "no kernel has this storage format"},
        {GQA "cache: {k: fp16, v: fp8_e4m3}\n", "fp16 is for K and V together"},
        {"model: {layers: 4, " MODEL "}\n" REST
         "cache: {eviction: {scheme: tova, capacity: 9}, sharing: {scheme: lckv, warmup: 2}}\n",
         "a rule that ranks the newest row, which a masked diagonal hides, is not run"},
        {"model: {layers: 4, " MODEL "}\n" REST
         "cache: {eviction: {scheme: h2o, heavy: 9, recent: 0}, sharing: {scheme: lckv, warmup: "
         "2}}\n",
         "a rule that ranks the newest row, which a masked diagonal hides, is not run"},
        {"model: {layers: 4, output_gate: true, v_head_dim: 32, " MODEL "}\n" REST,
         "gates and shared projections are for K and V of one width"},
        {"model: {layers: 4, output_gate: true, head_gate: true, " MODEL "}\n" REST,
         "attention has one gate"},
        {"model: {layers: 2, hidden_size: 64, intermediate_size: 96, vocab_size: 96, heads: 8}\n" REST,
         "heads of at least 16 elements, query heads a multiple of K/V heads"},
        {"model: {layers: 5, layer_types: [a, b, c, d, e], layer_kinds: {a: {head_dim: 16}, b: {head_dim: 32}, c: {head_dim: 48}, d: {head_dim: 64}, e: {head_dim: 80}}, " MODEL
         "}\n" REST,
         "heads of more than four sizes are not run"},
        {"model: {layers: 2, layer_types: [a, b], layer_kinds: {a: {mixer: sliding, window: 9}, b: {mixer: sliding, window: 5}}, " MODEL
         "}\n" REST "cache: {sharing: {map: [1, 1]}}\n",
         "layers with other windows than their source's are not run"},
        {"model: {layers: 2, layer_types: [a, b], layer_kinds: {a: {mixer: full}, b: {mixer: sliding, window: 5}}, " MODEL
         "}\n" REST
         "cache: {sharing: {map: [1, 1]}, eviction: {scheme: h2o, heavy: 9, recent: 3}}\n",
         "a window over rows that a rule has put out of order is not run"},
        {"model: {layers: 2, force_no_diagonal: true, window: 9, " MODEL "}\n" REST
         "cache: {sharing: {map: [1, 1]}}\n",
         "a window under a masked diagonal needs a row more than its tokens"},
        {"model: {layers: 2, hidden_size: 64, layer_types: [a, b], layer_kinds: {a: {moe: {experts: 4, top_k: 2, intermediate_size: 32}}, b: {moe: {experts: 8, top_k: 2, intermediate_size: 32}}}, " HEAD
         "}\n" REST,
         "layers with other numbers of experts are not run"},
        {"model: {layers: 4, alibi: true, window: 9, " MODEL "}\n" REST,
         "slopes along rows that do not stand in the order of their tokens are not run"},
        {"model: {layers: 4, alibi: true, " MODEL "}\n" REST
         "cache: {eviction: {scheme: streamingllm, sinks: 2, recent: 9}}\n",
         "slopes along rows that do not stand in the order of their tokens are not run"},
        {"model: {layers: 4, alibi: true, " MODEL "}\n" REST
         "cache: {eviction: {scheme: quest, page: 8, budget: 16}}\n",
         "slopes along pages that were picked are not run"},
        {"model: {layers: 4, mixer: chunked, window: 16, " MODEL "}\n" REST
         "cache: {eviction: {scheme: snapkv, capacity: 9, window: 3}}\n",
         "a retention rule on top of attention in chunks is not run"},
        {"model: {layers: 4, norms_per_layer: 3, " MODEL "}\n" REST,
         "no rule says where so many norms of a block stand"},
        {"model: {layers: 4, final_norms: 2, " MODEL "}\n" REST, "one norm at the end"},
        {"model: {layers: 4, final_norms: 0, norms_per_layer: 4, " MODEL "}\n" REST,
         "without a norm at the end, blocks have two norms or none"},
        {"model: {layers: 4, per_layer_embedding_params: 64, " MODEL "}\n" REST,
         "embeddings of every layer have a norm and projections of one width"},
        {"model: {layers: 4, norms_per_layer: 5, " MODEL "}\n" REST,
         "no rule says where so many norms of a block stand"},
        {"model: {layers: 4, extra_vector_params: 63, " MODEL "}\n" REST,
         "the model has weights outside of its layers that no kernel uses"},
        {"model: {layers: 4, extra_matrix_params: 63, " MODEL "}\n" REST,
         "the model has weights outside of its layers that no kernel uses"},
        {"model: {layers: 4, vector_params: 7, " MODEL "}\n" REST,
         "the model has weights in its layers that no kernel uses"},
        {"model: {layers: 4, matrix_params: 7, " MODEL "}\n" REST,
         "the model has weights in its layers that no kernel uses"},
        {"model: {layers: 2, hidden_size: 68, intermediate_size: 96, vocab_size: 98, heads: 4}\n" REST,
         "hidden a multiple of 8, the vocabulary at most 2^24"},
        {"model: {layers: 2, hidden_size: 64, intermediate_size: 100, vocab_size: 96, heads: 4}\n" REST,
         "MLPs have a multiple of 8 channels on each rank"},
        {"model: {layers: 2, hidden_size: 64, intermediate_size: 104, vocab_size: 96, heads: 4}\n"
         "hardware: {memory: 1GiB, count: 2}\nparallel: {tp: 2}\n",
         "MLPs have a multiple of 8 channels on each rank"},
        {"model: {layers: 2, hidden_size: 64, moe: {experts: 4, top_k: 2, intermediate_size: 32, router_extra_params: 9}, " HEAD
         "}\n" REST,
         "routers have a bias, or scales of the stream and of each expert"},
        {"model: {layers: 2, hidden_size: 64, intermediate_size: 32, moe: {experts: 4, top_k: 2, intermediate_size: 32, latent: 32, beside_dense: true}, " HEAD
         "}\n" REST,
         "an MLP beside experts with a latent is not run"},
        {"model: {layers: 2, hidden_size: 64, norms_per_layer: 1, intermediate_size: 32, moe: {experts: 4, top_k: 2, intermediate_size: 32, beside_dense: true}, " HEAD
         "}\n" REST,
         "blocks of one norm have an MLP or experts of the hidden size"},
        {"model: {layers: 2, hidden_size: 64, moe: {experts: 4, top_k: 2, intermediate_size: 32, latent: 28}, " HEAD
         "}\n" REST,
         "latents have a multiple of 8 elements"},
    };
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kp *p = kp_build(cases[i].yaml);
        struct decoder_setting s = setting(k);
        struct device_text why;
        struct decoder *x;
        assert_false(decoder_supports(&p->problem, &why));
        kt_same(why.text, cases[i].why);
        kk_unsupported(k, decoder_open(k->d, &p->problem, &s, &x), cases[i].why);
        assert_null(x);
        kp_free(p);
    }
}

/* A scheme that drops rows and for which no rule is known here. */
static void unknown(void **state)
{
    struct kp *p = kp_build(GQA "cache: {eviction: {scheme: knorm}}\n");
    struct device_text why;

    (void)state;
    p->problem.uses[0].name = "another";
    assert_false(decoder_supports(&p->problem, &why));
    kt_same(why.text, "no kernels run this retention scheme");
    kp_free(p);
}

static void settings(void **state)
{
    static const char why[] = "1 to 65535 sequences of at least one token and less than 2^31";
    struct kk *k = *state;
    struct kp *p = kp_build(GQA);
    struct decoder *x;

    for (int i = 0; i < 3; i++) {
        struct decoder_setting s = setting(k);
        if (i == 0)
            s.sequences = 0;
        else if (i == 1)
            s.sequences = 65536;
        else
            s.prompt = 0;
        kk_unsupported(k, decoder_open(k->d, &p->problem, &s, &x), why);
    }
    kp_free(p);
    p = kp_build("model: {layers: 2, position_rows: 40, " MODEL "}\n" REST);
    struct decoder_setting s = setting(k);
    kk_unsupported(k, decoder_open(k->d, &p->problem, &s, &x),
                   "more tokens than the model has learned positions for");
    kp_free(p);
    p = kp_build(GQA "cache: {eviction: {scheme: chunkkv, chunk: 20}}\n");
    kk_unsupported(k,
                   decoder_open(k->d, &p->problem,
                                &(struct decoder_setting){.sequences = 1, .prompt = 37}, &x),
                   "the last chunk of this prompt is cut short; the planner takes a whole one");
    kp_free(p);
}

static void out_of_place(void **state)
{
    struct kk *k = *state;
    struct fixture f;

    open_it(k, GQA, setting(k), &f);
    kk_refused(k, decoder_decode(f.x, 1), "decode: no prompts yet, 1 tokens asked");
    kk_ok(k, decoder_prefill(f.x));
    kk_refused(k, decoder_decode(f.x, OUTPUT + 1), "decode: no room for 5 more tokens");
    close_it(&f);
}

/* The need is what is taken, to the byte; with one byte less it does not open, and nothing
 * stays behind. */
static void fits(void **state)
{
    struct kp *p = kp_build(GQA);
    struct decoder_setting s = setting(*state);
    struct decoder_memory need;
    struct device_text why;

    assert_true(decoder_need(&p->problem, &s, &need, &why));
    for (int less = 0; less < 8; less++) {
        struct device_options o = {.limit_bytes =
                                       need.total_bytes - (uint64_t)(less * less) * 977};
        struct device *d;
        struct decoder *x;
        assert_int_equal(device_open("cpu", &o, &d, &why), DEVICE_OK);
        assert_int_equal(decoder_open(d, &p->problem, &s, &x),
                         less ? DEVICE_OUT_OF_MEMORY : DEVICE_OK);
        decoder_close(x);
        kt_u64(device_used_bytes(d), 0);
        device_close(d);
    }
    kp_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(plain),      kk_test(chunked),       kk_test(shared),  kk_test(windowed),
        kk_test(leaving),    kk_test(stored),        kk_test(evicted), kk_test(mixture),
        kk_test(planned),    kk_test(in_every_step), kk_test(runs),    kk_test(again),
        kk_reversed(shared), kk_reversed(evicted),   kk_test(refused), kk_test(unknown),
        kk_test(settings),   kk_test(out_of_place),  kk_test(fits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
