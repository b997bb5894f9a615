/* Parts of the plain decoder (kvdecoder.h) that know nothing of a cache: products, norms, MLPs
 * and experts, gates, embeddings, each of one token and written from its definition. */
#ifndef KVBUDGET_TESTS_KVPARTS_H
#define KVBUDGET_TESTS_KVPARTS_H

#include "tests/kvkept.h"
#include "tests/kvplain.h"

enum kd_format { KD_BF16, KD_FP8, KD_INT8 };
enum kd_drop {
    KD_ALL,
    KD_L2NORM,
    KD_KEYDIFF,
    KD_CHUNKKV,
    KD_CAKE,   /* the mean of what the window looks at + 200 times its variance, and the window
                */
    KD_EXPECT, /* what 512 queries to come, like those of the prompt, look at */
    KD_MEAN,   /* of what all queries that see a row look at */
    KD_SNAPKV,
    KD_ADAKV,
    KD_HEADKV,
    KD_STREAMING,
    KD_DUO,  /* streaming heads beside those that keep all */
    KD_QUEST /* keeps all, and a step reads `keep` pages of `window` rows */
};

struct kd_rule { /* what the spec says, in the words of the papers */
    enum kd_format format;
    enum kd_drop drop;
    uint32_t keep, window, sinks, recent; /* keep: of a prompt, the mean for AdaKV */
    uint32_t first; /* layer that drops or selects something; rows below which nothing goes */
    double share;   /* KD_L2NORM: that stays after every step; 0: nothing goes there */
    const uint32_t *given; /* KD_HEADKV: rows of every K/V head, layer after layer; KD_CAKE: of
                              every layer, in place of keep */
};

struct kd_layer {
    double *norms, *q, *q_bias, *k, *k_bias, *v, *v_bias, *o, *o_bias, *q_norm, *k_norm;
    double *gate, *up, *down, *up_bias, *down_bias;
    double *gates, *ups, *downs; /* of experts, every one of which every token takes */
    double *up_biases, *down_biases, *latent_in, *latent_out;
    double *shared_gate, *shared_up, *shared_down;
    double *sinks, *head_gate, *other, *scalars;
    double *keys, *values; /* [heads][room][dim], of layers that own a cache */
    bool *gone;            /* [heads][room]: where heads keep or see different rows */
    double *all_q;         /* of the prompt */
    double *still_q;       /* the same before they turn to their places */
    double preference;     /* KD_CAKE: entropy times variance */
    uint32_t rows;
    uint32_t source, passes, last_reader, full_heads;
    bool owns, masked;
    uint32_t window;
    bool chunked;
    const struct layer *is;
    struct km *mixer; /* recurrent (kvmixer.h); NULL: none */
};

struct kd {
    struct arena *a;
    struct decoder *x;
    const struct layout *l;
    struct kd_rule rule;
    bool naive;
    uint32_t n, hidden, heads, kv_heads, dim, vocab, room;
    struct kd_layer *layers;
    double *embed, *head, *norm;
    double *positions, *embed_norm, *project_in, *project_out, *head_bias;
    double *input_table, *input_project, *input_norm;
    uint32_t input;        /* width of the embeddings that each layer has for itself */
    bool after;            /* norms stand after the halves, on the stream */
    const struct kr *kept; /* what the rule has left, where there is one */
    uint32_t sequence;     /* of those */
};

static inline double kd_round(const struct kd *d, double x)
{
    return kq_round(d->naive, x);
}

static inline double *kd_tensor(struct kd *d, int layer, const char *name)
{
    return kq_tensor(d->a, d->x, layer, name);
}

