/* A whole decoder in plain C and double precision, for the tests of validate/decoder: one
 * sequence at a time, rows of K and V in lists, written from the definition of each part. With
 * `naive` every result is rounded to bf16, as a plain 16-bit program would do it. */
#ifndef KVBUDGET_TESTS_KVDECODER_H
#define KVBUDGET_TESTS_KVDECODER_H

#include <math.h>
#include <string.h>

#include "planner/cache/layout.h"
#include "tests/kvstore.h"
#include "validate/decoder.h"

enum kd_format { KD_BF16, KD_FP8, KD_INT8 };
enum kd_drop { KD_ALL, KD_L2NORM, KD_SNAPKV, KD_ADAKV, KD_STREAMING };

struct kd_rule { /* what the spec says, in the words of the papers */
    enum kd_format format;
    enum kd_drop drop;
    uint32_t keep, window, sinks, recent; /* keep: of a prompt, the mean for AdaKV */
};

struct kd_layer {
    double *norms, *q, *q_bias, *k, *k_bias, *v, *v_bias, *o, *q_norm, *k_norm;
    double *gate, *up, *down;
    double *gates, *ups, *downs; /* of experts, every one of which every token takes */
    double *keys, *values;       /* [heads][room][dim], of layers that own a cache */
    bool *gone; /* [heads][room]: AdaKV, whose heads keep different numbers of rows */
    uint32_t rows;
    uint32_t source, passes;
    bool owns, masked;
    uint32_t window;
};

struct kd {
    struct arena *a;
    struct decoder *x;
    const struct layout *l;
    struct kd_rule rule;
    bool naive;
    uint32_t n, hidden, heads, kv_heads, dim, inter, vocab, room, experts;
    struct kd_layer *layers;
    double *embed, *head, *norm;
};

static inline double kd_round(const struct kd *d, double x)
{
    return d->naive ? ks_round_bf16(x) : x;
}

static inline double *kd_tensor(struct kd *d, int layer, const char *name)
{
    uint64_t n = 0;
    uint16_t *bits;
    double *out;

    if (!decoder_tensor(d->x, layer, name, NULL, &n))
        return NULL;
    bits = ARENA_NEW(d->a, uint16_t, n);
    out = ARENA_NEW(d->a, double, n);
    assert_true(decoder_tensor(d->x, layer, name, bits, &n));
    for (uint64_t i = 0; i < n; i++)
        out[i] = ks_bf16(bits[i]);
    return out;
}

static inline void kd_layer_open(struct kd *d, uint32_t i)
{
    struct kd_layer *y = &d->layers[i];
    const struct cache_row *r = &d->l->rows[layout_attention_row(d->l, i)];
    int at = (int)i;

    *y = (struct kd_layer){.norms = kd_tensor(d, at, "layernorms"),
                           .q = kd_tensor(d, at, "self_attn.q_proj"),
                           .q_bias = kd_tensor(d, at, "self_attn.q_proj.bias"),
                           .k = kd_tensor(d, at, "self_attn.k_proj"),
                           .k_bias = kd_tensor(d, at, "self_attn.k_proj.bias"),
                           .v = kd_tensor(d, at, "self_attn.v_proj"),
                           .v_bias = kd_tensor(d, at, "self_attn.v_proj.bias"),
                           .o = kd_tensor(d, at, "self_attn.o_proj"),
                           .q_norm = kd_tensor(d, at, "self_attn.q_norm"),
                           .k_norm = kd_tensor(d, at, "self_attn.k_norm"),
                           .gate = kd_tensor(d, at, "mlp.gate_proj"),
                           .up = kd_tensor(d, at, "mlp.up_proj"),
                           .down = kd_tensor(d, at, "mlp.down_proj"),
                           .gates = kd_tensor(d, at, "mlp.experts.gate_proj"),
                           .ups = kd_tensor(d, at, "mlp.experts.up_proj"),
                           .downs = kd_tensor(d, at, "mlp.experts.down_proj")};
    y->source = d->l->rows[r->source].layer;
    y->owns = y->source == i || r->readers;
    y->masked = r->diagonal_masked;
    y->window = (uint32_t)r->window_tokens;
    y->passes = d->l->passes[i];
    y->keys = ARENA_NEW(d->a, double, (size_t)d->kv_heads * d->room * d->dim);
    y->gone = ARENA_NEW(d->a, bool, (size_t)d->kv_heads * d->room);
    y->values = ARENA_NEW(d->a, double, (size_t)d->kv_heads * d->room * d->dim);
}

