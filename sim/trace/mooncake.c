/* Mooncake's traces: JSON lines with the hashes of the prompt's blocks of 512 tokens. Times are
 * whole milliseconds, and many requests share one. */
#include "sim/trace/format.h"

const struct trace_format trace_mooncake = {
    .name = "mooncake",
    .summary =
        "JSON lines: timestamp (ms), input_length, output_length, hash_ids of 512 tokens",
    .source = "kvcache-ai/Mooncake FAST25-release/traces/*.jsonl",
    .note = "requests with one timestamp arrive together, as in the file",
    .json = true,
    .names = {"timestamp", "input_length", "output_length", "hash_ids"},
    .per_s = 1000,
    .hash_tokens = 512,
};
