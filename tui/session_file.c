/* The session's files: specs read and written, the report, and the engine's flags. */
#include "tui/session_in.h"

#include <stdlib.h>
#include <string.h>

#include "planner/base/file.h"
#include "planner/doc/emit.h"
#include "planner/plan/flags.h"

/* --- comments ------------------------------------------------------------------------------
 */

/* Bytes of the lines at the top that are comments or empty. */
static size_t head_bytes(const char *text)
{
    const char *p = text;

    while (*p) {
        size_t blanks = strspn(p, " \t"), line = strcspn(p, "\n");
        if (p[blanks] != '#' && p[blanks] != '\n')
            break;
        p += line + (p[line] == '\n');
    }
    return (size_t)(p - text);
}

/* A '#' after a blank or at the start of a line; one inside quotes counts too, which at worst
 * is a needless warning. */
static bool has_comment(const char *text)
{
    for (const char *p = text; (p = strchr(p, '#')) != NULL; p++)
        if (p == text || strchr(" \t\n", p[-1]))
            return true;
    return false;
}

void session_read_comments(struct session *s, const char *text)
{
    size_t head = head_bytes(text);

    s->head = arena_strndup(s->arena, text, head);
    s->loses_comments = has_comment(text + head);
}

/* --- reading -------------------------------------------------------------------------------
 */

static bool read_spec(struct session *s, struct arena *a, const char *path, char **text,
                      struct doc_node **doc, const char **why)
{
    struct doc_node *docs[2];
    struct diag *d = diag_new(a);
    size_t bytes, n = 0;

    if (!file_read(a, path, DOC_FILE_MAX, d, text, &bytes))
        return session_refuse(s, why, "%s %s", path, session_first_error(d));
    if (!doc_read_yaml(a, path, *text, bytes, d, docs, 2, &n)) {
        for (size_t i = 0; i < diag_count(d); i++)
            if (diag_at(d, i)->at.line)
                return session_refuse(s, why, "%s:%d: %s", path, diag_at(d, i)->at.line,
                                      diag_at(d, i)->text);
        return session_refuse(s, why, "%s %s", path, session_first_error(d));
    }
    if (n != 1)
        return session_refuse(s, why, "%s holds %s; one is edited here", path,
                              n ? "several specs" : "no spec");
    *doc = docs[0];
    return (*doc)->kind == DOC_MAP ||
           session_refuse(s, why, "%s: a spec is a map with at least `model:` and `hardware:`",
                          path);
}

bool session_load(struct session *s, const char *path, const char **why)
{
    struct arena *a = arena_new();
    struct doc_node *doc = NULL;
    char *text = NULL;
    bool ok = read_spec(s, a, path, &text, &doc, why);

    if (ok) {
        s->path = arena_strdup(s->arena, path);
        session_read_comments(s, text);
        text = arena_printf(a, "%s%s", s->head, doc_emit_text(a, doc));
        history_reset(s->history, text);
        session_take(s, text);
    }
    arena_free(a);
    return ok;
}

/* --- writing -------------------------------------------------------------------------------
 */

typedef void (*write_fn)(struct session *s, FILE *out);

static void write_text(struct session *s, FILE *out)
{
    fputs(s->text, out);
}

static void write_report(struct session *s, FILE *out)
{
    json_print(session_report(s), false, out);
}

static bool write_file(struct session *s, const char *path, write_fn write, const char **why)
{
    struct arena *a = arena_new();
    struct diag *d = diag_new(a);
    struct file_out out;
    bool ok = *path && strcmp(path, "-") != 0 && file_create(a, path, NULL, d, &out);

    if (ok) {
        write(s, out.f);
        ok = file_commit(&out, d);
    } else if (!*path || !strcmp(path, "-")) {
        diag_add(d, DIAG_OUTPUT, (struct loc){0}, "is not the name of a file");
    }
    if (!ok)
        session_refuse(s, why, "%s %s", *path ? path : "''", session_first_error(d));
    arena_free(a);
    return ok;
}

bool session_save(struct session *s, const char *path, const char **why)
{
    if (!write_file(s, path, write_text, why))
        return false;
    if (!s->path || strcmp(path, s->path) != 0)
        s->path = arena_strdup(s->arena, path);
    s->loses_comments = false;
    history_saved(s->history, s->text);
    s->unsaved = false;
    return true;
}

bool session_write_report(struct session *s, const char *path, const char **why)
{
    if (!s->ok)
        return session_refuse(s, why, "there is no plan of this spec: %s",
                              session_first_error(s->diag));
    return write_file(s, path, write_report, why);
}

const char *session_yaml(const struct session *s, struct arena *a)
{
    return arena_strdup(a, s->text);
}

const char *session_flags(struct session *s, struct arena *a, const char **why)
{
    struct diag *d = diag_new(a);
    struct flags f;
    char *text = NULL, *copy;
    size_t n = 0;
    FILE *out;

    if (!s->ok) {
        session_refuse(s, why, "there is no plan of this spec: %s",
                       session_first_error(s->diag));
        return NULL;
    }
    if (!flags_solve(a, &s->problem, d, &f)) {
        session_refuse(s, why, "%s", session_first_error(d));
        return NULL;
    }
    out = open_memstream(&text, &n);
    if (!out) {
        session_refuse(s, why, "out of memory");
        return NULL;
    }
    flags_print(a, &f, out);
    fclose(out);
    copy = arena_strdup(a, text);
    free(text);
    return copy;
}
