/* kernel_weight: products with stored weights against double precision, for every kind of
 * codes and scales (tests/kvweight.h lays out the matrix and reads it in double). The error is
 * at most twice that of a program that rounds each weight to 16 bits and adds up in fp32.
 * Traffic as the formula says, each byte of the matrix once. Parts of a matrix, and products
 * from its other side, in the same way. */
#include "tests/kvweight.h"

struct operands {
    double *x, *bias;
    double *w; /* [outs][in], columns as x has them */
    struct weight_args a;
};

/* --- products -------------------------------------------------------------------------------
 */

static void *random_16(struct kk *k, enum tag tag, uint64_t n, bool fp16, double **values)
{
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n);

    *values = ARENA_NEW(k->a, double, n);
    for (uint64_t i = 0; i < n; i++) {
        double x = kk_normal(k);
        bits[i] = fp16 ? ks_bits_fp16(x) : ks_bits_bf16(x);
        (*values)[i] = kw_half(bits[i], fp16);
    }
    return kk_put(k, tag, bits, 2 * n);
}

static void *bias_of(struct kk *k, const struct kw_kind *f, const struct kw_product *p,
                     double **out)
{
    float *wide = ARENA_NEW(k->a, float, p->outs);

    if (f->kind != WEIGHT_FP32)
        return random_16(k, TAG_WEIGHTS, p->outs, p->fp16, out);
    *out = ARENA_NEW(k->a, double, p->outs);
    for (uint32_t i = 0; i < p->outs; i++) {
        wide[i] = (float)kk_normal(k);
        (*out)[i] = (double)wide[i];
    }
    return kk_put(k, TAG_WEIGHTS, wide, 4ull * p->outs);
}

static struct operands operands(struct kk *k, const struct kw_kind *f,
                                const struct kw_product *p)
{
    struct operands o = {.a = {.rows = p->rows,
                               .stride = p->stride,
                               .fp16 = p->fp16,
                               .wide = p->wide,
                               .wide_bias = f->kind == WEIGHT_FP32,
                               .splits = p->splits}};
    uint64_t stride = p->stride ? p->stride : p->outs;
    struct kw_planes m = kw_planes_of(k, f, p);
    const void *at;

    kw_mend_codes(k, f, &m);
    kw_fill_scales(k, f, &m, kw_scales_of(f, p), p->fp16);
    if (f->ordered)
        kw_shuffle(k, m.order, p->in);
    o.w = kw_matrix(k, f, &m, p);
    o.a.w = (struct weight_view){.kind = f->kind,
                                 .outs = p->outs,
                                 .in = p->in,
                                 .one_scale = f->one_scale,
                                 .zeroed = f->zeroed,
                                 .ordered = f->ordered};
    if (f->kind == WEIGHT_INT8_GROUP || f->kind == WEIGHT_INT4_GROUP)
        o.a.w.group = f->group;
    kt_u64(weight_bytes(&o.a.w), m.bytes);
    at = kk_put(k, TAG_WEIGHTS, m.codes, m.bytes);
    weight_place(&o.a.w, at);
    o.a.x = random_16(k, TAG_ACTIVATION, (uint64_t)p->rows * p->in, p->fp16, &o.x);
    if (p->bias)
        o.a.bias = bias_of(k, f, p, &o.bias);
    o.a.out = kk_new(k, TAG_ACTIVATION, (p->wide ? 4 : 2) * p->rows * stride);
    if (p->splits > 1)
        o.a.work = kk_new(k, TAG_WORK, weight_work_bytes(&o.a));
    return o;
}

static double result(const struct kw_product *p, const char *out, uint64_t i)
{
    uint16_t h;
    float x;

    if (p->wide) {
        memcpy(&x, out + 4 * i, sizeof x);
        return (double)x;
    }
    memcpy(&h, out + 2 * i, sizeof h);
    return kw_half(h, p->fp16);
}

struct error { /* sums of squares */
    double ours, naive, size;
};

