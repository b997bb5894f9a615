/* kernel_replace: steps at a budget. The rows that stay are those of a plain list in the order
 * of time that drops its lowest score; a row is told by its elements. Traffic as the formulas
 * say. */
#include "kernels/evict.h"
#include "kernels/replace.h"
#include "tests/kvstore.h"

enum { SEQUENCES = 2, HEADS = 2, LISTS = SEQUENCES * HEADS, ROWS_MAX = 40, WIDTH = 320 };

struct fixture {
    struct ks s;
    struct replace_args a;
    float scores[LISTS * WIDTH];
    uint32_t slot[SEQUENCES], loser[LISTS];
};

static struct cache_side side(enum store s, uint32_t dim, uint32_t group)
{
    return (struct cache_side){.store = s, .dim = dim, .group = group, .scale = 0.0625f};
}

struct setting {
    enum store store;
    uint32_t dim, v_dim, group, heavy, recent;
    bool scaled, ragged, scored;
};

static void fill(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct ks *s = &f->s;

    *f = (struct fixture){.s = {.tokens = o->heavy + o->recent + 1}};
    s->c = (struct cache_view){.k = side(o->store, o->dim, o->group),
                               .v = side(o->store, o->v_dim, o->group),
                               .sequences = SEQUENCES,
                               .heads = HEADS,
                               .page_tokens = 8,
                               .max_pages = (s->tokens + 7) / 8,
                               .ragged = o->ragged};
    uint64_t n = ks_lengths(s);
    s->lengths = ARENA_NEW(k->a, uint32_t, n);
    for (uint64_t i = 0; i < n; i++)
        s->lengths[i] = s->tokens;
    ks_place(k, s, o->scaled);
    f->a = (struct replace_args){
        .c = s->c, .width = WIDTH, .heavy = o->heavy, .recent = o->recent};
    f->a.lengths = (uint32_t *)(uintptr_t)s->c.lengths;
}

/* Few values, so that equals are met often. */
static void score(struct kk *k, const struct setting *o, struct fixture *f, uint32_t values)
{
    for (uint32_t i = 0; i < LISTS * WIDTH; i++)
        f->scores[i] = (float)rng_below(&k->rng, values) / 8;
    if (o->scored)
        f->a.scores = kk_put(k, TAG_WORK, f->scores, sizeof f->scores);
}

/* Where the row of place i went; UINT32_MAX: nowhere. */
static uint32_t goes_to(const struct setting *o, uint32_t slot, uint32_t loser, uint32_t i)
{
    uint32_t last = o->heavy + o->recent, leaving = o->recent ? o->heavy + slot : last;

    if (i == loser)
        return UINT32_MAX;
    if (i == leaving)
        return loser;
    return i == last ? leaving : i;
}

/* The lowest of the heavy ones and the leaving row, by sorting pairs in the head. */
static uint32_t lowest(const struct setting *o, const float *x, uint32_t slot)
{
    uint32_t leaving = o->recent ? o->heavy + slot : o->heavy, worst = leaving;

    for (uint32_t i = 0; o->scored && i < o->heavy; i++)
        if (x[i] < x[worst] || (x[i] == x[worst] && worst != leaving))
            worst = i;
    return worst;
}

static void moved(struct kk *k, const struct setting *o, struct fixture *f, uint32_t list)
{
    const struct ks *s = &f->s;
    uint32_t sequence = list / HEADS, head = list % HEADS, slot = f->slot[sequence];
    float got[LISTS * WIDTH];

    if (o->scored)
        kk_get(k, got, f->a.scores, sizeof got);
    for (uint32_t i = 0; i < s->tokens; i++) {
        uint32_t to = slot == UINT32_MAX ? i : goes_to(o, slot, f->loser[list], i);
        if (to == UINT32_MAX)
            continue;
        for (int value = 0; value < 2; value++)
            for (uint32_t d = 0; d < (value ? o->v_dim : o->dim); d++)
                assert_true(ks_value(s, value, sequence, head, to, d) ==
                            ks_at(s, value, sequence, head, i)[d]);
        if (o->scored)
            assert_true(got[list * WIDTH + to] == f->scores[list * WIDTH + i]);
    }
}

