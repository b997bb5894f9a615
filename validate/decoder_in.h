/* Between the files of validate/decoder: its state, and the parts of a step. */
#ifndef KVBUDGET_VALIDATE_DECODER_IN_H
#define KVBUDGET_VALIDATE_DECODER_IN_H

#include "kernels/gemm.h"
#include "kernels/prefill.h"
#include "planner/base/rng.h"
#include "validate/shape.h"

enum { ANCHOR_BLOCKS = 8 }; /* that share the keys of a head */
enum { WEIGHT_UNIT = 16 };  /* rows of a stored matrix that are widened together */

struct decoder_weights { /* of a layer; NULL: it has none */
    const void *sinks, *head_gate;
    const void *norms, *q, *q_bias, *q_norm, *k, *k_bias, *k_norm, *v, *v_bias, *o, *o_bias;
    const void *q_a, *q_a_norm, *q_b, *kv_a, *kv_a_norm, *kv_b; /* MLA */
    void *kv_b_wide;                                            /* the engine's copy */
    const void *index_q, *index_k, *index_norm, *index_weights; /* indexer */
    const void *gate_up, *up_bias, *down, *down_bias;           /* dense MLP */
    const void *router, *gates, *ups, *downs;                   /* routed experts */
    const void *shared_gate_up, *shared_down, *shared_gate;     /* shared ones */
    const void *scalars, *router_scales;
    const void *router_bias, *up_biases, *down_biases, *latent_in, *latent_out;
    const void *mixer[N_MIX_WEIGHTS]; /* recurrent */
};

struct decoder_store {
    struct cache_view view;      /* of all sequences, with memory */
    void *k_scratch, *v_scratch; /* 16-bit rows of a prompt, or those of x */
    float *sums;                 /* scores of its rows */
    void *bounds;                /* of the keys of its pages */
    float *preferences;          /* CAKE: [sequences] */
    void *states;                /* [SHAPE_STATES][sequences][hidden] */
    uint32_t *table, *widen;     /* page table; rows of heads, repeated */
    uint32_t *scratch_table;     /* ragged: the scratch as lists of its heads */
    uint32_t *head_rows;         /* ragged, here: rows of each head after the prompt */
    uint32_t lengths, before, index, slot, scratch_length; /* words of the step table */
    uint32_t chosen_from; /* Quest: rows of all pages but the newest; then those of queries that
                             do not see their own row */
    uint32_t replaced;    /* steps in which a row was replaced */
};

/* Memory on the device, each with its bytes. */
struct decoder_block {
    void **at;
    uint64_t bytes;
    enum tag tag;
    uint64_t *term; /* of struct decoder_memory */
};

/* Tables that change with every step, uploaded in one piece; offsets in words. */
struct decoder_words {
    uint32_t position, sequence;         /* [rows] */
    uint32_t first;                      /* [sequences + 1]: chunks of one row */
    uint32_t chunk_first, chunk_offset;  /* [2], [1]: a chunk in prefill */
    uint32_t chunk_before, chunk_length; /* [1] each: rows stored before it, and with it */
    uint32_t seen, kept; /* [rows] each, of indexers: rows before and with it, those chosen */
    uint32_t expert_in, expert_out; /* [rows * top_k], [rows][top_k (+ 1)] */
    uint32_t n;
};

struct decoder_pass { /* rows that go through the layers together */
    bool prefill;
    uint32_t sequence, sequences; /* the first one, how many */
    uint32_t rows, offset;        /* prefill: tokens, and the first one's place */
    bool first, last;             /* of the runs over a slice of layers */
    bool stored;                  /* the layer's keys and values are in the cache already */
};

struct decoder_cut { /* what has just been chosen, in order and keep; until an op is told */
    uint32_t store, sequence; /* the first one */
    uint32_t lists, from, of; /* no lists: nothing */
    const float *scores;      /* NULL: none, or they have moved with the rows */
    bool smallest;
};

