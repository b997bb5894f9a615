/* Bands: the rule by hand, which residuals are found, what is refused, and what a report says
 * of each engine. */
#include "planner/plan/band.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "planner/plan/explain.h"
#include "planner/plan/report.h"
#include "tests/kvplan.h"

/* --- the rule -------------------------------------------------------------------------------
 */

static struct band_figure figure(uint64_t models, double least, double q05, double q95,
                                 double most)
{
    struct band_figure f = {.models = models};

    f.fit = (struct band_spread){models, -0.001, -0.0005, 0, 0.0005, 0.001};
    f.score = (struct band_spread){models, least, q05, 0, q95, most};
    return f;
}

/* 0.9 (m + 1) / (m - 1): 2.7 at 2, 1.1 at 10, 0.9 x 19 / 17 at 18. */
static void test_rule(void **state)
{
    static const struct {
        uint64_t models;
        double least, q05, q95, most, low, high, stretch;
    } cases[] = {
        {2, -0.01, -0.01, 0.02, 0.02, -0.027, 0.054, 2.7},
        {10, -0.01, -0.01, 0.02, 0.02, -0.011, 0.022, 1.1},
        {18, -0.01, -0.01, 0.02, 0.02, -0.0100588235294, 0.0201176470588, 1.00588235294},
        {19, -0.01, -0.008, 0.015, 0.02, -0.008, 0.015, 0},
        {1000, -0.01, -0.008, 0.015, 0.02, -0.008, 0.015, 0},
        /* The fit starts spread further on one side, and 0 stays inside. */
        {10, 0.02, 0.02, 0.03, 0.03, -0.0011, 0.033, 1.1},
        {19, 0.02, 0.02, 0.03, 0.03, -0.0005, 0.03, 0},
        {10, -0.03, -0.03, -0.02, -0.02, -0.033, 0.0011, 1.1},
    };
    double low, high, stretch;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct band_figure f =
            figure(cases[i].models, cases[i].least, cases[i].q05, cases[i].q95, cases[i].most);
        assert_true(band_relative(&f, &low, &high, &stretch));
        kt_rel(low, cases[i].low, 1e-9);
        kt_rel(high, cases[i].high, 1e-9);
        kt_rel(stretch, cases[i].stretch, 1e-9);
    }
}

static void test_one_model_is_no_band(void **state)
{
    struct band_figure f = figure(1, -0.01, -0.01, 0.02, 0.02);
    double low, high, stretch;

    (void)state;
    assert_false(band_relative(&f, &low, &high, &stretch));
    kt_rel(high, 0, 0);
}

/* Starts of one use alone; residuals that are all above 0 leave the plan as the low end. */
static void test_one_use(void **state)
{
    struct band_figure f = figure(19, 0.01, 0.012, 0.02, 0.03);
    double low, high, stretch;

    (void)state;
    f.fit.starts = 0;
    assert_true(band_relative(&f, &low, &high, &stretch));
    kt_rel(low, 0, 0);
    kt_rel(high, 0.02, 0);
}

/* --- which residuals ------------------------------------------------------------------------
 */

static void test_ranges(void **state)
{
    static const struct {
        const char *engine, *version, *words; /* words NULL: there are none */
        uint64_t starts, left_out;
        bool of_usable;
    } cases[] = {
        {"vllm", "0.19.0", "0.17 to 0.20", 25, 0, true},
        {"vllm", "0.17.0", "0.17 to 0.20", 25, 0, true},
        {"vllm", "0.20.9", "0.17 to 0.20", 25, 0, true},
        {"vllm", "0.16.3", "0.8 to 0.16", 4, 0, true},
        {"vllm", "0.6.4.post1", "0.4 to 0.7", 4, 1, true},
        {"vllm", "0.3.3", NULL, 0, 0, false},
        {"vllm", "0.21.0", NULL, 0, 0, false},
        {"vllm", NULL, NULL, 0, 0, false},
        {"sglang", NULL, "(any version)", 1, 0, true},
        {"trtllm", "1.0.0", "(any version)", 38, 0, true},
        {"llamacpp", "2025-11", "(any version)", 47, 0, false},
        {"hf", NULL, NULL, 0, 0, false},
        {"ideal", NULL, NULL, 0, 0, false},
    };
    struct kt *t = *state;
    struct profiles *p = profiles_open(t->a, NULL, t->d);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct band_range r;
        bool found = band_find(t->a, p, cases[i].engine, cases[i].version, t->d, &r);
        assert_int_equal(found, cases[i].words != NULL);
        if (!found)
            continue;
        kt_same(r.words, cases[i].words);
        kt_u64(r.starts, cases[i].starts);
        kt_u64(r.left_out, cases[i].left_out);
        assert_int_equal(r.of_usable, cases[i].of_usable);
        assert_true(r.n > 0);
    }
    kt_printed(t->d, "");
}

