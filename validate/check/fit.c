/* fit - how many sequences really fit: the largest batch whose weights, cache and workspace can
 * be allocated, prompts and decode steps run in it, against the planner's weights and cache
 * plus the decoder's own workspace (activations, tables, partial results), which no plan
 * predicts and the decoder declares. Under --memory-limit a large device stands in for a
 * smaller one; on the CPU build a limit for a few sequences is taken where none is given. */
#include "kernels/gemm.h"
#include "planner/base/unit.h"
#include "planner/plan/capacity.h"
#include "validate/count.h"
#include "validate/decoder.h"

#define CPU_BYTES_MAX ((uint64_t)256 << 20)
#define WEIGHTS_TOLERANCE 1e-3 /* the vocabulary of a rank is rounded up */

enum { CPU_PROMPT = 28, CPU_OUTPUT = 3, CPU_SEQUENCES = 2, SEQUENCES_MAX = 65535, MANY = 10 };

struct fit_case {
    const struct check_in *in;
    struct findings *out;
    const struct problem *p;
    struct problem rows; /* the same without what schemes compute, which the decoder declares */
    struct stage stage;  /* the only one, its rows paged one by one */
    struct workload load;
    uint64_t weights_bytes; /* predicted, or handed in (memory.per_gpu.weights_bytes) */
    uint64_t room_bytes;
    uint64_t gemm_bytes; /* what products want besides */
    uint32_t predicted, measured;
    struct decoder_memory memory; /* of the largest batch that ran */
};

static struct finding like(const struct fit_case *x, const char *what, enum quantity q)
{
    return (struct finding){.spec = x->in->subject->name,
                            .check = "fit",
                            .what = what,
                            .level = LEVEL_FIT,
                            .quantity = q};
}

static struct decoder_setting setting(const struct fit_case *x, uint32_t sequences)
{
    return (struct decoder_setting){.sequences = sequences,
                                    .prompt = (uint32_t)x->load.prompt,
                                    .output = (uint32_t)x->load.output,
                                    .seed = x->in->seed};
}

/* --- predicted ------------------------------------------------------------------------------
 */

static uint64_t cache_bytes(const struct fit_case *x, uint64_t sequences, struct ck *ck)
{
    struct need need;

    capacity_need(&x->rows, &x->stage, &x->load, &need, ck);
    return need_bytes(&need, sequences, ck);
}

/* What the decoder needs beyond the planner's terms, what aligns its arrays included: declared,
 * not predicted. Its pools are there from the start, so that rows of a prompt that are dropped
 * later cannot stand where layers that have not run yet will put theirs, as the planner has it
 * where a prompt never is the peak. */
static uint64_t rest_bytes(const struct fit_case *x, uint32_t sequences)
{
    struct decoder_setting set = setting(x, sequences);
    struct decoder_memory m;
    struct device_text why;
    struct need need;
    struct ck ck = {0};
    uint64_t scratch;

    if (!decoder_need(x->p, &set, &m, &why))
        return UINT64_MAX;
    capacity_need(&x->rows, &x->stage, &x->load, &need, &ck);
    scratch = need.prefill_bytes > need.sequence_bytes ? 0 : m.scratch_bytes;
    return m.total_bytes + x->gemm_bytes - m.weights_bytes -
           (m.cache_bytes - m.cache_gap_bytes) - m.scratch_bytes + scratch;
}

static uint64_t total_bytes(const struct fit_case *x, uint32_t sequences)
{
    struct ck ck = {0};
    uint64_t sum = ck_add(&ck, x->weights_bytes, cache_bytes(x, sequences, &ck));

    sum = ck_add(&ck, sum, rest_bytes(x, sequences));
    return ck.over ? UINT64_MAX : sum;
}

/* The most sequences whose total is at most `bytes`. */
static uint32_t predict(const struct fit_case *x, uint64_t bytes)
{
    uint32_t low = 0, high = SEQUENCES_MAX + 1;

    while (high - low > 1) {
        uint32_t mid = low + (high - low) / 2;
        if (total_bytes(x, mid) <= bytes)
            low = mid;
        else
            high = mid;
    }
    return low;
}

/* --- measured -------------------------------------------------------------------------------
 */

/* Opens, prefills and decodes that many; *fits: whether memory sufficed. The device is opened
 * anew each time, so that nothing of an earlier try is left. */
