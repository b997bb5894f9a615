/* The header of a GGUF file: metadata and tensor list as plain structs, never the tensor data.
 * What the types are called and how large their blocks are is not known here.
 *
 * source: ggml gguf.h and gguf.cpp as vendored in ggml-org/whisper.cpp 4834a2327. */
#ifndef KVBUDGET_PLANNER_DOC_GGUF_H
#define KVBUDGET_PLANNER_DOC_GGUF_H

#include "planner/doc/source.h"

enum {
    GGUF_HEADER_MAX = 64 << 20, /* bytes read at most */
    GGUF_DIMS_MAX = 4,
    GGUF_NAME_MAX = 4096,  /* bytes of a key or tensor name */
    GGUF_TEXT_MAX = 1024,  /* longer values are passed over */
    GGUF_ITEMS_MAX = 4096, /* longer lists are counted, not kept */
    GGUF_PAIRS_MAX = 1 << 16,
    GGUF_TENSORS_MAX = 1 << 20
};

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_N_TYPES
};

struct gguf_pair {
    const char *key;
    enum gguf_type type; /* of the value, or of the items of a list */
    bool list;
    uint64_t n; /* items; 1 for a scalar */
    /* Numbers of whole types and bools, negative ones as their two's complement; NULL for other
     * types and for lists of more than GGUF_ITEMS_MAX items. */
    const uint64_t *items;
    const char *text; /* a string of at most GGUF_TEXT_MAX printable bytes, else NULL */
};

struct gguf_tensor {
    const char *name;
    uint32_t n_dims;
    uint64_t dims[GGUF_DIMS_MAX]; /* [0] is the contiguous one; unused ones are 1 */
    uint64_t n_elems;
    uint32_t type;   /* ggml type id, as written */
    uint64_t offset; /* from data_at */
};

struct gguf {
    const char *name;
    uint32_t version;
    struct gguf_pair *pairs; /* sorted by key */
    size_t n_pairs;
    struct gguf_tensor *tensors; /* in file order */
    size_t n_tensors;
    uint64_t alignment;
    uint64_t data_at; /* where the data section starts */
    uint64_t size_bytes;
};

/* Reads the header. Everything a hostile file can claim is held against the file: counts and
 * lengths against what is left of it, names against each other, dims against overflow. Each
 * refusal is one DIAG_INPUT. */
bool gguf_read(struct arena *a, struct source *s, struct diag *d, struct gguf *out)
    __attribute__((warn_unused_result));

/* NULL when there is none. */
const struct gguf_pair *gguf_find(const struct gguf *g, const char *key);

#endif