static void one_error(const struct kw_product *p, const struct operands *o, uint32_t r,
                      uint32_t n, double got, struct error *e)
{
    double want = p->bias ? o->bias[n] : 0, naive;
    float sum = (float)want;

    for (uint32_t i = 0; i < p->in; i++) {
        double x = o->x[(size_t)r * p->in + i], w = o->w[(size_t)n * p->in + i];
        want += x * w;
        sum += (float)(x * kw_rounded(w, p->fp16));
    }
    naive = p->wide ? (double)sum : kw_rounded((double)sum, p->fp16);
    e->ours += pow(got - want, 2);
    e->naive += pow(naive - want, 2);
    e->size += want * want;
}

static void accurate(struct kk *k, const struct kw_product *p, const struct operands *o)
{
    uint64_t stride = p->stride ? p->stride : p->outs, width = p->wide ? 4 : 2;
    char *out = ARENA_NEW(k->a, char, width * p->rows * stride);
    struct error e = {0, 0, 0};

    kk_get(k, out, o->a.out, width * p->rows * stride);
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t n = 0; n < p->outs; n++)
            one_error(p, o, r, n, result(p, out, r * stride + n), &e);
    if (!(sqrt(e.ours) <= 2 * sqrt(e.naive) + 1e-6 * sqrt(e.size)))
        print_error("kind %d, %u x %u x %u: error %g, naive %g, of %g\n", o->a.w.kind, p->rows,
                    p->outs, p->in, sqrt(e.ours), sqrt(e.naive), sqrt(e.size));
    assert_true(sqrt(e.ours) <= 2 * sqrt(e.naive) + 1e-6 * sqrt(e.size));
    if (p->stride > p->outs) /* what lies between the rows is left alone: poison */
        assert_int_equal((uint8_t)out[width * p->outs], 0xff);
}

static void counted(struct kk *k, const struct kw_kind *f, const struct kw_product *p,
                    const struct operands *o)
{
    struct tally want = {.launches = p->splits > 1 ? 2 : 1}, got;
    uint64_t bias = p->bias ? (f->kind == WEIGHT_FP32 ? 4 : 2) : 0;

    weight_traffic(&o->a, &want.issued);
    kt_u64(want.issued.useful_flop, 2ull * p->rows * p->outs * p->in);
    want.unique_read_bytes[TAG_WEIGHTS] = weight_bytes(&o->a.w) + bias * p->outs;
    want.unique_read_bytes[TAG_ACTIVATION] = 2ull * p->rows * p->in;
    want.unique_written_bytes[TAG_ACTIVATION] = (p->wide ? 4ull : 2ull) * p->rows * p->outs;
    want.unique_read_bytes[TAG_WORK] = want.unique_written_bytes[TAG_WORK] =
        weight_work_bytes(&o->a);
    kk_tally(k, &want);
    if (kk_seen(k, &got))
        kt_u64(got.issued.conversions, want.issued.conversions);
}

/* Blocks of 256 columns need as many. */
static struct kw_product fitted(const struct kw_kind *f, const struct kw_product *p)
{
    struct kw_product x = *p;

    if (f->block_factor_bytes)
        x.in = (p->in + 255) / 256 * 256;
    return x;
}

static void products(void **state)
{
    static const struct kw_product cases[] = {
        {1, 5, 32, 0, 1, false, false, false},   {3, 17, 96, 20, 1, true, false, false},
        {8, 130, 288, 0, 1, false, true, false}, {9, 33, 160, 0, 1, true, false, true},
        {2, 36, 416, 0, 3, true, false, false},  {70, 12, 128, 0, 2, false, false, false},
        {7, 20, 1184, 0, 1, false, false, true}, {4, 8, 64, 9, 4, true, true, true},
    };
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t f = 0; f < KW_KINDS; f++) {
            struct kw_product p = fitted(&kw_kinds[f], &cases[i]);
            struct operands o = operands(k, &kw_kinds[f], &p);
            device_tally_reset(k->d);
            if (kk_ran(k, weight_run(k->d, &o.a))) {
                counted(k, &kw_kinds[f], &p, &o);
                accurate(k, &p, &o);
            }
            device_free_all(k->d);
        }
}

