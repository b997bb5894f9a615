/* sim - requests from a trace or from distributions, and what the planned server makes of them.
 */
#include "planner/cmd.h"

#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "planner/base/file.h"
#include "planner/base/unit.h"
#include "sim/plot.h"
#include "sim/report.h"

static int run(struct cmd_ctx *ctx);

enum own {
    OWN_TRACE,
    OWN_TRACE_FORMAT,
    OWN_ARRIVALS,
    OWN_LENGTHS,
    OWN_NUM_REQUESTS,
    OWN_SEED,
    OWN_RATE_SCALE,
    OWN_PROMPT_SCALE,
    OWN_OUTPUT_SCALE,
    OWN_LIMIT,
    OWN_POLICY,
    OWN_REPLICAS,
    OWN_ROUTER,
    OWN_PREFILL_REPLICAS,
    OWN_TRANSFER,
    OWN_NO_PREFIX_CACHE,
    OWN_UNLIMITED_CACHE,
    OWN_STEPS,
    OWN_STEP_OVERHEAD,
    OWN_STEP_LAG,
    OWN_EVERY_STEP,
    OWN_TTFT,
    OWN_TPOT,
    OWN_E2E,
    OWN_FIND_RATE,
    OWN_PERCENTILE,
    OWN_SERIES,
    OWN_INTERVAL,
    OWN_REQUESTS,
    OWN_PLOT,
    N_OWN
};

static const struct cmd_option own_options[] = {
    [OWN_TRACE] = {"trace", "FILE", "requests from a file, - for standard input"},
    [OWN_TRACE_FORMAT] = {"trace-format", "NAME", "its format; by its first line otherwise"},
    [OWN_ARRIVALS] = {"arrivals", "LAW",
                      "poisson:RATE, gamma:RATE,CV, burst:RATE,SIZE or uniform:RATE"},
    [OWN_LENGTHS] = {"lengths", "LAWS",
                     "PROMPT,OUTPUT: tokens, uniform:A-B or lognormal:MEAN,CV; or trace:FILE"},
    [OWN_NUM_REQUESTS] = {"num-requests", "N", "so many requests of --arrivals (1000)"},
    [OWN_SEED] = {"seed", "N", "of --arrivals and --lengths (0)"},
    [OWN_RATE_SCALE] = {"rate-scale", "X", "requests arrive X times as fast"},
    [OWN_PROMPT_SCALE] = {"prompt-scale", "X", "prompts are X times as long"},
    [OWN_OUTPUT_SCALE] = {"output-scale", "X", "outputs are X times as long"},
    [OWN_LIMIT] = {"limit", "N", "the first N requests only"},
    [OWN_POLICY] = {"policy", "NAME", "how steps are batched; the engine's own otherwise"},
    [OWN_REPLICAS] = {"replicas", "N", "so many servers of this plan (parallel.dp)"},
    [OWN_ROUTER] = {"router", "NAME", "round-robin, least-loaded or prefix-aware"},
    [OWN_PREFILL_REPLICAS] = {"prefill-replicas", "N", "N more that run prompts only"},
    [OWN_TRANSFER] = {"transfer", "RATE", "link that prompts' caches go over, such as 50GB/s"},
    [OWN_NO_PREFIX_CACHE] = {"no-prefix-cache", NULL, "no reuse of what prompts share"},
    [OWN_UNLIMITED_CACHE] = {"unlimited-cache", NULL, "the pool never runs out"},
    [OWN_STEPS] = {"steps", "FILE", "measured step times (CSV) in place of the roofline"},
    [OWN_STEP_OVERHEAD] = {"step-overhead", "TIME", "what the engine adds to each step"},
    [OWN_STEP_LAG] = {"step-lag", "N",
                      "steps are composed N (0 or 1) ahead; as the engine does otherwise"},
    [OWN_EVERY_STEP] = {"every-step", NULL, "step by step: slow, the same figures"},
    [OWN_TTFT] = {"ttft", "TIME", "limit of the time to the first token"},
    [OWN_TPOT] = {"tpot", "TIME", "limit of the time a token after it"},
    [OWN_E2E] = {"e2e", "TIME", "limit of the time to the last token"},
    [OWN_FIND_RATE] = {"find-rate", NULL, "the highest rate that keeps the limits"},
    [OWN_PERCENTILE] = {"percentile", "P", "of the limits in --find-rate (99)"},
    [OWN_SERIES] = {"series", "FILE", "load over time, as CSV"},
    [OWN_INTERVAL] = {"interval", "TIME", "between its rows (1s)"},
    [OWN_REQUESTS] = {"requests", "FILE", "a line for each request, as CSV"},
    [OWN_PLOT] = {"plot", "FILE", "a timeline, as SVG"},
    [N_OWN] = {NULL, NULL, NULL},
};

