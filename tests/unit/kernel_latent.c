/* kernel_latent: attention over latents against double precision, on every storage format;
 * its error at most twice that of a plain kernel of the same precision; its traffic equal to
 * the formula; and rows of latents going into the cache and out of it. */
#include "kernels/latent.h"
#include "kernels/latent_rows.h"
#include "tests/kvstore.h"

struct setting {
    enum store store;
    uint32_t rank, rope;
    uint32_t sequences, q_heads, tokens, page, splits;
    uint32_t hidden, chosen, window;
    bool scaled, varied; /* varied: sequences of other lengths, down to 0 */
};

struct fixture {
    struct ks s;
    struct latent_args a;
    double *q, *want, *naive; /* q: [sequences][q_heads][k.dim] */
    double *lse;
    uint32_t *chosen;
    uint64_t rows, n_out;
};

/* --- a cache of latents ---------------------------------------------------------------------
 */

static float scale_at(const struct ks *s, uint64_t row, uint32_t d)
{
    const struct cache_side *k = &s->c.k;
    uint32_t rank = k->dim - k->rope;
    float scale = k->scale;

    if (k->store == STORE_DS_MLA)
        memcpy(&scale, s->k.codes + row * 656 + rank + d / 128 * 4, 4);
    else if (s->k.scales)
        memcpy(&scale, s->k.scales + 4 * row, 4);
    return scale;
}

/* What a stored element means, from the documented layout. */
static double value_at(const struct ks *s, uint32_t sequence, uint32_t token, uint32_t d)
{
    const struct cache_side *k = &s->c.k;
    uint64_t row = ks_row(s, sequence, 0, token);
    uint32_t rank = k->dim - k->rope;
    const uint8_t *at = s->k.codes + row * (k->store == STORE_DS_MLA ? 656 : k->dim);

    if (k->store == STORE_BF16)
        return ks_bf16(ks_get16(s->k.codes, row * k->dim + d));
    if (k->store == STORE_FP16)
        return ks_fp16(ks_get16(s->k.codes, row * k->dim + d));
    if (k->store == STORE_DS_MLA && d >= rank)
        return ks_bf16(ks_get16(at + 528, d - rank));
    if (k->store == STORE_INT8)
        return (double)scale_at(s, row, d) * (int8_t)at[d];
    return (double)scale_at(s, row, d) * ks_e4m3(at[d]);
}

static void fill_packed(struct kk *k, struct ks *s, uint64_t row)
{
    uint8_t *at = s->k.codes + row * 656;

    for (uint32_t d = 0; d < 512; d++)
        at[d] = (uint8_t)((rng_next(&k->rng) & 0x80) | rng_below(&k->rng, 0x44));
    for (uint32_t g = 0; g < 4; g++) {
        float x = (float)(0.5 + rng_unit(&k->rng));
        memcpy(at + 512 + 4 * g, &x, 4);
    }
    for (uint32_t d = 0; d < 64; d++)
        ks_put16(at + 528, d, ks_bits_bf16(kk_normal(k)));
}

static void fill(struct kk *k, struct ks *s)
{
    uint32_t dim = s->c.k.dim;

    s->k.x = ARENA_NEW(k->a, double, (uint64_t)s->c.sequences * s->tokens * dim);
    for (uint32_t i = 0; i < s->c.sequences; i++)
        for (uint32_t t = 0; t < s->lengths[i]; t++) {
            if (s->c.k.store == STORE_DS_MLA)
                fill_packed(k, s, ks_row(s, i, 0, t));
            else
                ks_fill_row(k, s, false, ks_row(s, i, 0, t), 0);
            for (uint32_t d = 0; d < dim; d++)
                ks_at(s, false, i, 0, t)[d] = value_at(s, i, t, d);
        }
}

