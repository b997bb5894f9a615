/* The `quantization` map of the inline form. Private to planner/model. */
#ifndef KVBUDGET_PLANNER_MODEL_INLINE_QUANT_H
#define KVBUDGET_PLANNER_MODEL_INLINE_QUANT_H

#include <stdio.h>

#include "planner/model/model.h"

/* {format, method, parts: [q, k, ...], layers: [{first, last, parts}], kv_format}; NULL or
 * null: nothing. */
bool inline_quant(struct arena *a, const struct doc_node *n, struct diag *d, struct model *m)
    __attribute__((warn_unused_result));

void write_quant(const struct model *m, FILE *out);

#endif
