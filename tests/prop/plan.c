/* Laws that hold for every model, scheme and workload, on random specs. The seed is printed on
 * failure; KV_SEED replays it, KV_CASES sets how many (10^6 in the nightly run: see `make
 * bench`'s figure properties_checked). */
#include <stdlib.h>

#include "planner/base/rng.h"
#include "planner/base/unit.h"
#include "tests/kvplan.h"

static const char *const sharings[] = {
    "",
    "sharing: {scheme: lckv, warmup: 2}",
    "sharing: {scheme: cla, factor: 2}",
    "sharing: {scheme: mlkv, kv_layers: 2, kv_heads: 1}",
    "sharing: {scheme: pizza-bottom, kv_layers: 2}",
    "sharing: {scheme: sandwich-middle, kv_layers: 3}",
    "sharing: {scheme: lasagna-top, kv_layers: 2}",
};
static const char *const evictions[] = {
    "",
    "eviction: {scheme: streamingllm, sinks: 4, recent: 252}",
    "eviction: {scheme: snapkv, capacity: 512, window: 32, layout: kv_head}",
    "eviction: {scheme: pyramidkv, capacity: 256, window: 8}",
    "eviction: {scheme: l2norm, keep_ratio: 0.5, prune_after: 100}",
    "eviction: {scheme: tova, capacity: 300}",
};
static const char *const formats[] = {
    "", "format: fp8_e4m3", "format: kivi2", "format: int4", "k: q8_0, v: q4_0", "format: fp32",
};

struct random_case {
    struct rng rng;
    uint64_t layers, kv_heads, group, head_dim;
    uint64_t prompt, output;
    const char *sharing, *eviction, *format;
};

static struct random_case draw(uint64_t seed)
{
    struct random_case c = {.rng = {seed}};
    static const uint64_t dims[] = {32, 64, 96, 128, 256};

    c.layers = 4 + rng_below(&c.rng, 60);
    c.kv_heads = (uint64_t)1 << rng_below(&c.rng, 5);
    c.group = (uint64_t)1 << rng_below(&c.rng, 4);
    c.head_dim = dims[rng_below(&c.rng, 5)];
    c.prompt = 1 + rng_below(&c.rng, rng_below(&c.rng, 2) ? 600 : 40000);
    c.output = rng_below(&c.rng, 3000);
    c.sharing = sharings[rng_below(&c.rng, sizeof sharings / sizeof *sharings)];
    c.eviction = evictions[rng_below(&c.rng, sizeof evictions / sizeof *evictions)];
    c.format = formats[rng_below(&c.rng, sizeof formats / sizeof *formats)];
    return c;
}

static struct kp *build(const struct random_case *c, const char *more)
{
    char text[2048], cache[512] = "";

    snprintf(cache, sizeof cache, "%s%s%s%s%s", c->sharing,
             *c->sharing && (*c->eviction || *c->format) ? ", " : "", c->eviction,
             *c->eviction && *c->format ? ", " : "", c->format);
    snprintf(
        text, sizeof text,
        "model: {layers: %llu, hidden_size: 1024, intermediate_size: 2816, heads: %llu, kv_heads: %llu, head_dim: "
        "%llu, vocab_size: 32000}\ncache: {%s}\nworkload: {prompt: %llu, output: %llu}\n%s",
        (unsigned long long)c->layers, (unsigned long long)(c->kv_heads * c->group),
        (unsigned long long)c->kv_heads, (unsigned long long)c->head_dim, cache,
        (unsigned long long)c->prompt, (unsigned long long)c->output, more);
    return kp_build(text);
}

static uint64_t resident(const struct fold *f, uint64_t n, uint64_t t, uint64_t block)
{
    struct ck ck = {0};
    uint64_t bytes = fold_resident_bytes(f, n, t, block, &ck);

    assert_false(ck.over);
    return bytes;
}

/* The answer fits, one more does not; for batches and for contexts. */
static void check_tight(const struct problem *p)
{
    enum limit why;
    uint64_t b = capacity_max_batch(p, &p->workload, &why);
    struct workload w = p->workload;

    assert_true(b == 0 || capacity_fits(p, &w, b));
    if (b < CAPACITY_MAX)
        assert_false(capacity_fits(p, &w, b + 1));
    uint64_t c = capacity_max_context(p, &w, 1, &why);
    struct plan plan;
    plan_solve(p, &w, &plan);
    kt_u64(plan.max_batch, b);
    kt_u64(plan.max_context, c);
    if (c >= 1 && c < CONTEXT_MAX) {
        struct workload at = w;
        at.output = u64_min(w.output, c - 1);
        at.prompt = c - at.output;
        assert_true(capacity_fits(p, &at, 1));
        at.output = u64_min(w.output, c);
        at.prompt = c + 1 - at.output;
        assert_false(capacity_fits(p, &at, 1));
    }
}

/* Whole blocks hold at least the exact bytes; less than one block a row more where bytes go by
 * the token. */
