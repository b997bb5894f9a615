/* The order inside a step. vLLM V1: what runs comes first, in order of admission, decodes with
 * one token each and the prompt that was cut last; then the queue, while tokens, places and
 * pages last. As every prompt in the queue waits until the one before it is whole, at most one
 * running prompt is cut, and it is the last of the running. */
#include "sim/schedule.h"

#include <string.h>

#include "sim/hold.h"
#include "sim/policy/policy.h"

/* --- room for the decodes ------------------------------------------------------------- */

/* Bytes a sequence has on one GPU, the most over the stages (their links work together), and
 * on all of them. */
static double gpu_bytes(const struct replica *r, uint32_t id, double *all)
{
    const struct parallel *p = &r->problem->parallel;
    double most = 0;

    *all = 0;
    for (uint32_t s = 0; s < r->pool.n_stages; s++) {
        double b = (double)hold_units(r, id, s) * (double)r->pool.stores[s].unit_bytes;
        most = b > most ? b : most;
        *all += b * p->tp * p->cp;
    }
    return most;
}

/* Moves a decoding sequence to host memory; false when it has no room there. */
static bool swap_out(struct replica *r, uint32_t id)
{
    struct seq *q = &r->seqs->items[id];
    double all, most = gpu_bytes(r, id, &all);

    if (q->state != SEQ_DECODE || r->host_used_bytes + all > r->host_bytes)
        return false;
    q->host_bytes = all;
    q->link_bytes = most;
    r->host_used_bytes += all;
    r->swap_bytes += most;
    replica_pause(r, id);
    seq_unlink(r->seqs, &r->running, id);
    hold_drop(r, id, false);
    q->state = SEQ_HOST;
    q->preemptions++;
    r->preempted++;
    r->now.preemptions++;
    seq_push_back(r->seqs, &r->host, id);
    return true;
}

static void make_room(struct replica *r)
{
    while (r->decoding && !sim_pool_lasts(&r->pool, 1, NULL)) {
        if (r->policy->retract)
            r->policy->retract(r);
        else if (!r->policy->swap || !swap_out(r, r->running.tail))
            replica_preempt(r, r->running.tail);
    }
}

/* --- chunks --------------------------------------------------------------------------- */

static bool has_room(const struct replica *r, const uint64_t need[], double watermark)
{
    for (uint32_t s = 0; s < r->pool.n_stages; s++) {
        int64_t spare = (int64_t)(watermark * (double)r->pool.units[s]);
        if ((int64_t)need[s] > r->pool.free_units[s] - spare)
            return false;
    }
    return true;
}

static void add_chunk(struct replica *r, uint32_t id, uint64_t tokens, const struct hold *h)
{
    struct seq *q = &r->seqs->items[id];
    struct step_batch *b = r->seg.batch;

    hold_set(r, id, h);
    hold_publish(r, id, q->computed, q->computed + tokens);
    r->seg.chunks[b->n_chunks] = id;
    b->chunks[b->n_chunks++] = (struct step_chunk){.prompt = q->n,
                                                   .offset = q->computed,
                                                   .tokens = tokens,
                                                   .last = q->computed + tokens == q->n};
    r->partial = q->computed + tokens < q->n ? id : SEQ_NONE;
}

/* The running prompt that was cut goes on. Without pages for it, it is the last of the running
 * and gives up itself. */
static void run_partial(struct replica *r, uint64_t *budget)
{
    uint32_t id = r->partial;
    struct seq *q = &r->seqs->items[id];
    uint64_t need[STEP_STAGES], tokens;
    struct hold h;

    if (!id || !*budget)
        return;
    tokens = u64_min(q->n - q->computed, *budget);
    hold_prompt(r, q->n, q->computed + tokens, &h);
    hold_more(r, id, &h, need);
    if (!has_room(r, need, 0)) {
        replica_preempt(r, id);
        return;
    }
    *budget -= tokens;
    add_chunk(r, id, tokens, &h);
}

/* --- the queue ------------------------------------------------------------------------- */

static void enter(struct replica *r, uint32_t id, double time_s)
{
    struct seq *q = &r->seqs->items[id];

    seq_unlink(r->seqs, &r->waiting, id);
    seq_push_back(r->seqs, &r->running, id);
    q->admitted = ++r->admissions;
    if (!q->ran && !q->whole)
        q->scheduled_s = time_s;
}

/* Units of a sequence that comes with its cache, its next step included. */
static void need_whole(const struct replica *r, const struct seq *q, uint64_t need[])
{
    struct hold h;

    memset(need, 0, STEP_STAGES * sizeof *need);
    hold_decode(r, q->n, q->decoded, &h);
    for (uint32_t i = 0; i < r->pool.n_lanes; i++) {
        const struct pool_lane *l = &r->pool.lanes[i];
        uint64_t tokens = h.lanes[i].tokens + h.lanes[i].slope;
        need[l->stage] += sim_pool_pages(l, tokens) * l->page_units;
    }
}

