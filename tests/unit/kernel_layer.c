/* kernel_layer: norm, rotary positions, SwiGLU and arg max against double precision, within
 * half a unit in the last place of the 16-bit result and a little for fp32; traffic as the
 * formulas say. */
#include "kernels/layer.h"
#include "tests/kvrow.h"

enum norm_parts { CENTRED = 1, WEIGHT = 2, BIAS = 4, RESIDUAL = 8, FP16 = 16, WIDE = 32 };

/* Of one row, from the definition; x becomes the result. */
static void norm_row(double *x, uint32_t width, bool centred, const double *w, const double *b)
{
    double mean = 0, squares = 0;

    for (uint32_t i = 0; centred && i < width; i++)
        mean += x[i] / width;
    for (uint32_t i = 0; i < width; i++)
        squares += pow(x[i] - mean, 2) / width;
    for (uint32_t i = 0; i < width; i++)
        x[i] = (x[i] - mean) / sqrt(squares + (double)1e-5f) * (w ? w[i] : 1) + (b ? b[i] : 0);
}

/* A weight or bias, in 16 bits or the same numbers in fp32. */
static void *put_vector(struct kk *k, uint32_t width, unsigned parts, double **out)
{
    void *p = kr_random(k, TAG_WEIGHTS, width, parts & FP16, out);
    float *floats = ARENA_NEW(k->a, float, width);

    for (uint32_t i = 0; i < width; i++)
        floats[i] = (float)(*out)[i];
    return parts & WIDE ? kk_put(k, TAG_WEIGHTS, floats, 4ull * width) : p;
}

static void norm_of(struct kk *k, uint32_t n_rows, uint32_t width, unsigned parts)
{
    double *x, *r, *w = NULL, *b = NULL, *want;
    uint64_t n = (uint64_t)n_rows * width;
    bool fp16 = parts & FP16, residual = parts & RESIDUAL;
    struct norm_args a = {.rows = n_rows,
                          .width = width,
                          .epsilon = 1e-5f,
                          .centred = parts & CENTRED,
                          .fp16 = fp16,
                          .wide_weight = parts & WIDE};
    struct traffic t = {0};
    uint64_t read[N_TAGS] = {0}, written[N_TAGS] = {0};

    a.x = kr_random(k, TAG_ACTIVATION, n, fp16, &x);
    a.weight = parts & WEIGHT ? put_vector(k, width, parts, &w) : NULL;
    a.bias = parts & BIAS ? put_vector(k, width, parts, &b) : NULL;
    a.residual = residual ? kr_random(k, TAG_ACTIVATION, n, fp16, &r) : NULL;
    a.out = kk_new(k, TAG_ACTIVATION, 2 * n);
    for (uint64_t i = 0; residual && i < n; i++)
        x[i] = fp16 ? ks_round_fp16((float)(x[i] + r[i])) : ks_round_bf16((float)(x[i] + r[i]));
    want = ARENA_NEW(k->a, double, n);
    memcpy(want, x, n * sizeof *want);
    for (uint32_t row = 0; row < n_rows; row++)
        norm_row(want + (size_t)row * width, width, a.centred, w, b);
    device_tally_reset(k->d);
    kk_ok(k, norm_run(k->d, &a));
    kr_close(k, a.out, n, fp16, want);
    if (residual)
        kr_close(k, a.residual, n, fp16, x);
    norm_traffic(&a, &t);
    read[TAG_ACTIVATION] = written[TAG_ACTIVATION] = 2 * n * (residual ? 2 : 1);
    read[TAG_WEIGHTS] = (parts & WIDE ? 4 : 2) * width * ((uint64_t)(w != NULL) + (b != NULL));
    kr_counted(k, &t, read, written);
}

static void norm(void **state)
{
    norm_of(*state, 1, 8, WEIGHT);
    norm_of(*state, 3, 4096, WEIGHT | RESIDUAL);
    norm_of(*state, 2, 2568, WEIGHT | RESIDUAL | FP16);
    norm_of(*state, 3, 4096, WEIGHT | RESIDUAL | WIDE);
    norm_of(*state, 2, 104, CENTRED | WEIGHT | BIAS | FP16 | WIDE);
}

static void layer_norm(void **state)
{
    norm_of(*state, 3, 8, CENTRED | WEIGHT);
    norm_of(*state, 2, 4096, CENTRED | WEIGHT | BIAS | RESIDUAL);
    norm_of(*state, 2, 2568, CENTRED | WEIGHT | BIAS | FP16);
    norm_of(*state, 2, 104, CENTRED | RESIDUAL);
}

/* A mean a thousand times the spread does not swallow it; the result may stand where the sum
 * stood. */
