/* SGLang: prompts, cut to the chunk size, run before decodes; of the queue the longest cached
 * prefix first (in order of arrival where it is longer than 128); a request is admitted when
 * its prompt and output and a share of what the running may still produce fit. The share
 * falls with every decode step and is set anew when sequences had to be retracted: those with
 * the fewest tokens produced go back to the queue until 20 steps fit. The trace's output
 * lengths stand for max_new_tokens. */
#include "sim/hold.h"
#include "sim/policy/policy.h"

/* source: sgl-project/sglang python/sglang/srt/environ.py and server_args.py
 * (SGLANG_INIT_NEW_TOKEN_RATIO, _MIN_NEW_TOKEN_RATIO_FACTOR, _NEW_TOKEN_RATIO_DECAY_STEPS,
 * _RETRACT_DECODE_STEPS, _CLIP_MAX_NEW_TOKENS_ESTIMATION), schedule_policy.py */
#define RATIO_FIRST 0.7
#define RATIO_LEAST (0.7 * 0.14)
#define RATIO_STEPS 600
enum { RETRACT_STEPS = 20, CLIP_TOKENS = 4096, SORTED_QUEUE = 128 };

/* r->estimate: the share less RATIO_FIRST, so that a new replica starts right. */
static double ratio_of(const struct replica *r, uint64_t steps)
{
    double fall = (RATIO_FIRST - RATIO_LEAST) / RATIO_STEPS * (double)steps;
    double ratio = RATIO_FIRST + r->estimate - fall;

    return ratio > RATIO_LEAST ? ratio : RATIO_LEAST;
}

static void ran(struct replica *r, uint64_t steps)
{
    r->estimate = steps ? ratio_of(r, steps) - RATIO_FIRST : 0;
}

/* The longest cached prefix, the first among equals. r->seen: blocks evicted until then. */
static uint32_t next(struct replica *r)
{
    uint32_t best = r->waiting.head;
    uint64_t most = 0;

    r->seen = r->pool.prefix.evicted;
    if (!r->pool.caches || r->waiting.n > SORTED_QUEUE)
        return best;
    for (uint32_t id = best; id; id = r->seqs->items[id].next) {
        uint64_t unused, match = hold_match(r, &r->seqs->items[id], &unused);
        if (match <= most)
            continue;
        most = match;
        best = id;
    }
    return best;
}

/* What the running may still produce, as the scheduler counts it. */
struct promise {
    uint64_t sure;      /* prompts under way, and their outputs */
    uint64_t likely;    /* outputs of the decoding, each clipped */
    uint64_t shrinking; /* of the decoding, those below the clip: a token less a step */
    uint64_t steps;     /* so long no other drops below it */
};

static struct promise promise_of(const struct replica *r)
{
    struct promise p = {.steps = UINT64_MAX};

    for (uint32_t id = r->running.head; id; id = r->seqs->items[id].next) {
        const struct seq *q = &r->seqs->items[id];
        uint64_t left = q->request.output_tokens - replica_generated(r, q);
        if (q->state == SEQ_ENDED)
            continue;
        if (q->state != SEQ_DECODE)
            p.sure += q->n - q->computed + left;
        else
            p.likely += u64_min(left, CLIP_TOKENS);
        if (q->state == SEQ_DECODE && left <= CLIP_TOKENS)
            p.shrinking++;
        else if (q->state == SEQ_DECODE)
            p.steps = u64_min(p.steps, left - CLIP_TOKENS);
    }
    return p;
}

/* A request against the free units of every stage, `steps` decode steps from now. */
struct want {
    uint64_t units[STEP_STAGES], tokens;
    struct promise promise;
};

static struct want want_of(struct replica *r, const struct seq *q)
{
    uint64_t out = u64_min(q->request.output_tokens - q->generated, CLIP_TOKENS);
    struct want w = {.tokens = q->n + out, .promise = promise_of(r)};