/* Rows by number, rounded once, or as a product with a scale in 16 bits is. */
static void looked_up(struct kk *k, const struct kw_kind *f, bool fp16)
{
    enum { ROWS = 5 };
    static const uint32_t index[ROWS] = {6, 0, 6, 3, 1};
    struct kw_product p = fitted(f, &(struct kw_product){1, 7, 160, 0, 1, false, false, fp16});
    struct operands o = operands(k, f, &p);
    struct weight_rows_args a = {.w = o.a.w, .rows = ROWS, .fp16 = fp16};
    uint16_t *out = ARENA_NEW(k->a, uint16_t, ROWS * p.in);
    struct error e = {0, 0, 0};
    struct tally t;

    a.index = kk_put(k, TAG_TABLES, index, sizeof index);
    a.out = kk_new(k, TAG_ACTIVATION, 2ull * ROWS * p.in);
    device_tally_reset(k->d);
    kk_ok(k, weight_rows_run(k->d, &a));
    kk_get(k, out, a.out, 2ull * ROWS * p.in);
    if (kk_seen(k, &t)) {
        kt_u64(t.unique_written_bytes[TAG_ACTIVATION], 2ull * ROWS * p.in);
        kt_u64(t.issued.conversions, (uint64_t)ROWS * p.in);
    }
    for (uint32_t i = 0; i < ROWS * p.in; i++) {
        double want = o.w[index[i / p.in] * p.in + i % p.in];
        e.ours += pow(kw_half(out[i], fp16) - want, 2);
        e.naive += pow(kw_rounded(want, fp16) - want, 2);
        e.size += want * want;
    }
    assert_true(sqrt(e.ours) <= 2 * sqrt(e.naive) + 1e-6 * sqrt(e.size));
    device_free_all(k->d);
}

static void rows(void **state)
{
    struct kk *k = *state;

    for (size_t f = 0; f < KW_KINDS; f++) {
        struct weight_view w = {.kind = kw_kinds[f].kind, .ordered = kw_kinds[f].ordered};
        if (!weight_rows_has(&w))
            continue;
        looked_up(k, &kw_kinds[f], false);
        looked_up(k, &kw_kinds[f], true);
    }
}

/* --- random weights -------------------------------------------------------------------------
 */

/* Columns of the matrix by products with unit vectors. */
static void filled(struct kk *k, const struct kw_kind *f, bool fp16)
{
    enum { IN = 256, OUT_ROWS = 64 };
    struct weight_view w = {.kind = f->kind,
                            .outs = OUT_ROWS,
                            .in = IN,
                            .one_scale = f->one_scale,
                            .zeroed = f->zeroed,
                            .ordered = f->ordered};
    struct weight_fill_args fill = {.seed = 77, .fp16 = fp16};
    struct weight_args a = {.rows = IN, .fp16 = fp16, .wide = true, .splits = 1};
    uint16_t *unit = ARENA_NEW(k->a, uint16_t, IN * IN);
    float *out = ARENA_NEW(k->a, float, IN *OUT_ROWS);
    double sum = 0, squares = 0;
    uint64_t bytes;

    if (f->kind == WEIGHT_INT8_GROUP || f->kind == WEIGHT_INT4_GROUP)
        w.group = f->group;
    bytes = weight_bytes(&w);
    weight_place(&w, kk_new(k, TAG_WEIGHTS, bytes));
    fill.w = a.w = w;
    device_tally_reset(k->d);
    kk_ok(k, weight_fill_run(k->d, &fill));
    struct tally t;
    kk_ok(k, device_sync(k->d));
    if (kk_seen(k, &t)) {
        kt_u64(t.unique_written_bytes[TAG_WEIGHTS], bytes);
        kt_u64(t.issued.written_bytes[TAG_WEIGHTS], bytes);
    }
    for (uint32_t i = 0; i < IN; i++)
        unit[i * IN + i] = fp16 ? 0x3c00 : 0x3f80;
    a.x = kk_put(k, TAG_ACTIVATION, unit, 2 * IN * IN);
    a.out = kk_new(k, TAG_ACTIVATION, 4 * IN * OUT_ROWS);
    if (!kk_ran(k, weight_run(k->d, &a)))
        return;
    kk_get(k, out, a.out, 4 * IN * OUT_ROWS);
    for (uint32_t i = 0; i < IN * OUT_ROWS; i++) {
        sum += (double)out[i];
        squares += pow((double)out[i], 2);
    }
    squares *= (double)IN / (IN * OUT_ROWS);
    if (!(squares > 0.5 && squares < 2) || fabs(sum) / (IN * OUT_ROWS) > 0.15 / sqrt(IN))
        print_error("kind %d: variance %g / in, sum %g\n", f->kind, squares, sum);
    assert_true(squares > 0.5 && squares < 2);
    assert_true(fabs(sum) / (IN * OUT_ROWS) < 0.15 / sqrt(IN));
    device_free_all(k->d);
}

