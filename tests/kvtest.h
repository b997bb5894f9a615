/* What the tests need besides cmocka: whole numbers in decimal, doubles with a tolerance, texts
 * against golden files, and diagnostics. Include this instead of cmocka.h. */
#ifndef KVBUDGET_TESTS_KVTEST_H
#define KVBUDGET_TESTS_KVTEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "planner/base/arena.h"
#include "planner/base/diag.h"

/* Whether this is a build with the address sanitizer, several times slower: then a part of a
 * table stands for all of it. */
#ifdef __clang__
#define KT_SANITIZED __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define KT_SANITIZED 1
#else
#define KT_SANITIZED 0
#endif

/* Each fails the test and shows both values; arguments are evaluated once. */
#define kt_u64(got, want) kt_u64_at((got), (want), #got, __FILE__, __LINE__)
/* |got - want| <= tol * |want| */
#define kt_rel(got, want, tol) kt_rel_at((got), (want), (tol), #got, __FILE__, __LINE__)
/* Two texts, the first difference shown by line. */
#define kt_same(got, want) kt_same_at((got), (want), __FILE__, __LINE__)
/* A text against a file (path from the root of the project); UPDATE=1 rewrites the file. */
#define kt_text(got, path) kt_text_at((got), (path), __FILE__, __LINE__)
/* A message with this text in it on this line; line 0: on any line. */
#define kt_diag(d, substring, line) kt_diag_at((d), (substring), (line), __FILE__, __LINE__)
/* All messages, notes too, exactly as they are printed. */
#define kt_printed(d, want) kt_printed_at((d), (want), __FILE__, __LINE__)

void kt_u64_at(uint64_t got, uint64_t want, const char *what, const char *file, int line);
void kt_rel_at(double got, double want, double tol, const char *what, const char *file,
               int line);
void kt_same_at(const char *got, const char *want, const char *file, int line);
void kt_text_at(const char *got, const char *path, const char *file, int line);
void kt_diag_at(const struct diag *d, const char *substring, int at_line, const char *file,
                int line);
void kt_printed_at(const struct diag *d, const char *want, const char *file, int line);

/* KV_SEED from the environment, else `fallback`; printed, so that a failure can be repeated. */
uint64_t kt_seed(uint64_t fallback);

/* An arena and a sink for one test: cmocka_unit_test_setup_teardown(test, kt_open, kt_close);
 * *state is a struct kt *. */
struct kt {
    struct arena *a;
    struct diag *d;
};
int kt_open(void **state);
int kt_close(void **state);
#define kt_test(f) cmocka_unit_test_setup_teardown(f, kt_open, kt_close)

/* A new temporary folder; kt_folder_remove deletes it with the files in it (no subfolders). */
char *kt_folder(struct arena *a);
void kt_folder_remove(const char *path);
/* The whole file as text, or NULL. */
char *kt_slurp(struct arena *a, const char *path);

#endif
