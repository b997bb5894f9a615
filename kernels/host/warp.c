/* What the 32 threads of a warp compute together, on the documented layouts (PTX ISA), and the
 * calls that bring a thread there. */
#include "kernels/host/lane.h"

const char *host_wait_name(enum host_wait w)
{
    switch (w) {
    case HOST_NONE: return "nothing";
    case HOST_DONE: return "end";
    case HOST_BARRIER: return "barrier";
    case HOST_SCORES:
    case HOST_VALUES: return "product of tiles";
    case HOST_SYNC: return "warp barrier";
    case HOST_SUM:
    case HOST_SUM_ROWS: return "warp sum";
    case HOST_MAX:
    case HOST_MAX_ROWS: return "warp maximum";
    case HOST_TRANSPOSE: return "matrix transposition";
    case HOST_SHUFFLE: return "shuffle";
    case HOST_BALLOT: return "ballot";
    case HOST_MMA_BF16:
    case HOST_MMA_FP16: return "matrix product";
    case HOST_LDMATRIX:
    case HOST_LDMATRIX_TRANSPOSED: return "matrix load";
    }
    return "?";
}

/* A butterfly in the order of the GPU's, so that sums round alike: strides from width / 2 down
 * to `last`. */
static void reduce(struct lane *warp, bool sum, uint32_t width, uint32_t last)
{
    float x[WARP], y[WARP];

    for (uint32_t i = 0; i < WARP; i++)
        x[i] = warp[i].in.f;
    for (uint32_t step = width / 2; step >= last; step /= 2) {
        for (uint32_t i = 0; i < WARP; i++)
            y[i] = sum ? x[i] + x[i ^ step] : fmaxf(x[i], x[i ^ step]);
        memcpy(x, y, sizeof x);
    }
    for (uint32_t i = 0; i < WARP; i++)
        warp[i].out.f = x[i];
}

static void shuffle(struct lane *warp, uint32_t width)
{
    for (uint32_t i = 0; i < WARP; i++) {
        uint32_t from = i / width * width + warp[i].in.r[1] % width;
        warp[i].out.u = warp[from].in.r[0];
    }
}

static void transpose(struct lane *warp)
{
    for (uint32_t i = 0; i < WARP; i++) {
        uint32_t g = i / 4, low = i % 4 * 2 * 4 + g / 2, shift = 16 * (g % 2);
        warp[i].out.u =
            (warp[low].in.u >> shift & 0xffffu) | (warp[low + 4].in.u >> shift & 0xffffu) << 16;
    }
}

static void ballot(struct lane *warp)
{
    uint32_t bits = 0;

    for (uint32_t i = 0; i < WARP; i++)
        bits |= (uint32_t)(warp[i].in.u != 0) << i;
    for (uint32_t i = 0; i < WARP; i++)
        warp[i].out.u = bits;
}

static float half_of(uint32_t word, uint32_t i, bool bf16)
{
    uint16_t h = (uint16_t)(word >> 16 * i);

    return bf16 ? dev_float((uint32_t)h << 16) : dev_from_fp16(h);
}

/* The products of 16-bit elements are exact in double; the sum is rounded to fp32 once. */
static void mma(struct lane *warp, bool bf16)
{
    float a[16][16], b[16][8];

    for (uint32_t i = 0; i < WARP; i++) {
        const union host_slot *in = &warp[i].in;
        uint32_t g = i / 4, q = i % 4;
        for (uint32_t e = 0; e < 2; e++) {
            for (uint32_t r = 0; r < 4; r++)
                a[g + r % 2 * 8][2 * q + r / 2 * 8 + e] = half_of(in->mma.a[r], e, bf16);
            for (uint32_t r = 0; r < 2; r++)
                b[2 * q + r * 8 + e][g] = half_of(in->mma.b[r], e, bf16);
        }
    }
    for (uint32_t i = 0; i < WARP; i++)
        for (uint32_t r = 0; r < 4; r++) {
            uint32_t row = i / 4 + r / 2 * 8, col = i % 4 * 2 + r % 2;
            double sum = warp[i].in.mma.c[r];
            for (uint32_t k = 0; k < 16; k++)
                sum += (double)a[row][k] * (double)b[k][col];
            warp[i].out.mma.c[r] = (float)sum;
        }
}

