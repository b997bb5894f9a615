/* Several replicas, prompts handed from some to others, and what is told of a simulation:
 * spans, peaks, the state at any moment. Steps of one second, blocks of 16 tokens of 1 KiB. */
#include "tests/kvsim.h"

#define SERVER(seqs, tokens, bytes)                                                            \
    KS_MODEL KS_GPU                                                                            \
        "engine: {name: vllm, version: \"0.19.0\", max_model_len: 4096, max_seqs: " #seqs      \
        ", max_batched_tokens: " #tokens "}\nmemory: {per_gpu: {kv_pool_bytes: " #bytes "}}\n"

#define N(r) (sizeof(r) / sizeof *(r))

static void is(const struct ks *k, size_t i, double scheduled, double first, double last)
{
    const struct outcome *o = &k->outcomes[i];

    kt_rel(o->scheduled_s, scheduled, 1e-12);
    kt_rel(o->first_s, first, 1e-12);
    kt_rel(o->last_s, last, 1e-12);
}

/* One sends, one decodes. 7 blocks (112 KiB) take 2 s; the link sends one after another. */
static void test_handed_over(void **state)
{
    struct ks *k = ks_seconds(SERVER(8, 256, 1048576));
    static const struct ks_request r[] = {
        {0, 100, 3, NULL, 0, 0}, /* step 1; sent until 3; decodes in steps to 4 and 5 */
        {0, 50, 2, NULL, 0, 0},  /* step 1; 4 blocks more until 4.14; noticed at 5, done at 6 */
        {0, 20, 1, NULL, 0, 0},  /* done where its prompt ran */
    };

    (void)state;
    k->opt.prefill_replicas = 1;
    k->opt.transfer_bytes_per_s = 114688 / 2;
    ks_run(k, r, N(r));
    is(k, 0, 0, 1, 5);
    is(k, 1, 0, 1, 6);
    is(k, 2, 0, 1, 1);
    kt_u64(k->outcomes[0].replica, 1);
    kt_u64(k->outcomes[1].replica, 1);
    kt_u64(k->outcomes[2].replica, 0);
    ks_free(k);
}

/* Pools of 8 blocks. 0 holds 7 of the first until the second takes it at 3; then 1 runs, whose
 * 4 blocks find no room beside 0 until 7; so 2, which needs 5, waits till then. */
static void test_waits_with_its_blocks(void **state)
{
    struct ks *k = ks_seconds(SERVER(8, 256, 131072));
    static const struct ks_request r[] = {
        {0, 100, 5, NULL, 0, 0}, {0, 50, 2, NULL, 0, 0}, {0.5, 80, 1, NULL, 0, 0}};

    (void)state;
    k->opt.prefill_replicas = 1;
    k->opt.transfer_bytes_per_s = 114688 / 2;
    for (int i = 0; i < 2; i++) {
        k->opt.every_step = i;
        ks_run(k, r, N(r));
        is(k, 0, 0, 1, 7);
        is(k, 1, 3, 4, 8);
        is(k, 2, 7, 8, 8);
    }
    ks_free(k);
}

static void test_routers(void **state)
{
    static const uint64_t a[] = {1, 2}, b[] = {8, 9};
    static const struct ks_request r[] = {
        {0, 1000, 50, a, 2, 512}, {0, 1000, 2, b, 2, 512}, {10, 1000, 2, b, 2, 512},
        {20, 1000, 2, a, 2, 512}, {30, 700, 2, a, 2, 512}, {40, 300, 2, NULL, 0, 512},
    };
    static const uint64_t want[3][N(r)] = {
        {0, 1, 2, 0, 1, 2}, /* in turn */
        {0, 1, 1, 1, 1, 1}, /* 0 is busy until 50, the first of the rest is idle */
        {0, 1, 1, 0, 0, 1}, /* where the prefix is; the last knows none */
    };
    struct ks *k = ks_seconds(SERVER(8, 2048, 16777216));

    (void)state;
    k->opt.replicas = 3;
    k->opt.prefix_cache = true;
    for (int i = 0; i < 3; i++) {
        k->opt.router = (enum router)i;
        ks_run(k, r, N(r));
        for (size_t j = 0; j < N(r); j++)
            kt_u64(k->outcomes[j].replica, want[i][j]);
    }
    kt_u64(k->outcomes[2].cached_tokens, 992);
    kt_u64(k->outcomes[3].cached_tokens, 992);
    ks_free(k);
}

/* Requests of 100 + 50 tokens hold 10 blocks in the end: 64 blocks run 6, as the planner says.
 */