static void step_case(struct kk *k, const struct setting *o, uint32_t values)
{
    struct fixture f;
    struct tally seen, want = {.launches = 1};
    uint32_t lengths[LISTS];

    fill(k, o, &f);
    score(k, o, &f, values);
    f.slot[0] = o->recent ? (uint32_t)rng_below(&k->rng, o->recent) : 0;
    f.slot[1] = values % 2 ? UINT32_MAX : 0;
    for (uint32_t l = 0; l < LISTS; l++) {
        const float *x = f.scores + l * WIDTH;
        if (f.slot[l / HEADS] == UINT32_MAX)
            continue;
        f.loser[l] = lowest(o, x, f.slot[l / HEADS]);
        kt_u64(replace_loser(&f.a, o->scored ? x : NULL, f.slot[l / HEADS]), f.loser[l]);
    }
    f.a.slot = kk_put(k, TAG_TABLES, f.slot, sizeof f.slot);
    device_tally_reset(k->d);
    kk_ok(k, replace_run(k->d, &f.a));
    bool counts = kk_seen(k, &seen);
    replace_traffic(&f.a, f.slot, f.loser, &want.issued);
    if (counts)
        assert_memory_equal(&seen.issued, &want.issued, sizeof want.issued);
    kt_u64(seen.unique_written_bytes[TAG_K], seen.issued.written_bytes[TAG_K]);
    kt_u64(seen.unique_written_bytes[TAG_V], seen.issued.written_bytes[TAG_V]);
    for (int value = 0; value < 2; value++) {
        struct cache_side *c = value ? &f.s.c.v : &f.s.c.k;
        struct ks_side *pool = value ? &f.s.v : &f.s.k;
        kk_get(k, pool->codes, c->codes, cache_code_bytes(&f.s.c, value, f.s.pages));
        if (pool->scales)
            kk_get(k, pool->scales, c->scales, cache_scale_bytes(&f.s.c, value, f.s.pages));
    }
    kk_get(k, lengths, f.a.lengths, ks_lengths(&f.s) * 4);
    for (uint32_t l = 0; l < LISTS; l++) {
        moved(k, o, &f, l);
        kt_u64(lengths[o->ragged ? l : l / HEADS],
               f.s.tokens - (f.slot[l / HEADS] != UINT32_MAX));
    }
}

static void one_step(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, 128, 128, 0, 30, 9, false, false, true},
        {STORE_FP16, 64, 80, 0, 17, 0, false, true, true},
        {STORE_FP8, 128, 64, 0, 4, 20, true, false, false},
        {STORE_INT8, 256, 256, 0, 25, 1, false, true, true},
        {STORE_INT4, 64, 128, 32, 12, 12, false, false, true},
        {STORE_BF16, 8, 8, 0, 300, 3, false, false, true},
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (uint32_t values = 1; values < 5; values++)
            step_case(*state, &all[i], values);
}

struct entry { /* of the plain list */
    float score;
    uint32_t token;
};

struct roll { /* heads of bf16 rows whose every element is the number of the token */
    struct replace_args a;
    struct entry list[LISTS][ROWS_MAX];
    uint32_t n;
};

static struct cache_view small_view(struct kk *k, uint32_t rows)
{
    struct cache_view c = {.k = side(STORE_BF16, 8, 0),
                           .v = side(STORE_BF16, 8, 0),
                           .sequences = SEQUENCES,
                           .heads = HEADS,
                           .page_tokens = 8,
                           .max_pages = (rows + 7) / 8};
    uint32_t table[64], lengths[SEQUENCES] = {rows - 1, rows - 1};

    for (uint32_t i = 0; i < SEQUENCES * c.max_pages; i++)
        table[i] = SEQUENCES * c.max_pages - 1 - i;
    c.table = kk_put(k, TAG_TABLES, table, SEQUENCES * c.max_pages * 4);
    c.lengths = kk_put(k, TAG_TABLES, lengths, sizeof lengths);
    c.k.codes = kk_new(k, TAG_K, cache_code_bytes(&c, false, SEQUENCES * c.max_pages));
    c.v.codes = kk_new(k, TAG_V, cache_code_bytes(&c, true, SEQUENCES * c.max_pages));
    return c;
}

