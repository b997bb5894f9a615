/* On a GPU: every row of the default matrix that the decoder runs gives the logits that the CPU
 * build gives, after the prompt and, where nothing is dropped, after some steps; a limit of
 * memory is a status and not a crash. Indexers choose what their scores ask for, and these are
 * the CPU's; as rows that nearly tie may still change places, logits are compared where an
 * indexer chooses all rows. Skips without a device. The environment may ask for less:
 * GPU_ROWS=5 takes every fifth row of the matrix, and those with an indexer. */
#include <math.h>
#include <stdlib.h>

#include "kernels/device_time.h"
#include "planner/base/unit.h"
#include "tests/kvchosen.h"
#include "tests/kvplan.h"
#include "validate/decoder.h"
#include "validate/matrix.h"

enum { SEQUENCES = 2, PROMPT = 40, STEPS = 4, N_TOKENS = SEQUENCES * (PROMPT + STEPS + 1) };
#define TOLERANCE 0.05 /* of the largest logit: two orders of sums in 16 bits */
#define RANKED 0.01    /* of scores, root mean squares: 16 bits of the same numbers */

static bool device_usable(void)
{
    struct device_text why;

    if (device_cuda_count(&why))
        return true;
    print_message("# no GPU: %s\n", why.text);
    return false;
}

struct ran {
    float *prompt, *steps; /* logits after the prompt, and after STEPS */
    uint32_t *tokens;      /* those chosen */
    struct ki *seen;       /* what indexers have chosen; NULL: not asked for */
};

static void run_on(const char *name, struct kp *k, struct ran *r)
{
    struct decoder_setting set = {
        .sequences = SEQUENCES, .prompt = PROMPT, .output = STEPS, .seed = 5};
    struct device_options o = {.poison = true};
    const struct layout *l = &k->problem.layout;
    struct decoder *x = NULL;
    struct device_text why;
    struct device *d;
    uint32_t n;

    assert_int_equal(device_open(name, &o, &d, &why), DEVICE_OK);
    if (decoder_open(d, &k->problem, &set, &x) == DEVICE_OK && r->seen) {
        *r->seen = ki_open(k->arena, x, l->n_layers, l->layers[0].attn.index_topk, &set);
        decoder_watch(x, ki_watch, r->seen);
    }
    if (!x || decoder_prefill(x) != DEVICE_OK || decoder_logits(x, r->prompt) != DEVICE_OK ||
        decoder_decode(x, STEPS) != DEVICE_OK || decoder_logits(x, r->steps) != DEVICE_OK ||
        decoder_tokens(x, r->tokens, &n) != DEVICE_OK) {
        print_error("%s: %s\n", name, device_error(d));
        fail();
    }
    decoder_close(x);
    kt_u64(device_used_bytes(d), 0);
    device_close(d);
}

/* Both devices; the CPU's first. False: the decoder does not run it. */
static bool run_both(struct kp *k, struct ran r[2], size_t *n)
{
    struct device_text why;

    *n = (size_t)SEQUENCES * k->problem.model.vocab;
    if (!decoder_supports(&k->problem, &why))
        return false;
    for (int i = 0; i < 2; i++) {
        r[i].prompt = ARENA_NEW(k->arena, float, *n);
        r[i].steps = ARENA_NEW(k->arena, float, *n);
        r[i].tokens = ARENA_NEW(k->arena, uint32_t, N_TOKENS);
        run_on(i ? "cuda:0" : "cpu", k, &r[i]);
    }
    return true;
}

static void close_to(const float *got, const float *want, size_t n)
{
    double most = 0, apart = 0;

    for (size_t i = 0; i < n; i++) {
        assert_true(isfinite(got[i]));
        most = fmax(most, fabs((double)want[i]));
        apart = fmax(apart, fabs((double)got[i] - (double)want[i]));
    }
    if (apart > TOLERANCE * most)
        print_error("apart by %g, the largest logit is %g\n", apart, most);
    assert_true(apart <= TOLERANCE * most);
}

static void compare_logits(const char *spec)
{
    struct ran r[2] = {{.seen = NULL}, {.seen = NULL}};
    struct kp *k = kp_build(spec);
    size_t n;

    if (run_both(k, r, &n)) {
        close_to(r[1].prompt, r[0].prompt, n);
        if (!strstr(spec, "eviction:") &&
            !memcmp(r[0].tokens, r[1].tokens, N_TOKENS * sizeof *r->tokens))
            close_to(r[1].steps, r[0].steps, n);
    }
    kp_free(k);
}

/* Above the first layer what was chosen otherwise has already changed what the scores are of.
 */
