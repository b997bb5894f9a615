/* For tests of commands: the program's main, with words instead of a command line and texts
 * instead of streams. */
#ifndef KVBUDGET_TESTS_KVCMD_H
#define KVBUDGET_TESTS_KVCMD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planner/cmd.h"
#include "tests/kvtest.h"

enum { KVCMD_ARGS = 32 };

struct ran {
    int status;
    char *out, *err; /* in the arena */
};

/* Words of `line` end in '|'; @x is the file x of `folder`. input: what stands in standard
 * input,
 * "" = nothing. */
static inline struct ran kvcmd_run(struct arena *a, const char *folder, const char *line,
                                   const char *input)
{
    char *words = arena_strdup(a, line), *argv[KVCMD_ARGS] = {arena_strdup(a, "kvbudget")};
    char *text = NULL, *messages = NULL;
    size_t n_out = 0, n_err = 0;
    struct arena *own = arena_new();
    struct cmd_ctx ctx = {.argc = 1, .argv = argv, .arena = own, .diag = diag_new(own)};
    struct ran r;

    ctx.in =
        *input ? fmemopen(arena_strdup(a, input), strlen(input), "r") : fopen("/dev/null", "r");
    ctx.out = open_memstream(&text, &n_out);
    ctx.err = open_memstream(&messages, &n_err);
    assert_true(ctx.in && ctx.out && ctx.err);
    for (char *w = words; w && ctx.argc < KVCMD_ARGS - 1; ctx.argc++) {
        char *bar = strchr(w, '|');
        if (bar)
            *bar++ = '\0';
        argv[ctx.argc] = *w == '@' ? arena_printf(a, "%s/%s", folder, w + 1) : w;
        w = bar;
    }
    r.status = cmd_main(&ctx);
    fclose(ctx.in);
    fclose(ctx.out);
    fclose(ctx.err);
    r.out = arena_strdup(a, text);
    r.err = arena_strdup(a, messages);
    free(text);
    free(messages);
    arena_free(own);
    return r;
}

#endif