/* Fit and score starts are kept apart, and their order statistics are in order. */
static void test_spreads(void **state)
{
    static const char *const engines[] = {"vllm", "sglang", "trtllm", "llamacpp"};
    struct kt *t = *state;
    struct profiles *p = profiles_open(t->a, NULL, t->d);

    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++) {
        struct band_range r;
        assert_true(band_find(t->a, p, engines[i], "0.19.0", t->d, &r));
        for (size_t k = 0; k < r.n; k++) {
            const struct band_spread *s[] = {&r.figures[k].fit, &r.figures[k].score};
            assert_true(s[0]->starts + s[1]->starts > 0);
            for (int u = 0; u < 2; u++)
                assert_true(s[u]->least <= s[u]->q05 && s[u]->q05 <= s[u]->median &&
                            s[u]->median <= s[u]->q95 && s[u]->q95 <= s[u]->most);
        }
    }
}

/* --- what is refused ------------------------------------------------------------------------
 */

/* A user's profile of an engine called vllm with these ranges. */
static struct profiles *user_profiles(struct kt *t, const char *folder, const char *ranges)
{
    const char *inner = arena_printf(t->a, "%s/engines", folder);
    FILE *f;

    (void)mkdir(inner, 0700);
    f = fopen(arena_printf(t->a, "%s/vllm.yaml", inner), "w");
    assert_non_null(f);
    fprintf(f, "name: vllm\nsource: a test\nranges:\n%s", ranges);
    fclose(f);
    return profiles_open(t->a, folder, t->d);
}

static void remove_user_profiles(struct kt *t, const char *folder)
{
    (void)unlink(arena_printf(t->a, "%s/engines/vllm.yaml", folder));
    (void)rmdir(arena_printf(t->a, "%s/engines", folder));
    kt_folder_remove(folder);
}

#define SPREAD "{starts: 3, least: -0.1, q05: 0, median: 0, q95: 0.1, most: 0.2}"
#define RANGE "  - {words: all, starts: 3, figures: [{figure: capacity.kv_tokens, models: 2, "

#define ONE "{figure: a, models: 1}"
#define MANY                                                                                   \
    ONE ", " ONE ", " ONE ", " ONE ", " ONE ", " ONE ", " ONE ", " ONE ", " ONE ", " ONE

static void test_refused(void **state)
{
    static const struct {
        const char *ranges, *says;
    } cases[] = {
        {"  - {words: all, figures: []}\n",
         "4:5: error: required key 'starts' is missing in range"},
        {RANGE "fits: " SPREAD "}]}\n",
         "4:79: error: unknown key 'fits' in figure; did you mean 'fit'?"},
        {RANGE "fit: {starts: 3, least: -0.1, q05: 0, median: 0, q95: 0.1}}]}\n",
         "4:84: error: required key 'most' is missing in residuals"},
        {RANGE "score: {starts: 0, least: 0, q05: 0, median: 0, q95: 0, most: 0}}]}\n",
         "4:95: error: 'starts' in residuals must be between 1 and 1000000, found 0"},
        {"  - {words: all, from: new, starts: 3, figures: []}\n",
         "4:5: error: engine.version 'new' is not a version such as 0.19.0"},
        {"  - {words: all, starts: 3, pool_of: total, figures: []}\n",
         "4:38: error: 'pool_of' in range must be one of planned, usable, found 'total'"},
        {"  - {words: all, starts: 3, figures: [" MANY "]}\n",
         "4:255: error: more than 9 figures"},
        {"  - words\n", "4:5: error: range: expected a map of keys, found 'words'"},
    };
    struct kt *t = *state;
    char *folder = kt_folder(t->a);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct diag *d = diag_new(t->a);
        struct band_range r;
        struct profiles *p = user_profiles(t, folder, cases[i].ranges);
        assert_false(band_find(t->a, p, "vllm", "0.19.0", d, &r));
        kt_printed(d, arena_printf(t->a, "%s/engines/vllm.yaml:%s\n", folder, cases[i].says));
    }
    remove_user_profiles(t, folder);
}

/* --- reports --------------------------------------------------------------------------------
 */

struct made {
    struct kp *k;
    struct plan plan;
    struct profiles *profiles;
    cJSON *json;
};

