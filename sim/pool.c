/* Counting pages. A sequence that holds h tokens at clock t needs its next page u + 1 steps
 * later, u = -h mod block. h and t grow together, so (t - h) mod block stays what it was: that
 * is the key of the histogram, and the sequences with u < m are a range of keys. */
#include "sim/pool.h"

#include <assert.h>

#define UNLIMITED_UNITS ((uint64_t)1 << 60)

enum { POOL_BLOCK_MAX = 1 << 24 };

/* --- the histogram -------------------------------------------------------------------- */

static void tree_add(struct pool_lane *l, uint64_t key, int sign)
{
    for (uint64_t i = key + 1; i <= l->block_tokens; i += i & (~i + 1))
        l->tree[i] = sign > 0 ? l->tree[i] + 1 : l->tree[i] - 1;
}

/* Keys below `end`. */
static uint64_t tree_sum(const struct pool_lane *l, uint64_t end)
{
    uint64_t sum = 0;

    for (uint64_t i = end; i; i &= i - 1)
        sum += l->tree[i];
    return sum;
}

static uint64_t key_of(const struct pool_lane *l, uint64_t clock, uint64_t tokens)
{
    uint64_t b = l->block_tokens;

    return (clock % b + b - tokens % b) % b;
}

void sim_pool_track(struct sim_pool *p, uint32_t lane, uint64_t tokens, uint64_t slope,
                    int sign)
{
    struct pool_lane *l = &p->lanes[lane];

    if (!slope || !l->block_tokens)
        return;
    if (l->block_tokens == 1) {
        l->slope = sign > 0 ? l->slope + slope : l->slope - slope;
        return;
    }
    assert(slope == 1);
    l->growing = sign > 0 ? l->growing + 1 : l->growing - 1;
    tree_add(l, key_of(l, p->clock, tokens), sign);
}

/* Pages from the clock on. */
static uint64_t pages_in(const struct sim_pool *p, const struct pool_lane *l, uint64_t steps)
{
    uint64_t b = l->block_tokens, from, rest, sum;

    if (b <= 1)
        return l->slope * steps;
    if (!l->growing)
        return 0;
    from = p->clock % b;
    rest = steps % b;
    sum = tree_sum(l, u64_min(from + rest, b)) - tree_sum(l, from);
    if (from + rest > b)
        sum += tree_sum(l, from + rest - b);
    return steps / b * l->growing + sum;
}

uint64_t sim_pool_growth(const struct sim_pool *p, uint32_t lane, uint64_t steps)
{
    const struct pool_lane *l = &p->lanes[lane];

    if (steps <= p->ahead)
        return 0;
    return pages_in(p, l, steps) - (p->ahead ? pages_in(p, l, p->ahead) : 0);
}

bool sim_pool_lasts(const struct sim_pool *p, uint64_t steps, const uint64_t *more)
{
    uint64_t need[STEP_STAGES] = {0};

    for (uint32_t i = 0; i < p->n_lanes; i++)
        need[p->lanes[i].stage] += sim_pool_growth(p, i, steps) * p->lanes[i].page_units;
    for (uint32_t s = 0; s < p->n_stages; s++)
        if ((int64_t)(need[s] + (more ? more[s] : 0)) > p->free_units[s])
            return false;
    return true;
}

/* --- taking and giving ---------------------------------------------------------------- */

void sim_pool_settle(struct sim_pool *p)
{
    if (p->caches)
        p->free_units[0] = (int64_t)(p->prefix.free_blocks * p->lanes[0].page_units);
}

void sim_pool_take(struct sim_pool *p, uint32_t lane, uint64_t pages)
{
    const struct pool_lane *l = &p->lanes[lane];

    p->free_units[l->stage] -= (int64_t)(pages * l->page_units);
    if (p->caches)
        prefix_take(&p->prefix, pages);
}

void sim_pool_give(struct sim_pool *p, uint32_t lane, uint64_t pages)
{
    const struct pool_lane *l = &p->lanes[lane];

    p->free_units[l->stage] += (int64_t)(pages * l->page_units);
    if (p->caches)
        prefix_give(&p->prefix, pages);
}

void sim_pool_step_ahead(struct sim_pool *p)
{
    for (uint32_t i = 0; i < p->n_lanes; i++)
        sim_pool_take(p, i, sim_pool_growth(p, i, 1));
    p->ahead = 1;
}

void sim_pool_advance(struct sim_pool *p, uint64_t steps)
{
    for (uint32_t i = 0; i < p->n_lanes; i++)
        sim_pool_take(p, i, sim_pool_growth(p, i, steps));
    p->clock += steps;
    p->ahead = 0;
}

/* The stage with the largest share in use. */
static uint32_t fullest(const struct sim_pool *p)
{
    uint32_t at = 0;

    for (uint32_t s = 1; s < p->n_stages; s++)
        if ((double)p->free_units[s] * (double)p->units[at] <
            (double)p->free_units[at] * (double)p->units[s])
            at = s;
    return at;
}

uint64_t sim_pool_used(const struct sim_pool *p, uint64_t *units)
{
    uint32_t s = fullest(p);

    if (units)
        *units = p->units[s];
    return (uint64_t)((int64_t)p->units[s] - p->free_units[s]);
}

