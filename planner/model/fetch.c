/* The few functions of libcurl that are needed, declared here and looked up at run time.
 *
 * source: the numbers are part of libcurl's stable ABI (include/curl/curl.h of 7.88). */
#include "planner/model/fetch.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "planner/base/unit.h"

enum {
    OPT_WRITEDATA = 10001,
    OPT_URL = 10002,
    OPT_RANGE = 10007,
    OPT_TIMEOUT = 13,
    OPT_USERAGENT = 10018,
    OPT_LOW_SPEED_LIMIT = 19,
    OPT_LOW_SPEED_TIME = 20,
    OPT_HTTPHEADER = 10023,
    OPT_HEADERDATA = 10029,
    OPT_FOLLOWLOCATION = 52,
    OPT_MAXREDIRS = 68,
    OPT_CONNECTTIMEOUT = 78,
    OPT_NOSIGNAL = 99,
    OPT_PROTOCOLS = 181,
    OPT_REDIR_PROTOCOLS = 182,
    OPT_WRITEFUNCTION = 20011,
    OPT_HEADERFUNCTION = 20079,
    PROTOCOLS_HTTP_HTTPS = 3,
    CURL_OK = 0,
    CURL_WRITE_ERROR = 23,
    REDIRECTS_MAX = 8,
    CONNECT_S = 20,
    SLOW_S = 30,
    WHOLE_S = 600,
    LINE_BYTES = 256
};

struct fetch {
    void *easy;
    void *(*init)(void);
    void (*cleanup)(void *);
    int (*setopt)(void *, int, ...);
    int (*perform)(void *);
    void (*reset)(void *);
    const char *(*strerror)(int);
    void *(*slist_append)(void *, const char *);
    void (*slist_free_all)(void *);
};

struct answer { /* what the callbacks fill */
    struct fetch_reply *reply;
    char *buf;
    size_t cap;
    bool cut; /* more came than was asked for */
};

static bool find(void *lib, const char *name, void *to, size_t size)
{
    void *p = dlsym(lib, name);

    memcpy(to, &p, size); /* ISO C has no cast from an object pointer to a function's */
    return p != NULL;
}

#define FIND(lib, name, member) find((lib), (name), &(member), sizeof(member))

bool fetch_open(struct arena *a, const char *library, struct diag *d, struct fetch **out)
{
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4",
                                        "libcurl-nss.so.4", "libcurl.so"};
    struct fetch *f = ARENA_NEW(a, struct fetch, 1);
    void *lib = library ? dlopen(library, RTLD_NOW | RTLD_LOCAL) : NULL;

    for (size_t i = 0; !library && !lib && i < sizeof names / sizeof *names; i++)
        lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        return diag_add(
            d, DIAG_INPUT, (struct loc){0},
            "fetching needs libcurl, which is not installed (Debian: apt-get install "
            "libcurl4); or fetch the model's config.json and import that");
    if (!FIND(lib, "curl_easy_init", f->init) || !FIND(lib, "curl_easy_cleanup", f->cleanup) ||
        !FIND(lib, "curl_easy_setopt", f->setopt) ||
        !FIND(lib, "curl_easy_perform", f->perform) ||
        !FIND(lib, "curl_easy_reset", f->reset) ||
        !FIND(lib, "curl_easy_strerror", f->strerror) ||
        !FIND(lib, "curl_slist_append", f->slist_append) ||
        !FIND(lib, "curl_slist_free_all", f->slist_free_all))
        return diag_add(d, DIAG_INPUT, (struct loc){0},
                        "the libcurl found here lacks functions that fetching needs");
    f->easy = f->init();
    *out = f;
    return f->easy || diag_add(d, DIAG_INPUT, (struct loc){0}, "libcurl does not start");
}

void fetch_close(struct fetch *f)
{
    if (f && f->easy)
        f->cleanup(f->easy);
    if (f)
        f->easy = NULL;
}

/* --- callbacks ------------------------------------------------------------------------------
 */

static size_t on_body(char *data, size_t size, size_t count, void *self)
{
    struct answer *x = self;
    size_t n = size * count, room = x->cap - x->reply->n;

    if (n > room) {
        x->cut = true;
        n = room;
    }
    memcpy(x->buf + x->reply->n, data, n);
    x->reply->n += n;
    return x->cut ? 0 : n; /* 0 ends the transfer */
}

/* "bytes 0-65535/123456" and, for a range behind the end, "bytes *" with a slash and the
 * size. */
