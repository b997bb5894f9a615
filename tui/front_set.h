/* Every scheme with every cache format on this model and machine, and which of them no other
 * beats in memory and speed, or in those and published quality. Made in steps, so that keys
 * stay live; what is shown does not point into the session, so it stays while the next is made.
 */
#ifndef KVBUDGET_TUI_FRONT_SET_H
#define KVBUDGET_TUI_FRONT_SET_H

#include "tui/session.h"

enum { FRONT_GROUPS = 24 };

struct front_point {         /* what compare_row has no room for */
    const char *format;      /* "as shipped" */
    struct scheme_use store; /* scheme NULL = as shipped */
    int group;               /* of its published figure; -1 = none */
    bool on_front;
};

struct front_group { /* figures of one metric and model: only these can be compared */
    const char *metric, *model;
    int n;
};

struct front_set {
    struct arena *arena;
    uint64_t generation; /* uses and edits are valid for this one only */
    struct compare rows; /* [rows.n] a combination each: bytes are those of a sequence after its
                            prompt */
    struct front_point *points;
    struct front_group groups[FRONT_GROUPS]; /* of two figures or more first */
    int n_groups;
    size_t n_done, n_all; /* combinations tried */
    size_t n_front;
    uint64_t asked_bytes; /* the spec as it is */
    double asked_per_s;
    bool timed;
    struct front_work *work; /* NULL = finished */
};

/* Begins; false when nothing is planned. Single schemes are there at once. */
bool front_begin(struct session *s, struct front_set *out);
/* Tries at most `most` combinations; true when all are there and the front is known. */
bool front_step(struct front_set *f, size_t most);
/* Marks the front in memory and speed. With a group, combinations that have a figure of it are
 * also compared among themselves in all three; with FRONT_AS_TRAINED only what runs on the
 * shipped checkpoint is compared. */
enum { FRONT_ALL = -1, FRONT_AS_TRAINED = -2 };
void front_mark(struct front_set *f, int group);
void front_free(struct front_set *f);

/* The edits that make the combination the spec. */
enum { FRONT_EDITS = 5 };
size_t front_edits(struct arena *a, const struct front_set *f, size_t i,
                   struct session_edit out[FRONT_EDITS]);

#endif