static inline void kd_product(const struct kd *d, const double *x, const double *w,
                              const double *bias, double *out, uint32_t outs, uint32_t in)
{
    kq_product(d->naive, x, &(struct kq_weight){w, bias, outs, in}, out);
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

/* The model's own norm over the hidden size, the one of this number in `list`. */
static inline void kd_norm(const struct kd *d, const double *x, const double *list,
                           uint32_t number, double *out)
{
    const struct model *m = d->l->model;
    uint32_t n = d->hidden, width = m->norm == NORM_LAYER ? 2 * n : n;
    const double *w = list ? list + (size_t)number * width : NULL;
    double mean = 0, squares = 0;

    for (uint32_t i = 0; m->norm != NORM_RMS && i < n; i++)
        mean += x[i] / n;
    for (uint32_t i = 0; i < n; i++)
        squares += pow(x[i] - mean, 2) / n;
    for (uint32_t i = 0; i < n; i++) {
        double y = (x[i] - mean) / sqrt(squares + (double)1e-5f) * (w ? w[i] : 1);
        out[i] = kd_round(d, y + (w && m->norm == NORM_LAYER ? w[n + i] : 0));
    }
}

static inline void kd_turn(const struct kd *d, double *x, uint32_t heads, uint32_t position)
{
    uint32_t half = d->positions || d->l->model->alibi ? 0 : d->dim / 2;

    for (uint32_t i = 0; i < heads * half; i++) {
        double *a = x + i / half * d->dim + i % half, *b = a + half;
        double angle = position * pow(10000, -(double)(i % half) / half);
        double turned = *a * cos(angle) - *b * sin(angle);
        *b = kd_round(d, *b * cos(angle) + *a * sin(angle));
        *a = kd_round(d, turned);
    }
}

/* An MLP with or without a gate, of `in` elements and `inter` channels. */
struct kd_mlp {
    const double *gate, *up, *down, *up_bias, *down_bias;
    uint32_t in, inter;
};

static inline void kd_mlp_one(const struct kd *d, const double *x, const struct kd_mlp *m,
                              double *out)
{
    const double *up_bias = m->up_bias && m->gate ? m->up_bias + m->inter : m->up_bias;
    double g[512], u[512];

    kd_product(d, x, m->up, up_bias, u, m->inter, m->in);
    if (m->gate)
        kd_product(d, x, m->gate, m->up_bias, g, m->inter, m->in);
    for (uint32_t i = 0; i < m->inter; i++) {
        double t = sqrt(2 / acos(-1)) * (u[i] + 0.044715 * pow(u[i], 3));
        g[i] = kd_round(d, m->gate ? g[i] / (1 + exp(-g[i])) * u[i] : u[i] / 2 * (1 + tanh(t)));
    }
    kd_product(d, g, m->down, m->down_bias, out, m->in, m->inter);
}

/* Every token takes every expert; shared ones count as one more, or are added after a latent.
 */
static inline void kd_experts(const struct kd *d, const struct kd_layer *y, const double *x,
                              double *out)
{
    const struct ffn *f = &y->is->ffn;
    uint32_t in = f->moe_latent ? f->moe_latent : d->hidden, inter = f->moe_intermediate;
    struct kd_mlp shared = {.gate = y->shared_gate,
                            .up = y->shared_up,
                            .down = y->shared_down,
                            .in = d->hidden,
                            .inter = f->shared_intermediate};
    double latent[512], sum[512] = {0}, one[512];
    uint32_t terms = f->experts + (y->shared_down && !y->latent_in);

    memcpy(latent, x, d->hidden * sizeof *x);
    if (y->latent_in)
        kd_product(d, x, y->latent_in, NULL, latent, in, d->hidden);
    for (uint32_t e = 0; e < f->experts; e++) {
        size_t n = (size_t)e * inter * in;
        struct kd_mlp m = {y->gates ? y->gates + n : NULL,
                           y->ups + n,
                           y->downs + n,
                           y->up_biases ? y->up_biases + (size_t)e * 2 * inter : NULL,
                           y->down_biases ? y->down_biases + (size_t)e * in : NULL,
                           in,
                           inter};
        kd_mlp_one(d, latent, &m, one);
        for (uint32_t i = 0; i < in; i++)
            sum[i] += one[i];
    }
    if (y->shared_down)
        kd_mlp_one(d, x, &shared, one);
    for (uint32_t i = 0; i < in; i++)
        sum[i] = kd_round(d, (sum[i] + (terms > f->experts ? one[i] : 0)) / terms);
    memcpy(out, sum, d->hidden * sizeof *sum);
    if (!y->latent_in)
        return;
    kd_product(d, sum, y->latent_out, NULL, out, d->hidden, in);
    for (uint32_t i = 0; y->shared_down && i < d->hidden; i++)
        out[i] = kd_round(d, out[i] + one[i]);
}

/* h: the stream, of which experts beside an MLP have a norm of their own. */
static inline void kd_second(const struct kd *d, const struct kd_layer *y, const double *h,
                             const double *x, double *out)
{
    const struct ffn *f = &y->is->ffn;
    struct kd_mlp m = {y->gate,      y->up,     y->down,        y->up_bias,
                       y->down_bias, d->hidden, f->intermediate};
    bool seven = y->is->norms == 7;
    double dense[512] = {0}, other[512];

    if (f->intermediate)
        kd_mlp_one(d, x, &m, dense);
    memcpy(out, dense, d->hidden * sizeof *out);
    if (!f->experts)
        return;
    if (seven)
        kd_norm(d, dense, y->norms, 3, dense);
    memcpy(other, x, d->hidden * sizeof *x);
    if (seven)
        kd_norm(d, h, y->norms, 4, other);
    kd_experts(d, y, other, out);
    if (seven)
        kd_norm(d, out, y->norms, 5, out);
    for (uint32_t i = 0; f->intermediate && i < d->hidden; i++)
        out[i] = kd_round(d, out[i] + dense[i]);
}

static inline void kd_gate(const struct kd *d, const struct kd_layer *y, const double *x,
                           double *out)
{
    uint32_t width = d->heads * d->dim, gates = y->head_gate ? d->heads : width;
    double g[512];

    if (!y->head_gate && !y->is->attn.output_gate)
        return;
    kd_product(d, x, y->head_gate ? y->head_gate : y->q + (size_t)width * d->hidden,
               y->q_bias && !y->head_gate ? y->q_bias + width : NULL, g, gates, d->hidden);
    for (uint32_t i = 0; i < width; i++)
        out[i] = kd_round(d, out[i] / (1 + exp(-g[y->head_gate ? i / d->dim : i])));
}

/* s = s + add, and where norms stand after the halves its norm. */
static inline void kd_add(const struct kd *d, const struct kd_layer *y, uint32_t half,
                          const double *add, double *s)
{
    for (uint32_t k = 0; k < d->hidden; k++)
        s[k] = kd_round(d, s[k] + add[k]);
    if (d->after)
        kd_norm(d, s, y->norms, half, s);
}

/* What a half reads. */
static inline void kd_before(const struct kd *d, const struct kd_layer *y, uint32_t half,
                             const double *s, double *x)
{
    uint32_t n = y->is->norms;

    if (d->after)
        memcpy(x, s, d->hidden * sizeof *x);
    else
        kd_norm(d, s, y->norms, n == 1 ? 0 : n >= 4 ? 2 * half : half, x);
}

/* What the layer's own embedding of a token adds, by way of a gate; then a factor. Gemma 4 */
static inline void kd_end(const struct kd *d, const struct kd_layer *y, const double *input,
                          double *s)
{
    uint32_t w = d->input;
    double g[512], add[512] = {0};

    if (w)
        kd_product(d, s, y->other, NULL, g, w, d->hidden);
    for (uint32_t i = 0; i < w; i++) {
        double t = sqrt(2 / acos(-1)) * (g[i] + 0.044715 * pow(g[i], 3));
        g[i] = kd_round(d, kd_round(d, g[i] / 2 * (1 + tanh(t))) * input[i]);
    }
    if (w) {
        kd_product(d, g, y->other + (size_t)w * d->hidden, NULL, add, d->hidden, w);
        kd_norm(d, add, y->norms, y->is->norms - 1, add);
        kd_add(d, y, 0, add, s);
    }
    for (uint32_t i = 0; y->is->vector_params == 1 && i < d->hidden; i++)
        s[i] = kd_round(d, s[i] * y->scalars[0]);
}

static inline void kd_embed(const struct kd *d, uint32_t token, uint32_t position, double *h)
{
    uint32_t width = d->project_in ? d->l->model->embed_width : d->hidden;
    const double *row = d->embed + (size_t)token * width;

    memcpy(h, row, width * sizeof *h);
    if (d->project_in)
        kd_product(d, row, d->project_in, NULL, h, d->hidden, width);
    for (uint32_t i = 0; d->positions && i < d->hidden; i++)
        h[i] = kd_round(d, h[i] + d->positions[(size_t)position * d->hidden + i]);
    if (d->embed_norm)
        kd_norm(d, h, d->embed_norm, 0, h);
}

/* For every layer a row of its table, on top of its part of a projection, normed. */
static inline void kd_inputs(const struct kd *d, uint32_t token, const double *h, double *out)
{
    uint32_t w = d->input, n = d->n * w;

    if (!w)
        return;
    kd_product(d, h, d->input_project, NULL, out, n, d->hidden);
    for (uint32_t i = 0; i < d->n; i++)
        kd_rms(d, out + i * w, d->input_norm, out + i * w, w);
    for (uint32_t i = 0; i < n; i++)
        out[i] = kd_round(d, out[i] + d->input_table[(size_t)token * n + i]);
}

#endif
