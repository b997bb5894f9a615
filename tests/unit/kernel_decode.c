/* kernel_decode: decode attention against double precision, on every storage format and every
 * way a cache may lie; its error at most twice that of a plain kernel of the same precision;
 * and its traffic, counted while it runs, equal to the formula. */
#include "planner/cache/format.h"
#include "tests/kvdecode.h"

/* MHA, GQA, MQA with more than 16 query heads, all head sizes. */
static void heads(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 128, 0, 1, 2, 8, 100, 16, .splits = 1},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 3, 3, 70, 16, .splits = 1, .varied = true},
        {STORE_BF16, STORE_BF16, 80, 0, 1, 1, 37, 33, 16, .splits = 1},
        {STORE_BF16, STORE_BF16, 96, 0, 1, 2, 4, 33, 7, .splits = 2},
        {STORE_BF16, STORE_BF16, 256, 0, 1, 1, 8, 65, 32, .splits = 1},
        {STORE_BF16, STORE_BF16, 192, 128, 1, 2, 2, 40, 16, .splits = 1},
        {STORE_BF16, STORE_BF16, 112, 8, 1, 1, 2, 17, 1, .splits = 3},
        {STORE_FP16, STORE_FP16, 128, 0, 1, 2, 8, 90, 16, .splits = 2},
        {STORE_FP16, STORE_FP16, 64, 0, 1, 1, 4, 20, 16, .splits = 1},
    };

    RUN_ALL(*state, all);
}

/* Shapes whose rows come through the ring: one and two tiles of heads, more steps than stages,
 * pages of any size, every format. */
static void rings(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 16, 330, 16, .splits = 1},
        {STORE_BF16, STORE_BF16, 128, 0, 2, 2, 8, 300, 1000, .splits = 1, .varied = true},
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 37, 70, 1, .splits = 2},
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 3, 250, 7, .splits = 2, .window = 200,
         .sinks = 20},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 11, 400, 24, .splits = 1},
        {STORE_BF16, STORE_BF16, 256, 0, 1, 1, 12, 200, 16, .splits = 2},
        {STORE_FP16, STORE_FP16, 128, 0, 1, 1, 13, 280, 16, .splits = 1},
        {STORE_FP8, STORE_FP8, 128, 0, 1, 1, 16, 340, 5, .splits = 1, .scaled = true},
        {STORE_INT8, STORE_INT8, 128, 0, 1, 1, 9, 340, 16, .splits = 2, .scaled = true},
        {STORE_INT4, STORE_INT4, 128, 0, 1, 1, 16, 340, 16, 32, .splits = 1},
        {STORE_INT4, STORE_INT4, 128, 0, 1, 1, 4, 90, 3, 128, .splits = 1, .window = 60},
        {STORE_INT4, STORE_INT4, 128, 0, 1, 1, 4, 40, 16, 16, .splits = 1},
        {STORE_FP8, STORE_FP8, 128, 0, 2, 4, 16, 80, 16, .splits = 2, .ragged = true,
         .scaled = true},
        {STORE_INT4, STORE_INT4, 128, 0, 2, 2, 8, 80, 16, 64, .splits = 1, .ragged = true},
        {STORE_FP16, STORE_FP16, 128, 0, 2, 1, 13, 90, 16, .splits = 2, .learned = true,
         .varied = true},
        {STORE_BF16, STORE_BF16, 256, 0, 1, 2, 4, 90, 16, .splits = 1, .learned = true,
         .window = 40, .sinks = 4},
        {STORE_INT8, STORE_INT8, 128, 0, 1, 1, 12, 70, 16, .splits = 3, .learned = true,
         .hidden = 1, .scaled = true},
    };

    RUN_ALL(*state, all);
}

static void splits(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 4, 512, 16, .splits = 8},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 1, 100, 16, .splits = 3}, /* an odd count */
        {STORE_BF16, STORE_BF16, 128, 0, 3, 1, 4, 40, 16, .splits = 7, .varied = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 16, 16, .splits = 256},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 9, 16, .splits = 3, .hidden = 9},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 1, 16, .splits = 1},
    };

    RUN_ALL(*state, all);
}

