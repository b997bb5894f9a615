/* kernel_gemm: the plain twin of the matrix products against double precision, its declared
 * traffic, what is refused; on a GPU the same through tests/gpu. */
#include "kernels/gemm.h"

#include "tests/kvstore.h"

struct product {
    uint32_t rows, outs, in, stride;
    bool bias, wide, fp16;
};

struct operands {
    double *x, *w, *bias;
    struct gemm_args a;
};

static void *random_16(struct kk *k, enum tag tag, uint64_t n, bool fp16, double **values)
{
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n);

    *values = ARENA_NEW(k->a, double, n);
    for (uint64_t i = 0; i < n; i++) {
        double x = kk_normal(k);
        bits[i] = fp16 ? ks_bits_fp16(x) : ks_bits_bf16(x);
        (*values)[i] = fp16 ? ks_fp16(bits[i]) : ks_bf16(bits[i]);
    }
    return kk_put(k, tag, bits, 2 * n);
}

static struct operands operands(struct kk *k, const struct product *p)
{
    struct operands o = {.a = {.rows = p->rows,
                               .outs = p->outs,
                               .in = p->in,
                               .stride = p->stride,
                               .fp16 = p->fp16,
                               .wide = p->wide,
                               .w_tag = TAG_WEIGHTS}};
    uint64_t stride = p->stride ? p->stride : p->outs;

    o.a.x = random_16(k, TAG_ACTIVATION, (uint64_t)p->rows * p->in, p->fp16, &o.x);
    o.a.w = random_16(k, TAG_WEIGHTS, (uint64_t)p->outs * p->in, p->fp16, &o.w);
    if (p->bias)
        o.a.bias = random_16(k, TAG_WEIGHTS, p->outs, p->fp16, &o.bias);
    o.a.out = kk_new(k, TAG_ACTIVATION, (p->wide ? 4 : 2) * p->rows * stride);
    return o;
}

static double result(const struct product *p, const void *out, uint64_t i)
{
    uint16_t h;
    float f;

    if (p->wide) {
        memcpy(&f, (const char *)out + 4 * i, sizeof f);
        return (double)f;
    }
    memcpy(&h, (const char *)out + 2 * i, sizeof h);
    return p->fp16 ? ks_fp16(h) : ks_bf16(h);
}

/* fp32 sums, then one rounding. */
static void accurate(struct kk *k, const struct product *p, const struct operands *o)
{
    uint64_t stride = p->stride ? p->stride : p->outs,
             bytes = (p->wide ? 4 : 2) * p->rows * stride;
    char *out = ARENA_NEW(k->a, char, bytes);
    double unit = p->wide ? 0 : p->fp16 ? ldexp(1, -11) : ldexp(1, -8);

    kk_get(k, out, o->a.out, bytes);
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t n = 0; n < p->outs; n++) {
            double want = p->bias ? o->bias[n] : 0, size = 0, got;
            for (uint32_t i = 0; i < p->in; i++) {
                double x = o->x[(size_t)r * p->in + i] * o->w[(size_t)n * p->in + i];
                want += x;
                size += fabs(x);
            }
            got = result(p, out, r * stride + n);
            assert_true(fabs(got - want) <= fabs(want) * unit + size * p->in * 1e-7);
        }
    if (p->stride > p->outs) /* what lies between the rows is left alone: poison */
        assert_int_equal((uint8_t)out[(p->wide ? 4 : 2) * p->outs], 0xff);
}

static void products(void **state)
{
    static const struct product cases[] = {
        {1, 8, 8, 0, false, false, false},  {5, 24, 40, 0, true, false, false},
        {3, 17, 64, 0, false, true, false}, {7, 9, 128, 20, false, false, false},
        {4, 16, 72, 0, true, false, true},  {2, 33, 16, 40, false, true, true},
    };
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct product *p = &cases[i];
        struct operands o = operands(k, p);
        struct tally want = {.launches = 1};
        device_tally_reset(k->d);
        kk_ok(k, gemm_run(k->d, &o.a));
        gemm_traffic(&o.a, &want.issued);
        kt_u64(want.issued.useful_flop, 2ull * p->rows * p->outs * p->in);
        memcpy(want.unique_read_bytes, want.issued.read_bytes, sizeof want.unique_read_bytes);
        memcpy(want.unique_written_bytes, want.issued.written_bytes,
               sizeof want.unique_written_bytes);
        kt_u64(want.unique_written_bytes[TAG_ACTIVATION],
               (p->wide ? 4ull : 2ull) * p->rows * p->outs);
        kk_tally(k, &want);
        accurate(k, p, &o);
    }
}

