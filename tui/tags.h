/* Schemes tagged in Compare: seen side by side there, and drawn in Curves. */
#ifndef KVBUDGET_TUI_TAGS_H
#define KVBUDGET_TUI_TAGS_H

#include "tui/session.h"

/* 1-based place of a name among the tags; 0 = it is not tagged. */
int tags_place(const struct session *s, const char *name);
/* Tags a name (it must live as long as the session) or takes its tag away; false when no more
 * can be tagged. */
bool tags_toggle(struct session *s, const char *name);
size_t tags_count(const struct session *s);

#endif
