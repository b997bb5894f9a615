/* The simulator: requests arrive, wait, are batched, decode and leave, on one or several
 * replicas of a planned server. Time advances from event to event in closed form (sim/step.h);
 * the same scheduler, asked for one step at a time, is the reference. No input or output
 * here: requests come from a trace, outcomes go to a sink. */
#ifndef KVBUDGET_SIM_SIM_H
#define KVBUDGET_SIM_SIM_H

#include "sim/pool.h"
#include "sim/step.h"
#include "sim/trace.h"

struct policy; /* sim/policy/policy.h */

/* Whether the batch of a step is composed when the step before it begins (planner/engine/
 * engine.h: composes_ahead), not when it has ended. */
enum sim_ahead { SIM_AHEAD_ENGINE, SIM_AHEAD_OFF, SIM_AHEAD_ON };

enum router { ROUTER_ROUND_ROBIN, ROUTER_LEAST_LOADED, ROUTER_PREFIX_AWARE };

struct sim_options {
    const struct policy *policy; /* NULL = the engine's own (vLLM V1's where it has none) */
    uint32_t replicas;           /* 0 = the spec's parallel.dp */
    uint32_t prefill_replicas;   /* > 0: so many more that only prefill and send the cache on */
    double transfer_bytes_per_s; /* between them; 0 = the GPU's network or host link */
    enum router router;
    enum sim_ahead ahead; /* of the engine: where its own policy runs */
    bool prefix_cache;    /* where the memory has whole blocks (sim_caches) */
    bool unlimited_cache; /* the pool never runs out: ideal hit rates */
    bool every_step;      /* the reference: no jumps */
    bool check;           /* assert the invariants after every event */
};

/* What is seen of a replica, or of all of them, at one moment. */
struct sim_now {
    double time_s;
    uint64_t running, waiting; /* requests */
    uint64_t used_units, units;
    uint64_t steps, events;
    uint64_t done, rejected, preemptions;
    uint64_t prompt_tokens, cached_tokens, output_tokens; /* so far; cached of the prompt */
};

/* A stretch of time in which nothing but the lengths changed: what time series are made of. */
struct sim_span {
    double from_s, to_s;
    uint32_t replica;
    uint64_t running, decodes, steps;
    double waiting;                             /* the mean: those who come wait from then on */
    uint64_t waiting_last;                      /* at the end, the most */
    uint64_t prompt_tokens, output_tokens;      /* computed in it */
    uint64_t used_first_units, used_last_units; /* of the pool */
};

struct sim_sink { /* each may be NULL */
    void *to;
    void (*outcome)(void *to, const struct outcome *o);
    void (*span)(void *to, const struct sim_span *s);
};

struct sim;

/* `p` and `steps` outlive the simulator; memory grows with the requests in flight only. errors:
 * DIAG_INPUT (policy that cannot run this spec, more stages than STEP_STAGES),
 * DIAG_INFEASIBLE where the weights leave no cache. */
struct sim *sim_new(const struct problem *p, const struct step_model *steps,
                    const struct sim_options *opt, const struct sim_sink *sink, struct diag *d);

/* Runs at most `events` events (steps with every_step). False when all requests have ended, or
 * the trace failed (then its diag says so). */
bool sim_run(struct sim *s, struct trace *t, uint64_t events);

void sim_now(const struct sim *s, struct sim_now *out);
void sim_replica_now(const struct sim *s, uint32_t replica, struct sim_now *out);
uint32_t sim_replicas(const struct sim *s);
const struct policy *sim_policy(const struct sim *s); /* that it runs with */
bool sim_composes_ahead(const struct sim *s, const char **why);
bool sim_caches(const struct sim *s); /* prefixes are kept */
void sim_free(struct sim *s);         /* NULL is fine */

/* Whether the engine keeps prefixes unless told otherwise: vLLM from 0.8 on (its V1), SGLang
 * and TensorRT-LLM do; llama.cpp's slots and transformers keep nothing of other sequences. */
bool sim_reuses_prefixes(const struct problem *p, struct diag *d);

const struct policy *policy_at(size_t i); /* NULL past the end */
const struct policy *policy_find(const char *name, struct loc at, struct diag *d);
const char *policy_name(const struct policy *p);
const char *policy_summary(const struct policy *p);
const char *policy_source(const struct policy *p);

#endif
