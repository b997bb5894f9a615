/* A segment is planned when it starts and applied when it ends. What a sequence has read,
 * produced and holds in between follows from the decode clock of the pool. */
#include "sim/replica.h"

#include <assert.h>
#include <string.h>

#include "sim/hold.h"
#include "sim/policy/policy.h"
#include "sim/schedule.h"

/* --- limits ------------------------------------------------------------------------------ */

enum { TOKENS_DEFAULT = 8192 };

/* vLLM V0's swap space where the spec gives no host memory.
 * source: vllm/config.py (CacheConfig.swap_space, GiB a GPU), vllm 0.6 */
#define SWAP_SPACE_BYTES ((double)((uint64_t)4 << 30))

static void set_limits(struct replica *r, struct diag *d)
{
    const struct engine_settings *set = &r->problem->settings;
    const struct parallel *p = &r->problem->parallel;
    struct loc at = r->problem->spec->engine_at;

    r->max_tokens = set->max_batched_tokens ? set->max_batched_tokens : set->n_batch;
    if (!r->max_tokens) {
        r->max_tokens = TOKENS_DEFAULT;
        diag_add(d, DIAG_NOTE, at, "engine.max_batched_tokens: %d tokens a step, as vLLM",
                 TOKENS_DEFAULT);
    }
    r->max_seqs = set->max_seqs ? set->max_seqs : set->n_seq;
    r->max_seqs = r->max_seqs ? r->max_seqs : r->max_tokens;
    if (r->max_seqs > r->max_tokens) {
        diag_add(d, DIAG_WARN, at,
                 "a step of %llu tokens cannot run engine.max_seqs (%llu): simulated with %llu "
                 "sequences",
                 (unsigned long long)r->max_tokens, (unsigned long long)r->max_seqs,
                 (unsigned long long)r->max_tokens);
        r->max_seqs = r->max_tokens;
    }
    r->max_len = set->max_model_len;
    r->host_bytes = r->problem->host_bytes
                        ? (double)r->problem->host_bytes
                        : SWAP_SPACE_BYTES * p->tp * p->cp * r->problem->n_stages;
}

bool replica_init(struct replica *r, struct arena *a, const struct sim_options *opt,
                  struct diag *d)
{
    if (!sim_pool_init(&r->pool, a, r->steps, opt->unlimited_cache, d))
        return false;
    set_limits(r, d);
    if (r->pool.stores[0].slot_tokens)
        r->max_len = r->max_len ? u64_min(r->max_len, r->pool.stores[0].slot_tokens)
                                : r->pool.stores[0].slot_tokens;
    if (opt->prefix_cache)
        (void)sim_pool_cache(&r->pool);
    r->every_step = opt->every_step;
    r->check = opt->check;
    r->ahead = opt->ahead == SIM_AHEAD_ON;
    r->policy = opt->policy;
    r->finish.arena = r->bend.arena = a;
    for (uint32_t s = 0; s < r->steps->n_stages; s++)
        r->n_reads[s] = r->steps->curves[s].n_reads;
    return true;
}

static bool within(const struct replica *r, const uint64_t units[])
{
    for (uint32_t s = 0; s < r->pool.n_stages; s++)
        if (units[s] > r->pool.units[s])
            return false;
    return true;
}

bool replica_takes(struct replica *r, const struct request *q)
{
    uint64_t units[STEP_STAGES];

    if (r->max_len && q->prompt_tokens + q->output_tokens > r->max_len)
        return false;
    hold_most(r, q->prompt_tokens, q->output_tokens - 1, units);
    return within(r, units);
}

/* --- sequences ------------------------------------------------------------------------- */

uint64_t replica_generated(const struct replica *r, const struct seq *q)
{
    return q->state == SEQ_DECODE ? q->generated + r->pool.clock - q->base_clock : q->generated;
}

static uint64_t decoded_at(const struct seq *q, uint64_t clock)
{
    return q->decoded + clock - q->base_clock;
}

