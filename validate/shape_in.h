/* Between the files of validate/shape: stores, and what they ask of a problem's schemes. */
#ifndef KVBUDGET_VALIDATE_SHAPE_IN_H
#define KVBUDGET_VALIDATE_SHAPE_IN_H

#include "validate/shape.h"

/* The scheme on the retention axis, or NULL. */
const struct scheme_use *shape_retention(const struct problem *p);

/* A whole-number parameter (also a choice's index) that is bound in `u`; 0 where it has none.
 */
uint64_t shape_param(const struct scheme_use *u, const char *key);
double shape_ratio_param(const struct scheme_use *u, const char *key);

/* What ranks the rows that scheme drops; false: nothing here does. */
bool shape_rule(const struct scheme_use *u, enum shape_rule *out);

/* Tokens as 32-bit words have them: the most where there are more. */
static inline uint32_t shape_rows(uint64_t tokens)
{
    return tokens > UINT32_MAX ? UINT32_MAX : (uint32_t)tokens;
}

/* Adds the store of that row of the layout. */
void shape_add_store(struct shape *s, uint32_t row);

/* What one rank holds of a layer. */
struct layer shape_rank_layer(const struct layer *l, uint32_t tp);

/* How a tensor in that format is stored here, but where; NULL, or why it is not. */
const char *shape_stores(struct arena *a, const struct tensor *t, const struct weight_format *f,
                         struct shape_tensor *out);
uint64_t shape_aligned(uint64_t bytes, struct ck *ck); /* up to whole units of tensors */

/* Rows of the tables that embed tokens for every layer; 0: the sizes do not say. */
uint64_t shape_input_rows(const struct model *m);

/* The row as one rank stores or reads it. source: planner/cost/fold.c */
struct cache_row shape_row(const struct problem *p, uint32_t row);

#endif
