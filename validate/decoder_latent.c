/* MLA in the decoder. A token's row is one latent and a rope part that all heads share. A
 * prompt attends in the expanded form: latents are read back from the cache and multiplied into
 * keys and values of every head. A step attends in the absorbed form: the key half of that
 * product is applied to the query, the value half to the result, and the kernel reads latents.
 * Both halves together are the up-projection, so that either form multiplies it once a token:
 * as it is stored, or steps the copy in 16 bits that some engines keep. Chunks of a prompt
 * after the first expand the rows of those before them again. source: arXiv:2405.04434
 * section 2.1 and appendix C */
#include "kernels/gemm.h"
#include "kernels/latent.h"
#include "kernels/latent_rows.h"
#include "kernels/layer.h"
#include "validate/decoder_in.h"

bool decoder_is_latent(const struct decoder *x, uint32_t layer)
{
    return x->s.layers[layer].layer.attn.mixer == MIXER_LATENT;
}

static const struct attention *attention_at(const struct decoder *x, uint32_t layer)
{
    return &x->s.layers[layer].layer.attn;
}

/* The rope parts of new rows stand behind their latents. */
static void *positions_of(const struct decoder *x, uint32_t layer, uint32_t rows)
{
    return (uint16_t *)x->k + (uint64_t)rows * attention_at(x, layer)->kv_lora_rank;
}

/* Neighbours turn together. */
static enum device_status rotate(struct decoder *x, void *rows, uint32_t n, uint32_t heads,
                                 uint32_t dim)
{
    uint64_t positions = (uint64_t)x->s.set.prompt + x->s.set.output;
    struct rope_args a = {.x = rows,
                          .position = x->step + x->at.position,
                          .table = x->turns + shape_turns(&x->s, x->s.rope, positions),
                          .rows = n,
                          .heads = heads,
                          .dim = dim,
                          .rotary = x->s.rope,
                          .neighbours = true,
                          .fp16 = x->s.fp16};

    return x->s.rope ? rope_run(x->d, &a) : DEVICE_OK;
}

/* --- projections ----------------------------------------------------------------------------
 */

/* The latent and the rope part, as two products, so that each stands for itself. */
static enum device_status low_rows(struct decoder *x, uint32_t rows, uint32_t layer)
{
    const struct attention *a = attention_at(x, layer);
    struct gemm_args g = {.x = x->x,
                          .w = x->layers[layer].kv_a,
                          .out = x->k,
                          .rows = rows,
                          .outs = a->kv_lora_rank,
                          .in = x->s.hidden};
    enum device_status s = decoder_product_at(x, &g, 0);

    g.out = positions_of(x, layer, rows);
    g.outs = a->rope_dim;
    return s == DEVICE_OK && a->rope_dim ? decoder_product_at(x, &g, a->kv_lora_rank) : s;
}

/* Everything that multiplies the normed stream, then the norms and rotations of it. */
static enum device_status low(struct decoder *x, const struct decoder_pass *w, uint32_t layer,
                              bool stores)
{
    const struct attention *a = attention_at(x, layer);
    const struct decoder_weights *y = &x->layers[layer];
    enum device_status s = DEVICE_OK;

    if (a->q_lora_rank)
        s = decoder_multiply(x, x->x, y->q_a, NULL, x->q_low, w->rows, a->q_lora_rank,
                             x->s.hidden);
    if (s == DEVICE_OK && stores)
        s = low_rows(x, w->rows, layer);
    decoder_tell(x, OP_QKV, layer, w->prefill);
    if (s == DEVICE_OK && a->q_lora_rank)
        s = decoder_norm_heads(x, y->q_a_norm, x->q_low, w->rows, a->q_lora_rank);
    if (s == DEVICE_OK && stores)
        s = decoder_norm_heads(x, y->kv_a_norm, x->k, w->rows, a->kv_lora_rank);
    if (s == DEVICE_OK && stores)
        s = rotate(x, positions_of(x, layer, w->rows), w->rows, 1, a->rope_dim);
    decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    return s;
}

