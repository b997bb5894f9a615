/* The CPU build's stand-in for cuBLASLt: plain loops over rows of weights, fp32 sums. It runs
 * outside of the fibers, so it tells the tally itself what it touched: each operand once. */
#include "kernels/gemm.h"

#include <stdlib.h>

#include "kernels/host/host.h"
#include "kernels/host/lane.h"

enum { PARTS = 8 }; /* sums under way, added up in a fixed order */

static float from_16(uint16_t h, bool fp16)
{
    return fp16 ? dev_from_fp16(h) : dev_float((uint32_t)h << 16);
}

static void widen(float *to, const uint16_t *from, uint64_t n, bool fp16)
{
    for (uint64_t i = 0; i < n; i++)
        to[i] = from_16(from[i], fp16);
}

static float dot(const float *a, const float *b, uint32_t n)
{
    float part[PARTS] = {0}, sum = 0;

    for (uint32_t i = 0; i < n; i += PARTS)
        for (uint32_t j = 0; j < PARTS; j++)
            part[j] += a[i + j] * b[i + j];
    for (uint32_t j = 0; j < PARTS; j++)
        sum += part[j];
    return sum;
}

/* Column n of the weights. */
static void column(const struct gemm_args *a, const uint16_t *w, uint32_t n, float *to)
{
    if (!a->across) {
        widen(to, w + (uint64_t)n * a->in, a->in, a->fp16);
        return;
    }
    for (uint32_t k = 0; k < a->in; k++)
        to[k] = from_16(w[(uint64_t)k * a->outs + n], a->fp16);
}

/* One of the products; room: a row of x times rows, and a column of weights. */
static void multiply(const struct gemm_args *a, float *room)
{
    uint64_t stride = a->stride ? a->stride : a->outs;
    uint64_t x_stride = a->x_stride ? a->x_stride : a->in;
    float *w = room + (uint64_t)a->rows * a->in;
    const uint16_t *bias = a->bias;

    for (uint32_t r = 0; r < a->rows; r++)
        widen(room + (uint64_t)r * a->in, (const uint16_t *)a->x + r * x_stride, a->in,
              a->fp16);
    for (uint32_t n = 0; n < a->outs; n++) {
        float b = bias ? from_16(bias[n], a->fp16) : 0;
        column(a, a->w, n, w);
        for (uint32_t r = 0; r < a->rows; r++) {
            float sum = dot(room + (uint64_t)r * a->in, w, a->in) + b;
            uint64_t at = r * stride + n;
            if (a->wide)
                ((float *)a->out)[at] = sum;
            else
                ((uint16_t *)a->out)[at] =
                    (uint16_t)(a->fp16 ? dev_pack_fp16(sum, 0) : dev_pack_bf16(sum, 0));
        }
    }
}

static bool touched(struct host_device *d, const struct gemm_args *a)
{
    uint64_t stride = a->stride ? a->stride : a->outs, width = a->wide ? 4 : 2;
    uint64_t x_stride = a->x_stride ? a->x_stride : a->in;
    const char *x = a->x;
    char *row = a->out;
    bool ok = host_touch(d, a->w, 2 * (uint64_t)a->outs * a->in, false) &&
              (!a->bias || host_touch(d, a->bias, 2 * (uint64_t)a->outs, false));

    for (uint32_t r = 0; ok && r < a->rows; r++, row += stride * width, x += 2 * x_stride)
        ok = host_touch(d, x, 2 * (uint64_t)a->in, false) &&
             host_touch(d, row, width * a->outs, true);
    return ok;
}

static struct gemm_args product_of(const struct gemm_args *a, uint32_t i)
{
    struct gemm_args one = *a;

    one.x = (const uint16_t *)a->x + i * a->x_step;
    one.w = (const uint16_t *)a->w + i * a->w_step;
    one.out = (char *)a->out + (a->wide ? 4 : 2) * i * a->out_step;
    return one;
}

enum device_status cpu_gemm(void *self, const void *args)
{
    const struct gemm_args *a = args;
    struct host_device *d = self;
    uint64_t n = (uint64_t)a->rows * a->in;
    uint32_t products = a->products ? a->products : 1;
    float *room = malloc((size_t)(n + a->in) * sizeof *room);
    enum device_status s = room ? DEVICE_OK : DEVICE_OUT_OF_MEMORY;

    if (!room)
        return host_refuse(self, s, "out of host memory");
    for (uint32_t i = 0; i < products && s == DEVICE_OK; i++) {
        struct gemm_args one = product_of(a, i);
        if (touched(d, &one))
            multiply(&one, room);
        else
            s = host_refuse(self, DEVICE_FAULT,
                            "gemm: an operand lies outside of every allocation");
    }
    free(room);
    if (s != DEVICE_OK)
        return s;
    d->tally.issued.tensor_flop += 2 * n * a->outs * products;
    d->tally.issued.useful_flop += 2 * n * a->outs * products;
    d->tally.launches++;
    return s;
}