static struct made make(const char *yaml)
{
    struct made m = {.k = kp_build(yaml)};

    m.profiles = profiles_open(m.k->arena, NULL, m.k->diag);
    plan_solve(&m.k->problem, &m.k->problem.workload, &m.plan);
    m.json = report_json(
        &(struct report_in){"spec.yaml", &m.k->problem, &m.plan, m.k->diag, m.profiles});
    return m;
}

static void drop(struct made *m)
{
    cJSON_Delete(m->json);
    kp_free(m->k);
}

static double number(const struct made *m, const char *path)
{
    double v = 0;

    if (!json_get_double(json_at(m->json, path), &v))
        fail_msg("no number at %s", path);
    return v;
}

static void text(const struct made *m, const char *path, const char *want)
{
    const cJSON *v = json_at(m->json, path);

    if (!cJSON_IsString(v))
        fail_msg("no text at %s", path);
    else
        kt_same(v->valuestring, want);
}

#define VLLM KP_LLAMA3_8B "hardware: {gpu: h100-sxm-80gb}\nengine: {name: vllm, version: 0.19.0"

/* Each figure lies in its band, and the ends are the rule's. */
static void test_vllm(void **state)
{
    static const char *const figures[] = {
        "memory.per_gpu.weights_bytes",   "memory.per_gpu.activation_bytes",
        "memory.per_gpu.non_torch_bytes", "memory.per_gpu.cuda_graph_bytes",
        "memory.per_gpu.kv_pool_bytes",   "capacity.kv_tokens",
        "capacity.max_concurrency",       "capacity.max_batch"};
    struct made m = make(VLLM ", max_model_len: 8192}\n");
    struct band_range r;
    double low, high, stretch, of;

    (void)state;
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        double v = number(&m, figures[i]);
        assert_true(number(&m, arena_printf(m.k->arena, "band.%s.low", figures[i])) <= v &&
                    v <= number(&m, arena_printf(m.k->arena, "band.%s.high", figures[i])));
        assert_true(number(&m, arena_printf(m.k->arena, "band.%s.measurements", figures[i])) >=
                    22);
    }
    assert_true(band_find(m.k->arena, m.profiles, "vllm", "0.19.0", m.k->diag, &r));
    assert_true(band_relative(&r.figures[0], &low, &high, &stretch));
    of = number(&m, "memory.per_gpu.weights_bytes");
    kt_rel(number(&m, "band.memory.per_gpu.weights_bytes.low"), of * (1 + low), 1e-9);
    kt_rel(number(&m, "band.memory.per_gpu.weights_bytes.high"), of * (1 + high), 1e-9);
    assert_true(band_relative(&r.figures[4], &low, &high, &stretch));
    kt_same(r.figures[4].path, "memory.per_gpu.kv_pool_bytes");
    of = number(&m, "memory.per_gpu.usable_bytes");
    kt_rel(number(&m, "band.memory.per_gpu.kv_pool_bytes.low"),
           number(&m, "memory.per_gpu.kv_pool_bytes") + of * low, 1e-9);
    text(&m, "band.basis",
         "25 measured starts of vllm 0.17 to 0.20 (profiles/engines/vllm.yaml)");
    text(&m, "band.memory.per_gpu.kv_pool_bytes.basis",
         "25 starts of 11 models, vllm 0.17 to 0.20, 16 not used for fitting; least to most "
         "residual times 1.08, of usable memory");
    drop(&m);
}

/* Capacity at an end is what a plan with that pool says. */
static void test_capacity_follows_the_pool(void **state)
{
    static const char *const ends[] = {"low", "high"};
    static const char *const counts[] = {"kv_tokens", "max_concurrency", "max_batch"};
    struct made m = make(VLLM ", max_model_len: 8192}\n");

    (void)state;
    for (int end = 0; end < 2; end++) {
        const char *pool =
            arena_printf(m.k->arena, "band.memory.per_gpu.kv_pool_bytes.%s", ends[end]);
        struct made other = make(arena_printf(
            m.k->arena,
            VLLM ", max_model_len: 8192}\nmemory: {per_gpu: {kv_pool_bytes: %.0f}}\n",
            number(&m, pool)));
        for (int i = 0; i < 3; i++)
            kt_rel(number(&m, arena_printf(m.k->arena, "band.capacity.%s.%s", counts[i],
                                           ends[end])),
                   number(&other, arena_printf(m.k->arena, "capacity.%s", counts[i])), 0);
        drop(&other);
    }
    drop(&m);
}

