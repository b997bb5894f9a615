/* explain: every figure of a report has a rule, the values are the report's, and the numbers
 * put in give the value when they are worked out again. */
#include <math.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/unit.h"
#include "planner/plan/explain.h"
#include "tests/kvplan.h"

/* --- working out expressions -------------------------------------------------------------- */

struct eval {
    const char *s;
    bool bad;
};

static double sum(struct eval *e);

static void blank(struct eval *e)
{
    for (;;) {
        while (*e->s == ' ')
            e->s++;
        if (*e->s != '[')
            return;
        while (*e->s && *e->s != ']')
            e->s++;
        e->s += *e->s == ']';
    }
}

static bool take(struct eval *e, const char *word)
{
    size_t n = strlen(word);

    blank(e);
    if (strncmp(e->s, word, n) != 0)
        return false;
    e->s += n;
    return true;
}

/* "1,234.5e-06"; a comma counts only between digits. */
static double number(struct eval *e)
{
    char text[64];
    size_t n = 0;
    double v = 0;

    blank(e);
    for (; *e->s && n + 1 < sizeof text; e->s++) {
        bool digit = *e->s >= '0' && *e->s <= '9', exponent = n && *e->s == 'e';
        if (*e->s == ',' && e->s[1] >= '0' && e->s[1] <= '9')
            continue;
        if (!digit && *e->s != '.' && !exponent &&
            !(n && text[n - 1] == 'e' && strchr("+-", *e->s)))
            break;
        text[n++] = *e->s;
    }
    text[n] = '\0';
    e->bad |= unit_parse_double(text, &v) != UNIT_OK;
    return v;
}

static double call(struct eval *e, char which)
{
    double v = sum(e);

    while (take(e, ", ")) {
        double w = sum(e);
        v = which == 'm' ? (w < v ? w : v) : which == 'M' ? (w > v ? w : v) : v;
    }
    e->bad |= !take(e, ")");
    if (which == 'f')
        return v < 0 ? -(double)(uint64_t)(1 - v) : (double)(uint64_t)v;
    return v;
}

static double factor(struct eval *e)
{
    if (take(e, "max("))
        return call(e, 'M');
    if (take(e, "min("))
        return call(e, 'm');
    if (take(e, "floor("))
        return call(e, 'f');
    if (take(e, "("))
        return call(e, ' ');
    return number(e);
}

static double product(struct eval *e)
{
    double v = factor(e);

    for (;;) {
        if (take(e, "x "))
            v *= factor(e);
        else if (take(e, "/ "))
            v /= factor(e);
        else
            return v;
    }
}

static double sum(struct eval *e)
{
    double v = product(e);

    for (;;) {
        if (take(e, "+ "))
            v += product(e);
        else if (take(e, "- "))
            v -= product(e);
        else
            return v;
    }
}

static double work_out(const char *text, bool *bad)
{
    struct eval e = {.s = text};
    double v = sum(&e);

    blank(&e);
    *bad = e.bad || *e.s;
    return v;
}

static void expressions_are_read(void **state)
{
    bool bad;

    (void)state;
    kt_rel(work_out("1,024 x (2 + 3) / 4 [why] - 1", &bad), 1279, 1e-12);
    assert_false(bad);
    kt_rel(work_out("max(0, floor((10 - 3) / 2) + 1) x 2", &bad), 8, 1e-12);
    assert_false(bad);
    kt_rel(work_out("min(5 [a], 3e-06 [b])", &bad), 3e-6, 1e-12);
    assert_false(bad);
    (void)work_out("2 x seconds", &bad);
    assert_true(bad);
}

/* --- specs -------------------------------------------------------------------------------- */

#define LLAMA KP_LLAMA3_8B "hardware: {gpu: h100-sxm-80gb}\n"
#define TINY                                                                                   \
    "model: {layers: 22, hidden_size: 2048, intermediate_size: 5632, heads: 32, kv_heads: 4, " \
    "head_dim: 64, vocab_size: 32000}\nhardware: {gpu: rtx-3090}\n"

