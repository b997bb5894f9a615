/* Trace files: every format read by hand-made lines, every complaint word by word, scaling,
 * and, where KVBUDGET_TRACES names a folder, the public traces against their known counts. */
#include "sim/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/kvtest.h"

static const struct trace_scale plain = {1, 1, 1, 0};

static struct trace *open_text(struct kt *k, const char *text, const char *format,
                               const struct trace_scale *scale)
{
    return trace_of_text(k->a, text, strlen(text), format, scale, k->d);
}

static struct trace *good(struct kt *k, const char *text)
{
    struct trace *t = open_text(k, text, NULL, &plain);

    if (!t)
        diag_print(k->d, 0, true, stderr);
    assert_non_null(t);
    return t;
}

static void expect(struct trace *t, double arrival_s, uint64_t prompt, uint64_t output)
{
    struct request r;

    assert_true(trace_next(t, &r));
    kt_rel(r.arrival_s, arrival_s, 1e-15);
    kt_u64(r.prompt_tokens, prompt);
    kt_u64(r.output_tokens, output);
}

static void expect_end(struct trace *t)
{
    struct request r;

    assert_false(trace_next(t, &r));
    assert_false(trace_next(t, &r));
}

/* Reads all; the messages must be these. */
static void says(struct kt *k, const char *text, const char *want)
{
    struct diag *d = diag_new(k->a);
    struct trace *t = trace_of_text(k->a, text, strlen(text), NULL, &plain, d);
    struct request r;

    while (t && trace_next(t, &r))
        ;
    kt_printed(d, want);
    assert_true(diag_exit(d) == 3 || strstr(want, "warning"));
}

/* --- formats --------------------------------------------------------------------------------
 */

#define AZURE "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
#define SIMPLE "arrival_s,prompt_tokens,output_tokens\n"
#define MOON                                                                                   \
    "{\"timestamp\": 0, \"input_length\": 1000, \"output_length\": 5, \"hash_ids\": [7, 8]}\n"

/* CR LF, seven digits, no end behind the last row; midnight and a leap day pass. */
static void azure(void **state)
{
    struct kt *k = *state;
    struct trace *t = good(k, AZURE "2023-11-16 18:17:03.9799600,4808,10\r\n"
                                    "2023-11-16 18:17:04.0319600,3180,8\r\n"
                                    "2023-11-17 00:00:00,1,2\r\n"
                                    "2024-02-29T00:00:00.5,3,4\r\n"
                                    "2024-03-01 00:00:00+00:00,5,6");
    uint64_t total;

    assert_string_equal(trace_name(t), "azure trace <text>");
    assert_string_equal(trace_format_name(trace_format(t)), "azure");
    expect(t, 0, 4808, 10);
    expect(t, 0.052, 3180, 8);
    expect(t, 6 * 3600 - 17 * 60 - 3.97996, 1, 2);
    /* 104 days from 2023-11-17 to 2024-02-29: 13 + 31 + 31 + 29 */
    expect(t, 20576.02004 + 104 * 86400.0 + 0.5, 3, 4);
    expect(t, 20576.02004 + 105 * 86400.0, 5, 6);
    expect_end(t);
    assert_true(trace_read_bytes(t, &total) == total && total > 100);
    assert_false(diag_failed(k->d));
}

static void mooncake(void **state)
{
    struct kt *k = *state;
    struct trace *t =
        good(k, MOON
             "{\"hash_ids\":[],\"input_length\":1,\"output_length\":2,\"timestamp\":27.5}\n"
             "{\"x\": {\"a\": [1, \"]}\\\"\"]}, \"timestamp\": 3000, \"input_length\": 1025, "
             "\"y\": null, \"output_length\": 3, \"hash_ids\": [18446744073709551615,0 , 2]}");
    struct request r;

    assert_true(trace_hashed(t));
    assert_true(trace_next(t, &r));
    kt_u64(r.id, 0);
    kt_u64(r.n_hashes, 2);
    kt_u64(r.hash_tokens, 512);
    kt_u64(r.hashes[0], 7);
    kt_u64(r.hashes[1], 8);
    expect(t, 0.0275, 1, 2);
    assert_true(trace_next(t, &r));
    kt_u64(r.id, 2);
    kt_rel(r.arrival_s, 3, 0);
    kt_u64(r.n_hashes, 3);
    kt_u64(r.hashes[0], UINT64_MAX);
    kt_u64(trace_blocks(t), 5);
    expect_end(t);
    kt_printed(k->d, "<text>: note: requests with one timestamp arrive together, as in the "
                     "file\n");
}

