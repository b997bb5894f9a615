/* Reading whole files with a limit, and writing so that a file is never half there. */
#ifndef KVBUDGET_PLANNER_BASE_FILE_H
#define KVBUDGET_PLANNER_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "planner/base/diag.h"

/* Reads `path` ("-" = stdin) into the arena, NUL-terminated; at most `limit` bytes.
 * A directory, a missing file, a read error or a longer file is a DIAG_INPUT naming the path.
 */
bool file_read(struct arena *a, const char *path, size_t limit, struct diag *d, char **text,
               size_t *n) __attribute__((warn_unused_result));

bool file_exists(const char *path);
bool file_is_dir(const char *path);

/* Output to `path`, or to `standard` when path is NULL or "-". A named file is written under a
 * temporary name in the same folder and renamed by file_commit; file_abandon removes it. */
struct file_out {
    FILE *f;
    char *path, *temporary;
};
bool file_create(struct arena *a, const char *path, FILE *standard, struct diag *d,
                 struct file_out *out) __attribute__((warn_unused_result));
bool file_commit(struct file_out *out, struct diag *d) __attribute__((warn_unused_result));
void file_abandon(struct file_out *out);

#endif
