/* The probes, one after the other, each on memory of its own that is freed before the next. */
#include "validate/calibrate.h"

#include <math.h>

#include "kernels/copy.h"
#include "kernels/decode.h"
#include "kernels/gemm.h"
#include "kernels/prefill.h"
#include "kernels/weight.h"
#include "planner/cost/gpu.h"
#include "planner/doc/emit.h"
#include "validate/paged.h"

/* Six queries to a K/V head and products of 6,144 are none of the shapes that are judged. */
enum {
    HEADS = CALIBRATE_KV_HEADS,
    Q_HEADS = CALIBRATE_HEADS,
    DIM = CALIBRATE_HEAD_DIM,
    PAGE_TOKENS = 16,
    BLOCKS_A_PROCESSOR = 8
};
enum { SMALL_ALLOCATIONS = 64, SMALL_BYTES = 256 };

struct calibrate_size calibrate_size_gpu(void)
{
    return (struct calibrate_size){.copy_bytes = (uint64_t)2 << 30,
                                   .gemm = CALIBRATE_GEMM,
                                   .narrow_rows = 8,
                                   .narrow_bytes = (uint64_t)512 << 20,
                                   .sequences = 64,
                                   .tokens = 8192,
                                   .prompt = 8192,
                                   .launches = 1000};
}

struct probe {
    struct device *d;
    struct arena *a;
    struct timer timer;
    struct rng rng;
    const struct calibrate_size *size;
    struct calibration *out;
    struct copy_args copy;
    struct gemm_args gemm;
    struct weight_args weight;
    struct decode_args decode;
    struct prefill_args prefill;
    uint32_t launches;
};

static enum device_status timed(struct probe *p, enum device_status (*fn)(void *arg),
                                double *seconds)
{
    struct timing t;
    enum device_status s = timer_run(&p->timer, fn, p, &t);

    if (s != DEVICE_OK)
        return s;
    *seconds = t.median_s;
    if (t.median_s > 0)
        p->out->spread = fmax(p->out->spread, t.mad_s / t.median_s);
    return DEVICE_OK;
}

static double rate(double amount, double seconds)
{
    return seconds > 0 ? amount / seconds : 0;
}

/* --- memory ---------------------------------------------------------------------------------
 */

static enum device_status run_copy(void *arg)
{
    struct probe *p = arg;

    return copy_run(p->d, &p->copy);
}

static enum device_status run_stream(void *arg)
{
    struct probe *p = arg;

    return stream_run(p->d, &p->copy);
}

static enum device_status probe_copy(struct probe *p)
{
    uint64_t bytes = p->size->copy_bytes / 16 * 16;
    uint32_t processors = p->out->info.multiprocessors ? p->out->info.multiprocessors : 1;
    double seconds = 0;
    void *from, *to = NULL;
    enum device_status s = device_alloc(p->d, bytes, TAG_WORK, &from);

    if (s == DEVICE_OK)
        s = device_alloc(p->d, bytes, TAG_WORK, &to);
    if (s == DEVICE_OK)
        s = device_fill(p->d, from, 1, bytes);
    p->copy = (struct copy_args){.from = from,
                                 .to = to,
                                 .from_tag = TAG_WORK,
                                 .to_tag = TAG_WORK,
                                 .bytes = bytes,
                                 .blocks = BLOCKS_A_PROCESSOR * processors};
    if (s == DEVICE_OK)
        s = timed(p, run_copy, &seconds);
    p->out->copy_bytes_per_s = rate(2.0 * (double)bytes, seconds);
    if (s == DEVICE_OK)
        s = timed(p, run_stream, &seconds);
    p->out->stream_bytes_per_s = rate((double)bytes, seconds);
    return s;
}

/* --- products -------------------------------------------------------------------------------
 */

static enum device_status run_gemm(void *arg)
{
    struct probe *p = arg;

    return gemm_run(p->d, &p->gemm);
}