/* Its cache comes from another replica: it decodes in this very step. */
static bool admit_whole(struct replica *r, uint32_t id, double time_s)
{
    struct seq *q = &r->seqs->items[id];
    uint64_t need[STEP_STAGES];

    need_whole(r, q, need);
    if (!has_room(r, need, r->policy->watermark) || !replica_reserve(r, q))
        return false;
    r->freed(r->owner, id);
    enter(r, id, time_s);
    q->whole = false;
    q->ran = true;
    replica_decode(r, id);
    return true;
}

static void first_run(struct replica *r, struct seq *q, uint64_t hit)
{
    q->computed = hit;
    q->state = SEQ_PROMPT;
    if (q->ran)
        return;
    q->ran = true;
    q->cached_tokens = hit;
    r->now.cached_tokens += hit;
    r->now.prompt_tokens += q->request.prompt_tokens;
}

/* Tokens of a prompt that a step with this budget runs; 0 = none of it. */
static uint64_t chunk_of(const struct replica *r, const struct seq *q, uint64_t hit,
                         uint64_t budget)
{
    bool whole = !r->policy->chunked || r->steps->whole_prompts;
    uint64_t left = q->n - hit;

    if (!whole)
        return u64_min(left, budget);
    /* A prompt longer than any step's tokens runs with no other. (Its length decides, not what
     * is left of it: with every cached block it loses it must come later, not sooner.) */
    if (left > budget && (r->seg.batch->n_chunks || q->n <= r->max_tokens))
        return 0;
    return left;
}

static bool admit(struct replica *r, uint32_t id, uint64_t *budget, double time_s)
{
    struct seq *q = &r->seqs->items[id];
    uint64_t need[STEP_STAGES], unused, hit, tokens;
    const struct pool_lane *l = &r->pool.lanes[0];
    struct hold h;

    if (q->whole)
        return admit_whole(r, id, time_s);
    hit = hold_match(r, q, &unused);
    tokens = chunk_of(r, q, hit, *budget);
    if (!tokens || (r->policy->admits && !r->policy->admits(r, id, hit)))
        return false;
    hold_prompt(r, q->n, hit + tokens, &h);
    hold_more(r, id, &h, need);
    if (hit)
        need[0] = need[0] + unused * l->page_units - hit / l->block_tokens * l->page_units;
    if (!has_room(r, need, r->policy->watermark) || !replica_reserve(r, q))
        return false;
    enter(r, id, time_s);
    hold_share(r, id, hit);
    first_run(r, q, hit);
    add_chunk(r, id, tokens, &h);
    *budget -= u64_min(*budget, tokens);
    return true;
}

static bool has_place(const struct replica *r)
{
    return r->running.n + r->sent_places < r->max_seqs;
}

static void admit_waiting(struct replica *r, uint64_t *budget, double time_s)
{
    while (r->waiting.n && *budget && has_place(r) && r->seg.batch->n_chunks < STEP_CHUNKS) {
        uint32_t id = r->policy->next ? r->policy->next(r) : r->waiting.head;
        if (!admit(r, id, budget, time_s))
            return;
    }
}

/* Sequences come back from the host in the order they went, and decode in this step. */
static void swap_in(struct replica *r)
{
    while (r->host.n && !r->preempted && has_place(r)) {
        uint32_t id = r->host.head;
        struct seq *q = &r->seqs->items[id];
        uint64_t need[STEP_STAGES];
        need_whole(r, q, need);
        if (!has_room(r, need, r->running.n ? r->policy->watermark : 0))
            return;
        seq_unlink(r->seqs, &r->host, id);
        seq_push_back(r->seqs, &r->running, id);
        q->admitted = ++r->admissions;
        replica_decode(r, id);
        r->host_used_bytes = r->host.n ? r->host_used_bytes - q->host_bytes : 0;
        r->swap_bytes += q->link_bytes;
    }
}

/* --- the step -------------------------------------------------------------------------- */

static void compose_mixed(struct replica *r, double time_s)
{
    uint64_t budget;

    r->seg.batch = &r->decodes;
    r->decodes.n_chunks = 0;
    make_room(r);
    sim_pool_step_ahead(&r->pool);
    budget = r->max_tokens - u64_min(r->max_tokens, r->decoding);
    run_partial(r, &budget);
    if (!r->preempted)
        admit_waiting(r, &budget, time_s);
    r->seg.decodes = r->decoding > 0;
    r->seg.closed = !budget || (r->waiting.n && !r->policy->next && !r->preempted);
}

