/* compare: a row a scheme on one model and machine, with figures that a plan of its own
 * confirms. */
#include <stdlib.h>
#include <string.h>

#include "planner/plan/compare.h"
#include "tests/kvplan.h"

#define LLAMA KP_LLAMA3_8B "hardware: {gpu: h100-sxm-80gb}\n"

static struct compare all_of(struct kp *k, const char *names)
{
    struct evidence e;
    struct compare c;

    assert_true(evidence_load(k->arena, profiles_open(k->arena, NULL, k->diag), k->diag, &e));
    assert_true(compare_schemes(k->arena, &k->problem, &e, names, k->diag, &c));
    return c;
}

static const struct compare_row *row_of(const struct compare *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (!strcmp(c->rows[i].name, name))
            return &c->rows[i];
    fail_msg("there is no row '%s'", name);
    return NULL;
}

/* Every variant of the registry has a row, the unsupported ones at the end. */
static void every_scheme_has_a_row(void **state)
{
    struct kp *k = kp_build(LLAMA);
    struct compare c = all_of(k, NULL);
    size_t n = 1;
    bool unsupported = false;

    (void)state;
    assert_string_equal(c.rows[0].name, "as shipped");
    for (size_t i = 0; scheme_at(i); i++)
        for (const char *const *v = scheme_at(i)->names; *v; v++, n++)
            (void)row_of(&c, *v);
    kt_u64(c.n, n);
    for (size_t i = 0; i < c.n; i++) {
        unsupported |= c.rows[i].status == COMPARE_UNSUPPORTED;
        assert_true(unsupported == (c.rows[i].status == COMPARE_UNSUPPORTED));
        assert_true((c.rows[i].reason != NULL) == (c.rows[i].status != COMPARE_OK));
    }
    assert_true(unsupported);
    kp_free(k);
}

/* 2 x 32 x 8 x 128 x 2 = 131072 bytes a token; CLA by 2 halves the layers, fp8 the elements. */
static void figures_by_hand(void **state)
{
    struct kp *k = kp_build(LLAMA);
    struct compare c = all_of(k, "all");

    (void)state;
    kt_u64(row_of(&c, "as shipped")->token_bytes, 131072);
    kt_u64(row_of(&c, "cla")->token_bytes, 65536);
    kt_u64(row_of(&c, "fp8_e4m3")->token_bytes, 65536);
    kt_u64(row_of(&c, "lckv")->token_bytes, 3 * 4096);
    kt_u64(row_of(&c, "mqa")->token_bytes, 131072 / 8);
    kt_u64(row_of(&c, "cla")->after_prefill_bytes, (uint64_t)65536 * 2048);
    assert_true(row_of(&c, "cla")->needs_training == false); /* the model is given inline */
    assert_string_equal(row_of(&c, "cla")->params, "factor 2");
    kp_free(k);
}

/* The same scheme asked for in a spec gives the same figures. */
static void rows_are_plans(void **state)
{
    static const char *const asked[][2] = {
        {"lckv", "cache: {sharing: {scheme: lckv, warmup: 2}}\n"},
        {"snapkv", "cache: {eviction: {scheme: snapkv, capacity: 2048}}\n"},
        {"h2o", "cache: {eviction: {scheme: h2o, heavy: 1024, recent: 1024}}\n"},
        {"kivi2", "cache: {format: kivi2}\n"},
    };
    struct kp *k = kp_build(LLAMA);
    struct compare c = all_of(k, NULL);

    (void)state;
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        const struct compare_row *r = row_of(&c, asked[i][0]);
        char yaml[512];
        struct kp *one;
        struct plan plan;
        snprintf(yaml, sizeof yaml, "%s%s", LLAMA, asked[i][1]);
        one = kp_build(yaml);
        plan_solve(&one->problem, &one->problem.workload, &plan);
        kt_u64(r->max_batch, plan.max_batch);
        kt_u64(r->max_context, plan.max_context);
        kt_rel(r->tokens_per_s, plan.tokens_per_s, 0);
        kt_rel(r->prefill_s, plan.prefill_s, 0);
        kt_rel(r->prompt_s * (double)plan.batch, plan.prefill_s, 1e-12);
        kp_free(one);
    }
    kp_free(k);
}

/* A scheme that the spec names keeps its parameters; together with the rest it is the second
 * row. */
