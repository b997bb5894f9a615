/* Parameters of vision towers whose shape is known in full: every matrix, bias and norm, the
 * projector to the text model included. */
#ifndef KVBUDGET_PLANNER_MODEL_VISION_H
#define KVBUDGET_PLANNER_MODEL_VISION_H

#include "planner/doc/doc.h"

/* Counts the tower of a `vision_config` for a text model of `hidden`, which goes by
 * `model_type` where the tower names no type; 0 = a tower whose tensors are not known here, or
 * a config without the keys that decide them. qwen3_vl, qwen3_5: patch embedding, learned
 * positions, blocks, merger, deepstack mergers siglip (Gemma 3):  patch embedding, positions,
 * blocks, final norm, projection with its norm llama4:            patch embedding, class token,
 * positions, blocks, pixel-shuffle MLP, projector source: modules of the transformers models of
 * these names; checked against differences of published totals to the text model: Qwen3.5
 * (437,132,016 + 4609 x hidden), gemma-3-27b (423,060,336), Llama-4-Maverick (871,932,416). The
 * deepstack mergers of Qwen3-VL are unverified. */
uint64_t vision_params(const struct doc_node *vision, const char *model_type, uint32_t hidden);

#endif
