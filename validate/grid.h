/* What `kvbudget validate --matrix` runs: real models under many schemes at several batches and
 * contexts, none of them a shape that `calibrate` measures. Widths and heads are those of the
 * built-in profiles; models that would take too long are cut in layers, and their names say so:
 * "Llama-3.1-70B (4 of 80 layers), snapkv, 16 x 2048".
 *
 * The CPU build gets a small form of it that takes every model and every scheme once, with two
 * or more layers of a few dozen hidden elements, so that the same code runs anywhere. */
#ifndef KVBUDGET_VALIDATE_GRID_H
#define KVBUDGET_VALIDATE_GRID_H

#include <stdint.h>

#include "validate/matrix.h"
#include "validate/check.h"

struct grid_shape {
    const char *model;      /* a profile */
    uint32_t layers, whole; /* run; what the model has */
    const char *narrow;     /* keys of the CPU form besides hidden_size and vocab_size */
};
struct grid_point {
    uint32_t batch, prompt;
    bool fits; /* the largest batch is looked for, too */
};
const struct grid_shape *grid_shapes(size_t *n);
const struct grid_point *grid_points(size_t *n);
size_t grid_schemes(void);

/* The rows for a GPU, on `hardware.gpu: local`; cpu: those for the CPU build. *n of them. */
const struct matrix_row *grid_rows(struct arena *a, bool cpu, size_t *n);

/* Seconds that a subject's clock and fit take, by the planner's own figures. */
double grid_seconds(const struct subject *s);

#endif
