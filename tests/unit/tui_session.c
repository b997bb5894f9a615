/* The session: edits, what stays when a spec cannot be planned, history, files. Figures are
 * those of a spec that is written out and planned afresh. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "planner/base/file.h"
#include "tests/kvplan.h"
#include "tests/kvsession.h"

#define SMALL                                                                                  \
    "model: Qwen/Qwen3-8B\n"                                                                   \
    "hardware:\n"                                                                              \
    "  gpu: rtx-4090\n"

/* A plan of the same text, made without a session. */
static uint64_t batch_of(const char *yaml)
{
    struct kp *k = kp_build(yaml);
    struct plan p;
    uint64_t batch;

    plan_solve(&k->problem, &k->problem.workload, &p);
    batch = p.max_batch;
    kp_free(k);
    return batch;
}

static void the_blank_start_is_planned(void **state)
{
    struct ks *k = ks_open(NULL);

    (void)state;
    assert_true(k->s.ok && k->s.planned && !k->s.unsaved && !k->s.path);
    assert_true(k->s.plan.fits);
    kt_u64(k->s.plan.max_batch, batch_of(k->s.text));
    ks_close(k);
}

static void an_edit_replans(void **state)
{
    struct ks *k = ks_open(SMALL);
    uint64_t generation = k->s.generation;
    const char *why = NULL;

    (void)state;
    assert_true(session_set(&k->s, "cache.format", "fp8_e4m3", &why));
    assert_true(k->s.ok && k->s.unsaved && k->s.generation > generation);
    kt_same(k->s.text, SMALL "cache:\n  format: fp8_e4m3\n");
    kt_u64(k->s.plan.max_batch, batch_of(SMALL "cache: {format: fp8_e4m3}\n"));
    assert_string_equal(session_get(&k->s, "cache.format"), "fp8_e4m3");
    assert_string_equal(session_get(&k->s, "cache"), "");
    assert_null(session_get(&k->s, "cache.k"));
    ks_close(k);
}

static void taking_a_key_away_takes_empty_maps(void **state)
{
    struct ks *k = ks_open(SMALL "cache: {eviction: {scheme: snapkv, capacity: 512}}\n");
    const char *why = NULL;

    (void)state;
    assert_true(session_set(&k->s, "cache.eviction.capacity", NULL, &why));
    assert_true(session_set(&k->s, "cache.eviction", "", &why));
    kt_same(k->s.text, SMALL);
    assert_true(session_set(&k->s, "cache.eviction.window", NULL, &why)); /* is not there */
    kt_same(k->s.text, SMALL);
    assert_true(session_undo(&k->s) && session_undo(&k->s));
    assert_false(session_undo(&k->s));
    ks_close(k);
}

static void a_bad_spec_leaves_the_last_plan(void **state)
{
    struct ks *k = ks_open(SMALL);
    uint64_t batch = k->s.plan.max_batch;
    const cJSON *report;
    const char *why = NULL;

    (void)state;
    assert_true(session_set(&k->s, "hardware.gpu", "rtx-4091", &why));
    assert_false(k->s.ok);
    assert_true(k->s.planned);
    kt_u64(k->s.plan.max_batch, batch);
    kt_diag(k->s.diag, "unknown GPU 'rtx-4091'", 3);
    report = session_report(&k->s);
    assert_string_equal(json_at(report, "inputs.gpu")->valuestring, "rtx-4090");
    assert_false(session_write_report(&k->s, "never.json", &why));
    kt_same(why, "there is no plan of this spec: unknown GPU 'rtx-4091'; did you mean "
                 "'rtx-4090'?");
    assert_true(session_undo(&k->s));
    assert_true(k->s.ok && !k->s.unsaved);
    ks_close(k);
}

static void what_is_no_edit_changes_nothing(void **state)
{
    struct ks *k = ks_open(SMALL);
    uint64_t generation = k->s.generation;
    const char *why = NULL;

    (void)state;
    assert_false(session_set(&k->s, "hardware..gpu", "x", &why));
    kt_same(why, "'hardware..gpu' is not a path of keys such as engine.name");
    assert_false(session_set(&k->s, "model.name", "x", &why));
    kt_same(why, "'model.name' runs through 'model', which is not a map");
    assert_false(session_set(&k->s, "cache.sharing", "{scheme: [", &why));
    assert_non_null(strstr(why, "did not find expected"));
    assert_true(session_set(&k->s, "model", "Qwen/Qwen3-8B", &why)); /* as it is */
    kt_u64(k->s.generation, generation);
    assert_false(session_undo(&k->s));
    ks_close(k);
}

static void several_edits_are_one_step(void **state)
{
    struct ks *k = ks_open(SMALL);
    const struct session_edit e[] = {{"hardware.count", "2"}, {"parallel.tp", "2"}};
    const char *why = NULL;

    (void)state;
    assert_true(session_apply(&k->s, e, 2, &why));
    kt_u64(k->s.problem.gpus, 2);
    assert_true(session_undo(&k->s));
    kt_same(k->s.text, SMALL);
    assert_true(session_redo(&k->s));
    kt_u64(k->s.problem.gpus, 2);
    assert_false(session_redo(&k->s));
    assert_true(session_undo(&k->s));
    assert_true(session_set(&k->s, "hardware.count", "4", &why)); /* ends the redo */
    assert_false(session_redo(&k->s));
    ks_close(k);
}

