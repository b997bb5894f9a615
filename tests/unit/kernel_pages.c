/* kernel_pages: bounds and promises of pages against double precision, the promise above every
 * score of its page, and picked tables by what attention reads through them. Traffic as the
 * formulas say. */
#include "kernels/decode.h"
#include "kernels/evict.h"
#include "kernels/pages.h"
#include "tests/kvstore.h"

struct setting {
    enum store store;
    uint32_t dim, group, residual, q_heads;
    bool scaled, ragged, largest;
};

enum { SEQUENCES = 2, HEADS = 2, TOKENS = 85, PAGE = 8, PAGES = 11, LISTS = 4, WIDTH = 13 };

struct fixture {
    struct ks s;
    struct bounds_args b;
    uint32_t first[LISTS];
    uint16_t *bounds;
    double *q;
    void *q_bits;
};

static struct cache_side side(const struct setting *o)
{
    return (struct cache_side){
        .store = o->store, .dim = o->dim, .group = o->group, .scale = 0.0625f};
}

static void fill(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct ks *s = &f->s;
    uint64_t n;

    *f = (struct fixture){.s = {.tokens = TOKENS}};
    s->c = (struct cache_view){.k = side(o),
                               .v = side(o),
                               .sequences = SEQUENCES,
                               .heads = HEADS,
                               .page_tokens = o->residual ? 16 : PAGE,
                               .max_pages = o->residual ? 6 : PAGES,
                               .residual = o->residual,
                               .ragged = o->ragged};
    n = ks_lengths(s);
    s->lengths = ARENA_NEW(k->a, uint32_t, n);
    for (uint64_t i = 0; i < n; i++)
        s->lengths[i] = TOKENS - 21 * (uint32_t)i;
    ks_place(k, s, o->scaled);
    uint64_t bytes = bounds_bytes(&s->c, s->pages);
    f->bounds = arena_alloc(k->a, bytes, 2);
    f->b = (struct bounds_args){.c = s->c, .bounds = kk_new(k, TAG_STATE, bytes)};
}

static uint32_t pages_of(const struct fixture *f, uint32_t list)
{
    uint32_t n = ks_length(&f->s, list / HEADS, list % HEADS), p = f->s.c.page_tokens;

    return (n + p - 1) / p;
}

/* Where the bounds of a page of a list begin. */
static uint64_t bounds_at(const struct fixture *f, uint32_t list, uint32_t page)
{
    const struct cache_view *c = &f->s.c;

    return ks_row(&f->s, list / HEADS, list % HEADS, page * c->page_tokens) / c->page_tokens *
           2 * c->k.dim;
}

/* The smallest and largest of a channel, in double. */
static void extremes(const struct fixture *f, uint32_t list, uint32_t page, uint32_t d,
                     double *low, double *high)
{
    uint32_t at = page * f->s.c.page_tokens, n = ks_length(&f->s, list / HEADS, list % HEADS);

    *low = INFINITY;
    *high = -INFINITY;
    for (uint32_t t = at; t < at + f->s.c.page_tokens && t < n; t++) {
        double x = ks_at(&f->s, false, list / HEADS, list % HEADS, t)[d];
        *low = fmin(*low, x);
        *high = fmax(*high, x);
    }
}

static double decoded(const struct setting *o, uint16_t h)
{
    return o->store == STORE_FP16 ? ks_fp16(h) : ks_bf16(h);
}

/* Pages from `first` on are as they should be; those before untouched. */
static void check_bounds(const struct setting *o, const struct fixture *f)
{
    double part = store_bits(o->store) == 16 ? 0 : ldexp(1, -8); /* one rounding, or two */

    for (uint32_t l = 0; l < LISTS; l++)
        for (uint32_t p = 0; p < pages_of(f, l); p++) {
            const uint16_t *got = f->bounds + bounds_at(f, l, p);
            uint32_t n = ks_length(&f->s, l / HEADS, l % HEADS);
            uint32_t end = p + 1 < pages_of(f, l) ? (p + 1) * f->s.c.page_tokens : n;
            bool old = end <= f->first[o->ragged ? l : l / HEADS];
            for (uint32_t d = 0; d < o->dim; d++) {
                double low, high;
                extremes(f, l, p, d, &low, &high);
                if (old) {
                    kt_u64(got[d], 0xffff);
                    continue;
                }
                assert_true(fabs(decoded(o, got[d]) - low) <= part * fabs(low) + part * 0.01);
                assert_true(fabs(decoded(o, got[o->dim + d]) - high) <=
                            part * fabs(high) + part * 0.01);
            }
        }
}

