/* The knobs: which are shown, what they show, how they step, and the words that set them. */
#include "tests/kvsession.h"
#include "tui/fit.h"
#include "tui/knobs.h"

#define SPEC                                                                                   \
    "model: meta-llama/Meta-Llama-3.1-8B\n"                                                    \
    "hardware: {gpu: h100-sxm5-80gb}\n"                                                        \
    "engine: {name: vllm}\n"

static struct knob knob(struct ks *k, const char *name)
{
    struct knob out;

    assert_true(knob_find(&k->s, k->arena, name, &out));
    return out;
}

static struct knob_value value(struct ks *k, const char *name)
{
    struct knob row = knob(k, name);
    struct knob_value v;

    knob_value(&k->s, k->arena, &row, &v);
    return v;
}

static void shows(struct ks *k, const char *name, const char *text, bool given)
{
    struct knob_value v = value(k, name);

    assert_string_equal(v.text, text);
    assert_int_equal(v.given, given);
}

static bool shown(struct ks *k, const char *path)
{
    struct knob_list list;

    knobs_shown(&k->s, k->arena, &list);
    for (size_t i = 0; i < list.n; i++)
        if (!strcmp(list.v[i].path, path))
            return true;
    return false;
}

static void set(struct ks *k, const char *name, const char *text)
{
    const char *why = NULL;

    assert_true(knob_set(&k->s, name, text, &why));
}

static void step(struct ks *k, const char *name, int by, bool fine)
{
    struct knob row = knob(k, name);
    const char *why = NULL;

    assert_true(knob_step(&k->s, &row, by, fine, &why));
}

static void stops(struct ks *k, const char *name, int by, const char *message)
{
    struct knob row = knob(k, name);
    const char *why = NULL;

    assert_false(knob_step(&k->s, &row, by, false, &why));
    kt_same(why, message);
}

/* --- the table -----------------------------------------------------------------------------
 */

static bool is_key(const char *path)
{
    for (const struct spec_section *s = spec_sections(); s->name; s++) {
        size_t n = strlen(s->name);
        for (size_t i = 0; i < s->nfields; i++)
            if ((!n && !strcmp(path, s->fields[i].key)) ||
                (n && !strncmp(path, s->name, n) && path[n] == '.' &&
                 !strcmp(path + n + 1, s->fields[i].key)))
                return true;
    }
    return !strcmp(path, "workload.batch"); /* a number or a word: bound by hand */
}

/* Every knob is a key of the spec; names and keys are used once. */
static void the_table_is_of_keys(void **state)
{
    struct ks *k = ks_open(SPEC);
    struct knob_items names;

    (void)state;
    knob_names(&k->s, k->arena, &names);
    assert_true(names.n > 30);
    for (size_t i = 0; i < names.n; i++) {
        struct knob a = knob(k, names.items[i]);
        assert_true(is_key(a.path));
        assert_true(*a.help && *a.label && *a.group);
        assert_string_equal(a.name, names.items[i]);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(knob(k, names.items[j]).path, a.path);
    }
    ks_close(k);
}

static void only_what_matters_is_shown(void **state)
{
    struct ks *k = ks_open(SPEC);

    (void)state;
    assert_true(shown(k, "engine.block_tokens"));
    assert_false(shown(k, "engine.n_ubatch"));
    assert_false(shown(k, "parallel.ep")); /* no experts */
    assert_false(shown(k, "hardware.host_memory"));
    assert_false(shown(k, "cache.eviction.capacity"));
    set(k, "engine", "llamacpp");
    assert_false(shown(k, "engine.block_tokens"));
    assert_true(shown(k, "engine.n_ubatch"));
    set(k, "engine", "ideal");
    set(k, "eviction", "pyramidkv");
    assert_true(shown(k, "cache.eviction.capacity"));
    set(k, "offload", "0.5");
    assert_true(shown(k, "hardware.host_memory"));
    set(k, "eviction", "none"); /* a latent cache has no such */
    set(k, "model", "DeepSeek-V3");
    assert_true(shown(k, "parallel.ep"));
    ks_close(k);
}