/* Adds the pieces of a sequence from now on; how long they hold. */
static uint64_t add_pieces(struct replica *r, const struct seq *q)
{
    uint64_t steps = CURVE_FOREVER;

    for (uint32_t s = 0; s < r->steps->n_stages; s++) {
        const struct curve *c = &r->steps->curves[s];
        struct curve_piece piece;
        curve_reads(c, q->n, decoded_at(q, r->pool.clock), &piece);
        step_batch_add(&r->decodes, s, r->n_reads[s], &piece, 1);
        steps = c->affine ? steps : u64_min(steps, piece.steps);
    }
    return steps;
}

/* Takes them, as they stand now. */
static void take_pieces(struct replica *r, const struct seq *q)
{
    int64_t since = (int64_t)(r->pool.clock - q->piece_clock);

    for (uint32_t s = 0; s < r->steps->n_stages; s++) {
        const struct curve *c = &r->steps->curves[s];
        struct curve_piece piece;
        curve_reads(c, q->n, decoded_at(q, q->piece_clock), &piece);
        for (uint32_t i = 0; since && i < r->n_reads[s]; i++) {
            piece.keys[i].value += piece.keys[i].slope * since;
            piece.bytes[i].value += piece.bytes[i].slope * since;
        }
        step_batch_add(&r->decodes, s, r->n_reads[s], &piece, -1);
    }
}

/* Looks up what it reads and holds from now on. */
static void new_piece(struct replica *r, uint32_t id)
{
    struct seq *q = &r->seqs->items[id];
    struct hold h;
    uint64_t steps;

    hold_decode(r, q->n, decoded_at(q, r->pool.clock), &h);
    hold_set(r, id, &h);
    steps = u64_min(add_pieces(r, q), h.steps);
    if (steps < CURVE_FOREVER)
        heap_push(&r->bend, (struct heap_item){r->pool.clock + steps, q->admitted, id});
}

void replica_decode(struct replica *r, uint32_t id)
{
    struct seq *q = &r->seqs->items[id];

    q->state = SEQ_DECODE;
    q->base_clock = r->pool.clock;
    new_piece(r, id);
    r->decodes.decodes++;
    r->decoding++;
    heap_push(&r->finish,
              (struct heap_item){r->pool.clock + q->request.output_tokens - q->generated,
                                 q->admitted, id});
}

void replica_pause(struct replica *r, uint32_t id)
{
    struct seq *q = &r->seqs->items[id];
    uint64_t steps = r->pool.clock - q->base_clock;

    take_pieces(r, q);
    heap_remove(&r->finish, id);
    heap_remove(&r->bend, id);
    r->decodes.decodes--;
    r->decoding--;
    q->generated += steps;
    q->decoded += steps;
    q->base_clock = r->pool.clock;
}

static void highest(const struct replica *r, const struct seq *q, uint64_t units[])
{
    hold_most(r, q->request.prompt_tokens, r->sends ? 0 : q->request.output_tokens - 1, units);
}

bool replica_reserve(struct replica *r, const struct seq *q)
{
    uint64_t units[STEP_STAGES];

    if (!r->policy->reserve)
        return true;
    highest(r, q, units);
    for (uint32_t s = 0; s < r->pool.n_stages; s++)
        units[s] += r->reserved_units[s];
    if (!within(r, units))
        return false;
    memcpy(r->reserved_units, units, r->pool.n_stages * sizeof *units);
    return true;
}

void replica_unreserve(struct replica *r, const struct seq *q)
{
    uint64_t units[STEP_STAGES];

    if (!r->policy->reserve)
        return;
    highest(r, q, units);
    for (uint32_t s = 0; s < r->pool.n_stages; s++)
        r->reserved_units[s] -= units[s];
}

/* Out of the running list, with nothing held. */
static void leave(struct replica *r, uint32_t id, bool again)
{
    struct seq *q = &r->seqs->items[id];

    if (q->state == SEQ_DECODE)
        replica_pause(r, id);
    if (r->partial == id)
        r->partial = SEQ_NONE;
    r->ended_places -= q->state == SEQ_ENDED;
    seq_unlink(r->seqs, &r->running, id);
    hold_drop(r, id, again);
    replica_unreserve(r, q);
}