static void open_cache(struct kk *k, const struct setting *o, struct ks *s)
{
    s->c = (struct cache_view){
        .k = {.store = o->store, .dim = o->rank + o->rope, .rope = o->rope, .scale = 0.0625f},
        .sequences = o->sequences,
        .heads = 1,
        .page_tokens = o->page,
        .max_pages = (o->tokens + o->page - 1) / o->page};
    s->tokens = o->tokens;
    s->lengths = ARENA_NEW(k->a, uint32_t, o->sequences);
    for (uint32_t i = 0; i < o->sequences; i++)
        s->lengths[i] = o->varied ? (uint32_t)rng_below(&k->rng, o->tokens + 1) : o->tokens;
    if (o->varied)
        s->lengths[0] = 0;
    s->lengths[o->sequences - 1] = o->tokens;
    ks_tables(k, s);
    ks_pools(k, s, false, o->scaled);
    fill(k, s);
    ks_upload(k, s, false);
}

/* --- attention as a formula -----------------------------------------------------------------
 */

/* Whether the query of a sequence reads that row. */
static bool reads(const struct fixture *f, uint32_t sequence, uint32_t t)
{
    const struct decode_args *of = &f->a.of;
    uint32_t end = f->s.lengths[sequence];

    end = end > of->hidden_tokens ? end - of->hidden_tokens : 0;
    if (t >= end || (of->window_tokens && t + of->window_tokens < end))
        return false;
    if (!f->a.chosen || end <= f->a.chosen_tokens)
        return true;
    for (uint32_t i = 0; i < f->a.chosen_tokens; i++)
        if (f->chosen[sequence * f->a.chosen_stride + i] == t)
            return true;
    return false;
}

/* naive: elements and probabilities rounded to 16 bits, sums in fp32, one token after the
 * other. */
static double attend(struct fixture *f, uint64_t row, bool naive, double *out)
{
    const struct ks *s = &f->s;
    uint32_t sequence = (uint32_t)(row / f->a.of.q_heads), n = s->lengths[sequence];
    uint32_t dim = s->c.k.dim, rank = dim - s->c.k.rope;
    const double *q = f->q + row * dim;
    bool fp16 = s->c.k.store == STORE_FP16;
    double (*round16)(double) = fp16 ? ks_round_fp16 : ks_round_bf16;
    double most = -INFINITY, total = 0, score[1024], sum[LATENT_RANK_MAX] = {0};

    for (uint32_t t = 0; t < n; t++) {
        const double *x = ks_at(s, false, sequence, 0, t);
        double dot = 0;
        for (uint32_t d = 0; d < dim; d++)
            dot = naive ? (float)(dot + q[d] * round16(x[d])) : dot + q[d] * x[d];
        score[t] = reads(f, sequence, t) ? dot * (double)f->a.of.scale : -INFINITY;
        most = fmax(most, score[t]);
    }
    for (uint32_t t = 0; t < n && most > -INFINITY; t++) {
        const double *x = ks_at(s, false, sequence, 0, t);
        double p = exp(score[t] - most);
        total = naive ? (float)(total + p) : total + p;
        p = naive ? round16(p) : p;
        for (uint32_t d = 0; d < rank; d++)
            sum[d] = naive ? (float)(sum[d] + p * round16(x[d])) : sum[d] + p * x[d];
    }
    for (uint32_t d = 0; d < rank; d++) {
        double x = total > 0 ? sum[d] / total : 0;
        out[d] = naive ? round16(x) : x;
    }
    return total > 0 ? most + log(total) : -INFINITY;
}

/* The rope part stands behind 8 elements of something else. */
static void queries(struct kk *k, struct fixture *f)
{
    uint32_t dim = f->s.c.k.dim, rope = f->s.c.k.rope, rank = dim - rope, stride = rope + 16;
    uint16_t *latent = ARENA_NEW(k->a, uint16_t, f->rows * rank);
    uint16_t *turned = ARENA_NEW(k->a, uint16_t, f->rows * stride);
    bool fp16 = f->s.c.k.store == STORE_FP16;

    memset(turned, 0xff, f->rows * stride * 2);
    f->q = ARENA_NEW(k->a, double, f->rows *dim);
    for (uint64_t i = 0; i < f->rows * dim; i++) {
        double x = kk_normal(k);
        uint16_t bits = fp16 ? ks_bits_fp16(x) : ks_bits_bf16(x);
        uint64_t row = i / dim, d = i % dim;
        f->q[i] = fp16 ? ks_fp16(bits) : ks_bf16(bits);
        if (d < rank)
            latent[row * rank + d] = bits;
        else
            turned[row * stride + 8 + d - rank] = bits;
    }
    f->a.of.q = kk_put(k, TAG_ACTIVATION, latent, 2 * f->rows * rank);
    f->a.rope = (uint16_t *)kk_put(k, TAG_ACTIVATION, turned, 2 * f->rows * stride) + 8;
    f->a.rope_stride = stride;
}

