/* kernel_dev: what kernels/dev.h promises, on the CPU build: indices, meetings of threads,
 * matrix instructions on the documented layouts, asynchronous copies, numbers; and every fault
 * that a GPU would not forgive is found, with its thread and line. */
#include "kernels/dev.h"
#include "tests/kvstore.h"

struct bench { /* a CPU device without the front */
    void *self;
    uint32_t *out; /* device memory */
};

struct args {
    uint32_t *out;
    const void *in;
    uint32_t n;
};

enum { OUT_WORDS = 4096 };

static int open_with(void **state, bool reversed)
{
    struct device_options o = {.reversed = reversed};
    struct bench *b = calloc(1, sizeof *b);
    struct device_text why;
    void *p = NULL;

    assert_int_equal(backend_cpu.open("", &o, &b->self, &why), DEVICE_OK);
    assert_int_equal(backend_cpu.alloc(b->self, 4 * OUT_WORDS, TAG_WORK, &p), DEVICE_OK);
    b->out = p;
    memset(p, 0, 4 * OUT_WORDS);
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
    backend_cpu.close(b->self);
    free(b);
    return 0;
}

static enum device_status launch(struct bench *b, host_kernel k, uint32_t blocks,
                                 uint32_t threads, uint32_t shared)
{
    struct shape s = {{blocks, 1, 1}, threads, shared};
    struct args a = {b->out, NULL, OUT_WORDS};

    return host_launch(b->self, s, k, &a);
}

static void runs(struct bench *b, host_kernel k, uint32_t threads, uint32_t shared)
{
    if (launch(b, k, 1, threads, shared) != DEVICE_OK)
        fail_msg("%s", backend_cpu.error(b->self));
}

/* The launch fails with this text; an asterisk stands for the number of a line. */
static void faults(struct bench *b, host_kernel k, uint32_t threads, const char *want)
{
    const char *got, *at;

    assert_int_equal(launch(b, k, 1, threads, 64), DEVICE_FAULT);
    got = backend_cpu.error(b->self);
    for (at = want; *at && *got; at++, got++) {
        if (*at == '*')
            while (got[1] >= '0' && got[1] <= '9')
                got++;
        else if (*at != *got)
            break;
    }
    if (*at || *got)
        fail_msg("got  %s\nwant %s", backend_cpu.error(b->self), want);
}

DEV void indices_body(struct lane *t, const struct args *a)
{
    uint32_t at = (dev_block(t, 2) * 3 + dev_block(t, 1)) * 2 + dev_block(t, 0);

    dev_store32(t, a->out + at * 64 + dev_thread(t),
                dev_warp(t) * 100 + dev_lane(t) + 1000 * dev_threads(t));
    assert_int_equal(dev_blocks(t, 0) * dev_blocks(t, 1) * dev_blocks(t, 2), 12);
}
KERNEL(indices_kernel, 64, struct args, indices_body(t, a))

static void indices(void **state)
{
    struct bench *b = *state;
    struct shape s = {{2, 3, 2}, 64, 0};
    struct args a = {b->out, NULL, 0};

    assert_int_equal(host_launch(b->self, s, indices_kernel, &a), DEVICE_OK);
    for (uint32_t i = 0; i < 12 * 64; i++)
        kt_u64(b->out[i], 64000 + i % 64 / 32 * 100 + i % 32);
}

/* Through shared memory and back in another order; the first touch sees no numbers. */
DEV void shared_body(struct lane *t, const struct args *a)
{
    uint32_t *s = (uint32_t *)dev_shared(t), me = dev_thread(t), before = s[me];

    dev_barrier(t);
    s[me] = me * me;
    dev_barrier(t);
    dev_store32(t, a->out + me, s[127 - me] + (before == UINT32_MAX));
}
KERNEL(shared_kernel, 128, struct args, shared_body(t, a))

static void shared_memory(void **state)
{
    struct bench *b = *state;

    runs(b, shared_kernel, 128, 512);
    for (uint32_t i = 0; i < 128; i++)
        kt_u64(b->out[i], (127 - i) * (127 - i) + 1);
}

