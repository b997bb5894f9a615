/* How a cached element is stored. Everything is integers, so 4.25-bit formats are exact. */
#ifndef KVBUDGET_PLANNER_CACHE_FORMAT_H
#define KVBUDGET_PLANNER_CACHE_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "planner/base/ck.h"

/* Which tokens of a row stay in full precision. */
enum residual_rule {
    RESIDUAL_NONE,
    RESIDUAL_MOD,   /* T mod R: KIVI keys */
    RESIDUAL_MIN,   /* min(T, R): KIVI values */
    RESIDUAL_FIRST, /* the first R tokens */
    RESIDUAL_CYCLE  /* Hugging Face: the prompt is quantized, then a tail of 0..R-1 decoded
                       tokens */
};

/* bytes of T tokens of a row with `heads` heads of `dim` elements, with q = T - residual
 * quantized: q * (heads * (ceil(dim / block_elems) * block_bytes + head_bytes) + token_bytes)
 *   + (q / token_group) * heads * dim * group_bytes        (per-channel scales; token_group 0 =
 * none)
 *   + residual * heads * dim * full_bytes
 * With whole_row the blocks run over heads * dim together (llama.cpp rows). */
struct format {
    const char *name;
    uint32_t block_elems, block_bytes;
    uint32_t head_bytes;  /* per token and head: scales */
    uint32_t token_bytes; /* per token: tables, outliers */
    uint32_t token_group, group_bytes;
    enum residual_rule residual;
    uint32_t residual_tokens;
    uint32_t full_bytes; /* bytes of an unquantized element */
    bool whole_row;
    uint32_t dequant_flop; /* per element read, 0 for plain formats */
};

/* source: facts per storage scheme; units: bytes; 0 for 0 tokens. `prompt` matters to
 * RESIDUAL_CYCLE only. */
uint64_t format_bytes(const struct format *f, uint64_t prompt, uint64_t tokens, uint32_t heads,
                      uint32_t dim, struct ck *ck);

/* Bytes one appended token writes (codes and its own scales, or the full-precision residual),
 * rounded up. */
uint64_t format_append_bytes(const struct format *f, uint32_t heads, uint32_t dim,
                             struct ck *ck);

/* Bytes one token adds to a long cache: codes and scales, scales of token groups by their
 * share, rounded up. */
uint64_t format_token_bytes(const struct format *f, uint32_t heads, uint32_t dim,
                            struct ck *ck);

/* Elements of elem_bytes each, nothing else; unquantized elements have 2 bytes, or elem_bytes
 * if that is more. */
struct format format_plain(const char *name, uint32_t elem_bytes);

bool format_equal(const struct format *a, const struct format *b);

#endif
