/* Products with the decoder's weights: which tensor a pointer is in decides whether cuBLASLt
 * multiplies 16 bits or kernels/weight.h what is stored otherwise. */
#include "kernels/gemm.h"
#include "validate/decoder_in.h"

/* The tensor that holds that byte of the weights, or NULL: what engines copy is none. */
static const struct shape_tensor *tensor_of(const struct decoder *x, const void *weight,
                                            size_t *number)
{
    const struct shape *s = &x->s;
    uint64_t at = (uint64_t)((const char *)weight - x->weights);
    size_t low = 0, high = s->n_placed;

    if ((const char *)weight < x->weights || at >= s->weights_bytes)
        return NULL;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (s->placed[mid]->at <= at)
            low = mid;
        else
            high = mid;
    }
    *number = low;
    if (s->placed[low]->copy_at && at >= s->placed[low]->copy_at)
        return NULL;
    return s->placed[low];
}

const void *decoder_copy(const struct decoder *x, const void *weight, uint32_t copy)
{
    size_t number;
    const struct shape_tensor *t = weight ? tensor_of(x, weight, &number) : NULL;

    return t ? (const char *)weight + t->stride * copy : NULL;
}

const char *decoder_stored_format(const struct decoder *x)
{
    for (size_t i = 0; i < x->s.n_placed; i++)
        if (x->s.placed[i]->stored)
            return x->s.placed[i]->format->name;
    return NULL;
}

/* A product with a stored tensor that begins at `at`, as far as its weights do not say. */
static struct weight_args stored_args(const struct decoder *x, const struct gemm_args *g,
                                      const struct shape_tensor *t, const void *at)
{
    struct weight_args a = {.x = g->x,
                            .w = t->view,
                            .bias = g->bias,
                            .out = g->out,
                            .rows = g->rows,
                            .stride = g->stride ? g->stride : g->outs,
                            .fp16 = x->s.fp16,
                            .wide = g->wide,
                            .wide_bias = x->s.wide_vectors,
                            .splits = 1,
                            .work = x->gemm_work};

    weight_place(&a.w, at);
    return a;
}

/* In as many splits as keep the processors busy, and work memory is there for. */
static enum device_status multiply_stored(struct decoder *x, struct weight_args *a,
                                          uint32_t outs)
{
    if (!x->info.is_cpu && a->part.products <= 1 && !a->part.across)
        a->splits = weight_splits(a->rows, outs, a->w.in, x->info.multiprocessors);
    while (a->splits > 1 && weight_work_bytes(a) > x->gemm_bytes)
        a->splits--;
    return weight_run(x->d, a);
}

static struct gemm_args plain_args(const struct decoder *x, const struct gemm_args *g)
{
    struct gemm_args a = *g;

    a.fp16 = x->s.fp16;
    a.work = x->gemm_work;
    a.work_bytes = x->gemm_bytes;
    a.w_tag = TAG_WEIGHTS;
    return a;
}

enum device_status decoder_product_at(struct decoder *x, const struct gemm_args *g,
                                      uint32_t first)
{
    size_t number = 0;
    const struct shape_tensor *t = tensor_of(x, g->w, &number);
    uint32_t in = g->across ? g->outs : g->in, outs = g->across ? g->in : g->outs;
    struct gemm_args plain = plain_args(x, g);
    struct weight_args a;

    if (!t || !t->stored) {
        plain.w = (const uint16_t *)g->w + (uint64_t)first * in;
        return gemm_run(x->d, &plain);
    }
    a = stored_args(x, g, t, g->w);
    a.part = (struct weight_part){.first = first,
                                  .outs = outs,
                                  .products = g->products,
                                  .step = (uint32_t)(g->w_step / in),
                                  .x_stride = g->x_stride,
                                  .x_step = (uint32_t)g->x_step,
                                  .out_step = (uint32_t)g->out_step,
                                  .across = g->across};
    return multiply_stored(x, &a, outs);
}

/* Tensors that stand next to each other (gate and up) are multiplied one after the other. */
enum device_status decoder_product(struct decoder *x, const struct gemm_args *g)
{
    size_t number = 0;
    const struct shape_tensor *t = tensor_of(x, g->w, &number);
    struct gemm_args plain = plain_args(x, g);
    enum device_status s = DEVICE_OK;
    const void *at = g->w;
    uint32_t done = 0;

    if (!t || !t->stored)
        return gemm_run(x->d, &plain);
    while (done < g->outs && s == DEVICE_OK) {
        uint64_t inside = (uint64_t)((const char *)at - x->weights) - t->at;
        struct weight_args a = stored_args(x, g, t, at);
        if (!t->stored || t->view.in != g->in || t->view.outs > g->outs - done ||
            inside % t->stride)
            return device_refuse(x->d, DEVICE_UNSUPPORTED,
                                 "a part of %s in %s is not multiplied", t->t.name,
                                 t->format->name);
        a.out = (char *)g->out + (g->wide ? 4 : 2) * (uint64_t)done;
        if (g->bias)
            a.bias = (const char *)g->bias + (x->s.wide_vectors ? 4 : 2) * (uint64_t)done;
        s = multiply_stored(x, &a, t->view.outs);
        done += t->view.outs;
        t = number + 1 < x->s.n_placed ? x->s.placed[++number] : t;
        at = x->weights + t->at;
    }
    return s;
}

