/* One layer of the decoder: norms, projections, the new rows into the cache, attention. */
#include <math.h>

#include "kernels/append.h"
#include "kernels/copy.h"
#include "kernels/decode.h"
#include "kernels/layer.h"
#include "kernels/rows.h"
#include "validate/decoder_in.h"

#define EPSILON 1e-5f

struct cache_view decoder_view(const struct decoder *x, uint32_t store, uint32_t sequence,
                               uint32_t sequences, uint32_t lengths_word)
{
    const struct decoder_store *t = &x->stores[store];
    struct cache_view c = t->view;
    uint32_t lists = c.ragged ? c.heads : 1;
    uint64_t full = 2 * (uint64_t)sequence * c.heads * c.residual;

    c.sequences = sequences;
    c.table = t->table + (uint64_t)sequence * lists * c.max_pages;
    c.lengths = x->step + lengths_word + sequence * lists;
    if (c.k.full)
        c.k.full = (char *)c.k.full + full * c.k.dim;
    if (c.v.full)
        c.v.full = (char *)c.v.full + full * c.v.dim;
    return c;
}

struct cache_view decoder_scratch(const struct decoder *x, uint32_t store, uint32_t length_word)
{
    const struct decoder_store *t = &x->stores[store];
    enum store format = x->s.fp16 ? STORE_FP16 : STORE_BF16;

    return (struct cache_view){
        .k = {.store = format, .dim = t->view.k.dim, .codes = t->k_scratch},
        .v = {.store = format, .dim = t->view.v.dim, .codes = t->v_scratch},
        .sequences = 1,
        .heads = t->view.heads,
        .page_tokens = 1,
        .max_pages = x->s.set.prompt,
        .table = x->iota,
        .lengths = x->step + length_word};
}

static uint64_t vector_bytes(const struct decoder *x, uint64_t elements)
{
    return (x->s.wide_vectors ? 4 : 2) * elements;
}

const void *decoder_norm_at(const struct decoder *x, uint32_t layer, int number)
{
    const char *norms = x->layers[layer].norms;

    if (!norms || number == SHAPE_NONE)
        return NULL;
    return norms + vector_bytes(x, (uint64_t)(unsigned)number * x->s.norm_width);
}

/* Norms that stand after a half are those before the next one. */
const void *decoder_norm_before(const struct decoder *x, uint32_t layer, uint32_t half)
{
    const struct shape *s = &x->s;

    if (!s->norms_after)
        return layer < s->n_layers
                   ? decoder_norm_at(x, layer, s->layers[layer].norms.before[half])
                   : x->final_norm;
    if (half)
        return decoder_norm_at(x, layer, 0);
    return layer ? decoder_norm_at(x, layer - 1, 1) : NULL;
}

/* Over the hidden size, as the model has them. */
static struct norm_args norm_of(const struct decoder *x, const void *weight, uint32_t rows)
{
    bool bias = weight && x->s.norm_bias;

    return (struct norm_args){.weight = weight,
                              .bias = bias ? (const char *)weight + vector_bytes(x, x->s.hidden)
                                           : NULL,
                              .out = x->x,
                              .rows = rows,
                              .width = x->s.hidden,
                              .epsilon = EPSILON,
                              .centred = x->s.centred,
                              .fp16 = x->s.fp16,
                              .wide_weight = x->s.wide_vectors};
}

static enum device_status copy_rows(struct decoder *x, const void *from, void *to,
                                    uint32_t rows)
{
    struct copy_args a = {.from = from,
                          .to = to,
                          .from_tag = TAG_ACTIVATION,
                          .to_tag = TAG_ACTIVATION,
                          .bytes = 2 * (uint64_t)rows * x->s.hidden,
                          .blocks = 1};

    return copy_run(x->d, &a);
}

enum device_status decoder_norm(struct decoder *x, const void *weight, uint64_t first_row,
                                uint32_t rows)
{
    uint64_t at = 2 * first_row * x->s.hidden;
    struct norm_args a = norm_of(x, weight, rows);
    enum device_status s;

    if (x->s.norms_after && !weight)
        return copy_rows(x, (char *)x->h + at, x->x, rows);
    a.x = (char *)(x->pending ? x->y : x->h) + at;
    a.residual = x->pending ? (char *)x->h + at : NULL;
    x->pending = false;
    s = norm_run(x->d, &a);
    return s == DEVICE_OK && x->s.norms_after ? copy_rows(x, x->x, (char *)x->h + at, rows) : s;
}

