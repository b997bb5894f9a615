/* The command line: whole commands run in this process with files in memory. Every message
 * that a wrong command line can bring is here word by word. */
#include "planner/cmd.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/kvtest.h"

enum { ARGS_MAX = 24 };

struct ran {
    int status;
    char *out, *err;
};

static struct ran ran_with(const char *line, const char *input, bool terminal, FILE *to)
{
    struct arena *a = arena_new();
    char *words = arena_strdup(a, line), *argv[ARGS_MAX] = {arena_strdup(a, "kvbudget")};
    char *text = NULL, *messages = NULL;
    size_t n_out = 0, n_err = 0;
    FILE *in =
        *input ? fmemopen(arena_strdup(a, input), strlen(input), "r") : fopen("/dev/null", "r");
    FILE *out = to ? to : open_memstream(&text, &n_out),
         *err = open_memstream(&messages, &n_err);
    struct cmd_ctx ctx = {
        .argc = 1, .argv = argv, .in = in, .out = out, .err = err, .arena = a};
    struct ran r;

    assert_true(in && out && err);
    ctx.out_is_terminal = terminal;
    ctx.diag = diag_new(a);
    while (*words && ctx.argc < ARGS_MAX - 1) { /* words end in '|' or the end */
        size_t len = strcspn(words, "|");
        bool last = !words[len];
        argv[ctx.argc++] = words;
        words[len] = '\0';
        words += len + !last;
    }
    r.status = cmd_main(&ctx);
    fclose(in);
    fclose(out);
    fclose(err);
    r.out = text;
    r.err = messages;
    arena_free(a);
    return r;
}

static void done(struct ran *r)
{
    free(r->out);
    free(r->err);
}

/* The command must fail with this status and say just this, and nothing on standard output. */
static void refuses(int status, const char *line, const char *want)
{
    struct ran r = ran_with(line, "", false, NULL);

    kt_same(r.err, want);
    kt_same(r.out ? r.out : "", "");
    assert_int_equal(r.status, status);
    done(&r);
}

static void has(const char *page, const char *part)
{
    if (!strstr(page, part))
        fail_msg("no \"%s\" in\n%s", part, page);
}

#define MODEL                                                                                   \
    "model: {layers: 32, hidden_size: 4096, intermediate_size: 14336, heads: 32, kv_heads: 8, " \
    "head_dim: 128, vocab_size: 128256}\n"
#define SPEC MODEL "hardware: {memory: 24GiB}\n"

static void test_start(void **state)
{
    struct ran r = ran_with("", "", false, NULL);
    size_t lines = 0;

    (void)state;
    assert_int_equal(r.status, 0);
    for (const char *s = r.out; *s; s++)
        lines += *s == '\n';
    kt_u64(lines, 3);
    has(r.out, "kvbudget report -m Llama-3.1-8B -g rtx-3090");
    kt_same(r.err, "");
    done(&r);
    r = ran_with("--version", "", false, NULL);
    kt_same(r.out, "kvbudget " KV_VERSION "\n");
    done(&r);
    r = ran_with("report|--version", "", false, NULL);
    kt_same(r.out, "kvbudget " KV_VERSION "\n");
    assert_int_equal(r.status, 0);
    done(&r);
    r = ran_with("--help", "", false, NULL);
    for (size_t i = 0; command_at(i); i++)
        has(r.out, command_at(i)->name);
    done(&r);
}

/* Every command prints its help, with its own options and no others. */
static void test_help(void **state)
{
    (void)state;
    for (size_t i = 0; command_at(i); i++) {
        char line[64];
        struct ran r;
        snprintf(line, sizeof line, "%s|--help", command_at(i)->name);
        r = ran_with(line, "", false, NULL);
        assert_int_equal(r.status, 0);
        has(r.out, command_at(i)->usage);
        has(r.out, command_at(i)->summary);
        has(r.out, "--quiet");
        kt_same(r.err, "");
        done(&r);
        if (i)
            assert_true(strcmp(command_at(i - 1)->name, command_at(i)->name) < 0);
    }
    struct ran r = ran_with("report|--help", "", false, NULL);
    has(r.out, "max_model_len");
    has(r.out, "json or table");
    assert_null(strstr(r.out, "--sort"));
    done(&r);
}