const struct command command_sim = {
    .name = "sim",
    .summary = "replay requests on the planned server: latencies, load, preemptions, goodput",
    .usage = "sim SPEC.yaml... | -m MODEL -g GPU [-n COUNT] --trace FILE | --arrivals LAW",
    .run = run,
    .options = CMD_SPEC | CMD_FORMAT | CMD_OUTPUT,
    .own = own_options,
};

/* --- options --------------------------------------------------------------------------------
 */

struct asked {
    struct trace_scale scale;
    struct arrivals arrivals;
    struct step_options steps;
    struct sim_options sim;
    struct limits limits;
    double percentile, interval_s;
};

struct job {
    struct cmd_ctx *ctx;
    const struct cmd_options *opt;
    struct asked asked;
    struct file_out out, series, requests, plot;
    size_t n;              /* specs */
    struct timespec shown; /* when progress was */
    bool progress;
};

static bool wrong(struct cmd_ctx *ctx, const struct cmd_options *opt, enum own o,
                  const char *due)
{
    return diag_add(ctx->diag, DIAG_USAGE, (struct loc){0}, "--%s takes %s, found '%s'",
                    own_options[o].name, due, opt->own[o]);
}

static bool take_count(struct cmd_ctx *ctx, const struct cmd_options *opt, enum own o,
                       uint64_t most, uint64_t *out)
{
    if (!opt->own[o])
        return true;
    if (unit_parse_u64(opt->own[o], out) == UNIT_OK && *out > 0 && *out <= most)
        return true;
    return wrong(
        ctx, opt, o,
        arena_printf(ctx->arena, "a whole number from 1 to %llu", (unsigned long long)most));
}

static bool take_replicas(struct cmd_ctx *ctx, const struct cmd_options *opt, enum own o,
                          uint32_t *out)
{
    uint64_t n = 0;
    bool ok = take_count(ctx, opt, o, 4096, &n);

    *out = ok ? (uint32_t)n : 0;
    return ok;
}

static bool take_real(struct cmd_ctx *ctx, const struct cmd_options *opt, enum own o,
                      double least, double most, double *out)
{
    if (!opt->own[o] ||
        (unit_parse_double(opt->own[o], out) == UNIT_OK && *out >= least && *out <= most))
        return true;
    return wrong(ctx, opt, o, arena_printf(ctx->arena, "a number from %g to %g", least, most));
}

static bool take_time(struct cmd_ctx *ctx, const struct cmd_options *opt, enum own o,
                      double least, double *out)
{
    if (!opt->own[o] ||
        (unit_parse_seconds(opt->own[o], out) == UNIT_OK && *out >= least && *out <= 1e9))
        return true;
    return wrong(ctx, opt, o,
                 least > 0 ? arena_printf(ctx->arena,
                                          "a time of at least %g s, such as 500ms or 2s", least)
                           : "a time, such as 500us or 2ms");
}

static bool take_router(struct cmd_ctx *ctx, const struct cmd_options *opt, enum router *out)
{
    const char *word = opt->own[OWN_ROUTER];

    *out = ROUTER_ROUND_ROBIN;
    if (!word)
        return true;
    for (int i = 0; i <= ROUTER_PREFIX_AWARE; i++)
        if (!strcmp(word, router_name((enum router)i))) {
            *out = (enum router)i;
            return true;
        }
    return wrong(ctx, opt, OWN_ROUTER, "round-robin, least-loaded or prefix-aware");
}

static bool take_lag(struct cmd_ctx *ctx, const struct cmd_options *opt, enum sim_ahead *out)
{
    const char *word = opt->own[OWN_STEP_LAG];

    if (!word)
        return true;
    *out = !strcmp(word, "0") ? SIM_AHEAD_OFF : SIM_AHEAD_ON;
    return !strcmp(word, "0") || !strcmp(word, "1") || wrong(ctx, opt, OWN_STEP_LAG, "0 or 1");
}

