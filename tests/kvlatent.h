/* A decoder with MLA in plain C and double precision, for the tests of validate/decoder: one
 * sequence at a time, always in the expanded form, with or without an indexer, written from the
 * definition of each part. With `naive` every result is rounded to bf16, as a plain 16-bit
 * program would do it. It attends to the rows that the decoder's indexers have chosen, and
 * leaves its own scores of them to be compared. */
#ifndef KVBUDGET_TESTS_KVLATENT_H
#define KVBUDGET_TESTS_KVLATENT_H

#include "tests/kvchosen.h"
#include "tests/kvplain.h"

enum { KL_WIDE = 1024, KL_ROOM = 64 };

struct kl_layer {
    double *norms, *q_a, *q_a_norm, *q, *kv_a, *kv_a_norm, *kv_b, *o, *gate, *up, *down;
    double *index_q, *index_k, *index_norm, *index_weights;
    double *latents, *keys; /* [KL_ROOM][rank + rope], [KL_ROOM][index_dim] */
    double *scores;         /* [KL_ROOM][KL_ROOM]: of the indexer, for each query */
    uint32_t source, passes;
    bool owns, masked, selects;
};

struct kl {
    struct arena *a;
    struct decoder *x;
    struct attention t;
    bool naive, fp8; /* fp8: latents stored with a scale of 1 */
    uint32_t n, hidden, inter, vocab;
    struct kl_layer *layers;
    double *embed, *head, *norm;
    const struct ki *picks;
    uint32_t sequence, indexed; /* indexed: the layer of the last indexer */
};

static inline double kl_round(const struct kl *d, double x)
{
    return kq_round(d->naive, x);
}

static inline double *kl_tensor(struct kl *d, int layer, const char *name)
{
    return kq_tensor(d->a, d->x, layer, name);
}

static inline void kl_open_layer(struct kl *d, const struct layout *l, uint32_t i)
{
    struct kl_layer *y = &d->layers[i];
    const struct cache_row *r = &l->rows[layout_attention_row(l, i)];
    int at = (int)i;

    *y = (struct kl_layer){.norms = kl_tensor(d, at, "layernorms"),
                           .q_a = kl_tensor(d, at, "self_attn.q_a_proj"),
                           .q_a_norm = kl_tensor(d, at, "self_attn.q_a_layernorm"),
                           .q = kl_tensor(d, at, "self_attn.q_proj"),
                           .kv_a = kl_tensor(d, at, "self_attn.kv_a_proj_with_mqa"),
                           .kv_a_norm = kl_tensor(d, at, "self_attn.kv_a_layernorm"),
                           .kv_b = kl_tensor(d, at, "self_attn.kv_b_proj"),
                           .o = kl_tensor(d, at, "self_attn.o_proj"),
                           .gate = kl_tensor(d, at, "mlp.gate_proj"),
                           .up = kl_tensor(d, at, "mlp.up_proj"),
                           .down = kl_tensor(d, at, "mlp.down_proj"),
                           .index_q = kl_tensor(d, at, "self_attn.indexer.wq_b"),
                           .index_k = kl_tensor(d, at, "self_attn.indexer.wk"),
                           .index_norm = kl_tensor(d, at, "self_attn.indexer.k_norm"),
                           .index_weights = kl_tensor(d, at, "self_attn.indexer.weights_proj")};
    if (y->q_a)
        y->q = kl_tensor(d, at, "self_attn.q_b_proj");
    y->source = l->rows[r->source].layer;
    y->owns = r->readers != 0;
    y->masked = r->diagonal_masked;
    y->selects = r->select_tokens != 0;
    y->passes = l->passes[i];
    y->latents = ARENA_NEW(d->a, double, KL_ROOM *(d->t.kv_lora_rank + d->t.rope_dim));
    y->keys = ARENA_NEW(d->a, double, KL_ROOM * d->t.index_dim + 1);
    y->scores = ARENA_NEW(d->a, double, KL_ROOM *KL_ROOM);
}