static void random_weights(void **state)
{
    for (size_t f = 0; f < KW_KINDS; f++) {
        filled(*state, &kw_kinds[f], false);
        filled(*state, &kw_kinds[f], true);
    }
}

static void splits(void **state)
{
    (void)state;
    kt_u64(weight_splits(1, 4096, 4096, 132), 16);
    kt_u64(weight_splits(8, 128256, 4096, 132), 1);
    kt_u64(weight_splits(1, 128, 1 << 20, 132), 64);
    kt_u64(weight_splits(1, 128, 128, 132), 1);
    kt_u64(weight_splits(4096, 4096, 4096, 132), 1);
    kt_u64(weight_splits(1, 64, 64, 1), 1);
}

/* --- parts of a matrix ----------------------------------------------------------------------
 */

/* x is [rows][products][x_step], out [rows][products][what is written]. */
static void set_part(struct kk *k, const struct weight_part *part, uint32_t rows,
                     struct operands *o)
{
    uint32_t n = part->products, own = part->across ? part->outs : o->a.w.in;
    uint32_t width = part->across ? o->a.w.in : part->outs;

    o->a.part = *part;
    o->a.part.x_step = own + 8;
    o->a.part.x_stride = n * (own + 8);
    o->a.part.out_step = width;
    o->a.rows = rows;
    o->a.stride = n * width;
    o->a.x =
        random_16(k, TAG_ACTIVATION, (uint64_t)rows * o->a.part.x_stride, o->a.fp16, &o->x);
    o->a.out = kk_new(k, TAG_ACTIVATION, 2ull * rows * o->a.stride);
}

/* Element i of a result of part `n`. */
static void part_error(const struct operands *o, uint32_t r, uint32_t n, uint32_t i, double got,
                       struct error *e)
{
    const struct weight_part *part = &o->a.part;
    uint32_t in = o->a.w.in, first = part->first + n * part->step;
    const double *x = o->x + (size_t)r * part->x_stride + n * part->x_step;
    double want = 0, naive;
    float sum = 0;

    for (uint32_t j = 0; j < (part->across ? part->outs : in); j++) {
        double w = part->across ? o->w[(size_t)(first + j) * in + i]
                                : o->w[(size_t)(first + i) * in + j];
        want += x[j] * w;
        sum += (float)(x[j] * kw_rounded(w, o->a.fp16));
    }
    naive = kw_rounded((double)sum, o->a.fp16);
    e->ours += pow(got - want, 2);
    e->naive += pow(naive - want, 2);
    e->size += want * want;
}

