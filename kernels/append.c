/* Checks and traffic of append and pack. */
#include "kernels/append.h"

#include "kernels/launch.h"

enum device_status append_run(struct device *d, const struct append_args *a)
{
    const char *bad = cache_check(&a->c);

    if (!bad && (uint64_t)a->rows * a->c.heads * 2 > INT32_MAX)
        bad = "at most 2^31 rows of heads at once";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "append: %s", bad);
    return a->rows ? device_launch(d, KERNEL_append, a) : DEVICE_OK;
}

enum device_status pack_run(struct device *d, const struct pack_args *a)
{
    const char *bad = cache_check(&a->c);
    const struct cache_side *s = a->value ? &a->c.v : &a->c.k;

    if (!bad && !store_is_kivi(s->store))
        bad = "only KIVI has rows to pack";
    if (!bad && a->c.ragged)
        bad = "ragged rows cannot be packed";
    if (!bad && !a->value && (a->first % s->group || a->count % s->group))
        bad = "K is packed in whole groups of tokens";
    if (!bad && a->rows && a->first + (uint64_t)a->count > a->source_tokens)
        bad = "more tokens than the source has";
    if (bad)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "pack: %s", bad);
    return a->count ? device_launch(d, KERNEL_pack, a) : DEVICE_OK;
}

/* One row of one side and head. */
static void row_traffic(const struct cache_view *c, bool value, bool full, struct traffic *t)
{
    const struct cache_side *s = value ? &c->v : &c->k;
    uint32_t bits = store_bits(s->store);
    enum tag tag = value ? TAG_V : TAG_K;

    t->read_bytes[TAG_ACTIVATION] += 2 * s->dim;
    if (full || bits == 16) {
        t->written_bytes[tag] += 2 * s->dim;
        return;
    }
    t->written_bytes[tag] += s->dim * bits / 8;
    t->conversions += s->dim;
    if (s->store == STORE_FP8 || s->store == STORE_INT8)
        t->written_bytes[tag] += s->scales ? 4 : 0;
    else
        t->written_bytes[tag] += s->dim / s->group * 4;
}

/* Every thread of a warp reads the sequence, the index, and the page (KIVI: the length). */
void append_traffic(const struct append_args *a, const uint32_t *sequence,
                    const uint32_t *index, const uint32_t *lengths, struct traffic *t)
{
    const struct cache_view *c = &a->c;

    for (uint32_t i = 0; i < 2 * a->rows * c->heads; i++) {
        bool value = i % 2;
        uint32_t head = i / 2 % c->heads, row = i / 2 / c->heads;
        const struct cache_side *s = value ? &c->v : &c->k;
        uint32_t at = index[c->ragged ? row * c->heads + head : row];
        uint32_t stored = lengths[c->ragged ? sequence[row] * c->heads + head : sequence[row]];
        bool kivi = store_is_kivi(s->store);
        bool full = kivi && (uint64_t)at + c->residual >= stored;
        t->read_bytes[TAG_TABLES] += 32 * 4 * 3;
        if (!kivi || full)
            row_traffic(c, value, full, t);
    }
}

void pack_traffic(const struct pack_args *a, struct traffic *t)
{
    const struct cache_view *c = &a->c;
    const struct cache_side *s = a->value ? &c->v : &c->k;
    enum tag tag = a->value ? TAG_V : TAG_K;
    uint64_t rows = (uint64_t)c->sequences * c->heads * a->count;
    uint64_t groups = a->value ? rows * (s->dim / s->group) : rows / s->group * s->dim;
    uint64_t codes = rows * s->dim * store_bits(s->store) / 8;

    t->read_bytes[a->rows ? TAG_ACTIVATION : tag] += rows * s->dim * 2 * (a->value ? 1 : 2);
    t->written_bytes[tag] += codes + 4 * groups;
    t->conversions += rows * s->dim;
    t->read_bytes[TAG_TABLES] += a->value ? rows * 32 * 4 : rows * s->dim / 8 * 4;
}
