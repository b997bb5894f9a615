/* For tests of eviction: a layer of random keys, values and queries on the CPU device, whose
 * tokens come and go by kernels, and plain lists of scored tokens to compare with. A token is
 * told by its values. */
#ifndef KVBUDGET_TESTS_KVEVICT_H
#define KVBUDGET_TESTS_KVEVICT_H

#include "kernels/append.h"
#include "kernels/decode.h"
#include "kernels/evict.h"
#include "kernels/scores.h"
#include "tests/kvstore.h"

enum { HEADS = 2, GROUP = 2, Q_HEADS = HEADS * GROUP, DIM = 64, PAGE = 16 };
enum { MOST = 192, PAGES = MOST / PAGE };

struct kl {
    struct kk *k;
    double *q, *key; /* [MOST][heads][DIM] */
    uint16_t *v;
    void *dq, *dk, *dv, *out, *work;
    struct cache_view c;
    uint32_t *lengths, *offset, *first, *sequence, *index, *count, *keep, *picked;
    float *lse, *sums, *pooled;
};

static inline double *kl_numbers(struct kk *k, uint64_t n, void **device, uint16_t **bits)
{
    double *x = ARENA_NEW(k->a, double, n);

    *bits = ARENA_NEW(k->a, uint16_t, n);
    for (uint64_t i = 0; i < n; i++) {
        (*bits)[i] = ks_bits_bf16(kk_normal(k));
        x[i] = ks_bf16((*bits)[i]);
    }
    *device = kk_put(k, TAG_ACTIVATION, *bits, 2 * n);
    return x;
}

static inline uint32_t *kl_new32(struct kk *k, uint32_t n)
{
    return kk_new(k, TAG_WORK, (uint64_t)n * 4);
}

static inline void kl_set32(const struct kl *l, const uint32_t *to, uint32_t n, uint32_t x)
{
    uint32_t all[MOST * HEADS];

    for (uint32_t i = 0; i < n; i++)
        all[i] = x;
    kk_ok(l->k, device_upload(l->k->d, (void *)(uintptr_t)to, all, (uint64_t)n * 4));
}

static inline struct kl kl_new(struct kk *k)
{
    struct kl l = {.k = k};
    uint16_t *unused;
    uint32_t table[PAGES];

    l.q = kl_numbers(k, MOST * Q_HEADS * DIM, &l.dq, &unused);
    l.key = kl_numbers(k, MOST * HEADS * DIM, &l.dk, &unused);
    kl_numbers(k, MOST * HEADS * DIM, &l.dv, &l.v);
    for (uint32_t i = 0; i < PAGES; i++)
        table[i] = PAGES - 1 - i;
    l.lengths = kl_new32(k, HEADS);
    l.c = (struct cache_view){.k = {.dim = DIM},
                              .v = {.dim = DIM},
                              .sequences = 1,
                              .heads = HEADS,
                              .page_tokens = PAGE,
                              .max_pages = PAGES,
                              .table = kk_put(k, TAG_TABLES, table, sizeof table),
                              .lengths = l.lengths};
    l.c.k.codes = kk_new(k, TAG_K, MOST * HEADS * DIM * 2);
    l.c.v.codes = kk_new(k, TAG_V, MOST * HEADS * DIM * 2);
    l.out = kk_new(k, TAG_ACTIVATION, MOST * Q_HEADS * DIM * 2);
    l.lse = kk_new(k, TAG_ACTIVATION, MOST * Q_HEADS * 4);
    l.sums = kk_new(k, TAG_WORK, HEADS * MOST * 4);
    l.pooled = kk_new(k, TAG_WORK, HEADS * MOST * 4);
    l.offset = kl_new32(k, HEADS);
    l.first = kl_new32(k, 2);
    l.sequence = kl_new32(k, MOST);
    l.index = kl_new32(k, MOST);
    l.count = kl_new32(k, HEADS);
    l.keep = kl_new32(k, HEADS);
    l.picked = kl_new32(k, HEADS * MOST);
    kl_set32(&l, l.sequence, MOST, 0);
    return l;
}

