/* The paged pool: grouping of layers, sizes of pages, blocks of a request. Expected figures are
 * those of public start-up logs (facts with sources in planner/engine/pool/pool.h) or worked
 * out beside each. */
#include "planner/engine/pool/pool.h"
#include "tests/kvplan.h"

#define VLLM                                                                                   \
    "engine: {name: vllm, version: 0.19.0, max_batched_tokens: 8192, max_model_len: 8192, max_seqs: 64}\n"
#define HUGE "hardware: {memory: 4096GiB}\n"

static const struct pool *pool_of(const struct kp *k)
{
    return &k->problem.stages[0].pool;
}

/* A layer's worth of K/V on one rank: 16 tokens x 2 x 16 heads x 128 x 2 B = 131,072. */
static struct cache_row row(uint64_t window, uint32_t heads)
{
    return (struct cache_row){.stream = STREAM_KV,
                              .mixer = window ? MIXER_SLIDING : MIXER_FULL,
                              .readers = 1,
                              .kv_heads = heads,
                              .stored_heads = heads,
                              .k_dim = 128,
                              .v_dim = 128,
                              .k_format = format_plain("bf16", 2),
                              .v_format = format_plain("bf16", 2),
                              .store_window_tokens = window};
}

static struct pool built(const struct store_class *stores, uint32_t n, uint64_t state_bytes,
                         uint64_t state_layers, bool hybrid)
{
    struct fold f = {.slice = {1, 1, 0, 1},
                     .n_stores = n,
                     .state_bytes = state_bytes,
                     .state_layers = state_layers};
    struct pool_in in = {&f, 16, 16, 8192, hybrid};
    struct store_class copy[POOL_KINDS + 1];
    struct pool p;
    struct ck ck = {0};

    for (uint32_t i = 0; i < n; i++)
        copy[i] = stores[i];
    f.stores = copy;
    assert_int_equal(pool_build(&in, &p, &ck), n <= POOL_KINDS);
    assert_false(ck.over);
    return p;
}

/* --- groups
 * ------------------------------------------------------------------------------------------ */

/* Gemma 3 27B: 10 full and 52 sliding layers: groups of 10, the sliding ones padded to 60, so
 * 70 layers of 8,192 B a token are charged: 573,440. */
static void test_padding(void **state)
{
    struct store_class s[] = {{row(0, 16), 10}, {row(1024, 16), 52}};
    struct pool p = built(s, 2, 0, 0, true);

    (void)state;
    kt_u64(p.group_layers, 10);
    kt_u64(p.groups, 7);
    kt_u64(p.page_bytes, 16 * 8192);
    kt_u64(p.block_bytes, 10 * 16 * 8192);
    kt_u64(p.groups * p.block_bytes / 16, 573440);
}

/* The larger count is taken when it is less than half as many again: 21 and 30, not 20 and 30.
 */
static void test_group_size(void **state)
{
    struct store_class s[] = {{row(0, 16), 21}, {row(1024, 16), 30}};
    struct pool p = built(s, 2, 0, 0, true);

    (void)state;
    kt_u64(p.group_layers, 30);
    kt_u64(p.groups, 2);
    s[0].count = 20;
    p = built(s, 2, 0, 0, true);
    kt_u64(p.group_layers, 20);
    kt_u64(p.groups, 3);
}

/* Without hybrid groups sliding layers are full ones, and all stand under one table. */
static void test_not_hybrid(void **state)
{
    struct store_class s[] = {{row(0, 16), 10}, {row(1024, 16), 52}};
    struct pool p = built(s, 2, 0, 0, false);

    (void)state;
    kt_u64(p.groups, 1);
    kt_u64(p.block_bytes, 62 * 16 * 8192);
    kt_u64(pool_request_blocks(&p, 8192), 512);
    kt_u64(pool_highest_blocks(&p, 8000, 192), 512);
}

/* Layers of other widths under one kind of table: the block is the sum of their pages. */
static void test_widths(void **state)
{
    struct store_class s[] = {{row(0, 16), 3}, {row(0, 4), 2}};
    struct pool p = built(s, 2, 0, 0, true);

    (void)state;
    kt_u64(p.groups, 1);
    kt_u64(p.block_bytes, 16 * (3 * 8192 + 2 * 2048));
    kt_u64(pool_request_blocks(&p, 100), 7);
}