    hold_most(r, q->n, out, w.units);
    return w;
}

static bool room_for(const struct replica *r, const struct want *w, uint64_t steps)
{
    double promised =
        (double)w->promise.sure +
        (double)(w->promise.likely - steps * w->promise.shrinking) * ratio_of(r, steps);

    for (uint32_t s = 0; s < r->pool.n_stages; s++) {
        double free_units = (double)r->pool.free_units[s];
        double token_units = (double)w->units[s] / (double)w->tokens;
        for (uint32_t i = 0; i < r->pool.n_lanes; i++)
            if (r->pool.lanes[i].stage == s)
                free_units -=
                    (double)(sim_pool_growth(&r->pool, i, steps) * r->pool.lanes[i].page_units);
        if ((double)w->units[s] + promised * token_units >= free_units)
            return false;
    }
    return true;
}

static bool admits(struct replica *r, uint32_t id, uint64_t hit)
{
    struct want w;

    (void)hit;
    if (!r->running.n)
        return true;
    w = want_of(r, &r->seqs->items[id]);
    return room_for(r, &w, 0);
}

/* The most steps that evict no cached block: each one may change the order of the queue. */
static uint64_t until_eviction(const struct replica *r, uint64_t steps)
{
    uint64_t blank = prefix_blank(&r->pool.prefix), least = 1;

    while (steps - least > 0) {
        uint64_t middle = steps - (steps - least) / 2;
        if (sim_pool_growth(&r->pool, 0, middle) <= blank)
            least = middle;
        else
            steps = middle - 1;
    }
    return least;
}

/* Decode steps until the next of the queue may be admitted. */
static uint64_t limit(struct replica *r, uint64_t steps)
{
    struct want w;

    if (!r->seg.decodes || r->running.n >= r->max_seqs)
        return steps;
    if (r->pool.caches) {
        if (r->seen != r->pool.prefix.evicted)
            return 1;
        steps = until_eviction(r, steps);
    }
    w = want_of(r, &r->seqs->items[next(r)]);
    steps = u64_min(steps, w.promise.steps);
    for (uint64_t i = 1; i < steps; i++)
        if (room_for(r, &w, i))
            return i;
    return steps;
}

/* The decoding sequence that has produced least; among equals the longest prompt. */
static uint32_t least_done(const struct replica *r)
{
    uint32_t best = SEQ_NONE;

    for (uint32_t id = r->running.head; id; id = r->seqs->items[id].next) {
        const struct seq *q = &r->seqs->items[id], *b = &r->seqs->items[best];
        uint64_t done = replica_generated(r, q), least = best ? replica_generated(r, b) : 0;
        if (q->state != SEQ_DECODE)
            continue;
        if (!best || done < least ||
            (done == least && q->request.prompt_tokens >= b->request.prompt_tokens))
            best = id;
    }
    return best;
}

static void retract(struct replica *r)
{
    double produced = 0, total = 1, ratio;

    do {
        replica_preempt(r, least_done(r));
    } while (r->decoding > 1 && !sim_pool_lasts(&r->pool, RETRACT_STEPS, NULL));
    for (uint32_t id = r->running.head; id; id = r->seqs->items[id].next) {
        const struct seq *q = &r->seqs->items[id];
        produced += (double)replica_generated(r, q);
        total += (double)q->request.output_tokens;
    }
    ratio = (produced + RETRACT_STEPS * (double)r->decoding) / total;
    r->estimate = (ratio < 1 ? ratio : 1) - RATIO_FIRST;
}

const struct policy policy_sglang = {
    .name = "sglang",
    .summary = "longest cached prefix first, prompts before decodes, retraction on shortage",
    .source = "sgl-project/sglang python/sglang/srt/managers/schedule_policy.py 0.5",
    .chunked = true,
    .back_of_queue = true,
    .next = next,
    .admits = admits,
    .limit = limit,
    .retract = retract,
    .ran = ran,
};
