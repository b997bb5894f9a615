/* Files of keys, all sizes, and random events: the frame is never empty, the cursor is in it,
 * and what can be clicked does not overlap. */
#include "tests/tui/rig.h"

#include <locale.h>
#include <unistd.h>

#include "planner/base/rng.h"
#include "planner/base/unit.h"
#include "tui/ui_parts.h"

static void test_key_files(void **state)
{
    static const struct {
        const char *text, *message;
    } wrong[] = {
        {"Enter\n  nokey", "keys:2:3: error: there is no key 'nokey'; Enter, Esc, F1, PgUp, "
                           "Ctrl-R, a letter, or \"text\" to type\n"},
        {"x \"abc", "keys:1:3: error: this text has no closing quote on its line\n"},
        {"\"abc\n\"", "keys:1:1: error: this text has no closing quote on its line\n"},
        {"\"a\x01\"", "keys:1:3: error: a text has characters of UTF-8 only\n"},
        {"mouse poke 1 2",
         "keys:1:7: error: mouse is press, double, up or down, found 'poke'\n"},
        {"mouse press 1", "keys:1:14: error: mouse needs a column and a row, found ''\n"},
        {"mouse press 1 -2", "keys:1:15: error: mouse needs a column and a row, found '-2'\n"},
        {"size 80", "keys:1:6: error: size is columns x rows such as 100x30, found '80'\n"},
        {"wait 2h", "keys:1:6: error: wait needs a time such as 0.5s, at most an hour, found "
                    "'2h'\n"},
    };
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct diag *d = diag_new(k->a);
        assert_false(player_play(r->ui, &r->c, "keys", wrong[i].text, d));
        kt_printed(d, wrong[i].message);
    }
    rig_play(r, "# a comment\n: \"gpu h200\" # another\n\tEnter wait 1s");
    rig_shows(r, "on h200");
    rig_play(r, ": \"say \\\"x\\\\y\"");
    rig_shows(r, ":say \"x\\y");
    rig_close(r);
}

/* --- sizes and chance ------------------------------------------------------------------------
 */

static void check_frame(const struct rig *r)
{
    const struct canvas *c = &r->c;
    bool some = false;

    for (int i = 0; i < c->w * c->h && !some; i++)
        some = c->cells[i].cp != ' ';
    assert_true(some);
    assert_true(
        (c->cursor_x == -1 && c->cursor_y == -1) ||
        (c->cursor_x >= 0 && c->cursor_x < c->w && c->cursor_y >= 0 && c->cursor_y < c->h));
}

static void check_buttons(const struct rig *r, const struct button *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        assert_true(b[i].x >= 0 && b[i].w > 0 && b[i].x + b[i].w <= r->c.w);
        for (size_t k = 0; k < i; k++)
            assert_true(b[i].x + b[i].w < b[k].x || b[k].x + b[k].w < b[i].x);
    }
}

static void at_size(struct rig *r, int w, int h)
{
    struct button b[UI_BUTTONS_MAX];
    struct event e = {.kind = EVENT_RESIZE, .x = w, .y = h};

    ui_event(r->ui, &e);
    ui_view(r->ui, &r->c);
    assert_true(r->c.w == w && r->c.h == h);
    check_frame(r);
    if (w >= UI_W_MIN && h >= UI_H_MIN) {
        check_buttons(r, b, ui_tabs(r->ui, b));
        assert_true(ui_footer(r->ui, b) >= 5);
        check_buttons(r, b, ui_footer(r->ui, b));
    }
}

/* 1..250 x 1..80: all of it with KV_SWEEP=all, else every small size near the least one and a
 * grid of others; on every screen. */
static void test_sizes(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});
    const char *all = getenv("KV_SWEEP");
    int step_w = all ? 1 : 23, step_h = all ? 1 : 13;

    for (int screen = 1; screen <= 7; screen++) {
        rig_play(r, arena_printf(k->a, "size 80x24 %d", screen));
        for (int h = 1; h <= 80; h += h >= 23 && h < 26 ? 1 : step_h)
            for (int w = 1; w <= 250; w += w >= 78 && w < 82 ? 1 : step_w)
                at_size(r, w, h);
        at_size(r, 250, 80);
    }
    rig_close(r);
}

static struct event random_event(struct rng *rng)
{
    static const uint32_t keys[] = {KEY_UP_ARROW,
                                    KEY_DOWN_ARROW,
                                    KEY_LEFT_ARROW,
                                    KEY_RIGHT_ARROW,
                                    KEY_PAGE_UP,
                                    KEY_PAGE_DOWN,
                                    KEY_HOME_KEY,
                                    KEY_END_KEY,
                                    KEY_DELETE,
                                    KEY_INSERT,
                                    KEY_BACK_TAB,
                                    KEY_F_BASE + 1,
                                    KEY_F_BASE + 2,
                                    KEY_F_BASE + 4,
                                    KEY_F_BASE + 6,
                                    13,
                                    13,
                                    13,
                                    27,
                                    27,
                                    9,
                                    8,
                                    127,
                                    12,
                                    18,
                                    21,
                                    0xe9,
                                    0x754c,
                                    0x110fff,
                                    0,
                                    ' '};
    struct event e = {.kind = EVENT_KEY};

    switch (rng_below(rng, 16)) {
    case 0: e.kind = EVENT_TICK; break;
    case 1:
    case 2:
        e.kind = EVENT_MOUSE;
        e.button = (enum mouse)rng_below(rng, 4);
        e.x = (int)rng_below(rng, 140);
        e.y = (int)rng_below(rng, 50);
        break;
    case 3:
        if (rng_below(rng, 8))
            break;
        e.kind = EVENT_RESIZE;
        e.x = rng_below(rng, 9) ? 80 + (int)rng_below(rng, 100) : (int)rng_below(rng, 90);
        e.y = rng_below(rng, 9) ? 24 + (int)rng_below(rng, 40) : (int)rng_below(rng, 30);
        break;
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
    case 9: e.key = keys[rng_below(rng, sizeof keys / sizeof *keys)]; break;
    default: e.key = ' ' + (uint32_t)rng_below(rng, 95); break;
    }
    return e;
}

/* Random events; KV_EVENTS says how many. The folder is gone, so that no random name makes or
 * finds a file. */
static void test_random_events(void **state)
{
    struct kt *k = *state;
    const char *asked = getenv("KV_EVENTS"), *folder = kt_folder(k->a);
    struct rng rng = {kt_seed(5)};
    uint64_t n = 3000;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});
    char cwd[4096];

    if (asked)
        assert_int_equal(unit_parse_u64(asked, &n), UNIT_OK);
    assert_non_null(getcwd(cwd, sizeof cwd));
    assert_int_equal(chdir(folder), 0);
    kt_folder_remove(folder);
    for (uint64_t i = 0; i < n; i++) {
        struct event e = random_event(&rng);

        if (e.key == '/') /* no path out of the folder */
            e.key = 'x';
        e.now_s = ui_now(r->ui) + rng_unit(&rng) * 0.3;
        ui_event(r->ui, &e);
        ui_view(r->ui, &r->c);
        check_frame(r);
    }
    assert_int_equal(chdir(cwd), 0);
    rig_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {kt_test(test_key_files), kt_test(test_sizes),
                                       kt_test(test_random_events)};

    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
