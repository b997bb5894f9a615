/* ncurses and the signals. Input is waited for with poll on the terminal and on a pipe that the
 * signal handlers write to: wget_wch alone would spin when the terminal is gone. The program is
 * in raw mode, so Ctrl-C and Ctrl-Z are keys like others; the same signals from outside work
 * too. */
#include "tui/term.h"

#include <curses.h>
#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>
#include <time.h>
#include <unistd.h>

enum { RUN_MAX = 512, SCREEN_SIDE_MAX = 1000 };

/* curses.h takes KEY_F0 for itself; the keys of tui/keys.h are told apart by their range. */
struct terminal {
    SCREEN *screen;
    FILE *in, *out;
    int fd;
    bool utf8, open;
    int colours;
    const struct theme *theme; /* whose pairs are set */
};

/* Written by signal handlers; the pipe wakes poll. */
static volatile sig_atomic_t ended, resized, stopped, continued;
static int wake[2] = {-1, -1};

static void on_signal(int sig)
{
    int saved = errno;

    if (sig == SIGWINCH)
        resized = 1;
    else if (sig == SIGTSTP)
        stopped = 1;
    else if (sig == SIGCONT)
        continued = 1;
    else
        ended = 1;
    (void)!write(wake[1], "", 1);
    errno = saved;
}

static const int handled[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT};
enum { N_HANDLED = sizeof handled / sizeof *handled };
static struct sigaction before[N_HANDLED];

static void take_signals(void)
{
    struct sigaction act;

    memset(&act, 0, sizeof act);
    act.sa_handler = on_signal;
    act.sa_flags = SA_RESTART;
    sigemptyset(&act.sa_mask);
    ended = resized = stopped = continued = 0;
    for (int i = 0; i < N_HANDLED; i++)
        sigaction(handled[i], &act, &before[i]);
}

static void give_signals(void)
{
    for (int i = 0; i < N_HANDLED; i++)
        sigaction(handled[i], &before[i], NULL);
}

static bool open_pipe(void)
{
    if (pipe(wake) != 0)
        return false;
    for (int i = 0; i < 2; i++) {
        fcntl(wake[i], F_SETFL, fcntl(wake[i], F_GETFL) | O_NONBLOCK);
        fcntl(wake[i], F_SETFD, FD_CLOEXEC);
    }
    return true;
}

static void close_pipe(void)
{
    for (int i = 0; i < 2; i++) {
        if (wake[i] >= 0)
            close(wake[i]);
        wake[i] = -1;
    }
}

double term_now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* --- opening and closing ---------------------------------------------------------------------
 */

/* A terminal that is not known, or cannot place its cursor, is refused before ncurses prints.
 */
static bool check_type(struct arena *a, FILE *out, const char **why)
{
    const char *name = getenv("TERM");
    int err = 0;
    char *move;

    if (!name || !*name) {
        *why = "TERM is not set, so the terminal's type is not known";
        return false;
    }
    if (setupterm(name, fileno(out), &err) != OK) {
        *why = arena_printf(a, "the terminal type '%.60s' (TERM) is not known on this machine",
                            name);
        return false;
    }
    move = tigetstr("cup");
    del_curterm(cur_term);
    if (!move || move == (char *)-1) {
        *why =
            arena_printf(a, "a terminal of type '%.60s' (TERM) cannot place its cursor", name);
        return false;
    }
    return true;
}

static void set_modes(struct terminal *t)
{
    raw();
    noecho();
    nonl();
    intrflush(stdscr, FALSE);
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    meta(stdscr, TRUE);
    mouseinterval(0);
    mousemask(BUTTON1_PRESSED | BUTTON4_PRESSED | BUTTON5_PRESSED, NULL);
    curs_set(0);
    if (has_colors()) {
        start_color();
        use_default_colors();
        t->colours = COLORS;
    }
}

struct terminal *term_open(struct arena *a, FILE *in, FILE *out, const char **why)
{
    struct terminal *t = ARENA_NEW(a, struct terminal, 1);

    *t = (struct terminal){.in = in, .out = out, .fd = fileno(in)};
    if (!check_type(a, out, why))
        return NULL;
    if (!open_pipe()) {
        *why = "no pipe for signals";
        return NULL;
    }
    take_signals(); /* before ncurses, which then leaves them alone */
    set_escdelay(25);
    t->utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
    t->screen = newterm(NULL, out, in);
    if (!t->screen) {
        give_signals();
        close_pipe();
        *why = "ncurses cannot use this terminal";
        return NULL;
    }
    set_modes(t);
    t->open = true;
    resized = 1; /* the first event tells the size */
    return t;
}

void term_close(struct terminal *t)
{
    if (!t || !t->open)
        return;
    t->open = false;
    endwin();
    delscreen(t->screen);
    give_signals();
    close_pipe();
}

