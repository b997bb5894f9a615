/* validate_cupti: hardware counters against a stand-in for CUPTI (tests/data/cupti.c): what can
 * be missing, and the check `counters` on the CPU build, whose tallies play the GPU's counters.
 * Skipped where there is no C compiler. */
#include "validate/cupti.h"

#include <dlfcn.h>
#include <string.h>

#include "tests/kvplan.h"
#include "tests/kvstandin.h"
#include "validate/run.h"

enum { READ, WRITTEN, BF16, FP16 };

struct stand_in { /* of the library */
    void (*pushed)(void *user);
    double (*value)(void *user, const char *metric);
    void *user;
    int live;
};

struct world {
    struct kv_standin lib;
    void *handle;
    struct stand_in *in;
    struct device *d;
    double read_by, flop_by; /* what the counters show, of what they should */
    int pushes, runs;
    bool fail;
};

static void pushed(void *user)
{
    struct world *w = user;

    w->pushes++;
    if (w->d)
        device_tally_reset(w->d);
}

/* Weights and cache come from DRAM, activations stay in the L2 cache. */
static double value(void *user, const char *metric)
{
    static const enum tag tags[] = {TAG_WEIGHTS, TAG_K, TAG_V, TAG_STATE};
    struct world *w = user;
    bool written = strstr(metric, "write") != NULL;
    struct tally t;
    double sum = 0;

    if (!w->d)
        return 1000.0 * w->pushes + (double)strlen(metric);
    assert_int_equal(device_tally(w->d, &t), DEVICE_OK);
    if (strstr(metric, "tensor"))
        return strstr(metric, "bf16") ? w->flop_by * (double)t.issued.tensor_flop : 0;
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        sum += (double)(written ? t.unique_written_bytes : t.unique_read_bytes)[tags[i]];
    return w->read_by * sum;
}

static struct world world(const char *options)
{
    struct world w = {
        .lib = kv_standin("cupti", "KVBUDGET_CUPTI", options), .read_by = 1, .flop_by = 1};
    void *at;

