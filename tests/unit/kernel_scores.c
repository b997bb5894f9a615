/* kernel_scores: sums of attention probabilities against double precision for every way the
 * rows may lie and be seen; pooling and AdaKV's budgets against their definitions. Traffic as
 * the formulas say. */
#include "kernels/evict.h"
#include "kernels/scores.h"
#include "tests/kvstore.h"

struct setting {
    enum store store;
    uint32_t dim, group, residual;
    uint32_t heads, q_heads, page;
    bool ragged, scaled;
    uint32_t chunk, stored; /* rows of the longest chunk, and what a cache holds before it */
    uint32_t queries, tail, hidden, window, sinks;
    bool add, largest;
    float cap;
    bool slopes, shifting;
};

enum { SEQUENCES = 2 };

struct fixture {
    struct ks s;
    struct scores_args a;
    uint32_t first[SEQUENCES + 1], *offset;
    double *q;                    /* [rows][q_heads][dim] */
    float *lse, *before, *slopes; /* slopes: [q_heads], or NULL */
    uint64_t n_sums, parts_bytes;
};

/* The second sequence has a shorter chunk; ragged heads have fewer rows before theirs. */
static void fill(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct ks *s = &f->s;

    *f = (struct fixture){.first = {0, o->chunk, o->chunk + (o->chunk + 1) / 2}};
    s->tokens = o->stored + o->chunk;
    s->c = (struct cache_view){
        .k = {.store = o->store, .dim = o->dim, .group = o->group, .scale = 0.0625f},
        .v = {.store = o->store, .dim = o->dim, .group = o->group, .scale = 0.0625f},
        .sequences = SEQUENCES,
        .heads = o->heads,
        .page_tokens = o->page,
        .max_pages = (s->tokens + o->page - 1) / o->page,
        .residual = o->residual,
        .ragged = o->ragged};
    uint64_t n = ks_lengths(s);
    s->lengths = ARENA_NEW(k->a, uint32_t, n);
    f->offset = ARENA_NEW(k->a, uint32_t, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t sequence = o->ragged ? i / o->heads : i;
        f->offset[i] = o->stored > 3 * i ? o->stored - 3 * i : 0;
        s->lengths[i] = f->offset[i] + f->first[sequence + 1] - f->first[sequence];
    }
    ks_tables(k, s);
    ks_pools(k, s, false, o->scaled);
    ks_fill(k, s, false);
    ks_upload(k, s, false);
}

static void queries(struct kk *k, const struct setting *o, struct fixture *f)
{
    uint64_t n = (uint64_t)f->first[SEQUENCES] * o->q_heads * o->dim;
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n);
    bool fp16 = o->store == STORE_FP16;

    f->q = ARENA_NEW(k->a, double, n);
    for (uint64_t i = 0; i < n; i++) {
        double x = kk_normal(k);
        bits[i] = fp16 ? ks_bits_fp16(x) : ks_bits_bf16(x);
        f->q[i] = fp16 ? ks_fp16(bits[i]) : ks_bf16(bits[i]);
    }
    f->a.of.q = kk_put(k, TAG_ACTIVATION, bits, 2 * n);
}

/* Those of ALiBi: a geometric sequence. */
static void slope(struct kk *k, const struct setting *o, struct fixture *f)
{
    f->a.of.cap = o->cap;
    if (!o->slopes)
        return;
    f->slopes = ARENA_NEW(k->a, float, o->q_heads);
    for (uint32_t h = 0; h < o->q_heads; h++)
        f->slopes[h] = (float)pow(2, -8.0 * (h + 1) / o->q_heads);
    f->a.of.slopes = kk_put(k, TAG_TABLES, f->slopes, 4 * o->q_heads);
}

static uint32_t offset_of(const struct fixture *f, uint32_t sequence, uint32_t head)
{
    return f->offset[f->s.c.ragged ? sequence * f->s.c.heads + head : sequence];
}

static bool sees(const struct setting *o, int64_t position, int64_t token)
{
    int64_t end = position + 1 - o->hidden;

    if (token >= end)
        return false;
    return !o->window || token >= end - o->window || token < o->sinks;
}

/* exp(scale q . k), as the model has it capped and sloped, of query head h of row i of a chunk,
 * or 0. */
