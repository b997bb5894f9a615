/* validate_count: the checks that count. Figures that follow by hand; every row of the default
 * matrix through the kernels, some through the whole decoder; and for each prediction a wrong
 * one, which must be found out. */
#include "tests/kvplan.h"

#include "validate/matrix.h"
#include "validate/run.h"

static const struct check *check_named(const char *name)
{
    const struct check *c;

    for (size_t i = 0; (c = check_at(i)) != NULL; i++)
        if (!strcmp(c->name, name))
            return c;
    fail();
    return NULL;
}

/* Runs one check on the CPU build. */
static struct findings run_check(struct arena *a, const char *name, const struct subject *s,
                                 uint64_t limit_bytes)
{
    struct device_options o = {.poison = true};
    struct check_in in = {.subject = s, .device_name = "cpu", .limit_bytes = limit_bytes};
    struct findings f = {.arena = a};
    struct device_text why;

    assert_int_equal(device_open("cpu", &o, &in.device, &why), DEVICE_OK);
    assert_int_equal(device_get_info(in.device, &in.info), DEVICE_OK);
    if (check_named(name)->run(&in, &f) != DEVICE_OK) {
        print_error("%s\n", device_error(in.device));
        fail();
    }
    kt_u64(device_used_bytes(in.device), 0);
    device_close(in.device);
    return f;
}

static const struct finding *find(const struct findings *f, const char *what)
{
    for (size_t i = 0; i < f->n; i++)
        if (!strncmp(f->list[i].what, what, strlen(what)))
            return &f->list[i];
    print_error("no finding '%s'\n", what);
    fail();
    return NULL;
}

static void none_failed(const struct findings *f)
{
    for (size_t i = 0; i < f->n; i++) {
        const struct finding *x = &f->list[i];
        if (x->verdict == VERDICT_FAILED)
            print_error("%s: %s: %s: %.0f predicted, %.0f measured: %s\n", x->spec, x->check,
                        x->what, x->predicted, x->measured, x->reason);
        assert_int_not_equal(x->verdict, VERDICT_FAILED);
    }
}

static void all_passed(const struct findings *f)
{
    none_failed(f);
    assert_true(f->n > 0);
}

static void is(const struct findings *f, const char *what, enum verdict v, double measured)
{
    const struct finding *x = find(f, what);

    assert_int_equal(x->verdict, v);
    kt_rel(x->measured, measured, 0);
}

#define GQA                                                                                    \
    "model: {layers: 2, hidden_size: 64, intermediate_size: 96, heads: 4, kv_heads: 2, "       \
    "head_dim: 32, vocab_size: 64}\nhardware: {memory: 1GiB}\n"
#define LOAD "workload: {prompt: 40, output: 8}\n"

static struct subject subject_of(struct kp *k)
{
    struct subject s;

    run_subject(k->arena, "spec", &k->problem, &s);
    return s;
}

/* Two sequences; a prompt of 40, 4 more tokens cached, and the new one. */
static void by_hand(void **state)
{
    struct kp *k = kp_build(GQA LOAD);
    struct subject s = subject_of(k);
    struct findings f = run_check(k->arena, "decode", &s, 0);

    (void)state;
    kt_u64(s.decoded, 4);
    is(&f, "bytes read", VERDICT_PASSED, 2.0 * 45 * 2 * (32 + 32) * 2);
    is(&f, "products", VERDICT_PASSED, 2.0 * 45 * 4 * (32 + 32) * 2);
    f = run_check(k->arena, "append", &s, 0);
    is(&f, "bytes written", VERDICT_PASSED, 2.0 * 2 * (32 + 32) * 2);
    f = run_check(k->arena, "prefill", &s, 0);
    is(&f, "products", VERDICT_PASSED, 2.0 * (40 * 41 / 2.0) * 4 * (32 + 32) * 2);
    is(&f, "bytes read", VERDICT_PASSED, 2.0 * 40 * 2 * (32 + 32) * 2);
    f = run_check(k->arena, "step", &s, 0);
    all_passed(&f);
    is(&f, "cache bytes read", VERDICT_PASSED, 2.0 * 2 * 45 * 2 * (32 + 32) * 2);
    is(&f, "cache bytes written", VERDICT_PASSED, 2.0 * 2 * 2 * (32 + 32) * 2);
    /* q 64 x 128, k and v 64 x 64 each, in 16 bits, two layers */
    is(&f, "weights read: qkv", VERDICT_PASSED, 2.0 * 2 * 64 * (128 + 64 + 64));
    is(&f, "weights read: output", VERDICT_PASSED, 2.0 * 2 * 128 * 64);
    is(&f, "weights read: mlp", VERDICT_PASSED, 2.0 * 2 * 3 * 64 * 96);
    is(&f, "weights read: head", VERDICT_PASSED, 2.0 * 64 * 64);
    is(&f, "weights read: norms", VERDICT_PASSED, 2.0 * 5 * 64);
    is(&f, "products: mlp", VERDICT_PASSED, 2.0 * 2 * 2 * 3 * 64 * 96);
    kp_free(k);
}

