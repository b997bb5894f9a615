/* JSON: what is read, where it stands, and each refusal with its exact line. */
#include "tests/kvtest.h"

#include <stdio.h>
#include <string.h>

#include "planner/base/rng.h"
#include "planner/doc/doc.h"

static bool read_json(struct kt *k, const char *text, bool lenient, struct doc_node **out)
{
    return doc_read_json(k->a, "t.json", text, strlen(text), lenient, k->d, out);
}

static void check(const struct doc_node *n, int line, int col, const char *text, bool quoted)
{
    assert_non_null(n);
    assert_string_equal(n->at.file, "t.json");
    assert_int_equal(n->at.line, line);
    assert_int_equal(n->at.col, col);
    assert_string_equal(n->text, text);
    assert_int_equal(n->quoted, quoted);
}

static void test_tree(void **state)
{
    struct kt *k = *state;
    struct doc_node *n = NULL;
    const struct doc_node *v;

    assert_true(
        read_json(k,
                  "\xef\xbb\xbf{\"a\": [1, -2.50, 18446744073709551615, 1E+2],\r\n"
                  " \"\xc3\xa9\": {\"esc\": \"\\u00e9\\n\\\"\", \"no\": null}, \"A\" :true,\n"
                  "\t\"f\":false , \"e\": \"\", \"n\": \"null\", \"o\": {}, \"l\": [ ] }\n",
                  false, &n));
    check(n, 1, 1, "", false);
    kt_u64(n->n, 8);
    v = doc_get(n, "a");
    assert_int_equal(v->kind, DOC_LIST);
    check(v->first, 1, 8, "1", false);
    check(v->first->next, 1, 11, "-2.50", false);
    check(v->first->next->next, 1, 18, "18446744073709551615", false);
    check(v->last, 1, 40, "1E+2", false);
    v = doc_path(n, "\xc3\xa9.esc");
    check(v, 2, 15, "\xc3\xa9\n\"", true);
    assert_int_equal(v->key_at.line, 2);
    assert_int_equal(v->key_at.col, 8);
    check(doc_path(n, "\xc3\xa9.no"), 2, 35, "null", false);
    check(doc_get(n, "A"), 2, 47, "true", false); /* case matters */
    check(doc_get(n, "f"), 3, 6, "false", false);
    check(doc_get(n, "e"), 3, 19, "", true);
    assert_false(doc_is_null(doc_get(n, "n")));
    assert_int_equal(doc_get(n, "o")->kind, DOC_MAP);
    kt_u64(doc_get(n, "l")->n, 0);
    assert_true(read_json(k, " 42 ", false, &n));
    check(n, 1, 2, "42", false);
    assert_true(read_json(k, "\"\\ud83d\\ude00\"", false, &n));
    check(n, 1, 1, "\xf0\x9f\x98\x80", true);
    kt_u64(diag_count(k->d), 0);
}

static void test_special(void **state)
{
    struct kt *k = *state;
    struct doc_node *n = NULL;
    const char *text =
        "{\"limit\": [0.0, Infinity],\n \"\xc3\xa9\": NaN, \"m\": -Infinity, \"z\": 1}";
    double v = 0;

    assert_true(read_json(k, text, true, &n));
    check(doc_get(n, "limit")->last, 1, 17, "Infinity", false);
    check(doc_get(n, "\xc3\xa9"), 2, 7, "NaN", false);
    check(doc_get(n, "m"), 2, 17, "-Infinity", false);
    check(doc_get(n, "z"), 2, 33, "1", false);
    kt_printed(k->d, "t.json:1:17: note: 'Infinity' is not JSON; it is taken as a text\n"
                     "t.json:2:7: note: 'NaN' is not JSON; it is taken as a text\n"
                     "t.json:2:17: note: '-Infinity' is not JSON; it is taken as a text\n");
    assert_int_equal(diag_exit(k->d), 0);
    assert_false(doc_double(doc_get(n, "m"), -1, 1, k->d, &v));
    assert_false(read_json(k, text, false, &n));
    kt_diag(k->d, "'Infinity' is not JSON", 1);
    assert_int_equal(diag_exit(k->d), 3);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "1:1: error: expected a value, found the end of the file"},
        {" \n ", "2:2: error: expected a value, found the end of the file"},
        {"{\"a\": 1,\n \"a\": 2}", "2:2: error: duplicate key 'a', first on line 1"},
        {"{\"a\": 1, \"\\u0061\": 2}", "1:10: error: duplicate key 'a', first on line 1"},
        {"{\"a\": 1} x", "1:10: error: expected nothing after the value, found 'x'"},
        {"1 2", "1:3: error: expected nothing after the value, found '2'"},
        {"{\"a\": 1,}", "1:9: error: expected a key in double quotes, found '}'"},
        {"[1,]", "1:4: error: expected a value, found ']'"},
        {"[,1]", "1:2: error: expected a value, found ','"},
        {"[1 2]", "1:4: error: expected ',' or ']', found '2'"},
        {"{\"a\" 1}", "1:6: error: expected ':', found '1'"},
        {"{\"a\": 1 \"b\"}", "1:9: error: expected ',' or '}', found '\"'"},
        {"{a: 1}", "1:2: error: expected a key in double quotes, found 'a'"},
        {"[1", "1:3: error: expected ',' or ']', found the end of the file"},
        {"{", "1:2: error: expected a key in double quotes, found the end of the file"},
        {"'x'", "1:1: error: expected a value, found '''"},
        {"\xc3\xa9", "1:1: error: expected a value, found '\xc3\xa9'"},
        {"// c\n1", "1:1: error: expected a value, found '/'"},
        {"True", "1:1: error: expected a value, found 'T'"},
        {"truex", "1:5: error: expected nothing after the value, found 'x'"},
        {"\x01", "1:1: error: expected a value, found byte 0x01"},
        {"\"abc",
         "1:5: error: expected '\"' at the end of a string, found the end of the file"},
        {"\"a\tb\"", "1:3: error: a control character (byte 0x09) in a string"},
        {"[\n\"a\nb\"]", "2:3: error: a control character (byte 0x0a) in a string"},
        {"\"\\x\"", "1:3: error: expected an escape such as \\n or \\u00e9, found 'x'"},
        {"\"\\u12g4\"", "1:3: error: expected an escape such as \\n or \\u00e9, found 'u'"},
        {"\"\\",
         "1:3: error: expected an escape such as \\n or \\u00e9, found the end of the file"},
        {"\"x\\u0000\"", "1:4: error: a NUL character is not allowed"},
        {"[1,\n\"\xc3\xa9\", \"\\ud800\"]", "2:7: error: this value is not valid JSON"},
        {"\"\\ud800\"", "1:2: error: this value is not valid JSON"},
        {"01", "1:1: error: a number must not start with 0"},
        {"-", "1:2: error: expected a digit, found the end of the file"},
        {"-x", "1:2: error: expected a digit, found 'x'"},
        {"1.", "1:3: error: expected a digit, found the end of the file"},
        {".5", "1:1: error: expected a value, found '.'"},
        {"+5", "1:1: error: expected a value, found '+'"},
        {"1e", "1:3: error: expected a digit, found the end of the file"},
        {"1e+]", "1:4: error: expected a digit, found ']'"},
        {"[1.5.2]", "1:5: error: expected ',' or ']', found '.'"},
        {"NaN", "1:1: error: 'NaN' is not JSON"},
        {"[1,\n\"\xff\"]", "2:2: error: invalid UTF-8: byte 0xff"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kt *k = NULL;
        struct doc_node *n = NULL;

        kt_open((void **)&k);
        assert_false(read_json(k, cases[i].text, false, &n));
        kt_printed(k->d, arena_printf(k->a, "t.json:%s\n", cases[i].message));
        kt_close((void **)&k);
    }
}

