/* Check and Run: saved results as they are read and shown, and the simulation that is watched.
 */
#include "tests/tui/rig.h"

#include <math.h>

#include "tui/check_file.h"
#include "tui/live_run.h"

static void set(struct rig *r, const char *key, const char *value)
{
    const char *why = "";

    if (!session_set(&r->session, key, value, &why) || !r->session.ok)
        fail_msg("%s: %s", key, why);
}

/* Llama 3.1 8B on an H100 without an engine's overhead: 131072 B a token. */
static struct rig *open_on(struct kt *k, const char *screen)
{
    struct rig *r = rig_open(k->a, &(struct ui_options){.screen = screen});

    set(r, "engine", NULL);
    ui_view(r->ui, &r->c);
    return r;
}

/* --- Check ------------------------------------------------------------------------------ */

static const char results[] =
    "{\"schema\": \"kvbudget.validate/1\", \"device\": {\"name\": \"NVIDIA H200\"},\n"
    "\"driver\": \"580.95\", \"date\": \"2026-01-02\", \"news\": [1],\n"
    "\"checks\": [\n"
    "{\"name\": \"decode bytes\", \"level\": \"count\", \"predicted\": 16777216, \"measured\": "
    "16777216,\n\"ratio\": 1, \"tolerance\": 0, \"verdict\": \"ok\"},\n"
    "{\"name\": \"prefill time\", \"level\": \"clock\", \"predicted\": 0.04, \"measured\": 0.05, "
    "\"tolerance\": 0.1,\n\"verdict\": \"failed\", \"reason\": \"slower\"},\n"
    "{\"name\": \"counters\", \"verdict\": \"waived\", \"reason\": \"no privilege\"}]}\n";

/* As `kvbudget validate` writes it: the device as asked for, its name, units, counts. */
static const char written[] =
    "{\"schema\": \"kvbudget.validate/1\", \"device\": \"cuda:0\", \"device_name\": \"NVIDIA "
    "H200\",\n\"summary\": {\"passed\": 1, \"failed\": 0, \"waived\": 0},\"specs\": [{\"name\": \"llama\"}], "
    "\"checks\": [{\"name\": \"llama: decode: K read\", \"spec\": \"llama\", \"check\": \"decode\","
    "\"level\": \"count\", \"verdict\": \"passed\", \"reason\": \"\", \"unit\": \"bytes\","
    "\"predicted\": 4096, \"measured\": 4096, \"ratio\": 1, \"tolerance\": 0}]}\n";

static void checks_are_read(void **state)
{
    struct kt *k = *state;
    char *folder = kt_folder(k->a);
    const char *path = rig_file(k->a, folder, "validate-1.json", results), *later;
    struct rig *r = rig_open(k->a, &(struct ui_options){.validation = path, .screen = "check"});
    struct check_file f;

    assert_true(check_read(k->a, path, k->d, &f));
    kt_u64(f.n, 3);
    kt_u64(f.n_bad, 1);
    kt_u64(f.n_waived, 1);
    kt_same(f.device, "NVIDIA H200");
    kt_rel(f.rows[1].ratio, 1.25, 1e-12); /* not in the file */
    assert_true(isnan(f.rows[2].measured));
    rig_shows(r, "3 checks: 1 outside what is allowed, 1 waived");
    rig_shows(r, "16777216");
    rig_play(r, "F6 F6 F6 F6 g");
    rig_shows(r, "slower");
    rig_play(r, "\\ \"count\" Enter");
    rig_hides(r, "prefill time");
    rig_close(r);
    path = rig_file(k->a, folder, "validate-0.json", written);
    r = rig_open(k->a, &(struct ui_options){.validation = path, .screen = "check"});
    rig_play(r, "size 100x30");
    rig_shows(r, "1 check: 0 outside what is allowed, 0 waived");
    rig_shows(r, "NVIDIA H200 (cuda:0)");
    rig_shows(r, "decode: K read"); /* without the spec, which all have */
    rig_hides(r, "llama: decode");
    rig_shows(r, "4096 bytes ");
    rig_shows(r, "passed");
    rig_play(r, "w");
    rig_shows(r, "decode: K read \u2500");
    rig_close(r);
    later = rig_file(k->a, folder, "validate-2.json", results);
    (void)rig_file(k->a, folder, "other.json", results);
    kt_same(check_newest(k->a, folder), later);
    assert_null(check_newest(k->a, "/nonexistent"));
    kt_folder_remove(folder);
}

