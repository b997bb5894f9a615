/* How explanations are filled in: a rule for each path of the report, and small helpers that
 * write expressions. Only planner/plan/explain*.c include this.
 *
 * An expression has numbers ("1,024", "0.87"), + - x / and brackets, max, min, floor and
 * ceil with their arguments after ", ", and words in [square brackets] that say what a
 * number is. */
#ifndef KVBUDGET_PLANNER_PLAN_EXPLAIN_FILL_H
#define KVBUDGET_PLANNER_PLAN_EXPLAIN_FILL_H

#include "planner/plan/capacity.h"

enum { EXPLAIN_SOURCES = 12 };

struct explain { /* one figure while it is explained */
    struct arena *a;
    const struct problem *p;
    const struct plan *plan;
    enum op op;          /* of a path in by_op */
    bool prefill;        /* of a path in compute.prefill */
    const char *formula; /* the rule's; a fill function may replace it */
    const char *put_in;  /* the expression; "" = there is nothing to compute */
    bool statement;      /* put_in is a statement, not an expression */
    const char *sources[EXPLAIN_SOURCES];
    size_t n_sources;
    struct ck ck;
};

struct explain_rule {
    const char *path; /* `*` stands for one name, an op */
    const char *unit;
    const char *formula;
    void (*fill)(struct explain *e); /* NULL: the formula says it all */
};

/* Tables end with a rule without a path. */
extern const struct explain_rule explain_model_rules[], explain_memory_rules[],
    explain_compute_rules[], explain_seconds_rules[], explain_band_rules[];

/* --- writing expressions ------------------------------------------------------------------ */

const char *explain_count(struct explain *e, uint64_t n); /* 1,024 */
const char *explain_real(struct explain *e,
                         double v); /* whole numbers grouped, else up to 12 digits */
void explain_put(struct explain *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* " + " where something stands before it, then the text. */
void explain_term(struct explain *e, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* "a [qkv] + b [mlp]", the ops that have a value; "0" where none has. `all`: with what GPUs
 * send each other and the activations of a prompt, which are neither weights nor cache. */
const char *explain_sum(struct explain *e, const double by_op[N_OPS], bool all);

/* Prompts up to this length are decoded token by token where layers read upward. */
uint64_t explain_sequential_below(const struct problem *p);
bool explain_is_sequential(const struct explain *e);

/* --- naming sources ----------------------------------------------------------------------- */

void explain_source(struct explain *e, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void explain_from_gpu(struct explain *e, enum gpu_fact f);
void explain_from_model(struct explain *e);
void explain_from_engine(struct explain *e);
void explain_from_schemes(struct explain *e);
void explain_from_spec(struct explain *e, const char *key);

/* Weights of one rank: layers [first, last), and what the first and the last stage hold
 * besides. */
struct explain_rank {
    uint32_t tp, ep, first, last;
    bool first_stage, last_stage;
};
void explain_put_weights(struct explain *e, const struct explain_rank *rank);

/* Extra costs of all schemes of the plan, of one sequence. */
struct extra_cost explain_extra(const struct explain *e, uint64_t decoded);

#endif
