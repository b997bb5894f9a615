/* What fits: exact answers (the answer fits, one more does not) and the cost of running them. A
 * plan is a pure function of a problem and a workload; nothing here allocates. */
#ifndef KVBUDGET_PLANNER_PLAN_CAPACITY_H
#define KVBUDGET_PLANNER_PLAN_CAPACITY_H

#include "planner/plan/problem.h"

enum { CAPACITY_MAX = 1 << 30 };        /* sequences */
#define CONTEXT_MAX ((uint64_t)1 << 40) /* tokens; beyond it a context counts as unbounded */

enum limit {
    LIMIT_MEMORY,         /* the cache pool */
    LIMIT_PREFILL_PEAK,   /* the pool, because of what one prompt needs while it is processed */
    LIMIT_BLOCK_ROUNDING, /* the pool, only because of whole blocks */
    LIMIT_MAX_SEQS,       /* the engine's limit on sequences */
    LIMIT_HOST_MEMORY,    /* the offloaded share does not fit the host */
    LIMIT_WEIGHTS,        /* the weights leave no room */
    LIMIT_MODEL_LEN,      /* a sequence is longer than max_model_len */
    LIMIT_NONE            /* nothing grows with it (pure state models) */
};
const char *limit_name(enum limit l);

/* What `batch` sequences need on one GPU of a stage. */
struct need {
    uint64_t sequence_bytes; /* one sequence at its highest, its shared prefix left out */
    uint64_t shared_bytes;   /* the common prefix, once */
    uint64_t prefill_bytes;  /* one sequence while its prompt is processed */
    uint64_t host_bytes;     /* one sequence's share in host memory, all GPUs of the stage */
};
void capacity_need(const struct problem *p, const struct stage *s, const struct workload *w,
                   struct need *out, struct ck *ck);

/* Scores, masks and tables the schemes keep for a sequence of that phase on one GPU of a stage
 * (which holds its share of the layers), and what they need while its prompt is processed. */
void capacity_extra(const struct problem *p, const struct stage *s, const struct phase *ph,
                    uint64_t *persistent, uint64_t *transient);
/* Host memory that is left for the cache, all replicas. */
uint64_t capacity_host_room(const struct problem *p);

/* Bytes `batch` sequences take of a pool: shared + (batch - 1) sequences + the larger of a
 * sequence and a prefill. */
uint64_t need_bytes(const struct need *n, uint64_t batch, struct ck *ck);

/* Whether `batch` sequences (over all replicas) fit on every GPU, and the host. */
bool capacity_fits(const struct problem *p, const struct workload *w, uint64_t batch);

/* The largest such batch (0 = none) and what stops one more. */
uint64_t capacity_max_batch(const struct problem *p, const struct workload *w, enum limit *why);

/* The longest context (prompt + output; the output stays that of the workload while it fits) of
 * `batch` sequences. */
uint64_t capacity_max_context(const struct problem *p, const struct workload *w, uint64_t batch,
                              enum limit *why);

/* The fewest GPUs, by tensor parallelism alone over degrees that divide the heads (by pipeline
 * stages where the engine divides layers), on which `batch` sequences fit; 0 = none up to the
 * number of heads (layers). Allocates in a scratch arena. */
uint32_t capacity_min_gpus(const struct problem *p, const struct workload *w, uint64_t batch);

/* Everything a report shows of a workload. */
struct plan {
    bool fits;      /* the asked batch (1 when auto) fits */
    uint64_t batch; /* that the costs below are for */
    uint64_t max_batch, max_context, context_batch;
    enum limit batch_limit, context_limit;
    uint64_t kv_tokens, kv_blocks;
    double max_concurrency;
    struct need need;                         /* on the tightest stage */
    uint32_t tightest;                        /* stage */
    struct op_tally prefill, decode;          /* all GPUs, FLOP and bytes by op */
    double prefill_s, decode_s, tokens_per_s; /* 0 without a named GPU */
    double prefill_op_s[N_OPS], decode_op_s[N_OPS];
    double decode_link_s, decode_link_bytes; /* host link a step */
    double prefill_link_s,
        prefill_link_bytes;                 /* host link a prefill of the batch in one pass */
    uint64_t decode_prompt, decode_decoded; /* the mean context of the decode */
    uint64_t decode_read_bytes,
        decode_write_bytes; /* cache and states, all sequences of the batch */
    bool over;              /* a byte count left 64 bits */
};

/* The full plan. Pure; about a microsecond for a folded model. */
void plan_solve(const struct problem *p, const struct workload *w, struct plan *out);

#endif
