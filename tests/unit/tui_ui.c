/* Events and what they change: screens, dialogues, the command line, search, files, leaving.
 * The frames of the screens themselves are tested by their own tests. */
#include "tests/tui/rig.h"

#include <errno.h>
#include <locale.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tui/statefile.h"
#include "tui/ui_parts.h"

static enum wish press(struct rig *r, uint32_t key)
{
    struct event e = {.kind = EVENT_KEY, .key = key, .now_s = ui_now(r->ui) + 1};
    enum wish w = ui_event(r->ui, &e);

    ui_view(r->ui, &r->c);
    return w;
}

/* --- screens ---------------------------------------------------------------------------------
 */

static void test_screens(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});
    char *first;

    rig_shows(r, "[Budget]");
    rig_play(r, "2");
    rig_shows(r, "[Compare]");
    rig_play(r, "S-Tab");
    rig_shows(r, "[Budget]");
    first = rig_text(r);
    rig_play(r, "Tab Tab S-Tab S-Tab");
    kt_same(rig_text(r), first);
    rig_play(r, ": \"compare\" Enter");
    rig_shows(r, "[Compare]");
    rig_play(r, ": \"check\" Enter"); /* there are no results */
    rig_shows(r, "[Compare]");
    rig_shows(r, "there is nothing to show on check");
    rig_play(r, "9");
    rig_shows(r, "there is no screen 9");
    rig_close(r);
    r = rig_open(k->a, &(struct ui_options){.screen = "layers"});
    kt_same(ui_screen(r->ui), "layers");
    rig_close(r);
    r = rig_open(k->a, &(struct ui_options){.screen = "no such", .theme = "no such"});
    kt_same(ui_screen(r->ui), "budget");
    kt_same(ui_theme(r->ui)->name, "default");
    rig_close(r);
}

/* Tabs and keys can be clicked where they stand. */
static void click_on(struct rig *r, const char *text)
{
    char *frame = rig_text(r), *at = strstr(frame, text), *line = frame, keys[64];
    int y = 0;

    assert_non_null(at);
    for (char *p = frame; p < at; p++)
        if (*p == '\n') {
            y++;
            line = p + 1;
        }
    snprintf(keys, sizeof keys, "mouse press %d %d",
             canvas_columns(arena_strndup(r->a, line, (size_t)(at - line))), y);
    rig_play(r, keys);
}

static void test_clicks(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});

    click_on(r, "3 Layers");
    rig_shows(r, "[Layers]");
    click_on(r, "F1 Help");
    rig_shows(r, "Keys of Layers");
    rig_play(r, "mouse press 0 5"); /* beside it */
    rig_hides(r, "Keys of Layers");
    click_on(r, ": Command");
    assert_int_equal(r->c.cursor_y, 22);
    rig_play(r, "Esc");
    click_on(r, "q Quit");
    rig_close(r);
}

static void test_too_small(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});
    char *before = rig_text(r);

    rig_play(r, "size 72x20");
    rig_shows(r, "terminal is 72x20, kvbudget needs 80x24");
    rig_play(r, "2 F1 : mouse press 3 0 mouse down 3 3"); /* what is not seen is not changed */
    rig_play(r, "size 80x24");
    kt_same(rig_text(r), before);
    rig_play(r, "size 1x1");
    assert_int_equal(press(r, 'q'), WISH_QUIT);
    rig_close(r);
}

/* --- dialogues -------------------------------------------------------------------------------
 */

static void note(struct ui *ui, void *to, const char *text)
{
    (void)ui;
    snprintf(to, 64, "%s", text);
}

