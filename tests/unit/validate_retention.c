/* validate_retention: retention rules in the decoder that take more than one store or list of
 * rows (groups of heads, pages that a step picks, budgets of heads), and rules on top of
 * sharing and windows, against a plain decoder in double precision. */
#include "tests/kvfollow.h"
#include "validate/shape.h"

/* Rules on top of others: rows are cut when their last reader has run; a window holds the last
 * ones of what a rule has left. */
static void evicted_together(void **state)
{
    static const struct kd_rule snapkv = {.drop = KD_SNAPKV, .keep = 20, .window = 6};
    static const struct kd_rule few = {.drop = KD_SNAPKV, .keep = 10, .window = 3};
    static const struct kd_rule mean = {.drop = KD_MEAN, .keep = 18};
    static const struct kd_rule norm = {.drop = KD_L2NORM, .keep = 18};
    static const struct kd_rule angle = {.drop = KD_KEYDIFF, .keep = 18};

    right(*state,
          "model: {layers: 4, " MODEL "}\n" REST
          "cache: {sharing: {scheme: cla, factor: 2}, eviction: {scheme: snapkv, capacity: 20, "
          "window: 6, layout: kv_head}}\n",
          snapkv, 0);
    right(*state,
          "model: {layers: 4, " MODEL "}\n" REST
          "cache: {sharing: {scheme: lckv, warmup: 2, forward_passes: 2, backward_passes: 1}, "
          "eviction: {scheme: snapkv, capacity: 20, window: 6, layout: kv_head}}\n",
          snapkv, 0);
    right(*state,
          "model: {layers: 3, window: 12, " MODEL "}\n" REST
          "cache: {eviction: {scheme: snapkv, capacity: 10, window: 3, layout: kv_head}}\n",
          few, 0);
    right(*state, GQA "cache: {eviction: {scheme: keydiff, compression_ratio: 0.5}}\n", angle,
          0);
    right(*state,
          GQA "cache: {eviction: {scheme: observed-attention, compression_ratio: 0.5}}\n", mean,
          0);
    right(*state, GQA "cache: {eviction: {scheme: knorm, compression_ratio: 0.5}}\n", norm, 0);
}

/* What is expected: of whole prompts, under sharing maps and windows, without rotation. */
static void expected(void **state)
{
    static const struct kd_rule half = {.drop = KD_EXPECT, .keep = 18};
    static const struct kd_rule few = {.drop = KD_EXPECT, .keep = 9};
    static const struct {
        const char *model, *cache;
        double ratio;
        const struct kd_rule *rule;
    } cases[] = {
        {"layers: 2, qk_norm: head", "", 0.5, &half},
        {"layers: 2, alibi: true", "", 0.5, &half},
        {"layers: 2, window: 18", "", 0.75, &few},
        {"layers: 4", "sharing: {scheme: cla, factor: 2}, ", 0.5, &half},
        {"layers: 3",
         "sharing: {scheme: lckv, warmup: 1, forward_passes: 2, backward_passes: 1}, ", 0.5,
         &half},
        {"layers: 2, attention_bias: qkv", "", 0.5, &half},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[512];
        snprintf(yaml, sizeof yaml,
                 "model: {%s, " MODEL "}\n" REST
                 "cache: {%seviction: {scheme: expected-attention, compression_ratio: %g}}\n",
                 cases[i].model, cases[i].cache, cases[i].ratio);
        right(*state, yaml, *cases[i].rule, 0);
    }
}

/* CAKE with mean budgets; the last case has learned sinks, which take part of what a query
 * looks at. */