/* Distinct rows of every sequence, in no order. */
static void choose(struct kk *k, const struct setting *o, struct fixture *f)
{
    uint32_t *order = ARENA_NEW(k->a, uint32_t, o->tokens + 1);
    uint32_t n = o->sequences * (o->chosen + 3);

    f->chosen = ARENA_NEW(k->a, uint32_t, n);
    memset(f->chosen, 0xff, 4 * (size_t)n);
    for (uint32_t s = 0; s < o->sequences; s++) {
        uint32_t end = f->s.lengths[s] > o->hidden ? f->s.lengths[s] - o->hidden : 0;
        for (uint32_t i = 0; i < end; i++) {
            uint32_t j = (uint32_t)rng_below(&k->rng, i + 1);
            order[i] = order[j];
            order[j] = i;
        }
        for (uint32_t i = 0; i < o->chosen && i < end; i++)
            f->chosen[s * (o->chosen + 3) + i] = order[i];
    }
    f->a.chosen = kk_put(k, TAG_TABLES, f->chosen, 4 * (uint64_t)n);
    f->a.chosen_tokens = o->chosen;
    f->a.chosen_stride = o->chosen + 3;
}

static void build(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct decode_args *of = &f->a.of;

    *f = (struct fixture){.rows = (uint64_t)o->sequences * o->q_heads};
    open_cache(k, o, &f->s);
    f->n_out = f->rows * o->rank;
    *of = (struct decode_args){.c = f->s.c,
                               .q_heads = o->q_heads,
                               .splits = o->splits,
                               .hidden_tokens = o->hidden,
                               .window_tokens = o->window,
                               .scale = 1.0f / sqrtf((float)(o->rank + o->rope))};
    of->c.v.dim = o->rank;
    if (o->chosen)
        choose(k, o, f);
    queries(k, f);
    f->want = ARENA_NEW(k->a, double, f->n_out);
    f->naive = ARENA_NEW(k->a, double, f->n_out);
    f->lse = ARENA_NEW(k->a, double, f->rows);
    for (uint64_t i = 0; i < f->rows; i++) {
        f->lse[i] = attend(f, i, false, f->want + i * o->rank);
        attend(f, i, true, f->naive + i * o->rank);
    }
    of->out = kk_new(k, TAG_ACTIVATION, 2 * f->n_out);
    of->lse = kk_new(k, TAG_ACTIVATION, 4 * f->rows);
    if (o->splits > 1)
        of->work = kk_new(k, TAG_WORK, decode_work_bytes(of));
}

/* --- checks ---------------------------------------------------------------------------------
 */

static void accurate(struct kk *k, struct fixture *f)
{
    uint16_t *out = ARENA_NEW(k->a, uint16_t, f->n_out);
    float *lse = ARENA_NEW(k->a, float, f->rows);
    bool fp16 = f->s.c.k.store == STORE_FP16;
    double error = 0, naive = 0;

    kk_get(k, out, f->a.of.out, 2 * f->n_out);
    kk_get(k, lse, f->a.of.lse, 4 * f->rows);
    for (uint64_t i = 0; i < f->n_out; i++) {
        double x = fp16 ? ks_fp16(out[i]) : ks_bf16(out[i]);
        error = fmax(error, fabs(x - f->want[i]));
        naive = fmax(naive, fabs(f->naive[i] - f->want[i]));
        assert_true(isfinite(x) && fabs(x) < 100);
    }
    if (error > 2 * naive)
        print_error("largest error %g, of a plain kernel %g\n", error, naive);
    assert_true(error <= 2 * naive);
    for (uint64_t i = 0; i < f->rows; i++) /* codes are decoded to bf16 */
        assert_true((double)lse[i] == f->lse[i] ||
                    fabs((double)lse[i] - f->lse[i]) <
                        (store_bits(f->s.c.k.store) == 16 ? 1e-4 : 3e-2));
}

