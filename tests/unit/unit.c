/* Numbers with units, in and out. */
#include "tests/kvtest.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

#include "planner/base/rng.h"
#include "planner/base/unit.h"

#define KIB UINT64_C(1024)
#define GIB (KIB * KIB * KIB)

struct whole_case {
    const char *text;
    enum unit_error e;
    uint64_t v;
};

static void check_whole(enum unit_error (*parse)(const char *, uint64_t *),
                        const struct whole_case *c)
{
    for (; c->text; c++) {
        uint64_t v = 99;
        enum unit_error e = parse(c->text, &v);

        if (e != c->e)
            print_error("'%s': ", c->text);
        assert_string_equal(unit_error_text(e), unit_error_text(c->e));
        kt_u64(v, c->e == UNIT_OK ? c->v : 99);
    }
}

static void test_u64(void **state)
{
    static const struct whole_case cases[] = {
        {"0", UNIT_OK, 0},
        {"42", UNIT_OK, 42},
        {"007", UNIT_OK, 7},
        {"18446744073709551615", UNIT_OK, UINT64_MAX},
        {"18446744073709551616", UNIT_RANGE, 0},
        {"99999999999999999999999999999999999999999999999999", UNIT_RANGE, 0},
        {"", UNIT_EMPTY, 0},
        {"-1", UNIT_NEGATIVE, 0},
        {"-.5", UNIT_NEGATIVE, 0},
        {"-", UNIT_SYNTAX, 0},
        {"--1", UNIT_SYNTAX, 0},
        {"-inf", UNIT_SYNTAX, 0},
        {"+1", UNIT_SYNTAX, 0},
        {" 1", UNIT_SYNTAX, 0},
        {"abc", UNIT_SYNTAX, 0},
        {"1_000", UNIT_SUFFIX, 0},
        {"1,000", UNIT_SUFFIX, 0},
        {"0x10", UNIT_SUFFIX, 0},
        {"1 ", UNIT_SUFFIX, 0},
        {"42k", UNIT_SUFFIX, 0},
        {"1e3", UNIT_SYNTAX, 0},
        {"1.5", UNIT_FRACTION, 0},
        {"1.0", UNIT_FRACTION, 0},
        {"1.", UNIT_SYNTAX, 0},
        {".", UNIT_SYNTAX, 0},
        {NULL, UNIT_OK, 0},
    };
    uint64_t v = 1;

    (void)state;
    check_whole(unit_parse_u64, cases);
    assert_int_equal(unit_parse_u64(NULL, &v), UNIT_EMPTY);
}

static void test_bytes(void **state)
{
    static const struct whole_case cases[] = {
        {"1024", UNIT_OK, 1024},
        {"0", UNIT_OK, 0},
        {"7B", UNIT_OK, 7},
        {"1kB", UNIT_OK, 1000},
        {"1KB", UNIT_OK, 1000},
        {"1KiB", UNIT_OK, 1024},
        {"512 MiB", UNIT_OK, 512 * KIB * KIB},
        {"24GB", UNIT_OK, UINT64_C(24000000000)},
        {"80GiB", UNIT_OK, 80 * GIB},
        {"2TB", UNIT_OK, UINT64_C(2000000000000)},
        {"2TiB", UNIT_OK, 2 * KIB * GIB},
        {"3PB", UNIT_OK, UINT64_C(3000000000000000)},
        {"3PiB", UNIT_OK, 3 * KIB * KIB * GIB},
        {"1.5GiB", UNIT_OK, GIB + GIB / 2},
        {"1.50GiB", UNIT_OK, GIB + GIB / 2},
        {".5KiB", UNIT_OK, 512},
        {"0.3GB", UNIT_OK, 300000000},
        {"0.1GB", UNIT_OK, 100000000},
        /* 79.65 * 2^30 = 85523536281.6 */
        {"79.65GiB", UNIT_OK, UINT64_C(85523536282)},
        {"1.0005kB", UNIT_OK, 1001}, /* a half goes up */
        {"1.0004999kB", UNIT_OK, 1000},
        /* 9007199254740993 = 2^53 + 1: a double would lose the last digit */
        {"9.007199254740993PB", UNIT_OK, UINT64_C(9007199254740993)},
        {"18446744073709551615", UNIT_OK, UINT64_MAX},
        {"18446744073709551.615kB", UNIT_OK, UINT64_MAX},
        {"16383PiB", UNIT_OK, 16383 * KIB * KIB * GIB},
        {"16384PiB", UNIT_RANGE, 0},
        {"18446744073709551616", UNIT_RANGE, 0},
        {"0.00000000000000000000000000000000000001GB", UNIT_RANGE, 0},
        {"0.0001kB", UNIT_FRACTION, 0}, /* would become 0 */
        {"1.5", UNIT_FRACTION, 0},
        {"1.5B", UNIT_FRACTION, 0},
        {"80G", UNIT_AMBIGUOUS, 0},
        {"80 g", UNIT_AMBIGUOUS, 0},
        {"1k", UNIT_AMBIGUOUS, 0},
        {"80Gi", UNIT_SUFFIX, 0},
        {"80gb", UNIT_SUFFIX, 0},
        {"80Gb", UNIT_SUFFIX, 0},
        {"80 GB ", UNIT_SUFFIX, 0},
        {"80  GB", UNIT_SUFFIX, 0},
        {"80GB/s", UNIT_SUFFIX, 0},
        {"1e9", UNIT_SYNTAX, 0},
        {"1e9B", UNIT_SYNTAX, 0},
        {"GB", UNIT_SYNTAX, 0},
        {"-80GB", UNIT_NEGATIVE, 0},
        {"", UNIT_EMPTY, 0},
        {NULL, UNIT_OK, 0},
    };

    (void)state;
    check_whole(unit_parse_bytes, cases);
}

