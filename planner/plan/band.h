/* Bands: how far an engine's figures may be off, from the residuals of measured starts of that
 * engine and version range. The residuals are data (profiles/engines/NAME.yaml, written by
 * tests/truth/run --residuals from our tables of starts); this reads them and turns them into a
 * low and a high for each figure of a plan.
 *
 * A residual is (printed - planned) / planned; that of a cache pool which takes what the terms
 * leave is (printed - planned) / usable memory, so that a small pool gets a wide band. Starts
 * of one model are alike, so models decide how much the residuals say:
 *
 *   19 models or more   from the lower 5 % quantile of fit and score starts to the higher 95 %
 *   2 to 18             from the least residual to the most, times 0.9 (m + 1) / (m - 1): the
 *                       range of m draws holds the next one with (m - 1) / (m + 1)
 *   1                   no band
 *
 * 0, the plan itself, is always inside. */
#ifndef KVBUDGET_PLANNER_PLAN_BAND_H
#define KVBUDGET_PLANNER_PLAN_BAND_H

#include "planner/plan/capacity.h"
#include "planner/plan/json.h"

enum { BAND_FIGURES = 9, BAND_QUANTILE_MODELS = 19 };

struct band_spread { /* of fit or score starts */
    uint64_t starts; /* 0 = there are none */
    double least, q05, median, q95, most;
};

struct band_figure {
    const char *path; /* in the report */
    uint64_t models;  /* different ones of all starts */
    struct band_spread fit, score;
};

struct band_range {             /* of versions */
    const char *engine, *words; /* "0.17 to 0.20" */
    uint64_t starts, left_out;
    const struct doc_node
        *gpus;      /* list of names; NULL or empty = memory does not depend on it */
    bool of_usable; /* what the residual of the pool is relative to; else the planned pool */
    struct band_figure figures[BAND_FIGURES];
    size_t n;
};

/* The residuals of the engine at that version. false with nothing added to `d` when there are
 * none, false with DIAG_INPUT when they cannot be read. */
bool band_find(struct arena *a, const struct profiles *profiles, const char *engine,
               const char *version, struct diag *d, struct band_range *out);

/* Relative low and high of a figure by the rule above; false when there are too few models.
 * *stretch is what the range was multiplied by, 0 where quantiles were taken. */
bool band_relative(const struct band_figure *f, double *low, double *high, double *stretch);

/* Adds `band` to a report: {basis, measurements, memory: {per_gpu: {FIGURE: {low, high,
 * measurements, basis}}}, capacity: {...}}; without low and high where there is no measurement.
 * `ideal` has neither memory nor capacity. `profiles` may be NULL. */
void band_json(const struct problem *p, const struct plan *plan,
               const struct profiles *profiles, cJSON *to);

#endif
