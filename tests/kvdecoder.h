/* A whole decoder in plain C and double precision, for the tests of validate/decoder: one
 * sequence at a time, rows of K and V in lists, written from the definition of each part. With
 * `naive` every result is rounded to bf16, as a plain 16-bit program would do it. */
#ifndef KVBUDGET_TESTS_KVDECODER_H
#define KVBUDGET_TESTS_KVDECODER_H

#include "tests/kvmixer.h"
#include "tests/kvparts.h"

static inline double *kd_fetch(void *d, int layer, const char *name)
{
    return kd_tensor(d, layer, name);
}

static inline void kd_mixer_open(struct kd *d, uint32_t i)
{
    struct km *m = ARENA_NEW(d->a, struct km, 1);

    *m = (struct km){.s = &d->l->layers[i].state,
                     .hidden = d->hidden,
                     .layer = i,
                     .n_layers = d->n,
                     .naive = d->naive};
    km_open(m, d->a, kd_fetch, d);
    for (uint32_t k = 0; k < i; k++)
        if (d->layers[k].mixer && d->layers[k].mixer->s->kind == STATE_MAMBA1)
            m->memory = d->layers[k].mixer;
    d->layers[i].mixer = m;
}

static inline void kd_layer_open(struct kd *d, uint32_t i)
{
    struct kd_layer *y = &d->layers[i];
    uint32_t row = layout_attention_row(d->l, i);
    const struct cache_row *r = &d->l->rows[row != UINT32_MAX ? row : 0];
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
                           .up_bias = kd_tensor(d, at, "mlp.up_proj.bias"),
                           .down_bias = kd_tensor(d, at, "mlp.down_proj.bias"),
                           .up_biases = kd_tensor(d, at, "mlp.experts.gate_up_proj.bias"),
                           .down_biases = kd_tensor(d, at, "mlp.experts.down_proj.bias"),
                           .latent_in = kd_tensor(d, at, "mlp.fc1_latent_proj"),
                           .latent_out = kd_tensor(d, at, "mlp.fc2_latent_proj"),
                           .shared_gate = kd_tensor(d, at, "mlp.shared_experts.gate_proj"),
                           .shared_up = kd_tensor(d, at, "mlp.shared_experts.up_proj"),
                           .shared_down = kd_tensor(d, at, "mlp.shared_experts.down_proj"),
                           .o_bias = kd_tensor(d, at, "self_attn.o_proj.bias"),
                           .sinks = kd_tensor(d, at, "self_attn.sinks"),
                           .head_gate = kd_tensor(d, at, "self_attn.g_proj"),
                           .other = kd_tensor(d, at, "other"),
                           .scalars = kd_tensor(d, at, "scalars"),
                           .is = &d->l->layers[i],
                           .gates = kd_tensor(d, at, "mlp.experts.gate_proj"),
                           .ups = kd_tensor(d, at, "mlp.experts.up_proj"),
                           .downs = kd_tensor(d, at, "mlp.experts.down_proj")};
    if (d->l->layers[i].state.kind != STATE_NONE)
        kd_mixer_open(d, i);
    y->source = i;
    y->passes = d->l->passes[i];
    if (row == UINT32_MAX) {
        y->q = NULL;
        return;
    }
    y->source = d->l->rows[r->source].layer;
    y->owns = y->source == i || r->readers;
    y->masked = r->diagonal_masked;
    y->window = (uint32_t)r->window_tokens;
    y->chunked = r->mixer == MIXER_CHUNKED;
    y->last_reader = layout_last_reader(d->l, layout_attention_row(d->l, i));
    for (uint32_t k = 0; k < d->l->n_rows; k++)
        if (d->l->rows[k].layer == i && d->l->rows[k].stream == STREAM_KV &&
            !d->l->rows[k].keep.prompt)
            y->full_heads += d->l->rows[k].kv_heads;
    y->keys = ARENA_NEW(d->a, double, (size_t)d->kv_heads * d->room * d->dim);
    y->gone = ARENA_NEW(d->a, bool, (size_t)d->kv_heads * d->room);
    y->values = ARENA_NEW(d->a, double, (size_t)d->kv_heads * d->room * d->dim);
}