static void bounds_once(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct tally seen, want = {.launches = 1};

    f->b.first = kk_put(k, TAG_TABLES, f->first, ks_lengths(&f->s) * 4);
    device_tally_reset(k->d);
    kk_ok(k, bounds_run(k->d, &f->b));
    kk_seen(k, &seen);
    kk_get(k, f->bounds, f->b.bounds, bounds_bytes(&f->s.c, f->s.pages));
    bounds_traffic(&f->b, f->s.lengths, f->first, &want.issued);
    want.unique_read_bytes[TAG_K] = seen.unique_read_bytes[TAG_K];
    want.unique_read_bytes[TAG_TABLES] = seen.unique_read_bytes[TAG_TABLES];
    want.unique_written_bytes[TAG_STATE] = want.issued.written_bytes[TAG_STATE];
    kk_tally(k, &want);
    if (kk_seen(k, &seen))
        kt_u64(seen.issued.conversions, want.issued.conversions);
    check_bounds(o, f);
}

static void queries(struct kk *k, const struct setting *o, struct fixture *f)
{
    uint64_t n = (uint64_t)SEQUENCES * o->q_heads * o->dim;
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n);

    f->q = ARENA_NEW(k->a, double, n);
    for (uint64_t i = 0; i < n; i++) {
        double x = kk_normal(k);
        bits[i] = o->store == STORE_FP16 ? ks_bits_fp16(x) : ks_bits_bf16(x);
        f->q[i] = decoded(o, bits[i]);
    }
    f->q_bits = kk_put(k, TAG_ACTIVATION, bits, 2 * n);
}

/* The promise of a page to a list, from the bounds as stored. */
static double promise(const struct setting *o, const struct fixture *f, uint32_t list,
                      uint32_t page)
{
    uint32_t group = o->q_heads / HEADS;
    const uint16_t *b = f->bounds + bounds_at(f, list, page);
    double out = 0;

    for (uint32_t g = 0; g < group; g++) {
        const double *q = f->q + ((uint64_t)list * group + g) * o->dim;
        double sum = 0;
        for (uint32_t d = 0; d < o->dim; d++)
            sum += fmax(q[d] * decoded(o, b[d]), q[d] * decoded(o, b[o->dim + d]));
        out = !g ? sum : o->largest ? fmax(out, sum) : out + sum;
    }
    return out;
}

/* No token of the page scores more, where bounds are exact and heads are one. */
static void above_all(const struct setting *o, const struct fixture *f, uint32_t list,
                      uint32_t page, double score)
{
    uint32_t end = (page + 1) * PAGE, n = ks_length(&f->s, list / HEADS, list % HEADS);

    if (o->q_heads != HEADS || store_bits(o->store) != 16)
        return;
    for (uint32_t t = page * PAGE; t < end && t < n; t++) {
        double dot = 0;
        for (uint32_t d = 0; d < o->dim; d++)
            dot +=
                f->q[list * o->dim + d] * ks_at(&f->s, false, list / HEADS, list % HEADS, t)[d];
        assert_true(dot <= score + 1e-4);
    }
}

static void estimate_once(struct kk *k, const struct setting *o, struct fixture *f,
                          float *scores)
{
    struct estimate_args a = {.c = f->s.c,
                              .bounds = f->b.bounds,
                              .q_heads = o->q_heads,
                              .width = WIDTH,
                              .largest = o->largest};
    struct tally seen, want = {.launches = 1};
    uint64_t pages = 0;

    queries(k, o, f);
    a.q = f->q_bits;
    a.scores = kk_new(k, TAG_WORK, LISTS * WIDTH * 4);
    device_tally_reset(k->d);
    kk_ok(k, estimate_run(k->d, &a));
    kk_get(k, scores, a.scores, LISTS * WIDTH * 4);
    kk_seen(k, &seen);
    for (uint32_t l = 0; l < LISTS; l++) {
        pages += pages_of(f, l);
        for (uint32_t p = 0; p < pages_of(f, l); p++) {
            double w = promise(o, f, l, p);
            assert_true(fabs((double)scores[l * WIDTH + p] - w) <= 1e-5 * fabs(w) + 1e-4);
            above_all(o, f, l, p, w);
        }
        assert_true(isnan(scores[l * WIDTH + pages_of(f, l)])); /* poisoned */
    }
    estimate_traffic(&a, f->s.lengths, &want.issued);
    want.unique_read_bytes[TAG_STATE] = pages * o->dim * 4;
    want.unique_read_bytes[TAG_ACTIVATION] = (uint64_t)SEQUENCES * o->q_heads * o->dim * 2;
    want.unique_read_bytes[TAG_TABLES] = seen.unique_read_bytes[TAG_TABLES];
    want.unique_written_bytes[TAG_WORK] = pages * 4;
    kk_tally(k, &want);
}

