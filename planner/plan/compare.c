/* Comparing schemes: the same problem with one scheme after the other. The table and the
 * JSON are in compare_show.c. */
#include "planner/plan/compare.h"

#include <string.h>

#include "planner/plan/params.h"

enum { NAMES_MAX = 256, REASON_MAX = 100 };

/* --- one row ------------------------------------------------------------------------------ */

struct comparing {
    struct arena *a;
    const struct problem *asked;
    struct problem bare; /* the model as shipped on this hardware */
    const struct evidence *evidence;
    struct compare *out;
    size_t cap;
};

static void add_row(struct comparing *c, struct compare_row row)
{
    if (c->out->n == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 64;
        c->out->rows = arena_grow(c->a, c->out->rows, c->out->n, c->cap, sizeof row);
    }
    c->out->rows[c->out->n] = row;
    c->out->n++;
}

/* The first error, cut at a word: rows are narrow. Its head is dropped where it names the
 * scheme. */
static const char *first_error(struct arena *a, const struct diag *d, const char *name)
{
    for (size_t i = 0; i < diag_count(d); i++) {
        const struct diag_message *m = diag_at(d, i);
        const char *s = m->text;
        size_t n = strlen(name);
        if (m->kind == DIAG_NOTE || m->kind == DIAG_WARN)
            continue;
        if (!strncmp(s, name, n) && s[n] == ':' && s[n + 1] == ' ')
            s += n + 2;
        n = strlen(s);
        if (n <= REASON_MAX)
            return arena_strdup(a, s);
        for (n = REASON_MAX; n > 0 && s[n] != ' ';)
            n--;
        return arena_printf(a, "%.*s ...", (int)n, s);
    }
    return "cannot be planned";
}

/* What is new in a row: the warnings that the bare model does not give. */
static const char *const *warnings_of(struct arena *a, const struct diag *d, struct loc own)
{
    const char **list = ARENA_NEW(a, const char *, diag_count(d) + 1);
    size_t n = 0;

    for (size_t i = 0; i < diag_count(d); i++) {
        const struct diag_message *m = diag_at(d, i);
        bool general = m->at.file == own.file && m->at.line == own.line && m->at.col == own.col;
        if (m->kind == DIAG_WARN && !general)
            list[n++] = arena_strdup(a, m->text);
    }
    return list;
}

static void fill_figures(const struct problem *p, struct compare_row *r)
{
    const struct workload *w = &p->workload;
    struct plan plan;
    struct ck ck = {0};

    plan_solve(p, w, &plan);
    r->token_bytes = fold_token_bytes(&p->whole, false, &ck);
    r->after_prefill_bytes = fold_resident_bytes(&p->whole, w->prompt, 0, p->block_tokens, &ck);
    r->prefill_peak_bytes = fold_prefill_peak_bytes(&p->whole, w->prompt, p->block_tokens, &ck);
    r->batch = plan.batch;
    r->max_batch = plan.max_batch;
    r->max_context = plan.max_context;
    r->batch_limit = plan.batch_limit;
    r->context_limit = plan.context_limit;
    r->fits = plan.fits;
    r->timed = p->gpu_named;
    r->tokens_per_s = plan.tokens_per_s;
    r->decode_s = plan.decode_s;
    r->prefill_s = plan.prefill_s;
    r->prompt_s = plan.batch ? plan.prefill_s / (double)plan.batch : 0;
    r->needs_training =
        p->layout.retrofit && p->model_source && strcmp(p->model_source, "inline") != 0;
    if (!plan.over && !ck.over)
        return;
    r->status = COMPARE_REFUSED;
    r->reason = "sizes overflow 64 bits";
}

/* Plans `base` with `use` (NULL: as it is): figures and warnings, or the reason why not. */
static void plan_row(struct comparing *c, const struct problem *base,
                     const struct scheme_use *use, struct compare_row *row)
{
    struct arena *scratch = arena_new();
    struct diag *d = diag_new(scratch);
    struct problem p;

    row->status = COMPARE_OK;
    row->reason = NULL;
    if (problem_with(scratch, base, use, base->parallel, d, &p)) {
        fill_figures(&p, row);
        row->warnings = warnings_of(c->a, d, base->spec->at);
    } else {
        row->status = COMPARE_REFUSED;
        row->reason = first_error(c->a, d, row->name);
    }
    arena_free(scratch);
}

/* --- which rows --------------------------------------------------------------------------- */

/* The spec's own use of that variant. */
static const struct scheme_use *own_use(const struct problem *p, const struct scheme *s,
                                        const char *name)
{
    for (uint32_t i = 0; i < p->n_uses; i++)
        if (p->uses[i].scheme == s && !strcmp(p->uses[i].name, name))
            return &p->uses[i];
    return NULL;
}