static void ldmatrix(struct lane *warp, bool transposed)
{
    uint16_t m[4][8][8];

    for (uint32_t i = 0; i < WARP; i++)
        memcpy(m[i / 8][i % 8], warp[i].in.p, 16);
    for (uint32_t i = 0; i < WARP; i++)
        for (uint32_t r = 0; r < 4; r++) {
            uint32_t g = i / 4, k = i % 4 * 2;
            uint32_t low = transposed ? m[r][k][g] : m[r][g][k];
            uint32_t high = transposed ? m[r][k + 1][g] : m[r][g][k + 1];
            warp[i].out.r[r] = low | high << 16;
        }
}

void host_meeting(struct lane *warp, enum host_wait w, uint32_t width)
{
    switch (w) {
    case HOST_NONE:
    case HOST_DONE:
    case HOST_BARRIER:
    case HOST_SCORES:
    case HOST_VALUES:
    case HOST_SYNC: return;
    case HOST_SUM:
    case HOST_MAX: reduce(warp, w == HOST_SUM, width, 1); return;
    case HOST_SUM_ROWS:
    case HOST_MAX_ROWS: reduce(warp, w == HOST_SUM_ROWS, width, 4); return;
    case HOST_TRANSPOSE: transpose(warp); return;
    case HOST_SHUFFLE: shuffle(warp, width); return;
    case HOST_BALLOT: ballot(warp); return;
    case HOST_MMA_BF16:
    case HOST_MMA_FP16: mma(warp, w == HOST_MMA_BF16); return;
    case HOST_LDMATRIX:
    case HOST_LDMATRIX_TRANSPOSED: ldmatrix(warp, w == HOST_LDMATRIX_TRANSPOSED); return;
    }
}

static void check_width(struct lane *t, uint32_t width, const char *place)
{
    if (!width || width > WARP || (width & (width - 1)))
        host_fault(t, place, "a group of %u threads", width);
}

float host_reduce(struct lane *t, enum host_wait w, float x, uint32_t width, const char *place)
{
    check_width(t, width, place);
    t->in.f = x;
    host_meet(t, w, width, place);
    return t->out.f;
}

uint32_t host_shuffle(struct lane *t, uint32_t x, uint32_t i, uint32_t width, const char *place)
{
    check_width(t, width, place);
    t->in.r[0] = x;
    t->in.r[1] = i;
    host_meet(t, HOST_SHUFFLE, width, place);
    return t->out.u;
}

uint32_t host_transpose(struct lane *t, uint32_t x, const char *place)
{
    t->in.u = x;
    host_meet(t, HOST_TRANSPOSE, 0, place);
    return t->out.u;
}

uint32_t host_ballot(struct lane *t, bool x, const char *place)
{
    t->in.u = x;
    host_meet(t, HOST_BALLOT, 0, place);
    return t->out.u;
}

void host_mma(struct lane *t, enum host_wait w, float *c, const uint32_t *a, const uint32_t *b,
              const char *place)
{
    memcpy(t->in.mma.c, c, sizeof t->in.mma.c);
    memcpy(t->in.mma.a, a, sizeof t->in.mma.a);
    memcpy(t->in.mma.b, b, sizeof t->in.mma.b);
    host_meet(t, w, 0, place);
    memcpy(c, t->out.mma.c, sizeof t->out.mma.c);
}

void host_ldmatrix(struct lane *t, enum host_wait w, uint32_t *r, const void *row,
                   const char *place)
{
    host_check_shared(t, row, 16, place);
    t->in.p = row;
    host_meet(t, w, 0, place);
    memcpy(r, t->out.r, sizeof t->out.r);
}
