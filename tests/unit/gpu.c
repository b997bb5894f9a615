/* GPU profiles as figures: all builtin ones load, fallbacks are right and said so, bad input is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "planner/base/arena.h"
#include "planner/base/diag.h"
#include "planner/cost/gpu.h"
#include "planner/doc/profile.h"

static const struct loc here = {"spec.yaml", 3, 8};

struct fixture {
    struct arena *a;
    struct diag *d;
    struct profiles *p;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    assert_int_equal(setenv("XDG_CONFIG_HOME", "/nonexistent", 1), 0);
    f->a = arena_new();
    f->d = diag_new(f->a);
    f->p = profiles_open(f->a, NULL, f->d);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    arena_free(f->a);
    free(f);
    return 0;
}

static struct gpu load(struct fixture *f, const char *name)
{
    struct gpu g;

    assert_true(gpu_load(f->a, f->p, name, here, f->d, &g));
    assert_false(diag_failed(f->d));
    return g;
}

static const struct doc_node *doc_of(struct fixture *f, const char *text)
{
    struct doc_node *doc = NULL;
    size_t n = 0;

    assert_true(doc_read_yaml(f->a, "spec.yaml", text, strlen(text), f->d, &doc, 1, &n));
    assert_int_equal(n, 1);
    return doc;
}

static const char *message(struct fixture *f, size_t i)
{
    const struct diag_message *m;

    assert_true(i < diag_count(f->d));
    m = diag_at(f->d, i);
    return arena_printf(f->a, "%s:%d:%d: %s: %s", m->at.file, m->at.line, m->at.col,
                        diag_severity(m->kind), m->text);
}

static bool close_to(double got, double want)
{
    double off = got > want ? got - want : want - got;

    return off <= 1e-9 * want;
}

static void known_figures(void **state)
{
    struct fixture *f = *state;
    struct gpu g = load(f, "h100-sxm-80gb");

    assert_string_equal(g.name, "h100-sxm5-80gb");
    assert_string_equal(g.vendor, "nvidia");
    assert_string_equal(g.architecture, "hopper");
    assert_string_equal(g.compute_capability, "9.0");
    assert_int_equal(g.confidence, GPU_CONFIDENCE_A);
    assert_string_equal(gpu_confidence_name(g.confidence), "A");
    assert_int_equal(g.memory_marketing_bytes, 80000000000);
    assert_int_equal(g.memory_total_bytes, 81559ull << 20);
    assert_int_equal(g.memory_usable_bytes, 81082ull << 20); /* the lower of two logs */
    assert_true(close_to(g.bandwidth_bytes_per_s, 3350e9));
    assert_true(close_to(g.peak_flop_per_s[GPU_FP32], 67e12));
    assert_true(close_to(g.peak_flop_per_s[GPU_TF32], 494.5e12));
    assert_true(close_to(g.peak_flop_per_s[GPU_FP16], 989e12));
    assert_true(close_to(g.peak_flop_per_s[GPU_BF16], 989e12));
    assert_true(close_to(g.peak_flop_per_s[GPU_FP8], 1979e12));
    assert_true(close_to(g.peak_flop_per_s[GPU_INT8], 1979e12));
    assert_true(g.peak_flop_per_s[GPU_FP4] == 0);
    assert_true(g.peak_flop_per_s[GPU_FP16_ACC16] == 0);
    assert_int_equal(g.l2_bytes, 50ull << 20);
    assert_int_equal(g.multiprocessors, 132);
    assert_true(close_to(g.nvlink_bytes_per_s, 900e9));
    assert_int_equal(g.pcie_generation, 5);
    assert_int_equal(g.pcie_lanes, 16);
    assert_true(close_to(g.link_bytes_per_s, 32e9 * 16 * 128 / 130 / 8));
    assert_true(close_to(g.power_w, 700));
    assert_true(close_to(g.decode_bandwidth_ratio, 0.867));
    assert_true(close_to(g.gemm_bf16_ratio, 0.793));
    assert_true(close_to(g.gemm_fp8_ratio, 0.454));
    assert_true(close_to(g.gemm_fp4_ratio, 0.50));
    assert_true(close_to(g.kernel_launch_s, 3e-6));
    assert_int_equal(diag_count(f->d), 0);
}

