/* The list of a decoder's device memory: what it allocates, under which of the planner's terms.
 * The same list is summed up before there is a device. */
#include "kernels/decode.h"
#include "kernels/gemm.h"
#include "kernels/pages.h"
#include "kernels/scores.h"
#include "validate/decoder_in.h"

enum { BLOCKS_OF_STORE = 12, BLOCKS_OTHER = 64 };

struct lister {
    struct decoder *x;
    struct decoder_block *list;
    uint32_t n;
    struct ck ck;
};

static void put(struct lister *l, void *at, uint64_t bytes, enum tag tag, uint64_t *term)
{
    if (bytes)
        l->list[l->n++] = (struct decoder_block){at, bytes, tag, term};
}

static void activation(struct lister *l, void *at, uint64_t elements, uint64_t elem_bytes)
{
    put(l, at, ck_mul(&l->ck, elements, elem_bytes), TAG_ACTIVATION,
        &l->x->memory.activation_bytes);
}

static void table(struct lister *l, void *at, uint64_t words)
{
    put(l, at, ck_mul(&l->ck, words, 4), TAG_TABLES, &l->x->memory.tables_bytes);
}

uint32_t decoder_blocks_room(const struct shape *s)
{
    return BLOCKS_OTHER + s->n_stores * BLOCKS_OF_STORE + 2 * s->scratches + s->n_layers;
}

uint32_t decoder_splits(const struct decoder *x, const struct shape_store *t)
{
    bool latent = t->row.stream == STREAM_LATENT; /* whose query heads are cut by 32 */
    uint64_t tiles = latent ? ck_ceil_div(x->s.mla_width, 32 * (uint64_t)x->s.rank) : 1;
    uint64_t heads = tiles * x->s.set.sequences * t->view.heads;
    uint64_t rows = u64_min(t->most_rows, UINT32_MAX);

    return x->info.is_cpu ? 1 : decode_splits(heads, (uint32_t)rows, x->info.multiprocessors);
}

uint32_t decoder_lists(const struct shape_store *t)
{
    return t->view.ragged ? t->view.heads : 1;
}

bool decoder_widens(const struct shape_store *t)
{
    return t->repeat > 1 || t->row.kv_heads < t->layer_heads;
}

/* --- stores ---------------------------------------------------------------------------------
 */

static void pool(struct lister *l, uint32_t k, bool value)
{
    const struct shape_store *t = &l->x->s.stores[k];
    struct cache_side *side = value ? &l->x->stores[k].view.v : &l->x->stores[k].view.k;
    uint64_t pages = (uint64_t)t->view.sequences * t->own_pages + t->spare_pages;
    enum tag tag = value ? TAG_V : TAG_K;
    uint64_t *term = &l->x->memory.cache_bytes;

    side->codes = side->scales = side->full = NULL;
    put(l, &side->codes, cache_code_bytes(&t->view, value, pages), tag, term);
    put(l, &side->scales, cache_scale_bytes(&t->view, value, pages), tag, term);
    put(l, &side->full, cache_full_bytes(&t->view, value), tag, term);
}

static uint64_t scratch_bytes(const struct shape *s, const struct shape_store *t, bool value)
{
    uint32_t dim = value ? t->view.v.dim : t->view.k.dim;

    return 2 * (uint64_t)s->set.prompt * t->view.heads * dim;
}

/* Where a rule cuts a prompt inside its layer the planner counts the whole layer too. What
 * passes into windows and groups of KIVI are activations of the prompt. */
static void add_scratch(struct lister *l, uint32_t slot)
{
    const struct shape *s = &l->x->s;
    uint64_t k_bytes = 0, v_bytes = 0;
    bool planned = false;

    for (uint32_t k = 0; k < s->n_stores; k++) {
        const struct shape_store *t = &s->stores[k];
        if (!t->scratch || t->scratch_slot != slot)
            continue;
        planned |= t->row.keep.when == KEEP_IN_LAYER;
        k_bytes = u64_max(k_bytes, scratch_bytes(s, t, false));
        v_bytes = u64_max(v_bytes, scratch_bytes(s, t, true));
    }
    uint64_t *term = planned ? &l->x->memory.scratch_bytes : &l->x->memory.activation_bytes;
    put(l, &l->x->scratch[2 * slot], k_bytes, TAG_K, term);
    put(l, &l->x->scratch[2 * slot + 1], v_bytes, TAG_V, term);
}

/* Scores that outlive their layer: H2O's and TOVA's, and those of a store that is pruned at the
 * end of the prompt. */
