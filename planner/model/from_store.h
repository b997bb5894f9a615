/* A model from where its files are: a folder, a snapshot of the hub's cache, the hub itself, or
 * one weight file. config.json gives the shapes and the headers of the weight files the bytes.
 */
#ifndef KVBUDGET_PLANNER_MODEL_FROM_STORE_H
#define KVBUDGET_PLANNER_MODEL_FROM_STORE_H

#include "planner/doc/source.h"
#include "planner/model/model.h"

/* config.json (with hf_quant_config.json beside it, where ModelOpt put one) and the safetensors
 * files; `file`: count this file, with its fellows, instead of those of the index. */
bool model_from_store(struct arena *a, struct store *s, const char *file, const char *name,
                      struct diag *d, struct model *out) __attribute__((warn_unused_result));

/* A folder: as above, or its one GGUF file where there is no config.json. `name` NULL: that of
 * the config's path, or the one in the GGUF file. */
bool model_from_folder(struct arena *a, const char *path, const char *name, struct diag *d,
                       struct model *out) __attribute__((warn_unused_result));

/* PATH.gguf, or PATH.safetensors with a config.json beside it. */
bool model_from_weights(struct arena *a, const char *path, const char *name, struct diag *d,
                        struct model *out) __attribute__((warn_unused_result));

/* Whether a path ends like one of these. */
bool is_weight_file(const char *path);

#endif
