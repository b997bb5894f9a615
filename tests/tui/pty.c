/* The program on a real terminal. What the cells show is tested elsewhere; here it is keys,
 * mouse, sizes, kinds of terminals, signals, full disks, and that the terminal is always given
 * back. */
#include "tests/tui/pty.h"

static void test_keys_and_mouse(void **state)
{
    struct kt *k = *state;
    struct pty p;
    const char *before;

    SKIP_WITHOUT_PROGRAM();
    launch(&p, k->a, &(struct start){0});
    wait_text(&p, "F1 Help", true);
    settle(&p);
    send_keys(&p, "\033OP"); /* F1 */
    wait_text(&p, "Keys of", true);
    settle(&p);
    before = text_of(&p);
    send_keys(&p, "\033[<65;40;10M"); /* wheel */
    wait_change(&p, before);
    send_keys(&p, "\033"); /* Esc alone */
    wait_text(&p, "Keys of", false);
    send_keys(&p, "2");
    wait_text(&p, "[Compare]", true);
    settle(&p);
    before = text_of(&p);
    send_keys(&p, "\033OB"); /* Down */
    wait_change(&p, before);
    send_keys(&p, "\033[<0;2;24M\033[<0;2;24m"); /* on F1 of the footer */
    wait_text(&p, "Keys of", true);
    send_keys(&p, "\033");
    wait_text(&p, "Keys of", false);
    send_keys(&p, ":gpu h200\r");
    wait_text(&p, "on h200", true);
    send_keys(&p, "u");
    wait_text(&p, "on h100", true);
    quits(&p);
}

static void test_sizes(void **state)
{
    struct kt *k = *state;
    struct pty p;

    SKIP_WITHOUT_PROGRAM();
    launch(&p, k->a, &(struct start){0});
    wait_text(&p, "F1 Help", true);
    resize(&p, 72, 20);
    wait_text(&p, "terminal is 72x20, kvbudget needs 80x24", true);
    resize(&p, 1, 1);
    pump(&p, 200);
    resize(&p, 132, 40);
    wait_text(&p, "q Quit", true);
    resize(&p, 80, 24);
    wait_text(&p, "F1 Help", true);
    quits(&p);
}

/* Colours come through: the shown tab has a background of its own. */
static void test_colours(void **state)
{
    struct kt *k = *state;
    struct pty p;
    VTermScreenCell cell;
    const char *line;
    VTermPos at = {0, 0};

    SKIP_WITHOUT_PROGRAM();
    launch(&p, k->a, &(struct start){0});
    wait_text(&p, "F1 Help", true);
    settle(&p);
    line = text_of(&p);
    at.col = (int)(strchr(line, '[') - line) + 1;
    vterm_screen_get_cell(p.screen, at, &cell);
    assert_true(VTERM_COLOR_IS_INDEXED(&cell.bg) || VTERM_COLOR_IS_RGB(&cell.bg));
    assert_true(cell.attrs.bold);
    quits(&p);
    launch(&p, k->a, &(struct start){.words = "--mono"});
    wait_text(&p, "F1 Help", true);
    settle(&p);
    vterm_screen_get_cell(p.screen, at, &cell);
    assert_true(VTERM_COLOR_IS_DEFAULT_BG(&cell.bg));
    assert_true(cell.attrs.reverse);
    quits(&p);
}

static void refuses(struct arena *a, const char *term, const char *message)
{
    struct pty p;

    launch(&p, a, &(struct start){.term = term});
    assert_int_equal(finish(&p, NULL), 2);
    kt_same(errors_of(&p), message);
    cleanup(&p);
}

static void test_kinds_of_terminals(void **state)
{
/* For the console ncurses loads libgpm, which leaks: sanitizers would say so (clang does not
 * tell whether one is on). */
#if defined(__SANITIZE_ADDRESS__) || defined(__clang__)
    static const char *const good[] = {"vt100", "xterm", "screen", "xterm-256color"};
#else
    static const char *const good[] = {"vt100", "xterm", "screen", "xterm-256color", "linux"};
#endif
    struct kt *k = *state;
    struct pty p;

    SKIP_WITHOUT_PROGRAM();
    refuses(k->a, "dumb",
            "kvbudget: error: a terminal of type 'dumb' (TERM) cannot place its cursor; "
            "`kvbudget report` prints the plan\n");
    refuses(k->a, "no-such-terminal",
            "kvbudget: error: the terminal type 'no-such-terminal' (TERM) is not known on this "
            "machine; `kvbudget report` prints the plan\n");
    refuses(k->a, "",
            "kvbudget: error: TERM is not set, so the terminal's type is not known; `kvbudget "
            "report` prints the plan\n");
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        launch(&p, k->a, &(struct start){.term = good[i]});
        wait_text(&p, "F1 Help", true);
        send_keys(&p, "q");
        assert_int_equal(finish(&p, NULL), 0);
        kt_same(errors_of(&p), "");
        cleanup(&p);
    }
}

