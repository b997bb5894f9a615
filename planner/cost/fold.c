/* Folding rows into classes, and the bytes of one sequence from them. The formulas stand here
 * once, for every scheme: what is resident, what is the peak of a prefill, what a decode step
 * reads and writes. */
#include "planner/cost/fold.h"

#include "planner/cost/shard.h"

/* --- building ------------------------------------------------------------------------------
 */

static struct cache_row row_on_rank(const struct cache_row *r, uint32_t tp)
{
    struct cache_row out = *r;
    bool expanded = r->stored_heads != r->kv_heads;

    out.layer = out.group = 0; /* rows of different layers are alike */
    if (r->stream != STREAM_KV) {
        if (r->stream == STREAM_LATENT)
            out.q_heads = shard_heads(r->q_heads, tp);
        return out;
    }
    out.q_heads = shard_heads(r->q_heads, tp);
    out.kv_heads = shard_kv_heads(r->kv_heads, tp);
    out.stored_heads = expanded ? shard_heads(r->stored_heads, tp) : out.kv_heads;
    return out;
}

static bool keep_equal(const struct keep *a, const struct keep *b)
{
    return a->prompt == b->prompt && a->decode == b->decode && a->peak == b->peak &&
           a->when == b->when && a->params == b->params && a->fixed == b->fixed &&
           a->count == b->count && a->by_index == b->by_index &&
           (!a->by_index || a->index == b->index) &&
           a->copies_in_prefill == b->copies_in_prefill;
}

/* Alike as stores: the same bytes for every length. */
static bool store_equal(const struct cache_row *a, const struct cache_row *b)
{
    return a->stream == b->stream && a->kv_heads == b->kv_heads &&
           a->stored_heads == b->stored_heads && a->k_dim == b->k_dim && a->v_dim == b->v_dim &&
           a->mixer == b->mixer && a->store_window_tokens == b->store_window_tokens &&
           a->k_narrow_dim == b->k_narrow_dim && a->k_wide_tokens == b->k_wide_tokens &&
           keep_equal(&a->keep, &b->keep) && format_equal(&a->k_format, &b->k_format) &&
           format_equal(&a->v_format, &b->v_format);
}

/* Alike as readers: the same keys and the same work for every length. */
static bool reader_equal(const struct cache_row *a, const struct cache_row *b)
{
    return a->stream == b->stream && a->q_heads == b->q_heads &&
           a->window_tokens == b->window_tokens && a->mixer == b->mixer &&
           a->diagonal_masked == b->diagonal_masked && a->select_tokens == b->select_tokens &&
           a->select_page_tokens == b->select_page_tokens && a->score_dim == b->score_dim &&
           a->value_dim == b->value_dim && a->prefill_score_dim == b->prefill_score_dim &&
           a->prefill_value_dim == b->prefill_value_dim;
}

static uint32_t add_store(struct fold *f, const struct cache_row *r)
{
    for (uint32_t i = 0; i < f->n_stores; i++) {
        if (store_equal(&f->stores[i].row, r)) {
            f->stores[i].count++;
            return i;
        }
    }
    f->stores[f->n_stores] = (struct store_class){*r, 1};
    return f->n_stores++;
}

static void add_read(struct fold *f, const struct layout *l, const struct cache_row *reader,
                     const struct cache_row *source)
{
    struct cache_row a = row_on_rank(reader, f->slice.tp), b = row_on_rank(source, f->slice.tp);
    uint64_t passes = l->passes[reader->layer];
    bool early = reader->layer >= l->exit_layer;
    struct read_class *c = NULL;

    for (uint32_t i = 0; i < f->n_reads && !c; i++)
        if (reader_equal(&f->reads[i].reader, &a) && store_equal(&f->reads[i].source, &b))
            c = &f->reads[i];
    if (!c) {
        c = &f->reads[f->n_reads++];
        *c = (struct read_class){.reader = a, .source = b};
    }
    c->count++;
    c->passes += passes;
    c->early += early;
    c->early_passes += early ? passes : 0;
}

/* Alike while they are whole, whatever they keep afterwards. */
static bool whole_equal(const struct cache_row *a, const struct cache_row *b)
{
    return a->stream == b->stream && a->keep.when == b->keep.when &&
           a->kv_heads == b->kv_heads && a->stored_heads == b->stored_heads &&
           a->k_dim == b->k_dim && a->v_dim == b->v_dim &&
           a->store_window_tokens == b->store_window_tokens &&
           a->k_format.full_bytes == b->k_format.full_bytes &&
           a->v_format.full_bytes == b->v_format.full_bytes;
}

