/* YAML: what is read, where it stands, and each refusal with its exact line. */
#include "tests/kvtest.h"

#include <string.h>

#include "planner/base/rng.h"
#include "planner/doc/doc.h"

static bool read_yaml(struct kt *k, const char *text, size_t size, struct doc_node **out)
{
    size_t n = 0;

    return doc_read_yaml(k->a, "t.yaml", text, size, k->d, out, 1, &n);
}

static void check_at(const struct doc_node *n, int line, int col)
{
    assert_non_null(n);
    assert_string_equal(n->at.file, "t.yaml");
    assert_int_equal(n->at.line, line);
    assert_int_equal(n->at.col, col);
}

static void test_tree(void **state)
{
    struct kt *k = *state;
    const char *text = "# comment\n"
                       "model: Qwen/Qwen3-8B   # another\n"
                       "hardware:\n"
                       "  gpu: 'h100'\n"
                       "  \xc3\xa9: \"\xc3\xa9\\n\"\n"
                       "list: [1, {a: b}]\n"
                       "empty:\n"
                       "block: |\n"
                       "  two\n"
                       "  lines\n";
    struct doc_node *n = NULL;
    const struct doc_node *v;

    assert_true(read_yaml(k, text, strlen(text), &n));
    check_at(n, 2, 1);
    kt_u64(n->n, 5);
    v = doc_get(n, "model");
    check_at(v, 2, 8);
    assert_int_equal(v->key_at.line, 2);
    assert_int_equal(v->key_at.col, 1);
    assert_string_equal(v->text, "Qwen/Qwen3-8B");
    assert_false(v->quoted);
    check_at(doc_get(n, "hardware"), 4, 3);
    check_at(doc_path(n, "hardware.gpu"), 4, 8);
    assert_true(doc_path(n, "hardware.gpu")->quoted);
    v = doc_path(n, "hardware.\xc3\xa9");
    check_at(v, 5, 6); /* columns count characters */
    assert_string_equal(v->text, "\xc3\xa9\n");
    v = doc_get(n, "list");
    assert_int_equal(v->kind, DOC_LIST);
    check_at(v->first->next->first, 6, 15);
    assert_true(doc_is_null(doc_get(n, "empty")));
    assert_string_equal(doc_get(n, "block")->text, "two\nlines\n");
    assert_true(doc_get(n, "block")->quoted);
    kt_u64(diag_count(k->d), 0);
}

static void test_documents(void **state)
{
    struct kt *k = *state;
    const char *text = "a: 1\n---\nb: 2\n--- 3\n";
    struct doc_node *v[4] = {NULL};
    size_t n = 9;

    assert_true(doc_read_yaml(k->a, "t.yaml", text, strlen(text), k->d, v, 4, &n));
    kt_u64(n, 3);
    assert_string_equal(doc_get(v[1], "b")->text, "2");
    assert_string_equal(v[2]->text, "3");
    check_at(v[2], 4, 5);
    assert_false(doc_read_yaml(k->a, "t.yaml", text, strlen(text), k->d, v, 2, &n));
    kt_u64(n, 2);
    kt_printed(k->d, "t.yaml:4:1: error: more than 2 documents\n");
}

static void test_nothing(void **state)
{
    struct kt *k = *state;
    static const char *const empty[] = {"", "\n", "# only this\n", "\xef\xbb\xbf", "   "};
    struct doc_node *v = NULL;
    size_t n = 9;

    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        assert_true(doc_read_yaml(k->a, "t", empty[i], strlen(empty[i]), k->d, &v, 1, &n));
        kt_u64(n, 0);
    }
    assert_true(read_yaml(k,
                          "\xef\xbb\xbf"
                          "a: 1\r\nb: 2\r\n",
                          15, &v));
    check_at(doc_get(v, "b"), 2, 4);
    assert_true(read_yaml(k, "---\n...\n", 8, &v));
    assert_true(doc_is_null(v));
}

