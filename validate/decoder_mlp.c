/* The second half of a layer: a dense MLP, experts that are drawn at random, each of them a
 * product over the rows that chose it, or both side by side. */
#include <string.h>

#include "kernels/layer.h"
#include "kernels/rows.h"
#include "validate/decoder_in.h"

#define EPSILON 1e-5f

/* --- drawing experts ------------------------------------------------------------------------
 */

/* top_k different ones, by the first steps of a shuffle; all in a row for the tables below. */
static void draw(struct decoder *x, uint32_t *experts, uint32_t *chosen)
{
    for (uint32_t j = 0; j < x->s.top_k; j++) {
        uint32_t other = j + (uint32_t)rng_below(&x->rng, x->s.experts - j);
        uint32_t e = experts[other];
        experts[other] = experts[j];
        experts[j] = chosen[j] = e;
    }
}

/* Rows of all experts stand together, in the order of the experts; a token's result is the sum
 * of its top_k rows and, last, of the shared experts' row. */
void decoder_route(struct decoder *x, uint32_t rows)
{
    uint32_t k = x->s.top_k, terms = k + 1, *host = x->host, at = 0;
    struct arena *a;
    uint32_t *experts, *chosen, *next;

    if (!k)
        return;
    a = arena_new();
    experts = ARENA_NEW(a, uint32_t, x->s.experts);
    chosen = ARENA_NEW(a, uint32_t, (size_t)rows * k);
    next = ARENA_NEW(a, uint32_t, x->s.experts);
    memset(x->expert_rows, 0, x->s.experts * sizeof *x->expert_rows);
    for (uint32_t e = 0; e < x->s.experts; e++)
        experts[e] = e;
    for (uint32_t r = 0; r < rows; r++)
        draw(x, experts, chosen + (size_t)r * k);
    for (uint32_t i = 0; i < rows * k; i++)
        x->expert_rows[chosen[i]]++;
    for (uint32_t e = 0; e < x->s.experts; at += x->expert_rows[e++])
        next[e] = at;
    for (uint32_t i = 0; i < rows * k; i++) {
        uint32_t to = next[chosen[i]]++;
        host[x->at.expert_in + to] = i / k;
        host[x->at.expert_out + i / k * terms + i % k] = to;
    }
    for (uint32_t r = 0; r < rows; r++)
        host[x->at.expert_out + r * terms + k] = rows * k + r;
    arena_free(a);
}

/* --- products -------------------------------------------------------------------------------
 */

static enum device_status activate(struct decoder *x, const void *from, void *to, uint32_t rows,
                                   uint32_t width, bool gated)
{
    struct swiglu_args s = {
        .gate_up = from, .out = to, .rows = rows, .width = width, .fp16 = x->s.fp16};
    struct gelu_args g = {
        .x = from, .out = to, .count = (uint64_t)rows * width, .fp16 = x->s.fp16};

    return gated ? swiglu_run(x->d, &s) : gelu_run(x->d, &g);
}

struct dense {
    const void *gate_up, *up_bias, *down, *down_bias;
    uint32_t width;
    void *out;
    enum op op;
};

static enum device_status dense(struct decoder *x, const struct decoder_pass *w, uint32_t layer,
                                const struct dense *m)
{
    bool gated = x->s.layers[layer].layer.ffn.gated;
    uint64_t width = m->width;
    enum device_status s = decoder_multiply(x, x->x, m->gate_up, m->up_bias, x->gate_up,
                                            w->rows, gated ? 2 * width : width, x->s.hidden);

    decoder_tell(x, m->op, layer, w->prefill);
    if (s == DEVICE_OK)
        s = activate(x, x->gate_up, x->act, w->rows, m->width, gated);
    decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    if (s == DEVICE_OK)
        s = decoder_multiply(x, x->act, m->down, m->down_bias, m->out, w->rows, x->s.hidden,
                             width);
    decoder_tell(x, m->op, layer, w->prefill);
    return s;
}

/* --- experts --------------------------------------------------------------------------------
 */

struct expert { /* one of a layer, and its first row among those of all */
    const struct decoder_weights *w;
    uint32_t number, width;
    uint32_t wide; /* what it reads and gives: the hidden size, or a latent */
    uint64_t row;
};

