/* What the tests of kernels share: a CPU device with poisoned memory, data going there and
 * back, tallies compared, and random numbers. *state is a struct kk *. */
#ifndef KVBUDGET_TESTS_KVKERNEL_H
#define KVBUDGET_TESTS_KVKERNEL_H

#include <stdlib.h>
#include <string.h>

#include "kernels/device.h"
#include "planner/base/rng.h"
#include "tests/kvtest.h"

#ifndef KK_DEVICE /* the tests of kernels can be built for another device */
#define KK_DEVICE "cpu"
#endif

static inline bool kk_on_cpu(void)
{
    return !strcmp(KK_DEVICE, "cpu");
}

struct kk {
    struct arena *a;
    struct device *d;
    struct rng rng;
};

static inline int kk_open_with(void **state, bool reversed)
{
    struct device_options o = {.poison = true, .reversed = reversed};
    struct kk *k = calloc(1, sizeof *k);
    struct device_text why;

    k->a = arena_new();
    k->rng.s = kt_seed(7);
    *state = k;
    return device_open(KK_DEVICE, &o, &k->d, &why) == DEVICE_OK ? 0 : -1;
}

static inline int kk_open(void **state)
{
    return kk_open_with(state, false);
}

static inline int kk_open_reversed(void **state)
{
    return kk_open_with(state, true);
}

static inline int kk_close(void **state)
{
    struct kk *k = *state;

    device_close(k->d);
    arena_free(k->a);
    free(k);
    return 0;
}

#define kk_test(f) cmocka_unit_test_setup_teardown(f, kk_open, kk_close)
#define kk_reversed(f)                                                                         \
    {                                                                                          \
#f " reversed", f, kk_open_reversed, kk_close, NULL                                    \
    }

#define kk_ok(k, s) kk_ok_at((k), (s), __FILE__, __LINE__)
static inline void kk_ok_at(struct kk *k, enum device_status s, const char *file, int line)
{
    if (s != DEVICE_OK) {
        print_error("%s:%d: %s\n", file, line, device_error(k->d));
        _fail(file, line);
    }
}

static inline void kk_refused(struct kk *k, enum device_status s, const char *text)
{
    assert_int_equal(s, DEVICE_BAD_ARGUMENT);
    assert_string_equal(device_error(k->d), text);
}

static inline void kk_unsupported(struct kk *k, enum device_status s, const char *text)
{
    assert_int_equal(s, DEVICE_UNSUPPORTED);
    assert_string_equal(device_error(k->d), text);
}

/* Runs unless the GPU is too old for it: for bf16 products, or products of tiles. */
#define kk_ran(k, s) kk_ran_at((k), (s), __FILE__, __LINE__)
static inline bool kk_ran_at(struct kk *k, enum device_status s, const char *file, int line)
{
    if (s == DEVICE_UNSUPPORTED && !kk_on_cpu() &&
        strstr(device_error(k->d), "need compute capability"))
        return false;
    kk_ok_at(k, s, file, line);
    return true;
}

static inline void *kk_new(struct kk *k, enum tag tag, uint64_t bytes)
{
    void *p = NULL;

    kk_ok(k, device_alloc(k->d, bytes, tag, &p));
    return p;
}

static inline void *kk_put(struct kk *k, enum tag tag, const void *from, uint64_t bytes)
{
    void *p = kk_new(k, tag, bytes);

    kk_ok(k, device_upload(k->d, p, from, bytes));
    return p;
}

static inline void kk_get(struct kk *k, void *to, const void *from, uint64_t bytes)
{
    kk_ok(k, device_sync(k->d));
    kk_ok(k, device_download(k->d, to, from, bytes));
}

