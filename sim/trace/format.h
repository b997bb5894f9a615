/* A trace format is one file of sim/trace/: names and units, as data. CSV formats name their
 * columns as they stand in the header (in any order, further columns are ignored), JSON lines
 * their keys. Reading itself is sim/trace_file.c's. */
#ifndef KVBUDGET_SIM_TRACE_FORMAT_H
#define KVBUDGET_SIM_TRACE_FORMAT_H

#include "sim/line.h"

enum trace_what { TRACE_ARRIVAL, TRACE_PROMPT, TRACE_OUTPUT, TRACE_HASHES, TRACE_WHATS };

/* When the requests of a file arrive, where that is not a number. */
struct trace_clock {
    bool started;
    int64_t first; /* in the format's own ticks */
};

struct trace_format {
    const char *name, *summary, *source;
    const char *note; /* said of every such trace; NULL = nothing */
    const char *zero; /* what a record without output tokens is; NULL = not said */
    bool json;
    const char *names[TRACE_WHATS]; /* columns or keys; HASHES may be NULL */
    double per_s;                   /* units of the arrival in a second */
    uint32_t hash_tokens;           /* tokens a hash stands for */
    /* Reads an arrival that is no number, in seconds since the first; returns where it ends,
     * NULL with a message. NULL: a number. */
    const char *(*arrival)(struct trace_clock *clock, const struct lines *l, const char *at,
                           double *s);
};

const struct trace_format *trace_format_at(size_t i); /* NULL past the end, by name */
/* Unknown: DIAG_USAGE that lists what is known; NULL. */
const struct trace_format *trace_format_find(const char *name, struct diag *d);

#endif