/* Windows, sinks, masked diagonals, and rows that each head keeps for itself. */
static void visible(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 64, 0, 2, 1, 4, 100, 16, .splits = 1, .window = 33},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 2, 4, 100, 8, .splits = 3, .window = 20, .sinks = 4,
         .varied = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 24, 8, .splits = 1, .window = 20, .sinks = 9},
        {STORE_BF16, STORE_BF16, 64, 0, 3, 1, 4, 50, 16, .splits = 1, .hidden = 1,
         .varied = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 1, 16, .splits = 1, .hidden = 1},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 60, 16, .splits = 2, .hidden = 1,
         .window = 16},
        {STORE_BF16, STORE_BF16, 128, 0, 2, 4, 8, 80, 16, .splits = 2, .ragged = true},
        {STORE_INT8, STORE_INT8, 128, 0, 2, 4, 8, 80, 16, .splits = 1, .ragged = true,
         .scaled = true},
    };

    RUN_ALL(*state, all);
}

/* Capped scores, slopes along the tokens, learned sinks. The ring has no cap and slopes. */
static void bent(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 128, 0, 1, 2, 8, 70, 16, .splits = 1, .cap = 2},
        {STORE_BF16, STORE_BF16, 256, 0, 1, 1, 2, 70, 16, .splits = 2, .cap = 50},
        {STORE_FP16, STORE_FP16, 64, 0, 1, 1, 20, 40, 16, .splits = 1, .slopes = true},
        {STORE_BF16, STORE_BF16, 128, 0, 2, 4, 4, 70, 16, .splits = 3, .slopes = true,
         .window = 33},
        {STORE_FP8, STORE_FP8, 64, 0, 1, 2, 4, 40, 16, .splits = 1, .slopes = true, .cap = 3},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 2, 16, 70, 16, .splits = 1, .learned = true},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 2, 16, 90, 16, .splits = 4, .learned = true,
         .window = 30},
        {STORE_FP16, STORE_FP16, 128, 0, 1, 1, 20, 5, 16, .splits = 1, .learned = true,
         .cap = 9, .slopes = true},
    };

    RUN_ALL(*state, all);
}

static void formats(void **state)
{
    static const struct setting all[] = {
        {STORE_FP8, STORE_FP8, 128, 0, 1, 2, 8, 100, 16, .splits = 1},
        {STORE_FP8, STORE_FP8, 128, 0, 1, 2, 8, 50, 16, .splits = 2, .scaled = true},
        {STORE_INT8, STORE_INT8, 128, 0, 1, 2, 8, 100, 16, .splits = 1, .scaled = true},
        {STORE_INT8, STORE_INT8, 64, 0, 1, 2, 8, 50, 16, .splits = 1},
        {STORE_INT4, STORE_INT4, 128, 0, 1, 2, 8, 100, 16, 64, .splits = 1},
        {STORE_INT4, STORE_INT4, 128, 0, 1, 2, 8, 50, 16, 32, .splits = 2},
        {STORE_INT4, STORE_INT4, 80, 0, 1, 2, 8, 50, 16, 80, .splits = 1},
        {STORE_FP8, STORE_INT4, 128, 0, 1, 2, 8, 50, 16, 32, .splits = 1},
        {STORE_INT8, STORE_BF16, 128, 0, 1, 2, 8, 50, 16, .splits = 1, .scaled = true},
    };

    RUN_ALL(*state, all);
}

/* Lengths around the residual, and windows that begin in the quantized part. */
static void kivi(void **state)
{
    static const struct setting all[] = {
        {STORE_KIVI4, STORE_KIVI4, 128, 0, 1, 2, 8, 100, 32, 32, 32, .splits = 1},
        {STORE_KIVI2, STORE_KIVI2, 128, 0, 1, 2, 8, 100, 32, 32, 32, .splits = 2},
        {STORE_KIVI2, STORE_KIVI2, 64, 0, 3, 1, 4, 70, 32, 16, 32, .splits = 1, .varied = true},
        {STORE_KIVI4, STORE_KIVI4, 64, 0, 1, 1, 4, 31, 32, 32, 32, .splits = 1},
        {STORE_KIVI4, STORE_KIVI4, 64, 0, 1, 1, 4, 64, 32, 32, 32, .splits = 1, .window = 40},
        {STORE_KIVI4, STORE_KIVI4, 256, 0, 1, 1, 4, 65, 32, 32, 32, .splits = 1},
    };

    RUN_ALL(*state, all);
}