struct decoder {
    struct arena *arena;
    struct device *d;
    struct device_info info;
    struct shape s;
    struct decoder_memory memory;
    struct decoder_block *blocks;
    uint32_t n_blocks;
    char *weights;
    struct decoder_weights *layers; /* [n_layers] */
    const void *embed, *head, *final_norm;
    const void *positions, *project_in, *project_out, *head_bias, *embed_norm;
    const void *input_table, *input_norm; /* embeddings that each layer has for itself */
    const struct shape_tensor *other;
    struct decoder_store *stores;
    /* activations: residual stream, block output, normed; copies of the first two */
    void *h, *y, *x, *h_saved, *y_saved;
    void *q, *k, *v, *k_wide, *v_wide, *out, *gate_up, *act;
    void *gate, *side, *other_out, *narrow, *latent; /* where a layer has them */
    void *inputs, *input_gate; /* [rows][n_layers * input_width], [rows][input_width] */
    void *expert_x, *expert_gate_up, *expert_act, *expert_y, *router;
    void *mix_in, *mix_conv, *mix_y, *mix_gate, *mix_rate, *mix_low, *mix_side, *mix_memory;
    void **slots;   /* [n_layers]: recurrent states of all sequences */
    uint32_t *pair; /* [rows][2]: rows of the halves of y */
    /* MLA: the query at its low rank; queries and results as latents; the latents of a prompt,
     * and keys and values made of them, of one layer at a time */
    void *q_low, *absorbed, *mixed, *latents, *wide_k, *wide_v;
    /* indexer: its query, key and weights of heads; scores, and the rows chosen by them, as
     * lists and as bits */
    void *index_q, *index_k, *index_weights;
    float *ranks;
    uint32_t *chosen_rows, *chosen_bits;
    struct decoder_pass ranked; /* of the last scores; no rows while there are none */
    float *lse, *logits;
    void **scratch;         /* [slots][2]: rows of a prompt, K and V */
    uint32_t *picked;       /* page tables of what a step reads, then their lengths */
    void *work, *gemm_work; /* of attention, of products */
    uint64_t gemm_bytes;
    float *sums, *pooled;           /* of stores without their own */
    float *anchors;                 /* KeyDiff: parts of mean keys */
    float *moments, *expected;      /* ExpectedAttention: of queries; logits of rows */
    float *parts;                   /* CAKE: of what makes a preference */
    float *future;                  /* and mean turns, as in turns */
    uint32_t *order, *keep, *count; /* of rows that stay; keep has room for twice the lists */
    struct decoder_cut cut;
    uint32_t *unit; /* unit vectors, [WEIGHT_UNIT][WEIGHT_UNIT] in 16 bits */
    float *slopes;  /* [q_heads]: ALiBi, else NULL */
    float *turns;   /* cosines and sines, [positions][rotary / 2] for each size of heads */
    uint32_t *iota, *prompts, *chosen;
    uint32_t *step;        /* on the device */
    uint32_t *host;        /* the same words here */
    uint32_t *lists;       /* here: a number for each list */
    void *scratch_now[2];  /* K and V of the store that is being placed */
    uint32_t *expert_rows; /* [experts]: of the step */
    struct decoder_words at;
    struct rng rng;
    bool pending; /* y has yet to be added to h */
    bool filled;  /* every prompt is in the cache */
    uint32_t decoded;
    decoder_watch_fn watch;
    void *watch_user;
};

/* Lists the blocks of a decoder whose shape is known, at most decoder_blocks_room of them, and
 * lays out the step table. Returns how many; 0: a size beyond 64 bits. */
uint32_t decoder_blocks_room(const struct shape *s);
uint32_t decoder_list(struct decoder *x, struct decoder_block *list);
/* Lists of rows that a sequence has: one, or one a head. */
uint32_t decoder_lists(const struct shape_store *t);
/* Whether it stores projected heads several times, or only some of them. */
bool decoder_widens(const struct shape_store *t);
/* Splits of a decode step's attention. */
uint32_t decoder_splits(const struct decoder *x, const struct shape_store *t);