static double weight(const struct fixture *f, const struct setting *o, const uint32_t *at,
                     uint32_t token)
{
    uint32_t sequence = at[0], i = at[1], h = at[2], head = h / (o->q_heads / o->heads);
    const double *x = ks_at(&f->s, false, sequence, head, token), *q;
    double dot = 0;

    if (!sees(o, (int64_t)offset_of(f, sequence, head) + i, token))
        return 0;
    q = f->q + ((uint64_t)(f->first[sequence] + i) * o->q_heads + h) * o->dim;
    for (uint32_t d = 0; d < o->dim; d++) /* groups are decoded to bf16 */
        dot += q[d] * (store_bits(o->store) < 8 ? ks_round_bf16(x[d]) : x[d]);
    dot *= (double)f->a.of.scale;
    if (o->cap > 0)
        dot = (double)o->cap * tanh(dot / (double)o->cap);
    return exp(dot + (f->slopes ? (double)f->slopes[h] * token : 0));
}

static double total(const struct fixture *f, const struct setting *o, const uint32_t *at)
{
    double sum = 0;

    for (uint32_t t = 0; t < ks_length(&f->s, at[0], at[2] / (o->q_heads / o->heads)); t++)
        sum += weight(f, o, at, t);
    return sum;
}

static void normalizers(struct kk *k, const struct setting *o, struct fixture *f)
{
    uint64_t n = (uint64_t)f->first[SEQUENCES] * o->q_heads;

    f->lse = ARENA_NEW(k->a, float, n);
    for (uint32_t s = 0; s < SEQUENCES; s++)
        for (uint32_t i = 0; i < f->first[s + 1] - f->first[s]; i++)
            for (uint32_t h = 0; h < o->q_heads; h++) {
                uint32_t at[] = {s, i, h};
                f->lse[(f->first[s] + i) * o->q_heads + h] = (float)log(total(f, o, at));
            }
    f->a.of.lse = kk_put(k, TAG_ACTIVATION, f->lse, n * 4);
}

/* What the queries of one query head that score look at row `token`: the sum; or the mean and,
 * by *shift, the entropies and the variance. */
static double looked(const struct fixture *f, const struct setting *o, const uint32_t *list,
                     uint32_t token, double *shift)
{
    uint32_t sequence = list[0], rows = f->first[sequence + 1] - f->first[sequence];
    uint32_t from = o->queries && o->queries < rows ? rows - o->queries : 0;
    double p[512], sum = 0, variance = 0;

    for (uint32_t i = from; i < rows; i++) {
        uint32_t at[] = {sequence, i, list[1]};
        double lse = (double)f->lse[(f->first[sequence] + i) * o->q_heads + at[2]];
        double w = weight(f, o, at, token);
        sum += p[i] = w > 0 ? exp(log(w) - lse) : 0;
    }
    if (!o->shifting)
        return sum;
    for (uint32_t i = from; i < rows; i++) {
        shift[0] -= p[i] * log(p[i] + 1e-10);
        variance += pow(p[i] - sum / (rows - from), 2);
    }
    variance = rows - from > 1 ? variance / (rows - from - 1) : 0;
    shift[1] += variance;
    return sum / (rows - from) + (double)f->a.gamma * variance;
}

/* What row `token` of a K/V head gets from the queries that score. */
static double score(const struct fixture *f, const struct setting *o, uint32_t list,
                    uint32_t token, double *shift)
{
    uint32_t sequence = list / o->heads, group = o->q_heads / o->heads;
    double out = 0;

    for (uint32_t g = 0; g < group; g++) {
        uint32_t at[] = {sequence, list % o->heads * group + g};
        double sum = looked(f, o, at, token, shift);
        out = o->largest ? fmax(out, sum) : out + sum;
    }
    return out;
}

/* The parts of a list add up to its entropy and variance. */
static void check_parts(struct kk *k, const struct setting *o, const struct fixture *f,
                        uint32_t list, const double *want)
{
    uint32_t n = scores_parts(&f->a);
    float *parts = ARENA_NEW(k->a, float, 2 * n);
    double got[2] = {0, 0};

    if (!o->shifting)
        return;
    kk_get(k, parts, f->a.parts + 2 * (size_t)list * n, 8 * (uint64_t)n);
    for (uint32_t i = 0; i < 2 * n; i++)
        got[i % 2] += (double)parts[i];
    for (uint32_t i = 0; i < 2; i++)
        assert_true(fabs(got[i] - want[i]) <= 2e-5 * fabs(want[i]) + 1e-9);
}