static enum device_status product(struct probe *p, uint32_t rows, uint32_t outs, uint32_t in,
                                  double *seconds)
{
    uint64_t work_bytes = gemm_work_bytes(p->d);
    void *out = NULL, *work = NULL;
    enum device_status s;

    p->gemm = (struct gemm_args){
        .rows = rows, .outs = outs, .in = in, .work_bytes = work_bytes, .w_tag = TAG_WEIGHTS};
    s = paged_random(p->d, p->a, &p->rng, (uint64_t)rows * in, &p->gemm.x);
    if (s == DEVICE_OK)
        s = paged_random(p->d, p->a, &p->rng, (uint64_t)outs * in, &p->gemm.w);
    if (s == DEVICE_OK)
        s = device_alloc(p->d, (uint64_t)rows * outs * 2, TAG_ACTIVATION, &out);
    if (s == DEVICE_OK && work_bytes)
        s = device_alloc(p->d, work_bytes, TAG_WORK, &work);
    p->gemm.out = out;
    p->gemm.work = work;
    return s == DEVICE_OK ? timed(p, run_gemm, seconds) : s;
}

static enum device_status probe_gemm(struct probe *p)
{
    uint32_t n = p->size->gemm;
    double seconds = 0;
    enum device_status s = product(p, n, n, n, &seconds);

    p->out->gemm_flop_per_s = rate(2.0 * n * n * n, seconds);
    return s;
}

static enum device_status probe_weights(struct probe *p)
{
    uint32_t in = p->size->gemm;
    uint32_t outs = (uint32_t)(p->size->narrow_bytes / 2 / in / 8 * 8);
    double seconds = 0;
    enum device_status s = product(p, p->size->narrow_rows, outs, in, &seconds);

    p->out->weight_bytes_per_s = rate(2.0 * outs * in, seconds);
    return s;
}

static enum device_status run_weight(void *arg)
{
    struct probe *p = arg;

    return weight_run(p->d, &p->weight);
}

/* A narrow product with the same number of weights, stored in that way. */
static enum device_status stored(struct probe *p, struct weight_view w, double *bytes_per_s)
{
    struct weight_args a = {.w = w, .rows = p->size->narrow_rows};
    struct weight_fill_args fill;
    uint64_t bytes = weight_bytes(&w);
    double seconds = 0;
    void *at = NULL;
    enum device_status s = device_alloc(p->d, bytes, TAG_WEIGHTS, &at);

    weight_place(&a.w, at);
    fill = (struct weight_fill_args){.w = a.w, .seed = rng_next(&p->rng)};
    a.splits = weight_splits(a.rows, w.outs, w.in, p->out->info.multiprocessors);
    if (s == DEVICE_OK)
        s = weight_fill_run(p->d, &fill);
    if (s == DEVICE_OK)
        s = paged_random(p->d, p->a, &p->rng, (uint64_t)a.rows * w.in, &a.x);
    if (s == DEVICE_OK)
        s = device_alloc(p->d, 2 * (uint64_t)a.rows * w.outs, TAG_ACTIVATION, &a.out);
    if (s == DEVICE_OK && a.splits > 1)
        s = device_alloc(p->d, weight_work_bytes(&a), TAG_WORK, &a.work);
    p->weight = a;
    if (s == DEVICE_OK)
        s = timed(p, run_weight, &seconds);
    *bytes_per_s = rate((double)bytes, seconds);
    return s;
}

static enum device_status probe_stored(struct probe *p)
{
    struct weight_view fp8 = {.kind = WEIGHT_FP8, .in = p->size->gemm}, int4;
    enum device_status s;

    fp8.outs = (uint32_t)(p->size->narrow_bytes / fp8.in / 8 * 8);
    int4 = fp8;
    int4.kind = WEIGHT_INT4_GROUP;
    int4.group = 128;
    s = stored(p, fp8, &p->out->fp8_bytes_per_s);
    return s == DEVICE_OK ? stored(p, int4, &p->out->int4_bytes_per_s) : s;
}

/* --- attention ------------------------------------------------------------------------------
 */

static enum device_status run_decode(void *arg)
{
    struct probe *p = arg;

    return decode_run(p->d, &p->decode);
}