static void counted(struct kk *k, const struct fixture *f)
{
    const struct cache_side *c = &f->s.c.k;
    uint64_t n = 0, row = c->store == STORE_DS_MLA ? 656 : c->dim * store_bits(c->store) / 8;
    struct tally got, want = {.launches = f->a.of.splits > 1 ? 2 : 1};

    row += c->scales ? 4 : 0;
    for (uint32_t s = 0; s < f->s.c.sequences; s++)
        for (uint32_t t = 0; t < f->s.lengths[s]; t++)
            n += reads(f, s, t);
    latent_traffic(&f->a, f->s.lengths, &want.issued);
    kt_u64(want.issued.useful_flop, n * f->a.of.q_heads * 2 * (2 * c->dim - c->rope));
    want.unique_read_bytes[TAG_K] = n * row;
    want.unique_written_bytes[TAG_ACTIVATION] = 2 * f->n_out + 4 * f->rows;
    want.unique_read_bytes[TAG_WORK] = want.issued.read_bytes[TAG_WORK];
    want.unique_written_bytes[TAG_WORK] = want.issued.written_bytes[TAG_WORK];
    if (!kk_seen(k, &got))
        return;
    want.unique_read_bytes[TAG_TABLES] = got.unique_read_bytes[TAG_TABLES];
    want.unique_read_bytes[TAG_ACTIVATION] = got.unique_read_bytes[TAG_ACTIVATION];
    assert_true(got.unique_read_bytes[TAG_ACTIVATION] <= f->rows * c->dim * 2);
    kk_tally(k, &want);
}

static void run_all(struct kk *k, const struct setting *o, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct fixture f;
        print_message("# setting %zu\n", i);
        build(k, &o[i], &f);
        device_tally_reset(k->d);
        if (!kk_ran(k, latent_run(k->d, &f.a)))
            continue;
        accurate(k, &f);
        counted(k, &f);
    }
}
#define RUN_ALL(k, o) run_all((k), (o), sizeof(o) / sizeof *(o))

/* The true width, and others; fewer heads than a tile, and several tiles of them. */
static void shapes(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, 512, 64, 1, 16, 70, 16, .splits = 1},
        {STORE_BF16, 512, 64, 2, 40, 37, 64, .splits = 1, .varied = true},
        {STORE_BF16, 32, 16, 2, 4, 50, 16, .splits = 1},
        {STORE_BF16, 48, 8, 1, 3, 33, 7, .splits = 1},
        {STORE_BF16, 16, 0, 1, 17, 20, 1, .splits = 1},
        {STORE_BF16, 256, 32, 3, 20, 45, 16, .splits = 1, .varied = true},
    };

    RUN_ALL(*state, all);
}

static void splits(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, 512, 64, 1, 16, 200, 16, .splits = 3},
        {STORE_BF16, 64, 16, 3, 20, 100, 16, .splits = 5, .varied = true},
        {STORE_BF16, 512, 64, 1, 2, 40, 16, .splits = 7, .hidden = 40},
        {STORE_BF16, 64, 16, 1, 2, 17, 16, .splits = 256},
    };

    RUN_ALL(*state, all);
}

/* Masked diagonals, windows, and selections that are shorter or longer than what is there. */
static void visible(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, 64, 16, 3, 4, 50, 16, .splits = 1, .hidden = 1, .varied = true},
        {STORE_BF16, 64, 16, 1, 4, 1, 16, .splits = 1, .hidden = 1},
        {STORE_BF16, 64, 16, 1, 4, 60, 16, .splits = 2, .window = 33},
        {STORE_BF16, 64, 16, 3, 20, 90, 16, .splits = 1, .chosen = 24, .varied = true},
        {STORE_BF16, 512, 64, 2, 16, 90, 16, .splits = 2, .chosen = 40, .hidden = 1},
        {STORE_BF16, 64, 16, 2, 4, 30, 16, .splits = 1, .chosen = 64},
    };

    RUN_ALL(*state, all);
}

