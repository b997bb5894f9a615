/* What the count checks share: the size of a case, names, and the comparison of a tally with a
 * kernel's own formula. */
#ifndef KVBUDGET_VALIDATE_COUNT_H
#define KVBUDGET_VALIDATE_COUNT_H

#include "validate/check.h"
#include "validate/paged.h"

enum { COUNT_SEQUENCES = 2, COUNT_TOKENS_MAX = 8192 };

/* Tallies are the CPU build's. */
const char *count_filter(const struct check_in *in);

/* "bytes read: sliding 512, 8 of 32 heads of 128, bf16, x 24": what a class of rows is. The
 * reader is NULL for classes of stores. */
const char *count_name(struct arena *a, const char *what, const struct cache_row *reader,
                       const struct cache_row *store, uint32_t count);

/* The planner's figures of one row of a class and one sequence: of its prompt, that many tokens
 * long and run once, or of a step where that is 0. Added to *t. */
void count_row(const struct subject *s, const struct read_class *c, uint64_t prompt,
               struct op_tally *t);

/* Every figure that the kernels issued against the sum of their formulas; one finding. */
void count_issued(struct findings *f, struct finding like, const struct traffic *formula,
                  const struct traffic *issued);

/* What was counted since the reset, once all of it has run; `s` is how the launches went and is
 * passed on when one failed. */
enum device_status count_settle(struct device *d, enum device_status s, struct tally *got);

/* Whether two stores are alike in what they hold of a token, whatever they keep. */
bool count_alike(const struct cache_row *a, const struct cache_row *b);

/* K and V together. */
uint64_t count_kv(const uint64_t bytes[N_TAGS]);

#endif
