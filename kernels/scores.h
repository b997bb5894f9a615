/* Scores of stored rows from attention probabilities, for the methods that keep what queries
 * look at, and what turns them into a selection:
 *
 *     SnapKV, PyramidKV  scores of the last w queries, pool, select (evict.h), compact
 *     AdaKV              the same pooled scores of all heads of a layer as one list, select,
 *                        budget, then select with those counts and compact into ragged tables
 *     CAKE               scores of the last w queries, `shifting`, pool, select; prefer.h
 *     TOVA               scores of the last query, pool with `together`, select
 *     H2O                scores of all queries, and in decode `add`ed of each new one
 *
 * source: FasterDecoding/SnapKV@e216ddc snapkv_utils.py, FFY0/AdaKV@efe4e2e snapkv_utils.py,
 * schwartz-lab-NLP/TOVA@9c7d09b tova_cache.py, FMInference/H2O@ac75c2a utils_real_drop,
 * antgroup/cakekv@c4675ce (variance: of w queries by w - 1; of one query: 0). */
#ifndef KVBUDGET_KERNELS_SCORES_H
#define KVBUDGET_KERNELS_SCORES_H

#include "kernels/prefill.h"

enum { SCORES_THREADS = 256, SCORES_KEYS = SCORES_THREADS / 32 * 16, SCORES_QUERIES = 32 };
enum { POOL_THREADS = 256, BUDGET_THREADS = 256, BUDGET_HEADS_MAX = 1024 };

/* sums[list][j] = sum over the queries i that score and see row j of
 *
 *     exp(scale * q_i . k_j - lse_i)
 *
 * with the cap and the slopes of the attention on the product; learned sinks are in lse. For
 * all rows j but the newest `tail` ones. lists are numbered as in evict.h. A K/V head takes the
 * sum over its query heads, or the largest of their sums. No place is touched twice, and the
 * order of the sums is fixed. */
struct scores_args {
    struct prefill_args of; /* the attention, as prefill_run did it; lse as it left it, out not
                               used. A decode step is a chunk of one row a sequence */
    float *sums;            /* [lists][width] */
    uint32_t width;         /* at least the longest list */
    uint32_t queries;       /* the last ones of a chunk that score; 0 = all */
    uint32_t tail;          /* newest rows that get no score: an observation window */
    bool add;               /* to what rows before the chunk's first one have */
    bool largest;           /* of the query heads of a K/V head, in place of their sum */
    bool shifting; /* CAKE: of a query head the mean + gamma variance; not with add, largest */
    float gamma;
    float *parts; /* shifting: [lists][scores_parts] pairs, sums over some of the rows of the
                     queries' entropies -p ln(p + 1e-10) and of the variances */
};

DEV_SHARED uint32_t scores_parts(const struct scores_args *a)
{
    return (a->width + SCORES_KEYS - 1) / SCORES_KEYS * (SCORES_THREADS / 32);
}

/* Of block `block` of a list: its rows, and the queries [from, to) that see one of them. */
struct scores_part {
    uint32_t keys, from, to;
};

DEV_SHARED struct scores_part scores_part(const struct scores_args *a, uint32_t rows,
                                          uint32_t offset, uint32_t length, uint32_t block)
{
    uint32_t first = block * SCORES_KEYS, columns = length > a->tail ? length - a->tail : 0;
    uint64_t low = (uint64_t)first + a->of.hidden_tokens, high;
    struct scores_part p = {columns > first ? columns - first : 0, 0, rows};

    if (p.keys > SCORES_KEYS)
        p.keys = SCORES_KEYS;
    p.from = a->queries && rows > a->queries ? rows - a->queries : 0;
    if (low > offset && low - offset > p.from)
        p.from = low - offset < rows ? (uint32_t)(low - offset) : rows;
    if (a->of.window_tokens && a->of.sink_tokens <= first && p.keys) {
        high = low + p.keys - 1 + a->of.window_tokens;
        high = high > offset ? high - offset : 0;
        p.to = high < rows ? (uint32_t)high : rows;
    }
    p.from = p.from < p.to ? p.from : p.to;
    return p;
}

/* out[list][i] over places i - size / 2 .. i + size / 2 of the first count[list]: the mean, to
 * which places outside add 0, or the largest. Places from count on become minus infinity, so
 * that lists side by side are one list too. */
struct pool_args {
    const float *scores;   /* [lists][width] */
    float *out;            /* the same shape, other memory */
    const uint32_t *count; /* [lists]: places that have a score */
    uint32_t sequences, heads, width;
    uint32_t size; /* odd; 1: as they are */
    bool largest;
    bool by_age;   /* with size 1: divided by count - i, the queries of a causal prompt that see
                      row i */
    bool together; /* every head gets the sum over the heads of its sequence, whose counts are
                      equal */
};

/* AdaKV: rows that each head keeps, when c of the places chosen among all heads are its own:
 *
 *     keep[list] = min(count[list], round(c * (1 - floor_ratio) + floor_tokens) + window)
 *
 * in double, halves to even. */
struct budget_args {
    const uint32_t *index;  /* [sequences][heads * width], of select_run on pooled scores with
                               heads * width places a list */
    const uint32_t *chosen; /* [sequences]: how many */
    const uint32_t *count;  /* [lists]: rows stored */
    uint32_t *keep;         /* [lists] */
    uint32_t sequences, heads, width;
    uint32_t window, floor_tokens;
    double floor_ratio; /* 0 to 1 */
};

enum device_status scores_run(struct device *d, const struct scores_args *a);
enum device_status pool_run(struct device *d, const struct pool_args *a);
enum device_status budget_run(struct device *d, const struct budget_args *a);

/* What they issue; q and lse are TAG_ACTIVATION, sums, counts, keep and index TAG_WORK, the
 * others TAG_TABLES; first, offset, lengths, count and chosen: copies in host memory. Useful
 * are 2 k.dim FLOP a query head and row that it scores. Add to *t. */
void scores_traffic(const struct scores_args *a, const uint32_t *first, const uint32_t *offset,
                    const uint32_t *lengths, struct traffic *t);
void pool_traffic(const struct pool_args *a, const uint32_t *count, struct traffic *t);
void budget_traffic(const struct budget_args *a, const uint32_t *chosen, struct traffic *t);

#endif
