/* The table of keys, the names of keys, the line editor, and files of keys. */
#include "tests/kvtest.h"

#include <locale.h>
#include <string.h>

#include "planner/base/rng.h"
#include "planner/base/utf8.h"
#include "tui/keys.h"
#include "tui/line.h"
#include "tui/player.h"

enum { EACH_MAX = 256 };

/* The keys of a row. */
static size_t keys_of(const struct key_row *r, uint32_t *out)
{
    size_t n = 0;

    for (const char *p = r->keys; *p;) {
        size_t len = strcspn(p, " ");
        out[n++] = keys_parse(p, len);
        p += len + strspn(p + len, " ");
    }
    return n;
}

/* On every screen a key means one thing, and every row is explained. */
static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; keys_at(i); i++) {
        const struct key_row *r = keys_at(i);
        uint32_t mine[16], theirs[16];
        size_t n = keys_of(r, mine);

        assert_true(n > 0 && r->action > ACT_NONE && r->action < N_ACTIONS);
        assert_true(r->help || (i > 0 && !r->label && keys_at(i - 1)->action == r->action - 1));
        for (size_t a = 0; a < n; a++) {
            assert_int_not_equal(mine[a], KEY_NONE);
            for (size_t k = 0; keys_at(k); k++)
                for (size_t b = 0, m = keys_of(keys_at(k), theirs); b < m; b++)
                    assert_true((k == i && a == b) || mine[a] != theirs[b]);
        }
    }
    assert_null(keys_at(10000));
}

static void test_actions(void **state)
{
    (void)state;
    for (size_t i = 0; keys_at(i); i++) {
        const struct key_row *r = keys_at(i);
        char screen[32] = "any";
        uint32_t mine[16];

        if (r->screens)
            snprintf(screen, sizeof screen, "%.*s", (int)strcspn(r->screens, " "), r->screens);
        for (size_t a = 0, n = keys_of(r, mine); a < n; a++) {
            assert_int_equal(keys_action(mine[a], screen), r->action);
            assert_int_equal(keys_action(mine[a], NULL), r->screens ? ACT_NONE : r->action);
        }
    }
    assert_int_equal(keys_action(127, "budget"), ACT_CLEAR); /* as terminals send Backspace */
    assert_int_equal(keys_action(10, NULL), ACT_OPEN);
    assert_int_equal(keys_action('@', NULL), ACT_NONE);
    assert_int_equal(keys_action('p', "budget"), ACT_NONE);
    assert_int_equal(keys_action('p', "run"), ACT_PAUSE);
}

static uint32_t parse(const char *name)
{
    return keys_parse(name, strlen(name));
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(parse("a"), 'a');
    assert_int_equal(parse("\u00e9"), 0xe9);
    assert_int_equal(parse("Enter"), 13);
    assert_int_equal(parse("Esc"), 27);
    assert_int_equal(parse("Space"), ' ');
    assert_int_equal(parse("Backspace"), 8);
    assert_int_equal(parse("Ctrl-L"), 12);
    assert_int_equal(parse("F1"), KEY_F_BASE + 1);
    assert_int_equal(parse("F12"), KEY_F_BASE + 12);
    assert_int_equal(parse("S-Tab"), KEY_BACK_TAB);
    static const char *const wrong[] = {"",       "F0",      "F13", "F01",  "enter", "Ctrl-l",
                                        "Ctrl-1", "Ctrl-LL", "ab",  "\xff", "Fx"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(parse(wrong[i]), KEY_NONE);
}

static void type(struct line *l, const char *keys)
{
    for (const char *p = keys; *p;) {
        size_t len = strcspn(p, " ");
        assert_true(line_key(l, keys_parse(p, len)));
        p += len + strspn(p + len, " ");
    }
}

static void test_line(void **state)
{
    struct line l;

    (void)state;
    line_set(&l, "ab c");
    type(&l, "Left Left x \u00e9 Home Delete End Backspace");
    kt_same(l.text, "bx\u00e9 ");
    type(&l, "Left Left Backspace");
    kt_same(l.text, "b\u00e9 ");
    line_set(&l, "one two  ");
    type(&l, "Ctrl-W");
    kt_same(l.text, "one ");
    type(&l, "Ctrl-A Right Ctrl-K");
    kt_same(l.text, "o");
    type(&l, "Ctrl-E Space x Left Ctrl-U");
    kt_same(l.text, "x");
    line_set(&l, "tab\there");
    kt_same(l.text, "tab?here");
    line_replace(&l, 0, 4, "");
    line_replace(&l, 3, 99, "no such place");
    kt_same(l.text, "here");
    assert_false(line_key(&l, 13));
    assert_false(line_key(&l, KEY_UP_ARROW));
    assert_false(line_key(&l, 0xd800));
    assert_false(line_key(&l, 0x301)); /* would have no column of its own */
}

/* Random keys: always valid UTF-8 of at most the longest length, the cursor on a character. */
static void test_line_random(void **state)
{
    static const uint32_t keys[] = {KEY_LEFT_ARROW,
                                    KEY_RIGHT_ARROW,
                                    KEY_HOME_KEY,
                                    KEY_END_KEY,
                                    KEY_DELETE,
                                    8,
                                    1,
                                    5,
                                    23,
                                    'a',
                                    ' ',
                                    0xe9,
                                    0x754c,
                                    0x1f600,
                                    11,
                                    21};
    struct rng rng = {kt_seed(3)};
    struct kt *k = *state;
    struct canvas c;
    struct line l;

    canvas_init(&c, k->a, false);
    canvas_clear(&c, 20, 2);
    line_set(&l, "");
    for (int i = 0; i < 50000; i++) {
        uint32_t cp;
        line_key(&l, keys[rng_below(&rng, i % 5000 < 3000 ? 14 : 16)]);
        assert_true(l.n <= LINE_MAX_BYTES && l.at <= l.n && strlen(l.text) == l.n);
        assert_true(l.at == l.n || utf8_next(l.text + l.at, l.n - l.at, &cp));
        if (i % 50)
            continue;
        for (size_t at = 0, len; at < l.n; at += len) {
            len = utf8_next(l.text + at, l.n - at, &cp);
            assert_true(len > 0);
        }
        line_view(&l, &c, (struct rect){3, 1, 10, 1}, ST_EDIT);
        assert_true(c.cursor_y == 1 && c.cursor_x >= 3 && c.cursor_x < 13);
        assert_true(c.cells[20 + 2].style == ST_PLAIN && c.cells[20 + 13].style == ST_PLAIN);
    }
}

static void test_size(void **state)
{
    static const char *const wrong[] = {"",       "80",   "80x",   "x24",
                                        "0x24",   "80x0", "80X24", "1001x1",
                                        "80x24x", "-1x5", "8 x5",  "99999999x1"};
    int w = 0, h = 0;

    (void)state;
    assert_true(player_size("100x30", &w, &h) && w == 100 && h == 30);
    assert_true(player_size("1x1000", &w, &h) && w == 1 && h == 1000);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(player_size(wrong[i], &w, &h));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_table), kt_test(test_actions),     kt_test(test_names),
        kt_test(test_line),  kt_test(test_line_random), kt_test(test_size),
    };

    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
