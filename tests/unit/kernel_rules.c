/* kernel_rules: whole eviction methods from kernels: prompt, attention, scores, selection,
 * compaction, decode steps. The tokens that stay are those of the method's rule carried out in
 * double on plain lists, and as many as the planner says for the same parameters. */
#include "kernels/expect.h"
#include "kernels/pages.h"
#include "kernels/replace.h"
#include "kernels/ring.h"
#include "tests/kvcache.h"
#include "tests/kvevict.h"

enum { LAYERS = 4 };

/* --- what the references need beyond kvevict.h ----------------------------------------------
 */

static double dot(const double *x, const double *y)
{
    double sum = 0;

    for (uint32_t d = 0; d < DIM; d++)
        sum += x[d] * y[d];
    return sum;
}

/* Of one query head: mean + 200 variance of what the last w queries look at the others. */
static void shift(const struct kl *l, uint32_t head, uint32_t g, uint32_t w,
                  struct kl_list *list)
{
    uint32_t n = list->n;
    double p[MOST], sum[MOST] = {0}, square[MOST] = {0};

    for (uint32_t r = n - w; r < n; r++) {
        const double *q = l->q + (r * Q_HEADS + head * GROUP + g) * DIM;
        double all = 0;
        for (uint32_t i = 0; i <= r; i++)
            all += p[i] = exp(dot(q, l->key + (i * HEADS + head) * DIM) / 8);
        for (uint32_t i = 0; i < n - w; i++) {
            sum[i] += p[i] / all;
            square[i] += pow(p[i] / all, 2);
        }
    }
    for (uint32_t i = 0; i < n - w; i++)
        list->e[i].score += sum[i] / w + 200 * (square[i] - sum[i] * sum[i] / w) / (w - 1);
}

/* Of one query head: the share of each row from `first` on in what queries look at that have
 * the mean and the covariance of those from `first` on: (q . k)^2 on the mean, for k^T C k. */
static void expect(const struct kl *l, uint32_t head, uint32_t g, uint32_t first,
                   struct kl_list *list)
{
    double p[MOST], all = 0;

    for (uint32_t i = first; i < list->n; i++) {
        const double *key = l->key + (i * HEADS + head) * DIM;
        double mean = 0, square = 0;
        for (uint32_t r = first; r < list->n; r++) {
            double x = dot(l->q + (r * Q_HEADS + head * GROUP + g) * DIM, key) / 8;
            mean += x / (list->n - first);
            square += x * x / (list->n - first);
        }
        all += p[i] = exp(mean + (square - mean * mean) / 2);
    }
    for (uint32_t i = first; i < list->n; i++)
        list->e[i].score += p[i] / all;
}

static double length(const struct kl *l, uint32_t head, uint32_t token)
{
    double sum = 0;

    for (uint32_t d = 0; d < DIM; d++)
        sum += pow(ks_bf16(l->v[(token * HEADS + head) * DIM + d]), 2);
    return sqrt(sum);
}

static struct layout *planned(struct kk *k, const char *yaml)
{
    struct kt *t = ARENA_NEW(k->a, struct kt, 1);
    struct layout *lay;

    *t = (struct kt){k->a, diag_new(k->a)};
    lay = kc_layout(t, kc_model(k->a, LAYERS, Q_HEADS, HEADS, DIM));
    kc_apply(t, lay, AXIS_RETENTION, yaml);
    return lay;
}

/* SnapKV, and a layer of PyramidKV: `keep` rows, the window of 8 among them. */
static void snap(struct kk *k, uint32_t n, uint32_t keep)
{
    struct kl l = kl_new(k);

    kl_prompt(&l, n);
    kl_score(&l, 0, n, 8, 8, false);
    kl_pool(&l, n - 8, 5, false);
    kl_set32(&l, l.keep, HEADS, keep);
    kl_keep_best(&l, l.pooled, n, 0, 8);
    for (uint32_t h = 0; h < HEADS; h++) {
        struct kl_list want = kl_observed(&l, h, n, 8);
        kl_smooth(&want, n - 8);
        kl_prune(&want, keep, 8);
        kl_holds(&l, h, &want, true);
    }
}

static void snapkv(void **state)
{
    struct layout *lay = planned(*state, "{scheme: snapkv, capacity: 40, window: 8, "
                                         "layout: kv_head}");

    snap(*state, 150, 40);
    kt_u64(row_stored_tokens(&lay->rows[0], 150, 0), 40);
}

