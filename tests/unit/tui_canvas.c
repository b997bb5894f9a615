/* The grid: clipping, characters of all widths, boxes, bars and plots. */
#include "tests/kvtest.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/rng.h"
#include "tui/canvas.h"
#include "tui/glyph.h"
#include "tui/theme.h"

static struct canvas blank(struct arena *a, int w, int h, bool ascii)
{
    struct canvas c;

    canvas_init(&c, a, ascii);
    canvas_clear(&c, w, h);
    return c;
}

static char *text_of(struct arena *a, const struct canvas *c)
{
    char *text = NULL, *copy;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    assert_non_null(f);
    canvas_dump(c, f);
    fclose(f);
    copy = arena_strdup(a, text);
    free(text);
    return copy;
}

static void test_text(void **state)
{
    struct kt *k = *state;
    struct canvas c = blank(k->a, 12, 4, false);
    struct rect r = {2, 1, 6, 2};

    assert_int_equal(canvas_text(&c, r, 0, 0, ST_PLAIN, "abcdefghij"), 10);
    assert_int_equal(canvas_text(&c, r, -2, 1, ST_PLAIN, "abcdefghij"), 10);
    assert_int_equal(canvas_text(&c, r, 0, 2, ST_PLAIN, "below"), 5);
    assert_int_equal(canvas_text(&c, r, 0, -1, ST_PLAIN, "above"), 5);
    kt_same(text_of(k->a, &c), "\n  abcdef\n  cdefgh\n\n");
    canvas_right(&c, (struct rect){0, 3, 12, 1}, 12, 0, ST_PLAIN, "right");
    canvas_textf(&c, (struct rect){0, 0, 12, 1}, 1, 0, ST_BAD, "%d%%", 42);
    kt_same(text_of(k->a, &c), " 42%\n  abcdef\n  cdefgh\n       right\n");
    assert_int_equal(c.cells[1].style, ST_BAD);
    assert_int_equal(c.cells[0].style, ST_PLAIN);
}

/* A wide character is two cells or none; what is left of one is blank. */
static void test_widths(void **state)
{
    struct kt *k = *state;
    struct canvas c = blank(k->a, 8, 3, false);
    struct rect all = {0, 0, 8, 3};

    assert_int_equal(canvas_columns("a\u754cb"), 4);
    assert_int_equal(canvas_columns("e\u0301"), 1);
    canvas_text(&c, all, 0, 0, ST_PLAIN, "a\u754cb");
    canvas_text(&c, (struct rect){0, 1, 2, 1}, 0, 0, ST_PLAIN, "a\u754cb");
    canvas_text(&c, (struct rect){1, 2, 3, 1}, -1, 0, ST_PLAIN, "\u754cb");
    kt_same(text_of(k->a, &c), "a\u754cb\na\n  b\n");
    canvas_text(&c, all, 2, 0, ST_PLAIN, "x"); /* on its right half */
    kt_same(text_of(k->a, &c), "a xb\na\n  b\n");
    canvas_text(&c, all, 1, 0, ST_PLAIN, "\u754c");
    canvas_text(&c, all, 1, 0, ST_PLAIN, "y"); /* on its left half */
    kt_same(text_of(k->a, &c), "ay b\na\n  b\n");
}

static void test_foreign_bytes(void **state)
{
    struct kt *k = *state;
    struct canvas c = blank(k->a, 16, 1, false);

    canvas_text(&c, (struct rect){0, 0, 16, 1}, 0, 0, ST_PLAIN, "a\033[2Jb\xff\tc\x7f");
    kt_same(text_of(k->a, &c), "a?[2Jb??c?\n");
}

static void test_ascii(void **state)
{
    struct kt *k = *state;
    struct canvas c = blank(k->a, 24, 3, true);
    struct rect all = {0, 0, 24, 3};
    char *text;

    canvas_text(&c, all, 0, 0, ST_PLAIN, "\u2192 3 \u00d7 4\u2026 \u00e9\u754c|");
    canvas_box(&c, (struct rect){0, 1, 10, 2}, "x", ST_PLAIN);
    text = text_of(k->a, &c);
    kt_same(text, "> 3 x 4~ ?? |\n+- x ----+\n+--------+\n");
    for (uint32_t cp = 1; cp < 0x3000; cp++)
        assert_true(glyph_ascii(cp) >= 0x20 && glyph_ascii(cp) < 0x7f);
    for (int s = 0; s < 6; s++) /* marks of series stay apart */
        for (int o = 0; o < s; o++)
            assert_true(glyph_ascii(canvas_plot_mark(s)) != glyph_ascii(canvas_plot_mark(o)));
}

static void test_box(void **state)
{
    struct kt *k = *state;
    struct canvas c = blank(k->a, 12, 4, false);
    struct rect in =
        canvas_box(&c, (struct rect){0, 0, 12, 4}, "title that is long", ST_BORDER);

    assert_true(in.x == 1 && in.y == 1 && in.w == 10 && in.h == 2);
    kt_same(text_of(k->a, &c), "┌─ title t─┐\n│          │\n│          │\n└──────────┘\n");
    in = canvas_box(&c, (struct rect){0, 0, 1, 9}, "", ST_BORDER);
    assert_int_equal(in.w, 0);
}

