/* The policies on servers so small that the schedule can be written down: every step takes one
 * second, so a time is a number of steps. Blocks have 16 tokens. */
#include "tests/kvsim.h"

/* `blocks` KiB x 16 = that many blocks of 16 tokens. */
#define SERVER(seqs, tokens, bytes)                                                            \
    KS_MODEL KS_GPU                                                                            \
        "engine: {name: vllm, version: \"0.19.0\", max_model_len: 1024, max_seqs: " #seqs      \
        ", max_batched_tokens: " #tokens "}\nmemory: {per_gpu: {kv_pool_bytes: " #bytes "}}\n"

#define N(r) (sizeof(r) / sizeof *(r))

static struct ks *server(const char *yaml, const char *policy)
{
    struct ks *k = ks_seconds(yaml);

    k->opt.policy = ks_policy(k, policy);
    return k;
}

/* 10 + 30 tokens: 40 a step, so 0 and 1 run whole and 2 gets what is left. */
static void test_v1_chunks(void **state)
{
    struct ks *k = server(SERVER(8, 40, 1048576), "vllm-v1");
    static const struct ks_request r[] = {
        {0, 10, 3, NULL, 0, 0}, /* 0..10 in step 1, decodes in steps 2 and 3 */
        {0, 20, 1, NULL, 0, 0}, /* step 1, and done */
        {0, 90, 2, NULL, 0, 0}, /* 10 in step 1, 39 in 2, 39 in 3, 2 in 4; decode in 5 */
        {0.5, 5, 1, NULL, 0,
         0}, /* noticed at 1; budget until step 3 is spent: runs in step 4 */
    };

    (void)state;
    ks_both(k, r, N(r));
    ks_is(k, 0, 0, 1, 3);
    ks_is(k, 1, 0, 1, 1);
    ks_is(k, 2, 0, 4, 5);
    ks_is(k, 3, 3, 4, 4);
    assert_true(k->outcomes[3].queued_s == 1);
    kt_u64(k->now.steps, 5);
    ks_free(k);
}

/* 4 blocks; two sequences of 31 tokens take 2 each, and their third token needs a fifth. The
 * last one starts over: it recomputes 33 tokens, which need 3 blocks, once the first is done.
 */
static void test_v1_preemption(void **state)
{
    struct ks *k = server(SERVER(8, 256, 65536), "vllm-v1");
    static const struct ks_request r[] = {
        {0, 31, 6, NULL, 0, 0},
        {0, 31, 4, NULL, 0, 0},
        {0.5, 4, 2, NULL, 0, 0},
    };

    (void)state;
    ks_both(k, r, N(r));
    /* Step 1: prompts; 2: 32nd tokens. 3: the first needs a block, the second goes. Its 2
     * blocks are free, one is taken: 33 tokens need 3, so it waits, and 2 behind it. 0 ends
     * with step 6 (token 6). Step 7: 33 tokens of 1, its third; and 2. Step 8: the last. */
    ks_is(k, 0, 0, 1, 6);
    ks_is(k, 1, 0, 1, 8);
    ks_is(k, 2, 6, 7, 8);
    kt_u64(k->outcomes[1].preemptions, 1);
    kt_u64(k->outcomes[0].preemptions + k->outcomes[2].preemptions, 0);
    kt_u64(k->now.preemptions, 1);
    ks_free(k);
}

/* The same on V0: prompts alone in a step, decodes wait for them. */
static void test_fcfs(void **state)
{
    struct ks *k = server(SERVER(8, 64, 1048576), "fcfs");
    static const struct ks_request r[] = {
        {0, 40, 4, NULL, 0, 0},   /* step 1 alone: 40 + 30 do not fit 64 tokens */
        {0, 30, 2, NULL, 0, 0},   /* step 2; decode in step 3: done at 3 */
        {2.5, 64, 1, NULL, 0, 0}, /* noticed at 3, runs in step 4 while 0 waits */
    };

    (void)state;
    ks_both(k, r, N(r));
    ks_is(k, 0, 0, 1, 6); /* decodes in steps 3, 5, 6 */
    ks_is(k, 1, 1, 2, 3);
    ks_is(k, 2, 3, 4, 4);
    ks_free(k);
}

/* 101 blocks: a prompt of exactly 100 leaves the 1 % that V0 wants free (1 block); 101 do not.
 */