    w.handle = dlopen(w.lib.path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(w.handle);
    at = dlsym(w.handle, "stand_in");
    assert_non_null(at);
    w.in = at;
    w.in->pushed = pushed;
    w.in->value = value;
    return w;
}

static void world_end(struct world *w)
{
    assert_int_equal(w->in->live, 0); /* whatever was opened is closed */
    device_close(w->d);
    dlclose(w->handle);
    kv_standin_done(&w->lib);
}

static bool run_once(void *user)
{
    struct world *w = user;

    w->runs++;
    return !w->fail;
}

static const enum counter all[] = {COUNTER_DRAM_READ, COUNTER_DRAM_WRITTEN, COUNTER_TENSOR_BF16,
                                   COUNTER_TENSOR_FP16};

static void counts(void **state)
{
    struct kt *t = *state;
    struct world w = world("-DPASSES=3");
    struct cupti_work work = {NULL, run_once, &w};
    const char *reason = NULL;
    struct cupti *c = cupti_open(t->a, 0, &reason);
    double v[4];

    assert_non_null(c);
    w.in->user = &w;
    for (int i = 0; i < 4; i++)
        assert_null(cupti_lacks(c, all[i]));
    assert_true(cupti_count(c, all, 4, &work, v, &reason));
    assert_int_equal(w.runs, 3);
    assert_int_equal(w.pushes, 3);
    kt_rel(v[READ], 3020, 0); /* lengths of the metrics' names */
    kt_rel(v[WRITTEN], 3021, 0);
    kt_rel(v[BF16], 3041, 0);
    kt_rel(v[FP16], 3032, 0);
    assert_true(cupti_count(c, all, 1, &work, v, &reason)); /* and again */
    kt_rel(v[READ], 6020, 0);
    w.fail = true;
    assert_false(cupti_count(c, all, 1, &work, v, &reason));
    assert_null(reason);
    cupti_close(c);
    cupti_close(NULL);
    world_end(&w);
}

/* The reason, with PATH for the library's path. */
static void refuses(struct kt *t, const char *options, const char *due)
{
    struct world w = world(options);
    struct cupti_work work = {NULL, run_once, &w};
    const char *reason = "", *at = strstr(due, "PATH");
    struct cupti *c = cupti_open(t->a, 0, &reason);
    double v[4];

    w.in->user = &w;
    if (c)
        assert_false(cupti_count(c, all, 2, &work, v, &reason));
    kt_same(reason, at ? arena_printf(t->a, "%s%s", w.lib.path, at + 4) : due);
    cupti_close(c);
    world_end(&w);
}

static void missing(void **state)
{
    struct kt *t = *state;
    const char *reason = NULL;

    setenv("KVBUDGET_CUPTI", "/nowhere/cupti.so", 1);
    assert_null(cupti_open(t->a, 0, &reason));
    kt_same(reason, "/nowhere/cupti.so (KVBUDGET_CUPTI) cannot be opened");
    unsetenv("KVBUDGET_CUPTI");
    refuses(t, "-DVERSION=23", "PATH is version 23; 12.6 (24) is the first with ranges");
    refuses(t, "-DNO_DECODE", "PATH has no cuptiRangeProfilerDecodeData");
    refuses(t, "-DNO_CONTEXT", "CUDA has no current context");
    refuses(t, "-DNO_DRAM",
            "CUPTI has no counter of bytes read from DRAM on a GH100 (dram__bytes_read.sum)");
    refuses(t, "-DPASSES=17", "CUPTI wants 17 passes");
    refuses(t, "-DNO_RIGHTS",
            "this user may not read the GPU's counters (ERR_NVGPUCTRPERM): run as root or with "
            "CAP_SYS_ADMIN, or have the driver loaded with "
            "NVreg_RestrictProfilingToAdminUsers=0");
}

/* --- the check ------------------------------------------------------------------------------
 */

#define SPEC                                                                                   \
    "model: {layers: 2, hidden_size: 64, intermediate_size: 96, heads: 4, kv_heads: 2, "       \
    "head_dim: 64, vocab_size: 64}\nhardware: {memory: 400kB}\n"                               \
    "workload: {prompt: 48, output: 8, batch: 2}\n"

static const struct check *check_of(enum level level)
{
    size_t i = 0;

    while (check_at(i) && check_at(i)->level != level)
        i++;
    assert_non_null(check_at(i));
    return check_at(i);
}

static struct findings checked(struct kp *k, struct world *w, uint64_t l2_bytes)
{
    struct check_in in = {.device_name = "cpu"};
    struct findings f = {.arena = k->arena};
    const struct check *c = check_of(LEVEL_COUNTERS);
    struct device_options o = {.poison = true};
    struct device_text why;
    struct subject s;

