/* counters - what the GPU's own counters say: bytes that decode attention and a whole step move
 * to and from DRAM against the planner's, matrix instructions of attention against the kernels'
 * formulas, those of a prompt against them and the planner's products. What is measured is at
 * least eight times the L2 cache, which is overwritten before and after, inside the range; what
 * that alone moves is counted first and taken off. A prompt's bytes are left out: its
 * activations come and go between L2 and DRAM as the tiles of its products ask, which no one
 * predicts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/decode.h"
#include "kernels/prefill.h"
#include "planner/base/unit.h"
#include "planner/plan/capacity.h"
#include "validate/count.h"
#include "validate/cupti.h"
#include "validate/decoder.h"
#include "validate/paged.h"

#define TOLERANCE 0.02

enum { L2_TIMES = 8, FLUSH_TIMES = 2, CLASSES_MAX = 4, WARM_UP = 2, PASSES_MAX = 16 };
enum { SEQUENCES_MIN = 2, SEQUENCES_MAX = 4096, STEP_SEQUENCES_MAX = 16, PAGE_TOKENS = 16 };

struct counters_case {
    const struct check_in *in;
    struct findings *out;
    struct cupti *cupti;
    void *flush;
    uint64_t flush_bytes;
    double flush_read, flush_written; /* what the flush alone moves */
    enum device_status (*work)(struct counters_case *x);
    enum device_status status;
    struct rng rng;
    struct paged store;
    struct decode_args args;
    struct decoder *decoder;
    uint32_t sequences;
};

static struct finding like(const struct counters_case *x, enum quantity q, const char *what)
{
    return (struct finding){.spec = x->in->subject->name,
                            .check = "counters",
                            .what = what,
                            .level = LEVEL_COUNTERS,
                            .quantity = q};
}

/* --- counting -------------------------------------------------------------------------------
 */

static bool flushed(void *user)
{
    struct counters_case *x = user;
    struct device *d = x->in->device;

    if (x->status == DEVICE_OK && x->flush)
        x->status = device_fill(d, x->flush, 0, x->flush_bytes);
    if (x->status == DEVICE_OK)
        x->status = device_sync(d);
    return x->status == DEVICE_OK;
}

static bool worked(void *user)
{
    struct counters_case *x = user;

    if (x->work)
        x->status = x->work(x);
    return flushed(x);
}

static enum device_status open_flush(struct counters_case *x)
{
    x->flush = NULL;
    x->flush_bytes = FLUSH_TIMES * x->in->info.l2_bytes;
    return x->flush_bytes ? device_alloc(x->in->device, x->flush_bytes, TAG_WORK, &x->flush)
                          : DEVICE_OK;
}

static bool count(struct counters_case *x, const enum counter *list, size_t n,
                  enum device_status (*work)(struct counters_case *x), double *values,
                  const char **reason)
{
    struct cupti_work w = {flushed, worked, x};

    x->work = work;
    x->status = DEVICE_OK;
    return cupti_count(x->cupti, list, n, &w, values, reason);
}

/* Bytes to and from DRAM without those of the flush. */
static bool count_bytes(struct counters_case *x,
                        enum device_status (*work)(struct counters_case *x), double *read,
                        double *written, const char **reason)
{
    static const enum counter list[] = {COUNTER_DRAM_READ, COUNTER_DRAM_WRITTEN};
    double values[2];

    if (!count(x, list, 2, work, values, reason))
        return false;
    *read = values[0] - x->flush_read;
    *written = values[1] - x->flush_written;
    return true;
}

/* Matrix instructions of either type, as far as the chip counts them. */
static bool count_tensor(struct counters_case *x,
                         enum device_status (*work)(struct counters_case *x), double *flop,
                         const char **reason)
{
    static const enum counter both[] = {COUNTER_TENSOR_BF16, COUNTER_TENSOR_FP16};
    enum counter list[2];
    double values[2] = {0, 0};
    const char *lacks = NULL;
    size_t n = 0;

    for (size_t i = 0; i < 2; i++) {
        const char *bad = cupti_lacks(x->cupti, both[i]);
        lacks = bad ? bad : lacks;
        if (!bad)
            list[n++] = both[i];
    }
    *reason = lacks;
    if (!n || !count(x, list, n, work, values, reason))
        return false;
    *flop = values[0] + values[1];
    return true;
}

/* A failure of the counters is a waiver; one of the work is the device's. */
static void judge(struct counters_case *x, struct finding f, bool counted, const char *reason,
                  const double *figures)
{
    if (counted)
        (void)finding_within(x->out, f, figures[0], figures[1], TOLERANCE);
    else if (reason)
        finding_waive(x->out, f, "%s", reason);
    else if (x->status == DEVICE_OK)
        x->status = DEVICE_FAULT;
}