static void test_fcfs_watermark(void **state)
{
    struct ks *k =
        server("model: {layers: 2, hidden_size: 256, intermediate_size: 512, heads: 4, "
               "kv_heads: 2, head_dim: 64, vocab_size: 1000}\n" KS_GPU
               "engine: {name: vllm, version: \"0.6.4\", max_model_len: 4096, max_seqs: "
               "8, max_batched_tokens: 4096}\n"
               "memory: {per_gpu: {kv_pool_bytes: 1654784}}\n",
               "fcfs");
    static const struct ks_request r[] = {{0, 1600, 1, NULL, 0, 0}, {5, 1601, 1, NULL, 0, 0}};

    (void)state;
    kt_u64(k->kp->problem.stages[0].budget.kv_pool_bytes, 101 * 16384);
    k->opt.policy = NULL; /* this version's own */
    ks_both(k, r, N(r));
    assert_int_equal(k->outcomes[0].end, REQUEST_DONE);
    assert_int_equal(k->outcomes[1].end, REQUEST_REJECTED);
    ks_free(k);
}

/* As test_v1_preemption, but the second goes to the host at 2 and comes back when 0 has ended,
 * with what it had: it decodes at once. Copies of 2 blocks (32 KiB) take their time. */
static void test_swap(void **state)
{
    struct ks *k = server(SERVER(8, 256, 65536), "swap");
    static const struct ks_request r[] = {{0, 31, 6, NULL, 0, 0}, {0, 31, 4, NULL, 0, 0}};
    double copy = 32768 / k->kp->problem.link_bytes_per_s;

    (void)state;
    ks_both(k, r, N(r));
    /* 1: prompts, 2: second tokens, 3: 1 goes; 0 ends with step 6; 7 and 8: 1 again. */
    kt_rel(k->outcomes[0].last_s, 6 + copy, 1e-12);
    kt_rel(k->outcomes[1].last_s, 8 + 2 * copy, 1e-12);
    kt_u64(k->outcomes[1].preemptions, 1);
    ks_free(k);
}

static void test_static(void **state)
{
    struct ks *k = server(SERVER(2, 256, 1048576), "static");
    static const struct ks_request r[] = {
        {0, 10, 5, NULL, 0, 0}, {0, 10, 2, NULL, 0, 0}, {0, 10, 3, NULL, 0, 0}};

    (void)state;
    ks_both(k, r, N(r));
    ks_is(k, 0, 0, 1, 5);
    ks_is(k, 1, 0, 1, 2);
    ks_is(k, 2, 5, 6, 8); /* its place is free at 2, the batch ends at 5 */
    ks_free(k);
}

/* 6 blocks. A request of 30 + 18 tokens (47 held) reserves 3: two run, the third waits though
 * 2 blocks are free; nobody is ever preempted. */
static void test_no_evict(void **state)
{
    struct ks *k = server(SERVER(8, 256, 98304), "no-evict");
    static const struct ks_request r[] = {
        {0, 30, 18, NULL, 0, 0}, {0, 30, 18, NULL, 0, 0}, {0, 30, 18, NULL, 0, 0}};

    (void)state;
    ks_both(k, r, N(r));
    ks_is(k, 0, 0, 1, 18);
    ks_is(k, 1, 0, 1, 18);
    ks_is(k, 2, 18, 19, 36);
    kt_u64(k->now.preemptions, 0);
    ks_free(k);
}

/* --- SGLang ------------------------------------------------------------------------------- */

/* Three prompts wait behind a running one; two share its beginning. With room for one at a
 * time (two sequences) the longest cached prefix comes first, then arrival. */
static void test_sglang_order(void **state)
{
    struct ks *k = server(SERVER(2, 1024, 16777216), "sglang");
    static const uint64_t a[] = {1, 2}, b[] = {1, 3}, c[] = {9, 10};
    static const struct ks_request r[] = {
        {0, 1000, 6, a, 2, 512},     {0, 600, 2, c, 2, 512},
        {0.5, 700, 2, c, 2, 512},                              /* hits 512 of request 1 */
        {0.5, 400, 2, NULL, 0, 512}, {0.5, 900, 2, a, 2, 512}, /* hits 896 of request 0 */
        {0.5, 800, 2, b, 2, 512},                              /* hits 512 */
    };

    (void)state;
    k->opt.prefix_cache = true;
    ks_both(k, r, N(r));
    /* Step 1: 0 (1 exceeds the chunk: it gets 24 tokens), 2: the rest of 1. Places are full. 3:
     * decode, 1 is done; 4: the longest match, 4, alone; 5: decode, done; then 2, 5, 3. */
    ks_is(k, 4, 3, 4, 5);
    kt_u64(k->outcomes[4].cached_tokens, 896);
    ks_is(k, 2, 5, 6, 7);
    kt_u64(k->outcomes[2].cached_tokens, 592 / 16 * 16);
    assert_true(k->outcomes[5].scheduled_s < k->outcomes[3].scheduled_s);
    kt_u64(k->outcomes[5].cached_tokens, 512);
    ks_free(k);
}