enum device_status decoder_norm_heads(struct decoder *x, const void *weight, void *rows,
                                      uint32_t n, uint32_t width)
{
    struct norm_args a = {.x = rows,
                          .weight = weight,
                          .out = rows,
                          .rows = n,
                          .width = width,
                          .epsilon = EPSILON,
                          .fp16 = x->s.fp16,
                          .wide_weight = x->s.wide_vectors};

    return weight ? norm_run(x->d, &a) : DEVICE_OK;
}

/* Models with learned positions have no table. */
static enum device_status rotate(struct decoder *x, void *rows, uint32_t n,
                                 const struct shape_layer *l, uint32_t heads)
{
    uint64_t positions = (uint64_t)x->s.set.prompt + x->s.set.output;
    struct rope_args a = {.x = rows,
                          .position = x->step + x->at.position,
                          .rows = n,
                          .heads = heads,
                          .dim = l->k_dim,
                          .rotary = l->k_dim / 16 * 16,
                          .fp16 = x->s.fp16};

    if (!x->turns)
        return DEVICE_OK;
    a.table = x->turns + shape_turns(&x->s, l->k_dim, positions);
    return rope_run(x->d, &a);
}

/* --- projections ----------------------------------------------------------------------------
 */

static enum device_status queries(struct decoder *x, uint32_t rows, uint32_t layer)
{
    const struct shape_layer *l = &x->s.layers[layer];
    const struct decoder_weights *w = &x->layers[layer];
    uint64_t width = (uint64_t)l->q_heads * l->k_dim;
    struct gemm_args a = {.x = x->x,
                          .w = w->q,
                          .bias = w->q_bias,
                          .out = x->q,
                          .rows = rows,
                          .outs = (uint32_t)width,
                          .in = x->s.hidden};
    enum device_status s = decoder_product_at(x, &a, 0);

    a.out = x->gate;
    if (w->q_bias)
        a.bias = (const char *)w->q_bias + vector_bytes(x, width);
    return s == DEVICE_OK && l->layer.attn.output_gate ? decoder_product_at(x, &a, a.outs) : s;
}

static enum device_status keys_values(struct decoder *x, uint32_t rows, uint32_t layer)
{
    const struct shape_layer *l = &x->s.layers[layer];
    const struct decoder_weights *w = &x->layers[layer];
    uint64_t heads = l->layer.attn.kv_heads;
    enum device_status s =
        decoder_multiply(x, x->x, w->k, w->k_bias, x->k, rows, heads * l->k_dim, x->s.hidden);

    struct copy_args same = {.from = x->k,
                             .to = x->v,
                             .from_tag = TAG_ACTIVATION,
                             .to_tag = TAG_ACTIVATION,
                             .bytes = 2 * rows * heads * l->k_dim,
                             .blocks = 1};

    if (s != DEVICE_OK)
        return s;
    if (!w->v)
        return copy_run(x->d, &same);
    return decoder_multiply(x, x->x, w->v, w->v_bias, x->v, rows, heads * l->v_dim,
                            x->s.hidden);
}

/* A norm of heads or of whole rows, then the rotation; between them some rule may look at the
 * queries of a prompt. */
static enum device_status turn(struct decoder *x, const struct decoder_pass *p, uint32_t layer,
                               bool key)
{
    const struct shape_layer *l = &x->s.layers[layer];
    const struct decoder_weights *w = &x->layers[layer];
    bool full = l->layer.attn.qk_norm == QK_NORM_FULL;
    uint32_t heads = key ? l->layer.attn.kv_heads : l->q_heads, rows = p->rows;
    void *at = key ? x->k : x->q;
    enum device_status s =
        decoder_norm_heads(x, key ? w->k_norm : w->q_norm, at, full ? rows : rows * heads,
                           full ? heads * l->k_dim : l->k_dim);

    if (s == DEVICE_OK && !key)
        s = decoder_moments(x, p, layer);
    return s == DEVICE_OK ? rotate(x, at, rows, l, heads) : s;
}

struct sides { /* what to project */
    bool queries, keys_values;
};

static enum device_status project(struct decoder *x, const struct decoder_pass *w,
                                  uint32_t layer, struct sides of)
{
    enum device_status s = decoder_norm(x, decoder_norm_before(x, layer, 0), 0, w->rows);

    decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    if (s == DEVICE_OK && of.queries)
        s = queries(x, w->rows, layer);
    if (s == DEVICE_OK && of.keys_values)
        s = keys_values(x, w->rows, layer);
    decoder_tell(x, OP_QKV, layer, w->prefill);
    if (s == DEVICE_OK && of.queries)
        s = turn(x, w, layer, false);
    if (s == DEVICE_OK && of.keys_values)
        s = turn(x, w, layer, true);
    decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    return s;
}