/* KIVI over a turn of its residual: every token in full precision, then packed: codes of 4
 * bits, and 4 bytes for a group of 32 channels of V or 32 tokens of a channel of K. */
static void kivi_by_hand(void **state)
{
    struct kp *k =
        kp_build(GQA LOAD "cache: {format: {scheme: kivi4, residual: 32, group: 32}}\n");
    struct subject s = subject_of(k);
    struct findings f = run_check(k->arena, "append", &s, 0);

    (void)state;
    is(&f, "bytes written", VERDICT_PASSED, 2.0 * 2 * (32 * 2 * 32 * 2 + 32 * 2 * (16 + 4)));
    f = run_check(k->arena, "prefill", &s, 0);
    assert_string_equal(f.list[0].reason, "a prompt attends before KIVI packs it");
    kp_free(k);
}

#define STATES                                                                                 \
    "model: {layers: 2, hidden_size: 64, vocab_size: 64, mixer: none, norms_per_layer: 1, "    \
    "ssm: {kind: mamba2, heads: 8, head_dim: 16, state_dim: 32, groups: 2, conv_kernel: 4}}\n" \
    "hardware: {memory: 1GiB}\n" LOAD

/* 8 heads of 16 x 32, and 3 columns of their 128 channels, of B and of C. */
static void states_by_hand(void **state)
{
    double slot = 2 * (3 * (128 + 2 * 64) + 128 * 32);
    double token = 5 * 128 * 32 + 2 * 4 * 256, in = 2 * 128 + 2 * 64 + 8;
    struct kp *k = kp_build(STATES);
    struct subject s = subject_of(k);
    struct findings f = run_check(k->arena, "state", &s, 0);

    (void)state;
    all_passed(&f);
    kt_u64(f.n, 8);
    is(&f, "bytes read of a step", VERDICT_PASSED, 2 * slot);
    is(&f, "bytes written of a step", VERDICT_PASSED, 2 * slot);
    is(&f, "products of a step", VERDICT_PASSED, 2 * token);
    is(&f, "bytes read of a prompt of 40 tokens", VERDICT_PASSED, slot);
    is(&f, "products of a prompt of 40 tokens", VERDICT_PASSED, 40 * token);
    assert_string_equal(f.list[0].what,
                        "bytes read of a step: mamba2, 768 + 4096 elements, x 2");
    f = run_check(k->arena, "step", &s, 0);
    all_passed(&f);
    is(&f, "states read", VERDICT_PASSED, 2 * 2 * slot);
    is(&f, "states written", VERDICT_PASSED, 2 * 2 * slot);
    is(&f, "products: state", VERDICT_PASSED, 2.0 * 2 * (2 * 64 * (in + 128) + token));
    is(&f, "weights read: state", VERDICT_PASSED,
       2.0 * 2 * (64 * (in + 128) + 256 * 5 + 3 * 8 + 128));
    is(&f, "weights read: norms", VERDICT_PASSED, 2.0 * 3 * 64);
    kp_free(k);
}

/* --- the matrix -----------------------------------------------------------------------------
 */

struct built {
    struct kp *k;
    struct subject s;
};

static struct built build(const struct matrix_row *row)
{
    struct built b = {.k = kp_build(row->spec)};

    run_subject(b.k->arena, row->name, &b.k->problem, &b.s);
    return b;
}

static void matrix_kernels(void **state)
{
    static const char *const checks[] = {"append", "decode", "prefill", "index", "state"};
    struct kt *t = *state;
    size_t n;
    const struct matrix_row *rows = matrix_rows(t->a, &n);

    assert_true(n >= 40);
    for (size_t i = 0; i < n; i++) {
        struct built b = build(&rows[i]);
        bool indexed = strstr(rows[i].spec, "indexer:") != NULL;
        size_t seen = 0;
        for (size_t c = 0; c < sizeof checks / sizeof *checks; c++) {
            struct findings f = run_check(b.k->arena, checks[c], &b.s, 0);
            none_failed(&f);
            seen += f.n;
            assert_true(!indexed || f.n || c != 3);
        }
        assert_true(seen > 0);
        kp_free(b.k);
    }
}

