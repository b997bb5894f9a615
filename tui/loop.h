/* The interactive program: events from the terminal to the ui, frames back. */
#ifndef KVBUDGET_TUI_LOOP_H
#define KVBUDGET_TUI_LOOP_H

#include "planner/base/diag.h"
#include "tui/term.h"
#include "tui/ui.h"

/* Runs until the user quits, the terminal is gone or a signal asks to end; `folder` is where
 * the state is kept (NULL: nowhere). The terminal is given back before it returns; what could
 * not be written is in `d` then. */
void loop_run(struct arena *a, struct ui *ui, struct terminal *t, const char *folder,
              struct diag *d);

#endif
