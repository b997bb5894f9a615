/* There and back: what `flags` prints for a plan, read as a pasted command line, plans the same
 * again. Only hardware and workload, which no command line says, are given a second time. */
#include "planner/plan/flags.h"

#include <stdlib.h>
#include <string.h>

#include "planner/plan/fromlog.h"
#include "tests/kvplan.h"

static const struct {
    const char *machine, *rest;
} cases[] = {
    {"hardware: {gpu: h100}\n", "engine: {name: vllm}\n"},
    {"hardware: {gpu: h100}\n",
     "engine: {name: vllm, memory_fraction: 0.85, max_model_len: 16k, max_seqs: 64, "
     "max_batched_tokens: 4096, block_tokens: 32, cuda_graphs: false}\n"
     "cache: {format: fp8}\n"},
    {"hardware: {gpu: h100, count: 4}\n",
     "engine: {name: vllm, max_model_len: 8k}\nparallel: {tp: 2, pp: 2}\n"
     "weights: {format: fp8}\n"},
    {"hardware: {gpu: rtx-3090}\n", "engine: {name: vllm, max_model_len: 10k}\n"},
    {"hardware: {gpu: h100}\n", "engine: {name: sglang}\n"},
    {"hardware: {gpu: h100, count: 2}\n",
     "engine: {name: sglang, memory_fraction: 0.8, max_model_len: 16k, max_seqs: 100, "
     "max_batched_tokens: 2048, block_tokens: 64, cuda_graphs: false}\nparallel: {tp: 2}\n"
     "cache: {format: fp8_e5m2}\n"},
    {"hardware: {gpu: h100}\n", "engine: {name: trtllm}\n"},
    {"hardware: {gpu: h100, count: 2}\n",
     "engine: {name: trtllm, memory_fraction: 0.7, max_model_len: 16k, max_seqs: 100, "
     "max_batched_tokens: 4096}\nparallel: {pp: 2}\n"},
    {"hardware: {gpu: h100}\n", "engine: {name: llamacpp}\n"},
    {"hardware: {gpu: rtx-3090}\n", "engine: {name: llamacpp, max_model_len: 32k}\n"},
    {"hardware: {gpu: h100}\n",
     "engine: {name: llamacpp, max_model_len: 64k, n_seq: 4, n_batch: 1024, n_ubatch: 256, "
     "flash_attn: true, swa_full: true}\ncache: {k: q8_0, v: q4_0}\n"},
    {"hardware: {gpu: rtx-3090}\n",
     "engine: {name: llamacpp, max_model_len: 16k, n_seq: 2, flash_attn: false, "
     "offload_layers: 20}\n"},
};

#define WORKLOAD "workload: {prompt: 7680, output: 512}\n"

/* The text that `flags` prints, and the problem it is for. */
static struct kp *there(const char *yaml, char **text)
{
    struct kp *k = kp_build(yaml);
    struct flags f;
    size_t n = 0;
    FILE *out = open_memstream(text, &n);

    assert_non_null(out);
    assert_true(flags_solve(k->arena, &k->problem, k->diag, &f));
    kt_u64(f.set.n_cannot, 0);
    flags_print(k->arena, &f, out);
    fclose(out);
    return k;
}

static struct kp *back(const char *machine, const char *text)
{
    struct arena *a = arena_new();
    struct kp *k = ARENA_NEW(a, struct kp, 1);
    const struct profiles *profiles;
    struct doc_node *doc = NULL;
    struct server_log log;
    size_t n = 0;

    k->arena = a;
    k->diag = diag_new(a);
    profiles = profiles_open(a, NULL, k->diag);
    k->ok = doc_read_yaml(a, "spec.yaml", machine, strlen(machine), k->diag, &doc, 1, &n) &&
            fromlog_read(a, "flags.sh", text, strlen(text), k->diag, &log) &&
            fromlog_lay_under(a, &log, profiles, doc, k->diag) &&
            spec_bind(a, doc, k->diag, &k->spec) &&
            problem_build(a, &k->spec, profiles, k->diag, &k->problem);
    if (!k->ok)
        diag_print(k->diag, 0, true, stderr);
    assert_true(k->ok);
    return k;
}

static void same_plan(const struct problem *p, const struct problem *q)
{
    const struct budget *a = &p->stages[0].budget, *b = &q->stages[0].budget;
    struct plan x, y;

    plan_solve(p, &p->workload, &x);
    plan_solve(q, &q->workload, &y);
    kt_same(q->engine->name, p->engine->name);
    kt_same(q->model.name, p->model.name);
    kt_u64(b->weights_bytes, a->weights_bytes);
    kt_u64(b->activation_bytes, a->activation_bytes);
    kt_u64(b->cuda_graph_bytes, a->cuda_graph_bytes);
    kt_u64(b->usable_bytes, a->usable_bytes);
    kt_u64(b->kv_pool_bytes, a->kv_pool_bytes);
    kt_u64(y.max_batch, x.max_batch);
    kt_u64(y.kv_blocks, x.kv_blocks);
}

static void test_round(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *a = arena_new();
        const char *machine = arena_printf(a, "%s" WORKLOAD, cases[i].machine);
        char *text = NULL;
        struct kp *k =
            there(arena_printf(a, "model: Qwen3-8B\n%s%s", machine, cases[i].rest), &text);
        struct kp *again = back(machine, text);
        same_plan(&k->problem, &again->problem);
        kp_free(again);
        kp_free(k);
        free(text);
        arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