static void origins(void **state)
{
    struct fixture *f = *state;
    struct gpu g = load(f, "h100");
    const struct gpu_origin *o = g.origin;

    assert_string_equal(o[GPU_FACT_MEMORY_USABLE].source,
                        "CUDA total seen by a program 81082-81090 MiB, the lower taken, public "
                        "logs (secondary)");
    assert_false(o[GPU_FACT_MEMORY_USABLE].is_default);
    assert_non_null(strstr(o[GPU_FACT_DECODE_BANDWIDTH].source, "2906 of 3350 GB/s"));
    assert_false(o[GPU_FACT_DECODE_BANDWIDTH].is_default);
    assert_true(o[GPU_FACT_GEMM_FP4].is_default);
    assert_true(o[GPU_FACT_KERNEL_LAUNCH].is_default);
    assert_true(o[GPU_FACT_LINK].is_default);
    assert_string_equal(o[GPU_FACT_LINK].source, "PCIe 5.0 x16 after line coding, one way");
    assert_null(o[GPU_FACT_PEAK + GPU_FP4].source);
    assert_string_equal(gpu_fact_key(GPU_FACT_BANDWIDTH), "bandwidth");
    assert_string_equal(gpu_fact_key(GPU_FACT_PEAK + GPU_FP4), "fp4");
    assert_string_equal(gpu_fact_key(GPU_FACT_DECODE_BANDWIDTH), "efficiency.decode_bandwidth");
    assert_string_equal(gpu_fact_key(GPU_FACT_KERNEL_LAUNCH), "efficiency.kernel_launch");
    assert_true(close_to(gpu_fact_value(&g, GPU_FACT_BANDWIDTH), 3350e9));
    assert_true(close_to(gpu_fact_value(&g, GPU_FACT_L2), 52428800));
    for (int t = 0; t < GPU_DTYPES; t++)
        assert_string_equal(gpu_dtype_name((enum gpu_dtype)t),
                            gpu_fact_key((enum gpu_fact)(GPU_FACT_PEAK + t)));
}

/* Every builtin profile, those added later too: no error, each figure in a sane range and with
 * its source. */
static void all_load(void **state)
{
    struct fixture *f = *state;
    size_t n = 0, measured = 0;
    struct profile_entry *list = profile_list(f->p, PROFILE_GPU, f->a, f->d, &n);

    assert_true(n >= 55);
    for (size_t i = 0; i < n; i++) {
        struct gpu g = load(f, list[i].name);
        enum gpu_dtype used;

        assert_string_equal(g.name, list[i].name);
        assert_true(g.vendor[0] && g.architecture[0]);
        assert_true(g.confidence <= GPU_CONFIDENCE_C);
        assert_true(g.memory_usable_bytes <= g.memory_total_bytes);
        assert_in_range(g.memory_usable_bytes, 1ull << 30, 1ull << 40);
        assert_true(g.bandwidth_bytes_per_s >= 10e9 && g.bandwidth_bytes_per_s <= 100e12);
        /* Thor's fp16 rate is not known */
        assert_true(gpu_peak_flop_per_s(&g, GPU_BF16, &used) > 0 ||
                    strcmp(g.name, "jetson-agx-thor") == 0);
        for (int k = 0; k < GPU_FACTS; k++) {
            const char *source = g.origin[k].source;
            assert_true((gpu_fact_value(&g, (enum gpu_fact)k) > 0) == (source != NULL));
            assert_true(!source || source[0] != '\0');
            assert_true(g.confidence != GPU_CONFIDENCE_C || !source || g.origin[k].is_default ||
                        strstr(source, "unverified"));
        }
        measured += !g.origin[GPU_FACT_DECODE_BANDWIDTH].is_default;
    }
    assert_true(measured >= 9);
    assert_int_equal(diag_errors(f->d), 0);
}

/* Totals in MiB as drivers print them, and as programs see them (0: no log known). Source:
 * public nvidia-smi, rocm-smi and torch logs, named in the profiles. */
