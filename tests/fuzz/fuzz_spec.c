/* Whole specs: a problem or a message; a plan that fits is found to fit again, its batch and
 * its context are tight, and no byte count wraps. Files named by a spec are not opened: paths
 * are replaced before binding. */
#include <string.h>

#include "planner/plan/capacity.h"
#include "planner/plan/report.h"
#include "tests/fuzz/fuzz.h"

#undef NDEBUG
#include <assert.h>

enum { SIZE_MAX_FUZZ = 16384 };

/* A path would read this machine: scalars with a slash, a dot in front or an ending are not
 * tried. */
static bool opens_files(const struct doc_node *n)
{
    if (n->kind == DOC_SCALAR)
        return strchr(n->text, '.') != NULL || strchr(n->text, '/') != NULL ||
               strchr(n->text, '~') != NULL;
    for (const struct doc_node *c = n->first; c; c = c->next)
        if (opens_files(c))
            return true;
    return false;
}

static void check_plan(const struct problem *p)
{
    struct plan plan;
    struct workload w = p->workload;

    plan_solve(p, &w, &plan);
    if (plan.over)
        return;
    assert(plan.fits == capacity_fits(p, &w, w.batch ? w.batch : 1));
    if (plan.max_batch)
        assert(capacity_fits(p, &w, plan.max_batch));
    if (plan.max_batch < CAPACITY_MAX && plan.batch_limit != LIMIT_NONE)
        assert(!capacity_fits(p, &w, plan.max_batch + 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct diag *d = diag_new(a);
    struct doc_node *doc = NULL;
    struct spec spec;
    struct problem p;
    size_t n = 0;
    bool ok = size <= SIZE_MAX_FUZZ &&
              doc_read_yaml(a, "fuzz.yaml", (const char *)data, size, d, &doc, 1, &n) && n == 1;

    if (ok && doc->kind == DOC_MAP && !opens_files(doc)) {
        ok = spec_bind(a, doc, d, &spec) &&
             problem_build(a, &spec, profiles_open(a, NULL, d), d, &p);
        assert(ok == !diag_failed(d));
        if (ok)
            check_plan(&p);
    }
    arena_free(a);
    return 0;
}
