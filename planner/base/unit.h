/* The only number parser, and the formatter that goes with it: digits, an optional point, an
 * optional exponent only where no unit follows, a unit where one is due with or without one
 * space before it. Never signs, hex, nan or inf. */
#ifndef KVBUDGET_PLANNER_BASE_UNIT_H
#define KVBUDGET_PLANNER_BASE_UNIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each parser reads the whole of `s` and stores the value, or says what is wrong and leaves
 * *out as it is. "'80G' is ambiguous: write 80GB (10^9 bytes) or 80GiB (2^30 bytes)" is built
 * by the caller from UNIT_AMBIGUOUS. */
enum unit_error {
    UNIT_OK,
    UNIT_EMPTY,
    UNIT_NEGATIVE,  /* starts with '-' */
    UNIT_SYNTAX,    /* not a number */
    UNIT_SUFFIX,    /* a number with an unknown unit */
    UNIT_AMBIGUOUS, /* 80G: 10^9 or 2^30? */
    UNIT_FRACTION,  /* a fraction where a whole number is due */
    UNIT_RANGE      /* does not fit 64 bits or a double */
};

/* 42; 1_000, 1e3 and 1.0 are errors. */
enum unit_error unit_parse_u64(const char *s, uint64_t *out);
/* 0.5, 1e-3, .5 */
enum unit_error unit_parse_double(const char *s, double *out);
/* 80GiB, 24GB, 512 MiB, 1024 (bytes). A fraction of a kB or more is rounded to the nearest byte
 * in exact arithmetic; a fraction of a byte, and a size that would round to 0, are
 * UNIT_FRACTION. */
enum unit_error unit_parse_bytes(const char *s, uint64_t *out);
/* 4096, 128k (= 131072), 1M (= 2^20); a fraction must give whole tokens: 1.5k. */
enum unit_error unit_parse_tokens(const char *s, uint64_t *out);
/* bytes/s: 936GB/s, 1.2TB/s, 3.35e12 */
enum unit_error unit_parse_rate(const char *s, double *out);
/* FLOP/s: 989TFLOPS, 1.9PFLOPS, 312TFLOP/s, 1979TOPS */
enum unit_error unit_parse_flops(const char *s, double *out);
/* 2.5ms, 3us, 1.5s, 0.5, 2min, 1h */
enum unit_error unit_parse_seconds(const char *s, double *out);

/* What is wrong, to follow "'abc' ": "is not a number". */
const char *unit_error_text(enum unit_error e);

/* Formatters write at most n bytes with the terminator and return buf. 32 bytes are enough.
 * Three significant digits where the comment shows them; a value that is not finite gives
 * "n/a". */
char *unit_format_bytes(uint64_t bytes, char *buf, size_t n); /* 1.50 GiB */
/* 1536MiB, 24GB, 1025B: the shortest that parses back to the same value */
char *unit_format_bytes_exact(uint64_t bytes, char *buf, size_t n);
char *unit_format_count(uint64_t v, char *buf, size_t n); /* 1,234,567 */
/* 12.3 ms; from 1 ps to 10^9 h it parses back within 1 %; less than 1 ps is "0 s" */
char *unit_format_seconds(double s, char *buf, size_t n);
char *unit_format_flop(double flop, char *buf, size_t n);  /* 1.23 TFLOP */
char *unit_format_rate(double per_s, char *buf, size_t n); /* 3.35 TB/s */

/* base^n by squaring; no libm, so figures are the same everywhere. */
double unit_powi(double base, uint64_t n);

/* Number of edits between two words, at most `limit` + 1; for "did you mean". */
unsigned unit_distance(const char *a, const char *b, unsigned limit);

#endif
