/* validate_verdict: what a comparison comes to, at the edges of its tolerance; the levels that
 * can be asked for; medians; reports of findings made by hand. */
#include "validate/timing.h"

#include <stdlib.h>
#include <string.h>

#include "tests/kvtest.h"
#include "validate/count.h"
#include "validate/report.h"

static const struct finding bytes = {.spec = "s",
                                     .check = "c",
                                     .what = "w",
                                     .level = LEVEL_COUNT,
                                     .quantity = QUANTITY_BYTES};
static const struct finding seconds = {.spec = "s",
                                       .check = "t",
                                       .what = "w",
                                       .level = LEVEL_CLOCK,
                                       .quantity = QUANTITY_SECONDS};

static const struct finding *last(const struct findings *f)
{
    return &f->list[f->n - 1];
}

static void equal(void **state)
{
    struct kt *t = *state;
    struct findings f = {.arena = t->a};

    assert_true(finding_equal(&f, bytes, 0, 0));
    assert_true(finding_equal(&f, bytes, UINT64_MAX, UINT64_MAX));
    assert_int_equal(last(&f)->verdict, VERDICT_PASSED);
    assert_string_equal(last(&f)->reason, "");
    assert_false(finding_equal(&f, bytes, 10, 9));
    assert_string_equal(last(&f)->reason, "1 bytes fewer than predicted");
    /* doubles could not tell these apart */
    assert_false(finding_equal(&f, bytes, UINT64_MAX - 1, UINT64_MAX));
    assert_int_equal(last(&f)->verdict, VERDICT_FAILED);
    assert_string_equal(last(&f)->reason, "1 bytes more than predicted");
    kt_u64(f.n, 4);
}

static void within(void **state)
{
    struct kt *t = *state;
    struct findings f = {.arena = t->a};

    assert_true(finding_within(&f, seconds, 8, 9, 0.125)); /* the limit is inside */
    assert_true(finding_within(&f, seconds, 8, 7, 0.125));
    assert_false(finding_within(&f, seconds, 8, 9.0000001, 0.125));
    assert_string_equal(last(&f)->reason, "more than 12.5 % from what was predicted");
    assert_false(finding_within(&f, seconds, 8, 6.9999999, 0.125));
    assert_true(finding_within(&f, seconds, 0, 0, 0.1));
    assert_false(finding_within(&f, seconds, 0, 1e-9, 0.1));
    assert_false(finding_within(&f, seconds, 1, 0.0 / 0.0, 0.1));
    assert_false(finding_within(&f, seconds, 1, 1.0 / 0.0, 0.1));
}

static void ratios(void **state)
{
    struct kt *t = *state;
    struct findings f = {.arena = t->a};

    (void)finding_within(&f, seconds, 2, 3, 1);
    kt_rel(finding_ratio(last(&f)), 1.5, 0);
    (void)finding_within(&f, seconds, 0, 0, 1);
    kt_rel(finding_ratio(last(&f)), 1, 0);
    (void)finding_within(&f, seconds, 0, 1, 1);
    assert_true(finding_ratio(last(&f)) < 0);
    finding_waive(&f, seconds, "no %s", "clock");
    assert_true(finding_ratio(last(&f)) < 0);
    assert_string_equal(last(&f)->reason, "no clock");
    assert_int_equal(last(&f)->verdict, VERDICT_WAIVED);
}

/* Any figure that a kernel issues and its formula does not have is named. */
static void issued(void **state)
{
    struct kt *t = *state;
    struct findings f = {.arena = t->a};
    struct traffic x = {.useful_flop = 7}, y = x;

    x.read_bytes[TAG_K] = y.read_bytes[TAG_K] = 100;
    x.written_bytes[TAG_WORK] = y.written_bytes[TAG_WORK] = 20;
    count_issued(&f, bytes, &x, &y);
    assert_int_equal(last(&f)->verdict, VERDICT_PASSED);
    kt_rel(last(&f)->measured, 120, 0);
    y.written_bytes[TAG_WORK] = 21;
    count_issued(&f, bytes, &x, &y);
    assert_string_equal(last(&f)->reason, "the kernel's formula has 20 of work, it issued 21");
    y = x;
    y.exps = 3;
    count_issued(&f, bytes, &x, &y);
    assert_int_equal(last(&f)->verdict, VERDICT_FAILED);
    assert_string_equal(last(&f)->reason,
                        "the kernel's formula has 0 of exponentials, it issued 3");
}

static void levels(void **state)
{
    struct kt *t = *state;
    unsigned bits = 0;

    assert_true(run_levels(t->a, NULL, t->d, &bits));
    kt_u64(bits, 7);
    assert_true(run_levels(t->a, "fit", t->d, &bits));
    kt_u64(bits, 2);
    assert_true(run_levels(t->a, "clock,count,count", t->d, &bits));
    kt_u64(bits, 5);
    assert_false(run_levels(t->a, "cuont", t->d, &bits));
    assert_false(run_levels(t->a, "count,", t->d, &bits));
    kt_printed(t->d,
               "kvbudget: error: --level has no level 'cuont'; did you mean 'count'?\n"
               "kvbudget: error: --level takes count, fit, clock and counters, found ''\n");
}

