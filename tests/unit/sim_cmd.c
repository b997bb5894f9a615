/* The command: whole runs with step times that are given, so that every figure follows by hand;
 * every complaint word by word; files written whole or not at all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "planner/plan/json.h"
#include "tests/kvcmd.h"

static struct ran run(struct kt *k, const char *folder, const char *line)
{
    return kvcmd_run(k->a, folder, line, "");
}

static void put(struct kt *k, const char *folder, const char *name, const char *text)
{
    FILE *f = fopen(arena_printf(k->a, "%s/%s", folder, name), "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* One sequence at a time, and every step takes a tenth of a second. */
static char *setup(struct kt *k)
{
    char *folder = kt_folder(k->a);

    put(k, folder, "one.yaml",
        "model: {layers: 2, hidden_size: 64, intermediate_size: 128, heads: 2, kv_heads: 2, "
        "head_dim: 32, vocab_size: 1000}\n"
        "hardware: {memory: 1GiB}\nengine: {max_seqs: 1}\nworkload: {prompt: 10, output: 10}\n");
    put(k, folder, "steps.csv",
        "prefill_tokens,decodes,context_tokens,seconds\n0,1,0,0.1\n64,0,0,0.1\n64,1,0,0.1\n");
    put(k, folder, "three.csv",
        "arrival_s,prompt_tokens,output_tokens\n1,10,5\n1.2,20,1\n9.45,30,11\n");
    return folder;
}

static cJSON *figures(struct kt *k, const char *folder, const char *more)
{
    struct ran r =
        run(k, folder, arena_printf(k->a, "sim|@one.yaml|--steps|@steps.csv%s", more));
    cJSON *json = cJSON_Parse(r.out);

    if (r.status || !json)
        fprintf(stderr, "%s%s", r.err, r.out);
    assert_int_equal(r.status, 0);
    assert_non_null(json);
    return json;
}

static double number(const cJSON *json, const char *path)
{
    const cJSON *v = json_at(json, path);

    if (!v || !cJSON_IsNumber(v))
        fail_msg("there is no number at %s", path);
    return v->valuedouble;
}

/* The first runs 1.0 to 1.5; the second waits from 1.2 until then and takes one step; the third
 * runs 9.45 to 10.55. */
static void by_hand(void **state)
{
    struct kt *k = *state;
    char *folder = setup(k);
    cJSON *j = figures(k, folder, "|--trace|@three.csv|--ttft|200ms");

    assert_string_equal(json_at(j, "schema")->valuestring, "kvbudget.sim/1");
    kt_rel(number(j, "requests.done"), 3, 0);
    kt_rel(number(j, "seconds"), 9.55, 1e-9);
    kt_rel(number(j, "latency.ttft.mean_seconds"), (0.1 + 0.4 + 0.1) / 3, 1e-9);
    kt_rel(number(j, "latency.ttft.max_seconds"), 0.4, 1e-9);
    kt_rel(number(j, "latency.tpot.count"), 2, 0);
    kt_rel(number(j, "latency.tpot.mean_seconds"), 0.1, 1e-9);
    kt_rel(number(j, "latency.end_to_end.mean_seconds"), (0.5 + 0.4 + 1.1) / 3, 1e-9);
    kt_rel(number(j, "latency.queue.mean_seconds"), 0.1, 1e-9);
    kt_rel(number(j, "throughput.output_tokens_per_second"), 17 / 9.55, 1e-9);
    kt_rel(number(j, "throughput.total_tokens_per_second"), 77 / 9.55, 1e-9);
    kt_rel(number(j, "goodput.requests"), 2, 0);
    kt_rel(number(j, "load.busy_share"), 1.7 / 9.55, 1e-9);
    kt_rel(number(j, "load.running_mean"), 1.7 / 9.55, 1e-9);
    kt_rel(number(j, "load.steps"), 17, 0);
    kt_rel(number(j, "trace.arrivals_per_second"), 2 / 8.45, 1e-9);
    assert_null(json_at(j, "highest_rate"));
    cJSON_Delete(j);
    kt_folder_remove(folder);
}

