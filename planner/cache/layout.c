/* Builds the cache layout of a model and offers the operations that passes use: sharing a
 * store, splitting heads, and settling what follows from them. What a row holds and costs is
 * row.c's business; which rows a scheme edits is the scheme's. */
#include "planner/cache/layout.h"

#include <string.h>

enum { ROWS_A_LAYER = 3, DEFAULT_FORWARD = 7, DEFAULT_BACKWARD = 2, SCALE_GROUP = 128 };

/* --- rows of a model as shipped ----------------------------------------------------------- */

static struct format default_format(const struct model *m)
{
    bool half = m->dtype && !strcmp(m->dtype, "fp16");
    return format_plain(half ? "fp16" : "bf16", 2);
}

static struct cache_row attention_row(const struct layout *l, uint32_t layer)
{
    const struct attention *a = &l->layers[layer].attn;
    struct cache_row r = {.layer = layer, .stream = STREAM_KV, .mixer = a->mixer};

    r.q_heads = a->heads;
    r.k_format = r.v_format = default_format(l->model);
    if (a->mixer == MIXER_LATENT) {
        r.stream = STREAM_LATENT;
        r.kv_heads = r.stored_heads = 1;
        r.k_dim = a->kv_lora_rank + a->rope_dim;
        r.rope_dim = a->rope_dim;
        r.score_dim = r.k_dim;
        r.value_dim = a->kv_lora_rank;
        r.prefill_score_dim = a->k_dim;
        r.prefill_value_dim = a->v_dim;
        r.select_tokens = a->index_dim || a->index_shared ? a->index_topk : 0;
        return r;
    }
    r.kv_heads = r.stored_heads = a->kv_heads;
    r.k_dim = r.score_dim = r.prefill_score_dim = a->k_dim;
    r.v_dim = r.value_dim = r.prefill_value_dim = a->v_dim;
    if (a->mixer == MIXER_SLIDING || a->mixer == MIXER_CHUNKED)
        r.window_tokens = a->window_tokens;
    return r;
}

/* The indexer's key of DeepSeek V3.2: fp8 codes with one fp32 scale for 128 of them, in the
 * reference code whatever the format of the latents. */
static struct cache_row index_row(const struct layout *l, uint32_t layer)
{
    const struct attention *a = &l->layers[layer].attn;
    struct cache_row r = {.layer = layer, .stream = STREAM_INDEX, .mixer = a->mixer};

    r.q_heads = a->index_heads;
    r.kv_heads = r.stored_heads = 1;
    r.k_dim = r.score_dim = r.prefill_score_dim = a->index_dim;
    r.k_format = r.v_format = (struct format){
        .name = "fp8_index",
        .block_elems = 1,
        .block_bytes = 1,
        .head_bytes = 4 * (a->index_dim / SCALE_GROUP + (a->index_dim % SCALE_GROUP != 0)),
        .full_bytes = 2,
        .dequant_flop = 1,
    };
    return r;
}

/* Elements of a recurrent mixer's state (facts as in vLLM's mamba_utils, one rank). */
static void state_elems(const struct state *s, uint32_t hidden, struct cache_row *r)
{
    uint64_t columns = s->conv_kernel ? s->conv_kernel - 1 : 0;
    uint64_t inner = (uint64_t)s->heads * s->head_dim;

    switch (s->kind) {
    case STATE_NONE:
    case STATE_GMU: break;
    case STATE_MAMBA1:
        r->conv_elems = s->inner * columns;
        r->state_elems = (uint64_t)s->inner * s->state_dim;
        break;
    case STATE_MAMBA2:
        r->conv_elems = (inner + 2 * (uint64_t)s->groups * s->state_dim) * columns;
        r->state_elems = inner * s->state_dim;
        break;
    case STATE_GDN:
        r->conv_elems =
            (2 * (uint64_t)s->k_heads * s->k_dim + (uint64_t)s->v_heads * s->v_dim) * columns;
        r->state_elems = (uint64_t)s->v_heads * s->v_dim * s->k_dim;
        break;
    case STATE_KDA:
        r->conv_elems = 3 * inner * columns;
        r->state_elems = inner * s->head_dim;
        break;
    case STATE_LIGHTNING:
    case STATE_RETENTION: r->state_elems = inner * s->head_dim; break;
    case STATE_SHORTCONV: r->conv_elems = hidden * columns; break;
    }
}

