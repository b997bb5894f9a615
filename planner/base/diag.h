/* One sink for errors, warnings and assumptions, each with a place in a file.
 * Loading reports all problems; the exit code is derived from what was recorded. */
#ifndef KVBUDGET_PLANNER_BASE_DIAG_H
#define KVBUDGET_PLANNER_BASE_DIAG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "planner/base/arena.h"

enum diag_kind {
    DIAG_NOTE,       /* an assumption or a fact worth knowing */
    DIAG_WARN,       /* the result stands, but look at this */
    DIAG_USAGE,      /* exit 2 */
    DIAG_INPUT,      /* exit 3 */
    DIAG_INFEASIBLE, /* exit 4 */
    DIAG_DEVICE,     /* exit 5 */
    DIAG_TOLERANCE,  /* exit 6 */
    DIAG_OUTPUT,     /* exit 7 */
    DIAG_INTERNAL    /* exit 70 */
};

struct loc { /* 1-based; line 0 = the file as a whole, file NULL = no place */
    const char *file;
    int line, col;
};

struct diag_message {
    enum diag_kind kind;
    struct loc at;
    const char *text;
};

struct diag;

struct diag *diag_new(struct arena *a);

/* Records one message (the same text at the same place only once).
 * Returns true for NOTE and WARN, false for the rest, so that
 * `return diag_add(d, DIAG_INPUT, at, "...")` reads as the failure it is. */
bool diag_add(struct diag *d, enum diag_kind k, struct loc at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

size_t diag_count(const struct diag *d);
const struct diag_message *diag_at(const struct diag *d, size_t i);
bool diag_failed(const struct diag *d); /* an error of any kind was recorded */
size_t diag_errors(const struct diag *d);

/* The exit status: 0, or by the first that occurred of 70, 7, 3, 5, 6, 4, 2 (in this order). */
int diag_exit(const struct diag *d);
const char *diag_severity(enum diag_kind k); /* "note", "warning", "error" */

/* Prints messages from index `from` on as `file:line:col: severity: text`, notes only when
 * verbose; returns the new count, for the next call. */
size_t diag_print(const struct diag *d, size_t from, bool verbose, FILE *out);

#endif
