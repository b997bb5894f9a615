/* kernel_tile: products of tiles (dev_tile_scores, dev_tile_values) on the CPU build: against
 * double precision on the documented layouts, by two warpgroups at their own pace, under way
 * until waited for; and what a GPU would not forgive is found. */
#include "kernels/dev.h"
#include "tests/kvstore.h"

enum { ROWS = 128, DEPTH = 192, COLUMNS = 128, OUT = 2 * 64 * (128 + 128) };

struct bench {
    void *self;
    float *out;   /* [2 groups][64][128] scores, then as many values */
    uint16_t *in; /* [128][192] A, then B; V is the first 128 columns of B */
    double a[ROWS][DEPTH], b[ROWS][DEPTH];
};

struct args {
    float *out;
    const uint16_t *in;
    uint32_t units, columns;
    bool fp16;
};

static int open_with(void **state, bool reversed)
{
    struct device_options o = {.reversed = reversed, .poison = true};
    struct bench *b = calloc(1, sizeof *b);
    struct device_text why;
    void *p = NULL;

    assert_int_equal(backend_cpu.open("", &o, &b->self, &why), DEVICE_OK);
    assert_int_equal(backend_cpu.alloc(b->self, 4 * OUT, TAG_WORK, &p), DEVICE_OK);
    b->out = p;
    assert_int_equal(backend_cpu.alloc(b->self, 2 * 2 * ROWS * DEPTH, TAG_K, &p), DEVICE_OK);
    b->in = p;
    *state = b;
    return 0;
}

static int open_forward(void **state)
{
    return open_with(state, false);
}

static int open_backward(void **state)
{
    return open_with(state, true);
}

static int close_bench(void **state)
{
    struct bench *b = *state;

    backend_cpu.free(b->self, b->out);
    backend_cpu.free(b->self, b->in);
    backend_cpu.close(b->self);
    free(b);
    return 0;
}

DEV void fill(struct lane *t, const struct args *a, uint16_t *tile, uint32_t first)
{
    for (uint32_t i = dev_thread(t); i < ROWS * DEPTH; i += dev_threads(t)) {
        uint32_t row = i / DEPTH, column = i % DEPTH;
        tile[column / 64 * (ROWS * 64) + row * 64 + (column % 64 / 8 ^ row % 8) * 8 +
             column % 8] = dev_load16(t, a->in + first + i);
    }
}

/* Each warpgroup: x = A B^T of its 64 rows, then o = 1 + P V with P = x in 16 bits. */
DEV void tile_body(struct lane *t, const struct args *a)
{
    uint16_t *q = (uint16_t *)dev_shared(t), *k = q + ROWS * DEPTH;
    uint32_t group = dev_thread(t) / 128, warp = dev_warp(t) % 4, lane = dev_lane(t);
    uint32_t prob[8][4];
    float x[64], o[64];

    fill(t, a, q, 0);
    fill(t, a, k, ROWS * DEPTH);
    dev_tile_fence(t);
    dev_barrier(t);
    dev_tile_scores(t, x, q + group * 64 * 64, k, a->units, a->fp16);
    assert_true(isnan(x[0]) && isnan(x[63]));
    dev_tile_wait(t, 0);
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t row = 16 * warp + lane / 4 + i / 2 % 2 * 8;
        uint32_t column = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
        dev_store_float(t, a->out + (group * 64 + row) * 128 + column, x[i]);
        o[i] = 1.0f;
    }
    for (uint32_t i = 0; i < 32; i++)
        prob[i / 4][i % 4] = dev_pack_16(x[2 * i], x[2 * i + 1], a->fp16);
    dev_tile_scores(t, x, q, k, 1, a->fp16);
    dev_tile_values(t, o, prob, k, a->columns, a->fp16);
    assert_true(isnan(o[0]));
    dev_tile_wait(t, 1);
    assert_true(!isnan(x[0]) && isnan(o[0]));
    dev_tile_wait(t, 0);
    for (uint32_t i = 0; i < a->columns / 2; i++) {
        uint32_t row = 16 * warp + lane / 4 + i / 2 % 2 * 8;
        uint32_t column = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
        dev_store_float(t, a->out + ((2 + group) * 64 + row) * 128 + column, o[i]);
    }
}
KERNEL(tile_kernel, 256, struct args, tile_body(t, a))