static struct cache_row state_row(const struct layout *l, uint32_t layer)
{
    const struct state *s = &l->layers[layer].state;
    struct cache_row r = {.layer = layer, .stream = STREAM_STATE, .mixer = MIXER_NONE};

    state_elems(s, l->model->hidden, &r);
    r.conv_elem_bytes = 2;
    r.state_elem_bytes = s->fp32_state ? 4 : 2;
    return r;
}

static void add_row(struct layout *l, struct cache_row r)
{
    r.source = l->n_rows;
    l->rows[l->n_rows++] = r;
}

static void add_layer(struct layout *l, uint32_t layer)
{
    const struct layer *m = &l->layers[layer];

    if (m->attn.mixer != MIXER_NONE) {
        add_row(l, attention_row(l, layer));
        if (m->attn.mixer == MIXER_LATENT && m->attn.index_dim && !m->attn.index_shared)
            add_row(l, index_row(l, layer));
    }
    if (m->state.kind != STATE_NONE && m->state.kind != STATE_GMU)
        add_row(l, state_row(l, layer));
}

bool layout_rebuild(struct layout *l, struct diag *d)
{
    bool ok = true;

    l->rows_room = l->n_layers ? l->n_layers * ROWS_A_LAYER : 1;
    l->rows = ARENA_NEW(l->arena, struct cache_row, l->rows_room);
    l->n_rows = 0;
    for (uint32_t i = 0; i < l->n_layers; i++)
        add_layer(l, i);
    for (uint32_t i = 0; i < l->n_layers; i++)
        if (l->layers[i].attn.mixer != MIXER_NONE)
            ok = layout_share(l, i, l->layers[i].attn.kv_source, d) && ok;
    layout_settle(l);
    return ok;
}

bool layout_new(struct arena *a, const struct model *m, struct diag *d, struct layout *out)
{
    uint32_t n = m->n_layers ? m->n_layers : 1;

    *out = (struct layout){.arena = a, .model = m, .n_layers = m->n_layers, .at = m->at};
    out->layers = ARENA_NEW(a, struct layer, n);
    if (m->n_layers)
        memcpy(out->layers, m->layers, m->n_layers * sizeof *m->layers);
    out->passes = ARENA_NEW(a, uint32_t, n);
    out->slice_ends = ARENA_NEW(a, uint32_t, n);
    out->forward_passes = m->forward_passes ? m->forward_passes : DEFAULT_FORWARD;
    out->backward_passes = m->backward_passes ? m->backward_passes : DEFAULT_BACKWARD;
    out->exit_layer = m->n_layers;
    out->sharing = out->retention = "none";
    out->storage = default_format(m).name;
    for (uint32_t i = 0; i < m->n_layers; i++)
        if (m->layers[i].attn.mixer != MIXER_NONE && m->layers[i].attn.kv_source != i)
            out->sharing = "native";
    return layout_rebuild(out, d);
}

/* --- finding ------------------------------------------------------------------------------ */

static bool is_attention(const struct cache_row *r)
{
    return r->stream == STREAM_KV || r->stream == STREAM_LATENT;
}

uint32_t layout_attention_row(const struct layout *l, uint32_t layer)
{
    uint32_t lo = 0, hi = l->n_rows;

    while (lo < hi) { /* rows stand in layer order */
        uint32_t mid = lo + (hi - lo) / 2;
        if (l->rows[mid].layer < layer)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (uint32_t i = lo; i < l->n_rows && l->rows[i].layer == layer; i++)
        if (is_attention(&l->rows[i]))
            return i;
    return UINT32_MAX;
}

bool layout_owns_kv(const struct layout *l, uint32_t layer)
{
    for (uint32_t i = layout_attention_row(l, layer); i < l->n_rows; i++) {
        if (l->rows[i].layer != layer)
            break;
        if (is_attention(&l->rows[i]) && l->rows[i].readers)
            return true;
    }
    return false;
}

uint32_t layout_kv_layers(const struct layout *l)
{
    uint32_t n = 0, last = UINT32_MAX;

    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct cache_row *r = &l->rows[i];
        if (is_attention(r) && r->readers && r->layer != last) {
            n++;
            last = r->layer;
        }
    }
    return n;
}

