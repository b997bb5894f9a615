/* Checks and traffic of decode attention. */
#include "kernels/decode.h"

#include "kernels/launch.h"

enum { WARPS = DECODE_THREADS / 32, ROWS = DECODE_ROWS, STEP = DECODE_STEP };

uint64_t decode_work_bytes(const struct decode_args *a)
{
    if (a->splits <= 1)
        return 0;
    return 4 * (2 * decode_pairs(a) +
                (uint64_t)a->c.sequences * a->q_heads * a->splits * a->c.v.dim);
}

/* Blocks of a multiprocessor share its bandwidth, so that the time is that of the one with the
 * most blocks; filling the first stages, merging and combining cost about as much as 64 rows.
 */
uint32_t decode_splits(uint64_t heads, uint32_t rows, uint32_t multiprocessors)
{
    enum { SPLIT_ROWS_MIN = 256, SPLIT_COST_ROWS = 64, BUSY_BLOCKS = 4 };
    uint64_t most = (uint64_t)rows / SPLIT_ROWS_MIN, least = UINT64_MAX;
    uint32_t best = 1;

    most = most < DECODE_SPLITS_MAX ? most : DECODE_SPLITS_MAX;
    for (uint32_t n = 1; n == 1 || n <= most; n++) {
        uint64_t turns = (heads * n + multiprocessors - 1) / multiprocessors;
        uint64_t time = (turns > BUSY_BLOCKS ? turns : BUSY_BLOCKS) *
                        (decode_chunk(rows, n) + SPLIT_COST_ROWS);
        if (time < least) {
            least = time;
            best = n;
        }
    }
    return best;
}

static uint32_t tiles_of(const struct decode_args *a)
{
    return (a->q_heads / a->c.heads + ROWS - 1) / ROWS;
}

static const char *check(const struct decode_args *a)
{
    const char *bad = cache_check(&a->c);

    if (!bad && (!a->q_heads || a->q_heads % a->c.heads))
        bad = "the query heads must be a multiple of the K/V heads";
    if (!bad && a->row_heads && a->row_heads < a->q_heads)
        bad = "a row has at least the query heads";
    if (!bad && (!a->splits || a->splits > DECODE_SPLITS_MAX))
        bad = "1 to 256 splits";
    if (!bad && a->splits > 1 && !a->work)
        bad = "several splits need work memory";
    if (!bad && !(a->cap >= 0.0f))
        bad = "the cap must not be below 0";
    if (!bad && (uint64_t)a->c.heads * tiles_of(a) > 65535)
        bad = "too many heads";
    return bad;
}

enum device_status decode_run(struct device *d, const struct decode_args *a)
{
    const char *bad = check(a);
    enum device_status s;

    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "decode: %s", bad);
    s = device_launch(d, decode_is_ringed(a) ? KERNEL_decode_ring : KERNEL_decode, a);
    return s == DEVICE_OK && a->splits > 1 ? device_launch(d, KERNEL_combine, a) : s;
}

/* How many of tokens [from, to) are below `limit`. */
static uint64_t below(uint32_t limit, uint32_t from, uint32_t to)
{
    uint32_t end = limit < to ? limit : to;

    return end > from ? end - from : 0;
}

/* The visible rows of one side read once; each 16 bytes of codes by one thread. The scale of an
 * 8-bit row is read by the 8 threads that hold its column. */
static void side_traffic(const struct decode_args *a, bool value, uint32_t length,
                         struct traffic *t)
{
    const struct cache_side *s = value ? &a->c.v : &a->c.k;
    struct decode_range r = decode_range(a, length);
    uint32_t limit = cache_quantized(&a->c, value, length), bits = store_bits(s->store);
    uint64_t coded =
        below(limit, 0, r.sinks) + below(limit, r.start, r.start + r.count - r.sinks);
    enum tag tag = value ? TAG_V : TAG_K;

    t->read_bytes[tag] += (r.count - coded) * s->dim * 2;
    t->read_bytes[tag] += coded * s->dim * bits / 8;
    t->read_bytes[TAG_TABLES] += (uint64_t)r.count * (value ? 8 : 4) * 4;
    if (bits != 16)
        t->conversions += coded * s->dim;
    if (bits == 8)
        t->read_bytes[tag] += s->scales ? coded * 8 * 4 : 0;
    else if (store_is_kivi(s->store) && !value)
        t->read_bytes[tag] += coded * s->dim * 4;
    else if (bits != 16)
        t->read_bytes[tag] += coded * s->dim / 8 * 4;
}

/* A block with rows to see, on `rows` query heads: `count` of a chunk. */
static void block_traffic(const struct decode_args *a, uint32_t rows, uint32_t count,
                          struct traffic *t)
{
    uint64_t steps = (count + STEP - 1) / STEP, dk = a->c.k.dim, dv = a->c.v.dim;
    uint64_t k_units = (dk + 31) / 32, v_units = (dv + 63) / 64;

