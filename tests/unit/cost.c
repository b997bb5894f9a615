/* Bytes and FLOPs against figures worked out outside this program: arXiv:2405.10637 shapes with
 * the formulas of cross-layer sharing, PyramidKV and SnapKV peaks, MLA decode counts.
 * Derivations stand beside the numbers. */
#include "tests/kvplan.h"

#define HW "hardware: {memory: 1TiB}\n"

struct llama7b {
    const char *sharing;
    double prefill512, prefill2048, decode2048; /* FLOP without embedding and head, 4 digits */
    uint64_t read, resident; /* bytes at 2048 cached tokens, and after that step */
};

/* LLaMA-7B, one sequence, m + b = 9: prefill and decode FLOPs, bytes read and resident (derived
 * from Table 5 of arXiv:2405.10637 and the pass rule of the official code). Read bytes: 32
 * layers x 16,384 B x 2049 keys, less one key in each layer that attends upward (29 for w=2, 21
 * for w=10). */
static const struct llama7b cases[] = {
    {"", 6.700e12, 2.763e13, 1.403e10, 1074266112, 1074266112},
    {"cache: {sharing: {scheme: lckv, warmup: 2}}\n", 4.798e13, 1.989e14, 1.208e10, 1073790976,
     100712448},
    {"cache: {sharing: {scheme: lckv, warmup: 10}}\n", 3.706e13, 1.536e14, 1.262e10, 1073922048,
     369278976},
};

static double layers_only(const struct op_tally *t)
{
    double sum = 0;

    for (int op = 0; op < N_OPS; op++)
        sum += op == OP_HEAD ? 0 : t->flop[op];
    return sum;
}

static double prefill_flop(const struct problem *p, uint64_t n)
{
    struct op_tally t = {{0}, {0}};

    work_prefill(&p->whole_work, &p->whole, n, 1, 9, &t);
    return layers_only(&t);
}

static void test_llama7b(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        struct ck ck = {0};
        struct op_tally t = {{0}, {0}};
        snprintf(text, sizeof text, KP_LLAMA7B HW "%s", cases[i].sharing);
        struct kp *k = kp_build(text);
        const struct problem *p = &k->problem;
        kt_rel(prefill_flop(p, 512), cases[i].prefill512, 5e-4);
        kt_rel(prefill_flop(p, 2048), cases[i].prefill2048, 5e-4);
        work_decode(&p->whole_work, &p->whole, 2048, 0, 1, &t);
        kt_rel(layers_only(&t), cases[i].decode2048, 5e-4);
        kt_u64(fold_decode_read_bytes(&p->whole, 2048, 0, &ck), cases[i].read);
        kt_u64(fold_resident_bytes(&p->whole, 2048, 1, 1, &ck), cases[i].resident);
        assert_false(ck.over);
        kp_free(k);
    }
}

/* Prompts of no more than m + b = 9 tokens are decoded one by one and pay no passes (official
 * LCKV code): nine steps cost less than one iterated prefill of ten tokens. */
static void test_short_prompts_are_sequential(void **state)
{
    (void)state;
    struct kp *k = kp_build(KP_LLAMA7B HW "cache: {sharing: {scheme: lckv, warmup: 2}}\n");
    double nine = prefill_flop(&k->problem, 9), ten = prefill_flop(&k->problem, 10);
    /* 9 single passes against 10 tokens in (30 x 9 + 2) / 32 = 8.5 passes */
    assert_true(ten > 8 * nine);
    assert_true(ten < 10 * nine);
    kp_free(k);
}

struct peak {
    const char *eviction;
    uint64_t after, peak;
};

/* Llama-3-8B, prompt 8192, fp16: rows are 4096 B in KV-head and 16384 B in query-head layout.
 * PyramidKV C=128 keeps 4272 rows, C=2048 65,552, SnapKV C=2048 65,536. Peak: all kept rows +
 * one whole layer (query heads expanded beside the original): (4272 + 8192) x 4096 =
 * 51,052,544; ((4272 + 8192) x 4 + 8192) x 4096 = 237,764,608. */
