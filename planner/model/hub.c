/* The hub as a store of files. The first request for a file asks for its start; that tells its
 * size as well, and is all that most files need. */
#include "planner/model/hub.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/file.h"
#include "planner/model/fetch.h"

#define ENDPOINT "https://huggingface.co"

enum { START_BYTES = 128 << 10, CHUNK_BYTES = 1 << 20, REF_BYTES = 256, ID_BYTES = 512 };

/* --- ids ------------------------------------------------------------------------------------
 */

static bool plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '-' || c == '.';
}

/* Parts of plain letters between slashes, none of which starts with '.' or '-'. */
static bool plain_path(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool start = i == 0 || s[i - 1] == '/';

        if (start ? !plain(s[i]) || s[i] == '.' || s[i] == '-' : !plain(s[i]) && s[i] != '/')
            return false;
    }
    return n > 0 && s[n - 1] != '/';
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

bool hub_parse(struct arena *a, const char *text, struct hub_id *out)
{
    size_t n = strcspn(text, "@"), org = strcspn(text, "/"), name;

    *out = (struct hub_id){.revision = "main"};
    if (strlen(text) > ID_BYTES || org >= n || !plain_path(text, n))
        return false;
    if (text[n] == '@') {
        out->revision = text + n + 1;
        if (!plain_path(out->revision, strlen(out->revision)) || strchr(out->revision, '/'))
            return false;
    }
    name = org + 1 + strcspn(text + org + 1, "/@");
    out->repo = arena_strndup(a, text, name);
    if (name == n)
        return true;
    out->file = arena_strndup(a, text + name + 1, n - name - 1);
    return ends_with(out->file, ".gguf");
}

/* --- the cache ------------------------------------------------------------------------------
 */

static const char *setting(const char *name)
{
    const char *v = getenv(name);

    return v && *v ? v : NULL;
}

static const char *cache_folder(struct arena *a)
{
    const char *hub = setting("HF_HUB_CACHE"), *home = setting("HF_HOME"),
               *xdg = setting("XDG_CACHE_HOME"), *user = setting("HOME");

    if (hub)
        return hub;
    if (home)
        return arena_printf(a, "%s/hub", home);
    if (xdg)
        return arena_printf(a, "%s/huggingface/hub", xdg);
    return user ? arena_printf(a, "%s/.cache/huggingface/hub", user) : NULL;
}

/* The commit that a ref names; a ref that is no plain word is none. */
static const char *read_ref(struct arena *a, const char *path)
{
    struct diag *quiet = diag_new(a);
    char *text;
    size_t n;

    if (!file_exists(path) || !file_read(a, path, REF_BYTES, quiet, &text, &n))
        return NULL;
    text[strcspn(text, " \r\n\t")] = '\0';
    return plain_path(text, strlen(text)) && !strchr(text, '/') ? text : NULL;
}

const char *hub_cached(struct arena *a, const struct hub_id *id)
{
    const char *hub = cache_folder(a), *slash = strchr(id->repo, '/'), *base, *commit, *path;

    if (!hub || !slash)
        return NULL;
    base = arena_printf(a, "%s/models--%.*s--%s", hub, (int)(slash - id->repo), id->repo,
                        slash + 1);
    commit = read_ref(a, arena_printf(a, "%s/refs/%s", base, id->revision));
    path = arena_printf(a, "%s/snapshots/%s", base, commit ? commit : id->revision);
    return file_is_dir(path) ? path : NULL;
}

/* --- fetching -------------------------------------------------------------------------------
 */

struct hub {
    struct arena *a;
    struct fetch *f;
    const char *base;  /* ENDPOINT/ORG/NAME/resolve/REVISION */
    const char *token; /* NULL = none */
};

struct remote { /* one file */
    struct hub *hub;
    char *start; /* its first bytes */
    size_t n;
};

static bool refused(const char *url, int status, struct diag *d)
{
    struct loc at = {.file = url};

    if (status == 401 || status == 403)
        return diag_add(
            d, DIAG_INPUT, at,
            "the hub refuses it (HTTP %d): there is no such model, or it is private or "
            "gated and HF_TOKEN must hold a token that may read it",
            status);
    return diag_add(d, DIAG_INPUT, at, "the hub answers with HTTP %d", status);
}