/* gate and up of an expert side by side; so are their biases. */
static enum device_status expert_up(struct decoder *x, const struct expert *e)
{
    const struct decoder_weights *w = e->w;
    uint32_t sides = w->gates ? 2 : 1, width = e->width;
    const char *bias = decoder_copy(x, w->up_biases, e->number);
    struct gemm_args a = {.x = (char *)x->expert_x + 2 * e->row * e->wide,
                          .w = decoder_copy(x, w->gates ? w->gates : w->ups, e->number),
                          .bias = bias,
                          .out = (char *)x->expert_gate_up + 2 * e->row * sides * width,
                          .rows = x->expert_rows[e->number],
                          .outs = width,
                          .in = e->wide,
                          .stride = sides * width};
    enum device_status s = decoder_product(x, &a);

    if (s != DEVICE_OK || !w->gates)
        return s;
    a.w = decoder_copy(x, w->ups, e->number);
    a.bias = bias ? bias + (x->s.wide_vectors ? 4 : 2) * (uint64_t)width : NULL;
    a.out = (char *)a.out + 2 * (uint64_t)width;
    return decoder_product(x, &a);
}

static enum device_status expert_down(struct decoder *x, const struct expert *e)
{
    return decoder_multiply(x, (char *)x->expert_act + 2 * e->row * e->width,
                            decoder_copy(x, e->w->downs, e->number),
                            decoder_copy(x, e->w->down_biases, e->number),
                            (char *)x->expert_y + 2 * e->row * e->wide,
                            x->expert_rows[e->number], e->wide, e->width);
}

static enum device_status all_experts(struct decoder *x, struct expert e, bool up)
{
    enum device_status s = DEVICE_OK;

    for (; e.number < x->s.experts && s == DEVICE_OK; e.number++) {
        if (x->expert_rows[e.number])
            s = up ? expert_up(x, &e) : expert_down(x, &e);
        e.row += x->expert_rows[e.number];
    }
    return s;
}

/* The router and the gate of shared experts are multiplied; what they say is not looked at.
 * Some routers read the stream, scaled anew, and have a scale an expert (gemma4), which is
 * added here as if it were a bias. */
static enum device_status route(struct decoder *x, const struct decoder_weights *w,
                                uint32_t rows)
{
    struct gemm_args a = {.x = x->x,
                          .w = w->router,
                          .out = x->router,
                          .rows = rows,
                          .outs = x->s.experts,
                          .in = x->s.hidden,
                          .wide = true};
    struct logits_args b = {.x = x->router,
                            .bias = w->router_bias,
                            .rows = rows,
                            .width = x->s.experts,
                            .stride = x->s.experts,
                            .fp16 = x->s.fp16};
    struct norm_args n = {.x = x->h,
                          .weight = w->router_scales,
                          .out = x->expert_x,
                          .rows = rows,
                          .width = x->s.hidden,
                          .epsilon = EPSILON,
                          .fp16 = x->s.fp16};
    enum device_status s = DEVICE_OK;

    if (w->router_scales) {
        a.x = n.out;
        b.bias = (const uint16_t *)w->router_scales + x->s.hidden;
        s = norm_run(x->d, &n);
    }
    if (s == DEVICE_OK)
        s = decoder_product(x, &a);
    if (s == DEVICE_OK && b.bias)
        s = logits_run(x->d, &b);
    a.x = x->x;
    a.w = w->shared_gate;
    a.outs = 1;
    return s == DEVICE_OK && a.w ? decoder_product(x, &a) : s;
}

static enum device_status gather(struct decoder *x, const struct decoder_weights *w,
                                 uint32_t wide, uint32_t rows)
{
    struct mix_args a = {.from = w->latent_in ? x->latent : x->x,
                         .index = x->step + x->at.expert_in,
                         .out = x->expert_x,
                         .rows = rows * x->s.top_k,
                         .width = wide,
                         .terms = 1,
                         .factor = 1,
                         .fp16 = x->s.fp16,
                         .from_tag = TAG_ACTIVATION};
    enum device_status s = DEVICE_OK;

    if (w->latent_in)
        s = decoder_multiply(x, x->x, w->latent_in, NULL, x->latent, rows, wide, x->s.hidden);
    return s == DEVICE_OK ? mix_run(x->d, &a) : s;
}

/* Every expert counts alike. Without shared ones their row is nought; beside experts with a
 * latent they are added after it. */
