/* What the decoder is going to allocate and run, worked out from a problem before there is a
 * device: the layers as one rank has them, where each tensor lies, which rows a store holds of
 * a prompt and in a decode, and how many bytes of everything. Pure arithmetic. */
#ifndef KVBUDGET_VALIDATE_SHAPE_H
#define KVBUDGET_VALIDATE_SHAPE_H

#include "kernels/cache.h"
#include "kernels/ring.h"
#include "kernels/weight.h"
#include "planner/model/weights.h"
#include "validate/decoder.h"
#include "validate/mixer.h"

enum {
    SHAPE_NONE = -1,
    SHAPE_STATES = 256,  /* rows of hidden states that DecodingPress keeps a layer */
    SHAPE_POOL_SIZE = 5, /* places over which SnapKV's scores are averaged */
    SHAPE_DIMS_MAX = 4   /* sizes of heads in a model */
};

/* Where the rows of a store go. */
enum shape_place {
    PLACE_NEXT,  /* row i of those stored at i */
    PLACE_RING,  /* row i of those stored at i % ring: a window */
    PLACE_SINKS, /* kernels/ring.h: StreamingLLM */
};

/* What ranks the rows that a retention rule drops. */
enum shape_rule {
    RULE_NONE,   /* nothing is dropped, or only by age */
    RULE_NORM,   /* the largest keys go */
    RULE_ANGLE,  /* KeyDiff: those that point where most keys do */
    RULE_WINDOW, /* SnapKV, PyramidKV: what the last `window` queries look at stays */
    RULE_HEADS,  /* AdaKV: the same, but the heads of a layer share their budget */
    RULE_GIVEN,  /* HeadKV: the same, but each head's number of rows is given */
    RULE_ALL,    /* H2O: what all queries look at, added up, and the last `recent` */
    RULE_SHIFT,  /* CAKE: the same, and how it shifts from query to query */
    RULE_CHUNKS, /* ChunkKV: as RULE_WINDOW, by whole chunks, the same for all heads */
    RULE_MEAN,   /* kvpress: the mean over the queries that see a row */
    RULE_EXPECT, /* ExpectedAttention: what queries like those of the prompt will look at */
    RULE_LAST,   /* TOVA: what the last query looks at, the same for all heads */
    RULE_ENDS    /* the first `sinks` and the last ones */
};

struct shape_store { /* a row of the layout that stores K/V, as one rank has it */
    struct cache_row row;
    uint32_t number; /* in the layout */
    uint32_t layer;
    struct cache_view view;           /* of the pool, without memory; sequences as set */
    uint32_t repeat;                  /* stored heads to a projected one (query-head layouts) */
    uint32_t first_head, layer_heads; /* where its heads begin among the projected ones */
    enum shape_place place;
    enum shape_rule rule;
    bool drops;    /* the rule acts in decode steps too */
    uint32_t ring; /* tokens of a window, 0 = none */
    uint32_t from; /* the first token of a prompt that the window still holds */
    struct ring sinks;
    uint32_t window, recent, first; /* queries that rank; last and first rows that stay */
    uint32_t span;                  /* Quest: rows of a page; RULE_CHUNKS: of a chunk */
    bool bounds;
    bool states; /* keeps what went into its layer in the last steps (kvpress' DecodingPress) */
    bool late;   /* the rule acts when the prompt is over, on the store */
    bool scratch; /* a prompt's rows pass through 16-bit scratch before they are stored */
    uint32_t scratch_slot, scratch_last; /* which; the last layer that reads it */
    uint32_t prompt_rows;                /* stored after the prompt */
    uint32_t whole_rows;                 /* in the pool while the prompt is processed */
    uint32_t most_rows; /* in the pool in the decode, the new row of a step included */
    uint32_t own_pages, spare_pages; /* of each sequence; more for the one in prefill */
    uint32_t entries;                /* of a page table */
    uint32_t chosen, floor_tokens;   /* RULE_HEADS: rows for all heads, rows for each */
    double floor_ratio;
    uint32_t *given; /* RULE_GIVEN: [heads], rows */
};

struct shape_part { /* heads of a layer that read one store */
    uint32_t store; /* index */
    uint32_t row;   /* of the layout */
    uint32_t first_q, q_heads;
};

/* Where the norms of a block stand, by their number in its tensor; SHAPE_NONE = not there. The
 * halves are attention and MLP. */
struct shape_norms {
    int before[2], after[2];
    int dense_after, experts_before, experts_after; /* of an MLP and experts side by side */
    int input;           /* of what comes from the layer's own embeddings */
    int loose, loose_to; /* between these: with products that nothing reads */
};

