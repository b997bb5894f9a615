/* validate_models: every built-in model has a small twin with its kinds of layers and its
 * heads; and one model of each family and weight format goes through all checks of the CPU
 * build. */
#include "tests/kvplan.h"

#include "validate/decoder.h"
#include "validate/run.h"
#include "validate/small.h"

enum { EVERY = KT_SANITIZED ? 10 : 1 };

static struct kp *plan_of(const char *model, uint32_t tp)
{
    char yaml[512];

    snprintf(yaml, sizeof yaml,
             "model: \"%s\"\nhardware: {gpu: h200, count: %u}\nparallel: {tp: %u}\n"
             "workload: {prompt: 32, output: 6}\n",
             model, tp, tp);
    return kp_try(yaml);
}

/* Whether some layer of `m` is of that kind, whatever its widths are. */
static bool has_like(const struct model *m, const struct layer *l)
{
    for (uint32_t i = 0; i < m->n_layers; i++) {
        const struct layer *x = &m->layers[i];
        if (x->attn.mixer == l->attn.mixer && x->state.kind == l->state.kind &&
            x->attn.k_dim == l->attn.k_dim && x->attn.v_dim == l->attn.v_dim &&
            x->norms == l->norms && !x->ffn.experts == !l->ffn.experts &&
            !x->ffn.intermediate == !l->ffn.intermediate &&
            !x->ffn.shared_intermediate == !l->ffn.shared_intermediate)
            return true;
    }
    return false;
}

static void twin_is_alike(struct kp *k, uint32_t tp)
{
    const struct problem *p = &k->problem;
    struct problem small;
    const char *what = NULL;

    assert_true(small_problem(k->arena, p, &small, &what));
    assert_true(model_check(&small.model, k->diag));
    for (uint32_t i = 0; i < p->model.n_layers; i++)
        assert_true(has_like(&small.model, &p->model.layers[i]));
    for (uint32_t i = 0; i < small.model.n_layers; i++) {
        const struct attention *a = &small.model.layers[i].attn;
        if (a->mixer == MIXER_NONE)
            continue;
        kt_u64(a->heads % tp, 0);
        assert_true(a->kv_source < small.model.n_layers);
    }
    assert_true(small.model.n_layers <= p->model.n_layers);
    assert_true(small.whole_work.weights_bytes <= p->whole_work.weights_bytes);
}

static void test_twins(void **state)
{
    struct arena *a = arena_new();
    struct diag *d = diag_new(a);
    size_t n = 0, twins = 0;
    struct profile_entry *e = profile_list(profiles_open(a, NULL, d), PROFILE_MODEL, a, d, &n);

    (void)state;
    for (size_t i = 0; i < n; i++)
        for (uint32_t tp = 1; tp <= 8; tp *= 8) {
            struct kp *k = plan_of(e[i].name, tp);
            if (k->ok)
                twin_is_alike(k, tp);
            assert_true(k->ok || tp > 1);
            twins += k->ok;
            kp_free(k);
        }
    assert_true(twins > n);
    arena_free(a);
}

/* Whether one with that family and format was taken before. */
static bool is_new(const char **keys, size_t *n, const char *key)
{
    for (size_t i = 0; i < *n; i++)
        if (!strcmp(keys[i], key))
            return false;
    keys[(*n)++] = key;
    return true;
}

static void run_model(const char *name, struct kp *k)
{
    struct run_options o = {.device = "cpu", .levels = 1u << LEVEL_COUNT | 1u << LEVEL_FIT};
    struct run_result r;
    struct subject s;

    run_subject(k->arena, name, &k->problem, &s);
    if (s.small) /* its kernels one by one, too */
        s = *s.small;
    if (!run_checks(k->arena, &o, &s, 1, k->diag, &r)) {
        diag_print(k->diag, 0, true, stderr);
        fail();
    }
    for (size_t i = 0; i < r.findings.n; i++) {
        const struct finding *f = &r.findings.list[i];
        if (f->verdict == VERDICT_FAILED)
            print_error("%s: %s: %s: %.0f predicted, %.0f measured: %s\n", f->spec, f->check,
                        f->what, f->predicted, f->measured, f->reason);
    }
    kt_u64(r.n[VERDICT_FAILED], 0);
    assert_true(r.findings.n > 0);
}

static void test_families(void **state)
{
    struct arena *a = arena_new();
    struct diag *d = diag_new(a);
    size_t n = 0, taken = 0;
    struct profile_entry *e = profile_list(profiles_open(a, NULL, d), PROFILE_MODEL, a, d, &n);
    const char **keys = ARENA_NEW(a, const char *, n);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct kp *k = plan_of(e[i].name, 1);
        const char *format = k->problem.gemm_format ? k->problem.gemm_format->name : "";
        assert_true(k->ok);
        if (is_new(keys, &taken, arena_printf(a, "%s %s", k->problem.model.family, format)) &&
            taken % EVERY == 0)
            run_model(e[i].name, k);
        kp_free(k);
    }
    assert_true(taken > 40);
    arena_free(a);
}

/* The models with latents as they are shipped, in fp8 of blocks, as a plan and as engines run
 * them, which copy the up-projection. */
static void test_latents(void **state)
{
    static const char *const names[] = {"deepseek-v3.2", "deepseek-v3", "kimi-k2-instruct"};
    static const char *const engines[] = {"vllm", "ideal", "sglang"};

    (void)state;
    for (size_t i = 0; i < (KT_SANITIZED ? 1 : sizeof names / sizeof *names); i++) {
        char yaml[512];
        struct device_text why;
        struct kp *k;
        snprintf(yaml, sizeof yaml,
                 "model: %s\nhardware: {gpu: h200, count: 8}\nparallel: {tp: 8}\n"
                 "workload: {prompt: 32, output: 6}\nengine: {name: %s}\n",
                 names[i], engines[i]);
        k = kp_build(yaml);
        kt_same(k->problem.gemm_format->name, "fp8_block");
        assert_true(decoder_supports(&k->problem, &why));
        run_model(names[i], k);
        kp_free(k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_twins),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_latents),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
