/* The cache layout: one table, the heart of the planner. A row per stored stream of a layer:
 * K/V of a head group, a latent, an indexer key, a recurrent state. Schemes are passes that
 * edit rows, in the order sharing -> retention -> storage; bytes and FLOPs are computed once,
 * from the rows (planner/cost), for every combination. */
#ifndef KVBUDGET_PLANNER_CACHE_LAYOUT_H
#define KVBUDGET_PLANNER_CACHE_LAYOUT_H

#include "planner/cache/format.h"
#include "planner/model/model.h"

enum stream { STREAM_KV, STREAM_LATENT, STREAM_INDEX, STREAM_STATE };

/* When a retention rule acts; it decides the peak of a prefill (facts: eviction, section 0.5).
 */
enum keep_when {
    KEEP_NEVER,    /* nothing is dropped */
    KEEP_IN_LAYER, /* inside each layer's own prefill: kept rows of all layers + one whole layer
                    */
    KEEP_AFTER_PREFILL, /* once, after the whole prompt: the whole cache first */
    KEEP_EVERY_STEP     /* after every forward: the whole cache first, bounded in decode */
};

struct keep;
/* Tokens a stored head holds right after a prompt of n tokens (n = 0 gives 0). */
typedef uint64_t (*keep_prompt_fn)(const struct keep *k, uint64_t n);
/* Tokens after `decoded` more were fed back; NULL = grows by one a token. */
typedef uint64_t (*keep_decode_fn)(const struct keep *k, uint64_t n, uint64_t decoded);
struct keep {
    keep_prompt_fn prompt; /* NULL = all */
    keep_decode_fn decode;
    keep_decode_fn peak; /* the most held at any step of 0..decoded, inside a step included;
                            NULL = decode's end */
    enum keep_when when;
    const void *params;    /* of the scheme that set the rule */
    uint32_t index, count; /* this row's place among the layers the rule spreads over */
    uint64_t fixed;        /* free for the rule: a per-row figure */
    double ratio;          /* free for the rule: the same for all rows of one params */
    bool ragged; /* per-head counts differ with the data; the rule gives the exact mean per head
                  */
    bool by_index; /* the count depends on index: rows of different index are different classes
                    */
    uint32_t copies_in_prefill; /* whole extra copies of a layer while it is compressed (sorted
                                   copies): 0 or 1 */
};

struct cache_row {
    uint32_t layer; /* 0-based */
    uint32_t group; /* head group within the layer and stream */
    enum stream stream;
    enum mixer mixer;
    uint32_t source;  /* index of the row whose store the queries of this row read; its own when
                         it owns */
    uint32_t readers; /* rows that read this row's store; 0 = nothing is stored, no K/V computed
                         (layout_settle) */
    bool diagonal_masked;  /* queries do not see their own position: reads a layer above */
    uint32_t q_heads;      /* query heads that read through this row */
    uint32_t kv_heads;     /* heads the projections produce */
    uint32_t stored_heads; /* heads as stored: kv_heads, or q_heads in query-head layout */
    uint32_t k_dim, v_dim; /* elements a stored head and token; latent: rank + rope and 0;
                              index: index_dim and 0 */
    uint32_t rope_dim;     /* latent: the rope part of k_dim */
    uint32_t score_dim, value_dim; /* multiply-adds a query head and key in decode */
    uint32_t prefill_score_dim,
        prefill_value_dim; /* the same in prefill (MLA expands its latent) */
    struct format k_format, v_format;
    struct keep keep;
    uint64_t window_tokens;       /* what this row's queries may see; 0 = everything */
    uint64_t store_window_tokens; /* the widest window of its readers; 0 = everything
                                     (layout_settle) */
    uint64_t select_tokens; /* at most so many tokens are read a step (Quest, sparse attention);
                               0 = all */
    uint64_t select_page_tokens; /* they are whole pages of so many, the newest page among them
                                    as full as it is; 0 = single tokens */
    uint32_t k_narrow_dim;       /* ThinK: channels a head keeps of older keys; 0 = k_dim */
    uint64_t k_wide_tokens;      /* ThinK: the last tokens that keep every channel */
    /* STREAM_STATE: per sequence, independent of length */
    uint64_t conv_elems, state_elems;
    uint32_t conv_elem_bytes, state_elem_bytes;
};

