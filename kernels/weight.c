/* Planes, checks and traffic of products with stored weights. */
#include "kernels/weight.h"

#include <math.h>
#include <stddef.h>

#include "kernels/launch.h"

enum { OUTS = 128, WARP_OUTS = 32, TILE = 16, ROWS_FEW = 8, ROWS_MANY = 64, UNIT = 128 };
enum { ROWS_ACROSS = 8, BLOCK = 128, PRODUCT_FLOP = 2 * 16 * 8 * 16 };
enum { QUADS = 4, BLOCKS_A_PROCESSOR = 5 };

/* group: columns of a scale, 0 = as the view says; variance: of codes that are all alike
 * likely. */
static const struct kind {
    uint32_t bits, high_bits, group, scale_bytes;
    uint32_t factor_bytes; /* of the matrix, or of each scale in ggml's blocks */
    double variance;
} kinds[N_WEIGHT_KINDS] = {
    [WEIGHT_FP32] = {32, 0, UINT32_MAX, 0, 0, 1},
    [WEIGHT_FP8] = {8, 0, UINT32_MAX, 4, 0, 11501.3},
    [WEIGHT_FP8_BLOCK] = {8, 0, 128, 4, 0, 11501.3},
    [WEIGHT_INT8] = {8, 0, UINT32_MAX, 4, 0, 5461.5},
    [WEIGHT_INT8_GROUP] = {8, 0, 0, 2, 0, 5461.5},
    [WEIGHT_INT4_GROUP] = {4, 0, 0, 2, 0, 21.5},
    [WEIGHT_MXFP4] = {4, 0, 32, 1, 0, 8.5625},
    [WEIGHT_NVFP4] = {4, 0, 16, 1, 4, 8.5625},
    [WEIGHT_NF4] = {4, 0, 64, 4, 0, 0.2675},
    [WEIGHT_Q4_K] = {4, 0, 256, 12, 4, 21.25},
    [WEIGHT_Q5_K] = {4, 1, 256, 12, 4, 85.25},
    [WEIGHT_Q6_K] = {4, 2, 256, 16, 2, 341.5},
};

/* --- planes ---------------------------------------------------------------------------------
 */

static uint64_t ceil_div(uint64_t n, uint64_t d)
{
    return n / d + (n % d != 0);
}

static uint64_t code_bytes(const struct weight_view *w)
{
    return (uint64_t)w->outs * (w->in / 8) * kinds[w->kind].bits;
}

static bool in_blocks(const struct weight_view *w)
{
    return w->kind >= WEIGHT_Q4_K;
}

static uint64_t high_bytes(const struct weight_view *w)
{
    return (uint64_t)w->outs * (w->in / 8) * kinds[w->kind].high_bits;
}

static uint64_t n_scales(const struct weight_view *w)
{
    uint32_t group = kinds[w->kind].group ? kinds[w->kind].group : w->group;

    if (w->kind == WEIGHT_FP32)
        return 0;
    if (w->one_scale)
        return 1;
    return ceil_div(w->in, group) *
           (w->kind == WEIGHT_FP8_BLOCK ? ceil_div(w->outs, 128) : w->outs);
}

static uint64_t zero_bytes(const struct weight_view *w)
{
    return w->zeroed ? ceil_div(n_scales(w) * kinds[w->kind].bits, 8) : 0;
}

static uint64_t factor_bytes(const struct weight_view *w)
{
    return kinds[w->kind].factor_bytes * (in_blocks(w) ? n_scales(w) : 1);
}

uint64_t weight_bytes(const struct weight_view *w)
{
    return code_bytes(w) + high_bytes(w) + (w->ordered ? 4 * (uint64_t)w->in : 0) +
           factor_bytes(w) + n_scales(w) * kinds[w->kind].scale_bytes + zero_bytes(w);
}

static const void *plane(const char **at, bool there, uint64_t bytes)
{
    const char *p = *at;

    if (!there)
        return NULL;
    *at += bytes;
    return p;
}

void weight_place(struct weight_view *w, const void *at)
{
    const struct kind *k = &kinds[w->kind];
    const char *p = at;

    w->codes = plane(&p, true, code_bytes(w));
    w->high = plane(&p, k->high_bits != 0, high_bytes(w));
    w->order = plane(&p, w->ordered, 4 * (uint64_t)w->in);
    w->factors = plane(&p, k->factor_bytes != 0, factor_bytes(w));
    w->scales = plane(&p, k->scale_bytes != 0, n_scales(w) * k->scale_bytes);
    w->zeros = plane(&p, w->zeroed, zero_bytes(w));
}

