/* The tensor table: counts derived by hand, shapes, shards, bytes under formats, and the FP8
 * scale counts that published totals contain. */
#include "tests/kvmodel.h"

#define LLAMA_8B                                                                               \
    "{layers: 32, hidden_size: 4096, intermediate_size: 14336, heads: 32, kv_heads: 8, "       \
    "head_dim: 128, vocab_size: 128256}"
#define LLAMA_7B                                                                               \
    "{layers: 32, hidden_size: 4096, intermediate_size: 11008, heads: 32, vocab_size: 32000}"
#define DEEPSEEK_V3                                                                              \
    "{layers: 61, hidden_size: 7168, intermediate_size: 18432, heads: 128, vocab_size: 129280, " \
    "mla: {q_lora_rank: 1536, kv_lora_rank: 512, nope_dim: 128, rope_dim: 64, v_dim: 128}, "     \
    "moe: {experts: 256, top_k: 8, intermediate_size: 2048, shared_intermediate_size: 2048, "    \
    "router_bias: true}, layer_kinds: {dense: {moe: none}, moe: {}}, "                           \
    "layer_types: [dense*3, moe*58], quantization: {format: fp8_block}}"

static struct tensor find(const struct model *m, uint32_t layer, const char *name)
{
    struct tensor t[LAYER_TENSORS_MAX];
    size_t n = weights_layer(m, &m->layers[layer], true, t);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(t[i].name, name) == 0)
            return t[i];
    }
    fail_msg("no tensor %s", name);
    return t[0];
}

/* embedding and head 2 * 128256 * 4096 = 1,050,673,152; a layer: q and o 2 * 4096^2, k and v 2
 * * 1024 * 4096 = 41,943,040; MLP 3 * 4096 * 14336 = 176,160,768; norms 8,192: 218,112,000; 32
 * of them and the final norm 4,096. The published safetensors total is 8,030,261,248. */
static void test_llama_by_hand(void **state)
{
    struct model m = km_model(*state, LLAMA_8B);
    struct param_count c = km_count(&m);

    kt_u64(c.total, 1050673152 + 32 * (uint64_t)218112000 + 4096);
    kt_u64(c.total, 8030261248);
    kt_u64(c.active, c.total);
    kt_u64(c.matmul, c.total - 525336576);
    kt_u64(c.by_part[PART_EMBED], 525336576);
    kt_u64(c.by_part[PART_HEAD], 525336576);
    kt_u64(c.by_part[PART_Q], 32 * 16777216);
    kt_u64(c.by_part[PART_K], 32 * 4194304);
    kt_u64(c.by_part[PART_MLP], 32 * (uint64_t)176160768);
    kt_u64(c.by_part[PART_NORM], 32 * 8192 + 4096);
    kt_u64(c.by_part[PART_LATENT], 0);
}

/* attention: q_a 7168*1536 + 1536, q_b 1536*128*192, kv_a 7168*576 + 512, kv_b 512*128*256, o
 * 16384*7168 = 187,107,328, norms 14,336; dense MLP 3*7168*18432 = 396,361,728; experts 257 *
 * 3*7168*2048 and the router 7168*256 + 256 = 11,320,164,608; embedding and head 2*129280*7168.
 * The model card says 671B. */
static void test_deepseek_by_hand(void **state)
{
    struct model m = km_model(*state, DEEPSEEK_V3);
    struct param_count c = km_count(&m);
    uint64_t attention = 187107328 + 14336, dense = 396361728, moe = 11320164608,
             tables = 1853358080;

    kt_u64(c.total, 61 * attention + 3 * dense + 58 * moe + tables + 7168);
    kt_u64(c.total, 671026419200);
    kt_u64(c.active, c.total - 58 * (uint64_t)248 * 3 * 7168 * 2048); /* 8 of 256 experts */
    kt_u64(c.active, 37552297472);
    kt_u64(c.matmul, c.active - 129280 * (uint64_t)7168);
    kt_u64(c.by_part[PART_EXPERT], 58 * (uint64_t)256 * 3 * 7168 * 2048);
}

/* attention q and o 2*1024*512, k and v 2*1024*128; Mamba-2 inner 1536, conv width 1792: in
 * 1024*(1536+1792+24), conv 1792*5, A, D, dt 72, out 1536*1024; MLP 3*1024*2048; norms 2048:
 * 12,618,568 a layer. Published: 521,411,104. */
