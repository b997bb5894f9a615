/* The header of a safetensors file and the index of a checkpoint in several files, as plain
 * structs; never the tensor data. The headers of large checkpoints are tens of megabytes of
 * JSON of one fixed shape, so they are read by a scanner of their own, without a tree.
 *
 * source: huggingface/safetensors 24b0b28 (README.md, safetensors/src/tensor.rs). */
#ifndef KVBUDGET_PLANNER_DOC_SAFETENSORS_H
#define KVBUDGET_PLANNER_DOC_SAFETENSORS_H

#include "planner/doc/source.h"

enum {
    SAFETENSORS_HEADER_MAX = 100000000,
    SAFETENSORS_INDEX_MAX = 64 << 20,
    SAFETENSORS_DIMS_MAX = 16,
    SAFETENSORS_FILES_MAX = 1024
};

struct safetensor {
    const char *name;
    const char *dtype; /* "BF16"; static text */
    uint32_t bits;     /* of an element */
    uint64_t n_elems;
    uint64_t begin, end; /* from the start of the data */
};

struct safetensors {
    struct safetensor *v; /* by place in the file */
    size_t n;
    uint64_t data_bytes; /* of all tensors */
};

/* Reads and checks the header: known dtypes, sizes that agree with shapes, and ranges that
 * cover the data of the file without gap or overlap. Each refusal is one DIAG_INPUT. */
bool safetensors_read(struct arena *a, struct source *s, struct diag *d,
                      struct safetensors *out) __attribute__((warn_unused_result));

struct safetensors_index {
    const char **files; /* each once, in order of first mention */
    size_t n_files;
    size_t n_tensors;
    uint64_t total_bytes; /* as it says, which is sometimes wrong; 0 = it does not */
};

/* model.safetensors.index.json. A file name with a '/' or a leading '.' is refused: the files
 * of a checkpoint stand beside its index. */
bool safetensors_read_index(struct arena *a, const char *name, const char *text, size_t n,
                            struct diag *d, struct safetensors_index *out)
    __attribute__((warn_unused_result));

#endif