static enum device_status run_prefill(void *arg)
{
    struct probe *p = arg;

    return prefill_run(p->d, &p->prefill);
}

static enum device_status open_cache(struct probe *p, uint32_t sequences, uint32_t tokens,
                                     struct paged *out)
{
    struct format bf16 = format_plain("bf16", 2);
    struct cache_row row = {.stream = STREAM_KV,
                            .readers = 1,
                            .q_heads = Q_HEADS,
                            .kv_heads = HEADS,
                            .stored_heads = HEADS,
                            .k_dim = DIM,
                            .v_dim = DIM,
                            .k_format = bf16,
                            .v_format = bf16};
    struct paged_in in = {&row, sequences, tokens, PAGE_TOKENS};
    enum device_status s = paged_open(p->d, p->a, &in, &p->rng, out);

    return s == DEVICE_OK ? paged_lengths(p->d, out, tokens, &p->rng) : s;
}

static enum device_status probe_decode(struct probe *p)
{
    uint32_t sequences = p->size->sequences, tokens = p->size->tokens;
    uint64_t rows = (uint64_t)sequences * Q_HEADS;
    struct paged cache;
    double seconds = 0;
    void *work = NULL;
    enum device_status s = open_cache(p, sequences, tokens, &cache);

    p->decode =
        (struct decode_args){.c = cache.view, .q_heads = Q_HEADS, .scale = 1.0f / sqrtf(DIM)};
    p->decode.splits =
        decode_splits((uint64_t)sequences * HEADS, tokens, p->out->info.multiprocessors);
    if (s == DEVICE_OK)
        s = paged_random(p->d, p->a, &p->rng, rows * DIM, &p->decode.q);
    if (s == DEVICE_OK)
        s = device_alloc(p->d, 2 * rows * DIM, TAG_ACTIVATION, &p->decode.out);
    if (s == DEVICE_OK && p->decode.splits > 1)
        s = device_alloc(p->d, decode_work_bytes(&p->decode), TAG_WORK, &work);
    p->decode.work = work;
    if (s == DEVICE_OK)
        s = timed(p, run_decode, &seconds);
    p->out->cache_bytes_per_s = rate(4.0 * sequences * tokens * HEADS * DIM, seconds);
    return s;
}

static enum device_status probe_prefill(struct probe *p)
{
    uint32_t n = p->size->prompt, first[2] = {0, n}, offset = 0;
    uint64_t rows = (uint64_t)n * Q_HEADS;
    struct paged cache;
    double seconds = 0;
    enum device_status s = open_cache(p, 1, n, &cache);

    p->prefill = (struct prefill_args){
        .c = cache.view, .q_heads = Q_HEADS, .longest = n, .scale = 1.0f / sqrtf(DIM)};
    if (s == DEVICE_OK)
        s = paged_put(p->d, TAG_TABLES, first, sizeof first, &p->prefill.first);
    if (s == DEVICE_OK)
        s = paged_put(p->d, TAG_TABLES, &offset, sizeof offset, &p->prefill.offset);
    if (s == DEVICE_OK)
        s = paged_random(p->d, p->a, &p->rng, rows * DIM, &p->prefill.q);
    if (s == DEVICE_OK)
        s = device_alloc(p->d, 2 * rows * DIM, TAG_ACTIVATION, &p->prefill.out);
    if (s == DEVICE_OK)
        s = timed(p, run_prefill, &seconds);
    p->out->attention_flop_per_s = rate(2.0 * Q_HEADS * 2 * DIM * n * (n + 1.0) / 2, seconds);
    return s;
}

/* --- overheads ------------------------------------------------------------------------------
 */

static enum device_status run_launches(void *arg)
{
    struct probe *p = arg;

    return device_replay(p->d);
}

static enum device_status record_launches(struct probe *p)
{
    enum device_status s = device_record(p->d), end;

    for (uint32_t i = 0; i < p->launches && s == DEVICE_OK; i++)
        s = copy_run(p->d, &p->copy);
    end = device_recorded(p->d);
    return s == DEVICE_OK ? end : s;
}

