/* A small real decoder: a problem's model, layout and schemes on a device, with random weights
 * of the true shapes, a paged cache made from the layout's rows, prefill and decode. What the
 * planner predicts of memory, traffic and time can be looked at while it runs.
 *
 *     struct decoder_setting s = {.sequences = 4, .prompt = 64, .output = 8};
 *     struct device_text why;
 *     if (!decoder_supports(p, &why)) ... waived: why.text
 *     if (decoder_open(device, p, &s, &x) != DEVICE_OK) ... device_error(device)
 *     decoder_prefill(x); device_tally_reset(device); decoder_decode(x, 1);
 *     device_tally(device, &tally); decoder_close(x);
 *
 * Sequences are prefilled one after the other, and then decode together. A problem with tensor
 * parallelism runs as one of its ranks, without the collectives.
 *
 * Weights are multiplied as they are stored: in 16 bits by cuBLASLt, in the formats of
 * kernels/weight.h by that. Of MLA's up-projection, decode steps read the copy in 16 bits that
 * some engines keep (planner/engine/engine.h, widens), where the problem's engine does. Keys
 * are rotated at their place in the text, over the whole head, or the rope part of MLA (YaRN,
 * partial and interleaved rotation change no byte and no product of matrices). Blocks with two
 * norms run their halves one after the other, also where the model adds them side by side.
 * Experts are chosen at random, each token top_k others. Low-rank matrices of Laurel and AltUp
 * are multiplied, and their results not used; towers for images and sound take their memory and
 * are not run. */
#ifndef KVBUDGET_VALIDATE_DECODER_H
#define KVBUDGET_VALIDATE_DECODER_H

#include "kernels/device.h"
#include "planner/plan/problem.h"

struct decoder;

struct decoder_setting {
    uint32_t sequences;     /* 1 or more */
    uint32_t prompt;        /* tokens of each prompt, at least 1 */
    uint32_t output;        /* tokens that may be decoded after it */
    uint32_t chunk;         /* prompt tokens that pass the layers together; 0 = all. Layers that
                               drop rows of a prompt (windows, eviction) take it whole */
    uint64_t seed;          /* of weights, prompts and routing */
    const uint32_t *tokens; /* [sequences][prompt], below the vocabulary; NULL = random */
};

/* Bytes allocated on the device, and of them what belongs to the planner's terms. */
struct decoder_memory {
    uint64_t weights_bytes;    /* copies of them included */
    uint64_t gap_bytes;        /* of them: between tensors and behind, by alignment */
    uint64_t cache_bytes;      /* pools of K, V, scales and full-precision tails; states */
    uint64_t cache_gap_bytes;  /* of them: behind each, by alignment */
    uint64_t scheme_bytes;     /* scores and metadata that a scheme keeps for its sequences */
    uint64_t scratch_bytes;    /* whole layers of K/V that a rule cuts inside a prefill */
    uint64_t tables_bytes;     /* page tables, lengths, positions, rotary table, tokens */
    uint64_t activation_bytes; /* between kernels, logits included, and a prompt's K/V on their
                                  way into windows and groups of KIVI */
    uint64_t work_bytes;       /* partial results of attention and of matrix products */
    uint64_t total_bytes;      /* sum of the above, as allocated (multiples of 256) */
};

/* Whether the decoder can run that; why: in one line what it lacks. It runs RMS and layer
 * norms, full, sliding and chunked attention of heads up to 256, with learned sinks, gates,
 * caps and slopes, MLA with or without an indexer, recurrent mixers (all kinds of
 * planner/model/model.h) in its place or beside it, dense MLPs, experts, both or none; any
 * sharing map; bf16, fp16, fp8 e4m3, int8, int4, KIVI and packed MLA caches; of keys and values
 * every retention scheme that plans give figures for but think, also on top of sharing maps and
 * windows. Under a window rows go by their age in the store, and so do those that a rule has
 * left of them. */
bool decoder_supports(const struct problem *p, struct device_text *why);

/* Bytes of decoder_open with that setting, without a device; work_bytes without what depends on
 * it (parts of split attention, cuBLASLt's work memory). False: as decoder_supports, or a size
 * beyond 64 bits. */
bool decoder_need(const struct problem *p, const struct decoder_setting *s,
                  struct decoder_memory *out, struct device_text *why);

