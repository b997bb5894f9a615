/* Lines of a file: read in pieces into one buffer, ended in place. */
#include "sim/line.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "planner/base/ck.h"
#include "planner/base/unit.h"

enum {
    PIECE_BYTES = 1 << 16,
    WORD_MAX = 24,
    LITERAL_MAX = 64,
    EXACT_DIGITS = 15,
    SURE_DIGITS = 19
};

static const struct loc no_place;

static struct loc whole(const char *name)
{
    struct loc at = no_place;

    at.file = name;
    return at;
}

bool lines_open(struct arena *a, const char *path, size_t longest, struct diag *d,
                struct lines *out)
{
    bool standard = !strcmp(path, "-");
    struct stat st;

    *out = (struct lines){.name = standard ? "<stdin>" : arena_strdup(a, path),
                          .diag = d,
                          .longest = longest,
                          .own_fd = !standard,
                          .fd = STDIN_FILENO};
    if (!standard)
        out->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (out->fd < 0)
        return diag_add(d, DIAG_INPUT, whole(out->name), "cannot be opened: %s",
                        strerror(errno));
    if (fstat(out->fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
        out->total_bytes = (uint64_t)st.st_size;
    out->buffer = arena_alloc(a, longest + 2, 1);
    return true;
}

void lines_of_text(struct arena *a, const char *name, const char *text, size_t n,
                   size_t longest, struct diag *d, struct lines *out)
{
    *out = (struct lines){.name = arena_strdup(a, name),
                          .diag = d,
                          .buffer = arena_alloc(a, n + 2, 1),
                          .memory = text,
                          .longest = longest,
                          .fd = -1,
                          .total_bytes = n};
    (void)!lines_rewind(out);
}

void lines_close(struct lines *l)
{
    if (l->own_fd && l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    l->own_fd = false;
}

/* Moves what is left to the front and reads on; false with the reason recorded. */
static bool fill(struct lines *l)
{
    size_t have = l->end - l->start, room;
    ssize_t got;

    if (l->start)
        memmove(l->buffer, l->buffer + l->start, have);
    l->start = 0;
    l->end = have;
    room = l->longest + 1 - have;
    do
        got = read(l->fd, l->buffer + have, room < PIECE_BYTES ? room : PIECE_BYTES);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return diag_add(l->diag, DIAG_INPUT, whole(l->name), "cannot be read: %s",
                        strerror(errno));
    l->ended = got == 0;
    l->end += (size_t)got;
    l->read_bytes += (uint64_t)got;
    return true;
}

/* The line from `start` on, whole; NULL at the end, or on failure. */
static char *find_end(struct lines *l, bool *failed)
{
    size_t seen = 0;

    for (;;) {
        size_t have = l->end - l->start;
        char *lf = have > seen ? memchr(l->buffer + l->start + seen, '\n', have - seen) : NULL;
        size_t n = lf ? (size_t)(lf - l->buffer) - l->start : have;
        char size[32];

        if (n > l->longest) {
            l->line++;
            *failed = !line_error(l, NULL, "the line is longer than %s, the most that is read",
                                  unit_format_bytes(l->longest, size, sizeof size));
            return NULL;
        }
        if (lf)
            return lf;
        if (l->ended)
            return have ? l->buffer + l->end : NULL;
        seen = have;
        if (!fill(l)) {
            *failed = true;
            return NULL;
        }
    }
}

static bool blank(const char *s)
{
    return s[strspn(s, " \t")] == '\0';
}

bool lines_next(struct lines *l, bool *failed)
{
    char *stop;

    *failed = false;
    do {
        stop = find_end(l, failed);
        if (!stop)
            return false;
        l->line += l->line < INT32_MAX;
        l->text = l->buffer + l->start;
        l->start = (size_t)(stop - l->buffer) + 1;
        if (l->start > l->end)
            l->start = l->end;
        if (stop > l->text && stop[-1] == '\r')
            stop--;
        *stop = '\0';
        if (l->line == 1 && !strncmp(l->text, "\xef\xbb\xbf", 3))
            l->text += 3; /* a byte order mark */
        l->n = (size_t)(stop - l->text);
    } while (blank(l->text) && strlen(l->text) == l->n);
    return true;
}

bool lines_rewind(struct lines *l)
{
    l->line = 0;
    l->start = 0;
    if (l->memory) { /* lines are ended in place, so the text is copied anew */
        l->end = l->read_bytes = l->total_bytes;
        memcpy(l->buffer, l->memory, l->end);
        l->ended = true;
        return true;
    }
    if (lseek(l->fd, 0, SEEK_SET) != 0)
        return diag_add(l->diag, DIAG_INPUT, whole(l->name),
                        "cannot be read a second time; give a file");
    l->end = 0;
    l->ended = false;
    l->read_bytes = 0;
    return true;
}

/* --- messages -------------------------------------------------------------------------------
 */

static struct loc place(const struct lines *l, const char *at)
{
    return (struct loc){.file = l->name,
                        .line = l->line,
                        .col = at && l->text && at >= l->text && at <= l->text + l->n
                                   ? (int)(at - l->text) + 1
                                   : 0};
}

bool line_error(const struct lines *l, const char *at, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return diag_add(l->diag, DIAG_INPUT, place(l, at), "%s", text);
}

/* "'abc'", or "the end of the line". */
static const char *word_at(const struct lines *l, const char *at, char buf[WORD_MAX + 8])
{
    size_t n = 0, k = 1;

    if (at >= l->text + l->n)
        return "the end of the line";
    while (n < WORD_MAX && at + n < l->text + l->n && !strchr(",}] \t", at[n]))
        n++;
    n += n == 0; /* a separator alone */
    buf[0] = '\'';
    for (size_t i = 0; i < n; i++)
        buf[k++] = at[i] >= ' ' && at[i] != 127 ? at[i] : '?';
    buf[k++] = '\'';
    buf[k] = '\0';
    return buf;
}

bool line_wrong(const struct lines *l, const char *at, const char *what, const char *text)
{
    char buf[WORD_MAX + 8];

    return line_error(l, at, "%s %s, found %s", what, text, word_at(l, at, buf));
}

/* --- numbers
 * ----------------------------------------------------------------------------------
 */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

const char *line_u64(const struct lines *l, const char *at, const char *what, uint64_t most,
                     uint64_t *out)
{
    const char *s = at;
    uint64_t v = 0;
    struct ck ck = {false};

    for (; is_digit(*s) && s - at < SURE_DIGITS; s++)
        v = v * 10 + (uint64_t)(*s - '0');
    for (; is_digit(*s); s++)
        v = ck_add(&ck, ck_mul(&ck, v, 10), (uint64_t)(*s - '0'));
    if (s == at || *s == '.' || *s == 'e' || *s == 'E') {
        line_wrong(l, at, what, "must be a whole number");
        return NULL;
    }
    if (ck.over || v > most) {
        line_error(l, at, "%s must be at most %llu, found '%.*s'", what,
                   (unsigned long long)most, (int)(s - at < WORD_MAX ? s - at : WORD_MAX), at);
        return NULL;
    }
    *out = v;
    return s;
}

/* Anything that is not a plain short decimal goes to the parser of units, which rounds right.
 */
static const char *real_slow(const struct lines *l, const char *at, const char *what,
                             double *out)
{
    char literal[LITERAL_MAX + 1];
    size_t n = strspn(at, "0123456789.eE+-");

    if (n && n <= LITERAL_MAX) {
        memcpy(literal, at, n);
        literal[n] = '\0';
        if (unit_parse_double(literal, out) == UNIT_OK)
            return at + n;
    }
    line_wrong(l, at, what, "must be a number that is not negative");
    return NULL;
}

const char *line_real(const struct lines *l, const char *at, const char *what, double *out)
{
    static const double tens[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    const char *s = at, *point = NULL;
    uint64_t v = 0;
    int digits = 0;

    for (; (is_digit(*s) || (*s == '.' && !point)) && digits <= EXACT_DIGITS; s++) {
        if (*s == '.') {
            point = s;
            continue;
        }
        v = v * 10 + (uint64_t)(*s - '0');
        digits++;
    }
    /* up to 15 digits both numbers are exact doubles, so the quotient is the nearest one */
    if (digits == 0 || digits > EXACT_DIGITS || is_digit(*s) || *s == '.' || *s == 'e' ||
        *s == 'E' || (point && point == s - 1))
        return real_slow(l, at, what, out);
    *out = (double)v / tens[point ? s - point - 1 : 0];
    return s;
}
