/* For tests of what scores the rows of a cache: six lists of different lengths, in any storage
 * format. */
#ifndef KVBUDGET_TESTS_KVLISTS_H
#define KVBUDGET_TESTS_KVLISTS_H

#include "tests/kvstore.h"

enum { SEQUENCES = 2, HEADS = 3, TOKENS = 70, WIDTH = 80, LISTS = SEQUENCES * HEADS };

struct setting {
    enum store store;
    uint32_t dim, group, residual;
    bool scaled, ragged;
};

static inline struct cache_side side(enum store s, uint32_t dim, uint32_t group)
{
    return (struct cache_side){.store = s, .dim = dim, .group = group, .scale = 0.0625f};
}

static inline void fill(struct kk *k, const struct setting *o, struct ks *s)
{
    uint64_t n;

    *s = (struct ks){.tokens = TOKENS};
    s->c = (struct cache_view){.k = side(o->store, o->dim, o->group),
                               .v = side(o->store, o->dim, o->group),
                               .sequences = SEQUENCES,
                               .heads = HEADS,
                               .page_tokens = 16,
                               .max_pages = (TOKENS + 15) / 16,
                               .residual = o->residual,
                               .ragged = o->ragged};
    n = ks_lengths(s);
    s->lengths = ARENA_NEW(k->a, uint32_t, n);
    for (uint64_t i = 0; i < n; i++)
        s->lengths[i] = i ? TOKENS - 11 * (uint32_t)i : TOKENS;
    ks_place(k, s, o->scaled);
}

#endif
