/* Servers that compose the batch of a step when the step before it begins: schedules written
 * down by hand, every step one second. What arrives or ends in step k (seconds k - 1 to k) is
 * seen when step k + 1 begins, by the batch of step k + 2. Blocks have 16 tokens. */
#include "tests/kvsim.h"

#define SERVER(seqs, tokens, bytes)                                                            \
    KS_MODEL KS_GPU                                                                            \
        "engine: {name: vllm, version: \"0.19.0\", max_model_len: 1024, max_seqs: " #seqs      \
        ", max_batched_tokens: " #tokens "}\nmemory: {per_gpu: {kv_pool_bytes: " #bytes "}}\n"

#define N(r) (sizeof(r) / sizeof *(r))

static struct ks *server(const char *yaml)
{
    struct ks *k = ks_seconds(yaml);

    k->opt.policy = ks_policy(k, "vllm-v1");
    k->opt.ahead = SIM_AHEAD_ON;
    return k;
}

/* An idle server composes at once; a busy one has composed the next step already. */
static void test_arrivals(void **state)
{
    struct ks *k = server(SERVER(8, 256, 1048576));
    static const struct ks_request r[] = {
        {0, 10, 4, NULL, 0, 0},   /* steps 1 to 4 */
        {0.5, 10, 2, NULL, 0, 0}, /* noticed at 1, in step 3 */
        {1, 10, 1, NULL, 0, 0},   /* at the very end of step 1: the same */
        {1.5, 10, 1, NULL, 0, 0}, /* noticed at 2, in step 4 */
        {9, 10, 2, NULL, 0, 0},   /* idle since 4 */
        {9, 10, 1, NULL, 0, 0},
    };

    (void)state;
    ks_both(k, r, N(r));
    ks_is(k, 0, 0, 1, 4);
    ks_is(k, 1, 1, 3, 4);
    ks_is(k, 2, 1, 3, 3);
    ks_is(k, 3, 2, 4, 4);
    ks_is(k, 4, 9, 10, 11);
    ks_is(k, 5, 9, 10, 10);
    assert_true(k->outcomes[1].queued_s == 1 && k->outcomes[2].queued_s == 1);
    assert_true(k->outcomes[3].queued_s == 2 && k->outcomes[4].queued_s == 9);
    k->opt.ahead = SIM_AHEAD_OFF;
    ks_both(k, r, N(r));
    ks_is(k, 1, 1, 2, 3);
    ks_is(k, 3, 2, 3, 3);
    ks_is(k, 4, 9, 10, 11);
    ks_free(k);
}

/* A place is free one step later; where nothing else runs the server is idle and sees at once.
 */
static void test_places(void **state)
{
    struct ks *k = server(SERVER(2, 256, 1048576));
    static const struct ks_request r[] = {
        {0, 10, 2, NULL, 0, 0}, /* ends with step 2 */
        {0, 10, 5, NULL, 0, 0}, /* alone in step 3 */
        {0, 10, 3, NULL, 0, 0}, /* composed at 2 for step 4; ends with step 6 */
        {0, 10, 1, NULL, 0, 0}, /* 1 ended with 5: composed at 5 for step 7, which is the next
                                   to run: 2 ended with 6, seen at 6 */
    };

    (void)state;
    ks_both(k, r, N(r));
    ks_is(k, 0, 0, 1, 2);
    ks_is(k, 1, 0, 1, 5);
    ks_is(k, 2, 2, 4, 6);
    ks_is(k, 3, 5, 7, 7);
    kt_u64(k->now.steps, 7);
    ks_free(k);

    k = server(SERVER(1, 256, 1048576));
    ks_both(k, r, 2);
    ks_is(k, 0, 0, 1, 2);
    ks_is(k, 1, 2, 3, 7);
    ks_free(k);
}

/* 4 blocks. 0 and 1 hold two each, 0 wants a third in step 4 (its 49th token). */
static void test_blocks(void **state)
{
    struct ks *k = server(SERVER(8, 256, 65536));
    static const struct ks_request waits[] = {
        {0, 32, 3, NULL, 0, 0}, /* 3 blocks from step 2 on, ends with step 3 */
        {0, 8, 6, NULL, 0, 0},  /* one block */
        {0, 20, 2, NULL, 0, 0}, /* two: free at 3, so composed at 3 for step 5 */
    };

    (void)state;
    ks_both(k, waits, N(waits));
    ks_is(k, 0, 0, 1, 3);
    ks_is(k, 1, 0, 1, 6);
    ks_is(k, 2, 3, 5, 6);
    k->opt.ahead = SIM_AHEAD_OFF;
    ks_both(k, waits, N(waits));
    ks_is(k, 2, 3, 4, 5);
    ks_free(k);
}

/* Who is preempted gives its blocks to this very step, and keeps the token of the running one.
 */
static void test_preemption(void **state)
{
    struct ks *k = server(SERVER(8, 256, 65536));
    static const struct ks_request r[] = {
        {0, 31, 6, NULL, 0, 0},
        {0, 31, 4, NULL, 0, 0},
        {0, 4, 9, NULL, 0, 0},
    };

    (void)state;
    /* 0 and 1 take the 4 blocks in step 1. Step 3 (composed at 1) is that of their 33rd tokens:
     * 1 goes with 2 tokens, the second of which it gets at 2. 33 tokens need 3 blocks, so it
     * waits, 2 behind it. 0 ends with step 6; nothing else runs, so both are composed at 6. */
    ks_both(k, r, N(r));
    ks_is(k, 0, 0, 1, 6);
    ks_is(k, 1, 0, 1, 8);
    ks_is(k, 2, 6, 7, 15);
    kt_u64(k->outcomes[1].preemptions, 1);
    kt_u64(k->now.preemptions, 1);
    ks_free(k);
}