struct shape_layer {
    struct layer layer; /* of one rank */
    struct shape_norms norms;
    bool parallel; /* both halves read the same norm, and are added together */
    bool chunked;  /* the window is the query's own stretch of so many tokens */
    bool attends, owns;
    struct shape_part *parts;
    uint32_t n_parts;
    uint32_t index_store; /* of its indexer's keys; UINT32_MAX: it has none */
    uint32_t selects;     /* most rows that a query reads; 0: all */
    uint32_t q_heads, k_dim, v_dim, window;
    uint32_t select_pages; /* read in a step, the newest among them; 0 = all */
    bool masked;           /* does not see its own position */
    uint32_t passes;
    bool recurs;    /* has a recurrent mixer, beside attention where it also attends */
    bool memorizes; /* leaves its scan's result for units of gated memory above */
    uint32_t conv_elem_bytes, state_elem_bytes;
    uint64_t slot_bytes; /* its state, of a sequence */
    size_t first_tensor, n_tensors;
};

struct shape_tensor {
    struct tensor t;
    const struct weight_format *format;
    bool stored;             /* multiplied by kernels/weight.h; else 16 bits, or a vector */
    bool wide;               /* fp32 */
    struct weight_view view; /* stored: without memory */
    uint64_t bytes;          /* of a copy */
    uint64_t stride;         /* from one copy to the next */
    uint64_t at;             /* bytes into the block of weights */
    uint64_t copy_at;        /* of a copy in 16 bits that the engine makes; 0 = none */
};

struct shape {
    struct arena *arena;
    const struct problem *problem;
    struct decoder_setting set;
    bool fp16;
    uint32_t hidden, vocab, n_layers, n_stores;
    uint32_t logits_stride;  /* elements of a row of logits */
    uint32_t tokens;         /* those below it occur */
    uint32_t input_width;    /* of embeddings that each layer has for itself; 0 = none */
    uint32_t norm_width;     /* elements of a norm: weights and, of some, biases */
    bool centred, norm_bias; /* layer norms */
    bool norms_after;        /* of the stream, after each half; none at the end */
    uint32_t k_dims[SHAPE_DIMS_MAX]; /* sizes of heads whose rotations are in the table */
    uint32_t n_dims, q_heads;        /* q_heads: the most of a layer */
    struct shape_layer *layers;
    struct shape_store *stores;
    struct shape_tensor *tensors; /* those of the layers in order, then the others */
    size_t n_tensors, first_outside;
    const struct shape_tensor **placed; /* those that have bytes of their own, by place */
    size_t n_placed;
    uint64_t weights_bytes, gap_bytes; /* of them, between tensors */
    const struct shape_tensor *embed;
    bool wide_vectors;  /* norms and biases in fp32 */
    uint32_t chunk;     /* prompt tokens at a time */
    uint32_t rows;      /* of activations: the larger of chunk and sequences */
    uint32_t places;    /* the longest list of rows in any store that is ranked; 0 = none */
    uint32_t heads_max; /* of stores */
    bool expects;       /* some store is ranked by what queries to come look at */
    uint32_t experts, top_k;
    uint32_t scratches; /* slots */
    bool upward;
    uint32_t exit_layer; /* from here on only the last token of a prompt; n_layers = none */
    /* the widest activations of any layer, in elements */
    uint64_t q_width, k_width, v_width, out_width, mlp_width, expert_width;
    uint64_t q_rank, mla_width; /* MLA: the query's, and latents of all query heads */
    uint32_t rank, rope;        /* of latents and their rope parts; 0: none */
    uint32_t selects;           /* rows that indexers choose; 0: none do */
    uint64_t index_width, index_heads, index_dim; /* the largest; width: of all heads */
    uint64_t gate_width, side_width, other_width, latent_width; /* 0: no layer has it */
    struct mixer_width mixer_width;
    uint64_t memory_width; /* of units of gated memory; 0 = none */
    bool side_by_side;     /* some layer attends and recurs */
    bool widens;           /* some tensor has a copy in 16 bits */
};

/* NULL, or in one line what the decoder lacks for that. */
const char *shape_refuses(struct arena *a, const struct problem *p);

/* false with *why: what is refused, or a size beyond 64 bits. */
bool shape_build(struct arena *a, const struct problem *p, const struct decoder_setting *set,
                 struct shape *out, const char **why);

/* False: no rule says where so many norms of a block stand. */
bool shape_norms(uint32_t n, struct shape_norms *out);

/* Words into the rotary table where heads of that size begin; positions: of the table. */
uint64_t shape_turns(const struct shape *s, uint32_t k_dim, uint64_t positions);

/* The tensor of that name, or NULL. */
const struct shape_tensor *shape_tensor(const struct shape *s, int layer, const char *name);

/* Rows that a store holds after a prompt and `decoded` steps. */
uint32_t shape_stored(const struct shape *s, const struct shape_store *t, uint32_t decoded);

/* Rows of a prompt that the store holds before its rule has acted: all, or a window. */
uint32_t shape_whole(const struct shape *s, const struct shape_store *t);

/* Whether the store reads scores of its rows from what queries look at. */
bool shape_scored(const struct shape_store *t);

#endif
