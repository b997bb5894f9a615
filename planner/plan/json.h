/* Writing JSON: exact integers, finite doubles, keys in the order in which they are added,
 * and the same bytes for the same tree on every machine. Trees are cJSON's, so they are
 * freed with cJSON_Delete by whoever made them. */
#ifndef KVBUDGET_PLANNER_PLAN_JSON_H
#define KVBUDGET_PLANNER_PLAN_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <cjson/cJSON.h>

#include "planner/base/diag.h"

/* A new object or list; with a parent it is added there (`key` NULL when the parent is a
 * list). */
cJSON *json_object(cJSON *parent, const char *key);
cJSON *json_list(cJSON *parent, const char *key);

/* Adds one value. `key` is NULL when `to` is a list. A NULL text adds nothing. */
void json_u64(cJSON *to, const char *key, uint64_t v);
void json_double(cJSON *to, const char *key, double v); /* asserts that it is finite */
void json_text(cJSON *to, const char *key, const char *v);
void json_bool(cJSON *to, const char *key, bool v);
/* A whole number that was summed in doubles: rounded to the nearest, exact below 2^64, else
 * written as a double. Negative values count as 0. */
void json_whole(cJSON *to, const char *key, double v);

/* Messages from index `from` on as {severity, message, file, line, column}; places that are not
 * known are left out. */
void json_diagnostics(cJSON *list, const struct diag *d, size_t from);

/* Reading back what was added: by dotted path, list elements as numbers from 0 ("a.list.0.b");
 * NULL or false when there is none. */
const cJSON *json_at(const cJSON *root, const char *path);
bool json_get_u64(const cJSON *v, uint64_t *out);
bool json_get_double(const cJSON *v, double *out); /* whole numbers too */

/* Writes the tree and a newline: indented by two, lists of plain values on one line, or
 * (compact) all on one line. Doubles have 15 significant digits. */
void json_print(const cJSON *root, bool compact, FILE *out);

#endif
