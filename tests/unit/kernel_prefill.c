/* kernel_prefill: prefill attention against double precision, for every way to share heads,
 * mask, store and cut a prompt; its error at most twice that of a plain kernel of the same
 * precision; and its traffic, counted while it runs, equal to the formula. */
#include "tests/kvprefill.h"

/* MHA, GQA, MQA with more query heads than a tile has rows, all head sizes. */
static void heads(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 128, 0, 1, 2, 8, 70, 0, .page = 16, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 3, 3, 37, 20, .page = 16, .varied = true},
        {STORE_BF16, STORE_BF16, 80, 0, 1, 1, 2, 33, 40, .page = 16},
        {STORE_BF16, STORE_BF16, 96, 0, 1, 2, 6, 30, 7, .page = 7, .lse = true},
        {STORE_BF16, STORE_BF16, 256, 0, 1, 1, 2, 37, 33, .page = 32, .lse = true},
        {STORE_BF16, STORE_BF16, 192, 128, 1, 1, 1, 130, 0, .page = 16, .lse = true},
        {STORE_BF16, STORE_BF16, 112, 8, 1, 1, 2, 17, 3, .page = 1},
        {STORE_BF16, STORE_BF16, 40, 72, 1, 1, 2, 17, 3, .page = 16},
        {STORE_BF16, STORE_BF16, 8, 256, 1, 1, 1, 9, 30, .page = 16, .lse = true},
        {STORE_BF16, STORE_BF16, 200, 24, 1, 1, 3, 20, 30, .page = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 150, 3, 5, .page = 16, .lse = true},
        {STORE_FP16, STORE_FP16, 128, 0, 1, 2, 8, 40, 25, .page = 16, .lse = true},
        {STORE_FP16, STORE_FP16, 64, 0, 1, 1, 4, 20, 0, .page = 16},
        {STORE_FP16, STORE_FP16, 256, 0, 1, 1, 3, 30, 5, .page = 16},
        {STORE_FP16, STORE_FP16, 192, 128, 1, 1, 1, 20, 1, .page = 16},
    };

    RUN_ALL(*state, all);
}

/* Prompts that end at, just before and just after the steps and tiles; ragged batches. */
static void lengths(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 1, 1, 0, .page = 16, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 1, 1, 63, .page = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 1, 1, 64, .page = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 32, 32, .page = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 33, 31, .page = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 1, 129, 64, .page = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 3, 43, 130, .page = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 5, 2, 4, 50, 40, .page = 16, .varied = true,
         .lse = true},
    };

    RUN_ALL(*state, all);
}

/* Windows, sinks, masked diagonals, chunks that are not stored, and heads with rows of their
 * own. */
static void visible(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 100, 50, .page = 16, .window = 33,
         .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 1, 140, 120, .page = 16, .window = 20},
        {STORE_BF16, STORE_BF16, 64, 0, 3, 2, 4, 60, 90, .page = 8, .window = 20, .sinks = 4,
         .varied = true, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 1, 20, 180, .page = 16, .window = 40,
         .sinks = 70},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 24, 0, .page = 8, .window = 20, .sinks = 9},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 40, 9, .page = 8, .window = 1, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 40, 9, .page = 8, .window = 300},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 1, 4, 50, 0, .page = 16, .hidden = 1, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 1, 0, .page = 16, .hidden = 1, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 60, 30, .page = 16, .hidden = 1, .window = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 9, 0, .page = 16, .hidden = 3, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 50, 30, .page = 16, .unstored = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 50, 30, .page = 16, .unstored = true,
         .window = 10, .lse = true},
        {STORE_BF16, STORE_BF16, 128, 0, 2, 4, 8, 20, 60, .page = 16, .ragged = true,
         .lse = true},
        {STORE_INT8, STORE_INT8, 128, 0, 2, 4, 8, 20, 60, .page = 16, .ragged = true,
         .scaled = true},
    };

    RUN_ALL(*state, all);
}

/* Of what a query reaches it sees only what was chosen. */
static void chosen(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 192, 128, 1, 4, 4, 70, 0, .page = 1, .chosen = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 1, 4, 50, 60, .page = 16, .chosen = 9,
         .varied = true, .lse = true},
        {STORE_BF16, STORE_BF16, 256, 0, 1, 1, 2, 40, 40, .page = 16, .chosen = 20},
        {STORE_FP16, STORE_FP16, 256, 0, 1, 1, 2, 40, 20, .page = 16, .chosen = 20},
        {STORE_FP16, STORE_FP16, 64, 0, 1, 1, 2, 40, 20, .page = 16, .chosen = 20, .hidden = 1},
    };

    RUN_ALL(*state, all);
}

