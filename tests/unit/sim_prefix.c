/* The prefix cache: the queue of free blocks, what is hit, what is evicted first, and the ideal
 * hit rates of real traces. Steps of one second, blocks of 16 tokens; stretches have 512. */
#include "planner/base/rng.h"
#include "sim/heap.h"
#include "tests/kvsim.h"

#define SERVER(seqs, tokens, block, bytes)                                                     \
    KS_MODEL KS_GPU                                                                            \
        "engine: {name: vllm, version: \"0.19.0\", max_model_len: 200000, max_seqs: " #seqs    \
        ", max_batched_tokens: " #tokens ", block_tokens: " #block                             \
        "}\nmemory: {per_gpu: {kv_pool_bytes: " #bytes "}}\n"

/* Blocks of one token. */
#define IDEAL KS_MODEL KS_GPU "engine: {name: ideal, max_seqs: 256, max_batched_tokens: 8192}\n"

#define N(r) (sizeof(r) / sizeof *(r))

static struct ks *server(const char *yaml)
{
    struct ks *k = ks_seconds(yaml);

    k->opt.policy = ks_policy(k, "vllm-v1");
    k->opt.prefix_cache = true;
    return k;
}

/* --- the queue alone -----------------------------------------------------------------------
 */

static void test_queue(void **state)
{
    struct kt *t = *state;
    struct prefix p;
    uint32_t a, b;

    prefix_init(&p, t->a, 10);
    prefix_take(&p, 7); /* 3 blank left */
    a = prefix_insert(&p, 100);
    prefix_extend(&p, a, 4);
    b = prefix_insert(&p, 200);
    prefix_extend(&p, b, 2);
    assert_true(prefix_find(&p, 100) == a && prefix_find(&p, 200) == b);
    assert_true(prefix_find(&p, 300) == PREFIX_NONE && !prefix_unused(&p, a));
    prefix_give(&p, 1); /* the 7th */
    prefix_unref(&p, b);
    prefix_unref(&p, a); /* 3 + 1 blank, b's 2, a's 4 */
    assert_true(prefix_check(&p) && prefix_unused(&p, a));
    kt_u64(p.free_blocks, 10);
    kt_u64(prefix_blank(&p), 4);
    prefix_take(&p, 5);
    kt_u64(prefix_blocks(&p, b), 1); /* its last block went first */
    prefix_ref(&p, b);
    kt_u64(p.free_blocks, 4);
    prefix_take(&p, 4);
    assert_true(prefix_find(&p, 100) == PREFIX_NONE && prefix_find(&p, 200) == b);
    kt_u64(p.evicted, 5);
    assert_true(prefix_check(&p));
    prefix_unref(&p, b);
    prefix_absorb(&p, b);
    assert_true(prefix_find(&p, 200) == PREFIX_NONE);
    kt_u64(p.free_blocks, 0);
    assert_true(prefix_check(&p));
}

/* Thousands of entries in and out: the table finds what is there and nothing else. */
static void test_table(void **state)
{
    struct kt *t = *state;
    struct rng r = {kt_seed(5)};
    struct prefix p;
    uint32_t entry[512] = {0};

    prefix_init(&p, t->a, 100000);
    for (int i = 0; i < 20000; i++) {
        uint64_t h = rng_below(&r, 512);
        assert_true(prefix_find(&p, h << 40) == entry[h]);
        if (entry[h]) {
            prefix_absorb(&p, entry[h]);
            prefix_give(&p, 1);
            entry[h] = 0;
            continue;
        }
        prefix_take(&p, 1);
        entry[h] = prefix_insert(&p, h << 40);
        prefix_extend(&p, entry[h], 1);
        prefix_unref(&p, entry[h]);
        if (i % 1000 == 0)
            assert_true(prefix_check(&p));
    }
    assert_true(prefix_check(&p));
    kt_u64(p.free_blocks, 100000);
    kt_u64(p.evicted, 0);
}

static void test_heap(void **state)
{
    struct kt *t = *state;
    struct rng r = {kt_seed(6)};
    struct heap h = {.arena = t->a};
    uint64_t key[300], last = 0;
    bool in[300] = {false};
    uint32_t n = 0;

    for (int i = 0; i < 5000; i++) {
        uint32_t id = (uint32_t)rng_below(&r, 300);
        if (in[id]) {
            heap_remove(&h, id);
        } else {
            key[id] = rng_below(&r, 50);
            heap_push(&h, (struct heap_item){key[id], id, id});
        }
        in[id] = !in[id];
        n = in[id] ? n + 1 : n - 1;
        assert_true(h.n == n);
    }
    heap_remove(&h, 4000); /* never seen: nothing happens */
    while (h.n) {
        struct heap_item top;
        assert_true(heap_least(&h) == h.items[0].key);
        top = heap_pop(&h);
        assert_true(in[top.id] && top.key == key[top.id] && top.key * 1000 + top.id >= last);
        last = top.key * 1000 + top.id;
        in[top.id] = false;
    }
    assert_true(heap_least(&h) == UINT64_MAX);
}

