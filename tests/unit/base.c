/* arena, diag, table, utf8, ck and rng. */
#include "tests/kvtest.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "planner/base/ck.h"
#include "planner/base/rng.h"
#include "planner/base/table.h"
#include "planner/base/utf8.h"

static void test_arena_blocks(void **state)
{
    struct arena *a = ((struct kt *)*state)->a;
    static const size_t sizes[] = {0, 1, 15, 16, 17, 1000, 65536, 100000, 5 << 20};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *p = arena_alloc(a, sizes[i], 1), *q = arena_alloc(a, 1, sizes[i]);

        assert_int_equal((uintptr_t)p % 16, 0);
        assert_true(sizes[i] == 0 || p != q);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(p[k] | q[k], 0);
        if (sizes[i] > 0)
            memset(p, 0xff, sizes[i]);
    }
    arena_free(NULL);
}

static void test_arena_keeps_what_was_written(void **state)
{
    struct arena *a = ((struct kt *)*state)->a;
    enum { N = 3000 };
    uint64_t *p[N];
    struct rng r = {1};

    for (size_t i = 0; i < N; i++) {
        size_t n = 1 + (size_t)rng_below(&r, i % 100 == 0 ? 9000 : 40);
        p[i] = ARENA_NEW(a, uint64_t, n);
        p[i][0] = i;
        p[i][n - 1] = i;
    }
    for (size_t i = 0; i < N; i++)
        kt_u64(p[i][0], i);
}

static void test_arena_texts(void **state)
{
    struct arena *a = ((struct kt *)*state)->a;
    uint64_t one[2] = {7, 8}, *more = arena_grow(a, one, 2, 4, sizeof *one);

    kt_u64(more[1], 8);
    kt_u64(more[3], 0);
    assert_non_null(arena_grow(a, NULL, 0, 4, 8));
    assert_string_equal(arena_strdup(a, "abc"), "abc");
    assert_string_equal(arena_strndup(a, "abcdef", 3), "abc");
    assert_string_equal(arena_strndup(a, "ab", 99), "ab");
    assert_string_equal(arena_printf(a, "%d-%s", 42, "x"), "42-x");
}

static int status_of(void (*f)(void))
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        f();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void ask_too_much(void)
{
    volatile size_t n = SIZE_MAX / 2;
    arena_alloc(arena_new(), n, 4);
}

static void ask_just_too_much(void)
{
    volatile size_t n = SIZE_MAX - 3;
    arena_alloc(arena_new(), n, 1);
}

static void test_arena_dies(void **state)
{
    (void)state;
    assert_int_equal(status_of(ask_too_much), 70);
    assert_int_equal(status_of(ask_just_too_much), 70);
}

static void test_diag_forms(void **state)
{
    struct kt *k = *state;
    struct loc at = {"spec.yaml", 3, 8};

    assert_true(diag_add(k->d, DIAG_WARN, at, "no %s", "efficiency"));
    assert_true(diag_add(k->d, DIAG_NOTE, (struct loc){"spec.yaml", 3, 0}, "a line"));
    assert_int_equal(diag_exit(k->d), 0);
    assert_false(diag_failed(k->d));
    assert_false(diag_add(k->d, DIAG_INPUT, (struct loc){"spec.yaml", 0, 0}, "the file"));
    assert_false(diag_add(k->d, DIAG_USAGE, (struct loc){0}, "no place"));
    assert_true(diag_failed(k->d));
    kt_u64(diag_errors(k->d), 2);
    kt_printed(k->d, "spec.yaml:3:8: warning: no efficiency\n"
                     "spec.yaml:3: note: a line\n"
                     "spec.yaml: error: the file\n"
                     "kvbudget: error: no place\n");
    assert_null(diag_at(k->d, 4));
}

static void test_diag_quiet_and_from(void **state)
{
    struct kt *k = *state;
    char *text = NULL;
    size_t n = 0, next;
    FILE *f = open_memstream(&text, &n);

    diag_add(k->d, DIAG_NOTE, (struct loc){0}, "one");
    diag_add(k->d, DIAG_WARN, (struct loc){0}, "two");
    next = diag_print(k->d, 0, false, f);
    kt_u64(next, 2);
    diag_add(k->d, DIAG_WARN, (struct loc){0}, "three");
    next = diag_print(k->d, next, false, f);
    kt_u64(next, 3);
    fclose(f);
    kt_same(text, "kvbudget: warning: two\nkvbudget: warning: three\n");
    free(text);
}

