/* Reading GGUF headers with a cursor over a window of the source. Nothing is allocated by what
 * the file claims before it is known that the file is long enough for it. */
#include "planner/doc/gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/ck.h"
#include "planner/base/utf8.h"

enum { ALIGNMENT = 32, PAIR_BYTES_MIN = 13, TENSOR_BYTES_MIN = 24, MAGIC_BYTES = 4 };

struct cursor {
    struct arena *a;
    struct source *s;
    struct diag *d;
    struct loc at;
    unsigned char *window; /* bytes [from, from + have) of the source */
    uint64_t from, pos;
    size_t have, cap;
    bool ok; /* sticky */
};

static bool refuse(struct cursor *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static bool refuse(struct cursor *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (c->ok)
        diag_add(c->d, DIAG_INPUT, c->at, "%s", arena_vprintf(c->a, fmt, ap));
    va_end(ap);
    c->ok = false;
    return false;
}

static uint64_t end_of(const struct cursor *c)
{
    return u64_min(c->s->size_bytes, GGUF_HEADER_MAX);
}

/* Whether n more bytes are there; says why not. */
static bool has(struct cursor *c, uint64_t n)
{
    if (!c->ok)
        return false;
    if (n <= end_of(c) - c->pos)
        return true;
    if (c->s->size_bytes > GGUF_HEADER_MAX && n <= c->s->size_bytes - c->pos)
        return refuse(c, "its header is longer than %d MiB, the most that is read here",
                      GGUF_HEADER_MAX >> 20);
    return refuse(c, "the file ends after %" PRIu64 " bytes, within its header",
                  c->s->size_bytes);
}

/* The next n bytes, n at most the window. */
static const unsigned char *take(struct cursor *c, size_t n)
{
    const unsigned char *p;

    if (!has(c, n))
        return NULL;
    if (c->pos < c->from || c->pos + n > c->from + c->have) {
        size_t want = (size_t)u64_min(c->cap, end_of(c) - c->pos);

        c->from = c->pos;
        c->have = 0;
        if (!source_read(c->s, c->pos, c->window, want, c->d)) {
            c->ok = false;
            return NULL;
        }
        c->have = want;
    }
    p = c->window + (c->pos - c->from);
    c->pos += n;
    return p;
}

static bool skip(struct cursor *c, uint64_t n)
{
    if (!has(c, n))
        return false;
    c->pos += n;
    return true;
}

/* Little endian, n of 1, 2, 4, 8 bytes; 0 after a failure. */
static uint64_t number(struct cursor *c, size_t n)
{
    const unsigned char *p = take(c, n);
    uint64_t v = 0;

    for (size_t i = 0; p && i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static uint32_t u32(struct cursor *c)
{
    return (uint32_t)number(c, 4);
}

static bool printable(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        size_t len = utf8_next(s + i, n - i, &cp);

        if (len == 0 || utf8_is_control(cp))
            return false;
        i += len;
    }
    return true;
}

/* A key or the name of a tensor; NULL after a refusal. */
static const char *name(struct cursor *c, const char *what)
{
    uint64_t n = number(c, 8);
    const char *p;

    if (!has(c, n))
        return NULL;
    if (n == 0 || n > GGUF_NAME_MAX) {
        refuse(c, "a %s of %" PRIu64 " bytes: 1 to %d are allowed", what, n, GGUF_NAME_MAX);
        return NULL;
    }
    p = (const char *)take(c, (size_t)n);
    if (p && !printable(p, (size_t)n)) {
        refuse(c, "a %s is no printable UTF-8", what);
        return NULL;
    }
    return p ? arena_strndup(c->a, p, (size_t)n) : NULL;
}

static size_t width(enum gguf_type t)
{
    static const unsigned char bytes[GGUF_N_TYPES] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8, [GGUF_STRING] = 8 /* its length */};

    return bytes[t];
}

static uint64_t whole_number(struct cursor *c, enum gguf_type t)
{
    uint64_t v = number(c, width(t));
    unsigned bits = (unsigned)width(t) * 8;

    if (t == GGUF_BOOL)
        return v != 0;
    if ((t == GGUF_I8 || t == GGUF_I16 || t == GGUF_I32) && v >> (bits - 1) & 1)
        v |= UINT64_MAX << bits;
    return v;
}

static bool read_strings(struct cursor *c, uint64_t n)
{
    for (uint64_t i = 0; i < n && c->ok; i++)
        skip(c, number(c, 8));
    return c->ok;
}

static bool read_text(struct cursor *c, struct gguf_pair *p)
{
    uint64_t n = number(c, 8);
    const char *t;

    if (n > GGUF_TEXT_MAX)
        return skip(c, n);
    t = (const char *)take(c, (size_t)n);
    if (t && printable(t, (size_t)n))
        p->text = arena_strndup(c->a, t, (size_t)n);
    return c->ok;
}

static bool read_items(struct cursor *c, struct gguf_pair *p)
{
    uint64_t *v;

    if (p->type == GGUF_F32 || p->type == GGUF_F64 || p->n > GGUF_ITEMS_MAX)
        return skip(c, p->n * width(p->type)); /* known to lie within the file */
    v = ARENA_NEW(c->a, uint64_t, (size_t)p->n + 1);
    for (uint64_t i = 0; i < p->n; i++)
        v[i] = whole_number(c, p->type);
    p->items = v;
    return c->ok;
}

static bool read_type(struct cursor *c, const char *key, enum gguf_type *out)
{
    uint32_t t = u32(c);

    if (c->ok && t >= GGUF_N_TYPES)
        return refuse(c, "'%s' has the unknown value type %" PRIu32, key, t);
    *out = (enum gguf_type)t;
    return c->ok;
}

static bool read_pair(struct cursor *c, struct gguf_pair *p)
{
    p->key = name(c, "key");
    p->n = 1;
    if (!p->key || !read_type(c, p->key, &p->type))
        return false;
    if (p->type == GGUF_ARRAY) {
        p->list = true;
        if (!read_type(c, p->key, &p->type))
            return false;
        p->n = number(c, 8);
        if (p->type == GGUF_ARRAY)
            return refuse(c, "'%s' is a list of lists, which GGUF does not have", p->key);
        if (c->ok && p->n > end_of(c) / width(p->type)) /* in fewer bits than a product */
            return refuse(c, "'%s' claims %" PRIu64 " items, more than the file can hold",
                          p->key, p->n);
    }
    if (p->type != GGUF_STRING)
        return has(c, p->n * width(p->type)) && read_items(c, p);
    return p->list ? read_strings(c, p->n) : read_text(c, p);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct gguf_pair *)a)->key, ((const struct gguf_pair *)b)->key);
}

