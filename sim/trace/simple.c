/* Our own: CSV with a header that has these three columns; what --requests writes is one. */
#include "sim/trace/format.h"

const struct trace_format trace_simple = {
    .name = "simple",
    .summary = "CSV: arrival_s, prompt_tokens, output_tokens",
    .source = "kvbudget sim --requests",
    .names = {"arrival_s", "prompt_tokens", "output_tokens", NULL},
    .per_s = 1,
};
