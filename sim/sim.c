/* The clock of all replicas. The next moment is the earliest of: a segment ends, a request
 * arrives, a cache that was sent has arrived. At that moment ended segments are applied first,
 * then everything that has arrived is queued, then idle replicas compose their next step; so a
 * request that arrives just when a step ends can be in the next one. */
#include "sim/sim.h"

#include <assert.h>
#include <string.h>

#include "sim/hold.h"
#include "sim/policy/policy.h"
#include "sim/router.h"

#define NEVER 1e300

struct sim {
    struct arena *arena;
    struct sim_options opt;
    const char *ahead_why;
    struct sim_sink sink;
    struct diag *d;
    struct seqs seqs;
    struct replica *replicas; /* those that prefill only come first */
    bool *wake;               /* [n]: composes at this moment */
    struct seq_list *outbox;  /* [n]: on their way, in order */
    double *link_free_s;      /* [n] */
    uint32_t n;
    struct routing front, back; /* for requests; for caches that were sent */
    struct request next;
    bool has_next, ended;
    double time_s, last_arrival_s;
    uint64_t rejected; /* at the door */
};

/* --- hand-over between replicas ------------------------------------------------------------
 */

static double rate_of(const struct sim *s, const struct replica *r)
{
    const struct problem *p = r->problem;

    return s->opt.transfer_bytes_per_s > 0
               ? s->opt.transfer_bytes_per_s
               : p->link_bytes_per_s * p->parallel.tp * p->parallel.cp * p->n_stages;
}

/* A prompt is done: its cache leaves as soon as the link of its replica is free. */
static void sent(void *owner, struct replica *r, uint32_t id)
{
    struct sim *s = owner;
    struct seq *q = &s->seqs.items[id];
    double bytes = 0, rate = rate_of(s, r), from = r->now.time_s;

    for (uint32_t i = 0; i < r->pool.n_stages; i++)
        bytes += (double)hold_units(r, id, i) * (double)r->pool.stores[i].unit_bytes *
                 r->problem->parallel.tp * r->problem->parallel.cp;
    if (r->pool.n_stages < r->problem->n_stages)
        bytes *= r->problem->n_stages;
    if (s->link_free_s[r->index] > from)
        from = s->link_free_s[r->index];
    q->due_s = from + (rate > 0 ? bytes / rate : 0);
    s->link_free_s[r->index] = q->due_s;
    q->whole = true;
    seq_push_back(&s->seqs, &s->outbox[r->index], id);
}

/* Admitted elsewhere: the sender's pages are free from this moment. */
static void freed(void *owner, uint32_t id)
{
    struct sim *s = owner;
    struct replica *home = &s->replicas[s->seqs.items[id].home];

    hold_drop(home, id, false);
    replica_unreserve(home, &s->seqs.items[id]);
    home->lent--;
    if (home->busy)
        replica_shorten(home, s->time_s);
    else
        s->wake[home->index] = true;
}

static void deliver_sent(struct sim *s, double until_s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t id;
        while ((id = s->outbox[i].head) && s->seqs.items[id].due_s <= until_s) {
            struct replica *r = &s->back.replicas[router_choose(&s->back, NULL, until_s)];
            seq_unlink(&s->seqs, &s->outbox[i], id);
            s->seqs.items[id].state = SEQ_WAITING;
            replica_arrive(r, id, until_s);
            s->wake[r->index] |= !r->busy;
        }
    }
}

/* --- making ----------------------------------------------------------------------------- */

/* What an engine schedules like. llama.cpp fills a batch with decodes first and prompts cut to
 * n_batch after them, its slots never run out; vLLM before 0.8 is its first scheduler. */
static const char *policy_of(const struct problem *p, struct diag *d)
{
    uint32_t version = ENGINE_NEWEST;
    const char *name = p->engine->name;

    if (!strcmp(name, "sglang"))
        return "sglang";
    if (!strcmp(name, "trtllm"))
        return "no-evict";
    if (!strcmp(name, "hf"))
        return "static";
    if (!strcmp(name, "vllm") && p->settings.version &&
        engine_version(p->settings.version, p->spec->engine_at, d, &version) &&
        version < ENGINE_VERSION(0, 8, 0))
        return "fcfs";
    return "vllm-v1";
}