static void read_range(struct fetch_reply *r, const char *s)
{
    const char *slash = strchr(s, '/');
    char from[24];
    size_t n;

    if (strncasecmp(s, "bytes ", 6) != 0 || !slash)
        return;
    if (unit_parse_u64(slash + 1, &r->total_bytes) != UNIT_OK)
        r->total_bytes = UINT64_MAX;
    s += 6;
    n = strcspn(s, "-/");
    if (n >= sizeof from)
        return;
    memcpy(from, s, n);
    from[n] = '\0';
    r->ranged = unit_parse_u64(from, &r->from) == UNIT_OK;
}

/* One line of the header; each answer of a chain of redirects starts anew. */
static size_t on_header(char *data, size_t size, size_t count, void *self)
{
    struct fetch_reply *r = ((struct answer *)self)->reply;
    size_t n = size * count;
    char line[LINE_BYTES], *value;
    uint64_t v = 0;

    if (n >= sizeof line)
        return n; /* none of those that are read */
    memcpy(line, data, n);
    line[n] = '\0';
    line[strcspn(line, "\r\n")] = '\0';
    if (strncmp(line, "HTTP/", 5) == 0) {
        value = strchr(line, ' ');
        *r = (struct fetch_reply){.total_bytes = UINT64_MAX};
        for (value = value ? value + 1 : line; *value >= '0' && *value <= '9' && v < 1000;
             value++)
            v = v * 10 + (uint64_t)(*value - '0');
        r->status = (int)v;
        return n;
    }
    value = strchr(line, ':');
    if (!value)
        return n;
    *value++ = '\0';
    value += strspn(value, " \t");
    if (strcasecmp(line, "content-range") == 0)
        read_range(r, value);
    else if (strcasecmp(line, "content-length") == 0 && r->status == 200 &&
             unit_parse_u64(value, &v) == UNIT_OK)
        r->total_bytes = v;
    return n;
}

/* --- requests -------------------------------------------------------------------------------
 */

static void set_options(struct fetch *f, const struct fetch_ask *ask, const char *range,
                        void *headers, struct answer *x)
{
    void *e = f->easy;

    f->reset(e);
    f->setopt(e, OPT_URL, ask->url);
    f->setopt(e, OPT_RANGE, range);
    f->setopt(e, OPT_HTTPHEADER, headers);
    f->setopt(e, OPT_USERAGENT, "kvbudget/" KV_VERSION);
    f->setopt(e, OPT_FOLLOWLOCATION, 1L);
    f->setopt(e, OPT_MAXREDIRS, (long)REDIRECTS_MAX);
    f->setopt(e, OPT_PROTOCOLS, (long)PROTOCOLS_HTTP_HTTPS);
    f->setopt(e, OPT_REDIR_PROTOCOLS, (long)PROTOCOLS_HTTP_HTTPS);
    f->setopt(e, OPT_CONNECTTIMEOUT, (long)CONNECT_S);
    f->setopt(e, OPT_LOW_SPEED_LIMIT, 1L);
    f->setopt(e, OPT_LOW_SPEED_TIME, (long)SLOW_S);
    f->setopt(e, OPT_TIMEOUT, (long)WHOLE_S);
    f->setopt(e, OPT_NOSIGNAL, 1L);
    f->setopt(e, OPT_WRITEFUNCTION, on_body);
    f->setopt(e, OPT_WRITEDATA, (void *)x);
    f->setopt(e, OPT_HEADERFUNCTION, on_header);
    f->setopt(e, OPT_HEADERDATA, (void *)x);
}

bool fetch_range(struct fetch *f, const struct fetch_ask *ask, void *buf, struct diag *d,
                 struct fetch_reply *out)
{
    struct answer x = {.reply = out, .buf = buf, .cap = ask->n};
    struct arena *a = arena_new();
    const char *range =
        arena_printf(a, "%" PRIu64 "-%" PRIu64, ask->from, ask->from + ask->n - 1);
    void *headers = NULL;
    int code;

    *out = (struct fetch_reply){.total_bytes = UINT64_MAX};
    if (ask->token) /* libcurl does not send it to another host after a redirect (7.58 on) */
        headers =
            f->slist_append(NULL, arena_printf(a, "Authorization: Bearer %s", ask->token));
    set_options(f, ask, range, headers, &x);
    code = f->perform(f->easy);
    if (headers)
        f->slist_free_all(headers);
    arena_free(a);
    if (code == CURL_OK || (code == CURL_WRITE_ERROR && x.cut))
        return true;
    return diag_add(d, DIAG_INPUT, (struct loc){.file = ask->url}, "cannot be fetched: %s",
                    f->strerror(code));
}
