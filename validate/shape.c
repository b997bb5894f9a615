/* Shapes of a decoder from a problem: layers of one rank, tensors, what they share. */
#include "validate/shape.h"

#include <string.h>

#include "validate/shape_in.h"

/* --- norms and rotations --------------------------------------------------------------------
 */

/* source: HF transformers, the models named */
bool shape_norms(uint32_t n, struct shape_norms *out)
{
    enum { NO = SHAPE_NONE };
    static const struct {
        uint32_t n;
        struct shape_norms norms;
    } known[] = {
        {0, {{NO, NO}, {NO, NO}, NO, NO, NO, NO, NO, NO}}, /* OLMo 1: without weights */
        {1, {{0, 0}, {NO, NO}, NO, NO, NO, NO, NO, NO}},   /* Cohere, GPT-J: for both halves */
        {2, {{0, 1}, {NO, NO}, NO, NO, NO, NO, NO, NO}},
        {4, {{0, 2}, {1, 3}, NO, NO, NO, NO, NO, NO}}, /* Gemma 2 */
        {5, {{0, 2}, {1, 3}, NO, NO, NO, 4, NO, NO}},  /* Gemma 4 E */
        {7, {{0, 2}, {1, 6}, 3, 4, 5, NO, NO, NO}},    /* Gemma 4 with experts beside MLPs */
        {8, {{0, 2}, {1, 3}, NO, NO, NO, 7, 4, 7}},    /* Gemma 3n */
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].n == n) {
            *out = known[i].norms;
            return true;
        }
    return false;
}

/* Pairs of a cosine and a sine, rotated elements in whole 16s. */
uint64_t shape_turns(const struct shape *s, uint32_t k_dim, uint64_t positions)
{
    uint64_t words = 0;

    for (uint32_t i = 0; i < s->n_dims && s->k_dims[i] != k_dim; i++)
        words += positions * (s->k_dims[i] / 16 * 16);
    return words;
}

/* Tables of embeddings for every layer stand side by side, [rows][layers * width]. source: HF
 * transformers, gemma3n and gemma4 */
uint64_t shape_input_rows(const struct model *m)
{
    uint64_t width = m->n_layers * m->vector_params_extra;

    return width && m->embed_params_extra % width == 0 ? m->embed_params_extra / width : 0;
}

static void take_norms(struct shape *s)
{
    const struct model *m = s->problem->layout.model;

    s->centred = m->norm != NORM_RMS;
    s->norm_bias = m->norm == NORM_LAYER;
    s->norm_width = s->hidden * (s->norm_bias ? 2 : 1);
    s->norms_after = !m->final_norms && s->n_layers && m->layers[0].norms;
}

/* --- layers and tensors ---------------------------------------------------------------------
 */

static uint32_t part_of(uint32_t n, uint32_t tp)
{
    return (uint32_t)ck_ceil_div(n, tp);
}

struct layer shape_rank_layer(const struct layer *l, uint32_t tp)
{
    struct layer r = *l;

    if (r.attn.mixer != MIXER_NONE) {
        r.attn.heads = shard_heads(r.attn.heads, tp);
        r.attn.kv_heads = shard_kv_heads(r.attn.kv_heads, tp);
    }
    (void)mixer_on_rank(&l->state, tp, &r.state);
    r.ffn.intermediate = part_of(r.ffn.intermediate, tp);
    r.ffn.moe_intermediate = part_of(r.ffn.moe_intermediate, tp);
    r.ffn.shared_intermediate = part_of(r.ffn.shared_intermediate, tp);
    return r;
}

/* So many bytes behind what is there. */
static void put(struct shape *s, uint64_t bytes, uint64_t used, struct ck *ck)
{
    uint64_t all = shape_aligned(bytes, ck);

    s->gap_bytes = ck_add(ck, s->gap_bytes, ck_sub(ck, all, used));
    s->weights_bytes = ck_add(ck, s->weights_bytes, all);
}

