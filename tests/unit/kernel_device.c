/* kernel_device: opening, memory and its limit, copies, clocks, and the texts of what fails. */
#include <string.h>

#include "kernels/copy.h"
#include "kernels/device_time.h"
#include "tests/kvkernel.h"

static void names(void **state)
{
    static const struct device_options none = {0};
    struct device_text why;
    struct device *d;

    (void)state;
    assert_int_equal(device_open("gpu", &none, &d, &why), DEVICE_BAD_ARGUMENT);
    assert_string_equal(why.text, "no device is called 'gpu': use cpu or cuda:N");
    assert_null(d);
    if (device_cuda_count(&why) == 0) {
        struct device_text again;
        assert_int_equal(device_open("cuda:0", &none, &d, &again), DEVICE_ABSENT);
        assert_null(d);
        assert_true(strlen(again.text) > 10);
        assert_string_equal(again.text, why.text);
    }
    device_close(NULL);
}

static void information(void **state)
{
    struct kk *k = *state;
    struct device_info i;

    kk_ok(k, device_get_info(k->d, &i));
    assert_string_equal(i.name, "CPU build");
    assert_true(i.is_cpu && i.major == 9 && i.total_bytes >= i.free_bytes && i.free_bytes > 0);
}

/* 1 MiB: what is asked counts in units of 256 bytes, and the largest request that fits, fits.
 */
static void limit(void **state)
{
    static const struct device_options o = {.limit_bytes = 1 << 20};
    struct device_text why;
    struct device_info i;
    struct device *d;
    void *a, *b, *c;

    (void)state;
    assert_int_equal(device_open("cpu", &o, &d, &why), DEVICE_OK);
    assert_int_equal(device_alloc(d, 1, TAG_K, &a), DEVICE_OK);
    kt_u64(device_used_bytes(d), 256);
    assert_int_equal(device_alloc(d, (1 << 20) - 255, TAG_V, &b), DEVICE_OUT_OF_MEMORY);
    assert_null(b);
    assert_string_equal(device_error(d), "out of memory: 1048321 bytes asked, 256 of the limit "
                                         "of 1048576 in use");
    assert_int_equal(device_alloc(d, (1 << 20) - 256, TAG_V, &b), DEVICE_OK);
    assert_int_equal(device_alloc(d, 1, TAG_V, &c), DEVICE_OUT_OF_MEMORY);
    assert_int_equal(device_get_info(d, &i), DEVICE_OK);
    kt_u64(i.total_bytes, 1 << 20);
    kt_u64(i.free_bytes, 0);
    assert_int_equal(device_free(d, b), DEVICE_OK);
    kt_u64(device_used_bytes(d), 256);
    assert_int_equal(device_alloc(d, 512, TAG_V, &c), DEVICE_OK);
    device_close(d); /* with what is left */
}

static void memory(void **state)
{
    struct kk *k = *state;
    uint8_t *p = kk_new(k, TAG_K, 100), got[100];
    void *q;

    kk_get(k, got, p, 100);
    for (int i = 0; i < 100; i++)
        kt_u64(got[i], 0xff); /* poisoned */
    kk_ok(k, device_fill(k->d, p + 50, 7, 50));
    kk_get(k, got, p + 49, 2);
    kt_u64(got[0], 0xff);
    kt_u64(got[1], 7);
    kk_refused(k, device_fill(k->d, p + 50, 0, 51), "cannot fill outside of an allocation");
    kk_refused(k, device_upload(k->d, p + 1, got, 100), "cannot copy outside of an allocation");
    kk_refused(k, device_download(k->d, got, p - 1, 1), "cannot copy outside of an allocation");
    kk_refused(k, device_alloc(k->d, 0, TAG_K, &q), "cannot allocate 0 bytes");
    kk_refused(k, device_alloc(k->d, UINT64_MAX, TAG_K, &q),
               "cannot allocate 18446744073709551615 bytes");
    assert_int_equal(device_alloc(k->d, UINT64_MAX / 4, TAG_K, &q), DEVICE_OUT_OF_MEMORY);
    assert_string_equal(device_error(k->d), "out of memory: more bytes than the host has");
    kk_ok(k, device_free(k->d, NULL));
    kk_ok(k, device_free(k->d, p));
    assert_int_equal(device_free(k->d, p), DEVICE_BAD_ARGUMENT);
    assert_non_null(strstr(device_error(k->d), " is no allocation of this device"));
}