/* KVCache-Factory@c97f9d7 with C = 32, w = 8, beta 20: base 24, from 24 / 20 = 1 to 47, step
 * (47 - 1) / 3 = 15. */
static void pyramidkv(void **state)
{
    static const uint32_t kept[LAYERS] = {47 + 8, 32 + 8, 17 + 8, 2 + 8};
    struct layout *lay = planned(*state, "{scheme: pyramidkv, capacity: 32, window: 8, "
                                         "layout: kv_head}");

    for (uint32_t i = 0; i < LAYERS; i++) {
        snap(*state, 130, kept[i]);
        kt_u64(row_stored_tokens(&lay->rows[i], 130, 0), kept[i]);
    }
}

/* antgroup/cakekv@c4675ce: means of the last 8 queries + 200 variances, of each query head,
 * then as SnapKV. */
static void cake(void **state)
{
    enum { N = 150, W = 8, KEEP = 40 };
    struct kk *k = *state;
    struct kl l = kl_new(k);
    struct layout *lay = planned(k, "{scheme: cake, capacity: 40, window: 8}");
    struct scores_args a = {.of = kl_attention(&l, 0, N),
                            .sums = l.sums,
                            .width = MOST,
                            .queries = W,
                            .tail = W,
                            .shifting = true,
                            .gamma = 200};

    a.parts = kk_new(k, TAG_WORK, 8ull * HEADS * scores_parts(&a));
    kl_prompt(&l, N);
    kk_ok(k, scores_run(k->d, &a));
    kl_pool(&l, N - W, 5, false);
    kl_set32(&l, l.keep, HEADS, KEEP);
    kl_keep_best(&l, l.pooled, N, 0, W);
    for (uint32_t i = 0; i < LAYERS; i++)
        kt_u64(row_stored_tokens(&lay->rows[i], N, 0), KEEP);
    for (uint32_t h = 0; h < HEADS; h++) {
        struct kl_list want = kl_observed(&l, h, N, 0);
        for (uint32_t g = 0; g < GROUP; g++)
            shift(&l, h, g, W, &want);
        kl_smooth(&want, N - W);
        for (uint32_t i = N - W; i < N; i++)
            want.e[i].score = 1e9;
        kl_holds_best(&l, h, &want, KEEP, 1e-3);
    }
}

/* NVIDIA/kvpress@8bb29b9: int(150 * (1 - 0.6)) = 60, the first 4 among them. */
static void expected_attention(void **state)
{
    enum { N = 150, KEEP = 60, SINKS = 4 };
    struct kk *k = *state;
    struct kl l = kl_new(k);
    struct layout *lay = planned(k, "{scheme: expected-attention, compression_ratio: 0.6}");
    struct moments_args m = {.q = l.dq,
                             .mean = kk_new(k, TAG_WORK, Q_HEADS * DIM * 4),
                             .spread = kk_new(k, TAG_WORK, Q_HEADS * DIM * DIM * 4),
                             .rows = N,
                             .skip = SINKS,
                             .heads = Q_HEADS,
                             .row_heads = Q_HEADS,
                             .dim = DIM};
    struct expect_args a = {.c = l.c,
                            .mean = m.mean,
                            .spread = m.spread,
                            .scores = l.sums,
                            .q_heads = Q_HEADS,
                            .width = MOST,
                            .sinks = SINKS,
                            .scale = 0.125f};

    a.work = kk_new(k, TAG_WORK, expect_work_bytes(&a));
    kl_append(&l, 0, N, 0, N);
    kk_ok(k, moments_run(k->d, &m));
    kk_ok(k, expect_run(k->d, &a));
    kl_set32(&l, l.keep, HEADS, KEEP);
    kl_keep_best(&l, l.sums, N, SINKS, 0);
    kt_u64(row_stored_tokens(&lay->rows[0], N, 0), KEEP);
    for (uint32_t h = 0; h < HEADS; h++) {
        struct kl_list want = kl_observed(&l, h, N, 0);
        for (uint32_t g = 0; g < GROUP; g++)
            expect(&l, h, g, SINKS, &want);
        for (uint32_t i = 0; i < N; i++)
            want.e[i].score = i < SINKS ? 1e9 : want.e[i].score * length(&l, h, i);
        kl_holds_best(&l, h, &want, KEEP, 1e-3);
    }
}