static void check_blocks(const struct problem *p, const struct random_case *c)
{
    uint64_t exact = resident(&p->whole, c->prompt, c->output, 1),
             paged = resident(&p->whole, c->prompt, c->output, 16);
    struct ck ck = {0};

    assert_true(paged >= exact);
    if (!strstr(c->format, "kivi"))
        assert_true(paged < exact + 16 * fold_token_bytes(&p->whole, false, &ck) + 1);
}

/* Shards hold at least the whole, exactly when tp divides the K/V heads. */
static void check_shards(const struct random_case *c)
{
    struct kp *one = build(c, "hardware: {memory: 40GiB}\n");
    uint64_t whole = resident(&one->problem.whole, c->prompt, c->output, 1);

    for (uint64_t tp = 2; tp <= 8; tp *= 2) {
        char more[128];
        if ((c->kv_heads * c->group) % tp)
            continue;
        snprintf(more, sizeof more,
                 "hardware: {memory: 40GiB, count: %llu}\nparallel: {tp: %llu}\n",
                 (unsigned long long)tp, (unsigned long long)tp);
        struct kp *k = build(c, more);
        uint64_t sum = tp * resident(&k->problem.stages[0].fold, c->prompt, c->output, 1);
        assert_true(sum >= whole);
        bool expanded = strstr(c->eviction, "pyramidkv") !=
                        NULL; /* query-head layout divides by query heads */
        if (c->kv_heads % tp == 0 || expanded)
            assert_true(strstr(c->sharing, "mlkv") || sum == whole);
        kp_free(k);
    }
    char more[128];
    snprintf(more, sizeof more, "hardware: {memory: 40GiB, count: 3}\nparallel: {pp: 3}\n");
    struct kp *k = build(c, more);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 3; i++)
        sum += resident(&k->problem.stages[i].fold, c->prompt, c->output, 1);
    assert_true(sum >= whole);
    if (!*c->sharing)
        kt_u64(sum, whole);
    kp_free(k);
    kp_free(one);
}

/* More tokens never take fewer bytes, where no rule drops any. */
static void check_monotone(const struct problem *p, const struct random_case *c)
{
    struct random_case r = *c;

    if (*c->eviction || strstr(c->format, "kivi"))
        return;
    for (int i = 0; i < 4; i++) {
        uint64_t n = rng_below(&r.rng, 100000), m = n + rng_below(&r.rng, 1000);
        assert_true(resident(&p->whole, n, 0, 1) <= resident(&p->whole, m, 0, 1));
        kt_u64(resident(&p->whole, n, 7, 1), resident(&p->whole, n + 7, 0, 1));
    }
}

static bool larger(const struct random_case *a, const struct random_case *b)
{
    struct kp *x = build(a, "hardware: {memory: 40GiB}\n"),
              *y = build(b, "hardware: {memory: 40GiB}\n");
    bool ok = resident(&x->problem.whole, a->prompt, 0, 1) <=
              resident(&y->problem.whole, b->prompt, 0, 1);

    kp_free(x);
    kp_free(y);
    return ok;
}

static void check_dimensions(const struct random_case *c)
{
    struct random_case more = *c, plain = *c;

    plain.sharing = plain.eviction =
        ""; /* sharing maps and pyramids are laid anew for other shapes */
    more.sharing = more.eviction = "";
    more.layers++;
    assert_true(larger(&plain, &more));
    more.layers--;
    more.kv_heads *= 2;
    assert_true(larger(&plain, &more));
    more.kv_heads /= 2;
    more.head_dim *= 2;
    assert_true(larger(&plain, &more));
    more = plain;
    plain.format = "format: fp8_e4m3";
    more.format = "format: bf16";
    assert_true(larger(&plain, &more));
}

/* Evicting or sharing never stores more than the plain cache of as many heads; storage changes
 * no kept token. */
static void check_schemes(const struct random_case *c)
{
    struct random_case plain = *c, stored = *c;

    plain.sharing = plain.eviction = "";
    if (!strstr(c->eviction, "pyramidkv"))
        assert_true(larger(c, &plain));
    stored.format = "format: fp32";
    struct kp *a = build(c, "hardware: {memory: 40GiB}\n"),
              *b = build(&stored, "hardware: {memory: 40GiB}\n");
    assert_true(a->problem.layout.n_rows == b->problem.layout.n_rows);
    for (uint32_t i = 0; i < a->problem.layout.n_rows; i++) {
        const struct cache_row *x = &a->problem.layout.rows[i], *y = &b->problem.layout.rows[i];
        kt_u64(row_stored_tokens(x, c->prompt, c->output),
               row_stored_tokens(y, c->prompt, c->output));
        kt_u64(x->source, y->source);
    }
    kp_free(a);
    kp_free(b);
}