/* Stretches of tokens that see each other alone, capped scores, slopes, learned sinks. */
static void bent(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 100, 50, .page = 16, .stretch = 40,
         .lse = true},
        {STORE_BF16, STORE_BF16, 128, 0, 1, 2, 4, 130, 0, .page = 16, .stretch = 64},
        {STORE_BF16, STORE_BF16, 64, 0, 3, 1, 4, 60, 30, .page = 8, .stretch = 16,
         .varied = true, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 40, 0, .page = 8, .stretch = 300},
        {STORE_BF16, STORE_BF16, 128, 0, 1, 2, 4, 50, 30, .page = 16, .cap = 2, .lse = true},
        {STORE_BF16, STORE_BF16, 256, 0, 1, 1, 2, 40, 0, .page = 16, .cap = 50},
        {STORE_FP16, STORE_FP16, 64, 0, 1, 1, 4, 40, 9, .page = 16, .slopes = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 3, 3, 70, 0, .page = 16, .slopes = true,
         .window = 30, .lse = true},
        {STORE_INT8, STORE_INT8, 64, 0, 1, 1, 2, 40, 9, .page = 16, .slopes = true, .cap = 3,
         .scaled = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 8, 60, 20, .page = 16, .learned = true,
         .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 2, 16, 50, 70, .page = 16, .learned = true,
         .window = 30, .varied = true, .lse = true},
        {STORE_FP16, STORE_FP16, 128, 0, 1, 1, 3, 40, 0, .page = 16, .learned = true,
         .hidden = 1, .slopes = true, .cap = 9, .lse = true},
    };

    RUN_ALL(*state, all);
}

static void formats(void **state)
{
    static const struct setting all[] = {
        {STORE_FP8, STORE_FP8, 128, 0, 1, 2, 4, 50, 50, .page = 16, .lse = true},
        {STORE_FP8, STORE_FP8, 128, 0, 1, 1, 4, 50, 20, .page = 16, .scaled = true},
        {STORE_INT8, STORE_INT8, 128, 0, 1, 2, 4, 40, 30, .page = 16, .scaled = true,
         .lse = true},
        {STORE_INT8, STORE_INT8, 64, 0, 1, 1, 4, 30, 50, .page = 16},
        {STORE_INT8, STORE_INT8, 256, 0, 1, 1, 2, 30, 50, .page = 16, .scaled = true},
        {STORE_INT4, STORE_INT4, 128, 0, 1, 2, 4, 40, 30, .page = 16, .group = 64},
        {STORE_INT4, STORE_INT4, 80, 0, 1, 1, 4, 20, 50, .page = 16, .group = 80},
        {STORE_INT4, STORE_INT4, 192, 128, 1, 1, 2, 20, 50, .page = 16, .group = 32},
        {STORE_FP8, STORE_INT4, 128, 0, 1, 1, 4, 50, 0, .page = 16, .group = 32},
        {STORE_INT8, STORE_BF16, 128, 0, 1, 1, 4, 50, 0, .page = 16, .scaled = true},
        {STORE_BF16, STORE_FP8, 192, 128, 1, 1, 2, 50, 9, .page = 16, .scaled = true},
        {STORE_KIVI4, STORE_KIVI4, 128, 0, 1, 1, 4, 20, 80, .page = 32, .group = 32,
         .residual = 32},
        {STORE_KIVI2, STORE_KIVI2, 64, 0, 3, 1, 4, 30, 50, .page = 32, .group = 16,
         .residual = 32, .varied = true},
        {STORE_KIVI4, STORE_KIVI4, 256, 0, 1, 1, 4, 10, 55, .page = 32, .group = 32,
         .residual = 32, .window = 8},
    };

    RUN_ALL(*state, all);
}

