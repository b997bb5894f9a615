/* The retention rules of the plain decoder (kvdecoder.h), written from the papers: what a
 * head's rows, or pages, are worth, how many stay, and which a step sees. Which of them stay is
 * what the decoder beside it has chosen (kvkept.h). */
#ifndef KVBUDGET_TESTS_KVKEEP_H
#define KVBUDGET_TESTS_KVKEEP_H

#include "tests/kvdecoder.h"

/* The last queries rank all rows but their own. */
static inline bool kd_windowed(const struct kd *d)
{
    return d->rule.drop == KD_SNAPKV || d->rule.drop == KD_ADAKV || d->rule.drop == KD_HEADKV ||
           d->rule.drop == KD_CAKE;
}

/* What a head of layer i keeps of n, when that must be `keep`; score: what they are worth. */
static inline const struct kr_list *kd_kept(const struct kd *d, uint32_t i, uint32_t head,
                                            uint32_t keep, const double *score, uint32_t n)
{
    struct kr_list *l = kr_at(d->kept, i, d->sequence, head);
    uint32_t window = d->rule.drop == KD_QUEST ? 0 : d->layers[i].window;

    l->first = d->rule.drop == KD_EXPECT ? 4 : d->rule.sinks;
    l->recent = kd_windowed(d) ? d->rule.window : d->rule.drop == KD_QUEST ? 1 : d->rule.recent;
    kt_u64(l->from, window && window < n ? n - window : 0);
    kt_u64(l->from + l->of, n);
    assert_true(l->scores || d->rule.drop == KD_STREAMING);
    kr_check(l, keep);
    kr_compare(d->kept, l, d->naive, score);
    return l;
}

static inline void kd_keep_list(struct kd *d, uint32_t i, uint32_t head, const double *score,
                                uint32_t n)
{
    const struct kr_list *l = kd_kept(d, i, head, d->rule.keep, score, n);
    struct kd_layer *y = &d->layers[i];

    for (uint32_t j = 0; j < l->n; j++) {
        memmove(kd_row(d, y->keys, head, j), kd_row(d, y->keys, head, l->rows[j]),
                d->dim * sizeof(double));
        memmove(kd_row(d, y->values, head, j), kd_row(d, y->values, head, l->rows[j]),
                d->dim * sizeof(double));
    }
}

/* Sums of what the last queries look at, averaged over 5 neighbours; the window itself stays.
 */
static inline void kd_snapkv(const struct kd *d, const struct kd_layer *y, uint32_t head,
                             const double *all_q, uint32_t n, double *score)
{
    uint32_t group = d->heads / d->kv_heads, old = n - d->rule.window;
    double sums[512] = {0}, p[512];

    for (uint32_t r = old; r < n; r++)
        for (uint32_t g = 0; g < group; g++) {
            const double *q = all_q + r * d->heads * d->dim;
            uint32_t from = y->window && r + 1 > y->window ? r + 1 - y->window : 0;
            kd_softmax(d, y, y->sinks, q, head * group + g, from, r + 1, p);
            for (uint32_t j = from; j < old; j++)
                sums[j] += p[j];
        }
    uint32_t from = y->window && n > y->window ? n - y->window : 0;
    for (uint32_t j = 0; j < n; j++) {
        score[j] = j < from ? -1 : j < old ? 0 : 1e9;
        for (uint32_t k = j < from + 2 ? from : j - 2;
             j >= from && j < old && k <= j + 2 && k < old; k++)
            score[j] += sums[k] / 5;
    }
}

static inline void kd_mean(const struct kd *d, const struct kd_layer *y, uint32_t head,
                           uint32_t n, double *score)
{
    uint32_t group = d->heads / d->kv_heads;
    double p[512];

    memset(score, 0, n * sizeof *score);
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t g = 0; g < group; g++) {
            kd_softmax(d, y, y->sinks, y->all_q + r * d->heads * d->dim, head * group + g, 0,
                       r + 1, p);
            for (uint32_t j = 0; j <= r; j++)
                score[j] += p[j] / (n - j);
        }
}

