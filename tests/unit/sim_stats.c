/* Statistics against sorted values and sums by hand; series and plots keep what they are given.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/rng.h"
#include "sim/plot.h"
#include "sim/stats.h"
#include "tests/kvtest.h"

/* --- histogram ------------------------------------------------------------------------------
 */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Percentiles of values from 1 ns to a year, against the sorted list. */
static void percentiles(void **state)
{
    enum { N = 20000 };
    static const double ps[] = {0.01, 1, 10, 25, 50, 90, 95, 99, 99.9, 100};
    struct kt *k = *state;
    struct rng r = {kt_seed(5)};
    double *v = ARENA_NEW(k->a, double, N), sum = 0;
    struct hist h;

    hist_init(k->a, &h);
    for (int i = 0; i < N; i++) {
        v[i] = 1e-9 * pow(10, 16.5 * rng_unit(&r));
        sum += v[i];
        hist_add(&h, v[i], 1);
    }
    qsort(v, N, sizeof *v, by_value);
    for (size_t i = 0; i < sizeof ps / sizeof *ps; i++) {
        double want = v[(size_t)ceil(ps[i] / 100 * N - 1e-9) - 1];
        kt_rel(hist_percentile(&h, ps[i]), want, 1.0 / 1024);
    }
    kt_rel(hist_percentile(&h, 100), v[N - 1], 1.0 / 1024);
    kt_rel(h.max, v[N - 1], 0);
    kt_rel(hist_mean(&h), sum / N, 1e-12);
    hist_reset(&h);
    kt_rel(hist_percentile(&h, 99), 0, 0);
    kt_rel(hist_mean(&h), 0, 0);
}

/* One value is itself at every percentile; zeros and counts weigh. */
static void edges(void **state)
{
    struct kt *k = *state;
    struct hist h;

    hist_init(k->a, &h);
    hist_add(&h, 0.123456789, 3);
    kt_rel(hist_percentile(&h, 1), 0.123456789, 0);
    kt_rel(hist_percentile(&h, 100), 0.123456789, 0);
    hist_add(&h, 0, 4);
    hist_add(&h, 7, 0);
    kt_u64(h.n, 7);
    kt_rel(hist_percentile(&h, 50), 0, 0); /* rank 4 of 7 */
    kt_rel(hist_percentile(&h, 58), 0.123456789, 0);
    hist_add(&h, 1e30, 1);
    hist_add(&h, -1e-18, 1); /* a rounding below 0 */
    kt_rel(hist_percentile(&h, 100), 1e30, 1);
    kt_rel(h.max, 1e30, 0);
    assert_true(h.min == 0);
}

/* A million tenths have the mean 0.1 to the last digits. */
static void exact_mean(void **state)
{
    struct kt *k = *state;
    struct hist h;

    hist_init(k->a, &h);
    hist_add(&h, 1e9, 1);
    for (int i = 0; i < 1000000; i++)
        hist_add(&h, 0.1, 1);
    kt_rel(hist_mean(&h) * 1000001, 1e9 + 1e5, 1e-15);
}

/* --- statistics -----------------------------------------------------------------------------
 */

static struct outcome done(uint64_t id, double arrival, double start, double first, double last,
                           uint64_t prompt, uint64_t output)
{
    return (struct outcome){.request = {.id = id,
                                        .arrival_s = arrival,
                                        .prompt_tokens = prompt,
                                        .output_tokens = output,
                                        .hash_tokens = 512},
                            .end = REQUEST_DONE,
                            .queued_s = arrival,
                            .scheduled_s = start,
                            .first_s = first,
                            .last_s = last};
}