static inline struct kd kd_open(struct arena *a, struct decoder *x, const struct layout *l,
                                struct kd_rule rule, bool naive, uint32_t room)
{
    uint32_t first = 0;
    while (first + 1 < l->n_layers && l->layers[first].attn.mixer == MIXER_NONE)
        first++;
    const struct attention *t = &l->layers[first].attn;
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
                   .vocab = l->model->vocab,
                   .room = room};

    d.layers = ARENA_NEW(a, struct kd_layer, d.n);
    for (uint32_t i = 0; i < d.n; i++)
        kd_layer_open(&d, i);
    d.embed = kd_tensor(&d, -1, "embed_tokens");
    d.head = kd_tensor(&d, -1, "lm_head");
    d.norm = kd_tensor(&d, -1, "norm");
    d.positions = kd_tensor(&d, -1, "embed_positions");
    d.input_table = kd_tensor(&d, -1, "embed_tokens_per_layer");
    d.input_project = kd_tensor(&d, -1, "other");
    d.input_norm = d.embed_norm = kd_tensor(&d, -1, "scalars");
    d.input = d.input_table ? (uint32_t)l->model->vector_params_extra : 0;
    d.embed_norm = d.input ? NULL : d.embed_norm;
    d.project_in = kd_tensor(&d, -1, "project_in");
    d.project_out = kd_tensor(&d, -1, "project_out");
    d.head_bias = kd_tensor(&d, -1, "lm_head.bias");
    d.after = !d.norm && d.layers[0].norms;
    return d;
}

/* --- parts of a layer -----------------------------------------------------------------------
 */