enum device_status decoder_latent_project(struct decoder *x, const struct decoder_pass *w,
                                          uint32_t layer, bool stores)
{
    const struct attention *a = attention_at(x, layer);
    const struct decoder_weights *y = &x->layers[layer];
    uint64_t width = (uint64_t)a->heads * a->k_dim;
    enum device_status s = decoder_norm(x, y->norms, 0, w->rows);

    decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    if (s == DEVICE_OK)
        s = low(x, w, layer, stores);
    if (s == DEVICE_OK && a->q_lora_rank)
        s = decoder_multiply(x, x->q_low, y->q_b, NULL, x->q, w->rows, width, a->q_lora_rank);
    else if (s == DEVICE_OK)
        s = decoder_multiply(x, x->x, y->q, NULL, x->q, w->rows, width, x->s.hidden);
    decoder_tell(x, OP_QKV, layer, w->prefill);
    if (s == DEVICE_OK)
        s = rotate(x, (uint16_t *)x->q + a->nope_dim, w->rows, a->heads, a->k_dim);
    decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    return s;
}

enum device_status decoder_latent_append(struct decoder *x, const struct decoder_pass *w,
                                         uint32_t layer)
{
    uint32_t store = x->s.layers[layer].parts[0].store;
    const struct decoder_store *y = &x->stores[store];
    struct latent_append_args a = {
        .c = decoder_view(x, store, w->sequence, w->sequences, y->lengths),
        .latent = x->k,
        .position = positions_of(x, layer, w->rows),
        .rows = w->rows,
        .sequence = x->step + x->at.sequence,
        .index = x->step + y->index};
    enum device_status s = latent_append_run(x->d, &a);

    decoder_tell(x, OP_OTHER, layer, w->prefill);
    return s;
}

/* --- the up-projection ----------------------------------------------------------------------
 */

struct half { /* of the up-projection, for every head */
    const void *from;
    void *to;
    uint32_t rows, in_row, in_head; /* elements from a row, from a head to the next */
    uint32_t out_row, out_head;
    bool value;  /* that of values, which stands behind that of keys */
    bool step;   /* of a decode step, which reads the engine's copy where there is one */
    bool across; /* from the other side: a query becomes a latent */
};

/* kv_b is [heads][nope + v][rank]. */
static enum device_status multiply_half(struct decoder *x, uint32_t layer, const struct half *h)
{
    const struct attention *a = attention_at(x, layer);
    uint32_t rank = a->kv_lora_rank, width = h->value ? a->v_dim : a->nope_dim;
    const struct decoder_weights *y = &x->layers[layer];
    struct gemm_args g = {.x = h->from,
                          .w = h->step && y->kv_b_wide ? y->kv_b_wide : y->kv_b,
                          .out = h->to,
                          .rows = h->rows,
                          .outs = h->across ? rank : width,
                          .in = h->across ? width : rank,
                          .stride = h->out_row,
                          .x_stride = h->in_row,
                          .across = h->across,
                          .products = a->heads,
                          .x_step = h->in_head,
                          .w_step = (uint64_t)(a->nope_dim + a->v_dim) * rank,
                          .out_step = h->out_head};

    return decoder_product_at(x, &g, h->value ? a->nope_dim : 0);
}

/* Keys and values of the first `rows` latents of the sequence. */
static enum device_status expand(struct decoder *x, const struct decoder_pass *w,
                                 uint32_t layer, uint32_t rows)
{
    const struct attention *a = attention_at(x, layer);
    struct latent_unpack_args u = {
        .c = decoder_view(x, x->s.layers[layer].parts[0].store, w->sequence, 1, 0),
        .rows = rows,
        .latent = x->latents,
        .keys = x->wide_k,
        .heads = a->heads,
        .stride = a->k_dim};
    struct half key = {.from = x->latents,
                       .to = x->wide_k,
                       .rows = rows,
                       .in_row = a->kv_lora_rank,
                       .out_row = a->heads * a->k_dim,
                       .out_head = a->k_dim};
    struct half value = {.from = x->latents,
                         .to = x->wide_v,
                         .rows = rows,
                         .in_row = a->kv_lora_rank,
                         .out_row = a->heads * a->v_dim,
                         .out_head = a->v_dim,
                         .value = true};
    enum device_status s = rows ? latent_unpack_run(x->d, &u) : DEVICE_OK;

    decoder_tell(x, OP_SCORES, layer, true);
    if (s == DEVICE_OK && rows)
        s = multiply_half(x, layer, &key);
    if (s == DEVICE_OK && rows)
        s = multiply_half(x, layer, &value);
    decoder_tell(x, OP_QKV, layer, true);
    return s;
}

