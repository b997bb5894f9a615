/* A real program on a pseudo terminal whose screen libvterm keeps. Everything is waited for
 * with a deadline. Include it first: it asks for what POSIX does not have. */
#ifndef KVBUDGET_TESTS_TUI_PTY_H
#define KVBUDGET_TESTS_TUI_PTY_H

#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif

#include "tests/kvtest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <vterm.h>

enum { RAW_BYTES = 1 << 16, W = 80, H = 24 };
static const double PATIENCE_S = 20;

struct pty {
    struct arena *a;
    pid_t pid;
    int fd;
    VTerm *vt;
    VTermScreen *screen;
    int w, h;
    const char *home; /* a folder of its own; stderr goes to its file `stderr` */
    char *raw;        /* the last bytes that came, for escape sequences */
    size_t n_raw;
    bool gone;
    double open_s;
};

struct start {
    const char *term;   /* NULL = xterm-256color */
    const char *locale; /* NULL = C.UTF-8 */
    const char *words;  /* after `kvbudget tui`; NULL = none */
    const char *script; /* for sh -c instead, "$K" is the program */
    const char *home;   /* NULL = a new folder */
    bool full_disk;     /* no file can grow */
};

static inline double now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static inline const char *program(void)
{
    const char *k = getenv("KVBUDGET");

    return k && *k ? k : "./kvbudget";
}

/* --- the terminal ----------------------------------------------------------------------------
 */

static inline void child(const struct pty *p, const struct start *s)
{
    const char *script =
        s->script ? s->script
                  : arena_printf(p->a, "exec \"$K\" tui %s", s->words ? s->words : "");
    int fd = open(arena_printf(p->a, "%s/stderr", p->home), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    dup2(fd, STDERR_FILENO);
    setenv("K", program(), 1);
    setenv("HOME", p->home, 1);
    setenv("TERM", s->term ? s->term : "xterm-256color", 1);
    setenv("LC_ALL", s->locale ? s->locale : "C.UTF-8", 1);
    setenv("KVBUDGET_NVML", "/nonexistent", 1);
    unsetenv("XDG_STATE_HOME");
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("NO_COLOR");
    unsetenv("LINES");
    unsetenv("COLUMNS");
    if (s->full_disk) {
        struct rlimit none = {0, 0};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &none);
    }
    execl("/bin/sh", "sh", "-c", script, (char *)NULL);
    _exit(127);
}

static inline void launch(struct pty *p, struct arena *a, const struct start *s)
{
    struct winsize ws = {.ws_row = H, .ws_col = W};

    *p = (struct pty){.a = a, .w = W, .h = H, .fd = -1};
    p->home = s->home ? s->home : kt_folder(a);
    p->raw = arena_alloc(a, RAW_BYTES + 1, 1);
    p->vt = vterm_new(H, W);
    vterm_set_utf8(p->vt, 1);
    p->screen = vterm_obtain_screen(p->vt);
    vterm_screen_enable_altscreen(p->screen, 1);
    vterm_screen_reset(p->screen, 1);
    p->open_s = now_s();
    p->pid = forkpty(&p->fd, NULL, NULL, &ws);
    if (p->pid == 0)
        child(p, s);
    assert_true(p->pid > 0);
}

/* Takes what has come, waiting for at most `ms`. False: the program has closed its side. */
static inline bool pump(struct pty *p, int ms)
{
    struct pollfd f = {.fd = p->fd, .events = POLLIN};
    char bytes[8192];
    ssize_t n;

    if (p->gone || poll(&f, 1, ms) <= 0)
        return !p->gone;
    n = read(p->fd, bytes, sizeof bytes);
    if (n <= 0) {
        p->gone = true;
        return false;
    }
    vterm_input_write(p->vt, bytes, (size_t)n);
    if (p->n_raw + (size_t)n > RAW_BYTES) { /* the end is what matters */
        memmove(p->raw, p->raw + RAW_BYTES / 2, p->n_raw - RAW_BYTES / 2);
        p->n_raw -= RAW_BYTES / 2;
    }
    memcpy(p->raw + p->n_raw, bytes, (size_t)n);
    p->n_raw += (size_t)n;
    p->raw[p->n_raw] = '\0';
    return true;
}

