/* What a server can store at all. A plan with something else stands, as a question of what if,
 * with a warning that says so. */
#ifndef KVBUDGET_PLANNER_ENGINE_POOL_SUPPORT_H
#define KVBUDGET_PLANNER_ENGINE_POOL_SUPPORT_H

#include "planner/engine/engine.h"

/* Warns of rows stored in none of `formats` (NULL at the end), and of a retention rule: paged
 * servers keep every token a layer can still see. `engine` as it is spelt in prose. */
void support_check(const struct engine_in *in, const char *engine, const char *const *formats,
                   struct diag *d);

#endif
