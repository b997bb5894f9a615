/* A text file line by line, and the numbers in a line: what the trace readers are made of. At
 * most one line is in memory, lines have a longest length, and what is wrong is said with
 * file:line:col. */
#ifndef KVBUDGET_SIM_LINE_H
#define KVBUDGET_SIM_LINE_H

#include <stdint.h>

#include "planner/base/arena.h"
#include "planner/base/diag.h"

struct lines {
    const char *name; /* for messages */
    char *text;       /* of the line; text[n] is 0 */
    size_t n;
    int line; /* its number, from 1 */

    struct diag *diag;
    char *buffer;               /* [longest + 1] */
    size_t longest, start, end; /* the next line and what has been read lie in [start, end) */
    int fd;
    const char *memory; /* the text, where there is no file */
    bool ended, own_fd;
    uint64_t read_bytes, total_bytes; /* total 0 = not known */
};

/* Opens a file, "-" = standard input; lines may have `longest` bytes. errors: DIAG_INPUT. */
bool lines_open(struct arena *a, const char *path, size_t longest, struct diag *d,
                struct lines *out) __attribute__((warn_unused_result));
/* The same from memory; the text stays the caller's and must outlive the lines. */
void lines_of_text(struct arena *a, const char *name, const char *text, size_t n,
                   size_t longest, struct diag *d, struct lines *out);
void lines_close(struct lines *l);

/* The next line that is not blank, without its end (LF or CR LF); false at the end of the file,
 * or with the reason recorded (a line that is too long, a read error): *failed tells. */
bool lines_next(struct lines *l, bool *failed) __attribute__((warn_unused_result));

/* From the start again; errors: DIAG_INPUT for a pipe. */
bool lines_rewind(struct lines *l) __attribute__((warn_unused_result));

/* Records "WHAT TEXT, found '...'" at a place in the line; the word there is quoted. Returns
 * false. */
bool line_wrong(const struct lines *l, const char *at, const char *what, const char *text);
/* The same place with words of one's own. */
bool line_error(const struct lines *l, const char *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A whole number that starts at `at`; returns where it ends, NULL with a message when there is
 * none, or it is above `most`. `what` names it. */
const char *line_u64(const struct lines *l, const char *at, const char *what, uint64_t most,
                     uint64_t *out);
/* The same for a number with an optional point and exponent, not negative. */
const char *line_real(const struct lines *l, const char *at, const char *what, double *out);

#endif
