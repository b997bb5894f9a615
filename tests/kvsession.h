/* For tests of the TUI: a session over a spec as text, with the builtin profiles. */
#ifndef KVBUDGET_TESTS_KVSESSION_H
#define KVBUDGET_TESTS_KVSESSION_H

#include <string.h>

#include "tests/kvtest.h"
#include "tui/session.h"

struct ks {
    struct arena *arena;
    struct session s;
};

/* NULL: the blank start. Free with ks_close. */
static inline struct ks *ks_open(const char *yaml)
{
    struct arena *a = arena_new();
    struct ks *k = ARENA_NEW(a, struct ks, 1);
    struct diag *d = diag_new(a);
    struct doc_node *doc = NULL;
    size_t n = 0;

    k->arena = a;
    if (yaml)
        assert_true(doc_read_yaml(a, "spec.yaml", yaml, strlen(yaml), d, &doc, 1, &n));
    session_init(&k->s, a, profiles_open(a, NULL, d), doc, NULL);
    return k;
}

static inline void ks_close(struct ks *k)
{
    struct arena *a = k->arena;

    session_free(&k->s);
    arena_free(a);
}

#endif