static bool read_pairs(struct cursor *c, struct gguf *g)
{
    g->pairs = ARENA_NEW(c->a, struct gguf_pair, g->n_pairs + 1);
    for (size_t i = 0; i < g->n_pairs; i++) {
        if (!read_pair(c, &g->pairs[i]))
            return false;
    }
    qsort(g->pairs, g->n_pairs, sizeof *g->pairs, by_key);
    for (size_t i = 1; i < g->n_pairs; i++) {
        if (strcmp(g->pairs[i].key, g->pairs[i - 1].key) == 0)
            return refuse(c, "the key '%s' stands in it twice", g->pairs[i].key);
    }
    return true;
}

static bool read_tensor(struct cursor *c, struct gguf_tensor *t)
{
    struct ck ck = {false};

    t->name = name(c, "tensor name");
    if (!t->name)
        return false;
    t->n_dims = u32(c);
    if (c->ok && t->n_dims > GGUF_DIMS_MAX)
        return refuse(c, "tensor '%s' has %" PRIu32 " dimensions, at most %d are allowed",
                      t->name, t->n_dims, GGUF_DIMS_MAX);
    t->n_elems = 1;
    for (size_t i = 0; i < GGUF_DIMS_MAX; i++) {
        t->dims[i] = i < t->n_dims ? number(c, 8) : 1;
        t->n_elems = ck_mul(&ck, t->n_elems, t->dims[i]);
        if (c->ok && (t->dims[i] == 0 || t->dims[i] > INT64_MAX))
            return refuse(c, "tensor '%s' has a dimension of %" PRId64, t->name,
                          (int64_t)t->dims[i]);
    }
    if (c->ok && (ck.over || t->n_elems > INT64_MAX))
        return refuse(c, "tensor '%s' has more elements than 63 bits can count", t->name);
    t->type = u32(c);
    t->offset = number(c, 8);
    return c->ok;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct gguf_tensor *const *)a)->name,
                  (*(const struct gguf_tensor *const *)b)->name);
}