static void other_formats(void **state)
{
    struct kt *k = *state;
    struct trace *t = good(k, "arrived_at,num_prefill_tokens,num_decode_tokens\n"
                              "0.0,374,44\n4.314579000000001e0,396,109\n1e2,1,1\n");

    expect(t, 0, 374, 44);
    expect(t, 4.314579000000001, 396, 109);
    expect(t, 100, 1, 1);
    expect_end(t);
    assert_false(trace_hashed(t));
    t = good(k, "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total "
                "tokens,Log Type\n5,\"a,\"\"b\",1.5,ChatGPT,472,18,490,Conversation log\n"
                "5, ,,GPT-4,  7 , \"9\" ,16,API log\n");
    assert_string_equal(trace_format_name(trace_format(t)), "burstgpt");
    expect(t, 5, 472, 18);
    expect(t, 5, 7, 9);
    expect_end(t);
    t = good(k, "{\"input_toks\": 12, \"output_toks\": 3, \"arrival_time_ns\": 1500000000, "
                "\"input_tok_ids\": [1, 2, [3]]}\n");
    assert_string_equal(trace_format_name(trace_format(t)), "llmservingsim");
    expect(t, 1.5, 12, 3);
    expect_end(t);
}

/* Columns in any order, others between them, blank lines, a byte order mark. */
static void simple(void **state)
{
    struct kt *k = *state;
    struct trace *t = good(k, "\xef\xbb\xbfid,output_tokens,arrival_s,note,prompt_tokens\n\n"
                              "9,2,0.25,x,3\n  \n8,4,.5,,5\n");

    expect(t, 0.25, 3, 2);
    expect(t, 0.5, 5, 4);
    expect_end(t);
    t = open_text(k, SIMPLE "1,2,3\n", "simple", &plain);
    expect(t, 1, 2, 3);
    assert_false(diag_failed(k->d));
}

/* --- complaints -----------------------------------------------------------------------------
 */

static void no_trace(void **state)
{
    struct kt *k = *state;

    says(k, "", "<text>: error: holds no requests\n");
    says(k, "\n \n", "<text>: error: holds no requests\n");
    says(k, SIMPLE, "<text>: error: holds no requests\n");
    says(k, "hello\tworld\n1,2,3\n",
         "<text>:1:1: error: is no trace that is known here: the first line is "
         "'hello?world'; `kvbudget list traces` has the formats\n");
    says(k, "arrival_s,arrival_s,prompt_tokens,output_tokens\n1,1,1,1\n",
         "<text>:1:1: error: is no trace that is known here: the first line is "
         "'arrival_s,arrival_s,prompt_tokens,output_tokens'; `kvbudget list traces` has the "
         "formats\n");
    says(k, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
         "<text>:1:1: error: is no trace that is known here: the first line is "
         "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'; `kvbudget "
         "list traces` has the formats\n");
}

static void asked_format(void **state)
{
    struct kt *k = *state;

    assert_null(open_text(k, SIMPLE "1,2,3\n", "azure", &plain));
    assert_null(open_text(k, "a,b\n\"x", "azure", &plain));
    assert_null(open_text(k, "a,\"b\n", "azure", &plain));
    assert_null(open_text(k, SIMPLE, "azur", &plain));
    assert_null(open_text(k, SIMPLE, "weather", &plain));
    kt_printed(k->d,
               "<text>:1:1: error: the header has no column 'TIMESTAMP'; the format 'azure' "
               "has TIMESTAMP, ContextTokens and GeneratedTokens\n"
               "<text>:1:1: error: is no header: a quote without an end, a column twice, or "
               "more than 256 columns\n"
               "kvbudget: error: there is no trace format 'azur'; did you mean 'azure'?\n"
               "kvbudget: error: there is no trace format 'weather'; `kvbudget list traces` "
               "has them\n");
}