/* Pages of 8 heads and of 16: the smaller take 32 tokens a block; with 5 heads 48, and padding.
 */
static void test_pages(void **state)
{
    struct store_class s[] = {{row(0, 16), 4}, {row(1024, 8), 4}};
    struct pool p = built(s, 2, 0, 0, true);

    (void)state;
    kt_u64(p.page_bytes, 16 * 8192);
    kt_u64(p.kinds[0].block_tokens, 16);
    kt_u64(p.kinds[1].block_tokens, 32);
    kt_u64(p.min_block_tokens, 16);
    s[1].row = row(1024, 5);
    p = built(s, 2, 0, 0, true);
    kt_u64(p.kinds[1].block_tokens, 48);
    kt_u64(p.block_bytes, 4 * 16 * 8192);
}

/* A state of 3,211,264 B beside attention of 2,048 B a token (4 heads of 256, fp8): blocks grow
 * to 1568 tokens; a request takes one block of each of its three groups of states. */
static void test_states(void **state)
{
    struct cache_row r = row(0, 4);
    struct store_class s[1];

    (void)state;
    r.k_dim = r.v_dim = 256;
    r.k_format = r.v_format = format_plain("fp8_e4m3", 1);
    s[0] = (struct store_class){r, 16};
    struct pool p = built(s, 1, 48ull * 3211264, 48, true);
    kt_u64(p.kinds[0].block_tokens, 1568);
    kt_u64(p.page_bytes, 1568 * 2048);
    kt_u64(p.groups, 4);
    kt_u64(pool_request_blocks(&p, 8192), 6 + 3);
    kt_u64(pool_highest_blocks(&p, 1, 0), 1 + 3);
    kt_u64(pool_prefill_blocks(&p, 1600), 2 + 3);
    kt_u64(pool_shared_blocks(&p, 1600), 1);
}

static void test_states_alone(void **state)
{
    struct pool p = built(NULL, 0, 1000, 10, true);

    (void)state;
    kt_u64(p.groups, 1);
    kt_u64(p.block_bytes, 1000);
    kt_u64(p.min_block_tokens, 16);
    kt_u64(pool_request_blocks(&p, 100000), 1);
}

static void test_too_many_kinds(void **state)
{
    struct store_class s[POOL_KINDS + 1];
    struct pool p;

    (void)state;
    for (uint32_t i = 0; i <= POOL_KINDS; i++)
        s[i] = (struct store_class){row(16 * (i + 1), 16), 1};
    p = built(s, POOL_KINDS + 1, 0, 0, true);
    kt_u64(p.block_bytes, 0);
}

/* --- blocks of a request
 * ------------------------------------------------------------------------------- */

/* Window 4096, steps of 8192. A request of 8192: ceil(min(4095 + 8192, 8192) / 16) + 1 = 513;
 * of 32,768: ceil(12,287 / 16) + 1 = 769. Held while it decodes: 4096 tokens touch 257 blocks;
 * 100 tokens 7. */
static void test_window(void **state)
{
    struct store_class s[] = {{row(0, 16), 1}, {row(4096, 16), 1}};
    struct pool p = built(s, 2, 0, 0, true);

    (void)state;
    kt_u64(pool_request_blocks(&p, 8192), 512 + 513);
    kt_u64(pool_request_blocks(&p, 32768), 2048 + 769);
    kt_u64(pool_highest_blocks(&p, 32000, 768), 2048 + 257);
    kt_u64(pool_highest_blocks(&p, 60, 40), 7 + 7);
    kt_u64(pool_prefill_blocks(&p, 32768), 2048 + 769);
    kt_u64(pool_shared_blocks(&p, 1000), 62);
}

/* Chunked attention: min(chunk + step, tokens), no block more. */
static void test_chunked(void **state)
{
    struct store_class s[] = {{row(0, 16), 1}, {row(8192, 16), 1}};
    struct pool p;

    (void)state;
    s[1].row.mixer = MIXER_CHUNKED;
    p = built(s, 2, 0, 0, true);
    kt_u64(pool_request_blocks(&p, 100000), 6250 + 1024);
    kt_u64(pool_request_blocks(&p, 1600), 200);
}

