/* Checks and traffic of latents going into the cache and out of it. */
#include "kernels/latent_rows.h"

#include "kernels/launch.h"

enum { GROUP = 128, WARP_BYTES = 32 * 4 };

enum device_status latent_append_run(struct device *d, const struct latent_append_args *a)
{
    const char *bad = cache_check_latent(&a->c);

    if (!bad && a->rows > INT32_MAX)
        bad = "at most 2^31 - 1 rows at once";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "latent append: %s", bad);
    return a->rows ? device_launch(d, KERNEL_latent_append, a) : DEVICE_OK;
}

enum device_status latent_unpack_run(struct device *d, const struct latent_unpack_args *a)
{
    const char *bad = cache_check_latent(&a->c);

    if (!bad && a->c.sequences != 1)
        bad = "one sequence at a time";
    if (!bad && (!a->heads || a->stride % 8 || a->stride < a->c.k.rope))
        bad =
            "keys of at least one head, a multiple of 8 elements that the rope part fits into";
    if (!bad && a->rows > INT32_MAX)
        bad = "at most 2^31 - 1 rows at once";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "latent unpack: %s", bad);
    return a->rows ? device_launch(d, KERNEL_latent_unpack, a) : DEVICE_OK;
}

/* Elements in codes of 8 bits. */
static uint64_t coded_of(const struct cache_side *k)
{
    if (store_bits(k->store) != 8)
        return 0;
    return k->store == STORE_DS_MLA ? k->dim - k->rope : k->dim;
}

/* Every thread of a warp reads the sequence, the index and the page. */
void latent_append_traffic(const struct latent_append_args *a, struct traffic *t)
{
    const struct cache_side *k = &a->c.k;
    uint64_t rows = a->rows, scale = store_bits(k->store) == 8 && k->scales ? 4 : 0;

    t->read_bytes[TAG_TABLES] += rows * 3 * WARP_BYTES;
    t->read_bytes[TAG_ACTIVATION] += rows * k->dim * 2;
    t->written_bytes[TAG_K] += rows * (cache_row_bytes(k) + scale);
    t->conversions += rows * coded_of(k);
}

/* Every thread reads the page; each 8 codes their scale. */
void latent_unpack_traffic(const struct latent_unpack_args *a, struct traffic *t)
{
    const struct cache_side *k = &a->c.k;
    uint64_t rows = a->rows, coded = rows * coded_of(k), bytes = rows * cache_row_bytes(k);

    if (k->store == STORE_DS_MLA)
        bytes += coded / 8 * 4 - rows * ((k->dim - k->rope) / GROUP * 4);
    else if (coded && k->scales)
        bytes += coded / 8 * 4;
    t->read_bytes[TAG_TABLES] += rows * WARP_BYTES;
    t->read_bytes[TAG_K] += bytes;
    t->conversions += coded;
    t->vector_flop += coded;
    t->written_bytes[TAG_ACTIVATION] +=
        rows * 2 * (k->dim - k->rope + (uint64_t)a->heads * k->rope);
}