static void test_tokens(void **state)
{
    static const struct whole_case cases[] = {
        {"4096", UNIT_OK, 4096},
        {"128k", UNIT_OK, 131072},
        {"128K", UNIT_OK, 131072},
        {"1M", UNIT_OK, 1048576},
        {"1.5k", UNIT_OK, 1536},
        {"0.3k", UNIT_FRACTION, 0},
        {"1.5", UNIT_FRACTION, 0},
        {"1m", UNIT_SUFFIX, 0},
        {"1G", UNIT_SUFFIX, 0},
        {"1kB", UNIT_SUFFIX, 0},
        {"-5", UNIT_NEGATIVE, 0},
        {"auto", UNIT_SYNTAX, 0},
        {"17592186044416M", UNIT_RANGE, 0},
        {NULL, UNIT_OK, 0},
    };

    (void)state;
    check_whole(unit_parse_tokens, cases);
}

struct real_case {
    const char *text;
    enum unit_error e;
    double v;
};

static void check_real(enum unit_error (*parse)(const char *, double *),
                       const struct real_case *c)
{
    for (; c->text; c++) {
        double v = 99;
        enum unit_error e = parse(c->text, &v);

        if (e != c->e)
            print_error("'%s': ", c->text);
        assert_string_equal(unit_error_text(e), unit_error_text(c->e));
        kt_rel(v, c->e == UNIT_OK ? c->v : 99, 0); /* the nearest double, exactly */
    }
}

static void test_double(void **state)
{
    static const struct real_case cases[] = {
        {"0.5", UNIT_OK, 0.5},
        {".5", UNIT_OK, 0.5},
        {"1e-3", UNIT_OK, 1e-3},
        {"1E+3", UNIT_OK, 1000},
        {"0.1", UNIT_OK, 0.1},
        {"0", UNIT_OK, 0},
        {"0.0", UNIT_OK, 0},
        {"10000.0", UNIT_OK, 10000},
        {"1e308", UNIT_OK, 1e308},
        {"1e309", UNIT_RANGE, 0},
        {"1e-999", UNIT_RANGE, 0},
        {"nan", UNIT_SYNTAX, 0},
        {"inf", UNIT_SYNTAX, 0},
        {"Infinity", UNIT_SYNTAX, 0},
        {"0x1p3", UNIT_SUFFIX, 0},
        {"1e", UNIT_SUFFIX, 0},
        {"1e+", UNIT_SUFFIX, 0},
        {"5%", UNIT_SUFFIX, 0},
        {"-1", UNIT_NEGATIVE, 0},
        {"", UNIT_EMPTY, 0},
        {"1.", UNIT_SYNTAX, 0},
        {"0.1234567890123456789012345678901234567890123456789", UNIT_OK,
         0.1234567890123456789012345678901234567890123456789},
        {NULL, UNIT_OK, 0},
    };

    (void)state;
    check_real(unit_parse_double, cases);
}

