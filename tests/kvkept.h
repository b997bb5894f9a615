/* What the retention rules of a decoder keep while it runs, for plain decoders that follow:
 * rows whose scores nearly tie are kept otherwise by every order of sums, and then nothing
 * behind them is the same. Each choice must be what its own scores ask for, and the scores
 * those of a plain decoder but for rounding.
 *
 *     struct kr kept = kr_open(arena, x, &sizes);
 *     decoder_watch(x, kr_watch, &kept);
 *     decoder_prefill(x); kept.step = 1; decoder_decode(x, 1); */
#ifndef KVBUDGET_TESTS_KVKEPT_H
#define KVBUDGET_TESTS_KVKEPT_H

#include <string.h>

#include "tests/kvtest.h"
#include "validate/decoder.h"

struct kr_list { /* of a head; rows, or under Quest pages */
    uint32_t n, from, of;
    uint32_t *rows;         /* n of them, from place 0 on */
    double *scores;         /* of those from `from` on, the best the highest; NULL: none */
    double *want[2];        /* a plain decoder's, exact and in 16 bits */
    uint32_t first, recent; /* that stay whatever their score */
};

struct kr_size {
    uint32_t layers, sequences, heads, steps;
    uint32_t room; /* rows of a sequence */
};

struct kr {
    struct arena *a;
    struct decoder *x;
    struct kr_size size;
    uint32_t step;         /* 0: the prompt */
    struct kr_list *lists; /* [layers][steps][sequences][heads] */
};

static inline struct kr kr_open(struct arena *a, struct decoder *x, const struct kr_size *size)
{
    struct kr k = {.a = a, .x = x, .size = *size};

    k.lists = ARENA_NEW(a, struct kr_list,
                        (size_t)size->layers * size->steps * size->sequences * size->heads);
    return k;
}

/* Of the step that runs. */
static inline struct kr_list *kr_at(const struct kr *k, uint32_t layer, uint32_t sequence,
                                    uint32_t head)
{
    const struct kr_size *s = &k->size;

    assert_true(k->step < s->steps && sequence < s->sequences && head < s->heads);
    return &k->lists[((layer * s->steps + k->step) * s->sequences + sequence) * s->heads +
                     head];
}

static inline void kr_watch(void *user, const struct decoder_event *e)
{
    struct kr *k = user;
    struct decoder_kept c = {.rows = ARENA_NEW(k->a, uint32_t, k->size.room),
                             .scores = ARENA_NEW(k->a, float, k->size.room)};

    for (uint32_t i = 0; e->op == OP_SCHEME && decoder_kept(k->x, i, &c); i++) {
        struct kr_list *l = kr_at(k, e->layer, c.sequence, c.head);
        *l = (struct kr_list){.n = c.n, .from = c.from, .of = c.of};
        l->rows = ARENA_NEW(k->a, uint32_t, c.n + 1);
        for (uint32_t j = 0; j < c.n; j++)
            l->rows[j] = c.from + c.rows[j];
        l->scores = c.scored ? ARENA_NEW(k->a, double, c.of) : NULL;
        for (uint32_t j = 0; c.scored && j < c.of; j++)
            l->scores[j] = c.smallest ? -(double)c.scores[j] : (double)c.scores[j];
    }
}

/* Whether it stays whatever its score; i: from place 0 on. */
static inline bool kr_protected(const struct kr_list *l, uint32_t i)
{
    return i < l->from + l->first || i + l->recent >= l->from + l->of;
}

/* As many as the rule says, in order, those that always stay among them, and of the others the
 * best by their scores; of equals the first ones. */
static inline void kr_check(const struct kr_list *l, uint32_t keep)
{
    bool stays[512] = {false};

    kt_u64(l->n, keep);
    assert_true(l->from + l->of <= 512);
    for (uint32_t i = 0; i < l->n; i++) {
        assert_true(l->rows[i] >= l->from && l->rows[i] < l->from + l->of);
        assert_true(!i || l->rows[i] > l->rows[i - 1]);
        stays[l->rows[i]] = true;
    }
    for (uint32_t i = l->from; i < l->from + l->of; i++)
        assert_true(stays[i] || !kr_protected(l, i));
    for (uint32_t i = 0; l->scores && i < l->n; i++)
        for (uint32_t j = l->from; j < l->from + l->of && !kr_protected(l, l->rows[i]); j++) {
            double in = l->scores[l->rows[i] - l->from], out = l->scores[j - l->from];
            assert_true(stays[j] || in > out || (in == out && l->rows[i] < j));
        }
}

/* Keeps a plain decoder's scores beside them; scores: of all places. */
static inline void kr_compare(const struct kr *k, struct kr_list *l, bool naive,
                              const double *scores)
{
    l->want[naive] = ARENA_NEW(k->a, double, l->of);
    memcpy(l->want[naive], scores + l->from, l->of * sizeof *scores);
}

#endif