/* --- checks ---------------------------------------------------------------------------------
 */

static bool grouped(const struct weight_view *w)
{
    return w->kind == WEIGHT_INT8_GROUP || w->kind == WEIGHT_INT4_GROUP;
}

static const char *check_view(const struct weight_view *w)
{
    bool power = w->group >= 32 && !(w->group & (w->group - 1));

    if ((int)w->kind >= (int)N_WEIGHT_KINDS)
        return "no such kind of weights";
    if (!w->outs || !w->in || w->in % 32)
        return "at least one column, sums of a multiple of 32 elements";
    if (in_blocks(w) && w->in % 256)
        return "blocks of 256 elements";
    if (w->outs > 65535 * OUTS || w->in > INT32_MAX)
        return "at most 8388480 rows and 2^31 - 1 columns";
    if (grouped(w) ? !power && w->group < w->in : w->group || w->zeroed)
        return grouped(w) ? "groups of 32 columns or more, a power of two, or of all"
                          : "this kind has no groups and zeros of its own";
    if (w->one_scale && w->kind != WEIGHT_FP8)
        return "one scale for a matrix is for fp8";
    if ((uintptr_t)w->codes % 16)
        return "operands are aligned to 16 bytes";
    return NULL;
}

/* The same with what is left out. */
static struct weight_args settled(const struct weight_args *a)
{
    struct weight_args x = *a;

    x.part.outs = a->part.outs ? a->part.outs : a->w.outs - a->part.first;
    if (a->part.products <= 1) { /* blocks of splits are no parts */
        x.part.products = 1;
        x.part.step = 0;
        x.part.x_step = x.part.out_step = 0;
    }
    if (!a->part.x_stride)
        x.part.x_stride = a->part.across ? x.part.outs : a->w.in;
    if (!a->stride)
        x.stride = a->part.across ? a->w.in : x.part.outs;
    return x;
}

static const char *check_part(const struct weight_args *a)
{
    const struct weight_part *p = &a->part;
    uint64_t last = p->first + (uint64_t)(p->products - 1) * p->step;

    if (p->first >= a->w.outs || last + p->outs > a->w.outs)
        return "a part is within the matrix";
    if (a->w.kind == WEIGHT_FP8_BLOCK && (p->first % TILE || p->step % TILE))
        return "parts of such blocks begin at a multiple of 16 rows";
    if (p->products > 65535 || (p->products > 1 && (a->bias || a->splits > 1)))
        return "up to 65535 parts, without bias and splits";
    if (p->x_stride < (p->across ? p->outs : a->w.in) || p->x_stride % 4 || p->x_step % 4)
        return "rows of x are a multiple of 4 elements apart, at least their length";
    if (p->across && (a->bias || a->wide || a->splits > 1))
        return "products across have no bias, no splits and 16-bit results";
    if (p->across && (p->outs % 8 || a->stride % 2 || p->out_step % 2))
        return "products across have sums of a multiple of 8 elements, even strides";
    return NULL;
}

static const char *check(const struct weight_args *a)
{
    const char *bad = check_view(&a->w);

    if (!bad && (!a->rows || a->rows > INT32_MAX))
        bad = "1 to 2^31 - 1 rows";
    if (!bad)
        bad = check_part(a);
    if (!bad && a->stride < (a->part.across ? a->w.in : a->part.outs))
        bad = "rows of the result overlap";
    if (!bad && (uintptr_t)a->x % 16)
        bad = "operands are aligned to 16 bytes";
    if (!bad && (!a->splits || a->splits > WEIGHT_SPLITS_MAX))
        bad = "1 to 64 splits";
    if (!bad && a->splits > 1 && !a->work)
        bad = "several splits need work memory";
    return bad;
}

uint32_t weight_splits(uint32_t rows, uint32_t outs, uint32_t in, uint32_t processors)
{
    uint64_t tiles = rows <= ROWS_FEW ? 1 : ceil_div(rows, ROWS_MANY);
    uint64_t blocks = ceil_div(outs, OUTS) * tiles;
    uint64_t want = (uint64_t)processors * BLOCKS_A_PROCESSOR / blocks;
    uint64_t most = in / (2 * UNIT);

    want = want < most ? want : most;
    want = want < WEIGHT_SPLITS_MAX ? want : WEIGHT_SPLITS_MAX;
    return want ? (uint32_t)want : 1;
}

