/* The keys of the inline form as one table: what inline.c reads and write.c prints. Each slot
 * is a field of the binder plus the place in struct raw_layer or struct model that it stands
 * for. Private to planner/model. */
#ifndef KVBUDGET_PLANNER_MODEL_INLINE_H
#define KVBUDGET_PLANNER_MODEL_INLINE_H

#include "planner/doc/bind.h"
#include "planner/model/model.h"

/* A layer as written: what follows from other keys is still 0 (v_head_dim, kv_heads), and a
 * mixture layer says whether its dense MLP stands beside the experts or belongs to the other
 * layers. */
struct raw_layer {
    struct layer l;
    bool beside_dense;
};

enum slot_kind { SLOT_U32, SLOT_U64, SLOT_BOOL, SLOT_ENUM, SLOT_TEXT };

struct slot {
    struct field field; /* .offset unused */
    enum slot_kind kind;
    size_t at; /* in struct raw_layer or struct model */
};

enum slot_group {
    SLOTS_MODEL,
    SLOTS_LAYER,
    SLOTS_MLA,
    SLOTS_INDEXER,
    SLOTS_SSM,
    SLOTS_MOE,
    N_SLOT_GROUPS
};
enum { SLOTS_MAX = 64 };

const struct slot *slots_of(enum slot_group g, size_t *n);
const char *
slots_key(enum slot_group g); /* "mla": the key that holds the group; NULL for the first two */

uint64_t slot_get(const struct slot *s, const void *base); /* not for SLOT_TEXT */
void slot_set(const struct slot *s, void *base, uint64_t v);

/* A model before any key: gated MLP, two RMS norms a layer, untied, bf16. */
struct model inline_model(void);
struct raw_layer inline_layer(void);

/* Whether the layer has what the group describes (latent ranks, an indexer, a state, experts).
 */
bool raw_has(const struct raw_layer *r, enum slot_group g);
/* Undoes what layer_settle derives. */
struct raw_layer raw_of(const struct layer *l);

/* Whether two layers agree in every key (kv_source is none). */
bool raw_same(const struct raw_layer *a, const struct raw_layer *b);

/* Fills in what follows from other fields and clears what does not apply, so that equal layers
 * compare equal. */
void layer_settle(struct layer *l, uint32_t hidden, uint32_t index);

/* The mixer whose name this is; false when it is none. */
bool mixer_find(const char *name, enum mixer *out);

/* "qkvo" letters of the projections with a bias; buf holds 5. */
const char *bias_letters(const struct attention *a, char *buf);

#endif