/* What is handed in has no band of its own. */
static void test_given(void **state)
{
    struct made m = make(VLLM "}\nmemory: {per_gpu: {weights_bytes: 16GB}}\n");

    (void)state;
    kt_rel(number(&m, "band.memory.per_gpu.weights_bytes.low"), 16e9, 0);
    kt_rel(number(&m, "band.memory.per_gpu.weights_bytes.high"), 16e9, 0);
    kt_u64((uint64_t)number(&m, "band.memory.per_gpu.weights_bytes.measurements"), 0);
    text(&m, "band.memory.per_gpu.weights_bytes.basis", "handed in");
    drop(&m);
    m = make(VLLM "}\nmemory: {per_gpu: {kv_pool_bytes: 16GB}}\n");
    kt_rel(number(&m, "band.memory.per_gpu.kv_pool_bytes.high"), 16e9, 0);
    kt_rel(number(&m, "band.capacity.kv_tokens.low"), number(&m, "capacity.kv_tokens"), 0);
    text(&m, "band.capacity.kv_tokens.basis",
         "the plan at both ends of the pool's band: handed in");
    drop(&m);
}

/* A model too large for the GPU: the pool's band ends where a pool may begin. */
static void test_does_not_fit(void **state)
{
    struct made m = make("model: Qwen/Qwen3-32B\nhardware: {gpu: l40s}\n"
                         "engine: {name: vllm, version: 0.19.0, max_model_len: 4096}\n");

    (void)state;
    assert_false(m.plan.fits);
    kt_u64((uint64_t)number(&m, "band.memory.per_gpu.kv_pool_bytes.low"), 0);
    kt_u64((uint64_t)number(&m, "band.memory.per_gpu.kv_pool_bytes.high"), 0);
    kt_u64((uint64_t)number(&m, "band.capacity.max_batch.high"), 0);
    text(&m, "band.basis",
         "25 measured starts of vllm 0.17 to 0.20, none on this GPU "
         "(profiles/engines/vllm.yaml)");
    drop(&m);
}

