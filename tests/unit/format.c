/* format_bytes against bytes counted by hand, for every part of its formula. */
#include "planner/cache/format.h"
#include "tests/kvtest.h"

static uint64_t bytes(const struct format *f, uint64_t tokens, uint32_t heads, uint32_t dim)
{
    struct ck ck = {0};
    uint64_t n = format_bytes(f, 0, tokens, heads, dim, &ck);

    assert_false(ck.over);
    return n;
}

static void plain(void **state)
{
    struct format f = format_plain("bf16", 2), q = format_plain("fp8", 1),
                  w = format_plain("fp32", 4);

    (void)state;
    kt_u64(bytes(&f, 10, 8, 128), 20480);
    kt_u64(bytes(&q, 10, 8, 128), 10240);
    kt_u64(bytes(&w, 10, 8, 128), 40960);
    kt_u64(q.full_bytes, 2);
    kt_u64(w.full_bytes, 4);
    kt_u64(bytes(&f, 0, 8, 128), 0);
    kt_u64(bytes(&f, 10, 0, 128), 0);
    kt_u64(bytes(&f, 10, 8, 0), 0);
}

static void blocks_and_scales(void **state)
{
    struct format f = {.block_elems = 32, .block_bytes = 18, .full_bytes = 2};

    (void)state;
    kt_u64(bytes(&f, 1, 1, 32), 18);
    kt_u64(bytes(&f, 1, 1, 33), 36); /* rounded up a head */
    kt_u64(bytes(&f, 3, 4, 80), 3 * 4 * 3 * 18);
    f.whole_row = true;
    kt_u64(bytes(&f, 3, 4, 80), 3 * 10 * 18); /* a row is 320 = 10 blocks */
    f.head_bytes = 4;
    kt_u64(bytes(&f, 3, 4, 80), 3 * (180 + 16));
    f.whole_row = false;
    kt_u64(bytes(&f, 3, 4, 80), 3 * 4 * (54 + 4));
    f.token_bytes = 7;
    kt_u64(bytes(&f, 3, 4, 80), 3 * (4 * (54 + 4) + 7));
    kt_u64(bytes(&f, 3, 4, 0), 0); /* no elements: no table either */
}

static void residuals(void **state)
{
    struct format f = {
        .block_elems = 1, .block_bytes = 1, .full_bytes = 2, .residual_tokens = 10};
    struct ck ck = {0};

    (void)state;
    f.residual = RESIDUAL_MOD;
    kt_u64(bytes(&f, 29, 1, 100), 2000 + 9 * 200);
    kt_u64(bytes(&f, 30, 1, 100), 3000);
    f.residual = RESIDUAL_MIN;
    kt_u64(bytes(&f, 29, 1, 100), 1900 + 2000);
    kt_u64(bytes(&f, 9, 1, 100), 1800);
    f.residual = RESIDUAL_FIRST;
    kt_u64(bytes(&f, 29, 1, 100), 1900 + 2000);
    /* Hugging Face: 1000 + 300 with a residual of 128 leave 44 tokens, 10 + 128 none */
    f.residual = RESIDUAL_CYCLE;
    f.residual_tokens = 128;
    kt_u64(format_bytes(&f, 1000, 1300, 1, 1, &ck), 1256 + 44 * 2);
    kt_u64(format_bytes(&f, 10, 138, 1, 1, &ck), 138);
    kt_u64(format_bytes(&f, 1000, 600, 1, 1, &ck), 600);
    f.residual_tokens = 0;
    kt_u64(format_bytes(&f, 10, 138, 1, 1, &ck), 138);
    f.residual = RESIDUAL_MOD;
    kt_u64(format_bytes(&f, 10, 138, 1, 1, &ck), 138);
}

static void token_groups(void **state)
{
    struct format f = {.block_elems = 4, .block_bytes = 1, .full_bytes = 2, .token_group = 32};
    struct ck ck = {0};

    (void)state;
    f.group_bytes = 4;
    kt_u64(bytes(&f, 64, 8, 128), 64 * 8 * 32 + 2 * 8 * 128 * 4);
    kt_u64(bytes(&f, 63, 8, 128), 63 * 8 * 32 + 1 * 8 * 128 * 4);
    kt_u64(format_token_bytes(&f, 8, 128, &ck), 8 * 32 + 128);
    kt_u64(format_token_bytes(&f, 1, 1, &ck), 1 + 1); /* 4 / 32 rounded up */
    kt_u64(format_token_bytes(&f, 0, 1, &ck), 0);
}

static void appended(void **state)
{
    struct format f = format_plain("bf16", 2);
    struct ck ck = {0};

    (void)state;
    kt_u64(format_append_bytes(&f, 8, 128, &ck), 2048);
    f.residual = RESIDUAL_FIRST;
    kt_u64(format_append_bytes(&f, 8, 128, &ck), 2048);
    f.residual = RESIDUAL_MOD; /* written in full first, and as codes later */
    kt_u64(format_append_bytes(&f, 8, 128, &ck), 4096);
}

static void equality(void **state)
{
    struct format f = {.name = "a", .block_elems = 1, .block_bytes = 2}, g = f;
    char name[] = "a";

    (void)state;
    g.name = name;
    assert_true(format_equal(&f, &g));
    g.name = "b";
    assert_false(format_equal(&f, &g));
    g.name = NULL;
    assert_false(format_equal(&f, &g));
#define DIFFERS(member, value)                                                                 \
    g = f;                                                                                     \
    g.member = (value);                                                                        \
    assert_false(format_equal(&f, &g))
    DIFFERS(block_elems, 2);
    DIFFERS(block_bytes, 3);
    DIFFERS(head_bytes, 1);
    DIFFERS(token_bytes, 1);
    DIFFERS(token_group, 1);
    DIFFERS(group_bytes, 1);
    DIFFERS(residual, RESIDUAL_MIN);
    DIFFERS(residual_tokens, 1);
    DIFFERS(full_bytes, 4);
    DIFFERS(whole_row, true);
    DIFFERS(dequant_flop, 1);
#undef DIFFERS
}

static void overflow(void **state)
{
    struct format f = format_plain("fp32", 4);
    struct ck ck = {0};

    (void)state;
    format_bytes(&f, 0, UINT64_MAX / 4, 1, 2, &ck);
    assert_true(ck.over);
    ck.over = false;
    format_bytes(&f, 0, UINT64_MAX / 8, 1, 1, &ck);
    assert_false(ck.over);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),     cmocka_unit_test(blocks_and_scales),
        cmocka_unit_test(residuals), cmocka_unit_test(token_groups),
        cmocka_unit_test(appended),  cmocka_unit_test(equality),
        cmocka_unit_test(overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
