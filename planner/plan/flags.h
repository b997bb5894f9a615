/* The way back from a plan: the command line, environment, file or Python call that makes the
 * chosen engine do what was planned. */
#ifndef KVBUDGET_PLANNER_PLAN_FLAGS_H
#define KVBUDGET_PLANNER_PLAN_FLAGS_H

#include "planner/engine/flags/flags.h"
#include "planner/plan/capacity.h"
#include "planner/plan/json.h"

struct flags {
    struct engine_flags set;
    const char *model;    /* as the server is told it */
    const char *sentence; /* whether the plan fits */
    bool fits;
};

/* Asks the engine. False: it has none (DIAG_INPUT at the spec's engine), or the plan's bytes
 * leave 64 bits. What cannot be set, and a plan that does not fit, are for the caller to judge.
 */
bool flags_solve(struct arena *a, const struct problem *p, struct diag *d, struct flags *out)
    __attribute__((warn_unused_result));

/* kvbudget.flags/1. The caller frees it with cJSON_Delete. */
cJSON *flags_json(const char *name, const struct problem *p, const struct flags *f,
                  const struct diag *d);

/* As one would paste it: what is to be known as comments, then the file, then the command (or
 * the Python call). */
void flags_print(struct arena *a, const struct flags *f, FILE *out);

/* The command as words for a shell, or "" where there is none. */
const char *flags_command(struct arena *a, const struct flags *f);

#endif