static void test_refusals(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"a: 1\nb: 2\na: 3\n", "t.yaml:3:1: error: duplicate key 'a', first on line 1\n"},
        {"m: {x: 1, x: 2}\n", "t.yaml:1:11: error: duplicate key 'x', first on line 1\n"},
        {"a: 1\n\"a\": 2\na: 3\n", "t.yaml:2:1: error: duplicate key 'a', first on line 1\n"
                                   "t.yaml:3:1: error: duplicate key 'a', first on line 1\n"},
        {"a: &x 1\n", "t.yaml:1:4: error: anchors are not supported: write the value out\n"},
        {"a: &x [*x]\n", "t.yaml:1:4: error: anchors are not supported: write the value out\n"
                         "t.yaml:1:8: error: aliases are not supported: write the value out\n"},
        {"&m {a: 1}\n", "t.yaml:1:1: error: anchors are not supported: write the value out\n"},
        {"a: !!str 1\nb: ! x\nc: !foo {}\nd: !!seq [1]\n",
         "t.yaml:1:4: error: tags are not supported: write the plain value\n"
         "t.yaml:2:4: error: tags are not supported: write the plain value\n"
         "t.yaml:3:4: error: tags are not supported: write the plain value\n"
         "t.yaml:4:4: error: tags are not supported: write the plain value\n"},
        {"? [a]\n: 1\n", "t.yaml:1:3: error: a key must be one word, not a list or map\n"},
        {"{[1]: x}\n", "t.yaml:1:2: error: a key must be one word, not a list or map\n"},
        {"\"\": 1\n", "t.yaml:1:1: error: a key is missing\n"},
        {": 1\n", "t.yaml:1:1: error: did not find expected key, while parsing a block mapping "
                  "that starts on line 1\n"},
        {"a: 1\n b: 2\n",
         "t.yaml:2:3: error: mapping values are not allowed in this context\n"},
        {"a: [1, 2\nb: 3\n",
         "t.yaml:2:2: error: did not find expected ',' or ']', while parsing "
         "a flow sequence that starts on line 1\n"},
        {"a: \"open\n", "t.yaml:2:1: error: found unexpected end of stream, while scanning a "
                        "quoted scalar that starts on line 1\n"},
        {"a:\n\t- 1\n", "t.yaml:2:1: error: found character that cannot start any token, while "
                        "scanning for the next token that starts on line 2\n"},
        {"a: 1\nb: \"x\\0y\"\n", "t.yaml:2:4: error: a NUL character is not allowed\n"},
        {"a: 1\nb: \x01\n", "t.yaml:2:4: error: the character U+0001 is not allowed\n"},
        {"a: 1\r\nb: \x07\n", "t.yaml:2:4: error: the character U+0007 is not allowed\n"},
        {"a: 1\rb: \xc2\x85\n", "t.yaml:2:4: error: the character U+0085 is not allowed\n"},
        {"\xc3\xa9: \xff\n", "t.yaml:1:4: error: invalid UTF-8: byte 0xff\n"},
        {"a: \xed\xa0\x80\n", "t.yaml:1:4: error: invalid UTF-8: byte 0xed\n"},
        {"%YAML 3.0\n---\na: 1\n", "t.yaml:1:1: error: found incompatible YAML document\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kt *k = NULL;
        struct doc_node *n = NULL;

        kt_open((void **)&k);
        assert_false(read_yaml(k, cases[i].text, strlen(cases[i].text), &n));
        kt_printed(k->d, cases[i].message);
        kt_close((void **)&k);
    }
}

static void test_nul_byte(void **state)
{
    struct kt *k = *state;
    struct doc_node *n = NULL;

    assert_false(read_yaml(k, "a: 1\nb\0: 2\n", 11, &n));
    kt_printed(k->d, "t.yaml:2:2: error: a NUL byte is not allowed\n");
}

static void nested(char *text, size_t depth, const char *open, const char *close)
{
    size_t n = strlen(open), m = strlen(close);

    for (size_t i = 0; i < depth; i++)
        memcpy(text + i * n, open, n);
    for (size_t i = 0; i < depth; i++)
        memcpy(text + depth * n + i * m, close, m);
    text[depth * (n + m)] = '\0';
}

static void test_depth(void **state)
{
    struct kt *k = *state;
    struct doc_node *n = NULL;
    char text[400];

    nested(text, 32, "[", "]");
    assert_true(read_yaml(k, text, strlen(text), &n));
    nested(text, 31, "{a: ", "}");
    assert_true(read_yaml(k, text, strlen(text), &n));
    kt_u64(diag_count(k->d), 0);
    nested(text, 33, "[", "]");
    assert_false(read_yaml(k, text, strlen(text), &n));
    kt_printed(k->d, "t.yaml:1:33: error: lists and maps are nested more than 32 deep\n");
}

/* 100 MB of brackets: one line, and no more time than it takes to look at the bytes. */
static void test_brackets(void **state)
{
    struct kt *k = *state;
    size_t size = (size_t)100 << 20;
    char *text = arena_alloc(k->a, size, 1);
    struct doc_node *n = NULL;

    memset(text, '[', size);
    assert_false(read_yaml(k, text, size, &n));
    kt_printed(k->d, "t.yaml:1:33: error: lists and maps are nested more than 32 deep\n");
}

/* Many keys: found by sorting, not pair by pair. */
static void test_many_keys(void **state)
{
    struct kt *k = *state;
    size_t keys = 100000, n = 0;
    char *text = arena_alloc(k->a, keys + 1, 16);
    struct doc_node *v = NULL;

    for (size_t i = 0; i < keys; i++)
        n += (size_t)snprintf(text + n, 16, "k%zu: 1\n", i);
    n += (size_t)snprintf(text + n, 16, "k77: 2\n");
    assert_false(read_yaml(k, text, n, &v));
    kt_printed(k->d, "t.yaml:100001:1: error: duplicate key 'k77', first on line 78\n");
}

/* Random edits of a sound file end in a tree or a message, never both or neither. */
static void test_random_edits(void **state)
{
    static const char base[] =
        "a: [1, 'x', {b: \"c\"}]\nd:\n  - e: |\n      f\n  - ? g\n    : h\n";
    static const char letters[] = "[]{},:-?|>'\"#&*! \n\tab\xc3\xa9";
    struct rng r = {kt_seed(5)};

    (void)state;
    for (int i = 0; i < 3000; i++) {
        struct kt *k = NULL;
        struct doc_node *n = NULL;
        char text[sizeof base];
        bool ok;
        size_t edits = 1 + (size_t)rng_below(&r, 4);

        memcpy(text, base, sizeof base);
        for (size_t e = 0; e < edits; e++)
            text[rng_below(&r, sizeof base - 1)] = letters[rng_below(&r, sizeof letters - 1)];
        kt_open((void **)&k);
        ok = read_yaml(k, text, sizeof base - 1, &n);
        assert_int_not_equal(ok, diag_failed(k->d));
        kt_close((void **)&k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_tree),     kt_test(test_documents), kt_test(test_nothing),
        kt_test(test_refusals), kt_test(test_nul_byte),  kt_test(test_depth),
        kt_test(test_brackets), kt_test(test_many_keys), kt_test(test_random_edits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