uint32_t layout_attention_layers(const struct layout *l)
{
    uint32_t n = 0, last = UINT32_MAX;

    for (uint32_t i = 0; i < l->n_rows; i++) {
        if (is_attention(&l->rows[i]) && l->rows[i].layer != last) {
            n++;
            last = l->rows[i].layer;
        }
    }
    return n;
}

/* --- sharing ------------------------------------------------------------------------------ */

static bool can_share(const struct layout *l, uint32_t to, uint32_t from, struct diag *d)
{
    const struct cache_row *a = &l->rows[to], *b = &l->rows[from];
    unsigned i = a->layer + 1, j = b->layer + 1;

    if (a->stream != b->stream)
        return diag_add(d, DIAG_INPUT, l->at,
                        "layer %u cannot read the cache of layer %u: one keeps K/V heads, the "
                        "other a latent",
                        i, j);
    if (a->kv_heads != b->kv_heads || a->k_dim != b->k_dim || a->v_dim != b->v_dim)
        return diag_add(
            d, DIAG_INPUT, l->at,
            "layer %u cannot read the cache of layer %u: it needs %u heads of %u + %u "
            "elements, layer %u keeps %u of %u + %u",
            i, j, a->kv_heads, a->k_dim, a->v_dim, j, b->kv_heads, b->k_dim, b->v_dim);
    if ((a->mixer == MIXER_CHUNKED) != (b->mixer == MIXER_CHUNKED))
        return diag_add(
            d, DIAG_INPUT, l->at,
            "layer %u cannot read the cache of layer %u: only one of them attends in "
            "chunks",
            i, j);
    return true;
}

bool layout_share(struct layout *l, uint32_t layer, uint32_t source, struct diag *d)
{
    uint32_t to = layout_attention_row(l, layer), from;

    if (to == UINT32_MAX)
        return diag_add(d, DIAG_INPUT, l->at,
                        "layer %u has no attention that could read a cache",
                        (unsigned)layer + 1);
    if (source >= l->n_layers)
        return diag_add(d, DIAG_INPUT, l->at,
                        "layer %u reads layer %llu, but there are %u layers",
                        (unsigned)layer + 1, (unsigned long long)source + 1, l->n_layers);
    from = layout_attention_row(l, source);
    if (from == UINT32_MAX)
        return diag_add(d, DIAG_INPUT, l->at,
                        "layer %u cannot read the cache of layer %u: layer %u has no attention",
                        (unsigned)layer + 1, (unsigned)source + 1, (unsigned)source + 1);
    if (!can_share(l, to, from, d))
        return false;
    l->rows[to].source = from;
    l->layers[layer].attn.kv_source = source;
    return true;
}

bool layout_share_map(struct layout *l, const uint32_t *map, struct diag *d)
{
    bool ok = true;

    for (uint32_t i = 0; i < l->n_layers; i++) {
        bool attends = layout_attention_row(l, i) != UINT32_MAX;
        if (map[i] != UINT32_MAX)
            ok = layout_share(l, i, map[i], d) && ok;
        else if (attends)
            ok = diag_add(d, DIAG_INPUT, l->at,
                          "layer %u has attention but no source in the map", (unsigned)i + 1);
    }
    layout_settle(l);
    return ok;
}

/* --- head groups -------------------------------------------------------------------------- */

/* Turns one row into the first or the second part of its heads. */
static void cut_heads(struct cache_row *r, uint32_t first, bool second)
{
    uint32_t all = r->kv_heads, kv = second ? all - first : first;
    uint32_t q_first = (uint32_t)((uint64_t)r->q_heads * first / all);
    uint32_t q = second ? r->q_heads - q_first : q_first;

    r->stored_heads = r->stored_heads == all ? kv : q;
    r->kv_heads = kv;
    r->q_heads = q;
}

