/* A model family: one file that turns the config.json of some model types into a struct model.
 * The registry is generated from the folder listing. Readers are short: they call the shared
 * ones of family/family.c, which keep a sticky `ok` and report every problem, and then set what
 * is particular. */
#ifndef KVBUDGET_PLANNER_MODEL_FAMILY_H
#define KVBUDGET_PLANNER_MODEL_FAMILY_H

#include "planner/model/model.h"

/* The config being read. `text` is the decoder's map: text_config of multimodal models, else
 * the root. */
struct config_default {
    const char *key; /* as the first alternative spells it */
    uint32_t value;
};
struct config {
    struct arena *a;
    const struct doc_node *root, *text;
    struct diag *d;
    const struct config_default
        *defaults; /* the class's values for absent keys, {NULL, 0} last; may be NULL */
    bool ok;       /* false after the first error; reading goes on so that all are reported */
};

struct family {
    const char *name;               /* as the file */
    const char *const *model_types; /* NULL-terminated */
    const char *summary, *source;
    void (*read)(struct config *c, struct model *m); /* failures through config_error */
    const char *const
        *refuses; /* set: the types are known but cannot be modelled; why, type by type */
};

extern const struct family *const families[]; /* NULL-terminated */

/* The family that reads this model_type, or NULL. */
const struct family *family_find(const char *model_type);

/* Keys may name alternatives, "n_embd|hidden_size": the first present and not null counts. */
const struct doc_node *config_find(const struct config *c, const char *keys);
bool config_has(const struct config *c, const char *keys);
uint32_t config_u32(struct config *c, const char *keys, uint32_t fallback); /* 0 and up */
uint32_t config_need(struct config *c, const char *keys); /* 1 and up, required */
bool config_bool(struct config *c, const char *keys, bool fallback);
uint32_t config_cap(struct config *c, const char *keys, uint32_t fallback); /* "50.0" */
const char *config_text(struct config *c, const char *keys, const char *fallback);
/* Item i of a list under `keys`; NULL when absent, no list or too short. */
const struct doc_node *config_item(const struct config *c, const char *keys, uint32_t i);
void config_error(struct config *c, const struct doc_node *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void config_note(struct config *c, const struct doc_node *at, enum diag_kind kind,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Layers, hidden size, vocabulary, context, tie flag (the family's default is what *m holds),
 * dtype; allocates the layers, zeroed but for kv_source. False when nothing more can be read.
 */
bool family_read_size(struct config *c, struct model *m);

/* Sets every layer to full attention from the usual keys (heads, kv heads, head_dim) with the
 * usual fallbacks. */
void family_read_attention(struct config *c, struct model *m);

/* The decoder most families vary: family_read_size, attention, a gated MLP of
 * intermediate_size, two RMS norms a layer, no biases but attention_bias and mlp_bias. */
bool family_read_llama_like(struct config *c, struct model *m);

void family_set_bias(struct model *m,
                     const char *letters); /* of "qkvo", on every attention layer */
void family_set_qk_norm(struct model *m, enum qk_norm n);
void family_set_norms(struct model *m, uint32_t a_layer);
void family_set_mlp(struct model *m, bool gated, bool bias);

/* Windows by `layer_types` where the config has it; else every `period`-th layer (1-based) is
 * full and the others slide, period 0: all slide, 1: none. `window` 0 = no window at all. */
void family_read_windows(struct config *c, struct model *m, uint32_t window, uint32_t period);

/* Mixture of experts on layers from `first` on, every `step`-th; the other layers stay dense.
 */
struct family_moe {
    uint32_t experts, top_k, intermediate, shared;
    uint32_t first, step, offset; /* layer i: i >= first and i % step == offset */
    bool router_bias, shared_gate;
};
void family_set_moe(struct model *m, const struct family_moe *moe);

/* Multi-head latent attention on every attention layer: q_lora_rank, kv_lora_rank,
 * qk_nope_head_dim, qk_rope_head_dim, v_head_dim; and the indexer where index_head_dim is
 * there. */
void family_read_latent(struct config *c, struct model *m);

/* The last `shared` layers read the K/V of the last earlier layer of their mixer. */
void family_share_last(struct config *c, struct model *m, uint32_t shared);

/* Notes a vision or audio tower that is not counted, or counts it where the shape is known. */
void family_read_vision(struct config *c, struct model *m);

#endif
