/* The default matrix: small models of each kind, and the schemes laid on one of them. */
#include "validate/matrix.h"

#define SHAPE(heads, kv, dim)                                                                  \
    "hidden_size: 64, intermediate_size: 128, vocab_size: 256, heads: " #heads                 \
    ", kv_heads: " #kv ", head_dim: " #dim
#define LATENT(more)                                                                           \
    "layers: 4, hidden_size: 64, intermediate_size: 128, vocab_size: 256, heads: 4, mla: "     \
    "{kv_lora_rank: 512, nope_dim: 128, rope_dim: 64, v_dim: 128" more "}"
#define MLA LATENT("")
#define SPARSE MLA ", indexer: {heads: 8, dim: 128, top_k: 24}"
#define GQA "layers: 6, " SHAPE(4, 2, 32)
#define ALONE(norms)                                                                           \
    "layers: 2, hidden_size: 64, vocab_size: 256, mixer: none, norms_per_layer: " #norms       \
    ", ssm: {"
#define HYBRID                                                                                 \
    SHAPE(4, 2, 32)                                                                            \
    ", layers: 3, layer_types: [full, s*2], layer_kinds: {s: {mixer: none, ssm: {"
#define STORED(format) "layers: 2, quantization: {format: " format "}, " SHAPE(4, 2, 32)
#define SMALL "layers: 3, " SHAPE(4, 2, 32)
#define BIASED                                                                                 \
    "norm: layer, mlp: plain, mlp_bias: true, attention_bias: qkvo, tied_embeddings: true"
#define MOE "layers: 3, hidden_size: 64, vocab_size: 255, heads: 4, kv_heads: 2, head_dim: 32"