/* First element of a row of `list` at `place`, in a copy of the pool. */
static uint64_t element(const struct cache_view *c, uint32_t list, uint32_t place)
{
    uint32_t page =
        SEQUENCES * c->max_pages - 1 - (list / HEADS * c->max_pages + place / c->page_tokens);

    return (((uint64_t)page * HEADS + list % HEADS) * c->page_tokens + place % c->page_tokens) *
           8;
}

static void put_token(struct kk *k, const struct cache_view *c, uint32_t list, uint32_t place,
                      uint32_t token)
{
    uint16_t row[8];

    for (int d = 0; d < 8; d++)
        row[d] = ks_bits_bf16(token);
    kk_ok(k, device_upload(k->d, (uint16_t *)c->k.codes + element(c, list, place), row, 16));
    kk_ok(k, device_upload(k->d, (uint16_t *)c->v.codes + element(c, list, place), row, 16));
}

/* The tokens of a head are those of its list, whatever their places, with their scores. */
static void same_tokens(struct kk *k, const struct roll *r, uint32_t list)
{
    const struct cache_view *c = &r->a.c;
    uint64_t bytes = cache_code_bytes(c, true, SEQUENCES * c->max_pages);
    uint16_t *pool = arena_alloc(k->a, bytes, 2);
    float scores[LISTS * WIDTH];
    uint32_t found = 0;

    kk_get(k, pool, c->v.codes, bytes);
    if (r->a.scores)
        kk_get(k, scores, r->a.scores, sizeof scores);
    for (uint32_t p = 0; p < r->n; p++)
        for (uint32_t i = 0; i < r->n; i++)
            if (ks_bf16(pool[element(c, list, p)]) == r->list[list][i].token) {
                found++;
                if (r->a.scores)
                    assert_true(scores[list * WIDTH + p] == r->list[list][i].score);
            }
    kt_u64(found, r->n);
}

/* Scores of a step: everything stored gets a little more, or, where they do not add up, anew.
 */
static void rescore(struct kk *k, struct roll *r, bool adds)
{
    float x[LISTS * WIDTH];
    uint64_t bytes = cache_code_bytes(&r->a.c, false, SEQUENCES * r->a.c.max_pages);
    uint16_t *pool = arena_alloc(k->a, bytes, 2);

    kk_get(k, pool, r->a.c.k.codes, bytes);
    for (uint32_t l = 0; l < LISTS; l++)
        for (uint32_t i = 0; i <= r->n; i++) {
            float more = (float)rng_unit(&k->rng);
            r->list[l][i].score = more + (adds ? r->list[l][i].score : 0);
        }
    for (uint32_t l = 0; l < LISTS; l++)
        for (uint32_t p = 0; p <= r->n; p++)
            for (uint32_t i = 0; i <= r->n; i++)
                if (ks_bf16(pool[element(&r->a.c, l, p)]) == r->list[l][i].token)
                    x[l * WIDTH + p] = r->list[l][i].score;
    kk_ok(k, device_upload(k->d, r->a.scores, x, sizeof x));
}

/* Drops the lowest but for the last `recent`, as the release does: top `heavy` of the others.
 */
static void drop(struct roll *r, struct entry *list)
{
    uint32_t worst = 0, others = r->n + 1 - r->a.recent;

    for (uint32_t i = 1; i < others; i++)
        if (!r->a.scores ? i == r->a.heavy : list[i].score < list[worst].score)
            worst = i;
    memmove(list + worst, list + worst + 1, (r->n - worst) * sizeof *list);
}

static void roll(struct kk *k, uint32_t heavy, uint32_t recent, bool scored, bool adds)
{
    struct roll r = {.a = {.width = WIDTH, .heavy = heavy, .recent = recent}};
    uint32_t slot[SEQUENCES] = {0, 0};

    r.n = heavy + recent;
    r.a.c = small_view(k, r.n + 1);
    r.a.lengths = (uint32_t *)(uintptr_t)r.a.c.lengths;
    r.a.slot = kk_put(k, TAG_TABLES, slot, sizeof slot);
    if (scored)
        r.a.scores = kk_new(k, TAG_WORK, LISTS * WIDTH * 4);
    for (uint32_t l = 0; l < LISTS; l++)
        for (uint32_t i = 0; i < r.n; i++) {
            r.list[l][i].token = i;
            put_token(k, &r.a.c, l, i, i);
        }
    for (uint32_t step = 0; step < 30; step++) {
        slot[0] = slot[1] = recent ? step % recent : 0;
        kk_ok(k, device_upload(k->d, (void *)(uintptr_t)r.a.slot, slot, sizeof slot));
        for (uint32_t l = 0; l < LISTS; l++) {
            r.list[l][r.n] = (struct entry){0, r.n + step};
            put_token(k, &r.a.c, l, r.n, r.n + step);
        }
        if (scored)
            rescore(k, &r, adds);
        kk_ok(k, replace_run(k->d, &r.a));
        for (uint32_t l = 0; l < LISTS; l++) {
            drop(&r, r.list[l]);
            same_tokens(k, &r, l);
        }
    }
}