/* A variant with parameters as inline YAML ("{warmup: 2}", NULL: none). */
static bool bind_use(struct arena *a, const struct scheme *s, const char *name,
                     const char *params, struct diag *d, struct scheme_use *out)
{
    const char *rest = params && strcmp(params, "{}") != 0 ? params + 1 : "}";
    const char *text =
        arena_printf(a, "{scheme: \"%s\"%s%s", name, *rest == '}' ? "" : ", ", rest);
    struct doc_node *doc = NULL;
    size_t n;

    return doc_read_yaml(a, "<compare>", text, strlen(text), d, &doc, 1, &n) && n == 1 &&
           scheme_bind(a, s->axis, doc, d, out);
}

/* One try: binds and plans; the row says how it went. */
static void try_row(struct comparing *c, const struct scheme *s, const char *params,
                    struct compare_row *row)
{
    struct diag *d = diag_new(c->a);

    if (!bind_use(c->a, s, row->name, params, d, &row->use)) {
        row->use = (struct scheme_use){.scheme = s, .name = row->name};
        row->status = COMPARE_REFUSED;
        row->reason = first_error(c->a, d, row->name);
        return;
    }
    plan_row(c, &c->bare, &row->use, row);
}

/* The parameters for comparison are a scheme's, not a variant's: one that refuses them gets
 * its defaults. */
static void scheme_row(struct comparing *c, const struct scheme *s, const char *name)
{
    struct compare_row row = {.name = name, .use = {.scheme = s, .name = name}, .params = ""};
    const struct scheme_use *own = own_use(c->asked, s, name);

    if (s->unsupported) {
        row.status = COMPARE_UNSUPPORTED;
        row.reason = s->unsupported;
        add_row(c, row);
        return;
    }
    if (own) {
        row.own = true;
        row.use = *own;
        row.use.sides = STORE_K | STORE_V;
        plan_row(c, &c->bare, &row.use, &row);
    } else {
        struct compare_row plain = row;
        try_row(c, s, s->compare, &row);
        if (row.status != COMPARE_OK && s->compare) {
            try_row(c, s, NULL, &plain);
            row = plain.status == COMPARE_OK ? plain : row;
        }
    }
    if (row.use.params) {
        row.params = params_text(c->a, &row.use);
        row.near = evidence_nearest(c->a, c->evidence, &row.use, &c->asked->model);
    }
    add_row(c, row);
}

/* A name of the list against a variant: '_' and '-' are one letter. */
static bool listed(const char *names, const char *variant)
{
    size_t n = strlen(variant);

    for (const char *s = names; s; s = strchr(s, ',')) {
        size_t i = 0;
        s += *s == ',';
        while (i < n && (s[i] == variant[i] || (s[i] == '_' && variant[i] == '-') ||
                         (s[i] == '-' && variant[i] == '_')))
            i++;
        if (i == n && (!s[n] || s[n] == ','))
            return true;
    }
    return false;
}

static bool check_names(struct arena *a, const char *names, struct diag *d)
{
    const char *known[NAMES_MAX];
    size_t n = 0;
    bool ok = true;

    for (size_t i = 0; scheme_at(i); i++)
        for (const char *const *v = scheme_at(i)->names; *v && n < NAMES_MAX; v++)
            known[n++] = *v;
    for (const char *s = names; s; s = strchr(s, ',')) {
        char *word;
        const char *near;
        bool found = false;
        s += *s == ',';
        word = arena_strndup(a, s, strcspn(s, ","));
        for (size_t i = 0; i < n && !found; i++)
            found = listed(word, known[i]);
        if (found)
            continue;
        near = doc_nearest(word, known, n);
        ok = diag_add(
            d, DIAG_USAGE, (struct loc){0},
            near ? "--schemes: there is no scheme '%s'; did you mean '%s'?"
                 : "--schemes: there is no scheme '%s'; `kvbudget list schemes` has them all",
            word, near);
    }
    return ok;
}

/* Sharing, eviction, storage; then what no figure can be given for. */
static void all_schemes(struct comparing *c, const char *names)
{
    for (int pass = 0; pass < 2; pass++)
        for (int axis = AXIS_SHARING; axis <= AXIS_STORAGE; axis++)
            for (size_t i = 0; scheme_at(i); i++) {
                const struct scheme *s = scheme_at(i);
                if ((int)s->axis != axis || (s->unsupported != NULL) != (pass == 1))
                    continue;
                for (const char *const *v = s->names; *v; v++)
                    if (!names || listed(names, *v))
                        scheme_row(c, s, *v);
            }
}

/* As shipped: no sharing but the model's own, nothing dropped, the format the checkpoint
 * asks for. */
static void strip(struct problem *p)
{
    const char *format = p->model.quant.kv_format;
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->n_uses; i++)
        if (p->uses[i].scheme->axis == AXIS_STORAGE && format &&
            !strcmp(p->uses[i].name, format))
            p->uses[n++] = p->uses[i];
    p->n_uses = n;
}

