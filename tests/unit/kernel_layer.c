/* kernel_layer: norm, rotary positions, SwiGLU and arg max against double precision, within
 * half a unit in the last place of the 16-bit result and a little for fp32; traffic as the
 * formulas say. */
#include "kernels/layer.h"
#include "tests/kvstore.h"

static double decoded(uint16_t h, bool fp16)
{
    return fp16 ? ks_fp16(h) : ks_bf16(h);
}

/* n random 16-bit numbers on the device, and what they are in *x. */
static void *put_random(struct kk *k, enum tag tag, uint64_t n, bool fp16, double **x)
{
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n);

    *x = ARENA_NEW(k->a, double, n);
    for (uint64_t i = 0; i < n; i++) {
        double v = kk_normal(k);
        bits[i] = fp16 ? ks_bits_fp16(v) : ks_bits_bf16(v);
        (*x)[i] = decoded(bits[i], fp16);
    }
    return kk_put(k, tag, bits, 2 * n);
}

/* One rounding to 16 bits (half a unit: 2^-8 or 2^-11 relative) and a little fp32. */
static void close_to(struct kk *k, const void *p, uint64_t n, bool fp16, const double *want)
{
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n);
    double relative = fp16 ? ldexp(1, -11) : ldexp(1, -8);

    kk_get(k, bits, p, 2 * n);
    for (uint64_t i = 0; i < n; i++) {
        double got = decoded(bits[i], fp16);
        double allowed = 1.0001 * relative * fabs(want[i]) + 1e-6;
        if (!(fabs(got - want[i]) <= allowed))
            print_error("element %llu: %g for %g\n", (unsigned long long)i, got, want[i]);
        assert_true(fabs(got - want[i]) <= allowed);
    }
}

/* As the formula says, each byte once where that follows from the sizes. */
static void counted(struct kk *k, const struct traffic *issued, const uint64_t *unique_read,
                    const uint64_t *unique_written)
{
    struct tally want = {.issued = *issued, .launches = 1};

    memcpy(want.unique_read_bytes, unique_read, sizeof want.unique_read_bytes);
    memcpy(want.unique_written_bytes, unique_written, sizeof want.unique_written_bytes);
    kk_tally(k, &want);
}

static void norms_of(struct kk *k, uint32_t n_rows, uint32_t width, bool residual, bool fp16,
                     bool wide)
{
    double *x, *r, *w, *want = ARENA_NEW(k->a, double, (uint64_t)n_rows *width);
    uint64_t n = (uint64_t)n_rows * width;
    float *floats = ARENA_NEW(k->a, float, width);
    struct norm_args a = {
        .rows = n_rows, .width = width, .epsilon = 1e-5f, .fp16 = fp16, .wide_weight = wide};
    struct traffic t = {0};
    uint64_t read[N_TAGS] = {0}, written[N_TAGS] = {0};

    a.x = put_random(k, TAG_ACTIVATION, n, fp16, &x);
    a.weight = put_random(k, TAG_WEIGHTS, width, fp16, &w);
    for (uint32_t i = 0; i < width; i++)
        floats[i] = (float)w[i];
    if (wide)
        a.weight = kk_put(k, TAG_WEIGHTS, floats, 4ull * width);
    a.residual = residual ? put_random(k, TAG_ACTIVATION, n, fp16, &r) : NULL;
    a.out = kk_new(k, TAG_ACTIVATION, 2 * n);
    for (uint64_t i = 0; residual && i < n; i++)
        x[i] = fp16 ? ks_round_fp16((float)(x[i] + r[i])) : ks_round_bf16((float)(x[i] + r[i]));
    for (uint32_t row = 0; row < n_rows; row++) {
        double squares = 0;
        for (uint32_t i = 0; i < width; i++)
            squares += x[row * width + i] * x[row * width + i];
        for (uint32_t i = 0; i < width; i++)
            want[row * width + i] =
                x[row * width + i] / sqrt(squares / width + (double)a.epsilon) * w[i];
    }
    device_tally_reset(k->d);
    kk_ok(k, norm_run(k->d, &a));
    close_to(k, a.out, n, fp16, want);
    if (residual)
        close_to(k, a.residual, n, fp16, x);
    norm_traffic(&a, &t);
    read[TAG_ACTIVATION] = 2 * n * (residual ? 2 : 1);
    read[TAG_WEIGHTS] = (wide ? 4 : 2) * width;
    written[TAG_ACTIVATION] = 2 * n * (residual ? 2 : 1);
    counted(k, &t, read, written);
}