/* How many of the `chosen` best places of both heads are the first one's. */
static uint32_t share(const struct kl_list *a, const struct kl_list *b, uint32_t n,
                      uint32_t chosen)
{
    struct kl_list both[2] = {*a, *b};
    uint32_t own[2] = {n, n};

    for (uint32_t left = 2 * n; left > chosen; left--) {
        uint32_t i = own[0] ? kl_lowest(&both[0], own[0]) : 0, j;
        uint32_t worse;
        j = own[1] ? kl_lowest(&both[1], own[1]) : 0;
        worse = !own[0] || (own[1] && both[1].e[j].score < both[0].e[i].score);
        kl_leave_out(&both[worse], worse ? j : i);
        own[worse]--;
    }
    return own[0];
}

/* FFY0/AdaKV@efe4e2e: C = 40, w = 8, floor 0.2: base 32, floor 6. */
static void adakv(void **state)
{
    enum { N = 150, W = 8, C = 40, CHOSEN = HEADS * (C - W) };
    struct kk *k = *state;
    struct kl l = kl_new(k);
    struct kl_list want[HEADS];
    uint32_t keep[HEADS], own;
    uint32_t *chosen = kl_new32(k, 1), *places = kl_new32(k, 1);
    struct select_args s = {.scores = l.pooled,
                            .count = places,
                            .keep = chosen,
                            .index = l.picked,
                            .lists = 1,
                            .width = HEADS * MOST};
    struct budget_args b = {.index = l.picked,
                            .chosen = chosen,
                            .count = l.count,
                            .keep = l.keep,
                            .sequences = 1,
                            .heads = HEADS,
                            .width = MOST,
                            .window = W,
                            .floor_tokens = 6,
                            .floor_ratio = 0.2};
    struct pick_args p = {.table = kl_new32(k, HEADS * PAGES), .lengths = kl_new32(k, HEADS)};

    kl_prompt(&l, N);
    kl_score(&l, 0, N, W, W, false);
    kl_pool(&l, N - W, 5, false);
    kl_set32(&l, places, 1, HEADS * MOST);
    kl_set32(&l, chosen, 1, CHOSEN);
    kk_ok(k, select_run(k->d, &s));
    kl_set32(&l, l.count, HEADS, N);
    kk_ok(k, budget_run(k->d, &b));
    p.c = l.c;
    kk_ok(k, pick_run(k->d, &p)); /* from here on each head has pages of its own */
    l.c.ragged = true;
    l.c.table = p.table;
    l.c.lengths = l.lengths = p.lengths;
    kl_keep_best(&l, l.pooled, N, 0, W);
    kk_get(k, keep, l.keep, sizeof keep);
    for (uint32_t h = 0; h < HEADS; h++) {
        want[h] = kl_observed(&l, h, N, W);
        kl_smooth(&want[h], N - W);
    }
    own = share(&want[0], &want[1], N - W, CHOSEN);
    struct layout *lay = planned(k, arena_printf(k->a,
                                                 "{scheme: adakv, capacity: 40, window: 8, "
                                                 "layout: kv_head, head_counts: [%u, %u]}",
                                                 own, CHOSEN - own));
    for (uint32_t h = 0; h < HEADS; h++) {
        kt_u64(row_stored_tokens(&lay->rows[h], N, 0), keep[h]);
        kl_prune(&want[h], keep[h], W);
        kl_holds(&l, h, &want[h], true);
    }
}