static void number_groups(struct layout *l)
{
    for (uint32_t i = 0; i < l->n_rows; i++) {
        struct cache_row *r = &l->rows[i], *before = i ? r - 1 : r;
        bool same = i && before->layer == r->layer && before->stream == r->stream;
        r->group = same ? before->group + 1 : 0;
    }
}

uint32_t layout_split_heads(struct layout *l, uint32_t row, uint32_t first_kv_heads)
{
    uint32_t *moved = ARENA_NEW(l->arena, uint32_t, l->n_rows);
    uint32_t n = 0;

    for (uint32_t i = 0; i < l->n_rows; i++) {
        moved[i] = n;
        n += l->rows[i].source == row || i == row ? 2 : 1;
    }
    if (n > l->rows_room) {
        l->rows_room = 2 * n;
        l->rows = arena_grow(l->arena, l->rows, l->n_rows, l->rows_room, sizeof *l->rows);
    }
    for (uint32_t left = l->n_rows; left > 0; left--) {
        uint32_t i = left - 1; /* from the end: rows only move up */
        struct cache_row r = l->rows[i];
        bool reads = r.source == row, cut = reads || i == row;
        struct cache_row *out = &l->rows[moved[i]];
        r.source = moved[r.source];
        out[0] = r;
        if (!cut)
            continue;
        out[1] = r;
        out[1].source += reads;
        cut_heads(&out[0], first_kv_heads, false);
        cut_heads(&out[1], first_kv_heads, true);
    }
    l->n_rows = n;
    number_groups(l);
    return moved[row];
}

/* --- what follows ------------------------------------------------------------------------- */

static void settle_stores(struct layout *l)
{
    bool *unbounded = ARENA_NEW(l->arena, bool, l->n_rows ? l->n_rows : 1);

    for (uint32_t i = 0; i < l->n_rows; i++) {
        l->rows[i].readers = 0;
        l->rows[i].store_window_tokens = 0;
    }
    for (uint32_t i = 0; i < l->n_rows; i++) {
        struct cache_row *r = &l->rows[i], *s = &l->rows[r->source];
        s->readers++;
        unbounded[r->source] |= r->window_tokens == 0;
        s->store_window_tokens = u64_max(s->store_window_tokens, r->window_tokens);
        r->diagonal_masked =
            r->stream != STREAM_STATE && (s->layer > r->layer || l->model->force_no_diagonal);
    }
    for (uint32_t i = 0; i < l->n_rows; i++)
        if (unbounded[i])
            l->rows[i].store_window_tokens = 0;
}

/* Passes over the prompt: a slice from the first layer that reads upward to the highest
 * layer anything in it reads runs forward + backward times, everything else once. source:
 * LCKV models/utils.py, iteration_plan. */
static void settle_passes(struct layout *l)
{
    uint32_t *reads = ARENA_NEW(l->arena, uint32_t, l->n_layers ? l->n_layers : 1);
    uint32_t often = l->forward_passes + l->backward_passes;

    for (uint32_t i = 0; i < l->n_layers; i++)
        reads[i] = i;
    for (uint32_t i = 0; i < l->n_rows; i++)
        if (is_attention(&l->rows[i]))
            reads[l->rows[i].layer] = l->rows[l->rows[i].source].layer;
    for (uint32_t i = 0; i < l->n_layers;) {
        uint32_t top = reads[i] > i ? reads[i] : i;
        bool upward = top > i;
        for (uint32_t j = i; j <= top; j++) {
            top = reads[j] > top ? reads[j] : top;
            l->passes[j] = upward ? often : 1;
        }
        for (; i <= top; i++)
            l->slice_ends[i] = top + 1;
    }
}

void layout_settle(struct layout *l)
{
    settle_stores(l);
    settle_passes(l);
}

uint32_t layout_last_reader(const struct layout *l, uint32_t row)
{
    uint32_t last = l->slice_ends[l->rows[row].layer] - 1;

    for (uint32_t i = 0; i < l->n_rows; i++)
        if (l->rows[i].source == row && l->rows[i].layer > last)
            last = l->slice_ends[l->rows[i].layer] - 1;
    return last;
}