static const struct peak peaks[] = {
    {"{scheme: pyramidkv, capacity: 128, window: 8, layout: kv_head}", 17498112, 51052544},
    {"{scheme: pyramidkv, capacity: 128, window: 8, layout: query_head}", 69992448, 237764608},
    {"{scheme: pyramidkv, capacity: 2048, window: 8, layout: kv_head}", 268500992, 302055424},
    {"{scheme: pyramidkv, capacity: 2048, window: 8, layout: query_head}", 1074003968,
     1241776128},
    {"{scheme: snapkv, capacity: 2048, window: 32, layout: kv_head}", 268435456, 301989888},
    {"{scheme: snapkv, capacity: 2048, window: 32, layout: query_head}", 1073741824,
     1241513984},
    /* once after the prefill, two skipped layers: 139,264 rows, the whole cache first;
     * sorted copies stay beside the 30 layers that are compressed: 62 x 33,554,432 */
    {"{scheme: l2norm, keep_ratio: 0.5, prune_after: 0, skip_layers: [0, 1], schedule: once}",
     570425344, 1073741824},
    {"{scheme: l2norm, keep_ratio: 0.5, prune_after: 0, skip_layers: [0, 1], sorted_copies: true}",
     570425344, 2080374784},
    {"{scheme: streamingllm, sinks: 4, recent: 2000}", 262668288, 1073741824},
};

static void test_prefill_peaks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof peaks / sizeof *peaks; i++) {
        char text[1024];
        struct ck ck = {0};
        snprintf(text, sizeof text, KP_LLAMA3_8B HW "cache: {eviction: %s}\n",
                 peaks[i].eviction);
        struct kp *k = kp_build(text);
        kt_u64(fold_resident_bytes(&k->problem.whole, 8192, 0, 1, &ck), peaks[i].after);
        kt_u64(fold_prefill_peak_bytes(&k->problem.whole, 8192, 1, &ck), peaks[i].peak);
        kp_free(k);
    }
}

/* Prefill-only schemes append every generated token: rows after t tokens are the kept ones + 32
 * t. */
static void test_decode_growth(void **state)
{
    (void)state;
    struct ck ck = {0};
    struct kp *k = kp_build(
        KP_LLAMA3_8B HW
        "cache: {eviction: {scheme: pyramidkv, capacity: 128, window: 8, layout: kv_head}}\n");
    kt_u64(fold_resident_bytes(&k->problem.whole, 8192, 512, 1, &ck), 20656u * 4096u);
    kp_free(k);
    k = kp_build(
        KP_LLAMA3_8B HW
        "cache: {eviction: {scheme: l2norm, keep_ratio: 0.5, prune_after: 0, skip_layers: [0, 1], schedule: once}}\n");
    kt_u64(fold_resident_bytes(&k->problem.whole, 8192, 1000, 1, &ck), 171264u * 4096u);
    kp_free(k);
}

/* Blocks of 16 tokens in per-layer tables: PyramidKV C=128 takes 282 layer-blocks. */
static void test_paged_ragged(void **state)
{
    (void)state;
    struct ck ck = {0};
    struct kp *k = kp_build(
        KP_LLAMA3_8B HW
        "cache: {eviction: {scheme: pyramidkv, capacity: 128, window: 8, layout: kv_head}}\n");
    kt_u64(fold_resident_bytes(&k->problem.whole, 8192, 0, 16, &ck), 282u * 16u * 4096u);
    kp_free(k);
}

/* DeepSeek-V3 attention, one layer, 128 heads, latent 512 + 64, at 32768 keys: core 2 H T (576
 * + 512) = 9,126,805,504 FLOP; the absorbed projections 2 H (128 x 512 + 512 x 128) =
 * 33,554,432 are the up-projection of one token. Cache bytes a token and layer: 576 x 2 = 1152,
 * on every tensor-parallel rank alike. */