struct layout {
    struct arena *arena;
    const struct model *model;
    struct layer *layers; /* [n_layers], a copy of the model's that sharing passes may edit
                             (MLKV, YOCO) */
    uint32_t n_layers;
    struct cache_row *rows; /* in layer order; streams of a layer stand together */
    uint32_t n_rows, rows_room;
    uint32_t *passes;     /* [n_layers]: runs of the layer over the prompt in prefill */
    uint32_t *slice_ends; /* [n_layers]: the layer after those that a prefill runs together with
                             this one, because some of them read a layer above */
    uint32_t forward_passes, backward_passes; /* m, b of upward sharing (defaults 7, 2) */
    bool sequential_prefill; /* prompts are decoded token by token whatever their length */
    uint32_t exit_layer; /* prefill may stop here for all but the last token (0-based); n_layers
                            = no early exit */
    const char *sharing, *retention,
        *storage;  /* names of the passes applied; "none"/"native"/"bf16" */
    bool retrofit; /* a sharing scheme laid on a shipped checkpoint: it needs training */
    struct loc at;
};

/* The rows of a model as shipped, native sharing and windows included, in `elem_bytes`-wide
 * plain format. source: model family facts. */
bool layout_new(struct arena *a, const struct model *m, struct diag *d, struct layout *out)
    __attribute__((warn_unused_result));

/* Makes the rows anew from l->layers (which a sharing pass has edited), with attn.kv_source as
 * the map. */
bool layout_rebuild(struct layout *l, struct diag *d) __attribute__((warn_unused_result));

/* Makes the attention of layer `layer` read the K/V of layer `source` (both 0-based). Refuses,
 * with the layer and the reason, another kind of stream or other widths. Call layout_settle
 * once all layers are set. */
bool layout_share(struct layout *l, uint32_t layer, uint32_t source, struct diag *d)
    __attribute__((warn_unused_result));

/* Applies a whole map (map[i] = 0-based source); layers without attention keep UINT32_MAX. */
bool layout_share_map(struct layout *l, const uint32_t *map, struct diag *d)
    __attribute__((warn_unused_result));

/* Splits the heads of the row's store (and of every row that reads it) into two groups of
 * `first_heads` and the rest (kv heads); returns the index of the first; the second follows.
 * Head groups of DuoAttention, HeadKV. */
uint32_t layout_split_heads(struct layout *l, uint32_t row, uint32_t first_kv_heads);

/* Recomputes what follows from the sources: readers, masked diagonals, store windows, prefill
 * passes. Prefill passes: facts, sharing 1.3 (LCKV iteration plan). */
void layout_settle(struct layout *l);

/* The row of layer `layer`'s attention (first head group), UINT32_MAX when it has none. */
uint32_t layout_attention_row(const struct layout *l, uint32_t layer);
bool layout_owns_kv(const struct layout *l, uint32_t layer);
uint32_t layout_kv_layers(const struct layout *l); /* layers that own K/V or a latent */
uint32_t layout_attention_layers(const struct layout *l);

/* The last layer whose part of a prefill needs the whole prompt of this row's store: its last
 * reader's; where one of them reads upward, the last of the layers that run together. */
uint32_t layout_last_reader(const struct layout *l, uint32_t row);

/* Tokens the store of this row holds after a prompt of n and `decoded` fed-back tokens; 0 for
 * readers and states. */
uint64_t row_stored_tokens(const struct cache_row *r, uint64_t n, uint64_t decoded);
/* The most it holds at any time of the decode. */
uint64_t row_peak_tokens(const struct cache_row *r, uint64_t n, uint64_t decoded);
/* What it had to hold during the step that fed back the last of `decoded` tokens: rules that
 * drop after a step (keep.peak) hold one more than they leave. The most of these is
 * row_peak_tokens. */
uint64_t row_running_tokens(const struct cache_row *r, uint64_t n, uint64_t decoded);
/* Tokens the store holds of an n-token prompt before any retention rule has acted (windows
 * apply). */
uint64_t row_unpruned_tokens(const struct cache_row *r, uint64_t n);
/* Keys the queries of `reader` see at a decode step when the sequence has n prompt and
 * `decoded` cached tokens before it (the new token included unless its diagonal is masked),
 * limited by window, retention of `source` and selection. */
uint64_t row_attended_tokens(const struct cache_row *reader, const struct cache_row *source,
                             uint64_t n, uint64_t decoded);
/* Bytes of `tokens` tokens in this row's store; ck->over on overflow. */
uint64_t row_bytes(const struct cache_row *r, uint64_t prompt, uint64_t tokens, struct ck *ck);
uint64_t row_state_bytes(const struct cache_row *r, struct ck *ck);

const char *stream_name(enum stream s);

#endif
