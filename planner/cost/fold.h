/* The layout folded for arithmetic: equal rows become classes, so that cost walks a handful of
 * classes instead of a hundred rows, and nothing is allocated while plans are evaluated. One
 * fold describes what ONE GPU of a pipeline stage holds and reads (or the whole model, for a
 * shard of 1). */
#ifndef KVBUDGET_PLANNER_COST_FOLD_H
#define KVBUDGET_PLANNER_COST_FOLD_H

#include "planner/cache/layout.h"

struct slice {            /* what a fold covers */
    uint32_t tp, cp;      /* tensor and context parallel degree, at least 1 */
    uint32_t first, last; /* layers [first, last) */
};

struct store_class {      /* rows that store something, all alike */
    struct cache_row row; /* with the heads of one rank */
    uint32_t count;
};

struct read_class { /* rows whose queries attend, all alike */
    struct cache_row reader, source;
    uint32_t count;        /* rows */
    uint64_t passes;       /* sum of the prefill passes of their layers */
    uint32_t early;        /* rows in layers that prefill may skip but for the last token */
    uint64_t early_passes; /* passes of those */
};

/* A place in the prefill where the peak may lie: the last layer of its kind. Rows that a rule
 * cuts inside the prefill of their layer are whole until the last layer that reads them has
 * run. */
struct peak_point {
    uint32_t *upto; /* [n_upto]: rows of each class in layers up to and including this one */
    uint32_t
        *whole; /* [n_upto]: of those, the ones that are still whole beside what they keep */
    uint32_t n_upto;
};

struct fold {
    struct slice slice;
    struct store_class *stores;
    uint32_t n_stores;
    struct read_class *reads;
    uint32_t n_reads;
    struct peak_point *peaks;
    uint32_t n_peaks;
    uint64_t state_bytes; /* per sequence, this rank */
    uint64_t state_layers;
    bool ragged;
};

/* Folds the rows that the layers of `s` store or read. A source outside the slice is stored in
 * the slice too (its K/V is sent along). State bytes follow the shards of vLLM's mamba_utils
 * (facts: eviction 9.1). errors: ck->over. */
void fold_layout(const struct layout *l, struct slice s, struct fold *out, struct ck *ck);

/* Bytes of one sequence on this rank; tokens are rounded up to blocks of `block_tokens` (1 =
 * exact) a row. resident: after a prompt of n and `decoded` fed-back tokens, states included
 *   running:  during the step that fed back the last of them (row_running_tokens)
 *   highest:  the most over a decode of `decoded` tokens
 *   prefill:  the most while the prompt is processed (facts: eviction 0.5)
 * units: bytes; source: sharing 1.2, eviction 0.5. */
uint64_t fold_resident_bytes(const struct fold *f, uint64_t n, uint64_t decoded,
                             uint64_t block_tokens, struct ck *ck);
uint64_t fold_running_bytes(const struct fold *f, uint64_t n, uint64_t decoded,
                            uint64_t block_tokens, struct ck *ck);
uint64_t fold_highest_bytes(const struct fold *f, uint64_t n, uint64_t decoded,
                            uint64_t block_tokens, struct ck *ck);
uint64_t fold_prefill_peak_bytes(const struct fold *f, uint64_t n, uint64_t block_tokens,
                                 struct ck *ck);

/* Bytes of the first `prefix` tokens that sequences with a common prefix store once: rows that
 * drop nothing only. */
uint64_t fold_shared_bytes(const struct fold *f, uint64_t prefix, uint64_t block_tokens,
                           struct ck *ck);

/* Resident bytes one more token costs in the long run: below every window and limit, or past
 * every window. */
uint64_t fold_token_bytes(const struct fold *f, bool past_windows, struct ck *ck);

/* Bytes a decode step reads from and appends to the cache of one sequence; the sum runs over
 * every reading layer (sharing 1.2: sharing shrinks what is stored, not what is read). */
uint64_t fold_decode_read_bytes(const struct fold *f, uint64_t n, uint64_t decoded,
                                struct ck *ck);
uint64_t fold_decode_write_bytes(const struct fold *f, struct ck *ck);

/* Parts of the resident bytes: K (latents and index keys included) and V. */
void fold_kv_parts(const struct fold *f, uint64_t n, uint64_t decoded, uint64_t block_tokens,
                   uint64_t *k_bytes, uint64_t *v_bytes, struct ck *ck);

#endif