/* Scales and limits reach the trace; step by step gives the same bytes but for the mode. */
static void options_act(void **state)
{
    struct kt *k = *state;
    char *folder = setup(k);
    cJSON *j =
        figures(k, folder, "|--trace|@three.csv|--rate-scale|2|--output-scale|2|--limit|2");
    struct ran fast, slow;

    kt_rel(number(j, "requests.done"), 2, 0);
    kt_rel(number(j, "latency.end_to_end.mean_seconds"), (1.0 + 1.1) / 2, 1e-9);
    cJSON_Delete(j);
    j = figures(k, folder, "|--trace|@three.csv|--step-overhead|0|--prompt-scale|3");
    kt_rel(number(j, "trace.prompt_tokens_mean"), 60, 1e-12);
    cJSON_Delete(j);
    fast = run(k, folder, "sim|@one.yaml|--steps|@steps.csv|--trace|@three.csv");
    slow = run(k, folder, "sim|@one.yaml|--steps|@steps.csv|--trace|@three.csv|--every-step");
    assert_non_null(strstr(fast.out, "\"mode\": \"events\""));
    assert_non_null(strstr(slow.out, "\"mode\": \"every_step\""));
    j = cJSON_Parse(slow.out);
    kt_rel(number(j, "latency.end_to_end.mean_seconds"), 2.0 / 3, 1e-9);
    cJSON_Delete(j);
    kt_folder_remove(folder);
}

/* The second request arrives in the third step: it runs in the fourth, or in the fifth. */
static void steps_ahead(void **state)
{
    struct kt *k = *state;
    char *folder = setup(k);
    static const double mean_s[] = {(0.1 + 0.15) / 2, (0.1 + 0.25) / 2};

    put(k, folder, "two.yaml",
        "model: {layers: 2, hidden_size: 64, intermediate_size: 128, heads: 2, kv_heads: 2, "
        "head_dim: 32, vocab_size: 1000}\n"
        "hardware: {memory: 1GiB}\nengine: {max_seqs: 2}\n");
    put(k, folder, "two.csv", "arrival_s,prompt_tokens,output_tokens\n1,10,9\n1.25,20,1\n");
    for (int i = 0; i < 2; i++) {
        struct ran r = run(k, folder,
                           arena_printf(k->a,
                                        "sim|@two.yaml|--steps|@steps.csv|--trace|"
                                        "@two.csv|--step-lag|%d",
                                        i));
        cJSON *j = cJSON_Parse(r.out);
        assert_int_equal(r.status, 0);
        kt_rel(number(j, "latency.ttft.mean_seconds"), mean_s[i], 1e-9);
        assert_int_equal(cJSON_IsTrue(json_at(j, "composes_ahead")), i);
        assert_string_equal(json_at(j, "provenance.composes_ahead_source")->valuestring,
                            "given");
        cJSON_Delete(j);
    }
    kt_folder_remove(folder);
}

/* Where prefixes cannot be kept it is said, if the trace has any. */
static void no_prefixes(void **state)
{
    struct kt *k = *state;
    char *folder = setup(k);
    struct ran r;

    put(k, folder, "drops.yaml",
        "model: {layers: 2, hidden_size: 64, intermediate_size: 128, heads: 2, kv_heads: 2, "
        "head_dim: 32, vocab_size: 1000}\n"
        "hardware: {memory: 1GiB}\n"
        "cache: {eviction: {scheme: streamingllm, sinks: 4, recent: 60}}\n");
    put(k, folder, "shared.jsonl",
        "{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 2, \"hash_ids\": [1, 2]}\n");
    r = run(k, folder, "sim|@drops.yaml|-q|--steps|@steps.csv|--trace|@three.csv");
    assert_int_equal(r.status, 0);
    assert_non_null(strstr(r.out, "\"prefix_cache\": false"));
    assert_null(strstr(r.out, "computed again"));
    r = run(k, folder, "sim|@drops.yaml|--steps|@steps.csv|--trace|@shared.jsonl");
    assert_int_equal(r.status, 0);
    if (!strstr(r.err,
                "drops.yaml:1:1: warning: what prompts share is computed again: not every "
                "layer keeps every token of a prompt in whole blocks (windows, recurrent "
                "states, dropped tokens)\n"))
        kt_same(r.err, "");
    r = run(k, folder,
            "sim|@drops.yaml|--steps|@steps.csv|--trace|@shared.jsonl|--no-prefix-cache");
    assert_null(strstr(r.err, "computed again"));
    r = run(k, folder, "sim|@one.yaml|--steps|@steps.csv|--trace|@three.csv");
    assert_non_null(strstr(r.out, "\"prefix_cache\": true"));
    kt_folder_remove(folder);
}