uint64_t weight_work_bytes(const struct weight_args *a)
{
    return a->splits > 1 ? (uint64_t)a->splits * a->rows * settled(a).part.outs * 4 : 0;
}

enum device_status weight_run(struct device *d, const struct weight_args *a)
{
    struct weight_args x = settled(a);
    const char *bad = check(&x);
    enum device_status s;

    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "weight: %s", bad);
    s = device_launch(d, a->part.across ? KERNEL_weight_across : KERNEL_weight, &x);
    return s == DEVICE_OK && a->splits > 1 ? device_launch(d, KERNEL_weight_sum, &x) : s;
}

bool weight_rows_has(const struct weight_view *w)
{
    bool in_groups = grouped(w) || w->kind == WEIGHT_MXFP4 || w->kind == WEIGHT_NF4;

    return (in_groups || in_blocks(w)) && !w->ordered;
}

enum device_status weight_rows_run(struct device *d, const struct weight_rows_args *a)
{
    const char *bad = check_view(&a->w);

    if (!bad && !weight_rows_has(&a->w))
        bad = "no rows are looked up in this kind";
    if (!bad && !a->rows)
        bad = "at least one row";
    return bad ? device_refuse(d, DEVICE_BAD_ARGUMENT, "weight_rows: %s", bad)
               : device_launch(d, KERNEL_weight_rows, a);
}

/* A number that shares no factor with n. */
static uint32_t coprime(uint32_t n)
{
    static const uint32_t primes[] = {12289, 7919, 4099, 101, 53, 31, 29, 23, 19, 17, 13};

    for (size_t i = 0; i < sizeof primes / sizeof *primes; i++)
        if (n % primes[i])
            return primes[i];
    return 1;
}

enum device_status weight_fill_run(struct device *d, const struct weight_fill_args *a)
{
    struct weight_fill_args x = *a;
    const char *bad = check_view(&a->w);

    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "weight_fill: %s", bad);
    x.scale = (float)sqrt(1.0 / a->w.in / kinds[a->w.kind].variance);
    x.stride = coprime(a->w.in);
    x.codes = code_bytes(&a->w) / 16;
    x.high = high_bytes(&a->w) / 4;
    x.scales = n_scales(&a->w);
    x.zeros = zero_bytes(&a->w);
    return device_launch(d, KERNEL_weight_fill, &x);
}

/* --- traffic --------------------------------------------------------------------------------
 */

/* What is loaded of groups' scales with 16 bytes of codes. */
static uint64_t piece_scale_bytes(const struct weight_view *w)
{
    switch (w->kind) {
    case WEIGHT_FP32:
    case WEIGHT_FP8:
    case WEIGHT_FP8_BLOCK:
    case WEIGHT_INT8: break;
    case WEIGHT_INT8_GROUP:
    case WEIGHT_INT4_GROUP: return w->zeroed ? 3 : 2;
    case WEIGHT_MXFP4: return 1;
    case WEIGHT_NVFP4: return 2;
    case WEIGHT_NF4: return 4;
    case WEIGHT_Q4_K: return 6;
    case WEIGHT_Q5_K: return 10;
    case WEIGHT_Q6_K: return 12;
    }
    return 0;
}

/* Scales that are not of groups: of rows, of the matrix, of blocks. */
static void scale_traffic(const struct weight_args *a, uint64_t tiles, struct traffic *t)
{
    const struct weight_view *w = &a->w;
    uint64_t outs = a->part.outs, chunks = ceil_div(w->in, QUADS * (128 / kinds[w->kind].bits));
    uint64_t *read = &t->read_bytes[TAG_WEIGHTS];

    if (w->kind == WEIGHT_FP8_BLOCK) {
        *read += tiles * ceil_div(outs, TILE) * chunks * 32 * 4;
        t->vector_flop +=
            ceil_div(a->rows, 8) * ceil_div(outs, WARP_OUTS) * 2 * chunks * 32 * 8;
    } else if (w->kind == WEIGHT_FP8 || w->kind == WEIGHT_INT8 || w->kind == WEIGHT_NVFP4) {
        *read += a->splits * tiles * QUADS * outs * 4;
        t->vector_flop += (uint64_t)a->splits * a->rows * outs;
    }
}

