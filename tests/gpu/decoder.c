/* On a GPU: every row of the default matrix that the decoder runs gives the logits that the CPU
 * build gives, after the prompt and, where nothing is dropped, after some steps; a limit of
 * memory is a status and not a crash. Skips without a device. The environment may ask for less:
 * GPU_ROWS=5 takes every fifth row of the matrix. */
#include <math.h>
#include <stdlib.h>

#include "kernels/device_time.h"
#include "planner/base/unit.h"
#include "tests/kvplan.h"
#include "validate/decoder.h"
#include "validate/matrix.h"

enum { SEQUENCES = 2, PROMPT = 40, STEPS = 4 };
#define TOLERANCE 0.05 /* of the largest logit: two orders of sums in 16 bits */
#define PICKED 0.25    /* where scores that are almost the same pick what attention sees */

static bool device_usable(void)
{
    struct device_text why;

    if (device_cuda_count(&why))
        return true;
    print_message("# no GPU: %s\n", why.text);
    return false;
}

/* Logits after the prompt and after STEPS, and the tokens chosen. */
static void run_on(const char *name, struct kp *k, float *prompt, float *steps,
                   uint32_t *tokens)
{
    struct decoder_setting set = {
        .sequences = SEQUENCES, .prompt = PROMPT, .output = STEPS, .seed = 5};
    struct device_options o = {.poison = true};
    struct decoder *x = NULL;
    struct device_text why;
    struct device *d;
    uint32_t n;

    assert_int_equal(device_open(name, &o, &d, &why), DEVICE_OK);
    if (decoder_open(d, &k->problem, &set, &x) != DEVICE_OK ||
        decoder_prefill(x) != DEVICE_OK || decoder_logits(x, prompt) != DEVICE_OK ||
        decoder_decode(x, STEPS) != DEVICE_OK || decoder_logits(x, steps) != DEVICE_OK ||
        decoder_tokens(x, tokens, &n) != DEVICE_OK) {
        print_error("%s: %s\n", name, device_error(d));
        fail();
    }
    decoder_close(x);
    kt_u64(device_used_bytes(d), 0);
    device_close(d);
}

static void close_to(const float *got, const float *want, size_t n, double tolerance)
{
    double most = 0, apart = 0;

    for (size_t i = 0; i < n; i++) {
        assert_true(isfinite(got[i]));
        most = fmax(most, fabs((double)want[i]));
        apart = fmax(apart, fabs((double)got[i] - (double)want[i]));
    }
    if (apart > tolerance * most)
        print_error("apart by %g, the largest logit is %g\n", apart, most);
    assert_true(apart <= tolerance * most);
}

static void compare_row(const struct matrix_row *row)
{
    struct kp *k = kp_build(row->spec);
    size_t n = (size_t)SEQUENCES * k->problem.model.vocab;
    size_t n_tokens = (size_t)SEQUENCES * (PROMPT + STEPS + 1);
    float *logits = ARENA_NEW(k->arena, float, 4 * n);
    uint32_t *tokens = ARENA_NEW(k->arena, uint32_t, 2 * n_tokens);
    double tolerance = strstr(row->spec, "indexer:") ? PICKED : TOLERANCE;
    struct device_text why;

    if (decoder_supports(&k->problem, &why)) {
        print_message("# %s\n", row->name);
        run_on("cpu", k, logits, logits + n, tokens);
        run_on("cuda:0", k, logits + 2 * n, logits + 3 * n, tokens + n_tokens);
        close_to(logits + 2 * n, logits, n, tolerance);
        if (!strstr(row->spec, "eviction:") &&
            !memcmp(tokens, tokens + n_tokens, n_tokens * sizeof *tokens))
            close_to(logits + 3 * n, logits + n, n, tolerance);
    }
    kp_free(k);
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
    for (size_t i = 0; i < n; i += step)
        compare_row(&rows[i]);
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
