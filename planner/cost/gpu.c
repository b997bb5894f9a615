/* GPU profiles into figures: one table row a figure binds its key; what is missing falls back
 * to a stated default and is said so. */
#include "planner/cost/gpu.h"

#include <string.h>

#include "planner/doc/bind.h"

/* Shares of the peaks where a profile has no measured ones. A judgement between the median and
 * the 90th percentile of public kernel timings, not tested against whole serving runs. */
#define DEFAULT_SOURCE                                                                         \
    "default: a judgement from public kernel timings (ai-dynamo/aiconfigurator@095f58a5)"
static const double default_bandwidth_ratio = 0.80;
static const double default_gemm_bf16_ratio = 0.75;
static const double default_gemm_cdna3_ratio =
    0.55; /* stas00/ml-engineering@744d01e1, MI300X and MI325X */
static const double default_gemm_fp8_ratio = 0.60;
static const double default_gemm_fp4_ratio = 0.50;
static const double default_kernel_launch_s = 3e-6;

/* Copies between pinned host memory and the device: packet headers and flow control take a
 * fifth of the line rate. A judgement, not a measurement. */
static const double default_link_ratio = 0.80;

/* All-reduce between two cards on PCIe 5.0 x16 of a host as shipped (NCCL in a CUDA graph): the
 * time is 13.2 us + bytes / 15.92 GB/s, of 63.0. A second host gives 22.2 GB/s of bus bandwidth
 * and 24 us with eight cards (voipmonitor/rtx6kpro@070506ff, NCCL as installed). Without ACS
 * and IOMMU the first reaches 35.7 GB/s (LLMServingSim@1b2cc02d), and hosts with PCIe switches
 * or more NCCL channels 37.6 to 41.1: hardware.peer_link says so. */
static const double default_peer_ratio = 15.92 / 63.02;
static const double default_peer_latency_s = 13.2e-6;
#define PEER_SOURCE                                                                            \
    "measured on a host as shipped, PCIe 5.0 x16 (casys-kaist/LLMServingSim@e08dc388); about " \
    "twice that without ACS and IOMMU or behind PCIe switches"

static const char *const confidences[] = {"A", "B", "C", "given", NULL};
static const char *const dtypes[GPU_DTYPES] = {"fp32", "tf32", "fp16", "fp16_acc16",
                                               "bf16", "fp8",  "int8", "fp4"};

static const struct field words[] = {
    FIELD(struct gpu, name, "name", F_TEXT, 0, 0, NULL, "name of the profile"),
    FIELD(struct gpu, vendor, "vendor", F_TEXT, 0, 0, NULL, "nvidia, amd, intel, apple"),
    FIELD(struct gpu, architecture, "architecture", F_TEXT, 0, 0, NULL, "hopper, cdna3, ..."),
    FIELD(struct gpu, compute_capability, "compute_capability", F_TEXT, 0, 0, NULL,
          "\"9.0\", \"gfx942\""),
    FIELD_CHOICE(struct gpu, confidence, "confidence", confidences, NULL, "A, B, C or given"),
};
enum { WORDS = sizeof words / sizeof *words };

#define FACT(member, key, type, lo, hi, text)                                                  \
    FIELD(struct gpu, member, key, type, lo, hi, NULL, text)
#define PEAK(t, key, text)                                                                     \
    [GPU_FACT_PEAK + (t)] = FACT(peak_flop_per_s[t], key, F_FLOPS, 1, 0, text)
#define SHARE(member, key, text) FACT(member, key, F_NUMBER, 0.01, 1, text)