static void test_mla(void **state)
{
    (void)state;
    struct ck ck = {0};
    struct op_tally t = {{0}, {0}};
    struct kp *k = kp_build(
        "model: {layers: 61, hidden_size: 7168, intermediate_size: 18432, heads: 128, vocab_size: 129280, "
        "mla: {q_lora_rank: 1536, kv_lora_rank: 512, nope_dim: 128, rope_dim: 64, v_dim: 128}}\n"
        "hardware: {memory: 8TiB, count: 8}\nparallel: {tp: 8}\n");
    const struct problem *p = &k->problem;
    work_decode(&p->whole_work, &p->whole, 32767, 0, 1, &t);
    kt_rel(t.flop[OP_SCORES] + t.flop[OP_VALUES], 61 * 9126805504.0, 1e-12);
    kt_u64(fold_token_bytes(&p->whole, false, &ck), 70272);
    kt_u64(fold_token_bytes(&p->stages[0].fold, false, &ck), 70272);
    kp_free(k);
}

static void test_pairs(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < 40; n++) {
        for (uint64_t w = 0; w < 12; w++) {
            uint64_t plain = 0, masked = 0, chunked = 0;
            for (uint64_t i = 0; i < n;
                 i++) { /* brute force: query i sees keys max(0, i-w+1)..i */
                plain += w ? u64_min(i + 1, w) : i + 1;
                masked += w ? u64_min(i, w) : i;
                chunked += w ? i % w + 1 : i + 1;
            }
            kt_rel(work_pairs(n, w, MIXER_SLIDING, false) + 1, (double)plain + 1, 1e-15);
            kt_rel(work_pairs(n, w, MIXER_SLIDING, true) + 1, (double)masked + 1, 1e-15);
            kt_rel(work_pairs(n, w, MIXER_CHUNKED, false) + 1, (double)chunked + 1, 1e-15);
        }
    }
}

/* 256 experts, 8 a token: one token touches 8/256; by Monte-Carlo-free reasoning two touch 1 -
 * (31/32)^2. */
static void test_experts(void **state)
{
    (void)state;
    kt_rel(work_expert_share(256, 8, 1), 0.03125, 1e-15);
    kt_rel(work_expert_share(256, 8, 2), 1 - 0.96875 * 0.96875, 1e-15);
    kt_rel(work_expert_share(256, 8, 100000), 1, 1e-12);
    kt_rel(work_expert_share(0, 0, 5), 1, 1e-15);
}

/* Training: 3 forward units a layer, m + 3b = 13 on iterated ones: LCKV w=2 on 22 layers (2 x 3
 * + 20 x 13) / 66 = 4.03. */
static void test_training_units(void **state)
{
    (void)state;
    struct kp *k = kp_build(
        "model: {layers: 22, hidden_size: 2048, intermediate_size: 5632, heads: 32, kv_heads: 4, head_dim: 64, "
        "vocab_size: 32000}\n" HW "cache: {sharing: {scheme: lckv, warmup: 2}}\n");
    kt_rel(k->problem.whole_work.forward_units / 66, 266.0 / 66, 1e-12);
    kt_u64(k->problem.params.total, 1080125440);
    kp_free(k);
}

/* YOCO: every prompt token but the last skips the cross-decoder; only its K/V are computed. 3B
 * shape, L 26. */
static void test_early_exit(void **state)
{
    (void)state;
    struct ck ck = {0};
    struct kp *k = kp_build(
        "model: {layers: 26, hidden_size: 3072, intermediate_size: 8192, heads: 24, kv_heads: 8, head_dim: 128, "
        "vocab_size: 100288}\n" HW
        "cache: {sharing: {scheme: yoco, self_decoder: gated_retention}}\n");
    struct kp *plain = kp_build(
        "model: {layers: 26, hidden_size: 3072, intermediate_size: 8192, heads: 24, kv_heads: 8, "
        "head_dim: 128, vocab_size: 100288}\n" HW);
    double mlp = 26 * 6.0 * 3072 * 8192;
    struct op_tally t = {{0}, {0}}, u = {{0}, {0}};
    work_prefill(&k->problem.whole_work, &k->problem.whole, 4096, 1, 9, &t);
    work_prefill(&plain->problem.whole_work, &plain->problem.whole, 4096, 1, 9, &u);
    kt_rel(u.flop[OP_MLP], 4096 * mlp, 1e-12);
    kt_rel(t.flop[OP_MLP], 4096 * mlp / 2 + mlp / 2,
           1e-12); /* half the layers for all, half for the last token */
    /* queries of 13 cross layers for the last token, the one global K and V for all: d 3072,
     * 24 heads and 8 K/V heads of 128; the self-decoder has no PART_Q of softmax attention */
    kt_rel(t.flop[OP_QKV], 13 * 2.0 * 3072 * 3072 + 4096 * 2 * 2.0 * 3072 * 1024, 1e-12);
    kt_u64(fold_token_bytes(&k->problem.whole, false, &ck), 4096);
    kt_u64(k->problem.whole.state_bytes, 10223616);
    kt_u64(fold_token_bytes(&plain->problem.whole, false, &ck), 106496);
    kp_free(plain);
    kp_free(k);
}

