/* Grouping layers and counting blocks. */
#include "planner/engine/pool/pool.h"

/* --- kinds ---------------------------------------------------------------------------------
 */

static bool is_state(const struct pool_kind *k)
{
    return k->row.stream == STREAM_STATE;
}

/* The window a kind's blocks are freed behind; 0 = none. */
static uint64_t window_of(const struct pool_kind *k)
{
    return k->row.store_window_tokens;
}

static bool add_kinds(const struct pool_in *in, struct pool *p, struct ck *ck)
{
    const struct fold *f = in->fold;

    for (uint32_t i = 0; i < f->n_stores; i++) {
        if (p->n_kinds == POOL_KINDS)
            return false;
        struct pool_kind *k = &p->kinds[p->n_kinds++];
        *k = (struct pool_kind){.row = f->stores[i].row, .layers = f->stores[i].count};
        if (!in->hybrid)
            k->row.store_window_tokens = 0;
        k->block_tokens = in->block_tokens;
        k->page_bytes = row_bytes(&k->row, k->block_tokens, k->block_tokens, ck);
    }
    if (!f->state_layers)
        return p->n_kinds > 0;
    if (p->n_kinds == POOL_KINDS)
        return false;
    p->kinds[p->n_kinds++] = (struct pool_kind){
        .row = {.stream = STREAM_STATE},
        .layers = (uint32_t)f->state_layers,
        .page_bytes = ck_ceil_div(f->state_bytes, f->state_layers),
        .block_tokens = in->block_tokens,
    };
    return true;
}

/* Alike for the block tables: the same tokens are held for every length. */
static bool same_tables(const struct pool *p)
{
    for (uint32_t i = 0; i < p->n_kinds; i++)
        if (is_state(&p->kinds[i]) || window_of(&p->kinds[i]) != window_of(&p->kinds[0]) ||
            p->kinds[i].row.mixer == MIXER_CHUNKED)
            return false;
    return true;
}

/* --- one size of page ------------------------------------------------------------------------
 */

/* A state is never cut: attention blocks grow until their page holds one. */
static void stretch_to_state(struct pool *p, uint64_t align, struct ck *ck)
{
    uint64_t state = 0, token = 0;

    for (uint32_t i = 0; i < p->n_kinds; i++) {
        struct pool_kind *k = &p->kinds[i];
        if (is_state(k))
            state = u64_max(state, k->page_bytes);
        else
            token = u64_max(token, k->page_bytes / k->block_tokens);
    }
    if (!state || !token)
        return;
    for (uint32_t i = 0; i < p->n_kinds; i++) {
        struct pool_kind *k = &p->kinds[i];
        uint64_t need = ck_mul(ck, ck_ceil_div(state, ck_mul(ck, token, align)), align);
        if (is_state(k) || need <= k->block_tokens)
            continue;
        k->block_tokens = need;
        k->page_bytes = row_bytes(&k->row, need, need, ck);
    }
}

/* Smaller pages take more tokens, as often as they fit; the rest of the page is padding. */
static void level_pages(struct pool *p, struct ck *ck)
{
    for (uint32_t i = 0; i < p->n_kinds; i++)
        p->page_bytes = u64_max(p->page_bytes, p->kinds[i].page_bytes);
    for (uint32_t i = 0; i < p->n_kinds; i++) {
        struct pool_kind *k = &p->kinds[i];
        if (!is_state(k) && k->page_bytes)
            k->block_tokens = ck_mul(ck, k->block_tokens, p->page_bytes / k->page_bytes);
    }
}

/* --- groups --------------------------------------------------------------------------------
 */

/* The fewest layers of a kind, or the most when that is less than half as many again. */
static uint32_t group_size(const struct pool *p)
{
    uint32_t least = UINT32_MAX, most = 0;

    for (uint32_t i = 0; i < p->n_kinds; i++) {
        least = p->kinds[i].layers < least ? p->kinds[i].layers : least;
        most = p->kinds[i].layers > most ? p->kinds[i].layers : most;
    }
    return 2 * (uint64_t)most < 3 * (uint64_t)least ? most : least;
}

/* One group of all layers, whatever the sizes of their pages. */
static void group_all(struct pool *p, struct ck *ck)
{
    for (uint32_t i = 0; i < p->n_kinds; i++) {
        struct pool_kind *k = &p->kinds[i];
        p->block_bytes = ck_add(ck, p->block_bytes, ck_mul(ck, k->layers, k->page_bytes));
        p->group_layers += k->layers;
    }
    p->kinds[0].groups = p->groups = 1;
}

