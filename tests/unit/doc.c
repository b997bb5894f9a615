/* The tree: building, looking up, setting one value, typed reads. */
#include "tests/kvtest.h"

#include <string.h>

#include "planner/doc/doc.h"

static struct doc_node *yaml(struct kt *k, const char *text)
{
    struct doc_node *n = NULL;
    size_t count = 0;

    assert_true(doc_read_yaml(k->a, "t.yaml", text, strlen(text), k->d, &n, 1, &count));
    kt_u64(count, 1);
    return n;
}

static void test_lookup(void **state)
{
    struct doc_node *n = yaml(*state, "a: {b: {c: 1}, d: [x, y]}\nab: 2\n");

    assert_string_equal(doc_get(n, "ab")->text, "2");
    assert_string_equal(doc_path(n, "a.b.c")->text, "1");
    assert_ptr_equal(doc_path(n, "a"), doc_get(n, "a"));
    assert_null(doc_get(n, "abc"));
    assert_null(doc_get(n, ""));
    assert_null(doc_path(n, "a.x.c"));
    assert_null(doc_path(n, "ab.c"));
    assert_null(doc_path(n, "a.d.0"));
    assert_null(doc_get(NULL, "a"));
    kt_u64(doc_path(n, "a.d")->n, 2);
}

static void test_null(void **state)
{
    struct doc_node *n = yaml(*state, "[~, null, NULL, 'null', '', 0, {}]");
    static const bool want[] = {true, true, true, false, false, false, false};
    size_t i = 0;

    for (const struct doc_node *c = n->first; c; c = c->next, i++)
        assert_int_equal(doc_is_null(c), want[i]);
    assert_true(doc_is_null(NULL));
    assert_true(doc_is_null(doc_get(yaml(*state, "a:\n"), "a")));
}

static void test_set(void **state)
{
    struct kt *k = *state;
    struct doc_node *n = yaml(k, "model: x\nengine: {name: vllm}\ncache:\n"), *copy;

    copy = doc_copy(k->a, n);
    assert_true(doc_set(k->a, n, "engine.name", "sglang", k->d));
    assert_true(doc_set(k->a, n, "engine.block_tokens", "32", k->d));
    assert_true(doc_set(k->a, n, "cache.sharing", "{scheme: lckv, warmup: 2}", k->d));
    assert_true(doc_set(k->a, n, "hardware.gpu", "", k->d));
    assert_string_equal(doc_path(n, "engine.name")->text, "sglang");
    assert_string_equal(doc_path(n, "engine.name")->at.file, "--set engine.name");
    assert_string_equal(doc_path(n, "engine.block_tokens")->text, "32");
    assert_string_equal(doc_path(n, "cache.sharing.warmup")->text, "2");
    assert_true(doc_is_null(doc_path(n, "hardware.gpu")));
    kt_u64(n->n, 4);
    assert_string_equal(doc_path(copy, "engine.name")->text, "vllm");
    kt_u64(copy->n, 3);
    assert_null(doc_path(copy, "cache.sharing"));
}

static void test_set_errors(void **state)
{
    struct kt *k = *state;
    struct doc_node *n = yaml(k, "model: x\nl: [1]\n");
    static const char *const bad[] = {"", ".", "a.", ".a", "a..b"};
    char deep[100];

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(doc_set(k->a, n, bad[i], "1", k->d));
    assert_false(doc_set(k->a, n, "model.name", "1", k->d));
    assert_false(doc_set(k->a, n, "l.0", "1", k->d));
    assert_false(doc_set(k->a, n, "a", "[1", k->d));
    assert_false(doc_set(k->a, n, "a", "1\n---\n2", k->d));
    kt_printed(k->d,
               "--set: error: '' is not a path of keys such as engine.name\n"
               "--set: error: '.' is not a path of keys such as engine.name\n"
               "--set: error: 'a.' is not a path of keys such as engine.name\n"
               "--set: error: '.a' is not a path of keys such as engine.name\n"
               "--set: error: 'a..b' is not a path of keys such as engine.name\n"
               "--set: error: 'model.name' runs through 'model', which is not a map\n"
               "--set: error: 'l.0' runs through 'l', which is not a map\n"
               "--set a:2:1: error: did not find expected ',' or ']', while parsing a flow "
               "sequence that starts on line 1\n"
               "--set a:2:1: error: more than 1 document\n");
    for (size_t i = 0; i < 99; i++)
        deep[i] = i % 2 ? '.' : 'a';
    deep[65] = '\0'; /* 33 keys */
    assert_false(doc_set(k->a, n, deep, "1", k->d));
    deep[63] = '\0';
    assert_true(doc_set(k->a, n, deep, "1", k->d));
}

static void test_nearest(void **state)
{
    static const char *const names[] = {"block_tokens", "name", "max_seqs", "tp", "pp"};

    (void)state;
    assert_string_equal(doc_nearest("block_token", names, 5), "block_tokens");
    assert_string_equal(doc_nearest("Block-Tokens", names, 5), "block_tokens");
    assert_string_equal(doc_nearest("nmae", names, 5), "name");
    assert_string_equal(doc_nearest("max_seq", names, 5), "max_seqs");
    assert_string_equal(doc_nearest("p", names, 5), "tp"); /* the first of equals */
    assert_null(doc_nearest("zzz", names, 5));
    assert_null(doc_nearest("", names, 5));
    assert_null(doc_nearest("name", names, 0));
    assert_null(doc_nearest(
        "a_word_of_more_than_sixty_four_bytes_which_is_no_key_of_anything_here", names, 5));
    assert_null(doc_nearest("name", (const char *const[]){NULL}, 1));
}

