/* Saved results of `kvbudget validate` (kvbudget.validate/1), read for the Check screen. What a
 * newer writer adds is passed over; what is missing is shown as missing. */
#ifndef KVBUDGET_TUI_CHECK_FILE_H
#define KVBUDGET_TUI_CHECK_FILE_H

#include "planner/base/arena.h"
#include "planner/base/diag.h"

enum check_verdict { CHECK_OK, CHECK_BAD, CHECK_WAIVED, CHECK_OTHER };

struct check_row {
    const char *name, *level, *verdict, *reason, *unit; /* "" = not said */
    enum check_verdict kind;
    double predicted, measured, ratio, tolerance; /* NAN = not said */
};

struct check_file {
    const char *path, *device, *driver, *date; /* "" = not said */
    struct check_row *rows;
    size_t n, n_bad, n_waived;
};

/* errors: DIAG_INPUT when it cannot be read, is not JSON, or is of another schema. */
bool check_read(struct arena *a, const char *path, struct diag *d, struct check_file *out)
    __attribute__((warn_unused_result));

/* The newest `validate*.json` of a folder by its time of change, then its name; NULL = none. */
const char *check_newest(struct arena *a, const char *folder);

#endif