/* 200 steps are kept, whatever their number. */
static void history_is_bounded(void **state)
{
    struct ks *k = ks_open(SMALL);
    const char *why = NULL;
    int back = 0;
    char n[16];

    (void)state;
    for (int i = 1; i <= 450; i++) {
        snprintf(n, sizeof n, "%d", i);
        assert_true(session_set(&k->s, "workload.batch", n, &why));
    }
    while (session_undo(&k->s))
        back++;
    assert_int_equal(back, 199);
    assert_string_equal(session_get(&k->s, "workload.batch"), "251");
    while (session_redo(&k->s))
        back--;
    assert_int_equal(back, 0);
    assert_string_equal(session_get(&k->s, "workload.batch"), "450");
    ks_close(k);
}

static void files_round_trip(void **state)
{
    struct kt *t = *state;
    struct ks *k = ks_open(NULL);
    char *folder = kt_folder(t->a);
    const char *path = arena_printf(t->a, "%s/a.yaml", folder), *why = NULL;
    static const char text[] = "# ours\n\nmodel: Qwen/Qwen3-8B # the small one\n"
                               "hardware: {gpu: rtx-4090}\n";
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_true(session_load(&k->s, path, &why));
    assert_true(k->s.ok && !k->s.unsaved && k->s.loses_comments);
    assert_string_equal(k->s.path, path);
    assert_true(session_set(&k->s, "hardware.gpu", "nope", &why));
    kt_diag(k->s.diag, "unknown GPU 'nope'", 5);
    assert_true(session_set(&k->s, "hardware.gpu", "l4", &why));
    assert_true(session_save(&k->s, path, &why));
    assert_true(!k->s.unsaved && !k->s.loses_comments);
    kt_same(kt_slurp(t->a, path), "# ours\n\nmodel: Qwen/Qwen3-8B\nhardware:\n  gpu: l4\n");
    kt_same(session_yaml(&k->s, t->a), kt_slurp(t->a, path));
    assert_true(session_undo(&k->s));
    assert_true(k->s.unsaved);
    ks_close(k);
    kt_folder_remove(folder);
}

static void files_that_cannot_be_used_are_said(void **state)
{
    struct kt *t = *state;
    struct ks *k = ks_open(SMALL);
    char *folder = kt_folder(t->a);
    const char *path = arena_printf(t->a, "%s/two.yaml", folder), *why = NULL;
    FILE *f = fopen(path, "w");

    fputs("a: 1\n---\nb: 2\n", f);
    fclose(f);
    assert_false(session_load(&k->s, path, &why));
    kt_same(why, arena_printf(t->a, "%s holds several specs; one is edited here", path));
    assert_false(session_load(&k->s, "no/such/file.yaml", &why));
    kt_same(why, "no/such/file.yaml cannot be opened: No such file or directory");
    f = fopen(path, "w");
    fputs("a: [1\nb: 2\n", f);
    fclose(f);
    assert_false(session_load(&k->s, path, &why));
    assert_non_null(strstr(why, "two.yaml:"));
    f = fopen(path, "w");
    fputs("- a\n", f);
    fclose(f);
    assert_false(session_load(&k->s, path, &why));
    kt_same(why, arena_printf(
                     t->a, "%s: a spec is a map with at least `model:` and `hardware:`", path));
    f = fopen(path, "w");
    fclose(f);
    assert_false(session_load(&k->s, path, &why));
    kt_same(why, arena_printf(t->a, "%s holds no spec; one is edited here", path));
    assert_false(session_save(&k->s, "", &why));
    kt_same(why, "'' is not the name of a file");
    assert_false(session_save(&k->s, folder, &why));
    kt_same(why, arena_printf(t->a, "%s cannot be written: Is a directory", folder));
    if (!access("/dev/full", W_OK)) {
        assert_false(session_save(&k->s, "/dev/full", &why));
        kt_same(why, "/dev/full cannot be written: No space left on device");
    }
    assert_true(!k->s.path && k->s.ok);
    kt_same(k->s.text, SMALL);
    ks_close(k);
    kt_folder_remove(folder);
}

static void the_report_is_that_of_the_command(void **state)
{
    struct kt *t = *state;
    struct ks *k = ks_open(SMALL);
    char *folder = kt_folder(t->a);
    const char *path = arena_printf(t->a, "%s/r.json", folder), *why = NULL;

    assert_true(session_write_report(&k->s, path, &why));
    assert_non_null(strstr(kt_slurp(t->a, path), "\"schema\": \"kvbudget.report/1\""));
    assert_ptr_equal(session_report(&k->s), session_report(&k->s));
    assert_true(session_compare(&k->s)->n > 30);
    ks_close(k);
    kt_folder_remove(folder);
}