/* Without UTF-8 no byte above 127 is sent. */
static void test_ascii_locale(void **state)
{
    struct kt *k = *state;
    struct pty p;

    SKIP_WITHOUT_PROGRAM();
    launch(&p, k->a, &(struct start){.locale = "C"});
    wait_text(&p, "F1 Help", true);
    send_keys(&p, "2");
    wait_text(&p, "[Compare]", true);
    settle(&p);
    for (size_t i = 0; i < p.n_raw; i++)
        assert_true((unsigned char)p.raw[i] < 128);
    quits(&p);
}

/* The terminal goes away: the program ends by itself and does not spin; edits are kept. */
static void test_hang_up(void **state)
{
    struct kt *k = *state;
    struct pty p;
    double used_s;
    const char *home;

    SKIP_WITHOUT_PROGRAM();
    launch(&p, k->a, &(struct start){0});
    home = p.home;
    wait_text(&p, "F1 Help", true);
    send_keys(&p, ":gpu h200\r");
    wait_text(&p, "on h200", true);
    close(p.fd);
    p.fd = -1;
    p.gone = true;
    finish(&p, &used_s);
    print_message("# CPU of a visit that was cut off: %.3f s\n", used_s);
    assert_true(used_s < 1.0);
    vterm_free(p.vt);
    launch(&p, k->a, &(struct start){.home = home});
    wait_text(&p, "on h200", true);
    wait_text(&p, "the last visit was cut off", true);
    send_keys(&p, "q");
    wait_text(&p, "not saved", true);
    send_keys(&p, "\033OB\r"); /* quit without saving */
    assert_int_equal(finish(&p, NULL), 0);
    vterm_free(p.vt);
    launch(&p, k->a, &(struct start){.home = home});
    wait_text(&p, "on h100", true);
    quits(&p);
}

static void test_killed(void **state)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    struct kt *k = *state;
    struct pty p;

    SKIP_WITHOUT_PROGRAM();
    for (size_t i = 0; i < 3; i++) {
        launch(&p, k->a, &(struct start){0});
        wait_text(&p, "F1 Help", true);
        kill(p.pid, signals[i]);
        assert_int_equal(finish(&p, NULL), 0);
        assert_non_null(strstr(p.raw, "\033[?1049l"));
        assert_non_null(strstr(p.raw, "1000l"));
        kt_same(errors_of(&p), "");
        cleanup(&p);
    }
}

/* Ctrl-Z goes back to the shell, fg comes back. */
static void test_suspend(void **state)
{
    struct kt *k = *state;
    struct pty p;

    SKIP_WITHOUT_PROGRAM();
    launch(&p, k->a,
           &(struct start){.script = "set -m; \"$K\" tui; echo at the shell; fg >/dev/null"});
    wait_text(&p, "F1 Help", true);
    settle(&p);
    send_keys(&p, "\032");
    wait_text(&p, "F1 Help", true);
    settle(&p);
    assert_non_null(strstr(p.raw, "at the shell"));
    send_keys(&p, "\033OP");
    wait_text(&p, "Keys of", true);
    send_keys(&p, "\033");
    wait_text(&p, "Keys of", false);
    send_keys(&p, "q");
    assert_int_equal(finish(&p, NULL), 0);
    cleanup(&p);
}

/* CPU that the program uses in 0.3 s. */
static double cpu_in_a_while_s(struct pty *p)
{
    double before_s = cpu_s(p->pid);

    for (double end_s = now_s() + 0.3; now_s() < end_s;)
        pump(p, 50);
    return cpu_s(p->pid) - before_s;
}