static bool small(const struct counters_case *x, double bytes)
{
    return bytes < (double)L2_TIMES * (double)x->in->info.l2_bytes;
}

/* --- decode attention -----------------------------------------------------------------------
 */

static uint64_t attention_bytes(const struct counters_case *x, const struct read_class *c)
{
    const struct subject *s = x->in->subject;
    struct read_class alone = *c;
    struct fold one = {.slice = {1, 1, 0, 1}, .reads = &alone, .n_reads = 1};
    struct ck ck = {0};

    alone.count = 1;
    return fold_decode_read_bytes(&one, s->asked_prompt, s->asked_decoded, &ck);
}

static enum device_status attend(struct counters_case *x)
{
    return decode_run(x->in->device, &x->args);
}

static enum device_status prepare(struct counters_case *x, const struct read_class *c,
                                  const struct paged_in *in, uint32_t length)
{
    struct device *d = x->in->device;
    struct arena *a = x->out->arena;
    const struct cache_row *r = &c->reader;
    uint64_t rows = (uint64_t)in->sequences * r->q_heads;
    enum device_status s = open_flush(x);
    void *work = NULL;

    if (s == DEVICE_OK)
        s = paged_open(d, a, in, &x->rng, &x->store);
    if (s == DEVICE_OK)
        s = paged_lengths(d, &x->store, length, &x->rng);
    if (s != DEVICE_OK)
        return s;
    x->args = (struct decode_args){.c = x->store.view,
                                   .q_heads = r->q_heads,
                                   .splits = 4,
                                   .window_tokens = (uint32_t)r->window_tokens,
                                   .scale = 1.0f / sqrtf((float)r->score_dim)};
    s = paged_random(d, a, &x->rng, rows * x->store.view.k.dim, &x->args.q);
    if (s == DEVICE_OK)
        s = device_alloc(d, 2 * rows * x->store.view.v.dim, TAG_ACTIVATION, &x->args.out);
    if (s == DEVICE_OK)
        s = device_alloc(d, decode_work_bytes(&x->args), TAG_WORK, &work);
    x->args.work = work;
    return s;
}

static void compare_attention(struct counters_case *x, const char *name, double bytes)
{
    struct traffic formula = {.exps = 0};
    struct arena *a = x->out->arena;
    double read = 0, written = 0, flop = 0;
    const char *reason;
    bool ok = count_bytes(x, attend, &read, &written, &reason);

    judge(x, like(x, QUANTITY_BYTES, arena_printf(a, "DRAM bytes read, attention: %s", name)),
          ok, reason, (double[]){bytes, read});
    if (x->status != DEVICE_OK)
        return;
    decode_traffic(&x->args, x->store.lengths, &formula);
    ok = count_tensor(x, attend, &flop, &reason);
    judge(x, like(x, QUANTITY_FLOP, arena_printf(a, "matrix products, attention: %s", name)),
          ok, reason, (double[]){(double)formula.tensor_flop, flop});
}

static enum device_status run_class(struct counters_case *x, const struct read_class *c)
{
    const struct subject *s = x->in->subject;
    const struct cache_row *r = &c->reader;
    uint64_t bytes = attention_bytes(x, c), l2 = x->in->info.l2_bytes;
    uint64_t length = row_stored_tokens(&c->source, s->asked_prompt, s->asked_decoded) +
                      (r->diagonal_masked ? 0 : 1);
    uint64_t n = bytes ? ck_ceil_div(L2_TIMES * l2, bytes) : 0;
    struct paged_in in = {.row = &c->source, .page_tokens = PAGE_TOKENS};
    const char *name = count_name(x->out->arena, "", r, &c->source, c->count);
    struct finding f =
        like(x, QUANTITY_BYTES, arena_printf(x->out->arena, "attention%s", name));
    const char *bad = paged_refuses(&c->source);
    enum device_status status;

    if (r->select_tokens && length > r->select_tokens)
        length = r->select_tokens;
    if (!bad && (r->mixer == MIXER_CHUNKED || length > UINT32_MAX / 2 || !bytes))
        bad = "no kernel for rows like these";
    in.sequences = (uint32_t)u64_min(u64_max(n, SEQUENCES_MIN), SEQUENCES_MAX);
    in.room = (uint32_t)u64_min(length, UINT32_MAX / 2) + PAGE_TOKENS;
    if (!bad && (n > SEQUENCES_MAX || paged_bytes(&in) > x->in->info.free_bytes / 2))
        bad = "eight times the L2 cache is more than can be laid out";
    if (bad) {
        finding_waive(x->out, f, "%s", bad);
        return DEVICE_OK;
    }
    x->status = status = prepare(x, c, &in, (uint32_t)length);
    if (status == DEVICE_OK)
        compare_attention(x, name + 2, (double)in.sequences * (double)bytes);
    device_free_all(x->in->device);
    return x->status;
}

