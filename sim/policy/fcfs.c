/* vLLM before 0.8 (the V0 engine) without chunked prefill: a step runs whole prompts or
 * decodes, prompts first; 1 % of the blocks stay free at admission; on shortage the last
 * admitted starts over. */
#include "sim/policy/policy.h"

const struct policy policy_fcfs = {
    .name = "fcfs",
    .summary = "whole prompts before decodes, preemption by recompute",
    .source = "vllm-project/vllm vllm/core/scheduler.py (_schedule_default) 0.6.4",
    .watermark = 0.01,
};
