/* A decoder model as plain data: what every layer is made of. Families (one file each) turn a
 * config.json into this; the inline form of a spec and the YAML profiles are this, field by
 * field. Parameters, bytes, FLOPs and shards are all taken from one list, the tensors
 * (weights.h). Nothing here knows of caches. */
#ifndef KVBUDGET_PLANNER_MODEL_MODEL_H
#define KVBUDGET_PLANNER_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "planner/base/diag.h"
#include "planner/doc/doc.h"
#include "planner/model/quant.h"

enum { MODEL_LAYERS_MAX = 4096 };

/* How a layer mixes tokens by attention. */
enum mixer {
    MIXER_NONE,    /* no attention in this layer */
    MIXER_FULL,    /* causal, unbounded */
    MIXER_SLIDING, /* the last window_tokens */
    MIXER_CHUNKED, /* the current chunk of window_tokens (Llama 4) */
    MIXER_LATENT   /* MLA: one latent a token, causal, unbounded */
};

enum qk_norm { QK_NORM_NONE, QK_NORM_HEAD, QK_NORM_FULL };

struct attention {
    enum mixer mixer;
    uint32_t heads, kv_heads;
    uint32_t k_dim, v_dim;  /* of one head; latent: of the expanded heads (nope + rope, v) */
    uint64_t window_tokens; /* sliding and chunked */
    uint32_t
        kv_source; /* 0-based layer whose K/V the queries read; the layer itself when it owns */
    /* latent (MLA) */
    uint32_t q_lora_rank; /* 0: a plain q projection */
    uint32_t kv_lora_rank, nope_dim, rope_dim;
    /* sparse-attention indexer (DeepSeek V3.2, GLM-5): index_dim 0 = none */
    uint32_t index_heads, index_dim, index_topk;
    bool index_shared; /* uses the selection of a layer below: no indexer, no index key here */
    bool q_bias, k_bias, v_bias, o_bias;
    enum qk_norm qk_norm;
    bool output_gate; /* the q projection is twice as wide (Qwen3-Next) */
    bool head_gate;   /* hidden x heads gate */
    bool sinks;       /* one learned scalar a head (gpt-oss) */
    bool k_eq_v;      /* one projection serves K and V; both are cached (Gemma 4) */
};

/* Recurrent or convolutional mixers with a state of constant size. */
enum state_kind {
    STATE_NONE,
    STATE_MAMBA1,
    STATE_MAMBA2,
    STATE_GDN,       /* gated delta net (Qwen3-Next, Qwen3.5) */
    STATE_KDA,       /* Kimi delta attention */
    STATE_LIGHTNING, /* linear attention (MiniMax-M1) */
    STATE_RETENTION, /* gated retention (YOCO) */
    STATE_SHORTCONV, /* LFM2 */
    STATE_GMU        /* gated memory unit (SambaY): weights, no state */
};

struct state {
    enum state_kind kind;
    uint32_t inner;                          /* mamba1, mamba2, gmu: inner width */
    uint32_t heads, head_dim;                /* mamba2, lightning, kda, retention */
    uint32_t state_dim, groups;              /* mamba: N and the B/C groups */
    uint32_t conv_kernel;                    /* columns stored: conv_kernel - 1 */
    uint32_t k_heads, k_dim, v_heads, v_dim; /* gdn */
    uint32_t dt_rank;                        /* mamba1 */
    bool dtbc_norm;                          /* jamba */
    bool no_gate_norm;                       /* Falcon-H1 */
    bool
        fp32_state; /* the state proper is kept in fp32 (the convolution in the model's type) */
};

struct ffn {
    uint32_t
        intermediate; /* dense MLP width, 0 = none; may stand beside experts (Gemma 4 26B) */
    bool gated;       /* three matrices, else two */
    bool bias;
    uint32_t experts, top_k, moe_intermediate; /* experts 0 = dense layer */
    uint32_t shared_intermediate;              /* width of all shared experts together */
    uint32_t moe_latent; /* routed experts work in a latent of this width; 0 = hidden */
    bool router_bias, shared_gate, expert_bias;
    uint64_t router_extra_params; /* scales and norms of the router (Gemma 4) */
};