static inline uint32_t kd_better(const double *score, uint32_t n, uint32_t i)
{
    uint32_t better = 0;

    for (uint32_t j = 0; j < n; j++)
        better += score[j] > score[i] || (score[j] == score[i] && j < i);
    return better;
}

/* AdaKV's number for a head, by the decoder's scores: a fifth of the budget is each head's, the
 * rest goes to the best rows of all heads. */
static inline uint32_t kd_adakv(const struct kd *d, uint32_t i, uint32_t head, uint32_t n)
{
    uint32_t old = n - d->rule.window, base = d->rule.keep - d->rule.window, chosen = 0;
    double all[512];

    assert_true(d->kv_heads * old <= 512);
    for (uint32_t h = 0; h < d->kv_heads; h++)
        memcpy(all + h * old, kr_at(d->kept, i, d->sequence, h)->scores, old * sizeof *all);
    for (uint32_t j = 0; j < old; j++)
        chosen += kd_better(all, d->kv_heads * old, head * old + j) < d->kv_heads * base;
    return d->rule.window + (uint32_t)nearbyint(chosen * 0.8 + floor(base * 0.2));
}

/* Each head its own number of the rows that the window looks at most. */
static inline void kd_uneven(struct kd *d, uint32_t i, uint32_t n)
{
    struct kd_layer *y = &d->layers[i];
    double score[512];

    for (uint32_t h = 0; h < d->kv_heads; h++) {
        uint32_t keep = d->rule.drop == KD_ADAKV ? kd_adakv(d, i, h, n)
                                                 : d->rule.given[i * d->kv_heads + h];
        bool *gone = y->gone + (size_t)h * d->room;
        kd_snapkv(d, y, h, y->all_q, n, score);
        const struct kr_list *l = kd_kept(d, i, h, keep, score, n);
        memset(gone, true, n * sizeof *gone);
        for (uint32_t j = 0; j < l->n; j++)
            gone[l->rows[j]] = false;
    }
}

/* How little a key points where the keys of its head do on the whole. */
static inline void kd_keydiff(struct kd *d, struct kd_layer *y, uint32_t h, uint32_t n,
                              double *score)
{
    double anchor[512] = {0}, size[512], whole = 0;

    for (uint32_t j = 0; j < n; j++) {
        const double *x = kd_row(d, y->keys, h, j);
        size[j] = score[j] = 0;
        for (uint32_t i = 0; i < d->dim; i++)
            size[j] += x[i] * x[i];
        for (uint32_t i = 0; i < d->dim; i++)
            anchor[i] += x[i] / sqrt(size[j]);
    }
    for (uint32_t i = 0; i < d->dim; i++)
        whole += anchor[i] * anchor[i];
    for (uint32_t j = 0; j < n; j++)
        for (uint32_t i = 0; i < d->dim; i++)
            score[j] -= kd_row(d, y->keys, h, j)[i] * anchor[i] / sqrt(size[j] * whole);
}

/* Of one query head: adds mean + 200 variance of each row before the window to score, and what
 * it prefers to the layer's entropy and variance. */
static inline void kd_shift(const struct kd *d, const struct kd_layer *y, uint32_t head,
                            uint32_t n, double *score, double *shift)
{
    uint32_t w = d->rule.window, old = n - w, width = d->heads * d->dim;
    double p[64][512] = {{0}};

    assert_true(w <= 64);
    for (uint32_t r = 0; r < w; r++) {
        uint32_t end = old + r + 1, from = y->window && end > y->window ? end - y->window : 0;
        kd_softmax(d, y, y->sinks, y->all_q + (old + r) * width, head, from, end, p[r]);
    }
    for (uint32_t j = 0; j < old; j++) {
        double mean = 0, variance = 0;
        for (uint32_t r = 0; r < w; r++) {
            mean += p[r][j] / w;
            shift[0] -= p[r][j] * log(p[r][j] + 1e-10);
        }
        for (uint32_t r = 0; r < w; r++)
            variance += pow(p[r][j] - mean, 2) / (w - 1);
        score[j] += mean + 200 * variance;
        shift[1] += variance;
    }
}

