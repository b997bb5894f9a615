/* Straight stretches of whole-number functions of the decode step, shared by sim/curve.c (what
 * is read) and sim/curve_store.c (what is held). */
#ifndef KVBUDGET_SIM_STRETCH_H
#define KVBUDGET_SIM_STRETCH_H

#include "sim/curve.h"

enum { STRETCH_VALUES = 2 };

/* Values at step i of a function to be cut into pieces. */
typedef void (*stretch_fn)(const void *of, uint64_t i, int64_t values[STRETCH_VALUES]);

/* The longest stretch from step 0, at most `most` steps, on which all values are affine in the
 * step: sets points and returns its steps (at least 2 if `most` is; `most` past 2^32).
 * Doubling, then bisection, then a look at points between and at the last; a function that
 * leaves a line and is back on it at all of these would deceive it (none of the planner's does:
 * tests/unit/sim_curve.c compares every scheme step by step). */
uint64_t stretch_find(stretch_fn f, const void *of, uint64_t most,
                      struct curve_point points[STRETCH_VALUES]);

/* min(first + i, limit) */
struct stretch {
    struct curve_point at;
    uint64_t steps;
};
struct stretch stretch_clipped(uint64_t first, uint64_t limit);

/* How the tokens that a retention rule leaves follow from the decode. */
enum stretch_rule {
    STRETCH_GROWS,  /* what is left of the prompt, and one a step */
    STRETCH_CAPPED, /* min(prompt + decoded, keep.fixed) */
    STRETCH_ASKED   /* the rule must be asked at every step */
};
enum stretch_rule stretch_rule(const struct keep *k);

/* Bytes are a fixed number a token: no residual window, scales of token groups or narrow keys.
 */
bool stretch_even_bytes(const struct cache_row *r);

/* Tokens left of a prompt of n before any is decoded, windows aside. */
uint64_t stretch_prompt(const struct keep *k, uint64_t n);

#endif