    t->read_bytes[TAG_ACTIVATION] += WARPS * rows * dk * 2;
    t->tensor_flop += steps * (k_units * 4 + v_units * 8) * (2 * 16 * 8 * 16);
    t->useful_flop += (uint64_t)count * rows * 2 * (dk + dv);
    t->vector_flop += steps * 32 * (18 + 32 * v_units) + WARPS * 32 * (64 * v_units);
    t->exps += steps * 32 * 10 + WARPS * 32 * 2 * (WARPS + 1);
    if (a->cap > 0.0f) {
        t->vector_flop += steps * 32 * 16;
        t->exps += steps * 32 * 8;
    }
    if (a->slopes) {
        t->vector_flop += steps * 32 * 16;
        t->read_bytes[TAG_TABLES] += steps * 4 * rows * 4;
    }
}

/* decode_ring.cu: every byte once; a page is looked up by the 4 threads of a row. */
static void ring_side_traffic(const struct decode_args *a, bool value, uint32_t length,
                              struct traffic *t)
{
    const struct cache_side *s = value ? &a->c.v : &a->c.k;
    uint64_t rows = decode_range(a, length).count, scales = 0;
    uint32_t bits = store_bits(s->store);

    if (bits == 8 && s->scales)
        scales = 1;
    else if (bits == 4)
        scales = s->dim / s->group;
    t->read_bytes[value ? TAG_V : TAG_K] += rows * (s->dim * bits / 8 + 4 * scales);
    t->read_bytes[TAG_TABLES] += value ? 0 : rows * 4 * 4;
    if (bits != 16)
        t->conversions += rows * s->dim;
}

/* Products of 8 query heads each; warps share the sum of their outputs. */
static void ring_block_traffic(const struct decode_args *a, uint32_t rows, uint32_t count,
                               struct traffic *t)
{
    uint64_t steps = (count + STEP - 1) / STEP, dim = a->c.k.dim, warps = dim == 256 ? 2 : 4;
    uint64_t tiles = a->q_heads / a->c.heads <= 8 ? 1 : 2;

    t->read_bytes[TAG_ACTIVATION] += warps * rows * dim * 2;
    t->tensor_flop += steps * tiles * (dim / 8) * (2 * 16 * 8 * 16);
    t->useful_flop += (uint64_t)count * rows * 4 * dim;
    t->vector_flop += steps * 32 * tiles * (12 + dim / 4) + rows * dim * warps;
    t->vector_flop += warps * 32 * 2 * tiles * (2 * warps + dim / 8);
    t->exps += steps * 32 * tiles * 6 + warps * 32 * 2 * tiles * (warps + 1);
}

static void out_traffic(const struct decode_args *a, uint32_t rows, uint32_t count,
                        struct traffic *t)
{
    uint64_t dv = a->c.v.dim;

    if (a->splits == 1) {
        t->written_bytes[TAG_ACTIVATION] += rows * (dv * 2 + (a->lse ? 4 : 0));
        t->vector_flop += rows * dv;
    } else {
        t->written_bytes[TAG_WORK] += rows * (8 + (count ? dv * 4 : 0));
    }
}

/* All sums of the splits, then the vectors of those that saw something. */
void decode_combine_traffic(const struct decode_args *a, uint32_t parts, struct traffic *t)
{
    uint64_t dv = a->c.v.dim;

    t->read_bytes[TAG_WORK] += (uint64_t)a->splits * 8 + parts * dv * 4;
    t->written_bytes[TAG_ACTIVATION] += dv * 2 + (a->lse ? 4 : 0);
    t->vector_flop += parts * dv * 2 + dv;
    t->exps += a->splits;
}

void decode_traffic(const struct decode_args *a, const uint32_t *lengths, struct traffic *t)
{
    const struct cache_view *c = &a->c;
    uint32_t group = a->q_heads / c->heads, tiles = tiles_of(a);
    bool ringed = decode_is_ringed(a);
    uint32_t threads = ringed && c->k.dim == 256 ? DECODE_THREADS / 2 : DECODE_THREADS;

    for (uint32_t i = 0; i < c->sequences * c->heads; i++) {
        uint32_t length = lengths[c->ragged ? i : i / c->heads];
        uint32_t n = decode_range(a, length).count, chunk = decode_chunk(n, a->splits);
        uint32_t parts = chunk ? n / chunk + (n % chunk != 0) : 0;
        for (uint32_t tile = 0; tile < tiles; tile++) {
            uint32_t rows = group - tile * ROWS < ROWS ? group - tile * ROWS : ROWS;
            for (uint32_t value = 0; value < 2; value++)
                (ringed ? ring_side_traffic : side_traffic)(a, value, length, t);
            for (uint32_t p = 0; p < a->splits; p++) {
                uint32_t first = p * chunk;
                uint32_t left = first < n ? n - first : 0, count = left < chunk ? left : chunk;
                t->read_bytes[TAG_TABLES] += threads * 4;
                if (count)
                    (ringed ? ring_block_traffic : block_traffic)(a, rows, count, t);
                if (count && !p && a->sinks) /* by all threads of a row */
                    t->read_bytes[TAG_WEIGHTS] += (ringed ? 8 : 4) * (uint64_t)rows * 2;
                out_traffic(a, rows, count, t);
            }
        }
        for (uint32_t h = 0; a->splits > 1 && h < group; h++)
            decode_combine_traffic(a, parts, t);
    }
}
