/* Rows of activations: a thread takes 8 elements, wherever they lie. */
#include "kernels/dev.h"

#include "kernels/rows.h"

DEV uint64_t unit_of(struct lane *t)
{
    return (uint64_t)dev_block(t, 0) * ROWS_THREADS + dev_thread(t);
}

DEV void unpack(const struct vec128 *v, bool fp16, float *x)
{
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        x[i] = dev_from_16((uint16_t)(v->w[i / 2] >> 16 * (i % 2)), fp16);
}

DEV struct vec128 packed(const float *x, bool fp16)
{
    struct vec128 v;

    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        v.w[i] = dev_pack_16(x[2 * i], x[2 * i + 1], fp16);
    return v;
}

DEV void load_eight(struct lane *t, const struct mix_args *a, uint64_t at, float *x)
{
    struct vec128 v = dev_load128(t, (const char *)a->from + (a->wide_from ? 4 : 2) * at);

    if (!a->wide_from) {
        unpack(&v, a->fp16, x);
        return;
    }
    UNROLL
    for (uint32_t i = 0; i < 8; i++) {
        if (i == 4)
            v = dev_load128(t, (const float *)a->from + at + 4);
        x[i] = dev_float(v.w[i % 4]);
    }
}

DEV void mix_body(struct lane *t, const struct mix_args *a)
{
    uint64_t unit = unit_of(t), row = unit / (a->width / 8);
    uint32_t first = (uint32_t)(unit % (a->width / 8)) * 8;
    float sum[8] = {0, 0, 0, 0, 0, 0, 0, 0}, x[8];

    if (row >= a->rows)
        return;
    for (uint32_t j = 0; j < a->terms; j++) {
        uint64_t at = row * a->terms + j;
        uint64_t from = a->index ? dev_load32(t, a->index + at) : at;
        load_eight(t, a, from * a->width + first, x);
        UNROLL
        for (uint32_t i = 0; i < 8; i++)
            sum[i] += x[i];
    }
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        sum[i] *= a->factor;
    dev_flop(t, 8 * (a->terms + 1), 0);
    if (a->onto) {
        struct vec128 v = dev_load128(t, (const uint16_t *)a->onto + row * a->width + first);
        unpack(&v, a->fp16, x);
        UNROLL
        for (uint32_t i = 0; i < 8; i++)
            sum[i] += x[i];
        dev_flop(t, 8, 0);
    }
    dev_store128(t, (uint16_t *)a->out + row * a->width + first, packed(sum, a->fp16));
}

/* x / (1 + exp(-2 y)), y = sqrt(2 / pi) (x + 0.044715 x^3): the half of 1 + tanh(y). */
DEV void gelu_body(struct lane *t, const struct gelu_args *a)
{
    uint64_t at = unit_of(t) * 8;
    struct vec128 v;
    float x[8];

    if (at >= a->count)
        return;
    v = dev_load128(t, (const uint16_t *)a->x + at);
    unpack(&v, a->fp16, x);
    UNROLL
    for (uint32_t i = 0; i < 8; i++) {
        float y = x[i] * (2.302208198f + 0.1029432396f * x[i] * x[i]); /* 2 y / ln 2 */
        x[i] = x[i] / (1.0f + dev_exp2(-y));
    }
    dev_flop(t, 40, 0);
    dev_exps(t, 8);
    dev_store128(t, (uint16_t *)a->out + at, packed(x, a->fp16));
}

/* 24 bits of a 32-bit hash (the finalizer of MurmurHash3, twice); products wrap in 64 bits, and
 * are cut to 32. */
DEV uint32_t mixed(uint32_t h)
{
    h ^= h >> 16;
    h = (uint32_t)((uint64_t)h * 0x85ebca6bu & 0xffffffffu);
    h ^= h >> 13;
    h = (uint32_t)((uint64_t)h * 0xc2b2ae35u & 0xffffffffu);
    return h ^ h >> 16;
}

DEV void noise_body(struct lane *t, const struct noise_args *a)
{
    uint64_t at = unit_of(t) * 8;
    float x[8];

    if (at >= a->count)
        return;
    UNROLL
    for (uint32_t i = 0; i < 8; i++) {
        uint64_t n = at + i;
        uint32_t h = mixed((uint32_t)n ^ (uint32_t)a->seed);
        h = mixed(h ^ (uint32_t)(n >> 32) ^ (uint32_t)(a->seed >> 32) ^ 0x9e3779b9u);
        x[i] = a->mean + a->spread * ((float)(h >> 8) * 5.9604644775390625e-8f - 0.5f);
    }
    dev_flop(t, 16, 0);
    if (a->wide)
        UNROLL
    for (uint32_t i = 0; i < 8; i++)
        dev_store_float(t, (float *)a->out + at + i, x[i]);
    else dev_store128(t, (uint16_t *)a->out + at, packed(x, a->fp16));
}

KERNEL(mix_kernel, ROWS_THREADS, struct mix_args, mix_body(t, a))
KERNEL(gelu_kernel, ROWS_THREADS, struct gelu_args, gelu_body(t, a))
KERNEL(noise_kernel, ROWS_THREADS, struct noise_args, noise_body(t, a))

static struct shape shape_of(uint64_t units)
{
    struct shape s = {
        {(uint32_t)((units + ROWS_THREADS - 1) / ROWS_THREADS), 1, 1}, ROWS_THREADS, 0};

    return s;
}

LAUNCHER(mix)
{
    const struct mix_args *a = (const struct mix_args *)args;
    struct shape s = shape_of((uint64_t)a->rows * (a->width / 8));

    return LAUNCH(mix_kernel, s, a);
}

LAUNCHER(gelu)
{
    const struct gelu_args *a = (const struct gelu_args *)args;
    struct shape s = shape_of(a->count / 8);

    return LAUNCH(gelu_kernel, s, a);
}

LAUNCHER(noise)
{
    const struct noise_args *a = (const struct noise_args *)args;
    struct shape s = shape_of(a->count / 8);

    return LAUNCH(noise_kernel, s, a);
}