/* As stored: fp8, or int8 in sixteenths of 1. */
static inline double kd_stored(const struct kd *d, double x)
{
    if (d->rule.format == KD_INT8)
        return fmax(-127, fmin(127, nearbyint(x * 16))) / 16;
    return d->rule.format == KD_FP8 ? kq_fp8(x) : x;
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
static inline void kd_softmax(const struct kd *d, const struct kd_layer *y, const double *sinks,
                              const double *q, uint32_t head, uint32_t from, uint32_t to,
                              double *p)
{
    double most = sinks ? sinks[head] : -INFINITY, sum = 0, cap = d->l->model->score_cap;

    for (uint32_t j = from; j < to; j++) {
        const double *k = kd_row(d, y->keys, head / (d->heads / d->kv_heads), j);
        p[j] = 0;
        for (uint32_t i = 0; i < d->dim; i++)
            p[j] += q[head * d->dim + i] * k[i];
        p[j] /= sqrt(d->dim);
        if (cap > 0)
            p[j] = cap * tanh(p[j] / cap);
        if (d->l->model->alibi) /* of 4 heads, a power of two */
            p[j] -= pow(2, -8.0 * (head + 1) / d->heads) * (to - 1 - j);
        if (y->gone[head / (d->heads / d->kv_heads) * d->room + j])
            p[j] = -INFINITY;
        most = fmax(most, p[j]);
    }
    sum = sinks ? exp(sinks[head] - most) : 0;
    for (uint32_t j = from; j < to; j++)
        sum += p[j] = exp(p[j] - most);
    for (uint32_t j = from; j < to; j++)
        p[j] /= sum;
}

static inline void kd_attend(const struct kd *d, const struct kd_layer *y, const double *q,
                             uint32_t from, uint32_t to, double *out)
{
    const struct kd_layer *source = &d->layers[y->source];
    double p[512];

    memset(out, 0, d->heads * d->dim * sizeof *out);
    for (uint32_t h = 0; h < d->heads; h++) {
        kd_softmax(d, source, y->sinks, q, h, from, to, p);
        for (uint32_t j = from; j < to; j++) {
            const double *v = kd_row(d, source->values, h / (d->heads / d->kv_heads), j);
            for (uint32_t i = 0; i < d->dim; i++)
                out[h * d->dim + i] += kd_round(d, p[j]) * v[i];
        }
        for (uint32_t i = 0; i < d->dim; i++)
            out[h * d->dim + i] = kd_round(d, out[h * d->dim + i]);
    }
}

/* --- what stays (kvkeep.h) ------------------------------------------------------------------
 */

/* What a rule leaves of a prompt of n in layer i; and what the query of a step does not see of
 * the `rows` of its source, which are gone then. */
static inline void kd_prune_prompt(struct kd *d, uint32_t i, uint32_t n);
static inline void kd_prune_step(struct kd *d, uint32_t i);
static inline void kd_hide(const struct kd *d, uint32_t i, const double *q, uint32_t rows);

/* --- layers ---------------------------------------------------------------------------------
 */

struct kd_pass {
    uint32_t rows, position; /* new tokens, place of the first in the text */
    bool prefill, unknown;   /* unknown: sources above have nothing of these tokens yet */
    uint32_t *before;        /* [layers]: rows stored before them */
    double *inputs;          /* [rows][layers][d.input] */
};

static inline void kd_queries(struct kd *d, struct kd_layer *y, const struct kd_pass *w,
                              uint32_t r, const double *x, double *q)
{
    uint32_t dim = d->dim;

    kd_product(d, x, y->q, y->q_bias, q, d->heads * dim, d->hidden);
    for (uint32_t h = 0; y->q_norm && h < d->heads; h++)
        kd_rms(d, q + h * dim, y->q_norm, q + h * dim, dim);
    if (w->prefill)
        memcpy(y->still_q + (size_t)r * d->heads * dim, q, d->heads * dim * sizeof *q);
    kd_turn(d, q, d->heads, w->position + r);
}

static inline void kd_append(struct kd *d, uint32_t i, const struct kd_pass *w, uint32_t r,
                             const double *x)
{
    struct kd_layer *y = &d->layers[i];
    double k[512] = {0}, v[512];

    kd_product(d, x, y->k, y->k_bias, k, d->kv_heads * d->dim, d->hidden);
    memcpy(v, k, d->kv_heads * d->dim * sizeof *v);
    if (y->v)
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
    if (y->chunked)
        *from = (before + r) / y->window * y->window;
}

/* What the mixers add to a row of the stream; x: its norm. */
static inline void kd_mix(struct kd *d, uint32_t i, const struct kd_pass *w, uint32_t r,
                          const double *x, const double *q, double *add)
{
    struct kd_layer *y = &d->layers[i];
    double out[512], beside[512];
    uint32_t from, to;

    if (y->q) {
        kd_sees(d, i, w, r, &from, &to);
        if (!w->prefill)
            kd_hide(d, i, q, to);
        kd_attend(d, y, q, from, to, out);
        kd_gate(d, y, x, out);
        kd_product(d, out, y->o, y->o_bias, add, d->hidden, d->heads * d->dim);
    }
    if (y->mixer)
        km_token(y->mixer, x, r, y->q ? beside : add);
    for (uint32_t k = 0; y->q && y->mixer && k < d->hidden; k++)
        add[k] = kd_round(d, add[k] + beside[k]);
}

/* The stream of one token, from what its mixers gave; x: what they read. */
static inline void kd_rest(const struct kd *d, const struct kd_layer *y, double *add,
                           const double *x, double *s)
{
    uint32_t n = y->is->norms;
    bool mixes = y->q || y->mixer, second = y->is->ffn.intermediate || y->is->ffn.experts;
    double mlp[512], x2[512];

    if (mixes && n >= 4)
        kd_norm(d, add, y->norms, 1, add);
    if (mixes && second && n == 1) {
        kd_second(d, y, s, x, mlp);
        for (uint32_t k = 0; k < d->hidden; k++)
            add[k] = kd_round(d, add[k] + mlp[k]);
        kd_add(d, y, 0, add, s);
        return;
    }
    if (mixes)
        kd_add(d, y, 0, add, s);
    if (!second)
        return;
    kd_before(d, y, 1, s, x2);
    kd_second(d, y, s, x2, mlp);
    if (n >= 4)
        kd_norm(d, mlp, y->norms, n == 7 ? 6 : 3, mlp);
    kd_add(d, y, 1, mlp, s);
}

/* h: the stream, [rows][hidden]. last_q: the queries, for SnapKV. */
static inline void kd_run_layer(struct kd *d, uint32_t i, const struct kd_pass *w, double *h,
                                double *all_q)
{
    struct kd_layer *y = &d->layers[i];
    uint32_t width = d->heads * d->dim;
    double x[512], add[512];

    for (uint32_t r = 0; y->q && r < w->rows; r++) {
        kd_before(d, y, 0, h + r * d->hidden, x);
        kd_queries(d, y, w, r, x, all_q + r * width);
        if (y->owns)
            kd_append(d, i, w, r, x);
    }
    for (uint32_t r = 0; r < w->rows; r++) {
        double *s = h + r * d->hidden;
        kd_before(d, y, 0, s, x);
        kd_mix(d, i, w, r, x, all_q + r * width, add);
        kd_rest(d, y, add, x, s);
        kd_end(d, y, w->inputs + ((size_t)r * d->n + i) * d->input, s);
    }
}

/* --- tokens ---------------------------------------------------------------------------------
 */

/* Layers that read upward run again and again from the same stream, up to the highest source;
 * what their queries were at last, decides. */
static inline void kd_run_slice(struct kd *d, uint32_t *at, struct kd_pass *w, double *h)
{
    uint32_t first = *at, end = first + 1, n = w->rows * d->hidden;
    uint32_t passes = w->prefill ? d->layers[first].passes : 1;
    double *saved = ARENA_NEW(d->a, double, n);

    for (uint32_t i = first; i < end; i++)
        end = d->layers[i].source + 1 > end ? d->layers[i].source + 1 : end;
    for (uint32_t i = first; i < end; i++) {
        d->layers[i].all_q = ARENA_NEW(d->a, double, (size_t)w->rows * d->heads * d->dim);
        d->layers[i].still_q = ARENA_NEW(d->a, double, (size_t)w->rows * d->heads * d->dim);
    }
    memcpy(saved, h, n * sizeof *h);
    for (uint32_t p = 0; p < passes; p++) {
        memcpy(h, saved, n * sizeof *h);
        w->unknown = !w->prefill || p == 0;
        for (uint32_t i = first; i < end; i++)
            kd_run_layer(d, i, w, h, d->layers[i].all_q);
    }
    for (uint32_t i = 0; i < end && w->prefill; i++)
        if (d->layers[i].last_reader + 1 == end)
            kd_prune_prompt(d, i, w->rows);
    *at = end;
}

/* The logits of the last of these tokens. */
static inline void kd_tokens(struct kd *d, const uint32_t *tokens, uint32_t n,
                             uint32_t position, bool prefill, double *logits)
{
    struct kd_pass w = {.rows = n, .position = position, .prefill = prefill};
    double *h = ARENA_NEW(d->a, double, (size_t)n * d->hidden), x[512], narrow[512];
    uint32_t width = d->project_out ? d->l->model->embed_width : d->hidden;
    bool naive = d->naive;

    w.before = ARENA_NEW(d->a, uint32_t, d->n);
    w.inputs = ARENA_NEW(d->a, double, (size_t)n * d->n * d->input + 1);
    for (uint32_t i = 0; i < d->n; i++) {
        w.before[i] = prefill ? 0 : d->layers[i].rows;
        d->layers[i].rows = w.before[i] + n;
    }
    for (uint32_t r = 0; r < n; r++) {
        kd_embed(d, tokens[r], position + r, h + r * d->hidden);
        kd_inputs(d, tokens[r], h + r * d->hidden, w.inputs + (size_t)r * d->n * d->input);
    }
    for (uint32_t i = 0; i < d->n;)
        kd_run_slice(d, &i, &w, h);
    if (d->after)
        memcpy(x, h + (n - 1) * d->hidden, d->hidden * sizeof *x);
    else
        kd_norm(d, h + (n - 1) * d->hidden, d->norm, 0, x);
    if (d->project_out)
        kd_product(d, memcpy(narrow, x, sizeof x), d->project_out, NULL, x, width, d->hidden);
    d->naive = false; /* logits are fp32 */
    kd_product(d, x, d->head, d->head_bias, logits, d->vocab, width);
    d->naive = naive;
    for (uint32_t i = 0; d->l->model->logit_cap && i < d->vocab; i++)
        logits[i] = d->l->model->logit_cap * tanh(logits[i] / d->l->model->logit_cap);
    for (uint32_t i = 0; i < d->n; i++)
        kd_prune_step(d, i);
}

#endif