static bool take_sim(struct cmd_ctx *ctx, const struct cmd_options *opt, struct asked *to)
{
    struct sim_options *s = &to->sim;
    bool ok = take_replicas(ctx, opt, OWN_REPLICAS, &s->replicas);

    ok = take_replicas(ctx, opt, OWN_PREFILL_REPLICAS, &s->prefill_replicas) && ok;
    ok = take_router(ctx, opt, &s->router) && ok;
    ok = take_lag(ctx, opt, &s->ahead) && ok;
    if (opt->own[OWN_TRANSFER] &&
        (unit_parse_rate(opt->own[OWN_TRANSFER], &s->transfer_bytes_per_s) != UNIT_OK ||
         !(s->transfer_bytes_per_s > 0)))
        ok = wrong(ctx, opt, OWN_TRANSFER, "a rate with its unit, such as 50GB/s");
    if (opt->own[OWN_POLICY]) {
        s->policy =
            policy_find(opt->own[OWN_POLICY], (struct loc){.file = "--policy"}, ctx->diag);
        ok = s->policy && ok;
    }
    s->unlimited_cache = opt->own[OWN_UNLIMITED_CACHE] != NULL;
    s->every_step = opt->own[OWN_EVERY_STEP] != NULL;
    to->steps.table_path = opt->own[OWN_STEPS];
    to->steps.overhead_s = -1;
    return take_time(ctx, opt, OWN_STEP_OVERHEAD, 0, &to->steps.overhead_s) && ok;
}

static bool take_trace(struct cmd_ctx *ctx, const struct cmd_options *opt, struct asked *to)
{
    bool ok = take_real(ctx, opt, OWN_RATE_SCALE, 1e-6, 1e6, &to->scale.rate);

    ok = take_real(ctx, opt, OWN_PROMPT_SCALE, 1e-6, 1e6, &to->scale.prompt) && ok;
    ok = take_real(ctx, opt, OWN_OUTPUT_SCALE, 1e-6, 1e6, &to->scale.output) && ok;
    ok = take_count(ctx, opt, OWN_LIMIT, UINT64_MAX, &to->scale.limit) && ok;
    ok = take_count(ctx, opt, OWN_NUM_REQUESTS, UINT64_MAX, &to->arrivals.count) && ok;
    if (opt->own[OWN_SEED] && unit_parse_u64(opt->own[OWN_SEED], &to->arrivals.seed) != UNIT_OK)
        ok = wrong(ctx, opt, OWN_SEED, "a whole number");
    to->arrivals.process = opt->own[OWN_ARRIVALS];
    to->arrivals.lengths = opt->own[OWN_LENGTHS];
    return ok;
}

/* Options that need another one, or exclude it. */
static bool check_together(struct cmd_ctx *ctx, const struct cmd_options *opt)
{
    static const struct {
        enum own one, needs;
    } pairs[] = {{OWN_TRACE_FORMAT, OWN_TRACE},
                 {OWN_LENGTHS, OWN_ARRIVALS},
                 {OWN_NUM_REQUESTS, OWN_ARRIVALS},
                 {OWN_SEED, OWN_ARRIVALS},
                 {OWN_TRANSFER, OWN_PREFILL_REPLICAS},
                 {OWN_PERCENTILE, OWN_FIND_RATE},
                 {OWN_INTERVAL, OWN_SERIES}};
    bool ok = true;

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (opt->own[pairs[i].one] && !opt->own[pairs[i].needs])
            ok = diag_add(ctx->diag, DIAG_USAGE, (struct loc){0}, "--%s goes with --%s",
                          own_options[pairs[i].one].name, own_options[pairs[i].needs].name);
    if (!opt->own[OWN_TRACE] == !opt->own[OWN_ARRIVALS])
        ok = diag_add(ctx->diag, DIAG_USAGE, (struct loc){0},
                      opt->own[OWN_TRACE]
                          ? "give --trace or --arrivals, not both"
                          : "sim needs requests: --trace FILE, or --arrivals poisson:5");
    if (opt->own[OWN_FIND_RATE] && !opt->own[OWN_TTFT] && !opt->own[OWN_TPOT] &&
        !opt->own[OWN_E2E])
        ok = diag_add(ctx->diag, DIAG_USAGE, (struct loc){0},
                      "--find-rate needs a limit: --ttft, --tpot or --e2e");
    return ok;
}