static void test_bar(void **state)
{
    struct kt *k = *state;
    struct canvas c = blank(k->a, 20, 2, false);
    const struct bar_part parts[] = {
        {50, ST_SERIES_1, 0}, {0, ST_SERIES_2, 0}, {0.1, ST_SERIES_3, 0}, {25, ST_SERIES_4, 0}};

    canvas_bar(&c, (struct rect){0, 0, 20, 1}, parts, 4, 100);
    kt_same(text_of(k->a, &c), "██████████▒░░░░░\n\n");
    canvas_bar(&c, (struct rect){0, 1, 4, 1}, parts, 4, 10); /* more than the whole */
    assert_true(c.cells[20 + 4].cp == ' ' && c.cells[20 + 3].cp != ' ');
    canvas_bar(&c, (struct rect){0, 1, 4, 1}, parts, 4, 0);
    canvas_bar(&c, (struct rect){0, 1, 0, 1}, parts, 4, 1);
    canvas_bar(&c, (struct rect){0, 1, 4, 1}, parts, 0, 1);
}

/* Columns of the parts never exceed the bar; each that is not 0 has one where there is room,
 * and none is off by more than the columns that others needed. */
static void test_bar_shares(void **state)
{
    struct kt *k = *state;
    struct rng rng = {kt_seed(7)};

    for (int round = 0; round < 3000; round++) {
        int w = 1 + (int)rng_below(&rng, 40), n = 1 + (int)rng_below(&rng, 6);
        struct canvas c = blank(k->a, w, 1, true);
        struct bar_part parts[6];
        int columns[6] = {0}, used = 0, some = 0;
        double sum = 0;

        for (int i = 0; i < n; i++) {
            parts[i] = (struct bar_part){rng_below(&rng, 4) ? rng_unit(&rng) : 0,
                                         (enum style)(ST_SERIES_1 + i), 0};
            sum += parts[i].size;
            some += parts[i].size > 0;
        }
        canvas_bar(&c, (struct rect){0, 0, w, 1}, parts, n, sum);
        for (int x = 0; x < w; x++)
            for (int i = 0; i < n; i++)
                columns[i] += c.cells[x].style == ST_SERIES_1 + i;
        for (int i = 0; i < n; i++) {
            used += columns[i];
            assert_true(parts[i].size > 0 || columns[i] == 0);
            assert_true(parts[i].size == 0 || some > w || columns[i] > 0);
            assert_true(fabs(columns[i] - parts[i].size / sum * w) <= some + 1 || sum == 0);
        }
        assert_true(used == (sum > 0 ? w : 0));
    }
}

static void tokens(double v, char *buf, size_t n)
{
    snprintf(buf, n, "%gk", v / 1024);
}

static void test_plot(void **state)
{
    struct kt *k = *state;
    static const double x[] = {0, 10, 20}, y[] = {0, 10, 0};
    const struct plot_series s = {x, y, 3, ST_SERIES_1, "tent"};
    const struct plot p = {.series = &s,
                           .n_series = 1,
                           .x1 = 20,
                           .y1 = 10,
                           .x_label = "x",
                           .y_label = "y",
                           .cursor_x = NAN};
    struct canvas c = blank(k->a, 30, 9, true);
    struct rect r = canvas_plot(&c, (struct rect){0, 0, 30, 9}, &p);

    assert_true(r.x == 3 && r.y == 1 && r.w == 27 && r.h == 5);
    /* 27 columns and 5 rows are 54 x 20 dots; column c has its mark at 19 * 2c / 26.5 dots up,
     * as far as the middle: the rows change after c = 2, 5, 8 and 10. */
    kt_same(text_of(k->a, &c), "y\n"
                               "10+           *****\n"
                               "  |         **     ***\n"
                               " 5+      ***          ***\n"
                               "  |   ***                ***\n"
                               " 0+***                      **\n"
                               "  ++------------+------------+\n"
                               "   0           10           20\n"
                               "                             x\n");
}

/* A flat line along the bottom sets the two lowest dots of each cell; a line of one point and
 * gaps draw nothing else. */
static void test_braille(void **state)
{
    struct kt *k = *state;
    static const double x[] = {0, 1, 2, 3}, y[] = {0, 0, NAN, 0};
    const struct plot_series s = {x, y, 4, ST_SERIES_2, "flat"};
    const struct plot p = {.series = &s, .n_series = 1, .x1 = 2, .y1 = 1, .cursor_x = 0.5};
    struct canvas c = blank(k->a, 24, 8, false);
    struct rect r = canvas_plot(&c, (struct rect){0, 0, 24, 8}, &p);
    int marks = 0, dots = 0, cursor = 0;

    for (int i = 0; i < r.w; i++) {
        uint32_t cp = c.cells[(r.y + r.h - 1) * c.w + r.x + i].cp;
        dots += cp == 0x28c0;
        marks += cp == canvas_plot_mark(0);
        cursor += c.cells[r.y * c.w + r.x + i].cp == 0x2506;
    }
    assert_true(marks == 2 && cursor == 1);
    assert_true(dots + marks == (r.w + 1) / 2);
}

