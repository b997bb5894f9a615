/* The resolved layout, layer by layer: whose K/V each layer reads, what is stored and how,
 * what is kept of a prompt, and what it weighs. The sums over layers are the report's
 * figures. */
#ifndef KVBUDGET_PLANNER_PLAN_LAYERS_H
#define KVBUDGET_PLANNER_PLAN_LAYERS_H

#include "planner/plan/json.h"
#include "planner/plan/problem.h"

/* One stored or read stream of a layer, of one sequence on one GPU that holds the whole
 * model. */
struct layer_stream {
    const struct cache_row *row;
    uint32_t reads;           /* 1-based layer whose store is read; 0 for a state */
    uint32_t reads_group;     /* head group there */
    bool owns;                /* something is stored here */
    uint64_t retained_tokens; /* of the prompt, what this stream's queries can still see */
    uint64_t after_prefill_bytes, final_bytes; /* whole blocks; 0 for readers */
    uint64_t token_bytes;                      /* resident bytes of one more token */
    uint64_t state_bytes;
};

/* The stream of row `row` of the problem's layout. errors: ck->over. */
struct layer_stream layer_stream_of(const struct problem *p, uint32_t row, struct ck *ck);

/* kvbudget.layers/1. The caller frees it with cJSON_Delete. */
cJSON *layers_json(const char *name, const struct problem *p, const struct diag *d);

/* Equal layers share a line, or each has its own (`all`); then a drawing of the map. */
void layers_table(struct arena *a, const struct problem *p, bool all, FILE *out);

#endif
