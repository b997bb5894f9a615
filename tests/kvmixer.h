/* Recurrent mixers in plain C and double precision, a token at a time, each kind written from
 * its definition with names as in its paper; for the reference decoder (kvdecoder.h). With
 * `naive` every result is rounded to bf16, the state too unless it is fp32. */
#ifndef KVBUDGET_TESTS_KVMIXER_H
#define KVBUDGET_TESTS_KVMIXER_H

#include <math.h>
#include <string.h>

#include "planner/model/model.h"
#include "tests/kvstore.h"

enum { KM_WIDE = 1024 };

struct km {
    const struct state *s;
    uint32_t hidden, layer, n_layers;
    bool naive;
    double *in, *ba, *x, *dt, *dt_bias, *a, *d, *conv, *conv_bias, *small_norm; /* weights */
    double *q, *k, *v, *f_a, *f_b, *g_a, *g_b, *norm, *out;
    double *columns; /* [taps - 1][channels] that came before */
    double *matrix;  /* [heads][v][k] */
    double *kept;    /* [rows][inner]: what Mamba leaves for gated memory */
    const struct km *memory;
};

/* Weights by the planner's names, and room for what is kept; `fetch` gives NULL where there is
 * no such tensor. */
static inline void km_open(struct km *m, struct arena *a,
                           double *(*fetch)(void *user, int layer, const char *name),
                           void *user)
{
    enum { ROOM = 1 << 14 };
    static const struct {
        size_t offset;
        const char *name;
    } t[] = {{offsetof(struct km, in), "mixer.in_proj"},
             {offsetof(struct km, in), "linear_attn.in_proj_qkvz"},
             {offsetof(struct km, in), "self_attn.qkv_proj"},
             {offsetof(struct km, in), "conv.in_proj"},
             {offsetof(struct km, ba), "linear_attn.in_proj_ba"},
             {offsetof(struct km, ba), "self_attn.b_proj"},
             {offsetof(struct km, ba), "self_attn.gt_proj"},
             {offsetof(struct km, x), "mixer.x_proj"},
             {offsetof(struct km, dt), "mixer.dt_proj"},
             {offsetof(struct km, dt_bias), "mixer.dt_proj.bias"},
             {offsetof(struct km, dt_bias), "self_attn.dt_bias"},
             {offsetof(struct km, a), "mixer.A_log"},
             {offsetof(struct km, a), "mixer.A_log, D, dt_bias"},
             {offsetof(struct km, a), "linear_attn.A_log, dt_bias"},
             {offsetof(struct km, a), "self_attn.A_log"},
             {offsetof(struct km, d), "mixer.D"},
             {offsetof(struct km, conv), "mixer.conv1d"},
             {offsetof(struct km, conv), "linear_attn.conv1d"},
             {offsetof(struct km, conv), "self_attn.qkv_conv1d"},
             {offsetof(struct km, conv), "conv.conv"},
             {offsetof(struct km, conv_bias), "mixer.conv1d.bias"},
             {offsetof(struct km, small_norm), "mixer.dt_b_c_layernorm"},
             {offsetof(struct km, q), "self_attn.q_proj"},
             {offsetof(struct km, k), "self_attn.k_proj"},
             {offsetof(struct km, v), "self_attn.v_proj"},
             {offsetof(struct km, f_a), "self_attn.f_a_proj"},
             {offsetof(struct km, f_b), "self_attn.f_b_proj"},
             {offsetof(struct km, g_a), "self_attn.g_a_proj"},
             {offsetof(struct km, g_b), "self_attn.g_b_proj"},
             {offsetof(struct km, g_b), "self_attn.output_gate"},
             {offsetof(struct km, norm), "mixer.norm"},
             {offsetof(struct km, norm), "linear_attn.norm"},
             {offsetof(struct km, norm), "self_attn.o_norm"},
             {offsetof(struct km, norm), "self_attn.norm"},
             {offsetof(struct km, out), "self_attn.o_proj"},
             {offsetof(struct km, out), "mixer.out_proj"},
             {offsetof(struct km, out), "linear_attn.out_proj"},
             {offsetof(struct km, out), "self_attn.out_proj"},
             {offsetof(struct km, out), "conv.out_proj"}};

    m->columns = ARENA_NEW(a, double, ROOM);
    m->matrix = ARENA_NEW(a, double, ROOM);
    m->kept = ARENA_NEW(a, double, ROOM);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        double *w = fetch(user, (int)m->layer, t[i].name);
        if (w)
            memcpy((char *)m + t[i].offset, &w, sizeof w);
    }
}

static inline double km_round(const struct km *m, double x)
{
    return m->naive ? ks_round_bf16(x) : x;
}

