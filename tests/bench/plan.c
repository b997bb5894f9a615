/* Benchmarks of the planner. Figures: full plans a second on one core (fit, max batch, max
 * context, prefill and decode cost; no strings, no allocation), the same for 32 distinct rows
 * (PyramidKV), cold start of `kvbudget report`, and random plans pushed through the solver with
 * their invariants checked. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "planner/base/rng.h"
#include "planner/plan/capacity.h"

#define LLAMA8B                                                                                                \
    "model: {layers: 32, hidden_size: 4096, intermediate_size: 14336, heads: 32, kv_heads: 8, head_dim: 128, " \
    "vocab_size: 128256}\nhardware: {gpu: h100-sxm5-80gb}\n"

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool build(struct arena *a, const char *yaml, struct spec *spec, struct problem *p)
{
    struct diag *d = diag_new(a);
    struct doc_node *doc;
    size_t n;
    bool ok = doc_read_yaml(a, "bench", yaml, strlen(yaml), d, &doc, 1, &n) &&
              spec_bind(a, doc, d, spec) &&
              problem_build(a, spec, profiles_open(a, NULL, d), d, p);

    if (!ok)
        diag_print(d, 0, true, stderr);
    return ok;
}

static struct workload draw(struct rng *r)
{
    return (struct workload){.prompt = 1 + rng_below(r, 32768), .output = rng_below(r, 4096)};
}

static double plans_per_s(const struct problem *p, uint64_t *check)
{
    struct rng r = {1};
    uint64_t count = 0;
    double start = now_s(), spent;

    do {
        for (int i = 0; i < 1000; i++) {
            struct workload w = draw(&r);
            struct plan plan;
            plan_solve(p, &w, &plan);
            *check += plan.max_batch + plan.max_context;
        }
        count += 1000;
        spent = now_s() - start;
    } while (spent < 1);
    return (double)count / spent;
}

/* A million random workloads: the batch and the context are tight, nothing overflows. Returns
 * failures. */
static uint64_t invariants(const struct problem *p, uint64_t cases)
{
    struct rng r = {2};
    uint64_t bad = 0;

    for (uint64_t i = 0; i < cases; i++) {
        struct workload w = draw(&r);
        struct plan plan;
        plan_solve(p, &w, &plan);
        bad += plan.over;
        bad += plan.max_batch && !capacity_fits(p, &w, plan.max_batch);
        bad += capacity_fits(p, &w, plan.max_batch + 1);
        struct workload at = w;
        at.output = u64_min(w.output, plan.max_context);
        at.prompt = plan.max_context + 1 - at.output;
        bad += plan.max_context < CONTEXT_MAX && capacity_fits(p, &at, 1);
    }
    return bad;
}

static double cold_start_s(const char *binary)
{
    double best = 1e9;

    for (int i = 0; i < 20; i++) {
        double start = now_s();
        fflush(stdout);
        pid_t child = fork();
        int status;
        if (child == 0) {
            if (!freopen("/dev/null", "w", stdout))
                _exit(1);
            execl(binary, binary, "report", "-m", "meta-llama/Llama-3.1-8B", "-g", "h100",
                  "--format", "json", (char *)NULL);
            _exit(127);
        }
        if (child < 0 || waitpid(child, &status, 0) < 0 || !WIFEXITED(status) ||
            WEXITSTATUS(status))
            return -1;
        double spent = now_s() - start;
        best = spent < best ? spent : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    struct arena *a = arena_new();
    struct spec spec[2];
    struct problem p[2];
    uint64_t check = 0;
    const uint64_t cases = 1000000;

    (void)argc;
    (void)argv;
    if (!build(a, LLAMA8B, &spec[0], &p[0]) ||
        !build(a, LLAMA8B "cache: {eviction: {scheme: pyramidkv, capacity: 2048}}\n", &spec[1],
               &p[1]))
        return 1;
    printf("bench: plans_per_second %.0f 1/s\n", plans_per_s(&p[0], &check));
    printf("bench: plans_per_second_ragged %.0f 1/s\n", plans_per_s(&p[1], &check));
    printf("bench: report_cold_start_s %.5f s\n", cold_start_s("./kvbudget"));
    double start = now_s();
    uint64_t bad = invariants(&p[0], cases);
    printf("bench: random_plans_checked %llu plans\n", (unsigned long long)cases);
    printf("bench: random_plans_failed %llu plans\n", (unsigned long long)bad);
    printf("bench: random_plans_s %.2f s\n", now_s() - start);
    printf("bench: checksum %llu -\n", (unsigned long long)check);
    arena_free(a);
    return bad != 0;
}
