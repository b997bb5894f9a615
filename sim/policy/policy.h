/* A scheduling policy is a file with one struct: facts of how a server batches, and functions
 * where it chooses. The batch itself is composed by one function for all of them
 * (sim/schedule.h). */
#ifndef KVBUDGET_SIM_POLICY_POLICY_H
#define KVBUDGET_SIM_POLICY_POLICY_H

#include "sim/replica.h"

struct policy {
    const char *name, *summary;
    const char *source; /* public repository, path and version */
    /* Prompts are cut to what a step's token budget leaves; false = whole prompts. */
    bool chunked;
    /* Prompts run in the same step as decodes, after them; false = a step is either prompts or
     * decodes, prompts first. */
    bool mixed;
    /* A sequence is admitted only if everything admitted can run to its end: none is ever
     * preempted. */
    bool reserve;
    /* New requests only when nothing runs, all of them in one step whatever its tokens. */
    bool batch;
    /* On shortage the last sequence moves to host memory while there is room. */
    bool swap;
    /* Preempted sequences go to the end of the queue, not to its front. */
    bool back_of_queue;
    double watermark; /* share of the pool that admission leaves free */
    /* The next of r->waiting to try (not empty); NULL = its head. */
    uint32_t (*next)(struct replica *r);
    /* Whether it may be admitted now, besides what its first chunk takes; NULL = yes. `hit`
     * tokens are cached. */
    bool (*admits)(struct replica *r, uint32_t id, uint64_t hit);
    /* Makes room for a decode step by preempting (replica_preempt); NULL = the last running. */
    void (*retract)(struct replica *r);
    /* At most so many of `steps` steps until the answer of `admits` may change; NULL = it stays
     * no while only lengths change. */
    uint64_t (*limit)(struct replica *r, uint64_t steps);
    /* After `steps` decode steps, or when the replica has become idle (0); may be NULL. */
    void (*ran)(struct replica *r, uint64_t steps);
};

#endif
