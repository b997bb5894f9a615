/* The parameters of a scheme as they were bound, read back through the scheme's own field
 * table: for tables, JSON, and for measuring how far a published setting is from the asked
 * one. */
#ifndef KVBUDGET_PLANNER_PLAN_PARAMS_H
#define KVBUDGET_PLANNER_PLAN_PARAMS_H

#include "planner/cache/scheme.h"
#include "planner/plan/json.h"

/* The field of that key; '_' and '-' are one letter. NULL: the scheme has none. */
const struct field *params_field(const struct scheme *s, const char *key);

/* Whether the field has a value other than zero, false or nothing. */
bool params_given(const struct scheme_use *use, const struct field *f);

/* The value as a number (choices are no numbers). False when it is not one. */
bool params_number(const struct scheme_use *use, const struct field *f, double *out);

/* The value as one would write it in a spec. */
const char *params_value_text(struct arena *a, const struct scheme_use *use,
                              const struct field *f);

/* The defaults of a scheme: a struct like use->params. Required keys stay zero. */
struct scheme_use params_defaults(struct arena *a, const struct scheme_use *use);

/* "capacity 2048, window 8, beta 20": what has a value, defaults too; but no choices and
 * flags that are at their default. "" where there is nothing to say. */
const char *params_text(struct arena *a, const struct scheme_use *use);

/* Adds a key for every field that has a value. */
void params_json(struct arena *a, const struct scheme_use *use, cJSON *to);

#endif