static void refusals(void **state)
{
    struct kk *k = *state;
    struct product p = {2, 8, 16, 0, false, false, false};
    struct operands o = operands(k, &p);
    struct gemm_args a = o.a;

    if (kk_on_cpu())
        kt_u64(gemm_work_bytes(k->d), 0);
    a.in = 12;
    kk_refused(k, gemm_run(k->d, &a),
               "gemm: at least one row and column, sums of a multiple of 8 elements");
    a = o.a;
    a.stride = 7;
    kk_refused(k, gemm_run(k->d, &a), "gemm: rows of the result overlap");
    a = o.a;
    a.x = (const char *)a.x + 2;
    kk_refused(k, gemm_run(k->d, &a), "gemm: operands are aligned to 16 bytes");
    a = o.a;
    a.out = (char *)a.out + 8;
    kk_refused(k, gemm_run(k->d, &a), "gemm: operands are aligned to 16 bytes");
    a = o.a;
    a.work_bytes = 256;
    kk_refused(k, gemm_run(k->d, &a), "gemm: work memory is aligned to 256 bytes");
    a = o.a;
    a.wide = true;
    a.bias = a.w;
    kk_refused(k, gemm_run(k->d, &a), "gemm: fp32 results have no bias");
    a = o.a;
    a.x_stride = 20;
    kk_refused(k, gemm_run(k->d, &a),
               "gemm: rows of x are a multiple of 8 elements apart, at least their length");
    a = o.a;
    a.w_step = 4;
    kk_refused(k, gemm_run(k->d, &a), "gemm: weights and steps are a multiple of 8 elements");
    a = o.a;
    a.out_step = 18;
    kk_refused(k, gemm_run(k->d, &a), "gemm: weights and steps are a multiple of 8 elements");
    a = o.a;
    a.products = 2;
    a.bias = a.w;
    kk_refused(k, gemm_run(k->d, &a), "gemm: several products have no bias");
    a = o.a;
    a.outs = 1u << 31;
    kk_refused(k, gemm_run(k->d, &a), "gemm: at most 2^31 - 1 rows and columns");
    if (!kk_on_cpu())
        return;
    a = o.a;
    a.rows = 3;
    assert_int_equal(gemm_run(k->d, &a), DEVICE_FAULT);
    assert_string_equal(device_error(k->d),
                        "gemm: an operand lies outside of every allocation");
}

/* Several products at once, as MLA has one a head: rows of x and of the result that are parts
 * of wider ones, and weights the other way round. */
static void several(void **state)
{
    struct kk *k = *state;
    enum { PRODUCTS = 3, ROWS = 2, OUTS = 16, IN = 24, X_STRIDE = 104, STRIDE = 80 };

    for (int across = 0; across < 2; across++) {
        struct gemm_args a = {.rows = ROWS,
                              .outs = OUTS,
                              .in = IN,
                              .stride = STRIDE,
                              .x_stride = X_STRIDE,
                              .across = across,
                              .products = PRODUCTS,
                              .x_step = 32,
                              .w_step = 2 * OUTS * IN,
                              .out_step = OUTS + 8,
                              .w_tag = TAG_WEIGHTS};
        double *x, *w;
        uint16_t out[ROWS * STRIDE];
        struct tally want = {.launches = 1};
        a.x = random_16(k, TAG_ACTIVATION, ROWS * X_STRIDE, false, &x);
        a.w = random_16(k, TAG_WEIGHTS, PRODUCTS * 2 * OUTS * IN, false, &w);
        a.out = kk_new(k, TAG_ACTIVATION, sizeof out);
        device_tally_reset(k->d);
        kk_ok(k, gemm_run(k->d, &a));
        gemm_traffic(&a, &want.issued);
        memcpy(want.unique_read_bytes, want.issued.read_bytes, sizeof want.unique_read_bytes);
        memcpy(want.unique_written_bytes, want.issued.written_bytes,
               sizeof want.unique_written_bytes);
        kk_tally(k, &want);
        kk_get(k, out, a.out, sizeof out);
        for (uint32_t i = 0; i < PRODUCTS * ROWS * OUTS; i++) {
            uint32_t p = i / ROWS / OUTS, r = i / OUTS % ROWS, n = i % OUTS;
            double sum = 0, got = ks_bf16(out[r * STRIDE + p * (OUTS + 8) + n]);
            for (uint32_t j = 0; j < IN; j++)
                sum += x[r * X_STRIDE + p * 32 + j] *
                       w[p * 2 * OUTS * IN + (across ? j * OUTS + n : n * IN + j)];
            assert_true(fabs(got - sum) <= fabs(sum) * ldexp(1, -8) + 1e-4);
        }
        assert_int_equal(out[OUTS], 0xffff);
        assert_int_equal(out[STRIDE - 1], 0xffff);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {kk_test(products), kk_test(several), kk_test(refusals)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