static void test_pick(void **state)
{
    static const char *const items[] = {"alpha", "beta", "gamma", "Beta two"};
    static const char *const notes[] = {"first", "second", NULL, "odd"};
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});
    char got[64] = "";

    ui_pick(r->ui, "Choose", items, notes, 4, "gamma", note, got);
    rig_play(r, "Enter");
    kt_same(got, "gamma");
    ui_pick(r->ui, "Choose", items, notes, 4, NULL, note, got);
    rig_play(r, "\"BETA\"");
    rig_shows(r, "2 of 4");
    rig_play(r, "Down Enter");
    kt_same(got, "Beta two");
    ui_pick(r->ui, "Choose", items, notes, 4, NULL, note, got);
    rig_play(r, "\"odd be\" Enter"); /* words in any order, of notes too */
    kt_same(got, "Beta two");
    snprintf(got, sizeof got, "nothing");
    ui_pick(r->ui, "Choose", items, notes, 4, NULL, note, got);
    rig_play(r, "\"zzz\" Enter");
    rig_shows(r, "0 of 4");
    rig_play(r, "Esc");
    kt_same(got, "nothing");
    rig_hides(r, "Choose");
    ui_pick(r->ui, "Choose", items, NULL, 4, NULL, note, got);
    ui_view(r->ui, &r->c);
    click_on(r, "gamma");
    kt_same(got, "nothing");
    click_on(r, "gamma");
    kt_same(got, "gamma");
    rig_close(r);
}

/* A list longer than the screen is scrolled so that the chosen row is seen. */
static void test_long_pick(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});
    const char *items[300];
    char got[64] = "";

    for (int i = 0; i < 300; i++)
        items[i] = arena_printf(k->a, "item-%03d", i);
    ui_pick(r->ui, "Many", items, NULL, 300, "item-150", note, got);
    ui_view(r->ui, &r->c);
    rig_shows(r, "item-150");
    rig_play(r, "End");
    rig_shows(r, "item-299");
    rig_play(r, "PgUp PgUp mouse up 40 12 Home");
    rig_shows(r, "item-000");
    rig_play(r, "Down Down Enter");
    kt_same(got, "item-002");
    rig_close(r);
}

static void test_ask_confirm_page(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});
    char got[64] = "";
    char *text = arena_strdup(k->a, "");

    ui_ask(r->ui, "A question", "old", "a hint", note, got);
    rig_play(r, "Ctrl-U \"new text\"");
    rig_shows(r, "a hint");
    rig_play(r, "Enter");
    kt_same(got, "new text");
    ui_confirm(r->ui, "Really?", note, got);
    rig_play(r, "n");
    kt_same(got, "new text");
    ui_confirm(r->ui, "Really?", note, got);
    rig_play(r, "y");
    kt_same(got, "y");
    ui_confirm(r->ui, "Again?", note, snprintf(got, sizeof got, "x") ? got : got);
    ui_view(r->ui, &r->c);
    click_on(r, "[y] Yes");
    kt_same(got, "y");
    for (int i = 0; i < 100; i++)
        text = arena_printf(k->a, "%sline %d\n", text, i);
    ui_page(r->ui, "A page", text);
    ui_view(r->ui, &r->c);
    rig_shows(r, "line 0");
    rig_shows(r, "more");
    rig_play(r, "G");
    rig_shows(r, "line 99");
    rig_shows(r, "end");
    rig_play(r, "G Down Down k");
    rig_shows(r, "line 98");
    rig_hides(r, "line 99");
    rig_play(r, "g mouse down 40 12");
    rig_hides(r, "line 2 ");
    rig_shows(r, "line 3 ");
    rig_play(r, "Enter");
    rig_hides(r, "A page");
    ui_page(r->ui, "Long",
            "this sentence has to be broken between two words because it is longer "
            "than the page is wide, even though it is a wide page.");
    ui_view(r->ui, &r->c);
    rig_shows(r, "even though it is a wide page.");
    rig_close(r);
}

/* Help names every key of the screen and every key that works everywhere. */
static void test_help(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});

    rig_play(r, "size 200x100 2 ?");
    for (size_t i = 0; keys_at(i); i++) {
        const struct key_row *row = keys_at(i);
        if (row->help && keys_for(row, "compare"))
            rig_shows(r, arena_printf(k->a, "%-18s %s", row->keys, row->help));
        else if (row->help)
            rig_hides(r, arena_printf(k->a, "%-18s %s", row->keys, row->help));
    }
    rig_close(r);
}