static void norm_of_large_mean(void **state)
{
    struct kk *k = *state;
    enum { WIDTH = 512 };
    uint16_t bits[WIDTH];
    double want[WIDTH];
    struct norm_args a = {.rows = 1, .width = WIDTH, .epsilon = 1e-5f, .centred = true};

    for (uint32_t i = 0; i < WIDTH; i++) {
        bits[i] = ks_bits_bf16(1000 + 8 * (double)(i % 2));
        want[i] = ks_bf16(bits[i]);
    }
    a.x = a.out = kk_put(k, TAG_ACTIVATION, bits, sizeof bits);
    norm_row(want, WIDTH, true, NULL, NULL);
    kk_ok(k, norm_run(k->d, &a));
    kr_close(k, a.out, WIDTH, false, want);
}

struct gating {
    uint32_t heads, dim, stride;
    bool each, plain, fp16;
};

static void gate_of(struct kk *k, struct gating o)
{
    enum { ROWS = 3 };
    uint32_t width = o.heads * o.dim, gates = o.each ? width : o.heads;
    uint64_t n = (uint64_t)ROWS * width, n_gates = (ROWS - 1) * (uint64_t)o.stride + gates;
    double *x, *g;
    struct scale_args a = {.rows = ROWS,
                           .heads = o.heads,
                           .dim = o.dim,
                           .stride = o.stride,
                           .each = o.each,
                           .plain = o.plain,
                           .fp16 = o.fp16,
                           .gate_tag = o.stride ? TAG_ACTIVATION : TAG_WEIGHTS};
    struct traffic t = {0};
    uint64_t read[N_TAGS] = {0}, written[N_TAGS] = {0};

    a.x = kr_random(k, TAG_ACTIVATION, n, o.fp16, &x);
    a.gate = kr_random(k, a.gate_tag, n_gates, o.fp16, &g);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = i / width * o.stride + (o.each ? i % width : i % width / o.dim);
        x[i] = o.plain ? x[i] * g[at] : x[i] / (1 + exp(-g[at]));
    }
    device_tally_reset(k->d);
    kk_ok(k, scale_run(k->d, &a));
    kr_close(k, a.x, n, o.fp16, x);
    scale_traffic(&a, &t);
    read[TAG_ACTIVATION] = 2 * n;
    read[a.gate_tag] += 2 * (uint64_t)gates * (o.stride ? ROWS : 1);
    written[TAG_ACTIVATION] = 2 * n;
    kr_counted(k, &t, read, written);
}

static void gate(void **state)
{
    gate_of(*state, (struct gating){5, 128, 640, .each = true});
    gate_of(*state, (struct gating){5, 128, 5, .each = false});
    gate_of(*state, (struct gating){7, 24, 9, .fp16 = true});
    gate_of(*state, (struct gating){1, 80, 400, .each = true, .plain = true, .fp16 = true});
    gate_of(*state, (struct gating){1, 64, 0, .plain = true});
    gate_of(*state, (struct gating){2, 64, 0, .each = true});
}

static void logits_of(struct kk *k, uint32_t width, uint32_t stride, bool bias, float cap)
{
    enum { ROWS = 3 };
    float *x = ARENA_NEW(k->a, float, ROWS *stride),
          *got = ARENA_NEW(k->a, float, ROWS *stride);
    double *b = NULL;
    struct logits_args a = {.rows = ROWS, .width = width, .stride = stride, .cap = cap};
    struct traffic t = {0};
    uint64_t read[N_TAGS] = {0}, written[N_TAGS] = {0};

    for (uint32_t i = 0; i < ROWS * stride; i++)
        x[i] = (float)(5 * kk_normal(k));
    a.x = kk_put(k, TAG_ACTIVATION, x, 4 * (uint64_t)ROWS * stride);
    a.bias = bias ? kr_random(k, TAG_WEIGHTS, width, false, &b) : NULL;
    device_tally_reset(k->d);
    kk_ok(k, logits_run(k->d, &a));
    logits_traffic(&a, &t);
    read[TAG_ACTIVATION] = written[TAG_ACTIVATION] = 4 * (uint64_t)ROWS * width;
    read[TAG_WEIGHTS] = bias ? 2 * width : 0;
    kr_counted(k, &t, read, written);
    kk_get(k, got, a.x, 4 * (uint64_t)ROWS * stride);
    for (uint32_t i = 0; i < ROWS * stride; i++) {
        double want = (double)x[i] + (b && i % stride < width ? b[i % stride] : 0);
        want = cap > 0 && i % stride < width ? (double)cap * tanh(want / (double)cap) : want;
        assert_true(fabs((double)got[i] - want) <= 2e-6 * fmax(fabs(want), (double)cap) + 1e-6);
    }
}

