/* kernel_ucontext: fibers with the portable switch, which machines other than x86-64 and
 * aarch64 use; these definitions come before those of the library. */
#define FIBER_UCONTEXT
#include "kernels/host/fiber.c"

#include "kernels/copy.h"
#include "tests/kvkernel.h"

struct counter {
    struct fibers *f;
    size_t i;
    int steps, total;
};

static void count(void *arg)
{
    struct counter *c = arg;
    volatile double x = (double)c->i;

    for (int step = 0; step < c->total; step++) {
        x = x * 0.5 + 1;
        c->steps++;
        fiber_yield(c->f, c->i, false);
    }
    c->steps = x > 0 ? -c->steps : 0;
    for (;;)
        fiber_yield(c->f, c->i, true);
}

static void turns(void **state)
{
    struct fibers *f = fibers_new(3, 20000);
    struct counter c[3];

    (void)state;
    kt_u64(fibers_count(f), 3);
    for (size_t i = 0; i < 3; i++) {
        c[i] = (struct counter){f, i, 0, (int)i + 1};
        fiber_reset(f, i, count, &c[i]);
    }
    for (size_t i = 0; i < 3; i++)
        fiber_run(f, i);
    for (size_t i = 0; i < 3; i++)
        fiber_run(f, 2 - i);
    assert_int_equal(c[0].steps, -1);
    assert_int_equal(c[1].steps, 2);
    assert_int_equal(c[2].steps, 2);
    /* begun anew in the middle */
    c[2] = (struct counter){f, 2, 0, 1};
    fiber_reset(f, 2, count, &c[2]);
    fiber_run(f, 2);
    fiber_run(f, 2);
    assert_int_equal(c[2].steps, -1);
    fibers_free(f);
    fibers_free(NULL);
}

/* A kernel with barriers and shuffles on them. */
static void kernel(void **state)
{
    struct kk *k = *state;
    uint32_t in[64], got;
    struct copy_args a = {.to = kk_new(k, TAG_WORK, 4), .bytes = sizeof in, .blocks = 1};

    for (uint32_t i = 0; i < 64; i++)
        in[i] = i;
    a.from = kk_put(k, TAG_K, in, sizeof in);
    kk_ok(k, stream_run(k->d, &a));
    kk_get(k, &got, a.to, 4);
    kt_u64(got, 63 * 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(turns), kk_test(kernel)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
