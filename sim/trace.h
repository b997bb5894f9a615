/* Requests from a file or from distributions, one after another in order of arrival. Readers
 * stream: memory does not depend on the length of the trace, a line has a longest length, and a
 * bad record is a DIAG_INPUT with file:line:col. A format is one file of sim/trace/. */
#ifndef KVBUDGET_SIM_TRACE_H
#define KVBUDGET_SIM_TRACE_H

#include "planner/base/arena.h"
#include "planner/base/diag.h"
#include "sim/request.h"

enum { TRACE_LINE_MAX = 1 << 20, TRACE_HASHES_MAX = 1 << 16 };

/* What a trace is scaled by; 1 leaves it as it is. Lengths are rounded to the nearest token, at
 * least 1; scaled prompts lose or repeat nothing of their hashes but the blocks past their end.
 */
struct trace_scale {
    double rate;           /* arrivals are this much denser */
    double prompt, output; /* lengths */
    uint64_t limit;        /* at most so many requests; 0 = all */
};

struct trace;
struct trace_format; /* sim/trace/format.h */

/* Opens a file ("-" = stdin, which cannot be rewound). `format` NULL: by the first line. */
struct trace *trace_open(struct arena *a, const char *path, const char *format,
                         const struct trace_scale *scale, struct diag *d);
/* The same from memory; `text` stays the caller's and must outlive the trace. */
struct trace *trace_of_text(struct arena *a, const char *text, size_t n, const char *format,
                            const struct trace_scale *scale, struct diag *d);

/* Requests from distributions: `arrivals` as "poisson:RATE", "gamma:RATE,CV",
 * "burst:RATE,SIZE", "uniform:RATE" (requests/s); `lengths` as "PROMPT,OUTPUT" with each of
 * them N, "uniform:A-B", "lognormal:MEAN,CV", or "trace:FILE" (lengths sampled from a trace);
 * NULL = `prompt`, `output`. Deterministic for a seed. `count` requests. errors: DIAG_USAGE,
 * and DIAG_INPUT for what is wrong with FILE. */
struct arrivals {
    const char *process, *lengths;
    uint64_t prompt, output, count, seed;
};
struct trace *trace_synthetic(struct arena *a, const struct arrivals *in,
                              const struct trace_scale *scale, struct diag *d);

/* The next request; false at the end, or with an error recorded. */
bool trace_next(struct trace *t, struct request *out);
/* From the start again, with another scale of the rate (for --find-rate): the same requests,
 * closer or wider apart. False with the reason recorded. */
bool trace_rewind(struct trace *t, double rate);
/* The position in bytes and the whole size, for a progress bar (0 = not known). */
uint64_t trace_read_bytes(const struct trace *t, uint64_t *total);
uint64_t trace_skipped(const struct trace *t); /* records without tokens, left out so far */
uint64_t trace_blocks(const struct trace *t);  /* hashes of the requests handed out */
bool trace_hashed(const struct trace *t);      /* whether requests say what they share */
double trace_last_arrival_s(const struct trace *t); /* of the request handed out last */
const struct trace_format *trace_format(const struct trace *t); /* NULL = synthetic */
const char *trace_name(const struct trace *t); /* "azure trace x.csv", "poisson:5" */
void trace_close(struct trace *t);             /* NULL is fine */

/* What can be read, for lists; `trace_format_at` is NULL past the end. */
const struct trace_format *trace_format_at(size_t i);
const char *trace_format_name(const struct trace_format *f);
const char *trace_format_summary(const struct trace_format *f);
const char *trace_format_source(const struct trace_format *f);

#endif