static void the_specs_own_parameters(void **state)
{
    struct kp *k = kp_build(
        LLAMA
        "cache: {format: fp8_e4m3, eviction: {scheme: snapkv, capacity: 512, layout: kv_head}}\n");
    struct compare c = all_of(k, "snapkv,tova,fp8-e4m3");
    const struct compare_row *r = row_of(&c, "snapkv");
    struct plan plan;

    (void)state;
    kt_u64(c.n, 5);
    assert_string_equal(c.rows[1].name, "as asked");
    plan_solve(&k->problem, &k->problem.workload, &plan);
    kt_u64(c.rows[1].max_batch, plan.max_batch);
    assert_true(r->own);
    assert_string_equal(r->params, "capacity 512, window 32, layout kv_head");
    kt_u64(r->after_prefill_bytes, (uint64_t)512 * 131072); /* alone, so in bf16 */
    assert_false(row_of(&c, "tova")->own);
    kt_u64(c.rows[0].token_bytes, 131072);
    kp_free(k);
}

static void what_cannot_run_says_why(void **state)
{
    struct kp *k = kp_build("model: mamba-2.8b-hf\nhardware: {gpu: h100}\n");
    struct compare c = all_of(k, "h2o,cla,fastgen");

    (void)state;
    kt_u64(c.n, 4);
    assert_int_equal(c.rows[0].status, COMPARE_OK);
    assert_int_equal(row_of(&c, "h2o")->status, COMPARE_REFUSED);
    kt_same(row_of(&c, "h2o")->reason,
            "h2o drops cached tokens, but no layer of this model has attention");
    assert_int_equal(row_of(&c, "cla")->status, COMPARE_REFUSED);
    assert_int_equal(row_of(&c, "fastgen")->status, COMPARE_UNSUPPORTED);
    kp_free(k);
}

static void unknown_names_are_refused(void **state)
{
    struct kp *k = kp_build(LLAMA);
    struct diag *d = diag_new(k->arena);
    struct compare c;

    (void)state;
    assert_false(
        compare_schemes(k->arena, &k->problem, NULL, "snapvk,tova,nothing-like-it", d, &c));
    kt_printed(
        d,
        "kvbudget: error: --schemes: there is no scheme 'snapvk'; did you mean 'snapkv'?\n"
        "kvbudget: error: --schemes: there is no scheme 'nothing-like-it'; `kvbudget list schemes` has "
        "them all\n");
    assert_int_equal(diag_exit(d), 2);
    kp_free(k);
}

static void rows_are_sorted(void **state)
{
    struct kp *k = kp_build(LLAMA);
    struct compare c = all_of(k, NULL);
    struct diag *d = diag_new(k->arena);

    (void)state;
    assert_true(compare_sort(&c, "max_batch", d));
    assert_string_equal(c.rows[0].name, "as shipped");
    for (size_t i = 2; i < c.n; i++) {
        assert_true(c.rows[i].status >= c.rows[i - 1].status);
        if (c.rows[i].status == COMPARE_OK)
            assert_true(c.rows[i].max_batch <= c.rows[i - 1].max_batch);
    }
    assert_true(compare_sort(&c, "bytes_per_token", d));
    for (size_t i = 2; i < c.n && c.rows[i].status == COMPARE_OK; i++)
        assert_true(c.rows[i].token_bytes >= c.rows[i - 1].token_bytes);
    assert_true(compare_sort(&c, "prefill_seconds_per_sequence", d));
    for (size_t i = 2; i < c.n && c.rows[i].status == COMPARE_OK; i++)
        assert_true(c.rows[i].prompt_s >= c.rows[i - 1].prompt_s);
    assert_true(compare_sort(&c, "scheme", d));
    assert_string_equal(c.rows[1].name, "adakv");
    assert_true(compare_sort(&c, "after_prefill_bytes", d));
    assert_true(compare_sort(&c, "max_context", d));
    assert_true(compare_sort(&c, "decode_tokens_per_second", d));
    assert_false(compare_sort(&c, "max_bach", d));
    assert_false(compare_sort(&c, "colour", d));
    kt_printed(
        d,
        "kvbudget: error: --sort: there is no column 'max_bach'; did you mean 'max_batch'?\n"
        "kvbudget: error: --sort: there is no column 'colour'; the columns are scheme, bytes_per_token, "
        "after_prefill_bytes, max_batch, max_context, decode_tokens_per_second, "
        "prefill_seconds_per_sequence\n");
    kp_free(k);
}

static double goal_batch(const struct compare_row *r)
{
    return (double)r->max_batch;
}

static double goal_speed(const struct compare_row *r)
{
    return r->tokens_per_s;
}

static void the_front_is_not_beaten(void **state)
{
    static const compare_goal_fn goals[] = {goal_batch, goal_speed};
    struct compare_row rows[] = {
        {.name = "a", .max_batch = 1, .tokens_per_s = 9},
        {.name = "b", .max_batch = 5, .tokens_per_s = 5},
        {.name = "c", .max_batch = 5, .tokens_per_s = 4},
        {.name = "d", .max_batch = 9, .tokens_per_s = 1},
        {.name = "e", .max_batch = 99, .tokens_per_s = 99, .status = COMPARE_REFUSED},
        {.name = "f", .max_batch = 5, .tokens_per_s = 5},
    };
    struct compare c = {rows, 6};

    (void)state;
    kt_u64(compare_front(&c, goals, 2), 4);
    for (size_t i = 0; i < 6; i++)
        assert_true(rows[i].on_front == (i != 2 && i != 4));
    kt_u64(compare_front(&c, goals, 1), 1);
    assert_true(rows[3].on_front);
}