static void test_rates(void **state)
{
    static const struct real_case rates[] = {
        {"936GB/s", UNIT_OK, 936e9},
        {"3.35TB/s", UNIT_OK, 3.35e12},
        {"25 GB/s", UNIT_OK, 25e9},
        {"1GiB/s", UNIT_OK, 1073741824.0},
        {"100", UNIT_OK, 100},
        {"3.35e12", UNIT_OK, 3.35e12},
        {"5B/s", UNIT_OK, 5},
        {"936GB", UNIT_SUFFIX, 0},
        {"936G", UNIT_AMBIGUOUS, 0},
        {"936/s", UNIT_SUFFIX, 0},
        {"400Gb/s", UNIT_SUFFIX, 0},
        {"1e3GB/s", UNIT_SUFFIX, 0},
        {"0.00000000000000000000000000000000000000000000000000000000000000001GB/s", UNIT_RANGE,
         0},
        {"-1GB/s", UNIT_NEGATIVE, 0},
        {NULL, UNIT_OK, 0},
    };
    static const struct real_case flops[] = {
        {"989TFLOPS", UNIT_OK, 989e12},  {"1.9PFLOPS", UNIT_OK, 1.9e15},
        {"312TFLOP/s", UNIT_OK, 312e12}, {"1979TOPS", UNIT_OK, 1979e12},
        {"1EFLOPS", UNIT_OK, 1e18},      {"35 GFLOPS", UNIT_OK, 35e9},
        {"1e15", UNIT_OK, 1e15},         {"71T", UNIT_SUFFIX, 0},
        {"71TB/s", UNIT_SUFFIX, 0},      {NULL, UNIT_OK, 0},
    };
    static const struct real_case seconds[] = {
        {"2.5ms", UNIT_OK, 0.0025}, {"3us", UNIT_OK, 3e-6},    {"3\xc2\xb5s", UNIT_OK, 3e-6},
        {"40ns", UNIT_OK, 40e-9},   {"1.5s", UNIT_OK, 1.5},    {"0.5", UNIT_OK, 0.5},
        {"1e-3", UNIT_OK, 1e-3},    {"2min", UNIT_OK, 120},    {"1.5 h", UNIT_OK, 5400},
        {"5 m", UNIT_SUFFIX, 0},    {"1e-3s", UNIT_SUFFIX, 0}, {NULL, UNIT_OK, 0},
    };

    (void)state;
    check_real(unit_parse_rate, rates);
    check_real(unit_parse_flops, flops);
    check_real(unit_parse_seconds, seconds);
}

static void test_format_bytes(void **state)
{
    static const struct {
        uint64_t v;
        const char *text, *exact;
    } cases[] = {
        {0, "0 B", "0B"},
        {1, "1 B", "1B"},
        {1000, "1000 B", "1kB"},
        {1023, "1023 B", "1023B"},
        {1024, "1.00 KiB", "1KiB"},
        {1025, "1.00 KiB", "1025B"},
        {1536 * 1024 * 1024, "1.50 GiB", "1536MiB"},
        {UINT64_C(80) * 1024 * 1024 * 1024, "80.00 GiB", "80GiB"},
        {UINT64_C(24000000000), "22.35 GiB", "24GB"},
        {UINT64_C(85520809984), "79.65 GiB", "81559MiB"},
        {1024 * 1024 - 1, "1.00 MiB", "1048575B"}, /* rounds over the border of the unit */
        {UINT64_MAX, "16384.00 PiB", "18446744073709551615B"},
    };
    char buf[32];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_string_equal(unit_format_bytes(cases[i].v, buf, sizeof buf), cases[i].text);
        assert_string_equal(unit_format_bytes_exact(cases[i].v, buf, sizeof buf),
                            cases[i].exact);
    }
    assert_string_equal(unit_format_bytes(1536, buf, 5), "1.50"); /* cut, never beyond n */
}