static void test_context_parallel(void **state)
{
    struct store_class s[] = {{row(0, 16), 2}};
    struct pool p = built(s, 1, 0, 0, true);

    (void)state;
    p.cp = 4;
    kt_u64(pool_request_blocks(&p, 1000), 16);
    kt_u64(pool_shared_blocks(&p, 1000), 15);
}

/* --- plans
 * ------------------------------------------------------------------------------------------------
 */

/* 1000 blocks of 2 layers: 2 x 16 x 2 x 2 x 128 x 2 = 32,768 B. A request of 8192 takes 512:
 * 1.953; sequences of 100 tokens take 7: 142. */
static void test_plan(void **state)
{
    static const char spec[] =
        "model: {layers: 2, hidden_size: 256, intermediate_size: 512, heads: 2, kv_heads: 2, "
        "head_dim: 128, vocab_size: 1000}\n" HUGE VLLM "workload: {prompt: 60, output: 40}\n"
        "memory: {per_gpu: {kv_pool_bytes: 32768767}}\n";
    struct kp *k = kp_build(spec);
    struct plan p;

    (void)state;
    k->problem.settings.max_seqs = 1000;
    plan_solve(&k->problem, &k->problem.workload, &p);
    kt_u64(pool_of(k)->block_bytes, 32768);
    kt_u64(p.kv_blocks, 1000);
    kt_u64(p.kv_tokens, 16000);
    kt_rel(p.max_concurrency, 1000.0 / 512, 1e-12);
    kt_u64(p.max_batch, 142);
    kt_u64(p.max_context, 8192);
    kt_same(limit_name(p.batch_limit), "block_rounding");
    k->problem.settings.max_seqs = 64;
    plan_solve(&k->problem, &k->problem.workload, &p);
    kt_u64(p.max_batch, 64);
    kt_same(limit_name(p.batch_limit), "max_seqs");
    kp_free(k);
}

/* 5 layers on two stages: 3 and 2; the first has 2/3 of the blocks, so it counts. */
static void test_plan_stages(void **state)
{
    struct kp *k = kp_build(
        "model: {layers: 5, hidden_size: 256, intermediate_size: 512, heads: 2, kv_heads: 2, "
        "head_dim: 128, vocab_size: 1000}\n"
        "hardware: {memory: 4096GiB, count: 2}\nparallel: {pp: 2}\n" VLLM
        "memory: {per_gpu: {kv_pool_bytes: 49152000}}\n");
    struct plan p;

    (void)state;
    plan_solve(&k->problem, &k->problem.workload, &p);
    kt_u64(p.kv_blocks, 1000);
    kp_free(k);
}

/* Sharing leaves fewer layers in a block; sinks and a window hold 256 tokens, 257 inside a
 * step. */
static void test_plan_schemes(void **state)
{
    struct kp *k = kp_build(
        "model: {layers: 4, hidden_size: 256, intermediate_size: 512, heads: 2, kv_heads: 2, "
        "head_dim: 128, vocab_size: 1000}\n" HUGE VLLM
        "cache: {sharing: {map: [1, 1, 3, 3]}}\n");

    (void)state;
    kt_u64(pool_of(k)->block_bytes, 2 * 16 * 1024);
    kp_free(k);
    k = kp_build(
        "model: {layers: 4, hidden_size: 256, intermediate_size: 512, heads: 2, kv_heads: 2, "
        "head_dim: 128, vocab_size: 1000}\n" HUGE VLLM
        "cache: {eviction: {scheme: streamingllm, sinks: 4, recent: 252}}\n");
    kt_u64(pool_highest_blocks(pool_of(k), 8000, 100), 17);
    kp_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_group_size),
        cmocka_unit_test(test_not_hybrid),
        cmocka_unit_test(test_widths),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_states_alone),
        cmocka_unit_test(test_too_many_kinds),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_chunked),
        cmocka_unit_test(test_context_parallel),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_plan_stages),
        cmocka_unit_test(test_plan_schemes),
    };

    return cmocka_run_group_tests_name("engine_pool", tests, NULL, NULL);
}