/* Files of one simulation cannot be those of several; standard input is read once. */
static bool check_files(struct cmd_ctx *ctx, const struct cmd_options *opt, size_t specs)
{
    static const enum own files[] = {OWN_SERIES, OWN_REQUESTS, OWN_PLOT};
    bool standard = opt->own[OWN_TRACE] && !strcmp(opt->own[OWN_TRACE], "-");

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *name = own_options[files[i]].name, *file = opt->own[files[i]];
        if (file && specs > 1)
            return diag_add(ctx->diag, DIAG_USAGE, (struct loc){0},
                            "--%s is of one spec, found %zu", name, specs);
        if (file && !strcmp(file, "-"))
            return diag_add(ctx->diag, DIAG_USAGE, (struct loc){0}, "--%s needs a file", name);
    }
    for (int i = 0; i < opt->n_specs && standard; i++)
        if (!strcmp(opt->specs[i], "-"))
            return diag_add(ctx->diag, DIAG_USAGE, (struct loc){0},
                            "the spec and --trace cannot both be standard input");
    if (standard && (specs > 1 || opt->own[OWN_FIND_RATE]))
        return diag_add(ctx->diag, DIAG_USAGE, (struct loc){0},
                        "a trace that is read more than once must be a file");
    return true;
}

static bool take_options(struct cmd_ctx *ctx, const struct cmd_options *opt, struct asked *to)
{
    bool ok;

    *to = (struct asked){
        .scale = {1, 1, 1, 0}, .arrivals = {.count = 1000}, .percentile = 99, .interval_s = 1};
    ok = take_trace(ctx, opt, to);
    ok = take_sim(ctx, opt, to) && ok;
    ok = take_time(ctx, opt, OWN_TTFT, 1e-6, &to->limits.ttft_s) && ok;
    ok = take_time(ctx, opt, OWN_TPOT, 1e-6, &to->limits.tpot_s) && ok;
    ok = take_time(ctx, opt, OWN_E2E, 1e-6, &to->limits.e2e_s) && ok;
    ok = take_time(ctx, opt, OWN_INTERVAL, 1e-3, &to->interval_s) && ok;
    ok = take_real(ctx, opt, OWN_PERCENTILE, 1, 100, &to->percentile) && ok;
    return check_together(ctx, opt) && ok;
}

/* --- progress
 * ---------------------------------------------------------------------------------
 */

/* A signal to end waits; while simulations run they are held back (hold_endings). */
static bool interrupted(void)
{
    sigset_t s;

    return sigpending(&s) == 0 &&
           (sigismember(&s, SIGINT) == 1 || sigismember(&s, SIGTERM) == 1 ||
            sigismember(&s, SIGHUP) == 1);
}

static bool show_progress(void *to, const struct trace *t, const struct sim_now *now)
{
    struct job *j = to;
    struct timespec at;
    uint64_t total, read = trace_read_bytes(t, &total);
    double share = total
                       ? (double)read / (double)total
                       : (double)(now->done + now->rejected) / (double)j->asked.arrivals.count;
    char done[32];

    if (interrupted())
        return false;
    if (!j->progress || clock_gettime(CLOCK_MONOTONIC, &at) != 0 ||
        (at.tv_sec - j->shown.tv_sec) * 10 + (at.tv_nsec - j->shown.tv_nsec) / 100000000 < 1)
        return true;
    j->shown = at;
    fprintf(j->ctx->err,
            "\r\033[K%3.0f %% %s requests, %.0f s simulated, %llu running, %llu waiting",
            100 * (share < 1 ? share : 1), unit_format_count(now->done, done, sizeof done),
            now->time_s, (unsigned long long)now->running, (unsigned long long)now->waiting);
    fflush(j->ctx->err);
    return true;
}

static void clear_progress(struct job *j)
{
    if (j->shown.tv_sec || j->shown.tv_nsec)
        fputs("\r\033[K", j->ctx->err);
    j->shown = (struct timespec){0};
}

/* --- one spec
 * ---------------------------------------------------------------------------------
 */

static struct trace *open_trace(struct job *j, const struct cmd_case *c)
{
    struct arrivals *in = &j->asked.arrivals;
    const char *file = j->opt->own[OWN_TRACE];

    if (file)
        return trace_open(j->ctx->arena, file, j->opt->own[OWN_TRACE_FORMAT], &j->asked.scale,
                          c->diag);
    in->prompt = c->problem.workload.prompt;
    in->output = c->problem.workload.output;
    return trace_synthetic(j->ctx->arena, in, &j->asked.scale, c->diag);
}

