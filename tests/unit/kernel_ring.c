/* kernel_ring: places and positions of StreamingLLM's ring against a plain list that is cut
 * after every step, and keys turned by those positions against complex rotations in double. */
#include "kernels/ring.h"
#include "tests/kvstore.h"

enum { MOST = 64 };

struct cut { /* the cache of the release: tokens in order, and their places here */
    uint32_t token[MOST], n;
};

/* What a forward over one token leaves: sinks and the last `recent`. */
static void cut(struct cut *c, const struct ring *r)
{
    if (c->n <= r->sinks + r->recent)
        return;
    memmove(c->token + r->sinks, c->token + c->n - r->recent, r->recent * sizeof *c->token);
    c->n = r->sinks + r->recent;
}

static void same(const struct cut *c, const struct ring *r, uint32_t base, uint32_t newest)
{
    bool used[MOST] = {false};

    kt_u64(ring_rows(r, newest, false), c->n);
    for (uint32_t i = 0; i < c->n; i++) {
        uint32_t place = ring_place(r, base, c->token[i]);
        assert_true(place < c->n); /* no holes */
        assert_false(used[place]);
        used[place] = true;
        kt_u64(ring_position(r, base, newest, place), i); /* the place in the release's cache */
    }
}

static void follow(struct ring r, uint32_t prompt)
{
    struct cut c = {.n = prompt};
    uint32_t base = ring_base(&r, prompt);

    for (uint32_t i = 0; i < prompt; i++)
        c.token[i] = i;
    cut(&c, &r);
    for (uint32_t i = 0; i < c.n; i++) /* where selection and compaction put a prompt */
        kt_u64(ring_place(&r, base, c.token[i]), i);
    for (uint32_t newest = prompt; newest < prompt + 3 * (r.recent + 1); newest++) {
        c.token[c.n++] = newest;
        same(&c, &r, base, newest);
        cut(&c, &r);
        kt_u64(ring_rows(&r, newest, true), c.n);
    }
}

static void ring(void **state)
{
    (void)state;
    for (uint32_t sinks = 0; sinks < 5; sinks++)
        for (uint32_t recent = 1; recent < 9; recent += 3)
            for (uint32_t prompt = 0; prompt < 40; prompt++)
                follow((struct ring){sinks, recent}, prompt);
}

/* The release: 4 sinks and 2000 recent, 8192 tokens of prompt, then one by one. */
static void published(void **state)
{
    struct ring r = {4, 2000};

    (void)state;
    kt_u64(ring_rows(&r, 2999, true), 2004);
    kt_u64(ring_rows(&r, 2999, false), 2005);
    kt_u64(ring_base(&r, 8192), 6192);
    kt_u64(ring_place(&r, 6192, 8192), 2004);
    kt_u64(ring_place(&r, 6192, 8193), 4);
}

