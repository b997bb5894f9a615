/* From a problem to what the checks look at, at a size that can be run. */
#include "planner/plan/problem.h"
#include "validate/run.h"
#include "validate/small.h"

/* Whether some row keeps less of a prompt of n than all of it. */
static bool drops(const struct layout *l, uint64_t n)
{
    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct cache_row *r = &l->rows[i];
        if (r->keep.prompt && row_stored_tokens(r, n, 0) < row_unpruned_tokens(r, n))
            return true;
    }
    return false;
}

static void describe(struct arena *a, const char *name, const struct problem *p,
                     struct subject *out)
{
    struct slice all = {p->parallel.tp, p->parallel.cp, 0, p->layout.n_layers};
    struct fold *fold = ARENA_NEW(a, struct fold, 1);
    uint64_t asked = p->workload.prompt, prompt = u64_min(asked, RUN_PROMPT);
    struct ck ck = {0};

    fold_layout(&p->layout, all, fold, &ck);
    while (prompt < asked && prompt < RUN_PROMPT_MAX && drops(&p->layout, asked) &&
           !drops(&p->layout, prompt))
        prompt = u64_min(u64_min(2 * prompt, asked), RUN_PROMPT_MAX);
    *out = (struct subject){.name = name,
                            .problem = p,
                            .layout = &p->layout,
                            .fold = fold,
                            .prompt = prompt,
                            .decoded = u64_min(p->workload.output / 2, RUN_DECODED),
                            .asked_prompt = asked,
                            .asked_decoded = p->workload.output / 2};
}

void run_subject(struct arena *a, const char *name, const struct problem *p,
                 struct subject *out)
{
    struct problem *cut;
    struct subject *small;
    const char *what;

    describe(a, name, p, out);
    if (p->whole_work.weights_bytes <= RUN_WEIGHTS_BYTES)
        return;
    cut = ARENA_NEW(a, struct problem, 1);
    if (!small_problem(a, p, cut, &what))
        return;
    small = ARENA_NEW(a, struct subject, 1);
    describe(a, name, cut, small);
    small->cut = what;
    out->small = small;
}