/* use_sequential: any prompt is decoded token by token. The mean step stands for all of them,
 * so the sum over the steps is the same. */
static void test_sequential_prefill(void **state)
{
    (void)state;
    struct kp *k = kp_build(KP_LLAMA7B HW
                            "cache: {sharing: {scheme: lckv, warmup: 2, sequential: true}}\n");
    const struct problem *p = &k->problem;
    struct op_tally all = {{0}, {0}}, steps = {{0}, {0}};
    assert_true(p->layout.sequential_prefill);
    work_prefill(&p->whole_work, &p->whole, 301, 2, UINT64_MAX, &all);
    for (uint64_t i = 0; i < 301; i++)
        work_decode(&p->whole_work, &p->whole, 0, i, 2, &steps);
    kt_rel(all.flop[OP_MLP], steps.flop[OP_MLP], 1e-12);
    kt_rel(all.flop[OP_SCORES], steps.flop[OP_SCORES], 1e-12);
    kt_rel(all.bytes[OP_SCORES], steps.bytes[OP_SCORES], 1e-12);
    kt_rel(all.bytes[OP_MLP], steps.bytes[OP_MLP], 1e-12);
    kt_rel(all.flop[OP_HEAD], steps.flop[OP_HEAD] / 301, 1e-9); /* the last logits only */
    kp_free(k);
}

/* SnapKV scores its window in every layer: 2 x 32 heads x 32 x 8192 x 128 FLOP a layer and
 * prompt (2,147,483,648), for every prompt of the batch. */
static void test_scheme_cost(void **state)
{
    (void)state;
    struct kp *k = kp_build(
        KP_LLAMA3_8B "hardware: {memory: 1TiB}\nworkload: {prompt: 8192, output: 10, "
                     "batch: 3}\ncache: {eviction: {scheme: snapkv, capacity: 1024, window: "
                     "32, layout: kv_head}}\n");
    struct plan plan;
    plan_solve(&k->problem, &k->problem.workload, &plan);
    kt_rel(plan.prefill.flop[OP_SCHEME], 3 * 32 * 2147483648.0, 1e-12);
    kt_rel(plan.decode.flop[OP_SCHEME] + 1, 1, 1e-12);
    kp_free(k);
}

/* Rows that differ in one thing only must not be folded together: windows (512 B a token and
 * layer), and what a head keeps (256 B a token and head). */
static void test_classes_stay_apart(void **state)
{
    (void)state;
    struct ck ck = {0};
    struct kp *k = kp_build(
        "model: {layers: 4, hidden_size: 256, intermediate_size: 64, heads: 4, kv_heads: 2, "
        "head_dim: 64, vocab_size: 100, layer_kinds: {near: {mixer: sliding, window: 100}, far: "
        "{mixer: sliding, window: 300}}, layer_types: [near, far, near, full]}\n" HW);
    kt_u64(fold_resident_bytes(&k->problem.whole, 1000, 0, 1, &ck),
           512 * (100 + 300 + 100 + 1000));
    kt_u64(fold_decode_read_bytes(&k->problem.whole, 1000, 0, &ck),
           512 * (100 + 300 + 100 + 1001));
    kp_free(k);
    k = kp_build(
        "model: {layers: 3, hidden_size: 128, intermediate_size: 64, heads: 2, kv_heads: 2, "
        "head_dim: 64, vocab_size: 100}\n" HW
        "cache: {eviction: {scheme: adakv, capacity: 132, head_counts: [150, 50]}}\n");
    kt_u64(fold_resident_bytes(&k->problem.whole, 5000, 0, 1, &ck), 3 * 256 * (172 + 92));
    kp_free(k);
}