static inline void *kk_random(struct kk *k, uint64_t bytes)
{
    uint8_t *p = arena_alloc(k->a, bytes, 1);

    for (uint64_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(rng_next(&k->rng) >> 32);
    return p;
}

struct kk_wide { /* rows of `heads` pieces, which lie among `all` of them from `first` on */
    uint64_t rows;
    uint32_t heads, all, first, bytes; /* bytes of a piece */
};

/* New memory for such rows, 0xff but for what `from` holds of ours (NULL: nothing). Returns
 * where the first of our pieces is. */
static inline void *kk_spread(struct kk *k, const void *from, struct kk_wide w)
{
    size_t mine = (size_t)w.heads * w.bytes, row = (size_t)w.all * w.bytes;
    char *wide = arena_alloc(k->a, w.rows * row, 1), *plain = arena_alloc(k->a, mine, 1);

    memset(wide, 0xff, w.rows * row);
    for (uint64_t r = 0; from && r < w.rows; r++) {
        kk_get(k, plain, (const char *)from + r * mine, mine);
        memcpy(wide + r * row + w.first * w.bytes, plain, mine);
    }
    return (char *)kk_put(k, TAG_ACTIVATION, wide, w.rows * row) + w.first * w.bytes;
}

/* Whether memory made so has the rows of `plain`, and 0xff everywhere else. */
static inline void kk_same_spread(struct kk *k, const void *plain, const void *spread,
                                  struct kk_wide w)
{
    size_t mine = (size_t)w.heads * w.bytes, row = (size_t)w.all * w.bytes;
    char *want = arena_alloc(k->a, w.rows * row, 1), *got = arena_alloc(k->a, w.rows * row, 1);

    memset(want, 0xff, w.rows * row);
    for (uint64_t r = 0; r < w.rows; r++)
        kk_get(k, want + r * row + w.first * w.bytes, (const char *)plain + r * mine, mine);
    kk_get(k, got, (const char *)spread - w.first * w.bytes, w.rows * row);
    assert_memory_equal(got, want, w.rows * row);
}

/* About normal, mean 0, deviation 1. */
static inline double kk_normal(struct kk *k)
{
    double sum = 0;

    for (int i = 0; i < 12; i++)
        sum += rng_unit(&k->rng);
    return sum - 6;
}

/* False and zeros: the device does not count. */
static inline bool kk_seen(struct kk *k, struct tally *out)
{
    enum device_status s = device_tally(k->d, out);

    if (s == DEVICE_UNSUPPORTED && !kk_on_cpu()) {
        memset(out, 0, sizeof *out);
        return false;
    }
    kk_ok(k, s);
    return true;
}

/* Every figure of the tally, exactly; where the device counts. */
static inline void kk_tally(struct kk *k, const struct tally *want)
{
    static const char *const names[] = {"weights", "k",    "v",         "state",
                                        "tables",  "work", "activation"};
    struct tally got;

    if (!kk_seen(k, &got))
        return;
    for (int i = 0; i < N_TAGS; i++) {
        if (got.issued.read_bytes[i] != want->issued.read_bytes[i] ||
            got.issued.written_bytes[i] != want->issued.written_bytes[i] ||
            got.unique_read_bytes[i] != want->unique_read_bytes[i] ||
            got.unique_written_bytes[i] != want->unique_written_bytes[i])
            print_error("the bytes of %s:\n", names[i]);
        kt_u64(got.issued.read_bytes[i], want->issued.read_bytes[i]);
        kt_u64(got.issued.written_bytes[i], want->issued.written_bytes[i]);
        kt_u64(got.unique_read_bytes[i], want->unique_read_bytes[i]);
        kt_u64(got.unique_written_bytes[i], want->unique_written_bytes[i]);
    }
    kt_u64(got.issued.tensor_flop, want->issued.tensor_flop);
    kt_u64(got.issued.vector_flop, want->issued.vector_flop);
    kt_u64(got.issued.useful_flop, want->issued.useful_flop);
    kt_u64(got.issued.exps, want->issued.exps);
    kt_u64(got.launches, want->launches);
}

#endif
