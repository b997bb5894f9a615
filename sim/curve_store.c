/* How a stage's memory is handed out, and what one sequence holds of it. */
#include "sim/stretch.h"

#include "planner/cache/keep.h"
#include "planner/plan/capacity.h"

/* --- kinds ---------------------------------------------------------------------------------
 */

static bool is_state(const struct pool_kind *k)
{
    return k->row.stream == STREAM_STATE;
}

static bool add_kind(struct curve_store *m, uint64_t block_tokens, uint64_t page_units)
{
    if (m->n_kinds == CURVE_CLASSES)
        return false;
    m->kinds[m->n_kinds++] = (struct curve_kind){block_tokens, page_units};
    return true;
}

/* Kinds of a pool whose blocks are counted by another kind (one group of all) have none. */
static void add_pool(const struct pool *pool, struct curve_store *m)
{
    for (uint32_t i = 0; i < pool->n_kinds; i++) {
        const struct pool_kind *k = &pool->kinds[i];
        if (k->groups)
            add_kind(m, is_state(k) ? 0 : k->block_tokens * u64_max(pool->cp, 1), k->groups);
    }
}

/* Whether every store is whole blocks of a fixed size and nothing else is held. */
static bool even_blocks(const struct problem *p, const struct fold *f)
{
    bool even = p->block_tokens > 1 && !p->engine->need && f->n_stores < CURVE_CLASSES;

    for (uint32_t i = 0; i < p->n_uses; i++)
        even = even && !p->uses[i].scheme->extra;
    for (uint32_t i = 0; i < f->n_stores; i++) {
        const struct cache_row *r = &f->stores[i].row;
        even = even && stretch_even_bytes(r) && !r->keep.prompt && !r->keep.decode &&
               !r->keep.copies_in_prefill;
    }
    return even;
}

static void add_stores(const struct problem *p, const struct fold *f, struct curve_store *m)
{
    struct ck ck = {0};

    for (uint32_t i = 0; i < f->n_stores; i++)
        add_kind(m, p->block_tokens * f->slice.cp,
                 f->stores[i].count * row_bytes(&f->stores[i].row, 0, p->block_tokens, &ck));
    if (f->state_bytes)
        add_kind(m, 0, f->state_bytes);
}

/* Blocks are handed out on all stages at once, so the stage with the fewest has the say. */
static uint64_t fewest_blocks(const struct problem *p, uint64_t blocks)
{
    for (uint32_t i = 0; i < p->n_stages; i++) {
        const struct stage *s = &p->stages[i];
        if (s->pool.block_bytes)
            blocks = u64_min(blocks, s->budget.kv_pool_bytes / s->pool.block_bytes);
    }
    return blocks;
}

static uint64_t whole(double x)
{
    return x < 1e18 ? (uint64_t)x : (uint64_t)1e18;
}

/* The part of the cache that lies in host memory makes the pool larger by as much, until the
 * host is full; stages share it evenly. */
static void add_host(const struct problem *p, struct curve_store *m)
{
    double gpu = (double)m->units / (1 - p->offload), host;

    if (p->offload <= 0)
        return;
    if (p->offload >= 1)
        gpu = 1e18;
    if (p->host_bytes) {
        host = (double)capacity_host_room(p) / p->n_stages / p->parallel.dp / p->parallel.tp /
               p->parallel.cp / p->offload / (double)m->unit_bytes;
        gpu = host < gpu ? host : gpu;
    }
    m->units = whole(gpu);
}

bool curve_store_build(const struct problem *p, uint32_t stage, struct diag *d,
                       struct curve_store *out)
{
    const struct stage *s = &p->stages[stage];
    uint64_t asked = p->workload.prompt + p->workload.output;

    *out = (struct curve_store){.units = s->budget.kv_pool_bytes, .unit_bytes = 1};
    if (s->budget.reserved) {
        add_kind(out, 0, 1);
        out->units = s->budget.slots;
        out->unit_bytes = s->budget.slots ? s->budget.kv_pool_bytes / s->budget.slots : 0;
        out->slot_tokens = s->budget.slot_tokens;
    } else if (s->pool.block_bytes) {
        add_pool(&s->pool, out);
        out->unit_bytes = s->pool.block_bytes;
        out->units = fewest_blocks(p, s->budget.kv_pool_bytes / s->pool.block_bytes);
    } else if (even_blocks(p, &s->fold)) {
        add_stores(p, &s->fold, out);
    } else {
        add_kind(out, 1, 1);
    }
    if (!s->budget.reserved)
        add_host(p, out);
    if (out->units && !s->budget.short_bytes)
        return true;
    if (out->slot_tokens && !s->budget.short_bytes && out->slot_tokens < asked)
        return diag_add(
            d, DIAG_INFEASIBLE, p->spec->at,
            "a slot holds %llu tokens, workload.prompt and workload.output are %llu",
            (unsigned long long)out->slot_tokens, (unsigned long long)asked);
    return diag_add(d, DIAG_INFEASIBLE, p->spec->at,
                    "there is no memory for a cache on stage %u: nothing can be simulated",
                    stage + 1);
}

