/* Pages of a sequence follow from its tokens: ceil(tokens / block), with the tokens of now
 * being those at piece_clock plus the steps since. Only sharing through the prefix cache needs
 * a list of its own. */
#include "sim/hold.h"

#include <assert.h>
#include <string.h>

static const struct curve *curve_of(const struct replica *r, uint32_t stage)
{
    return &r->steps->curves[stage];
}

void hold_prompt(const struct replica *r, uint64_t n, uint64_t computed, struct hold *out)
{
    const struct sim_pool *p = &r->pool;
    uint64_t held[CURVE_CLASSES];

    out->steps = CURVE_FOREVER;
    if (p->plain) {
        out->lanes[0] = (struct seq_held){computed, 0};
        return;
    }
    for (uint32_t i = 0; i < p->n_lanes; i++) {
        const struct pool_lane *l = &p->lanes[i];
        if (!l->kind)
            curve_held_prefill(curve_of(r, l->stage), &p->stores[l->stage], n, computed, held);
        out->lanes[i] = (struct seq_held){held[l->kind], 0};
    }
}

void hold_decode(const struct replica *r, uint64_t n, uint64_t decoded, struct hold *out)
{
    const struct sim_pool *p = &r->pool;
    struct curve_point at[CURVE_CLASSES];

    out->steps = CURVE_FOREVER;
    if (p->plain) {
        out->lanes[0] = (struct seq_held){n + decoded, 1};
        return;
    }
    for (uint32_t i = 0; i < p->n_lanes; i++) {
        const struct pool_lane *l = &p->lanes[i];
        uint64_t steps;
        if (!l->kind) {
            curve_held_decode(curve_of(r, l->stage), &p->stores[l->stage], n, decoded, at,
                              &steps);
            out->steps = u64_min(out->steps, steps);
        }
        out->lanes[i] =
            (struct seq_held){(uint64_t)at[l->kind].value, (uint64_t)at[l->kind].slope};
    }
}

void hold_sum(const struct replica *r, const struct hold *h, uint64_t steps, uint64_t units[])
{
    uint64_t sum[STEP_STAGES] = {0};

    for (uint32_t i = 0; i < r->pool.n_lanes; i++) {
        const struct pool_lane *l = &r->pool.lanes[i];
        const struct seq_held *a = &h->lanes[i];
        sum[l->stage] += sim_pool_pages(l, a->tokens + a->slope * steps) * l->page_units;
    }
    for (uint32_t s = 0; s < r->pool.n_stages; s++)
        units[s] = u64_max(units[s], sum[s]);
}

void hold_most(const struct replica *r, uint64_t n, uint64_t decoded, uint64_t units[])
{
    struct hold h;

    memset(units, 0, STEP_STAGES * sizeof *units);
    hold_prompt(r, n, n, &h);
    hold_sum(r, &h, 0, units);
    for (uint64_t at = 0;;) {
        uint64_t steps;
        hold_decode(r, n, at, &h);
        steps = u64_min(h.steps, decoded - at);
        hold_sum(r, &h, steps, units);
        at += steps;
        if (at >= decoded)
            return;
    }
}

/* --- pages ---------------------------------------------------------------------------- */

/* Steps of growth a decoding sequence has pages for. */
static uint64_t grown(const struct replica *r, const struct seq *q)
{
    return r->pool.clock - q->piece_clock + r->pool.ahead;
}

/* Pages held of a lane. A record that holds nothing has no tokens and is not to be asked. */
static uint64_t pages_of(const struct replica *r, uint32_t id, uint32_t lane)
{
    const struct seq *q = &r->seqs->items[id];
    const struct seq_held *h = seq_held(r->seqs, id) + lane;
    uint64_t tokens = h->tokens + (h->slope ? h->slope * grown(r, q) : 0);

    return tokens ? sim_pool_pages(&r->pool.lanes[lane], tokens) : 0;
}

/* Pages that `h`, looked up now, takes of a lane. */
static uint64_t pages_for(const struct replica *r, const struct hold *h, uint32_t lane)
{
    const struct seq_held *a = &h->lanes[lane];

    return sim_pool_pages(&r->pool.lanes[lane], a->tokens + a->slope * r->pool.ahead);
}

void hold_more(const struct replica *r, uint32_t id, const struct hold *h, uint64_t units[])
{
    memset(units, 0, STEP_STAGES * sizeof *units);
    for (uint32_t i = 0; i < r->pool.n_lanes; i++) {
        const struct pool_lane *l = &r->pool.lanes[i];
        uint64_t want = pages_for(r, h, i), have = pages_of(r, id, i);
        units[l->stage] += want > have ? (want - have) * l->page_units : 0;
    }
}