static const struct field facts[GPU_FACTS] = {
    [GPU_FACT_MEMORY_MARKETING] = FACT(memory_marketing_bytes, "memory_marketing", F_BYTES, 1,
                                       0, "as on the product page"),
    [GPU_FACT_MEMORY_TOTAL] = FACT(memory_total_bytes, "memory_total", F_BYTES, 1, 0,
                                   "as nvidia-smi or rocm-smi prints"),
    [GPU_FACT_MEMORY_USABLE] =
        FACT(memory_usable_bytes, "memory_usable", F_BYTES, 1, 0, "the total a program sees"),
    [GPU_FACT_BANDWIDTH] =
        FACT(bandwidth_bytes_per_s, "bandwidth", F_RATE, 1, 0, "of the memory"),
    PEAK(GPU_FP32, "fp32", "peak rate without tensor cores"),
    PEAK(GPU_TF32, "tf32", "dense peak rate"),
    PEAK(GPU_FP16, "fp16", "dense peak rate, fp32 accumulation"),
    PEAK(GPU_FP16_ACC16, "fp16_acc16", "dense peak rate, fp16 accumulation"),
    PEAK(GPU_BF16, "bf16", "dense peak rate"),
    PEAK(GPU_FP8, "fp8", "dense peak rate"),
    PEAK(GPU_INT8, "int8", "dense peak rate"),
    PEAK(GPU_FP4, "fp4", "dense peak rate"),
    [GPU_FACT_L2] = FACT(l2_bytes, "l2", F_BYTES, 1, 0, "level 2 cache"),
    [GPU_FACT_MULTIPROCESSORS] =
        FACT(multiprocessors, "multiprocessors", F_U64, 1, 0, "SMs or compute units"),
    [GPU_FACT_NVLINK] =
        FACT(nvlink_bytes_per_s, "nvlink", F_RATE, 1, 0, "both directions together"),
    [GPU_FACT_PCIE_GENERATION] = FACT(pcie_generation, "pcie_generation", F_U64, 1, 6, "1..6"),
    [GPU_FACT_PCIE_LANES] = FACT(pcie_lanes, "pcie_lanes", F_U64, 1, 32, "16 unless said"),
    [GPU_FACT_LINK] = FACT(link_bytes_per_s, "link", F_RATE, 1, 0, "host link, one direction"),
    [GPU_FACT_PEER_BANDWIDTH] = FACT(peer_bytes_per_s, "peer_bandwidth", F_RATE, 1, 0,
                                     "bus bandwidth of an all-reduce between two cards"),
    [GPU_FACT_PEER_LATENCY] = FACT(peer_latency_s, "peer_latency", F_SECONDS, 0, 1,
                                   "of a small all-reduce between two cards"),
    [GPU_FACT_POWER] = FACT(power_w, "power", F_NUMBER, 1, 0, "W"),
    [GPU_FACT_DECODE_BANDWIDTH] = SHARE(decode_bandwidth_ratio, "decode_bandwidth",
                                        "share of the bandwidth reached by decode attention"),
    [GPU_FACT_WEIGHT_BANDWIDTH] = SHARE(weight_bandwidth_ratio, "weight_bandwidth",
                                        "share of the bandwidth reached by thin products"),
    [GPU_FACT_GEMM_BF16] = SHARE(gemm_bf16_ratio, "gemm_bf16", "share of the peak reached"),
    [GPU_FACT_GEMM_FP8] = SHARE(gemm_fp8_ratio, "gemm_fp8", "share of the peak reached"),
    [GPU_FACT_GEMM_INT8] = SHARE(gemm_int8_ratio, "gemm_int8", "share of the peak reached"),
    [GPU_FACT_GEMM_FP4] = SHARE(gemm_fp4_ratio, "gemm_fp4", "share of the peak reached"),
    [GPU_FACT_ATTENTION] = SHARE(attention_ratio, "attention",
                                 "share of the bf16 peak reached by attention over a prompt"),
    [GPU_FACT_LINK_SHARE] =
        SHARE(link_ratio, "link", "share of the host link reached by copies"),
    [GPU_FACT_KERNEL_LAUNCH] = FACT(kernel_launch_s, "kernel_launch", F_SECONDS, 0, 1,
                                    "time from one kernel to the next"),
};

const char *gpu_fact_key(enum gpu_fact f)
{
    static const char *const efficiency[] = {
        "efficiency.decode_bandwidth", "efficiency.weight_bandwidth",
        "efficiency.gemm_bf16",        "efficiency.gemm_fp8",
        "efficiency.gemm_int8",        "efficiency.gemm_fp4",
        "efficiency.attention",        "efficiency.link",
        "efficiency.kernel_launch"};

    return f < GPU_FACT_DECODE_BANDWIDTH ? facts[f].key
                                         : efficiency[f - GPU_FACT_DECODE_BANDWIDTH];
}