/* Every key of the table, on every screen: something sensible is drawn. */
static void test_every_key(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});

    for (int screen = 1; screen <= 7; screen++)
        for (size_t i = 0; keys_at(i); i++)
            for (const char *p = keys_at(i)->keys; *p;) {
                size_t n = strcspn(p, " ");
                rig_play(r, arena_printf(k->a, "Esc Esc %d %.*s", screen, (int)n, p));
                assert_true(strlen(rig_text(r)) > 100);
                rig_play(r, "Esc Esc");
                p += n + strspn(p + n, " ");
            }
    rig_close(r);
}

/* --- commands --------------------------------------------------------------------------------
 */

static void test_commands(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});

    rig_play(r, ": \"gpu h200\" Enter");
    rig_shows(r, "on h200");
    rig_play(r, ": \"set workload.prompt 8k\" Enter");
    kt_same(session_get(&r->session, "workload.prompt"), "8k");
    rig_play(r, ": \"workload.prompt=4k\" Enter");
    kt_same(session_get(&r->session, "workload.prompt"), "4k");
    rig_play(r, "u");
    kt_same(session_get(&r->session, "workload.prompt"), "8k");
    rig_play(r, ": \"redo\" Enter");
    kt_same(session_get(&r->session, "workload.prompt"), "4k");
    rig_play(r, ": \"theme light\" Enter");
    kt_same(ui_theme(r->ui)->name, "light");
    rig_play(r, ": \"theme pink\" Enter");
    rig_shows(r, "there is no theme 'pink'");
    rig_play(r, ": \"characters ascii\" Enter");
    assert_true(ui_ascii(r->ui));
    rig_play(r, ": \"characters utf-8\" Enter");
    assert_false(ui_ascii(r->ui));
    rig_play(r, ": \"nonsense 3\" Enter");
    rig_shows(r, "nonsense");
    rig_play(r, ": \"set\" Enter");
    rig_shows(r, "set KEY VALUE, for example");
    rig_play(r, ": Up Up Up Up Down"); /* the line before the one before the last */
    rig_shows(r, ":characters utf-8");
    rig_play(r, "Esc : Backspace");
    assert_int_equal(r->c.cursor_y, -1);
    rig_close(r);
    r = rig_open(k->a, &(struct ui_options){.ascii = true});
    rig_play(r, ": \"characters utf-8\" Enter");
    assert_true(ui_ascii(r->ui));
    rig_close(r);
}

static void test_completion(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});

    rig_play(r, ": \"them\" Tab");
    rig_shows(r, ":theme");
    rig_shows(r, "high-contrast");
    rig_play(r, "\"l\" Tab Enter");
    kt_same(ui_theme(r->ui)->name, "light");
    rig_play(r, ": \"set workload.pr\" Tab");
    rig_shows(r, ":set workload.prompt");
    rig_play(r, "Esc : \"gpu \" Tab Tab S-Tab");
    rig_shows(r, ":gpu");
    rig_play(r, "Esc");
    rig_close(r);
}

static void test_search_and_filter(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){.screen = "compare"});

    rig_play(r, "/ \"streaming\" Enter");
    rig_shows(r, "streamingllm");
    rig_play(r, "Esc / \"no such row\"");
    rig_shows(r, "no row has 'no such row'");
    rig_play(r, "Esc");
    rig_play(r, "\\ \"lasagna\"");
    rig_hides(r, "mlkv");
    rig_play(r, "Enter");
    rig_shows(r, "only rows with 'lasagna'; Esc shows all");
    rig_play(r, "n Esc");
    rig_shows(r, "mlkv");
    rig_play(r, "\\ \"lasagna\" Esc");
    rig_shows(r, "mlkv");
    rig_close(r);
}

/* --- files -----------------------------------------------------------------------------------
 */

