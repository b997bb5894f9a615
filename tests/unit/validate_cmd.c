/* validate_cmd: the commands validate and calibrate as they are typed: answers, exit codes,
 * every complaint word by word, files written whole or not at all. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "planner/plan/json.h"
#include "tests/kvcmd.h"
#include "tui/check_file.h"

static struct ran run(struct kt *k, const char *folder, const char *line)
{
    return kvcmd_run(k->a, folder, line, "");
}

/* A folder with a small spec; state and configuration go there too. */
static char *folder_new(struct kt *k)
{
    char *folder = kt_folder(k->a);
    FILE *f = fopen(arena_printf(k->a, "%s/a.yaml", folder), "w");

    assert_non_null(f);
    fputs("model: {layers: 2, hidden_size: 64, intermediate_size: 96, heads: 4, kv_heads: 2, "
          "head_dim: 32, vocab_size: 64}\nhardware: {memory: 1GiB}\n"
          "workload: {prompt: 24, output: 8}\n",
          f);
    fclose(f);
    assert_int_equal(setenv("XDG_STATE_HOME", folder, 1), 0);
    assert_int_equal(setenv("XDG_CONFIG_HOME", folder, 1), 0);
    return folder;
}

static void folder_remove(struct kt *k, char *folder)
{
    (void)unlink(arena_printf(k->a, "%s/kvbudget/validate.json", folder));
    (void)rmdir(arena_printf(k->a, "%s/kvbudget", folder));
    kt_folder_remove(folder);
}

static cJSON *parsed(const struct ran *r)
{
    cJSON *json = cJSON_Parse(r->out);

    if (!json)
        print_error("%d: %s%s\n", r->status, r->out, r->err);
    assert_non_null(json);
    return json;
}

static uint64_t whole(const cJSON *json, const char *path)
{
    const cJSON *v = json_at(json, path);

    if (!v || !cJSON_IsNumber(v))
        print_error("no number at %s\n", path);
    assert_true(v && cJSON_IsNumber(v));
    return (uint64_t)v->valuedouble;
}

/* The whole of a small spec; and the copy is what the Check screen reads. */
static void confirms(void **state)
{
    struct kt *k = *state;
    char *folder = folder_new(k);
    struct ran r = run(k, folder, "validate|@a.yaml|--device|cpu");
    cJSON *json = parsed(&r);
    const char *copy = arena_printf(k->a, "%s/kvbudget/validate.json", folder);
    struct check_file file;

    assert_int_equal(r.status, 0);
    assert_string_equal(r.err, "");
    assert_string_equal(json_at(json, "device")->valuestring, "cpu");
    assert_null(json_at(json, "device_reason"));
    kt_u64(whole(json, "summary.failed"), 0);
    assert_true(whole(json, "levels.count.passed") >= 15);
    kt_u64(whole(json, "levels.fit.passed"), 2);
    kt_u64(whole(json, "levels.clock.waived"), 1);
    kt_u64(whole(json, "specs.0.prompt_tokens"), 24);
    assert_true(check_read(k->a, copy, k->d, &file));
    kt_u64(file.n, (uint64_t)cJSON_GetArraySize(json_at(json, "checks")));
    kt_u64(file.n_bad, 0);
    kt_u64(file.n_waived, 1);
    assert_string_equal(file.rows[0].level, "count");
    kt_rel(file.rows[0].ratio, 1, 0);
    kt_same(kt_slurp(k->a, copy), r.out);
    cJSON_Delete(json);
    folder_remove(k, folder);
}