static void bounds(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, 128, 0, 0, 2, false, false, false},
        {STORE_FP16, 64, 0, 0, 2, false, true, false},
        {STORE_BF16, 256, 0, 0, 8, false, false, true},
        {STORE_FP8, 128, 0, 0, 4, true, false, false},
        {STORE_INT8, 80, 0, 0, 2, false, true, false},
        {STORE_INT4, 64, 32, 0, 4, false, false, true},
        {STORE_KIVI2, 64, 16, 32, 2, false, false, false},
    };
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct fixture f;
        float scores[LISTS * WIDTH];
        fill(k, &all[i], &f);
        for (uint32_t l = 0; l < ks_lengths(&f.s); l++)
            f.first[l] = 3 * f.s.c.page_tokens + 2 - 17 * l % 16;
        bounds_once(k, &all[i], &f);
        memset(f.first, 0, sizeof f.first);
        bounds_once(k, &all[i], &f);
        estimate_once(k, &all[i], &f, scores);
    }
}

/* Quest's step: the newest page and the most promising ones, 4 in all, through decode_run. */
static double attended(const struct setting *o, const struct fixture *f, uint32_t list,
                       const bool *page, uint32_t d)
{
    uint32_t n = ks_length(&f->s, list / HEADS, list % HEADS);
    double sum = 0, total = 0;

    for (uint32_t t = 0; t < n; t++) {
        double dot = 0;
        if (!page[t / PAGE])
            continue;
        for (uint32_t i = 0; i < o->dim; i++)
            dot +=
                f->q[list * o->dim + i] * ks_at(&f->s, false, list / HEADS, list % HEADS, t)[i];
        total += exp(dot / sqrt(o->dim));
        sum += exp(dot / sqrt(o->dim)) * ks_at(&f->s, true, list / HEADS, list % HEADS, t)[d];
    }
    return sum / total;
}

/* The newest, and the best of the others by counting who is ahead. */
static void chosen(const struct fixture *f, uint32_t list, const float *scores, bool *page)
{
    uint32_t n = pages_of(f, list);

    for (uint32_t p = 0; p < n; p++) {
        uint32_t ahead = 1;
        for (uint32_t j = 0; j + 1 < n; j++)
            ahead += scores[list * WIDTH + j] > scores[list * WIDTH + p] && j != p;
        page[p] = p + 1 == n || ahead < 4;
    }
}

static void picked(void **state)
{
    static const struct setting o = {STORE_BF16, 64, 0, 0, HEADS, false, false, false};
    struct kk *k = *state;
    struct fixture f;
    float scores[LISTS * WIDTH];
    uint32_t count[LISTS], keep[LISTS], lengths[LISTS];
    struct select_args s = {.lists = LISTS, .width = WIDTH, .recent = 1};
    struct pick_args p = {.width = WIDTH};
    struct decode_args d = {.q_heads = HEADS, .splits = 1, .scale = 0.125f};
    uint16_t out[LISTS * 64];
    struct tally seen, want = {.launches = 1};

    fill(k, &o, &f);
    bounds_once(k, &o, &f);
    estimate_once(k, &o, &f, scores);
    for (uint32_t l = 0; l < LISTS; l++) {
        count[l] = pages_of(&f, l);
        keep[l] = 4;
    }
    s.scores = kk_put(k, TAG_WORK, scores, sizeof scores);
    s.count = kk_put(k, TAG_WORK, count, sizeof count);
    s.keep = p.count = kk_put(k, TAG_WORK, keep, sizeof keep);
    s.index = kk_new(k, TAG_WORK, sizeof scores);
    p.index = s.index;
    p.c = d.c = f.s.c;
    p.table = kk_new(k, TAG_TABLES, LISTS * PAGES * 4);
    p.lengths = kk_new(k, TAG_TABLES, LISTS * 4);
    kk_ok(k, select_run(k->d, &s));
    device_tally_reset(k->d);
    kk_ok(k, pick_run(k->d, &p));
    kk_seen(k, &seen);
    pick_traffic(&p, f.s.lengths, keep, &want.issued);
    want.unique_read_bytes[TAG_WORK] = LISTS * 4 + LISTS * 4 * 4;
    want.unique_read_bytes[TAG_TABLES] = seen.unique_read_bytes[TAG_TABLES];
    want.unique_written_bytes[TAG_TABLES] = LISTS * 4 + LISTS * 4 * 4;
    kk_tally(k, &want);
    d.c.ragged = true;
    d.c.table = p.table;
    d.c.lengths = p.lengths;
    d.q = f.q_bits;
    d.out = kk_new(k, TAG_ACTIVATION, sizeof out);
    if (!kk_ran(k, decode_run(k->d, &d)))
        return;
    kk_get(k, out, d.out, sizeof out);
    kk_get(k, lengths, p.lengths, sizeof lengths);
    for (uint32_t l = 0; l < LISTS; l++) {
        bool page[PAGES] = {false};
        chosen(&f, l, scores, page);
        kt_u64(lengths[l], 3 * PAGE + (f.s.lengths[l / HEADS] - 1) % PAGE + 1);
        for (uint32_t i = 0; i < 64; i++)
            assert_true(fabs(ks_bf16(out[l * 64 + i]) - attended(&o, &f, l, page, i)) < 0.02);
    }
}