DEV void meet_body(struct lane *t, const struct args *a)
{
    uint32_t me = dev_lane(t), *out = a->out + 8 * dev_thread(t);

    dev_store32(t, out, (uint32_t)dev_sum(t, (float)me, 32));
    dev_store32(t, out + 1, (uint32_t)dev_sum(t, (float)me, 4));
    dev_store32(t, out + 2, (uint32_t)dev_max(t, (float)(me ^ 5), 8));
    dev_store32(t, out + 3, dev_shuffle(t, 10 * me, me + 1, 16));
    dev_store32(t, out + 4, dev_ballot(t, me % 3 == 0));
    dev_store32(t, out + 5, (uint32_t)dev_sum_rows(t, (float)me));
    dev_store32(t, out + 6, (uint32_t)dev_max_rows(t, (float)(me ^ 5)));
    dev_store32(t, out + 7, dev_transpose(t, 2 * me | (2 * me + 1) << 16)); /* row, column */
    dev_sync(t);
}
KERNEL(meet_kernel, 64, struct args, meet_body(t, a))

static void meetings(void **state)
{
    struct bench *b = *state;

    runs(b, meet_kernel, 64, 0);
    for (uint32_t i = 0; i < 64; i++) {
        const uint32_t *got = b->out + 8 * i;
        uint32_t me = i % 32;
        kt_u64(got[0], 496);
        kt_u64(got[1], me / 4 * 16 + 6);
        kt_u64(got[2], me / 8 * 8 + 7);
        kt_u64(got[3], 10 * (me / 16 * 16 + (me + 1) % 16));
        kt_u64(got[4], 0x49249249);
        kt_u64(got[5], 4 * (7 * 8 / 2) + 8 * (me % 4)); /* of me % 4 + 4 i, i < 8 */
        kt_u64(got[6], 28 + (me % 4 ^ 1));
        kt_u64(got[7], (16 * (me % 4) + me / 4) | (16 * (me % 4) + 8 + me / 4) << 16);
    }
}

/* A butterfly, as the GPU sums: not the order of a loop. */
DEV void order_body(struct lane *t, const struct args *a)
{
    float x = dev_sum(t, dev_lane(t) == 0 ? 16777216.0f : 1.0f, 32);

    dev_store32(t, a->out + dev_thread(t), dev_bits(x));
}
KERNEL(order_kernel, 32, struct args, order_body(t, a))

static void order_of_sums(void **state)
{
    struct bench *b = *state;

    runs(b, order_kernel, 32, 0);
    /* 2^24 + 1 rounds to 2^24; pairs of ones are added exactly: 2 + 4 + 8 + 16 = 30 */
    for (uint32_t i = 0; i < 32; i++)
        kt_rel(dev_float(b->out[i]), 16777216.0 + 30, 0);
}

struct matrices {
    uint16_t a[16][16], b[16][8]; /* row major */
};

/* A by ldmatrix, B by its transposing form, C at the documented places. */
DEV void mma_body(struct lane *t, const struct args *a, bool fp16)
{
    struct matrices *m = (struct matrices *)dev_shared(t);
    const uint32_t *in = (const uint32_t *)a->in;
    uint32_t me = dev_lane(t), g = me / 4, q = me % 4, fa[4], fb[4];
    float c[4];

    for (uint32_t i = me; i < sizeof *m / 4; i += 32)
        ((uint32_t *)m)[i] = dev_load32(t, in + i);
    dev_barrier(t);
    for (uint32_t i = 0; i < 4; i++)
        c[i] = (float)((g + i / 2 * 8) * 8 + 2 * q + i % 2);
    dev_ldmatrix(t, fa, &m->a[me % 16][me / 16 * 8]);
    dev_ldmatrix_transposed(t, fb, &m->b[me % 16][0]);
    if (fp16)
        dev_mma_fp16(t, c, fa, fb);
    else
        dev_mma_bf16(t, c, fa, fb);
    for (uint32_t i = 0; i < 4; i++)
        dev_store32(t, a->out + (g + i / 2 * 8) * 8 + 2 * q + i % 2, dev_bits(c[i]));
}
KERNEL(mma_bf16_kernel, 32, struct args, mma_body(t, a, false))
KERNEL(mma_fp16_kernel, 32, struct args, mma_body(t, a, true))

