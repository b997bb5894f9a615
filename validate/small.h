/* A small twin of a problem: the same kinds of layers, heads, schemes and formats, in fewer
 * layers and narrower matrices, so that what is true of a model with billions of weights can be
 * counted one load at a time on the CPU build. The planner plans the twin as it plans any
 * model. */
#ifndef KVBUDGET_VALIDATE_SMALL_H
#define KVBUDGET_VALIDATE_SMALL_H

#include "planner/plan/problem.h"

/* Makes the twin in `a`; *p must outlive it. *what: in some words how it was cut ("cut to 4 of
 * 32 layers, 128 wide"). False when the schemes do not fit the twin. */
bool small_problem(struct arena *a, const struct problem *p, struct problem *out,
                   const char **what) __attribute__((warn_unused_result));

#endif
