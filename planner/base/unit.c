/* Numbers with units, both ways. Whole numbers are exact: the digits are kept as a 128-bit
 * integer and a decimal scale and multiplied by the unit before anything is rounded. For the
 * others the digits and the power of ten of the unit are handed to strtod as one literal, so
 * that 2.5ms is the double nearest to 0.0025. The numeric locale is never set, so the point is
 * a point. */
#include "planner/base/unit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/ck.h"

struct number {
    kv_u128 digits; /* without the point */
    unsigned scale; /* digits behind the point, trailing zeros dropped */
    bool long_tail; /* more digits than are kept */
    bool exponent;
    size_t length; /* of the number in the text */
};

struct unit {
    const char *text;
    int exp10;
    uint64_t times;
};

/* Powers of two up to 2^50 times 10^0, powers of ten up to 10^15: a number below DIGITS_END
 * times any of them fits 128 bits. */
static const struct unit byte_units[] = {
    {"", 0, 1},
    {"B", 0, 1},
    {"kB", 3, 1},
    {"KB", 3, 1},
    {"MB", 6, 1},
    {"GB", 9, 1},
    {"TB", 12, 1},
    {"PB", 15, 1},
    {"KiB", 0, 1u << 10},
    {"kiB", 0, 1u << 10},
    {"MiB", 0, 1u << 20},
    {"GiB", 0, 1u << 30},
    {"TiB", 0, 1ull << 40},
    {"PiB", 0, 1ull << 50},
    {NULL, 0, 0},
};

static const struct unit token_units[] = {
    {"", 0, 1}, {"k", 0, 1u << 10}, {"K", 0, 1u << 10}, {"M", 0, 1u << 20}, {NULL, 0, 0},
};

static const struct unit second_units[] = {
    {"", 0, 1},    {"s", 0, 1},    {"ms", -3, 1},  {"us", -6, 1}, {"\xc2\xb5s", -6, 1},
    {"ns", -9, 1}, {"min", 0, 60}, {"h", 0, 3600}, {NULL, 0, 0},
};

static const struct unit flop_units[] = {
    {"", 0, 1},         {"FLOPS", 0, 1},    {"kFLOPS", 3, 1},   {"MFLOPS", 6, 1},
    {"GFLOPS", 9, 1},   {"TFLOPS", 12, 1},  {"PFLOPS", 15, 1},  {"EFLOPS", 18, 1},
    {"FLOP/s", 0, 1},   {"kFLOP/s", 3, 1},  {"MFLOP/s", 6, 1},  {"GFLOP/s", 9, 1},
    {"TFLOP/s", 12, 1}, {"PFLOP/s", 15, 1}, {"EFLOP/s", 18, 1}, {"GOPS", 9, 1},
    {"TOPS", 12, 1},    {"POPS", 15, 1},    {NULL, 0, 0},
};

enum { SCALE_MAX = 30, LITERAL_MAX = 64 };