static void memory_table(void **state)
{
    static const struct {
        const char *name;
        uint64_t total_mib, usable_mib;
    } rows[] = {
        {"a100-sxm-80gb", 81920, 0},    {"a100-40gb", 40960, 40326},
        {"gb300", 284208, 0},           {"l40s", 46068, 45589},
        {"rtx-3090", 24576, 24146},     {"rtx-a6000", 49140, 48538},
        {"h200", 143771, 143156},       {"b200", 183359, 182631},
        {"t4", 15360, 15079},           {"mi300x", 196592, 0},
        {"rtx-5090", 32607, 32113},     {"rtx-4090", 24564, 24080},
        {"rtx-pro-6000", 97887, 97249}, {"v100", 16384, 16130},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct gpu g = load(f, rows[i].name);
        uint64_t usable = rows[i].usable_mib ? rows[i].usable_mib : rows[i].total_mib;

        assert_int_equal(g.memory_total_bytes, rows[i].total_mib << 20);
        assert_int_equal(g.memory_usable_bytes >> 20, usable); /* whole MiB, rounded down */
        assert_int_equal(g.origin[GPU_FACT_MEMORY_USABLE].is_default, rows[i].usable_mib == 0);
    }
}

static void memory_fallbacks(void **state)
{
    struct fixture *f = *state;
    struct gpu g = load(f, "a100-sxm-80gb");

    assert_int_equal(g.memory_usable_bytes, g.memory_total_bytes);
    assert_int_equal(diag_count(f->d), 1);
    assert_string_equal(
        message(f, 0), "spec.yaml:3:8: note: no total seen by a program is known for "
                       "'a100-sxm4-80gb'; using what the driver prints, which on other devices "
                       "is 244 to 728 MiB more");
    f->d = diag_new(f->a);
    g = load(f, "b100");
    assert_int_equal(g.memory_total_bytes, 192000000000);
    assert_int_equal(g.memory_usable_bytes, 192000000000);
    assert_int_equal(diag_count(f->d), 3);
    assert_string_equal(message(f, 0),
                        "spec.yaml:3:8: warning: only the product page tells the "
                        "memory of 'b100' (unverified)");
    assert_string_equal(message(f, 1),
                        "spec.yaml:3:8: warning: the figures of 'b100' are unverified");
    assert_string_equal(message(f, 2),
                        "spec.yaml:3:8: warning: no measured efficiency for 'b100'; using 0.80 "
                        "of the bandwidth and 0.75 of the bf16 peak");
    f->d = diag_new(f->a);
    g = load(f, "gb10"); /* the tool prints none, a program sees one */
    assert_int_equal(g.memory_usable_bytes, 122480ull << 20);
    assert_int_equal(g.memory_total_bytes, g.memory_usable_bytes);
}

static void efficiency_fallbacks(void **state)
{
    struct fixture *f = *state;
    struct gpu g = load(f, "mi300x"); /* measured products, no measured bandwidth */

    assert_true(close_to(g.gemm_bf16_ratio, 0.511));
    assert_string_equal(message(f, 1), "spec.yaml:3:8: warning: no measured share of the "
                                       "bandwidth for 'mi300x'; using 0.80");
    assert_true(gpu_inline(f->a,
                           doc_of(f, "{memory: 1GiB, bandwidth: 1TB/s, fp16: 1TFLOPS, "
                                     "architecture: cdna3}"),
                           f->d, &g));
    assert_true(close_to(g.gemm_bf16_ratio, 0.55));
    f->d = diag_new(f->a);
    assert_true(gpu_inline(f->a,
                           doc_of(f, "{memory: 1GiB, bandwidth: 1TB/s, name: x, "
                                     "efficiency: {decode_bandwidth: 0.5}}"),
                           f->d, &g));
    assert_true(close_to(g.decode_bandwidth_ratio, 0.5));
    assert_int_equal(diag_count(f->d), 1);
    assert_string_equal(message(f, 0), "spec.yaml:1:1: warning: no measured share of the bf16 "
                                       "peak for 'x'; using 0.75");
}