/* Tensors stand one after the other, so that gate and up in 16 bits are one matrix. */
static void place(struct shape *s, const struct tensor *t, int layer, struct ck *ck)
{
    const struct problem *p = s->problem;
    struct shape_tensor *x = &s->tensors[s->n_tensors++];
    uint64_t copy = ck_prod(ck, 2, t->out, t->in);

    (void)shape_stores(s->arena, t,
                       weights_format_of(p->layout.model, t, layer, p->weight_format),
                       x); /* what is not stored was refused */
    x->at = s->weights_bytes;
    x->stride = x->stored ? shape_aligned(x->bytes, ck) : x->bytes;
    s->wide_vectors |= t->vector && x->wide;
    if (t->tied) {
        x->at = s->tensors[s->first_outside].at; /* the embedding is the first of them */
        return;
    }
    s->placed[s->n_placed++] = x;
    put(s, ck_mul(ck, x->stride, t->copies), ck_mul(ck, x->bytes, t->copies), ck);
    if (!t->absorbed || !p->engine->widens || !p->engine->widens(x->format))
        return;
    x->copy_at = s->weights_bytes;
    s->widens = true;
    put(s, copy, copy, ck);
}

static void list_tensors(struct shape *s, struct ck *ck)
{
    const struct layout *l = &s->problem->layout;
    struct tensor t[LAYER_TENSORS_MAX];
    struct model outside = *l->model;
    size_t n;

    n = (size_t)s->n_layers * LAYER_TENSORS_MAX + MODEL_TENSORS_MAX;
    s->tensors = ARENA_NEW(s->arena, struct shape_tensor, n);
    s->placed = ARENA_NEW(s->arena, const struct shape_tensor *, n);
    for (uint32_t i = 0; i < s->n_layers; i++) {
        struct shape_layer *x = &s->layers[i];
        x->first_tensor = s->n_tensors;
        x->n_tensors = weights_layer(l->model, &x->layer, x->owns, t);
        for (size_t k = 0; k < x->n_tensors; k++)
            place(s, &t[k], (int)i, ck);
    }
    outside.vocab = s->vocab;
    s->first_outside = s->n_tensors;
    n = weights_outside(&outside, t);
    for (size_t k = 0; k < n; k++)
        place(s, &t[k], -1, ck);
    s->embed = &s->tensors[s->first_outside];
}

const struct shape_tensor *shape_tensor(const struct shape *s, int layer, const char *name)
{
    size_t first = layer < 0 ? s->first_outside : s->layers[layer].first_tensor;
    size_t n = layer < 0 ? s->n_tensors - first : s->layers[layer].n_tensors;

    for (size_t i = first; i < first + n; i++)
        if (!strcmp(s->tensors[i].t.name, name))
            return &s->tensors[i];
    return NULL;
}

/* --- all of it ------------------------------------------------------------------------------
 */

static void widen(uint64_t *most, uint64_t width)
{
    *most = u64_max(*most, width);
}

static void add_indexer(struct shape *s, struct shape_layer *x, uint32_t row)
{
    const struct attention *a = &x->layer.attn;

    x->index_store = s->n_stores;
    shape_add_store(s, row);
    s->index_dim = u64_max(s->index_dim, a->index_dim);
    s->index_heads = u64_max(s->index_heads, a->index_heads);
    s->index_width = u64_max(s->index_width, (uint64_t)a->index_heads * a->index_dim);
}

/* Of what few layers have. */
static void widths(struct shape *s, const struct shape_layer *x)
{
    const struct layer *l = &x->layer;
    const struct ffn *f = &l->ffn;
    uint64_t heads = x->attends ? l->attn.heads : 0;

    if (l->attn.output_gate)
        s->gate_width = u64_max(s->gate_width, heads * l->attn.k_dim);
    else if (l->attn.head_gate)
        s->gate_width = u64_max(s->gate_width, heads);
    if (x->parallel || (f->experts && (f->intermediate || f->moe_latent)))
        s->side_width = s->hidden;
    s->other_width = u64_max(s->other_width, l->matrix_params / s->hidden);
    s->latent_width = u64_max(s->latent_width, f->moe_latent);
}