/* Retention acts in those rows that have it, or the matrix would show nothing. */
static void matrix_acts(void **state)
{
    struct kt *t = *state;
    size_t n, acting = 0;
    const struct matrix_row *rows = matrix_rows(t->a, &n);

    for (size_t i = 0; i < n; i++) {
        struct built b = build(&rows[i]);
        bool drops = false, asked = strstr(rows[i].spec, "eviction:") != NULL ||
                                    strstr(rows[i].spec, "indexer:") != NULL;
        for (uint32_t r = 0; r < b.s.layout->n_rows; r++) {
            const struct cache_row *row = &b.s.layout->rows[r];
            drops |= row->readers && (row->select_tokens ||
                                      row_stored_tokens(row, b.s.prompt, 0) <
                                          row_unpruned_tokens(row, b.s.prompt) ||
                                      row_stored_tokens(row, b.s.prompt, b.s.decoded) <
                                          row_unpruned_tokens(row, b.s.prompt));
        }
        assert_int_equal(drops, asked);
        acting += drops;
        kp_free(b.k);
    }
    assert_true(acting >= 12);
}

static void matrix_decoder(void **state)
{
    static const char *const some[] = {
        "lckv",         "kivi2",         "pyramidkv",  "mlkv l2norm int8",
        "adakv",        "mamba",         "mamba2",     "gated delta",
        "kda",          "lightning",     "short conv", "hybrid parallel",
        "gated memory", "yoco retention"};
    struct kt *t = *state;
    size_t n;
    const struct matrix_row *rows = matrix_rows(t->a, &n);

    for (size_t i = 0; i < n; i++) {
        bool wanted = false;
        for (size_t j = 0; j < sizeof some / sizeof *some; j++)
            wanted |= !strcmp(rows[i].name, some[j]);
        if (!wanted)
            continue;
        struct built b = build(&rows[i]);
        struct findings f = run_check(b.k->arena, "step", &b.s, 0);
        all_passed(&f);
        f = run_check(b.k->arena, "fit", &b.s, 0);
        all_passed(&f);
        kp_free(b.k);
    }
}

/* --- wrong predictions ----------------------------------------------------------------------
 */

/* Subjects have a fold of their own, so that it may be bent. */
static struct fold *bend(const struct subject *s)
{
    return (struct fold *)(uintptr_t)s->fold;
}

static void wrong_rows(void **state)
{
    struct kp *k = kp_build(GQA LOAD);
    struct subject s = subject_of(k);
    struct findings f;

    (void)state;
    bend(&s)->reads[0].source.k_format.block_bytes = 3;
    f = run_check(k->arena, "decode", &s, 0);
    is(&f, "bytes read", VERDICT_FAILED, 2.0 * 45 * 2 * (32 + 32) * 2);
    assert_string_equal(find(&f, "bytes read")->reason, "5760 bytes fewer than predicted");
    assert_int_equal(find(&f, "products")->verdict, VERDICT_PASSED);
    f = run_check(k->arena, "prefill", &s, 0);
    assert_int_equal(find(&f, "bytes read")->verdict, VERDICT_FAILED);
    s = subject_of(k);
    bend(&s)->reads[0].reader.value_dim = 33;
    f = run_check(k->arena, "decode", &s, 0);
    assert_string_equal(find(&f, "products")->reason, "720 flop fewer than predicted");
    s = subject_of(k);
    bend(&s)->stores[0].row.v_format.head_bytes = 4;
    f = run_check(k->arena, "append", &s, 0);
    assert_string_equal(find(&f, "bytes written")->reason, "16 bytes fewer than predicted");
    kp_free(k);
}

/* A window of 16 of 45 tokens: in decode its rows alone, over a prompt each query's own: every
 * row is read. */
static void windows(void **state)
{
    struct kp *k = kp_build(
        "model: {layers: 2, hidden_size: 64, intermediate_size: 96, heads: 4, kv_heads: 2, "
        "head_dim: 32, vocab_size: 64, window: 16}\nhardware: {memory: 1GiB}\n" LOAD);
    struct subject s = subject_of(k);
    struct findings f = run_check(k->arena, "decode", &s, 0);

    (void)state;
    is(&f, "bytes read", VERDICT_PASSED, 2.0 * 16 * 2 * (32 + 32) * 2);
    f = run_check(k->arena, "prefill", &s, 0);
    is(&f, "products", VERDICT_PASSED, 2.0 * (16 * 17 / 2.0 + 24 * 16) * 4 * (32 + 32) * 2);
    is(&f, "bytes read", VERDICT_PASSED, 2.0 * 40 * 2 * (32 + 32) * 2);
    kp_free(k);
}