static void inline_maps(void **state)
{
    struct fixture *f = *state;
    struct gpu g;

    assert_true(gpu_inline(
        f->a, doc_of(f, "{memory: 24GiB, bandwidth: 936GB/s, fp16: 71TFLOPS}"), f->d, &g));
    assert_int_equal(g.memory_total_bytes, 24ull << 30);
    assert_int_equal(g.memory_usable_bytes, 24ull << 30);
    assert_true(close_to(g.bandwidth_bytes_per_s, 936e9));
    assert_true(close_to(g.peak_flop_per_s[GPU_FP16], 71e12));
    assert_int_equal(g.confidence, GPU_CONFIDENCE_GIVEN);
    assert_string_equal(g.name, "gpu");
    assert_string_equal(g.origin[GPU_FACT_BANDWIDTH].source, "given");
    assert_null(g.origin[GPU_FACT_LINK].source);
    assert_true(g.link_bytes_per_s == 0);
    assert_int_equal(diag_count(f->d), 1); /* default efficiencies */
    f->d = diag_new(f->a);
    assert_true(gpu_inline(f->a,
                           doc_of(f, "{memory: 24GiB, link: 25GB/s, pcie_generation: 3, "
                                     "efficiency: {kernel_launch: 5us, link: 0.9}, "
                                     "l2: {value: 4MiB, source: a log}}"),
                           f->d, &g));
    assert_int_equal(diag_count(f->d), 0);
    assert_true(close_to(g.link_bytes_per_s, 25e9));
    assert_true(close_to(g.link_ratio, 0.9));
    assert_true(close_to(g.kernel_launch_s, 5e-6));
    assert_string_equal(g.origin[GPU_FACT_L2].source, "a log");
    assert_true(gpu_inline(f->a, doc_of(f, "{memory_usable: 23GiB, fp8: ~}"), f->d, &g));
    assert_int_equal(g.memory_total_bytes, 23ull << 30);
}

static void inline_refused(void **state)
{
    static const char *const cases[][2] = {
        {"{memory: 24GiB, bandwith: 1GB/s}",
         "1:17: error: unknown key 'bandwith' in gpu; did you mean 'bandwidth'?"},
        {"{memory: 24GiB, shoe_size: 44}", "1:17: error: unknown key 'shoe_size' in gpu"},
        {"{memory: 24GiB, efficiency: {gemm_bf17: 1}}",
         "1:30: error: unknown key 'gemm_bf17' in gpu.efficiency; did you mean 'gemm_bf16'?"},
        {"{memory: 24GiB, efficiency: 0.8}", "1:29: error: 'efficiency' in gpu must be a map"},
        {"{bandwidth: 1GB/s}", "1:1: error: required key 'memory' is missing in gpu"},
        {"[1]", "1:1: error: a gpu must be a map"},
        {"{memory: 24GiB, memory_total: 24GiB}",
         "1:17: error: 'memory' and 'memory_total' in gpu are the same"},
        {"{memory: 24GiB, l2: {value: 1, note: x}}",
         "1:32: error: unknown key 'note' in gpu.l2"},
        {"{memory: 24GiB, l2: {source: x}}", "1:21: error: 'l2' in gpu needs a value"},
        {"{memory: 24G}", "1:10: error: 'memory' in gpu: '24G' is ambiguous: write "
                          "24GB (10^9 bytes) or 24GiB (2^30 bytes)"},
        {"{memory: -1}", "1:10: error: 'memory' in gpu must not be negative, found "
                         "'-1'"},
        {"{memory: 1GiB, fp16: 71GB}",
         "1:22: error: 'fp16' in gpu: expected a rate such as 989TFLOPS, "
         "found '71GB'"},
        {"{memory: 1GiB, pcie_generation: 7}",
         "1:33: error: 'pcie_generation' in gpu must be between "
         "1 and 6, found 7"},
        {"{memory: 1GiB, pcie_generation: 0}",
         "1:33: error: 'pcie_generation' in gpu must be between "
         "1 and 6, found 0"},
        {"{memory: 1GiB, pcie_lanes: 33}",
         "1:28: error: 'pcie_lanes' in gpu must be between 1 and "
         "32, found 33"},
        {"{memory: 1GiB, efficiency: {gemm_bf16: 1.5}}",
         "1:40: error: 'gemm_bf16' in gpu.efficiency must be between "
         "0.01 and 1, found 1.5"},
        {"{memory: 1GiB, efficiency: {link: 0}}",
         "1:35: error: 'link' in gpu.efficiency must be between "
         "0.01 and 1, found 0"},
        {"{memory: 1GiB, peer_latency: 2s}",
         "1:30: error: 'peer_latency' in gpu must be between 0s and 1s, found 2s"},
        {"{memory: 1GiB, peer_bandwidth: 16GB}",
         "1:32: error: 'peer_bandwidth' in gpu: expected a rate such as 936GB/s, found '16GB'"},
        {"{memory: 1GiB, efficiency: {attention: 2}}",
         "1:40: error: 'attention' in gpu.efficiency must be between 0.01 and 1, found 2"},
        {"{memory: 1GiB, confidence: D}",
         "1:28: error: 'confidence' in gpu must be one of A, B, "
         "C, given, found 'D'; did you mean 'A'?"},
        {"{memory: 1GiB, name: [a]}",
         "1:22: error: 'name' in gpu: expected a text, found a list"},
        {"{memory: 1GiB, l2: {value: 1MiB, source: [a]}}",
         "1:42: error: 'source': expected a text, found a list"},
        {"{memory: 1GiB, l2: [1]}", "1:20: error: 'l2' in gpu: expected a size such as 80GiB "
                                    "or 24GB, found a list"},
    };
    struct fixture *f = *state;
    struct gpu g;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        f->d = diag_new(f->a);
        assert_false(gpu_inline(f->a, doc_of(f, cases[i][0]), f->d, &g));
        assert_int_equal(diag_count(f->d), 1);
        assert_string_equal(message(f, 0), arena_printf(f->a, "spec.yaml:%s", cases[i][1]));
    }
}