static void compose_apart(struct replica *r, double time_s)
{
    bool may_admit = !(r->policy->batch && r->running.n) && !r->host.n;
    uint64_t budget = r->policy->batch ? UINT64_MAX : r->max_tokens;

    r->seg.batch = &r->prompts;
    r->prompts.n_chunks = 0;
    run_partial(r, &budget);
    if (may_admit && !r->preempted)
        admit_waiting(r, &budget, time_s);
    r->seg.decodes = !r->prompts.n_chunks;
    if (r->seg.decodes) {
        r->seg.batch = &r->decodes;
        r->decodes.n_chunks = 0;
        make_room(r);
        sim_pool_step_ahead(&r->pool);
        swap_in(r);
        r->seg.decodes = r->decoding > 0;
    }
    r->seg.closed = !budget || (r->policy->batch && r->running.n) || r->host.n ||
                    (r->waiting.n && !r->policy->next && !r->preempted);
    /* The queue was not asked because of those on the host; they are back now. */
    r->seg.once =
        r->seg.once || (!may_admit && !r->policy->batch && !r->host.n && r->waiting.n);
}

static bool compose(struct replica *r, double time_s)
{
    r->preempted = 0;
    r->swap_bytes = 0;
    r->seg.once = false;
    r->pool.ahead = 0;
    if (r->policy->mixed)
        compose_mixed(r, time_s);
    else
        compose_apart(r, time_s);
    if (r->seg.decodes || r->seg.batch->n_chunks)
        return true;
    r->pool.ahead = 0;
    return false;
}

/* The step was composed when the one before it began. Whoever arrived since then, and room that
 * was given back, can change the step after it. */
static bool compose_ahead(struct replica *r)
{
    bool freed = r->ended || r->sent_places;

    replica_notice(r, true);
    if (!compose(r, r->composed_s))
        return false;
    replica_release(r);
    r->seg.closed = r->seg.closed || !has_place(r);
    r->seg.once = r->seg.once || (freed && (r->waiting.n || r->late.n || r->host.n)) ||
                  (r->late.n && !r->seg.closed);
    return true;
}

bool schedule_compose(struct replica *r, double time_s)
{
    bool mid = r->mid;

    r->mid = false;
    if (mid && r->ahead && compose_ahead(r))
        return true;
    replica_release(r);
    replica_notice(r, false);
    for (;;) {
        if (compose(r, time_s)) {
            r->seg.closed = r->seg.closed || !has_place(r);
            return true;
        }
        if (r->preempted || r->host.n)
            continue;
        if (!r->waiting.n || r->running.n || r->lent)
            return false;
        /* Nothing runs and still it finds no room: it never will. */
        replica_reject(r, r->policy->next ? r->policy->next(r) : r->waiting.head, time_s);
    }
}

/* --- how long it stays the same ----------------------------------------------------------- */

/* Whether `steps` steps find their pages. */
static bool lasts(const struct replica *r, uint64_t steps)
{
    uint64_t more[STEP_STAGES] = {0};

    if (r->seg.batch->n_chunks) {
        const struct step_chunk *c = &r->seg.batch->chunks[0];
        struct hold h;
        hold_prompt(r, c->prompt, c->offset + steps * c->tokens, &h);
        hold_more(r, r->seg.chunks[0], &h, more);
    }
    return sim_pool_lasts(&r->pool, r->seg.decodes ? steps : 0, more);
}

uint64_t schedule_steps(struct replica *r)
{
    const struct step_batch *b = r->seg.batch;
    uint64_t most = (uint64_t)1 << 40, least = 1;

    if (r->every_step || r->seg.once || b->n_chunks > 1 || (b->n_chunks && b->chunks[0].last))
        return 1;
    if (r->preempted && (r->waiting.n || r->host.n))
        return 1;
    if (b->n_chunks) {
        const struct step_chunk *c = &b->chunks[0];
        most = (c->prompt - 1 - c->offset) / c->tokens;
        most = u64_min(most, step_chunk_steps(r->steps, c));
    }
    if (r->seg.decodes) {
        most = u64_min(most, heap_least(&r->finish) - r->pool.clock);
        if (r->bend.n)
            most = u64_min(most, heap_least(&r->bend) - r->pool.clock);
    }
    if (r->policy->limit && r->waiting.n)
        most = u64_min(most, r->policy->limit(r, most));
    if (lasts(r, most))
        return most;
    while (most - least > 1) {
        uint64_t middle = least + (most - least) / 2;
        if (lasts(r, middle))
            least = middle;
        else
            most = middle;
    }
    return least;
}
