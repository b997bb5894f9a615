/* Capacity against numbers worked out by hand; the arithmetic stands beside each. The model: 4
 * layers, 2 K/V heads of 64, bf16, so 4 x 2 x 2 x 64 x 2 = 2048 B a token; weights are handed
 * in, so that pools are round. */
#include "tests/kvplan.h"

#define SMALL                                                                                  \
    "model: {layers: 4, hidden_size: 256, intermediate_size: 512, heads: 4, kv_heads: 2, head_dim: 64, vocab_size: 1000}\n"
#define WEIGHTS "memory: {per_gpu: {weights_bytes: 1MiB}}\n"

static struct plan solve(const struct kp *k)
{
    struct plan plan;

    plan_solve(&k->problem, &k->problem.workload, &plan);
    assert_false(plan.over);
    return plan;
}

/* 11 MiB - 1 MiB of weights = 10,485,760 B; a sequence of 100 tokens takes 204,800 B: 51.2. A
 * context: 5120 tokens. */
static void test_batch_and_context(void **state)
{
    (void)state;
    struct kp *k = kp_build(SMALL WEIGHTS
                            "hardware: {memory: 11MiB}\nworkload: {prompt: 60, output: 40}\n");
    struct plan p = solve(k);
    kt_u64(k->problem.stages[0].budget.kv_pool_bytes, 10485760);
    kt_u64(p.max_batch, 51);
    kt_u64(p.max_context, 5120);
    kt_u64(p.kv_tokens, 5120);
    kt_rel(p.max_concurrency, 51.2, 1e-12);
    kt_same(limit_name(p.batch_limit), "memory");
    assert_true(p.fits);
    kp_free(k);
}

/* Blocks of 64: 100 tokens take 128, so 262,144 B: exactly 40; without rounding 51. */
static void test_blocks(void **state)
{
    (void)state;
    struct kp *k =
        kp_build(SMALL WEIGHTS "hardware: {memory: 11MiB}\nworkload: {prompt: 60, output: 40}\n"
                               "engine: {block_tokens: 64}\n");
    struct plan p = solve(k);
    kt_u64(p.max_batch, 40);
    kt_u64(p.kv_blocks, 80);
    kt_same(limit_name(p.batch_limit), "block_rounding");
    kp_free(k);
}

static void test_limits(void **state)
{
    (void)state;
    struct kp *k =
        kp_build(SMALL WEIGHTS
                 "hardware: {memory: 11MiB}\nworkload: {prompt: 60, output: 40, batch: 20}\n"
                 "engine: {max_seqs: 16}\n");
    struct plan p = solve(k);
    kt_u64(p.max_batch, 16);
    kt_same(limit_name(p.batch_limit), "max_seqs");
    assert_false(p.fits);
    kp_free(k);
    k = kp_build(
        SMALL WEIGHTS
        "hardware: {memory: 11MiB}\nworkload: {prompt: 60, output: 40}\nengine: {max_model_len: 99}\n");
    p = solve(k);
    kt_u64(p.max_batch, 0);
    kt_u64(p.max_context, 99);
    kt_same(limit_name(p.batch_limit), "max_model_len");
    kp_free(k);
    k = kp_build(SMALL WEIGHTS
                 "hardware: {memory: 1000000}\nworkload: {prompt: 60, output: 40}\n");
    p = solve(k);
    kt_u64(p.max_batch, 0);
    kt_u64(p.max_context, 0);
    kt_same(limit_name(p.batch_limit), "weights");
    kt_u64(k->problem.stages[0].budget.short_bytes, 48576);
    kp_free(k);
}

/* Two replicas double the batch; max_seqs counts per replica. */
static void test_replicas(void **state)
{
    (void)state;
    struct kp *k =
        kp_build(SMALL WEIGHTS "hardware: {memory: 11MiB, count: 2}\nparallel: {dp: 2}\n"
                               "workload: {prompt: 60, output: 40}\n");
    kt_u64(solve(k).max_batch, 102);
    kp_free(k);
}

/* Tensor parallel 2 halves a sequence (one K/V head a rank), 4 does not halve it again. Pool 10
 * MiB a rank. */
static void test_tensor_parallel(void **state)
{
    (void)state;
    struct kp *k = kp_build(
        SMALL WEIGHTS
        "hardware: {memory: 11MiB, count: 2}\nparallel: {tp: 2}\nworkload: {prompt: 60, output: 40}\n");
    kt_u64(solve(k).max_batch, 102);
    kp_free(k);
    k = kp_build(
        SMALL WEIGHTS
        "hardware: {memory: 11MiB, count: 4}\nparallel: {tp: 4}\nworkload: {prompt: 60, output: 40}\n");
    kt_u64(solve(k).max_batch, 102);
    kp_says(k, "heads are replicated");
    kp_free(k);
}

