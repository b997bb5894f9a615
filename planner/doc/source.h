/* Bytes at a place: a file, a piece of memory, or something a caller fetches piece by piece.
 * Readers of binary headers ask for ranges and never for the whole, so that a file of hundreds
 * of gigabytes costs its header. A store is a folder of sources, on disk or elsewhere. */
#ifndef KVBUDGET_PLANNER_DOC_SOURCE_H
#define KVBUDGET_PLANNER_DOC_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "planner/base/diag.h"

struct source {
    const char *name;    /* what messages call it */
    uint64_t size_bytes; /* of the whole */
    size_t chunk_bytes;  /* a good amount to ask for at once */
    /* Fills buf with exactly n bytes from `from` on; the range is known to lie within the size.
     * A failure is a DIAG_INPUT. */
    bool (*read)(struct source *s, uint64_t from, void *buf, size_t n, struct diag *d);
    void (*close)(struct source *s); /* NULL: nothing to do */
    const void *data;
    void *self;
    int fd;
};

/* A regular file. Missing, unreadable or no regular file: a DIAG_INPUT naming the path. */
bool source_file(struct arena *a, const char *path, struct diag *d, struct source *out)
    __attribute__((warn_unused_result));
/* `data` must outlive the source. */
void source_memory(const char *name, const void *data, size_t n, struct source *out);

/* n bytes from `from` on; a range that ends behind the end is a DIAG_INPUT that says so. */
bool source_read(struct source *s, uint64_t from, void *buf, size_t n, struct diag *d)
    __attribute__((warn_unused_result));
void source_close(struct source *s);

enum store_answer { STORE_FOUND, STORE_ABSENT, STORE_FAILED }; /* only the last says why */

struct store {
    const char *name; /* the folder, or the id of a repository */
    enum store_answer (*open)(struct store *s, struct arena *a, const char *file,
                              struct diag *d, struct source *out);
    void *self;
};

/* The files of a folder. */
struct store store_folder(const char *path);
/* The whole of one file as text with a NUL behind it, at most `limit` bytes. */
enum store_answer store_text(struct store *s, struct arena *a, const char *file, size_t limit,
                             struct diag *d, char **text, size_t *n);

#endif
