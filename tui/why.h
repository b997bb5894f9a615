/* Why: the formula of a figure, the numbers put in, and where each comes from, as a page. */
#ifndef KVBUDGET_TUI_WHY_H
#define KVBUDGET_TUI_WHY_H

#include "tui/session.h"

struct ui;

/* The page for a path of the report such as "capacity.max_batch"; NULL with *why when nothing
 * is planned or nothing is known of the path. */
const char *why_text(struct session *s, struct arena *a, const char *path, const char **why);

/* Opens it over the screen; where there is none, says so. */
void why_open(struct ui *ui, const char *path);

#endif