static inline struct kd kd_open(struct arena *a, struct decoder *x, const struct layout *l,
                                struct kd_rule rule, bool naive, uint32_t room)
{
    const struct attention *t = &l->layers[0].attn;
    struct kd d = {.a = a,
                   .x = x,
                   .l = l,
                   .rule = rule,
                   .naive = naive,
                   .n = l->n_layers,
                   .hidden = l->model->hidden,
                   .heads = t->heads,
                   .kv_heads = t->kv_heads,
                   .dim = t->k_dim,
                   .inter = l->layers[0].ffn.experts ? l->layers[0].ffn.moe_intermediate
                                                     : l->layers[0].ffn.intermediate,
                   .vocab = l->model->vocab,
                   .room = room,
                   .experts = l->layers[0].ffn.experts};

    d.layers = ARENA_NEW(a, struct kd_layer, d.n);
    for (uint32_t i = 0; i < d.n; i++)
        kd_layer_open(&d, i);
    d.embed = kd_tensor(&d, -1, "embed_tokens");
    d.head = kd_tensor(&d, -1, "lm_head");
    d.norm = kd_tensor(&d, -1, "norm");
    return d;
}

/* --- parts of a layer -----------------------------------------------------------------------
 */

static inline void kd_product(const struct kd *d, const double *x, const double *w,
                              const double *bias, double *out, uint32_t outs, uint32_t in)
{
    for (uint32_t n = 0; n < outs; n++) {
        double sum = 0;
        for (uint32_t k = 0; k < in; k++)
            sum = d->naive ? (float)(sum + x[k] * w[(size_t)n * in + k])
                           : sum + x[k] * w[(size_t)n * in + k];
        out[n] = kd_round(d, sum + (bias ? bias[n] : 0));
    }
}

static inline void kd_rms(const struct kd *d, const double *x, const double *w, double *out,
                          uint32_t n)
{
    double squares = 0;

    for (uint32_t i = 0; i < n; i++)
        squares += x[i] * x[i];
    for (uint32_t i = 0; i < n; i++)
        out[i] = kd_round(d, x[i] / sqrt(squares / n + (double)1e-5f) * w[i]);
}

static inline void kd_turn(const struct kd *d, double *x, uint32_t heads, uint32_t position)
{
    uint32_t half = d->dim / 2;

    for (uint32_t i = 0; i < heads * half; i++) {
        double *a = x + i / half * d->dim + i % half, *b = a + half;
        double angle = position * pow(10000, -(double)(i % half) / half);
        double turned = *a * cos(angle) - *b * sin(angle);
        *b = kd_round(d, *b * cos(angle) + *a * sin(angle));
        *a = kd_round(d, turned);
    }
}

/* As stored: fp8 by its definition, int8 in sixteenths of 1. */
static inline double kd_stored(const struct kd *d, double x)
{
    double size = fmin(fabs(x), 448);
    int e;

    if (d->rule.format == KD_INT8)
        return fmax(-127, fmin(127, nearbyint(x * 16))) / 16;
    if (d->rule.format == KD_BF16)
        return x;
    if (size < ldexp(1, -6))
        return copysign(nearbyint(size * 512) / 512, x);
    size = frexp(size, &e);
    return copysign(fmin(ldexp(nearbyint(size * 16), e - 4), 448), x);
}

static inline double *kd_row(const struct kd *d, double *list, uint32_t head, uint32_t row)
{
    return list + ((size_t)head * d->room + row) * d->dim;
}

static inline void kd_store(struct kd *d, struct kd_layer *y, uint32_t row, const double *k,
                            const double *v)
{
    for (uint32_t h = 0; h < d->kv_heads; h++)
        for (uint32_t i = 0; i < d->dim; i++) {
            kd_row(d, y->keys, h, row)[i] = kd_stored(d, k[h * d->dim + i]);
            kd_row(d, y->values, h, row)[i] = kd_stored(d, v[h * d->dim + i]);
        }
}

/* Probabilities of rows [from, to) for one query head; returns whether there is any. */
static inline void kd_softmax(const struct kd *d, const struct kd_layer *y, const double *q,
                              uint32_t head, uint32_t from, uint32_t to, double *p)
{
    double most = -INFINITY, sum = 0;

    for (uint32_t j = from; j < to; j++) {
        const double *k = kd_row(d, y->keys, head / (d->heads / d->kv_heads), j);
        p[j] = 0;
        for (uint32_t i = 0; i < d->dim; i++)
            p[j] += q[head * d->dim + i] * k[i];
        p[j] /= sqrt(d->dim);
        if (y->gone[head / (d->heads / d->kv_heads) * d->room + j])
            p[j] = -INFINITY;
        most = fmax(most, p[j]);
    }
    for (uint32_t j = from; j < to; j++)
        sum += p[j] = exp(p[j] - most);
    for (uint32_t j = from; j < to; j++)
        p[j] /= sum;
}

