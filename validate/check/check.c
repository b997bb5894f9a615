/* The registry of checks, and what a comparison comes to. */
#include "validate/check.h"

#include <math.h>
#include <stdarg.h>

#define ENTRY(id) extern const struct check check_##id;
#include "check.inc"
#undef ENTRY

static const struct check *const checks[] = {
#define ENTRY(id) &check_##id,
#include "check.inc"
#undef ENTRY
    NULL,
};

const struct check *check_at(size_t i)
{
    size_t before = 0;

    for (unsigned level = 0; level < N_LEVELS; level++)
        for (size_t at = 0; checks[at]; at++)
            if ((unsigned)checks[at]->level == level && before++ == i)
                return checks[at];
    return NULL;
}

static struct finding *add(struct findings *f, struct finding like)
{
    if (f->n == f->room) {
        f->room = f->room ? 2 * f->room : 64;
        f->list = arena_grow(f->arena, f->list, f->n, f->room, sizeof like);
    }
    like.reason = "";
    f->list[f->n] = like;
    return &f->list[f->n++];
}

static bool settle(struct finding *f, bool passed, const char *reason)
{
    f->verdict = passed ? VERDICT_PASSED : VERDICT_FAILED;
    f->reason = passed ? "" : reason;
    return passed;
}

bool finding_equal(struct findings *f, struct finding like, uint64_t predicted,
                   uint64_t measured)
{
    struct finding *x = add(f, like);
    bool more = measured > predicted;
    uint64_t apart = more ? measured - predicted : predicted - measured;

    x->predicted = (double)predicted;
    x->measured = (double)measured;
    return settle(x, !apart,
                  arena_printf(f->arena, "%llu %s %s than predicted", (unsigned long long)apart,
                               quantity_name(like.quantity), more ? "more" : "fewer"));
}

bool finding_within(struct findings *f, struct finding like, double predicted, double measured,
                    double tolerance)
{
    struct finding *x = add(f, like);

    x->predicted = predicted;
    x->measured = measured;
    x->tolerance = tolerance;
    return settle(
        x, isfinite(measured) && fabs(measured - predicted) <= tolerance * predicted,
        arena_printf(f->arena, "more than %.3g %% from what was predicted", 100 * tolerance));
}

void finding_waive(struct findings *f, struct finding like, const char *fmt, ...)
{
    struct finding *x = add(f, like);
    va_list ap;

    va_start(ap, fmt);
    x->verdict = VERDICT_WAIVED;
    x->reason = arena_vprintf(f->arena, fmt, ap);
    va_end(ap);
}

double finding_ratio(const struct finding *f)
{
    if (f->verdict == VERDICT_WAIVED)
        return -1;
    if (f->predicted > 0)
        return f->measured / f->predicted;
    return f->measured > 0 ? -1 : 1;
}

const char *level_name(enum level l)
{
    static const char *const names[N_LEVELS] = {"count", "fit", "clock", "counters"};

    return names[l];
}

const char *verdict_name(enum verdict v)
{
    static const char *const names[] = {"passed", "failed", "waived"};

    return names[v];
}

const char *summary_name(enum summary f)
{
    static const char *const names[N_SUMMARIES] = {"other", "decode_step", "prefill",
                                                   "max_batch"};

    return names[f];
}

const char *quantity_name(enum quantity f)
{
    static const char *const names[] = {"bytes", "flop", "tokens", "sequences", "seconds"};

    return names[f];
}