bool term_is_utf8(const struct terminal *t)
{
    return t->utf8;
}

int term_colours(const struct terminal *t)
{
    return t->colours;
}

void term_size(const struct terminal *t, int *w, int *h)
{
    struct winsize ws;

    *w = 80;
    *h = 24;
    if (ioctl(fileno(t->out), TIOCGWINSZ, &ws) == 0 && ws.ws_col && ws.ws_row) {
        *w = ws.ws_col < SCREEN_SIDE_MAX ? ws.ws_col : SCREEN_SIDE_MAX;
        *h = ws.ws_row < SCREEN_SIDE_MAX ? ws.ws_row : SCREEN_SIDE_MAX;
    } else if (t->open) {
        getmaxyx(stdscr, *h, *w);
    }
}

/* --- showing ---------------------------------------------------------------------------------
 */

/* A pair per style: 19 of them. */
static void set_pairs(struct terminal *t, const struct theme *theme)
{
    for (int s = 0; s < N_STYLES && t->colours >= 8; s++) {
        struct look l = theme_look(theme, (enum style)s, t->colours);
        init_extended_pair(s + 1, l.fg, l.bg);
    }
    t->theme = theme;
}

static attr_t attributes(struct look l)
{
    return (l.attr & LOOK_BOLD ? A_BOLD : 0) | (l.attr & LOOK_DIM ? A_DIM : 0) |
           (l.attr & LOOK_REVERSE ? A_REVERSE : 0) |
           (l.attr & LOOK_UNDERLINE ? A_UNDERLINE : 0);
}

static void set_style(const struct terminal *t, uint8_t style)
{
    struct look l = theme_look(t->theme, (enum style)style, t->colours);
    int pair = t->colours >= 8 && (l.fg >= 0 || l.bg >= 0) ? style + 1 : 0;

    wattr_set(stdscr, attributes(l), (short)pair, &pair);
}

/* Cells of one style from x on, as one string; returns where the next run starts. */
static int show_run(const struct canvas *c, int x, int y)
{
    const struct cell *row = c->cells + (size_t)y * (size_t)c->w;
    wchar_t text[RUN_MAX];
    int n = 0, from = x;
    uint8_t style = row[x].style;

    for (; x < c->w && row[x].style == style && n < RUN_MAX; x++)
        if (row[x].cp)
            text[n++] = (wchar_t)row[x].cp;
    mvaddnwstr(y, from, text, n);
    return x;
}

void term_show(struct terminal *t, const struct canvas *c, const struct theme *theme)
{
    if (theme != t->theme)
        set_pairs(t, theme);
    set_style(t, ST_PLAIN);
    erase();
    for (int y = 0; y < c->h; y++) {
        for (int x = 0; x < c->w;) {
            set_style(t, c->cells[(size_t)y * (size_t)c->w + (size_t)x].style);
            x = show_run(c, x, y);
        }
    }
    curs_set(c->cursor_x >= 0);
    move(c->cursor_y >= 0 ? c->cursor_y : c->h - 1, c->cursor_x >= 0 ? c->cursor_x : 0);
    refresh();
}

void term_redraw(struct terminal *t)
{
    (void)t;
    clearok(curscr, TRUE);
}

/* --- waiting ---------------------------------------------------------------------------------
 */

struct key_code {
    int curses;
    uint32_t key;
};

static uint32_t special(int code)
{
    static const struct key_code codes[] = {
        {KEY_UP, KEY_UP_ARROW},       {KEY_DOWN, KEY_DOWN_ARROW}, {KEY_LEFT, KEY_LEFT_ARROW},
        {KEY_RIGHT, KEY_RIGHT_ARROW}, {KEY_PPAGE, KEY_PAGE_UP},   {KEY_NPAGE, KEY_PAGE_DOWN},
        {KEY_HOME, KEY_HOME_KEY},     {KEY_FIND, KEY_HOME_KEY},   {KEY_END, KEY_END_KEY},
        {KEY_SELECT, KEY_END_KEY},    {KEY_DC, KEY_DELETE},       {KEY_IC, KEY_INSERT},
        {KEY_BTAB, KEY_BACK_TAB},     {KEY_BACKSPACE, 8},         {KEY_ENTER, 13},
        {KEY_SUSPEND, 'Z' - 64},
    };

    if (code >= KEY_F(1) && code <= KEY_F(12))
        return KEY_F_BASE + (uint32_t)(code - KEY_F(0));
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].curses == code)
            return codes[i].key;
    return KEY_NONE;
}

static bool mouse_event(struct event *e)
{
    MEVENT m;

    if (getmouse(&m) != OK)
        return false;
    e->kind = EVENT_MOUSE;
    e->x = m.x;
    e->y = m.y;
    if (m.bstate & BUTTON4_PRESSED)
        e->button = MOUSE_WHEEL_UP;
    else if (m.bstate & BUTTON5_PRESSED)
        e->button = MOUSE_WHEEL_DOWN;
    else if (m.bstate & BUTTON1_PRESSED)
        e->button = MOUSE_PRESS;
    else
        return false;
    return true;
}

