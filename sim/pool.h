/* The memory of one replica, counted in units (sim/curve.h): pages of several kinds on each
 * pipeline stage, taken, grown by decoding and given back; with prefix caching also which
 * blocks hold what (sim/prefix.h). Sequences that decode grow together, a token a step, so the
 * pool keeps only how full their last pages are: what i further steps take is a sum over a
 * histogram, and no sequence is walked. What a sequence holds is kept by its owner
 * (sim/hold.h); taken - given back = units - free always. */
#ifndef KVBUDGET_SIM_POOL_H
#define KVBUDGET_SIM_POOL_H

#include "sim/prefix.h"
#include "sim/step.h"

struct pool_lane { /* a kind of page on a stage */
    uint32_t stage, kind;
    uint64_t block_tokens; /* 0 = a page a sequence */
    uint64_t page_units;
    uint64_t slope;   /* block_tokens 1: tokens all sequences add a step */
    uint64_t growing; /* sequences that add a token a step */
    uint32_t *tree;   /* Fenwick sums of them by where their page ends */
};

struct sim_pool {
    struct arena *arena;
    struct curve_store stores[STEP_STAGES];
    struct pool_lane *lanes;
    uint32_t n_lanes, n_stages;
    uint64_t units[STEP_STAGES];
    int64_t free_units[STEP_STAGES]; /* below 0 only until the next step is composed */
    uint64_t clock;                  /* decode steps so far */
    uint64_t ahead; /* 1: the pages of the step that is being composed are taken already */
    bool plain;     /* one kind that holds every token, the same on all stages: one lane */
    bool unlimited;
    bool caches; /* prefix caching; the pool is plain then */
    struct prefix prefix;
};

/* errors: DIAG_INPUT and DIAG_INFEASIBLE of curve_store_build. */
bool sim_pool_init(struct sim_pool *p, struct arena *a, const struct step_model *m,
                   bool unlimited, struct diag *d);
/* Switches prefix caching on; false where some tokens of a prompt are not kept in whole blocks
 * (windows, states, dropped tokens). */
bool sim_pool_cache(struct sim_pool *p);

uint64_t sim_pool_pages(const struct pool_lane *l, uint64_t tokens);

/* A sequence that holds `tokens` in a lane, now, begins (sign 1) or ends (-1) to grow by
 * `slope` tokens a step. */
void sim_pool_track(struct sim_pool *p, uint32_t lane, uint64_t tokens, uint64_t slope,
                    int sign);
/* Pages of a lane that `steps` steps from `clock` take, those taken ahead left out. */
uint64_t sim_pool_growth(const struct sim_pool *p, uint32_t lane, uint64_t steps);
/* Whether all stages have the pages for `steps` decode steps besides `more` units each. */
bool sim_pool_lasts(const struct sim_pool *p, uint64_t steps, const uint64_t *more);
/* Takes the pages of the next step. */
void sim_pool_step_ahead(struct sim_pool *p);
/* Takes what is missing for `steps` steps and moves the clock on. */
void sim_pool_advance(struct sim_pool *p, uint64_t steps);

void sim_pool_take(struct sim_pool *p, uint32_t lane, uint64_t pages);
void sim_pool_give(struct sim_pool *p, uint32_t lane, uint64_t pages);
/* After entries of the prefix cache were taken into use or left. */
void sim_pool_settle(struct sim_pool *p);

/* In use (cached blocks nobody uses are free) and all, of the fullest stage. */
uint64_t sim_pool_used(const struct sim_pool *p, uint64_t *units);
/* The same after `steps` further decode steps. */
uint64_t sim_pool_used_after(const struct sim_pool *p, uint64_t steps);

#endif