/* The planner's bytes of a sequence's cache are the bytes that decode touches. */
static void planner_bytes(void **state)
{
    struct kk *k = *state;
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 128, 0, 1, 2, 8, 75, 16, .splits = 1},
        {STORE_FP8, STORE_FP8, 128, 0, 1, 2, 8, 75, 16, .splits = 1, .scaled = true},
        {STORE_INT4, STORE_INT4, 128, 0, 1, 2, 8, 75, 16, 64, .splits = 1},
        {STORE_KIVI2, STORE_KIVI2, 128, 0, 1, 2, 8, 75, 32, 32, 32, .splits = 1},
    };
    static const struct format formats[][2] = {
        {{.block_elems = 1, .block_bytes = 2}, {.block_elems = 1, .block_bytes = 2}},
        {{.block_elems = 1, .block_bytes = 1, .head_bytes = 4},
         {.block_elems = 1, .block_bytes = 1, .head_bytes = 4}},
        {{.block_elems = 2, .block_bytes = 1, .head_bytes = 8},
         {.block_elems = 2, .block_bytes = 1, .head_bytes = 8}},
        {{.block_elems = 4,
          .block_bytes = 1,
          .token_group = 32,
          .group_bytes = 4,
          .residual = RESIDUAL_MOD,
          .residual_tokens = 32,
          .full_bytes = 2},
         {.block_elems = 4,
          .block_bytes = 1,
          .head_bytes = 16,
          .residual = RESIDUAL_MIN,
          .residual_tokens = 32,
          .full_bytes = 2}},
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct fixture f;
        struct tally t;
        struct ck ck = {0};
        runs(k, &all[i], &f);
        if (!kk_seen(k, &t))
            continue;
        kt_u64(t.unique_read_bytes[TAG_K], format_bytes(&formats[i][0], 75, 75, 2, 128, &ck));
        kt_u64(t.unique_read_bytes[TAG_V], format_bytes(&formats[i][1], 75, 75, 2, 128, &ck));
    }
}

/* Two layers that share the K/V of one: the second reads it again, but nothing new. */
static void shared_source(void **state)
{
    static const struct setting own = {STORE_BF16, STORE_BF16, 64, 0,  1,
                                       2,          4,          40, 16, .splits = 1};
    struct kk *k = *state;
    struct fixture f;
    struct decode_args lower;
    struct tally t;

    runs(k, &own, &f);
    lower = f.a;
    lower.hidden_tokens = 1; /* it reads a layer above: not its own token */
    lower.out = kk_new(k, TAG_ACTIVATION, 2 * f.n_out);
    if (!kk_ran(k, decode_run(k->d, &lower)))
        return;
    if (!kk_seen(k, &t))
        return;
    kt_u64(t.unique_read_bytes[TAG_K], 2 * 40 * 64 * 2);
    kt_u64(t.issued.read_bytes[TAG_K], 2 * (40 + 39) * 64 * 2);
    kt_u64(t.issued.useful_flop, (uint64_t)4 * (40 + 39) * 2 * 128);
}

/* Heads of one group, 4 of 7 in a row from the third on. */
static void among_others(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 64, 0, 3, 2, 4, 70, 16, .splits = 1},
        {STORE_BF16, STORE_BF16, 64, 0, 3, 2, 4, 70, 16, .splits = 3},
        {STORE_FP16, STORE_FP16, 128, 0, 2, 1, 4, 33, 1, .splits = 1},
        {STORE_BF16, STORE_BF16, 64, 0, 3, 2, 4, 70, 16, .splits = 2, .slopes = true,
         .learned = true, .cap = 5},
    };
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct kk_wide w = {all[i].sequences, 4, 7, 2, 2 * all[i].dim};
        struct kk_wide sums = {all[i].sequences, 4, 7, 2, 4};
        struct fixture f;
        build(k, &all[i], &f);
        f.a.lse = kk_new(k, TAG_ACTIVATION, 4 * (uint64_t)all[i].sequences * 4);
        struct decode_args a = f.a;
        if (!kk_ran(k, decode_run(k->d, &f.a)))
            continue;
        a.row_heads = 7;
        a.q = kk_spread(k, f.a.q, w);
        a.out = kk_spread(k, NULL, w);
        a.lse = kk_spread(k, NULL, sums);
        kk_ok(k, decode_run(k->d, &a));
        kk_same_spread(k, f.a.out, a.out, w);
        kk_same_spread(k, f.a.lse, a.lse, sums);
    }
}

