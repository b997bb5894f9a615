/* vidur's processed traces: CSV with arrivals in seconds. */
#include "sim/trace/format.h"

const struct trace_format trace_vidur = {
    .name = "vidur",
    .summary = "CSV: arrived_at (s), num_prefill_tokens, num_decode_tokens",
    .source = "microsoft/vidur data/processed_traces/*.csv",
    .names = {"arrived_at", "num_prefill_tokens", "num_decode_tokens", NULL},
    .per_s = 1,
};