double gpu_fact_value(const struct gpu *g, enum gpu_fact f)
{
    const void *at = (const char *)g + facts[f].offset;

    if (facts[f].type == F_BYTES || facts[f].type == F_U64)
        return (double)*(const uint64_t *)at;
    return *(const double *)at;
}

const char *gpu_dtype_name(enum gpu_dtype t)
{
    return dtypes[t];
}

const char *gpu_confidence_name(uint64_t confidence)
{
    return confidence <= GPU_CONFIDENCE_GIVEN ? confidences[confidence] : "";
}

/* ---- reading ---------------------------------------- */

struct reader {
    struct arena *a;
    struct diag *d;
    const char *source; /* of plain values */
    struct gpu *g;
};

static size_t find_fact(const char *key, size_t first, size_t end)
{
    if (first == 0 && strcmp(key, "memory") == 0)
        return GPU_FACT_MEMORY_TOTAL;
    while (first < end && strcmp(key, facts[first].key) != 0)
        first++;
    return first;
}

static bool unknown_key(const struct reader *r, const struct doc_node *n, size_t first,
                        size_t end)
{
    const char *names[GPU_FACTS + WORDS + 2];
    const char *what = first == 0 ? "gpu" : "gpu.efficiency", *near;
    size_t count = 0;

    for (size_t i = first; i < end; i++)
        names[count++] = facts[i].key;
    for (size_t i = 0; first == 0 && i < WORDS; i++)
        names[count++] = words[i].key;
    if (first == 0) {
        names[count++] = "memory";
        names[count++] = "efficiency";
    }
    near = doc_nearest(n->key, names, count);
    if (near)
        return diag_add(r->d, DIAG_INPUT, n->key_at,
                        "unknown key '%s' in %s; did you mean '%s'?", n->key, what, near);
    return diag_add(r->d, DIAG_INPUT, n->key_at, "unknown key '%s' in %s", n->key, what);
}

/* One figure: a plain value, or {value, source}. */
static bool read_fact(const struct reader *r, const struct doc_node *n, size_t f)
{
    const struct doc_node *value = n;
    const char *source = r->source;
    struct field field = facts[f];

    if (doc_is_null(n))
        return true;
    if (n->kind == DOC_MAP) {
        value = doc_get(n, "value");
        if (!doc_text(doc_get(n, "source"), r->d, &source))
            return false;
        for (const struct doc_node *c = n->first; c; c = c->next)
            if (strcmp(c->key, "value") != 0 && strcmp(c->key, "source") != 0)
                return diag_add(r->d, DIAG_INPUT, c->key_at, "unknown key '%s' in gpu.%s",
                                c->key, gpu_fact_key((enum gpu_fact)f));
        if (!value)
            return diag_add(r->d, DIAG_INPUT, n->at, "'%s' in gpu needs a value", n->key);
    }
    field.key = n->key; /* `memory` stands for `memory_total` */
    if (!bind_value(r->a, value, f < GPU_FACT_DECODE_BANDWIDTH ? "gpu" : "gpu.efficiency",
                    &field, r->d, r->g))
        return false;
    r->g->origin[f] = (struct gpu_origin){source, false};
    return true;
}

static bool read_efficiency(const struct reader *r, const struct doc_node *map)
{
    bool ok = true;

    if (map->kind != DOC_MAP)
        return diag_add(r->d, DIAG_INPUT, map->at, "'efficiency' in gpu must be a map");
    for (const struct doc_node *n = map->first; n; n = n->next) {
        size_t f = find_fact(n->key, GPU_FACT_DECODE_BANDWIDTH, GPU_FACTS);
        ok = (f < GPU_FACTS ? read_fact(r, n, f)
                            : unknown_key(r, n, GPU_FACT_DECODE_BANDWIDTH, GPU_FACTS)) &&
             ok;
    }
    return ok;
}

static const struct field *find_word(const char *key)
{
    for (size_t i = 0; i < WORDS; i++)
        if (strcmp(key, words[i].key) == 0)
            return &words[i];
    return NULL;
}