/* Three stages for four layers: 2, 1, 1. The first holds half of the cache: 102,400 B a
 * sequence. */
static void test_uneven_stages(void **state)
{
    (void)state;
    struct kp *k = kp_build(
        SMALL WEIGHTS
        "hardware: {memory: 11MiB, count: 3}\nparallel: {pp: 3}\nworkload: {prompt: 60, output: 40}\n");
    struct plan p = solve(k);
    kt_u64(k->problem.stages[0].work.layers, 2);
    kt_u64(k->problem.stages[1].work.layers, 1);
    kt_u64(k->problem.stages[2].work.layers, 1);
    kt_u64(p.max_batch, 102);
    kt_u64(p.tightest, 0);
    kp_free(k);
}

/* Context parallel 4: 25 tokens a rank, 51,200 B. */
static void test_context_parallel(void **state)
{
    (void)state;
    struct kp *k = kp_build(
        SMALL WEIGHTS
        "hardware: {memory: 11MiB, count: 4}\nparallel: {cp: 4}\nworkload: {prompt: 60, output: 40}\n");
    struct plan p = solve(k);
    kt_u64(p.max_batch, 204);
    kt_u64(p.max_context, 20480);
    kp_free(k);
}

/* A prefix of 40 of the 100 tokens, once: 81,920 B; then 60 tokens or 122,880 B each:
 * (10,485,760 - 81,920) / 122,880. */
static void test_shared_prefix(void **state)
{
    (void)state;
    struct kp *k = kp_build(
        SMALL WEIGHTS
        "hardware: {memory: 11MiB}\nworkload: {prompt: 60, output: 40, shared_prefix: 40}\n");
    struct plan p = solve(k);
    kt_u64(p.need.shared_bytes, 81920);
    kt_u64(p.need.sequence_bytes, 122880);
    kt_u64(p.max_batch, 84);
    kp_free(k);
}

/* Three quarters of the cache in host memory: 51,200 B on the GPU, 153,600 B on the host. A
 * host of 1,536,000 B holds 10. */
static void test_offload(void **state)
{
    (void)state;
    struct kp *k = kp_build(
        SMALL WEIGHTS
        "hardware: {memory: 11MiB}\nworkload: {prompt: 60, output: 40}\ncache: {offload: 0.75}\n");
    struct plan p = solve(k);
    kt_u64(p.need.sequence_bytes, 51200);
    kt_u64(p.need.host_bytes, 153600);
    kt_u64(p.max_batch, 204);
    kp_free(k);
    k = kp_build(
        SMALL WEIGHTS
        "hardware: {memory: 11MiB, host_memory: 1536000}\nworkload: {prompt: 60, output: 40}\ncache: {offload: 0.75}\n");
    p = solve(k);
    kt_u64(p.max_batch, 10);
    kt_same(limit_name(p.batch_limit), "host_memory");
    kp_free(k);
}

/* Offloaded layers leave the GPU but for a buffer of one layer. A layer has 256 x 256 (q) + 2 x
 * 256 x 128 (k, v) + 256 x 256 (o) + 3 x 256 x 512 + 2 x 256 = 590,336 parameters; all: 4 x
 * 590,336 + 2 x 256,000 + 256 = 2,873,600; two layers off: 2 x 590,336 x 2 B = 2,361,344 B on
 * the host, and as much a step over a link of 1 GB/s x its achievable share. */
static void test_offloaded_layers(void **state)
{
    (void)state;
    struct kp *k = kp_build(
        SMALL
        "hardware: {gpu: {memory: 64MiB, bandwidth: 1000GB/s, bf16: 10TFLOPS}, link: 1GB/s}\n"
        "weights: {offload_layers: 2}\nworkload: {prompt: 60, output: 40, batch: 1}\n");
    struct plan p = solve(k);
    const struct stage *s = &k->problem.stages[0];
    kt_u64(k->problem.params.total, 2873600);
    kt_u64(s->work.offloaded_bytes, 2361344);
    kt_u64(s->budget.workspace_bytes, 1180672);
    kt_u64(s->budget.weights_bytes, 5747200 - 2361344);
    kt_rel(p.decode_link_bytes, 2361344, 1e-12);
    kt_rel(p.decode_link_s, 2361344 / (1e9 * k->problem.gpu.link_ratio), 1e-12);
    kt_rel(p.decode_s, p.decode_link_s, 1e-12);
    kt_rel(p.prefill_link_bytes, 2361344, 1e-12);
    kt_rel(p.prefill_link_s, 2361344 / (1e9 * k->problem.gpu.link_ratio), 1e-12);
    kt_rel(p.prefill_s, p.prefill_link_s, 1e-12);
    kp_free(k);
}