static void test_u64(void **state)
{
    struct kt *k = *state;
    struct doc_node *n = yaml(k, "ok: 12\nz: 0\nneg: -1\nw: abc\nf: 1.5\nl: [1, x]\nm: {a: 1}\n"
                                 "big: 99999999999999999999\nnull_: ~\n"
                                 "long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n");
    uint64_t v = 7;
    uint32_t w = 7;

    assert_true(doc_u64(doc_get(n, "ok"), 1, 12, k->d, &v));
    kt_u64(v, 12);
    assert_true(doc_u64(doc_get(n, "null_"), 1, 12, k->d, &v));
    assert_true(doc_u64(NULL, 1, 12, k->d, &v));
    kt_u64(v, 12);
    assert_false(doc_u64(doc_get(n, "z"), 1, 12, k->d, &v));
    assert_false(doc_u64(doc_get(n, "z"), 2, UINT64_MAX, k->d, &v));
    assert_false(doc_u64(doc_get(n, "neg"), 1, 12, k->d, &v));
    assert_false(doc_u64(doc_get(n, "w"), 1, 12, k->d, &v));
    assert_false(doc_u64(doc_get(n, "f"), 1, 12, k->d, &v));
    assert_false(doc_u64(doc_get(n, "l"), 1, 12, k->d, &v));
    assert_false(doc_u64(doc_get(n, "l")->last, 1, 12, k->d, &v));
    assert_false(doc_u64(doc_get(n, "m"), 1, 12, k->d, &v));
    assert_false(doc_u32(doc_get(n, "big"), 1, 12, k->d, &w));
    assert_false(doc_u64(doc_get(n, "long"), 1, 12, k->d, &v));
    kt_u64(v, 12);
    assert_true(doc_u32(doc_get(n, "ok"), 1, 12, k->d, &w));
    kt_u64(w, 12);
    kt_printed(k->d,
               "t.yaml:2:4: error: 'z' must be between 1 and 12, found 0\n"
               "t.yaml:2:4: error: 'z' must be at least 2, found 0\n"
               "t.yaml:3:6: error: 'neg' must not be negative, found '-1'\n"
               "t.yaml:4:4: error: 'w': expected a whole number, found 'abc'\n"
               "t.yaml:5:4: error: 'f': expected a whole number, found '1.5'\n"
               "t.yaml:6:4: error: 'l': expected a whole number, found a list\n"
               "t.yaml:6:8: error: a value of the list: expected a whole number, found 'x'\n"
               "t.yaml:7:4: error: 'm': expected a whole number, found a map\n"
               "t.yaml:8:6: error: 'big' is out of range, found '99999999999999999999'\n"
               "t.yaml:10:7: error: 'long': expected a whole number, found "
               "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'\n");
}

static void test_double_bool_text(void **state)
{
    struct kt *k = *state;
    struct doc_node *n = yaml(k, "h: 0.5\nneg: -0.5\nnn: --1\nb: yes\nq: '1'\none: 1\nl: []\n");
    const char *t = "before";
    double v = 7;
    bool b = false;

    assert_true(doc_double(doc_get(n, "h"), 0, 1, k->d, &v));
    kt_rel(v, 0.5, 0);
    assert_true(doc_double(doc_get(n, "neg"), -1, 1, k->d, &v));
    kt_rel(v, -0.5, 0);
    assert_false(doc_double(doc_get(n, "neg"), 0, 1, k->d, &v));
    assert_false(doc_double(doc_get(n, "nn"), -1, 1, k->d, &v));
    assert_false(doc_double(doc_get(n, "one"), 0, 0.5, k->d, &v));
    assert_false(doc_double(doc_get(n, "l"), 0, 1, k->d, &v));
    assert_true(doc_double(NULL, 0, 1, k->d, &v));
    assert_true(doc_bool(doc_get(n, "b"), k->d, &b));
    assert_true(b);
    assert_true(doc_bool(NULL, k->d, &b));
    assert_true(doc_bool(doc_get(n, "one"), k->d, &b));
    assert_false(doc_bool(doc_get(n, "q"), k->d, &b));
    assert_false(doc_bool(doc_get(n, "l"), k->d, &b));
    assert_true(doc_text(NULL, k->d, &t));
    assert_string_equal(t, "before");
    assert_true(doc_text(doc_get(n, "q"), k->d, &t));
    assert_string_equal(t, "1");
    assert_false(doc_text(doc_get(n, "l"), k->d, &t));
    kt_printed(k->d, "t.yaml:2:6: error: 'neg' must not be negative, found '-0.5'\n"
                     "t.yaml:3:5: error: 'nn': expected a number, found '--1'\n"
                     "t.yaml:6:6: error: 'one' must be between 0 and 0.5, found 1\n"
                     "t.yaml:7:4: error: 'l': expected a number, found a list\n"
                     "t.yaml:5:4: error: 'q': expected true or false, found '1'\n"
                     "t.yaml:7:4: error: 'l': expected true or false, found a list\n"
                     "t.yaml:7:4: error: 'l': expected a text, found a list\n");
}

static void test_describe(void **state)
{
    struct kt *k = *state;
    char buf[64];
    struct doc_node *n = doc_new(k->a, DOC_SCALAR, (struct loc){0});

    assert_string_equal(doc_describe(NULL, buf, sizeof buf), "nothing");
    assert_string_equal(doc_describe(n, buf, sizeof buf), "nothing");
    /* 39 letters and a character of two bytes: the cut is before it */
    n->text = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xc3\xa9z";
    assert_string_equal(doc_describe(n, buf, sizeof buf),
                        "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_lookup),           kt_test(test_null),     kt_test(test_set),
        kt_test(test_set_errors),       kt_test(test_nearest),  kt_test(test_u64),
        kt_test(test_double_bool_text), kt_test(test_describe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