/* Many allocations at once, freed out of order. */
static void many(void **state)
{
    struct kk *k = *state;
    void *p[300];

    for (int i = 0; i < 300; i++)
        p[i] = kk_new(k, TAG_STATE, 16 * ((uint64_t)i + 1));
    for (int i = 0; i < 300; i++)
        kk_ok(k, device_free(k->d, p[i * 7 % 300]));
    kt_u64(device_used_bytes(k->d), 0);
}

/* Two launches over the same bytes: issued twice, unique once, until the reset. */
static void tallies(void **state)
{
    struct kk *k = *state;
    struct copy_args a = {
        .from = kk_new(k, TAG_K, 64), .to = kk_new(k, TAG_V, 64), .bytes = 64, .blocks = 1};
    struct tally none = {0}, twice = {.launches = 2};
    double s = -1;

    device_tally_reset(k->d);
    kk_tally(k, &none);
    kk_ok(k, device_timer_start(k->d));
    kk_ok(k, copy_run(k->d, &a));
    kk_ok(k, copy_run(k->d, &a));
    kk_ok(k, device_timer_stop(k->d, &s));
    assert_true(s >= 0 && s < 60);
    twice.issued.read_bytes[TAG_K] = twice.issued.written_bytes[TAG_V] = 128;
    twice.unique_read_bytes[TAG_K] = twice.unique_written_bytes[TAG_V] = 64;
    kk_tally(k, &twice);
    device_tally_reset(k->d);
    kk_tally(k, &none);
    /* a kernel's fault has its text, and the next failure another */
    a.to = (char *)a.to + 16;
    assert_int_equal(copy_run(k->d, &a), DEVICE_FAULT);
    assert_non_null(strstr(device_error(k->d), "kernels/copy.cu:"));
    assert_non_null(strstr(device_error(k->d), "writes 16 bytes outside of every allocation"));
    a.blocks = 0;
    kk_refused(k, copy_run(k->d, &a), "copy: 0 blocks, not 1 to 65535");
}

/* As many times as there are gaps between marks; they are forgotten; too many are refused. A
 * recording runs its work where it stands, once. */
static void marks(void **state)
{
    static double seconds[DEVICE_MARKS_MAX];
    struct kk *k = *state;
    char bytes[64] = {1};
    uint32_t n = 9;
    void *p;

    kk_ok(k, device_marks(k->d, seconds, &n));
    kt_u64(n, 0);
    for (int i = 0; i < 3; i++)
        kk_ok(k, device_mark(k->d));
    kk_ok(k, device_marks(k->d, seconds, &n));
    kt_u64(n, 2);
    assert_true(seconds[0] >= 0 && seconds[1] >= 0 && seconds[1] < 60);
    for (int i = 0; i < DEVICE_MARKS_MAX; i++)
        kk_ok(k, device_mark(k->d));
    kk_refused(k, device_mark(k->d), "too many marks");
    kk_ok(k, device_marks(k->d, seconds, &n));
    kt_u64(n, DEVICE_MARKS_MAX - 1);

    kk_ok(k, device_alloc(k->d, sizeof bytes, TAG_WORK, &p));
    kk_ok(k, device_record(k->d));
    kk_ok(k, device_fill(k->d, p, 7, sizeof bytes));
    kk_ok(k, device_recorded(k->d));
    kk_ok(k, device_fill(k->d, p, 5, sizeof bytes));
    kk_ok(k, device_replay(k->d));
    kk_ok(k, device_download(k->d, bytes, p, sizeof bytes));
    assert_int_equal(bytes[63], 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names), kk_test(information), cmocka_unit_test(limit), kk_test(memory),
        kk_test(many),           kk_test(tallies),     kk_test(marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
