/* Bytes and FLOPs against figures worked out outside this program: arXiv:2405.10637 shapes with the formulas of
 * cross-layer sharing, PyramidKV and SnapKV peaks, MLA decode counts. Derivations stand beside the numbers. */
#include "tests/kvplan.h"

#define HW "hardware: {memory: 1TiB}\n"

struct llama7b {
    const char *sharing;
    double prefill512, prefill2048, decode2048; /* FLOP without embedding and head, 4 digits */
    uint64_t read, resident; /* bytes at 2048 cached tokens, and after that step */
};

/* LLaMA-7B, one sequence, m + b = 9: prefill and decode FLOPs, bytes read and resident (derived from Table 5 of
 * arXiv:2405.10637 and the pass rule of the official code). Read bytes: 32 layers x 16,384 B x 2049 keys, less one key in
 * each layer that attends upward (29 for w=2, 21 for w=10). */
static const struct llama7b cases[] = {
    {"", 6.700e12, 2.763e13, 1.403e10, 1074266112, 1074266112},
    {"cache: {sharing: {scheme: lckv, warmup: 2}}\n", 4.798e13, 1.989e14, 1.208e10, 1073790976,
     100712448},
    {"cache: {sharing: {scheme: lckv, warmup: 10}}\n", 3.706e13, 1.536e14, 1.262e10, 1073922048,
     369278976},
};

static double layers_only(const struct tally *t)
{
    double sum = 0;

    for (int op = 0; op < N_OPS; op++)
        sum += op == OP_HEAD ? 0 : t->flop[op];
    return sum;
}

static double prefill_flop(const struct problem *p, uint64_t n)
{
    struct tally t = {{0}, {0}};

    work_prefill(&p->whole_work, &p->whole, n, 1, 9, &t);
    return layers_only(&t);
}

static void test_llama7b(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        struct ck ck = {0};
        struct tally t = {{0}, {0}};
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

/* Prompts of no more than m + b = 9 tokens are decoded one by one and pay no passes (official LCKV code): nine steps
 * cost less than one iterated prefill of ten tokens. */
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

/* Llama-3-8B, prompt 8192, fp16: rows are 4096 B in KV-head and 16384 B in query-head layout. PyramidKV C=128 keeps 4272
 * rows, C=2048 65,552, SnapKV C=2048 65,536. Peak: all kept rows + one whole layer (query heads expanded beside the
 * original): (4272 + 8192) x 4096 = 51,052,544; ((4272 + 8192) x 4 + 8192) x 4096 = 237,764,608. */
static const struct peak peaks[] = {
    {"{scheme: pyramidkv, capacity: 128, window: 8, layout: kv_head}", 17498112, 51052544},
    {"{scheme: pyramidkv, capacity: 128, window: 8, layout: query_head}", 69992448, 237764608},
    {"{scheme: pyramidkv, capacity: 2048, window: 8, layout: kv_head}", 268500992, 302055424},
    {"{scheme: pyramidkv, capacity: 2048, window: 8, layout: query_head}", 1074003968,
     1241776128},
    {"{scheme: snapkv, capacity: 2048, window: 32, layout: kv_head}", 268435456, 301989888},
    {"{scheme: snapkv, capacity: 2048, window: 32, layout: query_head}", 1073741824, 1241513984},
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

/* Prefill-only schemes append every generated token: rows after t tokens are the kept ones + 32 t. */
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

/* DeepSeek-V3 attention, one layer, 128 heads, latent 512 + 64, at 32768 keys: core 2 H T (576 + 512) = 9,126,805,504
 * FLOP; the absorbed projections 2 H (128 x 512 + 512 x 128) = 33,554,432 are the up-projection of one token. Cache bytes a
 * token and layer: 576 x 2 = 1152, on every tensor-parallel rank alike. */
static void test_mla(void **state)
{
    (void)state;
    struct ck ck = {0};
    struct tally t = {{0}, {0}};
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

/* 256 experts, 8 a token: one token touches 8/256; by Monte-Carlo-free reasoning two touch 1 - (31/32)^2. */
static void test_experts(void **state)
{
    (void)state;
    kt_rel(work_expert_share(256, 8, 1), 0.03125, 1e-15);
    kt_rel(work_expert_share(256, 8, 2), 1 - 0.96875 * 0.96875, 1e-15);
    kt_rel(work_expert_share(256, 8, 100000), 1, 1e-12);
    kt_rel(work_expert_share(0, 0, 5), 1, 1e-15);
}

/* Training: 3 forward units a layer, m + 3b = 13 on iterated ones: LCKV w=2 on 22 layers (2 x 3 + 20 x 13) / 66 = 4.03. */
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

/* YOCO: every prompt token but the last skips the cross-decoder; only its K/V are computed. 3B shape, L 26. */
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
    struct tally t = {{0}, {0}}, u = {{0}, {0}};
    work_prefill(&k->problem.whole_work, &k->problem.whole, 4096, 1, 9, &t);
    work_prefill(&plain->problem.whole_work, &plain->problem.whole, 4096, 1, 9, &u);
    kt_rel(u.flop[OP_MLP], 4096 * mlp, 1e-12);
    kt_rel(t.flop[OP_MLP], 4096 * mlp / 2 + mlp / 2,
           1e-12); /* half the layers for all, half for the last token */
    kt_u64(fold_token_bytes(&k->problem.whole, false, &ck), 4096);
    kt_u64(k->problem.whole.state_bytes, 10223616);
    kt_u64(fold_token_bytes(&plain->problem.whole, false, &ck), 106496);
    kp_free(plain);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