static inline void kd_attend(const struct kd *d, const struct kd_layer *source, const double *q,
                             uint32_t from, uint32_t to, double *out)
{
    double p[512];

    memset(out, 0, d->heads * d->dim * sizeof *out);
    for (uint32_t h = 0; h < d->heads; h++) {
        kd_softmax(d, source, q, h, from, to, p);
        for (uint32_t j = from; j < to; j++) {
            const double *v = kd_row(d, source->values, h / (d->heads / d->kv_heads), j);
            for (uint32_t i = 0; i < d->dim; i++)
                out[h * d->dim + i] += kd_round(d, p[j]) * v[i];
        }
        for (uint32_t i = 0; i < d->dim; i++)
            out[h * d->dim + i] = kd_round(d, out[h * d->dim + i]);
    }
}

static inline void kd_gated(const struct kd *d, const double *x, const double *gate,
                            const double *up, const double *down, double *out)
{
    double g[512], u[512];

    kd_product(d, x, gate, NULL, g, d->inter, d->hidden);
    kd_product(d, x, up, NULL, u, d->inter, d->hidden);
    for (uint32_t i = 0; i < d->inter; i++)
        g[i] = kd_round(d, g[i] / (1 + exp(-g[i])) * u[i]);
    kd_product(d, g, down, NULL, out, d->hidden, d->inter);
}

static inline void kd_mlp(const struct kd *d, const struct kd_layer *y, const double *x,
                          double *out)
{
    size_t n = (size_t)d->inter * d->hidden;
    double one[512];

    if (!d->experts) {
        kd_gated(d, x, y->gate, y->up, y->down, out);
        return;
    }
    memset(out, 0, d->hidden * sizeof *out);
    for (uint32_t e = 0; e < d->experts; e++) {
        kd_gated(d, x, y->gates + e * n, y->ups + e * n, y->downs + e * n, one);
        for (uint32_t i = 0; i < d->hidden; i++)
            out[i] += one[i] / d->experts;
    }
    for (uint32_t i = 0; i < d->hidden; i++)
        out[i] = kd_round(d, out[i]);
}

/* --- layers ---------------------------------------------------------------------------------
 */

struct kd_pass {
    uint32_t rows, position; /* new tokens, place of the first in the text */
    bool prefill, unknown;   /* unknown: sources above have nothing of these tokens yet */
    uint32_t *before;        /* [layers]: rows stored before them */
};

static inline void kd_queries(struct kd *d, struct kd_layer *y, const struct kd_pass *w,
                              uint32_t r, const double *x, double *q)
{
    uint32_t dim = d->dim;

    kd_product(d, x, y->q, y->q_bias, q, d->heads * dim, d->hidden);
    for (uint32_t h = 0; y->q_norm && h < d->heads; h++)
        kd_rms(d, q + h * dim, y->q_norm, q + h * dim, dim);
    kd_turn(d, q, d->heads, w->position + r);
}

static inline void kd_append(struct kd *d, uint32_t i, const struct kd_pass *w, uint32_t r,
                             const double *x)
{
    struct kd_layer *y = &d->layers[i];
    double k[512], v[512];

    kd_product(d, x, y->k, y->k_bias, k, d->kv_heads * d->dim, d->hidden);
    kd_product(d, x, y->v, y->v_bias, v, d->kv_heads * d->dim, d->hidden);
    for (uint32_t h = 0; y->k_norm && h < d->kv_heads; h++)
        kd_rms(d, k + h * d->dim, y->k_norm, k + h * d->dim, d->dim);
    kd_turn(d, k, d->kv_heads, w->position + r);
    kd_store(d, y, w->before[i] + r, k, v);
}

/* Rows that query r of layer i may see, of its source's list. */
static inline void kd_sees(const struct kd *d, uint32_t i, const struct kd_pass *w, uint32_t r,
                           uint32_t *from, uint32_t *to)
{
    const struct kd_layer *y = &d->layers[i];
    uint32_t before = w->before[y->source];

    *to = before + (y->source > i && w->unknown ? 0 : r + 1 - y->masked);
    *from = y->window && *to > y->window ? *to - y->window : 0;
}

