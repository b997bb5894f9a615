/* Bump allocator: one arena a command, freed once. Running out of memory is fatal (exit 70),
 * so no caller checks; nothing else below main.c may end the program. */
#ifndef KVBUDGET_PLANNER_BASE_ARENA_H
#define KVBUDGET_PLANNER_BASE_ARENA_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena *a); /* NULL is fine */

/* Zeroed memory of n * size bytes, aligned for any type; dies on overflow or out of memory. */
void *arena_alloc(struct arena *a, size_t n, size_t size)
    __attribute__((returns_nonnull, alloc_size(2, 3)));
#define ARENA_NEW(a, T, n) ((T *)arena_alloc((a), (n), sizeof(T)))

/* A larger copy of an array: old_n elements kept, the rest zero. */
void *arena_grow(struct arena *a, const void *old, size_t old_n, size_t new_n, size_t size)
    __attribute__((returns_nonnull));

char *arena_strdup(struct arena *a, const char *s) __attribute__((returns_nonnull));
char *arena_strndup(struct arena *a, const char *s, size_t n) __attribute__((returns_nonnull));
char *arena_printf(struct arena *a, const char *fmt, ...)
    __attribute__((returns_nonnull, format(printf, 2, 3)));
char *arena_vprintf(struct arena *a, const char *fmt, va_list ap)
    __attribute__((returns_nonnull, format(printf, 2, 0)));

#endif