/* A full layer below a sliding one: the peak is in the full one, while it is whole (50 kept +
 * 1000), not in the last (50 + 50 + 100). */
static void test_peak_of_mixed_layers(void **state)
{
    (void)state;
    struct ck ck = {0};
    struct kp *k = kp_build(
        "model: {layers: 2, hidden_size: 256, intermediate_size: 64, heads: 4, kv_heads: 2, "
        "head_dim: 64, vocab_size: 100, layer_kinds: {near: {mixer: sliding, window: 100}}, "
        "layer_types: [full, near]}\n" HW
        "cache: {eviction: {scheme: snapkv, capacity: 50, window: 8, layout: kv_head}}\n");
    kt_u64(fold_prefill_peak_bytes(&k->problem.whole, 1000, 1, &ck), 512 * (50 + 1000));
    kt_u64(fold_resident_bytes(&k->problem.whole, 1000, 0, 1, &ck), 512 * (50 + 50));
    kp_free(k);
}

/* The highest of a decode is the highest of its steps, tried one by one. */
static void test_highest_is_the_highest_step(void **state)
{
    static const char *const caches[] = {"format: kivi2", "format: kivi4",
                                         "format: hf_quantized", "format: bf16",
                                         "k: kivi2, v: bf16"};
    static const uint64_t prompts[] = {1, 100, 127, 128, 1000, 1023};

    (void)state;
    for (size_t c = 0; c < sizeof caches / sizeof *caches; c++) {
        char text[512];
        struct ck ck = {0};
        snprintf(text, sizeof text, KP_LLAMA3_8B HW "cache: {%s}\n", caches[c]);
        struct kp *k = kp_build(text);
        const struct fold *f = &k->problem.whole;
        for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
            uint64_t most = 0;
            for (uint64_t t = 0; t < 400; t++) {
                most = u64_max(most, fold_resident_bytes(f, prompts[i], t, 1, &ck));
                kt_u64(fold_highest_bytes(f, prompts[i], t, 1, &ck), most);
            }
        }
        kp_free(k);
    }
}

/* Nine kernels a layer and pass of the program: prompts of m + b = 9 tokens are nine decode
 * steps, longer ones one pass (whose iterations run in it). */
static void test_launches(void **state)
{
    (void)state;
    for (unsigned prompt = 9; prompt <= 10; prompt++) {
        char text[512];
        struct plan plan;
        snprintf(text, sizeof text,
                 KP_LLAMA7B
                 "hardware: {gpu: {memory: 80GiB, bandwidth: 1TB/s, bf16: 100TFLOPS}}\n"
                 "cache: {sharing: {scheme: lckv, warmup: 2}}\nworkload: {prompt: %u, "
                 "output: 10, batch: 2}\n",
                 prompt);
        struct kp *k = kp_build(text);
        plan_solve(&k->problem, &k->problem.workload, &plan);
        kt_rel(plan.prefill_op_s[OP_LAUNCH],
               9 * (prompt == 9 ? 9 * 32 : 272) * k->problem.gpu.kernel_launch_s, 1e-12);
        kt_rel(plan.decode_op_s[OP_LAUNCH], 9 * 32 * k->problem.gpu.kernel_launch_s, 1e-12);
        kp_free(k);
    }
}

struct state_case {
    const char *model;
    double flop;       /* a token and layer, besides the matrices */
    uint64_t tp1, tp8; /* bytes of one sequence and layer on a rank; 0 = not asked */
};

/* Bytes: vLLM's mamba_utils (conv bf16, state fp32 where the model says so), tp 8 of the
 * Mamba-2 shape: 531,968 B. FLOP of the recurrence a token, counted by hand: decay 1, outer
 * product 2, read-out 2 for every element of the state, the delta rule reads it once more (2);
 * a convolution multiplies and adds `kernel` columns. mamba2: 128 heads x 64 x 128 x 5 + 2 x 4
 * x (8192 + 2 x 8 x 128) mamba1: 8192 x 16 x 5 + 2 x 4 x 8192 gdn: 32 x 128 x 128 x 7 + 2 x 4 x
 * (2 x 16 x 128 + 32 x 128) kda: 32 x 128 x 128 x 7 + 2 x 4 x 3 x 32 x 128 lightning: 64 x 128
 * x 128 x 5 */
