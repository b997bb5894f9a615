/* One server: its queue, what runs, its memory, and the segment of equal steps it is in. A
 * segment is composed (sim/schedule.h), lasts until something but lengths changes, and is
 * applied as a whole when it ends; until then an arrival that matters can shorten it. Nothing
 * else happens to the batch meanwhile, so the state shown is that of the last event.
 *
 * A server that composes ahead chooses the batch of a step when the step before it begins. What
 * happens in that step, requests that arrive and sequences that end, counts one step later: it
 * is kept apart (late, ended) while the next step is composed. When nothing can run like that,
 * the server has become idle and looks around at once. */
#ifndef KVBUDGET_SIM_REPLICA_H
#define KVBUDGET_SIM_REPLICA_H

#include "sim/heap.h"
#include "sim/seq.h"
#include "sim/sim.h"

struct segment {
    double run_s; /* its first step begins, after copies to and from the host */
    double end_s;
    uint64_t steps;
    bool decodes; /* the running decodes are part of it */
    bool once;    /* one step: the next is composed anew in any case */
    bool closed;  /* whatever arrives meanwhile cannot be admitted before it ends */
    struct step_line line;
    struct step_batch *batch;     /* which of the two below */
    uint32_t chunks[STEP_CHUNKS]; /* sequences of batch->chunks */
};

struct replica {
    uint32_t index;
    const struct problem *problem;
    const struct step_model *steps;
    const struct policy *policy;
    const struct sim_sink *sink;
    struct seqs *seqs; /* shared by all replicas */
    struct sim_pool pool;
    uint64_t max_seqs, max_tokens, max_len; /* running; tokens a step; tokens a sequence */
    bool every_step, check;
    bool ahead; /* composes the batch of a step when the one before it begins */
    bool sends; /* prompts only: hands sequences on when their prompt is done */
    void *owner;
    void (*sent)(void *owner, struct replica *r, uint32_t id); /* with `sends` */
    void (*freed)(void *owner, uint32_t id); /* a sequence held elsewhere has been admitted */

    struct seq_list waiting, running, host; /* running: in order of admission */
    struct seq_list late;               /* arrived, and the scheduler has not looked since */
    uint32_t ended, last_ended;         /* a chain of those with all their tokens, likewise */
    uint64_t ended_places, sent_places; /* they and those sent on still have so many */
    bool mid;                           /* a segment ends at this very moment */
    double composed_s;                  /* when what follows it is composed ahead */
    uint32_t partial; /* the running sequence whose prompt is not whole after this step */
    uint64_t admissions, decoding, preempted; /* preempted: by the step being composed */
    uint64_t reserved_units[STEP_STAGES];     /* policy->reserve */
    uint64_t lent;                            /* SEQ_SENDING sequences that hold pages here */
    double swap_bytes, host_used_bytes, host_bytes; /* swap_bytes: moved by this step */
    double estimate; /* free for the policy, as the next: 0 at first */
    uint64_t seen;
    struct step_batch decodes, prompts; /* sums of all decodes; nothing but chunks */
    uint32_t n_reads[STEP_STAGES];
    struct heap finish, bend; /* by decode clock: last tokens; ends of curve pieces */

    bool busy;
    struct segment seg;
    struct sim_now now;
    double late_s;   /* of the arrivals since now.time_s: how long after it, summed up */
    uint64_t late_n; /* and how many */
};

/* The pool and the limits. errors: as sim_new. */
bool replica_init(struct replica *r, struct arena *a, const struct sim_options *opt,
                  struct diag *d);

/* Whether the replica could run a request to its end, alone. */
bool replica_takes(struct replica *r, const struct request *q);
/* A request has reached the queue at time_s. If the current segment has to end sooner for it,
 * it is shortened. */
void replica_arrive(struct replica *r, uint32_t id, double time_s);
/* Ends the segment at the first step that ends at time_s or later: pages have become free. */
void replica_shorten(struct replica *r, double time_s);
/* Composes and starts the next segment at time_s; false when there is nothing to do. */
bool replica_start(struct replica *r, double time_s);
/* Applies the segment; the replica is not busy then. */
void replica_commit(struct replica *r);
/* Applies the whole steps that have ended by time_s, so that the state is that of this time. */
void replica_sync(struct replica *r, double time_s);

/* --- for the scheduler and policies ------------------------------------------------------ */

/* Output tokens produced so far. */
uint64_t replica_generated(const struct replica *r, const struct seq *q);
/* The scheduler sees who has arrived by the time the next step is composed: ahead, those of the
 * last step have not. */
void replica_notice(struct replica *r, bool ahead);
/* Those that have ended give back their places and pages. */
void replica_release(struct replica *r);
/* Takes a running sequence back into the queue: all is to be recomputed. One that has ended
 * only loses its place and its pages. */
void replica_preempt(struct replica *r, uint32_t id);
/* With policy->reserve: sets aside what a sequence holds at its highest, false where that does
 * not fit with all the others; and lets it go when it is gone. Without: true. */
bool replica_reserve(struct replica *r, const struct seq *q);
void replica_unreserve(struct replica *r, const struct seq *q);
/* Ends one that nothing can be done for. */
void replica_reject(struct replica *r, uint32_t id, double time_s);
/* A sequence with its whole cache begins to decode (again); it is in no list. */
void replica_decode(struct replica *r, uint32_t id);
/* A running sequence is taken out of the decodes; its pages stay. */
void replica_pause(struct replica *r, uint32_t id);

/* Recounts and asserts: pages, lists, times. */
void replica_check(const struct replica *r);

#endif