static void part_accurate(struct kk *k, const struct operands *o)
{
    uint32_t width = (uint32_t)o->a.part.out_step;
    uint16_t *out = ARENA_NEW(k->a, uint16_t, (size_t)o->a.rows * o->a.stride);
    struct error e = {0, 0, 0};

    kk_get(k, out, o->a.out, 2ull * o->a.rows * o->a.stride);
    for (uint32_t r = 0; r < o->a.rows; r++)
        for (uint32_t i = 0; i < o->a.stride; i++)
            part_error(o, r, i / width, i % width,
                       kw_half(out[(size_t)r * o->a.stride + i], o->a.fp16), &e);
    if (!(sqrt(e.ours) <= 2 * sqrt(e.naive) + 1e-6 * sqrt(e.size)))
        print_error("kind %d, across %d: error %g, naive %g, of %g\n", o->a.w.kind,
                    o->a.part.across, sqrt(e.ours), sqrt(e.naive), sqrt(e.size));
    assert_true(sqrt(e.ours) <= 2 * sqrt(e.naive) + 1e-6 * sqrt(e.size));
}

/* `whole`: the parts are all of the matrix. */
static void part_counted(struct kk *k, const struct operands *o, bool whole)
{
    const struct weight_part *part = &o->a.part;
    uint64_t own = part->across ? part->outs : o->a.w.in;
    struct tally want = {.launches = 1}, got;

    if (!kk_seen(k, &got))
        return;
    weight_traffic(&o->a, &want.issued);
    kt_u64(want.issued.useful_flop, 2ull * o->a.rows * part->products * part->outs * o->a.w.in);
    kt_u64(got.issued.conversions, want.issued.conversions);
    want.unique_read_bytes[TAG_WEIGHTS] =
        whole ? weight_bytes(&o->a.w) : got.unique_read_bytes[TAG_WEIGHTS];
    want.unique_read_bytes[TAG_ACTIVATION] = 2ull * o->a.rows * part->products * own;
    want.unique_written_bytes[TAG_ACTIVATION] = 2ull * o->a.rows * o->a.stride;
    kk_tally(k, &want);
}

static void parts(void **state)
{
    static const struct {
        struct kw_product p;
        struct weight_part part;
        bool whole;
    } cases[] = {
        {{1, 144, 96, 0, 1, false, false, false}, {16, 24, 3, 48, 0, 0, 0, false}, false},
        {{11, 96, 160, 0, 1, false, false, true}, {0, 48, 2, 48, 0, 0, 0, false}, true},
        {{9, 64, 96, 0, 1, false, false, false}, {16, 24, 2, 16, 0, 0, 0, false}, false},
        {{3, 144, 96, 0, 1, false, false, true}, {16, 24, 3, 48, 0, 0, 0, true}, false},
        {{11, 144, 544, 0, 1, false, false, false}, {0, 48, 3, 48, 0, 0, 0, true}, true},
        {{8, 152, 64, 0, 1, false, false, false}, {0, 152, 1, 0, 0, 0, 0, true}, true},
    };
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t f = 0; f < KW_KINDS; f++) {
            struct kw_product p = fitted(&kw_kinds[f], &cases[i].p);
            struct operands o = operands(k, &kw_kinds[f], &p);
            set_part(k, &cases[i].part, p.rows, &o);
            device_tally_reset(k->d);
            if (kk_ran(k, weight_run(k->d, &o.a))) {
                part_counted(k, &o, cases[i].whole);
                part_accurate(k, &o);
            }
            device_free_all(k->d);
        }
}

/* One row of a matrix after the other, exactly: products across with unit vectors. */
static void part_defaults(void **state)
{
    struct kk *k = *state;
    struct kw_product p = {8, 24, 64, 0, 1, false, false, false};
    struct operands o = operands(k, &kw_kinds[7], &p);
    uint16_t unit[64] = {0}, out[8 * 64];

    for (int i = 0; i < 8; i++)
        unit[9 * i] = 0x3f80;
    o.a.x = kk_put(k, TAG_ACTIVATION, unit, sizeof unit);
    o.a.out = kk_new(k, TAG_ACTIVATION, sizeof out);
    o.a.part = (struct weight_part){.first = 16, .across = true};
    if (!kk_ran(k, weight_run(k->d, &o.a)))
        return;
    kk_get(k, out, o.a.out, sizeof out);
    for (uint32_t i = 0; i < 8 * 64; i++)
        assert_true(fabs(kw_half(out[i], false) - o.w[16 * 64 + i]) <=
                    0.004 * fabs(o.w[16 * 64 + i]));
    device_free_all(k->d);
}

