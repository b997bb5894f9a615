/* The time of a series of steps: T(i), the time of its step i (0-based), is affine in i from
 * one place to the next, and S(i), the time of the first i steps, has a closed form. S(0) = 0,
 * and S(i) - S(i - 1) = T(i - 1) within rounding; both modes of the simulator take every time
 * from S. */
#ifndef KVBUDGET_SIM_STEP_LINE_H
#define KVBUDGET_SIM_STEP_LINE_H

#include <stdbool.h>
#include <stdint.h>

enum { STEP_PLACES = 544 };
#define STEP_FAR 1e15 /* steps that nobody runs */

struct step_side { /* seconds that are affine in the step */
    double s, slope_s;
};

struct step_line {
    struct {
        uint64_t from;
        double before_s;    /* S(from) */
        struct step_side t; /* T(i) = s + (i - from) * slope_s */
    } places[STEP_PLACES];
    uint32_t n_places;
};

double step_sum_s(const struct step_line *l, uint64_t i);
/* The fewest steps i >= 1 with S(i) >= s, at most `most`. */
uint64_t step_count(const struct step_line *l, double s, uint64_t most);

/* --- building: n_places = 0, put in order (0 first), raise, close ------------------------- */

/* T from step `from` on; s is T(from). Replaces a place at the same step. */
void step_line_put(struct step_line *l, uint64_t from, struct step_side t);
/* The longer of T and another line, of which s is its step 0. */
void step_line_raise(struct step_line *l, struct step_side other);
/* Adds what every step takes besides, and makes the sums. */
void step_line_close(struct step_line *l, double overhead_s);

/* Sets *a to the longer of a and b at step 0 (the steeper where equal), *later to the other,
 * and returns the first step at which that is the longer one; UINT64_MAX = never. */
uint64_t step_longer(struct step_side *a, struct step_side b, struct step_side *later);
/* The next whole number, for 0 <= x < STEP_FAR. */
uint64_t step_ceil(double x);

#endif
