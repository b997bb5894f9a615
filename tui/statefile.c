/* Reading and writing the state folder. */
#include "tui/statefile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "planner/base/file.h"
#include "planner/doc/emit.h"
#include "tui/session_in.h"

enum { STATE_BYTES_MAX = 64 << 10 };

const char *statefile_folder(struct arena *a)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (xdg && xdg[0] == '/')
        return arena_printf(a, "%s/kvbudget", xdg);
    if (home && home[0] == '/')
        return arena_printf(a, "%s/.local/state/kvbudget", home);
    return NULL;
}

/* Every folder on the way; those that are there already are no error. */
static bool make_folders(struct arena *a, const char *path, struct diag *d)
{
    char *p = arena_strdup(a, path);

    for (char *at = p + 1;; at++) {
        char kept = *at;
        if (kept != '/' && kept != '\0')
            continue;
        *at = '\0';
        if (mkdir(p, 0700) != 0 && errno != EEXIST)
            return diag_add(d, DIAG_OUTPUT, (struct loc){.file = arena_strdup(a, p)},
                            "cannot be made: %s", strerror(errno));
        *at = kept;
        if (!kept)
            return true;
    }
}

const char *statefile_put(struct arena *a, const char *folder, const char *name,
                          const char *text, struct diag *d)
{
    const char *path = arena_printf(a, "%s/%s", folder, name);
    struct file_out out;

    if (!make_folders(a, folder, d) || !file_create(a, path, NULL, d, &out))
        return NULL;
    fputs(text, out.f);
    return file_commit(&out, d) ? path : NULL;
}

/* The text of a key; NULL where there is none or it is a list or map. */
static const char *text_of(const struct doc_node *map, const char *key)
{
    const struct doc_node *n = doc_get(map, key);

    return n && n->kind == DOC_SCALAR && *n->text ? n->text : NULL;
}

void statefile_read(struct arena *a, const char *folder, struct visit *out,
                    const char **message)
{
    const char *path = arena_printf(a, "%s/state.yaml", folder), *ascii;
    struct diag *d = diag_new(a);
    struct doc_node *doc = NULL;
    char *text;
    size_t size, n = 0;

    *out = (struct visit){0};
    *message = NULL;
    if (!file_exists(path))
        return;
    if (!file_read(a, path, STATE_BYTES_MAX, d, &text, &size) ||
        !doc_read_yaml(a, path, text, size, d, &doc, 1, &n) || n == 0 || doc->kind != DOC_MAP) {
        *message =
            arena_printf(a, "the state of the last visit cannot be read (%s): left out", path);
        return;
    }
    ascii = text_of(doc, "ascii");
    out->theme = text_of(doc, "theme");
    out->screen = text_of(doc, "screen");
    out->path = text_of(doc, "spec");
    out->ascii = ascii && !strcmp(ascii, "true");
    path = arena_printf(a, "%s/edits.yaml", folder);
    if (file_exists(path) && file_read(a, path, DOC_FILE_MAX, d, &text, &size))
        out->edits = text;
}

static void put_line(FILE *f, struct arena *a, const char *key, const char *text)
{
    if (text)
        fprintf(f, "%s: %s\n", key, doc_emit_scalar(a, text));
}

bool statefile_write(struct arena *a, const char *folder, const struct visit *v, struct diag *d)
{
    const char *path = arena_printf(a, "%s/state.yaml", folder);
    const char *edits = arena_printf(a, "%s/edits.yaml", folder);
    struct file_out out;

    if (!make_folders(a, folder, d))
        return false;
    if (v->edits && !statefile_put(a, folder, "edits.yaml", v->edits, d))
        return false;
    if (!v->edits)
        remove(edits);
    if (!file_create(a, path, NULL, d, &out))
        return false;
    put_line(out.f, a, "theme", v->theme);
    put_line(out.f, a, "screen", v->screen);
    fprintf(out.f, "ascii: %s\n", v->ascii ? "true" : "false");
    put_line(out.f, a, "spec", v->path);
    return file_commit(&out, d);
}

void statefile_lay_edits(struct session *s, const char *text)
{
    if (!strcmp(text, s->text))
        return;
    history_push(s->history, text);
    session_take(s, text);
}
