/* The enumeration behind Front. */
#include "tui/front_set.h"

#include <string.h>

#include "tui/apply.h"

struct front_work {
    struct problem shipped;
    const struct compare *c; /* of the session */
    const size_t *schemes;   /* rows of `c` to combine, row 0 = none */
    const size_t *formats;   /* rows of `c` that store differently from each other */
    size_t n_schemes, n_formats;
    size_t scheme, format; /* next */
    struct arena *one;     /* of the scheme's problem */
    struct problem with_scheme;
    bool can; /* it could be planned */
};

/* --- points ----------------------------------------------------------------------------- */

/* A row without pointers into the session. */
static struct compare_row own_row(struct arena *a, const struct compare_row *r)
{
    struct compare_row out = *r;

    out.params = arena_strdup(a, r->params);
    out.reason = NULL;
    out.warnings = NULL;
    if (r->near.row) {
        struct evidence_row *e = ARENA_NEW(a, struct evidence_row, 1);
        *e = *r->near.row;
        e->setting = NULL;
        e->metric = arena_strdup(a, e->metric);
        e->model = arena_strdup(a, e->model);
        e->source = arena_strdup(a, e->source);
        e->confidence = arena_strdup(a, e->confidence);
        e->note = NULL;
        out.near.row = e;
        out.near.how_far = arena_strdup(a, r->near.how_far);
    }
    return out;
}

static int group_of(struct front_set *f, const struct evidence_row *e)
{
    if (!e)
        return -1;
    for (int i = 0; i < f->n_groups; i++)
        if (!strcmp(f->groups[i].metric, e->metric) && !strcmp(f->groups[i].model, e->model)) {
            f->groups[i].n++;
            return i;
        }
    if (f->n_groups == FRONT_GROUPS)
        return -1;
    f->groups[f->n_groups] = (struct front_group){e->metric, e->model, 1};
    return f->n_groups++;
}

static void add(struct front_set *f, struct compare_row row, const struct compare_row *store)
{
    struct front_point *p = &f->points[f->rows.n];

    *p = (struct front_point){.format = store ? store->name : "as shipped",
                              .group = group_of(f, row.near.row)};
    if (store)
        p->store = store->use;
    f->rows.rows[f->rows.n++] = row;
}

/* --- beginning -------------------------------------------------------------------------- */

/* Formats that differ in nothing that is shown are one. */
static bool same_store(const struct compare_row *a, const struct compare_row *b)
{
    return a->token_bytes == b->token_bytes &&
           a->after_prefill_bytes == b->after_prefill_bytes && a->max_batch == b->max_batch &&
           a->tokens_per_s == b->tokens_per_s && a->prompt_s == b->prompt_s;
}

