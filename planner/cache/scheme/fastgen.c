/* fastgen - listed so that its absence is explained: the authors' repository has no code. */
#include "planner/cache/scheme.h"

static const char *const names[] = {"fastgen", NULL};

const struct scheme scheme_fastgen = {
    .names = names,
    .summary = "a policy a head, the cheapest that recovers the attention",
    .source = "arXiv:2310.01801; machilusZ/FastGen@fb707b6 (no code)",
    .axis = AXIS_RETENTION,
    .unsupported =
        "which policy a head gets depends on the data, and no code or profile is published",
    .confidence = "unverified",
};