static void add_dim(struct shape *s, uint32_t dim)
{
    uint32_t i = 0;

    while (i < s->n_dims && s->k_dims[i] != dim)
        i++;
    if (i == s->n_dims && i < SHAPE_DIMS_MAX)
        s->k_dims[s->n_dims++] = dim;
}

/* Rows of the layout that the queries of layer `i` read through, from *first on. */
static uint32_t rows_of_layer(const struct layout *l, uint32_t i, uint32_t *first)
{
    uint32_t n = 0;

    *first = layout_attention_row(l, i);
    while (*first != UINT32_MAX && *first + n < l->n_rows && l->rows[*first + n].layer == i &&
           l->rows[*first + n].stream == l->rows[*first].stream)
        n++;
    return n;
}

static void add_parts(struct shape *s, struct shape_layer *x, uint32_t first)
{
    uint32_t heads = 0;

    x->parts = ARENA_NEW(s->arena, struct shape_part, x->n_parts + 1);
    for (uint32_t p = 0; p < x->n_parts; p++) {
        struct cache_row r = shape_row(s->problem, first + p);
        x->parts[p] =
            (struct shape_part){.row = first + p, .first_q = heads, .q_heads = r.q_heads};
        heads += r.q_heads;
        if (r.readers)
            shape_add_store(s, first + p);
    }
}

/* The last Mamba layer below a unit of gated memory is its memory. */
static void add_memory(struct shape *s, uint32_t i)
{
    for (uint32_t k = i; k-- > 0;) {
        enum state_kind kind = s->layers[k].layer.state.kind;
        if (kind != STATE_MAMBA1 && kind != STATE_MAMBA2)
            continue;
        s->layers[k].memorizes = true;
        break;
    }
    widen(&s->memory_width, s->layers[i].layer.state.inner);
}

static void add_mixer(struct shape *s, uint32_t i)
{
    const struct layout *l = &s->problem->layout;
    struct shape_layer *x = &s->layers[i];
    const struct state *state = &x->layer.state;
    struct mixer_width w, *most = &s->mixer_width;

    x->recurs = state->kind != STATE_NONE;
    if (!x->recurs)
        return;
    if (state->kind == STATE_GMU)
        add_memory(s, i);
    mixer_widths(state, s->hidden, &w);
    for (uint32_t k = 0; k < l->n_rows; k++) {
        const struct cache_row *r = &l->rows[k];
        if (r->layer != i || r->stream != STREAM_STATE)
            continue;
        x->conv_elem_bytes = r->conv_elem_bytes;
        x->state_elem_bytes = r->state_elem_bytes;
    }
    x->slot_bytes = w.conv_elems * x->conv_elem_bytes + w.state_elems * x->state_elem_bytes;
    s->side_by_side |= x->attends;
    widen(&most->in, w.in);
    widen(&most->conv, w.conv);
    widen(&most->y, w.y);
    widen(&most->gate, w.gate);
    widen(&most->rate, w.rate);
    widen(&most->low, w.low);
    widen(&most->side, w.side);
}