static void check(struct kk *k, const struct setting *o, struct fixture *f)
{
    float *got = ARENA_NEW(k->a, float, f->n_sums);
    double part = 2e-5; /* fp32 sums, and exponents of a few units */

    kk_get(k, got, f->a.sums, f->n_sums * 4);
    for (uint32_t l = 0; l < SEQUENCES * o->heads; l++) {
        uint32_t n = ks_length(&f->s, l / o->heads, l % o->heads);
        uint32_t columns = n > o->tail ? n - o->tail : 0;
        double shift[2] = {0, 0};
        for (uint32_t t = 0; t < columns; t++) {
            double want = score(f, o, l, t, shift);
            float own = got[l * f->a.width + t];
            if (o->add && t < offset_of(f, l / o->heads, l % o->heads))
                want += (double)f->before[l * f->a.width + t];
            if (!(fabs((double)own - want) <= part * want + 1e-9))
                print_error("list %u row %u: %g for %g\n", l, t, (double)own, want);
            assert_true(fabs((double)own - want) <= part * want + 1e-9);
        }
        if (columns < f->a.width && !o->add)
            assert_true(isnan(got[l * f->a.width + columns])); /* poisoned, as before */
        check_parts(k, o, f, l, shift);
    }
}

/* Rows of K that some scoring query sees, in blocks of SCORES_KEYS: those are read. */
static void tallied(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct tally seen, want = {.launches = 1};
    uint64_t columns = 0, old = 0, pairs = 0;

    for (uint32_t l = 0; l < SEQUENCES * o->heads; l++) {
        uint32_t s = l / o->heads, n = ks_length(&f->s, s, l % o->heads);
        uint32_t rows = f->first[s + 1] - f->first[s], c = n > o->tail ? n - o->tail : 0;
        uint32_t offset = offset_of(f, s, l % o->heads);
        columns += c;
        old += o->add ? (c < offset ? c : offset) : 0;
        for (uint32_t i = o->queries && o->queries < rows ? rows - o->queries : 0; i < rows;
             i++)
            for (uint32_t t = 0; t < c; t++)
                pairs += sees(o, (int64_t)offset + i, t);
    }
    scores_traffic(&f->a, f->first, f->offset, f->s.lengths, &want.issued);
    kt_u64(want.issued.useful_flop, pairs * 2 * o->dim * (o->q_heads / o->heads));
    bool counts = kk_seen(k, &seen);
    want.unique_written_bytes[TAG_WORK] = 4 * columns;
    if (o->shifting)
        want.unique_written_bytes[TAG_WORK] += f->parts_bytes;
    want.unique_read_bytes[TAG_WORK] = 4 * old;
    want.unique_read_bytes[TAG_K] = seen.unique_read_bytes[TAG_K];
    want.unique_read_bytes[TAG_TABLES] = seen.unique_read_bytes[TAG_TABLES];
    want.unique_read_bytes[TAG_ACTIVATION] = seen.unique_read_bytes[TAG_ACTIVATION];
    if (counts && store_bits(o->store) == 16 && !o->window) /* each row once */
        kt_u64(seen.unique_read_bytes[TAG_K], columns * o->dim * 2);
    kk_tally(k, &want);
}

/* The same scores of queries that stand among those of other groups. */
static void among_others(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct kk_wide w = {f->first[SEQUENCES], o->q_heads, o->q_heads + 3, 2, 2 * o->dim};
    struct kk_wide one = {w.rows, w.heads, w.all, w.first, 4};
    float *got = ARENA_NEW(k->a, float, f->n_sums), *want = ARENA_NEW(k->a, float, f->n_sums);

    kk_get(k, want, f->a.sums, f->n_sums * 4);
    f->a.of.q = kk_spread(k, f->a.of.q, w);
    f->a.of.lse = kk_spread(k, f->a.of.lse, one);
    f->a.of.row_heads = w.all;
    f->a.sums = kk_new(k, TAG_WORK, f->n_sums * 4);
    if (o->add)
        kk_ok(k, device_upload(k->d, f->a.sums, f->before, f->n_sums * 4));
    kk_ok(k, scores_run(k->d, &f->a));
    kk_get(k, got, f->a.sums, f->n_sums * 4);
    assert_memory_equal(got, want, f->n_sums * 4);
}

