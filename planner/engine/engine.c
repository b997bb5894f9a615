/* The registry of engines and what they share. */
#include "planner/engine/engine.h"

#include <string.h>

#define ENTRY(id) extern const struct engine engine_##id;
#include "engine.inc"
#undef ENTRY

static const struct engine *const engines[] = {
#define ENTRY(id) &engine_##id,
#include "engine.inc"
#undef ENTRY
    NULL,
};

const struct engine *engine_at(size_t i)
{
    return i < sizeof engines / sizeof *engines ? engines[i] : NULL;
}

const struct engine *engine_find(const char *name, struct loc at, struct diag *d)
{
    char known[256] = "";
    size_t used = 0;

    if (!name || !*name)
        name = "ideal";
    for (size_t i = 0; engines[i]; i++) {
        int n;
        if (!strcmp(engines[i]->name, name))
            return engines[i];
        n = snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "",
                     engines[i]->name);
        if (n > 0 && (size_t)n < sizeof known - used)
            used += (size_t)n;
    }
    diag_add(d, DIAG_INPUT, at, "engine '%s' is not in this build; known engines: %s", name,
             known);
    return NULL;
}

void budget_close(struct budget *b)
{
    uint64_t terms[] = {b->weights_bytes, b->activation_bytes, b->non_torch_bytes,
                        b->cuda_graph_bytes, b->workspace_bytes};
    struct ck ck = {0};
    uint64_t sum = 0;

    for (size_t i = 0; i < sizeof terms / sizeof *terms; i++)
        sum = ck_add(&ck, sum, terms[i]);
    if (ck.over)
        sum = UINT64_MAX;
    b->kv_pool_bytes = b->usable_bytes > sum ? b->usable_bytes - sum : 0;
    b->short_bytes = sum > b->usable_bytes ? sum - b->usable_bytes : 0;
}