static void add_layer(struct shape *s, uint32_t i)
{
    const struct layout *l = &s->problem->layout;
    struct shape_layer *x = &s->layers[i];
    uint32_t row, n = rows_of_layer(l, i, &row);
    const struct ffn *f;

    *x = (struct shape_layer){.layer = shape_rank_layer(&l->layers[i], s->problem->parallel.tp),
                              .owns = layout_owns_kv(l, i),
                              .attends = n != 0,
                              .n_parts = n,
                              .index_store = UINT32_MAX,
                              .passes = l->passes[i]};
    add_mixer(s, i);
    f = &x->layer.ffn;
    (void)shape_norms(x->layer.norms, &x->norms);
    x->parallel =
        x->layer.norms == 1 && (x->attends || x->recurs) && (f->intermediate || f->experts);
    widths(s, x);
    s->experts = f->experts ? f->experts : s->experts;
    s->top_k = f->experts ? f->top_k : s->top_k;
    s->mlp_width = u64_max(s->mlp_width, u64_max(f->intermediate, f->shared_intermediate));
    s->expert_width = u64_max(s->expert_width, f->moe_intermediate);
    if (!x->attends)
        return;
    const struct cache_row *r = &l->rows[row];
    x->q_heads = x->layer.attn.heads;
    x->k_dim = r->prefill_score_dim;
    x->v_dim = r->prefill_value_dim;
    if (r->stream != STREAM_LATENT || r->rope_dim)
        add_dim(s, r->stream == STREAM_LATENT ? r->rope_dim : x->k_dim);
    if (r->stream == STREAM_LATENT) {
        s->rank = r->value_dim > s->rank ? r->value_dim : s->rank;
        s->rope = r->rope_dim;
        s->q_rank = u64_max(s->q_rank, x->layer.attn.q_lora_rank);
        s->mla_width = u64_max(s->mla_width, (uint64_t)x->q_heads * r->value_dim);
    }
    s->q_heads = s->q_heads > x->q_heads ? s->q_heads : x->q_heads;
    x->chunked = r->mixer == MIXER_CHUNKED;
    x->window = shape_rows(r->window_tokens);
    x->select_pages =
        r->select_page_tokens ? shape_rows(r->select_tokens / r->select_page_tokens) : 0;
    x->selects = r->stream == STREAM_LATENT ? shape_rows(r->select_tokens) : 0;
    s->selects = x->selects > s->selects ? x->selects : s->selects;
    x->masked = r->diagonal_masked;
    s->upward |= l->rows[r->source].layer > i;
    s->q_width = u64_max(s->q_width, (uint64_t)x->q_heads * x->k_dim);
    s->out_width = u64_max(s->out_width, (uint64_t)x->q_heads * x->v_dim);
    add_parts(s, x, row);
    if (row + 1 < l->n_rows && r[1].layer == i && r[1].stream == STREAM_INDEX)
        add_indexer(s, x, row + 1);
}

static void connect(struct shape *s)
{
    const struct layout *l = &s->problem->layout;

    for (uint32_t i = 0; i < s->n_layers; i++)
        for (uint32_t p = 0; p < s->layers[i].n_parts; p++)
            for (uint32_t k = 0; k < s->n_stores; k++)
                if (s->stores[k].number == l->rows[s->layers[i].parts[p].row].source)
                    s->layers[i].parts[p].store = k;
    for (uint32_t k = 0; k < s->n_stores; k++) {
        const struct shape_store *t = &s->stores[k];
        s->k_width = u64_max(s->k_width, (uint64_t)t->repeat * t->layer_heads * t->view.k.dim);
        s->v_width = u64_max(s->v_width, (uint64_t)t->repeat * t->layer_heads * t->view.v.dim);
    }
}

/* From when on a store's rows are in scratch: where the layers that run together begin. */
static uint32_t scratch_first(const struct shape *s, const struct shape_store *t)
{
    uint32_t first = t->layer;

    while (first &&
           s->problem->layout.slice_ends[first - 1] == s->problem->layout.slice_ends[t->layer])
        first--;
    return first;
}

/* Stores take the same scratch one after the other. */
static void share_scratch(struct shape *s)
{
    for (uint32_t k = 0; k < s->n_stores; k++) {
        struct shape_store *t = &s->stores[k];
        bool taken = t->scratch;
        while (taken) {
            taken = false;
            for (uint32_t i = 0; i < k && !taken; i++)
                taken = s->stores[i].scratch && s->stores[i].scratch_slot == t->scratch_slot &&
                        s->stores[i].scratch_last >= scratch_first(s, t);
            t->scratch_slot += taken;
        }
        if (t->scratch && t->scratch_slot >= s->scratches)
            s->scratches = t->scratch_slot + 1;
    }
}

