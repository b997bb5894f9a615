/* The report: a solved plan as JSON (interface: kvbudget.report/1), as a table, and as one
 * sentence. The table is made from the JSON, so the two cannot differ. */
#ifndef KVBUDGET_PLANNER_PLAN_REPORT_H
#define KVBUDGET_PLANNER_PLAN_REPORT_H

#include "planner/plan/capacity.h"
#include "planner/plan/json.h"

/* What a report is made from. */
struct report_in {
    const char *name; /* of the spec */
    const struct problem *problem;
    const struct plan *plan;
    const struct diag *diag;         /* messages of this spec alone */
    const struct profiles *profiles; /* for the evidence; NULL = none is given */
};

/* Whether every byte count of the plan fits 64 bits; where not, there is no report
 * (DIAG_INPUT). */
bool report_countable(const struct report_in *in, struct diag *d)
    __attribute__((warn_unused_result));

/* The tree of kvbudget.report/1 (or kvbudget.check/1, the verdict alone): every path of it,
 * keys in a fixed order. The caller frees it with cJSON_Delete. units: as the keys say;
 * bytes exact; source: planner/plan/capacity.h for each figure. */
cJSON *report_json(const struct report_in *in);
cJSON *report_check_json(const struct report_in *in);

/* "Fits: 37 sequences of 2,560 tokens; memory-limited; one more needs 0.40 GiB". */
const char *report_sentence(struct arena *a, const struct problem *p, const struct plan *plan);

/* Bytes of the pool that are missing for one sequence more than fit on each replica, on the
 * tightest stage; 0 when memory is not what limits. */
uint64_t report_one_more_bytes(const struct problem *p, const struct plan *plan);

struct report_column {
    const char *name; /* of the spec */
    const char *sentence;
    const cJSON *json;
};
struct report_style {
    bool color;
    bool verbose;     /* by op too */
    const char *next; /* the command to try next; NULL = none */
};

/* One column a report; rows in which columns differ are marked with `*`. */
void report_table(struct arena *a, const struct report_column *columns, size_t n,
                  const struct report_style *style, FILE *out);

#endif
