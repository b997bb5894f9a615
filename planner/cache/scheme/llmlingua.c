/* llmlingua - listed so that its absence is explained: it shortens the prompt before the
 * model sees it. */
#include "planner/cache/scheme.h"

static const char *const names[] = {"llmlingua", NULL};

const struct scheme scheme_llmlingua = {
    .names = names,
    .summary = "drops prompt tokens by a small model's perplexity",
    .source = "arXiv:2310.05736",
    .axis = AXIS_RETENTION,
    .unsupported =
        "it shortens the prompt text, not the cache: plan with the shorter workload.prompt",
    .confidence = "unverified",
};
