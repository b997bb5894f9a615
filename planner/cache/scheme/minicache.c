/* minicache - listed so that its absence is explained: its repository holds a project page
 * only. */
#include "planner/cache/scheme.h"

static const char *const names[] = {"minicache", NULL};

const struct scheme scheme_minicache = {
    .names = names,
    .summary = "merges the caches of adjacent layers from mid-depth",
    .source = "arXiv:2405.14366; AkideLiu/MiniCache@f1bacca (project page only)",
    .axis = AXIS_RETENTION,
    .unsupported = "how many tokens stay unmerged depends on thresholds that are not published",
    .confidence = "unverified",
};
