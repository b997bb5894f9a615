/* What the loop and the player need of the ui besides tui/ui.h. */
#ifndef KVBUDGET_TUI_UI_LOOP_H
#define KVBUDGET_TUI_UI_LOOP_H

#include "tui/theme.h"
#include "tui/ui.h"

const struct theme *ui_theme(const struct ui *ui);
const char *ui_screen(const struct ui *ui); /* id of the one shown */
void ui_set_ascii(struct ui *ui);           /* chosen at the last visit; F2 undoes it */
/* What its user chose, to be kept for the next visit: not what this terminal or its options
 * asked for. */
bool ui_ascii_chosen(const struct ui *ui);
const char *ui_theme_chosen(const struct ui *ui);
/* The line about the GPU of this machine, shown where nothing else is said; "" = none. */
void ui_set_machine(struct ui *ui, const char *line);
bool ui_wants_machine(const struct ui *ui); /* whether it would be seen */

#endif
