/* Synthetic requests: means, spreads and shapes against the distributions' own formulas,
 * determinism, and every complaint word by word. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sim/trace.h"
#include "tests/kvtest.h"

static const struct trace_scale plain = {1, 1, 1, 0};

struct moments {
    double n, sum, squares;
};

static void put(struct moments *m, double v)
{
    m->n++;
    m->sum += v;
    m->squares += v * v;
}

static double mean(const struct moments *m)
{
    return m->sum / m->n;
}

static double cv(const struct moments *m)
{
    double a = mean(m);

    return sqrt(m->squares / m->n - a * a) / a;
}

static struct trace *make(struct kt *k, const char *process, const char *lengths,
                          uint64_t count, uint64_t seed)
{
    struct arrivals in = {process, lengths, 100, 20, count, seed};
    struct trace *t = trace_synthetic(k->a, &in, &plain, k->d);

    if (!t)
        diag_print(k->d, 0, true, stderr);
    assert_non_null(t);
    return t;
}

/* Intervals of n requests; bounds are 5 standard errors of a mean. */
static struct moments intervals(struct kt *k, const char *process, uint64_t n)
{
    struct trace *t = make(k, process, NULL, n, 42);
    struct moments m = {0};
    struct request r;
    double last = 0;

    while (trace_next(t, &r)) {
        kt_u64(r.id, (uint64_t)m.n);
        assert_true(r.arrival_s >= last);
        put(&m, r.arrival_s - last);
        last = r.arrival_s;
    }
    kt_u64((uint64_t)m.n, n);
    return m;
}

static void poisson(void **state)
{
    struct moments m = intervals(*state, "poisson:5", 200000);

    kt_rel(mean(&m), 0.2, 5 / sqrt(200000));
    kt_rel(cv(&m), 1, 0.02);
}

static void gamma_intervals(void **state)
{
    struct moments bursty = intervals(*state, "gamma:8,2.5", 200000),
                   even = intervals(*state, "gamma:8,0.3", 200000);

    kt_rel(mean(&bursty), 0.125, 5 * 2.5 / sqrt(200000));
    kt_rel(cv(&bursty), 2.5, 0.05);
    kt_rel(mean(&even), 0.125, 5 * 0.3 / sqrt(200000));
    kt_rel(cv(&even), 0.3, 0.02);
}

static void evenly(void **state)
{
    struct moments m = intervals(*state, "uniform:4", 1001);

    kt_rel(m.sum, 250, 1e-12);
    assert_true(m.squares > 0 && cv(&m) < 0.04); /* the first comes at 0 */
}

/* Bursts of 10 come together; their distances are exponential. */
static void bursts(void **state)
{
    struct kt *k = *state;
    struct trace *t = make(k, "burst:20,10", NULL, 100000, 1);
    struct moments m = {0};
    struct request r;
    double last = 0;

    for (int i = 0; trace_next(t, &r); i++) {
        if (i % 10 == 0)
            put(&m, r.arrival_s - last);
        else
            assert_true(r.arrival_s == last);
        last = r.arrival_s;
    }
    kt_rel(mean(&m), 0.5, 5 / sqrt(10000));
    kt_rel(cv(&m), 1, 0.06);
}

static void lengths(void **state)
{
    struct kt *k = *state;
    struct trace *t = make(k, "poisson:1", "uniform:100-300,lognormal:250,1.5", 200000, 3);
    struct moments in = {0}, out = {0}, logs = {0};
    struct request r;

    while (trace_next(t, &r)) {
        assert_true(r.prompt_tokens >= 100 && r.prompt_tokens <= 300);
        assert_true(r.output_tokens >= 1);
        put(&in, (double)r.prompt_tokens);
        put(&out, (double)r.output_tokens);
        put(&logs, log((double)r.output_tokens));
    }
    kt_rel(mean(&in), 200, 2e-3);
    kt_rel(cv(&in), sqrt((201.0 * 201 - 1) / 12) / 200, 5e-3);
    kt_rel(mean(&out), 250, 0.02);
    kt_rel(cv(&out), 1.5, 0.1);
    kt_rel(mean(&logs), log(250) - log(1 + 2.25) / 2, 2e-3); /* of the normal below */
    kt_rel(sqrt(logs.squares / logs.n - mean(&logs) * mean(&logs)), sqrt(log(1 + 2.25)), 5e-3);
}

static void fixed_lengths(void **state)
{
    struct kt *k = *state;
    struct request r;

    assert_true(trace_next(make(k, "poisson:1", NULL, 1, 0), &r));
    kt_u64(r.prompt_tokens, 100);
    kt_u64(r.output_tokens, 20);
    assert_true(trace_next(make(k, "poisson:1", "2k,7", 1, 0), &r));
    kt_u64(r.prompt_tokens, 2048);
    kt_u64(r.output_tokens, 7);
    assert_true(trace_next(make(k, "poisson:1", "lognormal:5,1,uniform:3-3", 1, 0), &r));
    kt_u64(r.output_tokens, 3);
}

