/* Cells, lanes and runs of a layout. */
#include "tui/layer_map.h"

#include <string.h>

/* --- cells ------------------------------------------------------------------------------ */

static const char *mixer_text(struct arena *a, const struct layout *l,
                              const struct cache_row *r)
{
    const char *name;

    if (r->stream == STREAM_STATE)
        return state_kind_name(l->layers[r->layer].state.kind);
    name = r->stream == STREAM_INDEX ? "index" : mixer_name(r->mixer);
    return r->group || (r + 1 < l->rows + l->n_rows && r[1].group)
               ? arena_printf(a, "%s %u", name, r->group + 1)
               : name;
}

static char letter_of(const struct layer_stream *s)
{
    const struct cache_row *r = s->row;

    if (r->stream == STREAM_STATE)
        return 's';
    if (s->reads != r->layer + 1)
        return s->reads > r->layer + 1 ? '>' : '<';
    return r->store_window_tokens ? 'w' : '#';
}

static void fill(struct arena *a, const struct problem *p, uint32_t row, struct layer_cell *out)
{
    const struct layout *l = &p->layout;
    struct ck ck = {0};
    struct layer_stream s = layer_stream_of(p, row, &ck);
    const struct cache_row *r = s.row;

    *out = (struct layer_cell){.layer = r->layer,
                               .letter = letter_of(&s),
                               .reads = s.reads ? s.reads - 1 : r->layer,
                               .mixer = mixer_text(a, l, r),
                               .heads = "",
                               .dims = "",
                               .format = "",
                               .bytes = s.after_prefill_bytes + s.state_bytes,
                               .passes = l->passes[r->layer],
                               .skipped = r->layer >= l->exit_layer};
    if (r->stream == STREAM_STATE)
        return;
    out->heads = arena_printf(a, "%u/%u", r->q_heads, s.owns ? r->stored_heads : r->kv_heads);
    out->dims = r->v_dim ? arena_printf(a, "%u+%u", r->k_dim, r->v_dim)
                         : arena_printf(a, "%u", r->k_dim);
    if (s.owns)
        out->format = !r->v_dim || !strcmp(r->k_format.name, r->v_format.name)
                          ? r->k_format.name
                          : arena_printf(a, "%s/%s", r->k_format.name, r->v_format.name);
    out->kept_tokens = s.retained_tokens;
    out->window_tokens = r->window_tokens;
    out->token_bytes = s.token_bytes;
}

/* A cell for each row, and one for each layer that has none. */
static void fill_cells(struct arena *a, const struct problem *p, struct layer_map *m)
{
    const struct layout *l = &p->layout;
    struct layer_cell *cells = ARENA_NEW(a, struct layer_cell, l->n_rows + l->n_layers + 1);
    int *start = ARENA_NEW(a, int, l->n_layers + 1);
    uint32_t row = 0;
    int n = 0;

    for (uint32_t i = 0; i < l->n_layers; i++) {
        start[i] = n;
        for (; row < l->n_rows && l->rows[row].layer == i; row++)
            fill(a, p, row, &cells[n++]);
        if (n == start[i])
            cells[n++] = (struct layer_cell){.layer = i,
                                             .letter = '.',
                                             .reads = i,
                                             .mixer = "none",
                                             .heads = "",
                                             .dims = "",
                                             .format = "",
                                             .passes = l->passes[i]};
        cells[start[i]].first = true;
    }
    start[l->n_layers] = n;
    for (int i = 0; i < n; i++) {
        m->most_tokens = u64_max(m->most_tokens, cells[i].kept_tokens);
        m->most_bytes = u64_max(m->most_bytes, cells[i].bytes);
    }
    m->cells = cells;
    m->n_cells = n;
    m->n_layers = l->n_layers;
    m->start = start;
}

/* --- lanes ------------------------------------------------------------------------------ */

/* Spans of the owners that other layers read, by their first layer. */
static struct layer_span *find_spans(struct arena *a, const struct layer_map *m, int *n_spans)
{
    struct layer_span *spans = ARENA_NEW(a, struct layer_span, m->n_layers + 1);
    struct layer_span *of = ARENA_NEW(a, struct layer_span, m->n_layers + 1);
    int n = 0;