/* --- values --------------------------------------------------------------------------------
 */

static void defaults_say_where_they_come_from(void **state)
{
    struct ks *k = ks_open(SPEC);

    (void)state;
    shows(k, "engine", "vllm", true);
    shows(k, "batch", "auto", false);
    shows(k, "count", "1", false);
    shows(k, "prompt", "2k", false);
    shows(k, "cache", "bf16", false);
    shows(k, "cache-k", "", false);
    shows(k, "sharing", "none", false);
    shows(k, "max-len", "128k", false); /* 131,072 positions */
    shows(k, "memory-limit", "", false);
    assert_string_equal(value(k, "version").note, "vLLM 0.21 or newer");
    assert_string_equal(value(k, "prompt").note, "the default");
    assert_non_null(strstr(value(k, "max-len").note, "131072"));
    set(k, "cache-k", "fp8_e4m3");
    shows(k, "cache-k", "fp8_e4m3", true);
    shows(k, "cache-v", "bf16", false);
    set(k, "model",
        "{layers: 2, hidden_size: 64, intermediate_size: 128, heads: 4, "
        "kv_heads: 4, head_dim: 16, vocab_size: 100}");
    shows(k, "model", "{...}", true);
    ks_close(k);
}

static void errors_stand_at_their_knob(void **state)
{
    struct ks *k = ks_open(SPEC);

    (void)state;
    set(k, "gpu", "h1000");
    assert_string_equal(value(k, "gpu").error, "unknown GPU 'h1000'; did you mean 'h100'?");
    assert_null(value(k, "model").error);
    session_undo(&k->s);
    assert_null(value(k, "gpu").error);
    set(k, "gpu", "h1000");
    set(k, "prompt", "4k");
    assert_null(value(k, "prompt").error); /* the last edit is not what is wrong */
    session_undo(&k->s);
    session_undo(&k->s);
    set(k, "batch", "many");
    assert_string_equal(value(k, "batch").error,
                        "'batch': expected a whole number, found 'many'");
    session_undo(&k->s);
    set(k, "eviction", "pyramidkx");
    assert_non_null(strstr(value(k, "eviction").error, "did you mean 'pyramidkv'"));
    session_undo(&k->s);
    set(k, "tp", "3"); /* the message has the place of the spec: it goes to what was edited */
    assert_string_equal(value(k, "tp").error,
                        "tp 3 does not divide the 32 query heads of layer 1");
    ks_close(k);
}

/* --- setting -------------------------------------------------------------------------------
 */

static void words_set_keys(void **state)
{
    struct ks *k = ks_open(SPEC);
    const char *why = NULL;

    (void)state;
    set(k, "gpu", "h200");
    set(k, "max_seqs", "64");
    set(k, "hardware.memory_limit", "24GiB");
    set(k, "weights.offload_layers", "2");
    kt_same(k->s.text, "model: meta-llama/Meta-Llama-3.1-8B\nhardware:\n  gpu: h200\n"
                       "  memory_limit: 24GiB\nengine:\n  name: vllm\n  max_seqs: 64\n"
                       "weights:\n  offload_layers: 2\n");
    set(k, "max-seqs", "default");
    set(k, "weight-offload", "");
    set(k, "memory-limit", "");
    assert_null(session_get(&k->s, "weights"));
    assert_null(session_get(&k->s, "engine.max_seqs"));
    assert_false(knob_set(&k->s, "gpv", "h100", &why));
    kt_same(why, "there is no knob 'gpv'; did you mean 'gpu'?");
    assert_false(knob_set(&k->s, "model", "{layers: [", &why));
    set(k, "version", "0.19.0");
    assert_string_equal(session_get(&k->s, "engine.version"), "0.19.0");
    ks_close(k);
}

