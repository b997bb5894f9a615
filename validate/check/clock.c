/* clock - what decode steps and a prompt take on the device, by its own clock, against the
 * roofline with the profile's efficiencies: those of `calibrate`, where it was run, which
 * measures other shapes. Whole steps are timed apart from the ops within them: a step is
 * replayed as one graph, as engines do, while marks between ops need their launches one by one.
 */
#include <string.h>

#include "planner/plan/capacity.h"
#include "validate/check.h"
#include "validate/decoder.h"
#include "validate/timing.h"

#define STEP_TOLERANCE 0.10
#define OP_TOLERANCE 0.15
#define PROMPT_TOLERANCE 0.08

enum { STEPS = TIMING_STEPS, BATCH_MAX = 64 };

struct clock_case {
    const struct check_in *in;
    struct findings *out;
    struct decoder *decoder;
    struct plan plan;
    double prompts_s; /* predicted, of all sequences */
    uint32_t sequences;
    struct timer timer; /* for its flush */
    double op_s[N_OPS]; /* of all steps watched */
    enum op *ops;       /* between the marks of one */
    uint32_t n_ops;
    enum device_status status;
};

static struct finding like(const struct clock_case *x, const char *what)
{
    return (struct finding){
        .spec = x->in->subject->name,
        .check = "clock",
        .what = arena_printf(x->out->arena, "%s, %u sequences of %llu", what, x->sequences,
                             (unsigned long long)x->in->subject->asked_prompt),
        .level = LEVEL_CLOCK,
        .quantity = QUANTITY_SECONDS};
}

static const char *filter(const struct check_in *in)
{
    const struct problem *p = in->subject->problem;

    if (in->info.is_cpu)
        return "needs a GPU: the times of the CPU build say nothing";
    if (!p->gpu_named)
        return "the spec names no GPU, so that no time is predicted";
    if (p->gpu.multiprocessors && p->gpu.multiprocessors != in->info.multiprocessors)
        return "the spec is for another GPU than this one";
    if (p->gpus > 1)
        return "one GPU has no collectives";
    return NULL;
}

/* Time between two marks belongs to the op that is told at the second. */
static void watched(void *user, const struct decoder_event *e)
{
    struct clock_case *x = user;

    if (x->status == DEVICE_OK)
        x->status = device_mark(x->in->device);
    if (x->status == DEVICE_OK)
        x->ops[x->n_ops++] = e->op;
}

/* A step as engines run it: recorded, and then replayed at once. The caches are flushed ahead
 * of it, which also gives the host time to get everything queued. */
static enum device_status time_step(struct clock_case *x, double *seconds)
{
    struct device *d = x->in->device;
    enum device_status s = device_record(d), end;

    if (s != DEVICE_OK)
        return s;
    s = decoder_decode(x->decoder, 1);
    end = device_recorded(d);
    s = s == DEVICE_OK ? end : s;
    if (s == DEVICE_OK && x->timer.flush)
        s = device_fill(d, x->timer.flush, 0, x->timer.flush_bytes);
    if (s == DEVICE_OK)
        s = device_timer_start(d);
    if (s == DEVICE_OK)
        s = device_replay(d);
    return s == DEVICE_OK ? device_timer_stop(d, seconds) : s;
}

/* Steps one by one: the median of their times. */
static enum device_status time_steps(struct clock_case *x, double *median)
{
    double v[STEPS];
    enum device_status s = decoder_decode(x->decoder, TIMING_WARM_UP);

    for (uint32_t i = 0; i < STEPS && s == DEVICE_OK; i++)
        s = time_step(x, &v[i]);
    *median = s == DEVICE_OK ? timing_median(v, STEPS) : 0;
    return s;
}

static enum device_status time_ops(struct clock_case *x)
{
    double *seconds = ARENA_NEW(x->out->arena, double, DEVICE_MARKS_MAX);
    struct device *d = x->in->device;
    enum device_status s = DEVICE_OK;
    uint32_t n = 0;

    x->ops = ARENA_NEW(x->out->arena, enum op, DEVICE_MARKS_MAX);
    decoder_watch(x->decoder, watched, x);
    for (uint32_t i = 0; i < STEPS && s == DEVICE_OK; i++) {
        x->n_ops = 0;
        if (x->timer.flush)
            s = device_fill(d, x->timer.flush, 0, x->timer.flush_bytes);
        x->status = s == DEVICE_OK ? device_mark(d) : s;
        s = decoder_decode(x->decoder, 1);
        s = s == DEVICE_OK ? x->status : s;
        if (s == DEVICE_OK)
            s = device_marks(d, seconds, &n);
        for (uint32_t k = 0; k < n && s == DEVICE_OK; k++)
            x->op_s[x->ops[k]] += seconds[k];
    }
    decoder_watch(x->decoder, NULL, NULL);
    return s;
}

/* The prompts of all sequences, one after the other. */
static enum device_status time_prompts(struct clock_case *x, double *median)
{
    double v[TIMING_PROMPTS_MAX + 1];
    uint32_t n = timing_prompts(x->prompts_s);
    enum device_status s = DEVICE_OK;

