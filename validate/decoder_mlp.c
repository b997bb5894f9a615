/* The second half of a layer: a dense MLP, or experts that are drawn at random, each of them a
 * product over the rows that chose it. */
#include <string.h>

#include "kernels/layer.h"
#include "kernels/rows.h"
#include "validate/decoder_in.h"

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

/* gate and up of an expert side by side. */
static enum device_status expert_up(struct decoder *x, const struct decoder_weights *w,
                                    uint32_t expert, uint64_t row, uint32_t width)
{
    uint32_t sides = w->gates ? 2 : 1;
    struct gemm_args a = {.x = (char *)x->expert_x + 2 * row * x->s.hidden,
                          .w = decoder_copy(x, w->gates ? w->gates : w->ups, expert),
                          .out = (char *)x->expert_gate_up + 2 * row * sides * width,
                          .rows = x->expert_rows[expert],
                          .outs = width,
                          .in = x->s.hidden,
                          .stride = sides * width};
    enum device_status s = decoder_product(x, &a);

    if (s != DEVICE_OK || !w->gates)
        return s;
    a.w = decoder_copy(x, w->ups, expert);
    a.out = (char *)a.out + 2 * (uint64_t)width;
    return decoder_product(x, &a);
}

static enum device_status all_experts(struct decoder *x, const struct decoder_weights *w,
                                      uint32_t width, bool up)
{
    enum device_status s = DEVICE_OK;
    uint64_t row = 0;

    for (uint32_t e = 0; e < x->s.experts && s == DEVICE_OK; e++) {
        uint32_t n = x->expert_rows[e];
        if (n && up)
            s = expert_up(x, w, e, row, width);
        else if (n)
            s = decoder_multiply(
                x, (char *)x->expert_act + 2 * row * width, decoder_copy(x, w->downs, e), NULL,
                (char *)x->expert_y + 2 * row * x->s.hidden, n, x->s.hidden, width);
        row += n;
    }
    return s;
}

/* The router and the gate of shared experts are multiplied; what they say is not looked at. */
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
    enum device_status s = decoder_product(x, &a);

    a.w = w->shared_gate;
    a.outs = 1;
    return s == DEVICE_OK && a.w ? decoder_product(x, &a) : s;
}

static enum device_status gather(struct decoder *x, uint32_t rows)
{
    struct mix_args a = {.from = x->x,
                         .index = x->step + x->at.expert_in,
                         .out = x->expert_x,
                         .rows = rows * x->s.top_k,
                         .width = x->s.hidden,
                         .terms = 1,
                         .factor = 1,
                         .fp16 = x->s.fp16,
                         .from_tag = TAG_ACTIVATION};

    return mix_run(x->d, &a);
}

/* Every expert counts alike. Without shared ones their row is nought. */
static enum device_status sum_up(struct decoder *x, const struct decoder_pass *w,
                                 const struct decoder_weights *y)
{
    uint64_t at = 2 * (uint64_t)w->rows * x->s.top_k * x->s.hidden;
    struct mix_args a = {.from = x->expert_y,
                         .index = x->step + x->at.expert_out,
                         .out = x->y,
                         .rows = w->rows,
                         .width = x->s.hidden,
                         .terms = x->s.top_k + 1,
                         .factor = 1.0f / (float)(x->s.top_k + (y->shared_down != NULL)),
                         .fp16 = x->s.fp16,
                         .from_tag = TAG_ACTIVATION};
    enum device_status s = DEVICE_OK;

    if (!y->shared_down)
        s = device_fill(x->d, (char *)x->expert_y + at, 0, 2 * (uint64_t)w->rows * x->s.hidden);
    return s == DEVICE_OK ? mix_run(x->d, &a) : s;
}

static enum device_status experts(struct decoder *x, const struct decoder_pass *w,
                                  uint32_t layer)
{
    const struct ffn *f = &x->s.layers[layer].layer.ffn;
    const struct decoder_weights *y = &x->layers[layer];
    uint32_t chosen = w->rows * x->s.top_k;
    struct dense shared = {y->shared_gate_up,
                           NULL,
                           y->shared_down,
                           NULL,
                           f->shared_intermediate,
                           (char *)x->expert_y + 2 * (uint64_t)chosen * x->s.hidden,
                           OP_EXPERTS};
    enum device_status s = route(x, y, w->rows);

    if (s == DEVICE_OK)
        s = gather(x, w->rows);
    if (s == DEVICE_OK)
        s = all_experts(x, y, f->moe_intermediate, true);
    decoder_tell(x, OP_EXPERTS, layer, w->prefill);
    if (s == DEVICE_OK)
        s = activate(x, x->expert_gate_up, x->expert_act, chosen, f->moe_intermediate,
                     f->gated);
    decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    if (s == DEVICE_OK)
        s = all_experts(x, y, f->moe_intermediate, false);
    if (s == DEVICE_OK && y->shared_down)
        s = dense(x, w, layer, &shared);
    if (s == DEVICE_OK)
        s = sum_up(x, w, y);
    decoder_tell(x, OP_EXPERTS, layer, w->prefill);
    return s;
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

    return y->router ? experts(x, w, layer) : dense(x, w, layer, &m);
}