static void an_engine_takes_its_settings_along(void **state)
{
    struct ks *k = ks_open(SPEC);

    (void)state;
    set(k, "version", "0.19.0");
    set(k, "graphs", "false");
    set(k, "memory-fraction", "0.8");
    set(k, "engine", "sglang");
    assert_true(k->s.ok);
    assert_null(session_get(&k->s, "engine.version"));
    assert_null(session_get(&k->s, "engine.cuda_graphs")); /* SGLang's plan does not heed it */
    assert_string_equal(session_get(&k->s, "engine.memory_fraction"), "0.8");
    ks_close(k);
}

static void schemes_bring_what_they_need(void **state)
{
    struct ks *k = ks_open("model: meta-llama/Meta-Llama-3.1-8B\nhardware: {gpu: h100}\n");

    (void)state;
    set(k, "sharing", "lasagna-bottom"); /* kv_layers is required */
    assert_true(k->s.ok);
    assert_string_equal(session_get(&k->s, "cache.sharing.kv_layers"), "2");
    set(k, "kv_layers", "4");
    shows(k, "sharing.kv_layers", "4", true);
    set(k, "sharing", "none");
    assert_null(session_get(&k->s, "cache"));
    set(k, "cache", "kivi2");
    set(k, "residual", "256"); /* the name alone becomes a map */
    assert_true(k->s.ok);
    assert_string_equal(session_get(&k->s, "cache.format.scheme"), "kivi2");
    assert_string_equal(session_get(&k->s, "cache.format.residual"), "256");
    shows(k, "format.group", "32", false);
    set(k, "cache-k", "int8");
    set(k, "cache", "fp8_e4m3"); /* both anew */
    assert_null(session_get(&k->s, "cache.k"));
    ks_close(k);
}

/* GPUs and degrees keep each other right. */
static void gpus_follow_the_division(void **state)
{
    struct ks *k = ks_open(SPEC);

    (void)state;
    set(k, "count", "4");
    set(k, "tp", "8");
    assert_string_equal(session_get(&k->s, "hardware.count"), "8");
    set(k, "count", "24");
    assert_string_equal(session_get(&k->s, "parallel.dp"), "3");
    kt_u64(k->s.problem.gpus, 24);
    step(k, "count", 1, false);
    kt_u64(k->s.problem.gpus, 32);
    set(k, "count", "8");
    assert_null(session_get(&k->s, "parallel.dp"));
    assert_true(k->s.ok);
    set(k, "count", "12"); /* no multiple: the planner says so */
    assert_true(k->s.ok);
    kt_u64(k->s.problem.gpus, 8);
    ks_close(k);
}

/* --- steps ---------------------------------------------------------------------------------
 */

static void numbers_step(void **state)
{
    struct ks *k = ks_open(SPEC);

    (void)state;
    step(k, "prompt", 1, false);
    shows(k, "prompt", "4k", true);
    step(k, "prompt", -1, true); /* a tenth: 409 */
    shows(k, "prompt", "3687", true);
    step(k, "prompt", -1, false);
    shows(k, "prompt", "1843", true);
    step(k, "batch", 1, false);
    shows(k, "batch", "1", true);
    step(k, "batch", 1, false);
    step(k, "batch", 1, true);
    shows(k, "batch", "3", true);
    step(k, "batch", -1, false);
    step(k, "batch", -1, false);
    shows(k, "batch", "auto", false);
    stops(k, "batch", -1, "batch is auto: as many as fit");
    step(k, "memory-fraction", -1, false);
    shows(k, "memory-fraction", "0.9", true); /* from 0.92 */
    step(k, "memory-fraction", 1, true);
    shows(k, "memory-fraction", "0.91", true);
    step(k, "memory-fraction", 1, false);
    step(k, "memory-fraction", 1, false);
    stops(k, "memory-fraction", 1, "memory fraction goes no higher than 1");
    step(k, "shared-prefix", 1, false);
    shows(k, "shared-prefix", "128", true);
    ks_close(k);
}