static void test_falcon_h1_by_hand(void **state)
{
    struct model m = km_model(
        *state,
        "{layers: 36, hidden_size: 1024, intermediate_size: 2048, heads: 8, kv_heads: 2, "
        "head_dim: 64, vocab_size: 32784, ssm: {kind: mamba2, heads: 24, head_dim: 64, "
        "state_dim: 128, groups: 1, conv_kernel: 4, no_gate_norm: true}}");

    kt_u64(km_count(&m).total, 36 * (uint64_t)12618568 + 2 * 32784 * 1024 + 1024);
    kt_u64(km_count(&m).total, 521411104);
}

/* Only layers 1, 31 and 32 compute K/V: LCKV 7B with w = 2 (arXiv:2405.10637 Table 5
 * dimensions). */
static void test_layers_without_kv(void **state)
{
    struct model m = km_model(*state, LLAMA_7B);
    struct param_count c;
    struct ck ck = {false};
    bool owns[32] = {false};

    kt_u64(km_count(&m).total, 6738415616);
    owns[0] = owns[30] = owns[31] = true;
    weights_count(&m, owns, &c, &ck);
    kt_u64(c.total, 5765337088);
    for (uint32_t i = 1; i < 30; i++)
        m.layers[i].attn.kv_source = 30;
    kt_u64(km_count(&m).total, 5765337088);
    m.keeps_unused_kv = true; /* stored all the same, but not multiplied */
    kt_u64(km_count(&m).total, 6738415616);
    kt_u64(km_count(&m).active, 5765337088);
}

static void test_tied_head(void **state)
{
    struct model m = km_model(
        *state, "{layers: 2, hidden_size: 64, intermediate_size: 128, heads: 4, vocab_size: "
                "1000, tied_embeddings: true, position_rows: 10}");
    struct tensor t[MODEL_TENSORS_MAX];
    size_t n = weights_outside(&m, t);
    struct param_count c = km_count(&m);
    struct shard whole = {1, 1, 4};
    struct ck ck = {false};

    kt_u64(c.by_part[PART_HEAD], 0);
    kt_u64(c.by_part[PART_POSITION], 640);
    kt_u64(c.matmul, c.total - 640); /* the table is multiplied as the head */
    for (size_t i = 0; i < n; i++) {
        if (t[i].part == PART_HEAD) {
            assert_true(t[i].tied);
            kt_u64(t[i].active, 1);
            kt_u64(weights_tensor_bytes(&t[i], weight_format_find("bf16"), whole, &ck), 0);
        }
    }
}

static uint64_t bytes(const struct tensor *t, const char *format, struct shard s)
{
    struct ck ck = {false};
    uint64_t n = weights_tensor_bytes(t, weight_format_find(format), s, &ck);

    assert_false(ck.over);
    return n;
}

static void test_shards(void **state)
{
    struct model m = km_model(*state, DEEPSEEK_V3), l = km_model(*state, LLAMA_8B);
    struct tensor q = find(&l, 0, "self_attn.q_proj"), k = find(&l, 0, "self_attn.k_proj");
    struct tensor o = find(&l, 0, "self_attn.o_proj"), norm = find(&l, 0, "layernorms");
    struct tensor up = find(&m, 3, "mlp.experts.up_proj"),
                  down = find(&m, 3, "mlp.experts.down_proj");
    struct tensor kv_a = find(&m, 3, "self_attn.kv_a_proj_with_mqa"),
                  kv_b = find(&m, 3, "self_attn.kv_b_proj");

    assert_true(q.split == SPLIT_OUT && k.split == SPLIT_KV && o.split == SPLIT_IN &&
                norm.split == SPLIT_NONE);
    assert_true(kv_a.split == SPLIT_NONE && kv_b.split == SPLIT_OUT &&
                up.split == SPLIT_EXPERT);
    kt_u64(bytes(&q, "bf16", (struct shard){4, 1, 8}), 2 * 1024 * 4096);
    kt_u64(bytes(&q, "bf16", (struct shard){3, 1, 8}), 2 * 1366 * 4096);
    kt_u64(bytes(&o, "bf16", (struct shard){4, 1, 8}), 2 * 4096 * 1024);
    kt_u64(bytes(&k, "bf16", (struct shard){4, 1, 8}), 2 * 256 * 4096);
    kt_u64(bytes(&k, "bf16", (struct shard){8, 1, 8}), 2 * 128 * 4096);
    kt_u64(bytes(&k, "bf16", (struct shard){16, 1, 8}),
           2 * 128 * 4096); /* a head is never cut */
    kt_u64(bytes(&k, "bf16", (struct shard){3, 1, 8}), 2 * 3 * 128 * 4096);
    kt_u64(bytes(&norm, "bf16", (struct shard){8, 1, 8}), 2 * 8192);
    kt_u64(bytes(&kv_a, "bf16", (struct shard){8, 1, 1}), 2 * 576 * 7168);
    kt_u64(bytes(&up, "bf16", (struct shard){8, 1, 1}), 2 * (uint64_t)256 * 256 * 7168);
    kt_u64(bytes(&down, "bf16", (struct shard){8, 1, 1}), 2 * (uint64_t)256 * 7168 * 256);
    kt_u64(bytes(&up, "bf16", (struct shard){8, 8, 1}), 2 * (uint64_t)32 * 2048 * 7168);
    kt_u64(bytes(&up, "bf16", (struct shard){8, 3, 1}), 2 * (uint64_t)86 * 2048 * 7168);
}