static bool read_key(const struct reader *r, const struct doc_node *n)
{
    const struct field *word = find_word(n->key);
    size_t f;

    if (strcmp(n->key, "aliases") == 0 || strcmp(n->key, "notes") == 0 ||
        strcmp(n->key, "sources") == 0)
        return true;
    if (strcmp(n->key, "efficiency") == 0)
        return read_efficiency(r, n);
    if (word)
        return bind_value(r->a, n, "gpu", word, r->d, r->g);
    f = find_fact(n->key, 0, GPU_FACT_DECODE_BANDWIDTH);
    if (f == GPU_FACT_DECODE_BANDWIDTH)
        return unknown_key(r, n, 0, GPU_FACT_DECODE_BANDWIDTH);
    if (r->g->origin[f].source)
        return diag_add(r->d, DIAG_INPUT, n->key_at,
                        "'memory' and 'memory_total' in gpu are the same");
    return read_fact(r, n, f);
}

/* ---- what is missing ---------------------------------------- */

double gpu_pcie_bytes_per_s(uint64_t generation, uint64_t lanes)
{
    static const double gt_per_s[] = {0, 2.5, 5, 8, 16, 32, 64};
    double coding;

    if (generation == 0 || generation > 6)
        return 0;
    if (generation < 3)
        coding = 8.0 / 10; /* 8b/10b */
    else if (generation < 6)
        coding = 128.0 / 130;
    else
        coding = 242.0 / 256; /* flits: 236 bytes of packets and 6 of link data */
    return gt_per_s[generation] * 1e9 * (double)lanes * coding / 8;
}

double gpu_peer_bytes_per_s(const struct gpu *g, double host_link_bytes_per_s)
{
    const struct gpu_origin *o = &g->origin[GPU_FACT_PEER_BANDWIDTH];

    if (o->source && !o->is_default)
        return g->peer_bytes_per_s;
    if (g->nvlink_bytes_per_s > 0)
        return g->nvlink_bytes_per_s / 2 * g->link_ratio;
    return host_link_bytes_per_s * default_peer_ratio;
}

static void assume(struct gpu *g, enum gpu_fact f, double value)
{
    if (g->origin[f].source)
        return;
    *(double *)((char *)g + facts[f].offset) = value;
    g->origin[f] = (struct gpu_origin){DEFAULT_SOURCE, true};
}

static void fill_peer(struct gpu *g)
{
    bool nvlink = g->nvlink_bytes_per_s > 0;
    struct gpu_origin *bandwidth = &g->origin[GPU_FACT_PEER_BANDWIDTH];
    struct gpu_origin *latency = &g->origin[GPU_FACT_PEER_LATENCY];

    if (!bandwidth->source && (nvlink || g->link_bytes_per_s > 0)) {
        g->peer_bytes_per_s = gpu_peer_bytes_per_s(g, g->link_bytes_per_s);
        *bandwidth = (struct gpu_origin){
            nvlink ? "default: one direction of the links, times efficiency.link"
                   : "default: 0.25 of the PCIe link, " PEER_SOURCE,
            true};
    }
    if (latency->source)
        return;
    g->peer_latency_s = nvlink ? g->kernel_launch_s : default_peer_latency_s;
    *latency = (struct gpu_origin){
        nvlink ? "default: a kernel launch" : "default: 13.2 us, " PEER_SOURCE, true};
}