static void products(struct bench *b, bool fp16)
{
    struct rng rng = {.s = 11};
    struct shape s = {{1, 1, 1}, 32, sizeof(struct matrices)};
    struct args a = {.out = b->out};
    struct matrices *m;
    void *p = NULL;
    double x[16][16], y[16][8];

    assert_int_equal(backend_cpu.alloc(b->self, sizeof *m, TAG_K, &p), DEVICE_OK);
    m = p;
    a.in = p;
    for (uint32_t i = 0; i < 16; i++)
        for (uint32_t j = 0; j < 16; j++) {
            double u = rng_unit(&rng) - 0.5, v = rng_unit(&rng) - 0.5;
            x[i][j] = fp16 ? ks_round_fp16(u) : ks_round_bf16(u);
            y[i][j % 8] = fp16 ? ks_round_fp16(v) : ks_round_bf16(v);
            m->a[i][j] = fp16 ? ks_bits_fp16(x[i][j]) : ks_bits_bf16(x[i][j]);
            m->b[i][j % 8] = fp16 ? ks_bits_fp16(y[i][j % 8]) : ks_bits_bf16(y[i][j % 8]);
        }
    assert_int_equal(host_launch(b->self, s, fp16 ? mma_fp16_kernel : mma_bf16_kernel, &a),
                     DEVICE_OK);
    for (uint32_t i = 0; i < 16; i++)
        for (uint32_t j = 0; j < 8; j++) {
            double want = i * 8 + j;
            for (uint32_t k = 0; k < 16; k++)
                want += x[i][k] * y[k][j];
            assert_true(fabs(dev_float(b->out[i * 8 + j]) - want) < 1e-5);
        }
    backend_cpu.free(b->self, p);
}

static void matrix_products(void **state)
{
    products(*state, false);
    products(*state, true);
}

/* The same two instructions, element by element as the PTX ISA lists them. */
DEV void ldmatrix_body(struct lane *t, const struct args *a)
{
    uint16_t *m = (uint16_t *)dev_shared(t);
    uint32_t me = dev_lane(t), r[4], s[4];

    for (uint32_t i = me; i < 256; i += 32)
        m[i] = (uint16_t)i; /* matrix, row, column = i / 64, i / 8 % 8, i % 8 */
    dev_sync(t);
    dev_ldmatrix(t, r, m + 8 * me);
    dev_ldmatrix_transposed(t, s, m + 8 * me);
    for (uint32_t i = 0; i < 4; i++) {
        dev_store32(t, a->out + 8 * me + i, r[i]);
        dev_store32(t, a->out + 8 * me + 4 + i, s[i]);
    }
}
KERNEL(ldmatrix_kernel, 32, struct args, ldmatrix_body(t, a))

static void matrix_loads(void **state)
{
    struct bench *b = *state;

    runs(b, ldmatrix_kernel, 32, 512);
    for (uint32_t me = 0; me < 32; me++)
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t g = me / 4, q = me % 4, at = 64 * i + 8 * g + 2 * q;
            kt_u64(b->out[8 * me + i], at | (at + 1) << 16);
            at = 64 * i + 16 * q + g;
            kt_u64(b->out[8 * me + 4 + i], at | (at + 8) << 16);
        }
}

/* Histograms: in shared memory, then in device memory. */
DEV void add_body(struct lane *t, const struct args *a)
{
    uint32_t *s = (uint32_t *)dev_shared(t), me = dev_thread(t);

    if (me < 4)
        s[me] = 0;
    dev_barrier(t);
    (void)dev_shared_add(t, &s[me % 4], me);
    dev_barrier(t);
    if (me < 4)
        dev_store32(t, a->out + 8 + me, dev_add32(t, a->out + me, s[me]));
}
KERNEL(add_kernel, 128, struct args, add_body(t, a))

static void additions(void **state)
{
    struct bench *b = *state;

    b->out[1] = UINT32_MAX;
    runs(b, add_kernel, 128, 16);
    for (uint32_t i = 0; i < 4; i++) { /* i + (i + 4) + ... + (i + 124) */
        uint32_t sum = 32 * i + 4 * (31 * 32 / 2);
        kt_u64(b->out[i], i == 1 ? sum - 1 : sum);
        kt_u64(b->out[8 + i], i == 1 ? UINT32_MAX : 0);
    }
}