static void norm_of(struct kk *k, uint32_t n_rows, uint32_t width, bool residual, bool fp16)
{
    norms_of(k, n_rows, width, residual, fp16, false);
    norms_of(k, n_rows, width, residual, fp16, true);
}

static void norm(void **state)
{
    norm_of(*state, 1, 8, false, false);
    norm_of(*state, 3, 4096, true, false);
    norm_of(*state, 2, 2568, true, true);
}

static void rope_of(struct kk *k, uint32_t dim, uint32_t rotary, bool fp16, bool neighbours)
{
    enum { ROWS = 3, HEADS = 5, POSITIONS = 50 };
    static const uint32_t position[ROWS] = {49, 0, 7};
    uint64_t n = (uint64_t)ROWS * HEADS * dim;
    uint32_t half = rotary / 2;
    float *table = ARENA_NEW(k->a, float, POSITIONS *rotary);
    double *x, *want = ARENA_NEW(k->a, double, n);
    struct rope_args a = {.rows = ROWS,
                          .heads = HEADS,
                          .dim = dim,
                          .rotary = rotary,
                          .neighbours = neighbours,
                          .fp16 = fp16};
    struct traffic t = {0};
    uint64_t read[N_TAGS] = {0}, written[N_TAGS] = {0};

    for (uint32_t i = 0; i < POSITIONS * half; i++) {
        double angle = i / half * pow(10000, -2.0 * (i % half) / rotary);
        table[2 * i] = (float)cos(angle);
        table[2 * i + 1] = (float)sin(angle);
    }
    a.x = put_random(k, TAG_ACTIVATION, n, fp16, &x);
    a.position = kk_put(k, TAG_TABLES, position, sizeof position);
    a.table = kk_put(k, TAG_TABLES, table, (uint64_t)POSITIONS * rotary * 4);
    /* a rotation of the complex number (a, b) */
    for (uint64_t i = 0; i < n; i++) {
        uint64_t d = i % dim, base = i - d;
        uint32_t at = (uint32_t)(neighbours ? d / 2 : d % half);
        double angle = position[i / dim / HEADS] * pow(10000, -2.0 * at / rotary);
        bool first = neighbours ? d % 2 == 0 : d < half;
        double re = 0, im = 0;
        if (d < rotary) {
            re = x[base + (neighbours ? 2 * at : at)];
            im = x[base + (neighbours ? 2 * at + 1 : at + half)];
        }
        want[i] = d >= rotary ? x[i]
                  : first     ? re * cos(angle) - im * sin(angle)
                              : im * cos(angle) + re * sin(angle);
    }
    device_tally_reset(k->d);
    kk_ok(k, rope_run(k->d, &a));
    close_to(k, a.x, n, fp16, want);
    rope_traffic(&a, &t);
    read[TAG_ACTIVATION] = written[TAG_ACTIVATION] = (uint64_t)ROWS * HEADS * rotary * 2;
    read[TAG_TABLES] = sizeof position + ROWS * rotary * 4;
    counted(k, &t, read, written);
}

static void rope(void **state)
{
    rope_of(*state, 128, 128, false, false);
    rope_of(*state, 80, 32, false, false);
    rope_of(*state, 64, 64, true, false);
    rope_of(*state, 128, 128, false, true);
    rope_of(*state, 80, 48, true, true);
}