/* What one prompt needs while it is processed can be the limit: StreamingLLM keeps 100 of 1000
 * tokens, but the prefill holds all 1000 (2,048,000 B). Pool 3,000,000: first 2,048,000, then
 * 952,000 / 206,848 (101 tokens inside a step) = 4 more. */
static void test_prefill_peak(void **state)
{
    (void)state;
    struct kp *k = kp_build(
        SMALL "memory: {per_gpu: {kv_pool_bytes: 3000000}}\nhardware: {memory: 64MiB}\n"
              "workload: {prompt: 1000, output: 40}\n"
              "cache: {eviction: {scheme: streamingllm, sinks: 4, recent: 96}}\n");
    struct plan p = solve(k);
    kt_u64(p.need.prefill_bytes, 2048000);
    kt_u64(p.need.sequence_bytes, 206848);
    kt_u64(p.max_batch, 5);
    kt_same(limit_name(p.batch_limit), "memory");
    kp_free(k);
    k = kp_build(
        SMALL
        "memory: {per_gpu: {kv_pool_bytes: 2000000}}\nhardware: {memory: 64MiB}\nworkload: {prompt: 1000, output: 40}\n"
        "cache: {eviction: {scheme: streamingllm, sinks: 4, recent: 96}}\n");
    p = solve(k);
    kt_u64(p.max_batch, 0);
    kt_same(limit_name(p.batch_limit), "prefill_peak");
    kp_free(k);
}

/* 20 sequences of 204,800 B and 1 MiB of weights, on 3 MiB cards: tp 1 has 10, tp 2 has 20
 * (half a sequence a rank). */
static void test_min_gpus(void **state)
{
    (void)state;
    struct kp *k = kp_build(SMALL WEIGHTS
                            "hardware: {memory: 3MiB}\nworkload: {prompt: 60, output: 40}\n");
    kt_u64(capacity_min_gpus(&k->problem, &k->problem.workload, 10), 1);
    kt_u64(capacity_min_gpus(&k->problem, &k->problem.workload, 11), 2);
    kt_u64(capacity_min_gpus(&k->problem, &k->problem.workload, 20), 2);
    kt_u64(capacity_min_gpus(&k->problem, &k->problem.workload, 21), 0);
    kp_free(k);
}

/* A roofline by hand: decode of one sequence at 80 cached tokens. Weights but the embedding:
 * (2,873,600 - 256,000) x 2 B = 5,235,200 B; cache 81 keys x 2048 B. All of it is memory-bound
 * at 1 TB/s, with the arithmetic that products do not hide; 4 x 9 launches. */
static void test_roofline(void **state)
{
    (void)state;
    struct kp *k = kp_build(
        SMALL "hardware: {gpu: {memory: 64MiB, bandwidth: 1000GB/s, bf16: 1000TFLOPS}}\n"
              "workload: {prompt: 60, output: 40, batch: 1}\n");
    struct plan p = solve(k);
    const struct gpu *g = &k->problem.gpu;
    double weights = 5235200 / (1e12 * g->weight_bandwidth_ratio),
           cache = 81 * 2048.0 / (1e12 * g->decode_bandwidth_ratio);
    /* 2 FLOP a weight, a third of them not hidden: 2,617,600 less 2,304 of norms */
    double exposed = 2 * (2617600.0 - 2304) / k->problem.machine.gemm_flop_per_s / 3;
    double written = 2048 / (1e12 * g->weight_bandwidth_ratio),
           launch = 36 * g->kernel_launch_s;
    kt_u64(p.decode_read_bytes, 81 * 2048);
    kt_u64(p.decode_write_bytes, 2048);
    kt_rel(p.decode_s, weights + exposed + cache + written + launch, 1e-9);
    kt_rel(p.tokens_per_s, 1 / p.decode_s, 1e-12);
    /* 2 FLOP a weight: (5,235,200 / 2 - 4 x 2 x 256 - 256 norms) x 2 + attention 4 layers x 4
     * heads x 64 x 2 x 2 x 81 */
    double flop = 0;
    for (int op = 0; op < N_OPS; op++)
        flop += p.decode.flop[op];
    kt_rel(flop, 2 * (2617600.0 - 2304) + 4 * 4 * 64 * 4 * 81.0, 1e-12);
    kp_free(k);
}