static inline double km_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static inline double km_silu(double x)
{
    return x * km_sigmoid(x);
}

static inline double km_softplus(double x)
{
    return log(1 + exp(x));
}

static inline void km_times(const struct km *m, const double *w, const double *x, double *y,
                            uint32_t outs, uint32_t in)
{
    for (uint32_t i = 0; i < outs; i++) {
        y[i] = 0;
        for (uint32_t j = 0; j < in; j++)
            y[i] += w[(size_t)i * in + j] * x[j];
        y[i] = km_round(m, y[i]);
    }
}

/* x / sqrt(mean(x^2) + epsilon) of n elements, times w where there is one. */
static inline void km_rms(const struct km *m, double *x, const double *w, uint32_t n)
{
    double squares = 0;

    for (uint32_t i = 0; i < n; i++)
        squares += x[i] * x[i];
    for (uint32_t i = 0; i < n; i++)
        x[i] = km_round(m, x[i] / sqrt(squares / n + (double)1e-5f) * (w ? w[i] : 1));
}

/* The filter's result for new x, which joins the columns. */
static inline void km_filter(struct km *m, const double *x, double *y, uint32_t channels)
{
    uint32_t before = m->s->conv_kernel - 1;

    for (uint32_t c = 0; c < channels; c++) {
        y[c] = m->conv_bias ? m->conv_bias[c] : 0;
        for (uint32_t j = 0; j < before; j++)
            y[c] += m->conv[c * (before + 1) + j] * m->columns[j * channels + c];
        y[c] += m->conv[c * (before + 1) + before] * x[c];
    }
    memmove(m->columns, m->columns + channels, (before - 1) * channels * sizeof *x);
    memcpy(m->columns + (before - 1) * channels, x, channels * sizeof *x);
}

static inline void km_filter_silu(struct km *m, const double *x, double *y, uint32_t channels)
{
    km_filter(m, x, y, channels);
    for (uint32_t c = 0; c < channels; c++)
        y[c] = km_round(m, km_silu(y[c]));
}

struct km_head {                     /* of one token: S = decay S + ..., as the kind has it */
    const double *k, *q, *v, *decay; /* decay: one a column */
    double in, beta;                 /* of v; of the delta rule, else 0 */
    uint32_t k_dim, v_dim;
};

static inline void km_recur(const struct km *m, double *s, const struct km_head *h, double *y)
{
    for (uint32_t r = 0; r < h->v_dim; r++, s += h->k_dim) {
        double seen = 0, u;
        for (uint32_t c = 0; c < h->k_dim; c++)
            seen += (s[c] *= h->decay[c]) * h->k[c];
        u = h->beta > 0 ? h->beta * (h->v[r] - seen) : h->in * h->v[r];
        y[r] = 0;
        for (uint32_t c = 0; c < h->k_dim; c++) {
            s[c] += u * h->k[c];
            y[r] += s[c] * h->q[c];
            if (m->naive && !m->s->fp32_state)
                s[c] = ks_round_bf16(s[c]);
        }
    }
}

/* --- kinds ----------------------------------------------------------------------------------
 */

static inline void km_mamba1(struct km *m, const double *token, uint32_t row, double *y)
{
    uint32_t inner = m->s->inner, n = m->s->state_dim, rank = m->s->dt_rank;
    double xz[KM_WIDE], x[KM_WIDE], low[KM_WIDE], dt[KM_WIDE], decay[256];

    km_times(m, m->in, token, xz, 2 * inner, m->hidden);
    km_filter_silu(m, xz, x, inner);
    km_times(m, m->x, x, low, rank + 2 * n, inner);
    if (m->small_norm) {
        km_rms(m, low, m->small_norm, rank);
        km_rms(m, low + rank, m->small_norm + rank, n);
        km_rms(m, low + rank + n, m->small_norm + rank + n, n);
    }
    for (uint32_t i = 0; i < inner; i++) {
        double sum = m->dt_bias[i];
        for (uint32_t j = 0; j < rank; j++)
            sum += m->dt[i * rank + j] * low[j];
        dt[i] = km_softplus(km_round(m, sum));
        for (uint32_t j = 0; j < n; j++)
            decay[j] = exp(-exp(m->a[i * n + j]) * dt[i]);
        km_recur(m, m->matrix + i * n,
                 &(struct km_head){low + rank, low + rank + n, x + i, decay, dt[i], 0, n, 1},
                 y + i);
        y[i] = km_round(m, y[i] + m->d[i] * x[i]);
        m->kept[row * inner + i] = y[i];
        y[i] = km_round(m, y[i] * km_silu(xz[inner + i]));
    }
}

