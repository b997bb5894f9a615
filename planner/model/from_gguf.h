/* A GGUF file as a model: shapes from its metadata and its tensor table, weight bytes exactly
 * as they lie in the file. */
#ifndef KVBUDGET_PLANNER_MODEL_FROM_GGUF_H
#define KVBUDGET_PLANNER_MODEL_FROM_GGUF_H

#include "planner/doc/gguf.h"
#include "planner/model/model.h"

/* A ggml type by its id: the block and how kvbudget calls it as a weight format (NULL for
 * formats that are none: whole numbers, f64). False for retired and unknown ids. */
struct ggml_type {
    uint32_t id;
    const char *name;
    uint32_t block_elems, block_bytes;
    const struct weight_format *format;
};
bool ggml_type_find(uint32_t id, struct ggml_type *out);

/* All parts of a model together. */
struct gguf_model {
    struct gguf *parts; /* [n_parts]; the metadata is in the first */
    size_t n_parts;
    const struct gguf_tensor **tensors; /* of all parts, sorted by name */
    size_t n_tensors;
    uint64_t weights_bytes; /* sum over tensors, without padding */
};

/* Reads `file` of a store and, for NAME-00001-of-0000N.gguf, its other parts. Checks what needs
 * the types: known ids, whole rows of blocks, every tensor where the ones before it end, and
 * within the file. */
bool gguf_open_model(struct arena *a, struct store *s, const char *file, struct diag *d,
                     struct gguf_model *out) __attribute__((warn_unused_result));

/* The model of it. What the tensors hold beyond the parts that are known here is counted as
 * other parameters, so that the sum is that of the file. Refused, with the reason: projectors,
 * adapters, encoders, and architectures whose cache is not known here.
 * source: llama.cpp src/llama-arch.cpp, llama-model.cpp, llama-hparams.cpp as vendored in
 * ggml-org/whisper.cpp 4834a2327. */
bool model_from_gguf(struct arena *a, struct store *s, const char *file, struct diag *d,
                     struct model *out) __attribute__((warn_unused_result));

#endif
