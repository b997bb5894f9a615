/* What the retention schemes have in common: which rows a rule acts on, the usual count
 * rules, the arithmetic of the official codes (double products, then a truncation or a
 * ceiling), and the cost of scoring keys.
 *
 * A rule acts on the rows that own a store; layers that read it see what it kept. Its layer
 * index runs over those rows. Windowed rows keep the smaller of their window and the rule. */
#ifndef KVBUDGET_PLANNER_CACHE_KEEP_H
#define KVBUDGET_PLANNER_CACHE_KEEP_H

#include "planner/cache/scheme.h"

/* Rounding as Python and C do it on doubles, without libm. */
uint64_t keep_floor(double x);
uint64_t keep_ceil(double x);
uint64_t keep_round_even(double x);

/* kvpress: int(n * (1 - compression_ratio)), in doubles: 1000 at 0.9 keeps 99. */
uint64_t keep_ratio_tokens(uint64_t n, double compression_ratio);

/* The owners a rule acts on, as row numbers in layer order. */
struct owners {
    uint32_t n;
    uint32_t *rows;
};

/* What a rule needs of a row. */
enum { NEEDS_TOKENS = 0, NEEDS_HEADS = 1 /* K/V heads: latents are refused */ };

/* Lists the owners, and sets keep.index and count of each. Refuses a model without an
 * attention cache and, with NEEDS_HEADS, latents. With NEEDS_TOKENS the indexer's rows are
 * listed too: they hold the same tokens. */
bool keep_owners(const struct scheme_use *use, struct layout *lay, unsigned needs,
                 struct diag *d, struct owners *out) __attribute__((warn_unused_result));

/* Gives every owner `rule` (index and count are kept as they are) and names the pass. */
void keep_set(const struct scheme_use *use, struct layout *lay, const struct owners *o,
              struct keep rule);

/* The rows of query heads that some releases store: K/V heads repeated before they are
 * compressed. */
enum keep_layout { LAYOUT_QUERY_HEAD, LAYOUT_KV_HEAD };
extern const char *const keep_layouts[]; /* for FIELD_CHOICE */

/* Stores query heads in the owners' rows; warns where that costs a GQA model. tokens: kept a
 * head (0 = unknown). */
void keep_query_heads(const struct scheme_use *use, struct layout *lay, const struct owners *o,
                      uint64_t tokens, struct diag *d);

/* Count rules on keep.fixed (a number of tokens) and keep.ratio. */
uint64_t keep_cap_prompt(const struct keep *k, uint64_t n); /* min(n, fixed) */
uint64_t keep_cap_decode(const struct keep *k, uint64_t n,
                         uint64_t decoded); /* bounded in decode */
uint64_t keep_cap_peak(const struct keep *k, uint64_t n,
                       uint64_t decoded);                     /* one more inside a step */
uint64_t keep_ratio_prompt(const struct keep *k, uint64_t n); /* kvpress */

/* The rule of kvpress: a ratio of the prompt, inside each layer's prefill; decode grows. */
struct keep keep_press(const struct scheme_use *use, double compression_ratio);

/* Visits the rows a use has set; returns the next at or after i, n_rows at the end. */
uint32_t keep_next(const struct scheme_use *use, const struct layout *lay, uint32_t i);

/* Scores of the last `window` queries over the whole prompt, each layer (SnapKV and its
 * kin): 2 * q_heads * window * n * head_dim FLOP, and an fp32 matrix of q_heads * window * n
 * of one layer. */
void keep_window_scores(const struct scheme_use *use, const struct layout *lay,
                        const struct phase *ph, uint64_t window, struct extra_cost *out);

/* The most tokens a key may say: sums and products of a few stay within 64 bits. */
#define KEEP_TOKENS_MAX 1e12

/* The key of every scheme that kvpress has too. */
#define KEEP_RATIO_FIELD(S)                                                                    \
    FIELD(S, compression_ratio, "compression_ratio", F_NUMBER, 0, 1, NULL,                     \
          "drop this share of the prompt in every layer instead, as kvpress counts it")
#define KEEP_LAYOUT_FIELD(S, fallback_text)                                                    \
    FIELD_CHOICE(                                                                              \
        S, layout, "layout", keep_layouts, fallback_text,                                      \
        "what a stored head is: a query head, as the release stores it, or a K/V head")

#endif