static void shifting(void **state)
{
    static const struct {
        const char *model, *cache, *eviction;
        struct kd_rule rule;
    } cases[] = {
        {"layers: 2",
         "",
         "capacity: 20, window: 6",
         {.drop = KD_CAKE, .keep = 20, .window = 6}},
        {"layers: 2, window: 18",
         "",
         "capacity: 9, window: 3",
         {.drop = KD_CAKE, .keep = 9, .window = 3}},
        {"layers: 4",
         "sharing: {scheme: cla, factor: 2}, ",
         "capacity: 16, window: 8",
         {.drop = KD_CAKE, .keep = 16, .window = 8}},
        {"layers: 3",
         "sharing: {scheme: lckv, warmup: 1, forward_passes: 2, backward_passes: 1}, ",
         "capacity: 16, window: 8",
         {.drop = KD_CAKE, .keep = 16, .window = 8}},
        {"layers: 2, sinks: true, score_cap: 2",
         "",
         "capacity: 20, window: 6",
         {.drop = KD_CAKE, .keep = 20, .window = 6}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[512];
        snprintf(yaml, sizeof yaml,
                 "model: {%s, " MODEL "}\n" REST "cache: {%seviction: {scheme: cake, %s}}\n",
                 cases[i].model, cases[i].cache, cases[i].eviction);
        right(*state, yaml, cases[i].rule, 0);
    }
}

enum { LAYERS = 3 };

/* What each layer prefers, as the plain decoder has it too, in whole numbers. */
static void prefer(struct kk *k, struct decoder_setting s, uint64_t *share)
{
    static const struct kd_rule rule = {.drop = KD_CAKE, .keep = 20, .window = 6};
    uint32_t tokens[2 * (PROMPT + OUTPUT + 1)], n;
    double logits[96];
    struct fixture f;
    struct kd d;
    float got[2];

    open_it(k, GQA "cache: {eviction: {scheme: cake, capacity: 20, window: 6}}\n", s, &f);
    decoder_watch(f.x, kr_watch, &f.kept);
    kk_ok(k, decoder_prefill(f.x));
    kk_ok(k, decoder_tokens(f.x, tokens, &n));
    d = kd_open(k->a, f.x, &f.p->problem.layout, rule, false, PROMPT + OUTPUT);
    d.kept = &f.kept;
    kd_tokens(&d, tokens, PROMPT, 0, true, logits);
    for (uint32_t i = 0; i < LAYERS; i++) {
        kk_ok(k, decoder_preferences(f.x, i, got));
        kt_rel((double)got[0], d.layers[i].preference, 0.03);
        share[i] = (uint64_t)((double)got[0] * 1e6);
        kt_u64(decoder_stored_rows(f.x, i), 20);
    }
    kk_refused(k, decoder_preferences(f.x, LAYERS, got), "row 3 has no preference");
    close_it(&f);
}

/* Measured preferences, drawn apart, as the shares of a plan: each layer holds its own number
 * of rows. */
static void preferred(void **state)
{
    struct kd_rule own = {.drop = KD_CAKE, .window = 6};
    uint32_t rows[LAYERS], sum = 0;
    uint64_t share[LAYERS];
    struct kk *k = *state;
    struct decoder_setting s = setting(k);
    struct fixture f;
    char yaml[512];

    prefer(k, s, share);
    for (uint32_t i = 0; i < LAYERS; i++)
        share[i] *= i + 2;
    snprintf(yaml, sizeof yaml,
             GQA
             "cache: {eviction: {scheme: cake, capacity: 20, window: 6, preferences: [%llu, "
             "%llu, %llu]}}\n",
             (unsigned long long)share[0], (unsigned long long)share[1],
             (unsigned long long)share[2]);
    open_it(k, yaml, s, &f);
    kk_ok(k, decoder_prefill(f.x));
    for (uint32_t i = 0; i < LAYERS; i++) {
        rows[i] = decoder_stored_rows(f.x, i);
        kt_u64(rows[i], row_stored_tokens(&f.p->problem.layout.rows[i], PROMPT, 0));
        sum += rows[i];
    }
    close_it(&f);
    kt_u64(sum, LAYERS * 20);
    assert_true(rows[0] != rows[1] || rows[1] != rows[2]);
    own.given = rows;
    right_with(k, yaml, own, s);
}

/* Ten chunks of twelve: the eight of the window, and two of the four that it ranks. */
static void chunks(void **state)
{
    static const struct kd_rule rule = {
        .drop = KD_CHUNKKV, .keep = 80, .window = 64, .first = 8};
    struct decoder_setting s = setting(*state);

    s.prompt = 96;
    right_with(*state,
               GQA "cache: {eviction: {scheme: chunkkv, chunk: 8, compression_ratio: 0.16}}\n",
               rule, s);
}

/* HeadKV's numbers, which the decoder draws. */
static void given(void **state)
{
    static const char yaml[] =
        GQA "cache: {eviction: {scheme: headkv, capacity: 14, window: 6, layout: kv_head}}\n";
    struct kd_rule rule = {.drop = KD_HEADKV, .keep = 20, .window = 6};
    struct decoder_setting s = setting(*state);
    struct kp *p = kp_build(yaml);
    const char *why = NULL;
    uint32_t rows[6], sum = 0, apart = 0;
    struct shape shape;

    assert_true(shape_build(p->arena, &p->problem, &s, &shape, &why));
    kt_u64(shape.n_stores, 3);
    for (uint32_t i = 0; i < 6; i++) {
        rows[i] = shape.stores[i / 2].given[i % 2];
        sum += rows[i];
        apart += rows[i] != 20;
        assert_true(rows[i] >= 6 && rows[i] <= PROMPT);
    }
    kt_u64(sum, 6 * 20);
    assert_true(apart);
    rule.given = rows;
    right_with(*state, yaml, rule, s);
    kp_free(p);
}

/* The L2 norm ranks anew in every step, or as soon as there are so many rows. */
static void every_step(void **state)
{
    static const struct kd_rule always = {.drop = KD_L2NORM, .keep = 34, .share = 0.9};
    static const struct kd_rule saw = {
        .drop = KD_L2NORM, .keep = 26, .first = 28, .share = 0.7};

    right(*state,
          GQA "cache: {eviction: {scheme: l2norm, keep_ratio: 0.9, prune_after: 0, schedule: "
              "every_step, skip_layers: []}}\n",
          always, 0);
    right(*state,
          GQA "cache: {eviction: {scheme: l2norm, keep_ratio: 0.7, prune_after: 28, schedule: "
              "every_step, skip_layers: []}}\n",
          saw, 0);
}

/* Two groups of heads in a layer, the one whole, the other of sinks and recent rows. */
static void grouped(void **state)
{
    static const struct kd_rule duo = {.drop = KD_DUO, .sinks = 3, .recent = 9};

    right(*state,
          GQA "cache: {eviction: {scheme: duoattention, full_heads: 3, sinks: 3, recent: 9}}\n",
          duo, 0);
    right(*state,
          "model: {layers: 4, " MODEL "}\n" REST
          "cache: {sharing: {scheme: cla, factor: 2}, eviction: {scheme: duoattention, "
          "full_heads: 2, sinks: 3, recent: 9}}\n",
          duo, 0);
}

static void picked(void **state)
{
    static const struct kd_rule quest = {.drop = KD_QUEST, .keep = 3, .window = 5, .first = 1};
    static const struct kd_rule all = {.drop = KD_QUEST, .keep = 3, .window = 5};

    right(*state,
          GQA "cache: {eviction: {scheme: quest, page: 5, budget: 16, dense_layers: 1, layout: "
              "kv_head}}\n",
          quest, 0);
    right(*state,
          GQA "cache: {eviction: {scheme: quest, page: 5, budget: 16, dense_layers: 1, layout: "
              "kv_head}}\n",
          quest, 8);
    right(
        *state,
        "model: {layers: 4, " MODEL "}\n" REST
        "cache: {sharing: {scheme: cla, factor: 2}, eviction: {scheme: quest, page: 5, budget: "
        "15, dense_layers: 0, layout: kv_head}}\n",
        all, 0);
    right(*state,
          "model: {layers: 4, " MODEL "}\n" REST
          "cache: {sharing: {scheme: lckv, warmup: 2, forward_passes: 1, backward_passes: 1}, "
          "eviction: {scheme: quest, page: 5, budget: 15, dense_layers: 0, layout: kv_head}}\n",
          all, 0);
}

/* Rules where scores have a cap, slopes or learned sinks. */
static void bent(void **state)
{
    static const struct kd_rule snapkv = {.drop = KD_SNAPKV, .keep = 20, .window = 6};
    static const struct kd_rule mean = {.drop = KD_MEAN, .keep = 18};
    static const struct kd_rule duo = {.drop = KD_DUO, .sinks = 3, .recent = 9};
    static const struct kd_rule quest = {.drop = KD_QUEST, .keep = 3, .window = 5, .first = 1};
    static const struct {
        const char *model, *eviction;
        const struct kd_rule *rule;
    } cases[] = {
        {"score_cap: 2", "snapkv, capacity: 20, window: 6, layout: kv_head", &snapkv},
        {"score_cap: 2", "observed-attention, compression_ratio: 0.5", &mean},
        {"alibi: true", "snapkv, capacity: 20, window: 6, layout: kv_head", &snapkv},
        {"alibi: true", "observed-attention, compression_ratio: 0.5", &mean},
        {"sinks: true", "snapkv, capacity: 20, window: 6, layout: kv_head", &snapkv},
        {"sinks: true", "observed-attention, compression_ratio: 0.5", &mean},
        {"sinks: true, output_gate: true", "duoattention, full_heads: 3, sinks: 3, recent: 9",
         &duo},
        {"score_cap: 2, norms_per_layer: 4", "duoattention, full_heads: 3, sinks: 3, recent: 9",
         &duo},
        {"sinks: true, score_cap: 2",
         "quest, page: 5, budget: 16, dense_layers: 1, layout: kv_head", &quest},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[512];
        snprintf(yaml, sizeof yaml,
                 "model: {layers: 3, %s, " MODEL "}\n" REST "cache: {eviction: {scheme: %s}}\n",
                 cases[i].model, cases[i].eviction);
        right(*state, yaml, *cases[i].rule, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(evicted_together), kk_test(expected),   kk_test(shifting), kk_test(preferred),
        kk_test(chunks),           kk_test(given),      kk_test(grouped),  kk_test(picked),
        kk_reversed(grouped),      kk_reversed(picked), kk_test(bent),     kk_test(every_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
