/* Slots instead of a pool: the engine says what a stage holds for so many sequences of so many
 * tokens; everything here is asking it. */
#include "planner/plan/reserve.h"

/* Sequences of one replica. */
static uint64_t replica_of(const struct problem *p, uint64_t batch)
{
    return ck_ceil_div(batch, p->parallel.dp);
}

static uint64_t tokens_of(const struct workload *w)
{
    return w->prompt + w->output;
}

enum limit reserve_limit(const struct problem *p, const struct workload *w, uint64_t batch)
{
    uint64_t n = replica_of(p, batch);
    struct budget b;

    if (p->settings.max_seqs && n > p->settings.max_seqs)
        return LIMIT_MAX_SEQS;
    for (uint32_t i = 0; i < p->n_stages; i++) {
        problem_reserve(p, i, n, tokens_of(w), &b);
        if (b.weights_bytes >= b.usable_bytes)
            return LIMIT_WEIGHTS;
        if (b.short_bytes)
            return LIMIT_MEMORY;
        if (b.slots < n)
            return b.slot_tokens < tokens_of(w) ? LIMIT_MODEL_LEN : LIMIT_MAX_SEQS;
    }
    return LIMIT_NONE;
}

bool reserve_fits(const struct problem *p, const struct workload *w, uint64_t batch)
{
    return reserve_limit(p, w, batch) == LIMIT_NONE;
}

/* The largest number of sequences a replica that fits, one replica alone. */
static uint64_t most_of_replica(const struct problem *p, const struct workload *w)
{
    uint64_t dp = p->parallel.dp, lo = 0, hi = 1;

    while (hi < CAPACITY_MAX && reserve_fits(p, w, hi * dp)) {
        lo = hi;
        hi *= 2;
    }
    while (hi - lo > 1) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (reserve_fits(p, w, mid * dp))
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* The stage with the least room beside its terms. */
static uint32_t tightest_of(const struct problem *p, const struct workload *w, uint64_t batch)
{
    uint32_t tightest = 0;
    uint64_t least = UINT64_MAX;
    struct budget b;

    for (uint32_t i = 0; i < p->n_stages; i++) {
        problem_reserve(p, i, u64_max(replica_of(p, batch), 1), tokens_of(w), &b);
        if (budget_left_bytes(&b) < least) {
            least = budget_left_bytes(&b);
            tightest = i;
        }
    }
    return tightest;
}

uint64_t reserve_max_batch(const struct problem *p, const struct workload *w, enum limit *why,
                           uint32_t *tightest)
{
    uint64_t most = most_of_replica(p, w) * p->parallel.dp;

    *why = reserve_limit(p, w, most + 1);
    *tightest = tightest_of(p, w, most);
    return most;
}

uint64_t reserve_short_bytes(const struct problem *p, const struct workload *w, uint64_t batch)
{
    uint64_t most = 0;
    struct budget b;

    for (uint32_t i = 0; i < p->n_stages; i++) {
        problem_reserve(p, i, replica_of(p, batch) + 1, tokens_of(w), &b);
        if (b.short_bytes != UINT64_MAX)
            most = u64_max(most, b.short_bytes);
    }
    return most;
}

void reserve_settle(struct problem *p)
{
    uint64_t n = replica_of(p, p->workload.batch);

    if (!n)
        n = u64_max(most_of_replica(p, &p->workload), 1);
    for (uint32_t i = 0; i < p->n_stages; i++)
        problem_reserve(p, i, n, tokens_of(&p->workload), &p->stages[i].budget);
}