static bool read_tensors(struct cursor *c, struct gguf *g)
{
    const struct gguf_tensor **sorted =
        ARENA_NEW(c->a, const struct gguf_tensor *, g->n_tensors + 1);

    g->tensors = ARENA_NEW(c->a, struct gguf_tensor, g->n_tensors + 1);
    for (size_t i = 0; i < g->n_tensors; i++) {
        if (!read_tensor(c, &g->tensors[i]))
            return false;
        sorted[i] = &g->tensors[i];
    }
    qsort(sorted, g->n_tensors, sizeof *sorted, by_name);
    for (size_t i = 1; i < g->n_tensors; i++) {
        if (strcmp(sorted[i]->name, sorted[i - 1]->name) == 0)
            return refuse(c, "the tensor '%s' stands in it twice", sorted[i]->name);
    }
    return true;
}

static bool read_count(struct cursor *c, const char *what, size_t least, size_t most,
                       size_t *out)
{
    uint64_t n = number(c, 8), left;

    if (!c->ok)
        return false;
    left = end_of(c) - c->pos;
    if (n > most || n > left / least)
        return refuse(c, "claims %" PRIu64 " %s, more than %s", n, what,
                      n > most ? "any model has" : "the file can hold");
    *out = (size_t)n;
    return true;
}

static bool read_start(struct cursor *c, struct gguf *g)
{
    const unsigned char *magic = take(c, MAGIC_BYTES);

    if (!magic)
        return false;
    if (memcmp(magic, "GGUF", MAGIC_BYTES) != 0)
        return refuse(c, "is no GGUF file: it does not start with 'GGUF'");
    g->version = u32(c);
    if (c->ok && g->version != 0 && (g->version & 0xffff) == 0)
        return refuse(c, "is a GGUF file for big-endian machines (byte-swapped), which is not "
                         "read here");
    if (c->ok && (g->version < 2 || g->version > 3))
        return refuse(c, "is of GGUF version %" PRIu32 "; versions 2 and 3 are read here",
                      g->version);
    return read_count(c, "tensors", TENSOR_BYTES_MIN, GGUF_TENSORS_MAX, &g->n_tensors) &&
           read_count(c, "keys", PAIR_BYTES_MIN, GGUF_PAIRS_MAX, &g->n_pairs);
}

/* Where the data section starts. */
static bool find_data(struct cursor *c, struct gguf *g)
{
    const struct gguf_pair *p = gguf_find(g, "general.alignment");
    uint64_t n = ALIGNMENT;

    if (p) {
        n = p->type == GGUF_U32 && !p->list ? p->items[0] : 0;
        if (n == 0 || (n & (n - 1)) != 0)
            return refuse(c, "general.alignment must be a power of two, as a u32");
    }
    g->alignment = n;
    g->data_at = (c->pos + n - 1) / n * n; /* both below 2^33 */
    if (g->n_tensors && g->data_at > g->size_bytes)
        return refuse(c, "the file ends after %" PRIu64 " bytes, before its data starts",
                      g->size_bytes);
    return true;
}

bool gguf_read(struct arena *a, struct source *s, struct diag *d, struct gguf *out)
{
    struct cursor c = {.a = a, .s = s, .d = d, .at = {.file = s->name}, .ok = true};

    *out = (struct gguf){.name = s->name, .size_bytes = s->size_bytes};
    c.cap = s->chunk_bytes > 2 * GGUF_NAME_MAX ? s->chunk_bytes : 2 * GGUF_NAME_MAX;
    c.window = arena_alloc(a, c.cap, 1);
    return read_start(&c, out) && read_pairs(&c, out) && read_tensors(&c, out) &&
           find_data(&c, out);
}

const struct gguf_pair *gguf_find(const struct gguf *g, const char *key)
{
    struct gguf_pair probe = {.key = key};

    return bsearch(&probe, g->pairs, g->n_pairs, sizeof *g->pairs, by_key);
}