/* --- the cache ------------------------------------------------------------------------------
 */

static enum device_status widen(struct decoder *x, uint32_t store, uint32_t rows)
{
    const struct shape_store *t = &x->s.stores[store];
    struct mix_args a = {.from = x->k,
                         .index = x->stores[store].widen,
                         .out = x->k_wide,
                         .rows = rows * t->view.heads,
                         .width = t->view.k.dim,
                         .terms = 1,
                         .factor = 1,
                         .fp16 = x->s.fp16,
                         .from_tag = TAG_ACTIVATION};
    enum device_status s;

    if (!decoder_widens(t))
        return DEVICE_OK;
    s = mix_run(x->d, &a);
    a.from = x->v;
    a.out = x->v_wide;
    a.width = t->view.v.dim;
    return s == DEVICE_OK ? mix_run(x->d, &a) : s;
}

static enum device_status append(struct decoder *x, const struct decoder_pass *w,
                                 uint32_t store)
{
    const struct shape_store *t = &x->s.stores[store];
    const struct decoder_store *y = &x->stores[store];
    enum device_status s = widen(x, store, w->rows);
    struct append_args a = {.k = decoder_widens(t) ? x->k_wide : x->k,
                            .v = decoder_widens(t) ? x->v_wide : x->v,
                            .rows = w->rows,
                            .sequence = x->step + x->at.sequence,
                            .index = x->step + y->index};

    if (w->prefill && t->scratch)
        a.c = decoder_scratch(x, store, y->scratch_length);
    else
        a.c = decoder_view(x, store, w->sequence, w->sequences, y->lengths);
    if (s == DEVICE_OK && !w->prefill)
        s = decoder_pack(x, store, true);
    if (s == DEVICE_OK)
        s = append_run(x->d, &a);
    if (s == DEVICE_OK && !w->prefill)
        s = decoder_pack(x, store, false);
    decoder_tell(x, OP_OTHER, t->layer, w->prefill);
    return s == DEVICE_OK && t->bounds ? decoder_bound(x, w, store) : s;
}

/* DecodingPress keeps the normed stream of its last steps for the press that ranks. */
static enum device_status keep_state(struct decoder *x, const struct decoder_store *y)
{
    uint64_t bytes = 2 * (uint64_t)x->s.set.sequences * x->s.hidden;
    struct copy_args a = {.from = x->x,
                          .to = (char *)y->states + x->decoded % SHAPE_STATES * bytes,
                          .from_tag = TAG_ACTIVATION,
                          .to_tag = TAG_STATE,
                          .bytes = bytes,
                          .blocks = 1};

    return copy_run(x->d, &a);
}

/* The layer's rows into all its stores. */
static enum device_status append_all(struct decoder *x, const struct decoder_pass *w,
                                     uint32_t layer)
{
    enum device_status s = DEVICE_OK;

    if (decoder_is_latent(x, layer))
        return decoder_latent_append(x, w, layer);
    for (uint32_t k = 0; k < x->s.n_stores && s == DEVICE_OK; k++)
        if (x->s.stores[k].layer == layer) {
            s = append(x, w, k);
            if (s == DEVICE_OK && !w->prefill && x->s.stores[k].states)
                s = keep_state(x, &x->stores[k]);
        }
    if (!w->prefill)
        decoder_tell(x, OP_SCHEME, layer, false);
    return s;
}

/* --- attention ------------------------------------------------------------------------------
 */

static void *part_at(void *rows, uint32_t heads, uint32_t dim)
{
    return (char *)rows + 2 * (uint64_t)heads * dim;
}

/* Of the part's first query head; NULL where the model has none. */
static const void *sinks_at(const struct decoder *x, uint32_t layer, const struct shape_part *g)
{
    const uint16_t *sinks = x->layers[layer].sinks;

    return sinks ? sinks + g->first_q : NULL;
}

struct prefill_args decoder_attention(const struct decoder *x, uint32_t layer, uint32_t part)
{
    const struct shape_layer *l = &x->s.layers[layer];
    const struct shape_part *g = &l->parts[part];

    return (struct prefill_args){.cap = (float)x->s.problem->layout.model->score_cap,
                                 .slopes = x->slopes ? x->slopes + g->first_q : NULL,
                                 .q = part_at(x->q, g->first_q, l->k_dim),
                                 .out = part_at(x->out, g->first_q, l->v_dim),
                                 .lse = x->lse ? x->lse + g->first_q : NULL,
                                 .q_heads = g->q_heads,
                                 .row_heads = l->q_heads,
                                 .hidden_tokens = l->masked,
                                 .window_tokens = l->chunked ? 0 : l->window,
                                 .chunk_tokens = l->chunked ? l->window : 0,
                                 .sinks = sinks_at(x, layer, g),
                                 .scale = 1.0f / sqrtf((float)l->k_dim)};
}