static void fill_defaults(struct arena *a, struct gpu *g)
{
    bool cdna3 = strcmp(g->architecture, "cdna3") == 0;

    assume(g, GPU_FACT_DECODE_BANDWIDTH, default_bandwidth_ratio);
    assume(g, GPU_FACT_WEIGHT_BANDWIDTH, default_bandwidth_ratio);
    assume(g, GPU_FACT_GEMM_BF16, cdna3 ? default_gemm_cdna3_ratio : default_gemm_bf16_ratio);
    assume(g, GPU_FACT_GEMM_FP8, default_gemm_fp8_ratio);
    assume(g, GPU_FACT_GEMM_INT8, default_gemm_fp8_ratio);
    assume(g, GPU_FACT_GEMM_FP4, default_gemm_fp4_ratio);
    assume(g, GPU_FACT_KERNEL_LAUNCH, default_kernel_launch_s);
    if (!g->origin[GPU_FACT_ATTENTION].source) {
        g->attention_ratio = g->gemm_bf16_ratio;
        g->origin[GPU_FACT_ATTENTION] =
            (struct gpu_origin){"default: as efficiency.gemm_bf16", true};
    }
    if (!g->origin[GPU_FACT_LINK_SHARE].source) {
        g->link_ratio = default_link_ratio;
        g->origin[GPU_FACT_LINK_SHARE] =
            (struct gpu_origin){"default: a judgement, not a measurement", true};
    }
    if (g->pcie_generation > 0 && g->pcie_lanes == 0) {
        g->pcie_lanes = 16;
        g->origin[GPU_FACT_PCIE_LANES] = (struct gpu_origin){"default: a full slot", true};
    }
    if (g->pcie_generation > 0 && !g->origin[GPU_FACT_LINK].source) {
        g->link_bytes_per_s = gpu_pcie_bytes_per_s(g->pcie_generation, g->pcie_lanes);
        g->origin[GPU_FACT_LINK] =
            (struct gpu_origin){arena_printf(a, "PCIe %d.0 x%d after line coding, one way",
                                             (int)g->pcie_generation, (int)g->pcie_lanes),
                                true};
    }
    fill_peer(g);
}

/* The memory chain: what a program sees, else what the driver's tool prints, else the product
 * page. */
static bool fill_memory(struct gpu *g, struct loc at, struct diag *d)
{
    struct gpu_origin *o = g->origin;

    if (!o[GPU_FACT_MEMORY_TOTAL].source && o[GPU_FACT_MEMORY_USABLE].source) {
        g->memory_total_bytes = g->memory_usable_bytes;
        o[GPU_FACT_MEMORY_TOTAL] = (struct gpu_origin){o[GPU_FACT_MEMORY_USABLE].source, true};
        return true;
    }
    if (!o[GPU_FACT_MEMORY_TOTAL].source && o[GPU_FACT_MEMORY_MARKETING].source) {
        g->memory_total_bytes = g->memory_marketing_bytes;
        o[GPU_FACT_MEMORY_TOTAL] =
            (struct gpu_origin){o[GPU_FACT_MEMORY_MARKETING].source, true};
        diag_add(d, DIAG_WARN, at,
                 "only the product page tells the memory of '%s' (unverified)", g->name);
    }
    if (!o[GPU_FACT_MEMORY_TOTAL].source)
        return diag_add(d, DIAG_INPUT, at, "required key 'memory' is missing in gpu");
    if (o[GPU_FACT_MEMORY_USABLE].source)
        return true;
    g->memory_usable_bytes = g->memory_total_bytes;
    o[GPU_FACT_MEMORY_USABLE] = (struct gpu_origin){o[GPU_FACT_MEMORY_TOTAL].source, true};
    if (g->confidence != GPU_CONFIDENCE_GIVEN && !o[GPU_FACT_MEMORY_TOTAL].is_default)
        diag_add(
            d, DIAG_NOTE, at,
            "no total seen by a program is known for '%s'; using what the driver prints, which "
            "on other devices is 244 to 728 MiB more",
            g->name);
    return true;
}

static void tell_defaults(const struct gpu *g, struct loc at, struct diag *d)
{
    bool bandwidth = g->origin[GPU_FACT_DECODE_BANDWIDTH].is_default;
    bool gemm = g->origin[GPU_FACT_GEMM_BF16].is_default;
    double b = g->decode_bandwidth_ratio, p = g->gemm_bf16_ratio;

    if (g->confidence == GPU_CONFIDENCE_C)
        diag_add(d, DIAG_WARN, at, "the figures of '%s' are unverified", g->name);
    if (g->bandwidth_bytes_per_s <= 0)
        return;
    if (bandwidth && gemm)
        diag_add(
            d, DIAG_WARN, at,
            "no measured efficiency for '%s'; using %.2f of the bandwidth and %.2f of the bf16 "
            "peak",
            g->name, b, p);
    else if (bandwidth)
        diag_add(d, DIAG_WARN, at, "no measured share of the bandwidth for '%s'; using %.2f",
                 g->name, b);
    else if (gemm)
        diag_add(d, DIAG_WARN, at, "no measured share of the bf16 peak for '%s'; using %.2f",
                 g->name, p);
}