/* A request takes ten steps of 0.1 s, one after another: at 1 request/s none waits, beyond it
 * the queue grows without end. */
static void highest_rate(void **state)
{
    struct kt *k = *state;
    char *folder = setup(k);
    cJSON *j = figures(k, folder, "|--arrivals|uniform:0.3|--ttft|101ms|--find-rate");
    double found = number(j, "highest_rate.requests_per_second");

    assert_true(found <= 1.0001 && found > 0.98);
    kt_rel(number(j, "highest_rate.broken_at_requests_per_second"), found, 0.0101);
    kt_rel(number(j, "trace.arrivals_per_second"), found, 1e-6);
    kt_rel(number(j, "goodput.share"), 1, 0);
    cJSON_Delete(j);
    j = figures(k, folder, "|--arrivals|uniform:300|--ttft|101ms|--find-rate|--percentile|99");
    kt_rel(number(j, "highest_rate.requests_per_second"), found, 0.02);
    cJSON_Delete(j);
    kt_folder_remove(folder);
}

static void no_highest_rate(void **state)
{
    struct kt *k = *state;
    char *folder = setup(k);
    cJSON *j =
        figures(k, folder, "|--arrivals|uniform:1|--num-requests|3|--ttft|1h|--find-rate");
    struct ran r;

    assert_null(json_at(j, "highest_rate.broken_at_requests_per_second"));
    cJSON_Delete(j);
    r = run(k, folder,
            "sim|@one.yaml|--steps|@steps.csv|--arrivals|uniform:1|--tpot|99ms|--find-rate");
    assert_int_equal(r.status, 4);
    assert_string_equal(r.out, "");
    assert_non_null(strstr(r.err, "error: the limits are not kept at any rate: at "));
    put(k, folder, "flat.csv", "arrival_s,prompt_tokens,output_tokens\n1,1,1\n1,1,1\n");
    r = run(k, folder,
            "sim|@one.yaml|--steps|@steps.csv|--trace|@flat.csv|--ttft|1s|--find-rate");
    assert_int_equal(r.status, 3);
    kt_same(r.err, "kvbudget: error: all requests arrive at once, so there is no rate to look "
                   "for\n");
    kt_folder_remove(folder);
}

/* Two servers halve the wait; a seed gives the same bytes. */
static void replicas(void **state)
{
    struct kt *k = *state;
    char *folder = setup(k);
    const char *line = "sim|@one.yaml|--steps|@steps.csv|--arrivals|poisson:1.5|--seed|7|"
                       "--num-requests|200|--replicas|2|--router|least-loaded";
    struct ran a = run(k, folder, line), b = run(k, folder, line);
    cJSON *j = cJSON_Parse(a.out);

    kt_same(a.out, b.out);
    assert_int_equal(cJSON_GetArraySize(json_at(j, "per_replica")), 2);
    assert_string_equal(json_at(j, "router")->valuestring, "least-loaded");
    assert_true(number(j, "latency.queue.p50_seconds") < 1);
    kt_rel(number(j, "per_replica.0.steps") + number(j, "per_replica.1.steps"), 2000, 0);
    cJSON_Delete(j);
    kt_folder_remove(folder);
}

/* --- files ----------------------------------------------------------------------------------
 */