/* Quality is shown, never computed: the published row at the asked setting. */
static void published_quality_is_found(void **state)
{
    struct kp *k =
        kp_build("model: {profile: Meta-Llama-3-8B-Instruct}\nhardware: {gpu: h100}\n"
                 "cache: {eviction: {scheme: pyramidkv, capacity: 128}}\n");
    struct compare c = all_of(k, "pyramidkv");
    const struct evidence_near *near = &row_of(&c, "pyramidkv")->near;

    (void)state;
    assert_non_null(near->row);
    kt_rel(near->row->value, 37.25, 0);
    kt_rel(near->distance, 0, 0);
    assert_true(near->contested > 0);
    kp_free(k);
}

static void table_and_json(void **state)
{
    struct kp *k = kp_build(
        LLAMA "workload: {batch: 100000}\ncache: {sharing: {scheme: lckv, warmup: 2}}\n");
    struct compare c = all_of(k, "lckv,fastgen,map");
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    cJSON *tree = compare_json(k->arena, "spec.yaml", &k->problem, &c, k->diag);
    uint64_t v = 0;

    (void)state;
    compare_table(k->arena, &k->problem, &c, out);
    fclose(out);
    assert_non_null(strstr(text, "\nas shipped "));
    assert_non_null(strstr(text, "\nas asked "));
    assert_non_null(strstr(text, "!  the asked batch does not fit\n"));
    assert_non_null(strstr(text, "*  with the parameters of the spec\n"));
    assert_non_null(strstr(text, "No figure can be given:\n  fastgen "));
    assert_non_null(strstr(text, "  give one of map and layer_types\n"));
    assert_true(json_get_u64(json_at(tree, "rows.0.figures.bytes_per_token"), &v));
    kt_u64(v, 131072);
    assert_string_equal(json_at(tree, "rows.2.scheme")->valuestring, "lckv");
    assert_string_equal(json_at(tree, "rows.4.status")->valuestring, "unsupported");
    cJSON_Delete(tree);
    free(text);
    kp_free(k);
}

/* Without a GPU's speed there is no time; the rest stands. */
static void memory_alone(void **state)
{
    struct kp *k = kp_build(KP_LLAMA3_8B "hardware: {memory: 24GiB}\n");
    struct compare c = all_of(k, "cla");
    cJSON *tree = compare_json(k->arena, "spec.yaml", &k->problem, &c, k->diag);

    (void)state;
    assert_false(c.rows[1].timed);
    assert_null(json_at(tree, "rows.1.figures.decode_seconds"));
    assert_non_null(json_at(tree, "rows.1.figures.max_batch"));
    cJSON_Delete(tree);
    kp_free(k);
}

/* Every known model: the model as shipped can be planned, and no scheme breaks it. */
static void every_model(void **state)
{
    struct arena *a = arena_new();
    struct diag *d = diag_new(a);
    size_t n;
    const struct profile_entry *models =
        profile_list(profiles_open(a, NULL, d), PROFILE_MODEL, a, d, &n);

    (void)state;
    assert_true(n > 50);
    for (size_t i = 0; i < n; i++) {
        struct kp *k = kp_build(
            arena_printf(a, "model: \"%s\"\nhardware: {memory: 4000GiB}\n", models[i].name));
        struct compare c = all_of(k, NULL);
        size_t ok = 0;
        if (c.rows[0].status != COMPARE_OK)
            fail_msg("%s: %s", models[i].name, c.rows[0].reason);
        for (size_t r = 0; r < c.n; r++)
            ok += c.rows[r].status == COMPARE_OK;
        assert_true(ok > 1 || layout_attention_layers(&k->problem.layout) == 0);
        kp_free(k);
    }
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scheme_has_a_row),
        cmocka_unit_test(figures_by_hand),
        cmocka_unit_test(rows_are_plans),
        cmocka_unit_test(the_specs_own_parameters),
        cmocka_unit_test(what_cannot_run_says_why),
        cmocka_unit_test(unknown_names_are_refused),
        cmocka_unit_test(rows_are_sorted),
        cmocka_unit_test(the_front_is_not_beaten),
        cmocka_unit_test(published_quality_is_found),
        cmocka_unit_test(table_and_json),
        cmocka_unit_test(memory_alone),
        cmocka_unit_test(every_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