/* NULL: as the model has it. */
static const struct row {
    const char *name, *model, *sharing, *eviction, *format;
} rows[] = {
    {"mha", "layers: 4, " SHAPE(4, 4, 32), NULL, NULL, NULL},
    {"gqa", GQA, NULL, NULL, NULL},
    {"mqa", "layers: 4, " SHAPE(20, 1, 64), NULL, NULL, NULL},
    {"sliding", "layers: 4, window: 24, " SHAPE(4, 2, 64), NULL, NULL, NULL},
    {"mla", MLA, NULL, NULL, NULL},
    {"mla low-rank queries", LATENT(", q_lora_rank: 48"), NULL, NULL, NULL},
    {"mla sparse", SPARSE, NULL, NULL, NULL},
    {"wide heads", "layers: 2, " SHAPE(4, 2, 128), NULL, NULL, NULL},

    {"chunked",
     "layers: 4, layer_types: [near*3, wide], layer_kinds: {near: {mixer: chunked, window: 24}, "
     "wide: {mixer: full}}, " SHAPE(4, 2, 32),
     NULL, NULL, NULL},
    {"several head sizes",
     "layers: 3, layer_types: [near, wide, near], layer_kinds: {near: {mixer: sliding, window: "
     "24}, wide: {head_dim: 64, kv_heads: 1}}, " SHAPE(4, 2, 32),
     NULL, NULL, NULL},
    {"learned sinks", "sinks: true, window: 24, attention_bias: qkvo, " SMALL, NULL, NULL,
     NULL},
    {"capped scores", "score_cap: 50, logit_cap: 30, norms_per_layer: 4, " SMALL, NULL, NULL,
     NULL},
    {"alibi", "alibi: true, norm: layer_no_bias, mlp: plain, tied_embeddings: true, " SMALL,
     NULL, NULL, NULL},
    {"gated attention", "output_gate: true, qk_norm: head, " SMALL, NULL, NULL, NULL},
    {"layer norm", BIASED ", position_rows: 64, " SMALL, NULL, NULL, NULL},
    {"norms after blocks", BIASED ", final_norms: 0, embed_width: 32, " SMALL, NULL, NULL,
     NULL},
    {"parallel block", "norm: layer, norms_per_layer: 1, mlp: plain, head_bias: true, " SMALL,
     NULL, NULL, NULL},
    {"embeddings of every layer",
     "norms_per_layer: 5, per_layer_embedding_params: 12288, extra_vector_params: 16, "
     "extra_matrix_params: 3072, matrix_params: 2048, vector_params: 1, " SMALL,
     NULL, NULL, NULL},
    {"layers without attention",
     "layer_types: [whole, half, whole], layer_kinds: {whole: {}, half: {mixer: none, "
     "norms_per_layer: 1, intermediate_size: 64}}, " SMALL,
     NULL, NULL, NULL},

    {"experts with biases",
     "moe: {experts: 4, top_k: 2, intermediate_size: 32, router_bias: true, expert_bias: true}, " MOE,
     NULL, NULL, NULL},
    {"experts beside an mlp",
     "intermediate_size: 48, moe: {experts: 4, top_k: 2, intermediate_size: 32, beside_dense: "
     "true}, norms_per_layer: 7, " MOE,
     NULL, NULL, NULL},
    {"experts in a latent",
     "moe: {experts: 4, top_k: 2, intermediate_size: 32, shared_intermediate_size: 40, latent: "
     "32}, " MOE,
     NULL, NULL, NULL},

    {"mamba", ALONE(1) "kind: mamba1, inner: 128, state_dim: 16, conv_kernel: 4, dt_rank: 8}",
     NULL, NULL, NULL},
    {"mamba2",
     ALONE(
         1) "kind: mamba2, heads: 8, head_dim: 16, state_dim: 128, groups: 2, conv_kernel: 4}",
     NULL, NULL, NULL},
    {"gated delta",
     HYBRID "kind: gdn, k_heads: 2, k_dim: 32, v_heads: 4, v_dim: 32, conv_kernel: 4}}}", NULL,
     NULL, NULL},
    {"kda",
     ALONE(2) "kind: kda, heads: 2, head_dim: 32, conv_kernel: 4, fp32_state: true}, "
              "intermediate_size: 128",
     NULL, NULL, NULL},
    {"lightning", HYBRID "kind: lightning, heads: 4, head_dim: 32}}}", NULL, NULL, "fp16"},
    {"short conv", HYBRID "kind: shortconv, conv_kernel: 3}}}", NULL, NULL, NULL},
    {"hybrid parallel",
     "layers: 2, ssm: {kind: mamba2, heads: 8, head_dim: 16, state_dim: 64, groups: 1, "
     "conv_kernel: 4, no_gate_norm: true}, " SHAPE(4, 2, 32),
     NULL, NULL, NULL},
    {"gated delta, gated attention, experts",
     "layer_types: [g*2, full], layer_kinds: {g: {mixer: none, ssm: {kind: gdn, "
     "k_heads: 2, k_dim: 32, v_heads: 4, v_dim: 32, conv_kernel: 4}}}, output_gate: true, "
     "qk_norm: head, moe: {experts: 4, top_k: 2, intermediate_size: 32, "
     "shared_intermediate_size: 32}, " MOE,
     NULL, NULL, NULL},
    {"hybrid parallel, one norm",
     "layers: 3, norms_per_layer: 1, norm: layer, ssm: {kind: mamba2, heads: 8, head_dim: 16, "
     "state_dim: 64, groups: 1, conv_kernel: 4}, " SHAPE(4, 2, 32),
     NULL, NULL, NULL},
    {"gated memory",
     "layers: 4, layer_types: [m, full, g, full], layer_kinds: {m: {mixer: none, ssm: {kind: "
     "mamba1, inner: 128, state_dim: 16, conv_kernel: 4, dt_rank: 8}}, g: {mixer: none, ssm: "
     "{kind: gmu, inner: 128}}}, " SHAPE(4, 2, 32),
     NULL, NULL, NULL},

    {"fp16", GQA, NULL, NULL, "fp16"},
    {"fp8", GQA, NULL, NULL, "fp8_e4m3"},
    {"fp8 scaled", GQA, NULL, NULL, "fp8_per_token_head"},
    {"int8", GQA, NULL, NULL, "int8"},
    {"int8 scaled", GQA, NULL, NULL, "int8_per_token_head"},
    {"int4", GQA, NULL, NULL, "{scheme: int4, group: 32}"},
    {"knorm int4", GQA, NULL, "{scheme: knorm, compression_ratio: 0.7}",
     "{scheme: int4, group: 32}"},
    {"kivi4", GQA, NULL, NULL, "{scheme: kivi4, group: 16, residual: 16}"},
    {"kivi2", GQA, NULL, NULL, "{scheme: kivi2, group: 16, residual: 16}"},

    {"mla fp8", MLA, NULL, NULL, "fp8_e4m3"},
    {"mla packed", MLA, NULL, NULL, "fp8_ds_mla"},
    {"mla sparse packed", SPARSE, NULL, NULL, "fp8_ds_mla"},

    {"fp32 weights", "layers: 2, dtype: fp32, " SHAPE(4, 2, 32), NULL, NULL, NULL},
    {"fp8 weights", STORED("fp8"), NULL, NULL, NULL},
    {"fp8 block weights", STORED("fp8_block"), NULL, NULL, NULL},
    {"int8 weights", STORED("int8"), NULL, NULL, NULL},
    {"int4 weights", STORED("int4"), NULL, NULL, NULL},
    {"gptq weights", STORED("gptq"), NULL, NULL, NULL},
    {"awq weights", STORED("awq"), NULL, NULL, NULL},
    {"mxfp4 weights", STORED("mxfp4"), NULL, NULL, NULL},
    {"nvfp4 weights", STORED("nvfp4"), NULL, NULL, NULL},
    {"nf4 weights", STORED("nf4"), NULL, NULL, NULL},
    {"q8_0 weights", STORED("q8_0"), NULL, NULL, NULL},
    {"mla sparse fp8 block weights",
     LATENT(", q_lora_rank: 64") ", indexer: {heads: 8, dim: 128, top_k: 24}, quantization: "
                                 "{format: fp8_block}",
     NULL, NULL, NULL},

    {"cla", GQA, "{scheme: cla, factor: 2}", NULL, NULL},
    {"mlkv", GQA, "{scheme: mlkv, kv_layers: 3, kv_heads: 2}", NULL, NULL},
    {"yoco", GQA, "{scheme: yoco, self_decoder: sliding_window, window: 24}", NULL, NULL},
    {"yoco retention", GQA, "{scheme: yoco}", NULL, NULL},
    {"lckv", GQA, "{scheme: lckv, warmup: 2}", NULL, NULL},
    {"pizza-bottom", GQA, "{scheme: pizza-bottom, kv_layers: 3}", NULL, NULL},
    {"pizza-middle", GQA, "{scheme: pizza-middle, kv_layers: 3}", NULL, NULL},
    {"pizza-top", GQA, "{scheme: pizza-top, kv_layers: 3}", NULL, NULL},
    {"sandwich-bottom", GQA, "{scheme: sandwich-bottom, kv_layers: 3}", NULL, NULL},
    {"sandwich-middle", GQA, "{scheme: sandwich-middle, kv_layers: 3}", NULL, NULL},
    {"sandwich-top", GQA, "{scheme: sandwich-top, kv_layers: 3}", NULL, NULL},
    {"lasagna-bottom", GQA, "{scheme: lasagna-bottom, kv_layers: 3}", NULL, NULL},
    {"lasagna-middle", GQA, "{scheme: lasagna-middle, kv_layers: 3}", NULL, NULL},
    {"lasagna-top", GQA, "{scheme: lasagna-top, kv_layers: 3}", NULL, NULL},
    {"map", GQA, "{map: [1, 1, 3, 5, 5, 6]}", NULL, NULL},
    {"mla cla", MLA, "{scheme: cla, factor: 2}", NULL, NULL},
    {"mla lckv packed", MLA, "{scheme: lckv, warmup: 2}", NULL, "fp8_ds_mla"},

    {"l2norm", GQA, NULL, "{scheme: l2norm, keep_ratio: 0.5, prune_after: 0}", NULL},
    {"snapkv", GQA, NULL, "{scheme: snapkv, capacity: 24, window: 8, layout: kv_head}", NULL},
    {"snapkv query heads", GQA, NULL, "{scheme: snapkv, capacity: 24, window: 8}", NULL},
    {"pyramidkv", GQA, NULL, "{scheme: pyramidkv, capacity: 24, window: 8, layout: kv_head}",
     NULL},
    {"adakv", GQA, NULL, "{scheme: adakv, capacity: 24, window: 8, layout: kv_head}", NULL},
    {"headkv", GQA, NULL, "{scheme: headkv, capacity: 16, window: 8, layout: kv_head}", NULL},
    {"knorm", GQA, NULL, "{scheme: knorm, compression_ratio: 0.5}", NULL},
    {"cake", GQA, NULL, "{scheme: cake, capacity: 24, window: 8}", NULL},
    {"cake preferences", GQA, NULL,
     "{scheme: cake, capacity: 24, window: 8, preferences: [5, 9, 1, 3, 2, 4]}", NULL},
    {"chunkkv", GQA, NULL, "{scheme: chunkkv, chunk: 4, compression_ratio: 0.5}", NULL},
    {"keydiff", GQA, NULL, "{scheme: keydiff, compression_ratio: 0.5}", NULL},
    {"expected-attention", GQA, NULL, "{scheme: expected-attention, compression_ratio: 0.5}",
     NULL},
    {"observed-attention", GQA, NULL, "{scheme: observed-attention, compression_ratio: 0.5}",
     NULL},
    {"h2o", GQA, NULL, "{scheme: h2o, heavy: 12, recent: 12, layout: kv_head}", NULL},
    {"h2o flexgen", GQA, NULL, "{scheme: h2o, mode: flexgen, heavy_ratio: 0.25}", NULL},
    {"h2o flexgen all", GQA, NULL,
     "{scheme: h2o, mode: flexgen, heavy_ratio: 0.25, hh_all: true}", NULL},
    {"streamingllm", GQA, NULL, "{scheme: streamingllm, sinks: 4, recent: 20}", NULL},
    {"tova", GQA, NULL, "{scheme: tova, capacity: 24}", NULL},
    {"decoding-press", GQA, NULL, "{scheme: decoding-press, interval: 4, target: 36}", NULL},
    {"quest", GQA, NULL, "{scheme: quest, page: 8, budget: 24, layout: kv_head}", NULL},
    {"quest query heads", GQA, NULL, "{scheme: quest, page: 8, budget: 24}", NULL},
    {"duoattention", GQA, NULL, "{scheme: duoattention, full_heads: 6, sinks: 4, recent: 20}",
     NULL},

    {"sliding snapkv", GQA ", window: 24", NULL,
     "{scheme: snapkv, capacity: 16, window: 6, layout: kv_head}", NULL},
    {"capped h2o", "score_cap: 50, " SMALL, NULL, "{scheme: h2o, heavy: 12, recent: 12}", NULL},
    {"sloped snapkv", "alibi: true, " SMALL, NULL,
     "{scheme: snapkv, capacity: 24, window: 8, layout: kv_head}", NULL},
    {"learned sinks duoattention", "sinks: true, " SMALL, NULL,
     "{scheme: duoattention, full_heads: 3, sinks: 4, recent: 20}", NULL},
    {"sliding h2o", GQA ", window: 24", NULL, "{scheme: h2o, heavy: 8, recent: 8}", NULL},
    {"cla duoattention", GQA, "{scheme: cla, factor: 2}",
     "{scheme: duoattention, full_heads: 3, sinks: 4, recent: 12}", NULL},
    {"lckv quest fp8", GQA, "{scheme: lckv, warmup: 2}",
     "{scheme: quest, page: 8, budget: 24, dense_layers: 0, layout: kv_head}", "fp8_e4m3"},
    {"lckv h2o", GQA, "{scheme: lckv, warmup: 2}", "{scheme: h2o, heavy: 12, recent: 12}",
     NULL},
    {"lckv streamingllm fp8", GQA, "{scheme: lckv, warmup: 2}",
     "{scheme: streamingllm, sinks: 4, recent: 20}", "fp8_e4m3"},
    {"cla snapkv int4", GQA, "{scheme: cla, factor: 2}",
     "{scheme: snapkv, capacity: 24, window: 8, layout: kv_head}", "{scheme: int4, group: 32}"},
    {"mlkv l2norm int8", GQA, "{scheme: mlkv, kv_layers: 3, kv_heads: 2}",
     "{scheme: l2norm, keep_ratio: 0.5, prune_after: 0}", "int8_per_token_head"},
    {"lasagna-middle kivi4", GQA, "{scheme: lasagna-middle, kv_layers: 3}", NULL,
     "{scheme: kivi4, group: 16, residual: 16}"},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

static const char *line(struct arena *a, const char *key, const char *value)
{
    return value ? arena_printf(a, "  %s: %s\n", key, value) : "";
}

const struct matrix_row *matrix_rows(struct arena *a, size_t *n)
{
    struct matrix_row *out = ARENA_NEW(a, struct matrix_row, N_ROWS);

    *n = N_ROWS;
    for (size_t i = 0; i < N_ROWS; i++) {
        const struct row *r = &rows[i];
        const char *format = r->format ? r->format : "bf16";
        out[i].name = r->name;
        out[i].spec = arena_printf(a,
                                   "model: {%s}\nhardware: {memory: 1GiB}\ncache:\n%s%s%s"
                                   "workload: {prompt: 40, output: 12}\n",
                                   r->model, line(a, "sharing", r->sharing),
                                   line(a, "eviction", r->eviction), line(a, "format", format));
    }
    return out;
}