/* By level, then by name; each once. */
static void registry(void **state)
{
    size_t n = 0;

    (void)state;
    for (const struct check *c, *before = NULL; (c = check_at(n)) != NULL; n++, before = c) {
        assert_non_null(c->run);
        assert_true(strlen(c->summary) > 0);
        assert_true(!before || before->level < c->level ||
                    (before->level == c->level && strcmp(before->name, c->name) < 0));
    }
    kt_u64(n, 9);
}

static void medians(void **state)
{
    double odd[] = {5, 1, 3}, even[] = {4, 1, 3, 2}, one[] = {7};

    (void)state;
    kt_rel(timing_median(odd, 3), 3, 0);
    kt_rel(timing_median(even, 4), 2.5, 0);
    kt_rel(timing_median(one, 1), 7, 0);
}

struct counted {
    struct device *d;
    void *p;
    uint32_t calls;
};

static enum device_status fill_once(void *arg)
{
    struct counted *c = arg;

    c->calls++;
    return device_fill(c->d, c->p, 1, 1 << 16);
}

/* Warm-up runs are dropped, the rest are counted; a failure ends it. */
static void timers(void **state)
{
    struct kt *t = *state;
    struct device_options o = {.poison = false};
    struct device_info info;
    struct device_text why;
    struct counted c = {.calls = 0};
    struct timer timer;
    struct timing got;

    assert_int_equal(device_open("cpu", &o, &c.d, &why), DEVICE_OK);
    assert_int_equal(device_get_info(c.d, &info), DEVICE_OK);
    assert_int_equal(device_alloc(c.d, 1 << 16, TAG_WORK, &c.p), DEVICE_OK);
    info.l2_bytes = 4096;
    assert_int_equal(timer_open(c.d, t->a, &info, &timer), DEVICE_OK);
    kt_u64(timer.flush_bytes, 8192);
    timer.warm_up = 2;
    timer.runs = 5;
    assert_int_equal(timer_run(&timer, fill_once, &c, &got), DEVICE_OK);
    kt_u64(c.calls, 7);
    kt_u64(got.runs, 5);
    assert_true(got.median_s > 0 && got.mad_s >= 0 && got.median_s < 1);
    c.p = NULL;
    assert_int_not_equal(timer_run(&timer, fill_once, &c, &got), DEVICE_OK);
    kt_u64(c.calls, 8);
    device_close(c.d);
}

/* One passed, one failed, one waived. */
static struct run_result by_hand(struct kt *t)
{
    struct run_result r = {.info = {.name = "NVIDIA Test", .total_bytes = 80, .major = 9},
                           .findings = {.arena = t->a},
                           .n = {1, 1, 1}};

    (void)finding_equal(&r.findings, bytes, 7, 7);
    (void)finding_within(&r.findings, seconds, 2e-3, 3e-3, 0.1);
    finding_waive(&r.findings, bytes, "no reason");
    return r;
}

static char *printed(struct kt *t, const cJSON *json, bool table)
{
    char *text = NULL, *copy;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    if (table)
        validate_table(t->a, json, true, f);
    else
        json_print(json, false, f);
    fclose(f);
    copy = arena_strdup(t->a, text);
    free(text);
    return copy;
}

static void reports(void **state)
{
    struct kt *t = *state;
    struct run_result r = by_hand(t);
    struct run_options o = {.device = "cuda:0", .levels = 5, .limit_bytes = 64, .seed = 3};
    struct subject s = {.name = "s", .prompt = 5, .asked_prompt = 9};
    struct validate_report_in in = {.options = &o,
                                    .result = &r,
                                    .subjects = &s,
                                    .n_subjects = 1,
                                    .date = "2026-01-01T00:00:00Z",
                                    .driver = "1.2",
                                    .clock_mhz = 1980};
    cJSON *json = validate_json(&in);
    double ratio = 0;
    uint64_t v = 0;

    assert_string_equal(json_at(json, "schema")->valuestring, "kvbudget.validate/1");
    assert_string_equal(json_at(json, "verdict")->valuestring, "failed");
    assert_string_equal(json_at(json, "device_name")->valuestring, "NVIDIA Test");
    assert_string_equal(json_at(json, "driver")->valuestring, "1.2");
    assert_true(json_get_u64(json_at(json, "clock_mhz"), &v) && v == 1980);
    assert_true(json_get_u64(json_at(json, "levels.clock.failed"), &v) && v == 1);
    assert_true(json_get_u64(json_at(json, "levels.count.waived"), &v) && v == 1);
    assert_null(json_at(json, "levels.fit"));
    assert_true(json_get_double(json_at(json, "checks.1.ratio"), &ratio));
    kt_rel(ratio, 1.5, 1e-12);
    assert_null(json_at(json, "checks.2.predicted"));
    assert_string_equal(json_at(json, "checks.2.reason")->valuestring, "no reason");
    kt_same(printed(t, json, true),
            "Outside tolerance: 1 of 2 predictions on NVIDIA Test; 1 waived.\n\n"
            "level        predicted  measured   ratio    tol.          reason\n"
            "-----  ----  ---------  --------  ------  ------  ------  "
            "--------------------------------------\n"
            "count  c: w          7         7  1.0000   0.0 %  passed\n"
            "clock  t: w    2.00 ms   3.00 ms  1.5000  10.0 %  failed  "
            "more than 10 % from what was predicted\n"
            "count  c: w                                       waived  no reason\n");
    cJSON_Delete(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(equal),    kt_test(within),  kt_test(ratios), kt_test(issued),  kt_test(levels),
        kt_test(registry), kt_test(medians), kt_test(timers), kt_test(reports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