static void test_usage(void **state)
{
    (void)state;
    refuses(2, "rep", "kvbudget: error: there is no command 'rep'; did you mean 'report'?\n");
    refuses(2, "chekc",
            "kvbudget: error: there is no command 'chekc'; did you mean 'check'?\n");
    refuses(
        2, "zzzzzz",
        "kvbudget: error: there is no command 'zzzzzz'; kvbudget --help lists the commands\n");
    refuses(2, "--versoin",
            "kvbudget: error: there is no option '--versoin'; did you mean '--version'?\n");
    refuses(
        2, "report",
        "kvbudget: error: report needs a spec: a YAML file, - for standard input, or -m MODEL -g GPU\n");
    refuses(
        2, "check",
        "kvbudget: error: check needs a spec: a YAML file, - for standard input, or -m MODEL -g GPU\n");
    refuses(2, "report|--formt|json",
            "kvbudget: error: report has no option '--formt'; did you mean '--format'?\n");
    refuses(
        2, "report|--zzz=3",
        "kvbudget: error: report has no option '--zzz'; kvbudget report --help lists them\n");
    refuses(2, "report|-z",
            "kvbudget: error: report has no option '-z'; kvbudget report --help lists them\n");
    refuses(2, "report|--sort|x",
            "kvbudget: error: report has no option '--sort'; did you mean '--set'?\n");
    refuses(2, "report|--set",
            "kvbudget: error: option --set needs a value: --set KEY=VALUE\n");
    refuses(2, "report|-o", "kvbudget: error: option --output needs a value: --output FILE\n");
    refuses(2, "report|--quiet=1", "kvbudget: error: option --quiet takes no value\n");
    refuses(2, "report|--profiles=", "kvbudget: error: option --profiles has an empty value\n");
    refuses(2, "report|--format|xml",
            "kvbudget: error: --format is json or table, found 'xml'\n");
    refuses(2, "report|--format|csv",
            "kvbudget: error: --format is json or table, found 'csv'\n");
    refuses(2, "report|--color|blue",
            "kvbudget: error: --color is auto, always or never, found 'blue'\n");
    refuses(
        2, "report|--set|workload.prompt",
        "kvbudget: error: --set takes KEY=VALUE, for example --set workload.prompt=8k, found "
        "'workload.prompt'\n");
    refuses(2, "report|a.yaml|-m|x",
            "kvbudget: error: give a spec ('a.yaml') or -m, not both\n");
    refuses(2, "report|a.yaml|-g|h100",
            "kvbudget: error: -g belongs to -m MODEL; in a spec use --set, for example --set "
            "hardware.gpu=h100\n");
    refuses(
        2, "import",
        "kvbudget: error: import takes one config.json, model folder, weight file or model name\n");
    refuses(
        2, "import|a|b",
        "kvbudget: error: import takes one config.json, model folder, weight file or model name\n");
    refuses(2, "example|min|lckv",
            "kvbudget: error: example takes one name, found 'lckv' too\n");
    refuses(
        2, "report|--zzz|--set|x",
        "kvbudget: error: report has no option '--zzz'; kvbudget report --help lists them\n"
        "kvbudget: error: --set takes KEY=VALUE, for example --set workload.prompt=8k, found 'x'\n");
}

static void test_input(void **state)
{
    (void)state;
    refuses(3, "report|/nonexistent.yaml",
            "/nonexistent.yaml: error: cannot be opened: No such file or directory\n");
    refuses(3, "report|/", "/: error: cannot be read: Is a directory\n");
    refuses(3, "report|-",
            "<stdin>: error: holds no spec; `kvbudget example` prints one to start from\n");
    refuses(
        3, "report|-m|Llama-3.1-8B|-g|h100|-c|1",
        "-c: error: a context is a number of tokens such as 4096 or 128k, at least 2, found '1'\n");
    refuses(
        3, "report|-m|Llama-3.1-8B|-g|h100|-c|x",
        "-c: error: a context is a number of tokens such as 4096 or 128k, at least 2, found 'x'\n");
    refuses(3, "example|minn",
            "kvbudget: error: unknown example 'minn'; did you mean 'min'?\n");
    setenv("HF_HUB_OFFLINE", "1", 1);
    refuses(3, "import|x.gguf", "x.gguf: error: cannot be opened: No such file or directory\n");
    refuses(3, "import|x.bin",
            "x.bin: error: pickled weights are not read; give the model's config.json\n");
    refuses(3, "import|some/model",
            "some/model: error: is not in the local cache, and HF_HUB_OFFLINE forbids fetching "
            "it\n");
    refuses(3, "import|/proc/self/fdinfo",
            "/proc/self/fdinfo: error: holds neither a config.json nor a GGUF file\n");
    unsetenv("HF_HUB_OFFLINE");
    refuses(7, "example|-o|/nonexistent/x",
            "/nonexistent/x: error: cannot be written: No such file or directory\n");
}

