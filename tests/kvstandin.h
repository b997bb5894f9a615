/* For tests against libraries that are not there: a stand-in is compiled from tests/data and
 * named by the environment variable that the program looks at. */
#ifndef KVBUDGET_TESTS_KVSTANDIN_H
#define KVBUDGET_TESTS_KVSTANDIN_H

#include <stdio.h>
#include <stdlib.h>

#include "tests/kvtest.h"

struct kv_standin {
    struct arena *a;
    char *folder;
    const char *variable, *path;
};

/* tests/data/NAME.c with these -D options; skips the test where no compiler makes one. */
static inline struct kv_standin kv_standin(const char *name, const char *variable,
                                           const char *options)
{
    struct kv_standin l = {.a = arena_new(), .variable = variable};
    const char *cc = getenv("CC");

    l.folder = kt_folder(l.a);
    l.path = arena_printf(l.a, "%s/%s.so", l.folder, name);
    if (system(arena_printf(l.a, "%s -shared -fPIC -o '%s' %s tests/data/%s.c 2>'%s/log'",
                            cc && *cc ? cc : "cc", l.path, options, name, l.folder)) != 0) {
        print_message("skipped: no C compiler makes a shared library (set CC)\n");
        kt_folder_remove(l.folder);
        arena_free(l.a);
        skip();
    }
    setenv(variable, l.path, 1);
    return l;
}

static inline void kv_standin_done(struct kv_standin *l)
{
    unsetenv(l->variable);
    kt_folder_remove(l->folder);
    arena_free(l->a);
}

#endif