/* Tells what became of it. */
static void tell_end(struct replica *r, uint32_t id, enum request_end end, double time_s)
{
    struct seq *q = &r->seqs->items[id];
    struct outcome o = {.request = q->request,
                        .end = end,
                        .queued_s = q->queued_s,
                        .scheduled_s = q->scheduled_s,
                        .first_s = q->first_s,
                        .last_s = time_s,
                        .cached_tokens = q->cached_tokens,
                        .preemptions = q->preemptions,
                        .replica = r->index};

    o.request.hashes = NULL;
    o.request.n_hashes = 0;
    if (end == REQUEST_DONE)
        r->now.done++;
    else
        r->now.rejected++;
    if (r->sink->outcome)
        r->sink->outcome(r->sink->to, &o);
}

/* The same for one that is in no list, and forgets it. */
static void end_seq(struct replica *r, uint32_t id, enum request_end end, double time_s)
{
    tell_end(r, id, end, time_s);
    seq_free(r->seqs, id);
}

void replica_reject(struct replica *r, uint32_t id, double time_s)
{
    struct seq *q = &r->seqs->items[id];

    seq_unlink(r->seqs, &r->waiting, id);
    if (q->whole)
        r->freed(r->owner, id);
    end_seq(r, id, REQUEST_REJECTED, time_s);
}

/* Whether what it produced can be computed with its prompt at once: where tokens are dropped or
 * windows slide, prompts take more than the same tokens did one by one. */
static bool fits_again(const struct replica *r, const struct seq *q)
{
    uint64_t units[STEP_STAGES] = {0};
    struct hold h;

    if (r->pool.plain)
        return true;
    hold_prompt(r, q->n, q->n, &h);
    hold_sum(r, &h, 0, units);
    return within(r, units);
}

void replica_preempt(struct replica *r, uint32_t id)
{
    struct seq *q = &r->seqs->items[id];

    if (q->state == SEQ_ENDED) {
        leave(r, id, false);
        q->state = SEQ_GONE;
        r->preempted++;
        return;
    }
    leave(r, id, true);
    q->state = SEQ_WAITING;
    q->n = q->request.prompt_tokens + q->generated;
    q->computed = q->decoded = 0;
    q->preemptions++;
    r->preempted++;
    r->now.preemptions++;
    if (!fits_again(r, q)) {
        end_seq(r, id, REQUEST_REJECTED, r->now.time_s);
        return;
    }
    if (r->policy->back_of_queue)
        seq_push_back(r->seqs, &r->waiting, id);
    else
        seq_push_front(r->seqs, &r->waiting, id);
}

void replica_notice(struct replica *r, bool ahead)
{
    uint32_t id;

    while ((id = r->late.head) && (!ahead || r->seqs->items[id].noticed < r->now.steps)) {
        seq_unlink(r->seqs, &r->late, id);
        seq_push_back(r->seqs, &r->waiting, id);
    }
}

void replica_release(struct replica *r)
{
    for (uint32_t id = r->ended, next; id; id = next) {
        next = r->seqs->items[id].after;
        if (r->seqs->items[id].state == SEQ_ENDED)
            leave(r, id, false);
        seq_free(r->seqs, id);
    }
    r->ended = r->last_ended = SEQ_NONE;
    r->sent_places = 0;
}

/* --- the segment ------------------------------------------------------------------------ */

static void begin_segment(struct replica *r, double time_s)
{
    struct segment *g = &r->seg;
    double link = r->problem->link_bytes_per_s;

    g->run_s = time_s + (r->swap_bytes > 0 && link > 0 ? r->swap_bytes / link : 0);
    g->steps = schedule_steps(r);
    g->batch->stride = g->batch->n_chunks == 1 && g->steps > 1;
    step_prepare(r->steps, g->batch, &g->line);
    g->end_s = g->run_s + step_sum_s(&g->line, g->steps);
    r->busy = true;
}