static void test_nul_byte(void **state)
{
    struct kt *k = *state;
    struct doc_node *n = NULL;

    assert_false(doc_read_json(k->a, "t.json", "[1,\n2\0]", 7, false, k->d, &n));
    kt_printed(k->d, "t.json:2:2: error: a NUL byte is not allowed\n");
}

static void test_depth(void **state)
{
    struct kt *k = *state;
    struct doc_node *n = NULL;
    char text[200];

    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    text[128] = '\0';
    assert_true(read_json(k, text, false, &n));
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    text[130] = '\0';
    assert_false(read_json(k, text, false, &n));
    kt_printed(k->d, "t.json:1:65: error: lists and maps are nested more than 64 deep\n");
}

static void test_brackets(void **state)
{
    struct kt *k = *state;
    size_t size = (size_t)100 << 20;
    char *text = arena_alloc(k->a, size, 1);
    struct doc_node *n = NULL;

    memset(text, '[', size);
    assert_false(doc_read_json(k->a, "t.json", text, size, false, k->d, &n));
    kt_printed(k->d, "t.json:1:65: error: lists and maps are nested more than 64 deep\n");
}

/* Large and flat is fine. */
static void test_flat(void **state)
{
    struct kt *k = *state;
    size_t items = 200000;
    char *text = arena_alloc(k->a, items * 2 + 2, 1);
    struct doc_node *n = NULL;

    text[0] = '[';
    for (size_t i = 0; i < items; i++)
        memcpy(text + 1 + i * 2, i + 1 < items ? "0," : "1]", 2);
    assert_true(read_json(k, text, false, &n));
    kt_u64(n->n, items);
    check(n->last, 1, (int)items * 2, "1", false);
}

static void test_random_edits(void **state)
{
    static const char base[] =
        "{\"a\": [1, -2.5e3, \"x\\n\"], \"b\": {\"c\": null, \"d\": true}}";
    static const char letters[] = "[]{},:\"\\-+.eE01 nutrfls\n\x01";
    struct rng r = {kt_seed(5)};

    (void)state;
    for (int i = 0; i < 5000; i++) {
        struct kt *k = NULL;
        struct doc_node *n = NULL;
        char text[sizeof base];
        bool ok;
        size_t edits = 1 + (size_t)rng_below(&r, 4);

        memcpy(text, base, sizeof base);
        for (size_t e = 0; e < edits; e++)
            text[rng_below(&r, sizeof base - 1)] = letters[rng_below(&r, sizeof letters - 1)];
        kt_open((void **)&k);
        ok = read_json(k, text, i % 2, &n);
        assert_int_not_equal(ok, diag_failed(k->d));
        kt_close((void **)&k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_tree),     kt_test(test_special),      kt_test(test_refusals),
        kt_test(test_nul_byte), kt_test(test_depth),        kt_test(test_brackets),
        kt_test(test_flat),     kt_test(test_random_edits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
