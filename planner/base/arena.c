/* The arena: a list of chunks, filled from the front, freed together; memory is zeroed as it is
 * taken, so that a chunk of which little is used costs little. Under
 * AddressSanitizer every allocation is followed by a poisoned gap, so that running past an
 * array is still seen. */
#include "planner/base/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#endif

#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define HIDE(p, n) ASAN_POISON_MEMORY_REGION((p), (n))
#define SHOW(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
enum { GAP = 16 };
#else
#define HIDE(p, n) ((void)(p), (void)(n))
#define SHOW(p, n) ((void)(p), (void)(n))
enum { GAP = 0 };
#endif

enum { ALIGN = 16, CHUNK_MIN = 64 << 10, CHUNK_MAX = 4 << 20 };

struct chunk {
    struct chunk *next;
    size_t used_bytes, cap_bytes;
    _Alignas(ALIGN) unsigned char data[];
};

struct arena {
    struct chunk *head; /* the one being filled; the others are full or of one large block */
    size_t next_bytes;  /* how large the next chunk will be */
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "kvbudget: error: %s\n", what);
    exit(70);
}

static struct chunk *chunk_new(size_t cap_bytes)
{
    struct chunk *c = NULL;

    if (cap_bytes <= SIZE_MAX - sizeof *c)
        c = malloc(sizeof *c + cap_bytes);
    if (!c)
        die("out of memory");
    *c = (struct chunk){.cap_bytes = cap_bytes};
    HIDE(c->data, cap_bytes);
    return c;
}

struct arena *arena_new(void)
{
    struct arena *a = calloc(1, sizeof *a);

    if (!a)
        die("out of memory");
    a->next_bytes = CHUNK_MIN;
    return a;
}

void arena_free(struct arena *a)
{
    if (!a)
        return;
    for (struct chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        SHOW(c->data, c->cap_bytes);
        free(c);
    }
    free(a);
}

static void *chunk_take(struct chunk *c, size_t need_bytes, size_t bytes)
{
    unsigned char *p = c->data + c->used_bytes;

    c->used_bytes += need_bytes;
    SHOW(p, bytes);
    return memset(p, 0, bytes);
}

void *arena_alloc(struct arena *a, size_t n, size_t size)
{
    size_t bytes, need;
    struct chunk *c = a->head;

    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX - ALIGN - GAP)
        die("out of memory: a size overflows");
    need = (bytes + ALIGN - 1) / ALIGN * ALIGN + GAP;
    if (c && need <= c->cap_bytes - c->used_bytes)
        return chunk_take(c, need, bytes);
    if (c && need > a->next_bytes / 4) { /* a block of its own; the head keeps its room */
        struct chunk *own = chunk_new(need);
        own->next = c->next;
        c->next = own;
        return chunk_take(own, need, bytes);
    }
    c = chunk_new(need > a->next_bytes ? need : a->next_bytes);
    if (a->next_bytes < CHUNK_MAX)
        a->next_bytes *= 2;
    c->next = a->head;
    a->head = c;
    return chunk_take(c, need, bytes);
}

void *arena_grow(struct arena *a, const void *old, size_t old_n, size_t new_n, size_t size)
{
    void *p = arena_alloc(a, new_n, size);

    if (old && old_n > 0)
        memcpy(p, old, (old_n < new_n ? old_n : new_n) * size);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    const char *end = memchr(s, '\0', n);
    size_t len = end ? (size_t)(end - s) : n;
    char *p;

    if (len == SIZE_MAX)
        die("out of memory: a size overflows");
    p = arena_alloc(a, len + 1, 1);
    memcpy(p, s, len);
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

char *arena_vprintf(struct arena *a, const char *fmt, va_list ap)
{
    va_list again;
    char *p;
    int n;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0)
        die("a text could not be formatted");
    p = arena_alloc(a, (size_t)n + 1, 1);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    return p;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    char *p;

    va_start(ap, fmt);
    p = arena_vprintf(a, fmt, ap);
    va_end(ap);
    return p;
}
