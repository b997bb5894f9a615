/* The spec in hand. The document is kept as the text it would be saved as: an edit changes a
 * copy of the tree, writes it, and reads it back, so the places in messages are those of the
 * file. A spec that cannot be planned stays beside the last one that could. */
#include "tui/session_in.h"

#include <stdarg.h>
#include <string.h>

#include "planner/base/file.h"
#include "planner/base/nvml.h"
#include "planner/doc/emit.h"
#include "planner/plan/report.h"

/* One common model on one common GPU, with the server most run it with. */
static const char blank[] = "model: meta-llama/Meta-Llama-3.1-8B\n"
                            "hardware:\n"
                            "  gpu: h100-sxm5-80gb\n"
                            "engine:\n"
                            "  name: vllm\n"
                            "workload:\n"
                            "  prompt: 2048\n"
                            "  output: 512\n";

/* --- refusals ------------------------------------------------------------------------------
 */

bool session_refuse(struct session *s, const char **why, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(s->history->why, sizeof s->history->why, fmt, ap);
    va_end(ap);
    if (why)
        *why = s->history->why;
    return false;
}

const char *session_first_error(const struct diag *d)
{
    for (size_t i = 0; i < diag_count(d); i++)
        if (diag_at(d, i)->kind >= DIAG_USAGE)
            return diag_at(d, i)->text;
    return "";
}

/* --- planning ------------------------------------------------------------------------------
 */

struct attempt {
    struct arena *arena;
    struct doc_node *doc;
    struct spec *spec;
    struct problem *problem;
    struct plan plan;
    struct diag *diag;
    bool ok;
};

/* What the driver told of this machine's GPUs stays as it is; asking takes milliseconds. */
static void ask_driver(struct session *s, const struct doc_node *gpu)
{
    struct nvml_facts f;
    const char *reason;

    if (s->facts || !gpu || gpu->kind != DOC_SCALAR || strcmp(gpu->text, "local") != 0 ||
        !nvml_facts(s->arena, &f, &reason))
        return;
    s->facts = ARENA_NEW(s->arena, struct nvml_facts, 1);
    *s->facts = f;
}

static bool build(struct session *s, struct attempt *t)
{
    if (!spec_bind(t->arena, t->doc, t->diag, t->spec))
        return false;
    ask_driver(s, t->spec->hardware.gpu);
    t->spec->hardware.facts = s->facts;
    return problem_build(t->arena, t->spec, s->profiles, t->diag, t->problem);
}

static void solve(struct session *s, struct attempt *t)
{
    struct report_in in = {.problem = t->problem, .plan = &t->plan};

    t->ok = !diag_failed(t->diag) && build(s, t);
    if (!t->ok)
        return;
    plan_solve(t->problem, &t->problem->workload, &t->plan);
    t->ok = report_countable(&in, t->diag);
}

static void drop_plan(struct session *s)
{
    cJSON_Delete(s->report);
    s->report = NULL;
    s->compare = NULL;
    arena_free(s->built);
    s->built = NULL;
}

static void keep(struct session *s, const struct attempt *t)
{
    arena_free(s->tried);
    s->tried = NULL;
    s->ok = t->ok;
    s->diag = t->diag;
    s->doc = t->doc;
    if (!t->ok) {
        s->tried = t->arena;
        return;
    }
    drop_plan(s);
    s->built = t->arena;
    s->planned = true;
    s->spec = *t->spec;
    s->problem = *t->problem;
    s->plan = t->plan;
    s->plan_diag = t->diag;
}

void session_take(struct session *s, const char *text)
{
    struct attempt t = {.arena = arena_new()};
    const char *own = arena_strdup(t.arena, text);
    size_t n = 0;

    t.diag = diag_new(t.arena);
    t.spec = ARENA_NEW(t.arena, struct spec, 1);
    t.problem = ARENA_NEW(t.arena, struct problem, 1);
    if (!doc_read_yaml(t.arena, s->path ? s->path : "spec.yaml", own, strlen(own), t.diag,
                       &t.doc, 1, &n) ||
        !n)
        t.doc = doc_new(t.arena, DOC_MAP, (struct loc){.file = "spec.yaml"});
    solve(s, &t);
    keep(s, &t);
    s->text = own;
    s->edited[0] = '\0';
    s->generation++;
    s->unsaved = strcmp(s->text, s->history->saved) != 0;
}

bool session_init(struct session *s, struct arena *a, struct profiles *profiles,
                  struct doc_node *doc, const char *path)
{
    const char *text = doc ? doc_emit_text(a, doc) : blank;
    char *file;
    size_t n;

    *s = (struct session){.arena = a, .profiles = profiles, .head = ""};
    s->path = path ? arena_strdup(a, path) : NULL;
    if (path && file_read(a, path, DOC_FILE_MAX, diag_new(a), &file, &n)) {
        session_read_comments(s, file);
        text = arena_printf(a, "%s%s", s->head, text);
    }
    s->history = history_new(a, text);
    session_take(s, text);
    return s->ok;
}

void session_free(struct session *s)
{
    drop_plan(s);
    arena_free(s->tried);
    s->tried = NULL;
    arena_free(s->baseline.arena);
    s->baseline.arena = NULL;
    history_free(s->history);
    s->history = NULL;
}