bool sim_reuses_prefixes(const struct problem *p, struct diag *d)
{
    const char *name = p->engine->name;
    uint32_t version = ENGINE_NEWEST;

    if (!strcmp(name, "llamacpp") || !strcmp(name, "hf"))
        return false;
    return strcmp(name, "vllm") != 0 || !p->settings.version ||
           !engine_version(p->settings.version, p->spec->engine_at, d, &version) ||
           version >= ENGINE_VERSION(0, 8, 0);
}

/* An engine composes ahead with its own policy; another policy is that of a server without. */
static void set_ahead(struct sim *s, const struct problem *p, bool own_policy)
{
    const char *why = "";
    bool ahead = own_policy && p->engine->composes_ahead &&
                 p->engine->composes_ahead(&p->settings, p->parallel, &why);

    s->ahead_why = "given";
    if (s->opt.ahead != SIM_AHEAD_ENGINE)
        return;
    s->opt.ahead = ahead ? SIM_AHEAD_ON : SIM_AHEAD_OFF;
    s->ahead_why = ahead ? why : "";
}

static void set_replicas(struct sim *s, const struct problem *p, const struct step_model *m)
{
    uint32_t decode = s->opt.replicas ? s->opt.replicas : p->parallel.dp;

    s->n = s->opt.prefill_replicas + decode;
    s->replicas = ARENA_NEW(s->arena, struct replica, s->n);
    s->wake = ARENA_NEW(s->arena, bool, s->n);
    s->outbox = ARENA_NEW(s->arena, struct seq_list, s->n);
    s->link_free_s = ARENA_NEW(s->arena, double, s->n);
    for (uint32_t i = 0; i < s->n; i++) {
        struct replica *r = &s->replicas[i];
        r->index = i;
        r->problem = p;
        r->steps = m;
        r->sink = &s->sink;
        r->seqs = &s->seqs;
        r->sends = i < s->opt.prefill_replicas;
        r->owner = s;
        r->sent = sent;
        r->freed = freed;
    }
    s->back = (struct routing){s->opt.router, s->replicas + s->opt.prefill_replicas, decode, 0};
    s->front = s->opt.prefill_replicas
                   ? (struct routing){s->opt.router, s->replicas, s->opt.prefill_replicas, 0}
                   : s->back;
}

struct sim *sim_new(const struct problem *p, const struct step_model *steps,
                    const struct sim_options *opt, const struct sim_sink *sink, struct diag *d)
{
    struct arena *a = arena_new();
    struct sim *s = ARENA_NEW(a, struct sim, 1);
    const struct policy *own;
    bool ok = true;

    s->arena = a;
    s->opt = *opt;
    s->sink = *sink;
    s->d = d;
    s->seqs.arena = a;
    own = policy_find(policy_of(p, d), p->spec->engine_at, d);
    if (!s->opt.policy)
        s->opt.policy = own;
    ok = s->opt.policy != NULL;
    set_ahead(s, p, s->opt.policy == own);
    if (ok)
        set_replicas(s, p, steps);
    for (uint32_t i = 0; ok && i < s->n; i++)
        ok = replica_init(&s->replicas[i], a, &s->opt, d);
    if (!ok) {
        arena_free(a);
        return NULL;
    }
    s->seqs.n_lanes = s->replicas[0].pool.n_lanes;
    return s;
}

void sim_free(struct sim *s)
{
    if (s)
        arena_free(s->arena);
}

/* --- running ---------------------------------------------------------------------------- */

static void fetch(struct sim *s, struct trace *t)
{
    if (s->has_next || s->ended)
        return;
    s->has_next = trace_next(t, &s->next);
    s->ended = !s->has_next;
    if (s->has_next && s->next.arrival_s < s->last_arrival_s)
        s->next.arrival_s = s->last_arrival_s;
    s->last_arrival_s = s->has_next ? s->next.arrival_s : s->last_arrival_s;
}