static bool read_gpu(const struct reader *r, const struct doc_node *map, struct loc at)
{
    struct gpu *g = r->g;
    bool ok = true;

    *g = (struct gpu){.name = "gpu",
                      .vendor = "",
                      .architecture = "",
                      .compute_capability = "",
                      .confidence = GPU_CONFIDENCE_GIVEN};
    if (map->kind != DOC_MAP)
        return diag_add(r->d, DIAG_INPUT, map->at, "a gpu must be a map");
    for (const struct doc_node *n = map->first; n; n = n->next)
        ok = read_key(r, n) && ok;
    if (!ok || !fill_memory(g, at, r->d))
        return false;
    fill_defaults(r->a, g);
    tell_defaults(g, at, r->d);
    return true;
}

bool gpu_load(struct arena *a, const struct profiles *p, const char *name, struct loc at,
              struct diag *d, struct gpu *out)
{
    const struct doc_node *doc = profile_require(p, PROFILE_GPU, name, at, d);
    struct reader r = {a, d, NULL, out};

    if (!doc)
        return false;
    r.source = doc->at.file ? doc->at.file : "profile";
    return read_gpu(&r, doc, at);
}

bool gpu_inline(struct arena *a, const struct doc_node *map, struct diag *d, struct gpu *out)
{
    struct reader r = {a, d, "given", out};

    return read_gpu(&r, map, map->at);
}

/* ---- derived ---------------------------------------- */

double gpu_peak_flop_per_s(const struct gpu *g, enum gpu_dtype want, enum gpu_dtype *used)
{
    /* Narrow types without a unit of their own are widened first, as kernels do. */
    static const enum gpu_dtype chains[GPU_DTYPES][5] = {
        [GPU_FP32] = {GPU_FP32, GPU_FP32, GPU_FP32, GPU_FP32, GPU_FP32},
        [GPU_TF32] = {GPU_TF32, GPU_FP32, GPU_FP32, GPU_FP32, GPU_FP32},
        [GPU_FP16] = {GPU_FP16, GPU_BF16, GPU_FP32, GPU_FP32, GPU_FP32},
        [GPU_FP16_ACC16] = {GPU_FP16_ACC16, GPU_FP16, GPU_BF16, GPU_FP32, GPU_FP32},
        [GPU_BF16] = {GPU_BF16, GPU_FP16, GPU_FP32, GPU_FP32, GPU_FP32},
        [GPU_FP8] = {GPU_FP8, GPU_BF16, GPU_FP16, GPU_FP32, GPU_FP32},
        [GPU_INT8] = {GPU_INT8, GPU_BF16, GPU_FP16, GPU_FP32, GPU_FP32},
        [GPU_FP4] = {GPU_FP4, GPU_FP8, GPU_BF16, GPU_FP16, GPU_FP32},
    };
    enum gpu_dtype t = want;

    for (size_t i = 0; i < 5; i++) {
        t = chains[want][i];
        if (g->peak_flop_per_s[t] > 0)
            break;
    }
    if (used)
        *used = t;
    return g->peak_flop_per_s[t];
}

enum gpu_fact gpu_gemm_fact(enum gpu_dtype t)
{
    switch (t) {
    case GPU_FP8: return GPU_FACT_GEMM_FP8;
    case GPU_INT8: return GPU_FACT_GEMM_INT8;
    case GPU_FP4: return GPU_FACT_GEMM_FP4;
    case GPU_FP32:
    case GPU_TF32:
    case GPU_FP16:
    case GPU_FP16_ACC16:
    case GPU_BF16: break;
    }
    return GPU_FACT_GEMM_BF16;
}

double gpu_gemm_ratio(const struct gpu *g, enum gpu_dtype t)
{
    return gpu_fact_value(g, gpu_gemm_fact(t));
}