uint64_t sim_pool_used_after(const struct sim_pool *p, uint64_t steps)
{
    uint32_t s = fullest(p);
    uint64_t used = (uint64_t)((int64_t)p->units[s] - p->free_units[s]);

    for (uint32_t i = 0; i < p->n_lanes; i++)
        if (p->lanes[i].stage == s)
            used += sim_pool_growth(p, i, steps) * p->lanes[i].page_units;
    return used;
}

/* --- making --------------------------------------------------------------------------- */

uint64_t sim_pool_pages(const struct pool_lane *l, uint64_t tokens)
{
    return l->block_tokens ? ck_ceil_div(tokens, l->block_tokens) : 1;
}

/* One kind whose sequences hold exactly their tokens, or so many bytes for each of them: seen
 * on a few points, which no rule of retention, window or scale passes. Returns what a token
 * counts for, 0 where it is not so. */
static uint64_t plain_token(const struct curve *c, const struct curve_store *m)
{
    static const uint64_t points[][2] = {{1, 0}, {17, 3}, {1000, 500}, {1000003, 70001}};
    uint64_t held[CURVE_CLASSES], token = 0;
    struct curve_point at[CURVE_CLASSES];

    if (m->n_kinds != 1 || !m->kinds[0].block_tokens || !c->affine || m->slot_tokens)
        return 0;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        uint64_t n = points[i][0], t = points[i][1];
        curve_held_prefill(c, m, n, n, held);
        curve_held_decode(c, m, n, t, at, NULL);
        token = i ? token : held[0];
        if (held[0] != token * n || at[0].value != (int64_t)(token * (n + t)) ||
            at[0].slope != (int64_t)token)
            return 0;
    }
    return m->kinds[0].block_tokens == 1 || token == 1 ? token : 0;
}

/* Counts tokens of all stages alike. */
static bool all_plain(struct sim_pool *p, const struct step_model *m)
{
    uint64_t token[STEP_STAGES];

    for (uint32_t s = 0; s < m->n_stages; s++) {
        token[s] = plain_token(&m->curves[s], &p->stores[s]);
        if (!token[s] ||
            p->stores[s].kinds[0].block_tokens != p->stores[0].kinds[0].block_tokens)
            return false;
    }
    for (uint32_t s = 0; s < m->n_stages; s++)
        p->stores[s].kinds[0].page_units *= token[s];
    return true;
}

static void add_lane(struct sim_pool *p, uint32_t stage, uint32_t kind)
{
    const struct curve_kind *k = &p->stores[stage].kinds[kind];
    struct pool_lane *l = &p->lanes[p->n_lanes++];

    *l = (struct pool_lane){.stage = stage,
                            .kind = kind,
                            .block_tokens = k->block_tokens,
                            .page_units = k->page_units};
    if (l->block_tokens > 1)
        l->tree = ARENA_NEW(p->arena, uint32_t, l->block_tokens + 1);
}

/* The pages of the tightest stage stand for all. */
static void make_plain(struct sim_pool *p)
{
    uint32_t tightest = 0;
    uint64_t least = UINT64_MAX;

    for (uint32_t s = 0; s < p->n_stages; s++) {
        uint64_t pages = p->stores[s].units / p->stores[s].kinds[0].page_units;
        if (pages < least) {
            least = pages;
            tightest = s;
        }
    }
    p->stores[0] = p->stores[tightest];
    p->n_stages = 1;
    add_lane(p, 0, 0);
}

bool sim_pool_init(struct sim_pool *p, struct arena *a, const struct step_model *m,
                   bool unlimited, struct diag *d)
{
    *p = (struct sim_pool){.arena = a, .n_stages = m->n_stages, .unlimited = unlimited};
    p->lanes = ARENA_NEW(a, struct pool_lane, (size_t)m->n_stages * CURVE_CLASSES);
    for (uint32_t s = 0; s < m->n_stages; s++) {
        const struct curve_store *st = &p->stores[s];
        if (!curve_store_build(m->problem, s, d, &p->stores[s]))
            return false;
        for (uint32_t k = 0; k < st->n_kinds; k++)
            if (st->kinds[k].block_tokens > POOL_BLOCK_MAX)
                return diag_add(d, DIAG_INPUT, m->problem->spec->at,
                                "blocks of %llu tokens are too large to simulate",
                                (unsigned long long)st->kinds[k].block_tokens);
    }
    p->plain = all_plain(p, m);
    if (p->plain)
        make_plain(p);
    for (uint32_t s = 0; s < p->n_stages; s++) {
        for (uint32_t k = 0; !p->plain && k < p->stores[s].n_kinds; k++)
            add_lane(p, s, k);
        p->units[s] = unlimited ? UNLIMITED_UNITS : p->stores[s].units;
        p->free_units[s] = (int64_t)p->units[s];
    }
    return true;
}

bool sim_pool_cache(struct sim_pool *p)
{
    if (!p->plain)
        return false;
    p->caches = true;
    prefix_init(&p->prefix, p->arena, p->units[0] / p->lanes[0].page_units);
    sim_pool_settle(p);
    return true;
}