static void memory_steps_by_sizes(void **state)
{
    struct ks *k = ks_open(SPEC);

    (void)state;
    stops(k, "memory-limit", 1, "there is no limit but the GPU's own memory");
    step(k, "memory-limit", -1, false); /* 79.18 GiB are usable */
    shows(k, "memory-limit", "64GiB", true);
    step(k, "memory-limit", -1, false);
    shows(k, "memory-limit", "48GiB", true);
    step(k, "memory-limit", 1, true);
    shows(k, "memory-limit", "49GiB", true);
    step(k, "memory-limit", 1, false);
    step(k, "memory-limit", 1, false); /* 80 GiB would be no limit */
    shows(k, "memory-limit", "", false);
    ks_close(k);
}

/* 32 heads: 1, 2, 4, 8, 16, 32. */
static void gpus_step_by_what_divides(void **state)
{
    struct ks *k = ks_open(SPEC);
    static const char *const degrees[] = {"2", "4", "8", "16", "32"};

    (void)state;
    for (size_t i = 0; i < sizeof degrees / sizeof *degrees; i++) {
        step(k, "count", 1, false);
        shows(k, "count", degrees[i], true);
        assert_true(k->s.ok);
    }
    stops(k, "count", 1, "GPUs goes no higher than 32");
    step(k, "count", -1, false);
    shows(k, "count", "16", true);
    set(k, "count", "");
    stops(k, "count", -1, "GPUs goes no lower than 1");
    step(k, "pp", 1, false);
    step(k, "pp", 1, false);
    shows(k, "pp", "3", true);
    ks_close(k);
}

static void choices_step_to_neighbours(void **state)
{
    struct ks *k = ks_open(SPEC);

    (void)state;
    stops(k, "engine", 1, "'vllm' is the last of the list");
    step(k, "engine", -1, false);
    shows(k, "engine", "trtllm", true);
    step(k, "engine", 1, false);
    step(k, "graphs", 1, false);
    shows(k, "graphs", "false", true);
    step(k, "graphs", -1, false);
    shows(k, "graphs", "", false);
    set(k, "gpu", "h100"); /* an alias of h100-sxm5-80gb */
    step(k, "gpu", 1, false);
    shows(k, "gpu", "h20-96gb", true);
    stops(k, "version", 1, "version is typed: press Enter");
    ks_close(k);
}

static void parameters_step_within_their_field(void **state)
{
    struct ks *k = ks_open("model: meta-llama/Meta-Llama-3.1-8B\nhardware: {gpu: h100}\n"
                           "cache: {eviction: {scheme: pyramidkv, capacity: 2048}}\n");

    (void)state;
    step(k, "capacity", 1, false);
    shows(k, "capacity", "4k", true);
    shows(k, "variant", "code", false);
    step(k, "variant", 1, false);
    assert_string_not_equal(value(k, "variant").text, "code");
    assert_true(k->s.ok);
    ks_close(k);
}

/* --- lists ---------------------------------------------------------------------------------
 */

static size_t index_of(const struct knob_items *list, const char *item)
{
    for (size_t i = 0; i < list->n; i++)
        if (!strcmp(list->items[i], item))
            return i;
    fail_msg("'%s' is not in the list", item);
    return 0;
}

static void lists_have_notes(void **state)
{
    struct ks *k = ks_open(SPEC);
    struct knob row = knob(k, "model");
    struct knob_items list;

    (void)state;
    while (knob_warm(&k->s, 10))
        ;
    knob_items(&k->s, k->arena, &row, &list);
    /* 70,553,706,496 parameters; 2 x 80 layers x 8 heads x 128 x 2 bytes */
    kt_same(list.notes[index_of(&list, "meta-llama/Llama-3.3-70B-Instruct")],
            " 70.6 B, 320.00 KiB a token");
    row = knob(k, "gpu");
    knob_items(&k->s, k->arena, &row, &list);
    assert_non_null(strstr(list.notes[index_of(&list, "h200-sxm-141gb")], "4.80 TB/s"));
    index_of(&list, "local");
    row = knob(k, "eviction");
    knob_items(&k->s, k->arena, &row, &list);
    assert_string_equal(list.items[0], "none");
    index_of(&list, "snapkv");
    row = knob(k, "weights");
    knob_items(&k->s, k->arena, &row, &list);
    assert_string_equal(list.items[0], "default");
    kt_same(list.notes[index_of(&list, "mxfp4")], " 4.25 bits a weight");
    row = knob(k, "prompt");
    knob_items(&k->s, k->arena, &row, &list);
    kt_u64(list.n, 0);
    ks_close(k);
}