/* Of one part. */
static void part_traffic(const struct weight_args *a, struct traffic *t)
{
    const struct weight_view *w = &a->w;
    uint64_t rows = a->rows, outs = a->part.outs, in = w->in, bits = kinds[w->kind].bits;
    uint64_t tiles = rows <= ROWS_FEW ? 1 : ceil_div(rows, ROWS_MANY);
    uint64_t chunks = ceil_div(in, QUADS * (128 / bits)), steps = 128 / bits / 4;
    uint64_t bias = a->bias ? (a->wide_bias ? 4 : 2) : 0;
    bool split = a->splits > 1;

    t->read_bytes[TAG_WEIGHTS] += tiles * outs * (in / 8) * bits;
    t->read_bytes[TAG_WEIGHTS] += tiles * outs * (in / (128 / bits)) * piece_scale_bytes(w);
    t->read_bytes[TAG_ACTIVATION] += ceil_div(outs, OUTS) * rows * in * 2;
    t->read_bytes[TAG_WEIGHTS] += w->ordered ? ceil_div(outs, OUTS) * rows * in * 4 : 0;
    scale_traffic(a, tiles, t);
    t->tensor_flop +=
        ceil_div(outs, WARP_OUTS) * chunks * steps * 2 * ceil_div(rows, 8) * PRODUCT_FLOP;
    t->useful_flop += 2 * rows * outs * in;
    t->conversions += bits < 16 ? tiles * outs * in : 0;
    t->read_bytes[TAG_WEIGHTS] += bias * (split ? rows * outs : tiles * QUADS * outs);
    t->vector_flop += bias ? rows * outs : 0;
    t->written_bytes[TAG_ACTIVATION] += rows * outs * (a->wide ? 4 : 2);
    if (!split)
        return;
    t->read_bytes[TAG_WORK] += a->splits * rows * outs * 4;
    t->written_bytes[TAG_WORK] += a->splits * rows * outs * 4;
    t->vector_flop += a->splits * rows * outs;
}

/* The same from the other side. Lanes share the columns of a piece by fours. */
static void across_traffic(const struct weight_args *a, uint32_t first, struct traffic *t)
{
    const struct weight_view *w = &a->w;
    uint64_t rows = a->rows, outs = a->part.outs, in = w->in, bits = kinds[w->kind].bits;
    uint64_t columns = 128 / bits, tiles = ceil_div(rows, ROWS_ACROSS), pieces = in / columns;
    uint64_t warps = tiles * ceil_div(in, 8 * columns), steps = ceil_div(outs, 16);
    uint64_t runs = (first + outs - 1) / BLOCK - first / BLOCK + 1;
    bool by_row = (w->kind == WEIGHT_FP8 && !w->one_scale) || w->kind == WEIGHT_INT8;

    t->read_bytes[TAG_WEIGHTS] += tiles * outs * pieces * (16 + piece_scale_bytes(w));
    t->read_bytes[TAG_WEIGHTS] += w->ordered ? rows * in * 4 : 0;
    t->read_bytes[TAG_ACTIVATION] += ceil_div(in, 8 * columns) * rows * outs * 2;
    t->written_bytes[TAG_ACTIVATION] += rows * in * 2;
    t->tensor_flop += warps * steps * (columns / 2) * PRODUCT_FLOP;
    t->useful_flop += 2 * rows * outs * in;
    t->conversions += bits < 16 ? tiles * outs * in : 0;
    if (w->kind == WEIGHT_FP8_BLOCK) {
        t->read_bytes[TAG_WEIGHTS] += warps * runs * 32 * 4;
        t->vector_flop += warps * runs * 32 * 4 * columns;
    } else if (by_row) {
        t->read_bytes[TAG_WEIGHTS] += tiles * outs * pieces * 4;
        t->vector_flop += tiles * outs * in;
    } else if (w->one_scale || w->kind == WEIGHT_NVFP4) {
        t->read_bytes[TAG_WEIGHTS] += tiles * pieces * 4 * 4;
        t->vector_flop += rows * in;
    }
}

void weight_traffic(const struct weight_args *a, struct traffic *t)
{
    struct weight_args x = settled(a);

    for (uint32_t i = 0; i < x.part.products; i++)
        if (x.part.across)
            across_traffic(&x, x.part.first + i * x.part.step, t);
        else
            part_traffic(&x, t);
}
