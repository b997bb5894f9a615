/* Reading quantization_config of a config.json into struct quant. */
#ifndef KVBUDGET_PLANNER_MODEL_QUANT_CONFIG_H
#define KVBUDGET_PLANNER_MODEL_QUANT_CONFIG_H

#include "planner/model/model.h"

/* Sets m->quant from `q` (NULL: not quantized); the layers of *m must be there, because ignore
 * lists are resolved to masks a layer. An unknown method or bit width is a DIAG_INPUT naming
 * it. */
bool quant_from_config(struct arena *a, const struct doc_node *q, struct diag *d,
                       struct model *m) __attribute__((warn_unused_result));

/* Whether an ignore entry (a name, a trailing or leading part of one, a glob with '*', or `re:`
 * and a regular expression anchored at the start) covers the module `name`, e.g.
 * "layers.3.self_attn.q_proj" or "lm_head". */
bool quant_ignores(const char *entry, const char *name);

#endif
