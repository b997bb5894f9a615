/* Reading safetensors headers: a strict scanner for the one shape of JSON they have, then the
 * checks of sizes and places. */
#include "planner/doc/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/ck.h"
#include "planner/base/utf8.h"

enum { LENGTH_BYTES = 8, DEPTH_MAX = 32, NAME_MAX_BYTES = 4096 };

struct scan {
    struct arena *a;
    struct diag *d;
    struct loc at;
    const char *p, *start, *end; /* a NUL stands at `end` */
    bool ok;                     /* sticky */
};

static bool refuse(struct scan *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool refuse(struct scan *s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (s->ok)
        diag_add(s->d, DIAG_INPUT, s->at, "%s", arena_vprintf(s->a, fmt, ap));
    va_end(ap);
    s->ok = false;
    return false;
}

static bool expected(struct scan *s, const char *what)
{
    return refuse(s, "byte %td of its JSON: expected %s", s->p - s->start, what);
}

static char peek(struct scan *s)
{
    while (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t')
        s->p++;
    return s->ok ? *s->p : '\0';
}

static bool accept(struct scan *s, char c)
{
    if (peek(s) != c)
        return false;
    s->p++;
    return true;
}

static bool need(struct scan *s, char c)
{
    char what[4] = {'\'', c, '\'', '\0'};

    return accept(s, c) || expected(s, what);
}

/* A string without escapes is handed out as it stands; with one, its raw text: two names that
 * differ only in how they are escaped stay apart. NULL after a refusal. */
static const char *string(struct scan *s, size_t *n)
{
    const char *from, *t;

    if (!need(s, '"'))
        return NULL;
    from = t = s->p;
    while (*t != '"') {
        uint32_t cp = 0;
        size_t len = utf8_next(t, (size_t)(s->end - t), &cp);

        s->p = t;
        if (len == 0 || utf8_is_control(cp)) {
            expected(s, t >= s->end ? "'\"' at the end of a string" : "printable UTF-8");
            return NULL;
        }
        t += *t == '\\' && t + 1 < s->end ? 2 : len;
    }
    s->p = t + 1;
    *n = (size_t)(t - from);
    return from;
}

static bool is(const char *t, size_t n, const char *word)
{
    return t && strlen(word) == n && memcmp(t, word, n) == 0;
}

static uint64_t number(struct scan *s)
{
    struct ck ck = {false};
    uint64_t v = 0;
    char c = peek(s);

    if (c < '0' || c > '9') {
        expected(s, "a whole number");
        return 0;
    }
    for (; *s->p >= '0' && *s->p <= '9'; s->p++)
        v = ck_add(&ck, ck_mul(&ck, v, 10), (uint64_t)(*s->p - '0'));
    if (ck.over)
        refuse(s, "byte %td of its JSON: a number does not fit 64 bits", s->p - s->start);
    return v;
}

/* Passes over any value. */
static bool pass(struct scan *s, int depth)
{
    char c = peek(s), close = c == '{' ? '}' : ']';
    size_t n;

    if (depth > DEPTH_MAX)
        return refuse(s, "its JSON is nested more than %d deep", DEPTH_MAX);
    if (c == '"')
        return string(s, &n) != NULL;
    if (c != '{' && c != '[') {
        const char *from = s->p;

        while ((*s->p >= '0' && *s->p <= '9') || (*s->p >= 'a' && *s->p <= 'z') ||
               (*s->p && strchr("+-.E", *s->p)))
            s->p++;
        return s->p > from || expected(s, "a value");
    }
    s->p++;
    if (accept(s, close))
        return true;
    do {
        if (c == '{' && !(string(s, &n) && need(s, ':')))
            return false;
        if (!pass(s, depth + 1))
            return false;
    } while (accept(s, ','));
    return need(s, close);
}

/* --- one tensor --------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t bits;
} dtypes[] = {
    {"BF16", 16},   {"F16", 16},        {"F32", 32},        {"F8_E4M3", 8}, {"F8_E5M2", 8},
    {"I8", 8},      {"U8", 8},          {"I32", 32},        {"I64", 64},    {"BOOL", 8},
    {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F4", 4},      {"F6_E2M3", 6},
    {"F6_E3M2", 6}, {"I16", 16},        {"U16", 16},        {"U32", 32},    {"U64", 64},
    {"F64", 64},    {"C64", 64},
};

static bool read_dtype(struct scan *s, struct safetensor *t)
{
    size_t n = 0;
    const char *text = string(s, &n);

    for (size_t i = 0; text && i < sizeof dtypes / sizeof *dtypes; i++) {
        if (is(text, n, dtypes[i].name)) {
            t->dtype = dtypes[i].name;
            t->bits = dtypes[i].bits;
            return true;
        }
    }
    return refuse(s, "tensor '%s' has the unknown dtype '%.*s'", t->name, (int)u64_min(n, 64),
                  text ? text : "");
}

static bool read_shape(struct scan *s, struct safetensor *t)
{
    struct ck ck = {false};
    size_t n = 0;

    t->n_elems = 1;
    if (!need(s, '['))
        return false;
    if (accept(s, ']'))
        return true;
    do {
        t->n_elems = ck_mul(&ck, t->n_elems, number(s));
        if (++n > SAFETENSORS_DIMS_MAX)
            return refuse(s, "tensor '%s' has more than %d dimensions", t->name,
                          SAFETENSORS_DIMS_MAX);
    } while (accept(s, ','));
    if (ck.over)
        return refuse(s, "tensor '%s' has more elements than 64 bits can count", t->name);
    return need(s, ']');
}

static bool read_range(struct scan *s, struct safetensor *t)
{
    if (!need(s, '['))
        return false;
    t->begin = number(s);
    if (!need(s, ','))
        return false;
    t->end = number(s);
    return need(s, ']');
}

static bool check_size(struct scan *s, const struct safetensor *t)
{
    struct ck ck = {false};
    uint64_t bits = ck_mul(&ck, t->n_elems, t->bits);

    if (t->begin > t->end)
        return refuse(s, "tensor '%s' ends at byte %" PRIu64 ", before it begins (%" PRIu64 ")",
                      t->name, t->end, t->begin);
    if (ck.over || bits % 8 != 0 || bits / 8 != t->end - t->begin)
        return refuse(s,
                      "tensor '%s' has %" PRIu64 " elements of %s, but takes %" PRIu64 " bytes",
                      t->name, t->n_elems, t->dtype, t->end - t->begin);
    return true;
}

enum { HAS_DTYPE = 1, HAS_SHAPE = 2, HAS_RANGE = 4, HAS_ALL = 7 };

static bool read_tensor(struct scan *s, struct safetensor *t)
{
    unsigned seen = 0, bit;
    size_t n = 0;

    if (!need(s, '{'))
        return false;
    do {
        const char *key = string(s, &n);

        if (!key || !need(s, ':'))
            return false;
        bit = is(key, n, "dtype")          ? HAS_DTYPE
              : is(key, n, "shape")        ? HAS_SHAPE
              : is(key, n, "data_offsets") ? HAS_RANGE
                                           : 0;
        if (!bit || seen & bit)
            return refuse(s, "tensor '%s': %s key '%.*s'", t->name,
                          bit ? "a second" : "an unknown", (int)u64_min(n, 64), key);
        seen |= bit;
        if (!(bit == HAS_DTYPE   ? read_dtype(s, t)
              : bit == HAS_SHAPE ? read_shape(s, t)
                                 : read_range(s, t)))
            return false;
    } while (accept(s, ','));
    if (!need(s, '}'))
        return false;
    if (seen != HAS_ALL)
        return refuse(s, "tensor '%s' needs dtype, shape and data_offsets", t->name);
    return s->ok && check_size(s, t);
}

/* --- the header --------------------------------------------------------------------------- */

static const char *read_name(struct scan *s, const char *what)
{
    size_t n = 0;
    const char *t = string(s, &n);

    if (t && (n == 0 || n > NAME_MAX_BYTES)) {
        refuse(s, "a %s of %zu bytes: 1 to %d are allowed", what, n, NAME_MAX_BYTES);
        return NULL;
    }
    return t ? arena_strndup(s->a, t, n) : NULL;
}

static bool read_all(struct scan *s, struct safetensors *out)
{
    size_t cap = 0;
    bool metadata = false;

    if (!need(s, '{'))
        return false;
    if (accept(s, '}'))
        return true;
    do {
        const char *name = read_name(s, "tensor name");

        if (!name || !need(s, ':'))
            return false;
        if (strcmp(name, "__metadata__") == 0) {
            if (metadata)
                return refuse(s, "__metadata__ stands in it twice");
            metadata = true;
            if (!pass(s, 0))
                return false;
            continue;
        }
        if (out->n == cap) {
            cap = cap ? cap * 2 : 64;
            out->v = arena_grow(s->a, out->v, out->n, cap, sizeof *out->v);
        }
        out->v[out->n].name = name;
        if (!read_tensor(s, &out->v[out->n++]))
            return false;
    } while (accept(s, ','));
    return need(s, '}');
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct safetensor *)a)->name, ((const struct safetensor *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const struct safetensor *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* No name twice; the ranges one after the other, up to the end of the file. */
static bool check_places(struct scan *s, struct safetensors *t, uint64_t data_bytes)
{
    uint64_t at = 0;

    if (t->n)
        qsort(t->v, t->n, sizeof *t->v, by_name);
    for (size_t i = 1; i < t->n; i++) {
        if (strcmp(t->v[i].name, t->v[i - 1].name) == 0)
            return refuse(s, "the tensor '%s' stands in it twice", t->v[i].name);
    }
    if (t->n)
        qsort(t->v, t->n, sizeof *t->v, by_place);
    for (size_t i = 0; i < t->n; i++) {
        const struct safetensor *x = &t->v[i];

        if (x->begin != at)
            return refuse(s,
                          "tensor '%s' begins at byte %" PRIu64 " of the data, the one before "
                          "it ends at %" PRIu64,
                          x->name, x->begin, at);
        at = x->end;
    }
    if (at != data_bytes)
        return refuse(
            s, "its tensors take %" PRIu64 " bytes, but %" PRIu64 " follow the header: %s", at,
            data_bytes, at > data_bytes ? "it is cut short" : "there is more");
    t->data_bytes = at;
    return true;
}

bool safetensors_read(struct arena *a, struct source *src, struct diag *d,
                      struct safetensors *out)
{
    struct scan s = {.a = a, .d = d, .at = {.file = src->name}, .ok = true};
    unsigned char head[LENGTH_BYTES];
    uint64_t n = 0;
    char *text;

    *out = (struct safetensors){0};
    if (src->size_bytes < LENGTH_BYTES)
        return refuse(&s, "is no safetensors file: it has only %" PRIu64 " bytes",
                      src->size_bytes);
    if (!source_read(src, 0, head, sizeof head, d))
        return false;
    for (size_t i = 0; i < sizeof head; i++)
        n |= (uint64_t)head[i] << (8 * i);
    if (n > src->size_bytes - LENGTH_BYTES)
        return refuse(&s,
                      "is no whole safetensors file: its header would have %" PRIu64
                      " bytes of %" PRIu64,
                      n, src->size_bytes);
    if (n > SAFETENSORS_HEADER_MAX)
        return refuse(&s, "its header of %" PRIu64 " bytes is longer than the %d that are read",
                      n, SAFETENSORS_HEADER_MAX);
    text = arena_alloc(a, (size_t)n + 1, 1);
    if (!source_read(src, LENGTH_BYTES, text, (size_t)n, d))
        return false;
    s.p = s.start = text;
    s.end = text + n;
    if (!read_all(&s, out))
        return false;
    peek(&s);
    if (s.p != s.end)
        return expected(&s, "nothing after the last '}'");
    return check_places(&s, out, src->size_bytes - LENGTH_BYTES - n);
}

/* --- the index ---------------------------------------------------------------------------- */

static bool add_file(struct scan *s, struct safetensors_index *x, size_t *cap)
{
    size_t n = 0, i = x->n_files;
    const char *t = string(s, &n);

    if (!t)
        return false;
    while (i > 0 && !is(t, n, x->files[i - 1])) /* the last one first: names come in runs */
        i--;
    if (i > 0)
        return true;
    if (n == 0 || n > 255 || t[0] == '.' || memchr(t, '/', n) || memchr(t, '\\', n))
        return refuse(s, "names '%.*s', which is no file beside it", (int)u64_min(n, 255), t);
    if (x->n_files == SAFETENSORS_FILES_MAX)
        return refuse(s, "names more than %d files", SAFETENSORS_FILES_MAX);
    if (x->n_files == *cap) {
        *cap = *cap ? *cap * 2 : 64;
        x->files = arena_grow(s->a, x->files, x->n_files, *cap, sizeof *x->files);
    }
    x->files[x->n_files++] = arena_strndup(s->a, t, n);
    return true;
}

static bool read_map(struct scan *s, struct safetensors_index *x)
{
    size_t n = 0, cap = 0;

    if (!need(s, '{'))
        return false;
    if (accept(s, '}'))
        return true;
    do {
        if (!string(s, &n) || !need(s, ':') || !add_file(s, x, &cap))
            return false;
        x->n_tensors++;
    } while (accept(s, ','));
    return need(s, '}');
}

static bool read_metadata(struct scan *s, struct safetensors_index *x)
{
    size_t n = 0;

    if (!need(s, '{'))
        return false;
    if (accept(s, '}'))
        return true;
    do {
        const char *key = string(s, &n);

        if (!key || !need(s, ':'))
            return false;
        if (is(key, n, "total_size") && peek(s) >= '0' && peek(s) <= '9')
            x->total_bytes = number(s);
        /* some write it as 123.0: what follows the digits is passed over as well */
        else if (!pass(s, 0))
            return false;
        while (*s->p == '.' || *s->p == '0')
            s->p++;
    } while (accept(s, ','));
    return need(s, '}');
}

bool safetensors_read_index(struct arena *a, const char *name, const char *text, size_t n,
                            struct diag *d, struct safetensors_index *out)
{
    struct scan s = {.a = a,
                     .d = d,
                     .at = {.file = name},
                     .p = text,
                     .start = text,
                     .end = text + n,
                     .ok = true};
    size_t len = 0;
    bool map = false;

    *out = (struct safetensors_index){0};
    if (!need(&s, '{'))
        return false;
    do {
        const char *key = string(&s, &len);

        if (!key || !need(&s, ':'))
            return false;
        if (is(key, len, "weight_map") && map)
            return refuse(&s, "weight_map stands in it twice");
        if (is(key, len, "weight_map"))
            map = read_map(&s, out);
        else if (is(key, len, "metadata") ? !read_metadata(&s, out) : !pass(&s, 0))
            return false;
        if (!s.ok)
            return false;
    } while (accept(&s, ','));
    if (!need(&s, '}'))
        return false;
    peek(&s);
    if (s.p != s.end)
        return expected(&s, "nothing after the last '}'");
    return out->n_files > 0 || refuse(&s, "its weight_map names no file");
}