static enum device_status try_batch(struct fit_case *x, uint32_t sequences, bool run,
                                    bool *fits)
{
    struct device_options o = {.limit_bytes = x->room_bytes, .timeout_s = x->in->timeout_s};
    struct decoder_setting set = setting(x, sequences);
    struct decoder *decoder = NULL;
    struct device_text why;
    struct device *d;
    enum device_status s = device_open(x->in->device_name, &o, &d, &why);

    *fits = false;
    if (s != DEVICE_OK)
        return device_refuse(x->in->device, s, "%s", why.text);
    s = decoder_open(d, x->p, &set, &decoder);
    if (s == DEVICE_OK && run)
        s = decoder_prefill(decoder);
    if (s == DEVICE_OK && run)
        s = decoder_decode(decoder, set.output);
    if (s == DEVICE_OK && run)
        s = device_sync(d);
    *fits = s == DEVICE_OK;
    if (*fits)
        decoder_get_memory(decoder, &x->memory);
    if (s != DEVICE_OK) /* the report asks the first device why */
        (void)device_refuse(x->in->device, s, "%s", device_error(d));
    decoder_close(decoder);
    device_close(d);
    return s == DEVICE_OUT_OF_MEMORY ? DEVICE_OK : s;
}

/* The largest batch whose memory can be had, looked for from the predicted one outwards, in
 * steps that double, then by bisection. */
static enum device_status bisect(struct fit_case *x, uint32_t *out)
{
    uint32_t low = 0, high = 0, at = x->predicted ? x->predicted : 1, step = 1;
    enum device_status s = DEVICE_OK;

    while (s == DEVICE_OK && (!high || high - low > 1)) {
        bool fits;
        s = try_batch(x, at, false, &fits);
        low = fits ? at : low;
        high = fits ? high : at;
        if (!high)
            at = at + step < SEQUENCES_MAX ? at + step : SEQUENCES_MAX;
        else if (!low)
            at = at > step ? at - step : 1;
        else
            at = low + (high - low) / 2;
        step *= 2;
        if (low == SEQUENCES_MAX || high == 1)
            break;
    }
    *out = low;
    return s;
}

/* A batch that can be allocated but not run does not fit. */
static enum device_status measure(struct fit_case *x)
{
    bool fits = false;
    enum device_status s = bisect(x, &x->measured);

    while (s == DEVICE_OK && x->measured && !fits) {
        s = try_batch(x, x->measured, true, &fits);
        if (!fits)
            x->measured--;
    }
    return s;
}

/* --- the check ------------------------------------------------------------------------------
 */

/* Few tokens, but a tail of KIVI that is as good as full: it is allocated whole. */
static uint64_t cpu_prompt(const struct fit_case *x)
{
    const struct fold *f = &x->stage.fold;
    uint64_t n = CPU_PROMPT;

    for (uint32_t i = 0; i < f->n_stores; i++)
        n = u64_max(n, 2 * (uint64_t)f->stores[i].row.k_format.residual_tokens);
    return n > CPU_PROMPT ? n - CPU_OUTPUT - 1 : n;
}

static void take_load(struct fit_case *x)
{
    const struct workload *w = &x->p->workload;
    bool cpu = x->in->info.is_cpu;
    struct ck ck = {0};

    x->weights_bytes =
        x->p->spec->given.weights_bytes != UINT64_MAX
            ? x->p->spec->given.weights_bytes
            : ck_add(&ck, x->stage.work.weights_bytes, x->stage.work.copied_bytes);
    x->load = *w;
    x->load.shared_prefix = 0;
    x->load.prompt = u64_max(cpu ? u64_min(w->prompt, cpu_prompt(x)) : w->prompt, 1);
    x->load.output = u64_max(cpu ? u64_min(w->output, CPU_OUTPUT) : w->output, 1);
    x->gemm_bytes = gemm_work_bytes(x->in->device);
    x->room_bytes = x->in->info.free_bytes;
    if (!cpu && x->p->spec->hardware.memory_limit)
        x->room_bytes = u64_min(x->room_bytes, x->p->spec->hardware.memory_limit);
    if (x->in->limit_bytes)
        x->room_bytes = u64_min(x->room_bytes, x->in->limit_bytes);
    else if (cpu) /* half a sequence more than some */
        x->room_bytes = total_bytes(x, CPU_SEQUENCES) +
                        (total_bytes(x, CPU_SEQUENCES + 1) - total_bytes(x, CPU_SEQUENCES)) / 2;
}