/* --- hits -------------------------------------------------------------------------------- */

static void test_hits(void **state)
{
    struct ks *k = server(SERVER(8, 4096, 16, 16777216));
    static const uint64_t a[] = {1, 2}, b[] = {1, 3};
    static const struct ks_request r[] = {
        {0, 1000, 2, a, 2, 512},   /* nothing is known */
        {0, 1000, 2, a, 2, 512},   /* in the same step: 62 whole blocks of 1000 tokens, 992 */
        {10, 1000, 2, b, 2, 512},  /* the first stretch */
        {20, 512, 2, b, 1, 512},   /* all of it is known: the last token is computed again */
        {30, 1000, 2, NULL, 0, 0}, /* nothing known of it */
        {40, 600, 2, a, 2, 512},   /* the second stretch counts as far as it goes: 592 */
    };

    (void)state;
    ks_run(k, r, N(r));
    kt_u64(k->outcomes[0].cached_tokens, 0);
    kt_u64(k->outcomes[1].cached_tokens, 992);
    assert_true(k->outcomes[1].first_s == 1);
    kt_u64(k->outcomes[2].cached_tokens, 512);
    kt_u64(k->outcomes[3].cached_tokens, 496);
    kt_u64(k->outcomes[4].cached_tokens, 0);
    kt_u64(k->outcomes[5].cached_tokens, 592);
    kt_u64(k->now.cached_tokens, 992 + 512 + 496 + 592);
    kt_u64(k->now.prompt_tokens, 4 * 1000 + 512 + 600);
    ks_free(k);
}

/* 5 blocks of 512 tokens, one request at a time, each of 2 blocks and a token more. What is
 * given back last is taken last, but a tail goes before its head. */
static void test_eviction(void **state)
{
    struct ks *k = server(SERVER(1, 4096, 512, 2621440));
    static const uint64_t a[] = {1, 2, 3}, b[] = {11, 12, 13};
    static const struct ks_request r[] = {
        {0, 1025, 1, a, 3, 512},  /* queue then: blank x2, a's tail (blank), a2, a1 */
        {10, 1025, 1, b, 3, 512}, /* takes the 3 blank ones: a2, a1, blank, b2, b1 */
        {20, 1025, 1, a, 3, 512}, /* both blocks of a; b2, b1, blank, a2, a1 */
        {30, 513, 1, NULL, 0, 0}, /* takes b2 and b1: blank, a2, a1, and two blank ones */
        {40, 1025, 1, b, 3, 512}, /* nothing; takes blank, a2, a1 */
        {50, 1025, 1, a, 3, 512}, /* nothing */
    };
    static const uint64_t want[] = {0, 0, 1024, 0, 0, 0};

    (void)state;
    ks_run(k, r, N(r));
    for (size_t i = 0; i < N(r); i++)
        kt_u64(k->outcomes[i].cached_tokens, want[i]);
    ks_free(k);
}

/* A sequence that starts over finds its own whole blocks again, those of its output too. Six
 * blocks, 36 tokens a step: 0 has its prompt in steps 1 and 2, 1 in step 2. In step 11 the 49th
 * token of 0 needs a block; 1 goes, with 38 tokens in 2 whole blocks and a third. The 39 tokens
 * it has to compute find no room until 0 has ended with step 26: 7 tokens in step 27 and the
 * last one in 57, or 36 and 3 in steps 27 and 28. */
static void test_own_blocks(void **state)
{
    struct ks *k = server(SERVER(8, 36, 16, 98304));
    static const struct ks_request r[] = {{0, 40, 25, NULL, 0, 0}, {0, 30, 40, NULL, 0, 0}};

    (void)state;
    for (int caches = 0; caches < 2; caches++) {
        k->opt.prefix_cache = caches;
        ks_run(k, r, N(r));
        kt_u64(k->outcomes[1].preemptions, 1);
        kt_u64(k->outcomes[1].cached_tokens, 0);
        assert_true(k->outcomes[0].last_s == 26);
        assert_true(k->outcomes[1].first_s == 2);
        assert_true(k->outcomes[1].last_s == (caches ? 57 : 58));
    }
    ks_free(k);
}