/* What --requests writes is a trace that gives the same run again. */
static void requests_again(void **state)
{
    struct kt *k = *state;
    char *folder = setup(k);
    struct ran a = run(k, folder,
                       "sim|@one.yaml|--steps|@steps.csv|--trace|@three.csv|--requests|@r.csv|"
                       "--series|@s.csv|--interval|5s|--plot|@p.svg|-o|@out.json");
    cJSON *first, *again;

    assert_int_equal(a.status, 0);
    assert_string_equal(a.out, "");
    kt_same(kt_slurp(k->a, arena_printf(k->a, "%s/r.csv", folder)),
            "id,arrival_s,prompt_tokens,output_tokens,queued_s,scheduled_s,first_token_s,"
            "last_token_s,end,cached_tokens,preemptions,replica\n"
            "0,1.000000000,10,5,1.000000000,1.000000000,1.100000000,1.500000000,done,0,0,0\n"
            "1,1.200000000,20,1,1.200000000,1.500000000,1.600000000,1.600000000,done,0,0,0\n"
            "2,9.450000000,30,11,9.450000000,9.450000000,9.550000000,10.550000000,done,0,0,"
            "0\n");
    assert_non_null(
        strstr(kt_slurp(k->a, arena_printf(k->a, "%s/s.csv", folder)), "\n0,5,0.12,"));
    assert_non_null(strstr(kt_slurp(k->a, arena_printf(k->a, "%s/p.svg", folder)), "</svg>\n"));
    first = cJSON_Parse(kt_slurp(k->a, arena_printf(k->a, "%s/out.json", folder)));
    again = figures(k, folder, "|--trace|@r.csv|--trace-format|simple");
    kt_rel(number(first, "latency.ttft.mean_seconds"),
           number(again, "latency.ttft.mean_seconds"), 0);
    cJSON_Delete(first);
    cJSON_Delete(again);
    kt_folder_remove(folder);
}

/* A trace that goes wrong in the middle leaves nothing behind. */
static void nothing_half_written(void **state)
{
    struct kt *k = *state;
    char *folder = setup(k);
    struct ran r;

    put(k, folder, "bad.csv", "arrival_s,prompt_tokens,output_tokens\n1,10,5\n2,x,1\n");
    r = run(
        k, folder,
        "sim|@one.yaml|--steps|@steps.csv|--trace|@bad.csv|--requests|@r.csv|--series|@s.csv|"
        "--plot|@p.svg|-o|@out.json");
    assert_int_equal(r.status, 3);
    kt_same(r.err, arena_printf(k->a,
                                "%s/bad.csv:3:3: error: prompt_tokens must be a whole number, "
                                "found 'x'\n",
                                folder));
    assert_int_equal(access(arena_printf(k->a, "%s/r.csv", folder), F_OK), -1);
    assert_int_equal(access(arena_printf(k->a, "%s/out.json", folder), F_OK), -1);
    r = run(k, folder, "sim|@one.yaml|--steps|@steps.csv|--trace|@three.csv|--plot|@no/p.svg");
    assert_int_equal(r.status, 7);
    kt_folder_remove(folder);
}

/* --- the page -------------------------------------------------------------------------------
 */

static void page(void **state)
{
    struct kt *k = *state;
    char *folder = setup(k);
    struct ran r = run(k, folder,
                       "sim|@one.yaml|--steps|@steps.csv|--trace|@three.csv|--format|table|"
                       "--e2e|1s");
    const char *next = arena_printf(k->a,
                                    "\nnext: kvbudget sim %s/one.yaml --trace %s/three.csv "
                                    "--steps %s/steps.csv --ttft 1s --tpot 50ms --find-rate\n",
                                    folder, folder, folder);

    assert_int_equal(r.status, 0);
    assert_int_equal(strncmp(r.out, "Serves 0.314 requests/s: first token after 200 ms", 49),
                     0);
    assert_non_null(strstr(r.out, "within the limits       66.7 % (0.209 a second): whole "
                                  "answer within 1.00 s"));
    kt_same(r.out + strlen(r.out) - strlen(next), next);
    r = run(k, folder, "sim|@one.yaml|@one.yaml|--steps|@steps.csv|--trace|@three.csv");
    assert_int_equal(r.status, 0);
    assert_non_null(strstr(r.out, "}\n{\"schema\": \"kvbudget.sim/1\""));
    kt_folder_remove(folder);
}

/* More than one can ever serve: all are rejected, exit 4. */
static void rejected(void **state)
{
    struct kt *k = *state;
    char *folder = setup(k);
    struct ran r = run(k, folder,
                       "sim|@one.yaml|--steps|@steps.csv|--arrivals|uniform:1|--num-requests|4|"
                       "--lengths|64M,8M|--format|table");

    assert_int_equal(r.status, 4);
    assert_non_null(strstr(r.out, "Serves none of 4 requests: all were rejected."));
    kt_folder_remove(folder);
}

/* --- complaints -----------------------------------------------------------------------------
 */

