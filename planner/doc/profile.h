/* Profiles: what is known of models, GPUs, engines and the rest, as YAML. The builtin ones lie
 * in the binary as one blob of text with a sorted index (made by profiles/embed.c); nothing is
 * parsed until a document is asked for, and then only that one. Users add or replace profiles
 * in folders of their own, which are searched first: the folder given (--profiles), then
 * $XDG_CONFIG_HOME/kvbudget/profiles or ~/.config/kvbudget/profiles; each holds models/, gpus/
 * and so on.
 *
 * Names are compared without regard to case, with ' ', '_' and '-' alike. A model is also found
 * without its organisation ("Qwen3-8B" for "Qwen/Qwen3-8B") where only one has that name. A
 * profile is found by its `name` and its `aliases`, a user's also by the name of its file. */
#ifndef KVBUDGET_PLANNER_DOC_PROFILE_H
#define KVBUDGET_PLANNER_DOC_PROFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "planner/base/arena.h"
#include "planner/base/diag.h"
#include "planner/doc/doc.h"

enum profile_kind {
    PROFILE_MODEL,
    PROFILE_GPU,
    PROFILE_ENGINE,
    PROFILE_WORKLOAD,
    PROFILE_EVIDENCE,
    PROFILE_EXAMPLE, /* specs: known by file name, text with comments */
    PROFILE_SCHEMA,  /* JSON Schema: known by file name */
    PROFILE_MEASURED
};
enum { PROFILE_KINDS = 8 };

const char *profile_folder(enum profile_kind k); /* "gpus" */
const char *profile_word(enum profile_kind k);   /* "GPU", for messages */

struct profiles;

/* Looks which folders there are; reads nothing. `user_dir` NULL = none; a given one that is no
 * folder is a DIAG_INPUT. Never NULL. Lookups fill caches: one thread at a time. */
struct profiles *profiles_open(struct arena *a, const char *user_dir, struct diag *d);

/* The document of that name, parsed once; NULL with nothing added to `d` when there is none,
 * NULL with errors when it cannot be read. The name may be NULL. Places read
 * `<builtin>/gpus/x.yaml` for builtin ones. */
const struct doc_node *profile_find(const struct profiles *p, enum profile_kind k,
                                    const char *name, struct diag *d);

/* The same, but an unknown name is a DIAG_INPUT at `at` with the nearest names. */
const struct doc_node *profile_require(const struct profiles *p, enum profile_kind k,
                                       const char *name, struct loc at, struct diag *d);

/* Whether the name is known, without reading the document. */
bool profile_has(const struct profiles *p, enum profile_kind k, const char *name,
                 struct diag *d);

/* The text of a profile as written, NUL-terminated, *n its length; NULL as profile_find. */
const char *profile_text(const struct profiles *p, enum profile_kind k, const char *name,
                         struct diag *d, size_t *n);

struct profile_entry {
    const char *name; /* as the profile spells it */
    const char *file; /* as messages spell it */
    bool user;
};

/* All profiles of a kind, sorted by name, each name once (the user's, where there are two). */
struct profile_entry *profile_list(const struct profiles *p, enum profile_kind k,
                                   struct arena *a, struct diag *d, size_t *n);

#endif