static const struct state_case state_cases[] = {
    {"{kind: mamba2, heads: 128, head_dim: 64, state_dim: 128, groups: 8, conv_kernel: 4, fp32_state: true}",
     5.0 * 1048576 + 8.0 * 10240, 4255744, 531968},
    {"{kind: mamba1, inner: 8192, state_dim: 16, conv_kernel: 4, dt_rank: 256}",
     5.0 * 131072 + 8.0 * 8192, 311296, 38912},
    {"{kind: gdn, k_heads: 16, k_dim: 128, v_heads: 32, v_dim: 128, conv_kernel: 4, fp32_state: true}",
     7.0 * 524288 + 8.0 * 8192, 2146304, 268288},
    {"{kind: kda, heads: 32, head_dim: 128, conv_kernel: 4, fp32_state: true}",
     7.0 * 524288 + 24.0 * 4096, 2170880, 271360},
    {"{kind: lightning, heads: 64, head_dim: 128}", 5.0 * 1048576, 2097152, 262144},
};

static struct kp *state_problem(const char *state, unsigned tp)
{
    char text[1024];

    snprintf(
        text, sizeof text,
        "model: {layers: 1, hidden_size: 512, intermediate_size: 64, heads: 8, kv_heads: 8, head_dim: 64, vocab_size: 100, "
        "ssm: %s, mixer: none}\n"
        "hardware: {memory: 1GiB, count: %u}\nparallel: {tp: %u}\n",
        state, tp, tp);
    return kp_build(text);
}

static void test_states(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof state_cases / sizeof *state_cases; i++) {
        const struct state_case *c = &state_cases[i];
        struct kp *one = state_problem(c->model, 1), *eight = state_problem(c->model, 8);
        struct tensor t[LAYER_TENSORS_MAX];
        double matrices = 0;
        size_t n = weights_layer(&one->problem.model, &one->problem.layout.layers[0], false, t);
        for (size_t k = 0; k < n; k++)
            if (t[k].part == PART_STATE && !t[k].vector)
                matrices += 2.0 * (double)(t[k].out * t[k].in * t[k].active);
        kt_rel(one->problem.whole_work.token_flop[OP_STATE] - matrices, c->flop, 1e-12);
        kt_u64(one->problem.whole.state_bytes, c->tp1);
        kt_u64(eight->problem.stages[0].fold.state_bytes, c->tp8);
        kp_free(one);
        kp_free(eight);
    }
}

/* Stages share out the states and the cache of a hybrid: layers 1-3 keep a state, 4 attends,
 * and so on. */
static void test_hybrid_stages(void **state)
{
    (void)state;
    static const char model[] =
        "model: {layers: 8, hidden_size: 512, intermediate_size: 64, heads: 8, kv_heads: 8, head_dim: 64, vocab_size: 100, "
        "layer_kinds: {rec: {mixer: none, ssm: {kind: lightning, heads: 8, head_dim: 64}}}, "
        "layer_types: [{repeat: 2, of: [rec*3, full]}]}\n";
    char text[1024];
    struct ck ck = {0};
    uint64_t sum = 0, layers = 0;
    snprintf(text, sizeof text, "%s" HW, model);
    struct kp *one = kp_build(text);
    snprintf(text, sizeof text, "%shardware: {memory: 1GiB, count: 3}\nparallel: {pp: 3}\n",
             model);
    struct kp *three = kp_build(text);
    kt_u64(one->problem.whole.state_layers, 6);
    kt_u64(one->problem.whole.state_bytes, 6 * 8 * 64 * 64 * 2);
    for (uint32_t i = 0; i < 3; i++) {
        const struct fold *f = &three->problem.stages[i].fold;
        sum += fold_resident_bytes(f, 1000, 10, 1, &ck);
        layers += f->state_layers;
    }
    kt_u64(layers, 6);
    /* a step writes K and V of two layers (2 x 2 x 512 x 2 B) beside reading their projections,
     * and reads and writes the states */
    struct op_tally t = {{0}, {0}};
    work_decode(&one->problem.whole_work, &one->problem.whole, 1000, 0, 3, &t);
    kt_rel(t.bytes[OP_QKV], 2 * 3 * 512.0 * 512 * 2 + 3 * 4096, 1e-12);
    kt_rel(t.bytes[OP_STATE] - (double)one->problem.whole_work.read_bytes[OP_STATE],
           2 * 3 * 6.0 * 8 * 64 * 64 * 2, 1e-12);
    kt_u64(sum, fold_resident_bytes(&one->problem.whole, 1000, 10, 1, &ck));
    kt_u64(sum, 6 * 8 * 64 * 64 * 2 + 2 * 2 * 512 * 2 * 1010);
    kp_free(three);
    kp_free(one);
}

