/* Where the report's figures come from: each with its formula, the numbers put in, and the
 * source of every input. Values are read from the report itself, so they cannot differ from
 * it; the numbers put in are worked out anew, so a formula that is out of step shows
 * (tests/unit/explain.c evaluates them). */
#ifndef KVBUDGET_PLANNER_PLAN_EXPLAIN_H
#define KVBUDGET_PLANNER_PLAN_EXPLAIN_H

#include "planner/plan/report.h"

/* kvbudget.explain/1: an entry a figure, in the order of the report; lists of numbers are
 * one entry. `path` NULL or "": all; else only that path and what is below it. A path
 * without figures is a DIAG_USAGE with the nearest, and NULL. The caller frees the tree with
 * cJSON_Delete. */
cJSON *explain_json(struct arena *a, const struct report_in *in, const char *path,
                    struct diag *d);

/* The entries of such a tree for people. */
void explain_text(struct arena *a, const cJSON *tree, FILE *out);

#endif