struct layer {
    struct attention attn;
    struct state state;
    struct ffn ffn;
    uint32_t norms;         /* block norms over the hidden size */
    uint64_t vector_params; /* other small tensors: scalars, extra norms */
    uint64_t
        matrix_params; /* other matrices used once a token (Laurel, AltUp, per-layer inputs) */
};

enum norm_kind {
    NORM_RMS,
    NORM_LAYER,
    NORM_LAYER_NO_BIAS
}; /* parameters: h, 2h, h; OLMo-1 style none: norms 0 */

struct model {
    const char *name;       /* hub id or the name given */
    const char *family;     /* family file that read it; "inline" */
    const char *model_type; /* as the config says */
    const char
        *confidence; /* "primary", "secondary", "unverified" of its fields; NULL = as given */
    const char *sources; /* where the fields come from */
    struct loc at;

    uint32_t n_layers, hidden, vocab;
    uint64_t max_position; /* training context, 0 = unknown */
    struct layer *layers;  /* [n_layers] */

    bool tied;            /* one table for embedding and head */
    bool keeps_unused_kv; /* layers that read another layer's K/V still store their own
                             projections (Gemma 3n) */
    bool head_bias;
    bool alibi;                    /* scores have slopes along the tokens, nothing is rotated */
    uint32_t score_cap, logit_cap; /* cap * tanh(x / cap) of scores, of logits; 0 = none */
    enum norm_kind norm;
    uint32_t final_norms;   /* 1, or 0 */
    uint64_t position_rows; /* learned positions, rows of `hidden` */
    uint32_t embed_width;   /* OPT-350m: narrow embeddings with two projections; 0 = hidden */
    uint64_t embed_params_extra;  /* per-layer embedding tables (Gemma 3n, 4): looked up, not
                                     multiplied */
    uint64_t matrix_params_extra; /* other matrices outside the layers used once a token */
    uint64_t vector_params_extra;
    uint64_t vision_params; /* vision and audio towers, projector; 0 = none or config absent */

    uint64_t weights_bytes; /* known size of all weights (inline key weights_bytes); 0 = by the
                               weight table */
    bool weights_measured; /* weights_bytes is what the headers of the weight files say, for the
                              model as it stands: other shapes or formats make it void */
    uint32_t
        mtp_layers; /* multi-token-prediction layers in the checkpoint, not counted (a note) */
    const char *dtype;  /* "bf16", "fp16", "fp32": of the unquantized weights */
    struct quant quant; /* what quantization_config says */

    /* a native LCKV / explicit map of the config itself */
    uint32_t forward_passes, backward_passes; /* 0 = not given */
    bool force_no_diagonal; /* no layer attends to its own position (released LCKV checkpoints)
                             */
};

/* Reads a Hugging Face config.json tree through the family registry. `overrides` (may be NULL)
 * are keys of the inline form laid over it. Unknown model_type: an error that lists the near
 * ones and shows the inline form. source: facts as in each family file. */
bool model_from_config(struct arena *a, const struct doc_node *config, const char *name,
                       struct diag *d, struct model *out) __attribute__((warn_unused_result));

/* Reads the inline form (a spec's `model:` map, a profile). Its keys are the tables of inline.h
 * (slots_of). */
bool model_from_inline(struct arena *a, const struct doc_node *map, struct diag *d,
                       struct model *out) __attribute__((warn_unused_result));

/* Lays inline keys over a model read from elsewhere (`model: {config: ..., layers: 40}`). */
bool model_override(struct arena *a, const struct doc_node *map, struct diag *d,
                    struct model *m) __attribute__((warn_unused_result));

/* Writes the inline form as YAML that model_from_inline reads back to the same model. */
void model_write_yaml(const struct model *m, FILE *out);

/* Consistency: kv_heads divide heads, sources exist and are of one kind, widths not 0, layers
 * <= MODEL_LAYERS_MAX. Every problem is reported. */
bool model_check(const struct model *m, struct diag *d) __attribute__((warn_unused_result));

const char *mixer_name(enum mixer m);
const char *state_kind_name(enum state_kind k);

#endif