static enum device_status sum_up(struct decoder *x, const struct decoder_pass *w,
                                 const struct decoder_weights *y, uint32_t wide)
{
    uint64_t at = 2 * (uint64_t)w->rows * x->s.top_k * wide;
    bool among = y->shared_down && !y->latent_out;
    struct mix_args a = {.from = x->expert_y,
                         .index = x->step + x->at.expert_out,
                         .out = y->latent_out ? x->latent : x->y,
                         .rows = w->rows,
                         .width = wide,
                         .terms = x->s.top_k + 1,
                         .factor = 1.0f / (float)(x->s.top_k + among),
                         .fp16 = x->s.fp16,
                         .from_tag = TAG_ACTIVATION};
    enum device_status s = DEVICE_OK;

    if (!among)
        s = device_fill(x->d, (char *)x->expert_y + at, 0, 2 * (uint64_t)w->rows * wide);
    if (s == DEVICE_OK)
        s = mix_run(x->d, &a);
    if (s != DEVICE_OK || !y->latent_out)
        return s;
    s = decoder_multiply(x, x->latent, y->latent_out, NULL, x->y, w->rows, x->s.hidden, wide);
    return s == DEVICE_OK && y->shared_down ? decoder_add_side(x, w->rows) : s;
}

static enum device_status experts(struct decoder *x, const struct decoder_pass *w,
                                  uint32_t layer)
{
    const struct ffn *f = &x->s.layers[layer].layer.ffn;
    const struct decoder_weights *y = &x->layers[layer];
    uint32_t chosen = w->rows * x->s.top_k;
    struct expert first = {y, 0, f->moe_intermediate,
                           f->moe_latent ? f->moe_latent : x->s.hidden, 0};
    char *shared_row = (char *)x->expert_y + 2 * (uint64_t)chosen * x->s.hidden;
    struct dense shared = {y->shared_gate_up,
                           NULL,
                           y->shared_down,
                           NULL,
                           f->shared_intermediate,
                           y->latent_in ? x->side : shared_row,
                           OP_EXPERTS};
    enum device_status s = route(x, y, w->rows);

    if (s == DEVICE_OK)
        s = gather(x, y, first.wide, w->rows);
    if (s == DEVICE_OK)
        s = all_experts(x, first, true);
    decoder_tell(x, OP_EXPERTS, layer, w->prefill);
    if (s == DEVICE_OK)
        s = activate(x, x->expert_gate_up, x->expert_act, chosen, f->moe_intermediate,
                     f->gated);
    decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    if (s == DEVICE_OK)
        s = all_experts(x, first, false);
    if (s == DEVICE_OK && y->shared_down)
        s = dense(x, w, layer, &shared);
    if (s == DEVICE_OK)
        s = sum_up(x, w, y, first.wide);
    decoder_tell(x, OP_EXPERTS, layer, w->prefill);
    return s;
}

/* An MLP and experts are added, each with norms of its own where the block has them. source:
 * HF transformers, gemma4 */
static enum device_status both(struct decoder *x, const struct decoder_pass *w, uint32_t layer,
                               const struct dense *m)
{
    const struct shape_norms *n = &x->s.layers[layer].norms;
    const void *before = decoder_norm_at(x, layer, n->experts_before);
    enum device_status s = dense(x, w, layer, m);

    if (s == DEVICE_OK)
        s = decoder_norm_added(x, w, layer, n->dense_after);
    decoder_swap_side(x);
    if (s == DEVICE_OK && before)
        s = decoder_norm(x, before, 0, w->rows);
    decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    if (s == DEVICE_OK)
        s = experts(x, w, layer);
    if (s == DEVICE_OK)
        s = decoder_norm_added(x, w, layer, n->experts_after);
    return s == DEVICE_OK ? decoder_add_side(x, w->rows) : s;
}

enum device_status decoder_mlp(struct decoder *x, const struct decoder_pass *w, uint32_t layer)
{
    const struct decoder_weights *y = &x->layers[layer];
    struct dense m = {y->gate_up,
                      y->up_bias,
                      y->down,
                      y->down_bias,
                      x->s.layers[layer].layer.ffn.intermediate,
                      x->y,
                      OP_MLP};

    if (y->router && y->down)
        return both(x, w, layer, &m);
    return y->router ? experts(x, w, layer) : dense(x, w, layer, &m);
}