static void test_formats(void **state)
{
    struct tensor t = {.part = PART_MLP,
                       .name = "mlp.up_proj",
                       .out = 300,
                       .in = 1000,
                       .copies = 2,
                       .active = 1};
    struct shard whole = {1, 1, 1};

    (void)state;
    kt_u64(bytes(&t, "bf16", whole), 2 * 600000);
    kt_u64(bytes(&t, "fp32", whole), 2 * 1200000);
    kt_u64(bytes(&t, "fp8", whole), 2 * (300000 + 4));
    kt_u64(bytes(&t, "fp8_channel", whole), 2 * (300000 + 300 * 4));
    kt_u64(bytes(&t, "fp8_block", whole), 2 * (300000 + 3 * 8 * 4));
    kt_u64(bytes(&t, "int4", whole), 2 * (150000 + 300 * 8 * 2));
    kt_u64(bytes(&t, "awq", whole), 2 * (150000 + 300 * 8 * 2 + 1200));
    kt_u64(bytes(&t, "gptq", whole), 2 * (150000 + 300 * 8 * 2 + 1200 + 4000));
    kt_u64(bytes(&t, "mxfp4", whole), 2 * 300 * 32 * 17);
    kt_u64(bytes(&t, "nvfp4", whole), 2 * (300 * 63 * 9 + 4));
    kt_u64(bytes(&t, "q4_0", whole), 2 * 300 * 32 * 18);
    kt_u64(bytes(&t, "Q4_K", whole), 2 * 300 * 4 * 144);
    assert_null(weight_format_find("fp7"));
    assert_null(weight_format_find(NULL));
    assert_ptr_equal(weight_format_find("bfloat16"), weight_format_find("bf16"));
}

/* Every format has a name of its own, a source, and rows that are not empty. */
static void test_format_table(void **state)
{
    const struct weight_format *f;

    (void)state;
    for (size_t i = 0; (f = weight_format_at(i)) != NULL; i++) {
        assert_ptr_equal(weight_format_find(f->name), f);
        assert_true(f->block_elems > 0 && f->block_bytes > 0 && f->source[0] != 0);
    }
}

/* Scales of the quantized matrices of one layer. */
static uint64_t layer_scales(const struct model *m, uint32_t layer)
{
    struct tensor t[LAYER_TENSORS_MAX];
    size_t n = weights_layer(m, &m->layers[layer], true, t);
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        if (weights_format_of(m, &t[i], (int)layer, NULL) == m->quant.format)
            sum += (t[i].out + 127) / 128 * ((t[i].in + 127) / 128) * t[i].copies;
    }
    return sum;
}

static uint64_t scales(const struct model *m)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < m->n_layers; i++)
        sum += layer_scales(m, i);
    return sum;
}

/* Published safetensors totals of FP8 checkpoints contain one number for each scale (sources in
 * tests/data/models.csv): MiniMax-M2.5 228,703,644,928 = the parameters + 13,880,064;
 * DeepSeek-V3 684,531,386,000 = 671,026,419,200 + the MTP block 11,610,068,224 + its tables
 * 1,853,358,080 + 41,540,496, the MTP layer's scales included; Kimi-K2 62,495,192. */