static bool open_files(struct job *j)
{
    struct cmd_ctx *ctx = j->ctx;
    struct file_out *out[] = {&j->series, &j->requests, &j->plot};
    static const enum own which[] = {OWN_SERIES, OWN_REQUESTS, OWN_PLOT};

    for (size_t i = 0; i < 3; i++)
        if (j->opt->own[which[i]] &&
            !file_create(ctx->arena, j->opt->own[which[i]], NULL, ctx->diag, out[i]))
            return false;
    return true;
}

static void close_files(struct job *j, bool ok)
{
    struct file_out *out[] = {&j->series, &j->requests, &j->plot};

    for (size_t i = 0; i < 3; i++) {
        if (!out[i]->f)
            continue;
        if (ok)
            ok = file_commit(out[i], j->ctx->diag);
        else
            file_abandon(out[i]);
    }
}

/* The same simulation to be typed again: how it runs, not what is asked of it. */
static const char *same_again(const struct job *j, const struct cmd_case *c)
{
    struct arena *a = j->ctx->arena;
    const char *words = arena_printf(a, "kvbudget sim %s", c->words);

    for (int o = 0; o <= OWN_EVERY_STEP; o++) {
        const char *value = j->opt->own[o];
        const char *mark = value && strpbrk(value, " \t\"\\$&;|<>()*?[]`") ? "'" : "";
        if (!value || (o == OWN_RATE_SCALE && j->opt->own[OWN_FIND_RATE]))
            continue;
        words = arena_printf(a, "%s --%s%s%s%s%s", words, own_options[o].name,
                             *value ? " " : "", mark, value, mark);
    }
    return words;
}

/* After the highest rate: what it looks like there. */
static const char *next_command(const struct job *j, const struct cmd_case *c,
                                const struct run *r)
{
    const char *words = same_again(j, c);

    if (j->opt->own[OWN_FIND_RATE])
        return arena_printf(j->ctx->arena, "%s --rate-scale %.4g --plot timeline.svg", words,
                            r->rate);
    return arena_printf(j->ctx->arena, "%s --ttft 1s --tpot 50ms --find-rate", words);
}

static void print_run(struct job *j, const struct cmd_case *c, const struct sim_report *r)
{
    struct cmd_ctx *ctx = j->ctx;
    bool several = j->n > 1;
    bool standard = j->opt->own[OWN_TRACE] && !strcmp(j->opt->own[OWN_TRACE], "-");

    if (cmd_wants_json(ctx, j->opt)) {
        cJSON *tree = sim_report_json(r);
        json_print(tree, several, j->out.f);
        cJSON_Delete(tree);
        return;
    }
    if (several)
        fprintf(j->out.f, "%s\n", c->name);
    sim_report_page(ctx->arena, r,
                    several || standard || j->opt->output ? NULL : next_command(j, c, r->run),
                    j->out.f);
    if (several)
        fputc('\n', j->out.f);
}

static void plot(struct job *j, const struct cmd_case *c, const struct sim_report *r)
{
    struct arena *a = j->ctx->arena;
    const struct problem *p = &c->problem;
    struct plot_text text = {
        arena_printf(a, "%s on %u x %s, %s", p->model.name ? p->model.name : "inline model",
                     p->gpus / p->parallel.dp * r->run->replicas,
                     p->gpu.name && *p->gpu.name ? p->gpu.name : "GPU", p->engine->name),
        sim_report_sentence(a, r)};

    if (j->plot.f && r->run->points)
        plot_svg(a, r->run->points, &text, j->plot.f);
}

static bool simulate(struct job *j, const struct cmd_case *c, struct run_in *in,
                     struct run_search *search, struct run *run)
{
    struct arena *a = j->ctx->arena;

    in->options.prefix_cache =
        !j->opt->own[OWN_NO_PREFIX_CACHE] && sim_reuses_prefixes(&c->problem, c->diag);
    if (j->opt->own[OWN_FIND_RATE]) {
        if (!run_find_rate(a, in, j->asked.percentile, c->diag, search))
            return false;
        in->rate = search->low;
    }
    if (!open_files(j))
        return false;
    in->series = j->series.f;
    in->requests = j->requests.f;
    in->plot = j->plot.f != NULL;
    if (!run_sim(a, in, c->diag, run))
        return false;
    if (in->options.prefix_cache && !run->caches && trace_hashed(in->trace))
        diag_add(c->diag, DIAG_WARN, c->problem.spec->at,
                 "what prompts share is computed again: not every layer keeps every token of a "
                 "prompt in whole blocks (windows, recurrent states, dropped tokens)");
    return true;
}