bool replica_start(struct replica *r, double time_s)
{
    assert(!r->busy && time_s >= r->now.time_s);
    r->now.time_s = time_s;
    r->late_s = 0;
    r->late_n = 0;
    if (!schedule_compose(r, time_s)) {
        if (r->policy->ran)
            r->policy->ran(r, 0);
        return false;
    }
    begin_segment(r, time_s);
    return true;
}

/* Steps of the segment until one ends at time_s or later. */
static uint64_t steps_until(const struct replica *r, double time_s)
{
    const struct segment *g = &r->seg;

    return time_s > g->run_s ? step_count(&g->line, time_s - g->run_s, g->steps) : 1;
}

static double step_end_s(const struct replica *r, uint64_t steps)
{
    return r->seg.run_s + step_sum_s(&r->seg.line, steps);
}

static void shorten(struct replica *r, uint64_t steps)
{
    if (steps >= r->seg.steps)
        return;
    r->seg.steps = steps;
    r->seg.end_s = step_end_s(r, steps);
}

void replica_shorten(struct replica *r, double time_s)
{
    if (r->busy && time_s < r->seg.end_s)
        shorten(r, steps_until(r, time_s));
}

void replica_arrive(struct replica *r, uint32_t id, double time_s)
{
    struct seq *q = &r->seqs->items[id];
    uint64_t steps = r->busy ? steps_until(r, time_s) : 0;
    double queued_s = steps ? step_end_s(r, steps) : time_s;

    seq_push_back(r->seqs, &r->late, id);
    r->late_s += time_s - r->now.time_s;
    r->late_n++;
    q->noticed = r->now.steps + steps;
    if (!q->whole)
        q->queued_s = queued_s > time_s ? queued_s : time_s;
    if (steps && !r->seg.closed)
        shorten(r, steps + r->ahead);
}

/* --- its end ------------------------------------------------------------------------------ */

static void finish(struct replica *r, uint32_t id)
{
    struct seq *q = &r->seqs->items[id];

    tell_end(r, id, REQUEST_DONE, r->seg.end_s);
    if (q->state == SEQ_DECODE)
        replica_pause(r, id);
    hold_freeze(r, id);
    q->state = SEQ_ENDED;
    r->ended_places++;
    q->after = SEQ_NONE;
    if (r->last_ended)
        r->seqs->items[r->last_ended].after = id;
    else
        r->ended = id;
    r->last_ended = id;
}

static void prompt_done(struct replica *r, uint32_t id)
{
    struct seq *q = &r->seqs->items[id];

    q->generated++;
    r->now.output_tokens++;
    if (q->generated == 1)
        q->first_s = r->seg.end_s;
    if (q->generated == q->request.output_tokens) {
        finish(r, id);
        return;
    }
    if (!r->sends) {
        replica_decode(r, id);
        return;
    }
    struct hold h;
    hold_decode(r, q->n, 0, &h);
    for (uint32_t i = 0; i < r->pool.n_lanes; i++)
        h.lanes[i].slope = 0;
    hold_set(r, id, &h);
    seq_unlink(r->seqs, &r->running, id);
    q->state = SEQ_SENDING;
    q->home = r->index;
    r->lent++;
    r->sent_places++;
    r->sent(r->owner, r, id);
}

/* What a cut prompt holds once it is computed so far. */
static void reach(struct replica *r, uint32_t id, uint64_t computed)
{
    struct seq *q = &r->seqs->items[id];
    struct hold h;

    hold_prompt(r, q->n, computed, &h);
    hold_set(r, id, &h);
    hold_publish(r, id, q->computed, computed);
}

/* The pages of the first step's chunks were taken when it was composed. */
static void end_chunks(struct replica *r)
{
    const struct segment *g = &r->seg;

    for (uint32_t i = 0; i < g->batch->n_chunks; i++) {
        uint32_t id = g->chunks[i];
        struct seq *q = &r->seqs->items[id];
        const struct step_chunk *c = &g->batch->chunks[i];
        if (g->steps > 1)
            reach(r, id, q->computed + c->tokens * g->steps);
        q->computed += c->tokens * g->steps;
        if (c->last)
            prompt_done(r, id);
    }
}

