/* kernel_index: scores of the indexer against double precision, its traffic equal to the
 * formula, and the bits of a selection. */
#include "kernels/index.h"
#include "tests/kvstore.h"

struct setting {
    uint32_t dim, heads, sequences, tokens, page, rows;
};

struct fixture {
    struct ks s;
    struct index_args a;
    double *q, *weights;
    uint32_t *sequence, *position;
};

static const void *numbers(struct kk *k, uint64_t n, double **values)
{
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n);

    *values = ARENA_NEW(k->a, double, n);
    for (uint64_t i = 0; i < n; i++) {
        bits[i] = ks_bits_bf16(kk_normal(k));
        (*values)[i] = ks_bf16(bits[i]);
    }
    return kk_put(k, TAG_ACTIVATION, bits, 2 * n);
}

static void build(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct ks *s = &f->s;

    *f = (struct fixture){.a = {.rows = o->rows, .heads = o->heads, .scale = 0.125f}};
    s->c = (struct cache_view){.k = {.store = STORE_FP8, .dim = o->dim},
                               .sequences = o->sequences,
                               .heads = 1,
                               .page_tokens = o->page,
                               .max_pages = (o->tokens + o->page - 1) / o->page};
    s->tokens = o->tokens;
    s->lengths = ARENA_NEW(k->a, uint32_t, o->sequences);
    for (uint32_t i = 0; i < o->sequences; i++)
        s->lengths[i] = o->tokens;
    ks_tables(k, s);
    ks_pools(k, s, false, true);
    ks_fill(k, s, false);
    ks_upload(k, s, false);
    f->sequence = ARENA_NEW(k->a, uint32_t, o->rows);
    f->position = ARENA_NEW(k->a, uint32_t, o->rows);
    for (uint32_t r = 0; r < o->rows; r++) {
        f->sequence[r] = (uint32_t)rng_below(&k->rng, o->sequences);
        f->position[r] = r ? (uint32_t)rng_below(&k->rng, o->tokens) : o->tokens - 1;
    }
    f->a.c = s->c;
    f->a.width = o->tokens + 3;
    f->a.q = numbers(k, (uint64_t)o->rows * o->heads * o->dim, &f->q);
    f->a.weights = numbers(k, (uint64_t)o->rows * o->heads, &f->weights);
    f->a.sequence = kk_put(k, TAG_TABLES, f->sequence, 4 * (uint64_t)o->rows);
    f->a.position = kk_put(k, TAG_TABLES, f->position, 4 * (uint64_t)o->rows);
    f->a.scores = kk_new(k, TAG_WORK, 4 * (uint64_t)o->rows * f->a.width);
}

/* Products are exact, sums in fp32; beyond what a query sees nothing is written. */
static void accurate(struct kk *k, const struct setting *o, const struct fixture *f)
{
    uint64_t n = (uint64_t)o->rows * f->a.width;
    float *got = ARENA_NEW(k->a, float, n);

    kk_get(k, got, f->a.scores, 4 * n);
    for (uint32_t r = 0; r < o->rows; r++)
        for (uint32_t t = 0; t < f->a.width; t++) {
            double sum = 0, size = 0;
            if (t > f->position[r]) {
                assert_true(isnan(got[r * f->a.width + t]));
                continue;
            }
            for (uint32_t h = 0; h < o->heads; h++) {
                const double *q = f->q + ((size_t)r * o->heads + h) * o->dim;
                double dot = 0;
                for (uint32_t d = 0; d < o->dim; d++)
                    dot += q[d] * ks_at(&f->s, false, f->sequence[r], 0, t)[d];
                sum += fmax(dot, 0) * f->weights[r * o->heads + h];
                size += fabs(dot * f->weights[r * o->heads + h]);
            }
            assert_true(fabs((double)got[r * f->a.width + t] - 0.125 * sum) <=
                        1e-5 * (size + 1));
        }
}

static void counted(struct kk *k, const struct setting *o, const struct fixture *f)
{
    struct tally want = {.launches = 1}, got;
    uint64_t pairs = 0;

    index_traffic(&f->a, f->position, &want.issued);
    for (uint32_t r = 0; r < o->rows; r++)
        pairs += f->position[r] + 1;
    kt_u64(want.issued.useful_flop, pairs * o->heads * o->dim * 2);
    if (!kk_seen(k, &got))
        return;
    memcpy(want.unique_read_bytes, got.unique_read_bytes, sizeof got.unique_read_bytes);
    want.unique_written_bytes[TAG_WORK] = 4 * pairs;
    if (o->sequences == 1) /* the first query sees everything */
        kt_u64(got.unique_read_bytes[TAG_K], o->tokens * (uint64_t)(o->dim + 4));
    kk_tally(k, &want);
}

static void scores(void **state)
{
    static const struct setting all[] = {
        {128, 64, 1, 200, 64, 3},
        {128, 8, 2, 77, 16, 5},
        {64, 32, 3, 130, 7, 4},
        {32, 128, 1, 1, 1, 1},
    };
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct fixture f;
        print_message("# setting %zu\n", i);
        build(k, &all[i], &f);
        device_tally_reset(k->d);
        if (!kk_ran(k, index_run(k->d, &f.a)))
            continue;
        accurate(k, &all[i], &f);
        counted(k, &all[i], &f);
    }
}