/* Rows that are whole at a point and alike those of class k while they are. */
static uint32_t whole_rows(const struct fold *f, const struct peak_point *p, uint32_t k)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < p->n_upto; i++)
        if (whole_equal(&f->stores[i].row, &f->stores[k].row))
            sum += p->whole[i];
    return sum;
}

static bool same_kind(const struct fold *f, const struct peak_point *a,
                      const struct peak_point *b)
{
    bool same = true;

    for (uint32_t k = 0; same && k < b->n_upto; k++)
        same = whole_rows(f, a, k) == whole_rows(f, b, k);
    return same;
}

/* Records that the stores so far end with a layer at which `p.whole` are whole; an earlier
 * layer of the same kind can no longer be the peak, because what is held only grows. */
static void add_peak(struct arena *arena, struct fold *f, struct peak_point p)
{
    uint32_t at = f->n_peaks;

    p.upto = ARENA_NEW(arena, uint32_t, f->n_stores + 1);
    p.n_upto = f->n_stores; /* classes that come later hold nothing yet */
    for (uint32_t i = 0; i < f->n_stores; i++)
        p.upto[i] = f->stores[i].count;
    for (uint32_t i = 0; i < f->n_peaks; i++)
        if (same_kind(f, &f->peaks[i], &p))
            at = i;
    f->peaks[at] = p;
    if (at == f->n_peaks)
        f->n_peaks++;
}

/* Marks the rows whose store this slice must hold: those its layers read, wherever they were
 * computed. */
static bool *held_rows(const struct layout *l, struct slice s)
{
    bool *held = ARENA_NEW(l->arena, bool, l->n_rows ? l->n_rows : 1);

    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct cache_row *r = &l->rows[i];
        if (r->layer >= s.first && r->layer < s.last && r->stream != STREAM_STATE)
            held[r->source] = true;
    }
    return held;
}

struct folding { /* of a layout */
    const struct layout *l;
    struct fold *f;
    const bool *held; /* [rows] */
    uint32_t *class;  /* [rows] that are held: of their store */
    uint32_t
        *last; /* [rows] that are held and cut inside their layer: the last that reads them */
    bool cuts; /* there is such a row so far */
    struct ck *ck;
};

static void fold_row(struct folding *x, uint32_t i)
{
    const struct cache_row *r = &x->l->rows[i];
    struct fold *f = x->f;
    bool mine = r->layer >= f->slice.first && r->layer < f->slice.last;

    if (r->stream == STREAM_STATE) {
        if (mine)
            f->state_bytes =
                ck_add(x->ck, f->state_bytes,
                       shard_state_bytes(r, &x->l->layers[r->layer].state, f->slice.tp, x->ck));
        f->state_layers += mine;
        return;
    }
    if (mine)
        add_read(f, x->l, r, &x->l->rows[r->source]);
    if (!x->held[i])
        return;
    struct cache_row rank = row_on_rank(r, f->slice.tp);
    x->class[i] = add_store(f, &rank);
    if (r->keep.when == KEEP_IN_LAYER) {
        x->last[i] = layout_last_reader(x->l, i);
        x->cuts = true;
    }
    f->ragged |= r->keep.ragged;
}

/* After the rows before `n`, of which those from `first` on are of `layer`. */
static void fold_peak(struct folding *x, uint32_t first, uint32_t n, uint32_t layer)
{
    struct peak_point p = {.whole = ARENA_NEW(x->l->arena, uint32_t, x->f->n_stores + 1)};
    bool any = false;

    for (uint32_t i = first; i < n; i++)
        any |= x->held[i];
    for (uint32_t i = 0; x->cuts && i < n; i++)
        if (x->held[i] && x->l->rows[i].keep.when == KEEP_IN_LAYER && x->last[i] >= layer)
            p.whole[x->class[i]]++;
    if (any)
        add_peak(x->l->arena, x->f, p);
}

void fold_layout(const struct layout *l, struct slice s, struct fold *out, struct ck *ck)
{
    uint32_t room = l->n_rows ? l->n_rows : 1;
    struct folding x = {.l = l, .f = out, .held = held_rows(l, s), .ck = ck};

    *out = (struct fold){.slice = s};
    out->stores = ARENA_NEW(l->arena, struct store_class, room);
    out->reads = ARENA_NEW(l->arena, struct read_class, room);
    out->peaks = ARENA_NEW(l->arena, struct peak_point, room);
    x.class = ARENA_NEW(l->arena, uint32_t, room);
    x.last = ARENA_NEW(l->arena, uint32_t, room);
    for (uint32_t i = 0; i < l->n_rows;) {
        uint32_t layer = l->rows[i].layer, first = i;
        for (; i < l->n_rows && l->rows[i].layer == layer; i++)
            fold_row(&x, i);
        fold_peak(&x, first, i, layer);
    }
}