/* --- the decoder ----------------------------------------------------------------------------
 */

static enum device_status step(struct counters_case *x)
{
    return decoder_decode(x->decoder, 1);
}

static enum device_status prompts(struct counters_case *x)
{
    return decoder_prefill(x->decoder);
}

/* Why a step's bytes cannot be told from those of the L2 cache; NULL: they can. */
static const char *cached(const struct counters_case *x, double bytes)
{
    const struct subject *s = x->in->subject;
    struct ck ck = {0};

    if (small(x, bytes))
        return "it moves less than eight times the L2 cache";
    for (uint32_t i = 0; i < s->layout->n_rows; i++) {
        const struct cache_row *r = &s->layout->rows[i];
        uint64_t rows = row_stored_tokens(r, s->asked_prompt, WARM_UP);
        if (r->readers > 1 &&
            small(x, (double)row_bytes(r, s->asked_prompt, rows, &ck) * x->sequences))
            return "layers that share a cache may find it in L2: it is less than eight times that";
    }
    return NULL;
}

static void compare_step(struct counters_case *x)
{
    const struct subject *s = x->in->subject;
    const struct stage *stage = &s->problem->stages[0];
    struct op_tally t = {{0}, {0}};
    double bytes = 0, read = 0, written = 0;
    struct finding f =
        like(x, QUANTITY_BYTES,
             arena_printf(x->out->arena, "DRAM bytes moved, a step of %u sequences of %llu",
                          x->sequences, (unsigned long long)s->asked_prompt));
    const char *reason;
    bool ok;

    work_decode(&stage->work, &stage->fold, s->asked_prompt, WARM_UP, x->sequences, &t);
    for (int op = 0; op < N_OPS; op++)
        bytes += op == OP_ELEMENTWISE ? 0 : t.bytes[op];
    reason = cached(x, bytes);
    ok = !reason && count_bytes(x, step, &read, &written, &reason);
    judge(x, f, ok, reason, (double[]){bytes, read + written});
}

/* Matrix instructions of attention over a prompt in 16 bits: whole tiles, so that the kernel's
 * formula says how many, for all passes over the rows of the slices. */
static double prompt_attention(const struct counters_case *x, uint32_t n)
{
    const struct fold *fold = &x->in->subject->problem->stages[0].fold;
    double sum = 0;

    for (uint32_t i = 0; i < fold->n_reads; i++) {
        const struct read_class *c = &fold->reads[i];
        struct cache_row row = c->source;
        struct paged_in in = {&row, 1, n, PAGE_TOKENS};
        struct prefill_args a = {.q_heads = c->reader.q_heads,
                                 .longest = n,
                                 .hidden_tokens = c->reader.diagonal_masked,
                                 .window_tokens = (uint32_t)c->reader.window_tokens};
        struct traffic full = {.exps = 0}, last = {.exps = 0};
        if (c->reader.stream != STREAM_KV)
            continue;
        row.k_format = row.v_format = format_plain("bf16", 2);
        row.keep.ragged = false;
        paged_view(&in, &a.c);
        prefill_traffic(&a, (uint32_t[]){0, n}, (uint32_t[]){0}, &n, &full);
        prefill_traffic(&a, (uint32_t[]){0, 1}, (uint32_t[]){n - 1}, &n, &last);
        sum += (double)(c->passes - c->early_passes) * (double)full.tensor_flop +
               (double)c->early_passes * (double)last.tensor_flop;
    }
    return sum;
}

/* Convolutions and recurrences of a prompt, which are no matrix instructions. */
static double prompt_recurrences(const struct layout *l, double tokens)
{
    double sum = 0;

    for (uint32_t i = 0; i < l->n_layers; i++)
        sum += work_state_flop(&l->layers[i].state, l->model->hidden) *
               (i < l->exit_layer ? tokens : 1);
    return sum;
}