static void test_diag_repetitions(void **state)
{
    struct kt *k = *state;
    char file[] = "a.yaml";

    diag_add(k->d, DIAG_WARN, (struct loc){file, 1, 2}, "same");
    file[0] = 'b'; /* the sink keeps its own copy */
    diag_add(k->d, DIAG_WARN, (struct loc){"a.yaml", 1, 2}, "same");
    diag_add(k->d, DIAG_WARN, (struct loc){"a.yaml", 1, 3}, "same");
    diag_add(k->d, DIAG_WARN, (struct loc){"b.yaml", 1, 2}, "same");
    kt_u64(diag_count(k->d), 3);
    /* an error is not hidden by a warning of the same words, and counts once */
    diag_add(k->d, DIAG_INPUT, (struct loc){"a.yaml", 1, 2}, "same");
    diag_add(k->d, DIAG_INPUT, (struct loc){"a.yaml", 1, 2}, "same");
    kt_u64(diag_count(k->d), 3);
    kt_u64(diag_errors(k->d), 1);
    assert_int_equal(diag_at(k->d, 0)->kind, DIAG_INPUT);
}

static void test_diag_exit_order(void **state)
{
    struct kt *k = *state;
    static const struct {
        enum diag_kind kind;
        int status;
    } rising[] = {{DIAG_NOTE, 0},       {DIAG_WARN, 0},      {DIAG_USAGE, 2},
                  {DIAG_INFEASIBLE, 4}, {DIAG_TOLERANCE, 6}, {DIAG_DEVICE, 5},
                  {DIAG_INPUT, 3},      {DIAG_OUTPUT, 7},    {DIAG_INTERNAL, 70}};

    for (size_t i = 0; i < sizeof rising / sizeof *rising; i++) {
        diag_add(k->d, rising[i].kind, (struct loc){0}, "message %zu", i);
        assert_int_equal(diag_exit(k->d), rising[i].status);
    }
    diag_add(k->d, DIAG_USAGE, (struct loc){0}, "later");
    assert_int_equal(diag_exit(k->d), 70);
}

static void test_diag_is_harmless(void **state)
{
    struct kt *k = *state;
    char long_text[3001];

    memset(long_text, 'x', 3000);
    long_text[3000] = '\0';
    memcpy(long_text + 999, "\xc3\xa9", 2); /* the cut would split this character */
    diag_add(k->d, DIAG_WARN, (struct loc){"a\x1b[2J", 1, 1},
             "tab\there\n\x1b[31m \xff\xc2\x85");
    diag_add(k->d, DIAG_WARN, (struct loc){0}, "%s", long_text);
    assert_string_equal(diag_at(k->d, 0)->text, "tab?here??[31m ??");
    kt_u64(strlen(diag_at(k->d, 1)->text), 999 + 3);
    assert_string_equal(diag_at(k->d, 1)->text + 998, "x...");
}

static void test_diag_is_bounded(void **state)
{
    struct kt *k = *state;

    for (int i = 1; i <= 5000; i++)
        diag_add(k->d, DIAG_INPUT, (struct loc){"f", i, 1}, "bad");
    diag_add(k->d, DIAG_WARN, (struct loc){"f", 1, 1}, "still heard");
    diag_add(k->d, DIAG_INTERNAL, (struct loc){"f", 1, 1}, "counts");
    kt_u64(diag_errors(k->d), 5001);
    kt_u64(diag_count(k->d), 1002);
    kt_diag(k->d, "too many errors; the rest is not shown", 0);
    kt_diag(k->d, "still heard", 1);
    assert_int_equal(diag_exit(k->d), 70);
}

