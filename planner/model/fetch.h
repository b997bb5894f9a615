/* Parts of files over HTTP, through libcurl opened on first use: no program that does not
 * fetch needs it, and building needs no header of it. */
#ifndef KVBUDGET_PLANNER_MODEL_FETCH_H
#define KVBUDGET_PLANNER_MODEL_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "planner/base/diag.h"

struct fetch;

/* A connection that is kept between requests. Without libcurl: a DIAG_INPUT that says which
 * package brings it. `library` NULL: the usual names. */
bool fetch_open(struct arena *a, const char *library, struct diag *d, struct fetch **out)
    __attribute__((warn_unused_result));
void fetch_close(struct fetch *f);

struct fetch_ask {
    const char *url;   /* http or https */
    const char *token; /* sent as a bearer token to this host only; NULL = none */
    uint64_t from;
    size_t n; /* bytes wanted, from `from` on */
};

struct fetch_reply {
    int status;           /* of the last answer, after redirects */
    bool ranged;          /* it is the range that was asked for, else the file from its start */
    uint64_t from;        /* of a ranged answer */
    uint64_t total_bytes; /* of the whole file; UINT64_MAX = not said */
    size_t n;             /* bytes stored, at most those asked for */
};

/* One request; a server that answers with more than was asked for is cut off. True with any
 * HTTP status; false after a DIAG_INPUT when there was no answer. */
bool fetch_range(struct fetch *f, const struct fetch_ask *ask, void *buf, struct diag *d,
                 struct fetch_reply *out) __attribute__((warn_unused_result));

#endif