static void scores_case(struct kk *k, const struct setting *o)
{
    struct fixture f;

    fill(k, o, &f);
    queries(k, o, &f);
    slope(k, o, &f);
    f.a.of.c = f.s.c;
    f.a.of.first = kk_put(k, TAG_TABLES, f.first, sizeof f.first);
    f.a.of.offset = kk_put(k, TAG_TABLES, f.offset, ks_lengths(&f.s) * 4);
    f.a.of.q_heads = o->q_heads;
    f.a.of.longest = o->chunk;
    f.a.of.hidden_tokens = o->hidden;
    f.a.of.window_tokens = o->window;
    f.a.of.sink_tokens = o->sinks;
    f.a.of.scale = (float)(1 / sqrt(o->dim));
    normalizers(k, o, &f);
    f.a.width = f.s.tokens + 5;
    f.a.queries = o->queries;
    f.a.tail = o->tail;
    f.a.add = o->add;
    f.a.largest = o->largest;
    f.n_sums = (uint64_t)SEQUENCES * o->heads * f.a.width;
    f.a.shifting = o->shifting;
    f.a.gamma = 200;
    f.parts_bytes = 8ull * SEQUENCES * o->heads * scores_parts(&f.a);
    f.a.parts = o->shifting ? kk_new(k, TAG_WORK, f.parts_bytes) : NULL;
    f.before = ARENA_NEW(k->a, float, f.n_sums);
    for (uint64_t i = 0; i < f.n_sums; i++)
        f.before[i] = (float)rng_unit(&k->rng);
    f.a.sums = kk_new(k, TAG_WORK, f.n_sums * 4);
    if (o->add)
        kk_ok(k, device_upload(k->d, f.a.sums, f.before, f.n_sums * 4));
    device_tally_reset(k->d);
    if (!kk_ran(k, scores_run(k->d, &f.a)))
        return;
    check(k, o, &f);
    tallied(k, o, &f);
    among_others(k, o, &f);
}

/* clang-format off */
static const struct setting all[] = {
    /* store, dim, group, residual, heads, q_heads, page, ragged, scaled, chunk, stored,
     * queries, tail, hidden, window, sinks, add, largest */
    {STORE_BF16, 128, 0, 0,   2, 8, 16, false, false,  70, 0,    8, 8, 0, 0, 0,   false, .largest = false},
    {STORE_FP16, 64, 0, 0,    2, 4, 16, false, false, 150, 0,    32, 32, 0, 0, 0, false, .largest = true},
    {STORE_FP16, 128, 0, 0,   1, 2, 16, false, false, 40, 0,     16, 16, 0, 0, 0, false, .largest = true},
    {STORE_FP16, 256, 0, 0,   1, 1, 16, false, false, 20, 0,     16, 16, 0, 0, 0, false, .largest = true},
    {STORE_BF16, 64, 0, 0,    1, 2, 16, false, false, 180, 0,    0, 0, 0, 0, 0,   false, .largest = false},
    {STORE_BF16, 80, 0, 0,    2, 2, 16, true, false,   1, 150,   1, 0, 0, 0, 0,   true, .largest = false},
    {STORE_BF16, 256, 0, 0,   1, 3, 16, false, false,  20, 50,   0, 3, 1, 0, 0,   true, .largest = false},
    {STORE_BF16, 64, 0, 0,    1, 1, 16, false, false, 200, 150,  40, 0, 0, 30, 4, false, .largest = false},
    {STORE_BF16, 64, 0, 0,    1, 1, 16, false, false, 100, 170,  0, 0, 1, 30, 0,  true, .largest = false},
    {STORE_BF16, 64, 0, 0,    1, 1, 16, false, false, 200, 100,  0, 0, 0, 30, 0,  false, .largest = false},
    {STORE_BF16, 64, 0, 0,    1, 1, 16, false, false,  98, 38,   0, 0, 0, 0, 0,   false, .largest = false},
    {STORE_FP8, 128, 0, 0,    2, 2, 16, false, true,   30, 20,   16, 16, 0, 0, 0, false, .largest = false},
    {STORE_INT8, 64, 0, 0,    1, 2, 16, true, false,   40, 0,    8, 8, 0, 0, 0,   false, .largest = false},
    {STORE_INT4, 128, 32, 0,  1, 2, 16, false, false,  40, 0,    8, 8, 0, 0, 0,   false, .largest = false},
    {STORE_KIVI4, 64, 16, 32, 1, 2, 16, false, false,  70, 0,    8, 8, 0, 0, 0,   false, .largest = false},
    {STORE_BF16, 64, 0, 0,    2, 4, 16, false, false,  70, 9,    0, 0, 0, 0, 0,   true, false, .cap = 2},
    {STORE_BF16, 64, 0, 0,    1, 3, 16, false, false,  70, 0,    40, 8, 0, 0, 0,  false, true, .slopes = true},
    {STORE_INT8, 128, 0, 0,   1, 2, 16, false, true,   40, 0,    8, 8, 1, 0, 0,   false, false,
     .cap = 5, .slopes = true},
    {STORE_BF16, 128, 0, 0,   2, 4, 16, false, false, 150, 0,    8, 8, 0, 0, 0,   .shifting = true},
    {STORE_FP16, 64, 0, 0,    1, 2, 16, false, false, 70, 0,     32, 32, 0, 0, 0, .shifting = true},
    {STORE_BF16, 256, 0, 0,   1, 1, 16, true, false,  160, 0,    13, 13, 1, 0, 0, .shifting = true},
    {STORE_FP16, 128, 0, 0,   1, 3, 16, false, false, 170, 0,    40, 40, 0, 60, 4, .shifting = true},
    {STORE_FP16, 256, 0, 0,   1, 1, 16, false, false, 20, 9,     0, 3, 0, 0, 0,   .shifting = true},
    {STORE_BF16, 64, 0, 0,    1, 2, 16, false, false, 20, 0,     1, 1, 0, 0, 0,   .cap = 5,
     .slopes = true, .shifting = true},
};
/* clang-format on */