/* All problems are reported, not only the first. */
static void inline_all_refused(void **state)
{
    struct fixture *f = *state;
    struct gpu g;

    assert_false(gpu_inline(f->a, doc_of(f, "{memory: 80G, fp16: x, foo: 1}"), f->d, &g));
    assert_int_equal(diag_errors(f->d), 3);
    assert_int_equal(diag_exit(f->d), 3);
}

static void unknown_gpu(void **state)
{
    struct fixture *f = *state;
    struct gpu g;

    assert_false(gpu_load(f->a, f->p, "h10", here, f->d, &g));
    assert_int_equal(diag_count(f->d), 1);
    assert_non_null(
        strstr(message(f, 0), "spec.yaml:3:8: error: unknown GPU 'h10'; did you mean '"));
}

static void peaks(void **state)
{
    struct fixture *f = *state;
    struct gpu t4 = load(f, "t4"), h100 = load(f, "h100"), ada = load(f, "rtx-4090");
    struct gpu b200 = load(f, "b200"), none = {0};
    enum gpu_dtype used;

    assert_true(close_to(gpu_peak_flop_per_s(&t4, GPU_BF16, &used), 65e12));
    assert_int_equal(used, GPU_FP16);
    assert_true(close_to(gpu_peak_flop_per_s(&h100, GPU_FP4, &used), 1979e12));
    assert_int_equal(used, GPU_FP8);
    assert_true(close_to(gpu_peak_flop_per_s(&h100, GPU_FP16_ACC16, NULL), 989e12));
    assert_true(close_to(gpu_peak_flop_per_s(&ada, GPU_FP16_ACC16, &used), 330.3e12));
    assert_int_equal(used, GPU_FP16_ACC16);
    assert_true(close_to(gpu_peak_flop_per_s(&b200, GPU_FP4, &used), 9000e12));
    assert_int_equal(used, GPU_FP4);
    assert_true(gpu_peak_flop_per_s(&none, GPU_FP8, &used) == 0);
    assert_int_equal(gpu_gemm_fact(GPU_TF32), GPU_FACT_GEMM_BF16);
    assert_int_equal(gpu_gemm_fact(GPU_INT8), GPU_FACT_GEMM_INT8);
    assert_true(close_to(gpu_gemm_ratio(&b200, GPU_FP4), 0.373));
    assert_true(close_to(gpu_gemm_ratio(&b200, GPU_FP8), 0.409));
    assert_true(close_to(gpu_gemm_ratio(&b200, GPU_FP16), 0.688));
}

/* Between cards: what was measured of this one; over NVLink half of both directions at the
 * link's share, and a launch; over PCIe 15.92 of 63.02 GB/s and 13.2 us, as measured on a host
 * as shipped; nothing where no link is known. */