static void keep(double v, char *buf, size_t n)
{
    snprintf(buf, n, "%.17g", v);
}

/* Round numbers: 1, 2 or 5 times a power of ten apart, or powers of two. */
static void test_ticks(void **state)
{
    struct kt *k = *state;
    struct plot p = {.x1 = 131072,
                     .x0 = 1024,
                     .y1 = 1,
                     .cursor_x = NAN,
                     .log_x = true,
                     .binary_x = true,
                     .format_x = tokens};
    struct canvas c = blank(k->a, 60, 6, true);

    canvas_plot(&c, (struct rect){0, 0, 60, 6}, &p);
    kt_same(
        strrchr(arena_strndup(k->a, text_of(k->a, &c), strlen(text_of(k->a, &c)) - 1), '\n'),
        "\n   1k              4k             16k             64k");
    canvas_clear(&c, 60, 6);
    p = (struct plot){.x0 = 0.3, .x1 = 0.9, .y1 = 1, .cursor_x = NAN, .format_x = keep};
    canvas_plot(&c, (struct rect){0, 0, 60, 6}, &p);
    assert_non_null(strstr(text_of(k->a, &c), "0.5"));
}

/* Whatever is drawn, nothing is touched outside the rectangle. */
static void test_plots_stay_inside(void **state)
{
    struct kt *k = *state;
    struct rng rng = {kt_seed(11)};
    struct canvas c = blank(k->a, 70, 30, false);

    for (int round = 0; round < 400; round++) {
        struct rect r = {(int)rng_below(&rng, 60) - 5, (int)rng_below(&rng, 30) - 5,
                         (int)rng_below(&rng, 70), (int)rng_below(&rng, 30)};
        double x[8], y[8], wild[] = {NAN, INFINITY, -INFINITY, 0, -1e300, 1e300, 1e-300};
        struct plot_series s = {x, y, (int)rng_below(&rng, 9), ST_SERIES_3, "s"};
        struct plot p = {.series = &s,
                         .n_series = 1,
                         .x0 = rng_unit(&rng),
                         .y0 = 1,
                         .x1 = rng_unit(&rng) * 1e6,
                         .y1 = wild[rng_below(&rng, 7)],
                         .log_x = rng_below(&rng, 2),
                         .log_y = rng_below(&rng, 2),
                         .binary_y = rng_below(&rng, 2),
                         .x_label = "x",
                         .cursor_x = 3};

        c.ascii = rng_below(&rng, 2);
        canvas_clear(&c, 70, 30);
        for (int i = 0; i < 8; i++) {
            x[i] = rng_below(&rng, 9) ? rng_unit(&rng) * 1e6 : wild[rng_below(&rng, 7)];
            y[i] = rng_below(&rng, 9) ? rng_unit(&rng) * 9 : wild[rng_below(&rng, 7)];
        }
        canvas_plot(&c, r, &p);
        for (int at = 0; at < 70 * 30; at++) {
            int cx = at % 70, cy = at / 70;
            bool in = cx >= r.x && cx < r.x + r.w && cy >= r.y && cy < r.y + r.h;
            assert_true(in || c.cells[at].cp == ' ');
        }
    }
}

/* Every theme gives every style a look; without colours it is attributes alone. */
static void test_themes(void **state)
{
    static const int colours[] = {0, 8, 16, 256};
    size_t n;

    (void)state;
    (void)theme_names(&n);
    assert_null(theme_at(n));
    assert_null(theme_find("no such"));
    for (size_t i = 0; i < n; i++) {
        assert_ptr_equal(theme_find(theme_at(i)->name), theme_at(i));
        assert_string_equal(theme_names(&n)[i], theme_at(i)->name);
        for (int s = 0; s < N_STYLES; s++)
            for (int c = 0; c < 4; c++) {
                struct look l = theme_look(theme_at(i), (enum style)s, colours[c]);
                assert_true(l.fg < (colours[c] ? colours[c] : 1) && l.fg >= -1);
                assert_true(l.bg < (colours[c] ? colours[c] : 1) && l.bg >= -1);
                assert_true(colours[c] || (l.fg == -1 && l.bg == -1));
            }
        /* a chosen line is seen without colours, too */
        assert_true(theme_look(theme_at(i), ST_SELECT, 0).attr & LOOK_REVERSE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_text),
        kt_test(test_widths),
        kt_test(test_foreign_bytes),
        kt_test(test_ascii),
        kt_test(test_box),
        kt_test(test_bar),
        kt_test(test_bar_shares),
        kt_test(test_plot),
        kt_test(test_braille),
        kt_test(test_ticks),
        kt_test(test_plots_stay_inside),
        kt_test(test_themes),
    };

    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
