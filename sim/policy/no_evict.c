/* TensorRT-LLM's default, GUARANTEED_NO_EVICT, with in-flight batching: a request is admitted
 * when everything admitted fits to its end; whole prompts join the step of the decodes. */
#include "sim/policy/policy.h"

const struct policy policy_no_evict = {
    .name = "no-evict",
    .summary = "in-flight batching of whole prompts, admitted only when they fit to their end",
    .source = "NVIDIA/TensorRT-LLM cpp/tensorrt_llm/batch_manager/capacityScheduler.cpp "
              "(GuaranteedNoEvictScheduler) 1.0",
    .mixed = true,
    .reserve = true,
};