/* --- fit -----------------------------------------------------------------------------------
 */

/* What was found fits; with one GPU of a kind less in every direction it does not. */
static void the_fewest_gpus_fit(void **state)
{
    struct ks *k = ks_open("model: meta-llama/Llama-3.3-70B-Instruct\n"
                           "hardware: {gpu: h100}\nworkload: {prompt: 32k, batch: 100}\n");
    const char *why = NULL;
    struct fit f;
    char n[16];

    (void)state;
    assert_false(k->s.plan.fits);
    fit_least(&k->s.problem, &f);
    assert_true(f.found);
    /* 100 sequences of 33,280 tokens at 320 KiB are 1,016 GiB, the weights 131 GiB; 15 GPUs
     * would have 1,188 GiB, but heads and layers divide by 16 */
    kt_u64(f.gpus, 16);
    assert_string_equal(fit_words(k->arena, &f), "16 GPUs as TP 8 x PP 2");
    assert_true(fit_apply(&k->s, &f, &why));
    assert_true(k->s.ok && k->s.plan.fits);
    kt_u64(k->s.problem.gpus, 16);
    for (int less = 8; less < 16; less++) { /* no other division of fewer */
        static const char *const tps[] = {"1", "2", "4", "8"};
        for (size_t i = 0; i < 4; i++) {
            struct session_edit e[] = {{"hardware.count", n},
                                       {"parallel.tp", tps[i]},
                                       {"parallel.pp", NULL},
                                       {"parallel.dp", NULL}};
            char dp[16];
            struct problem p;
            snprintf(n, sizeof n, "%d", less);
            snprintf(dp, sizeof dp, "%d", less / (1 << i));
            e[3].value = dp;
            if (less % (1 << i) == 0 && session_variant(&k->s, k->arena, e, 4, &p, &why))
                assert_false(capacity_fits(&p, &p.workload, 100));
        }
    }
    assert_true(session_undo(&k->s)); /* one step */
    assert_false(k->s.plan.fits);
    ks_close(k);
}

static void a_fit_that_is_plain_needs_no_parallel(void **state)
{
    struct ks *k = ks_open("model: meta-llama/Llama-3.3-70B-Instruct\n"
                           "hardware: {gpu: h100}\nparallel: {tp: 1, dp: 1}\n");
    const char *why = NULL;
    struct fit f;

    (void)state;
    assert_false(k->s.plan.fits);
    fit_least(&k->s.problem, &f);
    assert_string_equal(fit_words(k->arena, &f), "2 GPUs as TP 2");
    assert_true(fit_apply(&k->s, &f, &why));
    assert_null(session_get(&k->s, "parallel"));
    assert_true(k->s.plan.fits);
    assert_true(session_set(&k->s, "workload.prompt", "1000000000000", &why));
    fit_least(&k->s.problem, &f);
    assert_false(f.found);
    ks_close(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_of_keys),
        cmocka_unit_test(only_what_matters_is_shown),
        cmocka_unit_test(defaults_say_where_they_come_from),
        cmocka_unit_test(errors_stand_at_their_knob),
        cmocka_unit_test(words_set_keys),
        cmocka_unit_test(an_engine_takes_its_settings_along),
        cmocka_unit_test(schemes_bring_what_they_need),
        cmocka_unit_test(gpus_follow_the_division),
        cmocka_unit_test(numbers_step),
        cmocka_unit_test(memory_steps_by_sizes),
        cmocka_unit_test(gpus_step_by_what_divides),
        cmocka_unit_test(choices_step_to_neighbours),
        cmocka_unit_test(parameters_step_within_their_field),
        cmocka_unit_test(lists_have_notes),
        cmocka_unit_test(the_fewest_gpus_fit),
        cmocka_unit_test(a_fit_that_is_plain_needs_no_parallel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
