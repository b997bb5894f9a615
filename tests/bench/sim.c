/* Benchmarks of the simulator on one core: requests a second for a chat-like load (prompts of
 * about 1000 tokens, outputs of about 200) where the server keeps up and where it is saturated;
 * the Mooncake conversation trace of KVBUDGET_TRACES=FOLDER, reading included, or a synthetic
 * one of its shape; and how the cost follows the number of requests and the length of the
 * outputs (it follows events, not tokens). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "planner/base/rng.h"
#include "sim/sim.h"

#define SERVER                                                                                  \
    "model: {layers: 32, hidden_size: 4096, intermediate_size: 14336, heads: 32, kv_heads: 8, " \
    "head_dim: 128, vocab_size: 128256}\nhardware: {gpu: h100-sxm5-80gb}\n"                     \
    "engine: {name: vllm, version: \"0.19.0\", max_model_len: 131072}\n"

struct server {
    struct arena *arena;
    struct diag *d;
    struct spec spec;
    struct problem problem;
    struct step_model steps;
};

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool build(struct server *s, const char *yaml)
{
    struct step_options so = {.overhead_s = -1};
    struct doc_node *doc;
    size_t n;
    bool ok;

    s->arena = arena_new();
    s->d = diag_new(s->arena);
    ok = doc_read_yaml(s->arena, "bench", yaml, strlen(yaml), s->d, &doc, 1, &n) &&
         spec_bind(s->arena, doc, s->d, &s->spec) &&
         problem_build(s->arena, &s->spec, profiles_open(s->arena, NULL, s->d), s->d,
                       &s->problem) &&
         step_build(s->arena, &s->problem, &so, s->d, &s->steps);
    if (!ok)
        diag_print(s->d, 0, true, stderr);
    return ok;
}

/* The time of a simulation, the reading of the trace included. */
static double run(struct server *s, struct trace *t, const struct sim_options *opt,
                  struct sim_now *now)
{
    struct sim_sink sink = {0};
    double start = now_s();
    struct sim *sim = t ? sim_new(&s->problem, &s->steps, opt, &sink, s->d) : NULL;

    if (!sim) {
        diag_print(s->d, 0, true, stderr);
        exit(1);
    }
    while (sim_run(sim, t, UINT64_MAX))
        continue;
    sim_now(sim, now);
    sim_free(sim);
    trace_close(t);
    return now_s() - start;
}

static const struct trace_scale one = {1, 1, 1, 0};

static double chat_s(struct server *s, double rate, const char *lengths, uint64_t count,
                     struct sim_now *now)
{
    char process[64];
    struct arrivals in = {.process = process, .lengths = lengths, .count = count, .seed = 1};
    struct sim_options opt = {.prefix_cache = true};

    snprintf(process, sizeof process, "poisson:%g", rate);
    return run(s, trace_synthetic(s->arena, &in, &one, s->d), &opt, now);
}

#define CHAT "lognormal:1000,0.8,lognormal:200,0.8"

static void chat(struct server *s)
{
    struct sim_now now;
    const uint64_t count = 400000;
    double high = chat_s(s, 40, CHAT, count, &now);

    printf("# saturated: %llu steps, %llu events, %llu preemptions\n",
           (unsigned long long)now.steps, (unsigned long long)now.events,
           (unsigned long long)now.preemptions);
    printf("bench: sim_requests_per_second %.0f 1/s\n", (double)count / high);
    double moderate = chat_s(s, 10, CHAT, count, &now);
    printf("# moderate: %llu steps, %llu events, %llu preemptions\n",
           (unsigned long long)now.steps, (unsigned long long)now.events,
           (unsigned long long)now.preemptions);
    printf("bench: sim_requests_per_second_moderate %.0f 1/s\n", (double)count / moderate);
    double less = chat_s(s, 40, CHAT, count / 8, &now);
    printf("bench: sim_cost_of_8x_requests %.2f x\n", high / less);
}

/* The same requests with longer outputs, one after another: a few events each. */
static void outputs(struct server *s)
{
    struct sim_now now, more;
    double brief = chat_s(s, 0.5, "1000,100", 100000, &now);
    double lengthy = chat_s(s, 0.5, "1000,1600", 100000, &more);

    printf("# outputs of 100 and 1600: %llu and %llu steps, %llu and %llu events\n",
           (unsigned long long)now.steps, (unsigned long long)more.steps,
           (unsigned long long)now.events, (unsigned long long)more.events);
    printf("bench: sim_cost_of_16x_output %.2f x\n", lengthy / brief);
}

/* --- long prompts that share their beginnings ----------------------------------------------
 */

/* Sessions whose prompts grow: 12,000 requests with 24 stretches of 512 tokens each. */
static char *sessions(struct arena *a, size_t *size)
{
    const size_t room = 12000 * 400;
    char *text = arena_alloc(a, room, 1);
    struct rng r = {3};
    size_t at = 0;

    for (uint64_t i = 0; i < 12000; i++) {
        uint64_t session = rng_below(&r, 4000), turns = 8 + rng_below(&r, 32);
        at += (size_t)snprintf(text + at, room - at,
                               "{\"timestamp\": %llu, \"input_length\": %llu, "
                               "\"output_length\": 343, \"hash_ids\": [",
                               (unsigned long long)(i / 10 * 3000),
                               (unsigned long long)(turns * 512));
        for (uint64_t j = 0; j < turns; j++)
            at += (size_t)snprintf(text + at, room - at, "%s%llu", j ? ", " : "",
                                   (unsigned long long)(session * 64 + j));
        at += (size_t)snprintf(text + at, room - at, "]}\n");
    }
    *size = at;
    return text;
}

static void mooncake(struct server *s)
{
    const char *folder = getenv("KVBUDGET_TRACES");
    struct sim_options opt = {
        .prefix_cache = true, .replicas = 8, .router = ROUTER_LEAST_LOADED};
    struct sim_now now;
    struct request q;
    size_t size;
    double whole, read;

    if (folder) {
        const char *path = arena_printf(s->arena, "%s/mooncake_conversation.jsonl", folder);
        read = now_s();
        struct trace *t = trace_open(s->arena, path, NULL, &one, s->d);
        while (t && trace_next(t, &q))
            continue;
        trace_close(t);
        read = now_s() - read;
        whole = run(s, trace_open(s->arena, path, NULL, &one, s->d), &opt, &now);
        printf("bench: mooncake_conversation_s %.4f s\n", whole);
        printf("bench: mooncake_conversation_sim_s %.4f s\n", whole - read);
        return;
    }
    const char *text = sessions(s->arena, &size);
    whole = run(s, trace_of_text(s->arena, text, size, "mooncake", &one, s->d), &opt, &now);
    printf("bench: sim_sessions_s %.4f s\n", whole);
}

int main(void)
{
    struct server s = {0};

    if (!build(&s, SERVER))
        return 1;
    chat(&s);
    outputs(&s);
    mooncake(&s);
    arena_free(s.arena);
    return 0;
}