static void add_sums(struct lister *l, uint32_t k)
{
    const struct shape *s = &l->x->s;
    const struct shape_store *t = &s->stores[k];
    bool lasts = (t->rule == RULE_ALL || t->rule == RULE_LAST) && t->drops;
    uint64_t lists = (uint64_t)t->view.heads * (lasts ? t->view.sequences : 1);

    if (shape_scored(t) && (lasts || t->late || t->scratch_last > t->layer))
        put(l, &l->x->stores[k].sums, ck_prod(&l->ck, lists, s->places, 4), TAG_WORK,
            &l->x->memory.scheme_bytes);
}

static void add_store(struct lister *l, uint32_t k)
{
    const struct shape *s = &l->x->s;
    struct decoder_store *x = &l->x->stores[k];
    const struct shape_store *t = &s->stores[k];

    x->view = t->view;
    x->view.max_pages = t->entries;
    pool(l, k, false);
    pool(l, k, true);
    table(l, &x->table, (uint64_t)t->view.sequences * decoder_lists(t) * t->entries);
    table(l, &x->scratch_table, t->view.ragged ? (uint64_t)s->set.prompt * t->view.heads : 0);
    if (decoder_widens(t))
        table(l, &x->widen, (uint64_t)s->rows * t->view.heads);
    add_sums(l, k);
    if (t->states)
        put(l, &x->states, ck_prod(&l->ck, SHAPE_STATES, t->view.sequences, s->hidden, 2),
            TAG_STATE, &l->x->memory.scheme_bytes);
    if (t->rule == RULE_SHIFT)
        put(l, &x->preferences, ck_mul(&l->ck, t->view.sequences, 4), TAG_STATE,
            &l->x->memory.scheme_bytes);
    if (t->bounds)
        put(l, &x->bounds,
            bounds_bytes(&t->view, (uint64_t)t->view.sequences * t->own_pages + t->spare_pages),
            TAG_STATE, &l->x->memory.scheme_bytes);
}

/* CAKE: room for the parts of any store's preference. */
static void add_parts(struct lister *l)
{
    const struct shape *s = &l->x->s;
    struct scores_args a = {.width = s->places};
    bool shifts = false;

    for (uint32_t k = 0; k < s->n_stores; k++)
        shifts |= s->stores[k].rule == RULE_SHIFT;
    put(l, &l->x->parts, shifts ? ck_prod(&l->ck, s->heads_max, scores_parts(&a), 8) : 0,
        TAG_WORK, &l->x->memory.work_bytes);
}

/* Moments of the queries of a layer, and logits of the rows of a store. */
static void add_expected(struct lister *l)
{
    const struct shape *s = &l->x->s;
    uint64_t moments = 0, logits = 0;

    for (uint32_t k = 0; k < s->n_stores; k++) {
        const struct shape_layer *y = &s->layers[s->stores[k].layer];
        if (s->stores[k].rule != RULE_EXPECT)
            continue;
        moments =
            u64_max(moments, ck_prod(&l->ck, y->q_heads, y->k_dim, (uint64_t)y->k_dim + 1, 4));
        logits = u64_max(logits, ck_prod(&l->ck, y->q_heads, (uint64_t)s->places + 2, 4));
    }
    put(l, &l->x->moments, moments, TAG_WORK, &l->x->memory.work_bytes);
    put(l, &l->x->expected, logits, TAG_WORK, &l->x->memory.work_bytes);
}

/* What stores share: scratch, scores, selections. */
static void add_shared(struct lister *l)
{
    struct decoder *x = l->x;
    const struct shape *s = &x->s;
    uint64_t lists = s->heads_max, words, picked = 0;
    uint32_t anchors = 0;

    for (uint32_t k = 0; k < s->n_stores; k++) {
        const struct shape_store *t = &s->stores[k];
        uint64_t all = (uint64_t)t->view.heads * s->set.sequences;
        if (t->drops || t->bounds)
            lists = (uint64_t)s->heads_max * s->set.sequences;
        if (t->rule == RULE_ANGLE && t->view.k.dim > anchors)
            anchors = t->view.k.dim;
        if (t->bounds)
            picked = u64_max(picked, ck_mul(&l->ck, all, (uint64_t)t->entries + 1));
    }
    for (uint32_t slot = 0; slot < s->scratches; slot++)
        add_scratch(l, slot);
    words = ck_prod(&l->ck, lists, s->places, 4);
    put(l, &x->sums, words, TAG_WORK, &x->memory.work_bytes);
    put(l, &x->pooled, words, TAG_WORK, &x->memory.work_bytes);
    put(l, &x->order, words, TAG_WORK, &x->memory.work_bytes);
    add_expected(l);
    add_parts(l);
    put(l, &x->anchors, 4 * (uint64_t)ANCHOR_BLOCKS * s->heads_max * anchors, TAG_WORK,
        &x->memory.work_bytes);
    table(l, &x->picked, picked);
    if (!words)
        return;
    put(l, &x->keep, 8 * lists, TAG_WORK, &x->memory.work_bytes);
    put(l, &x->count, 4 * lists, TAG_WORK, &x->memory.work_bytes);
    activation(l, &x->lse, (uint64_t)s->rows * s->q_heads, 4);
}

