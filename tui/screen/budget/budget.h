/* What the files of the Budget screen share: its state, and where its parts lie. */
#ifndef KVBUDGET_TUI_SCREEN_BUDGET_BUDGET_H
#define KVBUDGET_TUI_SCREEN_BUDGET_BUDGET_H

#include "tui/fit.h"
#include "tui/knobs.h"
#include "tui/line.h"
#include "tui/ui.h"

/* Parts of the screen, a pure function of its area. */
struct budget_parts {
    struct rect knobs, hint;                  /* left */
    struct rect verdict, bar, figures, notes; /* right; notes is one line */
};
void budget_arrange(struct rect area, int verdict_lines, struct budget_parts *out);

struct budget_line { /* of the knobs: a group's title, or a knob */
    const char *title;
    int knob;
};

struct budget_state {
    struct arena *arena; /* of what follows; anew before each view */
    bool planned, stale;
    struct knob_list knobs;
    struct knob_value *values; /* [knobs.n] */
    struct budget_line *lines;
    int n_lines;
    struct figures figures;
    enum figure shown[N_FIGURES];
    int n_shown;
    const char *label[N_FIGURES], *text[N_FIGURES], *change[N_FIGURES];
    enum change changed[N_FIGURES];
    const char *low[N_FIGURES], *high[N_FIGURES]; /* bands; NULL = none */
    const char *sentence, *advice;                /* "" = nothing to advise */
    bool fits;
    int warnings, notes, errors;
    struct budget_parts parts;
    /* kept */
    int at;        /* knobs, then figures, then the notes */
    char knob[96]; /* key of the knob under the cursor or being set */
    int top, figure_top;
    bool editing;
    struct line line;
    struct fit fit;
    uint64_t fit_generation; /* + 1; 0 = not yet */
    struct arena *pick;      /* of the list that is open */
};

/* The place of the cursor. */
static inline bool budget_on_knob(const struct budget_state *st)
{
    return st->at < (int)st->knobs.n;
}
static inline int budget_figure_at(const struct budget_state *st) /* index in shown; -1 */
{
    int i = st->at - (int)st->knobs.n;

    return i >= 0 && i < st->n_shown ? i : -1;
}
static inline int budget_rows(const struct budget_state *st)
{
    return (int)st->knobs.n + st->n_shown + 1;
}

/* Text broken at blanks into lines of at most `w` columns; returns how many, at most `max`. */
int budget_wrap(const char *text, int w, int max, char (*out)[256]);

void budget_view(const struct ui *ui, const struct budget_state *st, struct canvas *c);

/* budget/fill.c: what the view shows, computed from the session */
void budget_fill(struct session *s, struct budget_state *st, struct rect area);
/* All messages of the present spec as a page. */
const char *budget_notes(const struct session *s, struct arena *a);

#endif