static void logits(void **state)
{
    logits_of(*state, 101, 104, true, 0);
    logits_of(*state, 300, 300, false, 30);
    logits_of(*state, 33, 40, true, 4);
    logits_of(*state, 7, 8, false, 0);
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
    a.x = kr_random(k, TAG_ACTIVATION, n, fp16, &x);
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
    kr_close(k, a.x, n, fp16, want);
    rope_traffic(&a, &t);
    read[TAG_ACTIVATION] = written[TAG_ACTIVATION] = (uint64_t)ROWS * HEADS * rotary * 2;
    read[TAG_TABLES] = sizeof position + ROWS * rotary * 4;
    kr_counted(k, &t, read, written);
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

    a.gate_up = kr_random(k, TAG_ACTIVATION, ROWS * WIDTH * 2, false, &x);
    a.out = kk_new(k, TAG_ACTIVATION, ROWS * WIDTH * 2);
    for (uint32_t i = 0; i < ROWS * WIDTH; i++) {
        double g = x[i / WIDTH * 2 * WIDTH + i % WIDTH];
        want[i] = g / (1 + exp(-g)) * x[(i / WIDTH * 2 + 1) * WIDTH + i % WIDTH];
    }
    device_tally_reset(k->d);
    kk_ok(k, swiglu_run(k->d, &a));
    kr_close(k, a.out, ROWS * WIDTH, false, want);
    swiglu_traffic(&a, &t);
    read[TAG_ACTIVATION] = ROWS * WIDTH * 4;
    written[TAG_ACTIVATION] = ROWS * WIDTH * 2;
    kr_counted(k, &t, read, written);
}

/* Equal largest ones everywhere in the row: the first counts. What lies between the rows does
 * not. */
static void arg_max_of(struct kk *k, uint32_t width, uint32_t stride)
{
    enum { ROWS = 6 };
    const uint32_t first[ROWS] = {0, width - 1, 1024, 77, 2047, 5};
    float *x = ARENA_NEW(k->a, float, ROWS *stride);
    uint32_t got[ROWS];
    struct argmax_args a = {.rows = ROWS, .width = width, .stride = stride};
    struct traffic t = {0};
    uint64_t read[N_TAGS] = {0}, written[N_TAGS] = {0};

    for (uint32_t i = 0; i < ROWS * stride; i++)
        x[i] = i % stride < width ? (float)(rng_unit(&k->rng) - 3) : 9.0f;
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t i = first[r]; i < width; i += 31 + r)
            x[r * stride + i] = -1.5f;
    a.logits = kk_put(k, TAG_ACTIVATION, x, (uint64_t)ROWS * stride * 4);
    a.out = kk_new(k, TAG_TABLES, sizeof got);
    device_tally_reset(k->d);
    kk_ok(k, argmax_run(k->d, &a));
    kk_get(k, got, a.out, sizeof got);
    for (uint32_t r = 0; r < ROWS; r++)
        kt_u64(got[r], first[r]);
    argmax_traffic(&a, &t);
    read[TAG_ACTIVATION] = (uint64_t)ROWS * ((width + 3) / 4 * 4) * 4;
    written[TAG_TABLES] = sizeof got;
    kr_counted(k, &t, read, written);
}

static void arg_max(void **state)
{
    arg_max_of(*state, 3000, 3000);
    arg_max_of(*state, 2999, 3000);
    arg_max_of(*state, 2062, 2072);
}

static void refuses(void **state)
{
    struct kk *k = *state;
    struct norm_args n = {.rows = 1, .width = 12};
    struct rope_args r = {.rows = 1, .heads = 1, .dim = 12};
    struct swiglu_args s = {.rows = 1};
    struct scale_args g = {.rows = 1, .heads = 1, .dim = 12};
    struct logits_args l = {.rows = 1, .width = 8, .stride = 7};
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
    kk_refused(k, scale_run(k->d, &g),
               "scale: at least one row and head, of a multiple of 8 elements");
    g.dim = 8;
    g.each = true;
    g.stride = 12;
    kk_refused(k, scale_run(k->d, &g),
               "scale: gates of each element are a multiple of 8 elements apart");
    g.stride = 8;
    g.rows = UINT32_MAX;
    kk_refused(k, scale_run(k->d, &g), "scale: at most 2^31 units of 8 elements at once");
    kk_refused(k, logits_run(k->d, &l),
               "logits: at least one row and column, rows that do not overlap");
    l.stride = 8;
    l.cap = -1;
    kk_refused(k, logits_run(k->d, &l), "logits: the cap must not be below 0");
    l.rows = UINT32_MAX;
    kk_refused(k, logits_run(k->d, &l), "logits: at most 2^31 of them at once");
    kk_refused(k, argmax_run(k->d, &m),
               "argmax: at least one row, of up to 2^24 elements, a multiple of 4 apart");
    m.stride = 4;
    kk_refused(k, argmax_run(k->d, &m),
               "argmax: at least one row, of up to 2^24 elements, a multiple of 4 apart");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(norm),           kk_reversed(norm), kk_test(layer_norm),
        kk_reversed(layer_norm), kk_test(rope),     kk_test(norm_of_large_mean),
        kk_test(swiglu),         kk_test(gate),     kk_test(logits),
        kk_test(arg_max),        kk_test(refuses),  kk_reversed(arg_max),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