/* Allocates and fills weights, cache and tables. On failure everything is released, *out is
 * NULL and the text is with the device. DEVICE_UNSUPPORTED: what decoder_supports says, or the
 * device lacks it. `p` must outlive the decoder; device and problem may serve several. */
enum device_status decoder_open(struct device *d, const struct problem *p,
                                const struct decoder_setting *s, struct decoder **out);
void decoder_close(struct decoder *x); /* NULL is fine */

/* All prompts, from the first token on; a second call starts over. */
enum device_status decoder_prefill(struct decoder *x);
/* One step of all sequences each, after a prefill; no more than setting.output in all. */
enum device_status decoder_decode(struct decoder *x, uint32_t steps);

/* The format of weights that kernels/weight.h multiplies, or NULL: all of them have 16 bits. */
const char *decoder_stored_format(const struct decoder *x);

void decoder_get_memory(const struct decoder *x, struct decoder_memory *out);

/* What has just been launched: called after each op of each layer, layers counted from 0
 * (n_layers: outside of them), with the planner's name for the op. OP_SCORES is attention as a
 * whole, scores and values; OP_STATE a recurrent mixer with its projections; OP_QKV the
 * projections, OP_OTHER the append to the cache and embeddings, OP_ELEMENTWISE norms, rotary
 * positions, activation functions and what the planner has under "other". */
struct decoder_event {
    enum op op;
    uint32_t layer;
    bool prefill;
};
typedef void (*decoder_watch_fn)(void *user, const struct decoder_event *e);
void decoder_watch(struct decoder *x, decoder_watch_fn fn, void *user); /* NULL: nobody */

/* For tests. Rows that the store of layout row `row` holds for a head of a sequence now: the
 * mean where heads hold different numbers; 0 for rows that store nothing. */
uint32_t decoder_stored_rows(struct decoder *x, uint32_t row);
/* CAKE: what the layer of layout row `row` would like to keep of each prompt, fp32 [sequences]:
 * entropy times variance of what the last queries look at (kernels/prefer.h). */
enum device_status decoder_preferences(struct decoder *x, uint32_t row, float *out);
/* Logits of the last token processed, fp32 [sequences][vocabulary of the rank]. */
enum device_status decoder_logits(struct decoder *x, float *out);
/* The tokens so far: [sequences][prompt + output + 1]; *n: how many of each row are known. The
 * last one of them has not been processed yet. */
enum device_status decoder_tokens(struct decoder *x, uint32_t *out, uint32_t *n);
/* What an indexer has chosen for one new token, of the rows that this token sees. */
struct decoder_choice {
    uint32_t sequence, position; /* of the token; rows below position + 1 are what it sees */
    uint32_t n;                  /* rows chosen */
    uint32_t *rows;              /* n of them, where the caller has room for top_k */
    float *scores;               /* of every row seen: room for prompt + output */
};
/* The choice of the indexer that has run last, from where OP_INDEXER is told the second time of
 * a layer: the first time is after the projections. token: of those that went through the layer
 * together. False: no such token, nothing chosen yet, or a failure of the device. */
bool decoder_chosen(struct decoder *x, uint32_t token, struct decoder_choice *c);
/* What a retention rule has left of a list: rows, or under Quest the pages that a step reads.
 */
struct decoder_kept {
    uint32_t sequence, head; /* of the store */
    uint32_t from, of;       /* what was ranked: `of` rows, the first of them at this place */
    uint32_t n;              /* how many stay */
    uint32_t *rows;          /* n of them, from 0 on: room for prompt + output */
    float *scores;           /* of all, where scored: room for prompt + output */
    bool scored, smallest;   /* smallest: it is the lowest scores that stay */
};
/* The choice that ended with the OP_SCHEME that is being told: at the end of a prompt that of a
 * sequence, in a step Quest's or the L2 norm's of all of them. list: of those of the store that
 * it was about. False: no such list, nothing was chosen, or a failure of the device. */
bool decoder_kept(struct decoder *x, uint32_t list, struct decoder_kept *k);
/* A tensor by the planner's name ("self_attn.q_proj") in 16 bits, [out][in], rounded where it
 * is stored otherwise; layer -1: outside the layers. bits NULL: only its size. False: there is
 * none, or no memory. */
bool decoder_tensor(struct decoder *x, int layer, const char *name, uint16_t *bits,
                    uint64_t *elements);

#endif