static const char *const specs[] = {
    LLAMA
    "cache: {format: kivi4}\nengine: {block_tokens: 32}\nworkload: {prompt: 1000, output: 77}\n",
    "model: Llama-3.2-1B\nhardware: {gpu: l40s, count: 2}\nparallel: {pp: 2}\n",
    LLAMA,
    LLAMA
    "workload: {prompt: 1000, output: 333, batch: 7, shared_prefix: 500}\nengine: {block_tokens: 16}\n",
    LLAMA
    "weights: {format: fp8}\ncache: {format: fp8_e4m3, eviction: {scheme: h2o, heavy: 128, recent: 128}}\n",
    LLAMA "cache: {format: kivi2}\nworkload: {prompt: 777, output: 100, batch: 3}\n",
    LLAMA "cache: {k: q8_0, v: q4_0, eviction: {scheme: think}}\n",
    KP_LLAMA3_8B "hardware: {gpu: h100, host_memory: 64GiB}\n"
                 "cache: {eviction: {scheme: snapkv, capacity: 256}, offload: 0.25}\n",
    TINY
    "cache: {sharing: {scheme: lckv, warmup: 2}, eviction: {scheme: pyramidkv, capacity: 128}}\n",
    TINY "cache: {sharing: {scheme: lckv, warmup: 2}}\nworkload: {prompt: 5, output: 2043}\n",
    TINY "cache: {sharing: {scheme: yoco}}\n",
    TINY
    "cache: {sharing: {scheme: mlkv, kv_layers: 4, kv_heads: 1}, eviction: {scheme: l2norm, keep_ratio: 0.5}}\n",
    TINY
    "cache: {eviction: {scheme: duoattention}}\nengine: {max_seqs: 8, max_model_len: 4k}\n",
    TINY "cache: {eviction: {scheme: quest}}\nengine: {memory_fraction: 0.9}\n",
    TINY "memory: {per_gpu: {kv_pool_bytes: 1GB, activation_bytes: 1MB}}\n",
    KP_LLAMA7B
    "hardware: {gpu: rtx-3090, host_memory: 1GiB, link: 20GB/s}\nweights: {offload_layers: 4}\n"
    "cache: {offload: 0.9}\n",
    KP_LLAMA7B "hardware: {memory: 8GiB}\n",
    KP_LLAMA7B
    "hardware: {memory: 24GiB, memory_limit: 20GiB}\nworkload: {prompt: 100k, output: 1k}\n",
    KP_LLAMA7B "hardware: {gpu: a100-80gb, count: 8}\nparallel: {tp: 2, pp: 2, dp: 2}\n",
    "model: DeepSeek-V3\nhardware: {gpu: h200, count: 16}\nparallel: {tp: 8, ep: 8, pp: 2}\n",
    "model: DeepSeek-V3.2\nhardware: {gpu: b200, count: 8}\n",
    "model: gemma-3-27b-it\nhardware: {gpu: h100}\nworkload: {prompt: 5000, output: 100}\n",
    "model: Falcon-H1-7B-Base\nhardware: {gpu: h100, count: 2}\nparallel: {tp: 2}\n",
    "model: gpt-oss-20b\nhardware: {gpu: h100}\n",
    "model: Qwen3-30B-A3B\nhardware: {gpu: h100, count: 4}\nparallel: {tp: 2, cp: 2}\nworkload: {batch: 5}\n",
    "model: mamba-2.8b-hf\nhardware: {gpu: h100}\n",
    LLAMA "engine: {name: vllm, version: 0.19.0}\n",
    "model: gemma-3-27b-it\nhardware: {gpu: h100}\nengine: {name: vllm, version: 0.19.0}\n",
    "model: gemma-3-27b-it\nhardware: {gpu: h100, count: 2}\nparallel: {pp: 2}\nengine: {name: vllm}\n",
    "model: Falcon-H1-7B-Base\nhardware: {gpu: h100}\nengine: {name: vllm, version: 0.21.0}\n",
    LLAMA "engine: {name: sglang}\n",
    LLAMA "engine: {name: trtllm}\n",
    TINY "engine: {name: llamacpp}\n",
    TINY "engine: {name: hf}\n",
};

struct case_of {
    struct kp *k;
    struct plan plan;
    cJSON *report, *explained;
};

static struct case_of open_case(const char *yaml)
{
    struct case_of c = {.k = kp_build(yaml)};
    struct report_in in = {"spec.yaml", &c.k->problem, &c.plan, c.k->diag, NULL};

    plan_solve(&c.k->problem, &c.k->problem.workload, &c.plan);
    c.report = report_json(&in);
    c.explained = explain_json(c.k->arena, &in, NULL, c.k->diag);
    assert_non_null(c.explained);
    return c;
}

static void close_case(struct case_of *c)
{
    cJSON_Delete(c->report);
    cJSON_Delete(c->explained);
    kp_free(c->k);
}

static const cJSON *entry_of(const cJSON *explained, const char *path)
{
    for (const cJSON *e = json_at(explained, "entries")->child; e; e = e->next)
        if (!strcmp(json_at(e, "path")->valuestring, path))
            return e;
    return NULL;
}

/* --- laws --------------------------------------------------------------------------------- */

static void check_covered(const struct case_of *c, const char *path, const cJSON *v)
{
    const cJSON *e;
    double want = 0, got = 0;

    if (cJSON_IsObject(v)) {
        for (const cJSON *child = v->child; child; child = child->next)
            check_covered(
                c, arena_printf(c->k->arena, "%s%s%s", path, *path ? "." : "", child->string),
                child);
        return;
    }
    if (!json_get_double(v, &want))
        return;
    e = entry_of(c->explained, path);
    if (!e || !*json_at(e, "formula")->valuestring)
        fail_msg("%s is not explained", path);
    assert_true(json_get_double(json_at(e, "value"), &got));
    kt_rel(got, want, 0);
}

