/* For tests of the simulator: a server from YAML, requests from an array, outcomes kept. */
#ifndef KVBUDGET_TESTS_KVSIM_H
#define KVBUDGET_TESTS_KVSIM_H

#include <stdlib.h>

#include "sim/policy/policy.h"
#include "sim/sim.h"
#include "tests/kvplan.h"

/* A model whose token takes 1 KiB: 2 layers x (K, V) x 2 heads x 64 elements x 2 bytes. */
#define KS_MODEL                                                                               \
    "model: {layers: 2, hidden_size: 256, intermediate_size: 512, heads: 4, kv_heads: 2, "     \
    "head_dim: 64, vocab_size: 1000}\n"
#define KS_GPU "hardware: {gpu: h100-sxm5-80gb}\n"

struct ks_request {
    double arrival_s;
    uint64_t prompt, output;
    const uint64_t *hashes;
    uint32_t n_hashes, hash_tokens;
};

enum { KS_MAX = 4096 };

struct ks { /* a server and what became of its requests */
    struct kp *kp;
    struct step_model *steps;
    struct sim_options opt;
    struct outcome *outcomes; /* [KS_MAX], by request id */
    uint64_t n_outcomes, order[KS_MAX];
    struct sim_now now;
    bool caches; /* prefixes were kept */
    uint64_t peak_units, peak_running, spans;
    double waited_s;      /* sequences x seconds in the queue */
    struct sim_span sums; /* of all spans: steps and tokens */
};

static inline struct ks *ks_build(const char *yaml)
{
    struct kp *kp = kp_build(yaml);
    struct ks *k = ARENA_NEW(kp->arena, struct ks, 1);
    struct step_options so = {.overhead_s = 0.001};

    k->kp = kp;
    k->steps = ARENA_NEW(kp->arena, struct step_model, 1);
    k->outcomes = ARENA_NEW(kp->arena, struct outcome, KS_MAX);
    k->opt.check = true;
    k->opt.ahead = SIM_AHEAD_OFF;
    if (!step_build(kp->arena, &kp->problem, &so, kp->diag, k->steps)) {
        diag_print(kp->diag, 0, true, stderr);
        fail();
    }
    return k;
}

/* The same where every step takes one second, whatever it runs. */
static inline struct ks *ks_seconds(const char *yaml)
{
    struct kp *kp = kp_build(yaml);
    struct ks *k = ARENA_NEW(kp->arena, struct ks, 1);
    char *folder = kt_folder(kp->arena);
    char *path = arena_printf(kp->arena, "%s/steps.csv", folder);
    struct step_options so = {.overhead_s = -1, .table_path = path};
    FILE *f = fopen(path, "w");

    k->kp = kp;
    k->steps = ARENA_NEW(kp->arena, struct step_model, 1);
    k->outcomes = ARENA_NEW(kp->arena, struct outcome, KS_MAX);
    k->opt.check = true;
    k->opt.ahead = SIM_AHEAD_OFF;
    assert_non_null(f);
    fputs("prefill_tokens,decodes,context_tokens,seconds\n0,1,0,1\n1,0,0,1\n1,1,0,1\n", f);
    fclose(f);
    if (!step_build(kp->arena, &kp->problem, &so, kp->diag, k->steps)) {
        diag_print(kp->diag, 0, true, stderr);
        fail();
    }
    kt_folder_remove(folder);
    return k;
}

static inline void ks_free(struct ks *k)
{
    kp_free(k->kp);
}

static inline const struct policy *ks_policy(struct ks *k, const char *name)
{
    const struct policy *p = policy_find(name, (struct loc){0}, k->kp->diag);

    assert_non_null(p);
    return p;
}

static inline void ks_outcome(void *to, const struct outcome *o)
{
    struct ks *k = to;

    assert_true(o->request.id < KS_MAX && k->n_outcomes < KS_MAX);
    assert_true(k->outcomes[o->request.id].request.prompt_tokens == 0);
    k->outcomes[o->request.id] = *o;
    k->order[k->n_outcomes++] = o->request.id;
}