static void rolling(void **state)
{
    roll(*state, 9, 7, true, true);    /* H2O */
    roll(*state, 14, 0, true, false);  /* TOVA */
    roll(*state, 4, 11, false, false); /* StreamingLLM */
    roll(*state, 0, 5, true, true);
}

static void carry(void **state)
{
    enum { N = 3, MOST = 700 };
    static const uint32_t keep[N] = {0, 300, 699};
    struct kk *k = *state;
    float *x = ARENA_NEW(k->a, float, N *MOST), *got = ARENA_NEW(k->a, float, N *MOST);
    uint32_t *index = ARENA_NEW(k->a, uint32_t, N * MOST);
    struct carry_args a = {.lists = N, .width = MOST};
    struct tally seen, want = {.launches = 1};

    for (uint32_t i = 0; i < N * MOST; i++) {
        x[i] = (float)i;
        index[i] = i / MOST == 1 ? 2 * (i % MOST) + (uint32_t)rng_below(&k->rng, 2)
                                 : i % MOST + (i % MOST > 123);
    }
    a.scores = kk_put(k, TAG_WORK, x, N * MOST * 4);
    a.index = kk_put(k, TAG_WORK, index, N * MOST * 4);
    a.keep = kk_put(k, TAG_WORK, keep, sizeof keep);
    device_tally_reset(k->d);
    kk_ok(k, carry_run(k->d, &a));
    kk_get(k, got, a.scores, N * MOST * 4);
    for (uint32_t i = 0; i < N * MOST; i++) {
        uint32_t list = i / MOST * MOST, from = i - list < keep[i / MOST] ? list + index[i] : i;
        assert_true(got[i] == x[from]);
    }
    carry_traffic(&a, keep, &want.issued);
    if (!kk_seen(k, &seen))
        return;
    assert_memory_equal(&seen.issued, &want.issued, sizeof want.issued);
    kt_u64(seen.unique_written_bytes[TAG_WORK], (300 + 699) * 4);
}

static void refuses(void **state)
{
    struct kk *k = *state;
    struct replace_args r = {.c = {.k = side(STORE_BF16, 64, 0),
                                   .v = side(STORE_BF16, 64, 0),
                                   .sequences = 1,
                                   .heads = 1,
                                   .page_tokens = 16,
                                   .max_pages = 1}};
    struct carry_args c = {.lists = 1};

    kk_refused(k, replace_run(k->d, &r), "replace: nothing would be kept");
    r.heavy = 4;
    kk_refused(k, replace_run(k->d, &r), "replace: without scores there must be a ring");
    r.scores = kk_new(k, TAG_WORK, 256);
    r.width = 4;
    kk_refused(k, replace_run(k->d, &r), "replace: more rows than places, or than 2^24");
    r.width = UINT32_MAX;
    r.recent = 1 << 24;
    kk_refused(k, replace_run(k->d, &r), "replace: more rows than places, or than 2^24");
    r.c.k = side(STORE_KIVI4, 64, 16);
    r.c.residual = 32;
    kk_refused(k, replace_run(k->d, &r), "replace: rows of KIVI cannot move");
    r.c.k.dim = 0;
    kk_refused(k, replace_run(k->d, &r),
               "replace: a head has a multiple of 8 elements, up to 256");
    kk_refused(k, carry_run(k->d, &c), "carry: at least one list and one place");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(one_step), kk_reversed(one_step), kk_test(rolling), kk_reversed(rolling),
        kk_test(carry),    kk_reversed(carry),    kk_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