/* Hands out pages to the heads of a sequence, as many as head_rows says. */
enum device_status decoder_deal_pages(struct decoder *x, uint32_t store, uint32_t sequence);
/* Uploads what never changes: page tables, rotary table, prompts. */
enum device_status decoder_fill_tables(struct decoder *x);
/* Lays out the step table for passes of so many rows: a decode step uploads what it needs, not
 * room for a prompt. */
void decoder_lay_words(struct decoder *x, uint32_t rows);
/* Fills and uploads the step table. */
enum device_status decoder_step_prefill(struct decoder *x, const struct decoder_pass *w);
enum device_status decoder_step_decode(struct decoder *x);

/* Views of a store: its pool for some sequences, with the lengths at that word for all of them,
 * or its scratch. */
struct cache_view decoder_view(const struct decoder *x, uint32_t store, uint32_t sequence,
                               uint32_t sequences, uint32_t lengths_word);
struct cache_view decoder_scratch(const struct decoder *x, uint32_t store,
                                  uint32_t length_word);

/* A norm in place, of heads or of whole rows; none where weight is NULL. */
enum device_status decoder_norm_heads(struct decoder *x, const void *weight, void *rows,
                                      uint32_t n, uint32_t width);
/* The attention of a part of a layer, without its chunk. */
struct prefill_args decoder_attention(const struct decoder *x, uint32_t layer, uint32_t part);
enum device_status decoder_attend(struct decoder *x, const struct decoder_pass *w,
                                  uint32_t layer);
/* A recurrent mixer on the rows in x. Beside attention, whose output is in y, it is added to
 * that. */
enum device_status decoder_recur(struct decoder *x, const struct decoder_pass *w,
                                 uint32_t layer);
/* Before the first token of a prompt. */
enum device_status decoder_clear_states(struct decoder *x, uint32_t sequence);

/* Places of a row of ranks and chosen_rows, words of one of chosen_bits. */
uint32_t decoder_chosen_width(const struct decoder *x);
/* The indexer of a layer, if it has one: its keys into the cache, scores, what is chosen. */
enum device_status decoder_index(struct decoder *x, const struct decoder_pass *w,
                                 uint32_t layer);

/* MLA (decoder_latent.c): queries, and latents where the layer stores them; their rows into the
 * cache; attention of a prompt or a step, up to what the output projection takes. */
bool decoder_is_latent(const struct decoder *x, uint32_t layer);
enum device_status decoder_latent_project(struct decoder *x, const struct decoder_pass *w,
                                          uint32_t layer, bool stores);
enum device_status decoder_latent_append(struct decoder *x, const struct decoder_pass *w,
                                         uint32_t layer);
enum device_status decoder_latent_attend(struct decoder *x, const struct decoder_pass *w,
                                         uint32_t layer);
enum device_status decoder_mlp(struct decoder *x, const struct decoder_pass *w, uint32_t layer);
enum device_status decoder_layer(struct decoder *x, const struct decoder_pass *w,
                                 uint32_t layer);
/* Where a prefill may stop for all tokens but the last: the layer's keys and values of all of
 * them, and the pass shrinks to the last. */
enum device_status decoder_leave(struct decoder *x, struct decoder_pass *w, uint32_t layer);
/* x = norm of the stream, to which a pending block is added; rows of it. Where norms stand
 * after the halves the stream is x; weight NULL is then no norm. */
enum device_status decoder_norm(struct decoder *x, const void *weight, uint64_t first_row,
                                uint32_t rows);
/* A product with weights of the decoder in the format they have; sets what is not said of work
 * memory and types. */
enum device_status decoder_product(struct decoder *x, const struct gemm_args *a);
/* The same with some of the rows of one tensor, which begins at a->w, from `first` on; parts
 * for several products, and the other side of the matrix, as gemm.h has them. */