    for (uint32_t i = 0; i <= n && s == DEVICE_OK; i++) { /* the first one warms up */
        s = device_timer_start(x->in->device);
        if (s == DEVICE_OK)
            s = decoder_prefill(x->decoder);
        if (s == DEVICE_OK)
            s = device_timer_stop(x->in->device, &v[i]);
    }
    *median = s == DEVICE_OK ? timing_median(v + 1, n) : 0;
    return s;
}

static void compare_attention(struct clock_case *x)
{
    const double *due = x->plan.decode_op_s;

    (void)finding_within(x->out, like(x, "attention of a step"),
                         due[OP_SCORES] + due[OP_VALUES], x->op_s[OP_SCORES] / STEPS,
                         OP_TOLERANCE);
}

/* What products take part in. */
static void compare_products(struct clock_case *x, double prompt_s, double step_s)
{
    static const char *const names[] = {"prefill", "a decode step", "products of a step"};
    const char *stored = decoder_stored_format(x->decoder);
    const double *due = x->plan.decode_op_s, *got = x->op_s;
    struct finding prompts = like(x, names[0]), steps = like(x, names[1]);

    for (size_t i = 0; stored && i < sizeof names / sizeof *names; i++)
        finding_waive(x->out, like(x, names[i]),
                      "products with weights in %s are kvbudget's own, not an engine's",
                      stored);
    if (stored)
        return;
    prompts.summary = SUMMARY_PREFILL;
    steps.summary = SUMMARY_STEP;
    (void)finding_within(x->out, prompts, x->prompts_s, prompt_s, PROMPT_TOLERANCE);
    (void)finding_within(x->out, steps, x->plan.decode_s, step_s, STEP_TOLERANCE);
    (void)finding_within(
        x->out, like(x, names[2]),
        due[OP_QKV] + due[OP_OUT] + due[OP_MLP] + due[OP_EXPERTS] + due[OP_HEAD],
        (got[OP_QKV] + got[OP_OUT] + got[OP_MLP] + got[OP_EXPERTS] + got[OP_HEAD]) / STEPS,
        OP_TOLERANCE);
    if (due[OP_STATE] > 0)
        (void)finding_within(x->out, like(x, "recurrent mixers of a step"), due[OP_STATE],
                             got[OP_STATE] / STEPS, OP_TOLERANCE);
}

/* One batch: a decoder of that many sequences at the spec's own lengths. */
static enum device_status run_batch(struct clock_case *x, uint32_t sequences)
{
    const struct subject *s = x->in->subject;
    struct decoder_setting set = {
        .sequences = sequences, .prompt = (uint32_t)s->asked_prompt, .output = TIMING_OUTPUT};
    struct workload w = {.prompt = s->asked_prompt, .output = TIMING_OUTPUT, .batch = 1};
    double step_s = 0, prompt_s = 0;
    enum device_status e;

    x->sequences = sequences;
    memset(x->op_s, 0, sizeof x->op_s);
    plan_solve(s->problem, &w, &x->plan);
    x->prompts_s = sequences * x->plan.prefill_s;
    w.batch = sequences;
    plan_solve(s->problem, &w, &x->plan);
    e = timer_open(x->in->device, x->out->arena, &x->in->info, &x->timer);
    if (e == DEVICE_OK)
        e = decoder_open(x->in->device, s->problem, &set, &x->decoder);
    if (e == DEVICE_OK)
        e = time_prompts(x, &prompt_s);
    if (e == DEVICE_OK)
        e = time_steps(x, &step_s);
    if (e == DEVICE_OK)
        e = time_ops(x);
    if (e == DEVICE_OK) {
        compare_products(x, prompt_s, step_s);
        compare_attention(x);
    }
    decoder_close(x->decoder);
    x->decoder = NULL;
    (void)device_free(x->in->device, x->timer.flush);
    if (e != DEVICE_OUT_OF_MEMORY && e != DEVICE_UNSUPPORTED)
        return e;
    finding_waive(x->out, like(x, "a decode step"), "%s",
                  e == DEVICE_UNSUPPORTED ? device_error(x->in->device)
                                          : "does not fit the memory that is free");
    return DEVICE_OK;
}

static enum device_status run(const struct check_in *in, struct findings *out)
{
    const struct problem *p = in->subject->problem;
    struct clock_case x = {.in = in, .out = out};
    struct device_text why;
    enum limit limit;
    uint64_t asked = p->workload.batch, most = capacity_max_batch(p, &p->workload, &limit);
    enum device_status s;

    if (!decoder_supports(p, &why) || !in->subject->asked_prompt) {
        finding_waive(out, like(&x, "a decode step"), "%s",
                      in->subject->asked_prompt ? why.text : "there is no prompt");
        return DEVICE_OK;
    }
    if (asked)
        return run_batch(&x, (uint32_t)u64_min(asked, UINT16_MAX));
    s = run_batch(&x, 1);
    most = u64_min(most, BATCH_MAX);
    if (s == DEVICE_OK && most > 1)
        s = run_batch(&x, (uint32_t)most);
    return s;
}

const struct check check_clock = {
    .name = "clock",
    .summary = "decode steps and prompts take the time that the roofline gives",
    .level = LEVEL_CLOCK,
    .filter = filter,
    .run = run,
};