struct refusal {
    const char *yaml, *says;
};

static const struct refusal refusals[] = {
    {SMALL "hardware: {memory: 1GiB, count: 2}\nparallel: {tp: 4}\n",
     "parallel needs 4 GPUs (tp x pp x dp x cp), hardware.count is 2"},
    {SMALL "hardware: {memory: 1GiB, count: 3}\nparallel: {tp: 3}\n",
     "tp 3 does not divide the 4 query heads of layer 1"},
    {SMALL "hardware: {memory: 1GiB}\nparallel: {pp: 5}\n",
     "pp 5 is more than the model's 4 layers"},
    {SMALL "hardware: {memory: 1GiB}\nparallel: {ep: 2}\n", "ep 2: the model has no experts"},
    {SMALL "hardware: {memory: 1GiB}\nweights: {offload_layers: 5}\n",
     "offload_layers 5 is more than the model's 4 layers"},
    {SMALL "hardware: {memory: 1GiB}\nweights: {format: bf17}\n",
     "unknown weight format 'bf17'; did you mean 'bf16'?"},
    {SMALL "hardware: {memory: 1GiB}\nengine: {name: vlm}\n",
     "engine 'vlm' is not in this build; known engines: hf, ideal, llamacpp, sglang, trtllm, vllm"},
    {SMALL "hardware: {memory: 1GiB}\nworkload: {prompt: 10, shared_prefix: 11}\n",
     "shared_prefix (11 tokens) is longer than the prompt (10 tokens)"},
    {SMALL "hardware: {memory: 1GiB}\nworkload: {prompt: 0, output: 0}\n",
     "workload has neither prompt nor output tokens"},
    {SMALL "hardware: {count: 1}\n",
     "hardware.gpu (a GPU's name) or hardware.memory (a size such as 24GiB) is required"},
    {SMALL "hardware: {gpu: [h100]}\n", "hardware.gpu must be a name or a map"},
    {"model: [1]\nhardware: {memory: 1GiB}\n",
     "model must be a name, a path or a map, not a list"},
    {"model: x.gguf\nhardware: {memory: 1GiB}\n",
     "cannot be opened: No such file or directory"},
    {"[1, 2]\n", "a spec is a map with at least `model:` and `hardware:`"},
    {SMALL "hardware: {memory: 1GiB}\nweights: {format: [a]}\n",
     "weights.format must be a name such as bf16 or fp8"},
    {SMALL "hardware: {memory: 1GiB}\nparallel: {tp: 4096, pp: 4096}\n",
     "parallel asks for more than 1048576 GPUs"},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct kp *k = kp_try(refusals[i].yaml);
        assert_false(k->ok);
        kp_says(k, refusals[i].says);
        kp_free(k);
    }
}

/* 10^12 tokens of a model with 10^12-byte rows: refused or infeasible, never wrapped. */
static void test_absurd(void **state)
{
    (void)state;
    struct plan plan;
    struct kp *k = kp_build(
        SMALL "hardware: {memory: 1GiB}\nworkload: {prompt: 1099511627776, output: 0}\n");
    plan_solve(&k->problem, &k->problem.workload, &plan);
    kt_u64(plan.max_batch, 0);
    kp_free(k);
    k = kp_build(
        "model: {layers: 4096, hidden_size: 65536, intermediate_size: 65536, heads: 1024, kv_heads: 1024, head_dim: 4096, "
        "vocab_size: 1000}\nhardware: {memory: 1GiB}\nworkload: {prompt: 1099511627776, output: 0}\n");
    plan_solve(&k->problem, &k->problem.workload, &plan);
    kt_u64(plan.max_batch, 0);
    assert_false(plan.fits);
    kp_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_and_context),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_replicas),
        cmocka_unit_test(test_tensor_parallel),
        cmocka_unit_test(test_uneven_stages),
        cmocka_unit_test(test_context_parallel),
        cmocka_unit_test(test_shared_prefix),
        cmocka_unit_test(test_offload),
        cmocka_unit_test(test_offloaded_layers),
        cmocka_unit_test(test_prefill_peak),
        cmocka_unit_test(test_min_gpus),
        cmocka_unit_test(test_roofline),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_absurd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