static void swiglu(void **state)
{
    struct kk *k = *state;
    enum { ROWS = 3, WIDTH = 1416 };
    double *x, *want = ARENA_NEW(k->a, double, ROWS *WIDTH);
    struct swiglu_args a = {.rows = ROWS, .width = WIDTH};
    struct traffic t = {0};
    uint64_t read[N_TAGS] = {0}, written[N_TAGS] = {0};

    a.gate_up = put_random(k, TAG_ACTIVATION, ROWS * WIDTH * 2, false, &x);
    a.out = kk_new(k, TAG_ACTIVATION, ROWS * WIDTH * 2);
    for (uint32_t i = 0; i < ROWS * WIDTH; i++) {
        double g = x[i / WIDTH * 2 * WIDTH + i % WIDTH];
        want[i] = g / (1 + exp(-g)) * x[(i / WIDTH * 2 + 1) * WIDTH + i % WIDTH];
    }
    device_tally_reset(k->d);
    kk_ok(k, swiglu_run(k->d, &a));
    close_to(k, a.out, ROWS * WIDTH, false, want);
    swiglu_traffic(&a, &t);
    read[TAG_ACTIVATION] = ROWS * WIDTH * 4;
    written[TAG_ACTIVATION] = ROWS * WIDTH * 2;
    counted(k, &t, read, written);
}

/* Equal largest ones everywhere in the row: the first counts. */
static void arg_max(void **state)
{
    struct kk *k = *state;
    enum { ROWS = 6, WIDTH = 3000 };
    static const uint32_t first[ROWS] = {0, 2999, 1024, 77, 2047, 5};
    float *x = ARENA_NEW(k->a, float, ROWS *WIDTH);
    uint32_t got[ROWS];
    struct argmax_args a = {.rows = ROWS, .width = WIDTH};
    struct traffic t = {0};
    uint64_t read[N_TAGS] = {0}, written[N_TAGS] = {0};

    for (uint32_t i = 0; i < ROWS * WIDTH; i++)
        x[i] = (float)(rng_unit(&k->rng) - 3);
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t i = first[r]; i < WIDTH; i += 31 + r)
            x[r * WIDTH + i] = -1.5f;
    a.logits = kk_put(k, TAG_ACTIVATION, x, ROWS * WIDTH * 4);
    a.out = kk_new(k, TAG_TABLES, sizeof got);
    device_tally_reset(k->d);
    kk_ok(k, argmax_run(k->d, &a));
    kk_get(k, got, a.out, sizeof got);
    for (uint32_t r = 0; r < ROWS; r++)
        kt_u64(got[r], first[r]);
    argmax_traffic(&a, &t);
    read[TAG_ACTIVATION] = ROWS * WIDTH * 4;
    written[TAG_TABLES] = sizeof got;
    counted(k, &t, read, written);
}

static void refuses(void **state)
{
    struct kk *k = *state;
    struct norm_args n = {.rows = 1, .width = 12};
    struct rope_args r = {.rows = 1, .heads = 1, .dim = 12};
    struct swiglu_args s = {.rows = 1};
    struct argmax_args m = {.rows = 1, .width = 6};

    kk_refused(k, norm_run(k->d, &n), "norm: at least one row, of a multiple of 8 elements");
    kk_refused(k, rope_run(k->d, &r),
               "rope: at least one row and head, of a multiple of 8 elements");
    r.dim = 16;
    r.rotary = 24;
    kk_refused(k, rope_run(k->d, &r), "rope: a multiple of 16 elements turns, at most a head");
    r.rotary = 16;
    r.rows = UINT32_MAX;
    kk_refused(k, rope_run(k->d, &r), "rope: at most 2^31 units of 16 elements at once");
    kk_refused(k, swiglu_run(k->d, &s),
               "swiglu: at least one row, of a multiple of 8 elements");
    s.width = 8;
    s.rows = UINT32_MAX;
    kk_refused(k, swiglu_run(k->d, &s), "swiglu: at most 2^31 units of 8 elements at once");
    kk_refused(k, argmax_run(k->d, &m),
               "argmax: at least one row, of a multiple of 4 elements up to 2^24");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(norm),    kk_reversed(norm),    kk_test(rope),    kk_test(swiglu),
        kk_test(arg_max), kk_reversed(arg_max), kk_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