/* What a screen computes in steps is done after a while; then nothing more happens. */
static void test_start_and_idle(void **state)
{
    struct kt *k = *state;
    struct pty p;
    double first_s, start_s, idle_s;

    SKIP_WITHOUT_PROGRAM();
    launch(&p, k->a, &(struct start){0});
    wait_text(&p, "q Quit", true);
    first_s = now_s() - p.open_s;
    start_s = cpu_s(p.pid);
    idle_s = cpu_in_a_while_s(&p);
    for (double end_s = now_s() + PATIENCE_S; idle_s > 0.001 && now_s() < end_s;)
        idle_s = cpu_in_a_while_s(&p);
    print_message("# first frame after %.1f ms and %.1f ms of CPU; idle for 0.3 s: %.3f ms\n",
                  first_s * 1e3, start_s * 1e3, idle_s * 1e3);
    assert_true(idle_s <= 0.001);
    assert_true(first_s < 5);
    quits(&p);
}

static void test_full_disk(void **state)
{
    struct kt *k = *state;
    const char *home = kt_folder(k->a), *path = arena_printf(k->a, "%s/plan.yaml", home);
    FILE *f = fopen(path, "w");
    struct pty p;

    SKIP_WITHOUT_PROGRAM();
    assert_non_null(f);
    fputs("model: Llama-3.1-8B\nhardware: {gpu: h100}\n", f);
    fclose(f);
    launch(&p, k->a, &(struct start){.home = home, .full_disk = true, .words = path});
    wait_text(&p, "on h100", true);
    send_keys(&p, ":gpu h200\r");
    wait_text(&p, "on h200", true);
    send_keys(&p, "S");
    wait_text(&p, "not saved: ", true);
    kt_same(kt_slurp(k->a, path), "model: Llama-3.1-8B\nhardware: {gpu: h100}\n");
    send_keys(&p, ":save /dev/full\r");
    wait_text(&p, "Overwrite it?", true);
    send_keys(&p, "y");
    wait_text(&p, "No space left on device", true);
    wait_text(&p, "on h200", true);
    send_keys(&p, "q");
    wait_text(&p, "save and quit", true);
    send_keys(&p, "\r"); /* cannot be saved: stays */
    wait_text(&p, "not saved: ", true);
    send_keys(&p, ":quit!\r");
    finish(&p, NULL);
    assert_non_null(strstr(p.raw, "\033[?1049l"));
    kt_same(kt_slurp(k->a, path), "model: Llama-3.1-8B\nhardware: {gpu: h100}\n");
    cleanup(&p);
}

/* What base64 stands for, up to the first other character. */
static char *decoded(struct arena *a, const char *text)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = arena_alloc(a, strlen(text) + 1, 1);
    unsigned bits = 0, held = 0;
    size_t n = 0;

    for (const char *d; *text && (d = strchr(digits, *text)); text++) {
        bits = bits << 6 | (unsigned)(d - digits);
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[n++] = (char)(bits >> held & 0xff);
        }
    }
    return out;
}

static void test_copy(void **state)
{
    struct kt *k = *state;
    struct pty p;
    const char *sent, *kept;

    SKIP_WITHOUT_PROGRAM();
    launch(&p, k->a, &(struct start){0});
    wait_text(&p, "F1 Help", true);
    send_keys(&p, "c");
    wait_text(&p, "copied to the clipboard, and to", true);
    sent = strstr(p.raw, "\033]52;c;");
    kept = kt_slurp(k->a, arena_printf(k->a, "%s/.local/state/kvbudget/copied.txt", p.home));
    assert_non_null(sent);
    assert_non_null(kept);
    kt_same(decoded(k->a, sent + 7), kept);
    assert_non_null(strstr(kept, "vllm serve "));
    quits(&p);
    launch(&p, k->a, &(struct start){.term = "vt100"}); /* takes no OSC 52 */
    wait_text(&p, "F1 Help", true);
    send_keys(&p, "c");
    wait_text(&p, "copied to /", true);
    assert_null(strstr(p.raw, "\033]52"));
    send_keys(&p, "q");
    assert_int_equal(finish(&p, NULL), 0);
    cleanup(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_keys_and_mouse), kt_test(test_sizes),
        kt_test(test_colours),        kt_test(test_kinds_of_terminals),
        kt_test(test_ascii_locale),   kt_test(test_hang_up),
        kt_test(test_killed),         kt_test(test_suspend),
        kt_test(test_start_and_idle), kt_test(test_full_disk),
        kt_test(test_copy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
