/* The requests in flight: a slab of records, re-used when they end, and lists of them. Records
 * are known by their index, which stays valid while the slab grows. */
#ifndef KVBUDGET_SIM_SEQ_H
#define KVBUDGET_SIM_SEQ_H

#include "planner/base/arena.h"
#include "sim/request.h"

enum { SEQ_NONE = 0 };

enum seq_state {
    SEQ_WAITING,
    SEQ_PROMPT, /* running, its prompt is not whole yet */
    SEQ_DECODE,
    SEQ_HOST,    /* swapped out */
    SEQ_SENDING, /* prompt done on one replica, not yet admitted on another */
    SEQ_ENDED,   /* has all its tokens; its place and its pages go with the next look around */
    SEQ_GONE     /* the same, and they are gone already */
};

struct seq {
    struct request request; /* its hashes are a copy */
    enum seq_state state;
    uint32_t prev, next;  /* in its list */
    uint64_t admitted;    /* order among the running */
    uint64_t n, computed; /* tokens to compute before it decodes, and those done */
    /* While it decodes these are what was at base_clock (decode steps of its replica). */
    uint64_t base_clock, decoded, generated;
    uint64_t piece_clock; /* when its pieces (sim/curve.h) were last looked up */
    uint64_t noticed;     /* steps of its replica when the server had noticed it */
    uint32_t after;       /* SEQ_ENDED, SEQ_GONE: the next that has */
    double queued_s, scheduled_s, first_s;
    uint64_t cached_tokens;
    uint32_t preemptions;
    double due_s;      /* SEQ_SENDING: its cache has arrived */
    uint32_t home;     /* SEQ_SENDING: the replica that holds it */
    bool ran;          /* has been scheduled */
    bool whole;        /* waits with its cache computed elsewhere */
    uint32_t *entries; /* [n_entries]: of the prefix cache, for its first hashes; 0 = none */
    uint32_t n_entries;
    uint64_t shared_pages; /* pages that belong to entries */
    uint64_t own_hash;     /* of what it left in the cache when it was preempted; 0 = nothing */
    double host_bytes, link_bytes; /* SEQ_HOST: there, and over one GPU's link */
    uint64_t *hashes;              /* room for 2^room */
    uint32_t room;
};

struct seq_held { /* of a lane of the pool, at piece_clock */
    uint64_t tokens, slope;
};

enum { SEQ_ROOMS = 17 };

struct seqs { /* zeroed but for arena and n_lanes: empty */
    struct arena *arena;
    uint32_t n_lanes;
    struct seq *items;
    struct seq_held *held; /* [n][n_lanes] */
    uint32_t n, spare, in_flight;
    void *rooms[SEQ_ROOMS]; /* spare buffers for hashes by size */
};

/* A record for a request; copies its hashes. */
uint32_t seq_new(struct seqs *s, const struct request *r);
void seq_free(struct seqs *s, uint32_t id);
struct seq_held *seq_held(const struct seqs *s, uint32_t id);

struct seq_list {
    uint32_t head, tail;
    uint64_t n;
};
void seq_push_back(struct seqs *s, struct seq_list *l, uint32_t id);
void seq_push_front(struct seqs *s, struct seq_list *l, uint32_t id);
void seq_unlink(struct seqs *s, struct seq_list *l, uint32_t id);

#endif