static void usage(void **state)
{
    static const char *const cases[][2] = {
        {"", "sim needs requests: --trace FILE, or --arrivals poisson:5"},
        {"|--trace|x|--arrivals|poisson:1", "give --trace or --arrivals, not both"},
        {"|--trace|@three.csv|--find-rate",
         "--find-rate needs a limit: --ttft, --tpot or --e2e"},
        {"|--trace|@three.csv|--seed|3", "--seed goes with --arrivals"},
        {"|--trace|@three.csv|--lengths|5,5", "--lengths goes with --arrivals"},
        {"|--trace|@three.csv|--num-requests|5", "--num-requests goes with --arrivals"},
        {"|--arrivals|uniform:1|--trace-format|azure", "--trace-format goes with --trace"},
        {"|--arrivals|uniform:1|--transfer|1GB/s", "--transfer goes with --prefill-replicas"},
        {"|--arrivals|uniform:1|--interval|1s", "--interval goes with --series"},
        {"|--arrivals|uniform:1|--percentile|50", "--percentile goes with --find-rate"},
        {"|--arrivals|uniform:1|--replicas|0",
         "--replicas takes a whole number from 1 to 4096, found '0'"},
        {"|--arrivals|uniform:1|--seed|-1", "--seed takes a whole number, found '-1'"},
        {"|--arrivals|uniform:1|--rate-scale|0",
         "--rate-scale takes a number from 1e-06 to 1e+06, found '0'"},
        {"|--arrivals|uniform:1|--ttft|fast",
         "--ttft takes a time of at least 1e-06 s, such as 500ms or 2s, found 'fast'"},
        {"|--arrivals|uniform:1|--step-overhead|x",
         "--step-overhead takes a time, such as 500us or 2ms, found 'x'"},
        {"|--arrivals|uniform:1|--step-lag|2", "--step-lag takes 0 or 1, found '2'"},
        {"|--arrivals|uniform:1|--router|best",
         "--router takes round-robin, least-loaded or prefix-aware, found 'best'"},
        {"|--arrivals|uniform:1|--prefill-replicas|1|--transfer|5G",
         "--transfer takes a rate with its unit, such as 50GB/s, found '5G'"},
        {"|--arrivals|uniform:1|--series|-", "--series needs a file"},
        {"|@one.yaml|--arrivals|uniform:1|--plot|@p.svg", "--plot is of one spec, found 2"},
        {"|@one.yaml|--trace|-", "a trace that is read more than once must be a file"},
        {"|--trace|-|--ttft|1s|--find-rate",
         "a trace that is read more than once must be a file"},
        {"|--arrivals", "option --arrivals needs a value: --arrivals LAW"},
        {"|--arrivals|uniform:1|--every-step=1", "option --every-step takes no value"},
        {"|--arrivals=", "option --arrivals has an empty value"},
        {"|--polic|x|--arival|y", "sim has no option '--arival'; did you mean '--arrivals'?"},
    };
    struct kt *k = *state;
    char *folder = setup(k);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ran r = run(
            k, folder, arena_printf(k->a, "sim|@one.yaml|--steps|@steps.csv%s", cases[i][0]));
        assert_int_equal(r.status, 2);
        assert_string_equal(r.out, "");
        if (!strstr(r.err, arena_printf(k->a, "kvbudget: error: %s\n", cases[i][1])))
            kt_same(r.err, cases[i][1]);
    }
    kt_folder_remove(folder);
}

static void help(void **state)
{
    struct kt *k = *state;
    struct ran r = run(k, ".", "sim|--help");

    assert_int_equal(r.status, 0);
    assert_non_null(strstr(r.out, "      --find-rate          the highest rate that keeps the "
                                  "limits\n"));
    r = run(k, ".", "list|policies|--format|table");
    assert_non_null(strstr(r.out, "\nvllm-v1 "));
    r = run(k, ".", "list|traces|--format|table");
    assert_non_null(strstr(r.out, "\nmooncake "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(by_hand),     kt_test(options_act),    kt_test(steps_ahead),
        kt_test(no_prefixes), kt_test(highest_rate),   kt_test(no_highest_rate),
        kt_test(replicas),    kt_test(requests_again), kt_test(nothing_half_written),
        kt_test(page),        kt_test(rejected),       kt_test(usage),
        kt_test(help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
