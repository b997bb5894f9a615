/* A ui without a terminal, for tests: keys in, the frame as text out. */
#ifndef KVBUDGET_TESTS_TUI_RIG_H
#define KVBUDGET_TESTS_TUI_RIG_H

#include <stdlib.h>
#include <string.h>

#include "planner/doc/profile.h"
#include "tests/kvtest.h"
#include "tui/player.h"
#include "tui/ui_loop.h"

struct rig {
    struct arena *a;
    struct session session;
    struct ui *ui;
    struct canvas c;
};

/* The blank start with these options. */
static inline struct rig *rig_open(struct arena *a, const struct ui_options *opt)
{
    struct rig *r = ARENA_NEW(a, struct rig, 1);

    r->a = a;
    session_init(&r->session, a, profiles_open(a, NULL, diag_new(a)), NULL, NULL);
    r->ui = ui_new(a, &r->session, opt);
    canvas_init(&r->c, a, opt->ascii);
    ui_view(r->ui, &r->c);
    return r;
}

static inline void rig_close(struct rig *r)
{
    ui_free(r->ui);
    session_free(&r->session);
}

static inline char *rig_text(struct rig *r)
{
    char *text = NULL, *copy;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    if (!f)
        fail_msg("open_memstream failed");
    canvas_dump(&r->c, f);
    fclose(f);
    copy = arena_strdup(r->a, text);
    free(text);
    return copy;
}

/* Plays keys as a file of keys has them (tui/player.h). */
static inline void rig_play(struct rig *r, const char *keys)
{
    struct diag *d = diag_new(r->a);

    if (!player_play(r->ui, &r->c, "keys", keys, d)) {
        diag_print(d, 0, true, stderr);
        fail();
    }
}

/* Writes a file of a folder; its path. */
static inline char *rig_file(struct arena *a, const char *folder, const char *name,
                             const char *text)
{
    char *path = arena_printf(a, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");

    if (!f || fputs(text, f) < 0 || fclose(f) != 0)
        fail_msg("%s cannot be written", path);
    return path;
}

#define rig_shows(r, text) rig_shows_at((r), (text), true, __FILE__, __LINE__)
#define rig_hides(r, text) rig_shows_at((r), (text), false, __FILE__, __LINE__)
static inline void rig_shows_at(struct rig *r, const char *text, bool wanted, const char *file,
                                int line)
{
    char *frame = rig_text(r);

    if ((strstr(frame, text) != NULL) == wanted)
        return;
    fprintf(stderr, "%s: %s\n--- frame\n%s---\n", wanted ? "is not there" : "is there", text,
            frame);
    _fail(file, line);
}

#endif