static void test_table(void **state)
{
    struct arena *a = ((struct kt *)*state)->a;
    struct table *t = table_new(a, 3);
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    table_right(t, 1);
    table_cell(t, "name");
    table_cell(t, "bytes");
    table_cell(t, "note");
    table_rule(t);
    table_cell(t, "\xc3\xa9t\xc3\xa9");
    table_cellf(t, "%d", 12);
    table_cell(t, "");
    table_cell(t, "bad\x1b\n");
    table_cell(t, NULL);
    table_cell(t, "\xe6\x95\xb0");
    table_cell(t, "short row");
    kt_u64(table_rows(t), 4);
    table_print(t, f);
    fclose(f);
    kt_same(text, "name       bytes  note\n"
                  "---------  -----  ----\n"
                  "\xc3\xa9t\xc3\xa9           12\n"
                  "bad??             \xe6\x95\xb0\n"
                  "short row\n");
    free(text);
}

static void test_table_empty(void **state)
{
    struct arena *a = ((struct kt *)*state)->a;
    struct table *t = table_new(a, 2);
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    table_rule(t);
    table_right(t, 7);
    table_print(t, f);
    fclose(f);
    kt_same(text, "");
    free(text);
}

static void test_utf8(void **state)
{
    static const struct {
        const char *text;
        size_t len;
        uint32_t cp;
    } cases[] = {
        {"A", 1, 'A'},
        {"\x7f", 1, 0x7f},
        {"\xc2\x80", 2, 0x80},
        {"\xdf\xbf", 2, 0x7ff},
        {"\xe0\xa0\x80", 3, 0x800},
        {"\xef\xbf\xbf", 3, 0xffff},
        {"\xf0\x90\x80\x80", 4, 0x10000},
        {"\xf4\x8f\xbf\xbf", 4, 0x10ffff},
        {"\x80", 0, 0},             /* a lone continuation */
        {"\xc0\xaf", 0, 0},         /* overlong */
        {"\xe0\x9f\xbf", 0, 0},     /* overlong */
        {"\xf0\x8f\xbf\xbf", 0, 0}, /* overlong */
        {"\xed\xa0\x80", 0, 0},     /* a surrogate */
        {"\xf4\x90\x80\x80", 0, 0}, /* above U+10FFFF */
        {"\xe2\x82", 0, 0},         /* cut off */
        {"\xff", 0, 0},
        {"", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t cp = 0;
        kt_u64(utf8_next(cases[i].text, strlen(cases[i].text), &cp), cases[i].len);
        kt_u64(cp, cases[i].cp);
    }
}

static void test_ck(void **state)
{
    struct ck c = {0};

    (void)state;
    kt_u64(ck_prod(&c, 2, 80, 8, 128, 131072, 2), UINT64_C(42949672960));
    kt_u64(ck_add(&c, ck_sub(&c, 5, 2), 4), 7);
    kt_u64(ck_muldiv(&c, UINT64_MAX, 10, 20), UINT64_MAX / 2);
    assert_false(c.over);
    ck_mul(&c, ck_mul(&c, UINT64_MAX, 2), 0); /* sticky, even when multiplied by 0 */
    assert_true(c.over);
    c.over = false;
    ck_sub(&c, 1, 2);
    assert_true(c.over);
    c.over = false;
    ck_muldiv(&c, UINT64_MAX, 3, 2);
    assert_true(c.over);
    kt_u64(ck_ceil_div(UINT64_MAX, 2), UINT64_C(1) << 63);
    kt_u64(ck_ceil_div(0, 7), 0);
    kt_u64(u64_min(2, 3) + u64_max(2, 3), 5);
}

/* The published test vector of splitmix64: seed 1234567. */
static void test_rng(void **state)
{
    struct rng r = {1234567};

    (void)state;
    kt_u64(rng_next(&r), UINT64_C(6457827717110365317));
    kt_u64(rng_next(&r), UINT64_C(3203168211198807973));
    for (int i = 0; i < 100; i++) {
        double u = rng_unit(&r);
        assert_true(u >= 0 && u < 1);
        assert_true(rng_below(&r, 7) < 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_arena_blocks),
        kt_test(test_arena_keeps_what_was_written),
        kt_test(test_arena_texts),
        kt_test(test_arena_dies),
        kt_test(test_diag_forms),
        kt_test(test_diag_quiet_and_from),
        kt_test(test_diag_repetitions),
        kt_test(test_diag_exit_order),
        kt_test(test_diag_is_harmless),
        kt_test(test_diag_is_bounded),
        kt_test(test_table),
        kt_test(test_table_empty),
        kt_test(test_utf8),
        kt_test(test_ck),
        kt_test(test_rng),
    };

    setlocale(LC_CTYPE, "");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
