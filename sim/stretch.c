/* Finding straight stretches: by doubling and bisection, or from the rule itself. */
#include "sim/stretch.h"

#include "planner/cache/keep.h"

enum { DOUBLINGS = 32, LOOKS = 5 };

static bool on_line(stretch_fn f, const void *of, const struct curve_point *p, uint64_t i)
{
    int64_t v[STRETCH_VALUES];

    f(of, i, v);
    for (int k = 0; k < STRETCH_VALUES; k++)
        if (v[k] != p[k].value + p[k].slope * (int64_t)i)
            return false;
    return true;
}

/* The first step off the line, if lo is on it and hi is not. */
static uint64_t first_off(stretch_fn f, const void *of, const struct curve_point *p,
                          uint64_t hi)
{
    uint64_t lo = 1;

    while (hi - lo > 1) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (on_line(f, of, p, mid))
            lo = mid;
        else
            hi = mid;
    }
    return hi;
}

uint64_t stretch_find(stretch_fn f, const void *of, uint64_t most,
                      struct curve_point points[STRETCH_VALUES])
{
    int64_t v[STRETCH_VALUES], next[STRETCH_VALUES];
    uint64_t end = 2;
    int doublings = 0;

    f(of, 0, v);
    f(of, 1, next);
    for (int k = 0; k < STRETCH_VALUES; k++)
        points[k] = (struct curve_point){v[k], next[k] - v[k]};
    while (doublings < DOUBLINGS && end < most && on_line(f, of, points, end)) {
        end *= 2;
        doublings++;
    }
    if (doublings == DOUBLINGS)
        return most;
    if (end < most)
        end = first_off(f, of, points, end);
    else if (most > 2 && !on_line(f, of, points, most - 1))
        end = first_off(f, of, points, most - 1);
    for (uint64_t k = 1; k < LOOKS; k++) {
        uint64_t look = end / LOOKS * k;
        if (look > 1 && !on_line(f, of, points, look))
            end = first_off(f, of, points, look);
    }
    return u64_min(end, most);
}

struct stretch stretch_clipped(uint64_t first, uint64_t limit)
{
    if (first >= limit)
        return (struct stretch){{(int64_t)limit, 0}, CURVE_FOREVER};
    return (struct stretch){{(int64_t)first, 1},
                            limit == UINT64_MAX ? CURVE_FOREVER : limit - first + 1};
}

enum stretch_rule stretch_rule(const struct keep *k)
{
    if (!k->decode)
        return STRETCH_GROWS;
    return k->decode == keep_cap_decode && k->prompt == keep_cap_prompt ? STRETCH_CAPPED
                                                                        : STRETCH_ASKED;
}

uint64_t stretch_prompt(const struct keep *k, uint64_t n)
{
    return k->prompt && n ? k->prompt(k, n) : n;
}

bool stretch_even_bytes(const struct cache_row *r)
{
    return r->k_format.residual == RESIDUAL_NONE && r->v_format.residual == RESIDUAL_NONE &&
           !r->k_format.token_group && !r->v_format.token_group && !r->k_narrow_dim;
}