/* --- bytes handed out as such --------------------------------------------------------------
 */

struct held {
    const struct curve *c;
    const struct cache_row *row;
    uint64_t n, decoded, limit;
};

/* With `peak`, the last step of the prompt; else a part of it that is being computed. */
static uint64_t prompt_bytes(const struct curve *c, uint64_t n, bool peak)
{
    const struct problem *p = c->problem;
    const struct fold *f = &c->stage->fold;
    struct ck ck = {0};
    uint64_t persistent = 0, transient = 0;
    uint64_t bytes = fold_prefill_peak_bytes(f, n, p->block_tokens, &ck);

    if (peak)
        capacity_extra(p, c->stage, &(struct phase){n, 0}, &persistent, &transient);
    bytes += persistent + transient;
    if (p->engine->need) {
        struct engine_in in = problem_engine_in(p, c->index);
        struct engine_need need = {fold_running_bytes(f, n, 0, p->block_tokens, &ck), bytes};
        p->engine->need(&in, n, 0, &need, &ck);
        bytes = u64_max(need.prefill_bytes, need.sequence_bytes);
    }
    return bytes;
}

static uint64_t decode_bytes(const struct curve *c, uint64_t n, uint64_t decoded)
{
    const struct problem *p = c->problem;
    struct ck ck = {0};
    uint64_t persistent, transient;
    uint64_t bytes = fold_running_bytes(&c->stage->fold, n, decoded, p->block_tokens, &ck);

    if (p->engine->need) {
        struct engine_in in = problem_engine_in(p, c->index);
        struct engine_need need = {bytes, 0};
        p->engine->need(&in, n, decoded, &need, &ck);
        bytes = need.sequence_bytes;
    }
    capacity_extra(p, c->stage, &(struct phase){n, decoded}, &persistent, &transient);
    return bytes + persistent;
}

static void ask_bytes(const void *of, uint64_t i, int64_t v[STRETCH_VALUES])
{
    const struct held *h = of;

    v[0] = (int64_t)decode_bytes(h->c, h->n, h->decoded + i);
    v[1] = 0;
}

static bool hands_out_bytes(const struct curve_store *m)
{
    return m->unit_bytes == 1 && m->n_kinds == 1 && m->kinds[0].block_tokens == 1;
}

/* --- tokens --------------------------------------------------------------------------------
 */

/* Most tokens of a kind that a window leaves, with `step` tokens computed at once, such that
 * its blocks are those of planner/engine/pool: a window may begin inside a block. */
static uint64_t window_tokens(const struct pool_kind *k, uint64_t cp, uint64_t step)
{
    uint64_t window = k->row.store_window_tokens, block = k->block_tokens * u64_max(cp, 1);

    if (!window)
        return UINT64_MAX;
    if (k->row.mixer == MIXER_CHUNKED)
        return window + step;
    return (ck_ceil_div(window - 1 + step, block) + 1) * block;
}

static void ask_tokens(const void *of, uint64_t i, int64_t v[STRETCH_VALUES])
{
    const struct held *h = of;
    uint64_t tokens = row_running_tokens(h->row, h->n, h->decoded + i);

    v[0] = (int64_t)u64_min(tokens, h->limit);
    v[1] = 0;
}

/* Tokens of a row, its own window left out: `limit` stands for it. */
static struct stretch tokens_line(const struct cache_row *row, uint64_t n, uint64_t decoded,
                                  uint64_t limit)
{
    const struct keep *k = &row->keep;
    enum stretch_rule rule = stretch_rule(k);
    struct curve_point p[STRETCH_VALUES];
    struct cache_row r;
    struct held h = {NULL, &r, n, decoded, limit};
    uint64_t steps;

    if (rule == STRETCH_GROWS)
        return stretch_clipped(stretch_prompt(k, n) + decoded, limit);
    if (rule == STRETCH_CAPPED && !k->peak)
        return stretch_clipped(n + decoded, u64_min(limit, k->fixed));
    r = *row;
    r.store_window_tokens = 0;
    steps = stretch_find(ask_tokens, &h, CURVE_FOREVER, p);
    return (struct stretch){p[0], steps};
}

/* A line as curve_held_decode gives it: never falling. */
static void put_line(struct stretch l, struct curve_point *held, uint64_t *steps)
{
    uint64_t further = l.steps == CURVE_FOREVER ? CURVE_FOREVER : l.steps - 1;

    if (l.at.slope < 0) {
        l.at.slope = 0;
        further = 1;
    }
    *held = l.at;
    *steps = u64_min(*steps, further);
}