static kv_u128 pow10_u128(unsigned n)
{
    kv_u128 r = 1;

    for (unsigned i = 0; i < n; i++)
        r *= 10;
    return r;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads digits into x; zeros behind the point wait until a digit follows them. */
static size_t scan_digits(const char *s, bool fraction, struct number *x)
{
    const kv_u128 digits_end = pow10_u128(22); /* 2^64 has 20 digits */
    unsigned zeros = 0;
    size_t i;

    for (i = 0; is_digit(s[i]); i++) {
        if (fraction && s[i] == '0') {
            zeros += zeros < SCALE_MAX;
            continue;
        }
        for (unsigned k = 0; k <= zeros; k++) {
            if (x->digits >= digits_end || x->scale >= SCALE_MAX) {
                x->long_tail = true;
                break;
            }
            x->digits = x->digits * 10 + (k == zeros ? (unsigned)(s[i] - '0') : 0);
            x->scale += fraction;
        }
        zeros = 0;
    }
    return i;
}

static enum unit_error scan(const char *s, struct number *x)
{
    size_t i, whole, behind = 0;

    *x = (struct number){0};
    if (!s || s[0] == '\0')
        return UNIT_EMPTY;
    if (s[0] == '-' && (is_digit(s[1]) || s[1] == '.'))
        return UNIT_NEGATIVE;
    whole = i = scan_digits(s, false, x);
    if (s[i] == '.') {
        behind = scan_digits(s + i + 1, true, x);
        if (behind == 0)
            return UNIT_SYNTAX;
        i += 1 + behind;
    }
    if (whole + behind == 0)
        return UNIT_SYNTAX;
    if (s[i] == 'e' || s[i] == 'E') {
        size_t k = i + 1;
        k += s[k] == '+' || s[k] == '-';
        if (is_digit(s[k])) {
            while (is_digit(s[k]))
                k++;
            x->exponent = true;
            i = k;
        }
    }
    x->length = i;
    return UNIT_OK;
}

static const struct unit *find_unit(const struct unit *u, const char *text, size_t n)
{
    for (; u->text; u++) {
        if (strlen(u->text) == n && memcmp(u->text, text, n) == 0)
            return u;
    }
    return NULL;
}

/* The unit behind the number; `tail` must end it ("/s" for rates) unless there is no unit. */
static enum unit_error scan_unit(const char *s, const struct unit *units, const char *tail,
                                 const struct unit **out)
{
    size_t n, tail_n = strlen(tail);

    if (s[0] == ' ' && s[1] != '\0')
        s++;
    n = strlen(s);
    if (n == 1 && (units == byte_units) && strchr("kKmMgGtTpP", s[0]))
        return UNIT_AMBIGUOUS;
    if (n > 0) {
        if (n <= tail_n || strcmp(s + n - tail_n, tail) != 0)
            return UNIT_SUFFIX;
        n -= tail_n;
    }
    *out = find_unit(units, s, n);
    return *out ? UNIT_OK : UNIT_SUFFIX;
}

/* A whole number of units; with `round`, fractions go to the nearest whole number, halves up.
 */
static enum unit_error parse_whole(const char *s, const struct unit *units, bool round,
                                   uint64_t *out)
{
    struct number x;
    const struct unit *u = NULL;
    enum unit_error e = scan(s, &x);
    kv_u128 v, below, rest;

    if (e != UNIT_OK)
        return e;
    e = scan_unit(s + x.length, units, "", &u);
    if (e != UNIT_OK)
        return e;
    if (x.exponent)
        return UNIT_SYNTAX;
    if (x.long_tail)
        return UNIT_RANGE;
    v = x.digits * u->times * pow10_u128((unsigned)u->exp10);
    below = pow10_u128(x.scale);
    rest = v % below;
    v /= below;
    if (rest != 0) {
        bool up = rest >= below - rest;
        bool unitless = u->times == 1 && u->exp10 == 0;
        if (!round || unitless || (v == 0 && !up))
            return UNIT_FRACTION;
        v += up;
    }
    if (v > UINT64_MAX)
        return UNIT_RANGE;
    *out = (uint64_t)v;
    return UNIT_OK;
}

/* A double in units of the table. The literal for strtod is built here, so it has no sign, no
 * hexadecimal digits and no words. */
static enum unit_error parse_real(const char *s, const struct unit *units, const char *tail,
                                  double *out)
{
    char literal[LITERAL_MAX + 16];
    struct number x;
    const struct unit *u = NULL;
    enum unit_error e = scan(s, &x);
    double v;

    if (e != UNIT_OK)
        return e;
    e = scan_unit(s + x.length, units, tail, &u);
    if (e != UNIT_OK)
        return e;
    if (x.exponent && s[x.length] != '\0')
        return UNIT_SUFFIX;
    if (x.length > LITERAL_MAX)
        return UNIT_RANGE;
    memcpy(literal, s, x.length);
    literal[x.length] = '\0';
    if (!x.exponent)
        snprintf(literal + x.length, sizeof literal - x.length, "e%d", u->exp10);
    v = strtod(literal, NULL) * (double)u->times;
    if (v - v != 0 || (v == 0 && x.digits != 0)) /* infinite, or too small to tell from 0 */
        return UNIT_RANGE;
    *out = v;
    return UNIT_OK;
}

static const struct unit no_units[] = {{"", 0, 1}, {NULL, 0, 0}};

enum unit_error unit_parse_u64(const char *s, uint64_t *out)
{
    uint64_t v = 0;
    enum unit_error e = parse_whole(s, no_units, false, &v);

    if (e == UNIT_OK && strchr(s, '.'))
        return UNIT_FRACTION;
    if (e == UNIT_OK)
        *out = v;
    return e;
}

enum unit_error unit_parse_double(const char *s, double *out)
{
    return parse_real(s, no_units, "", out);
}

enum unit_error unit_parse_bytes(const char *s, uint64_t *out)
{
    return parse_whole(s, byte_units, true, out);
}

enum unit_error unit_parse_tokens(const char *s, uint64_t *out)
{
    return parse_whole(s, token_units, false, out);
}

enum unit_error unit_parse_rate(const char *s, double *out)
{
    return parse_real(s, byte_units, "/s", out);
}

enum unit_error unit_parse_flops(const char *s, double *out)
{
    return parse_real(s, flop_units, "", out);
}

enum unit_error unit_parse_seconds(const char *s, double *out)
{
    return parse_real(s, second_units, "", out);
}

const char *unit_error_text(enum unit_error e)
{
    switch (e) {
    case UNIT_OK: return "is fine";
    case UNIT_EMPTY: return "is empty";
    case UNIT_NEGATIVE: return "must not be negative";
    case UNIT_SYNTAX: return "is not a number";
    case UNIT_SUFFIX: return "has an unknown unit";
    case UNIT_AMBIGUOUS: return "is ambiguous: a power of ten or of two?";
    case UNIT_FRACTION: return "is not a whole number";
    case UNIT_RANGE: return "is out of range";
    }
    return "is wrong";
}

char *unit_format_bytes(uint64_t bytes, char *buf, size_t n)
{
    static const char *const names[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t k = 0;
    uint64_t one = 1024, whole, hundredths;

    if (bytes < 1024) {
        snprintf(buf, n, "%" PRIu64 " B", bytes);
        return buf;
    }
    for (;; k++, one *= 1024) { /* hundredths, rounded half up */
        whole = (uint64_t)(((kv_u128)bytes * 100 + one / 2) / one);
        if (whole < 102400 || k == 4)
            break;
    }
    hundredths = whole % 100;
    snprintf(buf, n, "%" PRIu64 ".%02" PRIu64 " %s", whole / 100, hundredths, names[k]);
    return buf;
}

char *unit_format_bytes_exact(uint64_t bytes, char *buf, size_t n)
{
    static const struct {
        uint64_t one;
        const char *name;
    } units[] = {
        {1, "B"},
        {1u << 10, "KiB"},
        {1u << 20, "MiB"},
        {1u << 30, "GiB"},
        {1ull << 40, "TiB"},
        {1ull << 50, "PiB"},
        {1000, "kB"},
        {1000000, "MB"},
        {1000000000, "GB"},
        {1000000000000, "TB"},
        {1000000000000000, "PB"},
    };
    size_t best = 0;

    for (size_t i = 1; i < sizeof units / sizeof *units && bytes > 0; i++) {
        if (bytes % units[i].one == 0 && units[i].one > units[best].one)
            best = i;
    }
    snprintf(buf, n, "%" PRIu64 "%s", bytes / units[best].one, units[best].name);
    return buf;
}

char *unit_format_count(uint64_t v, char *buf, size_t n)
{
    char digits[24], text[32];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, v);
    size_t to = 0;

    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            text[to++] = ',';
        text[to++] = digits[i];
    }
    text[to] = '\0';
    snprintf(buf, n, "%s", text);
    return buf;
}

