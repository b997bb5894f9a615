/* What only some models have around the blocks: embeddings with learned positions, a norm or a
 * narrow width, gates on what attention gives, halves that are added together, and biased
 * logits. */
#include "kernels/gemm.h"
#include "kernels/layer.h"
#include "kernels/rows.h"
#include "validate/decoder_in.h"

#define EPSILON 1e-5f

/* --- the stream -----------------------------------------------------------------------------
 */

static struct mix_args gather(const struct decoder *x, const void *from, const uint32_t *index,
                              uint32_t rows)
{
    return (struct mix_args){.from = from,
                             .index = index,
                             .out = x->h,
                             .rows = rows,
                             .width = x->s.hidden,
                             .terms = 1,
                             .factor = 1,
                             .fp16 = x->s.fp16,
                             .from_tag = TAG_WEIGHTS};
}

/* The rows of these tokens, as the table stores them. */
static enum device_status look_up(struct decoder *x, const struct mix_args *a)
{
    struct weight_rows_args stored = {.w = x->s.embed->view,
                                      .index = a->index,
                                      .out = a->out,
                                      .rows = a->rows,
                                      .fp16 = x->s.fp16};

    if (!x->s.embed->stored || x->s.embed->wide)
        return mix_run(x->d, a);
    weight_place(&stored.w, x->embed);
    return weight_rows_run(x->d, &stored);
}

/* BLOOM has a norm there. */
static enum device_status embedded(struct decoder *x, uint32_t rows)
{
    struct norm_args a = {.x = x->h,
                          .weight = x->embed_norm,
                          .out = x->h,
                          .rows = rows,
                          .width = x->s.hidden,
                          .epsilon = EPSILON,
                          .centred = x->s.centred,
                          .fp16 = x->s.fp16};

    if (!x->embed_norm)
        return DEVICE_OK;
    if (x->s.norm_bias)
        a.bias = (const uint16_t *)x->embed_norm + x->s.hidden;
    return norm_run(x->d, &a);
}

/* Tables are gathered from, which the planner does not count; what is multiplied it has among
 * the small things. */
enum device_status decoder_embed(struct decoder *x, const uint32_t *tokens, uint32_t rows,
                                 bool prefill)
{
    const struct model *m = x->s.problem->layout.model;
    struct decoder_pass w = {.prefill = prefill, .rows = rows};
    struct mix_args a = gather(x, x->embed, tokens, rows);
    struct mix_args p = gather(x, x->positions, x->step + x->at.position, rows);
    enum device_status s;

    if (m->embed_width) {
        a.width = m->embed_width;
        a.out = x->narrow;
    }
    a.wide_from = x->s.embed->wide;
    p.wide_from = x->s.wide_vectors;
    p.onto = x->h;
    s = look_up(x, &a);
    decoder_tell(x, OP_OTHER, x->s.n_layers, prefill);
    if (s == DEVICE_OK && m->embed_width)
        s = decoder_multiply(x, x->narrow, x->project_in, NULL, x->h, rows, x->s.hidden,
                             m->embed_width);
    decoder_tell(x, OP_ELEMENTWISE, x->s.n_layers, prefill);
    if (s == DEVICE_OK && x->positions)
        s = mix_run(x->d, &p);
    decoder_tell(x, OP_OTHER, x->s.n_layers, prefill);
    if (s == DEVICE_OK)
        s = embedded(x, rows);
    decoder_tell(x, OP_ELEMENTWISE, x->s.n_layers, prefill);
    x->pending = false;
    return s == DEVICE_OK ? decoder_inputs(x, tokens, &w) : s;
}

/* --- between the products -------------------------------------------------------------------
 */

enum device_status decoder_gate(struct decoder *x, uint32_t rows, uint32_t layer)
{
    const struct shape_layer *l = &x->s.layers[layer];
    const struct attention *t = &l->layer.attn;
    struct scale_args a = {.x = x->out,
                           .gate = x->gate,
                           .rows = rows,
                           .heads = l->q_heads,
                           .dim = l->v_dim,
                           .stride = l->q_heads * (t->output_gate ? l->v_dim : 1),
                           .gate_tag = TAG_ACTIVATION,
                           .each = t->output_gate,
                           .fp16 = x->s.fp16};
    enum device_status s = DEVICE_OK;

    if (!t->output_gate && !t->head_gate)
        return s;
    if (t->head_gate)
        s = decoder_multiply(x, x->x, x->layers[layer].head_gate, NULL, x->gate, rows,
                             l->q_heads, x->s.hidden);
    return s == DEVICE_OK ? scale_run(x->d, &a) : s;
}

void decoder_swap_side(struct decoder *x)
{
    void *y = x->y;

    x->y = x->side;
    x->side = y;
}

enum device_status decoder_add_side(struct decoder *x, uint32_t rows)
{
    struct mix_args a = gather(x, x->side, NULL, rows);

    a.onto = a.out = x->y;
    a.from_tag = TAG_ACTIVATION;
    return mix_run(x->d, &a);
}

/* --- the end --------------------------------------------------------------------------------
 */

enum device_status decoder_logits_of(struct decoder *x, const struct decoder_pass *w,
                                     float *logits)
{
    const struct model *m = x->s.problem->layout.model;
    uint32_t width = m->embed_width ? m->embed_width : x->s.hidden, rows = w->sequences;
    struct gemm_args g = {.x = m->embed_width ? x->narrow : x->x,
                          .w = x->head,
                          .out = logits,
                          .rows = rows,
                          .outs = x->s.vocab,
                          .in = width,
                          .stride = x->s.logits_stride,
                          .wide = true};
    struct logits_args b = {.x = logits,
                            .bias = x->head_bias,
                            .rows = rows,
                            .width = x->s.vocab,
                            .stride = x->s.logits_stride,
                            .cap = (float)m->logit_cap,
                            .fp16 = x->s.fp16};
    enum device_status s = DEVICE_OK;

    if (m->embed_width)
        s = decoder_multiply(x, x->x, x->project_out, NULL, x->narrow, rows, width,
                             x->s.hidden);
    decoder_tell(x, OP_ELEMENTWISE, x->s.n_layers, w->prefill);
    if (s == DEVICE_OK)
        s = decoder_product(x, &g);
    return s == DEVICE_OK && (x->head_bias || m->logit_cap) ? logits_run(x->d, &b) : s;
}
