/* What was read from YAML or JSON: a tree of scalars, lists and maps, each with its place.
 * Nothing is typed here; the binder asks for the type it wants. */
#ifndef KVBUDGET_PLANNER_DOC_DOC_H
#define KVBUDGET_PLANNER_DOC_DOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "planner/base/arena.h"
#include "planner/base/diag.h"
#include "planner/base/unit.h"

enum doc_kind { DOC_SCALAR, DOC_LIST, DOC_MAP };

struct doc_node {
    enum doc_kind kind;
    struct loc at;    /* of the value */
    const char *text; /* scalar; "" for an empty YAML value */
    bool quoted;      /* scalar: a string for sure, so "null" is not null */
    const char *key;  /* in a map: its key, else NULL */
    struct loc key_at;
    struct doc_node *first, *last; /* children of a list or map, in file order */
    struct doc_node *next;         /* sibling */
    size_t n;                      /* number of children */
};

enum { DOC_DEPTH_MAX = 32, DOC_JSON_DEPTH_MAX = 64, DOC_FILE_MAX = 4 << 20 };

/* YAML text -> trees, one a document, at most `max`. Rejects duplicate keys, anchors, aliases,
 * tags, depth above DOC_DEPTH_MAX, NUL bytes, invalid UTF-8; every message carries
 * file:line:col. `name` is what messages call the file. *n is the number read. Empty text gives
 * 0 documents. */
bool doc_read_yaml(struct arena *a, const char *name, const char *text, size_t size,
                   struct diag *d, struct doc_node **out, size_t max, size_t *n)
    __attribute__((warn_unused_result));

/* JSON text -> one tree. First a bounded scan (depth, duplicate keys, trailing text), then
 * cJSON. With `lenient` the literals NaN, Infinity and -Infinity are taken as scalars and noted
 * with their place; otherwise they are errors. */
bool doc_read_json(struct arena *a, const char *name, const char *text, size_t size,
                   bool lenient, struct diag *d, struct doc_node **out)
    __attribute__((warn_unused_result));

const struct doc_node *doc_get(const struct doc_node *map,
                               const char *key); /* NULL: absent or not a map */
const struct doc_node *doc_path(const struct doc_node *map, const char *dotted);
bool doc_is_null(const struct doc_node *n); /* NULL pointer, "", ~, null unquoted */

/* Building trees: a node without a parent, and adding it as the last child (set its key first).
 */
struct doc_node *doc_new(struct arena *a, enum doc_kind kind, struct loc at);
void doc_append(struct doc_node *parent, struct doc_node *child);
/* Every second use of a key in one map is a DIAG_INPUT that names the line of the first. */
bool doc_check_keys(struct arena *a, const struct doc_node *map, struct diag *d);
/* A deep copy that shares the texts; without key and siblings. */
struct doc_node *doc_copy(struct arena *a, const struct doc_node *n);

/* Replaces or adds one value in place, as `--set a.b.c=VALUE` does; VALUE is read as YAML, maps
 * that are missing on the way are made. Work on a doc_copy to keep the original. Returns false
 * with a DIAG_USAGE when the path is malformed or runs through a scalar or list. */
bool doc_set(struct arena *a, struct doc_node *root, const char *dotted, const char *value,
             struct diag *d) __attribute__((warn_unused_result));

/* The nearest of a list of names, or NULL when none is near: for "did you mean". */
const char *doc_nearest(const char *word, const char *const *names, size_t n);

/* What a node is, for messages: "'abc'" (shortened), "a list", "a map", "nothing". */
const char *doc_describe(const struct doc_node *n, char *buf, size_t size);
/* Adds the DIAG_INPUT for a value that did not parse; `label` names it ("'layers' in model"),
 * `expected` says what would do ("a whole number"). Returns false. */
bool doc_reject(const struct doc_node *n, const char *label, enum unit_error e,
                const char *expected, struct diag *d);

/* Typed reads of one node; each adds a DIAG_INPUT that says what was found and expected, and
 * returns false when it does not fit. A NULL or null node leaves *out as it is and returns
 * true. */
bool doc_u64(const struct doc_node *n, uint64_t min, uint64_t max, struct diag *d,
             uint64_t *out) __attribute__((warn_unused_result));
bool doc_u32(const struct doc_node *n, uint32_t min, uint32_t max, struct diag *d,
             uint32_t *out) __attribute__((warn_unused_result));
bool doc_double(const struct doc_node *n, double min, double max, struct diag *d, double *out)
    __attribute__((warn_unused_result));
/* true false yes no on off True False; 0 and 1 only unquoted. doc_truth says nothing. */
bool doc_truth(const struct doc_node *n, bool *out) __attribute__((warn_unused_result));
bool doc_bool(const struct doc_node *n, struct diag *d, bool *out)
    __attribute__((warn_unused_result));
bool doc_text(const struct doc_node *n, struct diag *d, const char **out)
    __attribute__((warn_unused_result));

#endif
