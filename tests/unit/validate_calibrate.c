/* validate_calibrate: the probes run (on the CPU build, small: their figures mean nothing), and
 * what they find becomes a profile that loads; the clock check runs its steps. */
#include "validate/calibrate.h"

#include "planner/cost/gpu.h"
#include "planner/doc/emit.h"
#include "tests/kvplan.h"
#include "validate/run.h"

static const struct calibrate_size small = {.copy_bytes = 1 << 16,
                                            .gemm = 64,
                                            .narrow_rows = 8,
                                            .narrow_bytes = 1 << 14,
                                            .sequences = 1,
                                            .tokens = 32,
                                            .prompt = 16,
                                            .launches = 2};
static const struct calibrate_on on = {"570.1", "2026-01-02", "abc"};

static struct device *cpu(uint64_t limit_bytes)
{
    struct device_options o = {.limit_bytes = limit_bytes};
    struct device_text why;
    struct device *d = NULL;

    assert_int_equal(device_open("cpu", &o, &d, &why), DEVICE_OK);
    return d;
}

static void probes(void **state)
{
    struct kt *t = *state;
    struct device *d = cpu(0);
    struct calibration c;

    assert_true(calibrate_measure(d, t->a, &small, t->d, &c));
    assert_true(c.copy_bytes_per_s > 0 && c.stream_bytes_per_s > 0 && c.launch_s > 0);
    assert_true(c.gemm_flop_per_s > 0 && c.weight_bytes_per_s > 0);
    assert_true(c.fp8_bytes_per_s > 0 && c.int4_bytes_per_s > 0);
    assert_true(c.cache_bytes_per_s > 0 && c.attention_flop_per_s > 0 && c.spread >= 0);
    kt_u64(device_used_bytes(d), 0);
    device_close(d);
}

/* Out of memory in the middle: the probe is named and nothing stays. */
static void fails(void **state)
{
    struct kt *t = *state;
    struct device *d = cpu(100000);
    struct calibration c;

    assert_false(calibrate_measure(d, t->a, &small, t->d, &c));
    kt_diag(t->d, ": copy and stream: out of memory: 65536 bytes asked, 65536 of the limit", 0);
    kt_u64(diag_errors(t->d), 1);
    assert_int_equal(diag_exit(t->d), 5);
    device_close(d);
}

static struct calibration of(const char *name)
{
    struct calibration c = {.info = {.major = 9, .total_bytes = 150000000000},
                            .copy_bytes_per_s = 4.2e12,
                            .stream_bytes_per_s = 4.3e12,
                            .weight_bytes_per_s = 4.08e12,
                            .fp8_bytes_per_s = 3.9e12,
                            .int4_bytes_per_s = 3.7e12,
                            .cache_bytes_per_s = 4.32e12,
                            .gemm_flop_per_s = 741.75e12,
                            .attention_flop_per_s = 494.5e12,
                            .launch_s = 2.5e-6,
                            .granularity_bytes = 32768,
                            .spread = 0.01};

    snprintf(c.info.name, sizeof c.info.name, "%s", name);
    return c;
}

static struct gpu loaded(struct kt *t, const struct calibration *c, char **text)
{
    struct profiles *known = profiles_open(t->a, NULL, t->d);
    struct doc_node *doc = calibrate_profile(t->a, c, &on, known, t->d), *again = NULL;
    struct gpu g;
    size_t n;

    assert_non_null(doc);
    *text = doc_emit_text(t->a, doc);
    assert_true(doc_read_yaml(t->a, "x.yaml", *text, strlen(*text), t->d, &again, 1, &n));
    assert_true(gpu_inline(t->a, again, t->d, &g));
    assert_false(diag_failed(t->d));
    return g;
}