static void bad_rows(void **state)
{
    struct kt *k = *state;

    says(k, SIMPLE "0,1,1\n0,12x,3\n",
         "<text>:3:3: error: prompt_tokens must be a whole number, found '12x'\n");
    says(k, SIMPLE "0,-5,3\n",
         "<text>:2:3: error: prompt_tokens must be a whole number, found '-5'\n");
    says(k, SIMPLE "0,5.0,3\n",
         "<text>:2:3: error: prompt_tokens must be a whole number, found '5.0'\n");
    says(k, SIMPLE "0,,3\n",
         "<text>:2:3: error: prompt_tokens must be a whole number, found ','\n");
    says(
        k, SIMPLE "0,3,\n",
        "<text>:2:5: error: output_tokens must be a whole number, found the end of the line\n");
    says(k, SIMPLE "0,3,1073741825\n",
         "<text>:2:5: error: output_tokens must be at most 1073741824, found '1073741825'\n");
    says(k, SIMPLE "0,3,99999999999999999999999999\n",
         "<text>:2:5: error: output_tokens must be at most 1073741824, found "
         "'999999999999999999999999'\n");
    says(k, SIMPLE "0,3\n",
         "<text>:2:4: error: the row has fewer fields than the header, which has 3\n");
    says(k, SIMPLE "0,3,4,5\n",
         "<text>:2:7: error: the row has more fields than the header, which has 3\n");
    says(k, SIMPLE "\"0,3,4\n", "<text>:2:1: error: a quote has no end, or text behind it\n");
    says(k, SIMPLE "0,\"3\"4,4\n",
         "<text>:2:3: error: a quote has no end, or text behind it\n");
    says(k, SIMPLE "-1,3,4\n",
         "<text>:2:1: error: arrival_s must be a number that is not negative, found '-1'\n");
    says(k, SIMPLE "nan,3,4\n",
         "<text>:2:1: error: arrival_s must be a number that is not negative, found 'nan'\n");
    says(k, SIMPLE "1e300,3,4\n",
         "<text>:2:1: error: arrival_s is 1e+300 s, later than 1e11 "
         "s\n");
    says(k, SIMPLE "1 2,3,4\n",
         "<text>:2:1: error: arrival_s must be one number or time, found '1'\n");
    says(k, SIMPLE "1,3,4\n0.5,3,4\n",
         "<text>:3: error: the request arrives at 0.5 s, before the one above it (1 s); sort "
         "the file by arrival\n");
}

static void bad_times(void **state)
{
    static const char *const bad[] = {
        "2023-11-31 18:17:03.9",   "2023-02-29 18:17:03", "2023-11-16 24:00:00",
        "2023-11-16 18:60:03",     "2023-13-16 18:17:03", "2023-11-16",
        "2023-11-16 18:17:03.",    "16/11/2023 18:17:03", "2023-11-16 18:17:03.12345678",
        "2023-11-16_18:17:03.9799"};
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct diag *d = diag_new(k->a);
        const char *text = arena_printf(k->a, AZURE "%s,1,1\n", bad[i]);
        struct trace *t = trace_of_text(k->a, text, strlen(text), NULL, &plain, d);
        struct request r;
        assert_false(trace_next(t, &r));
        kt_diag(d, "TIMESTAMP must be a time like 2023-11-16 18:17:03.9799600, found '", 2);
    }
    says(k, AZURE "2023-11-16 18:17:03+02:00,1,1\n",
         "<text>:2:1: error: TIMESTAMP must be one number or time, found '2023-11-16'\n");
    says(k, AZURE "2023-11-16 18:17:03,1,1\n2023-11-16 18:17:02,1,1\n",
         "<text>:3:1: error: the request arrives before the first one of the file\n");
}