/* The layer has to own what those above it read, and to run once. */
static uint32_t exit_of(const struct shape *s)
{
    uint32_t at = s->problem->layout.exit_layer;
    bool good = at < s->n_layers && s->layers[at].owns && s->layers[at].attends;

    for (uint32_t i = at; good && i < s->n_layers; i++)
        good = s->layers[i].passes == 1 && (i == at || !s->layers[i].owns) &&
               !s->layers[i].slot_bytes;
    return good ? at : s->n_layers;
}

/* A layer that drops rows inside its prefill needs the prompt as a whole, and one above which
 * only the last token goes. */
static uint32_t chunk_of(const struct shape *s)
{
    uint32_t chunk = s->set.chunk ? s->set.chunk : s->set.prompt;

    for (uint32_t k = 0; k < s->n_stores; k++) {
        const struct shape_store *t = &s->stores[k];
        if (t->scratch || t->rule != RULE_NONE || t->place == PLACE_SINKS)
            return s->set.prompt;
    }
    if (s->exit_layer < s->n_layers)
        return s->set.prompt;
    return chunk < s->set.prompt ? chunk : s->set.prompt;
}

static const char *refuse_prompt(const struct shape *s)
{
    for (uint32_t k = 0; k < s->n_stores; k++)
        if (s->stores[k].rule == RULE_CHUNKS && s->set.prompt % s->stores[k].span)
            return "the last chunk of this prompt is cut short; the planner takes a whole one";
    return NULL;
}

bool shape_build(struct arena *a, const struct problem *p, const struct decoder_setting *set,
                 struct shape *out, const char **why)
{
    struct shape *s = out;
    struct ck ck = {0};

    *why = shape_refuses(a, p);
    if (!*why && (!set->sequences || set->sequences > 65535 || !set->prompt ||
                  set->prompt > INT32_MAX || set->output > INT32_MAX))
        *why = "1 to 65535 sequences of at least one token and less than 2^31";
    if (!*why && p->layout.model->position_rows &&
        (uint64_t)set->prompt + set->output > p->layout.model->position_rows)
        *why = "more tokens than the model has learned positions for";
    if (*why)
        return false;
    *s = (struct shape){
        .arena = a, .problem = p, .set = *set, .hidden = p->layout.model->hidden};
    s->n_layers = p->layout.n_layers;
    s->vocab = (uint32_t)ck_ceil_div(p->layout.model->vocab, p->parallel.tp);
    s->logits_stride = (s->vocab + 3) / 4 * 4;
    s->tokens = s->vocab;
    if (p->layout.model->embed_params_extra) {
        s->input_width = (uint32_t)p->layout.model->vector_params_extra;
        s->tokens = (uint32_t)u64_min(s->tokens, shape_input_rows(p->layout.model));
    }
    take_norms(s);
    s->layers = ARENA_NEW(a, struct shape_layer, s->n_layers ? s->n_layers : 1);
    s->stores = ARENA_NEW(a, struct shape_store, p->layout.n_rows ? p->layout.n_rows : 1);
    for (uint32_t i = 0; i < s->n_layers; i++)
        add_layer(s, i);
    connect(s);
    share_scratch(s);
    *why = refuse_prompt(s);
    list_tensors(s, &ck);
    s->other_width = u64_max(s->other_width, p->layout.model->matrix_params_extra / s->hidden);
    s->exit_layer = exit_of(s);
    s->chunk = chunk_of(s);
    s->rows = s->chunk > set->sequences ? s->chunk : set->sequences;
    if (!*why && ck.over)
        *why = "the weights are larger than 64 bits can say";
    return !*why;
}