static inline void km_mamba2(struct km *m, const double *token, double *y)
{
    const struct state *s = m->s;
    uint32_t inner = s->heads * s->head_dim, bc = s->groups * s->state_dim;
    double all[KM_WIDE], xbc[KM_WIDE], decay[256];

    km_times(m, m->in, token, all, 2 * inner + 2 * bc + s->heads, m->hidden);
    km_filter_silu(m, all + inner, xbc, inner + 2 * bc);
    for (uint32_t h = 0; h < s->heads; h++) {
        uint32_t group = h / (s->heads / s->groups), p = s->head_dim;
        double dt = km_softplus(all[2 * inner + 2 * bc + h] + m->a[2 * s->heads + h]);
        const double *b = xbc + inner + group * s->state_dim, *x = xbc + h * p;
        for (uint32_t j = 0; j < s->state_dim; j++)
            decay[j] = exp(-exp(m->a[h]) * dt);
        km_recur(m, m->matrix + (size_t)h * p * s->state_dim,
                 &(struct km_head){b, b + bc, x, decay, dt, 0, s->state_dim, p}, y + h * p);
        for (uint32_t j = 0; j < p; j++)
            y[h * p + j] = km_round(m, y[h * p + j] + m->a[s->heads + h] * x[j]);
    }
    for (uint32_t i = 0; i < inner; i++)
        y[i] *= km_silu(all[i]);
    for (uint32_t g = 0; !s->no_gate_norm && g < s->groups; g++)
        km_rms(m, y + g * (inner / s->groups), m->norm + g * (inner / s->groups),
               inner / s->groups);
    for (uint32_t i = 0; i < inner; i++)
        y[i] = km_round(m, y[i]);
}

static inline void km_unit(double *x, uint32_t n, double size)
{
    double squares = 1e-6;

    for (uint32_t i = 0; i < n; i++)
        squares += x[i] * x[i];
    for (uint32_t i = 0; i < n; i++)
        x[i] *= size / sqrt(squares);
}

/* beta, decays and gates as the callers have them. */
static inline void km_delta(struct km *m, double *q, double *k, struct km_head h, uint32_t head,
                            double *y)
{
    double qn[256], kn[256];

    memcpy(qn, q, h.k_dim * sizeof *q);
    memcpy(kn, k, h.k_dim * sizeof *k);
    km_unit(qn, h.k_dim, 1 / sqrt(h.k_dim));
    km_unit(kn, h.k_dim, 1);
    h.q = qn;
    h.k = kn;
    km_recur(m, m->matrix + (size_t)head * h.k_dim * h.v_dim, &h, y);
    for (uint32_t i = 0; i < h.v_dim; i++)
        y[i] = km_round(m, y[i]);
}

static inline void km_gdn(struct km *m, const double *token, double *y)
{
    const struct state *s = m->s;
    uint32_t wk = s->k_heads * s->k_dim, wv = s->v_heads * s->v_dim, n = s->v_heads;
    double all[KM_WIDE], qkv[KM_WIDE], ba[KM_WIDE], decay[256];

    km_times(m, m->in, token, all, 2 * wk + 2 * wv, m->hidden);
    km_times(m, m->ba, token, ba, 2 * n, m->hidden);
    km_filter_silu(m, all, qkv, 2 * wk + wv);
    for (uint32_t h = 0; h < n; h++) {
        uint32_t from = h / (n / s->k_heads) * s->k_dim, at = h * s->v_dim;
        for (uint32_t j = 0; j < s->k_dim; j++)
            decay[j] = exp(-exp(m->a[h]) * km_softplus(ba[n + h] + m->a[n + h]));
        km_delta(m, qkv + from, qkv + wk + from,
                 (struct km_head){.v = qkv + 2 * wk + at,
                                  .decay = decay,
                                  .beta = km_sigmoid(ba[h]),
                                  .k_dim = s->k_dim,
                                  .v_dim = s->v_dim},
                 h, y + at);
        km_rms(m, y + at, m->norm, s->v_dim);
        for (uint32_t j = 0; j < s->v_dim; j++)
            y[at + j] = km_round(m, y[at + j] * km_silu(all[2 * wk + wv + at + j]));
    }
}