/* A tail of KIVI is allocated whole; what a rule leaves may fill less of it. */
static bool tail_is_cut(const struct layout *l)
{
    for (uint32_t i = 0; i < l->n_rows; i++)
        if (l->rows[i].readers && l->rows[i].keep.prompt &&
            l->rows[i].k_format.residual != RESIDUAL_NONE)
            return true;
    return false;
}

/* Kernels are loaded at their first launch, and take memory that is free until then. */
static enum device_status settle_room(struct fit_case *x)
{
    struct device_info info;
    bool fits;
    enum device_status s = x->in->info.is_cpu ? DEVICE_OK : try_batch(x, 1, true, &fits);

    if (s == DEVICE_OK)
        s = device_get_info(x->in->device, &info);
    if (s == DEVICE_OK && !x->in->info.is_cpu)
        x->room_bytes = u64_min(x->room_bytes, info.free_bytes);
    return s;
}

/* What no size of a batch would change. */
static const char *refuses(const struct problem *p)
{
    if (p->n_stages > 1)
        return "one GPU cannot stand in for a pipeline of them";
    if (p->offload > 0 || p->host_layers)
        return "nothing is kept in host memory here";
    if (p->engine->need)
        return "the engine lays a cache out in its own way, the decoder in pages";
    if (tail_is_cut(&p->layout))
        return "the decoder allocates KIVI's tail whole, of which a rule may leave less";
    return NULL;
}

static const char *too_large(const struct fit_case *x)
{
    struct decoder_setting set = setting(x, 1);
    struct decoder_memory m;
    struct device_text why;

    if (!decoder_need(x->p, &set, &m, &why))
        return arena_strdup(x->out->arena, why.text);
    if (x->in->info.is_cpu && (m.total_bytes > CPU_BYTES_MAX || x->room_bytes > CPU_BYTES_MAX))
        return "too large for the CPU build";
    return NULL;
}

static void compare(struct fit_case *x)
{
    struct arena *a = x->out->arena;
    struct finding largest;
    char room[32];
    const char *what;
    /* one sequence of many may be lost to whole pages and aligned allocations */
    double tolerance = x->predicted < MANY ? 0 : 1.0 / x->predicted;

    unit_format_bytes(x->room_bytes, room, sizeof room);
    what = arena_printf(a, "sequences of %llu + %llu tokens in %s",
                        (unsigned long long)x->load.prompt, (unsigned long long)x->load.output,
                        room);
    largest = like(x, what, QUANTITY_SEQUENCES);
    largest.summary = SUMMARY_BATCH;
    (void)finding_within(x->out, largest, x->predicted, x->measured, tolerance);
    if (x->measured)
        (void)finding_within(
            x->out, like(x, "bytes of weights", QUANTITY_BYTES), (double)x->weights_bytes,
            (double)(x->memory.weights_bytes - x->memory.gap_bytes), WEIGHTS_TOLERANCE);
}

static enum device_status run(const struct check_in *in, struct findings *out)
{
    struct fit_case x = {.in = in, .out = out, .p = in->subject->problem};
    const char *bad = refuses(x.p);
    enum device_status s;

    x.rows = *x.p;
    x.rows.n_uses = 0;
    x.rows.stages = &x.stage;
    x.stage = x.p->stages[0];
    x.stage.pool.block_bytes = 0;
    if (!bad) {
        take_load(&x);
        bad = too_large(&x);
    }
    if (bad) {
        finding_waive(out, like(&x, "the largest batch", QUANTITY_SEQUENCES), "%s", bad);
        return DEVICE_OK;
    }
    s = settle_room(&x);
    x.predicted = predict(&x, x.room_bytes);
    if (s == DEVICE_OK)
        s = measure(&x);
    if (s == DEVICE_OK)
        compare(&x);
    return s;
}

const struct check check_fit = {
    .name = "fit",
    .summary = "the largest batch that really allocates and decodes is the one predicted",
    .level = LEVEL_FIT,
    .whole = true,
    .run = run,
};