/* Tokens [token, token + n) to places [place, place + n), of which `rows` are stored then. */
static inline void kl_append(struct kl *l, uint32_t token, uint32_t n, uint32_t place,
                             uint32_t rows)
{
    uint32_t index[MOST], first[2] = {0, n};
    struct append_args a = {.c = l->c,
                            .k = (uint16_t *)l->dk + token * HEADS * DIM,
                            .v = (uint16_t *)l->dv + token * HEADS * DIM,
                            .rows = n,
                            .sequence = l->sequence,
                            .index = l->index};

    for (uint32_t i = 0; i < n; i++)
        index[i] = place + i;
    kk_ok(l->k, device_upload(l->k->d, l->index, index, n * 4));
    kk_ok(l->k, device_upload(l->k->d, l->first, first, sizeof first));
    kl_set32(l, l->lengths, HEADS, rows);
    kl_set32(l, l->offset, HEADS, rows - n);
    kk_ok(l->k, append_run(l->k->d, &a));
}

static inline struct prefill_args kl_attention(const struct kl *l, uint32_t token, uint32_t n)
{
    return (struct prefill_args){.c = l->c,
                                 .q = (const uint16_t *)l->dq + token * Q_HEADS * DIM,
                                 .out = l->out,
                                 .lse = l->lse,
                                 .first = l->first,
                                 .offset = l->offset,
                                 .q_heads = Q_HEADS,
                                 .longest = n,
                                 .scale = 0.125f};
}

static inline void kl_prompt(struct kl *l, uint32_t n)
{
    struct prefill_args a = kl_attention(l, 0, n);

    kl_append(l, 0, n, 0, n);
    kk_ok(l->k, prefill_run(l->k->d, &a));
}

/* One token more, at `place`, of `rows` stored then; its attention leaves the lse. */
static inline void kl_step(struct kl *l, uint32_t token, uint32_t place, uint32_t rows)
{
    struct decode_args a = {.c = l->c,
                            .q = (const uint16_t *)l->dq + token * Q_HEADS * DIM,
                            .out = l->out,
                            .lse = l->lse,
                            .q_heads = Q_HEADS,
                            .splits = 2,
                            .scale = 0.125f};

    if (!l->work)
        l->work = kk_new(l->k, TAG_WORK, decode_work_bytes(&a));
    a.work = l->work;
    kl_append(l, token, 1, place, rows);
    kk_ok(l->k, decode_run(l->k->d, &a));
}

static inline void kl_score(struct kl *l, uint32_t token, uint32_t n, uint32_t queries,
                            uint32_t tail, bool add)
{
    struct scores_args a = {.of = kl_attention(l, token, n),
                            .sums = l->sums,
                            .width = MOST,
                            .queries = queries,
                            .tail = tail,
                            .add = add};

    kk_ok(l->k, scores_run(l->k->d, &a));
}

static inline void kl_pool(struct kl *l, uint32_t n, uint32_t size, bool together)
{
    struct pool_args a = {.scores = l->sums,
                          .out = l->pooled,
                          .count = l->count,
                          .sequences = 1,
                          .heads = HEADS,
                          .width = MOST,
                          .size = size,
                          .together = together};

    kl_set32(l, l->count, HEADS, n);
    kk_ok(l->k, pool_run(l->k->d, &a));
}

/* l->keep of n rows a head, by `scores`; then only those are stored. */
static inline void kl_keep_best(struct kl *l, const float *scores, uint32_t n, uint32_t sinks,
                                uint32_t recent)
{
    struct select_args s = {.scores = scores,
                            .count = l->count,
                            .keep = l->keep,
                            .index = l->picked,
                            .lists = HEADS,
                            .width = MOST,
                            .sinks = sinks,
                            .recent = recent};
    struct compact_args c = {
        .c = l->c, .index = l->picked, .keep = l->keep, .width = MOST, .lengths = l->lengths};

    kl_set32(l, l->count, HEADS, n);
    kk_ok(l->k, select_run(l->k->d, &s));
    kk_ok(l->k, compact_run(l->k->d, &c));
}

/* Which token lies at each of the `rows` stored places of a head. Renumbered pages are the same
 * rows. */
static inline void kl_tokens_of(const struct kl *l, uint32_t head, uint32_t rows, uint32_t *out)
{
    uint16_t *pool = ARENA_NEW(l->k->a, uint16_t, MOST * HEADS * DIM);

    kk_get(l->k, pool, l->c.v.codes, MOST * HEADS * DIM * 2);
    for (uint32_t p = 0; p < rows; p++) {
        uint32_t page = PAGES - 1 - p / PAGE;
        const uint16_t *row = pool + ((page * HEADS + head) * PAGE + p % PAGE) * DIM;
        out[p] = UINT32_MAX;
        for (uint32_t t = 0; t < MOST; t++)
            if (!memcmp(row, l->v + (t * HEADS + head) * DIM, DIM * 2))
                out[p] = t;
    }
}

