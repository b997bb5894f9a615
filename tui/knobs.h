/* The knobs of a spec: what Budget shows to turn and what `:NAME VALUE` sets. One table
 * (tui/knobs_table.c) has the keys everyone turns, with how they step; the parameters of the
 * schemes in use are knobs too, made from the schemes' own field tables. Each change is one
 * step of the session's history. */
#ifndef KVBUDGET_TUI_KNOBS_H
#define KVBUDGET_TUI_KNOBS_H

#include "tui/session.h"

enum knob_kind {
    KNOB_CHOICE, /* one of a list; Left and Right go to its neighbours */
    KNOB_WHOLE,  /* a number; doubled and halved, finely by one */
    KNOB_TOKENS, /* the same, written 32k; finely by a tenth */
    KNOB_BYTES,  /* 80GiB; by the sizes memories have, finely by 1 GiB */
    KNOB_SHARE,  /* 0 to 1; by 0.05, finely by 0.01 */
    KNOB_GPUS,   /* GPUs and parallel degrees: the next that divides the model */
    KNOB_TEXT    /* typed only */
};

struct knob {
    const char *name;  /* after ':', "gpu" */
    const char *label; /* on the screen, "GPU" */
    const char *group; /* "Hardware" */
    const char *path;  /* key of the spec, "hardware.gpu" */
    enum knob_kind kind;
    const char *unit;    /* what a number counts; NULL */
    const char *engines; /* that heed it, separated by blanks; NULL = all */
    const char *help;
    const char *const *choices; /* of a switch; NULL */
    const struct field *field;  /* of a scheme's parameter; NULL */
};

struct knob_list {
    struct knob *v;
    size_t n;
};
/* The knobs that matter for the present spec, by group, parameters after their scheme. */
void knobs_shown(const struct session *s, struct arena *a, struct knob_list *out);
/* By name, key of the spec, or name of a parameter in use ("capacity"); '-' and '_' are one.
 * False: there is none. */
bool knob_find(const struct session *s, struct arena *a, const char *name, struct knob *out);

struct knob_value {
    const char *text;  /* as one would write it; "" = neither given nor known */
    bool given;        /* by the spec; else a default */
    const char *note;  /* where a default comes from; NULL */
    const char *error; /* what the planner says of it; NULL = nothing */
};
void knob_value(const struct session *s, struct arena *a, const struct knob *k,
                struct knob_value *out);

/* Sets the knob called `name`; any other key of the spec works too (dotted). An empty text and
 * "default" take the key away. False with *why (it lives as long as the session's next edit)
 * when there is no such knob or the text cannot be a value: nothing changed. A value that the
 * planner refuses is set: s->ok is false then, and the knob has an error. */
bool knob_set(struct session *s, const char *name, const char *text, const char **why);
bool knob_put(struct session *s, const struct knob *k, const char *text, const char **why);
/* One step down (-1) or up (+1); false with *why at the end of the range. */
bool knob_step(struct session *s, const struct knob *k, int by, bool fine, const char **why);

/* Values to pick from or to complete, with a note each; n = 0: there is no list. Lists of
 * profiles are made once a session. */
struct knob_items {
    const char *const *items, *const *notes;
    size_t n;
};
void knob_items(struct session *s, struct arena *a, const struct knob *k,
                struct knob_items *out);
/* Reads on at the list of models, at most `n` of them; true while there are more. It takes a
 * hundredth of a second in all, so a screen that waits for keys does it in parts. */
bool knob_warm(struct session *s, size_t n);
/* All that may stand after ':' for the present spec, with their help. */
void knob_names(const struct session *s, struct arena *a, struct knob_items *out);

#endif
