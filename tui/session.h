/* The spec in hand and everything computed from it: document, problem, plan, and the history of
 * edits. No terminal, no drawing: commands, screens and tests use it alike. Each edit makes
 * everything anew in an arena of its own, so a long session does not grow. */
#ifndef KVBUDGET_TUI_SESSION_H
#define KVBUDGET_TUI_SESSION_H

#include "planner/plan/capacity.h"
#include "planner/plan/compare.h"
#include "planner/plan/json.h"
#include "planner/plan/spec.h"
#include "tui/baseline.h"

struct knob_lists;
struct nvml_facts;

enum { SESSION_TAGS = 4 };

struct session {
    struct arena *arena; /* of the session */
    struct arena *built; /* of the last plan; freed when there is another */
    struct arena *tried; /* of the present spec while it cannot be planned; else NULL */
    struct profiles *profiles;
    const char *path;     /* of the spec file; NULL = none yet */
    const char *head;     /* comment lines at the top of that file; "" */
    bool loses_comments;  /* it has others, which saving drops */
    struct doc_node *doc; /* the spec as edited, its places those of the file as saved */
    const char *text;     /* the same as YAML */
    uint64_t generation;  /* rises with every change of what is computed */
    bool unsaved;
    /* the last spec that could be planned; ok = it is the present one */
    bool planned, ok;
    struct spec spec;
    struct problem problem;
    struct plan plan;
    struct diag *diag;      /* of the present spec */
    struct diag *plan_diag; /* of the last plan: the same while ok */
    cJSON *report;          /* kvbudget.report/1 of the plan; made when asked for */
    struct compare *compare;
    struct evidence *evidence; /* published figures; read when first compared */
    struct nvml_facts *facts;  /* of this machine; the driver is asked once */
    struct baseline baseline;
    /* Schemes tagged in Compare and drawn in Curves: names of the registry; NULL = free. */
    const char *tags[SESSION_TAGS];
    struct history *history;
    char edited[96];          /* key of the last edit; "" after undo, redo and loading */
    struct knob_lists *lists; /* tui/knobs.h: made once */
};

/* Starts from a document (NULL: the blank start, a small model on one GPU). */
bool session_init(struct session *s, struct arena *a, struct profiles *profiles,
                  struct doc_node *doc, const char *path);
void session_free(struct session *s);

/* One edit, as --set does it: `dotted` as in a spec, `value` as YAML, NULL or "" takes the key
 * away. Always recorded for undo, also when the new spec cannot be planned (ok is false then,
 * and diag says why). False, with *why, when the path or value is malformed: nothing changed.
 */
bool session_set(struct session *s, const char *dotted, const char *value, const char **why);
/* Several edits as one step of history. */
struct session_edit {
    const char *dotted, *value;
};
bool session_apply(struct session *s, const struct session_edit *e, size_t n, const char **why);
/* The text of a key as the spec has it ("" for a list or map); NULL = not in the spec. */
const char *session_get(const struct session *s, const char *dotted);
bool session_undo(struct session *s);
bool session_redo(struct session *s);
void session_pin(struct session *s); /* pins, or unpins when pinned and unchanged */

/* Files. The spec is written as YAML that reads back to the same document. */
bool session_load(struct session *s, const char *path, const char **why);
bool session_save(struct session *s, const char *path, const char **why);
bool session_write_report(struct session *s, const char *path, const char **why);
const char *session_yaml(const struct session *s, struct arena *a);
/* The engine's command line; NULL with *why when it has none. */
const char *session_flags(struct session *s, struct arena *a, const char **why);

/* Made on first use after an edit, kept until the next. NULL when nothing is planned. */
const cJSON *session_report(struct session *s);
const struct compare *session_compare(struct session *s);

/* Another problem from the same document with a few edits, for curves and what-ifs; lives in
 * `a`. */
bool session_variant(const struct session *s, struct arena *a, const struct session_edit *e,
                     size_t n, struct problem *out, const char **why);

#endif
