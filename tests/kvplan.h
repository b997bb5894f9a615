/* For tests of the planner: a problem from YAML text, built by the real code. */
#ifndef KVBUDGET_TESTS_KVPLAN_H
#define KVBUDGET_TESTS_KVPLAN_H

#include <stdio.h>
#include <string.h>

#include "planner/plan/capacity.h"
#include "tests/kvtest.h"

struct kp {
    struct arena *arena;
    struct diag *diag;
    struct spec spec;
    struct problem problem;
    bool ok;
};

/* Builds a problem; messages stay in k->diag. Free with kp_free. */
static inline struct kp *kp_try(const char *yaml)
{
    struct arena *a = arena_new();
    struct kp *k = ARENA_NEW(a, struct kp, 1);
    struct doc_node *doc = NULL;
    size_t n = 0;

    k->arena = a;
    k->diag = diag_new(a);
    k->ok = doc_read_yaml(a, "spec.yaml", yaml, strlen(yaml), k->diag, &doc, 1, &n) && n == 1 &&
            spec_bind(a, doc, k->diag, &k->spec) &&
            problem_build(a, &k->spec, profiles_open(a, NULL, k->diag), k->diag, &k->problem);
    return k;
}

/* The same, and it must work. */
static inline struct kp *kp_build(const char *yaml)
{
    struct kp *k = kp_try(yaml);

    if (!k->ok) {
        diag_print(k->diag, 0, true, stderr);
        fprintf(stderr, "%s\n", yaml);
    }
    assert_true(k->ok);
    return k;
}

static inline void kp_free(struct kp *k)
{
    arena_free(k->arena);
}

#define kp_says(k, text) kt_diag((k)->diag, (text), 0)

/* LLaMA-7B and TinyLlama shapes (arXiv:2405.10637 Table 5). */
#define KP_LLAMA7B                                                                                              \
    "model: {layers: 32, hidden_size: 4096, intermediate_size: 11008, heads: 32, kv_heads: 32, head_dim: 128, " \
    "vocab_size: 32000}\n"
#define KP_LLAMA3_8B                                                                                           \
    "model: {layers: 32, hidden_size: 4096, intermediate_size: 14336, heads: 32, kv_heads: 8, head_dim: 128, " \
    "vocab_size: 128256}\n"

#endif