static inline void ks_span(void *to, const struct sim_span *s)
{
    struct ks *k = to;

    assert_true(s->to_s >= s->from_s && s->steps);
    k->spans++;
    k->peak_units = u64_max(k->peak_units, s->used_last_units);
    k->peak_running = u64_max(k->peak_running, s->running);
    k->waited_s += s->waiting * (s->to_s - s->from_s);
    assert_true(s->waiting >= 0 && s->waiting <= (double)s->waiting_last);
    k->sums.steps += s->steps;
    k->sums.prompt_tokens += s->prompt_tokens;
    k->sums.output_tokens += s->output_tokens;
}

/* The requests as Mooncake's JSON lines (hashes) or our CSV. */
static inline struct trace *ks_trace(struct ks *k, const struct ks_request *r, size_t n)
{
    static const struct trace_scale one = {1, 1, 1, 0};
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    bool hashes = false;
    struct trace *t;

    for (size_t i = 0; i < n; i++)
        hashes = hashes || r[i].n_hashes;
    if (!hashes)
        fprintf(f, "arrival_s,prompt_tokens,output_tokens\n");
    for (size_t i = 0; i < n; i++) {
        if (!hashes) {
            fprintf(f, "%.17g,%llu,%llu\n", r[i].arrival_s, (unsigned long long)r[i].prompt,
                    (unsigned long long)r[i].output);
            continue;
        }
        fprintf(f, "{\"timestamp\": %.17g, \"input_length\": %llu, \"output_length\": %llu, ",
                r[i].arrival_s * 1000, (unsigned long long)r[i].prompt,
                (unsigned long long)r[i].output);
        fprintf(f, "\"hash_ids\": [");
        for (uint32_t j = 0; j < r[i].n_hashes; j++)
            fprintf(f, "%s%llu", j ? ", " : "", (unsigned long long)r[i].hashes[j]);
        fprintf(f, "]}\n");
    }
    fclose(f);
    t = trace_of_text(k->kp->arena, arena_strndup(k->kp->arena, text, size), size,
                      hashes ? "mooncake" : "simple", &one, k->kp->diag);
    free(text);
    if (!t)
        diag_print(k->kp->diag, 0, true, stderr);
    assert_non_null(t);
    return t;
}

/* Runs them to the end; outcomes of an earlier run are forgotten. */
static inline void ks_run(struct ks *k, const struct ks_request *r, size_t n)
{
    struct sim_sink sink = {k, ks_outcome, ks_span};
    struct trace *t = ks_trace(k, r, n);
    struct sim *s = sim_new(&k->kp->problem, k->steps, &k->opt, &sink, k->kp->diag);

    memset(k->outcomes, 0, KS_MAX * sizeof *k->outcomes);
    k->n_outcomes = k->peak_units = k->peak_running = k->spans = 0;
    k->sums = (struct sim_span){0};
    k->waited_s = 0;
    if (!s)
        diag_print(k->kp->diag, 0, true, stderr);
    assert_non_null(s);
    k->caches = sim_caches(s);
    while (sim_run(s, t, 1000))
        continue;
    sim_now(s, &k->now);
    assert_true(k->n_outcomes == n);
    sim_free(s);
    trace_close(t);
}

/* When a request was scheduled, and its first and last token. */
static inline void ks_is(const struct ks *k, size_t i, double scheduled, double first,
                         double last)
{
    const struct outcome *o = &k->outcomes[i];

    if (o->scheduled_s != scheduled || o->first_s != first || o->last_s != last) {
        print_error("request %zu: %g %g %g, expected %g %g %g\n", i, o->scheduled_s, o->first_s,
                    o->last_s, scheduled, first, last);
        fail();
    }
}

/* Runs both ways; they agree to the bit with whole seconds. */
static inline void ks_both(struct ks *k, const struct ks_request *r, size_t n)
{
    struct outcome *want = ARENA_NEW(k->kp->arena, struct outcome, n);

    k->opt.every_step = true;
    ks_run(k, r, n);
    memcpy(want, k->outcomes, n * sizeof *want);
    k->opt.every_step = false;
    ks_run(k, r, n);
    for (size_t i = 0; i < n; i++)
        ks_is(k, i, want[i].scheduled_s, want[i].first_s, want[i].last_s);
}

#endif