/* A ring all-reduce sends 2 (n - 1) / n of the data a rank, twice a layer: hidden 4096, bf16,
 * 10 tokens, 32 layers, tp 4: 2 x 32 x 10 x 8192 x 1.5 = 7,864,320 B in 64 messages; pipeline
 * stages hand on one activation. */
static void test_collectives(void **state)
{
    (void)state;
    struct model m = {.hidden = 4096};
    struct op_tally t = {{0}, {0}};
    kt_u64(roofline_collectives(&m, (struct parallel){4, 1, 1, 1, 1}, 32, 10, &t), 64);
    kt_rel(t.bytes[OP_COLLECTIVE], 7864320, 1e-12);
    memset(&t, 0, sizeof t);
    kt_u64(roofline_collectives(&m, (struct parallel){1, 3, 1, 1, 1}, 11, 10, &t), 1);
    kt_rel(t.bytes[OP_COLLECTIVE], 81920, 1e-12);
    memset(&t, 0, sizeof t);
    kt_u64(roofline_collectives(&m, (struct parallel){1, 1, 1, 8, 1}, 32, 10, &t),
           64); /* dispatch and combine */
    kt_rel(t.bytes[OP_COLLECTIVE], 2 * 32 * 10 * 8192.0 * 7 / 8, 1e-12);
    memset(&t, 0, sizeof t);
    kt_u64(roofline_collectives(&m, (struct parallel){1, 1, 1, 1, 2}, 32, 10, &t), 32);
    kt_rel(t.bytes[OP_COLLECTIVE], 32 * 10 * 8192.0, 1e-12);
    memset(&t, 0, sizeof t);
    kt_u64(roofline_collectives(&m, (struct parallel){1, 1, 4, 1, 1}, 32, 10, &t), 0);
    kt_rel(t.bytes[OP_COLLECTIVE] + 1, 1, 1e-12);
}

/* Logits of 10 tokens over a vocabulary of 1000 on 4 ranks: each lacks three quarters. */
static void test_logits(void **state)
{
    (void)state;
    struct model m = {.vocab = 1000};
    struct work head = {.samples = true}, none = {.samples = false};
    struct op_tally t = {{0}, {0}};

    kt_u64(roofline_logits(&none, &m, (struct parallel){4, 1, 1, 1, 1}, 10, &t), 0);
    kt_u64(roofline_logits(&head, &m, (struct parallel){1, 1, 1, 1, 1}, 10, &t), 0);
    kt_u64(roofline_logits(&head, &m, (struct parallel){4, 1, 1, 1, 1}, 0, &t), 0);
    kt_rel(t.bytes[OP_COLLECTIVE] + 1, 1, 1e-12);
    kt_u64(roofline_logits(&head, &m, (struct parallel){4, 1, 1, 1, 1}, 10, &t), 1);
    kt_rel(t.bytes[OP_COLLECTIVE], 10 * 2 * 750, 1e-12);
}