/* The kernel of sm_90a: every shape it takes, one step and several, all masks. */
static void wgmma(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 4, 70, 0, .page = 16, .wgmma = true,
         .lse = true},
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 2, 70, 200, .page = 7, .wgmma = true},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 2, 4, 40, 300, .page = 16, .wgmma = true,
         .varied = true, .lse = true},
        {STORE_BF16, STORE_BF16, 192, 128, 1, 1, 1, 140, 130, .page = 16, .wgmma = true},
        {STORE_FP16, STORE_FP16, 128, 0, 1, 1, 8, 20, 200, .page = 16, .wgmma = true},
        {STORE_FP16, STORE_FP16, 64, 0, 1, 1, 1, 128, 0, .page = 16, .wgmma = true},
        {STORE_FP16, STORE_FP16, 192, 128, 1, 1, 1, 9, 3, .page = 16, .wgmma = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 40, 300, .page = 16, .wgmma = true,
         .window = 150, .sinks = 20, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 60, 0, .page = 16, .wgmma = true, .hidden = 1,
         .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 2, 4, 20, 150, .page = 16, .wgmma = true,
         .ragged = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 30, 200, .page = 16, .wgmma = true,
         .unstored = true, .window = 20},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 8, 40, 200, .page = 16, .wgmma = true,
         .learned = true, .window = 150, .lse = true},
        {STORE_FP16, STORE_FP16, 128, 0, 2, 2, 6, 50, 90, .page = 16, .wgmma = true,
         .learned = true, .hidden = 1, .varied = true, .lse = true},
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 2, 90, 150, .page = 16, .wgmma = true,
         .stretch = 100, .lse = true},
    };

    RUN_ALL(*state, all);
}

static void wgmma_races(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 70, 330, .page = 16, .wgmma = true},
    };

    RUN_ALL(*state, all);
}

/* A prompt in chunks gives the bits of the prompt in one piece. */
static void chunked(void **state)
{
    struct kk *k = *state;
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 64, 0, 1, 2, 6, 150, 0, .page = 16},
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 2, 150, 0, .page = 16, .hidden = 1},
        {STORE_FP8, STORE_FP8, 64, 0, 1, 1, 4, 100, 0, .page = 16, .scaled = true},
    };
    static const uint32_t cuts[] = {0, 1, 17, 64, 90, UINT32_MAX};

    for (size_t n = 0; n < sizeof all / sizeof *all; n++) {
        struct fixture f;
        uint64_t row_bytes, bytes;
        uint8_t *whole, *parts;
        build(k, &all[n], &f);
        row_bytes = 2 * (uint64_t)f.a.q_heads * f.s.c.v.dim;
        bytes = f.rows * row_bytes;
        whole = arena_alloc(k->a, bytes, 16);
        parts = arena_alloc(k->a, bytes, 16);
        if (!kk_ran(k, prefill_run(k->d, &f.a)))
            return;
        kk_get(k, whole, f.a.out, bytes);
        for (int i = 0; cuts[i] < f.rows; i++) {
            uint32_t end = cuts[i + 1] < f.rows ? cuts[i + 1] : (uint32_t)f.rows;
            uint32_t first[] = {0, end - cuts[i]};
            struct prefill_args a = f.a;
            a.first = kk_put(k, TAG_TABLES, first, sizeof first);
            a.offset = kk_put(k, TAG_TABLES, &cuts[i], 4);
            a.longest = first[1] + 100;
            a.q = kk_put(k, TAG_ACTIVATION,
                         f.q_bits + (uint64_t)cuts[i] * f.a.q_heads * f.s.c.k.dim,
                         (uint64_t)first[1] * f.a.q_heads * f.s.c.k.dim * 2);
            a.out = kk_new(k, TAG_ACTIVATION, first[1] * row_bytes);
            kk_ok(k, prefill_run(k->d, &a));
            kk_get(k, parts + cuts[i] * row_bytes, a.out, first[1] * row_bytes);
        }
        assert_memory_equal(parts, whole, bytes);
    }
}