/* --- bytes ---------------------------------------------------------------------------------
 */

/* Tokens as a rank holds them: cut by context parallelism, rounded up to whole blocks. */
static inline uint64_t placed(const struct fold *f, uint64_t tokens, uint64_t block)
{
    if (f->slice.cp > 1)
        tokens = ck_ceil_div(tokens, f->slice.cp);
    if (block > 1 && tokens)
        tokens = ck_ceil_div(tokens, block) * block;
    return tokens;
}

/* Bytes of a class's tokens in whole blocks. With a residual window fewer tokens can take more
 * bytes, so that rounding up must not lower them. */
static uint64_t block_bytes(const struct fold *f, const struct cache_row *r, uint64_t n,
                            uint64_t tokens, uint64_t block, struct ck *ck)
{
    uint64_t bytes = row_bytes(r, n, placed(f, tokens, block), ck);

    if (block > 1 && r->k_format.residual != RESIDUAL_NONE)
        bytes = u64_max(bytes, row_bytes(r, n, placed(f, tokens, 1), ck));
    return bytes;
}

uint64_t fold_resident_bytes(const struct fold *f, uint64_t n, uint64_t decoded,
                             uint64_t block_tokens, struct ck *ck)
{
    uint64_t sum = f->state_bytes;

    for (uint32_t i = 0; i < f->n_stores; i++) {
        const struct store_class *c = &f->stores[i];
        uint64_t tokens = row_stored_tokens(&c->row, n, decoded);
        sum =
            ck_add(ck, sum,
                   ck_mul(ck, c->count, block_bytes(f, &c->row, n, tokens, block_tokens, ck)));
    }
    return sum;
}

uint64_t fold_running_bytes(const struct fold *f, uint64_t n, uint64_t decoded,
                            uint64_t block_tokens, struct ck *ck)
{
    uint64_t sum = f->state_bytes;

    for (uint32_t i = 0; i < f->n_stores; i++) {
        const struct store_class *c = &f->stores[i];
        uint64_t tokens = row_running_tokens(&c->row, n, decoded);
        sum =
            ck_add(ck, sum,
                   ck_mul(ck, c->count, block_bytes(f, &c->row, n, tokens, block_tokens, ck)));
    }
    return sum;
}

/* A residual window makes bytes a sawtooth in tokens (KIVI keys): the crest before the last
 * fold of it, 0 when the decode has not passed one. */
static uint64_t crest_bytes(const struct fold *f, const struct cache_row *r, uint64_t n,
                            uint64_t tokens, struct ck *ck)
{
    const struct format *k = &r->k_format;
    uint64_t start = k->residual == RESIDUAL_CYCLE ? u64_min(n, tokens) : 0, back;

    if ((k->residual != RESIDUAL_MOD && k->residual != RESIDUAL_CYCLE) || !k->residual_tokens)
        return 0;
    back = (tokens - start) % k->residual_tokens + 1;
    if (back > tokens || tokens - back < placed(f, row_stored_tokens(r, n, 0), 1))
        return 0;
    return row_bytes(r, n, tokens - back, ck);
}

uint64_t fold_highest_bytes(const struct fold *f, uint64_t n, uint64_t decoded,
                            uint64_t block_tokens, struct ck *ck)
{
    uint64_t sum = f->state_bytes;

    for (uint32_t i = 0; i < f->n_stores; i++) {
        const struct store_class *c = &f->stores[i];
        uint64_t most = row_peak_tokens(&c->row, n, decoded);
        uint64_t tokens = placed(f, most, block_tokens);
        uint64_t bytes = block_bytes(f, &c->row, n, most, block_tokens, ck);
        bytes = u64_max(bytes, crest_bytes(f, &c->row, n, tokens, ck));
        sum = ck_add(ck, sum, ck_mul(ck, c->count, bytes));
    }
    return sum;
}

/* A whole layer while it is being compressed: as computed, in full precision; with query heads
 * expanded beside the original K/V heads (facts: eviction 2.4). */
static uint64_t whole_layer_bytes(const struct fold *f, const struct cache_row *r, uint64_t n,
                                  struct ck *ck)
{
    uint64_t heads =
        r->stored_heads == r->kv_heads ? r->kv_heads : (uint64_t)r->stored_heads + r->kv_heads;
    uint64_t width = (uint64_t)r->k_dim * r->k_format.full_bytes +
                     (uint64_t)r->v_dim * r->v_format.full_bytes;

    return ck_prod(ck, placed(f, row_unpruned_tokens(r, n), 1), heads, width);
}