/* Without an index: the same rows under the numbers of pages of one head. */
static void renumbered(void **state)
{
    static const struct setting o = {STORE_INT4, 64, 32, 0, HEADS, false, false, false};
    struct kk *k = *state;
    struct fixture f;
    struct pick_args p = {0};
    struct ks r;
    struct tally want = {.launches = 1};

    fill(k, &o, &f);
    p.c = f.s.c;
    p.table = kk_new(k, TAG_TABLES, LISTS * PAGES * 4);
    p.lengths = kk_new(k, TAG_TABLES, LISTS * 4);
    device_tally_reset(k->d);
    kk_ok(k, pick_run(k->d, &p));
    pick_traffic(&p, f.s.lengths, NULL, &want.issued);
    want.unique_read_bytes[TAG_TABLES] = SEQUENCES * 4 + (11 + 8) * 4;
    want.unique_written_bytes[TAG_TABLES] = LISTS * 4 + 2 * (11 + 8) * 4;
    kk_tally(k, &want);
    r = f.s;
    r.c.ragged = true;
    r.table = ARENA_NEW(k->a, uint32_t, LISTS * PAGES);
    r.lengths = ARENA_NEW(k->a, uint32_t, LISTS);
    kk_get(k, r.table, p.table, LISTS * PAGES * 4);
    kk_get(k, r.lengths, p.lengths, LISTS * 4);
    for (uint32_t l = 0; l < LISTS; l++) {
        kt_u64(r.lengths[l], f.s.lengths[l / HEADS]);
        for (uint32_t t = 0; t < r.lengths[l]; t++)
            kt_u64(ks_row(&r, l / HEADS, l % HEADS, t), ks_row(&f.s, l / HEADS, l % HEADS, t));
    }
}

static void refuses(void **state)
{
    struct kk *k = *state;
    struct bounds_args b = {.c = {.k = {.dim = 64},
                                  .v = {.dim = 64},
                                  .sequences = 1,
                                  .heads = 65536,
                                  .page_tokens = 16,
                                  .max_pages = 2}};
    struct estimate_args e = {.c = b.c};
    struct pick_args p = {.c = b.c};

    kk_refused(k, bounds_run(k->d, &b), "bounds: at most 65535 heads");
    kk_refused(k, estimate_run(k->d, &e),
               "estimate: the query heads must be a multiple of the K/V heads");
    e.q_heads = e.c.heads = 2;
    e.width = 1;
    kk_refused(k, estimate_run(k->d, &e),
               "estimate: a place for every page, at most 65535 heads");
    kk_refused(k, pick_run(k->d, &p), "pick: not in place");
    p.index = p.table = &p.width;
    kk_refused(k, pick_run(k->d, &p),
               "pick: an index needs its counts, and at least one place");
    p.c.heads = 0;
    kk_refused(k, pick_run(k->d, &p), "pick: 1 to 65535 sequences, and at least one head");
    e.c.k.dim = b.c.k.dim = 512;
    kk_refused(k, bounds_run(k->d, &b),
               "bounds: a head has a multiple of 8 elements, up to 256");
    kk_refused(k, estimate_run(k->d, &e),
               "estimate: a head has a multiple of 8 elements, up to 256");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(bounds),     kk_reversed(bounds), kk_test(picked),
        kk_reversed(picked), kk_test(renumbered), kk_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