/* --- recurrent mixers -----------------------------------------------------------------------
 */

static void add_states(struct lister *l)
{
    struct decoder *x = l->x;
    const struct shape *s = &x->s;
    const struct mixer_width *w = &s->mixer_width;
    uint64_t rows = s->rows;

    for (uint32_t i = 0; i < s->n_layers; i++)
        put(l, &x->slots[i], ck_mul(&l->ck, s->set.sequences, s->layers[i].slot_bytes),
            TAG_STATE, &x->memory.cache_bytes);
    activation(l, &x->mix_in, rows * w->in, 2);
    activation(l, &x->mix_conv, rows * w->conv, 2);
    activation(l, &x->mix_y, rows * w->y, 2);
    activation(l, &x->mix_gate, rows * w->gate, 2);
    activation(l, &x->mix_rate, rows * w->rate, 2);
    activation(l, &x->mix_low, rows * w->low, 2);
    activation(l, &x->mix_side, rows * w->side, 2);
    activation(l, &x->mix_memory, rows * s->memory_width, 2);
    table(l, &x->pair, s->side_by_side ? 2 * rows : 0);
}

/* --- the rest -------------------------------------------------------------------------------
 */

static void add_activations(struct lister *l)
{
    struct decoder *x = l->x;
    const struct shape *s = &x->s;
    uint64_t rows = s->rows, chosen = rows * s->top_k;
    uint64_t wide = u64_max(s->latent_width, s->hidden), halves = s->side_by_side ? 2 : 1;
    bool widens = false;

    for (uint32_t k = 0; k < s->n_stores; k++)
        widens |= decoder_widens(&s->stores[k]);
    activation(l, &x->h, rows * s->hidden, 2);
    activation(l, &x->y, rows * s->hidden * halves, 2);
    activation(l, &x->x, rows * s->hidden, 2);
    activation(l, &x->h_saved, s->upward ? rows * s->hidden : 0, 2);
    activation(l, &x->y_saved, s->upward ? rows * s->hidden : 0, 2);
    activation(l, &x->q, rows * s->q_width, 2);
    activation(l, &x->k, rows * s->k_width, 2);
    activation(l, &x->v, rows * s->v_width, 2);
    activation(l, &x->k_wide, widens ? rows * s->k_width : 0, 2);
    activation(l, &x->v_wide, widens ? rows * s->v_width : 0, 2);
    activation(l, &x->out, rows * s->out_width, 2);
    activation(l, &x->q_low, rows * s->q_rank, 2);
    activation(l, &x->absorbed, s->set.sequences * s->mla_width, 2);
    activation(l, &x->mixed, s->set.sequences * s->mla_width, 2);
    activation(l, &x->index_q, rows * s->index_width, 2);
    activation(l, &x->index_k, rows * s->index_dim, 2);
    activation(l, &x->index_weights, rows * s->index_heads, 2);
    if (s->rank) {
        activation(l, &x->latents, (uint64_t)s->set.prompt * s->rank, 2);
        activation(l, &x->wide_k, ck_mul(&l->ck, s->set.prompt, s->q_width), 2);
        activation(l, &x->wide_v, ck_mul(&l->ck, s->set.prompt, s->out_width), 2);
    }
    activation(l, &x->gate_up, rows * s->mlp_width * 2, 2);
    activation(l, &x->act, rows * s->mlp_width, 2);
    activation(l, &x->gate, rows * s->gate_width, 2);
    activation(l, &x->side, rows * s->side_width * halves, 2); /* which y is in turn */
    activation(l, &x->other_out, rows * s->other_width, 2);
    activation(l, &x->narrow, rows * s->problem->layout.model->embed_width, 2);
    activation(l, &x->latent, rows * s->latent_width, 2);
    activation(l, &x->inputs, rows * s->n_layers * s->input_width, 2);
    activation(l, &x->input_gate, rows * s->input_width, 2);
    activation(l, &x->expert_x, chosen * wide, 2);
    activation(l, &x->expert_gate_up, chosen * s->expert_width * 2, 2);
    activation(l, &x->expert_act, chosen * s->expert_width, 2);
    activation(l, &x->expert_y, s->experts ? (chosen + rows) * wide : 0, 2);
    activation(l, &x->router, rows * s->experts, 4);
    activation(l, &x->logits, (uint64_t)s->set.sequences * s->logits_stride, 4);
}

