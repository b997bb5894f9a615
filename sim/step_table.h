/* Measured steps in place of the roofline. A CSV file with the header
 * `prefill_tokens,decodes,context_tokens,seconds`, a row a measurement: prompt tokens computed
 * in the step, sequences that decode, and cached tokens that both look back on (the offsets of
 * chunks and the lengths of decoding sequences).
 *
 * Between measurements: the values of the first two columns form a grid, and every place of it
 * needs a row (0,0 apart, which counts as the shortest step measured); at each place time is
 * piecewise linear in the context, level before the first row and, past the last, as between
 * the last two but never falling. Between four places time is bilinear, and linear in the same
 * way past the largest values; never below 0. */
#ifndef KVBUDGET_SIM_STEP_TABLE_H
#define KVBUDGET_SIM_STEP_TABLE_H

#include "planner/base/arena.h"
#include "planner/base/diag.h"

#include <stdint.h>

enum {
    TABLE_AXIS = 64,     /* most different values of prefill_tokens, and of decodes */
    TABLE_CONTEXTS = 64, /* most rows with the same two */
    TABLE_BYTES = 1 << 20
};

struct step_table;

/* errors: DIAG_INPUT with file:line:col. */
bool step_table_read(struct arena *a, const char *path, struct diag *d,
                     const struct step_table **out) __attribute__((warn_unused_result));
/* The same from memory; `name` stands in messages. */
bool step_table_parse(struct arena *a, const char *name, const char *text, size_t bytes,
                      struct diag *d, const struct step_table **out)
    __attribute__((warn_unused_result));

struct table_place { /* from this context on: seconds + (context - from) * slope */
    double from, seconds, slope;
};
/* Time over the context for a number of prompt tokens and decodes: fills `out` (from 0 on, in
 * order) and returns how many, at most 4 * (TABLE_CONTEXTS + 1). */
enum { TABLE_PLACES = 4 * (TABLE_CONTEXTS + 1) };
uint32_t step_table_line(const struct step_table *t, double prefill_tokens, double decodes,
                         struct table_place out[TABLE_PLACES]);

#endif
