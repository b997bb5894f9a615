/* scissorhands - listed so that its absence is explained: the authors' repository has no
 * eviction code. */
#include "planner/cache/scheme.h"

static const char *const names[] = {"scissorhands", NULL};

const struct scheme scheme_scissorhands = {
    .names = names,
    .summary = "keeps tokens that were important before, a budget a head",
    .source = "arXiv:2305.17118; lzcemma/Scissorhands@d0bf444 (no eviction code)",
    .axis = AXIS_RETENTION,
    .unsupported = "its budgets are not published as code; h2o is the nearest rule that is",
    .confidence = "unverified",
};
