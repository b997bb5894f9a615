/* The weight table: every tensor of a model as {part, out x in, copies}. Parameter counts,
 * bytes under any format, matmul FLOPs and shards are sums over it; no other file counts a
 * weight. */
#ifndef KVBUDGET_PLANNER_MODEL_WEIGHTS_H
#define KVBUDGET_PLANNER_MODEL_WEIGHTS_H

#include "planner/base/ck.h"
#include "planner/model/model.h"

enum part {
    PART_EMBED,    /* token embedding (a gather, not a product) */
    PART_POSITION, /* learned positions, per-layer embedding tables: gathers */
    PART_HEAD,     /* lm_head; a tied one has bytes 0 but multiplies all the same */
    PART_Q,
    PART_K,
    PART_V,
    PART_O,
    PART_LATENT, /* MLA down and up projections */
    PART_INDEXER,
    PART_STATE, /* recurrent mixer */
    PART_MLP,
    PART_ROUTER,
    PART_EXPERT,
    PART_SHARED, /* shared experts */
    PART_NORM,   /* norms, scalars */
    PART_OTHER,  /* other matrices used once a token */
    PART_VISION,
    N_PARTS
};

/* How tensor parallelism cuts a tensor. */
enum split {
    SPLIT_NONE,   /* every rank holds a copy */
    SPLIT_OUT,    /* by output rows (column parallel) */
    SPLIT_IN,     /* by input columns (row parallel) */
    SPLIT_KV,     /* by K/V heads: at least one head a rank, so replicated beyond kv_heads */
    SPLIT_EXPERT, /* by expert under expert parallelism, else like an MLP */
    SPLIT_VOCAB   /* by vocabulary rows, padded to 64 a rank by engines; exact here */
};

struct tensor {
    enum part part;
    const char *name; /* as in checkpoints: "self_attn.q_proj"; static text */
    uint64_t out, in; /* a matrix [out][in]; a vector has in = 1 and vector = true */
    uint64_t copies;  /* experts */
    uint64_t active;  /* copies one token multiplies; 0 = a gather or no product */
    enum split split;
    bool vector;     /* norm weights, biases: never quantized, no matmul FLOPs */
    bool tied;       /* shares its storage with the embedding: no bytes, no parameters */
    bool plain;      /* a small matrix quantizers leave alone: stays in the model's dtype */
    bool absorbed;   /* MLA's up-projection: a step multiplies it head by head, in two halves */
    bool idle;       /* stored and never read: of layers that read another layer's K/V */
    bool by_columns; /* SPLIT_EXPERT without expert parallelism: cut by input columns (down),
                        else by rows */
};

enum { LAYER_TENSORS_MAX = 48, MODEL_TENSORS_MAX = 12 };

/* Tensors of one layer. `owns_kv` false: no k/v projections, biases or k norm (a layer whose
 * K/V nobody reads). Returns how many were written to out[LAYER_TENSORS_MAX]. source: facts per
 * family, checked against published safetensors totals (tests/unit/models.c). */
size_t weights_layer(const struct model *m, const struct layer *l, bool owns_kv,
                     struct tensor *out);

/* Tensors outside the layers: embedding, positions, final norm, head, vision. */
size_t weights_outside(const struct model *m, struct tensor *out);

struct param_count {
    uint64_t total;  /* all parameters, vision included */
    uint64_t active; /* one token touches, embedding table included */
    uint64_t matmul; /* active without an untied input embedding and other gathers */
    uint64_t by_part[N_PARTS];
};

/* Counts of a whole model; owns_kv[i] (NULL: by attn.kv_source) says which layers compute K/V.
 */
void weights_count(const struct model *m, const bool *owns_kv, struct param_count *out,
                   struct ck *ck);

/* Bytes of one tensor on one rank of `tp` (tensor parallel) and `ep` (expert parallel, 1 =
 * experts cut like an MLP). `rank_max` is the largest rank; sums over ranks are at least the
 * whole and exact when divisible. */
struct shard {
    uint32_t tp, ep;
    uint32_t kv_heads; /* for SPLIT_KV */
};
uint64_t weights_tensor_bytes(const struct tensor *t, const struct weight_format *f,
                              struct shard s, struct ck *ck);

/* The format a tensor of layer `layer` (-1: outside) is stored in: what the checkpoint or spec
 * says. `asked` NULL = as the checkpoint says; else the named format for the quantizable parts.
 */
const struct weight_format *weights_format_of(const struct model *m, const struct tensor *t,
                                              int layer, const struct weight_format *asked);

/* Whether elements stand alone, in 16 or 32 bits, so that any library multiplies them. */
bool weights_format_plain(const struct weight_format *f);

const char *part_name(enum part p);

#endif
