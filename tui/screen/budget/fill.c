/* What Budget shows, gathered from the session before each view: knobs with their values,
 * figures with their bands and changes, the verdict and what to do about it. */
#include <string.h>

#include "tui/screen/budget/budget.h"
#include "tui/session_in.h"

/* --- knobs ---------------------------------------------------------------------------------
 */

static void fill_knobs(const struct session *s, struct budget_state *st)
{
    const char *group = "";

    knobs_shown(s, st->arena, &st->knobs);
    st->values = ARENA_NEW(st->arena, struct knob_value, st->knobs.n + 1);
    st->lines = ARENA_NEW(st->arena, struct budget_line, 2 * st->knobs.n + 1);
    st->n_lines = 0;
    for (size_t i = 0; i < st->knobs.n; i++) {
        const struct knob *k = &st->knobs.v[i];
        knob_value(s, st->arena, k, &st->values[i]);
        if (strcmp(k->group, group) != 0)
            st->lines[st->n_lines++] = (struct budget_line){k->group, -1};
        group = k->group;
        st->lines[st->n_lines++] = (struct budget_line){NULL, (int)i};
    }
}

/* The cursor stays on its knob when others come and go, on its figure when knobs do. */
static void follow(struct budget_state *st, int figures_from)
{
    int n = (int)st->knobs.n;

    if (st->at >= figures_from && figures_from) {
        st->at += n - figures_from;
        return;
    }
    for (int i = 0; i < n; i++)
        if (!strcmp(st->knobs.v[i].path, st->knob)) {
            st->at = i;
            return;
        }
    st->at = st->at < n ? st->at : n - 1;
}

/* --- figures -------------------------------------------------------------------------------
 */

static const char *band_text(struct budget_state *st, const cJSON *report, enum figure f,
                             const char *end)
{
    const char *path = arena_printf(st->arena, "band.%s.%s", figure_row(f)->path, end);
    char buf[32];
    double v;

    if (f == FIGURE_USED || f == FIGURE_FREE || !json_get_double(json_at(report, path), &v))
        return NULL;
    return arena_strdup(st->arena, figure_text(f, v, true, buf, sizeof buf));
}

/* Contexts are those of every sequence of the batch that was asked for. */
static void name_figure(const struct session *s, struct budget_state *st, enum figure f)
{
    char buf[32];

    st->label[f] = figure_row(f)->label;
    st->text[f] = arena_strdup(
        st->arena, figure_text(f, st->figures.v[f], st->figures.known[f], buf, sizeof buf));
    if (f == FIGURE_CONTEXT && s->plan.context_batch > 1)
        st->label[f] = "longest context each";
    if ((f == FIGURE_CONTEXT && s->plan.context_limit == LIMIT_NONE) ||
        (f == FIGURE_BATCH && s->plan.batch_limit == LIMIT_NONE))
        st->text[f] = "no limit";
}

static bool worth_showing(const struct budget_state *st, enum figure f)
{
    if (figure_row(f)->optional)
        return st->figures.known[f] && st->figures.v[f] > 0;
    return st->figures.known[f] || !figure_row(f)->memory;
}

static void fill_figures(struct session *s, struct budget_state *st)
{
    const cJSON *report = session_report(s);
    char buf[32];

    figures_of(s, &st->figures);
    st->n_shown = 0;
    for (int i = 0; i < N_FIGURES; i++) {
        enum figure f = (enum figure)i;
        if (!st->planned || !worth_showing(st, f))
            continue;
        st->shown[st->n_shown++] = f;
        name_figure(s, st, f);
        st->changed[f] = baseline_change(&s->baseline, &st->figures, f, buf, sizeof buf);
        st->change[f] = arena_strdup(st->arena, buf);
        st->low[f] = band_text(st, report, f, "low");
        st->high[f] = band_text(st, report, f, "high");
    }
}

/* --- the verdict ---------------------------------------------------------------------------
 */