/* Rows of a stored matrix are products across with unit vectors, exactly: one term each. */
static enum device_status widen(struct decoder *x, const struct shape_tensor *t)
{
    uint32_t rows = t->t.out % WEIGHT_UNIT ? 8 : WEIGHT_UNIT;
    struct weight_args a = {.x = x->unit,
                            .w = t->view,
                            .part = {.outs = rows,
                                     .products = (uint32_t)(t->t.out / rows),
                                     .step = rows,
                                     .x_stride = WEIGHT_UNIT,
                                     .out_step = rows * (uint32_t)t->t.in,
                                     .across = true},
                            .out = x->weights + t->copy_at,
                            .rows = rows,
                            .fp16 = x->s.fp16,
                            .splits = 1};

    weight_place(&a.w, x->weights + t->at);
    return weight_run(x->d, &a);
}

enum device_status decoder_widen(struct decoder *x)
{
    uint16_t unit[WEIGHT_UNIT * WEIGHT_UNIT] = {0};
    enum device_status s = DEVICE_OK;

    for (int i = 0; i < WEIGHT_UNIT; i++)
        unit[i * WEIGHT_UNIT + i] = x->s.fp16 ? 0x3c00 : 0x3f80;
    if (x->s.widens)
        s = device_upload(x->d, x->unit, unit, sizeof unit);
    for (size_t i = 0; i < x->s.n_placed && s == DEVICE_OK; i++)
        if (x->s.placed[i]->copy_at)
            s = widen(x, x->s.placed[i]);
    return s;
}

enum device_status decoder_multiply(struct decoder *x, const void *from, const void *weight,
                                    const void *bias, void *to, uint32_t rows, uint64_t outs,
                                    uint64_t in)
{
    struct gemm_args a = {.x = from,
                          .w = weight,
                          .bias = bias,
                          .out = to,
                          .rows = rows,
                          .outs = (uint32_t)outs,
                          .in = (uint32_t)in};

    return decoder_product(x, &a);
}

/* --- for tests ------------------------------------------------------------------------------
 */

/* Products of unit vectors, which are the columns of one copy, in 16 bits: to[out][in]. */
static enum device_status columns(struct decoder *x, const struct shape_tensor *t,
                                  const void *weight, uint16_t *to)
{
    uint64_t in = t->t.in, out = t->t.out;
    struct gemm_args g = {
        .w = weight, .rows = (uint32_t)in, .outs = (uint32_t)out, .in = (uint32_t)in};
    struct arena *a = arena_new();
    uint16_t *unit = ARENA_NEW(a, uint16_t, in * in), *got = ARENA_NEW(a, uint16_t, in * out);
    void *from = NULL;
    enum device_status s;

    for (uint64_t i = 0; i < in; i++)
        unit[i * in + i] = x->s.fp16 ? 0x3c00 : 0x3f80;
    s = device_alloc(x->d, 2 * in * in, TAG_ACTIVATION, &from);
    if (s == DEVICE_OK)
        s = device_alloc(x->d, 2 * in * out, TAG_ACTIVATION, &g.out);
    g.x = from;
    if (s == DEVICE_OK)
        s = device_upload(x->d, from, unit, 2 * in * in);
    if (s == DEVICE_OK)
        s = decoder_product(x, &g);
    if (s == DEVICE_OK)
        s = device_sync(x->d);
    if (s == DEVICE_OK)
        s = device_download(x->d, got, g.out, 2 * in * out);
    for (uint64_t i = 0; i < in * out; i++)
        to[i % out * in + i / out] = got[i];
    (void)device_free(x->d, from);
    (void)device_free(x->d, g.out);
    arena_free(a);
    return s;
}

static enum device_status narrowed(struct decoder *x, const struct shape_tensor *t,
                                   uint16_t *to, uint64_t n)
{
    struct arena *a = arena_new();
    uint32_t *wide = ARENA_NEW(a, uint32_t, n);
    enum device_status s = device_download(x->d, wide, x->weights + t->at, 4 * n);

    for (uint64_t i = 0; i < n; i++) /* to nearest even */
        to[i] = (uint16_t)(((uint64_t)wide[i] + 0x7fffu + (wide[i] >> 16 & 1)) >> 16);
    arena_free(a);
    return s;
}

bool decoder_tensor(struct decoder *x, int layer, const char *name, uint16_t *bits,
                    uint64_t *elements)
{
    const struct shape_tensor *t = shape_tensor(&x->s, layer, name);
    enum device_status s = DEVICE_OK;
    uint64_t one;

    if (!t)
        return false;
    one = t->t.out * t->t.in;
    *elements = one * t->t.copies;
    if (!bits)
        return true;
    if (t->wide)
        return narrowed(x, t, bits, *elements) == DEVICE_OK;
    if (!t->stored)
        return device_download(x->d, bits, x->weights + t->at, 2 * *elements) == DEVICE_OK;
    for (uint64_t i = 0; i < t->t.copies && s == DEVICE_OK; i++)
        s = columns(x, t, x->weights + t->at + i * t->stride, bits + i * one);
    return s == DEVICE_OK;
}