static bool read_remote(struct source *s, uint64_t from, void *buf, size_t n, struct diag *d)
{
    struct remote *r = s->self;
    struct fetch_ask ask = {s->name, r->hub->token, from, n};
    struct fetch_reply reply;
    struct loc at = {.file = s->name};

    if (from <= r->n && n <= r->n - from) {
        memcpy(buf, r->start + from, n);
        return true;
    }
    if (!fetch_range(r->hub->f, &ask, buf, d, &reply))
        return false;
    if (reply.status != 206 && reply.status != 200)
        return refused(s->name, reply.status, d);
    if (reply.status != 206 || !reply.ranged || reply.from != from)
        return diag_add(d, DIAG_INPUT, at,
                        "the server does not answer range requests, and the whole file is not "
                        "fetched");
    if (reply.n != n || reply.total_bytes != s->size_bytes)
        return diag_add(
            d, DIAG_INPUT, at,
            "the server sent %zu of %zu bytes, of a file of another size or in part", reply.n,
            n);
    return true;
}

static enum store_answer open_remote(struct store *s, struct arena *a, const char *file,
                                     struct diag *d, struct source *out)
{
    struct hub *h = s->self;
    struct remote *r = ARENA_NEW(a, struct remote, 1);
    const char *url = arena_printf(a, "%s/%s", h->base, file);
    struct fetch_ask ask = {url, h->token, 0, START_BYTES};
    struct fetch_reply reply;

    *r = (struct remote){.hub = h, .start = arena_alloc(a, START_BYTES, 1)};
    if (!fetch_range(h->f, &ask, r->start, d, &reply))
        return STORE_FAILED;
    if (reply.status == 404)
        return STORE_ABSENT;
    if (reply.status == 416 && reply.total_bytes == 0)
        reply.n = 0; /* an empty file has no first byte */
    else if (reply.status != 206 && reply.status != 200) {
        refused(url, reply.status, d);
        return STORE_FAILED;
    }
    r->n = reply.n;
    if (reply.total_bytes == UINT64_MAX && reply.n < START_BYTES)
        reply.total_bytes = reply.n; /* sent without a length, to its end */
    if (reply.total_bytes == UINT64_MAX || reply.from != 0 ||
        (reply.n < START_BYTES && reply.n != reply.total_bytes)) {
        diag_add(d, DIAG_INPUT, (struct loc){.file = url},
                 "the server does not say how long the file is");
        return STORE_FAILED;
    }
    *out = (struct source){.name = url,
                           .size_bytes = reply.total_bytes,
                           .chunk_bytes = CHUNK_BYTES,
                           .read = read_remote,
                           .self = r,
                           .fd = -1};
    return STORE_FOUND;
}

/* Visible ASCII only: what could end the header line is no token. */
static bool good_token(const char *t)
{
    for (; *t; t++) {
        if (*t <= ' ' || *t > '~')
            return false;
    }
    return true;
}

bool hub_connect(struct arena *a, const struct hub_id *id, struct diag *d, struct store *out)
{
    struct hub *h = ARENA_NEW(a, struct hub, 1);
    const char *endpoint = setting("HF_ENDPOINT"), *offline = setting("HF_HUB_OFFLINE");
    struct loc at = {.file = id->repo};
    size_t n;

    endpoint = endpoint ? endpoint : ENDPOINT;
    for (n = strlen(endpoint); n && endpoint[n - 1] == '/'; n--)
        continue;
    *h = (struct hub){.a = a, .token = setting("HF_TOKEN")};
    if (offline && strcmp(offline, "0") != 0)
        return diag_add(d, DIAG_INPUT, at,
                        "is not in the local cache, and HF_HUB_OFFLINE forbids fetching it");
    if (strncmp(endpoint, "http://", 7) != 0 && strncmp(endpoint, "https://", 8) != 0)
        return diag_add(d, DIAG_INPUT, at,
                        "HF_ENDPOINT must start with https:// or http://, found '%s'",
                        endpoint);
    if (h->token && !good_token(h->token))
        return diag_add(d, DIAG_INPUT, at, "HF_TOKEN holds characters that no token has");
    if (!fetch_open(a, NULL, d, &h->f))
        return false;
    h->base = arena_printf(a, "%.*s/%s/resolve/%s", (int)n, endpoint, id->repo, id->revision);
    *out = (struct store){.name = h->base, .open = open_remote, .self = h};
    return true;
}

void hub_disconnect(struct store *s)
{
    struct hub *h = s->self;

    if (h)
        fetch_close(h->f);
    s->self = NULL;
}