static bool run_case(struct job *j, const struct cmd_case *c)
{
    struct step_model *steps = ARENA_NEW(j->ctx->arena, struct step_model, 1);
    struct run run = {0};
    struct run_search search = {0};
    struct run_in in = {.problem = &c->problem,
                        .steps = steps,
                        .options = j->asked.sim,
                        .limits = j->asked.limits,
                        .rate = j->asked.scale.rate,
                        .interval_s = j->asked.interval_s,
                        .progress = show_progress,
                        .to = j};
    struct sim_report report = {.spec = c->name,
                                .problem = &c->problem,
                                .steps = steps,
                                .steps_file = j->asked.steps.table_path,
                                .in = &in,
                                .scale = j->asked.scale,
                                .arrivals = j->opt->own[OWN_TRACE] ? NULL : &j->asked.arrivals,
                                .run = &run,
                                .search = j->opt->own[OWN_FIND_RATE] ? &search : NULL,
                                .diag = c->diag};
    bool ok;

    in.trace = open_trace(j, c);
    ok = in.trace && step_build(j->ctx->arena, &c->problem, &j->asked.steps, c->diag, steps) &&
         simulate(j, c, &in, &search, &run);
    clear_progress(j);
    if (ok && !run.figures.done)
        diag_add(c->diag, DIAG_INFEASIBLE, (struct loc){.file = c->name}, "%s",
                 sim_report_sentence(j->ctx->arena, &report));
    if (ok) {
        plot(j, c, &report);
        print_run(j, c, &report);
    }
    close_files(j, ok);
    run_free(&run);
    trace_close(in.trace);
    return ok;
}

/* Messages of the case that came after it was built. */
static void pass_on(struct cmd_ctx *ctx, const struct cmd_case *c, size_t from)
{
    for (size_t i = from; i < diag_count(c->diag); i++) {
        const struct diag_message *m = diag_at(c->diag, i);
        diag_add(ctx->diag, m->kind, m->at, "%s", m->text);
    }
}

/* Ctrl-C waits until the temporary files are gone. A trace from standard input may keep the
 * program waiting, so there it does not. */
static void hold_endings(const struct job *j, sigset_t *before)
{
    const char *trace = j->opt->own[OWN_TRACE];
    bool standard = trace && !strcmp(trace, "-");
    sigset_t s;

    sigemptyset(&s);
    sigaddset(&s, SIGINT);
    sigaddset(&s, SIGTERM);
    sigaddset(&s, SIGHUP);
    sigprocmask(SIG_BLOCK, standard ? NULL : &s, before);
}

static void run_cases(struct job *j, struct cmd_case *cases, size_t n)
{
    struct cmd_ctx *ctx = j->ctx;
    size_t done = 0;
    sigset_t held;

    j->n = n;
    if (!file_create(ctx->arena, j->opt->output, ctx->out, ctx->diag, &j->out))
        return;
    hold_endings(j, &held);
    for (size_t i = 0; i < n && !interrupted(); i++) {
        size_t from = cases[i].diag ? diag_count(cases[i].diag) : 0;
        if (!cases[i].ok)
            continue;
        done += run_case(j, &cases[i]);
        pass_on(ctx, &cases[i], from);
        cmd_diagnostics(ctx, j->opt);
    }
    if (done && !interrupted())
        (void)!file_commit(&j->out, ctx->diag);
    else
        file_abandon(&j->out);
    sigprocmask(SIG_SETMASK, &held, NULL);
}

static int run(struct cmd_ctx *ctx)
{
    struct cmd_options opt;
    struct cmd_case *cases;
    size_t n = 0;
    struct job j = {.ctx = ctx, .opt = &opt};
    bool ok;

    if (!cmd_options(ctx, &command_sim, &opt))
        return diag_exit(ctx->diag);
    if (opt.help)
        return 0;
    ok = take_options(ctx, &opt, &j.asked);
    j.progress = !opt.quiet && isatty(fileno(ctx->err)) == 1;
    if (ok &&
        cmd_cases(ctx, &opt, profiles_open(ctx->arena, opt.profiles, ctx->diag), &cases, &n)) {
        cmd_diagnostics(ctx, &opt);
        if (check_files(ctx, &opt, n))
            run_cases(&j, cases, n);
    }
    cmd_diagnostics(ctx, &opt);
    return diag_exit(ctx->diag);
}