static void reject(struct sim *s, const struct replica *r)
{
    struct outcome o = {.request = s->next,
                        .end = REQUEST_REJECTED,
                        .queued_s = s->next.arrival_s,
                        .scheduled_s = s->next.arrival_s,
                        .first_s = s->next.arrival_s,
                        .last_s = s->next.arrival_s,
                        .replica = r->index};

    o.request.hashes = NULL;
    o.request.n_hashes = 0;
    s->rejected++;
    if (s->sink.outcome)
        s->sink.outcome(s->sink.to, &o);
}

static void deliver(struct sim *s)
{
    double at = s->next.arrival_s;
    struct replica *r = &s->front.replicas[router_choose(&s->front, &s->next, at)];

    s->has_next = false;
    if (!replica_takes(r, &s->next)) {
        reject(s, r);
        return;
    }
    replica_arrive(r, seq_new(&s->seqs, &s->next), at);
    s->wake[r->index] |= !r->busy;
}

/* The earliest thing to come. */
static double next_moment(const struct sim *s)
{
    double at = s->has_next ? s->next.arrival_s : NEVER;

    for (uint32_t i = 0; i < s->n; i++) {
        const struct replica *r = &s->replicas[i];
        if (r->busy && r->seg.end_s < at)
            at = r->seg.end_s;
        if (s->outbox[i].n && s->seqs.items[s->outbox[i].head].due_s < at)
            at = s->seqs.items[s->outbox[i].head].due_s;
    }
    return at < s->time_s ? s->time_s : at;
}

/* Admitting on one replica may give another something to do at the same moment. */
static void start_all(struct sim *s)
{
    bool any;

    do {
        any = false;
        for (uint32_t i = 0; i < s->n; i++) {
            if (!s->wake[i])
                continue;
            s->wake[i] = false;
            any = true;
            if (!s->replicas[i].busy)
                replica_start(&s->replicas[i], s->time_s);
        }
    } while (any && s->opt.prefill_replicas);
}

static bool step(struct sim *s, struct trace *t, uint64_t *events)
{
    double at;

    fetch(s, t);
    at = next_moment(s);
    if (at >= NEVER) {
        assert(!s->seqs.in_flight);
        return false;
    }
    s->time_s = at;
    for (uint32_t i = 0; i < s->n; i++) {
        if (!s->replicas[i].busy || s->replicas[i].seg.end_s > at)
            continue;
        replica_commit(&s->replicas[i]);
        s->wake[i] = true;
        ++*events;
    }
    deliver_sent(s, at);
    while (s->has_next && s->next.arrival_s <= at) {
        deliver(s);
        fetch(s, t);
    }
    start_all(s);
    return true;
}

bool sim_run(struct sim *s, struct trace *t, uint64_t events)
{
    uint64_t done = 0;

    while (done < events)
        if (!step(s, t, &done))
            return false;
    return true;
}

/* --- looking ----------------------------------------------------------------------------- */

uint32_t sim_replicas(const struct sim *s)
{
    return s->n;
}

const struct policy *sim_policy(const struct sim *s)
{
    return s->opt.policy;
}

bool sim_composes_ahead(const struct sim *s, const char **why)
{
    *why = s->ahead_why;
    return s->opt.ahead == SIM_AHEAD_ON;
}

bool sim_caches(const struct sim *s)
{
    return s->replicas[0].pool.caches;
}

void sim_replica_now(const struct sim *s, uint32_t replica, struct sim_now *out)
{
    const struct replica *r = &s->replicas[replica];

    *out = r->now;
    out->time_s = s->time_s;
    out->running = r->running.n;
    out->waiting = r->waiting.n + r->late.n + r->host.n;
    out->used_units = sim_pool_used(&r->pool, &out->units);
}

void sim_now(const struct sim *s, struct sim_now *out)
{
    *out = (struct sim_now){.time_s = s->time_s, .rejected = s->rejected};
    for (uint32_t i = 0; i < s->n; i++) {
        struct sim_now one;
        sim_replica_now(s, i, &one);
        out->running += one.running;
        out->waiting += one.waiting;
        out->used_units += one.used_units;
        out->units += one.units;
        out->steps += one.steps;
        out->events += one.events;
        out->done += one.done;
        out->rejected += one.rejected;
        out->preemptions += one.preemptions;
        out->prompt_tokens += one.prompt_tokens;
        out->cached_tokens += one.cached_tokens;
        out->output_tokens += one.output_tokens;
    }
}
