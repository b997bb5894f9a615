/* Composes the batch of the next step as the server does: one function for every policy
 * (sim/policy/policy.h) and for both ways of running time. */
#ifndef KVBUDGET_SIM_SCHEDULE_H
#define KVBUDGET_SIM_SCHEDULE_H

#include "sim/replica.h"

/* Fills r->seg with what the next step runs (chunks, whether decodes take part, whether later
 * arrivals can matter), preempting and admitting; pages of this step are taken. False when
 * nothing can run. Requests that could never be admitted end, rejected, at time_s.
 * source: vllm/v1/core/sched/scheduler.py (schedule), vllm 0.19; for steps of either prompts or
 * decodes vllm/core/scheduler.py (_schedule_default), vllm 0.6. */
bool schedule_compose(struct replica *r, double time_s);

/* How many steps the very same batch can run, each decode a token further and a single chunk
 * moved on: at least 1. */
uint64_t schedule_steps(struct replica *r);

#endif
