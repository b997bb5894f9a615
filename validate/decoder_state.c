/* Recurrent mixers in the decoder: their projections, then the kernels that run over the tokens
 * of each sequence from its state and leave it for the next ones. All of it is told as one op.
 */
#include "kernels/gemm.h"
#include "kernels/rows.h"
#include "validate/decoder_in.h"

#define EPSILON 1e-5f

struct recur { /* a layer's mixer on its way */
    struct decoder *x;
    const struct shape_layer *l;
    struct recurrence m;
    struct mixer_width width;
    uint32_t rows;
};

enum device_status decoder_clear_states(struct decoder *x, uint32_t sequence)
{
    enum device_status s = DEVICE_OK;

    for (uint32_t i = 0; i < x->s.n_layers && s == DEVICE_OK; i++) {
        uint64_t bytes = x->s.layers[i].slot_bytes;
        if (bytes)
            s = device_fill(x->d, (char *)x->slots[i] + sequence * bytes, 0, bytes);
    }
    return s;
}

static struct recur recur_of(struct decoder *x, const struct decoder_pass *w, uint32_t layer)
{
    const struct shape_layer *l = &x->s.layers[layer];
    struct recur r = {.x = x, .l = l, .rows = w->rows};
    bool keeps = l->memorizes || l->layer.state.kind == STATE_GMU;

    r.m = (struct recurrence){.state = &l->layer.state,
                              .hidden = x->s.hidden,
                              .sequences = w->prefill ? 1 : w->sequences,
                              .tokens = w->prefill ? w->rows : 1,
                              .rows_max = x->s.rows,
                              .slot_bytes = l->slot_bytes,
                              .conv_elem_bytes = l->conv_elem_bytes,
                              .state_elem_bytes = l->state_elem_bytes,
                              .in = x->mix_in,
                              .conv = x->mix_conv,
                              .y = x->mix_y,
                              .gate = x->mix_gate,
                              .rate = x->mix_rate,
                              .side = x->mix_side,
                              .memory = keeps ? x->mix_memory : NULL,
                              .slope = mixer_slope(layer, x->s.n_layers),
                              .epsilon = EPSILON,
                              .fp16 = x->s.fp16};
    if (l->slot_bytes)
        r.m.slots = (char *)x->slots[layer] + w->sequence * l->slot_bytes;
    for (int i = 0; i < N_MIX_WEIGHTS; i++)
        r.m.weight[i] = x->layers[layer].mixer[i];
    mixer_widths(r.m.state, x->s.hidden, &r.width);
    return r;
}

/* --- projections ----------------------------------------------------------------------------
 */

struct ends {                  /* of a product: elements of a row */
    uint64_t outs, in, stride; /* stride: 0 = outs */
};

static enum device_status multiply(struct recur *r, const void *from, enum mixer_weight w,
                                   void *to, struct ends n)
{
    struct decoder *x = r->x;
    struct gemm_args a = {.x = from,
                          .w = r->m.weight[w],
                          .bias = w == MIX_RATE ? r->m.weight[MIX_RATE_BIAS] : NULL,
                          .out = to,
                          .rows = r->rows,
                          .outs = (uint32_t)n.outs,
                          .in = (uint32_t)n.in,
                          .stride = (uint32_t)n.stride};

    return a.w ? decoder_product(x, &a) : DEVICE_OK;
}

/* Of the normed stream. */
static enum device_status project_to(struct recur *r, enum mixer_weight w, void *to,
                                     uint64_t outs)
{
    return multiply(r, r->x->x, w, to, (struct ends){outs, r->x->s.hidden, 0});
}

/* KDA: through a narrow matrix and a wide one. */
static enum device_status narrow(struct recur *r, enum mixer_weight low, enum mixer_weight wide,
                                 void *to)
{
    const struct mixer_width *n = &r->width;
    enum device_status s = project_to(r, low, r->x->mix_low, n->rank);

    return s == DEVICE_OK
               ? multiply(r, r->x->mix_low, wide, to, (struct ends){n->y, n->rank, 0})
               : s;
}

/* What the convolution does not depend on. */
static enum device_status project(struct recur *r)
{
    const struct mixer_width *n = &r->width;
    struct decoder *x = r->x;
    struct ends in = {n->in_outs, x->s.hidden, n->in};
    enum device_status s = multiply(r, x->x, MIX_IN, x->mix_in, in);