/* One key that has arrived already. */
static bool key_event(struct event *e)
{
    wint_t c = 0;
    int kind = wget_wch(stdscr, &c);

    if (kind == ERR)
        return false;
    if (kind == KEY_CODE_YES && c == KEY_MOUSE)
        return mouse_event(e);
    if (kind == KEY_CODE_YES && c == KEY_RESIZE)
        return false;
    e->kind = EVENT_KEY;
    e->key = kind == KEY_CODE_YES ? special((int)c) : (uint32_t)c;
    return e->key != KEY_NONE;
}

static void resize(const struct terminal *t, struct event *e)
{
    e->kind = EVENT_RESIZE;
    term_size(t, &e->x, &e->y);
    resize_term(e->y, e->x);
    clearok(curscr, TRUE);
}

/* What the signal handlers have left. */
static bool signalled(struct terminal *t, struct event *e)
{
    char drain[64];

    while (read(wake[0], drain, sizeof drain) > 0)
        ;
    if (ended) {
        e->kind = EVENT_END;
        return true;
    }
    if (stopped) {
        stopped = 0;
        term_suspend(t);
    }
    if (continued) { /* another program may have changed terminal and size */
        continued = 0;
        reset_prog_mode();
        resized = 1;
    }
    if (resized) {
        resized = 0;
        resize(t, e);
        return true;
    }
    return false;
}

/* Readable without anything to read: the other side is gone. */
static bool gone(const struct terminal *t, short revents)
{
    int n = 0;

    if (revents & (POLLHUP | POLLERR | POLLNVAL))
        return true;
    return (revents & POLLIN) && (ioctl(t->fd, FIONREAD, &n) != 0 || n == 0);
}

void term_wait(struct terminal *t, double timeout_s, struct event *e)
{
    double end_s = term_now_s() + timeout_s;

    *e = (struct event){.kind = EVENT_TICK};
    for (;;) {
        struct pollfd fds[2] = {{.fd = t->fd, .events = POLLIN},
                                {.fd = wake[0], .events = POLLIN}};
        double left_s = end_s - term_now_s();
        int wait_ms = timeout_s < 0 ? -1 : left_s <= 0 ? 0 : (int)(left_s * 1e3) + 1;

        if (signalled(t, e) || key_event(e))
            break;
        if (poll(fds, 2, wait_ms) < 0 && errno != EINTR) {
            e->kind = EVENT_END;
            break;
        }
        if (gone(t, fds[0].revents)) {
            e->kind = EVENT_END;
            break;
        }
        if (!fds[0].revents && !fds[1].revents && timeout_s >= 0 && term_now_s() >= end_s)
            break;
    }
    e->now_s = term_now_s();
}

/* --- the rest --------------------------------------------------------------------------------
 */

/* Terminals that take OSC 52, or at least swallow it. */
static bool takes_osc52(void)
{
    static const char *const known[] = {"xterm",     "tmux",    "screen", "foot",
                                        "alacritty", "rxvt",    "kitty",  "wez",
                                        "st-",       "contour", "ghostty"};
    const char *name = getenv("TERM");

    for (size_t i = 0; name && i < sizeof known / sizeof *known; i++)
        if (!strncmp(name, known[i], strlen(known[i])))
            return true;
    return false;
}

bool term_copy(struct terminal *t, const char *text)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = strlen(text);

    if (!takes_osc52() || n > 65536)
        return false;
    fputs("\033]52;c;", t->out);
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)(unsigned char)text[i] << 16;
        v |= i + 1 < n ? (uint32_t)(unsigned char)text[i + 1] << 8 : 0;
        v |= i + 2 < n ? (unsigned char)text[i + 2] : 0;
        fputc(digits[v >> 18], t->out);
        fputc(digits[v >> 12 & 63], t->out);
        fputc(i + 1 < n ? digits[v >> 6 & 63] : '=', t->out);
        fputc(i + 2 < n ? digits[v & 63] : '=', t->out);
    }
    fputs("\a", t->out);
    return fflush(t->out) == 0;
}

void term_suspend(struct terminal *t)
{
    struct sigaction plain, ours;

    memset(&plain, 0, sizeof plain);
    plain.sa_handler = SIG_DFL;
    sigemptyset(&plain.sa_mask);
    endwin();
    sigaction(SIGTSTP, &plain, &ours);
    kill(0, SIGTSTP); /* the whole job, as the terminal would */
    sigaction(SIGTSTP, &ours, NULL);
    refresh();
    term_redraw(t);
    resized = 1;
}