static void held_of_pool(const struct pool *pool, uint64_t n, uint64_t decoded,
                         struct curve_point *held, uint64_t *steps)
{
    for (uint32_t i = 0; i < pool->n_kinds; i++) {
        const struct pool_kind *k = &pool->kinds[i];
        if (!k->groups)
            continue;
        if (is_state(k))
            *held++ = (struct curve_point){1, 0};
        else
            put_line(tokens_line(&k->row, n, decoded, window_tokens(k, pool->cp, 1)), held++,
                     steps);
    }
}

static void held_of_stores(const struct fold *f, uint64_t n, uint64_t decoded,
                           struct curve_point *held, uint64_t *steps)
{
    for (uint32_t i = 0; i < f->n_stores; i++) {
        const struct cache_row *r = &f->stores[i].row;
        uint64_t window = r->store_window_tokens ? r->store_window_tokens : UINT64_MAX;
        put_line(tokens_line(r, n, decoded, window), held++, steps);
    }
    if (f->state_bytes)
        *held = (struct curve_point){1, 0};
}

/* The sum over rows with a fixed number of bytes a token. */
static struct stretch sum_rows(const struct fold *f, uint64_t n, uint64_t decoded)
{
    struct stretch sum = {{(int64_t)f->state_bytes, 0}, CURVE_FOREVER};
    struct ck ck = {0};

    for (uint32_t i = 0; i < f->n_stores; i++) {
        const struct cache_row *r = &f->stores[i].row;
        uint64_t window = r->store_window_tokens ? r->store_window_tokens : UINT64_MAX;
        int64_t bytes = (int64_t)(f->stores[i].count * row_bytes(r, n, 1, &ck));
        struct stretch l = tokens_line(r, n, decoded, window);
        sum.at.value += bytes * l.at.value;
        sum.at.slope += bytes * l.at.slope;
        sum.steps = u64_min(sum.steps, l.steps);
    }
    return sum;
}

static void held_of_bytes(const struct curve *c, uint64_t n, uint64_t decoded,
                          struct curve_point *held, uint64_t *steps)
{
    const struct fold *f = &c->stage->fold;
    struct curve_point p[STRETCH_VALUES];
    struct held h = {c, NULL, n, decoded, 0};
    struct stretch l = {{0, (int64_t)c->token_bytes}, CURVE_FOREVER};

    if (c->even_bytes) {
        l.at.value = (int64_t)(f->state_bytes + c->token_bytes * (n + decoded));
    } else if (c->even_rows) {
        l = sum_rows(f, n, decoded);
    } else {
        l.steps = stretch_find(ask_bytes, &h, CURVE_FOREVER, p);
        l.at = p[0];
    }
    put_line(l, held, steps);
}

void curve_held_decode(const struct curve *c, const struct curve_store *m, uint64_t n,
                       uint64_t decoded, struct curve_point held[CURVE_CLASSES],
                       uint64_t *steps)
{
    uint64_t unasked;

    steps = steps ? steps : &unasked;
    *steps = CURVE_FOREVER;
    if (c->stage->budget.reserved)
        held[0] = (struct curve_point){1, 0};
    else if (c->stage->pool.block_bytes)
        held_of_pool(&c->stage->pool, n, decoded, held, steps);
    else if (hands_out_bytes(m))
        held_of_bytes(c, n, decoded, held, steps);
    else
        held_of_stores(&c->stage->fold, n, decoded, held, steps);
}

/* --- prompts -------------------------------------------------------------------------------
 */

static uint64_t pool_prompt_tokens(const struct pool *pool, const struct pool_kind *k,
                                   uint64_t n, uint64_t computed)
{
    struct cache_row r = k->row;
    uint64_t tokens = computed;

    r.store_window_tokens = 0;
    if (r.keep.when == KEEP_IN_LAYER && computed >= n)
        tokens = row_stored_tokens(&r, n, 0);
    return u64_min(tokens, window_tokens(k, pool->cp, pool->step_tokens));
}

void curve_held_prefill(const struct curve *c, const struct curve_store *m, uint64_t n,
                        uint64_t computed, uint64_t held[CURVE_CLASSES])
{
    const struct fold *f = &c->stage->fold;
    const struct pool *pool = &c->stage->pool;
    uint32_t at = 0;

    if (c->stage->budget.reserved) {
        held[0] = 1;
    } else if (pool->block_bytes) {
        for (uint32_t i = 0; i < pool->n_kinds; i++)
            if (pool->kinds[i].groups)
                held[at++] = is_state(&pool->kinds[i])
                                 ? 1
                                 : pool_prompt_tokens(pool, &pool->kinds[i], n, computed);
    } else if (c->even_bytes && hands_out_bytes(m)) {
        held[0] = f->state_bytes + c->token_bytes * computed;
    } else if (hands_out_bytes(m)) {
        held[0] = prompt_bytes(c, computed, computed >= n);
    } else {
        for (uint32_t i = 0; i < f->n_stores; i++)
            held[at++] = row_unpruned_tokens(&f->stores[i].row, computed);
        if (f->state_bytes)
            held[at] = 1;
    }
}