/* FMInference/H2O@ac75c2a real-drop: sums over all queries so far, heavy 24, recent 16. */
static void h2o(void **state)
{
    enum { N = 70, HEAVY = 24, RECENT = 16, FULL = HEAVY + RECENT, STEPS = 25 };
    struct kk *k = *state;
    struct kl l = kl_new(k);
    struct layout *lay = planned(k, "{scheme: h2o, heavy: 24, recent: 16}");
    struct kl_list want[HEADS];
    struct carry_args c = {
        .scores = l.sums, .index = l.picked, .keep = l.keep, .lists = HEADS, .width = MOST};
    uint32_t *slot = kl_new32(k, 1);
    struct replace_args r = {.c = l.c,
                             .scores = l.sums,
                             .width = MOST,
                             .heavy = HEAVY,
                             .recent = RECENT,
                             .slot = slot,
                             .lengths = l.lengths};

    kl_prompt(&l, N);
    kl_score(&l, 0, N, 0, 0, false);
    kl_set32(&l, l.keep, HEADS, FULL);
    kl_keep_best(&l, l.sums, N, 0, RECENT);
    kk_ok(k, carry_run(k->d, &c));
    for (uint32_t h = 0; h < HEADS; h++) {
        want[h] = kl_observed(&l, h, N, N);
        kl_prune(&want[h], FULL, RECENT);
        kl_holds(&l, h, &want[h], true);
    }
    kt_u64(row_stored_tokens(&lay->rows[0], N, 0), FULL);
    for (uint32_t i = 0; i < STEPS; i++) {
        kt_u64(row_running_tokens(&lay->rows[0], N, i + 1), FULL + 1);
        kl_step(&l, N + i, FULL, FULL + 1);
        kl_score(&l, N + i, 1, 0, 0, true);
        kl_set32(&l, slot, 1, i % RECENT);
        kk_ok(k, replace_run(k->d, &r));
        for (uint32_t h = 0; h < HEADS; h++) {
            want[h].e[want[h].n++] = (struct kl_entry){0, N + i};
            kl_look(&l, h, N + i, want[h].n, &want[h]);
            kl_prune(&want[h], FULL, RECENT);
            kl_holds(&l, h, &want[h], false);
        }
        kt_u64(row_stored_tokens(&lay->rows[0], N, i + 1), FULL);
    }
}

/* What the newest query looks at, all heads together. */
static void look_together(const struct kl *l, uint32_t token, struct kl_list *want)
{
    for (uint32_t i = 0; i < want->n; i++)
        want->e[i].score = 0;
    for (uint32_t h = 0; h < HEADS; h++)
        kl_look(l, h, token, want->n, want);
}

/* schwartz-lab-NLP/TOVA@9c7d09b: the last query, the same tokens for all heads. */
static void tova(void **state)
{
    enum { N = 60, FULL = 33, STEPS = 12 };
    struct kk *k = *state;
    struct kl l = kl_new(k);
    struct layout *lay = planned(k, "{scheme: tova, capacity: 33}");
    struct kl_list want = kl_observed(&l, 0, N, 0);
    uint32_t *slot = kl_new32(k, 1);
    struct replace_args r = {.c = l.c,
                             .scores = l.pooled,
                             .width = MOST,
                             .heavy = FULL,
                             .slot = slot,
                             .lengths = l.lengths};

    kl_prompt(&l, N);
    kl_score(&l, 0, N, 1, 0, false);
    kl_pool(&l, N, 1, true);
    kl_set32(&l, l.keep, HEADS, FULL);
    kl_keep_best(&l, l.pooled, N, 0, 0);
    look_together(&l, N - 1, &want);
    kl_prune(&want, FULL, 0);
    for (uint32_t i = 0; i < STEPS; i++) {
        for (uint32_t h = 0; h < HEADS; h++)
            kl_holds(&l, h, &want, !i);
        kt_u64(row_stored_tokens(&lay->rows[0], N, i), FULL);
        kl_step(&l, N + i, FULL, FULL + 1);
        kl_score(&l, N + i, 1, 0, 0, false);
        kl_pool(&l, FULL + 1, 1, true);
        kl_set32(&l, slot, 1, 0);
        kk_ok(k, replace_run(k->d, &r));
        want.e[want.n++].token = N + i;
        look_together(&l, N + i, &want);
        kl_prune(&want, FULL, 0);
    }
}

/* mit-han-lab/streaming-llm@2e50426: 4 sinks and the last 21. */
static void streamingllm(void **state)
{
    enum { N = 90, SINKS = 4, RECENT = 21, STEPS = 50 };
    struct kk *k = *state;
    struct kl l = kl_new(k);
    struct layout *lay = planned(k, "{scheme: streamingllm, sinks: 4, recent: 21}");
    struct ring r = {SINKS, RECENT};
    uint32_t base = ring_base(&r, N);
    struct kl_list want = kl_observed(&l, 0, N, 0);

    kl_prompt(&l, N);
    kl_set32(&l, l.keep, HEADS, SINKS + RECENT);
    kk_ok(k, device_fill(k->d, l.sums, 0, HEADS * MOST * 4));
    kl_keep_best(&l, l.sums, N, SINKS, RECENT);
    while (want.n > SINKS + RECENT)
        kl_leave_out(&want, SINKS);
    for (uint32_t i = 0; i < STEPS; i++) {
        uint32_t rows = ring_rows(&r, N + i, false);
        kl_step(&l, N + i, ring_place(&r, base, N + i), rows);
        want.e[want.n++].token = N + i;
        kt_u64(row_running_tokens(&lay->rows[0], N, i + 1), rows);
        for (uint32_t h = 0; h < HEADS; h++)
            kl_holds(&l, h, &want, false);
        kl_leave_out(&want, SINKS);
        kt_u64(row_stored_tokens(&lay->rows[0], N, i + 1), ring_rows(&r, N + i, true));
    }
}

