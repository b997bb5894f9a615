/* The last step of resolving a problem: weights and work counted, the layout folded for the
 * whole model and for every pipeline stage, and the engine's budget of each stage. */
#ifndef KVBUDGET_PLANNER_PLAN_PROBLEM_FOLD_H
#define KVBUDGET_PLANNER_PLAN_PROBLEM_FOLD_H

#include "planner/plan/problem.h"

/* Fills everything after the layout. `base` (NULL: none) is a folded problem of which *p is a
 * copy with other schemes or parallelism: what these do not change is not counted again, so
 * `base` must outlive *p. False when an engine refuses or sizes overflow. */
bool problem_fold(struct problem *p, const struct problem *base, struct diag *d)
    __attribute__((warn_unused_result));

#endif