/* Averaged over 5 neighbours, those of them that a window still holds; the last w rows stay. */
static inline void kd_cake(const struct kd *d, const struct kd_layer *y, uint32_t head,
                           uint32_t n, double *score, double *shift)
{
    uint32_t group = d->heads / d->kv_heads, old = n - d->rule.window;
    uint32_t from = y->window && n > y->window ? n - y->window : 0;
    double one[512] = {0};

    for (uint32_t g = 0; g < group; g++)
        kd_shift(d, y, head * group + g, n, one, shift);
    for (uint32_t j = 0; j < n; j++) {
        score[j] = j < from ? -1 : j < old ? 0 : 1e9;
        for (uint32_t k = j < from + 2 ? from : j - 2;
             j >= from && j < old && k <= j + 2 && k < old; k++)
            score[j] += one[k] / 5;
    }
}

/* R x, for R the turn by these means of cosines and sines; elements of x are `step` apart. */
static inline void kd_turn_ahead(double (*mean)[2], uint32_t half, double *x, uint32_t step)
{
    for (uint32_t i = 0; i < half; i++) {
        double *a = x + (size_t)i * step, *b = a + (size_t)half * step, low = *a, high = *b;
        *a = low * mean[i][0] - high * mean[i][1];
        *b = high * mean[i][0] + low * mean[i][1];
    }
}

/* Of the 512 places after n. */
static inline uint32_t kd_ahead(const struct kd *d, uint32_t n, double (*mean)[2])
{
    uint32_t half = d->positions || d->l->model->alibi ? 0 : d->dim / 2;

    for (uint32_t i = 0; i < half; i++) {
        mean[i][0] = mean[i][1] = 0;
        for (uint32_t p = n; p < n + 512; p++) {
            mean[i][0] += cos(p * pow(10000, -(double)i / half)) / 512;
            mean[i][1] += sin(p * pow(10000, -(double)i / half)) / 512;
        }
    }
    return half;
}

/* Mean and covariance of a query head over the rows from the fifth on, turned ahead. */
static inline void kd_moments(const struct kd *d, const struct kd_layer *y, uint32_t head,
                              uint32_t n, double *mean, double *spread)
{
    uint32_t dim = d->dim, width = d->heads * dim;
    double turn[64][2];
    uint32_t half = kd_ahead(d, n, turn);

    memset(mean, 0, dim * sizeof *mean);
    memset(spread, 0, (size_t)dim * dim * sizeof *spread);
    for (uint32_t r = 4; r < n; r++)
        for (uint32_t i = 0; i < dim; i++)
            mean[i] += y->still_q[r * width + head * dim + i] / (n - 4);
    for (uint32_t r = 4; r < n; r++)
        for (uint32_t i = 0; i < dim * dim; i++) {
            const double *q = y->still_q + r * width + head * dim;
            spread[i] += (q[i / dim] - mean[i / dim]) * (q[i % dim] - mean[i % dim]) / (n - 4);
        }
    kd_turn_ahead(turn, half, mean, 1);
    for (uint32_t i = 0; i < dim; i++)
        kd_turn_ahead(turn, half, spread + i * dim, 1);
    for (uint32_t i = 0; i < dim; i++)
        kd_turn_ahead(turn, half, spread + i, dim);
}

/* The share of each row [from + 4, n) in what such queries look at on the mean. */
static inline void kd_expected(struct kd *d, struct kd_layer *y, uint32_t head, uint32_t from,
                               uint32_t n, double *p)
{
    double mean[64], spread[64 * 64], sum = 0, scale = 1 / sqrt(d->dim);

    kd_moments(d, y, head, n, mean, spread);
    for (uint32_t j = from + 4; j < n; j++) {
        const double *k = kd_row(d, y->keys, head / (d->heads / d->kv_heads), j);
        double dot = 0, square = 0;
        for (uint32_t i = 0; i < d->dim; i++) {
            dot += mean[i] * k[i];
            for (uint32_t e = 0; e < d->dim; e++)
                square += k[i] * spread[i * d->dim + e] * k[e];
        }
        p[j] = exp(dot * scale + square * scale * scale / 2);
        sum += p[j];
    }
    for (uint32_t j = from + 4; j < n; j++)
        p[j] /= sum;
}