/* Launches back to back in one graph, as decode steps are run: what the queue adds to kernels
 * that do next to nothing. */
static enum device_status probe_launch(struct probe *p)
{
    double seconds = 0;
    void *from = NULL, *to = NULL;
    enum device_status s = device_alloc(p->d, SMALL_BYTES, TAG_WORK, &from);

    if (s == DEVICE_OK)
        s = device_alloc(p->d, SMALL_BYTES, TAG_WORK, &to);
    if (s == DEVICE_OK)
        s = device_fill(p->d, from, 0, SMALL_BYTES);
    p->copy = (struct copy_args){from, to, TAG_WORK, TAG_WORK, SMALL_BYTES, 1};
    p->launches = p->size->launches;
    if (s == DEVICE_OK)
        s = record_launches(p);
    if (s == DEVICE_OK)
        s = timed(p, run_launches, &seconds);
    p->out->launch_s = seconds / p->launches;
    return s;
}

/* Free memory before and after many small allocations. The driver hands out large pieces and
 * cuts them, so that this is the mean of what one takes. */
static enum device_status probe_granularity(struct probe *p)
{
    struct device_info before, after;
    enum device_status s = device_get_info(p->d, &before);
    void *at;

    for (int i = 0; i < SMALL_ALLOCATIONS && s == DEVICE_OK; i++)
        s = device_alloc(p->d, SMALL_BYTES, TAG_WORK, &at);
    if (s == DEVICE_OK)
        s = device_get_info(p->d, &after);
    if (s == DEVICE_OK && before.free_bytes > after.free_bytes)
        p->out->granularity_bytes = (before.free_bytes - after.free_bytes) / SMALL_ALLOCATIONS;
    return s;
}

/* --- all of them ----------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    enum device_status (*run)(struct probe *p);
} probes[] = {
    {"allocation granularity", probe_granularity},
    {"copy and stream", probe_copy},
    {"a large product", probe_gemm},
    {"a narrow product", probe_weights},
    {"a narrow product with stored weights", probe_stored},
    {"decode attention", probe_decode},
    {"prefill attention", probe_prefill},
    {"launch latency", probe_launch},
};

bool calibrate_measure(struct device *d, struct arena *a, const struct calibrate_size *size,
                       struct diag *diag, struct calibration *out)
{
    struct probe p = {.d = d, .a = a, .size = size, .out = out};
    enum device_status s;

    *out = (struct calibration){.launch_s = 0};
    s = device_get_info(d, &out->info);
    for (size_t i = 0; i < sizeof probes / sizeof *probes && s == DEVICE_OK; i++) {
        s = timer_open(d, a, &out->info, &p.timer);
        if (s == DEVICE_OK)
            s = probes[i].run(&p);
        if (s != DEVICE_OK)
            return diag_add(diag, DIAG_DEVICE, (struct loc){0}, "%s: %s: %s", out->info.name,
                            probes[i].name, device_error(d));
        device_free_all(d);
    }
    return s == DEVICE_OK ||
           diag_add(diag, DIAG_DEVICE, (struct loc){0}, "%s", device_error(d));
}

/* --- the profile ----------------------------------------------------------------------------
 */

struct writer {
    struct arena *a;
    struct doc_node *root;
    const struct calibrate_on *on;
    struct diag *d;
    bool ok;
};

static void put(struct writer *w, const char *key, const char *value, const char *how)
{
    const char *source =
        arena_printf(w->a, "measured: %s (kvbudget calibrate, %s; driver %s; commit %s)", how,
                     w->on->date, w->on->driver, w->on->commit);

    w->ok = doc_set(w->a, w->root, key,
                    arena_printf(w->a, "{value: %s, source: %s}", value,
                                 doc_emit_scalar(w->a, source)),
                    w->d) &&
            w->ok;
}

/* A share of a peak, at most 1; nothing where either is not known. */
static void put_share(struct writer *w, const char *key, double measured, double peak,
                      const char *unit, const char *what)
{
    double share = peak > 0 ? fmin(measured / peak, 1) : 0;

    if (share < 0.01)
        return;
    put(w, key, arena_printf(w->a, "%.3f", share),
        arena_printf(w->a, "%s: %.0f of %.0f %s", what, measured / 1e9, peak / 1e9, unit));
}