static void bad_objects(void **state)
{
#define NOTE "<text>: note: requests with one timestamp arrive together, as in the file\n"
    static const char *const cases[][2] = {
        {"[1]\n", "<text>:2:1: error: a record must be an object in one line, found '[1'\n"},
        {"{}\n",
         "<text>:2:2: error: the record must be \"key\": value with commas between, found "
         "'}'\n"},
        {"{\"timestamp\": 1}\n", "<text>:2: error: the record has no 'input_length'\n"},
        {"{\"timestamp\": 1, \"timestamp\": 2}\n",
         "<text>:2:18: error: the key 'timestamp' is there twice\n"},
        {"{\"timestamp\" 1}\n",
         "<text>:2:14: error: a key must be followed by ':', found '1'\n"},
        {"{\"timestamp\": \"1\"}\n",
         "<text>:2:15: error: timestamp must be a number that is not negative, found '\"1\"'\n"},
        {"{\"timestamp\": 1; \"x\": 2}\n",
         "<text>:2:16: error: the record must go on with ',' or end with '}', found ';'\n"},
        {"{\"x\": 1} {}\n", "<text>:2:10: error: the record must be alone in its line, found "
                            "'{'\n"},
        {"{\"x\": [1, 2}\n",
         "<text>:2:7: error: the record has a value without an end, found '[1'\n"},
        {"{\"x\": \"a\n", "<text>:2:7: error: the record has a value without an end, found "
                          "'\"a'\n"},
        {"{\"x\n", "<text>:2:2: error: the record must be \"key\": value with commas between, "
                   "found '\"x'\n"},
        {"{\"hash_ids\": 3}\n",
         "<text>:2:14: error: hash_ids must be a list of whole numbers, found '3'\n"},
        {"{\"hash_ids\": [3 4]}\n",
         "<text>:2:17: error: hash_ids must be a list with commas, found '4'\n"},
        {"{\"hash_ids\": [3,]}\n",
         "<text>:2:16: error: hash_ids must be a list with commas, found ','\n"},
        {"{\"hash_ids\": [3, x]}\n",
         "<text>:2:18: error: a block hash must be a whole number, found 'x'\n"},
        {"{\"hash_ids\": [18446744073709551616]}\n",
         "<text>:2:15: error: a block hash must be at most 18446744073709551615, found "
         "'18446744073709551616'\n"},
        {"{\"timestamp\": 1, \"input_length\": 512, \"output_length\": 1, \"hash_ids\": [1, "
         "2]}\n",
         "<text>:2: error: hash_ids has 2 blocks, but a prompt of 512 tokens has 1 of 512 "
         "tokens\n"},
    };
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        says(k, arena_printf(k->a, MOON "%s", cases[i][0]),
             arena_printf(k->a, NOTE "%s", cases[i][1]));
}

/* Depth, columns, hashes and lines have ends. */
static void bounds(void **state)
{
    struct kt *k = *state;
    size_t n = TRACE_LINE_MAX + 100;
    char *text = ARENA_NEW(k->a, char, n + 200), *at;

    at = text + snprintf(text, 200, MOON "{\"x\": ");
    memset(at, '[', 65);
    says(k, text,
         NOTE "<text>:2:7: error: the record has a value without an end, found "
              "'[[[[[[[[[[[[[[[[[[[[[[[['\n");
    at = text + snprintf(text, 200, MOON "{\"hash_ids\": [");
    for (int i = 0; i <= TRACE_HASHES_MAX; i++, at += 2)
        memcpy(at, "1,", 3);
    says(k, text, NOTE "<text>:2:131087: error: hash_ids has more than 65536 blocks\n");
    memset(text, 'x', n);
    memcpy(text, SIMPLE, sizeof SIMPLE - 1);
    text[n] = '\0';
    says(k, text, "<text>:2: error: the line is longer than 1.00 MiB, the most that is read\n");
}

/* Records without tokens are left out, counted, and the first is named. */
static void skipped(void **state)
{
    struct kt *k = *state;
    struct trace *t =
        good(k, "Timestamp,Request tokens,Response tokens\n1,5,0\n2,6,1\n3,0,4\n");

    expect(t, 2, 6, 1);
    expect_end(t);
    kt_u64(trace_skipped(t), 2);
    kt_printed(k->d, "<text>: note: times are whole seconds: requests of one second arrive "
                     "together\n"
                     "<text>:2: warning: 2 records have no prompt or no output tokens: they "
                     "failed; they are left out, this is the first\n");
    says(k, SIMPLE "0,0,1\n",
         "<text>:2: warning: 1 records have no prompt or no output tokens; they are left out, "
         "this is the first\n<text>: error: holds no requests\n");
}

/* --- scaling --------------------------------------------------------------------------------
 */

static void scaling(void **state)
{
    struct kt *k = *state;
    struct trace_scale s = {.rate = 4, .prompt = 0.25, .output = 2.5, .limit = 3};
    struct trace *t = open_text(k, SIMPLE "10,100,2\n12,1,3\n18,10,1\n20,1,1\n", NULL, &s);

    expect(t, 10, 25, 5);
    expect(t, 10.5, 1, 8);
    expect(t, 12, 3, 3);
    expect_end(t);
    assert_true(trace_rewind(t, 0.5));
    expect(t, 10, 25, 5);
    expect(t, 14, 1, 8);
    kt_rel(trace_last_arrival_s(t), 14, 0);
    s.rate = 0;
    assert_null(open_text(k, SIMPLE "1,1,1\n", NULL, &s));
    s = (struct trace_scale){1, 1000000, 1, 0};
    t = open_text(k, SIMPLE "1,2000,1\n", NULL, &s);
    expect_end(t);
    kt_printed(k->d, "kvbudget: error: a scale of a trace is a number from 1e-6 to 1e6, found "
                     "0\n<text>:2: error: 2000 prompt tokens times 1e+06 are more than "
                     "1073741824\n");
}