static inline void kd_expect(struct kd *d, struct kd_layer *y, uint32_t h, uint32_t n,
                             double *score)
{
    uint32_t group = d->heads / d->kv_heads, from = y->window < n ? n - y->window : 0;
    double p[512];

    from = y->window ? from : 0;
    for (uint32_t j = 0; j < n; j++)
        score[j] = j < from ? -1 : j < from + 4 ? 1e9 : 0;
    for (uint32_t g = 0; g < group; g++) {
        kd_expected(d, y, h * group + g, from, n, p);
        for (uint32_t j = from + 4; j < n; j++)
            score[j] += p[j] / group;
    }
    for (uint32_t j = from + 4; j < n; j++) {
        double size = 0;
        for (uint32_t i = 0; i < d->dim; i++)
            size += pow(kd_row(d, y->values, h, j)[i], 2);
        score[j] *= sqrt(size);
    }
}

/* Whole chunks, by what the window looks at in all heads; `first` is their size. */
static inline void kd_chunks(struct kd *d, struct kd_layer *y, uint32_t n, double *score)
{
    uint32_t size = d->rule.first, old = n - d->rule.window;
    double one[512], sum[512] = {0}, most = 0;

    for (uint32_t h = 0; h < d->kv_heads; h++) {
        kd_snapkv(d, y, h, y->all_q, n, one);
        for (uint32_t j = 0; j < old; j++)
            most = fmax(most, one[j]);
    }
    for (uint32_t h = 0; h < d->kv_heads; h++) {
        kd_snapkv(d, y, h, y->all_q, n, one);
        for (uint32_t j = 0; j < n; j++)
            sum[j] += j < old ? one[j] : most;
    }
    for (uint32_t j = 0; j < n; j++) {
        score[j] = 0;
        for (uint32_t i = j / size * size; i < j / size * size + size; i++)
            score[j] += sum[i] / size;
    }
}

static inline void kd_rank(struct kd *d, struct kd_layer *y, uint32_t h, uint32_t n,
                           double *score)
{
    if (d->rule.drop == KD_SNAPKV)
        kd_snapkv(d, y, h, y->all_q, n, score);
    if (d->rule.drop == KD_CHUNKKV && !h) /* the same for all, while all are whole */
        kd_chunks(d, y, n, score);
    if (d->rule.drop == KD_KEYDIFF)
        kd_keydiff(d, y, h, n, score);
    if (d->rule.drop == KD_MEAN)
        kd_mean(d, y, h, n, score);
    if (d->rule.drop == KD_EXPECT)
        kd_expect(d, y, h, n, score);
    if (d->rule.drop == KD_CAKE)
        kd_cake(d, y, h, n, score, (double[2]){0, 0});
    for (uint32_t j = 0; j < n && d->rule.drop == KD_L2NORM; j++) {
        score[j] = 0;
        for (uint32_t k = 0; k < d->dim; k++)
            score[j] += pow(kd_row(d, y->keys, h, j)[k], 2);
        score[j] = -sqrt(score[j]);
    }
    for (uint32_t j = 0; j < n && d->rule.drop == KD_STREAMING; j++)
        score[j] = j < d->rule.sinks || j >= n - d->rule.recent;
}

static inline void kd_prune_prompt(struct kd *d, uint32_t i, uint32_t n)
{
    struct kd_layer *y = &d->layers[i];
    double score[512], shift[2] = {0, 0};

    if (d->rule.drop == KD_CAKE && d->rule.given)
        d->rule.keep = d->rule.given[i];
    for (uint32_t h = 0; d->rule.drop == KD_CAKE && y->owns && h < d->kv_heads; h++)
        kd_cake(d, y, h, n, score, shift);
    y->preference = shift[0] * shift[1];
    if (d->rule.drop == KD_ALL || d->rule.drop >= KD_DUO || !y->owns || n <= d->rule.keep)
        return;
    if (d->rule.drop == KD_ADAKV || d->rule.drop == KD_HEADKV) {
        kd_uneven(d, i, n);
        return;
    }
    for (uint32_t h = 0; h < d->kv_heads; h++) {
        kd_rank(d, y, h, n, score);
        kd_keep_list(d, i, h, score, n);
    }
    y->rows = d->rule.keep;
}