/* All problems at once, each with its place. */
static void test_spec_errors(void **state)
{
    struct ran r = ran_with("report|-",
                            MODEL "hardware: {gpu: h1000}\nworkload: {promt: 3, output: 80G}\n",
                            false, NULL);

    (void)state;
    assert_int_equal(r.status, 3);
    kt_same(r.out, "");
    has(r.err,
        "<stdin>:3:12: error: unknown key 'promt' in workload; did you mean 'prompt'?\n");
    has(r.err, "<stdin>:3:30: error: ");
    done(&r);
    r = ran_with("report|-|--set|workload.prompt.x=3", SPEC "workload: {prompt: 5}\n", false,
                 NULL);
    assert_int_equal(r.status, 2);
    kt_same(r.out, "");
    done(&r);
}

/* Counts that leave 64 bits are refused, not printed. */
static void test_overflow(void **state)
{
    static const char *const commands[] = {"report|-", "check|-"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct ran r = ran_with(
            commands[i], SPEC "workload: {prompt: 1000000000000, batch: 1000000000000}\n",
            false, NULL);
        assert_int_equal(r.status, 3);
        kt_same(r.out, "");
        kt_same(
            r.err,
            "<stdin>:1:1: error: byte counts of 1000000000000 sequences of 1000000000512 tokens "
            "leave 64 bits\n");
        done(&r);
    }
}

static void test_formats(void **state)
{
    struct ran r = ran_with("report|-|-q", SPEC, false, NULL);

    (void)state;
    assert_int_equal(r.status, 0);
    has(r.out, "{\n  \"schema\": \"kvbudget.report/1\",\n");
    kt_same(r.err, "");
    done(&r);
    r = ran_with("report|-", SPEC, true, NULL);
    has(r.out, "Fits: 28 sequences of 2,560 tokens; memory-limited");
    done(&r);
    r = ran_with("report|-|--format|table|--color|always", SPEC, false, NULL);
    has(r.out, "\033[1;32mFits: 28");
    done(&r);
    r = ran_with("report|-|--format|table", SPEC, false, NULL);
    assert_null(strstr(r.out, "\033"));
    has(r.out, "\nnext: kvbudget compare -\n");
    done(&r);
    r = ran_with("report|-|-v", SPEC, false, NULL);
    has(r.err, "note: hardware.gpu is not given");
    done(&r);
    r = ran_with("report|-|--set|workload.batch=99|--format|table", SPEC, false, NULL);
    assert_int_equal(r.status, 4);
    has(r.out, "Does not fit: 99 sequences");
    has(r.out, "\nnext: kvbudget explain - --set workload.batch=99\n");
    assert_null(strstr(r.err, "Does not fit")); /* once is enough */
    done(&r);
}

/* A stream gives a line a document; what is bad in one does not hide the others. */
static void test_stream(void **state)
{
    struct ran r =
        ran_with("report|-", SPEC "---\n" SPEC "workload: {batch: 99}\n", false, NULL);
    const char *second;

    (void)state;
    assert_int_equal(r.status, 4);
    second = strchr(r.out, '\n') + 1;
    kt_u64((uint64_t)(strchr(second, '\n') + 1 - r.out), strlen(r.out));
    has(second, "\"spec\": \"-#2\"");
    has(r.err, "-#2: error: Does not fit: 99 sequences");
    done(&r);
    r = ran_with("report|-", SPEC "---\nmodel: 3\n---\n" SPEC, false, NULL);
    assert_int_equal(r.status, 3);
    second = strchr(r.out, '\n') + 1;
    kt_u64((uint64_t)(strchr(second, '\n') + 1 - r.out), strlen(r.out));
    done(&r);
}

static void test_check(void **state)
{
    struct ran r = ran_with("check|-", SPEC, false, NULL);

    (void)state;
    kt_same(r.out,
            "Fits: 28 sequences of 2,560 tokens; memory-limited; one more needs 20.51 MiB\n");
    assert_int_equal(r.status, 0);
    done(&r);
    r = ran_with("check|-|--format|json", SPEC "workload: {batch: 99}\n", false, NULL);
    has(r.out, "\"schema\": \"kvbudget.check/1\"");
    has(r.out, "\"fits\": false");
    assert_int_equal(r.status, 4);
    done(&r);
    r = ran_with("check|-", SPEC "---\n" SPEC "workload: {batch: 99}\n", true, NULL);
    has(r.out, "-: Fits: 28");
    has(r.out, "-#2: Does not fit: 99");
    assert_int_equal(r.status, 4);
    kt_same(r.err, "");
    done(&r);
}

/* A full disk is seen: whatever the command, exit 7 and one line. */
static void test_full(void **state)
{
    static const char *const lines[] = {"report|-|-q", "check|-",       "example",
                                        "--help",      "report|--help", ""};

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        FILE *full = fopen("/dev/full", "w");
        struct ran r;
        if (!full) {
            print_message("there is no /dev/full\n");
            skip();
        }
        r = ran_with(lines[i], SPEC, false, full);
        kt_same(r.err, "<stdout>: error: cannot be written: No space left on device\n");
        assert_int_equal(r.status, 7);
        done(&r);
    }
}

