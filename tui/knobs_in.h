/* What the files tui/knobs*.c share: the table, and small questions about a knob. */
#ifndef KVBUDGET_TUI_KNOBS_IN_H
#define KVBUDGET_TUI_KNOBS_IN_H

#include "tui/knobs.h"

const struct knob *knob_row(size_t i); /* NULL past the end */

/* The axis whose schemes a knob chooses among, or whose scheme a parameter belongs to. */
bool knob_axis(const struct knob *k, enum scheme_axis *out);
/* The scheme in use at a key such as cache.eviction in the last plan; NULL = none. */
const struct scheme_use *knob_use(const struct session *s, const char *path);
/* "cache.eviction" of "cache.eviction.capacity", in `a`. */
const char *knob_parent(struct arena *a, const struct knob *k);

bool knob_is(const struct knob *k, const char *path);
/* Degrees of tensor parallelism that divide every attention layer's heads. */
bool knob_tp_divides(const struct problem *p, uint64_t tp);

/* The value as a number, given or not; false: there is none. Tokens, bytes, shares and whole
 * numbers alike. */
bool knob_number(const struct session *s, struct arena *a, const struct knob *k, double *out);
/* A number as one would write it for this knob. */
const char *knob_write(struct arena *a, const struct knob *k, double v);

#endif