static void norms(void **state)
{
    struct kk *k = *state;

    for (uint32_t i = 0; i < 6; i++) {
        uint32_t dim = 32u << i / 2;
        struct index_norm_args a = {
            .rows = 7, .dim = dim, .epsilon = 1e-6f, .wide_weight = i % 2};
        struct tally want = {.launches = 1};
        uint16_t got[7 * 128];
        double *x, *w;
        void *p = (void *)(uintptr_t)numbers(k, (uint64_t)a.rows * dim, &x);
        uint16_t *bits = ARENA_NEW(k->a, uint16_t, 2 * dim);
        float *wide = ARENA_NEW(k->a, float, 2 * dim);
        w = ARENA_NEW(k->a, double, 2 * dim);
        for (uint32_t j = 0; j < 2 * dim; j++) {
            wide[j] = (float)kk_normal(k);
            bits[j] = ks_bits_bf16((double)wide[j]);
            w[j] = a.wide_weight ? (double)wide[j] : ks_bf16(bits[j]);
        }
        a.x = p;
        a.weight = a.wide_weight ? kk_put(k, TAG_WEIGHTS, wide, 8ull * dim)
                                 : kk_put(k, TAG_WEIGHTS, bits, 4ull * dim);
        device_tally_reset(k->d);
        kk_ok(k, index_norm_run(k->d, &a));
        index_norm_traffic(&a, &want.issued);
        want.unique_read_bytes[TAG_ACTIVATION] = 2 * (uint64_t)a.rows * dim;
        want.unique_written_bytes[TAG_ACTIVATION] = 2 * (uint64_t)a.rows * dim;
        want.unique_read_bytes[TAG_WEIGHTS] = (a.wide_weight ? 8ull : 4ull) * dim;
        kk_tally(k, &want);
        kk_get(k, got, a.x, 2 * (uint64_t)a.rows * dim);
        for (uint32_t n = 0; n < a.rows * dim; n++) {
            const double *row = x + n / dim * dim;
            double mean = 0, squares = 0, y;
            for (uint32_t j = 0; j < dim; j++)
                mean += row[j] / dim;
            for (uint32_t j = 0; j < dim; j++)
                squares += pow(row[j] - mean, 2) / dim;
            y = (x[n] - mean) / sqrt(squares + 1e-6) * w[n % dim] + w[dim + n % dim];
            assert_true(fabs(ks_bf16(got[n]) - y) <= ldexp(fabs(y), -8) + 1e-5);
        }
    }
}

static void bits(void **state)
{
    struct kk *k = *state;
    enum { ROWS = 3, WIDTH = 150, WORDS = 6 };
    uint32_t index[ROWS * WIDTH], keep[ROWS] = {0, 150, 40}, mask[ROWS * WORDS];
    struct index_mask_args a = {.rows = ROWS, .width = WIDTH, .words = WORDS};

    for (uint32_t i = 0; i < ROWS * WIDTH; i++)
        index[i] = i / WIDTH == 1 ? i % WIDTH : 3 * (i % WIDTH) % 128;
    a.index = kk_put(k, TAG_WORK, index, sizeof index);
    a.keep = kk_put(k, TAG_WORK, keep, sizeof keep);
    a.mask = kk_new(k, TAG_WORK, sizeof mask);
    kk_ok(k, index_mask_run(k->d, &a));
    kk_get(k, mask, a.mask, sizeof mask);
    for (uint32_t i = 0; i < ROWS * WORDS * 32; i++) {
        uint32_t row = i / (WORDS * 32), at = i % (WORDS * 32), want = 0;
        for (uint32_t j = 0; j < keep[row]; j++)
            want |= index[row * WIDTH + j] == at;
        kt_u64(mask[i / 32] >> i % 32 & 1, want);
    }
    a.words = 4;
    kk_refused(k, index_mask_run(k->d, &a),
               "index mask: at least one row, with a bit for each place");
}

static void refuses(void **state)
{
    static const struct setting plain = {64, 8, 1, 20, 16, 2};
    struct kk *k = *state;
    struct fixture f;

    build(k, &plain, &f);
#define REFUSED(change, why)                                                                   \
    do {                                                                                       \
        struct index_args a = f.a;                                                             \
        change;                                                                                \
        kk_refused(k, index_run(k->d, &a), "index: " why);                                     \
    } while (0)
    REFUSED(a.c.heads = 2, "latents have one head, the same for all");
    REFUSED(a.c.k.dim = 48, "keys have a multiple of 32 elements, up to 128");
    REFUSED(a.c.k.dim = 160, "keys have a multiple of 32 elements, up to 128");
    REFUSED(a.c.k.rope = 16, "keys have a multiple of 32 elements, up to 128");
    REFUSED(a.c.k.store = STORE_BF16, "keys are fp8 with a scale each");
    REFUSED(a.c.k.scales = NULL, "keys are fp8 with a scale each");
    REFUSED(a.heads = 4, "a multiple of 8 heads, up to 128");
    REFUSED(a.heads = 136, "a multiple of 8 heads, up to 128");
    REFUSED(a.rows = 0, "1 to 2^31 - 1 queries of at most 2^22 rows");
    REFUSED(a.width = 0, "1 to 2^31 - 1 queries of at most 2^22 rows");
#undef REFUSED
    kk_refused(k, index_norm_run(k->d, &(struct index_norm_args){.rows = 1, .dim = 136}),
               "index norm: at least one row, of a multiple of 8 elements up to 128");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(norms), kk_test(scores),   kk_reversed(scores),
        kk_test(bits),  kk_reversed(bits), kk_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
