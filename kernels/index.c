/* Checks and traffic of the indexer. */
#include "kernels/index.h"

#include "kernels/launch.h"

enum { PRODUCT_FLOP = 2 * 16 * 8 * 16, TILE = 16 };

static const char *check(const struct index_args *a)
{
    const char *bad = cache_check_latent(&a->c);

    if (!bad && (a->c.k.rope || a->c.k.dim % 32 || a->c.k.dim > INDEX_DIM_MAX))
        bad = "keys have a multiple of 32 elements, up to 128";
    if (!bad && (a->c.k.store != STORE_FP8 || !a->c.k.scales))
        bad = "keys are fp8 with a scale each";
    if (!bad && (!a->heads || a->heads % 8 || a->heads > INDEX_HEADS_MAX))
        bad = "a multiple of 8 heads, up to 128";
    if (!bad && (!a->rows || a->rows > INT32_MAX || !a->width || a->width > 1u << 22))
        bad = "1 to 2^31 - 1 queries of at most 2^22 rows";
    return bad;
}

enum device_status index_run(struct device *d, const struct index_args *a)
{
    const char *bad = check(a);

    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "index: %s", bad);
    return device_launch(d, KERNEL_index, a);
}

enum device_status index_norm_run(struct device *d, const struct index_norm_args *a)
{
    if (!a->rows || a->rows > INT32_MAX || !a->dim || a->dim % 8 || a->dim > INDEX_DIM_MAX)
        return device_refuse(d, DEVICE_BAD_ARGUMENT,
                             "index norm: at least one row, of a multiple of 8 elements up to "
                             "128");
    return device_launch(d, KERNEL_index_norm, a);
}

/* Sums of an element, of its square about the mean, and the result. */
void index_norm_traffic(const struct index_norm_args *a, struct traffic *t)
{
    uint64_t n = (uint64_t)a->rows * a->dim;

    t->read_bytes[TAG_ACTIVATION] += 2 * n;
    t->read_bytes[TAG_WEIGHTS] += (a->wide_weight ? 8 : 4) * n;
    t->written_bytes[TAG_ACTIVATION] += 2 * n;
    t->vector_flop += 8 * n;
}

enum device_status index_mask_run(struct device *d, const struct index_mask_args *a)
{
    if (!a->rows || a->rows > INT32_MAX || !a->words || a->words < (a->width + 31) / 32)
        return device_refuse(d, DEVICE_BAD_ARGUMENT,
                             "index mask: at least one row, with a bit for each place");
    return device_launch(d, KERNEL_index_mask, a);
}

/* Of a query that sees `n` rows: blocks that see some read the query; four threads find each
 * row. */
static void query_traffic(const struct index_args *a, uint64_t n, struct traffic *t)
{
    uint64_t all = (a->width + INDEX_TOKENS - 1) / INDEX_TOKENS, dim = a->c.k.dim;
    uint64_t blocks = (n + INDEX_TOKENS - 1) / INDEX_TOKENS, tiles = (n + TILE - 1) / TILE;

    t->read_bytes[TAG_TABLES] += all * INDEX_THREADS * 8 + n * 4 * 4;
    t->read_bytes[TAG_ACTIVATION] += blocks * a->heads * (dim + 1) * 2;
    t->read_bytes[TAG_K] += n * (dim + 4);
    t->written_bytes[TAG_WORK] += n * 4;
    t->conversions += n * dim;
    t->tensor_flop += tiles * (a->heads / 8) * (dim / 16) * PRODUCT_FLOP;
    t->vector_flop += tiles * 32 * a->heads + n * 2;
    t->useful_flop += n * a->heads * dim * 2;
}

void index_traffic(const struct index_args *a, const uint32_t *position, struct traffic *t)
{
    for (uint32_t r = 0; r < a->rows; r++)
        query_traffic(a, (uint64_t)position[r] + 1, t);
}