    if (s == DEVICE_OK)
        s = project_to(r, MIX_BETA, x->mix_side, n->side);
    if (s == DEVICE_OK && r->m.state->kind == STATE_KDA) {
        s = narrow(r, MIX_LOW, MIX_RATE, x->mix_rate);
        return s == DEVICE_OK ? narrow(r, MIX_LOW_GATE, MIX_GATE, x->mix_gate) : s;
    }
    if (s == DEVICE_OK)
        s = project_to(r, MIX_GATE, x->mix_gate, n->gate);
    if (s == DEVICE_OK && r->m.state->kind != STATE_MAMBA1)
        s = project_to(r, MIX_RATE, x->mix_rate, n->rate);
    return s;
}

/* Mamba-1: dt's rank, B or C out of their common rows, each with a norm in Jamba. */
static enum device_status low_part(struct recur *r, uint64_t first, uint64_t width, void *to)
{
    const char *norm = r->m.weight[MIX_LOW_NORM];
    struct gate_args a = {.x = (char *)r->x->mix_low + 2 * first,
                          .weight = norm ? norm + 2 * first : NULL,
                          .out = to,
                          .rows = r->rows,
                          .width = (uint32_t)width,
                          .group = (uint32_t)width,
                          .x_stride = (uint32_t)r->width.low,
                          .weight_width = (uint32_t)width,
                          .epsilon = EPSILON,
                          .norm = norm != NULL,
                          .fp16 = r->x->s.fp16};

    return gate_run(r->x->d, &a);
}

static enum device_status low_parts(struct recur *r)
{
    const struct mixer_width *w = &r->width;
    struct decoder *x = r->x;
    uint64_t n = w->side / 2;
    void *c = (char *)x->mix_side + 2 * n * x->s.rows;
    enum device_status s =
        multiply(r, x->mix_conv, MIX_LOW, x->mix_low, (struct ends){w->low, w->y, 0});

    if (s == DEVICE_OK)
        s = low_part(r, w->rank, n, x->mix_side);
    if (s == DEVICE_OK)
        s = low_part(r, w->rank + n, n, c);
    if (s == DEVICE_OK)
        s = low_part(r, 0, w->rank, x->mix_gate);
    if (s == DEVICE_OK)
        s = multiply(r, x->mix_gate, MIX_RATE, x->mix_rate, (struct ends){w->y, w->rank, 0});
    return s;
}

/* --- the mixer ------------------------------------------------------------------------------
 */

static enum device_status mix(struct recur *r)
{
    struct device *d = r->x->d;
    struct conv_args conv;
    struct scan_args scan;
    struct gate_args gate;
    enum device_status s = project(r);

    if (s == DEVICE_OK && mixer_conv(&r->m, &conv))
        s = conv_run(d, &conv);
    if (s == DEVICE_OK && r->m.state->kind == STATE_MAMBA1)
        s = low_parts(r);
    if (s == DEVICE_OK && mixer_scan(&r->m, &scan))
        s = scan_run(d, &scan);
    if (s == DEVICE_OK && mixer_gate(&r->m, &gate))
        s = gate_run(d, &gate);
    return s;
}

/* y = its first half and its second. */
static enum device_status add_halves(struct decoder *x, uint32_t rows)
{
    struct mix_args a = {.from = x->y,
                         .index = x->pair,
                         .out = x->y,
                         .rows = rows,
                         .width = x->s.hidden,
                         .terms = 2,
                         .factor = 1,
                         .fp16 = x->s.fp16,
                         .from_tag = TAG_ACTIVATION};

    return mix_run(x->d, &a);
}

enum device_status decoder_recur(struct decoder *x, const struct decoder_pass *w,
                                 uint32_t layer)
{
    struct recur r = recur_of(x, w, layer);
    struct ends out = {x->s.hidden, r.width.y, 0};
    uint64_t half = r.l->attends ? 2 * (uint64_t)x->s.rows * x->s.hidden : 0;
    enum device_status s = mix(&r);

    if (s == DEVICE_OK)
        s = multiply(&r, x->mix_y, MIX_OUT, (char *)x->y + half, out);
    if (s == DEVICE_OK && r.l->attends)
        s = add_halves(x, w->rows);
    decoder_tell(x, OP_STATE, layer, w->prefill);
    x->pending = true;
    return s;
}