static void end_decodes(struct replica *r)
{
    while (heap_least(&r->finish) == r->pool.clock)
        finish(r, heap_pop(&r->finish).id);
}

/* Sequences whose curves bend here. */
static void bend(struct replica *r)
{
    while (heap_least(&r->bend) == r->pool.clock) {
        uint32_t id = heap_pop(&r->bend).id;
        take_pieces(r, &r->seqs->items[id]);
        new_piece(r, id);
    }
}

static void tell_span(struct replica *r, struct sim_span *out)
{
    const struct step_batch *b = r->seg.batch;

    out->output_tokens = out->decodes * out->steps;
    for (uint32_t i = 0; i < b->n_chunks; i++) {
        out->prompt_tokens += b->chunks[i].tokens * out->steps;
        out->output_tokens += b->chunks[i].last;
    }
    if (r->sink->span)
        r->sink->span(r->sink->to, out);
}

/* The queue since now.time_s: it only grows, by those who arrived meanwhile. */
static double mean_waiting(const struct replica *r, double end_s)
{
    double last = (double)(r->waiting.n + r->late.n), came = (double)r->late_n,
           whole = end_s - r->now.time_s, before = whole > 0 ? r->late_s / whole : came;

    return last - (before < came ? before : came);
}

/* Moves time, pages and sums on by steps of the segment that end at end_s. */
static void run_steps(struct replica *r, uint64_t steps, double end_s)
{
    const struct segment *g = &r->seg;
    struct sim_span span = {.from_s = r->now.time_s,
                            .to_s = end_s,
                            .replica = r->index,
                            .running = r->running.n,
                            .waiting = mean_waiting(r, end_s),
                            .waiting_last = r->waiting.n + r->late.n,
                            .decodes = g->decodes ? r->decoding : 0,
                            .steps = steps};

    assert(end_s >= r->now.time_s);
    span.used_first_units = sim_pool_used(&r->pool, NULL);
    r->now.time_s = end_s;
    r->late_s = 0;
    r->late_n = 0;
    r->now.steps += steps;
    if (g->decodes) {
        sim_pool_advance(&r->pool, steps);
        step_batch_advance(&r->decodes, r->steps->n_stages, r->n_reads, steps);
        r->now.output_tokens += r->decoding * steps;
    }
    r->pool.ahead = 0;
    span.used_last_units = sim_pool_used(&r->pool, NULL);
    tell_span(r, &span);
    if (r->policy->ran && g->decodes)
        r->policy->ran(r, steps);
}

void replica_commit(struct replica *r)
{
    const struct segment *g = &r->seg;

    assert(r->busy);
    r->composed_s = g->steps > 1 ? step_end_s(r, g->steps - 1) : r->now.time_s;
    r->mid = true;
    run_steps(r, g->steps, g->end_s);
    r->now.events++;
    if (g->decodes)
        end_decodes(r);
    end_chunks(r);
    if (g->decodes)
        bend(r);
    r->busy = false;
    if (r->check)
        replica_check(r);
}

void replica_sync(struct replica *r, double time_s)
{
    struct segment *g = &r->seg;
    uint64_t done;

    if (!r->busy || time_s < g->run_s || time_s >= g->end_s)
        return;
    done = steps_until(r, time_s);
    done -= step_end_s(r, done) > time_s;
    if (!done || done >= g->steps)
        return;
    g->run_s = step_end_s(r, done);
    run_steps(r, done, g->run_s);
    g->steps -= done;
    if (g->decodes)
        sim_pool_step_ahead(&r->pool);
    if (g->batch->n_chunks) {
        struct step_chunk *c = &g->batch->chunks[0];
        struct seq *q = &r->seqs->items[g->chunks[0]];
        c->offset += done * c->tokens;
        reach(r, g->chunks[0], c->offset + c->tokens);
        q->computed = c->offset;
    }
    step_prepare(r->steps, g->batch, &g->line);
    g->end_s = step_end_s(r, g->steps);
}