static void test_format_others(void **state)
{
    static const struct {
        char *(*format)(double, char *, size_t);
        double v;
        const char *text;
    } cases[] = {
        {unit_format_seconds, 0.0123, "12.3 ms"},
        {unit_format_seconds, 0, "0 s"},
        {unit_format_seconds, 1e-13, "0 s"},
        {unit_format_seconds, 2.5e-12, "0.00250 ns"},
        {unit_format_seconds, 999.4e-6, "999 us"},
        {unit_format_seconds, 999.6e-6, "1.00 ms"},
        {unit_format_seconds, 9.996, "10.0 s"},
        {unit_format_seconds, 90, "90.0 s"},
        {unit_format_seconds, 599, "599 s"},
        {unit_format_seconds, 600, "10.0 min"},
        {unit_format_seconds, 86400, "24.0 h"},
        {unit_format_seconds, 3.6e9, "1000000 h"},
        {unit_format_seconds, 1e300, "2.78e+296 h"},
        {unit_format_seconds, -0.5, "-500 ms"},
        {unit_format_flop, 1.23e12, "1.23 TFLOP"},
        {unit_format_flop, 0, "0.00 FLOP"},
        {unit_format_flop, 999.6e9, "1.00 TFLOP"},
        {unit_format_flop, 1e24, "1.00 YFLOP"},
        {unit_format_flop, 1e30, "1.00e+06 YFLOP"},
        {unit_format_flop, -2e3, "-2.00 kFLOP"},
        {unit_format_rate, 3.35e12, "3.35 TB/s"},
        {unit_format_rate, 25e9, "25.0 GB/s"},
    };
    char buf[32];
    volatile double huge = DBL_MAX;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(cases[i].format(cases[i].v, buf, sizeof buf), cases[i].text);
    assert_string_equal(unit_format_seconds(huge * 2, buf, sizeof buf), "n/a");
    assert_string_equal(unit_format_flop(huge * 2 - huge * 2, buf, sizeof buf), "n/a");
    assert_string_equal(unit_format_count(0, buf, sizeof buf), "0");
    assert_string_equal(unit_format_count(999, buf, sizeof buf), "999");
    assert_string_equal(unit_format_count(1234567, buf, sizeof buf), "1,234,567");
    assert_string_equal(unit_format_count(UINT64_MAX, buf, sizeof buf),
                        "18,446,744,073,709,551,615");
}

/* parse(format(x)) = x, for sizes exactly and for times within 1 %. */
static void test_round_trips(void **state)
{
    struct rng r = {kt_seed(11)};
    char buf[32];

    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint64_t v = rng_next(&r) >> rng_below(&r, 64), back = 0;
        double s = (double)(1 + rng_below(&r, 1u << 20)) * 1e-12, back_s = 0;

        if (i % 2)
            v = v >> 12 << rng_below(&r, 12);
        unit_format_bytes_exact(v, buf, sizeof buf);
        assert_int_equal(unit_parse_bytes(buf, &back), UNIT_OK);
        kt_u64(back, v);
        s *= unit_powi(10, rng_below(&r, 20));
        unit_format_seconds(s, buf, sizeof buf);
        assert_int_equal(unit_parse_seconds(buf, &back_s), UNIT_OK);
        kt_rel(back_s, s, 0.01);
    }
}

static void test_powi(void **state)
{
    (void)state;
    kt_rel(unit_powi(2, 62), 4611686018427387904.0, 0);
    kt_rel(unit_powi(10, 22), 1e22, 0);
    kt_rel(unit_powi(7, 0), 1, 0);
    kt_rel(unit_powi(0, 0), 1, 0);
    kt_rel(unit_powi(1.5, 3), 3.375, 0);
}

static void test_distance(void **state)
{
    char long_word[101];

    (void)state;
    memset(long_word, 'a', 100);
    long_word[100] = '\0';
    assert_int_equal(unit_distance("block_token", "block_tokens", 3), 1);
    assert_int_equal(unit_distance("blcok", "block", 3), 1);
    assert_int_equal(unit_distance("kitten", "sitting", 3), 3);
    assert_int_equal(unit_distance("kitten", "sitting", 2), 3);
    assert_int_equal(unit_distance("", "abc", 3), 3);
    assert_int_equal(unit_distance("abc", "", 2), 3);
    assert_int_equal(unit_distance("same", "same", 0), 0);
    assert_int_equal(unit_distance("same", "sane", 0), 1);
    assert_int_equal(unit_distance(long_word, long_word, 3), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_u64),           cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_tokens),        cmocka_unit_test(test_double),
        cmocka_unit_test(test_rates),         cmocka_unit_test(test_format_bytes),
        cmocka_unit_test(test_format_others), cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_powi),          cmocka_unit_test(test_distance),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