static void formats(void **state)
{
    static const struct setting all[] = {
        {STORE_FP16, 512, 64, 1, 16, 70, 16, .splits = 1},
        {STORE_FP16, 64, 16, 2, 20, 50, 16, .splits = 2, .varied = true},
        {STORE_FP8, 512, 64, 1, 16, 70, 16, .splits = 1},
        {STORE_FP8, 64, 16, 2, 20, 50, 16, .splits = 2, .scaled = true, .varied = true},
        {STORE_INT8, 64, 16, 2, 20, 50, 16, .splits = 1, .scaled = true},
        {STORE_INT8, 64, 16, 2, 4, 50, 16, .splits = 1},
        {STORE_DS_MLA, 512, 64, 1, 16, 70, 16, .splits = 1},
        {STORE_DS_MLA, 512, 64, 2, 40, 40, 64, .splits = 2, .varied = true},
    };

    RUN_ALL(*state, all);
}

/* --- rows in and out ------------------------------------------------------------------------
 */

static uint16_t *random_rows(struct kk *k, uint64_t n, bool fp16, void **on_device)
{
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n + 1);

    for (uint64_t i = 0; i < n; i++)
        bits[i] = fp16 ? ks_bits_fp16(kk_normal(k)) : ks_bits_bf16(kk_normal(k));
    *on_device = kk_put(k, TAG_ACTIVATION, bits, 2 * (n + 1));
    return bits;
}

/* Within half a step of the format: 3 bits of mantissa, or steps of the scale. */
static void near(const struct ks *s, uint64_t row, uint32_t d, double got, double want)
{
    const struct cache_side *k = &s->c.k;
    double scale = (double)scale_at(s, row, d), room = 0;

    if (k->store == STORE_INT8)
        room = scale * 0.501;
    else if (store_bits(k->store) == 8 && (k->store == STORE_FP8 || d < k->dim - k->rope))
        room = fmax(fabs(want) / 15.9, scale / 1000);
    assert_true(fabs(got - want) <= room);
}

static void append_counted(struct kk *k, const struct ks *s, const struct latent_append_args *a)
{
    const struct cache_side *c = &s->c.k;
    uint64_t row = c->store == STORE_DS_MLA ? 656 : c->dim * store_bits(c->store) / 8;
    struct tally want = {.launches = 1}, got;

    latent_append_traffic(a, &want.issued);
    if (!kk_seen(k, &got))
        return;
    kt_u64(want.issued.written_bytes[TAG_K], a->rows * (row + (c->scales ? 4 : 0)));
    memcpy(want.unique_read_bytes, got.unique_read_bytes, sizeof got.unique_read_bytes);
    memcpy(want.unique_written_bytes, want.issued.written_bytes,
           sizeof want.unique_written_bytes);
    kt_u64(got.unique_read_bytes[TAG_ACTIVATION], want.issued.read_bytes[TAG_ACTIVATION]);
    kk_tally(k, &want);
}

/* Every token of both sequences, in one call; then what is in the cache. */
static void append_all(struct kk *k, const struct setting *o, struct ks *s)
{
    uint32_t n = o->sequences * o->tokens, dim = o->rank + o->rope;
    uint32_t *sequence = ARENA_NEW(k->a, uint32_t, n), *index = ARENA_NEW(k->a, uint32_t, n);
    bool fp16 = o->store == STORE_FP16;
    struct latent_append_args a = {.rows = n};
    void *latent, *position;
    uint16_t *x = random_rows(k, (uint64_t)n * o->rank, fp16, &latent);
    uint16_t *y = random_rows(k, (uint64_t)n * o->rope, fp16, &position);

    for (uint32_t i = 0; i < n; i++) {
        sequence[i] = i % o->sequences;
        index[i] = o->tokens - 1 - i / o->sequences;
    }
    a.c = s->c;
    a.latent = latent;
    a.position = position;
    a.sequence = kk_put(k, TAG_TABLES, sequence, 4 * (uint64_t)n);
    a.index = kk_put(k, TAG_TABLES, index, 4 * (uint64_t)n);
    device_tally_reset(k->d);
    kk_ok(k, latent_append_run(k->d, &a));
    append_counted(k, s, &a);
    kk_get(k, s->k.codes, s->c.k.codes, cache_code_bytes(&s->c, false, s->pages));
    if (s->k.scales)
        kk_get(k, s->k.scales, s->c.k.scales, cache_scale_bytes(&s->c, false, s->pages));
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t d = 0; d < dim; d++) {
            uint16_t bits = d < o->rank ? x[i * o->rank + d] : y[i * o->rope + d - o->rank];
            double got = value_at(s, sequence[i], index[i], d);
            near(s, ks_row(s, sequence[i], 0, index[i]), d, got,
                 fp16 ? ks_fp16(bits) : ks_bf16(bits));
        }
}