/* A layer below its source sees nothing of the chunk in the first run over a slice. */
static enum device_status attend_prompt(struct decoder *x, const struct decoder_pass *w,
                                        uint32_t layer, uint32_t part)
{
    uint32_t store = x->s.layers[layer].parts[part].store;
    const struct shape_store *t = &x->s.stores[store];
    bool unknown = w->first && t->layer > layer, mine = t->layer == layer;
    struct prefill_args a = decoder_attention(x, layer, part);
    uint32_t length = unknown ? x->at.chunk_before : x->at.chunk_length;
    enum device_status s;

    a.first = x->step + x->at.chunk_first;
    a.offset = x->step + x->at.chunk_offset;
    a.longest = w->rows;
    a.c = t->scratch ? decoder_scratch(x, store, length)
                     : decoder_view(x, store, w->sequence, 1, 0);
    a.c.lengths = x->step + length;
    s = prefill_run(x->d, &a);
    decoder_tell(x, OP_SCORES, layer, true);
    if (s != DEVICE_OK || !mine || !w->last)
        return s;
    s = decoder_rank_prompt(x, &a, store, w->sequence);
    decoder_tell(x, OP_SCHEME, layer, true);
    return s;
}

/* The scores of a step need the sums of its softmax, which prefill_run leaves: a prompt of one
 * token for each sequence. */
static enum device_status attend_ranked(struct decoder *x, uint32_t layer, uint32_t part)
{
    uint32_t store = x->s.layers[layer].parts[part].store;
    const struct decoder_store *y = &x->stores[store];
    struct prefill_args a = decoder_attention(x, layer, part);
    enum device_status s;

    a.c = decoder_view(x, store, 0, x->s.set.sequences, y->lengths);
    a.first = x->step + x->at.first;
    a.offset = x->step + y->before;
    a.longest = 1;
    s = prefill_run(x->d, &a);
    decoder_tell(x, OP_SCORES, layer, false);
    return s == DEVICE_OK ? decoder_rank_step(x, &a, store) : s;
}

static enum device_status attend_step(struct decoder *x, uint32_t layer, uint32_t part)
{
    const struct shape_layer *l = &x->s.layers[layer];
    const struct shape_part *g = &l->parts[part];
    const struct shape_store *t = &x->s.stores[g->store];
    const struct decoder_store *y = &x->stores[g->store];
    bool scored = t->rule == RULE_ALL || t->rule == RULE_LAST;
    uint32_t newest = x->s.set.prompt + x->decoded;
    uint32_t window = l->chunked && l->window ? newest % l->window + 1 : l->window;
    struct decode_args a = {.q = part_at(x->q, g->first_q, l->k_dim),
                            .out = part_at(x->out, g->first_q, l->v_dim),
                            .work = x->work,
                            .q_heads = g->q_heads,
                            .row_heads = l->q_heads,
                            .splits = decoder_splits(x, t),
                            .window_tokens = t->place == PLACE_NEXT ? window : 0,
                            .sinks = sinks_at(x, layer, g),
                            .cap = (float)x->s.problem->layout.model->score_cap,
                            .slopes = x->slopes ? x->slopes + g->first_q : NULL,
                            .scale = 1.0f / sqrtf((float)l->k_dim)};
    enum device_status s = DEVICE_OK;

    if (t->layer == layer && scored && t->drops)
        return attend_ranked(x, layer, part);
    a.c = decoder_view(x, g->store, 0, x->s.set.sequences, l->masked ? y->before : y->lengths);
    if (l->select_pages) {
        s = decoder_pick(x, layer, &a.c);
        decoder_tell(x, OP_SCHEME, layer, false);
    }
    if (s == DEVICE_OK)
        s = decode_run(x->d, &a);
    decoder_tell(x, OP_SCORES, layer, false);
    return s;
}

/* Under a masked diagonal a layer that owns its cache attends before it appends: the row of the
 * step is not there yet, as it is not for the layers below. */
