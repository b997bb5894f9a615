/* The plans that Curves draws and the figures it draws of them. Figures come from the planner
 * (planner/plan/capacity.h), one plan a point. */
#ifndef KVBUDGET_TUI_CURVE_SET_H
#define KVBUDGET_TUI_CURVE_SET_H

#include "tui/session.h"

enum { CURVE_LINES = 6 };

enum curve_kind {
    CURVE_BATCH,  /* sequences that fit, against their length in tokens */
    CURVE_MEMORY, /* bytes of the tightest GPU, against the batch */
    CURVE_SPEED,  /* tokens/s of all sequences, against the batch */
    CURVE_STEP,   /* seconds of a decode step, which each sequence waits for a token */
    N_CURVE_KINDS
};

struct curve_plan {
    const char *name; /* "as asked", "lckv" */
    const struct problem *problem;
    struct plan plan; /* of the problem's own workload */
};

/* As asked, as shipped where that differs, the pinned baseline, then the tagged schemes, each
 * alone on the model as shipped; those that cannot be planned are left out. */
struct curve_set {
    struct curve_plan plans[CURVE_LINES];
    int n;
    int left_out; /* tagged ones without room or without a plan */
};
void curve_set_build(struct arena *a, struct session *s, struct curve_set *out);

/* The figure at x (tokens of a sequence, or sequences); NAN where there is none: nothing fits,
 * no limit, no named GPU. */
double curve_value(const struct curve_plan *c, enum curve_kind k, uint64_t x);
/* Sensible ends of the x axis, at least 1. */
void curve_range(const struct curve_set *s, enum curve_kind k, double *x0, double *x1);
/* Where the asked workload is on it; 0 = nowhere. */
uint64_t curve_asked(const struct curve_set *s, enum curve_kind k);
/* Memory of the tightest GPU that the engine may use. */
uint64_t curve_usable_bytes(const struct curve_set *s);

#endif