static uint32_t words(struct decoder_words *w, uint64_t n)
{
    uint32_t at = w->n;

    w->n += (uint32_t)n;
    return at;
}

void decoder_lay_words(struct decoder *x, uint32_t rows)
{
    const struct shape *s = &x->s;
    struct decoder_words *w = &x->at;
    uint32_t n = s->set.sequences;

    *w = (struct decoder_words){.n = 0};
    w->position = words(w, rows);
    w->sequence = words(w, rows);
    w->first = words(w, n + 1);
    w->chunk_first = words(w, 2);
    w->chunk_offset = words(w, 1);
    w->chunk_before = words(w, 1);
    w->chunk_length = words(w, 1);
    w->seen = words(w, s->selects ? rows : 0);
    w->kept = words(w, s->selects ? rows : 0);
    w->expert_in = words(w, (uint64_t)rows * s->top_k);
    w->expert_out = words(w, (uint64_t)rows * (s->top_k + (s->top_k != 0)));
    for (uint32_t k = 0; k < s->n_stores; k++) {
        struct decoder_store *t = &x->stores[k];
        uint32_t lists = decoder_lists(&s->stores[k]);
        t->lengths = words(w, (uint64_t)n * lists);
        t->before = words(w, (uint64_t)n * lists);
        t->slot = words(w, n);
        t->index = words(w, (uint64_t)rows * lists);
        t->scratch_length = words(w, lists);
        t->chosen_from = words(w, s->stores[k].bounds ? 2 * (uint64_t)n : 0);
    }
}

static void add_tables(struct lister *l)
{
    struct decoder *x = l->x;
    const struct shape *s = &x->s;
    uint64_t positions = (uint64_t)s->set.prompt + s->set.output;
    const struct model *m = s->problem->layout.model;
    uint64_t turns = m->position_rows || m->alibi ? 0 : shape_turns(s, 0, positions);

    decoder_lay_words(x, s->rows);
    table(l, &x->step, x->at.n);
    table(l, &x->iota, positions > s->rows ? positions : s->rows);
    table(l, &x->prompts, (uint64_t)s->set.sequences * s->set.prompt);
    table(l, &x->chosen, (uint64_t)s->set.sequences * (s->set.output + 1));
    table(l, &x->turns, turns);
    table(l, &x->future, turns && s->expects ? shape_turns(s, 0, 1) : 0);
    table(l, &x->slopes, m->alibi ? s->q_heads : 0);
    table(l, &x->unit, s->widens ? WEIGHT_UNIT * WEIGHT_UNIT / 2 : 0);
}

static void add_work(struct lister *l)
{
    struct decoder *x = l->x;
    const struct shape *s = &x->s;
    uint64_t most = 0;

    for (uint32_t i = 0; i < s->n_layers; i++)
        for (uint32_t p = 0; p < s->layers[i].n_parts; p++) {
            const struct shape_part *y = &s->layers[i].parts[p];
            const struct shape_store *t = &s->stores[y->store];
            struct decode_args a = {
                .c = t->view, .q_heads = y->q_heads, .splits = decoder_splits(x, t)};
            if (t->row.stream == STREAM_LATENT)
                a.c.v.dim = a.c.k.dim - a.c.k.rope;
            if (a.splits > 1)
                most = u64_max(most, decode_work_bytes(&a));
        }
    if (s->selects) {
        uint64_t places = ck_prod(&l->ck, s->rows, decoder_chosen_width(x), 4);
        put(l, &x->ranks, places, TAG_WORK, &x->memory.work_bytes);
        put(l, &x->chosen_rows, places, TAG_WORK, &x->memory.work_bytes);
        put(l, &x->chosen_bits, places / 32, TAG_WORK, &x->memory.work_bytes);
    }
    put(l, &x->work, most, TAG_WORK, &x->memory.work_bytes);
    put(l, &x->gemm_work, x->gemm_bytes, TAG_WORK, &x->memory.work_bytes);
}

uint32_t decoder_list(struct decoder *x, struct decoder_block *list)
{
    struct lister l = {.x = x, .list = list};

    put(&l, &x->weights, x->s.weights_bytes, TAG_WEIGHTS, &x->memory.weights_bytes);
    for (uint32_t k = 0; k < x->s.n_stores; k++)
        add_store(&l, k);
    add_shared(&l);
    add_states(&l);
    add_activations(&l);
    add_tables(&l);
    add_work(&l);
    return l.ck.over ? 0 : l.n;
}