    for (uint32_t i = 0; i < m->n_layers; i++)
        of[i] = (struct layer_span){.owner = i, .lo = i, .hi = i};
    for (int i = 0; i < m->n_cells; i++) {
        const struct layer_cell *c = &m->cells[i];
        struct layer_span *s = &of[c->reads];
        s->lo = c->layer < s->lo ? c->layer : s->lo;
        s->hi = c->layer > s->hi ? c->layer : s->hi;
    }
    for (uint32_t i = 0; i < m->n_layers; i++) {
        int at = n;
        if (of[i].lo == of[i].hi)
            continue;
        for (; at > 0 && spans[at - 1].lo > of[i].lo; at--)
            spans[at] = spans[at - 1];
        spans[at] = of[i];
        n++;
    }
    *n_spans = n;
    return spans;
}

/* Each span gets the first lane that is free along it; those that find none are not drawn. */
static void assign_lanes(struct layer_map *m, struct layer_span *spans)
{
    int64_t taken_to[LAYER_LANES];

    for (int k = 0; k < LAYER_LANES; k++)
        taken_to[k] = -1;
    for (int i = 0; i < m->n_spans; i++) {
        int lane = 0;
        while (lane < LAYER_LANES && taken_to[lane] >= (int64_t)spans[i].lo)
            lane++;
        spans[i].lane = lane < LAYER_LANES ? lane : -1;
        if (lane == LAYER_LANES)
            continue;
        taken_to[lane] = spans[i].hi;
        m->n_lanes = lane + 1 > m->n_lanes ? lane + 1 : m->n_lanes;
    }
}

void layer_map_build(struct arena *a, const struct problem *p, struct layer_map *out)
{
    struct layer_span *spans;

    *out = (struct layer_map){0};
    fill_cells(a, p, out);
    spans = find_spans(a, out, &out->n_spans);
    assign_lanes(out, spans);
    out->spans = spans;
}

/* The span of a lane that touches these layers. */
static const struct layer_span *span_at(const struct layer_map *m, int lane, uint32_t first,
                                        uint32_t last)
{
    for (int i = 0; i < m->n_spans; i++) {
        const struct layer_span *s = &m->spans[i];
        if (s->lane == lane && s->lo <= last && s->hi >= first)
            return s;
    }
    return NULL;
}

enum layer_mark layer_map_mark(const struct layer_map *m, int lane, uint32_t first,
                               uint32_t last)
{
    const struct layer_span *s = span_at(m, lane, first, last);

    if (!s)
        return MARK_NONE;
    if (s->owner >= first && s->owner <= last)
        return MARK_OWNS;
    for (int i = m->start[first]; i < m->start[last + 1]; i++)
        if (m->cells[i].reads == s->owner)
            return s->owner > m->cells[i].layer ? MARK_READS_ABOVE : MARK_READS_BELOW;
    return MARK_PASSES;
}

/* --- runs ------------------------------------------------------------------------------- */

static bool same(const struct layer_cell *a, const struct layer_cell *b)
{
    return a->letter == b->letter && a->kept_tokens == b->kept_tokens &&
           a->window_tokens == b->window_tokens && a->bytes == b->bytes &&
           a->token_bytes == b->token_bytes && a->passes == b->passes &&
           a->skipped == b->skipped && !strcmp(a->mixer, b->mixer) &&
           !strcmp(a->heads, b->heads) && !strcmp(a->dims, b->dims) &&
           !strcmp(a->format, b->format);
}

/* Whether others read this layer: it stands alone then. */
static bool shared(const struct layer_map *m, uint32_t layer)
{
    for (int i = 0; i < m->n_spans; i++)
        if (m->spans[i].owner == layer)
            return true;
    return false;
}

uint32_t layer_map_run(const struct layer_map *m, uint32_t first)
{
    const struct layer_cell *f = &m->cells[m->start[first]];
    int n = m->start[first + 1] - m->start[first];
    bool source = true, distance = true;
    uint32_t i;

    if (shared(m, first))
        return first;
    for (i = first + 1; i < m->n_layers && !shared(m, i); i++) {
        const struct layer_cell *c = &m->cells[m->start[i]];
        if (m->start[i + 1] - m->start[i] != n)
            break;
        for (int k = 0; k < n && (source || distance); k++) {
            bool alike = same(&f[k], &c[k]);
            source &= alike && f[k].reads == c[k].reads;
            distance &= alike && c[k].layer + f[k].reads == f[k].layer + c[k].reads;
        }
        if (!source && !distance)
            break;
    }
    return i - 1;
}