/* Whether the spec asks for more than the model as shipped. */
static bool differs(const struct problem *p)
{
    const char *plain =
        p->model.quant.kv_format ? p->model.quant.kv_format : p->shipped.storage;

    return p->spec->cache.sharing || p->spec->cache.eviction ||
           strcmp(p->layout.storage, plain) != 0;
}

bool compare_schemes(struct arena *a, const struct problem *p, const struct evidence *evidence,
                     const char *names, struct diag *d, struct compare *out)
{
    static const struct evidence none = {0};
    struct comparing c = {
        .a = a, .asked = p, .bare = *p, .evidence = evidence ? evidence : &none, .out = out};
    struct compare_row shipped = {.name = "as shipped", .params = ""};
    struct compare_row asked = {.name = "as asked", .params = "", .own = true};

    *out = (struct compare){0};
    if (names && !strcmp(names, "all"))
        names = NULL;
    if (names && !check_names(a, names, d))
        return false;
    strip(&c.bare);
    plan_row(&c, &c.bare, NULL, &shipped);
    add_row(&c, shipped);
    if (differs(p)) {
        plan_row(&c, p, NULL, &asked);
        add_row(&c, asked);
    }
    all_schemes(&c, names);
    return true;
}

/* --- order and front ---------------------------------------------------------------------- */

static double by_token(const struct compare_row *r)
{
    return -(double)r->token_bytes;
}

static double by_prefilled(const struct compare_row *r)
{
    return -(double)r->after_prefill_bytes;
}

static double by_batch(const struct compare_row *r)
{
    return (double)r->max_batch;
}

static double by_context(const struct compare_row *r)
{
    return (double)r->max_context;
}

static double by_speed(const struct compare_row *r)
{
    return r->tokens_per_s;
}

static double by_prefill(const struct compare_row *r)
{
    return -r->prompt_s;
}

static const struct {
    const char *name;
    compare_goal_fn goal; /* NULL: by name */
} columns[] = {
    {"scheme", NULL},
    {"bytes_per_token", by_token},
    {"after_prefill_bytes", by_prefilled},
    {"max_batch", by_batch},
    {"max_context", by_context},
    {"decode_tokens_per_second", by_speed},
    {"prefill_seconds_per_sequence", by_prefill},
};
enum { N_COLUMNS = sizeof columns / sizeof *columns };

/* Whether b belongs before a. */
static bool before(const struct compare_row *b, const struct compare_row *a,
                   compare_goal_fn goal)
{
    if (a->status != b->status)
        return b->status < a->status;
    if (!goal)
        return strcmp(b->name, a->name) < 0;
    return a->status == COMPARE_OK && goal(b) > goal(a);
}

bool compare_sort(struct compare *c, const char *column, struct diag *d)
{
    const char *names[N_COLUMNS], *near, *list = "";
    struct arena *a;

    for (size_t i = 0; i < N_COLUMNS; i++) {
        names[i] = columns[i].name;
        if (strcmp(columns[i].name, column) != 0)
            continue;
        for (size_t k = 2; k < c->n; k++) {
            struct compare_row row = c->rows[k];
            size_t at = k;
            for (; at > 1 && before(&row, &c->rows[at - 1], columns[i].goal); at--)
                c->rows[at] = c->rows[at - 1];
            c->rows[at] = row;
        }
        return true;
    }
    near = doc_nearest(column, names, N_COLUMNS);
    if (near)
        return diag_add(d, DIAG_USAGE, (struct loc){0},
                        "--sort: there is no column '%s'; did you mean '%s'?", column, near);
    a = arena_new();
    for (size_t i = 0; i < N_COLUMNS; i++)
        list = arena_printf(a, "%s%s%s", list, i ? ", " : "", names[i]);
    diag_add(d, DIAG_USAGE, (struct loc){0},
             "--sort: there is no column '%s'; the columns are %s", column, list);
    arena_free(a);
    return false;
}

static bool beats(const struct compare_row *b, const struct compare_row *a,
                  const compare_goal_fn *goals, size_t n_goals)
{
    bool better = false;

    for (size_t i = 0; i < n_goals; i++) {
        double x = goals[i](a), y = goals[i](b);
        if (y < x)
            return false;
        better |= y > x;
    }
    return better;
}

size_t compare_front(struct compare *c, const compare_goal_fn *goals, size_t n_goals)
{
    size_t n = 0;

    for (size_t i = 0; i < c->n; i++) {
        struct compare_row *r = &c->rows[i];
        r->on_front = r->status == COMPARE_OK;
        for (size_t k = 0; k < c->n && r->on_front; k++)
            r->on_front =
                c->rows[k].status != COMPARE_OK || !beats(&c->rows[k], r, goals, n_goals);
        n += r->on_front;
    }
    return n;
}