static void test_no_measurement(void **state)
{
    static const struct {
        const char *engine, *path, *basis;
    } cases[] = {
        {"name: vllm", "band", "no measurement of vllm at its newest version"},
        {"name: vllm, version: 0.22.0", "band.capacity.kv_tokens",
         "no measurement of vllm 0.22.0"},
        {"name: hf", "band.memory.per_gpu.kv_pool_bytes",
         "no measurement of hf at its newest version"},
        {"name: llamacpp", "band.capacity.max_batch",
         "no measurement: no start of llamacpp (any version) says it"},
        {"name: trtllm", "band.memory.per_gpu.weights_bytes",
         "no measurement: no start of trtllm (any version) says it"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[400];
        snprintf(yaml, sizeof yaml,
                 KP_LLAMA3_8B "hardware: {gpu: h100-sxm-80gb}\nengine: {%s}\n",
                 cases[i].engine);
        struct made m = make(yaml);
        char path[100];
        snprintf(path, sizeof path, "%s.basis", cases[i].path);
        text(&m, path, cases[i].basis);
        snprintf(path, sizeof path, "%s.measurements", cases[i].path);
        kt_u64((uint64_t)number(&m, path), 0);
        snprintf(path, sizeof path, "%s.low", cases[i].path);
        assert_null(json_at(m.json, path));
        drop(&m);
    }
}

static void test_few(void **state)
{
    struct made m =
        make(KP_LLAMA3_8B "hardware: {gpu: h100-sxm-80gb}\nengine: {name: sglang}\n");

    (void)state;
    text(&m, "band.capacity.kv_tokens.basis",
         "too few for a band: 1 start of one model, sglang (any version)");
    kt_u64((uint64_t)number(&m, "band.capacity.kv_tokens.measurements"), 1);
    assert_null(json_at(m.json, "band.capacity.kv_tokens.low"));
    drop(&m);
}

/* Direct residuals: 2 models in 36 starts of TensorRT-LLM, so times 2.7. */
static void test_direct(void **state)
{
    struct made m =
        make(KP_LLAMA3_8B "hardware: {gpu: h100-sxm-80gb}\nengine: {name: trtllm}\n");
    double n = number(&m, "capacity.max_batch");
    struct band_range r;
    double low, high, stretch, want;

    (void)state;
    assert_true(band_find(m.k->arena, m.profiles, "trtllm", NULL, m.k->diag, &r));
    assert_true(band_relative(&r.figures[r.n - 1], &low, &high, &stretch));
    kt_rel(stretch, 2.7, 1e-12);
    want = (double)(uint64_t)(n * (1 + low));
    kt_rel(number(&m, "band.capacity.max_batch.low"), want, 0);
    want = (double)(uint64_t)(n * (1 + high));
    kt_rel(number(&m, "band.capacity.max_batch.high"), want + (want < n * (1 + high)), 0);
    drop(&m);
}

static void test_ideal(void **state)
{
    struct made m = make(KP_LLAMA3_8B "hardware: {gpu: h100-sxm-80gb}\n");

    (void)state;
    text(&m, "band.basis", "no measurement: ideal is exact arithmetic by definition");
    kt_u64((uint64_t)number(&m, "band.measurements"), 0);
    assert_null(json_at(m.json, "band.memory"));
    drop(&m);
}

/* A profile that cannot be read costs the band, not the report. */
static void test_unreadable(void **state)
{
    struct kt *t = *state;
    struct kp *k = kp_build(VLLM "}\n");
    char *folder = kt_folder(t->a);
    struct profiles *p = user_profiles(t, folder, "  - words\n");
    cJSON *o = json_object(NULL, NULL);
    struct plan plan;

    plan_solve(&k->problem, &k->problem.workload, &plan);
    band_json(&k->problem, &plan, p, o);
    kt_same(json_at(o, "band.basis")->valuestring,
            "no measurement: the residuals of this engine cannot be read");
    assert_non_null(json_at(o, "band.capacity.max_batch.basis"));
    cJSON_Delete(o);
    remove_user_profiles(t, folder);
    kp_free(k);
}

/* --- shown and explained --------------------------------------------------------------------
 */

static void test_explained(void **state)
{
    static const char *const engines[] = {"vllm, version: 0.19.0", "sglang", "trtllm",
                                          "llamacpp", "hf"};

    (void)state;
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++) {
        char yaml[400];
        size_t n = 0;
        snprintf(yaml, sizeof yaml,
                 KP_LLAMA3_8B "hardware: {gpu: h100-sxm-80gb}\nengine: {name: %s}\n",
                 engines[i]);
        struct made m = make(yaml);
        struct report_in in = {"spec.yaml", &m.k->problem, &m.plan, m.k->diag, m.profiles};
        cJSON *tree = explain_json(m.k->arena, &in, "band", m.k->diag);
        for (const cJSON *e = json_at(tree, "entries")->child; e; e = e->next, n++)
            if (!*json_at(e, "formula")->valuestring || !json_at(e, "sources.0"))
                fail_msg("%s is not explained", json_at(e, "path")->valuestring);
        assert_true(n > 5);
        cJSON_Delete(tree);
        drop(&m);
    }
}

static char *table_of(const struct made *m)
{
    struct report_column column = {"spec.yaml", "Fits", m->json};
    struct report_style style = {false, false, NULL};
    char *shown = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&shown, &size);

    report_table(m->k->arena, &column, 1, &style, out);
    fclose(out);
    return shown;
}

static void test_table(void **state)
{
    struct made m = make(VLLM ", max_model_len: 8192}\n");
    char *shown = table_of(&m);

    (void)state;
    assert_non_null(strstr(shown, "how sure\n"));
    assert_non_null(strstr(shown, "  measured starts  "));
    assert_non_null(strstr(shown, "GiB to "));
    free(shown);
    drop(&m);
    m = make(KP_LLAMA3_8B "hardware: {gpu: h100-sxm-80gb}\n");
    shown = table_of(&m);
    assert_null(strstr(shown, "how sure"));
    free(shown);
    drop(&m);
    m = make(KP_LLAMA3_8B "hardware: {gpu: h100-sxm-80gb}\nengine: {name: sglang}\n");
    shown = table_of(&m);
    assert_non_null(strstr(shown, "too few (1)"));
    free(shown);
    drop(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rule),
        cmocka_unit_test(test_one_model_is_no_band),
        cmocka_unit_test(test_one_use),
        kt_test(test_ranges),
        kt_test(test_spreads),
        kt_test(test_refused),
        cmocka_unit_test(test_vllm),
        cmocka_unit_test(test_capacity_follows_the_pool),
        cmocka_unit_test(test_given),
        cmocka_unit_test(test_does_not_fit),
        cmocka_unit_test(test_no_measurement),
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_direct),
        cmocka_unit_test(test_ideal),
        kt_test(test_unreadable),
        cmocka_unit_test(test_explained),
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests_name("band", tests, NULL, NULL);
}