/* The longer of memory and arithmetic time decides, op by op. */
static void test_roofline_sides(void **state)
{
    (void)state;
    struct machine m = {.weight_bytes_per_s = 100,
                        .cache_bytes_per_s = 50,
                        .gemm_flop_per_s = 1000,
                        .attention_flop_per_s = 500,
                        .kernel_launch_s = 0.25,
                        .peer_bytes_per_s = 10,
                        .peer_latency_s = 0.5};
    struct op_tally t = {{0}, {0}};
    double s[N_OPS];
    t.bytes[OP_MLP] = 200;       /* 2 s */
    t.flop[OP_MLP] = 1500;       /* 1.5 s, of which a third is not hidden */
    t.bytes[OP_SCORES] = 50;     /* 1 s */
    t.flop[OP_SCORES] = 1500;    /* 3 s */
    t.bytes[OP_COLLECTIVE] = 40; /* 4 s and 2 x 0.5 s */
    kt_rel(roofline_seconds(&t, &m, 8, 2, s), 2.5 + 3 + 2 + 5, 1e-12);
    kt_rel(s[OP_MLP], 2.5, 1e-12);
    kt_rel(s[OP_SCORES], 3, 1e-12);
    kt_rel(s[OP_LAUNCH], 2, 1e-12);
    kt_rel(s[OP_COLLECTIVE], 5, 1e-12);
    kt_rel(roofline_fixed_s(&t, &m, 8, 2), 7, 1e-12);
    t.flop[OP_MLP] = 3000; /* 3 s: as long as 2 and a third of it */
    roofline_seconds(&t, &m, 8, 2, s);
    kt_rel(s[OP_MLP], 3, 1e-12);
    t.flop[OP_MLP] = 4000;
    roofline_seconds(&t, &m, 8, 2, s);
    kt_rel(s[OP_MLP], 4, 1e-12);
}

/* Expert reads: 8 layers of 16 experts, 2 a token; a step of one sequence reads 2/16 of them,
 * of three 1 - (7/8)^3. */
static void test_expert_reads(void **state)
{
    (void)state;
    struct kp *k = kp_build(
        "model: {layers: 8, hidden_size: 256, heads: 4, kv_heads: 4, head_dim: 64, vocab_size: 1000, "
        "intermediate_size: 128, moe: {experts: 16, top_k: 2, intermediate_size: 128}}\n" HW);
    const struct work *w = &k->problem.whole_work;
    struct op_tally one = {{0}, {0}}, three = {{0}, {0}};
    uint64_t experts = 8ull * 16 * 3 * 256 * 128 * 2, router = 8ull * 16 * 256 * 2;
    kt_u64(w->experts[0].bytes, experts);
    work_decode(w, &k->problem.whole, 10, 0, 1, &one);
    work_decode(w, &k->problem.whole, 10, 0, 3, &three);
    kt_rel(one.bytes[OP_EXPERTS], (double)router + (double)experts / 8, 1e-12);
    kt_rel(three.bytes[OP_EXPERTS], (double)router + (double)experts * (1 - 0.669921875),
           1e-12);
    kt_rel(one.flop[OP_EXPERTS], 8 * 2.0 * (16 * 256 + 2 * 3 * 256 * 128), 1e-12);
    struct op_tally pre = {{0}, {0}}; /* a prefill of 2 prompts of 5 tokens: 10 tokens draw
                                      experts, weights are read once */
    work_prefill(w, &k->problem.whole, 5, 2, 9, &pre);
    double share = 1;
    for (int i = 0; i < 10; i++)
        share *= 0.875;
    kt_rel(pre.bytes[OP_EXPERTS], (double)router + (double)experts * (1 - share), 1e-12);
    kt_rel(pre.flop[OP_EXPERTS], 10 * one.flop[OP_EXPERTS], 1e-12);
    kp_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama7b),
        cmocka_unit_test(test_short_prompts_are_sequential),
        cmocka_unit_test(test_prefill_peaks),
        cmocka_unit_test(test_decode_growth),
        cmocka_unit_test(test_paged_ragged),
        cmocka_unit_test(test_mla),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_training_units),
        cmocka_unit_test(test_early_exit),
        cmocka_unit_test(test_sequential_prefill),
        cmocka_unit_test(test_scheme_cost),
        cmocka_unit_test(test_classes_stay_apart),
        cmocka_unit_test(test_highest_is_the_highest_step),
        cmocka_unit_test(test_peak_of_mixed_layers),
        cmocka_unit_test(test_launches),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_hybrid_stages),
        cmocka_unit_test(test_collectives),
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_roofline_sides),
        cmocka_unit_test(test_expert_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