/* On 132 multiprocessors: enough heads alone, few heads, too few rows to share, and 200 heads,
 * of which one each would leave half of the second turn idle. */
static void split_counts(void **state)
{
    static const struct {
        uint64_t heads;
        uint32_t rows, multiprocessors, splits;
    } all[] = {
        {1320, 4096, 132, 1}, {8, 32768, 132, 64},  {1, 1000000, 132, 256}, {1, 500, 132, 1},
        {2, 512, 132, 2},     {200, 16384, 132, 9}, {4, 0, 132, 1},         {4, 4096, 1, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        kt_u64(decode_splits(all[i].heads, all[i].rows, all[i].multiprocessors), all[i].splits);
}

static void refuses(void **state)
{
    struct kk *k = *state;
    static const struct setting plain = {STORE_BF16, STORE_BF16, 64, 0,  1,
                                         2,          4,          20, 16, .splits = 1};
    static const struct {
        struct setting o;
        const char *why;
    } bad[] = {
        {{.q_heads = 3, .splits = 1},
         "decode: the query heads must be a multiple of the K/V heads"},
        {{.q_heads = 4}, "decode: 1 to 256 splits"},
        {{.q_heads = 4, .splits = 257}, "decode: 1 to 256 splits"},
        {{.q_heads = 4, .splits = 2}, "decode: several splits need work memory"},
        {{.q_heads = 4, .splits = 1, .dim = 4},
         "decode: a head has a multiple of 8 elements, up to 256"},
        {{.q_heads = 4, .splits = 1, .dim = 264},
         "decode: a head has a multiple of 8 elements, up to 256"},
        {{.q_heads = 4, .splits = 1, .k = STORE_KIVI2, .dim = 24},
         "decode: 2-bit codes need a multiple of 16 elements a head"},
        {{.q_heads = 4, .splits = 1, .k = STORE_INT4},
         "decode: a group is a head, or 8 times a power of two that divides it"},
        {{.q_heads = 4, .splits = 1, .k = STORE_KIVI4},
         "decode: the groups of K must divide the residual and the page"},
        {{.q_heads = 4, .splits = 1, .k = STORE_KIVI4, .group = 16},
         "decode: KIVI needs a residual"},
        {{.q_heads = 4, .splits = 1, .k = STORE_FP16}, "decode: fp16 is for K and V together"},
        {{.q_heads = 4, .splits = 1, .page = UINT32_MAX},
         "decode: pages and tables must not be empty"},
        {{.q_heads = 4, .splits = 1, .sequences = UINT32_MAX},
         "decode: 1 to 65535 sequences, and at least one head"},
        {{.q_heads = 4, .splits = 1, .cap = -1}, "decode: the cap must not be below 0"},
        {{.q_heads = 65536 * 2, .splits = 1, .heads = 65536}, "decode: too many heads"},
    };
    struct fixture f;

    build(k, &plain, &f);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct setting *o = &bad[i].o;
        struct decode_args a = f.a;
        a.q_heads = o->q_heads;
        a.splits = o->splits;
        a.cap = o->cap;
        a.c.k.store = o->k;
        a.c.k.dim = o->dim ? o->dim : a.c.k.dim;
        a.c.k.group = o->group;
        a.c.heads = o->heads ? o->heads : a.c.heads;
        a.c.page_tokens = o->page == UINT32_MAX ? 0 : a.c.page_tokens;
        a.c.sequences = o->sequences ? 65536 : a.c.sequences;
        kk_refused(k, decode_run(k->d, &a), bad[i].why);
    }
    f.a.row_heads = 3;
    kk_refused(k, decode_run(k->d, &f.a), "decode: a row has at least the query heads");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(heads),         kk_test(rings),         kk_reversed(rings),
        kk_test(splits),        kk_reversed(splits),    kk_test(visible),
        kk_reversed(visible),   kk_test(formats),       kk_test(kivi),
        kk_test(planner_bytes), kk_test(shared_source), kk_test(split_counts),
        kk_test(bent),          kk_reversed(bent),      kk_test(refuses),
        kk_test(among_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