static void outcomes(void **state)
{
    struct kt *k = *state;
    struct limits limits = {.ttft_s = 2, .tpot_s = 0.5, .e2e_s = 0};
    struct stats *s = stats_new(k->a, 1, &limits);
    struct outcome a = done(0, 10, 10.5, 11, 15, 1000, 9), /* 1 s, 0.5 s a token */
        b = done(1, 12, 12, 15, 15, 200, 1),               /* 3 s: too late */
        c = done(2, 12, 13, 14, 20, 300, 11),              /* 2 s, 0.6 s a token: too slow */
        d = done(3, 18, 0, 0, 0, 5, 5);
    struct figures f;

    a.cached_tokens = 600;
    c.preemptions = 2;
    d.end = REQUEST_REJECTED;
    stats_outcome(s, &b);
    stats_outcome(s, &a);
    stats_outcome(s, &d);
    stats_outcome(s, &c);
    stats_figures(s, &f);
    kt_u64(f.arrived, 4);
    kt_u64(f.done, 3);
    kt_u64(f.rejected, 1);
    kt_u64(f.preempted, 1);
    kt_u64(f.preemptions, 2);
    kt_u64(f.prompt_tokens, 1500);
    kt_u64(f.output_tokens, 21);
    kt_u64(f.cached_tokens, 600);
    kt_u64(f.cached_blocks, 2);
    kt_u64(f.good, 1);
    kt_rel(f.seconds, 10, 0);
    kt_rel(f.requests_per_s, 0.3, 1e-15);
    kt_rel(f.output_tokens_per_s, 2.1, 1e-15);
    kt_rel(f.good_per_s, 0.1, 1e-15);
    kt_rel(f.times[STATS_TTFT].mean, 2, 1e-15);
    kt_rel(f.times[STATS_TTFT].p50, 2, 1e-3);
    kt_rel(f.times[STATS_TTFT].max, 3, 0);
    kt_u64(f.times[STATS_TPOT].n, 2);
    kt_rel(f.times[STATS_TPOT].mean, 0.55, 1e-15);
    kt_rel(f.times[STATS_E2E].mean, (5 + 3 + 8) / 3.0, 1e-15);
    kt_rel(f.times[STATS_QUEUE].mean, 0.5, 1e-15);
    assert_true(stats_within(s, 33));  /* the first of three */
    assert_false(stats_within(s, 90)); /* 3 s and 0.6 s a token */
    stats_reset(s);
    stats_figures(s, &f);
    kt_u64(f.arrived, 0);
    assert_false(stats_within(s, 99));
}

/* Two replicas over 10 s: means weigh time, shares weigh pools. */
static void loads(void **state)
{
    struct kt *k = *state;
    struct limits none = {0};
    struct stats *s = stats_new(k->a, 2, &none);
    struct outcome o = done(0, 0, 0, 5, 10, 10, 5);
    struct sim_span a = {.from_s = 0,
                         .to_s = 4,
                         .running = 3,
                         .waiting = 1,
                         .decodes = 2,
                         .steps = 8,
                         .prompt_tokens = 100,
                         .output_tokens = 16,
                         .used_first_units = 10,
                         .used_last_units = 50},
                    b = {.from_s = 5,
                         .to_s = 10,
                         .replica = 1,
                         .running = 2,
                         .used_first_units = 300,
                         .used_last_units = 300};
    struct load one, all;
    struct figures f;

    stats_units(s, 0, 100);
    stats_units(s, 1, 300);
    stats_outcome(s, &o);
    stats_span(s, &a);
    stats_span(s, &b);
    stats_load(s, 0, &one);
    stats_figures(s, &f);
    all = f.load;
    kt_rel(one.busy_share, 0.4, 1e-15);
    kt_rel(one.running_mean, 1.2, 1e-15);
    kt_rel(one.waiting_mean, 0.4, 1e-15);
    kt_rel(one.used_share_mean, 4 * 30 / 1000.0, 1e-15);
    kt_rel(one.used_share_peak, 0.5, 1e-15);
    kt_rel(all.busy_share, 0.2, 1e-15);
    kt_rel(all.running_mean, 2.2, 1e-15);
    kt_u64(all.running_peak, 3);
    kt_u64(all.steps, 8);
    kt_u64(all.prompt_tokens, 100);
    kt_rel(all.used_share_mean, (120 + 1500) / 4000.0, 1e-15);
    kt_rel(all.used_share_peak, 1, 1e-15);
    kt_u64(f.times[STATS_ITL].n, 16); /* two sequences saw 8 steps of half a second */
    kt_rel(f.times[STATS_ITL].mean, 0.5, 1e-15);
}

/* --- series ---------------------------------------------------------------------------------
 */

static struct sim_span span(double from, double to, uint32_t replica)
{
    return (struct sim_span){.from_s = from,
                             .to_s = to,
                             .replica = replica,
                             .running = 2,
                             .waiting = 4,
                             .steps = 10,
                             .prompt_tokens = 100,
                             .output_tokens = 50,
                             .used_first_units = 0,
                             .used_last_units = 100};
}

/* A span of 10 s from 0.5 to 10.5 in rows of 4 s, by hand. */
static void rows(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    struct series *s = series_new_rows(1, 4, out);
    struct sim_span one = span(0.5, 10.5, 0);

    (void)state;
    series_units(s, 0, 200);
    series_span(s, &one);
    series_passed(s, 9);
    series_end(s);
    series_free(s);
    fclose(out);
    kt_same(text, "from_s,to_s,running,waiting,cache_used_share,busy_share,prompt_tokens_per_s,"
                  "output_tokens_per_s,steps\n"
                  "0,4,1.75,3.5,0.0765625,0.875,8.75,4.375,3.5\n"
                  "4,8,2,4,0.275,1,10,5,4\n"
                  "8,12,1.25,2.5,0.273438,0.625,6.25,3.125,2.5\n");
    free(text);
}

