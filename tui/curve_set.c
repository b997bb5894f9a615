/* Plans and points of Curves. */
#include "tui/curve_set.h"

#include <math.h>
#include <string.h>

#include "tui/apply.h"
#include "tui/tags.h"

/* --- plans ------------------------------------------------------------------------------ */

static void add(struct curve_set *set, const char *name, const struct problem *p)
{
    struct curve_plan *c;

    if (set->n == CURVE_LINES) {
        set->left_out++;
        return;
    }
    c = &set->plans[set->n++];
    *c = (struct curve_plan){.name = name, .problem = p};
    plan_solve(p, &p->workload, &c->plan);
}

static const struct problem *shipped_of(struct arena *a, const struct session *s)
{
    struct session_edit edits[APPLY_EDITS];
    struct problem *p = ARENA_NEW(a, struct problem, 1);
    size_t n = apply_edits(a, NULL, edits);

    return session_variant(s, a, edits, n, p, NULL) ? p : NULL;
}

static const struct problem *pinned_of(struct arena *a, const struct session *s)
{
    struct diag *d = diag_new(a);
    struct doc_node *doc = NULL;
    struct spec *spec = ARENA_NEW(a, struct spec, 1);
    struct problem *p = ARENA_NEW(a, struct problem, 1);
    const char *text = s->baseline.text;
    size_t n = 0;

    if (!text || !doc_read_yaml(a, "baseline.yaml", text, strlen(text), d, &doc, 1, &n) || !n)
        return NULL;
    if (!spec_bind(a, doc, d, spec))
        return NULL;
    spec->hardware.facts = s->facts;
    return problem_build(a, spec, s->profiles, d, p) ? p : NULL;
}

/* A tagged scheme with the parameters that Compare shows it with. */
static const struct problem *tagged_of(struct arena *a, const struct session *s,
                                       const struct problem *shipped, const char *name)
{
    struct problem *p = ARENA_NEW(a, struct problem, 1);
    struct diag *d = diag_new(a);
    struct compare c;

    if (!compare_schemes(a, &s->problem, NULL, name, d, &c))
        return NULL;
    for (size_t i = 0; i < c.n; i++)
        if (c.rows[i].status == COMPARE_OK && c.rows[i].use.scheme)
            return problem_with(a, shipped, &c.rows[i].use, shipped->parallel, d, p) ? p : NULL;
    return NULL;
}

static bool same_layout(const struct problem *a, const struct problem *b)
{
    return !strcmp(a->layout.sharing, b->layout.sharing) &&
           !strcmp(a->layout.retention, b->layout.retention) &&
           !strcmp(a->layout.storage, b->layout.storage);
}

void curve_set_build(struct arena *a, struct session *s, struct curve_set *out)
{
    const struct problem *shipped, *p;

    *out = (struct curve_set){0};
    if (!s->planned)
        return;
    add(out, "as asked", &s->problem);
    shipped = shipped_of(a, s);
    if (shipped && !same_layout(shipped, &s->problem))
        add(out, "as shipped", shipped);
    p = s->baseline.pinned ? pinned_of(a, s) : NULL;
    if (p)
        add(out, "baseline", p);
    for (size_t i = 0; i < tags_count(s); i++) {
        if (!strncmp(s->tags[i], "as ", 3))
            continue;
        p = shipped ? tagged_of(a, s, shipped, s->tags[i]) : NULL;
        if (p)
            add(out, s->tags[i], p);
        else
            out->left_out++;
    }
}

/* --- points ----------------------------------------------------------------------------- */

/* The workload with sequences of x tokens: the output stays while the prompt keeps a token. */
static struct workload of_context(const struct workload *w, uint64_t x)
{
    struct workload at = *w;

    at.output = w->output < x ? w->output : x - 1;
    at.prompt = x - at.output;
    if (at.shared_prefix > at.prompt)
        at.shared_prefix = at.prompt;
    return at;
}

static double batch_at(const struct curve_plan *c, uint64_t x)
{
    struct workload w = of_context(&c->problem->workload, x);
    enum limit why = LIMIT_NONE;
    uint64_t most = capacity_max_batch(c->problem, &w, &why);

    return most && why != LIMIT_NONE ? (double)most : NAN;
}

static double memory_at(const struct curve_plan *c, uint64_t batch)
{
    const struct problem *p = c->problem;
    const struct workload *w = &p->workload;
    const struct stage *s = &p->stages[c->plan.tightest];
    struct budget b = s->budget;
    struct need need;
    struct ck ck = {0};
    double taken;

    if (b.reserved)
        problem_reserve(p, c->plan.tightest, batch, w->prompt + w->output, &b);
    if (b.short_bytes == UINT64_MAX)
        return NAN;
    taken = (double)b.usable_bytes + (double)b.short_bytes - (double)budget_left_bytes(&b);
    if (b.reserved)
        return taken;
    capacity_need(p, s, w, &need, &ck);
    taken -= (double)b.kv_pool_bytes;
    taken += (double)need_bytes(&need, ck_ceil_div(batch, p->parallel.dp), &ck);
    return ck.over ? NAN : taken;
}

static double decode_at(const struct curve_plan *c, enum curve_kind k, uint64_t batch)
{
    struct workload w = c->problem->workload;
    struct plan plan;

    if (!c->problem->gpu_named || batch > c->plan.max_batch)
        return NAN;
    w.batch = batch;
    plan_solve(c->problem, &w, &plan);
    return k == CURVE_SPEED ? plan.tokens_per_s : plan.decode_s;
}

double curve_value(const struct curve_plan *c, enum curve_kind k, uint64_t x)
{
    if (x < 1)
        return NAN;
    if (k == CURVE_BATCH)
        return batch_at(c, x);
    return k == CURVE_MEMORY ? memory_at(c, x) : decode_at(c, k, x);
}

/* --- axes ------------------------------------------------------------------------------- */

static bool bounded(const struct curve_plan *c, enum curve_kind k)
{
    return k == CURVE_BATCH
               ? c->plan.context_limit != LIMIT_NONE && c->plan.max_context < CONTEXT_MAX
               : c->plan.batch_limit != LIMIT_NONE;
}

void curve_range(const struct curve_set *s, enum curve_kind k, double *x0, double *x1)
{
    const double least = k == CURVE_BATCH ? 1024 : 16, most = k == CURVE_BATCH ? 1 << 24 : 1e6;
    double asked = (double)curve_asked(s, k), end = least;

    for (int i = 0; i < s->n; i++) {
        const struct curve_plan *c = &s->plans[i];
        double v = (double)(k == CURVE_BATCH ? c->plan.max_context : c->plan.max_batch);
        if (bounded(c, k))
            end = v > end ? v : end;
    }
    end = end > most ? most : end;
    *x0 = k == CURVE_BATCH ? (asked > 0 && asked < 256 ? asked : 256) : 1;
    *x1 = end > 2 * asked ? end : 2 * asked;
    if (k == CURVE_MEMORY)
        *x1 *= 1.5; /* where it no longer fits is seen too */
}

uint64_t curve_asked(const struct curve_set *s, enum curve_kind k)
{
    const struct workload *w = s->n ? &s->plans[0].problem->workload : NULL;

    if (!w)
        return 0;
    if (k == CURVE_BATCH)
        return w->prompt + w->output;
    return s->plans[0].plan.batch;
}

uint64_t curve_usable_bytes(const struct curve_set *s)
{
    const struct curve_plan *c = &s->plans[0];

    return s->n ? c->problem->stages[c->plan.tightest].budget.usable_bytes : 0;
}
