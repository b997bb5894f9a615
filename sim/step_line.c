/* Sums of stretches of an affine function. */
#include "sim/step_line.h"

#include <math.h>

uint64_t step_ceil(double x)
{
    uint64_t n = (uint64_t)x;

    return n + ((double)n < x);
}

uint64_t step_longer(struct step_side *a, struct step_side b, struct step_side *later)
{
    double at;

    *later = b;
    if (b.s > a->s || (b.s == a->s && b.slope_s > a->slope_s)) {
        *later = *a;
        *a = b;
    }
    if (later->slope_s <= a->slope_s)
        return UINT64_MAX;
    at = (a->s - later->s) / (later->slope_s - a->slope_s);
    return at < STEP_FAR ? (uint64_t)at + 1 : UINT64_MAX;
}

/* --- building ------------------------------------------------------------------------------
 */

void step_line_put(struct step_line *l, uint64_t from, struct step_side t)
{
    uint32_t i = l->n_places;

    if (i && l->places[i - 1].from == from)
        i--;
    l->places[i].from = from;
    l->places[i].t = t;
    l->n_places = i + 1;
}

void step_line_raise(struct step_line *l, struct step_side other)
{
    struct step_line all = *l;

    l->n_places = 0;
    for (uint32_t i = 0; i < all.n_places; i++) {
        uint64_t from = all.places[i].from, turn;
        struct step_side t = all.places[i].t, later;
        struct step_side here = {other.s + other.slope_s * (double)from, other.slope_s};
        bool ends = i + 1 < all.n_places;
        turn = step_longer(&t, here, &later);
        step_line_put(l, from, t);
        if (turn == UINT64_MAX || (ends && turn >= all.places[i + 1].from - from))
            continue;
        later.s += later.slope_s * (double)turn;
        step_line_put(l, from + turn, later);
    }
}

static double place_sum_s(const struct step_line *l, uint32_t at, uint64_t steps)
{
    double n = (double)steps;

    return l->places[at].before_s + n * l->places[at].t.s +
           l->places[at].t.slope_s * (n * (n - 1) / 2);
}

void step_line_close(struct step_line *l, double overhead_s)
{
    for (uint32_t i = 0; i < l->n_places; i++) {
        l->places[i].t.s += overhead_s;
        l->places[i].before_s =
            i ? place_sum_s(l, i - 1, l->places[i].from - l->places[i - 1].from) : 0;
    }
}

/* --- asking --------------------------------------------------------------------------------
 */

double step_sum_s(const struct step_line *l, uint64_t i)
{
    uint32_t at = l->n_places - 1;

    while (at && l->places[at].from > i)
        at--;
    return place_sum_s(l, at, i - l->places[at].from);
}

/* About how many steps of a place take `s` seconds. */
static uint64_t guess_steps(struct step_side t, double s)
{
    double b = t.s - t.slope_s / 2, root = b * b + 2 * t.slope_s * s, n = 1;

    if (root > 0 && b + sqrt(root) > 0)
        n = 2 * s / (b + sqrt(root));
    return n < STEP_FAR ? step_ceil(n) : (uint64_t)STEP_FAR;
}

uint64_t step_count(const struct step_line *l, double s, uint64_t most)
{
    uint32_t at = l->n_places - 1;
    uint64_t lo = 1, hi = most, guess;

    while (at && l->places[at].before_s >= s)
        at--;
    guess = l->places[at].from + guess_steps(l->places[at].t, s - l->places[at].before_s);
    guess = guess < 1 ? 1 : guess < most ? guess : most;
    if (step_sum_s(l, guess) >= s)
        hi = guess;
    else if (guess < most)
        lo = guess + 1;
    if (hi > 1 && hi > lo && step_sum_s(l, hi - 1) < s)
        return hi;
    while (lo < hi) { /* rounding, or a series that falls */
        uint64_t mid = lo + (hi - lo) / 2;
        if (step_sum_s(l, mid) >= s)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}
