/* What a sequence holds of its replica's pool: pages by lane, blocks shared through the prefix
 * cache. */
#ifndef KVBUDGET_SIM_HOLD_H
#define KVBUDGET_SIM_HOLD_H

#include "sim/replica.h"

/* What a sequence is to hold, by lane, and for how many steps it grows like this. */
struct hold {
    struct seq_held lanes[STEP_STAGES * CURVE_CLASSES];
    uint64_t steps;
};

/* With `computed` tokens of its prompt done, or with `decoded` tokens fed back after it. */
void hold_prompt(const struct replica *r, uint64_t n, uint64_t computed, struct hold *out);
void hold_decode(const struct replica *r, uint64_t n, uint64_t decoded, struct hold *out);

/* Raises units[] to what `h` takes of each stage after `steps` of its steps. */
void hold_sum(const struct replica *r, const struct hold *h, uint64_t steps, uint64_t units[]);
/* The most units a sequence of a prompt of n holds until `decoded` tokens are fed back. */
void hold_most(const struct replica *r, uint64_t n, uint64_t decoded, uint64_t units[]);

/* Units of each stage that `h` takes beyond what the sequence holds, `ahead` pages of its own
 * growth included where it grows; 0 where it is less. Cached pages it would share are not
 * known here. */
void hold_more(const struct replica *r, uint32_t id, const struct hold *h, uint64_t units[]);
/* Makes it so: takes or gives pages, and begins to grow. */
void hold_set(struct replica *r, uint32_t id, const struct hold *h);
/* It grows no more and keeps what it holds. */
void hold_freeze(struct replica *r, uint32_t id);
/* Gives everything back. `again`: it was preempted and will want its whole blocks again, those
 * no hash of the trace names too; they stay in the prefix cache for it. */
void hold_drop(struct replica *r, uint32_t id, bool again);
/* Units held of a stage. */
uint64_t hold_units(const struct replica *r, uint32_t id, uint32_t stage);

/* Tokens of its prompt that are cached, whole blocks, never the last token; *unused: blocks of
 * them that stand free in the queue. */
uint64_t hold_match(const struct replica *r, const struct seq *q, uint64_t *unused);
/* The same for a request that is not here yet. */
uint64_t hold_match_request(const struct replica *r, const struct request *q);
/* Shares the first `tokens` cached tokens; nothing else is held yet. */
void hold_share(struct replica *r, uint32_t id, uint64_t tokens);
/* Makes the whole blocks known whose tokens are computed up to `computed`, from `before`. */
void hold_publish(struct replica *r, uint32_t id, uint64_t before, uint64_t computed);

#endif