/* h: the stream, [rows][hidden]. last_q: the queries, for SnapKV. */
static inline void kd_run_layer(struct kd *d, uint32_t i, const struct kd_pass *w, double *h,
                                double *all_q)
{
    struct kd_layer *y = &d->layers[i];
    uint32_t width = d->heads * d->dim;
    double x[512], out[512], add[512];

    for (uint32_t r = 0; r < w->rows; r++) {
        kd_rms(d, h + r * d->hidden, y->norms, x, d->hidden);
        kd_queries(d, y, w, r, x, all_q + r * width);
        if (y->owns)
            kd_append(d, i, w, r, x);
    }
    for (uint32_t r = 0; r < w->rows; r++) {
        double *s = h + r * d->hidden;
        uint32_t from, to;
        kd_sees(d, i, w, r, &from, &to);
        kd_attend(d, &d->layers[y->source], all_q + r * width, from, to, out);
        kd_product(d, out, y->o, NULL, add, d->hidden, width);
        for (uint32_t k = 0; k < d->hidden; k++)
            s[k] = kd_round(d, s[k] + add[k]);
        kd_rms(d, s, y->norms + d->hidden, x, d->hidden);
        kd_mlp(d, y, x, add);
        for (uint32_t k = 0; k < d->hidden; k++)
            s[k] = kd_round(d, s[k] + add[k]);
    }
}

/* --- what stays -----------------------------------------------------------------------------
 */

static inline void kd_keep_list(struct kd *d, struct kd_layer *y, uint32_t head,
                                const double *score, uint32_t n)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t better = 0;
        for (uint32_t j = 0; j < n; j++)
            better += score[j] > score[i] || (score[j] == score[i] && j < i);
        if (better >= d->rule.keep)
            continue;
        memmove(kd_row(d, y->keys, head, kept), kd_row(d, y->keys, head, i),
                d->dim * sizeof(double));
        memmove(kd_row(d, y->values, head, kept), kd_row(d, y->values, head, i),
                d->dim * sizeof(double));
        kept++;
    }
}

/* Sums of what the last queries look at, averaged over 5 neighbours; the window itself stays.
 */
static inline void kd_snapkv(const struct kd *d, const struct kd_layer *y, uint32_t head,
                             const double *all_q, uint32_t n, double *score)
{
    uint32_t group = d->heads / d->kv_heads, old = n - d->rule.window;
    double sums[512] = {0}, p[512];

    for (uint32_t r = old; r < n; r++)
        for (uint32_t g = 0; g < group; g++) {
            const double *q = all_q + r * d->heads * d->dim;
            kd_softmax(d, y, q, head * group + g, 0, r + 1, p);
            for (uint32_t j = 0; j < old; j++)
                sums[j] += p[j];
        }
    for (uint32_t j = 0; j < n; j++) {
        score[j] = j < old ? 0 : 1e9;
        for (uint32_t k = j < 2 ? 0 : j - 2; j < old && k <= j + 2 && k < old; k++)
            score[j] += sums[k] / 5;
    }
}

static inline uint32_t kd_better(const double *score, uint32_t n, uint32_t i)
{
    uint32_t better = 0;

    for (uint32_t j = 0; j < n; j++)
        better += score[j] > score[i] || (score[j] == score[i] && j < i);
    return better;
}

/* A fifth of the budget is each head's, the rest goes to the best rows of all heads. */
static inline void kd_adakv(struct kd *d, struct kd_layer *y, const double *all_q, uint32_t n)
{
    uint32_t old = n - d->rule.window, base = d->rule.keep - d->rule.window;
    double score[512], all[512];

    assert_true(d->kv_heads * old <= 512);
    for (uint32_t h = 0; h < d->kv_heads; h++) {
        kd_snapkv(d, y, h, all_q, n, score);
        memcpy(all + h * old, score, old * sizeof *all);
    }
    for (uint32_t h = 0; h < d->kv_heads; h++) {
        uint32_t chosen = 0, keep;
        for (uint32_t j = 0; j < old; j++)
            chosen += kd_better(all, d->kv_heads * old, h * old + j) < d->kv_heads * base;
        keep = (uint32_t)nearbyint(chosen * 0.8 + floor(base * 0.2));
        for (uint32_t j = 0; j < old; j++)
            y->gone[h * d->room + j] = kd_better(all + h * old, old, j) >= keep;
    }
}