/* Prompt and output of a trace stay together; arrivals need not be there. */
static void sampled(void **state)
{
    struct kt *k = *state;
    char *folder = kt_folder(k->a), *path = arena_printf(k->a, "%s/l.csv", folder);
    FILE *f = fopen(path, "w");
    struct trace *t;
    struct request r;
    int seen[100] = {0};

    fputs("num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n", f);
    for (int i = 0; i < 100; i++)
        fprintf(f, "%d,%d,%d,0.5\n", 1000 + i, 7 * i + 1, 0);
    fclose(f);
    t = make(k, "poisson:1", arena_printf(k->a, "trace:%s", path), 20000, 0);
    while (trace_next(t, &r)) {
        uint64_t i = r.prompt_tokens - 1000;
        assert_true(i < 100);
        kt_u64(r.output_tokens, 7 * i + 1);
        seen[i]++;
    }
    for (int i = 0; i < 100; i++) /* 200 expected, 5 standard deviations of 14 */
        assert_true(seen[i] > 130 && seen[i] < 270);
    kt_folder_remove(folder);
}

/* The same seed gives the same requests, at every rate; another seed gives others. Lengths do
 * not depend on the arrivals. */
static void deterministic(void **state)
{
    struct kt *k = *state;
    const char *law = "lognormal:500,1,uniform:1-1000";
    struct trace *a = make(k, "gamma:3,2", law, 500, 9), *b = make(k, "gamma:3,2", law, 500, 9),
                 *c = make(k, "gamma:3,2", law, 500, 10),
                 *d = make(k, "poisson:3", law, 500, 9);
    struct request x, y, z, w;
    int same = 0;
    double first = 0, at[500];

    for (int i = 0; i < 500; i++) {
        assert_true(trace_next(a, &x) && trace_next(b, &y) && trace_next(c, &z) &&
                    trace_next(d, &w));
        assert_true(x.arrival_s == y.arrival_s && x.prompt_tokens == y.prompt_tokens &&
                    x.output_tokens == y.output_tokens);
        kt_u64(w.prompt_tokens, x.prompt_tokens);
        same += x.prompt_tokens == z.prompt_tokens;
        at[i] = x.arrival_s;
    }
    assert_true(same < 25);
    assert_false(trace_next(a, &x));
    assert_true(trace_rewind(a, 2));
    for (int i = 0; i < 500; i++) {
        assert_true(trace_next(a, &x));
        first = i ? first : x.arrival_s;
        kt_rel(x.arrival_s - first, (at[i] - at[0]) / 2, 1e-9);
    }
}

static void complaints(void **state)
{
    static const char *const laws[] = {
        "poisson",     "poisson:",  "poisson:0",    "poisson:-1",   "poisson:1,2",
        "gamma:1",     "gamma:1,0", "gamma:1,1e-9", "burst:3",      "burst:3,0",
        "burst:3,1.5", "weibull:1", "uniform:x",    "poisson:1e99", ""};
    static const char *const bad[] = {"",
                                      "5",
                                      "5,",
                                      "5,0",
                                      "5,6,7",
                                      "x,5",
                                      "uniform:5,6",
                                      "uniform:9-5,6",
                                      "uniform:-",
                                      "0,5",
                                      "lognormal:5",
                                      "lognormal:5,0,3",
                                      "5,99999999999",
                                      "lognormal:0,1,3"};
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof laws / sizeof *laws; i++) {
        struct diag *d = diag_new(k->a);
        struct arrivals in = {laws[i], NULL, 1, 1, 1, 0};
        assert_null(trace_synthetic(k->a, &in, &plain, d));
        kt_printed(d, arena_printf(k->a,
                                   "kvbudget: error: --arrivals takes poisson:RATE, "
                                   "gamma:RATE,CV (0.01 to 100), burst:RATE,SIZE or "
                                   "uniform:RATE with requests a second, found '%s'\n",
                                   laws[i]));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct diag *d = diag_new(k->a);
        struct arrivals in = {"poisson:1", bad[i], 1, 1, 1, 0};
        assert_null(trace_synthetic(k->a, &in, &plain, d));
        kt_printed(d, arena_printf(k->a,
                                   "kvbudget: error: --lengths takes PROMPT,OUTPUT with "
                                   "tokens, uniform:A-B or lognormal:MEAN,CV for each, or "
                                   "trace:FILE, found '%s'\n",
                                   bad[i]));
    }
}

static void complaints_of_input(void **state)
{
    struct kt *k = *state;
    struct arrivals none = {"poisson:1", NULL, 5, 0, 1, 0},
                    file = {"poisson:1", "trace:no/such", 5, 5, 1, 0};

    assert_null(trace_synthetic(k->a, &none, &plain, k->d));
    assert_null(trace_synthetic(k->a, &file, &plain, k->d));
    kt_printed(k->d, "kvbudget: error: a request has at least one prompt and one output token; "
                     "the workload has 5 and 0\n"
                     "no/such: error: cannot be opened: No such file or directory\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(poisson),    kt_test(gamma_intervals),
        kt_test(evenly),     kt_test(bursts),
        kt_test(lengths),    kt_test(fixed_lengths),
        kt_test(sampled),    kt_test(deterministic),
        kt_test(complaints), kt_test(complaints_of_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