static bool is_new(const struct compare *c, const size_t *formats, size_t n, size_t row)
{
    if (same_store(&c->rows[0], &c->rows[row]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (same_store(&c->rows[formats[i]], &c->rows[row]))
            return false;
    return true;
}

static void choose(struct arena *a, struct front_work *w)
{
    size_t *schemes = ARENA_NEW(a, size_t, w->c->n + 1);
    size_t *formats = ARENA_NEW(a, size_t, w->c->n + 1);

    for (size_t i = 0; i < w->c->n; i++) {
        const struct compare_row *r = &w->c->rows[i];
        if (r->status != COMPARE_OK || !r->use.scheme)
            continue;
        if (r->use.scheme->axis != AXIS_STORAGE)
            schemes[w->n_schemes++] = i;
        else if (is_new(w->c, formats, w->n_formats, i))
            formats[w->n_formats++] = i;
    }
    w->schemes = schemes;
    w->formats = formats;
}

/* What Compare knows already: the model as shipped, each scheme, each format. */
static void add_singles(struct front_set *f)
{
    struct front_work *w = f->work;

    if (w->c->rows[0].status == COMPARE_OK)
        add(f, own_row(f->arena, &w->c->rows[0]), NULL);
    for (size_t i = 0; i < w->n_schemes; i++)
        add(f, own_row(f->arena, &w->c->rows[w->schemes[i]]), NULL);
    for (size_t i = 0; i < w->n_formats; i++) {
        const struct compare_row *store = &w->c->rows[w->formats[i]];
        struct compare_row row = own_row(f->arena, store);
        row.name = "as shipped";
        row.use = (struct scheme_use){0};
        add(f, row, store);
    }
}

bool front_begin(struct session *s, struct front_set *out)
{
    const struct compare *c = session_compare(s);
    struct session_edit edits[APPLY_EDITS];
    struct front_work *w;
    size_t room;

    *out = (struct front_set){.arena = arena_new(), .generation = s->generation};
    if (!c || !c->n)
        return false;
    w = out->work = ARENA_NEW(out->arena, struct front_work, 1);
    w->c = c;
    if (!session_variant(s, out->arena, edits, apply_edits(out->arena, NULL, edits),
                         &w->shipped, NULL)) {
        out->work = NULL;
        return false;
    }
    choose(out->arena, w);
    room = 1 + w->n_schemes + w->n_formats + w->n_schemes * w->n_formats;
    out->rows.rows = ARENA_NEW(out->arena, struct compare_row, room);
    out->points = ARENA_NEW(out->arena, struct front_point, room);
    out->n_all = w->n_schemes * w->n_formats;
    out->timed = s->problem.gpu_named;
    out->asked_bytes = c->rows[c->n > 1 && !c->rows[1].use.scheme].after_prefill_bytes;
    out->asked_per_s = s->plan.tokens_per_s;
    add_singles(out);
    return true;
}

/* --- combining -------------------------------------------------------------------------- */

/* The figures of a combination; those of the scheme alone stay where nothing depends on the
 * format. */
static bool fill(const struct problem *p, struct compare_row *r)
{
    const struct workload *w = &p->workload;
    struct plan plan;
    struct ck ck = {0};

    plan_solve(p, w, &plan);
    r->near = (struct evidence_near){0};
    r->token_bytes = fold_token_bytes(&p->whole, false, &ck);
    r->after_prefill_bytes = fold_resident_bytes(&p->whole, w->prompt, 0, p->block_tokens, &ck);
    r->prefill_peak_bytes = fold_prefill_peak_bytes(&p->whole, w->prompt, p->block_tokens, &ck);
    r->batch = plan.batch;
    r->max_batch = plan.max_batch;
    r->max_context = plan.max_context;
    r->batch_limit = plan.batch_limit;
    r->context_limit = plan.context_limit;
    r->fits = plan.fits;
    r->tokens_per_s = plan.tokens_per_s;
    r->decode_s = plan.decode_s;
    r->prefill_s = plan.prefill_s;
    r->prompt_s = plan.batch ? plan.prefill_s / (double)plan.batch : 0;
    return !plan.over && !ck.over;
}

static void combine(struct front_set *f)
{
    struct front_work *w = f->work;
    const struct compare_row *scheme = &w->c->rows[w->schemes[w->scheme]];
    const struct compare_row *store = &w->c->rows[w->formats[w->format]];
    struct arena *scratch = arena_new();
    struct compare_row row = *scheme;
    struct problem p;

    row.reason = NULL;
    row.warnings = NULL;
    if (w->can &&
        problem_with(scratch, &w->with_scheme, &store->use, w->with_scheme.parallel,
                     diag_new(scratch), &p) &&
        fill(&p, &row)) {
        row.params = arena_strdup(f->arena, scheme->params);
        add(f, row, store);
    }
    arena_free(scratch);
}

static void next_scheme(struct front_work *w)
{
    const struct compare_row *r = &w->c->rows[w->schemes[w->scheme]];

    arena_free(w->one);
    w->one = arena_new();
    w->can = problem_with(w->one, &w->shipped, &r->use, w->shipped.parallel, diag_new(w->one),
                          &w->with_scheme);
}

bool front_step(struct front_set *f, size_t most)
{
    struct front_work *w = f->work;

    if (!w)
        return true;
    for (size_t i = 0; i < most && w->scheme < w->n_schemes && w->n_formats; i++) {
        if (w->format == 0)
            next_scheme(w);
        combine(f);
        f->n_done++;
        if (++w->format == w->n_formats) {
            w->format = 0;
            w->scheme++;
        }
    }
    if (w->n_formats && w->scheme < w->n_schemes)
        return false;
    arena_free(w->one);
    f->work = NULL;
    front_mark(f, FRONT_ALL);
    return true;
}

/* --- the front -------------------------------------------------------------------------- */

static double less_memory(const struct compare_row *r)
{
    return -(double)r->after_prefill_bytes;
}

static double more_speed(const struct compare_row *r)
{
    return r->tokens_per_s;
}

static double more_quality(const struct compare_row *r)
{
    const struct evidence_row *e = r->near.row;

    return e->higher_is_better ? e->value : -e->value;
}

/* Those of the group compared among themselves; the front of them is added. */
static void mark_some(struct front_set *f, int group, const compare_goal_fn *goals, size_t n)
{
    struct arena *a = arena_new();
    struct compare some = {.rows = ARENA_NEW(a, struct compare_row, f->rows.n + 1)};
    size_t *from = ARENA_NEW(a, size_t, f->rows.n + 1);

    for (size_t i = 0; i < f->rows.n; i++) {
        const struct compare_row *r = &f->rows.rows[i];
        bool in =
            group >= 0 ? f->points[i].group == group : group == FRONT_ALL || !r->needs_training;
        if (!in)
            continue;
        from[some.n] = i;
        some.rows[some.n++] = *r;
    }
    compare_front(&some, goals, n);
    for (size_t i = 0; i < some.n; i++)
        f->points[from[i]].on_front |= some.rows[i].on_front;
    arena_free(a);
}

void front_mark(struct front_set *f, int group)
{
    static const compare_goal_fn goals[] = {less_memory, more_speed, more_quality};

    for (size_t i = 0; i < f->rows.n; i++)
        f->points[i].on_front = false;
    mark_some(f, group < 0 ? group : FRONT_ALL, goals, 2);
    if (group >= 0)
        mark_some(f, group, goals, 3);
    f->n_front = 0;
    for (size_t i = 0; i < f->rows.n; i++)
        f->n_front += f->points[i].on_front;
}

void front_free(struct front_set *f)
{
    if (f->work)
        arena_free(f->work->one);
    arena_free(f->arena);
    *f = (struct front_set){0};
}

size_t front_edits(struct arena *a, const struct front_set *f, size_t i,
                   struct session_edit out[FRONT_EDITS])
{
    const struct scheme_use *use = &f->rows.rows[i].use, *store = &f->points[i].store;
    size_t n = apply_edits(a, NULL, out);

    if (use->scheme)
        out[use->scheme->axis == AXIS_SHARING ? 0 : 1].value = apply_text(a, use);
    if (store->scheme)
        out[2].value = apply_text(a, store);
    return n;
}