/* 64 blocks = 1024 tokens. Admission counts 0.7 of what the running may still produce: 200 +
 * 0.7 x 199 + (200 + 200) fits 1024 - 208 held; a third does not. */
static void test_sglang_admission(void **state)
{
    struct ks *k = server(SERVER(8, 256, 1048576), "sglang");
    static const struct ks_request r[] = {
        {0, 200, 200, NULL, 0, 0}, {0.5, 200, 200, NULL, 0, 0}, {0.5, 200, 200, NULL, 0, 0}};

    (void)state;
    ks_both(k, r, N(r));
    ks_is(k, 1, 1, 2, k->outcomes[1].last_s);
    assert_true(k->outcomes[2].scheduled_s > 2);
    kt_u64(k->now.done, 3);
    ks_free(k);
}

/* --- rejected -------------------------------------------------------------------------------
 */

static void test_rejected(void **state)
{
    struct ks *k = server(SERVER(8, 256, 65536), "vllm-v1");
    static const struct ks_request r[] = {
        {0, 60, 5, NULL, 0, 0},      /* 64 tokens held: exactly 4 blocks */
        {0, 60, 6, NULL, 0, 0},      /* 65 */
        {100, 1000, 25, NULL, 0, 0}, /* max_model_len + 1 */
    };

    (void)state;
    ks_both(k, r, N(r));
    assert_int_equal(k->outcomes[0].end, REQUEST_DONE);
    assert_int_equal(k->outcomes[1].end, REQUEST_REJECTED);
    assert_int_equal(k->outcomes[2].end, REQUEST_REJECTED);
    ks_is(k, 0, 0, 1, 5);
    kt_u64(k->now.rejected, 2);
    ks_free(k);
}

/* Each engine has its own. */
static void test_defaults(void **state)
{
    static const char *const engines[][2] = {{"name: vllm, version: \"0.19.0\"", "vllm-v1"},
                                             {"name: vllm, version: \"0.6.4\"", "fcfs"},
                                             {"name: sglang", "sglang"},
                                             {"name: trtllm", "no-evict"},
                                             {"name: llamacpp, n_seq: 4", "vllm-v1"},
                                             {"name: hf", "static"},
                                             {"name: ideal", "vllm-v1"}};
    static const struct ks_request r[] = {
        {0, 40, 4, NULL, 0, 0}, {0, 30, 2, NULL, 0, 0}, {2.5, 64, 1, NULL, 0, 0}};

    (void)state;
    for (size_t i = 0; i < N(engines); i++) {
        char yaml[512];
        snprintf(yaml, sizeof yaml,
                 KS_MODEL KS_GPU
                 "engine: {%s, max_model_len: 1024}\nworkload: {prompt: 100, output: 50}\n",
                 engines[i][0]);
        struct ks *k = ks_seconds(yaml);
        struct outcome own[3];
        ks_run(k, r, N(r));
        memcpy(own, k->outcomes, sizeof own);
        k->opt.policy = ks_policy(k, engines[i][1]);
        ks_run(k, r, N(r));
        for (size_t j = 0; j < N(own); j++)
            ks_is(k, j, own[j].scheduled_s, own[j].first_s, own[j].last_s);
        ks_free(k);
    }
}

static void test_unknown(void **state)
{
    struct kt *t = *state;

    assert_null(policy_find("vllm", (struct loc){0}, t->d));
    kt_diag(
        t->d,
        "unknown policy 'vllm'; known policies: fcfs, no-evict, sglang, static, swap, vllm-v1",
        0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v1_chunks),
        cmocka_unit_test(test_v1_preemption),
        cmocka_unit_test(test_fcfs),
        cmocka_unit_test(test_fcfs_watermark),
        cmocka_unit_test(test_swap),
        cmocka_unit_test(test_static),
        cmocka_unit_test(test_no_evict),
        cmocka_unit_test(test_sglang_order),
        cmocka_unit_test(test_sglang_admission),
        cmocka_unit_test(test_rejected),
        cmocka_unit_test(test_defaults),
        kt_test(test_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