/* The same figures each time, but for the date; a seed changes none of them. */
static void repeats(void **state)
{
    struct kt *k = *state;
    char *folder = folder_new(k);
    struct ran a = run(k, folder, "validate|@a.yaml|--device|cpu|--level|count|--no-save");
    struct ran b = run(k, folder, "validate|@a.yaml|--device|cpu|--level|count|--no-save");
    cJSON *x = parsed(&a), *y = parsed(&b);

    cJSON_DeleteItemFromObject(x, "date");
    cJSON_DeleteItemFromObject(y, "date");
    assert_true(cJSON_Compare(x, y, true));
    cJSON_Delete(y);
    b = run(k, folder, "validate|@a.yaml|--device|cpu|--level|count|--no-save|--seed|9");
    y = parsed(&b);
    assert_true(cJSON_Compare(json_at(x, "checks"), json_at(y, "checks"), true));
    kt_u64(whole(y, "seed"), 9);
    assert_null(json_at(x, "levels.fit"));
    assert_int_not_equal(access(arena_printf(k->a, "%s/kvbudget/validate.json", folder), F_OK),
                         0);
    cJSON_Delete(x);
    cJSON_Delete(y);
    folder_remove(k, folder);
}

/* Weights that are handed in wrong: fewer sequences than were said. */
static void fails(void **state)
{
    struct kt *k = *state;
    char *folder = folder_new(k);
    struct ran r = run(k, folder,
                       "validate|@a.yaml|--device|cpu|--level|fit|--memory-limit|400kB|"
                       "--set|memory.per_gpu.weights_bytes=1000|-o|@out.json");
    char *text = kt_slurp(k->a, arena_printf(k->a, "%s/out.json", folder));
    cJSON *json;

    assert_int_equal(r.status, 6);
    assert_string_equal(r.out, "");
    assert_string_equal(r.err, "kvbudget: error: 2 of 2 predictions were not confirmed\n");
    assert_non_null(text); /* what was found is written all the same */
    json = cJSON_Parse(text);
    assert_string_equal(json_at(json, "verdict")->valuestring, "failed");
    kt_u64(whole(json, "memory_limit_bytes"), 400000);
    assert_string_equal(json_at(json, "checks.0.verdict")->valuestring, "failed");
    assert_true(whole(json, "checks.0.predicted") > whole(json, "checks.0.measured"));
    cJSON_Delete(json);
    folder_remove(k, folder);
}

static void tables(void **state)
{
    struct kt *k = *state;
    char *folder = folder_new(k);
    struct ran r = run(k, folder, "validate|@a.yaml|--device|cpu|--format|table|--level|fit");
    const char *first = "Confirmed: 2 of 2 predictions on the CPU build.\n";

    assert_int_equal(r.status, 0);
    assert_true(!strncmp(r.out, first, strlen(first)));
    assert_non_null(strstr(r.out, "fit: sequences of 24 + 3 tokens in "));
    r = run(k, folder, "validate|@a.yaml|--device|cpu|--format|table|--level|clock");
    assert_int_equal(r.status, 0);
    assert_non_null(strstr(r.out, "Nothing could be compared on the CPU build; 1 waived.\n"));
    assert_non_null(strstr(r.out, "needs a GPU: the times of the CPU build say nothing"));
    folder_remove(k, folder);
}

/* The small form of the matrix, planned and waived: its checks have tests of their own. */
static void matrix(void **state)
{
    struct kt *k = *state;
    char *folder = folder_new(k);
    struct ran r = run(k, folder, "validate|--matrix|--device|cpu|--level|clock,counters");
    cJSON *json = parsed(&r);

    assert_int_equal(r.status, 0);
    assert_string_equal(r.err, "");
    assert_true(cJSON_GetArraySize(json_at(json, "specs")) >= 12);
    kt_u64(whole(json, "levels.clock.waived"), 1); /* said once for all */
    kt_u64(whole(json, "levels.counters.passed"), 0);
    assert_int_equal(cJSON_GetArraySize(json_at(json, "errors")), 0);
    cJSON_Delete(json);
    folder_remove(k, folder);
}

static void complains(struct kt *k, const char *line, int status, const char *message)
{
    char *folder = folder_new(k);
    struct ran r = run(k, folder, line);

    if (r.status != status || strcmp(r.err, message) != 0)
        print_error("%s: %d: %s", line, r.status, r.err);
    assert_int_equal(r.status, status);
    assert_string_equal(r.err, message);
    assert_string_equal(r.out, "");
    folder_remove(k, folder);
}

