/* What profiles/embed.c and the lookup of profiles must agree on: which files are profiles, how
 * they are read, under which names they are found, and the form of the blob. */
#ifndef KVBUDGET_PLANNER_DOC_PROFILE_KEY_H
#define KVBUDGET_PLANNER_DOC_PROFILE_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "planner/base/arena.h"
#include "planner/base/diag.h"
#include "planner/doc/doc.h"
#include "planner/doc/profile.h"

/* The name in the form that is compared: lower case, '-' for ' ' and '_'. */
char *profile_fold(struct arena *a, const char *name);
/* strcmp of a folded key with profile_fold of a name, which is not made. */
int profile_compare(const char *key, const char *name);

struct profile_key {
    const char *text; /* folded */
    struct loc at;
    bool bare; /* a model's name without the organisation: dropped where two have it */
};

struct profile_keys {
    const char *name; /* as spelled; the stem of the file when there is no `name` */
    struct profile_key *v;
    size_t n;
};

/* The keys of one document: name, aliases, bare model names; each once. Without a document
 * (NULL), or for examples and schemas, the stem of the file is the name. A `name` or alias that
 * is no text is an error. */
bool profile_keys(struct arena *a, enum profile_kind k, const char *stem,
                  const struct doc_node *doc, struct diag *d, struct profile_keys *out)
    __attribute__((warn_unused_result));

/* The file names of a folder that are profiles of this kind (.yaml; .json for schemas; both for
 * measured), sorted bytewise; a missing folder has none. */
char **profile_files(struct arena *a, enum profile_kind k, const char *folder, size_t *n);
char *profile_stem(struct arena *a, enum profile_kind k, const char *file);

/* YAML or JSON, by the end of the file name; exactly one document (of an example, which may be
 * a stream, the first). `label` is what messages
 * call the file. */
bool profile_parse(struct arena *a, const char *label, const char *text, size_t n,
                   struct diag *d, struct doc_node **out) __attribute__((warn_unused_result));

/* The blob of builtin profiles: offsets into `bytes`, where all strings end in NUL. Files are
 * sorted by kind and name, keys by kind and text. */
struct builtin_file {
    uint32_t kind, name, label, text, size;
};
struct builtin_key {
    uint32_t kind, text, file;
};
struct builtin_profiles {
    const unsigned char *bytes;
    size_t n_bytes;
    const struct builtin_key *keys;
    size_t n_keys;
    const struct builtin_file *files;
    size_t n_files;
};
extern const struct builtin_profiles builtin_profiles; /* generated */

#endif