static void tried(struct bench *b, uint32_t units, uint32_t columns, bool fp16)
{
    double (*round16)(double) = fp16 ? ks_round_fp16 : ks_round_bf16;
    struct args a = {b->out, b->in, units, columns, fp16};
    struct shape s = {{1, 1, 1}, 256, 2 * 2 * ROWS * DEPTH};
    struct rng rng = {.s = kt_seed(5)};

    for (uint32_t i = 0; i < 2 * ROWS * DEPTH; i++) {
        double x = round16(rng_unit(&rng) - 0.5);
        (i < ROWS * DEPTH ? b->a : b->b)[i / DEPTH % ROWS][i % DEPTH] = x;
        b->in[i] = fp16 ? ks_bits_fp16(x) : ks_bits_bf16(x);
    }
    if (host_launch(b->self, s, tile_kernel, &a) != DEVICE_OK)
        fail_msg("%s", backend_cpu.error(b->self));
    for (uint32_t row = 0; row < ROWS; row++) {
        double p[ROWS];
        for (uint32_t n = 0; n < ROWS; n++) {
            double want = 0, got = (double)b->out[row * 128 + n];
            for (uint32_t k = 0; k < 16 * units; k++)
                want += b->a[row][k] * b->b[n][k];
            assert_true(fabs(got - want) < 1e-5);
            p[n] = round16(got);
        }
        for (uint32_t n = 0; n < columns; n++) {
            double want = 1;
            for (uint32_t k = 0; k < ROWS; k++)
                want += p[k] * b->b[k][n];
            assert_true(fabs((double)b->out[(ROWS + row) * 128 + n] - want) < 1e-5);
        }
    }
}

static void products(void **state)
{
    struct tally t;
    struct bench *b = *state;

    tried(b, 4, 64, false);
    (void)backend_cpu.tally(b->self, NULL, N_TAGS);
    tried(b, 12, 128, true);
    assert_int_equal(backend_cpu.tally(b->self, &t, N_TAGS), DEVICE_OK);
    kt_u64(t.issued.tensor_flop, 2 * 2 * 64 * 128 * (192 + 16 + 128));
}

#define FAULTY(name, body)                                                                     \
    static void name##_body(struct lane *t)                                                    \
    {                                                                                          \
        float x[64], y[64], z[64];                                                             \
        uint16_t *s = (uint16_t *)dev_shared(t);                                               \
        (void)y, (void)z;                                                                      \
        body;                                                                                  \
    }                                                                                          \
    KERNEL(name, 256, struct args, ((void)a, name##_body(t)))

FAULTY(outside, dev_tile_scores(t, x, s, s, 8, false); dev_tile_wait(t, 0))
FAULTY(askew, dev_tile_scores(t, x, s + 64, s, 4, false); dev_tile_wait(t, 0))
FAULTY(unwaited, dev_tile_scores(t, x, s, s, 4, false))
FAULTY(third, dev_tile_scores(t, x, s, s, 4, false); dev_tile_scores(t, y, s, s, 4, false);
       dev_tile_scores(t, z, s, s, 4, false))
FAULTY(one_warp, if (dev_warp(t) == 1) dev_tile_scores(t, x, s, s, 4, false);
       else dev_barrier(t))

static void found(void **state)
{
    struct bench *b = *state;
    struct shape s = {{1, 1, 1}, 128, 128 * 128};
    struct args a = {.units = 0};
    static const struct {
        host_kernel kernel;
        const char *want;
    } all[] = {
        {outside, "thread 0: 1024 bytes outside of the block's shared memory"},
        {askew, "thread 0: shared memory that is not aligned to 1024 bytes"},
        {unwaited, "thread 0: 1 asynchronous products were never waited for"},
        {third, "thread 0: more than 2 products of tiles under way"},
        {one_warp, "waits for a product of tiles at"},
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_int_equal(host_launch(b->self, s, all[i].kernel, &a), DEVICE_FAULT);
        if (!strstr(backend_cpu.error(b->self), all[i].want))
            fail_msg("got  %s\nwant %s", backend_cpu.error(b->self), all[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(products, open_forward, close_bench),
        {"products reversed", products, open_backward, close_bench, NULL},
        cmocka_unit_test_setup_teardown(found, open_forward, close_bench),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