static void test_peak(void **state)
{
    struct ks *k =
        ks_seconds(SERVER(64, 4096, 1048576) "workload: {prompt: 100, output: 50}\n");
    static struct ks_request r[20];
    struct plan plan;

    (void)state;
    for (size_t i = 0; i < N(r); i++)
        r[i] = (struct ks_request){0, 100, 50, NULL, 0, 0};
    k->opt.policy = ks_policy(k, "no-evict");
    ks_run(k, r, N(r));
    plan_solve(&k->kp->problem, &k->kp->problem.workload, &plan);
    kt_u64(plan.max_batch, 6);
    kt_u64(k->peak_running, plan.max_batch);
    kt_u64(k->peak_units, 60);
    k->opt.policy = NULL;
    ks_run(k, r, 1);
    kt_u64(k->peak_units, 10); /* 149 tokens */
    ks_free(k);
}

/* Spans say what the outcomes say. */
static void test_spans(void **state)
{
    struct ks *k = ks_build(SERVER(8, 64, 16777216));
    static struct ks_request r[50];
    uint64_t prompts = 0, outputs = 0;

    (void)state;
    for (size_t i = 0; i < N(r); i++) {
        r[i] = (struct ks_request){
            (double)i * 0.003, 1 + i * 7 % 200, 1 + i * 13 % 60, NULL, 0, 0};
        prompts += r[i].prompt;
        outputs += r[i].output;
    }
    ks_run(k, r, N(r));
    kt_u64(k->now.preemptions, 0);
    kt_u64(k->sums.prompt_tokens, prompts);
    kt_u64(k->sums.output_tokens, outputs);
    kt_u64(k->now.output_tokens, outputs);
    kt_u64(k->now.prompt_tokens, prompts);
    kt_u64(k->sums.steps, k->now.steps);
    kt_u64(k->now.running + k->now.waiting + k->now.used_units, 0);
    ks_free(k);
}

static void same(const struct outcome *a, const struct outcome *b)
{
    assert_true(a->queued_s == b->queued_s && a->scheduled_s == b->scheduled_s);
    assert_true(a->first_s == b->first_s && a->last_s == b->last_s);
    kt_u64(a->preemptions, b->preemptions);
    kt_u64(a->end, b->end);
}

/* The same twice, and in slices of any size. */
static void test_same_again(void **state)
{
    struct ks *k = ks_build(SERVER(8, 64, 262144));
    static struct ks_request r[80];
    static struct outcome first[80];

    (void)state;
    for (size_t i = 0; i < N(r); i++)
        r[i] = (struct ks_request){
            (double)i * 0.01, 1 + i * 37 % 120, 1 + i * 17 % 90, NULL, 0, 0};
    ks_run(k, r, N(r));
    memcpy(first, k->outcomes, sizeof first);
    assert_true(k->now.preemptions > 0);
    for (uint64_t slice = 1; slice < 50; slice += 7) {
        struct sim_sink sink = {k, ks_outcome, NULL};
        struct trace *t = ks_trace(k, r, N(r));
        struct sim *s;
        memset(k->outcomes, 0, sizeof first);
        k->n_outcomes = 0;
        s = sim_new(&k->kp->problem, k->steps, &k->opt, &sink, k->kp->diag);
        while (sim_run(s, t, slice))
            continue;
        assert_int_equal(sim_replicas(s), 1);
        sim_free(s);
        trace_close(t);
        for (size_t i = 0; i < N(r); i++)
            same(&k->outcomes[i], &first[i]);
    }
    ks_free(k);
}

/* What has to be said of a spec. */
static void test_limits(void **state)
{
    struct ks *k = ks_seconds(
        KS_MODEL KS_GPU "engine: {name: ideal, max_seqs: 600, max_batched_tokens: 512}\n");
    static const struct ks_request r[] = {{0, 100, 3, NULL, 0, 0}};

    (void)state;
    ks_run(k, r, N(r));
    kp_says(k->kp, "a step of 512 tokens cannot run engine.max_seqs (600): simulated with 512 "
                   "sequences");
    ks_free(k);
    k = ks_seconds(KS_MODEL KS_GPU "engine: {name: ideal}\n");
    ks_run(k, r, N(r));
    kp_says(k->kp, "engine.max_batched_tokens: 8192 tokens a step, as vLLM");
    ks_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handed_over), cmocka_unit_test(test_waits_with_its_blocks),
        cmocka_unit_test(test_routers),     cmocka_unit_test(test_peak),
        cmocka_unit_test(test_spans),       cmocka_unit_test(test_same_again),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
