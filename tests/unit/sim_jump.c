/* Jumping from event to event gives what running step by step gives: every count the same,
 * every time within rounding, for all policies, prefix caching, schemes that drop tokens, mixed
 * layers, pipeline stages, several replicas and handed-over caches, on random requests. */
#include "planner/base/rng.h"
#include "planner/base/unit.h"
#include "tests/kvsim.h"

struct server {
    const char *name, *yaml;
    uint64_t longest; /* of a request */
    bool caches;      /* prefixes can be reused */
};

#define LIMITS "max_model_len: 4096, max_seqs: 12, max_batched_tokens: 256}\n"
#define POOL(bytes) "memory: {per_gpu: {kv_pool_bytes: " #bytes "}}\n"

static const struct server servers[] = {
    {"blocks",
     KS_MODEL KS_GPU "engine: {name: vllm, version: \"0.19.0\", " LIMITS POOL(1048576), 900,
     true},
    {"roomy",
     KS_MODEL KS_GPU "engine: {name: vllm, version: \"0.19.0\", " LIMITS POOL(16777216), 900,
     true},
    {"long prompts",
     KS_MODEL KS_GPU
     "engine: {name: vllm, version: \"0.19.0\", max_model_len: 16384, max_seqs: "
     "12, max_batched_tokens: 700}\n" POOL(6291456),
     5000, true},
    {"bytes", KS_MODEL KS_GPU "engine: {name: ideal, " LIMITS POOL(1000000), 800, true},
    {"stages",
     "model: {layers: 5, hidden_size: 256, intermediate_size: 512, heads: 4, kv_heads: 2, "
     "head_dim: 64, vocab_size: 1000}\n"
     "hardware: {gpu: h100-sxm5-80gb, count: 2}\nparallel: {pp: 2}\n"
     "engine: {name: vllm, version: \"0.19.0\", " LIMITS POOL(1572864),
     900, true},
    {"streamingllm",
     KS_MODEL KS_GPU "engine: {name: ideal, " LIMITS POOL(
         1000000) "cache: {eviction: {scheme: streamingllm, sinks: 4, recent: 124}}\n",
     800, false},
    {"pyramidkv",
     KS_MODEL KS_GPU "engine: {name: ideal, " LIMITS POOL(
         1000000) "cache: {eviction: {scheme: pyramidkv, capacity: 96, window: 8}}\n",
     800, false},
    {"l2norm",
     KS_MODEL KS_GPU "engine: {name: ideal, " LIMITS POOL(
         1000000) "cache: {eviction: {scheme: l2norm, keep_ratio: 0.5, prune_after: 100}}\n",
     800, false},
    {"kivi",
     KS_MODEL KS_GPU "engine: {name: ideal, " LIMITS POOL(400000) "cache: {format: kivi2}\n",
     800, false},
    {"lckv",
     "model: {layers: 6, hidden_size: 256, intermediate_size: 512, heads: 4, kv_heads: 2, "
     "head_dim: 64, vocab_size: 1000}\n" KS_GPU "engine: {name: ideal, " LIMITS POOL(
         1000000) "cache: {sharing: {scheme: lckv, warmup: 2}}\n",
     250, true},
    {"windows",
     "model: google/gemma-3-1b-it\n" KS_GPU
     "engine: {name: vllm, version: \"0.19.0\", " LIMITS POOL(12000000),
     700, false},
    {"states",
     "model: tiiuae/Falcon-H1-0.5B-Base\n" KS_GPU
     "engine: {name: vllm, version: \"0.19.0\", " LIMITS POOL(600000000),
     900, false},
};

enum { REQUESTS = 60, HASHES = 64 };

struct load {
    struct ks_request r[REQUESTS];
    uint64_t hashes[REQUESTS][HASHES];
};

static uint64_t length(struct rng *r, uint64_t most)
{
    uint64_t kind = rng_below(r, 4);

    return 1 + rng_below(r, kind == 0 ? 4 : kind == 1 ? most / 4 : kind == 2 ? most / 2 : most);
}

/* Prompts that often begin alike: the hash of a stretch follows from those before it. */
static void draw_hashes(struct rng *r, struct load *l, size_t i, bool known)
{
    struct ks_request *q = &l->r[i];
    uint64_t hash = 7;

    if (!known)
        return;
    q->hash_tokens = 512;
    q->n_hashes = (uint32_t)((q->prompt + 511) / 512);
    for (uint32_t j = 0; j < q->n_hashes; j++) {
        hash = hash * 31 + rng_below(r, 3) + 1;
        l->hashes[i][j] = hash;
    }
    q->hashes = l->hashes[i];
}

