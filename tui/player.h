/* Plays a file of keys to the ui without a terminal: for documents, bug reports and tests.
 *
 * Words with blanks or line breaks between: names of keys as tui/keys.h has them, "text" in
 * quotes is typed (\" and \\ inside), `size WxH` resizes, `mouse press|double|up|down X Y`
 * (cells from 0), `wait SECONDS` moves the clock on and gives the ticks due, # starts a
 * comment. */
#ifndef KVBUDGET_TUI_PLAYER_H
#define KVBUDGET_TUI_PLAYER_H

#include "planner/base/diag.h"
#include "tui/ui.h"

/* "100x30"; false when it is none. Each side is 1 to 1000. */
bool player_size(const char *text, int *w, int *h);

/* All events of the file, checked before the first is played; a view follows each. Stops where
 * the ui wants to quit. False: the file is not right, and nothing was played. */
bool player_play(struct ui *ui, struct canvas *c, const char *name, const char *text,
                 struct diag *d) __attribute__((warn_unused_result));

#endif
