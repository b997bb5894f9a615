/* Checks and traffic of attention over latents. */
#include "kernels/latent.h"

#include "kernels/launch.h"

enum { PRODUCT_FLOP = 2 * 16 * 8 * 16 };

static const char *check(const struct latent_args *a)
{
    const struct decode_args *of = &a->of;
    const char *bad = cache_check_latent(&of->c);

    if (!bad && of->c.v.dim != of->c.k.dim - of->c.k.rope)
        bad = "the values are the latent without its rope part";
    if (!bad && (!of->q_heads || of->q_heads > 65535))
        bad = "1 to 65535 query heads";
    if (!bad && (!of->splits || of->splits > DECODE_SPLITS_MAX))
        bad = "1 to 256 splits";
    if (!bad && of->splits > 1 && !of->work)
        bad = "several splits need work memory";
    if (!bad && (a->rope_stride % 8 || a->rope_stride < of->c.k.rope))
        bad = "rope parts are a multiple of 8 elements apart, at least their length";
    if (!bad && a->chosen && (!a->chosen_tokens || a->chosen_stride < a->chosen_tokens))
        bad = "a selection has at least one row, and lists do not overlap";
    return bad;
}

enum device_status latent_run(struct device *d, const struct latent_args *a)
{
    const char *bad = check(a);
    enum device_status s;

    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "latent: %s", bad);
    s = device_launch(d, KERNEL_latent, a);
    return s == DEVICE_OK && a->of.splits > 1 ? device_launch(d, KERNEL_combine, &a->of) : s;
}

/* A row, with its scales: each 8 codes with theirs. */
static uint64_t row_bytes(const struct cache_side *k)
{
    uint32_t rank = k->dim - k->rope;

    if (k->store == STORE_DS_MLA)
        return rank + rank / 8 * 4 + 2 * k->rope;
    return cache_row_bytes(k) + (store_bits(k->store) == 8 && k->scales ? k->dim / 8 * 4 : 0);
}

/* A block with `count` rows to see, on `rows` query heads. */
static void block_traffic(const struct latent_args *a, uint32_t rows, uint32_t count,
                          struct traffic *t)
{
    const struct cache_side *k = &a->of.c.k;
    struct latent_tile w = latent_tile(a);
    uint64_t rank = a->of.c.v.dim, steps = (count + w.keys - 1) / w.keys;
    uint64_t units = (k->dim + 31) / 32 * 2, v_units = rank / 16, parts = latent_parts(w);
    uint64_t coded = store_bits(k->store) != 8 ? 0 : k->store == STORE_DS_MLA ? rank : k->dim;

    t->read_bytes[TAG_ACTIVATION] += (uint64_t)rows * k->dim * 2;
    t->read_bytes[TAG_K] += count * row_bytes(k);
    t->read_bytes[TAG_TABLES] += (uint64_t)count * 4;
    t->conversions += count * coded;
    t->vector_flop += count * coded;
    t->tensor_flop +=
        steps * w.m_tiles * PRODUCT_FLOP * (w.keys / 8 * units + w.keys / 16 * 2 * v_units);
    t->vector_flop += steps * (LATENT_THREADS * (w.keys / 2 * (parts + 2) + 4) +
                               w.m_tiles * 32 * 8 * v_units);
    t->exps += steps * LATENT_THREADS * (w.keys / 2 + 2);
    t->useful_flop += (uint64_t)count * rows * 2 * (k->dim + rank);
}

static void out_traffic(const struct latent_args *a, uint32_t rows, uint32_t count,
                        struct traffic *t)
{
    uint64_t rank = a->of.c.v.dim;

    if (a->of.splits == 1) {
        t->written_bytes[TAG_ACTIVATION] += rows * (rank * 2 + (a->of.lse ? 4 : 0));
        t->vector_flop += rows * rank;
    } else {
        t->written_bytes[TAG_WORK] += rows * (8 + (count ? rank * 4 : 0));
    }
}

static void sequence_traffic(const struct latent_args *a, uint32_t length, struct traffic *t)
{
    uint32_t heads = 16 * latent_tile(a).m_tiles, n = latent_count(a, length);
    uint32_t chunk = decode_chunk(n, a->of.splits);
    bool picks = n < decode_range(&a->of, length).count;

    for (uint32_t h = 0; h < a->of.q_heads; h += heads) {
        uint32_t rows = a->of.q_heads - h < heads ? a->of.q_heads - h : heads;
        t->read_bytes[TAG_TABLES] += picks ? (uint64_t)n * 4 : 0;
        for (uint32_t p = 0; p < a->of.splits; p++) {
            uint32_t first = p * chunk, left = first < n ? n - first : 0;
            uint32_t count = left < chunk ? left : chunk;
            t->read_bytes[TAG_TABLES] += LATENT_THREADS * 4;
            if (count)
                block_traffic(a, rows, count, t);
            out_traffic(a, rows, count, t);
        }
    }
    for (uint32_t h = 0; a->of.splits > 1 && h < a->of.q_heads; h++)
        decode_combine_traffic(&a->of, chunk ? n / chunk + (n % chunk != 0) : 0, t);
}

void latent_traffic(const struct latent_args *a, const uint32_t *lengths, struct traffic *t)
{
    for (uint32_t s = 0; s < a->of.c.sequences; s++)
        sequence_traffic(a, lengths[s], t);
}