static void peers(void **state)
{
    struct fixture *f = *state;
    struct gpu h100 = load(f, "h100"), ada = load(f, "rtx-4090"),
               server = load(f, "rtx-pro-6000-server"), g;

    assert_true(close_to(h100.peer_bytes_per_s, 900e9 / 2 * 0.8));
    assert_true(close_to(h100.peer_latency_s, 3e-6));
    assert_true(h100.origin[GPU_FACT_PEER_BANDWIDTH].is_default);
    assert_true(close_to(ada.peer_bytes_per_s, ada.link_bytes_per_s * 15.92 / 63.02));
    assert_true(close_to(ada.peer_latency_s, 13.2e-6));
    assert_non_null(strstr(ada.origin[GPU_FACT_PEER_BANDWIDTH].source, "a host as shipped"));
    assert_true(close_to(server.peer_bytes_per_s, 15.92e9));
    assert_true(close_to(server.peer_latency_s, 13.2e-6));
    assert_false(server.origin[GPU_FACT_PEER_LATENCY].is_default);
    /* a faster host link moves a default, not a measurement */
    assert_true(close_to(gpu_peer_bytes_per_s(&ada, 63.02e9), 15.92e9));
    assert_true(close_to(gpu_peer_bytes_per_s(&server, 100e9), 15.92e9));
    assert_true(close_to(gpu_peer_bytes_per_s(&h100, 100e9), 360e9));
    assert_true(gpu_inline(
        f->a, doc_of(f, "{memory: 24GiB, peer_bandwidth: 40GB/s, peer_latency: 8us}"), f->d,
        &g));
    assert_true(close_to(g.peer_bytes_per_s, 40e9));
    assert_true(close_to(g.peer_latency_s, 8e-6));
    assert_true(gpu_inline(f->a, doc_of(f, "{memory: 24GiB}"), f->d, &g));
    assert_true(g.peer_bytes_per_s == 0);
    assert_null(g.origin[GPU_FACT_PEER_BANDWIDTH].source);
}

/* The Server Edition has slower memory than the Workstation Edition (12481 MHz x 2 x 512 bits);
 * attention has a share of its own where it was timed, else that of the products. */
static void editions(void **state)
{
    struct fixture *f = *state;
    struct gpu server = load(f, "NVIDIA RTX PRO 6000 Blackwell Server Edition"),
               workstation = load(f, "rtx-pro-6000"), h100 = load(f, "h100");

    assert_string_equal(server.name, "rtx-pro-6000-blackwell-server");
    assert_true(server.bandwidth_bytes_per_s > 12481e6 * 2 * 512 / 8 * 0.9999 &&
                server.bandwidth_bytes_per_s < 12481e6 * 2 * 512 / 8 * 1.0001);
    assert_true(close_to(workstation.bandwidth_bytes_per_s, 1792e9));
    assert_true(close_to(server.attention_ratio, 0.58));
    assert_false(server.origin[GPU_FACT_ATTENTION].is_default);
    assert_true(close_to(h100.attention_ratio, h100.gemm_bf16_ratio));
    assert_string_equal(h100.origin[GPU_FACT_ATTENTION].source,
                        "default: as efficiency.gemm_bf16");
    assert_string_equal(gpu_fact_key(GPU_FACT_ATTENTION), "efficiency.attention");
    assert_string_equal(gpu_fact_key(GPU_FACT_LINK_SHARE), "efficiency.link");
}

/* Rates after line coding, 16 lanes: 4, 8, 15.75, 31.5, 63 and 121 GB/s. */
static void pcie(void **state)
{
    static const double want_gb[] = {0, 4, 8, 15.753846, 31.507692, 63.015385, 121};

    (void)state;
    for (uint64_t g = 0; g <= 6; g++) {
        double got = gpu_pcie_bytes_per_s(g, 16) / 1e9;
        assert_true(got >= want_gb[g] - 1e-6 && got <= want_gb[g] + 1e-6);
        assert_true(close_to(gpu_pcie_bytes_per_s(g, 8) * 2, gpu_pcie_bytes_per_s(g, 16)));
    }
    assert_true(gpu_pcie_bytes_per_s(7, 16) == 0);
}

static void narrow_slot(void **state)
{
    struct fixture *f = *state;
    struct gpu g = load(f, "b60");

    assert_int_equal(g.pcie_lanes, 8);
    assert_true(close_to(g.link_bytes_per_s, gpu_pcie_bytes_per_s(5, 8)));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(known_figures),
        T(origins),
        T(all_load),
        T(memory_table),
        T(memory_fallbacks),
        T(efficiency_fallbacks),
        T(inline_maps),
        T(inline_refused),
        T(inline_all_refused),
        T(unknown_gpu),
        T(peaks),
        T(peers),
        T(editions),
        T(pcie),
        T(narrow_slot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
