/* Tagged rows side by side, a figure a line. A difference has its sign and size in words;
 * colour only repeats whether it is for the better. */
#include "tui/compare_diff.h"

#include <stdio.h>
#include <string.h>

#include "tui/show.h"

enum { LABEL_W = 16, VALUE_W = 12, CHANGE_W = 10, COLUMN_W = VALUE_W + CHANGE_W + 2 };

enum diff_kind { DIFF_BYTES, DIFF_COUNT, DIFF_PER_S, DIFF_SECONDS };

static const struct diff_figure {
    const char *label;
    enum diff_kind kind;
    size_t at;    /* of the member of a row */
    size_t limit; /* DIFF_COUNT: of what stops it */
    int better;   /* +1 more, -1 less, 0 neither */
    bool timed;   /* needs a GPU whose speed is known */
} figures[] = {
#define AT(member) offsetof(struct compare_row, member)
    {"KV per token", DIFF_BYTES, AT(token_bytes), 0, -1, false},
    {"after prefill", DIFF_BYTES, AT(after_prefill_bytes), 0, -1, false},
    {"prefill peak", DIFF_BYTES, AT(prefill_peak_bytes), 0, -1, false},
    {"max batch", DIFF_COUNT, AT(max_batch), AT(batch_limit), 1, false},
    {"max context", DIFF_COUNT, AT(max_context), AT(context_limit), 1, false},
    {"tokens/s", DIFF_PER_S, AT(tokens_per_s), 0, 1, true},
    {"decode step", DIFF_SECONDS, AT(decode_s), 0, 0, true},
    {"prefill/sequence", DIFF_SECONDS, AT(prompt_s), 0, -1, true},
#undef AT
};
enum { N_FIGURES = sizeof figures / sizeof *figures };
_Static_assert(DIFF_LINES >= N_FIGURES + 2, "names, figures, quality");

static double value_of(const struct diff_figure *f, const struct compare_row *r)
{
    const void *member = (const char *)r + f->at;

    return f->kind <= DIFF_COUNT ? (double)*(const uint64_t *)member : *(const double *)member;
}

static const char *text_of(const struct diff_figure *f, const struct compare_row *r,
                           char buf[SHOW_TEXT])
{
    const void *member = (const char *)r + f->at;

    switch (f->kind) {
    case DIFF_BYTES: return show_bytes(*(const uint64_t *)member, buf);
    case DIFF_COUNT:
        return show_most(*(const uint64_t *)member,
                         *(const enum limit *)(const void *)((const char *)r + f->limit), buf);
    case DIFF_PER_S: return show_per_s(*(const double *)member, buf);
    case DIFF_SECONDS: return show_seconds(*(const double *)member, buf);
    }
    return "";
}

/* The published figure in the first row's metric, where the metric is the same. */
static void view_quality(struct canvas *c, struct rect line, const struct compare_row *r,
                         const struct compare_row *first, bool reference)
{
    const struct evidence_row *e = r->near.row, *f = first->near.row;
    char text[160], change[SHOW_TEXT];

    if (!e) {
        canvas_text(c, line, 0, 0, ST_DIM, "none published");
        return;
    }
    if (!reference && f && !strcmp(e->metric, f->metric) && !strcmp(e->model, f->model)) {
        snprintf(text, sizeof text, "%.6g", e->value);
        canvas_text(c, line, 0, 0, ST_VALUE, text);
        canvas_text(c, line, VALUE_W + 1, 0, ST_PLAIN, show_change(e->value, f->value, change));
        return;
    }
    snprintf(text, sizeof text, "%.6g %s", e->value, e->metric);
    canvas_more(c, line, canvas_text(c, line, 0, 0, reference ? ST_VALUE : ST_DIM, text), 0,
                ST_DIM);
}

static void view_change(struct canvas *c, struct rect line, double v, double of, int better)
{
    char buf[SHOW_TEXT];
    double gain = (v - of) * better;
    enum style s = gain > 0 ? ST_OK : gain < 0 ? ST_WARN : ST_DIM;

    canvas_text(c, line, 0, 0, s, show_change(v, of, buf));
}

static void view_row(struct canvas *c, struct rect column, const struct compare_row *r,
                     const struct compare_row *first, bool reference)
{
    char buf[SHOW_TEXT];
    struct rect cell = {column.x, column.y, column.w - 1, 1};

    canvas_text(c, cell, 0, 0, ST_TITLE, r->name);
    if (r->status != COMPARE_OK) {
        cell.y++;
        canvas_text(c, cell, 0, 0, ST_DIM, r->reason);
        return;
    }
    for (int i = 0; i < N_FIGURES; i++) {
        const struct diff_figure *f = &figures[i];
        cell.y++;
        if (f->timed && !r->timed) {
            canvas_right(c, cell, VALUE_W, 0, ST_DIM, "n/a");
            continue;
        }
        canvas_right(c, cell, VALUE_W, 0, ST_VALUE, text_of(f, r, buf));
        if (!reference && first->status == COMPARE_OK && (!f->timed || first->timed))
            view_change(c, (struct rect){cell.x + VALUE_W + 1, cell.y, CHANGE_W, 1},
                        value_of(f, r), value_of(f, first), f->better);
    }
    cell.y++;
    view_quality(c, cell, r, first, reference);
}

void diff_view(struct canvas *c, struct rect r, const struct compare_row *const *rows, size_t n)
{
    size_t room = r.w > LABEL_W + 1 ? (size_t)(r.w - LABEL_W - 1) / COLUMN_W : 1;

    for (int i = 0; i < N_FIGURES; i++)
        canvas_text(c, r, 0, i + 1, ST_LABEL, figures[i].label);
    canvas_text(c, r, 0, N_FIGURES + 1, ST_LABEL, "quality");
    if (room < 1)
        room = 1;
    for (size_t i = 0; i < n && i < room; i++) {
        struct rect column = {r.x + LABEL_W + 1 + (int)i * COLUMN_W, r.y, COLUMN_W, r.h};
        if (i + 1 == n || i + 1 == room)
            column.w = r.x + r.w - column.x;
        view_row(c, column, rows[i], rows[0], i == 0);
    }
}