static void unpack_counted(struct kk *k, const struct latent_unpack_args *a)
{
    struct tally want = {.launches = 1}, got;

    latent_unpack_traffic(a, &want.issued);
    if (!kk_seen(k, &got))
        return;
    memcpy(want.unique_read_bytes, got.unique_read_bytes, sizeof got.unique_read_bytes);
    memcpy(want.unique_written_bytes, want.issued.written_bytes,
           sizeof want.unique_written_bytes);
    kt_u64(got.unique_read_bytes[TAG_K],
           a->rows * (uint64_t)(cache_row_bytes(&a->c.k) + (a->c.k.scales ? 4 : 0)));
    kk_tally(k, &want);
}

/* The second sequence's rows, three heads of keys, whose first elements are left alone. */
static void unpack_one(struct kk *k, const struct setting *o, const struct ks *s)
{
    uint32_t stride = o->rope + 24, rows = o->tokens - 1, heads = 3;
    uint64_t n_keys = (uint64_t)rows * heads * stride;
    uint16_t *latent = ARENA_NEW(k->a, uint16_t, (uint64_t)rows * o->rank);
    uint16_t *keys = ARENA_NEW(k->a, uint16_t, n_keys);
    struct latent_unpack_args a = {.c = s->c, .rows = rows, .heads = heads, .stride = stride};
    bool fp16 = o->store == STORE_FP16;

    a.c.sequences = 1;
    a.c.table += s->c.max_pages;
    a.latent = kk_new(k, TAG_ACTIVATION, (uint64_t)rows * o->rank * 2);
    a.keys = kk_new(k, TAG_ACTIVATION, n_keys * 2);
    device_tally_reset(k->d);
    kk_ok(k, latent_unpack_run(k->d, &a));
    unpack_counted(k, &a);
    kk_get(k, latent, a.latent, (uint64_t)rows * o->rank * 2);
    kk_get(k, keys, a.keys, n_keys * 2);
    for (uint32_t i = 0; i < rows * o->rank; i++) {
        double x = value_at(s, 1, i / o->rank, i % o->rank);
        assert_true((fp16 ? ks_fp16(latent[i]) : ks_bf16(latent[i])) ==
                    (fp16 ? x : ks_round_bf16(x)));
    }
    for (uint64_t i = 0; i < n_keys; i++) {
        uint32_t token = (uint32_t)(i / stride / heads), d = (uint32_t)(i % stride);
        double x = d < 24 ? 0 : value_at(s, 1, token, o->rank + d - 24);
        if (d < 24)
            assert_int_equal(keys[i], 0xffff);
        else
            assert_true((fp16 ? ks_fp16(keys[i]) : ks_bf16(keys[i])) ==
                        (fp16 ? x : ks_round_bf16(x)));
    }
}

static void rows(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, 512, 64, 2, 0, 19, 16, .splits = 1},
        {STORE_FP16, 64, 16, 2, 0, 19, 7, .splits = 1},
        {STORE_FP8, 512, 64, 2, 0, 9, 16, .scaled = true},
        {STORE_FP8, 48, 8, 2, 0, 9, 16, .splits = 1},
        {STORE_INT8, 64, 16, 2, 0, 9, 16, .scaled = true},
        {STORE_INT8, 272, 0, 2, 0, 9, 16, .splits = 1},
        {STORE_DS_MLA, 512, 64, 2, 0, 9, 16, .splits = 1},
    };
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct ks s = {.tokens = 0};
        print_message("# setting %zu\n", i);
        open_cache(k, &all[i], &s);
        append_all(k, &all[i], &s);
        unpack_one(k, &all[i], &s);
    }
}