static void refusals(void **state)
{
    struct kk *k = *state;
    struct kw_product p = {2, 8, 64, 0, 1, false, false, false};
    struct operands o = operands(k, &kw_kinds[7], &p);
    struct weight_args a = o.a;
    struct weight_fill_args fill = {.w = a.w};
    struct weight_rows_args lookup = {.rows = 0};

#define REFUSED(change, text)                                                                  \
    a = o.a;                                                                                   \
    change;                                                                                    \
    kk_refused(k, weight_run(k->d, &a), "weight: " text)
    REFUSED(a.w.in = 48, "at least one column, sums of a multiple of 32 elements");
    REFUSED(a.w.outs = 0, "at least one column, sums of a multiple of 32 elements");
    REFUSED(a.w.outs = 1u << 23, "at most 8388480 rows and 2^31 - 1 columns");
    REFUSED(a.w.kind = (enum weight_kind)99, "no such kind of weights");
    REFUSED(a.w.group = 48, "groups of 32 columns or more, a power of two, or of all");
    REFUSED(a.w.kind = WEIGHT_MXFP4, "this kind has no groups and zeros of its own");
    REFUSED(a.w.one_scale = true, "one scale for a matrix is for fp8");
    REFUSED(a.w.codes = (const char *)a.w.codes + 4, "operands are aligned to 16 bytes");
    REFUSED(a.x = (const char *)a.x + 4, "operands are aligned to 16 bytes");
    REFUSED(a.rows = 0, "1 to 2^31 - 1 rows");
    REFUSED(a.stride = 7, "rows of the result overlap");
    REFUSED(a.splits = 0, "1 to 64 splits");
    REFUSED(a.splits = 65, "1 to 64 splits");
    REFUSED(a.splits = 2, "several splits need work memory");
    REFUSED((a.w.kind = WEIGHT_Q4_K, a.w.group = 0), "blocks of 256 elements");
    REFUSED(a.part.first = 8, "a part is within the matrix");
    REFUSED((a.part.products = 3, a.part.outs = 3, a.part.step = 3),
            "a part is within the matrix");
    REFUSED((a.w.kind = WEIGHT_FP8_BLOCK, a.w.group = 0, a.part.first = 4),
            "parts of such blocks begin at a multiple of 16 rows");
    REFUSED((a.part.products = 2, a.part.outs = 4, a.part.step = 4, a.bias = a.x),
            "up to 65535 parts, without bias and splits");
    REFUSED(a.part.x_stride = 60,
            "rows of x are a multiple of 4 elements apart, at least their length");
    REFUSED((a.part.across = true, a.wide = true),
            "products across have no bias, no splits and 16-bit results");
    REFUSED((a.part.across = true, a.part.outs = 4),
            "products across have sums of a multiple of 8 elements, even strides");
    lookup.w = o.a.w;
    kk_refused(k, weight_rows_run(k->d, &lookup), "weight_rows: at least one row");
    lookup.w.ordered = true;
    kk_refused(k, weight_rows_run(k->d, &lookup),
               "weight_rows: no rows are looked up in this kind");
    fill.w.in = 31;
    kk_refused(k, weight_fill_run(k->d, &fill),
               "weight_fill: at least one column, sums of a multiple of 32 elements");
    if (!kk_on_cpu())
        return;
    a = o.a;
    a.rows = 3;
    assert_int_equal(weight_run(k->d, &a), DEVICE_FAULT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(products),       kk_reversed(products), kk_test(rows),
        kk_test(random_weights), kk_test(parts),        kk_reversed(parts),
        kk_test(part_defaults),  kk_test(splits),       kk_test(refusals)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
