/* What the storage schemes have in common: setting the formats of rows. Latents are keys
 * that serve as values too, so they have a K format only; indexer keys and states keep their
 * own. */
#ifndef KVBUDGET_PLANNER_CACHE_STORAGE_H
#define KVBUDGET_PLANNER_CACHE_STORAGE_H

#include "planner/cache/scheme.h"

/* The format of one side of a row; `dim` elements a head. False leaves the row as it is. */
typedef bool (*storage_fn)(const struct scheme_use *use, const struct layout *lay,
                           const struct cache_row *r, bool value, struct format *out);

/* Sets the formats of the asked sides of every row that stores K/V or a latent, and names
 * the pass. Refuses formats with a full-precision tail for keys of two widths (ThinK). */
bool storage_set(const struct scheme_use *use, struct layout *lay, storage_fn format,
                 struct diag *d) __attribute__((warn_unused_result));

/* Elements a head of one side. */
uint32_t storage_dim(const struct cache_row *r, bool value);

/* Codes of `bits` bits packed along a head, and scale_bytes for each `group` of its elements
 * (0 = the whole head). */
struct format storage_grouped(const char *name, uint32_t bits, uint32_t group,
                              uint32_t scale_bytes, uint32_t dim);

/* Refuses a use of `k` or `v` alone for a format that packs both together. */
bool storage_both_sides(const struct scheme_use *use, struct diag *d)
    __attribute__((warn_unused_result));

#endif
