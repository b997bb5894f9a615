/* What `kvbudget validate` runs without a spec: small models of every kind of attention under
 * every sharing map, retention rule and storage format that the kernels have. */
#ifndef KVBUDGET_VALIDATE_MATRIX_H
#define KVBUDGET_VALIDATE_MATRIX_H

#include <stddef.h>
#include <stdint.h>

#include "planner/base/arena.h"

struct matrix_row {
    const char *name;   /* "lckv, bf16" */
    const char *spec;   /* YAML */
    unsigned levels;    /* bits of those that are run for it; 0 = all that are asked for */
    uint64_t fit_bytes; /* memory beyond the weights that `fit` may have; 0 = all there is */
};

/* The rows in order; *n of them. */
const struct matrix_row *matrix_rows(struct arena *a, size_t *n);

#endif