DEV void async_body(struct lane *t, const struct args *a)
{
    uint32_t *s = (uint32_t *)dev_shared(t) + 8 * dev_thread(t), me = dev_thread(t);
    uint32_t *out = a->out + 64 + 8 * me;

    dev_async(t, s, a->out);
    dev_async_commit(t);
    dev_async(t, s + 4, a->out + 4);
    dev_async_commit(t);
    dev_store32(t, out, s[0]); /* under way: no number yet */
    dev_async_wait(t, 1);
    dev_store32(t, out + 1, s[0]);
    dev_store32(t, out + 2, s[4]);
    dev_async_wait(t, 0);
    dev_store32(t, out + 3, s[4]);
    dev_async_if(t, s, a->out, me % 2);
    dev_async32_if(t, s + 4, me % 2 ? NULL : a->out, me % 2 == 0);
    dev_async_commit(t);
    dev_store32(t, out + 4, s[0] & s[4]);
    dev_async_wait(t, 0);
    dev_store32(t, out + 5, s[0]);
    dev_store32(t, out + 6, s[4]);
}
KERNEL(async_kernel, 32, struct args, async_body(t, a))

static void asynchronous(void **state)
{
    struct bench *b = *state;

    b->out[0] = 5;
    b->out[4] = 6;
    runs(b, async_kernel, 32, 32 * 32);
    for (uint32_t i = 0; i < 32; i++) {
        const uint32_t *got = b->out + 64 + 8 * i;
        kt_u64(got[0], UINT32_MAX);
        kt_u64(got[1], 5);
        kt_u64(got[2], UINT32_MAX);
        kt_u64(got[3], 6);
        kt_u64(got[4], UINT32_MAX);
        kt_u64(got[5], i % 2 ? 5 : 0);
        kt_u64(got[6], i % 2 ? 0 : 5);
    }
}

#define FAULTY(name, body)                                                                     \
    static void name##_body(struct lane *t, const struct args *a)                              \
    {                                                                                          \
        uint32_t me = dev_thread(t), *s = (uint32_t *)dev_shared(t);                           \
        (void)a;                                                                               \
        (void)me;                                                                              \
        (void)s;                                                                               \
        body;                                                                                  \
    }                                                                                          \
    KERNEL(name, 64, struct args, name##_body(t, a))

FAULTY(some_return, if (me == 5) return; dev_barrier(t))
FAULTY(some_meet, if (me == 40) dev_sync(t); dev_barrier(t))
FAULTY(warp_returns, if (me >= 32) return; dev_barrier(t))
FAULTY(other_shuffle, (void)dev_shuffle(t, me, 0, me < 7 ? 8 : 16))
FAULTY(bad_group, (void)dev_sum(t, 1.0f, 12))
FAULTY(read_outside, if (me == 3) dev_load32(t, a->out + OUT_WORDS))
FAULTY(write_outside, dev_store8(t, (uint8_t *)a->out - 1, 0))
FAULTY(misaligned, dev_load64(t, a->out + 1))
FAULTY(never_waited, dev_async(t, s, a->out); dev_async_commit(t))
FAULTY(shared_outside, dev_async(t, s + 16, a->out))
FAULTY(shared_misaligned, dev_async(t, s + 1, a->out))
FAULTY(too_many, for (int i = 0; i < 129; i++) dev_async(t, s, a->out))

static void two_places(struct lane *t, const void *args)
{
    (void)args;
    if (dev_thread(t) % 2)
        dev_barrier(t);
    else
        dev_barrier(t);
}

static void found(void **state)
{
    struct bench *b = *state;
    const char *const at = "tests/unit/kernel_dev.c:*: block 0,0,0 thread ";
    static const struct {
        host_kernel kernel;
        uint32_t threads;
        const char *want;
    } all[] = {
        {some_return, 64, "0 waits for a barrier, but thread 5 has ended"},
        {some_meet, 64,
         "32 waits for a barrier, but thread 40 waits for a warp barrier at "
         "tests/unit/kernel_dev.c:*"},
        {warp_returns, 64, "0 waits for a barrier, but thread 32 has ended"},
        {two_places, 32,
         "0 waits for a barrier, but thread 1 waits for a barrier at tests/unit/kernel_dev.c:*"},
        {other_shuffle, 32,
         "0 waits for a shuffle, but thread 7 waits for a shuffle at tests/unit/kernel_dev.c:*"},
        {bad_group, 32, "0: a group of 12 threads"},
        {read_outside, 32, "3: reads 4 bytes outside of every allocation"},
        {write_outside, 32, "0: writes 1 bytes outside of every allocation"},
        {misaligned, 32, "0: reads 8 bytes at an address that is not a multiple of 8"},
        {shared_outside, 32, "0: 16 bytes outside of the block's shared memory"},
        {shared_misaligned, 32, "0: shared memory that is not aligned to 16 bytes"},
        {too_many, 32, "0: more than 128 asynchronous copies under way"},
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char want[200];
        snprintf(want, sizeof want, "%s%s", at, all[i].want);
        faults(b, all[i].kernel, all[i].threads, want);
    }
    faults(b, never_waited, 32,
           "end of the kernel: block 0,0,0 thread 0: 1 asynchronous copies were never waited "
           "for");
    /* the device goes on after a fault */
    runs(b, shared_kernel, 128, 512);
}

static void shapes(void **state)
{
    struct bench *b = *state;

    assert_int_equal(launch(b, shared_kernel, 1, 33, 0), DEVICE_BAD_ARGUMENT);
    assert_string_equal(backend_cpu.error(b->self),
                        "cannot launch: a block has a multiple of 32 threads, at most 1024");
    assert_int_equal(launch(b, shared_kernel, 1, 1056, 0), DEVICE_BAD_ARGUMENT);
    assert_int_equal(launch(b, shared_kernel, 0, 32, 0), DEVICE_BAD_ARGUMENT);
    assert_string_equal(backend_cpu.error(b->self),
                        "cannot launch: a grid has 1 to 2147483647 x 65535 x 65535 blocks");
    assert_int_equal(launch(b, shared_kernel, 1, 32, 227 * 1024 + 1), DEVICE_BAD_ARGUMENT);
    assert_string_equal(backend_cpu.error(b->self),
                        "cannot launch: a block has at most 227 KiB of shared memory");
}

/* Every 16-bit number there and back; halfway cases go to even. */
static void numbers(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        double x = ks_fp16((uint16_t)h), next = ks_fp16((uint16_t)(h + 1));
        double half = h + 1 == 0x7c00 ? 65520 : (x + next) / 2;
        assert_true((double)dev_from_fp16((uint16_t)h) == x);
        assert_true((double)dev_from_fp16((uint16_t)(h | 0x8000)) == -x);
        kt_u64(dev_to_fp16((float)x), h);
        kt_u64(dev_to_fp16(-(float)half), 0x8000 | (h + h % 2));
    }
    for (uint32_t h = 0; h < 0x7f80; h++) {
        float x = dev_float(h << 16), half = dev_float(h << 16 | 0x8000);
        kt_u64(dev_to_bf16(x), h);
        kt_u64(dev_to_bf16(half), h + h % 2);
        kt_u64(dev_to_bf16(-dev_float(h << 16 | 0x8001)), 0x8000 | (h + 1));
    }
    assert_true(isnan(dev_from_fp16(dev_to_fp16(NAN))));
    assert_true(isnan(dev_from_bf16(dev_to_bf16(-NAN))));
    assert_true(isinf(dev_from_fp16(dev_to_fp16(1e6f))));
    kt_u64(dev_to_e4m3(NAN) & 0x7f, 0x7f);
    kt_u64(dev_to_e4m3(INFINITY), 0x7e);
}