static void turn_case(struct kk *k, bool fp16, uint32_t dim, uint32_t rotary)
{
    enum { SEQUENCES = 2, HEADS = 2, SINKS = 3, RECENT = 12, ROWS = SINKS + RECENT + 1 };
    static const uint32_t newest[SEQUENCES] = {29, 9}, base[SEQUENCES] = {10, SINKS};
    struct ks s = {.tokens = ROWS};
    float table[ROWS * CACHE_DIM_MAX];
    struct turn_args a = {.ring = {SINKS, RECENT}, .rotary = rotary, .blocks = 2};
    struct tally want = {.launches = 1};
    struct cache_side side = {.store = fp16 ? STORE_FP16 : STORE_BF16, .dim = dim};
    double half = fp16 ? ldexp(1, -11) : ldexp(1, -8);

    s.c = (struct cache_view){.k = side,
                              .v = side,
                              .sequences = SEQUENCES,
                              .heads = HEADS,
                              .page_tokens = 8,
                              .max_pages = 2};
    s.lengths = ARENA_NEW(k->a, uint32_t, SEQUENCES);
    for (uint32_t i = 0; i < SEQUENCES; i++)
        s.lengths[i] = ring_rows(&a.ring, newest[i], false);
    ks_tables(k, &s);
    ks_pools(k, &s, false, false);
    ks_fill(k, &s, false);
    ks_upload(k, &s, false);
    for (uint32_t i = 0; i < ROWS * rotary / 2; i++) {
        double angle = i / (rotary / 2) * pow(10000, -2.0 * (i % (rotary / 2)) / rotary);
        table[2 * i] = (float)cos(angle);
        table[2 * i + 1] = (float)sin(angle);
    }
    a.c = s.c;
    a.out = kk_new(k, TAG_WORK, cache_code_bytes(&s.c, false, s.pages));
    a.newest = kk_put(k, TAG_TABLES, newest, sizeof newest);
    a.base = kk_put(k, TAG_TABLES, base, sizeof base);
    a.table = kk_put(k, TAG_TABLES, table, ROWS * rotary * 4);
    device_tally_reset(k->d);
    kk_ok(k, turn_run(k->d, &a));
    kk_get(k, s.k.codes, a.out, cache_code_bytes(&s.c, false, s.pages));
    turn_traffic(&a, s.lengths, &want.issued);
    for (uint32_t i = 0; i < SEQUENCES * HEADS; i++) {
        uint32_t q = i / HEADS, n = s.lengths[q];
        want.unique_read_bytes[TAG_K] += n * dim * 2;
        want.unique_written_bytes[TAG_WORK] += n * dim * 2;
        for (uint32_t p = 0; p < n; p++)
            for (uint32_t d = 0; d < dim; d++) {
                uint32_t h = rotary / 2,
                         position = ring_position(&a.ring, base[q], newest[q], p);
                double angle = position * pow(10000, -2.0 * (d % h) / rotary);
                const double *x = ks_at(&s, false, q, i % HEADS, p);
                double wanted = d >= rotary ? x[d]
                                : d < h     ? x[d] * cos(angle) - x[d + h] * sin(angle)
                                            : x[d] * cos(angle) + x[d - h] * sin(angle);
                double got = ks_value(&s, false, q, i % HEADS, p, d);
                assert_true(fabs(got - wanted) <= 1.0001 * half * fabs(wanted) + 1e-6);
            }
    }
    /* the table's rows that are used, two numbers a sequence, its length, and its pages */
    want.unique_read_bytes[TAG_TABLES] = s.lengths[0] * rotary * 4;
    want.unique_read_bytes[TAG_TABLES] += SEQUENCES * 12 + (2 + 2) * 4;
    kk_tally(k, &want);
}

static void turn(void **state)
{
    turn_case(*state, false, 128, 128);
    turn_case(*state, true, 64, 64);
    turn_case(*state, false, 80, 32);
    turn_case(*state, false, 256, 64);
}

static void refuses(void **state)
{
    struct kk *k = *state;
    struct turn_args a = {.c = {.k = {.store = STORE_FP8, .dim = 64},
                                .v = {.store = STORE_FP8, .dim = 64},
                                .sequences = 1,
                                .heads = 1,
                                .page_tokens = 16,
                                .max_pages = 1}};

    kk_refused(k, turn_run(k->d, &a), "turn: only keys of 16 bits turn");
    a.c.k.store = a.c.v.store = STORE_BF16;
    a.rotary = 80;
    kk_refused(k, turn_run(k->d, &a), "turn: a multiple of 16 elements turns, at most a head");
    a.rotary = 64;
    kk_refused(k, turn_run(k->d, &a), "turn: not in place");
    a.out = &a;
    kk_refused(k, turn_run(k->d, &a), "turn: at least one block, at most 65535 heads");
    a.c.max_pages = 0;
    kk_refused(k, turn_run(k->d, &a), "turn: pages and tables must not be empty");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring), cmocka_unit_test(published), kk_test(turn), kk_reversed(turn),
        kk_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