/* Digits behind the point for three significant ones; v >= 0. */
static int places(double v)
{
    return v < 9.995 ? 2 : v < 99.95 ? 1 : 0;
}

static bool is_finite(double v)
{
    return v - v == 0;
}

char *unit_format_seconds(double s, char *buf, size_t n)
{
    static const struct {
        double one, below;
        const char *name;
    } units[] = {
        {1e-9, 999.5, "ns"}, {1e-6, 999.5, "us"}, {1e-3, 999.5, "ms"},
        {1, 599.5, "s"},     {60, 599.5, "min"},  {3600, 0, "h"},
    };
    const char *sign = s < 0 ? "-" : "";
    double v = s < 0 ? -s : s;
    size_t k = 0;

    if (!is_finite(s)) {
        snprintf(buf, n, "n/a");
        return buf;
    }
    if (v < 1e-12) {
        snprintf(buf, n, "0 s");
        return buf;
    }
    while (k < 5 && v / units[k].one >= units[k].below)
        k++;
    v /= units[k].one;
    if (v < 0.9995) /* below a nanosecond */
        snprintf(buf, n, "%s%.5f %s", sign, v, units[k].name);
    else if (v < 1e12)
        snprintf(buf, n, "%s%.*f %s", sign, places(v), v, units[k].name);
    else
        snprintf(buf, n, "%s%.2e %s", sign, v, units[k].name);
    return buf;
}