/* A pipe whose reader has gone; main.c ignores the signal. */
static void test_pipe(void **state)
{
    struct ran r;
    int ends[2];

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    r = ran_with("report|-|-q", SPEC, false, fdopen(ends[1], "w"));
    kt_same(r.err, "<stdout>: error: cannot be written: Broken pipe\n");
    assert_int_equal(r.status, 7);
    done(&r);
}

static void test_output(void **state)
{
    struct kt *k = *state;
    char *folder = kt_folder(k->a), *path = arena_printf(k->a, "%s/r.json", folder), *text;
    char *line = arena_printf(k->a, "report|-|-q|-o|%s", path);
    struct ran r = ran_with(line, SPEC, true, NULL);

    assert_int_equal(r.status, 0);
    kt_same(r.out, "");
    text = kt_slurp(k->a, path);
    assert_non_null(text);
    has(text, "{\n  \"schema\": \"kvbudget.report/1\",\n");
    done(&r);
    r = ran_with(arena_printf(k->a, "report|-|-q|-o|%s", path), "model: 3\n", true, NULL);
    assert_int_equal(r.status, 3);
    kt_same(kt_slurp(k->a, path), text); /* left alone */
    done(&r);
    kt_folder_remove(folder);
}

static void test_example(void **state)
{
    struct ran r = ran_with("example", "", false, NULL), spec;

    (void)state;
    assert_int_equal(r.status, 0);
    has(r.out, "\n# Others, kvbudget example NAME: combined, ");
    done(&r);
    r = ran_with("example|inline", "", false, NULL);
    spec = ran_with("check|-", r.out, false, NULL);
    assert_int_equal(spec.status, 0);
    done(&spec);
    done(&r);
}

/* -c takes min(512, half) for the output. */
static void test_context(void **state)
{
    static const struct {
        const char *context, *prompt, *output;
    } cases[] = {
        {"4096", "3584", "512"}, {"1k", "512", "512"}, {"101", "51", "50"}, {"2", "1", "1"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *a = arena_new();
        struct cmd_ctx ctx = {
            .arena = a, .in = stdin, .out = stdout, .err = stderr, .diag = diag_new(a)};
        struct cmd_options opt = {
            .model = "m", .gpu = "g", .count = "8", .context = cases[i].context};
        struct doc_node **docs;
        size_t n;
        assert_true(cmd_read_specs(&ctx, &opt, NULL, &docs, &n));
        kt_u64(n, 1);
        kt_same(doc_path(docs[0], "model")->text, "m");
        kt_same(doc_path(docs[0], "hardware.gpu")->text, "g");
        kt_same(doc_path(docs[0], "hardware.count")->text, "8");
        kt_same(doc_path(docs[0], "workload.prompt")->text, cases[i].prompt);
        kt_same(doc_path(docs[0], "workload.output")->text, cases[i].output);
        arena_free(a);
    }
}

static void test_color(void **state)
{
    struct cmd_ctx ctx = {.out_is_terminal = true};
    struct cmd_options opt = {.color = COLOR_AUTO};

    (void)state;
    unsetenv("NO_COLOR");
    setenv("TERM", "xterm", 1);
    assert_true(cmd_wants_color(&ctx, &opt));
    setenv("NO_COLOR", "1", 1);
    assert_false(cmd_wants_color(&ctx, &opt));
    opt.color = COLOR_ALWAYS;
    assert_true(cmd_wants_color(&ctx, &opt));
    opt.color = COLOR_AUTO;
    unsetenv("NO_COLOR");
    setenv("TERM", "dumb", 1);
    assert_false(cmd_wants_color(&ctx, &opt));
    setenv("TERM", "xterm", 1);
    opt.output = "x";
    assert_false(cmd_wants_color(&ctx, &opt));
    opt.output = NULL;
    opt.color = COLOR_NEVER;
    assert_false(cmd_wants_color(&ctx, &opt));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start),       cmocka_unit_test(test_help),
        cmocka_unit_test(test_usage),       cmocka_unit_test(test_input),
        cmocka_unit_test(test_spec_errors), cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_formats),     cmocka_unit_test(test_stream),
        cmocka_unit_test(test_check),       cmocka_unit_test(test_full),
        cmocka_unit_test(test_pipe),        kt_test(test_output),
        cmocka_unit_test(test_example),     cmocka_unit_test(test_context),
        cmocka_unit_test(test_color),
    };

    setenv("HOME", "/nonexistent", 1);
    unsetenv("XDG_CONFIG_HOME");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
