/* LLMServingSim's workloads: JSON lines with nanoseconds; the token ids they carry are skipped.
 */
#include "sim/trace/format.h"

const struct trace_format trace_llmservingsim = {
    .name = "llmservingsim",
    .summary = "JSON lines: arrival_time_ns, input_toks, output_toks",
    .source = "casys-kaist/LLMServingSim workloads/*.jsonl",
    .json = true,
    .names = {"arrival_time_ns", "input_toks", "output_toks", NULL},
    .per_s = 1e9,
};