/* Three significant digits with a decimal prefix. */
static char *format_si(double v, const char *unit, char *buf, size_t n)
{
    static const char *const prefix[] = {"", "k", "M", "G", "T", "P", "E", "Z", "Y"};
    const char *sign = v < 0 ? "-" : "";
    size_t k = 0;

    if (!is_finite(v)) {
        snprintf(buf, n, "n/a");
        return buf;
    }
    v = v < 0 ? -v : v;
    for (; v >= 999.5 && k < 8; k++)
        v /= 1000;
    if (k == 8 && v >= 999.5)
        snprintf(buf, n, "%s%.2e %s%s", sign, v, prefix[k], unit);
    else
        snprintf(buf, n, "%s%.*f %s%s", sign, places(v), v, prefix[k], unit);
    return buf;
}

char *unit_format_flop(double flop, char *buf, size_t n)
{
    return format_si(flop, "FLOP", buf, n);
}

char *unit_format_rate(double per_s, char *buf, size_t n)
{
    return format_si(per_s, "B/s", buf, n);
}

double unit_powi(double base, uint64_t n)
{
    double r = 1;

    for (; n > 0; n >>= 1) {
        if (n & 1)
            r *= base;
        base *= base;
    }
    return r;
}

enum { WORD_MAX = 64 };

/* Optimal string alignment: insert, drop, replace, swap neighbours. */
unsigned unit_distance(const char *a, const char *b, unsigned limit)
{
    unsigned rows[3][WORD_MAX + 1];
    size_t na = strlen(a), nb = strlen(b);
    size_t apart = na > nb ? na - nb : nb - na;

    if (na > WORD_MAX || nb > WORD_MAX || apart > limit)
        return limit + 1;
    for (size_t j = 0; j <= nb; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        unsigned *now = rows[i % 3], *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];
        unsigned least = now[0] = (unsigned)i;

        for (size_t j = 1; j <= nb; j++) {
            unsigned v = up[j - 1] + (a[i - 1] != b[j - 1]);
            v = v < up[j] + 1 ? v : up[j] + 1;
            v = v < now[j - 1] + 1 ? v : now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                up2[j - 2] + 1 < v)
                v = up2[j - 2] + 1;
            now[j] = v;
            least = v < least ? v : least;
        }
        if (least > limit)
            return limit + 1;
    }
    return rows[na % 3][nb] > limit ? limit + 1 : rows[na % 3][nb];
}
