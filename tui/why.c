/* The page of a figure, from the same tree that `explain` prints. */
#include "tui/why.h"

#include <stdlib.h>

#include "planner/plan/explain.h"
#include "tui/session_in.h"
#include "tui/ui.h"

static const char *text_of(struct arena *a, const cJSON *tree)
{
    char *text = NULL, *copy;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    if (!out)
        return "";
    explain_text(a, tree, out);
    fclose(out);
    copy = arena_strdup(a, text);
    free(text);
    return copy;
}

const char *why_text(struct session *s, struct arena *a, const char *path, const char **why)
{
    struct diag *d = diag_new(a);
    struct problem p = s->problem;
    struct report_in in = {s->path ? s->path : "spec.yaml", &p, &s->plan, s->plan_diag,
                           s->profiles};
    const char *text;
    cJSON *tree;

    if (!s->planned) {
        session_refuse(s, why, "nothing is planned yet");
        return NULL;
    }
    p.arena = a; /* what explaining needs goes with the page, not with the plan */
    tree = explain_json(a, &in, path, d);
    if (!tree) {
        session_refuse(s, why, "%s", session_first_error(d));
        return NULL;
    }
    text = text_of(a, tree);
    cJSON_Delete(tree);
    return text;
}

void why_open(struct ui *ui, const char *path)
{
    struct arena *a = arena_new();
    const char *why = "", *text = why_text(ui_session(ui), a, path, &why);

    if (text)
        ui_page(ui, path, text);
    else
        ui_say(ui, ST_WARN, "%s", why);
    arena_free(a);
}
