/* kernel_evict: norms against double precision, selection against a sort, and compaction by
 * what the rows mean before and after; together they keep exactly the rows that the L2-norm
 * rule keeps. Traffic as the formulas say. */
#include "kernels/evict.h"
#include "tests/kvlists.h"

static double norm_of(const struct ks *s, uint32_t list, uint32_t token)
{
    double sum = 0;

    for (uint32_t d = 0; d < s->c.k.dim; d++) {
        double x = ks_at(s, false, list / HEADS, list % HEADS, token)[d];
        sum += x * x;
    }
    return sqrt(sum);
}

static void norms(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, 128, 0, 0, false, false},  {STORE_FP16, 64, 0, 0, false, true},
        {STORE_BF16, 256, 0, 0, false, false},  {STORE_FP8, 128, 0, 0, true, false},
        {STORE_INT8, 80, 0, 0, true, true},     {STORE_INT8, 128, 0, 0, false, false},
        {STORE_INT4, 128, 32, 0, false, false}, {STORE_KIVI2, 64, 16, 32, false, false},
    };
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct ks s;
        float got[LISTS * WIDTH];
        struct tally seen, want = {.launches = 1};
        struct norms_args a = {.width = WIDTH, .blocks = 1 + (uint32_t)i % 3};
        fill(k, &all[i], &s);
        a.c = s.c;
        a.scores = kk_new(k, TAG_WORK, sizeof got);
        device_tally_reset(k->d);
        kk_ok(k, norms_run(k->d, &a));
        kk_seen(k, &seen);
        kk_get(k, got, a.scores, sizeof got);
        for (uint32_t l = 0; l < LISTS; l++) {
            uint32_t n = ks_length(&s, l / HEADS, l % HEADS);
            want.unique_written_bytes[TAG_WORK] += 4 * n;
            /* groups are decoded to bf16: 2^-9 an element, less in the sum */
            for (uint32_t t = 0; t < n; t++)
                kt_rel(got[l * WIDTH + t], norm_of(&s, l, t),
                       store_bits(all[i].store) < 8 ? ldexp(1, -8) : 1e-6);
            assert_true(isnan(got[l * WIDTH + n])); /* poisoned, as before */
        }
        norms_traffic(&a, s.lengths, &want.issued);
        want.unique_read_bytes[TAG_K] = seen.unique_read_bytes[TAG_K];
        want.unique_read_bytes[TAG_TABLES] = seen.unique_read_bytes[TAG_TABLES];
        kk_tally(k, &want);
        kt_u64(seen.unique_read_bytes[TAG_V], 0);
    }
}

struct list {
    const float *scores;
    uint32_t n, keep, sinks, recent;
    bool smallest;
};

static bool before(const struct list *l, uint32_t i, uint32_t j)
{
    bool pi = i < l->sinks || i + l->recent >= l->n, pj = j < l->sinks || j + l->recent >= l->n;

    if (pi != pj)
        return pi;
    if (!pi && l->scores[i] != l->scores[j])
        return l->smallest ? l->scores[i] < l->scores[j] : l->scores[i] > l->scores[j];
    return i < j;
}

/* A row stays if fewer than `keep` rows come before it. */
static uint32_t kept(const struct list *l, uint32_t *out)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < l->n; i++) {
        uint32_t ahead = 0;
        for (uint32_t j = 0; j < l->n; j++)
            ahead += j != i && before(l, j, i);
        if (ahead < l->keep)
            out[n++] = i;
    }
    return n;
}

/* kind 0: distinct scores of both signs; 1: a handful of values; 2: all equal; 3: zeros of both
 * signs among others */
static float score(struct kk *k, int kind)
{
    switch (kind) {
    case 0: return (float)kk_normal(k);
    case 1: return (float)rng_below(&k->rng, 5) - 2;
    case 2: return 1.5f;
    }
    return rng_below(&k->rng, 2) ? -0.0f : (float)rng_below(&k->rng, 2);
}

