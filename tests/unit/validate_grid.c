/* validate_grid: the matrix of real models: large enough, cut where it says so, run by the
 * decoder, of shapes that calibrate does not measure, and done in time on an H200; errors
 * summed up. */
#include "validate/grid.h"

#include <stdlib.h>
#include <string.h>

#include "tests/kvplan.h"
#include "validate/calibrate.h"
#include "validate/decoder.h"
#include "validate/report.h"

/* `make gpu` has ten minutes for this and everything else. */
#define GPU_SECONDS_MAX 360.0

/* The spec, on a GPU that need not be here. */
static struct kp *build(struct kt *t, const struct matrix_row *row)
{
    const char *local = strstr(row->spec, "gpu: local");

    return kp_build(local ? arena_printf(t->a, "%.*sgpu: h200%s", (int)(local - row->spec),
                                         row->spec, local + strlen("gpu: local"))
                          : row->spec);
}

static void apart(const struct problem *p)
{
    const struct layout *l = &p->layout;

    assert_true(p->model.hidden != CALIBRATE_GEMM);
    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct cache_row *r = &l->rows[i];
        assert_false(r->q_heads == CALIBRATE_HEADS && r->kv_heads == CALIBRATE_KV_HEADS &&
                     r->k_dim == CALIBRATE_HEAD_DIM);
    }
}

static void sizes(void **state)
{
    size_t n_shapes, n_points, n;
    struct kt *t = *state;
    const struct grid_shape *s = grid_shapes(&n_shapes);

    (void)grid_points(&n_points);
    (void)grid_rows(t->a, false, &n);
    assert_true(n_shapes >= 8 && grid_schemes() >= 12);
    kt_u64(n_points, 4);
    kt_u64(n, n_shapes * grid_schemes() * n_points);
    (void)grid_rows(t->a, true, &n);
    kt_u64(n, grid_schemes());
    for (size_t i = 0; i < n_shapes; i++) {
        struct kp *k =
            kp_build(arena_printf(t->a, "model: %s\nhardware: {gpu: h200}\n", s[i].model));
        kt_u64(s[i].whole, k->problem.layout.n_layers);
        assert_true(s[i].layers <= s[i].whole);
        kp_free(k);
    }
}

/* Every point can be planned and, but for what the decoder refuses in one line, run. */
static void rows(void **state)
{
    struct kt *t = *state;
    double seconds = 0;
    size_t n;
    const struct matrix_row *row = grid_rows(t->a, false, &n);

    for (size_t i = 0; i < n; i++) {
        struct kp *k = build(t, &row[i]);
        struct device_text why = {""};
        struct subject s;
        run_subject(t->a, row[i].name, &k->problem, &s);
        s.levels = row[i].levels;
        s.limit_bytes = k->problem.stages[0].work.weights_bytes + row[i].fit_bytes;
        if (!decoder_supports(&k->problem, &why))
            print_error("%s: %s\n", row[i].name, why.text);
        assert_string_equal(why.text, "");
        apart(&k->problem);
        assert_true(!i || strcmp(row[i].name, row[i - 1].name) != 0);
        assert_true(grid_seconds(&s) > 0);
        seconds += grid_seconds(&s);
        kp_free(k);
    }
    print_message("# %zu points, %.0f s on an H200 by the planner's own figures\n", n, seconds);
    assert_true(seconds < GPU_SECONDS_MAX);
    assert_string_equal(row[0].name, "Llama-3.1-8B (6 of 32 layers), bf16, 1 x 512");
}

/* The small form, one row of it, runs and counts; the others can be run. */
static void small(void **state)
{
    struct kt *t = *state;
    struct run_options o = {.device = "cpu", .levels = 1u << LEVEL_COUNT | 1u << LEVEL_FIT};
    struct run_result r;
    struct subject s;
    size_t n;
    const struct matrix_row *row = grid_rows(t->a, true, &n);

    for (size_t i = 0; i < n; i++) {
        struct kp *k = build(t, &row[i]);
        struct device_text why = {""};
        if (!decoder_supports(&k->problem, &why))
            print_error("%s: %s\n", row[i].name, why.text);
        assert_string_equal(why.text, "");
        if (strstr(row[i].name, "cla")) {
            run_subject(t->a, row[i].name, &k->problem, &s);
            assert_true(run_checks(t->a, &o, &s, 1, t->d, &r));
            kt_u64(r.n[VERDICT_FAILED], 0);
            assert_true(r.n[VERDICT_PASSED] >= 20);
            s.levels = 1u << LEVEL_FIT; /* of those asked for, only these */
            assert_true(run_checks(t->a, &o, &s, 1, t->d, &r));
            kt_u64(r.n[VERDICT_PASSED], 2);
        }
        kp_free(k);
    }
}

static void errors(void **state)
{
    struct kt *t = *state;
    struct run_result r = {.findings = {.arena = t->a}};
    struct run_options o = {.device = "cuda:0", .levels = 4};
    struct validate_report_in in = {
        .options = &o, .result = &r, .date = "2026-01-01T00:00:00Z"};
    struct finding f = {.check = "c",
                        .what = "w",
                        .level = LEVEL_CLOCK,
                        .quantity = QUANTITY_SECONDS,
                        .summary = SUMMARY_STEP};
    char *text = NULL;
    uint64_t whole = 0;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    cJSON *json;

    for (int i = 1; i <= 20; i++) {
        f.spec = arena_printf(t->a, "s%d", i);
        (void)finding_within(&r.findings, f, 100, i % 2 ? 100 + i : 100 - i, 1);
    }
    f.summary = SUMMARY_PREFILL;
    (void)finding_within(&r.findings, f, 100, 103, 1);
    finding_waive(&r.findings, f, "no");
    json = validate_json(&in);
    validate_table(t->a, json, false, out);
    fclose(out);
    kt_rel(json_at(json, "errors.decode_step.mean")->valuedouble, 0.105, 1e-12);
    kt_rel(json_at(json, "errors.decode_step.p90")->valuedouble, 0.18, 1e-12);
    assert_string_equal(json_at(json, "errors.decode_step.worst_spec")->valuestring, "s20");
    assert_true(json_get_u64(json_at(json, "errors.prefill.n"), &whole) && whole == 1);
    assert_null(json_at(json, "errors.max_batch"));
    assert_non_null(strstr(text, "error of      n    mean     p90   worst\n"));
    assert_non_null(strstr(text, "decode_step  20  10.5 %  18.0 %  20.0 %  s20\n"));
    cJSON_Delete(json);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(sizes),
        kt_test(rows),
        kt_test(small),
        kt_test(errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