static double sum_column(const char *csv, int column)
{
    double sum = 0;

    for (const char *line = strchr(csv, '\n') + 1; *line; line = strchr(line, '\n') + 1) {
        const char *at = line;
        for (int i = 0; i < column; i++)
            at = strchr(at, ',') + 1;
        sum += strtod(at, NULL);
    }
    return sum;
}

/* Random spans of three replicas, one of which lags: nothing is lost, rows come in order. */
static void rows_keep_all(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    struct series *s = series_new_rows(3, 0.25, out);
    struct rng r = {kt_seed(8)};
    double at[3] = {100, 100, 100}, passed = 100, lines = 0;
    const char *line;

    (void)state;
    for (int i = 0; i < 3; i++)
        series_units(s, (uint32_t)i, 100);
    for (int i = 0; i < 3000; i++) {
        uint32_t who = rng_below(&r, 10) ? (uint32_t)rng_below(&r, 2) : 2;
        struct sim_span one = span(at[who], at[who] + 3 * rng_unit(&r), who);
        series_span(s, &one);
        at[who] = one.to_s + (rng_below(&r, 5) ? 0 : rng_unit(&r) * 2);
        passed = fmin(at[0], fmin(at[1], at[2]));
        series_passed(s, passed);
    }
    series_end(s);
    series_free(s);
    fclose(out);
    kt_rel(sum_column(text, 6) * 0.25, 300000, 1e-4);
    kt_rel(sum_column(text, 7) * 0.25, 150000, 1e-4);
    kt_rel(sum_column(text, 8), 30000, 1e-4);
    for (line = strchr(text, '\n') + 1; *line; line = strchr(line, '\n') + 1, lines++)
        kt_rel(strtod(line, NULL), 100 + lines * 0.25, 1e-8);
    free(text);
}

/* However long it takes there are at most 64 points, and they hold everything. */
static void points_keep_all(void **state)
{
    struct series *s = series_new_points(1, 64);
    struct rng r = {kt_seed(9)};
    const struct series_row *v;
    double at = 12.5, tokens = 0, busy = 0, want = 0;
    uint64_t n;

    (void)state;
    series_units(s, 0, 100);
    for (int i = 0; i < 5000; i++) {
        struct sim_span one = span(at, at + rng_unit(&r) * (i % 100 == 0 ? 40 : 0.2), 0);
        series_span(s, &one);
        want += one.to_s - at;
        at = one.to_s;
    }
    v = series_rows(s, &n);
    assert_true(n > 16 && n <= 64);
    for (uint64_t i = 0; i < n; i++) {
        tokens += v[i].prompt_tokens;
        busy += v[i].busy_s;
        assert_true(v[i].busy_s <= series_interval_s(s) * (1 + 1e-9));
    }
    kt_rel(tokens, 500000, 1e-9);
    kt_rel(busy, want, 1e-9);
    kt_rel(series_start_s(s), 12.5, 0);
    series_free(s);
}

/* --- plot -----------------------------------------------------------------------------------
 */

/* Well formed, all points inside, text escaped. */
static void svg(void **state)
{
    struct kt *k = *state;
    struct series *s = series_new_points(1, 32);
    struct plot_text text = {"a <b> & c", "x\ny"};
    char *out_text = NULL, *at;
    size_t n = 0;
    FILE *out = open_memstream(&out_text, &n);
    int lines = 0;

    series_units(s, 0, 100);
    for (int i = 0; i < 50; i++) {
        struct sim_span one = span(i * 10, i * 10 + 7, 0);
        series_span(s, &one);
    }
    plot_svg(k->a, s, &text, out);
    fclose(out);
    series_free(s);
    assert_int_equal(strncmp(out_text, "<svg xmlns=", 11), 0);
    assert_string_equal(out_text + n - 7, "</svg>\n");
    assert_non_null(strstr(out_text, "a &lt;b&gt; &amp; c"));
    assert_non_null(strstr(out_text, ">x?y<"));
    assert_non_null(strstr(out_text, ">time since the first request<"));
    for (at = out_text; (at = strstr(at, "points=\"")) != NULL; lines++) {
        char *end = strchr(at += 8, '"');
        while (at < end) {
            double x = strtod(at, &at), y = strtod(at + 1, &at);
            assert_true(x >= 80 && x <= 960 && y >= 60 && y <= 760);
            at += *at == ' ';
        }
    }
    assert_int_equal(lines, 5);
    free(out_text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(percentiles),   kt_test(edges),           kt_test(exact_mean),
        kt_test(outcomes),      kt_test(loads),           kt_test(rows),
        kt_test(rows_keep_all), kt_test(points_keep_all), kt_test(svg),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