static void wrong_steps(void **state)
{
    struct kp *k = kp_build(GQA LOAD);
    struct subject s = subject_of(k);
    struct findings f;

    (void)state;
    k->problem.stages[0].work.read_bytes[OP_MLP] += 2;
    k->problem.stages[0].work.token_flop[OP_HEAD] -= 2;
    bend(&s)->reads[0].count++;
    f = run_check(k->arena, "step", &s, 0);
    assert_string_equal(find(&f, "weights read: mlp")->reason, "2 bytes fewer than predicted");
    assert_string_equal(find(&f, "products: head")->reason, "4 flop more than predicted");
    assert_int_equal(find(&f, "cache bytes read")->verdict, VERDICT_FAILED);
    assert_int_equal(find(&f, "products: attention")->verdict, VERDICT_FAILED);
    assert_int_equal(find(&f, "products: mlp")->verdict, VERDICT_PASSED);
    assert_int_equal(find(&f, "weights read: qkv")->verdict, VERDICT_PASSED);
    kp_free(k);
}

static void wrong_states(void **state)
{
    struct kp *k = kp_build(STATES);
    struct subject s = subject_of(k);
    struct layout *l = (struct layout *)(uintptr_t)s.layout;
    struct findings f;

    (void)state;
    l->rows[0].state_elems++;
    k->problem.stages[0].work.token_flop[OP_STATE] += 1;
    bend(&s)->state_bytes -= 3;
    f = run_check(k->arena, "state", &s, 0);
    assert_string_equal(find(&f, "bytes read of a step")->reason,
                        "4 bytes fewer than predicted");
    assert_string_equal(find(&f, "bytes written of a prompt")->reason,
                        "2 bytes fewer than predicted");
    assert_int_equal(find(&f, "products of a step")->verdict, VERDICT_PASSED);
    f = run_check(k->arena, "step", &s, 0);
    assert_string_equal(find(&f, "states read")->reason, "6 bytes more than predicted");
    assert_string_equal(find(&f, "states written")->reason, "6 bytes more than predicted");
    assert_string_equal(find(&f, "products: state")->reason, "2 flop fewer than predicted");
    kp_free(k);
    k = kp_build(STATES);
    s = subject_of(k);
    k->problem.stages[0].fold.state_bytes /= 2;
    f = run_check(k->arena, "fit", &s, 1000000);
    assert_int_equal(find(&f, "sequences")->verdict, VERDICT_FAILED);
    kp_free(k);
}

static void wrong_fits(void **state)
{
    struct kp *k = kp_build(GQA LOAD);
    struct subject s = subject_of(k);
    struct findings f;

    (void)state;
    k->problem.stages[0].work.weights_bytes *= 2;
    f = run_check(k->arena, "fit", &s, 400000);
    assert_int_equal(find(&f, "sequences")->verdict, VERDICT_FAILED);
    assert_string_equal(find(&f, "sequences")->reason, "more than 0 % from what was predicted");
    assert_int_equal(find(&f, "bytes of weights")->verdict, VERDICT_FAILED);
    kp_free(k);
    k = kp_build(GQA LOAD);
    s = subject_of(k);
    k->problem.stages[0].fold.stores[0].row.k_format.block_bytes = 4;
    f = run_check(k->arena, "fit", &s, 400000);
    assert_int_equal(find(&f, "sequences")->verdict, VERDICT_FAILED);
    kp_free(k);
}

/* --- fit ------------------------------------------------------------------------------------
 */

/* Memory that nothing fits, that one sequence fits, and that several do: the bisection goes
 * both ways and ends where one more fails. */
static void limits(void **state)
{
    struct kp *k = kp_build(GQA LOAD);
    struct subject s = subject_of(k);
    struct findings f = run_check(k->arena, "fit", &s, 1000);
    double before = -1;

    (void)state;
    is(&f, "sequences of 28 + 3 tokens in 1000 B", VERDICT_PASSED, 0);
    kt_u64(f.n, 1);
    for (uint64_t limit = 240000; limit < 600000; limit += 90000) {
        f = run_check(k->arena, "fit", &s, limit);
        all_passed(&f);
        assert_true(f.list[0].measured > before);
        before = f.list[0].measured;
    }
    assert_true(before > 4);
    kp_free(k);
}

static void waived(const char *yaml, const char *check, const char *reason)
{
    struct kp *k = kp_build(yaml);
    struct subject s = subject_of(k);
    struct findings f = run_check(k->arena, check, &s, 0);
    bool found = false;

    for (size_t i = 0; i < f.n; i++)
        found |= f.list[i].verdict == VERDICT_WAIVED && !strcmp(f.list[i].reason, reason);
    if (!found)
        print_error("%s: '%s'\n", check, f.n ? f.list[0].reason : "no finding");
    assert_true(found);
    kp_free(k);
}