/* Blocks past the end of a shorter prompt go; a longer prompt does not share its last, started
 * block. */
static void scaled_hashes(void **state)
{
    static const struct {
        double by;
        uint32_t hashes;
    } cases[] = {{1, 2}, {0.5, 1}, {0.6, 2}, {0.0001, 1}, {1.5, 1}, {100, 1}};
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trace_scale s = {1, cases[i].by, 1, 0};
        struct trace *t = open_text(k, MOON, NULL, &s);
        struct request r;
        assert_true(trace_next(t, &r));
        kt_u64(r.n_hashes, cases[i].hashes);
    }
}

/* --- files ----------------------------------------------------------------------------------
 */

static void files(void **state)
{
    struct kt *k = *state;
    char *folder = kt_folder(k->a), *path = arena_printf(k->a, "%s/t.csv", folder);
    FILE *f = fopen(path, "w");
    struct trace *t;
    struct request r;
    uint64_t total, read, n = 0;

    fputs(SIMPLE, f);
    for (int i = 0; i < 20000; i++) /* several pieces of the reader */
        fprintf(f, "%d.%03d,%d,%d\n", i / 10, i % 10 * 100, i + 1, i % 7 + 1);
    fclose(f);
    t = trace_open(k->a, path, NULL, &plain, k->d);
    assert_non_null(t);
    for (int turn = 0; turn < 2; turn++, n = 0) {
        while (trace_next(t, &r)) {
            kt_u64(r.prompt_tokens, n + 1);
            kt_rel(r.arrival_s, (double)n / 10, 1e-15);
            n++;
        }
        kt_u64(n, 20000);
        read = trace_read_bytes(t, &total);
        kt_u64(read, total);
        assert_true(trace_rewind(t, 1));
    }
    trace_close(t);
    assert_null(trace_open(k->a, "no/such", NULL, &plain, k->d));
    assert_null(trace_open(k->a, folder, NULL, &plain, k->d));
    kt_printed(k->d, arena_printf(k->a,
                                  "no/such: error: cannot be opened: No such file or "
                                  "directory\n%s: error: cannot be read: Is a directory\n",
                                  folder));
    kt_folder_remove(folder);
}

/* The public traces: rows, means and spans as their publishers and others count them. */
static void public_traces(void **state)
{
    static const struct {
        const char *file;
        uint64_t n, blocks;
        double prompt, output, span_s;
    } want[] = {
        {"azure_2023_code.csv", 8819, 0, 2047.8, 27.9, 3435.9},
        {"azure_2023_conv.csv", 19366, 0, 1154.7, 211.1, 3501.7},
        {"mooncake_conversation.jsonl", 12031, 288500, 12035, 343, 3537},
        {"mooncake_synthetic.jsonl", 3993, 121877, 15325, 149, 1022},
        {"vllm_runs/rtx4090_llama-3.1-8b/requests.csv", 300, 0, 857.46, 652.51, 29.1},
    };
    const char *folder = getenv("KVBUDGET_TRACES");
    struct kt *k = *state;

    if (!folder) {
        print_message("KVBUDGET_TRACES does not name a folder with the public traces\n");
        skip();
    }
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct trace *t = trace_open(k->a, arena_printf(k->a, "%s/%s", folder, want[i].file),
                                     NULL, &plain, k->d);
        struct request r;
        double prompt = 0, output = 0;
        uint64_t n = 0;
        assert_non_null(t);
        for (; trace_next(t, &r); n++) {
            prompt += (double)r.prompt_tokens;
            output += (double)r.output_tokens;
        }
        kt_u64(n, want[i].n);
        kt_u64(trace_blocks(t), want[i].blocks);
        kt_rel(prompt / (double)n, want[i].prompt, 2e-3);
        kt_rel(output / (double)n, want[i].output, 2e-3);
        kt_rel(trace_last_arrival_s(t), want[i].span_s, 1e-4);
        trace_close(t);
    }
    assert_false(diag_failed(k->d));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(azure),         kt_test(mooncake),  kt_test(other_formats),
        kt_test(simple),        kt_test(no_trace),  kt_test(asked_format),
        kt_test(bad_rows),      kt_test(bad_times), kt_test(bad_objects),
        kt_test(bounds),        kt_test(skipped),   kt_test(scaling),
        kt_test(scaled_hashes), kt_test(files),     kt_test(public_traces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