    assert_int_equal(device_open("cpu", &o, &w->d, &why), DEVICE_OK);
    w->in->user = w;
    run_subject(k->arena, "s", &k->problem, &s);
    in.subject = &s;
    in.device = w->d;
    assert_int_equal(device_get_info(w->d, &in.info), DEVICE_OK);
    assert_string_equal(c->filter(&in),
                        "needs a GPU; the CPU build counts every access itself");
    in.info.l2_bytes = l2_bytes;
    assert_int_equal(c->run(&in, &f), DEVICE_OK);
    kt_u64(device_used_bytes(w->d), 0);
    return f;
}

static size_t of(const struct findings *f, enum verdict v)
{
    size_t n = 0;

    for (size_t i = 0; i < f->n; i++) {
        n += f->list[i].verdict == v;
        assert_int_equal(f->list[i].level, LEVEL_COUNTERS);
    }
    return n;
}

static void passes(void **state)
{
    struct world w = world("");
    struct kp *k = kp_build(SPEC);
    struct findings f = checked(k, &w, 0);

    (void)state;
    for (size_t i = 0; i < f.n; i++)
        if (f.list[i].verdict != VERDICT_PASSED)
            print_error("%s: %g %g %s\n", f.list[i].what, f.list[i].predicted,
                        f.list[i].measured, f.list[i].reason);
    kt_u64(of(&f, VERDICT_PASSED), 4);
    kt_u64(f.n, 4);
    assert_string_equal(f.list[0].what,
                        "DRAM bytes read, attention: 4/2 heads of 64, bf16, x 2");
    assert_string_equal(f.list[1].what,
                        "matrix products, attention: 4/2 heads of 64, bf16, x 2");
    assert_string_equal(f.list[2].what, "DRAM bytes moved, a step of 1 sequences of 48");
    assert_string_equal(f.list[3].what, "matrix products, 1 prompts of 48");
    kp_free(k);
    world_end(&w);
}

/* Fewer rows and narrower ones. */
static void schemes(void **state)
{
    static const char *const caches[] = {
        "cache: {eviction: {scheme: snapkv, capacity: 24, window: 8, layout: kv_head}}\n",
        "cache: {format: fp8_e4m3}\n",
    };
    struct kt *t = *state;

    for (size_t i = 0; i < sizeof caches / sizeof *caches; i++) {
        struct world w = world("");
        struct kp *k = kp_build(arena_printf(t->a, "%s%s", SPEC, caches[i]));
        struct findings f = checked(k, &w, 0);
        for (size_t j = 0; j < f.n; j++)
            if (f.list[j].verdict != VERDICT_PASSED)
                print_error("%s%s: %g %g %s\n", caches[i], f.list[j].what, f.list[j].predicted,
                            f.list[j].measured, f.list[j].reason);
        kt_u64(of(&f, VERDICT_PASSED), f.n);
        kp_free(k);
        world_end(&w);
    }
}

static void fails(void **state)
{
    struct world w = world("");
    struct kp *k = kp_build(SPEC);
    struct findings f;

    (void)state;
    w.read_by = 1.03;
    w.flop_by = 0.9;
    f = checked(k, &w, 0);
    kt_u64(of(&f, VERDICT_FAILED), 4);
    assert_string_equal(f.list[0].reason, "more than 2 % from what was predicted");
    kp_free(k);
    world_end(&w);
}

/* Waived as a whole, with the reason; other rows are not tried. */
static void waives(void **state)
{
    struct world w = world("-DNO_RIGHTS -DNO_TEXT");
    struct kp *k = kp_build(SPEC);
    struct findings f = checked(k, &w, 0);

    (void)state;
    kt_u64(f.n, 1);
    assert_int_equal(f.list[0].verdict, VERDICT_WAIVED);
    assert_non_null(strstr(f.list[0].reason, "ERR_NVGPUCTRPERM"));
    kp_free(k);
    world_end(&w);
}

/* What may be found in the L2 cache is not judged; attention takes as many sequences as it
 * needs, and the flush's own bytes are taken off. */
static void small(void **state)
{
    struct world w = world("");
    struct kp *k = kp_build(SPEC "cache: {sharing: {scheme: cla, factor: 2}}\n");
    struct findings f = checked(k, &w, 60000);

    (void)state;
    kt_u64(of(&f, VERDICT_WAIVED), 1);
    kt_u64(of(&f, VERDICT_PASSED), 3);
    assert_string_equal(
        f.list[2].reason,
        "layers that share a cache may find it in L2: it is less than eight times that");
    kp_free(k);
    w.d = (device_close(w.d), NULL);
    k = kp_build(SPEC);
    f = checked(k, &w, 1 << 18);
    kt_u64(of(&f, VERDICT_WAIVED), 1);
    assert_string_equal(f.list[2].reason, "it moves less than eight times the L2 cache");
    assert_true(f.list[0].predicted >= 8 << 18);
    kp_free(k);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(counts), kt_test(missing), kt_test(passes), kt_test(schemes),
        kt_test(fails),  kt_test(waives),  kt_test(small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
