/* A trace file being read: CSV or JSON lines of one format (sim/trace/format.h), record by
 * record, checked. Scaling and the like are sim/trace/trace.c's. */
#ifndef KVBUDGET_SIM_TRACE_FILE_H
#define KVBUDGET_SIM_TRACE_FILE_H

#include "sim/request.h"
#include "sim/trace.h"
#include "sim/trace/format.h"

enum { TRACE_TOKENS_MAX = 1 << 30 }; /* of one request, prompt and output each */

struct trace_file {
    struct lines lines;
    const struct trace_format *format;
    bool lengths_only; /* arrivals do not matter, and need not be there */
    bool again;        /* the line in `lines` was looked at, and has not been read */
    int n_columns, columns[TRACE_WHATS]; /* CSV: of the header; -1 = not there */
    struct trace_clock clock;
    double last_s; /* arrival of the record before */
    bool any;
    uint64_t *hashes; /* [TRACE_HASHES_MAX] */
    uint64_t skipped; /* records without tokens */
    int first_skipped;
};

/* Opens `path`, or `text` when it is not NULL; finds the format by the first line unless it is
 * given. errors: DIAG_INPUT (not a trace, a missing column), DIAG_USAGE (unknown format). */
struct trace_source {
    const char *path, *format;
    const char *text; /* [n] in memory, `path` its name; NULL = the file */
    size_t n;
    bool lengths_only;
};
struct trace_file *trace_file_open(struct arena *a, const struct trace_source *from,
                                   struct diag *d);

/* The next record with tokens, as it stands in the file; false at the end or with an error
 * (*failed). `out->hashes` is valid until the next call. */
bool trace_file_next(struct trace_file *t, struct request *out, bool *failed);
bool trace_file_rewind(struct trace_file *t);
void trace_file_close(struct trace_file *t); /* NULL is fine */

/* --- the two shapes: one record from the line that `t->lines` holds ------------------------
 */

/* The header; false with the missing columns named. */
bool trace_csv_header(struct trace_file *t);
/* Whether the line is a header with all columns that are needed; no messages. */
bool trace_csv_fits(const struct trace_format *f, const struct lines *l, bool lengths_only);
bool trace_csv_row(struct trace_file *t, struct request *out);

bool trace_json_fits(const struct trace_format *f, const struct lines *l, bool lengths_only);
bool trace_json_row(struct trace_file *t, struct request *out);

/* Stores a value that starts at `at`; returns where it ends, NULL with a message. */
const char *trace_value(struct trace_file *t, enum trace_what what, const char *at,
                        struct request *out);

#endif