static void select_one(struct kk *k, int kind, bool smallest, uint32_t sinks, uint32_t recent)
{
    static const uint32_t counts[] = {0, 1, 255, 256, 257, 700, 700, 700, 33, 31};
    static const uint32_t keeps[] = {0, 1, 100, 256, 128, 0, 1, 699, 33, 40};
    enum { N = 10, MOST = 700 };
    float *scores = ARENA_NEW(k->a, float, N *MOST);
    uint32_t *got = ARENA_NEW(k->a, uint32_t, N * MOST), want[MOST];
    struct tally t = {.launches = 1}, seen;
    struct select_args a = {
        .lists = N, .width = MOST, .sinks = sinks, .recent = recent, .smallest = smallest};

    for (uint32_t i = 0; i < N * MOST; i++)
        scores[i] = score(k, kind);
    a.scores = kk_put(k, TAG_WORK, scores, N * MOST * 4);
    a.count = kk_put(k, TAG_WORK, counts, sizeof counts);
    a.keep = kk_put(k, TAG_WORK, keeps, sizeof keeps);
    a.index = kk_new(k, TAG_WORK, N * MOST * 4);
    device_tally_reset(k->d);
    kk_ok(k, select_run(k->d, &a));
    kk_get(k, got, a.index, N * MOST * 4);
    for (uint32_t i = 0; i < N; i++) {
        struct list l = {scores + i * MOST, counts[i], keeps[i], sinks, recent, smallest};
        uint32_t n = kept(&l, want);
        for (uint32_t j = 0; j < n; j++)
            kt_u64(got[i * MOST + j], want[j]);
        if (n < MOST)
            kt_u64(got[i * MOST + n], UINT32_MAX); /* poisoned */
        t.unique_written_bytes[TAG_WORK] += 4 * n;
        t.unique_read_bytes[TAG_WORK] += 4 * counts[i] + 8;
    }
    select_traffic(&a, counts, keeps, &t.issued);
    kk_seen(k, &seen);
    kk_tally(k, &t);
}

static void selection(void **state)
{
    struct kk *k = *state;

    for (int kind = 0; kind < 4; kind++) {
        select_one(k, kind, false, 0, 0);
        select_one(k, kind, true, 0, 0);
    }
    select_one(k, 0, false, 4, 16);
    select_one(k, 1, true, 1, 300);
}

/* Rows of lists as the tests know them, `keep` of them at index[]; afterwards the first places
 * hold them. */
static void compact_of(struct kk *k, const struct setting *o)
{
    struct ks s;
    struct compact_args a = {.width = WIDTH};
    struct tally seen, want = {.launches = 1};
    uint32_t index[LISTS * WIDTH], keep[LISTS], lengths[LISTS];

    fill(k, o, &s);
    for (uint32_t l = 0; l < LISTS; l++) {
        uint32_t n = ks_length(&s, l / HEADS, l % HEADS), kept_n = 0;
        uint32_t most = o->ragged ? n : s.lengths[l / HEADS] / 2;
        for (uint32_t i = 0; i < n && kept_n < most; i++)
            if (n - i == most - kept_n || rng_below(&k->rng, 3))
                index[l * WIDTH + kept_n++] = i;
        keep[l] = kept_n;
    }
    a.c = s.c;
    a.lengths = (uint32_t *)(uintptr_t)s.c.lengths;
    a.index = kk_put(k, TAG_WORK, index, sizeof index);
    a.keep = kk_put(k, TAG_WORK, keep, sizeof keep);
    device_tally_reset(k->d);
    kk_ok(k, compact_run(k->d, &a));
    compact_traffic(&a, keep, &want.issued);
    if (kk_seen(k, &seen))
        assert_memory_equal(&seen.issued, &want.issued, sizeof want.issued);
    for (int value = 0; value < 2; value++) {
        struct cache_side *c = value ? &s.c.v : &s.c.k;
        struct ks_side *pool = value ? &s.v : &s.k;
        enum tag tag = value ? TAG_V : TAG_K;
        kt_u64(seen.unique_written_bytes[tag], seen.issued.written_bytes[tag]);
        kk_get(k, pool->codes, c->codes, cache_code_bytes(&s.c, value, s.pages));
        if (pool->scales)
            kk_get(k, pool->scales, c->scales, cache_scale_bytes(&s.c, value, s.pages));
        for (uint32_t l = 0; l < LISTS; l++)
            for (uint32_t j = 0; j < keep[l]; j++)
                for (uint32_t d = 0; d < c->dim; d++)
                    assert_true(
                        ks_value(&s, value, l / HEADS, l % HEADS, j, d) ==
                        ks_at(&s, value, l / HEADS, l % HEADS, index[l * WIDTH + j])[d]);
    }
    kk_get(k, lengths, a.lengths, ks_lengths(&s) * 4);
    for (uint32_t l = 0; l < LISTS; l++)
        kt_u64(lengths[o->ragged ? l : l / HEADS], keep[l]);
}

