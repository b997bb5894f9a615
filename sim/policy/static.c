/* A batch is formed when the one before has ended, of as many waiting requests as fit to their
 * end; their prompts run in one step. Sequences that end early leave their place empty. Padding
 * is not modelled. */
#include "sim/policy/policy.h"

const struct policy policy_static = {
    .name = "static",
    .summary = "a batch runs until all of it is done, then the next is formed",
    .source = "NVIDIA/TensorRT-LLM cpp/tensorrt_llm/batch_manager/capacityScheduler.cpp "
              "(StaticBatchScheduler) 1.0",
    .reserve = true,
    .batch = true,
};