static const char *advice(const struct session *s, struct budget_state *st)
{
    uint32_t have = s->problem.gpus;
    const char *words;

    if (!st->fit.found && s->plan.batch_limit == LIMIT_MODEL_LEN)
        return "More GPUs do not help: raise the engine's longest sequence, or shorten prompt "
               "and output.";
    if (!st->fit.found)
        return "No number of GPUs holds it: try a smaller cache format, a shorter prompt or "
               "fewer sequences.";
    words = fit_words(st->arena, &st->fit);
    if (st->fit.gpus > have)
        return arena_printf(st->arena, "Needs %u more GPU%s: F takes %s.", st->fit.gpus - have,
                            st->fit.gpus - have == 1 ? "" : "s", words);
    return arena_printf(st->arena, "F takes %s.", words);
}

static void fill_verdict(struct session *s, struct budget_state *st)
{
    const cJSON *reason;

    st->stale = !s->ok;
    st->fits = s->planned && s->plan.fits;
    st->advice = "";
    if (!s->planned) {
        st->sentence = session_first_error(s->diag);
        return;
    }
    reason = json_at(session_report(s), "verdict.reason");
    st->sentence = cJSON_IsString(reason) ? arena_strdup(st->arena, reason->valuestring) : "";
    if (st->fits)
        return;
    if (st->fit_generation != s->generation + 1) {
        fit_least(&s->problem, &st->fit);
        st->fit_generation = s->generation + 1;
    }
    st->advice = advice(s, st);
}

static void count_notes(const struct session *s, struct budget_state *st)
{
    st->warnings = st->notes = st->errors = 0;
    for (size_t i = 0; i < diag_count(s->diag); i++) {
        enum diag_kind kind = diag_at(s->diag, i)->kind;
        st->notes += kind == DIAG_NOTE;
        st->warnings += kind == DIAG_WARN;
        st->errors += kind > DIAG_WARN;
    }
}

const char *budget_notes(const struct session *s, struct arena *a)
{
    const char *text = "";

    for (int kind = DIAG_INTERNAL; kind >= DIAG_NOTE; kind--)
        for (size_t i = 0; i < diag_count(s->diag); i++) {
            const struct diag_message *m = diag_at(s->diag, i);
            if ((int)m->kind != kind)
                continue;
            text = m->at.line
                       ? arena_printf(a, "%s%s, line %d: %s\n", text, diag_severity(m->kind),
                                      m->at.line, m->text)
                       : arena_printf(a, "%s%s: %s\n", text, diag_severity(m->kind), m->text);
        }
    return *text ? text : "Nothing was assumed and nothing is wrong.\n";
}

/* --- all of it -----------------------------------------------------------------------------
 */

static int lines_of(const char *text, int w)
{
    char out[3][256];

    return *text ? budget_wrap(text, w, 3, out) : 0;
}

static void scroll(int at, int n, int h, int *top)
{
    if (at >= 0 && at < *top)
        *top = at;
    if (at >= *top + h)
        *top = at - h + 1;
    *top = *top > n - h ? n - h : *top;
    *top = *top < 0 ? 0 : *top;
}

/* Both lists so that the cursor is seen; the title of its group too where there is room. */
static void place(struct budget_state *st)
{
    int line = -1, figure = budget_figure_at(st);

    for (int i = 0; i < st->n_lines && budget_on_knob(st); i++)
        if (st->lines[i].knob == st->at)
            line = i > 0 && st->lines[i - 1].title && i - 1 < st->top ? i - 1 : i;
    scroll(line, st->n_lines, st->parts.knobs.h, &st->top);
    scroll(figure, st->n_shown, st->parts.figures.h, &st->figure_top);
}

void budget_fill(struct session *s, struct budget_state *st, struct rect area)
{
    int figures_from = (int)st->knobs.n, lines;

    st->planned = s->planned;
    fill_knobs(s, st);
    fill_figures(s, st);
    follow(st, figures_from);
    fill_verdict(s, st);
    count_notes(s, st);
    if (st->at >= budget_rows(st))
        st->at = budget_rows(st) - 1;
    budget_arrange(area, 0, &st->parts);
    lines = lines_of(st->sentence, st->parts.verdict.w) +
            lines_of(st->advice, st->parts.verdict.w) + (st->stale && st->planned);
    budget_arrange(area, lines, &st->parts);
    place(st);
    if (budget_on_knob(st))
        snprintf(st->knob, sizeof st->knob, "%s", st->knobs.v[st->at].path);
}