enum device_status decoder_attend(struct decoder *x, const struct decoder_pass *w,
                                  uint32_t layer)
{
    const struct shape_layer *l = &x->s.layers[layer];
    const struct decoder_weights *y = &x->layers[layer];
    bool stores = l->owns && !w->stored, late = !w->prefill && l->masked;
    bool latent = decoder_is_latent(x, layer);
    enum device_status s = latent ? decoder_latent_project(x, w, layer, stores)
                                  : project(x, w, layer, (struct sides){true, stores});

    if (s == DEVICE_OK && stores && !late)
        s = append_all(x, w, layer);
    if (s == DEVICE_OK && latent)
        s = decoder_latent_attend(x, w, layer);
    for (uint32_t p = 0; p < l->n_parts && s == DEVICE_OK && !latent; p++)
        s = w->prefill ? attend_prompt(x, w, layer, p) : attend_step(x, layer, p);
    if (s == DEVICE_OK && stores && late)
        s = append_all(x, w, layer);
    if (s == DEVICE_OK)
        s = decoder_gate(x, w->rows, layer);
    decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    if (s == DEVICE_OK)
        s = decoder_multiply(x, x->out, y->o, y->o_bias, x->y, w->rows, x->s.hidden,
                             (uint64_t)l->q_heads * l->v_dim);
    decoder_tell(x, OP_OUT, layer, w->prefill);
    x->pending = true;
    return s;
}

/* Of these rows the last becomes the first. */
static enum device_status keep_last(struct decoder *x, void *of, uint32_t rows, uint64_t width)
{
    struct copy_args a = {.to = of,
                          .from_tag = TAG_ACTIVATION,
                          .to_tag = TAG_ACTIVATION,
                          .bytes = 2 * width,
                          .blocks = 1};

    if (rows < 2 || !width)
        return DEVICE_OK;
    a.from = (char *)of + (rows - 1) * a.bytes;
    return copy_run(x->d, &a);
}

/* Keys and values of all tokens; then the last one's row is the stream. */
enum device_status decoder_leave(struct decoder *x, struct decoder_pass *w, uint32_t layer)
{
    enum device_status s = project(x, w, layer, (struct sides){false, true});

    if (s == DEVICE_OK)
        s = append_all(x, w, layer);
    if (s == DEVICE_OK)
        s = keep_last(x, x->h, w->rows, x->s.hidden);
    if (s == DEVICE_OK)
        s = keep_last(x, x->inputs, w->rows, (uint64_t)x->s.n_layers * x->s.input_width);
    if (s == DEVICE_OK)
        s = keep_last(x, x->mix_memory, w->rows, x->s.memory_width);
    w->offset += w->rows - 1;
    w->rows = 1;
    w->stored = true;
    return s == DEVICE_OK ? decoder_step_prefill(x, w) : s;
}

/* Some blocks have a norm after each half, on what is added. */
enum device_status decoder_norm_added(struct decoder *x, const struct decoder_pass *w,
                                      uint32_t layer, int number)
{
    struct norm_args a = norm_of(x, decoder_norm_at(x, layer, number), w->rows);
    enum device_status s;

    if (!a.weight)
        return DEVICE_OK;
    a.x = a.out = x->y;
    s = norm_run(x->d, &a);
    decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    return s;
}

/* What attention gave is kept aside while the MLP reads the same norm. */
static enum device_status second_half(struct decoder *x, const struct decoder_pass *w,
                                      uint32_t layer)
{
    const struct shape_layer *l = &x->s.layers[layer];
    enum device_status s = DEVICE_OK;

    if (l->parallel)
        decoder_swap_side(x);
    else
        s = decoder_norm(x, decoder_norm_before(x, layer, 1), 0, w->rows);
    decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    if (s == DEVICE_OK)
        s = decoder_mlp(x, w, layer);
    if (s == DEVICE_OK && l->parallel)
        s = decoder_add_side(x, w->rows);
    x->pending = true;
    return s == DEVICE_OK ? decoder_norm_added(x, w, layer, l->norms.after[1]) : s;
}

enum device_status decoder_layer(struct decoder *x, const struct decoder_pass *w,
                                 uint32_t layer)
{
    const struct decoder_weights *y = &x->layers[layer];
    const struct shape_layer *l = &x->s.layers[layer];
    bool second = y->down || y->router;
    enum device_status s = DEVICE_OK;

    if (l->attends) {
        s = decoder_attend(x, w, layer);
    } else if (l->recurs || (!second && y->norms)) { /* or a block of nothing else */
        s = decoder_norm(x, decoder_norm_before(x, layer, 0), 0, w->rows);
        decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    }
    if (s == DEVICE_OK && l->recurs)
        s = decoder_recur(x, w, layer);
    if (s == DEVICE_OK && (l->attends || l->recurs))
        s = decoder_norm_added(x, w, layer, l->norms.after[0]);
    if (s == DEVICE_OK && second)
        s = second_half(x, w, layer);
    return s == DEVICE_OK ? decoder_end_layer(x, w, layer) : s;
}
