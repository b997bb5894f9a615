/* Pieces of a text that stays where it is, and how to cut them. */
#ifndef KVBUDGET_TESTS_PTX_TEXT_H
#define KVBUDGET_TESTS_PTX_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct text {
    const char *at;
    size_t bytes;
};

static inline bool same(struct text t, const char *word)
{
    return strlen(word) == t.bytes && !memcmp(t.at, word, t.bytes);
}

static inline bool starts(struct text t, const char *word)
{
    return t.bytes >= strlen(word) && !memcmp(t.at, word, strlen(word));
}

static inline bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static inline struct text trim(struct text t)
{
    while (t.bytes && is_space(*t.at)) {
        t.at++;
        t.bytes--;
    }
    while (t.bytes && is_space(t.at[t.bytes - 1]))
        t.bytes--;
    return t;
}

/* Cuts off what comes before `end`, which goes too. */
static inline struct text cut(struct text *from, char end)
{
    const char *e = memchr(from->at, end, from->bytes);
    size_t n = e ? (size_t)(e - from->at) : from->bytes;
    struct text t = {from->at, n};

    from->at += n + (e != NULL);
    from->bytes -= n + (e != NULL);
    return trim(t);
}

static inline uint64_t number_of(struct text t)
{
    char copy[64] = {0};

    memcpy(copy, t.at, t.bytes < sizeof copy ? t.bytes : sizeof copy - 1);
    if (copy[0] == '0' && (copy[1] == 'f' || copy[1] == 'd'))
        return strtoull(copy + 2, NULL, 16);
    return copy[0] == '-' ? (uint64_t)strtoll(copy, NULL, 0) : strtoull(copy, NULL, 0);
}

/* What comes before the first blank. */
static inline struct text cut_word(struct text *t)
{
    size_t n = 0;

    while (n < t->bytes && !is_space(t->at[n]))
        n++;
    struct text w = {t->at, n};
    t->at += n;
    t->bytes -= n;
    *t = trim(*t);
    return w;
}

static inline struct text until(const char *from, const char *stops)
{
    size_t n = strcspn(from, stops);

    return trim((struct text){from, n});
}

#endif