static void compaction(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, 128, 0, 0, false, false}, {STORE_FP16, 80, 0, 0, false, true},
        {STORE_FP8, 128, 0, 0, true, true},    {STORE_INT8, 256, 0, 0, false, false},
        {STORE_INT4, 128, 64, 0, false, true}, {STORE_INT4, 64, 32, 0, false, false},
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        compact_of(*state, &all[i]);
}

/* ceil(0.6 n) rows of least norm in each head: alessiodevoto/l2compress@f93d6ca cache.py. */
static void l2_norm_rule(void **state)
{
    static const struct setting o = {STORE_BF16, 64, 0, 0, false, false};
    struct kk *k = *state;
    struct ks s;
    uint32_t count[LISTS], keep[LISTS], want[WIDTH], n;
    float scores[LISTS * WIDTH];
    struct norms_args na = {.width = WIDTH, .blocks = 2};
    struct select_args sa = {.lists = LISTS, .width = WIDTH, .smallest = true};
    struct compact_args ca = {.width = WIDTH};

    fill(k, &o, &s);
    for (uint32_t l = 0; l < LISTS; l++) {
        count[l] = ks_length(&s, l / HEADS, l % HEADS);
        keep[l] = (uint32_t)ceil(0.6 * count[l]);
        for (uint32_t t = 0; t < count[l]; t++)
            scores[l * WIDTH + t] = (float)norm_of(&s, l, t);
    }
    na.c = ca.c = s.c;
    sa.scores = na.scores = kk_new(k, TAG_WORK, sizeof scores);
    sa.count = kk_put(k, TAG_WORK, count, sizeof count);
    sa.keep = ca.keep = kk_put(k, TAG_WORK, keep, sizeof keep);
    sa.index = kk_new(k, TAG_WORK, sizeof scores);
    ca.index = sa.index;
    ca.lengths = (uint32_t *)(uintptr_t)s.c.lengths;
    kk_ok(k, norms_run(k->d, &na));
    kk_ok(k, select_run(k->d, &sa));
    kk_ok(k, compact_run(k->d, &ca));
    kk_get(k, s.k.codes, s.c.k.codes, cache_code_bytes(&s.c, false, s.pages));
    for (uint32_t l = 0; l < LISTS; l++) {
        struct list x = {scores + l * WIDTH, count[l], keep[l], 0, 0, true};
        n = kept(&x, want);
        kt_u64(n, keep[l]);
        for (uint32_t j = 0; j < n; j++)
            for (uint32_t d = 0; d < 64; d++)
                assert_true(ks_value(&s, false, l / HEADS, l % HEADS, j, d) ==
                            ks_at(&s, false, l / HEADS, l % HEADS, want[j])[d]);
    }
}

static void refuses(void **state)
{
    struct kk *k = *state;
    struct norms_args n = {.c = {.k = side(STORE_BF16, 64, 0),
                                 .v = side(STORE_BF16, 64, 0),
                                 .sequences = 1,
                                 .heads = 1,
                                 .page_tokens = 16,
                                 .max_pages = 1}};
    struct select_args s = {.lists = 1};
    struct compact_args c = {.c = n.c};

    kk_refused(k, norms_run(k->d, &n),
               "norms: at least one block and one place, at most 65535 heads");
    kk_refused(k, select_run(k->d, &s), "select: at least one list and one place");
    kk_refused(k, compact_run(k->d, &c), "compact: at least one place, at most 65535 heads");
    c.c.v = side(STORE_KIVI4, 64, 32);
    c.c.residual = 32;
    kk_refused(k, compact_run(k->d, &c), "compact: rows of KIVI cannot move");
    c.c.k.dim = n.c.k.dim = 7;
    kk_refused(k, compact_run(k->d, &c),
               "compact: a head has a multiple of 8 elements, up to 256");
    kk_refused(k, norms_run(k->d, &n), "norms: a head has a multiple of 8 elements, up to 256");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(norms),      kk_test(selection),      kk_reversed(selection),
        kk_test(compaction), kk_reversed(compaction), kk_test(l2_norm_rule),
        kk_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
