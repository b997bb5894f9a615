/* One model on one machine under every scheme: what it would store, how many sequences would
 * fit, how fast it would run, and what is published of its quality. Used by the command, the
 * search and the TUI. */
#ifndef KVBUDGET_PLANNER_PLAN_COMPARE_H
#define KVBUDGET_PLANNER_PLAN_COMPARE_H

#include "planner/plan/capacity.h"
#include "planner/plan/evidence.h"

enum compare_status {
    COMPARE_OK,
    COMPARE_REFUSED, /* not on this model, with these parameters or on this hardware: `reason`
                      */
    COMPARE_UNSUPPORTED /* no figure can be given for the scheme at all: `reason` */
};

struct compare_row {
    enum compare_status status;
    const char *reason;    /* NULL when figures follow */
    const char *name;      /* of the scheme; "as shipped", "as asked" */
    struct scheme_use use; /* scheme NULL in those two rows */
    const char *params;    /* "capacity 2048, window 8"; "" */
    bool own;              /* with the spec's own parameters */
    bool needs_training;   /* changes a shipped checkpoint */
    uint64_t token_bytes, after_prefill_bytes, prefill_peak_bytes;
    uint64_t batch, max_batch, max_context;
    enum limit batch_limit, context_limit;
    bool fits;                                /* the asked batch (1 when auto) */
    bool timed;                               /* the GPU's speed is known */
    double tokens_per_s, decode_s, prefill_s; /* of the batch */
    double prompt_s; /* prefill a sequence: what rows of other batches can be compared by */
    struct evidence_near near;
    const char *const *warnings; /* what planning this row said; NULL-terminated */
    bool on_front;               /* set by compare_front */
};

struct compare {
    struct compare_row
        *rows; /* [0] = the model as shipped; [1] = as asked, where that differs */
    size_t n;
};

/* Rows of the schemes named in `names` ("all" or NULL: every scheme and variant; else a list
 * with commas), each alone on the model as shipped, with its own parameters for comparison
 * or, where the spec names it, the spec's; unsupported ones last. An unknown name is a
 * DIAG_USAGE with the nearest. `p` is solved for its workload; nothing is read again. Published
 * figures are those of `evidence` (NULL: none), which must outlive the rows. */
bool compare_schemes(struct arena *a, const struct problem *p, const struct evidence *evidence,
                     const char *names, struct diag *d, struct compare *out)
    __attribute__((warn_unused_result));

/* Orders the rows after the first by a column ("scheme", "bytes_per_token",
 * "after_prefill_bytes", "max_batch", "max_context", "decode_tokens_per_second",
 * "prefill_seconds_per_sequence"): the best first, rows without figures last, equal ones as
 * they were. An unknown column is a DIAG_USAGE. */
bool compare_sort(struct compare *c, const char *column, struct diag *d)
    __attribute__((warn_unused_result));

/* What to make large; a minimum enters with its sign turned. */
typedef double (*compare_goal_fn)(const struct compare_row *r);
/* Marks the rows that no other row with figures beats: at least as good in every goal and
 * better in one. Returns how many. */
size_t compare_front(struct compare *c, const compare_goal_fn *goals, size_t n_goals);

/* kvbudget.compare/1. The caller frees it with cJSON_Delete. */
cJSON *compare_json(struct arena *a, const char *name, const struct problem *p,
                    const struct compare *c, const struct diag *d);

void compare_table(struct arena *a, const struct problem *p, const struct compare *c,
                   FILE *out);

#endif
