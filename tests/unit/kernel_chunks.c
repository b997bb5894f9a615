/* kernel_chunks: mean scores of chunks against double precision, chunks cut short and windows
 * that span some of them included, and the traffic as the formula says. */
#include <math.h>

#include "kernels/chunks.h"
#include "tests/kvkernel.h"

enum { SEQUENCES = 2, HEADS = 3, WIDTH = 330 };

struct setting {
    uint32_t count[SEQUENCES], window, chunk;
};

static void close_to(const struct setting *o, uint32_t s, const float *x, const float *got)
{
    uint32_t n = o->count[s], rows = n + o->window;
    double most = n ? -INFINITY : 0;

    for (uint32_t h = 0; h < HEADS; h++)
        for (uint32_t i = 0; i < n; i++)
            most = fmax(most, (double)x[h * WIDTH + i]);
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t from = i / o->chunk * o->chunk, to = from + o->chunk;
        double sum = 0;
        to = to < rows ? to : rows;
        for (uint32_t h = 0; h < HEADS; h++)
            for (uint32_t j = from; j < to; j++)
                sum += j < n ? (double)x[h * WIDTH + j] : most;
        for (uint32_t h = 0; h < HEADS; h++) {
            assert_true(fabs((double)got[h * WIDTH + i] - sum / (to - from)) < 1e-5);
            assert_true(got[h * WIDTH + i] == got[from]); /* equal to the bit */
        }
    }
    assert_true(isnan(got[rows])); /* poisoned, as before */
}

static void one(struct kk *k, const struct setting *o)
{
    enum { CELLS = SEQUENCES * HEADS * WIDTH };
    struct chunks_args a = {.sequences = SEQUENCES,
                            .heads = HEADS,
                            .width = WIDTH,
                            .window = o->window,
                            .chunk = o->chunk};
    struct tally seen, want = {.launches = 1};
    float x[CELLS], got[CELLS];

    for (uint32_t i = 0; i < CELLS; i++)
        x[i] = i % WIDTH < o->count[i / WIDTH / HEADS] ? (float)kk_normal(k) : (float)NAN;
    a.scores = kk_put(k, TAG_WORK, x, sizeof x);
    a.out = kk_new(k, TAG_WORK, sizeof x);
    a.count = kk_put(k, TAG_WORK, o->count, sizeof o->count);
    device_tally_reset(k->d);
    kk_ok(k, chunks_run(k->d, &a));
    kk_seen(k, &seen);
    kk_get(k, got, a.out, sizeof got);
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        close_to(o, s, x + s * HEADS * WIDTH, got + s * HEADS * WIDTH);
        want.unique_read_bytes[TAG_WORK] += 4 + (uint64_t)o->count[s] * HEADS * 4;
        want.unique_written_bytes[TAG_WORK] += ((uint64_t)o->count[s] + o->window) * HEADS * 4;
    }
    chunks_traffic(&a, o->count, &want.issued);
    kk_tally(k, &want);
}

static void chunks(void **state)
{
    static const struct setting all[] = {
        {{300, 17}, 8, 20}, {{64, 1}, 0, 16}, {{100, 0}, 12, 7},
        {{9, 200}, 64, 1},  {{3, 5}, 2, 300},
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        one(*state, &all[i]);
}

static void refuses(void **state)
{
    static const char why[] =
        "chunks: 1 to 65535 sequences, at least one head, place and row of a chunk";
    struct kk *k = *state;
    float x;
    struct chunks_args good = {
        .scores = &x, .out = &x, .sequences = 1, .heads = 1, .width = 1, .chunk = 1};

    for (int i = 0; i < 5; i++) {
        struct chunks_args a = good;
        a.sequences = i == 0 ? 0 : i == 1 ? 65536 : 1;
        a.heads = i != 2;
        a.width = i != 3;
        a.chunk = i != 4;
        kk_refused(k, chunks_run(k->d, &a), why);
    }
    kk_refused(k, chunks_run(k->d, &good), "chunks: not in place");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(chunks),
        kk_reversed(chunks),
        kk_test(refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