static inline int kl_by_number(const void *p, const void *q)
{
    uint32_t a = *(const uint32_t *)p, b = *(const uint32_t *)q;

    return a < b ? -1 : a > b;
}

struct kl_entry { /* a stored token of a head, in the order of time */
    double score;
    uint32_t token;
};

struct kl_list {
    struct kl_entry e[MOST];
    uint32_t n;
};

/* The head holds the tokens of the list, in this order if `ordered`. */
static inline void kl_holds(const struct kl *l, uint32_t head, const struct kl_list *want,
                            bool ordered)
{
    uint32_t got[MOST], lengths[HEADS];

    kk_get(l->k, lengths, l->c.lengths, l->c.ragged ? sizeof lengths : 4);
    kt_u64(lengths[l->c.ragged ? head : 0], want->n);
    kl_tokens_of(l, head, want->n, got);
    if (!ordered)
        qsort(got, want->n, sizeof *got, kl_by_number);
    for (uint32_t i = 0; i < want->n; i++)
        kt_u64(got[i], want->e[i].token);
}

/* Adds what query `token` looks at the tokens of the list: all query heads of a K/V head. */
static inline void kl_look(const struct kl *l, uint32_t head, uint32_t token, uint32_t n,
                           struct kl_list *list)
{
    for (uint32_t g = 0; g < GROUP; g++) {
        const double *q = l->q + (token * Q_HEADS + head * GROUP + g) * DIM;
        double p[MOST], sum = 0;
        for (uint32_t i = 0; i < n; i++) {
            const double *x = l->key + (list->e[i].token * HEADS + head) * DIM;
            p[i] = 0;
            for (uint32_t d = 0; d < DIM; d++)
                p[i] += q[d] * x[d] / 8;
            sum += p[i] = exp(p[i]);
        }
        for (uint32_t i = 0; i < n; i++)
            list->e[i].score += p[i] / sum;
    }
}

/* All tokens of a prompt, scored by its last w queries. */
static inline struct kl_list kl_observed(const struct kl *l, uint32_t head, uint32_t n,
                                         uint32_t w)
{
    struct kl_list all = {.n = n};

    for (uint32_t i = 0; i < n; i++)
        all.e[i].token = i;
    for (uint32_t i = n - w; i < n; i++)
        kl_look(l, head, i, i + 1, &all);
    return all;
}

/* Mean over 5 neighbours of the first n, zeros outside. */
static inline void kl_smooth(struct kl_list *all, uint32_t n)
{
    double x[MOST + 4] = {0};

    for (uint32_t i = 0; i < n; i++)
        x[i + 2] = all->e[i].score;
    for (uint32_t i = 0; i < n; i++)
        all->e[i].score = (x[i] + x[i + 1] + x[i + 2] + x[i + 3] + x[i + 4]) / 5;
}

static inline uint32_t kl_lowest(const struct kl_list *all, uint32_t n)
{
    uint32_t worst = 0;

    for (uint32_t i = 1; i < n; i++)
        if (all->e[i].score < all->e[worst].score)
            worst = i;
    return worst;
}

static inline void kl_leave_out(struct kl_list *all, uint32_t i)
{
    memmove(all->e + i, all->e + i + 1, (all->n - i - 1) * sizeof *all->e);
    all->n--;
}

/* Leaves out the lowest but for the last `recent`, until `keep` are left. */
static inline void kl_prune(struct kl_list *all, uint32_t keep, uint32_t recent)
{
    while (all->n > keep)
        kl_leave_out(all, kl_lowest(all, all->n - recent));
}

/* The same where the ranks of the list leave no doubt: of n scored tokens those that are better
 * than the keep-th by a share of `apart` are held, those worse by as much are not. */
static inline void kl_holds_best(const struct kl *l, uint32_t head, const struct kl_list *all,
                                 uint32_t keep, double apart)
{
    struct kl_list best = *all;
    uint32_t got[MOST], lengths[HEADS];

    kl_prune(&best, keep, 0);
    double last = best.e[kl_lowest(&best, keep)].score;
    kk_get(l->k, lengths, l->c.lengths, 4);
    kt_u64(lengths[0], keep);
    kl_tokens_of(l, head, keep, got);
    for (uint32_t i = 0; i < all->n; i++) {
        bool held = bsearch(&all->e[i].token, got, keep, sizeof *got, kl_by_number) != NULL;
        if (fabs(all->e[i].score - last) > apart * fabs(last))
            assert_int_equal(held, all->e[i].score > last);
    }
}

#endif