static void draw(struct rng *r, const struct server *s, struct load *l, bool known)
{
    double at = 0, gap = rng_unit(r) * (rng_below(r, 2) ? 0.1 : 0.01);

    memset(l, 0, sizeof *l);
    for (size_t i = 0; i < REQUESTS; i++) {
        at += rng_below(r, 3) ? gap * rng_unit(r) : 0;
        l->r[i].arrival_s = at;
        l->r[i].prompt = length(r, s->longest);
        l->r[i].output = length(r, s->longest > 900 ? 200 : s->longest / 3);
        draw_hashes(r, l, i, known);
    }
}

static void same_time(double a, double b, const char *what, uint64_t id)
{
    if (a == b || (a - b < 1e-9 && b - a < 1e-9))
        return;
    print_error("request %llu: %s %.12g, step by step %.12g\n", (unsigned long long)id, what, a,
                b);
    fail();
}

static void compare(const struct ks *jump, const struct outcome *want,
                    const struct sim_now *now)
{
    for (size_t i = 0; i < REQUESTS; i++) {
        const struct outcome *a = &jump->outcomes[i], *b = &want[i];
        assert_int_equal(a->end, b->end);
        same_time(a->queued_s, b->queued_s, "queued", i);
        same_time(a->scheduled_s, b->scheduled_s, "scheduled", i);
        same_time(a->first_s, b->first_s, "first token", i);
        same_time(a->last_s, b->last_s, "last token", i);
        kt_u64(a->cached_tokens, b->cached_tokens);
        kt_u64(a->preemptions, b->preemptions);
        kt_u64(a->replica, b->replica);
    }
    kt_u64(jump->now.steps, now->steps);
    kt_u64(jump->now.done, now->done);
    kt_u64(jump->now.preemptions, now->preemptions);
    kt_u64(jump->now.output_tokens, now->output_tokens);
    kt_u64(jump->now.cached_tokens, now->cached_tokens);
    assert_true(jump->now.events <= now->events);
}

static uint64_t cases(void)
{
    const char *text = getenv("KV_CASES");
    uint64_t n;

    return text && unit_parse_u64(text, &n) == UNIT_OK ? n : 12;
}

static void choose(struct rng *r, struct ks *k, const struct server *s)
{
    size_t n = 0;

    while (policy_at(n))
        n++;
    k->opt.policy = policy_at(rng_below(r, n));
    k->opt.replicas = (uint32_t)(1 + rng_below(r, 2) * rng_below(r, 3));
    k->opt.prefill_replicas = rng_below(r, 4) ? 0 : 1 + (uint32_t)rng_below(r, 2);
    k->opt.router = (enum router)rng_below(r, 3);
    k->opt.ahead = rng_below(r, 3) ? SIM_AHEAD_ON : SIM_AHEAD_OFF;
    k->opt.prefix_cache = s->caches && rng_below(r, 2);
    k->opt.unlimited_cache = !rng_below(r, 10);
}

static void one_server(const struct server *s, uint64_t seed)
{
    struct ks *k = ks_build(s->yaml);
    struct rng r = {seed};
    struct load *l = ARENA_NEW(k->kp->arena, struct load, 1);
    struct outcome *want = ARENA_NEW(k->kp->arena, struct outcome, REQUESTS);

    for (uint64_t i = 0, n = cases(); i < n; i++) {
        struct sim_now now;
        choose(&r, k, s);
        draw(&r, s, l, k->opt.prefix_cache);
        print_message(
            "# %s: policy %s, ahead %d, replicas %u + %u, router %d, prefix %d, case %llu\n",
            s->name, k->opt.policy->name, k->opt.ahead == SIM_AHEAD_ON, k->opt.prefill_replicas,
            k->opt.replicas, (int)k->opt.router, k->opt.prefix_cache, (unsigned long long)i);
        k->opt.every_step = true;
        ks_run(k, l->r, REQUESTS);
        now = k->now;
        memcpy(want, k->outcomes, REQUESTS * sizeof *want);
        k->opt.every_step = false;
        ks_run(k, l->r, REQUESTS);
        compare(k, want, &now);
    }
    ks_free(k);
}

static void test_servers(void **state)
{
    uint64_t seed = kt_seed(20261121);

    (void)state;
    for (size_t i = 0; i < sizeof servers / sizeof *servers; i++)
        one_server(&servers[i], seed + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_servers)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
