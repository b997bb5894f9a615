/* llama.cpp's own arithmetic, as its constructor does it: how many cells a context has, what
 * the K, V and recurrent buffers take, and what the worst graph of one micro-batch needs. Pure
 * functions of a layout and a context; planner/engine/llamacpp.c makes an engine of them.
 *
 * source: llama.cpp of August 2026 as vendored by ggml-org/whisper.cpp 4834a2327, older rules
 * by month of the change (pull requests 13194 and 14363). */
#ifndef KVBUDGET_PLANNER_ENGINE_LLAMACPP_LLAMACPP_H
#define KVBUDGET_PLANNER_ENGINE_LLAMACPP_LLAMACPP_H

#include "planner/cache/layout.h"

/* What changed over time; each period keeps what came before it. */
enum lcpp_rules {
    LCPP_ONE_POOL,   /* to April 2025: every layer holds n_ctx, one pool, padded to 256 or 32 */
    LCPP_SWA_BATCH,  /* May 2025: sliding layers hold window * n_seq + n_batch */
    LCPP_SWA_UBATCH, /* June 2025: n_ubatch in place of n_batch */
    LCPP_STREAMS,    /* August 2025: a stream for each sequence unless unified */
    LCPP_PAD_256,    /* November 2025: always padded to 256 */
    LCPP_LATENT_ONLY /* January 2026: no V for MLA; logits of the sampled rows only */
};

/* "2025-06", or "2025-06-14": the month of the source. NULL or "" = the newest. False for
 * anything else, build numbers too. */
bool lcpp_rules_of(const char *version, enum lcpp_rules *out);

/* What was asked for; 0 = not given. */
struct lcpp_ask {
    uint64_t n_ctx;             /* -c, tokens of all sequences together */
    uint64_t n_batch, n_ubatch; /* -b 2048, -ub 512 */
    uint64_t n_seq;             /* -np, at least 1 */
    bool unified, flash_attn, swa_full;
};

struct lcpp_context {
    enum lcpp_rules rules;
    uint64_t n_ctx;     /* cells of all streams of a full-attention layer */
    uint64_t n_ctx_seq; /* cells of one stream: the longest sequence */
    uint64_t n_batch, n_ubatch, n_seq, streams;
    uint64_t pad;
    bool unified, flash_attn, swa_full;
};

/* The context the constructor makes of it. errors: ck->over. */
struct lcpp_context lcpp_context_of(enum lcpp_rules rules, const struct lcpp_ask *ask,
                                    struct ck *ck);

/* Sequences of `tokens` each that it runs at once. */
uint64_t lcpp_slots(const struct lcpp_context *c, uint64_t tokens);

/* Cells a stream of a layer with this window has (window 0: all of n_ctx_seq). */
uint64_t lcpp_cells(const struct lcpp_context *c, uint64_t window_tokens, struct ck *ck);

/* Whether this architecture's graphs know sliding windows; inline models are taken at their
 * word. Where they do not, every layer holds the whole context. */
bool lcpp_knows_windows(const struct model *m);

struct lcpp_buffers {
    uint64_t k_bytes, v_bytes; /* index keys count as K */
    uint64_t state_bytes;      /* convolution and recurrent states of all sequences */
};

/* Buffers of the layers [first, last). errors: ck->over. */
struct lcpp_buffers lcpp_buffers_of(const struct layout *l, const struct lcpp_context *c,
                                    uint32_t first, uint32_t last, struct ck *ck);

/* A lower bound on the compute buffer of a device that holds the layers [first, last), with the
 * head where `samples`: the largest live set of tensors of one micro-batch over the attention,
 * the feed-forward and the output part of the graph. `copies` of its inputs are held (4 with
 * several devices, else 1). errors: ck->over. */
uint64_t lcpp_compute_bytes(const struct layout *l, const struct lcpp_context *c,
                            uint32_t first, uint32_t last, bool samples, uint32_t copies,
                            struct ck *ck);

/* Logits of every sequence in pinned host memory. */
uint64_t lcpp_output_bytes(const struct model *m, const struct lcpp_context *c, struct ck *ck);

/* Makes the layout what llama.cpp stores: fp32 states, index keys in the type of K, no window
 * where its graphs have none. Call before folding, after the storage schemes. */
void lcpp_adapt(struct layout *l);

#endif