/* What a class holds in prefill once its layer is done. */
static uint64_t held_bytes(const struct fold *f, const struct cache_row *r, uint64_t n,
                           uint64_t block, struct ck *ck)
{
    uint64_t tokens =
        r->keep.when == KEEP_IN_LAYER ? row_stored_tokens(r, n, 0) : row_unpruned_tokens(r, n);
    uint64_t bytes = block_bytes(f, r, n, tokens, block, ck);

    return ck_mul(ck, bytes, 1 + r->keep.copies_in_prefill);
}

uint64_t fold_prefill_peak_bytes(const struct fold *f, uint64_t n, uint64_t block_tokens,
                                 struct ck *ck)
{
    uint64_t most = 0;

    for (uint32_t p = 0; p < f->n_peaks; p++) {
        const struct peak_point *at = &f->peaks[p];
        uint64_t sum = 0;
        for (uint32_t i = 0; i < at->n_upto; i++)
            if (at->upto[i])
                sum = ck_add(ck, sum,
                             ck_mul(ck, at->upto[i],
                                    held_bytes(f, &f->stores[i].row, n, block_tokens, ck)));
        for (uint32_t i = 0; i < at->n_upto; i++)
            if (at->whole[i])
                sum = ck_add(
                    ck, sum,
                    ck_mul(ck, at->whole[i], whole_layer_bytes(f, &f->stores[i].row, n, ck)));
        most = u64_max(most, sum);
    }
    return ck_add(ck, most, f->state_bytes);
}

uint64_t fold_shared_bytes(const struct fold *f, uint64_t prefix, uint64_t block_tokens,
                           struct ck *ck)
{
    uint64_t sum = 0;

    if (block_tokens > 1)
        prefix -= prefix % block_tokens; /* whole blocks only */
    for (uint32_t i = 0; i < f->n_stores; i++) {
        const struct store_class *c = &f->stores[i];
        bool drops = c->row.keep.prompt || c->row.store_window_tokens || c->row.k_narrow_dim ||
                     c->row.k_format.residual != RESIDUAL_NONE;
        if (!drops)
            sum =
                ck_add(ck, sum,
                       ck_mul(ck, c->count,
                              row_bytes(&c->row, prefix, placed(f, prefix, block_tokens), ck)));
    }
    return sum;
}

uint64_t fold_token_bytes(const struct fold *f, bool past_windows, struct ck *ck)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < f->n_stores; i++) {
        const struct cache_row *r = &f->stores[i].row;
        uint64_t one = format_token_bytes(&r->k_format, r->stored_heads, r->k_dim, ck);
        one = ck_add(ck, one, format_token_bytes(&r->v_format, r->stored_heads, r->v_dim, ck));
        if (!past_windows || !r->store_window_tokens)
            sum = ck_add(ck, sum, ck_mul(ck, f->stores[i].count, one));
    }
    return sum;
}

uint64_t fold_decode_read_bytes(const struct fold *f, uint64_t n, uint64_t decoded,
                                struct ck *ck)
{
    uint64_t sum = f->state_bytes;

    for (uint32_t i = 0; i < f->n_reads; i++) {
        const struct read_class *c = &f->reads[i];
        uint64_t keys = placed(f, row_attended_tokens(&c->reader, &c->source, n, decoded), 1);
        sum = ck_add(ck, sum, ck_mul(ck, c->count, row_bytes(&c->source, n, keys, ck)));
    }
    return sum;
}

uint64_t fold_decode_write_bytes(const struct fold *f, struct ck *ck)
{
    uint64_t sum = f->state_bytes;

    for (uint32_t i = 0; i < f->n_stores; i++) {
        const struct cache_row *r = &f->stores[i].row;
        uint64_t one = format_append_bytes(&r->k_format, r->stored_heads, r->k_dim, ck);
        one = ck_add(ck, one, format_append_bytes(&r->v_format, r->stored_heads, r->v_dim, ck));
        sum = ck_add(ck, sum, ck_mul(ck, f->stores[i].count, one));
    }
    return sum;
}

void fold_kv_parts(const struct fold *f, uint64_t n, uint64_t decoded, uint64_t block_tokens,
                   uint64_t *k_bytes, uint64_t *v_bytes, struct ck *ck)
{
    *k_bytes = *v_bytes = 0;
    for (uint32_t i = 0; i < f->n_stores; i++) {
        struct cache_row k = f->stores[i].row, v = k;
        uint64_t tokens = placed(f, row_stored_tokens(&k, n, decoded), block_tokens);
        k.v_dim = 0;
        v.k_dim = 0;
        *k_bytes =
            ck_add(ck, *k_bytes, ck_mul(ck, f->stores[i].count, row_bytes(&k, n, tokens, ck)));
        *v_bytes =
            ck_add(ck, *v_bytes, ck_mul(ck, f->stores[i].count, row_bytes(&v, n, tokens, ck)));
    }
}
