/* Reading keys and shapes of a GGUF model by the names llama.cpp gives them. Private to
 * planner/model. */
#ifndef KVBUDGET_PLANNER_MODEL_GGUF_READ_H
#define KVBUDGET_PLANNER_MODEL_GGUF_READ_H

#include "planner/model/from_gguf.h"
#include "planner/model/gguf_arch.h"

struct gguf_reader {
    struct arena *a;
    struct diag *d;
    struct loc at;
    const struct gguf_model *g;
    const char *arch_name;
    const struct gguf_arch *arch; /* never NULL */
    struct model *m;
    bool ok; /* sticky */
};

enum { GGUF_NUMBER_MAX = 1 << 24 };

/* The key "ARCH.name" of layer i: a scalar holds for all of them. A value above
 * GGUF_NUMBER_MAX, or of another type, is refused. */
uint32_t gguf_number(struct gguf_reader *r, const char *name, uint32_t i, uint32_t fallback);
bool gguf_has(struct gguf_reader *r, const char *name);

/* The tensor "blk.I.NAME" (i < 0: "NAME"), or NULL. */
const struct gguf_tensor *gguf_tensor(struct gguf_reader *r, int64_t i, const char *name);
/* A dimension of it, 0 when there is no such tensor; above GGUF_NUMBER_MAX: refused. */
uint32_t gguf_dim(struct gguf_reader *r, int64_t i, const char *name, size_t dim);

/* What one layer is made of, and the layers whose K/V others read. */
void gguf_read_layer(struct gguf_reader *r, uint32_t i);
void gguf_share_kv(struct gguf_reader *r);

#endif