static void scores(void **state)
{
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        scores_case(*state, &all[i]);
}

static void scores_few(void **state)
{
    scores_case(*state, &all[0]);
    scores_case(*state, &all[5]);
    scores_case(*state, &all[16]);
    scores_case(*state, &all[18]);
}

/* torch.nn.functional avg_pool1d and max_pool1d with padding size / 2 and stride 1: the mean
 * counts padding as zeros, the maximum leaves it out. */
static double pooled(const float *x, int n, int i, int size, bool largest)
{
    double out = largest ? -INFINITY : 0;

    for (int j = i - size / 2; j <= i + size / 2; j++)
        if (j >= 0 && j < n)
            out = largest ? fmax(out, (double)x[j]) : out + (double)x[j] / size;
    return out;
}

struct pool_setting {
    uint32_t size;
    bool largest, together, by_age;
};

static void pool_case(struct kk *k, struct pool_setting o)
{
    uint32_t size = o.size;
    bool largest = o.largest, together = o.together;
    enum { HEADS = 3, WIDTH = 300, LISTS = SEQUENCES * HEADS };
    uint32_t count[LISTS] = {300, 7, 1, 290, 0, 2};
    float *x = ARENA_NEW(k->a, float, LISTS *WIDTH),
          *got = ARENA_NEW(k->a, float, LISTS *WIDTH);
    struct pool_args a = {.sequences = SEQUENCES,
                          .heads = HEADS,
                          .width = WIDTH,
                          .size = size,
                          .largest = largest,
                          .by_age = o.by_age,
                          .together = together};
    struct tally seen, want = {.launches = 1};

    for (uint32_t i = 0; i < LISTS; i++)
        count[i] = together ? 290 - i / HEADS : count[i];
    for (uint32_t i = 0; i < LISTS * WIDTH; i++)
        x[i] = i % WIDTH < count[i / WIDTH] ? (float)kk_normal(k) : (float)NAN;
    a.scores = kk_put(k, TAG_WORK, x, LISTS * WIDTH * 4);
    a.out = kk_new(k, TAG_WORK, LISTS * WIDTH * 4);
    a.count = kk_put(k, TAG_WORK, count, sizeof count);
    device_tally_reset(k->d);
    kk_ok(k, pool_run(k->d, &a));
    kk_get(k, got, a.out, LISTS * WIDTH * 4);
    for (uint32_t l = 0; l < LISTS; l++) {
        want.unique_read_bytes[TAG_WORK] += 4 + count[l] * 4;
        for (int i = 0; i < WIDTH; i++) {
            int n = (int)count[l];
            double sum = together ? 0 : pooled(x + l * WIDTH, n, i, (int)size, largest);
            for (uint32_t h = 0; together && h < HEADS; h++)
                sum += pooled(x + (l / HEADS * HEADS + h) * WIDTH, n, i, (int)size, largest);
            sum /= o.by_age ? n - i : 1;
            if (i >= n)
                assert_true(isinf(got[l * WIDTH + (uint32_t)i]) &&
                            got[l * WIDTH + (uint32_t)i] < 0);
            else
                assert_true(fabs((double)got[l * WIDTH + (uint32_t)i] - sum) < 1e-5);
        }
    }
    want.unique_written_bytes[TAG_WORK] = LISTS * WIDTH * 4;
    pool_traffic(&a, count, &want.issued);
    kk_seen(k, &seen);
    kk_tally(k, &want);
}

