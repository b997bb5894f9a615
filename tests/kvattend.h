/* What the tests of attention in decode and in prefill share: the formula in double precision
 * and as a plain kernel of 16 bits, queries, slopes and sinks, the bytes of a stored row by the
 * documented layout, and the measure of errors. */
#ifndef KVBUDGET_TESTS_KVATTEND_H
#define KVBUDGET_TESTS_KVATTEND_H

#include "tests/kvstore.h"

enum { KA_TOKENS_MAX = 1024 };

struct ka_query { /* of one head */
    const double *q;
    uint32_t sequence, head, end; /* its K/V head; tokens below `end` may be seen */
    const bool *seen;             /* [end] */
    double scale, cap, slope;     /* cap, slope 0: none */
    const double *sink;           /* learned, or NULL */
    bool naive;
};

/* Attention as a formula; returns the logarithm of the sum of exponentials. naive: elements and
 * probabilities rounded to 16 bits, sums in fp32, one token after the other. */
static inline double ka_attend(const struct ks *s, const struct ka_query *x, double *out)
{
    double (*round16)(double) = s->c.k.store == STORE_FP16 ? ks_round_fp16 : ks_round_bf16;
    double most = -INFINITY, total = 0, score[KA_TOKENS_MAX], sum[CACHE_DIM_MAX] = {0};

    assert_true(x->end <= KA_TOKENS_MAX);
    for (uint32_t t = 0; t < x->end; t++) {
        const double *key = ks_at(s, false, x->sequence, x->head, t);
        double dot = 0;
        for (uint32_t d = 0; d < s->c.k.dim; d++)
            dot = x->naive ? (float)(dot + x->q[d] * round16(key[d])) : dot + x->q[d] * key[d];
        dot *= x->scale;
        dot = x->cap > 0 ? x->cap * tanh(dot / x->cap) : dot;
        score[t] = x->seen[t] ? dot + x->slope * t : -INFINITY;
        most = fmax(most, score[t]);
    }
    if (x->sink) {
        most = fmax(most, *x->sink);
        total = exp(*x->sink - most);
    }
    for (uint32_t t = 0; t < x->end && most > -INFINITY; t++) {
        const double *v = ks_at(s, true, x->sequence, x->head, t);
        double p = exp(score[t] - most);
        total = x->naive ? (float)(total + p) : total + p;
        p = x->naive ? round16(p) : p;
        for (uint32_t d = 0; d < s->c.v.dim; d++)
            sum[d] = x->naive ? (float)(sum[d] + p * round16(v[d])) : sum[d] + p * v[d];
    }
    for (uint32_t d = 0; d < s->c.v.dim; d++) {
        out[d] = total > 0 ? sum[d] / total : 0;
        out[d] = x->naive ? round16(out[d]) : out[d];
    }
    total = most + log(total);
    return x->naive ? (double)(float)total : total;
}

/* n numbers of 16 bits: on the device as *bits here, returned as what they mean. */
static inline double *ka_numbers(struct kk *k, uint64_t n, bool fp16, uint16_t **bits,
                                 const void **at)
{
    double *out = ARENA_NEW(k->a, double, n);

    *bits = ARENA_NEW(k->a, uint16_t, n);
    for (uint64_t i = 0; i < n; i++) {
        double x = kk_normal(k);
        (*bits)[i] = fp16 ? ks_bits_fp16(x) : ks_bits_bf16(x);
        out[i] = fp16 ? ks_fp16((*bits)[i]) : ks_bf16((*bits)[i]);
    }
    *at = kk_put(k, TAG_ACTIVATION, *bits, 2 * n);
    return out;
}

struct ka_extras {
    double *slopes, *learned; /* [q_heads], or NULL */
    const float *slopes_at;   /* on the device */
    const void *learned_at;
};

/* Slopes as those of ALiBi, a geometric sequence; sinks about as large as scores. */
static inline struct ka_extras ka_extras(struct kk *k, uint32_t q_heads, bool fp16, bool sloped,
                                         bool sinks)
{
    float *slopes = ARENA_NEW(k->a, float, q_heads);
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, q_heads);
    struct ka_extras e = {.slopes = sloped ? ARENA_NEW(k->a, double, q_heads) : NULL,
                          .learned = sinks ? ARENA_NEW(k->a, double, q_heads) : NULL};

    for (uint32_t h = 0; h < q_heads; h++) {
        double sink = 2 * kk_normal(k);
        slopes[h] = (float)pow(2, -8.0 * (h + 1) / q_heads);
        bits[h] = fp16 ? ks_bits_fp16(sink) : ks_bits_bf16(sink);
        if (sloped)
            e.slopes[h] = (double)slopes[h];
        if (sinks)
            e.learned[h] = fp16 ? ks_fp16(bits[h]) : ks_bf16(bits[h]);
    }
    if (sloped)
        e.slopes_at = kk_put(k, TAG_TABLES, slopes, 4 * q_heads);
    if (sinks)
        e.learned_at = kk_put(k, TAG_WEIGHTS, bits, 2 * q_heads);
    return e;
}

struct ka_wanted {
    const void *out; /* on the device */
    const double *want, *naive;
    uint64_t n;
    bool fp16;
};

/* The largest error is at most twice that of a plain kernel. */
static inline void ka_accurate(struct kk *k, const struct ka_wanted *w)
{
    uint16_t *out = ARENA_NEW(k->a, uint16_t, w->n);
    double error = 0, naive = 0;

    kk_get(k, out, w->out, 2 * w->n);
    for (uint64_t i = 0; i < w->n; i++) {
        double x = w->fp16 ? ks_fp16(out[i]) : ks_bf16(out[i]);
        error = fmax(error, fabs(x - w->want[i]));
        naive = fmax(naive, fabs(w->naive[i] - w->want[i]));
        assert_true(isfinite(x) && fabs(x) < 100);
    }
    if (error > 2 * naive)
        print_error("largest error %g, of a plain kernel %g\n", error, naive);
    assert_true(error <= 2 * naive);
}

/* Bytes of the rows of a list that are seen, each once. */
static inline uint64_t ka_bytes(const struct ks *s, bool value, uint32_t length,
                                const bool *seen)
{
    const struct cache_side *x = value ? &s->c.v : &s->c.k;
    uint32_t bits = store_bits(x->store), r = s->c.residual;
    uint32_t coded = value ? length - (length < r ? length : r) : length - (r ? length % r : 0);
    bool kivi = store_is_kivi(x->store);
    uint64_t sum = 0;

    for (uint32_t t = 0, group = UINT32_MAX; t < length; t++) {
        if (!seen[t])
            continue;
        if (kivi && t >= coded) {
            sum += x->dim * 2;
            continue;
        }
        sum += x->dim * bits / 8;
        if (bits == 8)
            sum += x->scales ? 4 : 0;
        else if (kivi && !value)
            sum += group != t / x->group ? x->dim * 4 : 0;
        else if (bits < 8)
            sum += x->dim / x->group * 4;
        group = t / (x->group | !x->group);
    }
    return sum;
}

#endif
