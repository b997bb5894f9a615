/* What the files of the session share: how it takes another text, and its history. */
#ifndef KVBUDGET_TUI_SESSION_IN_H
#define KVBUDGET_TUI_SESSION_IN_H

#include "tui/session.h"

enum { HISTORY_STEPS = 200, SESSION_WHY_BYTES = 512 };

/* The spec as text after each edit; texts of steps that were overtaken are dropped from time to
 * time, so that it does not grow. */
struct history {
    struct arena *arena;
    const char *steps[HISTORY_STEPS]; /* oldest first */
    size_t n, at;                     /* steps[at] is the present one */
    const char *saved;                /* the text as it is in the file */
    size_t dropped;                   /* texts of the arena that no one needs */
    char why[SESSION_WHY_BYTES];      /* of the last refusal */
};

struct history *history_new(struct arena *a, const char *text);
void history_free(struct history *h);
void history_push(struct history *h, const char *text); /* what could be redone is lost */
void history_saved(struct history *h, const char *text);
void history_reset(struct history *h, const char *text); /* the only step, and saved */
const char *history_back(struct history *h);             /* NULL: there is no earlier step */
const char *history_forward(struct history *h);

/* Takes the text (head and YAML, as doc_emit writes it) as the present spec and plans it. */
void session_take(struct session *s, const char *text);

/* What of a file's comments is kept; a file that cannot be read has none. */
void session_read_comments(struct session *s, const char *text);

/* Says why in the session's own buffer; returns false. */
bool session_refuse(struct session *s, const char **why, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The first error of `d`, as printed but for its place. */
const char *session_first_error(const struct diag *d);

#endif
