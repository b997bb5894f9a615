/* Attention of one new query a sequence over the paged cache: a decode step of one layer.
 *
 *     out[s][h] = sum over visible tokens i of softmax_i(scale * q[s][h] . k_i) v_i
 *
 * with the K/V head h / (q_heads / heads). With `cap` the product becomes cap * tanh(product /
 * cap), with `slopes` slope[h] * i is added (ALiBi up to a constant of the query), and with
 * `sinks` the softmax has exp(sink[h]) more in its denominator. The cache is that of the
 * layer's source: its own, or another layer's (any sharing map). Rows that eviction dropped are
 * not in the cache any more; ragged views hold other rows for each head. A head that sees
 * nothing gives zeros.
 *
 * A sequence's rows are split over blocks (flash decoding); with splits > 1 the parts go
 * through `work` and a second kernel combines them. Every 16 query heads of a K/V head read its
 * rows once. Sums are in fp32, matrix products in bf16, or in fp16 where the cache is fp16. */
#ifndef KVBUDGET_KERNELS_DECODE_H
#define KVBUDGET_KERNELS_DECODE_H

#include "kernels/cache.h"
#include "kernels/device.h"

enum { DECODE_THREADS = 128, DECODE_SPLITS_MAX = 256, COMBINE_THREADS = 64 };
enum {
    DECODE_ROWS = 16,
    DECODE_STEP = 16
}; /* query heads of a block at most, tokens of a step */

struct decode_args {
    struct cache_view c; /* lengths: rows stored, the new token's own included if it is */
    const void *q;       /* [sequences][q_heads][k.dim] bf16; fp16 where the cache is fp16 */
    void *out;           /* [sequences][q_heads][v.dim] of the same type */
    void *work;          /* decode_work_bytes, fp32; NULL when splits is 1 */
    float *lse;          /* [sequences][row_heads] ln of the softmax's denominator, of the sum
                            of exp(scale * q . k); NULL: not wanted */
    uint32_t q_heads;    /* a multiple of c.heads */
    uint32_t row_heads;  /* heads of a row of q, out and lse, where those of other groups stand
                            beside ours, which come first; 0 = q_heads */
    uint32_t splits;     /* 1..DECODE_SPLITS_MAX blocks share the rows of a head */
    uint32_t hidden_tokens; /* newest rows that the query must not see: 1 where the diagonal is
                               masked and the row of the token itself is stored */
    uint32_t window_tokens; /* only the last so many of the others; 0 = all */
    uint32_t sink_tokens;   /* and the first so many */
    float scale;
    float cap;           /* 0: none. source: arXiv:2408.00118, section 2 */
    const float *slopes; /* [q_heads]; NULL: none. source: arXiv:2108.12409 */
    const void *sinks;   /* [q_heads] of the type of q, TAG_WEIGHTS; NULL: none. source: gpt-oss
                            model card, arXiv:2508.10925 */
};

/* Heads of a row of q, out and lse. */
DEV_SHARED uint32_t decode_row_heads(const struct decode_args *a)
{
    return a->row_heads ? a->row_heads : a->q_heads;
}

/* Rows of a head that the query sees, of `length` stored: tokens [0, sinks) and
 * [start, start + count - sinks). */
struct decode_range {
    uint32_t sinks, start, count;
};

DEV_SHARED struct decode_range decode_range(const struct decode_args *a, uint32_t length)
{
    struct decode_range r = {0, 0, length > a->hidden_tokens ? length - a->hidden_tokens : 0};

    if (a->window_tokens && r.count > a->window_tokens) {
        r.start = r.count - a->window_tokens;
        r.sinks = a->sink_tokens < r.start ? a->sink_tokens : r.start;
        r.count = r.sinks + a->window_tokens;
    }
    return r;
}

/* Rows that each split takes; the last ones may have fewer, or none. Whole steps of 16. */
DEV_SHARED uint32_t decode_chunk(uint32_t count, uint32_t splits)
{
    uint32_t rows = count / splits + (count % splits != 0);

    return (rows + 15) / 16 * 16;
}

/* Pairs (m, l) that `work` begins with, one more than there are parts where these are odd: the
 * vectors behind them are read by 16 bytes. */
DEV_SHARED uint64_t decode_pairs(const struct decode_args *a)
{
    uint64_t parts = (uint64_t)a->c.sequences * a->q_heads * a->splits;

    return parts + parts % 2;
}

/* Without a cap and slopes, the shapes met most: their rows come through shared memory
 * (decode_ring.cu). */
DEV_SHARED bool decode_is_ringed(const struct decode_args *a)
{
    const struct cache_side *k = &a->c.k, *v = &a->c.v;

    if (a->cap > 0.0f || a->slopes)
        return false;
    if (k->store != v->store || k->dim != v->dim || store_is_kivi(k->store))
        return false;
    if (k->store == STORE_INT4 && (k->group < 32 || v->group < 32))
        return false;
    return k->dim == 128 || (k->store == STORE_BF16 && (k->dim == 64 || k->dim == 256));
}

/* The splits that end soonest on so many multiprocessors, where `heads` pairs of a sequence and
 * a K/V head have `rows` visible rows each. */
uint32_t decode_splits(uint64_t heads, uint32_t rows, uint32_t multiprocessors);
uint64_t decode_work_bytes(const struct decode_args *a);
enum device_status decode_run(struct device *d, const struct decode_args *a);

/* What decode_run issues, both kernels; lengths: a copy in host memory. Useful are 2 (k.dim +
 * v.dim) FLOP a query head and visible row. Adds to *t. */
void decode_traffic(const struct decode_args *a, const uint32_t *lengths, struct traffic *t);
/* Of the second kernel alone, for one query head of which `parts` splits saw something. */
void decode_combine_traffic(const struct decode_args *a, uint32_t parts, struct traffic *t);

#endif