static void group_kinds(const struct pool_in *in, struct pool *p, struct ck *ck)
{
    stretch_to_state(p, in->align_tokens, ck);
    level_pages(p, ck);
    p->group_layers = group_size(p);
    for (uint32_t i = 0; i < p->n_kinds; i++) {
        struct pool_kind *k = &p->kinds[i];
        k->groups = (uint32_t)ck_ceil_div(k->layers, p->group_layers);
        p->groups += k->groups;
    }
    p->block_bytes = ck_mul(ck, p->page_bytes, p->group_layers);
}

bool pool_build(const struct pool_in *in, struct pool *out, struct ck *ck)
{
    *out = (struct pool){.step_tokens = in->step_tokens, .cp = in->fold->slice.cp};
    if (!add_kinds(in, out, ck)) {
        *out = (struct pool){0};
        return false;
    }
    if (same_tables(out))
        group_all(out, ck);
    else
        group_kinds(in, out, ck);
    out->min_block_tokens = UINT64_MAX;
    for (uint32_t i = 0; i < out->n_kinds; i++)
        if (!is_state(&out->kinds[i]))
            out->min_block_tokens = u64_min(out->min_block_tokens, out->kinds[i].block_tokens);
    if (out->min_block_tokens == UINT64_MAX)
        out->min_block_tokens = in->block_tokens;
    return true;
}

/* --- blocks of a sequence ------------------------------------------------------------------
 */

/* Blocks over tokens that context parallelism spreads. */
static uint64_t blocks_of(const struct pool *p, const struct pool_kind *k, uint64_t tokens)
{
    return ck_ceil_div(p->cp > 1 ? ck_ceil_div(tokens, p->cp) : tokens, k->block_tokens);
}

/* A window of `span` tokens may begin inside a block, so it touches one more. */
static uint64_t window_blocks(const struct pool *p, const struct pool_kind *k, uint64_t tokens,
                              uint64_t step)
{
    uint64_t window = window_of(k), span;

    if (!window)
        return blocks_of(p, k, tokens);
    if (k->row.mixer == MIXER_CHUNKED)
        return blocks_of(p, k, u64_min(window + step, tokens));
    span = u64_min(window - 1 + step, tokens);
    return blocks_of(p, k, span) + 1;
}

uint64_t pool_request_blocks(const struct pool *p, uint64_t tokens)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < p->n_kinds; i++) {
        const struct pool_kind *k = &p->kinds[i];
        sum += k->groups * (is_state(k) ? 1 : window_blocks(p, k, tokens, p->step_tokens));
    }
    return sum;
}

/* What is really held: never more than the blocks of the whole sequence. */
static uint64_t held_blocks(const struct pool *p, const struct pool_kind *k, uint64_t tokens,
                            uint64_t step)
{
    return u64_min(window_blocks(p, k, tokens, step), blocks_of(p, k, tokens));
}

/* Rows without their window: the retention rule alone decides how many tokens stay. */
static struct cache_row unwindowed(const struct pool_kind *k)
{
    struct cache_row r = k->row;

    r.store_window_tokens = 0;
    return r;
}

uint64_t pool_highest_blocks(const struct pool *p, uint64_t n, uint64_t decoded)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < p->n_kinds; i++) {
        const struct pool_kind *k = &p->kinds[i];
        struct cache_row r = unwindowed(k);
        uint64_t tokens = is_state(k) ? 0 : row_peak_tokens(&r, n, decoded);
        sum += k->groups * (is_state(k) ? 1 : held_blocks(p, k, tokens, 1));
    }
    return sum;
}

uint64_t pool_prefill_blocks(const struct pool *p, uint64_t n)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < p->n_kinds; i++) {
        const struct pool_kind *k = &p->kinds[i];
        struct cache_row r = unwindowed(k);
        uint64_t tokens = r.keep.when == KEEP_IN_LAYER ? row_stored_tokens(&r, n, 0) : n;
        sum += k->groups * (is_state(k) ? 1 : held_blocks(p, k, tokens, p->step_tokens));
    }
    return sum;
}

uint64_t pool_shared_blocks(const struct pool *p, uint64_t prefix)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < p->n_kinds; i++) {
        const struct pool_kind *k = &p->kinds[i];
        uint64_t mine = p->cp > 1 ? prefix / p->cp : prefix;
        if (!is_state(k) && !window_of(k) && !k->row.keep.prompt)
            sum += k->groups * (mine / k->block_tokens);
    }
    return sum;
}