#define SLIDING                                                                                \
    "model: {layers: 2, window: 16, hidden_size: 64, intermediate_size: 96, heads: 4, "        \
    "kv_heads: 2, head_dim: 32, vocab_size: 64}\nhardware: {memory: 1GiB}\n"
#define BIG "model: Llama-3.1-8B\nhardware: {gpu: h100, count: 2}\n"

static void waivers(void **state)
{
    (void)state;
    waived("model: DeepSeek-V3\nhardware: {gpu: h100, count: 16}\nparallel: {tp: 16}\ncache: "
           "{format: nvfp4_ds_mla}\n",
           "decode", "no kernel has this storage format");
    waived(GQA LOAD "cache: {format: q8_0}\n", "append", "no kernel has this storage format");
    waived(GQA LOAD "cache: {k: kivi4, v: bf16}\n", "decode",
           "the kernels have KIVI for K and V together only");
    waived("model: {layers: 2, hidden_size: 64, vocab_size: 64, mixer: none, ssm: {kind: "
           "lightning, heads: 4, head_dim: 40}}\nhardware: {memory: 1GiB}\n" LOAD,
           "state", "states of 16, 32, 64, 128 or 256 columns, rows a multiple of 8");
    waived("model: {layers: 2, hidden_size: 64, vocab_size: 64, mixer: none, ssm: {kind: "
           "lightning, heads: 3, head_dim: 32}}\nhardware: {memory: 1GiB, count: "
           "2}\nparallel: {tp: 2}\n" LOAD,
           "state", "no rank has its heads or groups whole");
    waived("model: Llama-3.1-8B\nhardware: {gpu: h100}\n", "step",
           "too large for the CPU build as a whole; its kernels were counted one by one");
    waived("model: Llama-3.1-8B\nhardware: {gpu: h100}\n", "fit",
           "too large for the CPU build");
    waived(BIG "parallel: {pp: 2}\n", "fit", "one GPU cannot stand in for a pipeline of them");
    waived(
        "model: Llama-3.1-8B\nhardware: {gpu: h100, host_memory: 64GiB}\ncache: {offload: 0.5}\n",
        "fit", "nothing is kept in host memory here");
    waived(GQA LOAD "engine: {name: hf, version: \"4.56.0\"}\n", "fit",
           "the engine lays a cache out in its own way, the decoder in pages");
    waived(GQA LOAD "cache: {format: {scheme: kivi4, group: 16, residual: 16}, eviction: "
                    "{scheme: snapkv, capacity: 20, window: 4, layout: kv_head}}\n",
           "fit", "the decoder allocates KIVI's tail whole, of which a rule may leave less");
    waived(SLIDING LOAD "cache: {eviction: {scheme: adakv, capacity: 9, window: 3}}\n",
           "decode",
           "heads that keep different numbers of rows of a sliding window are not run");
    waived(SLIDING LOAD
           "cache: {eviction: {scheme: quest, page: 4, budget: 8, dense_layers: 0}}\n",
           "decode", "pages of a sliding window are not picked");
}

/* Prompts are cut, unless that would keep a retention rule from acting. */
static void sizes(void **state)
{
    struct kp *k = kp_build(GQA "workload: {prompt: 2000, output: 400}\n");
    struct subject s = subject_of(k);

    (void)state;
    kt_u64(s.prompt, 448);
    kt_u64(s.decoded, 64);
    kt_u64(s.asked_prompt, 2000);
    kt_u64(s.asked_decoded, 200);
    kp_free(k);
    k = kp_build(
        GQA "workload: {prompt: 100k}\ncache: {eviction: {scheme: tova, capacity: 1500}}\n");
    s = subject_of(k);
    kt_u64(s.prompt, 1792);
    kp_free(k);
    k = kp_build(
        GQA "workload: {prompt: 100k}\ncache: {eviction: {scheme: tova, capacity: 50k}}\n");
    s = subject_of(k);
    kt_u64(s.prompt, 4096);
    kp_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(by_hand),        kt_test(kivi_by_hand),   kt_test(matrix_kernels),
        kt_test(matrix_acts),    kt_test(matrix_decoder), kt_test(wrong_rows),
        kt_test(windows),        kt_test(wrong_steps),    kt_test(wrong_fits),
        kt_test(states_by_hand), kt_test(wrong_states),   kt_test(limits),
        kt_test(waivers),        kt_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
