/* Taking a scheme over into the spec: the edits that ask for it. */
#ifndef KVBUDGET_TUI_APPLY_H
#define KVBUDGET_TUI_APPLY_H

#include "tui/session.h"

/* A scheme with its parameters as a spec has it: "lckv", "{scheme: lckv, warmup: 2}". Only what
 * differs from the defaults is said. */
const char *apply_text(struct arena *a, const struct scheme_use *use);

enum { APPLY_EDITS = 5 };
/* Edits that set the axis of `use` and leave the others as they are; NULL or without a scheme:
 * those that take every scheme and format away, the model as shipped. Returns how many. */
size_t apply_edits(struct arena *a, const struct scheme_use *use,
                   struct session_edit out[APPLY_EDITS]);

#endif