/* alessiodevoto/l2compress@f93d6ca: ceil(0.37 * 101) = 38 of least norm. */
static void l2norm(void **state)
{
    enum { N = 101 };
    struct kk *k = *state;
    struct kl l = kl_new(k);
    struct layout *lay = planned(k, "{scheme: l2norm, keep_ratio: 0.37, prune_after: 0, "
                                    "skip_layers: []}");
    struct norms_args a = {.c = l.c, .scores = l.sums, .width = MOST, .blocks = 1};
    struct select_args s = {.scores = l.sums,
                            .count = l.count,
                            .keep = l.keep,
                            .index = l.picked,
                            .lists = HEADS,
                            .width = MOST,
                            .smallest = true};
    struct compact_args c = {
        .c = l.c, .index = l.picked, .keep = l.keep, .width = MOST, .lengths = l.lengths};

    kl_append(&l, 0, N, 0, N);
    kl_set32(&l, l.count, HEADS, N);
    kl_set32(&l, l.keep, HEADS, 38);
    kk_ok(k, norms_run(k->d, &a));
    kk_ok(k, select_run(k->d, &s));
    kk_ok(k, compact_run(k->d, &c));
    kt_u64(row_stored_tokens(&lay->rows[0], N, 0), 38);
    for (uint32_t h = 0; h < HEADS; h++) {
        struct kl_list want = kl_observed(&l, h, N, 0);
        for (uint32_t i = 0; i < N; i++)
            for (uint32_t d = 0; d < DIM; d++)
                want.e[i].score -= pow(l.key[(i * HEADS + h) * DIM + d], 2);
        kl_prune(&want, 38, 0);
        kl_holds(&l, h, &want, true);
    }
}

/* mit-han-lab/Quest@01c1623: 4 pages of 16, the newest among them. */
static void quest(void **state)
{
    enum { N = 127 };
    struct kk *k = *state;
    struct kl l = kl_new(k);
    struct layout *lay = planned(k, "{scheme: quest, page: 16, budget: 64, dense_layers: 0, "
                                    "layout: kv_head}");
    struct bounds_args b = {.c = l.c, .first = l.offset};
    struct estimate_args e = {
        .c = l.c, .scores = l.sums, .width = MOST, .q_heads = Q_HEADS, .largest = true};
    struct select_args s = {.scores = l.sums,
                            .count = l.count,
                            .keep = l.keep,
                            .index = l.picked,
                            .lists = HEADS,
                            .width = MOST,
                            .recent = 1};
    struct pick_args p = {.c = l.c, .index = l.picked, .count = l.keep, .width = MOST};
    uint32_t got[HEADS];

    kl_append(&l, 0, N + 1, 0, N + 1);
    e.q = (const uint16_t *)l.dq + N * Q_HEADS * DIM;
    e.bounds = b.bounds = kk_new(k, TAG_STATE, bounds_bytes(&l.c, PAGES));
    p.table = kl_new32(k, HEADS * PAGES);
    p.lengths = kl_new32(k, HEADS);
    kk_ok(k, bounds_run(k->d, &b));
    kk_ok(k, estimate_run(k->d, &e));
    kl_set32(&l, l.count, HEADS, (N + 1) / PAGE);
    kl_set32(&l, l.keep, HEADS, 4);
    kk_ok(k, select_run(k->d, &s));
    kk_ok(k, pick_run(k->d, &p));
    kk_get(k, got, p.lengths, sizeof got);
    for (uint32_t h = 0; h < HEADS; h++)
        kt_u64(got[h], row_attended_tokens(&lay->rows[0], &lay->rows[0], N, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(snapkv),
        kk_test(pyramidkv),
        kk_test(adakv),
        kk_test(h2o),
        kk_reversed(h2o),
        kk_test(tova),
        kk_test(streamingllm),
        kk_test(l2norm),
        kk_test(quest),
        kk_test(cake),
        kk_test(expected_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