static void every_figure_is_explained(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct case_of c = open_case(specs[i]);
        check_covered(&c, "", c.report);
        close_case(&c);
    }
}

/* Seconds are written with 12 digits, their sums with rounded terms; counts are exact but
 * for doubles that were rounded to whole bytes. */
static void check_numbers(const cJSON *e, const char *spec)
{
    const char *put_in = json_at(e, "substituted")->valuestring;
    double value = 0, got, off;
    bool bad;

    if (!cJSON_IsTrue(json_at(e, "is_expression")) ||
        !json_get_double(json_at(e, "value"), &value))
        return;
    got = work_out(put_in, &bad);
    off = fabs(got - value);
    if (bad || !(off <= 1e-9 * fabs(value) || (off <= 1.0 && value >= 1e6)))
        fail_msg("%s\n%s = %.15g, but %s\n= %.15g%s", spec, json_at(e, "path")->valuestring,
                 value, put_in, got, bad ? " (unreadable)" : "");
}

static void numbers_put_in_give_the_value(void **state)
{
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct case_of c = open_case(specs[i]);
        for (const cJSON *e = json_at(c.explained, "entries")->child; e; e = e->next) {
            check_numbers(e, specs[i]);
            n += cJSON_IsTrue(json_at(e, "is_expression")) ? 1 : 0;
        }
        close_case(&c);
    }
    assert_true(n > 50 * sizeof specs / sizeof *specs);
}

/* Derived by hand: 32 layers x 8 heads x (128 + 128) elements x 2 bytes = 131,072. */
static void a_formula_by_hand(void **state)
{
    struct case_of c = open_case(LLAMA);
    const cJSON *e = entry_of(c.explained, "cache.bytes_per_token");
    uint64_t v = 0;

    (void)state;
    assert_true(json_get_u64(json_at(e, "value"), &v));
    kt_u64(v, 131072);
    kt_same(json_at(e, "substituted")->valuestring,
            "32 x 8 x (128 + 128) x 2 [layers x heads x elements x bytes]");
    kt_same(json_at(e, "unit")->valuestring, "bytes");
    e = entry_of(c.explained, "memory.per_gpu.usable_bytes");
    assert_non_null(
        strstr(json_at(e, "sources.0")->valuestring, "h100-sxm5-80gb memory_usable: "));
    close_case(&c);
}

static void a_path_filters(void **state)
{
    struct case_of c = open_case(TINY);
    struct report_in in = {"spec.yaml", &c.k->problem, &c.plan, c.k->diag, NULL};
    cJSON *some = explain_json(c.k->arena, &in, "cache.sequence", c.k->diag);

    (void)state;
    assert_int_equal(cJSON_GetArraySize(json_at(some, "entries")), 6);
    for (const cJSON *e = json_at(some, "entries")->child; e; e = e->next)
        assert_memory_equal(json_at(e, "path")->valuestring, "cache.sequence.", 15);
    cJSON_Delete(some);
    some = explain_json(c.k->arena, &in, "capacity.max_batch", c.k->diag);
    assert_int_equal(cJSON_GetArraySize(json_at(some, "entries")), 1);
    cJSON_Delete(some);
    close_case(&c);
}

static void an_unknown_path_is_refused(void **state)
{
    struct case_of c = open_case(TINY);
    struct report_in in = {"spec.yaml", &c.k->problem, &c.plan, c.k->diag, NULL};
    struct diag *d = diag_new(c.k->arena);

    (void)state;
    assert_null(explain_json(c.k->arena, &in, "capacity.max_bach", d));
    kt_printed(d, "kvbudget: error: the report has no figure 'capacity.max_bach'; did you mean "
                  "'capacity.max_batch'?\n");
    assert_int_equal(diag_exit(d), 2);
    d = diag_new(c.k->arena);
    assert_null(explain_json(c.k->arena, &in, "verdict", d));
    kt_printed(
        d,
        "kvbudget: error: the report has no figure 'verdict'; `kvbudget explain SPEC` lists them "
        "all\n");
    close_case(&c);
}

static void text_has_all_parts(void **state)
{
    struct case_of c = open_case(TINY "workload: {batch: 2}\n");
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    (void)state;
    explain_text(c.k->arena, c.explained, out);
    fclose(out);
    assert_non_null(strstr(text,
                           "cache.bytes_per_token = 22,528 bytes (22.00 KiB)\n"
                           "    sum over stored streams: heads x (K + V) in their formats\n"
                           "    = 22 x 4 x (64 + 64) x 2 [layers x heads x elements x bytes]\n"
                           "    from model inline (inline)\n"));
    assert_non_null(strstr(text, "compute.batch = 2 sequences\n"));
    free(text);
    close_case(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_are_read),
        cmocka_unit_test(every_figure_is_explained),
        cmocka_unit_test(numbers_put_in_give_the_value),
        cmocka_unit_test(a_formula_by_hand),
        cmocka_unit_test(a_path_filters),
        cmocka_unit_test(an_unknown_path_is_refused),
        cmocka_unit_test(text_has_all_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