/* The last of the running has its last token under way when its blocks are needed: they are
 * taken, nothing is computed again, and nobody else has to go. */
static void test_ended_gives_way(void **state)
{
    struct ks *k = server(SERVER(8, 256, 65536));
    static const struct ks_request r[] = {
        {0, 31, 9, NULL, 0, 0},
        {0, 31, 2, NULL, 0, 0}, /* ends with step 2 */
        {0, 4, 3, NULL, 0, 0},  /* no admission in a step that took somebody's blocks */
    };

    (void)state;
    ks_both(k, r, N(r));
    ks_is(k, 0, 0, 1, 9);
    ks_is(k, 1, 0, 1, 2);
    ks_is(k, 2, 2, 4, 6);
    kt_u64(k->now.preemptions, 0);
    ks_free(k);
}

/* --- the queue over time ------------------------------------------------------------------ */

/* What the spans say of the queue is what each request waited, whichever way time runs; here
 * requests arrive while a long segment that cannot admit them goes on. */
static void test_queue(void **state)
{
    struct ks *k = ks_seconds(SERVER(1, 256, 1048576));
    static const struct ks_request r[] = {
        {0, 10, 100, NULL, 0, 0},
        {10.5, 10, 1, NULL, 0, 0},
        {60.25, 10, 50, NULL, 0, 0},
        {140, 10, 5, NULL, 0, 0},
    };

    (void)state;
    for (int i = 0; i < 4; i++) {
        double waited = 0;
        k->opt.every_step = i & 1;
        k->opt.ahead = SIM_AHEAD_OFF;
        k->opt.policy = ks_policy(k, i & 2 ? "static" : "vllm-v1");
        ks_run(k, r, N(r));
        for (size_t j = 0; j < N(r); j++)
            waited += k->outcomes[j].scheduled_s - r[j].arrival_s;
        assert_true(waited > 140 && k->waited_s - waited < 1e-9 && waited - k->waited_s < 1e-9);
    }
    ks_free(k);
}

/* --- who does ------------------------------------------------------------------------------
 */

static void engine_is(const char *engine, const char *policy, enum sim_ahead asked, bool ahead,
                      const char *why)
{
    char yaml[512];
    struct ks *k;
    struct sim_sink sink = {0};
    const char *said;
    struct sim *s;

    snprintf(yaml, sizeof yaml, "%shardware: {gpu: h100-sxm5-80gb, count: 2}\n%s\n", KS_MODEL,
             engine);
    k = ks_build(yaml);
    k->opt.ahead = asked;
    k->opt.policy = policy ? ks_policy(k, policy) : NULL;
    s = sim_new(&k->kp->problem, k->steps, &k->opt, &sink, k->kp->diag);
    assert_non_null(s);
    assert_int_equal(sim_composes_ahead(s, &said), ahead);
    if (!strstr(said, why) || (!*why && *said))
        fail_msg("%s: said '%s', expected '%s'", engine, said, why);
    sim_free(s);
    ks_free(k);
}

/* vLLM: release notes of 0.14 (asynchronous scheduling by default, not with pipeline stages);
 * SGLang: overlap scheduler by default since 0.4; TensorRT-LLM: PyTorch backend since 1.0. */
static void test_engines(void **state)
{
    const char *slots = "engine: {name: llamacpp, max_model_len: 8192, n_seq: 4}\n"
                        "workload: {prompt: 100, output: 100, batch: 4}";

    (void)state;
    engine_is("engine: {name: vllm, version: \"0.19.0\"}", NULL, SIM_AHEAD_ENGINE, true,
              "step_with_batch_queue");
    engine_is("engine: {name: vllm, version: \"0.14.0\"}", NULL, SIM_AHEAD_ENGINE, true,
              "27614");
    engine_is("engine: {name: vllm, version: \"0.13.0\"}", NULL, SIM_AHEAD_ENGINE, false, "");
    engine_is("engine: {name: vllm, version: \"0.14.0\"}\nparallel: {pp: 2}", NULL,
              SIM_AHEAD_ENGINE, false, "");
    engine_is("engine: {name: vllm, version: \"0.16.0\"}\nparallel: {pp: 2}", NULL,
              SIM_AHEAD_ENGINE, true, "32618");
    engine_is("engine: {name: sglang}", NULL, SIM_AHEAD_ENGINE, true, "event_loop_overlap");
    engine_is("engine: {name: trtllm, version: \"1.0.0\"}", NULL, SIM_AHEAD_ENGINE, true,
              "_executor_loop_overlap");
    engine_is("engine: {name: trtllm, version: \"0.20.0\"}", NULL, SIM_AHEAD_ENGINE, false, "");
    engine_is(slots, NULL, SIM_AHEAD_ENGINE, false, "");
    engine_is("engine: {name: ideal}", NULL, SIM_AHEAD_ENGINE, false, "");
    engine_is("engine: {name: vllm, version: \"0.19.0\"}", "fcfs", SIM_AHEAD_ENGINE, false, "");
    engine_is("engine: {name: vllm, version: \"0.19.0\"}", "vllm-v1", SIM_AHEAD_ENGINE, true,
              "step_with_batch_queue");
    engine_is("engine: {name: vllm, version: \"0.19.0\"}", NULL, SIM_AHEAD_OFF, false, "given");
    engine_is("engine: {name: ideal}", NULL, SIM_AHEAD_ON, true, "given");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrivals),        cmocka_unit_test(test_places),
        cmocka_unit_test(test_blocks),          cmocka_unit_test(test_preemption),
        cmocka_unit_test(test_ended_gives_way), cmocka_unit_test(test_queue),
        cmocka_unit_test(test_engines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