/* DuoAttention: before a step the streaming heads have the first rows and the last ones. */
static inline void kd_stream(const struct kd *d, struct kd_layer *y)
{
    for (uint32_t h = y->full_heads; h < d->kv_heads; h++)
        for (uint32_t j = d->rule.sinks; j + 1 + d->rule.recent < y->rows; j++)
            y->gone[h * d->room + j] = true;
}

/* How much a query head could look at rows [from, from + rows). */
static inline double kd_promise(const struct kd *d, const struct kd_layer *y, const double *q,
                                uint32_t head, uint32_t from)
{
    double sum = 0;

    for (uint32_t i = 0; i < d->dim; i++) {
        double most = -INFINITY;
        for (uint32_t j = from; j < from + d->rule.window; j++)
            most = fmax(most, q[i] * kd_row(d, y->keys, head, j)[i]);
        sum += most;
    }
    return sum;
}

/* Quest: the pages that a step of layer i reads, for each K/V head, the newest among them; the
 * other rows are gone until the next. */
static inline void kd_quest(const struct kd *d, uint32_t i, const double *q, uint32_t rows)
{
    struct kd_layer *y = &d->layers[d->layers[i].source];
    uint32_t page = d->rule.window, old = (rows - 1) / page, group = d->heads / d->kv_heads;
    double score[512] = {0};

    for (uint32_t h = 0; h < d->kv_heads && old >= d->rule.keep; h++) {
        bool *gone = y->gone + (size_t)h * d->room;
        for (uint32_t p = 0; p < old; p++) {
            score[p] = 0;
            for (uint32_t g = 0; g < group; g++)
                score[p] += kd_promise(d, y, q + (h * group + g) * d->dim, h, p * page);
        }
        const struct kr_list *l = kd_kept(d, i, h, d->rule.keep, score, old + 1);
        memset(gone, true, rows * sizeof *gone);
        for (uint32_t j = 0; j < l->n; j++)
            for (uint32_t r = 0; r < page && l->rows[j] * page + r < rows; r++)
                gone[l->rows[j] * page + r] = false;
    }
}

static inline void kd_hide(const struct kd *d, uint32_t i, const double *q, uint32_t rows)
{
    struct kd_layer *source = &d->layers[d->layers[i].source];

    if (d->rule.drop == KD_DUO)
        kd_stream(d, source);
    if (d->rule.drop != KD_QUEST)
        return;
    memset(source->gone, 0, (size_t)d->kv_heads * d->room);
    if (i >= d->rule.first)
        kd_quest(d, i, q, rows);
}

/* The L2 norm after every step, once there are `first` rows: a share of them stays. */
static inline void kd_prune_norms(struct kd *d, uint32_t i)
{
    struct kd_layer *y = &d->layers[i];
    uint32_t n = y->rows, keep = (uint32_t)ceil(d->rule.share * n);
    double score[512];

    if (!y->owns || n < d->rule.first || keep >= n)
        return;
    d->rule.keep = keep;
    for (uint32_t h = 0; h < d->kv_heads; h++) {
        kd_rank(d, y, h, n, score);
        kd_keep_list(d, i, h, score, n);
    }
    y->rows = keep;
}

/* StreamingLLM after a step: the oldest that is no sink goes. */
static inline void kd_prune_step(struct kd *d, uint32_t i)
{
    struct kd_layer *y = &d->layers[i];
    uint32_t most = d->rule.sinks + d->rule.recent;

    if (d->rule.drop == KD_L2NORM && d->rule.share > 0 && d->kept->step)
        kd_prune_norms(d, i);
    if (d->rule.drop != KD_STREAMING || !y->owns || y->rows <= most)
        return;
    for (uint32_t h = 0; h < d->kv_heads; h++)
        for (uint32_t j = d->rule.sinks; j < most; j++) {
            memcpy(kd_row(d, y->keys, h, j), kd_row(d, y->keys, h, j + 1),
                   d->dim * sizeof(double));
            memcpy(kd_row(d, y->values, h, j), kd_row(d, y->values, h, j + 1),
                   d->dim * sizeof(double));
        }
    y->rows = most;
}

#endif