static inline void kd_prune_prompt(struct kd *d, uint32_t i, const double *all_q, uint32_t n)
{
    struct kd_layer *y = &d->layers[i];
    double score[512];

    if (d->rule.drop == KD_ALL || !y->owns || n <= d->rule.keep)
        return;
    if (d->rule.drop == KD_ADAKV) {
        kd_adakv(d, y, all_q, n);
        return;
    }
    for (uint32_t h = 0; h < d->kv_heads; h++) {
        if (d->rule.drop == KD_SNAPKV)
            kd_snapkv(d, y, h, all_q, n, score);
        for (uint32_t j = 0; j < n && d->rule.drop != KD_SNAPKV; j++) {
            double norm = 0;
            for (uint32_t k = 0; k < d->dim; k++)
                norm += pow(kd_row(d, y->keys, h, j)[k], 2);
            score[j] = d->rule.drop == KD_L2NORM ? -norm
                                                 : j < d->rule.sinks || j >= n - d->rule.recent;
        }
        kd_keep_list(d, y, h, score, n);
    }
    y->rows = d->rule.keep;
}

/* StreamingLLM after a step: the oldest that is no sink goes. */
static inline void kd_prune_step(struct kd *d, struct kd_layer *y)
{
    uint32_t most = d->rule.sinks + d->rule.recent;

    if (d->rule.drop != KD_STREAMING || !y->owns || y->rows <= most)
        return;
    for (uint32_t h = 0; h < d->kv_heads; h++)
        for (uint32_t j = d->rule.sinks; j < most; j++) {
            memcpy(kd_row(d, y->keys, h, j), kd_row(d, y->keys, h, j + 1),
                   d->dim * sizeof(double));
            memcpy(kd_row(d, y->values, h, j), kd_row(d, y->values, h, j + 1),
                   d->dim * sizeof(double));
        }
    y->rows = most;
}

/* --- tokens ---------------------------------------------------------------------------------
 */

/* Layers that read upward run again and again from the same stream, up to the highest source;
 * what their queries were at last, decides. */
static inline void kd_run_slice(struct kd *d, uint32_t *at, struct kd_pass *w, double *h)
{
    uint32_t first = *at, end = first + 1, n = w->rows * d->hidden;
    uint32_t passes = w->prefill ? d->layers[first].passes : 1;
    double *saved = ARENA_NEW(d->a, double, n), *q;

    for (uint32_t i = first; i < end; i++)
        end = d->layers[i].source + 1 > end ? d->layers[i].source + 1 : end;
    q = ARENA_NEW(d->a, double, (size_t)w->rows * d->heads * d->dim);
    memcpy(saved, h, n * sizeof *h);
    for (uint32_t p = 0; p < passes; p++) {
        memcpy(h, saved, n * sizeof *h);
        w->unknown = !w->prefill || p == 0;
        for (uint32_t i = first; i < end; i++) {
            kd_run_layer(d, i, w, h, q);
            if (w->prefill && (d->rule.drop == KD_SNAPKV || d->rule.drop == KD_ADAKV))
                kd_prune_prompt(d, i, q, w->rows);
        }
    }
    *at = end;
}

/* The logits of the last of these tokens. */
static inline void kd_tokens(struct kd *d, const uint32_t *tokens, uint32_t n,
                             uint32_t position, bool prefill, double *logits)
{
    struct kd_pass w = {.rows = n, .position = position, .prefill = prefill};
    double *h = ARENA_NEW(d->a, double, (size_t)n * d->hidden), x[512];
    bool naive = d->naive;

    w.before = ARENA_NEW(d->a, uint32_t, d->n);
    for (uint32_t i = 0; i < d->n; i++) {
        w.before[i] = prefill ? 0 : d->layers[i].rows;
        d->layers[i].rows = w.before[i] + n;
    }
    for (uint32_t r = 0; r < n; r++)
        memcpy(h + r * d->hidden, d->embed + (size_t)tokens[r] * d->hidden,
               d->hidden * sizeof *h);
    for (uint32_t i = 0; i < d->n;)
        kd_run_slice(d, &i, &w, h);
    kd_rms(d, h + (n - 1) * d->hidden, d->norm, x, d->hidden);
    d->naive = false; /* logits are fp32 */
    kd_product(d, x, d->head, NULL, logits, d->vocab, d->hidden);
    d->naive = naive;
    for (uint32_t i = 0; i < d->n; i++) {
        if (prefill && d->rule.drop != KD_SNAPKV && d->rule.drop != KD_ADAKV)
            kd_prune_prompt(d, i, NULL, n);
        kd_prune_step(d, &d->layers[i]);
    }
}

#endif