/* A sequence of the decoder that is watched. */
static inline struct kl kl_open(const struct ki *picks, uint32_t sequence,
                                const struct layout *l, bool fp8, bool naive)
{
    struct kl d = {.a = picks->a,
                   .x = picks->x,
                   .picks = picks,
                   .sequence = sequence,
                   .t = l->layers[0].attn,
                   .naive = naive,
                   .fp8 = fp8,
                   .n = l->n_layers,
                   .hidden = l->model->hidden,
                   .inter = l->layers[0].ffn.intermediate,
                   .vocab = l->model->vocab};

    d.layers = ARENA_NEW(d.a, struct kl_layer, d.n);
    for (uint32_t i = 0; i < d.n; i++)
        kl_open_layer(&d, l, i);
    d.embed = kl_tensor(&d, -1, "embed_tokens");
    d.head = kl_tensor(&d, -1, "lm_head");
    d.norm = kl_tensor(&d, -1, "norm");
    return d;
}

/* --- parts ----------------------------------------------------------------------------------
 */

static inline void kl_product(const struct kl *d, const double *x, const double *w, double *out,
                              uint32_t outs, uint32_t in)
{
    kq_product(d->naive, x, &(struct kq_weight){.w = w, .outs = outs, .in = in}, out);
}

/* Layer norm where there is a bias, which subtracts the mean, else RMS norm. */
static inline void kl_norm(const struct kl *d, double *x, const double *w, const double *bias,
                           uint32_t n)
{
    double mean = 0, squares = 0, epsilon = (double)(bias ? 1e-6f : 1e-5f);

    for (uint32_t i = 0; bias && i < n; i++)
        mean += x[i] / n;
    for (uint32_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    for (uint32_t i = 0; i < n; i++)
        x[i] = kl_round(d, (x[i] - mean) / sqrt(squares / n + epsilon) * w[i] +
                               (bias ? bias[i] : 0));
}

/* Elements `apart` from each other turn together: 1, or half of them. */
static inline void kl_turn(const struct kl *d, double *x, uint32_t apart, uint32_t position)
{
    uint32_t half = d->t.rope_dim / 2;

    for (uint32_t i = 0; i < half; i++) {
        double angle = position * pow(10000, -(double)i / half);
        double *a = apart == 1 ? x + 2 * i : x + i, *b = a + apart, was = *a;
        *a = kl_round(d, was * cos(angle) - *b * sin(angle));
        *b = kl_round(d, *b * cos(angle) + was * sin(angle));
    }
}

static inline void kl_mlp(const struct kl *d, const struct kl_layer *y, const double *x,
                          double *out)
{
    double g[KL_WIDE], u[KL_WIDE];

    kl_product(d, x, y->gate, g, d->inter, d->hidden);
    kl_product(d, x, y->up, u, d->inter, d->hidden);
    for (uint32_t i = 0; i < d->inter; i++)
        g[i] = kl_round(d, g[i] / (1 + exp(-g[i])) * u[i]);
    kl_product(d, g, y->down, out, d->hidden, d->inter);
}

/* --- attention ------------------------------------------------------------------------------
 */

static inline void kl_store(struct kl *d, struct kl_layer *y, uint32_t at, const double *x)
{
    uint32_t rank = d->t.kv_lora_rank, width = rank + d->t.rope_dim;
    double *to = y->latents + (size_t)at * width;

    kl_product(d, x, y->kv_a, to, width, d->hidden);
    kl_norm(d, to, y->kv_a_norm, NULL, rank);
    kl_turn(d, to + rank, 1, at);
    for (uint32_t i = 0; d->fp8 && i < width; i++)
        to[i] = kq_fp8(to[i]);
}

/* The query at its low rank; that of all heads. */
static inline void kl_query(struct kl *d, const struct kl_layer *y, uint32_t at,
                            const double *x, double *low, double *q)
{
    uint32_t rank = d->t.q_lora_rank ? d->t.q_lora_rank : d->hidden, width = d->t.k_dim;

    memcpy(low, x, d->hidden * sizeof *x);
    if (y->q_a) {
        kl_product(d, x, y->q_a, low, rank, d->hidden);
        kl_norm(d, low, y->q_a_norm, NULL, rank);
    }
    kl_product(d, low, y->q, q, d->t.heads * width, rank);
    for (uint32_t h = 0; h < d->t.heads; h++)
        kl_turn(d, q + h * width + d->t.nope_dim, 1, at);
}

/* The key of a token into the cache, and how its query ranks all rows. */
static inline void kl_index(struct kl *d, struct kl_layer *y, uint32_t at, const double *x,
                            const double *low)
{
    uint32_t dim = d->t.index_dim, heads = d->t.index_heads, half = d->t.rope_dim / 2;
    double q[KL_WIDE], w[64], size = 0, *key = y->keys + (size_t)at * dim;
    double *score = y->scores + (size_t)at * KL_ROOM;

    kl_product(d, low, y->index_q, q, heads * dim,
               d->t.q_lora_rank ? d->t.q_lora_rank : d->hidden);
    kl_product(d, x, y->index_weights, w, heads, d->hidden);
    kl_product(d, x, y->index_k, key, dim, d->hidden);
    kl_norm(d, key, y->index_norm, y->index_norm + dim, dim);
    kl_turn(d, key, half, at);
    for (uint32_t h = 0; h < heads; h++)
        kl_turn(d, q + h * dim, half, at);
    for (uint32_t i = 0; i < dim; i++)
        size = fmax(size, fabs(key[i]) / 448);
    for (uint32_t i = 0; i < dim; i++)
        key[i] = kq_fp8(key[i] / size) * size;
    for (uint32_t j = 0; j <= at; j++) {
        score[j] = 0;
        for (uint32_t h = 0; h < heads; h++) {
            double dot = 0;
            for (uint32_t i = 0; i < dim; i++)
                dot += q[h * dim + i] * y->keys[(size_t)j * dim + i];
            score[j] += fmax(dot, 0) * w[h] / sqrt(heads * dim);
        }
    }
}

/* Keys and values of one head, of the source's first rows; [KL_ROOM][k_dim], [KL_ROOM][v_dim].
 */
static inline void kl_expand(const struct kl *d, const struct kl_layer *y, uint32_t head,
                             uint32_t rows, double *keys, double *values)
{
    const struct attention *t = &d->t;
    uint32_t rank = t->kv_lora_rank, width = t->nope_dim + t->v_dim;
    const double *w = y->kv_b + (size_t)head * width * rank;
    const struct kl_layer *source = &d->layers[y->source];

    for (uint32_t j = 0; j < rows; j++) {
        const double *from = source->latents + (size_t)j * (rank + t->rope_dim);
        kl_product(d, from, w, keys + j * t->k_dim, t->nope_dim, rank);
        memcpy(keys + j * t->k_dim + t->nope_dim, from + rank, t->rope_dim * sizeof *keys);
        kl_product(d, from, w + (size_t)t->nope_dim * rank, values + j * t->v_dim, t->v_dim,
                   rank);
    }
}

/* One head of query r, which sees rows below `to`, or of them those chosen. */
static inline void kl_head(const struct kl *d, const double *q, const bool *chosen, uint32_t to,
                           const double *kv[2], double *out)
{
    const struct attention *t = &d->t;
    double p[KL_ROOM], most = -INFINITY, sum = 0;

    for (uint32_t j = 0; j < to; j++) {
        p[j] = 0;
        for (uint32_t i = 0; i < t->k_dim; i++)
            p[j] += q[i] * kv[0][j * t->k_dim + i];
        p[j] = chosen && !chosen[j] ? -INFINITY : p[j] / sqrt(t->k_dim);
        most = fmax(most, p[j]);
    }
    for (uint32_t j = 0; j < to; j++)
        sum += p[j] = exp(p[j] - most);
    for (uint32_t i = 0; i < t->v_dim; i++) {
        out[i] = 0;
        for (uint32_t j = 0; j < to; j++)
            out[i] += kl_round(d, p[j] / sum) * kv[1][j * t->v_dim + i];
        out[i] = kl_round(d, out[i]);
    }
}

/* --- tokens ---------------------------------------------------------------------------------
 */

static inline const bool *kl_chosen(const struct kl *d, uint32_t position)
{
    const bool *chosen = ki_at(d->picks, d->indexed, d->sequence, position)->chosen;

    assert_non_null(chosen);
    return chosen;
}

static inline void kl_layer_run(struct kl *d, uint32_t i, uint32_t position, uint32_t rows,
                                bool unknown, double *h)
{
    struct kl_layer *y = &d->layers[i];
    const struct attention *t = &d->t;
    uint32_t width = t->heads * t->k_dim, outs = t->heads * t->v_dim;
    double *q = ARENA_NEW(d->a, double, (size_t)rows *width);
    double *out = ARENA_NEW(d->a, double, (size_t)rows *outs), x[KL_WIDE], low[KL_WIDE];
    double *keys = ARENA_NEW(d->a, double, KL_ROOM * t->k_dim);
    double *values = ARENA_NEW(d->a, double, KL_ROOM * t->v_dim);
    const double *kv[2] = {keys, values};
    uint32_t seen = position + (unknown && y->source > i ? 0 : rows);

    for (uint32_t r = 0; r < rows; r++) {
        memcpy(x, h + r * d->hidden, d->hidden * sizeof *x);
        kl_norm(d, x, y->norms, NULL, d->hidden);
        kl_query(d, y, position + r, x, low, q + r * width);
        if (y->owns)
            kl_store(d, y, position + r, x);
        if (y->index_q)
            kl_index(d, y, position + r, x, low);
    }
    d->indexed = y->index_q ? i : d->indexed;
    for (uint32_t n = 0; n < t->heads; n++) {
        kl_expand(d, y, n, seen, keys, values);
        for (uint32_t r = 0; r < rows; r++) {
            uint32_t to = position + r + 1 - y->masked;
            to = to < seen ? to : seen;
            kl_head(d, q + r * width + n * t->k_dim,
                    y->selects ? kl_chosen(d, position + r) : NULL, to, kv,
                    out + r * outs + n * t->v_dim);
        }
    }
    for (uint32_t r = 0; r < rows; r++) {
        double *s = h + r * d->hidden, add[KL_WIDE];
        kl_product(d, out + r * outs, y->o, add, d->hidden, outs);
        for (uint32_t k = 0; k < d->hidden; k++)
            x[k] = s[k] = kl_round(d, s[k] + add[k]);
        kl_norm(d, x, y->norms + d->hidden, NULL, d->hidden);
        kl_mlp(d, y, x, add);
        for (uint32_t k = 0; k < d->hidden; k++)
            s[k] = kl_round(d, s[k] + add[k]);
    }
}

/* The logits of the last of these tokens. Layers that read upward run again and again from the
 * same stream, up to the highest source. */
static inline void kl_tokens(struct kl *d, const uint32_t *tokens, uint32_t n,
                             uint32_t position, double *logits)
{
    double *h = ARENA_NEW(d->a, double, (size_t)n * d->hidden);
    double *saved = ARENA_NEW(d->a, double, (size_t)n * d->hidden), *last;
    bool naive = d->naive;

    for (uint32_t r = 0; r < n; r++)
        memcpy(h + r * d->hidden, d->embed + (size_t)tokens[r] * d->hidden,
               d->hidden * sizeof *h);
    for (uint32_t first = 0, end; first < d->n; first = end) {
        uint32_t passes = n > 1 ? d->layers[first].passes : 1;
        end = first + 1;
        for (uint32_t i = first; i < end; i++)
            end = d->layers[i].source + 1 > end ? d->layers[i].source + 1 : end;
        memcpy(saved, h, n * d->hidden * sizeof *h);
        for (uint32_t p = 0; p < passes; p++) {
            memcpy(h, saved, n * d->hidden * sizeof *h);
            for (uint32_t i = first; i < end; i++)
                kl_layer_run(d, i, position, n, n == 1 || p == 0, h);
        }
    }
    last = h + (n - 1) * d->hidden;
    kl_norm(d, last, d->norm, NULL, d->hidden);
    d->naive = false; /* logits are fp32 */
    kl_product(d, last, d->head, logits, d->vocab, d->hidden);
    d->naive = naive;
}

#endif
