/* What ends a layer in some models: embeddings that it has for itself (Gemma 3n and 4), a
 * factor on the stream, and products whose results nothing here reads. */
#include "kernels/layer.h"
#include "kernels/rows.h"
#include "validate/decoder_in.h"

#define EPSILON 1e-5f

/* Low-rank and other matrices whose use differs from model to model are multiplied as one: the
 * rows of the tensor from `first` on. */
static enum device_status loose(struct decoder *x, const struct decoder_pass *w,
                                const void *from, const struct shape_tensor *t, uint64_t first)
{
    uint64_t n = t->t.out - first;

    return n ? decoder_multiply(x, from, x->weights + t->at + 2 * first * x->s.hidden, NULL,
                                x->other_out, w->rows, n, x->s.hidden)
             : DEVICE_OK;
}

/* --- once a pass ----------------------------------------------------------------------------
 */

/* A projection of the stream, normed layer by layer, and the rows of the tokens on top. */
static enum device_status project(struct decoder *x, const uint32_t *tokens,
                                  const struct decoder_pass *w)
{
    uint32_t width = x->s.n_layers * x->s.input_width;
    struct norm_args n = {.x = x->inputs,
                          .weight = x->input_norm,
                          .out = x->inputs,
                          .rows = w->rows * x->s.n_layers,
                          .width = x->s.input_width,
                          .epsilon = EPSILON,
                          .fp16 = x->s.fp16};
    struct mix_args m = {.from = x->input_table,
                         .index = tokens,
                         .onto = x->inputs,
                         .out = x->inputs,
                         .rows = w->rows,
                         .width = width,
                         .terms = 1,
                         .factor = 1,
                         .fp16 = x->s.fp16,
                         .from_tag = TAG_WEIGHTS};
    enum device_status s = decoder_multiply(x, x->h, x->weights + x->other->at, NULL, x->inputs,
                                            w->rows, width, x->s.hidden);

    if (s == DEVICE_OK)
        s = norm_run(x->d, &n);
    decoder_tell(x, OP_ELEMENTWISE, x->s.n_layers, w->prefill);
    if (s == DEVICE_OK)
        s = mix_run(x->d, &m);
    decoder_tell(x, OP_OTHER, x->s.n_layers, w->prefill);
    return s;
}

enum device_status decoder_inputs(struct decoder *x, const uint32_t *tokens,
                                  const struct decoder_pass *w)
{
    enum device_status s = DEVICE_OK;

    if (!x->other)
        return s;
    if (x->inputs)
        s = project(x, tokens, w);
    if (s == DEVICE_OK)
        s = loose(x, w, x->h, x->other, (uint64_t)x->s.n_layers * x->s.input_width);
    decoder_tell(x, OP_ELEMENTWISE, x->s.n_layers, w->prefill);
    return s;
}

/* --- once a layer ---------------------------------------------------------------------------
 */

/* The stream with what is still to be added to it. */
static enum device_status settle(struct decoder *x, uint32_t rows)
{
    struct mix_args a = {.from = x->y,
                         .onto = x->h,
                         .out = x->h,
                         .rows = rows,
                         .width = x->s.hidden,
                         .terms = 1,
                         .factor = 1,
                         .fp16 = x->s.fp16,
                         .from_tag = TAG_ACTIVATION};

    if (!x->pending)
        return DEVICE_OK;
    x->pending = false;
    return mix_run(x->d, &a);
}

/* gelu(stream * gate) times the layer's part of the inputs, and back to the hidden size. */
static enum device_status add_input(struct decoder *x, const struct decoder_pass *w,
                                    uint32_t layer, const struct shape_tensor *t)
{
    uint32_t width = x->s.input_width;
    const char *gate = x->weights + t->at, *back = gate + 2 * (uint64_t)width * x->s.hidden;
    struct gelu_args g = {.x = x->input_gate,
                          .out = x->input_gate,
                          .count = (uint64_t)w->rows * width,
                          .fp16 = x->s.fp16};
    struct scale_args m = {.x = x->input_gate,
                           .gate = (uint16_t *)x->inputs + (uint64_t)layer * width,
                           .rows = w->rows,
                           .heads = 1,
                           .dim = width,
                           .stride = x->s.n_layers * width,
                           .each = true,
                           .plain = true,
                           .fp16 = x->s.fp16,
                           .gate_tag = TAG_ACTIVATION};
    enum device_status s = settle(x, w->rows);

    if (s == DEVICE_OK)
        s = decoder_multiply(x, x->h, gate, NULL, x->input_gate, w->rows, width, x->s.hidden);
    if (s == DEVICE_OK)
        s = gelu_run(x->d, &g);
    if (s == DEVICE_OK)
        s = scale_run(x->d, &m);
    if (s == DEVICE_OK)
        s = decoder_multiply(x, x->input_gate, back, NULL, x->y, w->rows, x->s.hidden, width);
    x->pending = true;
    return s == DEVICE_OK ? decoder_norm_added(x, w, layer, x->s.layers[layer].norms.input) : s;
}

/* What the layer read last, normed in place for products that nothing reads. */
static enum device_status loose_norms(struct decoder *x, const struct decoder_pass *w,
                                      uint32_t layer)
{
    const struct shape_norms *n = &x->s.layers[layer].norms;
    struct norm_args a = {.x = x->x,
                          .out = x->x,
                          .rows = w->rows,
                          .width = x->s.hidden,
                          .epsilon = EPSILON,
                          .centred = x->s.centred,
                          .fp16 = x->s.fp16};
    enum device_status s = DEVICE_OK;

    for (int i = n->loose; i < n->loose_to && s == DEVICE_OK; i++) {
        a.weight = decoder_norm_at(x, layer, i);
        a.bias = x->s.norm_bias ? (const uint16_t *)a.weight + x->s.hidden : NULL;
        s = norm_run(x->d, &a);
    }
    return s;
}

/* One factor for the stream; more of them go with the products. */
static enum device_status factors(struct decoder *x, const struct decoder_pass *w,
                                  uint32_t layer)
{
    uint32_t n = (uint32_t)x->s.layers[layer].layer.vector_params;
    struct scale_args a = {.x = n == 1 ? x->h : x->other_out,
                           .gate = x->layers[layer].scalars,
                           .rows = n == 1 ? w->rows : 1,
                           .heads = 1,
                           .dim = n == 1 ? x->s.hidden : n,
                           .each = n != 1,
                           .plain = true,
                           .fp16 = x->s.fp16,
                           .gate_tag = TAG_WEIGHTS};
    enum device_status s = DEVICE_OK;

    if (!n)
        return s;
    if (n == 1)
        s = settle(x, w->rows);
    return s == DEVICE_OK ? scale_run(x->d, &a) : s;
}

enum device_status decoder_end_layer(struct decoder *x, const struct decoder_pass *w,
                                     uint32_t layer)
{
    const struct shape_tensor *other = shape_tensor(&x->s, (int)layer, "other");
    enum device_status s = DEVICE_OK;

    if (x->inputs)
        s = add_input(x, w, layer, other);
    if (s == DEVICE_OK && other)
        s = loose_norms(x, w, layer);
    if (s == DEVICE_OK && other)
        s = loose(x, w, x->x, other, 2 * (uint64_t)x->s.input_width);
    if (s == DEVICE_OK)
        s = factors(x, w, layer);
    decoder_tell(x, OP_ELEMENTWISE, layer, w->prefill);
    return s;
}
