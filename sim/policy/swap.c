/* vLLM V0 with --preemption-mode swap: on shortage the last admitted moves to host memory over
 * the host link, and comes back, first gone first, before any new prompt is admitted. Where the
 * host is full it starts over. */
#include "sim/policy/policy.h"

const struct policy policy_swap = {
    .name = "swap",
    .summary = "whole prompts before decodes, preemption by swapping to host memory",
    .source = "vllm-project/vllm vllm/core/scheduler.py (PreemptionMode.SWAP) 0.6.4",
    .swap = true,
    .watermark = 0.01,
};