enum device_status decoder_product_at(struct decoder *x, const struct gemm_args *a,
                                      uint32_t first);
/* Fills the copies in 16 bits that an engine makes of stored tensors. */
enum device_status decoder_widen(struct decoder *x);
/* Where a copy (an expert) of a tensor begins; NULL of NULL. */
const void *decoder_copy(const struct decoder *x, const void *weight, uint32_t copy);
/* Norm `number` of a layer's; NULL where it has none. */
const void *decoder_norm_at(const struct decoder *x, uint32_t layer, int number);
/* The norm that what this half of a layer reads comes from; layer n_layers: the last one. */
const void *decoder_norm_before(const struct decoder *x, uint32_t layer, uint32_t half);
enum device_status decoder_multiply(struct decoder *x, const void *from, const void *weight,
                                    const void *bias, void *to, uint32_t rows, uint64_t outs,
                                    uint64_t in);

/* decoder_parts.c: what only some models have. Tokens become the stream; the gate of what
 * attention gives; the side's share is added to y; products that nothing reads; the logits. */
enum device_status decoder_embed(struct decoder *x, const uint32_t *tokens, uint32_t rows,
                                 bool prefill);
enum device_status decoder_gate(struct decoder *x, uint32_t rows, uint32_t layer);
void decoder_swap_side(struct decoder *x);
enum device_status decoder_add_side(struct decoder *x, uint32_t rows);
enum device_status decoder_norm_added(struct decoder *x, const struct decoder_pass *w,
                                      uint32_t layer, int number);
/* decoder_inputs.c: embeddings that each layer has for itself, and what else ends a layer. */
enum device_status decoder_inputs(struct decoder *x, const uint32_t *tokens,
                                  const struct decoder_pass *w);
enum device_status decoder_end_layer(struct decoder *x, const struct decoder_pass *w,
                                     uint32_t layer);
enum device_status decoder_logits_of(struct decoder *x, const struct decoder_pass *w,
                                     float *logits);

/* Scores of a prompt's rows, right after their attention; what stays of scratch, into pages;
 * what stays of the pages, once the prompt is over. */
enum device_status decoder_rank_prompt(struct decoder *x, const struct prefill_args *attention,
                                       uint32_t store, uint32_t sequence);
enum device_status decoder_place_prompt(struct decoder *x, uint32_t store, uint32_t sequence);
enum device_status decoder_prune_prompt(struct decoder *x, uint32_t store, uint32_t sequence);
/* The same in a decode step. */
enum device_status decoder_rank_step(struct decoder *x, const struct prefill_args *attention,
                                     uint32_t store);
enum device_status decoder_drop_step(struct decoder *x, uint32_t store);
/* ExpectedAttention (decoder_expect.c): moments of the queries of a prompt, not turned yet;
 * the scores of a store's rows; the table of mean turns. */
enum device_status decoder_moments(struct decoder *x, const struct decoder_pass *w,
                                   uint32_t layer);
enum device_status decoder_expect(struct decoder *x, uint32_t store,
                                  const struct prefill_args *attention, float *scores);
enum device_status decoder_fill_future(struct decoder *x);
/* Quest: bounds of the pages that an append has changed; and in a step the pages to read, as a
 * view of its own. */
enum device_status decoder_bound(struct decoder *x, const struct decoder_pass *w,
                                 uint32_t store);
enum device_status decoder_pick(struct decoder *x, uint32_t layer, struct cache_view *c);
/* KIVI: tokens that leave the full-precision tail, before and after an append. */
enum device_status decoder_pack(struct decoder *x, uint32_t store, bool before);

/* Draws experts for the rows of a pass into the step table. */
void decoder_route(struct decoder *x, uint32_t rows);

void decoder_tell(struct decoder *x, enum op op, uint32_t layer, bool prefill);

#endif