/* A known device keeps its name, aliases and peaks; shares are of those peaks. */
static void known_device(void **state)
{
    struct kt *t = *state;
    struct calibration c = of("NVIDIA H200");
    char *text;
    struct gpu g = loaded(t, &c, &text);

    assert_string_equal(g.name, "h200-sxm-141gb");
    kt_rel(g.bandwidth_bytes_per_s, 4.8e12, 0);
    kt_rel(g.decode_bandwidth_ratio, 0.9, 0);
    kt_rel(g.weight_bandwidth_ratio, 0.85, 0);
    kt_rel(g.gemm_bf16_ratio, 0.75, 0);
    kt_rel(g.attention_ratio, 0.5, 0);
    kt_rel(g.kernel_launch_s, 2.5e-6, 1e-12);
    kt_u64(g.memory_usable_bytes, 150000000000);
    assert_false(g.origin[GPU_FACT_GEMM_BF16].is_default);
    assert_string_equal(g.origin[GPU_FACT_DECODE_BANDWIDTH].source,
                        "measured: decode attention, bf16, GQA 6: 4320 of 4800 GB/s (kvbudget "
                        "calibrate, 2026-01-02; driver 570.1; commit abc)");
    assert_non_null(strstr(text, "aliases: "));
    assert_non_null(strstr(text, "a small allocation takes 32768 bytes"));
}

/* One without a profile: what was measured are its peaks. Shares stay within 1. */
static void new_device(void **state)
{
    struct kt *t = *state;
    struct calibration c = of("NVIDIA Unheard 9000");
    char *text;
    struct gpu g;

    c.cache_bytes_per_s = 5e12;
    g = loaded(t, &c, &text);
    assert_string_equal(g.name, "NVIDIA Unheard 9000");
    assert_string_equal(g.compute_capability, "9.0");
    kt_rel(g.bandwidth_bytes_per_s, 4.3e12, 1e-12);
    kt_rel(g.peak_flop_per_s[GPU_BF16], 741.75e12, 1e-12);
    kt_rel(g.decode_bandwidth_ratio, 1, 0);
    kt_rel(g.gemm_bf16_ratio, 1, 0);
    kt_rel(g.weight_bandwidth_ratio, 0.949, 0);
}

/* The clock check on the CPU build, past its filter: it runs and compares; that the figures are
 * far from a GPU's is found. */
/* Products with stored weights are not judged by an engine's times; attention is. */
static void clocked(const char *weights, bool judged)
{
    static const char *const reason =
        "products with weights in fp8 are kvbudget's own, not an engine's";
    struct arena *a = arena_new();
    struct kp *k = kp_build(arena_printf(
        a,
        "model: {layers: 1, hidden_size: 32, intermediate_size: 32, heads: 2, kv_heads: 1, "
        "head_dim: 16, vocab_size: 32}\nhardware: {gpu: h200, memory_limit: 30kB}\n"
        "workload: {prompt: 8, output: 4}\n%s",
        weights));
    struct check_in in = {.device_name = "cpu", .device = cpu(0)};
    struct findings f = {.arena = k->arena};
    struct subject s;
    const struct check *c = NULL;

    run_subject(k->arena, "s", &k->problem, &s);
    in.subject = &s;
    for (size_t i = 0; check_at(i); i++)
        if (check_at(i)->level == LEVEL_CLOCK)
            c = check_at(i);
    assert_non_null(c);
    assert_int_equal(device_get_info(in.device, &in.info), DEVICE_OK);
    assert_string_equal(c->filter(&in), "needs a GPU: the times of the CPU build say nothing");
    in.info.is_cpu = false;
    assert_string_equal(c->filter(&in), "the spec is for another GPU than this one");
    in.info.multiprocessors = (uint32_t)k->problem.gpu.multiprocessors;
    assert_null(c->filter(&in));
    assert_int_equal(c->run(&in, &f), DEVICE_OK);
    assert_true(f.n == 4 || f.n == 8);
    for (size_t i = 0; i < f.n; i++) {
        bool waived = f.list[i].verdict == VERDICT_WAIVED;
        assert_int_equal(f.list[i].level, LEVEL_CLOCK);
        assert_int_equal(f.list[i].quantity, QUANTITY_SECONDS);
        assert_int_equal(waived, !judged && i % 4 != 3);
        if (waived)
            assert_string_equal(f.list[i].reason, reason);
        else
            assert_true(f.list[i].measured > 0 && f.list[i].predicted > 0);
    }
    assert_string_equal(f.list[0].what, "prefill, 1 sequences of 8");
    device_close(in.device);
    kp_free(k);
    arena_free(a);
}

static void clock_runs(void **state)
{
    (void)state;
    clocked("", true);
    clocked("weights: {format: fp8}\n", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(probes),     kt_test(fails),      kt_test(known_device),
        kt_test(new_device), kt_test(clock_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
