/* Rows of a comparison side by side: the first is what the others are measured by. */
#ifndef KVBUDGET_TUI_COMPARE_DIFF_H
#define KVBUDGET_TUI_COMPARE_DIFF_H

#include "planner/plan/compare.h"
#include "tui/canvas.h"

enum { DIFF_LINES = 10 }; /* names and figures */

/* n of at least 1; as many as fit in r are shown. */
void diff_view(struct canvas *c, struct rect r, const struct compare_row *const *rows,
               size_t n);

#endif
