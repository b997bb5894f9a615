/* The indexer of sparse attention in the decoder: a query of some heads, one key a token that
 * is stored beside the latent, scores of all rows, and the best of them, which the layer's
 * attention reads, and that of layers above that share the choice. A step gets a list of rows,
 * a prompt bits. The rotation of queries and keys by a Hadamard matrix, which makes fp8 finer
 * and no product other, is left out.
 * source: deepseek-ai/DeepSeek-V3.2-Exp, inference/model.py */
#include <math.h>

#include "kernels/evict.h"
#include "kernels/gemm.h"
#include "kernels/index.h"
#include "kernels/latent_rows.h"
#include "kernels/layer.h"
#include "validate/decoder_in.h"

#define EPSILON 1e-6f

uint32_t decoder_chosen_width(const struct decoder *x)
{
    return (x->s.set.prompt + x->s.set.output + 31) / 32 * 32;
}

static const struct attention *attention_at(const struct decoder *x, uint32_t layer)
{
    return &x->s.layers[layer].layer.attn;
}

/* Halves turn together, at the front of each head. */
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
                          .rotary = x->s.rope};

    return x->s.rope ? rope_run(x->d, &a) : DEVICE_OK;
}

static enum device_status norm_key(struct decoder *x, uint32_t rows, uint32_t layer)
{
    struct index_norm_args a = {.x = x->index_k,
                                .weight = x->layers[layer].index_norm,
                                .rows = rows,
                                .dim = attention_at(x, layer)->index_dim,
                                .wide_weight = x->s.wide_vectors,
                                .epsilon = EPSILON};

    return index_norm_run(x->d, &a);
}

static enum device_status project(struct decoder *x, const struct decoder_pass *w,
                                  uint32_t layer)
{
    const struct attention *a = attention_at(x, layer);
    const struct decoder_weights *y = &x->layers[layer];
    uint32_t n = w->rows, hidden = x->s.hidden, low = a->q_lora_rank;
    enum device_status s =
        decoder_multiply(x, low ? x->q_low : x->x, y->index_q, NULL, x->index_q, n,
                         (uint64_t)a->index_heads * a->index_dim, low ? low : hidden);

    if (s == DEVICE_OK)
        s = decoder_multiply(x, x->x, y->index_k, NULL, x->index_k, n, a->index_dim, hidden);
    if (s == DEVICE_OK)
        s = decoder_multiply(x, x->x, y->index_weights, NULL, x->index_weights, n,
                             a->index_heads, hidden);
    if (s == DEVICE_OK)
        s = norm_key(x, n, layer);
    decoder_tell(x, OP_INDEXER, layer, w->prefill);
    if (s == DEVICE_OK)
        s = rotate(x, x->index_q, n, a->index_heads, a->index_dim);
    if (s == DEVICE_OK)
        s = rotate(x, x->index_k, n, 1, a->index_dim);
    decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    return s;
}

static enum device_status store_keys(struct decoder *x, const struct decoder_pass *w,
                                     uint32_t layer)
{
    uint32_t store = x->s.layers[layer].index_store;
    const struct decoder_store *y = &x->stores[store];
    struct latent_append_args a = {
        .c = decoder_view(x, store, w->sequence, w->sequences, y->lengths),
        .latent = x->index_k,
        .rows = w->rows,
        .sequence = x->step + x->at.sequence,
        .index = x->step + y->index};
    enum device_status s = latent_append_run(x->d, &a);

    decoder_tell(x, OP_OTHER, layer, w->prefill);
    return s;
}

/* The best rows of each query, where it sees more than are chosen. */
static enum device_status choose(struct decoder *x, const struct decoder_pass *w)
{
    uint32_t width = decoder_chosen_width(x);
    uint32_t most = w->prefill ? w->offset + w->rows : x->s.set.prompt + x->decoded + 1;
    struct select_args a = {.scores = x->ranks,
                            .count = x->step + x->at.seen,
                            .keep = x->step + x->at.kept,
                            .index = x->chosen_rows,
                            .lists = w->rows,
                            .width = width};
    struct index_mask_args m = {.index = x->chosen_rows,
                                .keep = x->step + x->at.kept,
                                .mask = x->chosen_bits,
                                .rows = w->rows,
                                .width = width,
                                .words = width / 32};
    enum device_status s;

    if (most <= x->s.selects)
        return DEVICE_OK;
    s = select_run(x->d, &a);
    return s == DEVICE_OK && w->prefill ? index_mask_run(x->d, &m) : s;
}

static enum device_status rank(struct decoder *x, const struct decoder_pass *w, uint32_t layer)
{
    const struct attention *a = attention_at(x, layer);
    uint32_t store = x->s.layers[layer].index_store;
    struct index_args g = {
        .c = decoder_view(x, store, w->sequence, w->sequences, x->stores[store].lengths),
        .q = x->index_q,
        .weights = x->index_weights,
        .scores = x->ranks,
        .rows = w->rows,
        .width = decoder_chosen_width(x),
        .heads = a->index_heads,
        .sequence = x->step + x->at.sequence,
        .position = x->step + x->at.position,
        .scale = 1.0f / sqrtf((float)a->index_heads * (float)a->index_dim)};
    enum device_status s = index_run(x->d, &g);

    x->ranked = *w;
    if (s == DEVICE_OK)
        s = choose(x, w);
    decoder_tell(x, OP_INDEXER, layer, w->prefill);
    return s;
}

enum device_status decoder_index(struct decoder *x, const struct decoder_pass *w,
                                 uint32_t layer)
{
    enum device_status s;

    if (x->s.layers[layer].index_store == UINT32_MAX)
        return DEVICE_OK;
    x->ranked.rows = 0;
    s = project(x, w, layer);
    if (s == DEVICE_OK)
        s = store_keys(x, w, layer);
    return s == DEVICE_OK ? rank(x, w, layer) : s;
}

/* Where all rows are read nothing is listed. */
bool decoder_chosen(struct decoder *x, uint32_t token, struct decoder_choice *c)
{
    uint64_t at = (uint64_t)token * decoder_chosen_width(x);
    uint32_t seen;

    if (token >= x->ranked.rows)
        return false;
    c->sequence = x->ranked.sequence + (x->ranked.prefill ? 0 : token);
    c->position = x->host[x->at.position + token];
    c->n = x->host[x->at.kept + token];
    seen = c->position + 1;
    for (uint32_t i = 0; i < c->n; i++)
        c->rows[i] = i;
    if (c->n < seen &&
        device_download(x->d, c->rows, x->chosen_rows + at, 4 * (uint64_t)c->n) != DEVICE_OK)
        return false;
    return device_download(x->d, c->scores, x->ranks + at, 4 * (uint64_t)seen) == DEVICE_OK;
}