static void compare_choices(const char *spec)
{
    struct ki seen[2];
    struct ran r[2] = {{.seen = &seen[0]}, {.seen = &seen[1]}};
    struct kp *k = kp_build(spec);
    double size = 0, apart = 0;
    size_t n;

    if (run_both(k, r, &n)) {
        for (uint32_t i = 0; i < SEQUENCES * PROMPT; i++) {
            const float *want = ki_at(&seen[0], 0, i / PROMPT, i % PROMPT)->scores;
            const float *got = ki_at(&seen[1], 0, i / PROMPT, i % PROMPT)->scores;
            for (uint32_t j = 0; j <= i % PROMPT; j++) {
                size += pow((double)want[j], 2);
                apart += pow((double)got[j] - (double)want[j], 2);
            }
        }
        print_message("# scores apart by %g of 1\n", sqrt(apart / size));
        assert_true(apart <= RANKED * RANKED * size);
    }
    kp_free(k);
}

/* The spec with an indexer that chooses as many rows as there can be. */
static const char *all_chosen(struct arena *a, const char *spec, const char *indexer)
{
    const char *at = strstr(indexer, "top_k: ") + strlen("top_k: ");

    return arena_printf(a, "%.*s%d%s", (int)(at - spec), spec, PROMPT + STEPS,
                        at + strspn(at, "0123456789"));
}

static void logits(void **state)
{
    struct kt *t = *state;
    const char *every = getenv("GPU_ROWS");
    uint64_t step = 1;
    size_t n;
    const struct matrix_row *rows = matrix_rows(t->a, &n);

    if (!device_usable())
        skip();
    if (every && (unit_parse_u64(every, &step) != UNIT_OK || !step))
        fail_msg("GPU_ROWS is not a number above 0: %s", every);
    for (size_t i = 0; i < n; i++) {
        const char *indexer = strstr(rows[i].spec, "indexer:");
        if (i % step && !indexer)
            continue;
        print_message("# %s\n", rows[i].name);
        compare_logits(indexer ? all_chosen(t->a, rows[i].spec, indexer) : rows[i].spec);
        if (indexer)
            compare_choices(rows[i].spec);
    }
}

/* A step that is recorded and replayed does what one does that is launched kernel by kernel;
 * the times between its ops are all there. */
static void recorded(void **state)
{
    static const char *const caches[] = {"", "cache: {format: int8_per_token_head}\n",
                                         "cache: {sharing: {scheme: lckv, warmup: 2}}\n",
                                         "cache: {eviction: {scheme: tova, capacity: 24}}\n"};
    struct device_options o = {.poison = true};
    struct decoder_setting set = {.sequences = 2, .prompt = PROMPT, .output = STEPS, .seed = 5};
    struct kt *t = *state;
    struct device_text why;

    if (!device_usable())
        skip();
    for (size_t i = 0; i < sizeof caches / sizeof *caches; i++) {
        struct kp *k = kp_build(arena_printf(
            t->a,
            "model: {layers: 6, hidden_size: 64, intermediate_size: 128, heads: 4, "
            "kv_heads: 2, head_dim: 32, vocab_size: 256}\nhardware: {memory: 1GiB}\n%s",
            caches[i]));
        float logits[2][2 * 256];
        for (int replayed = 0; replayed < 2; replayed++) {
            struct decoder *x;
            struct device *d;
            assert_int_equal(device_open("cuda:0", &o, &d, &why), DEVICE_OK);
            assert_int_equal(decoder_open(d, &k->problem, &set, &x), DEVICE_OK);
            assert_int_equal(decoder_prefill(x), DEVICE_OK);
            assert_int_equal(decoder_decode(x, 1), DEVICE_OK);
            for (int step = 0; step < 2; step++) {
                if (replayed)
                    assert_int_equal(device_record(d), DEVICE_OK);
                assert_int_equal(decoder_decode(x, 1), DEVICE_OK);
                if (replayed) {
                    assert_int_equal(device_recorded(d), DEVICE_OK);
                    assert_int_equal(device_replay(d), DEVICE_OK);
                }
            }
            assert_int_equal(decoder_logits(x, logits[replayed]), DEVICE_OK);
            decoder_close(x);
            device_close(d);
        }
        assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
        kp_free(k);
    }
}

static void limit(void **state)
{
    struct device_options o = {.limit_bytes = 1 << 20};
    struct device_text why;
    struct device *d;
    void *p;

    (void)state;
    if (!device_usable())
        skip();
    assert_int_equal(device_open("cuda:0", &o, &d, &why), DEVICE_OK);
    assert_int_equal(device_alloc(d, 1 << 19, TAG_WORK, &p), DEVICE_OK);
    assert_int_equal(device_alloc(d, 1 << 20, TAG_WORK, &p), DEVICE_OUT_OF_MEMORY);
    device_free_all(d);
    assert_int_equal(device_alloc(d, 1 << 20, TAG_WORK, &p), DEVICE_OK);
    device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {kt_test(logits), kt_test(recorded), kt_test(limit)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
