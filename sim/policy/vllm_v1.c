/* vLLM since 0.8 (the V1 engine): decodes first, prompts cut to what is left of the step's
 * tokens; on shortage the last admitted starts over, from the front of the queue. */
#include "sim/policy/policy.h"

const struct policy policy_vllm_v1 = {
    .name = "vllm-v1",
    .summary = "continuous batching with chunked prefill, preemption by recompute",
    .source = "vllm-project/vllm vllm/v1/core/sched/scheduler.py 0.19.0",
    .chunked = true,
    .mixed = true,
};