/* Heads of one group, 4 of 7 in a row from the third on. */
static void among_others(void **state)
{
    static const struct setting o = {
        STORE_BF16,     STORE_BF16,     64, 0, 2, 2, 4, 20, 7, .page = 16, .lse = true,
        .slopes = true, .learned = true};
    struct kk *k = *state;
    struct fixture f;

    build(k, &o, &f);
    struct kk_wide w = {f.rows, 4, 7, 2, 2 * 64}, sums = {f.rows, 4, 7, 2, 4};
    struct prefill_args a = f.a;
    if (!kk_ran(k, prefill_run(k->d, &f.a)))
        return;
    a.row_heads = 7;
    a.q = kk_spread(k, f.a.q, w);
    a.out = kk_spread(k, NULL, w);
    a.lse = kk_spread(k, NULL, sums);
    kk_ok(k, prefill_run(k->d, &a));
    kk_same_spread(k, f.a.out, a.out, w);
    kk_same_spread(k, f.a.lse, a.lse, sums);
    a.row_heads = 3;
    kk_refused(k, prefill_run(k->d, &a), "prefill: a row has at least the query heads");
}

/* And is not picked. */
static void wgmma_refuses(struct kk *k, const struct fixture *f)
{
    struct prefill_args bad[] = {f->a, f->a, f->a, f->a};

    assert_true(prefill_fits_wgmma(&f->a));
    bad[0].c.k.dim = bad[0].c.v.dim = 80;
    bad[1].c.k.store = bad[1].c.v.store = STORE_FP8;
    bad[2].cap = 50;
    bad[3].slopes = kk_new(k, TAG_TABLES, 4 * f->a.q_heads);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(prefill_fits_wgmma(&bad[i]));
        kk_refused(k, prefill_wgmma_run(k->d, &bad[i]),
                   "prefill: products of tiles are for 16 bits, heads of 64, 128, or 192 and "
                   "128, no cap, no slopes");
    }
}

static void refuses(void **state)
{
    struct kk *k = *state;
    static const struct setting plain = {STORE_BF16, STORE_BF16, 64, 0, 1,
                                         2,          4,          5,  3, .page = 16};
    static const struct {
        uint32_t q_heads, heads, longest;
        float scale;
        enum store store;
        const char *why;
    } bad[] = {
        {3, 2, 5, 1, STORE_BF16,
         "prefill: the query heads must be a multiple of the K/V heads"},
        {0, 2, 5, 1, STORE_BF16,
         "prefill: the query heads must be a multiple of the K/V heads"},
        {4, 2, 0, 1, STORE_BF16,
         "prefill: the longest chunk must have 1 to 2147483647 rows, counted by query heads"},
        {4, 2, 0x40000000, 1, STORE_BF16,
         "prefill: the longest chunk must have 1 to 2147483647 rows, counted by query heads"},
        {8, 8, 0x20000000, 1, STORE_BF16,
         "prefill: a chunk has at most 4294967295 query heads of tokens"},
        {4, 2, 5, 0, STORE_BF16, "prefill: the scale must be above 0"},
        {4, 2, 5, -1, STORE_BF16, "prefill: the scale must be above 0"},
        {4, 2, 5, NAN, STORE_BF16, "prefill: the scale must be above 0"},
        {65536, 65536, 5, 1, STORE_BF16, "prefill: too many heads"},
        {4, 2, 5, 1, STORE_FP16, "prefill: fp16 is for K and V together"},
    };
    struct fixture f;

    build(k, &plain, &f);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct prefill_args a = f.a;
        a.q_heads = bad[i].q_heads;
        a.c.heads = bad[i].heads;
        a.longest = bad[i].longest;
        a.scale = bad[i].scale;
        a.c.k.store = bad[i].store;
        kk_refused(k, prefill_run(k->d, &a), bad[i].why);
    }
    f.a.chosen = f.s.c.table;
    kk_refused(k, prefill_run(k->d, &f.a),
               "prefill: a selection of at least one token, and no window");
    f.a.chosen = NULL;
    f.a.chunk_tokens = f.a.window_tokens = 8;
    kk_refused(k, prefill_run(k->d, &f.a), "prefill: a window or chunks, not both");
    f.a.chunk_tokens = f.a.window_tokens = 0;
    wgmma_refuses(k, &f);
    f.a.cap = -1;
    kk_refused(k, prefill_run(k->d, &f.a), "prefill: the cap must not be below 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(heads),    kk_reversed(heads),       kk_test(lengths),
        kk_test(visible),  kk_reversed(visible),     kk_test(formats),
        kk_test(wgmma),    kk_reversed(wgmma_races), kk_test(bent),
        kk_reversed(bent), kk_test(chosen),          kk_reversed(chosen),
        kk_test(chunked),  kk_test(refuses),         kk_test(among_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
