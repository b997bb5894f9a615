/* A document written as YAML reads back as the same tree, and looks as one would write it. */
#include "planner/doc/emit.h"

#include <string.h>

#include "tests/kvtest.h"

static struct doc_node *parse(struct kt *t, const char *text)
{
    struct doc_node *doc = NULL;
    size_t n = 0;

    assert_true(doc_read_yaml(t->a, "t.yaml", text, strlen(text), t->d, &doc, 1, &n));
    kt_u64(n, 1);
    return doc;
}

static void same_tree(const struct doc_node *a, const struct doc_node *b)
{
    const struct doc_node *x = a->first, *y = b->first;

    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->n, b->n);
    assert_string_equal(a->text, b->text);
    assert_int_equal(doc_is_null(a), doc_is_null(b));
    for (; x && y; x = x->next, y = y->next) {
        if (a->kind == DOC_MAP)
            assert_string_equal(x->key, y->key);
        same_tree(x, y);
    }
}

static void round_trip(struct kt *t, const char *text)
{
    const struct doc_node *doc = parse(t, text);

    same_tree(doc, parse(t, doc_emit_text(t->a, doc)));
}

static void a_spec_is_written_as_people_write_it(void **state)
{
    struct kt *t = *state;
    static const char text[] = "model: Qwen/Qwen3-8B\n"
                               "hardware:\n"
                               "  gpu: h100-sxm-80gb\n"
                               "  memory: 512 MiB\n"
                               "engine:\n"
                               "  version: \"0.19.0\"\n"
                               "cache:\n"
                               "  sharing:\n"
                               "    map: [1, 1, 3, 3]\n";

    kt_same(doc_emit_text(t->a, parse(t, text)), text);
}

static void what_would_read_otherwise_is_quoted(void **state)
{
    struct kt *t = *state;

    kt_same(doc_emit_text(t->a, parse(t, "{a: 'null', b: null, c: , d: 'x: y', e: '#1'}")),
            "a: \"null\"\nb: null\nc:\nd: \"x: y\"\ne: \"#1\"\n");
    kt_same(doc_emit_text(t->a, parse(t, "a: {}\nb: []\nc: [{d: 1}]\ne:\n-\n- x\n")),
            "a: {}\nb: []\nc:\n  -\n    d: 1\ne:\n  -\n  - x\n");
    kt_same(doc_emit_scalar(t->a, "h100"), "h100");
    kt_same(doc_emit_scalar(t->a, ""), "\"\"");
    kt_same(doc_emit_scalar(t->a, "a: b"), "\"a: b\"");
    kt_same(doc_emit_scalar(t->a, "tab\t\"q\" \\"), "\"tab\\u0009\\\"q\\\" \\\\\"");
}

static void odd_texts_come_back(void **state)
{
    static const char *const texts[] = {
        "{\"a\\nb\": \"x\\u2028y\\u0085z\\ufeff\"}",
        "- '- a'\n- '...'\n- '--- '\n- ' lead'\n- 'trail '\n- '%x'\n- '@y'\n",
        "- [a, [b, {c: d}], '']\n- [[], {}]\n",
        "a: |\n  two\n  lines\nb: >\n  folded\n  text\n",
        "a: plain that\n  goes on\nb: -1\nc: -x\nd: ~\ne: ../up\nf: ./here\ng: ...x\n",
        "ключ: значение\n日本: 語\n",
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        round_trip(*state, texts[i]);
    }
}

static void long_keys_come_back(void **state)
{
    struct kt *t = *state;
    char key[1500];
    struct doc_node *root = doc_new(t->a, DOC_MAP, (struct loc){0});
    struct doc_node *child = doc_new(t->a, DOC_SCALAR, (struct loc){0});

    memset(key, 'k', sizeof key - 1);
    key[sizeof key - 1] = '\0';
    child->key = key;
    child->text = "v";
    doc_append(root, child);
    same_tree(root, parse(t, doc_emit_text(t->a, root)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(a_spec_is_written_as_people_write_it),
        kt_test(what_would_read_otherwise_is_quoted),
        kt_test(odd_texts_come_back),
        kt_test(long_keys_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