static void pair_is(uint32_t pair, double low, double high)
{
    assert_true(ks_bf16((uint16_t)pair) == low);
    assert_true(ks_bf16((uint16_t)(pair >> 16)) == high);
}

static void codes(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t j = (i * 7 + 3) % 256;
        if ((i & 0x7f) != 0x7f && (j & 0x7f) != 0x7f)
            pair_is(dev_e4m3x2(i << 8 | j << 24), ks_e4m3((uint8_t)i), ks_e4m3((uint8_t)j));
        pair_is(dev_bytex2(i | j << 16), (int8_t)i, (int8_t)j);
        pair_is(dev_codex2(i % 128 | j % 128 << 16, 0x007f007f), i % 128, j % 128);
    }
    kt_u64(dev_merge(0x12345678, 0x00ff0f00, 0x80000001), 0x80340601);
    kt_u64(dev_permute(0x33221100, 0x77665544, 0x5410), 0x55441100);
    kt_u64(dev_permute(0x33221100, 0x77665544, 0x7632), 0x77663322);
}

#define forward(f) cmocka_unit_test_setup_teardown(f, open_forward, close_bench)
#define both(f)                                                                                \
    forward(f),                                                                                \
    {                                                                                          \
#f " reversed", f, open_backward, close_bench, NULL                                    \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        both(indices),         both(shared_memory), both(meetings),     both(order_of_sums),
        both(matrix_products), both(matrix_loads),  both(asynchronous), both(additions),
        forward(found),        forward(shapes),     forward(numbers),   forward(codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
