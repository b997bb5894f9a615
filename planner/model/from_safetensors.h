/* The weights of a checkpoint by the headers of its safetensors files: exact bytes, next to the
 * shapes that its config.json gives. */
#ifndef KVBUDGET_PLANNER_MODEL_FROM_SAFETENSORS_H
#define KVBUDGET_PLANNER_MODEL_FROM_SAFETENSORS_H

#include "planner/base/ck.h"
#include "planner/doc/source.h"
#include "planner/model/model.h"

struct checkpoint {
    uint64_t stored_bytes; /* of all tensors in all files */
    uint64_t loaded_bytes; /* without what engines leave in the files */
    uint64_t mtp_bytes;    /* of that: multi-token-prediction layers */
    uint64_t tied_bytes;   /* an lm_head beside tied embeddings */
    uint64_t buffer_bytes; /* rotary frequencies and the like of old checkpoints */
    size_t n_files, n_tensors;
};

/* Reads model.safetensors.index.json and the headers of its files, or model.safetensors, or the
 * single file `file` (with its fellows, NAME-00001-of-0000N) where that is not NULL.
 * STORE_ABSENT: there are no such files, or not all of them (then a DIAG_WARN names the
 * missing one). */
enum store_answer checkpoint_read(struct arena *a, struct store *s, const char *file,
                                  const struct model *m, struct diag *d, struct checkpoint *out)
    __attribute__((warn_unused_result));

/* The same, laid over the model: where the headers and the weight table agree a note says so,
 * where they differ m->weights_bytes becomes what the headers say and the note has both
 * figures. *found: whether there were files. False after a DIAG_INPUT. */
bool model_weights_from_safetensors(struct arena *a, struct store *s, const char *file,
                                    struct diag *d, struct model *m, bool *found)
    __attribute__((warn_unused_result));

/* Bytes of all weights by the table of weights.h, one rank. */
uint64_t model_table_bytes(const struct model *m, struct ck *ck);

/* "NAME-00002-of-00005.EXT" -> N parts and the name of part i (1-based). False for other
 * names. */
bool shard_count(const char *file, uint32_t *n);
const char *shard_name(struct arena *a, const char *file, uint32_t i);

#endif