/* --- refusals -------------------------------------------------------------------------------
 */

static void refuses(void **state)
{
    struct kk *k = *state;
    static const struct setting plain = {STORE_BF16, 64, 16, 1, 4, 20, 16, .splits = 1};
    struct fixture f;

    build(k, &plain, &f);
#define REFUSED(change, why)                                                                   \
    do {                                                                                       \
        struct latent_args a = f.a;                                                            \
        change;                                                                                \
        kk_refused(k, latent_run(k->d, &a), "latent: " why);                                   \
    } while (0)
    REFUSED(a.of.c.k.dim = 0, "a latent has a multiple of 16 elements, up to 512");
    REFUSED(a.of.c.k.dim = 84, "a latent has a multiple of 16 elements, up to 512");
    REFUSED(a.of.c.k.dim = 544, "a latent has a multiple of 16 elements, up to 512");
    REFUSED(a.of.c.k.rope = 80;
            a.of.c.k.dim = 96,
            "the rope part of a latent has a multiple of 8 elements, up to 64");
    REFUSED(a.of.c.k.store = STORE_INT4, "latents are stored in 16 or 8 bits");
    REFUSED(a.of.c.k.store = STORE_DS_MLA, "fp8_ds_mla is for latents of 512");
    REFUSED(a.of.c.heads = 2, "latents have one head, the same for all");
    REFUSED(a.of.c.ragged = true, "latents have one head, the same for all");
    REFUSED(a.of.c.sequences = 0, "1 to 65535 sequences, and at least one head");
    REFUSED(a.of.c.page_tokens = 0, "pages and tables must not be empty");
    REFUSED(a.of.c.v.dim = 48, "the values are the latent without its rope part");
    REFUSED(a.of.q_heads = 0, "1 to 65535 query heads");
    REFUSED(a.of.splits = 257, "1 to 256 splits");
    REFUSED(a.of.splits = 2, "several splits need work memory");
    REFUSED(a.rope_stride = 8,
            "rope parts are a multiple of 8 elements apart, at least their length");
    REFUSED(a.chosen = f.s.c.table,
            "a selection has at least one row, and lists do not overlap");
#undef REFUSED
}

static void refuses_rows(void **state)
{
    struct kk *k = *state;
    static const struct setting plain = {STORE_BF16, 64, 16, 2, 4, 20, 16, .splits = 1};
    struct ks s = {.tokens = 0};
    struct latent_append_args in = {.rows = 1};
    struct latent_unpack_args out = {.rows = 1, .heads = 1, .stride = 16};

    open_cache(k, &plain, &s);
    in.c = out.c = s.c;
    in.c.heads = 2;
    kk_refused(k, latent_append_run(k->d, &in),
               "latent append: latents have one head, the same for all");
    in.c.heads = 1;
    in.rows = 1u << 31;
    kk_refused(k, latent_append_run(k->d, &in), "latent append: at most 2^31 - 1 rows at once");
    kk_refused(k, latent_unpack_run(k->d, &out), "latent unpack: one sequence at a time");
    out.c.sequences = 1;
    out.stride = 8;
    kk_refused(k, latent_unpack_run(k->d, &out),
               "latent unpack: keys of at least one head, a multiple of 8 elements that the "
               "rope part fits into");
    out.stride = 16;
    out.rows = 1u << 31;
    kk_refused(k, latent_unpack_run(k->d, &out),
               "latent unpack: at most 2^31 - 1 rows at once");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(shapes),  kk_test(splits),       kk_reversed(splits), kk_test(visible),
        kk_test(formats), kk_test(rows),         kk_reversed(rows),   kk_reversed(formats),
        kk_test(refuses), kk_test(refuses_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
