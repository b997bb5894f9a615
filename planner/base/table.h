/* Aligned text tables for people: used by reports and by the lists of the TUI. Widths count
 * terminal columns (wcwidth); control characters from files are shown as '?'. */
#ifndef KVBUDGET_PLANNER_BASE_TABLE_H
#define KVBUDGET_PLANNER_BASE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "planner/base/arena.h"

struct table;

struct table *table_new(struct arena *a, size_t columns);
void table_right(struct table *t, size_t column);   /* align a column to the right */
void table_cell(struct table *t, const char *text); /* next cell, row by row */
void table_cellf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_rule(struct table *t); /* a line below the last row */
size_t table_rows(const struct table *t);
void table_print(const struct table *t, FILE *out); /* two spaces between columns */

#endif