static void test_save_and_quit(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});
    const char *folder = kt_folder(k->a), *path = arena_printf(k->a, "%s/p.yaml", folder);
    const char *report = arena_printf(k->a, "%s/r.json", folder);

    rig_play(r, ": \"gpu h200\" Enter q");
    rig_shows(r, "There are edits that are not saved");
    rig_play(r, "\"stay\" Enter");
    assert_true(r->session.unsaved);
    rig_play(r, arena_printf(k->a, "q Enter Ctrl-U \"%s\"", path));
    assert_int_equal(press(r, 13), WISH_QUIT); /* saved, and so it leaves */
    assert_non_null(strstr(kt_slurp(k->a, path), "gpu: h200"));
    assert_int_equal(press(r, 'q'), WISH_QUIT);
    rig_play(r, ": \"gpu h100\" Enter S"); /* it has a name now */
    rig_shows(r, "saved as ");
    assert_non_null(strstr(kt_slurp(k->a, path), "gpu: h100"));
    rig_play(r, arena_printf(k->a, "R Ctrl-U \"%s\" Enter", report));
    rig_shows(r, "the report is in ");
    assert_non_null(strstr(kt_slurp(k->a, report), "kvbudget.report/1"));
    rig_play(r, arena_printf(k->a, ": \"report %s\" Enter", report));
    rig_shows(r, "Overwrite it?");
    rig_play(r, "n");
    rig_play(r, ": \"save /no/such/folder/x.yaml\" Enter");
    rig_shows(r, "not saved: ");
    rig_play(r, ": \"gpu a100\" Enter");
    rig_play(r, arena_printf(k->a, ": \"load %s\" Enter", path));
    rig_shows(r, "Drop the edits that are not saved?");
    rig_play(r, "y");
    rig_shows(r, "opened ");
    rig_shows(r, "on h100");
    rig_play(r, ": \"load /no/such\" Enter");
    rig_shows(r, "/no/such");
    rig_play(r, ": \"gpu a100\" Enter q Down");
    assert_int_equal(press(r, 13), WISH_QUIT); /* without saving */
    assert_non_null(strstr(kt_slurp(k->a, path), "gpu: h100"));
    rig_close(r);
    kt_folder_remove(folder);
}

/* Comments inside a spec are not kept: it is asked before they go, and once is enough. */
static void test_comments(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});
    const char *folder = kt_folder(k->a);
    const char *path = rig_file(k->a, folder, "p.yaml",
                                "# ours\nmodel: meta-llama/Llama-3.1-8B\n"
                                "hardware: {gpu: h100} # rented\n");

    rig_play(r, arena_printf(k->a, ": \"load %s\" Enter : \"gpu h200\" Enter S", path));
    rig_shows(r, "Only the comments at the top of ");
    rig_play(r, "n");
    assert_non_null(strstr(kt_slurp(k->a, path), "# rented"));
    rig_play(r, "q Enter"); /* save and quit asks as well; staying is not leaving later */
    rig_shows(r, "Only the comments at the top of ");
    rig_play(r, "Esc S");
    rig_shows(r, "Only the comments at the top of ");
    assert_int_equal(press(r, 'y'), WISH_NONE);
    rig_shows(r, "saved as ");
    assert_non_null(strstr(kt_slurp(k->a, path), "# ours\nmodel"));
    assert_null(strstr(kt_slurp(k->a, path), "# rented"));
    rig_play(r, ": \"gpu h100\" Enter S");
    rig_shows(r, "saved as ");
    rig_close(r);
    kt_folder_remove(folder);
}