static void bad_results_say_why(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\"schema\": \"kvbudget.report/1\"}",
         "v.json:1:1: error: the schema is 'kvbudget.report/1', expected 'kvbudget.validate/1'\n"},
        {"[1]", "v.json:1:1: error: the schema is '', expected 'kvbudget.validate/1'\n"},
    };
    struct kt *k = *state;
    char *folder = kt_folder(k->a);
    struct check_file f;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct diag *d = diag_new(k->a);
        const char *path = rig_file(k->a, folder, "v.json", cases[i].text);
        assert_false(check_read(k->a, path, d, &f));
        kt_printed(d, arena_printf(k->a, "%s/%s", folder, cases[i].message));
    }
    assert_false(check_read(k->a, rig_file(k->a, folder, "v.json", "{"), k->d, &f));
    assert_false(check_read(k->a, arena_printf(k->a, "%s/none.json", folder), k->d, &f));
    kt_folder_remove(folder);
}

/* --- Run -------------------------------------------------------------------------------- */

/* All requests end, in the time and with the load that the simulator counts itself. */
static void runs_to_its_end(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "budget");
    struct live_in in = {.problem = &r->session.problem, .per_s = 4, .scale = 1};
    struct live *l = live_new(k->a, &in, k->d);
    static struct live_points p;
    struct live_now now;
    int n;

    assert_non_null(l);
    assert_true(live_run(l, 10, 1000000));
    live_look(l, &now);
    assert_true(now.time_s >= 10 && !now.ended && now.running > 0);
    while (live_run(l, INFINITY, 100000))
        ;
    live_look(l, &now);
    assert_true(now.ended);
    kt_u64(now.done + now.rejected, LIVE_REQUESTS);
    kt_u64(now.running + now.waiting, 0);
    kt_rel(now.read_share, 1, 1e-12);
    /* 2,000 arrivals of a Poisson process at 4/s take 500 s, give or take 5 sigma */
    assert_true(fabs(now.time_s - 500) < 5 * sqrt(2000.0) / 4 + 60);
    n = live_points(l, &p);
    assert_true(n > 10 && n < LIVE_POINTS);
    for (int i = 0; i < n; i++)
        assert_true(p.used_share[i] >= 0 && p.used_share[i] <= 1);
    live_free(l);
    rig_close(r);
}

static void run_keys(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "budget");
    char *frame;

    rig_play(r, "6 wait 1s");
    rig_shows(r, "running at ");
    rig_shows(r, "clock x15");
    rig_play(r, "p");
    rig_shows(r, "paused at ");
    frame = rig_text(r);
    rig_play(r, "wait 2s");
    kt_same(rig_text(r), frame);
    rig_play(r, "s s s");
    rig_shows(r, "paused at ");
    rig_play(r, "r");
    rig_shows(r, "0 done");
    rig_play(r, "p + + + wait 20s");
    rig_shows(r, "finished at ");
    rig_shows(r, "2,000 done");
    rig_play(r, "Right");
    rig_shows(r, "rate x1.25");
    rig_play(r, "Left");
    rig_shows(r, "rate x1,");
    set(r, "cache.format", "fp8");
    rig_play(r, "wait 1s");
    rig_close(r);
}

static void run_says_what_it_lacks(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){.screen = "run"});
    struct rig *bad =
        rig_open(k->a, &(struct ui_options){.screen = "run", .trace = "/nonexistent.csv"});

    set(r, "hardware", "{memory: 80GiB}");
    ui_view(r->ui, &r->c);
    rig_play(r, "p s r Right wait 1s");
    rig_shows(r, "the speed of the GPU is not known, so its steps have no time");
    rig_shows(bad, "cannot be opened: No such file or directory");
    rig_close(r);
    rig_close(bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(checks_are_read), kt_test(bad_results_say_why),    kt_test(runs_to_its_end),
        kt_test(run_keys),        kt_test(run_says_what_it_lacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