void hold_set(struct replica *r, uint32_t id, const struct hold *h)
{
    struct sim_pool *p = &r->pool;
    struct seq_held *mine = seq_held(r->seqs, id);
    struct seq *q = &r->seqs->items[id];

    for (uint32_t i = 0; i < p->n_lanes; i++) {
        uint64_t want = pages_for(r, h, i), have = pages_of(r, id, i);
        if (mine[i].slope)
            sim_pool_track(p, i, mine[i].tokens + mine[i].slope * (p->clock - q->piece_clock),
                           mine[i].slope, -1);
        if (want > have)
            sim_pool_take(p, i, want - have);
        else
            sim_pool_give(p, i, have - want);
        mine[i] = h->lanes[i];
        /* A page of a state is held whatever the tokens; 0 means nothing is held. */
        if (!p->lanes[i].block_tokens)
            mine[i] = (struct seq_held){1, 0};
        sim_pool_track(p, i, mine[i].tokens, mine[i].slope, 1);
    }
    q->piece_clock = p->clock;
}

void hold_freeze(struct replica *r, uint32_t id)
{
    struct sim_pool *p = &r->pool;
    struct seq_held *mine = seq_held(r->seqs, id);
    struct seq *q = &r->seqs->items[id];

    for (uint32_t i = 0; i < p->n_lanes; i++) {
        mine[i].tokens += mine[i].slope * (p->clock - q->piece_clock);
        sim_pool_track(p, i, mine[i].tokens, mine[i].slope, -1);
        mine[i].slope = 0;
    }
    q->piece_clock = p->clock;
}

/* Whole blocks of the prompt that the trace has hashes for. */
static uint64_t named_blocks(const struct replica *r, const struct request *q)
{
    uint64_t tokens = u64_min((uint64_t)q->n_hashes * q->hash_tokens, q->prompt_tokens);

    return tokens / r->pool.lanes[0].block_tokens;
}

/* The blocks go to the queue from the last to the first: one that is not full, those that only
 * this sequence knows, copies of what others have cached, the shared ones. */
static void drop_cached(struct replica *r, struct seq *q, uint64_t tokens, uint64_t have,
                        bool again)
{
    struct prefix *p = &r->pool.prefix;
    uint64_t block = r->pool.lanes[0].block_tokens, full = tokens / block;
    uint64_t named = u64_min(named_blocks(r, &q->request), full);

    q->own_hash = 0;
    prefix_give(p, have - full);
    if (again && full > named) {
        uint32_t own;
        q->own_hash = ~(q->request.id << 16 | (q->preemptions & 0xffff));
        own = prefix_insert(p, q->own_hash);
        prefix_extend(p, own, full - named);
        prefix_unref(p, own);
    } else {
        prefix_give(p, full - named);
    }
    prefix_give(p, named - q->shared_pages);
    for (uint32_t j = q->n_entries; j > 0; j--)
        if (q->entries[j - 1])
            prefix_unref(p, q->entries[j - 1]);
    q->n_entries = 0;
    q->shared_pages = 0;
    sim_pool_settle(&r->pool);
}

void hold_drop(struct replica *r, uint32_t id, bool again)
{
    struct sim_pool *p = &r->pool;
    struct seq_held *mine = seq_held(r->seqs, id);
    struct seq *q = &r->seqs->items[id];

    for (uint32_t i = 0; i < p->n_lanes; i++) {
        uint64_t have = pages_of(r, id, i), since = p->clock - q->piece_clock;
        uint64_t tokens = mine[i].tokens + (mine[i].slope ? mine[i].slope * since : 0);
        sim_pool_track(p, i, tokens, mine[i].slope, -1);
        if (p->caches)
            drop_cached(r, q, tokens, have, again);
        else
            sim_pool_give(p, i, have);
        mine[i] = (struct seq_held){0, 0};
    }
}

uint64_t hold_units(const struct replica *r, uint32_t id, uint32_t stage)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < r->pool.n_lanes; i++)
        if (r->pool.lanes[i].stage == stage)
            sum += pages_of(r, id, i) * r->pool.lanes[i].page_units;
    return sum;
}

/* --- the prefix cache ------------------------------------------------------------------ */

/* Whole blocks whose last token lies in the first j stretches of a prompt. */
static uint64_t blocks_upto(const struct replica *r, const struct request *q, uint64_t j)
{
    uint64_t tokens = u64_min(j * q->hash_tokens, q->prompt_tokens);

    return tokens / r->pool.lanes[0].block_tokens;
}