static void test_wishes(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});

    assert_int_equal(press(r, 'L' - 64), WISH_REDRAW);
    assert_int_equal(press(r, 'Z' - 64), WISH_SUSPEND);
    assert_int_equal(press(r, 'c'), WISH_COPY);
    assert_non_null(strstr(ui_clipboard(r->ui), "vllm serve"));
    assert_int_equal(press(r, KEY_DOWN_ARROW), WISH_NONE);
    assert_int_equal(ui_event(r->ui, &(struct event){.kind = EVENT_END}), WISH_QUIT);
    rig_play(r, ": \"gpu h200\" Enter");
    assert_int_equal(press(r, ':'), WISH_NONE);
    assert_int_equal(press(r, 3), WISH_NONE); /* Ctrl-C asks, too */
    rig_shows(r, "There are edits that are not saved");
    rig_close(r);
}

static void test_baseline(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){.screen = "layers"});

    rig_play(r, "b");
    rig_shows(r, "the baseline is now ");
    rig_play(r, "b");
    rig_shows(r, "no baseline");
    rig_play(r, "u");
    rig_shows(r, "nothing to take back");
    rig_play(r, "U");
    rig_shows(r, "nothing to make again");
    rig_play(r, "F2 \"mono\" Enter");
    kt_same(ui_theme(r->ui)->name, "mono");
    assert_false(ui_ascii_chosen(r->ui));
    rig_play(r, "F2 \"ascii\" Enter");
    assert_true(ui_ascii(r->ui) && ui_ascii_chosen(r->ui));
    rig_close(r);
    r = rig_open(k->a, &(struct ui_options){.mono = true, .ascii = true, .theme = "light"});
    kt_same(ui_theme(r->ui)->name, "mono"); /* asked for this time only */
    kt_same(ui_theme_chosen(r->ui), "light");
    assert_true(ui_ascii(r->ui) && !ui_ascii_chosen(r->ui));
    rig_play(r, ": \"theme high-contrast\" Enter");
    kt_same(ui_theme_chosen(r->ui), "high-contrast");
    rig_close(r);
}

static void test_state_file(void **state)
{
    struct kt *k = *state;
    const char *base = kt_folder(k->a), *folder = arena_printf(k->a, "%s/a", base);
    struct visit v = {.theme = "light",
                      .screen = "compare",
                      .ascii = true,
                      .path = "/tmp/a: b #c.yaml",
                      .edits = "model: x\n"};
    struct visit got;
    const char *message = "";
    FILE *f;

    assert_true(statefile_write(k->a, folder, &v, k->d));
    statefile_read(k->a, folder, &got, &message);
    assert_null(message);
    kt_same(got.theme, "light");
    kt_same(got.screen, "compare");
    kt_same(got.path, "/tmp/a: b #c.yaml");
    kt_same(got.edits, "model: x\n");
    assert_true(got.ascii);
    v = (struct visit){.theme = "default", .screen = "budget"};
    assert_true(statefile_write(k->a, folder, &v, k->d));
    statefile_read(k->a, folder, &got, &message);
    assert_true(!got.path && !got.edits && !got.ascii);
    f = fopen(arena_printf(k->a, "%s/state.yaml", folder), "w");
    assert_non_null(f);
    fputs("theme: [\n", f);
    fclose(f);
    statefile_read(k->a, folder, &got, &message);
    kt_same(message,
            arena_printf(k->a,
                         "the state of the last visit cannot be read (%s/state.yaml): left out",
                         folder));
    assert_null(got.theme);
    statefile_read(k->a, arena_printf(k->a, "%s/none", base), &got, &message);
    assert_null(message);
    assert_false(statefile_write(k->a, "/dev/null/x", &v, k->d));
    kt_diag(k->d, "cannot be made", 0);
    kt_folder_remove(folder);
    kt_folder_remove(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_screens),
        kt_test(test_clicks),
        kt_test(test_too_small),
        kt_test(test_pick),
        kt_test(test_long_pick),
        kt_test(test_ask_confirm_page),
        kt_test(test_help),
        kt_test(test_every_key),
        kt_test(test_commands),
        kt_test(test_completion),
        kt_test(test_search_and_filter),
        kt_test(test_save_and_quit),
        kt_test(test_comments),
        kt_test(test_wishes),
        kt_test(test_baseline),
        kt_test(test_state_file),
    };

    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