static void text_node(struct arena *a, struct doc_node *map, const char *key, const char *text)
{
    struct doc_node *n = doc_new(a, DOC_SCALAR, map->at);

    n->key = key;
    n->text = text;
    n->quoted = true;
    doc_append(map, n);
}

/* The known profile, or what the device says of itself with measured peaks. */
static struct doc_node *base_of(struct writer *w, const struct calibration *c,
                                const struct profiles *known)
{
    const struct doc_node *doc = profile_find(known, PROFILE_GPU, c->info.name, w->d);

    if (doc)
        return doc_copy(w->a, doc);
    w->root = doc_new(w->a, DOC_MAP, (struct loc){0});
    text_node(w->a, w->root, "name", arena_strdup(w->a, c->info.name));
    text_node(w->a, w->root, "vendor", "nvidia");
    text_node(w->a, w->root, "compute_capability",
              arena_printf(w->a, "%d.%d", c->info.major, c->info.minor));
    put(w, "memory_total", arena_printf(w->a, "%llu", (unsigned long long)c->info.total_bytes),
        "CUDA's total");
    put(w, "bandwidth", arena_printf(w->a, "%.0fGB/s", c->stream_bytes_per_s / 1e9),
        "a read-only stream");
    put(w, "bf16", arena_printf(w->a, "%.0fGFLOPS", c->gemm_flop_per_s / 1e9),
        "a large product");
    return w->root;
}

static char *notes_of(struct arena *a, const struct calibration *c)
{
    return arena_printf(
        a,
        "kvbudget calibrate: copy %.0f GB/s, read-only stream %.0f GB/s; products of 8 rows "
        "with fp8 weights read %.0f GB/s, with int4 in groups of 128 %.0f GB/s (kvbudget's own "
        "kernel); a small allocation takes %llu bytes; median distance at most %.2g of a "
        "median",
        c->copy_bytes_per_s / 1e9, c->stream_bytes_per_s / 1e9, c->fp8_bytes_per_s / 1e9,
        c->int4_bytes_per_s / 1e9, (unsigned long long)c->granularity_bytes, c->spread);
}

struct doc_node *calibrate_profile(struct arena *a, const struct calibration *c,
                                   const struct calibrate_on *on, const struct profiles *known,
                                   struct diag *d)
{
    struct writer w = {a, NULL, on, d, true};
    struct diag *own = diag_new(a); /* what a base lacks is about to be told */
    struct gpu gpu;
    double bf16;

    w.root = base_of(&w, c, known);
    if (!w.ok || !gpu_inline(a, w.root, own, &gpu))
        return NULL;
    bf16 = gpu_peak_flop_per_s(&gpu, GPU_BF16, NULL);
    put(&w, "memory_usable", arena_printf(a, "%llu", (unsigned long long)c->info.total_bytes),
        "CUDA's total");
    put_share(&w, "efficiency.decode_bandwidth", c->cache_bytes_per_s,
              gpu.bandwidth_bytes_per_s, "GB/s", "decode attention, bf16, GQA 6");
    put_share(&w, "efficiency.weight_bandwidth", c->weight_bytes_per_s,
              gpu.bandwidth_bytes_per_s, "GB/s", "a product of 8 rows");
    put_share(&w, "efficiency.gemm_bf16", c->gemm_flop_per_s, bf16, "GFLOP/s",
              "a large product");
    put_share(&w, "efficiency.attention", c->attention_flop_per_s, bf16, "GFLOP/s",
              "attention over a prompt");
    put(&w, "efficiency.kernel_launch", arena_printf(a, "%.3gus", c->launch_s * 1e6),
        "launches back to back in a graph");
    w.ok = doc_set(a, w.root, "notes", doc_emit_scalar(a, notes_of(a, c)), d) && w.ok;
    return w.ok ? w.root : NULL;
}