/* Blocks of the prompt that are cached, from the first on. */
static uint64_t match_blocks(const struct replica *r, const struct request *q, uint64_t most,
                             uint64_t *unused)
{
    const struct prefix *p = &r->pool.prefix;
    uint64_t hit = 0;

    *unused = 0;
    for (uint32_t j = 0; j < q->n_hashes; j++) {
        uint64_t lo = blocks_upto(r, q, j), hi = blocks_upto(r, q, (uint64_t)j + 1), have;
        uint32_t e;
        if (lo >= most)
            break;
        if (lo == hi)
            continue;
        e = prefix_find(p, q->hashes[j]);
        if (!e)
            break;
        have = u64_min(prefix_blocks(p, e), hi - lo);
        *unused += prefix_unused(p, e) ? prefix_blocks(p, e) : 0;
        hit = lo + have;
        if (have < hi - lo)
            break;
    }
    return u64_min(hit, most);
}

uint64_t hold_match(const struct replica *r, const struct seq *q, uint64_t *unused)
{
    uint64_t block, hit;
    uint32_t own;

    *unused = 0;
    if (!r->pool.caches)
        return 0;
    block = r->pool.lanes[0].block_tokens;
    hit = match_blocks(r, &q->request, (q->n - 1) / block, unused);
    own = q->own_hash && hit == named_blocks(r, &q->request)
              ? prefix_find(&r->pool.prefix, q->own_hash)
              : PREFIX_NONE;
    if (own) {
        *unused += prefix_blocks(&r->pool.prefix, own);
        hit += prefix_blocks(&r->pool.prefix, own);
    }
    return block * hit;
}

uint64_t hold_match_request(const struct replica *r, const struct request *q)
{
    uint64_t unused, block;

    if (!r->pool.caches || !q->n_hashes)
        return 0;
    block = r->pool.lanes[0].block_tokens;
    return block * match_blocks(r, q, (q->prompt_tokens - 1) / block, &unused);
}

void hold_share(struct replica *r, uint32_t id, uint64_t tokens)
{
    struct seq *q = &r->seqs->items[id];
    struct prefix *p = &r->pool.prefix;
    uint64_t blocks;

    if (!tokens)
        return;
    blocks = tokens / r->pool.lanes[0].block_tokens;
    if (blocks > named_blocks(r, &q->request)) {
        blocks = named_blocks(r, &q->request);
        prefix_absorb(p, prefix_find(p, q->own_hash));
    }
    for (uint32_t j = 0; blocks_upto(r, &q->request, j) < blocks; j++) {
        uint32_t e = prefix_find(p, q->hashes[j]);
        bool any =
            blocks_upto(r, &q->request, j) < blocks_upto(r, &q->request, (uint64_t)j + 1);
        q->entries[j] = any ? e : PREFIX_NONE;
        q->n_entries = j + 1;
        if (any)
            prefix_ref(p, e);
    }
    q->shared_pages = blocks;
    seq_held(r->seqs, id)[0] = (struct seq_held){tokens, 0};
    sim_pool_settle(&r->pool);
}

/* Blocks [from, to) of the prompt, all of stretch j, are computed. */
static void publish_some(struct replica *r, struct seq *q, uint32_t j, uint64_t from,
                         uint64_t to)
{
    struct prefix *p = &r->pool.prefix;
    uint64_t lo = blocks_upto(r, &q->request, j), have;

    while (q->n_entries <= j)
        q->entries[q->n_entries++] = PREFIX_NONE;
    if (!q->entries[j]) {
        /* Somebody else's blocks hold the same, or did: these stay private. */
        if (from != lo || prefix_find(p, q->hashes[j]))
            return;
        q->entries[j] = prefix_insert(p, q->hashes[j]);
    }
    have = lo + prefix_blocks(p, q->entries[j]);
    if (have >= to || have < from)
        return;
    prefix_extend(p, q->entries[j], to - have);
    q->shared_pages += to - have;
}

void hold_publish(struct replica *r, uint32_t id, uint64_t before, uint64_t computed)
{
    struct seq *q = &r->seqs->items[id];
    uint64_t from, to, block;

    if (!r->pool.caches || !q->request.n_hashes || before >= q->request.prompt_tokens)
        return;
    block = r->pool.lanes[0].block_tokens;
    from = before / block;
    to = u64_min(computed, q->request.prompt_tokens) / block;
    while (from < to) {
        uint64_t last = (from + 1) * block - 1, j = last / q->request.hash_tokens, end;
        if (j >= q->request.n_hashes)
            return;
        end = u64_min(blocks_upto(r, &q->request, j + 1), to);
        publish_some(r, q, (uint32_t)j, from, end);
        from = end;
    }
}
