/* What is kept between visits: $XDG_STATE_HOME/kvbudget, else ~/.local/state/kvbudget, has the
 * settings (state.yaml) and, when the program was ended from outside, edits that were not saved
 * (edits.yaml). A file that cannot be read is no reason not to start. */
#ifndef KVBUDGET_TUI_STATEFILE_H
#define KVBUDGET_TUI_STATEFILE_H

#include "planner/base/diag.h"
#include "tui/session.h"

struct visit {
    const char *theme, *screen; /* NULL = not said */
    bool ascii;
    const char *path;  /* of the spec, absolute; NULL = none */
    const char *edits; /* YAML of a spec that was not saved; NULL = none */
};

/* The folder; NULL when neither XDG_STATE_HOME nor HOME is an absolute path. */
const char *statefile_folder(struct arena *a);

/* The last visit; nothing in it when there was none. *message says what could not be read. */
void statefile_read(struct arena *a, const char *folder, struct visit *out,
                    const char **message);

/* Keeps this one; makes the folder. Messages about what cannot be written go to `d`. */
bool statefile_write(struct arena *a, const char *folder, const struct visit *v, struct diag *d)
    __attribute__((warn_unused_result));

/* Writes a text to a file of the folder, whole or not at all, and returns its path; NULL with a
 * message when it cannot. For what is copied where no clipboard takes it. */
const char *statefile_put(struct arena *a, const char *folder, const char *name,
                          const char *text, struct diag *d);

/* Lays unsaved edits over the session, so that undo goes back to the file. */
void statefile_lay_edits(struct session *s, const char *text);

#endif