static void flags_need_a_server(void **state)
{
    struct kt *t = *state;
    struct ks *k = ks_open(SMALL);
    const char *why = NULL;

    assert_null(session_flags(&k->s, t->a, &why));
    assert_non_null(strstr(why, "the engine of this plan is 'ideal', which is no server"));
    assert_true(session_set(&k->s, "engine.name", "vllm", &why));
    assert_non_null(strstr(session_flags(&k->s, t->a, &why), "vllm serve Qwen/Qwen3-8B"));
    ks_close(k);
}

static void a_variant_leaves_the_session_alone(void **state)
{
    struct kt *t = *state;
    struct ks *k = ks_open(SMALL);
    const struct session_edit more = {"hardware.count", "2"}, bad = {"hardware.count", "0"};
    struct problem p;
    const char *why = NULL;

    assert_true(session_variant(&k->s, t->a, &more, 1, &p, &why));
    kt_u64(p.gpus, 2);
    kt_u64(k->s.problem.gpus, 1);
    kt_same(k->s.text, SMALL);
    assert_false(session_variant(&k->s, t->a, &bad, 1, &p, &why));
    kt_same(why, "'count' in hardware must be between 1 and 65536, found 0");
    ks_close(k);
}

static void a_baseline_is_compared_with(void **state)
{
    struct ks *k = ks_open(SMALL);
    struct figures now;
    char buf[32];
    const char *why = NULL;

    (void)state;
    figures_of(&k->s, &now);
    assert_int_equal(baseline_change(&k->s.baseline, &now, FIGURE_TOKEN, buf, sizeof buf),
                     CHANGE_NONE);
    session_pin(&k->s);
    assert_true(k->s.baseline.pinned);
    assert_string_equal(k->s.baseline.name, "Qwen3-8B on 1 x rtx-4090");
    assert_true(session_set(&k->s, "cache.format", "fp8_e4m3", &why));
    figures_of(&k->s, &now);
    assert_int_equal(baseline_change(&k->s.baseline, &now, FIGURE_TOKEN, buf, sizeof buf),
                     CHANGE_BETTER);
    kt_same(buf, "-50 %");
    assert_int_equal(baseline_change(&k->s.baseline, &now, FIGURE_WEIGHTS, buf, sizeof buf),
                     CHANGE_NONE);
    session_pin(&k->s); /* changed: pins anew */
    assert_true(k->s.baseline.pinned);
    session_pin(&k->s); /* unchanged: unpins */
    assert_false(k->s.baseline.pinned);
    ks_close(k);
}

/* The parts of the bar are the whole GPU: 24,564 MiB less what the driver keeps. */
static void memory_adds_up(void **state)
{
    struct ks *k = ks_open(SMALL "engine: {name: vllm}\n");
    struct figures f;
    double sum = 0, total;

    (void)state;
    figures_of(&k->s, &f);
    for (int i = FIGURE_WEIGHTS; i <= FIGURE_UNUSED; i++)
        sum += f.v[i];
    total = (double)k->s.problem.stages[0].budget.total_bytes;
    kt_rel(sum, total, 1e-12);
    assert_true(f.v[FIGURE_USED] > 0 && f.v[FIGURE_UNUSED] > 0);
    ks_close(k);
    k = ks_open(SMALL "engine: {name: llamacpp}\nworkload: {batch: 1}\n");
    figures_of(&k->s, &f); /* what its slots reserve is in use */
    assert_true(f.v[FIGURE_USED] > 0 && f.v[FIGURE_FREE] == 0);
    ks_close(k);
}

static void a_spec_that_never_worked_has_no_plan(void **state)
{
    struct ks *k = ks_open("model: nobody/knows\n");
    struct figures f;
    const char *why = NULL;

    (void)state;
    assert_true(!k->s.ok && !k->s.planned);
    assert_null(session_report(&k->s));
    assert_null(session_compare(&k->s));
    figures_of(&k->s, &f);
    assert_false(f.known[FIGURE_WEIGHTS] || f.known[FIGURE_USED]);
    session_pin(&k->s);
    assert_false(k->s.baseline.pinned);
    assert_true(session_set(&k->s, "model", "Qwen/Qwen3-8B", &why));
    assert_true(session_set(&k->s, "hardware.gpu", "l4", &why));
    assert_true(k->s.ok && k->s.planned);
    ks_close(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_blank_start_is_planned),
        cmocka_unit_test(an_edit_replans),
        cmocka_unit_test(taking_a_key_away_takes_empty_maps),
        cmocka_unit_test(a_bad_spec_leaves_the_last_plan),
        cmocka_unit_test(what_is_no_edit_changes_nothing),
        cmocka_unit_test(several_edits_are_one_step),
        cmocka_unit_test(history_is_bounded),
        kt_test(files_round_trip),
        kt_test(files_that_cannot_be_used_are_said),
        kt_test(the_report_is_that_of_the_command),
        kt_test(flags_need_a_server),
        kt_test(a_variant_leaves_the_session_alone),
        cmocka_unit_test(a_baseline_is_compared_with),
        cmocka_unit_test(memory_adds_up),
        cmocka_unit_test(a_spec_that_never_worked_has_no_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