static inline const char *text_of(const struct pty *p)
{
    size_t room = (size_t)(p->w * 4 + 1) * (size_t)p->h + 1, n = 0;
    char *out = arena_alloc(p->a, room, 1);

    for (int y = 0; y < p->h; y++) {
        VTermRect row = {y, y + 1, 0, p->w};
        n += vterm_screen_get_text(p->screen, out + n, room - n - 1, row);
        out[n++] = '\n';
    }
    return out;
}

static inline void stuck(const struct pty *p, const char *what, const char *text)
{
    print_error("%s: %s\n--- screen\n%s---\n", what, text, text_of(p));
    kill(p->pid, SIGKILL);
    fail();
}

static inline void wait_text(struct pty *p, const char *text, bool there)
{
    double end_s = now_s() + PATIENCE_S;

    while ((strstr(text_of(p), text) != NULL) != there) {
        if (now_s() > end_s || (!pump(p, 50) && (strstr(text_of(p), text) != NULL) != there))
            stuck(p, there ? "does not come" : "does not go", text);
    }
}

static inline void wait_change(struct pty *p, const char *from)
{
    double end_s = now_s() + PATIENCE_S;

    while (!strcmp(text_of(p), from)) {
        pump(p, 50);
        if (now_s() > end_s)
            stuck(p, "does not change", "");
    }
}

/* Until nothing comes for a while: the frame is finished. */
static inline void settle(struct pty *p)
{
    size_t n;

    do {
        n = p->n_raw;
        pump(p, 60);
    } while (p->n_raw != n && !p->gone);
}

static inline void send_keys(const struct pty *p, const char *bytes)
{
    size_t n = strlen(bytes);

    assert_int_equal(write(p->fd, bytes, n), (ssize_t)n);
}

static inline void resize(struct pty *p, int w, int h)
{
    struct winsize ws = {.ws_row = (unsigned short)h, .ws_col = (unsigned short)w};

    settle(p);
    p->w = w;
    p->h = h;
    vterm_set_size(p->vt, h, w);
    ioctl(p->fd, TIOCSWINSZ, &ws);
}

static inline double cpu_s(pid_t pid)
{
    clockid_t clock;
    struct timespec ts = {0};

    assert_int_equal(clock_getcpuclockid(pid, &clock), 0);
    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* The exit status, 128 + n when a signal killed it. */
static inline int finish(struct pty *p, double *used_s)
{
    double end_s = now_s() + PATIENCE_S;
    struct rusage use;
    int status;

    while (wait4(p->pid, &status, WNOHANG, &use) == 0) {
        pump(p, 20);
        if (now_s() > end_s)
            stuck(p, "does not end", "");
    }
    while (p->fd >= 0 && pump(p, 0) &&
           poll(&(struct pollfd){.fd = p->fd, .events = POLLIN}, 1, 0) > 0)
        ;
    if (used_s)
        *used_s = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                  (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline const char *errors_of(const struct pty *p)
{
    const char *text = kt_slurp(p->a, arena_printf(p->a, "%s/stderr", p->home));

    return text ? text : "";
}

static inline void cleanup(struct pty *p)
{
    const char *state = arena_printf(p->a, "%s/.local/state/kvbudget", p->home);

    if (p->fd >= 0)
        close(p->fd);
    vterm_free(p->vt);
    kt_folder_remove(state);
    rmdir(arena_printf(p->a, "%s/.local/state", p->home));
    rmdir(arena_printf(p->a, "%s/.local", p->home));
    kt_folder_remove(p->home);
}

/* Left by q: exit 0, the first screen back, cursor and mouse as before, no word on stderr. */
static inline void quits(struct pty *p)
{
    send_keys(p, "q");
    assert_int_equal(finish(p, NULL), 0);
    assert_non_null(strstr(p->raw, "\033[?1049l"));
    assert_non_null(strstr(p->raw, "1000l"));
    kt_same(errors_of(p), "");
    cleanup(p);
}

#define SKIP_WITHOUT_PROGRAM()                                                                 \
    do {                                                                                       \
        if (access(program(), X_OK) != 0) {                                                    \
            print_message("# skipped: there is no program at %s\n", program());                \
            skip();                                                                            \
        }                                                                                      \
    } while (0)

#endif