/* --- edits ---------------------------------------------------------------------------------
 */

static struct doc_node *find(struct doc_node *map, const char *key, size_t n)
{
    for (struct doc_node *c = map->first; c; c = c->next)
        if (c->key && strlen(c->key) == n && !memcmp(c->key, key, n))
            return c;
    return NULL;
}

static void unlink_child(struct doc_node *map, const struct doc_node *child)
{
    struct doc_node **link = &map->first, *last = NULL;

    while (*link && *link != child) {
        last = *link;
        link = &last->next;
    }
    if (!*link)
        return;
    *link = child->next;
    if (map->last == child)
        map->last = last;
    map->n--;
}

/* Takes a key away, and the maps that are empty then. */
static void unset(struct doc_node *map, const char *dotted)
{
    size_t n = strcspn(dotted, ".");
    struct doc_node *c = find(map, dotted, n);

    if (!c)
        return;
    if (dotted[n]) {
        unset(c, dotted + n + 1);
        if (c->kind != DOC_MAP || c->n)
            return;
    }
    unlink_child(map, c);
}

/* The edits on a copy of the document. */
static bool edit(struct arena *a, struct doc_node *doc, const struct session_edit *e, size_t n,
                 struct diag *d)
{
    bool ok = true;

    for (size_t i = 0; i < n && ok; i++) {
        if (e[i].value && e[i].value[0])
            ok = doc_set(a, doc, e[i].dotted, e[i].value, d);
        else
            unset(doc, e[i].dotted);
    }
    return ok;
}

bool session_apply(struct session *s, const struct session_edit *e, size_t n, const char **why)
{
    struct arena *scratch = arena_new();
    struct diag *d = diag_new(scratch);
    struct doc_node *doc = doc_copy(scratch, s->doc);
    bool ok = edit(scratch, doc, e, n, d);
    const char *text;

    if (!ok) {
        session_refuse(s, why, "%s", session_first_error(d));
        arena_free(scratch);
        return false;
    }
    text = arena_printf(scratch, "%s%s", s->head, doc_emit_text(scratch, doc));
    if (strcmp(text, s->text) != 0) {
        history_push(s->history, text);
        session_take(s, text);
        snprintf(s->edited, sizeof s->edited, "%s", n ? e[n - 1].dotted : "");
    }
    arena_free(scratch);
    return true;
}

bool session_set(struct session *s, const char *dotted, const char *value, const char **why)
{
    return session_apply(s, &(struct session_edit){dotted, value}, 1, why);
}

const char *session_get(const struct session *s, const char *dotted)
{
    const struct doc_node *n = doc_path(s->doc, dotted);

    return n ? n->text : NULL;
}

bool session_undo(struct session *s)
{
    const char *text = history_back(s->history);

    if (text)
        session_take(s, text);
    return text != NULL;
}

bool session_redo(struct session *s)
{
    const char *text = history_forward(s->history);

    if (text)
        session_take(s, text);
    return text != NULL;
}

bool session_variant(const struct session *s, struct arena *a, const struct session_edit *e,
                     size_t n, struct problem *out, const char **why)
{
    struct diag *d = diag_new(a);
    struct doc_node *doc = doc_copy(a, s->doc);
    struct spec *spec = ARENA_NEW(a, struct spec, 1);

    if (edit(a, doc, e, n, d) && spec_bind(a, doc, d, spec)) {
        spec->hardware.facts = s->facts;
        if (problem_build(a, spec, s->profiles, d, out))
            return true;
    }
    if (why)
        *why = session_first_error(d);
    return false;
}

/* --- what is made when asked for -----------------------------------------------------------
 */

const cJSON *session_report(struct session *s)
{
    struct report_in in = {s->path ? s->path : "spec.yaml", &s->problem, &s->plan, s->plan_diag,
                           s->profiles};

    if (!s->report && s->planned)
        s->report = report_json(&in);
    return s->report;
}

static double more_sequences(const struct compare_row *r)
{
    return (double)r->max_batch;
}

static double more_speed(const struct compare_row *r)
{
    return r->tokens_per_s;
}

static double less_prefill(const struct compare_row *r)
{
    return -r->prompt_s;
}

const struct compare *session_compare(struct session *s)
{
    static const compare_goal_fn goals[] = {more_sequences, more_speed, less_prefill};
    struct compare *c;

    if (s->compare || !s->planned)
        return s->compare;
    if (!s->evidence) { /* what can be read of it */
        s->evidence = ARENA_NEW(s->arena, struct evidence, 1);
        (void)!evidence_load(s->arena, s->profiles, diag_new(s->arena), s->evidence);
    }
    c = ARENA_NEW(s->built, struct compare, 1);
    if (!compare_schemes(s->built, &s->problem, s->evidence, NULL, diag_new(s->built), c))
        return NULL;
    compare_front(c, goals, sizeof goals / sizeof *goals);
    s->compare = c;
    return c;
}

void session_pin(struct session *s)
{
    struct baseline *b = &s->baseline;

    if (b->pinned && b->generation == s->generation) {
        b->pinned = false;
        return;
    }
    if (!s->planned)
        return;
    baseline_pin(b, s);
}