static inline void km_kda(struct km *m, const double *token, double *y)
{
    uint32_t d = m->s->head_dim, n = m->s->heads, w = n * d;
    double all[KM_WIDE], qkv[KM_WIDE], low[256], f[KM_WIDE], g[KM_WIDE], b[256], decay[256];

    km_times(m, m->q, token, all, w, m->hidden);
    km_times(m, m->k, token, all + w, w, m->hidden);
    km_times(m, m->v, token, all + 2 * w, w, m->hidden);
    km_filter_silu(m, all, qkv, 3 * w);
    km_times(m, m->f_a, token, low, d, m->hidden);
    km_times(m, m->f_b, low, f, w, d);
    km_times(m, m->g_a, token, low, d, m->hidden);
    km_times(m, m->g_b, low, g, w, d);
    km_times(m, m->ba, token, b, n, m->hidden);
    for (uint32_t h = 0; h < n; h++) {
        uint32_t at = h * d;
        for (uint32_t j = 0; j < d; j++)
            decay[j] = exp(-exp(m->a[h]) * km_softplus(f[at + j] + m->dt_bias[at + j]));
        km_delta(m, qkv + at, qkv + w + at,
                 (struct km_head){.v = qkv + 2 * w + at,
                                  .decay = decay,
                                  .beta = km_sigmoid(b[h]),
                                  .k_dim = d,
                                  .v_dim = d},
                 h, y + at);
        km_rms(m, y + at, m->norm, d);
        for (uint32_t j = 0; j < d; j++)
            y[at + j] = km_round(m, y[at + j] * km_sigmoid(g[at + j]));
    }
}

/* Lightning attention and gated retention. */
static inline void km_linear(struct km *m, const double *token, double *y)
{
    uint32_t d = m->s->head_dim, n = m->s->heads, w = n * d;
    bool gated = m->s->kind == STATE_RETENTION;
    double all[KM_WIDE], g[KM_WIDE], rate[256], decay[256];

    km_times(m, m->in, token, all, 3 * w, m->hidden);
    km_times(m, m->g_b, token, g, w, m->hidden);
    if (gated)
        km_times(m, m->ba, token, rate, n, m->hidden);
    for (uint32_t i = 0; i < 3 * w; i++)
        all[i] = !gated ? km_silu(all[i]) : i / w == 1 ? all[i] / sqrt(d) : all[i];
    for (uint32_t h = 0; h < n; h++) {
        double slope =
            pow(2, -8.0 * (h + 1) / n) * (1 - m->layer / (m->n_layers - 1 + 1e-5) + 1e-5);
        for (uint32_t j = 0; j < d; j++)
            decay[j] = gated ? pow(km_sigmoid(rate[h]), 1.0 / 16) : exp(-slope);
        km_recur(m, m->matrix + (size_t)h * d * d,
                 &(struct km_head){all + w + h * d, all + h * d, all + 2 * w + h * d, decay, 1,
                                   0, d, d},
                 y + h * d);
        for (uint32_t j = 0; j < d; j++)
            y[h * d + j] = km_round(m, y[h * d + j]);
        if (gated)
            km_rms(m, y + h * d, NULL, d);
    }
    if (!gated)
        km_rms(m, y, m->norm, w);
    for (uint32_t i = 0; i < w; i++)
        y[i] = km_round(m, y[i] * (gated ? km_silu(g[i]) : km_sigmoid(g[i])));
}

static inline void km_shortconv(struct km *m, const double *token, double *y)
{
    uint32_t n = m->hidden;
    double bcx[KM_WIDE], bx[KM_WIDE] = {0};

    km_times(m, m->in, token, bcx, 3 * n, n);
    for (uint32_t i = 0; i < n; i++)
        bx[i] = km_round(m, bcx[i] * bcx[2 * n + i]);
    km_filter(m, bx, y, n);
    for (uint32_t i = 0; i < n; i++)
        y[i] = km_round(m, y[i] * bcx[n + i]);
}

/* The mixer's output for one more token, row `row` of those that go through together. */
static inline void km_token(struct km *m, const double *token, uint32_t row, double *out)
{
    double y[KM_WIDE], g[KM_WIDE];
    uint32_t width = m->s->inner;

    switch (m->s->kind) {
    case STATE_NONE: return;
    case STATE_MAMBA1: km_mamba1(m, token, row, y); break;
    case STATE_MAMBA2: km_mamba2(m, token, y); break;
    case STATE_GDN: km_gdn(m, token, y); break;
    case STATE_KDA: km_kda(m, token, y); break;
    case STATE_LIGHTNING:
    case STATE_RETENTION: km_linear(m, token, y); break;
    case STATE_SHORTCONV: km_shortconv(m, token, y); break;
    case STATE_GMU:
        km_times(m, m->in, token, g, width, m->hidden);
        for (uint32_t i = 0; i < width; i++)
            y[i] = km_round(m, m->memory->kept[row * width + i] * km_silu(g[i]));
        break;
    }
    if (m->s->kind == STATE_SHORTCONV)
        width = m->hidden;
    else if (m->s->kind == STATE_GDN)
        width = m->s->v_heads * m->s->v_dim;
    else if (m->s->kind != STATE_MAMBA1 && m->s->kind != STATE_GMU)
        width = m->s->heads * m->s->head_dim;
    km_times(m, m->out, y, out, m->hidden, width);
}

#endif