static void test_fp8_scales(void **state)
{
    struct model v3 = km_model(*state, DEEPSEEK_V3);
    struct model m2 = km_model(
        *state,
        "{layers: 62, hidden_size: 3072, heads: 48, kv_heads: 8, head_dim: 128, "
        "vocab_size: 200064, qk_norm: full, moe: {experts: 256, top_k: 8, "
        "intermediate_size: 1536, router_bias: true}, quantization: {format: fp8_block}}");
    struct model k2 = km_model(
        *state,
        "{layers: 61, hidden_size: 7168, intermediate_size: 18432, heads: 64, vocab_size: 163840, mla: "
        "{q_lora_rank: 1536, kv_lora_rank: 512, nope_dim: 128, rope_dim: 64, v_dim: 128}, moe: {experts: 384, "
        "top_k: 8, intermediate_size: 2048, shared_intermediate_size: 2048, router_bias: true}, layer_kinds: "
        "{dense: {moe: none}, moe: {}}, layer_types: [dense, moe*60], quantization: {format: fp8_block}}");

    kt_u64(km_count(&m2).total + scales(&m2), 228703644928);
    kt_u64(scales(&m2), 13880064);
    kt_u64(scales(&k2), 62495192);
    kt_u64(scales(&v3) + layer_scales(&v3, 60), 41540496);
}

static void test_which_format(void **state)
{
    struct model plain = km_model(*state, LLAMA_8B), q = km_model(*state, DEEPSEEK_V3);
    const struct weight_format *fp8 = weight_format_find("fp8"),
                               *bf16 = weight_format_find("bf16");
    struct tensor up = find(&plain, 0, "mlp.up_proj"), norm = find(&plain, 0, "layernorms");
    struct tensor router = find(&q, 3, "mlp.gate"), expert = find(&q, 3, "mlp.experts.up_proj");
    struct tensor outside[MODEL_TENSORS_MAX];

    weights_outside(&plain, outside);
    assert_ptr_equal(weights_format_of(&plain, &up, 0, NULL), bf16);
    assert_ptr_equal(weights_format_of(&plain, &up, 0, fp8), fp8);
    assert_ptr_equal(weights_format_of(&plain, &norm, 0, fp8), bf16);
    assert_ptr_equal(weights_format_of(&plain, &outside[0], -1, fp8), bf16);
    assert_ptr_equal(weights_format_of(&q, &expert, 3, NULL), weight_format_find("fp8_block"));
    assert_ptr_equal(weights_format_of(&q, &router, 3, NULL), bf16);
    assert_ptr_equal(weights_format_of(&q, &expert, 3, bf16), bf16);
    assert_ptr_equal(weights_format_of(&plain, &norm, 0, weight_format_find("fp32")),
                     weight_format_find("fp32"));
    plain.dtype = "fp32";
    assert_ptr_equal(weights_format_of(&plain, &norm, 0, NULL), weight_format_find("fp32"));
}

/* Sums over ranks hold at least the whole. */
static void test_ranks_cover(void **state)
{
    struct model m = km_model(*state, DEEPSEEK_V3);
    struct tensor t[LAYER_TENSORS_MAX];
    size_t n = weights_layer(&m, &m.layers[3], true, t);

    for (uint32_t tp = 1; tp <= 16; tp++) {
        for (size_t i = 0; i < n; i++) {
            uint64_t whole = bytes(&t[i], "fp8_block", (struct shard){1, 1, 128});
            uint64_t rank = bytes(&t[i], "fp8_block", (struct shard){tp, 1, 128});

            assert_true(rank <= whole && rank * tp >= whole);
        }
    }
}

static void test_overflow(void **state)
{
    struct tensor t = {
        .part = PART_MLP, .out = UINT64_MAX / 2, .in = 1 << 20, .copies = 1, .active = 1};
    struct ck ck = {false};

    (void)state;
    weights_tensor_bytes(&t, weight_format_find("bf16"), (struct shard){1, 1, 1}, &ck);
    assert_true(ck.over);
}

static void test_part_names(void **state)
{
    (void)state;
    for (int i = 0; i < N_PARTS; i++) {
        for (int k = 0; k < i; k++)
            assert_string_not_equal(part_name((enum part)i), part_name((enum part)k));
    }
    assert_string_equal(part_name(PART_LATENT), "latent");
    assert_string_equal(part_name(N_PARTS), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_llama_by_hand),     kt_test(test_deepseek_by_hand),
        kt_test(test_falcon_h1_by_hand), kt_test(test_layers_without_kv),
        kt_test(test_tied_head),         kt_test(test_shards),
        kt_test(test_formats),           kt_test(test_format_table),
        kt_test(test_fp8_scales),        kt_test(test_which_format),
        kt_test(test_ranks_cover),       kt_test(test_overflow),
        kt_test(test_part_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