static void usage(void **state)
{
    struct kt *k = *state;

    complains(k, "validate|@a.yaml|--level|cont", 2,
              "kvbudget: error: --level has no level 'cont'; did you mean 'count'?\n");
    complains(k, "validate|@a.yaml|--level|all", 2,
              "kvbudget: error: --level takes count, fit, clock and counters, found 'all'\n");
    complains(k, "validate|@a.yaml|--matrix|--device|cpu", 2,
              "kvbudget: error: --matrix takes no spec\n");
    complains(k, "validate|@a.yaml|--device|gpu0", 2,
              "kvbudget: error: --device takes cpu or cuda:N, found 'gpu0'\n");
    complains(k, "validate|@a.yaml|--memory-limit|24G", 2,
              "kvbudget: error: --memory-limit takes a size with its unit, such as 24GiB, "
              "found '24G'\n");
    complains(k, "validate|@a.yaml|--memory-limit|0", 2,
              "kvbudget: error: --memory-limit takes a size with its unit, such as 24GiB, "
              "found '0'\n");
    complains(k, "validate|@a.yaml|--seed|-1", 2,
              "kvbudget: error: --seed takes a whole number, found '-1'\n");
    complains(k, "validate|@a.yaml|--timeout|0", 2,
              "kvbudget: error: --timeout takes a time, such as 30s, found '0'\n");
    complains(k, "validate|@a.yaml|--levle|fit", 2,
              "kvbudget: error: validate has no option '--levle'; did you mean '--level'?\n");
    complains(k, "calibrate|a.yaml", 2,
              "kvbudget: error: calibrate takes no arguments, found 'a.yaml'\n");
    complains(k, "calibrate|--device|cpu", 2,
              "kvbudget: error: --device takes cuda:N, found 'cpu'\n");
}

/* A spec that cannot be planned is refused before anything runs; so is a full disk afterwards.
 */
static void inputs(void **state)
{
    struct kt *k = *state;
    char *folder = folder_new(k);
    struct ran r = run(k, folder, "validate|@a.yaml|@none.yaml|--device|cpu|--level|fit");

    assert_int_equal(r.status, 3);
    assert_string_equal(r.out, "");
    assert_string_equal(
        r.err,
        arena_printf(k->a, "%s/none.yaml: error: cannot be opened: No such file or directory\n",
                     folder));
    r = run(k, folder, "validate|@a.yaml|--device|cpu|--level|clock|-o|@none/out.json");
    assert_int_equal(r.status, 7);
    assert_non_null(strstr(r.err, "none/out.json: error: cannot be written: "));
    assert_int_equal(setenv("XDG_STATE_HOME", "/dev/null/x", 1), 0);
    r = run(k, folder, "validate|@a.yaml|--device|cpu|--level|clock");
    assert_int_equal(r.status, 0);
    assert_non_null(strstr(r.err, "kvbudget: warning: no copy was kept for the TUI: "));
    folder_remove(k, folder);
}

/* No machine has a hundredth GPU, whether or not this build knows of CUDA. */
static void no_device(void **state)
{
    static const char *const lines[] = {"validate|@a.yaml|--device|cuda:99|-o|@out.json",
                                        "calibrate|--device|cuda:99|-o|@out.json",
                                        "validate|@a.yaml|--device|cuda:x"};
    struct kt *k = *state;
    char *folder = folder_new(k);

    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct ran r = run(k, folder, lines[i]);
        const char *end = strchr(r.err, '\n');
        assert_int_equal(r.status, 5);
        assert_string_equal(r.out, "");
        assert_true(!strncmp(r.err, "kvbudget: error: ", 17) && end && !end[1]);
        assert_non_null(strstr(r.err, "cuda:"));
        assert_int_not_equal(access(arena_printf(k->a, "%s/out.json", folder), F_OK), 0);
    }
    folder_remove(k, folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(confirms), kt_test(repeats), kt_test(fails),  kt_test(tables),
        kt_test(usage),    kt_test(inputs),  kt_test(matrix), kt_test(no_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