/* Dropped tokens and windows leave no whole blocks to share. */
static void test_refused(void **state)
{
    struct ks *k = ks_seconds(
        KS_MODEL KS_GPU "engine: {name: vllm, version: \"0.19.0\", max_model_len: 4096}\n"
                        "memory: {per_gpu: {kv_pool_bytes: 16777216}}\n"
                        "cache: {eviction: {scheme: streamingllm, sinks: 4, recent: 60}}\n");
    static const uint64_t a[] = {1, 2};
    static const struct ks_request r[] = {{0, 1000, 2, a, 2, 512}, {10, 1000, 2, a, 2, 512}};

    (void)state;
    k->opt.prefix_cache = true;
    ks_run(k, r, N(r));
    assert_false(k->caches);
    kt_u64(k->now.cached_tokens, 0);
    ks_free(k);
}

/* --- traces with an unlimited cache ------------------------------------------------------- */

struct blocks {
    uint64_t all, hit;
};

static void count(void *to, const struct outcome *o)
{
    struct blocks *b = to;

    b->all += (o->request.prompt_tokens + 511) / 512;
    b->hit += (o->cached_tokens + 511) / 512;
}

/* The share of stretches that had been computed before. Blocks of one token, so that a stretch
 * that is not whole counts too. */
static double hit_rate(struct trace *t, struct ks *k)
{
    struct blocks b = {0, 0};
    struct sim_sink sink = {&b, count, NULL};
    struct sim *s;

    assert_non_null(t);
    k->opt.unlimited_cache = true;
    k->opt.check = false;
    s = sim_new(&k->kp->problem, k->steps, &k->opt, &sink, k->kp->diag);
    assert_non_null(s);
    while (sim_run(s, t, UINT64_MAX))
        continue;
    sim_free(s);
    trace_close(t);
    return (double)b.hit / (double)b.all;
}

/* 10 stretches, 4 of them seen before: two of the second request, one of the third, and one
 * that is not whole. */
static void test_ideal_small(void **state)
{
    static const char text[] =
        "{\"timestamp\": 0, \"input_length\": 1500, \"output_length\": 5, \"hash_ids\": [1, 2, 3]}\n"
        "{\"timestamp\": 0, \"input_length\": 1300, \"output_length\": 5, \"hash_ids\": [1, 2, 4]}\n"
        "{\"timestamp\": 9, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [1, 5]}\n"
        "{\"timestamp\": 9, \"input_length\": 40, \"output_length\": 5, \"hash_ids\": [6]}\n"
        "{\"timestamp\": 9, \"input_length\": 40, \"output_length\": 5, \"hash_ids\": [6]}\n";
    static const struct trace_scale one = {1, 1, 1, 0};
    struct ks *k = server(IDEAL);

    (void)state;
    kt_rel(hit_rate(trace_of_text(k->kp->arena, text, sizeof text - 1, NULL, &one, k->kp->diag),
                    k),
           4.0 / 10, 1e-12);
    ks_free(k);
}

/* Ideal block hit rates of the published traces: 1 - 182,790 / 288,500, and 64.0 %. */
static void test_ideal_mooncake(void **state)
{
    static const struct {
        const char *name;
        double rate, tolerance;
    } traces[] = {{"mooncake_conversation.jsonl", 1 - 182790.0 / 288500, 5e-4},
                  {"mooncake_synthetic.jsonl", 0.640, 2e-3}};
    static const struct trace_scale one = {1, 1, 1, 0};
    const char *folder = getenv("KVBUDGET_TRACES");

    (void)state;
    if (!folder) {
        print_message("# skipped: KVBUDGET_TRACES=FOLDER names no folder of traces\n");
        skip();
    }
    struct ks *k = server(IDEAL);
    for (size_t i = 0; i < N(traces); i++) {
        const char *path = arena_printf(k->kp->arena, "%s/%s", folder, traces[i].name);
        double got = hit_rate(trace_open(k->kp->arena, path, NULL, &one, k->kp->diag), k);
        print_message("# %s: %.4f\n", traces[i].name, got);
        kt_rel(got, traces[i].rate, traces[i].tolerance);
    }
    ks_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_queue),
        kt_test(test_table),
        kt_test(test_heap),
        cmocka_unit_test(test_hits),
        cmocka_unit_test(test_eviction),
        cmocka_unit_test(test_own_blocks),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_ideal_small),
        cmocka_unit_test(test_ideal_mooncake),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