static void pool(void **state)
{
    static const struct pool_setting cases[] = {
        {.size = 1},
        {.size = 5},
        {.size = 7, .largest = true},
        {.size = 1, .together = true},
        {.size = 3, .largest = true, .together = true},
        {.size = 1, .by_age = true},
        {.size = 1, .by_age = true, .together = true},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        pool_case(*state, cases[i]);
}

/* The global top-k of a layer, head by head, as the release does it: flatten, sort, divide. */
struct entry {
    float x;
    uint32_t at;
};

static int by_score(const void *p, const void *q)
{
    const struct entry *a = p, *b = q;

    if (a->x != b->x)
        return a->x < b->x ? 1 : -1;
    return a->at < b->at ? -1 : a->at > b->at;
}

static void budgets(void **state)
{
    enum { HEADS = 4, WIDTH = 120, N = 110, W = 10, C = 34, LISTS = SEQUENCES * HEADS };
    struct kk *k = *state;
    float x[LISTS * WIDTH];
    uint32_t chosen[SEQUENCES] = {HEADS * (C - W), HEADS * (C - W)}, count[LISTS], got[LISTS];
    uint32_t all_places[SEQUENCES] = {HEADS * WIDTH, HEADS * WIDTH};
    struct select_args s = {.lists = SEQUENCES, .width = HEADS * WIDTH};
    struct budget_args b = {.sequences = SEQUENCES,
                            .heads = HEADS,
                            .width = WIDTH,
                            .window = W,
                            .floor_tokens = (C - W) / 5, /* int(24 * 0.2) */
                            .floor_ratio = 0.2};
    struct tally seen, want = {.launches = 1};

    for (uint32_t i = 0; i < LISTS * WIDTH; i++) /* heads of unlike weight, many ties */
        x[i] = i % WIDTH < N - W ? (float)rng_below(&k->rng, 20 * (1 + i / WIDTH % HEADS))
                                 : -INFINITY;
    for (uint32_t i = 0; i < LISTS; i++)
        count[i] = N;
    s.scores = kk_put(k, TAG_WORK, x, sizeof x);
    s.count = kk_put(k, TAG_WORK, all_places, sizeof all_places);
    s.keep = b.chosen = kk_put(k, TAG_WORK, chosen, sizeof chosen);
    s.index = kk_new(k, TAG_WORK, sizeof x);
    b.index = s.index;
    b.count = kk_put(k, TAG_WORK, count, sizeof count);
    b.keep = kk_new(k, TAG_WORK, sizeof got);
    kk_ok(k, select_run(k->d, &s));
    device_tally_reset(k->d);
    kk_ok(k, budget_run(k->d, &b));
    kk_get(k, got, b.keep, sizeof got);
    for (uint32_t q = 0; q < SEQUENCES; q++) {
        struct entry e[HEADS * WIDTH];
        uint32_t own[HEADS] = {0}, sum = 0;
        for (uint32_t i = 0; i < HEADS * WIDTH; i++)
            e[i] = (struct entry){x[q * HEADS * WIDTH + i], i};
        qsort(e, HEADS * WIDTH, sizeof *e, by_score);
        for (uint32_t i = 0; i < chosen[q]; i++)
            own[e[i].at / WIDTH]++;
        for (uint32_t h = 0; h < HEADS; h++) {
            kt_u64(got[q * HEADS + h], (uint64_t)nearbyint(own[h] * (1 - 0.2) + 4) + W);
            sum += got[q * HEADS + h];
        }
        assert_true(got[q * HEADS] < got[q * HEADS + HEADS - 1]);
        assert_in_range(sum, HEADS * C - HEADS, HEADS * C + HEADS); /* but for rounding */
    }
    budget_traffic(&b, chosen, &want.issued);
    want.unique_read_bytes[TAG_WORK] = sizeof chosen + 4 * SEQUENCES * chosen[0] + sizeof count;
    want.unique_written_bytes[TAG_WORK] = sizeof got;
    kk_seen(k, &seen);
    kk_tally(k, &want);
    /* a head never keeps more than it has */
    for (uint32_t i = 0; i < LISTS; i++)
        count[i] = 3 + i;
    kk_ok(k, device_upload(k->d, (void *)(uintptr_t)b.count, count, sizeof count));
    kk_ok(k, budget_run(k->d, &b));
    kk_get(k, got, b.keep, sizeof got);
    for (uint32_t i = 0; i < LISTS; i++)
        kt_u64(got[i], 3 + i);
}

static void refuses(void **state)
{
    struct kk *k = *state;
    struct scores_args s = {.of = {.c = {.k = {.dim = 64},
                                         .v = {.dim = 64},
                                         .sequences = 1,
                                         .heads = 2,
                                         .page_tokens = 16,
                                         .max_pages = 1},
                                   .q_heads = 3}};
    struct pool_args p = {.sequences = 1, .heads = 1};
    struct budget_args b = {.sequences = 1, .width = 1, .heads = 1025};

    kk_refused(k, scores_run(k->d, &s),
               "scores: the query heads must be a multiple of the K/V heads");
    s.of.q_heads = 4;
    kk_refused(k, scores_run(k->d, &s),
               "scores: needs the log-sum-exp of the queries, and at least one place");
    s.of.lse = kk_new(k, TAG_ACTIVATION, 256);
    s.width = 1;
    s.of.cap = -1;
    kk_refused(k, scores_run(k->d, &s), "scores: the cap must not be below 0");
    s.of.cap = 0;
    s.shifting = true;
    kk_refused(k, scores_run(k->d, &s),
               "scores: variances need memory for parts, and are not added up");
    s.parts = s.of.lse;
    s.largest = true;
    kk_refused(k, scores_run(k->d, &s),
               "scores: variances need memory for parts, and are not added up");
    s.largest = false;
    s.add = true;
    kk_refused(k, scores_run(k->d, &s),
               "scores: variances need memory for parts, and are not added up");
    s.shifting = false;
    s.of.c.heads = 65536;
    s.of.q_heads = 65536;
    kk_refused(k, scores_run(k->d, &s), "scores: at most 65535 heads");
    s.of.c.k.dim = 4;
    kk_refused(k, scores_run(k->d, &s),
               "scores: a head has a multiple of 8 elements, up to 256");
    kk_refused(k, pool_run(k->d, &p),
               "pool: 1 to 65535 sequences and heads, and at least one place");
    p.width = 1;
    kk_refused(k, pool_run(k->d, &p), "pool: an odd number of places");
    p.size = 3;
    p.by_age = true;
    kk_refused(k, pool_run(k->d, &p), "pool: by age: one place at a time");
    p.size = 1;
    p.largest = true;
    kk_refused(k, pool_run(k->d, &p), "pool: by age: one place at a time");
    p.by_age = false;
    kk_refused(k, pool_run(k->d, &p), "pool: not in place");
    kk_refused(k, budget_run(k->d, &b),
               "budget: at least one sequence and place, 1 to 1024 heads");
    b.heads = 1024;
    b.width = 1 << 30;
    kk_refused(k, budget_run(k->d, &b), "budget: at most 2^32 places a sequence");
    b.width = 1;
    b.floor_ratio = 1.5;
    kk_refused(k, budget_run(k->d, &b), "budget: a floor ratio from 0 to 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(scores),  kk_reversed(scores_few), kk_test(pool),
        kk_test(budgets), kk_reversed(budgets),    kk_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
