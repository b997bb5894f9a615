/* Capacity of engines that allocate their whole cache at start-up for a number of sequences of
 * a length (struct engine: reserve): whether a plan fits is one budget a stage, and the largest
 * batch is found by bisection. Pure, nothing allocates. */
#ifndef KVBUDGET_PLANNER_PLAN_RESERVE_H
#define KVBUDGET_PLANNER_PLAN_RESERVE_H

#include "planner/plan/capacity.h"

/* Whether `batch` sequences (over all replicas) get a slot that is long enough on every stage.
 */
bool reserve_fits(const struct problem *p, const struct workload *w, uint64_t batch);

/* The largest such batch, 0 = none, at most CAPACITY_MAX a replica; what stops one more, and
 * the stage with the least memory left. */
uint64_t reserve_max_batch(const struct problem *p, const struct workload *w, enum limit *why,
                           uint32_t *tightest);

/* What stops `batch` sequences of this workload; LIMIT_NONE when they fit. */
enum limit reserve_limit(const struct problem *p, const struct workload *w, uint64_t batch);

/* Bytes that one sequence more than `batch` lacks on the tightest stage; 0 when memory is not
 * what stops it. */
uint64_t reserve_short_bytes(const struct problem *p, const struct workload *w, uint64_t batch);

/* Sets every stage's budget to the batch asked for, or the largest when it is auto (at least
 * one sequence). */
void reserve_settle(struct problem *p);

#endif
