/* The page of a scheme: what it is, where it comes from, and what is published of it. */
#ifndef KVBUDGET_TUI_ABOUT_H
#define KVBUDGET_TUI_ABOUT_H

#include "planner/plan/compare.h"

/* Of a row with a scheme; in `a`. */
const char *about_scheme(struct arena *a, const struct compare_row *r);

#endif
