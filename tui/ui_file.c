/* What a user does with files: save the spec, open another, write the report, copy the engine's
 * command line, and leave. Nothing is lost unasked: other files are not overwritten, unsaved
 * edits not dropped. */
#include <string.h>

#include "planner/base/file.h"
#include "tui/ui_parts.h"

/* A callback keeps the path in the arena of the dialogues, which lives while one is open. */
static void write_spec(struct ui *ui, const char *path)
{
    const char *why = "";

    if (!session_save(ui->session, path, &why)) {
        ui->leaving = false;
        ui_say(ui, ST_BAD, "not saved: %s", why);
        return;
    }
    ui_say(ui, ST_OK, "saved as %s", ui->session->path ? ui->session->path : path);
    if (ui->leaving)
        ui->wish = WISH_QUIT;
}

static void write_asked(struct ui *ui, void *path, const char *yes)
{
    (void)yes;
    write_spec(ui, path);
}

static const char *question(struct ui *ui, const char *path)
{
    return arena_printf(ui->scratch, "%s is there already. Overwrite it?", path);
}

/* Over a file of another name, or over comments that would be lost: asked first. */
static void save_as(struct ui *ui, void *to, const char *path)
{
    const char *own = ui->session->path;
    bool other = !own || strcmp(own, path) != 0;

    (void)to;
    if (!*path)
        ui_say(ui, ST_DIM, "not saved: no name was given");
    else if (other && file_exists(path))
        ui_confirm(ui, question(ui, path), write_asked, arena_strdup(ui->scratch, path));
    else if (!other && ui->session->loses_comments)
        ui_confirm(ui,
                   arena_printf(ui->scratch,
                                "Only the comments at the top of %s are kept. Save?", path),
                   write_asked, arena_strdup(ui->scratch, path));
    else
        write_spec(ui, path);
}

static void save(struct ui *ui, const char *path)
{
    if (path && *path)
        save_as(ui, NULL, path);
    else if (ui->session->path)
        save_as(ui, NULL, ui->session->path);
    else
        ui_ask(ui, "Save the spec as", "plan.yaml", "a YAML file, read by every command",
               save_as, NULL);
}

void ui_save(struct ui *ui, const char *path)
{
    ui->leaving = false; /* an earlier "save and quit" that was left */
    save(ui, path);
}

static void load(struct ui *ui, void *path, const char *yes)
{
    const char *why = "";

    (void)yes;
    if (session_load(ui->session, path, &why))
        ui_say(ui, ST_OK, "opened %s", (const char *)path);
    else
        ui_say(ui, ST_BAD, "%s", why);
}

static void load_asked(struct ui *ui, void *to, const char *path)
{
    (void)to;
    if (!*path)
        return;
    if (ui->session->unsaved)
        ui_confirm(ui, "Drop the edits that are not saved?", load,
                   arena_strdup(ui->scratch, path));
    else
        load(ui, arena_strdup(ui->scratch, path), "y");
}

void ui_load(struct ui *ui, const char *path)
{
    if (path && *path)
        load_asked(ui, NULL, path);
    else
        ui_ask(ui, "Open a spec", "", "a YAML file; `kvbudget example` writes one", load_asked,
               NULL);
}

static void write_report(struct ui *ui, void *path, const char *yes)
{
    const char *why = "";

    (void)yes;
    if (session_write_report(ui->session, path, &why))
        ui_say(ui, ST_OK, "the report is in %s", (const char *)path);
    else
        ui_say(ui, ST_BAD, "no report: %s", why);
}

static void report_asked(struct ui *ui, void *to, const char *path)
{
    char *copy = arena_strdup(ui->scratch, path);

    (void)to;
    if (!*path)
        return;
    if (file_exists(path))
        ui_confirm(ui, question(ui, path), write_report, copy);
    else
        write_report(ui, copy, "y");
}

void ui_report(struct ui *ui, const char *path)
{
    if (path && *path)
        report_asked(ui, NULL, path);
    else
        ui_ask(ui, "Write the report to", "report.json", "JSON as `kvbudget report` writes it",
               report_asked, NULL);
}

/* The text lives until the next copy. */
void ui_copy(struct ui *ui)
{
    const char *why = "", *flags = session_flags(ui->session, ui->scratch, &why);

    if (!flags) {
        ui_say(ui, ST_WARN, "nothing to copy: %s", why);
        return;
    }
    arena_free(ui->clip_arena);
    ui->clip_arena = arena_new();
    ui->clipboard = arena_strdup(ui->clip_arena, flags);
    ui_say(ui, ST_OK, "copied: %s", flags);
    ui->wish = WISH_COPY;
}

static const char *const ways_out[] = {"save and quit", "quit without saving", "stay"};

static void leave(struct ui *ui, void *to, const char *way)
{
    (void)to;
    if (!strcmp(way, ways_out[1]))
        ui->wish = WISH_QUIT;
    if (strcmp(way, ways_out[0]) != 0)
        return;
    ui->leaving = true;
    save(ui, NULL);
}

void ui_quit(struct ui *ui, bool ask)
{
    ui->leaving = false;
    if (!ask || !ui->session->unsaved)
        ui->wish = WISH_QUIT;
    else
        ui_pick(ui, "There are edits that are not saved", ways_out, NULL,
                sizeof ways_out / sizeof *ways_out, NULL, leave, NULL);
}