/* The fold is the sum over the rows: an independent walk in 128 bits. */
static void check_fold(const struct problem *p, const struct random_case *c)
{
    kv_u128 sum = 0;
    struct ck ck = {0};

    for (uint32_t i = 0; i < p->layout.n_rows; i++) {
        const struct cache_row *r = &p->layout.rows[i];
        sum += row_bytes(r, c->prompt, row_stored_tokens(r, c->prompt, c->output), &ck);
        sum += row_state_bytes(r, &ck);
    }
    assert_true(sum == resident(&p->whole, c->prompt, c->output, 1));
}

static uint64_t number_of(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    uint64_t v = fallback;

    if (text && unit_parse_u64(text, &v) != UNIT_OK)
        fail_msg("%s is not a number", name);
    return v;
}

static void test_laws(void **state)
{
    uint64_t seed = number_of("KV_SEED", 20240601), cases = number_of("KV_CASES", 150);

    (void)state;
    for (uint64_t i = 0; i < cases; i++) {
        struct random_case c = draw(seed + i);
        print_message("# seed %llu\n", (unsigned long long)(seed + i));
        struct kp *k = build(&c, "hardware: {memory: 40GiB}\n");
        check_fold(&k->problem, &c);
        check_tight(&k->problem);
        check_blocks(&k->problem, &c);
        check_monotone(&k->problem, &c);
        kp_free(k);
        if (i % 4 == 0) {
            check_shards(&c);
            check_dimensions(&c);
            check_schemes(&c);
        }
    }
}

/* window(t) = dense(min(t, W)). */
static void test_window_is_clipped_dense(void **state)
{
    (void)state;
    struct kp *full = kp_build(
        "model: {layers: 8, hidden_size: 1024, intermediate_size: 2816, heads: 8, kv_heads: 2, head_dim: "
        "128, vocab_size: 32000}\nhardware: {memory: 40GiB}\n");
    struct kp *win = kp_build(
        "model: {layers: 8, hidden_size: 1024, intermediate_size: 2816, heads: 8, kv_heads: 2, head_dim: "
        "128, vocab_size: 32000, window: 512}\nhardware: {memory: 40GiB}\n");
    struct rng r = {7};
    for (int i = 0; i < 1000; i++) {
        uint64_t t = rng_below(&r, 2000);
        kt_u64(resident(&win->problem.whole, t, 0, 1),
               resident(&full->problem.whole, u64_min(t, 512), 0, 1));
    }
    kp_free(win);
    kp_free(full);
}

/* MHA is GQA with as many K/V heads as heads; factor 1, ratio 1 and wide windows change
 * nothing. */
static void test_identities(void **state)
{
    static const char *const same[] = {
        "cache: {sharing: {scheme: mha}}\n",
        "cache: {sharing: {scheme: gqa, kv_heads: 16}}\n",
        "cache: {sharing: {scheme: cla, factor: 1}}\n",
        "cache: {sharing: {scheme: lasagna-bottom, kv_layers: 12}}\n",
        "cache: {sharing: {scheme: mlkv, kv_layers: 12, kv_heads: 16}}\n",
        "cache: {eviction: {scheme: l2norm, keep_ratio: 1, prune_after: 0, skip_layers: []}}\n",
        "cache: {eviction: {scheme: streamingllm, sinks: 4, recent: 100000000}}\n",
        "cache: {eviction: {scheme: snapkv, capacity: 100000000, layout: kv_head}}\n",
        "cache: {format: bf16}\n",
    };
    static const char base[] =
        "model: {layers: 12, hidden_size: 1024, intermediate_size: 2816, heads: 16, kv_heads: 16, "
        "head_dim: 64, vocab_size: 32000}\nhardware: {memory: 40GiB}\n";

    (void)state;
    struct kp *plain = kp_build(base);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char text[1024];
        snprintf(text, sizeof text, "%s%s", base, same[i]);
        struct kp *k = kp_build(text);
        for (uint64_t n = 1; n < 100000; n = n * 3 + 1)
            kt_u64(resident(&k->problem.whole, n, n / 2, 1),
                   resident(&plain->problem.whole, n, n / 2, 1));
        kt_u64(k->problem.params.total, plain->problem.params.total);
        kp_free(k);
    }
    kp_free(plain);
}

/* A latent cache does not depend on the head count. */
static void test_latent_ignores_heads(void **state)
{
    char text[1024];
    uint64_t first = 0;

    (void)state;
    for (unsigned heads = 8; heads <= 128; heads *= 2) {
        snprintf(
            text, sizeof text,
            "model: {layers: 10, hidden_size: 2048, intermediate_size: 4096, heads: %u, vocab_size: 32000, mla: "
            "{q_lora_rank: 512, kv_lora_rank: 512, nope_dim: 128, rope_dim: 64, v_dim: 128}}\nhardware: {memory: 80GiB}\n",
            heads);
        struct kp *k = kp_build(text);
        uint64_t bytes = resident(&k->problem.whole, 1000, 0, 1);
        first = first ? first : bytes;
        kt_u64(bytes, first);
        kp_free(k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_laws),
        cmocka_unit_test(test_window_is_clipped_dense),
        cmocka_unit_test(test_identities),
        cmocka_unit_test(test_latent_ignores_heads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
