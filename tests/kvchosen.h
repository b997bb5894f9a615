/* What the indexers of a decoder choose while it runs, for tests that follow the choice or
 * compare it: rows whose scores nearly tie are chosen otherwise by every order of sums, and
 * then nothing behind them is the same. Each choice must be what its own scores ask for.
 *
 *     struct ki seen = ki_open(arena, x, n_layers, top_k, &setting);
 *     decoder_watch(x, ki_watch, &seen); */
#ifndef KVBUDGET_TESTS_KVCHOSEN_H
#define KVBUDGET_TESTS_KVCHOSEN_H

#include <string.h>

#include "tests/kvtest.h"
#include "validate/decoder.h"

struct ki_token { /* new at one layer */
    float *scores;
    bool *chosen; /* of rows below its position + 1; NULL: no indexer has run */
};

struct ki {
    struct arena *a;
    struct decoder *x;
    uint32_t sequences, width, top_k; /* width: the most tokens of a sequence */
    struct ki_token *tokens;          /* [n_layers][sequences][width] */
};

static inline struct ki ki_open(struct arena *a, struct decoder *x, uint32_t n_layers,
                                uint32_t top_k, const struct decoder_setting *s)
{
    struct ki k = {.a = a,
                   .x = x,
                   .sequences = s->sequences,
                   .width = s->prompt + s->output,
                   .top_k = top_k};

    k.tokens = ARENA_NEW(a, struct ki_token, (size_t)n_layers * k.sequences * k.width);
    return k;
}

static inline struct ki_token *ki_at(const struct ki *k, uint32_t layer, uint32_t sequence,
                                     uint32_t position)
{
    return &k->tokens[((size_t)layer * k->sequences + sequence) * k->width + position];
}

/* As many as top_k says, in order, and no other row is better; of equals the first ones. */
static inline void ki_check(const struct ki *k, const struct decoder_choice *c,
                            const struct ki_token *t)
{
    uint32_t seen = c->position + 1;

    kt_u64(c->n, seen < k->top_k ? seen : k->top_k);
    for (uint32_t i = 0; i < c->n; i++) {
        float score = c->scores[c->rows[i]];
        assert_true(c->rows[i] < seen && (!i || c->rows[i] > c->rows[i - 1]));
        for (uint32_t j = 0; j < seen; j++)
            assert_true(t->chosen[j] || c->scores[j] < score ||
                        (c->scores[j] == score && j > c->rows[i]));
    }
}

/* Keeps what has been chosen for the tokens of an event. */
static inline void ki_watch(void *user, const struct decoder_event *e)
{
    struct ki *k = user;
    struct decoder_choice c = {.rows = ARENA_NEW(k->a, uint32_t, k->width),
                               .scores = ARENA_NEW(k->a, float, k->width)};

    for (uint32_t i = 0; e->op == OP_INDEXER && decoder_chosen(k->x, i, &c); i++) {
        struct ki_token *t = ki_at(k, e->layer, c.sequence, c.position);
        t->scores = ARENA_NEW(k->a, float, k->width);
        t->chosen = ARENA_NEW(k->a, bool, k->width);
        memcpy(t->scores, c.scores, (c.position + 1) * sizeof *c.scores);
        for (uint32_t j = 0; j < c.n; j++) {
            assert_true(c.rows[j] <= c.position);
            t->chosen[c.rows[j]] = true;
        }
        ki_check(k, &c, t);
    }
}

#endif
