/* BurstGPT: CSV with whole seconds; requests that failed have no response tokens. */
#include "sim/trace/format.h"

const struct trace_format trace_burstgpt = {
    .name = "burstgpt",
    .summary = "CSV: Timestamp (s), Request tokens, Response tokens",
    .source = "HPMLL/BurstGPT data/BurstGPT_1.csv",
    .note = "times are whole seconds: requests of one second arrive together",
    .zero = "they failed",
    .names = {"Timestamp", "Request tokens", "Response tokens", NULL},
    .per_s = 1,
};