/* --- attention ------------------------------------------------------------------------------
 */

/* A layer below its source sees nothing of the chunk in the first run over a slice, and never
 * the last row of it. */
static enum device_status attend_prompt(struct decoder *x, const struct decoder_pass *w,
                                        uint32_t layer)
{
    const struct shape_layer *l = &x->s.layers[layer];
    enum store format = x->s.fp16 ? STORE_FP16 : STORE_BF16;
    bool unknown = w->first && x->s.stores[l->parts[0].store].layer > layer;
    struct prefill_args a = decoder_attention(x, layer, 0);
    uint32_t seen = w->offset + (unknown ? 0 : w->rows - l->masked);
    enum device_status s = expand(x, w, layer, seen);

    if (l->selects && seen > l->selects) {
        a.chosen = x->chosen_bits;
        a.chosen_words = decoder_chosen_width(x) / 32;
        a.chosen_tokens = l->selects;
    }

    a.first = x->step + x->at.chunk_first;
    a.offset = x->step + x->at.chunk_offset;
    a.longest = w->rows;
    a.c = (struct cache_view){.k = {.store = format, .dim = l->k_dim, .codes = x->wide_k},
                              .v = {.store = format, .dim = l->v_dim, .codes = x->wide_v},
                              .sequences = 1,
                              .heads = l->q_heads,
                              .page_tokens = 1,
                              .max_pages = x->s.set.prompt,
                              .table = x->iota,
                              .lengths = x->step +
                                         (unknown ? x->at.chunk_before : x->at.chunk_length)};
    if (s == DEVICE_OK)
        s = prefill_run(x->d, &a);
    decoder_tell(x, OP_SCORES, layer, true);
    return s;
}

static enum device_status read_latents(struct decoder *x, uint32_t layer)
{
    const struct shape_layer *l = &x->s.layers[layer];
    const struct attention *a = attention_at(x, layer);
    const struct decoder_store *y = &x->stores[l->parts[0].store];
    struct latent_args r = {.of = {.q = x->absorbed,
                                   .out = x->mixed,
                                   .work = x->work,
                                   .q_heads = l->q_heads,
                                   .splits = decoder_splits(x, &x->s.stores[l->parts[0].store]),
                                   .scale = decoder_attention(x, layer, 0).scale},
                            .rope = (uint16_t *)x->q + a->nope_dim,
                            .rope_stride = a->k_dim,
                            .chosen = l->selects ? x->chosen_rows : NULL,
                            .chosen_tokens = l->selects,
                            .chosen_stride = decoder_chosen_width(x)};
    enum device_status s;

    r.of.c = decoder_view(x, l->parts[0].store, 0, x->s.set.sequences,
                          l->masked ? y->before : y->lengths);
    r.of.c.v.dim = a->kv_lora_rank;
    s = latent_run(x->d, &r);
    decoder_tell(x, OP_SCORES, layer, false);
    return s;
}

static enum device_status attend_step(struct decoder *x, const struct decoder_pass *w,
                                      uint32_t layer)
{
    const struct attention *a = attention_at(x, layer);
    uint32_t rank = a->kv_lora_rank;
    struct half query = {.from = x->q,
                         .to = x->absorbed,
                         .rows = w->rows,
                         .in_row = a->heads * a->k_dim,
                         .in_head = a->k_dim,
                         .out_row = a->heads * rank,
                         .out_head = rank,
                         .step = true,
                         .across = true};
    struct half result = {.from = x->mixed,
                          .to = x->out,
                          .rows = w->rows,
                          .in_row = a->heads * rank,
                          .in_head = rank,
                          .out_row = a->heads * a->v_dim,
                          .out_head = a->v_dim,
                          .step = true,
                          .value = true};
    enum device_status s = multiply_half(x, layer, &query);

    decoder_tell(x, OP_QKV, layer, false);
    if (s == DEVICE_OK)
        s = read_latents(x, layer);
    if (s == DEVICE_OK)
        s = multiply_half(x, layer, &result);
    decoder_tell(x, OP_QKV, layer, false);
    return s;
}

enum device_status decoder_latent_attend(struct decoder *x, const struct decoder_pass *w,
                                         uint32_t layer)
{
    enum device_status s = decoder_index(x, w, layer);

    if (s != DEVICE_OK)
        return s;
    return w->prefill ? attend_prompt(x, w, layer) : attend_step(x, w, layer);
}
