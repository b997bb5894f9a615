/* Buckets are cut from the bits of a double: its exponent and the first bits behind it. */
#include "sim/hist.h"

#include <string.h>

enum { N_BUCKETS = (HIST_HIGH - HIST_LOW) << HIST_BITS, SHIFT = 52 - HIST_BITS, BIAS = 1023 };

void hist_init(struct arena *a, struct hist *h)
{
    *h = (struct hist){.count = ARENA_NEW(a, uint64_t, N_BUCKETS)};
}

void hist_reset(struct hist *h)
{
    memset(h->count, 0, N_BUCKETS * sizeof *h->count);
    *h = (struct hist){.count = h->count};
}

static int64_t bucket_of(double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    return (int64_t)(bits >> SHIFT) - ((int64_t)(BIAS + HIST_LOW) << HIST_BITS);
}

/* The lower end of a bucket. */
static double bucket_low(int64_t i)
{
    uint64_t bits = (uint64_t)(i + ((int64_t)(BIAS + HIST_LOW) << HIST_BITS)) << SHIFT;
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

/* Neumaier's sum: the mean of a day of requests keeps its digits. */
static void sum_add(struct hist *h, double v)
{
    double t = h->sum + v;

    h->sum_low += h->sum >= v ? (h->sum - t) + v : (v - t) + h->sum;
    h->sum = t;
}

void hist_add(struct hist *h, double v, uint64_t n)
{
    int64_t i;

    if (!n)
        return;
    v = v > 0 ? v : 0;
    i = bucket_of(v);
    if (i < 0)
        h->zero += n;
    else
        h->count[i < N_BUCKETS ? i : N_BUCKETS - 1] += n;
    sum_add(h, v * (double)n);
    if (!h->n || v < h->min)
        h->min = v;
    if (v > h->max)
        h->max = v;
    h->n += n;
}

double hist_mean(const struct hist *h)
{
    return h->n ? (h->sum + h->sum_low) / (double)h->n : 0;
}

/* A hair of rounding does not lift it to the next rank. */
uint64_t hist_rank(uint64_t n, double p)
{
    double exact = p / 100 * (double)n;
    uint64_t rank = (uint64_t)exact;

    rank += exact - (double)rank > 1e-9 * exact;
    return rank < 1 ? 1 : rank > n ? n : rank;
}

double hist_percentile(const struct hist *h, double p)
{
    uint64_t rank = h->n ? hist_rank(h->n, p) : 0, seen = h->zero;
    double v;

    if (rank <= seen)
        return h->n ? h->min : 0;
    for (int64_t i = 0; i < N_BUCKETS; i++) {
        seen += h->count[i];
        if (seen < rank)
            continue;
        v = (bucket_low(i) + bucket_low(i + 1)) / 2;
        return v < h->min ? h->min : v > h->max ? h->max : v;
    }
    return h->max;
}