static void compare_prompt(struct counters_case *x)
{
    static const enum op ops[] = {OP_QKV, OP_OUT,     OP_INDEXER, OP_STATE,
                                  OP_MLP, OP_EXPERTS, OP_HEAD};
    const struct subject *s = x->in->subject;
    const struct stage *stage = &s->problem->stages[0];
    struct op_tally t = {{0}, {0}};
    double due = x->sequences * prompt_attention(x, (uint32_t)s->asked_prompt), flop = 0;
    struct finding f = like(x, QUANTITY_FLOP,
                            arena_printf(x->out->arena, "matrix products, %u prompts of %llu",
                                         x->sequences, (unsigned long long)s->asked_prompt));
    const char *stored = decoder_stored_format(x->decoder), *reason;
    bool ok;

    reason = stored ? arena_printf(x->out->arena,
                                   "products with weights in %s are kvbudget's own", stored)
                    : NULL;
    work_prompt(&stage->work, &stage->fold,
                (struct work_part){0, s->asked_prompt, x->sequences, true}, &t);
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        due += t.flop[ops[i]];
    due -= x->sequences * prompt_recurrences(s->layout, (double)s->asked_prompt);
    ok = !reason && count_tensor(x, prompts, &flop, &reason);
    judge(x, f, ok, reason, (double[]){due, flop});
}

static enum device_status run_decoder(struct counters_case *x)
{
    const struct subject *s = x->in->subject;
    struct decoder_setting set = {.prompt = (uint32_t)s->asked_prompt,
                                  .output = WARM_UP + PASSES_MAX,
                                  .seed = x->in->seed};
    struct finding f = like(x, QUANTITY_BYTES, "a decode step and prompts");
    struct device_text why = {"there is no prompt"};
    enum limit limit;
    uint64_t most = capacity_max_batch(s->problem, &s->problem->workload, &limit);

    if (!s->asked_prompt || s->problem->gpus > 1 || !decoder_supports(s->problem, &why)) {
        finding_waive(x->out, f, "%s",
                      s->problem->gpus > 1 ? "one GPU stands for no more" : why.text);
        return DEVICE_OK;
    }
    set.sequences = x->sequences = (uint32_t)u64_max(u64_min(most, STEP_SEQUENCES_MAX), 1);
    x->status = open_flush(x);
    if (x->status == DEVICE_OK)
        x->status = decoder_open(x->in->device, s->problem, &set, &x->decoder);
    if (x->status == DEVICE_OK)
        x->status = decoder_prefill(x->decoder);
    if (x->status == DEVICE_OK)
        x->status = decoder_decode(x->decoder, WARM_UP);
    if (x->status == DEVICE_OK)
        compare_step(x);
    if (x->status == DEVICE_OK)
        compare_prompt(x);
    decoder_close(x->decoder);
    device_free_all(x->in->device);
    if (x->status != DEVICE_OUT_OF_MEMORY)
        return x->status;
    finding_waive(x->out, f, "does not fit the memory that is free");
    return DEVICE_OK;
}

/* --- the check ------------------------------------------------------------------------------
 */

static const char *filter(const struct check_in *in)
{
    return in->info.is_cpu ? "needs a GPU; the CPU build counts every access itself" : NULL;
}

static unsigned device_index(const char *name)
{
    uint64_t n = 0;

    return !strncmp(name, "cuda:", 5) && unit_parse_u64(name + 5, &n) == UNIT_OK ? (unsigned)n
                                                                                 : 0;
}

/* What the flush moves; counters that cannot be read at all show here. */
static bool open_counters(struct counters_case *x, const char **reason)
{
    double read = 0, written = 0;
    bool ok;

    x->cupti = cupti_open(x->out->arena, device_index(x->in->device_name), reason);
    if (!x->cupti)
        return false;
    *reason = NULL;
    x->status = open_flush(x);
    ok = x->status == DEVICE_OK && count_bytes(x, NULL, &read, &written, reason);
    x->flush_read = read;
    x->flush_written = written;
    device_free_all(x->in->device);
    return ok;
}

static enum device_status run(const struct check_in *in, struct findings *out)
{
    const struct fold *fold = in->subject->fold;
    struct counters_case x = {.in = in, .out = out, .rng = {in->seed}};
    const char *reason = NULL;
    uint32_t done = 0;

    if (!open_counters(&x, &reason) && reason)
        finding_waive(out, like(&x, QUANTITY_BYTES, "hardware counters"), "%s", reason);
    else if (x.status == DEVICE_OK) {
        for (uint32_t i = 0; i < fold->n_reads && x.status == DEVICE_OK; i++)
            if (fold->reads[i].reader.stream != STREAM_STATE && done++ < CLASSES_MAX)
                x.status = run_class(&x, &fold->reads[i]);
        if (x.status == DEVICE_OK)
            x.status = run_decoder(&x);
    }
    cupti_close(x.cupti);
    return reason ? DEVICE_OK : x.status;
}

const struct check check_counters = {
    .name = "counters",
    .summary = "DRAM bytes and matrix instructions, by the GPU's counters, are those predicted",
    .level = LEVEL_COUNTERS,
    .filter = filter,
    .run = run,
};
